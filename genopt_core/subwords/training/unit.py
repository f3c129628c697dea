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
DIGITS = 9
"""Behind the point, of counts that have no measure."""
CROWD = 64
"""Words below twice the smallest count from which on the gaps between their counts tell something.
"""


def common_unit(counts: Iterable[float]) -> float:
    """What one occurrence counts: the measure of all counts, or else the smallest count.

    The measure is the largest number of which all are whole multiples.  Of plain occurrences it is
    1, and whatever a corpus is multiplied by it goes along.  Weights without a measure leave the
    smallest count, and so do those of a mixture, such as .5 and .51, whose measure of .01 nothing
    occurs by: between the smallest count and twice that many words have few different counts, where
    plain occurrences, even of a list that is cut off below, lie on nearly all multiples.  One count
    alone is taken as two: with nothing rarer beside it, a word is worth a piece.  Multiples are
    told to four digits, so the last bits of products do not matter.

    >>> common_unit([5, 2, 6, 3]), common_unit([500, 200, 600, 300]), common_unit([2, math.pi])
    (1.0, 100.0, 2.0)
    >>> common_unit([50, 51] * 400 + [101, 150])
    50.0
    """
    every = np.fromiter(counts, dtype=np.float64)
    if len(every) == 1:
        return float(every[0]) / 2
    values = np.array(sorted(set(every.tolist())))
    measure, least = _measure(values), float(values[0])
    multiples = round(least / measure)
    rare, taken = (int((x < 2 * least - NEAR * measure).sum()) for x in (every, values))
    expected = -multiples * math.expm1(-rare / multiples)  # if they fell on any of the multiples
    few = 2 * taken < expected and taken**2 < rare  # a mixture has as few as it has weights
    return least if rare >= CROWD and few else measure


def _measure(values: np.ndarray) -> float:
    """The largest number of which all values are multiples, or the smallest of them.

    They are different and rise.
    """
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

    Equal counts stay equal: where a measure is finer than the unit, it is counted in measures.

    >>> in_units({"low": 0.07, "lower": 0.02}, 0.01)
    {'low': 7.0, 'lower': 2.0}
    """
    values = np.fromiter(counts.values(), dtype=np.float64)
    multiple = values / unit
    if (abs(multiple - np.round(multiple)) < NEAR).all():
        multiple = np.round(multiple)
    elif (measure := _measure(np.array(sorted(set(values.tolist()))))) < unit:
        multiple = np.round(values / measure) / round(unit / measure)
    elif unit != 1:
        multiple = np.round(multiple, DIGITS)  # ties would go by the last bits of the division
    return dict(zip(counts, multiple.tolist(), strict=True))
