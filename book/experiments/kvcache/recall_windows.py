"""Ladders chosen with recall on many texts that copy, and at home.

    python -m book.experiments.kvcache.recall_windows [--most N] [--records]

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
from genopt_core.torch.kvcache.calibration import layer_costs
from genopt_core.torch.kvcache.choice import LADDERS

TARGET = RESULTS / "kv_recall_windows.json"
PAIRS, RECORDS = domain_texts.RECALL
SEEDS = range(11, 17)
"""Of records; of pairs they begin at the first."""
PLACES = range(50_000, 850_000, 100_000)
"""Where in Moby-Dick the text between pairs begins, in the middle between those of `domains`."""
AT_HOME = 5
"""Windows of each kind at home."""
BUDGETS = ("2.85", "4.3")
FIELDS = ((3, 3), (3, 3), (3, 4), (3, 6))
"""Tokens of each field of a record of `records_probe`: its name, and its value."""
WITH_RECORDS = "SAQ+ by layer, 2.85 bits, with recall and records, balanced"


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


def records_probe(
    ids: torch.Tensor, count: int = domain_texts.RECORDS, decoded: int = quality.DECODED
) -> torch.Tensor:
    """A text with records in front, some of which come again at the end, as `recall_probe`.

    Names of the fields are the same in all records, values are random, both of the text's tokens;
    half of what is decoded are records.
    """
    draw, each = torch.Generator().manual_seed(0), sum(map(sum, FIELDS))
    words = ids[0].unique()

    def drawn(*shape: int) -> torch.Tensor:
        return words[torch.randint(len(words), shape, generator=draw)]

    names = [drawn(name) for name, _ in FIELDS]
    rows = [
        torch.cat(
            [part for name, (_, n) in zip(names, FIELDS, strict=True) for part in (name, drawn(n))]
        )
        for _ in range(count)
    ]
    front = torch.stack(rows)
    again = front[torch.randperm(count, generator=draw)[: decoded // 2 // each]]
    room = ids.shape[1] - front.numel() - again.numel()
    return torch.cat([front.flatten(), ids[0, :room], again.flatten()])[None]


def with_records(result: dict[str, Any], tokenizer: Any, model: Any, balance: Any) -> Design:
    """2.85 bits by layer, chosen with records too; their costs are measured and stored."""
    costs = result.setdefault("costs on records", [])
    text = quality.texts()[quality.CALIBRATION]
    ids = quality.window(tokenizer, quality.CALIBRATION, text, recall.LENGTH)
    model.set_attn_implementation("sdpa")
    todo = range(len(costs), model.config.num_hidden_layers)
    if todo:
        for cost in layer_costs(model, records_probe(ids), LADDERS, balance=balance, layers=todo):
            costs.append([[float(f"{c:.4g}") for c in side] for side in cost])
            write_json(TARGET, result, indent=1)
    sides = [[tuple(map(int, x.split("/"))) for x in side] for side in chosen_with_records(result)]
    return staircase(WITH_RECORDS, "SAQ+", *sides, balance=balance)


def chosen_with_records(result: dict[str, Any]) -> list[list[str]]:
    """Ladders of keys and of values by the mean of both costs."""
    both = domains.home_costs(read(domains.TARGET)), np.array(result["costs on records"])
    return domains.chosen(np.mean(both, axis=0), float(BUDGETS[0]))


def measured(result: dict[str, Any], name: str, i: int, design: Design) -> bool:
    """Whether a window was measured; they come in order."""
    return i < len(result["rows"][name].get(design.name, {"kl": ()})["kl"])


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--most", type=int, default=10**6, help="measurements in this run")
    arguments.add_argument("--records", action="store_true", help="the choice with records too")
    options = arguments.parse_args()
    tokenizer, model, balance = recall.prepared()
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
    parts = all_designs(balance)
    if options.records:
        parts.append([with_records(result, tokenizer, model, balance)])
    jobs = [(*at, d) for part in parts for at in in_turns(found) for d in part]
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
