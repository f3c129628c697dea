"""Sphinx extension of the book: what helps a reader along, where it takes hold of the build.

The `scoreboard`, the words of the glossary (`terms`) and the `symbols` of formulas where they are
used, and what claims of the ledger a page bears.
"""

from html import escape

import claims
import symbols
import terms
from scoreboard.page import ScoreboardDirective
from sphinx.application import Sphinx


def ledger(app: Sphinx, page: str, template: str, context: dict, doctree) -> None:
    """At the foot of a page: the claims that it bears."""
    rows = [claim for claim in claims.claims() if claim.page == page]
    if not rows or "body" not in context:
        return
    address = app.builder.get_relative_uri(page, "claims")
    items = "".join(
        f'<li><a href="{address}#{claim.id}">{escape(claim.says)}</a> {claim.verdict}</li>'
        for claim in rows
    )
    words = "claim that this page bears" if len(rows) == 1 else "claims that this page bears"
    context["body"] += (
        f'<details class="ledger"><summary>{len(rows)} {words}, in the ledger</summary>'
        f"<ul>{items}</ul></details>"
    )


def setup(app: Sphinx) -> dict:
    app.add_directive("scoreboard", ScoreboardDirective)
    app.add_css_file("scoreboard.css")
    app.add_css_file("reading.css")
    app.add_js_file("reading.js", loading_method="defer")
    app.connect("doctree-resolved", symbols.explain)
    app.connect("doctree-resolved", terms.mark)
    app.connect("html-page-context", terms.define, priority=540)
    app.connect("html-page-context", ledger, priority=550)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": False}
