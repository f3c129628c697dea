"""The numbers of chapter 2's explorers are the core's."""

import math

import numpy as np
import pytest

from genopt_core.cross_entropy import CrossEntropy, TabularObjective, drift_law, search_table
from genopt_core.explorers import draw, run
from genopt_core.explorers.cross_entropy import generations as ce
from genopt_core.explorers.cross_entropy import race


@pytest.fixture(scope="module")
def table():
    return TabularObjective.load("word2vec_planted")


def test_generations_show_the_distribution_of_the_search(table):
    search = CrossEntropy(
        table.space, "plain", seed=1, direction="maximize", population_size=10, deterministic=True
    )
    for _ in range(30):
        trial = search.ask()
        search.tell(trial, table(trial.params))
    drawn = draw("cem-generations", generation=3, population=10, smoothing=0.7, seed=1)
    bars = drawn.panels[0].marks[0].columns
    shown = [top - low for top, low in zip(bars["y2"], bars["y1"], strict=True)]
    want = [p for name in table.levels for p in search.distribution()[name]]
    assert shown == pytest.approx(np.maximum(want, 0.012), abs=0.011)
    assert f"{search.history[3].level:.3f}" in drawn.readout
    assert f"scores {search.best.value:.3f}" in drawn.readout


def test_generation_zero_is_uniform(table):
    drawn = draw("cem-generations", generation=0)
    bars = drawn.panels[0].marks[0].columns
    assert bars["y2"][0] - bars["y1"][0] == pytest.approx(1 / 3, abs=0.01)
    assert f"{table.mean.max():.3f}" in drawn.readout


def test_drift_runs_follow_the_law_and_the_core():
    runs = np.concatenate([ce.drift_runs(5, 0.7, 20, False, seed) for seed in range(100)])
    diversity = (1 - (runs**2).sum(axis=2)).mean(axis=0)
    law = drift_law(ce.CHOICES, 5, 0.7, ce.DRIFT_GENERATIONS)
    assert diversity[:8] == pytest.approx(law[:8], rel=0.04)
    assert runs.sum(axis=2) == pytest.approx(np.ones(runs.shape[:2]))
    sloped = ce.drift_runs(5, 0.7, 20, True)
    # at the first step the elite of 20 uniform draws is the five smallest
    assert sloped[:, 1, 0].mean() > 0.3
    assert (sloped[:, -1].argmax(axis=1) == 0).mean() > 0.8


def test_sloped_elites_are_the_smallest_of_the_draw():
    rng = np.random.default_rng([0, 3, 12, 50, True])
    drawn = rng.multinomial(12, np.full((ce.RUNS, ce.CHOICES), 1 / ce.CHOICES))
    first = ce.drift_runs(3, 0.5, 12, True)[:, 1]
    for row, p in zip(drawn, first, strict=True):
        values = np.repeat(np.arange(ce.CHOICES), row)[:3]
        want = 0.5 / ce.CHOICES + 0.5 * np.bincount(values, minlength=ce.CHOICES) / 3
        assert p == pytest.approx(want)


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


def test_posterior_means_without_noise_are_the_values_and_with_much_the_mean():
    rng = np.random.default_rng(0)
    cells, values = rng.integers(0, 4, (12, 3)), rng.normal(size=12)
    cells = np.unique(cells, axis=0)
    values = values[: len(cells)]
    assert race.posterior_means(cells, values, 0.0) == pytest.approx(values, abs=1e-3)
    flat = race.posterior_means(cells, values, 50.0)
    assert flat == pytest.approx(np.full(len(cells), values.mean()), abs=0.01)


def test_noise_explorer_tells_claim_from_truth(table):
    truth, observed, lucky, chosen = race.noisy_draw(0.1, 60, 0)
    said = draw("cem-noise", noise=0.1, draws=60, seed=0).readout
    assert f"claims {observed[lucky]:.3f} and has {truth[lucky]:.3f}" in said
    assert f"choice has {truth[chosen]:.3f}" in said
    assert set(truth.tolist()) <= set(table.mean.ravel().tolist())
    claim, has, posterior = race.noise_summary(0.1, 60)
    assert claim > has + 0.05
    assert posterior > has
    quiet = race.noise_summary(0.0, 20)
    assert quiet[0] == quiet[1] == pytest.approx(quiet[2], abs=1e-3)


def test_neighbours_come_from_the_table():
    kept = race.stored("word2vec_neighbours.json")
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
    for bad in (0, True, 2.5):
        with pytest.raises(ValueError, match="n_evals"):
            search_table(table, "random", bad)
    # common random numbers: the same configuration at the same place meets the same training
    assert (search_table(table, "random", 30, seed=2).observed == found.observed).all()
    assert math.isfinite(total)


def test_a_search_in_the_browser_needs_numpy_alone():
    assert "error" not in run("cem-generations", {"generation": 1})
