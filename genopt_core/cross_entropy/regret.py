r"""How far a configuration is from the best one, in units that suit every problem."""


def normalised_regret(value: float, best: float, median: float) -> float:
    r"""The regret of a configuration: 0 at the optimum, 1 at the median of uniform draws.

    .. math:: r(x) = \frac{S(x) - S^*}{\operatorname{median}_{z\sim u} S(z) - S^*}

    (book, eq. race-regret), with S to be minimized.  ``value`` is S(x), of the best *observed*
    configuration its true value; it may be below ``best`` by no more than rounding, and ``median``
    must be above.

    >>> normalised_regret(3.0, best=1.0, median=5.0)
    0.5
    """
    if not median > best:
        raise ValueError(f"median must be above best = {best}, got {median}")
    if value < best - 1e-9 * max(1.0, abs(best)):
        raise ValueError(f"value must be at least best = {best}, got {value}")
    return (value - best) / (median - best)
