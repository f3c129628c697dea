"""The mathematics of the GenOpt book, in NumPy.

Importing this package loads NumPy and nothing heavier.  A formula room a method:

- :mod:`genopt_core.subwords`: segmentation, vocabularies, what is proved of them (chapter 1)
- :mod:`genopt_core.cross_entropy`, :mod:`genopt_core.word2vec`: a search and its object (chapter 2)
- :mod:`genopt_core.positions`: rotation and distance biases (chapter 3, to come)
- :mod:`genopt_core.attention`: partial results that merge exactly (chapters 4 and 5)
- :mod:`genopt_core.kvcache`: a key and value cache that steps down (chapter 5)

``torch`` holds their fast forms, ``integrations`` what other libraries take, ``explorers`` the
figures that move and ``figures`` what draws them; :mod:`genopt_core.corpora` has the texts.  In a
notebook :func:`explore` shows an explorer, :func:`show` a matplotlib figure with its alt text.
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

    >>> type(explore("kv-staircase")).__name__
    'ExplorerWidget'
    """
    from genopt_core import explorers
    from genopt_core.checks import extra

    with extra("notebook"):
        from genopt_core.figures.widget import ExplorerWidget

    return ExplorerWidget(explorers.get(name), **params)


def show(figure: Any, alt: str) -> Shown:
    """Display the matplotlib ``figure``, described by ``alt``, and close it.

    What is returned shows a PNG to readers, and to a notebook test the text of what was drawn: its
    labels and rounded data.  Needs ``matplotlib``, imported here and not with the package.

    Raises ``ValueError`` if ``alt`` is empty.

    >>> from genopt_core.figures.plots import subplots
    >>> show(subplots(figsize=(2, 1))[0], "Empty axes.").alt
    'Empty axes.'
    """
    from genopt_core.checks import extra

    with extra("notebook"):
        from genopt_core.figures.plots import Shown

    return Shown(figure, alt)
