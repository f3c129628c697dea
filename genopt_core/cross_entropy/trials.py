"""What a search records: trials, and the generations that they make up."""

import math
from collections.abc import Mapping
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

    With several objectives ``values`` has one number each and ``value`` is None.  ``constraints``
    are numbers by name; the trial is feasible if none is above 0.

    >>> trial = Trial(0, {"x": 1})
    >>> trial.finished(2.5).state, trial.finished(None).state, trial.finished(2.5, [1.0]).violation
    ('complete', 'failed', 1.0)
    """

    number: int
    params: dict[str, Any] = field(hash=False)
    value: float | None = None
    state: State = "running"
    values: tuple[float, ...] = ()
    constraints: Mapping[str, float] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "values", tuple(self.values))  # JSON makes a list of it

    @property
    def violation(self) -> float:
        """The sum of the constraints that are above 0."""
        return float(sum(c for c in self.constraints.values() if c > 0))

    def finished(self, value: Any, constraints: Any = ()) -> "Trial":
        """This trial with its value or values; failed if one is None, NaN or infinite.

        ``constraints`` may have names or not.  Raises ``TypeError`` if the value is neither None
        nor a number.
        """
        named = _named(constraints)
        if value is None:
            return Trial(self.number, self.params, None, "failed", (), named)
        several = isinstance(value, list | tuple) or (
            isinstance(value, np.ndarray) and value.size > 1
        )
        try:
            numbers = [float(v) for v in (value if several else [value])]
        except (TypeError, ValueError):
            raise TypeError(f"value must be a number or None, got {value!r}") from None
        if not all(map(math.isfinite, numbers)):
            return Trial(self.number, self.params, None, "failed", (), named)
        if several:
            return Trial(self.number, self.params, None, "complete", tuple(numbers), named)
        return Trial(self.number, self.params, numbers[0], "complete", (), named)


def _named(constraints: Any) -> dict[str, float]:
    """Constraints by name; those without one are called 0, 1, …, as Optuna does."""
    if not isinstance(constraints, Mapping):
        constraints = dict(zip(map(str, range(len(constraints))), constraints, strict=True))
    named = {str(name): float(c) for name, c in constraints.items()}
    if any(map(math.isnan, named.values())):
        raise ValueError(f"constraints must be numbers, got {constraints!r}")
    return named


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

    Examples
    --------
    >>> from genopt_core.cross_entropy import Categorical, CrossEntropy, SearchSpace
    >>> search = CrossEntropy(SearchSpace({"x": Categorical([0, 1])}), "plain")
    >>> search.history[0].number, search.history[0].distribution["x"].tolist()
    (0, [0.5, 0.5])
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
