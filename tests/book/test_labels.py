"""Every formula label on a page is computed by a function; every cited label is on a page."""

import ast
import re
from pathlib import Path

import pytest
from places import BOOK, CORE

from book._ext import viewers

# The rooms of formulas.  torch has their fast forms, and what only a model can compute.
ROOMS = ("subwords", "cross_entropy", "word2vec", "positions", "attention", "kvcache", "torch")
# How labels begin, and the chapter that defines them; a new chapter adds its own.
CHAPTER = {
    "swe": "ch1_subwords",
    "cem": "ch2_search",
    "race": "ch2_search",
    "w": "ch2_search",
    "pos": "ch3_positions",
    "attn": "ch4_attention",
    "kv": "ch5_kvcache",
}
LABEL = r"[a-z0-9]+(?:-[a-z0-9]+)+"
# A labeled equation: an anchor right above it, or the label right behind it.
EQUATION = rf'<a id="({LABEL})"></a>\n(?:> )?\$\$|\$\$\s*\(({LABEL})\)'


def page_text(path: Path) -> str:
    if path.suffix == ".md":
        return path.read_text(encoding="utf-8")
    page = path.relative_to(BOOK).as_posix()
    return "\n\n".join(viewers.myst(cell, page) for cell in viewers.cells(page))


def functions(path: Path) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]


def labels(text: str | None) -> set[str]:
    """The labels that ``text`` cites."""
    return set(re.findall(rf"\beqs?\.\s+({LABEL})", text or ""))


PAGES = [
    path
    for path in BOOK.rglob("*")
    if path.suffix in (".md", ".ipynb")
    and not {"_build", ".ipynb_checkpoints", "experiments"} & set(path.parts)
]
DEFINED = {
    label: path.relative_to(BOOK).parts[0]
    for path in PAGES
    for found in re.findall(EQUATION, page_text(path))
    for label in found
    if label
}
# A citation in a module, a class, a comment or a figure computes nothing.
COMPUTED = {
    label
    for room in ROOMS
    for path in (CORE / room).rglob("*.py")
    for function in functions(path)
    for label in labels(ast.get_docstring(function))
}
CITED = {
    label
    for path in CORE.rglob("*.py")
    if not {"node_modules", "build"} & set(path.relative_to(CORE).parts)
    for label in labels(path.read_text(encoding="utf-8"))
}


def test_there_are_formulas():
    assert len(DEFINED) >= 54


@pytest.mark.parametrize("label", sorted(DEFINED))
def test_every_formula_of_a_page_is_computed_by_a_function_that_cites_it(label):
    assert label in COMPUTED


@pytest.mark.parametrize("label", sorted(CITED))
def test_every_label_that_the_package_cites_is_on_a_page(label):
    assert label in DEFINED


@pytest.mark.parametrize("label", sorted(DEFINED))
def test_a_label_begins_as_those_of_its_chapter(label):
    assert CHAPTER[label.split("-")[0]] == DEFINED[label]
