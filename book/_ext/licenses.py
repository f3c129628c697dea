"""``licenses.html``: the works of others that the site carries, their licenses and sources."""

import json
from collections.abc import Iterator
from html import escape
from pathlib import Path

from carried import BOOK, Part, parts, unknown
from sphinx.application import Sphinx
from sphinx.util import logging

INTRODUCTION = """\
<p>The code of GenOpt is under the MIT license, its text and figures are under
<a href="https://creativecommons.org/licenses/by/4.0/legalcode">CC BY 4.0</a>. With them come the
works of others that this page names: {count} of them, each with its license, which a number leads
to, and the address of its source. Those under the Mozilla Public License 2.0 are carried as their
makers published them; their source is at the address beside them.</p>"""
DATA = (
    (
        "Keys, values and queries of SmolLM2-135M, recorded on a part of Moby-Dick",
        "https://huggingface.co/HuggingFaceTB/SmolLM2-135M",
        "Apache-2.0, that of the model",
    ),
)


def data_list() -> str:
    """The texts of the book's data, from their manifest, and what is made with work of others."""
    manifest = json.loads((BOOK / "data" / "manifest.json").read_text(encoding="utf-8"))
    rows = [
        (escape(one["title"]), f"from {escape(one['source'])}", escape(one["licence"]))
        for one in manifest["corpora"]
    ] + [(title, f'<a href="{address}">{address}</a>', said) for title, address, said in DATA]
    lines = [f"<li>{title}: {source}. License: {said}.</li>" for title, source, said in rows]
    return f"<h2>Texts and data</h2><ul>{''.join(lines)}</ul>"


def table(found: list[Part], numbers: dict[str, int]) -> str:
    """Name, version and license of parts, with links to sources and words."""
    rows = []
    for part in found:
        number = numbers[" ".join(part.text.split())]
        rows.append(
            f'<tr><td><a href="{escape(part.source)}">{escape(part.name)}</a></td>'
            f"<td>{escape(part.version)}</td><td>{escape(part.license)}</td>"
            f'<td><a href="#text-{number}">{number}</a></td></tr>'
        )
    head = "<tr><th>Work</th><th>Version</th><th>License</th><th>Text</th></tr>"
    body = f"<thead>{head}</thead><tbody>{''.join(rows)}</tbody>"
    return f'<div class="pst-scrollable-table-container"><table class="table">{body}</table></div>'


def document(found: list[Part]) -> str:
    """The page: works by the place where they are met, then each text of a license once."""
    numbers: dict[str, int] = {}
    words: dict[int, str] = {}
    for part in found:
        number = numbers.setdefault(" ".join(part.text.split()), len(numbers) + 1)
        words[number] = part.text
    pieces = ['<section id="licenses"><h1>Licenses</h1>', INTRODUCTION.format(count=len(found))]
    pieces.append(data_list())
    for place in dict.fromkeys(part.place for part in found):
        here = [part for part in found if part.place == place]
        pieces.append(f"<h2>{place}</h2>{table([p for p in here if p.files], numbers)}")
        if inner := [part for part in here if not part.files]:
            fold = f"<details><summary>{len(inner)} works inside of these</summary>"
            pieces.append(f"{fold}{table(inner, numbers)}</details>")
    pieces.append("<h2>Texts of the licenses</h2>")
    for number, whole in words.items():
        by = ", ".join(p.name for p in found if numbers[" ".join(p.text.split())] == number)
        summary = f"{number}: {escape(by if len(by) < 90 else by[:80] + ' …')}"
        said = f'<pre id="text-{number}">{escape(whole)}</pre>'
        pieces.append(f"<details><summary>{summary}</summary>{said}</details>")
    return "\n".join([*pieces, "</section>"])


def page(app: Sphinx) -> Iterator[tuple[str, dict, str]]:
    """``licenses.html``, once the files of themes and extensions are in the site."""
    if app.builder.format == "html":
        body = document(parts(Path(app.outdir)))
        yield "licenses", {"title": "Licenses", "body": body}, "page.html"


def check(app: Sphinx, problem: Exception | None) -> None:
    """Warn, which is an error here, of files that nobody has named on the page."""
    if problem or app.builder.format != "html":
        return
    site = Path(app.outdir)
    if left := unknown(site, parts(site)):
        shown = ", ".join(left[:5])
        logging.getLogger(__name__).warning(
            f"licenses: {len(left)} files of unknown makers: {shown}"
        )
