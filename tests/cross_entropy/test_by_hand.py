"""Formulas against slow ones, and draws against the same draws written out one by one."""

import linecache
import math
from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest
from scipy.stats import bernoulli, expon, norm

from genopt_core.cross_entropy import (
    Categorical,
    CrossEntropy,
    Float,
    Integer,
    SearchSpace,
    Trial,
    drift,
    kernels,
    noise,
    pareto,
    plus,
    rare_event,
)
from genopt_core.cross_entropy import space as spaces
from genopt_core.cross_entropy.outcomes import Outcomes
from genopt_core.cross_entropy.plain import PlainState, unchanged
from genopt_core.cross_entropy.posterior import Posterior
from genopt_core.cross_entropy.proposals import Proposals
from genopt_core.cross_entropy.rare_event import _draw, likelihood_ratio

SPACE = SearchSpace(
    {
        "kind": Categorical(["a", "b", "c"]),
        "depth": Integer(1, 6),
        "rate": Float(0, 1, when={"kind": ["a", "b"]}),
        "width": Float(0, 1),
    }
)


class Zero(np.random.Generator):
    """The least number that can be drawn."""

    def __init__(self):
        super().__init__(np.random.PCG64(0))

    def random(self, size=None):
        return 0.0 if size is None else np.zeros(size)


# ------------------------------------------------------------------ kernels


@pytest.mark.parametrize("width", [0.05, 0.3, 0.6])
def test_kernels_cell_by_cell(width):
    rows = SPACE.uniform(9, np.random.default_rng(1))
    cells, active = SPACE.cell(rows), SPACE.active(rows)
    found = kernels.cell_kernels(SPACE, cells, active, width)
    for i, n in enumerate((3, 6, 32, 32)):
        for row in range(9):
            own = cells[row, i]
            if not active[row, i]:
                wanted = np.ones(n)
            elif i == 0:
                wanted = np.array([width / 3 + (1 - width) * (m == own) for m in range(3)])
            else:
                spread = max(width * n / 2, 0.35)
                wanted = np.array([math.exp(-(((m - own) / spread) ** 2) / 2) for m in range(n)])
            np.testing.assert_allclose(found[i][row], wanted / wanted.sum(), rtol=1e-12)


def test_projection_and_density_entry_by_entry():
    rng = np.random.default_rng(2)
    rows = SPACE.uniform(7, rng)
    cells, active = SPACE.cell(rows), SPACE.active(rows)
    own = kernels.cell_kernels(SPACE, cells, active, 0.2)
    weights = rng.random(7)
    fitted = kernels.project(SPACE, cells, active, weights, 0.2, 0.1)
    for i, kernel in enumerate(own):
        share = sum(w * k for w, k, there in zip(weights, kernel, active[:, i]) if there)  # noqa: B905
        share = share / sum(weights[active[:, i]])
        np.testing.assert_allclose(fitted[i], 0.9 * share + 0.1 / kernel.shape[1], rtol=1e-12)
    nobody = kernels.project(SPACE, cells, np.zeros_like(active), weights, 0.2, 0.1)
    assert [p.tolist() for p in nobody] == [[1 / len(p)] * len(p) for p in fitted]
    new = SPACE.uniform(5, rng)
    new_cells, new_active = SPACE.cell(new), SPACE.active(new)
    assert not new_active.all()
    found = kernels.log_density(own, new_cells, new_active, 0.1)
    for row in range(7):
        for column in range(5):
            wanted = sum(
                math.log(0.9 * own[i][row, new_cells[column, i]] + 0.1 / own[i].shape[1])
                for i in range(4)
                if new_active[column, i]
            )
            assert found[row, column] == pytest.approx(wanted, rel=1e-12)


def test_log_mean_exp_and_rank_weights():
    values = np.array([[1.0, 700.0], [2.0, 800.0], [0.5, 790.0]])
    found = kernels.log_mean_exp(values)
    assert found[0] == pytest.approx(math.log((math.e + math.e**2 + math.e**0.5) / 3))
    assert found[1] == pytest.approx(800 + math.log((1 + math.exp(-10)) / 3))
    weighted = kernels.log_mean_exp(values, np.array([0.2, 0.3, 0.5]))
    assert weighted[0] == pytest.approx(
        math.log(0.2 * math.e + 0.3 * math.e**2 + 0.5 * math.e**0.5)
    )
    raw = [math.log(4.5 / k) for k in (1, 2, 3, 4)]
    assert kernels.rank_weights(4) == pytest.approx(np.array(raw) / sum(raw))
    assert kernels.rank_weights(1).tolist() == [1.0]


# ------------------------------------------------------------------ plus


def test_the_size_of_the_elite_of_all():
    sizes = {
        (1, 0.15): 1, (2, 0.15): 2, (3, 0.15): 3, (10, 0.15): 3, (27, 0.15): 5, (36, 0.5): 17,
        (30, 0.5): 15, (100, 0.15): 8, (400, 0.1): 9, (400, 1.0): 90,
    }  # fmt: skip
    assert {key: plus.elite_of_all(*key) for key in sizes} == sizes


def test_the_elite_is_fitted_with_a_prior_and_a_width_that_fall():
    scores = np.arange(16.0)[::-1]
    rows = SPACE.uniform(16, np.random.default_rng(0))
    elite = plus.fit_elite(SPACE, rows, scores, 0.25)
    assert elite.indices.tolist() == [15, 14, 13, 12]
    assert elite.rest.tolist() == list(range(11, -1, -1))
    assert elite.prior == 0.2
    assert elite.width == pytest.approx(0.54 * 16 ** (-1 / 8))
    one = SearchSpace({"c": Categorical([1, 2])})
    assert plus.fit_elite(one, np.zeros((1, 1)), np.zeros(1), 0.2).width == 0.54
    many = plus.fit_elite(one, np.zeros((600_000, 1)), np.zeros(600_000), 0.2)
    assert many.width == 0.04


def test_proposals_are_those_of_the_draws_one_by_one():
    rows = SPACE.uniform(12, np.random.default_rng(0))
    elite = plus.fit_elite(SPACE, rows, np.arange(12.0), 0.4)
    for kernel in elite.kernels:
        kernel *= 3.0  # their sums do not matter
    found = plus._proposals(SPACE, elite, np.random.default_rng(5))
    rng = np.random.default_rng(5)
    assert found.shape == (24, 4)
    from_product = rng.random(24) > 0.8
    columns = [np.cumsum(p) for p in elite.probabilities]
    product = [[np.searchsorted(c, u * c[-1], "right") for u in rng.random(24)] for c in columns]
    parents = rng.choice(5, 24, p=elite.weights)
    near = []
    for kernel in elite.kernels:
        u = rng.random((24, 1))[:, 0]
        steps = [np.cumsum(kernel[parent]) for parent in parents]
        near.append([int((s < x * s[-1]).sum()) for s, x in zip(steps, u, strict=True)])
    anywhere = (rng.random((24, 4)) * [3, 6, 32, 32]).astype(int)
    renewed = rng.random((24, 4)) < elite.prior
    for k in range(24):
        for i in range(4):
            kept = product[i][k] if from_product[k] else near[i][k]
            assert found[k, i] == (anywhere[k, i] if renewed[k, i] else kept)
    two = SearchSpace({"a": Categorical([1, 2]), "b": Integer(0, 3)})
    elite = plus.fit_elite(two, two.uniform(5, rng), np.arange(5.0), 0.4)
    assert plus._proposals(two, elite, rng).shape == (12, 2)


GRID = SearchSpace({"kind": Categorical(["a", "b", "c"]), "depth": Integer(1, 5)})
ALL = np.array([[a, b] for a in range(3) for b in range(5)], float)


def densities(own, weights, width, prior):
    """Mean density of the kernels of some rows at every configuration, by loops."""
    found = np.zeros(15)
    for row, weight in zip(own, weights, strict=True):
        for k, other in enumerate(ALL):
            one = width / 3 + (1 - width) * (row[0] == other[0])
            spread = max(width * 5 / 2, 0.35)
            bell = [math.exp(-(((m - row[1]) / spread) ** 2) / 2) for m in range(5)]
            two = bell[int(other[1])] / sum(bell)
            found[k] += weight * ((1 - prior) * one + prior / 3) * ((1 - prior) * two + prior / 5)
    return found


@pytest.mark.parametrize("running", [0, 2])
@pytest.mark.parametrize("held", [None, 6, 0, 11])
def test_plus_ranks_all_configurations_by_its_ratio(running, held, monkeypatch):
    """Asked again and again, each time with what was proposed before as seen."""
    rng = np.random.default_rng(4)
    rows = ALL[rng.integers(15, size=11)]
    scores = rng.random(11)
    under_way = ALL[rng.integers(15, size=running)]
    feasible = None if held is None else np.isin(np.arange(11), rng.permutation(11)[:held])
    monkeypatch.setattr(plus, "_proposals", lambda space, elite, rng: GRID.cell(ALL))
    elite = plus.fit_elite(GRID, rows, scores, 0.4)
    width, prior = elite.width, elite.prior
    rest = np.concatenate([rows[elite.rest], under_way])
    ratio = densities(rows[elite.indices], elite.weights, width, prior)
    ratio /= densities(rest, np.full(len(rest), 1 / len(rest)), width, prior)
    if held == 6:  # else nothing is known about what is feasible
        share = densities(rows, feasible / 11, width, prior)
        ratio *= (share / densities(rows, np.full(11, 1 / 11), width, prior)) ** 2
    seen, found = {b"none"}, []
    for _ in range(15):
        row = plus.propose(GRID, rows, scores, under_way, seen, 0.4, 0.0, Zero(), feasible)
        seen.add(row.tobytes())
        found.append(row.tolist())
    assert found == ALL[np.argsort(-ratio)].tolist()


def test_an_unscreened_draw_is_flattened_and_unseen_rows_are_preferred(monkeypatch):
    rng = np.random.default_rng(0)
    rows, asked = SPACE.uniform(9, rng), []
    draw = plus.draw_cells
    monkeypatch.setattr(plus, "draw_cells", lambda *a: asked.append(a) or draw(*a))
    plus.propose(SPACE, rows, np.arange(9.0), rows[:0], set(), 0.3, 1.0, rng)
    fitted = plus.fit_elite(SPACE, rows, np.arange(9.0), 0.3).probabilities
    (flat, size, _) = asked[0]
    assert size == 64
    for p, q in zip(fitted, flat, strict=True):
        np.testing.assert_allclose(q, 0.7 * p + 0.3 / len(p))
    many = SPACE.uniform(5, rng)
    keys = [row.tobytes() for row in many]
    assert plus.first_unseen(many, set(), SPACE, rng).tobytes() == keys[0]
    assert plus.first_unseen(many, {keys[1]}, SPACE, rng).tobytes() == keys[0]
    assert plus.first_unseen(many, {*keys[:3]}, SPACE, rng).tobytes() == keys[3]
    other = SPACE.uniform(512, np.random.default_rng(1))
    new = plus.first_unseen(many, {*keys, other[0].tobytes()}, SPACE, np.random.default_rng(1))
    assert new.tobytes() == other[1].tobytes()
    grid = GRID.uniform(512, np.random.default_rng(1))
    every = {row.tobytes() for row in ALL}
    assert (plus.first_unseen(ALL, every, GRID, np.random.default_rng(1)) == grid[0]).all()


# ------------------------------------------------------------------ plain


def test_a_draw_of_the_plain_method_is_written_out():
    space = SearchSpace({"a": Float(0, 1), "c": Categorical([1, 2]), "b": Float(0, 1)})
    state = PlainState(
        (np.ones(32), np.array([0.3, 0.7]), np.ones(32)),
        np.array([0.8, 0.5, 0.1]),
        np.array([0.5, 0.5, 0.4]),
    )
    for seed in range(6):
        row = state.draw(space, np.random.default_rng(seed))
        rng = np.random.default_rng(seed)
        cells = spaces.draw_cells(state.probabilities, 1, rng)
        a = next(z for z in 0.8 + 0.5 * rng.standard_normal(64) if 0 < z < 1)
        b = next(z for z in 0.1 + 0.4 * rng.standard_normal(64) if 0 < z < 1)
        assert row.tolist() == [a, cells[0, 1], b]
    for mean, end in ((9.0, 1 - 1e-9), (-9.0, 1e-9)):
        far = PlainState(state.probabilities, np.full(3, mean), np.full(3, 0.01))
        assert far.draw(space, np.random.default_rng(0))[[0, 2]].tolist() == [end, end]
    beyond = PlainState(state.probabilities, np.full(3, 9.0), np.full(3, 0.01))
    assert beyond.cell_probabilities(space)[0].tolist() == [0.0] * 31 + [1.0]
    sure = PlainState(state.probabilities, np.full(3, 0.3), np.zeros(3))
    assert sure.cell_probabilities(space)[2][9] == 1.0
    start = PlainState.start(space)
    assert (start.mean.tolist(), start.std.tolist()) == ([0.5] * 3, [0.5] * 3)
    assert [p.tolist() for p in start.probabilities] == [[1 / 32] * 32, [0.5] * 2, [1 / 32] * 32]


def test_when_the_plain_method_has_settled():
    space = SearchSpace({"c": Categorical([1, 2]), "x": Float(0, 1)})

    def settled(p, std, tolerance):
        both = (np.array([1 - p, p]), np.ones(32))
        return PlainState(both, np.zeros(2), np.array([9.0, std])).degenerate(space, tolerance)

    assert settled(0.75, 0.2, 0.25)
    assert not settled(0.74, 0.2, 0.25)
    assert not settled(0.75, 0.25, 0.25)
    assert [unchanged([1.0] * n, 5) for n in (4, 5, 6, 9)] == [False, False, True, True]
    assert not unchanged([1.0] * 9, None)
    assert not unchanged([1.0] * 5 + [2.0], 5)
    assert unchanged([2.0] + [1.0] * 6, 5)
    assert not unchanged([2.0] + [1.0] * 5, 5)


def test_a_refit_smooths_and_leaves_alone_what_no_elite_has():
    space = SearchSpace(
        {"c": Categorical([1, 2]), "x": Float(0, 1, when={"c": 1}), "y": Float(0, 1)}
    )
    state = PlainState.start(space)
    settings = CrossEntropy(space, "plain", floor=0.005).settings
    elite = np.array([[1.0, 0.5, 0.2], [1.0, 0.5, 0.6]])
    new = state.refit(space, elite, 3, settings)
    beta = 0.9 - 0.9 * (2 / 3) ** 7
    assert new.probabilities[0] == pytest.approx([0.99 * 0.15 + 0.005, 0.99 * 0.85 + 0.005])
    assert new.mean == pytest.approx([0.5, 0.5, 0.7 * 0.4 + 0.3 * 0.5])
    assert new.std == pytest.approx([0.5, 0.5, beta * 0.2 + (1 - beta) * 0.5])


def test_rounding_does_not_add_up_over_generations():
    for sloped in (False, True):
        runs = drift.drift_runs(3, 5, 9, 4, 0.02, 300, np.random.default_rng(0), sloped=sloped)
        assert np.abs(runs.sum(axis=2) - 1).max() < 1e-14
        assert runs[:, 0].tolist() == [[0.2] * 5] * 3


# ------------------------------------------------------------------ rare events


def test_likelihood_ratios_are_those_of_the_densities():
    rng = np.random.default_rng(0)
    u, v = np.array([0.5, 2.0, 0.3]), np.array([1.5, 1.0, 0.9])
    x = rng.exponential(size=(6, 3))
    wanted = expon(scale=u).pdf(x).prod(1) / expon(scale=v).pdf(x).prod(1)
    np.testing.assert_allclose(likelihood_ratio(x, u, v, "exponential"), wanted)
    u, v, x = u / 4, v / 2, rng.integers(2, size=(6, 3)).astype(float)
    wanted = bernoulli(u).pmf(x).prod(1) / bernoulli(v).pmf(x).prod(1)
    np.testing.assert_allclose(likelihood_ratio(x, u, v, "bernoulli"), wanted)


def test_one_level_of_a_rare_event_is_written_out():
    u = np.array([0.5, 0.5])
    found = rare_event(
        lambda x: x[:, 0] - x[:, 1], u, 1.0, np.random.default_rng(3), family="bernoulli",
        elite_fraction=0.2, n_samples=500, n_final=900,
    )  # fmt: skip
    assert found.levels == (1.0,)
    assert [m.tolist() for m in found.means] == [[0.999, 0.001]]
    rng = np.random.default_rng(3)
    rng.random((500, 2))
    x = rng.random((900, 2)) < [0.999, 0.001]
    hits = x[:, 0] & ~x[:, 1]
    terms = hits * 0.25 / 0.999**2
    assert found.probability == pytest.approx(terms.mean())
    assert found.relative_error == pytest.approx(terms.std() / 30 / terms.mean())
    never = rare_event(lambda x: np.where(np.arange(len(x)) < 90, 2.0, 0.0) * (len(x) < 100), u,
                       2.0, np.random.default_rng(0), n_samples=90, n_final=100)  # fmt: skip
    assert (never.probability, never.relative_error) == (0.0, math.inf)


def test_two_levels_of_a_rare_event_are_written_out():
    found = rare_event(
        lambda x: x[:, 0], np.ones(1), 3.0, np.random.default_rng(1), n_samples=100, n_final=10
    )
    rng, mean, levels, means = np.random.default_rng(1), 1.0, [], []
    while not levels or levels[-1] < 3:
        x = rng.exponential(size=(100, 1))[:, 0] * mean
        levels.append(min(3.0, np.quantile(x, 0.9)))
        elite = x[x >= levels[-1]]
        weights = np.exp(-elite) / (np.exp(-elite / mean) / mean)
        mean = weights @ elite / weights.sum()
        means.append(mean)
    assert len(levels) == 2
    assert found.levels == pytest.approx(levels)
    assert [m[0] for m in found.means] == pytest.approx(means)


@pytest.mark.parametrize(("climb", "calls"), [(0.0, 11), (1e-3, 100)])
def test_levels_that_do_not_climb_end_a_rare_event(climb, calls):
    asked = []

    def score(x):
        asked.append(len(x))
        return np.full(len(x), climb * len(asked))

    with pytest.raises(ValueError, match="was not reached"):
        rare_event(score, np.ones(1), 1.0, np.random.default_rng(0), n_samples=10)
    assert len(asked) == calls


# ------------------------------------------------------------------ spaces


def test_all_numbers_come_once_from_a_random_start_in_random_strides():
    for n in (1, 2, 6, 7, 12):
        assert list(spaces._order(n, None)) == list(range(n))
        for seed in range(8):
            found = list(spaces._order(n, np.random.default_rng(seed)))
            rng = np.random.default_rng(seed)
            start, stride = int(rng.random() * n), 1 + int(rng.random() * n)
            while math.gcd(stride, n) > 1:
                stride += 1
            assert found == [(start + k * stride) % n for k in range(n)]
            assert sorted(found) == list(range(n))


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("code", [-3.0, -1.0, 0.5, 1.5, 3.0, 1e300, math.inf, math.nan])
def test_below_a_code_that_a_category_lacks_nothing_exists(code):
    space = SearchSpace(
        {
            "a": Categorical(["x", "y", "z"]),
            "b": Categorical([1, 2]),
            "below a": Float(0, 1, when={"a": ["y", "z"]}),
            "below b": Float(0, 1, when={"b": 2}),
        }
    )
    assert space.active(np.array([[code, 1.0, 0.5, 0.5]])).tolist() == [[True, True, False, True]]
    assert space.active(np.array([[1.0, 1.0, 0.5, 0.5]])).all()


def test_rows_of_a_space_by_hand():
    rows = np.array([[2.0, 5.0, 0.3, 0.999], [-1.0, 0.0, 0.9, 0.5], [1.0, 2.0, 0.25, 1.0]])
    assert SPACE.active(rows).tolist() == [
        [True, True, False, True], [True, True, False, True], [True] * 4,
    ]  # fmt: skip
    settled = SPACE.settle(rows)
    assert settled.tolist() == [[2, 5, 0.5, 0.999], [0, 0, 0.5, 0.5], [1, 2, 0.25, 1.0]]
    assert SPACE.cell(rows).tolist() == [[2, 5, 9, 31], [-1, 0, 28, 16], [1, 2, 8, 31]]
    assert SPACE.unit(rows)[:, 1].tolist() == [1.0, 0.0, 0.4]
    single = SearchSpace({"one": Integer(4, 4), "two": Categorical([1, 2], ordered=True)})
    assert single.unit(np.array([[0.0, 1.0]])).tolist() == [[0.0, 1.0]]
    chain = SearchSpace(
        {
            "c": Categorical([1, 2], when={"b": 1}),
            "b": Categorical([1, 2], when={"a": 1}),
            "a": Categorical([1, 2]),
            "n": Integer(0, 3, when={"a": 2}),
        }
    )
    assert chain.settle(np.array([[1.0, 0, 1, 3]])).tolist() == [[-1, -1, 1, 3]]
    assert chain.settle(np.array([[1.0, 0, 0, 3]])).tolist() == [[1, 0, 0, 0]]
    assert chain.size == 3 + 4
    cells = np.array([[0, 3, 7, 31]])
    filled = SPACE.fill(cells, np.random.default_rng(0))
    inside = np.random.default_rng(0).random((1, 4))
    assert filled[0] == pytest.approx([0, 3, (7 + inside[0, 2]) / 32, (31 + inside[0, 3]) / 32])
    drawn = spaces.draw_cells([np.array([2.0, 0.0, 6.0])], 4, np.random.default_rng(1))[:, 0]
    assert drawn.tolist() == [2 * (u >= 0.25) for u in np.random.default_rng(1).random(4)]


# ------------------------------------------------------------------ noise and fronts


def test_least_variances_of_a_posterior_mean():
    cells = np.array([[0, 0], [0, 0], [2, 1]])
    values = np.array([1.0, 3.0, 2.0])
    alike = np.array([[1, 1, 0.25], [1, 1, 0.25], [0.25, 0.25, 1]])
    alike = (np.array([[1, 1, 0.375], [1, 1, 0.375], [0.375, 0.375, 1]]) + np.where(
        alike == 0.25, 0.125, alike
    )) / 2  # fmt: skip
    for sigma, variance, noisy in ((0.0, 2 / 3, 1e-8), (5.0, 1e-4, 25.0)):
        k = variance * alike
        wanted = 2 + k @ np.linalg.solve(k + noisy * np.eye(3), values - 2)
        found = noise.posterior_means(cells, values, sigma)
        assert found - 2 == pytest.approx(wanted - 2, rel=1e-5, abs=1e-12)


def test_a_vector_at_the_reference_adds_no_box():
    one = np.array([[1.0, 0]])
    both = np.array([[0.0, 2], [1, 0]])
    wanted = pareto.free_boxes(one, np.array([2.0, 2]))
    for a, b in zip(pareto.free_boxes(both, np.array([2.0, 2])), wanted, strict=True):
        assert a.tolist() == b.tolist()
    assert pareto.hypervolume(both, np.array([1.0, 2])) == 0.0
    three = np.ones((3, 2))
    assert pareto.largest_shares(three, 3, np.array([2.0, 2])).tolist() == [0, 1, 2]
    assert pareto.largest_shares(three, 0).tolist() == []
    assert pareto.reference_point(np.array([[0.0, 4, 1], [2, 4, 5]])).tolist() == [2.2, 5, 5.4]
    lower, upper = pareto.free_boxes(np.zeros((0, 1)), np.array([3.0]))
    assert (lower.tolist(), upper.tolist()) == ([[-math.inf]], [[3.0]])


def test_standing_of_fronts_that_are_divided_whole_and_beyond():
    losses = np.array([[0.0, 2], [2, 0], [0.9, 0.9], [3, 3], [4, 2.5], [5, 5], [9, 9], [8, 8]])
    violations = np.array([0.0] * 6 + [0.2, 0.1])
    found = pareto.standing(losses, violations, 2)
    # of the first front two are told apart, the third is behind them; the next fronts are whole
    assert found[2] == 0
    assert sorted(found[[0, 1]]) == [1, 2]
    assert found[3:].tolist() == [3, 3, 4, 6, 5]
    assert pareto.standing(losses, violations, 3)[3:].tolist() == [3, 3, 4, 6, 5]
    five = pareto.standing(losses, violations, 5)
    assert sorted(five.tolist()) == [0, 1, 2, 3, 4, 5, 6, 7]
    one = pareto.standing(np.array([[3.0], [3], [5]]), np.array([0.0, 0, 1]), 2)
    assert one.tolist() == [0, 0, 1]


# ------------------------------------------------------------------ what comes next


def test_a_stratified_row_is_one_of_a_latin_hypercube():
    search = CrossEntropy(SPACE, "plus", seed=6, n_startup=4)
    rows = [SPACE.encode(search.suggest([], [], number)) for number in range(8)]
    for number, row in enumerate(rows):
        block, index = divmod(number, 4)
        design = np.random.default_rng([6, block, 1])
        strata = np.stack([design.permutation(4) for _ in range(4)], 1)
        z = (strata[index] + np.random.default_rng([6, number, 0]).random(4)) / 4
        cells = np.minimum((z * [3, 6, 32, 32]).astype(int), [2, 5, 31, 31])
        wanted = SPACE.settle(np.where([False, False, True, True], z, cells)[None])[0]
        np.testing.assert_allclose(row, wanted, atol=1e-12)


def test_where_start_up_ends_and_how_many_values_a_fit_needs(monkeypatch):
    stratified = []
    usual = Proposals._stratified
    monkeypatch.setattr(
        Proposals, "_stratified", lambda self, n, *a: stratified.append(n) or usual(self, n, *a)
    )
    search = CrossEntropy(SPACE, "plus", seed=1, n_startup=5)
    for _ in range(7):
        search.tell(search.ask(), 1.0)
    assert stratified == [0, 1, 2, 3, 4]
    search = CrossEntropy(SPACE, "plus", seed=1, n_startup=1)
    for number in range(5):
        uniform = all(np.ptp(p) < 1e-12 for p in search.distribution().values())
        assert uniform == (number < 3)
        search.tell(search.ask(), float(number))
    assert stratified[5:] == [0, 1, 2]


def test_the_last_new_configuration_is_found_and_tries_are_counted():
    space = SearchSpace({"c": Categorical(range(4)), "d": Categorical(range(2))})
    search = CrossEntropy(space, "plain", seed=0, avoid_repeats=True)
    told = [Trial(i, {"c": i // 2, "d": i % 2}) for i in range(7)]
    assert search.suggest([], told, 7) == {"c": 3, "d": 1}
    state = PlainState.start(space)
    rng = np.random.default_rng([0, 3, 0])
    draws = [state.draw(space, rng) for _ in range(3)]
    first = [space.decode(row) for row in draws]
    running = [Trial(i, first[0]) for i in range(3)]
    wanted = next(row for row in first if row != first[0])
    assert search.suggest([], running, 3) == wanted
    assert not search.used_up(told)
    assert search.used_up([*told, Trial(7, {"c": 3, "d": 1})])
    assert not search.used_up([*told, told[0]])


def test_the_next_number_and_the_first_of_equals():
    search = CrossEntropy(SPACE, "plus")
    params = {"kind": "c", "depth": 2, "width": 0.5}
    search.tell(Trial(7, params), 1.0)
    search.tell(Trial(3, params), 1.0)
    assert search.ask().number == 8
    assert search.best.number == 7, "of equals the one told first"
    assert [t.number for t in search.trials] == [3, 7, 8]
    assert search.key(search.trials[0]) == (0.0, 1.0, 3)


@pytest.mark.parametrize("count", [4, 5])
def test_a_posterior_mean_decides_from_five_values_on(count):
    search = CrossEntropy(SPACE, "plus")
    for k in range(count):
        search.tell(search.ask(), float(k))
    search.tell(search.ask(), None)
    means = np.array([*range(count, 0, -1), -9.0])
    search._proposals.__dict__["posterior"] = SimpleNamespace(means=lambda rows, scores: means)
    assert search.recommend().number == (0 if count == 4 else 4)


def test_no_feasible_trial_leaves_the_one_that_violates_least():
    search = CrossEntropy(SPACE, "plus")
    for k in range(6):
        search.tell(search.ask(), float(k), [2.0 + (k - 4) ** 2])
    assert search.recommend().number == search.best.number == 4
    assert search.front == []


def test_two_draws_with_explore_0_and_1():
    rows = SPACE.uniform(6, np.random.default_rng(0))
    found = Counter()
    for explore in (0.0, 1.0):
        asked = []
        original = plus._proposals
        plus._proposals = lambda *a, o=original, asked=asked: asked.append(1) or o(*a)
        try:
            for seed in range(3):
                rng = np.random.default_rng(seed)
                plus.propose(SPACE, rows, np.arange(6.0), rows[:0], set(), 0.3, explore, rng)
        finally:
            plus._proposals = original
        found[explore] = len(asked)
    assert found == {0.0: 3, 1.0: 0}


# ------------------------------------------------------------------ generations and outcomes


def test_a_generation_of_failures_leaves_the_distribution():
    space = SearchSpace({"c": Categorical([1, 2, 3])})
    search = CrossEntropy(space, "plain", population_size=3, seed=2)
    values = [None, 1.0, None, 2.0, 2.0, 2.0, 5.0]
    for value in values:
        search.tell(search.ask(), value)
    start, first, second = search.history
    assert (first.elites, first.level, first.trials) == ((1,), None, (0, 1, 2))
    assert first.distribution["c"].tolist() == start.distribution["c"].tolist() == [1 / 3] * 3
    ties = np.random.default_rng([2, 2, 2]).random(3)
    assert second.elites == tuple(3 + int(i) for i in np.argsort(ties)[:2])
    assert (second.level, second.number, second.mean) == (2.0, 2, {})
    codes = [space.encode(search.trials[i].params)[0] for i in second.elites]
    wanted = [0.7 * codes.count(m) / 2 + 0.3 / 3 for m in range(3)]
    assert second.distribution["c"] == pytest.approx(wanted)
    assert search.distribution()["c"] is second.distribution["c"]
    share = np.array(wanted)[np.array(wanted) > 0]
    assert second.entropy["c"] == pytest.approx(-(share * np.log(share)).sum() / math.log(3))


def test_a_generation_of_plus_is_fitted_to_all_trials():
    search = CrossEntropy(SPACE, "plus", population_size=5, seed=2, elite_fraction=0.5)
    values = [5.0, None, 3.0, 8.0, 1.0, 7.0, 0.5, 9.0, 2.0, None, 4.0]
    for value in values:
        search.tell(search.ask(), value)
    start, first, second = search.history
    assert (first.elites, first.level) == ((4, 2, 0), 5.0)
    assert (second.elites, second.level, second.trials) == (
        (6, 4, 8, 2, 0),
        5.0,
        tuple(range(5, 10)),
    )
    rows = np.array([SPACE.encode(t.params) for t in search.trials[:10]])
    scores = np.array([math.inf if v is None else v for v in values[:10]])
    fitted = plus.fit_elite(SPACE, rows, scores, 0.5).probabilities
    for name, p in zip(SPACE.names, fitted, strict=True):
        np.testing.assert_array_equal(second.distribution[name], p)
    assert (second.mean, second.std, start.number, start.level) == ({}, {}, 0, None)
    few = CrossEntropy(SPACE, "plus", population_size=4)
    for value in (None, None, None, 1.0):
        few.tell(few.ask(), value)
    assert (few.history[1].elites, few.history[1].level) == ((3,), 1.0)
    none = CrossEntropy(SPACE, "plus", population_size=2)
    for _ in range(2):
        none.tell(none.ask(), None)
    assert (none.history[1].elites, none.history[1].level) == ((), None)


def test_what_the_posterior_is_asked_with():
    search = CrossEntropy(SPACE, "posterior", seed=4, n_startup=3, explore=0.3)
    asked = []

    class Stub:
        def propose(self, rows, scores, others, seen, explore, rng, outcomes):
            asked.append((len(rows), len(others), len(seen), explore, rng.random(), outcomes))
            return rows[0]

        def distribution(self, rows, scores, rng, outcomes):
            asked.append((len(rows), rng.random(), outcomes))
            return [np.ones(1)] * 4

    search._proposals.__dict__["posterior"] = Stub()
    for value in (1.0, 2.0, 3.0):
        search.tell(search.ask(), value)
    trial = search.ask()
    assert trial.params == search.trials[0].params
    assert asked == [(3, 0, 0, 0.3, np.random.default_rng([4, 3, 0]).random(), None)]
    search.distribution()
    assert asked[1] == (3, np.random.default_rng([4, 3, 3]).random(), None)
    told = search.tell(trial, 1.0, [0.5])
    search.ask()
    search.ask()
    assert [a[:3] for a in asked[2:]] == [(4, 0, 0), (4, 1, 0)]
    assert asked[3][-1].violations.tolist() == [0, 0, 0, 0.5]
    assert told.violation == 0.5
    finite = SearchSpace({"c": Categorical(range(9))})
    search = CrossEntropy(finite, "posterior", n_startup=3)
    search._proposals.__dict__["posterior"] = Stub()
    for value in (1.0, 2.0, 3.0):
        search.tell(search.ask(), value)
    asked.clear()
    search.suggest(search.trials, [Trial(3, {"c": 8})], 4)
    search.suggest(search.trials, [], 4, avoid_repeats=False)
    seen = {8, *(trial.params["c"] for trial in search.trials)}
    assert [a[1:3] for a in asked] == [(1, len(seen)), (0, 0)]


def test_outcomes_by_hand():
    trials = [
        Trial(0, {}).finished([1.0, 2.0], {"b": 0.5, "a": -1.0}),
        Trial(1, {}).finished([3.0, math.nan], {"a": 2.0}),
        Trial(2, {}).finished([4.0, 5.0]),
    ]
    found = Outcomes.of(trials, np.array([1.0, -1.0]))
    assert found.losses.tolist() == [[1, -2], [math.inf, math.inf], [4, -5]]
    assert found.violations.tolist() == [0.5, 2.0, 0.0]
    a, b = found.constraints
    np.testing.assert_array_equal(a, [-1, 2, math.nan])
    np.testing.assert_array_equal(b, [0.5, math.nan, math.nan])
    assert found.feasible.tolist() == [False, False, True]
    assert found.scores(2).tolist() == [1.0, math.inf, 0.0]
    one = Outcomes.of([Trial(0, {}).finished(2.0), Trial(1, {})], np.array([-1.0]))
    assert one.losses.tolist() == [[-2.0], [math.inf]]
    assert Outcomes.of([], np.array([1.0])).losses.shape == (0, 1)


def test_what_a_search_knows_before_any_trial():
    plain = CrossEntropy(SPACE, "plain").history[0]
    low, high = norm.cdf([-1.0, 1.0])
    edges = (norm.cdf((np.linspace(0, 1, 33) - 0.5) / 0.5) - low) / (high - low)
    assert plain.distribution["width"] == pytest.approx(np.diff(edges), abs=1e-12)
    assert plain.distribution["depth"].tolist() == [1 / 6] * 6
    for method in ("plus", "posterior"):
        start = CrossEntropy(SPACE, method).history[0]
        assert [p.tolist() for p in start.distribution.values()] == [
            [1 / n] * n for n in (3, 6, 32, 32)
        ]
        assert (start.number, start.trials, start.elites, start.level) == (0, (), (), None)


def test_the_warning_of_a_used_up_space_stands_where_it_is_found_out():
    space = SearchSpace({"c": Categorical([1, 2])})
    search = CrossEntropy(space, "plus", avoid_repeats=True)
    search.ask(2)
    with pytest.warns(UserWarning, match="they repeat") as said:
        search.ask()
    assert "self._new(" in linecache.getline(said[0].filename, said[0].lineno)


# ------------------------------------------------------------------ draws that are just the limit


class Fixed(np.random.Generator):
    """Always draws the same number."""

    def __init__(self, number):
        super().__init__(np.random.PCG64(0))
        self.number = number

    def random(self, size=None):
        return self.number if size is None else np.full(size, self.number)


def test_a_draw_that_is_just_a_share_does_not_belong_to_it():
    two = SearchSpace({"a": Categorical(range(9)), "b": Integer(0, 8)})
    rows = np.array([[8.0, 8], [8, 8], [8, 8], [0, 0], [0, 0]])
    elite = plus.fit_elite(two, rows, np.arange(5.0), 0.1)
    anywhere = int(elite.prior * 9)
    near = plus._proposals(two, elite, Fixed(elite.prior))
    assert (near != anywhere).any(), "not anywhere: it is not below the prior"
    product = [int(np.searchsorted(np.cumsum(p), 0.8, "right")) for p in elite.probabilities]
    around = plus._proposals(two, elite, Fixed(0.8))
    kernel = elite.kernels[1][0]
    assert around[0, 1] == int((np.cumsum(kernel) < 0.8 * kernel.sum()).sum())
    assert product[0] == around[0, 0] == 8
    assert _draw(np.array([0.5, 0.51]), 2, "bernoulli", Fixed(0.5)).tolist() == [[0, 1]] * 2
    cells = Posterior(two, True, 0.2)._mutants(rows[:1], Fixed(0.75))
    assert cells.tolist() == [[8, 8]] * 128, "none is moved"


@pytest.mark.parametrize("avoid", [None, True, False])
@pytest.mark.parametrize("method", ["plain", "plus"])
def test_when_a_search_says_that_it_stops(method, avoid):
    space = SearchSpace({"c": Categorical([1, 2])})
    search = CrossEntropy(space, method, avoid_repeats=avoid, patience=None)
    said = []
    for number, c in enumerate((1, 2)):
        said.append(search.stopped)
        search.tell(Trial(number, {"c": c}), float(c))
    assert said == [None, None]
    assert search.stopped == ("all 2 configurations have been tried" if avoid else None)
