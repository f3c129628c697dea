"""Rotation, slopes, biases, effective context and the skip bound, against definitions."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from genopt_core import positions as pos

KINDS = ("linear", "harmonic", "log", "power", "reciprocal")


@pytest.mark.parametrize("layout", ["half", "interleaved"])
@pytest.mark.parametrize("offset", [0, 1, 4093])
def test_scores_depend_on_the_distance_alone(layout, offset):
    rng = np.random.default_rng(0)
    q, k = rng.normal(size=(2, 1, 16))
    omega = pos.inverse_frequencies(16)

    def score(i, j):
        a = pos.rotate(q, pos.rotary_angles([i], omega), layout)
        b = pos.rotate(k, pos.rotary_angles([j], omega), layout)
        return (a @ b.T).item()

    assert score(7 + offset, 3 + offset) == pytest.approx(score(7, 3), abs=1e-9)
    assert score(5, 5) == pytest.approx((q @ k.T).item(), abs=1e-12)


def test_rotation_is_the_complex_product_and_of_no_length():
    rng = np.random.default_rng(1)
    x = rng.normal(size=(9, 12))
    phi = rng.normal(size=(9, 6))
    turned = pos.rotate(x, phi, "interleaved")
    expected = (x[:, ::2] + 1j * x[:, 1::2]) * np.exp(1j * phi)
    np.testing.assert_allclose(turned[:, ::2] + 1j * turned[:, 1::2], expected, atol=1e-12)
    np.testing.assert_allclose(np.linalg.norm(turned, axis=1), np.linalg.norm(x, axis=1))
    part = pos.rotate(x, phi[:, :2])
    np.testing.assert_array_equal(part[:, 4:], x[:, 4:])
    assert pos.rotate(x.astype(np.float32), phi).dtype == np.float32


@pytest.mark.parametrize("heads", [1, 2, 3, 8, 12, 20])
def test_slopes_are_those_of_the_transformers_library(heads):
    import torch
    from transformers.models.bloom.modeling_bloom import build_alibi_tensor

    alibi = build_alibi_tensor(torch.ones(1, 5), heads, torch.float64)
    expected = (alibi[:, 0, 1] - alibi[:, 0, 0]).numpy()
    np.testing.assert_allclose(pos.slopes(heads), expected, rtol=1e-6)
    total = pos.slopes(heads, "harmonic", total="geometric").sum()
    assert total == pytest.approx(expected.sum(), rel=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_costs_are_their_formulas_and_never_fall(kind):
    table = pos.distance_cost(200, kind, 0.7)
    formula = {
        "linear": lambda d: d,
        "harmonic": lambda d: math.fsum(1 / r for r in range(1, d + 1)),
        "log": lambda d: math.log(1 + 0.7 * d),
        "power": lambda d: d**0.7,
        "reciprocal": lambda d: 1 - 1 / (1 + d),
    }[kind]
    np.testing.assert_allclose(table, [formula(d) for d in range(200)], rtol=1e-12, atol=1e-15)
    assert (np.diff(table) > 0).all()
    assert len(pos.distance_cost(0, kind)) == 0


@pytest.mark.parametrize("queries", [None, 1, 3, 0])
def test_the_square_of_pairs_is_the_table_read_by_distance(queries):
    square = pos.bias([0.5, 0.0], 6, "harmonic", windows=[0, 3], queries=queries)
    rows = 6 if queries is None else queries
    assert square.shape == (2, rows, 6)
    for r in range(rows):
        for j in range(6):
            delta = 6 - rows + r - j
            harmonic = sum(1 / t for t in range(1, delta + 1))
            wanted = [-0.5 * harmonic, 0.0 if delta < 3 else -math.inf]
            for h in range(2):
                expected = wanted[h] if delta >= 0 else -math.inf
                assert square[h, r, j] == pytest.approx(expected)


def test_t5_buckets_are_those_of_the_library():
    import torch
    from transformers.models.t5.modeling_t5 import T5Attention

    theirs = T5Attention._relative_position_bucket(
        -torch.arange(400), bidirectional=False, num_buckets=32, max_distance=128
    )
    np.testing.assert_array_equal(pos.relative_buckets(400), theirs.numpy())


@pytest.mark.parametrize("m", [0.5, 1 / 16, 1 / 256])
@pytest.mark.parametrize("length", [10, 5000])
def test_effective_context_of_a_linear_bias_in_closed_form(m, length):
    table = pos.bias_by_distance([m], length)
    assert pos.effective_context(table)[0] == pytest.approx(
        pos.linear_effective_context(m, length).item(), rel=1e-9
    )


@given(
    seed=st.integers(0, 10**6),
    length=st.integers(1, 40),
    kind=st.sampled_from(KINDS),
    strength=st.floats(0, 5),
    scale=st.floats(0.01, 4),
)
def test_the_weight_beyond_a_distance_never_exceeds_its_bound(seed, length, kind, strength, scale):
    rng = np.random.default_rng(seed)
    dim = 8
    k = rng.normal(size=(length, dim)) * scale
    q = rng.normal(size=dim) * scale
    if seed % 3 == 0:  # the worst case: the far keys point along q, the near ones against it
        cut = seed % length
        k[:] = np.where((np.arange(length) < length - cut)[:, None], q, -q)
    table = pos.bias_by_distance([strength], length, kind)
    omega = pos.inverse_frequencies(dim) if seed % 2 else np.zeros(dim // 2)
    at = pos.rotary_angles(np.arange(length), omega)
    score = pos.rotate(k, at) @ pos.rotate(q[None], at[-1:])[0] / math.sqrt(dim)
    logit = score + table[0][::-1]
    weight = np.exp(logit - logit.max())
    beyond = (weight / weight.sum()).cumsum()[::-1]  # at distances of at least 0, 1, …
    norms = np.linalg.norm(q), np.linalg.norm(k, axis=1).max()
    bound = pos.tail_bound(table, *norms, dim)[0]
    for d in range(length):
        assert beyond[d] <= bound[d] * (1 + 1e-9) + 1e-12
    start = pos.skippable(table, *norms, dim, 1e-2)[0]
    assert start == length or beyond[start] <= 1e-2 * (1 + 1e-9)


def test_skipped_blocks_lie_wholly_beyond():
    left_out = pos.skippable_blocks(np.array([17]), 8, 16)[0]
    for t in range(8):
        nearest = min(16 * t + a - b for a in range(16) for b in range(16))
        assert left_out[t] == (t > 0 and nearest >= 17)


@pytest.mark.parametrize(
    ("call", "word"),
    [
        (lambda: pos.inverse_frequencies(7), "head_dim must be even"),
        (lambda: pos.inverse_frequencies(8, rotated=1.5), "rotated must be in"),
        (lambda: pos.inverse_frequencies(8, scaling="yarn"), "trained_length must be given"),
        (lambda: pos.rotary_angles([-1], [1.0]), "positions must not be negative"),
        (lambda: pos.rotary_angles([1], [[1.0]]), "frequencies must have the shape"),
        (lambda: pos.rotate(np.ones((2, 4)), np.ones((3, 2))), "angles must have the shape"),
        (lambda: pos.slopes(0), "heads must be at least 1"),
        (lambda: pos.slopes(4, "other"), "kind must be one of"),
        (lambda: pos.slopes(4, total=-1.0), "total must not be negative"),
        (lambda: pos.bias([-1.0], 4), "strengths must be finite and not negative"),
        (lambda: pos.bias([1.0], 4, queries=5), "queries must be at most 4"),
        (lambda: pos.bias([math.nan], 4), "strengths must be finite"),
        (lambda: pos.distance_cost(4, "power", 3.0), "parameter must be in"),
        (lambda: pos.skippable([[0.0, 1.0]], 1, 1, 4, 0.1), "must not rise"),
        (lambda: pos.skippable([[0.0]], 1, 1, 4, 1.0), "eps must be in"),
        (lambda: pos.tail_bound([[0.0]], -1, 1, 4), "q_norm must be finite"),
        (lambda: pos.effective_context([[-math.inf]]), "finite bias in each row"),
    ],
)
def test_bad_arguments_are_named(call, word):
    with pytest.raises(ValueError, match=word):
        call()


def test_positions_beyond_exact_angles_are_refused():
    with pytest.raises(OverflowError, match="positions must be below"):
        pos.rotary_angles([2**32], [1.0])
    with pytest.raises(TypeError, match="whole numbers"):
        pos.rotary_angles([0.5], [1.0])


def test_yarn_keeps_what_turns_often_and_slows_what_hardly_turns_by_the_factor():
    plain = pos.inverse_frequencies(32)
    found = pos.inverse_frequencies(32, scaling="yarn", factor=4.0, trained_length=256)
    turns = [256 * omega / (2 * math.pi) for omega in plain]
    shares = [1 if n >= 32 else 0 if n <= 1 else (n - 1) / 31 for n in turns]
    assert {0, 1} < set(shares)
    expected = plain * [share + (1 - share) / 4 for share in shares]
    assert found.tolist() == pytest.approx(expected.tolist())
