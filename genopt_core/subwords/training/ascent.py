r"""Prices that make the bound of (book, eq. swe-dual) large, by a smoothed gradient ascent.

The bound L is concave in the prices but has kinks: at price sums of exactly 1, and where two pieces
are tied for the last place among the K best.  Both are rounded off, less and less, so that a
gradient exists; its terms are the fractional segmentation and vocabulary of the linear program.
Nothing here needs to be trusted: whatever comes out is checked by `bound_from_prices`.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from genopt_core.subwords.segmentation.arrays import Float, Mask, tally
from genopt_core.subwords.training.dual import Places, evaluate_all, lower_bound, price_sums
from genopt_core.subwords.training.substrings import Substrings

# Chosen on 1,000 and 3,000 words of Brown and Moby-Dick, where the linear program can be solved.
FIRST_WIDTH, LAST_WIDTH = 0.2, 0.002  # of the rounded kinks, in tokens
FIRST_STEP, LAST_STEP = 0.2, 0.004
FIRST_MARGIN, LAST_MARGIN = 0.2, 0.05  # places this far below the kink are left out for a while
REFRESH = 15  # steps between two evaluations of all places


class AscentStep(NamedTuple):
    """Steps done of all, and the best bound so far over the substrings of the table."""

    done: int
    total: int
    bound: float


class Ascent(NamedTuple):
    """What `ascend` found.

    ``prices`` (characters,) in 0..1, words in the order of the table; ``share`` (substrings,) in
    0..1, how much of each piece is in the vocabulary of the relaxation (book, eq. swe-relaxation),
    as far as the ascent got.
    """

    prices: Float
    share: Float


def ascend(
    table: Substrings,
    longer_pieces: int,
    steps: int,
    progress: Callable[[AscentStep], object] | None = None,
) -> Ascent:
    r"""Prices with a large bound for vocabularies with K longer pieces, of two characters or more.

    Steps along the smoothed gradient

    .. math:: \frac{1}{f_w} \frac{\partial L}{\partial d_{w,m}} =
              1 - \sum_{e \ni m} \phi_\tau(d(e) - 1)\, x_{t(e)}

    (book, eq. swe-dual): with the ramp :math:`\phi_\tau` from 0 at :math:`-\tau` to 1 at
    :math:`\tau`, and the shares x of the pieces, which sum to K.  The price of a character that is
    covered by less than one piece rises, that of one covered by more falls.

    ``progress`` is called with an `AscentStep` after every step.  A step is linear in the places of
    pieces that are near a kink, about a third of all; every 15 steps all of them are looked at.
    Step sizes are those of Adam (arXiv 1412.6980).
    """
    price = np.full(len(table.character_weight), 0.4)
    mean = price.copy()
    slope, square = np.zeros(len(price)), np.zeros(len(price))
    share = np.where(table.single, 0.0, 1.0)
    best, best_price = -np.inf, price
    if longer_pieces >= int((~table.single).sum()):
        steps = 1  # every piece is in: the shares stay 1
    near: Mask = ~table.single
    active: list[Places] = []
    for step in range(steps):
        done = step / steps
        width = _between(FIRST_WIDTH, LAST_WIDTH, done)
        if step % REFRESH == 0:
            margin = max(_between(FIRST_MARGIN, LAST_MARGIN, done), 2 * width)
            value, places = evaluate_all(table, price, margin)
            bound = lower_bound(table, price, value, longer_pieces)
            if bound > best:
                best, best_price = bound, price.copy()
            if step:
                worst = _kth_largest(value, longer_pieces)
                near = (value + table.count * width > 0.5 * worst) & ~table.single
            pieces = np.flatnonzero(near)
            active = [_only(group, near) for group in places]
        before, count = price_sums(price), table.count[pieces]
        cover, share_now = _cover(active, before, width, longer_pieces, count)
        share = np.zeros(len(table))
        share[pieces] = share_now
        _adam(price, 1.0 - cover, slope, square, step, _between(FIRST_STEP, LAST_STEP, done))
        mean += 0.1 * (price - mean)
        if progress is not None:
            progress(AscentStep(step + 1, steps, best))
    for candidate in (price, mean):  # the mean of the last steps is often the better one
        value, _ = evaluate_all(table, candidate)
        bound = lower_bound(table, candidate, value, longer_pieces)
        if bound > best:
            best, best_price = bound, candidate
    return Ascent(best_price, share)


def _between(first: float, last: float, done: float) -> float:
    return first * (last / first) ** done


def _only(places: Places, near: Mask) -> Places:
    """The places of some pieces, which are renumbered from 0."""
    kept = near[places.piece]
    rank = np.cumsum(near) - 1
    return Places(places.length, places.end[kept], rank[places.piece[kept]], places.weight[kept])


def _cover(
    active: list[Places], before: Float, width: float, k: int, count: Float
) -> tuple[Float, Float]:
    """How many pieces cover each character in the smoothed relaxation, and the share of each."""
    value, ramps = np.zeros(len(count)), []
    for length, end, rank, weight in active:
        surplus = before.take(end)
        surplus -= before.take(end - length)
        surplus -= 1.0
        ramp = surplus * (0.5 / width)
        ramp += 0.5
        np.clip(ramp, 0, 1, out=ramp)
        ramps.append(ramp)
        surplus -= width
        np.maximum(surplus, 0, out=surplus)  # the ramp's integral: width * ramp**2, then a line
        surplus += width * ramp * ramp
        surplus *= weight
        value += tally(rank, surplus, len(value))
    share = soft_largest(value, k, 0.5 * width * count)
    change = np.zeros(len(before))
    for (length, end, rank, _), ramp in zip(active, ramps, strict=True):
        ramp *= share.take(rank)
        np.add.at(change, end - length, ramp)
        np.subtract.at(change, end, ramp)
    return np.cumsum(change)[:-1], share


def soft_largest(value: Float, k: int, width: Float) -> Float:
    """Shares in 0..1 that sum to k: 1 well above a threshold, 0 well below, a ramp between.

    >>> soft_largest(np.array([5.0, 1.0, 3.0, 3.0]), 2, np.full(4, 0.5)).round(6).tolist()
    [1.0, 0.0, 0.5, 0.5]
    """
    if k >= len(value):
        return np.ones(len(value))
    steepness = 1 / width
    low, high = float((value - width).min()), float((value + width).max())
    scaled = value * steepness + 0.5
    for _ in range(50):
        middle = 0.5 * (low + high)
        if np.clip(scaled - middle * steepness, 0, 1).sum() > k:
            low = middle
        else:
            high = middle
    return np.clip(scaled - high * steepness, 0, 1)


def _kth_largest(value: Float, k: int) -> float:
    return float(np.partition(value, len(value) - k)[len(value) - k]) if 0 < k < len(value) else 0.0


def _adam(
    price: Float, gradient: Float, slope: Float, square: Float, step: int, size: float
) -> None:
    """Moves the prices in place, and keeps them in 0..1."""
    slope *= 0.9
    slope += 0.1 * gradient
    square *= 0.98
    gradient *= gradient
    gradient *= 0.02
    square += gradient
    scale: Float = np.sqrt(square / (1 - 0.98 ** (step + 1)))
    scale += 0.02
    np.divide(slope, scale, out=scale)
    scale *= size / (1 - 0.9 ** (step + 1))
    price += scale
    np.clip(price, 0, 1, out=price)
