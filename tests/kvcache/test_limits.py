"""The last value that is accepted, the first that is not, and what is assumed if none is given."""

import inspect
import itertools
import math
import warnings

import numpy as np
import pytest
from oracles.limits import accepts_and_refuses, numbers_assumed
from scipy.stats import norm

from genopt_core import kvcache as kv
from genopt_core.kvcache.codec import check_grid
from genopt_core.kvcache.grid import step_ratio
from genopt_core.kvcache.packing import check_narrower, check_rows
from genopt_core.kvcache.rotated import LLOYD_MAX_BITS, level_edges

TINY = 1e-9
X = np.arange(8.0).reshape(4, 2)
CODES = np.zeros(8, dtype=np.uint8)


def rng():
    return np.random.default_rng(0)


def stairs(**options):
    cache = kv.Staircase(**({"chunk": 4, "group_size": 4} | options))
    cache.append(np.ones((9, 8), np.float32), np.ones((9, 8), np.float32))
    return cache


@pytest.mark.parametrize(
    ("name", "call", "inside", "outside"),
    [
        ("chunk", lambda x: kv.squared_mass_by_age(X, range(4), x, 1), [1], [0]),
        ("ages", lambda x: kv.squared_mass_by_age(X, range(4), 1, x), [1], [0]),
        ("sink", lambda x: kv.squared_mass_by_age(X, range(4), 1, 1, sink=x), [0, 9], [-1]),
        ("weights", lambda x: kv.squared_mass_by_age(X, x, 1, 1), [[0] * 4], [[0] * 2, [[0] * 4]]),
        ("mass", kv.monotone_mass, [[0.0], [TINY]], [[-TINY], [-0.5], [], [[1.0]], [math.nan]]),
        ("tokens", lambda x: kv.monotone_mass([1.0], x), [[TINY]], [[0.0], [-0.5], [1.0, 1.0]]),
        ("mass", lambda x: kv.ideal_bits(x, 2), [[TINY]], [[0.0], [-0.5], [], [[1.0]]]),
        ("widths", lambda x: kv.allocate_widths([1], 9, x), [[1], [2, 1]], [[0, 2], [], [2, 2]]),
        ("budget", lambda x: kv.allocate_widths([1], x, (2, 4)), [2], [2 - TINY, 1]),
        ("distortion", lambda x: kv.allocate_widths([1], 9, (2, 4), distortion=x), [[2, 1]], [[1]]),
        (
            "costs",
            lambda x: kv.allocate_layers(x, [1, 2], 9),
            [[[1, 2]]],
            [[1, 2], [[]], [[0, math.inf]]],
        ),
        (
            "bits",
            lambda x: kv.allocate_layers([[1, 2]], x, 9),
            [[1, 2], [[1, 2]]],
            [[1], [1, math.nan]],
        ),
        ("unit", lambda x: kv.allocate_layers([[1]], [1], 9, unit=x), [TINY, 2.0], [0.0, -0.5]),
        ("budget", lambda x: kv.allocate_layers([[1], [1]], [2], x), [2.0], [1.98, 1.0]),
        (
            "costs",
            lambda x: kv.allocate_uniform(x, [[1]], 9),
            [[[[1]]]],
            [[[1]], np.ones((0, 1, 1))],
        ),
        ("budget", lambda x: kv.allocate_uniform([[[1]]], [[2]], x), [2.0], [2 - 1e-6, 1.0]),
        (
            "keys",
            lambda x: kv.balanced_map(x, [[1.0]]),
            [[[TINY]], [[[1.0]]]],
            [[[0.0]], [[-1.0]], [1.0]],
        ),
        (
            "readers",
            lambda x: kv.balanced_map([[1.0]], x),
            [[[TINY]]],
            [[[0.0]], [[math.inf]], [1.0]],
        ),
        ("group_size", lambda x: kv.quantize_groups(X, 2, x), [1, 2, 4], [0, 3, 8]),
        ("group_size", lambda x: kv.quantize_groups(X, 2, x, per="token"), [1, 2], [0, 4]),
        ("group_size", lambda x: check_grid("key", x, 2, 4), [4], [0, 3, 8]),
        ("group_size", lambda x: check_grid("value", x, 2, 4), [2], [0, 4]),
        (
            "x",
            lambda x: kv.quantize_groups(x, 2, 1),
            [X, X[None], X.astype(int)],
            [X[0], X[:0], X + math.inf],
        ),
        ("bits", lambda x: kv.quantize_groups(X, x, 1), [1, 8, 2.0], [0, 9, 2.5, True]),
        ("to_bits", lambda x: kv.recode(CODES, 4, x), [1, 4], [0, 5, 9]),
        ("to_bits", lambda x: check_narrower(4, x), [1, 4], [0, 5, 9]),
        ("codes", lambda x: kv.recode(np.array([x]), 2, 1), [0, 3], [4]),
        ("widths", lambda x: kv.ladder_bound(1.0, x), [(1,), (8, 1)], [(), (0,), (9,)]),
        ("bits", lambda x: kv.pack_codes(CODES, x), [1, 8], [0, 9, True]),
        ("codes", lambda x: kv.pack_codes(np.full(8, x), 3), [0, 7], [8, -1]),
        ("codes", lambda x: kv.pack_codes(np.zeros(x, int), 3), [8, (2, 8), 0], [4, 12, ()]),
        ("codes", lambda x: kv.pack_codes(np.zeros(x, int), 4), [2, 6], [1, 3]),
        ("dim", lambda x: check_rows([3], x), [8, 16], [4, 12]),
        ("dim", lambda x: check_rows([8, 4], x), [2], [1]),
        ("dim", lambda x: check_rows([6], x), [4], [2]),
        ("dim", lambda x: kv.hadamard_rotation(x, rng()), [1, 2, 3], [0]),
        ("bits", kv.lloyd_max, [1, 4], [0, 5, 8]),
        ("bits", kv.levels, [1, 4, 8], [0, 5, 7, 9]),
        (
            "ladder",
            kv.check_ladder,
            [(16,), (16, 8), (16, 16, 1), [16, 8, 8]],
            [(16, 9), (16, 0), (15,), (16, 17), (16, 1, 2)],
        ),
        ("segment", lambda x: kv.width_at(x, (16, 2)), [0, 9], [-1]),
        ("length", lambda x: kv.stairs_by_age(x, (16, 2), 4), [0, 1], [-1]),
        ("chunk", lambda x: kv.stairs_by_age(5, (16, 2), x), [1], [0]),
        ("sink", lambda x: kv.stairs_by_age(5, (16, 2), 4, sink=x), [0, 9], [-1]),
        ("length", lambda x: kv.changed_chunks(0, x, (16, 2), 4), [0, 1], [-1]),
        ("length", lambda x: kv.changed_chunks(x, 9, (16, 2), 4), [0, 1], [-1]),
        ("length", lambda x: kv.cache_bits(x, (16, 2), 4), [0, 1], [-1]),
        ("length", lambda x: kv.design_bits((16, 2), (16, 2), x, 4), [1], [0, -1]),
        ("chunk", lambda x: stairs(chunk=x), [4], [0]),
        ("sink", lambda x: stairs(sink=x), [0, 9], [-1]),
        ("group_size", lambda x: stairs(group_size=x), [1, 4], [0, 3]),
    ],
)  # fmt: skip
def test_the_last_that_is_accepted_and_the_first_that_is_not(name, call, inside, outside):
    accepts_and_refuses(call, inside, outside, f"^{name}.* must ")


@pytest.mark.parametrize(
    ("function", "call", "defaults"),
    [
        (kv.squared_mass_by_age, lambda: kv.squared_mass_by_age(X, range(4), 1, 1), {"sink": 0}),
        (kv.predicted_terms, lambda: kv.predicted_terms({}, [0, 1], (16,), 1), {"sink": 0}),
        (kv.allocate_layers, lambda: kv.allocate_layers([[1]], [1], 1), {"unit": 1 / 64}),
        (kv.ridged, lambda: kv.ridged([[1.0]]), {"share": 0.02}),
        (kv.stairs_by_age, lambda: kv.stairs_by_age(1, (16,), 1), {"sink": 0}),
        (kv.changed_chunks, lambda: kv.changed_chunks(0, 1, (16,), 1), {"sink": 0}),
        (
            kv.metadata_bits,
            lambda: kv.metadata_bits("grid", "key", dim=8, chunk=8),
            {"group_size": 32, "meta_bits": 16},
        ),
        (
            kv.cache_bits,
            lambda: kv.cache_bits(1, (16,), 1),
            {"metadata": 0.0, "sink": 0, "full_bits": 16},
        ),
        (
            kv.design_bits,
            lambda: kv.design_bits((16,), (16,), 1, 1),
            {"key_metadata": 0.0, "value_metadata": 0.0, "sink": 0, "full_bits": 16},
        ),
        (
            kv.limit_bits,
            lambda: kv.limit_bits((16,), (16,)),
            {"key_metadata": 0.0, "value_metadata": 0.0, "full_bits": 16},
        ),
        (kv.Staircase, kv.Staircase, {"chunk": 128, "sink": 0, "group_size": 32}),
        (kv.GridCodec, lambda: kv.GridCodec("key").encode(np.ones((32, 8)), 2), {"group_size": 32}),
        (
            kv.RotatedCodec,
            lambda: kv.RotatedCodec("key", np.eye(8)).encode(np.eye(8), 2),
            {"norm_correction": True},
        ),
    ],
)
@pytest.mark.restates
def test_what_is_assumed(function, call, defaults):
    call()
    assert numbers_assumed(function) == defaults


@pytest.mark.restates
def test_menus_of_widths():
    kv.lloyd_max(LLOYD_MAX_BITS[0])
    kv.width_at(1, (kv.FULL, 2))
    assert LLOYD_MAX_BITS == (1, 2, 3, 4)
    assert kv.ROTATED_BITS == (1, 2, 3, 4, 8)
    assert kv.FULL == 16
    assert inspect.signature(kv.Staircase).parameters["ladder"].default == (16, 8, 4, 2)
    menu = inspect.signature(kv.allocate_widths).parameters["widths"].default
    assert menu == (2, 3, 4, 8, 16)
    assert kv.allocate_widths([1.0], 16) == [16]


# ------------------------------------------------------------------ small and exact


def test_equal_masses_stay_as_they_are_and_others_are_weighted_by_their_tokens():
    assert kv.monotone_mass([0.1, 0.1, 0.1]).tolist() == [0.1, 0.1, 0.1]
    assert kv.monotone_mass([1.0, 4.0], [1.0, 2.0]).tolist() == [3.0, 3.0]
    assert kv.monotone_mass([1.0, 2.0, 6.0]).tolist() == [3.0, 3.0, 3.0]
    assert kv.monotone_mass([5.0, 1.0, 3.0]).tolist() == [5.0, 2.0, 2.0]
    assert kv.ideal_bits([4.0, 1.0], 3.0).tolist() == [3.5, 2.5]


def test_widths_at_a_budget_that_is_met_exactly():
    """Errors 4^-w: of two ages the first rises as long as it saves more a bit."""
    assert kv.allocate_widths([1.0, 0.1], 3, (2, 4)) == [4, 2]
    assert kv.allocate_widths([1.0, 0.1], 3 - TINY, (2, 4)) == [2, 2]
    assert kv.allocate_widths([1.0, 1.0], 3, (2, 4)) == [4, 2]
    assert kv.allocate_widths([1.0, 0.1], 4, (2, 4)) == [4, 4]
    assert kv.allocate_widths([1.0, 0.5], 3, (2, 4), tokens=[3, 1]) == [2, 2]
    assert kv.allocate_widths([1.0, 0.5], 3.5, (2, 4), tokens=[3, 1]) == [4, 2]
    # a width above the hull is never taken, nor one that errs as much as a narrower
    assert kv.allocate_widths([1.0], 3, (2, 3, 4), distortion=[1.0, 0.9, 0.1]) == [2]
    assert kv.allocate_widths([1.0], 9, (2, 4), distortion=[1.0, 1.0]) == [2]
    assert kv.allocate_widths([1.0], 4, (4, 2), distortion=[0.0, 1.0]) == [4]
    # on a line of the hull the middle may go: both steps save alike
    assert kv.allocate_widths([1.0], 3, (2, 3, 4), distortion=[3.0, 2.0, 1.0]) == [2]


@pytest.mark.parametrize("seed", range(6))
def test_layers_in_a_budget_by_brute_force(seed):
    g = np.random.default_rng(seed)
    costs, bits = g.random((3, 3)), g.integers(1, 9, (3, 3)) / 2
    every = list(itertools.product(range(3), repeat=3))
    spent = {o: sum(bits[i, j] for i, j in enumerate(o)) for o in every}
    for total in sorted(set(spent.values())):
        within = [o for o in every if spent[o] <= total]
        best = min(within, key=lambda o: sum(costs[i, j] for i, j in enumerate(o)))
        assert kv.allocate_layers(costs, bits, total / 3) == list(best)
        assert kv.allocate_layers(costs, bits, total / 3, unit=0.5) == list(best)
        lines = [o for o in every if sum(bits[0, j] for j in o) <= total]
        if lines:
            best = min(lines, key=lambda o: sum(costs[i, j] for i, j in enumerate(o)))
            assert kv.allocate_layers(costs, bits[0], total / 3) == list(best)
    # what is no multiple of the unit counts as the next one
    assert kv.allocate_layers([[1.0, 0.0]], [1.0, 1.3], 1.3) == [0]
    assert kv.allocate_layers([[1.0, 0.0]], [1.0, 1.3], 1.3125) == [1]
    assert kv.allocate_uniform([[[1.0, 0.0]]], [[1.0, 3.0]], 3.0) == [1]


def test_maps_of_one_channel_by_hand():
    """K = 4 and Q = 9: the mean is sqrt(Q / K), the map its root."""
    into, back = kv.balanced_map([[4.0]], [[9.0]])
    assert into.item() == pytest.approx(math.sqrt(1.5))
    assert back.item() == pytest.approx(1 / math.sqrt(1.5))
    assert kv.balance_gain([[4.0]], [[9.0]]) == pytest.approx(1.0)
    k, q = np.diag([4.0, 1.0]), np.diag([1.0, 4.0])  # traces 5 and 5 against (2 + 2)^2
    assert kv.balance_gain(k, q) == pytest.approx(25 / 16)
    ridged = kv.ridged([[2.0, 0.0], [0.0, 4.0]])  # 2 % of the mean 3
    np.testing.assert_allclose(ridged, np.diag([2.06, 4.06]))
    tiny = kv.ridged(np.full((1, 1), 1e-3), 0.5)
    assert tiny.item() == pytest.approx(1.5e-3)


@pytest.mark.parametrize("dim", [1, 3, 6])
def test_a_rotation_is_what_is_left_of_normal_numbers(dim):
    """R^T A is upper triangular with a positive diagonal, where A is what was drawn."""
    if dim & (dim - 1):
        turned = kv.hadamard_rotation(dim, rng()).T @ rng().standard_normal((dim, dim))
        np.testing.assert_allclose(turned, np.triu(turned), atol=1e-12)
        assert (np.diagonal(turned) > 0).all()
    for size in (1, 2, 8):
        h = kv.hadamard_rotation(size, rng())
        np.testing.assert_allclose(np.abs(h), size**-0.5)
        signs = rng().choice([-1.0, 1.0], size=size)
        # Sylvester's: the sign of entry (i, j) is the parity of i & j
        parity = [[(-1) ** (i & j).bit_count() for j in range(size)] for i in range(size)]
        np.testing.assert_allclose(h, signs[:, None] * parity / math.sqrt(size))


def test_planes_are_the_powers_of_two_of_a_width():
    for bits in range(1, 9):
        planes = kv.plane_widths(bits)
        assert sum(planes) == bits
        assert list(planes) == sorted(planes, reverse=True)
        assert set(planes) <= {1, 2, 4, 8}


def test_levels_and_edges_at_8_bits():
    level = kv.levels(8)
    assert (level[0], level[-1], len(level)) == (-127.5 / 32, 127.5 / 32, 256)
    assert (np.diff(level) == 1 / 32).all()
    assert level_edges(8).tolist() == [(i - 127) / 32 for i in range(255)]
    mean = math.sqrt(2 / math.pi)  # of the positive half of a Gaussian
    assert kv.lloyd_max(1).tolist() == pytest.approx([-mean, mean], abs=1e-12)


@pytest.mark.parametrize("bits", kv.ROTATED_BITS)
def test_distortion_is_a_sum_of_integrals_over_cells(bits):
    level, edge = kv.levels(bits), np.concatenate([[-40.0], level_edges(bits), [40.0]])
    mass, density = norm.cdf(edge), norm.pdf(edge)
    # of 1, x and x^2 times the density, from edge to edge
    none, one, two = np.diff(mass), -np.diff(density), np.diff(mass - edge * density)
    exact = (two - 2 * level * one + level**2 * none).sum()
    assert kv.rotated_distortion(bits) == pytest.approx(exact, abs=5e-10)


def test_codes_of_rotated_vectors_by_hand():
    """Two bits: levels at 0.4528 and 1.5104, edges at 0 and 0.9816 times the rms."""
    y = np.array([[1.0, 1.0, -1.0, -1.0], [2.0, 0.0, 0.0, 0.0], [0.0] * 4, [1.2, 0.9, -0.5, -1.2]])
    rms = math.sqrt(0.25 * (1.44 + 0.81 + 0.25 + 1.44))
    last = [0 if v < -0.9816 * rms else 1 if v <= 0 else 2 if v < 0.9816 * rms else 3 for v in y[3]]
    assert kv.encode_rotated(y, 2).tolist() == [[3, 3, 0, 0], [3, 1, 1, 1], [1] * 4, last]
    assert kv.encode_rotated(y, 2).dtype == np.uint8


def test_stairs_of_short_caches():
    assert kv.stairs_by_age(0, (16, 2), 4) == []
    assert kv.stairs_by_age(3, (16, 2), 4, sink=5) == [(0, 3, 16)]
    assert kv.stairs_by_age(9, (16, 8, 2), 4, sink=1) == [(0, 1, 16), (1, 5, 2), (5, 9, 8)]
    assert kv.cache_bits(9, (16, 8, 2), 4, sink=1, metadata=1.0, full_bits=32) == 32 + 4 * 3 + 4 * 9
    assert kv.design_bits((16,), (16, 8), 2, 1) == (16 + 8) / 2
    assert kv.limit_bits((16, 2), (16,), key_metadata=1, value_metadata=9, full_bits=32) == 17.5
    assert kv.metadata_bits("grid", "value", dim=64, chunk=128) == 1.0
    assert kv.metadata_bits("rotated", "key", dim=64, chunk=128) == 0.25 + 0.125
    assert kv.metadata_bits("rotated", "value", dim=64, chunk=128) == 0.25


def test_bounds_of_errors_by_hand():
    assert kv.ladder_bound(3.0, (2,)) == pytest.approx(3.0 / 3 / 2)
    assert kv.ladder_bound(3.0, (4, 2)) == pytest.approx(3.0 / 3 / 2)  # nested: nothing is added
    assert kv.ladder_bound(1.0, (4, 3)) == pytest.approx((1 / 7 + 1 / 15) / 2)
    assert kv.score_bound([3.0, -4.0, 0.0, 1.0], [1.0, 2.0, 9.0, 0.0]) == (3 + 8) / 4
    assert kv.weight_bound(0.5) == pytest.approx(math.e - 1)
    assert step_ratio(8, 2) == 85.0
    assert kv.rescale(np.float16([2.0]), 4, 2).tolist() == [10.0]
    assert kv.is_nested(6, 3)
    assert not kv.is_nested(4, 3)
    kept, back = kv.drop_low_bits(np.array([0, 7, 8, 255]), 8, 5)
    assert kept.tolist() == [0, 0, 1, 31]
    assert back.tolist() == [3.5, 3.5, 11.5, 251.5]


@pytest.mark.parametrize("per", ["channel", "token"])
def test_constant_groups_divide_by_nothing(per):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for value in (0.0, 2.5, -1e30):
            codes, scale, low = kv.quantize_groups(np.full((4, 4), value), 3, 2, per=per)
            assert not codes.any()
            assert not scale.any()
            assert (low == value).all()


def test_steps_that_underflow_are_the_smallest_there_is():
    x = np.array([[0.0], [6e-8]], dtype=np.float32)  # a step of 2e-8 where 6e-8 is the least
    codes, scale, low = kv.quantize_groups(x, 2, 2, meta_dtype=np.float16)
    assert scale.item() == np.finfo(np.float16).smallest_subnormal
    assert (codes.ravel().tolist(), low.item()) == ([0, 1], 0.0)


def test_a_cache_takes_what_its_metadata_can_hold_and_no_more():
    for codec, meta, most in (
        ("grid", np.float16, 65504 / 4),
        ("rotated", np.float32, 65504 / 4),
        ("grid", np.float32, float(np.finfo(np.float32).max) / 4),
    ):
        for scale, refused in ((1.0, False), (1.001, True)):
            cache = kv.Staircase((16, 8), chunk=8, group_size=8, codec=codec, meta_dtype=meta)
            x = np.full((1, 8), most * scale, dtype=np.float32)
            if refused:
                with pytest.raises(ValueError, match="keys must not exceed"):
                    cache.append(x, x)
            else:
                cache.append(x, x)
    kv.Staircase((16,), group_size=8).append(np.full((9, 8), 1e30), np.ones((9, 8)))


def test_sides_of_a_cache_are_told_apart():
    k, v = np.ones((9, 8), np.float32), np.zeros((9, 16), np.float32)
    cache = kv.Staircase((16, 8), value_ladder=(16, 2), chunk=4, sink=1, group_size=4)
    cache.prefill(k, v)
    assert [s.bits for s in cache.stairs()] == [16, 8]
    assert [s.bits for s in cache.stairs("value")] == [16, 2]
    assert (cache.keys.shape, cache.values.shape) == ((9, 8), (9, 16))
    assert cache.bits_per_element() == 8 * cache.nbytes() / (9 * 8 + 9 * 16)
    assert cache.append(k[:1], v[:1]) is None
    assert len(cache) == 10
    same = kv.Staircase(chunk=4, group_size=4)
    assert same.append(k, k, k).shape == (9, 8)
    with pytest.raises(ValueError, match="values must be a filled"):
        kv.Staircase().append(k, v[0])
    with pytest.raises(ValueError, match="values must be finite"):
        kv.Staircase().append(k, v * np.nan)
    with pytest.raises(TypeError, match="values must be floating-point"):
        kv.Staircase().append(k, v.astype(int))


def test_a_budget_that_is_refused_is_told_the_least():
    with pytest.raises(ValueError, match=r"at least the fewest bits, 3\.5, got 1"):
        kv.allocate_uniform([[[1, 1], [1, 1]]], [[2, 4], [6, 5]], 1)
    with pytest.raises(ValueError, match=r"at least the fewest bits, 3\.5, got 1"):
        kv.allocate_layers([[1, 1], [1, 1]], [[2, 4], [6, 5]], 1)
    with pytest.raises(ValueError, match="at least the narrowest width, 2, got 1"):
        kv.allocate_widths([1.0], 1, (4, 2))


@pytest.mark.parametrize(("bits", "units"), [(2, 4), (3, 9), (1, 1)])
def test_codes_of_the_least_numbers_there_are_end_at_the_top(bits, units):
    """A step below the normal numbers is rounded by a third; its codes would go over."""
    least = np.finfo(np.float32).smallest_subnormal
    x = np.array([[0.0], [units * least]], dtype=np.float32)
    codes, scale, low = kv.quantize_groups(x, bits, 2)
    assert codes.ravel().tolist() == [0, 2**bits - 1]
    assert (scale.item(), low.item()) == (np.float32(least), 0.0)
