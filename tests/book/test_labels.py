"""Every formula label on a page is computed by a function; every cited label is on a page."""

import re
import sys

import pytest
from places import BOOK, CORE

sys.path.insert(0, str(BOOK / "_ext"))
import claims

# How labels begin, and the chapter that defines them; a new chapter adds its own.
CHAPTER = {
    "swe": "ch1_subwords",
    "cem": "ch2_search",
    "race": "ch2_search",
    "w": "ch2_search",
    "pos": "ch3_positions",
    "attn": "ch4_attention",
    "kv": "ch5_kvcache",
    "one": "ch6_one_model",
}
# A displayed formula, with the anchor above it or the label behind it, if there is one.
DISPLAYED = r"(?s)(<a id=\S+></a>\n(?:> )?)?(\$\$.+?\$\$)(\s*\([a-z0-9-]+\))?"
DEFINED = {label: page.split("/")[0] for label, page in claims.equations().items()}
CITED = {
    label
    for path in CORE.rglob("*.py")
    if not {"node_modules", "build"} & set(path.relative_to(CORE).parts)
    for label in claims.labels(path.read_text(encoding="utf-8"))
}


def test_there_are_formulas():
    assert len(DEFINED) >= 54


def test_every_displayed_formula_of_a_page_has_a_label():
    """Not on the pages of solutions: what they display are steps of one answer."""
    bare = []
    for path in claims.pages():
        text = re.sub(r"(?s)```.*?```", "", claims.page_text(path))
        if not path.stem.endswith("_solutions"):
            found = re.findall(DISPLAYED, text)
            bare += [f"{path.name}: {math}" for above, math, behind in found if not above + behind]
    assert not bare, "\n".join(bare)


@pytest.mark.parametrize("label", sorted(DEFINED))
def test_every_formula_of_a_page_is_computed_by_a_function_that_cites_it(label):
    # a citation in a module, a class, a comment or a figure computes nothing
    assert label in claims.computed()


@pytest.mark.parametrize("label", sorted(CITED))
def test_every_label_that_the_package_cites_is_on_a_page(label):
    assert label in DEFINED


@pytest.mark.parametrize("label", sorted(DEFINED))
def test_a_label_begins_as_those_of_its_chapter(label):
    assert CHAPTER[label.split("-")[0]] == DEFINED[label]
