r"""The unit of word counts: occurrences, copies of a corpus, weights of a mixture.

Training asks whether something occurs once or twice, so it has to know what *once* is.
"""

import math
from collections.abc import Iterable

import numpy as np

NEAR = 1e-4
"""A remainder below this share of the unit is rounding: counts may be sums of rounded products."""
LEAST = 1e-11
"""Below this share of the largest count a common unit is no more than rounding."""


def common_unit(counts: Iterable[float]) -> float:
    """The largest number of which all counts are whole multiples, or else the smallest count.

    Of plain occurrences it is 1, whatever a corpus is multiplied by it goes along, and a mixture
    with weights .7 and .3 has .1.  Weights without a common measure leave the smallest count, and
    one count alone is taken as two: with nothing rarer beside it, a word is worth a piece.
    Multiples are told to four digits, so the last bits of products do not matter.

    >>> common_unit([5, 2, 6, 3]), common_unit([500, 200, 600, 300]), common_unit([2, math.pi])
    (1.0, 100.0, 2.0)
    >>> round(common_unit([0.7 * 3 + 0.3 * 1, 0.7, 0.3]), 12)
    0.1
    """
    values = np.fromiter(counts, dtype=np.float64)
    if len(values) == 1:
        return float(values[0]) / 2
    values = np.array(sorted(set(values.tolist())))
    if values[-1] <= 2**53 and (values == np.floor(values)).all():
        return float(np.gcd.reduce(values.astype(np.int64)))
    unit = float(values[0])
    for value in values.tolist():
        measure, rest = unit, abs(math.remainder(value, unit))
        while rest > NEAR * measure:  # Euclid's algorithm
            measure, rest = rest, abs(math.remainder(measure, rest))
        if measure < LEAST * values[-1]:
            return float(values[0])
        unit = value / round(value / measure)  # a larger multiple tells the unit more exactly
    multiple = values / unit
    return unit if (abs(multiple - np.round(multiple)) < NEAR).all() else float(values[0])


def in_units(counts: dict[str, float], unit: float) -> dict[str, float]:
    """Counts divided by a `common_unit`; whole numbers again if they are multiples of it.

    >>> in_units({"low": 0.07, "lower": 0.02}, 0.01)
    {'low': 7.0, 'lower': 2.0}
    """
    multiple = np.fromiter(counts.values(), dtype=np.float64) / unit
    if (abs(multiple - np.round(multiple)) < NEAR).all():
        multiple = np.round(multiple)
    return dict(zip(counts, multiple.tolist(), strict=True))
