"""Checkers of chapter 5; the exercises say which form an answer has."""

from collections.abc import Iterator
from math import log2
from typing import Any

import numpy as np

from genopt_core import kvcache
from genopt_core.exercises.verdict import AnswerError, Constraint, called, parts

LONGEST = 6000


def how_long_is_long(answer: Any) -> Iterator[Constraint]:
    """The length from which on the ratio stays below 1.1."""
    if not isinstance(answer, (int, np.integer)) or not 300 < answer < LONGEST:
        raise AnswerError(f"{answer!r} where a whole number between 300 and {LONGEST} is wanted")

    def ratio(length: int) -> float:
        stairs = kvcache.cache_bits(length, (16, 8, 4, 2), 128, metadata=1.0)
        return float(stairs / kvcache.cache_bits(length, (16, 2), 128, metadata=1.0))

    length = int(answer)
    seen = f"a ratio of {ratio(length):.4f} at {length}"
    yield Constraint("there it is at most 10 % more", ratio(length) <= 1.1, seen)
    above = next((n for n in range(length, LONGEST) if ratio(n) > 1.1), None)
    seen = f"{ratio(above):.4f} at {above}, where a chunk has just closed" if above else ""
    yield Constraint("it stays so for every greater length", above is None, seen)
    seen = f"{ratio(length - 1):.4f} at {length - 1}"
    yield Constraint("one token fewer is too short", ratio(length - 1) > 1.1, seen)


def stairs_for_a_power_law(answer: Any) -> Iterator[Constraint]:
    """A function of A and p: the age at which the ideal width is one bit above that at A."""
    for text, wanted in (
        ("for p = 1 the stairs double", 1.0),
        ("a steeper law has shorter stairs", 2.0),
        ("a flatter law has longer stairs", 0.5),
    ):
        said = float(called(answer, 64.0, wanted, shown=f"age(64, {wanted:g})"))
        bits = wanted * log2(64 / said) if said > 0 else float("nan")
        seen = f"age(64, {wanted:g}) = {said:.2f}, where the ideal width is {bits:.2f} bits above"
        yield Constraint(text, abs(bits - 1) < 1e-6, seen)


def a_tight_bound(answer: Any) -> Iterator[Constraint]:
    """Keys, (tokens, channels), a query, and for each key the error of its score and the bound."""
    given = parts(answer, "keys", "query", "errors", "bounds")
    keys, query, errors, bounds = (np.asarray(array, dtype=float) for array in given)
    if keys.ndim != 2 or len(keys) % 32 or not errors.shape == bounds.shape == keys.shape[:1]:
        raise AnswerError(f"shapes {keys.shape}, {errors.shape} and {bounds.shape}")
    codes, step, low = kvcache.quantize_groups(keys, 4, 32)
    right = (kvcache.dequantize_groups(codes, step, low) - keys) @ query / keys.shape[1] ** 0.5
    apart = np.abs(np.abs(errors) - np.abs(right))
    far = int(apart.argmax())
    seen = f"{abs(errors[far]):.4f} for key {far}, and it is {abs(right[far]):.4f}"
    same = apart[far] < 1e-3 * np.abs(right).max()
    yield Constraint("4 bits, groups of 32 tokens, scores over √d", same, seen)
    over = int((np.abs(right) - bounds).argmax())
    seen = f"the error of key {over} is {abs(right[over]):.4f}, its bound {bounds[over]:.4f}"
    yield Constraint("the bound holds for every key", abs(right[over]) <= bounds[over], seen)
    tight = kvcache.score_bound(query, step.T[np.arange(len(keys)) // 32])
    seen = f"{bounds.mean():.4f} on average, and {tight.mean():.4f} by the page"
    yield Constraint("it is the bound of the page", np.allclose(bounds, tight, rtol=1e-3), seen)
