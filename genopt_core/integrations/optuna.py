r"""The cross-entropy method as a sampler of Optuna.

Storages, resuming after a crash, pruning, the dashboard, importance plots and workers on several
machines are Optuna's.  The sampler keeps nothing: what it proposes is a function of its seed, the
trial's number and the trials in the storage.  Needs Optuna 5 and, for "posterior", SciPy.
"""

import json
import threading
import zlib
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.samplers import BaseSampler
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, TrialState

from genopt_core.cross_entropy.optimizer import CrossEntropy, Method
from genopt_core.cross_entropy.parameters import Array, Categorical, Float, Integer, Parameter
from genopt_core.cross_entropy.space import SearchSpace
from genopt_core.cross_entropy.trials import Generation, Trial

PROPOSED = "genopt:proposed"
"""The system attribute under which a running trial's proposal is stored for the other workers."""
FEWEST_OF_BRANCH = 5
"""Trials on the same branch below which a conditional parameter learns from all branches."""
ATTEMPTS = 8


def parameter(distribution: BaseDistribution) -> Parameter:
    """The parameter of a search space that stands for a distribution of Optuna.

    Raises ``ValueError`` for a distribution that is none of Optuna's own three.

    >>> parameter(IntDistribution(1, 9, step=2))
    Integer(low=1, high=9, log=False, step=2, when=None)
    """
    if isinstance(distribution, CategoricalDistribution):
        return Categorical(distribution.choices)
    if isinstance(distribution, IntDistribution):
        return Integer(distribution.low, distribution.high, distribution.log, distribution.step)
    if isinstance(distribution, FloatDistribution):
        return Float(distribution.low, distribution.high, distribution.log, distribution.step)
    raise ValueError(
        "distribution must be an IntDistribution, FloatDistribution or CategoricalDistribution, "
        f"got {distribution!r}"
    )


def infer_space(trials: Sequence[FrozenTrial]) -> dict[str, tuple[BaseDistribution, Parameter]]:
    """The parameters of trials, with the conditions on which some of them appear.

    A parameter that not all trials have is taken to exist for those values of one other parameter
    with which it was seen; if no single parameter tells, or its range changed, it is left out.
    ``trials`` are those that ran to an end, in any order.
    """
    seen: dict[str, BaseDistribution] = {}
    changed: set[str] = set()
    for trial in sorted(trials, key=lambda t: t.number):
        for name, distribution in trial.distributions.items():
            if seen.setdefault(name, distribution) != distribution:
                changed.add(name)
    found: dict[str, tuple[BaseDistribution, Parameter]] = {}
    for name, distribution in seen.items():
        if name in changed or distribution.single():
            continue
        own = parameter(distribution)
        if any(name not in t.distributions for t in trials):
            when = _condition(name, trials, found)
            if when is None:
                continue
            own = replace(own, when=when)
        found[name] = (distribution, own)
    return found


def _condition(
    name: str,
    trials: Sequence[FrozenTrial],
    parents: dict[str, tuple[BaseDistribution, Parameter]],
) -> dict[str, list[Any]] | None:
    """The parent whose value decides whether a parameter is there, and for which values it is."""
    for parent, (_, own) in parents.items():
        if own.kind == "real":
            continue
        codes: dict[bool, dict[float, Any]] = {True: {}, False: {}}
        for trial in trials:
            there = name in trial.distributions
            if parent in trial.params:
                codes[there][own.encode(trial.params[parent])] = trial.params[parent]
            elif there:
                codes[False] |= codes[True] or {-1.0: None}  # there without the parent: not it
        if codes[True] and not codes[True].keys() & codes[False].keys():
            return {parent: [codes[True][code] for code in sorted(codes[True])]}
    return None


class CrossEntropySampler(BaseSampler):
    r"""Proposes trials by `CrossEntropy`; one objective, any number of workers.

    Parameters
    ----------
    method : {"posterior", "plus", "plain"}
        As for `CrossEntropy`.
    seed : int, optional
        With a seed, sequential trials do not depend on how a search was cut into processes.  All
        workers may have the same one.  Without, it is drawn at random.
    **settings
        Of `CrossEntropy`, but ``direction``, ``trials`` and ``space``, which come from the study.

    Raises
    ------
    TypeError, ValueError
        If an argument is not of this form; in `sample_relative`, if the study has more than one
        objective.

    Notes
    -----
    A generation is every ``population_size`` finished trials in order of completion, so no worker
    waits for another and one that dies loses its own trial only.  Failed and pruned trials rank
    behind all complete ones; a failed one whose configuration was repeated with success does not
    count.  What other workers are evaluating counts as `CrossEntropy` says.

    Parameters are drawn together.  On what values of others a parameter depends is inferred from
    the finished trials (`infer_space`).  One that is new, whose range changes or that depends on
    more than one other is drawn alone, by "plus" (or "plain") from the trials on the same branch.

    Examples
    --------
    >>> import optuna
    >>> optuna.logging.set_verbosity(optuna.logging.WARNING)
    >>> study = optuna.create_study(sampler=CrossEntropySampler(method="plus", seed=1))
    >>> study.optimize(lambda trial: trial.suggest_float("x", -1, 1) ** 2, n_trials=40)
    >>> study.best_value < 0.01
    True
    """

    def __init__(
        self, *, method: Method = "posterior", seed: int | None = None, **settings: Any
    ) -> None:
        for name in ("space", "direction", "trials"):
            if name in settings:
                raise TypeError(f"{name} comes from the study and cannot be set")
        if seed is None:
            seed = int(np.random.SeedSequence().generate_state(1)[0])
        self.method, self.seed, self.settings = method, seed, settings
        probe = CrossEntropy(SearchSpace({"x": Float(0, 1)}), method, seed=seed, **settings)
        self.n_startup = probe.n_startup
        self._forget()

    def _forget(self) -> None:
        self._spaces: dict[tuple[int, ...], dict[str, tuple[BaseDistribution, Parameter]]] = {}
        self._alike: dict[tuple[int, int], tuple[list[Any], set[int]]] = {}
        self._searches: dict[str, CrossEntropy] = {}
        self._known: dict[tuple[str, int, int], tuple[FrozenTrial, Trial | None]] = {}
        self._listed: dict[
            str, tuple[list[FrozenTrial], list[tuple[FrozenTrial, Trial]], bool]
        ] = {}
        self._lock = threading.RLock()

    def __getstate__(self) -> dict[str, Any]:
        kept = ("method", "seed", "settings", "n_startup")
        return {name: value for name, value in self.__dict__.items() if name in kept}

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
        self._raise_error_if_multi_objective(study)
        return {name: d for name, (d, _) in self._infer(study).items()}

    def _infer(self, study: Study) -> dict[str, tuple[BaseDistribution, Parameter]]:
        states = (TrialState.COMPLETE, TrialState.PRUNED)
        trials = study.get_trials(deepcopy=False, states=states)
        key = (id(study._storage), study._study_id, len(trials))
        with self._lock:
            if key not in self._spaces:
                alike = self._all_alike(key[:2], trials)
                self._spaces = {key: infer_space(trials[:1] if alike else trials)}
            return self._spaces[key]

    def _all_alike(self, study: tuple[int, int], trials: Sequence[FrozenTrial]) -> bool:
        """Whether all trials have the same parameters; looks only at those not seen before."""
        if not trials:
            return False
        like = list(trials[0].distributions.items())
        before, seen = self._alike.get(study, (like, set()))
        if before != like:
            seen = set()
        new = [trial for trial in trials if trial.number not in seen]
        alike = all(list(trial.distributions.items()) == like for trial in new)
        self._alike = {study: (like, seen | {trial.number for trial in new} if alike else set())}
        return alike and len(seen) + len(new) == len(trials)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Values of these parameters, drawn together; only of those that exist."""
        with self._lock:
            space = self._within(self._infer(study), search_space)
            if not space:
                return {}
            search, tag = self._search(study, space)
            finished, inside = self._trials(study, self._finished(study), search, tag)
            search._no_repeats = self.method != "plain" and search.space.is_finite and inside
            avoided: list[Trial] = []
            for _ in range(ATTEMPTS):
                running = self._running(study, trial, space, search)
                params = search.suggest(finished, [*running, *avoided], trial.number)
                self._publish(study, trial, space, params)
                if not search._no_repeats:
                    break
                # Another worker may have proposed the same before it could see this proposal.
                again = self._running(study, trial, space, search)
                twins = [other for other in again if other.params == params]
                if not twins:
                    break
                avoided += twins
        return params

    @staticmethod
    def _within(
        inferred: dict[str, tuple[BaseDistribution, Parameter]],
        search_space: dict[str, BaseDistribution],
    ) -> dict[str, tuple[BaseDistribution, Parameter]]:
        """The inferred parameters that are wanted, without those whose parent is not."""
        found: dict[str, tuple[BaseDistribution, Parameter]] = {}
        for name, (distribution, own) in inferred.items():
            if name in search_space and all(parent in found for parent in own.when or {}):
                found[name] = (distribution, own)
        return found

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
            search, tag = self._search(study, space, crc=zlib.crc32(param_name.encode()))
            search._no_repeats = False
            done = [
                t
                for t in self._finished(study)
                if t.distributions.get(param_name) == param_distribution
            ]
            branch = {
                name: value
                for name, value in trial.params.items()
                if not isinstance(trial.distributions[name], FloatDistribution)
            }
            alike = [t for t in done if all(t.params.get(n) == v for n, v in branch.items())]
            done = alike if len(alike) >= FEWEST_OF_BRANCH else done
            finished, _ = self._trials(study, done, search, tag)
            if len(finished) < FEWEST_OF_BRANCH:  # plainly uniform: a branch has no design
                rng = np.random.default_rng([search.seed, trial.number])
                return search.space.decode(search.space.uniform(1, rng)[0])[param_name]
            return search.suggest(finished, [], trial.number)[param_name]

    # ---------------------------------------------------------------- from Optuna to the core

    def _search(
        self, study: Study, space: dict[str, tuple[BaseDistribution, Parameter]], crc: int = 0
    ) -> tuple[CrossEntropy, str]:
        """The search over a space, and a name for the two."""
        maximize = study.direction == StudyDirection.MAXIMIZE
        tag = repr((maximize, crc, space))
        if tag not in self._searches:
            method, seed = self.method, self.seed
            settings = dict(self.settings)
            if crc:
                seed = int(np.random.SeedSequence([self.seed, crc]).generate_state(1)[0])
                method = "plain" if self.method == "plain" else "plus"
                settings["n_startup"] = 1
            self._searches[tag] = CrossEntropy(
                SearchSpace({name: own for name, (_, own) in space.items()}),
                method,
                seed=seed,
                direction="maximize" if maximize else "minimize",
                **settings,
            )
        return self._searches[tag], tag

    @staticmethod
    def _finished(study: Study) -> list[FrozenTrial]:
        """Finished trials in the order of completion, on which all workers agree."""
        states = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)
        done = study.get_trials(deepcopy=False, states=states)
        return sorted(done, key=lambda t: (t.datetime_complete, t.number))

    def _trials(
        self, study: Study, done: list[FrozenTrial], search: CrossEntropy, tag: str
    ) -> tuple[list[Trial], bool]:
        """The core's trials, of those that lie in a search's space; no other names in them?"""
        before, pairs, inside = self._listed.get(tag, ([], [], True))
        if done[: len(before)] != before:  # compares by identity first: fast where nothing changed
            before, pairs, inside = [], [], True
        found = list(pairs)
        for frozen in done[len(before) :]:
            key = (tag, study._study_id, frozen.number)
            known = self._known.get(key)
            # The same number and parameters may be those of another study.
            if known is None or (known[0] is not frozen and not _same(known[0], frozen)):
                params = {n: v for n, v in frozen.params.items() if n in search.space.parameters}
                value = frozen.value if frozen.state == TrialState.COMPLETE else None
                trial = Trial(frozen.number, params)
                known = (frozen, trial.finished(value) if _fits(search.space, params) else None)
                self._known[key] = known
            if known[1] is not None:
                found.append((frozen, known[1]))
            inside = inside and frozen.params.keys() <= search.space.parameters.keys()
        self._listed[tag] = (done, found, inside)
        if all(trial.state != "failed" for _, trial in found):
            return [trial for _, trial in found], inside
        good = {_key(f.params) for f, _ in found if f.state == TrialState.COMPLETE}
        return [
            trial
            for frozen, trial in found
            if frozen.state != TrialState.FAIL or _key(frozen.params) not in good
        ], inside

    @staticmethod
    def _publish(
        study: Study,
        trial: FrozenTrial,
        space: dict[str, tuple[BaseDistribution, Parameter]],
        params: dict[str, Any],
    ) -> None:
        coded = {n: float(space[n][0].to_internal_repr(value)) for n, value in params.items()}
        study._storage.set_trial_system_attr(trial._trial_id, PROPOSED, json.dumps(coded))

    @staticmethod
    def _running(
        study: Study,
        trial: FrozenTrial,
        space: dict[str, tuple[BaseDistribution, Parameter]],
        search: CrossEntropy,
    ) -> list[Trial]:
        """What other workers are evaluating, as far as it is known."""
        found = []
        for other in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            if other.number == trial.number:
                continue
            coded = json.loads(other.system_attrs.get(PROPOSED, "{}"))
            known = {
                name: d.to_external_repr(coded[name])
                for name, (d, _) in space.items()
                if name in coded and d._contains(coded[name])
            }
            known |= {name: value for name, value in other.params.items() if name in space}
            params = {name: known[name] for name in space if name in known}
            if _fits(search.space, params):
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
            search, tag = self._search(study, space)
            trials, _ = self._trials(study, self._finished(study), search, tag)
        return CrossEntropy(
            search.space,
            self.method,
            seed=self.seed,
            direction=search.direction,
            trials=trials,
            **self.settings,
        )

    def distribution(self, study: Study) -> dict[str, Array]:
        """Probabilities of the cells of every parameter, of any study, live or resumed."""
        return self.search(study).distribution()

    def history(self, study: Study) -> list[Generation]:
        """The start and every full generation of a study."""
        return self.search(study).history


def _fits(space: SearchSpace, params: dict[str, Any]) -> bool:
    """Whether these are all the values that a configuration of the space has."""
    try:
        space.encode(params)
    except ValueError:
        return False
    return True


def _same(one: FrozenTrial, two: FrozenTrial) -> bool:
    return (one.state, one.params, one.values) == (two.state, two.params, two.values)


def _key(params: dict[str, Any]) -> str:
    return repr(sorted(params.items()))
