r"""The parameters of a search: categories, integers, real numbers, each with an encoding.

A search sees a parameter as one coordinate ``z``: the code of a category, the index of an ordered
level, or a position in [0, 1) on a linear or logarithmic scale.  Every coordinate is also cut into
cells, on which the search keeps probabilities: one a category or level, `REAL_CELLS` equal ones for
a real number.
"""

import contextlib
import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from genopt_core import checks

Array = np.ndarray
Kind = Literal["category", "level", "real"]

REAL_CELLS = 32
"""Cells of a real coordinate, equal on its (logarithmic) scale."""
MOST_LEVELS = 64
"""Integers and steps of more values than this are treated as real numbers and rounded."""


def _condition(when: Any, name: str) -> None:
    if when is not None and (not isinstance(when, Mapping) or not when):
        raise TypeError(
            f"{name}.when must be a mapping of a parameter's name to the value or values for "
            f"which this one exists, got {when!r}"
        )


def _bounds(name: str, low: Any, high: Any, log: bool) -> None:
    for label, bound in (("low", low), ("high", high)):
        checks.real(bound, f"{name}.{label}")
    if low > high:
        raise ValueError(f"{name}: low must be at most high, got low={low!r} and high={high!r}")
    if not math.isfinite(float(high) - float(low)):
        raise ValueError(f"{name}: high - low must be finite, got low={low!r} and high={high!r}")
    if log and low <= 0:
        raise ValueError(f"{name}: low must be above 0 on a log scale, got {low!r}")


def same(a: Any, b: Any) -> bool:
    """Whether two choices are the same: True is not 1, and NaN is NaN if it is the same object."""
    return a is b or (type(a) is type(b) and bool(a == b))


@dataclass(frozen=True)
class Categorical:
    """One of several values.

    Parameters
    ----------
    choices : sequence
        The values, all different.  One alone is allowed.
    ordered : bool
        Whether neighbors in the list are alike, as in ``[2, 3, 5, 10]``.
    when : mapping, optional
        Names of other parameters and the value (or collection of values) of each for which this
        parameter exists.

    Examples
    --------
    >>> Categorical(["cbow", "skipgram"]).decode(1)
    'skipgram'
    >>> method = Categorical(["cbow", "skipgram"])
    >>> method.encode("skipgram"), method.code(0), method.label(0), method.snap([1]).tolist()
    (1.0, 0.0, 'cbow', [1.0])
    """

    choices: tuple[Any, ...]
    ordered: bool = False
    when: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        if isinstance(self.choices, str) or not isinstance(self.choices, Collection):
            raise TypeError(f"choices must be a sequence of values, got {self.choices!r}")
        object.__setattr__(self, "choices", tuple(self.choices))
        if not self.choices:
            raise ValueError("choices must contain at least one value, got none")
        for i, a in enumerate(self.choices):
            if any(same(a, b) for b in self.choices[:i]):
                raise ValueError(f"choices must be different, got {a!r} twice")
        index = {}
        with contextlib.suppress(TypeError):  # choices need not be hashable
            index = {(type(choice), choice): float(i) for i, choice in enumerate(self.choices)}
        object.__setattr__(self, "_index", index)
        _condition(self.when, "Categorical")

    @property
    def kind(self) -> Kind:
        """Whether the order of the choices means something."""
        return "level" if self.ordered else "category"

    @property
    def cells(self) -> int:
        """The number of choices."""
        return len(self.choices)

    @property
    def levels(self) -> int:
        """The number of choices."""
        return len(self.choices)

    def encode(self, value: Any) -> float:
        """The index of a choice."""
        with contextlib.suppress(TypeError, KeyError):
            return float(self.__dict__["_index"][type(value), value])
        for i, choice in enumerate(self.choices):
            if same(choice, value):
                return float(i)
        for i, choice in enumerate(self.choices):  # 1 for 1.0, a NumPy number for a Python one
            if not isinstance(value, bool) and not isinstance(choice, bool) and choice == value:
                return float(i)
        raise ValueError(f"must be one of {', '.join(map(repr, self.choices))}, got {value!r}")

    def decode(self, z: float) -> Any:
        """The choice of an index."""
        return self.choices[int(z)]

    def snap(self, z: Array) -> Array:
        """The coordinates that values have, of ``z`` (…): here they are indices already."""
        return np.asarray(z, float)

    def code(self, index: int) -> float:
        """The coordinate of the choice of an index."""
        return float(index)

    def label(self, cell: int) -> str:
        """A cell in words."""
        return str(self.choices[cell])


class _Number:
    """What `Integer` and `Float` share: a scale from low to high, and a grid on it if stepped."""

    low: Any
    high: Any
    log: bool
    step: Any
    _pad = 0.0  # how far the scale reaches beyond the bounds, in values

    def __hash__(self) -> int:
        return hash((type(self), self.low, self.high, self.log, self.step))

    def _levels(self) -> int | None:
        if self.low == self.high:
            return 1
        if self.step is None:
            return None
        return math.floor((self.high - self.low) / self.step + 1e-9) + 1

    @property
    def kind(self) -> Kind:
        """Levels if there are at most `MOST_LEVELS` of them on a linear scale, else real."""
        n = self._levels()
        return "level" if n == 1 or (n and n <= MOST_LEVELS and not self.log) else "real"

    @property
    def cells(self) -> int:
        """The number of levels, or of equal cells of a real coordinate."""
        return self.levels if self.kind == "level" else REAL_CELLS

    @property
    def continuous(self) -> bool:
        """Whether no two draws of it ever agree."""
        return self._levels() is None

    def _scale(self) -> tuple[float, float]:
        low, high = self.low - self._pad, self.high + self._pad
        return (math.log(low), math.log(high)) if self.log else (float(low), float(high))

    def encode(self, value: Any) -> float:
        """The level's index, or the position on the scale, in [0, 1)."""
        if isinstance(value, bool) or not isinstance(value, int | float | np.number):
            raise ValueError(f"must be a number in [{self.low}, {self.high}], got {value!r}")
        slack = 1e-9 * max(abs(self.low), abs(self.high))
        if not self.low - slack <= value <= self.high + slack:
            raise ValueError(f"must be in [{self.low}, {self.high}], got {value!r}")
        if self.kind == "level":
            return 0.0 if self.low == self.high else float(round((value - self.low) / self.step))
        low, high = self._scale()
        t = math.log(value) if self.log else float(value)
        return min(max((t - low) / (high - low), 0.0), 1.0 - 1e-12)

    def _value(self, z: Array) -> Array:
        """The numbers of coordinates, on the grid and inside the bounds."""
        if self.kind == "level":
            v = self.low + np.asarray(z, float) * (self.step or 0)
        else:
            low, high = self._scale()
            v = low + np.asarray(z, float) * (high - low)
            v = np.exp(v) if self.log else v
            if self.step is not None:
                v = self.low + np.round((v - self.low) / self.step) * self.step
        top = self.high if self.step is None else self.low + (self._levels() - 1) * self.step  # type: ignore[operator]
        return np.clip(
            v, float(self.low), float(min(top, self.high))
        )  # -10.2 + 204 * 0.1 is above 10.2

    def snap(self, z: Array) -> Array:
        """The coordinates of the values that ``z`` stands for after rounding."""
        z = np.asarray(z, float)
        if self.kind == "level" or self.step is None:
            return z
        v, (low, high) = self._value(z), self._scale()
        return np.clip(((np.log(v) if self.log else v) - low) / (high - low), 0.0, 1.0 - 1e-12)

    @property
    def levels(self) -> int:
        """The number of values, of what is not continuous."""
        n = self._levels()
        assert n is not None
        return n

    def code(self, index: int) -> float:
        """The coordinate of the value of an index, counted from ``low``."""
        if self.kind == "level":
            return float(index)
        value = min(self.low + index * self.step, self.high)
        return float(self.snap(np.array(self.encode(value))))

    def label(self, cell: int) -> str:
        """A cell in words: the value of the level, or of the cell's middle."""
        z = cell if self.kind == "level" else (cell + 0.5) / self.cells
        return f"{float(self._value(np.array(z))):.3g}"


@dataclass(frozen=True, eq=True)
class Integer(_Number):
    """A whole number from ``low`` to ``high``, both included.

    Parameters
    ----------
    low, high : int
    log : bool
        Whether ratios matter and not differences; ``low`` must then be above 0.
    step : int
        Distance of neighboring values; 1 on a log scale.
    when : mapping, optional
        As for `Categorical`.

    Examples
    --------
    >>> Integer(2, 10, step=4).decode(1)
    6
    >>> Integer(1, 1000, log=True).decode(0.5)
    22
    """

    low: int
    high: int
    log: bool = False
    step: int = 1
    when: Mapping[str, Any] | None = None

    __hash__ = _Number.__hash__

    def __post_init__(self) -> None:
        for label, least in (("low", -(2**63)), ("high", -(2**63)), ("step", 1)):
            checks.whole(getattr(self, label), f"Integer.{label}", least)
        _bounds("Integer", self.low, self.high, self.log)
        if self.log and self.step != 1:
            raise ValueError(f"Integer.step must be 1 on a log scale, got {self.step!r}")
        _condition(self.when, "Integer")

    @property
    def _pad(self) -> float:  # type: ignore[override]
        return 0.5 * self.step  # every value gets a full interval of the scale

    def decode(self, z: float) -> int:
        """The whole number of a coordinate."""
        # an end of more than 53 bits may have been rounded beyond itself
        return min(max(round(float(self._value(np.array(z)))), self.low), self.high)


@dataclass(frozen=True, eq=True)
class Float(_Number):
    """A real number from ``low`` to ``high``, both included.

    Parameters
    ----------
    low, high : float
    log : bool
        Whether ratios matter and not differences; ``low`` must then be above 0.
    step : float, optional
        Distance of neighboring values, counted from ``low``; not on a log scale.
    when : mapping, optional
        As for `Categorical`.

    Examples
    --------
    >>> round(Float(1e-4, 1e-2, log=True).decode(0.5), 6)
    0.001
    """

    low: float
    high: float
    log: bool = False
    step: float | None = None
    when: Mapping[str, Any] | None = None

    __hash__ = _Number.__hash__

    def __post_init__(self) -> None:
        _bounds("Float", self.low, self.high, self.log)
        if self.step is not None:
            if self.log:
                raise ValueError(f"Float.step must be None on a log scale, got {self.step!r}")
            if not 0 < self.step < math.inf:
                raise ValueError(f"Float.step must be above 0, got {self.step!r}")
        _condition(self.when, "Float")

    def decode(self, z: float) -> float:
        """The real number of a coordinate."""
        return float(self._value(np.array(z)))


Parameter = Categorical | Integer | Float
