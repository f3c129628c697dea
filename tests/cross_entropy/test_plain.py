"""Chapter 2: spaces, the plain method's formulas, rare events and drift, each against an oracle."""

import itertools
import math

import numpy as np
import pytest
from scipy.optimize import minimize as scipy_minimize
from scipy.special import softmax
from scipy.stats import norm, truncnorm

from genopt_core.cross_entropy import (
    Categorical,
    CrossEntropy,
    Float,
    Integer,
    SearchSpace,
    drift_law,
    dynamic_smoothing,
    elite_frequencies,
    elite_moments,
    elite_set,
    rare_event,
)
from genopt_core.cross_entropy.plain import PlainState
from genopt_core.cross_entropy.space import draw_cells

MIXED = SearchSpace(
    {
        "loss": Categorical(["hs", "ns"]),
        "negatives": Integer(2, 20, when={"loss": "ns"}),
        "window": Categorical([2, 3, 5, 8, 10], ordered=True),
        "dim": Integer(8, 500, log=True),
        "rate": Float(0.005, 0.1, log=True),
        "sample": Float(0, 1, step=0.25),
        "flag": Categorical([True, 1, None, "1"]),
    }
)


# ------------------------------------------------------------------ spaces


def test_every_row_is_a_configuration_and_comes_back():
    rng = np.random.default_rng(0)
    rows = MIXED.uniform(300, rng)
    for row in rows:
        params = MIXED.decode(row)
        assert ("negatives" in params) == (params["loss"] == "ns")
        assert 0.005 <= params["rate"] <= 0.1
        assert isinstance(params["dim"], int)
        assert params["sample"] in (0, 0.25, 0.5, 0.75, 1)
        np.testing.assert_allclose(MIXED.encode(params), row, atol=1e-9)
    assert {MIXED.decode(row)["flag"] for row in rows} == {True, None, "1"}  # True == 1 in a set
    assert {type(MIXED.decode(row)["flag"]) for row in rows} == {bool, int, str, type(None)}


def test_log_integers_are_drawn_evenly_on_their_scale():
    space = SearchSpace({"n": Integer(1, 1000, log=True)})
    drawn = [space.decode(row)["n"] for row in space.uniform(4000, np.random.default_rng(1))]
    share = np.mean(np.array(drawn) <= 31)
    expected = (math.log(31.5) - math.log(0.5)) / (math.log(1000.5) - math.log(0.5))
    assert abs(share - expected) < 4 * math.sqrt(0.25 / 4000)


@pytest.mark.parametrize("high", [0.3, 0.7, 2.0, 10.2])
def test_no_step_leads_beyond_the_end(high):
    """-10.2 + 204 * 0.1 is 10.200000000000003; found by Optuna's own tests for samplers."""
    own = Float(-high, high, step=0.1)
    top = own.decode(own.cells - 1 if own.kind == "level" else 1 - 1e-12)
    assert top == high
    assert own.decode(own.encode(top)) == top


def test_cells_have_words():
    assert MIXED.labels("window") == ["2", "3", "5", "8", "10"]
    assert MIXED.labels("sample") == ["0", "0.25", "0.5", "0.75", "1"]
    assert len(MIXED.labels("rate")) == 32


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: SearchSpace({}), "at least one parameter"),
        (lambda: Categorical([]), "at least one value"),
        (lambda: Categorical("abc"), "sequence"),
        (lambda: Categorical([1, 2, 1]), "twice"),
        (lambda: Integer(5, 4), "low must be at most high"),
        (lambda: Integer(1, 4.5), "whole number"),
        (lambda: Integer(True, 4), "whole number"),
        (lambda: Integer(0, 4, log=True), "above 0"),
        (lambda: Integer(1, 9, step=0), "at least 1"),
        (lambda: Float(2.0, 1.0), "low must be at most high"),
        (lambda: Float(0, math.inf), "finite"),
        (lambda: Float(0, math.nan), "finite"),
        (lambda: Float(0, 1, step=-0.1), "above 0"),
        (lambda: Float("0", 1), "number"),
        (lambda: SearchSpace({"x": 3}), "Categorical, Integer or Float"),
        (lambda: SearchSpace({1: Float(0, 1)}), "strings"),
        (lambda: SearchSpace({"x": Float(0, 1, when={"y": 1})}), "no parameter"),
        (lambda: SearchSpace({"x": Float(0, 1, when={"x": 1})}), "not on 'x'"),
        (
            lambda: SearchSpace({"a": Categorical([1, 2]), "x": Float(0, 1, when={"a": 3})}),
            "must be one of 1, 2",
        ),
        (
            lambda: SearchSpace({"a": Categorical([1, 2]), "x": Float(0, 1, when={"a": []})}),
            "no values",
        ),
        (
            lambda: SearchSpace(
                {"a": Categorical([1, 2], when={"b": 1}), "b": Categorical([1, 2], when={"a": 1})}
            ),
            "circle",
        ),
        (
            lambda: SearchSpace(
                {
                    "a": Categorical([1, 2]),
                    "b": Categorical([1, 2], when={"a": 1}),
                    "c": Float(0, 1, when={"b": 1, "a": 2}),
                }
            ),
            "contradict",
        ),
    ],
)
def test_impossible_spaces_are_refused(make, words):
    with pytest.raises((ValueError, TypeError), match=words):
        make()


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({"x": 1}, "lacks 'a'"),
        ({"a": "u"}, "lacks 'x'"),
        ({"a": "v", "x": 1}, "does not exist"),
        ({"a": "u", "x": 9}, "must be in"),
        ({"a": "u", "x": "1"}, "must be a number"),
        ({"a": "w", "x": 1}, "must be one of"),
        ({"a": "v", "y": 1}, "no parameter"),
    ],
)
def test_configurations_outside_a_space_are_refused(params, words):
    space = SearchSpace({"a": Categorical(["u", "v"]), "x": Integer(0, 5, when={"a": "u"})})
    with pytest.raises(ValueError, match=words):
        space.encode(params)


# ------------------------------------------------------------------ the plain method's formulas


def test_the_elite_frequency_is_the_projection():
    """Closed form against a numeric maximum of the weighted log-likelihood (KL projection)."""
    rng = np.random.default_rng(2)
    for _ in range(5):
        codes, weights = rng.integers(0, 4, 30), rng.random(30)

        def loss(z, codes=codes, weights=weights):
            return -(weights * np.log(softmax(z))[codes]).sum()

        found = softmax(scipy_minimize(loss, np.zeros(4), tol=1e-12).x)
        np.testing.assert_allclose(elite_frequencies(codes, 4, weights), found, atol=2e-5)


def test_the_elite_moments_are_the_projection():
    rng = np.random.default_rng(3)
    values, weights = rng.normal(2, 3, 40), rng.random(40)

    def loss(z):
        return -(weights * norm.logpdf(values, z[0], math.exp(z[1]))).sum()

    found = scipy_minimize(loss, [0.0, 0.0], tol=1e-12).x
    np.testing.assert_allclose(elite_moments(values, weights), [found[0], math.exp(found[1])], 1e-4)


def test_projection_minimizes_the_divergence_over_a_whole_simplex():
    """Against brute force: no distribution on a fine grid is nearer to the elite's."""
    codes = np.array([0, 0, 0, 1, 2, 2])
    target = elite_frequencies(codes, 3)
    grid = [np.array([a, b, 20 - a - b]) / 20 for a in range(1, 19) for b in range(1, 20 - a)]
    scores = [np.log(p)[codes].mean() for p in grid]
    assert max(scores) <= np.log(target)[codes].mean() + 1e-12


def test_elites_are_the_best_finite_scores():
    rng = np.random.default_rng(4)
    scores = rng.normal(size=50)
    scores[[3, 7]] = math.nan, math.inf
    chosen = elite_set(scores, 0.1)
    assert chosen.tolist() == np.argsort(scores)[:5].tolist()
    assert len(elite_set(scores, 0.001)) == 2, "never fewer than two"
    assert len(elite_set(np.array([math.nan, 1.0]), 1.0)) == 1
    ties = [tuple(elite_set(np.zeros(6), 0.3, np.random.default_rng(s))) for s in range(40)]
    assert len(set(ties)) > 10, "ties fall at random"
    assert tuple(elite_set(np.zeros(6), 0.3)) == (0, 1)


@pytest.mark.parametrize(
    "call",
    [
        lambda: elite_set(np.zeros((2, 2)), 0.5),
        lambda: elite_set(np.zeros(4), 0.0),
        lambda: elite_set(np.zeros(4), 1.1),
        lambda: elite_frequencies(np.array([0, 3]), 3),
        lambda: elite_frequencies(np.array([], int), 3),
        lambda: elite_frequencies(np.array([0]), 3, np.array([0.0])),
        lambda: elite_frequencies(np.array([0]), 3, np.array([-1.0])),
        lambda: elite_frequencies(np.array([0]), 3, np.ones(2)),
        lambda: elite_moments(np.array([])),
        lambda: dynamic_smoothing(0, 0.9, 5),
        lambda: drift_law(0, 5, 0.7, 3),
        lambda: drift_law(3, 5, 0.0, 3),
        lambda: drift_law(3, 5, 0.7, -1),
    ],
)
def test_formulas_refuse_what_makes_no_sense(call):
    with pytest.raises(ValueError):
        call()


def test_one_generation_by_hand():
    """Four scores, two elites, smoothing 0.7: every number is worked out on paper."""
    space = SearchSpace({"c": Categorical(["a", "b", "c"]), "x": Float(0, 10)})
    search = CrossEntropy(space, "plain", population_size=4, elite_fraction=0.5, floor=0.003)
    trials = search.ask(4)
    for trial, (c, x, value) in zip(
        trials, [("a", 2.0, 1.0), ("b", 9.0, 5.0), ("a", 4.0, 2.0), ("c", 9.0, None)], strict=True
    ):
        trial.params.update(c=c, x=x)
        search.tell(trial, value)
    first = search.history[1]
    assert (first.level, first.elites, first.trials) == (2.0, (0, 2), (0, 1, 2, 3))
    p = 0.7 * np.array([1, 0, 0]) + 0.3 / 3
    np.testing.assert_allclose(first.distribution["c"], (1 - 0.009) * p + 0.003)
    assert first.mean["x"] == pytest.approx(0.7 * 0.3 + 0.3 * 0.5)
    assert first.std["x"] == pytest.approx(0.9 * 0.1 + 0.1 * 0.5)  # beta_1 = beta
    assert search.distribution()["c"] is first.distribution["c"]
    low, high = (0 - first.mean["x"]) / first.std["x"], (1 - first.mean["x"]) / first.std["x"]
    cut = truncnorm(low, high, first.mean["x"], first.std["x"])
    np.testing.assert_allclose(
        first.distribution["x"], np.diff(cut.cdf(np.linspace(0, 1, 33))), atol=1e-9
    )


def test_draws_follow_the_distribution():
    space = SearchSpace({"c": Categorical(list("abc")), "x": Float(0, 1)})
    state = PlainState((np.array([0.2, 0.5, 0.3]), np.ones(32)), np.full(2, 0.9), np.full(2, 0.2))
    rng = np.random.default_rng(5)
    rows = np.array([state.draw(space, rng) for _ in range(3000)])
    shares = np.bincount(rows[:, 0].astype(int)) / 3000
    np.testing.assert_allclose(shares, [0.2, 0.5, 0.3], atol=0.04)
    cut = truncnorm((0 - 0.9) / 0.2, (1 - 0.9) / 0.2, 0.9, 0.2)
    assert rows[:, 1].mean() == pytest.approx(cut.mean(), abs=0.01)
    cells = draw_cells([np.array([0.0, 1.0])], 10, rng)
    assert (cells == 1).all()


def test_smoothing_of_deviations_falls_from_beta():
    shares = [dynamic_smoothing(t, 0.9, 7) for t in range(1, 60)]
    assert shares[0] == 0.9
    assert all(a > b for a, b in itertools.pairwise(shares))
    assert shares[-1] == pytest.approx(0.9 * 7 / 59, rel=0.06)  # beta q / t for large t


# ------------------------------------------------------------------ drift and rare events


def test_the_drift_law_is_exact_in_expectation():
    """4,000 replicates of a flat objective stay within four standard errors of the law."""
    rng, k, elite, alpha, generations = np.random.default_rng(6), 8, 5, 0.7, 12
    law = drift_law(k, elite, alpha, generations)
    p = np.full((4000, k), 1 / k)
    for t in range(generations + 1):
        diversity = 1 - (p**2).sum(1)
        error = diversity.std() / math.sqrt(4000)
        assert abs(diversity.mean() - law[t]) <= 4 * error + 1e-12, t
        p = (1 - alpha) * p + alpha * rng.multinomial(elite, p) / elite
    half = elite * math.log(2) / alpha**2
    assert law[round(half)] == pytest.approx(law[0] / 2, rel=0.06)


def test_the_search_itself_drifts_by_the_law():
    """The plain method on a constant objective: N = 10, two elites, 8 choices, six generations."""
    space = SearchSpace({"c": Categorical(range(8))})
    found = []
    for seed in range(120):
        search = CrossEntropy(
            space, "plain", population_size=10, elite_fraction=0.2, patience=None, seed=seed
        )
        for _ in range(60):
            search.tell(search.ask(), 1.0)
        found.append([1 - (g.distribution["c"] ** 2).sum() for g in search.history])
    mean, error = np.mean(found, 0), np.std(found, 0) / math.sqrt(120)
    law = drift_law(8, 2, 0.7, 6)
    assert (np.abs(mean - law) <= 4 * error + 1e-12).all(), (mean, law)


def bridge(x: np.ndarray) -> np.ndarray:
    """The shortest path through five edges (Rubinstein's bridge network)."""
    a, b, c, d, e = x.T
    return np.minimum.reduce([a + d, b + e, a + c + e, b + c + d])


def test_the_bridge_network():
    """P(S >= 2): 1.34e-5 in the literature; within three stated errors, itself about 3 percent."""
    event = rare_event(bridge, np.array([0.25, 0.4, 0.1, 0.3, 0.2]), 2.0, np.random.default_rng(0))
    assert abs(event.probability - 1.34e-5) < 3 * event.relative_error * event.probability
    assert 0.01 < event.relative_error < 0.05
    assert event.levels[-1] == 2.0
    assert len(event.levels) <= 8


def test_rare_events_with_a_known_answer():
    sums = rare_event(lambda x: x.sum(1), np.ones(2), 15.0, np.random.default_rng(1))
    exact = math.exp(-15) * 16  # the sum of two is Erlang: e^-g (1 + g)
    assert abs(sums.probability / exact - 1) < 4 * sums.relative_error < 0.2
    rng = np.random.default_rng(2)
    coins = rare_event(lambda x: x.sum(1), np.full(20, 0.1), 12, rng, family="bernoulli")
    exact = sum(math.comb(20, k) * 0.1**k * 0.9 ** (20 - k) for k in range(12, 21))
    assert abs(coins.probability / exact - 1) < 4 * coins.relative_error < 0.2


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"mean": np.array([0.0])}, "mean must be"),
        ({"mean": np.ones((2, 2))}, "mean must be"),
        ({"mean": np.array([1.5]), "family": "bernoulli"}, "mean must be"),
        ({"family": "normal"}, "family must be"),
        ({"elite_fraction": 1.0}, "elite_fraction"),
        ({"level": math.nan}, "level must be finite"),
        ({"n_samples": 1}, "at least 2"),
        ({"score": lambda x: x}, "score must return"),
        ({"score": lambda x: np.minimum(x[:, 0], 1), "level": 2.0}, "not reached"),
    ],
)
def test_rare_events_refuse(arguments, words):
    settings = {"score": lambda x: x[:, 0], "mean": np.array([1.0]), "level": 5.0} | arguments
    settings["rng"] = np.random.default_rng(0)
    with pytest.raises(ValueError, match=words):
        rare_event(**settings)


@pytest.mark.parametrize("row", [[0.5], [[0.0] * len(MIXED)], [np.nan] * len(MIXED), []])
def test_a_row_that_is_no_configuration_is_refused(row):
    with pytest.raises(ValueError, match=f"row must be {len(MIXED)} finite numbers, got"):
        MIXED.decode(row)
