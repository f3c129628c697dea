"""The numbers in the figures of chapter 1 are the core's, and every setting can be drawn."""

import json
import math

import numpy as np
import pytest
from oracles.figures import drawn, marks

from genopt_core import explorers as ex
from genopt_core.explorers.subwords.words import costs_of
from genopt_core.subwords import (
    STORED_SIZES,
    exact_step_costs,
    greedy_path,
    one_pass_path,
    shortest_path,
    stored_costs,
    stored_word_counts,
    viterbi_path,
)

BITS = 1 / math.log(2)


@pytest.mark.parametrize("size", STORED_SIZES)
@pytest.mark.parametrize("word", ["republic", "Newest", "unconstitutional"])
@pytest.mark.parametrize("k", [2, 4, 8])
def test_lattice_shows_the_core_s_paths_and_costs(word, size, k):
    spelled, costs = word.lower() + "▁", stored_costs(size)
    best, greedy = shortest_path(spelled, costs, k), greedy_path(spelled, costs)
    figure = drawn("subword-lattice", word=word, size=size, k=k)
    lattice, curve = figure["panels"]

    (link,) = marks(lattice, "link")
    columns = link["columns"]
    arcs = list(zip(columns["x1"], columns["x2"], columns["z"], columns["tip"], strict=True))
    assert all(
        tip == f"{spelled[i:j]}: {costs[spelled[i:j]] * BITS:.1f} bits" for i, j, _, tip in arcs
    )
    taken = [(i, j) for i, j, z, _ in arcs if z == "chosen"]
    assert sorted(taken) == list(zip(best.cuts, best.cuts[1:], strict=False))
    wide = {w for w, z in zip(columns["width"], columns["z"], strict=True) if z == "chosen"}
    assert wide <= {4}, "the chosen arcs differ by more than color"

    strips = {z: marks(lattice, "rect", z=z) for z in ("chosen", "longest match")}
    assert strips["longest match"][0]["columns"]["text"] == list(greedy.pieces)
    if best.feasible:
        assert strips["chosen"][0]["columns"]["text"] == list(best.pieces)
        assert f"{'|'.join(best.pieces)}, {best.cost * BITS:.1f} bits" in figure["readout"]
    else:
        assert not strips["chosen"]
        assert "has no segmentation" in figure["readout"]

    exact = exact_step_costs(spelled, costs, len(spelled)) * BITS
    (dots,) = marks(curve, "dot")
    for shown, value in zip(dots["columns"]["y"], exact, strict=True):
        assert (shown is None) == math.isinf(value)
        assert shown is None or shown == pytest.approx(value, rel=1e-3)
    (at_most,) = marks(curve, "line")
    lowest = [v for v in at_most["columns"]["y"] if v is not None]
    assert lowest == sorted(lowest, reverse=True)
    assert lowest[-1] == pytest.approx(viterbi_path(spelled, costs).cost * BITS, rel=1e-3)
    count = len(arcs)
    layers = min(k, len(spelled))
    assert f"{layers} layers × {count} arcs = {layers * count} relaxations" in figure["cost"]


def test_foreign_characters_cost_what_the_core_s_unknown_costs():
    for word in ("naïve", "日本", "b2b"):
        path = shortest_path(word + "▁", stored_costs(1000), if_infeasible="unknown")
        figure = drawn("subword-lattice", word=word, size=1000, k=8)
        assert figure["panels"][0]["marks"][3]["columns"]["text"] == list(path.pieces)
        assert f"{path.cost * BITS:.1f} bits" in figure["readout"]
        assert "<unk>" in figure["readout"]


def test_a_reader_s_own_text_is_brought_to_the_textbook_convention():
    same = [drawn("subword-lattice", word=w) for w in ("Low", " low ", "low▁", "LOW ")]
    assert all(figure == same[0] for figure in same)
    two = drawn("subword-lattice", word="low tide")
    assert two["title"].startswith("low▁tide▁")
    with pytest.raises(ValueError, match="word"):
        ex.draw("subword-lattice", word="▁ ▁")
    with pytest.raises(ValueError, match="at most 20"):
        ex.draw("subword-lattice", word="x" * 21)


def test_every_kind_of_text_can_be_drawn():
    for word in ("q", "\u0301", "😀", ".", "x" * 20, "İİİ", "ﬁ", "a b c d e f g h i j"):
        for k in (1, 8):
            figure = drawn("subword-lattice", word=word, k=k)
            json.dumps(figure, allow_nan=False)


@pytest.mark.parametrize("size", STORED_SIZES)
def test_corpus_curves_are_the_core_s(size):
    counts, costs = stored_word_counts(), stored_costs(size)
    words = list(counts)
    some = np.array(list(counts.values()), float)
    table = np.array([np.minimum.accumulate(exact_step_costs(w, costs, 8)) for w in words]).T
    free = np.array([viterbi_path(w, costs).cost for w in words])
    greedy = np.array([greedy_path(w, costs).cost for w in words])
    for weight, f in (("running", some / some.sum()), ("distinct", np.full(3000, 1 / 3000))):
        figure = drawn("subword-steps", size=size, k=3, weight=weight)
        bits, reach = figure["panels"]
        for z, values in (
            ("at most k", np.where(np.isfinite(table), table, free) @ f),
            ("longest match", np.full(8, greedy @ f)),
            ("no limit", np.full(8, free @ f)),
        ):
            (line,) = marks(bits, "line", z=z)
            assert line["columns"]["y"] == pytest.approx(values * BITS, rel=1e-3)
        (bars,) = marks(reach, "bar")
        assert bars["columns"]["y"] == pytest.approx(np.isfinite(table) @ f * 100, rel=1e-3)
        assert f"{100 * (greedy @ f / (free @ f) - 1):.1f} % more" in figure["readout"]
        assert f"{np.isfinite(table[2]) @ f * 100:.1f} %" in figure["readout"]


def test_presets_show_what_their_notes_say():
    presets = {p.label: p.params for p in ex.get("subword-lattice").presets}
    assert "re|public▁" in ex.draw("subword-lattice", **presets["Longest match goes wrong"]).readout
    assert (
        "without the limit" in ex.draw("subword-lattice", **presets["The limit costs bits"]).readout
    )
    assert "now|here▁" in ex.draw("subword-lattice", **presets["Cheapest is not meaning"]).readout
    assert (
        "has no segmentation"
        in ex.draw("subword-lattice", **presets["Too few sub-words: no way through"]).readout
    )
    assert "<unk>: ï" in ex.draw("subword-lattice", **presets["A foreign character"]).readout


def test_one_pass_fails_on_the_preset_that_says_so():
    costs = stored_costs(1000)
    assert not one_pass_path("cuba▁", costs, 3).feasible
    assert shortest_path("cuba▁", costs, 3).pieces == ("cu", "ba", "▁")
    assert viterbi_path("cuba▁", costs).pieces == ("c", "ub", "a", "▁")


def test_prices_are_not_changed_by_drawing():
    before = dict(costs_of(1000))
    ex.draw("subword-lattice", word="naïve")
    assert costs_of(1000) == before == stored_costs(1000)
