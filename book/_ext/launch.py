"""Open this chapter: the button on a notebook's page, and the JupyterLite that it may lead to.

JupyterLite is there if ``GENOPT_LITE`` names the folder that ``lite.py`` made.  Colab and Binder
are offered if ``book_repository`` in ``_config.yml`` is an address that they know.
"""

import json
import os
import re
import shutil
from pathlib import Path
from urllib.parse import quote

from sphinx.application import Sphinx
from sphinx.config import Config

BRANCH = "main"  # the one that .github/workflows/pages.yml publishes
PYODIDE = Path("_static/genopt/pyodide")
STAMP = "genopt-stamp"
FROM_FILE = """if (location.protocol === "file:") addEventListener("DOMContentLoaded", () => {
    for (const link of document.querySelectorAll(".btn-open-lite")) {
        const menu = link.closest(".dropdown");
        link.closest("li").remove();
        if (!menu.querySelector("li")) menu.remove();
    }
});"""
"""A browser lets no page that is opened as a file start a worker."""


def repository_links(repository: str, page: str) -> dict[str, str]:
    """Where else the notebook ``page`` can be opened: name and address of each service.

    >>> list(repository_links("https://github.com/someone/genopt/", "START"))
    ['Colab', 'Binder']
    >>> repository_links("https://github.com/someone/genopt", "START")["Colab"]
    'https://colab.research.google.com/github/someone/genopt/blob/main/book/START.ipynb'
    >>> repository_links("", "START")
    {}
    """
    found = re.fullmatch(
        r"https://(github|gitlab)\.com/([\w.-]+)/([\w.-]+?)(?:\.git)?/?", repository
    )
    if not found:
        return {}
    host, owner, name = found.groups()
    path = quote(f"book/{page}.ipynb")
    binder = "https://mybinder.org/v2"
    if host == "gitlab":
        return {"Binder": f"{binder}/gl/{owner}%2F{name}/{BRANCH}?urlpath=lab/tree/{path}"}
    return {
        "Colab": f"https://colab.research.google.com/github/{owner}/{name}/blob/{BRANCH}/{path}",
        "Binder": f"{binder}/gh/{owner}/{name}/{BRANCH}?urlpath=lab/tree/{path}",
    }


def configure(app: Sphinx, config: Config) -> None:
    config.book_lite = bool(os.environ.get("GENOPT_LITE") and os.environ.get("GENOPT_PYODIDE"))


def lay_out(app: Sphinx) -> None:
    """Copy JupyterLite into the book, and its wheels to the Pyodide that the figures use."""
    if app.builder.format != "html":
        return
    target, pyodide = Path(app.outdir) / "lite", Path(app.outdir) / PYODIDE
    if not app.config.book_lite:
        shutil.rmtree(target, ignore_errors=True)
        only_of_figures(pyodide)
        return
    made = Path(os.environ["GENOPT_LITE"])
    stamp = target / STAMP
    if not stamp.is_file() or stamp.read_bytes() != (made / STAMP).read_bytes():
        shutil.rmtree(target, ignore_errors=True)
        only_of_figures(pyodide)
        shutil.copytree(made / "lite", target)
        shutil.copytree(made / "pyodide", pyodide, dirs_exist_ok=True)
        shutil.copyfile(made / STAMP, stamp)


def only_of_figures(pyodide: Path) -> None:
    """Leave what the figures use, and no wheel that an earlier JupyterLite brought."""
    source = os.environ.get("GENOPT_PYODIDE")
    wanted = {path.name for path in Path(source).iterdir()} if source else set()
    for path in pyodide.iterdir() if pyodide.is_dir() else ():
        if path.name not in wanted:
            path.unlink()


def only_pages(app: Sphinx, problem: Exception | None) -> None:
    """Take out of JupyterLite the notebooks that are no pages of this book, such as solutions."""
    lite = Path(app.outdir) / "lite"
    if problem or app.builder.format != "html" or not lite.is_dir():
        return
    for listing in (lite / "api" / "contents").rglob("all.json"):
        here = listing.parent.relative_to(lite / "api" / "contents")
        folder = json.loads(listing.read_bytes())
        kept = [
            file
            for file in folder["content"]
            if not file["name"].endswith(".ipynb")
            or (here / file["name"]).with_suffix("").as_posix() in app.env.found_docs
        ]
        for file in folder["content"]:
            if file not in kept:
                (lite / "files" / here / file["name"]).unlink(missing_ok=True)
        if len(kept) < len(folder["content"]):
            listing.write_text(json.dumps({**folder, "content": kept}), encoding="utf-8")


def button(app: Sphinx, page: str, template: str, context: dict, doctree) -> None:
    """The menu *Open this chapter* on every page that is a notebook."""
    if doctree is None or not app.env.doc2path(page).endswith(".ipynb"):
        return
    links = []
    if app.config.book_lite:
        lab = f"{context['pathto']('lite/lab/index.html', 1)}?path={quote(page)}.ipynb"
        tooltip = "In this browser: 40 MB, once. Cells with PyTorch, SciPy or gensim do not run."
        links.append(("JupyterLite", lab, tooltip))
    for name, address in repository_links(app.config.book_repository, page).items():
        links.append((name, address, f"On {name}, a service of others"))
    if links:
        buttons = [
            {
                "type": "link",
                "text": name,
                "tooltip": tooltip,
                "url": address,
                "label": f"open-{name.lower().removeprefix('jupyter')}",
            }
            for name, address, tooltip in links
        ]
        menu = {"type": "group", "buttons": buttons, "icon": "fas fa-rocket"}
        title = {"tooltip": "Open this chapter", "label": "open-chapter"}
        context["header_buttons"].insert(0, menu | title)
