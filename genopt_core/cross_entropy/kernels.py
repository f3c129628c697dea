r"""Smoothed elites: how a configuration lends its probability to its neighbors' cells.

What `plus` and `posterior` share.  With few evaluations an elite frequency is a spike; a kernel
gives a little of each elite to the other categories and to the neighboring levels.
"""

import math
from functools import lru_cache
from itertools import pairwise

import numpy as np

from genopt_core.cross_entropy.parameters import Array
from genopt_core.cross_entropy.space import SearchSpace


def cell_kernels(space: SearchSpace, cells: Array, active: Array, width: float) -> list[Array]:
    """For each parameter a matrix (rows, cells of the parameter) of probabilities.

    Categories keep ``1 - width`` and share the rest; levels and reals get a normal over cells of
    standard deviation ``width`` halves of the range.  A parameter that does not exist in a row says
    nothing there: its probabilities are uniform.
    """
    at = np.where(active, cells, space.cells)  # the last row is the uniform one
    sizes = zip(space.cells.tolist(), space.is_category.tolist(), strict=True)
    return [
        _categories(n, at[:, i], width) if category else _normals(n, width)[at[:, i]]
        for i, (n, category) in enumerate(sizes)
    ]


def _categories(n: int, at: Array, width: float) -> Array:
    """The kernels of these of ``n`` categories, of which there may be thousands."""
    kernel = np.full((len(at), n), width / n)
    there = np.flatnonzero(at < n)
    kernel[there, at[there]] += 1 - width
    kernel[at == n] = 1.0
    return np.asarray(kernel / kernel.sum(1, keepdims=True))


@lru_cache(maxsize=64)
def _normals(n: int, width: float) -> Array:
    """The kernel of each of ``n`` levels, and the uniform one."""
    z = (np.arange(n) - np.arange(n + 1)[:, None]) / max(width * n / 2, 0.35)
    kernel = np.exp(-0.5 * z * z)
    kernel[n] = 1.0
    return np.asarray(kernel / kernel.sum(1, keepdims=True))


def project(
    space: SearchSpace, cells: Array, active: Array, weights: Array, width: float, prior: float
) -> list[Array]:
    r"""The product distribution nearest to a weighted sum of rows, mixed with the uniform one.

    .. math:: v_j = (1 - \lambda) \frac{\sum_i w_i K_j(x_i, \cdot)}{\sum_i w_i} + \lambda u_j

    The projection (book, eq. cem-projection) of the kernel mixture, over the rows in which the
    parameter exists.  The kernels are those of `cell_kernels`, applied to the weight of each cell.
    """
    sizes, starts = space.cells, space.starts
    at = np.where(active, cells + starts[:-1], starts[-1])
    shares = np.repeat(weights, len(sizes))
    mass = np.bincount(at.ravel(), shares, starts[-1] + 1)[:-1]
    total = weights @ active
    known = total > 0
    each = total / np.where(known, sizes, 1)
    found = np.repeat(width * each, sizes)
    found += (1 - width) * mass
    for n, where in space.ordered_alike:
        found[where] = mass[where] @ _normals(n, width)[:n]
    found *= np.repeat((1 - prior) / np.where(known, total, 1.0), sizes)
    found += np.repeat(np.where(known, prior, 1.0) / sizes, sizes)
    return [found[a:b] for a, b in pairwise(starts.tolist())]


def log_density(kernels: list[Array], cells: Array, active: Array, prior: float) -> Array:
    """Log-densities of candidates (columns) under the kernel of each row, (rows, candidates).

    Only the candidates' existing parameters count.
    """
    total = np.zeros((len(kernels[0]), len(cells)))
    for i, kernel in enumerate(kernels):
        n = kernel.shape[1]
        own = np.maximum(cells[:, i], 0)
        logs = np.log((1 - prior) * kernel + prior / n)
        total += np.where(active[:, i], logs[:, own], 0.0)
    return total


def log_mean_exp(values: Array, weights: Array | None = None) -> Array:
    """The logarithm of the weighted mean over rows of exponentials."""
    top = values.max(0)
    weights = np.full(len(values), 1 / len(values)) if weights is None else weights
    return np.log(weights @ np.exp(values - top)) + top


def rank_weights(size: int) -> Array:
    """Weights of the best, second best, … of an elite: logarithmic, summing to 1."""
    weights = math.log(size + 0.5) - np.log(np.arange(1, size + 1))
    return weights / weights.sum()
