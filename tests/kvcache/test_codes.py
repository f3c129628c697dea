"""Packing, grids, nested ladders, rotated codes: genopt_core.kvcache below the cache itself."""

import math
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from oracles.kvcache import real
from scipy.stats import norm

from genopt_core import kvcache as kv

# ------------------------------------------------------------------ packing (kv-pack)


@settings(deadline=None)
@given(
    bits=st.integers(1, 8),
    shape=st.tuples(st.integers(1, 3), st.integers(1, 5).map(lambda n: 8 * n)),
    seed=st.integers(0, 99),
)
def test_packing_is_lossless_and_takes_exactly_its_bits(bits, shape, seed):
    codes = np.random.default_rng(seed).integers(0, 2**bits, shape)
    planes = kv.pack_codes(codes, bits)
    np.testing.assert_array_equal(kv.unpack_codes(planes, bits), codes)
    assert 8 * sum(plane.nbytes for plane in planes) == bits * codes.size


@pytest.mark.parametrize("bits", range(1, 9))
def test_packing_agrees_with_bits_taken_one_by_one(bits):
    codes = np.arange(2**bits).repeat(8)[: 8 * 2**bits]
    planes = kv.pack_codes(codes, bits)
    seen, below = np.zeros(len(codes), int), 0
    for plane, width in zip(planes, kv.plane_widths(bits), strict=True):
        stream = [byte >> i & 1 for byte in plane.tolist() for i in range(8)]  # low bit first
        for j in range(len(codes)):
            value = sum(stream[j * width + i] << i for i in range(width))
            seen[j] |= value << below
        below += width
    np.testing.assert_array_equal(seen, codes)


@pytest.mark.parametrize(
    ("codes", "bits", "word"),
    [
        (np.array([4] * 8), 2, "codes must lie"),
        (np.array([-1] * 8), 2, "codes must lie"),
        (np.zeros(7, int), 3, "multiple of 8"),
        (np.zeros(8, int), 0, "bits"),
        (np.zeros(8, int), 9, "bits"),
        (np.zeros(8, int), True, "bits"),
        (np.zeros(8, int), 2.5, "bits"),
    ],
)
def test_packing_refuses(codes, bits, word):
    with pytest.raises(ValueError, match=word):
        kv.pack_codes(codes, bits)


def test_packing_refuses_floats_and_foreign_planes():
    with pytest.raises(TypeError, match="float64"):
        kv.pack_codes(np.zeros(8), 2)
    planes = kv.pack_codes(np.zeros(8, int), 3)
    for wrong in (planes[:1], (planes[0], planes[0])):
        with pytest.raises(ValueError, match="planes"):
            kv.unpack_codes(wrong, 3)


# ------------------------------------------------------------------ the grid (kv-uniform, kv-bound)

FLOATS = hnp.arrays(
    np.float32,
    st.tuples(st.integers(1, 2), st.just(8), st.integers(1, 2).map(lambda n: 4 * n)),
    elements=st.floats(width=32, allow_nan=True, allow_infinity=True),
)


@settings(max_examples=300, deadline=None)
@given(
    x=FLOATS,
    bits=st.integers(1, 8),
    group=st.sampled_from([1, 2, 4]),
    per=st.sampled_from(["channel", "token"]),
    meta=st.sampled_from([np.float16, np.float32]),
)
def test_bound_holds_or_the_error_is_clear(x, bits, group, per, meta):
    finite = bool(np.isfinite(x).all())
    if not finite:
        with pytest.raises(ValueError, match="finite"):
            kv.quantize_groups(x, bits, group, per=per, meta_dtype=meta)
        return
    try:
        codes, scale, low = kv.quantize_groups(x, bits, group, per=per, meta_dtype=meta)
    except ValueError as error:
        if "meta_dtype" not in str(error) or np.abs(x).max() < np.finfo(meta).max / 4:
            raise  # only what the metadata cannot hold may be refused
        return
    assert scale.dtype == low.dtype == meta
    back = kv.dequantize_groups(codes, scale, low, per=per).astype(float)
    rows = np.swapaxes(back - x, -1, -2) if per == "channel" else back - x
    error = np.abs(rows).reshape(*scale.shape, group).max(-1)
    top = np.abs(x).max()
    # half a stored step; the rest is float32 arithmetic on numbers as large as top
    slack = 4 * np.finfo(np.float32).eps * (top + scale.astype(float) * 2**bits)
    assert (error <= scale.astype(float) / 2 + slack + 1e-44).all()


@pytest.mark.parametrize("bits", [1, 2, 3, 4, 8])
@pytest.mark.parametrize("size", [1e-6, 1.0, 1e6])
@pytest.mark.parametrize("per", ["channel", "token"])
def test_grid_agrees_with_a_search_over_all_levels(bits, size, per):
    x = size * np.random.default_rng(5).normal(size=(32, 16))
    codes, scale, low = kv.quantize_groups(x, bits, 16, per=per)
    back = kv.dequantize_groups(codes, scale, low, per=per, dtype=float)
    for i in range(0, 32, 16 if per == "channel" else 1):
        for j in range(16 if per == "channel" else 1):
            part = (slice(i, i + 16), j) if per == "channel" else (i, slice(None))
            grid = np.linspace(x[part].min(), x[part].max(), 2**bits)  # both ends are levels
            nearest = grid[np.abs(x[part][:, None] - grid).argmin(1)]
            np.testing.assert_allclose(back[part], nearest, atol=1e-12 * size, rtol=1e-12)


@pytest.mark.parametrize("value", [0.0, 0.1, -3.7, 1e-40, 65504.0, -1e30])
@pytest.mark.parametrize("per", ["channel", "token"])
def test_constant_groups_are_exact(value, per):
    x = np.full((8, 8), value, np.float32)
    codes, scale, low = kv.quantize_groups(x, 2, 4, per=per)
    assert not codes.any()
    assert not scale.any()
    np.testing.assert_array_equal(kv.dequantize_groups(codes, scale, low, per=per), x)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("bits", {"bits": 0}),
        ("bits", {"bits": 9}),
        ("group_size", {"group_size": 3}),
        ("group_size", {"group_size": 0}),
        ("per", {"per": "head"}),
        ("shape", {"x": np.zeros((0, 4))}),
        ("shape", {"x": np.zeros(4)}),
        ("finite", {"x": np.full((4, 4), np.nan)}),
        ("finite", {"x": np.full((4, 4), np.inf)}),
        ("meta_dtype", {"x": np.full((4, 4), 1e6), "meta_dtype": np.float16}),
    ],
)
def test_grid_refuses(name, arguments):
    good = {"x": np.zeros((4, 4)), "bits": 2, "group_size": 4}
    with pytest.raises(ValueError, match=name):
        kv.quantize_groups(**good | arguments)


def test_grid_refuses_other_types_and_shapes():
    with pytest.raises(TypeError, match="complex"):
        kv.quantize_groups(np.zeros((4, 4), complex), 2, 4)
    codes, scale, low = kv.quantize_groups(np.zeros((4, 4)), 2, 4)
    with pytest.raises(ValueError, match="grouped per"):
        kv.dequantize_groups(codes[:, :2], scale, low)


# ------------------------------------------------------------------ nested ladders (kv-nested)


@pytest.mark.parametrize("bits", range(1, 9))
@pytest.mark.parametrize("to_bits", range(1, 9))
def test_recode_is_exact_rounding(bits, to_bits):
    codes = np.arange(2**bits)
    if to_bits > bits:
        with pytest.raises(ValueError, match="to_bits"):
            kv.recode(codes, bits, to_bits)
        return
    ratio = Fraction(2**to_bits - 1, 2**bits - 1)
    expected = [math.floor(c * ratio + Fraction(1, 2)) for c in codes.tolist()]
    assert kv.recode(codes, bits, to_bits).tolist() == expected


@pytest.mark.parametrize("bits", range(1, 9))
@pytest.mark.parametrize("to_bits", range(1, 9))
def test_nested_theorem_over_all_rationals_between_thresholds(bits, to_bits):
    """Rounding twice is rounding once, for every number, exactly if the widths nest."""
    if to_bits >= bits:
        return
    top, new = 2**bits - 1, 2**to_bits - 1
    # one number between any two neighboring thresholds of either grid stands for all of them
    edges = {Fraction(2 * c + 1, 2 * top) for c in range(-1, top + 1)}
    edges |= {Fraction(2 * c + 1, 2 * new) for c in range(new)}
    edges = sorted(e for e in edges | {Fraction(0), Fraction(1)} if 0 <= e <= 1)
    middles = [(a + b) / 2 for a, b in pairwise(edges)]
    fine = np.array([math.floor(x * top + Fraction(1, 2)) for x in middles])
    direct = np.array([math.floor(x * new + Fraction(1, 2)) for x in middles])
    assert (kv.recode(fine, bits, to_bits) == direct).all() == kv.is_nested(bits, to_bits)


@pytest.mark.parametrize("per", ["channel", "token"])
def test_real_keys_down_8_4_2_equal_direct_quantization(per):
    x = real("K")
    codes, scale, low = kv.quantize_groups(x, 8, 32, per=per)
    down = kv.recode(kv.recode(codes, 8, 4), 4, 2)
    direct, scale2, low2 = kv.quantize_groups(x, 2, 32, per=per)
    np.testing.assert_array_equal(low, low2)
    np.testing.assert_allclose(kv.rescale(scale, 8, 2), scale2, rtol=3e-7)
    # the two steps differ by a rounding of the division, which only a tie can notice
    assert (down != direct).mean() < 1e-4
    assert np.abs(down.astype(int) - direct).max() <= 1


LADDERS = {(8, 4, 2): 0, (8, 4): 0, (6, 3): 0, (4, 2, 1): 0}
LOSSY = {(8, 6, 4): 0.067, (8, 5, 3, 2): 0.063, (4, 3, 2): 0.104, (8, 7, 6, 5, 4, 3, 2): 0.133}


@pytest.mark.parametrize(("ladder", "changed"), (LADDERS | LOSSY).items())
def test_codes_that_differ_from_direct(ladder, changed):
    x = np.random.default_rng(5).normal(size=(32, 4096))
    codes, scale, low = kv.quantize_groups(x, ladder[0], 32)
    span = scale * (2 ** ladder[0] - 1)
    for a, b in pairwise(ladder):
        codes = kv.recode(codes, a, b)
    direct, fresh, _ = kv.quantize_groups(x, ladder[-1], 32)
    assert (codes != direct).mean() == pytest.approx(changed, abs=0.004)
    back = kv.dequantize_groups(codes, fresh, low, dtype=float)
    bound = kv.ladder_bound(span, ladder).T  # (1, 4096)
    assert (np.abs(back - x) <= bound * (1 + 1e-9)).all()
    assert np.abs(back - x).max() > 0.9 * kv.ladder_bound(span.max(), ladder[-1:])


def test_dropping_low_bits_ruins_keys_and_recoding_does_not():
    """In attention, that is: the squared error of the keys themselves even falls."""
    x, v, q = (real(side)[1:] for side in "KVQ")
    codes, scale, low = kv.quantize_groups(x, 8, 32)
    coarse = kv.recode(codes, 8, 2) * np.float32(85)
    dropped = kv.drop_low_bits(codes, 8, 2)[1].astype(np.float32)
    q = q.reshape(2, 3, 3 * 64, 64)  # three query heads share a key/value head
    exact = kv.attend(q, x, v)[0]
    error = {}
    for name, values in (("recode", coarse), ("drop", dropped)):
        back = kv.dequantize_groups(values, scale, low)
        out = kv.attend(q, back, v)[0]
        distance = np.linalg.norm(out - exact, axis=-1) / np.linalg.norm(exact, axis=-1)
        error[name] = distance.mean(), np.linalg.norm(back - x)
    print(error)
    assert error["drop"][0] > 1.5 * error["recode"][0]
    assert error["drop"][1] < error["recode"][1]


@pytest.mark.parametrize("widths", [*LADDERS, *LOSSY, (4,)])
def test_walking_down_is_each_stair_after_the_other(widths):
    codes = np.arange(2 ** widths[0], dtype=np.uint8)
    end, back = kv.walk_down(codes, widths)
    one, kept = codes, codes
    for a, b in pairwise(widths):
        one, kept = kv.recode(one, a, b), kv.drop_low_bits(kept, a, b)[0]
    np.testing.assert_array_equal(end, one)
    level = np.linspace(0, codes.max(), 2 ** widths[-1])  # both ends of the group are levels
    np.testing.assert_allclose(back, level[end])
    end, back = kv.walk_down(codes, widths, "drop")
    np.testing.assert_array_equal(end, kept)
    for code in np.unique(end):  # restored as the middle of its cell
        np.testing.assert_allclose(back[end == code], codes[end == code].mean())
    with pytest.raises(ValueError, match="method"):
        kv.walk_down(codes, widths, "round")


def test_steps_down_refuse_to_rise():
    for call in (kv.recode, kv.drop_low_bits):
        with pytest.raises(ValueError, match="to_bits"):
            call(np.zeros(8, np.uint8), 2, 4)
    with pytest.raises(ValueError, match="codes must lie"):
        kv.recode(np.full(8, 9, np.uint8), 3, 2)
    with pytest.raises(ValueError, match="widths"):
        kv.ladder_bound(1.0, ())


# ------------------------------------------------------------------ scores (kv-score, kv-weight)


@settings(deadline=None)
@given(seed=st.integers(0, 99), bits=st.integers(2, 8))
def test_score_and_weight_bounds_hold(seed, bits):
    rng = np.random.default_rng(seed)
    k, q = rng.normal(size=(32, 16)) * rng.lognormal(size=16), rng.normal(size=(4, 16))
    codes, scale, low = kv.quantize_groups(k, bits, 32)
    back = kv.dequantize_groups(codes, scale, low, dtype=float)
    change = (back - k) @ q.T / 4  # (tokens, queries)
    eta = kv.score_bound(q, scale[:, 0])
    assert (np.abs(change) <= eta * (1 + 1e-9)).all()
    p, p2 = (np.exp(x @ q.T / 4) for x in (k, back))
    moved = np.abs(p / p.sum(0) - p2 / p2.sum(0)).sum(0)
    assert (moved <= kv.weight_bound(np.abs(change).max(0)) * (1 + 1e-9)).all()


# ------------------------------------------------------------------ rotation, kv-lloyd


@pytest.mark.parametrize("dim", [1, 2, 64, 80, 96, 128])
def test_rotation_is_orthogonal_and_seeded(dim):
    R = kv.hadamard_rotation(dim, np.random.default_rng(5))
    np.testing.assert_allclose(R @ R.T, np.eye(dim), atol=1e-12)
    np.testing.assert_array_equal(R, kv.hadamard_rotation(dim, np.random.default_rng(5)))
    with pytest.raises(ValueError, match="dim"):
        kv.hadamard_rotation(0, np.random.default_rng(5))


@pytest.mark.parametrize("bits", [1, 2, 3, 4])
def test_lloyd_max_is_a_fixed_point_by_quadrature(bits):
    level = kv.lloyd_max(bits)
    edge = np.concatenate([[-np.inf], (level[1:] + level[:-1]) / 2, [np.inf]])
    means = [norm.expect(lambda x: x, lb=a, ub=b, conditional=True) for a, b in pairwise(edge)]
    np.testing.assert_allclose(level, means, atol=1e-7)
    # Max 1960, table 1
    known = {1: 0.3634, 2: 0.1175, 3: 0.03454, 4: 0.009497}
    assert kv.rotated_distortion(bits) == pytest.approx(known[bits], rel=2e-3)


def test_lloyd_max_beats_any_uniform_grid():
    x = np.random.default_rng(5).normal(size=10_000)
    for bits in (2, 3, 4):
        for reach in np.linspace(1, 4, 13):
            grid = np.linspace(-reach, reach, 2**bits)
            nearest = grid[np.abs(x[:, None] - grid).argmin(1)]
            assert ((x - nearest) ** 2).mean() > kv.rotated_distortion(bits) * 0.97


@pytest.mark.parametrize("bits", kv.ROTATED_BITS)
def test_rotated_codes_keep_length_and_have_the_error_of_theory(bits):
    rng = np.random.default_rng(5)
    x = (rng.normal(size=(512, 64)) * rng.lognormal(sigma=1, size=64)).astype(np.float32)
    codec = kv.RotatedCodec("value", kv.hadamard_rotation(64, rng))
    back = codec.decode(codec.encode(x, bits))
    length = np.linalg.norm(x, axis=1)
    np.testing.assert_allclose(np.linalg.norm(back, axis=1), length, rtol=1e-3)
    error = ((back - x) ** 2).sum(1).mean() / (length**2).mean()
    # rotated outliers are close to Gaussian, not quite: within a fifth of the theory
    assert error < 1.2 * max(kv.rotated_distortion(bits), 1e-4)


@pytest.mark.parametrize("path", [(8, 4), (8, 4, 2), (8, 3, 2), (4, 3), (3, 2, 1)])
def test_rotated_steps_cost_little(path):
    x = real("V")[1, 0, :128]
    codec = kv.RotatedCodec("key", kv.hadamard_rotation(64, np.random.default_rng(5)))
    packed = codec.encode(x, path[0])
    for bits in path[1:]:
        packed = codec.step(packed, bits)
    direct = codec.encode(x, path[-1])

    def error(p):
        return np.linalg.norm(codec.decode(p) - x) / np.linalg.norm(x)

    assert error(packed) < 1.15 * error(direct)
    assert packed.nbytes == direct.nbytes
    assert 8 * direct.nbytes / x.size == path[-1] + codec.metadata_bits(64, 128)


def test_norm_correction_lowers_the_error_of_real_keys_and_values():
    for side, name in (("key", "K"), ("value", "V")):
        for bits in (2, 3):
            error = []
            for corrected in (True, False):
                R = kv.hadamard_rotation(64, np.random.default_rng(5))
                codec = kv.RotatedCodec(side, R, norm_correction=corrected)
                x = real(name)[1:, :, 4:132]
                error.append(np.linalg.norm(codec.decode(codec.encode(x, bits)) - x))
            assert error[0] < error[1] * 1.03  # it may cost a little squared error, never much


def test_zero_vectors_are_exact_and_zero_codes_have_length():
    codec = kv.RotatedCodec("value", kv.hadamard_rotation(8, np.random.default_rng(5)))
    assert not codec.decode(codec.encode(np.zeros((4, 8)), 2)).any()
    for bits in kv.ROTATED_BITS:
        assert np.abs(kv.levels(bits)).min() > 0


def test_rotated_codes_refuse():
    R = kv.hadamard_rotation(8, np.random.default_rng(5))
    codec = kv.RotatedCodec("key", R)
    with pytest.raises(ValueError, match="finite"):
        codec.encode(np.full((4, 8), np.nan), 2)
    with pytest.raises(ValueError, match="finite"):
        kv.encode_rotated(np.full((4, 8), np.inf), 2)
    with pytest.raises(ValueError, match="float16"):
        codec.encode(np.eye(8) * 1e9, 2)
    for call in (lambda: kv.levels(5), lambda: kv.lloyd_max(8), lambda: kv.step_table(2, 4)):
        with pytest.raises(ValueError, match=r"bits"):
            call()
    with pytest.raises(ValueError, match="widths"):
        codec.check([5], 8, 4)
    with pytest.raises(ValueError, match="rotation"):
        codec.check([2], 16, 4)
    with pytest.raises(ValueError, match="multiple of 8"):
        kv.RotatedCodec("key", np.eye(4)).check([3], 4, 4)
