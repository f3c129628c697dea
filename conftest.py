"""How the tests are run, wherever they lie: marks, order, reports, and what nbval compares.

`make check` leaves out what is marked ``browser``, ``notebook`` or ``slow``; the marks come from
the room a test is in and from the fixtures it asks for, so that a new test needs none by hand.
"""

from __future__ import annotations

import base64
import io
import os
import re
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import settings

ROOT = Path(__file__).resolve().parent
REQUIRED = bool(os.environ.get("GENOPT_REQUIRE_ALL"))
"""On in `make test`: a test that skips fails, unless its reason is one of MAY_LACK."""
# What make.py does not install: a peer that has no wheel for every system, the loader of a registry
# that brings a client of GitHub along, and sets of fonts.
MAY_LACK = ("rustbpe", "optunahub", "fonts-")

SLOW_ROOMS = ("experiments",)  # parts of stored results, computed again
SLOW_FIXTURES = {"smollm"}  # a real language model
# Each of them in one process, which starts JupyterLab, JupyterLite or Python in a page once; early,
# for they are few tests of half a minute, with which a run should not end.
LONG = re.compile(
    r"tests/browser/(test_lab\.py|test_lite\.py|test_pages\.py::test_python_in_the_page"
    r"|test_typing\.py::test_own_text)"
)
# Files that ask for the real language model: one process loads it, for 8 CPU seconds.
REAL_MODEL = re.compile(r"^ *from oracles\.models import .*\bsmollm\b", re.MULTILINE)
BROWSER_FIXTURES = {"chromium", "html"}

# The same examples on every run and every machine; `make fuzz` draws new ones.
settings.register_profile("book", derandomize=True, deadline=None, database=None)
settings.register_profile("fuzz", deadline=None, print_blob=True)
settings.load_profile("book")


# ------------------------------------------------------------------ marks, groups and order


def room(item: pytest.Item) -> str:
    """The folder below ``tests`` that ``item`` lies in; empty elsewhere."""
    parts = item.path.relative_to(ROOT).parts if item.path.is_relative_to(ROOT) else ()
    return parts[1] if len(parts) > 2 and parts[0] == "tests" else ""


@cache
def asks_for_real_model(file: str) -> bool:
    """Whether tests in ``file`` load the real language model."""
    path = ROOT / file
    if path.suffix != ".py" or not path.is_file():
        return False
    return bool(REAL_MODEL.search(path.read_text(encoding="utf-8")))


def group(nodeid: str) -> str:
    """What has to stay in one process: a notebook, a page in the browser, else a file."""
    if long := LONG.match(nodeid):
        return long[0]
    if asks_for_real_model(nodeid.partition("::")[0]):
        return "the real language model"
    page = re.match(r"tests/browser/.*\[(?:.*-)?([\w/]+\.html)", nodeid)
    return page[1] if page else nodeid.partition("::")[0]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        fixtures = set(getattr(item, "fixturenames", ()))
        if item.path.suffix == ".ipynb":
            item.add_marker("notebook")
            compare_all(item)
        if fixtures & BROWSER_FIXTURES:
            item.add_marker("browser")
        if room(item) in SLOW_ROOMS or fixtures & SLOW_FIXTURES:
            item.add_marker("slow")
    # Long groups first, so that no process is left with one at the end; pages are many and short,
    # those with figures longer.  And all tests of one page together: pytest would go test by test.
    first: dict[str, int] = {}
    for i, item in enumerate(items):
        first.setdefault(group(item.nodeid), i)
    sizes = Counter(group(item.nodeid) for item in items)

    def place(item: pytest.Item) -> tuple[int, int, int]:
        notebook, slow, browser = (
            item.get_closest_marker(mark) is not None for mark in ("notebook", "slow", "browser")
        )
        early = notebook or slow or LONG.match(item.nodeid)
        own = group(item.nodeid)
        order = 0 if early else 2 if browser else 1
        return order, -sizes[own] if order == 2 else 0, first[own]

    items.sort(key=place)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Hand out whole groups, in our order."""
    from xdist.scheduler import LoadScopeScheduling

    class Groups(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return group(nodeid)

    config.option.loadscopereorder = False
    return Groups(config, log)


# ------------------------------------------------------------------ reports


def printable(value: Any) -> Any:
    """``value`` with characters that UTF-8 has not, lone surrogates, written as ``\\udc7d``."""
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode("utf-8")
    if isinstance(value, dict):
        return {printable(key): printable(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(map(printable, value))
    return value


@pytest.hookimpl(wrapper=True)
def pytest_report_to_serializable() -> Any:
    """Without this a message with a lone surrogate breaks the connection to pytest's workers."""
    return printable((yield))


def demand(report: pytest.TestReport | pytest.CollectReport) -> None:
    """Turn a skip into a failure where everything is required."""
    if not (REQUIRED and report.skipped) or hasattr(report, "wasxfail"):
        return
    place, line, reason = report.longrepr  # type: ignore[misc]
    if not any(name in reason for name in MAY_LACK):
        report.outcome = "failed"
        report.longrepr = f"{place}:{line}: {reason} (nothing may skip here)"


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport() -> Any:
    report = yield
    demand(report)
    return report


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_make_collect_report() -> Any:
    report = yield
    demand(report)
    return report


# ------------------------------------------------------------------ kernels


def pytest_sessionstart() -> None:
    """Start a kernel again that died at its start: two workers may have chosen the same port."""
    import nbval.kernel

    start = nbval.kernel.start_new_kernel

    def again(*args: Any, **kwargs: Any) -> Any:
        for _ in range(2):
            try:
                return start(*args, **kwargs)
            except RuntimeError as error:
                if "died before replying" not in str(error):
                    raise
        return start(*args, **kwargs)

    nbval.kernel.start_new_kernel = again


# ------------------------------------------------------------------ what nbval compares

PIXELS_APART = 0.002  # share of a picture's pixels that may differ …
LEVELS_APART = 32  # … and by how much of 255; the last bit of a number depends on the processor


def pictures(outputs: list[Any]) -> list[Any]:
    return [output["data"] for output in outputs if "image/png" in output.get("data", {})]


def same_picture(one: str, other: str) -> bool:
    """Whether two PNGs in base64 show the same, up to what a processor's last bits can move."""
    from PIL import Image

    first, second = (
        np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGBA"), dtype=int)
        for data in (one, other)
    )
    if first.shape != second.shape:
        return False
    apart = np.abs(first - second).max(axis=-1)
    return bool((apart > 0).mean() <= PIXELS_APART and apart.max() <= LEVELS_APART)


def kinds(outputs: list[Any]) -> list[str]:
    return [output.get("name") or output["output_type"] for output in outputs]


def compare_all(cell: Any) -> None:
    """Have nbval look at all that is stored: pictures and alt texts too, and the order of outputs.

    nbval leaves out PNGs and metadata, and compares each kind of output apart from the others.
    The still of an explorer is drawn afterwards, by ``refresh.py``; tests/book compares it.
    """
    left_out = {"image/png", "metadata"}
    cell.parent.skip_compare = (*set(cell.parent.skip_compare) - left_out, "image/svg+xml")
    original = cell.compare_outputs

    def compare_outputs(test: list[Any], ref: list[Any], skip_compare: Any = None) -> bool:
        new, old = pictures(test), pictures(ref)
        for found, stored in zip(new, old, strict=False):
            if same_picture(found["image/png"], stored["image/png"]):
                found["image/png"] = stored["image/png"]
        if not original(test, ref, skip_compare):
            return False
        if kinds(test) != kinds(ref):
            cell.comparison_traceback.append(f"stored: {kinds(ref)}\nnow: {kinds(test)}")
            return False
        return True

    cell.compare_outputs = compare_outputs
