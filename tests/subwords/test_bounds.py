"""The certificate against a checker that shares no code with it, a solver, and brute force."""

import itertools
import math
from collections import defaultdict

import numpy as np
import pytest

from genopt_core import corpora
from genopt_core.subwords.bounds.certificate import Certificate, certify, check_covered
from genopt_core.subwords.bounds.exact import exact_vocabulary, exhaustive_vocabulary
from genopt_core.subwords.segmentation.corpus import best_paths
from genopt_core.subwords.segmentation.lattice import Lattice
from genopt_core.subwords.tokenizer.vocabulary import Vocabulary
from genopt_core.subwords.training.ascent import ascend, soft_largest
from genopt_core.subwords.training.dual import bound_from_prices, piece_values, sum_of_largest
from genopt_core.subwords.training.substrings import Substrings
from genopt_core.subwords.training.train import train

TOY = {"low▁": 5, "lower▁": 2, "newest▁": 6, "widest▁": 3}


def checked_bound(word_counts, prices, vocab_size, max_piece):
    """The bound in twenty lines of plain Python: all that has to be believed."""
    total, value = 0.0, defaultdict(float)
    for word, count in word_counts.items():
        price = list(prices[word])
        assert len(price) == len(word)
        assert all(0 <= p <= 1 for p in price)
        total += count * sum(price)
        for start in range(len(word)):
            for end in range(start + 2, min(start + max_piece, len(word)) + 1):
                worth = sum(price[start:end]) - 1
                if worth > 0:
                    value[word[start:end]] += count * worth
    alphabet = set().union(*word_counts)
    return total - sum(sorted(value.values(), reverse=True)[: vocab_size - len(alphabet)])


def sotu_words(how_many):
    return dict(list(corpora.count_words(corpora.load("sotu")).items())[:how_many])


def fewest_tokens(counts, pieces):
    paths = best_paths(Lattice(counts, dict.fromkeys(pieces, 1.0)))
    return float((paths.lattice.counts * paths.cost).sum())


@pytest.mark.parametrize("size", [11, 13, 16, 30])
def test_bound_is_the_one_of_the_independent_checker(size):  # swe-dual
    for counts in (TOY, sotu_words(400) | TOY):
        vocab_size = size if counts is TOY else 100 + size
        certificate = certify(counts, vocab_size, steps=40)
        expected = checked_bound(counts, certificate.prices, vocab_size, 16)
        assert certificate.bound == pytest.approx(expected, rel=1e-12)
        assert certificate.check(counts) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("seed", range(6))
def test_any_prices_bound_every_vocabulary(seed):
    rng = np.random.default_rng(seed)
    counts = {"".join(rng.choice(list("ab"), rng.integers(2, 7))): int(rng.integers(1, 9))
              for _ in range(6)}  # fmt: skip
    table = Substrings(counts, 4)
    longer = [text for text in table.texts() if len(text) > 1]
    alphabet = sorted(set().union(*counts))
    best = min(
        fewest_tokens(counts, [*alphabet, *chosen]) for chosen in itertools.combinations(longer, 2)
    )
    characters = sum(map(len, counts))
    for prices in (rng.random(characters), rng.random(characters) ** 3, np.ones(characters)):
        assert bound_from_prices(table, prices, 2) <= best + 1e-9
    certificate = certify(counts, len(alphabet) + 2, max_piece=4)
    exact = exact_vocabulary(counts, len(alphabet) + 2, max_piece=4)
    assert certificate.bound <= best + 1e-9
    assert exact.value == pytest.approx(best)
    assert fewest_tokens(counts, exact.pieces) == pytest.approx(best)
    assert exact.proved


@pytest.mark.parametrize(("words", "size"), [(60, 60), (150, 90), (250, 150)])
def test_chain_of_bounds(words, size):  # swe-relaxation
    counts = sotu_words(words)
    certificate = certify(counts, size, max_piece=8, steps=300)
    relaxed = exact_vocabulary(counts, size, max_piece=8, relaxed=True)
    exact = exact_vocabulary(counts, size, max_piece=8)
    vocabulary = train(counts, size, "tokens", effort="best", max_piece=8, min_count=1)
    trained = float(vocabulary.counts.sum())
    assert certificate.bound <= relaxed.value * (1 + 1e-7)
    assert relaxed.value <= exact.value * (1 + 1e-7)
    assert exact.value <= trained * (1 + 1e-7)
    assert exact.proved
    assert certificate.bound > 0.998 * relaxed.value
    assert trained < 1.01 * exact.value
    assert relaxed.shares.sum() == pytest.approx(size, abs=1e-3)
    assert certificate.gap(vocabulary, counts) == pytest.approx(
        100 * (trained / certificate.bound - 1), abs=1e-9
    )


@pytest.mark.parametrize("seed", range(4))
def test_a_bound_of_candidates_is_that_of_the_best_of_them(seed):
    """Brute force over every pair of longer pieces that occur often enough."""
    rng = np.random.default_rng(seed)
    counts = {"".join(rng.choice(list("ab"), rng.integers(2, 7))): int(rng.integers(1, 9))
              for _ in range(8)}  # fmt: skip
    table = Substrings(counts, 4)
    longer = [text for text in table.texts() if len(text) > 1]
    occurs = dict(zip(table.texts(), table.count.tolist(), strict=True))
    alphabet, bounds, found = sorted(set().union(*counts)), [], []
    for least in (0, 12, 20):
        often = [text for text in longer if occurs[text] >= least]
        pairs = itertools.combinations(often, min(2, len(often)))
        found.append(min(fewest_tokens(counts, [*alphabet, *pair]) for pair in pairs))
        size = len(alphabet) + 2
        bounds.append(certify(counts, size, max_piece=4, min_count=least).bound)
        assert bounds[-1] <= found[-1] + 1e-9
        if len(often) <= 2:  # there is room for all of them
            assert bounds[-1] == pytest.approx(found[-1], rel=1e-9)
    assert np.all(np.diff(bounds) > -0.01 * found[0])  # each was found by an ascent of its own
    assert found == sorted(found)


@pytest.mark.parametrize("least", [0, 30, 300, 10**6])
def test_the_bound_is_attained_where_every_candidate_fits(least):
    counts = sotu_words(200)
    table = Substrings(counts, 16, least)
    certificate = certify(counts, len(table) + 3, min_count=least)
    fewest = fewest_tokens(counts, table.texts())
    assert certificate.bound == pytest.approx(fewest, rel=1e-12)
    assert certificate.check(counts) == pytest.approx(fewest, rel=1e-12)


def test_the_gap_to_the_candidates_of_training():
    counts = sotu_words(250)
    every = certify(counts, 150, max_piece=8)
    certificate = certify(counts, 150, max_piece=8, min_count=400)
    vocabulary = train(counts, 150, "tokens", max_piece=8, min_count=400)
    assert 0 <= certificate.gap(vocabulary, counts) < every.gap(vocabulary, counts)
    assert certificate.check(counts) == pytest.approx(certificate.bound)
    halves = {word: count / 2 for word, count in counts.items()}
    assert 2 * certify(halves, 150, max_piece=8, min_count=200).bound == certificate.bound
    other = train(counts, 150, "tokens", max_piece=8, min_count=1)
    with pytest.raises(ValueError, match="pieces must occur at least 400 times"):
        certificate.gap(other, counts)


def test_candidates_of_a_certificate_are_saved(tmp_path):
    counts = sotu_words(60)
    for least in (0, 30):
        certificate = certify(counts, 60, steps=30, min_count=least)
        certificate.save(tmp_path / "prices.npz")
        back = Certificate.load(tmp_path / "prices.npz")
        assert back.min_count == least
        assert back.check(counts) == pytest.approx(certificate.bound)
    with pytest.raises(ValueError, match="min_count must be at least 0, got -1"):
        certify(counts, 60, min_count=-1)


def test_within_a_thousandth_of_the_linear_program():
    counts = sotu_words(500)
    certificate = certify(counts, 250)
    relaxed = exact_vocabulary(counts, 250, relaxed=True)
    assert 0.999 * relaxed.value <= certificate.bound <= relaxed.value * (1 + 1e-7)


def test_values_of_pieces():
    table = Substrings({"abab": 2, "ab": 3}, 3)
    values = dict(zip(table.texts(), piece_values(table, [1, 0.5, 1, 1, 0.75, 0.5]), strict=True))
    # words in order: "ab" with prices 1, .5; "abab" with 1, 1, .75, .5
    assert values == {"a": 0, "b": 0, "ab": 3 * 0.5 + 2 * (1 + 0.25), "ba": 2 * 0.75,
                      "aba": 2 * 1.75, "bab": 2 * 1.25}  # fmt: skip


def test_sum_of_largest_and_its_smooth_form():
    value = np.array([4.0, 1.0, 3.0, 2.0])
    assert [sum_of_largest(value, k) for k in range(6)] == [0, 4, 7, 9, 10, 10]
    for k in (1, 2, 3):
        shares = soft_largest(value, k, np.full(4, 0.01))
        assert shares.sum() == pytest.approx(k)
        assert shares @ value == pytest.approx(sum_of_largest(value, k))
    assert soft_largest(value, 9, np.ones(4)).tolist() == [1.0] * 4


def test_shares_of_the_ascent_are_a_vocabulary_of_the_size():
    table = Substrings(sotu_words(800), 16)
    found = ascend(table, 150, 120)
    assert found.share.sum() == pytest.approx(150, rel=1e-6)
    assert ((found.share >= 0) & (found.share <= 1)).all()
    assert (found.share[table.single] == 0).all()


def test_larger_vocabularies_have_lower_bounds_and_more_steps_better_ones():
    counts = sotu_words(400)
    bounds = [certify(counts, size, steps=60).bound for size in (100, 200, 400)]
    assert bounds == sorted(bounds, reverse=True)
    assert certify(counts, 200, steps=120).bound > certify(counts, 200, steps=30).bound


def test_extreme_sizes():
    characters = len(set().union(*TOY))
    tokens = sum(len(word) * count for word, count in TOY.items())
    assert certify(TOY, characters).bound == pytest.approx(tokens, rel=2e-3)
    everything = certify(TOY, 1000)
    assert everything.bound <= sum(TOY.values())
    assert certify({"a": 3}, 1).bound <= 3


def test_saved_and_loaded(tmp_path):
    counts = sotu_words(300) | {"\x00\u2028": 2, "日本▁": 1}
    certificate = certify(counts, 200, steps=60)
    certificate.save(tmp_path / "prices.npz")
    again = Certificate.load(tmp_path / "prices.npz")
    assert again.bound == certificate.bound
    assert (again.vocabulary_size, again.max_piece) == (200, 16)
    assert again.check(counts) == certificate.bound
    assert list(again.prices) == list(certificate.prices)


def test_check_with_other_counts_is_valid_and_weaker():
    counts = sotu_words(200)
    certificate = certify(counts, 120, steps=100)
    more = counts | {"untold▁": 7, "the▁": counts["the▁"] + 5}
    assert certificate.check(more) <= certify(more, 120, steps=400).bound * 1.001
    assert certificate.check(more) > 0


def test_gap_of_vocabularies_it_says_nothing_about():
    certificate = certify(TOY, 14, max_piece=4, steps=20)

    def vocabulary(pieces):
        return Vocabulary(
            pieces=tuple(pieces),
            log_probabilities=np.full(len(pieces), -2.0),
            counts=np.ones(len(pieces)),
        )

    letters = sorted(set().union(*TOY))
    assert certificate.gap(vocabulary([*letters, "low"]), TOY) > 0
    with pytest.raises(ValueError, match="at most 14 pieces"):
        certificate.gap(vocabulary([*letters, "lo", "ow", "es", "st"]), TOY)
    with pytest.raises(ValueError, match="at most 4 characters"):
        certificate.gap(vocabulary([*letters, "lower"]), TOY)
    with pytest.raises(ValueError, match="every character"):
        certificate.gap(vocabulary(letters[1:]), TOY)


def test_refused():
    with pytest.raises(ValueError, match="at least 11"):
        certify(TOY, 10)
    with pytest.raises(ValueError, match="empty"):
        certify({}, 10)
    with pytest.raises(ValueError, match="finite count"):
        certify({"ab": math.nan}, 10)
    with pytest.raises(TypeError, match="vocab_size"):
        certify(TOY, "12")
    with pytest.raises(ValueError, match="steps"):
        certify(TOY, 12, steps=0)
    table = Substrings(TOY, 4)
    with pytest.raises(ValueError, match="shape"):
        bound_from_prices(table, [0.5], 2)
    for wrong in (1.5, -0.1, math.nan):
        with pytest.raises(ValueError, match=r"0\.\.1"):
            bound_from_prices(table, np.full(sum(map(len, TOY)), wrong), 2)
    certificate = certify(TOY, 12, steps=5)
    with pytest.raises(ValueError, match="at most 12 different characters"):
        certificate.check({"abcdefghijklmnopq": 1})
    broken = Certificate(1.0, {"ab": np.zeros(3)}, 5, 16)
    with pytest.raises(ValueError, match="must have 2 entries"):
        broken.check({"ab": 1})


def test_progress_counts_the_steps():
    seen = []
    certify(TOY, 14, steps=20, progress=seen.append)
    assert [(step.done, step.total) for step in seen] == [(n, 20) for n in range(1, 21)]
    assert [step.bound for step in seen] == sorted(step.bound for step in seen)


def test_oracles_refuse_what_is_too_large():
    with pytest.raises(ValueError, match="small"):
        exact_vocabulary({"ab" * 14_000: 1}, 5)
    with pytest.raises(ValueError, match="are tried"):
        exhaustive_vocabulary(sotu_words(200), 120)
    with pytest.raises(ValueError, match="at most"):
        exhaustive_vocabulary({"abc": 2}, 40)


def test_a_word_of_a_hundred_thousand_characters():
    word = "abcdefghij" * 10_000
    certificate = certify({word: 1}, 20, steps=5, max_piece=4)
    assert 0 < certificate.bound <= 30_000


def test_without_a_least_count_rare_pieces_are_covered():
    vocabulary = Vocabulary(("a", "b", "ab"), np.log([1 / 3] * 3), [1, 1, 1])
    check_covered(vocabulary, {"ab": 0.5}, 3)
    with pytest.raises(ValueError, match="pieces must occur at least 1 times"):
        check_covered(vocabulary, {"ab": 0.5}, 3, min_count=1)
