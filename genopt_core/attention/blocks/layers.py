r"""How many blocks each layer of a model deserves, by a pilot on one text.

Layers differ more than heads: one moves the predictions a thousand times as far as another if it
computes half of its blocks.  A pilot puts one layer after the other in blocks, at a few numbers of
them, and what it finds is divided here.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from genopt_core.checks import whole

__all__ = ["divide_among_layers"]

LEAST_DIVERGENCE = 1e-9
"""In nats: what is smaller counts as so much, as it is rounding."""


def divide_among_layers(
    divergences: npt.ArrayLike,
    tried: Sequence[int],
    blocks: int,
    mean: int,
    *,
    least: int = 4,
    most: int = 48,
) -> list[int]:
    r"""Blocks a row of each layer, at the cost of ``mean`` in all of them (book, eq. attn-layers).

    .. math:: \min_{n_1, \dots, n_L} \sum_\ell E_\ell(n_\ell) \quad\text{with}\quad
              \sum_\ell c(n_\ell) \le L\,c(\bar n), \qquad
              c(n) = \sum_{i=0}^{T-1} \big(1 + \min(i, n)\big)

    :math:`\ln E_\ell` is taken as linear between the numbers that were tried, and beyond them, and
    divergences add up, as if layers did not know of each other.  Blocks go one by one to the layer
    whose divergence falls most for what they cost, some steps ahead too, until none falls: the
    least sum at that cost where all :math:`E_\ell` fall ever more slowly with cost.

    Parameters
    ----------
    divergences : (layers, tried) array
        :math:`E_\ell`, in nats: how far the predictions move, from full attention, if this layer
        alone keeps as many blocks as ``tried`` says.
    tried : sequence of int
        Blocks a row beside its own, rising, two numbers or more.
    blocks : int
        T, blocks of a text.
    mean : int
        :math:`\bar n`: what every layer would have if none had more than another.
    least, most : int
        Fewest and most that a layer gets, beside its own.

    Returns
    -------
    list of int
        One a layer.  They count all blocks beside a row's own, first and nearest among them:
        ``plan_rows(q, k, n - 2, share="heads")`` divides them among heads as well.

    Examples
    --------
    >>> divide_among_layers([[4.0, 1.0], [400.0, 100.0]], [2, 4], 16, 4, least=1, most=12)
    [1, 8]
    """
    found, at = np.asarray(divergences, dtype=float), np.asarray(tried)
    if at.dtype.kind not in "iu" or at.ndim != 1 or len(at) < 2 or (np.diff(at) <= 0).any():
        raise ValueError(f"tried must be two whole numbers or more, rising, got {tried!r}")
    if found.ndim != 2 or not len(found) or found.shape[1] != len(at):
        raise ValueError(f"divergences must be (layers, {len(at)}), got shape {found.shape}")
    if not np.isfinite(found).all() or (found < 0).any():
        raise ValueError(f"divergences must be finite and not negative, got {found.tolist()}")
    low, high = whole(least, "least", 0), whole(most, "most", 0)
    if not low <= whole(mean, "mean", 0) <= high:
        raise ValueError(f"mean must be from {low} to {high}, least and most, got {mean}")
    counts = np.arange(low, high + 1)
    curves, cost = _curves(found, at, counts), tiles(counts, blocks)
    chosen = np.zeros(len(found), dtype=int)
    left = len(found) * int(cost[mean - low]) - len(found) * int(cost[0])
    while True:
        gains = [
            _steepest(curves[layer, c:], cost[c:], left) for layer, c in enumerate(chosen.tolist())
        ]
        layer = int(np.argmax(gains))
        if gains[layer] < 0:  # no more fits, or more would be worse
            return [int(n) for n in counts[chosen]]
        left -= int(cost[chosen[layer] + 1] - cost[chosen[layer]])
        chosen[layer] += 1


def tiles(kept: npt.ArrayLike, blocks: int) -> np.ndarray:
    r"""Tiles of the triangle if each row keeps ``kept`` (…) beside its own: :math:`c(n)`, (…).

    >>> tiles([0, 1, 9], 4).tolist()
    [4, 7, 10]
    """
    t = whole(blocks, "blocks")
    return (1 + np.minimum(np.arange(t), np.asarray(kept)[..., None])).sum(-1)


def _curves(found: np.ndarray, at: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Divergences at all counts, (layers, counts): their logarithms are lines between two tried."""
    logs = np.log(np.maximum(found, LEAST_DIVERGENCE))
    slopes = np.diff(logs, axis=1) / np.diff(at)
    part = np.clip(np.searchsorted(at, counts, side="right") - 1, 0, len(at) - 2)
    lines = logs[:, part] + slopes[:, part] * (counts - at[part])
    return np.exp(np.clip(lines, -700, 700))  # far beyond what was tried they may lead anywhere


def _steepest(curve: np.ndarray, cost: np.ndarray, left: int) -> float:
    """The most that a curve falls for its cost, from its first count on; −∞ if none is left."""
    if len(curve) < 2 or cost[1] - cost[0] > left:
        return -np.inf
    return float(((curve[0] - curve[1:]) / np.maximum(cost[1:] - cost[0], 1e-9)).max())
