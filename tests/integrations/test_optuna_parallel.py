"""Many workers on one study: nothing is proposed twice."""

import optuna
from oracles import processes, studies

from genopt_core.integrations.optuna import CrossEntropySampler


def test_two_thousand_parallel_trials_propose_nothing_twice():
    """20 CPU seconds, six threads; the searches' own test has the same through `minimize`."""
    study = optuna.create_study(sampler=CrossEntropySampler(method="plus", seed=2))
    study.optimize(studies.dice, n_trials=2000, n_jobs=6)
    assert len({tuple(t.params.values()) for t in study.trials}) == len(study.trials) == 2000
    assert study.best_value <= 2


def test_two_processes_on_one_storage_propose_nothing_twice(in_memory):
    path = in_memory / "store"
    processes.finish(*(processes.start(studies.roll, path, 80) for _ in range(2)))
    trials = optuna.load_study(study_name="s", storage=studies.storage("journal", path)).trials
    assert len({tuple(t.params.values()) for t in trials}) == len(trials) == 160
