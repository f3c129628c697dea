r"""How many blocks a promise needs: relative error at most ε with probability at least 1 − δ.

A row of attention is known in part, its sums over the blocks that are kept for sure,
:math:`Z_0` and :math:`N_0`.  Of the m other blocks n are drawn *without replacement*, each set of n
as likely as any other, and stand for all:

.. math:: \hat Z = Z_0 + \frac mn \sum_{j \in S} Z_j, \qquad
          \hat N = N_0 + \frac mn \sum_{j \in S} N_j, \qquad \hat o = \hat N / \hat Z

so the error is 0 at n = m.  Two ways to choose n:

- *normal*: a small pilot, the first blocks of the draw, shows how much the sums vary, and the
  central limit theorem does the rest, with the correction for a finite population.  This is an
  approximation: a block of large mass that the pilot has missed can break the promise.  How often
  it does is `promise_errors` here, and measured on attention heads elsewhere.
- *Serfling*: a bound that holds whatever the contents are, from the least and the largest mass that
  blocks can have (`mass_bounds`).  It is a true bound, and mostly asks for all blocks.

Beside them stands what needs no chance at all: a bias that falls with distance bounds the weight of
everything far away (`kept_by_bias`).

Sources: vAttention (arXiv 2510.05688) promises so for tokens, which it draws with replacement, with
the normal quantile and without the correction, for numerator and denominator; W. G. Cochran,
"Sampling Techniques", 1977, for the sizes; C. Stein, 1945, for Student's quantile after a pilot;
R. Serfling, 1974, and R. Bardenet and O.-A. Maillard, 2015, for the bound.
"""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import Literal

import numpy as np
import numpy.typing as npt

from genopt_core.checks import one_of, real, whole
from genopt_core.positions.skip import skippable, skippable_blocks

__all__ = [
    "blocks_needed",
    "kept_by_bias",
    "mass_bounds",
    "promise_errors",
    "promised_error",
    "ratio_error",
    "relative_deviation",
    "serfling_blocks",
    "serfling_error",
    "student_quantile",
    "wilson_interval",
]

Of = Literal["output", "mass", "numerator"]
OF: tuple[Of, ...] = ("output", "mass", "numerator")


def relative_deviation(
    masses: npt.ArrayLike,
    blocks: npt.ArrayLike,
    *,
    sums: npt.ArrayLike | None = None,
    sure_mass: npt.ArrayLike = 0.0,
    sure_sum: npt.ArrayLike = 0.0,
    of: Of = "mass",
) -> np.ndarray:
    r"""How much blocks vary beside the total, from a pilot (book, eq. attn-deviation).

    .. math:: r = \frac{m\,s}{\hat Z}, \qquad r = \frac{m\,\lVert s_N \rVert}{\lVert \hat N\rVert},
              \qquad r = \frac{m\,\lVert s_e \rVert}{\hat Z\,\lVert \hat o\rVert}, \quad
              e_j = N_j - \hat o\,Z_j

    for the mass, the numerator and the output, with the pilot's standard deviations (of each
    channel, joined to a length).  The output's is that of the ratio to first order.

    Parameters
    ----------
    masses : (…, drawn) array
        :math:`Z_j` of the pilot's blocks, ``drawn`` at least 2; any common factor.
    blocks : int or (…) array of integers
        m, from how many they are drawn.
    sums : (…, drawn, value_dim) array
        :math:`N_j`, not needed for the mass.
    sure_mass : number or (…) array
    sure_sum : number or (…, value_dim) array
        :math:`Z_0` and :math:`N_0`.
    of : {"mass", "numerator", "output"}

    Returns
    -------
    (…) array

    Examples
    --------
    >>> relative_deviation([1.0, 3.0], 10, sure_mass=20.0).round(4).item()
    0.3536
    """
    z = np.asarray(masses, dtype=float)
    if not z.ndim or z.shape[-1] < 2:
        raise ValueError(f"masses must hold 2 drawn blocks or more, got shape {z.shape}")
    if one_of(of, "of", OF) == "mass":
        total = sure_mass + np.asarray(blocks) * z.mean(-1)
        return _over(blocks * z.std(-1, ddof=1), total)
    if sums is None:
        raise ValueError(f"sums must be given for the {of}, got none")
    n = np.asarray(sums, dtype=float)
    if n.shape[:-1] != z.shape:
        raise ValueError(f"sums must have the shape {z.shape} and value_dim, got {n.shape}")
    m = np.asarray(blocks)[..., None]
    whole_sum = np.asarray(sure_sum) + m * n.mean(-2)
    length = np.linalg.norm(whole_sum, axis=-1)
    if of == "output":
        mass = sure_mass + np.asarray(blocks) * z.mean(-1)
        n = n - z[..., None] * _over(whole_sum, mass[..., None])[..., None, :]
    spread = np.sqrt(n.var(-2, ddof=1).sum(-1))
    return _over(blocks * spread, length)


def blocks_needed(
    deviation: npt.ArrayLike, blocks: npt.ArrayLike, eps: float, delta: float, drawn: int
) -> np.ndarray:
    r"""Blocks to draw for a relative error of ε with probability 1 − δ (book, eq. attn-needed).

    An approximation.

    .. math:: n = \Bigl\lceil \frac{x}{1 + x/m} \Bigr\rceil, \qquad
              x = \Bigl(\frac{t\,r}{\varepsilon}\Bigr)^2

    with Student's :math:`t_{1-\delta/2}` for ``drawn`` − 1 degrees of freedom, as the deviation is
    known from the pilot alone; at least ``drawn``, and at most m, where nothing is left to err.
    For sums of many channels that quantile is on the safe side if δ is below 0.2.

    Parameters
    ----------
    deviation : (…) array
        r, of `relative_deviation`.
    blocks : int or (…) array of integers
        m.
    eps, delta : float
        Above 0; delta below 1.
    drawn : int
        Blocks of the pilot; they count.

    Returns
    -------
    (…) int64 array

    Source: Cochran, 1977, section 4.6.  For many channels: G. Székely and N. Bakirov, 2003.

    Examples
    --------
    >>> blocks_needed(1.0, [10, 100, 10_000], eps=0.1, delta=0.1, drawn=8).tolist()
    [10, 79, 347]
    """
    r, m = np.asarray(deviation, dtype=float), np.asarray(blocks)
    e, t = (
        _positive(eps, "eps"),
        student_quantile(1 - _chance(delta) / 2, whole(drawn, "drawn") - 1),
    )
    with np.errstate(over="ignore"):
        x = (t * r / e) ** 2
    with np.errstate(invalid="ignore", divide="ignore"):
        n = np.where(np.isfinite(x), x / (1 + x / np.maximum(m, 1)), m)
    return np.minimum(np.maximum(np.ceil(n - 1e-9), drawn), m).astype(np.int64)


def promised_error(
    deviation: npt.ArrayLike,
    blocks: npt.ArrayLike,
    kept: npt.ArrayLike,
    delta: float,
    drawn: int,
) -> np.ndarray:
    r"""The ε that holds with probability 1 − δ if ``kept`` blocks are drawn: an approximation.

    .. math:: \varepsilon = t\,r\,\sqrt{\frac1n \Bigl(1 - \frac nm\Bigr)}

    The inverse of `blocks_needed`; 0 where n = m, infinity where nothing is drawn.

    Examples
    --------
    >>> promised_error(1.0, 100, [8, 79, 100], delta=0.1, drawn=8).round(3).tolist()
    [0.642, 0.098, 0.0]
    """
    r, m, n = (np.asarray(x, dtype=float) for x in (deviation, blocks, kept))
    t = student_quantile(1 - _chance(delta) / 2, whole(drawn, "drawn") - 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        share = np.maximum(1 / n - 1 / m, 0)
        error = np.where(n > 0, t * r * np.sqrt(share), np.inf)
    return np.where(n >= m, 0.0, error)


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

    Source: R. Serfling, 1974; :math:`\rho_n` by R. Bardenet and O.-A. Maillard, 2015.

    Examples
    --------
    >>> serfling_error(1.0, 100, [1, 50, 99, 100], delta=0.1).round(3).tolist()
    [1.224, 0.124, 0.012, 0.0]
    """
    m, n = np.asarray(blocks, dtype=float), np.asarray(kept, dtype=float)
    log = math.log(2 / _chance(delta))
    with np.errstate(divide="ignore", invalid="ignore"):
        rho = np.minimum(1 - (n - 1) / m, (1 - n / m) * (1 + 1 / n))
        bound = np.asarray(span, dtype=float) * np.sqrt(np.maximum(rho, 0) * log / (2 * n))
    return np.where(n >= m, 0.0, np.where(n > 0, bound, np.inf))


def serfling_blocks(
    span: npt.ArrayLike, blocks: npt.ArrayLike, eps: float, delta: float
) -> np.ndarray:
    r"""Least number of blocks at which `serfling_error` is at most ε: a true bound, no pilot.

    Examples
    --------
    >>> serfling_blocks([0.1, 1.0, 10.0], 100, eps=0.1, delta=0.1).tolist()
    [2, 61, 100]
    """
    s, m = np.broadcast_arrays(np.asarray(span, dtype=float), np.asarray(blocks))
    e = _positive(eps, "eps")
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

    infinity from :math:`\varepsilon_Z = 1` on.  With δ for each it holds with probability 1 − 2δ.

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


def promise_errors(
    masses: npt.ArrayLike,
    eps: float,
    delta: float,
    pilot: int,
    rng: np.random.Generator,
    *,
    draws: int = 1000,
    sums: npt.ArrayLike | None = None,
    sure_mass: float = 0.0,
    sure_sum: npt.ArrayLike = 0.0,
    of: Of = "mass",
) -> tuple[np.ndarray, np.ndarray]:
    r"""What became of the promise of `blocks_needed` in many draws from one row's blocks.

    Each draw puts the blocks in an order of its own; its first ``pilot`` say how many are needed,
    and that many of the order are used.

    Parameters
    ----------
    masses : (blocks,) array
    sums : (blocks, value_dim) array, optional
        Needed for the output and the numerator.
    pilot, draws : int
    eps, delta, sure_mass, sure_sum, of
        As above.

    Returns
    -------
    errors : (draws,) array
        Relative errors; the promise is kept where they are at most ``eps``.
    needed : (draws,) int64 array

    Examples
    --------
    >>> errors, needed = promise_errors(np.ones(50), 0.1, 0.1, 4, np.random.default_rng(0))
    >>> errors.max().item(), set(needed.tolist())
    (0.0, {4})
    """
    z = np.asarray(masses, dtype=float)
    if z.ndim != 1 or whole(pilot, "pilot", 2) > len(z):
        raise ValueError(f"masses must hold {pilot} blocks of the pilot or more, got {z.shape}")
    n = None if sums is None else np.asarray(sums, dtype=float)
    m = len(z)
    order = rng.random((whole(draws, "draws"), m)).argsort(axis=1)
    first = order[:, :pilot]
    deviation = relative_deviation(
        z[first],
        m,
        sums=None if n is None else n[first],
        sure_mass=sure_mass,
        sure_sum=sure_sum,
        of=of,
    )
    needed = blocks_needed(deviation, m, eps, delta, pilot)
    weight = np.zeros(order.shape)
    used = np.arange(m) < needed[:, None]
    np.put_along_axis(weight, order, np.where(used, m / needed[:, None], 0.0), axis=1)
    mass, true_mass = sure_mass + weight @ z, sure_mass + z.sum()
    if of == "mass":
        return np.abs(mass - true_mass) / true_mass, needed
    assert n is not None
    total, true_total = sure_sum + weight @ n, sure_sum + n.sum(axis=0)
    if of == "output":
        total, true_total = total / mass[:, None], true_total / true_mass
    gap = np.linalg.norm(total - true_total, axis=1)
    return gap / np.linalg.norm(true_total), needed


def student_quantile(probability: float, freedom: int) -> float:
    r"""Below which Student's t with so many degrees of freedom lies with a probability.

    Exact for whole degrees of freedom, whose distribution function is a finite sum.

    Examples
    --------
    >>> round(student_quantile(0.975, 3), 4), round(student_quantile(0.975, 1000), 4)
    (3.1824, 1.9623)
    """
    p, nu = real(probability, "probability"), whole(freedom, "freedom")
    if not 0 < p < 1:
        raise ValueError(f"probability must be in (0, 1), got {probability!r}")
    if p < 0.5:
        return -student_quantile(1 - p, nu)
    low, high = 0.0, math.pi / 2
    for _ in range(60):  # of the angle whose tangent is t / sqrt(nu)
        angle = (low + high) / 2
        low, high = (angle, high) if _student_share(angle, nu) < 2 * p - 1 else (low, angle)
    return math.sqrt(nu) * math.tan((low + high) / 2)


def _student_share(angle: float, nu: int) -> float:
    """Probability of the values up to that angle on either side."""
    c, s = math.cos(angle) ** 2, math.sin(angle)
    term, total = (1.0, 1.0) if nu % 2 == 0 else (math.cos(angle), math.cos(angle))
    for i in range(2 if nu % 2 == 0 else 3, nu - 1, 2):
        term *= c * (i - 1) / i
        total += term
        if term < 1e-17 * total:
            break
    if nu % 2 == 0:
        return s * total
    return 2 / math.pi * (angle + (s * total if nu > 1 else 0.0))


def wilson_interval(kept: int, trials: int, delta: float = 0.05) -> tuple[float, float]:
    r"""Between which a probability lies if so many of the trials came out: Wilson's interval.

    Examples
    --------
    >>> [round(x, 4) for x in wilson_interval(95, 100)]
    [0.8882, 0.9785]
    """
    n, x = whole(trials, "trials"), whole(kept, "kept", 0)
    if x > n:
        raise ValueError(f"kept must be at most the trials, {n}, got {kept!r}")
    z = NormalDist().inv_cdf(1 - _chance(delta) / 2)
    center, half = x / n + z * z / (2 * n), z * math.sqrt(x * (n - x) / n**3 + (z / (2 * n)) ** 2)
    size = 1 + z * z / n
    return max((center - half) / size, 0.0), min((center + half) / size, 1.0)


def _over(part: npt.ArrayLike, total: npt.ArrayLike) -> np.ndarray:
    """The quotient, 0 / 0 being 0."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(np.asarray(part) == 0, 0.0, np.divide(part, total))


def _positive(value: float, name: str) -> float:
    number = real(value, name)
    if number <= 0:
        raise ValueError(f"{name} must be above 0, got {value!r}")
    return number


def _chance(value: float) -> float:
    number = real(value, "delta")
    if not 0 < number < 1:
        raise ValueError(f"delta must be in (0, 1), got {value!r}")
    return number
