"""What a function accepts at a bound, refuses beyond it, and assumes where nothing is given."""

import inspect

import pytest


def accepts_and_refuses(call, inside, outside, words):
    """``call`` takes every value of ``inside`` and refuses all of ``outside`` in these words."""
    for value in inside:
        call(value)
    for value in outside:
        with pytest.raises(ValueError, match=words):
            call(value)


def numbers_assumed(function):
    """The defaults of a signature that are numbers, by name."""
    given = inspect.signature(function).parameters.items()
    return {n: p.default for n, p in given if isinstance(p.default, int | float)}
