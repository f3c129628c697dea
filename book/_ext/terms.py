"""The words of the glossary on the pages: links to it that show their definition.

The first use of a word in a section becomes a link; every link to the glossary, an author's own
too, is described by a definition that the page itself holds, so that nothing is fetched.  Where a
word has a meaning of its own in a chapter only, it is a word of that chapter.
"""

from __future__ import annotations

import re
from functools import cache
from html import escape
from typing import NamedTuple

import claims
from docutils import nodes
from sphinx.application import Sphinx

# The headings of the glossary, and the folders in which their words are meant.
SCOPES = {
    "Sub-words": ("ch1", "ch6"),
    "Cross-entropy": ("ch2",),
    "Positions": ("ch3", "ch4", "ch6"),
    "Attention by chance": ("ch4",),
    "A cache that steps down": ("ch5", "ch6"),
}
# Words that pages use in an everyday sense beside their own: linked by authors only.
EVERYDAY = {
    "cost", "code", "block", "level", "group", "round", "value", "plan", "budget", "key", "bit",
    "generation", "evaluation", "token", "vocabulary", "density", "chunk", "configuration", "peer",
}  # fmt: skip
PLAIN = (nodes.paragraph,)
APART = (
    nodes.reference,
    nodes.literal,
    nodes.math,
    nodes.title,
    nodes.caption,
    nodes.table,
    nodes.definition_list,
    nodes.footnote,
)
LINK = re.compile(r'<a ((?:[^>"]|"[^"]*")*?href="[^"]*glossary\.html#(term-[^"]+)")')


class Term(NamedTuple):
    """A word with what it means, where it is meant, and how it is written in a text."""

    name: str
    meaning: str
    scope: tuple[str, ...]

    @property
    def id(self) -> str:
        return "term-" + re.sub(r"[^\w]+", "-", self.name)

    @property
    def forms(self) -> list[str]:
        """The word and its plural; none of those that have an everyday sense."""
        found = []
        for word in self.name.split(", "):
            if word not in EVERYDAY:
                plural = f"{word[:-1]}ies" if re.search("[^aeiou]y$", word) else f"{word}s"
                found += [word, plural]
        return found


@cache
def terms() -> tuple[Term, ...]:
    """All words of the glossary."""
    text = (claims.BOOK / "glossary.md").read_text(encoding="utf-8")
    found = []
    for part in text.split("\n## ")[1:]:
        heading = part.splitlines()[0]
        body = part.partition("```{glossary}\n")[2].partition("```")[0]
        for name, meaning in re.findall(r"(?m)^(\S.*)\n  (.+)$", body):
            found.append(Term(name, meaning, SCOPES[heading]))
    return tuple(found)


def _pattern(folder: str) -> tuple[re.Pattern, dict[str, Term]] | None:
    known = {form.lower(): term for term in terms() if folder in term.scope for form in term.forms}
    if not known:
        return None
    longest = sorted(known, key=len, reverse=True)
    words = "|".join(map(re.escape, longest))
    return re.compile(rf"(?<![\w-])(?:{words})(?![\w-])", re.IGNORECASE), known


def mark(app: Sphinx, doctree: nodes.document, page: str) -> None:
    """Link the first use of each word in each section of a page."""
    found = _pattern(page.partition("_")[0])
    if app.builder.format != "html" or not found:
        return
    glossary = app.builder.get_relative_uri(page, "glossary")
    for section in doctree.findall(nodes.section):
        _mark_section(section, *found, glossary)


def _mark_section(
    section: nodes.section, pattern: re.Pattern, known: dict[str, Term], glossary: str
) -> None:
    seen = {
        ref["refuri"].partition("#")[2]
        for ref in section.findall(nodes.reference)
        if "glossary" in ref.get("refuri", "")
    }
    for text in [*section.findall(nodes.Text)]:
        if not _is_prose(text, section):
            continue
        parts: list[nodes.Node] = []
        at = 0
        for hit in pattern.finditer(text.astext()):
            term = known[hit[0].lower()]
            if term.id in seen or (term.name.isupper() and hit[0] != term.name):
                continue
            seen.add(term.id)
            link = nodes.reference(
                "", hit[0], refuri=f"{glossary}#{term.id}", internal=True, classes=["term"]
            )
            parts += [nodes.Text(text.astext()[at : hit.start()]), link]
            at = hit.end()
        if parts:
            text.parent.replace(text, [*parts, nodes.Text(text.astext()[at:])])


def _is_prose(text: nodes.Text, section: nodes.section) -> bool:
    """Whether a text is part of a paragraph of this very section, and of nothing special."""
    node, prose = text.parent, False
    while node is not section:
        if node is None:  # a node that stands in two places
            return False
        classes = {"predict", "quiz"} & set(node.get("classes", ()))
        if classes or isinstance(node, (*APART, nodes.section)):
            return False
        prose = prose or isinstance(node, PLAIN)
        node = node.parent
    return prose


def define(app: Sphinx, page: str, template: str, context: dict, doctree) -> None:
    """Describe each link to the glossary by its definition, which the page holds at its end."""
    body = context.get("body", "")
    meant = {term.id: term for term in terms()}
    used = [name for name in dict.fromkeys(m[2] for m in LINK.finditer(body)) if name in meant]
    if not used or page == "glossary":
        return
    described = LINK.sub(
        lambda m: f'<a aria-describedby="{m[2]}-here" {m[1]}' if m[2] in meant else m[0], body
    )
    items = "".join(f'<p id="{name}-here">{html(meant[name].meaning)}</p>' for name in used)
    context["body"] = described + f'<div class="definitions" hidden>{items}</div>'


def html(meaning: str) -> str:
    """A definition, in which nothing but emphasis is marked.

    >>> html("Code says *piece*.")
    'Code says <em>piece</em>.'
    """
    return re.sub(r"\*([^*]+)\*", r"<em>\1</em>", escape(meaning))
