"""The search race of chapter 2: its frozen problems, its statistics, and a part done again."""

from __future__ import annotations

import itertools
import json
import math

import numpy as np
import pytest
from places import BOOK, RESULTS, TABLES

from book.ch2_search import results
from book.experiments.common import pairing, store
from book.experiments.cross_entropy import (
    again,
    collect,
    confirm,
    explorer_tables,
    methods,
    objectives,
    problems,
    race,
    tables,
)
from genopt_core.cross_entropy.regret import normalised_regret
from genopt_core.explorers.reports import read, table

ALL = {**problems.DEVELOPMENT, **problems.HELD_OUT}


def page() -> str:
    cells = json.loads((BOOK / "ch2_search" / "evidence.ipynb").read_text("utf-8"))["cells"]
    return " ".join("".join(c["source"]) for c in cells if c["cell_type"] == "markdown")


@pytest.fixture(scope="module")
def content() -> dict:
    return store.read(RESULTS / "cross_entropy.json")


# ------------------------------------------------------------------ the problems


@pytest.mark.parametrize("name", sorted(ALL))
def test_optimum_is_a_bound_and_every_seed_another_instance(name):
    assert race.is_there(name), f"the table of {name} is not stored"
    first, second = problems.problem(name, 0), problems.problem(name, 1)
    rng = np.random.default_rng(5)
    draws = [first.draw(rng) for _ in range(200)]
    values = [first.true(x) for x in draws]
    assert min(values) >= first.best - 1e-9
    assert first.median - first.best > 0
    assert first.regret(first.best) == 0
    assert first.regret(first.median) == pytest.approx(1)
    assert sum(abs(first.true(x) - second.true(x)) > 1e-9 for x in draws) > 20
    again = problems.problem(name, 0)
    assert [again.true(x) for x in draws] == values
    # Common random numbers: evaluation k has the same noise for every method.
    if first.noise:
        a, b = first(draws[0]), again(draws[1])
        assert a[0] - a[1] == pytest.approx(b[0] - b[1])


def test_optima_by_brute_force():
    small = problems.category_dominant(3, (3, 4, 2, 3), ((0, 2),), 0.7, 0.5)
    choices = itertools.product(*(range(n) for n in (3, 4, 2, 3)), range(9), np.linspace(0, 1, 201))
    best = min(
        small.true({"c0": a, "c1": b, "c2": c, "c3": d, "k": k, "u": u})
        for a, b, c, d, k, u in choices
    )
    assert small.best <= best <= small.best + 2 * 0.0025 + 1e-9
    nk = problems.nk(4, 5, 3, 2, "nk")
    best = min(
        nk.true({f"c{i}": v for i, v in enumerate(c)})
        for c in itertools.product(range(3), repeat=5)
    )
    assert nk.best == pytest.approx(best)


@pytest.mark.parametrize("name", ["network", "conditional", "rugged", "rosenbrock", "ackley"])
def test_optimum_is_reached_from_the_best_of_many_draws(name):
    """Coordinate search with falling steps comes near the optimum from some start."""
    found = []
    p = problems.problem(name, 2)
    rng = np.random.default_rng(0)
    starts = sorted((p.draw(rng) for _ in range(300)), key=p.true)[:12]
    for x in starts:
        value, step = p.true(x), 0.2
        for _ in range(60):
            old = value
            for q in p.parameters:
                if q.name not in x:
                    continue
                if q.kind != "float":
                    options = range(q.size)
                else:
                    u = [min(max(q.unit(x[q.name]) + d * step, 0), 1) for d in (-1, -0.3, 0.3, 1)]
                    options = [methods.scaled(q, v) for v in u]
                for v in options:
                    y = {**x, q.name: v}
                    z: dict[str, float] = {}
                    for r in p.parameters:  # a branch may need other parameters
                        if r.active(z):
                            z[r.name] = y[r.name] if r.name in y else r.draw(rng)
                    if p.true(z) < value:
                        x, value = z, p.true(z)
            if old - value < 1e-4:
                step *= 0.5
        found.append(p.regret(value))
    assert min(found) < (0.35 if name in ("rosenbrock", "ackley") else 0.02)


# ------------------------------------------------------------------ the tables


@pytest.mark.parametrize("name", ["trees", "trees_development", "transformer"])
def test_tables_say_where_they_are_from(name):
    path = problems.TABLES[name]
    content = store.read(path)
    assert content["schema"] == "search-table/1"
    assert content["provenance"]["command"].startswith(
        "python -m book.experiments.cross_entropy.tables"
    )
    size = np.prod([len(a["levels"]) for a in content["axes"]]) * content["replicates"]
    assert len(content["scores"]) == size
    assert path.stat().st_size < 200_000


@pytest.mark.parametrize("name", ["trees", "trees_development"])
def test_trees_table_comes_out_again(monkeypatch, name):
    """Three learning rates, one setting of all else but the size, both trainings."""
    stored = problems.table(name)["scores"]
    last = len(tables.TREES) - 1
    few = tuple(
        (n, k, v[:3] if i == 0 else v if i == last else v[-1:])
        for i, (n, k, v) in enumerate(tables.TREES)
    )
    monkeypatch.setattr(tables, "TREES", few)
    found = tables.trees(name)
    np.testing.assert_allclose(found[:, 0, 0, 0, 0], stored[:3, -1, -1, -1, -1], atol=2e-3)


def test_transformer_table_comes_out_again(monkeypatch):
    stored = problems.table("transformer")["scores"]
    few = tuple((n, k, v[2:4] if n == "learning_rate" else v[:1]) for n, k, v in tables.TRAINING)
    monkeypatch.setattr(tables, "TRAINING", few)
    shape = tables.settings(tables.SHAPES)[0]
    found = tables.transformer(shape, seeds=(0,))[:, 0]
    at = stored[(0,) * len(tables.SHAPES)][2:4, 0, 0, 0, 0]
    np.testing.assert_allclose(found, at, atol=2e-3)


# ------------------------------------------------------------------ the statistics


def test_sign_test_is_the_binomial_one():
    for wins, losses in ((0, 0), (3, 9), (20, 1), (60, 40)):
        n = wins + losses
        tail = sum(math.comb(n, i) for i in range(min(wins, losses) + 1)) / 2**n
        assert pairing.sign_test(wins, losses) == pytest.approx(min(1.0, 2 * tail))


def test_holm_by_hand():
    assert pairing.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert pairing.holm([0.9, 0.8]) == [1.0, 1.0]
    assert pairing.holm([]) == []


def test_comparison_by_hand():
    rows = [
        ["plus", "nk", [0, 1, 2], [], [100, 200, 300], [], [], [], [], 1.0],
        ["random", "nk", [0, 1, 2, 3], [], [100, 305, 100, 7], [], [], [], [], 1.0],
    ]
    c = collect.compare(rows, "plus", "random", "held-out", 60)
    assert (c["wins"], c["ties"], c["losses"], c["problems"]) == (1, 1, 1, 1)
    assert c["difference"] == pytest.approx((0 - 0.0105 + 0.02) / 3, abs=1e-4)
    assert c["worse_on"] == ["nk"]


def test_a_search_that_plans_is_taken_at_the_budget_it_was_given():
    """The others' longest run holds the shorter ones."""
    runs = {b: {"regret": [b / 1000] * len(race.BUDGETS)} for b in (60, 120)}
    at = [race.BUDGETS.index(b) for b in (30, 60, 80, 120)]
    planned, other = collect.curve("smac", runs), collect.curve("tpe", runs)
    assert [planned[i] for i in at] == [0.06, 0.06, 0.12, 0.12]
    assert [other[i] for i in at] == [0.12] * 4
    assert len(planned) == len(other) == race.BUDGETS.index(120) + 1


def test_newest_sources_and_the_timed_runs():
    """A run of other sources replaces those before; a table of another state does not count."""
    state = race.problem_hash("nk")
    old = {"method": "plus", "problem": "nk", "seed": 0, "budget": 60, "suite": state, "cpu": 1.2}
    entries = [
        old | {"source": "a"},
        old | {"source": "b", "budget": 30},
        old | {"source": "c", "budget": 20, "timed": True},
        old | {"source": "b", "suite": "other", "budget": 120},
    ]
    assert set(collect.newest(entries)["plus", "nk", 0]) == {30}
    assert collect.costs_of(entries) == [["plus", "nk", 0, 20, 60.0]]


# ------------------------------------------------------------------ one method run again

STORED = [
    ["plus", "nk", [0, 1], [5, 6], [3, 4], 1.0],
    ["plus", "network", [0, 1], [7, 8], [], 2.0],
    ["random", "nk", [0, 1], [9, 9], [9, 9], 0.1],
]


def test_only_rows_that_came_out_otherwise_are_replaced():
    found = [
        ["plus", "nk", [1, 0, 2], [6, 5, 1], [0, 3, 1], 0.5],
        ["plus", "network", [0, 1, 2], [7, 8, 9], [1, 1, 1], 0.7],
        ["plus", "levels", [0], [1], [1], 0.7],
    ]
    rows, differ = again.replaced(STORED, found, slice(3, 5))
    assert rows == [["plus", "nk", [0, 1], [5, 6], [3, 0], 1.0], *STORED[1:]]
    assert differ == {"nk": 1, "network": 0}
    with pytest.raises(ValueError, match=r"plus on nk was not run with the seeds \[1\]"):
        again.replaced(STORED, [["plus", "nk", [0], [5], [3], 0.5]], slice(3, 5))
    with pytest.raises(ValueError, match="plus on nk was not run to all budgets"):
        again.replaced(STORED, [["plus", "nk", [0, 1], [5, 6], [], 0.5]], slice(3, 5))


def test_what_was_not_run_is_no_agreement():
    with pytest.raises(ValueError, match="no runs of posterior in the state none on the real"):
        again.in_the_tunings("posterior", "none", [])
    with pytest.raises(ValueError, match="no runs of posterior in the state none on tree-iris"):
        again.in_the_tunings("posterior", "none", ["tree-iris"])
    with pytest.raises(ValueError, match="the mean of all problems needs posterior on ackley, "):
        again.in_the_race("posterior", "none")


def test_what_was_run_again_is_said(content):
    (entry,) = content["again"]
    runs = {row[1]: len(row[2]) for row in content["rows"] if row[0] == entry["method"]}
    assert entry["method"] == "posterior"
    assert entry["differ"].keys() == runs.keys()
    assert entry["differ"]["conditional"] == runs["conditional"]
    every = sum(n for name, n in runs.items() if name != "conditional")
    other = sum(n for name, n in entry["differ"].items() if name != "conditional")
    words = {5: "five"}
    assert f"Of {every} runs done again" in page()
    assert f"{every - other} came out the same; {words[other]} part late" in page()


# ------------------------------------------------------------------ the stored race


def test_summary_is_that_of_the_rows(content):
    derived = json.loads(json.dumps(collect.derive(content["rows"])))
    for key, value in derived.items():
        assert content[key] == value, key


def test_race_says_where_it_is_from(content):
    assert content["schema"] == "cross-entropy-race/1"
    assert content["columns"] == list(collect.COLUMNS)
    assert content["provenance"]["command"].startswith(
        "python -m book.experiments.cross_entropy.race"
    )
    assert (RESULTS / "cross_entropy.json").stat().st_size < 200_000
    for name, fact in content["problems"].items():
        assert fact["state"] == race.problem_hash(name), f"{name} changed after it was frozen"
    for name, method in content["methods"].items():
        assert name in methods.METHODS
        assert len(method["source"]) == 1, f"{name}: runs of several states are mixed"


def test_curves_and_rows_are_the_same_runs(content):
    rows = {(r[0], r[1]): r for r in content["rows"]}
    at = race.BUDGETS.index(30)
    for method, problem, seed, curve in content["curves"]:
        row = rows[method, problem]
        assert row[3][row[2].index(seed)] == curve[at]
        assert all(a >= 0 for a in curve)


@pytest.mark.parametrize("problem", ["rugged", "network"])
@pytest.mark.parametrize("method", ["random", "plain", "plus"])
def test_a_part_comes_out_again(content, method, problem):
    row = {(r[0], r[1]): r for r in content["rows"]}[method, problem]
    for seed in row[2][:2]:
        entry = race.one(method, problem, seed, 120)
        at = row[2].index(seed)
        for budget, stored in zip((30, 60, 120), row[3:6], strict=True):
            found = entry["regret"][race.BUDGETS.index(budget)]
            assert collect.whole(found) == stored[at], (method, problem, seed, budget)


def test_what_the_page_says_of_the_duels(content):
    """The claims in the prose of the evidence of chapter 2, from the stored comparisons."""
    held = [c for c in content["comparisons"] if c["half"] == "held-out"]
    found = {(c["ours"], c["peer"], c["budget"]): c for c in held}

    def ahead(ours, peer, budget):
        c = found[ours, peer, budget]
        return c["holm"] < 0.05 and c["wins"] > c["losses"]

    for budget, words in ((30, "At 30 it is {} to {}"), (60, "a lead in pairs, {} wins to {}")):
        c = found["posterior", "gp", budget]
        assert words.format(c["wins"], c["losses"]) in page()
    smac, gp = found["posterior", "smac", 60], found["posterior", "gp", 60]
    assert f"met: {smac['wins']} wins to {smac['losses']} losses at 60" in page()
    assert f"ahead at 60, {gp['wins']} to {gp['losses']}" in page()
    peers = [m for m, fact in content["methods"].items() if not fact["ours"]]
    won = {(p, b) for p in peers for b in (60, 120) if ahead("posterior", p, b)}
    assert won == {(p, b) for p in peers for b in (60, 120)} - {("gp", 120)}
    assert found["posterior", "gp", 30]["holm"] > 0.05
    for budget in (30, 60, 120, 240):  # level with TPE, as the page admits
        assert found["plus", "tpe", budget]["holm"] > 0.05
    costs = {(m, p): ms for m, p, _, budget, ms in content["costs"] if budget == 120}
    ratios = {p: ms / costs["posterior", p] for (m, p), ms in costs.items() if m == "gp"}
    assert {p for p, ratio in ratios.items() if ratio < 3} == {"conditional"}


# ------------------------------------------------------------------ what the page prints


def test_regret_by_hand_and_against_the_problems():
    p = problems.problem("mixed-dev", 1)
    for value in (p.best, p.median, 0.3 + p.best):
        assert normalised_regret(value, p.best, p.median) == pytest.approx(p.regret(value))
    with pytest.raises(ValueError, match="median"):
        normalised_regret(1.0, 1.0, 1.0)
    with pytest.raises(ValueError, match="value"):
        normalised_regret(0.0, 1.0, 2.0)
    with pytest.raises(ValueError, match="median"):
        normalised_regret(1.0, 0.0, float("nan"))


def test_page_prints_the_stored_numbers(content):
    stored = results.race()
    assert stored == content
    rows = results.standings(stored)
    expected = {(s["method"], s["budget"]): s for s in content["summary"]}
    assert [row["after 60"].value for row in rows] == sorted(
        s["mean"] for (_, budget), s in expected.items() if budget == 60
    )
    by_label = {row["method"]: row for row in rows}
    for (method, budget), s in expected.items():
        assert by_label[results.METHODS[method]][f"after {budget}"] == (s["mean"], s["error"])
        usual = 240 if budget < 240 else 120  # what the page says of the runs
        fewer = {("smac", 30): 120, ("smac", 60): 120, ("smac", 120): 36, ("gp", 120): 48}
        assert s["runs"] == fewer.get((method, budget), usual)
    assert by_label["SMAC"]["after 240"] is None
    lines = str(table(rows, results.FORMATS)).splitlines()
    assert f"{rows[0]['after 60']:.3f}" in lines[1]
    assert results.METHODS.keys() == content["methods"].keys()
    assert {results.problem_label(name) for name in content["problems"]}  # each has one
    assert [row["problem"] for row in results.suite(stored)] == [
        results.problem_label(name) for name in results.problems(stored)
    ]
    with pytest.raises(ValueError, match="half must be one of"):
        results.standings(stored, "both")
    with pytest.raises(ValueError, match="budget must be one of 30, 60, 120"):
        results.by_problem(stored, 61, ["tpe"])
    with pytest.raises(ValueError, match="method must be one of"):
        results.by_problem(stored, 60, ["nobody"])
    with pytest.raises(ValueError, match="method must be one of"):
        results.duels(stored, "nobody")
    with pytest.raises(ValueError, match="must be of schema"):
        read("word2vec_confirmation.json", "cross-entropy-race/1")
    with pytest.raises(FileNotFoundError, match="no_such"):
        read("no_such.json", "cross-entropy-race/1")


def test_duels_have_student_intervals_and_name_every_loss(content):
    (c,) = (
        c
        for c in content["comparisons"]
        if (c["half"], c["ours"], c["peer"], c["budget"]) == ("held-out", "plus", "tpe", 60)
    )
    assert c["problems"] == 12  # Student's quantile for eleven degrees of freedom is 2.201
    shown = [row for row in results.duels(content, "plus") if row["against"] == "TPE"]
    assert shown[1]["difference"].error == pytest.approx(2.201 * c["error"], rel=1e-4)
    assert (shown[1]["wins"], shown[1]["losses"]) == (c["wins"], c["losses"])
    assert shown[1]["behind on"].split(", ") == [results.problem_label(p) for p in c["worse_on"]]


def test_what_figures_read_is_made_of_the_stored_race(tmp_path, monkeypatch):
    monkeypatch.setattr(explorer_tables, "EVIDENCE", tmp_path / "evidence.json")
    explorer_tables.evidence(check=False)
    stored = TABLES / "search_evidence.json"
    assert (tmp_path / "evidence.json").read_bytes() == stored.read_bytes()
    assert stored.stat().st_size <= 60_000


def test_a_duel_of_the_figure_by_hand():
    rows = [
        ["plus", "nk", [0, 1, 2], [], [100, 200, 300], [], [], [], [], 1.0],
        ["random", "nk", [0, 1, 2, 3], [], [100, 305, 100, 7], [], [], [], [], 1.0],
    ]
    wins, ties, losses, mean, half = explorer_tables.duel(rows, "plus", "random", "nk", 60)
    assert (wins, ties, losses, mean) == (1, 1, 1, round((0 - 105 + 200) / 3))
    # 0, −105, 200: standard deviation 154.9, and Student's quantile for two degrees is 4.303
    assert half == round(4.3027 * 154.866 / 3**0.5)
    assert explorer_tables.duel(rows, "plus", "tpe", "nk", 60) == []


def test_cost_ratios_by_hand():
    costs = [["gp", "nk", 0, 120, 90.0], ["gp", "nk", 1, 120, 60.0], ["plus", "nk", 0, 120, 3.0]]
    costs += [["plus", "nk", 1, 120, 3.0], ["gp", "nk", 0, 60, 1.0]]
    rows = results.cost_ratios({"costs": costs, "methods": ("gp", "plus", "tpe")}, "plus")
    lines = str(table(rows)).splitlines()
    assert lines[0].endswith("times that of CE plus")
    assert lines[1].split() == ["Gaussian", "process", "75.000", "2", "25.000", "(20.000–30.000)"]
    assert lines[2].split() == ["CE", "plus", "3.000", "2", "1.000", "(1.000–1.000)"]
    assert len(lines) == 3


def test_front_volumes_by_counting():
    """The true fronts' hypervolumes, which are written down by hand, on a fine grid of points."""
    t = np.linspace(0, 1, 1200)
    for name, second in (("ZDT1", 1 - np.sqrt(t)), ("ZDT2", 1 - t * t)):
        _, size, reference, whole = objectives.PROBLEMS[name]
        front = np.column_stack([t, second])
        assert objectives.hypervolume(front, np.array(reference)) == pytest.approx(whole, rel=1e-3)
        x = np.append(0.3, np.zeros(size - 1))
        assert objectives.PROBLEMS[name][0](x)[0] == 0.3
        assert objectives.PROBLEMS[name][0](x)[1] == pytest.approx(np.interp(0.3, t, second))
    losses, size, reference, whole = objectives.PROBLEMS["DTLZ2"]
    a, b = np.random.default_rng(0).random((2, 200))
    front = np.array([losses(np.array([*x, *[0.5] * (size - 2)])) for x in zip(a, b, strict=True)])
    assert (front**2).sum(1) == pytest.approx(1)
    below = objectives.hypervolume(front, np.array(reference))
    assert 0.98 * whole < below < whole


def test_several_objectives_are_complete_and_what_the_page_says():
    stored = results.several()
    assert [tuple(r[:3]) for r in stored["rows"]] == [
        (p, m, s) for s in objectives.SEEDS for p in objectives.PROBLEMS for m in objectives.METHODS
    ]
    assert tuple(stored["budgets"]) == objectives.BUDGETS
    rows = results.missing_volume(stored)
    means = {(r["problem"], r["method"]): r["at 100"].value for r in rows}
    for problem in objectives.PROBLEMS:
        ranked = sorted((v, m) for (p, m), v in means.items() if p == problem)
        assert [m for _, m in ranked[:2]] == ["CE posterior", "CE plus"]
    assert "at 50" in str(table(rows, results.FORMATS))


@pytest.mark.parametrize("method", ["nsga2", "plus"])
def test_a_part_of_several_objectives_comes_out_again(method):
    row = next(r for r in results.several()["rows"] if r[:3] == ["ZDT2", method, 3])
    assert objectives.one(*row[:3])[:-1] == row[:-1]


def test_confirmation_by_hand():
    rows = [
        ["wikipedia", m, s, 0.6, 9.0, {"auc": v}, 1.0]
        for m, values in (("random", (0.5, 0.6)), ("plus", (0.7, 0.6)))
        for s, v in enumerate(values)
    ]
    stored = {"rows": rows, "border": [["a", 0, 0.1]] * 2}
    line = str(table(results.confirmed(stored, "plus"), results.FORMATS)).splitlines()[1].split()
    # the difference is 0.1 with standard error 0.1; Student's quantile for one degree is 12.706
    assert " ".join(line) == "AUC CE plus 0.650 ± 0.071 0.550 ± 0.071 +0.100 ± 1.271 1 0"
    assert str(table(results.beyond_the_grid(stored))).splitlines()[1] == "a        0.100 ± 0.000"
    with pytest.raises(ValueError, match="method must be one of"):
        results.confirmed(stored, "tpe")


def test_a_part_of_the_confirmation_comes_out_again():
    """The search, what it cost, and one fresh training of what it found."""
    content = store.read(confirm.PATH)
    assert content["columns"] == list(confirm.COLUMNS)
    assert content["provenance"]["command"].startswith(
        "python -m book.experiments.cross_entropy.confirm"
    )
    rows = {tuple(row[:3]): row for row in content["rows"]}
    assert len(rows) == 2 * len(confirm.METHODS) * len(confirm.SEEDS)
    for which in ("planted", "wikipedia"):
        for seed in confirm.SEEDS:
            spent = {m: rows[which, m, seed][4] for m in confirm.METHODS}
            assert max(spent["plus"], spent["posterior"]) <= 0.5 * spent["random"] + 0.1
        for method in ("random", "plus"):
            _, value, spent_again = confirm.chosen(which, method, confirm.SEEDS[0])
            row = rows[which, method, confirm.SEEDS[0]]
            assert (round(value, 4), round(spent_again, 1)) == (row[3], row[4])
    again = confirm.one("planted", "plus", confirm.SEEDS[0])
    stored = rows["planted", "plus", confirm.SEEDS[0]]
    assert again[5]["correlation"] == pytest.approx(stored[5]["correlation"], abs=2e-3)


def test_mean_curves_pass_through_the_summary(content):
    summary = {(s["half"], s["method"], s["budget"]): s["mean"] for s in content["summary"]}
    for half, method, budgets, means in content["mean_curves"]:
        for b in (30, 60):
            if b in budgets:
                assert means[budgets.index(b)] == pytest.approx(summary[half, method, b], abs=2e-4)
