"""What figures say: words a reader knows, true minus signs, what breaks where something does."""

import csv
import io
import json
import os
import re
import subprocess

import pytest
from oracles.figures import HYPHEN_AS_MINUS
from places import CORE

from genopt_core import explorers as ex

EVERY = ex.names()


@pytest.mark.parametrize("name", EVERY)
def test_the_label_of_a_setting_that_breaks_something_says_what(name):
    entry = ex.get(name)
    settings = {
        str(words).lower()
        for control in entry.controls
        for words in [*control.values(), *control.to_json().get("labels", [])]
    }
    for preset in entry.presets:
        if preset.fails:
            assert preset.label.lower() not in settings, preset.label
            assert len(preset.label.split()) >= 3, preset.label


# ------------------------------------------------------------------ tooltips and the table


@pytest.fixture(scope="module")
def said():
    """What each figure says, at its presets and at its start: tooltips, table, CSV."""
    asked = [(name, preset.params) for name in EVERY for preset in ex.get(name).presets]
    asked += [(name, {}) for name in EVERY]
    figures = [ex.run(name, params)["figure"] for name, params in asked]
    done = subprocess.run(
        [os.environ.get("GENOPT_NODE", "node"), CORE / "figures" / "web" / "test" / "words.mjs"],
        input=json.dumps(figures),
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=True,
    )
    found = {name: [] for name in EVERY}
    for (name, _), one in zip(asked, json.loads(done.stdout), strict=True):
        found[name].append(one)
    return found


COORDINATE = re.compile(r"^[xy][12]?\b ?[:=]|\b(?:undefined|NaN|null)\b", re.MULTILINE)
DRAWING = {"x", "y", "x1", "x2", "y1", "y2", "text", "tip", "size", "width", "base", "dot"}


@pytest.mark.parametrize("name", EVERY)
def test_tooltips_are_words_and_not_coordinates(said, name):
    tips = {tip for one in said[name] for tip in one["tips"]}
    assert tips
    for tip in tips:
        assert tip.strip()
        assert not COORDINATE.search(tip), tip
        assert not HYPHEN_AS_MINUS.search(tip), tip


@pytest.mark.parametrize("name", EVERY)
def test_the_table_has_named_columns_and_nothing_of_the_drawing(said, name):
    for one in said[name]:
        assert one["sections"]
        for section in one["sections"]:
            columns = section["columns"]
            assert len(set(columns)) == len(columns), columns
            assert not DRAWING & set(columns), columns
            assert len(columns) >= 2, (section["title"], columns)
            assert all(len(row) == len(columns) for row in section["rows"])


@pytest.mark.parametrize("name", EVERY)
def test_the_file_for_spreadsheets_is_the_table(said, name):
    for one in said[name]:
        head, *rows = csv.reader(io.StringIO(one["csv"], newline=""))
        assert all(len(row) == len(head) for row in rows)
        assert len(rows) == sum(len(section["rows"]) for section in one["sections"])


def test_the_table_of_the_lattice_says_what_is_chosen(said):
    start = said["subword-lattice"][-1]["sections"][0]
    assert start["columns"] == [
        "sub-word", "from character", "to character", "bits", "chosen", "longest match",
    ]  # fmt: skip
    assert ["re", 1, 2, 6.763, "yes", ""] in start["rows"]
    assert ["rep", 1, 3, 13.68, "", "yes"] in start["rows"]


def test_a_bar_of_a_distribution_says_its_probability(said):
    tips = [tip for one in said["cem-generations"] for tip in one["tips"]]
    assert any(re.fullmatch(r"architecture skip-gram: p = 0\.\d+", tip) for tip in tips)
    assert any(re.fullmatch(r"window \d+: share of the elite = [01](\.\d+)?", t) for t in tips)
