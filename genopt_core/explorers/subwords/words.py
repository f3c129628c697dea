"""What figures of chapter 1 share: the reader's words, and the vocabularies that cut them."""

import unicodedata
from functools import cache

from genopt_core.corpora import END_OF_WORD
from genopt_core.figures.controls import Choice, Slider
from genopt_core.tables import STORED_SIZES, stored_costs

MOST_PIECES = 8

SIZE = Choice(
    "size",
    "Vocabulary",
    {size: f"{size:,} sub-words" for size in STORED_SIZES},
    start=2000,
    help="Characters and the most frequent substrings of the State of the Union addresses.",
)
LIMIT = Slider(
    "k",
    "Most sub-words k",
    1,
    MOST_PIECES,
    4,
    help="A word may be cut into at most this many sub-words.",
    role="accent",
)


@cache
def costs_of(size: int) -> dict[str, float]:
    """Cost in nats of each piece of a stored vocabulary; shared, not to be written to."""
    return stored_costs(size)


def typed_words(text: str, name: str) -> list[str]:
    """What the reader typed, in the textbook convention: small letters, end-of-word symbol."""
    small = unicodedata.normalize("NFC", text.lower()).replace(END_OF_WORD, " ")
    words = [word + END_OF_WORD for word in small.split()]
    if not words:
        raise ValueError(f"{name} needs at least one character besides blanks")
    return words
