"""The search of the book: it finds sections, and looks at words, not at figures and formulas.

Sphinx indexes pages.  Here each section goes into its index as a page of its own, called
``page#section``; ``assets/search.js``, which Sphinx builds into its search, makes links of that.
"""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import sphinx.search
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.config import Config
from sphinx.search import IndexBuilder

SCORES = Path(__file__).parent.parent / "assets" / "search.js"

FIGURE = 'class="genopt-explorer"'
UNSEEN = re.compile(r"<(style|script|svg)\b.*?</\1>", re.DOTALL)
MARKUP = re.compile(r"<[^<]+?>")


def readable(node: nodes.Node) -> nodes.Node | None:
    """``node`` without formulas, figures and markup, whose words nobody looks for."""
    if isinstance(node, (nodes.math, nodes.math_block)):
        return None
    if isinstance(node, nodes.raw):
        text = node.astext()
        shown = "" if FIGURE in text else MARKUP.sub(" ", UNSEEN.sub(" ", text))
        return nodes.inline("", "", nodes.Text(shown))
    if isinstance(node, nodes.Element):
        kept = node.copy()
        kept.children = []
        kept += [child for child in map(readable, node.children) if child is not None]
        return kept
    return node


def sections(title: str, page: nodes.document) -> Iterator[tuple[str, str, nodes.Element]]:
    """Name, title and words of the page above its first section, then of each section in it."""
    top = next((child for child in page.children if isinstance(child, nodes.section)), page)

    def part(section: nodes.Element, heading: str, name: str) -> Iterator[Any]:
        own = section.copy()
        own.children = []
        below = [child for child in section.children if isinstance(child, nodes.section)]
        own += [readable(c) for c in section.children if c not in below and readable(c) is not None]
        yield name, heading, own
        for child in below:
            # not the module that a section of the API is about: its name has dots
            anchor = next((name for name in child["ids"] if "." not in name), child["ids"][0])
            yield from part(child, f"{title} › {child[0].astext()}", anchor)

    yield from part(top, title, "")


class SectionIndex(IndexBuilder):
    """Sphinx's index, of sections."""

    def feed(self, docname: str, filename: str, title: str, doctree: nodes.document) -> None:
        for name, heading, words in sections(title, doctree):
            where = f"{docname}#{name}" if name else docname
            super().feed(where, filename, heading, words)

    def prune(self, docnames: Iterable[str]) -> None:
        kept = set(docnames)
        super().prune([name for name in self._titles if name.partition("#")[0] in kept])


def use(app: Sphinx, config: Config) -> None:
    config.html_search_scorer = str(SCORES)
    config.book_search = SCORES.read_text(encoding="utf-8")  # a change of it changes the pages
    sphinx.search.IndexBuilder = SectionIndex  # type: ignore[misc]
