"""The built book as a reader meets it: in Chromium, by mouse and keyboard, served and as a file."""

from __future__ import annotations

import gzip
import io
import json
import re
from functools import cache
from pathlib import Path
from urllib.parse import unquote

import pytest
from browser import fonts
from browser.reader import (
    LIMIT_MS,
    PICTURE,
    READOUT,
    SPHINX_PAGES,
    Watch,
    contents,
    copied,
    draws,
    explorers_in_source,
    figures_only,
    islands,
    says,
    shown,
)
from PIL import Image

import genopt_core
from genopt_core import explorers as ex
from genopt_core.explorers.one_model import generation
from genopt_core.figures.frames import unpack

pytestmark = pytest.mark.browser

ALL_PAGES = contents()
PAGES = [page for page in ALL_PAGES if explorers_in_source(page)]  # a new figure is moved at once
SEVERAL = "ch1_subwords/vocabulary.html"  # figures of which a link moves the last alone
COMPUTED = "subword-lattice"  # by the page itself, see tests/figures/test_lattice_in_page.py

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


def test_every_icon_of_the_theme_is_in_the_small_font(visit):
    one = visit("index.html")
    assert one.page.evaluate(BARE_ICONS) == []
    assert one.page.evaluate("""document.fonts.check('900 16px "Font Awesome 6 Free"', "\uf062")""")


@pytest.mark.parametrize("page", ["ch1_subwords/paths.html"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_drawn_picture_fills_the_column_on_the_page_s_own_ground(opened, page, scheme):
    one = opened
    one.page.emulate_media(color_scheme=scheme)
    one.settled()
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
    if font != "installed" and not fonts.files(font):
        pytest.skip(f"fonts-dejavu-{font} is not installed")
    place = longest_source_page(html) if page == "_modules.html" else page
    if font == "installed":
        one = visit(place)
    elif font == "core":
        one = visit(place, "file")  # the desk reads files with these fonts
    else:
        one = phones(font).turn_to(served + place)
    one.page.set_viewport_size(fonts.PHONE)
    one.settled()
    assert one.page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
    one.blame()


MOST_NOTED = 250  # resources of a page that a browser keeps account of


@cache
def weight(path: str) -> int:
    """Bytes of a file of the book, compressed as servers do."""
    return len(gzip.compress(Path(path).read_bytes(), 6))


@pytest.mark.parametrize("page", PAGES)
def test_a_page_is_light_before_it_is_touched(opened, desk, served, html, page):
    """All that is loaded without touching anything, from a cache or not, fonts left out."""
    loaded = {url.partition("#")[0].partition("?")[0] for url in desk.loaded["http"]}
    loaded = {url for url in loaded if not url.startswith(("data:", "blob:"))}
    files = [html / unquote(url.removeprefix(served)) for url in loaded]
    assert html / page in files
    assert len(desk.loaded["http"]) < MOST_NOTED
    weights = {path: weight(path) for path in files if path.suffix != ".woff2"}
    assert sum(weights.values()) <= 1_000_000, weights


def test_a_page_without_javascript_shows_picture_and_sentence(watch, served):
    one = watch(java_script_enabled=False).open(served + "index.html")
    still = one.page.locator(".gx-static")
    assert still.locator("svg").first.is_visible()
    said = ex.run("subword-lattice", {})["figure"]["readout"]
    assert said in still.inner_text()
    assert not one.page.locator(".gx-print").first.is_visible()


# ------------------------------------------------------------------ explorers


RESET = "root => root.querySelector('.gx-reset').click()"
AT_END = "f => f.options ? f.selectedIndex === f.options.length - 1 : f.value === f.max"


@pytest.mark.parametrize("page", PAGES)
def test_every_control_moves_the_figure_by_keyboard(visit, html, page):
    one = visit(page, "file")
    for number, name in islands(html, page):
        root = one.explorer(number)
        for control in ex.get(name).controls:
            root.evaluate(RESET)
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


def choose(root, name: str, preset) -> None:
    """Choose ``preset`` by mouse, and wait for what Python says of its settings."""
    root.locator(".gx-preset").filter(has_text=preset.label).first.click()
    result = ex.run(name, preset.params)
    words = result["error"] if "error" in result else result["figure"]["readout"]
    pictures, note = root.evaluate(ANSWERED, [words, PICTURE, LIMIT_MS])
    assert ("error" in result) == (pictures == 0)
    if preset.note:
        assert note == preset.note


@pytest.mark.parametrize("page", PAGES)
def test_presets_reset_and_link_by_mouse(visit, linked, html, page, tmp_path):
    """A link is opened where its page is open, and by a new reader: there without what surrounds
    the figures, and below with it."""
    one = visit(page, "file")
    linked.turn_to("about:blank")
    links = []
    for number, name in islands(html, page):
        root = one.explorer(number)
        untouched = shown(root)
        for preset in ex.get(name).presets:
            choose(root, name, preset)
        links.append((number, name, copied(one.page, root, "Copy link"), shown(root)[1]))
        root.locator(".gx-reset").click()
        assert shown(root)[1] == untouched[1]
    for number, _, link, words in links:
        one.open(link)
        says(one.page, one.explorer(number), words)
    one.page.evaluate("history.replaceState(null, '', location.pathname)")
    names = [name for _, name, _, _ in links]
    for i, (_, name, link, words) in enumerate(links):
        fresh = tmp_path / f"{name}.html"
        fresh.write_text(figures_only(html / page, name), encoding="utf-8")
        linked.open("about:blank")
        linked.open(f"{fresh.as_uri()}#{link.partition('#')[2]}")
        says(linked.page, linked.explorer(names[:i].count(name)), words)
    linked.blame()


@pytest.mark.parametrize("page", PAGES)
def test_served_figures_are_those_of_files_and_answer(visit, desk, linked, html, page):
    """How scripts and frames are brought may differ by scheme, so each figure is there and moves.

    What a figure does then is the same code and the same frames, moved by every control and every
    preset above.
    """
    visit(page, "file")
    one = visit(page)
    assert [name for name, *_ in desk.figures["http"]] == explorers_in_source(page)
    assert desk.figures["http"] == desk.figures["file"]
    first = []
    for number, name in islands(html, page):
        root = one.explorer(number)
        first.append(shown(root)[1])
        choose(root, name, ex.get(name).presets[-1])
        link, words = copied(one.page, root, "Copy link"), shown(root)[1]
        assert link.partition("#")[0] == one.page.url.partition("#")[0]
    as_file = f"{(html / page).as_uri()}#{link.partition('#')[2]}"
    # a new reader, of the figure that is the farthest from the top
    for address in (link, as_file) if page == SEVERAL else (link,):
        linked.turn_to(address)
        says(linked.page, linked.explorer(number), words)
        if page == SEVERAL:
            assert words != first[-1]
            others = [shown(linked.explorer(n))[1] for n in range(number)]
            assert others == first[:-1] != []
        linked.blame()


def test_copy_as_code_is_python_that_draws_the_same(visit):
    one = visit("index.html")
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


def test_the_figure_itself_is_reached_by_keyboard(visit):
    one = visit("index.html")
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
    root.locator(".gx-numbers summary").press("Enter")


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
