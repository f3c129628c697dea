r"""Controls of explorers: what can be set, to what, and what each setting is checked against.

The same declaration makes the slider of a notebook, the one of the built page and the check of a
call; :func:`genopt_core.figures.registry.frames` sweeps over :meth:`Control.values`.

>>> size = Slider("size", "pieces", low=2, high=8, start=4)
>>> size.values()
[2, 3, 4, 5, 6, 7, 8]
>>> size.check(9)
Traceback (most recent call last):
...
ValueError: size=9 must be between 2 and 8
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Choice", "Control", "Seed", "Slider", "Step", "Text", "Toggle"]


@dataclass(frozen=True)
class Control:
    """What all controls have: the argument's ``name``, a ``label`` and one line of ``help``."""

    name: str
    label: str
    help: str = field(default="", kw_only=True)
    kind = "control"

    @property
    def default(self) -> Any:
        raise NotImplementedError

    def values(self) -> list[Any]:
        """The settings that frames offer, in order."""
        raise NotImplementedError

    def check(self, value: Any) -> Any:
        """``value`` in the control's own type; ``ValueError`` or ``TypeError`` if it cannot be."""
        raise NotImplementedError

    def to_json(self) -> dict[str, Any]:
        out = {"kind": self.kind, "name": self.name, "label": self.label}
        if self.help:
            out["help"] = self.help
        return out | {"default": self.default, "values": self.values()}


def _number(control: Control, value: Any, whole: bool) -> float | int:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{control.name}={value!r} must be a number")
    if not math.isfinite(value):
        raise ValueError(f"{control.name}={value!r} must be finite")
    if whole and value != int(value):
        raise ValueError(f"{control.name}={value!r} must be a whole number")
    return int(value) if whole else float(value)


@dataclass(frozen=True)
class Slider(Control):
    """A number between ``low`` and ``high``; whole if ``low``, ``high`` and ``step`` are.

    ``scale="log"`` spaces the slider by ratios: then ``step`` is the number of positions per
    decade.  ``grid`` names the positions for which frames exist, where all would be too many.
    """

    low: float
    high: float
    start: float
    step: float = field(default=1, kw_only=True)
    unit: str = field(default="", kw_only=True)
    scale: str = field(default="linear", kw_only=True)
    grid: Sequence[float] | None = field(default=None, kw_only=True)
    kind = "slider"

    def __post_init__(self) -> None:
        if not self.low <= self.start <= self.high or self.step <= 0:
            raise ValueError(f"{self.name}: low <= start <= high and step > 0 are needed")
        if self.scale not in ("linear", "log") or (self.scale == "log" and self.low <= 0):
            raise ValueError(f"{self.name}: scale is 'linear', or 'log' with low > 0")
        if self.start not in self.values():
            raise ValueError(f"{self.name}: start={self.start} is not one of {self.values()}")

    @property
    def whole(self) -> bool:
        return all(isinstance(v, int) for v in (self.low, self.high, self.step, self.start))

    @property
    def default(self) -> float:
        return self.start

    def values(self) -> list[Any]:
        if self.grid is not None:
            return list(self.grid)
        if self.scale == "log":
            count = round(math.log10(self.high / self.low) * self.step)
            raw = [self.low * (self.high / self.low) ** (i / count) for i in range(count + 1)]
            return [float(f"{v:.3g}") for v in raw]
        count = round((self.high - self.low) / self.step)
        points = [self.low + i * self.step for i in range(count + 1)]
        return points if self.whole else [round(v, 10) for v in points]

    def check(self, value: Any) -> float:
        number = _number(self, value, self.whole)
        if not self.low <= number <= self.high:
            raise ValueError(f"{self.name}={value!r} must be between {self.low} and {self.high}")
        return number

    def to_json(self) -> dict[str, Any]:
        out = super().to_json() | {"low": self.low, "high": self.high, "step": self.step}
        out |= {"whole": self.whole, "scale": self.scale}
        return out | ({"unit": self.unit} if self.unit else {})


@dataclass(frozen=True)
class Choice(Control):
    """One of ``options``: a list of values, or a mapping from value to what the reader sees."""

    options: Sequence[Any] | Mapping[Any, str]
    start: Any = None
    kind = "choice"

    @property
    def default(self) -> Any:
        return self.values()[0] if self.start is None else self.start

    def values(self) -> list[Any]:
        return list(self.options)

    def check(self, value: Any) -> Any:
        for option in self.values():
            if value == option and isinstance(value, str) == isinstance(option, str):
                return option
        raise ValueError(f"{self.name}={value!r} is not one of {self.values()}")

    def to_json(self) -> dict[str, Any]:
        shown = self.options if isinstance(self.options, Mapping) else {}
        labels = [str(shown.get(value, value)) for value in self.values()]
        return super().to_json() | {"labels": labels}


@dataclass(frozen=True)
class Toggle(Control):
    """On or off."""

    start: bool = False
    kind = "toggle"

    @property
    def default(self) -> bool:
        return self.start

    def values(self) -> list[Any]:
        return [False, True]

    def check(self, value: Any) -> bool:
        if not isinstance(value, bool):
            raise TypeError(f"{self.name}={value!r} must be True or False")
        return value


@dataclass(frozen=True)
class Text(Control):
    """The reader's own text.  Frames exist for ``samples`` only; live engines take any."""

    samples: Sequence[str]
    max_length: int = field(default=40, kw_only=True)
    kind = "text"

    @property
    def default(self) -> str:
        return self.samples[0]

    def values(self) -> list[Any]:
        return list(self.samples)

    def check(self, value: Any) -> str:
        if not isinstance(value, str):
            raise TypeError(f"{self.name}={value!r} must be text")
        if not value.strip():
            raise ValueError(f"{self.name} is empty: type at least one character")
        if len(value) > self.max_length:
            raise ValueError(
                f"{self.name} has {len(value)} characters, at most {self.max_length} fit the figure"
            )
        return value

    def to_json(self) -> dict[str, Any]:
        return super().to_json() | {"max_length": self.max_length}


@dataclass(frozen=True)
class Seed(Control):
    """The seed of a random generator: the same seed, the same picture."""

    count: int = 8
    kind = "seed"

    @property
    def default(self) -> int:
        return 0

    def values(self) -> list[Any]:
        return list(range(self.count))

    def check(self, value: Any) -> int:
        number = _number(self, value, whole=True)
        if number < 0:
            raise ValueError(f"{self.name}={value!r} must be 0 or more")
        return int(number)


@dataclass(frozen=True)
class Step(Control):
    """A whole number that the reader walks through, one step at a time or playing."""

    low: int
    high: int
    start: int = 0
    interval_ms: int = field(default=700, kw_only=True)
    kind = "step"

    @property
    def default(self) -> int:
        return self.start

    def values(self) -> list[Any]:
        return list(range(self.low, self.high + 1))

    def check(self, value: Any) -> int:
        number = int(_number(self, value, whole=True))
        if not self.low <= number <= self.high:
            raise ValueError(f"{self.name}={value!r} must be between {self.low} and {self.high}")
        return number

    def to_json(self) -> dict[str, Any]:
        return super().to_json() | {
            "low": self.low,
            "high": self.high,
            "interval_ms": self.interval_ms,
        }
