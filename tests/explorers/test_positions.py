"""The numbers in the figures of chapter 3 are the core's, or those that are stored."""

import json
import math
import re

import numpy as np
import pytest
from oracles.figures import drawn, marks
from places import BOOK, RESULTS

from book.ch3_positions import results
from genopt_core import explorers as ex
from genopt_core import positions, tables
from genopt_core.explorers.positions import (
    coins,
    decay,
    length,
    methods,
    recall,
    skipping,
    untrained,
)

TASKS = ("one key", "copy", "four keys")


def stored(name):
    content = json.loads((RESULTS / f"positions_{name}.json").read_text(encoding="utf-8"))
    return [dict(zip(content["columns"], row, strict=True)) for row in content["rows"]]


def mean(rows, value, **given):
    found = [r[value] for r in rows if all(r[k] == v for k, v in given.items())]
    return sum(found) / len(found)


@pytest.fixture(scope="module")
def development():
    return stored("development")


@pytest.fixture(scope="module")
def final():
    return stored("final")


# ------------------------------------------------------------------ what is stored


def test_tables_are_of_the_stored_results():
    from book.experiments.positions import explorer_tables

    for name in ("methods", "losses", "recall", "untrained"):
        again = json.loads(json.dumps(getattr(explorer_tables, name)()))
        path = ex.__path__[0] + f"/../tables/positions_{name}.json"
        with open(path, encoding="utf-8") as file:
            assert json.load(file) == again, "python -m book.experiments.positions.store"


def test_final_rows_are_of_whole_methods_and_of_this_shape(final):
    from book.experiments.positions.language import STAGES, TIMES
    from book.experiments.positions.store import METHODS

    seeds = STAGES["final"]["seeds"]
    cells = {(r["text"], r["trained"], r["method"]) for r in final}
    assert len(cells) == len(STAGES["final"]["cells"]) * len(METHODS)
    for text, trained, method in cells:
        assert method in METHODS
        rows = [
            r for r in final if (r["text"], r["trained"], r["method"]) == (text, trained, method)
        ]
        assert {(r["seed"], r["times"]) for r in rows} == {(s, t) for s in seeds for t in TIMES}
        assert len(rows) == len(seeds) * len(TIMES)
        assert all(0 < r["nats"] < 6 for r in rows)


def test_the_figure_offers_the_final_methods_by_their_names():
    from book.experiments.positions.language import FINAL
    from book.experiments.positions.models import CHANGES, METHODS

    assert set(methods.FINAL) == set(FINAL)
    assert {name: METHODS[name].label for name in methods.FINAL} == methods.FINAL
    assert {name: change.label for name, change in CHANGES.items()} == methods.LATER
    for task in tables.load("positions_recall")["tasks"]:
        distances, accuracy = methods.recall(task)
        assert set(recall.METHODS) == set(accuracy)
        assert set(recall.DISTANCES) <= set(distances)


def test_the_chosen_reading_is_the_one_of_the_rule(development):
    """choose.py: lowest mean at 4 to 16 times the length, among all that are harmonic."""
    from book.experiments.positions.choose import candidates

    means = {}
    for name in candidates():
        far = [r["nats"] for r in development if r["method"] == name and r["times"] >= 4]
        means[name] = sum(far) / len(far)
    assert min(means, key=means.__getitem__) == methods.CHOSEN


# ------------------------------------------------------------------ rotation, bias, skipping, coins


@pytest.mark.parametrize("dim", [2, 8, 64])
@pytest.mark.parametrize("base", [10, 500_000])
def test_rotate_shows_the_sum_of_cosines(dim, base):
    """Alike vectors: the score is the mean of cosines, by complex numbers."""
    figure = drawn("pos-rotate", dim=dim, base=base, distance=32)
    (line,) = marks(figure["panels"][1], "line")
    delta = np.arange(129)
    omega = float(base) ** (-np.arange(dim // 2) / (dim // 2))
    expected = np.exp(1j * np.outer(delta, omega)).real.sum(axis=1) * 2 / math.sqrt(dim)
    assert line["columns"]["y"] == pytest.approx(expected, rel=1e-3, abs=1e-3)
    (arrows,) = [m for m in marks(figure["panels"][0], "link") if m.get("arrow")]
    turned = np.arctan2(arrows["columns"]["y2"], arrows["columns"]["x2"])
    assert turned[0] == pytest.approx(math.remainder(32.0, 2 * math.pi), abs=1e-3)


@pytest.mark.parametrize("distance", list(decay.DISTANCES))
@pytest.mark.parametrize("kind", list(decay.SLOPES))
def test_decay_shows_weights_and_effective_context(kind, distance):
    figure = drawn("pos-decay", kind=kind, distance=distance, length=64)
    m = [2 ** -(h + 1.0) for h in range(8)] if kind == "geometric" else 1 / np.arange(1, 9)
    harmonic = np.cumsum([0, *(1 / r for r in range(1, 64))])
    cost = {"linear": np.arange(64), "log": np.log(1 + np.arange(64)), "harmonic": harmonic}
    weight = np.exp(-np.outer(m, cost[distance]))
    weight /= weight.sum(axis=1, keepdims=True)
    for line, row in zip(marks(figure["panels"][0], "line"), weight, strict=True):
        at = line["columns"]["x"]
        shown = [np.nan if y is None else y for y in line["columns"]["y"]]
        expected = np.where(row >= decay.LEAST, row, np.nan)[at]
        assert shown == pytest.approx(expected, rel=1e-3, nan_ok=True)
    (bars,) = marks(figure["panels"][1], "bar")
    assert bars["columns"]["x"] == pytest.approx(1 / (weight**2).sum(axis=1), rel=1e-3)


def test_totals_are_those_that_the_figure_says():
    one = positions.slopes(8, "harmonic").sum()
    for kind in decay.SLOPES:
        assert decay.strengths(kind, "fourfold").sum() == pytest.approx(4 * one)
        assert decay.strengths(kind, "geometric").sum() == pytest.approx(positions.slopes(8).sum())


@pytest.mark.parametrize("eps", list(skipping.EPSILONS))
@pytest.mark.parametrize("c", [0, 4, 32])
def test_skip_leaves_out_what_the_bound_allows(eps, c):
    """A block distance is dark if its nearest pair is where the bound is at most ε."""
    figure = drawn("pos-skip", eps=eps, c=c)
    delta = np.arange(skipping.LENGTH)
    (cells,) = marks(figure["panels"][1], "cell")
    columns = cells["columns"]
    for h in range(8):
        mass = np.exp(-(2.0 ** -(h + 1)) * delta)
        free = []
        for t in range(skipping.BLOCKS):
            nearest = max(t * skipping.BLOCK - skipping.BLOCK + 1, 0)
            far, near = mass[nearest:].sum(), mass[:nearest].sum()
            free.append(int(t > 0 and far / (far + math.exp(-2 * c) * near) <= eps))
        rows = zip(columns["y"], columns["value"], strict=True)
        assert [value for head, value in rows if head == str(h + 1)] == free
    share = sum(
        value * (skipping.BLOCKS - int(t))
        for t, value in zip(columns["x"], columns["value"], strict=True)
    ) / (8 * skipping.BLOCKS * (skipping.BLOCKS + 1) / 2)
    assert f"{share:.0%}".replace("%", " % of the block") in figure["readout"]


def test_coins_tend_to_the_bias_and_one_draw_does_not():
    apart = []
    for rounds in coins.ROUNDS:
        readout = ex.draw("pos-coins", rounds=rounds, seed=1).readout
        apart.append(int(re.search(r"(\d+) % of the weight", readout)[1]))
    assert apart[0] > 20
    assert apart[-1] <= 3
    limit = marks(drawn("pos-coins")["panels"][0], "line", z="limit, ln π")[0]
    assert limit["columns"]["y"] == pytest.approx(-np.log(1 + np.arange(16)), abs=1e-3)


# ------------------------------------------------------------------ loss and recall


@pytest.mark.parametrize("method", ["rope-learned-fourfold", "rope", "fox"])
def test_length_shows_the_stored_losses(method, development):
    figure = drawn("pos-length", method=method, view="all")
    (dots,) = marks(figure["panels"][0], "dot")
    expected = [mean(development, "nats", method=method, times=t) for t in (1, 2, 4, 8, 16)]
    assert dots["columns"]["y"] == pytest.approx(expected, rel=1e-3)
    runs = marks(figure["panels"][0], "line", z=length.THIS)[0]["columns"]["y"]
    assert runs[:5] == pytest.approx(
        [mean(development, "nats", method=method, times=t, seed=100) for t in (1, 2, 4, 8, 16)],
        rel=1e-3,
    )
    assert f"{expected[-1]:.3f} at 16 times" in figure["readout"]
    ranks = {
        n: mean(development, "nats", method=n, times=16) for n in {r["method"] for r in development}
    }
    rank = 1 + sum(value < ranks[method] for value in ranks.values())
    assert f"number {rank} of 61" in figure["readout"]


def test_length_draws_every_place_whatever_has_been_run(monkeypatch):
    """No row, one method, all: the same marks, and words for what is missing."""
    full = methods.losses("development")
    shapes = set()
    for some in ({}, {"rope": full["rope"]}, full):
        monkeypatch.setattr(methods, "losses", lambda place, some=some: some)
        for method in ("rope", "alibi"):
            figure = drawn("pos-length", method=method, view="near")
            shapes.add(tuple(mark["kind"] for mark in figure["panels"][0]["marks"]))
            assert ("has not been run" in figure["readout"]) == (bool(some) and method not in some)
            assert ("No method" in figure["readout"]) == (not some)
    assert len(shapes) == 1


def test_losses_above_the_view_are_gaps_and_not_lines_out_of_the_frame():
    for view in length.VIEWS:
        panel = drawn("pos-length", method="rope", view=view)["panels"][0]
        low, high = panel["y"]["domain"]
        for mark in marks(panel, "line"):
            assert all(y is None or low <= y <= high for y in mark["columns"]["y"])


@pytest.mark.parametrize("task", methods.recall_tasks())
@pytest.mark.parametrize("method", list(recall.METHODS))
def test_recall_shows_the_stored_accuracy(method, task):
    rows = [row for row in stored("recall") if row["task"] == task]
    figure = drawn("pos-recall", task=task, method=method, distance=128)
    (line,) = marks(figure["panels"][0], "line", z=methods.label(method))[1:]
    distances = sorted({row["distance"] for row in rows})
    expected = [mean(rows, "accuracy", method=method, distance=d) for d in distances]
    assert line["columns"]["y"] == pytest.approx(expected, rel=1e-3)
    found = re.search(r"recalls (\d\.\d\d) of the \w+, number", figure["readout"])[1]
    assert float(found) == pytest.approx(expected[distances.index(128)], abs=0.0051)


@pytest.mark.parametrize("law", list(untrained.LAWS))
def test_untrained_shows_the_stored_nats(law):
    content = json.loads((RESULTS / "positions_untrained.json").read_text(encoding="utf-8"))
    found = {(row["method"], row["share"]): row["nats"] for row in content["rows"]}
    for share in untrained.SHARES:
        figure = drawn("pos-untrained", law=law, share=share)
        assert f"{found[law, share]:.2f} nats a token instead of 3.77" in figure["readout"]
    dots, chosen = marks(figure["panels"][0], "dot")
    expected = [found[law, s] for s in untrained.SHARES]
    assert dots["columns"]["y"] == pytest.approx(expected, rel=1e-3)
    assert chosen["columns"]["y"] == pytest.approx([found[law, 1.0]], rel=1e-3)
    low, high = figure["panels"][0]["y"]["domain"]
    assert all(low < nats < high for nats in found.values())


def test_what_the_page_says_of_a_model_without_a_bias_is_so():
    stock = untrained.stored("RoPE")[0.0]
    linear = [law for law in untrained.LAWS if law != "RoPE + harmonic distance"]
    little = [untrained.stored(law)[0.01] - stock for law in linear]
    assert min(little) == pytest.approx(0.1, abs=0.05)
    assert max(little) == pytest.approx(0.6, abs=0.05)
    assert abs(untrained.stored("RoPE + harmonic distance")[0.1] - stock) < 0.01
    alibi, freed = (untrained.stored(law) for law in linear[:2])
    assert (alibi[0.1], freed[0.1]) == pytest.approx((9.9, 4.4), abs=0.05)
    assert alibi[1.0] > 0.9 * math.log(49_152), "nearly a guess among all tokens"


# ------------------------------------------------------------------ reports


def test_duels_are_paired_by_seed(development, final):
    for row in results.duels():
        place = next(p for p in methods.PLACES if results.run_name(p) == row["run"])
        rows = development
        if place != "development":
            text, trained = place.split("/")
            rows = [r for r in final if (r["text"], r["trained"]) == (text, int(trained))]
        rival = next(
            n
            for n in methods.losses(place)
            if methods.label(n) == row["against"].split(" (best")[0]
        )
        far = [r for r in rows if r["times"] >= 4]
        gains = [
            mean(far, "nats", method=methods.CHOSEN, seed=s)
            - mean(far, "nats", method=rival, seed=s)
            for s in sorted({r["seed"] for r in far})
        ]
        assert row["difference"].value == pytest.approx(sum(gains) / len(gains), abs=1e-9)
        assert row["seeds won"] == f"{sum(g < 0 for g in gains)} of {len(gains)}"


def test_paired_is_scipy_s_test():
    from scipy.stats import ttest_1samp

    gain = np.array([-0.3, -0.1, 0.05, -0.2, -0.25])
    found = results.paired(gain)
    expected = ttest_1samp(gain, 0)
    assert found[2] == pytest.approx(expected.pvalue)
    low, high = expected.confidence_interval()
    assert found[1] == pytest.approx((high - low) / 2)


def test_reports_say_something_with_only_development(monkeypatch):
    cells = tables.load("positions_losses")
    only = dict(cells) | {"cells": {"development": cells["cells"]["development"]}}
    real = tables.load
    monkeypatch.setattr(tables, "load", lambda n: only if n == "positions_losses" else real(n))
    assert len(results.runs()) == 1
    assert {row["run"] for row in results.duels()} == {"development"}
    assert len(results.predictions()) == 5
    assert "development" in results.summary()
    assert results.losses("sotu/64") == []


def test_what_the_pages_say_in_words_is_so(development):
    """Sentences of the evidence page and of the chapter's first page that no cell computes."""
    loss = {
        n: mean(development, "nats", method=n, times=16) for n in {r["method"] for r in development}
    }
    every = results.slopes_at_equal_total()
    rows = [row for row in every if row["run"] == "development"]
    fresh = [row for row in every if row["run"] != "development"]
    assert len(fresh) == 3
    assert all(-0.06 < row["difference"].value < -0.03 for row in fresh)
    assert [row["p"] < 0.01 for row in fresh] == [True, False, True]
    assert all(abs(row["geometric"] - row["harmonic"]) < 0.0305 for row in rows)
    assert len({row["geometric"] > row["harmonic"] for row in rows}) == 2, "in both directions"
    for turning in ("RoPE", "none"):
        some = [row for row in rows if row["rotation"] == turning]
        for key in ("geometric", "harmonic"):
            assert some[-1][key] == min(row[key] for row in some), "the largest total is best"
    assert loss["rope-hdist"] - loss["rope-hdist-fourfold"] > 0.4
    assert loss["rope-reciprocal"] > loss["rope"]
    assert loss["fox"] > loss[methods.CHOSEN]
    assert abs(loss["rope-harmonic-fourfold"] - loss[methods.CHOSEN]) < 0.002
    recalled = {row["method"]: row for row in results.recalls()}
    two = [methods.label(n) for n in sorted(recall.METHODS, key=lambda n: loss.get(n, 9.0))[:2]]
    assert set(two) == set(list(recalled)[-2:]), "best on text, worst at recall"
    far = {name: row["one key, far"] for name, row in recalled.items()}
    near = {name: row["one key, near"] for name, row in recalled.items()}
    ours = methods.label(methods.CHOSEN)
    assert min(value for name, value in near.items() if name != ours) > 0.995
    assert near[ours] > 0.93
    assert far["harmonic slopes, 2/h, half of the heads free"] > 0.995
    assert far["RoPE, YaRN at test time"] > 0.995
    assert far["RoPE, interpolated at test time"] > 0.995
    distances, accuracy = methods.recall("one-key")
    late = accuracy["rope-harmonic-double"].mean(axis=0)[distances.index(512) :]
    assert max(late) < 0.1, "hardly better than a guess"
    assert max(row["four keys, near"] for row in recalled.values()) < 0.7, "not learned"
    steep = ("rope-harmonic", "rope-harmonic-double", methods.CHOSEN)
    copied = {name: row["copy, near"] for name, row in recalled.items()}
    assert max(copied.pop(methods.label(name)) for name in steep) < 0.36
    assert min(copied.values()) > 0.44
    mix, pair = (methods.label(n) for n in ("harmonic-double-mix", "rope-alibi"))
    assert recalled[mix]["loss"] < recalled[pair]["loss"] - 0.05
    assert all(recalled[mix][f"{t}, far"] > recalled[pair][f"{t}, far"] for t in TASKS)
    best = min(loss, key=loss.__getitem__)
    assert best == methods.CHOSEN
    for t in (1, 2, 4, 8):
        at = {n: mean(development, "nats", method=n, times=t) for n in loss}
        assert min(at, key=at.__getitem__) == methods.CHOSEN
    learned = json.loads((RESULTS / "positions_final.json").read_text(encoding="utf-8"))
    for name, layers in learned["learned at the first seed"].items():
        if name.endswith(methods.CHOSEN):
            for layer in layers["slopes"]:
                most = 0.25 if "/128/" in name else 0.2
                assert layer == pytest.approx(4 / np.arange(1, 9), rel=most), "they hardly move"
    for place in methods.stored_places()[1:]:
        found = {n: v[:, 2:].mean() for n, v in methods.losses(place).items()}
        order = sorted(found, key=found.__getitem__)
        assert set(order[:2]) == {methods.CHOSEN, "rope-harmonic-fourfold"}
        assert found[order[1]] - found[order[0]] < 0.006
        for name in methods.LATER:
            base = name.removesuffix("-interpolated").split("-ntk")[0].split("-yarn")[0]
            if base in ("alibi", "rope-alibi"):
                assert found[name] > found[base] + 0.3, "a softer bias lets far text do harm"
        assert found["nope"] < found["rope-drope"] < found["nope"] + 0.05
        last = {n: v[:, -1].mean() for n, v in methods.losses(place).items()}
        for name in ("rope-interpolated", "rope-ntk", "rope-yarn"):
            assert last["rope"] - 0.5 < last[name] < last["rope"]
        ours = methods.losses(place)[methods.CHOSEN].mean(axis=0)
        for name in found:
            if methods.is_peer(name):
                assert (ours < methods.losses(place)[name].mean(axis=0)).all()
        assert found["fox"] > found["rope-harmonic"]
        gain = found["rope-alibi"] - found["rope-alibi-double"]
        assert 0.165 < gain < 0.205, "what strength alone gains"
        assert gain > found["rope-alibi-double"] - found["rope-harmonic-double"], "more than shape"
    lead = {n: v[:, 2:].mean() for n, v in methods.losses("sotu/64").items()}
    full, mixed = (lead[f"rope-harmonic-double{end}"] for end in ("", "-mix"))
    assert (mixed - full) / (lead["rope-alibi"] - full) == pytest.approx(0.8, abs=0.01)
    assert loss["rope-alibi"] - loss["harmonic-double-mix"] == pytest.approx(0.06, abs=0.005)
    assert loss["harmonic-double-mix"] - min(loss.values()) == pytest.approx(0.05, abs=0.005)
    peers = [row for row in results.duels() if "best peer" in row["against"]]
    for row in peers:
        assert row["run"] == "development" or row["p"] < 0.01
    said = (BOOK / "ch3_positions" / "index.md").read_text(encoding="utf-8")
    assert said.count("sixty-one methods") == 2
    assert len(loss) == 61
