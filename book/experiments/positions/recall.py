"""Recall against distance: one key, four keys (MQAR with gaps set by hand), and copying a string.

    python -m book.experiments.positions.recall --stage final --device cuda
    python -m book.experiments.positions.recall --quick           # not stored

Two-layer decoders learn each task on sequences of 64 tokens and are asked at distances up to 16
times as long.  Accuracy is of the most likely token, over sequences that all have the distance
asked for, so that a curve against distance is a curve against distance.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from book.experiments.positions.models import METHODS, Decoders, Shape
from book.experiments.positions.training import train

KEYS, VALUES, FILLERS, MARK = 16, 16, 31, 63  # tokens 0-15, 16-31, 32-62, and the mark of "copy"
VOCAB, TRAINED, ROWS, STRING = 64, 64, 64, 6
SHAPE = Shape(VOCAB, layers=2, width=64, heads=8, hidden=176)
DISTANCES = (4, 8, 16, 32, 48, 64, 96, 128, 256, 512, 1024)
PAIRS = {"one-key": 1, "four-keys": 4}
TASKS = (*PAIRS, "copy")
STAGES = {
    "development": {"seeds": [100, 101], "steps": 1500},
    "final": {"seeds": [0, 1, 2, 3, 4], "steps": 2500},
    "quick": {"seeds": [100], "steps": 10},
}


def pairs(
    rows: int, length: int, count: int, gaps: Tensor, gen: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Sequences (rows, length + 1) and the mask (rows, length) of the predictions that count.

    ``count`` keys with their values lie among fillers.  Each is asked once: the key comes again,
    ``gaps`` (rows, count) tokens after its first place, and its value must follow.  Where two would
    overlap, the later one is not asked.
    """
    tokens = 32 + torch.randint(FILLERS, (rows, length + 1), generator=gen)
    counted = torch.zeros(rows, length)
    keys = torch.rand(rows, KEYS, generator=gen).argsort(1)[:, :count]
    values = KEYS + torch.randint(VALUES, (rows, count), generator=gen)
    room = length - 1 - gaps  # the last place for the first mention
    first = (torch.rand(rows, count, generator=gen) * room.clamp(min=1)).long()
    taken = torch.zeros(rows, length + 2, dtype=torch.bool)
    row = torch.arange(rows)
    for i in range(count):
        at, again = first[:, i], first[:, i] + gaps[:, i]
        free = ~(taken[row, at] | taken[row, at + 1] | taken[row, again] | taken[row, again + 1])
        r, a, b = row[free], at[free], again[free]
        for place, what in ((a, keys), (b, keys)):
            tokens[r, place], tokens[r, place + 1] = what[free, i], values[free, i]
            taken[r, place] = taken[r, place + 1] = True
        counted[r, b] = 1.0
    return tokens, counted


def copies(rows: int, length: int, gaps: Tensor, gen: torch.Generator) -> tuple[Tensor, Tensor]:
    """A string, fillers, a mark, and the string again ``gaps`` (rows,) tokens later."""
    tokens = 32 + torch.randint(FILLERS, (rows, length + 1), generator=gen)
    counted = torch.zeros(rows, length)
    string = torch.randint(32, (rows, STRING), generator=gen)
    first = (torch.rand(rows, generator=gen) * (length + 1 - STRING - gaps).clamp(min=1)).long()
    at = first[:, None] + torch.arange(STRING)
    row = torch.arange(rows)[:, None]
    tokens[row, at] = string
    tokens[row, at + gaps[:, None]] = string
    tokens[row[:, 0], first + gaps - 1] = MARK
    counted[row, at + gaps[:, None] - 1] = 1.0
    return tokens, counted


def training_rows(task: str, gen: torch.Generator) -> tuple[Tensor, Tensor]:
    """A batch of the task; gaps spread evenly over the logarithm of the distance."""
    low, high = (2 if task in PAIRS else STRING + 1), TRAINED - STRING - 2
    shape = (ROWS, PAIRS[task]) if task in PAIRS else (ROWS,)
    gaps = (low * (high / low) ** torch.rand(shape, generator=gen)).long()
    if task in PAIRS:
        return pairs(ROWS, TRAINED, PAIRS[task], gaps, gen)
    return copies(ROWS, TRAINED, gaps, gen)


def batches(
    task: str, seeds: list[int], methods: int, device: str
) -> Iterator[tuple[Tensor, Tensor]]:
    """The same sequences for a seed whatever the method."""
    generators = [torch.Generator().manual_seed(2000 + seed) for seed in seeds]
    while True:
        drawn = [training_rows(task, g) for g in generators]
        tokens, counted = (
            torch.stack(part).to(device).repeat(methods, 1, 1) for part in zip(*drawn, strict=True)
        )
        yield tokens, counted


@torch.no_grad()
def accuracy(models: Decoders, task: str, distance: int, sequences: int) -> Tensor:
    """Share of right answers at exactly ``distance``, (replicas,)."""
    gen = torch.Generator().manual_seed(7)
    length = max(TRAINED, distance + 16)
    if task in PAIRS:
        gaps = torch.full((sequences, PAIRS[task]), distance)
        tokens, counted = pairs(sequences, length, PAIRS[task], gaps, gen)
    else:
        tokens, counted = copies(sequences, length, torch.full((sequences,), distance), gen)
    right = torch.zeros(len(models.methods), device=models.device)
    chunk = max(1, int(1.0e9 / (len(models.methods) * SHAPE.heads * length**2 * 4)))
    for part, mask in zip(tokens.split(chunk), counted.split(chunk), strict=True):
        part, mask = part.to(models.device), mask.to(models.device)
        logits = models(part[:, :-1].expand(len(models.methods), *part[:, :-1].shape))
        right += ((logits.argmax(-1) == part[:, 1:]) * mask).sum((1, 2))
    return right / counted.sum().to(models.device)


def run(names: list[str], task: str, stage: dict, device: str, sequences: int) -> list[dict]:
    """Rows: task, method, seed, distance, accuracy."""
    seeds = stage["seeds"]
    models = Decoders(names, seeds, SHAPE, TRAINED, device)
    started = time.perf_counter()

    def say(step: int, loss: Tensor) -> None:
        if step % 250 == 0 or step + 1 == stage["steps"]:
            spent = time.perf_counter() - started
            print(f"  step {step + 1:5}, {spent:6.1f} s, loss {loss.mean():.3f}", flush=True)

    train(models, batches(task, seeds, len(names), device), stage["steps"], progress=say)
    rows = []
    for distance in DISTANCES:
        if task == "copy" and distance <= STRING:
            continue
        for r, value in enumerate(accuracy(models, task, distance, sequences).tolist()):
            rows.append(
                {
                    "task": task,
                    "method": names[r // len(seeds)],
                    "seed": seeds[r % len(seeds)],
                    "distance": distance,
                    "accuracy": round(value, 4),
                }
            )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--stage", choices=sorted(STAGES), default="quick")
    parser.add_argument("--only", help="methods, separated by commas")
    parser.add_argument("--task", choices=TASKS)
    parser.add_argument("--steps", type=int)
    parser.add_argument("--sequences", type=int, default=128)
    parser.add_argument("--most", type=int, default=16, help="methods trained as one batch")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path, default=Path(".cache/positions"))
    options = parser.parse_args()
    torch.set_float32_matmul_precision("high")
    stage = STAGES[options.stage] | ({"steps": options.steps} if options.steps else {})
    names = (
        options.only.split(",") if options.only else [n for n, m in METHODS.items() if not m.every]
    )
    options.out.mkdir(parents=True, exist_ok=True)
    for task in [options.task] if options.task else TASKS:
        for group in (names[i : i + options.most] for i in range(0, len(names), options.most)):
            path = options.out / f"recall-{options.stage}-{task}-{group[0]}.json"
            if path.is_file():
                continue
            print(f"{path.name}: {len(group)} methods x {len(stage['seeds'])} seeds", flush=True)
            rows = run(group, task, stage, options.device, options.sequences)
            part = path.with_suffix(".part")
            part.write_text(json.dumps(rows), encoding="utf-8")
            part.replace(path)


if __name__ == "__main__":
    main()
