"""A figure on a slide is as large as fits, and takes its room again when there is more."""

import pytest
from browser.reader import CALM
from places import BOOK

pytestmark = pytest.mark.browser

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


def test_a_high_figure_becomes_smaller_and_a_lower_one_larger_again(contexts):
    script = (BOOK / "_ext" / "deck" / "slides.js").read_text(encoding="utf-8")
    page = contexts(**CALM).new_page()
    page.set_viewport_size({"width": 1280, "height": 720})
    page.set_content(DECK.format(script=script))
    figure = page.locator(".genopt-explorer")
    for height, least, most in ((1000, 0.6, 0.7), (800, 0.75, 0.86), (300, 1, 1)):
        figure.evaluate("(node, height) => { node.style.height = `${height}px`; }", height)
        page.wait_for_function(FITS, timeout=60_000)
        assert least <= float(figure.evaluate("(node) => node.style.zoom || 1")) <= most
    page.close()
