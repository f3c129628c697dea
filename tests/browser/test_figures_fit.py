"""Figures fit: what a reader moves and what answers stand in one window, desk or phone."""

from __future__ import annotations

import pytest
from browser.reader import LIMIT_MS, READOUT, contents, explorers_in_source

pytestmark = pytest.mark.browser

PAGES = [page for page in contents() if explorers_in_source(page)]
DESKS = [(1440, 900), (1280, 720)]
HEADER = 52  # pixels of the page's header, which stays; scroll-margin-top of a figure

# For each figure of the page, at its start and at each preset: what stands outside the window or
# its place.  A figure is looked at when its size is the same in three frames.
LOOK = """async ([limit, header, ms]) => {
    const end = performance.now() + ms;
    const frame = () => new Promise((go) => { requestAnimationFrame(go); setTimeout(go, 1000); });
    const still = async (root) => {
        for (let same = 0, before = ""; same < 3;) {
            if (performance.now() > end) throw new Error(`still moving after ${ms} ms`);
            await frame();
            const {width, height} = root.getBoundingClientRect();
            const now = [width, height, root.dataset.draws].join();
            same = now === before ? same + 1 : 0;
            before = now;
        }
    };
    const faults = [];
    for (const root of document.querySelectorAll("div.genopt-explorer[data-explorer]")) {
        for (const button of [null, ...root.querySelectorAll(".gx-preset")]) {
            button?.click();
            await still(root);
            root.scrollIntoView({behavior: "instant"});
            const name = `${root.dataset.explorer}, ${button?.innerText}`;
            const say = (words) => faults.push(`${name}: ${words}`);
            const box = root.getBoundingClientRect();
            if (box.height > limit - header) say(`${Math.round(box.height)} pixels high`);
            if (box.right > innerWidth || box.left < 0) say("wider than the window");
            const shown = (node) => node.offsetHeight > 0;
            const parts = "output.gx-readout, :is(.gx-head, .gx-presets, .gx-control, .gx-foot)";
            for (const part of root.querySelectorAll(`${parts}, .gx-svg`)) {
                const {left, right, top, bottom} = part.getBoundingClientRect();
                const inside = left >= box.left && right <= box.right
                    && top >= box.top && bottom <= box.bottom;
                if (right > left && !inside) say(`${part.className} stands outside`);
            }
            const side = root.querySelector(".gx-side");
            const picture = root.querySelector(".gx-picture").getBoundingClientRect();
            for (const part of side?.querySelectorAll("*") ?? []) {
                const on = part.getBoundingClientRect().right > picture.left;
                const beside = picture.left > box.left + 100;
                if (beside && shown(part) && on) say(`${part.className} lies on the picture`);
            }
            for (const {clientHeight} of root.querySelectorAll(".gx-panels svg.gx-svg"))
                if (clientHeight && clientHeight < 56) say("a picture is too low to be read");
        }
    }
    const wide = document.documentElement.scrollWidth - innerWidth;
    return wide > 0 ? [...faults, `the page scrolls sideways by ${wide}`] : faults;
}"""


@pytest.mark.parametrize("size", DESKS, ids=lambda size: f"{size[0]}x{size[1]}")
@pytest.mark.parametrize("page", PAGES)
def test_a_figure_with_all_it_has_fits_the_window_at_every_preset(opened, page, size):
    width, height = size
    opened.page.set_viewport_size({"width": width, "height": height})
    opened.settled()
    assert opened.page.evaluate(LOOK, [height, HEADER, LIMIT_MS]) == []


# For each control of each figure: scroll until it stands at the lower edge, and see where its
# answer stands once both have stood still for three frames: what is above may still be laid out.
STILL_MS = 10_000
ANSWERS = """async (limit) => {
    const frame = () => new Promise((go) => { requestAnimationFrame(go); setTimeout(go, 1000); });
    const answer = async (root, control) => {
        const end = performance.now() + limit;
        const readout = root.querySelector("output.gx-readout");
        const places = () => [control, readout].flatMap((node) => {
            const {top, bottom} = node.getBoundingClientRect();
            return [top, bottom];
        });
        for (let same = 0, before = ""; same < 3; ) {
            if (performance.now() > end) throw new Error(`still moving after ${limit} ms`);
            if (!same) {
                control.scrollIntoView({block: "end", behavior: "instant"});
                control.focus({preventScroll: true});
            }
            await frame();
            const now = places().join();
            same = now === before ? same + 1 : 0;
            before = now;
        }
        return [root.dataset.explorer, readout.innerText, ...places().slice(2)];
    };
    const found = [];
    for (const root of document.querySelectorAll("div.genopt-explorer[data-explorer]"))
        for (const control of root.querySelectorAll(".gx-control"))
            found.push(await answer(root, control.querySelector("input, select")));
    return found;
}"""


@pytest.mark.parametrize("page", PAGES)
def test_on_a_phone_the_answer_is_in_sight_while_a_control_moves(opened, page):
    opened.page.set_viewport_size({"width": 390, "height": 844})
    answers = opened.settled().page.evaluate(ANSWERS, STILL_MS)
    assert answers
    for name, words, top, bottom in answers:
        assert 0 <= top < bottom <= 844, (name, top, bottom)
        assert words, name


# Formulas that a phone cuts off: by name, and how many pixels stand outside.
CUT = """() => [...document.querySelectorAll("div.math")].map((one) => {
    const formula = one.querySelector("mjx-container");
    return [one.id, formula.scrollWidth - formula.clientWidth];
}).filter(([, outside]) => outside > 1)"""


@pytest.mark.parametrize("page", [p for p in PAGES if p.startswith(("ch4_", "ch5_"))])
def test_no_formula_is_cut_off_on_a_phone(opened, page):
    opened.page.set_viewport_size({"width": 390, "height": 844})
    assert opened.settled().page.evaluate(CUT) == []


def test_contents_of_the_page_fold_while_a_figure_stands_in_their_place(watch, served):
    one = watch(viewport={"width": 1440, "height": 900}).open(served + PAGES[1]).settled()
    one.page.locator("div.genopt-explorer[data-explorer]").first.scroll_into_view_if_needed()
    one.page.wait_for_function(
        "document.querySelector('.bd-sidebar-secondary').offsetHeight <= 48",
    )


# ------------------------------------------------------------------ alone in the window

FULL_SCREEN = """([allowed]) => {
    const {prototype} = Element;
    globalThis.fullScreen ??= prototype.requestFullscreen;
    const refuse = () => Promise.reject(new Error("no"));
    prototype.requestFullscreen = allowed ? globalThis.fullScreen : refuse;
}"""
ALONE = """([root, scale]) => {
    const size = parseFloat(getComputedStyle(root.querySelector("output.gx-readout")).fontSize);
    const box = root.getBoundingClientRect();
    const full = box.width === innerWidth && box.height === innerHeight;
    return full && root.scrollHeight <= innerHeight + 1 && size >= scale;
}"""
HERE = "([root, label]) => document.activeElement.textContent === label"


@pytest.mark.parametrize(
    ("size", "full"),
    [((1920, 1080), True), ((1024, 768), False)],
    ids=["full screen", "on top of the page"],
)
@pytest.mark.parametrize("page", PAGES)
def test_a_figure_is_presented_alone_larger_and_whole(visit, page, size, full):
    one = visit(page, "file")
    one.page.set_viewport_size({"width": size[0], "height": size[1]})
    one.page.evaluate(FULL_SCREEN, [full])
    one.settled()
    for root in one.page.locator("div.genopt-explorer[data-explorer]").all():
        handle = root.element_handle()
        plain = root.locator(READOUT).evaluate(
            "node => parseFloat(getComputedStyle(node).fontSize)"
        )
        button = root.locator(".gx-present-button")
        button.click()
        one.page.wait_for_function(ALONE, arg=[handle, 1.4 * plain - 0.1])
        one.page.wait_for_function(HERE, arg=[handle, "Close"])
        assert one.page.evaluate("r => document.fullscreenElement === r", handle) == full
        for key in ("Tab", "Tab", "Shift+Tab", "Shift+Tab", "Shift+Tab"):
            one.page.keyboard.press(key)
            assert one.page.evaluate("r => r.contains(document.activeElement)", handle)
        one.page.keyboard.press("Escape")
        one.page.wait_for_function("r => !r.matches('.gx-present')", arg=handle)
        assert button.evaluate("node => node === document.activeElement")
        assert one.page.locator("[inert]").count() == 0
    one.page.evaluate(FULL_SCREEN, [True])
