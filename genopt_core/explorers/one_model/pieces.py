"""Tokens of the model as readers see them: in boxes, in quotation marks."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from genopt_core.figures import schema as figure
from genopt_core.figures.schema import Axis, Panel

NAMES = {"\n": "↵", "\t": "⇥"}


def written(piece: str) -> str:
    """A token as it stands in a box: a line feed as an arrow, a byte by its number.

    >>> written("low▁"), written("\\n"), written("<0xC3>")
    ('low▁', '↵', 'C3')
    """
    if piece.startswith("<0x") and len(piece) == 6:
        return piece[3:5]
    return "".join(NAMES.get(letter, letter) for letter in piece)


def quoted(piece: str) -> str:
    """A token in a sentence or on an axis.

    >>> quoted("low▁")
    '“low▁”'
    """
    return f"“{written(piece)}”"


def lines_of(pieces: Sequence[str], letters: int) -> tuple[list[float], list[float], list[int]]:
    """Left and right edge and row of each piece, in rows of so many letters.

    >>> lines_of(["low", "er▁", "newest▁"], 10)
    ([0.0, 4.5, 0.0], [4.5, 9.0, 8.5], [0, 0, 1])
    """
    left, right, rows = [], [], []
    at, row = 0.0, 0
    for piece in pieces:
        wide = len(piece) + 1.5  # room for the border
        if at and at + wide > letters:
            at, row = 0.0, row + 1
        left.append(round(at, 1))
        at = round(at + wide, 1)
        right.append(at)
        rows.append(row)
    return left, right, rows


def rounded_up(probability: float) -> float:
    """The end of an axis for bars up to this probability.

    >>> rounded_up(0.2), rounded_up(0.03), rounded_up(0.9)
    (0.25, 0.05, 1.0)
    """
    return next(end for end in (0.05, 0.1, 0.25, 0.5, 1.0) if probability <= end or end == 1.0)


def likeliest(
    tokens: Sequence[str], two: Mapping[str, np.ndarray], shown: int, **more: Any
) -> Panel:
    """The next tokens that either of two distributions finds likeliest, as bars side by side."""
    p, q = two.values()
    top = np.argsort(-np.maximum(p, q), kind="stable")[:shown]
    names = [quoted(tokens[i]) for i in top]
    return Panel(
        [
            figure.bar(
                [*p[top], *q[top]],
                [*names, *names],
                z=[name for name in two for _ in names],
                horizontal=True,
            )
        ],
        x=Axis("probability", domain=(0, rounded_up(max(p[top].max(), q[top].max())))),
        y=Axis(type="band", domain=names),
        **more,
    )
