"""Recall against distance: one key, four keys (MQAR with gaps set by hand), and copying a string.

    python -m book.experiments.positions.recall --stage final --device cuda --seconds 150
    python -m book.experiments.positions.recall --quick           # not stored

Two-layer decoders learn all three tasks at once, on sequences of 64 tokens, and are asked at
distances up to 16 times as long.  Copying and one key are easier and teach the circuit that four
keys need; and distances are spread evenly, as near ones can be guessed without it.  Accuracy is of
the most likely token, over sequences that all have the distance asked for, so that a curve against
distance is a curve against distance.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from book.experiments.positions.models import CHANGES, Decoders, Shape
from book.experiments.positions.training import RATE, at_once, machine, train
from genopt_core import files

KEYS, VALUES, FILLERS, MARK = 16, 16, 31, 63  # tokens 0-15, 16-31, 32-62, and the mark of "copy"
VOCAB, TRAINED, STRING = 64, 64, 6
SHAPE = Shape(VOCAB, layers=2, width=64, heads=8, hidden=176)
DISTANCES = (4, 8, 16, 32, 48, 64, 96, 128, 256, 512, 1024)
PAIRS = {"one-key": 1, "four-keys": 4}
SHARES = {"one-key": 8, "four-keys": 16, "copy": 8}  # rows of a batch
DECAY = 0.01
ASKED = [
    "rope-learned-fourfold",
    "rope-harmonic-double",
    "rope-harmonic-double-mix",
    "harmonic-double-mix",
    "rope-harmonic",
    "rope-alibi",
    "alibi",
    "rope",
    "kerple-log",
    "fire",
    "windows",
    "rope-windows",
    "nope",
]
STAGES = {
    "development": {"seeds": [100, 101], "steps": 3000},
    "final": {"seeds": [0, 1, 2, 3, 4], "steps": 2982},  # what 105 seconds of an H100 allowed
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


def training_rows(gen: torch.Generator) -> tuple[Tensor, Tensor]:
    """A batch of all tasks; gaps spread evenly over the distances within the trained length."""
    high, parts = TRAINED - STRING - 2, []
    for task, rows in SHARES.items():
        low = 2 if task in PAIRS else STRING + 1
        shape = (rows, PAIRS[task]) if task in PAIRS else (rows,)
        gaps = torch.randint(low, high + 1, shape, generator=gen)
        if task in PAIRS:
            parts.append(pairs(rows, TRAINED, PAIRS[task], gaps, gen))
        else:
            parts.append(copies(rows, TRAINED, gaps, gen))
    tokens, counted = (torch.cat(part) for part in zip(*parts, strict=True))
    return tokens, counted


def batches(seeds: list[int], methods: int, device: str) -> Iterator[tuple[Tensor, Tensor]]:
    """The same sequences for a seed whatever the method."""
    generators = [torch.Generator().manual_seed(2000 + seed) for seed in seeds]
    while True:
        drawn = [training_rows(g) for g in generators]
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
    models._kept = {}  # the weights may have moved
    chunk = at_once(models, length)
    for part, mask in zip(tokens.split(chunk), counted.split(chunk), strict=True):
        part, mask = part.to(models.device), mask.to(models.device)
        logits = models(part[:, :-1].expand(len(models.methods), *part[:, :-1].shape))
        right += ((logits.argmax(-1) == part[:, 1:]) * mask).sum((1, 2))
    return right / counted.sum().to(models.device)


def asked(models: Decoders, sequences: int, name: str = "") -> Iterator[dict]:
    """Rows of trained decoders, or of those that ``name`` of `models.CHANGES` makes of them."""
    for distance in DISTANCES:
        length = max(TRAINED, distance + 16)
        one = models
        if name and not CHANGES[name].dropped:
            one = models.changed(CHANGES[name], length / TRAINED)
        for task in SHARES:
            if task == "copy" and distance <= STRING:
                continue
            for r, value in enumerate(accuracy(one, task, distance, sequences).tolist()):
                yield {
                    "task": task,
                    "method": name or one.names[r // len(one.seeds)],
                    "seed": one.seeds[r % len(one.seeds)],
                    "distance": distance,
                    "accuracy": round(value, 4),
                }


def run(names: list[str], stage: dict, device: str, sequences: int) -> Iterator[list[dict]]:
    """Rows (task, method, seed, distance, accuracy): of the methods, then of what changes them."""
    seeds, steps = stage["seeds"], stage["steps"]
    models = Decoders(names, seeds, SHAPE, TRAINED, device)
    started = time.perf_counter()

    def say(step: int, loss: Tensor) -> None:
        if step % 500 == 0 or step + 1 == steps:
            spent = time.perf_counter() - started
            each = loss.detach().view(len(names), -1).mean(1).tolist()
            told = " ".join(f"{name} {x:.2f}" for name, x in zip(names, each, strict=True))
            print(f"  step {step + 1:5}, {spent:6.1f} s, loss {told}", flush=True)

    stream = batches(seeds, len(names), device)
    train(models, stream, steps, decay=DECAY, progress=say)
    yield list(asked(models, sequences))
    for name, change in CHANGES.items():
        if change.base in names:
            one = models
            if change.dropped:
                one = models.changed(change, 1)
                train(one, batches(seeds, 1, device), steps // 10, rate=RATE / 2, decay=DECAY)
            yield list(asked(one, sequences, name))


def affordable(names: list[str], seeds: list[int], device: str, seconds: float) -> int:
    """Steps that ``seconds`` allow, from the time of a few."""
    spent: list[float] = []

    def note(step: int, loss: Tensor) -> None:
        loss.sum().item()  # waits until the step is done
        spent.append(time.perf_counter())

    models = Decoders(names, seeds, SHAPE, TRAINED, device)
    train(models, batches(seeds, len(names), device), 25, progress=note)
    return max(1, int(seconds * 15 / (spent[-1] - spent[9])))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--stage", choices=sorted(STAGES), default="quick")
    parser.add_argument("--quick", action="store_true", help="a few steps, whatever the stage")
    parser.add_argument("--only", help="methods, separated by commas")
    parser.add_argument("--steps", type=int)
    parser.add_argument("--seconds", type=float, help="no more steps than fit into so many seconds")
    parser.add_argument("--sequences", type=int, default=128)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path, default=Path(".cache/positions"))
    options = parser.parse_args()
    torch.set_float32_matmul_precision("high")
    stage = STAGES[options.stage] | ({"steps": options.steps} if options.steps else {})
    names = options.only.split(",") if options.only else ASKED
    if options.quick:
        stage |= STAGES["quick"]
        options.sequences = 2
    if options.seconds:
        most = affordable(names, stage["seeds"], options.device, options.seconds)
        stage["steps"] = min(stage["steps"], most)
    options.out.mkdir(parents=True, exist_ok=True)
    kind = "quick" if options.quick else options.stage
    path = options.out / f"recall-{kind}-{names[0]}.json"
    print(f"{len(names)} methods x {len(stage['seeds'])} seeds, {stage['steps']} steps", flush=True)
    rows: list[dict] = []
    for more in run(names, stage, options.device, options.sequences):
        rows += more
        given = {"steps": stage["steps"], "device": machine(options.device), "rows": rows}
        files.write_json(path, given)


if __name__ == "__main__":
    main()
