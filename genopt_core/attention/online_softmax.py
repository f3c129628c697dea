r"""Attention over tokens in pieces: partial results that merge exactly (the online softmax).

A softmax over all tokens needs no row of all scores: the *partial result* of some of the tokens is
their weighted mean and the logarithm of their mass, ``(out, lse)``, and partial results over
different tokens merge into that of all of them, whatever the pieces are: chunks of a cache at
different widths (chapter 5), or blocks drawn by chance (chapter 4).

Sources: M. Milakov and N. Gimelshein, "Online normalizer calculation for softmax", 2018; T. Dao et
al., "FlashAttention", arXiv 2205.14135.
"""

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

Partial = tuple[np.ndarray, np.ndarray]


def softmax_partial(scores: np.ndarray) -> Partial:
    r"""Softmax weights over the last axis, and the logarithm of their mass (book, eq. kv-attend).

    .. math:: p_j = e^{s_j - L}, \qquad L = \ln \sum_j e^{s_j}

    Weights have the shape of ``scores``, the logarithm is without the last axis.  A row that sees
    nothing, with no scores or all of them minus infinity, has weights 0 and ``-inf``.

    >>> weights, lse = softmax_partial(np.log([1.0, 3.0]))
    >>> weights.round(6).tolist(), round(lse.item(), 4)
    ([0.25, 0.75], 1.3863)
    """
    top = scores.max(axis=-1, keepdims=True, initial=np.finfo(scores.dtype).min)
    weights = np.exp(scores - top)  # subtracted so that none overflows
    mass = weights.sum(axis=-1, keepdims=True)
    with np.errstate(divide="ignore"):
        lse = (top + np.log(mass))[..., 0]
    return weights / np.where(mass > 0, mass, 1), lse


def attend(
    query: npt.ArrayLike,
    keys: npt.ArrayLike,
    values: npt.ArrayLike,
    *,
    scale: float | None = None,
    mask: np.ndarray | None = None,
) -> Partial:
    r"""Attention over one piece, and the logarithm of its mass (book, eq. kv-attend).

    .. math:: o = \frac{\sum_j e^{s_j} v_j}{\sum_j e^{s_j}}, \qquad
              L = \ln \sum_j e^{s_j}, \qquad s_j = \frac{q^\top k_j}{\sqrt d}

    Parameters
    ----------
    query : (..., queries, dim) array
    keys : (..., tokens, dim) array
    values : (..., tokens, value_dim) array
    scale : float, optional
        Factor of the scores, by default :math:`1/\sqrt d`.
    mask : array, optional
        Broadcasts to ``(..., queries, tokens)``: boolean, True may be seen, or added to scores.

    Returns
    -------
    out : (..., queries, value_dim) array
    lse : (..., queries) array
        Minus infinity, with an output of zeros, if there is no token to be seen.

    Examples
    --------
    >>> out, lse = attend([[0.0]], [[0.0], [0.0]], [[1.0], [3.0]])
    >>> out.tolist(), lse.round(4).tolist()
    ([[2.0]], [0.6931])
    """
    q, k, v = (np.asarray(t, dtype=float) for t in (query, keys, values))
    if min(q.ndim, k.ndim, v.ndim) < 2 or q.shape[-1] != k.shape[-1] or k.shape[-2] != v.shape[-2]:
        raise ValueError(
            "query, keys and values must be (..., queries, dim), (..., tokens, dim) and "
            f"(..., tokens, value_dim), got {q.shape}, {k.shape} and {v.shape}"
        )
    scores = q @ np.swapaxes(k, -1, -2)
    scores *= 1 / np.sqrt(q.shape[-1]) if scale is None else scale
    if mask is not None:
        scores = np.where(mask, scores, -np.inf) if mask.dtype == bool else scores + mask
    weights, lse = softmax_partial(scores)
    return weights @ v, lse


def merge_partials(partials: Sequence[Partial]) -> Partial:
    r"""Partial result over all pieces from those over each (book, eq. kv-softmax).

    .. math:: L = \ln \sum_i e^{L_i}, \qquad o = \sum_i e^{L_i - L} o_i

    exactly the attention over all, in any order.  A piece that a query does not see
    (:math:`L_i = -\infty`) changes nothing.

    Parameters
    ----------
    partials : sequence of ((..., value_dim) array, (...) array)
        At least one, as from :func:`attend`.

    Returns
    -------
    out : (..., value_dim) array
    lse : (...) array

    >>> here, there = (np.array([[1.0]]), np.zeros(1)), (np.array([[3.0]]), np.zeros(1))
    >>> out, lse = merge_partials([here, there])
    >>> out.item(), round(lse.item(), 4)
    (2.0, 0.6931)
    """
    if not partials:
        raise ValueError("partials must hold at least one (out, lse), got none")
    outs, lses = zip(*partials, strict=True)
    shares, lse = softmax_partial(np.stack(lses, axis=-1))  # of the pieces: a softmax themselves
    return sum(out * shares[..., i, None] for i, out in enumerate(outs)), lse


def attend_segments(
    query: npt.ArrayLike, segments: Iterable[tuple[npt.ArrayLike, npt.ArrayLike]]
) -> np.ndarray:
    """Attention over all ``(keys, values)`` of ``segments``, of which it holds one at a time.

    >>> segments = [(np.zeros((1, 2)), [[1.0]]), (np.zeros((3, 2)), [[5.0]] * 3)]
    >>> attend_segments(np.ones((1, 2)), segments).item()
    4.0
    """
    seen: list[Partial] = []
    for keys, values in segments:
        seen = [merge_partials([*seen, attend(query, keys, values)])]
    if not seen:
        raise ValueError("segments must hold at least one (keys, values), got none")
    return seen[0][0]
