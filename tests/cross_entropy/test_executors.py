"""The loop on executors that break, with seeds, and the winners that are confirmed."""

import math
import warnings
from concurrent.futures import BrokenExecutor, Future

import numpy as np
import pytest

from genopt_core.cross_entropy import (
    Categorical,
    CrossEntropy,
    Float,
    SearchSpace,
    Trial,
    minimize,
)
from genopt_core.cross_entropy.loop import _seeds, _winners, evaluate

SPACE = SearchSpace({"x": Float(0, 1)})
PLAIN = {"method": "plain", "deterministic": True}


def square(params):
    return params["x"] ** 2


class Here:
    """Runs at once; breaks at some submissions, or gives broken results at some."""

    def __init__(self, refuses=(), breaks=()):
        self.refuses, self.breaks, self.asked = set(refuses), set(breaks), 0
        self.futures = []

    def submit(self, function, *arguments):
        self.asked += 1
        if self.asked in self.refuses:
            raise BrokenExecutor("refused")
        future = Future()
        if self.asked in self.breaks:
            future.set_exception(BrokenExecutor("died"))
        else:
            try:
                future.set_result(function(*arguments))
            except Exception as error:
                future.set_exception(error)
        self.futures.append(future)
        return future


def test_an_executor_that_refuses_is_replaced_if_there_is_a_maker():
    wanted = minimize(square, SPACE, 5, **PLAIN).trials
    made = []

    def make():
        made.append(Here())
        return made[-1]

    found = minimize(square, SPACE, 5, Here(refuses=[3]), make_executor=make, **PLAIN)
    assert (found.trials, len(made), made[0].asked) == (wanted, 1, 3)
    assert minimize(square, SPACE, 5, make_executor=make, **PLAIN).trials == wanted
    assert made[1].asked == 5
    with pytest.raises(BrokenExecutor, match="refused"):
        minimize(square, SPACE, 5, Here(refuses=[3]), **PLAIN)
    with pytest.raises(BrokenExecutor, match="died"):
        minimize(square, SPACE, 5, Here(breaks=[3]), **PLAIN)


@pytest.mark.parametrize("retries", [0, 1, 2])
def test_so_often_a_trial_is_tried_again(retries):
    for breaks in (retries, retries + 1):
        executor = Here(breaks=range(2, 2 + breaks))
        found = minimize(square, SPACE, 4, executor, retries=retries, make_executor=Here, **PLAIN)
        assert executor.asked == 4 + min(breaks, retries)
        failed = {1: "BrokenExecutor: died"} if breaks > retries else {}
        assert found.errors == failed
        assert [t.state for t in found.trials].count("failed") == len(failed)


def test_what_is_under_way_when_a_search_stops_is_cancelled():
    class Slow(Here):
        def submit(self, function, *arguments):
            future = super().submit(function, *arguments)
            if self.asked > 12:
                self.futures[-1] = future = Future()
            return future

    executor = Slow()
    found = minimize(
        lambda p: 1.0, SPACE, 50, executor, batch_size=3, population_size=2, patience=5,
        method="plain",
    )  # fmt: skip
    assert "level has not changed" in found.stopped
    assert len(found.trials) == 12
    assert [f.cancelled() for f in executor.futures] == [False] * 12 + [True] * 2


def test_trials_are_asked_for_knowing_so_many_results():
    told = []

    def note(optimizer, trial):
        told.append(trial.number)

    asked = []

    class Noting(Here):
        def submit(self, function, *arguments):
            asked.append(len(told))
            return super().submit(function, *arguments)

    minimize(square, SPACE, 6, Noting(), batch_size=3, callback=note, **PLAIN)
    assert asked == [0, 0, 0, 1, 2, 3]
    assert told == [0, 1, 2, 3, 4, 5]


def test_confirmed_winners_have_a_mean_and_its_error():
    def noisy(params, seed):
        return params["c"] + (seed % 7) / 10

    space = SearchSpace({"c": Categorical([0, 1, 2])})
    for direction, order in (("minimize", [0, 1]), ("maximize", [2, 1])):
        found = minimize(
            noisy, space, 20, seeded=True, confirm=2, confirm_repeats=5, seed=4,
            direction=direction, patience=None, **PLAIN,
        )  # fmt: skip
        extra = np.array([s % 7 for s in _seeds(4, "confirm", 5)]) / 10
        assert [c.trial.params["c"] for c in found.confirmed] == order
        for one in found.confirmed:
            values = one.trial.params["c"] + extra
            assert one.values == tuple(values)
            assert one.mean == pytest.approx(values.mean())
            assert one.standard_error == pytest.approx(values.std(ddof=1) / math.sqrt(5))
        (seed,) = _seeds(4, "search", 1)
        assert all(t.value == t.params["c"] + seed % 7 / 10 for t in found.trials)
    once = minimize(noisy, space, 9, seeded=True, confirm=1, confirm_repeats=1, **PLAIN)
    assert math.isnan(once.confirmed[0].standard_error)
    usual = minimize(noisy, space, 9, seeded=True, confirm=1, **PLAIN)
    assert len(usual.confirmed[0].values) == 8


def test_a_winner_that_fails_on_a_fresh_seed_is_none():
    space = SearchSpace({"c": Categorical([0, 1, 2])})
    known = _seeds(0, "search", 2)

    def fails(params, seed):
        if params["c"] == 0 and seed not in known:
            raise RuntimeError("diverged")
        return float(params["c"])

    found = minimize(fails, space, 20, seeded=True, repeats=2, confirm=2, **PLAIN)
    assert [c.trial.params["c"] for c in found.confirmed] == [1]
    assert (found.recommended.params["c"], found.best.params["c"]) == (1, 0)
    winners = _winners(found.optimizer, found.optimizer.recommend(), 9)
    assert [t.params["c"] for t in winners] == [0, 1, 2]
    assert len(_winners(found.optimizer, found.optimizer.recommend(), 1)) == 1


def test_an_objective_is_evaluated_on_copies_and_averaged():
    def eats(params, seed=0):
        return params.pop("x") + seed

    params = {"x": 1}
    assert evaluate(eats, params, [None]) == 1
    assert evaluate(eats, params, [3]) == 4
    assert evaluate(eats, params, [None, None]) == 1.0
    assert evaluate(eats, params, [1, 2, 6]) == 4.0
    assert evaluate(lambda p: "text", params, [None]) == "text"


def test_what_went_wrong_is_said_where_minimize_was_called():
    for value, words in ((None, "returned None"), ("text", "ValueError: could not convert")):
        with pytest.warns(UserWarning, match=f"all 3 trials failed, the first: .*{words}") as said:
            minimize(lambda p, value=value: value, SPACE, 3, method="plain")
        assert said[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = minimize(square, SPACE, 2, trials=[Trial(0, {"x": 0.5}, 0.25, "complete")], **PLAIN)
    assert found.trials[0].value == 0.25
    assert len(found.trials) == 2


@pytest.mark.parametrize("batch_size", [1, 3])
def test_a_suggestion_knows_what_is_told_and_what_is_running(batch_size, monkeypatch):
    known = []
    usual = CrossEntropy.suggest

    def suggest(self, told, running, number):
        known.append(([t.number for t in told], [t.number for t in running], number))
        assert all(t.value is None and t.state == "running" for t in running)
        return usual(self, told, running, number)

    monkeypatch.setattr(CrossEntropy, "suggest", suggest)
    first = minimize(square, SPACE, 2, **PLAIN).trials
    known.clear()
    found = minimize(square, SPACE, 7, trials=first[::-1], batch_size=batch_size, **PLAIN)
    assert [t.number for t in found.trials] == list(range(7))
    for told, running, number in known:
        assert told == list(range(max(0, number - batch_size + 1)))
        assert running == list(range(len(told), number))
    assert [number for _, _, number in known] == [2, 3, 4, 5, 6]
