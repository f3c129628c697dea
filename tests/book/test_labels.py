"""Every formula label on a page is computed by a function; every cited label is on a page."""

import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BOOK, CORE = ROOT / "book", ROOT / "genopt_core"


def page_text(path: Path) -> str:
    if path.suffix == ".md":
        return path.read_text(encoding="utf-8")
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return "\n\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")


PAGES = sorted(
    path
    for path in BOOK.rglob("*")
    if path.suffix in (".md", ".ipynb") and not {"_build", ".ipynb_checkpoints"} & set(path.parts)
)
DEFINED = {
    label for path in PAGES for label in re.findall(r"\$\$\s*\(([a-z]+-[a-z-]+)\)", page_text(path))
}
PYTHON = [p for p in CORE.rglob("*.py") if "node_modules" not in p.parts]
CITED = {
    label
    for path in PYTHON
    for label in re.findall(r"eq\.\s+([a-z]+-[a-z-]+)", path.read_text(encoding="utf-8"))
}
WRITTEN_CHAPTERS = {label.split("-")[0] for label in DEFINED}


def test_there_are_formulas():
    assert len(DEFINED) >= 8


@pytest.mark.parametrize("label", sorted(DEFINED))
def test_every_formula_of_a_page_is_computed_by_a_function_that_cites_it(label):
    assert label in CITED


@pytest.mark.parametrize("label", sorted(CITED))
def test_every_label_that_a_function_cites_is_on_a_page(label):
    if label.split("-")[0] not in WRITTEN_CHAPTERS:
        pytest.skip(f"the chapter of {label} is not written yet")
    assert label in DEFINED
