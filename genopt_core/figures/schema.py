r"""Figures as data: what an explorer computes, before anything is drawn.

A :class:`Figure` is one to four panels over a shared sentence, the *readout*.  A panel is a pair of
axes and a list of :class:`Mark`; a mark is a named set of equally long columns, as in a data frame,
plus a few constant options.  Nothing here knows about pixels: the front end draws the same
dictionary in a notebook, on the static page and in print, and a test reads the numbers off it.

Marks and the columns they need (every mark may also carry ``z``, the series an item belongs to,
which sets colour *and* dash or symbol, and ``tip``, the text of its tooltip):

========  ==============================  ========================================================
mark      columns                         options (beside ``opacity``)
========  ==============================  ========================================================
line      ``x y``                         ``width``, ``dash``, ``curve``, ``label``
area      ``x y1 y2``                     ``label``
dot       ``x y`` (``size``)              ``size``, ``symbol``, ``label``
bar       ``x y`` (``base``)              ``horizontal``, ``label``
cell      ``x y value`` (``text``)        ``label``
rect      ``x1 x2 y1 y2`` (``text``)      ``label``, ``outline``
rule      ``x`` or ``y``                  ``width``, ``dash``, ``label``
link      ``x1 y1 x2 y2`` (``width``)     ``width``, ``dash``, ``curve``, ``arrow``, ``label``
text      ``x y text``                    ``size``, ``anchor``, ``dx``, ``dy``, ``bold``
========  ==============================  ========================================================

``NaN`` in a coordinate is a gap.  Numbers are rounded to four significant digits when a figure is
turned into JSON, so that frames, kernels and browsers agree to the printed digit.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

__all__ = [
    "Axis",
    "Figure",
    "Mark",
    "Panel",
    "area",
    "bar",
    "cell",
    "dot",
    "line",
    "link",
    "rect",
    "rule",
    "text",
]

DIGITS = 4
ROLES = ("c1", "c2", "c3", "c4", "c5", "c6", "c7", "c8", "muted", "accent", "warn")
AXIS_TYPES = ("linear", "log", "symlog", "band")
LAYOUTS = ("stack", "row")

REQUIRED = {
    "line": ("x", "y"),
    "area": ("x", "y1", "y2"),
    "dot": ("x", "y"),
    "bar": ("x", "y"),
    "cell": ("x", "y", "value"),
    "rect": ("x1", "x2", "y1", "y2"),
    "rule": (),
    "link": ("x1", "y1", "x2", "y2"),
    "text": ("x", "y", "text"),
}
OPTIONAL = {
    "dot": ("size",),
    "bar": ("base",),
    "cell": ("text",),
    "rect": ("text",),
    "rule": ("x", "y"),
    "link": ("width",),
}
OPTIONS = {
    "line": ("width", "dash", "curve", "label"),
    "area": ("label",),
    "dot": ("size", "symbol", "label"),
    "bar": ("horizontal", "label"),
    "cell": ("label",),
    "rect": ("label", "outline"),
    "rule": ("width", "dash", "label"),
    "link": ("width", "dash", "curve", "arrow", "label"),
    "text": ("size", "anchor", "dx", "dy", "bold"),
}
CHOICES = {
    "dash": ("solid", "dashed", "dotted"),
    "curve": ("straight", "arc", "step", "smooth"),
    "symbol": ("circle", "square", "triangle", "diamond", "cross", "plus"),
    "anchor": ("start", "middle", "end"),
}
TEXT_COLUMNS = ("text", "tip", "z")


def _significant(value: float) -> float | int | None:
    """``value`` to four significant digits; ``None`` (a gap) for NaN; whole numbers as ``int``."""
    if isinstance(value, bool | np.bool_):
        return int(value)
    if isinstance(value, int | np.integer):
        return int(value)
    number = float(value)
    if math.isnan(number):
        return None
    if math.isinf(number):
        raise ValueError(f"a figure cannot show {number}: leave the point out or use NaN for a gap")
    rounded = float(f"{number:.{DIGITS}g}")
    return int(rounded) if rounded == int(rounded) and abs(rounded) < 1e15 else rounded


def _column(name: str, values: Iterable[Any]) -> list[Any]:
    listed = values.tolist() if isinstance(values, np.ndarray) else list(values)
    if name in TEXT_COLUMNS or any(isinstance(v, str) for v in listed):
        return [None if v is None else str(v) for v in listed]
    return [None if v is None else _significant(v) for v in listed]


@dataclass(frozen=True)
class Mark:
    """One layer of a panel: equally long ``columns`` and constant ``options``."""

    kind: str
    columns: Mapping[str, list[Any]]
    options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.kind not in REQUIRED:
            raise ValueError(f"kind={self.kind!r} is no mark; use one of {', '.join(REQUIRED)}")
        needed = REQUIRED[self.kind]
        missing = [name for name in needed if name not in self.columns]
        if missing:
            raise ValueError(f"a {self.kind} mark needs the columns {needed}, missing {missing}")
        known = {*needed, *OPTIONAL.get(self.kind, ()), "z", "tip"}
        unknown = sorted(set(self.columns) - known)
        if unknown:
            raise ValueError(
                f"a {self.kind} mark has no columns {unknown}; it takes {sorted(known)}"
            )
        if self.kind == "rule" and ("x" in self.columns) == ("y" in self.columns):
            raise ValueError("a rule mark takes either the column x or the column y")
        lengths = {name: len(values) for name, values in self.columns.items()}
        if len(set(lengths.values())) > 1:
            raise ValueError(f"the columns of a {self.kind} mark differ in length: {lengths}")
        allowed = {*OPTIONS[self.kind], "opacity"}
        odd = sorted(set(self.options) - allowed)
        if odd:
            raise ValueError(f"a {self.kind} mark has no options {odd}; it takes {sorted(allowed)}")
        for name, choices in CHOICES.items():
            if name in self.options and self.options[name] not in choices:
                raise ValueError(f"{name}={self.options[name]!r} is not one of {choices}")

    def to_json(self) -> dict[str, Any]:
        return {"kind": self.kind, "columns": dict(self.columns), **self.options}


def _mark(kind: str, columns: Mapping[str, Any], options: Mapping[str, Any]) -> Mark:
    present = {name: values for name, values in columns.items() if values is not None}
    size = next(
        (
            len(values)
            for values in present.values()
            if not isinstance(values, str) and hasattr(values, "__len__")
        ),
        1,
    )
    full = {
        # a constant, such as z="optimum", stands for every item of the mark
        name: [values] * size if isinstance(values, str) or np.isscalar(values) else values
        for name, values in present.items()
    }
    return Mark(
        kind,
        {name: _column(name, values) for name, values in full.items()},
        {name: value for name, value in options.items() if value is not None},
    )


def line(x, y, *, z=None, tip=None, **options) -> Mark:
    """A line through the points in their order; with ``z``, one line a series."""
    return _mark("line", {"x": x, "y": y, "z": z, "tip": tip}, options)


def area(x, y1, y2, *, z=None, tip=None, **options) -> Mark:
    """The band between ``y1`` and ``y2``, such as a spread over seeds."""
    return _mark("area", {"x": x, "y1": y1, "y2": y2, "z": z, "tip": tip}, options)


def dot(x, y, *, z=None, tip=None, size=None, **options) -> Mark:
    """One symbol a point; ``size`` in pixels, a number or a column."""
    if size is not None and np.isscalar(size):
        options["size"], size = size, None
    return _mark("dot", {"x": x, "y": y, "z": z, "tip": tip, "size": size}, options)


def bar(x, y, *, base=None, z=None, tip=None, **options) -> Mark:
    """A bar from ``base`` (zero) to ``y`` at ``x``; ``horizontal=True`` swaps the axes' roles."""
    return _mark("bar", {"x": x, "y": y, "base": base, "z": z, "tip": tip}, options)


def cell(x, y, value, *, text=None, z=None, tip=None, **options) -> Mark:
    """A heat map: one cell at each ``(x, y)``, shaded by ``value`` on the panel's colour scale."""
    return _mark(
        "cell", {"x": x, "y": y, "value": value, "text": text, "z": z, "tip": tip}, options
    )


def rect(x1, x2, y1, y2, *, text=None, z=None, tip=None, **options) -> Mark:
    """Rectangles in data coordinates: token strips, memory blocks, attention tiles."""
    columns = {"x1": x1, "x2": x2, "y1": y1, "y2": y2, "text": text, "z": z, "tip": tip}
    return _mark("rect", columns, options)


def rule(*, x=None, y=None, z=None, tip=None, **options) -> Mark:
    """Lines across the panel at ``x`` or at ``y``: a bound, a threshold, the current setting."""
    x = [x] if x is not None and np.isscalar(x) else x
    y = [y] if y is not None and np.isscalar(y) else y
    return _mark("rule", {"x": x, "y": y, "z": z, "tip": tip}, options)


def link(x1, y1, x2, y2, *, width=None, z=None, tip=None, **options) -> Mark:
    """A connection from ``(x1, y1)`` to ``(x2, y2)``; ``curve="arc"`` bows it upwards."""
    if width is not None and np.isscalar(width):
        options["width"], width = width, None
    columns = {"x1": x1, "y1": y1, "x2": x2, "y2": y2, "width": width, "z": z, "tip": tip}
    return _mark("link", columns, options)


def text(x, y, text, *, z=None, tip=None, **options) -> Mark:
    """Words at a position."""
    return _mark("text", {"x": x, "y": y, "text": text, "z": z, "tip": tip}, options)


@dataclass(frozen=True)
class Axis:
    """One axis: ``label`` with its unit, ``type``, ``domain`` and what to print along it.

    ``type="band"`` is for categories; its ``domain`` lists them in order.  ``ticks`` is a number of
    ticks or the list of their positions, ``tick_labels`` what to print there.  ``hidden=True``
    keeps the scale and draws no axis.
    """

    label: str = ""
    type: str = "linear"
    domain: Sequence[Any] | None = None
    ticks: int | Sequence[Any] | None = None
    tick_labels: Sequence[str] | None = None
    reverse: bool = False
    grid: bool = False
    hidden: bool = False

    def __post_init__(self) -> None:
        if self.type not in AXIS_TYPES:
            raise ValueError(f"type={self.type!r} is not one of {AXIS_TYPES}")
        if self.domain is not None and self.type != "band":
            if len(self.domain) != 2 or not self.domain[0] < self.domain[1]:
                raise ValueError(f"domain={self.domain!r} must be (low, high) with low < high")
            if self.type == "log" and self.domain[0] <= 0:
                raise ValueError(f"domain={self.domain!r} of a log axis must be positive")
        if self.tick_labels is not None and (
            isinstance(self.ticks, int | None) or len(self.ticks) != len(self.tick_labels)
        ):
            raise ValueError("tick_labels needs ticks, a list of equally many positions")

    def to_json(self) -> dict[str, Any]:
        out: dict[str, Any] = {"label": self.label, "type": self.type}
        if self.domain is not None:
            out["domain"] = _column("domain", self.domain)
        if self.ticks is not None:
            out["ticks"] = self.ticks if isinstance(self.ticks, int) else _column("t", self.ticks)
        if self.tick_labels is not None:
            out["tick_labels"] = [str(label) for label in self.tick_labels]
        for name in ("reverse", "grid", "hidden"):
            if getattr(self, name):
                out[name] = True
        return out


@dataclass(frozen=True)
class Panel:
    """A pair of axes with marks on it.

    ``series`` names the series of the panel in legend order, each with a colour role (``"c1"`` to
    ``"c8"``, ``"muted"``, ``"accent"``, ``"warn"``); the front end adds a dash and a symbol to
    each, so that no reader depends on colour.  ``color`` is the scale of ``cell`` values:
    ``{"label": ..., "domain": [low, high], "scheme": "sequential" | "diverging"}``.
    """

    marks: Sequence[Mark]
    x: Axis = field(default_factory=Axis)
    y: Axis = field(default_factory=Axis)
    title: str = ""
    series: Mapping[str, str] = field(default_factory=dict)
    color: Mapping[str, Any] | None = None
    height: int = 240
    legend: bool = True

    def __post_init__(self) -> None:
        if not self.marks:
            raise ValueError("a panel needs at least one mark")
        if not 40 <= self.height <= 800:
            raise ValueError(f"height={self.height} must be 40 to 800 pixels")
        for name, role in self.series.items():
            if role not in ROLES:
                raise ValueError(f"series {name!r} has the role {role!r}, not one of {ROLES}")
        used = {z for mark in self.marks for z in mark.columns.get("z", []) if z is not None}
        if used - set(self.series):
            raise ValueError(f"no series is declared for z={sorted(used - set(self.series))}")
        for mark in self.marks:
            for axis, names in ((self.x, ("x", "x1", "x2")), (self.y, ("y", "y1", "y2"))):
                self._check_axis(mark, axis, names)

    @staticmethod
    def _check_axis(mark: Mark, axis: Axis, names: tuple[str, ...]) -> None:
        for name in names:
            values = [v for v in mark.columns.get(name, []) if v is not None]
            if axis.type == "band":
                outside = [v for v in values if axis.domain is None or v not in axis.domain]
                if outside:
                    raise ValueError(f"{name}={outside[0]!r} is not in the domain of its band axis")
            elif any(isinstance(v, str) for v in values):
                raise ValueError(f'{name} holds text: give its axis type="band" and a domain')
            elif axis.type == "log" and any(v <= 0 for v in values):
                raise ValueError(f"{name}={min(values)} cannot stand on a log axis")

    def to_json(self) -> dict[str, Any]:
        out: dict[str, Any] = {
            "x": self.x.to_json(),
            "y": self.y.to_json(),
            "marks": [mark.to_json() for mark in self.marks],
            "height": self.height,
        }
        if self.title:
            out["title"] = self.title
        if self.series:
            out["series"] = dict(self.series)
        if self.color is not None:
            out["color"] = dict(self.color)
        if not self.legend:
            out["legend"] = False
        return out


@dataclass(frozen=True)
class Figure:
    """Panels and the sentence that says what they show.

    ``readout`` is one sentence with the number that matters, understandable without the picture.
    ``cost`` says what the method spends at this setting, beside the baseline.  ``limits`` narrows
    controls whose range depends on others: ``{"step": (0, 12)}``.  ``layout="row"`` puts two panels
    side by side where the screen is wide enough.
    """

    panels: Sequence[Panel]
    title: str
    readout: str
    alt: str = ""
    cost: str = ""
    layout: str = "stack"
    limits: Mapping[str, tuple[float, float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not 1 <= len(self.panels) <= 4:
            raise ValueError(f"a figure has 1 to 4 panels, got {len(self.panels)}")
        if not self.title.strip() or not self.readout.strip():
            raise ValueError("a figure needs a title and a readout sentence")
        if self.layout not in LAYOUTS:
            raise ValueError(f"layout={self.layout!r} is not one of {LAYOUTS}")
        for name, (low, high) in self.limits.items():
            if not low <= high:
                raise ValueError(f"limits of {name!r} must be (low, high), got {(low, high)}")

    def to_json(self) -> dict[str, Any]:
        """The figure as plain lists, strings and rounded numbers, ready for ``json.dumps``."""
        out: dict[str, Any] = {
            "title": self.title,
            "panels": [panel.to_json() for panel in self.panels],
            "readout": self.readout,
        }
        if self.alt:
            out["alt"] = self.alt
        if self.cost:
            out["cost"] = self.cost
        if self.layout != "stack":
            out["layout"] = self.layout
        if self.limits:
            out["limits"] = {name: list(bounds) for name, bounds in self.limits.items()}
        return out
