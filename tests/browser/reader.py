"""A reader of the built book: pages in Chromium, watched, and looked at once they stand still."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import yaml
from places import BOOK
from playwright.sync_api import Error

from genopt_core.figures.widget import MIME

WINDOW = {"width": 1280, "height": 720}  # of a page, where a test asks for no other
CALM = {"reduced_motion": "reduce"}
LIMIT_MS = 60_000  # when a test gives up; nothing waits for a time to pass
SPHINX_PAGES = ["genindex.html", "py-modindex.html", "prf-prf.html", "search.html", "licenses.html"]
# The living parts of an explorer; the pictures for print have classes of the same names.
PICTURE, READOUT = ".gx-picture > .gx-panels", "output.gx-readout"

# Every explorer is ready, fonts and formulas are there, nothing fades, no box moves between frames.
# One number stands for all boxes; what is inside a drawing or a formula moves with its box.  The
# theme scrolls smoothly, so that for a second all boxes would move: "instant".
SETTLED = """async limit => {
    const end = performance.now() + limit;
    const frame = () => new Promise((go) => { requestAnimationFrame(go); setTimeout(go, 1000); });
    const until = async (holds, problem) => {
        while (!holds()) {
            if (performance.now() > end) throw new Error(`${problem} after ${limit} ms`);
            await frame();
        }
    };
    for (const root of document.querySelectorAll("div.genopt-explorer[data-explorer]")) {
        await until(() => {
            if (root.dataset.ready) return true;
            // Again each frame: a page reloaded is scrolled to where it stood, at its own time.
            root.scrollIntoView({block: "center", behavior: "instant"});
        }, `no picture of ${root.dataset.explorer}`);
    }
    scrollTo({top: 0, behavior: "instant"});
    await globalThis.MathJax?.startup?.promise;
    await document.fonts.ready;
    const moving = () => document.getAnimations().some((one) =>
        one.playState === "running" && one.effect.getComputedTiming().endTime < Infinity);
    await until(() => !moving(), "colors or boxes still change");
    let before = "", still = 0;
    await until(() => {
        const page = document.documentElement;
        let boxes = 0;
        for (const node of document.querySelectorAll("article :not(svg *, mjx-container *)")) {
            const {x, y, width, height} = node.getBoundingClientRect();
            boxes = (31 * boxes + x + 3 * y + 5 * width + 7 * height) % 1e9;
        }
        const now = [page.scrollWidth, page.scrollHeight, boxes].join();
        still = now === before ? still + 1 : 0;
        before = now;
        return still >= 2;
    }, "the layout still moves");
}"""

# In view until it is ready: what is above it may still grow, and figures far away are not drawn.
READY = """async (root, limit) => {
    const end = performance.now() + limit;
    while (!root.dataset.ready) {
        if (performance.now() > end) throw new Error(`no picture of ${root.dataset.explorer}`);
        root.scrollIntoView({block: "nearest", behavior: "instant"});
        await new Promise((go) => { requestAnimationFrame(go); setTimeout(go, 1000); });
    }
}"""


def contents() -> list[str]:
    """The pages of the table of contents, in reading order, as files below the built book."""

    def files(entry) -> list[str]:
        if isinstance(entry, list):
            return [file for part in entry for file in files(part)]
        if not isinstance(entry, dict):
            return []
        own = [entry[key] for key in ("root", "file") if key in entry]
        return own + [file for value in entry.values() for file in files(value)]

    toc = yaml.safe_load((BOOK / "_toc.yml").read_text(encoding="utf-8"))
    return [f"{name}.html" for name in files(toc)]


def explorers_in_source(page: str) -> list[str]:
    """The explorers that the source of ``page`` shows."""
    source = BOOK / page.replace(".html", ".ipynb")
    if not source.exists():
        text = source.with_suffix(".md").read_text(encoding="utf-8")
        return re.findall(r"^```\{explorer\} (\S+)", text, re.MULTILINE)
    cells = json.loads(source.read_text(encoding="utf-8"))["cells"]
    outputs = [output for cell in cells for output in cell.get("outputs", [])]
    shown = [output.get("data", {}).get(MIME) for output in outputs]
    return [explorer["name"] for explorer in shown if explorer]


def islands(html: Path, page: str) -> list[tuple[int, str]]:
    """Number and name of each explorer of the built ``page``."""
    text = (html / page).read_text("utf-8")
    return list(enumerate(re.findall(r'class="genopt-explorer" data-explorer="([^"]+)"', text)))


class Watch:
    """A page that notes everything it should not do: errors, failed and outside requests."""

    def __init__(self, context, scripts: bool = True):
        self.scripts = scripts
        self.page = context.new_page()
        self.page.set_default_timeout(LIMIT_MS)
        self.faults: list[str] = []
        self.outside: list[str] = []
        self.page.on("pageerror", lambda error: self.faults.append(f"error: {error}"))
        self.page.on(
            "console",
            lambda m: self.faults.append(f"console: {m.text}") if m.type == "error" else None,
        )
        if scripts:  # without them scripts "fail" to be preloaded
            self.page.on("requestfailed", lambda r: self.faults.append(f"failed: {r.url}"))
        self.page.on("request", self._request)

    def _request(self, request):
        if not re.match(r"http://127\.0\.0\.1[:/]|file:|data:|blob:", request.url):
            self.outside.append(request.url)

    def open(self, address: str):
        self.page.goto(address)
        return self

    def turn_to(self, address: str):
        """Open ``address`` where another page stands, whose last faults are not this one's.

        A new tab costs as much again as most pages.
        """
        self.page.goto("about:blank")
        self.faults.clear()
        self.outside.clear()
        return self.open(address)

    def settled(self):
        """Wait until every explorer is drawn and the layout stands still."""
        self.page.bring_to_front()  # of pages behind it a browser draws a frame a second
        self.page.evaluate(SETTLED, LIMIT_MS)
        return self

    def explorer(self, number: int = 0):
        """The explorer ``number`` of the page in front, scrolled to and ready."""
        self.page.bring_to_front()
        root = self.page.locator(".genopt-explorer").nth(number)
        root.scroll_into_view_if_needed()
        root.evaluate(READY, LIMIT_MS)
        return root

    def blame(self):
        """Fail for what happened since the last call."""
        faults, outside = self.faults.copy(), self.outside.copy()
        self.faults.clear()
        self.outside.clear()
        assert outside == []
        assert faults == []

    def surroundings(self) -> Any:
        """What a test may have changed around the page: its window, its colors, its medium."""
        if not self.scripts:
            return self.page.viewport_size
        asked = ("(prefers-color-scheme: dark)", "(prefers-reduced-motion)", "print")
        matches = "asked => asked.map((one) => matchMedia(one).matches)"
        try:
            return self.page.viewport_size, self.page.evaluate(matches, asked)
        except Error:
            return None

    def forget(self) -> bool:
        """Leave the page and what its visit keeps; whether the tab can be used again."""
        try:
            self.page.wait_for_load_state()
            if self.scripts:
                self.page.evaluate("sessionStorage.clear()")
            faults = self.faults.copy()
            self.page.goto("about:blank")
            self.faults[:] = faults  # a figure whose module was cut off by leaving is no fault
        except Error:
            return False
        return True


# Back to where a page starts: figures that were drawn since it was opened, focus, scroll.
TIDY = """() => {
    for (const root of document.querySelectorAll("div.genopt-explorer[data-ready]"))
        if (root.dataset.draws !== root.dataset.atStart) root.querySelector(".gx-reset").click();
    document.activeElement?.blur();
    scrollTo({top: 0, behavior: "instant"});
}"""


# The figures stand as a page opens them: all that it has loaded for that, itself included, and of
# each figure what answers for it, its settings, its words, and the words in its picture.
OPENED = """([picture, readout]) => {
    const figures = [...document.querySelectorAll("div.genopt-explorer[data-ready]")];
    for (const root of figures) root.dataset.atStart = root.dataset.draws;
    const kinds = ["navigation", "resource"];
    return [
        kinds.flatMap((kind) => performance.getEntriesByType(kind)).map((one) => one.name),
        figures.map((root) => [
            root.dataset.explorer,
            root.dataset.engine,
            [...root.querySelectorAll(".gx-control :is(input, select)")].map((one) =>
                ["radio", "checkbox"].includes(one.type) ? one.checked : one.value),
            root.querySelector(readout).innerText,
            [...root.querySelectorAll(`${picture} text`)].map((one) => one.textContent),
        ]),
    ];
}"""


class Desk:
    """The tabs that stay open between tests: one for served pages, one for pages from files.

    ``contexts`` makes the browser context of each.  Their reader asks for less motion: a second of
    gliding at every jump is most of a test.
    """

    def __init__(self, contexts: dict):
        self.contexts = contexts
        self.tabs: dict[str, Watch] = {}
        self.addresses: dict[str, str] = {}
        # Of the open pages, before anything was touched.
        self.loaded: dict[str, list[str]] = {}
        self.figures: dict[str, list] = {}

    def open(self, address: str) -> Watch:
        """The page at ``address``, settled, as a reader finds it who has just come."""
        scheme = address.partition(":")[0]
        if scheme not in self.tabs:
            self.tabs[scheme] = Watch(self.contexts[scheme]())
        one = self.tabs[scheme]
        if self.addresses.get(scheme) == address:
            return one.settled()
        self.addresses[scheme] = address
        one.turn_to(address).settled()
        opened = one.page.evaluate(OPENED, [PICTURE, READOUT])
        self.loaded[scheme], self.figures[scheme] = opened
        return one

    def tidy(self, one: Watch):
        """After a test: a page that a test leaves in disorder is opened anew for the next one."""
        try:
            one.page.emulate_media(media="screen", color_scheme="light")
            one.page.set_viewport_size(WINDOW)
            one.page.evaluate(TIDY)
        except Error:
            one.page.close()
            for scheme in [scheme for scheme, tab in self.tabs.items() if tab is one]:
                del self.tabs[scheme], self.addresses[scheme]


def draws(root) -> int:
    return int(root.get_attribute("data-draws"))


SHOWN = """(root, [picture, ...words]) => [
    root.querySelector(picture).innerHTML,
    words.map((place) => root.querySelector(place).innerText).join(""),
]"""


def shown(root) -> tuple[str, str]:
    """What a reader sees: the picture, and the sentence or the reason why there is none."""
    picture, words = root.evaluate(SHOWN, [PICTURE, READOUT, ".gx-problem"])
    return picture, words


SAYS = """([root, words]) => (root.querySelector('.gx-readout').innerText +
    root.querySelector('.gx-problem').innerText).includes(words)"""


def says(page, root, words: str) -> None:
    """Wait until the explorer says ``words``."""
    page.wait_for_function(SAYS, arg=[root.element_handle(), words])


COPY = """([root, label]) => new Promise((kept) => {
    const keep = {writeText: async (text) => kept(text)};
    Object.defineProperty(navigator, "clipboard", {configurable: true, value: keep});
    [...root.querySelectorAll("button")].find((b) => b.textContent === label).click();
})"""


def copied(page, root, label: str) -> str:
    """What the button ``label`` puts on the clipboard."""
    return page.evaluate(COPY, [root.element_handle(), label])


def figures_only(page: Path, name: str) -> str:
    """A page with the figures ``name`` of the built ``page`` alone, which loads in a moment."""
    text = page.read_text(encoding="utf-8")
    parts = re.findall(r"<link [^>]*genopt/[^>]*>|<script\b[^>]*>[^<]*GENOPT[^<]*</script>", text)
    for start in re.finditer(
        f'<div class="genopt-explorer" data-explorer="{re.escape(name)}"', text
    ):
        depth = 0
        for tag in re.compile(r"<(/?)div\b").finditer(text, start.start()):
            depth += -1 if tag[1] else 1
            if not depth:
                break
        parts.append(text[start.start() : tag.start()] + "</div>")
    parts += re.findall(r"<script\b[^>]*genopt/[^>]*></script>", text)
    return f'<!DOCTYPE html><base href="{page.as_uri()}">\n' + "\n".join(parts)


def address(served: str, html: Path, scheme: str, page: str) -> str:
    return (served if scheme == "http" else html.as_uri() + "/") + page
