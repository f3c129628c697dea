"""Browser contexts and open pages, shared by the tests of one process."""

from __future__ import annotations

import pytest
from browser import fonts
from browser.reader import Watch


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
def desk(contexts) -> dict[str, Watch]:
    """The page that lies open between tests, by its address; it is closed with its context."""
    return {}


@pytest.fixture
def opened(desk, contexts, served, page):
    """``page``, served and settled; the next test finds it open, so leave it as it is."""
    wanted = served + page
    if wanted not in desk:
        while desk:
            desk.popitem()[1].page.close()
        desk[wanted] = Watch(contexts()).open(wanted).settled()
    one = desk[wanted]
    yield one
    one.page.emulate_media(media="screen", color_scheme="light")
    one.blame()


@pytest.fixture(scope="session")
def phones(launch, chromium, tmp_path_factory):
    """A narrow context by the name of a set of fonts."""
    kept = {}

    def phone(name: str):
        if name not in kept:
            browser = chromium
            if name != "installed":
                found = fonts.files(name)
                if not found:
                    pytest.skip(f"fonts-dejavu-{name} is not installed")
                config = fonts.config(tmp_path_factory.mktemp(name), found)
                browser = launch(FONTCONFIG_FILE=config)
            kept[name] = browser.new_context(viewport={"width": 360, "height": 740})
        return kept[name]

    yield phone
    for context in kept.values():
        context.close()
