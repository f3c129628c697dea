r"""The plain cross-entropy method: generations, elites, frequencies and moments, smoothing.

Algorithm C-1 of the book.  The paper names the method and its object (word2vec); the steps and
formulas are the standard ones of the literature, the settings are ours.  Scores are minimized
here; `CrossEntropy` turns them round when they are to be maximized.
"""

import math
from dataclasses import dataclass

import numpy as np

from genopt_core import checks
from genopt_core.cross_entropy.parameters import Array
from genopt_core.cross_entropy.space import SearchSpace, draw_cells


def elite_size(population: int, elite_fraction: float) -> int:
    r"""How many of a generation are its elite.

    .. math:: N^e = \max(2, \lceil \rho N \rceil)

    (book, eq. cem-level).

    >>> elite_size(20, 0.25), elite_size(10, 0.1)
    (5, 2)
    """
    return max(2, math.ceil(elite_fraction * population - 1e-9))


def elite_set(
    scores: Array, elite_fraction: float, rng: np.random.Generator | None = None
) -> Array:
    r"""Indices of the elite, best first: exactly so many of the smallest finite scores.

    .. math:: N^e = \max(2, \lceil \rho N \rceil), \qquad \gamma_t = S_{(N^e)}

    (book, eq. cem-level): the level :math:`\gamma_t` is the score of the last index returned.  They
    are fewer than :math:`N^e` if fewer scores are finite.

    Parameters
    ----------
    scores : array of float, shape (N,)
        Smaller is better.  NaN and infinite scores are failures and never elite.
    elite_fraction : float
        :math:`\rho`, in (0, 1].
    rng : numpy.random.Generator, optional
        Breaks ties at random; without one the earlier index wins.

    Examples
    --------
    >>> elite_set(np.array([4.0, 1.0, np.nan, 3.0, 2.0]), 0.5)
    array([1, 4, 3])
    """
    scores = np.asarray(scores, float)
    if scores.ndim != 1:
        raise ValueError(f"scores must be a vector, got shape {scores.shape}")
    size = elite_size(len(scores), checks.fraction(elite_fraction, "elite_fraction"))
    finite = np.flatnonzero(np.isfinite(scores))
    ties = rng.random(len(finite)) if rng is not None else np.arange(len(finite))
    return finite[np.lexsort((ties, scores[finite]))][:size]


def elite_frequencies(codes: Array, n_choices: int, weights: Array | None = None) -> Array:
    r"""Probabilities of the categories with which the elite was most likely drawn, (n_choices,).

    .. math:: \hat p_m = \frac{\sum_i w_i \mathbf 1\{x_i = m\}}{\sum_i w_i}
              = \arg\max_p \sum_i w_i \ln p_{x_i}

    (book, eq. cem-frequencies).  With :math:`w_i` the likelihood ratio of an elite draw it is the
    projection of the optimal importance density in Kullback-Leibler distance
    (book, eq. cem-projection); in a search all :math:`w_i` are 1.

    Parameters
    ----------
    codes : array of int, shape (N,)
        The elite's categories, from 0 to ``n_choices - 1``.
    weights : array of float, shape (N,), optional
        Not negative, not all 0.

    Examples
    --------
    >>> elite_frequencies(np.array([0, 2, 2, 2]), 3)
    array([0.25, 0.  , 0.75])
    """
    codes = np.asarray(codes)
    if codes.ndim != 1 or not len(codes):
        raise ValueError(f"codes must be a vector of at least one code, got shape {codes.shape}")
    if codes.min() < 0 or codes.max() >= n_choices:
        raise ValueError(f"codes must be in 0 to {n_choices - 1}, got {codes.min()}, {codes.max()}")
    weights = _weights(weights, len(codes))
    return np.bincount(codes.astype(int), weights, n_choices) / weights.sum()


def elite_moments(values: Array, weights: Array | None = None) -> tuple[float, float]:
    r"""Mean and standard deviation of the normal distribution that fits the elite best.

    .. math:: \hat\mu = \frac{\sum_i w_i x_i}{\sum_i w_i}, \qquad
              \hat\sigma^2 = \frac{\sum_i w_i (x_i - \hat\mu)^2}{\sum_i w_i}

    (book, eq. cem-moments), the maximum of :math:`\sum_i w_i \ln f(x_i; \mu, \sigma)`; ``values``
    and ``weights`` are (N,), and without weights all are 1.

    >>> elite_moments(np.array([1.0, 3.0]))
    (2.0, 1.0)
    """
    values = np.asarray(values, float)
    if values.ndim != 1 or not len(values):
        raise ValueError(f"values must be a vector of at least one, got shape {values.shape}")
    if not np.isfinite(values).all():
        raise ValueError(f"values must be finite, got {values}")
    weights = _weights(weights, len(values))
    mean = float(weights @ values / weights.sum())
    return mean, math.sqrt(float(weights @ (values - mean) ** 2 / weights.sum()))


def _weights(weights: Array | None, size: int) -> Array:
    if weights is None:
        return np.ones(size)
    weights = np.asarray(weights, float)
    if weights.shape != (size,):
        raise ValueError(f"weights must have shape ({size},), got {weights.shape}")
    if not (np.isfinite(weights).all() and (weights >= 0).all() and weights.sum() > 0):
        raise ValueError("weights must be finite, not negative, and not all 0")
    return weights


def dynamic_smoothing(generation: int, beta: float, exponent: float) -> float:
    r"""The share of the new standard deviation, which falls so that the search keeps exploring.

    .. math:: \beta_t = \beta - \beta \left(1 - \tfrac1t\right)^q

    Part of (book, eq. cem-smoothing); generations t count from 1, where :math:`\beta_1 = \beta`.
    Usual are :math:`\beta` of 0.8 to 0.99 and exponents q of 5 to 10.

    >>> dynamic_smoothing(1, 0.9, 5), round(dynamic_smoothing(10, 0.9, 5), 4)
    (0.9, 0.3686)
    """
    checks.whole(generation, "generation")
    share, power = checks.real(beta, "beta"), checks.real(exponent, "exponent")
    return share - share * (1 - 1 / generation) ** power


@dataclass(frozen=True)
class PlainSettings:
    """The numbers of algorithm C-1, with the names of `CrossEntropy`."""

    population_size: int
    elite_fraction: float
    smoothing: float
    sigma_smoothing: float
    sigma_exponent: float
    floor: float
    patience: int | None
    tolerance: float


@dataclass(frozen=True)
class PlainState:
    """The sampling distribution: probabilities of cells, and a normal for every real number.

    ``mean`` and ``std`` are in units of the parameter's (logarithmic) range.
    """

    probabilities: tuple[Array, ...]
    mean: Array
    std: Array

    @classmethod
    def start(cls, space: SearchSpace) -> "PlainState":
        """Step 1: uniform; mid-range with half the range as standard deviation."""
        uniform = tuple(np.full(n, 1 / n) for n in space.cells)
        return cls(uniform, np.full(len(space), 0.5), np.full(len(space), 0.5))

    def draw(self, space: SearchSpace, rng: np.random.Generator) -> Array:
        """Step 2.1: one row of independent coordinates; reals outside the range are redrawn."""
        row = draw_cells(self.probabilities, 1, rng)[0].astype(float)
        for i in np.flatnonzero(space.is_real):
            tries = self.mean[i] + self.std[i] * rng.standard_normal(64)
            inside = tries[(tries > 0) & (tries < 1)]
            row[i] = inside[0] if len(inside) else np.clip(tries[0], 1e-9, 1 - 1e-9)
        return space.settle(row[None])[0]

    def refit(
        self, space: SearchSpace, elite: Array, generation: int, settings: PlainSettings
    ) -> "PlainState":
        r"""Steps 2.3 and 2.4: the elite's frequencies and moments, smoothed.

        .. math:: v_t = \alpha \hat v_t + (1 - \alpha) v_{t-1}, \qquad
                  \sigma_t = \beta_t \hat\sigma_t + (1 - \beta_t) \sigma_{t-1}

        (book, eq. cem-smoothing).  Then a floor: every probability is at least ``floor``.
        """
        alpha = settings.smoothing
        beta = dynamic_smoothing(generation, settings.sigma_smoothing, settings.sigma_exponent)
        cells, active = space.cell(elite), space.active(elite)
        probabilities, mean, std = list(self.probabilities), self.mean.copy(), self.std.copy()
        for i, n in enumerate(space.cells):
            there = active[:, i]
            if not there.any():
                continue  # no elite has this parameter: nothing new is known
            if space.is_real[i]:
                m, s = elite_moments(elite[there, i])
                mean[i] = alpha * m + (1 - alpha) * mean[i]
                std[i] = beta * s + (1 - beta) * std[i]
            else:
                p = alpha * elite_frequencies(cells[there, i], n)
                p += (1 - alpha) * probabilities[i]
                probabilities[i] = (1 - settings.floor * n) * p + settings.floor
        return PlainState(tuple(probabilities), mean, std)

    def cell_probabilities(self, space: SearchSpace) -> list[Array]:
        """Probabilities on cells for every parameter, a normal being cut at the range's ends."""
        found = list(self.probabilities)
        for i in np.flatnonzero(space.is_real):
            edges = (np.linspace(0, 1, space.cells[i] + 1) - self.mean[i]) / max(self.std[i], 1e-9)
            mass = np.diff([0.5 * math.erf(e / math.sqrt(2)) for e in edges])
            nearest = np.arange(len(mass)) == min(int(self.mean[i] * len(mass)), len(mass) - 1)
            found[i] = mass / mass.sum() if mass.sum() > 1e-12 else nearest.astype(float)
        return found

    def degenerate(self, space: SearchSpace, tolerance: float) -> bool:
        """Whether every coordinate has all but settled (second stopping rule of step 2.6)."""
        settled = [
            self.std[i] < tolerance if space.is_real[i] else p.max() >= 1 - tolerance
            for i, p in enumerate(self.probabilities)
        ]
        return bool(all(settled))


def unchanged(levels: list[float], patience: int | None) -> bool:
    """Whether the level was the same over ``patience`` generations (first rule of step 2.6)."""
    if patience is None or len(levels) <= patience:
        return False
    last = levels[-patience - 1 :]
    return all(level == last[0] for level in last)
