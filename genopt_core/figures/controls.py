"""Controls of explorers: what can be set, to what, and what each setting is checked against.

The same declaration makes the slider of a notebook, the one of the built page and the check of a
call; `genopt_core.figures.frames.frames` sweeps over `Control.values`.

>>> size = Slider("size", "tokens", low=2, high=8, start=4)
>>> size.values()
[2, 3, 4, 5, 6, 7, 8]
>>> size.check(9)
Traceback (most recent call last):
ValueError: size must be between 2 and 8, got 9
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from genopt_core.checks import one_of, real
from genopt_core.figures.style import ROLES


@dataclass(frozen=True)
class Control:
    """What all controls have: the argument's ``name``, a ``label`` and one line of ``help``.

    ``role`` is that of the series, line or mark which it moves: it has the color of that.

    >>> slider = Slider("x", "X", 1, 3, start=2, step=1)
    >>> slider.check(3), slider.values(), slider.to_json()["kind"]
    (3, [1, 2, 3], 'slider')
    """

    name: str
    label: str
    help: str = field(default="", kw_only=True)
    role: str = field(default="", kw_only=True)

    def __post_init__(self) -> None:
        one_of(self.role, "role", ("", *ROLES))
        if self.default not in self.values():
            raise ValueError(
                f"start of {self.name} must be one of {self.values()}, got {self.default!r}"
            )

    @property
    def kind(self) -> str:
        """The class, in lower case: how the front end draws it."""
        return type(self).__name__.lower()

    @property
    def default(self) -> Any:
        """Where the control stands before anybody moves it: ``start``, where it has one."""
        return getattr(self, "start", self.values()[0])

    @property
    def free(self) -> bool:
        """Whether there are settings without frames, which only a live engine can show."""
        return False

    def values(self) -> list[Any]:
        """The settings that frames offer, in order; ``NotImplementedError`` without a kind."""
        raise NotImplementedError

    def check(self, value: Any) -> Any:
        """``value`` in the control's own type; ``ValueError`` or ``TypeError`` if it cannot be.

        Raises ``NotImplementedError`` without a kind.
        """
        raise NotImplementedError

    def to_json(self) -> dict[str, Any]:
        """What the front end reads."""
        out = {"kind": self.kind, "name": self.name, "label": self.label}
        if self.help:
            out["help"] = self.help
        if self.role:
            out["role"] = self.role
        return out | {"default": self.default, "values": self.values()}

    def _whole(self, value: Any) -> int:
        """``value`` as an int; a browser's numbers are whole where they have no decimals."""
        number = real(value, self.name)
        if number != int(number):
            raise ValueError(f"{self.name} must be a whole number, got {value!r}")
        return int(value)


@dataclass(frozen=True)
class _Range(Control):
    """A number between ``low`` and ``high``."""

    low: float
    high: float
    start: float = 0

    @property
    def whole(self) -> bool:
        return True

    def check(self, value: Any) -> float:
        number = self._whole(value) if self.whole else real(value, self.name)
        if not self.low <= number <= self.high:
            raise ValueError(
                f"{self.name} must be between {self.low} and {self.high}, got {value!r}"
            )
        return number

    def to_json(self) -> dict[str, Any]:
        return super().to_json() | {"low": self.low, "high": self.high}


@dataclass(frozen=True)
class Slider(_Range):
    """A number between ``low`` and ``high``; whole if ``low``, ``high`` and ``step`` are.

    ``scale="log"`` spaces the slider by ratios: then ``step`` is the number of positions per
    decade.  ``grid`` names the positions for which frames exist, where all would be too many.

    >>> Slider("p", "Share", 0.0, 1.0, start=0.5, step=0.25).values()
    [0.0, 0.25, 0.5, 0.75, 1.0]
    """

    step: float = field(default=1, kw_only=True)
    unit: str = field(default="", kw_only=True)
    scale: str = field(default="linear", kw_only=True)
    grid: Sequence[float] | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        if self.step <= 0:
            raise ValueError(f"step of {self.name} must be positive, got {self.step}")
        if one_of(self.scale, "scale", ("linear", "log")) == "log" and self.low <= 0:
            raise ValueError(f"low of {self.name} must be positive on a log scale, got {self.low}")
        super().__post_init__()

    @property
    def whole(self) -> bool:
        """Whether it counts in whole numbers."""
        return all(isinstance(v, int) for v in (self.low, self.high, self.step, self.start))

    @property
    def free(self) -> bool:
        """Whether a live engine takes more settings than there are frames for."""
        return not self.whole or not set(self._positions()) <= set(self.values())

    def values(self) -> list[Any]:
        return self._positions() if self.grid is None else list(self.grid)

    def _positions(self) -> list[Any]:
        if self.scale == "log":
            count = round(math.log10(self.high / self.low) * self.step)
            raw = [self.low * (self.high / self.low) ** (i / count) for i in range(count + 1)]
            return [float(f"{v:.3g}") for v in raw]
        count = round((self.high - self.low) / self.step)
        points = [self.low + i * self.step for i in range(count + 1)]
        return points if self.whole else [round(v, 10) for v in points]

    def to_json(self) -> dict[str, Any]:
        """What the front end reads, step, scale and unit included."""
        out = super().to_json() | {"step": self.step, "whole": self.whole, "scale": self.scale}
        return out | ({"unit": self.unit} if self.unit else {})


@dataclass(frozen=True)
class Step(_Range):
    """A whole number that the reader walks through, one step at a time or playing.

    >>> Step("t", "Step", 0, 3, start=0).values()
    [0, 1, 2, 3]
    """

    interval_ms: int = field(default=700, kw_only=True)

    def values(self) -> list[Any]:
        return list(range(int(self.low), int(self.high) + 1))

    def to_json(self) -> dict[str, Any]:
        """What the front end reads, the pace of playing included."""
        return super().to_json() | {"interval_ms": self.interval_ms}


@dataclass(frozen=True)
class Seed(Control):
    """The seed of a random generator: the same seed, the same picture.

    >>> Seed("seed", "Seed", count=3).values()
    [0, 1, 2]
    """

    count: int = 8

    @property
    def free(self) -> bool:
        """Always, as a live engine takes any seed."""
        return True

    def values(self) -> list[Any]:
        return list(range(self.count))

    def check(self, value: Any) -> int:
        number = self._whole(value)
        if number < 0:
            raise ValueError(f"{self.name} must be at least 0, got {value!r}")
        return number


@dataclass(frozen=True)
class Choice(Control):
    """One of ``options``: a list of values, or a mapping from value to what the reader sees.

    Without ``start`` it stands at the first.

    >>> loss = Choice("loss", "Loss", {"hs": "hierarchical", "ns": "negative"})
    >>> loss.check("ns"), loss.default, loss.to_json()["labels"]
    ('ns', 'hs', ['hierarchical', 'negative'])
    """

    options: Sequence[Any] | Mapping[Any, str]
    start: Any = None

    @property
    def default(self) -> Any:
        """Where it stands at first."""
        return self.values()[0] if self.start is None else self.start

    def values(self) -> list[Any]:
        return list(self.options)

    def check(self, value: Any) -> Any:
        for option in self.values():
            # the 1 of a browser may be the 1.0 of the options, but never the "1"
            if value == option and isinstance(value, str) == isinstance(option, str):
                return option
        raise ValueError(f"{self.name} must be one of {self.values()}, got {value!r}")

    def to_json(self) -> dict[str, Any]:
        """What the front end reads, labels included."""
        shown = self.options if isinstance(self.options, Mapping) else {}
        labels = [str(shown.get(value, value)) for value in self.values()]
        return super().to_json() | {"labels": labels}


@dataclass(frozen=True)
class Toggle(Control):
    """On or off.

    >>> Toggle("sink", "Sink").values()
    [False, True]
    """

    start: bool = False

    def values(self) -> list[Any]:
        return [False, True]

    def check(self, value: Any) -> bool:
        if not isinstance(value, bool):
            raise TypeError(f"{self.name} must be True or False, got {value!r}")
        return value


@dataclass(frozen=True)
class Text(Control):
    """The reader's own text.  Frames exist for ``samples`` only; live engines take any.

    >>> Text("word", "Word", ["low", "lower"]).check("lowest")
    'lowest'
    """

    samples: Sequence[str]
    max_length: int = field(default=40, kw_only=True)

    @property
    def free(self) -> bool:
        """Always, as a live engine takes any text."""
        return True

    def values(self) -> list[Any]:
        return list(self.samples)

    def check(self, value: Any) -> str:
        if not isinstance(value, str):
            raise TypeError(f"{self.name} must be text, got {value!r}")
        if not value.strip():
            raise ValueError(f"{self.name} must have at least one character, got {value!r}")
        if len(value) > self.max_length:
            raise ValueError(
                f"{self.name} must have at most {self.max_length} characters, got {len(value)}"
            )
        return value

    def to_json(self) -> dict[str, Any]:
        """What the front end reads."""
        return super().to_json() | {"max_length": self.max_length}
