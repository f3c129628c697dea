"""nbval fails on whatever is stored wrongly: one small notebook, broken cell by cell."""

import base64
import io
import os
import re
import subprocess
import sys

import nbformat
import numpy as np
import pytest
from nbformat.v4 import new_code_cell, new_notebook
from PIL import Image
from places import ROOT

from book._ext.refresh import refreshed

DRAW = "figure, axes = subplots()\naxes.plot([1, {}, 2])\nshow(figure, 'A line.')"
RAISES = {"metadata": {"tags": ["raises-exception"]}}


def picture(cell):
    return next(output for output in cell.outputs if "image/png" in output.get("data", {}))


def moved_by_one_level(png: str, pixels: int) -> str:
    """The PNG with ``pixels`` of its pixels a little darker."""
    values = np.array(Image.open(io.BytesIO(base64.b64decode(png))))
    flat = values.reshape(-1, values.shape[-1])
    flat[:pixels, :3] -= 1
    buffer = io.BytesIO()
    Image.fromarray(values).save(buffer, format="png")
    return base64.b64encode(buffer.getvalue()).decode()


def other_picture(cell):
    data = picture(cell)["data"]
    data["image/png"] = moved_by_one_level(data["image/png"], 10_000)


def nearly_the_same_picture(cell):
    data = picture(cell)["data"]
    data["image/png"] = moved_by_one_level(data["image/png"], 20)


def other_numbers(cell):
    data = picture(cell)["data"]
    data["text/plain"] = data["text/plain"].replace("[1 7 2]", "[1 8 2]")


def other_alt(cell):
    picture(cell)["metadata"]["image/png"]["alt"] = "Two lines."


def other_text(cell):
    cell.outputs[0]["text"] = cell.outputs[0]["text"].replace("7", "8")


def other_error(cell):
    cell.outputs[0]["evalue"] = "it was something else"


def nothing_stored(cell):
    cell.outputs.clear()


def an_error_stored(cell):
    cell.outputs = [nbformat.v4.new_output("error", ename="ValueError", evalue="no", traceback=[])]


def other_order(cell):
    cell.outputs.reverse()


# source, further arguments of the cell, what is done to its stored output, does nbval see it
CELLS = {
    "imports": ("from genopt_core import show\nprint('ready')", {}, None, False),
    "subplots": ("from genopt_core.figures.plots import subplots", {}, None, False),
    "picture": (DRAW.format(7), {}, None, False),
    "error": ("raise ValueError('no')", RAISES, None, False),
    "picture nearly the same": (DRAW.format(7), {}, nearly_the_same_picture, False),
    "another picture": (DRAW.format(7), {}, other_picture, True),
    "other numbers below a picture": (DRAW.format(7), {}, other_numbers, True),
    "another alt text": (DRAW.format(7), {}, other_alt, True),
    "another text": ("print(7)", {}, other_text, True),
    "a line on stderr": ("import sys\nprint('!', file=sys.stderr)", {}, nothing_stored, True),
    "another error": ("raise ValueError('no')", RAISES, other_error, True),
    "an error that came": ("raise ValueError('no')", RAISES, nothing_stored, True),
    "an error that went": ("pass", RAISES, an_error_stored, True),
    "another order": ("print(7)\ndisplay(7)", {}, other_order, True),
}


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory) -> dict[str, str]:
    path = tmp_path_factory.mktemp("broken") / "broken.ipynb"
    cells = [new_code_cell(source, **more) for source, more, _, _ in CELLS.values()]
    nbformat.write(new_notebook(cells=cells), path)
    stored = nbformat.reads(refreshed(path), as_version=4)
    for cell, (_, _, harm, _) in zip(stored.cells, CELLS.values(), strict=True):
        if harm:
            harm(cell)
    nbformat.write(stored, path)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "conftest", "-rA", "-q", "--nbval", path.name],
        cwd=path.parent,
        env=os.environ | {"PYTHONPATH": str(ROOT), "PYTEST_ADDOPTS": ""},
        capture_output=True,
        text=True,
        encoding="utf-8",
    )
    found = re.findall(r"^(PASSED|FAILED) .*::Cell (\d+)", done.stdout, re.MULTILINE)
    assert len(found) == len(CELLS), done.stdout[-3000:] + done.stderr[-3000:]
    return {list(CELLS)[int(number)]: outcome for outcome, number in found}


@pytest.mark.parametrize("name", CELLS)
def test_nbval_sees_what_was_changed_and_nothing_else(outcomes, name):
    assert outcomes[name] == ("FAILED" if CELLS[name][3] else "PASSED")
