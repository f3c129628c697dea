"""What a reader takes along from a figure: files with a name, from a server and from a file."""

from __future__ import annotations

import csv
import io
import re
from xml.etree import ElementTree

import pytest
from browser.reader import contents, explorers_in_source

pytestmark = pytest.mark.browser

PAGES = [page for page in contents() if explorers_in_source(page)]
SVG = "{http://www.w3.org/2000/svg}"


def taken(one, root, kind):
    """The file that the menu saves: its name and its bytes."""
    root.get_by_role("button", name="Download").click()
    with one.page.expect_download() as waited:
        root.locator(f".gx-menu [data-kind={kind}]").click()
    download = waited.value
    return download.suggested_filename, download.path().read_bytes()


@pytest.mark.parametrize(
    ("scheme", "page"), [*(("file", page) for page in PAGES), ("http", PAGES[0])]
)
def test_every_figure_is_saved_in_light_colors_under_a_name(visit, scheme, page):
    one = visit(page, scheme)
    one.page.emulate_media(color_scheme="dark")
    one.settled()
    for root in one.page.locator("div.genopt-explorer[data-explorer]").all():
        name = root.get_attribute("data-explorer")
        said = root.locator("output.gx-readout").inner_text()

        file, data = taken(one, root, "svg")
        assert re.fullmatch(rf"{name}[^/\\]*\.svg", file)
        drawing = ElementTree.fromstring(data)
        words = " ".join(text.text or "" for text in drawing.iter(f"{SVG}text"))
        assert " ".join(said.split()) in words
        assert drawing.find(f"{SVG}rect").get("fill") == "#fff"
        assert not re.search(rb"var\(|color-mix|NaN|undefined|href", data)

        file, data = taken(one, root, "png")
        assert file.endswith(".png")
        assert data.startswith(b"\x89PNG")
        width = int.from_bytes(data[16:20], "big")
        assert width == 2 * int(drawing.get("width"))
        assert len(data) > 10_000, "a picture, not an empty sheet"

        file, data = taken(one, root, "csv")
        assert file.endswith(".csv")
        head, *rows = csv.reader(io.StringIO(data.decode(), newline=""))
        assert rows
        assert len(head) >= 2
        assert all(len(row) == len(head) for row in rows)
    one.blame()


def test_the_menu_is_used_by_keyboard(visit):
    one = visit(PAGES[0])
    root = one.explorer()
    button, menu = root.get_by_role("button", name="Download"), root.locator(".gx-menu")
    here = "() => document.activeElement.textContent"
    button.focus()
    one.page.keyboard.press("Enter")
    assert button.get_attribute("aria-expanded") == "true"
    for key, words in (
        ("ArrowDown", "Picture, PNG"),
        ("End", "Numbers, CSV"),
        ("ArrowDown", "Picture, SVG"),
        ("ArrowUp", "Numbers, CSV"),
        ("Home", "Picture, SVG"),
        ("Escape", "Download"),
    ):
        one.page.keyboard.press(key)
        assert one.page.evaluate(here) == words
    assert not menu.is_visible()
    one.page.keyboard.press("ArrowUp")
    with one.page.expect_download() as waited:
        one.page.keyboard.press("Enter")
    assert waited.value.suggested_filename.endswith(".csv")
    assert one.page.evaluate(here) == "Download"
    assert ".csv saved" in root.locator(".gx-said").inner_text()
    button.press("Enter")
    one.page.keyboard.press("Tab")
    assert not menu.is_visible()
    one.blame()


def test_on_a_phone_the_menu_stays_inside_the_page(visit):
    one = visit(PAGES[0])
    one.page.set_viewport_size({"width": 390, "height": 844})
    one.settled()
    for root in one.page.locator("div.genopt-explorer[data-explorer]").all():
        root.get_by_role("button", name="Download").click()
        box = root.locator(".gx-menu").bounding_box()
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= 390
        assert one.page.evaluate("document.documentElement.scrollWidth") <= 390
        one.page.keyboard.press("Escape")


@pytest.mark.parametrize("page", ["ch1_subwords/paths.html"])
def test_a_file_is_named_after_its_setting(opened, page):
    one = opened
    root = one.explorer()
    root.locator(".gx-preset").nth(1).click()
    file, data = taken(one, root, "csv")
    assert file == "subword-lattice-word-cuba-size-1000-k-3.csv"
    rows = list(csv.DictReader(io.StringIO(data.decode(), newline="")))
    assert [row["sub-word"] for row in rows if row["chosen"] == "yes"] == ["cu", "ba", "▁"]


@pytest.mark.parametrize("page", ["ch1_subwords/paths.html"])
def test_no_download_where_there_is_no_figure(visit, page):
    one = visit(page, "file")
    root = one.explorer()
    field = root.locator("input[type=text]").first
    field.fill("x" * 30)
    root.locator(".gx-problem p").wait_for()
    assert not root.get_by_role("button", name="Download").is_visible()
