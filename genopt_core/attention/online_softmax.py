r"""Attention over a cache in pieces: partial results that merge exactly (the online softmax).

A softmax over all tokens needs no row of all scores: each segment of the cache gives its own
weighted mean and the logarithm of its mass, and two such partial results merge into that of both
segments together.  So a segment can be restored, used and forgotten.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

__all__ = ["attend", "attend_segments", "merge_partials"]


def attend(
    query: npt.ArrayLike, keys: npt.ArrayLike, values: npt.ArrayLike
) -> tuple[np.ndarray, np.ndarray]:
    r"""Attention over one segment, and the logarithm of its mass (ch. 5, eq. kv-attend).

    .. math:: o = \frac{\sum_j e^{s_j} v_j}{\sum_j e^{s_j}}, \qquad
              L = \ln \sum_j e^{s_j}, \qquad s_j = \frac{q^\top k_j}{\sqrt d}

    Parameters
    ----------
    query : (..., queries, dim) array
    keys : (..., tokens, dim) array
    values : (..., tokens, value_dim) array

    Returns
    -------
    out : (..., queries, value_dim) array
    lse : (..., queries) array
        Minus infinity, with an output of zeros, if there are no tokens.

    Raises
    ------
    ValueError
        If the shapes do not fit.
    """
    q, k, v = (np.asarray(t, dtype=float) for t in (query, keys, values))
    if min(q.ndim, k.ndim, v.ndim) < 2 or q.shape[-1] != k.shape[-1] or k.shape[-2] != v.shape[-2]:
        raise ValueError(
            f"query {q.shape}, keys {k.shape} and values {v.shape} must be (..., queries, dim), "
            "(..., tokens, dim) and (..., tokens, value_dim)"
        )
    score = q @ np.swapaxes(k, -1, -2) / np.sqrt(q.shape[-1])  # (..., queries, tokens)
    if not score.shape[-1]:
        return np.zeros((*score.shape[:-1], v.shape[-1])), np.full(score.shape[:-1], -np.inf)
    top = score.max(axis=-1, keepdims=True)  # so that no exponential overflows
    weight = np.exp(score - top)
    mass = weight.sum(axis=-1, keepdims=True)
    return weight @ v / mass, (top + np.log(mass))[..., 0]


def merge_partials(
    first: tuple[np.ndarray, np.ndarray], second: tuple[np.ndarray, np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    r"""Partial result of two segments together from that of each (ch. 5, eq. kv-softmax).

    .. math:: L = \ln(e^{L_1} + e^{L_2}), \qquad o = e^{L_1 - L} o_1 + e^{L_2 - L} o_2

    exactly the attention over both, in any order of merging.  An empty segment
    (:math:`L = -\infty`) changes nothing.

    >>> here, there = (np.array([[1.0]]), np.zeros(1)), (np.array([[3.0]]), np.zeros(1))
    >>> out, lse = merge_partials(here, there)
    >>> out.item(), round(lse.item(), 4)
    (2.0, 0.6931)
    """
    (o1, l1), (o2, l2) = first, second
    lse = np.logaddexp(l1, l2)
    base = np.where(np.isfinite(lse), lse, 0.0)  # nothing seen yet on either side
    return np.exp(l1 - base)[..., None] * o1 + np.exp(l2 - base)[..., None] * o2, lse


def attend_segments(
    query: npt.ArrayLike, segments: Iterable[tuple[np.ndarray, np.ndarray]]
) -> np.ndarray:
    """Attention over all ``segments``, given one ``(keys, values)`` after the other.

    Holds one segment at a time.  Raises ``ValueError`` if there is none.
    """
    partial = None
    for keys, values in segments:
        new = attend(query, keys, values)
        partial = new if partial is None else merge_partials(partial, new)
    if partial is None:
        raise ValueError("segments must hold at least one (keys, values)")
    return partial[0]
