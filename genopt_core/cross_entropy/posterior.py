r"""The posterior-weighted method: not "is it elite?" but "how probably is it, given the data?".

The plain method fits to the indicator of an elite, known only where the objective was evaluated.
With a model of the objective every configuration has a *probability* of being elite; the same
projection then works on as many draws as one likes.  The idea is that of design by adaptive
sampling (Brookes and Listgarten) and of cross-entropy search on a surrogate (Bardenet and Kégl
2010); what is ours is how the parts are put together.  Needs SciPy.
"""

from functools import partial
from typing import NamedTuple

import numpy as np

from genopt_core.cross_entropy.gains import expected_gain, expected_hypervolume, feasibility
from genopt_core.cross_entropy.kernels import project
from genopt_core.cross_entropy.outcomes import Outcomes
from genopt_core.cross_entropy.parameters import Array
from genopt_core.cross_entropy.pareto import (
    dominance_ranks,
    free_boxes,
    largest_shares,
    reference_point,
)
from genopt_core.cross_entropy.plus import first_unseen, fit_elite
from genopt_core.cross_entropy.plus import propose as propose_by_plus
from genopt_core.cross_entropy.polish import Gain, Polish
from genopt_core.cross_entropy.space import SearchSpace, draw_cells
from genopt_core.cross_entropy.steps import MARGIN, SCREENED, is_stepped
from genopt_core.cross_entropy.surrogate import (
    LEAST_GAIN,
    GaussianProcess,
    checkpoint,
    normal_scores,
    warp_exponent,
)

ROUNDS = 3
KERNEL = 0.08
UNIFORM = 0.1  # the defensive share of the uniform distribution
FEWEST_TOLD = 3  # trials that told a constraint, before a process is fitted to it
MOST_TOLD = 1000.0  # what of a constraint is told apart, in parts of its median
WINDOW = 300
"""The most trials that a process is conditioned on, so that a proposal's cost stops growing."""
MOST_ON_FRONT = {2: 400, 3: 40, 4: 16}
"""Of a front, the most by number of losses from which a gain is computed; beyond four losses 10."""
SCORE = "score"
"""The name of a single objective's process."""


class Effort(NamedTuple):
    """How much is looked at for a proposal."""

    draws: int
    """Rows a round, of which an eighth is fitted to."""
    polished: tuple[int, ...]
    """How many of the best rows are moved, by each of `polish.STEPS`."""
    iterations: int
    """The most steps of a fit of hyperparameters."""
    refits: int
    """Hyperparameters are fitted again when about one trial in so many is new."""
    tolerance: float
    """The relative gain of likelihood below which a fit ends."""


FULL = Effort(256, (4, 4, 4), 30, 10, LEAST_GAIN)
SPARSE = Effort(128, (3, 2, 1), 20, 5, 1e-5)
"""Where less than half of the parameters exist at once: there is less in a row to move."""


class Posterior:
    """Proposals from the posterior; keeps only what can be computed again (hyperparameters)."""

    def __init__(self, space: SearchSpace, deterministic: bool, elite_fraction: float) -> None:
        self.space, self.deterministic = space, deterministic
        self.elite_fraction = elite_fraction
        self.effort = SPARSE if is_sparse(space) else FULL
        self._known: dict[str, tuple[bytes, Array, float | None]] = {}
        self.polish = Polish(space, self.effort.polished)

    # ---------------------------------------------------------------- the model

    def _condition(
        self, rows: Array, scores: Array, kept: Array, name: str = SCORE
    ) -> tuple[GaussianProcess, Array]:
        """The process given the trials that are kept; a failure counts as the worst value there is.

        Hyperparameters are kept by name: there is one process for each objective.  A single one
        that is stepped is modeled by its ranks.
        """
        ranked = name == SCORE and stepped_so_far(rows, scores, self.effort.refits)
        scores = np.where(np.isfinite(scores), scores, scores[np.isfinite(scores)].max())
        first = checkpoint(len(scores), self.effort.refits)
        key = rows[:first].tobytes() + scores[:first].tobytes()
        process = GaussianProcess(self.space, self.deterministic)
        if name not in self._known or self._known[name][0] != key:
            fitted = window(scores[:first])
            exponent = None if ranked else warp_exponent(scores[fitted])
            theta = self._fit(process, rows[fitted], normal_scores(scores[fitted], exponent))
            self._known[name] = (key, theta, exponent)
        _, theta, exponent = self._known[name]
        values = normal_scores(scores[kept], exponent)
        return process.condition(theta, rows[kept], values), values

    def _fit(self, process: GaussianProcess, rows: Array, values: Array) -> Array:
        return process.fit(rows, values, self.effort.iterations, self.effort.tolerance)

    def _constraint(
        self, rows: Array, told: Array, kept: Array, name: str
    ) -> GaussianProcess | None:
        """The process of a constraint, on a scale that keeps 0; None while too few have told it."""
        kept = kept[~np.isnan(told[kept])]
        if len(kept) < FEWEST_TOLD:
            return None
        known = np.flatnonzero(~np.isnan(told))
        first = known[: checkpoint(len(known), self.effort.refits)]
        scale = float(np.nan_to_num(np.median(np.abs(told[first])))) or 1.0
        told = np.clip(np.nan_to_num(told), -MOST_TOLD * scale, MOST_TOLD * scale)
        values = np.arcsinh(told / scale)
        key = rows[first].tobytes() + told[first].tobytes()
        process = GaussianProcess(self.space, self.deterministic)
        if name not in self._known or self._known[name][0] != key:
            fitted = first[window(np.abs(values[first]))]  # near its boundary
            self._known[name] = (key, self._fit(process, rows[fitted], values[fitted]), 1.0)
        return process.condition(self._known[name][1], rows[kept], values[kept])

    # ---------------------------------------------------------------- the gain

    def _gain(self, rows: Array, scores: Array, running: Array, outcomes: Outcomes | None) -> Gain:
        """What a row is worth; what is running counts as evaluated with its posterior mean."""
        kept = window(scores)
        if outcomes is None:
            return self._gain_of_one(rows, scores, running, kept)
        allowed = [
            process
            for i, told in enumerate(outcomes.constraints)
            if (process := self._constraint(rows, told, kept, f"constraint {i}")) is not None
        ]
        feasible = outcomes.feasible
        gain: Gain = partial(feasibility, allowed)
        if not feasible.any():
            return gain  # first of all something feasible
        if outcomes.losses.shape[1] == 1:
            better = self._gain_of_one(rows, outcomes.losses[:, 0], running, kept, feasible)
        else:
            better = self._gain_of_several(rows, outcomes.losses, running, kept, feasible)
        return (lambda near: better(near) * gain(near)) if allowed else better

    def _gain_of_one(
        self,
        rows: Array,
        scores: Array,
        running: Array,
        kept: Array,
        feasible: Array | None = None,
    ) -> Gain:
        process, values = self._condition(rows, scores, kept)
        counted = np.ones(len(kept), bool) if feasible is None else feasible[kept]
        known = process.rows if counted.all() else process.rows[counted]
        level = self._level(process, known, values[counted])
        if stepped_so_far(rows, scores, self.effort.refits):
            level -= MARGIN
        self._believe(process, values, running)
        return partial(expected_gain, process, level)

    def _gain_of_several(
        self, rows: Array, losses: Array, running: Array, kept: Array, feasible: Array
    ) -> Gain:
        """Expected hypervolume over the front of what is known, in normal scores."""
        processes, known = [], []
        for j, column in enumerate(losses.T):
            process, values = self._condition(rows, column, kept, f"objective {j}")
            known.append(values if self.deterministic else process.mean(process.rows))
            if len(running):
                known[-1] = np.concatenate([known[-1], process.mean(running)])
                self._believe(process, values, running)
            processes.append(process)
        counted = np.concatenate([feasible[kept], np.ones(len(running), bool)])
        reached = np.stack(known, 1)[counted]
        front = reached[dominance_ranks(reached) == 0]
        reference = reference_point(reached)
        most = MOST_ON_FRONT.get(len(processes), 10)
        if len(front) > most:
            front = front[largest_shares(front, most, reference)]
        return partial(expected_hypervolume, processes, *free_boxes(front, reference))

    @staticmethod
    def _believe(process: GaussianProcess, values: Array, running: Array) -> None:
        if len(running):
            believed = np.concatenate([values, process.mean(running)])
            process.condition(process.theta, np.concatenate([process.rows, running]), believed)

    def means(self, rows: Array, scores: Array) -> Array:
        """Posterior means at the trials themselves, in normal scores."""
        return self._condition(rows, scores, window(scores))[0].mean(rows)

    # ---------------------------------------------------------------- the projection

    def _project(
        self, gain: Gain, rows: Array, scores: Array, rng: np.random.Generator
    ) -> tuple[list[Array], Array, Array]:
        r"""Cross-entropy on the posterior: the distribution, and all draws with their weights.

        .. math:: g^*(x) \propto \mathbb P(S(x) \le \gamma \mid \text{data}), \qquad
                  v = \arg\max_v \mathbb E_{g^*}[\ln f(X; v)]

        (book, eq. cem-posterior).  The weight of a draw is :math:`\mathbb E[(\gamma - S(x))_+]`,
        the same tail weighted by how far it reaches below the level; with several objectives the
        expected hypervolume that it adds, with constraints times `gains.feasibility`.
        """
        space, size = self.space, self.effort.draws
        start = fit_elite(space, rows, scores, self.elite_fraction)
        fitted = [0.5 * p + 0.5 / len(p) for p in start.probabilities]
        top = np.argsort(scores, kind="stable")[: max(3, len(scores) // 10)]
        pool = np.zeros((0, len(space)))
        gains = np.zeros(0)
        for _ in range(ROUNDS):
            drawn = draw_cells(fitted, size, rng, size // 2)
            cells = np.concatenate([self._mutants(rows[top], rng), drawn])
            draws = space.fill(cells, rng)
            pool = np.concatenate([pool, draws])
            gains = np.concatenate([gains, gain(draws)])
            best = np.argsort(-gains, kind="stable")[: size // 8]
            weights = gains[best] / max(gains[best].sum(), 1e-300)
            weights = 0.5 * weights + 0.5 / len(best)
            near = pool[best]
            cells, active = space.cell(near), space.active(near)
            fitted = project(space, cells, active, weights, KERNEL, UNIFORM)
        return fitted, pool, gains

    def _mutants(self, elites: Array, rng: np.random.Generator) -> Array:
        """Half of the draws: real elites with one or two coordinates moved."""
        space, size = self.space, self.effort.draws // 2
        cells = space.cell(elites[rng.integers(len(elites), size=size)])
        moved = rng.random(cells.shape) < 1.5 / len(space)
        jump = np.maximum(1, space.cells * 0.15) * rng.standard_normal(cells.shape)
        near = np.clip(np.rint(cells + jump).astype(int), 0, space.cells - 1)
        anywhere = (rng.random(cells.shape) * space.cells).astype(int)
        other = np.where(space.is_category, anywhere, near)
        return np.where(moved | (cells < 0), other, cells)

    def distribution(
        self,
        rows: Array,
        scores: Array,
        rng: np.random.Generator,
        outcomes: Outcomes | None = None,
    ) -> list[Array]:
        """Probabilities of every parameter's cells, given the trials (book, eq. cem-posterior)."""
        gain = self._gain(rows, scores, rows[:0], outcomes)
        return self._project(gain, rows, scores, rng)[0]

    def _level(self, process: GaussianProcess, rows: Array, values: Array) -> float:
        return float(values.min() if self.deterministic else process.mean(rows).min())

    # ---------------------------------------------------------------- the proposal

    def propose(
        self,
        rows: Array,
        scores: Array,
        running: Array,
        seen: set[bytes],
        explore: float,
        rng: np.random.Generator,
        outcomes: Outcomes | None = None,
    ) -> Array:
        """The next row: with probability ``explore`` a plain draw, else the best one, polished.

        ``scores`` order the trials; with several objectives or constraints ``outcomes`` say why.
        On a stepped objective a share of the proposals comes from `plus`.
        """
        losses = scores if outcomes is None else outcomes.losses[:, 0]
        stepped = outcomes is None or outcomes.losses.shape[1] == 1
        if stepped and stepped_so_far(rows, losses, self.effort.refits) and rng.random() < SCREENED:
            feasible = outcomes.feasible if outcomes and outcomes.constraints else None
            return propose_by_plus(
                self.space,
                rows,
                scores,
                running,
                seen,
                self.elite_fraction,
                explore,
                rng,
                feasible,
            )
        gain = self._gain(rows, scores, running, outcomes)
        fitted, pool, gains = self._project(gain, rows, scores, rng)
        if rng.random() < explore:
            draws = self.space.fill(draw_cells(fitted, 64, rng), rng)
            return first_unseen(draws, seen, self.space, rng)
        best = np.argsort(-gains, kind="stable")[: self.effort.polished[0]]
        polished, polished_gains = self.polish.climb(gain, pool[best], seen, rng)
        if len(polished):
            return polished[int(np.argmax(polished_gains))]
        ranked = pool[np.argsort(-gains, kind="stable")]
        return first_unseen(ranked, seen, self.space, rng)


def is_sparse(space: SearchSpace) -> bool:
    """Whether less than half of the parameters exist in a configuration, on the mean.

    >>> from genopt_core.cross_entropy import Categorical, Float
    >>> model = Categorical(["tree", "svm", "net"])
    >>> rates = {name: Float(0, 1, when={"model": name}) for name in model.choices}
    >>> is_sparse(SearchSpace({"model": model} | rates)), is_sparse(SearchSpace({"model": model}))
    (False, False)
    >>> more = {name + "2": Float(0, 1, when={"model": name}) for name in model.choices}
    >>> is_sparse(SearchSpace({"model": model} | rates | more))
    True
    """
    if not space.is_conditional:
        return False
    return bool(space.active(space.uniform(256, np.random.default_rng(0))).mean() < 0.5)


def stepped_so_far(rows: Array, scores: Array, refits: int = 10) -> bool:
    """`is_stepped` of the trials to which hyperparameters are fitted, so that both change at once.

    >>> stepped_so_far(np.arange(4.0)[:, None], np.array([0.0, 1, 1, 2]))
    True
    """
    first = checkpoint(len(scores), refits)
    return is_stepped(rows[:first], scores[:first])


def window(scores: Array) -> Array:
    """Indices of the trials that a process is conditioned on, in their order, at most `WINDOW`.

    All of them, while they are no more; then the best half of so many, and the other half spread
    evenly over the ranks of the rest, so that what is known to be bad stays known.

    >>> np.array_equal(window(np.zeros(300)), np.arange(300)), len(window(np.zeros(900)))
    (True, 300)
    """
    n = len(scores)
    if n <= WINDOW:
        return np.arange(n)
    order = np.argsort(scores, kind="stable")
    best = WINDOW // 2
    rest = np.linspace(best, n - 1, WINDOW - best).astype(int)
    return np.sort(order[np.concatenate([np.arange(best), rest])])
