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
    own.append("--LabApp.expose_app_in_browser=True")  # as `jupyterapp`, which opens notebooks
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


# The indicator shows "idle" before there is a kernel; a cell that is run then does nothing.
CONNECTED = """async () => {
    const session = jupyterapp.shell.currentWidget.sessionContext;
    await session.ready;
    await session.session.kernel.info;
}"""


def ready(page):
    """``page`` once its notebook is rendered, however long it is, and its kernel idle."""
    page.locator(".jp-Notebook .jp-MarkdownCell .jp-RenderedMarkdown").first.wait_for()
    page.evaluate(CONNECTED)
    page.locator(".jp-Notebook-ExecutionIndicator[data-status=idle]").first.wait_for()
    return page


def opened(window, lab, notebook):
    """A page of its own with the notebook."""
    page = window.new_page()
    page.set_default_timeout(LIMIT_MS)
    page.goto(f"{lab[0]}/lab/tree/{notebook}?token=secret&reset")
    return ready(page)


@pytest.fixture(scope="module")
def shared(window, lab):
    """A JupyterLab without a notebook, and a kernel."""
    page = window.new_page()
    page.set_default_timeout(LIMIT_MS)
    page.goto(f"{lab[0]}/lab?token=secret&reset")
    page.wait_for_function("globalThis.jupyterapp")
    page.evaluate(START)
    yield page
    page.close()


@pytest.fixture
def desk(shared):
    """JupyterLab for reading: to start it, and a kernel, is most of opening a notebook."""
    yield shared
    shared.evaluate(CLOSE)


START = """async () => {
    await jupyterapp.restored;
    const kernel = await jupyterapp.serviceManager.kernels.startNew({name: "python3"});
    globalThis.running = kernel.model;
    kernel.dispose();  // this end of it, which would close the widgets of other pages
    for (const one of [...jupyterapp.shell.widgets("main")]) one.dispose();
}"""
OPEN = """async (path) => {
    const how = {path, factory: "Notebook", kernel: running};
    await jupyterapp.commands.execute("docmanager:open", how);
}"""
# Without a question, whatever a test has left.
CLOSE = """() => {
    for (const one of [...jupyterapp.shell.widgets("main")]) one.dispose();
    document.body.dataset.jpThemeLight = "true";
}"""


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
            cell.scrollIntoView({block: "center", behavior: "instant"});
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
def test_no_markup_is_shown_raw_and_saving_changes_no_byte(desk, lab, notebook):
    before = (lab[1] / notebook).read_bytes()
    desk.evaluate(OPEN, notebook)
    for text in texts(ready(desk)):
        assert not RAW.search(text), text
    assert desk.locator(".lm-DockPanel .jp-mod-dirty").count() == 0
    opened_at = (lab[1] / notebook).stat().st_mtime_ns
    with desk.expect_response(lambda r: r.request.method == "PUT" and "/api/contents/" in r.url):
        desk.keyboard.press("Control+s")
    assert (lab[1] / notebook).stat().st_mtime_ns > opened_at
    assert (lab[1] / notebook).read_bytes() == before


def test_a_picture_stands_where_the_figure_will_and_the_answer_is_shut(desk):
    desk.evaluate(OPEN, f"ch1_subwords/{OPENED}")
    still = ready(desk).locator(".jp-OutputArea-output .jp-RenderedSVG, .jp-RenderedImage").first
    still.wait_for()
    details = desk.locator(".jp-RenderedMarkdown details").first
    details.scroll_into_view_if_needed()
    assert details.locator("summary").is_visible()
    assert not details.locator("p").first.is_visible()


# The ground on which JupyterLab would put them.
DARK_GROUND = """
[data-jp-theme-light=false] :is(.jp-Notebook, .jp-OutputArea-output) { background: #111 }
"""


def test_stored_pictures_are_dark_in_a_dark_jupyterlab(desk):
    desk.evaluate(OPEN, f"ch1_subwords/{OPENED}")
    ready(desk)
    desk.add_style_tag(content=DARK_GROUND)
    texts(desk)
    for light, lightness in (("true", 255), ("false", 17)):
        desk.evaluate("light => { document.body.dataset.jpThemeLight = light }", light)
        for kind in ("SVG", "Image"):
            picture = desk.locator(f".jp-Rendered{kind} img").first
            picture.scroll_into_view_if_needed()
            shot = Image.open(io.BytesIO(picture.screenshot())).convert("L")
            assert abs(shot.getpixel((3, 3)) - lightness) <= 8, (kind, light)


def test_the_figure_lives_once_its_cell_has_run(window, lab):
    folder = lab[1] / "ch1_subwords"
    shutil.copy(folder / OPENED, folder / "alive.ipynb")  # which no other page has a kernel for
    page = opened(window, lab, "ch1_subwords/alive.ipynb")
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
