"""The numbers of chapter 2's explorers are the core's."""

import itertools
import math

import numpy as np
import pytest

from book.ch2_search import results
from genopt_core import tables
from genopt_core.cross_entropy import CrossEntropy, TabularObjective, drift_law, search_table
from genopt_core.cross_entropy.drift import drift_runs
from genopt_core.explorers import draw, run
from genopt_core.explorers.cross_entropy import drift, evidence, names, neighbours, noise, race


@pytest.fixture(scope="module")
def table():
    return TabularObjective.load("word2vec_planted")


def probabilities(drawn):
    """The columns of the bars of the first panel."""
    (bars,) = (mark for mark in drawn.panels[0].marks if mark.kind == "bar")
    return bars.columns


def test_generations_show_the_distribution_of_the_search(table):
    search = CrossEntropy(
        table.space, "plain", seed=1, direction="maximize", population_size=10, deterministic=True
    )
    for _ in range(30):
        trial = search.ask()
        search.tell(trial, table(trial.params))
    drawn = draw("cem-generations", generation=3, population=10, smoothing=0.7, seed=1)
    bars = probabilities(drawn)
    shown = [top - low for top, low in zip(bars["y"], bars["base"], strict=True)]
    want = [p for name in table.levels for p in search.distribution()[name]]
    assert shown == pytest.approx(want, abs=0.0051)
    assert f"{search.history[3].level:.3f}" in drawn.readout
    assert f"scores {search.best.value:.3f}" in drawn.readout


def test_generation_zero_is_uniform(table):
    drawn = draw("cem-generations", generation=0)
    bars = probabilities(drawn)
    assert bars["name"][0] == "architecture cbow, sum"
    assert bars["y"][0] - bars["base"][0] == pytest.approx(1 / 3, abs=0.01)
    assert f"{table.mean.max():.3f}" in drawn.readout


@pytest.mark.parametrize("method", ["plain", "plus"])
def test_the_stored_race_is_what_a_search_gives_today(method):
    for name in race.TABLES:
        objective = TabularObjective.load(name)
        found = search_table(objective, method, 40, seed=3)
        best = [found.true[: i + 1][found.observed[: i + 1].argmax()] for i in range(40)]
        want = objective.mean.max() - np.array(best)
        assert race.race_regrets(name, method)[3, :40] == pytest.approx(want, abs=6e-5)


def test_race_reads_the_stored_numbers():
    for method in race.METHODS:
        regrets = race.race_regrets("word2vec_planted", method)
        assert regrets.shape[0] == 20
        assert regrets.min() >= 0
        assert f"{regrets[:, 59].mean():.4f}" in draw("cem-race", method=method).readout


def test_noise_explorer_tells_claim_from_truth(table):
    one = noise.chosen_under_noise(0.1, 60, 0)
    claim, has, posterior = one.outcome
    said = draw("cem-noise", noise=0.1, draws=60, seed=0).readout
    assert f"claims {claim:.3f} and has {has:.3f}" in said
    assert f"choice has {posterior:.3f}" in said
    assert set(one.truth.tolist()) <= set(table.mean.ravel().tolist())
    claim, has, posterior = noise.mean_outcome(0.1, 60)
    assert claim > has + 0.05
    assert posterior > has
    quiet = noise.mean_outcome(0.0, 20)
    assert quiet[0] == quiet[1] == pytest.approx(quiet[2], abs=1e-3)


def test_drift_explorer_shows_the_law_and_the_core_s_runs():
    rng = np.random.default_rng([0, 5, 20, 70, False])
    runs = drift_runs(drift.RUNS, drift.CHOICES, 20, 5, 0.7, drift.GENERATIONS, rng)
    drawn = draw("cem-drift", objective="flat", population=20, elite_fraction=0.25, smoothing=0.7)
    _, mean, law = drawn.panels[0].marks
    assert mean.columns["y"] == pytest.approx((1 - (runs**2).sum(2)).mean(0), rel=1e-3)
    want = drift_law(drift.CHOICES, 5, 0.7, drift.GENERATIONS)
    assert law.columns["y"] == pytest.approx(want, rel=1e-3)


def test_neighbors_come_from_the_table():
    kept = tables.load("word2vec_neighbours")
    assert tuple(kept["before"]["neighbours"]) == neighbours.WORDS
    said = draw("w2v-neighbours", word="gold").readout
    assert kept["after"]["neighbours"]["gold"][0][0] in said
    mean = np.mean(kept["after"]["scores"]["wordsim353"])
    assert f"to {mean:.2f}" in said


def test_search_table_costs_and_refusals(table):
    found = search_table(table, "random", 30, seed=2)
    total = found.cpu_seconds.sum()
    assert found.best() == found.best(total + 1) == found.true[found.observed.argmax()]
    assert found.best(found.cpu_seconds[0]) == found.true[0]
    assert table(found.best_params()) == found.best()
    assert found.best_params(found.cpu_seconds[0]) == found.params[0]
    with pytest.raises(ValueError, match="cpu_seconds"):
        found.best(0)
    for bad, error in ((0, ValueError), (True, TypeError), (2.5, TypeError)):
        with pytest.raises(error, match="n_evals"):
            search_table(table, "random", bad)
    # common random numbers: the same configuration at the same place meets the same training
    assert (search_table(table, "random", 30, seed=2).observed == found.observed).all()
    assert math.isfinite(total)


def test_a_search_in_the_browser_needs_numpy_alone():
    assert "error" not in run("cem-generations", {"generation": 1})


# ------------------------------------------------------------------ evidence


def test_the_race_shows_the_same_methods_in_both_panels_and_says_where_one_stops():
    for name in race.TABLES:
        drawn = draw("cem-race", table=name)
        above, below = drawn.panels
        assert list(above.series) == list(below.y.domain)
        lines = {z for mark in above.marks if mark.kind == "line" for z in mark.columns["z"]}
        assert lines == set(below.y.domain)
        assert "run to 60 trainings only" in drawn.cost
        words = [m.columns for m in above.marks if m.kind == "text"]
        said = [text for columns in words for text in columns["text"]]
        assert sorted(said) == sorted([*below.y.domain, "run to 60"]), "a name at each line's end"
        ends = {
            z: mark.columns["x"][-1]
            for mark in above.marks
            if mark.kind == "line"
            for z in mark.columns["z"]
            if len(mark.columns["x"]) < 100
        }
        for columns in words:
            for text, x in zip(columns["text"], columns["x"], strict=True):
                assert x == (60 if text == "run to 60" else ends[text])
        assert all(mark.columns["tip"] for mark in below.marks), "no tooltip says x and y"


def test_duels_are_those_of_the_stored_comparison():
    """Counts of the single problems add up to those over all, whose verdict is the test's."""
    for ours, budget in itertools.product(names.OURS, names.BUDGETS):
        drawn = draw("search-duels", ours=ours, budget=budget)
        for other in names.METHODS:
            if other == ours or not (found := evidence.duel(ours, other, budget, "all")):
                continue
            each = [evidence.duel(ours, other, budget, p) for p in evidence.HELD_OUT]
            assert tuple(found[:3]) == tuple(sum(duel[i] for duel in each) for i in range(3))
            assert found[3] == pytest.approx(np.mean([duel[3] for duel in each]), abs=2e-4)
            back = evidence.duel(other, ours, budget, "all") if other in names.OURS else None
            if back:
                assert (back[0], back[2], back[3], back[5]) == (*found[2::-2], -found[3], found[5])
        bars = [mark for mark in drawn.panels[0].marks if mark.kind == "bar"]
        assert bars[-1].columns["x"] == [1] * len(bars[-1].columns["x"])
        assert all(panel.y.domain == drawn.panels[0].y.domain for panel in drawn.panels)


def test_duels_say_what_the_test_tells():
    assert "ahead of all 11 others" in draw("search-duels").readout
    at_120 = draw("search-duels", budget=120).readout
    assert "ahead of 10 of 11 methods and level with the Gaussian process (26 wins to 12" in at_120
    assert "level with plain CE, TPE and CatCMA" in draw("search-duels", ours="plus").readout
    at_240 = draw("search-duels", budget=240)
    assert "all 8 others" in at_240.readout
    words = [t for m in at_240.panels[0].marks if m.kind == "text" for t in m.columns["text"]]
    assert words.count("not run to 240 evaluations") == 3
    assert evidence.verdict((9, 0, 1, 0.2, 0.1)) == "behind"
    assert evidence.verdict((1, 0, 9, -0.2, 0.3)) == "level"
    assert evidence.verdict((130, 33, 77, -0.04, 0.05, 0.012)) == "ahead"


def test_costs_are_the_stored_ones_and_add_up():
    race_of_all = results.race()
    means = {(m, p, b): mean for m, p, b, _, mean, _ in race_of_all["means"]}
    spent = {(row[0], row[1]): row[-1] for row in race_of_all["rows"]}
    for method in names.METHODS:
        assert evidence.spent(method, "nk") == spent[method, "nk"] / 1000
        got = evidence.regret(method, "rugged")
        want = [means.get((method, "rugged", b)) for b in names.BUDGETS]
        assert got == pytest.approx([v for v in want if v is not None], abs=1e-9)
        assert evidence.regret(method, "all")[1] == pytest.approx(
            np.mean([means[method, p, 60] for p in evidence.HELD_OUT]), abs=1e-6
        )
    said = draw("search-costs", evaluation=0.001).readout
    took = 60 * (0.001 + evidence.spent("posterior", "all"))
    assert f"with CE posterior take {took:.1f} s" in said
    assert f"makes {took / (0.001 + evidence.spent('random', 'all')):,.0f}" in said
