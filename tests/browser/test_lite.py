"""A chapter opened in JupyterLite: Python in the browser, nothing asked of any other server."""

from __future__ import annotations

import re

import pytest
from browser.reader import LIMIT_MS

PAGE = "ch3_positions/encodings"
OPENED = """() => {
    const shown = globalThis.jupyterapp?.shell?.currentWidget;
    return shown?.content?.model?.cells
        && shown.sessionContext?.session?.kernel?.status === "idle";
}"""
RUN = """async (count) => {
    const { commands, shell } = globalThis.jupyterapp;
    await commands.execute("notebook:clear-all-cell-outputs");  // stored ones, and their numbers
    const book = shell.currentWidget.content;
    const code = [...book.model.cells].flatMap((cell, i) => (cell.type === "code" ? [i] : []));
    for (const index of code.slice(0, count)) {
        book.activeCellIndex = index;
        void commands.execute("notebook:run-cell");  // the kernel takes one after the other
    }
}"""
RAN = """(count) => {
    const cells = [...globalThis.jupyterapp.shell.currentWidget.content.model.cells];
    const first = cells.filter((cell) => cell.type === "code").slice(0, count);
    return first.every((cell) => cell.executionCount && cell.executionState === "idle");
}"""
DRAWN = """() => document.querySelector(".jp-OutputArea .gx-panels svg")
    && document.querySelector(".jp-OutputArea output.gx-readout")?.textContent.length > 20"""
ERRORS = """() => [...globalThis.jupyterapp.shell.currentWidget.content.model.cells]
    .filter((cell) => cell.type === "code")
    .flatMap((cell) => cell.outputs.toJSON())
    .filter((output) => output.output_type === "error")
    .map((output) => output.evalue)"""


@pytest.fixture
def lite(html, served):
    if not (html / "lite").is_dir():
        pytest.skip("this build has no JupyterLite")
    return f"{served}lite/lab/index.html"


def test_a_page_leads_to_its_notebook(html, lite):
    text = (html / f"{PAGE}.html").read_text(encoding="utf-8")
    (address,) = re.findall(r'href="([^"]*lite/lab/index.html[^"]*)"', text)
    assert address == f"../lite/lab/index.html?path={PAGE}.ipynb"
    assert (html / "lite" / "files" / f"{PAGE}.ipynb").is_file()


def test_first_cells_run_without_any_other_server(chromium, served, lite):
    context = chromium.new_context()
    outside: list[str] = []

    def only_ours(route):
        if route.request.url.startswith((served, "data:", "blob:")):
            route.continue_()
        else:
            outside.append(route.request.url)
            route.abort()

    context.route("**/*", only_ours)
    page = context.new_page()
    page.set_default_timeout(4 * LIMIT_MS)  # a JupyterLab and a Python start
    page.goto(f"{lite}?path={PAGE}.ipynb")
    page.wait_for_function(OPENED)
    page.evaluate(RUN, 3)
    page.wait_for_function(RAN, arg=3)
    page.wait_for_function(DRAWN)
    assert page.evaluate(ERRORS) == []
    assert outside == []
    context.close()
