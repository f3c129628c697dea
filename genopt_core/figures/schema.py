"""Figures as data: what an explorer computes, before anything is drawn.

A `Figure` is one to four panels over a shared sentence, the *readout*.  A `Panel` is a pair of axes
and a list of marks; a `Mark` is a set of equally long columns, as in a data frame, plus a few
constant options, see `KINDS`.  Nothing here knows about pixels: the front end draws the same
dictionary in a notebook, on the static page and in print, and a test reads the numbers off it.

``NaN`` in a coordinate is a gap.  Numbers are rounded to four significant digits when a figure is
turned into JSON, so that frames, kernels and browsers agree to the printed digit.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from genopt_core.checks import one_of
from genopt_core.figures.style import ROLES, STYLE

WORDS = ("z", "name", "tip")  # columns that every mark may have


@dataclass(frozen=True)
class Kind:
    """What a kind of mark takes: columns it needs, columns it may have, options.

    Every mark may also carry the columns ``z``, the series of each item, which sets color *and*
    dash or symbol, ``name``, what the item is called in tooltips and in the table of numbers, and
    ``tip``, the whole text of its tooltip; and the option ``opacity``.

    >>> KINDS["area"].columns()
    ('x', 'y1', 'y2', 'z', 'name', 'tip')
    """

    required: tuple[str, ...]
    optional: tuple[str, ...] = ()
    options: tuple[str, ...] = ("label",)

    def columns(self) -> tuple[str, ...]:
        """All columns that such a mark may have."""
        return (*self.required, *self.optional, *WORDS)


KINDS = {
    "line": Kind(("x", "y"), options=("width", "dash", "curve", "label")),
    "area": Kind(("x", "y1", "y2")),
    "dot": Kind(("x", "y"), ("size", "base"), ("size", "symbol", "label")),
    "bar": Kind(("x", "y"), ("base",), ("horizontal", "label")),
    "cell": Kind(("x", "y", "value"), ("text",)),
    "rect": Kind(("x1", "x2", "y1", "y2"), ("text", "note"), ("label", "outline")),
    "rule": Kind((), ("x", "y"), ("width", "dash", "label")),  # either x or y
    "link": Kind(
        ("x1", "y1", "x2", "y2"), ("width",), ("width", "dash", "curve", "arrow", "label")
    ),
    "text": Kind(("x", "y", "text"), options=("size", "anchor", "dx", "dy", "bold")),
}
"""All kinds of marks.  The front end has one entry for each, and a test that it uses all of this.

:meta hide-value:
"""

CHOICES = {
    "dash": tuple(STYLE["dashes"]),
    "curve": ("straight", "arc", "step", "smooth"),
    "symbol": tuple(STYLE["symbols"]),
    "anchor": ("start", "middle", "end"),
}
TEXT_COLUMNS = ("text", "note", *WORDS)


def _significant(value: float) -> float | int | None:
    """``value`` to four significant digits; ``None`` (a gap) for NaN; whole numbers as ``int``."""
    if isinstance(value, int | np.integer | np.bool_):
        return int(value)
    number = float(value)
    if math.isnan(number):
        return None
    if math.isinf(number):
        raise ValueError(f"numbers must be finite, or NaN for a gap, got {number}")
    rounded = float(f"{number:.4g}")
    return int(rounded) if rounded == int(rounded) and abs(rounded) < 1e15 else rounded


def _column(name: str, values: Iterable[Any]) -> list[Any]:
    listed = values.tolist() if isinstance(values, np.ndarray) else list(values)
    if name in TEXT_COLUMNS or any(isinstance(v, str) for v in listed):
        return [None if v is None else str(v) for v in listed]
    return [None if v is None else _significant(v) for v in listed]


@dataclass(frozen=True)
class Mark:
    """One layer of a panel: equally long ``columns`` and constant ``options``.

    >>> Mark("dot", {"x": [1], "y": [2]}).to_json()
    {'kind': 'dot', 'columns': {'x': [1], 'y': [2]}}
    """

    kind: str
    columns: Mapping[str, list[Any]]
    options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        kind = KINDS[one_of(self.kind, "kind", KINDS)]
        columns = set(self.columns)
        if not columns >= set(kind.required):
            needed = ", ".join(kind.required)
            raise ValueError(
                f"columns of a {self.kind} mark must have {needed}, got {sorted(columns)}"
            )
        self._check_names("columns", columns, kind.columns())
        self._check_names("options", set(self.options), (*kind.options, "opacity"))
        if self.kind == "rule" and ("x" in columns) == ("y" in columns):
            raise ValueError(f"columns of a rule mark must be either x or y, got {sorted(columns)}")
        lengths = {name: len(values) for name, values in self.columns.items()}
        if len(set(lengths.values())) > 1:
            raise ValueError(f"columns of a {self.kind} mark must be equally long, got {lengths}")
        for name in CHOICES.keys() & self.options.keys():
            one_of(self.options[name], name, CHOICES[name])

    def _check_names(self, what: str, names: set[str], accepted: Sequence[str]) -> None:
        if unknown := sorted(names - set(accepted)):
            raise ValueError(
                f"{what} of a {self.kind} mark must be among {', '.join(accepted)}, got {unknown}"
            )

    def to_json(self) -> dict[str, Any]:
        """What the front end reads, columns as lists."""
        return {"kind": self.kind, "columns": dict(self.columns), **self.options}


def _mark(kind: str, **given: Any) -> Mark:
    """A mark of what is ``given``; a constant, such as ``z="optimum"``, stands for every item."""
    takes = KINDS[kind]
    columns: dict[str, Any] = {}
    options: dict[str, Any] = {}
    for name, value in given.items():
        # of a size or a width that may be either, a number is the option
        is_column = name in takes.columns() and not (name in takes.options and np.isscalar(value))
        if value is not None:
            (columns if is_column else options)[name] = value
    lengths = (len(v) for v in columns.values() if not np.isscalar(v) and hasattr(v, "__len__"))
    size = next(lengths, 1)
    full = {name: [v] * size if np.isscalar(v) else v for name, v in columns.items()}
    return Mark(kind, {name: _column(name, values) for name, values in full.items()}, options)


def line(x, y, **more) -> Mark:
    """A line through the points in their order; with ``z``, one line a series.

    >>> line([0, 1], [2, 3], curve="step").kind
    'line'
    """
    return _mark("line", x=x, y=y, **more)


def area(x, y1, y2, **more) -> Mark:
    """The band between ``y1`` and ``y2``, such as a spread over seeds.

    >>> area([0, 1], [0, 1], [2, 3]).columns["y2"]
    [2, 3]
    """
    return _mark("area", x=x, y1=y1, y2=y2, **more)


def dot(x, y, **more) -> Mark:
    """One symbol a point; ``size`` in pixels, a number or a column; ``base`` is where 0 is.

    >>> dot([0, 1], [2, 3], z="optimum").columns["z"]
    ['optimum', 'optimum']
    """
    return _mark("dot", x=x, y=y, **more)


def bar(x, y, **more) -> Mark:
    """A bar from ``base`` (zero) to ``y`` at ``x``; ``horizontal=True`` swaps the axes' roles.

    >>> bar([0, 1], [2, 3], horizontal=True).options
    {'horizontal': True}
    """
    return _mark("bar", x=x, y=y, **more)


def cell(x, y, value, **more) -> Mark:
    """A heat map: one cell at each ``(x, y)``, shaded by ``value`` on the panel's color scale.

    >>> cell([0, 1], [0, 0], [0.5, 1.0]).columns["value"]
    [0.5, 1]
    """
    return _mark("cell", x=x, y=y, value=value, **more)


def rect(x1, x2, y1, y2, **more) -> Mark:
    """Rectangles in data coordinates: token strips, memory blocks, attention tiles.

    ``text`` stands inside where it fits, and ``note``, such as a number, after or below it.

    >>> rect([0], [1], [0], [1], text=["low"]).columns["text"]
    ['low']
    """
    return _mark("rect", x1=x1, x2=x2, y1=y1, y2=y2, **more)


def rule(*, x=None, y=None, **more) -> Mark:
    """Lines across the panel at ``x`` or at ``y``: a bound, a threshold, the current setting.

    >>> rule(y=[3.0], dash="dashed").columns
    {'y': [3]}
    """
    return _mark("rule", x=x, y=y, **more)


def link(x1, y1, x2, y2, **more) -> Mark:
    """A connection from ``(x1, y1)`` to ``(x2, y2)``; ``curve="arc"`` bows it upwards.

    >>> link([0], [0], [1], [1], curve="arc").options
    {'curve': 'arc'}
    """
    return _mark("link", x1=x1, y1=y1, x2=x2, y2=y2, **more)


def text(x, y, text, **more) -> Mark:
    """Words at a position.

    >>> text([0], [1], ["here"]).columns["text"]
    ['here']
    """
    return _mark("text", x=x, y=y, text=text, **more)


def _given(item: Any, *names: str) -> dict[str, Any]:
    """Those of the attributes ``names`` that are not empty, as plain data."""
    values = {name: getattr(item, name) for name in names}
    return {n: dict(v) if isinstance(v, Mapping) else v for n, v in values.items() if v}


@dataclass(frozen=True)
class Axis:
    """One axis: ``label`` with its unit, ``type``, ``domain`` and what to print along it.

    ``type="band"`` is for categories; its ``domain`` lists them in order.  ``ticks`` is a number of
    ticks or the list of their positions, ``tick_labels`` what to print there.  ``hidden=True``
    keeps the scale and draws no axis.

    >>> Axis("tokens", domain=(0, 10)).to_json()
    {'label': 'tokens', 'type': 'linear', 'domain': [0, 10]}
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
        one_of(self.type, "type", ("linear", "log", "symlog", "band"))
        if self.domain is not None and self.type != "band":
            if len(self.domain) != 2 or not self.domain[0] < self.domain[1]:
                raise ValueError(f"domain must be (low, high), low < high, got {self.domain!r}")
            if self.type == "log" and self.domain[0] <= 0:
                raise ValueError(f"domain of a log axis must be positive, got {self.domain!r}")
        if self.tick_labels is not None and (
            isinstance(self.ticks, int | None) or len(self.ticks) != len(self.tick_labels)
        ):
            raise ValueError(
                f"ticks must be as many positions as tick_labels, {len(self.tick_labels)}, "
                f"got {self.ticks!r}"
            )

    def to_json(self) -> dict[str, Any]:
        """What the front end reads; what is not given is left out."""
        out: dict[str, Any] = {"label": self.label, "type": self.type}
        if self.domain is not None:
            out["domain"] = _column("domain", self.domain)
        if self.ticks is not None:
            out["ticks"] = self.ticks if isinstance(self.ticks, int) else _column("t", self.ticks)
        if self.tick_labels is not None:
            out["tick_labels"] = [str(label) for label in self.tick_labels]
        return out | _given(self, "reverse", "grid", "hidden")


@dataclass(frozen=True)
class Panel:
    """A pair of axes with marks on it.

    ``series`` names the series of the panel in legend order, each with a color role (``"c1"`` to
    ``"c8"``, ``"muted"``, ``"accent"``, ``"warn"``); the front end adds a dash and a symbol to
    each, so that no reader depends on color.  ``color`` is the scale of ``cell`` values:
    ``{"label": ..., "domain": [low, high], "scheme": "sequential" | "diverging"}``.  ``table`` is
    what readers get as the numbers of this panel, columns by their names; without it they are read
    off the marks, and with an empty one there are none.

    >>> panel = Panel([line([0, 1], [0, 1])], Axis("x"), Axis("y"))
    >>> [mark["kind"] for mark in panel.to_json()["marks"]]
    ['line']
    """

    marks: Sequence[Mark]
    x: Axis = field(default_factory=Axis)
    y: Axis = field(default_factory=Axis)
    title: str = ""
    series: Mapping[str, str] = field(default_factory=dict)
    color: Mapping[str, Any] | None = None
    height: int = 240
    legend: bool = True
    table: Mapping[str, Sequence[Any]] | None = None

    def __post_init__(self) -> None:
        if not self.marks:
            raise ValueError("marks must be at least one, got none")
        if not 40 <= self.height <= 800:
            raise ValueError(f"height must be 40 to 800 pixels, got {self.height}")
        if len({len(column) for column in (self.table or {}).values()}) > 1:
            lengths = {name: len(column) for name, column in (self.table or {}).items()}
            raise ValueError(f"columns of table must be equally long, got {lengths}")
        for name, role in self.series.items():
            one_of(role, f"role of series {name!r}", ROLES)
        used = {z for mark in self.marks for z in mark.columns.get("z", []) if z is not None}
        if unknown := sorted(used - set(self.series)):
            raise ValueError(f"z must be among the series {list(self.series)}, got {unknown}")
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
                    raise ValueError(
                        f"{name} must be in the domain of its band axis, got {outside[0]!r}"
                    )
            elif any(isinstance(v, str) for v in values):
                raise ValueError(f'{name} must be numbers without an axis of type="band", got text')
            elif axis.type == "log" and any(v <= 0 for v in values):
                raise ValueError(f"{name} must be positive on a log axis, got {min(values)}")

    def to_json(self) -> dict[str, Any]:
        """What the front end reads."""
        out: dict[str, Any] = {
            "x": self.x.to_json(),
            "y": self.y.to_json(),
            "marks": [mark.to_json() for mark in self.marks],
            "height": self.height,
        }
        out |= _given(self, "title", "series", "color")
        if self.table is not None:
            out["table"] = {name: _column("", column) for name, column in self.table.items()}
        return out if self.legend else out | {"legend": False}


@dataclass(frozen=True)
class Figure:
    """Panels and the sentence that says what they show.

    ``readout`` is one sentence with the number that matters, understandable without the picture.
    ``cost`` says what the method spends at this setting, beside the baseline.  ``limits`` narrows
    controls whose range depends on others: ``{"step": (0, 12)}``.  ``layout="row"`` puts two panels
    side by side where the screen is wide enough.

    >>> figure = Figure([Panel([dot([1], [2])], Axis("x"), Axis("y"))], "A dot", "It is at 2.")
    >>> figure.to_json()["readout"]
    'It is at 2.'
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
            raise ValueError(f"panels must be 1 to 4, got {len(self.panels)}")
        for name in ("title", "readout"):
            if not getattr(self, name).strip():
                raise ValueError(f"{name} must be a sentence, got {getattr(self, name)!r}")
        one_of(self.layout, "layout", ("stack", "row"))
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
        out |= _given(self, "alt", "cost")
        if self.layout != "stack":
            out["layout"] = self.layout
        if self.limits:
            out["limits"] = {name: list(bounds) for name, bounds in self.limits.items()}
        return out
