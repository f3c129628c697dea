r"""The model-free improved method: every evaluation counts, proposals are screened.

Our recombination of known parts: an elite of *all* evaluations with rank weights (as in evolution
strategies), a Dirichlet prior, a mixture around real elites beside the product, and the choice of
the proposal with the largest ratio of elite density to the density of the rest (as the
tree-structured Parzen estimator does).  NumPy only.
"""

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from genopt_core.cross_entropy.kernels import (
    cell_kernels,
    log_density,
    log_mean_exp,
    project,
    rank_weights,
)
from genopt_core.cross_entropy.parameters import Array
from genopt_core.cross_entropy.space import SearchSpace, draw_cells

SCREENED = 24
"""The most proposals of which one is kept."""
CAUTION = 2.0
"""The power of the probability that constraints hold; at 1 fewer trials are feasible than TPE's."""
MIXTURE = 0.8
"""The share of proposals that are drawn around one elite and not from the product."""


@dataclass(frozen=True)
class Elite:
    """The best of all evaluations, and the distribution fitted to them."""

    space: SearchSpace
    indices: Array
    rest: Array
    weights: Array
    cells: Array
    active: Array
    prior: float
    width: float
    probabilities: list[Array]

    @cached_property
    def kernels(self) -> list[Array]:
        """The kernel of each elite, by parameter."""
        at = self.indices
        return cell_kernels(self.space, self.cells[at], self.active[at], self.width)


def fit_elite(space: SearchSpace, rows: Array, scores: Array, elite_fraction: float) -> Elite:
    r"""The elite of all evaluations: a share of at most :math:`4\sqrt n + 10` of them.

    The prior's weight is :math:`\lambda = 1/(1 + \sqrt n)`; the kernels narrow as n grows.
    """
    n = len(scores)
    order = np.argsort(scores, kind="stable")
    size = elite_of_all(n, elite_fraction)
    weights = rank_weights(size)
    width = max(0.54 * n ** (-1 / (4 + len(space))), 0.04)
    prior = 1 / (1 + math.sqrt(n))
    cells, active = space.cell(rows), space.active(rows)
    best = order[:size]
    fitted = project(space, cells[best], active[best], weights, width, prior)
    return Elite(space, best, order[size:], weights, cells, active, prior, width, fitted)


def elite_of_all(n: int, elite_fraction: float) -> int:
    """How many of n evaluations are elite: a share of at most 4 sqrt(n) + 10 of them, 3 or more."""
    return min(n, max(3, math.ceil(elite_fraction * min(n, 4 * math.sqrt(n) + 10))))


def propose(
    space: SearchSpace,
    rows: Array,
    scores: Array,
    running: Array,
    seen: set[bytes],
    elite_fraction: float,
    explore: float,
    rng: np.random.Generator,
    feasible: Array | None = None,
) -> Array:
    r"""The next row: of several proposals the one whose density ratio is largest.

    .. math:: \arg\max_x \frac{\sum_{i \in E} w_i \prod_j K_j(x_i, x)}
                              {\frac{1}{|R|} \sum_{i \in R} \prod_j K_j(x_i, x)}

    (book, eq. cem-ratio), E the elite and R the rest with what is still running.  With probability
    ``explore`` a draw from the fitted distribution itself, unscreened.

    Under constraints ``feasible`` says of each trial whether they hold, and the ratio is multiplied
    by the share of feasible trials in the density at x, :math:`\mathbb P(\text{feasible} \mid x)`
    to the power `CAUTION`.
    """
    elite = fit_elite(space, rows, scores, elite_fraction)
    if rng.random() < explore:
        flat = [0.7 * p + 0.3 / len(p) for p in elite.probabilities]
        return first_unseen(space.fill(draw_cells(flat, 64, rng), rng), seen, space, rng)
    proposals = space.settle(space.fill(_proposals(space, elite, rng), rng))
    cells, active = space.cell(proposals), space.active(proposals)
    ratio = log_mean_exp(log_density(elite.kernels, cells, active, elite.prior), elite.weights)
    other_cells, other_active = elite.cells[elite.rest], elite.active[elite.rest]
    if len(running):
        other_cells = np.concatenate([other_cells, space.cell(running)])
        other_active = np.concatenate([other_active, space.active(running)])
    if len(other_cells):
        kernels = cell_kernels(space, other_cells, other_active, elite.width)
        ratio = ratio - log_mean_exp(log_density(kernels, cells, active, elite.prior))
    if feasible is not None and feasible.any() and not feasible.all():
        kernels = cell_kernels(space, elite.cells, elite.active, elite.width)
        near = log_density(kernels, cells, active, elite.prior)
        ratio = ratio + CAUTION * (log_mean_exp(near, feasible / len(near)) - log_mean_exp(near))
    return first_unseen(proposals[np.argsort(-ratio, kind="stable")], seen, space, rng)


def _proposals(space: SearchSpace, elite: Elite, rng: np.random.Generator) -> Array:
    """Cells: most near one elite each, so that what goes together stays together."""
    size = min(SCREENED, 6 * len(space))
    from_product = rng.random(size) > MIXTURE
    cells = draw_cells(elite.probabilities, size, rng)
    parents = rng.choice(len(elite.weights), size, p=elite.weights)
    for i, kernel in enumerate(elite.kernels):
        steps = np.cumsum(kernel[parents], 1)
        near = (steps < rng.random((size, 1)) * steps[:, -1:]).sum(1)
        cells[:, i] = np.where(from_product, cells[:, i], near)
    anywhere = (rng.random((size, len(space))) * space.cells).astype(int)
    return np.where(rng.random((size, len(space))) < elite.prior, anywhere, cells)


def first_unseen(
    rows: Array, seen: set[bytes], space: SearchSpace, rng: np.random.Generator
) -> Array:
    """The first row that was not evaluated yet, else an unseen uniform one, else any."""
    if not seen:
        return rows[0]
    for row in rows:
        if row.tobytes() not in seen:
            return row
    rows = space.uniform(512, rng)
    for row in rows:
        if row.tobytes() not in seen:
            return row
    return rows[0]
