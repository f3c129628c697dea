"""The unit of the word counts: a corpus weighs what it weighs, its vocabulary stays the same."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from genopt_core import corpora
from genopt_core.subwords import development_cost, train
from genopt_core.subwords.training.unit import common_unit, in_units

FACTORS = [0.01, 0.1, 1 / 3, 0.5, 0.7, 2, math.pi, 10, 1e3, 1e9, 1e17]


@pytest.fixture(scope="module")
def words():
    return corpora.count_words(corpora.load("moby-dick")[:100_000])


# ------------------------------------------------------------------ the unit itself


@given(
    counts=st.lists(st.integers(1, 10**5), min_size=1, max_size=40),
    factor=st.sampled_from(FACTORS) | st.floats(1e-6, 1e6),
)
def test_multiples_give_back_the_whole_numbers(counts, factor):
    unit = math.gcd(*counts) if len(counts) > 1 else counts[0] / 2
    scaled = {str(i): count * factor for i, count in enumerate(counts)}
    found = common_unit(scaled.values())
    assert found == pytest.approx(unit * factor, rel=1e-9)
    assert list(in_units(scaled, found).values()) == [count // unit for count in counts]


def test_counts_as_they_are_counted_are_left_alone(words):
    assert common_unit(words.values()) == 1
    assert in_units(words, 1.0) == words
    assert common_unit([5000, 7001]) == 1  # a list without its rare words


def test_weights_without_a_measure_leave_the_smallest_count():
    rng = np.random.default_rng(0)
    counts = {str(i): x for i, x in enumerate(rng.uniform(1, 50, 300))}
    unit = common_unit(counts.values())
    assert unit == min(counts.values())
    exactly = {word: count / unit for word, count in counts.items()}
    assert in_units(counts, unit) == pytest.approx(exactly, rel=0, abs=1e-9)
    assert common_unit([math.pi, math.pi]) == math.pi


@pytest.mark.parametrize("factor", FACTORS)
def test_a_measure_that_few_counts_lie_on_is_none(words, factor):
    """Weights of .5 and .51 have a measure of .01, and nothing occurs for .01."""
    other = corpora.count_words(corpora.load("moby-dick")[300_000:400_000])
    every = words.keys() | other.keys()
    for a, b, once in ((50, 51, 50), (7, 3, 3), (1000, 1001, 1000), (1, 2, 1), (100, 314, 100)):
        mixed = [factor * (a * words.get(w, 0) + b * other.get(w, 0)) for w in every]
        assert common_unit(mixed) == pytest.approx(once * factor, rel=1e-9)
    for least in (2, 5, 30):  # a list that is cut off below: plain occurrences all the same
        cut = [n * factor for n in words.values() if n >= least]
        assert common_unit(cut) == pytest.approx(factor, rel=1e-9)


def test_words_that_are_about_as_frequent_are_no_mixture():
    rng = np.random.default_rng(0)
    even = np.bincount(rng.integers(0, 900, 1_000_000))
    assert common_unit(even.tolist()) == 1
    assert common_unit(rng.poisson(1000, 2000).tolist()) == 1
    counts = {f"{i:03}": int(n) for i, n in enumerate(even)}
    assert len(train(counts, 300, effort="fast", at_most=True)) == 300


def test_a_mixture_of_nearly_equal_weights_is_trained_on_as_one_of_equal_weights(words):
    other = corpora.count_words(corpora.load("sotu")[:100_000])
    held = corpora.count_words(corpora.load("sotu")[500_000:600_000])
    cost = []
    for weight in (0.5, 0.51):
        both = words.keys() | other.keys()
        mixed = {w: 0.5 * words.get(w, 0) + weight * other.get(w, 0) for w in both}
        vocabulary = train(mixed, 1500, effort="fast")
        assert vocabulary.provenance["new_words"] is True
        cost.append(development_cost(vocabulary, held))
    assert np.allclose(*cost, rtol=0.01)


def test_one_word_is_worth_a_piece_whatever_its_count():
    for count in (1, 3, 0.03, 1e9):
        assert set(train({"abcabc": count}, 4).pieces) == {"a", "b", "c", "abcabc"}


# ------------------------------------------------------------------ training


@pytest.mark.parametrize(
    "options", [{"objective": 5.0, "effort": "fast"}, {"objective": "tokens", "effort": "fast"}]
)
def test_the_unit_of_the_counts_changes_no_piece(words, options):
    options = {**options, "new_words": False}  # the others: test_new_words.py
    plain = train(words, 500, **options)
    for factor in FACTORS:
        scaled = train({word: n * factor for word, n in words.items()}, 500, **options)
        assert scaled.pieces == plain.pieces
        np.testing.assert_array_equal(scaled.log_probabilities, plain.log_probabilities)
        np.testing.assert_allclose(scaled.counts, plain.counts * factor, rtol=1e-9)
        for what in ("words", "min_count"):
            expected = plain.provenance[what] * factor
            assert scaled.provenance[what] == pytest.approx(expected, rel=1e-9)


def test_a_mixture_is_the_same_in_any_unit(words):
    other = corpora.count_words(corpora.load("moby-dick")[300_000:350_000])
    both = sorted(words.keys() | other.keys())
    whole = {w: 7 * words.get(w, 0) + 3 * other.get(w, 0) for w in both}
    shares = {w: 0.7 * words.get(w, 0) + 0.3 * other.get(w, 0) for w in both}
    plainly = {"effort": "fast", "new_words": False}
    assert train(shares, 400, **plainly).pieces == train(whole, 400, **plainly).pieces
    weights = {w: words.get(w, 0) / math.e + other.get(w, 0) / math.pi for w in both}
    plain = train(weights, 400, effort="fast")
    for factor in (0.01, 8, 1e9):  # no common measure: the smallest count is the unit
        scaled = train({w: x * factor for w, x in weights.items()}, 400, effort="fast")
        assert set(scaled.pieces) == set(plain.pieces)


def test_min_count_is_in_the_unit_of_the_counts(words):
    plain = train(words, 300, effort="fast", min_count=20)
    for factor in (0.01, 3, 1e9):
        scaled = {word: n * factor for word, n in words.items()}
        vocabulary = train(scaled, 300, effort="fast", min_count=20 * factor)
        assert vocabulary.pieces == plain.pieces
        assert vocabulary.provenance["min_count"] == 20 * factor
    assert plain.pieces != train(words, 300, effort="fast").pieces
    with pytest.raises(ValueError, match=r"occur at least 0.2 times"):
        train({word: n * 0.01 for word, n in words.items()}, 9000, min_count=0.2)
    for bad, error in ((-1, ValueError), (math.nan, ValueError), ("two", TypeError)):
        with pytest.raises(error, match="min_count must be"):
            train(words, 300, min_count=bad)


def test_progress_is_in_the_unit_of_the_counts(words):
    seen, scaled = [], []
    for counts, steps in ((words, seen), ({w: n * 0.5 for w, n in words.items()}, scaled)):
        train(counts, 300, effort="fast", new_words=False, progress=steps.append)
    assert [2 * step.bits for step in scaled] == pytest.approx([step.bits for step in seen])
    assert [2 * step.tokens for step in scaled] == [step.tokens for step in seen]
