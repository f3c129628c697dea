"""The figures and reports of chapter 6 say what is stored, and count what the formulas count."""

import json
import re
import statistics

import numpy as np
import pytest
from oracles.figures import drawn, marks
from places import BOOK, CORE
from scipy import stats

from book.ch6_one_model import results
from genopt_core import explorers
from genopt_core.explorers.one_model import budget, grid, interactions, recall, scaling, subsets

FACTORS = ("tokenizer", "positions", "attention", "settings", "cache")
TABLE = json.loads((CORE / "tables" / "one_model.json").read_text(encoding="utf-8"))
SCALING = json.loads((CORE / "tables" / "one_model_scaling.json").read_text(encoding="utf-8"))
BUDGETS = list(grid.budgets())
WITH_ALL = list(grid.with_all_five())


def rows(name, content=TABLE):
    part = content if name is None else content[name]
    return [dict(zip(part["columns"], row, strict=True)) for row in part["rows"]]


def each(cell, cache, budget, context):
    (row,) = (
        r
        for r in rows("scores")
        if (r["cell"], r["cache"], r["budget"], r["context"]) == (cell, cache, budget, context)
    )
    return np.array(row["each"])


def half(values):
    values = np.asarray(values)
    error = values.std(ddof=1) / len(values) ** 0.5
    return stats.t.ppf(0.975, len(values) - 1) * error


def test_the_levels_are_those_of_the_table():
    for factor in TABLE["factors"]:
        assert list(grid.LEVELS[factor["name"]]) == [factor["off"], factor["on"]]
    assert tuple(f["name"] for f in TABLE["factors"]) == FACTORS == grid.FACTORS
    assert tuple(TABLE["contexts"]) == grid.CONTEXTS


# ------------------------------------------------------------------ build your model


@pytest.mark.parametrize("budget", WITH_ALL)
def test_all_builds_stand_in_the_order_of_their_means(budget):
    figure = drawn("one-build", budget=budget)
    context = TABLE["contexts"][0]
    (dots,) = marks(figure["panels"][0], "dot")
    means = [
        statistics.fmean(r["each"])
        for r in rows("scores")
        if (r["budget"], r["context"]) == (budget, context)
    ]
    assert dots["columns"]["y"] == pytest.approx(sorted(means), rel=1e-3)
    assert budget != "tokens" or len(means) == 32
    z = dots["columns"]["z"]
    assert [z.count(name) for name in ("yours", "the base")] == [1, 1]


def test_the_build_that_is_chosen_is_marked_and_told():
    on = {"tokenizer": "bpe", "positions": "harmonic", "attention": "dense"}
    on |= {"settings": "found", "cache": "staircase"}
    figure = drawn("one-build", **on)
    mine = each("bpe.harmonic.dense.found", "staircase", "tokens", TABLE["contexts"][0])
    base = each("bpe.rope.dense.default", "full", "tokens", TABLE["contexts"][0])
    assert f"{mine.mean():.4f} bits a byte ± {half(mine):.4f}" in figure["readout"]
    told = f"{(mine - base).mean():+.4f} ± {half(mine - base):.4f}".replace("-", "−")
    assert told in figure["readout"]
    (dots,) = marks(figure["panels"][0], "dot")
    (y,) = (
        v for v, z in zip(dots["columns"]["y"], dots["columns"]["z"], strict=True) if z == "yours"
    )
    assert y == pytest.approx(mine.mean(), rel=1e-3)
    (bars,) = marks(figure["panels"][1], "bar")
    shown = dict(zip(bars["columns"]["y"], bars["columns"]["x"], strict=True))
    assert shown["bits a byte"] == pytest.approx(100 * mine.mean() / base.mean(), rel=1e-3)
    last = rows("cache_bytes")[-1]
    assert shown["cache"] == pytest.approx(100 * last["staircase"] / last["full"], rel=1e-3)


# ------------------------------------------------------------------ subsets


@pytest.mark.parametrize("budget", WITH_ALL)
def test_subsets_are_paired_differences_to_the_base(budget):
    for context in TABLE["contexts"]:
        base = each("bpe.rope.dense.default", "full", budget, context)
        found = subsets.rows(budget, context)
        kinds = [r["kind"] for r in found]
        assert [kinds.count(k) for k in ("all", "best")] == [1, 1]
        assert budget != "tokens" or [kinds.count(k) for k in ("alone", "but one")] == [5, 5]
        for row in found:
            gain = each(row["cell"], row["cache"], budget, context) - base
            assert row["difference"] == pytest.approx(gain.mean(), rel=1e-3, abs=2e-5)
            assert row["difference_half"] == pytest.approx(half(gain), rel=2e-2, abs=2e-5)
            real = bool(stats.ttest_1samp(gain, 0).pvalue < 0.01) if gain.any() else False
            assert row["real"] == real, row["name"]


def test_the_symbols_say_what_is_told_from_the_base():
    figure = drawn("one-subsets")
    (dots,) = marks(figure["panels"][0], "dot")
    expected = {r["name"]: r["real"] for r in subsets.rows("tokens", TABLE["contexts"][0])}
    shown = dict(zip(dots["columns"]["y"], dots["columns"]["z"], strict=True))
    assert {name: z == subsets.REAL for name, z in shown.items()} == expected


# ------------------------------------------------------------------ effects


@pytest.mark.parametrize("budget", BUDGETS)
def test_effects_are_those_that_the_experiment_stored(budget):
    """Theirs come from contrasts cell by cell, ours from Yates's sums."""
    for context in TABLE["contexts"]:
        ours = {row["name"]: row for row in interactions.effects(str(context), budget)}
        theirs = [r for r in rows("effects") if (r["budget"], r["context"]) == (budget, context)]
        assert len(theirs) == len(ours) == 31
        for row in theirs:
            mine = ours[row["name"]]
            assert mine["mean"] == pytest.approx(row["mean"], rel=1e-3, abs=2e-5), row["name"]
            if row["p"] is not None and abs(row["mean"]) > 1e-4:  # scores have five decimals
                assert mine["p"] == pytest.approx(row["p"], rel=0.05, abs=2e-3), row["name"]


def test_an_interaction_is_half_of_a_difference_of_differences():
    figure = drawn("one-interactions", pair="tokenizer settings")
    low, high = (m["columns"]["y"] for m in marks(figure["panels"][1], "line"))
    joint = ((high[1] - high[0]) - (low[1] - low[0])) / 2
    context = str(TABLE["contexts"][0])
    (row,) = (
        r for r in interactions.effects(context, "tokens") if r["name"] == "tokenizer × settings"
    )
    assert joint == pytest.approx(row["mean"], abs=2e-3)  # means of four digits


def test_real_effects_have_their_own_symbol_and_a_name():
    for measure in interactions.MEASURES:
        figure = drawn("one-interactions", measure=measure)
        (dots,) = marks(figure["panels"][0], "dot")
        real = dots["columns"]["z"].count(interactions.REAL)
        found = interactions.effects(measure, "tokens")
        assert real == sum(row["p"] < 0.01 for row in found)
        (names,) = marks(figure["panels"][0], "text")
        assert len(names["columns"]["text"]) == min(real, interactions.SHOWN)


# ------------------------------------------------------------------ recall


def test_recall_shows_the_stored_gains():
    found = recall.gains()
    figure = drawn("one-recall", switch="positions")
    lines = {m["columns"]["z"][0]: m["columns"]["y"] for m in marks(figure["panels"][0], "line")}
    for name, cell in (
        ("the base", "bpe.rope.dense.default"),
        ("with harmonic", "bpe.harmonic.dense.default"),
    ):
        assert lines[name] == pytest.approx([m for _, m, _ in found[cell]], rel=1e-3, abs=1e-4)
    for row in rows("recall"):
        if row["budget"] == "tokens":
            shown = {d: m for d, m, _ in found[row["cell"]]}[row["distance"]]
            assert shown == pytest.approx(statistics.fmean(row["each"]), abs=2e-4)


# ------------------------------------------------------------------ budgets, scale


def test_the_budget_of_a_published_model():
    figure = drawn("one-budget", model="Llama-2-7B", context=32, batch=8, density=50)
    cells = {m["columns"]["x"][0]: m["columns"] for m in marks(figure["panels"][0], "cell")}
    n = 32 * 1024
    assert cells["tokens"]["tip"][0].endswith(f"{n:,}")
    held = 8 * 2 * 32 * 32 * 128 * n * 2
    assert f"{held / 1e9:.3g} GB" in figure["readout"]
    named = dict(zip(cells["attention"]["y"], cells["attention"]["value"], strict=True))
    assert named["blocks"] == 50
    assert named["SWE"] == 97  # 0.985 squared
    assert cells["writing"]["value"][-1] < 100


def test_free_settings_are_answered_too():
    figure = drawn("one-budget", context=100, batch=3, density=33)
    assert "3 × 102,400 tokens" in figure["readout"]


def test_a_filled_cache_has_the_bytes_of_the_formula():
    assert results.worst_of_paper() < 1e-9


@pytest.mark.parametrize("saving", list(scaling.SAVINGS))
def test_scaling_shows_what_was_measured(saving):
    without, with_it = scaling.COLUMNS[saving]
    for over in scaling.OVER:
        (dots,) = (
            m
            for m in marks(drawn("one-scaling", saving=saving, over=over)["panels"][0], "dot")
            if m["columns"]["z"][0] == scaling.MEASURED
        )
        expected = [100 * r[with_it] / r[without] for r in rows(None, SCALING) if r["over"] == over]
        assert dots["columns"]["y"] == pytest.approx(expected, rel=1e-3)


def test_ladder_bits_grow_towards_their_limit():
    bits = [budget.ladder_bits((16, 8, 4, 2), n, 128) for n in (512, 4096, 131_072)]
    assert bits == sorted(bits, reverse=True)
    assert 2 < bits[-1] < 3


# ------------------------------------------------------------------ words


def test_the_verdict_says_what_the_scores_say():
    words = results.verdict().replace("\n  ", " ")
    for name in WITH_ALL:
        base, every = (
            each(cell, cache, name, TABLE["contexts"][0])
            for cell, cache in (
                ("bpe.rope.dense.default", "full"),
                ("swe.harmonic.blocks.found", "staircase"),
            )
        )
        line = next(s for s in words.splitlines() if grid.BUDGETS[name] in s.lower())
        assert f"{every.mean():.4f} ± {half(every):.4f}" in line
        assert ("lower" if every.mean() < base.mean() else "higher") in line
        apart = abs(every.mean() - base.mean()) > half(every) + half(base)
        assert ("intervals apart" in line) == apart


def test_reports_have_rows_for_everything():
    for name in BUDGETS:
        assert len(results.chosen(name)) == 13
        assert len(results.yates(name)) == 31
        assert len(results.costs(name)) >= 7
    assert {row["verdict"] for row in results.aims()} <= {"met", "missed"}
    assert len(results.scaled()) == 3 * len(SCALING["rows"])
    bits = [row["best"] for row in results.golf()]
    assert bits == sorted(r["bits"] for r in rows("golf"))
    assert all(row["total bytes"] <= TABLE["golf"]["limit"] for row in results.golf())
    assert len(results.speeds()) == len(TABLE["speed"]["rows"])


def test_the_chapters_first_page_says_what_the_table_says():
    """Every number of its main result with four decimals is a score or a difference of means."""
    page = (BOOK / "ch6_one_model" / "index.md").read_text(encoding="utf-8")
    said = {float(n.replace("−", "-")) for n in re.findall(r"[−-]?\d\.\d{4}\b", page)}
    known = {round(r["mean"], 4) for r in rows("scores")}
    known |= {round(r["half"], 4) for r in rows("scores")}
    for r in rows("subsets"):
        known |= {round(abs(r["difference"]), 4), round(r["difference_half"] or 0, 4)}
    assert {n for n in said if min(abs(n - k) for k in known) > 1.01e-4} == set()


def test_a_build_that_was_not_trained_with_a_budget_is_shown_with_another_and_says_so(monkeypatch):
    every = grid.scores

    def without_one(name, context):
        found = dict(every(name, context))
        if name == "seconds":  # as if it had not been trained with equal time
            found.pop(grid.BUILDS[3])
        return found

    monkeypatch.setattr(grid, "scores", without_one)
    alone = grid.BUILDS[3]
    for name, build, lacking in (
        ("seconds", alone, True),
        ("seconds", grid.ALL, False),
        ("tokens", alone, False),
    ):
        found, said = grid.nearest_budget(name, (build, grid.ALL))
        assert found == ("tokens" if lacking else name)
        assert said.startswith(f"Not trained with {grid.BUDGETS[name]}") == lacking
        levels = [list(grid.LEVELS[n])[on] for n, on in zip(FACTORS, build, strict=True)]
        settings = dict(zip(FACTORS, levels, strict=True)) | {"budget": name}
        shown = explorers.draw("one-build", **settings).readout
        assert shown.startswith("Not trained with") == lacking
