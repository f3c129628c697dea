"""The claim ledger: from a statement over its formulas, functions, tests and results to a verdict.

``claims.yml`` holds what only an author knows: the statement, who made it, the verdict, and which
formulas, result and page bear it.  Functions, tests and commands are read from the sources, so a
name that no longer exists fails the build and a test.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache
from itertools import product
from pathlib import Path

import viewers
import yaml
from docutils import nodes
from sphinx.util.docutils import SphinxDirective

BOOK = Path(__file__).resolve().parent.parent
ROOT = BOOK.parent
CORE = ROOT / "genopt_core"
RESULTS = BOOK / "data" / "results"
# The rooms of formulas.  torch has their fast forms, and what only a model can compute.
ROOMS = (
    *("subwords", "cross_entropy", "word2vec", "positions", "attention", "kvcache", "one_model"),
    "torch",
)
LABEL = r"[a-z0-9]+(?:-[a-z0-9]+)+"
# A labeled equation: an anchor right above it, or the label right behind it.
EQUATION = rf'<a id="({LABEL})"></a>\n(?:> )?\$\$|\$\$\s*\(({LABEL})\)'
VERDICTS = {
    "proved": "by an argument on a page and a test against brute force",
    "bounded": "the truth lies between two computed numbers",
    "measured": "holds in a stored experiment",
    "in part": "holds under conditions that the page names",
    "contradicted": "a stored experiment says otherwise",
}
SOURCES = {
    "paper": "From the paper",
    "second-hand": "From a digest of the paper",
    "objection": "Objections",
    "ours": "Our own results",
}


@dataclass(frozen=True)
class Claim:
    """A row of the ledger, as its author wrote it."""

    says: str
    source: str
    verdict: str
    page: str
    anchor: str = ""
    equations: list[str] = field(default_factory=list)
    results: list[str] = field(default_factory=list)
    name: str = ""  # what the scoreboard calls it

    @property
    def id(self) -> str:
        """Its anchor on the page of claims."""
        return "claim-" + (self.name or "-".join(re.findall(r"[a-z]+", self.says.lower())[:7]))

    def __post_init__(self) -> None:
        for name, known in (("verdict", VERDICTS), ("source", SOURCES)):
            if getattr(self, name) not in known:
                raise ValueError(
                    f"{name} must be one of {', '.join(known)}, got {getattr(self, name)!r} "
                    f"in the claim {self.says!r}"
                )


@cache
def claims() -> tuple[Claim, ...]:
    """All rows."""
    rows = yaml.safe_load((BOOK / "claims.yml").read_text(encoding="utf-8"))
    return tuple(Claim(**row) for row in rows)


def named(name: str) -> Claim:
    """The row with this name."""
    found = [claim for claim in claims() if claim.name == name]
    if len(found) != 1:
        raise ValueError(f"name must be that of one claim, got {name!r}")
    return found[0]


def page_text(path: Path) -> str:
    """A page as MyST."""
    if path.suffix == ".md":
        return path.read_text(encoding="utf-8")
    page = path.relative_to(BOOK).as_posix()
    return "\n\n".join(viewers.myst(cell, page) for cell in viewers.cells(page))


@cache
def pages() -> tuple[Path, ...]:
    """Markdown and notebooks of the book."""
    apart = {"_build", ".ipynb_checkpoints", "experiments"}
    found = [path for path in BOOK.rglob("*") if path.suffix in (".md", ".ipynb")]
    return tuple(sorted(path for path in found if not apart & set(path.parts)))


@cache
def equations() -> dict[str, str]:
    """The page of each labeled equation, without its ending."""
    return {
        label: path.relative_to(BOOK).with_suffix("").as_posix()
        for path in pages()
        for found in re.findall(EQUATION, page_text(path))
        for label in found
        if label
    }


def labels(text: str | None) -> set[str]:
    """The labels that a docstring cites."""
    return set(re.findall(rf"\beqs?\.\s+({LABEL})", text or ""))


def _functions(path: Path) -> Iterator[tuple[str, ast.FunctionDef]]:
    """Functions by name, methods as ``Class.method``."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    methods = {
        inner: f"{node.name}.{inner.name}"
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef)
        for inner in node.body
        if isinstance(inner, ast.FunctionDef)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            yield methods.get(node, node.name), node


@cache
def computed() -> dict[str, dict[str, set[str]]]:
    """Functions and methods by the label that their docstrings cite, each with its rooms."""
    found: dict[str, dict[str, set[str]]] = {}
    for room in ROOMS:
        for path in sorted((CORE / room).rglob("*.py")):
            for name, function in _functions(path):
                for label in labels(ast.get_docstring(function)):
                    found.setdefault(label, {}).setdefault(name, set()).add(room)
    return found


def _named(node: ast.AST) -> set[str]:
    names = {part.id for part in ast.walk(node) if isinstance(part, ast.Name)}
    return names | {part.attr for part in ast.walk(node) if isinstance(part, ast.Attribute)}


@cache
def tests() -> dict[tuple[str, str], dict[str, int]]:
    """How many tests of which file name a function of a room, themselves or in what they call."""
    found: dict[tuple[str, str], dict[str, int]] = {}
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        text = path.read_text(encoding="utf-8")
        rooms = [room for room in ROOMS if re.search(rf"genopt_core(\.| import .*){room}\b", text)]
        place = path.relative_to(ROOT / "tests").as_posix()
        named = {
            name: _named(node) | {argument.arg for argument in node.args.args}
            for name, node in _functions(path)
        }
        for test in (name for name in named if name.startswith("test")):
            reached, waiting = set(), [test]
            while waiting:
                name = waiting.pop()
                if name not in reached:
                    reached.add(name)
                    waiting += named.get(name, ())
            for name, room in product(reached, rooms):
                files = found.setdefault((room, name), {})
                files[place] = files.get(place, 0) + 1
    return found


def tested(functions: Iterable[tuple[str, set[str]]]) -> dict[str, int]:
    """The files of tests that name one of some functions, and in how many tests."""
    files: dict[str, int] = {}
    for name, rooms in functions:
        for room in rooms:
            for place, count in tests().get((room, name.split(".")[-1]), {}).items():
                files[place] = max(files.get(place, 0), count)
    return files


def command(result: str) -> str:
    """What makes a stored result, by its provenance."""
    path = RESULTS / f"{result}.json"
    if not path.is_file():
        raise FileNotFoundError(f"results must be files of {RESULTS.name}, got {result!r}")
    made = json.loads(path.read_text(encoding="utf-8"))["provenance"]
    return made.get("command") or f"python {made['script']}"


def where(functions: Iterable[tuple[str, set[str]]]) -> str:
    """The two files that test functions most."""
    files = tested(functions)
    most = sorted(files, key=lambda place: (-files[place], place))[:2]
    return ", ".join(f"`{place}`" for place in most)


def chain(claim: Claim) -> str:
    """What bears a claim, in MyST."""
    parts = []
    if claim.equations:
        functions = dict(item for label in claim.equations for item in computed()[label].items())
        parts.append("formulas " + ", ".join(f"{{eq}}`{label}`" for label in claim.equations))
        parts.append("computed by " + ", ".join(f"{{py:obj}}`{n}`" for n in sorted(functions)))
        parts.append(f"tested in {where(functions.items())}")
    for result in claim.results:
        parts.append(f"stored in `{result}.json`, made by `{command(result)}`")
    return "; ".join(parts)


class ClaimsDirective(SphinxDirective):
    """``{claims}``: the rows of one source, or all equations with ``{claims} formulas``."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        self.env.note_dependency(str(BOOK / "claims.yml"))
        self.env.note_reread()
        wanted = self.arguments[0]
        if wanted == "formulas":
            text = "\n".join(self.formulas())
        elif wanted in SOURCES:
            text = "\n".join(self.rows(wanted))
        else:
            raise self.error(f"claims must be formulas or one of {', '.join(SOURCES)}: {wanted!r}")
        return self.parse_text_to_nodes(text)

    def rows(self, source: str) -> Iterator[str]:
        for claim in claims():
            if claim.source != source:
                continue
            title = f"[{claim.says}](#{claim.anchor})" if claim.anchor else claim.says
            where = f"**{claim.verdict.capitalize()}** in {{doc}}`/{claim.page}`"
            compared = "; compared on the {doc}`scoreboard`" if claim.name else ""
            yield f"[]{{#{claim.id}}}{title}\n: {where}: {chain(claim)}{compared}.\n"

    def formulas(self) -> Iterator[str]:
        yield "| formula | page | computed by | tested in |\n|---|---|---|---|"
        here = {label: page for label, page in equations().items() if page in self.env.found_docs}
        for label, page in sorted(here.items(), key=lambda item: (item[1], item[0])):
            functions = computed()[label]
            names = ", ".join(f"{{py:obj}}`{name}`" for name in sorted(functions))
            files = where(functions.items())
            yield f"| {{eq}}`{label}` | {{doc}}`/{page}` | {names} | {files} |"
