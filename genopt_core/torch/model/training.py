r"""Training that can be cut off at any time and goes on as if it had not been.

A step depends on the checkpoint and its own number only: the batch is a function of the step, the
draws of blocks come from a generator that is stored, and the rate is a formula.  On one CPU and
with the same number of threads the resumed run gives the same bits.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.utils import clip_grad_norm_

from genopt_core.checks import fraction, real, whole
from genopt_core.one_model import ModelConfig
from genopt_core.one_model.config import check_fields
from genopt_core.one_model.tokens import check_digest
from genopt_core.progress import reporting
from genopt_core.torch.model.decoder import Decoder
from genopt_core.torch.model.storage import put_weights, read, weights_of, write

CHECKPOINT = "genopt-run-1"


@dataclass(frozen=True, kw_only=True)
class Run:
    """All that a training run depends on, but for its text.

    Parameters
    ----------
    model : ModelConfig
    steps : int
    seed : int
        Of the first weights and of the drawn blocks.
    rate : float
        Of AdamW at its highest: it rises over the share ``warm_up`` of the steps and falls to
        ``last`` of itself along a cosine.
    warm_up, last, decay, clip : float
        Decay is of matrices; gradients are clipped at the norm ``clip``.
    beta : float
        Memory of the squared gradients.
    tokenizer : str
        Digest of the tokenizer of the text.

    Examples
    --------
    >>> run = Run(model=ModelConfig(vocabulary=256), steps=100, rate=1.0)
    >>> [round(run.rate_at(step), 3) for step in (0, 4, 99)]
    [0.2, 1.0, 0.1]
    >>> Run.from_json(run.to_json()) == run
    True
    """

    model: ModelConfig
    steps: int
    seed: int = 0
    rate: float = 3e-3
    warm_up: float = 0.05
    last: float = 0.1
    decay: float = 0.1
    clip: float = 1.0
    beta: float = 0.95
    tokenizer: str = ""

    def __post_init__(self) -> None:
        whole(self.steps, "steps")
        whole(self.seed, "seed", 0)
        for name in ("rate", "clip"):
            if real(getattr(self, name), name) <= 0:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)!r}")
        fraction(self.warm_up, "warm_up", zero=True)
        fraction(self.last, "last", zero=True)
        if real(self.decay, "decay") < 0:
            raise ValueError(f"decay must be at least 0, got {self.decay!r}")
        if not 0 <= real(self.beta, "beta") < 1:
            raise ValueError(f"beta must be in [0, 1), got {self.beta!r}")
        check_digest(self.tokenizer)

    def rate_at(self, step: int) -> float:
        """The rate of a step, counted from 0."""
        warm = max(1, round(self.warm_up * self.steps))
        if step < warm:
            return self.rate * (step + 1) / warm
        share = (step + 1 - warm) / max(1, self.steps - warm)
        return self.rate * (self.last + (1 - self.last) * 0.5 * (1 + math.cos(math.pi * share)))

    def to_json(self) -> dict[str, Any]:
        """All fields, as JSON holds them."""
        return asdict(self)

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Self:
        """What `to_json` gave."""
        check_fields(cls, content)
        return cls(**{**content, "model": ModelConfig.from_json(content["model"])})


class Done(NamedTuple):
    """What ``progress`` is told after a step."""

    done: int
    total: int
    loss: float
    """Nats a token."""


class Trained(NamedTuple):
    """A trained model, in evaluation, and its loss at each step, (steps,) in nats a token."""

    model: Decoder
    losses: Tensor


def token_nats(model: Decoder, windows: Tensor, last: int | None = None) -> Tensor:
    """Loss of each token, (rows, tokens) in nats, in ``windows`` (rows, tokens + 1) of ids.

    With ``last`` only of so many at the end.

    >>> model = Decoder(ModelConfig(vocabulary=10)).eval()
    >>> token_nats(model, torch.tensor([[1, 2, 3]])).shape
    torch.Size([1, 2])
    """
    logits, targets = model(windows[:, :-1]), windows[:, 1:].long()
    if last is not None:
        logits, targets = logits[:, -last:], targets[:, -last:]
    return functional.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="none").view(
        targets.shape
    )


def train(
    run: Run,
    batch: Callable[[int], Tensor],
    *,
    lengths: Tensor | None = None,
    path: str | os.PathLike[str] | None = None,
    every: int = 50,
    device: str = "cpu",
    progress: bool | Callable[[Done], object] = False,
) -> Trained:
    """Train a model, from its checkpoint on if there is one.

    Parameters
    ----------
    run : Run
    batch : callable
        Ids (rows, tokens + 1) of a step, counted from 0, an integer tensor; the same each time.
    lengths : (vocabulary,) tensor of integers, optional
        Bytes of each token; what has none, a special token, has no loss.
    path : path, optional
        Of the checkpoint, which is written every so many steps, at the end, and when the run is
        interrupted by ``KeyboardInterrupt``.
    every : int
    device : str
    progress : bool or callable

    Raises
    ------
    KeyboardInterrupt
        After the checkpoint is written.

    Examples
    --------
    >>> run = Run(model=ModelConfig(vocabulary=10, width=8, heads=2, key_heads=1), steps=2)
    >>> trained = train(run, lambda step: torch.tensor([[1, 2, 3]]))
    >>> len(trained.losses)
    2
    """
    whole(every, "every")
    generator = torch.Generator().manual_seed(run.seed)
    draws = torch.Generator().manual_seed(run.seed + 1)
    model = Decoder(run.model, generator, draws).to(device).train()
    optimizer = _optimizer(model, run)
    losses = torch.zeros(run.steps, dtype=torch.float64)
    step, drawn = 0, model.draws.get_state()
    if path is not None and Path(path).is_file():
        step = _resume(path, run, model, optimizer, losses)
    spelled = None if lengths is None else (lengths > 0).to(device)
    saved = step
    with reporting(progress, run.steps, "training") as report:
        try:
            while step < run.steps:
                for group in optimizer.param_groups:
                    group["lr"] = run.rate_at(step)
                windows = _checked(batch(step), run.model.vocabulary).to(device)
                nats = token_nats(model, windows)
                if spelled is None:
                    loss = nats.mean()
                else:
                    counted = spelled[windows[:, 1:]]
                    loss = (nats * counted).sum() / counted.sum().clamp_min(1)
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                clip_grad_norm_(model.parameters(), run.clip)
                losses[step] = loss.item()
                optimizer.step()
                step, drawn = step + 1, model.draws.get_state()
                if path is not None and (step % every == 0 or step == run.steps):
                    _save(path, run, model, optimizer, losses, step, drawn)
                    saved = step
                report(Done(step, run.steps, losses[step - 1].item()))
        except KeyboardInterrupt:
            # a step that was cut in the middle is not one: what is whole are the steps before
            if path is not None and saved < step and _made(optimizer) == {step}:
                losses[step:] = 0
                _save(path, run, model, optimizer, losses, step, drawn)
            raise
    return Trained(model.eval(), losses)


def _checked(windows: Any, vocabulary: int) -> Tensor:
    """What ``batch`` gave, if there is something to predict in it."""
    if not isinstance(windows, Tensor):
        raise TypeError(f"batch must give tensors of ids, got {type(windows).__name__}")
    whole_numbers = not (windows.is_floating_point() or windows.is_complex())
    if not whole_numbers or windows.dtype == torch.bool or windows.dim() != 2:
        raise ValueError(
            "batch must give integer ids (rows, tokens + 1), got "
            f"{windows.dtype} of shape {tuple(windows.shape)}"
        )
    if windows.shape[0] < 1 or windows.shape[1] < 2:
        raise ValueError(
            "batch must give a row or more of at least 2 ids, one to predict the other from, got "
            f"shape {tuple(windows.shape)}"
        )
    low, high = (int(x) for x in windows.long().aminmax())
    if low < 0 or high >= vocabulary:
        raise ValueError(
            f"batch must give ids from 0 to {vocabulary - 1}, got {low if low < 0 else high}"
        )
    return windows


def _optimizer(model: Decoder, run: Run) -> torch.optim.AdamW:
    named = list(model.named_parameters())
    groups = [
        {"params": [p for _, p in named if p.dim() > 1], "weight_decay": run.decay},
        {"params": [p for _, p in named if p.dim() < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=run.rate, betas=(0.9, run.beta))


def _made(optimizer: torch.optim.AdamW) -> set[int]:
    """How many steps each parameter has made."""
    return {int(held["step"]) for held in optimizer.state.values()}


def _save(
    path: Any, run: Run, model: Decoder, optimizer: Any, losses: Tensor, step: int, draws: Tensor
) -> None:
    tensors = {f"weight.{name}": w for name, w in weights_of(model).items()}
    for name, p in model.named_parameters():
        for word in ("exp_avg", "exp_avg_sq"):
            tensors[f"{word}.{name}"] = optimizer.state[p][word].cpu().contiguous()
    tensors |= {"losses": losses, "draws": draws}
    write(path, tensors, CHECKPOINT, {"run": run.to_json(), "step": step})


def _resume(path: Any, run: Run, model: Decoder, optimizer: Any, losses: Tensor) -> int:
    """Put a checkpoint's state where it was; how many steps are done."""
    tensors, content = read(path, CHECKPOINT)
    held = Run.from_json(content["run"])
    for name, value in run.to_json().items():
        if held.to_json()[name] != value:
            raise ValueError(
                f"{name} must be that of the checkpoint {path}, {held.to_json()[name]!r}, "
                f"got {value!r}"
            )
    start = "weight."
    weights = {n.removeprefix(start): t for n, t in tensors.items() if n.startswith(start)}
    put_weights(model, weights, path)
    for name, p in model.named_parameters():
        optimizer.state[p] = {
            "step": torch.tensor(float(content["step"])),
            **{word: tensors[f"{word}.{name}"].to(p.device) for word in ("exp_avg", "exp_avg_sq")},
        }
    losses.copy_(tensors["losses"])
    model.draws.set_state(tensors["draws"])
    return int(content["step"])
