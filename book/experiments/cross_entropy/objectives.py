"""Several objectives: hypervolume of our two improved methods beside Optuna's samplers.

    python -m book.experiments.cross_entropy.objectives            # 3 CPU minutes
    python -m book.experiments.cross_entropy.objectives --check    # seed 0 of ZDT1 again

Problems, budgets, seeds and reference points were fixed before the runs; on ZDT1 and DTLZ2 the
methods had been developed (seeds 900 to 905), ZDT2 was new to them.  Optuna's Gaussian process,
which takes half a minute a study, is left out.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import optuna
from optuna.samplers import BaseSampler, NSGAIISampler, RandomSampler, TPESampler

from book.experiments.common.main import parser
from book.experiments.common.places import RESULTS
from book.experiments.common.store import provenance, read, write_results
from genopt_core.cross_entropy.pareto import hypervolume
from genopt_core.integrations.optuna import CrossEntropySampler

PATH = RESULTS / "cross_entropy_objectives.json"
SEEDS = tuple(range(8))
BUDGETS = 50, 100
COLUMNS = ("problem", "method", "seed", *(f"missing{n}" for n in BUDGETS), "seconds")
Losses = Callable[[np.ndarray], tuple[float, ...]]


def zdt1(x: np.ndarray) -> tuple[float, float]:
    g = 1 + 9 * x[1:].mean()
    return x[0], g * (1 - math.sqrt(x[0] / g))


def zdt2(x: np.ndarray) -> tuple[float, float]:
    g = 1 + 9 * x[1:].mean()
    return x[0], g * (1 - (x[0] / g) ** 2)


def dtlz2(x: np.ndarray) -> tuple[float, float, float]:
    g = 1 + ((x[2:] - 0.5) ** 2).sum()
    a, b = x[0] * math.pi / 2, x[1] * math.pi / 2
    return g * math.cos(a) * math.cos(b), g * math.cos(a) * math.sin(b), g * math.sin(a)


# Losses, parameters in [0, 1], reference point, hypervolume of the true front by hand.
PROBLEMS: dict[str, tuple[Losses, int, Sequence[float], float]] = {
    "ZDT1": (zdt1, 8, (1.1, 6.0), 5 + 2 / 3 + 0.6),
    "ZDT2": (zdt2, 8, (1.1, 6.0), 5 + 1 / 3 + 0.6),
    "DTLZ2": (dtlz2, 7, (2.5, 2.5, 2.5), 2.5**3 - math.pi / 6),
}
# NSGA-II in generations of 20: its default of 50 leaves two generations of 100 trials.
METHODS: dict[str, Callable[[int], BaseSampler]] = {
    "random": lambda seed: RandomSampler(seed=seed),
    "nsga2": lambda seed: NSGAIISampler(seed=seed, population_size=20),
    "tpe": lambda seed: TPESampler(seed=seed, multivariate=True),
    "plus": lambda seed: CrossEntropySampler(method="plus", seed=seed),
    "posterior": lambda seed: CrossEntropySampler(method="posterior", seed=seed),
}


def one(problem: str, method: str, seed: int) -> list[Any]:
    """One row: the share of the true front's hypervolume that is missing, by budget."""
    losses, size, reference, whole = PROBLEMS[problem]
    study = optuna.create_study(
        directions=["minimize"] * len(reference), sampler=METHODS[method](seed)
    )
    start = time.process_time()
    study.optimize(
        lambda trial: losses(np.array([trial.suggest_float(f"x{i}", 0, 1) for i in range(size)])),
        n_trials=max(BUDGETS),
    )
    seconds = round(time.process_time() - start, 2)
    found = np.array([trial.values for trial in study.trials])
    volumes = [hypervolume(found[:n], np.array(reference)) for n in BUDGETS]
    return [problem, method, seed, *(round(1 - v / whole, 4) for v in volumes), seconds]


def main() -> None:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    if parser(__doc__, "check").parse_args().check:
        for row in read(PATH)["rows"]:
            if row[0] == "ZDT1" and row[2] == 0:
                print(row, "again", one(*row[:3])[3:])
        return
    rows = [one(p, m, seed) for seed in SEEDS for p in PROBLEMS for m in METHODS]
    content = {
        "schema": "cross-entropy-objectives/1",
        "provenance": provenance(("genopt-core", "optuna", "numpy", "scipy")),
        "budgets": BUDGETS,
        "references": {name: each[2] for name, each in PROBLEMS.items()},
        "columns": COLUMNS,
        "rows": rows,
    }
    print(PATH.name, write_results(PATH, content), "bytes")
    for p in PROBLEMS:
        for m in METHODS:
            mean = np.mean([row[3:] for row in rows if row[:2] == [p, m]], 0)
            print(p, m, *mean.round(3))


if __name__ == "__main__":
    main()
