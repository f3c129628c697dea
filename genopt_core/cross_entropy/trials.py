"""What a search records: trials, and the generations that they make up."""

import math
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from genopt_core.cross_entropy.parameters import Array

State = Literal["running", "complete", "failed"]


@dataclass(frozen=True)
class Trial:
    """One configuration, and what came of it.

    ``number`` counts from 0 in the order of asking; with the search's seed it fixes the random
    numbers. ``value`` is what the objective returned: a failed trial (exception, NaN or infinite
    value) has none and ranks behind all others.
    """

    number: int
    params: dict[str, Any] = field(hash=False)
    value: float | None = None
    state: State = "running"

    def finished(self, value: Any) -> "Trial":
        """This trial with its value; failed if that is None, NaN or infinite.

        Raises ``TypeError`` if the value is neither None nor a number.
        """
        if value is None:
            return Trial(self.number, self.params, None, "failed")
        try:
            number = float(value)
        except (TypeError, ValueError):
            raise TypeError(f"value must be a number or None, got {value!r}") from None
        if not math.isfinite(number):
            return Trial(self.number, self.params, None, "failed")
        return Trial(self.number, self.params, number, "complete")


@dataclass(frozen=True)
class Generation:
    r"""The sampling distribution after a generation, and what led to it.

    Parameters
    ----------
    number : int
        :math:`t`; 0 is the start, before any evaluation.
    trials, elites : tuple of int
        Numbers of the trials of this generation, and of those fitted to, best first.  For the
        improved methods the latter come from all generations so far.
    level : float or None
        :math:`\gamma_t`, the worst elite's value, as the objective returned it.
    distribution : dict of str to array
        Probabilities of each parameter's cells.
    mean, std : dict of str to float
        Of the normals of the plain method, in units of the parameter's (logarithmic) range.
    entropy : dict of str to float
        Entropy of each distribution over that of the uniform one: 1 at the start, 0 when settled.
    """

    number: int
    trials: tuple[int, ...]
    elites: tuple[int, ...]
    level: float | None
    distribution: dict[str, Array]
    mean: dict[str, float]
    std: dict[str, float]
    entropy: dict[str, float]


def relative_entropy(p: Array) -> float:
    """Entropy of probabilities over that of the uniform distribution; 0 for a single cell."""
    if len(p) == 1:
        return 0.0
    some = p[p > 0]
    return float(-(some * np.log(some)).sum() / math.log(len(p))) + 0.0
