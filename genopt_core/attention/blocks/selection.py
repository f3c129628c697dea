r"""Which blocks are kept: systematic sampling with exact probabilities, and three ways to share it.

A selection is a boolean lower triangle ``kept`` over (query block, key block).  What is drawn can
be shared by all query blocks (one set of distances), be drawn for each query block, or be a set of
blocks that forms a shorter sequence; the inclusion probability of a pair is the same in the first
two.

Sources: F. Li, arXiv 2410.18441, the section on PrFlashAttention, for re-shaping that keeps the
lower triangle; how it is done is our reading.  Systematic sampling: W. G. Madow, 1949.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt

from genopt_core.checks import one_of, whole

__all__ = [
    "always_kept",
    "by_distance",
    "kept_density",
    "left_justify",
    "radial_distances",
    "sample_blocks",
    "sample_distances",
    "sample_subsequence",
    "skew",
    "systematic",
    "systematic_samples",
]

Scheme = Literal["systematic", "poisson"]


def systematic(pi: npt.ArrayLike, rng: np.random.Generator) -> np.ndarray:
    r"""A sample in which entry j is with probability :math:`\pi_j` exactly; its size hardly varies.

    One uniform number u; j is in if the running sum of the probabilities passes one of
    u, u + 1, u + 2, … within it (book, eq. attn-systematic).  The size is :math:`\sum_j \pi_j`,
    rounded down or up, and exactly that if it is whole.  Nothing is drawn twice.

    Parameters
    ----------
    pi : (n,) array
        Probabilities from 0 to 1.
    rng : numpy.random.Generator

    Returns
    -------
    (n,) bool array

    Examples
    --------
    >>> systematic([1.0, 0.5, 0.5, 0.0], np.random.default_rng(0)).tolist()
    [True, False, True, False]
    """
    return _pass(_probabilities(pi), rng.random())


def systematic_samples(pi: npt.ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    r"""Every sample that :func:`systematic` can give, and how likely it is; ``pi`` is (n,).

    At most n + 1, as the sample changes only where a running sum crosses a whole number; with them
    an expectation is a sum and no simulation.

    Returns
    -------
    samples : (outcomes, n) bool array
    probabilities : (outcomes,) float64 array, of sum 1

    Examples
    --------
    >>> samples, probabilities = systematic_samples([1.0, 0.25, 0.75])
    >>> samples.astype(int).tolist(), probabilities.tolist()
    ([[1, 1, 0], [1, 0, 1]], [0.25, 0.75])
    """
    p = _probabilities(pi)
    edges = np.unique(np.concatenate([[0.0, 1.0], _running(p) % 1]))
    edges = edges[np.concatenate([np.diff(edges) > 1e-13, [True]])]
    edges[0] = 0.0
    samples = [_pass(p, u) for u in (edges[:-1] + edges[1:]) / 2]
    return np.array(samples), np.diff(edges)


def sample_distances(
    pi: npt.ArrayLike, rng: np.random.Generator, scheme: Scheme = "systematic"
) -> np.ndarray:
    r"""One set of distances for all query blocks: query block i meets i − δ for each δ in it.

    Row i has as many kept blocks as there are drawn distances up to i, so that the rows, pushed to
    the left, keep the outline of a lower triangle; see :func:`left_justify`.

    Parameters
    ----------
    pi : (blocks,) array
        Of each distance, as of :meth:`DistanceLaw.inclusion`.
    rng : numpy.random.Generator
    scheme : {"systematic", "poisson"}
        Poisson draws each distance for itself; then the size varies.

    Returns
    -------
    (blocks, blocks) bool array

    Examples
    --------
    >>> sample_distances([1, 0, 1], np.random.default_rng(0)).astype(int).tolist()
    [[1, 0, 0], [0, 1, 0], [1, 0, 1]]
    """
    return by_distance(_draw(_probabilities(pi), rng, scheme))


def sample_blocks(
    pi: npt.ArrayLike, rng: np.random.Generator, scheme: Scheme = "systematic"
) -> np.ndarray:
    r"""A draw for each query block: the same probabilities and mean cost, other rows.

    Arguments and result as in :func:`sample_distances`.  Errors of neighboring rows are no longer
    the same, but the outline is a triangle only by :func:`left_justify` with empty places.

    ``pi`` may also be (blocks, blocks), of each pair; above the diagonal it must be 0.

    >>> kept = sample_blocks([1, 1, 0.5], np.random.default_rng(1))
    >>> kept.shape, bool(kept.diagonal().all())
    ((3, 3), True)
    """
    p = np.asarray(pi, dtype=float)
    if p.ndim == 1:
        p = by_distance(_probabilities(p))
    p = _probabilities(p, 2)
    if np.triu(p, 1).any():
        raise ValueError("pi must be 0 above the diagonal")
    return np.stack([_draw(row, rng, scheme) for row in p])


def sample_subsequence(
    pi: npt.ArrayLike, rng: np.random.Generator, scheme: Scheme = "systematic"
) -> np.ndarray:
    r"""A set of blocks, drawn by their distance to the last, that attend to each other alone.

    Ordinary causal attention on a shorter sequence.  A query block that is not in the set keeps
    nothing: it has no output in this round.

    ``pi`` is (blocks,), by distance to the last block; other arguments and the (blocks, blocks)
    result are as in :func:`sample_distances`.

    >>> sample_subsequence([1, 0, 1], np.random.default_rng(0)).astype(int).tolist()
    [[1, 0, 0], [0, 0, 0], [1, 0, 1]]
    """
    chosen = _draw(_probabilities(pi), rng, scheme)[::-1]
    return np.tril(chosen[:, None] & chosen)


def by_distance(values: npt.ArrayLike) -> np.ndarray:
    """A lower triangle (blocks, blocks) with ``values[i - j]`` at (i, j), 0 above it.

    ``values`` is (blocks,), by distance.

    >>> by_distance([1, 2, 3]).tolist()
    [[1, 0, 0], [2, 1, 0], [3, 2, 1]]
    """
    v = np.asarray(values)
    i = np.arange(len(v))
    distance = i[:, None] - i
    return np.where(distance >= 0, v[distance], np.zeros((), v.dtype))


def always_kept(blocks: int, sink: int = 1, near: int = 1) -> np.ndarray:
    """The diagonal, the first ``sink`` key blocks and the ``near`` blocks before the diagonal.

    >>> always_kept(4, sink=1, near=1).astype(int).tolist()
    [[1, 0, 0, 0], [1, 1, 0, 0], [1, 1, 1, 0], [1, 0, 1, 1]]
    """
    i = np.arange(whole(blocks, "blocks"))
    distance = i[:, None] - i
    first = i[None, :] < whole(sink, "sink", 0)
    return (distance >= 0) & (first | (distance <= whole(near, "near", 0)))


def skew(triangle: npt.ArrayLike) -> np.ndarray:
    r"""A lower ``triangle`` (blocks, blocks) by query block and distance (book, eq. attn-skew).

    Entry (i, δ) is that of (i, i − δ).

    It maps the triangle :math:`j \le i` onto the triangle :math:`\delta \le i` and is its own
    inverse.

    >>> skew([[1, 0], [2, 3]]).tolist()
    [[1, 0], [3, 2]]
    """
    t = np.asarray(triangle)
    i = np.arange(len(t))
    at = i[:, None] - i
    return np.where(
        at >= 0, np.take_along_axis(t, np.maximum(at, 0), axis=1), np.zeros((), t.dtype)
    )


def left_justify(kept: npt.ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    r"""The kept key blocks of each row pushed to the left, in their order (book, eq. attn-outline).

    Parameters
    ----------
    kept : (blocks, blocks) bool array

    Returns
    -------
    index : (blocks, most) int64 array
        ``most`` is the largest number kept in a row; empty places hold −1.
    counts : (blocks,) int64 array
        For distances shared by all rows it never falls: the outline of a lower triangle.

    Examples
    --------
    >>> index, counts = left_justify(by_distance([1, 0, 1, 0]))
    >>> index.tolist(), counts.tolist()
    ([[0, -1], [1, -1], [0, 2], [1, 3]], [1, 1, 2, 2])
    """
    k = check_kept(kept)
    counts = k.sum(axis=1)
    index = np.full((len(k), max(counts.max(initial=0), 1)), -1)
    for row, count, keep in zip(index, counts, k, strict=True):
        row[:count] = np.flatnonzero(keep)
    return index, counts


def kept_density(kept: npt.ArrayLike) -> float:
    """Share of the lower triangle's blocks that are kept, of ``kept`` (blocks, blocks).

    >>> kept_density([[1, 0], [0, 1]])
    0.6666666666666666
    """
    k = check_kept(kept)
    return float(k.sum() / (len(k) * (len(k) + 1) / 2))


def radial_distances(blocks: int, width: int = 1) -> np.ndarray:
    r"""The deterministic twin of the harmonic law: every :math:`2^r`-th distance in band r.

    Band 0 are the distances below ``2 width``, band r those from :math:`2^r` ``width`` on to twice
    that: each keeps ``width`` distances.

    Returns
    -------
    (blocks,) bool array over distances

    Source: X. Li et al., arXiv 2506.19852, in blocks.

    Examples
    --------
    >>> np.flatnonzero(radial_distances(20)).tolist()
    [0, 1, 2, 4, 8, 16]
    """
    d = np.arange(whole(blocks, "blocks"))
    size = whole(width, "width")
    step = np.array([1 << max((x // size).bit_length() - 1, 0) for x in d.tolist()], dtype=int)
    return d % step == 0


def check_kept(kept: npt.ArrayLike) -> np.ndarray:
    """``kept`` as a boolean lower triangle, or an error that says what is wrong."""
    k = np.asarray(kept)
    if k.ndim != 2 or k.shape[0] != k.shape[1] or not len(k):
        raise ValueError(f"kept must have the shape (blocks, blocks), got {k.shape}")
    if k.dtype != bool:
        if k.dtype.kind not in "iu" or not np.isin(k, (0, 1)).all():
            raise ValueError(f"kept must be True or False for each block, got {k.dtype}")
        k = k.astype(bool)
    if np.triu(k, 1).any():
        raise ValueError("kept must have nothing above the diagonal: those keys lie ahead")
    return k


def _probabilities(pi: npt.ArrayLike, dimensions: int = 1) -> np.ndarray:
    p = np.asarray(pi, dtype=float)
    if p.ndim != dimensions or not ((p >= 0) & (p <= 1 + 1e-12)).all():
        raise ValueError(f"pi must be probabilities from 0 to 1, got {pi!r}")
    return np.minimum(p, 1.0)


def _running(p: np.ndarray) -> np.ndarray:
    """Sums up to each entry; those within rounding of a whole number are that number."""
    sums = np.cumsum(p)
    near = np.round(sums)
    return np.where(np.abs(sums - near) < 1e-9, near, sums)


def _pass(p: np.ndarray, u: float) -> np.ndarray:
    """Which entries a comb u, u + 1, … falls into: one of probability 1 always has one tooth."""
    ends = np.ceil(_running(p) - u)
    return np.diff(ends, prepend=np.ceil(-u)) > 0


def _draw(p: np.ndarray, rng: np.random.Generator, scheme: Scheme) -> np.ndarray:
    if one_of(scheme, "scheme", ("systematic", "poisson")) == "poisson":
        return rng.random(len(p)) < p
    return systematic(p, rng)
