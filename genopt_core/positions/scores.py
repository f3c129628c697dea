r"""Rotation and bias together: the scores of a head that has both."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from genopt_core.positions.bias import by_pairs
from genopt_core.positions.rotary import Layout, rotary_angles, rotate

__all__ = ["factored_scores"]


def factored_scores(
    q: npt.ArrayLike,
    k: npt.ArrayLike,
    table: npt.ArrayLike,
    frequencies: npt.ArrayLike = (),
    layout: Layout = "half",
) -> np.ndarray:
    r"""Causal scores of queries and keys that are rotated and biased (book, eq. pos-factored).

    .. math:: s_{ij} = \frac{(R_i q_i)^\top (R_j k_j)}{\sqrt d} + b_h(i - j), \qquad j \le i

    A table of zeros leaves RoPE; no frequencies and ALiBi's table leave ALiBi.

    Parameters
    ----------
    q : (heads, queries, head_dim) array
        The last ``queries`` positions.
    k : (key_heads, keys, head_dim) array
        Each key head serves ``heads / key_heads`` query heads in a row.
    table : (heads, keys) array
        A bias over distances, as of `bias_by_distance`.
    frequencies : (pairs,) array
        Radians per position, as of `inverse_frequencies`; none: nothing turns.
    layout : {"half", "interleaved"}
        As in `rotate`.

    Returns
    -------
    (heads, queries, keys) float64 array, −∞ where the key comes after the query

    Examples
    --------
    >>> one = np.ones((1, 3, 4))
    >>> factored_scores(one, one, [[0.0, -1.0, -2.0]])[0].tolist()
    [[2.0, -inf, -inf], [1.0, 2.0, -inf], [0.0, 1.0, 2.0]]
    """
    query, key = np.asarray(q, dtype=np.float64), np.asarray(k, dtype=np.float64)
    b = np.asarray(table, dtype=np.float64)
    if query.ndim != 3 or not query.size:
        raise ValueError(f"q must have the shape (heads, queries, head_dim), got {query.shape}")
    heads, queries, dim = query.shape
    if key.ndim != 3 or not key.size or key.shape[2] != dim or heads % key.shape[0]:
        raise ValueError(
            f"k must have the shape (a divisor of {heads}, keys, {dim}), got {key.shape}"
        )
    if b.shape != (heads, key.shape[1]):
        raise ValueError(f"table must have the shape ({heads}, {key.shape[1]}), got {b.shape}")
    if np.isnan(b).any():
        raise ValueError(f"table must have no NaN, got {table!r}")
    pairs = by_pairs(b, queries)
    omega, place = np.asarray(frequencies, dtype=np.float64), np.arange(key.shape[1])
    query = rotate(query, rotary_angles(place[len(place) - queries :], omega), layout)
    key = np.repeat(rotate(key, rotary_angles(place, omega), layout), heads // len(key), axis=0)
    return query @ key.transpose(0, 2, 1) / np.sqrt(dim) + pairs
