"""The numbers in the figures of chapter 4's evidence are those that are stored."""

import json
import math
import statistics

import numpy as np
import pytest
from oracles.figures import drawn, marks
from places import RESULTS

from book.ch4_attention import results
from genopt_core import explorers as ex
from genopt_core import tables
from genopt_core.explorers.attention import (
    evidence,
    evidence_needle,
    evidence_needles,
    evidence_speed,
    evidence_training,
)


def stored(name):
    return json.loads((RESULTS / f"attention_{name}.json").read_text(encoding="utf-8"))


NEEDLES = "needles"
"""The file that the table of `attn-needles` is made from."""


def points(panel, kind="dot"):
    """{series: [(x, y), …]} of a panel's marks of a kind; gaps left out."""
    found = {}
    for mark in marks(panel, kind):
        c = mark["columns"]
        for x, y, z in zip(c["x"], c["y"], c["z"], strict=True):
            if x is not None and y is not None:
                found.setdefault(z, []).append((x, y))
    return found


def test_tables_are_of_the_stored_results():
    from book.experiments.attention import store

    for name, (make, _) in store.MADE.items():
        again = json.loads(json.dumps(make()))
        with open(f"{ex.__path__[0]}/../tables/attention_{name}.json", encoding="utf-8") as file:
            assert json.load(file) == again, "python -m book.experiments.attention.store"


# ------------------------------------------------------------------ error and predictions


@pytest.mark.parametrize("kept", [3, 7, 15])
@pytest.mark.parametrize("group", list(evidence.GROUPS))
def test_error_shows_the_mean_over_the_scored_texts(group, kept):
    content = stored("quality")
    scored = [t for n, t in content["texts"].items() if n != content["calibration"]]
    figure = drawn("attn-error", group=group, kept=kept)
    lines = points(figure["panels"][0])
    assert set(lines) == set(evidence.GROUPS[group])
    for name, line in lines.items():
        for i, (x, y) in enumerate(line):
            values = [t["error"][name][i] for t in scored]
            assert y == pytest.approx(statistics.fmean(values), rel=1e-3)
            assert x == pytest.approx(100 * content["densities"][i], rel=1e-3)
    (dots,) = marks(figure["panels"][1], "dot")
    order = dots["columns"]["y"]
    at = content["kept"].index(kept)
    found = [statistics.fmean(t["error"][n][at] for t in scored) for n in order]
    assert found == sorted(found)
    (ranges,) = marks(figure["panels"][1], "link")
    for name, low, high in zip(
        order, ranges["columns"]["x1"], ranges["columns"]["x2"], strict=True
    ):
        values = [t["error"][name][at] for t in scored]
        assert (low, high) == pytest.approx((min(values), max(values)), rel=2e-3)


def test_a_text_alone_has_no_range():
    text = "sotu 19th century"
    figure = drawn("attn-error", place=text, group="laws")
    assert points(figure["panels"][0])["recommended"][1][1] == pytest.approx(
        stored("quality")["texts"][text]["error"]["recommended"][1], rel=1e-3
    )
    assert "range" not in figure["panels"][1]["title"]


@pytest.mark.parametrize("measure", list(evidence.MEASURES))
@pytest.mark.parametrize("kept", list(evidence.DENSITIES))
def test_predictions_are_means_over_windows(kept, measure):
    content = stored("perplexity")
    rows = [dict(zip(content["columns"], row, strict=True)) for row in content["rows"]]
    names = ["full", *content["designs"]]
    three = range(3)
    figure = drawn("attn-perplexity", kept=kept, measure=measure)
    density = 100 * content["densities"][str(kept)]
    shown = points(figure["panels"][0])
    low, high = figure["panels"][0]["y"]["domain"]
    for name, line in shown.items():
        mine = [
            r
            for r in rows
            if names[r["design"]] == name and r["kept"] == kept and r["text"] in three
        ]
        values = [100 * math.expm1(r["more"]) if measure == "rise" else r[measure] for r in mine]
        found = next(y for x, y in line if x == pytest.approx(density, rel=1e-3))
        mean = statistics.fmean(values)
        assert found == pytest.approx(min(max(mean, low), high), rel=2e-3), name


def test_the_peer_of_the_readout_looks_at_nothing():
    families = tables.load("attention_predictions")["families"]
    for place in evidence.PREDICTION_PLACES:
        values = evidence.predictions_at(place, "kl")
        for kept, at in ((18, -1), (7, 1)):
            peer = results.best_independent(kept, place, "kl")
            assert families[peer] in ("data-independent", "paper")
            rest = [
                v[at][0]
                for n, v in values.items()
                if families[n] in ("data-independent", "paper") and not math.isnan(v[at][0])
            ]
            counts = tables.load("attention_predictions")["counts"]
            assert values[peer][counts.index(kept)][0] <= min(rest) or counts[at] != kept


def test_summary_of_predictions_follows_from_the_rows():
    from book.experiments.attention import store

    content = stored("perplexity")
    again = store.summary(store.named(content), content["designs"])
    assert json.loads(json.dumps(again)) == content["summary"]


# ------------------------------------------------------------------ needle


@pytest.mark.parametrize("kept", list(evidence_needle.KEPT))
@pytest.mark.parametrize("measure", list(evidence_needle.MEASURES))
def test_needle_shows_means_over_trials(kept, measure):
    content = stored("needle")
    rows = [dict(zip(content["columns"], row, strict=True)) for row in content["rows"]]
    for group, keys in evidence_needle.GROUPS.items():
        figure = drawn("attn-needle", kept=kept, group=group, measure=measure)
        left, right = (points(panel) for panel in figure["panels"])
        for design, number in keys:
            mine = [r for r in rows if (r["design"], r["rounds"]) == (design, number)]
            name = evidence_needle.NAMES[design, number]
            for r in (r for r in mine if r["kept"] in (0, kept)):
                expected = np.maximum(np.mean(r[measure], axis=0), evidence_needle.LOWEST)
                assert [y for _, y in left[name]] == pytest.approx(expected, rel=2e-3, abs=1e-3)
                assert [x for x, _ in left[name]] == pytest.approx(
                    [4096 * (100 - d) / 100 for d in content["depths"]], rel=1e-3
                )
            assert len(right.get(name, ())) == len(mine)


# ------------------------------------------------------------------ training


@pytest.mark.parametrize("cell", list(evidence_training.CELLS))
@pytest.mark.parametrize("view", list(evidence_training.VIEWS))
def test_training_shows_held_out_losses(cell, view):
    (content,) = (c for c in stored("training")["cells"] if c["name"] == cell)
    seeds = len(content["seeds"])
    assert seeds >= (1 if "one seed" in cell else 5)
    assert {a["label"] for a in content["arms"]} <= set(evidence_training.ARMS)
    figure = drawn("attn-training", cell=cell, view=view)
    shown = points(figure["panels"][0])
    curve = content["curve"]
    high = figure["panels"][0]["y"]["domain"][1]
    for i, arm in enumerate(a["label"] for a in content["arms"]):
        share = content["computed"][i] if view == "compute" else 1
        means = [
            (share * c["step"], np.mean(c["full"][i * seeds : (i + 1) * seeds])) for c in curve
        ]
        expected = [(x, y) for x, y in means if y <= high]
        assert np.array(shown[arm]) == pytest.approx(np.array(expected), rel=1e-3)


def test_evaluations_show_each_seed():
    content = stored("training")["cells"][0]
    seeds, names = len(content["seeds"]), list(evidence_training.ARMS)
    for arm in names:
        figure = drawn("attn-training", arm=arm, cell=content["name"])
        (panel,) = figure["panels"][1:]
        dots = marks(panel, "dot")[0]["columns"]["y"]
        i = names.index(arm)
        expected = [
            v
            for way in evidence_training.FINAL
            for v in content["final"][way][i * seeds : (i + 1) * seeds]
        ]
        assert dots == pytest.approx(expected, rel=1e-3)


def test_gaps_are_paired_by_seed():
    (content,) = (c for c in stored("training")["cells"] if c["name"] == "whole text")
    n = len(content["seeds"])
    full = np.array(content["curve"][-1]["full"]).reshape(-1, n)
    for i, row in enumerate(results.trained("whole text")):
        assert row["loss, full"] == pytest.approx(full[i].mean())
        if i:
            gain = full[i] - full[0]
            assert row["gap"].value == pytest.approx(gain.mean())
            assert row["gap"].error == pytest.approx(gain.std(ddof=1) / n**0.5)


# ------------------------------------------------------------------ time


@pytest.mark.parametrize("way", list(evidence_speed.WAYS))
def test_speed_shows_ratios_of_the_same_turns(way):
    cpu = {(r["density"], r[f"{way} x"]) for r in stored("speed")["one thread"]}
    left = points(drawn("attn-speed", place="cpu", way=way)["panels"][0])
    found = sorted(p for name, line in left.items() for p in line)
    expected = sorted((100 * d, t) for d, t in cpu)
    assert np.array(found) == pytest.approx(np.array(expected), rel=2e-3)
    panel = drawn("attn-speed", place="gpu", way=way)["panels"][0]
    left = points(panel)
    shown = [r for name in ("gpu_speed", "gpu_options") for r in stored(name)["rows"]]
    for r in shown:
        name = evidence_speed.ON_GPU.get((r["call"], r["tokens"], r["dim"]))
        if name is None or f"{way} ms" not in r:
            continue
        expected = 100 * r["density"], r[f"dense {way} ms"] / r[f"{way} ms"]
        assert any(p == pytest.approx(expected, rel=2e-3) for p in left[name]), r


def test_ratios_of_the_gpu_follow_from_its_times():
    for r in stored("gpu_speed")["rows"] + stored("gpu_options")["rows"]:
        for way in ("forward", "both"):
            if f"{way} x" in r:
                ratio = r[f"dense {way} ms"] / r[f"{way} ms"]
                assert r[f"{way} x"] == pytest.approx(ratio, rel=1e-3)
                assert r[f"{way} share of 1/density"] == pytest.approx(
                    ratio * r["density"], rel=1e-3
                )


def test_bars_say_what_was_found():
    rows = results.bars()
    assert {r["verdict"] for r in rows} <= {"met", "missed"}
    for r in rows:
        if "output error" in r["what"]:
            assert r["verdict"] == "met", r


# ------------------------------------------------------------------ needles in short prompts


def asked_once(length, kept):
    """{name: {trial: row}}, and the numbers that every selection was asked, from the file."""
    content, found = stored(NEEDLES), {}
    for values in content["rows"]:
        r = dict(zip(content["columns"], values, strict=True))
        if r["length"] == length and r["kept"] in (0, kept):
            name = evidence_needles.NAMES[r["design"], r["rounds"]]
            found.setdefault(name, {})[r["trial"]] = r
    once = [set(of) for name, of in found.items() if "rounds" not in name]
    return content["depths"], found, set.intersection(*once)


@pytest.mark.parametrize("asked", list(evidence_needles.ASKED))
def test_needles_are_counted_over_numbers_and_depths(asked):
    depths, measured, trials = asked_once(*map(int, asked.split("-")))
    for depth in (0, 10):
        at = [i for i, d in enumerate(depths) if depth in (0, d)]
        found = {r["name"]: r for r in evidence_needles.told(asked, depth)}
        assert set(found) == {name for name, of in measured.items() if trials <= set(of)}
        for name, row in found.items():
            assert row["asked"] == len(trials) * len(at)
            exact = [measured[name][trial]["exact"][i] for trial in trials for i in at]
            assert row["told"] == sum(exact)
            assert row["low"] <= row["share"] <= row["high"]
        figure = drawn("attn-needles", asked=asked, depth=depth)
        (shares,) = points(figure["panels"][0]).values()
        assert [x for x, _ in shares] == pytest.approx(
            [r["share"] for r in found.values()], rel=1e-3
        )


def test_errors_by_layer_are_ratios_of_what_is_stored():
    texts = stored("quality")["texts"]
    moby = texts["moby-dick"]["by layer"]
    for i, row in enumerate(results.by_layer()):
        ratio = moby["recommended"][2][i] / moby["window + sink"][2][i]
        assert row["Moby-Dick"] == pytest.approx(ratio)


def test_the_speed_figure_names_the_cards_that_measured(monkeypatch):
    rows = list(tables.records(tables.load("attention_speed"), "gpu", "gpu columns"))
    early = [evidence_speed.ON_GPU.get((r["call"], r["tokens"], r["dim"]), "") for r in rows]
    late = [
        r | {"device": "a card"}
        for r, name in zip(rows, early, strict=True)
        if not name.endswith(evidence_speed.EARLIER)
    ]
    for found, cards in ((rows, ("H200;", "H100 for the earlier")), (late, ("GPU: a card",))):
        monkeypatch.setattr(evidence_speed.tables, "records", lambda *_, found=found: found)
        said = evidence_speed._cost("gpu")
        assert all(card in said for card in cards)
        assert ("earlier mask" in said) == (found is rows)
