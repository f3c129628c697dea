"""The search race of chapter 2: its frozen problems, its statistics, and a part done again."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pytest
from places import RESULTS

from book.experiments.cross_entropy import collect as ce_collect
from book.experiments.cross_entropy import methods as ce_methods
from book.experiments.cross_entropy import problems as ce_problems
from book.experiments.cross_entropy import race as ce_race
from book.experiments.cross_entropy import tables as ce_tables

ALL = {**ce_problems.DEVELOPMENT, **ce_problems.HELD_OUT}


@pytest.fixture(scope="module")
def race() -> dict:
    return json.loads((RESULTS / "cross_entropy.json").read_text(encoding="utf-8"))


# ------------------------------------------------------------------ the problems


@pytest.mark.parametrize("name", sorted(ALL))
def test_optimum_is_a_bound_and_every_seed_another_instance(name):
    assert ce_collect.there(name), f"the table of {name} is not stored"
    first, second = ce_problems.problem(name, 0), ce_problems.problem(name, 1)
    rng = np.random.default_rng(5)
    draws = [first.draw(rng) for _ in range(200)]
    values = [first.true(x) for x in draws]
    assert min(values) >= first.best - 1e-9
    assert first.median - first.best > 0
    assert first.regret(first.best) == 0
    assert first.regret(first.median) == pytest.approx(1)
    assert sum(abs(first.true(x) - second.true(x)) > 1e-9 for x in draws) > 20
    again = ce_problems.problem(name, 0)
    assert [again.true(x) for x in draws] == values
    # Common random numbers: evaluation k has the same noise for every method.
    if first.noise:
        a, b = first(draws[0]), again(draws[1])
        assert a[0] - a[1] == pytest.approx(b[0] - b[1])


def test_optima_by_brute_force():
    small = ce_problems.category_dominant(3, (3, 4, 2, 3), ((0, 2),), 0.7, 0.5)
    choices = itertools.product(*(range(n) for n in (3, 4, 2, 3)), range(9), np.linspace(0, 1, 201))
    best = min(
        small.true({"c0": a, "c1": b, "c2": c, "c3": d, "k": k, "u": u})
        for a, b, c, d, k, u in choices
    )
    assert small.best <= best <= small.best + 2 * 0.0025 + 1e-9
    nk = ce_problems.nk(4, 5, 3, 2, "nk")
    best = min(
        nk.true({f"c{i}": v for i, v in enumerate(c)})
        for c in itertools.product(range(3), repeat=5)
    )
    assert nk.best == pytest.approx(best)


@pytest.mark.parametrize("name", ["network", "conditional", "rugged", "rosenbrock", "ackley"])
def test_optimum_is_reached_from_the_best_of_many_draws(name):
    """Coordinate search with falling steps comes near the optimum from some start."""
    found = []
    p = ce_problems.problem(name, 2)
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
                    options = [ce_methods.scaled(q, v) for v in u]
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
    path = ce_problems.TABLES[name]
    content = json.loads(path.read_text(encoding="utf-8"))
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
    pytest.importorskip("sklearn")
    stored = ce_problems.table(name)["scores"]
    last = len(ce_tables.TREES) - 1
    few = tuple(
        (n, k, v[:3] if i == 0 else v if i == last else v[-1:])
        for i, (n, k, v) in enumerate(ce_tables.TREES)
    )
    monkeypatch.setattr(ce_tables, "TREES", few)
    found = ce_tables.trees(name)
    np.testing.assert_allclose(found[:, 0, 0, 0, 0], stored[:3, -1, -1, -1, -1], atol=2e-3)


def test_transformer_table_comes_out_again(monkeypatch):
    pytest.importorskip("torch")
    stored = ce_problems.table("transformer")["scores"]
    few = tuple((n, k, v[2:4] if n == "learning_rate" else v[:1]) for n, k, v in ce_tables.TRAINING)
    monkeypatch.setattr(ce_tables, "TRAINING", few)
    shape = ce_tables.settings(ce_tables.SHAPES)[0]
    found = ce_tables.transformer(shape, seeds=(0,))[:, 0]
    at = stored[(0,) * len(ce_tables.SHAPES)][2:4, 0, 0, 0, 0]
    np.testing.assert_allclose(found, at, atol=2e-3)


# ------------------------------------------------------------------ the statistics


def test_sign_test_is_the_binomial_one():
    stats = pytest.importorskip("scipy.stats")
    for wins, losses in ((0, 0), (3, 9), (20, 1), (60, 40)):
        n = wins + losses
        expected = stats.binomtest(wins, n).pvalue if n else 1.0
        assert ce_collect.sign_test(wins, losses) == pytest.approx(expected)


def test_holm_by_hand():
    assert ce_collect.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert ce_collect.holm([0.9, 0.8]) == [1.0, 1.0]
    assert ce_collect.holm([]) == []


def test_comparison_by_hand():
    rows = [
        ["plus", "nk", [0, 1, 2], [], [100, 200, 300], [], [], [], [], 1.0],
        ["random", "nk", [0, 1, 2, 3], [], [100, 305, 100, 7], [], [], [], [], 1.0],
    ]
    c = ce_collect.compare(rows, "plus", "random", "held-out", 60)
    assert (c["wins"], c["ties"], c["losses"], c["problems"]) == (1, 1, 1, 1)
    assert c["difference"] == pytest.approx((0 - 0.0105 + 0.02) / 3, abs=1e-4)
    assert c["worse_on"] == ["nk"]


def test_a_search_that_plans_is_taken_at_the_budget_it_was_given():
    """The others' longest run holds the shorter ones."""
    runs = {b: {"regret": [b / 1000] * len(ce_race.BUDGETS)} for b in (60, 120)}
    at = [ce_race.BUDGETS.index(b) for b in (30, 60, 80, 120)]
    planned, other = ce_collect.curve("smac", runs), ce_collect.curve("tpe", runs)
    assert [planned[i] for i in at] == [0.06, 0.06, 0.12, 0.12]
    assert [other[i] for i in at] == [0.12] * 4
    assert len(planned) == len(other) == ce_race.BUDGETS.index(120) + 1


def test_newest_sources_and_the_timed_runs():
    """A run of other sources replaces those before; a table of another state does not count."""
    state = ce_race.problem_hash("nk")
    old = {"method": "plus", "problem": "nk", "seed": 0, "budget": 60, "suite": state, "cpu": 1.2}
    entries = [
        old | {"source": "a"},
        old | {"source": "b", "budget": 30},
        old | {"source": "c", "budget": 20, "timed": True},
        old | {"source": "b", "suite": "other", "budget": 120},
    ]
    assert set(ce_collect.newest(entries)["plus", "nk", 0]) == {30}
    assert ce_collect.costs_of(entries) == [["plus", "nk", 0, 20, 60.0]]


# ------------------------------------------------------------------ the stored race


def test_summary_is_that_of_the_rows(race):
    derived = json.loads(json.dumps(ce_collect.derive(race["rows"])))
    for key, value in derived.items():
        assert race[key] == value, key


def test_race_says_where_it_is_from(race):
    assert race["schema"] == "cross-entropy-race/1"
    assert race["columns"] == list(ce_collect.COLUMNS)
    assert race["provenance"]["command"].startswith("python -m book.experiments.cross_entropy.race")
    assert (RESULTS / "cross_entropy.json").stat().st_size < 200_000
    for name, fact in race["problems"].items():
        assert fact["state"] == ce_race.problem_hash(name), f"{name} changed after it was frozen"
    for name, method in race["methods"].items():
        assert name in ce_methods.METHODS
        assert len(method["source"]) == 1, f"{name}: runs of several states are mixed"


def test_curves_and_rows_are_the_same_runs(race):
    rows = {(r[0], r[1]): r for r in race["rows"]}
    at = ce_race.BUDGETS.index(30)
    for method, problem, seed, curve in race["curves"]:
        row = rows[method, problem]
        assert row[3][row[2].index(seed)] == curve[at]
        assert all(a >= 0 for a in curve)


@pytest.mark.parametrize("problem", ["rugged", "network"])
@pytest.mark.parametrize("method", ["random", "plain", "plus"])
def test_a_part_comes_out_again(race, method, problem):
    if method == "random":
        pytest.importorskip("optuna", reason="optuna is not installed")
    row = {(r[0], r[1]): r for r in race["rows"]}[method, problem]
    for seed in row[2][:2]:
        entry = ce_race.one(method, problem, seed, 120)
        at = row[2].index(seed)
        for budget, stored in zip((30, 60, 120), row[3:6], strict=True):
            found = entry["regret"][ce_race.BUDGETS.index(budget)]
            assert ce_collect.whole(found) == stored[at], (method, problem, seed, budget)


def test_what_the_page_says_of_the_duels(race):
    """The claims in the prose of ch2_worth, from the stored comparisons."""
    held = [c for c in race["comparisons"] if c["half"] == "held-out"]
    found = {(c["ours"], c["peer"], c["budget"]): c for c in held}

    def ahead(ours, peer, budget):
        c = found[ours, peer, budget]
        return c["holm"] < 0.05 and c["wins"] > c["losses"]

    peers = [m for m, fact in race["methods"].items() if not fact["ours"]]
    won = {(p, b) for p in peers for b in (60, 120) if ahead("posterior", p, b)}
    assert won == {(p, b) for p in peers for b in (60, 120)} - {("gp", 120)}
    assert found["posterior", "gp", 30]["holm"] > 0.05
    for budget in (30, 60, 120, 240):  # level with TPE, as the page admits
        assert found["plus", "tpe", budget]["holm"] > 0.05
    costs = {(m, p): ms for m, p, _, budget, ms in race["costs"] if budget == 120}
    ratios = {p: ms / costs["posterior", p] for (m, p), ms in costs.items() if m == "gp"}
    assert {p for p, ratio in ratios.items() if ratio < 3} == {"conditional"}


# ------------------------------------------------------------------ what the page prints


def test_regret_by_hand_and_against_the_problems():
    from genopt_core.explorers.cross_entropy.results import normalised_regret

    p = ce_problems.problem("mixed-dev", 1)
    for value in (p.best, p.median, 0.3 + p.best):
        assert normalised_regret(value, p.best, p.median) == pytest.approx(p.regret(value))
    with pytest.raises(ValueError, match="median"):
        normalised_regret(1.0, 1.0, 1.0)
    with pytest.raises(ValueError, match="value"):
        normalised_regret(0.0, 1.0, 2.0)
    with pytest.raises(ValueError, match="median"):
        normalised_regret(1.0, 0.0, float("nan"))


def test_page_prints_the_stored_numbers(race, tmp_path):
    from genopt_core.explorers.cross_entropy.results import SearchRace

    page = SearchRace.load(RESULTS / "cross_entropy.json")
    lines = page.standings("held-out", 60).splitlines()[1:]
    means = [float(line.split()[0]) for line in lines]
    assert means == sorted(means)
    stored = [s for s in race["summary"] if (s["half"], s["budget"]) == ("held-out", 60)]
    assert means == [round(v, 3) for v in sorted(s["mean"] for s in stored)]
    assert page.label("tpe") == "TPE (Optuna)"
    assert len(page.costs().splitlines()) == len(race["methods"])
    with pytest.raises(ValueError, match="half must be one of"):
        page.standings("both", 60)
    with pytest.raises(ValueError, match="budget must be one of 30, 60, 120"):
        page.by_problem(61, ["tpe"])
    with pytest.raises(ValueError, match="method must be one of"):
        page.duels("nobody")
    other = tmp_path / "other.json"
    other.write_text('{"schema": "x/1"}', encoding="utf-8")
    with pytest.raises(ValueError, match="not a race"):
        SearchRace.load(other)


def test_cost_ratios_by_hand():
    from genopt_core.explorers.cross_entropy.results import SearchRace

    costs = [["gp", "nk", 0, 120, 90.0], ["gp", "nk", 1, 120, 60.0], ["plus", "nk", 0, 120, 3.0]]
    costs += [["plus", "nk", 1, 120, 3.0], ["gp", "nk", 0, 60, 1.0]]
    methods = {m: {"label": m} for m in ("gp", "plus", "tpe")}
    lines = SearchRace({"costs": costs, "methods": methods}).cost_ratios("plus").splitlines()
    assert lines[1].split() == ["75.0", "2", "25.00", "(20.00,", "30.00)", "gp"]
    assert lines[2].split() == ["3.0", "2", "1.00", "(1.00,", "1.00)", "plus"]
    assert len(lines) == 3


def test_confirmation_by_hand(tmp_path):
    from genopt_core.explorers.cross_entropy.results import Confirmation

    rows = [
        ["wikipedia", m, s, 0.6, 9.0, {"auc": v}, 1.0]
        for m, values in (("random", (0.5, 0.6)), ("plus", (0.7, 0.6)))
        for s, v in enumerate(values)
    ]
    content = {"schema": "word2vec-confirmation/1", "rows": rows, "border": [["a", 0, 0.1]] * 2}
    path = tmp_path / "c.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    page = Confirmation.load(path)
    line = page.table("plus").splitlines()[1].split()
    # the difference is 0.1 with standard error 0.1; Student's quantile for one degree is 12.706
    assert " ".join(line) == "auc 0.550 ± 0.071 0.650 ± 0.071 +0.100 ± 1.271 1 0"
    assert page.beyond_the_grid() == "0.100 ± 0.000  a"
    with pytest.raises(ValueError, match="method must be one of"):
        page.table("tpe")
    path.write_text('{"schema": "x/1"}', encoding="utf-8")
    with pytest.raises(ValueError, match="not a confirmation"):
        Confirmation.load(path)


def test_a_part_of_the_confirmation_comes_out_again():
    """The search, what it cost, and one fresh training of what it found."""
    pytest.importorskip("gensim")
    from book.experiments.cross_entropy import confirm as ce_confirm

    content = json.loads(ce_confirm.PATH.read_text(encoding="utf-8"))
    assert content["columns"] == list(ce_confirm.COLUMNS)
    assert content["provenance"]["command"].startswith(
        "python -m book.experiments.cross_entropy.confirm"
    )
    rows = {tuple(row[:3]): row for row in content["rows"]}
    assert len(rows) == 2 * len(ce_confirm.METHODS) * len(ce_confirm.SEEDS)
    for which in ("planted", "wikipedia"):
        for seed in ce_confirm.SEEDS:
            spent = {m: rows[which, m, seed][4] for m in ce_confirm.METHODS}
            assert max(spent["plus"], spent["posterior"]) <= 0.5 * spent["random"] + 0.1
        for method in ("random", "plus"):
            _, value, spent_again = ce_confirm.chosen(which, method, ce_confirm.SEEDS[0])
            row = rows[which, method, ce_confirm.SEEDS[0]]
            assert (round(value, 4), round(spent_again, 1)) == (row[3], row[4])
    again = ce_confirm.one("planted", "plus", ce_confirm.SEEDS[0])
    stored = rows["planted", "plus", ce_confirm.SEEDS[0]]
    assert again[5]["correlation"] == pytest.approx(stored[5]["correlation"], abs=2e-3)


def test_mean_curves_pass_through_the_summary(race):
    summary = {(s["half"], s["method"], s["budget"]): s["mean"] for s in race["summary"]}
    for half, method, budgets, means in race["mean_curves"]:
        for b in (30, 60):
            if b in budgets:
                assert means[budgets.index(b)] == pytest.approx(summary[half, method, b], abs=2e-4)
