"""The fifth switch: settings of training that chapter 2's search finds, its cost counted.

A trial is a training of the base model on the first part of the training text with part of the
steps, scored on what comes after it there; the held-out text is never seen.  Random search gets as
many trials.  Every trial is kept at once, and a search goes on where it was cut off.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from book.experiments.common.store import provenance, read, rounded, write_json
from book.experiments.one_model.cells import SCALES, Job, model_of
from book.experiments.one_model.text import Tokens, tokens
from genopt_core.cross_entropy import CrossEntropy, Float, SearchSpace, Trial
from genopt_core.one_model import bits_per_byte
from genopt_core.torch.model import Run, token_nats, train

SPACE = SearchSpace(
    {
        "rate": Float(5e-4, 3e-2, log=True),
        "warm_up": Float(0.01, 0.3, log=True),
        "last": Float(0.0, 0.3),
        "decay": Float(0.0, 0.3),
        "beta": Float(0.9, 0.999),
    }
)
"""Fields of a run."""
METHODS = ("posterior", "random")
SEED = 10_000
"""Of the first trial; the seeds of the factorial are small numbers, so none is in both."""
DEVELOPMENT = 0.05


def development(text: Tokens) -> Tokens:
    """The training text alone, with a last part of its own to score on."""
    cut = round((1 - DEVELOPMENT) * len(text.train))
    return replace(text, train=text.train[:cut], held=text.train[cut:])


def loss(params: dict[str, Any], scale_name: str, share: float, seed: int, folder: Path) -> float:
    """Bits a byte after a training with these settings on ``share`` of a job's tokens."""
    torch.set_num_threads(1)
    scale, base = SCALES[scale_name], Job(scale_name, "bpe.rope.dense.default", "tokens", 0)
    text = development(
        tokens(scale.text, "bpe", scale.model.vocabulary, scale.part, folder / "texts")
    )
    rows, context = scale.rows, scale.context
    steps = max(1, round(share * scale.tokens / (rows * context)))
    stream = text.stream(seed, tokens=steps * rows * context + 1)

    def batch(step: int) -> torch.Tensor:
        at = torch.arange(step * rows, (step + 1) * rows)[:, None] * context
        return stream[at + torch.arange(context + 1)]

    settings: dict[str, Any] = {name: float(value) for name, value in params.items()}
    model = train(Run(model=model_of(base), steps=steps, seed=seed, **settings), batch).model
    windows, scored = text.windows(context, context, scale.windows, scale.scored)
    last = int(scored.sum(1).max())
    with torch.no_grad():
        nats = torch.cat([token_nats(model, part, last) for part in windows.split(8)])
    lengths = text.lengths[windows[:, -last:].numpy()] * scored[:, -last:].numpy()
    found = nats.numpy()
    return bits_per_byte(found, lengths) if np.isfinite(found).all() else float("nan")


def propose(method: str, told: list[Trial]) -> Trial:
    """The next trial after those that are told."""
    if method == "posterior":
        return CrossEntropy(SPACE, "posterior", seed=0, trials=told).ask()
    row = SPACE.uniform(1, np.random.default_rng([1, len(told)]))[0]
    return Trial(len(told), SPACE.decode(row))


def search(
    scale: str,
    trials: int,
    share: float,
    folder: Path,
    tell: Callable[[str, Trial], object] = lambda method, trial: None,
    objective: Callable[[dict[str, Any], str, float, int, Path], float] = loss,
) -> dict[str, Any]:
    """Both searches; what they found, all trials, and what they cost."""
    content: dict[str, Any] = {"scale": scale, "share": share, "provenance": provenance()}
    for method in METHODS:
        path = folder / "search" / f"{scale}-{method}-{share}.json"
        rows = read(path) if path.is_file() else []
        used = [row.pop("cpu_seconds") for row in rows]
        told = [Trial(**row) for row in rows]
        path.parent.mkdir(parents=True, exist_ok=True)
        while len(told) < trials:
            trial = propose(method, told)
            started = time.process_time()
            value = objective(trial.params, scale, share, SEED + trial.number, folder)
            told.append(trial.finished(value))
            used.append(rounded(time.process_time() - started, 4))
            write_json(
                path,
                [{**_row(t), "cpu_seconds": s} for t, s in zip(told, used, strict=True)],
            )
            tell(method, told[-1])
        told = told[:trials]
        content["provenance"].setdefault("cpu_seconds", {})[method] = rounded(sum(used[:trials]), 4)
        done = CrossEntropy(SPACE, "posterior", seed=0, trials=told)
        chosen = done.recommend().params  # under noise: by the model of all trials, for both
        content["found" if method == "posterior" else method] = {
            name: rounded(float(value), 5) for name, value in chosen.items()
        }
        content[f"{method} trials"] = [
            [*(rounded(float(v), 5) for v in t.params.values()), rounded(t.value, 6)] for t in told
        ]
    content["columns"] = [*SPACE.names, "bits a byte"]
    content["tokens"] = round(trials * share * SCALES[scale].tokens)
    return content


def _row(trial: Trial) -> dict[str, Any]:
    return {
        "number": trial.number,
        "params": {name: float(value) for name, value in trial.params.items()},
        "value": trial.value,
        "state": trial.state,
    }
