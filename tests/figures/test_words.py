"""What figures say: words a reader knows, true minus signs, what breaks where something does."""

import re

import pytest

from genopt_core import explorers as ex

EVERY = ex.names()
HYPHEN_AS_MINUS = re.compile(r"(?<![\w–—/−-])-(?=\.?\d)")
OWN_WORDS = ("text", "word")
"""Texts of the reader, shown as they are."""


def strings(item, key=""):
    """All texts of a figure, or of packed figures, with the name under which they stand."""
    if isinstance(item, str):
        yield key, item
    elif isinstance(item, dict):
        for name, inner in item.items():
            packing = name in ("same", "object", "list", "pick", "at")
            yield from strings(inner, key if packing else name)
    elif isinstance(item, list):
        for inner in item:
            yield from strings(inner, key)


@pytest.mark.parametrize("name", EVERY)
def test_no_hyphen_stands_for_a_minus(name):
    said = [*strings(ex.frames(name)), *strings(ex.describe(name))]
    assert not [words for _, words in said if HYPHEN_AS_MINUS.search(words)]


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
