r"""Samples of exact inclusion probabilities, for many rows at once.

The fast forms of functions of :mod:`genopt_core.attention.blocks` under their names.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

__all__ = ["capped", "systematic"]


def checked_generator(generator: Any) -> torch.Generator | None:
    """``generator`` if draws can be made with it: one of PyTorch on the CPU, or none."""
    if generator is not None and not isinstance(generator, torch.Generator):
        raise TypeError(f"generator must be a torch.Generator on the CPU, got {generator!r}")
    if generator is not None and generator.device.type != "cpu":
        raise ValueError(
            f"generator must be a torch.Generator on the CPU, got one on {generator.device}"
        )
    return generator


def systematic(pi: Tensor, generator: torch.Generator | None = None) -> Tensor:
    r"""Samples of exact inclusion probabilities along the last axis, a draw for each line.

    As :func:`genopt_core.attention.blocks.systematic`, for a tensor of any shape at once; one
    uniform number a line, drawn on the CPU.

    >>> systematic(torch.tensor([[1.0, 0.0], [0.0, 1.0]])).tolist()
    [[True, False], [False, True]]
    """
    checked_generator(generator)
    sums = pi.double().cumsum(-1)
    close = sums.round()
    sums = torch.where((sums - close).abs() < 1e-9, close, sums)
    u = torch.rand((*pi.shape[:-1], 1), generator=generator, dtype=torch.float64)
    teeth = (sums - u.to(pi.device)).ceil()
    return torch.diff(teeth, dim=-1, prepend=torch.zeros_like(teeth[..., :1])) > 0


def capped(weights: Tensor, total: Tensor) -> Tensor:
    r"""Probabilities :math:`\min(1, \kappa w)` of sum ``total`` along the last axis, exactly.

    As :func:`genopt_core.attention.blocks.inclusion` with costs of 1, a line each; a total above
    the number of positive weights gives 1 to all of these.

    >>> capped(torch.tensor([4.0, 1.0, 1.0]), torch.tensor(2.0)).tolist()
    [1.0, 0.5, 0.5]
    """
    w, order = weights.double().sort(dim=-1, descending=True)
    n = w.shape[-1]
    rest = w.flip(-1).cumsum(-1).flip(-1)  # of this weight and all smaller ones
    full = torch.arange(n, device=w.device)
    factor = (total.double().unsqueeze(-1) - full) / rest.clamp_min(1e-300)
    fits = factor * w <= 1
    first = torch.where(fits.any(-1, keepdim=True), fits.to(torch.uint8).argmax(-1, True), n)
    at = factor.gather(-1, first.clamp_max(n - 1)).clamp_min(0)
    sorted_pi = torch.where(full < first, 1.0, (at * w).clamp_max(1.0))
    sorted_pi = torch.where(w > 0, sorted_pi, 0.0)
    sorted_pi = torch.where(sorted_pi > 1 - 1e-10, 1.0, sorted_pi)
    return torch.empty_like(sorted_pi).scatter_(-1, order, sorted_pi)
