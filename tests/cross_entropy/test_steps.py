"""Plateaus and steps: how they are told, and that nothing changes where there are none."""

import numpy as np
import pytest

from genopt_core.cross_entropy import CrossEntropy, Float, Integer, SearchSpace, posterior, steps
from genopt_core.cross_entropy.posterior import Posterior
from genopt_core.cross_entropy.surrogate import normal_scores

SPACE = SearchSpace({"x": Integer(0, 30), "y": Float(0, 1)})


def proposed(objective, trials=13, **settings):
    search = CrossEntropy(SPACE, seed=3, n_startup=6, **settings)
    found = []
    for _ in range(trials):
        trial = search.ask()
        found.append(trial.params)
        search.tell(trial, objective(trial.params))
    return found


def smooth(params):
    return (params["x"] - 7) ** 2 + params["y"]


def stepped(params):
    return float(params["x"] > 7) + float(params["y"] > 0.5)


@pytest.mark.parametrize(
    ("scores", "told"),
    [
        ([], False),
        ([1.0], False),
        ([1.0, 1.0], True),
        ([np.inf, np.inf, np.inf, 1.0, 2.0], False),  # failures are not a plateau
        ([*np.linspace(0, 1, 7), 0.0], True),  # two of eight
        ([*np.linspace(0, 1, 8), 0.0], False),  # two of nine
    ],
)
def test_a_quarter_of_exact_ties_tells_a_stepped_objective(scores, told):
    rows = np.arange(float(len(scores)))[:, None]
    assert steps.is_stepped(rows, np.array(scores)) is told


def test_a_setting_that_was_tried_again_is_no_tie():
    """Without `avoid_repeats` a search comes back to its best; it agrees with itself only."""
    rows, scores = np.array([[0.0], [1], [2], [2], [2], [2]]), np.array([3.0, 2, 1, 1, 1, 1])
    assert not steps.is_stepped(rows, scores)
    others = np.array([[0.0], [1], [2], [2], [2], [3]])  # now two settings share a value
    assert steps.is_stepped(others, scores)
    noisy = np.array([3.0, 2, 1, 1.5, 2, 1])  # of one setting, but of two values one is another's
    assert steps.is_stepped(rows, noisy)


def test_repeats_leave_a_smooth_search_as_it_is(monkeypatch):
    small = SearchSpace({"a": Integer(0, 2), "b": Integer(0, 1)})

    def proposed_again():
        search = CrossEntropy(small, seed=1, avoid_repeats=False)
        for _ in range(20):
            trial = search.ask()
            search.tell(trial, 2.0 * trial.params["a"] + 3.1 * trial.params["b"])
        return [trial.params for trial in search.trials]

    usual = proposed_again()
    monkeypatch.setattr(posterior, "is_stepped", lambda rows, scores: False)
    assert proposed_again() == usual


def test_rank_scores_by_hand_and_no_distance_counts():
    values = np.array([3.0, 1.0, 1.0, 9.0])
    # ranks 3, 1.5, 1.5, 4 of 4: quantiles of 2.625, 1.125, 1.125 and 3.625 over 4.25
    assert steps.rank_scores(values) == pytest.approx([0.2993, -0.6289, -0.6289, 1.0492], abs=1e-4)
    far = np.where(values == 9, 1e12, values)
    assert np.array_equal(steps.rank_scores(far), steps.rank_scores(values))
    assert np.array_equal(normal_scores(np.ones(5), None), np.zeros(5))
    z = normal_scores(values, None)
    assert (z.mean(), z.std()) == pytest.approx((0, 1))


def test_without_ties_nothing_changes(monkeypatch):
    usual = proposed(smooth)
    monkeypatch.setattr(posterior, "is_stepped", lambda rows, scores: False)
    assert proposed(smooth) == usual


def test_on_a_stepped_objective_proposals_change_and_are_those_of_a_resumed_search(monkeypatch):
    found = proposed(stepped)
    search = CrossEntropy(SPACE, seed=3, n_startup=6)
    for _ in range(9):
        trial = search.ask()
        search.tell(trial, stepped(trial.params))
    again = CrossEntropy(SPACE, seed=3, n_startup=6, trials=search.trials)
    assert again.ask().params == found[9]
    monkeypatch.setattr(posterior, "is_stepped", lambda rows, scores: False)
    assert proposed(stepped) != found


def test_a_plateau_is_to_be_beaten_by_a_margin(monkeypatch):
    """What is known to lie on the plateau gains less than what is far from any trial."""
    x = np.array([0.0, 1, 2, 3, 16, 17, 18, 19])
    rows = np.stack([x, np.full(8, 0.5)], 1)
    scores = np.array([2.0, 2, 2, 2, 1, 1, 1, 1])
    near, far = np.array([[17.0, 0.5]]), np.array([[30.0, 0.0]])

    def advantage():
        gain = Posterior(SPACE, True, 0.15)._gain(rows, scores, rows[:0], None)
        return float(gain(far)[0] / gain(near)[0])

    with_margin = advantage()
    monkeypatch.setattr(posterior, "MARGIN", 0.0)
    assert with_margin > 5 * advantage()


def test_a_share_of_the_proposals_comes_from_plus(monkeypatch):
    asked = []
    usual = posterior.propose_by_plus
    monkeypatch.setattr(
        posterior, "propose_by_plus", lambda *a: asked.append(len(a[1])) or usual(*a)
    )
    proposed(stepped, trials=24)
    assert 1 <= len(asked) <= 10  # of 18, a quarter expected
    asked.clear()
    proposed(smooth)
    assert not asked
