r"""How many blocks a promise needs: relative error at most ε with probability about 1 − δ.

A row of attention is known in part, its sums over the blocks that are kept for sure,
:math:`Z_0` and :math:`N_0`.  Of the m other blocks n are drawn *without replacement*, each set of n
as likely as any other, and stand for all:

.. math:: \hat Z = Z_0 + \frac mn \sum_{j \in S} Z_j, \qquad
          \hat N = N_0 + \frac mn \sum_{j \in S} N_j, \qquad \hat o = \hat N / \hat Z

so the error is 0 at n = m.  A small pilot, the first blocks of the draw, shows how much the sums
vary, and the central limit theorem does the rest, with the correction for a finite population.
This is an approximation: a block of large mass that the pilot has missed can break the promise.
How often it does is `promise_errors` here, and measured on attention heads elsewhere.  What holds
whatever the contents are is in :mod:`~genopt_core.attention.blocks.bounds`.

Sources: vAttention (arXiv 2510.05688) promises so for tokens, which it draws with replacement, with
the normal quantile and without the correction, for numerator and denominator; W. G. Cochran,
"Sampling Techniques", 1977, for the sizes; C. Stein, 1945, for Student's quantile after a pilot.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt

from genopt_core.attention.blocks.quantiles import student_quantile
from genopt_core.checks import one_of, open_fraction, positive, whole

__all__ = ["blocks_needed", "promise_errors", "promised_error", "relative_deviation"]

Of = Literal["output", "mass", "numerator"]
OF: tuple[Of, ...] = ("output", "mass", "numerator")


def relative_deviation(
    masses: npt.ArrayLike,
    blocks: npt.ArrayLike,
    *,
    sums: npt.ArrayLike | None = None,
    sure_mass: npt.ArrayLike = 0.0,
    sure_sum: npt.ArrayLike = 0.0,
    of: Of = "mass",
) -> np.ndarray:
    r"""How much blocks vary beside the total, from a pilot (book, eq. attn-deviation).

    .. math:: r = \frac{m\,s}{\hat Z}, \qquad r = \frac{m\,\lVert s_N \rVert}{\lVert \hat N\rVert},
              \qquad r = \frac{m\,\lVert s_e \rVert}{\hat Z\,\lVert \hat o\rVert}, \quad
              e_j = N_j - \hat o\,Z_j

    for the mass, the numerator and the output, with the pilot's standard deviations (of each
    channel, joined to a length).  The output's is that of the ratio to first order.

    Parameters
    ----------
    masses : (…, drawn) array
        :math:`Z_j` of the pilot's blocks, ``drawn`` at least 2; any common factor.
    blocks : int or (…) array of integers
        m, from how many they are drawn.
    sums : (…, drawn, value_dim) array
        :math:`N_j`, not needed for the mass.
    sure_mass : number or (…) array
    sure_sum : number or (…, value_dim) array
        :math:`Z_0` and :math:`N_0`.
    of : {"mass", "numerator", "output"}

    Returns
    -------
    (…) array

    Examples
    --------
    >>> relative_deviation([1.0, 3.0], 10, sure_mass=20.0).round(4).item()
    0.3536
    """
    z = np.asarray(masses, dtype=float)
    if not z.ndim or z.shape[-1] < 2:
        raise ValueError(f"masses must hold 2 drawn blocks or more, got shape {z.shape}")
    if one_of(of, "of", OF) == "mass":
        total = sure_mass + np.asarray(blocks) * z.mean(-1)
        return _over(blocks * z.std(-1, ddof=1), total)
    if sums is None:
        raise ValueError(f"sums must be given for the {of}, got none")
    n = np.asarray(sums, dtype=float)
    if n.shape[:-1] != z.shape:
        raise ValueError(f"sums must have the shape {z.shape} and value_dim, got {n.shape}")
    m = np.asarray(blocks)[..., None]
    whole_sum = np.asarray(sure_sum) + m * n.mean(-2)
    length = np.linalg.norm(whole_sum, axis=-1)
    if of == "output":
        mass = sure_mass + np.asarray(blocks) * z.mean(-1)
        n = n - z[..., None] * _over(whole_sum, mass[..., None])[..., None, :]
    spread = np.sqrt(n.var(-2, ddof=1).sum(-1))
    return _over(blocks * spread, length)


def blocks_needed(
    deviation: npt.ArrayLike, blocks: npt.ArrayLike, eps: float, delta: float, drawn: int
) -> np.ndarray:
    r"""Blocks to draw for a relative error of ε with probability 1 − δ (book, eq. attn-needed).

    An approximation.

    .. math:: n = \Bigl\lceil \frac{x}{1 + x/m} \Bigr\rceil, \qquad
              x = \Bigl(\frac{t\,r}{\varepsilon}\Bigr)^2

    with Student's :math:`t_{1-\delta/2}` for ``drawn`` − 1 degrees of freedom, as the deviation is
    known from the pilot alone; at least ``drawn``, and at most m, where nothing is left to err.
    For sums of many channels that quantile is on the safe side if δ is below 0.2.

    Parameters
    ----------
    deviation : (…) array
        r, of `relative_deviation`.
    blocks : int or (…) array of integers
        m.
    eps, delta : float
        Above 0; delta below 1.
    drawn : int
        Blocks of the pilot; they count.

    Returns
    -------
    (…) int64 array

    Source: Cochran, 1977, section 4.6.  For many channels: G. Székely and N. Bakirov, 2003.

    Examples
    --------
    >>> blocks_needed(1.0, [10, 100, 10_000], eps=0.1, delta=0.1, drawn=8).tolist()
    [10, 79, 347]
    """
    r, m = np.asarray(deviation, dtype=float), np.asarray(blocks)
    if m.dtype.kind not in "iu":
        raise TypeError(f"blocks must be whole numbers, got {m.dtype}")
    e, t = (
        positive(eps, "eps"),
        student_quantile(1 - open_fraction(delta, "delta") / 2, whole(drawn, "drawn") - 1),
    )
    with np.errstate(over="ignore"):
        x = (t * r / e) ** 2
    with np.errstate(invalid="ignore", divide="ignore"):
        n = np.where(np.isfinite(x), x / (1 + x / np.maximum(m, 1)), m)
    return np.minimum(np.maximum(np.ceil(n - 1e-9), drawn), m).astype(np.int64)


def promised_error(
    deviation: npt.ArrayLike,
    blocks: npt.ArrayLike,
    kept: npt.ArrayLike,
    delta: float,
    drawn: int,
) -> np.ndarray:
    r"""The ε that holds with probability 1 − δ if ``kept`` blocks are drawn: an approximation.

    .. math:: \varepsilon = t\,r\,\sqrt{\frac1n \Bigl(1 - \frac nm\Bigr)}

    The inverse of `blocks_needed` (book, eq. attn-needed), for n blocks ``kept``; other arguments
    and the shape are as in it.  0 where n = m, infinity where nothing is drawn.

    Examples
    --------
    >>> promised_error(1.0, 100, [8, 79, 100], delta=0.1, drawn=8).round(3).tolist()
    [0.642, 0.098, 0.0]
    """
    r, m, n = (np.asarray(x, dtype=float) for x in (deviation, blocks, kept))
    t = student_quantile(1 - open_fraction(delta, "delta") / 2, whole(drawn, "drawn") - 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        share = np.maximum(1 / n - 1 / m, 0)
        error = np.where(n > 0, t * r * np.sqrt(share), np.inf)
    return np.where(n >= m, 0.0, error)


def promise_errors(
    masses: npt.ArrayLike,
    eps: float,
    delta: float,
    pilot: int,
    rng: np.random.Generator,
    *,
    draws: int = 1000,
    sums: npt.ArrayLike | None = None,
    sure_mass: float = 0.0,
    sure_sum: npt.ArrayLike = 0.0,
    of: Of = "mass",
) -> tuple[np.ndarray, np.ndarray]:
    r"""What became of the promise of `blocks_needed` in many draws from one row's blocks.

    Each draw puts the blocks in an order of its own; its first ``pilot`` say how many are needed,
    and that many of the order are used.

    Parameters
    ----------
    masses : (blocks,) array
    sums : (blocks, value_dim) array, optional
        Needed for the output and the numerator.
    pilot, draws : int
    eps, delta, sure_mass, sure_sum, of
        As in `relative_deviation` and `blocks_needed`; ``sure_sum`` is (value_dim,).

    Returns
    -------
    errors : (draws,) array
        Relative errors; the promise is kept where they are at most ``eps``.
    needed : (draws,) int64 array

    Examples
    --------
    >>> errors, needed = promise_errors(np.ones(50), 0.1, 0.1, 4, np.random.default_rng(0))
    >>> errors.max().item(), set(needed.tolist())
    (0.0, {4})
    """
    z = np.asarray(masses, dtype=float)
    if z.ndim != 1 or whole(pilot, "pilot", 2) > len(z):
        raise ValueError(f"masses must hold {pilot} blocks of the pilot or more, got {z.shape}")
    n = None if sums is None else np.asarray(sums, dtype=float)
    m = len(z)
    order = rng.random((whole(draws, "draws"), m)).argsort(axis=1)
    first = order[:, :pilot]
    deviation = relative_deviation(
        z[first],
        m,
        sums=None if n is None else n[first],
        sure_mass=sure_mass,
        sure_sum=sure_sum,
        of=of,
    )
    needed = blocks_needed(deviation, m, eps, delta, pilot)
    weight = np.zeros(order.shape)
    used = np.arange(m) < needed[:, None]
    np.put_along_axis(weight, order, np.where(used, m / needed[:, None], 0.0), axis=1)
    mass, true_mass = sure_mass + weight @ z, sure_mass + z.sum()
    if of == "mass":
        return np.abs(mass - true_mass) / true_mass, needed
    assert n is not None
    total, true_total = sure_sum + weight @ n, sure_sum + n.sum(axis=0)
    if of == "output":
        total, true_total = total / mass[:, None], true_total / true_mass
    gap = np.linalg.norm(total - true_total, axis=1)
    return gap / np.linalg.norm(true_total), needed


def _over(part: npt.ArrayLike, total: npt.ArrayLike) -> np.ndarray:
    """The quotient, 0 / 0 being 0."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(np.asarray(part) == 0, 0.0, np.divide(part, total))
