"""Stills of figures: panels in a row stand side by side, each with its drawing."""

import re
from xml.etree import ElementTree

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


def test_colors_are_plain_light_ones_and_dark_on_dark_pages():
    figure = '<svg><g fill="var(--gx-bg)"/><g fill="var(--gx-on-strong)" stroke="none"/></svg>'
    drawn = stills.colored(figure)
    ElementTree.fromstring(drawn)
    light = re.findall(r'<g fill="([^"]*)"', drawn)
    assert {color.lower() for color in light} == {"#fff"}
    assert len(set(light)) == 2, "one color in the light, two in the dark"
    assert f'[fill="{light[0]}"]{{fill:#14181e}}' in drawn
    assert f'[fill="{light[1]}"]{{fill:#101418}}' in drawn
    half = stills.colored(
        '<svg><g stroke="color-mix(in srgb, var(--gx-c1) 50%, transparent)"/></svg>'
    )
    assert 'stroke="#0072b280"' in half
    assert "{stroke:#56b4e980}" in half
