"""Where the benchmarks of chapter 1 keep things: scratch below ``.cache``, results in the book.

A file appears whole or not at all: it is written beside its place and then moved there, so that an
interrupted run leaves nothing half done and the next run goes on where it stopped.
"""

from __future__ import annotations

import json
import os
import platform
import sys
import tempfile
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[3]
SCRATCH = ROOT / ".cache" / "benchmarks" / "subwords"
RESULTS = ROOT / "book" / "data" / "results"
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


def write_text(path: Path, text: str) -> None:
    """Write ``text`` to ``path`` in one step."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, scratch = tempfile.mkstemp(dir=path.parent, prefix=path.name + ".")
    with os.fdopen(handle, "w", encoding="utf-8", newline="\n") as file:
        file.write(text)
    os.chmod(scratch, 0o644)
    os.replace(scratch, path)


def write_json(path: Path, content: Any) -> None:
    """Write ``content`` as one line of JSON, in one step."""
    write_text(path, json.dumps(content, ensure_ascii=False, separators=(",", ":")) + "\n")


def read_json(path: Path) -> Any:
    """What `write_json` or `write_results` wrote."""
    return json.loads(path.read_text(encoding="utf-8"))


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
            rows = ",\n  ".join(_compact(row) for row in value)
            lines.append(f" {json.dumps(key)}: [\n  {rows}\n ]")
        elif isinstance(value, dict) and any(isinstance(v, dict | list) for v in value.values()):
            rows = ",\n  ".join(f"{json.dumps(k)}: {_compact(v)}" for k, v in value.items())
            lines.append(f" {json.dumps(key)}: {{\n  {rows}\n }}")
        else:
            lines.append(f" {json.dumps(key)}: {_compact(value)}")
    text = "{\n" + ",\n".join(lines) + "\n}\n"
    size = len(text.encode("utf-8"))
    if size > limit:
        raise ValueError(f"{path.name} would have {size} bytes, limit is {limit}")
    write_text(path, text)
    return size


def _compact(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


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


def provenance() -> dict[str, Any]:
    """Command, day, machine class and versions, to be stored with every result."""
    script = Path(sys.argv[0]).resolve()
    shown = script.relative_to(ROOT).as_posix() if script.is_relative_to(ROOT) else script.name
    return {
        "command": " ".join(["python", shown, *sys.argv[1:]]),
        "date": datetime.now(UTC).date().isoformat(),
        "machine": machine(),
        "versions": versions(),
    }
