"""The search space of an Optuna study: its distributions, and on what some of them depend."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.trial import FrozenTrial

from genopt_core.cross_entropy.parameters import Categorical, Float, Integer, Parameter

Space = dict[str, tuple[BaseDistribution, Parameter]]


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


def infer_space(trials: Sequence[FrozenTrial]) -> Space:
    """The parameters of trials, with the conditions on which some of them appear.

    A parameter that not all trials have is taken to exist for those values of one other parameter
    with which it was seen; if no single parameter tells, or its range changed, it is left out.
    ``trials`` are those that ran to an end, in any order.

    >>> import optuna
    >>> optuna.logging.set_verbosity(optuna.logging.WARNING)
    >>> study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    >>> study.optimize(lambda trial: trial.suggest_int("n", 1, 3), n_trials=3)
    >>> {name: own for name, (_, own) in infer_space(study.trials).items()}
    {'n': Integer(low=1, high=3, log=False, step=1, when=None)}
    """
    trials = sorted(trials, key=lambda t: t.number)
    seen: dict[str, BaseDistribution] = {}
    changed: set[str] = set()
    for trial in trials:
        for name, distribution in trial.distributions.items():
            if seen.setdefault(name, distribution) != distribution:
                changed.add(name)
    found: Space = {}
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
    parents: Space,
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
                break  # without the parent: not it
        else:
            if codes[True] and not codes[True].keys() & codes[False].keys():
                return {parent: [codes[True][code] for code in sorted(codes[True])]}
    return None


def within(inferred: Space, search_space: dict[str, BaseDistribution]) -> Space:
    """The inferred parameters that are wanted, without those whose parent is not."""
    found: Space = {}
    for name, (distribution, own) in inferred.items():
        if name in search_space and all(parent in found for parent in own.when or {}):
            found[name] = (distribution, own)
    return found
