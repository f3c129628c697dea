"""JupyterLite beside the built book: its notebooks with Python in the reader's browser, offline.

    python book/_ext/lite.py FOLDER --runtime NPM_PACKAGE

``FOLDER/lite`` is the site and ``FOLDER/pyodide`` what it needs beside the Pyodide that the figures
use: wheels, and a lock of its own that names them.  `launch` lays both into the book.  From that
lock the kernel loads a package when a cell imports it: ``import genopt_core`` brings NumPy, the
widgets and the book's data, and nobody asks a package index.

* JupyterLite and the widgets come from the package index, by the hashes in ``lite.lock``.
* Python's own packages (IPython, matplotlib, …) are Pyodide's official files; `pyodide_runtime`
  says where they are looked for.

Exit code 0: it is there.  Exit code 1: something could not be had, and there is no ``FOLDER``.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
import lzma
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import carried
import pyodide_runtime

import genopt_core

HERE = Path(__file__).resolve().parent
BOOK = HERE.parent
PACKAGE = Path(genopt_core.__file__).parent
PINS = HERE / "lite.lock"
CACHE = Path(__file__).parents[2] / ".cache" / "lite"
OFFICIAL = ("numpy", "ssl", "sqlite3", "jedi", "ipython", "micropip", "matplotlib")
"""Packages of Pyodide that are carried, with all that they depend on."""
KERNEL = ["ssl", "sqlite3", "jedi", "ipython", "comm", "micropip"]
"""What the kernel loads before the first cell."""
OURS = {
    "comm": ["traitlets"],
    "typing_extensions": [],
    "psygnal": ["typing-extensions"],
    "ipywidgets": ["comm", "ipython", "traitlets"],
    "anywidget": ["ipywidgets", "psygnal", "typing-extensions"],
    "genopt_book_data": [],
    "genopt_core": ["numpy", "anywidget", "genopt-book-data"],
}
"""Wheels that Pyodide does not have, and what each needs."""
EXTENSIONS = ("jupyterlite_pyodide_kernel", "jupyterlab_widgets", "anywidget")
WHEEL = b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
PYODIDE = "_static/genopt/pyodide"
STAMP = "genopt-stamp"  # written last, holds the digest of what went in
SETTINGS = {
    "jupyter-lite-schema-version": 0,
    "jupyter-config-data": {
        "appName": "GenOpt",
        "exposeAppInBrowser": True,  # for whoever wants to look in from outside, such as the tests
        "litePluginSettings": {
            "@jupyterlite/pyodide-kernel-extension:kernel": {
                "pyodideUrl": f"./../{PYODIDE}/pyodide.js",
                "disablePyPIFallback": True,
                "loadPyodideOptions": {
                    # seen from the kernel's worker, which lies this deep in the book's folder lite
                    "lockFileURL": f"../../../../../{PYODIDE}/lite-lock.json",
                    "packages": KERNEL,
                },
            }
        },
    },
}


class MissingError(Exception):
    """Something that JupyterLite needs could not be had."""


def normal(name: str) -> str:
    """The name of a package as locks spell it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def notebooks() -> list[Path]:
    """What a reader finds in JupyterLite: the notebooks, and the modules that they import."""
    found = [BOOK / "START.ipynb", *BOOK.glob("ch*/*.ipynb"), *BOOK.glob("ch*/results.py")]
    return sorted(path for path in found if path.is_file())


def data() -> list[Path]:
    folder = BOOK / "data"
    return sorted(path for path in folder.rglob("*") if path.is_file())


# ------------------------------------------------------------------ wheels


def pinned() -> Path:
    """The folder with the wheels that ``lite.lock`` names."""
    folder = CACHE / "wheels"
    stamp, value = folder / "stamp", hashlib.sha256(PINS.read_bytes()).hexdigest()
    if stamp.is_file() and stamp.read_text(encoding="utf-8") == value:
        return folder
    shutil.rmtree(folder, ignore_errors=True)
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes"]
    pure = ["--only-binary=:all:", "--platform=any", "--implementation=py", "--abi=none"]
    where = ["--python-version=3.12", f"--dest={folder}", f"--requirement={PINS}"]
    if subprocess.run([*pip, *pure, *where]).returncode:
        raise MissingError("the package index did not give what book/_ext/lite.lock names")
    stamp.write_text(value, encoding="utf-8")
    return folder


def one(folder: Path, name: str) -> Path:
    """The wheel of package ``name`` in ``folder``."""
    return next(p for p in folder.glob("*.whl") if normal(p.name.split("-")[0]) == normal(name))


def wheel_of_package(folder: Path) -> Path:
    """The wheel of ``genopt_core``, as pip builds it."""
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    if subprocess.run([*pip, f"--wheel-dir={folder}", str(PACKAGE)]).returncode:
        raise MissingError("the wheel of genopt_core was not built")
    return one(folder, "genopt_core")


def wheel_of_data(folder: Path) -> Path:
    """The book's data as a wheel that puts them beside the package, where a checkout has them.

    The texts are unpacked: Python in a browser comes without lzma.
    """
    name = f"genopt_book_data-{genopt_core.__version__}"
    inside = {
        f"{name}.dist-info/METADATA": (
            f"Metadata-Version: 2.1\nName: genopt-book-data\nVersion: {genopt_core.__version__}\n"
        ).encode(),
        f"{name}.dist-info/WHEEL": WHEEL,
    }
    for path in data():
        place = f"book/{path.relative_to(BOOK).as_posix()}"
        packed = path.suffix == ".xz"
        content = path.read_bytes()
        inside[place.removesuffix(".xz")] = lzma.decompress(content) if packed else content
    rows = [f"{place},{record_hash(content)},{len(content)}" for place, content in inside.items()]
    record = f"{name}.dist-info/RECORD"
    inside[record] = "\n".join([*rows, f"{record},,", ""]).encode()
    target = folder / f"{name}-py3-none-any.whl"
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for place, content in inside.items():
            info = zipfile.ZipInfo(place, (1980, 1, 1, 0, 0, 0))
            info.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(info, content)
    return target


def record_hash(content: bytes) -> str:
    digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest())
    return f"sha256={digest.decode().rstrip('=')}"


def official(lock: dict, runtime: Path) -> dict[str, dict]:
    """Entries of Pyodide's own lock for `OFFICIAL` and what they need, each file at hand."""
    wanted, waiting = {}, list(OFFICIAL)
    while waiting:
        name = waiting.pop()
        if name not in wanted:
            wanted[name] = lock["packages"][normal(name)]
            waiting += wanted[name]["depends"]
    absent = pyodide_runtime.gather(list(wanted.values()), runtime)
    if absent:
        raise MissingError(f"no source has Pyodide's {', '.join(absent)}")
    return {normal(name): entry for name, entry in wanted.items()}


def entry(name: str, wheel: Path) -> dict:
    """What a lock says of one of our wheels."""
    return {
        "name": normal(name),
        "version": wheel.name.split("-")[1],
        "file_name": wheel.name,
        "install_dir": "site",
        "sha256": hashlib.sha256(wheel.read_bytes()).hexdigest(),
        "package_type": "package",
        "imports": [] if name == "genopt_book_data" else [name],
        "depends": OURS[name],
        "unvendored_tests": False,
    }


def add_wheels(target: Path, runtime: Path, wheels: dict[str, Path]) -> None:
    """Beside the Pyodide in ``target``: the wheels, the classic script, the lock that names all."""
    lock = json.loads((runtime / "pyodide-lock.json").read_text(encoding="utf-8"))
    packages = official(lock, runtime)
    # the book's figures on paper are the only cells that draw with it, and they import this
    packages["matplotlib"]["imports"].append("genopt_core.figures.plots")
    for theirs in packages.values():
        name = theirs["file_name"]
        pyodide_runtime.store(target / name, (pyodide_runtime.CACHE / name).read_bytes())
    for name, wheel in wheels.items():
        packages[normal(name)] = entry(name, wheel)
        pyodide_runtime.store(target / wheel.name, wheel.read_bytes())
    pyodide_runtime.store(target / "pyodide.js", (runtime / "pyodide.js").read_bytes())
    text = json.dumps({"info": lock["info"], "packages": packages}, indent=1, sort_keys=True)
    pyodide_runtime.store(target / "lite-lock.json", text.encode())


# ------------------------------------------------------------------ the site


def tool(wheels: Path) -> Path:
    """JupyterLite's own program, in a folder of its own: in our environment JupyterLab loads it."""
    folder = CACHE / "tool"
    stamp, value = folder / "stamp", (wheels / "stamp").read_text(encoding="utf-8")
    if stamp.is_file() and stamp.read_text(encoding="utf-8") == value:
        return folder
    shutil.rmtree(folder, ignore_errors=True)
    names = ("jupyterlite_core", "jupyterlite_pyodide_kernel", "doit", "pkginfo")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index"]
    command = [*pip, f"--target={folder}", *(str(one(wheels, name)) for name in names)]
    if subprocess.run(command).returncode:
        raise MissingError("JupyterLite could not be installed")
    stamp.write_text(value, encoding="utf-8")
    return folder


def build(wheels: Path, scratch: Path) -> Path:
    """JupyterLite with the notebooks, built in ``scratch``."""
    contents = scratch / "contents"
    for path in notebooks():
        copy = contents / path.relative_to(BOOK)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, copy)
    (scratch / "jupyter-lite.json").write_text(json.dumps(SETTINGS), encoding="utf-8")
    extensions = [str(one(wheels, name)) for name in EXTENSIONS]
    config = {"LiteBuildConfig": {"federated_extensions": extensions, "ignore_sys_prefix": True}}
    (scratch / "jupyter_lite_config.json").write_text(json.dumps(config), encoding="utf-8")
    out = scratch / "lite"
    command = [sys.executable, "-c", "from jupyterlite_core.app import main; main()", "build"]
    options = ["--no-sourcemaps", "--apps=lab", f"--contents={contents}", f"--output-dir={out}"]
    env = {**os.environ, "PYTHONPATH": str(tool(wheels))}
    done = subprocess.run(
        [*command, *options], cwd=scratch, env=env, capture_output=True, text=True
    )
    if done.returncode:
        raise MissingError(
            f"JupyterLite was not built:\n{done.stdout[-2000:]}{done.stderr[-2000:]}"
        )
    for path in [*out.rglob("*.map"), out / "jupyterlite.schema.v0.json", *out.glob("*.doit.db*")]:
        path.unlink(missing_ok=True)
    built_from = [one(wheels, "jupyterlite_core"), *map(Path, extensions)]
    (out / "licenses.json").write_text(carried.for_lite(built_from), encoding="utf-8")
    return out


def inputs() -> Iterator[Path]:
    """All files that the site is made of."""
    yield from (PINS, Path(__file__), HERE / "pyodide_runtime.py", HERE / "carried.py")
    yield from (*notebooks(), *data())
    packed = {".py", ".json", ".safetensors", ".tokenizer", ".mjs", ".css"}
    for path in sorted(PACKAGE.rglob("*")):
        beside = {"node_modules", "build", "src", "test"} & set(path.relative_to(PACKAGE).parts)
        if path.suffix in packed and not beside:
            yield path


def digest(files: Iterable[Path]) -> str:
    total = hashlib.sha256()
    for path in files:
        place = os.path.relpath(path, BOOK.parent)
        total.update(place.encode() + b"\0" + path.read_bytes())
    return total.hexdigest()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--runtime", type=Path, required=True, help="the npm package pyodide")
    arguments = parser.parse_args()
    folder, value = arguments.folder, digest(inputs())
    stamp = folder / STAMP
    if stamp.is_file() and stamp.read_text(encoding="utf-8") == value:
        return 0
    shutil.rmtree(folder, ignore_errors=True)
    try:
        with tempfile.TemporaryDirectory() as name:
            scratch = Path(name)
            wheels = pinned()
            made = {name: one(wheels, name) for name in OURS if not name.startswith("genopt")}
            made["genopt_book_data"] = wheel_of_data(scratch)
            made["genopt_core"] = wheel_of_package(scratch)
            add_wheels(folder / "pyodide", arguments.runtime, made)
            shutil.move(build(wheels, scratch), folder / "lite")
    except MissingError as missing:
        shutil.rmtree(folder, ignore_errors=True)
        print(f"· {missing}")
        return 1
    stamp.write_text(value, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
