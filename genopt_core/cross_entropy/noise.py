r"""Choosing the best of many noisy scores: what the best observed claims, and what it has."""

from dataclasses import dataclass

import numpy as np

from genopt_core.checks import real, whole
from genopt_core.cross_entropy.parameters import Array


def posterior_means(cells: Array, values: Array, noise: float) -> Array:
    r"""Posterior means of a Gaussian process at the configurations where it was observed, (N,).

    .. math:: \bar y + K (K + \sigma^2 I)^{-1} (y - \bar y), \qquad
              K_{ij} = \frac{s^2}{2}
              \Bigl(\frac1d \sum_k 2^{-\Delta_{ijk}} + \prod_k 2^{-\Delta_{ijk}}\Bigr)

    with :math:`\Delta_{ijk}` the steps between the levels of hyperparameter k, given by ``cells``
    (N, d), and for :math:`s^2` the variance of the values (N,) less that of the noise, whose
    standard deviation :math:`\sigma` is known.  A small stand-in for
    `genopt_core.cross_entropy.surrogate`, which fits its own scales and needs SciPy.

    >>> cells = np.array([[0, 0], [0, 1], [3, 3]])
    >>> posterior_means(cells, np.array([1.0, 0.6, 0.0]), noise=0.2).round(2)
    array([0.86, 0.64, 0.13])
    """
    noise = real(noise, "noise")
    alike = 0.5 ** np.abs(cells[:, None] - cells[None])
    variance = max(float(values.var()) - noise**2, 1e-4)
    covariance = variance * 0.5 * (alike.mean(axis=2) + alike.prod(axis=2))
    level = float(values.mean())
    noisy = covariance + max(noise**2, 1e-8) * np.eye(len(values))
    return level + covariance @ np.linalg.solve(noisy, values - level)


@dataclass(frozen=True)
class NoisyChoice:
    """Configurations tried once each: their ``truth`` and ``observed`` scores, and two choices.

    ``best_observed`` is the index of the largest observed score, ``posterior`` that of the largest
    posterior mean.
    """

    truth: Array
    observed: Array
    best_observed: int
    posterior: int

    @property
    def outcome(self) -> tuple[float, float, float]:
        """What the best observed claims, what it has, and what the posterior's choice has."""
        claim, has = self.observed[self.best_observed], self.truth[self.best_observed]
        return float(claim), float(has), float(self.truth[self.posterior])


def noisy_choice(scores: Array, draws: int, noise: float, rng: np.random.Generator) -> NoisyChoice:
    r"""Try different configurations at random, each once and with noise, and choose twice.

    The largest of n observations :math:`y_i = S(x_i) + \sigma \varepsilon_i` claims more than it
    has, :math:`\mathbb E \max_i y_i \ge \max_i S(x_i)`, and the more so the larger n; a posterior
    mean borrows from neighbors instead.  The true scores have one axis a hyperparameter, larger
    being better; n are the ``draws``, at most all of them, and :math:`\sigma` is the ``noise``.

    >>> scores = np.arange(12.0).reshape(3, 4)
    >>> noisy_choice(scores, 12, 0.0, np.random.default_rng(0)).outcome
    (11.0, 11.0, 11.0)
    """
    place = rng.choice(scores.size, whole(draws, "draws"), replace=False)
    cells = np.stack(np.unravel_index(place, scores.shape), axis=1)
    truth = scores.ravel()[place]
    observed = truth + real(noise, "noise") * rng.standard_normal(draws)
    posterior = posterior_means(cells, observed, noise).argmax()
    return NoisyChoice(truth, observed, int(observed.argmax()), int(posterior))
