"""Pieces across blanks: the stored comparison holds together, and the figure shows it."""

import json

import pytest
from oracles.figures import drawn, marks

from book.experiments.subwords import across_blanks
from genopt_core.explorers.subwords import across
from genopt_core.tables import records
from tests.places import RESULTS

STORED = json.loads((RESULTS / "subwords_across_blanks.json").read_text(encoding="utf-8"))
ROWS = {(row["corpus"], row["contestant"]): row for row in records(STORED)}


@pytest.mark.parametrize("corpus", STORED["corpora"])
def test_everybody_ran_at_one_size_and_nobody_is_below_the_bound(corpus):
    assert {name for text, name in ROWS if text == corpus} == {*across_blanks.CONTESTANTS}
    rows = {name: row for (text, name), row in ROWS.items() if text == corpus}
    bound = rows.pop(across_blanks.CERTIFIED)["train_tokens"]
    for row in rows.values():
        assert row["pieces"] == row["size"] == 4000
        assert row["train_tokens"] >= bound
        assert min(row["cpu_seconds"], row["peak_mb"]) > 0
        spelled = row["train_tokens"] * row["train_bytes_per_token"]
        assert spelled == pytest.approx(STORED["corpora"][corpus]["train_bytes"], rel=1e-5)


def test_units_are_cut_into_the_words_of_the_peers():
    rule = across_blanks.RULES["english"]
    assert rule.cut("One two. Three?! A\nb") == ["One two.", " Three?!", " A\n", "b"]


@pytest.mark.parametrize("measure", across.MEASURES)
@pytest.mark.parametrize("part", across.PARTS)
def test_the_figure_shows_the_stored_numbers(measure, part):
    figure = drawn("subword-across", measure=measure, part=part)
    least = min(
        (ROWS["python", name] for name in across_blanks.SUPER), key=lambda row: row["held_tokens"]
    )
    rows = [least if name == "superbpe" else ROWS["python", name] for name in across.LABELS]
    shown = marks(figure["panels"][0], "bar")[0]["columns"]["x"]
    column = f"{part}_{across.COLUMNS[measure]}"
    assert shown == pytest.approx([row[column] for row in rows], rel=1e-3)
    mine, bound = (ROWS["python", name]["train_tokens"] for name in ("ours_tokens", "certified"))
    assert f"{100 * (mine / bound - 1):.0f} % above the certified bound" in figure["readout"]


def test_what_the_page_says_of_pieces_across_blanks():
    rows = {name: row for (_, name), row in ROWS.items()}
    best = min((rows[name] for name in across_blanks.SUPER), key=lambda row: row["held_tokens"])

    def ratio(name, column, base=best):
        return rows[name][column] / base[column]

    assert ratio("ours_tokens", "train_tokens") == pytest.approx(0.72, abs=5e-3)
    assert ratio("ours_tokens", "held_tokens") == pytest.approx(1.049, abs=5e-4)
    assert ratio("ours_tokens_4", "held_tokens") == pytest.approx(0.967, abs=5e-4)
    assert ratio("ours_tokens_4", "held_bits_per_byte") == pytest.approx(0.931, abs=5e-4)
    assert ratio("ours_words", "held_tokens", rows["bpe"]) == pytest.approx(1.019, abs=5e-4)
    gap = rows["ours_tokens"]["train_tokens"] / rows["certified"]["train_tokens"]
    assert gap == pytest.approx(1.20, abs=5e-3)
