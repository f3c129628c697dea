"""Which files of the package a figure is made of, found by reading import statements.

A figure is kept until one of these files changes, so an edit in one chapter leaves the figures of
the others alone; and these files, no others, travel to the Python in the reader's page.
"""

import ast
import hashlib
import sys
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

import genopt_core
from genopt_core import explorers

PACKAGE = Path(genopt_core.__file__).parent
BESIDE = {".json", ".safetensors", ".tokenizer"}
"""What travels with a package: tables and styles, and trained models."""
IN_BROWSER = {*sys.stdlib_module_names, "numpy", "genopt_core"}


def path_of(module: str) -> Path | None:
    """The file of ``module``, such as ``"genopt_core.tables"``; None if it is no module of ours."""
    base = PACKAGE.parent.joinpath(*module.split("."))
    found = [path for path in (base / "__init__.py", base.with_suffix(".py")) if path.is_file()]
    return found[0] if found and PACKAGE in found[0].parents else None


def _named(nodes: Iterable[ast.AST]) -> Iterator[str]:
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            # what is imported from a package may be one of its modules
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@cache
def imports(path: Path) -> frozenset[str]:
    """Our modules that the file imports anywhere, with the packages that lie around them."""
    tree = ast.parse(path.read_bytes())
    named = [name.split(".") for name in _named(ast.walk(tree))]
    return frozenset(".".join(name[:end]) for name in named for end in range(1, len(name) + 1))


@cache
def runs_in_browser(path: Path) -> bool:
    """Whether the file can be imported where there is NumPy and nothing else."""
    return {name.split(".")[0] for name in _named(ast.parse(path.read_bytes()).body)} <= IN_BROWSER


def needed(*modules: str) -> list[Path]:
    """Files of ``modules``, of what they import, and the tables and styles beside those."""
    found: set[Path] = set()
    waiting = [name for module in modules for name in (module, *_packages(module))]
    while waiting:
        path = path_of(waiting.pop())
        if path and path not in found and runs_in_browser(path):
            found.add(path)
            waiting += imports(path)
    folders = [path.parent for path in found if path.name == "__init__.py"]
    beside = {p for f in folders for p in f.iterdir() if p.suffix in BESIDE}
    return sorted(found | beside)


def _packages(module: str) -> list[str]:
    parts = module.split(".")
    return [".".join(parts[:end]) for end in range(1, len(parts))]


def module_of(explorer: str) -> str:
    return f"genopt_core.explorers.{explorers.MODULES[explorer]}"


def digest(paths: Iterable[Path]) -> str:
    """Of the names and the content of files."""
    total = hashlib.sha256()
    for path in paths:
        name = path.relative_to(PACKAGE).as_posix()
        total.update(name.encode() + b"\0" + hashlib.sha256(path.read_bytes()).digest())
    return total.hexdigest()[:16]


@cache
def definitions() -> frozenset[str]:
    """Modules of the package, and by short and full name what they define or pass on of ours."""
    found = set()
    for path in PACKAGE.rglob("*.py"):
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        if {"node_modules", "build"} & set(parts):
            continue
        module = ".".join(parts).removesuffix(".__init__")
        found.add(module)
        for node in ast.parse(path.read_bytes()).body:
            targets = [*getattr(node, "targets", []), getattr(node, "target", None)]
            names = {target.id for target in targets if isinstance(target, ast.Name)}
            names |= {getattr(node, "name", "_")}  # of a function or a class
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("genopt_core"):
                names |= {alias.asname or alias.name for alias in node.names}
            found |= {f"{before}{name}" for name in names for before in ("", f"{module}.")}
    return frozenset(name for name in found if not name.split(".")[-1].startswith("_"))
