r"""Checkers of the exercises that need Python: they name the constraint that an answer breaks.

>>> from math import comb
>>> check("count-the-ways", lambda n, t: comb(n - 1, t - 1))
count-the-ways: right, 4 constraints hold
>>> check("count-the-ways", lambda n, t: comb(n, t))
count-the-ways: not yet. Constraint: there is one way to leave a word whole. Found: ways(2, 1) = 2

A right answer passes; an answer that passes can still be wrong, where nobody thought of asking.
"""

from typing import Any

from genopt_core.checks import one_of
from genopt_core.exercises import attention, cross_entropy, kvcache, one_model, positions, subwords
from genopt_core.exercises.verdict import AnswerError, Checker, Constraint, Verdict

__all__ = ["Constraint", "Verdict", "check", "names"]

_CHECKERS: dict[str, Checker] = {
    "count-the-ways": subwords.count_the_ways,
    "likelihood-and-length": subwords.likelihood_and_length,
    "the-gap-on-a-small-corpus": subwords.the_gap_on_a_small_corpus,
    "without-weights": cross_entropy.without_weights,
    "the-floor": cross_entropy.the_floor,
    "when-a-power-law-dilutes": positions.when_a_power_law_dilutes,
    "how-far-is-far-enough": positions.how_far_is_far_enough,
    "what-the-other-laws-cost": attention.what_the_other_laws_cost,
    "attention-in-columns": attention.attention_in_columns,
    "weights-that-explode": attention.weights_that_explode,
    "one-large-round-or-many-small-ones": attention.one_large_round_or_many_small_ones,
    "how-long-is-long": kvcache.how_long_is_long,
    "stairs-for-a-power-law": kvcache.stairs_for_a_power_law,
    "a-tight-bound": kvcache.a_tight_bound,
    "how-many-seeds": one_model.how_many_seeds,
    "bits-that-cannot-matter": one_model.bits_that_cannot_matter,
    "the-other-segmentations": one_model.the_other_segmentations,
}


def names() -> tuple[str, ...]:
    """The exercises that `check` knows, in the order of the book.

    >>> names()[0]
    'count-the-ways'
    """
    return tuple(_CHECKERS)


def check(exercise: str, answer: Any) -> Verdict:
    r"""What is right or wrong about an ``answer``.

    Parameters
    ----------
    exercise : str
        One of `names`: the exercise's title in lower case, with hyphens.
    answer : object
        In the form that the exercise asks for: a function, a number or a dictionary.

    Returns
    -------
    Verdict
        True if every constraint holds.  Printed, it says which one does not, and on which input.

    Examples
    --------
    >>> bool(check("how-long-is-long", 3344))
    True
    >>> check("how-many-seeds", {"paired": 7, "unpaired": 79}).constraints[-1].seen
    'p = 0.0163 with 7'
    """
    checker = _CHECKERS[one_of(exercise, "exercise", _CHECKERS)]
    found: list[Constraint] = []
    try:
        for constraint in checker(answer):
            found.append(constraint)
            if not constraint.holds:
                break
    except (AnswerError, ArithmeticError, IndexError, TypeError, ValueError) as problem:
        found.append(Constraint("the answer has the form that is asked for", False, str(problem)))
    return Verdict(exercise, tuple(found))
