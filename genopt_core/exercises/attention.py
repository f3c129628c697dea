"""Checkers of chapter 4; the exercises say which form an answer has."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from genopt_core.attention import blocks
from genopt_core.exercises.verdict import AnswerError, Constraint, called, parts


def what_the_other_laws_cost(answer: Any) -> Iterator[Constraint]:
    """Two functions, of T and γ and of T and π."""
    geometric, uniform = parts(answer, "geometric", "uniform")
    for name, function, shares in (
        ("geometric", geometric, (0.5, 0.8, 0.95)),
        ("uniform", uniform, (0.0, 0.1, 1.0)),
    ):
        seen = ""
        for count in (1, 2, 16, 64):
            delta = np.arange(count)
            for share in shares:
                law = share**delta if name == "geometric" else np.where(delta > 0, share, 1.0)
                right = blocks.expected_blocks(law)
                call = f"{name}({count}, {share})"
                said = float(called(function, count, share, shown=call))
                if not seen and not abs(said - right) <= 1e-8 * right:  # NaN is wrong
                    seen = f"{call} = {said:.3f}, and `expected_blocks` says {right:.3f}"
        yield Constraint(f"the {name} law costs what `expected_blocks` says", not seen, seen)


def attention_in_columns(answer: Any) -> Iterator[Constraint]:
    """Queries, keys, values and output, (blocks, tokens of a block, channels), and distances."""
    names = ("q", "k", "v", "out", "distances")
    *arrays, distances = parts(answer, *names)
    q, k, v, out = (np.asarray(array, dtype=float) for array in arrays)
    if q.ndim != 3 or not q.shape == k.shape == v.shape == out.shape:
        raise AnswerError(f"shapes {q.shape}, {k.shape}, {v.shape} and {out.shape}")
    count, size, channels = q.shape
    far = sorted(set(distances) - {0})
    if 0 not in distances or not far or far[-1] >= count:
        raise AnswerError(f"the distances {distances} for {count} blocks; 0 and another are wanted")
    keep = blocks.by_distance(np.isin(np.arange(count), distances))
    flat = (x.reshape(count * size, channels) for x in (q, k, v))
    right = blocks.tiled_attention(next(flat), next(flat), next(flat), keep, size)[0]
    same = np.isclose(out, right.reshape(out.shape)).all(axis=2)
    for text, rows in (
        ("within the diagonal no query sees a later key", range(far[0])),
        ("whole blocks are seen without a mask, and merged", range(far[0], count)),
    ):
        wrong = [(i, t) for i in rows for t in range(size) if not same[i, t]]
        seen = "".join(f"token {t} of block {i} differs" for i, t in wrong[:1])
        yield Constraint(text, not wrong, seen)


def weights_that_explode(answer: Any) -> Iterator[Constraint]:
    """The standard deviation by law."""
    delta = np.arange(1, 32)
    half = 0.5**delta
    laws = {
        "uniform": np.ones(31),
        "harmonic": 1 / (1 + delta),
        "geometric": half,
        "mixed": 0.8 * half / half.sum() + 0.2 / 31,
    }
    for (name, weights), said in zip(laws.items(), parts(answer, *laws), strict=True):
        pi = blocks.inclusion(weights, 7)
        right = float(np.sqrt(np.sum((1 - pi) / pi)) / 32)
        square = abs(said - right**2) < 0.02 * right**2
        seen = f"{name}: {said:.4g}" + (", which is the variance" if square else "")
        text = f"seven blocks on the mean, each of mass 1/32, by the {name} law"
        yield Constraint(text, abs(said - right) < 0.02 * right, seen)


def one_large_round_or_many_small_ones(answer: Any) -> Iterator[Constraint]:
    """The mean error by the size of a round: 16, 8 and 4."""
    if not isinstance(answer, dict) or set(answer) != {16, 8, 4}:
        raise AnswerError("no dictionary with the rounds of 16, 8 and 4 blocks")
    error = {size: float(answer[size]) for size in (16, 8, 4)}
    for size in error:
        seen = f"{error[size]:.4f} for rounds of {size}"
        yield Constraint("errors are shares of the output", 0 < error[size] < 1, seen)
    for large, small in ((16, 8), (8, 4)):
        seen = f"{error[large]:.4f} for rounds of {large}, {error[small]:.4f} for rounds of {small}"
        text = "within a round nothing is drawn twice, so larger rounds err less"
        yield Constraint(text, error[large] < error[small], seen)
