r"""Sentences to train on: planted ones, whose answer is known, and real text."""

import bz2
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

Sentences = Sequence[Sequence[str]]


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
        """Pairs to judge by and their true cosines: 20,000 random ones, 5 neighbours a word."""
        words = len(self.vectors)
        rng = np.random.default_rng(5)
        first, second = rng.integers(0, words, (2, 20_000))
        cosines = self.vectors @ self.vectors.T
        near = np.argsort(-cosines, axis=1, kind="stable")[:, 1:6]
        first = np.concatenate([first, np.repeat(np.arange(words), near.shape[1])])
        second = np.concatenate([second, near.ravel()])
        return first, second, cosines[first, second]


def _whole(name: str, value: object, low: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < low:
        raise ValueError(f"{name}={value!r} must be a whole number of at least {low}")
    return int(value)


def planted_corpus(
    tokens: int = 80_000,
    *,
    words: int = 1200,
    clusters: int = 40,
    dimension: int = 12,
    sentence_length: int = 20,
    seed: int = 0,
) -> PlantedCorpus:
    r"""Draw a corpus from a random walk of topics, so that the right vectors are known.

    Word :math:`w` has a unit vector :math:`u_w` near the centre of its cluster.  A sentence starts
    at a random unit topic :math:`c_1` and the topic drifts; each token is drawn with

    .. math:: P(w\mid c_t)=(1-\eta)\,\frac{f_w e^{\kappa c_t^\top u_w}}{Z_t}+\eta f_w,\qquad
       c_{t+1}\propto\sqrt{1-\delta^2}\,c_t+\delta\,\varepsilon_t

    with Zipf's :math:`f_w\propto w^{-0.9}`, :math:`\kappa=6`, :math:`\delta=0.25`,
    :math:`\eta=0.2` and :math:`\varepsilon_t` of about unit length (book, eq. w-planted).

    Parameters
    ----------
    tokens : int
        Length of the corpus, rounded down to whole sentences.
    words, clusters, dimension, sentence_length : int
        Size of the vocabulary, of its structure and of a sentence.
    seed : int
        Of everything drawn.

    Raises
    ------
    ValueError
        If a size is not a whole number, or less than 1 (2 for ``words``).

    Notes
    -----
    The model is that of Arora et al. (2016), with clustered vectors and noise as our addition.
    Costs ``tokens × words`` numbers, in slices: 1 s for the default.

    Examples
    --------
    >>> corpus = planted_corpus(200, words=50, clusters=5)
    >>> len(corpus.sentences), corpus.vectors.shape
    (10, (50, 12))
    """
    length = _whole("sentence_length", sentence_length, 1)
    count = _whole("tokens", tokens, length) // length
    words, clusters = _whole("words", words, 2), _whole("clusters", clusters, 1)
    dimension = _whole("dimension", dimension, 1)
    concentration, drift, noise, spread = 6.0, 0.25, 0.2, 0.35
    rng = np.random.default_rng(seed)

    def unit(rows: np.ndarray) -> np.ndarray:
        return rows / np.linalg.norm(rows, axis=-1, keepdims=True)

    frequency = 1 / np.arange(1, words + 1) ** 0.9
    frequency /= frequency.sum()
    centres = unit(rng.normal(size=(clusters, dimension)))
    member = rng.integers(0, clusters, words)
    vectors = unit(centres[member] + spread * rng.normal(size=(words, dimension)))
    rng.normal(size=dimension)  # not used; the stored tables were made with this draw
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


def text_sentences(text: str, shortest: int = 5) -> list[list[str]]:
    """Lower-case words of each sentence of ``text``; sentences under ``shortest`` are dropped.

    Words are runs of letters a to z, sentences end at ``. ! ?`` or a line's end: enough for English
    word vectors, and the same everywhere.

    Examples
    --------
    >>> text_sentences("The state of the Union is strong. Yes!")
    [['the', 'state', 'of', 'the', 'union', 'is', 'strong']]
    """
    pieces = re.split(r"\n+|(?<=[.!?])\s+", text.lower())
    found = (re.findall(r"[a-z]+", piece) for piece in pieces)
    return [sentence for sentence in found if len(sentence) >= shortest]


def wikipedia_sentences(tokens: int | None = None) -> list[list[str]]:
    """Sentences of the Wikipedia extract (106 articles) that gensim's wheel carries.

    Stops at the first sentence beyond ``tokens``.  Needs gensim; takes about two seconds.
    """
    from gensim.corpora.wikicorpus import extract_pages, filter_wiki
    from gensim.test.utils import datapath

    name = "enwiki-latest-pages-articles1.xml-p000000010p000030302-shortened.bz2"
    found: list[list[str]] = []
    seen = 0
    with bz2.BZ2File(datapath(name)) as dump:
        for _, text, _ in extract_pages(dump, ("0",)):
            for sentence in text_sentences(filter_wiki(text)):
                found.append(sentence)
                seen += len(sentence)
                if tokens is not None and seen > tokens:
                    return found
    return found


def similarity_pairs(name: str) -> list[tuple[str, str, float]]:
    """Word pairs with human judgements: ``"wordsim353"`` or ``"simlex999"``, from gensim's wheel.

    Raises
    ------
    ValueError
        For another name.
    """
    files = {"wordsim353": "wordsim353.tsv", "simlex999": "simlex999.txt"}
    if name not in files:
        raise ValueError(f"name={name!r} must be one of {sorted(files)}")
    from gensim.test.utils import datapath

    with open(datapath(files[name]), encoding="utf-8") as lines:
        return list(_pairs(lines))


def _pairs(lines: Iterable[str]) -> Iterable[tuple[str, str, float]]:
    for line in lines:
        if not line.startswith("#"):
            first, second, score = line.strip().split("\t")[:3]
            yield first.lower(), second.lower(), float(score)
