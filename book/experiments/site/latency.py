"""Time from moving a control to the new picture, for the three engines of every explorer.

    python -m book.experiments.site.latency [--moves 120] [--engines first frames python kernel]

Needs the built book (``make book``) and Chromium; the kernel engine starts a JupyterLab of its own
on this machine.  What is timed is what a reader feels: from the input event through the engine to
the picture in the document.  Targets for the 95th percentile: 16 ms for frames (one refresh of a
screen), 50 ms for Python in the page, 100 ms through a kernel.  ``first`` is the time until a new
reader of a page can use its first figure: 2 s.
"""

from __future__ import annotations

import contextlib
import functools
import http.server
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from playwright.sync_api import Browser, Locator, Page, sync_playwright

from book.experiments.common.main import parser
from book.experiments.common.places import ROOT
from genopt_core import explorers

HTML = ROOT / "_build" / "html"
TARGETS = {"first": 2000, "frames": 16, "python": 50, "kernel": 100}
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"]
# Moves one control back and forth through its positions, waiting for each picture.
MOVE = """async ([root, moves]) => {
    const field = root.querySelector("input[type=range]");
    const seen = [];
    for (let i = 0; i < moves; i++) {
        const low = +field.min, high = +field.max, span = Math.max(1, high - low);
        const turn = i % (2 * span), before = +root.dataset.draws;
        const next = low + (turn < span ? turn : 2 * span - turn);
        if (next === +field.value) continue;
        field.value = next;
        field.dispatchEvent(new Event("input", {bubbles: true}));
        for (let t = 0; +root.dataset.draws === before && t < 500; t++)
            await new Promise((go) => setTimeout(go, 4));
        seen.push(+root.dataset.latency);
        await new Promise((go) => setTimeout(go, 30));
    }
    return seen;
}"""


FIRST = """() => new Promise((found) => {
    const look = () => {
        const first = document.querySelector(".genopt-explorer[data-explorer]");
        first?.scrollIntoView({behavior: "instant"});  // a figure waits until it is in sight
        if (first?.dataset.ready) found(performance.now());
        else if (performance.now() > 60000) found(60000);
        else requestAnimationFrame(look);
    };
    look();
})"""


class Quiet(http.server.SimpleHTTPRequestHandler):
    """A file server that does not log."""

    def log_message(self, *arguments) -> None:
        """Say nothing."""


@contextlib.contextmanager
def served(folder: Path) -> Iterator[str]:
    """The address of ``folder`` on this machine."""
    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder))
    )
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()


def ready(page: Page, name: str) -> Locator:
    """The first explorer ``name`` of the page, once it shows a picture."""
    root = page.locator(f'.genopt-explorer[data-explorer="{name}"]').first
    root.scroll_into_view_if_needed()
    root.and_(page.locator("[data-ready]")).wait_for(timeout=60_000)
    return root


def pages() -> dict[str, list[str]]:
    """The pages that show explorers, as addresses below the book, and which."""
    found = {}
    for path in sorted(HTML.rglob("*.html")):
        text = path.read_text(encoding="utf-8")
        if here := [name for name in explorers.names() if f'data-explorer="{name}"' in text]:
            found[path.relative_to(HTML).as_posix()] = here
    return found


def for_new_readers(browser: Browser, address: str) -> dict[str, list[float]]:
    """Milliseconds until the first figure of each page is ready, for three readers in turn."""
    found: dict[str, list[float]] = {}
    for path in pages():
        for start in (address, HTML.as_uri() + "/", address):
            context = browser.new_context()
            page = context.new_page()
            page.goto(start + path, wait_until="commit")
            found.setdefault(path, []).append(page.evaluate(FIRST))
            context.close()
    return found


def on_the_page(page: Page, address: str, engine: str, moves: int) -> dict[str, list[float]]:
    """Latencies of every explorer of the built book, by frames or by Python in the page."""
    found: dict[str, list[float]] = {}
    for path, names in pages().items():
        here = [name for name in names if name not in found]
        page.goto(address + path)
        for name in here:
            root = ready(page, name)
            if not root.locator("input[type=range]").count():
                continue  # nothing here that one drags
            if engine == "python":
                if root.get_attribute("data-engine") != "python":
                    if not root.locator(".gx-run").count():
                        continue  # Python adds nothing to its frames
                    root.locator(".gx-run").click()
                page.wait_for_function(
                    "root => root.dataset.engine === 'python'",
                    arg=root.element_handle(),
                    timeout=180_000,
                )
                page.wait_for_timeout(1500)
                page.evaluate(MOVE, [root.element_handle(), 10])  # warm caches
            found[name] = page.evaluate(MOVE, [root.element_handle(), moves])
    return found


def in_jupyterlab(page: Page, moves: int) -> dict[str, list[float]]:
    """Latencies of every explorer in a notebook of a JupyterLab started for it."""
    found: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        for name in explorers.names():
            source = f"from genopt_core import explore\nexplore({name!r})"
            cell = {"cell_type": "code", "id": "a", "metadata": {}, "source": source}
            notebook = {
                "cells": [{**cell, "execution_count": None, "outputs": []}],
                "metadata": {"kernelspec": {"name": "python3", "display_name": "Python 3"}},
                "nbformat": 4,
                "nbformat_minor": 5,
            }
            (folder / f"{name}.ipynb").write_text(json.dumps(notebook), encoding="utf-8")
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        env = {**os.environ, "JUPYTER_CONFIG_DIR": scratch, "JUPYTER_RUNTIME_DIR": scratch}
        command = [sys.executable, "-m", "jupyter", "lab", "--no-browser", "--allow-root"]
        command += [f"--port={port}", "--ServerApp.token=", f"--ServerApp.root_dir={scratch}"]
        with (folder / "log").open("w") as log:
            lab = subprocess.Popen(command, env=env, stdout=log, stderr=subprocess.STDOUT)
        try:
            while "is running at" not in (folder / "log").read_text():
                time.sleep(0.3)
            for name in explorers.names():
                page.goto(f"http://127.0.0.1:{port}/lab/tree/{name}.ipynb?reset")
                page.locator(".jp-Cell .cm-content").first.click(timeout=60_000)
                page.wait_for_timeout(3000)
                page.keyboard.press("Shift+Enter")
                root = page.locator(".genopt-explorer[data-ready]").first
                root.wait_for(timeout=60_000)
                if root.locator("input[type=range]").count():
                    found[name] = page.evaluate(MOVE, [root.element_handle(), moves])
        finally:
            lab.terminate()
            lab.wait()
    return found


def main() -> int:
    """Measure, print a table, return 0 if every target is met."""
    arguments = parser(__doc__)
    arguments.add_argument("--moves", type=int, default=120)
    arguments.add_argument("--engines", nargs="*", default=list(TARGETS), choices=list(TARGETS))
    options = arguments.parse_args()
    path = os.environ.get("CHROMIUM") or shutil.which("chromium")
    if not path or not HTML.is_dir():
        print("needs Chromium and the built book: make book", file=sys.stderr)
        return 2
    missed = False
    print(f"{'engine':8} {'explorer':34} {'moves':>5} {'median':>7} {'p95':>7}  target (ms)")
    with sync_playwright() as playwright, served(HTML) as address:
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
        for engine in options.engines:
            page = browser.new_page(viewport={"width": 1200, "height": 1000})
            if engine == "first":
                found = for_new_readers(browser, address)
            elif engine == "kernel":
                found = in_jupyterlab(page, options.moves)
            else:
                found = on_the_page(page, address, engine, options.moves)
            for name, seen in found.items():
                late = statistics.quantiles(seen, n=20)[-1]
                missed |= late > TARGETS[engine]
                middle = statistics.median(seen)
                row = f"{engine:8} {name:34} {len(seen):5} {middle:7.1f} {late:7.1f}"
                print(f"{row}  {TARGETS[engine]}", flush=True)
            page.close()
        browser.close()
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
