r"""Why a search sharpens where there is nothing to learn: sampling drift."""

import numpy as np

from genopt_core import checks
from genopt_core.cross_entropy.parameters import Array


def drift_law(n_choices: int, n_elite: int, smoothing: float, generations: int) -> Array:
    r"""The diversity expected after each generation on a *flat* objective.

    .. math:: \mathbb E\Bigl[1 - \sum_m p_{t,m}^2\Bigr]
              = \Bigl(1 - \tfrac1k\Bigr)\Bigl(1 - \frac{\alpha^2}{N^e}\Bigr)^t

    (book, eq. cem-drift): an elite is then a random sample, whose frequencies vary by
    :math:`p(1-p)/N^e`.  Diversity, the probability that two draws differ, halves every
    :math:`\ln 2 / {-\ln(1 - \alpha^2/N^e)}` generations without any signal.

    Parameters
    ----------
    n_choices : int
        k, the categories of the coordinate, uniform at the start.
    n_elite : int
        :math:`N^e`.
    smoothing : float
        :math:`\alpha`, in (0, 1].
    generations : int
        The result has one entry more, the start.

    Notes
    -----
    Exact in expectation.  It is the decay of heterozygosity under random drift in population
    genetics (S. Wright, 1931).

    Examples
    --------
    >>> drift_law(8, 5, 0.7, 12)[[0, 3, 6, 12]].round(3)
    array([0.875, 0.642, 0.471, 0.254])
    """
    k, elites = checks.whole(n_choices, "n_choices"), checks.whole(n_elite, "n_elite")
    decay = 1 - checks.fraction(smoothing, "smoothing") ** 2 / elites
    return (1 - 1 / k) * decay ** np.arange(checks.whole(generations, "generations", 0) + 1)


def drift_runs(
    runs: int,
    n_choices: int,
    population: int,
    n_elite: int,
    smoothing: float,
    generations: int,
    rng: np.random.Generator,
    *,
    sloped: bool = False,
) -> Array:
    r"""Independent searches over one category, shape (runs, generations + 1, n_choices).

    .. math:: p_{t+1} = (1 - \alpha) p_t + \alpha \hat p_t

    (book, eq. cem-smoothing) with :math:`\hat p_t` the elite's frequencies and :math:`\alpha` the
    ``smoothing``, in (0, 1]: what `drift_law` is the expectation of.  On the flat objective the
    elite is a random part of the generation; with ``sloped`` the first category is the best, the
    second the second best, and the elite is the best part.

    >>> path = drift_runs(1000, 8, 20, 5, 0.7, 12, np.random.default_rng(0))
    >>> (1 - (path**2).sum(axis=2)).mean(axis=0)[[0, 3, 6, 12]].round(2)
    array([0.88, 0.65, 0.47, 0.26])
    """
    p = np.full((runs, n_choices), 1 / n_choices)
    path = [p]
    for _ in range(generations):
        if sloped:
            drawn = rng.multinomial(population, p)
            better = np.cumsum(drawn, axis=1) - drawn
            elite = np.clip(n_elite - better, 0, drawn)
        else:
            elite = rng.multinomial(n_elite, p)
        p = (1 - smoothing) * p + smoothing * elite / n_elite
        p = p / p.sum(axis=1, keepdims=True)  # rounding adds up over generations
        path.append(p)
    return np.stack(path, axis=1)
