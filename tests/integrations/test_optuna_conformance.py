"""Optuna's own tests for samplers, run on ours: ranges, steps, log, conditions, NaN, n_jobs."""

import optuna
import pytest
from optuna.testing import pytest_samplers
from oracles.studies import METHODS

from genopt_core.integrations.optuna import CrossEntropySampler

optuna.logging.set_verbosity(optuna.logging.WARNING)


@pytest.mark.parametrize("method", METHODS)
class TestConformance(
    pytest_samplers.BasicSamplerTestCase,
    pytest_samplers.RelativeSamplerTestCase,
    pytest_samplers.MultiObjectiveSamplerTestCase,
):
    @pytest.fixture
    def sampler(self, method):
        return lambda: CrossEntropySampler(method=method, seed=1)
