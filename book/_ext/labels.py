"""API pages: what docstrings say, and nothing that no reader needs.

Labels of formulas lead there: "(book, eq. swe-cost)".  Fields of named tuples, which the docstring
of their class tells, are not listed again as "Alias for field number 0".
"""

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


def without_aliases(app, what, name, obj, skip, options) -> bool | None:
    alias = (getattr(obj, "__doc__", None) or "").startswith("Alias for field number")
    return True if alias else None
