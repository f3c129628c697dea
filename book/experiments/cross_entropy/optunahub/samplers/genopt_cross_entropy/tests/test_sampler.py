"""What the registry runs: the package loads, searches, and passes Optuna's own tests."""

import optuna
import optunahub
import pytest
from optuna.testing import pytest_samplers

CrossEntropySampler = optunahub.load_local_module(
    package="samplers/genopt_cross_entropy", registry_root="package/"
).CrossEntropySampler


class TestCrossEntropySampler(
    pytest_samplers.BasicSamplerTestCase,
    pytest_samplers.RelativeSamplerTestCase,
    pytest_samplers.MultiObjectiveSamplerTestCase,
):
    """Ranges, steps, logarithms, conditions, NaN, several objectives."""

    @pytest.fixture
    def sampler(self):
        """A fresh sampler at each call."""
        return lambda: CrossEntropySampler(method="plus", seed=1)


def test_it_finds_the_least() -> None:
    """Forty trials are enough for a parabola."""
    study = optuna.create_study(sampler=CrossEntropySampler(method="plus", seed=1))
    study.optimize(lambda trial: trial.suggest_float("x", -1, 1) ** 2, n_trials=40)
    assert study.best_value < 0.01
