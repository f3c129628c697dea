"""Training a batch of decoders and scoring them; both language and recall use it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from book.experiments.positions.models import Decoders

RATE, WARM_UP, CLIP, DECAY = 3e-3, 0.05, 1.0, 0.1
MEMORY = {"cpu": 1.0e8, "cuda": 6.0e9}  # bytes for the scores of one layer, if they were held


def train(
    models: Decoders,
    batches: Iterator[tuple[Tensor, Tensor]],
    steps: int,
    *,
    rate: float = RATE,
    decay: float = DECAY,
    progress: Callable[[int, Tensor], Any] | None = None,
) -> Tensor:
    """The last training loss a replica, (replicas,) in nats.

    AdamW with warm-up and a cosine from ``rate`` to a tenth of it.  ``batches`` gives tokens
    (replicas, batch, length + 1) and a mask (same, length) of the predictions that count.
    Gradients are clipped replica by replica.
    """
    decayed = [w for w in models.weights.values() if w.dim() >= 3 and w.shape[-2] > 8]
    others = [w for w in models.weights.values() if not any(w is d for d in decayed)]
    groups = [{"params": decayed, "weight_decay": decay}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=rate, betas=(0.9, 0.95), foreach=True)
    every = [*decayed, *others]
    loss = torch.zeros(0)
    for step, (tokens, counted) in zip(range(steps), batches, strict=False):
        warm = max(1, int(WARM_UP * steps))
        lower = 0.55 + 0.45 * math.cos(math.pi * step / steps)
        for group in optimizer.param_groups:
            group["lr"] = rate * min(1, (step + 1) / warm) * lower
        logits = models(tokens[..., :-1])
        nats = torch.nn.functional.cross_entropy(
            logits.flatten(0, 2), tokens[..., 1:].flatten(), reduction="none"
        ).view(tokens.shape[0], -1)
        weight = counted.flatten(1)
        loss = (nats * weight).sum(1) / weight.sum(1)
        optimizer.zero_grad(set_to_none=True)
        loss.sum().backward()
        norm = sum((w.grad.flatten(1) ** 2).sum(1) for w in every if w.grad is not None).sqrt()
        scale = (CLIP / (norm + 1e-6)).clamp(max=1)
        for w in every:
            if w.grad is not None:
                w.grad *= scale.view(-1, *[1] * (w.dim() - 1))
        optimizer.step()
        if progress is not None:
            progress(step, loss)
    return loss.detach()


@torch.no_grad()
def last_token_nats(models: Decoders, windows: Tensor, scored: int, chunk: int) -> Tensor:
    """Mean nats of the last ``scored`` tokens of ``windows`` (count, length + 1), (replicas,)."""
    models._kept = {}  # the weights may have moved
    total = torch.zeros(len(models.methods), dtype=torch.float64, device=models.device)
    for part in windows.split(chunk):
        tokens = part.to(models.device).expand(len(models.methods), *part.shape)
        logits = models(tokens[..., :-1], scored)
        nats = torch.nn.functional.cross_entropy(
            logits.flatten(0, 2), tokens[..., -scored:].flatten(), reduction="none"
        )
        total += nats.view(len(models.methods), -1).double().sum(1)
    return total / (len(windows) * scored)


def at_once(models: Decoders, length: int) -> int:
    """How many windows of ``length`` are read at once without gradients."""
    memory = MEMORY["cuda" if str(models.device).startswith("cuda") else "cpu"]
    return max(1, int(memory / (len(models.methods) * models.shape.heads * length**2 * 4)))


def machine(device: str) -> str:
    """What the numbers were made on, in words."""
    name = torch.cuda.get_device_name() if device.startswith("cuda") else "CPU"
    return f"{name}, torch {torch.__version__}, {torch.get_float32_matmul_precision()} precision"
