r"""Training by gensim, and what comes out."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from genopt_core import checks
from genopt_core.word2vec.corpus import Sentences, lists_of_words

ARCHITECTURES = ("skipgram", "cbow", "cbow_sum")


@dataclass(frozen=True, eq=False)
class Embedding:
    r"""Word vectors.

    Attributes
    ----------
    words : tuple of str
        Most frequent first.
    vectors : float32 array (words, dimension)
        Input vectors :math:`v_w`.
    outputs : float32 array (words, dimension) or None
        Output vectors :math:`v'_w`; ``None`` under hierarchical softmax, which has none.

    Examples
    --------
    >>> found = Embedding(("a", "b"), np.array([[3.0, 4.0], [0.0, 2.0]], np.float32), None)
    >>> found.rows(["b", "c"]).tolist(), found.unit[1].tolist()
    ([1, -1], [0.0, 1.0])
    """

    words: tuple[str, ...]
    vectors: np.ndarray
    outputs: np.ndarray | None = None

    @cached_property
    def index(self) -> dict[str, int]:
        """Row of each word."""
        return {word: row for row, word in enumerate(self.words)}

    @cached_property
    def unit(self) -> np.ndarray:
        """Vectors of length 1."""
        length = np.linalg.norm(self.vectors, axis=1, keepdims=True)
        return self.vectors / np.maximum(length, 1e-12)

    def rows(self, words: Sequence[str]) -> np.ndarray:
        """Rows of ``words``, -1 for those that the vocabulary lacks."""
        return np.array([self.index.get(word, -1) for word in words], dtype=int)

    def neighbours(self, word: str, n: int = 10) -> list[tuple[str, float]]:
        """The ``n`` words of largest cosine with ``word``, and the cosines.

        >>> e = Embedding(("a", "b", "c"), np.array([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0]]))
        >>> [near for near, _ in e.neighbours("a", 2)]
        ['b', 'c']
        """
        if word not in self.index:
            raise ValueError(f"word must be one of the {len(self.words)} words, got {word!r}")
        row = self.index[word]
        cosine = self.unit @ self.unit[row]
        order = [i for i in np.argsort(-cosine, kind="stable") if i != row][:n]
        return [(self.words[i], float(cosine[i])) for i in order]


def train(
    sentences: Sentences,
    *,
    architecture: str = "skipgram",
    negatives: int = 5,
    dimension: int = 32,
    window: int = 5,
    sample: float = 1e-3,
    learning_rate: float = 0.025,
    epochs: int = 3,
    min_count: int = 1,
    noise_exponent: float = 0.75,
    seed: int = 1,
) -> Embedding:
    """Train word2vec with gensim so that the same call gives the same bits.

    gensim runs with one worker: with two, results differ from run to run.  On another processor
    the last bits may differ, because gensim's dot products come from BLAS.  About 0.3 s for
    80,000 tokens and three epochs.

    Parameters
    ----------
    sentences : iterable of iterable of str
        Words; they are copied into lists, as gensim passes over them more than once.
    architecture : str
        ``"skipgram"``, ``"cbow"`` (mean of the context's vectors) or ``"cbow_sum"``.
    negatives : int
        :math:`K` of negative sampling (book, eq. w-negative); 0 means hierarchical softmax.
    dimension, window, epochs, min_count : int
        :math:`d`; :math:`c`; passes over the corpus; occurrences that a word needs.
    sample : float
        :math:`t` of sub-sampling (book, eq. w-subsample); 0 switches it off.
    learning_rate : float
        At the start; falls linearly to 0.0001.
    noise_exponent : float
        3/4 in word2vec.
    seed : int
        Of initial vectors and of what is drawn; gensim takes an integer, no ``Generator``.

    Examples
    --------
    >>> found = train([["a", "b", "a"]] * 50, dimension=4, epochs=1)
    >>> found.words, found.vectors.shape
    (('a', 'b'), (2, 4))
    """
    checks.one_of(architecture, "architecture", ARCHITECTURES)
    checks.whole(negatives, "negatives", 0)
    checks.whole(dimension, "dimension")
    checks.whole(window, "window")
    checks.whole(epochs, "epochs")
    checks.whole(min_count, "min_count")
    checks.real(noise_exponent, "noise_exponent")
    checks.positive(learning_rate, "learning_rate")
    if checks.real(sample, "sample") < 0:
        raise ValueError(f"sample must be at least 0, got {sample!r}")
    corpus = lists_of_words(sentences)  # of arrays gensim would wait for ever
    from gensim.models import Word2Vec

    model = Word2Vec(
        sg=int(architecture == "skipgram"),
        cbow_mean=int(architecture != "cbow_sum"),
        hs=int(negatives == 0),
        negative=negatives,
        ns_exponent=noise_exponent,
        vector_size=dimension,
        window=window,
        sample=sample,
        alpha=learning_rate,
        min_count=min_count,
        epochs=epochs,
        seed=seed,
        workers=1,
    )
    model.build_vocab(corpus)
    if not len(model.wv):
        raise ValueError(f"min_count must be at most the count of some word, got {min_count}")
    if not negatives and len(model.wv) < 2:  # gensim would wait for ever
        raise ValueError(
            "negatives must be at least 1 with a single word, which has no tree, got 0"
        )
    model.train(corpus, total_examples=model.corpus_count, epochs=epochs)
    outputs = model.syn1neg if negatives else None
    return Embedding(tuple(model.wv.index_to_key), model.wv.vectors, outputs)
