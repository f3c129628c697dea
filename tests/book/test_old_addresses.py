"""Every address that a page once had is a page that leads to where it is now."""

import importlib.util
import os
import re
from pathlib import Path

import pytest
from places import BOOK

TOC = re.findall(r"(?:root|file): (\S+)", (BOOK / "_toc.yml").read_text(encoding="utf-8"))
# Pages of the book as it was before chapters had folders; links to them are in the world.
BEFORE = [
    *("index", "how_to_read", "notation", "api", "references"),
    *("ch1_subwords", "ch1_vocabulary", "ch1_worth", "ch2_cross_entropy", "ch2_worth"),
    *("ch5_kvcache", "ch5_worth", "solutions/ch1_subwords", "solutions/ch1_vocabulary"),
    *("solutions/ch2_cross_entropy", "solutions/ch5_kvcache"),
]


@pytest.fixture(scope="module")
def extension():
    spec = importlib.util.spec_from_file_location(
        "old_addresses", BOOK / "_ext" / "old_addresses.py"
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("old", BEFORE)
def test_an_old_page_is_a_page_or_leads_to_one(extension, old):
    assert extension.MOVED.get(old, old) in TOC


def test_no_page_is_shadowed(extension):
    assert not set(extension.MOVED) & set(TOC)


def test_links_are_relative_and_without_javascript_there_is_one_to_click(extension):
    html = extension.forwarding_page("solutions/old", "ch1/new", "Tokens & more", {})
    assert '<a href="../ch1/new.html">Tokens &amp; more</a>' in html
    assert "http" not in html.lower(), "it must work from a file"


@pytest.fixture
def site(extension, tmp_path):
    """The forwarding pages, and pages to arrive at, in a folder."""
    parts = {
        "genopt_core.subwords.train": "api/subwords",
        "genopt_core.corpora.load": "api/corpora",
    }
    for old, new in extension.MOVED.items():
        page = extension.forwarding_page(old, new, new, parts if old == "api" else {})
        for name, text in ((old, page), (new, "<!DOCTYPE html><title>here</title>")):
            path = tmp_path / f"{name}.html"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
    for new in parts.values():
        (tmp_path / f"{new}.html").write_text("<!DOCTYPE html><title>here</title>")
    return tmp_path


@pytest.mark.browser
def test_the_browser_arrives_with_its_fragment(extension, site, chromium):
    page = chromium.new_page()
    for old, new in extension.MOVED.items():
        for rest in ("", "?q=1", "#a-section", "#explorer=subword-lattice&word=caf%C3%A9&k=2"):
            page.goto((site / f"{old}.html").as_uri() + rest)
            wanted = (site / f"{new}.html").as_uri() + rest
            page.wait_for_url(wanted)
            assert page.title() == "here"
    page.close()


@pytest.mark.browser
@pytest.mark.parametrize(
    ("fragment", "arrives"),
    [
        ("genopt_core.subwords.train", "subwords.html#genopt_core.subwords.train"),
        ("genopt_core.old_room.load", "corpora.html#genopt_core.corpora.load"),
        ("unknown", "index.html#unknown"),
    ],
)
def test_a_page_that_was_split_leads_to_the_part(site, chromium, fragment, arrives):
    page = chromium.new_page()
    page.goto((site / "api.html").as_uri() + "#" + fragment)
    page.wait_for_url(f"{site.as_uri()}/api/{arrives}")
    page.close()


@pytest.mark.browser
def test_without_javascript_the_link_is_shown(extension, site, chromium):
    page = chromium.new_context(java_script_enabled=False).new_page()
    page.goto((site / "ch1_worth.html").as_uri())
    page.get_by_role("link").click()
    page.wait_for_url((site / "ch1_subwords/evidence.html").as_uri())
    page.context.close()


@pytest.mark.skipif("GENOPT_HTML" not in os.environ, reason="needs the built book")
def test_the_built_book_has_them_all(extension):
    html = Path(os.environ["GENOPT_HTML"])
    for old, new in extension.MOVED.items():
        assert f"{Path(new).name}.html" in (html / f"{old}.html").read_text(encoding="utf-8")
        assert (html / f"{new}.html").is_file()
