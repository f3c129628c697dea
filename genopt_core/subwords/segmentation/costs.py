"""What a piece costs, in nats, and what words, counts and costs may be."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping

import numpy as np

from genopt_core.checks import whole
from genopt_core.corpora import check_text


def piece_costs(probabilities: Mapping[str, float]) -> dict[str, float]:
    r"""Cost of every piece in nats, the negative logarithm of its probability.

    .. math:: c_s = -\ln p(s)

    The arc costs of (book, eq. swe-cost).  Probabilities are each in 0..1, together at most 1; a
    piece of probability 0 gets an infinite cost, so it is in no lattice.

    >>> costs = piece_costs({"low▁": 0.5, "e": 0.25, "r▁": 0.25})
    >>> round(costs["low▁"], 4), round(costs["e"], 4)
    (0.6931, 1.3863)
    """
    check_pieces(probabilities, "probabilities")
    for piece, p in probabilities.items():
        if not 0 <= p <= 1:  # NaN fails too
            raise ValueError(f"probabilities[{piece!r}] must be in 0..1, got {p!r}")
    total = math.fsum(probabilities.values())
    if total > 1 + 1e-6:
        raise ValueError(f"probabilities must sum to at most 1, they sum to {total:.6g}")
    return {piece: -math.log(p) if p > 0 else math.inf for piece, p in probabilities.items()}


def check_pieces(vocabulary: Mapping[str, float], name: str) -> None:
    """Refuse anything but a non-empty mapping whose keys are non-empty strings."""
    if not isinstance(vocabulary, Mapping):
        raise TypeError(
            f"{name} must be a mapping from piece to number, got {type(vocabulary).__name__}"
        )
    if not vocabulary:
        raise ValueError(f"{name} is empty; it needs at least one piece")
    for piece in vocabulary:
        if not isinstance(piece, str):
            raise TypeError(f"{name} must have strings as keys, got {piece!r}")
        if not piece:
            raise ValueError(f"{name} contains the empty piece ''; pieces need a character")
    check_text("".join(vocabulary), name)


def check_costs(costs: Mapping[str, float]) -> None:
    """Refuse costs that are not numbers of at least 0 (infinity means: this piece is absent)."""
    check_pieces(costs, "costs")
    for piece, cost in costs.items():
        try:
            fits = cost >= 0  # NaN fails too
        except TypeError:
            raise TypeError(f"costs[{piece!r}] must be a number, got {cost!r}") from None
        if not fits:
            raise ValueError(
                f"costs[{piece!r}] must be a number of at least 0, got {cost!r} "
                "(a cost is minus a log-probability)"
            )


def check_word(word: str) -> None:
    """Refuse a word that is not a string, or that no file can hold."""
    check_text(word, "word")


def check_limit(k: int | None) -> int | None:
    """The step limit as a plain int of at least 1, or None."""
    return None if k is None else whole(k, "k")


def check_words(words: Mapping[str, float] | Iterable[str]) -> dict[str, float]:
    """Word counts from a mapping, or from plain words, each of which then counts once."""
    if isinstance(words, str):
        raise TypeError(f"words must be word counts or a list of words, got the str {words!r}")
    if not isinstance(words, Mapping):
        words = Counter(words)
    if not words:
        raise ValueError("words is empty; it needs at least one word")
    counts = words.values()
    plain = {*map(type, words)} == {str} and {*map(type, counts)} <= {int, float}
    sound = plain and "" not in words and min(counts) > 0 and sum(counts) < math.inf
    for word, count in () if sound else words.items():
        if not isinstance(word, str):
            raise TypeError(f"words must have strings as keys, got {word!r}")
        if not word:
            raise ValueError("words contains the empty word ''")
        if isinstance(count, (str, bool)) or not isinstance(count, (int, float, np.number)):
            raise TypeError(f"words[{word!r}] must be a number, got {count!r}")
        if not 0 < count < math.inf:
            raise ValueError(f"words[{word!r}] must be a finite count above 0, got {count!r}")
    check_text("".join(words), "words")
    return dict(words)
