"""Checkers of chapter 3; the exercises say which form an answer has."""

from collections.abc import Iterator
from typing import Any

from genopt_core import positions
from genopt_core.exercises.verdict import Constraint, called


def when_a_power_law_dilutes(answer: Any) -> Iterator[Constraint]:
    """A function of m: the power of the length with which the effective context grows."""
    for text, slopes in (
        ("below one half it grows in proportion to the length", (0.1, 0.3, 0.45)),
        ("between one half and one it grows more slowly", (0.6, 0.75, 0.9)),
        ("above one it does not grow", (1.2, 2.0)),
    ):
        seen = ""
        for m in slopes:
            power = called(answer, m, shown=f"power({m})")
            right = 1.0 if m < 0.5 else max(0.0, 2 - 2 * m)
            if not abs(power - right) <= 1e-9:  # NaN is wrong
                seen = f"power({m}) = {power:g}"
                break
        yield Constraint(text, not seen, seen)


def how_far_is_far_enough(answer: Any) -> Iterator[Constraint]:
    """A function of m, c and ε: the distance from which on at most ε is lost."""

    def distance(m: float, c: float, eps: float) -> float:
        return float(called(answer, m, c, eps, shown=f"distance({m:g}, {c:g}, {eps:g})"))

    seen = ""
    for m in (1 / 4, 1 / 32):
        table = positions.bias_by_distance([m], 8192)
        for c, eps in ((1.0, 1e-2), (1.0, 1e-5), (8.0, 1e-2)):
            found = int(positions.skippable(table, c, 1.0, 1, eps)[0])
            said = distance(m, c, eps)
            if not seen and not found - 1 - 1e-6 <= said <= found + 1e-6:
                seen = f"distance({m:g}, {c:g}, {eps:g}) = {said:.1f}; `skippable` says {found}"
    ratio = distance(1 / 64, 4.0, 1e-3) / distance(1 / 32, 4.0, 1e-3)
    yield Constraint("it is in proportion to 1/m", abs(ratio - 2) < 1e-6, f"{ratio:.3f}, not 2")
    yield Constraint("rounded up, it is what `skippable` says", not seen, seen)
