r"""What several figures draw in the same way, drawn once: results, bars, runs, strips of pieces.

A figure's file then holds its controls, one call of the core and its panels.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from genopt_core.figures import schema as figure
from genopt_core.figures.schema import Axis, Mark, Panel

BITS = 1 / math.log(2)
"""Bits per nat: the core counts in nats, a reader in bits."""
LABEL_HEIGHT, AXIS_HEIGHT = 18, 40  # pixels of a label and of the axis below a panel


def results(
    rows: Sequence[Mapping[str, Any]],
    columns: tuple[str, str, str],
    roles: Mapping[str, str],
    axes: tuple[Axis, Axis],
    *,
    kind: str = "curve",
    width: float | Mapping[str, float] | None = None,
    size: float | Mapping[str, float] | None = None,
    curve: str | None = None,
    below: Sequence[Mark] = (),
    above: Sequence[Mark] = (),
    **panel: Any,
) -> Panel:
    """One panel of stored results: a value over something, by method or whatever was compared.

    Parameters
    ----------
    rows : sequence of mappings
        One a point.  A row may have a ``tip``, the text of its tooltip.
    columns : (str, str, str)
        Of ``rows``: what to draw across, what upwards, and which names the series.
    roles : mapping
        Color role of each series, in the order of the legend.  Rows of other series are left out;
        a series in the role ``"accent"`` stands out.
    axes : (Axis, Axis)
        Across and upwards.
    kind : str
        ``"curve"`` (a line with a dot at each point), ``"line"``, ``"dot"`` or ``"bar"``.
    width, size : float or mapping from series to float
        Of lines and of dots, in pixels, where the role should not decide.
    curve : str
        Shape of the lines, such as ``"step"``.
    below, above : sequence of Mark
        Drawn before and after the results: a bound, a label.
    **panel
        Title, height and the like, as in `Panel`.

    Examples
    --------
    Facets are a comprehension: one panel for each text.

    >>> rows = [
    ...     {"text": text, "size": size, "method": method, "bits": size / 1000 + len(method)}
    ...     for text in ("prose", "code") for size in (1000, 2000) for method in ("BPE", "ours")
    ... ]
    >>> facets = [
    ...     results(
    ...         [row for row in rows if row["text"] == text],
    ...         ("size", "bits", "method"), {"ours": "accent", "BPE": "muted"},
    ...         (Axis("vocabulary size"), Axis("bits per byte")), title=text,
    ...     )
    ...     for text in ("prose", "code")
    ... ]
    >>> facets[1].title, [mark.kind for mark in facets[1].marks]
    ('code', ['line', 'dot', 'line', 'dot'])
    >>> facets[1].marks[0].columns
    {'x': [1000, 2000], 'y': [5, 6], 'z': ['ours', 'ours']}
    """
    across, upwards, by = columns
    marks: list[Mark] = []
    for names in [tuple(roles)] if kind == "bar" else [(name,) for name in roles]:
        shown = [row for row in rows if row[by] in names]
        if not shown:
            continue
        x, y, z = ([row[column] for row in shown] for column in (across, upwards, by))
        tip = [row["tip"] for row in shown] if "tip" in shown[0] else None
        accent = roles[names[0]] == "accent"
        if kind in ("curve", "line"):
            thick = _of(width, names[0], 2.5 if accent else 1)
            marks.append(figure.line(x, y, z=z, width=thick, curve=curve))
        if kind in ("curve", "dot"):
            large = _of(size, names[0], 5 if accent else 3.5)
            marks.append(figure.dot(x, y, z=z, tip=tip, size=large))
        if kind == "bar":
            marks.append(figure.bar(x, y, z=z, tip=tip))
    panel = {"series": roles} | panel
    return Panel([*below, *marks, *above], x=axes[0], y=axes[1], **panel)


def _of(option: float | Mapping[str, float] | None, name: str, default: float) -> float:
    chosen = option.get(name) if isinstance(option, Mapping) else option
    return default if chosen is None else chosen


def curve(x: ArrayLike, y: ArrayLike, z: str) -> list[Mark]:
    """A line with a dot at each of its points."""
    return [figure.line(x, y, z=z), figure.dot(x, y, z=z)]


def bars(
    values: Mapping[str, float],
    axis: Axis,
    *,
    z: Sequence[str] | None = None,
    tip: Sequence[str] | None = None,
    numbers: Sequence[str] | None = None,
    horizontal: bool = False,
    above: Sequence[Mark] = (),
    **panel: Any,
) -> Panel:
    """A bar for each name, with its number at the end if there are ``numbers``.

    >>> panel = bars({"direct": 1.0, "twice": 2.0}, Axis("error"), numbers=["1", "2"])
    >>> panel.x.domain, panel.marks[0].columns["y"], panel.marks[1].columns["text"]
    (['direct', 'twice'], [1, 2], ['1', '2'])
    """
    names, heights = list(values), list(values.values())
    x, y = (heights, names) if horizontal else (names, heights)
    marks = [figure.bar(x, y, z=z, tip=tip, horizontal=horizontal or None)]
    if numbers is not None:
        if horizontal:
            marks.append(figure.text(x, y, numbers, anchor="start", dx=5))
        else:
            marks.append(figure.text(x, y, numbers, dy=-9, bold=True))
    band = Axis(type="band", domain=names)
    across, upwards = (axis, band) if horizontal else (band, axis)
    return Panel([*marks, *above], x=across, y=upwards, legend=z is None, **panel)


def thin_runs(x: ArrayLike, runs: ArrayLike, z: str, *, width: float, opacity: float) -> Mark:
    """All ``runs`` (runs, points) as thin lines: one mark, with a gap after each."""
    runs = np.asarray(runs, float)
    gaps = np.full((len(runs), 1), math.nan)
    places = np.broadcast_to(np.asarray(x, float), runs.shape)
    columns = (np.hstack([values, gaps]).ravel() for values in (places, runs))
    return figure.line(*columns, z=z, width=width, opacity=opacity)


def end_labels(ends: Mapping[str, tuple[float, float]], axis: Axis, height: int) -> Mark:
    """The names of lines at their last points, moved apart where they would overlap.

    ``axis`` is that upwards and has a domain; ``height`` is the panel's in pixels.

    >>> mark = end_labels({"a": (4, 1.0), "b": (4, 1.01)}, Axis(domain=(0, 2)), 200)
    >>> mark.columns["text"], mark.columns["y"]
    (['a', 'b'], [0.8925, 1.117])
    """
    assert axis.domain is not None
    to, back = (math.log, math.exp) if axis.type == "log" else (float, float)
    low, high = (to(end) for end in axis.domain)
    apart = (high - low) * LABEL_HEIGHT / max(height - AXIS_HEIGHT, LABEL_HEIGHT)
    names = sorted(ends, key=lambda name: ends[name][1])
    at = [to(ends[name][1]) for name in names]
    for _ in range(50):  # each pass moves two that overlap apart by half from either side
        for i in range(len(at) - 1):
            middle, gap = (at[i] + at[i + 1]) / 2, at[i + 1] - at[i]
            if gap < apart:
                at[i : i + 2] = middle - apart / 2, middle + apart / 2
    return figure.text(
        [ends[name][0] for name in names],
        [back(value) for value in at],
        names,
        anchor="start",
        dx=8,
        size=11,
    )


def strip(
    pieces: Sequence[str],
    starts: ArrayLike,
    top: float,
    *,
    z: str | Sequence[str],
    tip: Sequence[str] | None = None,
    ends: ArrayLike | None = None,
    height: float = 0.8,
    note: Sequence[str] | None = None,
) -> Mark:
    """A row of boxes with a piece in each, as wide as its letters unless ``ends`` says else.

    ``note`` is a number to each piece, in its box where there is room.
    """
    starts = np.asarray(starts)
    ends = starts + [len(piece) for piece in pieces] if ends is None else ends
    count = len(pieces)
    return figure.rect(
        starts, ends, [top - height] * count, [top] * count, text=pieces, note=note, tip=tip, z=z
    )


@dataclass(frozen=True)
class Row:
    """One labeled row of `strips`: the pieces, the letter at which each begins, their tooltips."""

    label: str
    pieces: Sequence[str]
    starts: Sequence[int]
    tip: Sequence[str]
    z: str | Sequence[str]
    bold: bool = False
    note: Sequence[str] | None = None


def strips(rows: Sequence[Row], length: int, *, row_height: int, **panel: Any) -> Panel:
    """Rows of pieces over ``length`` letters, one below the other, aligned letter by letter."""
    marks = []
    for at, row in enumerate(rows):
        look: dict[str, Any] = {"z": row.z, "tip": row.tip, "note": row.note, "height": 0.55}
        marks.append(strip(row.pieces, row.starts, -at, **look))
        marks.append(figure.text([-1], [-at + 0.17], [row.label], anchor="start", bold=row.bold))
    return Panel(
        marks,
        x=Axis(domain=(-1, length), hidden=True),
        y=Axis(domain=(-len(rows) + 0.3, 0.4), hidden=True),
        height=row_height * len(rows),
        **panel,
    )


def padded(values: Iterable[float]) -> tuple[float, float]:
    """The range of an axis around these values."""
    values = list(values)
    low, high = min(values), max(values)
    room = 0.08 * (high - low) or 0.1
    return low - room, high + room


def counted(number: int, noun: str) -> str:
    """The number with its noun: 1 piece, 2 pieces."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def signed(value: float, digits: int) -> str:
    """The number with its sign, a true minus.

    >>> signed(0.25, 1), signed(-3, 2)
    ('+0.2', '−3.00')
    """
    return true_minus(f"{value:+.{digits}f}")


def true_minus(number: str) -> str:
    """A printed number with a true minus in place of the hyphen."""
    return number.replace("-", "−")


def compared(value: float, base: float, digits: int = 1) -> str:
    """How much more or less ``value`` is than ``base``.

    >>> compared(1.1, 1.0), compared(0.98, 1.0, 2)
    ('10.0 % more', '2.00 % less')
    """
    change = 100 * (value / base - 1)
    return f"{abs(change):.{digits}f} % {'less' if change < 0 else 'more'}"
