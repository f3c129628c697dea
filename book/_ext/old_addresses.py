"""Sphinx extension: addresses that pages once had lead to where the pages are now.

For every old address a small page is written that forwards at once, fragment and query kept, so
that a link to a section or to the setting of an explorer still works, from a server and from a
file.  Without JavaScript the reader finds a plain link.
"""

import html
import json
import posixpath
from pathlib import Path

import exercises
from sphinx.application import Sphinx
from sphinx.errors import ExtensionError

MOVED = {
    "ch1_subwords": "ch1_subwords/paths",
    "ch1_vocabulary": "ch1_subwords/vocabulary",
    "ch1_worth": "ch1_subwords/evidence",
    "ch2_cross_entropy": "ch2_search/cross_entropy",
    "ch2_worth": "ch2_search/evidence",
    "ch5_kvcache": "ch5_kvcache/staircase",
    "ch5_worth": "ch5_kvcache/evidence",
    "solutions/ch1_subwords": "ch1_subwords/paths_solutions",
    "solutions/ch1_vocabulary": "ch1_subwords/vocabulary_solutions",
    "solutions/ch2_cross_entropy": "ch2_search/cross_entropy_solutions",
    "solutions/ch5_kvcache": "ch5_kvcache/staircase_solutions",
    "api": "api/index",
}
"""Old page -> new page, both without ``.html``.  A page that moves again gets a second line."""

SPLIT = {"api": "api/"}
"""Old pages whose parts are now on several pages, and the folder of those."""

PAGE = """\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="robots" content="noindex">
<title>{title} has moved</title>
<link rel="canonical" href="{href}">
<script>
(function () {{
  var parts = {parts};  // of a page that was split: fragment -> address
  var id = decodeURIComponent(location.hash.slice(1));
  var last = id.slice(id.lastIndexOf(".") + 1);
  var alike = Object.keys(parts).filter(function (name) {{
    return last && name.slice(name.lastIndexOf(".") + 1) === last;
  }});
  var found = id in parts ? id : alike.length === 1 ? alike[0] : null;
  location.replace(found ? parts[found] + location.search + "#" + found
                         : "{href}" + location.search + location.hash);
}})();
</script>
</head>
<body>
<main>
<h1>This page has moved</h1>
<p>It is now at <a href="{href}">{title}</a>.</p>
</main>
</body>
</html>
"""


def forwarding_page(old: str, new: str, title: str, parts: dict[str, str]) -> str:
    """The HTML that leads from page ``old`` to page ``new``, or to one of its ``parts``."""
    here = posixpath.dirname(old) or "."
    href = posixpath.relpath(f"{new}.html", here)
    near = {name: posixpath.relpath(f"{page}.html", here) for name, page in parts.items()}
    described = json.dumps(near, sort_keys=True).replace("<", "\\u003c")
    return PAGE.format(title=html.escape(title), href=html.escape(href), parts=described)


def write_forwarding_pages(app: Sphinx, problem: Exception | None) -> None:
    if problem or app.builder.format != "html":
        return
    objects = app.env.get_domain("py").objects
    bare = exercises.left_out(app)
    for old, new in MOVED.items():
        if bare and exercises.is_solution(new):
            continue
        if old in app.env.found_docs:
            raise ExtensionError(f"old_addresses: {old} is a page again, take it off the table")
        if new not in app.env.found_docs:
            raise ExtensionError(f"old_addresses: {old} leads to {new}, which is no page")
        parts = {
            name: entry.docname
            for name, entry in objects.items()
            if old in SPLIT and entry.docname.startswith(SPLIT[old])
        }
        target = Path(app.outdir) / f"{old}.html"
        target.parent.mkdir(parents=True, exist_ok=True)
        title = app.env.titles[new].astext()
        target.write_text(forwarding_page(old, new, title, parts), encoding="utf-8")


def setup(app: Sphinx) -> dict:
    app.connect("build-finished", write_forwarding_pages)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
