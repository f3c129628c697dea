"""word2vec: arguments at their bounds, draws written out, and what gensim is asked for."""

import inspect
import itertools
import math
from collections import Counter

import gensim.models
import numpy as np
import pytest
from scipy.stats import spearmanr

from genopt_core import word2vec as w2v
from genopt_core.word2vec.negative_sampling import _indices
from genopt_core.word2vec.scores import Queries

RNG = np.random.default_rng
ONE = np.ones((1, 1))

ACCEPTED = [
    lambda: w2v.planted_corpus(20, RNG(0), words=2, clusters=1, dimension=1),
    lambda: w2v.planted_corpus(3, RNG(0), words=2, sentence_length=1),
    lambda: w2v.noise_distribution([0, 1]),
    lambda: w2v.discard_probability([1], 1e-9),
    lambda: w2v.context_pairs([], 1),
    lambda: w2v.negative_sampling([1], [[2]]),
    lambda: w2v.softmax_log_probability([[1.0]], [[1]], 0, 0),
    lambda: w2v.sgd_step(ONE.copy(), ONE.copy(), 0, 0, [], 1e-9),
    lambda: w2v.train([["a"]], negatives=1, dimension=1, window=1, epochs=1, min_count=1, sample=0),
    lambda: w2v.train([["a", "b"]], negatives=0, dimension=1, window=1, epochs=1),
]


@pytest.mark.parametrize("number", range(len(ACCEPTED)))
def test_what_is_just_inside_is_accepted(number):
    ACCEPTED[number]()


REFUSED = [
    (lambda: w2v.planted_corpus(19, RNG(0)), "tokens must be at least 20"),
    (lambda: w2v.planted_corpus(20, RNG(0), clusters=0), "clusters"),
    (lambda: w2v.planted_corpus(20, RNG(0), dimension=0), "dimension"),
    (lambda: w2v.planted_corpus(20, RNG(0), sentence_length=0), "sentence_length"),
    (lambda: w2v.negative_sampling([True], [[1.0]]), "vector must hold numbers"),
    (lambda: w2v.negative_sampling([[1.0]], [[1.0]]), "vector must have 1 axes"),
    (lambda: w2v.negative_sampling([1.0], np.empty((0, 1))), "outputs must have 2 axes"),
    (lambda: w2v.negative_sampling([1.0, 2.0], [[1.0]]), "must have 2 columns"),
    (lambda: w2v.softmax_log_probability([[1.0]], [[1.0], [2.0]], 0, 0), "the same shape"),
    (lambda: w2v.softmax_log_probability([[1.0]], [[1.0]], 0, -1), "context must be indices"),
    (lambda: w2v.softmax_log_probability([[1.0]], [[1.0]], 0.0, 0), "center must hold whole"),
    (lambda: w2v.softmax_log_probability([[1.0]], [[1.0]], [[0]], 0), "center must be indices"),
    (lambda: w2v.sgd_step(ONE, ONE[0], 0, 0, [], 1), "outputs must be a float array"),
    (lambda: w2v.sgd_step(ONE.astype(int), ONE, 0, 0, [], 1), "vectors must be a float array"),
    (lambda: w2v.sgd_step(ONE.copy(), ONE.copy(), 0, 1, [], 1), "context and negatives must be"),
    (lambda: w2v.sgd_step(ONE.copy(), ONE.copy(), 1, 0, [], 1), "center must be indices"),
    (lambda: w2v.sgd_step(ONE.copy(), ONE.copy(), 0, 0, [], 0), "learning_rate"),
    (lambda: w2v.noise_distribution([-1e-9, 1]), "counts must be 0 or more"),
    (lambda: w2v.train([["a"]], dimension=0), "dimension"),
    (lambda: w2v.train([["a"]], window=0), "window"),
    (lambda: w2v.train([["a"]], epochs=0), "epochs"),
    (lambda: w2v.train([["a"]], min_count=0), "min_count"),
    (lambda: w2v.train([["a"]], sample=-1e-9), "sample must be at least 0"),
    (lambda: w2v.train([["a"]], noise_exponent=math.inf), "noise_exponent"),
    (lambda: w2v.train([["a"]], negatives=0), "negatives must be at least 1 with a single word"),
    (lambda: w2v.train([["a"]], min_count=2), "min_count must be at most the count"),
    (lambda: w2v.heldout_queries([["a"]] * 4, RNG(0), share=0.24), "empty"),
]


@pytest.mark.parametrize("number", range(len(REFUSED)))
def test_what_is_just_outside_is_named(number):
    call, words = REFUSED[number]
    with pytest.raises((ValueError, TypeError), match=words):
        call()
    assert _indices("x", [0, 2], 3).tolist() == [0, 2]


@pytest.mark.restates
def test_defaults_are_those_that_are_documented():
    def of(function):
        given = inspect.signature(function).parameters.values()
        return {p.name: p.default for p in given if p.default is not p.empty}

    assert of(w2v.train) == {
        "architecture": "skipgram", "negatives": 5, "dimension": 32, "window": 5, "sample": 1e-3,
        "learning_rate": 0.025, "epochs": 3, "min_count": 1, "noise_exponent": 0.75, "seed": 1,
    }  # fmt: skip
    assert of(w2v.planted_corpus) == {
        "words": 1200, "clusters": 40, "dimension": 12, "sentence_length": 20,
    }  # fmt: skip
    assert of(w2v.heldout_queries) == {
        "share": 0.05, "window": 4, "count": 5000, "min_count": 5, "max_count": 2000,
    }  # fmt: skip
    assert of(w2v.noise_distribution) == {"exponent": 0.75}
    assert of(w2v.Embedding.neighbours) == {"n": 10}


def test_a_planted_corpus_token_by_token(monkeypatch):
    found = w2v.planted_corpus(4007, RNG(9), words=30, clusters=4, dimension=3, sentence_length=10)
    rng = RNG(9)
    f = np.array([w**-0.9 for w in range(1, 31)])
    f /= f.sum()
    centers = [c / np.linalg.norm(c) for c in rng.normal(size=(4, 3))]
    member = rng.integers(0, 4, 30)
    around = rng.normal(size=(30, 3))
    vectors = np.array([centers[m] + 0.35 * e for m, e in zip(member, around, strict=True)])
    vectors /= np.linalg.norm(vectors, axis=1)[:, None]
    rng.normal(size=3)
    steps = rng.normal(size=(400, 10, 3)) / math.sqrt(3)
    topics = []
    for sentence in steps:
        c = sentence[0] / np.linalg.norm(sentence[0])
        topics.append(c)
        for step in sentence[1:]:
            c = math.sqrt(1 - 0.25**2) * c + 0.25 * step
            c = c / np.linalg.norm(c)
            topics.append(c)
    drawn = []
    for at in (0, 2000):
        for c, u in zip(topics[at : at + 2000], rng.random((2000, 1))[:, 0], strict=True):
            p = f * np.exp(6 * vectors @ c)
            p = 0.8 * p / p.sum() + 0.2 * f
            drawn.append(min(int(np.searchsorted(np.cumsum(p), u, "right")), 29))
    assert np.abs(found.vectors - vectors).max() < 1e-14
    assert found.clusters.tolist() == member.tolist()
    assert [len(s) for s in found.sentences] == [10] * 400
    same = [a == f"w{b}" for a, b in zip(itertools.chain(*found.sentences), drawn, strict=True)]
    assert np.mean(same) > 0.999, "but for the last bits"


def test_pairs_to_judge_by_are_those_of_a_fixed_draw():
    corpus = w2v.planted_corpus(20, RNG(0), words=12, clusters=3)
    first, second, truth = corpus.judged
    a, b = RNG(5).integers(0, 12, (2, 20_000))
    assert first[:20_000].tolist() == a.tolist()
    assert second[:20_000].tolist() == b.tolist()
    cosines = corpus.vectors @ corpus.vectors.T
    for word in range(12):
        near = sorted((i for i in range(12) if i != word), key=lambda i: -cosines[word, i])[:5]
        at = slice(20_000 + 5 * word, 20_005 + 5 * word)
        assert second[at].tolist() == near
        assert first[at].tolist() == [word] * 5
    words = tuple(f"w{i}" for i in range(11))  # one is not known
    noise = RNG(1).normal(size=(11, 4))
    unit = np.vstack([noise / np.linalg.norm(noise, axis=1)[:, None], np.zeros(4)])
    wanted = spearmanr((unit[first] * unit[second]).sum(1), truth).statistic
    assert w2v.planted_spearman(w2v.Embedding(words, noise), corpus) == pytest.approx(wanted)


@pytest.mark.parametrize("count", [7, 5000])
def test_held_out_questions_are_drawn_one_by_one(count):
    rng = RNG(3)
    f = np.arange(1, 15) ** -1.2
    sentences = [[f"w{i}" for i in rng.choice(14, 6, p=f / f.sum())] for _ in range(60)]
    kept = RNG(4).permutation(60)[15:]
    sizes = sorted(Counter(word for i in kept for word in sentences[i]).values())
    least, most = sizes[3], sizes[-2]  # a word has just the least, another one just the most
    training, found = w2v.heldout_queries(
        sentences, RNG(4), share=0.25, window=3, count=count, min_count=least, max_count=most
    )
    rng = RNG(4)
    order = rng.permutation(60)
    wanted = [sentences[i] for i in sorted(order[15:])]
    assert training == wanted
    counts = Counter(word for sentence in wanted for word in sentence)
    known = [word for word in counts if counts[word] >= least]
    asked = [word for word in known if counts[word] < most]
    assert 0 < len(asked) < len(known) < len(counts)
    pairs = []
    for i in order[:15]:
        for k, center in enumerate(sentences[i]):
            if center in asked:
                j = k + int(rng.integers(1, 4))
                if j < 6 and sentences[i][j] in asked:
                    pairs.append((center, sentences[i][j]))
    rng.shuffle(pairs)
    pairs = pairs[:count]
    p = np.array([counts[word] for word in known]) ** 0.75
    rivals = rng.choice(len(known), len(pairs), p=p / p.sum())
    assert list(zip(found.centers, found.near, strict=True)) == pairs
    assert found.random == tuple(known[i] for i in rivals)


def test_a_draw_that_rounding_leaves_above_all_is_the_last_word():
    class Largest(np.random.Generator):
        def random(self, size=None):
            return np.ones(size)

    corpus = w2v.planted_corpus(40, Largest(np.random.PCG64(0)), words=9, clusters=2)
    assert corpus.sentences == [["w8"] * 20] * 2


def test_small_formulas_by_hand():
    assert w2v.noise_distribution([16, 1, 0]).tolist() == pytest.approx([8 / 9, 1 / 9, 0])
    assert w2v.noise_distribution([4, 2, 0], 0).tolist() == [0.5, 0.5, 0]
    assert w2v.noise_distribution([4, 1, 0], -1).tolist() == pytest.approx([0.2, 0.8, 0])
    assert w2v.discard_probability([90, 10, 0], 0.1) == pytest.approx([1 - 1 / 3, 0, 0])
    found = w2v.softmax_log_probability([[2.0], [1.0]], [[1.0], [3.0]], 0, 1)
    assert found == pytest.approx(6 - math.log(math.exp(2) + math.exp(6)))
    v, u = np.array([[1.0, 2.0], [5.0, 5.0]]), np.array([[0.5, 0.0], [0.0, 0.25], [1.0, 1.0]])
    loss, gradient, gradients = w2v.negative_sampling(v[0], u[[1, 0]])
    before, first = v.copy(), u.copy()
    assert w2v.sgd_step(v, u, 0, 1, [0], 0.3) == loss
    assert v.tolist() == [(before[0] - 0.3 * gradient).tolist(), [5.0, 5.0]]
    assert u[[1, 0]] == pytest.approx(first[[1, 0]] - 0.3 * gradients)
    assert u[2].tolist() == [1, 1]
    assert w2v.context_pairs([1, 2, 3], 1).tolist() == [[1, 2], [2, 1], [2, 3], [3, 2]]


def test_vectors_of_no_length_and_neighbors_in_order():
    found = w2v.Embedding(("a", "b", "c", "d"), np.array([[0.0, 0], [3, 4], [0, 2], [1e-13, 0]]))
    assert found.unit.tolist() == [[0, 0], [0.6, 0.8], [0, 1], [0.1, 0]]
    assert found.neighbours("c", 2) == [("b", 0.8), ("a", 0.0)]
    assert len(found.neighbours("b")) == 3
    assert found.rows(["d", "x", "a"]).tolist() == [3, -1, 0]
    many = w2v.Embedding(tuple(map(str, range(15))), RNG(0).normal(size=(15, 2)))
    assert len(many.neighbours("3")) == 10
    assert many.outputs is None


def test_unknown_words_of_a_question_score_0():
    e = w2v.Embedding(("a", "b"), np.array([[1.0], [2.0]]), np.array([[3.0], [-1.0]]))
    # b.a scores 6; unknown ones 0; a.b scores -1
    assert w2v.heldout_auc(e, Queries(("b",), ("a",), ("?",))) == 1.0
    assert w2v.heldout_auc(e, Queries(("?",), ("a",), ("b",))) == 0.5
    assert w2v.heldout_auc(e, Queries(("a",), ("?",), ("b",))) == 1.0
    assert w2v.heldout_auc(e, Queries(("a", "b"), ("b", "a"), ("a", "?"))) == 0.5


@pytest.mark.parametrize("architecture", ["skipgram", "cbow", "cbow_sum"])
@pytest.mark.parametrize("negatives", [0, 1, 5])
def test_what_gensim_is_asked_for(architecture, negatives, monkeypatch):
    asked = []

    class Recorded(gensim.models.Word2Vec):
        def __init__(self, **settings):
            asked.append(settings)
            super().__init__(**settings)

        def train(self, sentences, **settings):
            asked.append(settings)
            return super().train(sentences, **settings)

    monkeypatch.setattr(gensim.models, "Word2Vec", Recorded)
    found = w2v.train(
        [["a", "b", "a"]] * 3, architecture=architecture, negatives=negatives, dimension=3,
        window=2, sample=0.5, learning_rate=0.07, epochs=4, min_count=2, noise_exponent=0.5,
        seed=6,
    )  # fmt: skip
    assert asked[0] == {
        "sg": int(architecture == "skipgram"), "cbow_mean": int(architecture != "cbow_sum"),
        "hs": int(negatives == 0), "negative": negatives, "ns_exponent": 0.5, "vector_size": 3,
        "window": 2, "sample": 0.5, "alpha": 0.07, "min_count": 2, "epochs": 4, "seed": 6,
        "workers": 1,
    }  # fmt: skip
    assert asked[1] == {"total_examples": 3, "epochs": 4}
    assert found.words == ("a", "b")
    assert (found.outputs is None) == (negatives == 0)
