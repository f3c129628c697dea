r"""A tabulated objective: every configuration of a grid was really trained, and is now looked up.

With it a search of a hundred trainings takes milliseconds, runs in a browser, and can be repeated
twenty times by every method.  ``book/experiments/cross_entropy/word2vec_tables.py`` makes them.
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property, lru_cache
from typing import Any

import numpy as np

from genopt_core import checks, tables
from genopt_core.cross_entropy.parameters import Categorical
from genopt_core.cross_entropy.space import SearchSpace

TABLES = ("word2vec_planted", "word2vec_wikipedia")


class TabularObjective:
    r"""Scores of all configurations of a grid, several trainings (replicates) of each.

    Calling it with a configuration returns a score, larger being better: the mean over the
    replicates, or one of them.

    Parameters
    ----------
    axes : sequence of mappings
        ``name``, ``kind`` ("categorical", or "integer" for ordered levels) and ``levels``.
    scores : array (levels of axis 1, …, levels of axis n, replicates)
    cpu_seconds : array (levels of axis 1, …, levels of axis n), optional
        What one training cost where the table was made; 1 each without it.
    origin : mapping
        Where the numbers come from.

    Examples
    --------
    >>> axes = [{"name": "window", "kind": "integer", "levels": [2, 4]}]
    >>> table = TabularObjective(axes, [[0.25, 0.35], [0.5, 0.5]])
    >>> table.best, table({"window": 2}), table({"window": 2}, replicate=0)
    ({'window': 4}, 0.3, 0.25)
    >>> table.index({"window": 4}), table.params((1,)), table.rank({"window": 2})
    ((1,), {'window': 4}, 2)
    >>> round(table.regret({"window": 2}), 3)
    0.2
    >>> table.draw({"window": 4}, np.random.default_rng(0))
    0.5
    >>> len(TabularObjective.load("word2vec_wikipedia").levels)
    6
    """

    def __init__(
        self,
        axes: Sequence[Mapping[str, Any]],
        scores: Any,
        cpu_seconds: Any = None,
        origin: Mapping[str, Any] | None = None,
    ) -> None:
        self.levels = {axis["name"]: tuple(axis["levels"]) for axis in axes}
        self.ordered = {axis["name"]: axis["kind"] != "categorical" for axis in axes}
        self.scores = np.asarray(scores, dtype=float)
        shape = tuple(len(levels) for levels in self.levels.values())
        if self.scores.ndim != len(shape) + 1 or self.scores.shape[:-1] != shape:
            raise ValueError(
                f"scores must have shape {(*shape, 'replicates')}, got {self.scores.shape}"
            )
        if not np.isfinite(self.scores).all() or not self.scores.size:
            raise ValueError("scores must be finite, at least one of each configuration")
        seconds = np.ones(shape) if cpu_seconds is None else np.asarray(cpu_seconds, dtype=float)
        if seconds.shape != shape:
            raise ValueError(f"cpu_seconds must have shape {shape}, got {seconds.shape}")
        self.cpu_seconds = seconds
        self.origin = dict(origin or {})
        self._place = {
            name: {level: i for i, level in enumerate(levels)}
            for name, levels in self.levels.items()
        }

    @classmethod
    def load(cls, name: str) -> "TabularObjective":
        """A table that travels with the package; see ``TABLES`` for the names."""
        return _load(checks.one_of(name, "name", TABLES))

    def __len__(self) -> int:
        return self.mean.size

    def __call__(self, params: Mapping[str, Any], replicate: int | None = None) -> float:
        """The score of a configuration: the mean, or that of one training."""
        at = self.index(params)
        if replicate is None:
            return float(self.mean[at])
        if not 0 <= replicate < self.scores.shape[-1]:
            most = self.scores.shape[-1] - 1
            raise ValueError(f"replicate must be 0 to {most} or None, got {replicate!r}")
        return float(self.scores[at][replicate])

    def draw(self, params: Mapping[str, Any], rng: np.random.Generator) -> float:
        """The score of one of the trainings, chosen at random: the objective with its noise."""
        trainings = self.scores[self.index(params)]
        return float(trainings[rng.integers(len(trainings))])

    def index(self, params: Mapping[str, Any]) -> tuple[int, ...]:
        """Where a configuration stands in ``scores``."""
        if set(params) != set(self.levels):
            raise ValueError(f"params must have {list(self.levels)}, got {list(params)}")
        found = []
        for name, place in self._place.items():
            if params[name] not in place:
                levels = ", ".join(map(repr, place))
                raise ValueError(f"{name} must be one of {levels}, got {params[name]!r}")
            found.append(place[params[name]])
        return tuple(found)

    def params(self, index: Sequence[int]) -> dict[str, Any]:
        """The configuration at a place of ``scores``."""
        return {
            name: levels[i] for (name, levels), i in zip(self.levels.items(), index, strict=True)
        }

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """All configurations, the last axis fastest."""
        return (self.params(index) for index in np.ndindex(self.mean.shape))

    @cached_property
    def mean(self) -> np.ndarray:
        """Mean score of each configuration."""
        return self.scores.mean(axis=-1)

    @cached_property
    def best(self) -> dict[str, Any]:
        """The configuration of the largest mean score."""
        return self.params([int(i) for i in np.unravel_index(self.mean.argmax(), self.mean.shape)])

    def regret(self, params: Mapping[str, Any]) -> float:
        """Score of the best configuration less that of ``params``: 0 is optimal."""
        return float(self.mean.max() - self.mean[self.index(params)])

    def rank(self, params: Mapping[str, Any]) -> int:
        """1 for the best configuration, ``len(table)`` for the worst."""
        return int((self.mean > self.mean[self.index(params)]).sum()) + 1

    @cached_property
    def replicate_std(self) -> float:
        """Standard deviation between trainings of one configuration, pooled; 0 for a single one."""
        if self.scores.shape[-1] < 2:
            return 0.0
        return float(np.sqrt(self.scores.var(axis=-1, ddof=1).mean()))

    @cached_property
    def signal_to_noise(self) -> float:
        """Standard deviation of the mean scores over ``replicate_std``."""
        return float(self.mean.std() / self.replicate_std) if self.replicate_std else float("inf")

    @cached_property
    def space(self) -> SearchSpace:
        """The grid as a search space: categories, and ordered levels."""
        axes = self.levels.items()
        return SearchSpace({n: Categorical(v, ordered=self.ordered[n]) for n, v in axes})


@lru_cache(maxsize=2)
def _load(name: str) -> TabularObjective:
    stored = tables.load(name)
    scores = np.array(stored["scores"], dtype=float) * stored["unit"]
    # 5 digits, as stored: 0.12345 and not 0.12345000000000002
    return TabularObjective(
        stored["axes"], scores.round(5), stored["cpu_seconds"], stored["origin"]
    )
