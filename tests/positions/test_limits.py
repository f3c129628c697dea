"""The last value that is accepted, the first that is not, and what is assumed if none is given."""

import math

import numpy as np
import pytest
from oracles.limits import accepts_and_refuses, numbers_assumed

from genopt_core import positions as pos

TINY = 1e-9
TABLE = [[0.0, -1.0]]


@pytest.mark.parametrize(
    ("name", "call", "inside", "outside"),
    [
        ("heads", pos.slopes, [1], [0]),
        ("total", lambda x: pos.slopes(2, total=x), [0.0, TINY, 0.5], [-TINY, -0.5]),
        ("length", pos.distance_cost, [0, 1], [-1]),
        ("length", lambda x: pos.bias_by_distance([1.0], x), [0, 1], [-1]),
        ("parameter", lambda x: pos.distance_cost(3, "log", x), [TINY, 0.5, 9.0], [0.0, -0.5]),
        ("parameter", lambda x: pos.distance_cost(3, "power", x), [0.5, 2.0], [2 + TINY, 0.0]),
        ("parameter", lambda x: pos.distance_cost(3, "log", x), [1.0, [1.0]], [[[1.0]], [0.0]]),
        (
            "parameter",
            lambda x: pos.bias_by_distance([1.0, 1.0, 1.0], 3, "log", x),
            [1.0, [1.0], [1.0] * 3],
            [[1.0] * 2, [1.0] * 4],
        ),
        ("strengths", lambda x: pos.bias_by_distance(x, 3), [[0.0]], [[], [-TINY], [-0.5], 1.0]),
        ("windows", lambda x: pos.windowed(TABLE, x), [[0], [1], [9]], [[-1], [0.0], [1, 1]]),
        ("queries", lambda x: pos.by_pairs(np.zeros((1, 3)), x), [0, 1, 3], [4, -1]),
        ("length", pos.relative_buckets, [0, 1], [-1]),
        ("buckets", lambda x: pos.relative_buckets(9, x), [2, 3], [1, 0]),
        ("max_distance", lambda x: pos.relative_buckets(9, 8, x), [5, 6], [4]),
        (
            "table",
            pos.weights_by_distance,
            [[[0.0]]],
            [[[]], [0.0], [[-math.inf]], [[math.nan, 0]]],
        ),
        ("strength", pos.linear_effective_context, [TINY, 0.5], [0.0, -TINY, math.inf]),
        ("keep", pos.dropping_bias, [0.0, 1.0, TINY], [-TINY, 1 + TINY]),
        ("head_dim", pos.inverse_frequencies, [2, 4], [0, 1, 3]),
        (
            "theta",
            lambda x: pos.inverse_frequencies(4, theta=x),
            [1 + TINY, 1.5],
            [1.0, 0.5, -2.0],
        ),
        (
            "rotated",
            lambda x: pos.inverse_frequencies(4, rotated=x),
            [0.0, TINY, 0.5, 1.0],
            [-TINY, -0.5, 1 + TINY, 1.5],
        ),
        (
            "factor",
            lambda x: pos.inverse_frequencies(4, scaling="linear", factor=x),
            [1.0, 1.5],
            [1 - TINY, 0.5],
        ),
        (
            "trained_length",
            lambda x: pos.inverse_frequencies(4, scaling="yarn", trained_length=x),
            [1],
            [0, None],
        ),
        (
            "positions",
            lambda x: pos.rotary_angles(x, [1.0]),
            [[0], [2**32 - 1], np.arange(0)],
            [[-1]],
        ),
        (
            "x",
            lambda x: pos.rotate(x, np.zeros((2, 1))),
            [np.ones((2, 2)), np.ones((3, 2, 4)), np.ones((2, 2), int)],
            [np.ones(2)],
        ),
        (
            "angles",
            lambda x: pos.rotate(np.ones((2, 4)), x),
            [np.ones((2, 2)), np.ones((2, 1)), np.ones((1, 2, 2))],
            [np.ones((2, 3)), np.ones((1, 2)), np.ones(2), np.float64(1)],
        ),
        ("factor", pos.yarn_temperature, [1.0, 1.5], [1 - TINY, 0.5]),
        ("head_dim", lambda x: pos.tail_bound(TABLE, 1, 1, x), [1], [0]),
        ("q_norm", lambda x: pos.tail_bound(TABLE, x, 1, 4), [0.0, [0.0]], [-TINY, -0.5, [1, 1]]),
        ("k_norm", lambda x: pos.tail_bound(TABLE, 1, x, 4), [0.0, [0.0]], [-TINY, -0.5, [1, 1]]),
        (
            "table",
            lambda x: pos.tail_bound(x, 1, 1, 4),
            [TABLE, [[0.0, -math.inf]]],
            [[[math.inf]], [0.0]],
        ),
        ("eps", lambda x: pos.skippable(TABLE, 1, 1, 4, x), [TINY, 0.5, 1 - TINY], [0.0, 1.0]),
        ("table", lambda x: pos.skippable(x, 1, 1, 4, 0.1), [[[0.0, 0.0]]], [[[0.0, TINY]]]),
        ("block_size", lambda x: pos.skippable_blocks([1], 2, x), [1], [0]),
        ("blocks", lambda x: pos.skippable_blocks([1], x, 2), [0, 1], [-1]),
        ("from_distance", lambda x: pos.skippable_blocks(x, 2, 2), [[0]], [0, [0.0], [[0]]]),
        (
            "k",
            lambda x: pos.factored_scores(np.ones((2, 1, 2)), np.ones(x), np.zeros((2, 3))),
            [(1, 3, 2), (2, 3, 2)],
            [(3, 3, 2), (1, 3, 4), (1, 0, 2), (3, 2)],
        ),
        (
            "q",
            lambda x: pos.factored_scores(np.ones(x), np.ones((1, 3, 2)), np.zeros((2, 3))),
            [(2, 1, 2), (2, 3, 2)],
            [(0, 1, 2), (2, 0, 2), (1, 2)],
        ),
    ],
)  # fmt: skip
def test_the_last_that_is_accepted_and_the_first_that_is_not(name, call, inside, outside):
    accepts_and_refuses(call, inside, outside, f"^{name} must ")


@pytest.mark.parametrize(
    ("function", "call", "defaults"),
    [
        (pos.distance_cost, lambda: pos.distance_cost(2), {"parameter": 1.0}),
        (pos.bias_by_distance, lambda: pos.bias_by_distance([1.0], 2), {"parameter": 1.0}),
        (pos.bias, lambda: pos.bias([1.0], 2), {"parameter": 1.0}),
        (
            pos.relative_buckets,
            lambda: pos.relative_buckets(2),
            {"buckets": 32, "max_distance": 128},  # T5's
        ),
        (
            pos.inverse_frequencies,
            lambda: pos.inverse_frequencies(4),
            {"theta": 10_000.0, "rotated": 1.0, "factor": 1.0},
        ),
    ],
)
@pytest.mark.restates
def test_what_is_assumed(function, call, defaults):
    call()
    assert numbers_assumed(function) == defaults


# ------------------------------------------------------------------ small and exact


def test_the_shortest_tables():
    for kind, value in (("linear", 1.0), ("harmonic", 1.0), ("reciprocal", 0.5)):
        assert pos.distance_cost(0, kind).tolist() == []
        assert pos.distance_cost(1, kind).tolist() == [0.0]
        assert pos.distance_cost(2, kind).tolist() == [0.0, value]
        assert pos.distance_cost(2, kind, [1.0, 2.0]).tolist() == [[0.0, value]] * 2
    assert pos.distance_cost(3, "log", [1.0, 3.0]).shape == (2, 3)
    assert pos.distance_cost(3, "power", 2.0).tolist() == [0.0, 1.0, 4.0]
    table = pos.distance_cost(2, "linear", [1.0])
    table[0, 0] = 5.0  # a copy, which may be written
    assert pos.slopes(2, "uniform").tolist() == [1.0, 1.0]
    assert pos.slopes(2, "none", total=3.0).tolist() == [0.0, 0.0]
    assert pos.slopes(2, "uniform", total=3.0).tolist() == [1.5, 1.5]
    assert pos.slopes(2, "harmonic", total=0.0).tolist() == [0.0, 0.0]


def test_windows_end_at_their_distance():
    found = pos.windowed(np.zeros((4, 3)), [0, 1, 2, 3])
    assert np.isfinite(found).sum(1).tolist() == [3, 1, 2, 3]


def test_buckets_at_the_ends_of_their_ranges():
    """By the definition: the largest b at which exact (far / exact)^((b - e) / (n - e)) is <= d."""
    for buckets, far in ((2, 4), (4, 9), (7, 50), (32, 128)):
        exact = buckets // 2
        found = pos.relative_buckets(far + 3, buckets, far)
        for d in range(far + 3):
            wide = max(
                (
                    b
                    for b in range(exact, buckets)
                    if exact * (far / exact) ** ((b - exact) / (buckets - exact)) <= d * (1 + 1e-12)
                ),
                default=d,
            )
            assert found[d] == (d if d < exact else wide), (buckets, far, d)


def test_frequencies_of_each_scaling_by_their_formulas():
    plain = [10_000.0 ** (-2 * i / 8) for i in range(4)]
    assert pos.inverse_frequencies(8).tolist() == pytest.approx(plain)
    linear = pos.inverse_frequencies(8, scaling="linear", factor=4.0)
    assert linear.tolist() == pytest.approx([w / 4 for w in plain])
    ntk = pos.inverse_frequencies(8, scaling="ntk", factor=4.0)
    base = 10_000.0 * 4.0 ** (8 / 6)
    assert ntk.tolist() == pytest.approx([base ** (-2 * i / 8) for i in range(4)])
    assert ntk[-1] == pytest.approx(plain[-1] / 4)  # the slowest is slowed by the factor
    assert pos.inverse_frequencies(2, scaling="ntk", factor=4.0).tolist() == [1.0]
    for share, turning in ((0.0, 0), (0.24, 0), (0.25, 1), (0.5, 2), (0.99, 3), (1.0, 4)):
        found = pos.inverse_frequencies(8, rotated=share)
        assert np.count_nonzero(found) == turning
        assert found[:turning].tolist() == pytest.approx(plain[:turning])
    assert pos.yarn_temperature(1.0) == 1.0
    assert pos.yarn_temperature(math.e) == pytest.approx(1.1)


def test_rotation_of_whole_numbers_and_single_precision():
    x, phi = np.array([[1, 2, 3, 4]]), np.array([[math.pi / 2]])
    np.testing.assert_allclose(pos.rotate(x, phi), [[-2, 1, 3, 4]], atol=1e-15)
    np.testing.assert_allclose(pos.rotate(x, phi, "interleaved"), [[-2, 1, 3, 4]], atol=1e-15)
    assert pos.rotate(x, phi).dtype == np.float64
    assert pos.rotate(x.astype(np.float16), phi).dtype == np.float16
    assert x.tolist() == [[1, 2, 3, 4]], "what is given stays"
    with pytest.raises(TypeError, match="positions must be whole numbers"):
        pos.rotary_angles([1.0], [1.0])


def test_the_tail_bound_of_short_tables_by_hand():
    """Two keys, a far one as good as it can be and a near one as bad: e^c against e^-c."""
    c = 1.5 * 2.0 / math.sqrt(4)
    far = math.exp(-1 + c) / (math.exp(-1 + c) + math.exp(-c))
    found = pos.tail_bound([[0.0, -1.0]], 1.5, 2.0, 4)
    np.testing.assert_allclose(found, [[1.0, far, 0.0]])
    assert pos.tail_bound(np.zeros((2, 0)), 1.0, 1.0, 4).tolist() == [[0.0], [0.0]]
    assert pos.tail_bound([[-math.inf, 0.0]], 1.0, 1.0, 4).tolist() == [[1.0, 1.0, 0.0]]
    np.testing.assert_allclose(pos.tail_bound([[5.0, 4.0]], 1.5, 2.0, 4), found)
    each = pos.tail_bound([[0.0, -1.0]] * 2, [1.5, 0.0], [2.0, 2.0], 4)
    np.testing.assert_allclose(each[0], found[0])
    assert each[1, 1] == pytest.approx(math.exp(-1) / (1 + math.exp(-1)))


def test_a_key_that_weighs_exactly_eps_may_be_skipped():
    assert pos.tail_bound([[0.0, 0.0]], 0.0, 1.0, 4)[0, 1] == 0.5
    assert pos.skippable([[0.0, 0.0]], 0.0, 1.0, 4, 0.5).tolist() == [1]
    assert pos.skippable([[0.0, 0.0]], 0.0, 1.0, 4, 0.49).tolist() == [2]


def test_blocks_that_begin_exactly_where_one_may_skip():
    """Block distance t of size s holds distances t s - (s - 1) to t s + (s - 1)."""
    for size in (1, 4):
        for t in (1, 2):
            nearest = t * size - (size - 1)
            found = pos.skippable_blocks([nearest - 1, nearest, nearest + 1], 4, size)[:, t]
            assert found.tolist() == [True, True, False]
    assert pos.skippable_blocks([0], 3, 1).tolist() == [[False, True, True]]
    assert pos.skippable_blocks([0], 0, 1).shape == (1, 0)


def test_contexts_of_one_and_of_all():
    assert pos.effective_context([[0.0]]).tolist() == [1.0]
    assert pos.effective_context([[0.0, 0.0, -math.inf, 0.0]]).tolist() == pytest.approx([3.0])
    m = np.array([0.5, 2.0])
    sums = 1 / (1 - np.exp(-m)), 1 / (1 - np.exp(-2 * m))  # of e^-md and of its square, endless
    np.testing.assert_allclose(pos.linear_effective_context(m), sums[0] ** 2 / sums[1])
    assert pos.linear_effective_context(0.5, 1) == pytest.approx(1.0)
    assert pos.output_error_bound(0.25, 3.0) == 1.5
