"""What came of trials with several objectives or constraints, as arrays."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from genopt_core.cross_entropy.parameters import Array
from genopt_core.cross_entropy.pareto import standing
from genopt_core.cross_entropy.trials import Trial


@dataclass(frozen=True)
class Outcomes:
    """What came of n trials.

    Parameters
    ----------
    losses : array of float, shape (n, m)
        To be minimized; infinite for a failure.
    violations : array of float, shape (n,)
        Sums of the constraints that are above 0.
    constraints : list of array of float, shape (n,)
        One a constraint, in the order of their names; NaN where a trial has not told it.
    """

    losses: Array
    violations: Array
    constraints: list[Array]

    @classmethod
    def of(cls, trials: Sequence[Trial], signs: Array) -> "Outcomes":
        """Those of finished trials; a sign is 1 for an objective to be minimized, else -1."""
        lost = (math.inf,) * len(signs)
        told = [(t.values or (t.value,)) if t.state == "complete" else lost for t in trials]
        losses = np.array(told, float).reshape(-1, len(signs))
        names = sorted({name for trial in trials for name in trial.constraints})
        return cls(
            np.where(np.isfinite(losses), losses * signs, math.inf),
            np.array([trial.violation for trial in trials]),
            [np.array([t.constraints.get(name, math.nan) for t in trials]) for name in names],
        )

    @property
    def feasible(self) -> Array:
        """Whether a trial is complete and violates nothing, (n,)."""
        return np.isfinite(self.losses).all(1) & (self.violations <= 0)

    def scores(self, size: int) -> Array:
        """Numbers that order the trials, the best first; ``size`` of them will be elite."""
        return standing(self.losses, self.violations, size)
