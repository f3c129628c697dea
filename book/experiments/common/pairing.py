"""Statistics of runs that belong together by seed, by problem or by text.

The rule for intervals and medians is that of the pages, `genopt_core.explorers.reports`: Student's
95 % interval of a mean, the middle value or the mean of the two middle ones.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
from scipy.stats import binomtest

from genopt_core.explorers.reports import half_interval

Key = TypeVar("Key")


def paired(ours: Mapping[Key, float], other: Mapping[Key, float]) -> list[float]:
    """Differences, ours minus the other's, of the keys that both have, in their order."""
    return [ours[key] - other[key] for key in sorted(ours.keys() & other.keys())]  # type: ignore[type-var]


def interval(values: Sequence[float]) -> tuple[float, float | None, float | None]:
    """Mean, standard deviation and half the interval of the mean, None for a single value."""
    mean = statistics.fmean(values)
    if len(values) < 2:
        return mean, None, None
    deviation = statistics.stdev(values)
    return mean, deviation, half_interval(deviation / len(values) ** 0.5, len(values))


def spread(values: Sequence[float], digits: int = 4) -> list[float]:
    """Median, smallest and largest, to so many significant digits."""
    found = (statistics.median(values), min(values), max(values))
    return [float(f"{x:.{digits}g}") for x in found]


def sign_test(wins: int, losses: int) -> float:
    """Two-sided probability of a split at least as uneven among wins + losses fair coins."""
    return float(binomtest(wins, wins + losses).pvalue) if wins + losses else 1.0


def holm(p: Sequence[float]) -> list[float]:
    """Holm's step-down correction."""
    order = np.argsort(p, kind="stable")
    found, worst = [0.0] * len(p), 0.0
    for rank, i in enumerate(order):
        worst = max(worst, min(1.0, (len(p) - rank) * p[i]))
        found[i] = worst
    return found


def compared(
    values: Mapping[str, Mapping[Any, float]], references: Sequence[str], digits: int = 5
) -> dict[str, dict[str, Any]]:
    """Mean, deviation and interval of each method, and of its differences to the references.

    ``values`` are by method, then by what pairs them, for example the seed.
    """

    def short(value: float | None) -> float | None:
        return None if value is None else round(value, digits)

    found = {}
    for name, mine in values.items():
        mean, deviation, half = interval(list(mine.values()))
        entry: dict[str, Any] = {
            "seeds": sorted(mine),
            "mean": short(mean),
            "sd": short(deviation),
            "half_interval": short(half),
        }
        for reference in references:
            other = values.get(reference, {})
            if reference == name or not (gains := paired(mine, other)):
                continue
            mean, _, half = interval(gains)
            base = statistics.fmean(other[key] for key in mine.keys() & other.keys())
            entry[f"minus_{reference}"] = {
                "mean": short(mean),
                "half_interval": short(half),
                "percent": round(100 * mean / base, 3),
            }
        found[name] = entry
    return found
