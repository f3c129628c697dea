"""What the book wants otherwise than Jupyter Book, its theme and Sphinx do by themselves."""

import re
from pathlib import Path

import sources
from sphinx.application import Sphinx
from sphinx.util.nodes import make_refnode

from genopt_core.files import write_text


def without_thebe(app: Sphinx, page: str, template: str, context: dict, doctree) -> None:
    """Jupyter Book always adds Thebe, which asks a CDN for a remote kernel that we do not have."""
    context["script_files"] = [
        script
        for script in context.get("script_files", [])
        if "thebe" not in str(getattr(script, "filename", script) or "").lower()
        and "THEBE_JS_URL" not in str(getattr(script, "attributes", {}).get("body", ""))
    ]


# A script of ours or Sphinx's, by a part of its address, and what it is for.
NEEDED_BY = {
    "mathjax/": 'class="math ',
    "genopt/explore.js": 'class="genopt-',
    "predict.js": 'class="predict ',
}


def without_idle_scripts(app: Sphinx, page: str, template: str, context: dict, doctree) -> None:
    """A page loads no script that finds nothing to do on it; MathJax alone is 1.2 MB."""
    body = context.get("body", "")
    context["script_files"] = [
        script
        for script in context.get("script_files", [])
        if all(
            part not in str(getattr(script, "filename", None) or "") or mark in body
            for part, mark in NEEDED_BY.items()
        )
    ]


TOGGLE = r'<summary>(?=<span class="toctree-toggle")'


def without_font_preloads(app: Sphinx, problem: Exception | None) -> None:
    """Take out the theme's preloaded icon fonts: `icons` has what is left of them in a style sheet.

    Opened as a file, a browser refuses each with an error, and over the wire they are 400 kB.  And
    give a name to the arrows that open a chapter in the sidebar; the theme gives them none.
    """
    if problem or app.builder.format != "html":
        return
    for page in Path(app.outdir).rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        better = re.sub(r'<link rel="preload" as="font"[^>]*>\s*', "", text)
        better = re.sub(TOGGLE, '<summary aria-label="Pages of this chapter">', better)
        if better != text:
            write_text(page, better)


def short_names(app: Sphinx, env, node, contnode):
    """Resolve `Vocabulary` in any module's docstring, and leave words that are no classes alone.

    A name that only one documented object ends with means that object.  Sphinx also takes each word
    of a type such as "(words,) float array" for a class; real classes are written in CamelCase, and
    one of those that does not exist stays a warning, which is an error here.
    """
    target = node.get("reftarget", "")
    if node.get("refdomain") != "py":
        return None
    domain = env.get_domain("py")
    found = [
        name
        for name, entry in domain.objects.items()
        if name.endswith(f".{target}") and not entry.aliased
    ]
    if len(found) == 1:
        place = domain.objects[found[0]]
        return make_refnode(
            app.builder, node["refdoc"], place.docname, place.node_id, contnode, found[0]
        )
    if target in sources.definitions() or node.get("refdoc") == "claims":
        return contnode  # it exists, and is not on the API page
    ours = re.fullmatch(r"[\w.]*\b[A-Z]\w*[a-z]\w*", target)
    elsewhere = target.startswith(("numpy.", "concurrent."))  # the build asks no other server
    types = ("class", "exc")
    return contnode if node["reftype"] in types and (not ours or elsewhere) else None
