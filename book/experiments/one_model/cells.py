"""The cells of the factorial: four switches in training, and what a cell of a scale is made of."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from fnmatch import fnmatch
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from book.experiments.common.places import RESULTS
from book.experiments.common.store import read, rounded, sha256, write_json
from book.experiments.one_model.text import Tokens, tokens
from genopt_core.one_model import ModelConfig, bits_per_byte
from genopt_core.torch.model import Decoder, Run, save_model, token_nats, train
from genopt_core.torch.model.serving import ModelCache

FACTORS = {
    "tokenizer": ("bpe", "swe"),
    "positions": ("rope", "harmonic"),
    "attention": ("dense", "blocks"),
    "settings": ("default", "found"),
}
"""Each switch, off and on; a cell is named by its levels, as in "swe.harmonic.dense.default"."""
BUDGETS = ("tokens", "bytes")
FOUND = RESULTS / "one_model_search.json"
"""What the search of chapter 2 found: fields of a run, under "found"."""
LADDER: dict[str, Any] = {"ladder": (16, 8, 4, 2), "chunk": 32, "full_dtype": torch.float16}
"""The cache that is scored beside the full one."""


@dataclass(frozen=True)
class Scale:
    """How large everything is.  ``tokens`` and ``bytes`` are what a training reads."""

    text: str
    part: float
    model: ModelConfig
    tokens: int
    bytes: int
    rows: int
    context: int
    density: float
    windows: int
    times: tuple[int, ...] = (1, 2, 4)
    scored: int = 128
    """Bytes at the end of each window."""
    every: int = 100
    """Steps from checkpoint to checkpoint."""


SCALES = {
    "tiny": Scale(  # for tests
        "moby-dick",
        0.05,
        ModelConfig(vocabulary=400, layers=1, width=16, heads=2, key_heads=1, hidden=24, block=4),
        tokens=6 * 2 * 64,
        bytes=2_000,
        rows=2,
        context=64,
        density=0.5,
        windows=4,
        times=(1, 2),
        scored=32,
        every=2,
    ),
    "small": Scale(
        "sotu",
        1.0,
        ModelConfig(vocabulary=1024, block=32),
        tokens=400 * 4 * 512,
        bytes=2_000_000,
        rows=4,
        context=512,
        density=0.5,
        windows=96,
    ),
    "large": Scale(
        "sotu",
        1.0,
        ModelConfig(
            vocabulary=4096, layers=6, width=384, heads=6, key_heads=2, hidden=1024, block=32
        ),
        tokens=4000 * 16 * 512,
        bytes=100_000_000,
        rows=16,
        context=512,
        density=0.5,
        windows=192,
    ),
}


@dataclass(frozen=True, order=True)
class Job:
    """One training and its scores."""

    scale: str
    cell: str
    budget: str
    seed: int
    device: str = "cpu"

    def __post_init__(self) -> None:
        if self.scale not in SCALES:
            raise ValueError(f"scale must be one of {', '.join(SCALES)}, got {self.scale!r}")
        if self.cell not in cells():
            raise ValueError(f"cell must be one of {', '.join(cells())}, got {self.cell!r}")
        if self.budget not in BUDGETS:
            raise ValueError(f"budget must be one of {', '.join(BUDGETS)}, got {self.budget!r}")

    @property
    def levels(self) -> dict[str, str]:
        """The level of each factor."""
        return dict(zip(FACTORS, self.cell.split("."), strict=True))

    @property
    def name(self) -> str:
        """Of its files, without what they end in."""
        return f"{self.cell}.{self.budget}.{self.seed}"

    def result(self, folder: Path) -> Path:
        """Where its result lies."""
        return folder / self.scale / f"{self.name}.json"


def cells(pattern: str = "all") -> list[str]:
    """Names of cells that match one of some patterns with commas between them, such as "swe.*"."""
    every = [".".join(levels) for levels in product(*FACTORS.values())]
    wanted = ["*" if one == "all" else one for one in pattern.split(",")]
    for one in wanted:
        if not any(fnmatch(name, one) for name in every):
            raise ValueError(f"cells must match some of {', '.join(every)}, got {one!r}")
    return [name for name in every if any(fnmatch(name, one) for one in wanted)]


def model_of(job: Job) -> ModelConfig:
    """The shape of a job's model, its switches set."""
    scale, levels = SCALES[job.scale], job.levels
    model = scale.model
    if levels["positions"] == "harmonic":  # four times the harmonic slopes, learned: chapter 3's
        total = 4 * sum(1 / h for h in range(1, model.heads + 1))
        model = replace(model, positions="rope+harmonic", slopes=total, learned=True)
    return replace(model, density=scale.density) if levels["attention"] == "blocks" else model


def run_of(job: Job, text: Tokens, stream: Tensor) -> Run:
    """The training of a job, by the tokens that it reads."""
    scale = SCALES[job.scale]
    steps = (len(stream) - 1) // (scale.rows * scale.context)
    model, seed = model_of(job), job.seed
    run = Run(model=model, steps=steps, seed=seed, tokenizer=text.digest)
    if job.levels["settings"] == "default":
        return run
    if not FOUND.is_file():
        raise FileNotFoundError(
            f"settings 'found' need {FOUND.name}, which the search of chapter 2 makes"
        )
    return replace(run, **read(FOUND)["found"])


def read_stream(job: Job, text: Tokens) -> Tensor:
    """The tokens that a job reads."""
    scale = SCALES[job.scale]
    if job.budget == "tokens":
        return text.stream(job.seed, tokens=scale.tokens + 1)
    return text.stream(job.seed, size=scale.bytes)


def do(job: Job, folder: Path) -> dict[str, Any]:
    """Train, score and keep the result of a job, unless that is done; go on where it was cut off.

    Beside the result lie the checkpoint, while it is needed, and the model.
    """
    if job.device == "cpu":
        torch.set_num_threads(1)
    scale, path = SCALES[job.scale], job.result(folder)
    path.parent.mkdir(parents=True, exist_ok=True)
    tokenizer = job.levels["tokenizer"]
    text = tokens(scale.text, tokenizer, scale.model.vocabulary, scale.part, folder / "texts")
    stream = read_stream(job, text)
    run = run_of(job, text, stream)
    described = {**asdict(scale), "every": None}  # which changes nothing
    made_from = sha256(str([run.to_json(), described, job.budget, job.device, str(LADDER)]))
    if path.is_file() and read(path)["made_from"] == made_from:
        return read(path)
    rows, context = scale.rows, scale.context

    def batch(step: int) -> Tensor:
        at = torch.arange(step * rows, (step + 1) * rows)[:, None] * context
        return stream[at + torch.arange(context + 1)]

    checkpoint = folder / job.scale / f"{job.name}.{made_from[:12]}.run.safetensors"
    started = time.perf_counter(), time.process_time()
    lengths = torch.from_numpy(text.lengths)
    model, losses = train(
        run, batch, lengths=lengths, path=checkpoint, every=scale.every, device=job.device
    )
    used = time.perf_counter() - started[0], time.process_time() - started[1]
    seen = stream[1 : run.steps * rows * context + 1]
    result = {
        "made_from": made_from,
        **asdict(job),
        **job.levels,
        "run": run.to_json(),
        "parameters": model.parameter_count,
        "tokens_read": len(seen),
        "bytes_read": int(text.lengths[seen.numpy()].sum()),
        # of this call: less than the whole training if it was taken up again
        "seconds": rounded(used[0], 4),
        "cpu_seconds": rounded(used[1], 4),
        "last_loss": rounded(losses[-10:].mean().item(), 6),
        "scores": scores(model, text, scale, job.device),
    }
    save_model(path.with_suffix(".safetensors"), model.cpu(), text.digest, dtype=torch.float16)
    write_json(path, result)
    checkpoint.unlink(missing_ok=True)
    return result


@torch.no_grad()
def scores(model: Decoder, text: Tokens, scale: Scale, device: str) -> list[dict[str, Any]]:
    """Bits a byte of the same held-out tokens at each context, with either cache."""
    found = []
    longest = scale.context * max(scale.times)
    for times in scale.times:
        context = times * scale.context
        windows, scored = text.windows(context, longest, scale.windows, scale.scored)
        last = int(scored.sum(1).max())
        lengths = text.lengths[windows[:, -last:].numpy()] * scored[:, -last:].numpy()
        full = [token_nats(model, part.to(device), last).cpu() for part in windows.split(8)]
        held = [_over_cache(model, part.to(device), last) for part in windows.split(8)]
        row: dict[str, Any] = {"context": context, "scored_bytes": int(lengths.sum())}
        for name, parts in (("full", full), ("staircase", [nats for nats, _ in held])):
            row[name] = rounded(bits_per_byte(torch.cat(parts).numpy(), lengths), 6)
        row["cache_bytes"] = round(np.mean([size for _, size in held]))
        row["full_bytes"] = ModelCache.full_bytes(model.config, context, 2)
        found.append(row)
    return found


def _over_cache(model: Decoder, windows: Tensor, last: int) -> tuple[Tensor, float]:
    """Nats of the last tokens, read in pieces over a staircase cache, and its bytes a text.

    A piece sees itself in full precision, as a token in decoding does, and what was before it as
    the cache holds it.
    """
    ladder = dict(LADDER)
    cache = ModelCache(model.config, ladder.pop("ladder"), **ladder)
    before = windows.shape[1] - 1 - last
    for part in windows[:, :before].split(LADDER["chunk"], 1):
        model(part, cache)
    logits = [model(part, cache) for part in windows[:, before:-1].split(LADDER["chunk"], 1)]
    targets = windows[:, -last:]
    nats = torch.nn.functional.cross_entropy(
        torch.cat(logits, 1).flatten(0, 1), targets.flatten(), reduction="none"
    )
    return nats.view(targets.shape).cpu(), cache.nbytes() / len(windows)


def jobs(
    scale: str, pattern: str, seeds: int, budgets: tuple[str, ...], device: str = "cpu"
) -> Iterator[Job]:
    """All jobs that are asked for, seed by seed, so that early results are a whole factorial."""
    for seed, budget, cell in product(range(seeds), budgets, cells(pattern)):
        yield Job(scale, cell, budget, seed, device)
