r"""Effects of switches that are tried in all combinations, and which of them are more than luck."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist, fmean, stdev
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from genopt_core.attention.blocks.quantiles import student_quantile, student_share
from genopt_core.checks import open_fraction, real, whole

__all__ = ["Interval", "effect_names", "half_normal", "student_interval", "student_p", "yates"]


def yates(values: npt.ArrayLike) -> np.ndarray:
    r"""Main effects and interactions of a full factorial (book, eq. one-effect).

    .. math:: E_S = \frac{2}{2^k} \sum_{x \in \{0,1\}^k} y_x \prod_{i \in S} (2 x_i - 1)

    An effect of one switch is the mean with it on minus that with it off; an interaction of two is
    half of how much the effect of one changes as the other goes on (book, eq. one-two).

    Parameters
    ----------
    values : array of shape (…, 2, 2, …, 2), or a row of 1
        Entry :math:`y_x` for the switches x, 0 off and 1 on: an axis of length 2 for each of the k
        switches.

    Returns
    -------
    float64 array of the same shape
        Entry :math:`E_S` where the indices are 1 for the switches in S; the first is twice the
        mean.

    Cost :math:`k\,2^k` additions.  Source: Yates 1937.

    Examples
    --------
    Two switches that save 1 and 3, and 2 less together:

    >>> yates([[10.0, 7.0], [9.0, 8.0]]).tolist()
    [[17.0, -2.0], [0.0, 1.0]]
    """
    y = np.asarray(values, dtype=float)
    if not y.ndim or set(y.shape) != {2}:
        raise ValueError(f"values must have an axis of length 2 for each switch, got {y.shape}")
    for axis in range(y.ndim):
        off, on = np.take(y, 0, axis), np.take(y, 1, axis)
        y = np.stack([off + on, on - off], axis)
    return y * 2 / y.size


def effect_names(factors: Sequence[str]) -> list[tuple[tuple[int, ...], str]]:
    """Index in `yates` and name of each effect, single ones first.

    >>> effect_names(["a", "b"])
    [((1, 0), 'a'), ((0, 1), 'b'), ((1, 1), 'a × b')]
    """
    every = list(np.ndindex(*(2,) * len(factors)))[1:]
    named = [
        (at, " × ".join(name for name, on in zip(factors, at, strict=True) if on)) for at in every
    ]
    return sorted(named, key=lambda pair: (sum(pair[0]), tuple(-i for i in pair[0])))


def half_normal(count: int) -> list[float]:
    r"""Where the sizes of so many effects of nothing would lie, least first (book, eq. one-half).

    .. math:: z_i = \Phi^{-1}\left(\tfrac12 + \frac{i - 1/2}{2m}\right), \qquad i = 1, \dots, m

    Sizes drawn from one normal distribution around 0 lie on a line through 0 over these.

    Source: Daniel 1959.

    >>> [round(z, 2) for z in half_normal(3)]
    [0.21, 0.67, 1.38]
    """
    m = whole(count, "count")
    return [NormalDist().inv_cdf(0.5 + (i - 0.5) / (2 * m)) for i in range(1, m + 1)]


def student_p(t: float, freedom: int) -> float:
    r"""Chance that Student's t is as far from 0 as this (book, eq. one-student).

    .. math:: p = 1 - \int_{-|t|}^{|t|} f_\nu(u)\,du

    with the density f of :math:`\nu` degrees of freedom, a whole number.

    >>> round(student_p(4.604, 4), 4)
    0.01
    """
    return max(0.0, 1 - student_share(t, freedom))


class Interval(NamedTuple):
    """A mean, half its interval and the p of its being 0; both NaN with a single value."""

    mean: float
    half: float
    p: float


def student_interval(values: Sequence[float], level: float = 0.95) -> Interval:
    r"""The mean of a few values with Student's interval (book, eq. one-student).

    .. math:: \bar y \pm t_{\nu}\,\frac{s}{\sqrt n}, \qquad t = \frac{\bar y}{s / \sqrt n},
              \qquad \nu = n - 1

    Values may be differences within seeds (book, eq. one-paired).  Those that are all the same have
    no width, and p is 0, or 1 where they are 0.

    Parameters
    ----------
    values : sequence of float
        One a seed.
    level : float
        Of the interval, in (0, 1).

    Examples
    --------
    >>> found = student_interval([1.0, 2.0, 3.0])
    >>> round(found.mean, 3), round(found.half, 3), round(found.p, 3)
    (2.0, 2.484, 0.074)
    """
    y = [real(v, "values") for v in values]
    if not y:
        raise ValueError("values must be at least one, got none")
    open_fraction(level, "level")
    mean, freedom = fmean(y), len(y) - 1
    if not freedom:
        return Interval(mean, math.nan, math.nan)
    error = stdev(y) / math.sqrt(len(y))
    if not error:
        return Interval(mean, 0.0, float(mean == 0))
    half = student_quantile((1 + level) / 2, freedom) * error
    return Interval(mean, half, student_p(mean / error, freedom))
