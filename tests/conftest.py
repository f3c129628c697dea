"""Fixtures of the browser tests: the built book, a server for it, and Chromium."""

from __future__ import annotations

import functools
import http.server
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from places import ROOT

import make

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture(scope="session")
def html() -> Path:
    """The folder of the built book: ``make test`` has built it, a bare ``pytest`` builds it now."""
    if "GENOPT_HTML" in os.environ:
        return Path(os.environ["GENOPT_HTML"])
    if "PYTEST_XDIST_WORKER" in os.environ:  # several processes must not build at once
        pytest.fail("run `make book`, then set GENOPT_HTML=_build/html (`make test` does both)")
    done = subprocess.run(
        [sys.executable, str(ROOT / "make.py"), "book"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return ROOT / "_build" / "html"


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *arguments) -> None:
        pass


@pytest.fixture(scope="session")
def served(html: Path):
    """The address of the book on this machine."""
    handler = functools.partial(QuietHandler, directory=str(html))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()


@pytest.fixture(scope="session")
def launch():
    """Start a headless Chromium, with further environment variables; all are closed at the end."""
    try:
        path = make.chromium()
    except make.Stop as no_chromium:
        pytest.skip(str(no_chromium))
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        started = []

        def start(**env: str):
            options = {"executable_path": path, "args": FLAGS, "env": os.environ | env}
            started.append(playwright.chromium.launch(**options))
            return started[-1]

        yield start
        for browser in started:
            browser.close()


@pytest.fixture(scope="session")
def chromium(launch):
    """The Chromium that the tests of a process share."""
    return launch()
