"""Arguments just inside and just outside of what is accepted, defaults, and settings of record."""

import inspect
import math

import numpy as np
import pytest

from genopt_core import cross_entropy as ce
from genopt_core.cross_entropy import (
    Categorical,
    CrossEntropy,
    Float,
    Integer,
    SearchSpace,
    Trial,
    drift,
    gains,
    loop,
    parameters,
    pareto,
    plain,
    plus,
    polish,
    posterior,
    proposals,
    rare_event,
    regret,
    steps,
    surrogate,
    tabular,
    trials,
)

MIXED = SearchSpace({"c": Categorical(list("abcd")), "x": Float(0, 1)})
TWO = SearchSpace({"c": Categorical([1, 2]), "x": Float(0, 1)})
REAL = SearchSpace({"x": Float(0, 1)})


def event(**changed):
    settings = {"score": lambda x: x[:, 0], "mean": np.ones(1), "level": 2.0, "n_samples": 50}
    settings |= {"n_final": 50, "rng": np.random.default_rng(0)} | changed
    return rare_event(**settings)


def search(method="plain", space=TWO, **settings):
    return CrossEntropy(space, method, **settings)


ACCEPTED = [
    lambda: drift.drift_law(1, 1, 1.0, 0),
    lambda: plain.elite_set(np.zeros(2), 1.0),
    lambda: plain.elite_frequencies(np.array([2]), 3, np.array([1.0])),
    lambda: plain.elite_frequencies(np.array([0, 1]), 2, np.array([1.0, 0.0])),
    lambda: plain.elite_moments(np.array([3.0]), np.array([2.0])),
    lambda: plain.dynamic_smoothing(1, 0.9, 5),
    lambda: Integer(-(2**63), 1),
    lambda: Integer(1, 1, log=True),
    lambda: Integer(1, 9, log=True, step=1),
    lambda: Float(1e-300, 1, log=True),
    lambda: Float(2, 2),
    lambda: Float(0, 1, step=1e-9),
    lambda: Categorical([None]),
    lambda: regret.normalised_regret(1 - 0.9e-9, 1.0, 2.0),
    lambda: regret.normalised_regret(-0.5 - 0.9e-9, -0.5, 2.0),
    lambda: regret.normalised_regret(-100 - 0.9e-7, -100.0, 2.0),
    lambda: event(elite_fraction=1e-3),
    lambda: event(elite_fraction=0.999, level=0.001),
    lambda: event(n_samples=2),
    lambda: event(n_final=2),
    lambda: event(mean=np.array([1.5])),
    lambda: event(mean=np.array([0.999]), family="bernoulli", level=1.0),
    lambda: search(seed=0),
    lambda: search(population_size=2),
    lambda: search(elite_fraction=1),
    lambda: search(smoothing=1),
    lambda: search(sigma_smoothing=1),
    lambda: search(floor=0),
    lambda: search(patience=1),
    lambda: search(tolerance=1),
    lambda: search(n_startup=1),
    lambda: search(explore=0),
    lambda: search(explore=1),
    lambda: search(floor=0.49, tolerance=0.49),
    lambda: search(floor=0.25, tolerance=0.25),
    lambda: search(space=REAL, floor=0.99),
    lambda: search().ask(0),
    lambda: ce.minimize(lambda p: 0.0, REAL, 0, method="plain"),
    lambda: ce.minimize(lambda p: 0.0, REAL, 1, method="plain", retries=0, confirm=0),
    lambda: ce.search_table(ce.TabularObjective.load("word2vec_wikipedia"), "random", 1),
]


@pytest.mark.parametrize("number", range(len(ACCEPTED)))
def test_what_is_just_inside_is_accepted(number):
    ACCEPTED[number]()


REFUSED = [
    (lambda: drift.drift_law(0, 1, 1.0, 0), "n_choices"),
    (lambda: drift.drift_law(1, 0, 1.0, 0), "n_elite"),
    (lambda: drift.drift_law(1, 1, 1.001, 0), "smoothing"),
    (lambda: drift.drift_law(1, 1, 1.0, -1), "generations"),
    (lambda: plain.elite_frequencies(np.array([-1, 0]), 3), "codes must be in 0 to 2"),
    (lambda: plain.elite_frequencies(np.array([3]), 3), "codes must be in 0 to 2, got 3, 3"),
    (lambda: plain.elite_frequencies(np.zeros((1, 1), int), 3), "codes must be a vector"),
    (lambda: plain.elite_moments(np.zeros((1, 1))), "values must be a vector"),
    (lambda: plain.elite_moments(np.ones(1), np.array([math.inf])), "weights must be finite"),
    (lambda: plain.elite_moments(np.ones(2), np.array([1.0, -1e-9])), "not negative"),
    (lambda: plain.elite_moments(np.ones(2), np.zeros(2)), "not all 0"),
    (lambda: Integer(-(2**63) - 1, 1), "Integer.low"),
    (lambda: Integer(-(2**64), -(2**63) - 1), "Integer.low|Integer.high"),
    (lambda: Integer(0, 9, log=True), "above 0"),
    (lambda: Float(0, 1, log=True), "above 0"),
    (lambda: Float(0, 1, step=0), "step must be above 0"),
    (lambda: Float(0, 1, step=math.inf), "step must be above 0"),
    (lambda: Float(0, 1, when={}), "when must be a mapping"),
    (lambda: Integer(0, 1, when={}), "when must be a mapping"),
    (lambda: regret.normalised_regret(1 - 1.1e-9, 1.0, 2.0), "value must be at least"),
    (lambda: regret.normalised_regret(-0.5 - 1.1e-9, -0.5, 2.0), "value must be at least"),
    (lambda: regret.normalised_regret(-100 - 1.1e-7, -100.0, 2.0), "value must be at least"),
    (lambda: event(elite_fraction=0.0), "elite_fraction"),
    (lambda: event(elite_fraction=1), "elite_fraction"),
    (lambda: event(n_samples=1), "n_samples"),
    (lambda: event(n_final=1), "n_final"),
    (lambda: event(mean=np.array([])), "mean must be"),
    (lambda: event(mean=np.array([1.0]), family="bernoulli"), "mean must be"),
    (lambda: search(sigma_smoothing=0), "sigma_smoothing"),
    (lambda: search(sigma_exponent=math.nan), "sigma_exponent"),
    (lambda: search(tolerance=0), "tolerance"),
    (lambda: search(floor=0.5, tolerance=1), "floor must be below 1/2"),
    (lambda: search(floor=0.25, tolerance=0.2499), "tolerance must be at least 0.25, "),
    (lambda: search(space=REAL, floor=1), "floor must be below 1/1"),
    (lambda: search().ask(-1), "n must be at least 0"),
    (lambda: ce.minimize(lambda p: 0.0, REAL, 1, repeats=0), "repeats"),
    (lambda: ce.minimize(lambda p: 0.0, REAL, 1, confirm=-1), "confirm"),
    (lambda: ce.minimize(lambda p: 0.0, REAL, 1, confirm_repeats=0), "confirm_repeats"),
    (lambda: ce.minimize(lambda p: 0.0, REAL, 1, retries=-1), "retries"),
    (lambda: pareto.dominance_ranks(np.zeros((2, 0))), "losses must be a matrix"),
    (lambda: Trial(0, {}).finished(1.0, [math.nan]), "constraints must be numbers"),
    (
        lambda: ce.TabularObjective.load("word2vec_wikipedia")(
            ce.TabularObjective.load("word2vec_wikipedia").best, replicate=-1
        ),
        "replicate must be 0 to",
    ),
]


@pytest.mark.parametrize("number", range(len(REFUSED)))
def test_what_is_just_outside_is_named(number):
    call, words = REFUSED[number]
    with pytest.raises((ValueError, TypeError), match=words):
        call()


@pytest.mark.restates
def test_defaults_are_those_that_are_documented():
    def of(function):
        given = inspect.signature(function).parameters.values()
        plain_ones = (int, float, bool, str, type(None))
        return {
            p.name: p.default
            for p in given
            if p.default is not p.empty and isinstance(p.default, plain_ones)
        }

    assert of(CrossEntropy) == {
        "method": "posterior", "seed": 0, "direction": "minimize", "population_size": 20,
        "elite_fraction": None, "smoothing": 0.7, "sigma_smoothing": 0.9, "sigma_exponent": 7,
        "floor": 0.0, "patience": 5, "tolerance": 0.01, "n_startup": 10, "explore": None,
        "deterministic": False, "avoid_repeats": None,
    }  # fmt: skip
    assert of(ce.minimize) == {
        "executor": None, "batch_size": 1, "seeded": False, "repeats": 1, "confirm": 0,
        "confirm_repeats": 8, "retries": 2, "make_executor": None, "callback": None,
    }  # fmt: skip
    assert of(rare_event) == {
        "family": "exponential", "elite_fraction": 0.1, "n_samples": 2000, "n_final": 100_000,
    }  # fmt: skip
    assert of(ce.search_table) == {"seed": 0}
    assert of(drift.drift_runs) == {"sloped": False}
    assert of(surrogate.GaussianProcess.fit) == {
        "iterations": 30,
        "tolerance": surrogate.LEAST_GAIN,
    }
    assert of(Integer) == {"log": False, "step": 1, "when": None}
    assert of(Float) == {"log": False, "step": None, "when": None}
    assert of(Categorical) == {"ordered": False, "when": None}
    by_method = {m: search(m) for m in ("plain", "plus", "posterior")}
    assert {m: s.explore for m, s in by_method.items()} == {
        "plain": 0.0, "plus": 0.2, "posterior": 0.1,
    }  # fmt: skip
    assert [s.settings.elite_fraction for s in by_method.values()] == [0.25, 0.15, 0.15]


@pytest.mark.restates
def test_the_settings_are_those_that_the_stored_races_ran_with():
    """No test can say that another number is wrong; the stored numbers hang on these."""
    assert (plus.SCREENED, plus.CAUTION, plus.MIXTURE) == (24, 2.0, 0.8)
    assert (gains.CAUTION, gains.PAIRS) == (3.0, 200_000)
    assert (steps.TIED, steps.MARGIN, steps.SCREENED) == (0.25, 0.3, 0.25)
    assert (proposals.MOST_REDRAWN, proposals.FEWEST) == (64, 3)
    purposes = "ASK", "STARTUP", "TIES", "FITTED", "LAST_RESORT"
    assert [getattr(proposals, name) for name in purposes] == [0, 1, 2, 3, 4]
    assert posterior.FULL == (256, (4, 4, 4), 30, 10, surrogate.LEAST_GAIN)
    assert posterior.SPARSE == (128, (3, 2, 1), 20, 5, 1e-5)
    assert (posterior.ROUNDS, posterior.KERNEL, posterior.UNIFORM) == (3, 0.08, 0.1)
    assert (posterior.FEWEST_TOLD, posterior.MOST_TOLD) == (3, 1000.0)
    assert polish.STEPS == (0.15, 0.05, 0.015)
    assert posterior.WINDOW == 300
    assert posterior.MOST_ON_FRONT == {2: 400, 3: 40, 4: 16}
    assert surrogate.LEAST_GAIN == 2.220446049250313e-09
    assert (surrogate.JITTER, surrogate.ADDITIVE_WIDTH) == (1e-8, 0.08)
    assert surrogate.BOUNDS == ((-6.0, 8.0), (-4.0, 4.0), (-14.0, 2.0), (-8.0, 3.0))
    assert (parameters.REAL_CELLS, parameters.MOST_LEVELS, pareto.MARGIN) == (32, 64, 0.1)
    for deterministic, noise in ((True, -8.0), (False, -4.0)):
        process = surrogate.GaussianProcess(MIXED, deterministic)
        assert process.log_mean.tolist() == [1.0, 1.0, 0.0, noise, -1.5]
        assert process.log_std.tolist() == [1.5, 1.5, 1.0, 2.0, 1.5]
        assert process.theta is process.log_mean
    assert loop._seeds(0, "search", 2) == [3028184885, 2414285075]
    assert loop._seeds(7, "confirm", 2) == [715886995, 2640782274]


# ------------------------------------------------------------------ parameters


def test_so_many_levels_are_a_list_and_one_more_is_a_scale():
    assert (Integer(0, 63).kind, Integer(0, 63).cells) == ("level", 64)
    assert (Integer(0, 64).kind, Integer(0, 64).cells) == ("real", 32)
    assert (Integer(1, 9, log=True).kind, Integer(5, 5, log=True).kind) == ("real", "level")
    assert (Float(0, 1).kind, Float(1, 1).kind, Float(0, 1, step=0.5).kind) == (
        "real", "level", "level",
    )  # fmt: skip
    assert [Float(0, 1).continuous, Float(0, 1, step=0.1).continuous] == [True, False]
    assert Float(0, 0.3, step=0.1).levels == 4  # 0.3 / 0.1 is 2.9999999999999996
    assert Float(0, 1, step=0.3).levels == 4
    assert Float(0, 0.9, step=1.0).levels == 1
    assert (Categorical(["ab"]).levels, Categorical([1, 2, 3]).cells) == (1, 3)
    assert [Categorical([1, 2], ordered=o).kind for o in (False, True)] == ["category", "level"]


@pytest.mark.parametrize(
    ("own", "end"),
    [(Float(0, 10), 10), (Float(1, 10), 10), (Float(-20, 10), 20), (Float(-1, 0.5, step=0.5), 1)],
)
def test_rounding_at_the_ends_is_forgiven_and_no_more(own, end):
    for bound, sign in ((own.low, -1), (own.high, 1)):
        own.encode(bound + sign * 0.9e-9 * end)
        with pytest.raises(ValueError, match="must be in"):
            own.encode(bound + sign * 1.1e-9 * end)


def test_coordinates_by_hand():
    top = 1 - 1e-12
    assert [Float(0, 4).encode(v) for v in (0, 1, 4)] == [0, 0.25, top]
    assert Float(1, 100, log=True).encode(10) == pytest.approx(0.5, abs=1e-15)
    wide = Integer(0, 99)  # from -0.5 to 99.5
    assert wide.encode(3) == pytest.approx(0.035)
    assert [wide.decode(z) for z in (0.0, 0.0101, 0.5051, top)] == [0, 1, 50, 99]
    assert wide.snap([0.0, 0.0101, top]) == pytest.approx([0.005, 0.015, 0.995])
    assert (wide.code(3), wide.levels) == (pytest.approx(0.035), 100)
    odd = Integer(0, 1000, step=7)  # 143 values, the last 994
    assert (odd.levels, odd.decode(top), odd.code(142)) == (143, 994, pytest.approx(997.5 / 1007))
    ratio = Integer(1, 99, log=True)
    low, high = math.log(0.5), math.log(99.5)
    assert ratio.encode(10) == pytest.approx((math.log(10) - low) / (high - low))
    assert ratio.snap([0.5]) == pytest.approx((math.log(7) - low) / (high - low))  # 7.05
    fine = Float(0, 10, step=0.1)
    assert fine.snap([0.503, 0.0, top]).tolist() == [0.5, 0, top]
    assert fine.code(100) == top
    short = Float(0.5, 2, step=0.5)
    assert [short.encode(v) for v in (0.5, 1.4, 2)] == [0, 2, 3]
    assert [short.decode(z) for z in (0, 3)] == [0.5, 2.0]
    assert (short.code(2), short.snap([2]).tolist()) == (2.0, [2.0])
    assert [Float(0, 32).label(cell) for cell in (0, 31)] == ["0.5", "31.5"]
    assert [short.label(cell) for cell in (0, 3)] == ["0.5", "2"]
    assert Float(1 / 3, 1 / 3).label(0) == "0.333"
    assert (Integer(5, 5).encode(5), Integer(5, 5).decode(0.0)) == (0.0, 5)


def test_choices_are_found_by_what_they_are():
    assert Categorical([[1], [2]]).encode([2]) == 1.0
    assert Categorical([1, 2]).encode(2.0) == Categorical([1, 2]).encode(np.int64(2)) == 1.0
    nan = math.nan
    assert Categorical([0.5, nan]).encode(nan) == 1.0
    assert Categorical([True, 1, 1.0]).encode(1.0) == 2.0
    assert Categorical([[True], [False], 1]).encode(1) == 2.0
    for choices, value in (([1, 2], True), ([True, 2], 1), ([0.5, nan], float("nan"))):
        with pytest.raises(ValueError, match="must be one of"):
            Categorical(choices).encode(value)
    assert hash(Integer(1, 2)) == hash(Integer(1, 2)) != hash(Float(1, 2))
    assert Integer(1, 2) != Integer(1, 3)


# ------------------------------------------------------------------ records


def test_what_counts_as_values():
    one = Trial(3, {"x": 1})
    assert one.finished(np.array(2.0)).value == 2.0
    assert one.finished(np.array([2.0, 3.0])).values == (2.0, 3.0)
    assert one.finished([2.0]).values == (2.0,)
    assert one.finished((1.0, math.inf)).state == "failed"
    assert one.finished(None, [2.0]).constraints == {"0": 2.0}
    assert one.finished(math.nan, {"a": -1}).constraints == {"a": -1.0}
    assert one.finished(1.0, [0.5, -9.0, 0.25]).violation == 0.75
    assert one.finished(1.0, {"a": -1.0}).violation == 0
    assert one.finished([1.0, 2.0], [3.0]).constraints == {"0": 3.0}
    assert Trial(0, {}, values=[1, 2]).values == (1, 2)


def test_relative_entropy_by_hand():
    assert trials.relative_entropy(np.array([1.0])) == 0
    assert trials.relative_entropy(np.array([0.0, 1.0])) == 0
    assert trials.relative_entropy(np.array([0.5, 0.5, 0, 0])) == pytest.approx(0.5)
    assert trials.relative_entropy(np.full(7, 1 / 7)) == pytest.approx(1)


def test_a_table_of_one_training_has_no_noise():
    axes = [{"name": "a", "kind": "integer", "levels": [1, 2, 3]}]
    one = tabular.TabularObjective(axes, [[1.0], [3.0], [3.0]])
    assert (one.replicate_std, one.signal_to_noise) == (0.0, math.inf)
    assert one.cpu_seconds.tolist() == [1, 1, 1]
    assert [one.rank({"a": a}) for a in (1, 2, 3)] == [3, 1, 1]
    assert (one.best, one.regret({"a": 1}), one.origin) == ({"a": 2}, 2.0, {})
    two = tabular.TabularObjective(axes, [[1.0, 3.0], [4.0, 4.0], [9.0, 9.0]], [1, 2, 3], {"by": 1})
    assert two.replicate_std == pytest.approx(math.sqrt(2 / 3))
    assert two.signal_to_noise == pytest.approx(np.std([2, 4, 9]) / math.sqrt(2 / 3))
    pair = [*axes, {"name": "b", "kind": "categorical", "levels": ["x"]}]
    several = tabular.TabularObjective(pair, [[[1.0, 3.0]], [[4.0, 4.0]], [[9.0, 9.0]]])
    assert several.replicate_std == two.replicate_std
    assert (several.index({"b": "x", "a": 3}), several.params((1, 0))) == (
        (2, 0),
        {"a": 2, "b": "x"},
    )
    assert (two.cpu_seconds.tolist(), two.origin) == ([1, 2, 3], {"by": 1})
    assert two({"a": 1}, replicate=0) == 1.0
    assert [p["a"] for p in two] == [1, 2, 3]
    assert two.space.parameters["a"].ordered
    assert tabular.TabularObjective.load("word2vec_planted") is tabular.TabularObjective.load(
        "word2vec_planted"
    )
    scores = tabular.TabularObjective.load("word2vec_wikipedia").scores
    assert (scores.round(5) == scores).all()


@pytest.mark.parametrize("method", ["random", "plain"])
def test_a_search_of_a_table_is_its_draws_one_after_the_other(method):
    table = ce.TabularObjective.load("word2vec_wikipedia")
    found = ce.search_table(table, method, 5, seed=3)
    rng = np.random.default_rng([3, 1])
    asked = CrossEntropy(table.space, "plain", seed=3, direction="maximize")
    for k in range(5):
        if method == "random":
            params = table.params([int(rng.integers(n)) for n in table.mean.shape])
        else:
            params = (trial := asked.ask()).params
        value = table.draw(params, np.random.default_rng([3, k]))
        if method == "plain":
            asked.tell(trial, value)
        assert found.params[k] == params
        assert (found.observed[k], found.true[k]) == (value, table(params))
        assert found.cpu_seconds[k] == table.cpu_seconds[table.index(params)]
    first = float(found.cpu_seconds[0])
    with pytest.raises(ValueError, match=f"at least {first}, got {first / 2}"):
        found.best(first / 2)
    with pytest.raises(ValueError):
        table.params((0,))
    spent = float(np.cumsum(found.cpu_seconds)[1])
    first = int(found.observed[:2].argmax())
    assert found.best(spent) == found.true[first]
    assert found.best_params(spent) == found.params[first]
    assert found.best(np.nextafter(spent, 0)) == found.true[0]
    assert found.best() == found.true[int(found.observed.argmax())]
