"""Text and judgments of word2vec's experiments."""

import numpy as np
import pytest

from book.experiments.cross_entropy import text_data
from genopt_core.word2vec import Embedding


def test_similarity_spearman_by_hand():
    e = Embedding(("a", "b", "c"), np.array([[1.0, 0], [1, 0.1], [0, 1]]))
    pairs = [("a", "b", 9.0), ("b", "c", 5.0), ("a", "c", 1.0)]
    assert text_data.similarity_spearman(e, pairs) == pytest.approx(1)
    assert text_data.similarity_spearman(e, [(a, b, -s) for a, b, s in pairs]) == pytest.approx(-1)
    assert text_data.similarity_spearman(e, [("x", "y", s) for s in (1.0, 2.0, 3.0)]) == 0
    with pytest.raises(ValueError, match="pairs"):
        text_data.similarity_spearman(e, pairs[:2])


def test_similarity_sets_come_with_gensim():
    assert len(text_data.similarity_pairs("wordsim353")) == 353
    pairs = text_data.similarity_pairs("simlex999")
    assert len(pairs) == 999
    assert ("old", "new", 1.58) in pairs
    with pytest.raises(ValueError, match="wordsim353"):
        text_data.similarity_pairs("men")


def test_wikipedia_extract_is_text():
    sentences = text_data.wikipedia_sentences(20_000)
    assert 20_000 < sum(map(len, sentences)) < 21_000
    assert sum(s.count("the") for s in sentences) > 500
