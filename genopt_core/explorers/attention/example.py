"""A small head, drawn by its seed, that the figures of chapter 4 look at."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

DIM = 8


@dataclass(frozen=True)
class Head:
    """Queries, keys and values of one head, one row a token."""

    queries: np.ndarray
    keys: np.ndarray
    values: np.ndarray


@lru_cache(maxsize=64)
def drawn_head(
    tokens: int, seed: int, peak: float = 1.0, sink: float = 0.0, values: int = 1
) -> Head:
    """A head of standard normal entries, so that scores have the standard deviation ``peak``.

    The last channel is the sink's: the first key scores ``sink`` higher for every query.
    """
    rng = np.random.default_rng(seed)
    queries, keys = rng.normal(size=(2, tokens, DIM))
    queries *= peak * np.sqrt((DIM + 1) / DIM)
    extra = np.zeros((tokens, 1))
    extra[0] = sink
    return Head(
        np.hstack([queries, np.full((tokens, 1), np.sqrt(DIM + 1))]),
        np.hstack([keys, extra]),
        rng.normal(size=(tokens, values)),
    )
