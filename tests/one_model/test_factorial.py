"""Effects against differences of means, and Student's numbers against SciPy's."""

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from genopt_core.one_model import factorial as ft


@pytest.mark.parametrize("factors", [1, 2, 3, 5])
def test_effects_are_differences_of_means(factors):
    y = np.random.default_rng(factors).normal(size=(2,) * factors)
    found = ft.yates(y)
    for chosen in itertools.product((0, 1), repeat=factors):
        plus, minus = [], []
        for at in itertools.product((0, 1), repeat=factors):
            off = sum(c and not x for c, x in zip(chosen, at, strict=True))
            (minus if off % 2 else plus).append(y[at])
        half = y.size / 2
        assert found[chosen] == pytest.approx((sum(plus) - sum(minus)) / half)


def test_effects_give_the_values_back():
    y = np.random.default_rng(0).normal(size=(2, 2, 2))
    effects = ft.yates(y)
    for at in np.ndindex(2, 2, 2):
        signs = [
            math.prod(2 * a - 1 for a, c in zip(at, s, strict=True) if c)
            for s in np.ndindex(2, 2, 2)
        ]
        assert y[at] == pytest.approx(np.dot(signs, effects.ravel()) / 2)


def test_every_effect_has_a_name_and_single_ones_come_first():
    named = ft.effect_names(["a", "b", "c"])
    assert [n for _, n in named] == ["a", "b", "c", "a × b", "a × c", "b × c", "a × b × c"]
    assert {at for at, _ in named} == set(np.ndindex(2, 2, 2)) - {(0, 0, 0)}


@pytest.mark.parametrize("count", [1, 2, 31])
def test_half_normal_places_are_quantiles(count):
    expected = stats.halfnorm.ppf((np.arange(count) + 0.5) / count)
    assert ft.half_normal(count) == pytest.approx(expected)


@pytest.mark.parametrize("freedom", [1, 2, 3, 4, 5, 9, 10, 30])
def test_p_is_that_of_student(freedom):
    for t in (0.0, 0.1, -1.0, 2.5, 7.0, 60.0):
        expected = 2 * stats.t.sf(abs(t), freedom)
        assert ft.student_p(t, freedom) == pytest.approx(expected, rel=1e-6, abs=1e-13)


@pytest.mark.parametrize("count", [2, 3, 5, 8])
def test_intervals_are_those_of_scipy(count):
    y = np.random.default_rng(count).normal(0.3, 1, size=count)
    test = stats.ttest_1samp(y, 0.0)
    found = ft.student_interval(list(y))
    low, high = test.confidence_interval()
    assert (found.mean - found.half, found.mean + found.half) == pytest.approx((low, high))
    assert found.p == pytest.approx(test.pvalue)


def test_one_value_has_no_interval_and_equal_ones_no_width():
    assert ft.student_interval([2.0]).mean == 2.0
    assert math.isnan(ft.student_interval([2.0]).half)
    assert ft.student_interval([2.0, 2.0]) == (2.0, 0.0, 0.0)
    assert ft.student_interval([0.0, 0.0]) == (0.0, 0.0, 1.0)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: ft.yates([1.0, 2.0, 3.0]), r"axis of length 2 for each switch, got \(3,\)"),
        (lambda: ft.yates(1.0), r"axis of length 2 for each switch, got \(\)"),
        (lambda: ft.half_normal(0), "count must be at least 1, got 0"),
        (lambda: ft.student_p(1.0, 0), "freedom must be at least 1, got 0"),
        (lambda: ft.student_interval([]), "values must be at least one, got none"),
        (lambda: ft.student_interval([1.0], 1.0), r"level must be in \(0, 1\), got 1.0"),
    ],
)
def test_what_cannot_be_is_refused_by_name(call, says):
    with pytest.raises(ValueError, match=says):
        call()
