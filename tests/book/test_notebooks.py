"""What nbval does not see: unrun cells, unstable outputs, figures without alt text, long cells."""

import re

import nbformat
import pytest

from book._ext.refresh import clean, notebooks

MOST_LINES = 15


@pytest.fixture(params=notebooks(), ids=lambda path: f"{path.parent.name}/{path.stem}")
def path(request):
    return request.param


def code_cells(path):
    return [cell for cell in nbformat.read(path, 4).cells if cell.cell_type == "code"]


def test_every_code_cell_has_been_run_in_order(path):
    # nbval compares nothing for a cell without execution_count, so an unrun cell would pass
    counts = [cell.execution_count for cell in code_cells(path)]
    assert counts == list(range(1, len(counts) + 1))
    for cell in code_cells(path):  # nor does it compare these
        for output in cell.outputs:
            assert output.get("execution_count", cell.execution_count) == cell.execution_count


def test_stored_form_is_clean(path):
    text = path.read_text(encoding="utf-8")
    notebook = clean(nbformat.reads(text, as_version=4))
    nbformat.validate(notebook)
    assert nbformat.writes(notebook) + "\n" == text, "run `make refresh`"


def test_outputs_name_no_machine(path):
    for cell in code_cells(path):
        for output in cell.outputs:
            data = output.get("data", {})
            text = output.get("text", "") + str({k: v for k, v in data.items() if "text" in k})
            assert not re.search(r"0x[0-9a-f]{6,}|/(home|root|Users|tmp|work)/", text), cell.source


def test_every_picture_has_alt_text(path):
    for cell in code_cells(path):
        if any("image/png" in output.get("data", {}) for output in cell.outputs):
            assert cell.metadata.get("mystnb", {}).get("image", {}).get("alt"), cell.source


def test_cells_are_short_and_import_their_logic(path):
    for cell in code_cells(path):
        lines = cell.source.splitlines()
        assert len(lines) <= MOST_LINES, f"move this into genopt_core:\n{cell.source}"
        assert all(len(line) <= 88 for line in lines), cell.source
        assert not re.search(r"^\s*(def|class) ", cell.source, re.MULTILINE), (
            f"a formula belongs into genopt_core, where a test sees it:\n{cell.source}"
        )


def test_no_interact_and_no_output_widget(path):
    # both print through an Output widget; without a front end nbval sees other outputs
    for cell in code_cells(path):
        assert not re.search(r"\binteract(ive|_manual)?\(|\bOutput\(\)", cell.source)


def test_no_stored_error_without_a_tag(path):
    for cell in code_cells(path):
        if "raises-exception" not in cell.metadata.get("tags", []):
            assert all(output.output_type != "error" for output in cell.outputs), cell.source
