"""Ladders chosen with recall on many texts that copy, and at home.

    python -m book.experiments.kvcache.recall_windows [--most N]

Writes book/data/results/kv_recall_windows.json after every measurement; a run that was cut off goes
on where it stopped.  Measured as in `domains`: 508 tokens decoded after a prompt of 1,540, on a
processor, 25 seconds of it each.

Windows, fixed before anything was measured.  *pairs* of `recall` and *records* of `domain_texts`
with other seeds, and other passages of Moby-Dick and of torch's code between them than there.
*home*: the first windows of the two kinds that `domains` calls so.  None was seen by the choice.

Designs.  Ladders by layer chosen with recall, balanced, at 2.85 and 4.3 bits, as `recall` scored
them on two windows of pairs; 16/4 balanced, which `domains` scored; KIVI at 4.5 bits.
"""

from __future__ import annotations

import itertools
import os
from typing import Any

import numpy as np
import torch
import transformers
from tqdm import tqdm

from book.experiments.common.main import parser
from book.experiments.common.places import RESULTS
from book.experiments.common.store import compact, read, sha256
from book.experiments.kvcache import domain_texts, domains, quality, recall
from book.experiments.kvcache.designs import Design, kivi, staircase
from genopt_core.files import write_json

TARGET = RESULTS / "kv_recall_windows.json"
PAIRS, RECORDS = domain_texts.RECALL
SEEDS = range(11, 17)
"""Of records; of pairs they begin at the first."""
PLACES = range(50_000, 850_000, 100_000)
"""Where in Moby-Dick the text between pairs begins, in the middle between those of `domains`."""
AT_HOME = 5
"""Windows of each kind at home."""
BUDGETS = ("2.85", "4.3")


def windows(tokenizer: Any) -> dict[str, np.ndarray]:
    """Windows by kind, ``(windows, tokens)``."""
    pairs = [long_enough(tokenizer, SEEDS[0] + i, at) for i, at in enumerate(PLACES)]
    records = [domain_texts.records(tokenizer, seed) for seed in SEEDS]
    found = {
        name: domain_texts.windows(tokenizer, texts)
        for name, texts in {PAIRS: pairs, RECORDS: records, **domain_texts.home()}.items()
    }
    before = read(domains.TARGET)["provenance"]["windows"]
    for name in domain_texts.HOME:
        now = sha256(found[name].astype(np.uint16).tobytes())[:16]
        if now != before[name]:
            raise SystemExit(f"{name} must be the windows of domains, {before[name]}, got {now}")
        found[name] = found[name][:AT_HOME]
    return found


def long_enough(tokenizer: Any, seed: int, at: int) -> str:
    """Pairs and prose that fill a window: by the words drawn, some seeds fall short."""
    for other in itertools.count(seed, len(PLACES)):
        text = recall.recall_text(tokenizer, other, at)
        if len(tokenizer(text).input_ids) >= domain_texts.LENGTH:
            return text
    raise AssertionError("seeds do not end")


def in_turns(found: dict[str, np.ndarray]) -> list[tuple[str, int]]:
    """Kinds and numbers of windows, so that a run that is cut off has kinds alike."""
    most = max(map(len, found.values()))
    return [(name, i) for i in range(most) for name, rows in found.items() if i < len(rows)]


def all_designs(balance: Any) -> list[list[Design]]:
    """Ours, and then the peer, which is measured last."""
    ours = []
    for budget in BUDGETS:
        pair = recall.ladders_with_recall()[budget]
        sides = ([tuple(map(int, ladder.split("/"))) for ladder in side] for side in pair)
        name = f"SAQ+ by layer, {budget} bits{recall.WITH_RECALL}{recall.BALANCED}"
        ours.append(staircase(name, "SAQ+", *sides, balance=balance))
    ours.append(staircase(f"SAQ+ 16/4{recall.BALANCED}", "SAQ+", recall.FLAT, balance=balance))
    return [ours, [kivi(4, 64)]]


def measured(result: dict[str, Any], name: str, i: int, design: Design) -> bool:
    """Whether a window was measured; they come in order."""
    return i < len(result["rows"][name].get(design.name, {"kl": ()})["kl"])


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--most", type=int, default=10**6, help="measurements in this run")
    options = arguments.parse_args()
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    tokenizer, model = quality.load()
    balance = recall.measured_balance(tokenizer, model)
    found = windows(tokenizer)
    fresh = {
        "schema": "kv-recall-windows/1",
        "provenance": {
            "script": "book/experiments/kvcache/recall_windows.py",
            "model": quality.MODEL,
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "windows": {
                name: [sha256(row.astype(np.uint16).tobytes())[:16] for row in rows]
                for name, rows in found.items()
            },
            "decoded": quality.DECODED,
            "balance": balance.digest[:16],
            "ladders with recall": sha256(compact(recall.ladders_with_recall()))[:16],
        },
        "designs": {},
        "rows": {name: {} for name in found},
    }
    result = domains.resumed(TARGET, fresh)
    jobs = [(*at, d) for part in all_designs(balance) for at in in_turns(found) for d in part]
    jobs = [job for job in jobs if not measured(result, *job)][: options.most]
    prompts: dict[tuple[str, int], tuple] = {}
    for name, i, design in tqdm(jobs, unit="measurement"):
        ids = torch.from_numpy(found[name][i : i + 1].astype(np.int64))
        if (name, i) not in prompts:
            prompts[name, i] = domains.exact_prompt(model, ids)
        (rise,), (kl,) = domains.measure(model, design.make, ids, *prompts[name, i])
        result["designs"][design.name] = {
            "family": design.family,
            "limit bits": design.limit,
            "held bits": quality.mean_held(design, recall.LENGTH),
        }
        row = result["rows"][name].setdefault(design.name, {"rise": [], "kl": []})
        row["rise"].append(float(f"{rise:.6g}"))
        row["kl"].append(float(f"{kl:.6g}"))
        write_json(TARGET, result, indent=1)


if __name__ == "__main__":
    main()
