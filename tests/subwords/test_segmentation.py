"""One word: every path against all 2^(n-1) spellings, and the linear program against both."""

import itertools
import math
import pickle
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from scipy.optimize import linprog

from genopt_core.subwords import (
    UNKNOWN,
    UNKNOWN_EXTRA,
    Vocabulary,
    exact_step_costs,
    flow_program,
    greedy_path,
    greedy_paths,
    one_pass_path,
    piece_costs,
    shortest_path,
    viterbi_path,
    word_arcs,
)

THREE = {"a": 1.0, "b": 1.0, "c": 1.0, "ab": 3.0}


def spellings(word):
    """All ways to cut a word, by brute force: the cut positions as tuples."""
    for cuts in itertools.product((False, True), repeat=len(word) - 1):
        yield (0, *(i for i, cut in enumerate(cuts, 1) if cut), len(word))


def priced_spellings(word, costs):
    """(cost summed from left to right, cuts) of every spelling with the vocabulary's pieces."""
    out = []
    for cuts in spellings(word):
        total = 0.0
        for i, j in itertools.pairwise(cuts):
            total += costs.get(word[i:j], math.inf)
        if total < math.inf:
            out.append((total, cuts))
    return out


def random_cases(number, whole):
    """Words over two or three letters with a random vocabulary; whole costs make many ties."""
    rng = np.random.default_rng(1)
    for _ in range(number):
        letters = "abc"[: rng.integers(1, 4)]
        word = "".join(rng.choice(list(letters), rng.integers(1, 10)))
        pieces = {word[i:j] for i in range(len(word)) for j in range(i + 1, len(word) + 1)}
        kept = [s for s in sorted(pieces) if rng.random() < 0.55] or [word]
        price = (lambda: float(rng.integers(0, 4))) if whole else (lambda: float(rng.random() * 9))
        yield word, {s: price() for s in kept}


@pytest.mark.parametrize("whole", [True, False], ids=["ties", "no ties"])
def test_shortest_path_is_the_best_of_all_spellings_ties_included(whole):  # eq. swe-bellman
    tied = 0
    for word, costs in random_cases(600, whole):
        everything = priced_spellings(word, costs)
        for k in (1, 2, 3, len(word), len(word) + 3, None):
            path = shortest_path(word, costs, k)
            allowed = [c for c in everything if k is None or len(c[1]) - 1 <= k]
            if not allowed:
                assert not path.feasible
                assert path.pieces == ()
                continue
            cheapest = min(cost for cost, _ in allowed)
            best = [cuts for cost, cuts in allowed if cost == cheapest]
            tied += len(best) > 1
            # Fewest pieces, then the earliest start of the last piece, of the last but one, ...
            expected = min(best, key=lambda cuts: (len(cuts), cuts[::-1]))
            assert path.cost == cheapest
            assert path.cuts == expected
            assert "".join(path.pieces) == word
    assert (tied > 300) == whole


@pytest.mark.parametrize("whole", [True, False], ids=["ties", "no ties"])
def test_viterbi_is_the_unlimited_optimum_with_the_longest_last_piece(whole):
    for word, costs in random_cases(600, whole):
        everything = priced_spellings(word, costs)
        path = viterbi_path(word, costs)
        assert path.cost == shortest_path(word, costs).cost
        if everything:
            cheapest = min(cost for cost, _ in everything)
            best = [cuts for cost, cuts in everything if cost == cheapest]
            assert path.cuts == min(best, key=lambda cuts: cuts[::-1])


def test_exact_step_costs_are_the_best_spellings_with_that_many_pieces():
    for word, costs in random_cases(200, whole=False):
        everything = priced_spellings(word, costs)
        got = exact_step_costs(word, costs, len(word) + 2)
        for t, value in enumerate(got, 1):
            costs_t = [cost for cost, cuts in everything if len(cuts) - 1 == t]
            assert value == (min(costs_t) if costs_t else math.inf)


def test_greedy_takes_the_longest_prefix_and_never_beats_the_optimum():
    stuck = 0
    for word, costs in random_cases(400, whole=False):
        path = greedy_path(word, costs)
        rest, taken = word, []
        while rest:
            fit = [s for s in costs if rest.startswith(s)]
            if not fit:
                break
            taken.append(max(fit, key=len))
            rest = rest[len(taken[-1]) :]
        stuck += bool(rest)
        assert path.pieces == (() if rest else tuple(taken))
        assert path.cost >= viterbi_path(word, costs).cost - 1e-12
    assert stuck > 20
    assert greedy_paths(["ab", "ba"], THREE) == [greedy_path(w, THREE) for w in ("ab", "ba")]


# ------------------------------------------------- one pass is not enough for "at most k"


def test_smallest_counterexample_to_one_pass():
    assert one_pass_path("abc", THREE, 2).feasible is False
    assert shortest_path("abc", THREE, 2).pieces == ("ab", "c")
    dearer = {**THREE, "abc": 9.0}  # now it finds something, and not the best
    assert one_pass_path("abc", dearer, 2).cost == 9.0
    assert shortest_path("abc", dearer, 2).cost == 4.0


def test_no_counterexample_has_fewer_than_three_characters():
    prices = (0.0, 1.0, 2.0, math.inf)
    for a, b, ab, k in itertools.product(prices, prices, prices, (1, 2, 3)):
        costs = {"a": a, "b": b, "ab": ab}
        assert one_pass_path("ab", costs, k).cost == shortest_path("ab", costs, k).cost


def test_one_pass_never_beats_the_layers_and_sometimes_loses():
    worse = 0
    for word, costs in random_cases(600, whole=False):
        for k in (1, 2, 3):
            gap = one_pass_path(word, costs, k).cost
            best = shortest_path(word, costs, k).cost
            assert gap >= best
            worse += gap > best
    assert worse > 10


# ------------------------------------------------- infeasible words


def test_infeasible_words_are_reported_or_repaired_as_asked():
    assert shortest_path("abc", THREE, 1).cost == math.inf
    raised = shortest_path("abc", THREE, 1, if_infeasible="raise_limit")
    assert (raised.pieces, raised.limit) == (("a", "b", "c"), 3)
    assert not shortest_path("axc", THREE, 1, if_infeasible="raise_limit").feasible
    unknown = shortest_path("axab", THREE, 1, if_infeasible="unknown")
    assert unknown.pieces == ("a", UNKNOWN, "a", "b")
    assert unknown.cuts == (0, 1, 2, 3, 4)
    assert unknown.cost == 3.0 + (3.0 + UNKNOWN_EXTRA)
    # A word that k pieces spell is never repaired, nor is an unknown put where none is needed.
    assert shortest_path("abc", THREE, 2, if_infeasible="unknown").pieces == ("ab", "c")
    assert shortest_path("xy", {"xy": 1.0, "x": 1.0}, if_infeasible="unknown").pieces == ("xy",)


def test_the_empty_word_has_the_empty_path():
    for path in (shortest_path("", THREE, 2), viterbi_path("", THREE), greedy_path("", THREE)):
        assert (path.pieces, path.cuts, path.cost, path.steps) == ((), (0,), 0.0, 0)
    assert one_pass_path("", THREE, 1).cost == 0.0


def test_a_piece_of_probability_zero_is_absent():
    costs = piece_costs({"a": 0.5, "b": 0.5, "ab": 0.0})
    assert costs["ab"] == math.inf
    assert [arc.piece for arc in word_arcs("ab", costs)] == ["a", "b"]
    assert greedy_path("ab", costs).pieces == ("a", "b")


# ------------------------------------------------- the linear program


def test_flow_and_exact_cover_are_the_same_system():  # eq. swe-flow, eq. swe-cover
    for word, costs in random_cases(150, whole=False):
        program = flow_program(word, costs)
        assert (np.cumsum(program.flow, axis=0)[:-1] == program.cover).all()
        assert (np.cumsum(program.supply)[:-1] == 1).all()
        if len(program.arcs) > 12:
            continue
        paths = {cuts for _, cuts in priced_spellings(word, costs)}
        found = set()
        for bits in itertools.product((0, 1), repeat=len(program.arcs)):
            x = np.array(bits, dtype=int)
            flows = (program.flow @ x == program.supply).all()
            assert flows == (program.cover @ x == 1).all()
            if flows:
                ends = [arc.end for arc, used in zip(program.arcs, bits, strict=True) if used]
                found.add((0, *sorted(ends)))
        assert found == paths


def test_relaxation_without_the_step_limit_is_integral_and_equals_viterbi():
    for word, costs in random_cases(150, whole=False):
        program = flow_program(word, costs)
        path = viterbi_path(word, costs)
        if not path.feasible:
            continue
        solved = linprog(program.costs, A_eq=program.flow, b_eq=program.supply, bounds=(0, 1))
        assert solved.status == 0
        assert solved.fun == pytest.approx(path.cost, abs=1e-7)
        assert np.abs(solved.x - np.round(solved.x)).max() < 1e-7


def test_cover_matrix_of_a_small_word_is_totally_unimodular():
    cover = flow_program(
        "abcd", {"abcd"[i:j]: 1.0 for i in range(4) for j in range(i + 1, 5)}
    ).cover
    for size in range(1, 5):
        for rows in itertools.combinations(range(4), size):
            for columns in itertools.combinations(range(cover.shape[1]), size):
                assert round(np.linalg.det(cover[np.ix_(rows, columns)])) in (-1, 0, 1)


def limited_relaxation(word, costs, k):
    program = flow_program(word, costs)
    row = np.ones((1, len(program.arcs)))
    return linprog(program.costs, row, [k], A_eq=program.flow, b_eq=program.supply, bounds=(0, 1))


def test_step_limit_makes_the_relaxation_fractional_from_three_characters_on():  # eq. swe-limit
    costs = {"a": 0.0, "b": 0.0, "c": 0.0, "abc": 10.0}
    solved = limited_relaxation("abc", costs, 2)
    assert solved.fun == pytest.approx(5.0)
    assert shortest_path("abc", costs, 2).cost == 10.0
    assert np.allclose(solved.x, 0.5)
    for a, b, ab, k in itertools.product((0.0, 1.0, 2.0), (0.0, 3.0), (0.0, 1.5, 4.0), (1, 2)):
        costs = {"a": a, "b": b, "ab": ab}
        got = limited_relaxation("ab", costs, k).fun
        assert got == pytest.approx(shortest_path("ab", costs, k).cost)


# ------------------------------------------------- bad arguments


SINGLE = [shortest_path, viterbi_path, greedy_path, word_arcs, flow_program]


@pytest.mark.parametrize("function", SINGLE)
@pytest.mark.parametrize(
    ("costs", "error", "message"),
    [
        ({}, ValueError, "costs is empty"),
        ([("a", 1.0)], TypeError, "costs must be a mapping"),
        ({"": 1.0}, ValueError, "empty piece"),
        ({1: 1.0}, TypeError, "strings as keys, got 1"),
        ({"a": float("nan")}, ValueError, r"costs\['a'\].*got nan"),
        ({"a": -0.5}, ValueError, r"costs\['a'\].*got -0.5.*minus a log-probability"),
        ({"a": "1"}, TypeError, r"costs\['a'\] must be a number, got '1'"),
        ({"a": None}, TypeError, r"costs\['a'\] must be a number, got None"),
    ],
)
def test_bad_costs_are_named(function, costs, error, message):
    with pytest.raises(error, match=message):
        function("ab", costs)


@pytest.mark.parametrize("function", SINGLE)
@pytest.mark.parametrize("word", [None, 5, b"ab", ["a", "b"]])
def test_a_word_must_be_a_string(function, word):
    with pytest.raises(TypeError, match="word must be a str, got"):
        function(word, THREE)


@pytest.mark.parametrize("function", [shortest_path, exact_step_costs, one_pass_path])
@pytest.mark.parametrize(
    ("k", "error"),
    [(0, ValueError), (-3, ValueError), (2.0, TypeError), (True, TypeError), ("2", TypeError)],
)
def test_bad_limits_are_named(function, k, error):
    with pytest.raises(error, match="k must be"):
        function("abc", THREE, k)


def test_numpy_limits_are_whole_numbers_too():
    assert shortest_path("abc", THREE, np.int32(2)).cost == 4.0


def test_other_bad_arguments_are_named():
    with pytest.raises(ValueError, match=r"if_infeasible must be .* got 'skip'"):
        shortest_path("abc", THREE, if_infeasible="skip")
    with pytest.raises(ValueError, match="word is empty"):
        flow_program("", THREE)
    with pytest.raises(ValueError, match="word is empty"):
        exact_step_costs("", THREE, 1)


@pytest.mark.parametrize(
    ("probabilities", "message"),
    [
        ({}, "probabilities is empty"),
        ({"a": -0.1}, r"probabilities\['a'\] must be in 0..1, got -0.1"),
        ({"a": 1.1}, r"probabilities\['a'\] must be in 0..1, got 1.1"),
        ({"a": float("nan")}, r"probabilities\['a'\] must be in 0..1, got nan"),
        ({"a": 0.7, "b": 0.7}, "sum to at most 1, they sum to 1.4"),
    ],
)
def test_bad_probabilities_are_named(probabilities, message):
    with pytest.raises(ValueError, match=message):
        piece_costs(probabilities)
    with pytest.raises(TypeError, match="strings as keys"):
        piece_costs({2: 0.5})


def test_a_path_is_a_sequence_of_its_pieces():
    path = shortest_path("abc", THREE)
    assert len(path) == path.steps == len(path.pieces) > 1
    assert list(path) == list(path.pieces)
    assert "".join(path) == "abc"
    assert path[0] == path.pieces[0]
    assert path[1:] == path.pieces[1:]
    assert path != path.pieces
    assert len(shortest_path("abc", {"a": 1.0})) == 0


def test_a_path_has_all_that_a_sequence_has():
    """`Vocabulary.segment` gives it: pieces, with cuts, cost and limit beside them."""
    path = shortest_path("abca", {"a": 1.0, "bc": 1.0}, 3)
    assert isinstance(path, Sequence)
    assert list(reversed(path)) == ["a", "bc", "a"]
    assert (path.index("bc"), path.index("a", 1), path.count("a")) == (1, 2, 2)
    assert "bc" in path
    assert "b" not in path
    assert path[-2:] == ("bc", "a")
    match path:
        case [first, *rest]:
            assert (first, rest) == ("a", ["bc", "a"])
    first, *_ = path
    assert np.array(path).tolist() == ["a", "bc", "a"]
    with pytest.raises(IndexError):
        path[3]
    with pytest.raises(ValueError, match=r"^$"):
        path.index("b")
    assert (path.cuts, path.cost, path.limit) == ((0, 1, 3, 4), 3.0, 3)
    assert pickle.loads(pickle.dumps(path)) == replace(path) == path
    assert hash(path) == hash(replace(path))
    whole = Vocabulary(("w", "h", "ale"), np.log([0.25, 0.25, 0.5]), np.ones(3)).segment("whale")
    assert (len(whole), list(whole), "".join(whole)) == (3, ["w", "h", "ale"], "whale")
