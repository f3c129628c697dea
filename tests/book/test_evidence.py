"""Pages of evidence show figures and tables, not printed walls."""

import re

import nbformat
import pytest
from places import BOOK

PAGES = sorted(BOOK.glob("*/evidence.ipynb"), key=lambda path: path.parent.name)
FOLDED = {"hide-cell", "hide-output", "remove-output", "remove-cell"}


def cells(path):
    return [cell for cell in nbformat.read(path, 4).cells if cell.cell_type == "code"]


def printed(cell):
    """The lines a reader sees as printed text."""
    texts = [o["text"] for o in cell.outputs if o.output_type == "stream"]
    shown = [o.get("data", {}) for o in cell.outputs]
    texts += [data["text/plain"] for data in shown if list(data) == ["text/plain"]]
    return sum(len(text.strip().splitlines()) for text in texts)


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.parent.name)
def test_at_most_fifteen_printed_lines_and_a_figure_that_moves(path):
    shown = [c for c in cells(path) if not FOLDED & set(c.metadata.get("tags", []))]
    assert sum(map(printed, shown)) <= 15
    assert any("explore(" in cell.source for cell in shown)


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.parent.name)
def test_readers_see_results_before_the_code_that_read_them(path):
    for cell in cells(path):
        if re.search(r"\btable\(", cell.source):
            assert {"hide-input", "hide-cell"} & set(cell.metadata.get("tags", [])), cell.source


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.parent.name)
def test_every_table_says_what_is_in_it(path):
    for cell in cells(path):
        for output in cell.outputs:
            html = output.get("data", {}).get("text/html", "")
            if "genopt-table" in html:
                assert "<caption>" in html, cell.source


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.parent.name)
def test_every_folded_cell_has_a_name_of_its_own(path):
    folded = [c.metadata for c in cells(path) if "hide-cell" in c.metadata.get("tags", [])]
    names = [one.get("mystnb", {}).get("code_prompt_show") for one in folded]
    assert None not in names
    assert len(set(names)) == len(names)
