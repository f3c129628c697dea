"""Checkers of chapter 2; the exercises say which form an answer has."""

from collections.abc import Iterator
from math import exp
from typing import Any

import numpy as np

from genopt_core import cross_entropy as ce
from genopt_core.exercises.verdict import AnswerError, Constraint

FEWEST = 20


def without_weights(answer: Any) -> Iterator[Constraint]:
    """Runs, each the estimate and the mean that it sampled with."""
    try:
        estimates, means = np.array([(float(e), float(m)) for e, m in answer]).T
    except (TypeError, ValueError) as problem:
        raise AnswerError("no list of pairs (estimate, mean)") from problem
    seen = f"{len(means)} runs with {len(set(means))} different means"
    anew = len(set(means)) == len(means) >= FEWEST
    yield Constraint(f"{FEWEST} runs or more, each drawn anew", anew, seen)
    seen = f"a sampling mean of {means.mean():.1f}; with W it would stay near 11"
    yield Constraint("without W the mean runs past the event's", 15 < means.mean() < 30, seen)
    error = estimates.std(ddof=1) / len(estimates) ** 0.5
    seen = f"{estimates.mean():.3e} ± {error:.1e} on the mean, and exp(-10) is {exp(-10):.3e}"
    fair = abs(estimates.mean() - exp(-10)) <= 4 * error
    yield Constraint("the estimate is unbiased", fair, seen)
    seen = f"a spread of {estimates.std() / exp(-10):.2g} times the probability"
    yield Constraint("it is better than counting hits", estimates.std() < exp(-10), seen)


def the_floor(answer: Any) -> Iterator[Constraint]:
    """The regrets of seeds 0 to 19, by floor."""
    floors = (0.0, 0.02)
    if not isinstance(answer, dict) or set(answer) != set(floors):
        raise AnswerError("no dictionary with the floors 0.0 and 0.02")
    regret = {floor: np.asarray(answer[floor], dtype=float) for floor in floors}
    for floor in floors:
        seen = f"{regret[floor].size} regrets at floor {floor}"
        yield Constraint("there are 20 seeds", regret[floor].shape == (20,), seen)
        seed = int(regret[floor].argmin())
        seen = f"{regret[floor][seed]:.4f} for seed {seed} at floor {floor}"
        yield Constraint("nothing is better than the table's best", regret[floor].min() >= 0, seen)
    table = ce.TabularObjective.load("word2vec_planted")
    for floor in floors:
        run = ce.search_table(
            table, "plain", 200, 0, population_size=10, smoothing=1.0, patience=None,
            tolerance=0.2, floor=floor,
        )  # fmt: skip
        right = float(table.mean.max() - run.true.max())
        seen = f"{regret[floor][0]:.4f} for seed 0 at floor {floor}, and it is {right:.4f}"
        same = abs(regret[floor][0] - right) < 1e-6
        yield Constraint("ten trainings a generation, α = 1, 200 in all", same, seen)
