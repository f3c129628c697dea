r"""The cross-entropy search as an object to ask for configurations and to tell their values.

It keeps no state of its own: the distribution is a function of the finished trials, and the random
numbers of trial k come from ``default_rng([seed, k, purpose])``.  A search that is resumed from its
trials therefore goes on exactly as it would have, on this machine or another.
"""

import math
from collections.abc import Iterable, Sequence
from typing import Any, Literal, overload

import numpy as np

from genopt_core.cross_entropy.parameters import Array
from genopt_core.cross_entropy.plain import PlainSettings, PlainState, elite_set, unchanged
from genopt_core.cross_entropy.plus import fit_elite, propose
from genopt_core.cross_entropy.space import SearchSpace
from genopt_core.cross_entropy.trials import Generation, Trial, relative_entropy

Method = Literal["plain", "plus", "posterior"]
ASK, STARTUP, TIES, FITTED = range(4)  # purposes of random numbers, so that streams do not overlap
FEWEST = 3  # finite values that the improved methods need before they fit anything


class CrossEntropy:
    r"""Search by the cross-entropy method.

    .. math:: \hat\gamma_t = S_{(N^e)}, \qquad \hat v_t = \arg\max_v \frac1N \sum_i
              \mathbf 1\{S(X_i) \text{ at least as good as } \hat\gamma_t\} \ln f(X_i; v)

    (book, eq. cem-level).

    Parameters
    ----------
    space : SearchSpace
    method : {"plain", "plus", "posterior"}
        "plain": the method as published, in generations.  "plus" reuses all evaluations and screens
        its proposals; NumPy only.  "posterior" replaces the indicator by its probability given the
        data, from a Gaussian process; needs SciPy.  Budgets below some hundred evaluations want
        "posterior".
    seed : int
        Not negative.
    direction : {"minimize", "maximize"}
    population_size : int
        N, evaluations a generation.  For the improved methods it only divides `history`.
    elite_fraction : float, optional
        :math:`\rho`; by default 0.25 for "plain", which suits small N, else 0.15.
    smoothing : float
        :math:`\alpha`, the share of the new distribution.
    sigma_smoothing, sigma_exponent : float
        :math:`\beta` and q of the dynamic smoothing of standard deviations.
    floor : float
        :math:`p_\text{min}`, the least probability of a category; 0 lets categories die out.
    patience : int or None
        d: "plain" stops after so many generations with the same level; None never does.
    tolerance : float
        :math:`\epsilon`: "plain" stops when all probabilities are within it of 0 or 1 and all
        standard deviations below it.
    n_startup : int
        First trials, stratified over every parameter, of the improved methods.
    explore : float, optional
        Probability of an unscreened draw; by default 0.2 for "plus" and 0.1 for "posterior".
    deterministic : bool
        Whether the objective has no noise: then the best observed trial is also recommended.
    trials : iterable of Trial
        Finished trials to go on from.

    Raises
    ------
    TypeError, ValueError
        If an argument is not of this form.

    Notes
    -----
    The plain method with one elite set, smoothing and floor is the standard one; "plus" and
    "posterior" are our recombinations of known parts.

    References
    ----------
    R. Rubinstein, The cross-entropy method for combinatorial and continuous optimization, 1999.
    P.-T. de Boer et al., A tutorial on the cross-entropy method, 2005.
    D. Brookes and J. Listgarten, Design by adaptive sampling, arXiv 1810.03714 (the elite's
    probability in place of its indicator).  S. Watanabe, Tree-structured Parzen estimator,
    arXiv 2304.11127 (the ratio of two densities).

    Examples
    --------
    >>> from genopt_core.cross_entropy import Categorical
    >>> search = CrossEntropy(SearchSpace({"x": Categorical([0, 1, 2])}), "plain", seed=1)
    >>> for _ in range(100):
    ...     trial = search.ask()
    ...     search.tell(trial, (trial.params["x"] - 1) ** 2)
    >>> search.best.params, search.distribution()["x"].round(2)
    ({'x': 1}, array([0., 1., 0.]))
    """

    def __init__(
        self,
        space: SearchSpace,
        method: Method = "posterior",
        *,
        seed: int = 0,
        direction: Literal["minimize", "maximize"] = "minimize",
        population_size: int = 20,
        elite_fraction: float | None = None,
        smoothing: float = 0.7,
        sigma_smoothing: float = 0.9,
        sigma_exponent: float = 7,
        floor: float = 0.0,
        patience: int | None = 5,
        tolerance: float = 0.01,
        n_startup: int = 10,
        explore: float | None = None,
        deterministic: bool = False,
        trials: Iterable[Trial] = (),
    ) -> None:
        if not isinstance(space, SearchSpace):
            raise TypeError(f"space must be a SearchSpace, got {type(space).__name__}")
        if method not in ("plain", "plus", "posterior"):
            raise ValueError(f'method must be "plain", "plus" or "posterior", got {method!r}')
        if direction not in ("minimize", "maximize"):
            raise ValueError(f'direction must be "minimize" or "maximize", got {direction!r}')
        self.space, self.method, self.direction = space, method, direction
        self.seed = _whole("seed", seed, 0)
        self.n_startup = _whole("n_startup", n_startup, 1)
        if elite_fraction is None:
            elite_fraction = 0.25 if method == "plain" else 0.15
        if explore is None:
            explore = {"plain": 0.0, "plus": 0.2, "posterior": 0.1}[method]
        self.explore = _share("explore", explore, open_at_0=False)
        self.settings = PlainSettings(
            _whole("population_size", population_size, 2),
            _share("elite_fraction", elite_fraction),
            _share("smoothing", smoothing),
            _share("sigma_smoothing", sigma_smoothing),
            float(sigma_exponent),
            _share("floor", floor, open_at_0=False),
            None if patience is None else _whole("patience", patience, 1),
            _share("tolerance", tolerance),
        )
        self._check_floor()
        self.deterministic = bool(deterministic)
        self._sign = 1.0 if direction == "minimize" else -1.0
        self._rows: dict[int, tuple[Trial, Array]] = {}
        self._drafts: dict[int, tuple[Trial, Array]] = {}
        self._running: dict[int, Trial] = {}
        self._finished: list[Trial] = []
        self._next = 0
        self._memory: list[tuple[Trial, PlainState, Generation]] = []
        self._surrogate: Any = None
        self._listed: list[Trial] = []  # the trials whose rows, scores and keys come next
        self._matrix, self._values = np.zeros((0, len(space))), np.zeros(0)
        self._keys: list[bytes] = []
        self._no_repeats = space.is_finite  # an adapter of a part of a space allows them
        for trial in trials:
            self.tell(trial, trial.value)

    def _check_floor(self) -> None:
        most = int(max(self.space.cells[~self.space.is_real], default=1))
        floor, tolerance = self.settings.floor, self.settings.tolerance
        if floor * most >= 1:
            raise ValueError(f"floor must be below 1/{most}, one over the choices, got {floor!r}")
        if floor * (most - 1) > tolerance:
            raise ValueError(
                f"tolerance must be at least {floor * (most - 1):.4g}, which a floor of {floor!r} "
                f"leaves to {most - 1} choices, or the search never stops; got {tolerance!r}"
            )

    # ---------------------------------------------------------------- asking and telling

    @overload
    def ask(self) -> Trial: ...
    @overload
    def ask(self, n: int) -> list[Trial]: ...

    def ask(self, n: int | None = None) -> Trial | list[Trial]:
        """The next trial to evaluate, or a list of ``n``; no limit to how many are running.

        Cost: "plain" and "plus" well under a millisecond for small spaces, "posterior" some tens.
        """
        if n is not None:
            return [self.ask() for _ in range(_whole("n", n, 0))]
        params = self.suggest(self._finished, list(self._running.values()), self._next)
        trial = Trial(self._next, params)
        self._next += 1
        self._running[trial.number] = trial
        return trial

    def tell(self, trial: Trial, value: Any) -> None:
        """Record what came of a trial; None, NaN and infinite values mean that it failed.

        Also takes trials of another process or an earlier day, which it has not handed out itself.

        Raises ``ValueError`` if the trial is finished already or not in the space, ``TypeError`` if
        the value is no number.
        """
        if trial.number in self._rows and trial.number not in self._running:
            raise ValueError(f"trial {trial.number} has a value already")
        row = self._row(trial)
        done = trial.finished(value)
        self._drafts.pop(trial.number, None)
        self._running.pop(trial.number, None)
        self._rows[trial.number] = (done, row)
        self._finished.append(done)
        self._next = max(self._next, trial.number + 1)

    @property
    def trials(self) -> list[Trial]:
        """All trials by number, the running ones included."""
        return sorted([*self._finished, *self._running.values()], key=lambda trial: trial.number)

    # ---------------------------------------------------------------- the pure function

    def suggest(
        self, finished: Sequence[Trial], running: Sequence[Trial], number: int
    ) -> dict[str, Any]:
        """The configuration of trial ``number``: a function of nothing but arguments and settings.

        ``finished`` comes in order of completion, which decides the generations.
        """
        return self.space.decode(self._suggest(finished, running, number))

    def _suggest(self, finished: Sequence[Trial], running: Sequence[Trial], number: int) -> Array:
        rng = np.random.default_rng([self.seed, number, ASK])
        if self.method == "plain":
            state, _ = self._generations(finished)
            return state.draw(self.space, rng)
        rows, scores = self._data(finished)
        others = np.array([self._row(trial) for trial in running]).reshape(-1, len(self.space))
        seen: set[bytes] = set()
        if self._no_repeats:
            seen = set(self._keys[: len(rows)]) | {row.tobytes() for row in others}
        if number < self.n_startup or np.isfinite(scores).sum() < FEWEST:
            return self._stratified(number, seen, rng)
        if self.method == "plus":
            return propose(
                self.space,
                rows,
                scores,
                others,
                seen,
                self.settings.elite_fraction,
                self.explore,
                rng,
            )
        return self._posterior().propose(rows, scores, others, seen, self.explore, rng)

    def _stratified(self, number: int, seen: set[bytes], rng: np.random.Generator) -> Array:
        """One row of a Latin hypercube: ``n_startup`` trials, each value range met once."""
        block, index = divmod(number, self.n_startup)
        design = np.random.default_rng([self.seed, block, STARTUP])
        strata = np.stack([design.permutation(self.n_startup) for _ in range(len(self.space))], 1)
        for _ in range(16):
            z = (strata[index] + rng.random(len(self.space))) / self.n_startup
            cells = np.minimum((z * self.space.cells).astype(int), self.space.cells - 1)
            row = self.space.settle(np.where(self.space.is_real, z, cells)[None])[0]
            if row.tobytes() not in seen:
                return row
        for row in self.space.uniform(64, rng):
            if row.tobytes() not in seen:
                return row
        return row

    def _row(self, trial: Trial) -> Array:
        known = self._rows.get(trial.number) or self._drafts.get(trial.number)
        if known is not None and known[0].params == trial.params:
            return known[1]
        row = self.space.encode(trial.params)
        self._drafts[trial.number] = (trial, row)
        return row

    def _data(self, finished: Sequence[Trial]) -> tuple[Array, Array]:
        """Rows and scores to be minimised, failures being infinite; remembers the last ones."""
        known = 0
        for trial, other in zip(self._listed, finished, strict=False):
            if trial is not other:
                break
            known += 1
        if known < len(finished):
            new = np.array([self._row(trial) for trial in finished[known:]])
            self._matrix = np.concatenate([self._matrix[:known], new])
            self._values = np.concatenate([self._values[:known], self._scores(finished[known:])])
            self._keys = self._keys[:known] + [row.tobytes() for row in new]
            self._listed = list(finished)
        return self._matrix[: len(finished)], self._values[: len(finished)]

    def _scores(self, finished: Sequence[Trial]) -> Array:
        return np.array(
            [math.inf if t.value is None else self._sign * t.value for t in finished], float
        )

    def _posterior(self) -> Any:
        if self._surrogate is None:
            from genopt_core.cross_entropy.posterior import Posterior  # needs SciPy

            self._surrogate = Posterior(
                self.space, self.deterministic, self.settings.elite_fraction
            )
        return self._surrogate

    # ---------------------------------------------------------------- what it has learnt

    def _generations(self, finished: Sequence[Trial]) -> tuple[PlainState, list[Generation]]:
        """Replay the plain method; remembers what it replayed last."""
        size = self.settings.population_size
        full = len(finished) // size
        known = 0
        while known < min(full, len(self._memory)) and (
            self._memory[known][0] is finished[(known + 1) * size - 1]
        ):
            known += 1
        del self._memory[known:]
        state = self._memory[-1][1] if known else PlainState.start(self.space)
        for t in range(known + 1, full + 1):
            batch = list(finished[(t - 1) * size : t * size])
            rows, scores = np.array([self._row(t) for t in batch]), self._scores(batch)
            ties = np.random.default_rng([self.seed, t, TIES])
            elite = elite_set(scores, self.settings.elite_fraction, ties)
            level = None
            if len(elite) >= 2:  # else the distribution stays and the next generation redraws
                state = state.refit(self.space, rows[elite], t, self.settings)
                level = self._sign * float(scores[elite[-1]])
            generation = self._generation(
                t, batch, [batch[i] for i in elite], level, state.cell_probabilities(self.space)
            )
            reals = [(i, self.space.names[i]) for i in np.flatnonzero(self.space.is_real)]
            generation.mean.update({name: float(state.mean[i]) for i, name in reals})
            generation.std.update({name: float(state.std[i]) for i, name in reals})
            self._memory.append((batch[-1], state, generation))
        return state, [generation for _, _, generation in self._memory]

    def _generation(
        self,
        number: int,
        trials: Sequence[Trial],
        elites: Sequence[Trial],
        level: float | None,
        probabilities: Sequence[Array],
    ) -> Generation:
        distribution = dict(zip(self.space.names, probabilities, strict=True))
        return Generation(
            number,
            tuple(trial.number for trial in trials),
            tuple(trial.number for trial in elites),
            level,
            distribution,
            {},
            {},
            {name: relative_entropy(p) for name, p in distribution.items()},
        )

    def _fitted(self, finished: Sequence[Trial]) -> list[Array]:
        """The probabilities of cells after these trials."""
        if self.method == "plain":
            return self._generations(finished)[0].cell_probabilities(self.space)
        rows, scores = self._data(finished)
        if np.isfinite(scores).sum() < FEWEST:
            return [np.full(n, 1 / n) for n in self.space.cells]
        if self.method == "plus":
            fraction = self.settings.elite_fraction
            return fit_elite(self.space, rows, scores, fraction).probabilities
        rng = np.random.default_rng([self.seed, len(finished), FITTED])
        return list(self._posterior().distribution(rows, scores, rng))

    def distribution(self) -> dict[str, Array]:
        """Probabilities of each parameter's cells; `SearchSpace.labels` puts the cells in words."""
        return dict(zip(self.space.names, self._fitted(self._finished), strict=True))

    def entropy(self) -> dict[str, float]:
        """Entropy of each distribution over that of the uniform one: 1 at the start, 0 settled."""
        return {name: relative_entropy(p) for name, p in self.distribution().items()}

    @property
    def history(self) -> list[Generation]:
        """The start and every full generation, rebuilt from the trials."""
        first = self._generation(0, [], [], None, self._fitted([]))
        if self.method == "plain":
            return [first, *self._generations(self._finished)[1]]
        found, size = [first], self.settings.population_size
        for t in range(1, len(self._finished) // size + 1):
            sofar = self._finished[: t * size]
            rows, scores = self._data(sofar)
            elites = fit_elite(self.space, rows, scores, self.settings.elite_fraction).indices
            elites = elites[np.isfinite(scores[elites])]
            level = self._sign * float(scores[elites[-1]]) if len(elites) else None
            chosen = [sofar[i] for i in elites]
            found.append(self._generation(t, sofar[-size:], chosen, level, self._fitted(sofar)))
        return found

    @property
    def stopped(self) -> str | None:
        """Why the plain method would stop here, or None; the other methods never do."""
        if self.method != "plain":
            return None
        state, generations = self._generations(self._finished)
        if not generations:
            return None
        if state.degenerate(self.space, self.settings.tolerance):
            return "the distribution has settled on one configuration"
        levels = [g.level for g in generations if g.level is not None]
        if unchanged(levels, self.settings.patience):
            return f"the level has not changed over {self.settings.patience} generations"
        return None

    @property
    def best(self) -> Trial:
        """The trial with the best value observed; under noise, the luckiest draw.

        Raises ``ValueError`` if no trial is complete.
        """
        scores = self._scores(self._finished)
        if not np.isfinite(scores).any():
            raise ValueError("no trial is complete: nothing has been told, or all have failed")
        return self._finished[int(np.argmin(scores))]

    def recommend(self) -> Trial:
        """The trial to use: the best observed without noise, else that of least posterior mean.

        Under noise needs SciPy (a Gaussian process on all trials), for every method.

        Raises ``ValueError`` if no trial is complete.
        """
        best = self.best
        rows, scores = self._data(self._finished)
        if self.deterministic or np.isfinite(scores).sum() < 5:
            return best
        means = self._posterior().means(rows, scores)
        return self._finished[int(np.argmin(np.where(np.isfinite(scores), means, math.inf)))]


def _whole(name: str, value: Any, least: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise TypeError(f"{name} must be a whole number, got {value!r}")
    if value < least:
        raise ValueError(f"{name} must be at least {least}, got {value!r}")
    return int(value)


def _share(name: str, value: Any, *, open_at_0: bool = True) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | np.number):
        raise TypeError(f"{name} must be a number, got {value!r}")
    if not (0 < value <= 1 or (value == 0 and not open_at_0)):
        raise ValueError(f"{name} must be in {'(' if open_at_0 else '['}0, 1], got {value!r}")
    return float(value)
