"""What a checker finds: the first constraint that an answer breaks, and on which input."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple


class Constraint(NamedTuple):
    """One thing that a right answer does, and whether this one did.

    >>> Constraint("it is even", False, "3").holds
    False
    """

    text: str
    holds: bool
    seen: str = ""
    """On which input, and what came out."""


class Verdict(NamedTuple):
    """What `check` found; true if every constraint holds, and printed as a sentence.

    ``constraints`` end at the first that does not hold.

    >>> Verdict("two", (Constraint("it is even", False, "3"),))
    two: not yet. Constraint: it is even. Found: 3
    """

    exercise: str
    constraints: tuple[Constraint, ...]

    def __bool__(self) -> bool:
        return all(constraint.holds for constraint in self.constraints)

    def __repr__(self) -> str:
        if self:
            return f"{self.exercise}: right, {len(self.constraints)} constraints hold"
        last = self.constraints[-1]
        return f"{self.exercise}: not yet. Constraint: {last.text}. Found: {last.seen}"


Checker = Callable[[Any], Iterator[Constraint]]


class AnswerError(Exception):
    """The answer could not be asked: it is no function, or raised, or has another form."""


def called(answer: Any, *arguments: Any, shown: str) -> Any:
    """``answer(*arguments)``; what stops it becomes a broken constraint that names ``shown``."""
    if not callable(answer):
        raise AnswerError(f"a {type(answer).__name__} where a function is wanted")
    try:
        return answer(*arguments)
    except Exception as problem:
        raise AnswerError(f"{shown} raised {type(problem).__name__}: {problem}") from problem


def parts(answer: Any, *names: str) -> list[Any]:
    """The values of the dictionary ``answer`` under these ``names``."""
    if not isinstance(answer, dict) or set(answer) != set(names):
        keys = list(answer) if isinstance(answer, dict) else type(answer).__name__
        raise AnswerError(f"{keys} where a dictionary with {', '.join(names)} is wanted")
    return [answer[name] for name in names]
