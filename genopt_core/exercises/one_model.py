"""Checkers of chapter 6; the exercises say which form an answer has."""

from collections.abc import Iterator
from typing import Any, cast

import numpy as np

from genopt_core import one_model, positions, subwords
from genopt_core.exercises.verdict import AnswerError, Constraint, called, parts
from genopt_core.one_model.factorial import student_p
from genopt_core.one_model.stored import stored_model


def how_many_seeds(answer: Any) -> Iterator[Constraint]:
    """Seeds, as paired and as unpaired."""
    given = [int(n) for n in parts(answer, "paired", "unpaired")]

    def p(kind: str, n: int) -> float:
        if kind == "paired":
            return float(student_p(0.005 * n**0.5 / 0.004, n - 1))
        return float(student_p(0.005 / (0.012 * (2 / n) ** 0.5), 2 * n - 2))

    for kind, n in zip(("paired", "unpaired"), given, strict=True):
        if n < 3:
            raise AnswerError(f"{n} {kind} seeds; p needs three")
        seen = f"p = {p(kind, n):.4f} with {n}"
        yield Constraint(f"this many {kind} seeds give p < 0.01", p(kind, n) < 0.01, seen)
        seen = f"p = {p(kind, n - 1):.4f} with {n - 1}"
        yield Constraint(f"one {kind} seed fewer does not", p(kind, n - 1) >= 0.01, seen)


def bits_that_cannot_matter(answer: Any) -> Iterator[Constraint]:
    """A function of m, c and S: a bound on the weight of all keys S or more tokens back."""
    seen = ""
    for m in (0.05, 1.04, 4.25):
        table = positions.bias_by_distance(np.array([m]), 512)
        for c, far in ((4.0, 32), (1.0, 32), (4.0, 8)):
            call = f"weight({m}, {c:g}, {far})"
            said = float(called(answer, m, c, far, shown=call))
            right = float(positions.tail_bound(table, c, 1.0, 1)[0, far])
            if not seen and not abs(said - right) <= 1e-3 * right:
                seen = f"{call} = {said:.3g}, and Theorem 3.1 says {right:.3g}"
            yield Constraint("a weight lies between 0 and 1", 0 <= said <= 1, f"{call} = {said:g}")
    yield Constraint("it is the bound of Theorem 3.1 in a text of 512 tokens", not seen, seen)


def the_other_segmentations(answer: Any) -> Iterator[Constraint]:
    """By word: its bits as the tokenizer cuts it, and by its 60 cheapest segmentations."""
    if not isinstance(answer, dict) or not answer:
        raise AnswerError("no dictionary of words")
    stored = stored_model()
    tokenizer = cast(subwords.Vocabulary, stored.tokenizer)
    start = tokenizer.encode("The ").tolist()
    number = {token: i for i, token in enumerate(tokenizer.tokens)}
    for word, pair in answer.items():
        try:
            own, total = map(float, pair)
        except (TypeError, ValueError) as problem:
            raise AnswerError(f"no pair of numbers for {word!r}") from problem
        if not str(word).endswith("▁") or not set(str(word)) <= set(number):
            raise AnswerError(f"{word!r} is no word that ends on ▁")
        seen = f"{own:.3f} and {total:.3f} bits for {word!r}"
        yield Constraint("all segmentations are likelier than one", total <= own + 1e-6, seen)
        bits = []
        for path in tokenizer.n_best(word, 60):
            ids = [number[piece] for piece in path.pieces]
            logits = stored.model.logits([*start, *ids])[len(start) - 1 : -1]
            chances = one_model.next_probabilities(logits)
            bits.append(-np.log2(chances[np.arange(len(ids)), ids]).sum())
        right = -np.log2(np.exp2(-np.array(bits)).sum())
        for text, said, wanted in (
            ("the tokenizer's own follows “The ”", own, bits[0]),
            ("probabilities add up, not bits", total, right),
        ):
            seen = f"{said:.3f} bits for {word!r}, and it is {wanted:.3f}"
            yield Constraint(text, abs(said - wanted) < 1e-2 * wanted, seen)
