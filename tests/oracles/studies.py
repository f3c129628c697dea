"""Objectives, storages and worker processes for the tests of the Optuna sampler."""

import math
import time
from pathlib import Path

import optuna
from optuna.storages import JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from genopt_core.integrations.optuna import CrossEntropySampler

optuna.logging.set_verbosity(optuna.logging.WARNING)
METHODS = ("plain", "plus", "posterior")


def storage(kind, path):
    if kind == "journal":
        return JournalStorage(JournalFileBackend(str(path)))
    return RDBStorage(
        f"sqlite:///{path}",
        heartbeat_interval=1,
        grace_period=2,
        engine_kwargs={"connect_args": {"timeout": 60}},
    )


def objective(trial):
    rate = trial.suggest_float("rate", 1e-5, 1e-1, log=True)
    units = trial.suggest_int("units", 8, 512, log=True)
    window = trial.suggest_int("window", 1, 10)
    kind = trial.suggest_categorical("kind", ["sgd", "adam", "rms", None])
    return (
        (math.log10(rate) + 3) ** 2
        + (math.log2(units) - 6) ** 2 / 4
        + (window - 4) ** 2 / 9
        + {"sgd": 1, "adam": 0, "rms": 0.5, None: 2}[kind]
    )


def branches(trial):
    kind = trial.suggest_categorical("kind", ["svm", "forest", "network"])
    if kind == "svm":
        return 0.6 + (trial.suggest_float("c", -3, 3) - 1) ** 2 / 10
    if kind == "forest":
        return 0.55 + abs(trial.suggest_int("depth", 1, 30) - 12) / 30
    return 0.4 + abs(trial.suggest_int("layers", 1, 8) - 3) / 20


def run(method, kind, path, total, hang_at=-1):
    """A worker: goes on with the study until so many trials are complete."""

    def hanging(trial):
        value = objective(trial)
        if trial.number == hang_at:
            Path(f"{path}.hangs").touch()
            time.sleep(600)
        return value

    study = optuna.create_study(
        study_name="s",
        storage=storage(kind, path),
        sampler=CrossEntropySampler(method=method, seed=3),
        load_if_exists=True,
    )
    complete = optuna.study.MaxTrialsCallback(total, states=(TrialState.COMPLETE,))
    study.optimize(hanging, callbacks=[complete])


def dice(trial):
    """160,000 configurations, so that 2,000 trials crowd only around the best of them."""
    return sum((trial.suggest_int(name, 0, 19) - 7) ** 2 for name in "wxyz")


def run_all(path, total):
    """A study of each method, on journals."""
    for method in METHODS:
        run(method, "journal", f"{path}{method}", total)


def roll(path, trials):
    """A worker of a study on a journal that others work on too."""
    study = optuna.create_study(
        study_name="s",
        storage=storage("journal", path),
        sampler=CrossEntropySampler(method="plus", seed=2),
        load_if_exists=True,
    )
    study.optimize(dice, n_trials=trials)
