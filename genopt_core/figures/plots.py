"""Matplotlib figures in the book's one style, whose text form states what was drawn.

nbval compares the text of an output and skips its PNG.  A figure shown through
`genopt_core.show` is therefore checked by its numbers, not by its pixels, which differ
between versions of matplotlib and of the fonts.
"""

import io
from typing import Any

import matplotlib as mpl
import numpy as np
from cycler import cycler

from genopt_core.figures import style

# The colors of the explorers' series, each with a dash, so that no reader depends on color.  The
# background is opaque: the page may be dark, the figure stays readable.
PRINTED = [role for role in style.STYLE["roles"].values() if "matplotlib" in role]
COLORS = tuple(role["light"] for role in PRINTED)
DASHES = tuple(
    dash if isinstance(dash, str) else (0, tuple(dash))
    for dash in (role["matplotlib"] for role in PRINTED)
)
STYLE: Any = {
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.prop_cycle": cycler(color=COLORS, linestyle=DASHES),
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "figure.dpi": 110,
    "figure.facecolor": "white",
    "figure.figsize": (6.4, 3.2),
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "grid.alpha": 0.25,
    "image.cmap": "cividis",
    "legend.frameon": False,
    "lines.linewidth": 1.8,
    "savefig.facecolor": "white",
    "svg.hashsalt": "genopt",
}


def subplots(*args: Any, **kwargs: Any) -> tuple[Any, Any]:
    """``matplotlib.pyplot.subplots`` in the book's style: the figure and its axes.

    >>> figure, axes = subplots(figsize=(2, 1))
    >>> axes.figure is figure
    True
    """
    import matplotlib.pyplot as plt

    with mpl.rc_context(STYLE):
        return plt.subplots(*args, layout="constrained", **kwargs)


def fingerprint(figure: Any) -> str:
    """The labels of ``figure`` and its drawn data, four significant digits, at most 8 a series."""

    def numbers(values: Any) -> str:
        flat = np.asarray(values, dtype=float).ravel()
        if flat.size > 8:
            shown = flat[np.linspace(0, flat.size - 1, 8).round().astype(int)]
        else:
            shown = flat
        return f"n={flat.size} [{' '.join(f'{value:.4g}' for value in shown)}]"

    lines = []
    for number, axes in enumerate(figure.axes):
        lines.append(
            f"axes {number}: {axes.get_title('left') or axes.get_title()!r} "
            f"x={axes.get_xlabel()!r} ({axes.get_xscale()}) "
            f"y={axes.get_ylabel()!r} ({axes.get_yscale()})"
        )
        for line in axes.lines:
            x, y = numbers(line.get_xdata()), numbers(line.get_ydata())
            lines.append(f"  line {line.get_label()!r} x {x} y {y}")
        heights = [patch.get_height() for patch in axes.patches if hasattr(patch, "get_height")]
        if heights:
            lines.append(f"  bars {numbers(heights)}")
        lines += [f"  image {im.get_array().shape} {numbers(im.get_array())}" for im in axes.images]
        for collection in axes.collections:
            paths = [path.vertices for path in collection.get_paths()]
            if len(collection.get_offsets()) > 1:
                lines.append(f"  points {numbers(collection.get_offsets())}")
            elif paths:
                lines.append(f"  area {numbers(np.concatenate(paths))}")
    return "\n".join(lines)


class Shown:
    """A PNG for readers, a fingerprint for tests, alt text for both.  The figure is closed.

    >>> figure, axes = subplots(figsize=(2, 1))
    >>> _ = axes.plot([0, 1], [0, 2])
    >>> Shown(figure, "A line that rises.").alt
    'A line that rises.'
    """

    def __init__(self, figure: Any, alt: str) -> None:
        if not alt.strip():
            raise ValueError("alt is empty: say what kind of figure it is and what it shows")
        import matplotlib.pyplot as plt

        buffer = io.BytesIO()
        with mpl.rc_context(STYLE):
            figure.savefig(buffer, format="png", metadata={"Software": None})
        self.png, self.text, self.alt = buffer.getvalue(), fingerprint(figure), alt
        plt.close(figure)

    def __repr__(self) -> str:
        return f"{self.alt}\n{self.text}"

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> Any:
        return {"image/png": self.png, "text/plain": repr(self)}, {"image/png": {"alt": self.alt}}
