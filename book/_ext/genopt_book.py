"""Sphinx extension: the explorers' front end, frames, pictures and Python source go into the book.

A page holds *islands*: ``<div class="genopt-explorer" data-explorer=…>``, which a notebook output
or the directive ``explorer`` leaves there.  While the page is written each island gets a picture of
its setting (what a reader without JavaScript sees, and what stands there until the frames arrive)
and pictures of its presets (which only print shows).  Frames and pictures are kept in ``_build``
under the digest of all that they depend on, so that a second build computes nothing.
"""

from __future__ import annotations

import hashlib
import html
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.application import Sphinx
from sphinx.errors import ExtensionError
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective
from sphinx.util.nodes import make_refnode

import genopt_core
from genopt_core import explorers
from genopt_core.figures.widget import island

log = logging.getLogger(__name__)
PACKAGE = Path(genopt_core.__file__).parent
WEB = PACKAGE / "figures" / "web"
ISLAND = re.compile(
    r'<div class="genopt-explorer" data-explorer="(?P<name>[^"]+)" '
    r'data-params="(?P<params>[^"]*)">(?P<inner>.*?)</div>',
    re.DOTALL,
)
PAGE_FILES = ("explore.js", "explore.css", "worker.js")


def sources() -> list[Path]:
    """What a figure depends on: the package's Python and tables, and the front end that draws."""
    python = [p for p in PACKAGE.rglob("*.py") if "node_modules" not in p.parts]
    return sorted(python) + sorted((PACKAGE / "tables").glob("*.json"))


def digest() -> str:
    total = hashlib.sha256()
    for path in [*sources(), *(WEB / "dist" / name for name in (*PAGE_FILES, "render.mjs"))]:
        total.update(path.name.encode() + b"\0" + path.read_bytes())
    return total.hexdigest()[:16]


class Shelf:
    """Computed files under ``_build``, named by what they were computed from."""

    def __init__(self, folder: Path, version: str) -> None:
        self.folder = folder / version
        if not self.folder.exists():
            shutil.rmtree(folder, ignore_errors=True)
            self.folder.mkdir(parents=True)
        pictures = self.folder / "pictures.json"
        self.pictures: dict[str, str] = (
            json.loads(pictures.read_text(encoding="utf-8")) if pictures.exists() else {}
        )

    def frames(self, name: str) -> Path:
        """The script with all frames of explorer ``name``."""
        path = self.folder / f"{name}.js"
        if not path.exists():
            body = json.dumps(explorers.frames(name), separators=(",", ":"), ensure_ascii=False)
            write(path, f"GenoptExplore.frames({body});\n".encode())
        return path

    def draw(self, wanted: list[tuple[str, dict]]) -> list[str]:
        """Pictures of explorers at settings, as inline SVG: one call of Node for all new ones."""
        keys = [f"{name} {json.dumps(params, sort_keys=True)}" for name, params in wanted]
        missing = []
        for key, (name, params) in zip(keys, wanted, strict=True):
            result = explorers.run(name, params)
            if key not in self.pictures and "figure" in result:
                missing.append({"key": key, "figure": result["figure"]})
        if missing:
            done = subprocess.run(
                [os.environ.get("GENOPT_NODE", "node"), str(WEB / "dist" / "render.mjs")],
                input=json.dumps(missing),
                capture_output=True,
                text=True,
                encoding="utf-8",
            )
            if done.returncode:
                raise ExtensionError(f"the front end could not draw: {done.stderr[-2000:]}")
            self.pictures |= json.loads(done.stdout)
            write(self.folder / "pictures.json", json.dumps(self.pictures).encode())
        return [self.pictures.get(key, "") for key in keys]


def write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(path.name + ".part")
    scratch.write_bytes(data)
    scratch.replace(path)


def live_package(target: Path) -> None:
    """The package's Python and tables as a zip with fixed dates, for the worker in the page."""
    scratch = target.with_name(target.name + ".part")
    with zipfile.ZipFile(scratch, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sources():
            inside = path.relative_to(PACKAGE).as_posix()
            if inside.split("/")[0] in ("torch", "integrations", "build"):
                continue  # they need packages that no browser has
            info = zipfile.ZipInfo(f"genopt_core/{inside}", (1980, 1, 1, 0, 0, 0))
            info.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(info, path.read_bytes())
    scratch.replace(target)


def lay_out(app: Sphinx) -> None:
    """Copy the front end, MathJax, frames, package and Pyodide to ``_static``."""
    if app.builder.format != "html":
        return
    static = Path(app.outdir) / "_static"
    here = static / "genopt"
    version = digest()
    app.genopt_shelf = shelf = Shelf(Path(app.outdir).parent / "explorers", version)  # type: ignore[attr-defined]
    for name in PAGE_FILES:
        write(here / name, (WEB / "dist" / name).read_bytes())
    for name in explorers.names():
        source = shelf.frames(name)
        write(here / "frames" / source.name, source.read_bytes())
    live_package(here / "genopt_core.zip")
    runtime = os.environ.get("GENOPT_PYODIDE")
    if runtime:
        for path in Path(runtime).iterdir():
            target = here / "pyodide" / path.name
            if not target.exists() or target.stat().st_size != path.stat().st_size:
                write(target, path.read_bytes())
    else:
        shutil.rmtree(here / "pyodide", ignore_errors=True)
    mathjax = WEB / "node_modules" / "mathjax" / "es5"
    if not (static / "mathjax" / "tex-mml-chtml.js").exists():
        fonts = "output/chtml/fonts"
        shutil.copytree(mathjax / fonts, static / "mathjax" / fonts, dirs_exist_ok=True)
        write(static / "mathjax" / "tex-mml-chtml.js", (mathjax / "tex-mml-chtml.js").read_bytes())


def outdated(app: Sphinx, env, added, changed, removed) -> list[str]:
    """All pages, when the core or the front end changed since they were written."""
    version = digest()
    before = getattr(env, "genopt_version", version)
    env.genopt_version = version
    return sorted(env.found_docs) if before != version else []


def fill_islands(app: Sphinx, page: str, template: str, context: dict, doctree) -> None:
    """Give every island of a page its pictures."""
    body = context.get("body", "")
    found = list(ISLAND.finditer(body))
    if not found:
        return
    shelf: Shelf = app.genopt_shelf  # type: ignore[attr-defined]
    wanted: list[tuple[str, dict]] = []
    for match in found:
        name, params = match["name"], json.loads(html.unescape(match["params"]))
        presets = [dict(preset.params) for preset in explorers.get(name).presets]
        wanted += [(name, params), *((name, preset) for preset in presets)]
    pictures = iter(shelf.draw(wanted))

    def filled(match: re.Match) -> str:
        name, params = match["name"], json.loads(html.unescape(match["params"]))
        first = figure_html(name, params, next(pictures), label=None)
        prints = [
            figure_html(name, dict(preset.params), next(pictures), label=preset.label)
            for preset in explorers.get(name).presets
        ]
        # the controls can be built before the frames arrive, so that nothing jumps
        described = json.dumps(explorers.describe(name), ensure_ascii=False).replace("<", "\\u003c")
        return (
            f'<div class="genopt-explorer" data-explorer="{match["name"]}" '
            f'data-params="{match["params"]}">'
            f'<script type="application/json" class="gx-description">{described}</script>'
            f'<div class="gx-static">{first}</div>'
            f'<div class="gx-print">{"".join(prints)}</div></div>'
        )

    context["body"] = ISLAND.sub(filled, body)


def figure_html(name: str, params: dict, picture: str, label: str | None) -> str:
    """One setting on paper: what is set, the picture, the sentence that reads it."""
    result = explorers.run(name, params)
    head = f"<p><strong>{html.escape(label)}</strong></p>" if label else ""
    if "error" in result:
        return f"<div>{head}<p>{html.escape(result['error'])}</p></div>"
    figure = result["figure"]
    said = f'<p class="gx-readout">{html.escape(figure["readout"])}</p>'
    title = f'<p class="gx-title">{html.escape(figure["title"])}</p>' if not label else ""
    return f"<div>{head}{title}{picture}{said}</div>"


def without_thebe(app: Sphinx, page: str, template: str, context: dict, doctree) -> None:
    """Jupyter Book always adds Thebe, which asks a CDN for a remote kernel that we do not have."""
    context["script_files"] = [
        script
        for script in context.get("script_files", [])
        if "thebe" not in str(getattr(script, "filename", script) or "").lower()
        and "THEBE_JS_URL" not in str(getattr(script, "attributes", {}).get("body", ""))
    ]


def without_font_preloads(app: Sphinx, problem: Exception | None) -> None:
    """Take out the theme's preloaded icon fonts: its icons are drawn by script, no page uses them.

    Opened as a file, a browser refuses each with an error, and over the wire they are 400 kB.
    """
    if problem or app.builder.format != "html":
        return
    for page in Path(app.outdir).rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        lean = re.sub(r'<link rel="preload" as="font"[^>]*>\s*', "", text)
        if lean != text:
            write(page, lean.encode())


def known(target: str) -> bool:
    """Whether a module of the package has this name, or is called so."""
    modules = {name: module for name, module in sys.modules.items() if "genopt_core" in name}
    return target in modules or any(hasattr(module, target) for module in modules.values())


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
    if known(target):
        return contnode  # it exists, and is not on the API page
    ours = re.fullmatch(r"[\w.]*\b[A-Z]\w*[a-z]\w*", target)
    elsewhere = target.startswith(("numpy.", "concurrent."))  # the build asks no other server
    return contnode if node["reftype"] == "class" and (not ours or elsewhere) else None


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


def setup(app: Sphinx) -> dict:
    app.add_directive("explorer", ExplorerDirective)
    app.add_directive("predict", PredictDirective)
    app.add_js_file("genopt/explore.js", loading_method="defer")
    app.add_css_file("genopt/explore.css")
    app.add_css_file("book.css")
    app.connect("builder-inited", lay_out)
    app.connect("missing-reference", short_names)
    app.connect("env-get-outdated", outdated)
    app.connect("html-page-context", fill_islands, priority=600)
    app.connect("html-page-context", without_thebe, priority=900)
    app.connect("build-finished", without_font_preloads)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": False}
