"""Islands: the places of a page where an explorer stands, and all they need from the build.

An island is ``<div class="genopt-explorer" data-explorer=…>``, which a notebook output or the
directive ``explorer`` leaves on a page.  While the page is written each island gets a picture of
its setting (what a reader without JavaScript sees, and what stands there until the frames arrive)
and pictures of its presets (which only print shows).  Frames and pictures are kept in ``_build``
under the digest of all that they depend on, so that a second build computes nothing.
"""

import html
import json
import os
import re
import shutil
import subprocess
import zipfile
from pathlib import Path
from typing import Any

import sources
from pyodide_runtime import RUNTIME
from sphinx.application import Sphinx
from sphinx.errors import ExtensionError

from genopt_core import explorers
from genopt_core.corpora import END_OF_WORD
from genopt_core.files import whole_file
from genopt_core.subwords import UNKNOWN, UNKNOWN_EXTRA
from genopt_core.tables import STORED_SIZES, stored_costs

WEB = sources.PACKAGE / "figures" / "web"
PAGE_FILES = ("explore.js", "explore.css", "worker.js")
LATTICE = "subword-lattice"  # the front end computes it, so that any word is answered at once
ISLAND = re.compile(
    r'<div class="genopt-explorer" data-explorer="(?P<name>[^"]+)" '
    r'data-params="(?P<params>[^"]*)">(?P<inner>.*?)</div>',
    re.DOTALL,
)


def write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as file:
        file.write(data)


# ------------------------------------------------------------------ what figures are made from


def _call(function: str, data: dict[str, Any]) -> bytes:
    body = json.dumps(data, separators=(",", ":"), ensure_ascii=False)
    return f"GenoptExplore.{function}({body});\n".encode()


def frames_script(name: str) -> bytes:
    """All figures of explorer ``name``, computed in advance."""
    return _call("frames", explorers.frames(name))


def lattice_script() -> bytes:
    """The stored costs, from which the page computes the lattice of any word (``lattice.js``)."""
    by_size = {size: stored_costs(size) for size in STORED_SIZES}
    pieces = list(dict.fromkeys(piece for costs in by_size.values() for piece in costs))
    data = {
        "explorer": explorers.describe(LATTICE),
        "end": END_OF_WORD,
        "unknown": UNKNOWN,
        "unknownExtra": UNKNOWN_EXTRA,
        "pieces": pieces,
        "costs": {size: [of.get(piece) for piece in pieces] for size, of in by_size.items()},
    }
    return _call("lattice", data)


# ------------------------------------------------------------------ frames and pictures, kept


class Shelf:
    """Frames and pictures by explorer, each under the digest of what they were computed from."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.versions = {
            name: sources.digest(sources.needed(sources.module_of(name)))
            for name in explorers.names()
        }
        dist = WEB / "dist"
        self.drawing = sources.digest([dist / "render.mjs"])
        self.version = {**self.versions, "": sources.digest(dist / name for name in PAGE_FILES)}
        self._shown: dict[str, dict[str, Any]] = {}
        for old in folder.glob("*"):
            if old.name not in self.versions:
                shutil.rmtree(old)

    def _path(self, name: str, kind: str, version: str) -> Path:
        """The file of this version; those of other versions are thrown away."""
        path = self.folder / name / f"{kind}-{version}"
        for old in path.parent.glob(f"{kind}-*"):
            if old != path:
                old.unlink()
        return path

    def frames(self, name: str) -> bytes:
        """The script with all frames of explorer ``name``, or what the page computes it from."""
        path = self._path(name, "frames", self.versions[name])
        if not path.exists():
            write(path, lattice_script() if name == LATTICE else frames_script(name))
        return path.read_bytes()

    def _pictures(self, name: str) -> Path:
        return self._path(name, "pictures", f"{self.versions[name]}-{self.drawing}")

    def shown(self, wanted: list[tuple[str, dict]]) -> list[dict[str, str]]:
        """What a page shows of explorers at settings: title, readout and picture, or the error.

        Only what is not kept is computed, and all of it is drawn by one call of Node.
        """
        for name in {name for name, _ in wanted} - self._shown.keys():
            path = self._pictures(name)
            self._shown[name] = json.loads(path.read_bytes()) if path.exists() else {}
        keys = [(name, json.dumps(params, sort_keys=True)) for name, params in wanted]
        new = [key for key in dict.fromkeys(keys) if key[1] not in self._shown[key[0]]]
        results = {(name, at): explorers.run(name, json.loads(at)) for name, at in new}
        drawings = draw({f"{name} {at}": r.get("figure") for (name, at), r in results.items()})
        for (name, at), result in results.items():
            figure = result.get("figure")
            self._shown[name][at] = (
                {"error": result["error"]}
                if not figure
                else {
                    "title": figure["title"],
                    "readout": figure["readout"],
                    "picture": drawings[f"{name} {at}"],
                }
            )
        for name in {name for name, _ in new}:
            write(self._pictures(name), json.dumps(self._shown[name]).encode())
        return [self._shown[name][at] for name, at in keys]


def draw(figures: dict[str, dict | None]) -> dict[str, str]:
    """Inline SVG of the ``figures`` that there are, by the front end's own code in Node."""
    wanted = [{"key": key, "figure": figure} for key, figure in figures.items() if figure]
    if not wanted:
        return {}
    done = subprocess.run(
        [os.environ.get("GENOPT_NODE", "node"), str(WEB / "dist" / "render.mjs")],
        input=json.dumps(wanted),
        capture_output=True,
        text=True,
        encoding="utf-8",
    )
    if done.returncode:
        raise ExtensionError(f"the front end could not draw: {done.stderr[-2000:]}")
    return json.loads(done.stdout)


# ------------------------------------------------------------------ steps of the build


def live_package(target: Path) -> None:
    """The explorers and what they need, as a zip with fixed dates, for the worker in the page."""
    modules = map(sources.module_of, explorers.names())
    with whole_file(target) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sources.needed("genopt_core.explorers", *modules):
            inside = path.relative_to(sources.PACKAGE.parent).as_posix()
            info = zipfile.ZipInfo(inside, (1980, 1, 1, 0, 0, 0))
            info.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(info, path.read_bytes())


def python_bytes(here: Path) -> int:
    """How much a page fetches to start Python; 0 if this build carries none."""
    folder = here / "pyodide"
    if not folder.is_dir():
        return 0
    names = [*RUNTIME, *(path.name for path in folder.glob("numpy-*.whl"))]
    fetched = [folder / name for name in names if not name.endswith("js")]  # those are imported
    return sum(path.stat().st_size for path in (*fetched, here / "genopt_core.zip"))


def lay_out(app: Sphinx) -> None:
    """Copy the front end, MathJax, frames, package and Pyodide to ``_static``."""
    if app.builder.format != "html":
        return
    static = Path(app.outdir) / "_static"
    here = static / "genopt"
    app.genopt_shelf = shelf = Shelf(Path(app.outdir).parent / "explorers")  # type: ignore[attr-defined]
    for name in explorers.names():
        write(here / "frames" / f"{name}.js", shelf.frames(name))
    live_package(here / "genopt_core.zip")
    runtime = os.environ.get("GENOPT_PYODIDE")
    if runtime:
        for path in Path(runtime).iterdir():
            target = here / "pyodide" / path.name
            if not target.exists() or target.stat().st_size != path.stat().st_size:
                write(target, path.read_bytes())
    else:
        shutil.rmtree(here / "pyodide", ignore_errors=True)
    for name in PAGE_FILES:
        write(here / name, (WEB / "dist" / name).read_bytes())
    size = python_bytes(here)
    front = here / "explore.js"
    write(front, f"globalThis.GENOPT_PYTHON_BYTES={size};\n".encode() + front.read_bytes())
    mathjax = WEB / "node_modules" / "mathjax" / "es5"
    if not (static / "mathjax" / "tex-mml-chtml.js").exists():
        fonts = "output/chtml/fonts"
        shutil.copytree(mathjax / fonts, static / "mathjax" / fonts, dirs_exist_ok=True)
        write(static / "mathjax" / "tex-mml-chtml.js", (mathjax / "tex-mml-chtml.js").read_bytes())


def outdated(app: Sphinx, env, added, changed, removed) -> list[str]:
    """All pages, when a figure or the front end changed since they were written."""
    shelf = getattr(app, "genopt_shelf", None)
    before, env.genopt_version = getattr(env, "genopt_version", None), shelf and shelf.version
    return sorted(env.found_docs) if before not in (None, env.genopt_version) else []


def fill(app: Sphinx, page: str, template: str, context: dict, doctree) -> None:
    """Give every island of a page its pictures."""
    body = context.get("body", "")
    wanted: list[tuple[str, dict]] = []
    for match in ISLAND.finditer(body):
        presets = explorers.get(match["name"]).presets
        here = json.loads(html.unescape(match["params"]))
        wanted += [(match["name"], params) for params in (here, *(dict(p.params) for p in presets))]
    if not wanted:
        return
    shown = iter(app.genopt_shelf.shown(wanted))  # type: ignore[attr-defined]

    def filled(match: re.Match) -> str:
        explorer = explorers.get(match["name"])
        first = on_paper(next(shown))
        start = explorer.check(json.loads(html.unescape(match["params"])))
        prints = [
            on_paper(drawn, preset.label)
            if explorer.check(dict(preset.params)) != start
            else f"<p><strong>{html.escape(preset.label)}</strong>: as the figure opens.</p>"
            for preset, drawn in [(preset, next(shown)) for preset in explorer.presets]
        ]
        # the controls can be built before the frames arrive, so that nothing jumps
        described = json.dumps(explorer.describe(), ensure_ascii=False).replace("<", "\\u003c")
        return (
            f'<div class="genopt-explorer" data-explorer="{match["name"]}" '
            f'data-params="{match["params"]}">'
            f'<script type="application/json" class="gx-description">{described}</script>'
            f'<div class="gx-static">{first}</div>'
            f'<div class="gx-print">{"".join(prints)}</div></div>'
        )

    # the frames of the first figure travel while the scripts before them are still read
    first = f"_static/genopt/frames/{wanted[0][0]}.js"
    soon = f'<link rel="preload" as="script" href="{context["pathto"](first, 1)}">'
    context["body"] = soon + ISLAND.sub(filled, body)


def on_paper(shown: dict[str, str], preset: str = "") -> str:
    """One setting: the name of the preset or the title, the picture, the sentence that reads it."""
    head = f"<p><strong>{html.escape(preset)}</strong></p>" if preset else ""
    if "error" in shown:
        return f"<div>{head}<p>{html.escape(shown['error'])}</p></div>"
    head = head or f'<p class="gx-title">{html.escape(shown["title"])}</p>'
    readout = f'<p class="gx-readout">{html.escape(shown["readout"])}</p>'
    return f"<div>{head}{shown['picture']}{readout}</div>"
