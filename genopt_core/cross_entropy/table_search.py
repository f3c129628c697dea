"""A search on a tabulated objective: what it observed, what that is worth, what it cost."""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from genopt_core.cross_entropy.tabular import TabularObjective

Method = Literal["plain", "plus", "posterior", "random"]


@dataclass(frozen=True)
class TableSearch:
    """One search, in order of its trainings.

    Attributes
    ----------
    observed, true : array (trainings,)
        The score of the one training that was drawn, and the mean over the trainings stored.
    cpu_seconds : array (trainings,)
        What each training cost where the table was made.
    params : tuple of dicts
        The configurations.
    """

    observed: np.ndarray
    true: np.ndarray
    cpu_seconds: np.ndarray
    params: tuple[dict[str, Any], ...]

    def best(self, cpu_seconds: float = np.inf) -> float:
        """True score of the best observed among the first trainings that fit into a cost.

        Raises
        ------
        ValueError
            If not even the first one fits.
        """
        return float(self.true[self._chosen(cpu_seconds)])

    def best_params(self, cpu_seconds: float = np.inf) -> dict[str, Any]:
        """The configuration whose score `best` returns; raises as it does."""
        return self.params[self._chosen(cpu_seconds)]

    def _chosen(self, cpu_seconds: float) -> int:
        count = int((np.cumsum(self.cpu_seconds) <= cpu_seconds).sum())
        if not count:
            raise ValueError(f"cpu_seconds={cpu_seconds!r} must be at least {self.cpu_seconds[0]}")
        return int(self.observed[:count].argmax())


def search_table(
    table: TabularObjective, method: Method, n_evals: int, seed: int = 0, **settings: Any
) -> TableSearch:
    """Search ``table`` by a cross-entropy method, or at random.

    Evaluation ``k`` of seed ``s`` meets the same training whatever the method: common random
    numbers.  ``settings`` go to `genopt_core.cross_entropy.CrossEntropy`.

    Raises
    ------
    ValueError
        If ``n_evals`` is less than 1, or for another method.

    Examples
    --------
    >>> table = TabularObjective.load("word2vec_wikipedia")
    >>> len(search_table(table, "random", 7).observed)
    7
    """
    if isinstance(n_evals, bool) or not isinstance(n_evals, int) or n_evals < 1:
        raise ValueError(f"n_evals={n_evals!r} must be a whole number of at least 1")
    rng = np.random.default_rng([seed, 1])
    search: Any = None
    if method != "random":
        from genopt_core.cross_entropy import CrossEntropy

        search = CrossEntropy(table.space, method, seed=seed, direction="maximize", **settings)
    rows, tried = [], []
    for number in range(n_evals):
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
