"""The notebooks in JupyterLab: readable, alive, and unchanged by opening and saving."""

import io
import os
import re
import shutil
import socket
import subprocess
import sys
import urllib.request

import pytest
from browser.reader import LIMIT_MS
from PIL import Image
from places import BOOK, ROOT

from book._ext.refresh import notebooks

RAW = re.compile(
    r":::|\{(cite|eq|ref|doc|prf|predict|exercise|admonition)\b|^\([a-z]+-[a-z-]+\)$", re.M
)
OPENED = "paths.ipynb"


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """The address of a server, its token, and the folder of a copy of the book that it shows."""
    place = tmp_path_factory.mktemp("lab")
    left_out = shutil.ignore_patterns("data", "experiments", "__pycache__", "_build")
    shutil.copytree(BOOK, place / "book", ignore=left_out)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    home = {name: str(place / "home") for name in ("HOME", "JUPYTER_DATA_DIR", "IPYTHONDIR")}
    home["JUPYTER_CONFIG_DIR"] = str(place / "config")
    env = {**os.environ, **home, "PYTHONPATH": str(ROOT), "GENOPT_DATA": str(BOOK / "data")}
    jupyter = [sys.executable, "-m", "jupyter"]
    files = [str(path) for path in sorted((place / "book").rglob("*.ipynb"))]
    subprocess.run([*jupyter, "trust", *files], env=env, check=True, capture_output=True)
    config = f"--config={place / 'book' / '_ext' / 'lab.py'}"
    own = ["--no-browser", f"--port={port}", "--IdentityProvider.token=secret", "--allow-root"]
    with open(place / "log", "w") as log:
        server = subprocess.Popen(
            [*jupyter, "lab", config, *own], cwd=place, env=env, stdout=log, stderr=log
        )
    address = f"http://127.0.0.1:{port}"
    for _ in range(LIMIT_MS // 250):
        try:
            urllib.request.urlopen(f"{address}/api", timeout=10)
            break
        except OSError:
            assert server.poll() is None, (place / "log").read_text()
            server_wait(server)
    yield address, place / "book"
    server.terminate()
    server.wait()


def server_wait(server):
    try:
        server.wait(0.25)
    except subprocess.TimeoutExpired:
        return


@pytest.fixture(scope="module")
def window(chromium, lab):
    context = chromium.new_context(viewport={"width": 1440, "height": 900})
    yield context
    context.close()


def opened(window, lab, notebook):
    """A page with the notebook, its kernel idle; all of it rendered, however long it is."""
    page = window.new_page()
    page.set_default_timeout(LIMIT_MS)
    page.goto(f"{lab[0]}/lab/tree/{notebook}?token=secret&reset")
    page.locator(".jp-Notebook .jp-MarkdownCell .jp-RenderedMarkdown").first.wait_for()
    page.locator(".jp-Notebook-ExecutionIndicator[data-status=idle]").first.wait_for()
    return page


TEXTS = """async (limit) => {
    const end = performance.now() + limit;
    const frame = () => new Promise((go) => { requestAnimationFrame(go); setTimeout(go, 1000); });
    const cells = document.querySelectorAll(".jp-Notebook .jp-Cell");
    const found = [];
    for (const cell of cells) {
        cell.scrollIntoView({block: "center", behavior: "instant"});
        if (!cell.classList.contains("jp-MarkdownCell")) continue;
        const shown = () => cell.querySelector(".jp-RenderedMarkdown")?.innerText;
        while (!shown()) {
            if (performance.now() > end) throw new Error(`a cell is not shown after ${limit} ms`);
            await frame();
        }
        found.push(shown());
    }
    return found;
}"""


def texts(page):
    """What a reader sees who scrolls from the top to the bottom."""
    return page.evaluate(TEXTS, LIMIT_MS)


SOURCES = [path.relative_to(BOOK).as_posix() for path in notebooks()]


@pytest.mark.parametrize("notebook", SOURCES)
def test_no_markup_is_shown_raw_and_saving_changes_no_byte(window, lab, notebook):
    before = (lab[1] / notebook).read_bytes()
    page = opened(window, lab, notebook)
    for text in texts(page):
        assert not RAW.search(text), text
    assert page.locator(".lm-DockPanel .jp-mod-dirty").count() == 0
    opened_at = (lab[1] / notebook).stat().st_mtime_ns
    with page.expect_response(lambda r: r.request.method == "PUT" and "/api/contents/" in r.url):
        page.keyboard.press("Control+s")
    page.close()
    assert (lab[1] / notebook).stat().st_mtime_ns > opened_at
    assert (lab[1] / notebook).read_bytes() == before


def test_a_picture_stands_where_the_figure_will_and_the_answer_is_shut(window, lab):
    page = opened(window, lab, f"ch1_subwords/{OPENED}")
    still = page.locator(".jp-OutputArea-output .jp-RenderedSVG, .jp-RenderedImage").first
    still.wait_for()
    details = page.locator(".jp-RenderedMarkdown details").first
    details.scroll_into_view_if_needed()
    assert details.locator("summary").is_visible()
    assert not details.locator("p").first.is_visible()
    page.close()


@pytest.mark.parametrize(("light", "lightness"), [("true", 255), ("false", 17)])
def test_stored_pictures_are_dark_in_a_dark_jupyterlab(window, lab, light, lightness):
    page = opened(window, lab, f"ch1_subwords/{OPENED}")
    page.evaluate("light => { document.body.dataset.jpThemeLight = light }", light)
    if light == "false":  # the ground on which JupyterLab would put them
        page.add_style_tag(content=".jp-Notebook, .jp-OutputArea-output { background: #111 }")
    texts(page)
    for kind in ("SVG", "Image"):
        picture = page.locator(f".jp-Rendered{kind} img").first
        picture.scroll_into_view_if_needed()
        shot = Image.open(io.BytesIO(picture.screenshot())).convert("L")
        assert abs(shot.getpixel((3, 3)) - lightness) <= 8, kind
    page.close()


def test_the_figure_lives_once_its_cell_has_run(window, lab):
    page = opened(window, lab, f"ch1_subwords/{OPENED}")
    page.locator(".jp-CodeCell").first.click()
    page.keyboard.press("Control+Enter")
    root = page.locator(".genopt-explorer[data-ready]")
    root.wait_for()
    before = root.locator("output.gx-readout").inner_text()
    field = root.locator("[data-control=word] input[type=text]")
    field.fill("strawberries")
    field.press("Enter")
    page.wait_for_function(
        "before => document.querySelector('output.gx-readout').innerText !== before", arg=before
    )
    assert "stra" in root.locator("output.gx-readout").inner_text()
    page.close()


def test_make_lab_opens_a_short_page_that_leads_to_all_notebooks(lab):
    start = (BOOK / "START.ipynb").read_text(encoding="utf-8")
    for path in SOURCES:
        assert path in ("START.ipynb",) or f"({path})" in start
    page = urllib.request.urlopen(f"{lab[0]}/?token=secret", timeout=60)
    assert page.geturl().split("?")[0].endswith("/lab/tree/START.ipynb")
