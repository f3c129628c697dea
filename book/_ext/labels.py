"""On API pages, labels of formulas in docstrings lead there: "(book, eq. swe-cost)"."""

from __future__ import annotations

import re

LABEL = re.compile(r"\beq\.(\s+)([a-z0-9]+(?:-[a-z0-9]+)+)")


def linked(text: str) -> str:
    """``text`` of a docstring with labels as references.

    >>> linked("(book, eq. swe-tradeoff and eq. swe-dual)")
    '(book, eq. :eq:`swe-tradeoff` and eq. :eq:`swe-dual`)'
    """
    return LABEL.sub(r"eq.\1:eq:`\2`", text)


def link(app, what, name, obj, options, lines: list[str]) -> None:
    lines[:] = linked("\n".join(lines)).split("\n")
