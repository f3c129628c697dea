"""A search on a tabulated objective: what it observed, what that is worth, what it cost."""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from genopt_core import checks
from genopt_core.cross_entropy.optimizer import CrossEntropy
from genopt_core.cross_entropy.proposals import Method
from genopt_core.cross_entropy.tabular import TabularObjective


@dataclass(frozen=True)
class TableSearch:
    """One search, in order of its trainings.

    ``observed`` is the score of the one training that was drawn, ``true`` the mean over the
    trainings stored, ``cpu_seconds`` what each cost where the table was made; all are (trainings,).

    >>> table = TabularObjective.load("word2vec_wikipedia")
    >>> found = search_table(table, "random", 10)
    >>> found.best() >= found.best(cpu_seconds=found.cpu_seconds[0]), len(found.best_params())
    (True, 6)
    """

    observed: np.ndarray
    true: np.ndarray
    cpu_seconds: np.ndarray
    params: tuple[dict[str, Any], ...]

    def best(self, cpu_seconds: float = np.inf) -> float:
        """True score of the best observed among the first trainings that fit into a cost."""
        return float(self.true[self._chosen(cpu_seconds)])

    def best_params(self, cpu_seconds: float = np.inf) -> dict[str, Any]:
        """The configuration whose score `best` returns."""
        return self.params[self._chosen(cpu_seconds)]

    def _chosen(self, cpu_seconds: float) -> int:
        count = int((np.cumsum(self.cpu_seconds) <= cpu_seconds).sum())
        if not count:
            least = self.cpu_seconds[0]
            raise ValueError(f"cpu_seconds must be at least {least}, got {cpu_seconds!r}")
        return int(self.observed[:count].argmax())


def search_table(
    table: TabularObjective,
    method: Method | Literal["random"],
    n_evals: int,
    seed: int = 0,
    **settings: Any,
) -> TableSearch:
    """Search ``table`` by a cross-entropy method, or at random.

    Evaluation ``k`` of seed ``s`` meets the same training whatever the method: common random
    numbers, hence a seed and no ``Generator``.  ``settings`` go to `CrossEntropy`.

    >>> table = TabularObjective.load("word2vec_wikipedia")
    >>> len(search_table(table, "random", 7).observed)
    7
    """
    rng = np.random.default_rng([seed, 1])
    search: Any = None
    if method != "random":
        search = CrossEntropy(table.space, method, seed=seed, direction="maximize", **settings)
    rows, tried = [], []
    for number in range(checks.whole(n_evals, "n_evals")):
        if search is None:
            params = table.params([int(rng.integers(n)) for n in table.mean.shape])
        else:
            trial = search.ask()
            params = trial.params
        observed = table.draw(params, np.random.default_rng([seed, number]))
        if search is not None:
            search.tell(trial, observed)
        rows.append((observed, table(params), float(table.cpu_seconds[table.index(params)])))
        tried.append(dict(params))
    observed, true, cost = np.array(rows).T
    return TableSearch(observed, true, cost, tuple(tried))
