"""The cross-entropy search as an object to ask for configurations and to tell their values."""

import math
from collections.abc import Iterable, Sequence
from typing import Any, Literal, overload

import numpy as np

from genopt_core import checks
from genopt_core.cross_entropy.outcomes import Outcomes
from genopt_core.cross_entropy.parameters import Array
from genopt_core.cross_entropy.pareto import dominance_ranks
from genopt_core.cross_entropy.plain import PlainSettings, unchanged
from genopt_core.cross_entropy.proposals import Method, Proposals
from genopt_core.cross_entropy.space import SearchSpace
from genopt_core.cross_entropy.trials import Generation, Trial, relative_entropy

Direction = Literal["minimize", "maximize"]


class CrossEntropy:
    r"""Search by the cross-entropy method.

    .. math:: \hat\gamma_t = S_{(N^e)}, \qquad \hat v_t = \arg\max_v \frac1N \sum_i
              \mathbf 1\{S(X_i) \text{ at least as good as } \hat\gamma_t\} \ln f(X_i; v)

    (book, eq. cem-level).  "plain" is the standard method; "plus" and "posterior" are our
    recombinations of known parts.

    Parameters
    ----------
    space : SearchSpace
    method : {"plain", "plus", "posterior"}
        "plain": the method as published, in generations.  "plus" reuses all evaluations and screens
        its proposals; NumPy only.  "posterior" replaces the indicator by its probability given the
        data, from a Gaussian process; needs SciPy.  Budgets below some hundred evaluations want
        "posterior".  Where a quarter of the values or more are exact ties, as cross-validated
        errors often are, it goes by ranks and takes a quarter of its proposals from "plus".
    seed : int
        Not negative.  An integer and no ``Generator``, since a resumed search must draw the same.
    direction : {"minimize", "maximize"} or a sequence of them
        One for each objective.  With several, the elite is the best by front and hypervolume share
        among all trials, and "posterior" weighs by the expected gain of hypervolume.
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
    avoid_repeats : bool, optional
        True: no configuration that was tried or is running is proposed again while the space has
        a new one; when it has none, a warning says so once, and `minimize` stops.  False: repeats
        are allowed, as a noisy objective may want them.  By default "plus" and "posterior" avoid
        them where the space is finite, as far as their draws find something new; "plain" does not.
    trials : iterable of Trial
        Finished trials to go on from.

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
    ...     _ = search.tell(trial, (trial.params["x"] - 1) ** 2)
    >>> search.best.params, search.distribution()["x"].round(2)
    ({'x': 1}, array([0., 1., 0.]))
    >>> new = search.suggest(search.trials, [], 100)
    >>> new, search.entropy()["x"] < 0.1, search.recommend().params
    ({'x': 1}, True, {'x': 1})
    >>> best = min(search.trials, key=search.key)
    >>> search.used_up(search.trials), best.number == search.best.number
    (True, True)
    """

    def __init__(
        self,
        space: SearchSpace,
        method: Method = "posterior",
        *,
        seed: int = 0,
        direction: Direction | Sequence[Direction] = "minimize",
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
        avoid_repeats: bool | None = None,
        trials: Iterable[Trial] = (),
    ) -> None:
        if not isinstance(space, SearchSpace):
            raise TypeError(f"space must be a SearchSpace, got {type(space).__name__}")
        self.space = space
        self.method: Method = checks.one_of(method, "method", ("plain", "plus", "posterior"))
        if method == "posterior":  # and not after ten evaluations
            with checks.extra("search"):
                import scipy  # noqa: F401
        self.direction = direction if isinstance(direction, str) else tuple(direction)
        directions = [direction] if isinstance(direction, str) else list(direction)
        if not directions:
            raise ValueError("direction must name at least one direction, got none")
        for each in directions:
            checks.one_of(each, "direction", ("minimize", "maximize"))
        self._signs = np.array([1.0 if each == "minimize" else -1.0 for each in directions])
        self.is_multiple = len(directions) > 1
        self.seed = checks.whole(seed, "seed", 0)
        self.n_startup = checks.whole(n_startup, "n_startup")
        if elite_fraction is None:
            elite_fraction = 0.25 if method == "plain" else 0.15
        if explore is None:
            explore = {"plain": 0.0, "plus": 0.2, "posterior": 0.1}[method]
        self.explore = checks.fraction(explore, "explore", zero=True)
        self.settings = PlainSettings(
            checks.whole(population_size, "population_size", 2),
            checks.fraction(elite_fraction, "elite_fraction"),
            checks.fraction(smoothing, "smoothing"),
            checks.fraction(sigma_smoothing, "sigma_smoothing"),
            checks.real(sigma_exponent, "sigma_exponent"),
            checks.fraction(floor, "floor", zero=True),
            None if patience is None else checks.whole(patience, "patience"),
            checks.fraction(tolerance, "tolerance"),
        )
        self._check_floor()
        self.deterministic = bool(deterministic)
        if avoid_repeats is not None and not isinstance(avoid_repeats, bool):
            raise TypeError(f"avoid_repeats must be True, False or None, got {avoid_repeats!r}")
        self.avoid_repeats = avoid_repeats
        self._proposals = Proposals(
            self.space,
            self.method,
            self.seed,
            self._signs,
            self.settings,
            self.n_startup,
            self.explore,
            self.deterministic,
            self.avoid_repeats,
        )
        self._running: dict[int, Trial] = {}
        self._finished: dict[int, Trial] = {}  # in order of telling
        self._next = 0
        for trial in trials:
            self.tell(trial, trial.values or trial.value, trial.constraints)

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
            return [self.ask() for _ in range(checks.whole(n, "n", 0))]
        running = list(self._running.values())
        trial = Trial(self._next, self.suggest(self._told(), running, self._next))
        self._next += 1
        self._running[trial.number] = trial
        return trial

    def tell(self, trial: Trial, value: Any, constraints: Any = ()) -> Trial:
        """Record what came of a trial, and return it; None, NaN and infinity mean that it failed.

        Also takes trials of another process or an earlier day, which it has not handed out itself.
        With several objectives ``value`` is a sequence.  A trial with one of the ``constraints``
        (a sequence, or a mapping of names) above 0 ranks behind all feasible ones, the less the
        sum of what is above 0 the better.

        Raises ``ValueError`` if the trial is finished already or not in the space, ``TypeError`` if
        the value is no number, or has not one number for each objective.
        """
        if not isinstance(trial, Trial):
            raise TypeError(f"trial must be a Trial, as `ask` returns, got {trial!r}")
        if trial.number in self._finished:
            raise ValueError(f"trial {trial.number} has a value already")
        self._proposals.row(trial)
        done = trial.finished(value, constraints)
        if done.state == "complete" and len(done.values) != self.is_multiple * len(self._signs):
            n = len(self._signs)
            wanted = f"a sequence of {n} numbers" if self.is_multiple else "one number"
            raise TypeError(f"value must be {wanted}, got {value!r}")
        self._running.pop(trial.number, None)
        self._finished[trial.number] = done
        self._next = max(self._next, trial.number + 1)
        return done

    @property
    def trials(self) -> list[Trial]:
        """All trials by number, the running ones included."""
        return sorted([*self._told(), *self._running.values()], key=lambda trial: trial.number)

    def key(self, trial: Trial) -> tuple[float, ...]:
        """What to sort finished trials of one objective by: the best first, failures last.

        Those that violate constraints come behind, equal ones by number.
        """
        lost = trial.state == "failed"
        return math.inf if lost else trial.violation, self._proposals.score(trial), trial.number

    # ---------------------------------------------------------------- what it proposes

    def suggest(
        self,
        finished: Sequence[Trial],
        running: Sequence[Trial],
        number: int,
        *,
        avoid_repeats: bool | None = None,
    ) -> dict[str, Any]:
        """The configuration of trial ``number``: a function of nothing but arguments and settings.

        ``finished`` comes in order of completion, which decides the generations.  The improved
        methods propose nothing twice if ``avoid_repeats``, by default as the search was told, or
        else where the space is finite.
        """
        avoid = self.avoid_repeats if avoid_repeats is None else avoid_repeats
        avoid = self.space.is_finite if avoid is None else avoid
        return self.space.decode(self._proposals.suggest(finished, running, number, avoid))

    def used_up(self, trials: Iterable[Trial]) -> bool:
        """Whether nothing is new: every configuration of a finite space is among the trials."""
        return self._proposals.used_up(trials)

    def _told(self) -> list[Trial]:
        return list(self._finished.values())

    # ---------------------------------------------------------------- what it has learned

    def distribution(self) -> dict[str, Array]:
        """Probabilities of each parameter's cells; `SearchSpace.labels` puts the cells in words."""
        return dict(zip(self.space.names, self._proposals.fitted(self._told()), strict=True))

    def entropy(self) -> dict[str, float]:
        """Entropy of each distribution over that of the uniform one: 1 at the start, 0 settled."""
        return {name: relative_entropy(p) for name, p in self.distribution().items()}

    @property
    def history(self) -> list[Generation]:
        """The start and every full generation, rebuilt from the trials."""
        fits = self._proposals.generations(self._told())
        return [self._proposals.start, *(generation for _, _, generation in fits)]

    @property
    def stopped(self) -> str | None:
        """Why the search would stop here, or None.

        The plain method has its two rules; each method stops that is to avoid repeats and has
        tried everything.
        """
        if self.avoid_repeats and self.used_up(self._told()):
            return self._proposals.used_up_words()
        fits = self._proposals.generations(self._told()) if self.method == "plain" else []
        if not fits:
            return None
        if fits[-1][0].degenerate(self.space, self.settings.tolerance):
            return "the distribution has settled on one configuration"
        levels = [g.level for _, _, g in fits if g.level is not None]
        if unchanged(levels, self.settings.patience):
            return f"the level has not changed over {self.settings.patience} generations"
        return None

    @property
    def best(self) -> Trial:
        """The trial with the best value observed; under noise, the luckiest draw.

        If no trial is feasible, the one that violates the constraints least.

        Raises ``ValueError`` if no trial is complete, or with several objectives.
        """
        if self.is_multiple:
            raise ValueError("several objectives have no best trial; `front` has the best ones")
        complete = [trial for trial in self._told() if trial.value is not None]
        if not complete:
            raise ValueError("no trial is complete: nothing has been told, or all have failed")
        return min(complete, key=lambda trial: self.key(trial)[:2])

    @property
    def front(self) -> list[Trial]:
        """The feasible trials that no other dominates, by number; of one objective the best ones.

        >>> from genopt_core.cross_entropy import Float
        >>> space = SearchSpace({"x": Float(0, 1)})
        >>> search = CrossEntropy(space, "plus", direction=["minimize", "maximize"])
        >>> told = [search.tell(search.ask(), v) for v in ([1, 1], [2, 2], [2, 1], [0, 0])]
        >>> [trial.number for trial in search.front]
        [0, 1, 3]
        """
        good = [t for t in self.trials if t.state == "complete" and t.violation <= 0]
        ranks = dominance_ranks(Outcomes.of(good, self._signs).losses)
        return [trial for trial, rank in zip(good, ranks, strict=True) if rank == 0]

    def recommend(self) -> Trial:
        """The trial to use: the best observed without noise, else that of least posterior mean.

        Under noise needs SciPy (a Gaussian process on all trials), for every method.

        Raises ``ValueError`` if no trial is complete.
        """
        best, finished = self.best, self._told()
        rows, scores, _ = self._proposals.data(finished)
        if self.deterministic or np.isfinite(scores).sum() < 5:
            return best
        allowed = np.isfinite(scores)
        if (outcomes := self._proposals.outcomes(finished)) is not None:
            allowed, scores = outcomes.feasible, outcomes.losses[:, 0]
            if not allowed.any():
                return best
        means = self._proposals.posterior.means(rows, scores)
        return finished[int(np.argmin(np.where(allowed, means, math.inf)))]
