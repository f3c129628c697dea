r"""The dual of the relaxed problem: one price per character, and the bound these prices prove.

:math:`\min_{x, y}` of (book, eq. swe-relaxation) asks for the fewest tokens; its dual
(book, eq. swe-dual) asks for character prices d in 0..1.  `ascend` looks for good prices,
`genopt_core.subwords.certify` keeps them, and both compute the bound here.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from genopt_core.subwords.segmentation.arrays import Float, Index, Small, tally
from genopt_core.subwords.training.substrings import Substrings


class Places(NamedTuple):
    """Some places of pieces of one length: last character, number of the piece, weight of word."""

    length: int
    end: Small
    piece: Index
    weight: Float


def evaluate_all(
    table: Substrings, prices: Float, margin: float = 0.0
) -> tuple[Float, list[Places]]:
    """`piece_values`, and the places whose price sum is above 1 - ``margin``."""
    before, ends = price_sums(prices), table.characters_before
    value, near = np.zeros(len(table)), []
    for length, (gap, number) in enumerate(table.word_arcs, start=1):
        if length == 1 or not len(gap):
            continue
        end = ends[gap]
        surplus = before[end] - before[end - length] - 1.0
        close = np.flatnonzero(surplus > -margin)
        surplus, end, number = surplus[close], end[close], number[close]
        weight = table.weight[table.word_of[gap[close]]]
        value += tally(number, np.maximum(surplus, 0) * weight, len(table))
        near.append(Places(length, end, number.astype(np.intp), weight))
    return value, near


def price_sums(prices: Float) -> Float:
    """Sum of the first 0, 1, ... prices, (characters + 1,)."""
    return np.concatenate([[0.0], np.cumsum(prices)])


def piece_values(table: Substrings, prices: ArrayLike) -> Float:
    r"""What each substring is worth at these character prices, at most, in tokens; (substrings,).

    .. math:: V_t = \sum_w f_w \sum_{e = (i, j) \,:\, w_{i+1} \dots w_j = t}
              \Big( \sum_{m=i+1}^{j} d_{w,m} - 1 \Big)^+

    (book, eq. swe-dual): everywhere it occurs it may cover characters worth more than the one token
    that it costs.  Single characters have 0.  Prices are those of all characters, words in the
    order of ``table.words``.

    >>> table = Substrings({"low": 3}, max_piece=3)
    >>> values = piece_values(table, [1.0, 1.0, 0.5])
    >>> dict(zip(table.texts(), values.tolist()))
    {'l': 0.0, 'o': 0.0, 'w': 0.0, 'lo': 3.0, 'ow': 1.5, 'low': 4.5}
    """
    return evaluate_all(table, np.asarray(prices, dtype=np.float64))[0]


def lower_bound(table: Substrings, prices: Float, value: Float, longer_pieces: int) -> float:
    """L(d) of `bound_from_prices`, from the prices and their piece values."""
    return float((table.character_weight * prices).sum()) - sum_of_largest(value, longer_pieces)


def bound_from_prices(table: Substrings, prices: ArrayLike, longer_pieces: int) -> float:
    r"""Lower bound on the tokens of every vocabulary with K pieces of two characters or more.

    .. math:: L(d) = \sum_w f_w \sum_m d_{w,m} \;-\;
              \max_{|T| \le K} \sum_{t \in T} V_t(d), \qquad 0 \le d_{w,m} \le 1

    (book, eq. swe-dual): total price less the K largest `piece_values`.

    **Proof.**  Let a vocabulary have the K longer pieces T, and let word w be cut into arcs that
    cover each of its characters once.  A single character is worth at most the 1 token that it
    costs, and a longer arc e at most :math:`1 + (d(e) - 1)^+`; so the number of arcs is at least
    :math:`\sum_m d_{w,m} - \sum_{e} (d(e) - 1)^+` over the longer arcs e used.  Sum over the
    corpus: piece t can contribute no more than :math:`V_t`, since each of its places is used at
    most once per word, and at most K pieces contribute.  ∎

    L is the Lagrangian dual of the relaxation (book, eq. swe-relaxation), so its maximum equals the
    optimum of that linear program; any other prices give a valid, weaker bound.

    >>> table = Substrings({"low": 3, "lower": 1}, max_piece=5)
    >>> prices = [0.5, 0.5, 0.5] + [0.5, 0.25, 0.25, 1.0, 1.0]  # of "low", then of "lower"
    >>> bound_from_prices(table, prices, longer_pieces=1)
    5.5
    """
    given = np.asarray(prices, dtype=np.float64)
    characters = len(table.character_weight)
    if given.shape != (characters,):
        raise ValueError(f"prices must have shape ({characters},), got {given.shape}")
    if not ((given >= 0) & (given <= 1)).all():
        raise ValueError("prices must be in 0..1 everywhere")
    return lower_bound(table, given, piece_values(table, given), longer_pieces)


def sum_of_largest(value: Float, how_many: int) -> float:
    """Sum of the ``how_many`` largest values, none of them negative."""
    if how_many >= len(value):
        return float(value.sum())
    if how_many == 0:
        return 0.0
    return float(np.partition(value, len(value) - how_many)[-how_many:].sum())
