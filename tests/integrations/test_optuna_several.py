"""Several objectives through Optuna, beside its own sampler for them."""

import math

import numpy as np
import optuna
import pytest
from optuna.samplers import NSGAIISampler
from optuna.trial import TrialState
from oracles.several import dtlz2, zdt1
from oracles.studies import METHODS

from genopt_core.cross_entropy.pareto import hypervolume
from genopt_core.integrations.optuna import CrossEntropySampler

optuna.logging.set_verbosity(optuna.logging.WARNING)


def volume(study, reference):
    """The hypervolume of a study whose objectives are all minimized."""
    return hypervolume(np.array([t.values for t in study.trials]), np.array(reference))


def search(sampler, objective, objectives, trials):
    study = optuna.create_study(directions=["minimize"] * objectives, sampler=sampler)
    study.optimize(objective, n_trials=trials)
    return study


@pytest.mark.parametrize(
    ("objective", "reference"),
    [(zdt1, [1.1, 6.0]), (dtlz2, [2.5, 2.5, 2.5])],
    ids=["zdt1", "dtlz2"],
)
def test_more_hypervolume_than_nsga2_at_an_equal_budget(objective, reference):
    """60 trials, two seeds fixed beforehand; NSGA-II with generations of 20, which suit 60."""
    seeds, m = (0, 1), len(reference)
    peers = [search(NSGAIISampler(seed=s, population_size=20), objective, m, 60) for s in seeds]
    reached = np.mean([volume(study, reference) for study in peers])
    print(f"\nNSGA-II {reached:.3f}", end="")
    for method in ("plus", "posterior"):
        ours = [search(CrossEntropySampler(method=method, seed=s), objective, m, 60) for s in seeds]
        found = np.mean([volume(study, reference) for study in ours])
        print(f", {method} {found:.3f}", end="")
        assert found > reached


@pytest.mark.parametrize("method", METHODS)
def test_maximize_prune_fail_and_infinite_with_two_objectives(method):
    """Directions differ; failures and one infinite value end nothing."""

    def moody(trial):
        x = trial.suggest_float("x", 0, 1)
        kind = trial.suggest_categorical("kind", ["a", "b"])
        if trial.number % 7 == 3:
            raise ZeroDivisionError
        if trial.number % 7 == 5:
            return math.inf, 0.0
        return x, x * (1 - x / 4) - (kind == "a")  # a front from 0 to 1, b is better

    study = optuna.create_study(
        directions=["minimize", "maximize"], sampler=CrossEntropySampler(method=method, seed=1)
    )
    study.optimize(moody, n_trials=45, catch=(ZeroDivisionError,))
    assert len(study.trials) == 45
    late = [t.params["kind"] for t in study.trials[20:]]
    assert late.count("b") > len(late) / 2
    core = study.sampler.search(study)
    wanted = {t.number for t in study.best_trials if math.isfinite(t.values[0])}
    assert {t.number for t in core.front} == wanted
    assert [g.level for g in study.sampler.history(study)] == [None] * 3
    assert study.sampler.distribution(study)["kind"][1] > 0.5


@pytest.mark.parametrize("method", METHODS)
def test_minimizing_two_is_maximizing_their_negatives(method):
    down = search(CrossEntropySampler(method=method, seed=3), zdt1, 2, 30)
    up = optuna.create_study(
        directions=["maximize", "maximize"], sampler=CrossEntropySampler(method=method, seed=3)
    )
    up.optimize(lambda t: tuple(-v for v in zdt1(t)), n_trials=30)
    assert [t.params for t in up.trials] == [t.params for t in down.trials]


def test_two_objectives_in_four_threads_and_from_a_resumed_study():
    study = optuna.create_study(
        directions=["minimize"] * 2, sampler=CrossEntropySampler(method="posterior", seed=2)
    )
    study.optimize(zdt1, n_trials=24, n_jobs=4)
    assert all(t.state == TrialState.COMPLETE for t in study.trials)
    assert len({tuple(t.params.values()) for t in study.trials}) == 24
    whole = search(CrossEntropySampler(method="posterior", seed=2), zdt1, 2, 26)
    cut = search(CrossEntropySampler(method="posterior", seed=2), zdt1, 2, 20)
    cut.sampler = CrossEntropySampler(method="posterior", seed=2)
    cut.optimize(zdt1, n_trials=6)
    assert [t.params for t in cut.trials] == [t.params for t in whole.trials]
