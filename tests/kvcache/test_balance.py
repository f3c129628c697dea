"""The balanced map of a head against its defining equation, brute force and simulated errors."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from genopt_core import kvcache as kv


def moment(seed, dim=6, spread=3.0):
    rng = np.random.default_rng(seed)
    q, _ = np.linalg.qr(rng.standard_normal((dim, dim)))
    return (q * np.exp(spread * rng.standard_normal(dim))) @ q.T


def disturbance(into, keys, readers):
    """Mean square error of a score when an even error of the size of the coded keys is added."""
    back = np.linalg.inv(into)
    size = np.trace(into.T @ keys @ into) / len(keys)
    return size * np.trace(back @ readers @ back.T)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6), dim=st.integers(1, 7))
def test_no_map_nearby_disturbs_less(seed, dim):
    keys, readers = moment(seed, dim), moment(seed + 1, dim)
    into, back = kv.balanced_map(keys, readers)
    np.testing.assert_allclose(into @ back, np.eye(dim), atol=1e-8)
    least = disturbance(into, keys, readers)
    gain = kv.balance_gain(keys, readers)
    assert gain >= 1 - 1e-9
    assert disturbance(np.eye(dim), keys, readers) / least == pytest.approx(gain)
    rng = np.random.default_rng(seed)
    for size in (1e-3, 0.1, 1.0):
        near = into @ (np.eye(dim) + size * rng.standard_normal((dim, dim)))
        assert disturbance(near, keys, readers) >= least * (1 - 1e-9)


def test_geometric_mean_is_defined_by_its_equation():
    """G = K⁻¹ # Q solves G K G = Q (the Riccati equation), and commuting matrices are plain."""
    keys, readers = moment(3), moment(4)
    into, _ = kv.balanced_map(keys, readers)
    mean = into @ into.T
    np.testing.assert_allclose(mean @ keys @ mean, readers, rtol=1e-7, atol=1e-9)
    into, back = kv.balanced_map(np.diag([4.0, 1.0]), np.diag([4.0, 1.0]))
    np.testing.assert_allclose(into, np.eye(2), atol=1e-12)
    np.testing.assert_allclose(back, np.eye(2), atol=1e-12)
    assert kv.balance_gain(keys, 7 * keys) == pytest.approx(1)


def test_heads_are_mapped_one_by_one():
    keys, readers = (np.stack([moment(s), moment(s + 5)]) for s in (1, 2))
    into, back = kv.balanced_map(keys, readers)
    for i in range(2):
        one = kv.balanced_map(keys[i], readers[i])
        np.testing.assert_allclose(into[i], one[0])
        np.testing.assert_allclose(back[i], one[1])
    assert kv.balance_gain(keys, readers).shape == (2,)


def test_real_scores_are_disturbed_less_by_the_factor_that_is_promised():
    """Two bits on keys and queries with other large channels; errors of real codes."""
    rng, dim = np.random.default_rng(5), 64
    scale = np.exp(0.5 * rng.standard_normal(dim))
    k, q = rng.standard_normal((256, dim)) * scale, rng.standard_normal((200, dim)) / scale
    keys, readers = np.diag(scale**2), np.diag(scale**-2)
    rotation = kv.hadamard_rotation(dim, np.random.default_rng(0))
    errors = []
    for maps in (None, kv.balanced_map(keys, readers)):
        codec = kv.RotatedCodec("key", rotation, maps=maps)
        packed = codec.encode(k, 2)
        assert packed.nbytes == 256 * (16 + 2) + 2 * dim  # the maps are not in it
        errors.append(np.square(q @ (codec.decode(packed) - k).T).mean())
    promised = kv.balance_gain(keys, readers)
    assert promised > 2
    assert errors[0] / errors[1] == pytest.approx(promised, rel=0.15)


def test_a_ridge_makes_any_moment_definite():
    assert kv.ridged(np.zeros((3, 3))).tolist() == np.eye(3).tolist()
    one = np.zeros((2, 2))
    one[0, 0] = 2
    np.testing.assert_allclose(kv.ridged(one, 0.5), [[2.5, 0], [0, 0.5]])
    kv.balanced_map(kv.ridged(one), kv.ridged(np.zeros((2, 2))))


@pytest.mark.parametrize(
    ("keys", "readers", "message"),
    [
        (np.ones(3), np.eye(3), "keys must be finite"),
        (np.eye(3)[:2], np.eye(3), "keys must be finite"),
        (np.eye(3), np.full((3, 3), np.nan), "readers must be finite"),
        (np.diag([1.0, 0]), np.eye(2), "keys must be positive definite"),
        (np.eye(2), np.eye(3), "readers must have 2 channels, got 3"),
    ],
)
def test_refusals(keys, readers, message):
    with pytest.raises(ValueError, match=message):
        kv.balanced_map(keys, readers)
