r"""A whole search in one call, in this process or on any executor.

The executor is the caller's: a process pool, Dask's ``client.get_executor()``, MPI's.  Results do
not depend on it.  Trial n is asked for when trials 0 to n - batch_size have been told and the ones
between are running, whichever finished first; the workers never wait for a whole generation.
"""

import hashlib
import warnings
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import BrokenExecutor, Executor, Future
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from genopt_core import checks
from genopt_core.cross_entropy.optimizer import CrossEntropy
from genopt_core.cross_entropy.space import SearchSpace
from genopt_core.cross_entropy.trials import Trial

Objective = Callable[..., float]


@dataclass(frozen=True)
class Confirmation:
    """A winner on fresh seeds: the mean of its new values and that mean's standard error.

    >>> from genopt_core.cross_entropy import Float
    >>> noisy = lambda params, seed: params["x"] ** 2 + seed % 2
    >>> space = SearchSpace({"x": Float(-1, 1)})
    >>> settings = {"method": "plain", "seeded": True, "deterministic": True}
    >>> found = minimize(noisy, space, 10, confirm=1, confirm_repeats=4, **settings)
    >>> len(found.confirmed[0].values), 0 <= found.confirmed[0].mean <= 2
    (4, True)
    """

    trial: Trial
    mean: float
    standard_error: float
    values: tuple[float, ...]


@dataclass(frozen=True)
class Result:
    """What a search found.

    Parameters
    ----------
    recommended : Trial or None
        The configuration to use: the best on fresh seeds if winners were confirmed, else what
        `CrossEntropy.recommend` says.  None if no trial is complete.
    best : Trial or None
        The trial with the best value observed, which under noise flatters itself.
    confirmed : list of Confirmation
        Best mean first.
    stopped : str or None
        Why the search ended before its budget.
    errors : dict of int to str
        What the failed trials' objective raised, by trial number.
    """

    recommended: Trial | None
    best: Trial | None
    trials: list[Trial]
    confirmed: list[Confirmation]
    stopped: str | None
    errors: dict[int, str]
    optimizer: CrossEntropy


def minimize(
    objective: Objective,
    space: SearchSpace,
    n_evals: int,
    executor: Executor | None = None,
    *,
    batch_size: int = 1,
    trials: Iterable[Trial] = (),
    seeded: bool = False,
    repeats: int = 1,
    confirm: int = 0,
    confirm_repeats: int = 8,
    retries: int = 2,
    make_executor: Callable[[], Executor] | None = None,
    callback: Callable[[CrossEntropy, Trial], None] | None = None,
    **settings: Any,
) -> Result:
    """Search for the configuration with the least (or greatest) value of an objective.

    Parameters
    ----------
    objective : callable
        From a configuration (a dict) to a number; with ``seeded`` also from a seed, as second
        argument.  An exception, NaN or infinity makes the trial a failure, never the search.
    space : SearchSpace
    n_evals : int
        Trials in all, those of ``trials`` included.
    executor : concurrent.futures.Executor, optional
        Where objectives are evaluated; by default here, one after the other.  The objective must
        be picklable for another process.
    batch_size : int
        Trials under way at once.  The same seed and batch size give the same result on every
        executor; somewhat more than there are workers keeps all busy beside a slow trial.
    trials : iterable of Trial
        Finished trials of an earlier call: the search goes on as if it had not been interrupted.
    seeded : bool
        Whether the objective takes a seed.
    repeats : int
        Evaluations a trial, averaged, with the *same* seeds in every trial (common random numbers).
    confirm, confirm_repeats : int
        After the search, that many winners are evaluated on that many fresh seeds each.
    retries : int
        How often a trial is tried again whose worker died; then it is a failure.
    make_executor : callable, optional
        Makes a new executor when the old one broke; a process pool breaks as a whole when one of
        its processes is killed.
    callback : callable, optional
        Called with the optimizer and each finished trial, in order of number; store trials there.
    **settings
        Of `CrossEntropy`: ``method``, ``seed``, ``direction`` and so on.

    Raises
    ------
    concurrent.futures.BrokenExecutor
        If the executor broke and there is no ``make_executor``; what was finished has been passed
        to ``callback``.

    Notes
    -----
    Warns if all trials failed, with what the first one did.  More than one machine: Dask's
    executor, or Optuna's storages with `genopt_core.integrations.optuna`.

    Examples
    --------
    >>> from genopt_core.cross_entropy import Float
    >>> space = SearchSpace({"x": Float(-1, 1)})
    >>> square = lambda params: params["x"] ** 2
    >>> result = minimize(square, space, 30, method="plus", deterministic=True)
    >>> abs(result.best.params["x"]) < 0.1
    True
    """
    if not callable(objective):
        raise TypeError(f"objective must be callable, got {objective!r}")
    n_evals = checks.whole(n_evals, "n_evals", 0)
    batch_size = checks.whole(batch_size, "batch_size")
    repeats = checks.whole(repeats, "repeats")
    confirm = checks.whole(confirm, "confirm", 0)
    confirm_repeats = checks.whole(confirm_repeats, "confirm_repeats")
    retries = checks.whole(retries, "retries", 0)
    optimizer = CrossEntropy(space, **settings)
    if optimizer.is_multiple:
        raise ValueError(
            "direction must be one direction, for several objectives ask and tell a CrossEntropy; "
            f"got {settings['direction']!r}"
        )
    done = sorted(trials, key=lambda trial: trial.number)
    if [trial.number for trial in done] != list(range(len(done))):
        raise ValueError(
            "trials must be numbered 0, 1, 2 … without gaps, got "
            f"{[trial.number for trial in done]}"
        )
    for trial in done:
        optimizer.tell(trial, trial.value, trial.constraints)
    workers = _Workers(executor, make_executor, retries)
    seeds = _seeds(optimizer.seed, "search", repeats) if seeded else [None] * repeats
    errors: dict[int, str] = {}
    under_way: list[tuple[Trial, _Task]] = []
    finished = list(done)
    stopped, cause = None, ""
    asked = len(done)
    while len(finished) < n_evals and stopped is None:
        while asked < n_evals and len(under_way) < batch_size:
            told = finished[: max(0, asked - batch_size + 1)]
            running = [Trial(t.number, t.params) for t in finished[len(told) :]]
            running += [trial for trial, _ in under_way]
            if optimizer.avoid_repeats and optimizer.used_up([*told, *running]):
                break
            trial = Trial(asked, optimizer.suggest(told, running, asked))
            under_way.append((trial, workers.submit(objective, trial.params, seeds)))
            asked += 1
        trial, task = under_way.pop(0)
        value, error = workers.result(task)
        if error:
            errors[trial.number] = error
        finished.append(optimizer.tell(trial, value))
        cause = cause or error or f"the objective returned {value}"
        if callback is not None:
            callback(optimizer, finished[-1])
        stopped = optimizer.stopped
    for _, task in under_way:  # the plain method stopped early
        task.cancel()
    complete = any(trial.value is not None for trial in finished)
    if cause and not complete:
        warnings.warn(f"all {len(finished)} trials failed, the first: {cause}", stacklevel=2)
    suggested = _recommended(optimizer) if complete else None
    confirmed = []
    if confirm and suggested is not None:
        fresh = _seeds(optimizer.seed, "confirm", confirm_repeats)
        winners = _winners(optimizer, suggested, confirm)
        confirmed = _confirm(optimizer, workers, objective, winners, fresh, seeded)
    return Result(
        confirmed[0].trial if confirmed else suggested,
        optimizer.best if complete else None,
        finished,
        confirmed,
        stopped,
        errors,
        optimizer,
    )


def _seeds(seed: int, purpose: str, size: int) -> list[Any]:
    """Seeds of 32 bits for the objective, different for the search and for confirming."""
    tag = int.from_bytes(hashlib.sha256(purpose.encode()).digest()[:4], "big")
    return [int(s) for s in np.random.SeedSequence([seed, tag]).generate_state(size)]


def _recommended(optimizer: CrossEntropy) -> Trial:
    """What is recommended, or where there is no SciPy for that, with a warning, the best trial."""
    try:
        return optimizer.recommend()
    except ModuleNotFoundError as error:
        warnings.warn(
            f"{error}; without it the best observed trial is recommended, which under noise "
            "flatters itself",
            stacklevel=3,
        )
        return optimizer.best


def _winners(optimizer: CrossEntropy, recommended: Trial, size: int) -> list[Trial]:
    """The recommended trial and the best observed ones, different configurations all."""
    ranked = [recommended]
    complete = [trial for trial in optimizer.trials if trial.value is not None]
    ranked += sorted(complete, key=optimizer.key)
    found: list[Trial] = []
    for trial in ranked:
        if all(trial.params != other.params for other in found):
            found.append(trial)
    return found[:size]


def _confirm(
    optimizer: CrossEntropy,
    workers: "_Workers",
    objective: Objective,
    winners: list[Trial],
    seeds: list[Any],
    seeded: bool,
) -> list[Confirmation]:
    tasks = [
        [workers.submit(objective, trial.params, [s if seeded else None]) for s in seeds]
        for trial in winners
    ]
    found = []
    for trial, row in zip(winners, tasks, strict=True):
        values = [trial.finished(workers.result(task)[0]).value for task in row]
        good = np.array([v for v in values if v is not None])
        if len(good) < len(values):
            continue  # a winner that fails on a fresh seed is none
        spread = float(good.std(ddof=1) / np.sqrt(len(good))) if len(good) > 1 else float("nan")
        found.append(Confirmation(trial, float(good.mean()), spread, tuple(good.tolist())))
    return sorted(found, key=lambda c: optimizer.key(replace(c.trial, value=c.mean)))


# ---------------------------------------------------------------- where objectives run


def evaluate(objective: Objective, params: Mapping[str, Any], seeds: list[Any]) -> Any:
    """The mean of an objective over seeds; None stands for an objective without a seed."""
    values = [
        objective(dict(params)) if seed is None else objective(dict(params), seed) for seed in seeds
    ]
    return values[0] if len(values) == 1 else float(np.mean(np.array(values, float)))


@dataclass
class _Task:
    """An evaluation that was handed out: the future, if there is one, and how to start it again."""

    arguments: tuple[Any, ...]
    future: Future[Any] | None
    tries: int = 0

    def cancel(self) -> None:
        if self.future is not None:
            self.future.cancel()


class _Workers:
    """The caller's executor, or none; a broken one is replaced if there is a maker."""

    def __init__(
        self, executor: Executor | None, make: Callable[[], Executor] | None, retries: int
    ) -> None:
        if executor is not None and not hasattr(executor, "submit"):
            raise TypeError(f"executor must be a concurrent.futures.Executor, got {executor!r}")
        self.executor = make() if executor is None and make is not None else executor
        self.make, self.retries = make, retries

    def submit(self, *arguments: Any) -> _Task:
        return _Task(arguments, self._start(arguments))

    def _start(self, arguments: tuple[Any, ...]) -> Future[Any] | None:
        if self.executor is None:
            return None
        try:
            return self.executor.submit(evaluate, *arguments)
        except BrokenExecutor:
            if self.make is None:
                raise
            self.executor = self.make()
            return self.executor.submit(evaluate, *arguments)

    def result(self, task: _Task) -> tuple[Any, str | None]:
        """The value and no error, or None and the error's text."""
        while True:
            try:
                if task.future is None:
                    return _number(evaluate(*task.arguments)), None
                return _number(task.future.result()), None
            except BrokenExecutor as error:
                if self.make is None:
                    raise
                task.tries += 1
                if task.tries > self.retries:
                    return None, f"{type(error).__name__}: {error}"
                task.future = self._start(task.arguments)
            except Exception as error:  # the objective's own, whatever it is
                return None, f"{type(error).__name__}: {error}"


def _number(value: Any) -> float | None:
    """The value as a number; what is none is the objective's error, and so this trial's."""
    return None if value is None else float(value)
