"""Browser contexts and open pages, shared by the tests of one process."""

from __future__ import annotations

from typing import Any

import pytest
from browser import fonts
from browser.reader import CALM, Desk, Watch, address


@pytest.fixture(scope="session")
def contexts(chromium):
    """A browser context by its options: what one test loaded the next finds in the cache."""
    kept = {}

    def context(**options):
        key = repr(sorted(options.items()))
        if key not in kept:
            kept[key] = chromium.new_context(**options)
        return kept[key]

    yield context
    for one in kept.values():
        one.close()


@pytest.fixture(scope="session")
def linked(contexts):
    """The tab in which links are opened; its pages jump instead of gliding."""
    return Watch(contexts(**CALM))


@pytest.fixture(scope="session")
def spare():
    """Tabs that no test uses just now, by the options of their context."""
    return {}


@pytest.fixture
def watch(contexts, spare):
    """Start a watched page in the context with the given options.

    It is a first visit: what a tab keeps for the next page of a visit is thrown away between tests.
    The tab itself is used again if its window and colors are as they were; a new one costs as much
    as most pages.
    """
    opened: list[tuple[Watch, list[Watch], Any]] = []

    def start(**options):
        free = spare.setdefault(repr(sorted(options.items())), [])
        scripts = options.get("java_script_enabled", True)
        one = free.pop() if free else Watch(contexts(**options), scripts)
        opened.append((one, free, one.surroundings()))
        return one

    yield start
    for one, free, before in opened:
        if one.surroundings() == before and one.forget():
            free.append(one)
        else:
            one.page.close()
    for one, _, _ in opened:
        one.blame()


@pytest.fixture(scope="session")
def with_fonts(launch, tmp_path_factory):
    """A context of a Chromium that knows one set of fonts only, by its name; None without them."""
    kept = {}

    def context(name: str):
        if name not in kept:
            found = fonts.files(name)
            if not found:
                return None
            config = fonts.config(tmp_path_factory.mktemp(name), found)
            kept[name] = launch(FONTCONFIG_FILE=config).new_context(**CALM)
        return kept[name]

    yield context
    for one in kept.values():
        one.close()


@pytest.fixture(scope="session")
def desk(contexts, with_fonts):
    """The tabs that stay open between tests; they are closed with their context.

    Files are read with few fonts, so that one opening of a page shows both.
    """
    calm = lambda: contexts(**CALM)  # noqa: E731
    return Desk({"http": calm, "file": lambda: with_fonts("core") or calm()})


@pytest.fixture
def visit(desk, served, html):
    """Come to a page by "http" or "file"; the next test finds it open, its figures at their start.

    What a test changes beyond figures, window and colors it puts back.
    """
    seen: list[Watch] = []

    def come(page: str, scheme: str = "http") -> Watch:
        seen.append(desk.open(address(served, html, scheme, page)))
        return seen[-1]

    yield come
    for one in seen:
        desk.tidy(one)
    for one in seen:
        one.blame()


@pytest.fixture
def opened(visit, page):
    """``page``, served and settled."""
    return visit(page)


@pytest.fixture(scope="session")
def phones(with_fonts):
    """A narrow tab of a Chromium that knows one set of fonts only, by its name."""
    kept: dict[str, Watch] = {}

    def phone(name: str):
        if name not in kept:
            context = with_fonts(name)
            if context is None:
                pytest.skip(f"fonts-dejavu-{name} is not installed")
            kept[name] = Watch(context)
            kept[name].page.set_viewport_size(fonts.PHONE)
        return kept[name]

    return phone
