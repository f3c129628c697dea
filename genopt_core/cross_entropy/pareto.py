r"""Several objectives: dominance, hypervolume, and the order in which trials are elite.

A loss vector dominates another if it is nowhere larger and somewhere smaller.  The hypervolume of
some vectors is the volume that they dominate below a reference point; what one adds to others is
its share.  All losses are to be minimized.

Notation, with n vectors of m losses and k boxes::

    losses        (n, m)
    reference     (m,)     the point up to which volume counts
    lower, upper  (k, m)   corners of boxes; together they fill what is below the reference and
                           dominated by none, without overlap; ``lower`` may be minus infinity

Up to three losses the boxes are slabs, from four on they are what cuts leave: fewer, and of ten
vectors found 10 times as fast for four losses, 250 times for seven.  Slabs stay because stored
results of the book were proposed with them, and other boxes round otherwise.
"""

from itertools import pairwise

import numpy as np

from genopt_core.cross_entropy.parameters import Array

MARGIN = 0.1
"""How far the reference lies beyond the worst losses, in parts of their range."""
MOST_IN_SLABS = 3
"""The most losses for which what is free is filled with slabs."""
PAIRS = 200_000
"""The most pairs of a vector and a box at a time, so that memory stays small."""

Boxes = tuple[Array, Array]
"""Lower and upper corners, (k, m) each."""


def dominance_ranks(losses: Array) -> Array:
    r"""The front to which each vector belongs, (n,): 0 for what none dominates, 1 without those, …

    Cost :math:`O(n^2 m)` a front.

    References
    ----------
    K. Deb et al., A fast and elitist multiobjective genetic algorithm: NSGA-II, 2002.

    Examples
    --------
    >>> dominance_ranks(np.array([[0.0, 2], [1, 1], [2, 2], [1, 3], [0, 2]]))
    array([0, 0, 1, 1, 0])
    """
    losses = _matrix(losses)
    ranks = np.full(len(losses), -1)
    left, rank = np.arange(len(losses)), 0
    while len(left):
        front = left[_is_on_front(losses[left])]
        ranks[front] = rank
        left, rank = left[ranks[left] < 0], rank + 1
    return ranks


def _is_on_front(losses: Array) -> Array:
    """Whether no other vector dominates; a row alone is compared, so that memory stays small."""
    found = np.ones(len(losses), bool)
    for i, row in enumerate(losses):
        if found[i]:  # whatever a dominated row dominates, its dominator does too
            found &= ~((row <= losses).all(1) & (row < losses).any(1))
    return found


def reference_point(losses: Array) -> Array:
    """A point beyond the worst losses by `MARGIN` of their range, (m,); by 1 where that is 0.

    >>> reference_point(np.array([[0.0, 5], [1, 5]]))
    array([1.1, 6. ])
    """
    losses = _matrix(losses)
    worst, extent = losses.max(0), np.ptp(losses, axis=0)
    return worst + np.where(extent > 0, MARGIN * extent, 1.0)


def free_boxes(losses: Array, reference: Array) -> Boxes:
    r"""Boxes that fill what is below the reference and dominated by no vector: their corners.

    Up to three losses, the last is cut into slabs between the vectors; in each slab those below it
    matter, by the losses before it.  From four on, one vector after the other is cut out of all
    boxes (`cut_boxes`).  At most n + 1 boxes for two losses, of the order of :math:`n^{m-1}` for m:
    of ten vectors some 300 for five losses and 1,400 for seven.

    >>> lower, upper = free_boxes(np.array([[0.0, 1], [1, 0]]), np.array([2.0, 2]))
    >>> lower.tolist(), upper.tolist()
    ([[-inf, -inf], [-inf, 0.0], [-inf, 1.0]], [[2.0, 0.0], [1.0, 1.0], [0.0, 2.0]])
    """
    losses, reference = _matrix(losses), np.asarray(reference, float)
    losses = losses[(losses < reference).all(1)]
    if len(reference) == 1:
        top = min(losses[:, 0], default=reference[0])
        return np.array([[-np.inf]]), np.array([[top]])
    losses = np.unique(losses, axis=0)
    losses = losses[_is_on_front(losses)]
    if len(reference) > MOST_IN_SLABS:
        boxes = _everything(reference)
        # The largest first: what it takes needs no more cuts, so that fewer boxes are left.
        for i in np.argsort(-np.prod(reference - losses, axis=1), kind="stable"):
            boxes, _ = cut_boxes(boxes, losses[i])
        return boxes
    if len(reference) == 2:  # a staircase: its steps at once
        losses = losses[::-1]  # the last loss rises, the first falls
        lower = np.column_stack([np.full(len(losses) + 1, -np.inf), [-np.inf, *losses[:, 1]]])
        upper = np.column_stack([[reference[0], *losses[:, 0]], [*losses[:, 1], reference[1]]])
        return lower, upper
    cuts = [-np.inf, *np.unique(losses[:, -1]), reference[-1]]
    lowers, uppers = [], []
    for low, high in pairwise(cuts):
        below = losses[losses[:, -1] <= low, :-1]
        lower, upper = free_boxes(below, reference[:-1])
        lowers.append(np.column_stack([lower, np.full(len(lower), low)]))
        uppers.append(np.column_stack([upper, np.full(len(upper), high)]))
    return np.concatenate(lowers), np.concatenate(uppers)


def _everything(reference: Array) -> Boxes:
    """What is free where there is no vector."""
    return np.full((1, len(reference)), -np.inf), np.array(reference, float)[None]


def cut_boxes(boxes: Boxes, vector: Array) -> tuple[Boxes, Boxes]:
    r"""The boxes without what a vector dominates, and the boxes of that.

    Only a box whose upper corner is dominated changes.  What is left of it is cut off along one
    loss after the other: below the vector in loss j, and not below it in those before j.

    >>> free, taken = cut_boxes((np.array([[0.0, 0]]), np.array([[2.0, 2]])), np.array([1.0, 1]))
    >>> free[0].tolist(), free[1].tolist()
    ([[0.0, 0.0], [1.0, 0.0]], [[1.0, 2.0], [2.0, 1.0]])
    >>> taken[0].tolist(), taken[1].tolist()
    ([[1.0, 1.0]], [[2.0, 2.0]])
    """
    lower, upper = boxes
    hit = (vector < upper).all(1)
    lowers, uppers = [lower[~hit]], [upper[~hit]]
    lower, upper = lower[hit], upper[hit]
    for j, value in enumerate(vector):
        below = lower[:, j] < value
        lowers.append(lower[below])
        uppers.append(upper[below])
        uppers[-1][:, j] = value
        lower[below, j] = value
    return (np.concatenate(lowers), np.concatenate(uppers)), (lower, upper)


def hypervolume_gains(losses: Array, lower: Array, upper: Array) -> Array:
    r"""What each vector alone would add to the hypervolume, (n,).

    .. math:: \Delta(y) = \sum_b \prod_j \bigl(u_{bj} - \max(l_{bj}, y_j)\bigr)_+
    """
    losses = _matrix(losses)
    found = np.empty(len(losses))
    size = max(1, PAIRS // max(1, len(lower)))
    for at in range(0, len(losses), size):
        sides = upper[None] - np.maximum(lower[None], losses[at : at + size, None])
        found[at : at + size] = np.maximum(sides, 0.0).prod(2).sum(1)
    return found


def hypervolume(losses: Array, reference: Array) -> float:
    r"""The volume below the reference that some vector dominates.

    Exact; cost of the order of :math:`n^{m-1}`, as of `free_boxes`.

    >>> hypervolume(np.array([[0.0, 1], [1, 0]]), np.array([2.0, 2]))
    3.0
    """
    losses, reference = _matrix(losses), np.asarray(reference, float)
    losses = losses[(losses < reference).all(1)]
    if not len(losses):
        return 0.0
    ideal = losses.min(0)  # all of the box above it, less what is free there
    free = hypervolume_gains(ideal[None], *free_boxes(losses, reference))[0]
    return float(np.prod(reference - ideal) - free)


def largest_shares(losses: Array, size: int, reference: Array | None = None) -> Array:
    r"""Indices of the vectors that one after the other add most to the hypervolume, at most size.

    Greedy, which is within :math:`1 - 1/e` of the best choice of so many.  Without a reference,
    `reference_point` of these vectors.

    References
    ----------
    A. Guerreiro, C. Fonseca, L. Paquete, Greedy hypervolume subset selection in low dimensions,
    2016.

    Examples
    --------
    >>> largest_shares(np.array([[0.0, 4], [1, 1], [1.1, 1], [4, 0]]), 3)
    array([1, 0, 3])
    """
    losses = _matrix(losses)
    reference = reference_point(losses) if reference is None else reference
    if losses.shape[1] > MOST_IN_SLABS and len(losses):
        return _largest_shares_by_cuts(losses, size, reference)
    chosen: list[int] = []
    while len(chosen) < min(size, len(losses)):
        gains = hypervolume_gains(losses, *free_boxes(losses[chosen], reference))
        gains[chosen] = -1.0
        chosen.append(int(gains.argmax()))
    return np.array(chosen, int)


def _largest_shares_by_cuts(losses: Array, size: int, reference: Array) -> Array:
    """`largest_shares`, where each choice takes from the others what it dominates."""
    chosen: list[int] = []
    extent = reference - losses.min(0)
    losses = (losses - reference) / np.where(extent > 0, extent, 1.0)  # no product overflows
    boxes = _everything(np.zeros(losses.shape[1]))
    gains = hypervolume_gains(losses, *boxes)
    while len(chosen) < min(size, len(losses)):
        chosen.append(int(gains.argmax()))
        boxes, taken = cut_boxes(boxes, losses[chosen[-1]])
        gains -= hypervolume_gains(losses, *taken)
        np.maximum(gains, 0.0, out=gains)  # rounding would order what adds nothing
        gains[(losses >= losses[chosen[-1]]).all(1)] = 0.0
        gains[chosen] = -np.inf
    return np.array(chosen, int)


def standing(losses: Array, violations: Array, size: int) -> Array:
    r"""Scores whose order is the trials' order, (n,), the least being the best.

    Feasible trials come first: by their loss, or with several objectives by front and, where a
    front is divided between the first ``size`` and the rest, by hypervolume share below a point
    beyond the worst of all, so that the ends of the front count.  Then the
    others by how far they violate the constraints; failures, whose losses are infinite, have an
    infinite score.  Trials that are level have the same score.

    Parameters
    ----------
    losses : array of float, shape (n, m)
    violations : array of float, shape (n,)
        Sums of what is above 0; 0 is feasible.
    size : int
        How many there will be in the elite.

    Examples
    --------
    >>> standing(np.array([[3.0], [1], [2], [np.inf]]), np.array([0.0, 5, 0, 0]), 2)
    array([ 1.,  2.,  0., inf])
    """
    losses = _matrix(losses)
    scores = np.full(len(losses), np.inf)
    good = np.isfinite(losses).all(1)
    feasible = np.flatnonzero(good & (violations <= 0))
    ahead = 0.0
    if losses.shape[1] == 1 and len(feasible):
        scores[feasible] = np.unique(losses[feasible, 0], return_inverse=True)[1]
        ahead = scores[feasible].max() + 1
    elif len(feasible):
        ranks = dominance_ranks(losses[feasible])
        reference = reference_point(losses[feasible])
        for rank in range(ranks.max() + 1):
            front = feasible[ranks == rank]
            wanted = size - int(ahead)
            first = largest_shares(losses[front], max(wanted, 0), reference)
            scores[front] = ahead + len(first)
            scores[front[first]] = ahead + np.arange(len(first))
            ahead += len(first) + (len(front) > len(first))
    bad = np.flatnonzero(good & (violations > 0))
    scores[bad] = ahead + np.unique(violations[bad], return_inverse=True)[1]
    return scores


def _matrix(losses: Array) -> Array:
    losses = np.asarray(losses, float)
    if losses.ndim != 2 or not losses.shape[1]:
        raise ValueError(f"losses must be a matrix of a row a vector, got shape {losses.shape}")
    return losses
