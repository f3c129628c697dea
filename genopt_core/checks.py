"""Checks of arguments that every room makes, with one wording.

A message names the argument, what would be accepted and what came: "k must be at least 1, got 0".
"""

import contextlib
import math
import operator
from collections.abc import Iterator
from typing import Any

import numpy as np


def whole(value: Any, name: str, least: int = 1) -> int:
    """``value`` as an int of at least ``least``, whatever integer type it came in.

    Raises ``TypeError`` if it is no whole number, ``ValueError`` if it is too small.

    >>> whole(np.int64(3), "k")
    3
    >>> whole(0, "k")
    Traceback (most recent call last):
    ValueError: k must be at least 1, got 0
    """
    if isinstance(value, bool | np.bool_):
        raise TypeError(f"{name} must be a whole number, got {value!r}")
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{name} must be a whole number, got {value!r}") from None
    if number < least:
        raise ValueError(f"{name} must be at least {least}, got {number}")
    return number


def real(value: Any, name: str) -> float:
    """``value`` as a finite float.

    Raises ``TypeError`` if it is no number, ``ValueError`` if it is not finite.
    """
    if isinstance(value, bool | np.bool_) or not isinstance(value, int | float | np.number):
        raise TypeError(f"{name} must be a number, got {value!r}")
    try:
        number = float(value)
    except OverflowError:  # of an int
        number = math.inf
    if not math.isfinite(number):
        raise ValueError(f"{name} must be finite, got {value!r}")
    return number


def generator(value: Any, name: str = "rng") -> np.random.Generator:
    """``value`` if it is a NumPy generator, else a ``TypeError``.

    >>> generator(5)
    Traceback (most recent call last):
    TypeError: rng must be a numpy.random.Generator, got 5
    """
    if not isinstance(value, np.random.Generator):
        raise TypeError(f"{name} must be a numpy.random.Generator, got {value!r}")
    return value


def fraction(value: Any, name: str, *, zero: bool = False) -> float:
    """``value`` as a float in (0, 1], or in [0, 1] with ``zero``; errors as in `real`."""
    number = real(value, name)
    if not (0 < number <= 1 or (number == 0 and zero)):
        raise ValueError(f"{name} must be in {'[' if zero else '('}0, 1], got {value!r}")
    return number


def open_fraction(value: Any, name: str) -> float:
    """``value`` as a float in (0, 1), both ends left out; errors as in `real`.

    >>> open_fraction(1, "eps")
    Traceback (most recent call last):
    ValueError: eps must be in (0, 1), got 1
    """
    number = real(value, name)
    if not 0 < number < 1:
        raise ValueError(f"{name} must be in (0, 1), got {value!r}")
    return number


def positive(value: Any, name: str) -> float:
    """``value`` as a finite float above 0; errors as in `real`.

    >>> positive(0.0, "scale")
    Traceback (most recent call last):
    ValueError: scale must be above 0, got 0.0
    """
    number = real(value, name)
    if number <= 0:
        raise ValueError(f"{name} must be above 0, got {value!r}")
    return number


def one_of(value: Any, name: str, accepted: Any) -> Any:
    """``value`` if it is one of ``accepted``, else a ``ValueError`` that lists them."""
    accepted = tuple(accepted)
    if not any(value is a or (type(value) is type(a) and value == a) for a in accepted):
        raise ValueError(f"{name} must be one of {', '.join(map(repr, accepted))}, got {value!r}")
    return value


@contextlib.contextmanager
def extra(name: str) -> Iterator[None]:
    """A block that imports what the extra ``name`` of the package brings, and says so if it fails.

    >>> with extra("notebook"):
    ...     import no_such_package
    Traceback (most recent call last):
    ModuleNotFoundError: no_such_package is not installed: pip install "./genopt_core[notebook]" ...
    """
    try:
        yield
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f'{error.name} is not installed: pip install "./genopt_core[{name}]" in the book\'s '
            "repository brings it",
            name=error.name,
        ) from None
