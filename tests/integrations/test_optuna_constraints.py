"""Constraints through Optuna, beside its own samplers."""

import math
import pickle

import numpy as np
import optuna
import pytest
from optuna.samplers import TPESampler
from optuna.trial import TrialState
from oracles.several import constrained
from oracles.studies import METHODS

from genopt_core.integrations.optuna import CrossEntropySampler

optuna.logging.set_verbosity(optuna.logging.WARNING)


def search(sampler, objective, objectives, trials):
    study = optuna.create_study(directions=["minimize"] * objectives, sampler=sampler)
    study.optimize(objective, n_trials=trials)
    return study


@pytest.mark.parametrize("method", ["plus", "posterior"])
def test_more_feasible_trials_than_tpe_and_posterior_a_better_value(method):
    """A ring and a category that is allowed in a corner only; "plus" is behind TPE in value."""

    def outcome(sampler):
        study = search(sampler, constrained, 1, 60)
        allowed = [t for t in study.trials if all(c <= 0 for c in t.constraints.values())]
        assert study.best_trial in allowed
        return len(allowed), study.best_value

    ours = [outcome(CrossEntropySampler(method=method, seed=s)) for s in range(4)]
    peers = [outcome(TPESampler(seed=s, multivariate=True)) for s in range(4)]
    print(f"\n{method} {ours}, TPE {peers}", end="")
    assert np.mean(ours, 0)[0] >= np.mean(peers, 0)[0]
    if method == "posterior":
        assert np.mean(ours, 0)[1] < np.mean(peers, 0)[1]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("objectives", [1, 2])
def test_a_function_of_trials_constrains_as_the_objective_itself_does(method, objectives):
    """Stored as Optuna's samplers do, so that it knows best trials and plots; pickles."""

    def free(trial):
        x = trial.suggest_float("x", 0, 1)
        return x if objectives == 1 else (x, -x * x)

    def inside(trial):
        found = free(trial)
        trial.set_constraint("0", 0.6 - trial.params["x"])
        return found

    def distance(trial):
        return (0.6 - trial.params["x"],)

    sampler = CrossEntropySampler(method=method, seed=1, constraints_func=distance)
    one = search(sampler, free, objectives, 30)
    two = search(CrossEntropySampler(method=method, seed=1), inside, objectives, 30)
    assert [t.params for t in one.trials] == [t.params for t in two.trials]
    assert [t.constraints for t in one.trials] == [t.constraints for t in two.trials]
    assert all(t.params["x"] >= 0.6 for t in one.best_trials)
    late = [t.params["x"] >= 0.6 for t in one.trials[15:]]
    assert np.mean(late) > 0.6
    core = one.sampler.search(one)
    assert {t.number for t in core.front} == {t.number for t in one.best_trials}
    assert pickle.loads(pickle.dumps(CrossEntropySampler(constraints_func=abs))).constraints_func


@pytest.mark.parametrize("method", METHODS)
def test_a_trial_that_breaks_a_constraint_is_never_best_however_good(method):
    def tempting(trial):
        x = trial.suggest_float("x", 0, 1)
        trial.set_constraint("half", x - 0.5)
        return -x

    study = search(CrossEntropySampler(method=method, seed=5), tempting, 1, 40)
    core = study.sampler.search(study)
    assert core.best.number == study.best_trial.number
    assert core.best.params["x"] <= 0.5
    assert core.recommend().violation == 0
    assert study.best_value < -0.45


@pytest.mark.parametrize("method", METHODS)
def test_where_nothing_is_feasible_the_least_violation_is_looked_for(method):
    def hopeless(trial):
        x, y = trial.suggest_float("x", -1, 1), trial.suggest_float("y", -1, 1)
        trial.set_constraint("never", 0.1 + (x - 0.5) ** 2 + (y + 0.5) ** 2)
        return -x

    study = search(CrossEntropySampler(method=method, seed=2), hopeless, 1, 50)
    reached = [t.constraints["never"] for t in study.trials]
    assert min(reached) < (0.2 if method == "plain" else 0.13)
    core = study.sampler.search(study)
    assert core.front == []
    assert core.best.violation == min(reached)
    if method != "plain":
        assert core.recommend() == core.best


@pytest.mark.parametrize("method", METHODS)
def test_an_infinite_constraint_is_as_bad_as_can_be_and_ends_nothing(method):
    def steep(trial):
        x = trial.suggest_float("x", 0, 1)
        trial.set_constraint("steep", math.inf if x > 0.9 else x - 0.5)
        return -x

    study = search(CrossEntropySampler(method=method, seed=3), steep, 1, 40)
    assert all(t.state == TrialState.COMPLETE for t in study.trials)
    assert 0.4 < study.best_trial.params["x"] <= 0.5


def test_constraints_that_are_missing_or_no_numbers():
    """A trial that does not tell counts as feasible, as for Optuna; NaN is refused."""

    def forgetful(trial):
        x = trial.suggest_float("x", 0, 1)
        if trial.number % 2:
            trial.set_constraint("even", x - 0.5)
        return -x

    study = search(CrossEntropySampler(seed=1), forgetful, 1, 20)
    assert study.sampler.search(study).best.number == study.best_trial.number
    sampler = CrossEntropySampler(seed=1, constraints_func=lambda trial: (math.nan,))
    with pytest.raises(ValueError, match="constraints_func must return numbers, got"):
        search(sampler, lambda t: t.suggest_float("x", 0, 1), 1, 1)
