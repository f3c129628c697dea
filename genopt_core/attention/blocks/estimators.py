r"""Full attention, estimated from the blocks that were kept.

Attention is a ratio of two sums over key blocks,

.. math:: o = \frac{N}{Z} = \frac{\sum_j N_j}{\sum_j Z_j}, \qquad
          Z_j = \sum_{t \in j} e^{s_t}, \quad N_j = \sum_{t \in j} e^{s_t} v_t,

of which a sample S is known, block j being in it with probability :math:`\pi_j`.  How the
estimators relate:

- *plain*, :math:`\sum_S N_j / \sum_S Z_j`, is what dropping blocks does.  Its sums aim at
  :math:`\sum_j \pi_j N_j` and :math:`\sum_j \pi_j Z_j`: full attention with :math:`\ln \pi_j` added
  to the scores.  More rounds do not take this bias away.
- *Horvitz-Thompson* divides each kept term by its probability, which is :math:`\ln(1/\pi_j)` added
  to its scores: :math:`\hat N = \sum_S N_j / \pi_j` and :math:`\hat Z` alike are unbiased.  The
  output :math:`\hat N / Z` is then unbiased too, but needs the exact mass Z, so all scores.
- *self-normalized* (Hájek's ratio), :math:`\hat N / \hat Z`, is the softmax over the kept blocks
  with those added logarithms and needs nothing else.  Each sum is unbiased, the ratio is not; its
  bias falls with the number of kept blocks and of pooled rounds, and its error is often smaller,
  as errors of both sums cancel.
- *difference* lets every block in by its centroids, :math:`\tilde Z_j = B e^{q \cdot \bar k_j}` and
  :math:`\tilde N_j = \tilde Z_j \bar v_j`, and corrects by the kept ones:
  :math:`\hat N = \sum_j \tilde N_j + \sum_S (N_j - \tilde N_j) / \pi_j`, again unbiased in both
  sums.  As :math:`\hat Z` may come near 0 or below, a query whose :math:`\hat Z` is under
  ``FLOOR`` times the self-normalized one takes the self-normalized output.

All are the same, and exact, if every :math:`\pi_j = 1`.

Sources: D. Horvitz and D. Thompson, 1952; J. Hájek, 1971; C.-E. Särndal et al., "Model Assisted
Survey Sampling", 1992, for the difference estimator.  F. Li, arXiv 2410.18441, the section on
PrFlashAttention, has the plain form as we read it; the others are our addition.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt

from genopt_core.attention.blocks.selection import check_kept
from genopt_core.attention.blocks.tiles import block_count, check_inputs, tiled_attention
from genopt_core.attention.online_softmax import Partial, merge_partials
from genopt_core.checks import fraction, one_of, real, whole

__all__ = ["ESTIMATORS", "FLOOR", "estimate", "log_weights", "pool_rounds", "self_similarity"]

Estimator = Literal["plain", "horvitz-thompson", "self-normalized", "difference"]
ESTIMATORS: tuple[Estimator, ...] = (
    "plain",
    "horvitz-thompson",
    "self-normalized",
    "difference",
)
FLOOR = 0.3
"""Least share of the self-normalized mass at which the difference estimator is used."""


def log_weights(kept: npt.ArrayLike, pi: npt.ArrayLike) -> np.ndarray:
    r""":math:`\ln(1/\pi)` of the kept blocks, minus infinity elsewhere (book, eq. attn-weight).

    Parameters
    ----------
    kept : (blocks, blocks) bool array
    pi : (blocks,) or (blocks, blocks) array
        Inclusion probability of each distance, or of each pair.

    Examples
    --------
    >>> log_weights([[1, 0], [1, 1]], [1.0, 0.5]).round(3).tolist()
    [[0.0, -inf], [0.693, 0.0]]
    """
    keep = check_kept(kept)
    p = np.asarray(pi, dtype=float)
    if p.ndim == 1 and len(p) == len(keep):
        i = np.arange(len(p))
        p = p[np.abs(i[:, None] - i)]
    if p.shape != keep.shape or not ((p[keep] > 0) & (p[keep] <= 1)).all():
        raise ValueError(
            f"pi must be of {len(keep)} distances or {len(keep)} x {len(keep)} blocks, and in "
            "(0, 1] where a block is kept, as its weight is 1/pi; got "
            + (f"shape {p.shape}" if p.shape != keep.shape else f"{float(p[keep].min())!r}")
        )
    out = np.full(keep.shape, -np.inf)
    out[keep] = np.log(1 / p[keep])
    return out


def estimate(
    query: npt.ArrayLike,
    keys: npt.ArrayLike,
    values: npt.ArrayLike,
    kept: npt.ArrayLike,
    pi: npt.ArrayLike,
    block: int,
    estimator: Estimator = "self-normalized",
    *,
    bias: npt.ArrayLike | None = None,
    scale: float | None = None,
    lse: npt.ArrayLike | None = None,
    floor: float = FLOOR,
    guard: float = 0.0,
) -> Partial:
    r"""Output of one round, and the logarithm of its estimated mass.

    (book, eq. attn-plain), (book, eq. attn-horvitz), (book, eq. attn-self-normalized) and (book,
    eq. attn-difference), by ``estimator``.

    Parameters
    ----------
    query, keys, values, kept, block, bias, scale
        As in :func:`walk_tiles`.
    pi : (blocks,) or (blocks, blocks) array
        Inclusion probabilities, as in :func:`log_weights`.
    estimator : {"plain", "horvitz-thompson", "self-normalized", "difference"}
        As described above.
    lse : (tokens,) array
        Logarithm of the exact mass, for "horvitz-thompson" only.
    floor : float
        For "difference": 0 keeps its sums as they are wherever its mass is positive, as rounds that
        are pooled need it (see `pool_rounds`).
    guard : float
        For "difference", from 0 to 1: blocks whose `self_similarity` is below it are never filled
        in by their centroid, which says little about them.  They count by their draws alone, so
        both sums stay unbiased.

    Returns
    -------
    out : (tokens, value_dim) array
    lse : (tokens,) array
        :math:`\ln \hat Z`, so that out · exp(lse) is :math:`\hat N`; "horvitz-thompson" gives back
        the exact one.

    Examples
    --------
    >>> x, v = np.zeros((2, 1)), np.array([[0.0], [3.0]])
    >>> out, lse = estimate(x, x, v, [[1, 0], [1, 1]], [1.0, 0.5], block=1)
    >>> out.ravel().round(6).tolist(), np.exp(lse).round(6).tolist()
    ([0.0, 1.0], [1.0, 3.0])
    """
    one_of(estimator, "estimator", ESTIMATORS)
    if (lse is None) == (estimator == "horvitz-thompson"):
        raise ValueError(
            "lse must be given for the estimator 'horvitz-thompson' and for no other, got "
            f"{'none' if lse is None else 'one'} for {estimator!r}"
        )
    keep = check_kept(kept)
    weights = None if estimator == "plain" else log_weights(keep, pi)
    out, mass = tiled_attention(
        query, keys, values, keep, block, log_weights=weights, bias=bias, scale=scale
    )
    if estimator == "horvitz-thompson":
        exact = np.asarray(lse, dtype=float)
        if exact.shape != mass.shape:
            raise ValueError(f"lse must have the shape {mass.shape}, got {exact.shape}")
        return out * np.exp(mass - exact)[:, None], exact
    if estimator == "difference":
        if (np.diagonal(weights) != 0).any():  # type: ignore[arg-type]
            raise ValueError(
                "kept must hold the whole diagonal with pi = 1 for the estimator 'difference', "
                "as a block that is seen in part has no centroid"
            )
        coefficient = np.tril(1 - np.exp(weights), -1)  # type: ignore[arg-type]
        if fraction(guard, "guard", zero=True):
            coefficient = coefficient * (self_similarity(keys, block) >= guard)
        return _corrected(query, keys, values, out, mass, coefficient, block, bias, scale, floor)
    return out, mass


def _corrected(
    query: npt.ArrayLike,
    keys: npt.ArrayLike,
    values: npt.ArrayLike,
    out: np.ndarray,
    lse: np.ndarray,
    coefficient: np.ndarray,
    block: int,
    bias: npt.ArrayLike | None,
    scale: float | None,
    floor: float,
) -> Partial:
    r"""The self-normalized sums plus :math:`\sum_j c_j \tilde N_j`, :math:`c = 1 - [S]/\pi`."""
    q, k, v, b = check_inputs(query, keys, values, bias)
    size, least = whole(block, "block"), real(floor, "floor")
    count = block_count(len(q), size)
    whole_blocks = len(q) // size
    centers = np.zeros((count, k.shape[1] + v.shape[1]))
    joined = np.concatenate([k, v], axis=1)[: whole_blocks * size]
    centers[:whole_blocks] = joined.reshape(whole_blocks, size, -1).mean(axis=1)
    row = np.arange(len(q)) // size
    factor = q.shape[1] ** -0.5 if scale is None else scale
    s = (q @ centers[:, : k.shape[1]].T) * factor + np.log(size)
    if b is not None:
        s += _mean_bias(b, len(q), count, size)
    c = coefficient[row]
    s = np.where(c != 0, s, -np.inf)
    top = np.maximum(lse, s.max(axis=1))
    exact, e = np.exp(lse - top), np.exp(s - top[:, None]) * c
    mass = exact + e.sum(axis=1)
    good = mass > np.maximum(least * exact, 0)
    safe = np.where(good, mass, 1)
    sums = exact[:, None] * out + e @ centers[:, k.shape[1] :]
    return (
        np.where(good[:, None], sums / safe[:, None], out),
        np.where(good, top + np.log(safe), lse),
    )


def _mean_bias(bias: np.ndarray, tokens: int, count: int, size: int) -> np.ndarray:
    """Logarithm of the mean of exp(bias) over each block's keys, for each query; 0 ahead."""
    distance = np.arange(tokens)[:, None] - np.arange(count * size)
    weight = np.where(distance >= 0, np.exp(bias[np.maximum(distance, 0)]), 1.0)
    with np.errstate(divide="ignore"):
        return np.log(weight.reshape(tokens, count, size).mean(axis=2))


def self_similarity(keys: npt.ArrayLike, block: int) -> np.ndarray:
    r"""How much the keys of a block are alike: the mean cosine between two of them.

    .. math:: \frac1{B^2} \sum_{s, t \in j} \frac{k_s \cdot k_t}{\lVert k_s\rVert\lVert k_t\rVert}
              = \Bigl\lVert \frac1B \sum_{t \in j} \frac{k_t}{\lVert k_t \rVert} \Bigr\rVert^2

    From 0 to 1, where all point the same way.

    Parameters
    ----------
    keys : (tokens, dim) array
    block : int

    Returns
    -------
    (blocks,) array

    Source: SpargeAttn (arXiv 2502.18137), which computes blocks of low self-similarity in any case.

    Examples
    --------
    >>> self_similarity([[1.0, 0.0], [3.0, 0.0], [1.0, 0.0], [0.0, 1.0]], 2).tolist()
    [1.0, 0.5]
    """
    k, size = np.asarray(keys, dtype=float), whole(block, "block")
    if k.ndim != 2 or not len(k):
        raise ValueError(f"keys must have the shape (tokens, dim), got {k.shape}")
    length = np.linalg.norm(k, axis=1, keepdims=True)
    unit = k / np.where(length > 0, length, 1.0)
    parts = [unit[i : i + size].mean(axis=0) for i in range(0, len(k), size)]
    return np.square(parts).sum(axis=1)


def pool_rounds(rounds: Sequence[Partial]) -> Partial:
    r"""Rounds of the same attention as one: sums averaged, then divided (book, eq. attn-pool).

    .. math:: o = \frac{\sum_r \hat N_r}{\sum_r \hat Z_r}, \qquad
              L = \ln \frac{1}{R} \sum_r \hat Z_r

    so the error of R independent rounds falls as :math:`R^{-1/2}` for sums that are unbiased.  The
    mean of the outputs would keep the bias of each ratio.  Rounds of "difference" should come from
    ``estimate(..., floor=0.0)``: where the floor takes the self-normalized sums instead, those that
    remain are too large on average, and no number of rounds mends that.

    Examples
    --------
    >>> rounds = [(np.array([[0.0]]), np.log([3.0])), (np.array([[4.0]]), np.log([1.0]))]
    >>> out, lse = pool_rounds(rounds)
    >>> out.item(), round(float(np.exp(lse).item()), 6)
    (1.0, 2.0)
    """
    if not rounds:
        raise ValueError("rounds must hold at least one (out, lse), got none")
    out, lse = merge_partials(rounds)
    return out, lse - np.log(len(rounds))
