"""The mathematics of the GenOpt book, in NumPy.

Importing this package loads NumPy and nothing heavier.  The chapters' modules are

- :mod:`genopt_core.subwords` — word lattices, shortest paths, likelihood (chapter 1)
- :mod:`genopt_core.corpora` — the texts that the book measures on

and the book's own machinery is :mod:`genopt_core.figures.schema` (figures as data),
:mod:`genopt_core.figures.registry` (figures with controls), :func:`explore` (such a figure in a notebook)
and :func:`show` (a matplotlib figure with alt text and a fingerprint for the tests).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from genopt_core.figures.plots import Shown
    from genopt_core.figures.widget import ExplorerWidget

__all__ = ["__version__", "explore", "show"]
__version__ = "0.1.0"


def explore(name: str, **params: Any) -> ExplorerWidget:
    """Show the explorer ``name``, set to ``params``, in a notebook.

    The kernel recomputes the figure at every move; on the built page the same cell becomes an
    explorer that needs no kernel.  Needs ``anywidget`` (and ``ipywidgets``), which are imported
    here and not with the package.

    Raises ``KeyError`` for an unknown name, ``ValueError`` or ``TypeError`` for bad ``params``.
    """
    from genopt_core import explorers
    from genopt_core.figures.widget import ExplorerWidget

    return ExplorerWidget(explorers.get(name), **params)


def show(figure: Any, alt: str) -> Shown:
    """Display the matplotlib ``figure``, described by ``alt``, and close it.

    What is returned shows a PNG to readers, and to a notebook test the text of what was drawn: its
    labels and rounded data.  Needs ``matplotlib``, imported here and not with the package.

    Raises ``ValueError`` if ``alt`` is empty.
    """
    from genopt_core.figures.plots import Shown

    return Shown(figure, alt)
