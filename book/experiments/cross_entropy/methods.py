"""The methods of the search race of chapter 2, each in the idiom of its own library.

Ordinals are given as integers and logarithmic ranges as such; conditional parameters are asked for
only where they exist (Optuna define-by-run, ConfigSpace conditions) and ignored where a library
knows none (CatCMA, nevergrad).  Settings are the libraries' recommended ones, untuned.
"""

from __future__ import annotations

import contextlib
import logging
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from book.experiments.cross_entropy.problems import Parameter, Problem

Suggest = Callable[[Parameter], float]
RECOMMENDED = (30, 60, 120)


@dataclass
class Trace:
    """What a run observed, in order; stops a library that would go beyond its budget."""

    problem: Problem
    budget: int
    observed: list[float] = field(default_factory=list)
    true: list[float] = field(default_factory=list)
    seconds: float = 0.0  # inside the objective
    recommended: dict[int, float] = field(default_factory=dict)

    def evaluate(self, x: dict[str, float]) -> float:
        start = time.process_time()
        value, true = self.problem(x)
        self.observed.append(value)
        self.true.append(true)
        self.seconds += time.process_time() - start
        return value

    @property
    def full(self) -> bool:
        return len(self.observed) >= self.budget

    def collect(self, suggest: Suggest) -> dict[str, float]:
        """Ask for the active parameters in order."""
        chosen: dict[str, float] = {}
        for p in self.problem.parameters:
            if p.active(chosen):
                chosen[p.name] = suggest(p)
        return chosen

    def regrets(self, budgets: tuple[int, ...]) -> list[float]:
        """Regret of the true value of the best *observed* configuration after each budget.

        A search that ended before its budget keeps what it had.
        """
        best = [int(np.argmin(self.observed[:b])) for b in budgets if b <= self.budget]
        return [self.problem.regret(self.true[i]) for i in best]


# ------------------------------------------------------------------ Optuna


def optuna_sampler(name: str, **settings: Any) -> Callable[[Trace, int], None]:
    def run(trace: Trace, seed: int) -> None:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        kw = dict(settings)
        if kw.pop("group_if_conditional", False):
            kw["group"] = any(p.when for p in trace.problem.parameters)
        sampler = getattr(optuna.samplers, name)(seed=seed, **kw)

        def objective(trial: Any) -> float:
            def suggest(p: Parameter) -> float:
                if p.kind == "categorical":
                    return trial.suggest_categorical(p.name, list(range(p.size)))
                if p.kind == "integer":
                    return trial.suggest_int(p.name, 0, p.size - 1)
                return trial.suggest_float(p.name, p.low, p.high, log=p.log)

            return trace.evaluate(trace.collect(suggest))

        optuna.create_study(sampler=sampler).optimize(objective, n_trials=trace.budget)

    return run


# ------------------------------------------------------------------ ask and tell libraries


def scaled(p: Parameter, unit: float) -> float:
    """The float at ``unit`` of its range, on its own scale."""
    unit = min(max(unit, 0.0), 1.0)
    return p.low * (p.high / p.low) ** unit if p.log else p.low + unit * (p.high - p.low)


def catcma(trace: Trace, seed: int) -> None:
    from cmaes import CatCMAwM

    parts = {
        kind: [p for p in trace.problem.parameters if p.kind == kind]
        for kind in ("float", "integer", "categorical")
    }
    optimizer = CatCMAwM(
        x_space=[[0, 1]] * len(parts["float"]) or None,
        z_space=[list(range(p.size)) for p in parts["integer"]] or None,
        c_space=[p.size for p in parts["categorical"]] or None,
        seed=seed + 1,
    )
    while not trace.full:
        told = []
        for _ in range(min(optimizer.population_size, trace.budget - len(trace.observed))):
            drawn = optimizer.ask()
            x = {p.name: scaled(p, float(drawn.x[j])) for j, p in enumerate(parts["float"])}
            x |= {p.name: round(float(drawn.z[j])) for j, p in enumerate(parts["integer"])}
            x |= {p.name: int(np.argmax(drawn.c[j])) for j, p in enumerate(parts["categorical"])}
            told.append((drawn, trace.evaluate(trace.collect(lambda p, x=x: x[p.name]))))
        if len(told) == optimizer.population_size:
            optimizer.tell(told)


def nevergrad(name: str) -> Callable[[Trace, int], None]:
    def run(trace: Trace, seed: int) -> None:
        import nevergrad as ng

        def axis(p: Parameter) -> Any:
            if p.kind == "categorical":
                return ng.p.Choice(list(range(p.size)))
            if p.kind == "integer":  # on the development half better than TransitionChoice
                return ng.p.Scalar(lower=0, upper=p.size - 1).set_integer_casting()
            if p.log:
                return ng.p.Log(lower=p.low, upper=p.high)
            return ng.p.Scalar(lower=p.low, upper=p.high)

        space = ng.p.Dict(**{p.name: axis(p) for p in trace.problem.parameters})
        space.random_state.seed(seed)
        np.random.seed(seed)
        optimizer = ng.optimizers.registry[name](parametrization=space, budget=trace.budget)
        while not trace.full:
            candidate = optimizer.ask()
            x = candidate.value
            optimizer.tell(candidate, trace.evaluate(trace.collect(lambda p, x=x: x[p.name])))

    return run


def smac(trace: Trace, seed: int) -> None:
    from ConfigSpace import Categorical, ConfigurationSpace, EqualsCondition, Float, InCondition
    from ConfigSpace import Integer as Int
    from smac import HyperparameterOptimizationFacade, Scenario

    def axis(p: Parameter) -> Any:
        if p.kind == "categorical":
            return Categorical(p.name, list(range(p.size)))
        if p.kind == "integer":
            return Int(p.name, (0, p.size - 1))
        return Float(p.name, (p.low, p.high), log=p.log)

    space = ConfigurationSpace(seed=seed)
    space.add([axis(p) for p in trace.problem.parameters])
    for p in trace.problem.parameters:
        if p.when:
            parent, on = p.when
            if len(on) == 1:
                space.add(EqualsCondition(space[p.name], space[parent], on[0]))
            else:
                space.add(InCondition(space[p.name], space[parent], list(on)))

    def target(config: Any, seed: int = 0) -> float:
        return trace.evaluate(trace.collect(lambda p: _plain(config[p.name], p)))

    with tempfile.TemporaryDirectory() as folder:
        scenario = Scenario(
            space,
            n_trials=trace.budget,
            deterministic=True,
            seed=seed,
            output_directory=folder,
        )
        HyperparameterOptimizationFacade(
            scenario, target, overwrite=True, logging_level=False
        ).optimize()


def _plain(value: Any, p: Parameter) -> float:
    return float(value) if p.kind == "float" else int(value)


# ------------------------------------------------------------------ ours


def cross_entropy(method: str, **settings: Any) -> Callable[[Trace, int], None]:
    """`genopt_core.cross_entropy` by ask and tell; its recommendation is kept beside the best."""

    def run(trace: Trace, seed: int) -> None:
        from genopt_core.cross_entropy import Categorical, CrossEntropy, Float, Integer, SearchSpace

        def axis(p: Parameter) -> Any:
            when = {p.when[0]: list(p.when[1])} if p.when else None
            if p.kind == "categorical":
                return Categorical(list(range(p.size)), when=when)
            if p.kind == "integer":
                return Integer(0, p.size - 1, when=when)
            return Float(p.low, p.high, log=p.log, when=when)

        space = SearchSpace({p.name: axis(p) for p in trace.problem.parameters})
        search = CrossEntropy(space, method, seed=seed, **settings)  # type: ignore[arg-type]
        while not trace.full:
            trial = search.ask()
            search.tell(trial, trace.evaluate(dict(trial.params)))
            if len(trace.observed) in RECOMMENDED:
                start = time.process_time()
                true = trace.problem.true(search.recommend().params)
                trace.recommended[len(trace.observed)] = trace.problem.regret(true)
                trace.seconds += time.process_time() - start

    return run


# ------------------------------------------------------------------ the table of methods


@dataclass(frozen=True)
class Method:
    label: str
    run: Callable[[Trace, int], None]
    needs: str = "optuna"
    ours: bool = False
    plans: bool = False  # its course depends on the budget: one run for each budget
    state: str = "peer"  # of a peer's settings here; runs of another state are not mixed with it


METHODS: dict[str, Method] = {
    "random": Method("random search", optuna_sampler("RandomSampler")),
    "qmc": Method(
        "quasi-random (Sobol, scrambled)",
        optuna_sampler("QMCSampler", scramble=True, warn_independent_sampling=False),
    ),
    "tpe": Method("TPE (Optuna)", optuna_sampler("TPESampler", group_if_conditional=True)),
    "gp": Method("Gaussian process (Optuna)", optuna_sampler("GPSampler")),
    "cma": Method(
        "CMA-ES with margin (Optuna)",
        optuna_sampler("CmaEsSampler", with_margin=True, warn_independent_sampling=False),
    ),
    "nsga2": Method("NSGA-II (Optuna)", optuna_sampler("NSGAIISampler", population_size=20)),
    "catcma": Method("CatCMA with margin (cmaes)", catcma, "cmaes"),
    "nevergrad": Method(
        "NGOpt (nevergrad)", nevergrad("NGOpt"), "nevergrad", plans=True, state="peer 2"
    ),
    "smac": Method("SMAC (random forest)", smac, "smac", plans=True),
    "plain": Method("cross-entropy, plain", cross_entropy("plain"), "genopt_core", True),
    "plus": Method("cross-entropy, plus", cross_entropy("plus"), "genopt_core", True),
    "posterior": Method(
        "cross-entropy, posterior", cross_entropy("posterior"), "genopt_core", True
    ),
}


def execute(name: str, problem: Problem, budget: int, seed: int) -> tuple[Trace, float]:
    """One run and its processor seconds outside the objective."""
    trace = Trace(problem, budget)
    with warnings.catch_warnings(), contextlib.redirect_stderr(None):
        warnings.simplefilter("ignore")
        logging.disable(logging.CRITICAL)
        start = time.process_time()
        METHODS[name].run(trace, seed)
        spent = time.process_time() - start - trace.seconds
        logging.disable(logging.NOTSET)
    return trace, spent
