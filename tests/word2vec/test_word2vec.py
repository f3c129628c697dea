"""word2vec: loss against finite differences, planted corpora, scores, the table."""

import itertools
import math
import subprocess
import sys
import threading

import numpy as np
import pytest
from places import TABLES

from genopt_core import cross_entropy
from genopt_core import word2vec as w2v
from genopt_core.word2vec.scores import Queries

RNG = np.random.default_rng(0)


def corpus(seed):
    return w2v.planted_corpus(12_000, np.random.default_rng(seed), words=150, clusters=10)


@pytest.fixture(scope="module")
def small():
    """A corpus that trains in a fraction of a second."""
    return corpus(3)


# ---------------------------------------------------------------- loss and gradients


def plain_loss(v, u):
    """The formula with a loop and math.log, sharing nothing with the function."""
    total = 0.0
    for i, row in enumerate(u):
        score = sum(a * b for a, b in zip(row, v, strict=True))
        total -= math.log(1 / (1 + math.exp(-score if i == 0 else score)))
    return total


@pytest.mark.parametrize(("k", "d"), [*itertools.product([0, 1, 5, 20], [1, 2, 16])])
def test_gradients_are_the_finite_differences_of_the_loss(k, d):
    rng = np.random.default_rng(10 * k + d)
    v, u = rng.normal(size=d), rng.normal(size=(1 + k, d))
    loss, gradient, gradients = w2v.negative_sampling(v, u)
    assert loss == pytest.approx(plain_loss(v, u), rel=1e-12)
    step = 1e-6
    for i in range(d):
        e = step * (np.arange(d) == i)
        change = (plain_loss(v + e, u) - plain_loss(v - e, u)) / (2 * step)
        assert gradient[i] == pytest.approx(change, abs=1e-7)
    for i, j in np.ndindex(u.shape):
        e = np.zeros_like(u)
        e[i, j] = step
        change = (plain_loss(v, u + e) - plain_loss(v, u - e)) / (2 * step)
        assert gradients[i, j] == pytest.approx(change, abs=1e-7)


def test_the_loss_survives_huge_scores():
    loss, gradient, gradients = w2v.negative_sampling([1000.0], [[-1000.0], [1000.0]])
    assert loss == pytest.approx(2e6)
    assert np.isfinite([*gradient, *gradients.ravel()]).all()


def test_softmax_is_a_distribution_and_does_not_overflow():
    rng = np.random.default_rng(0)
    v, u = rng.normal(size=(2, 7, 3))
    total = sum(math.exp(w2v.softmax_log_probability(v, u, 2, o)) for o in range(7))
    assert total == pytest.approx(1)
    assert w2v.softmax_log_probability(1e3 * v, u, 0, 1) <= 0


def test_many_negatives_estimate_the_softmax_gradient():
    """With P_n uniform over all words, expected negative sampling moves towards log P(w|c)/P_n."""
    # the optimum of (W2) is v'.v = log p(o|i) - log(K P_n(o)), Levy and Goldberg 2014
    p, noise, k = np.array([0.7, 0.2, 0.1]), np.full(3, 1 / 3), 4
    best = np.log(p / (k * noise))
    # with that score the expected gradient over the positives and negatives vanishes
    for o in range(3):
        g = p[o] * (1 / (1 + math.exp(-best[o])) - 1)
        g += k * noise[o] / (1 + math.exp(-best[o]))
        assert g == pytest.approx(0, abs=1e-12)
    positive = [w2v.negative_sampling([1.0], [[s]])[2][0, 0] for s in best]
    negative = [w2v.negative_sampling([1.0], [[0.0], [s]])[2][1, 0] for s in best]
    assert p * positive + k * noise * negative == pytest.approx(np.zeros(3), abs=1e-12)


def test_noise_distribution_by_hand():
    got = w2v.noise_distribution([8, 1, 0], 1 / 3)
    assert got == pytest.approx([2 / 3, 1 / 3, 0])
    assert w2v.noise_distribution([5, 7], 0).tolist() == [0.5, 0.5]


def test_discard_probability_by_hand():
    assert w2v.discard_probability([75, 25, 0], 0.25) == pytest.approx([1 - 3**-0.5, 0, 0])


def test_context_pairs_against_a_double_loop():
    sentence = [4, 4, 1, 9, 0]
    for window in (1, 2, 9):
        pairs = {(i, j) for i in range(5) for j in range(5) if i != j and abs(i - j) <= window}
        want = sorted((sentence[i], sentence[j]) for i, j in pairs)
        assert sorted(map(tuple, w2v.context_pairs(sentence, window).tolist())) == want
    assert w2v.context_pairs([1], 2).shape == (0, 2)


def test_steps_learn_a_planted_corpus(small):
    """Some thousand steps of the NumPy code alone recover the planted neighbors."""
    rng = np.random.default_rng(0)
    words, d = len(small.vectors), 12
    ids = [[int(w[1:]) for w in s] for s in small.sentences]
    counts = np.bincount(np.concatenate(ids), minlength=words)
    v, u = rng.normal(size=(words, d)) / d, np.zeros((words, d))
    pairs = np.concatenate([w2v.context_pairs(s, 3) for s in ids])
    noise = rng.choice(words, (len(pairs), 4), p=w2v.noise_distribution(counts))
    order = rng.permutation(len(pairs))[:20_000]
    losses = [w2v.sgd_step(v, u, *pairs[i], noise[i], 0.1) for i in order]
    assert np.mean(losses[-2000:]) < np.mean(losses[:2000]) - 0.1
    trained = w2v.Embedding(tuple(f"w{i}" for i in range(words)), v, u)
    assert w2v.planted_spearman(trained, small) > 0.1


def test_a_word_drawn_twice_is_pushed_twice():
    v, u = np.ones((2, 1)), np.zeros((2, 1))
    w2v.sgd_step(v, u, 0, 0, [1, 1], 1.0)
    assert u[1, 0] == pytest.approx(-1.0)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: w2v.negative_sampling([np.nan], [[1.0]]), "vector"),
        (lambda: w2v.negative_sampling([], [[1.0]]), "vector"),
        (lambda: w2v.negative_sampling([1.0], [[1.0, 2.0]]), "outputs"),
        (lambda: w2v.negative_sampling(["a"], [[1.0]]), "vector"),
        (lambda: w2v.noise_distribution([-1, 2]), "counts"),
        (lambda: w2v.noise_distribution([0, 0]), "counts"),
        (lambda: w2v.noise_distribution([1, 2], math.nan), "exponent"),
        (lambda: w2v.discard_probability([1, 2], 0), "sample"),
        (lambda: w2v.context_pairs([1, 2], 0), "window"),
        (lambda: w2v.context_pairs([1, 2], True), "window"),
        (lambda: w2v.softmax_log_probability([[1.0]], [[1.0]], 1, 0), "center"),
        (lambda: w2v.sgd_step([[1.0]], np.ones((1, 1)), 0, 0, [0], 0.1), "vectors"),
        (lambda: w2v.sgd_step(np.ones((1, 1)), np.ones((1, 1)), 0, 0, [3], 0.1), "negatives"),
        (lambda: w2v.sgd_step(np.ones((1, 1)), np.ones((1, 1)), 0, 0, [0], -1), "learning_rate"),
        (lambda: w2v.planted_corpus(10, RNG), "tokens"),
        (lambda: w2v.planted_corpus(100, RNG, words=1), "words"),
        (lambda: w2v.heldout_queries([["a"]], RNG, share=0.5), "empty"),
        (lambda: w2v.heldout_queries([["a"]] * 9, RNG, share=2), "share"),
        (lambda: w2v.heldout_queries([["a"]] * 9, RNG, share=1), "empty"),
        (lambda: w2v.heldout_queries([["a", "b"]] * 3, RNG, share=0.4), "held-out"),
        (lambda: w2v.train([["a"]], architecture="glove"), "architecture"),
        (lambda: w2v.train([["a"]], negatives=-1), "negatives"),
        (lambda: w2v.train([["a"]], window=2.5), "window"),
        (lambda: w2v.train([["a"]], learning_rate=math.nan), "learning_rate"),
        (lambda: w2v.train([["a"]], learning_rate=0), "learning_rate"),
        (lambda: w2v.train([["a"]], sample=-1), "sample"),
        (lambda: w2v.train("some text"), "sentences"),
        (lambda: w2v.train(["some text"]), "sentences"),
        (lambda: w2v.train(np.array(["some", "text"])), "sentences must be lists of words, got"),
        (lambda: w2v.train([["a"], "text"]), "sentences must be lists of words, got 'text'"),
        (lambda: w2v.train(None), "sentences must be lists of words, got None"),
        (lambda: w2v.train(np.array("a")), "sentences must be lists of words"),
        (lambda: w2v.train(7 for _ in "ab"), "sentences must be lists of words, got 7"),
        (lambda: w2v.train([["a", 7]]), "sentences must hold words as str, got 7"),
        (lambda: w2v.train([[b"a"]]), "sentences must hold words as str, got b'a'"),
        (lambda: w2v.train(np.array([[["a"]]])), "sentences must hold words as str, got array"),
        (lambda: w2v.heldout_queries(["text"] * 9, RNG), "sentences must be lists of words"),
        (lambda: w2v.train([["a"]], min_count=5), "min_count"),
    ],
)
def test_bad_arguments_are_named(call, says):
    with pytest.raises((ValueError, TypeError), match=says):
        call()


# ---------------------------------------------------------------- corpora, training, scores


PAIRS_OF_WORDS = [["a", "b"], ["a", "c"]] * 20


@pytest.mark.parametrize(
    "sentences",
    [
        [np.array(words) for words in PAIRS_OF_WORDS],
        np.array(PAIRS_OF_WORDS),
        np.array(PAIRS_OF_WORDS, object),
        tuple(map(tuple, PAIRS_OF_WORDS)),
        (words for words in PAIRS_OF_WORDS),
        [iter(words) for words in PAIRS_OF_WORDS],
    ],
    ids=["arrays", "one array", "objects", "tuples", "generator", "iterators"],
)
def test_sentences_come_in_any_form(sentences):
    wanted = w2v.train(PAIRS_OF_WORDS, dimension=4)
    # In a thread of its own, which does not keep the process where gensim would wait for ever.
    found = []
    thread = threading.Thread(
        target=lambda: found.append(w2v.train(sentences, dimension=4)), daemon=True
    )
    thread.start()
    thread.join(60)
    assert found, "gensim waits"
    assert found[0].words == wanted.words
    assert {type(word) for word in found[0].words} == {str}
    assert np.array_equal(found[0].vectors, wanted.vectors)


def test_questions_are_drawn_from_sentences_in_any_form():
    sentences = [["a", "b", "c", "d"]] * 40
    wanted = w2v.heldout_queries(sentences, np.random.default_rng(0), count=3)
    for same in (np.array(sentences), iter(sentences)):
        assert w2v.heldout_queries(same, np.random.default_rng(0), count=3) == wanted


def test_planted_corpus_is_reproducible_and_has_its_structure(small):
    again = corpus(3)
    assert again.sentences == small.sentences
    assert corpus(4).sentences != again.sentences
    assert np.linalg.norm(small.vectors, axis=1) == pytest.approx(np.ones(150))
    cosine = small.vectors @ small.vectors.T
    same = small.clusters[:, None] == small.clusters[None]
    assert cosine[same].mean() > 0.4 > cosine[~same].mean() + 0.2
    counts = np.zeros(150)
    for sentence in small.sentences:
        np.add.at(counts, [int(w[1:]) for w in sentence], 1)
    assert counts[:10].sum() > 2 * counts[-50:].sum(), "Zipf: frequent words first"


def test_the_planted_vectors_score_one_and_others_less(small):
    names = tuple(f"w{i}" for i in range(150))
    assert w2v.planted_spearman(w2v.Embedding(names, small.vectors), small) == pytest.approx(1)
    noise = np.random.default_rng(0).normal(size=(150, 12))
    assert abs(w2v.planted_spearman(w2v.Embedding(names, noise), small)) < 0.05
    # half of the words missing cannot be better than knowing them
    half = w2v.Embedding(names[:75], small.vectors[:75])
    assert w2v.planted_spearman(half, small) < 0.6


def test_auc_of_perfect_wrong_and_ignorant_vectors():
    q = Queries(("a", "a"), ("b", "b"), ("c", "zebra"))
    right = w2v.Embedding(("a", "b", "c"), np.eye(3), np.array([[0, 0, 0], [1, 0, 0], [-1, 0, 0]]))
    assert w2v.heldout_auc(right, q) == 1.0
    wrong = w2v.Embedding(("a", "b", "c"), np.eye(3), -right.outputs)
    assert w2v.heldout_auc(wrong, q) == 0.0
    assert w2v.heldout_auc(w2v.Embedding(("x",), np.eye(1), np.eye(1)), q) == 0.5
    with pytest.raises(ValueError, match="negatives"):
        w2v.heldout_auc(w2v.Embedding(("a",), np.eye(1)), q)


def test_auc_against_all_comparisons():
    rng = np.random.default_rng(4)
    words = tuple("abcdefgh")
    e = w2v.Embedding(words, rng.normal(size=(8, 3)), rng.normal(size=(8, 3)))
    a, b, c = (tuple(rng.choice([*words, "?"], 40)) for _ in range(3))

    def score(x, y):
        return (
            float(e.vectors[words.index(x)] @ e.outputs[words.index(y)]) if "?" not in x + y else 0
        )

    true, rival = [score(x, y) for x, y in zip(a, b)], [score(x, y) for x, y in zip(a, c)]  # noqa: B905
    wins = [(t > r) + 0.5 * (t == r) for t in true for r in rival]
    assert w2v.heldout_auc(e, Queries(a, b, c)) == pytest.approx(np.mean(wins))


def test_training_gives_the_same_bits_again_and_learns(small):
    one = w2v.train(small.sentences, dimension=12, learning_rate=0.1, epochs=5, seed=2)
    two = w2v.train(small.sentences, dimension=12, learning_rate=0.1, epochs=5, seed=2)
    assert one.words == two.words
    assert one.vectors.tobytes() == two.vectors.tobytes()
    assert one.outputs.tobytes() == two.outputs.tobytes()
    other = w2v.train(small.sentences, dimension=12, learning_rate=0.1, epochs=5, seed=3)
    assert one.vectors.tobytes() != other.vectors.tobytes()
    assert w2v.planted_spearman(one, small) > 0.4
    near = [small.clusters[int(word[1:])] for word, _ in one.neighbours("w5", 5)]
    assert near.count(small.clusters[5]) >= 2
    assert w2v.train(small.sentences, negatives=0).outputs is None


def test_training_gives_the_same_bits_in_another_process_with_another_hash_seed(small):
    code = (
        "import hashlib\nimport numpy as np\nfrom genopt_core import word2vec as w\n"
        "rng = np.random.default_rng(3)\n"
        "c = w.planted_corpus(12_000, rng, words=150, clusters=10)\n"
        "e = w.train(c.sentences, epochs=1)\n"
        "print(hashlib.sha256(e.vectors.tobytes()).hexdigest())"
    )
    seen = {
        subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            check=True,
            env={"PYTHONHASHSEED": seed},
        ).stdout
        for seed in ("0", "123")
    }
    assert len(seen) == 1


# ---------------------------------------------------------------- the table


def toy():
    axes = [
        {"name": "a", "kind": "categorical", "levels": ["x", "y"]},
        {"name": "b", "kind": "integer", "levels": [1, 2, 4]},
    ]
    return cross_entropy.TabularObjective(axes, np.arange(12.0).reshape(2, 3, 2))


def test_a_table_looks_up():
    t = toy()
    assert len(t) == 6 == len(list(t))
    assert t({"a": "y", "b": 2}) == 8.5
    assert t({"b": 2, "a": "y"}, replicate=1) == 9
    assert t.best == {"a": "y", "b": 4}
    assert t.regret({"a": "x", "b": 1}) == 10
    assert (t.rank(t.best), t.rank({"a": "x", "b": 1})) == (1, 6)
    assert t.replicate_std == pytest.approx(math.sqrt(0.5))
    rng = np.random.default_rng(0)
    assert {t.draw({"a": "y", "b": 2}, rng) for _ in range(20)} == {8.0, 9.0}
    space = t.space
    assert all(space.decode(space.encode(params)) == params for params in t)
    for bad, says in (
        ({"a": "x"}, "params"),
        ({"a": "x", "b": 3}, "b must be one of 1, 2, 4, got 3"),
    ):
        with pytest.raises(ValueError, match=says):
            t(bad)
    with pytest.raises(ValueError, match="replicate"):
        t(t.best, replicate=2)
    with pytest.raises(ValueError, match="name"):
        cross_entropy.TabularObjective.load("word2vec")


def test_a_table_refuses_scores_that_do_not_fit():
    axes = [{"name": "a", "kind": "categorical", "levels": ["x", "y"]}]
    for scores in ([[1.0]], [1.0, 2.0], [[1.0], [math.nan]], np.empty((2, 0))):
        with pytest.raises(ValueError, match="scores"):
            cross_entropy.TabularObjective(axes, scores)
    with pytest.raises(ValueError, match="cpu_seconds"):
        cross_entropy.TabularObjective(axes, [[1.0], [2.0]], [1.0])


def test_stored_rows_come_out_again():
    """Two rows are trained again; across processors the last bits of BLAS may differ."""
    from book.experiments.cross_entropy import word2vec_tables as maker

    t = cross_entropy.TabularObjective.load("word2vec_planted")
    score = maker.objective("planted")
    quick = {"architecture": "cbow", "negatives": 4, "sample": 0.001, "learning_rate": 0.05}
    for seed, window in ((1, 4), (2, 8)):
        params = {**quick, "dimension": 16, "window": window}
        assert score(seed, **params) == pytest.approx(t(params, replicate=seed - 1), abs=5e-4)
    assert t.origin["corpus"] == maker.CORPUS["planted"]


def test_the_table_is_hard_and_not_noisy():
    t = cross_entropy.TabularObjective.load("word2vec_planted")
    assert len(t) >= 700
    assert t.scores.shape[-1] == 2
    assert (TABLES / "word2vec_planted.json").stat().st_size < 150_000
    assert t.signal_to_noise > 15
    # few configurations are nearly optimal, or chance would find them
    assert ((t.mean.max() - t.mean) < 0.01).mean() < 0.02


def test_pairs_to_judge_by_are_20000_random_ones_and_five_neighbors_a_word():
    corpus = w2v.planted_corpus(20, np.random.default_rng(0), words=30, clusters=3)
    first, second, truth = corpus.judged
    assert len(first) == len(second) == len(truth) == 20_000 + 5 * 30
    unit = corpus.vectors
    assert np.allclose(truth, (unit[first] * unit[second]).sum(axis=1))


def test_neighbors_of_a_word_that_is_not_there():
    embedding = w2v.Embedding(("a",), np.ones((1, 2), np.float32), None)
    with pytest.raises(ValueError, match="word must be one of the 1 words, got 'b'"):
        embedding.neighbours("b")


def test_a_planted_corpus_is_the_one_that_the_stored_table_was_trained_on():
    corpus = w2v.planted_corpus(40, np.random.default_rng(3), words=60, clusters=4)
    assert list(corpus.sentences[0][:6]) == ["w20", "w6", "w52", "w6", "w9", "w6"]
