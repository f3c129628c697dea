"""Time of the cache with ladders by layer, plain and balanced: decoding and reading a prompt.

    python -m book.experiments.kvcache.layer_times [--quick]

Writes book/data/results/kv_layer_times.json.  One thread and its CPU time, not the clock, so that
other work on the machine matters less.  Caches take turns at every step, a token or a part of a
prompt, and what is stored are the ratios to the full cache at the same step: their median and
quartiles.  Decoding goes on from the prompt that `quality` keeps.  One CPU-minute.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterable
from typing import Any

import torch
from transformers import DynamicCache

from book.experiments.common.main import parser
from book.experiments.common.places import RESULTS
from book.experiments.common.store import provenance, read, rounded, write_results
from book.experiments.kvcache import quality
from book.experiments.kvcache.recall import measured_balance
from genopt_core.torch.kvcache import Balance, StaircaseCache
from genopt_core.torch.kvcache.attention import register

TARGET = RESULTS / "kv_layer_times.json"
PROMPT, PART, STEPS, WARM = 1024, 256, 16, 2
FULL = "DynamicCache"
BUDGET = "2.85"


def caches(config: Any, balance: Balance) -> dict[str, Any]:
    """Empty caches by name, the full one first."""
    chosen = read(quality.RESULTS / "kv_layers.json")["chosen"][BUDGET]
    keys, values = (
        [tuple(map(int, ladder.split("/"))) for ladder in chosen[side]]
        for side in ("keys", "values")
    )
    name = f"SAQ+ by layer, {BUDGET} bits"
    return {
        FULL: DynamicCache(config=config),
        "SAQ+ 16/4": StaircaseCache(config, (16, 4)),
        name: StaircaseCache(config, keys, values),
        f"{name}, balanced": StaircaseCache(config, keys, values, balance=balance),
    }


def ratios(samples: dict[str, list[float]]) -> dict[str, Any]:
    """Median and quartiles of the ratios to the full cache, pair by pair."""
    found = {}
    for name, row in samples.items():
        over = [a / b for a, b in zip(row, samples[FULL], strict=True)]
        low, middle, high = statistics.quantiles(over, n=4, method="inclusive")
        found[name] = {
            "median ms": rounded(statistics.median(row), 4),
            "over full": rounded(middle, 4),
            "from": rounded(low, 4),
            "to": rounded(high, 4),
        }
    return found


def timed(model: Any, every: dict[str, Any], parts: Iterable[torch.Tensor]) -> dict[str, list]:
    """CPU milliseconds of each part with each cache, in turns."""
    samples: dict[str, list[float]] = {name: [] for name in every}
    for part in parts:
        for name, cache in every.items():
            model.set_attn_implementation("sdpa" if name == FULL else register())
            start = time.thread_time()
            model(part, past_key_values=cache, logits_to_keep=1)
            samples[name].append(1e3 * (time.thread_time() - start))
    return samples


@torch.no_grad()
def main() -> None:
    options = parser(__doc__, "quick").parse_args()
    torch.set_num_threads(1)
    tokenizer, model = quality.load()
    balance = measured_balance(tokenizer, model)
    text = quality.texts()["moby-dick"]
    ids = quality.window(tokenizer, "moby-dick", text, 2049)
    prompt, begin = quality.prompt_of(model, ids), time.process_time()
    steps, length = (3, 512) if options.quick else (STEPS, PROMPT)
    every, held = caches(model.config, balance), prompt.get_seq_length()
    for cache in every.values():
        for i, layer in enumerate(prompt.layers):
            cache.update(layer.keys.clone(), layer.values.clone(), i)
    tokens = ids[:, held : held + WARM + steps].split(1, dim=1)
    found = {name: row[WARM:] for name, row in timed(model, every, tokens).items()}
    reading = timed(model, caches(model.config, balance), ids[:, :length].split(PART, dim=1))
    content = {
        "model": quality.MODEL,
        "clock": "CPU time of one thread",
        "decoding": {"tokens": held, "steps": steps, "caches": ratios(found)},
        "reading": {"tokens": length, "part": PART, "caches": ratios(reading)},
        "CPU seconds": round(time.process_time() - begin),
        "provenance": provenance(("genopt-core", "numpy", "torch", "transformers")),
    }
    print(content["decoding"], content["reading"])
    if not options.quick:
        print(f"{TARGET.name}: {write_results(TARGET, content)} bytes")


if __name__ == "__main__":
    main()
