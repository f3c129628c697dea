"""The scoreboard: every comparison with a method of others, from the stored results."""

from functools import cache

from scoreboard import attention, kvcache, positions, search, whole, words
from scoreboard.comparison import Cell, Comparison

__all__ = ["Cell", "Comparison", "comparisons"]

CHAPTERS = (words, search, positions, attention, kvcache, whole)


@cache
def comparisons() -> tuple[Comparison, ...]:
    """All rows, chapter by chapter."""
    return tuple(row for chapter in CHAPTERS for row in chapter.rows())
