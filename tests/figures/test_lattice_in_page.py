"""The lattice that the page computes by itself is Python's, byte for byte."""

import json
import os
import random
import subprocess
import sys
import unicodedata

import pytest
from places import BOOK, CORE

from genopt_core import explorers, tables
from genopt_core.explorers.subwords import lattice
from genopt_core.explorers.subwords.lattice import LONGEST_WORD
from genopt_core.subwords.segmentation import lattice as segmentation
from genopt_core.subwords.segmentation import paths

sys.path.append(str(BOOK / "_ext"))
import islands

NAME = "subword-lattice"
COUNT = 10_000
ASSIGNED = [
    c for c in map(chr, range(0x110000)) if unicodedata.category(c) not in ("Cn", "Co", "Cs")
]
"""Characters that this Python knows: a browser may know newer ones, and their small letters."""
MATCH_IS_CHEAPER = [
    {"word": word, "size": size, "k": 3}
    for word, size in (("another", 500), ("friend", 1000), ("brief", 1000))
]
"""Where longest match, which may take more pieces, costs less: three of 12,000 settings."""
ALPHABETS = (
    "abcdefghijklmnopqrstuvwxyz",
    "etaoinshrdlu",
    "ABCDEFGHIJKLMNOPQRSTUVWXYZ",
    "àáâäãåçèéêëìíîïñòóôöõùúûüýÿßœæøÀÉÎÖÜŁİıſΣσς",
    "0123456789.,;:!?'\"-–—()[]{}/\\|@#%&*+=<>^~`_$€\u0301\u0308\u0327",
    "😀👩\u200d💻🇩🇪👍🏽❤\ufe0f🦊",
    " \t\n\r\x0b\x0c\x1c\x1d\x1e\x1f\x85\xa0\u1680\u2003\u2028\u2029\u202f\u205f\u3000\ufeff▁",
    "московскийуниверситет日本語ひらがな한국어हिन्दीالعربية",
)


def answers(asked):
    """What JavaScript answers, a line each."""
    job = {"script": islands.lattice_script().decode(), "asked": asked}
    done = subprocess.run(
        [os.environ.get("GENOPT_NODE", "node"), CORE / "figures" / "web" / "test" / "answers.mjs"],
        input=json.dumps(job),
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=True,
    )
    return done.stdout.split("\n")


def as_a_page_has_it(result):
    return json.dumps(result, ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def words(draw):
    """Any number of texts: words of the corpus, pieces put together, letters, odd characters."""
    corpus = list(tables.stored_word_counts())
    pieces = list(tables.stored_costs(2000))
    while True:
        kind = draw.random()
        if kind < 0.4:
            text = draw.choice(corpus).rstrip("▁")
        elif kind < 0.6:
            text = "".join(draw.choices(pieces, k=draw.randint(1, 8)))
        elif kind < 0.95:
            weights = (9, 9, 3, 2, 2, 1, 1, 1)
            letters = draw.choices(ALPHABETS, weights)[0] + draw.choice(ALPHABETS)
            length = draw.choice((0, *range(1, 9), *range(1, 9), LONGEST_WORD, LONGEST_WORD + 5))
            text = "".join(draw.choices(letters, k=length))
        else:
            text = "".join(draw.choices(ASSIGNED, k=draw.randint(1, LONGEST_WORD)))
        if draw.random() < 0.1:
            text = draw.choice(
                (text.upper(), text.title(), f" {text} ", unicodedata.normalize("NFD", text))
            )
        yield text if draw.random() < 0.1 else text[:LONGEST_WORD]


@pytest.fixture
def quickly(monkeypatch):
    """A figure asks five times for the same arcs, and for checks of 2,000 costs: most of the time.

    Both have tests of their own.  Words are kept with their costs, which thus stay who they are.
    """
    for module in (segmentation, paths):
        monkeypatch.setattr(module, "check_costs", lambda costs: None)
    arcs, last = segmentation.word_arcs, []

    def once(word, costs):
        if not (last and last[0] == word and last[1] is costs):
            last[:] = word, costs, arcs(word, costs)
        return list(last[2])

    for module in (lattice, paths):
        monkeypatch.setattr(module, "word_arcs", once)


@pytest.mark.usefixtures("quickly")
def test_ten_thousand_words():
    draw = random.Random(12)
    asked = [
        {
            "word": word,
            "size": draw.choice(tables.STORED_SIZES),
            "k": min(draw.randint(1, 8), draw.randint(1, 8)) if i % 2 else 8 - i % 3,
        }
        for i, word in zip(range(COUNT), words(draw), strict=False)
    ]
    asked += MATCH_IS_CHEAPER
    kinds = {
        "too long": lambda r: "must have at most 20" in r.get("error", ""),
        "empty": lambda r: "must have at least one" in r.get("error", ""),
        "blanks": lambda r: "besides blanks" in r.get("error", ""),
        "foreign": lambda r: "Outside the alphabet" in r.get("figure", {}).get("readout", ""),
        "infeasible": lambda r: "has no segmentation" in r.get("figure", {}).get("readout", ""),
        "limited": lambda r: "(without the limit" in r.get("figure", {}).get("readout", ""),
        "same": lambda r: "takes the same" in r.get("figure", {}).get("readout", ""),
        "less": lambda r: "bits less" in r.get("figure", {}).get("readout", ""),
    }
    results, rare = [], dict.fromkeys(kinds, 0)
    for params in asked:
        result = explorers.run(NAME, params)
        results.append(as_a_page_has_it(result))
        for kind, holds in kinds.items():
            rare[kind] += holds(result)
    for params, here, there in zip(asked, results, answers(asked), strict=True):
        assert there == here, params
    assert min(rare.values()) >= 3, rare


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"k": 0},
        {"k": 9},
        {"k": 2.5},
        {"k": "3"},
        {"k": True},
        {"k": None},
        {"size": 300},
        {"size": "2000"},
        {"size": None},
        {"word": ""},
        {"word": " \t\x85\u3000"},
        {"word": "▁ ▁"},
        {"word": 3},
        {"word": "x" * 21},
        {"word": "😀" * 20},
        {"word": "\ud83d"},
        {"word": "a\udc00b"},
        {"length": 3},
        {"size": "it's\n\u200b\U000e0001"},
        {"size": 'it\'s "so" \\'},
    ],
)
def test_settings_that_cannot_be_are_refused_in_the_same_words(params):
    (there,) = answers([params])
    assert json.loads(there) == explorers.run(NAME, params)


def test_the_test_compares_the_figure_that_pages_show():
    assert explorers.get(NAME).function is lattice.subword_lattice
    assert islands.LATTICE == NAME
