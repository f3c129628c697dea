"""Browser contexts and open pages, shared by the tests of one process."""

from __future__ import annotations

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
def stranger(chromium):
    """A tab that keeps nothing it has loaded."""
    context = chromium.new_context()
    one = Watch(context)
    context.new_cdp_session(one.page).send("Network.setCacheDisabled", {"cacheDisabled": True})
    yield one
    context.close()


@pytest.fixture
def watch(contexts):
    """Start a watched page in the context with the given options."""
    opened: list[Watch] = []

    def start(**options):
        scripts = options.get("java_script_enabled", True)
        opened.append(Watch(contexts(**options), scripts))
        return opened[-1]

    yield start
    for one in opened:
        one.close()


@pytest.fixture(scope="session")
def desk(contexts):
    """The tabs that stay open between tests; they are closed with their context."""
    return Desk(contexts)


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
def phones(launch, tmp_path_factory):
    """A narrow tab of a Chromium that knows one set of fonts only, by its name."""
    kept: dict[str, Watch] = {}

    def phone(name: str):
        if name not in kept:
            found = fonts.files(name)
            if not found:
                pytest.skip(f"fonts-dejavu-{name} is not installed")
            config = fonts.config(tmp_path_factory.mktemp(name), found)
            narrow = launch(FONTCONFIG_FILE=config).new_context(viewport=fonts.PHONE, **CALM)
            kept[name] = Watch(narrow)
        return kept[name]

    yield phone
    for one in kept.values():
        one.page.context.close()
