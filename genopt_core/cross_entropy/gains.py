r"""What a configuration is expected to gain: one objective, several, or under constraints.

Each takes Gaussian processes that are conditioned on the trials, and rows; needs SciPy.
"""

import numpy as np
from scipy.special import ndtr

from genopt_core.cross_entropy.parameters import Array
from genopt_core.cross_entropy.surrogate import GaussianProcess

CAUTION = 3.0
"""The power of the probability that constraints hold; at 1 two of three proposals break them."""
PAIRS = 200_000
"""The most pairs of a row and a box at a time, so that memory stays small."""


def expected_gain(process: GaussianProcess, level: float, rows: Array) -> Array:
    r""":math:`\mathbb E[(\gamma - S(x))_+]` under the posterior, at each row."""
    return expected_below(level, *process.predict(rows))


def expected_below(level: Array | float, mean: Array, std: Array) -> Array:
    r""":math:`\mathbb E[(\gamma - S)_+]` of normal S; 0 for a level of minus infinity.

    >>> expected_below(np.array([-np.inf, 0.0, 9.0]), np.zeros(3), np.ones(3)).round(4)
    array([0.    , 0.3989, 9.    ])
    """
    z = (level - mean) / std
    with np.errstate(invalid="ignore"):
        found = std * (z * ndtr(z) + np.exp(-0.5 * z * z) / np.sqrt(2 * np.pi))
    return np.where(np.isneginf(z), 0.0, found)


def expected_hypervolume(
    processes: list[GaussianProcess], lower: Array, upper: Array, rows: Array
) -> Array:
    r"""The hypervolume that each row is expected to add, its m objectives being independent.

    .. math:: \sum_b \prod_j \Bigl( \mathbb E[(u_{bj} - S_j(x))_+]
              - \mathbb E[(l_{bj} - S_j(x))_+] \Bigr)

    over the boxes that nothing dominates, since
    :math:`(u - \max(l, s))_+ = (u - s)_+ - (l - s)_+`.

    Parameters
    ----------
    processes : list of GaussianProcess
        One an objective.
    lower, upper : array of float, shape (k, m)
        Of `pareto.free_boxes`.

    References
    ----------
    M. Emmerich et al., Hypervolume-based expected improvement, 2011.  K. Yang et al., Efficient
    computation of expected hypervolume improvement using box decomposition algorithms, 2019.
    """
    posteriors = [process.predict(rows) for process in processes]
    found = np.empty(len(rows))
    size = max(1, PAIRS // len(lower))
    for at in range(0, len(rows), size):
        part = slice(at, at + size)
        product = np.ones((len(found[part]), len(lower)))
        for j, (mean, std) in enumerate(posteriors):
            ends = np.concatenate([lower[:, j], upper[:, j]])
            corners, place = np.unique(ends, return_inverse=True)  # they repeat
            tails = expected_below(corners, mean[part, None], std[part, None])[:, place]
            product *= tails[:, len(lower) :] - tails[:, : len(lower)]
        found[part] = product.sum(1)
    return found


def feasibility(processes: list[GaussianProcess], rows: Array) -> Array:
    r"""The probability that all constraints hold, to the power `CAUTION`.

    .. math:: \Bigl( \prod_c \Phi(-\mu_c / \sigma_c) \Bigr)^\kappa
    """
    found = np.ones(len(rows))
    for process in processes:
        mean, std = process.predict(rows)
        found *= ndtr(-mean / std)
    return found**CAUTION
