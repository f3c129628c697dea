"""Simulated drift against its law, and against a generation drawn by hand."""

import numpy as np
import pytest

from genopt_core.cross_entropy import drift_law
from genopt_core.cross_entropy.drift import drift_runs
from genopt_core.cross_entropy.plain import elite_set, elite_size

RUNS, CHOICES, GENERATIONS = 20, 8, 24


def test_drift_runs_follow_the_law():
    rng = np.random.default_rng(0)
    runs = drift_runs(2000, CHOICES, 20, 5, 0.7, GENERATIONS, rng)
    diversity = (1 - (runs**2).sum(axis=2)).mean(axis=0)
    law = drift_law(CHOICES, 5, 0.7, GENERATIONS)
    assert diversity[:8] == pytest.approx(law[:8], rel=0.04)
    assert runs.sum(axis=2) == pytest.approx(np.ones(runs.shape[:2]))
    sloped = drift_runs(RUNS, CHOICES, 20, 5, 0.7, GENERATIONS, rng, sloped=True)
    # at the first step the elite of 20 uniform draws is the five smallest
    assert sloped[:, 1, 0].mean() > 0.3
    assert (sloped[:, -1].argmax(axis=1) == 0).mean() > 0.8


def test_sloped_elites_are_the_smallest_of_the_draw():
    seed = [0, 3, 12, 50, True]
    drawn = np.random.default_rng(seed).multinomial(12, np.full((RUNS, CHOICES), 1 / CHOICES))
    rng = np.random.default_rng(seed)
    first = drift_runs(RUNS, CHOICES, 12, 3, 0.5, 1, rng, sloped=True)[:, 1]
    for row, p in zip(drawn, first, strict=True):
        values = np.repeat(np.arange(CHOICES), row)[:3]
        want = 0.5 / CHOICES + 0.5 * np.bincount(values, minlength=CHOICES) / 3
        assert p == pytest.approx(want)


@pytest.mark.parametrize("fraction", [0.1, 0.25, 0.5, 1.0])
@pytest.mark.parametrize("population", [2, 10, 20, 77])
def test_elite_size_is_that_of_the_elite_set(population, fraction):
    scores = np.arange(population, dtype=float)
    assert len(elite_set(scores, fraction)) == elite_size(population, fraction)
