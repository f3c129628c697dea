"""Small stored tables that travel with the package, and their one loader.

With them an explorer draws at once, in a browser too, without a corpus or a model.  Each file
names under ``origin`` the script of ``book/experiments`` that made it.
"""

import json
from collections.abc import Mapping
from functools import cache, lru_cache
from importlib import resources
from types import MappingProxyType
from typing import Any

STORED_SIZES = (250, 500, 1000, 2000)
"""Vocabulary sizes with stored costs; each vocabulary is a part of the next."""


def load(name: str) -> Any:
    """The table ``name``, read once and shared: dictionaries read-only, lists as tuples.

    Raises
    ------
    ValueError
        If there is no such table.

    Examples
    --------
    >>> load("sotu_words")["words"]["the▁"]
    49252
    """
    if name not in names():
        raise ValueError(f"name must be one of {', '.join(names())}, got {name!r}")
    return _read(name)


@lru_cache(maxsize=1)
def names() -> tuple[str, ...]:
    """The names of all stored tables, in alphabetical order.

    >>> "sotu_words" in names(), sorted(names()) == list(names())
    (True, True)
    """
    files = (entry.name for entry in resources.files(__name__).iterdir())
    return tuple(sorted(name[: -len(".json")] for name in files if name.endswith(".json")))


@cache
def _read(name: str) -> Any:
    text = resources.files(__name__).joinpath(f"{name}.json").read_text(encoding="utf-8")
    return _frozen(json.loads(text))


def _frozen(value: Any) -> Any:
    """``value`` with nothing left to write to, so that no caller changes another's table."""
    if isinstance(value, dict):
        return MappingProxyType({key: _frozen(item) for key, item in value.items()})
    return tuple(map(_frozen, value)) if isinstance(value, list) else value


def records(table: Mapping[str, Any], rows: str = "rows", columns: str = "columns") -> list[dict]:
    """The rows of a table that says its columns once, each as a dictionary.

    Examples
    --------
    >>> records({"columns": ["size", "tokens"], "rows": [[1000, 1.5]]})
    [{'size': 1000, 'tokens': 1.5}]
    """
    return [dict(zip(table[columns], row, strict=True)) for row in table[rows]]


def stored_word_counts() -> dict[str, int]:
    """Counts of the 3,000 most frequent words of the State of the Union, most frequent first.

    Words are in the textbook convention of `genopt_core.corpora.pretokenize`; together they are
    91 % of the corpus.

    Examples
    --------
    >>> next(iter(stored_word_counts().items()))
    ('the▁', 49252)
    """
    return dict(load("sotu_words")["words"])


def stored_costs(size: int) -> dict[str, float]:
    """Costs in nats of a vocabulary of characters and frequent substrings, fitted to the corpus.

    The vocabulary is ``substring_vocabulary(counts, size, max_piece=12)`` of all words, the costs
    are those of ``fit_probabilities`` with a floor of 1, rounded to six digits.  Pieces that the
    best paths of the corpus do not use have no probability and are left out.

    Parameters
    ----------
    size : int
        One of ``STORED_SIZES``.

    Examples
    --------
    >>> costs = stored_costs(2000)
    >>> len(costs), round(costs["the▁"], 2)
    (1213, 3.1)
    """
    if size not in STORED_SIZES or isinstance(size, bool):
        raise ValueError(f"size must be one of {STORED_SIZES}, got {size!r}")
    table = load("sotu_pieces")
    logs = table["log_probabilities"][str(size)]
    # The table's list of pieces is the largest vocabulary; a smaller one is its beginning.
    return {s: -v for s, v in zip(table["pieces"], logs, strict=False) if v is not None}
