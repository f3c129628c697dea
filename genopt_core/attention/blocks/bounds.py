r"""What kept blocks lose at most, whatever their contents: no approximation.

- *Serfling* bounds the error of blocks drawn without replacement by the least and the largest mass
  that blocks can have (`mass_bounds`).  It mostly asks for all blocks.
- A bias that falls with distance bounds the weight of everything far away, with no chance at all
  (`kept_by_bias`).

Sources: R. Serfling, 1974, and R. Bardenet and O.-A. Maillard, 2015.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from genopt_core.checks import open_fraction, positive, real, whole
from genopt_core.positions.skip import skippable, skippable_blocks

__all__ = ["kept_by_bias", "mass_bounds", "ratio_error", "serfling_blocks", "serfling_error"]


def serfling_error(
    span: npt.ArrayLike, blocks: npt.ArrayLike, kept: npt.ArrayLike, delta: float
) -> np.ndarray:
    r"""The ε that holds with probability 1 − δ whatever the contents (book, eq. attn-serfling).

    .. math:: \varepsilon = \frac{m\,(b - a)}{Z_{\min}}
              \sqrt{\frac{\rho_n \ln(2/\delta)}{2 n}}, \qquad
              \rho_n = \min\Bigl(1 - \frac{n-1}{m},\; \Bigl(1 - \frac nm\Bigr)
              \Bigl(1 + \frac1n\Bigr)\Bigr)

    if each block's mass lies between a and b.

    Parameters
    ----------
    span : (…) array
        :math:`m (b - a) / Z_{\min}`, where the mass of the row is at least :math:`Z_{\min}`; such
        as :math:`Z_0` and the lower bounds of all other blocks.
    blocks, kept : int or (…) arrays of integers
        m and n.
    delta : float

    Returns
    -------
    (…) array

    Source: R. Serfling, 1974; :math:`\rho_n` by R. Bardenet and O.-A. Maillard, 2015.

    Examples
    --------
    >>> serfling_error(1.0, 100, [1, 50, 99, 100], delta=0.1).round(3).tolist()
    [1.224, 0.124, 0.012, 0.0]
    """
    m, n = np.asarray(blocks, dtype=float), np.asarray(kept, dtype=float)
    log = math.log(2 / open_fraction(delta, "delta"))
    with np.errstate(divide="ignore", invalid="ignore"):
        rho = np.minimum(1 - (n - 1) / m, (1 - n / m) * (1 + 1 / n))
        bound = np.asarray(span, dtype=float) * np.sqrt(np.maximum(rho, 0) * log / (2 * n))
    return np.where(n >= m, 0.0, np.where(n > 0, bound, np.inf))


def serfling_blocks(
    span: npt.ArrayLike, blocks: npt.ArrayLike, eps: float, delta: float
) -> np.ndarray:
    r"""Least number of blocks at which `serfling_error` is at most ε: a true bound, no pilot.

    Arguments as in `serfling_error`; the result is (…) int64.

    Examples
    --------
    >>> serfling_blocks([0.1, 1.0, 10.0], 100, eps=0.1, delta=0.1).tolist()
    [2, 61, 100]
    """
    s, m = np.broadcast_arrays(np.asarray(span, dtype=float), np.asarray(blocks))
    e = positive(eps, "eps")
    low, high = np.zeros(s.shape, dtype=np.int64), m.astype(np.int64)
    while (high - low > 1).any():  # the error falls with the number, and is 0 at m
        middle = np.maximum((low + high) // 2, 1)
        good = serfling_error(s, m, middle, delta) <= e
        low, high = np.where(good, low, middle), np.where(good, middle, high)
    return np.minimum(high, m)


def mass_bounds(
    query: npt.ArrayLike, keys: npt.ArrayLike, block: int, *, scale: float | None = None
) -> tuple[np.ndarray, np.ndarray]:
    r"""The mass of a block by its mean key and radius alone (book, eq. attn-mass-bounds).

    .. math:: B\,e^{q \cdot \bar k} \;\le\; Z_j \;\le\; B\,e^{q \cdot \bar k} \cosh(c), \qquad
              c = \lVert q \rVert \max_{t \in j} \lVert k_t - \bar k\rVert

    (with scaled queries), because scores of a block have the mean :math:`q \cdot \bar k` and lie
    within c of it, and exp is convex.  It costs 1/B of all scores.

    Parameters
    ----------
    query : (queries, dim) array
    keys : (tokens, dim) array
    block : int
        B; of the last block its own tokens count.
    scale : float, optional
        By default :math:`1/\sqrt d`.

    Returns
    -------
    log_low, log_high : (queries, blocks) arrays
        Logarithms of the bounds.

    Examples
    --------
    >>> low, high = mass_bounds([[1.0]], [[0.0], [2.0], [1.0], [1.0]], 2, scale=1.0)
    >>> np.exp(low).round(3).tolist(), np.exp(high).round(3).tolist()
    ([[5.437, 5.437]], [[8.389, 5.437]])
    """
    q, k, size = np.asarray(query, float), np.asarray(keys, float), whole(block, "block")
    if q.ndim != 2 or k.ndim != 2 or q.shape[1] != k.shape[1] or not len(k):
        raise ValueError(
            "query and keys must have the shapes (queries, dim) and (tokens, dim), got "
            f"{q.shape} and {k.shape}"
        )
    factor = q.shape[1] ** -0.5 if scale is None else real(scale, "scale")
    parts = [k[i : i + size] for i in range(0, len(k), size)]
    centers = np.stack([part.mean(axis=0) for part in parts])
    pairs = zip(parts, centers, strict=True)
    radius = np.array([np.linalg.norm(p - c, axis=1).max() for p, c in pairs])
    low = factor * (q @ centers.T) + np.log([len(part) for part in parts])
    c = abs(factor) * np.linalg.norm(q, axis=1)[:, None] * radius
    return low, low + np.logaddexp(c, -c) - math.log(2)


def ratio_error(eps_sum: npt.ArrayLike, eps_mass: npt.ArrayLike) -> np.ndarray:
    r"""How far the output is off if numerator and mass are: what vAttention's two promises give.

    .. math:: \frac{\lVert \hat o - o\rVert}{\lVert o \rVert} \le
              \frac{\varepsilon_N + \varepsilon_Z}{1 - \varepsilon_Z}

    with ``eps_sum`` and ``eps_mass`` (…), of which the result has the shape;
    infinity from :math:`\varepsilon_Z = 1` on.  With δ for each it holds with probability 1 − 2δ.
    Source: vAttention (arXiv 2510.05688).

    >>> ratio_error(0.1, 0.1).round(4).item()
    0.2222
    """
    n, z = np.asarray(eps_sum, dtype=float), np.asarray(eps_mass, dtype=float)
    return np.where(z < 1, (n + z) / np.where(z < 1, 1 - z, 1.0), np.inf)


def kept_by_bias(
    table: npt.ArrayLike,
    q_norm: npt.ArrayLike,
    k_norm: npt.ArrayLike,
    head_dim: int,
    block: int,
    eps: float,
) -> np.ndarray:
    r"""Block distances that a bias of chapter 3 does not let one skip: no chance, no contents.

    All others together weigh at most ``eps`` in every row, whatever is asked, so by
    :func:`genopt_core.positions.output_error_bound` the output moves by at most
    :math:`2\varepsilon \max \lVert v \rVert`.

    Parameters
    ----------
    table, q_norm, k_norm, head_dim, eps
        As in :func:`genopt_core.positions.skippable`.
    block : int
        Tokens of a block.

    Returns
    -------
    (heads, blocks) bool array

    Examples
    --------
    >>> falling = -np.arange(64.0)[None]
    >>> kept_by_bias(falling, 1.0, 1.0, 4, block=8, eps=1e-3).tolist()
    [[True, True, False, False, False, False, False, False]]
    """
    b = np.asarray(table, dtype=float)
    start = skippable(b, q_norm, k_norm, head_dim, eps)
    return ~skippable_blocks(start, -(-b.shape[1] // whole(block, "block")), block)
