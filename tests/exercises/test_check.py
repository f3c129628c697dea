"""Checkers pass the right answer, and name the constraint that a wrong one breaks."""

import re
from math import comb, exp, log

import numpy as np
import pytest

from genopt_core import attention, exercises, kvcache, one_model, positions
from genopt_core import cross_entropy as ce
from genopt_core.one_model.stored import stored_model

STEMS = [f"stem{i}" for i in range(64)]
ALONE = [((stem,), 9) for stem in STEMS] + [(("ing",), 1000)]
WHOLE = ALONE + [((stem + "ing",), 1) for stem in STEMS]
CUT = ALONE + [((stem, "ing"), 1) for stem in STEMS]


def climbed(weighted=False, ratio=True):
    rng = np.random.default_rng(2)

    def estimate():
        mean, level = 1.0, 0.0
        while level < 10:
            x = rng.exponential(mean, 2000)
            level = min(10.0, np.quantile(x, 0.9))
            good = x[x >= level]
            w = np.exp(-good * (1 - 1 / mean)) * mean if weighted else np.ones(len(good))
            mean = (w @ good) / w.sum()
        x = rng.exponential(mean, 4000)
        w = mean * np.exp(-x * (1 - 1 / mean)) if ratio else 1.0
        return ((x >= 10) * w).mean(), mean

    return [estimate() for _ in range(20)]


def floors(smoothing=1.0):
    table = ce.TabularObjective.load("word2vec_planted")
    found = {}
    for floor in (0.0, 0.02):
        run = ce.search_table(
            table, "plain", 200, 0, population_size=10, smoothing=smoothing, patience=None,
            tolerance=0.2, floor=floor,
        )  # fmt: skip
        found[floor] = [table.mean.max() - run.true.max()] + [0.1] * 19
    return found


def columns(mask_all=False, skip_first=False):
    q, k, v = np.random.default_rng(4).normal(size=(3, 6, 4, 5))
    pieces, distances = [], (0, 1, 4)
    for d in distances:
        mask = np.tri(4, dtype=bool) if d == 0 or mask_all else None
        mask = None if skip_first else mask
        out, lse = np.zeros(q.shape), np.full(q.shape[:2], -np.inf)
        far = slice(0, 6 - d)
        out[d:], lse[d:] = attention.attend(q[d:], k[far], v[far], mask=mask)
        pieces.append((out, lse))
    out = attention.merge_partials(pieces)[0]
    return {"q": q, "k": k, "v": v, "out": out, "distances": distances}


def capped(weights, mean):
    """Probabilities in proportion to ``weights``, at most 1, with this sum, by bisection."""
    low, high = 0.0, 1e12
    for _ in range(200):
        kappa = (low + high) / 2
        if sum(min(1.0, kappa * w) for w in weights) < mean:
            low = kappa
        else:
            high = kappa
    return [min(1.0, high * w) for w in weights]


def deviations(power=0.5, mean=7):
    halves = [2.0**-d for d in range(1, 32)]
    pi = {
        "uniform": [mean / 31] * 31,
        "harmonic": capped([1 / d for d in range(2, 33)], mean),
        "geometric": capped(halves, mean),
        "mixed": capped([0.8 * h / sum(halves) + 0.2 / 31 for h in halves], mean),
    }
    return {name: (sum((1 - p) / p for p in ps) / 32**2) ** power for name, ps in pi.items()}


def bounded(factor=1.0, scale=None):
    rng = np.random.default_rng(5)
    keys, query = rng.normal(size=(64, 16)) * np.geomspace(0.1, 10, 16), rng.normal(size=16)
    codes, step, low = kvcache.quantize_groups(keys, 4, 32)
    errors = (kvcache.dequantize_groups(codes, step, low) - keys) @ query / (scale or 4.0)
    bounds = factor * kvcache.score_bound(query, step.T[np.arange(64) // 32])
    return {"keys": keys, "query": query, "errors": errors, "bounds": bounds}


def weight(m, c, far, length=512):
    table = positions.bias_by_distance(np.array([m]), length)
    return positions.tail_bound(table, c, 1.0, 1)[0, far]


def bits(add_bits=False, start="The "):
    stored = stored_model()
    tokenizer = stored.tokenizer
    before = tokenizer.encode(start).tolist()
    number = {token: i for i, token in enumerate(tokenizer.tokens)}

    answer = {}
    for word in ("health▁", "freedom▁"):
        found = []
        for path in tokenizer.n_best(word, 60):
            ids = [number[piece] for piece in path.pieces]
            logits = stored.model.logits([*before, *ids])[len(before) - 1 : -1]
            p = one_model.next_probabilities(logits)
            found.append(-np.log2(p[np.arange(len(ids)), ids]).sum())
        total = sum(found) if add_bits else -np.log2(np.exp2(-np.array(found)).sum())
        answer[word] = (found[0], total)
    return answer


def lost(m, c, eps):
    return log(1 + exp(2 * c) * (1 - eps) / eps) / m


def diluted(m):
    return 1.0 if m < 0.5 else max(0.0, 2 - 2 * m)


def geometric(count, g):
    return count / (1 - g) - g * (1 - g**count) / (1 - g) ** 2


COSTS = {"geometric": geometric, "uniform": lambda t, p: t + p * t * (t - 1) / 2}
GAP = {"certificate": 1000.0, "relaxed": 1000.1, "exact": 1001, "ours": 1004}

# Exercise -> the right answer, and wrong ones with what they are told.
ANSWERS = {
    "count-the-ways": (
        lambda n, t: comb(n - 1, t - 1),
        (lambda n, t: 2 ** (n - 1), "leave a word whole. Found: ways(2, 1) = 2"),
        (lambda n, t: comb(n - 1, t - 1) if t <= n else 1, "no more tokens … ways(1, 3) = 1"),
    ),
    "likelihood-and-length": (
        (WHOLE, CUT),
        ((CUT, WHOLE), "second has more tokens. Found: 1704 and 1640 tokens"),
        ((WHOLE, ALONE), "the same words. Found: 'stem0ing' occurs 1 and 0 times"),
        (([(("ab",), 1)], [(("a", "b"), 1)]), "higher likelihood. Found: log-likelihoods"),
    ),
    "the-gap-on-a-small-corpus": (
        GAP,
        (GAP | {"certificate": 1000.5}, "no higher than what it bounds. Found: certificate 1000.5"),
        (GAP | {"exact": 1001.5}, "spends whole tokens"),
        ({"ours": 3}, "form that is asked for. Found: ['ours'] where a dictionary"),
    ),
    "without-weights": (
        climbed(),
        (climbed(ratio=False), "the estimate is unbiased. Found: … on the mean"),
        (climbed(weighted=True), "runs past the event's. Found: a sampling mean of 1"),
        ([(exp(-10), 21.0)] * 20, "each drawn anew. Found: 20 runs with 1 different means"),
    ),
    "the-floor": (
        floors(),
        (floors(0.7), "ten trainings a generation, α = 1 … for seed 0"),
        ({0.0: [0.1] * 3, 0.02: [0.1] * 20}, "20 seeds. Found: 3 regrets at floor 0.0"),
    ),
    "when-a-power-law-dilutes": (
        diluted,
        (lambda m: 1 - m if m < 1 else 0, "in proportion to the length. Found: power(0.1) = 0.9"),
        (lambda m: 1.0 if m < 1 else 0.0, "more slowly. Found: power(0.6) = 1"),
    ),
    "how-far-is-far-enough": (
        lost,
        (lambda m, c, eps: lost(m, c / 2, eps), "`skippable` … `skippable` says 27"),
        (lambda m, c, eps: lost(m, c, eps) + 40, "in proportion to 1/m"),
    ),
    "what-the-other-laws-cost": (
        COSTS,
        (COSTS | {"geometric": lambda t, g: t / (1 - g)}, "geometric(1, 0.5) = 2.000, … says 1.0"),
        (COSTS | {"uniform": lambda t, p: p * t * (t + 1) / 2}, "uniform(1, 0.0) = 0.000"),
    ),
    "attention-in-columns": (
        columns(),
        (columns(mask_all=True), "without a mask, and merged. Found: token 0 of block 1 differs"),
        (columns(skip_first=True), "no query sees a later key. Found: token 0 of block 0 differs"),
    ),
    "weights-that-explode": (
        deviations(),
        (deviations(power=1), "uniform law. Found: uniform: … which is the variance"),
        (deviations(mean=8), "seven blocks on the mean"),
    ),
    "one-large-round-or-many-small-ones": (
        {16: 0.01, 8: 0.03, 4: 0.06},
        ({16: 0.06, 8: 0.03, 4: 0.01}, "0.0600 for rounds of 16, 0.0300 for rounds of 8"),
        ({16: 1.2, 8: 3.0, 4: 6.0}, "shares of the output. Found: 1.2000 for rounds of 16"),
    ),
    "how-long-is-long": (
        3344,
        (2928, "for every greater length. Found: 1.1 … where a chunk has just closed"),
        (3500, "one token fewer is too short. Found: 1.0 … at 3499"),
        (3344.0, "whole number"),
    ),
    "stairs-for-a-power-law": (
        lambda age, p: age * 2 ** (-1 / p),
        (lambda age, p: age / 2, "steeper law has shorter stairs. Found: age(64, 2)"),
        (lambda age, p: age * 2 ** (1 / p), "stairs double. Found: … is -1.00 bits above"),
    ),
    "a-tight-bound": (
        bounded(),
        (bounded(factor=0.1), "the bound holds for every key. Found: the error of key"),
        (bounded(scale=1.0), "scores over √d"),
        (bounded(factor=3.0), "the bound of the page"),
    ),
    "how-many-seeds": (
        {"paired": 8, "unpaired": 79},
        ({"paired": 7, "unpaired": 79}, "this many paired seeds give p < 0.01. Found: p = 0.01"),
        ({"paired": 8, "unpaired": 90}, "one unpaired seed fewer does not. … with 89"),
    ),
    "bits-that-cannot-matter": (
        weight,
        (lambda m, c, far: weight(m, c / 2, far), "Theorem 3.1 says"),
        (lambda m, c, far: exp(2 * c - m * far) / m, "between 0 and 1. Found: weight(0.05, 4"),
    ),
    "the-other-segmentations": (
        bits(),
        (bits(add_bits=True), "likelier than one"),
        (bits(start="Of "), "own follows “The ”"),
    ),
}
WRONG = [(name, i) for name, answers in ANSWERS.items() for i in range(1, len(answers))]


def test_every_checker_is_tried_with_at_least_two_wrong_answers():
    assert tuple(ANSWERS) == exercises.names()
    assert all(len(answers) >= 3 for answers in ANSWERS.values())


@pytest.mark.parametrize("name", ANSWERS)
def test_the_right_answer_passes(name):
    verdict = exercises.check(name, ANSWERS[name][0])
    assert verdict, verdict
    assert repr(verdict) == f"{name}: right, {len(verdict.constraints)} constraints hold"


@pytest.mark.parametrize(("name", "number"), WRONG)
def test_a_wrong_answer_is_told_which_constraint_it_breaks_and_where(name, number):
    answer, told = ANSWERS[name][number]
    verdict = exercises.check(name, answer)
    assert not verdict
    assert [c.holds for c in verdict.constraints].count(False) == 1
    assert re.search(re.escape(told).replace(re.escape(" … "), ".*"), repr(verdict)), verdict


def not_a_number(*_):
    return float("nan")


@pytest.mark.parametrize("name", [name for name in ANSWERS if callable(ANSWERS[name][0])])
def test_a_function_of_nan_or_of_nothing_is_wrong(name):
    assert not exercises.check(name, not_a_number)
    assert not exercises.check(name, lambda *_: None)


@pytest.mark.parametrize("name", [n for n in ANSWERS if isinstance(ANSWERS[n][0], dict)])
@pytest.mark.parametrize("part", [None, "x", float("nan"), not_a_number])
def test_a_dictionary_of_nothing_is_wrong(name, part):
    assert not exercises.check(name, dict.fromkeys(ANSWERS[name][0], part))


def test_a_word_that_is_listed_twice_counts_both_times():
    answer = [(["a", "b"], 1), (["a", "b"], 2)], [(["ab"], 3)]
    verdict = exercises.check("likelihood-and-length", answer)
    assert verdict.constraints[0].holds


@pytest.mark.parametrize("name", ANSWERS)
def test_another_form_of_answer_is_named_and_raises_nothing(name):
    said = repr(exercises.check(name, "forty-two"))
    assert said.startswith(f"{name}: not yet. Constraint: the answer has the form that is asked")


def test_what_a_function_raises_is_told_with_its_input():
    said = repr(exercises.check("count-the-ways", lambda n, t: 1 // (n - 1)))
    assert "Found: ways(1, 1) raised ZeroDivisionError: " in said


def test_an_unknown_exercise_is_refused_with_those_there_are():
    with pytest.raises(
        ValueError, match=r"exercise must be one of 'count-the-ways', .* got '1\.1'"
    ):
        exercises.check("1.1", 3)
