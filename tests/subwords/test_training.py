"""Vocabulary training against brute force over all spellings, all removals and all vocabularies."""

import itertools
import math
import warnings
from collections import Counter

import numpy as np
import pytest

from genopt_core import corpora
from genopt_core.subwords.bounds.exact import exhaustive_vocabulary
from genopt_core.subwords.segmentation.arrays import ascending, rounded
from genopt_core.subwords.segmentation.corpus import best_paths
from genopt_core.subwords.segmentation.lattice import Lattice
from genopt_core.subwords.training import em
from genopt_core.subwords.training.arcs import Pieces
from genopt_core.subwords.training.candidates import substring_counts
from genopt_core.subwords.training.likelihood import hard_em_step
from genopt_core.subwords.training.pruning import (
    _best_paths,
    _cheapest_other_arcs,
    pruned,
    removal_losses,
    suspected,
)
from genopt_core.subwords.training.search import insertion_gains
from genopt_core.subwords.training.substrings import Substrings
from genopt_core.subwords.training.train import train
from genopt_core.subwords.training.trainer import EFFORTS

TOY = {"low▁": 5, "lower▁": 2, "newest▁": 6, "widest▁": 3}


def random_words(seed, letters="abc", words=25, longest=8):
    rng = np.random.default_rng(seed)
    counts = Counter()
    for _ in range(words):
        word = "".join(rng.choice(list(letters), rng.integers(1, longest + 1)))
        counts[word] += int(rng.integers(1, 20))
    return dict(counts)


def instance(seed):
    """A table, some of its substrings as pieces, and random counts."""
    rng = np.random.default_rng(1000 + seed)
    table = Substrings(random_words(seed), max_piece=5)
    pieces = Pieces(table, table.single | (rng.random(len(table)) < 0.5))
    counts = np.where(pieces.chosen, rng.uniform(5, 100, len(table)), 0.0)
    return table, pieces, counts


def segmentations(word):
    for cuts in itertools.product((False, True), repeat=len(word) - 1):
        ends = [i for i, cut in enumerate(cuts, 1) if cut]
        yield [word[a:b] for a, b in itertools.pairwise([0, *ends, len(word)])]


def log_x(value):
    return value * math.log(value) if value > 0 else 0.0


def objective(counts, length_cost):
    total = sum(counts.values())
    return log_x(total) - sum(map(log_x, counts.values())) + length_cost * total


# -- the table of candidates -------------------------------------------------------------------


@pytest.mark.parametrize("least", [1, 7])
@pytest.mark.parametrize("seed", range(5))
def test_table_counts_every_substring(seed, least):
    words = random_words(seed)
    table = Substrings(words, max_piece=4, min_count=least)
    expected = substring_counts(words, 4, least)
    texts = table.texts()
    assert dict(zip(texts, table.count, strict=True)) == expected
    assert texts == sorted(texts, key=lambda text: (len(text), text))


def test_word_arcs_are_the_places_of_the_substrings():
    table = Substrings(random_words(3), max_piece=4)
    texts = table.texts()
    for length, (gap, number) in enumerate(table.word_arcs, start=1):
        found = {}
        for g, n in zip(gap.tolist(), number.tolist(), strict=True):
            found[g] = texts[n]
        for w, word in enumerate(table.words):
            for end in range(length, len(word) + 1):
                assert found.pop(int(table.start[w]) + end) == word[end - length : end]
        assert not found


def test_fewer_substrings_keep_their_places():
    table = Substrings(random_words(4), max_piece=5)
    kept = table.maximal()
    fewer = table.only(kept)
    assert fewer.texts() == [t for t, k in zip(table.texts(), kept, strict=True) if k]
    gap, number = fewer.word_arcs[2]
    texts = fewer.texts()
    joined = {int(s) + e: w[e - 3 : e] for s, w in zip(table.start, table.words, strict=True)
              for e in range(3, len(w) + 1)}  # fmt: skip
    assert all(texts[n] == joined[g] for g, n in zip(gap.tolist(), number.tolist(), strict=True))


def test_fewer_substrings_have_the_arcs_that_are_left():
    table = Substrings(random_words(4), max_piece=5)
    kept = table.maximal()
    rank = np.cumsum(kept) - 1
    before = table.forwards.only(kept), table.backwards.only(kept)
    fewer = table.only(kept)
    for old, new in zip(before, (fewer.forwards, fewer.backwards), strict=True):
        assert np.array_equal(rank[old.piece], new.piece)
        assert np.array_equal(old.source, new.source)
        assert np.array_equal(old.target, new.target)


def test_maximal_means_no_longer_substring_of_equal_count():
    table = Substrings(random_words(5), max_piece=4)
    count = dict(zip(table.texts(), table.count, strict=True))
    for text, kept in zip(table.texts(), table.maximal(), strict=True):
        longer = [c for t, c in count.items() if len(t) == len(text) + 1 and text in t]
        assert kept == (len(text) == 1 or count[text] not in longer)


@pytest.mark.parametrize("bits", [3, 15, 17, 32, 33, 40, 60])
def test_ascending_is_a_stable_sort(bits):
    rng = np.random.default_rng(bits)
    key = rng.integers(0, 1 << bits, 200)
    key = np.concatenate([key, key[::3], [0, (1 << bits) - 1, 0]])
    order, ordered = ascending(key)
    assert order.tolist() == np.argsort(key, kind="stable").tolist()
    assert ordered.tolist() == sorted(key.tolist())


def test_ascending_falls_back_when_the_keys_are_long():
    key = np.array([2**62, 5, 2**62, 1], dtype=np.int64)
    order, ordered = ascending(key)
    assert order.tolist() == [3, 1, 0, 2]
    assert ordered.tolist() == sorted(key.tolist())


# -- expectation-maximization --------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(8))
def test_expected_counts_are_sums_over_all_segmentations(seed):  # swe-em
    table, pieces, counts = instance(seed)
    cost = em.fitted_costs(counts, 0.7)
    found, log_likelihood = em.expected_counts(pieces.forwards, cost, table.end_weight)
    price = {t: c for t, c, k in zip(table.texts(), cost, pieces.chosen, strict=True) if k}
    expected, total = Counter(), 0.0
    for word, weight in zip(table.words, table.weight, strict=True):
        paths = [(p, math.exp(-sum(price[s] for s in p))) for p in segmentations(word)
                 if all(s in price for s in p)]  # fmt: skip
        mass = sum(probability for _, probability in paths)
        total += weight * math.log(mass)
        for path, probability in paths:
            for piece in path:
                expected[piece] += weight * probability / mass
    assert log_likelihood == pytest.approx(total, rel=1e-12)
    for text, value in zip(table.texts(), found, strict=True):
        assert value == pytest.approx(expected[text], abs=1e-8)


@pytest.mark.parametrize("seed", range(8))
def test_spelling_is_the_one_of_the_lattice(seed):
    table, pieces, counts = instance(seed)
    state = em.segment_all(table, pieces.forwards, em.fitted_costs(counts, 0.3), 0.3)
    price = {t: c for t, c, k in zip(table.texts(), state.cost, pieces.chosen, strict=True) if k}
    words = dict(zip(table.words, table.weight, strict=True))
    paths = best_paths(Lattice(words, price))
    used = dict(zip(paths.lattice.pieces, paths.piece_counts(), strict=True))
    for text, value in zip(table.texts(), state.counts, strict=True):
        assert value == used.get(text, 0.0)
    assert state.potential[table.prefixes.end] == pytest.approx(paths.cost, rel=1e-12)
    assert state.objective == pytest.approx(objective(used, 0.3), rel=1e-12)  # swe-tradeoff


@pytest.mark.parametrize("seed", range(4))
def test_backward_costs_are_those_of_the_reversed_words(seed):
    table, pieces, counts = instance(seed)
    cost = em.fitted_costs(counts, 0.0)
    forward, _ = pieces.forwards.cheapest(cost)
    backward, _ = pieces.backwards.cheapest(cost)
    assert backward[table.suffixes.end] == pytest.approx(forward[table.prefixes.end])


def test_hard_em_never_gets_worse_and_soft_em_keeps_probabilities():
    table, pieces, counts = instance(11)
    values = [em.hard_em(table, pieces.forwards, counts, 1.0, n, 0.0).objective for n in (1, 2, 6)]
    assert values == sorted(values, reverse=True)
    cost, left = em.soft_step(
        table, pieces.forwards, pieces.chosen, em.fitted_costs(counts, 0.5), 0.5
    )
    assert np.exp(0.5 - cost[left]).sum() == pytest.approx(1)
    assert left[table.single].all()


def test_digamma():
    special = pytest.importorskip("scipy.special")
    x = np.geomspace(1e-3, 1e6, 200)
    assert em.digamma(x) == pytest.approx(special.digamma(x), rel=1e-11, abs=1e-11)


# -- removal and insertion -----------------------------------------------------------------------


@pytest.mark.parametrize("length_cost", [0.0, 5.0])
@pytest.mark.parametrize("seed", range(25))
def test_removal_loss_is_exact_also_for_pieces_used_twice(seed, length_cost):  # swe-removal
    table, pieces, counts = instance(seed)
    state = em.segment_all(
        table, pieces.forwards, em.fitted_costs(counts, length_cost), length_cost
    )
    loss = removal_losses(pieces, state)
    texts = table.texts()
    price = {t: c for t, c, k in zip(texts, state.cost, pieces.chosen, strict=True) if k}
    words = dict(zip(table.words, table.weight, strict=True))
    compared = 0
    for number in np.flatnonzero(pieces.chosen & ~table.single):
        without = {t: c for t, c in price.items() if t != texts[number]}
        paths = best_paths(Lattice(words, without))
        used = dict(zip(paths.lattice.pieces, paths.piece_counts(), strict=True))
        true = objective(used, length_cost) - state.objective
        assert loss[number] == pytest.approx(true, abs=1e-6)
        compared += state.counts[number] > 0
    assert compared > 5
    assert np.isinf(loss[table.single]).all()


def test_some_instance_does_use_a_piece_twice():
    twice = 0
    for seed in range(25):
        table, pieces, counts = instance(seed)
        cost = em.fitted_costs(counts, 0.0)
        price = {t: c for t, c, k in zip(table.texts(), cost, pieces.chosen, strict=True) if k}
        paths = best_paths(Lattice(table.words, price))
        for word in table.words:
            longer = [p for p in paths.path(word).pieces if len(p) > 1]
            twice += len(longer) > len(set(longer))
    assert twice > 3


@pytest.mark.parametrize("seed", range(6))
def test_a_detour_starts_with_the_cheapest_other_arc(seed):  # swe-removal
    table, pieces, _ = instance(seed)
    rng = np.random.default_rng(seed)
    cost = rng.integers(1, 4, len(table)).astype(float)  # many are equal
    state = em.segment_all(table, pieces.forwards, cost, 0.0)
    after, _ = pieces.backwards.cheapest(cost)
    uses, _, path_piece = _best_paths(pieces, state, ~table.single)
    ends, others = _cheapest_other_arcs(pieces, state, after, uses, path_piece)
    arcs = [
        (length, end, number)
        for length, (gap, piece) in enumerate(pieces.word_arcs, start=1)
        for end, number in zip(gap.tolist(), piece.tolist(), strict=True)
    ]
    assert len(uses.gap)
    for use, end, other in zip(uses.gap.tolist(), ends.tolist(), others.tolist(), strict=True):
        found = [
            (
                state.potential[table.prefix_of[last - length]]
                + cost[number]
                + after[table.suffix_of[last]],
                length,  # among equals the shortest, then the one that ends last
                -last,
                number,
            )
            for length, last, number in arcs
            if last - length <= use < last and path_piece[last - length] != number
        ]
        assert (-end, other) == min(found)[2:]


def test_losses_of_suspects_are_the_same():
    table, pieces, counts = instance(2)
    state = em.segment_all(table, pieces.forwards, em.fitted_costs(counts, 0.0), 0.0)
    loss = removal_losses(pieces, state)
    asked = pieces.chosen & (np.arange(len(table)) % 3 == 0)
    some = removal_losses(pieces, state, asked)
    shown = asked & ~table.single
    assert some[shown] == pytest.approx(loss[shown])
    assert np.isinf(some[~shown]).all()
    assert np.array_equal(
        removal_losses(pieces, state, table.single) < np.inf, table.single & False
    )


def test_suspects_are_the_unknown_and_the_lowest():
    table, pieces, _ = instance(2)
    there = np.flatnonzero(pieces.chosen & ~table.single)
    known = np.full(len(table), np.inf)
    known[there] = np.arange(len(there))
    known[there[-1]] = -np.inf
    asked = suspected(pieces, known, 1)
    assert asked[there].tolist() == [True] * 9 + [False] * (len(there) - 10) + [True]


def test_pruning_order():
    table = Substrings({"abcd": 3, "cdab": 3}, max_piece=2)
    loss = np.where(table.single, np.inf, 1.0)
    counts = np.full(len(table), 3.0)
    texts = np.array(table.texts())
    counts[texts == "da"] = 0.0  # unused: goes first, whatever its loss
    loss[texts == "da"] = 9.0
    loss[texts == "cd"] = 1.0 + 1e-13  # equal up to rounding: then by text
    loss[texts == "ab"] = 2.0
    left = pruned(table, np.ones(len(table), dtype=bool), counts, loss, 6)
    assert texts[left].tolist() == ["a", "b", "c", "d", "ab", "cd"]
    assert rounded(np.array([np.inf, -np.inf, 0.0])).tolist() == [np.inf, -np.inf, 0.0]


@pytest.mark.parametrize("seed", range(5))
def test_insertion_gain_is_the_formula(seed):  # swe-insertion
    table, pieces, counts = instance(seed)
    state = em.segment_all(table, pieces.forwards, em.fitted_costs(counts, 0.4), 0.4)
    gain, uses = insertion_gains(pieces, state)
    texts = table.texts()
    price = {t: c for t, c, k in zip(texts, state.cost, pieces.chosen, strict=True) if k}

    def cost(word):
        return best_paths(Lattice([word], price)).cost[0] if word else 0.0

    for number in np.flatnonzero(~pieces.chosen)[:40]:
        text = texts[number]
        afford = [
            (cost(word) - cost(word[:i]) - cost(word[i + len(text) :]), weight)
            for word, weight in zip(table.words, table.weight, strict=True)
            for i in range(len(word))
            if word.startswith(text, i)
        ]
        n = table.count[number]
        for _ in range(3):
            limit = 0.4 - math.log(n / state.tokens) if n else math.inf
            n = sum(weight for room, weight in afford if room > limit)
        expected = sum(weight * max(room - limit, 0) for room, weight in afford)
        assert uses[number] == pytest.approx(n)
        assert gain[number] == pytest.approx(expected if n > 1 else 0.0, abs=1e-6)
    assert (gain[pieces.chosen] == 0).all()


# -- whole trainings -------------------------------------------------------------------------------


def test_training_finds_the_optimum_of_tiny_corpora():
    words = [w for w in corpora.count_words(corpora.load("sotu")).items() if len(w[0]) >= 4][:3000]
    hits = 0
    for seed in range(12):
        rng = np.random.default_rng(seed)
        picked = rng.choice(len(words), 25, replace=False)
        counts = {words[i][0]: math.isqrt(words[i][1]) + 1 for i in picked}
        size = len(set().union(*counts)) + 2
        exact = exhaustive_vocabulary(counts, size, max_piece=6, min_count=15)
        vocabulary = train(counts, size, effort="best", max_piece=6, min_count=15)
        used = {p: c for p, c in zip(vocabulary.pieces, vocabulary.counts, strict=True) if c}
        value = objective(used, 0.0)
        assert value >= exact.value - 1e-6
        hits += value <= exact.value * (1 + 1e-9)
    assert hits >= 11


def sotu_words(how_many):
    return dict(list(corpora.count_words(corpora.load("sotu")).items())[:how_many])


def test_vocabulary_has_what_it_says():
    counts = sotu_words(3000)
    for goal in ("likelihood", 5.0, "tokens"):
        vocabulary = train(counts, 500, goal, effort="fast")
        assert len(vocabulary.pieces) == len(set(vocabulary.pieces)) == 500
        assert set().union(*counts) <= set(vocabulary.pieces)
        paths = best_paths(Lattice(counts, vocabulary.costs))
        again = paths.piece_counts()
        assert again.sum() == pytest.approx(vocabulary.counts.sum(), rel=2e-4)
        assert vocabulary.length_cost == {"likelihood": 0.0, "tokens": 1000.0}.get(goal, goal)
        assert np.exp(vocabulary.log_probabilities).sum() == pytest.approx(1, abs=1e-3)
        assert vocabulary.provenance["objective"] == goal


def test_token_penalty_trades_bits_for_tokens():
    counts = sotu_words(4000)
    bits, tokens = [], []
    for weight in (0.0, 1.0, 5.0, 50.0):
        vocabulary = train(counts, 600, weight, effort="best")
        bits.append(em.code_length(vocabulary.counts))
        tokens.append(vocabulary.counts.sum())
    assert tokens == sorted(tokens, reverse=True)
    assert bits == sorted(bits)


def test_more_effort_is_not_worse():
    counts = sotu_words(4000)
    values = [em.code_length(train(counts, 600, effort=effort).counts) for effort in EFFORTS]
    assert values == sorted(values, reverse=True)
    assert values[2] < 0.99 * values[0]


def test_training_is_the_same_whatever_the_order_of_the_words():
    counts = sotu_words(2000)
    one = train(counts, 400)
    other = train(dict(reversed(counts.items())), 400)
    assert one == other


def test_progress_tells_what_enters_and_leaves():
    counts, steps = sotu_words(2000), []
    vocabulary = train(counts, 400, effort="best", progress=steps.append)
    size = len(set().union(*counts))
    for step in steps:
        size += step.entered - step.left
        assert step.pieces == size
        assert len(step.examples_left) == min(8, step.left)
    assert {step.stage for step in steps} >= {"soft", "hard", "search"}
    last = [step for step in steps if step.best][-1]
    assert last.bits * math.log(2) == pytest.approx(em.code_length(vocabulary.counts))
    assert last.tokens == vocabulary.counts.sum()


def test_interrupted_search_returns_the_best_so_far():
    counts = sotu_words(2000)

    def stop(step):
        if step.stage == "search":
            raise KeyboardInterrupt

    with pytest.warns(UserWarning, match="interrupted"):
        vocabulary = train(counts, 400, effort="best", progress=stop)
    assert vocabulary.provenance["interrupted"]
    assert len(vocabulary.pieces) == 400

    def stop_at_once(step):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(counts, 400, progress=stop_at_once)


# -- unusual input ---------------------------------------------------------------------------------


@pytest.mark.parametrize("goal", ["likelihood", "tokens", 2.0])
def test_one_word(goal):
    vocabulary = train({"abcabc": 3}, 4, goal, effort="best")
    assert set(vocabulary.pieces) == {"a", "b", "c", "abcabc"}
    assert vocabulary.segment("abcabc").pieces == ("abcabc",)


def test_vocabulary_of_the_characters_only():
    vocabulary = train(TOY, 11)
    assert sorted(vocabulary.pieces) == sorted(set("".join(TOY)))


def test_a_single_character():
    vocabulary = train({"a": 1}, 1, "tokens")
    assert vocabulary.pieces == ("a",)


def test_all_substrings():
    table = Substrings(TOY, 16)
    assert len(train(TOY, len(table)).pieces) == len(table)
    with pytest.raises(ValueError, match=f"vocab_size must be at most {len(table)}"):
        train(TOY, len(table) + 1)
    with pytest.raises(ValueError, match="at least 3 times"):
        train(TOY, 60, min_count=3)


def test_word_of_a_hundred_thousand_characters():
    word = "abcdefghij" * 10_000
    vocabulary = train({word: 1, "jihgfedcba": 2}, 20)
    assert len(vocabulary.pieces) == 20


def test_control_characters_and_mixed_scripts():
    counts = {
        "\x00\x01\x00\x01": 3,
        "a\tb\nc": 2,
        "日本語の本": 4,
        "привет": 2,
        "🙂🙂": 5,
        "e\u0301": 1,
    }
    vocabulary = train(counts, 30, effort="best", min_count=1)
    assert len(vocabulary.pieces) == 30
    assert "\x00\x01" in "".join(vocabulary.pieces)


def test_hard_em_of_the_trainer_is_the_textbook_s():
    table, pieces, counts = instance(7)
    state = em.segment_all(table, pieces.forwards, em.fitted_costs(counts, 0.0), 0.0)
    cost = {t: c for t, c, k in zip(table.texts(), state.cost, pieces.chosen, strict=True) if k}
    words = dict(zip(table.words, table.weight, strict=True))
    probabilities, used = hard_em_step(Lattice(words, cost), floor=em.LEAST_COUNT)
    assert np.maximum(state.counts, em.LEAST_COUNT)[pieces.chosen & table.single] == pytest.approx(
        used[np.array([len(text) == 1 for text in cost])]
    )
    refitted = em.fitted_costs(state.counts, 0.0)[pieces.chosen]
    inside = used > em.LEAST_COUNT
    # The floor of the textbook form counts towards C, that of the trainer does not.
    shift = math.log(used.sum() / state.tokens)
    assert refitted[inside] == pytest.approx(-np.log(probabilities[inside]) - shift)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (({}, 5), "empty"),
        (({"ab": 2, "\ud800x": 1}, 5), r"lone surrogate '\\ud800'"),
        (({"": 1}, 5), "empty word"),
        (({"ab": math.nan}, 5), "finite count"),
        (({"ab": 0}, 5), "above 0"),
        (({"abc": 1}, 2), "at least 3"),
        (({"abc": 1}, 0), "at least 1"),
        (({"abc": 1}, 4, "speed"), "objective"),
        (({"abc": 1}, 4, -1.0), "objective"),
        (({"abc": 1}, 4, math.nan), "objective"),
        (({"abc": 1}, 4, True), "objective"),
    ],
)
def test_refused_values(arguments, message):
    with pytest.raises(ValueError, match=message):
        train(*arguments)


def test_refused_types_and_options():
    with pytest.raises(TypeError, match="words"):
        train("a text", 5)
    with pytest.raises(TypeError, match="vocab_size"):
        train(TOY, 11.5)
    with pytest.raises(TypeError, match="objective"):
        train(TOY, 12, [1])
    with pytest.raises(ValueError, match="effort"):
        train(TOY, 12, effort="maximal")
    with pytest.raises(ValueError, match="max_piece"):
        train(TOY, 12, max_piece=0)
    with pytest.raises(ValueError, match="min_count"):
        train(TOY, 12, min_count=0)


@pytest.mark.parametrize("counts", [{"ab": 3}, {"ba": 1, "bb": 1}, {"abc": 2, "d": 1}])
@pytest.mark.parametrize("objective", ["likelihood", 5.0, "tokens"])
def test_a_vocabulary_of_characters_alone_is_fitted_without_a_warning(counts, objective):
    """The candidates before it are whole words, so that no character was ever used."""
    size = len(set("".join(counts)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        vocabulary = train(counts, size, objective, new_words=False)
    used = {c: sum(n * word.count(c) for word, n in counts.items()) for c in vocabulary.pieces}
    assert dict(zip(vocabulary.pieces, vocabulary.counts, strict=True)) == used
