"""The best of many noisy scores."""

import numpy as np
import pytest

from genopt_core.cross_entropy.noise import noisy_choice, posterior_means


def test_posterior_means_without_noise_are_the_values_and_with_much_the_mean():
    rng = np.random.default_rng(0)
    cells, values = rng.integers(0, 4, (12, 3)), rng.normal(size=12)
    cells = np.unique(cells, axis=0)
    values = values[: len(cells)]
    assert posterior_means(cells, values, 0.0) == pytest.approx(values, abs=1e-3)
    flat = posterior_means(cells, values, 50.0)
    assert flat == pytest.approx(np.full(len(cells), values.mean()), abs=0.01)


def test_posterior_means_are_the_best_linear_prediction():
    """Against the formula with an inverse, the kernel entry by entry."""
    rng = np.random.default_rng(1)
    cells, values, noise = rng.integers(0, 3, (7, 2)), rng.normal(size=7), 0.3
    variance = max(values.var() - noise**2, 1e-4)
    kernel = np.empty((7, 7))
    for i in range(7):
        for j in range(7):
            near = [0.5 ** abs(int(a) - int(b)) for a, b in zip(cells[i], cells[j], strict=True)]
            kernel[i, j] = variance * (sum(near) / 2 + near[0] * near[1]) / 2
    weights = np.linalg.inv(kernel + noise**2 * np.eye(7)) @ (values - values.mean())
    assert posterior_means(cells, values, noise) == pytest.approx(values.mean() + kernel @ weights)


def test_the_best_observed_claims_too_much_and_the_posterior_gains():
    scores = np.add.outer(np.linspace(0, 0.3, 6), np.linspace(0, 0.3, 6))
    rng = np.random.default_rng(0)
    found = [noisy_choice(scores, 30, 0.1, rng) for _ in range(100)]
    for one in found:
        assert one.observed[one.best_observed] == one.observed.max()
        assert set(one.truth.tolist()) <= set(scores.ravel().tolist())
        assert len(one.truth) == 30
    claim, has, posterior = np.mean([one.outcome for one in found], axis=0)
    assert claim > has + 0.05
    assert posterior > has
    quiet = noisy_choice(scores, 20, 0.0, rng).outcome
    assert quiet[0] == quiet[1] == pytest.approx(quiet[2], abs=1e-3)


def test_bad_arguments_are_named():
    scores, rng = np.zeros((2, 2)), np.random.default_rng(0)
    for draws in (0, True, 2.5):
        with pytest.raises((TypeError, ValueError), match="draws"):
            noisy_choice(scores, draws, 0.1, rng)
    with pytest.raises(ValueError, match="noise"):
        noisy_choice(scores, 2, float("nan"), rng)
