r"""Sentences drawn from planted vectors, so that the right answer is known."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from reprlib import repr as shortened
from typing import Any

import numpy as np

from genopt_core import checks

Sentences = Iterable[Iterable[str]]
"""Lists of words; arrays and generators will do."""


def lists_of_words(sentences: Any) -> list[list[str]]:
    """``sentences`` as plain lists of plain strings, which can be passed over more than once.

    >>> lists_of_words(words for words in np.array([["a", "b"]]))
    [['a', 'b']]
    """
    found = []
    for sentence in _items(sentences):
        words = _items(sentence)
        for word in words:
            if not isinstance(word, str):
                raise TypeError(f"sentences must hold words as str, got {shortened(word)}")
        found.append([str(word) for word in words])  # of NumPy's strings too
    return found


def _items(words: Any) -> list[Any]:
    try:
        if isinstance(words, str | bytes):
            raise TypeError
        items = iter(words)
    except TypeError:
        raise TypeError(f"sentences must be lists of words, got {shortened(words)}") from None
    return list(items)


@dataclass(frozen=True)
class PlantedCorpus:
    r"""Sentences drawn from known vectors.

    Attributes
    ----------
    sentences : list of list of str
        Words are called ``w0``, ``w1``, …, the most frequent first.
    vectors : array (words, dimension)
        The planted unit vectors :math:`u_w`; their cosines are the truth.
    clusters : int array (words,)
        The cluster of each word.
    """

    sentences: list[list[str]]
    vectors: np.ndarray
    clusters: np.ndarray

    @cached_property
    def judged(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Pairs to judge by and their true cosines: 20,000 random ones, 5 neighbors a word."""
        words = len(self.vectors)
        rng = np.random.default_rng(5)
        first, second = rng.integers(0, words, (2, 20_000))
        cosines = self.vectors @ self.vectors.T
        near = np.argsort(-cosines, axis=1, kind="stable")[:, 1:6]
        first = np.concatenate([first, np.repeat(np.arange(words), near.shape[1])])
        second = np.concatenate([second, near.ravel()])
        return first, second, cosines[first, second]


def planted_corpus(
    tokens: int,
    rng: np.random.Generator,
    *,
    words: int = 1200,
    clusters: int = 40,
    dimension: int = 12,
    sentence_length: int = 20,
) -> PlantedCorpus:
    r"""Draw a corpus from a random walk of topics, so that the right vectors are known.

    Word :math:`w` has a unit vector :math:`u_w` near the center of its cluster.  A sentence starts
    at a random unit topic :math:`c_1` and the topic drifts; each token is drawn with

    .. math:: P(w\mid c_t)=(1-\eta)\,\frac{f_w e^{\kappa c_t^\top u_w}}{Z_t}+\eta f_w,\qquad
       c_{t+1}\propto\sqrt{1-\delta^2}\,c_t+\delta\,\varepsilon_t

    with Zipf's :math:`f_w\propto w^{-0.9}`, :math:`\kappa=6`, :math:`\delta=0.25`,
    :math:`\eta=0.2` and :math:`\varepsilon_t` of about unit length (book, eq. w-planted).

    The number of tokens is rounded down to whole sentences.  The model is that of Arora et al.
    (2016), with clustered vectors and noise as our addition.  Costs ``tokens × words`` numbers, in
    slices: 1 s for 80,000 tokens.

    >>> corpus = planted_corpus(200, np.random.default_rng(0), words=50, clusters=5)
    >>> len(corpus.sentences), corpus.vectors.shape
    (10, (50, 12))
    """
    length = checks.whole(sentence_length, "sentence_length")
    count = checks.whole(tokens, "tokens", length) // length
    words, clusters = checks.whole(words, "words", 2), checks.whole(clusters, "clusters")
    dimension = checks.whole(dimension, "dimension")
    concentration, drift, noise, spread = 6.0, 0.25, 0.2, 0.35

    def unit(rows: np.ndarray) -> np.ndarray:
        return rows / np.linalg.norm(rows, axis=-1, keepdims=True)

    frequency = 1 / np.arange(1, words + 1) ** 0.9
    frequency /= frequency.sum()
    centers = unit(rng.normal(size=(clusters, dimension)))
    member = rng.integers(0, clusters, words)
    vectors = unit(centers[member] + spread * rng.normal(size=(words, dimension)))
    # Not used.  The stored table was trained on a corpus made with this draw, half a CPU hour, and
    # all races on it, with the numbers that the pages discuss, would have to be run again too.
    rng.normal(size=dimension)
    steps = rng.normal(size=(count, length, dimension)) / np.sqrt(dimension)
    topics = np.empty_like(steps)
    topics[:, 0] = unit(steps[:, 0])
    for t in range(1, length):
        walk = np.sqrt(1 - drift**2) * topics[:, t - 1] + drift * steps[:, t]
        topics[:, t] = unit(walk)
    flat = topics.reshape(-1, dimension)
    drawn = np.empty(len(flat), dtype=int)
    for at in range(0, len(flat), 2000):
        logits = np.log(frequency) + concentration * (flat[at : at + 2000] @ vectors.T)
        p = np.exp(logits - logits.max(axis=1, keepdims=True))
        p = (1 - noise) * p / p.sum(axis=1, keepdims=True) + noise * frequency
        below = p.cumsum(axis=1) <= rng.random((len(p), 1))
        # min: rounding may leave the last sum a little below 1
        drawn[at : at + 2000] = np.minimum(below.sum(axis=1), words - 1)
    ids = drawn.reshape(count, length)
    return PlantedCorpus([[f"w{i}" for i in row] for row in ids.tolist()], vectors, member)
