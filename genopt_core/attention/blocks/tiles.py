r"""Causal attention tile by tile, for any list of kept blocks, each step open to inspection.

A *tile* is a block of queries against a block of keys.  Within a row of tiles the running maximum,
mass and output of the online softmax are all that is held; blocks that are not kept are not
touched, which is what saves the work.

Sources: T. Dao et al., "FlashAttention", arXiv 2205.14135, and "FlashAttention-2", arXiv
2307.08691, for the loop; F. Li, arXiv 2410.18441, the section on PrFlashAttention, for leaving
blocks out by chance.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from genopt_core.attention.blocks.selection import check_kept
from genopt_core.attention.online_softmax import Partial
from genopt_core.checks import real, whole

__all__ = [
    "Tile",
    "block_count",
    "mass_by_distance",
    "pair_scores",
    "tiled_attention",
    "walk_tiles",
]


@dataclass(frozen=True)
class Tile:
    r"""The state of a row of tiles after one more of them (book, eq. attn-running).

    Attributes
    ----------
    row, column : int
        Query block i and key block j.
    step : int
        How many tiles of the row were done before.
    scores : (rows, keys) array
        Scores of this tile, its log weight included, minus infinity where the key lies ahead.
    rescale : (rows,) array
        :math:`e^{m - m'}`: what the sums so far are multiplied by, as the maximum grew.
    top, mass : (rows,) arrays
        Running maximum :math:`m'` and mass :math:`\ell = \sum_j e^{s_j - m'}`.
    output : (rows, value_dim) array
        Running output, divided by the mass: attention over the tiles so far.
    """

    row: int
    column: int
    step: int
    scores: np.ndarray
    rescale: np.ndarray
    top: np.ndarray
    mass: np.ndarray
    output: np.ndarray

    @property
    def lse(self) -> np.ndarray:
        r"""Logarithm of the mass so far, :math:`m' + \ln \ell`."""
        with np.errstate(divide="ignore"):
            return self.top + np.log(self.mass)


def walk_tiles(
    query: npt.ArrayLike,
    keys: npt.ArrayLike,
    values: npt.ArrayLike,
    kept: npt.ArrayLike,
    block: int,
    *,
    log_weights: npt.ArrayLike | None = None,
    bias: npt.ArrayLike | None = None,
    scale: float | None = None,
) -> Iterator[Tile]:
    r"""Each tile of causal block attention in turn, rows of queries first (book, eq. attn-running).

    .. math:: m' = \max(m, \max_j s_j), \quad
              \ell \leftarrow e^{m - m'} \ell + \sum_j e^{s_j - m'}, \quad
              o \leftarrow e^{m - m'} o + \sum_j e^{s_j - m'} v_j

    with :math:`s_j = q^\top k_j / \sqrt d + b(i - j) + \ln w` and, at the end of a row,
    :math:`o / \ell`.

    Parameters
    ----------
    query, keys : (tokens, dim) arrays
    values : (tokens, value_dim) array
    kept : (blocks, blocks) bool array
        Lower triangle of what is computed, ``blocks`` = tokens / ``block``, rounded up.
    block : int
        Tokens of a block; the last may have fewer.
    log_weights : (blocks, blocks) array, optional
        Added to all scores of a tile: :math:`\ln(1/\pi)` to reweight it.
    bias : (tokens,) array, optional
        A distance bias of chapter 3, by distance.
    scale : float, optional
        By default :math:`1/\sqrt d`.

    Yields
    ------
    Tile
        One for each kept block, ascending in a row.

    Examples
    --------
    >>> x = np.eye(4)
    >>> walk = walk_tiles(x, x, x, [[1, 0], [1, 1]], block=2)
    >>> [(t.row, t.column, t.step) for t in walk]
    [(0, 0, 0), (1, 0, 0), (1, 1, 1)]
    """
    q, k, v, b = check_inputs(query, keys, values, bias)
    size = whole(block, "block")
    keep = check_kept(kept)
    count = block_count(len(q), size)
    if len(keep) != count:
        raise ValueError(f"kept must have {count} rows, got {len(keep)}")
    weights = np.zeros(keep.shape) if log_weights is None else np.asarray(log_weights, dtype=float)
    if weights.shape != keep.shape or not np.isfinite(weights[keep]).all():
        raise ValueError(
            f"log_weights must be {count} x {count} numbers, finite where a block is kept, "
            f"got shape {weights.shape}"
        )
    return _walk(q, k, v, keep, size, weights, b, scale)


def _walk(
    q: np.ndarray,
    k: np.ndarray,
    v: np.ndarray,
    keep: np.ndarray,
    size: int,
    weights: np.ndarray,
    bias: np.ndarray | None,
    scale: float | None,
) -> Iterator[Tile]:
    for i, row in enumerate(keep):
        queries = np.arange(i * size, min((i + 1) * size, len(q)))
        top = np.full(len(queries), -np.inf)
        mass = np.zeros(len(queries))
        sums = np.zeros((len(queries), v.shape[1]))
        for step, j in enumerate(np.flatnonzero(row).tolist()):
            tokens = np.arange(j * size, min((j + 1) * size, len(q)))
            scores = pair_scores(q, k, queries, tokens, bias, scale) + weights[i, j]
            new = np.maximum(top, scores.max(axis=1))
            finite = np.where(np.isneginf(new), 0.0, new)  # a row that has seen nothing yet
            rescale = np.exp(top - finite)
            p = np.exp(scores - finite[:, None])
            mass = rescale * mass + p.sum(axis=1)
            sums = rescale[:, None] * sums + p @ v[tokens]
            top = new
            output = sums / np.where(mass > 0, mass, 1)[:, None]
            yield Tile(i, j, step, scores, rescale, top, mass, output)


def tiled_attention(
    query: npt.ArrayLike,
    keys: npt.ArrayLike,
    values: npt.ArrayLike,
    kept: npt.ArrayLike,
    block: int,
    *,
    log_weights: npt.ArrayLike | None = None,
    bias: npt.ArrayLike | None = None,
    scale: float | None = None,
) -> Partial:
    """The end of each row of :func:`walk_tiles`: attention over kept blocks (book, eq. attn-ratio).

    Arguments are as in :func:`walk_tiles`.

    Returns
    -------
    out : (tokens, value_dim) array
    lse : (tokens,) array
        A query that sees nothing has an output of zeros and minus infinity, so that
        :func:`merge_partials` passes over it.

    Examples
    --------
    >>> x = np.zeros((3, 1))
    >>> out, lse = tiled_attention(x, x, [[0.0], [2.0], [4.0]], [[1, 0], [1, 1]], block=2)
    >>> out.ravel().tolist(), np.exp(lse).round(6).tolist()
    ([0.0, 1.0, 2.0], [1.0, 2.0, 3.0])
    """
    walk = walk_tiles(
        query, keys, values, kept, block, log_weights=log_weights, bias=bias, scale=scale
    )
    tokens, width = len(np.asarray(query)), np.asarray(values).shape[1]
    out, lse = np.zeros((tokens, width)), np.full(tokens, -np.inf)
    for tile in walk:  # a later tile of the row overwrites an earlier one
        rows = slice(tile.row * block, tile.row * block + len(tile.mass))
        out[rows], lse[rows] = tile.output, tile.lse
    return out, lse


def mass_by_distance(
    query: npt.ArrayLike,
    keys: npt.ArrayLike,
    block: int,
    *,
    bias: npt.ArrayLike | None = None,
    scale: float | None = None,
    sink: int = 0,
) -> np.ndarray:
    r"""Mean attention mass of one block at each block distance, of full attention.

    What :meth:`DistanceLaw.calibrated` takes.  The first ``sink`` key blocks do not count, as they
    are kept in any case; a distance without any other block is NaN.

    Parameters
    ----------
    query, keys, block, bias, scale
        As in :func:`walk_tiles`.
    sink : int

    Returns
    -------
    (blocks,) array

    Examples
    --------
    >>> mass_by_distance(np.zeros((4, 1)), np.zeros((4, 1)), block=1).round(3).tolist()
    [0.521, 0.361, 0.292, 0.25]
    """
    q, k, _, b = check_inputs(query, keys, keys, bias)
    size = whole(block, "block")
    count = block_count(len(q), size)
    mass = np.zeros((count, count))
    for i in range(count):
        queries = np.arange(i * size, min((i + 1) * size, len(q)))
        scores = pair_scores(q, k, queries, np.arange(queries[-1] + 1), b, scale)
        p = np.exp(scores - scores.max(axis=1, keepdims=True))
        p = (p / p.sum(axis=1, keepdims=True)).mean(axis=0)
        mass[i, : i + 1] = np.add.reduceat(p, np.arange(0, len(p), size))
    seen = [np.diagonal(mass, -d)[whole(sink, "sink", 0) :] for d in range(count)]
    return np.array([np.mean(m) if len(m) else np.nan for m in seen])


def block_count(tokens: int, block: int) -> int:
    """Blocks that so many tokens make, the last perhaps shorter.

    >>> block_count(9, 4)
    3
    """
    return -(-tokens // block)


def pair_scores(
    q: np.ndarray,
    k: np.ndarray,
    queries: np.ndarray,
    tokens: np.ndarray,
    bias: np.ndarray | None,
    scale: float | None,
) -> np.ndarray:
    """Scores of some positions against others, minus infinity where the key lies ahead."""
    factor = q.shape[1] ** -0.5 if scale is None else real(scale, "scale")
    distance = queries[:, None] - tokens
    scores = (q[queries] @ k[tokens].T) * factor
    if bias is not None:
        scores = scores + bias[np.maximum(distance, 0)]
    return np.where(distance >= 0, scores, -np.inf)


def check_inputs(
    query: npt.ArrayLike, keys: npt.ArrayLike, values: npt.ArrayLike, bias: npt.ArrayLike | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray | None]:
    """The four as float arrays, or an error that says which of them is wrong."""
    q, k, v = (np.asarray(t, dtype=float) for t in (query, keys, values))
    for name, t in (("query", q), ("keys", k), ("values", v)):
        if t.ndim != 2 or len(t) != len(q) or not len(t):
            raise ValueError(
                "query, keys and values must have the shape (tokens, dim) with the same tokens, "
                f"got {q.shape}, {k.shape} and {v.shape}"
            )
        if not np.isfinite(t).all():
            raise ValueError(f"{name} must be finite, got NaN or infinity")
    if q.shape != k.shape:
        raise ValueError(f"query and keys must have one shape, got {q.shape} and {k.shape}")
    if bias is None:
        return q, k, v, None
    b = np.asarray(bias, dtype=float)
    if b.ndim != 1 or len(b) < len(q) or np.isnan(b).any() or np.isposinf(b).any():
        raise ValueError(
            f"bias must be numbers over at least {len(q)} distances, got shape {b.shape}"
        )
    return q, k, v, b
