"""The built book as a reader meets it: in Chromium, by mouse and keyboard, served and as a file."""

from __future__ import annotations

import gzip
import json
import re
from pathlib import Path

import pytest

from genopt_core import explorers as ex
from genopt_core.figures.frames import unpack

pytestmark = pytest.mark.browser

ROOT = Path(__file__).resolve().parents[2]
AXE = ROOT / "genopt_core" / "figures" / "web" / "node_modules" / "axe-core" / "axe.min.js"
PAGES = ["index.html", "ch1_subwords.html", "ch1_vocabulary.html", "ch1_worth.html"]
TOC = re.findall(r"file: (\S+)", (ROOT / "book" / "_toc.yml").read_text(encoding="utf-8"))
ALL_PAGES = ["index.html", *(f"{name}.html" for name in TOC)]
SETTLE_MS = 15_000
# The living parts of an explorer; the pictures for print have classes of the same names.
PICTURE, READOUT = ".gx-picture > .gx-panels", "output.gx-readout"

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


class Watch:
    """A page that notes everything it should not do: errors, failed and outside requests."""

    def __init__(self, browser, **options):
        self.context = browser.new_context(**options)
        self.page = self.context.new_page()
        self.faults: list[str] = []
        self.outside: list[str] = []
        self.bytes = 0
        self.page.on("pageerror", lambda error: self.faults.append(f"error: {error}"))
        self.page.on(
            "console",
            lambda m: self.faults.append(f"console: {m.text}") if m.type == "error" else None,
        )
        if options.get("java_script_enabled", True):  # without it scripts "fail" to be preloaded
            self.page.on("requestfailed", lambda r: self.faults.append(f"failed: {r.url}"))
        self.page.on("request", self._request)

    def _request(self, request):
        if not re.match(r"http://127\.0\.0\.1[:/]|file:|data:|blob:", request.url):
            self.outside.append(request.url)

    def open(self, address: str):
        self.page.goto(address)
        return self

    def explorer(self, number: int = 0):
        """The explorer ``number`` of the page, scrolled to and ready."""
        root = self.page.locator(".genopt-explorer").nth(number)
        root.scroll_into_view_if_needed()
        root.and_(self.page.locator("[data-ready]")).wait_for(timeout=SETTLE_MS)
        return root

    def close(self):
        self.context.close()
        assert self.outside == []
        assert self.faults == []


@pytest.fixture
def watch(chromium):
    opened: list[Watch] = []

    def start(**options):
        opened.append(Watch(chromium, **options))
        return opened[-1]

    yield start
    for one in opened:
        one.close()


def islands(html: Path, page: str) -> list[tuple[int, str]]:
    found = re.findall(
        r'class="genopt-explorer" data-explorer="([^"]+)"', (html / page).read_text("utf-8")
    )
    return list(enumerate(found))


def draws(root) -> int:
    return int(root.get_attribute("data-draws"))


def shown(root) -> tuple[str, str]:
    """What a reader sees: the picture, and the sentence or the reason why there is none."""
    words = [root.locator(place).inner_text() for place in (READOUT, ".gx-problem")]
    return root.locator(PICTURE).inner_html(), "".join(words)


COPY = """async ([root, label]) => {
    let kept = null;
    const keep = {writeText: async (text) => { kept = text; }};
    Object.defineProperty(navigator, "clipboard", {configurable: true, value: keep});
    [...root.querySelectorAll("button")].find((b) => b.textContent === label).click();
    await new Promise((go) => setTimeout(go, 50));
    return kept;
}"""
ENGINE = (
    """root => root.dataset.engine === 'python' && root.querySelector('.gx-readout').innerText"""
)
SAYS = """([root, words]) => (root.querySelector('.gx-readout').innerText +
    root.querySelector('.gx-problem').innerText).includes(words)"""


def copied(page, root, label: str) -> str:
    """What the button ``label`` puts on the clipboard."""
    return page.evaluate(COPY, [root.element_handle(), label])


def address(served: str, html: Path, scheme: str, page: str) -> str:
    return (served if scheme == "http" else html.as_uri() + "/") + page


# ------------------------------------------------------------------ pages


def test_every_page_of_the_contents_is_there(html):
    missing = [page for page in ALL_PAGES if not (html / page).is_file()]
    assert missing == []


@pytest.mark.parametrize("page", ALL_PAGES)
def test_no_page_names_another_host_for_what_it_loads(html, page):
    text = (html / page).read_text(encoding="utf-8")
    loads = re.findall(r"<(?:script|link|img|iframe|source)\b[^>]*?(?:src|href)=\"([^\"]+)", text)
    assert [url for url in loads if re.match(r"(https?:)?//", url)] == []
    assert "cdn." not in re.sub(r"<(pre|code)\b.*?</\1>", "", text, flags=re.DOTALL)


@pytest.mark.parametrize("scheme", ["http", "file"])
@pytest.mark.parametrize("page", ALL_PAGES)
def test_pages_open_without_an_error_and_without_the_network(watch, served, html, scheme, page):
    one = watch().open(address(served, html, scheme, page))
    one.page.wait_for_load_state("networkidle")
    assert one.page.locator("article h1").count() == 1


@pytest.mark.parametrize("page", ALL_PAGES)
def test_no_sideways_scroll_on_a_narrow_phone(watch, served, html, page):
    one = watch(viewport={"width": 360, "height": 740}).open(served + page)
    for number, _ in islands(html, page):
        one.explorer(number)
    wide = one.page.evaluate("document.documentElement.scrollWidth - innerWidth")
    assert wide <= 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("page", ALL_PAGES)
def test_axe_finds_nothing_but_the_theme_s_own_defects(watch, served, html, page, scheme):
    one = watch(color_scheme=scheme).open(served + page)
    for number, _ in islands(html, page):
        one.explorer(number)
    one.page.add_script_tag(path=str(AXE))
    result = one.page.evaluate("axe.run(document, {resultTypes: ['violations']})")
    ours = [
        (v["id"], node["target"], node["failureSummary"][:300])
        for v in result["violations"]
        for node in v["nodes"]
        if v["id"] not in THEME_BASELINE or "genopt" in node["html"] or "gx-" in node["html"]
    ]
    assert ours == []


@pytest.mark.parametrize("page", PAGES)
def test_a_page_is_light_before_it_is_touched(watch, served, html, page):
    """All that is loaded without touching anything, compressed as servers do, fonts left out."""
    one = watch()
    loaded: dict[str, int] = {}

    def weigh(response):
        if response.request.resource_type != "font" and response.ok:
            loaded[response.url] = len(gzip.compress(response.body(), 6))

    one.page.on("response", weigh)
    one.open(served + page)
    one.page.wait_for_load_state("networkidle")
    for number, _ in islands(html, page):
        one.explorer(number)
    assert 0 < sum(loaded.values()) <= 1_500_000, loaded


def test_a_page_without_javascript_shows_picture_and_sentence(watch, served):
    one = watch(java_script_enabled=False).open(served + "index.html")
    still = one.page.locator(".gx-static")
    assert still.locator("svg").first.is_visible()
    said = ex.run("subword-lattice", {})["figure"]["readout"]
    assert said in still.inner_text()
    assert not one.page.locator(".gx-print").first.is_visible()


def test_print_shows_every_preset_as_a_picture_and_opens_predictions(watch, served, html):
    one = watch().open(served + "ch1_subwords.html")
    for number, _ in islands(html, "ch1_subwords.html"):
        one.explorer(number)
    one.page.emulate_media(media="print")
    for number, name in islands(html, "ch1_subwords.html"):
        root = one.page.locator(".genopt-explorer").nth(number)
        labels = [preset.label for preset in ex.get(name).presets]
        printed = root.locator(".gx-print").inner_text()
        assert all(label in printed for label in labels)
        assert not root.locator(".gx-presets").is_visible()
    answer = one.page.locator(".predict details").first
    assert answer.locator("p").first.bounding_box()["height"] > 0


# ------------------------------------------------------------------ explorers


def every_explorer() -> list[tuple[str, str]]:
    return [(scheme, page) for page in PAGES for scheme in ("http", "file")]


@pytest.mark.parametrize(("scheme", "page"), every_explorer())
def test_every_control_moves_the_figure_by_keyboard(watch, served, html, scheme, page):
    one = watch().open(address(served, html, scheme, page))
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
            elif control.kind == "choice" and place.locator("select").count() == 0:
                place.locator("input:checked").press("ArrowRight")
            else:
                field = place.locator("select, input[type=range]").first
                at_end = control.default == control.values()[-1]
                field.press("ArrowLeft" if at_end else "ArrowRight")
            one.page.wait_for_function(
                "([root, n]) => +root.dataset.draws > n", arg=[root.element_handle(), count]
            )
            assert shown(root) != before, (name, control.name)


@pytest.mark.parametrize(("scheme", "page"), every_explorer())
def test_presets_reset_and_link_by_mouse(watch, served, html, scheme, page):
    start = address(served, html, scheme, page)
    one = watch().open(start)
    for number, name in islands(html, page):
        root = one.explorer(number)
        entry = ex.get(name)
        untouched = shown(root)
        for preset in entry.presets:
            root.locator(".gx-preset").filter(has_text=preset.label).first.click()
            result = ex.run(name, preset.params)
            words = result["error"] if "error" in result else result["figure"]["readout"]
            assert words in shown(root)[1]
            assert ("error" in result) == (root.locator(f"{PICTURE} svg").count() == 0)
            if preset.note:
                assert root.locator(".gx-note").inner_text() == preset.note
        link = copied(one.page, root, "Copy link")
        wanted = shown(root)
        root.locator(".gx-reset").click()
        assert shown(root)[1] == untouched[1]
        fresh = watch().open(link)
        again = fresh.explorer(number)
        fresh.page.wait_for_function(
            SAYS,
            arg=[again.element_handle(), wanted[1]],
        )


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


def test_own_text_without_python_is_asked_for_not_guessed(watch, served):
    one = watch().open(served + "index.html")
    root = one.explorer()
    root.locator("[data-control=word] input").fill("zebra")
    assert "Python" in root.locator(".gx-problem").inner_text()
    assert root.locator(f"{PICTURE} svg").count() == 0


@pytest.mark.parametrize("page", PAGES)
def test_dark_mode_changes_the_picture_s_colours_only(watch, served, html, page):
    readings = {}
    for scheme in ("light", "dark"):
        one = watch(color_scheme=scheme).open(served + page)
        root = one.explorer()
        color = one.page.evaluate(
            "root => getComputedStyle(root.querySelector('.gx-panels svg text')).fill",
            root.element_handle(),
        )
        readings[scheme] = (color, root.locator(READOUT).inner_text())
    assert readings["light"][1] == readings["dark"][1]
    assert readings["light"][0] != readings["dark"][0]


# ------------------------------------------------------------------ Python in the page


def test_python_in_the_page_says_what_python_says_here(watch, served, html):
    if not (html / "_static" / "genopt" / "pyodide").is_dir():
        pytest.skip("this book was built without Pyodide: no source had the NumPy wheel")
    for page in PAGES:
        one = watch().open(served + page)
        root = one.explorer()
        root.locator(".gx-run").click()
        one.page.wait_for_function(
            ENGINE,
            arg=root.element_handle(),
            timeout=180_000,
        )
        for number, name in islands(html, page):
            root = one.explorer(number)
            if root.get_attribute("data-engine") != "python":
                root.locator(".gx-run").click()
            entry = ex.get(name)
            own = {c.name: "zebra▁" for c in entry.controls if c.kind == "text"}
            for params in [*(dict(p.params) for p in entry.presets), own]:
                got = one.page.evaluate(
                    """async ([name, params]) => {
                        const hash = new URLSearchParams({explorer: name});
                        for (const [k, v] of Object.entries(params))
                            hash.set(k, typeof v === "boolean" ? Number(v) : v);
                        location.hash = hash;
                    }""",
                    [name, params],
                )
                assert got is None
                result = ex.run(name, params)
                words = result["error"] if "error" in result else result["figure"]["readout"]
                one.page.wait_for_function(
                    SAYS,
                    arg=[root.element_handle(), words],
                    timeout=60_000,
                )


def test_frames_on_the_page_are_the_core_s(html):
    for name in ex.names():
        text = (html / "_static" / "genopt" / "frames" / f"{name}.js").read_text(encoding="utf-8")
        stored = json.loads(text[len("GenoptExplore.frames(") : -len(");\n")])
        assert unpack(stored["packed"], 0) == json.loads(
            json.dumps(ex.run(name, {key: values[0] for key, values in stored["grid"].items()}))
        )
        assert len(text.encode()) <= 300_000
