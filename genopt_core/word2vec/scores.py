r"""How good are word vectors?  Scores that no setting of the training can cheat.

The training loss is not among them: it changes with the number of negatives, the noise and the
vocabulary, so that comparing it across settings compares nothing.  Every score here asks the same
fixed questions of all settings; a word that a setting dropped counts as unknown.
"""

from collections import Counter
from dataclasses import dataclass

import numpy as np

from genopt_core import checks
from genopt_core.word2vec.corpus import PlantedCorpus, Sentences, lists_of_words
from genopt_core.word2vec.embedding import Embedding


def planted_spearman(embedding: Embedding, corpus: PlantedCorpus) -> float:
    r"""Rank correlation of cosines with the planted ones, the book's main score (eq. w-planted).

    Over ``corpus.judged``: 20,000 random pairs and the five true neighbors of each word.  A word
    without a vector has cosine 0 with all.  1 is perfect, 0 is chance.  Needs SciPy.

    >>> from genopt_core.word2vec import planted_corpus
    >>> corpus = planted_corpus(20, np.random.default_rng(0), words=50, clusters=5)
    >>> words = tuple(f"w{i}" for i in range(50))
    >>> planted_spearman(Embedding(words, corpus.vectors.astype(np.float32), None), corpus) > 0.99
    True
    """
    from scipy.stats import spearmanr

    first, second, truth = corpus.judged
    rows = embedding.rows([f"w{i}" for i in range(len(corpus.vectors))])
    unit = np.where(rows[:, None] >= 0, embedding.unit[rows], 0.0)
    return float(spearmanr((unit[first] * unit[second]).sum(axis=1), truth).statistic)


@dataclass(frozen=True)
class Queries:
    """Held-out questions: which of two words stood near ``centers[i]``, ``near`` or ``random``?"""

    centers: tuple[str, ...]
    near: tuple[str, ...]
    random: tuple[str, ...]


def heldout_queries(
    sentences: Sentences,
    rng: np.random.Generator,
    *,
    share: float = 0.05,
    window: int = 4,
    count: int = 5000,
    min_count: int = 5,
    max_count: int = 2000,
) -> tuple[list[list[str]], Queries]:
    """Hold a ``share`` of the sentences out, and draw at most ``count`` fixed questions from them.

    A true pair is a word and one at most ``window`` to its right; its rival is drawn from the
    training words by :math:`U^{3/4}` (book, eq. w-noise).  Words with fewer than ``min_count`` or
    at least ``max_count`` occurrences in training are not asked about.  Returns the other
    sentences, in their order, and the questions.

    >>> sentences = [["a", "b", "c", "d"]] * 40
    >>> rest, queries = heldout_queries(sentences, np.random.default_rng(0), count=3)
    >>> len(rest), len(queries.centers)
    (38, 2)
    """
    sentences = lists_of_words(sentences)
    held = int(len(sentences) * checks.fraction(share, "share"))
    if not 0 < held < len(sentences):
        raise ValueError(
            f"share must leave no part of {len(sentences)} sentences empty, got {share!r}"
        )
    order = rng.permutation(len(sentences))
    training = [sentences[i] for i in sorted(order[held:])]
    counts = Counter(word for sentence in training for word in sentence)
    known = [word for word in counts if counts[word] >= min_count]
    asked = {word for word in known if counts[word] < max_count}
    pairs = []
    for sentence in (sentences[i] for i in order[:held]):
        for i, center in enumerate(sentence):
            if center in asked:
                j = i + int(rng.integers(1, window + 1))
                if j < len(sentence) and sentence[j] in asked:
                    pairs.append((center, sentence[j]))
    if not pairs:
        raise ValueError("no held-out pair is left: use more text, or other counts")
    rng.shuffle(pairs)
    pairs = pairs[:count]
    weight = np.array([counts[word] for word in known], dtype=float) ** 0.75
    rivals = rng.choice(len(known), len(pairs), p=weight / weight.sum())
    centers, near = zip(*pairs, strict=True)
    return training, Queries(centers, near, tuple(known[i] for i in rivals))


def heldout_auc(embedding: Embedding, queries: Queries) -> float:
    r"""Probability that a true held-out pair scores above a random one (book, eq. w-auc).

    .. math:: \mathrm{AUC}=P\left({v'_{b}}^{\!\top}v_a > {v'_{b^-}}^{\!\top}v_{a^-}\right)
       + \tfrac12 P(=)

    over all combinations of a true and a random pair.  An unknown word scores 0.  Needs SciPy, and
    output vectors, which hierarchical softmax has not.

    >>> queries = Queries(("a",), ("b",), ("c",))
    >>> vectors = np.array([[1.0, 0.0], [1.0, 0.0], [-1.0, 0.0]], np.float32)
    >>> heldout_auc(Embedding(("a", "b", "c"), vectors, vectors), queries)
    1.0
    """
    from scipy.stats import rankdata

    if embedding.outputs is None:
        raise ValueError("heldout_auc needs output vectors: train with negatives of 1 or more")
    a, b, c = (embedding.rows(w) for w in (queries.centers, queries.near, queries.random))

    def score(i: np.ndarray, j: np.ndarray) -> np.ndarray:
        products = (embedding.vectors[i] * embedding.outputs[j]).sum(axis=1)  # type: ignore[index]
        return np.where((i >= 0) & (j >= 0), products, 0.0)

    true, random = score(a, b), score(a, c)
    ranks = rankdata(np.concatenate([true, random]))[: len(true)]
    wins = ranks.sum() - len(true) * (len(true) + 1) / 2
    return float(wins / (len(true) * len(random)))
