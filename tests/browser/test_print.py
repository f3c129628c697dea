"""Pages on paper: small files, no half-empty pages, nothing cut off."""

from __future__ import annotations

import json
import re
import sys

import pytest
from browser.reader import CALM, contents, explorers_in_source, islands
from places import BOOK, CORE

from genopt_core import explorers as ex

sys.path.insert(0, str(BOOK / "_ext"))
import paper

pytestmark = pytest.mark.browser

PAGES = [page for page in contents() if explorers_in_source(page)]
PAPER = {"width": 718, "height": 1047}  # A4 between the margins that a browser leaves, in pixels
MOST_BYTES = 5_000_000  # a page of evidence had 125 MB while hatches became pictures

# What stays whole though it is taller than half a page, and what is wider than its box.
LOOK = """height => {
    const faults = [];
    for (const node of document.querySelectorAll("article *")) {
        const box = node.getBoundingClientRect();
        if (!box.width || !box.height) continue;
        const whole = getComputedStyle(node).breakInside === "avoid";
        const say = (what) => faults.push([node.tagName, node.className, what, box.height]);
        if (whole && box.height > height / 2) say("tall");
        const wide = node.matches("pre, div.math, svg, img") && box.right > innerWidth + 1;
        const cut = node.matches("pre, div.math") && node.scrollWidth > node.clientWidth + 1;
        if (wide || cut) say("wide");
    }
    return faults;
}"""


@pytest.mark.parametrize("page", PAGES)
def test_paper_shows_presets_and_questions_in_few_bytes_and_full_pages(opened, html, page):
    before = opened.page.viewport_size
    opened.page.emulate_media(media="print")
    for number, name in islands(html, page):
        root = opened.page.locator(".genopt-explorer").nth(number)
        labels = [preset.label for preset in ex.get(name).presets]
        printed = root.locator(".gx-print").inner_text()
        assert all(label in printed for label in labels)
        assert not root.locator(".gx-presets").is_visible()
    for box in opened.page.locator(".predict").all():
        assert box.locator("legend").is_visible()
        assert not box.locator("details").is_visible()
        assert not box.locator("button[type=submit]").is_visible()
    opened.page.set_viewport_size(PAPER)
    try:
        faults = opened.page.evaluate(LOOK, PAPER["height"])
        printed = opened.page.pdf(format="A4", print_background=True)
    finally:
        opened.page.set_viewport_size(before)
    assert faults == []
    assert len(printed) <= MOST_BYTES


FORMULAS = """<style>mjx-container {{ display: block; text-align: center; font-size: 20px }}
mjx-math {{ display: inline-block; white-space: nowrap }} .eqno {{ float: right; width: 40px }}
body {{ margin: 0 }}</style>{}"""
FORMULA = """<div class="math"><span class="eqno">(1)</span>
<mjx-container><mjx-math><span style="display: inline-block; width: {}em">x</span></mjx-math>
</mjx-container></div>"""
DRAWN = """() => [...document.querySelectorAll("mjx-math")].map((one) => {
    const {left, right} = one.getBoundingClientRect();
    return [left, right, getComputedStyle(one).fontSize];
})"""


def test_a_formula_too_wide_for_its_paper_becomes_smaller_and_no_other(contexts):
    page = contexts(**CALM).new_page()
    page.set_viewport_size(paper.PAPER)
    page.set_content(FORMULAS.format("".join(map(FORMULA.format, (10, 32, 60)))))
    page.evaluate(paper.NARROWED)
    found = page.evaluate(DRAWN)
    page.close()
    assert found[0][2] == "20px"
    assert all(left >= 0 and right <= paper.PAPER["width"] - 40 for left, right, _ in found)
    assert [float(size[:-2]) < 20 for *_, size in found] == [False, True, True]


def test_every_hatch_has_a_plain_color_on_paper():
    style = json.loads((CORE / "figures" / "style.json").read_text(encoding="utf-8"))
    sheet = (BOOK / "assets" / "print.css").read_text(encoding="utf-8")
    plain = set(re.findall(r"--gx-plain: var\(--gx-([\w-]+)\)", sheet))
    assert plain == set(style["roles"])
