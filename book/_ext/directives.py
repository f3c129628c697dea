"""Directives of the book: ``explorer`` on a Markdown page, and ``predict``."""

import html
import json

from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.util.docutils import SphinxDirective

from genopt_core import explorers
from genopt_core.figures.widget import island


class ExplorerDirective(SphinxDirective):
    """``{explorer} name`` puts an explorer on a Markdown page; its body is JSON, the settings."""

    required_arguments = 1
    has_content = True

    def run(self) -> list[nodes.Node]:
        params = json.loads("\n".join(self.content) or "{}")
        try:
            explorers.get(self.arguments[0]).check(params)
        except (KeyError, TypeError, ValueError) as problem:
            raise self.error(str(problem)) from problem
        return [nodes.raw("", island(explorers.get(self.arguments[0]), params), format="html")]


class PredictDirective(SphinxDirective):
    """``{predict} question``: the reader commits to an answer, then opens the body to check it."""

    required_arguments = 1
    final_argument_whitespace = True
    has_content = True
    option_spec = {"label": directives.unchanged}  # noqa: RUF012  docutils wants a plain dict

    def run(self) -> list[nodes.Node]:
        question = nodes.paragraph(classes=["predict-question"])
        parsed, messages = self.parse_inline(self.arguments[0])
        question += nodes.strong("", "Predict. ")
        question += parsed
        answer = self.parse_content_to_nodes()
        label = html.escape(self.options.get("label", "Check"))
        return [
            nodes.raw("", '<div class="predict">', format="html"),
            question,
            nodes.raw("", f"<details><summary>{label}</summary>", format="html"),
            *answer,
            nodes.raw("", "</details></div>", format="html"),
            *messages,
        ]
