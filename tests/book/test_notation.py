"""Every row of the notation table names something that exists in the code and on the pages."""

import importlib
import inspect
import re

import pytest
from places import BOOK

CODE = re.compile(r"`([a-z0-9_.]+)\.(\w+)(?:\.(\w+)|\((\w+)\))?`")


HEAD = ["symbol", "meaning", "shape", "unit", "name in code", "first used"]


def tables() -> dict[str, list[list[str]]]:
    """The rows of each chapter's table, heads included."""
    text = (BOOK / "notation.md").read_text(encoding="utf-8")
    found = {}
    for part in text.split("\n## ")[1:]:
        lines = [line for line in part.splitlines() if line[:1] == "|"]
        table = [re.split(r"(?<!\\)\|", line.strip().strip("|")) for line in lines]
        cells = [[cell.strip() for cell in row] for row in table]
        found[part.splitlines()[0]] = [row for row in cells if not set("".join(row)) <= set("-: ")]
    return found


ROWS = [row for table in tables().values() for row in table[1:]]


def test_the_tables_have_the_six_columns():
    assert all(table[0] == HEAD for table in tables().values())
    assert all(len(row) == len(HEAD) and all(row) for row in ROWS), "an empty cell"
    assert len(ROWS) > 60


@pytest.mark.parametrize("chapter", tables())
def test_a_symbol_has_one_meaning_in_a_chapter(chapter):
    symbols = [s for row in tables()[chapter][1:] for s in re.findall(r"\$([^$]+)\$", row[0])]
    assert len(symbols) > 5
    assert sorted(symbols) == sorted(set(symbols))


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_the_name_in_code_exists(row):
    """``module.function`` , ``module.function(argument)`` or ``module.Class.attribute``."""
    found = CODE.findall(row[4])
    assert found, f"no name in code in {row[4]!r}"
    for module, name, attribute, argument in found:
        thing = getattr(importlib.import_module(f"genopt_core.{module}"), name)
        if argument:
            assert argument in inspect.signature(thing).parameters, (name, argument)
        if attribute:
            fields = getattr(thing, "__dataclass_fields__", {})
            assert attribute in fields or hasattr(thing, attribute), (name, attribute)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_the_first_use_is_a_label_that_exists(row):
    label = re.search(r"\{(?:eq|ref|doc)\}`(?:[^`<]*<)?([\w/-]+)>?`", row[5])
    assert label, row[5]
    name = label[1]
    pages = [
        p for p in BOOK.rglob("*") if p.suffix in (".md", ".ipynb") and "_build" not in p.parts
    ]
    text = "\n".join(page.read_text(encoding="utf-8") for page in pages)
    page = BOOK / f"{name.lstrip('/')}.ipynb"
    here = (f"({name})", f'<a id=\\"{name}\\"></a>')  # a label, or the anchor of a notebook
    known = any(mark in text for mark in here) or page.exists()
    assert known, f"no page defines {name}"
