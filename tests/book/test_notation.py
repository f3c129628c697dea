"""Every row of the notation table names something that exists in the code and on the pages."""

import importlib
import inspect
import re

import pytest
from places import BOOK

CODE = re.compile(r"`([a-z0-9_.]+)\.(\w+)(?:\.(\w+)|\((\w+)\))?`")


def rows() -> list[list[str]]:
    lines = (BOOK / "notation.md").read_text(encoding="utf-8").splitlines()
    table = [re.split(r"(?<!\\)\|", line.strip().strip("|")) for line in lines if line[:1] == "|"]
    return [[cell.strip() for cell in row] for row in table if not set("".join(row)) <= set("-: ")]


def test_the_table_has_the_six_columns():
    head = rows()[0]
    assert head == ["symbol", "meaning", "shape", "unit", "name in code", "first used"]
    assert all(len(row) == len(head) and all(row) for row in rows()), "an empty cell"
    assert len(rows()) > 12


@pytest.mark.parametrize("row", rows()[1:], ids=lambda row: row[0])
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


@pytest.mark.parametrize("row", rows()[1:], ids=lambda row: row[0])
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
