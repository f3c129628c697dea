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
CACHES = ("full", "staircase")
"""The fifth switch, of a model at work: each training is scored with both."""
BUDGETS = ("tokens", "bytes", "seconds")
"""What is equal between trainings: tokens read, bytes of text read (as many as byte pairs have in
so many tokens), or the processor time of their steps (as long as a dense one with rotation)."""
FOUND = RESULTS / "one_model_search.json"
"""What the search of chapter 2 found: fields of a run, under "found"."""
DEFAULT: dict[str, float] = {
    "rate": 1e-3,
    "warm_up": 0.02,
    "last": 0.1,
    "decay": 0.1,
    "beta": 0.99,
    "clip": 1.0,
}
"""Settings that one takes without a search."""
DEFAULT_SOURCE = "nanoGPT, config/train_shakespeare_char.py, for a small model on little text"
LADDER: dict[str, Any] = {"ladder": (16, 8, 4, 2), "chunk": 32, "full_dtype": torch.float16}
"""The cache that is scored beside the full one."""


@dataclass(frozen=True)
class Scale:
    """How large everything is.  ``tokens`` are what a training reads where tokens are equal."""

    text: str
    part: float
    model: ModelConfig
    tokens: int
    rows: int
    context: int
    density: float
    windows: int
    times: tuple[int, ...] = (1, 2, 4)
    scored: int = 128
    """Bytes at the end of each window."""
    every: int = 100
    """Steps from checkpoint to checkpoint."""
    slower: tuple[tuple[str, float], ...] = ()
    """Processor time of a step with these positions and attention, of a dense one with rotation."""
    distances: tuple[int, ...] = (16, 128, 448)
    """Tokens from a passage to its second occurrence."""
    passages: int = 24
    passage: int = 16
    """Tokens of a passage."""


SCALES = {
    "tiny": Scale(  # for tests
        "moby-dick",
        0.05,
        ModelConfig(vocabulary=400, layers=1, width=16, heads=2, key_heads=1, hidden=24, block=4),
        tokens=6 * 2 * 64,
        rows=2,
        context=64,
        density=0.5,
        windows=4,
        times=(1, 2),
        scored=32,
        every=2,
        slower=(("harmonic.blocks", 2.0),),
        distances=(8, 16),
        passages=2,
        passage=8,
    ),
    "small": Scale(
        "sotu",
        1.0,
        ModelConfig(vocabulary=1024, block=32),
        # on development seed 100 so many steps of one row were better than half as many of two
        tokens=400 * 512,
        rows=1,
        context=512,
        density=0.5,
        windows=24,
        scored=512,
        # medians over trainings at equal tokens, 9.0 seconds being 1
        slower=(("harmonic.dense", 1.15), ("rope.blocks", 1.38), ("harmonic.blocks", 1.80)),
    ),
    "large": Scale(
        "sotu",
        1.0,
        ModelConfig(
            vocabulary=4096, layers=6, width=384, heads=6, key_heads=2, hidden=1024, block=32
        ),
        tokens=4000 * 16 * 512,
        rows=16,
        context=512,
        density=0.5,
        windows=192,
    ),
}
SCALES["reader"] = replace(  # all 16 trainings of one seed in two minutes of a core
    SCALES["small"], tokens=80 * 512, windows=8, times=(1,), passages=8
)


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
    def slowness(self) -> float:
        """Processor time of a step beside that of a dense one with rotation."""
        levels = self.levels
        key = f"{levels['positions']}.{levels['attention']}"
        return dict(SCALES[self.scale].slower).get(key, 1.0)

    @property
    def training(self) -> Job:
        """The job at equal tokens if it is the same training, else this one."""
        same = {
            "tokens": True,
            "bytes": self.levels["tokenizer"] == "bpe",
            "seconds": self.slowness == 1,
        }
        return replace(self, budget="tokens") if same[self.budget] else self

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
    run = Run(model=model, steps=steps, seed=seed, tokenizer=text.digest, **DEFAULT)
    if job.levels["settings"] == "default":
        return run
    if not FOUND.is_file():
        raise FileNotFoundError(
            f"settings 'found' need {FOUND.name}, which the search of chapter 2 makes"
        )
    return replace(run, **read(FOUND)["found"])


def read_stream(job: Job, text: Tokens, folder: Path) -> Tensor:
    """The tokens that a job reads."""
    scale = SCALES[job.scale]
    if job.budget == "bytes":
        other = text_of(replace(job, cell=cells("bpe.*")[0]), folder)
        read_by_other = other.stream(job.seed, tokens=scale.tokens + 1).numpy()
        return text.stream(job.seed, size=int(other.lengths[read_by_other].sum()))
    slowness = job.slowness if job.budget == "seconds" else 1.0
    return text.stream(job.seed, tokens=round(scale.tokens / slowness) + 1)


def text_of(job: Job, folder: Path) -> Tokens:
    """The text of a job in its tokens."""
    scale = SCALES[job.scale]
    tokenizer = job.levels["tokenizer"]
    return tokens(scale.text, tokenizer, scale.model.vocabulary, scale.part, folder / "texts")


def do(job: Job, folder: Path) -> dict[str, Any]:
    """Train, score and keep the result of a job, unless that is done; go on where it was cut off.

    Beside the result lie the checkpoint, while it is needed, and the model.
    """
    if job.device == "cpu":
        torch.set_num_threads(1)
    scale, path = SCALES[job.scale], job.result(folder)
    path.parent.mkdir(parents=True, exist_ok=True)
    text = text_of(job, folder)
    stream = read_stream(job, text, folder)
    run = run_of(job, text, stream)
    described = {**asdict(scale), "every": None, "slower": None}  # which change nothing more
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
        "recall": recall(model, text, scale, job.device),
    }
    save_model(path.with_suffix(".safetensors"), model.cpu(), text.digest, dtype=torch.float16)
    write_json(path, result)
    checkpoint.unlink(missing_ok=True)
    return result


@torch.no_grad()
def scores(
    model: Decoder, text: Tokens, scale: Scale, device: str, some: tuple[int, ...] = ()
) -> list[dict[str, Any]]:
    """Bits a byte of the same held-out tokens at each context, or some, with either cache."""
    found = []
    longest = scale.context * max(scale.times)
    for times in some or scale.times:
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
    """Nats of the last tokens over a staircase cache, and its bytes a text.

    As in use: what comes before is read at once, then the last tokens in pieces, each of which sees
    itself in full precision and what was before it as the cache holds it.
    """
    ladder = dict(LADDER)
    cache = ModelCache(model.config, ladder.pop("ladder"), **ladder)
    before = windows.shape[1] - 1 - last
    parts = [windows[:, :before], *windows[:, before:-1].split(LADDER["chunk"], 1)]
    logits = [model(part, cache) for part in parts if part.shape[1]][before > 0 :]
    targets = windows[:, -last:]
    nats = torch.nn.functional.cross_entropy(
        torch.cat(logits, 1).flatten(0, 1), targets.flatten(), reduction="none"
    )
    return nats.view(targets.shape).cpu(), cache.nbytes() / len(windows)


@torch.no_grad()
def recall(model: Decoder, text: Tokens, scale: Scale, device: str) -> list[dict[str, Any]]:
    """Bits a byte that a held-out passage costs less where it was read so many tokens before.

    Between the two lies other held-out text; where the passage was not read, another was.
    """
    count, size = scale.passages, scale.passage
    reach = 2 * size + max(scale.distances)
    ends = np.cumsum(text.lengths[text.held])
    places = np.searchsorted(ends, np.linspace(ends[0], ends[-reach - 1], 2 * count + 1))
    passages = torch.from_numpy(text.held[places[:, None] + np.arange(size)].astype(np.int64))
    asked, other = passages[:count], passages[count : 2 * count]
    lengths = text.lengths[asked.numpy()]
    found = []
    for distance in scale.distances:
        filler = text.held[places[1 : count + 1, None] + size + np.arange(distance)]
        between = torch.from_numpy(filler.astype(np.int64))
        bits = []
        for first in (asked, other):
            nats = token_nats(model, torch.cat([first, between, asked], 1).to(device), size)
            bits.append(bits_per_byte(nats.cpu().numpy(), lengths))
        found.append(
            {
                "distance": distance,
                "read": rounded(bits[0], 6),
                "not_read": rounded(bits[1], 6),
            }
        )
    return found


def jobs(
    scale: str, pattern: str, seeds: int, budgets: tuple[str, ...], device: str = "cpu"
) -> Iterator[Job]:
    """All jobs that are asked for, seed by seed, so that early results are a whole factorial.

    A training that two budgets share is one job.
    """
    for seed, budget, cell in product(range(seeds), budgets, cells(pattern)):
        job = Job(scale, cell, budget, seed, device)
        if job.training == job or "tokens" not in budgets:
            yield job.training
