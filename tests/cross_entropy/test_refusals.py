"""Parameters, spaces and records that are refused."""

import math

import pytest

from genopt_core.cross_entropy import (
    Categorical,
    Float,
    Integer,
    SearchSpace,
    TabularObjective,
    dynamic_smoothing,
    elite_moments,
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
