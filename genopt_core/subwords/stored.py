"""Small tables that travel with the package: frequent words of a real corpus, and pieces for them.

With them an explorer runs at once, in a browser too, without the corpus.  The file
``genopt_core/data/make_tables.py`` makes them from ``corpora.load("sotu")``.
"""

import json
from functools import lru_cache
from importlib import resources
from typing import Any

STORED_SIZES = (250, 500, 1000, 2000)
"""Vocabulary sizes with stored prices; each vocabulary is a part of the next."""


def stored_word_counts() -> dict[str, int]:
    """Counts of the 3,000 most frequent words of the State of the Union, most frequent first.

    Words are in the textbook convention of `genopt_core.corpora.pretokenize`; together they are
    91 % of the corpus.

    Examples
    --------
    >>> next(iter(stored_word_counts().items()))
    ('the▁', 49252)
    """
    return dict(_table("sotu_words.json")["words"])


def stored_costs(size: int) -> dict[str, float]:
    """Costs in nats of a vocabulary of characters and frequent substrings, fitted to the corpus.

    The vocabulary is ``substring_vocabulary(counts, size, max_piece=12)`` of all words, the prices
    are those of ``fit_probabilities`` with a floor of 1, rounded to six digits.  Pieces that the
    best paths of the corpus do not use have no probability and are left out.

    Parameters
    ----------
    size : int
        One of ``STORED_SIZES``.

    Raises
    ------
    ValueError
        If it is another size.

    Examples
    --------
    >>> costs = stored_costs(2000)
    >>> len(costs), round(costs["the▁"], 2)
    (1213, 3.1)
    """
    if size not in STORED_SIZES or isinstance(size, bool):
        raise ValueError(f"size must be one of {STORED_SIZES}, got {size!r}")
    table = _table("sotu_pieces.json")
    logs = table["log_probabilities"][str(size)]
    # The table's list of pieces is the largest vocabulary; a smaller one is its beginning.
    return {s: -v for s, v in zip(table["pieces"], logs, strict=False) if v is not None}


@lru_cache(maxsize=2)
def _table(file: str) -> dict[str, Any]:
    path = resources.files("genopt_core").joinpath("data", file)
    return json.loads(path.read_text(encoding="utf-8"))
