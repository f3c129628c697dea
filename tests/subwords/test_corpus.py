"""All words at once: equal to one word at a time; likelihood and fitting against known numbers."""

import itertools
import json
import math
import random
import sys

import numpy as np
import pytest
from places import TABLES

from genopt_core import corpora
from genopt_core.subwords import (
    STORED_SIZES,
    Lattice,
    best_paths,
    corpus_log_likelihood,
    exact_step_cost_table,
    exact_step_costs,
    fit_probabilities,
    hard_em_step,
    piece_costs,
    profile_log_likelihood,
    shortest_path,
    stored_costs,
    stored_word_counts,
    substring_counts,
    substring_vocabulary,
    viterbi_path,
    word_arcs,
)

TOY = {"low_": 5, "lower_": 2, "newest_": 6, "widest_": 3}


def random_corpus(seed, whole):
    rng = np.random.default_rng(seed)
    letters = list("abc😀"[: rng.integers(1, 5)])
    words = {}
    for _ in range(rng.integers(1, 25)):
        word = "".join(rng.choice(letters, rng.integers(1, 9)))
        words[word] = words.get(word, 0) + int(rng.integers(1, 9))
    pieces = {w[i:j] for w in words for i in range(len(w)) for j in range(i + 1, len(w) + 1)}
    # Some of these never occur; now and then a letter has no piece of its own.
    kept = [s for s in sorted(pieces) if rng.random() < (0.8 if len(s) == 1 else 0.4)] or ["z"]
    price = (lambda: float(rng.integers(0, 4))) if whole else (lambda: float(rng.random() * 9))
    costs = {s: price() for s in [*kept, "zz", "cz"]}
    if rng.random() < 0.3:
        costs[kept[0]] = math.inf
    return words, costs


@pytest.mark.parametrize("whole", [True, False], ids=["ties", "no ties"])
def test_all_words_at_once_equal_one_word_at_a_time(whole):
    compared = 0
    for seed in range(60):
        words, costs = random_corpus(seed, whole)
        lattice = Lattice(words, costs)
        free, table = best_paths(lattice), exact_step_cost_table(lattice, 10)
        limited = {k: best_paths(lattice, k) for k in (1, 2, 3, 20)}
        raised = best_paths(lattice, 2, if_infeasible="raise_limit")
        for index, word in enumerate(words):
            one = viterbi_path(word, costs)
            assert (free.path(word), free.cost[index]) == (one, one.cost)
            assert free.steps[index] == one.steps
            assert table[:, index].tolist() == exact_step_costs(word, costs, 10).tolist()
            for k, paths in limited.items():
                assert paths.path(word) == shortest_path(word, costs, k)
            again = shortest_path(word, costs, 2, if_infeasible="raise_limit")
            assert raised.path(word).cuts == again.cuts
            assert raised.path(word).cost == again.cost
            compared += 1
        for paths in (free, raised, *limited.values()):
            expected = dict.fromkeys(lattice.pieces, 0.0)
            for word, count in words.items():
                for piece in paths.path(word).pieces:
                    expected[piece] += count
            assert dict(zip(lattice.pieces, paths.piece_counts().tolist(), strict=True)) == expected
            assert paths.infeasible_words == tuple(w for w in words if not paths.path(w).feasible)
    assert compared > 400


def test_shared_arcs_are_those_of_the_single_words():
    words, costs = {"lower▁": 1, "low▁": 2, "slow▁": 1}, stored_costs(500)
    lattice = Lattice(words, costs)
    for index, word in enumerate(words):
        chain = [int(lattice.end[index])]
        while chain[-1]:
            chain.append(int(lattice.parent[chain[-1]]))
        chain.reverse()
        here = [
            (chain.index(s), chain.index(t), lattice.pieces[p])
            for s, t, p in zip(lattice.source, lattice.target, lattice.piece, strict=True)
            if t in chain
        ]
        assert sorted(here) == sorted((a.start, a.end, a.piece) for a in word_arcs(word, costs))
    # "low▁" and "lower▁" share the four prefixes "", l, lo, low
    assert int(lattice.level[-1]) == 1 + len("lower▁") + len("▁") + len("slow▁")


def test_the_order_of_words_and_pieces_does_not_matter():
    counts, costs = dict(list(stored_word_counts().items())[:400]), stored_costs(500)
    words, pieces = list(counts), list(costs)
    random.Random(1).shuffle(words)
    random.Random(2).shuffle(pieces)
    one = best_paths(Lattice(counts, costs), 3)
    two = best_paths(Lattice({w: counts[w] for w in words}, {s: costs[s] for s in pieces}), 3)
    assert all(one.path(word) == two.path(word) for word in words)


def test_limit_and_viterbi_agree_from_k_equal_n_on_the_corpus_table():  # criticism 4
    costs = stored_costs(1000)
    lattice = Lattice(stored_word_counts(), costs)
    assert (best_paths(lattice).cost == best_paths(lattice, 99).cost).all()
    for word in lattice.words[::97]:
        assert best_paths(lattice).path(word) == viterbi_path(word, costs)


# ------------------------------------------------- likelihood


def test_profile_likelihood_is_the_maximum_over_probabilities():  # eq. swe-profile
    rng = np.random.default_rng(1)
    for _ in range(50):
        counts = rng.integers(0, 9, rng.integers(1, 7)) * 1.0
        if not counts.sum():
            continue
        best = profile_log_likelihood(counts)
        share = counts[counts > 0] / counts.sum()
        assert best == pytest.approx(float(counts[counts > 0] @ np.log(share)))
        for _ in range(20):
            other = rng.dirichlet(np.ones(len(counts)))
            assert counts @ np.log(other) <= best + 1e-9
        used = int((counts > 0).sum())
        assert -counts.sum() * math.log(used) - 1e-9 <= best <= 0
    assert profile_log_likelihood([0, 0]) == 0.0


@pytest.mark.parametrize(
    ("max_piece", "before", "after"), [(3, -136.000, -75.605), (7, -69.970, -20.882)]
)
def test_toy_corpus_reaches_the_known_likelihoods(max_piece, before, after):
    start = substring_vocabulary(TOY, 10_000, max_piece)
    fit = fit_probabilities(TOY, start)
    assert [round(value, 3) for value in fit.log_likelihoods] == [before, after, after]
    assert fit.converged
    assert sum(fit.probabilities.values()) == pytest.approx(1)
    spelled = {w: "|".join(viterbi_path(w, fit.costs).pieces) for w in TOY}
    assert list(spelled.values()) == (
        ["low|_", "low|er_", "new|e|st_", "wid|e|st_"] if max_piece == 3 else list(TOY)
    )


def test_each_round_of_hard_em_gains_and_ends_at_the_profile_likelihood():
    for seed in range(20):
        words, _ = random_corpus(seed, whole=False)
        start = substring_vocabulary(words, 1000, 4)
        fit = fit_probabilities(words, start)
        assert all(b >= a - 1e-9 for a, b in itertools.pairwise(fit.log_likelihoods))
        paths = best_paths(Lattice(words, fit.costs))
        assert corpus_log_likelihood(paths) == pytest.approx(fit.log_likelihoods[-1])
        counts = paths.piece_counts()
        assert profile_log_likelihood(counts) == pytest.approx(fit.log_likelihoods[-1])


def test_a_floor_keeps_every_character_and_the_limit_is_obeyed():
    start = substring_vocabulary(TOY, 1000, 7)
    fit = fit_probabilities(TOY, start, floor=0.5)
    assert {s for s in start if len(s) == 1} <= set(fit.probabilities)
    within = fit_probabilities(TOY, substring_vocabulary(TOY, 1000, 3), k=3)
    assert max(best_paths(Lattice(TOY, within.costs), 3).steps) == 3
    assert not fit_probabilities(TOY, start, max_rounds=1, tolerance=0).converged
    probabilities, counts = hard_em_step(Lattice(TOY, piece_costs(start)), floor=0.5)
    assert probabilities == pytest.approx(counts / counts.sum())


def test_likelihood_of_a_word_without_a_path_is_minus_infinity():
    assert corpus_log_likelihood(best_paths(Lattice(["ab"], {"a": 1.0}))) == -math.inf


# ------------------------------------------------- candidates


def test_substring_counts_are_those_of_naive_counting():
    for seed in range(20):
        words, _ = random_corpus(seed, whole=True)
        for max_piece, min_count in ((1, 1), (3, 1), (4, 6), (99, 1)):
            got = substring_counts(words, max_piece, min_count)
            for piece, count in got.items():
                naive = sum(
                    f * sum(w.startswith(piece, i) for i in range(len(w))) for w, f in words.items()
                )
                assert count == naive
                assert len(piece) <= max_piece
                assert count >= min_count or len(piece) == 1
            assert set("".join(words)) <= set(got)
            order = [(-c, -len(s), s) for s, c in got.items()]
            assert order == sorted(order)


def test_vocabularies_are_nested_and_complete():
    counts = stored_word_counts()
    small, large = (list(substring_vocabulary(counts, size, 6)) for size in (100, 300))
    assert large[:100] == small
    assert set("".join(counts)) <= set(small)
    assert sum(substring_vocabulary(counts, 300, 6).values()) == pytest.approx(1)


# ------------------------------------------------- stored tables


def test_stored_words_are_those_of_the_corpus():
    table = json.loads((TABLES / "sotu_words.json").read_text(encoding="utf-8"))
    counts = corpora.count_words(corpora.load("sotu"), "textbook")
    assert table["origin"]["text_sha256"] == corpora.describe("sotu")["text_sha256"]
    assert stored_word_counts() == dict(list(counts.items())[:3000])
    assert table["total_words"] == sum(counts.values())
    assert table["coverage"] == pytest.approx(
        sum(stored_word_counts().values()) / 591_599, abs=1e-6
    )


def test_stored_prices_of_one_size_are_recomputed():
    counts = corpora.count_words(corpora.load("sotu"), "textbook")
    start = substring_vocabulary(counts, 500, 12)
    fit = fit_probabilities(counts, start, floor=1.0, tolerance=1.0)
    stored = stored_costs(500)
    assert list(stored) == list(fit.probabilities)
    assert np.allclose(list(stored.values()), list(fit.costs.values()), rtol=0, atol=6e-7)


@pytest.mark.parametrize("size", STORED_SIZES)
def test_stored_prices_are_those_of_probabilities_and_reach_every_word(size):
    costs = stored_costs(size)
    assert math.fsum(math.exp(-c) for c in costs.values()) == pytest.approx(1, abs=1e-4)
    assert best_paths(Lattice(stored_word_counts(), costs)).feasible.all()


def test_stored_tables_are_small_and_come_as_copies():
    for file in ("sotu_words.json", "sotu_pieces.json"):
        assert (TABLES / file).stat().st_size <= 60_000
    stored_word_counts().clear()
    assert stored_word_counts()
    for size in (300, True, "500"):
        with pytest.raises(ValueError, match="size must be one of"):
            stored_costs(size)


# ------------------------------------------------- bad arguments, platforms


@pytest.mark.parametrize("function", [Lattice, fit_probabilities])
@pytest.mark.parametrize(
    ("words", "error", "message"),
    [
        ({}, ValueError, "words is empty"),
        ("low", TypeError, "the str 'low'"),
        ({"low": 0}, ValueError, r"words\['low'\].*got 0"),
        ({"low": -2}, ValueError, r"words\['low'\].*got -2"),
        ({"low": float("nan")}, ValueError, r"words\['low'\].*got nan"),
        ({"low": float("inf")}, ValueError, r"words\['low'\].*got inf"),
        ({"low": "3"}, TypeError, r"words\['low'\] must be a number, got '3'"),
        ({"": 3}, ValueError, "empty word"),
        ({"a\udc80": 3}, ValueError, "words must have a UTF-8 form"),
        ({7: 3}, TypeError, "strings as keys, got 7"),
    ],
)
def test_bad_words_are_named(function, words, error, message):
    with pytest.raises(error, match=message):
        function(words, {"l": 0.3, "o": 0.3, "w": 0.3})
    with pytest.raises(error, match=message):
        substring_counts(words, 3)


def test_plain_words_count_once_each_time_they_come():
    lattice = Lattice(["b", "a", "b"], {"a": 1.0, "b": 1.0})
    assert (lattice.words, lattice.counts.tolist()) == (("b", "a"), [2.0, 1.0])


def test_bad_prices_for_a_lattice_are_named():
    lattice = Lattice(["ab"], {"a": 1.0, "b": 1.0})
    with pytest.raises(ValueError, match=r"shape \(2,\), got \(3,\)"):
        lattice.with_costs([1, 2, 3])
    for bad in (float("nan"), -1.0):
        with pytest.raises(ValueError, match=rf"got {bad} for the piece 'b'"):
            lattice.with_costs([1.0, bad])
    assert best_paths(lattice.with_costs([2, 5])).cost.tolist() == [7.0]
    assert best_paths(lattice).cost.tolist() == [2.0]


def test_other_bad_arguments_are_named():
    lattice = Lattice(["ab"], {"a": 1.0, "b": 1.0})
    for function in (best_paths, lambda x: exact_step_cost_table(x, 2)):
        with pytest.raises(TypeError, match="lattice must be a Lattice, got dict"):
            function({"ab": 1})
    for k, error in ((0, ValueError), (1.5, TypeError), (True, TypeError)):
        for function in (best_paths, exact_step_cost_table, hard_em_step):
            with pytest.raises(error, match="k must be"):
                function(lattice, k)
    with pytest.raises(TypeError, match="k must be"):
        exact_step_cost_table(lattice, None)
    with pytest.raises(ValueError, match=r"if_infeasible must be one of .* got 'unknown'"):
        best_paths(lattice, 1, if_infeasible="unknown")
    with pytest.raises(ValueError, match="got 'abc'"):
        best_paths(lattice).path("abc")
    with pytest.raises(TypeError, match="best_paths"):
        corpus_log_likelihood(lattice)
    for bad in ([], [[1.0]], [-1.0], [float("nan")], [float("inf")]):
        with pytest.raises(ValueError, match="counts must be"):
            profile_log_likelihood(bad)
    for bad in (-1.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="floor must be"):
            fit_probabilities(["a"], {"a": 1.0}, floor=bad)
        with pytest.raises(ValueError, match="tolerance must be"):
            fit_probabilities(["a"], {"a": 1.0}, tolerance=bad)
    with pytest.raises(ValueError, match="max_rounds must be at least 1, got 0"):
        fit_probabilities(["a"], {"a": 1.0}, max_rounds=0)
    with pytest.raises(
        ValueError, match="1 of 2 words have no path within k=1 pieces, such as 'ab'"
    ):
        fit_probabilities(["a", "ab"], {"a": 0.5, "b": 0.5}, k=1)
    with pytest.raises(ValueError, match="size must be at least the 2 different characters, got 1"):
        substring_vocabulary(["ab"], 1, 3)
    with pytest.raises(ValueError, match="max_piece must be at least 1, got 0"):
        substring_counts(["ab"], 0)
    for bad in (-1, float("nan")):
        with pytest.raises(ValueError, match="min_count must be"):
            substring_counts(["ab"], 2, bad)
    with pytest.raises(TypeError, match="min_count must be a number, got '2'"):
        substring_counts(["ab"], 2, "2")


def test_the_package_needs_numpy_only():
    for file in (TABLES.parent / "subwords").rglob("*.py"):
        for line in file.read_text(encoding="utf-8").splitlines():
            if line.startswith(("import ", "from ")):
                package = line.split()[1].split(".")[0]
                assert package in {*sys.stdlib_module_names, "numpy", "genopt_core"}
