"""The last value that is accepted, the first that is not, and what is assumed if none is given."""

import math

import numpy as np
import pytest
from oracles.limits import accepts_and_refuses, numbers_assumed
from scipy import stats

from genopt_core import attention as room
from genopt_core.attention import blocks as att
from genopt_core.attention.blocks import DistanceLaw
from genopt_core.attention.blocks.estimators import FLOOR
from genopt_core.attention.blocks.quantiles import student_share

TINY = 1e-9
ROW = np.ones((3, 2))
LOWER = np.tril(np.ones((3, 3), dtype=bool))
Z = [1.0, 2.0, 4.0]


def rng():
    return np.random.default_rng(0)


def estimated(**changes):
    given = {"query": ROW, "keys": ROW, "values": ROW, "kept": LOWER, "pi": np.ones(3), "block": 1}
    return att.estimate(**(given | changes))


@pytest.mark.parametrize(
    ("name", "call", "inside", "outside"),
    [
        ("delta", lambda x: att.serfling_error(1.0, 9, 3, x), [TINY, 1 - TINY], [0.0, 1.0]),
        ("eps", lambda x: att.serfling_blocks(1.0, 9, x, 0.1), [TINY, 0.5, 9.0], [0.0, -0.5]),
        ("block", lambda x: att.mass_bounds(ROW, ROW, x), [1, 9], [0]),
        ("scale", lambda x: att.mass_bounds(ROW, ROW, 1, scale=x), [0.5, -1.0], [math.nan]),
        (
            "query and keys",
            lambda x: att.mass_bounds(x, ROW, 1),
            [ROW, ROW[:1]],
            [ROW[0], ROW[:, :1]],
        ),
        ("query and keys", lambda x: att.mass_bounds(ROW, x, 1), [ROW[:1]], [ROW[:0], ROW[0]]),
        ("block", lambda x: att.kept_by_bias([[0.0]], 1, 1, 4, x, 0.1), [1], [0]),
        ("pi", lambda x: att.log_weights([[1]], [x]), [TINY, 0.5, 1.0], [0.0, -0.5, 1 + TINY, 1.5]),
        ("pi", lambda x: att.log_weights(LOWER, x), [np.ones(3), np.ones((3, 3))], [np.ones(2)]),
        ("guard", lambda x: estimated(estimator="difference", guard=x), [0.0, 1.0], [-TINY, 1.5]),
        ("block", lambda x: estimated(block=x), [1], [0]),
        ("lse", lambda x: estimated(estimator="horvitz-thompson", lse=x), [Z], [Z[:2], [Z]]),
        ("block", lambda x: att.self_similarity(ROW, x), [1, 2, 9], [0]),
        ("keys", lambda x: att.self_similarity(x, 1), [ROW[:1]], [ROW[:0], ROW[0]]),
        ("masses", lambda x: att.relative_deviation(x, 9), [Z[:2]], [Z[:1], 1.0]),
        (
            "sums",
            lambda x: att.relative_deviation(Z, 9, sums=x, of="output"),
            [ROW],
            [ROW[:2], None],
        ),
        ("eps", lambda x: att.blocks_needed(1.0, 9, x, 0.1, 2), [TINY, 0.5], [0.0, -0.5]),
        ("delta", lambda x: att.blocks_needed(1.0, 9, 0.1, x, 2), [TINY, 1 - TINY], [0.0, 1.0]),
        ("drawn", lambda x: att.blocks_needed(1.0, 9, 0.1, 0.1, x), [2], [0]),
        ("delta", lambda x: att.promised_error(1.0, 9, 3, x, 2), [TINY, 1 - TINY], [0.0, 1.0]),
        ("drawn", lambda x: att.promised_error(1.0, 9, 3, 0.1, x), [2], [0]),
        ("freedom", lambda x: att.promised_error(1.0, 9, 3, 0.1, x), [2], [1]),
        ("pilot", lambda x: att.promise_errors(Z, 0.1, 0.1, x, rng()), [2, 3], [1]),
        ("masses", lambda x: att.promise_errors(Z, 0.1, 0.1, x, rng()), [3], [4]),
        ("masses", lambda x: att.promise_errors(x, 0.1, 0.1, 2, rng()), [Z], [[Z], 1.0]),
        ("draws", lambda x: att.promise_errors(Z, 0.1, 0.1, 2, rng(), draws=x), [1], [0]),
        ("exponent", DistanceLaw.zipf, [0.0, 0.5], [-TINY, -0.5]),
        ("ratio", DistanceLaw.geometric, [TINY, 0.5, 1.0], [0.0, -0.5, 1 + TINY, 1.5]),
        (
            "weights",
            DistanceLaw.custom,
            [[TINY], [1, 0]],
            [[0, 1], [1, -TINY], [], [[1]], [math.inf]],
        ),
        ("mass", DistanceLaw.calibrated, [[1, math.nan]], [[math.nan], [], [[1]], [0.0]]),
        ("block", lambda x: DistanceLaw.implied([0.0], x), [1], [0]),
        (
            "table",
            lambda x: DistanceLaw.implied(x, 1),
            [[0.0, -math.inf]],
            [[], [[0.0]], [math.inf]],
        ),
        ("blocks", DistanceLaw.uniform().weights, [1], [0]),
        ("blocks", lambda x: DistanceLaw.uniform().inclusion(x, 1.0), [1], [0]),
        (
            "density",
            lambda x: DistanceLaw.uniform().inclusion(3, x),
            [0.5, 0.75, 1.0],
            [0.5 - TINY, 1 + TINY, 1.5, 0.0],
        ),
        ("weights", lambda x: att.kappa(x, 0.0), [[0.0], [1.0]], [[-TINY], [[1.0]], [math.inf]]),
        ("cost", lambda x: att.kappa([1.0], 0.0, x), [[0.5], [TINY]], [[0.0], [-1.0], [1.0, 1.0]]),
        ("total", lambda x: att.kappa([1.0, 1.0], x), [0.0, 2.0], [-TINY, -0.5, 2 + TINY, 2.5]),
        ("blocks", att.harmonic_blocks, [1], [0]),
        ("probability", lambda x: att.student_quantile(x, 3), [TINY, 1 - TINY], [0.0, 1.0]),
        ("freedom", lambda x: att.student_quantile(0.9, x), [1], [0]),
        ("freedom", lambda x: student_share(1.0, x), [1], [0]),
        ("trials", lambda x: att.wilson_interval(0, x), [1], [0]),
        ("kept", lambda x: att.wilson_interval(x, 4), [0, 4], [-1, 5]),
        ("delta", lambda x: att.wilson_interval(1, 4, x), [TINY, 1 - TINY], [0.0, 1.0]),
        (
            "pi",
            lambda x: att.systematic([x], rng()),
            [0.0, 1.0, 1 + 1e-13],
            [-TINY, -0.5, 1 + TINY],
        ),
        ("pi", lambda x: att.systematic(x, rng()), [[0.5]], [0.5, [[0.5]]]),
        ("pi", lambda x: att.sample_blocks(x, rng()), [[0.5], [[0.5]]], [0.5, [[[0.5]]]]),
        ("blocks", att.always_kept, [1], [0]),
        ("sink", lambda x: att.always_kept(3, sink=x), [0], [-1]),
        ("near", lambda x: att.always_kept(3, near=x), [0], [-1]),
        ("blocks", att.radial_distances, [1], [0]),
        ("width", lambda x: att.radial_distances(3, x), [1], [0]),
        ("kept", att.kept_density, [[[0]], [[1]]], [[[2]], [[-1]], [[0.0]], [1], np.ones((0, 0))]),
        ("block", lambda x: att.tiled_attention(ROW, ROW, ROW, [[1]], x), [3, 9], [0]),
        ("kept", lambda x: att.tiled_attention(ROW, ROW, ROW, LOWER[:x, :x], 1), [3], [2]),
        ("block", lambda x: att.mass_by_distance(ROW, ROW, x), [1], [0]),
        ("sink", lambda x: att.mass_by_distance(ROW, ROW, 1, sink=x), [0, 9], [-1]),
        (
            "bias",
            lambda x: att.mass_by_distance(ROW, ROW, 1, bias=x),
            [np.zeros(3), np.zeros(4), [0, -math.inf, 0]],
            [np.zeros(2), np.zeros((3, 3)), [0, math.inf, 0], [0, math.nan, 0]],
        ),
        ("query, keys and values", lambda x: estimated(query=x), [ROW], [ROW[:2], ROW[0], ROW[:0]]),
        ("partials", room.merge_partials, [[(ROW, np.zeros(3))]], [[]]),
        ("segments", lambda x: room.attend_segments(ROW, x), [[(ROW, ROW)]], [[]]),
        ("query, keys and values", lambda x: room.attend(x, ROW, ROW), [ROW], [ROW[0], ROW[:, :1]]),
        (
            "query, keys and values",
            lambda x: room.attend(ROW, ROW, x),
            [ROW[:, :1]],
            [ROW[:2], ROW[0]],
        ),
        ("query, keys and values", lambda x: room.attend(ROW, x, ROW), [ROW], [ROW[0]]),
    ],
)  # fmt: skip
def test_the_last_that_is_accepted_and_the_first_that_is_not(name, call, inside, outside):
    accepts_and_refuses(call, inside, outside, f"^{name} must ")


@pytest.mark.parametrize(
    ("function", "call", "defaults"),
    [
        (att.estimate, estimated, {"floor": 0.3, "guard": 0.0}),
        (
            att.relative_deviation,
            lambda: att.relative_deviation(Z, 9),
            {"sure_mass": 0.0, "sure_sum": 0.0},
        ),
        (
            att.promise_errors,
            lambda: att.promise_errors(Z, 0.1, 0.1, 2, rng()),
            {"draws": 1000, "sure_mass": 0.0, "sure_sum": 0.0},
        ),
        (att.wilson_interval, lambda: att.wilson_interval(1, 2), {"delta": 0.05}),
        (att.always_kept, lambda: att.always_kept(2), {"sink": 1, "near": 1}),
        (att.radial_distances, lambda: att.radial_distances(2), {"width": 1}),
        (att.mass_by_distance, lambda: att.mass_by_distance(ROW, ROW, 1), {"sink": 0}),
    ],
)
@pytest.mark.restates
def test_what_is_assumed(function, call, defaults):
    call()
    assert numbers_assumed(function) == defaults
    assert FLOOR == 0.3


# ------------------------------------------------------------------ small and exact


def test_a_mask_is_added_or_cuts_off():
    q, k, v = rng().normal(size=(3, 4, 2))
    added = np.log(rng().random((4, 4)))
    weight = np.exp(q @ k.T / np.sqrt(2) + added)
    out, lse = room.attend(q, k, v, mask=added)
    np.testing.assert_allclose(out, weight @ v / weight.sum(1, keepdims=True))
    np.testing.assert_allclose(lse, np.log(weight.sum(1)))
    cut, _ = room.attend(q, k, v, mask=np.eye(4, dtype=bool))
    np.testing.assert_allclose(cut, v)
    whole_numbers, _ = room.attend([[0, 0]], [[1, 1], [1, 1]], [[2], [4]])
    assert whole_numbers.tolist() == [[3.0]]


def test_one_block_and_one_query_by_hand():
    """Bounds of a single key are its score; of two, one radius around their mean."""
    q, k = np.array([[2.0, 0.0]]), np.array([[1.0, 0.0], [3.0, 0.0], [5.0, 0.0]])
    low, high = att.mass_bounds(q, k, 2, scale=-0.5)
    cosh = math.log(math.cosh(1.0))  # |scale| times the query's length 2 times the radius 1
    np.testing.assert_allclose(low, [[-2.0 + math.log(2), -5.0]])
    np.testing.assert_allclose(high, [[-2.0 + math.log(2) + cosh, -5.0]], atol=1e-12)
    assert att.ratio_error(0.1, [0.0, 0.5, 1.0, 2.0]).tolist() == [0.1, 1.2, math.inf, math.inf]


def test_serflings_bound_at_the_ends():
    found = att.serfling_error(2.0, [4, 4, 4, 0, 1], [0, 4, 5, 0, 1], 0.1)
    assert found.tolist() == [math.inf, 0.0, 0.0, 0.0, 0.0]
    assert att.serfling_blocks([0.0, 1e9], [5, 5], 0.1, 0.1).tolist() == [1, 5]
    assert att.serfling_blocks(1.0, [0, 1, 2], 1e-3, 0.1).tolist() == [0, 1, 2]
    exact = float(att.serfling_error(1.0, 100, 30, 0.1))
    assert att.serfling_blocks(1.0, 100, exact, 0.1) == 30


def test_promises_at_the_ends():
    assert att.promised_error(2.0, [4, 4, 4, 0], [0, 4, 5, 0], 0.1, 3).tolist() == [
        math.inf,
        0,
        0,
        0,
    ]
    t = stats.t.ppf(0.95, 2)
    assert att.promised_error(2.0, 8, 3, 0.1, 3) == pytest.approx(2 * t * math.sqrt(1 / 3 - 1 / 8))
    assert att.blocks_needed(1.0, [0, 1, 2, 3], 1e-3, 0.1, 2).tolist() == [0, 1, 2, 3]
    # an error that is met exactly needs no block more
    eps = float(att.promised_error(1.0, 50, 20, 0.1, 3))
    assert att.blocks_needed(1.0, 50, eps, 0.1, 3) == 20


def test_a_deviation_of_nothing_is_nothing_and_of_something_beside_nothing_endless():
    z = np.zeros((1, 3))
    assert att.relative_deviation(z, 5).tolist() == [0.0]
    sums = np.array([[[1.0], [-1.0], [0.0]]])
    found = att.relative_deviation(z + 1, 5, sums=sums, of="numerator")
    assert found.tolist() == [math.inf]
    # a part that is 1, no longer taken for 0, and a part below 1
    part = att.relative_deviation([1.0, 1.0 + math.sqrt(2)], 1, sure_mass=-1 - math.sqrt(0.5) + 4)
    assert part == pytest.approx(1 / 4)


@pytest.mark.parametrize("of", ["mass", "numerator", "output"])
def test_errors_of_draws_are_those_of_the_sums_that_were_drawn(of):
    """Every order of three blocks by hand, with what is sure beside them."""
    z, n = np.array(Z), np.array([[1.0, 0.0], [0.0, 3.0], [2.0, 2.0]])
    sure, sure_sum = 0.5, np.array([0.2, -0.1])
    order = np.random.default_rng(4).random((50, 3)).argsort(axis=1)
    errors, needed = att.promise_errors(
        z, {"mass": 0.2}.get(of, 0.4), 0.5, 2, np.random.default_rng(4),
        draws=50, sums=n, sure_mass=sure, sure_sum=sure_sum, of=of,
    )  # fmt: skip
    assert set(needed) == {2, 3}
    for row, count, error in zip(order, needed, errors, strict=True):
        at = row[:count]
        mass, total = sure + 3 / count * z[at].sum(), sure_sum + 3 / count * n[at].sum(0)
        true_mass, true = sure + z.sum(), sure_sum + n.sum(0)
        if of == "mass":
            expected = abs(mass - true_mass) / true_mass
        elif of == "numerator":
            expected = np.linalg.norm(total - true) / np.linalg.norm(true)
        else:
            true = true / true_mass
            expected = np.linalg.norm(total / mass - true) / np.linalg.norm(true)
        assert error == pytest.approx(expected, abs=1e-12)


def test_factors_at_the_ends():
    assert att.kappa([2.0, 1.0], 0.0) == 0.0
    assert att.kappa([0.0, 0.0], 0.0) == 0.0
    assert att.kappa([], 0.0) == 0.0
    assert att.kappa([2.0, 1.0], 1.5) == 0.5  # the largest is 1 exactly, no term above it
    assert att.kappa([4.0, 1.0], 1.25) == 0.25
    assert att.kappa([4.0, 1.0], 1.5) == pytest.approx(0.5)  # one is capped: 1 + 0.5
    assert att.kappa([4.0, 1.0], 2.0) == 1.0  # all are: one over the least
    assert att.kappa([4.0, 1.0, 0.0], 2.0) == 1.0
    assert att.kappa([4.0, 1.0], 4.0, [1.0, 4.0]) == pytest.approx(0.75)
    assert att.inclusion([4.0, 1.0], 2.0).tolist() == [1.0, 1.0]
    assert att.inclusion([4.0, 1.0], 1.5).tolist() == pytest.approx([1.0, 0.5])
    assert DistanceLaw.uniform().inclusion(3, 0.5).tolist() == [1.0, 0.0, 0.0]
    assert DistanceLaw.uniform().log_bias(3, 0.5).tolist() == [0.0, -math.inf, -math.inf]
    assert att.expected_blocks([1.0, 0.5]) == 2.5
    assert att.harmonic_blocks(2) == pytest.approx(2 + 1 / 2)


def test_laws_at_their_ends():
    assert DistanceLaw.zipf(0).weights(3).tolist() == [1, 1, 1]
    assert DistanceLaw.zipf(1.5).name == "zipf(1.5)"
    assert DistanceLaw.geometric(1).weights(2).tolist() == [1, 1]
    assert DistanceLaw.uniform().weights(2).tolist() == [1, 1]
    assert DistanceLaw.radial().weights(9).tolist() == [1, 1, 0.5, 0.5, *[0.25] * 4, 0.125]
    assert DistanceLaw.custom([4.0, 2.0]).weights(4).tolist() == [1, 0.5, 0.5, 0.5]
    assert DistanceLaw.custom([4.0, 2.0, 1.0]).weights(2).tolist() == [1, 0.5]
    seen = DistanceLaw.calibrated([1.0, math.nan, math.nan, 0.5])
    assert seen.weights(5).tolist() == [1, 1, 1, 0.5, 0.5]
    assert (seen.name, DistanceLaw.custom([1.0]).name) == ("calibrated", "custom")
    lone = DistanceLaw.implied([7.0, 6.0], 1).weights(4)  # of single tokens: the table itself
    assert lone.tolist() == pytest.approx([1, math.exp(-1), 0, 0])


@pytest.mark.parametrize("freedom", [1, 2, 3, 4, 6, 9])
def test_students_shares_are_scipys(freedom):
    for t in (0.0, 0.3, -1.0, 4.0, 1e3):
        expected = 1 - 2 * stats.t.sf(abs(t), freedom)
        assert student_share(t, freedom) == pytest.approx(expected, abs=1e-14)
    assert att.student_quantile(0.5, freedom) == pytest.approx(0.0, abs=1e-15)


def test_wilsons_interval_stays_between_0_and_1():
    assert att.wilson_interval(0, 3)[0] == 0.0
    assert att.wilson_interval(3, 3)[1] == 1.0
    for kept, trials in ((1, 3), (2, 9)):
        expected = stats.binomtest(kept, trials).proportion_ci(0.95, "wilson")
        found = att.wilson_interval(kept, trials)
        assert found == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_samples_of_what_is_sure_and_of_what_cannot_be():
    for pi, samples in (([1.0, 0.0], [[1, 0]]), ([0.5, 0.5], [[1, 0], [0, 1]])):
        found, chances = att.systematic_samples(pi)
        assert sorted(found.astype(int).tolist()) == sorted(samples)
        assert chances.tolist() == [1 / len(samples)] * len(samples)
    assert att.sample_blocks([[0.0, 0.0], [1.0, 0.0]], rng()).tolist() == [[0, 0], [1, 0]]
    assert att.sample_distances([1.0, 0.0, 1.0], rng()).astype(int).tolist() == [
        [1, 0, 0], [0, 1, 0], [1, 0, 1]
    ]  # fmt: skip
    assert att.sample_distances([1.0, 0.0], rng(), "poisson").tolist() == np.eye(2).tolist()


def test_lists_of_what_is_kept():
    index, counts = att.left_justify(np.zeros((2, 2), dtype=int))
    assert (index.tolist(), counts.tolist()) == ([[-1], [-1]], [0, 0])
    index, counts = att.left_justify([[1, 0], [1, 1]])
    assert (index.tolist(), counts.tolist()) == ([[0, -1], [0, 1]], [1, 2])
    assert att.by_distance([5, 7]).tolist() == [[5, 0], [7, 5]]
    assert att.skew([[1, 0], [2, 3]]).tolist() == [[1, 0], [3, 2]]
    assert att.radial_distances(9).astype(int).tolist() == [1, 1, 1, 0, 1, 0, 0, 0, 1]
    assert att.radial_distances(9, 2).astype(int).tolist() == [1, 1, 1, 1, 1, 0, 1, 0, 1]
    assert att.always_kept(3, sink=0, near=0).tolist() == np.eye(3).tolist()


def test_similarity_of_blocks_by_hand():
    keys = [[2.0, 0.0], [0.0, 3.0], [5.0, 0.0], [0.0, 0.0], [0.0, 1.0]]
    assert att.self_similarity(keys, 2).tolist() == pytest.approx([0.5, 0.25, 1.0])


def test_the_difference_falls_back_where_its_mass_is_no_more_than_the_floor():
    """One block kept with probability 1/2 counts twice: the centroid takes one of both away."""
    q = np.zeros((2, 1))
    v = np.array([[1.0], [3.0]])
    given = {"query": q, "keys": q, "values": v, "kept": [[1, 0], [1, 1]], "pi": [1.0, 0.5]}
    out, lse = att.estimate(**given, block=1, estimator="difference", floor=0.6)
    assert lse[1] == pytest.approx(math.log(2))  # 3 - 1 is above 0.6 of 3
    assert out[1, 0] == pytest.approx(2.0)
    for floor in (2 / 3, 0.7):
        out, lse = att.estimate(**given, block=1, estimator="difference", floor=floor)
        assert lse[1] == pytest.approx(math.log(3))
        assert out[1, 0] == pytest.approx(5 / 3)


@pytest.mark.parametrize(("p", "count"), [(0.7, 10), (0.9, 10), (0.55, 20), (0.1, 10)])
def test_sums_that_are_whole_but_for_rounding_hold_that_many(p, count):
    """Seven tenths, ten times, are a little above 7: a comb at 0 would have an eighth tooth."""

    class Zero:
        def random(self):
            return 0.0

    total = round(p * count)
    assert att.systematic([p] * count, Zero()).sum() == total
    samples, chances = att.systematic_samples([p] * count)
    assert (samples.sum(axis=1) == total).all()
    assert (chances > 1e-6).all()
    assert chances.sum() == pytest.approx(1)


@pytest.mark.parametrize("blocks", [315, 324])
def test_a_law_down_to_the_least_number_there_is_keeps_everything(blocks):
    """Weights of 1e-314, some 5e-324: one over them is more than a number holds."""
    law = DistanceLaw.geometric(0.1)
    assert 0 < law.weights(blocks)[-1] < 1e-307
    assert (law.inclusion(blocks, 1.0) == 1).all()
    assert att.kappa([1.0, 5e-324, 0.0], 2.0) == math.inf
    assert att.inclusion([1.0, 5e-324, 0.0], 2.0).tolist() == [1, 1, 0]
    assert att.inclusion([1.0, 1e-305, 1e-305], 2.0).tolist() == pytest.approx([1, 0.5, 0.5])


def test_blocks_as_alike_as_the_guard_are_filled_in():
    """Keys that are all one have the similarity 1, which a guard of 1 lets pass."""
    q = rng().normal(size=(6, 2))
    k, v = np.tile([[1.0, 0.0]], (6, 1)), rng().normal(size=(6, 2))
    given = {"query": q, "keys": k, "values": v, "kept": np.eye(3, dtype=bool), "block": 2}
    given["pi"] = np.where(np.eye(3) > 0, 1.0, 0.5)
    filled = att.estimate(**given, estimator="difference")
    guarded = att.estimate(**given, estimator="difference", guard=1.0)
    np.testing.assert_array_equal(guarded[0], filled[0])
    assert not np.array_equal(filled[0], att.estimate(**given)[0])
    with pytest.raises(ValueError, match=r"density must be in \[0\.5, 1\], where the diagonal"):
        DistanceLaw.uniform().inclusion(3, 0.2)
