"""The Optuna sampler: resume, killed workers, parallel workers, conditional spaces, odd input."""

import contextlib
import math
import sqlite3
import time
import warnings
from pathlib import Path

import numpy as np
import optuna
import pytest
from optuna.distributions import BaseDistribution, IntDistribution
from optuna.trial import TrialState, create_trial
from oracles.processes import finish, start
from oracles.studies import METHODS, branches, dice, objective, run, run_all, storage

from genopt_core.cross_entropy import Categorical, CrossEntropy, Float, Integer, SearchSpace
from genopt_core.integrations.optuna import CrossEntropySampler, infer_space, parameter

optuna.logging.set_verbosity(optuna.logging.WARNING)


# ------------------------------------------------------------------ storages


def test_a_study_cut_in_three_is_the_whole_study(in_memory):
    """17 + 1 + 32 trials in three processes on a journal are bit for bit the 50 of one."""
    for total in (17, 18, 50):
        finish(start(run_all, f"{in_memory}/cut-", total))
    for method in METHODS:
        whole = optuna.create_study(sampler=CrossEntropySampler(method=method, seed=3))
        whole.optimize(objective, n_trials=50)
        cut = optuna.load_study(
            study_name="s", storage=storage("journal", f"{in_memory}/cut-{method}")
        )
        assert [t.params for t in cut.trials] == [t.params for t in whole.trials]
        assert [t.values for t in cut.trials] == [t.values for t in whole.trials]


def wait_for(state):
    deadline = time.monotonic() + 240
    while not state():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def beats(path, number):
    """Whether a trial of an Optuna database has told that it lives."""
    with contextlib.closing(sqlite3.connect(path, timeout=60)) as database:
        found = database.execute(
            "select count(*) from trial_heartbeats join trials using (trial_id) where number = ?",
            (number,),
        )
        return found.fetchone()[0] == 1


@pytest.mark.parametrize("kind", ["journal", "sqlite"])
def test_a_killed_worker_loses_its_own_trial_only(kind, in_memory):
    """SIGKILL in the middle of trial 12; another process finishes the search."""
    path = in_memory / "store"
    victim = start(run, "plus", kind, path, 30, 12)
    wait_for(lambda: Path(f"{path}.hangs").exists())
    kept = storage(kind, path)
    if kind == "sqlite":  # a trial that never had a heartbeat is not missed
        wait_for(lambda: beats(path, 12))
    assert victim.is_alive(), "the worker ended by itself"
    victim.kill()
    victim.join()
    if kind == "sqlite":
        study = kept.get_study_id_from_name("s")
        wait_for(lambda: kept._get_stale_trial_ids(study))
    finish(start(run, "plus", kind, path, 30))
    trials = optuna.load_study(study_name="s", storage=storage(kind, path)).trials
    assert [t.number for t in trials if t.state == TrialState.COMPLETE] == [
        n for n in range(31) if n != 12
    ]
    left = TrialState.FAIL if kind == "sqlite" else TrialState.RUNNING
    assert trials[12].state == left
    configurations = {tuple(t.params.values()) for t in trials}
    assert len(configurations) == 31, "nothing was proposed twice"


def test_one_sampler_in_two_studies_keeps_them_apart():
    """Number and parameters of the first trials are the same in both, what came of them is not."""
    shared, found = CrossEntropySampler(method="plus", seed=4), []
    for sign in (1, -1):
        for sampler in (shared, CrossEntropySampler(method="plus", seed=4)):
            study = optuna.create_study(sampler=sampler)
            study.optimize(lambda t, sign=sign: sign * dice(t), n_trials=30)
            found.append([t.params for t in study.trials])
    assert found[0] == found[1]
    assert found[2] == found[3]
    other = optuna.create_study(sampler=shared)  # the same number of trials, another space
    other.add_trials(
        create_trial(value=float(i), params={"x": i}, distributions={"x": IntDistribution(0, 99)})
        for i in range(30)
    )
    assert set(shared.distribution(other)) == {"x"}


def test_the_space_is_that_of_all_trials_though_only_new_ones_are_looked_at():
    sampler = CrossEntropySampler(method="plus", seed=1)
    study = optuna.create_study(sampler=sampler)
    for objective_of, trials in ((dice, 12), (branches, 12), (dice, 3), (branches, 12)):
        study.optimize(objective_of, n_trials=trials)
        assert sampler._infer(study) == infer_space(study.trials)


def test_a_twin_that_another_worker_proposed_meanwhile_is_given_up():
    """Both asked before either proposal could be seen: here the other one is written in between."""
    sampler = CrossEntropySampler(method="plus", seed=2)
    study = optuna.create_study(sampler=sampler)
    study.optimize(lambda t: t.suggest_int("a", 0, 9) + t.suggest_int("b", 0, 9), n_trials=20)
    number = len(study.trials)
    alone = optuna.create_study(sampler=CrossEntropySampler(method="plus", seed=2))
    alone.add_trials(study.trials)
    twin = alone.ask()
    wanted = {"a": twin.suggest_int("a", 0, 9), "b": twin.suggest_int("b", 0, 9)}
    before = sampler._running
    calls = []

    def blind(*arguments):
        calls.append(arguments)
        return [] if len(calls) == 1 else before(*arguments)

    sampler._running = blind
    study.enqueue_trial(wanted)
    other = study.ask()  # the enqueued one, number 20
    assert other.number == number
    other.suggest_int("a", 0, 9), other.suggest_int("b", 0, 9)
    calls.clear()
    mine = study.ask()
    assert {"a": mine.suggest_int("a", 0, 9), "b": mine.suggest_int("b", 0, 9)} != wanted


def test_a_twin_that_another_worker_has_finished_meanwhile_is_given_up():
    """It was not there when trials were read, and no longer running when proposals were."""
    sampler = CrossEntropySampler(method="plus", seed=2)
    study = optuna.create_study(sampler=sampler)
    study.optimize(lambda t: t.suggest_int("a", 0, 9) + t.suggest_int("b", 0, 9), n_trials=20)
    alone = optuna.create_study(sampler=CrossEntropySampler(method="plus", seed=2))
    alone.add_trials(study.trials)
    twin = alone.ask()
    wanted = {"a": twin.suggest_int("a", 0, 9), "b": twin.suggest_int("b", 0, 9)}
    before, done = sampler._running, []

    def late(*arguments):
        found = before(*arguments)
        if not done:
            done.append(True)
            study.add_trial(
                create_trial(value=3.0, params=wanted, distributions=study.trials[0].distributions)
            )
        return found

    sampler._running = late
    mine = study.ask()
    assert {"a": mine.suggest_int("a", 0, 9), "b": mine.suggest_int("b", 0, 9)} != wanted


def test_samplers_travel_between_processes():
    import pickle

    study = optuna.create_study(sampler=CrossEntropySampler(method="plus", seed=5))
    study.optimize(objective, n_trials=15)
    there = pickle.loads(pickle.dumps(study.sampler))
    again = optuna.create_study(sampler=there)
    again.add_trials(study.trials)
    one, two = study.ask(), again.ask()
    objective(one), objective(two)
    assert one.params == two.params


# ------------------------------------------------------------------ define by run


def test_conditions_are_inferred_from_the_trials():
    study = optuna.create_study(sampler=CrossEntropySampler(method="plus", seed=1))
    study.optimize(branches, n_trials=40)
    space = {name: own for name, (_, own) in infer_space(study.trials).items()}
    assert space.pop("kind").when is None
    conditions = {name: own.when for name, own in space.items()}
    expected = {"c": ["svm"], "depth": ["forest"], "layers": ["network"]}
    assert conditions == {name: {"kind": kinds} for name, kinds in expected.items()}
    for trial in study.trials:
        assert len(trial.params) == 2


@pytest.mark.parametrize("method", METHODS)
def test_conditional_searches_find_the_right_branch(method):
    found = []
    for seed in range(2):
        study = optuna.create_study(sampler=CrossEntropySampler(method=method, seed=seed))
        study.optimize(branches, n_trials=60)
        found.append(study.best_value)
    assert min(found) == pytest.approx(0.4, abs=0.06)
    assert set(study.sampler.distribution(study)) == {"kind", "c", "depth", "layers"}


def test_a_range_that_changes_and_a_part_without_a_reason_are_drawn_alone():
    def changing(trial):
        n = trial.number
        x = trial.suggest_int("x", 0, 5 + n % 2)
        if n % 3 == 0:  # by no parameter's value
            trial.suggest_float("y", 0, 1)
        return x + trial.suggest_float("z", 0, 1)

    for method in METHODS:
        study = optuna.create_study(sampler=CrossEntropySampler(method=method, seed=1))
        study.optimize(changing, n_trials=30)
        assert set(infer_space(study.trials)) == {"z"}
        assert all(t.state == TrialState.COMPLETE for t in study.trials)


# ------------------------------------------------------------------ no configuration twice


@pytest.mark.parametrize("method", METHODS)
def test_avoiding_repeats_tries_all_of_a_small_space_before_it_says_that_nothing_is_new(method):
    """Six configurations, 40 trials, a parameter of one value, a failure: nothing comes twice."""

    def small(trial):
        trial.suggest_float("fixed", 1.0, 1.0)
        value = trial.suggest_categorical("a", [0, 1, 2]) - trial.suggest_int("b", 0, 1)
        if trial.number == 2:
            raise ZeroDivisionError
        return value

    study = optuna.create_study(
        sampler=CrossEntropySampler(method=method, seed=1, avoid_repeats=True)
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        study.optimize(small, n_trials=6, catch=(ZeroDivisionError,))
    assert len({tuple(t.params.items()) for t in study.trials}) == 6
    with pytest.warns(UserWarning, match="all 6 configurations have been tried") as caught:
        study.optimize(small, n_trials=34)
    assert len(caught) == 1
    assert len(study.trials) == 40


# ------------------------------------------------------------------ what Optuna may hand over


@pytest.mark.parametrize("method", METHODS)
def test_maximize_prune_fail_enqueue(method):
    def moody(trial):
        x = trial.suggest_float("x", -1, 1)
        trial.suggest_float("fixed", 2.0, 2.0)
        step = trial.suggest_float("step", 0, 1, step=0.1)
        trial.report(x, 0)
        if trial.number % 7 == 3:
            raise optuna.TrialPruned
        if trial.number % 7 == 5:
            return math.nan
        if trial.number % 7 == 6:
            raise ZeroDivisionError
        return -((x - 0.5) ** 2) - step

    study = optuna.create_study(
        direction="maximize", sampler=CrossEntropySampler(method=method, seed=1)
    )
    study.enqueue_trial({"x": 0.25, "step": 0.3})
    study.optimize(moody, n_trials=60, catch=(ZeroDivisionError,))
    assert len(study.trials) == 60
    assert study.trials[0].params["x"] == 0.25
    assert study.best_value > (-0.35 if method == "plain" else -0.12)
    history = study.sampler.history(study)
    assert len(history) == 4
    assert history[-1].level >= history[1].level - 0.5


def test_a_failure_that_was_repeated_with_success_does_not_count():
    distributions: dict[str, BaseDistribution] = {"x": optuna.distributions.IntDistribution(0, 9)}
    study = optuna.create_study(sampler=CrossEntropySampler(method="plus", seed=1))
    for x, state in ((1, TrialState.FAIL), (2, TrialState.FAIL), (1, TrialState.COMPLETE)):
        value = 1.0 if state == TrialState.COMPLETE else None
        study.add_trial(
            create_trial(state=state, value=value, params={"x": x}, distributions=distributions)
        )
    search = study.sampler.search(study)
    assert [(t.params["x"], t.state) for t in search.trials] == [(2, "failed"), (1, "complete")]


def test_the_sampler_is_the_search():
    """A study's distribution and history are those of `CrossEntropy` told the same trials."""
    study = optuna.create_study(sampler=CrossEntropySampler(method="plain", seed=9))
    study.optimize(objective, n_trials=45)
    space = SearchSpace(
        {
            "rate": Float(1e-5, 1e-1, log=True),
            "units": Integer(8, 512, log=True),
            "window": Integer(1, 10),
            "kind": Categorical(["sgd", "adam", "rms", None]),
        }
    )
    search = CrossEntropy(space, "plain", seed=9)
    for trial in study.sampler.search(study).trials:
        search.tell(trial, trial.value)
    np.testing.assert_equal(study.sampler.distribution(study), search.distribution())
    assert len(study.sampler.history(study)) == 3


def test_bad_input():
    with pytest.raises(ValueError, match="method must be"):
        CrossEntropySampler(method="best")
    with pytest.raises(TypeError, match="comes from the study"):
        CrossEntropySampler(direction="maximize")
    with pytest.raises(TypeError, match="constraints_func must be callable"):
        CrossEntropySampler(constraints_func=[0.0])
    with pytest.raises(TypeError, match="unexpected"):
        CrossEntropySampler(color=3)
    with pytest.raises(ValueError, match="distribution must be"):
        parameter(None)
    empty = optuna.create_study(sampler=CrossEntropySampler(seed=1))
    with pytest.raises(ValueError, match="no finished trial"):
        empty.sampler.distribution(empty)
    empty.optimize(lambda t: 1.0, n_trials=3)  # no parameters at all
    assert len(empty.trials) == 3


def test_without_a_seed_two_samplers_differ():
    assert CrossEntropySampler().seed != CrossEntropySampler().seed
