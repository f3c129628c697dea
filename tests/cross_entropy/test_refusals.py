"""Parameters, spaces and records that are refused."""

import math
import subprocess
import sys

import numpy as np
import pytest

from genopt_core.cross_entropy import (
    Categorical,
    CrossEntropy,
    Float,
    Integer,
    SearchSpace,
    TabularObjective,
    dynamic_smoothing,
    elite_moments,
    rare_event,
)
from genopt_core.cross_entropy.regret import normalised_regret
from genopt_core.cross_entropy.table_search import search_table


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (
            lambda: elite_moments([1.0, math.nan]),
            ValueError,
            "values must be finite, got",
        ),
        (
            lambda: elite_moments([1.0, math.inf]),
            ValueError,
            "values must be finite, got",
        ),
        (
            lambda: dynamic_smoothing(2, math.nan, 5),
            ValueError,
            "beta must be finite, got nan",
        ),
        (
            lambda: dynamic_smoothing(2, 0.9, math.nan),
            ValueError,
            "exponent must be finite, got nan",
        ),
        (
            lambda: Categorical([1, 2], when=[("x", 1)]),
            TypeError,
            "when must be a mapping",
        ),
        (
            lambda: Integer(1, 9, log=True, step=2),
            ValueError,
            "Integer.step must be 1 on a log scale",
        ),
        (
            lambda: Float(1, 9, log=True, step=2),
            ValueError,
            "Float.step must be None on a log scale",
        ),
        (
            lambda: normalised_regret(1.0, 1.0, 1.0),
            ValueError,
            "median must be above best",
        ),
        (
            lambda: normalised_regret(0.0, 1.0, 2.0),
            ValueError,
            "value must be at least best",
        ),
        (
            lambda: SearchSpace([Categorical([1])]),
            TypeError,
            "parameters must be a mapping of names",
        ),
        (
            lambda: search_table(TabularObjective.load("word2vec_wikipedia"), "random", 2).best(
                0.0
            ),
            ValueError,
            "cpu_seconds must be at least",
        ),
    ],
)
def test_is_refused(call, error, words):
    with pytest.raises(error, match=words):
        call()


X = SearchSpace({"x": Float(0, 1)})


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: CrossEntropy(X).tell({"x": 0.1}, 0.3), TypeError, "trial must be a Trial, as"),
        (lambda: Integer(0, 10**400), ValueError, "Integer.high must be finite"),
        (lambda: Float(-1e308, 1e308), ValueError, "high - low must be finite, got low=-1e"),
        (
            lambda: rare_event(lambda x: x[:, 0], np.ones(1), 3.0, 5),
            TypeError,
            "rng must be a numpy.random.Generator, got 5",
        ),
        (
            lambda: rare_event(
                lambda x: np.where(x[:, 0] > 1, np.nan, 0),
                np.ones(1),
                3.0,
                np.random.default_rng(0),
            ),
            ValueError,
            "score must return numbers, got NaN for",
        ),
    ],
)
def test_what_a_search_is_handed(call, error, words):
    with pytest.raises(error, match=words):
        call()


@pytest.mark.parametrize("method", ["plain", "plus", "posterior"])
def test_whole_numbers_beyond_those_of_a_float(method):
    """No end is passed, though neither is a float."""
    wide = Integer(-(2**62) - 1, 2**70 + 1)
    assert wide.low <= wide.decode(0.0) <= wide.low + 1
    assert wide.decode(1.0 - 1e-12) <= wide.high
    search = CrossEntropy(SearchSpace({"n": wide, "m": Integer(1, 2**70 + 1, log=True)}), method)
    for _ in range(14):
        trial = search.ask()
        assert wide.low <= trial.params["n"] <= wide.high
        assert 1 <= trial.params["m"] <= 2**70 + 1
        search.tell(trial, float(trial.params["n"]))


WITHOUT_SCIPY = """
import sys, warnings
sys.modules["scipy"] = None
from genopt_core.cross_entropy import Float, SearchSpace, minimize
asked = []
def objective(params):
    asked.append(params)
    return params["x"] ** 2
space = SearchSpace({"x": Float(-1, 1)})
with warnings.catch_warnings(record=True) as told:
    warnings.simplefilter("always")
    for method in "plain", "plus":
        found = minimize(objective, space, 20, method=method)
        assert len(found.trials) == 20 and found.recommended is found.best
        found = minimize(objective, space, 20, method=method, confirm=2)
        assert len(found.confirmed) == 2
assert [str(w.message)[:5] for w in told] == ["scipy"] * 4, told
assert all("best observed trial" in str(w.message) for w in told)
assert {w.filename for w in told} == {"<string>"}
asked.clear()
try:
    minimize(objective, space, 20)
except ModuleNotFoundError as error:
    print(error)
assert not asked
"""


def test_without_scipy_nothing_is_evaluated_in_vain():
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_SCIPY], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert 'pip install "./genopt_core[search]"' in done.stdout
