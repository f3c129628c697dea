"""Controls that several figures of chapter 5 have: a ladder, and the sinks."""

from collections.abc import Iterable, Sequence

from genopt_core.figures.controls import Choice
from genopt_core.kvcache import format_ladder


def ladder_choice(
    name: str, label: str, ladders: Iterable[Sequence[int]], start: str, help: str, role: str = ""
) -> Choice:
    """One of ``ladders``, each written as in the book: 16/8/4/2."""
    names = [format_ladder(ladder) for ladder in ladders]
    return Choice(name, label, names, start, help=help, role=role)


def sink_choice(start: int) -> Choice:
    """How many tokens at the beginning stay in full precision."""
    return Choice(
        "sink",
        "Sinks",
        {0: "none", 4: "first 4 tokens"},
        start=start,
        help="Tokens at the very beginning that are kept in full precision.",
    )
