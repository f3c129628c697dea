r"""What a cross-entropy search proposes and has learned: functions of its trials and settings.

The random numbers of trial k come from ``default_rng([seed, k, purpose])``, and what is kept can be
computed again.  A search that is resumed from its trials therefore goes on exactly as it would
have, on this machine or another.
"""

import math
import operator
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from genopt_core import checks
from genopt_core.cross_entropy.outcomes import Outcomes
from genopt_core.cross_entropy.parameters import Array
from genopt_core.cross_entropy.plain import PlainSettings, PlainState, elite_set
from genopt_core.cross_entropy.plus import elite_of_all, fit_elite, propose
from genopt_core.cross_entropy.prefix import Prefix
from genopt_core.cross_entropy.space import SearchSpace
from genopt_core.cross_entropy.trials import Generation, Trial, relative_entropy

if TYPE_CHECKING:
    from genopt_core.cross_entropy.posterior import Posterior

Method = Literal["plain", "plus", "posterior"]
ASK, STARTUP, TIES, FITTED, LAST_RESORT = range(
    5
)  # purposes of random numbers, so that streams do not overlap
MOST_REDRAWN = 64
FEWEST = 3  # finite values that the improved methods need before they fit anything
# After a generation: the plain method's distribution, all trials so far, what a notebook shows.
Fit = tuple[PlainState, list[Trial], Generation]


@dataclass
class Proposals:
    """The rule by which `CrossEntropy`, which checks its settings, draws configurations.

    ``signs`` turns each objective into one to minimize.  Finished trials come in order of
    completion, which decides the generations.
    """

    space: SearchSpace
    method: Method
    seed: int
    signs: Array
    settings: PlainSettings
    n_startup: int
    explore: float
    deterministic: bool
    avoid_repeats: bool | None

    def __post_init__(self) -> None:
        self._said_used_up = False
        self._rows: dict[int, tuple[dict[str, Any], Array]] = {}
        self._observed: Prefix[Trial, tuple[bytes, float]] = Prefix(self._observe, (b"", 0.0))
        start = PlainState.start(self.space)
        fitted = start.cell_probabilities(self.space) if self.method == "plain" else self._uniform()
        first = self._generation(0, [], [], None, fitted)
        self._fits: Prefix[Sequence[Trial], Fit] = Prefix(
            self._fit, (start, [], first), _the_same_trials
        )

    # ---------------------------------------------------------------- what comes next

    def suggest(
        self, finished: Sequence[Trial], running: Sequence[Trial], number: int, avoid: bool
    ) -> Array:
        """The row of trial ``number``, new among finished and running ones if that is to be."""
        rng = np.random.default_rng([self.seed, number, ASK])
        strict = avoid and self.avoid_repeats is True
        if self.method == "plain" and not strict:
            return self._state(finished).draw(self.space, rng)
        rows, scores, keys = self.data(finished)
        others = np.array([self.row(trial) for trial in running]).reshape(-1, len(self.space))
        seen = {*keys, *(row.tobytes() for row in others)} if avoid else set()
        if self.method == "plain":
            state = self._state(finished)
            draws = (state.draw(self.space, rng) for _ in range(MOST_REDRAWN))
            row = next((row for row in draws if row.tobytes() not in seen), None)
            row = state.draw(self.space, rng) if row is None else row
        elif number < self.n_startup or np.isfinite(scores).sum() < FEWEST:
            row = self._stratified(number, seen, rng)
        elif self.method == "plus":
            outcomes = self.outcomes(finished)
            share = self.settings.elite_fraction
            feasible = outcomes.feasible if outcomes and outcomes.constraints else None
            row = propose(
                self.space, rows, scores, others, seen, share, self.explore, rng, feasible
            )
        else:
            outcomes = self.outcomes(finished)
            row = self.posterior.propose(rows, scores, others, seen, self.explore, rng, outcomes)
        if strict and row.tobytes() in seen and self.space.is_finite:
            return self._new(row, seen, number)
        return row

    def _new(self, row: Array, seen: set[bytes], number: int) -> Array:
        """Any configuration that is not seen, else ``row`` and, once, a warning."""
        if len(seen) < self.space.size:
            rng = np.random.default_rng([self.seed, number, LAST_RESORT])
            for other in self.space.configurations(rng):
                if other.tobytes() not in seen:
                    return other
        if not self._said_used_up:
            self._said_used_up = True
            warnings.warn(f"{self.used_up_words()}; from here on they repeat", stacklevel=2)
        return row

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

    def used_up(self, trials: Iterable[Trial]) -> bool:
        """Whether nothing is new: every configuration of a finite space is among the trials."""
        trials = list(trials)
        if len(trials) < self.space.size:
            return False
        return len({self.row(trial).tobytes() for trial in trials}) == self.space.size

    def used_up_words(self) -> str:
        """What a search says that has nothing new to propose."""
        return f"all {self.space.size} configurations have been tried"

    # ---------------------------------------------------------------- what the trials say

    def row(self, trial: Trial) -> Array:
        """The trial's configuration as the space encodes it."""
        known = self._rows.get(trial.number)
        if known is None or known[0] != trial.params:
            params = dict(trial.params)
            known = self._rows[trial.number] = params, self.space.encode(params)
        return known[1]

    def score(self, trial: Trial) -> float:
        """To be minimized; failures are infinite."""
        return math.inf if trial.value is None else float(self.signs[0]) * trial.value

    def _observe(self, _: tuple[bytes, float], trial: Trial) -> tuple[bytes, float]:
        return self.row(trial).tobytes(), self.score(trial)

    def data(self, finished: Sequence[Trial]) -> tuple[Array, Array, list[bytes]]:
        """Rows and scores of trials, and each row's bytes."""
        observed = self._observed(finished)
        keys = [key for key, _ in observed]
        rows = np.frombuffer(b"".join(keys)).reshape(-1, len(self.space))
        outcomes = self.outcomes(finished)
        if outcomes is not None:
            size = elite_of_all(len(finished), self.settings.elite_fraction)
            return rows, outcomes.scores(size), keys
        return rows, np.array([score for _, score in observed], float), keys

    def outcomes(self, finished: Sequence[Trial]) -> Outcomes | None:
        """What decides the order with several objectives or constraints, else None."""
        if len(self.signs) > 1 or any(trial.constraints for trial in finished):
            return Outcomes.of(finished, self.signs)
        return None

    @cached_property
    def posterior(self) -> "Posterior":
        """The Gaussian process behind the elite's probability; made when it is first asked for."""
        with checks.extra("search"):
            from genopt_core.cross_entropy.posterior import Posterior

        return Posterior(self.space, self.deterministic, self.settings.elite_fraction)

    # ---------------------------------------------------------------- what it has learned

    @property
    def start(self) -> Generation:
        """The distribution before any trial."""
        return self._fits.start[-1]

    def generations(self, finished: Sequence[Trial]) -> list[Fit]:
        """What was known after each full generation."""
        size = self.settings.population_size
        return self._fits([finished[i - size : i] for i in range(size, len(finished) + 1, size)])

    def _state(self, finished: Sequence[Trial]) -> PlainState:
        """The plain method's distribution, replayed."""
        fits = self.generations(finished)
        return fits[-1][0] if fits else self._fits.start[0]

    def _fit(self, before: Fit, batch: Sequence[Trial]) -> Fit:
        """The next generation: fitted to itself by "plain", else to all trials so far."""
        state, sofar, last = before
        sofar, t = [*sofar, *batch], last.number + 1
        rows, scores, _ = self.data(sofar)
        level = None
        if self.method == "plain":
            ties = np.random.default_rng([self.seed, t, TIES])
            elite = elite_set(scores[-len(batch) :], self.settings.elite_fraction, ties)
            elite = elite + len(sofar) - len(batch)
            if len(elite) >= 2:  # else the distribution stays and the next generation redraws
                state = state.refit(self.space, rows[elite], t, self.settings)
                level = sofar[elite[-1]].value
            fitted = state.cell_probabilities(self.space)
        else:
            elite = fit_elite(self.space, rows, scores, self.settings.elite_fraction).indices
            elite = elite[np.isfinite(scores[elite])]
            if len(elite):
                level = sofar[elite[-1]].value
            fitted = self.fitted(sofar)
        generation = self._generation(t, batch, [sofar[i] for i in elite], level, fitted)
        if self.method == "plain":
            for i in np.flatnonzero(self.space.is_real):
                generation.mean[self.space.names[i]] = float(state.mean[i])
                generation.std[self.space.names[i]] = float(state.std[i])
        return state, sofar, generation

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

    def fitted(self, finished: Sequence[Trial]) -> list[Array]:
        """The probabilities of cells after these trials."""
        if self.method == "plain":
            return self._state(finished).cell_probabilities(self.space)
        rows, scores, _ = self.data(finished)
        if np.isfinite(scores).sum() < FEWEST:
            return self._uniform()
        if self.method == "plus":
            fraction = self.settings.elite_fraction
            return fit_elite(self.space, rows, scores, fraction).probabilities
        rng = np.random.default_rng([self.seed, len(finished), FITTED])
        return list(self.posterior.distribution(rows, scores, rng, self.outcomes(finished)))

    def _uniform(self) -> list[Array]:
        return [np.full(n, 1 / n) for n in self.space.cells]


def _the_same_trials(one: Sequence[Trial], two: Sequence[Trial]) -> bool:
    return all(map(operator.is_, one, two))
