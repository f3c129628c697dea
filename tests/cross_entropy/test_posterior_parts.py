"""The parts of the posterior-weighted method, each against the same written out."""

import math
import warnings

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.stats import norm, yeojohnson_normmax

from genopt_core.cross_entropy import Categorical, Float, Integer, SearchSpace, gains, kernels
from genopt_core.cross_entropy import polish as polishing
from genopt_core.cross_entropy import posterior as module
from genopt_core.cross_entropy import surrogate as processes
from genopt_core.cross_entropy.outcomes import Outcomes
from genopt_core.cross_entropy.pareto import dominance_ranks, free_boxes, reference_point
from genopt_core.cross_entropy.plus import fit_elite
from genopt_core.cross_entropy.polish import Polish, reflect
from genopt_core.cross_entropy.posterior import Posterior
from genopt_core.cross_entropy.space import draw_cells
from genopt_core.cross_entropy.surrogate import GaussianProcess

SPACE = SearchSpace(
    {
        "kind": Categorical(["a", "b", "c"]),
        "depth": Integer(0, 29),
        "rate": Float(0, 1, when={"kind": ["a", "b"]}),
        "width": Float(0, 1),
    }
)
NOW = np.random.default_rng


def method(space=SPACE, deterministic=True):
    return Posterior(space, deterministic, 0.25)


def known_gain(rows):
    """Of a configuration, without any process."""
    return (
        (rows[:, 0] == 1) + np.exp(-(((rows[:, 1] - 9) / 6) ** 2)) + rows[:, 3] * (1 - rows[:, 3])
    )


@pytest.fixture
def unfitted(monkeypatch):
    """Processes keep the hyperparameters of the start; what they were to be fitted to is kept."""
    asked = []

    def fit(self, rows, values, *effort):
        assert effort == (module.FULL.iterations, module.FULL.tolerance)
        asked.append((rows, values))
        return self.log_mean

    monkeypatch.setattr(GaussianProcess, "fit", fit)
    return asked


# ------------------------------------------------------------------ the process


@pytest.mark.parametrize("deterministic", [True, False])
def test_predictions_are_those_of_the_inverse(deterministic):
    rng = NOW(0)
    rows, values, new = SPACE.uniform(8, rng), rng.normal(size=8), SPACE.uniform(5, rng)
    process = GaussianProcess(SPACE, deterministic)
    theta = rng.normal(size=7)
    process.condition(theta, rows, values)
    w, (s2, noise, sa) = np.exp(theta[:4]), np.exp(theta[4:])

    def covariance(a, b):
        found = np.empty((len(a), len(b)))
        for i, x in enumerate(SPACE.unit(a)):
            for j, y in enumerate(SPACE.unit(b)):
                square = (x - y) ** 2
                square[0] = x[0] != y[0]
                u = 5 * (w @ square)
                r = math.sqrt(u + 1e-12)
                alone = [square[0] < 1e-12, square[1] < 1e-12, *np.exp(-square[2:] / 0.08)]
                found[i, j] = s2 * (1 + r + u / 3) * math.exp(-r) + sa * np.mean(alone)
        return found

    inverse = np.linalg.inv(covariance(rows, rows) + (noise + 1e-8 * (s2 + sa)) * np.eye(8))
    k = covariance(new, rows)
    mean, std = process.predict(new)
    np.testing.assert_allclose(mean, k @ inverse @ values, rtol=1e-8)
    np.testing.assert_allclose(process.mean(new), mean, rtol=1e-10)
    wanted = np.sqrt(s2 + sa - np.einsum("ij,jk,ik->i", k, inverse, k))
    np.testing.assert_allclose(std, wanted, rtol=1e-7)
    sure = GaussianProcess(SPACE, True).condition(np.array([1.0] * 4 + [0, -60, -9]), rows, values)
    assert sure.predict(rows)[1].min() >= 1e-6


def test_a_fit_is_thirty_steps_within_the_bounds():
    rng = NOW(3)
    rows = SPACE.uniform(9, rng)
    values = np.linspace(-1.5, 1.5, 9)
    process = GaussianProcess(SPACE, True)
    arguments = *process._pairs(rows), values
    bounds = [(-6.0, 8.0)] * 4 + [(-4.0, 4.0), (-14.0, 2.0), (-8.0, 3.0)]
    few, loose = {"iterations": 2}, {"tolerance": 0.05}
    for steps, least, given in ((30, 2.22e-9, {}), (2, 2.22e-9, few), (30, 0.05, loose)):
        wanted = minimize(
            process._loss, process.log_mean, args=arguments, jac=True, method="L-BFGS-B",
            bounds=bounds, options={"maxiter": steps, "ftol": least},
        ).x  # fmt: skip
        np.testing.assert_array_equal(process.fit(rows, values, **given), wanted)
    lost, slope = process._loss(process.log_mean, arguments[0], -100 * np.eye(9), values)
    assert (lost, slope.tolist()) == (1e10, [0.0] * 7), "no covariance at all"


@pytest.mark.parametrize("shape", ["both", "above", "below", "skewed", "constant", "zero"])
@pytest.mark.parametrize("n", [3, 40, 151])
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_the_exponent_is_bit_for_bit_that_of_scipy(shape, n):
    """SciPy's from 1.12, seen to 1.17; 1.11 looks for it in another way, to other digits."""
    pytest.importorskip("scipy", minversion="1.12")
    z = np.random.default_rng(n).normal(size=n)
    values = {
        "both": z, "above": np.exp(z), "below": -np.exp(z), "skewed": z**3,
        "constant": np.ones(n), "zero": np.zeros(n),
    }[shape]  # fmt: skip
    assert processes.yeojohnson_normmax(values) == yeojohnson_normmax(values)
    with pytest.raises(ValueError, match="finite"):
        processes.yeojohnson_normmax(np.append(values, np.inf))


def test_the_kernel_of_a_conditional_space_is_the_plain_formula():
    """`_kernel` by matrix products against `_squares` and `_alone`, on rows it knows and others."""
    space = SearchSpace({
        "model": Categorical(["a", "b", "c"]),
        "u": Float(0, 1, when={"model": "a"}),
        "k": Integer(1, 5, when={"model": ["a", "b"]}),
        "c": Categorical([1, 2], when={"model": "b"}),
        "v": Float(0, 1, when={"c": 2}),
        "w": Float(0, 1),
        "n": Integer(0, 3),
    })  # fmt: skip
    rng = np.random.default_rng(3)
    known, rows = space.uniform(60, rng), space.uniform(90, rng)
    rows[:20] = known[:20]
    process = processes.GaussianProcess(space, True)
    process.condition(rng.normal(size=len(space) + 3), known, rng.normal(size=60))
    for near, trials in ((rows, rows[:7]), (rows, known), (known, known), (rows[:1], known)):
        squares = process._squares(near, trials)
        u = 5 * np.tensordot(process.w, squares, 1)
        r = np.sqrt(u + 1e-12)
        plain = process.s2 * (1 + r + u / 3) * np.exp(-r)
        plain += process.sa * process._alone(squares)
        np.testing.assert_allclose(process._kernel(near, trials), plain, rtol=1e-12)
    other = process.mean(known.copy())
    np.testing.assert_allclose(process.mean(process.rows), other, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("n", [1, 2, 40])
def test_distances_of_a_conditional_space_are_products(n):
    """`Products` against `Squares`: sums by weights, and the slopes that a fit needs."""
    rng = np.random.default_rng(n)
    rows = SPACE.uniform(n, rng)
    process = GaussianProcess(SPACE, True)
    products, alone = process._pairs(rows)
    squares = process._squares(rows, rows)
    assert isinstance(products, processes.Products)
    plain = processes.Squares(squares)
    w = np.exp(rng.normal(size=4))
    h = rng.normal(size=(n, n))
    h += h.T
    np.testing.assert_allclose(plain.weighted(w), np.einsum("d,dij->ij", w, squares), rtol=1e-12)
    np.testing.assert_allclose(products.weighted(w), plain.weighted(w), rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(
        plain.slopes(h), np.einsum("ij,dij->d", h, squares), rtol=1e-12, atol=1e-12
    )
    np.testing.assert_allclose(products.slopes(h), plain.slopes(h), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(alone, process._alone(squares), rtol=1e-12)


def test_scores_are_standard_normal_and_survive_anything(monkeypatch):
    values = np.array([1.0, 2.0, 4.0, 900.0])
    plain = (values - values.mean()) / values.std()
    assert processes._standard(values) == pytest.approx(plain)
    assert processes._standard(np.ones(3)).tolist() == [0, 0, 0]
    assert processes._standard(values * 1e300) == pytest.approx(plain)
    assert processes._standard(np.array([0.0, 1e101])).tolist() == pytest.approx([-1, 1])
    assert processes.normal_scores(values, 1.0) == pytest.approx(plain)
    assert processes.normal_scores(values, -1e6) == pytest.approx(plain), "what has no spread left"
    warped = processes.normal_scores(values, 0.0)
    rising = np.sign(plain) * np.where(plain >= 0, np.log1p(np.abs(plain)), plain**2 / 2 - plain)
    assert warped == pytest.approx((rising - rising.mean()) / rising.std())
    assert processes.warp_exponent(np.ones(4)) == 1.0
    exponent = processes.warp_exponent(values)
    assert -10 < exponent < 1
    for value, used in ((9.99, 9.99), (10.0, 1.0), (-9.99, -9.99), (-10.0, 1.0)):
        monkeypatch.setattr(processes, "yeojohnson_normmax", lambda values, v=value: v)
        assert processes.warp_exponent(values) == used
    assert [processes.checkpoint(n) for n in (0, 1, 10, 39, 40, 41, 79, 80, 163)] == [
        0, 1, 10, 38, 40, 40, 76, 80, 160,
    ]  # fmt: skip


def test_expected_gains_are_integrals():
    rng = NOW(1)
    mean, std = rng.normal(size=5), rng.uniform(0.2, 2, 5)
    for m, s, found in zip(mean, std, gains.expected_below(0.3, mean, std), strict=True):
        assert found == pytest.approx(norm(m, s).expect(lambda x: 0.3 - x, ub=0.3), rel=1e-6)


@pytest.mark.parametrize("pairs", [1, 7, 10_000])
def test_a_hypervolume_does_not_depend_on_the_parts_it_is_computed_in(pairs, monkeypatch):
    class Fixed:
        def __init__(self, seed):
            self.both = NOW(seed).normal(size=9), NOW(seed).uniform(0.1, 1, 9)

        def predict(self, rows):
            return self.both

    boxes = free_boxes(NOW(0).random((4, 2)), np.ones(2))
    own = [Fixed(0), Fixed(1)]
    wanted = np.zeros(9)
    for low, high in zip(*boxes, strict=True):
        sides = [
            gains.expected_below(high[j], *own[j].both) - gains.expected_below(low[j], *own[j].both)
            for j in range(2)
        ]
        wanted += sides[0] * sides[1]
    monkeypatch.setattr(gains, "PAIRS", pairs)
    found = gains.expected_hypervolume(own, *boxes, np.zeros((9, 1)))
    np.testing.assert_allclose(found, wanted, rtol=1e-10)
    chance = norm.cdf(-own[0].both[0] / own[0].both[1]) * norm.cdf(-own[1].both[0] / own[1].both[1])
    np.testing.assert_allclose(gains.feasibility(own, np.zeros((9, 1))), chance**3)


# ------------------------------------------------------------------ what a row is worth


def conditioned(rows, values, deterministic):
    process = GaussianProcess(SPACE, deterministic)
    return process.condition(process.log_mean, rows, values)


@pytest.mark.parametrize("deterministic", [True, False])
@pytest.mark.parametrize("case", ["plain", "running", "stepped", "failed"])
def test_the_gain_of_one_objective(deterministic, case, unfitted):
    rng = NOW(5)
    rows, scores, new = SPACE.uniform(9, rng), rng.random(9), SPACE.uniform(6, rng)
    running = SPACE.uniform(2 if case == "running" else 0, rng)
    if case == "stepped":
        scores = np.round(scores * 2)
    told = scores.copy()
    if case == "failed":
        scores[4], told[4] = math.inf, np.delete(scores, 4).max()
    exponent = None if case == "stepped" else processes.warp_exponent(told)
    values = processes.normal_scores(told, exponent)
    process = conditioned(rows, values, deterministic)
    level = values.min() if deterministic else process.mean(rows).min()
    if case == "stepped":
        level -= 0.3
    if case == "running":
        believed = np.concatenate([values, process.mean(running)])
        process = conditioned(np.vstack([rows, running]), believed, deterministic)
    found = method(deterministic=deterministic)._gain(rows, scores, running, None)(new)
    np.testing.assert_allclose(found, gains.expected_gain(process, level, new), rtol=1e-6)
    np.testing.assert_allclose(unfitted[0][1], values)


@pytest.mark.parametrize("deterministic", [True, False])
@pytest.mark.parametrize("m", [1, 2])
def test_the_gain_under_constraints_and_of_several_objectives(m, deterministic, unfitted):
    rng = NOW(6)
    rows, new, running = (SPACE.uniform(n, rng) for n in (9, 6, 2))
    losses = rng.random((9, m))
    told = rng.normal(size=9)
    told[[2, 5]] = math.nan
    told[7] = 1e9
    violations = np.where(np.nan_to_num(told) > 0, np.nan_to_num(told), 0.0)
    outcomes = Outcomes(losses, violations, [told, np.full(9, math.nan)])
    found = method(deterministic=deterministic)._gain(rows, rng.random(9), running, outcomes)(new)
    known = ~np.isnan(told)
    scale = np.median(np.abs(told[known]))
    values = np.arcsinh(np.clip(told[known] / scale, -1000, 1000))
    allowed = gains.feasibility([conditioned(rows[known], values, deterministic)], new)
    own, reached = [], []
    for column in losses.T:
        z = processes.normal_scores(column, processes.warp_exponent(column))
        process = conditioned(rows, z, deterministic)
        at = z if deterministic else process.mean(rows)
        reached.append(np.concatenate([at, process.mean(running)]))
        believed = np.concatenate([z, process.mean(running)])
        own.append(conditioned(np.vstack([rows, running]), believed, deterministic))
    good = violations <= 0
    assert 2 <= good.sum() < 9
    if m == 1:
        wanted = gains.expected_gain(own[0], reached[0][:9][good].min(), new)
    else:
        both = np.stack(reached, 1)[np.append(good, [True, True])]
        front = both[dominance_ranks(both) == 0]
        boxes = free_boxes(front, reference_point(both))
        wanted = gains.expected_hypervolume(own, *boxes, new)
    np.testing.assert_allclose(found, wanted * allowed, rtol=1e-6)
    nothing = Outcomes(losses, np.ones(9), [told])
    first = method(deterministic=deterministic)._gain(rows, rng.random(9), running, nothing)
    np.testing.assert_allclose(first(new), allowed, rtol=1e-9)


def test_a_constraint_needs_three_trials_that_told_it(unfitted):
    rows = SPACE.uniform(5, NOW(0))
    told = np.array([0.5, math.nan, -2.0, math.nan, math.nan])
    own = method()
    assert own._constraint(rows, told, np.arange(5), "c") is None
    told[4] = 1.0
    assert own._constraint(rows, told, np.arange(5), "c") is not None
    assert unfitted[0][1] == pytest.approx(np.arcsinh([0.5, -2, 1]))
    assert own._constraint(rows, told, np.arange(4), "c") is None
    zeros = np.array([0.0, 0.0, 0.0, 5.0, -math.inf])
    own._constraint(rows, zeros, np.arange(5), "d")
    assert unfitted[1][1][:4] == pytest.approx([0, 0, 0, math.asinh(5)])


def test_hyperparameters_are_fitted_again_only_when_their_trials_change(unfitted):
    rng = NOW(2)
    rows, scores = SPACE.uniform(44, rng), rng.random(44)
    own = method()
    for n, fits in ((40, 1), (41, 1), (43, 1), (44, 2), (42, 3)):
        own._condition(rows[:n], scores[:n], np.arange(n))
        assert len(unfitted) == fits, n
    own._condition(rows, scores, np.arange(44), "objective 1")
    assert len(unfitted) == 4
    own._condition(rows, scores + 1, np.arange(44))
    own._condition(rows[::-1], scores + 1, np.arange(44))
    assert len(unfitted) == 6


def test_of_a_large_front_a_part_is_taken(unfitted, monkeypatch):
    rng = NOW(0)
    rows = SPACE.uniform(9, rng)
    x = np.arange(9.0)
    outcomes = Outcomes(np.stack([x, -x], 1), np.zeros(9), [])
    sizes = []
    boxes = module.free_boxes
    monkeypatch.setattr(module, "free_boxes", lambda a, b: sizes.append(len(a)) or boxes(a, b))
    for most, size in ((9, 9), (8, 8), (3, 3)):
        monkeypatch.setitem(module.MOST_ON_FRONT, 2, most)
        method()._gain(rows, x, rows[:0], outcomes)
        assert sizes[-1] == size
    five = Outcomes(np.stack([np.roll(np.arange(12.0), k) for k in range(5)], 1), np.zeros(12), [])
    monkeypatch.setattr(module, "expected_hypervolume", lambda *a: None)
    method()._gain(SPACE.uniform(12, rng), np.arange(12.0), rows[:0], five)
    assert sizes[-1] <= 10


# ------------------------------------------------------------------ the projection


def test_mutants_are_elites_with_coordinates_moved():
    elites = SPACE.uniform(3, NOW(0))
    found = method()._mutants(elites, NOW(7))
    rng, n = NOW(7), np.array([3, 30, 32, 32])
    cells = SPACE.cell(elites)[rng.integers(3, size=128)]
    moved = rng.random((128, 4)) < 1.5 / 4
    jump = np.array([1, 4.5, 4.8, 4.8]) * rng.standard_normal((128, 4))
    anywhere = (rng.random((128, 4)) * n).astype(int)
    for k in range(128):
        for i in range(4):
            near = min(max(round(cells[k, i] + jump[k, i]), 0), n[i] - 1)
            other = anywhere[k, i] if i == 0 else near
            kept = cells[k, i] if not moved[k, i] and cells[k, i] >= 0 else other
            assert found[k, i] == kept


def test_the_projection_is_three_rounds_of_cross_entropy():
    rng = NOW(1)
    rows, scores = SPACE.uniform(34, rng), rng.random(34)
    own = method()
    fitted, pool, found = own._project(known_gain, rows, scores, NOW(2))
    rng = NOW(2)
    p = [0.5 * q + 0.5 / len(q) for q in fit_elite(SPACE, rows, scores, 0.25).probabilities]
    top = np.argsort(scores)[:3]
    draws, worth = [], []
    for _ in range(3):
        cells = draw_cells(p, 256, rng)
        cells[:128] = own._mutants(rows[top], rng)
        draws += list(SPACE.fill(cells, rng))
        worth = known_gain(np.array(draws))
        best = np.argsort(-worth, kind="stable")[:32]
        weights = 0.5 * worth[best] / worth[best].sum() + 0.5 / 32
        chosen = np.array(draws)[best]
        active = SPACE.active(chosen)
        p = kernels.project(SPACE, SPACE.cell(chosen), active, weights, 0.08, 0.1)
    np.testing.assert_array_equal(pool, draws)
    np.testing.assert_array_equal(found, worth)
    for one, two in zip(fitted, p, strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-12)
    nothing = own._project(lambda rows: np.zeros(len(rows)), rows, scores, NOW(2))[0]
    assert all(np.isfinite(q).all() for q in nothing)
    assert method()._project(known_gain, rows[:4], scores[:4], NOW(0))[1].shape == (768, 4)
    more = SPACE.uniform(50, NOW(4))
    sizes = []
    own._mutants = lambda elites, rng: sizes.append(len(elites)) or np.zeros((128, 4), int)
    for n in (2, 20, 39, 40, 50):
        own._project(known_gain, more[:n], np.arange(float(n)), NOW(0))
    assert sizes[::3] == [2, 3, 3, 4, 5]


# ------------------------------------------------------------------ the proposal


def test_positions_beyond_the_ends_are_folded_back():
    z = np.array([-0.2, 0.0, 0.4, 1.0, 1.3, 2.3, -1.25])
    assert reflect(z) == pytest.approx([0.2, 0, 0.4, 0, 0.7, 0.7, 0.75])


def test_neighbors_differ_in_one_coordinate():
    row = np.array([1.0, 14.0, 0.25, 0.99])
    own = method()
    moved = np.array([[0.25], [0.99]]) + 0.15 * NOW(3).standard_normal((2, 4))
    ways = reflect(moved)
    found = own.polish._neighbors(row, ways.ravel(), False)
    wanted = [row.tolist()]
    wanted += [[k, 14, 0.25, 0.99] for k in (0, 2)]
    wanted += [[1, 14 + k, 0.25, 0.99] for k in (-4, -2, -1, 1, 2, 4)]
    wanted += [[1, 14, z, 0.99] for z in ways[0]]
    wanted += [[1, 14, 0.25, z] for z in ways[1]]
    wanted[2][2] = 0.5  # there is no rate beside the last kind
    np.testing.assert_allclose(found, wanted)
    real = own.polish._neighbors(row, ways.ravel(), True)
    np.testing.assert_allclose(real, wanted[:1] + wanted[9:])
    third = np.array([2.0, 14.0, 0.5, 0.99])
    without = own.polish._neighbors(third, ways.ravel(), False)
    wanted = [[2, 14, 0.5, 0.99], [0, 14, 0.5, 0.99], [1, 14, 0.5, 0.99]]
    wanted += [[2, 14 + k, 0.5, 0.99] for k in (-4, -2, -1, 1, 2, 4)]
    wanted += [[2, 14, 0.5, z] for z in ways[1]]
    np.testing.assert_allclose(without, wanted)
    np.testing.assert_allclose(own.polish._neighbors(row, ways.ravel(), False), found)
    assert own.polish._others(1, 2.0).tolist() == [0, 1, 3, 4, 6]
    assert own.polish._others(1, 28.0).tolist() == [24, 26, 27, 29]
    assert own.polish._others(0, -1.0).tolist() == [0, 1, 2]
    for n, near in ((12, 11), (13, 4)):
        short = method(SearchSpace({"x": Integer(1, n)}))
        assert len(short.polish._others(0, 1.0)) == near
    many = method(SearchSpace({"x": Categorical(range(13))}))
    assert len(many.polish._others(0, 1.0)) == 12


def test_polishing_climbs_so_far_and_no_further():
    climb = lambda rows: rows[:, 0] + 1  # noqa: E731
    stairs = SearchSpace({"x": Integer(0, 63), "c": Categorical([1])})
    start = np.zeros((1, 2))
    found, reached = method(stairs).polish.climb(climb, start, set(), NOW(0))
    assert (found.tolist(), reached.tolist()) == ([[16, 0]], [17])
    both = SearchSpace({"x": Integer(0, 63), "y": Float(0, 1)})
    found, reached = method(both).polish.climb(climb, start, set(), NOW(0))
    assert (found[0, 0], reached.tolist()) == (48, [49])
    asked = []
    level = lambda rows: asked.append(len(rows)) or np.zeros(len(rows))  # noqa: E731
    found, reached = method(both).polish.climb(level, start, set(), NOW(0))
    assert (found.tolist(), reached.tolist()) == ([[0, 0]], [0])
    assert len(asked) == 3, "once a step, for nothing is better"
    every = {row.tobytes() for row in stairs.configurations(NOW(0))}
    found, reached = method(stairs).polish.climb(climb, start, every, NOW(0))
    assert (found.shape, reached.shape) == ((0, 2), (0,))
    below = lambda rows: -1.0 - rows[:, 0]  # noqa: E731
    assert len(method(stairs).polish.climb(below, start, set(), NOW(0))[0]) == 0
    tiny = lambda rows: 1 + 1e-7 * rows[:, 0]  # noqa: E731
    assert method(stairs).polish.climb(tiny, start, set(), NOW(0))[0].tolist() == [[4, 0]]


def test_polishing_several_rows_is_polishing_each():
    space = SearchSpace({"a": Categorical(range(5)), "b": Integer(0, 9), "c": Categorical([1, 2])})
    table = NOW(0).random((5, 10, 2))

    def gain(rows):
        return table[tuple(rows.astype(int).T)]

    starts = space.uniform(4, NOW(1))
    seen = {row.tobytes() for row in space.uniform(9, NOW(2))}
    found, reached = method(space).polish.climb(gain, starts, seen, NOW(3))
    wanted = []
    for row in starts:
        best, now = -1.0, row
        for _ in range(4):
            near = [now, *(np.concatenate([now[:i], [v], now[i + 1 :]]) for i in range(3)
                           for v in range(int(space.cells[i])) if v != now[i])]  # fmt: skip
            worth = [-1.0 if r.tobytes() in seen else gain(r[None])[0] for r in near]
            j = int(np.argmax(worth))
            if not worth[j] > best * (1 + 1e-6):
                break
            best, now = worth[j], near[j]
            if j == 0:
                break
        wanted.append((*now, best))
    assert np.column_stack([found, reached]).tolist() == [list(w) for w in wanted]


def test_polishing_a_conditional_row_moves_what_is_there():
    found, reached = method().polish.climb(known_gain, SPACE.uniform(4, NOW(5)), set(), NOW(6))
    assert found[:, 0].tolist() == [1] * 4
    assert found[:, 1].tolist() == [9] * 4
    widths = [0.37811207, 0.49763375, 0.50417302, 0.69623916]  # as far as the steps lead
    assert found[:, 3] == pytest.approx(widths, abs=1e-8)
    assert reached == pytest.approx(known_gain(found))


SPARSE = SearchSpace(
    {
        "kind": Categorical(["a", "b", "c"]),
        **{f"{k}{i}": Float(0, 1, when={"kind": k}) for k in "abc" for i in range(2)},
    }
)


def test_less_is_looked_at_in_a_sparse_space(monkeypatch):
    """Half of the draws, three rows polished, of which two and one with smaller steps."""
    assert method().effort is module.FULL  # three parameters and a third of the fourth's time none
    own = method(SPARSE)
    assert own.effort is module.SPARSE
    drawn, moved = [], []

    def gain(rows):
        return np.where(rows[:, 0] == 1, rows[:, 3] + rows[:, 4], 0.1)

    draw, neighbors = module.draw_cells, Polish._neighbors
    monkeypatch.setattr(module, "draw_cells", lambda *a: drawn.append(a[1]) or draw(*a))
    monkeypatch.setattr(
        Polish,
        "_neighbors",
        lambda self, row, *a: moved.append(row.copy()) or neighbors(self, row, *a),
    )
    rng = NOW(0)
    rows, scores = SPARSE.uniform(9, rng), rng.random(9)
    pool, worth = own._project(gain, rows, scores, NOW(1))[1:]
    assert drawn == [128, 128, 128]
    starts = pool[np.argsort(-worth, kind="stable")[:3]]
    monkeypatch.setattr(polishing, "STEPS", (0.15, 0.0, 0.0))  # no step, so each is asked once
    found, reached = own.polish.climb(gain, starts, set(), NOW(2))
    first = moved[: len(moved) - 3]
    np.testing.assert_array_equal(first[:3], starts)
    best = np.argsort(-reached, kind="stable")
    np.testing.assert_array_equal(moved[-3:-1], found[np.sort(best[:2])])
    np.testing.assert_array_equal(moved[-1], found[best[0]])


def test_the_schedule_of_fits_in_a_sparse_space():
    assert [processes.checkpoint(n, 5) for n in (9, 10, 19, 20, 23, 41, 163)] == [
        9, 10, 18, 20, 20, 40, 160,
    ]  # fmt: skip


def test_a_proposal_is_polished_drawn_or_the_first_unseen(monkeypatch):
    rng = NOW(0)
    rows, scores = SPACE.uniform(9, rng), rng.random(9)
    own = method()
    asked, starts = [], []
    monkeypatch.setattr(own, "_gain", lambda *a: known_gain)
    polish = Polish.climb
    monkeypatch.setattr(
        Polish, "climb", lambda self, g, s, *a: starts.append(s) or polish(self, g, s, *a)
    )
    best = own.propose(rows, scores, rows[:0], set(), 0.0, NOW(1))
    assert len(starts[0]) == 4
    assert best[:2].tolist() == [1, 9]
    rng = NOW(1)
    pool, worth = own._project(known_gain, rows, scores, rng)[1:]
    rng.random()
    np.testing.assert_array_equal(starts[0], pool[np.argsort(-worth, kind="stable")[:4]])
    polished, reached = own.polish.climb(known_gain, starts[0], set(), rng)
    np.testing.assert_array_equal(best, polished[np.argmax(reached)])
    draw = module.draw_cells
    monkeypatch.setattr(module, "draw_cells", lambda *a: asked.append(a) or draw(*a))
    own.propose(rows, scores, rows[:0], set(), 1.0, NOW(1))
    assert [a[1] for a in asked] == [256, 256, 256, 64]
    assert len(starts) == 2
    monkeypatch.setattr(own.polish, "climb", lambda *a: (rows[:0], scores[:0]))
    first = pool[np.argsort(-worth, kind="stable")]
    seen = {first[0].tobytes()}
    np.testing.assert_array_equal(own.propose(rows, scores, rows[:0], seen, 0.0, NOW(1)), first[1])


def test_the_least_draw_is_not_below_a_share_of_0(monkeypatch):
    class Zero(np.random.Generator):
        def random(self, size=None):
            return 0.0 if size is None else np.zeros(size)

    rng = NOW(0)
    rows, scores = SPACE.uniform(9, rng), rng.random(9)
    own, polished = method(), []
    monkeypatch.setattr(own, "_gain", lambda *a: known_gain)
    climbed = rows[:1], scores[:1]
    monkeypatch.setattr(own.polish, "climb", lambda *a: polished.append(1) or climbed)
    own.propose(rows, scores, rows[:0], set(), 0.0, Zero(np.random.PCG64(0)))
    assert polished == [1]


def test_a_window_by_hand(monkeypatch):
    monkeypatch.setattr(module, "WINDOW", 6)
    scores = np.array([9.0, 0, 8, 1, 7, 2, 6, 3, 5, 4])
    # ranks 0, 1, 2 and, of 3 to 9, those of 3, 6 and 9
    assert sorted(scores[module.window(scores)]) == [0, 1, 2, 3, 6, 9]
    assert module.window(scores).tolist() == [0, 1, 3, 5, 6, 7]
    monkeypatch.setattr(module, "WINDOW", 5)
    assert sorted(scores[module.window(scores)]) == [0, 1, 2, 5, 9]


def test_a_covariance_has_the_same_bits_in_parts_of_any_size(monkeypatch):
    rng = NOW(0)
    rows, new = SPACE.uniform(7, rng), np.repeat(SPACE.uniform(5, rng), 3, axis=0)
    process = GaussianProcess(SPACE, True).condition(rng.normal(size=7), rows, rng.normal(size=7))
    usual = process._kernel(new, rows)
    for pairs in (1, 10**9):
        for cached in (1, 60, 10**9):
            monkeypatch.setattr(processes, "MANY_PAIRS", pairs)
            monkeypatch.setattr(processes, "CACHED", cached)
            np.testing.assert_array_equal(process._kernel(new, rows), usual)
    assert process._kernel(new[:0], rows).shape == (0, 7)


def test_an_exponent_is_looked_for_without_a_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for values in (np.ones(4), np.array([0.0, 1e300, 1, 2]), np.array([1.0, 1 + 1e-12])):
            processes.normal_scores(values, processes.warp_exponent(values))
