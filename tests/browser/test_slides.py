"""What is on a slide fits; a figure is as large as it can be, and grows when there is more room."""

import sys

import pytest
from browser.reader import CALM, LIMIT_MS, Watch
from places import BOOK, CORE

sys.path.insert(0, str(BOOK / "_ext"))
import chapters
import slides

pytestmark = pytest.mark.browser

REVEAL = CORE / "figures" / "web" / "node_modules" / "reveal.js" / "dist"
LISTED = chapters.listed()

DECK = """<!DOCTYPE html><style>
section {{ position: absolute; inset: 0; overflow-y: auto; padding: 20px; box-sizing: border-box }}
</style><section class="present"><div class="genopt-explorer"></div></section>
<script>const Reveal = {{ initialize() {{}}, on() {{}} }};</script><script>{script}</script>"""
FITS = """() => {
    const slide = document.querySelector("section"), figure = slide.firstElementChild;
    const high = figure.getBoundingClientRect().height;
    const fits = slide.scrollHeight <= slide.clientHeight + 1;
    return fits && (high > 0.9 * (innerHeight - 40) || figure.style.zoom == 1);
}"""


# What slides.js has at its top: `waiting` is when it is to fit the next time.
ONCE_DRAWN = """async () => {
    const slide = document.querySelector("section"), rests = [];
    for (const ready of [false, true]) {
        clearTimeout(waiting);
        waiting = null;
        if (ready) slide.firstElementChild.dataset.ready = "1";
        await null; // observers of changes are called
        rests.push(waiting != null);
        fit();
        rests.push("fitted" in slide.dataset);
    }
    return rests;
}"""


def deck(contexts):
    script = (BOOK / "_ext" / "deck" / "slides.js").read_text(encoding="utf-8")
    page = contexts(**CALM).new_page()
    page.set_viewport_size({"width": 1280, "height": 720})
    page.set_content(DECK.format(script=script))
    return page


def test_a_slide_is_fitted_only_once_its_figure_is_drawn(contexts):
    page = deck(contexts)
    assert page.evaluate(ONCE_DRAWN) == [False, False, True, True]
    page.close()


def test_a_high_figure_becomes_smaller_and_a_lower_one_larger_again(contexts):
    page = deck(contexts)
    figure = page.locator(".genopt-explorer")
    for height, least, most in ((1000, 0.6, 0.7), (800, 0.75, 0.86), (300, 1, 1)):
        figure.evaluate("(node, height) => { node.style.height = `${height}px`; }", height)
        page.wait_for_function(FITS, timeout=60_000)
        assert least <= float(figure.evaluate("(node) => node.style.zoom || 1")) <= most
    page.close()


# Each slide with its answer shown: it waits until a figure has found its size, and says what is
# too high or cut.  The box of a formula holds a hidden copy, so what is drawn is looked at.
CUT = """async (limit) => {
    const frame = () => new Promise((go) => { requestAnimationFrame(go); setTimeout(go, 1000); });
    const faults = [];
    for (const [number, slide] of Reveal.getSlides().entries()) {
        Reveal.slide(number, 0, 99);
        const say = (what) => faults.push([number + 1, slide.querySelector("h2").innerText, what]);
        const moving = slide.querySelector(":scope > :is(.genopt-explorer, .genopt-table)");
        const figures = [...slide.querySelectorAll(".genopt-explorer")];
        const rests = () => figures.every((one) => one.dataset.ready)
            && (!moving || "fitted" in slide.dataset);
        const end = performance.now() + limit;
        while (!rests() && performance.now() < end) await frame();
        if (!rests()) say("does not rest");
        if (slide.scrollHeight > slide.clientHeight + 1) say("is too high");
        const right = slide.getBoundingClientRect().right + 1;
        const parts = ".genopt-table, pre, p, li, img, .gx-panels > *";
        for (const one of slide.querySelectorAll(parts)) {
            const box = one.matches(".genopt-table") && one.scrollWidth > one.clientWidth + 1;
            if (box || one.getBoundingClientRect().right > right) say(`wide ${one.className}`);
        }
        for (const formula of slide.querySelectorAll("div.math")) {
            const drawn = formula.querySelector("mjx-math, mjx-container > svg");
            const [inner, outer] = [drawn, formula].map((one) => one.getBoundingClientRect());
            if (inner.right > outer.right + 1 || inner.bottom > outer.bottom + 1
                || inner.top < outer.top - 1) say("cut formula");
        }
    }
    return [Reveal.getSlides().length, faults];
}"""


def give(one: Watch, address: str, **what) -> None:
    """Answer for ``address``, where the built book has nothing."""
    one.page.route(address, lambda route: route.fulfill(**what))


@pytest.mark.parametrize(("number", "names"), LISTED, ids=[names[0] for _, names in LISTED])
def test_every_slide_of_a_built_chapter_fits(contexts, served, html, number, names):
    text = slides.deck(chapters.chapter(html, number, names))
    one = Watch(contexts(**CALM))
    one.page.set_viewport_size({"width": 1280, "height": 720})
    made = f"{served}{slides.FOLDER}/deck.html"
    give(one, made, body=text, content_type="text/html")
    for end in ("js", "css"):
        give(one, f"{served}_static/reveal/reveal.{end}", path=REVEAL / f"reveal.{end}")
        give(one, f"{served}_static/slides.{end}", path=BOOK / "_ext" / "deck" / f"slides.{end}")
    one.open(made)
    one.page.evaluate("globalThis.MathJax?.startup?.promise.then(() => true)")
    found, faults = one.page.evaluate(CUT, LIMIT_MS)
    one.page.close()
    assert found == text.count("<section")
    assert faults == []
    one.blame()
