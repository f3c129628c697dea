r"""Where the method comes from: the probability of a rare event, by importance sampling."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from genopt_core import checks
from genopt_core.cross_entropy.parameters import Array

MOST_LEVELS = 100


@dataclass(frozen=True)
class RareEvent:
    """An estimate, its standard error over itself, and the trace of the levels.

    ``levels`` and ``means`` have one entry a level: the threshold reached and the sampling means
    fitted at it.
    """

    probability: float
    relative_error: float
    levels: tuple[float, ...]
    means: tuple[Array, ...]


def likelihood_ratio(samples: Array, mean: Array, sampled: Array, family: str) -> Array:
    r"""How much likelier draws are under the nominal means than under those drawn from.

    .. math:: W(x) = \frac{f(x; u)}{f(x; v)}

    of draws x (N, d), u being the ``mean`` and v the ``sampled`` one, (d,) each; ``family`` as in
    `rare_event`.
    """
    if family == "exponential":
        rates = 1 / mean - 1 / sampled
        return np.prod(sampled / mean) * np.exp(-(samples @ rates))
    logs = samples @ np.log(mean / sampled) + (1 - samples) @ np.log((1 - mean) / (1 - sampled))
    return np.exp(logs)


def _draw(mean: Array, size: int, family: str, rng: np.random.Generator) -> Array:
    if family == "exponential":
        return rng.exponential(size=(size, len(mean))) * mean
    return (rng.random((size, len(mean))) < mean).astype(float)


def _scores(score: Callable[[Array], Array], samples: Array) -> Array:
    found = np.asarray(score(samples), float)
    if found.shape != (len(samples),):
        raise ValueError(f"score must return shape ({len(samples)},), got {found.shape}")
    if np.isnan(found).any():
        raise ValueError(f"score must return numbers, got NaN for {samples[np.isnan(found)][0]}")
    return found


def rare_event(
    score: Callable[[Array], Array],
    mean: Array,
    level: float,
    rng: np.random.Generator,
    *,
    family: Literal["exponential", "bernoulli"] = "exponential",
    elite_fraction: float = 0.1,
    n_samples: int = 2000,
    n_final: int = 100_000,
) -> RareEvent:
    r"""The probability that a score reaches a level, when that hardly ever happens.

    .. math:: \ell = \mathbb P_u(S(X) \ge \gamma) \approx \frac1N \sum_{i=1}^N
              \mathbf 1\{S(X_i) \ge \gamma\} \frac{f(X_i; u)}{f(X_i; v)},
              \qquad X_i \sim f(\cdot; v)

    (book, eq. cem-rare).  The means v come from levels that climb to :math:`\gamma`, each the
    quantile that an ``elite_fraction`` of the draws reaches, by the projection

    .. math:: \hat v = \arg\max_v \sum_i \mathbf 1\{S(X_i) \ge \gamma_t\} W(X_i) \ln f(X_i; v)
              = \frac{\sum_i \mathbf 1\{S(X_i) \ge \gamma_t\} W(X_i)\, X_i}
                     {\sum_i \mathbf 1\{S(X_i) \ge \gamma_t\} W(X_i)}

    (book, eq. cem-projection), the weighted mean of the elite.  Means of "bernoulli" are kept
    between 0.001 and 0.999, without which an outcome that no elite had would be lost and the
    estimate too small.  Raises ``ValueError`` also if the levels stop climbing short of ``level``.

    Parameters
    ----------
    score : callable
        From samples, shape (N, d), to scores, shape (N,).
    mean : array of float, shape (d,)
        u, the means of independent coordinates; above 0, and below 1 for "bernoulli".
    level : float
        :math:`\gamma`.
    rng : numpy.random.Generator
    family : {"exponential", "bernoulli"}
    elite_fraction : float
        In (0, 1).
    n_samples, n_final : int
        Draws a level, and for the estimate.

    References
    ----------
    R. Rubinstein and D. Kroese, The Cross-Entropy Method, Springer 2004.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> event = rare_event(lambda x: x[:, 0], np.array([1.0]), 10.0, rng)  # exp(-10) = 4.54e-5
    >>> f"{event.probability:.2e}", len(event.levels)
    ('4.50e-05', 3)
    """
    mean = np.asarray(mean, float)
    checks.one_of(family, "family", ("exponential", "bernoulli"))
    top = 1.0 if family == "bernoulli" else np.inf
    if mean.ndim != 1 or not len(mean) or not ((mean > 0) & (mean < top)).all():
        raise ValueError(f"mean must be a vector of numbers in (0, {top}), got {mean!r}")
    if not 0 < elite_fraction < 1:
        raise ValueError(f"elite_fraction must be in (0, 1), got {elite_fraction!r}")
    checks.whole(n_samples, "n_samples", 2)
    checks.whole(n_final, "n_final", 2)
    checks.real(level, "level")
    checks.generator(rng)
    sampled = mean
    levels: list[float] = []
    means: list[Array] = []
    while not levels or levels[-1] < level:
        if len(levels) == MOST_LEVELS or (len(levels) > 10 and levels[-1] <= levels[-10]):
            raise ValueError(f"level {level!r} was not reached; the levels stopped at {levels[-1]}")
        samples = _draw(sampled, n_samples, family, rng)
        scores = _scores(score, samples)
        reached = min(float(level), float(np.quantile(scores, 1 - elite_fraction)))
        elite = scores >= reached
        weights = likelihood_ratio(samples[elite], mean, sampled, family)
        sampled = weights @ samples[elite] / weights.sum()
        if family == "bernoulli":
            sampled = np.clip(sampled, 1e-3, 1 - 1e-3)
        levels.append(reached)
        means.append(sampled)
    samples = _draw(sampled, n_final, family, rng)
    hits = _scores(score, samples) >= level
    terms = hits * likelihood_ratio(samples, mean, sampled, family)
    estimate = float(terms.mean())
    error = float(terms.std() / np.sqrt(n_final) / estimate) if estimate > 0 else np.inf
    return RareEvent(estimate, error, tuple(levels), tuple(means))
