"""Results and tables: read, written whole or not at all, compared, and where they come from."""

from __future__ import annotations

import ast
import hashlib
import itertools
import json
import math
import os
import platform
import re
import sys
import tokenize
from collections.abc import Collection, Iterable, Mapping
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from book.experiments.common.places import ROOT
from genopt_core import files

PACKAGES = (
    "genopt-core",
    "numpy",
    "scipy",
    "torch",
    "tokenizers",
    "sentencepiece",
    "rustbpe",
    "tiktoken",
    "greedtok",
    "wordfreq",
)


def read(path: Path) -> Any:
    """What one of the functions below wrote."""
    return json.loads(path.read_text(encoding="utf-8"))


def write_text(path: Path, text: str) -> None:
    """Write ``text`` whole or not at all, making the folder where there is none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    files.write_text(path, text)


def compact(value: Any) -> str:
    """``value`` as one line of JSON."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def write_json(path: Path, content: Any) -> None:
    """Write ``content`` as one line of JSON."""
    write_text(path, compact(content) + "\n")


def write_or_check(path: Path, content: Any, check: bool, tolerance: float = 0.0) -> bool:
    """Write a table, or only compare it with what is stored; whether that was the same.

    Without a tolerance every byte counts; with one, numbers may differ by so much of themselves, as
    the last digit of what BLAS sums depends on the processor.
    """
    text = compact(content) + "\n"
    same = path.is_file() and path.read_text(encoding="utf-8") == text
    if check:
        said = "as stored" if same else "DIFFERS from what is stored"
        if not same and path.is_file() and alike(json.loads(text), read(path), tolerance):
            same, said = True, f"as stored, to {tolerance:g} of each number"
        print(f"{path.name}: {said}")
    else:
        write_text(path, text)
        print(f"{path.name}: {len(text.encode('utf-8'))} bytes written")
    return same


def alike(a: Any, b: Any, tolerance: float) -> bool:
    """Whether two contents of JSON are equal, their numbers to a share of themselves."""
    if isinstance(a, dict) and isinstance(b, dict):
        return list(a) == list(b) and all(alike(a[key], b[key], tolerance) for key in a)
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(alike(x, y, tolerance) for x, y in zip(a, b, strict=True))
    if isinstance(a, float) and isinstance(b, float):
        return math.isclose(a, b, rel_tol=tolerance)
    return bool(a == b)


def write_results(path: Path, content: Mapping[str, Any], limit: int = 200_000) -> int:
    """Write a result file with one line a table row; the number of bytes.

    Raises
    ------
    ValueError
        If the file would exceed ``limit`` bytes: results live in the repository.
    """
    lines = []
    for key, value in content.items():
        if isinstance(value, list) and value and isinstance(value[0], list | dict):
            rows = ",\n  ".join(compact(row) for row in value)
            lines.append(f" {json.dumps(key)}: [\n  {rows}\n ]")
        elif isinstance(value, dict) and any(isinstance(v, dict | list) for v in value.values()):
            rows = ",\n  ".join(f"{json.dumps(k)}: {compact(v)}" for k, v in value.items())
            lines.append(f" {json.dumps(key)}: {{\n  {rows}\n }}")
        else:
            lines.append(f" {json.dumps(key)}: {compact(value)}")
    text = "{\n" + ",\n".join(lines) + "\n}\n"
    size = len(text.encode("utf-8"))
    if size > limit:
        raise ValueError(f"{path.name} must have at most {limit} bytes, got {size}")
    write_text(path, text)
    return size


def whole_lines(path: Path, mend: bool = True) -> list[Any]:
    """What the lines of a file of JSON say; a last line that was cut off is taken out of it.

    So that what is added begins a line of its own.  Who only reads does not ``mend``, as another
    process may be adding to the file.
    """
    text = path.read_bytes() if path.is_file() else b""
    whole = text[: text.rfind(b"\n") + 1]
    if mend and whole != text:
        write_text(path, whole.decode("utf-8"))
    return [json.loads(line) for line in whole.splitlines()]


def rounded(value: Any, digits: int = 6) -> Any:
    """A float to so many significant digits; anything else as it is."""
    return float(f"{value:.{digits}g}") if isinstance(value, float) else value


# ------------------------------------------------------------------ where a result comes from


def versions(packages: Iterable[str] = PACKAGES) -> dict[str, str | None]:
    """Version of each package, None where it is not installed."""
    found: dict[str, str | None] = {}
    for name in packages:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = None
    return found


def machine() -> str:
    """The class of this machine, nothing that tells it from others of its kind."""
    return (
        f"{platform.machine()}, {os.cpu_count()} cores, {platform.system()}, "
        f"Python {platform.python_version()}"
    )


def made_here(packages: Iterable[str] = PACKAGES) -> dict[str, Any]:
    """What a single result keeps where results of several machines come into one table."""
    return {"machine": machine(), "versions": versions(packages)}


def machines(results: Iterable[Mapping[str, Any]]) -> tuple[list[str | None], dict[str, Any]]:
    """The name of each result's machine, and by name what was installed; None: it does not say.

    Results of one machine are one entry where no package has two versions; what was not there for
    some of them does not count.  Else the next versions are the same machine's "… (2)".
    """
    found: dict[str, dict[str, str | None]] = {}
    names: list[str | None] = []
    for result in results:
        if "machine" not in result:
            names.append(None)
            continue
        machine = re.sub(r" \(\d+\)$", "", result["machine"])
        here = {name: version for name, version in result["versions"].items() if version}
        every = itertools.chain([machine], (f"{machine} ({n})" for n in itertools.count(2)))
        name = next(name for name in every if _agree(found.get(name, {}), here))
        found[name] = result["versions"] | found.get(name, {}) | here
        names.append(name)
    return names, found


def _agree(known: Mapping[str, str | None], here: Mapping[str, str]) -> bool:
    return all(known.get(name) in (None, version) for name, version in here.items())


def provenance(packages: Iterable[str] = PACKAGES) -> dict[str, Any]:
    """Command, day, machine class and versions, to be stored with every result."""
    script = Path(sys.argv[0]).resolve()
    shown = script.name
    if script.is_relative_to(ROOT):
        module = ".".join(script.relative_to(ROOT).with_suffix("").parts)
        shown = "-m " + module.removesuffix(".__main__")
    return {
        # of a file only its name: where it lay says nothing elsewhere
        "command": " ".join(
            ["python", shown, *(Path(a).name if Path(a).is_absolute() else a for a in sys.argv[1:])]
        ),
        "date": datetime.now(UTC).date().isoformat(),
        "machine": machine(),
        "versions": versions(packages),
    }


def credit(
    content: dict[str, Any], tables: Iterable[str], device: str, packages: Iterable[str] = PACKAGES
) -> None:
    """Say in ``content["made on"]`` how many rows of its tables this run has added.

    Rows come to the end alone, so that these numbers say of each row where it is from when a run
    goes on on another machine.

    Raises
    ------
    ValueError
        If rows are there that do not say where they are from.
    """
    here = {"device": device, "provenance": provenance(packages)}
    made: list[dict[str, Any]] = content.setdefault("made on", [])
    if not made and "device" in content:
        raise ValueError(
            "content must say in 'made on' where its rows are from, got a device for all of them"
        )

    def place(one: Mapping[str, Any]) -> list[Any]:
        return [one["device"], *(one["provenance"][name] for name in ("machine", "versions"))]

    if not made or place(made[-1]) != place(here):
        made.append({**here, "added": {}})
    made[-1] |= here
    for name in tables:
        known = sum(one["added"].get(name, 0) for one in made)
        if len(content[name]) > known:
            added = made[-1]["added"]
            added[name] = added.get(name, 0) + len(content[name]) - known
    content["provenance"] = here["provenance"]


def sha256(content: bytes | str | Path) -> str:
    """Hexadecimal SHA-256 of bytes, of a text in UTF-8, or of a file."""
    if isinstance(content, Path):
        content = content.read_bytes()
    return hashlib.sha256(content.encode() if isinstance(content, str) else content).hexdigest()


def files_sha256(paths: Iterable[Path]) -> str:
    """The first twelve digits of the SHA-256 over the contents of files."""
    return sha256(b"".join(path.read_bytes() for path in paths))[:12]


def code_sha256(path: Path, leave_out: Collection[str] = ()) -> str:
    """SHA-256 over the tokens of a module's definitions and assignments, those of a few left out.

    Imports, comments, docstrings and layout do not count, so that a file keeps its hash where it
    is moved or explained better.  Tokens, as the dump of a syntax tree differs between releases of
    Python, and joined without blanks, as some releases cut an f-string into several.
    """
    kept: set[int] = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Import | ast.ImportFrom) or _defined(node) in leave_out:
            continue
        first = min(n.lineno for n in [node, *getattr(node, "decorator_list", [])])
        kept |= set(range(first, (node.end_lineno or first) + 1))
        for inner in ast.walk(node):
            if isinstance(inner, ast.Expr) and isinstance(inner.value, ast.Constant):
                kept -= set(range(inner.lineno, (inner.end_lineno or 0) + 1))
    layout = (tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT)
    with path.open("rb") as file:
        tokens = tokenize.tokenize(file.readline)
        code = (t.string for t in tokens if t.start[0] in kept and t.type not in layout)
        return sha256("".join(code))


def _defined(node: ast.stmt) -> str | None:
    """The name that a statement defines."""
    target = getattr(node, "target", None) or next(iter(getattr(node, "targets", ())), None)
    return getattr(node, "name", None) or getattr(target, "id", None)
