"""Quantiles and intervals that promises are made and judged with, without SciPy."""

import math
from statistics import NormalDist

from genopt_core.checks import open_fraction, real, whole

__all__ = ["student_quantile", "student_share", "wilson_interval"]


def student_quantile(probability: float, freedom: int) -> float:
    r"""Below which Student's t with so many degrees of freedom lies with a probability.

    Exact for whole degrees of freedom, whose distribution function is a finite sum.

    Examples
    --------
    >>> round(student_quantile(0.975, 3), 4), round(student_quantile(0.975, 1000), 4)
    (3.1824, 1.9623)
    """
    p, nu = open_fraction(probability, "probability"), whole(freedom, "freedom")
    if p < 0.5:
        return -student_quantile(1 - p, nu)
    low, high = 0.0, math.pi / 2
    for _ in range(60):  # of the angle whose tangent is t / sqrt(nu)
        angle = (low + high) / 2
        low, high = (angle, high) if _share_within(angle, nu) < 2 * p - 1 else (low, angle)
    return math.sqrt(nu) * math.tan((low + high) / 2)


def student_share(t: float, freedom: int) -> float:
    r"""Probability that Student's t is at most so far from 0, on either side.

    .. math:: \int_{-|t|}^{|t|} f_\nu(u)\,du

    Exact for a whole number of degrees of freedom :math:`\nu`.

    Source: Abramowitz and Stegun, 1964, 26.7.3 and 26.7.4.

    Examples
    --------
    >>> round(student_share(3.1824, 3), 4)
    0.95
    """
    nu = whole(freedom, "freedom")
    return _share_within(math.atan(abs(real(t, "t")) / math.sqrt(nu)), nu)


def _share_within(angle: float, nu: int) -> float:
    """Probability of the values up to that angle on either side."""
    c, s = math.cos(angle) ** 2, math.sin(angle)
    term, total = (1.0, 1.0) if nu % 2 == 0 else (math.cos(angle), math.cos(angle))
    for i in range(2 if nu % 2 == 0 else 3, nu - 1, 2):
        term *= c * (i - 1) / i
        total += term
        if term < 1e-17 * total:
            break
    if nu % 2 == 0:
        return s * total
    return 2 / math.pi * (angle + (s * total if nu > 1 else 0.0))


def wilson_interval(kept: int, trials: int, delta: float = 0.05) -> tuple[float, float]:
    r"""The least and the greatest likely probability if so many trials came out: Wilson's interval.

    .. math:: \frac{\hat p + \frac{z^2}{2n} \pm z \sqrt{\frac{\hat p (1 - \hat p)}{n} +
              \frac{z^2}{4 n^2}}}{1 + z^2 / n}, \qquad z = \Phi^{-1}(1 - \delta/2)

    Source: E. Wilson, 1927.

    Examples
    --------
    >>> [round(x, 4) for x in wilson_interval(95, 100)]
    [0.8882, 0.9785]
    """
    n, x = whole(trials, "trials"), whole(kept, "kept", 0)
    if x > n:
        raise ValueError(f"kept must be at most the trials, {n}, got {kept!r}")
    z = NormalDist().inv_cdf(1 - open_fraction(delta, "delta") / 2)
    center, half = x / n + z * z / (2 * n), z * math.sqrt(x * (n - x) / n**3 + (z / (2 * n)) ** 2)
    size = 1 + z * z / n
    return max((center - half) / size, 0.0), min((center + half) / size, 1.0)
