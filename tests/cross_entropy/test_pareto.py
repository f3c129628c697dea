"""Dominance and hypervolume, against definitions written out."""

import itertools

import numpy as np
import pytest

from genopt_core.cross_entropy.pareto import (
    dominance_ranks,
    free_boxes,
    hypervolume,
    hypervolume_gains,
    largest_shares,
    standing,
)


def dominates(a, b):
    return all(x <= y for x, y in zip(a, b, strict=True)) and tuple(a) != tuple(b)


def ranks_by_definition(losses):
    left, found, rank = set(range(len(losses))), {}, 0
    while left:
        front = {i for i in left if not any(dominates(losses[j], losses[i]) for j in left)}
        found |= dict.fromkeys(front, rank)
        left, rank = left - front, rank + 1
    return [found[i] for i in range(len(losses))]


def volume_by_counting(losses, reference):
    """Inclusion and exclusion over all subsets."""
    total = 0.0
    for size in range(1, len(losses) + 1):
        for some in itertools.combinations(losses, size):
            sides = np.maximum(reference - np.max(some, axis=0), 0)
            total -= (-1) ** size * np.prod(sides)
    return total


CASES = [(n, m, grid) for n in (1, 2, 7) for m in (1, 2, 3, 4) for grid in (0, 3)]


def points(n, m, grid):
    rng = np.random.default_rng([n, m, grid])
    return rng.integers(grid, size=(n, m)) / 2 if grid else rng.random((n, m))


@pytest.mark.parametrize(("n", "m", "grid"), [*CASES, (40, 2, 5), (40, 3, 0), (60, 4, 3)])
def test_ranks_are_those_of_the_definition(n, m, grid):
    losses = points(n, m, grid)  # on a grid there are ties and copies
    assert dominance_ranks(losses).tolist() == ranks_by_definition(losses.tolist())


@pytest.mark.parametrize(("n", "m", "grid"), CASES)
def test_hypervolume_is_that_of_all_subsets(n, m, grid):
    losses, reference = points(n, m, grid), np.full(m, 0.9)  # some lie beyond it
    assert hypervolume(losses, reference) == pytest.approx(volume_by_counting(losses, reference))


@pytest.mark.parametrize(("n", "m", "grid"), CASES)
def test_a_gain_is_the_difference_of_two_volumes(n, m, grid):
    losses, reference = points(n, m, grid), np.full(m, 0.9)
    new = np.random.default_rng(1).random((6, m)) * 1.2 - 0.1
    gains = hypervolume_gains(new, *free_boxes(losses, reference))
    before = hypervolume(losses, reference)
    after = [hypervolume(np.vstack([losses, row]), reference) for row in new]
    np.testing.assert_allclose(gains, np.array(after) - before, atol=1e-12)


@pytest.mark.parametrize("m", [2, 3, 4])
def test_free_boxes_do_not_overlap_and_leave_nothing_out(m):
    losses, reference = points(9, m, 0), np.ones(m)
    lower, upper = free_boxes(losses, reference)
    where = np.random.default_rng(2).random((500, m))
    inside = ((lower[None] < where[:, None]) & (where[:, None] < upper[None])).all(2).sum(1)
    free = ~(losses[None] <= where[:, None]).all(2).any(1)
    assert (inside == free).all()


def test_the_greedy_choice_is_that_of_trying_all():
    losses, reference = points(30, 2, 0), np.ones(2)
    chosen = largest_shares(losses, 5, reference).tolist()
    for k in range(5):
        volumes = [hypervolume(losses[[*chosen[:k], i]], reference) for i in range(30)]
        assert volumes[chosen[k]] == pytest.approx(max(volumes))
    assert sorted(largest_shares(losses, 99)) == list(range(30))


def test_standing_feasible_first_then_least_violation_then_failures():
    losses = np.array([[0.0, 0], [3, 1], [1, 3], [2, 2], [4, 4], [0, 9], [np.inf, 1], [2.9, 1.1]])
    violations = np.array([0.5, 0, 0, 0, 0, 0.1, 0, 0])
    scores = standing(losses, violations, 3)
    assert np.argsort(scores, kind="stable")[-3:].tolist() == [5, 0, 6]
    assert set(np.argsort(scores, kind="stable")[:4]) == {1, 2, 3, 7}
    # up to (4.3, 4.3) and beside (2, 2) and (1, 3), (2.9, 1.1) adds 1.4 * 0.9, (3, 1) 1.3 * 1
    assert set(np.argsort(scores, kind="stable")[:3]) == {1, 2, 3}
    one = standing(np.array([[2.0], [1], [2]]), np.zeros(3), 1)
    assert one.tolist() == [1, 0, 1], "the same score where trials are level"


def test_shapes_are_named():
    with pytest.raises(ValueError, match="losses must be a matrix"):
        dominance_ranks(np.zeros(3))
