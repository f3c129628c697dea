"""Stills of figures: panels in a row stand side by side, each with its drawing."""

import re

import pytest

from book._ext.refresh import stills
from genopt_core.figures.widget import WEB


@pytest.mark.parametrize("name", ["kv-quality", "pos-decay"])
def test_panels_in_a_row_are_all_there_and_do_not_overlap(name):
    if not (WEB / "render.mjs").exists():
        pytest.skip("the front end is not built: run `make book`")
    (still,) = stills.stills([(name, {})])
    drawings = [
        dict(re.findall(r'(\w+)="([\d.]+)"', tag))
        for tag in re.findall(r"<svg (?!xmlns)[^>]*>", still)
    ]
    panels = [(float(d["x"]), float(d["width"])) for d in drawings if float(d["width"]) > 100]
    assert len(panels) == 2
    (first, wide), (second, _) = panels
    assert second >= first + wide
