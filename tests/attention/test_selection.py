"""Selections: exact probabilities of systematic sampling, and the shapes of the three readings."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from genopt_core.attention import blocks as att
from genopt_core.attention.blocks import DistanceLaw

PROBABILITIES = st.lists(
    st.one_of(st.floats(0, 1), st.sampled_from([0.0, 0.25, 0.5, 1.0])), min_size=1, max_size=12
)


@given(PROBABILITIES)
def test_inclusion_probabilities_are_exact(p):
    samples, probabilities = att.systematic_samples(p)
    assert probabilities.sum() == pytest.approx(1, abs=1e-12)
    np.testing.assert_allclose(probabilities @ samples, p, atol=1e-8)  # sums snap to 1e-9
    sizes = samples.sum(axis=1)
    assert set(sizes) <= {int(np.floor(sum(p) + 1e-9)), int(np.ceil(sum(p) - 1e-9))}
    assert samples[:, np.array(p) == 1].all()
    assert not samples[:, np.array(p) == 0].any()


def test_draws_are_among_the_samples_as_often_as_said():
    p = np.array([0.3, 1.0, 0.45, 0.05, 0.2])
    samples, probabilities = att.systematic_samples(p)
    rng, draws = np.random.default_rng(0), 20_000
    found = np.array([att.systematic(p, rng) for _ in range(draws)])
    seen = (found[:, None] == samples).all(axis=2).mean(axis=0)
    assert seen.sum() == pytest.approx(1)
    six_deviations = 6 * np.sqrt(probabilities * (1 - probabilities) / draws)
    assert (np.abs(seen - probabilities) <= six_deviations).all()


def test_shared_distances_keep_the_outline_of_a_triangle():
    pi = DistanceLaw.harmonic().inclusion(20, 0.4)
    for seed in range(20):
        kept = att.sample_distances(pi, np.random.default_rng(seed))
        distances = {i - j for i, j in zip(*np.nonzero(kept), strict=True)}
        np.testing.assert_array_equal(kept, att.by_distance(np.isin(np.arange(20), [*distances])))
        index, counts = att.left_justify(kept)
        assert (np.diff(counts) >= 0).all()
        for i, row in enumerate(index):
            assert row[: counts[i]].tolist() == sorted(i - d for d in distances if d <= i)
            assert (row[counts[i] :] == -1).all()


def test_draws_a_row_keep_the_probabilities_not_the_outline():
    pi = DistanceLaw.harmonic().inclusion(20, 0.3)
    kept = [att.sample_blocks(pi, np.random.default_rng(seed)) for seed in range(30)]
    assert all(np.diagonal(k).all() and not np.triu(k, 1).any() for k in kept)
    assert any((np.diff(att.left_justify(k)[1]) < 0).any() for k in kept)
    matrix = att.by_distance(pi)
    again = att.sample_blocks(matrix, np.random.default_rng(7))
    np.testing.assert_array_equal(again, kept[7])


@pytest.mark.parametrize("draw", [att.sample_distances, att.sample_blocks])
@pytest.mark.parametrize("scheme", ["systematic", "poisson"])
def test_mean_density_is_that_of_the_law(draw, scheme):
    pi = DistanceLaw.harmonic().inclusion(12, 0.4)
    rng, draws = np.random.default_rng(1), 2000
    kept = np.mean([draw(pi, rng, scheme) for _ in range(draws)], axis=0)
    p = att.by_distance(pi)
    assert (np.abs(kept - p) <= 6 * np.sqrt(p * (1 - p) / draws) + 1e-12).all()


def test_a_subsequence_is_causal_attention_among_the_chosen():
    pi = DistanceLaw.harmonic().weights(9)
    kept = att.sample_subsequence(pi, np.random.default_rng(0))
    chosen = np.diagonal(kept)
    assert chosen[-1]
    assert not chosen.all()
    np.testing.assert_array_equal(kept, np.tril(np.outer(chosen, chosen)).astype(bool))


def test_skew_is_its_own_inverse_and_keeps_the_triangle():
    t = np.tril(np.random.default_rng(0).normal(size=(6, 6)))
    turned = att.skew(t)
    np.testing.assert_array_equal(att.skew(turned), t)
    for i in range(6):
        assert [turned[i, d] for d in range(i + 1)] == [t[i, i - d] for d in range(i + 1)]
    np.testing.assert_array_equal(np.triu(turned, 1), 0)


def test_radial_bands_keep_as_many_distances_a_doubling():
    for width in (1, 2, 3):
        kept = np.flatnonzero(att.radial_distances(64, width))
        for band in range(1, 4):
            start = width << band
            assert ((kept >= start) & (kept < 2 * start)).sum() == width


def test_always_kept_and_density():
    assert att.always_kept(4).astype(int)[3].tolist() == [1, 0, 1, 1], "a sink and a neighbor"
    kept = att.always_kept(6, sink=2, near=0)
    expected = np.tril(np.ones((6, 6)))
    expected[2:, 2:] = np.eye(4)
    np.testing.assert_array_equal(kept, expected.astype(bool))
    assert att.kept_density(kept) == pytest.approx(expected.sum() / 21)
    assert att.kept_density(np.tril(np.ones((6, 6), dtype=bool))) == 1


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: att.systematic([0.5, 1.5], np.random.default_rng()), "pi must be probabilities"),
        (lambda: att.systematic([np.nan], np.random.default_rng()), "pi must be probabilities"),
        (lambda: att.sample_blocks(np.ones((2, 2)), np.random.default_rng()), "0 above"),
        (lambda: att.left_justify(np.ones((2, 2), bool)), "nothing above the diagonal"),
        (lambda: att.kept_density([[0.5]]), "kept must be True or False"),
        (lambda: att.kept_density(np.ones((2, 3), bool)), "kept must have the shape"),
        (lambda: att.always_kept(3, sink=-1), "sink must be at least 0, got -1"),
        (lambda: att.sample_distances([1.0], np.random.default_rng(), "bag"), "scheme must be"),  # type: ignore[arg-type]
    ],
)
def test_refusals(call, words):
    with pytest.raises(ValueError, match=words):
        call()


def test_a_weight_is_the_log_of_one_over_the_probability_of_the_distance():
    rng = np.random.default_rng(7)
    pi = np.array([1.0, 0.5, 0.2, 0.8])
    kept = np.tril(rng.random((4, 4)) < 0.6) | np.eye(4, dtype=bool)
    found = att.log_weights(kept, pi)
    for i, j in np.ndindex(4, 4):
        assert found[i, j] == pytest.approx(-np.log(pi[i - j]) if kept[i, j] else -np.inf)
