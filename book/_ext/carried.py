"""Whose work the built site carries, under which license and with which words.

Nothing is listed by hand that a package says itself: wheels and installed packages have their
licenses in their metadata, npm's in their folders, and JupyterLite, its extensions and our own
bundle bring a report of what was bundled (``third-party-licenses.json``).  By hand are the names
and holders of what lies compiled or minified inside of others (`INSIDE`, `HOLDERS`), which no file
tells of.  `licenses` makes the page of it, and the build fails if a file of the site belongs
neither to a part nor to us.
"""

import json
import re
import zipfile
from collections.abc import Iterable, Iterator
from email.message import Message
from email.parser import Parser
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

from sphinx.errors import ExtensionError

HERE = Path(__file__).resolve().parent
BOOK = HERE.parent
WEB = BOOK.parent / "genopt_core" / "figures" / "web"
TEXTS = HERE / "license_texts"
REPORT = "third-party-licenses.json"
PYODIDE = "_static/genopt/pyodide/"
IN_STATIC = (
    "sphinx-book-theme",
    "pydata-sphinx-theme",
    "Sphinx",
    "sphinx-copybutton",
    "sphinx-design",
    "sphinx-togglebutton",
    "sphinx-thebe",
    "myst-nb",
    "sphinx-proof",
    "Pygments",
)
"""Packages that lay files into ``_static``; they are the themes and extensions that we use."""
NO_SUCH_FILE = {  # made from a file of another name
    "pygments.css": "Pygments",
    "icons.css": "pydata-sphinx-theme",  # Font Awesome, which has a line of its own
    "webpack-macros.html": "pydata-sphinx-theme",
}
PLACES = PAGES, PYTHON, LITE = "Pages and figures", "Python in the page", "JupyterLite"


class Part(NamedTuple):
    """A work of others: its name, license and words, and the files of the site that it is."""

    name: str
    version: str
    license: str
    source: str
    text: str
    place: str = PAGES
    files: tuple[str, ...] = ()  # regular expressions of whole paths below the site's folder

    def owns(self, path: str) -> bool:
        return any(re.fullmatch(pattern, path) for pattern in self.files)


class Inside(NamedTuple):
    """A work compiled or minified into files of another; ``where`` says in which it is seen.

    Where a file is made of another while the site is built, both are there, as the page of licenses
    is made before the last files are.
    """

    name: str
    version: str
    license: str
    source: str
    text: str  # of `text`, or "installed PACKAGE SECTION", or "file PACKAGE PLACE"
    place: str
    where: str  # paths of the site, globs, with blanks between them
    mark: bytes  # found in such a file, or in a file of such an archive
    files: tuple[str, ...] = ()  # as of a `Part`, where nobody else has them

    def seen_in(self, site: Path) -> list[Path]:
        return [path for place in self.where.split() for path in site.glob(place)]


INSIDE = (
    Inside("Emscripten", "3.1.58", "MIT OR NCSA", "https://github.com/emscripten-core/emscripten",
        "mit: Copyright (c) 2010-2014 Emscripten authors, see AUTHORS file.",
        PYTHON, PYODIDE + "pyodide.asm.js", b"emscripten"),
    Inside("musl", "", "MIT", "https://musl.libc.org/",
        "mit: Copyright © 2005-2020 Rich Felker, et al.",
        PYTHON, PYODIDE + "pyodide.asm.wasm", b"No error information\0Illegal byte sequence"),
    Inside("libc++", "18.1", "Apache-2.0 WITH LLVM-exception", "https://libcxx.llvm.org/",
        "apache-2.0-llvm", PYTHON, PYODIDE + "pyodide.asm.wasm", b"_ZNSt3__2"),
    Inside("compiler-rt", "18.1", "Apache-2.0 WITH LLVM-exception",
        "https://compiler-rt.llvm.org/", "apache-2.0-llvm",
        PYTHON, PYODIDE + "pyodide.asm.wasm", b"compiler-rt/lib/builtins"),
    Inside("bzip2", "", "bzip2-1.0.6", "https://sourceware.org/bzip2/",
        "installed pillow BZIP2", PYTHON, PYODIDE + "pyodide.asm.wasm", b"libbzip2"),
    Inside("zlib", "", "Zlib", "https://zlib.net/",
        "installed pillow ZLIB", PYTHON, PYODIDE + "pyodide.asm.wasm", b"inflate_copyright"),
    Inside("SQLite", "", "public domain", "https://sqlite.org/",
        "sqlite", PYTHON, PYODIDE + "sqlite3-*.whl", b"SQLite format 3"),
    Inside("OpenSSL", "1.1.1w", "OpenSSL", "https://github.com/openssl/openssl/tree/OpenSSL_1_1_1w",
        "openssl", PYTHON, PYODIDE + "openssl-*.zip", b"OpenSSL 1.1.1w",
        (PYODIDE + r"openssl-.*\.zip",)),
    Inside("FreeType", "", "FTL", "https://freetype.org/",
        "installed pillow FREETYPE2", PYTHON, PYODIDE + "matplotlib-3*.whl", b"FreeType"),
    Inside("libjpeg", "", "IJG", "https://ijg.org/",
        "installed pillow LIBJPEG", PYTHON, PYODIDE + "pillow-*.whl", b"jpeglib_version"),
    Inside("libtiff", "", "libtiff", "https://libtiff.gitlab.io/libtiff/",
        "installed pillow LIBTIFF", PYTHON, PYODIDE + "pillow-*.whl", b"LIBTIFF"),
    Inside("libwebp", "", "BSD-3-Clause", "https://chromium.googlesource.com/webm/libwebp",
        "installed pillow LIBWEBP", PYTHON, PYODIDE + "pillow-*.whl", b"WebP"),
    Inside("Bootstrap", "5.3.3", "MIT", "https://github.com/twbs/bootstrap",
        "mit: Copyright 2011-2024 The Bootstrap Authors",
        PAGES, "_static/scripts/bootstrap.js.LICENSE.txt", b"Bootstrap v5.3.3"),
    Inside("Popper", "", "MIT", "https://github.com/floating-ui/floating-ui/tree/v2.x",
        "mit: Copyright (c) 2019 Federico Zivolo",
        PAGES, "_static/scripts/bootstrap.js", b"popper"),
    Inside("clipboard.js", "2.0.8", "MIT", "https://github.com/zenorocha/clipboard.js",
        "mit: Copyright © Zeno Rocha", PAGES, "_static/clipboard.min.js", b"clipboard.js v2.0.8"),
    Inside("Font Awesome Free", "6", "CC-BY-4.0 AND OFL-1.1 AND MIT", "https://fontawesome.com/",
        "file pydata-sphinx-theme vendor/fontawesome", PAGES,
        "_static/icons.css _static/vendor/fontawesome/**/all.min.css", b"Font Awesome"),
    Inside("Solid", "", "MIT", "https://github.com/solidjs/solid",
        "mit: Copyright (c) 2016-2023 Ryan Carniato",
        LITE, "lite/extensions/anywidget/static/*.js", b"createSignal"),
)  # fmt: skip
HOLDERS = {
    "@microsoft/fast-": ("mit", "Copyright (c) Microsoft Corporation. All rights reserved."),
    "json-schema-merge-allof": ("mit", "Copyright (c) 2016 Martin Hansen"),
    "vega-lite": ("bsd-3-clause", "Copyright 2015, University of Washington Interactive Data Lab"),
}  # fmt: skip
"""Packages whose report has a license and no words, by the beginning of their names."""
JUPYTER = ("@jupyter", "@lumino/")  # theirs have those of JupyterLite


def text(name: str) -> str:
    """The words of ``license_texts``; "mit: HOLDER" is that text with its line of copyright."""
    stem, _, holder = name.partition(": ")
    return (TEXTS / f"{stem}.txt").read_text(encoding="utf-8").replace("{copyright}", holder)


# ------------------------------------------------------------------ what packages say themselves

WORDS = re.compile(r"(licen[cs]e|copying|notice)", re.IGNORECASE)


def described(told: Message, words: dict[str, str], **more) -> Part:
    """A part from the metadata of a Python package and the texts in it."""
    classified = [
        c.rpartition(" :: ")[2] for c in told.get_all("Classifier") or [] if "License ::" in c
    ]
    said = (told.get("License") or "").strip().split("\n")[0]
    name = told.get("License-Expression") or ", ".join(classified) or said
    links = dict(link.split(", ", 1) for link in told.get_all("Project-URL") or [])
    links = {label.lower(): address for label, address in links.items()}
    wanted = ("source", "source code", "repository", "code", "homepage", "home")
    known = [links[label] for label in wanted if label in links]
    source = (*known, told.get("Home-page"), f"https://pypi.org/project/{told['Name']}/")
    whole = "\n\n".join(dict.fromkeys(one.strip() for one in words.values()))
    if not whole:
        raise ExtensionError(f"licenses: {told['Name']} carries no text of a license")
    first = next(address for address in source if address)
    return Part(told["Name"], told["Version"], name, first, whole, **more)


def in_wheel(path: Path) -> dict[str, str]:
    """The texts of licenses in a wheel, by place."""
    with zipfile.ZipFile(path) as archive:
        names = [n for n in archive.namelist() if WORDS.search(n.rpartition("/")[2])]
        kept = [n for n in names if not n.endswith((".py", ".pyc", ".json", ".js.LICENSE.txt"))]
        return {name: archive.read(name).decode("utf-8", "replace") for name in kept}


@cache
def of_wheel(path: Path, **more) -> Part:
    with zipfile.ZipFile(path) as archive:
        (name,) = (n for n in archive.namelist() if n.endswith(".dist-info/METADATA"))
        told = Parser().parsestr(archive.read(name).decode("utf-8"), headersonly=True)
    return described(told, in_wheel(path), **more)


@cache
def of_installed(name: str, **more) -> Part:
    found = metadata.distribution(name)
    own = [f for f in found.files or [] if ".dist-info" in f.parts[0] and WORDS.search(f.name)]
    return described(
        found.metadata, {str(f): f.locate().read_text(encoding="utf-8") for f in own}, **more
    )


def of_npm(folder: Path, **more) -> Part:
    """A package of npm by its folder."""
    told = json.loads((folder / "package.json").read_text(encoding="utf-8"))
    (words,) = (p for p in folder.iterdir() if p.name.upper().partition(".")[0] == "LICENSE")
    source = re.sub(r"^git\+|\.git$", "", told["repository"]["url"].replace("git://", "https://"))
    whole = words.read_text(encoding="utf-8").strip()
    return Part(told["name"], told["version"], told["license"], source, whole, **more)


def of_report(path: Path, jupyter: str = "", **more) -> Iterator[Part]:
    """What a bundler reported; ``jupyter`` are the words of packages of Jupyter that have none."""
    for one in json.loads(path.read_text(encoding="utf-8"))["packages"]:
        name, words = one["name"], one["extractedText"].strip()
        if not words and name.startswith(JUPYTER):
            words = jupyter
        if not words:
            known = [text(": ".join(v)) for k, v in HOLDERS.items() if name.startswith(k)]
            if not known:
                raise ExtensionError(f"licenses: {name} in {path} has no text of a license")
            (words,) = known
        place = f"https://www.npmjs.com/package/{name}"
        yield Part(
            name, one["versionInfo"], one["licenseId"] or "BSD-3-Clause", place, words, **more
        )


def section(whole: str, title: str) -> str:
    """The part of Pillow's license that stands below the name of a library."""
    found = re.search(rf"(?ms)^=+ {title} =+$\n(.*?)(?=^=+ [A-Z0-9]+ =+$|\Z)", whole)
    found = found or re.search(rf"(?ms)^{title}\n\n(.*?)(?=^---+\n+[A-Z0-9]+\n\n|\Z)", whole)
    if not found:
        raise ExtensionError(f"licenses: Pillow's license has no part {title}")
    return found[1].strip("-\n ")


def inside_text(said: str) -> str:
    """The words of one of `INSIDE`."""
    kind, _, rest = said.partition(" ")
    if kind == "installed":
        name, _, title = rest.partition(" ")
        return section(of_installed(name).text, title)
    if kind == "file":
        name, _, part = rest.partition(" ")
        files = metadata.distribution(name).files or []
        (found,) = (f for f in files if part in str(f) and f.name == "LICENSE.txt")
        return found.locate().read_text(encoding="utf-8")
    return text(said)


def marked(path: Path, mark: bytes) -> bool:
    """Whether ``mark`` is in a file, or in a file of an archive."""
    if path.suffix not in (".whl", ".zip"):
        return mark in path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        compiled = (name for name in archive.namelist() if name.endswith(".so"))
        return any(mark in archive.read(name) for name in compiled)


# ------------------------------------------------------------------ what the site has


@cache
def static_files() -> dict[str, list[str]]:
    """Paths of the files of each package of `IN_STATIC`, as they lie installed."""
    found = {}
    for name in IN_STATIC:
        files = metadata.distribution(name).files or []
        found[name] = ["/" + re.sub(r"(_t|\.jinja)$", "", f.as_posix()) for f in files]
    return found


def static_owner(path: str) -> str | None:
    """The package that ``path`` below ``_static`` comes from."""
    plain = re.sub(r"\.[0-9a-f]{32,}(?=\.css$)", "", path)  # a digest in the name
    for name, files in static_files().items():
        if any(file.endswith("/" + plain) for file in files):
            return name
    return NO_SUCH_FILE.get(path)


def from_static(site: Path) -> Iterator[Part]:
    """Themes and extensions, each with the files that it laid into ``_static``."""
    folder, owned = site / "_static", {name: [] for name in IN_STATIC}
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        inside = path.relative_to(folder).as_posix()
        name = None if OURS.fullmatch(f"_static/{inside}") else static_owner(inside)
        if name:
            owned[name].append(re.escape(f"_static/{inside}"))
    for name, files in owned.items():  # some come when the site is finished, after the page
        yield of_installed(name, files=tuple(files))


def from_npm() -> Iterator[Part]:
    modules = WEB / "node_modules"
    yield of_npm(modules / "mathjax", files=("_static/mathjax/.*",))
    yield of_npm(modules / "reveal.js", files=("_static/reveal/.*",))
    yield from of_report(WEB / "dist" / REPORT)


def from_pyodide(site: Path) -> Iterator[Part]:
    """The Python in the page with its packages, if the site has it."""
    folder = site / PYODIDE
    if not folder.is_dir():
        return
    told = json.loads((WEB / "node_modules" / "pyodide" / "package.json").read_text("utf-8"))
    version, source = told["version"], told["homepage"]
    files = (PYODIDE + r"pyodide\.\w+(\.\w+)?", PYODIDE + r"(pyodide|lite)-lock\.json")
    mpl = text("mpl-2.0")
    source = f"{source}/tree/{version}"
    yield Part("Pyodide", version, told["license"], source, mpl, PYTHON, files)
    lock = json.loads((folder / "pyodide-lock.json").read_text(encoding="utf-8"))
    python = lock["info"]["python"]
    source = f"https://github.com/python/cpython/tree/v{python}"
    files = tuple(PYODIDE + name for name in (r"python_stdlib\.zip", r"(ssl|sqlite3)-.*\.whl"))
    yield Part("CPython", python, "PSF-2.0", source, text("cpython"), PYTHON, files)
    for wheel in sorted(folder.glob("*.whl")):
        if not wheel.name.startswith(("genopt_", "ssl-", "sqlite3-")):
            place = re.escape(PYODIDE + wheel.name)
            yield of_wheel(wheel, place=PYTHON, files=(place,))


def from_lite(site: Path) -> Iterator[Part]:
    """JupyterLite, its extensions, and what is bundled into them, if the site has it."""
    folder = site / "lite"
    if not folder.is_dir():
        return
    own = [Part(**one) for one in json.loads((folder / "licenses.json").read_text("utf-8"))]
    yield from own
    (jupyter,) = (one.text for one in own if one.name == "jupyterlite-core")
    for report in sorted(folder.rglob(REPORT)):
        yield from of_report(report, jupyter, place=LITE)


def laid_by(wheel: Path) -> tuple[str, ...]:
    """Which files of JupyterLite's site are those of a wheel: the program's, or an extension's."""
    if wheel.name.startswith("jupyterlite_core-"):
        return (r"lite/(build|doc|lab)/.*", r"lite/[\w.-]+\.(js|json|html|ipynb|png|webmanifest)")
    with zipfile.ZipFile(wheel) as archive:
        found = re.findall(r"(?m)/labextensions/(.*)/package\.json$", "\n".join(archive.namelist()))
    return tuple(rf"lite/extensions/{re.escape(name)}/.*" for name in dict.fromkeys(found))


def for_lite(wheels: Iterable[Path]) -> str:
    """``lite/licenses.json``: the wheels that JupyterLite was built from."""
    found = [of_wheel(path, place=LITE, files=laid_by(path)) for path in wheels]
    return json.dumps([part._asdict() for part in found], ensure_ascii=False)


def from_inside(site: Path) -> Iterator[Part]:
    """What is in files of others, where those files are there."""
    for one in INSIDE:
        if one.seen_in(site):
            words = inside_text(one.text)
            yield Part(one.name, one.version, one.license, one.source, words, one.place, one.files)


def parts(site: Path) -> list[Part]:
    """All works of others in the built ``site``, each once."""
    found = [*from_static(site), *from_npm(), *from_pyodide(site), *from_lite(site)]
    found += from_inside(site)
    once = {(part.place, part.name.lower(), part.version): part for part in reversed(found)}
    return sorted(
        once.values(), key=lambda part: (PLACES.index(part.place), part.name.lower().lstrip("@"))
    )


ASSETS = sorted(
    path.name for folder in (BOOK / "assets", HERE / "deck") for path in folder.iterdir()
)
OURS = re.compile(
    r"(?!_static/|lite/).*\.(html|inv|xml|pdf)|searchindex\.js|\.buildinfo|\.nojekyll|CNAME"
    r"|_(sources|images)/.*"
    r"|_static/genopt/(explore\.(js|css)|worker\.js|genopt_core\.zip|frames/.*)"
    r"|_static/genopt/pyodide/genopt_\w+-.*\.whl|_static/documentation_options\.js"
    r"|lite/(api|files)/.*|lite/(genopt-stamp|licenses\.json)"
    rf"|_static/({'|'.join(map(re.escape, ASSETS))})"
)
"""What is made from our own sources, by path below the site's folder."""


def unknown(site: Path, known: list[Part]) -> list[str]:
    """Files of the site that are neither ours nor of a part that is ``known``."""
    said = {pattern for part in known for pattern in part.files}
    plain = {pattern: re.sub(r"\\(.)", r"\1", pattern) for pattern in said}
    paths = {path for pattern, path in plain.items() if re.escape(path) == pattern}
    patterns = [re.compile(p) for p, path in plain.items() if re.escape(path) != p]
    every = sorted(p.relative_to(site).as_posix() for p in site.rglob("*") if p.is_file())
    others = [path for path in every if path not in paths and not OURS.fullmatch(path)]
    return [path for path in others if not any(one.fullmatch(path) for one in patterns)]
