r"""The cross-entropy method as a sampler of Optuna.

Storages, resuming after a crash, pruning, the dashboard, importance plots and workers on several
machines are Optuna's.  What the sampler proposes is a function of its seed, the trial's number and
the trials in the storage; what it keeps can be computed again.  Needs Optuna 5 and, for
"posterior", SciPy.
"""

import json
import threading
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from operator import attrgetter
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
from optuna.distributions import BaseDistribution, FloatDistribution
from optuna.samplers import BaseSampler
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, TrialState

from genopt_core.cross_entropy.optimizer import CrossEntropy, Direction
from genopt_core.cross_entropy.parameters import Array, Float
from genopt_core.cross_entropy.prefix import Prefix
from genopt_core.cross_entropy.proposals import Method
from genopt_core.cross_entropy.space import SearchSpace
from genopt_core.cross_entropy.trials import Generation, Trial
from genopt_core.integrations.optuna_space import Space, infer_space, parameter, within

__all__ = ["CrossEntropySampler", "infer_space", "parameter"]

PROPOSED = "genopt:proposed"
"""The system attribute under which a running trial's proposal is stored for the other workers."""
CONSTRAINTS = "constraints"
"""The system attribute from which Optuna reads the values of a ``constraints_func``."""
FEWEST_OF_BRANCH = 5
"""Trials on the same branch below which a conditional parameter learns from all branches."""
ATTEMPTS = 8
MOST_SEARCHES = 64
"""Searches kept of a study; one whose ranges change at every trial would keep them without end."""

Pair = tuple[FrozenTrial, Trial]


@dataclass
class _Search:
    """A search over some parameters, and the study's finished trials as it sees them.

    ``seen`` gives a trial's part in the search, None if it has none, and whether no trial so far
    has other parameters.
    """

    core: CrossEntropy
    seen: Prefix[FrozenTrial, tuple[Trial | None, bool]]


class _Memory:
    """What was computed from one study's trials."""

    def __init__(self) -> None:
        self.alike: Prefix[FrozenTrial, Any] = Prefix(_all_alike, None, _same_number)
        self.inferred: tuple[int, Space] = 0, {}
        self.searches: dict[str, _Search] = {}


class CrossEntropySampler(BaseSampler):
    r"""Proposes trials by `CrossEntropy`; any number of objectives, constraints and workers.

    Parameters
    ----------
    method : {"posterior", "plus", "plain"}
        As for `CrossEntropy`.
    seed : int, optional
        With a seed, sequential trials do not depend on how a search was cut into processes.  All
        workers may have the same one.  Without, it is drawn at random.
    constraints_func : callable, optional
        From a finished trial to a sequence of numbers, of which none above 0 is feasible, as for
        Optuna's samplers.  Constraints that an objective sets itself (``trial.set_constraint``)
        count too.
    **settings
        Of `CrossEntropy`, but ``direction``, ``trials`` and ``space``, which come from the study.

    Notes
    -----
    A generation is every ``population_size`` finished trials in order of completion, so no worker
    waits for another and one that dies loses its own trial only.  Failed and pruned trials rank
    behind all complete ones; a failed one whose configuration was repeated with success does not
    count.  What other workers are evaluating counts as `CrossEntropy` says.

    Parameters are drawn together.  On what values of others a parameter depends is inferred from
    the finished trials (`infer_space`).  One that is new, whose range changes or that depends on
    more than one other is drawn alone, by "plus" (or "plain") from the trials on the same branch.

    With ``avoid_repeats=True`` no configuration of a finite space is proposed again while a new one
    is left, and a warning says when none is.  It begins when a first trial is finished, and holds
    while no parameter is drawn alone.  A study is not stopped.

    With several objectives ``study.best_trials`` are the result, as with all of Optuna's samplers.
    "posterior" computes their hypervolume exactly, at a cost that grows fast with their number: of
    40 trials a proposal takes 0.03 s with three objectives, 0.06 s with seven, 0.4 s with ten.

    Examples
    --------
    >>> import optuna
    >>> optuna.logging.set_verbosity(optuna.logging.WARNING)
    >>> study = optuna.create_study(sampler=CrossEntropySampler(method="plus", seed=1))
    >>> study.optimize(lambda trial: trial.suggest_float("x", -1, 1) ** 2, n_trials=40)
    >>> study.best_value < 0.01
    True
    >>> sampler, found = study.sampler, study.sampler.search(study)
    >>> list(sampler.distribution(study)), len(sampler.history(study)), found.best.value < 0.01
    (['x'], 3, True)
    """

    def __init__(
        self,
        *,
        method: Method = "posterior",
        seed: int | None = None,
        constraints_func: Callable[[FrozenTrial], Sequence[float]] | None = None,
        **settings: Any,
    ) -> None:
        for name in ("space", "direction", "trials"):
            if name in settings:
                raise TypeError(f"{name} comes from the study and cannot be set")
        if seed is None:
            seed = int(np.random.SeedSequence().generate_state(1)[0])
        if constraints_func is not None and not callable(constraints_func):
            raise TypeError(f"constraints_func must be callable, got {constraints_func!r}")
        self.method, self.seed, self.settings = method, seed, settings
        self.constraints_func = constraints_func
        CrossEntropy(SearchSpace({"x": Float(0, 1)}), method, seed=seed, **settings)  # its checks
        self._forget()

    def _forget(self) -> None:
        self._memories: WeakKeyDictionary[Study, _Memory] = WeakKeyDictionary()
        self._lock = threading.RLock()

    def __getstate__(self) -> dict[str, Any]:
        names = ("method", "seed", "settings", "constraints_func")
        return {name: getattr(self, name) for name in names}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._forget()

    def reseed_rng(self) -> None:
        """Nothing: every trial has its own random numbers, whichever worker asks."""

    # ---------------------------------------------------------------- what Optuna asks for

    def infer_relative_search_space(
        self, study: Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """The parameters of the finished trials whose presence is understood and that can vary."""
        with self._lock:
            return {name: d for name, (d, _) in self._infer(study).items()}

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Values of these parameters, drawn together; only of those that exist."""
        with self._lock:
            space = within(self._infer(study), search_space)
            if not space:
                return {}
            search = self._search(study, space)
            pairs, inside = self._trials(study, search)
            finished = _without_repeated(pairs)
            avoid = search.core.avoid_repeats
            if avoid is None:
                avoid = self.method != "plain"
            avoid = avoid and search.core.space.is_finite and inside
            avoided: list[Trial] = []
            for _ in range(ATTEMPTS):
                running = self._running(study, trial, space, search.core)
                params = search.core.suggest(
                    finished, [*running, *avoided], trial.number, avoid_repeats=avoid
                )
                _publish(study, trial, space, params)
                if not avoid:
                    break
                # Another worker may have proposed the same before it could see this proposal; it
                # may be done with it by now.  Running trials first, so that none is missed.
                again = self._running(study, trial, space, search.core)
                known = {frozen.number for frozen, _ in pairs}
                after = self._trials(study, search)[0]
                again += [done for frozen, done in after if frozen.number not in known]
                twins = [other for other in again if other.params == params]
                if not twins:
                    break
                avoided += twins
        return params

    def sample_independent(
        self,
        study: Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        """The value of a parameter that not all trials have, given the branch taken so far."""
        space = {param_name: (param_distribution, parameter(param_distribution))}
        with self._lock:
            search = self._search(study, space, crc=zlib.crc32(param_name.encode()))
            pairs, _ = self._trials(study, search)
            done = [p for p in pairs if p[0].distributions.get(param_name) == param_distribution]
            branch = {
                name: value
                for name, value in trial.params.items()
                if not isinstance(trial.distributions[name], FloatDistribution)
            }
            alike = [p for p in done if all(p[0].params.get(n) == v for n, v in branch.items())]
            finished = _without_repeated(alike if len(alike) >= FEWEST_OF_BRANCH else done)
            core = search.core
            if len(finished) < FEWEST_OF_BRANCH:  # plainly uniform: a branch has no design
                rng = np.random.default_rng([core.seed, trial.number])
                return core.space.decode(core.space.uniform(1, rng)[0])[param_name]
            return core.suggest(finished, [], trial.number, avoid_repeats=False)[param_name]

    def after_trial(
        self,
        study: Study,
        trial: FrozenTrial,
        state: TrialState,
        values: Sequence[float] | None,
    ) -> None:
        """Ask for the constraints of a trial that ran to an end, and store them beside it.

        Raises ``ValueError`` if one is NaN; what ``constraints_func`` raises goes on.
        """
        if self.constraints_func is None or state == TrialState.FAIL:
            return
        told = tuple(float(c) for c in self.constraints_func(trial))
        if np.isnan(told).any():
            raise ValueError(f"constraints_func must return numbers, got {told!r}")
        study._storage.set_trial_system_attr(trial._trial_id, CONSTRAINTS, told)

    # ---------------------------------------------------------------- from Optuna to the core

    def _memory(self, study: Study) -> _Memory:
        return self._memories.setdefault(study, _Memory())

    def _infer(self, study: Study) -> Space:
        trials = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED))
        memory = self._memory(study)
        if memory.inferred[0] != len(trials):
            alike = memory.alike(trials)[-1] is not False
            memory.inferred = len(trials), infer_space(trials[:1] if alike else trials)
        return memory.inferred[1]

    def _search(self, study: Study, space: Space, crc: int = 0) -> _Search:
        """The search over a space; with ``crc`` that of one parameter alone."""
        searches, tag = self._memory(study).searches, repr((crc, space))
        if tag not in searches:
            method, seed, settings = self.method, self.seed, dict(self.settings)
            if crc:
                seed = int(np.random.SeedSequence([self.seed, crc]).generate_state(1)[0])
                method = "plain" if self.method == "plain" else "plus"
                settings["n_startup"] = 1
            core = CrossEntropy(
                SearchSpace({name: own for name, (_, own) in space.items()}),
                method,
                seed=seed,
                direction=_direction(study),
                **settings,
            )
            if len(searches) >= MOST_SEARCHES:
                del searches[next(iter(searches))]
            start = None, True
            see = partial(_see, core.space, core.avoid_repeats is True)
            searches[tag] = _Search(core, Prefix(see, start, _same_number))
        return searches[tag]

    @staticmethod
    def _trials(study: Study, search: _Search) -> tuple[list[Pair], bool]:
        """Finished trials in the search's space, in order of completion; has none other names?"""
        states = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)
        done = study.get_trials(deepcopy=False, states=states)
        # The order of completion, then of number as `get_trials` has it: all workers agree on it.
        done = sorted(done, key=attrgetter("datetime_complete"))
        seen = search.seen(done)
        pairs = [(f, t) for f, (t, _) in zip(done, seen, strict=True) if t is not None]
        return pairs, all(inside for _, inside in seen[-1:])

    @staticmethod
    def _running(study: Study, trial: FrozenTrial, space: Space, core: CrossEntropy) -> list[Trial]:
        """What other workers are evaluating, as far as it is known."""
        found = []
        for other in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            if other.number == trial.number:
                continue
            coded = json.loads(other.system_attrs.get(PROPOSED, "{}"))
            known = {n: d.to_external_repr(coded[n]) for n, (d, _) in space.items() if n in coded}
            known |= {name: value for name, value in other.params.items() if name in space}
            params = {name: known[name] for name in space if name in known}
            if _fits(core.space, params):
                found.append(Trial(other.number, params))
        return found

    # ---------------------------------------------------------------- what a notebook shows

    def search(self, study: Study) -> CrossEntropy:
        """The search over the parameters as it stands: distribution, history, entropy.

        Raises ``ValueError`` if no trial is finished or none has a parameter that can vary.
        """
        with self._lock:
            space = self._infer(study)
            if not space:
                raise ValueError("the study has no finished trial, or no parameter that can vary")
            search = self._search(study, space)
            trials = _without_repeated(self._trials(study, search)[0])
        return CrossEntropy(
            search.core.space,
            self.method,
            seed=self.seed,
            direction=_direction(study),
            trials=trials,
            **self.settings,
        )

    def distribution(self, study: Study) -> dict[str, Array]:
        """Probabilities of the cells of every parameter, of any study, live or resumed."""
        return self.search(study).distribution()

    def history(self, study: Study) -> list[Generation]:
        """The start and every full generation of a study."""
        return self.search(study).history


def _publish(study: Study, trial: FrozenTrial, space: Space, params: dict[str, Any]) -> None:
    """Write down what a running trial is about to evaluate.

    This and `CrossEntropySampler.after_trial` use what Optuna keeps private, hence the pin below
    5.1: a sampler is handed frozen trials, to which nothing public writes.
    """
    coded = {n: float(space[n][0].to_internal_repr(value)) for n, value in params.items()}
    study._storage.set_trial_system_attr(trial._trial_id, PROPOSED, json.dumps(coded))


def _direction(study: Study) -> Direction | list[Direction]:
    words: dict[bool, Direction] = {True: "maximize", False: "minimize"}
    found = [words[direction == StudyDirection.MAXIMIZE] for direction in study.directions]
    return found if len(found) > 1 else found[0]


def _same_number(one: FrozenTrial, two: FrozenTrial) -> bool:
    return one.number == two.number  # a finished trial does not change


def _all_alike(before: Any, trial: FrozenTrial) -> Any:
    """The parameters, in order, if all trials so far have the same; else False."""
    own = list(trial.distributions.items())
    return own if before is None or before == own else False


def _see(
    space: SearchSpace, lenient: bool, before: tuple[Trial | None, bool], frozen: FrozenTrial
) -> tuple[Trial | None, bool]:
    """The core's trial, if it lies in a space, and whether there are no other names so far.

    If ``lenient``, a name that has but one value is none.
    """
    params = {n: v for n, v in frozen.params.items() if n in space.parameters}
    trial = None
    if _fits(space, params):
        values = frozen.values if frozen.state == TrialState.COMPLETE else None
        value = values[0] if values is not None and len(values) == 1 else values
        trial = Trial(frozen.number, params).finished(value, frozen.constraints)
    names = {n for n, d in frozen.distributions.items() if not (lenient and d.single())}
    return trial, before[1] and names <= space.parameters.keys()


def _without_repeated(pairs: list[Pair]) -> list[Trial]:
    """The core's trials, less the failures whose configuration was repeated with success."""
    if all(trial.state != "failed" for _, trial in pairs):
        return [trial for _, trial in pairs]
    good = {_key(f.params) for f, _ in pairs if f.state == TrialState.COMPLETE}
    return [t for f, t in pairs if f.state != TrialState.FAIL or _key(f.params) not in good]


def _fits(space: SearchSpace, params: dict[str, Any]) -> bool:
    """Whether these are all the values that a configuration of the space has."""
    try:
        space.encode(params)
    except ValueError:
        return False
    return True


def _key(params: dict[str, Any]) -> str:
    return repr(sorted(params.items()))
