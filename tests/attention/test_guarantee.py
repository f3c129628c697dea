"""Promises (ε, δ): the formulas against SciPy and by hand, true bounds, coverage of the normal."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from genopt_core.attention import blocks as att
from genopt_core.attention.blocks.guarantee import Of
from genopt_core.positions import bias_by_distance

ALL: tuple[Of, ...] = ("mass", "numerator", "output")


def a_row(blocks=60, dim=3, seed=0, spread=0.5):
    g = np.random.default_rng(seed)
    z = np.exp(spread * g.normal(size=blocks))
    return z, z[:, None] * (1 + g.normal(size=(blocks, dim)))


# ------------------------------------------------------------------ quantiles and intervals


@pytest.mark.parametrize("freedom", [1, 2, 3, 4, 5, 7, 8, 31, 200, 2001])
@pytest.mark.parametrize("probability", [0.025, 0.4, 0.5, 0.75, 0.95, 0.999])
def test_students_quantile_is_scipys(probability, freedom):
    expected = stats.t.ppf(probability, freedom)
    assert att.student_quantile(probability, freedom) == pytest.approx(
        expected, rel=1e-8, abs=1e-12
    )


@pytest.mark.parametrize(("kept", "trials"), [(0, 7), (5, 9), (99, 100), (100, 100)])
def test_wilsons_interval_is_scipys(kept, trials):
    expected = stats.binomtest(kept, trials).proportion_ci(0.9, "wilson")
    found = att.wilson_interval(kept, trials, 0.1)
    assert found == pytest.approx((expected.low, expected.high), abs=1e-8)


# ------------------------------------------------------------------ the normal promise


@pytest.mark.parametrize("of", ALL)
def test_the_deviation_of_a_whole_population_is_that_of_its_draws(of):
    """Over all sets of two blocks the variance is the textbook's, exactly for sums."""
    z, n = a_row(blocks=7)
    total, true = [], {"mass": z.sum(), "numerator": n.sum(0), "output": n.sum(0) / z.sum()}[of]
    for pair in itertools.combinations(range(7), 2):
        s, t = 7 / 2 * z[list(pair)].sum(), 7 / 2 * n[list(pair)].sum(0)
        if of == "output":  # its first order is what the deviation describes
            total.append((t - true * s) / z.sum())
        else:
            total.append((s if of == "mass" else t) - true)
    mean_square = np.mean([np.sum(np.square(x)) for x in total])
    found = att.relative_deviation(z, 7, sums=n, of=of)
    expected = found * math.sqrt(1 / 2 - 1 / 7) * np.linalg.norm(true)
    assert math.sqrt(mean_square) == pytest.approx(expected, rel=1e-12)


@given(st.floats(0.001, 100), st.integers(2, 500), st.floats(0.001, 2), st.floats(0.001, 0.9))
def test_as_many_blocks_as_needed_and_not_one_more(deviation, blocks, eps, delta):
    n = int(att.blocks_needed(deviation, blocks, eps, delta, 2))
    assert 2 <= n <= blocks
    assert att.promised_error(deviation, blocks, n, delta, 2) <= eps * (1 + 1e-6)
    if 2 < n < blocks:
        assert att.promised_error(deviation, blocks, n - 1, delta, 2) > eps * (1 - 1e-6)


def test_the_finite_population_ends_at_all_blocks():
    assert att.blocks_needed([0.0, 1e-9, 1e9, np.inf], 30, 0.1, 0.1, 4).tolist() == [4, 4, 30, 30]
    assert att.promised_error(5.0, 30, [30, 31], 0.1, 4).tolist() == [0, 0]
    assert att.promised_error([0.0, 5.0], 30, 0, 0.1, 4).tolist() == [np.inf, np.inf]
    few = att.blocks_needed(1.0, np.array([5, 50, 500, 5_000_000]), 0.05, 0.05, 8)
    endless = (stats.t.ppf(0.975, 7) / 0.05) ** 2
    assert few.tolist()[0] == 5
    assert few[-1] == pytest.approx(endless, rel=2e-3)
    assert (np.diff(few) > 0).all()


def test_what_is_sure_makes_the_rest_small():
    z, n = a_row()
    drawn = slice(0, 8)
    for of in ALL:
        r = [
            att.relative_deviation(
                z[drawn], 60, sums=n[drawn], sure_mass=s, sure_sum=s * np.ones(3), of=of
            )
            for s in (0.0, 1e2, 1e4)
        ]
        assert r[0] > 2 * r[1] > 20 * r[2]


def test_shapes_are_those_of_rows():
    z, n = (np.stack([x] * 6).reshape(2, 3, *x.shape) for x in a_row(blocks=5))
    m = np.array([[5, 10, 20]] * 2)
    for of in ALL:
        r = att.relative_deviation(z, m, sums=n, sure_mass=np.ones((2, 3)), of=of)
        assert r.shape == (2, 3)
        assert att.blocks_needed(r, m, 0.3, 0.1, 5).shape == (2, 3)


@pytest.mark.parametrize("of", ALL)
@pytest.mark.parametrize("pilot", [4, 10])
@pytest.mark.parametrize("delta", [0.05, 0.2])
def test_the_promise_is_kept_where_blocks_are_alike(of, pilot, delta):
    """Within six standard deviations of the count of draws; blocks vary, none is outstanding."""
    z, n = a_row(blocks=200, spread=0.4)
    draws, eps = 3000, 0.06 if of == "mass" else 0.15
    errors, needed = att.promise_errors(
        z, eps, delta, pilot, np.random.default_rng(1), draws=draws, sums=n, of=of, sure_mass=50.0
    )
    assert pilot < needed.mean() < 150
    deviation = math.sqrt(delta * (1 - delta) / draws)
    assert (errors <= eps).mean() >= 1 - delta - 6 * deviation


def test_the_normal_promise_breaks_where_one_block_is_everything():
    """What the pilot has not seen it cannot know: why it is called an approximation."""
    z = np.ones(200)
    z[0] = 1e4
    errors, needed = att.promise_errors(z, 0.1, 0.05, 8, np.random.default_rng(0))
    assert (errors <= 0.1).mean() < 0.1
    assert np.median(needed) == 8


# ------------------------------------------------------------------ the true bounds


@pytest.mark.parametrize("kind", ["alike", "one outstanding"])
def test_serflings_bound_holds_for_every_population(kind):
    g = np.random.default_rng(0)
    z = g.random(40)
    if kind == "one outstanding":
        z = np.full(40, 0.01)
        z[7] = 1.0
    delta, total = 0.1, z.sum() + 3
    order = g.random((4000, 40)).argsort(axis=1)
    for n in (1, 5, 20, 35, 39, 40):
        found = 3 + 40 / n * z[order[:, :n]].sum(1)
        eps = att.serfling_error(40 * (z.max() - z.min()) / total, 40, n, delta)
        assert (np.abs(found - total) > eps * total + 1e-9).mean() <= delta


def test_serflings_factor_by_hand():
    """One block is Hoeffding's bound; in the first half Serfling's factor rules, then the other."""
    half = math.log(2 / 0.1) / 2
    expected = [half, half * (1 - 24 / 100) / 25, half * (1 - 75 / 100) * (1 + 1 / 75) / 75]
    found = att.serfling_error(1.0, 100, [1, 25, 75], 0.1)
    np.testing.assert_allclose(found, np.sqrt(expected), rtol=1e-12)


@given(st.floats(0.001, 100), st.integers(1, 300), st.floats(0.001, 2), st.floats(0.001, 0.9))
def test_as_many_as_serfling_asks_for_and_not_one_more(span, blocks, eps, delta):
    n = int(att.serfling_blocks(span, blocks, eps, delta))
    assert 1 <= n <= blocks
    assert att.serfling_error(span, blocks, n, delta) <= eps
    if n > 1:
        assert att.serfling_error(span, blocks, n - 1, delta) > eps
    # the answer for many rows is that for each
    many = att.serfling_blocks([span, 1e-3, 1e3], [blocks, 0, 64], eps, delta)
    assert many[0] == n
    assert many[1] == 0


def test_the_mass_of_a_block_lies_between_its_bounds():
    g = np.random.default_rng(0)
    for spread in (0.1, 1.0, 3.0):
        q, k = g.normal(size=(9, 4)), spread * g.normal(size=(22, 4))
        low, high = att.mass_bounds(q, k, 5)
        s = np.exp(q @ k.T / 2)
        mass = np.log([s[:, i : i + 5].sum(1) for i in range(0, 22, 5)]).T
        assert low.shape == mass.shape
        assert (low <= mass + 1e-12).all()
        assert (mass <= high + 1e-12).all()


@given(st.floats(0, 0.9), st.floats(0, 0.9), st.integers(0, 50))
def test_two_promises_make_one_for_the_ratio(eps_sum, eps_mass, seed):
    g = np.random.default_rng(seed)
    n, z = g.normal(size=3), 2.0
    direction = g.normal(size=3)
    off = n + eps_sum * np.linalg.norm(n) * direction / np.linalg.norm(direction)
    for sign in (-1, 1):
        gap = np.linalg.norm(off / (z * (1 + sign * eps_mass)) - n / z) / np.linalg.norm(n / z)
        assert gap <= att.ratio_error(eps_sum, eps_mass) + 1e-9
    assert att.ratio_error(0.1, 1.0) == np.inf


def test_blocks_that_a_bias_keeps_hold_all_but_eps():
    g = np.random.default_rng(0)
    table = bias_by_distance([0.5, 0.0, 2.0], 96)
    q, k = g.normal(size=(3, 96, 8)), g.normal(size=(3, 96, 8))
    lengths = [np.linalg.norm(x, axis=2).max(1) for x in (q, k)]
    kept = att.kept_by_bias(table, *lengths, 8, 16, 1e-3)
    assert kept.shape == (3, 6)
    assert kept[1].all()
    assert not kept[2].all()
    i = np.arange(96)
    delta = i[:, None] - i
    for h in range(3):
        s = np.where(delta >= 0, q[h] @ k[h].T / 8**0.5 + table[h][np.maximum(delta, 0)], -np.inf)
        p = np.exp(s - s.max(1, keepdims=True))
        p /= p.sum(1, keepdims=True)
        dropped = ~kept[h][np.abs(i[:, None] // 16 - i // 16)]
        assert (p * dropped).sum(1).max() <= 1e-3


# ------------------------------------------------------------------ refusals


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: att.relative_deviation([1.0], 4), "2 drawn blocks or more"),
        (lambda: att.relative_deviation([1.0, 2.0], 4, of="output"), "sums must be given"),
        (
            lambda: att.relative_deviation([1.0, 2.0], 4, sums=[[1.0]], of="numerator"),
            "sums must have the shape",
        ),
        (lambda: att.relative_deviation([1.0, 2.0], 4, of="all"), "of must be one of"),  # type: ignore[arg-type]
        (lambda: att.blocks_needed(1.0, 4, 0.0, 0.1, 2), "eps must be above 0, got 0.0"),
        (lambda: att.blocks_needed(1.0, 4, 0.1, 1.0, 2), r"delta must be in \(0, 1\), got 1.0"),
        (lambda: att.blocks_needed(1.0, 4, 0.1, 0.1, 1), "freedom must be at least 1, got 0"),
        (lambda: att.serfling_blocks(1.0, 4, -1.0, 0.1), "eps must be above 0, got -1.0"),
        (lambda: att.mass_bounds([[1.0]], [[1.0, 2.0]], 1), "query and keys must have"),
        (lambda: att.student_quantile(1.0, 3), r"probability must be in \(0, 1\), got 1.0"),
        (lambda: att.wilson_interval(5, 4), "kept must be at most the trials, 4, got 5"),
        (
            lambda: att.promise_errors([1.0, 2.0], 0.1, 0.1, 3, np.random.default_rng()),
            "masses must hold 3 blocks",
        ),
    ],
)
def test_refusals(call, words):
    with pytest.raises(ValueError, match=words):
        call()


def test_a_pilot_of_all_blocks_has_no_error():
    errors, needed = att.promise_errors([1.0, 2.0], 0.1, 0.1, 2, np.random.default_rng(0), draws=3)
    assert errors.tolist() == [0.0] * 3
    assert needed.tolist() == [2] * 3
