"""Eighteen real tunings: scikit-learn's models on scikit-learn's own data, every setting scored.

    python -m book.experiments.cross_entropy.tunings             # 25 CPU minutes, resumes
    python -m book.experiments.cross_entropy.tunings --check     # 20 settings of each again

What is tuned is the cross-validated error: the share of wrong answers, or of the variance that is
not explained, so it is full of plateaus and steps.  A continuous space cannot be tabulated, so
each range is cut to a few levels, logarithmic where the parameter is, and *all* settings of the
grid are trained; every searcher is offered the same ordered levels, as integers, and the same
categories.  A parameter with ``when`` exists only beside certain values of another.

Half of the tunings may be looked at while a method is written, the others are scored once, after
its last change.  ``halves`` draws the lot; the tree on breast cancer is in the first by decree,
since it is the case from which this suite came.  Which is which, the grids, the folds and the seeds
of the final race were committed before any table was made; seven grids of the untouched half were
made smaller later, before any of them was trained.
"""

from __future__ import annotations

import json
import os
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np

from book.experiments.common.main import parser
from book.experiments.common.places import RESULTS, SCRATCH
from book.experiments.common.store import provenance, read, whole_lines, write_results
from book.experiments.cross_entropy.problems import Parameter, Problem
from book.experiments.cross_entropy.tuning_models import Settings, errors

LOT = 20261126
DEVELOPMENT_SEEDS = tuple(range(8))
FINAL_SEEDS = tuple(range(100, 108))
ADDED_SEEDS = tuple(range(108, 148))
"""For more power: fixed after the results of `FINAL_SEEDS` were known, before any of these ran."""
RUNS = SCRATCH / "tunings"
UNIT = 1e-4
WORST = 3.0
"""What diverged, or was worse: the error of a regression has no upper end."""


@dataclass(frozen=True)
class Axis:
    """The values of a parameter that are tried; ``when`` = (parent, values of the parent)."""

    name: str
    levels: tuple[Any, ...]
    ordered: bool = True
    when: tuple[str, tuple[Any, ...]] | None = None


def levels(name: str, *values: Any, when: tuple[str, tuple[Any, ...]] | None = None) -> Axis:
    return Axis(name, values, when=when)


def choice(name: str, *values: Any, when: tuple[str, tuple[Any, ...]] | None = None) -> Axis:
    return Axis(name, values, ordered=False, when=when)


def powers(
    name: str, low: float, high: float, n: int, when: tuple[str, tuple[Any, ...]] | None = None
) -> Axis:
    """``n`` levels at equal ratios, to three digits."""
    return Axis(name, tuple(float(f"{v:.3g}") for v in np.geomspace(low, high, n)), when=when)


def _svm(*kernels: str) -> tuple[Axis, ...]:
    curved = tuple(k for k in kernels if k != "linear")
    return choice("kernel", *kernels), powers("gamma", 1e-5, 10, 7, when=("kernel", curved))


# The last axis of a tuning whose model is built in stages is trained once for all its levels.
TUNINGS: dict[str, tuple[Axis, ...]] = {
    "tree-cancer": (
        choice("criterion", "gini", "entropy", "log_loss"),
        levels("max_depth", 1, 2, 4, 8, 20),
        powers("min_samples_split", 1e-3, 0.5, 4),
        levels("min_samples_leaf", 1, 3, 6, 16, 40),
        levels("max_features", 0.05, 0.15, 0.4, 0.7, 1.0),
        powers("ccp_alpha", 1e-5, 0.2, 5),
    ),
    "tree-digits": (
        choice("criterion", "gini", "entropy"),
        choice("splitter", "best", "random"),
        levels("max_depth", 2, 4, 6, 8, 12, 20),
        levels("min_samples_leaf", 1, 2, 4, 8, 16),
        levels("max_features", 0.05, 0.15, 0.4, 0.7, 1.0),
        powers("ccp_alpha", 1e-5, 0.03, 4),
    ),
    "tree-diabetes": (
        choice("criterion", "squared_error", "poisson"),
        choice("splitter", "best", "random"),
        levels("max_depth", 1, 2, 3, 4, 6, 9, 14),
        levels("min_samples_leaf", 1, 2, 5, 12, 30, 70),
        levels("max_features", 0.1, 0.3, 0.5, 0.75, 1.0),
        powers("ccp_alpha", 1e-3, 1.0, 5),
    ),
    "forest-wine": (
        choice("criterion", "gini", "entropy"),
        levels("max_depth", 1, 2, 4, 8),
        levels("max_features", 0.08, 0.2, 0.5, 1.0),
        levels("min_samples_leaf", 1, 3, 8, 20),
        choice("bootstrap", True, False),
        levels("max_samples", 0.2, 0.5, 1.0, when=("bootstrap", (True,))),
        levels("n_estimators", 1, 2, 4, 8, 16),
    ),
    "forest-diabetes": (
        choice("model", "forest", "extra"),
        choice("bootstrap", True, False),
        levels("max_depth", 2, 4, 7, 12),
        levels("min_samples_leaf", 1, 3, 6, 12, 30),
        levels("max_features", 0.1, 0.3, 0.6, 1.0),
        levels("n_estimators", 2, 4, 8, 16, 32),
    ),
    "boosting-diabetes": (
        choice("loss", "squared_error", "absolute_error", "huber"),
        levels("alpha", 0.7, 0.8, 0.95, when=("loss", ("huber",))),
        powers("learning_rate", 0.01, 0.6, 5),
        levels("max_depth", 1, 2, 4),
        levels("subsample", 0.4, 1.0),
        levels("max_features", 0.1, 0.3, 1.0),
        levels("n_estimators", 3, 6, 12, 24, 40),
    ),
    "boosting-cancer": (
        powers("learning_rate", 0.02, 2.0, 6),
        levels("max_depth", 1, 2, 3),
        levels("min_samples_leaf", 1, 5, 25),
        levels("max_features", 0.05, 0.15, 0.4, 1.0),
        levels("n_estimators", 3, 6, 12, 24, 40),
    ),
    "svm-digits": (
        choice("scaling", "none", "standard"),
        *_svm("linear", "rbf", "poly", "sigmoid"),
        levels("degree", 2, 3, 4, when=("kernel", ("poly",))),
        levels("coef0", 0.0, 0.5, 2.0, when=("kernel", ("poly", "sigmoid"))),
        powers("C", 1e-3, 1e3, 7),
    ),
    "svm-cancer": (
        choice("scaling", "none", "standard", "minmax", "robust"),
        choice("class_weight", None, "balanced"),
        *_svm("linear", "rbf", "poly"),
        levels("degree", 2, 3, when=("kernel", ("poly",))),
        powers("C", 1e-3, 1e3, 7),
    ),
    "svm-diabetes": (
        choice("scaling", "none", "standard", "quantile"),
        *_svm("linear", "rbf", "poly"),
        levels("degree", 2, 3, when=("kernel", ("poly",))),
        powers("epsilon", 0.01, 1.0, 5),
        powers("C", 1e-3, 1e2, 7),
    ),
    "neighbors-digits": (
        choice("scaling", "none", "standard"),
        levels("components", 2, 4, 8, 16, 32, 64),
        choice("whiten", True, False),
        choice("metric", "euclidean", "manhattan", "chebyshev", "cosine"),
        choice("weights", "uniform", "distance"),
        levels("n_neighbors", 1, 2, 3, 4, 5, 7, 9, 12, 16, 24),
    ),
    "neighbors-wine": (
        choice("scaling", "none", "standard", "minmax", "robust"),
        levels("features", 2, 4, 6, 8, 10, 13),
        levels("p", 1.0, 1.5, 2.0, 3.0, 6.0),
        choice("weights", "uniform", "distance"),
        levels("n_neighbors", 1, 2, 3, 4, 5, 7, 9, 12, 16, 22, 30, 40),
    ),
    "logistic-cancer": (
        choice("scaling", "standard", "minmax", "quantile"),
        levels("features", 4, 12, 30),
        choice("class_weight", None, "balanced"),
        choice("penalty", "l2", "l1", "elasticnet"),
        levels("l1_ratio", 0.2, 0.4, 0.6, 0.8, when=("penalty", ("elasticnet",))),
        powers("C", 1e-3, 1e3, 9),
    ),
    "gradient-digits": (
        choice("loss", "hinge", "log_loss", "modified_huber"),
        choice("penalty", "l2", "l1", "elasticnet"),
        levels("l1_ratio", 0.1, 0.4, 0.7, when=("penalty", ("elasticnet",))),
        choice("average", True, False),
        choice("learning_rate", "optimal", "constant", "invscaling"),
        powers("eta0", 1e-3, 1.0, 4, when=("learning_rate", ("constant", "invscaling"))),
        powers("alpha", 1e-6, 1e-1, 5),
    ),
    "linear-diabetes": (
        choice("model", "ridge", "elasticnet"),
        choice("squares", "none", "products", "all"),
        levels("features", 3, 8, 15, 30, 65),
        levels("l1_ratio", 0.1, 0.3, 0.5, 0.7, 0.9, 1.0, when=("model", ("elasticnet",))),
        powers("alpha", 1e-4, 1e3, 15),
    ),
    "network-wine": (
        levels("width", 4, 12, 32),
        levels("layers", 1, 2),
        choice("activation", "relu", "tanh"),
        choice("batch_size", 16, 64),
        powers("alpha", 1e-3, 3.0, 2),
        powers("learning_rate_init", 1e-4, 1.0, 5),
        levels("epochs", 2, 4, 8, 16, 24),
    ),
    "network-diabetes": (
        levels("width", 4, 12, 36),
        choice("activation", "relu", "tanh", "identity"),
        choice("solver", "adam", "sgd"),
        levels("momentum", 0.0, 0.5, 0.9, when=("solver", ("sgd",))),
        powers("alpha", 1e-3, 30.0, 3),
        powers("learning_rate_init", 1e-4, 0.3, 6),
        levels("epochs", 3, 6, 12, 24, 40),
    ),
    "choice-iris": (
        choice("model", "tree", "svm", "neighbors", "logistic"),
        choice("scaling", "none", "standard"),
        levels("max_depth", 1, 2, 3, 4, 6, 10, when=("model", ("tree",))),
        levels("min_samples_leaf", 1, 2, 4, 8, 16, 30, when=("model", ("tree",))),
        powers("gamma", 1e-3, 30, 8, when=("model", ("svm",))),
        powers("C", 1e-3, 1e3, 9, when=("model", ("svm", "logistic"))),
        levels("n_neighbors", *range(1, 31, 2), when=("model", ("neighbors",))),
        choice("weights", "uniform", "distance", when=("model", ("neighbors",))),
        levels("p", 1.0, 2.0, 4.0, when=("model", ("neighbors",))),
    ),
}
STAGED = ("n_estimators", "epochs")


def halves() -> dict[str, tuple[str, ...]]:
    """The lot: which tunings may be looked at, and which are left alone until the end."""
    others = [name for name in TUNINGS if name != "tree-cancer"]
    drawn = np.random.default_rng(LOT).permutation(others).tolist()
    cut = len(TUNINGS) // 2 - 1
    chosen = {"tree-cancer", *drawn[:cut]}
    return {
        "development": tuple(name for name in TUNINGS if name in chosen),
        "untouched": tuple(name for name in TUNINGS if name not in chosen),
    }


HALVES = halves()


# ------------------------------------------------------------------ all settings of a grid


def settings(axes: Sequence[Axis]) -> Iterator[Settings]:
    """All settings, the last axis fastest; only the parameters that exist."""

    def extend(chosen: Settings, rest: Sequence[Axis]) -> Iterator[Settings]:
        if not rest:
            yield dict(chosen)
            return
        axis = rest[0]
        if axis.when and chosen.get(axis.when[0], axis) not in axis.when[1]:
            yield from extend(chosen, rest[1:])
            return
        for value in axis.levels:
            yield from extend(chosen | {axis.name: value}, rest[1:])

    yield from extend({}, axes)


def groups(name: str) -> list[tuple[Settings, tuple[int, ...] | None]]:
    """What is trained at a time: settings, and the stages at which they are scored."""
    axes = TUNINGS[name]
    if axes[-1].name in STAGED:
        return [(each, axes[-1].levels) for each in settings(axes[:-1])]
    return [(each, None) for each in settings(axes)]


def scored(name: str, at: int) -> list[int]:
    """Errors of one group, in units of ``UNIT``."""
    each, stages = groups_of(name)[at]
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        found = errors(name, each, stages)
    kept = np.nan_to_num(np.minimum(found, WORST), nan=WORST, posinf=WORST)
    return [int(v) for v in np.rint(kept / UNIT)]


@cache
def groups_of(name: str) -> list[tuple[Settings, tuple[int, ...] | None]]:
    return groups(name)


# ------------------------------------------------------------------ the stored tables


def path(half: str) -> Any:
    return RESULTS / f"ce_tunings_{half}.json"


@cache
def table(name: str) -> dict[tuple[int, ...], float]:
    """Errors by the places of the levels, -1 where a parameter does not exist."""
    half = next(half for half, names in HALVES.items() if name in names)
    axes = TUNINGS[name]
    found = {}
    scores = read(path(half))["errors"][name]
    for each, error in zip(settings(axes), scores, strict=True):
        key = tuple(a.levels.index(each[a.name]) if a.name in each else -1 for a in axes)
        found[key] = error * UNIT
    return found


def problem(name: str, seed: int) -> Problem:
    """A tuning as a problem of the race; the seed is the searcher's, the errors are the same."""
    axes = TUNINGS[name]
    parents = {a.name: a for a in axes}
    parameters = []
    for a in axes:
        when = None
        if a.when:
            parent, values = a.when
            when = parent, tuple(parents[parent].levels.index(v) for v in values)
        kind = "integer" if a.ordered else "categorical"
        parameters.append(Parameter(a.name, kind, len(a.levels), when=when))
    known = table(name)

    def true(x: Mapping[str, float]) -> float:
        return known[tuple(int(x.get(a.name, -1)) for a in axes)]

    return Problem(name, "tuning", parameters, true, min(known.values()), seed)


# ------------------------------------------------------------------ making them


def make(name: str) -> list[int]:
    """All errors of a tuning; what is done lies in a file of one line a group, only added to."""
    kept = RUNS / f"{name}.jsonl"
    kept.parent.mkdir(parents=True, exist_ok=True)
    done = whole_lines(kept)
    start = time.process_time()
    with kept.open("a", encoding="utf-8") as file:
        for at in range(len(done), len(groups_of(name))):
            done.append(scored(name, at))
            file.write(json.dumps(done[-1]) + "\n")
            if at % 100 == 0:
                file.flush()
    found = [v for row in done for v in row]
    spent = round(time.process_time() - start)
    print(f"{name:18} {len(found):6} {min(found)} {np.median(found)} {spent} s", flush=True)
    return found


def check(name: str, draws: int = 20) -> int:
    """How many of some settings, drawn at random, come out otherwise than stored."""
    half = next(half for half, names in HALVES.items() if name in names)
    stored = read(path(half))["errors"][name]
    size = len(groups_of(name)[0][1] or (0,))
    drawn = np.random.default_rng(0).choice(len(groups_of(name)), draws, replace=False)
    return sum(scored(name, int(i)) != stored[i * size : (i + 1) * size] for i in drawn)


def main() -> None:
    if parser(__doc__, "check").parse_args().check:
        for name in TUNINGS:
            print(f"{name:18} {check(name)} of 20 differ")
        return
    for half in sorted(HALVES, reverse=True):
        names = HALVES[half]
        content = {
            "schema": "search-tunings/1",
            "provenance": provenance(("numpy", "scipy", "scikit-learn")),
            "about": "cross-validated errors of all settings, in the order of `settings`",
            "unit": UNIT,
            "errors": {name: make(name) for name in names},
        }
        print(half, write_results(path(half), content), "bytes")


if __name__ == "__main__":
    main()
