"""Dominance and hypervolume, against definitions written out."""

import itertools

import numpy as np
import pytest

from genopt_core.cross_entropy import pareto
from genopt_core.cross_entropy.pareto import (
    cut_boxes,
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


CASES = [(n, m, grid) for n in (1, 2, 7) for m in (1, 2, 3, 4, 5, 7) for grid in (0, 3)]


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


@pytest.mark.parametrize("m", [2, 3, 4, 5, 7])
def test_free_boxes_do_not_overlap_and_leave_nothing_out(m):
    losses, reference = points(9, m, 0), np.ones(m)
    lower, upper = free_boxes(losses, reference)
    where = np.random.default_rng(2).random((500, m))
    inside = ((lower[None] < where[:, None]) & (where[:, None] < upper[None])).all(2).sum(1)
    free = ~(losses[None] <= where[:, None]).all(2).any(1)
    assert (inside == free).all()


def front(n, m):
    """Vectors of which none dominates another."""
    x = np.abs(np.random.default_rng([n, m]).normal(size=(n, m)))
    return x / np.linalg.norm(x, axis=1, keepdims=True)


@pytest.mark.parametrize(("n", "m"), [(10, 4), (10, 7), (12, 5)])
def test_the_volume_of_a_front_of_many_losses(n, m):
    losses, reference = front(n, m), np.full(m, 1.1)
    wanted = volume_by_counting(losses, reference)
    assert hypervolume(losses, reference) == pytest.approx(wanted, rel=1e-12)


@pytest.mark.parametrize(("n", "m"), [(40, 4), (25, 6)])
def test_the_volume_is_that_of_optuna(n, m):
    wfg = pytest.importorskip("optuna._hypervolume.wfg")
    losses, reference = front(n, m), np.full(m, 1.1)
    wanted = wfg.compute_hypervolume(losses, reference)
    assert hypervolume(losses, reference) == pytest.approx(wanted, rel=1e-12)


@pytest.mark.parametrize(("m", "most"), [(4, 140), (5, 500), (6, 1000), (7, 2000)])
def test_few_boxes_are_left_of_many_losses(m, most):
    """Slabs are 152, 786, 1434 and 5550."""
    assert len(free_boxes(front(10, m), np.full(m, 1.1))[0]) < most


@pytest.mark.parametrize("m", [4, 6])
def test_no_box_is_empty(m):
    """Also where vectors are level in some losses."""
    lower, upper = free_boxes(points(40, m, 3), np.full(m, 1.1))
    assert (lower < upper).all()


def test_boxes_of_three_losses_are_slabs():
    """Other boxes would round otherwise, and stored results of the book would change."""
    losses, reference = np.array([[0.0, 0, 1], [1, 1, 0]]), np.full(3, 2.0)
    lower, upper = free_boxes(losses, reference)
    none = -np.inf
    assert lower.tolist() == [
        [none, none, none], [none, none, 0], [none, 1, 0], [none, none, 1], [none, 0, 1],
    ]  # fmt: skip
    assert upper.tolist() == [[2, 2, 0], [2, 1, 1], [1, 2, 1], [2, 0, 2], [0, 2, 2]]


@pytest.mark.parametrize("m", [1, 2, 5])
def test_a_cut_divides_boxes_into_what_is_dominated_and_the_rest(m):
    rng = np.random.default_rng(m)
    boxes = free_boxes(points(4, m, 0), np.ones(m))
    for vector in (rng.random(m) / 2, np.full(m, -1.0), np.ones(m)):
        free, taken = cut_boxes(boxes, vector)
        where = rng.random((500, m)) * 1.2 - 0.2
        before, left, gone = (
            ((lower[None] < where[:, None]) & (where[:, None] < upper[None])).all(2).sum(1)
            for lower, upper in (boxes, free, taken)
        )
        below = (vector < where).all(1)
        assert (gone == before * below).all()
        assert (left == before * ~below).all()


def test_gains_do_not_depend_on_the_parts_they_are_computed_in(monkeypatch):
    for m in (2, 3, 5):
        boxes, new = free_boxes(front(9, m), np.full(m, 1.1)), points(11, m, 0)
        whole = hypervolume_gains(new, *boxes)
        for pairs in (1, 3 * len(boxes[0]), 11 * len(boxes[0])):
            monkeypatch.setattr(pareto, "PAIRS", pairs)
            assert np.array_equal(hypervolume_gains(new, *boxes), whole)
        monkeypatch.undo()


@pytest.mark.parametrize("m", [2, 4, 6])
def test_the_greedy_choice_is_that_of_trying_all(m):
    losses, reference = points(30, m, 0), np.ones(m)
    chosen = largest_shares(losses, 5, reference).tolist()
    for k in range(5):
        volumes = [hypervolume(losses[[*chosen[:k], i]], reference) for i in range(30)]
        assert volumes[chosen[k]] == pytest.approx(max(volumes))
    assert sorted(largest_shares(losses, 99)) == list(range(30))
    copies = np.repeat(front(5, m), 3, axis=0)  # a copy adds nothing
    assert sorted(largest_shares(copies, 5, np.full(m, 1.1)) // 3) == [0, 1, 2, 3, 4]
    assert largest_shares(copies, 0, np.full(m, 1.1)).tolist() == []
    beyond = np.concatenate([np.full((1, m), 3.0), front(30, m)])
    assert largest_shares(beyond, 31, np.full(m, 1.1))[-1] == 0


def test_the_choice_among_many_losses_does_not_depend_on_their_units():
    losses = points(30, 5, 0)
    wanted = largest_shares(losses, 6).tolist()
    with np.errstate(all="raise"):
        assert (
            largest_shares(losses * 2.0 ** np.array([400, 0, -9, 300, 500]), 6).tolist() == wanted
        )
    assert largest_shares(losses[:0], 6, np.ones(5)).tolist() == []


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


@pytest.mark.parametrize("objectives", [4, 5])
def test_what_adds_nothing_keeps_its_order(objectives):
    """Each vector twice, as discrete parameters give them: the second ones come last, in order."""
    rng = np.random.default_rng(objectives)
    once = rng.random((6, objectives))
    once = once[(once[:, None] <= once[None]).all(2).sum(0) == 1]  # none dominates another
    front = np.concatenate([once, once])
    order = largest_shares(front, len(front), np.full(objectives, 1.1))
    n = len(once)
    assert sorted(order[:n].tolist()) == list(range(n))
    assert order[n:].tolist() == list(range(n, 2 * n))
