r"""The posterior-weighted method: not "is it elite?" but "how probably is it, given the data?".

The plain method fits to the indicator of an elite, known only where the objective was evaluated.
With a model of the objective every configuration has a *probability* of being elite; the same
projection then works on as many draws as one likes.  The idea is that of design by adaptive
sampling (Brookes and Listgarten) and of cross-entropy search on a surrogate (Bardenet and Kégl
2010); what is ours is how the parts are put together.  Needs SciPy.
"""

import numpy as np
from scipy.special import ndtr

from genopt_core.cross_entropy.kernels import cell_kernels, project
from genopt_core.cross_entropy.parameters import Array
from genopt_core.cross_entropy.plus import first_unseen, fit_elite
from genopt_core.cross_entropy.space import SearchSpace, draw_cells
from genopt_core.cross_entropy.surrogate import (
    GaussianProcess,
    checkpoint,
    normal_scores,
    warp_exponent,
)

DRAWS = 256
ROUNDS = 3
FITTED = DRAWS // 8
KERNEL = 0.08
UNIFORM = 0.1  # the defensive share of the uniform distribution
POLISHED = 4
STEPS = 0.15, 0.05, 0.015


class Posterior:
    """Proposals from the posterior; keeps only what can be computed again (hyperparameters)."""

    def __init__(self, space: SearchSpace, deterministic: bool, elite_fraction: float) -> None:
        self.space, self.deterministic = space, deterministic
        self.elite_fraction = elite_fraction
        self._known: tuple[bytes, Array, float] | None = None
        self._changes: dict[tuple[int, float], Array] = {}

    # ---------------------------------------------------------------- the model

    def _condition(self, rows: Array, scores: Array) -> tuple[GaussianProcess, Array]:
        """The process given the trials; a failure counts as the worst value there is."""
        scores = np.where(np.isfinite(scores), scores, scores[np.isfinite(scores)].max())
        first = checkpoint(len(scores))
        key = rows[:first].tobytes() + scores[:first].tobytes()
        process = GaussianProcess(self.space, self.deterministic)
        if self._known is None or self._known[0] != key:
            exponent = warp_exponent(scores[:first])
            theta = process.fit(rows[:first], normal_scores(scores[:first], exponent))
            self._known = (key, theta, exponent)
        _, theta, exponent = self._known
        values = normal_scores(scores, exponent)
        return process.condition(theta, rows, values), values

    def means(self, rows: Array, scores: Array) -> Array:
        """Posterior means at the trials themselves, in normal scores."""
        return self._condition(rows, scores)[0].mean(rows)

    # ---------------------------------------------------------------- the projection

    def _project(
        self,
        process: GaussianProcess,
        level: float,
        rows: Array,
        scores: Array,
        rng: np.random.Generator,
    ) -> tuple[list[Array], Array, Array]:
        r"""Cross-entropy on the posterior: the distribution, and all draws with their weights.

        .. math:: g^*(x) \propto \mathbb P(S(x) \le \gamma \mid \text{data}), \qquad
                  v = \arg\max_v \mathbb E_{g^*}[\ln f(X; v)]

        (book, eq. cem-posterior).  The weight of a draw is :math:`\mathbb E[(\gamma - S(x))_+]`,
        the same tail weighted by how far it reaches below the level.
        """
        space = self.space
        start = fit_elite(space, rows, scores, self.elite_fraction)
        fitted = [0.5 * p + 0.5 / len(p) for p in start.probabilities]
        top = np.argsort(scores, kind="stable")[: max(3, len(scores) // 10)]
        pool = np.zeros((0, len(space)))
        gains = np.zeros(0)
        for _ in range(ROUNDS):
            cells = draw_cells(fitted, DRAWS, rng)
            cells[: DRAWS // 2] = self._mutants(rows[top], rng)
            draws = space.fill(cells, rng)
            pool = np.concatenate([pool, draws])
            gains = np.concatenate([gains, expected_gain(process, level, draws)])
            best = np.argsort(-gains, kind="stable")[:FITTED]
            weights = gains[best] / max(gains[best].sum(), 1e-300)
            weights = 0.5 * weights + 0.5 / len(best)
            active = space.active(pool[best])
            kernels = cell_kernels(space, space.cell(pool[best]), active, KERNEL)
            fitted = project(kernels, active, weights, UNIFORM)
        return fitted, pool, gains

    def _mutants(self, elites: Array, rng: np.random.Generator) -> Array:
        """Half of the draws: real elites with one or two coordinates moved."""
        space = self.space
        cells = space.cell(elites[rng.integers(len(elites), size=DRAWS // 2)])
        moved = rng.random(cells.shape) < 1.5 / len(space)
        jump = np.maximum(1, space.cells * 0.15) * rng.standard_normal(cells.shape)
        near = np.clip(np.rint(cells + jump).astype(int), 0, space.cells - 1)
        anywhere = (rng.random(cells.shape) * space.cells).astype(int)
        other = np.where(space.is_category, anywhere, near)
        return np.where(moved | (cells < 0), other, cells)

    def distribution(self, rows: Array, scores: Array, rng: np.random.Generator) -> list[Array]:
        """Probabilities of every parameter's cells, given the trials."""
        process, values = self._condition(rows, scores)
        level = self._level(process, rows, values)
        return self._project(process, level, rows, scores, rng)[0]

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
    ) -> Array:
        """The next row: with probability ``explore`` a plain draw, else the best one, polished.

        What is running counts as evaluated with its posterior mean.
        """
        process, values = self._condition(rows, scores)
        level = self._level(process, rows, values)
        if len(running):
            believed = np.concatenate([values, process.mean(running)])
            process.condition(process.theta, np.concatenate([rows, running]), believed)
        fitted, pool, gains = self._project(process, level, rows, scores, rng)
        if rng.random() < explore:
            draws = self.space.fill(draw_cells(fitted, 64, rng), rng)
            return first_unseen(draws, seen, self.space, rng)
        best = np.argsort(-gains, kind="stable")[:POLISHED]
        polished, polished_gains = self._polish(process, level, pool[best], seen, rng)
        if len(polished):
            return polished[int(np.argmax(polished_gains))]
        ranked = pool[np.argsort(-gains, kind="stable")]
        return first_unseen(ranked, seen, self.space, rng)

    def _polish(
        self,
        process: GaussianProcess,
        level: float,
        starts: Array,
        seen: set[bytes],
        rng: np.random.Generator,
    ) -> tuple[Array, Array]:
        """Coordinate ascent on the gain from several rows at once; exact on short lists."""
        space = self.space
        current = starts.copy()
        reached = np.full(len(starts), -1.0)
        for step in STEPS if space.is_real.any() else STEPS[:1]:
            moving = np.ones(len(starts), bool)
            for _ in range(4):
                if not moving.any():
                    break
                groups = [self._neighbours(row, step, rng) for row in current[moving]]
                owner = np.repeat(np.flatnonzero(moving), [len(group) for group in groups])
                near = space.settle(np.concatenate(groups))
                gains = expected_gain(process, level, near)
                if seen:
                    gains[[row.tobytes() in seen for row in near]] = -1.0
                for i in np.flatnonzero(moving):
                    mine = np.flatnonzero(owner == i)
                    j = mine[int(np.argmax(gains[mine]))]
                    better = gains[j] > reached[i] * (1 + 1e-6) and gains[j] >= 0
                    moving[i] = better and not np.array_equal(near[j], current[i])
                    if better:
                        reached[i], current[i] = gains[j], near[j]
        found = reached >= 0
        return current[found], reached[found]

    def _neighbours(self, row: Array, step: float, rng: np.random.Generator) -> Array:
        """A row, and rows that differ from it in one coordinate."""
        space = self.space
        reals = row[space.is_real]
        moved = reals[:, None] + step * rng.standard_normal((len(reals), 4))
        ways = iter(np.clip(reflect(moved), 0.0, 1.0 - 1e-12))
        values = [
            next(ways) if real else self._others(i, float(row[i]))
            for i, real in enumerate(space.is_real)
        ]
        changed = np.repeat(np.arange(len(row)), [len(v) for v in values])
        found = np.repeat(row[None], len(changed) + 1, axis=0)
        found[np.arange(1, len(found)), changed] = np.concatenate(values)
        return found

    def _others(self, i: int, code: float) -> Array:
        """What a discrete parameter may change to: all of a short list, near ones of a long one."""
        if (i, code) not in self._changes:
            n = int(self.space.cells[i])
            if self.space.is_category[i] or n <= 12:
                other = np.delete(np.arange(n), int(code)) if code >= 0 else np.arange(n)
            else:
                other = np.unique(np.clip(code + np.array([-4, -2, -1, 1, 2, 4]), 0, n - 1))
            self._changes[i, code] = other
        return self._changes[i, code]


def expected_gain(process: GaussianProcess, level: float, rows: Array) -> Array:
    r""":math:`\mathbb E[(\gamma - S(x))_+]` under the posterior, at each row."""
    mean, std = process.predict(rows)
    z = (level - mean) / std
    return np.asarray(std * (z * ndtr(z) + np.exp(-0.5 * z * z) / np.sqrt(2 * np.pi)))


def reflect(z: Array) -> Array:
    """Positions beyond the ends of [0, 1] folded back inside, so that none gathers at an end."""
    z = np.abs(z)
    return np.where(z > 1, 2 - z, z) % 1.0
