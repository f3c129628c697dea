"""The built book as a reader meets it: in Chromium, by mouse and keyboard, served and as a file."""

from __future__ import annotations

import gzip
import io
import json
import re

import pytest
from browser import fonts
from browser.reader import (
    LIMIT_MS,
    PICTURE,
    READOUT,
    Watch,
    contents,
    copied,
    draws,
    explorers_in_source,
    islands,
    says,
    shown,
)
from PIL import Image
from places import CORE

import genopt_core
from genopt_core import explorers as ex
from genopt_core.explorers.one_model import generation
from genopt_core.figures.frames import unpack

pytestmark = pytest.mark.browser

AXE = CORE / "figures" / "web" / "node_modules" / "axe-core" / "axe.min.js"
ALL_PAGES = contents()
PAGES = [page for page in ALL_PAGES if explorers_in_source(page)]  # a new figure is moved at once
COMPUTED = "subword-lattice"  # by the page itself, see tests/figures/test_lattice_in_page.py
SPHINX_PAGES = ["genindex.html", "py-modindex.html", "prf-prf.html", "search.html"]

# Defects of the theme and of docutils, on every page that has the part; ours has none.
THEME_BASELINE = {
    "label-content-name-mismatch",  # "Show code cell source"
    "region",  # one skip link of the theme outside landmarks
    "aria-required-children",  # docutils' list of references
    "aria-allowed-role",  # docutils' entries of that list
    "aria-deprecated-role",  # the same entries
    "landmark-unique",  # two navigations of the theme with one name
    "scrollable-region-focusable",  # the theme's sidebars and highlighted code
}


# ------------------------------------------------------------------ pages


def test_every_page_of_the_contents_is_there(html):
    missing = [page for page in ALL_PAGES if not (html / page).is_file()]
    assert missing == []


def test_every_explorer_is_on_a_page_and_moved_below(html):
    built = {page: [name for _, name in islands(html, page)] for page in ALL_PAGES}
    assert {page: names for page, names in built.items() if names} == {
        page: explorers_in_source(page) for page in PAGES
    }
    assert {name for names in built.values() for name in names} == set(ex.names())


@pytest.mark.parametrize("page", ALL_PAGES)
def test_no_page_names_another_host_for_what_it_loads(html, page):
    text = (html / page).read_text(encoding="utf-8")
    loads = re.findall(r"<(?:script|link|img|iframe|source)\b[^>]*?(?:src|href)=\"([^\"]+)", text)
    assert [url for url in loads if re.match(r"(https?:)?//", url)] == []
    assert "cdn." not in re.sub(r"<(pre|code)\b.*?</\1>", "", text, flags=re.DOTALL)


@pytest.mark.parametrize("page", ALL_PAGES)
def test_pages_open_without_an_error_and_without_the_network(opened, page):
    opened.blame()
    assert opened.page.locator("article h1").count() == 1


@pytest.mark.parametrize("page", ALL_PAGES)
def test_a_page_loads_no_script_that_finds_nothing_to_do(html, page):
    text = (html / page).read_text(encoding="utf-8")
    loads = re.findall(r"<script\b[^>]*\bsrc=\"([^\"]+)", text)
    for script, use in [("mathjax/", 'class="math '), ("genopt/explore.js", 'class="genopt-')]:
        assert any(script in address for address in loads) == (use in text), script
    assert "fontawesome" not in text


@pytest.mark.parametrize("page", [*ALL_PAGES, *SPHINX_PAGES])
def test_the_foot_of_a_page_names_version_and_license(html, page):
    foot = (html / page).read_text(encoding="utf-8").rpartition('class="extra_footer"')[2]
    assert f"GenOpt {genopt_core.__version__}" in foot
    assert "Code: MIT" in foot
    assert "CC BY 4.0" in foot


# Code, equations and tables of which something is left to scroll, folded code unfolded.
CUT = """async () => {
    const frame = () => new Promise((go) => { requestAnimationFrame(go); setTimeout(go, 1000); });
    const folded = document.querySelectorAll("article details.hide:not([open])");
    const tables = [...document.querySelectorAll("article .genopt-table")];
    const boxes = tables.filter((one) => one.checkVisibility());  // long ones stay folded
    for (const one of folded) one.open = true;
    await frame();
    await frame();
    boxes.push(...document.querySelectorAll("article :is(pre, div.math)"));
    const cut = boxes.filter((box) => box.scrollWidth > box.clientWidth + 1)
        .map((box) => [box.innerText.slice(0, 60), box.scrollWidth - box.clientWidth]);
    for (const one of folded) one.open = false;
    return cut;
}"""


@pytest.mark.parametrize("page", ALL_PAGES)
def test_no_code_equation_or_table_is_cut_on_a_desk(opened, page):
    before = opened.page.viewport_size
    found = {}
    for width in (1440, 1000):
        opened.page.set_viewport_size({"width": width, "height": 800})
        found[width] = opened.page.evaluate(CUT)
    opened.page.set_viewport_size(before)
    assert found == {1440: [], 1000: []}


BARE_ICONS = """() => [...document.querySelectorAll("i[class*=fa-]")]
    .filter((icon) => getComputedStyle(icon, "::before").content === "none")
    .map((icon) => icon.className)"""


def test_every_icon_of_the_theme_is_in_the_small_font(watch, served):
    one = watch().open(served + "index.html").settled()
    assert one.page.evaluate(BARE_ICONS) == []
    assert one.page.evaluate("""document.fonts.check('900 16px "Font Awesome 6 Free"', "\uf062")""")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_drawn_picture_fills_the_column_on_the_page_s_own_ground(watch, served, scheme):
    one = watch(color_scheme=scheme).open(served + "ch1_subwords/paths.html").settled()
    picture = one.page.locator("article .cell_output img").first
    column = picture.evaluate("node => node.closest('.cell_output').clientWidth")
    assert picture.bounding_box()["width"] >= 0.97 * column
    shot = Image.open(io.BytesIO(picture.screenshot())).convert("RGB")
    ground = one.page.evaluate("getComputedStyle(document.body).backgroundColor")
    wanted = [int(number) for number in re.findall(r"\d+", ground)[:3]]
    assert max(abs(a - b) for a, b in zip(shot.getpixel((3, 3)), wanted, strict=True)) <= 6


@pytest.mark.parametrize("page", ALL_PAGES)
def test_pages_open_as_files(visit, page):
    assert visit(page, "file").page.locator("article h1").count() == 1


def longest_source_page(html) -> str:
    """The page of the code whose module has the longest name."""
    found = [path.relative_to(html).as_posix() for path in (html / "_modules").rglob("*.html")]
    return max(found, key=len)


@pytest.mark.parametrize("font", fonts.SETS)
@pytest.mark.parametrize("page", [*ALL_PAGES, *SPHINX_PAGES, "_modules.html"])
def test_no_sideways_scroll_on_a_narrow_phone(visit, phones, served, html, page, font):
    place = longest_source_page(html) if page == "_modules.html" else page
    one = visit(place) if font == "installed" else phones(font).turn_to(served + place)
    one.page.set_viewport_size(fonts.PHONE)
    one.settled()
    assert one.page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
    one.blame()


# Once over all pages at 1440, 1280, 390 and 360: what one size shows, all do; colors differ.
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("page", [*ALL_PAGES, *SPHINX_PAGES])
def test_axe_finds_nothing_but_the_theme_s_own_defects(opened, page, scheme):
    # without fades: a color looked at halfway between light and dark has no contrast
    still = "*, ::before, ::after { transition: none !important }"
    style = opened.page.add_style_tag(content=still)
    opened.page.emulate_media(color_scheme=scheme)
    opened.settled()
    if opened.page.evaluate("typeof axe") == "undefined":
        opened.page.add_script_tag(path=str(AXE))
    result = opened.page.evaluate("axe.run(document, {resultTypes: ['violations']})")
    style.evaluate("node => node.remove()")
    ours = [
        (v["id"], node["target"], node["failureSummary"][:300])
        for v in result["violations"]
        for node in v["nodes"]
        if v["id"] not in THEME_BASELINE or "genopt" in node["html"] or "gx-" in node["html"]
    ]
    assert ours == []


@pytest.mark.parametrize("page", PAGES)
def test_a_page_is_light_before_it_is_touched(stranger, served, page):
    """All that is loaded without touching anything, compressed as servers do, fonts left out."""
    loaded: dict[str, int] = {}

    def weigh(response):
        if response.request.resource_type != "font" and response.ok:
            loaded[response.url] = len(gzip.compress(response.body(), 6))

    stranger.page.on("response", weigh)
    stranger.turn_to(served + page).settled()
    stranger.page.remove_listener("response", weigh)
    stranger.blame()
    assert 0 < sum(loaded.values()) <= 1_000_000, loaded


def test_a_page_without_javascript_shows_picture_and_sentence(watch, served):
    one = watch(java_script_enabled=False).open(served + "index.html")
    still = one.page.locator(".gx-static")
    assert still.locator("svg").first.is_visible()
    said = ex.run("subword-lattice", {})["figure"]["readout"]
    assert said in still.inner_text()
    assert not one.page.locator(".gx-print").first.is_visible()


# ------------------------------------------------------------------ explorers


AT_END = "f => f.options ? f.selectedIndex === f.options.length - 1 : f.value === f.max"


@pytest.mark.parametrize("scheme", ["http", "file"])
@pytest.mark.parametrize("page", PAGES)
def test_every_control_moves_the_figure_by_keyboard(visit, html, scheme, page):
    one = visit(page, scheme)
    for number, name in islands(html, page):
        root = one.explorer(number)
        for control in ex.get(name).controls:
            root.locator(".gx-reset").click()
            place = root.locator(f"[data-control={control.name}]")
            before, count = shown(root), draws(root)
            if control.kind == "toggle":
                place.locator("input").press("Space")
            elif control.kind == "text":
                place.locator(".gx-sample").nth(1).press("Enter")
            elif control.kind == "seed":
                place.locator("button:not(.gx-help-button)").press("Enter")
            elif control.kind == "choice" and place.locator("select").count() == 0:
                place.locator("input:checked").press("ArrowRight")
            else:
                field = place.locator("select, input[type=range]").first
                at_end = field.evaluate(AT_END)  # a page may start a figure elsewhere
                field.press("ArrowLeft" if at_end else "ArrowRight")
            one.page.wait_for_function(
                "([root, n]) => +root.dataset.draws > n", arg=[root.element_handle(), count]
            )
            assert shown(root) != before, (name, control.name)


# What stands there once the explorer says the words.
ANSWERED = """async (root, [words, picture, limit]) => {
    const end = performance.now() + limit;
    const text = (place) => root.querySelector(place).innerText;
    while (!(text(".gx-readout") + text(".gx-problem")).includes(words)) {
        if (performance.now() > end) throw new Error(`not said after ${limit} ms: ${words}`);
        await new Promise((go) => { requestAnimationFrame(go); setTimeout(go, 1000); });
    }
    return [root.querySelectorAll(`${picture} svg`).length, text(".gx-note")];
}"""


@pytest.mark.parametrize("scheme", ["http", "file"])
@pytest.mark.parametrize("page", PAGES)
def test_presets_reset_and_link_by_mouse(visit, linked, html, scheme, page):
    one = visit(page, scheme)
    linked.turn_to("about:blank")
    for number, name in islands(html, page):
        root = one.explorer(number)
        entry = ex.get(name)
        untouched = shown(root)
        for preset in entry.presets:
            root.locator(".gx-preset").filter(has_text=preset.label).first.click()
            result = ex.run(name, preset.params)
            words = result["error"] if "error" in result else result["figure"]["readout"]
            pictures, note = root.evaluate(ANSWERED, [words, PICTURE, LIMIT_MS])
            assert ("error" in result) == (pictures == 0)
            if preset.note:
                assert note == preset.note
        link = copied(one.page, root, "Copy link")
        wanted = shown(root)
        root.locator(".gx-reset").click()
        assert shown(root)[1] == untouched[1]
        if scheme == "http":  # each link to a new reader; from a file to one whose page is open
            linked.open("about:blank")
        linked.open(link)
        says(linked.page, linked.explorer(number), wanted[1])
    linked.blame()


def test_copy_as_code_is_python_that_draws_the_same(watch, served, html):
    one = watch().open(served + "index.html")
    root = one.explorer()
    preset = ex.get("subword-lattice").presets[1]
    root.locator(".gx-preset").nth(1).click()
    code = copied(one.page, root, "Copy as code")
    called = {}
    exec(code.replace("from genopt_core import explore", ""), {"explore": called_with(called)})
    assert called["name"] == "subword-lattice"
    entry = ex.get("subword-lattice")
    assert entry.check(called["params"]) == entry.check(preset.params)


def called_with(kept: dict):
    def explore(name, **params):
        kept.update(name=name, params=params)

    return explore


def test_the_figure_itself_is_reached_by_keyboard(watch, served):
    one = watch().open(served + "index.html")
    root = one.explorer()
    figure = root.locator("[tabindex='0']").first
    figure.focus()
    one.page.keyboard.press("ArrowRight")
    tip = root.locator("[role=tooltip], .gx-tip").first
    assert tip.is_visible()
    assert tip.inner_text().strip()
    one.page.keyboard.press("Escape")
    assert not tip.is_visible()
    root.locator(".gx-numbers summary").press("Enter")
    root.locator(".gx-numbers table").first.wait_for(state="visible")


@pytest.mark.parametrize("page", PAGES)
def test_dark_mode_changes_the_pictures_colors_only(opened, page):
    readings = {}
    for scheme in ("light", "dark"):
        opened.page.emulate_media(color_scheme=scheme)
        opened.settled()
        readings[scheme] = [
            (
                root.evaluate("n => getComputedStyle(n.querySelector('.gx-panels text')).fill"),
                root.locator(READOUT).inner_text(),
            )
            for root in opened.page.locator(".genopt-explorer").all()
        ]
    for light, dark in zip(readings["light"], readings["dark"], strict=True):
        assert light[1] == dark[1]
        assert light[0] != dark[0]


# ------------------------------------------------------------------ Python in the page


ASK = """async ([name, params]) => {
    const {figure, error} = await GenoptExplore.python.run(name, params);
    return error ?? figure.readout;
}"""


@pytest.fixture(scope="session")
def python(contexts, served, html):
    """A page in which Python runs: it answers for the explorers of all pages."""
    if not (html / "_static" / "genopt" / "pyodide").is_dir():
        pytest.skip("this book was built without Pyodide: no source had the NumPy wheel")
    one = Watch(contexts(locale="en-GB")).open(served + PAGES[-1])
    yield one
    one.page.close()


@pytest.mark.parametrize("page", PAGES)
def test_python_in_the_page_says_what_python_says_here(python, page):
    for name in dict.fromkeys(explorers_in_source(page)):
        entry = ex.get(name)
        own = {c.name: "zebra▁" for c in entry.controls if c.kind == "text"}
        for params in [*(dict(p.params) for p in entry.presets), own]:
            result = ex.run(name, params)
            words = result["error"] if "error" in result else result["figure"]["readout"]
            assert python.page.evaluate(ASK, [name, params]) == words
    python.blame()


TIME = """async ([name, seeds]) => {
    const times = [];
    for (const seed of seeds) {
        const start = performance.now();
        const { error } = await GenoptExplore.python.run(name, { seed });
        if (error) throw new Error(error);
        times.push(performance.now() - start);
    }
    return times;
}"""


def test_the_model_in_the_page_writes_a_token_in_fifty_milliseconds(python):
    python.page.evaluate(TIME, ["one-generate", [90]])  # what it has read before is kept
    times = python.page.evaluate(TIME, ["one-generate", [91, 92, 93]])
    assert min(times) / (2 * generation.NEW) <= 50, "with all kept, and once more with the switches"
    python.blame()


@pytest.mark.parametrize("name", [name for name in ex.names() if name != COMPUTED])
def test_frames_on_the_page_are_the_core_s(html, name):
    text = (html / "_static" / "genopt" / "frames" / f"{name}.js").read_text(encoding="utf-8")
    stored = json.loads(text[len("GenoptExplore.frames(") : -len(");\n")])
    assert unpack(stored["packed"], 0) == json.loads(
        json.dumps(ex.run(name, {key: values[0] for key, values in stored["grid"].items()}))
    )
    assert len(text.encode()) <= 300_000
