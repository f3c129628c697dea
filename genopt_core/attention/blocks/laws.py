r"""Laws over block distance: how likely a query block meets the key block some blocks before it.

Queries and keys are cut into :math:`T` blocks; the *distance* of query block :math:`i` and key
block :math:`j \le i` is :math:`\delta = i - j`, and :math:`T - \delta` pairs lie at distance
:math:`\delta`.  A law gives each distance a weight :math:`w_\delta`, 1 at distance 0, from which
inclusion probabilities follow.

Sources: F. Li, arXiv 2410.18441, the section on PrFlashAttention, which says that a distribution
over block distances decides; that it is harmonic is second-hand, the rest is our reading.  Radial
bands: X. Li et al., "Radial Attention", arXiv 2506.19852.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from genopt_core.checks import fraction, real, whole

__all__ = ["DistanceLaw", "expected_blocks", "harmonic_blocks", "inclusion", "kappa"]


@dataclass(frozen=True)
class DistanceLaw:
    r"""A law over block distance; made by one of its class methods.

    Parameters
    ----------
    name : str
        What it is called, as in ``DistanceLaw.zipf(2.0).name``.
    make : callable
        From the number of blocks T to the T weights, unscaled.

    Examples
    --------
    >>> DistanceLaw.harmonic().weights(4).round(3).tolist()
    [1.0, 0.5, 0.333, 0.25]
    >>> DistanceLaw.zipf(2.0).weights(3).round(3).tolist()
    [1.0, 0.25, 0.111]
    >>> DistanceLaw.geometric(0.5).weights(3).tolist(), DistanceLaw.uniform().weights(2).tolist()
    ([1.0, 0.5, 0.25], [1.0, 1.0])
    >>> DistanceLaw.custom([4.0, 1.0]).weights(3).tolist()
    [1.0, 0.25, 0.25]
    >>> DistanceLaw.calibrated([0.5, np.nan, 0.1]).weights(3).tolist()
    [1.0, 1.0, 0.2]
    >>> DistanceLaw.uniform().log_bias(2, density=0.9).round(3).tolist()
    [0.0, -0.357]
    """

    name: str
    make: Callable[[int], np.ndarray] = field(repr=False)

    @classmethod
    def harmonic(cls) -> DistanceLaw:
        r"""The law of the paper, as a digest of it says: :math:`w_\delta = 1 / (1 + \delta)`."""
        return cls("harmonic", lambda blocks: 1.0 / np.arange(1, blocks + 1))

    @classmethod
    def zipf(cls, exponent: float) -> DistanceLaw:
        r""":math:`w_\delta = (1 + \delta)^{-a}` (book, eq. attn-law).

        Here :math:`a \ge 0`, and a = 1 is harmonic.
        """
        a = real(exponent, "exponent")
        if a < 0:
            raise ValueError(f"exponent must not be negative, got {exponent!r}")
        return cls(f"zipf({a:g})", lambda blocks: np.arange(1.0, blocks + 1) ** -a)

    @classmethod
    def geometric(cls, ratio: float) -> DistanceLaw:
        r""":math:`w_\delta = \gamma^\delta` with :math:`0 < \gamma \le 1` (book, eq. attn-law)."""
        gamma = fraction(ratio, "ratio")
        return cls(f"geometric({gamma:g})", lambda blocks: gamma ** np.arange(blocks))

    @classmethod
    def uniform(cls) -> DistanceLaw:
        r""":math:`w_\delta = 1` (book, eq. attn-law)."""
        return cls("uniform", np.ones)

    @classmethod
    def radial(cls) -> DistanceLaw:
        r"""Bands that halve: :math:`w_\delta = 2^{-\lfloor \log_2 \delta \rfloor}`, 1 at 0.

        Each doubling of the distance keeps as many blocks as the one before: the harmonic law in
        steps (book, eq. attn-law).

        Examples
        --------
        >>> DistanceLaw.radial().weights(9).tolist()
        [1.0, 1.0, 0.5, 0.5, 0.25, 0.25, 0.25, 0.25, 0.125]
        """
        band = np.frompyfunc(lambda d: 0.5 ** max(int(d).bit_length() - 1, 0), 1, 1)
        return cls("radial", lambda blocks: band(np.arange(blocks)).astype(float))

    @classmethod
    def custom(cls, weights: npt.ArrayLike, name: str = "custom") -> DistanceLaw:
        """``weights`` (distances,) for distances 0, 1, …; beyond the end the last one counts."""
        table = _weights(weights, "weights")
        return cls(name, lambda blocks: table[np.minimum(np.arange(blocks), len(table) - 1)])

    @classmethod
    def calibrated(cls, mass: npt.ArrayLike) -> DistanceLaw:
        r"""Weights that follow the measured mean attention mass of a block at each distance.

        Parameters
        ----------
        mass : (distances,) array
            Mean mass of one block, as of :func:`mass_by_distance`; a distance that was not seen
            (NaN) takes the mass of the one before it.
        """
        seen = np.array(mass, dtype=float)
        if seen.ndim == 1 and len(seen) and not np.isnan(seen[0]):
            for i in np.flatnonzero(np.isnan(seen)):
                seen[i] = seen[i - 1]
        return cls.custom(_weights(seen, "mass"), "calibrated")

    @classmethod
    def implied(cls, table: npt.ArrayLike, block: int) -> DistanceLaw:
        r"""The law that a distance bias of chapter 3 suggests (book, eq. attn-implied).

        .. math:: w_\delta \propto \operatorname{mean}_{(s, t)} e^{b(\delta B + s - t)}

        over the pairs of places s, t of two blocks of B tokens that causality allows: what a block
        at that distance would weigh if the contents did not matter.

        Parameters
        ----------
        table : (distances,) array
            The bias b of one head at token distances 0, 1, …, as a row of
            :func:`genopt_core.positions.bias_by_distance`; minus infinity beyond its end.
        block : int
            Tokens of a block, B.

        Examples
        --------
        >>> DistanceLaw.implied(np.log([1, 1, 0.5, 0.5]), block=2).weights(3).round(4).tolist()
        [1.0, 0.625, 0.125]
        """
        b = np.asarray(table, dtype=float)
        size = whole(block, "block")
        if b.ndim != 1 or not len(b) or np.isnan(b).any() or np.isposinf(b).any():
            raise ValueError(f"table must be numbers of the shape (distances,), got {b.shape}")
        pairs = size - np.abs(np.arange(1 - size, size))  # at each offset s - t

        def make(blocks: int) -> np.ndarray:
            weight = np.zeros(blocks * size + size)
            weight[: min(len(b), len(weight))] = np.exp(b - b.max())[: len(weight)]
            out = np.empty(blocks)
            for delta in range(blocks):
                at = delta * size + np.arange(1 - size, size)
                seen = at >= 0
                out[delta] = np.average(weight[at[seen]], weights=pairs[seen])
            return out

        return cls("implied", make)

    def weights(self, blocks: int) -> np.ndarray:
        r"""The weights :math:`w_0, …, w_{T-1}`, divided by the first (book, eq. attn-law).

        Returns
        -------
        (blocks,) float64 array
        """
        w = _weights(self.make(whole(blocks, "blocks")), "weights")
        return w / w[0]

    def inclusion(self, blocks: int, density: float) -> np.ndarray:
        r"""Inclusion probability of each distance for a wanted density (book, eq. attn-inclusion).

        .. math:: \pi_\delta = \min(1, \kappa\, w_\delta), \quad \pi_0 = 1, \qquad
                  \sum_\delta (T - \delta)\,\pi_\delta = s\,\frac{T(T+1)}{2}

        Parameters
        ----------
        blocks : int
            T.
        density : float
            Share s of the lower triangle's blocks, at least the diagonal's 2 / (T + 1).

        Returns
        -------
        (blocks,) float64 array

        Examples
        --------
        >>> pi = DistanceLaw.harmonic().inclusion(16, density=0.5)
        >>> pi.round(3).tolist()[:6], round(expected_blocks(pi) / 136, 12)
        ([1.0, 1.0, 0.686, 0.515, 0.412, 0.343], 0.5)
        """
        total = whole(blocks, "blocks")
        share = real(density, "density")
        w = self.weights(total)
        pairs = np.arange(total, 0, -1.0)
        reach = float(pairs[1:][w[1:] > 0].sum())
        least, most = 2 / (total + 1), (total + reach) / float(pairs.sum())
        if not least * (1 - 1e-12) <= share <= min(most * (1 + 1e-12), 1):
            raise ValueError(
                f"density must be in [{least:.4g}, {most:.8g}], where the diagonal alone is the "
                f"least for {total} blocks and all of a positive weight the most, got {density!r}"
            )
        far = min(max(share * pairs.sum() - total, 0.0), reach)
        return np.concatenate([[1.0], inclusion(w[1:], far, pairs[1:])])

    def log_bias(self, blocks: int, density: float) -> np.ndarray:
        r"""What plain dropping adds to the scores over many rounds (book, eq. attn-limit).

        :math:`\ln \pi_\delta` at each block distance, (blocks,): the mean of kept sums is the sum
        under that bias; for the harmonic law :math:`-\ln(1 + \delta)`, up to a constant, where
        :math:`\pi_\delta < 1`.
        """
        with np.errstate(divide="ignore"):
            return np.log(self.inclusion(blocks, density))


def kappa(weights: npt.ArrayLike, total: float, cost: npt.ArrayLike | None = None) -> float:
    r"""The factor at which the expected cost is as wanted, by bisection (book, eq. attn-kappa).

    .. math:: \sum_j c_j \min(1, \kappa\, w_j) = C

    The sum rises with :math:`\kappa`; once the bisection knows which terms are 1, the rest is
    linear and solved exactly.  Infinite where it is beyond the largest float.

    Parameters
    ----------
    weights : (n,) array
        :math:`w_j \ge 0`.
    total : float
        C, from 0 to the cost of all with a positive weight.
    cost : (n,) array, optional
        :math:`c_j > 0`, by default 1 each.

    Examples
    --------
    >>> kappa([1.0, 0.5, 0.25, 0.25], 2.0)
    1.0
    >>> kappa([4.0, 1.0, 1.0], 2.0)
    0.5
    """
    w, wanted, c, most = _asked(weights, total, cost)
    if wanted == 0:
        return 0.0
    if wanted >= most * (1 - 1e-12):
        return 1 / float(w[w > 0].min())
    factor, power = _factor(w, wanted, c)
    with np.errstate(over="ignore"):
        return float(np.ldexp(factor, power))


def _asked(
    weights: npt.ArrayLike, total: float, cost: npt.ArrayLike | None
) -> tuple[np.ndarray, float, np.ndarray, float]:
    """Arguments of `kappa` that have been checked, and the most that ``total`` may be."""
    w = np.asarray(weights, dtype=float)
    if w.ndim != 1 or not np.isfinite(w).all() or (w < 0).any():
        raise ValueError(f"weights must be finite and not negative, got {weights!r}")
    c = np.ones_like(w) if cost is None else np.asarray(cost, dtype=float)
    if c.shape != w.shape or not (np.isfinite(c) & (c > 0)).all():
        raise ValueError(f"cost must be {len(w)} positive numbers, got {cost!r}")
    wanted, most = real(total, "total"), float(c[w > 0].sum())
    if not 0 <= wanted <= most * (1 + 1e-12):
        raise ValueError(f"total must be in [0, {most:g}], got {total!r}")
    return w, wanted, c, most


STEEP = 1e300
"""The largest factor that is looked for at once, in units of the largest weight."""


def _factor(w: np.ndarray, wanted: float, c: np.ndarray) -> tuple[float, int]:
    r""":math:`\kappa` as a number and a power of two, which together may be beyond the floats."""
    # an even power, so that square roots have the same bits
    power = -((int(np.frexp(w.max())[1]) - 1) // 2 * 2)
    scaled = np.ldexp(w, power)
    low, least = wanted / float(c @ scaled), float(scaled[w > 0].min())
    if low * scaled.max() <= 1:  # no term is 1
        return low, power
    high = 1 / least if least * STEEP > 1 else STEEP
    if high == STEEP and c @ np.minimum(1, high * scaled) < wanted:
        full = high * scaled > 1
        rest = wanted - float(c[full].sum())
        return _factor(w[~full], rest, c[~full]) if rest > 0 else (high, power)
    for _ in range(200):  # of the exponent, as a steep law spans hundreds of decades
        middle = math.sqrt(low) * math.sqrt(high)
        if not low < middle < high:
            break
        if c @ np.minimum(1, middle * scaled) < wanted:
            low = middle
        else:
            high = middle
    full = high * scaled > 1
    rest = float(c[~full] @ scaled[~full])
    return ((wanted - float(c[full].sum())) / rest if rest > 0 else high), power


def inclusion(
    weights: npt.ArrayLike, total: float, cost: npt.ArrayLike | None = None
) -> np.ndarray:
    r"""Probabilities :math:`\pi_j = \min(1, \kappa w_j)` of the expected cost ``total``.

    Arguments as in :func:`kappa`.

    Examples
    --------
    >>> inclusion([4.0, 1.0, 1.0], 2.0).tolist()
    [1.0, 0.5, 0.5]
    """
    w, wanted, c, most = _asked(weights, total, cost)
    if wanted == 0 or not len(w):
        return np.zeros_like(w)
    if wanted >= most * (1 - 1e-12):
        return np.where(w > 0, 1.0, 0.0)
    factor, power = _factor(w, wanted, c)
    with np.errstate(over="ignore"):  # of what is far above 1
        pi = factor * np.ldexp(w, power)
    return np.where(pi > 1 - 1e-10, 1.0, pi)


def expected_blocks(pi: npt.ArrayLike) -> float:
    r"""Blocks of the lower triangle kept on average (book, eq. attn-cost).

    .. math:: \sum_\delta (T - \delta)\, \pi_\delta

    with ``pi`` (blocks,) by distance.

    >>> expected_blocks([1.0, 0.5, 1 / 3])
    4.333333333333333
    """
    p = np.asarray(pi, dtype=float)
    if p.ndim != 1 or not np.isfinite(p).all():
        raise ValueError(f"pi must be finite, one a distance, got {pi!r}")
    return float(p @ np.arange(len(p), 0, -1))


def harmonic_blocks(blocks: int) -> float:
    r"""The same for the harmonic law at :math:`\kappa = 1` (book, eq. attn-harmonic).

    .. math:: (T + 1) H_T - T

    Of order :math:`T \ln T`, where all are :math:`T (T + 1) / 2`.

    >>> round(harmonic_blocks(16), 2)
    41.47
    """
    t = whole(blocks, "blocks")
    return float((t + 1) * (1 / np.arange(1, t + 1)).sum() - t)


def _weights(weights: npt.ArrayLike, name: str) -> np.ndarray:
    w = np.asarray(weights, dtype=float)
    if w.ndim != 1 or not len(w) or not np.isfinite(w).all() or (w < 0).any() or not w[0] > 0:
        raise ValueError(
            f"{name} must be finite, not negative, and positive at distance 0, got {weights!r}"
        )
    return w
