r"""Distance biases: what a head takes off a score because the key lies far back.

Every bias here is a table over distances, one row a head, and nothing larger is kept: the square
of all pairs of positions is a strided view of it.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt

from genopt_core.checks import one_of, real, whole

__all__ = [
    "DISTANCES",
    "Distance",
    "Slopes",
    "bias",
    "bias_by_distance",
    "distance_cost",
    "relative_buckets",
    "slopes",
    "windowed",
]

Slopes = Literal["geometric", "harmonic", "uniform", "none"]
Distance = Literal["linear", "harmonic", "log", "power", "reciprocal"]
DISTANCES: tuple[Distance, ...] = ("linear", "harmonic", "log", "power", "reciprocal")


def slopes(
    heads: int, kind: Slopes = "geometric", *, total: float | Literal["geometric"] | None = None
) -> np.ndarray:
    r"""One strength a head, strongest first (book, eq. pos-slopes).

    .. math:: m_h = 2^{-8h/n} \;\text{(geometric, ALiBi's)}, \qquad
              m_h = \frac{1}{h} \;\text{(harmonic)}, \qquad h = 1, \dots, n

    Parameters
    ----------
    heads : int
        Query heads, :math:`n`.  If ``heads`` is no power of two, geometric slopes are those of the
        next lower power :math:`n'`, then every other one of :math:`2n'`, as ALiBi's authors do;
        these are not in order.
    kind : {"geometric", "harmonic", "uniform", "none"}
        ``"uniform"``: the same for all; ``"none"``: zeros, a head without a bias.
    total : float or "geometric", optional
        Scales the slopes to this sum, or to the sum of the geometric ones, so that two kinds can be
        compared at equal total strength.  By default they stay as the formula says.

    Returns
    -------
    (heads,) float64 array

    Source: Press et al. 2022 for geometric; harmonic is our reading of arXiv 2410.18441.

    Examples
    --------
    >>> slopes(4).tolist()
    [0.25, 0.0625, 0.015625, 0.00390625]
    >>> slopes(4, "harmonic").round(3).tolist()
    [1.0, 0.5, 0.333, 0.25]
    >>> slopes(4, "harmonic", total="geometric").round(3).tolist()
    [0.159, 0.08, 0.053, 0.04]
    """
    n = whole(heads, "heads")
    one_of(kind, "kind", ("geometric", "harmonic", "uniform", "none"))
    if kind == "geometric":
        out = _geometric(n)
    elif kind == "harmonic":
        out = 1.0 / np.arange(1, n + 1)
    else:
        out = np.full(n, 1.0 if kind == "uniform" else 0.0)
    if total is None or kind == "none":
        return out
    wanted = _geometric(n).sum() if isinstance(total, str) else real(total, "total")
    if isinstance(total, str):
        one_of(total, "total", ("geometric",))
    if wanted < 0:
        raise ValueError(f"total must not be negative, got {total!r}")
    return out * (wanted / out.sum())


def _geometric(n: int) -> np.ndarray:
    lower = 1 << (n.bit_length() - 1)
    first = 2.0 ** (-8.0 * np.arange(1, lower + 1) / lower)
    rest = 2.0 ** (-4.0 * np.arange(1, 2 * (n - lower), 2) / lower)
    return np.concatenate([first, rest])


def distance_cost(
    length: int, kind: Distance = "linear", parameter: npt.ArrayLike = 1.0
) -> np.ndarray:
    r"""What a unit slope takes off at distances 0, 1, … (book, eq. pos-distance).

    .. math:: \varphi(\delta) = \delta, \quad H_\delta = \sum_{r=1}^{\delta} \tfrac1r, \quad
              \ln(1 + a\delta), \quad \delta^p, \quad \frac{\delta}{1+\delta}

    All are 0 at distance 0 and never fall.  Harmonic numbers make the weight of a far token a power
    of its distance, :math:`e^{-m H_\delta} \approx (e^{\gamma}\delta)^{-m}` (book, eq.
    pos-power); the linear cost makes it an exponential; the reciprocal one is bounded.

    Parameters
    ----------
    length : int
        Number of distances; 0 gives an empty table.
    kind : {"linear", "harmonic", "log", "power", "reciprocal"}
    parameter : float or (heads,) array
        :math:`a > 0` of ``"log"`` and :math:`0 < p \le 2` of ``"power"`` (KERPLE's), not used by
        the others.

    Returns
    -------
    (length,) float64 array, or (heads, length) for an array of parameters

    Source: Chi et al. 2022 (KERPLE) for log and power.  In "reciprocal" the term
    :math:`-1/(1+\delta)` is shifted by 1, which a softmax does not see.

    Examples
    --------
    >>> distance_cost(4, "harmonic").round(4).tolist()
    [0.0, 1.0, 1.5, 1.8333]
    """
    count = whole(length, "length", 0)
    one_of(kind, "kind", DISTANCES)
    a = np.asarray(parameter, dtype=np.float64)
    if a.ndim > 1:
        raise ValueError(f"parameter must be a number or one a head, got shape {a.shape}")
    top = 2.0 if kind == "power" else np.inf
    if not (np.isfinite(a).all() and (a > 0).all() and (a <= top).all()):
        raise ValueError(f"parameter must be in (0, {top:g}] for {kind!r}, got {parameter!r}")
    delta = np.arange(count, dtype=np.float64)
    if kind == "log":
        return np.log1p(a[..., None] * delta)
    if kind == "power":
        return delta ** a[..., None]
    table = delta
    if kind == "harmonic":
        table = np.concatenate([[0.0], np.cumsum(1.0 / np.arange(1, count))])[:count]
    elif kind == "reciprocal":
        table = delta / (1 + delta)
    return np.broadcast_to(table, (*a.shape, count)).copy() if a.ndim else table


def bias_by_distance(
    strengths: npt.ArrayLike,
    length: int,
    distance: Distance = "linear",
    parameter: npt.ArrayLike = 1.0,
    *,
    windows: npt.ArrayLike | None = None,
) -> np.ndarray:
    r"""Each head's bias at each distance, :math:`-m_h\,\varphi(\delta)` (book, eq. pos-bias).

    Parameters
    ----------
    strengths : (heads,) array
        :math:`m_h \ge 0`, for example of `slopes`; 0 is a head without a bias.
    length, distance, parameter
        As in `distance_cost`.
    windows : (heads,) array of integers, optional
        How many tokens a head sees, itself included; 0 for all.  Beyond, the bias is −∞.

    Returns
    -------
    (heads, length) float64 array, 0 at distance 0 and never rising

    Examples
    --------
    >>> bias_by_distance([1.0, 0.5], 3).tolist()
    [[-0.0, -1.0, -2.0], [-0.0, -0.5, -1.0]]
    >>> bias_by_distance([0.0, 0.0], 3, windows=[0, 2])[1].tolist()
    [-0.0, -0.0, -inf]
    """
    m = _strengths(strengths)
    cost = distance_cost(length, distance, parameter)
    if cost.ndim > 1 and len(cost) not in (1, len(m)):
        raise ValueError(f"parameter must be a number or of shape ({len(m)},), got {parameter!r}")
    table = -m[:, None] * cost
    return table if windows is None else windowed(table, windows)


def windowed(table: npt.ArrayLike, windows: npt.ArrayLike) -> np.ndarray:
    """A bias ``table`` (heads, length) with −∞ from distance ``windows[h]`` on.

    ``windows`` is (heads,), in tokens; 0 is no window.

    >>> windowed([[0.0, -1.0, -2.0]], [2]).tolist()
    [[0.0, -1.0, -inf]]
    """
    out = np.array(table, dtype=np.float64)
    if np.isnan(out).any():
        raise ValueError(f"table must have no NaN, got {table!r}")
    sizes = np.asarray(windows)
    if sizes.dtype.kind not in "iu" or sizes.shape != out.shape[:1] or (sizes < 0).any():
        raise ValueError(
            f"windows must be {len(out)} whole numbers, not negative, one a head, got {windows!r}"
        )
    far = np.arange(out.shape[1]) >= np.where(sizes == 0, out.shape[1], sizes)[:, None]
    out[far] = -np.inf
    return out


def bias(
    strengths: npt.ArrayLike,
    length: int,
    distance: Distance = "linear",
    parameter: npt.ArrayLike = 1.0,
    *,
    windows: npt.ArrayLike | None = None,
    queries: int | None = None,
) -> np.ndarray:
    r"""The bias of each pair of positions, −∞ where the key comes after the query.

    Parameters
    ----------
    strengths, length, distance, parameter, windows
        As in `bias_by_distance`; ``length`` is the number of keys.
    queries : int, optional
        Only the last ``queries`` rows, as when a model decodes with a cache.

    Returns
    -------
    (heads, queries, length) read-only view of a table of heads × (queries + length − 1) numbers

    Examples
    --------
    >>> bias([1.0], 3)[0].tolist()
    [[-0.0, -inf, -inf], [-1.0, -0.0, -inf], [-2.0, -1.0, -0.0]]
    >>> bias([1.0], 3, queries=1)[0].tolist()
    [[-2.0, -1.0, -0.0]]
    """
    table = bias_by_distance(strengths, length, distance, parameter, windows=windows)
    return by_pairs(table, queries)


def by_pairs(table: np.ndarray, queries: int | None = None) -> np.ndarray:
    """A (heads, queries, length) view of a bias ``table`` over distances, −∞ above the diagonal.

    The table is (heads, length); without ``queries`` there are as many as keys.

    >>> by_pairs(np.array([[0.0, -1.0]]))[0].tolist()
    [[0.0, -inf], [-1.0, 0.0]]
    """
    heads, length = table.shape
    rows = length if queries is None else whole(queries, "queries", 0)
    if rows > length:
        raise ValueError(f"queries must be at most {length}, the number of keys, got {rows}")
    if rows == 0:
        return np.empty((heads, 0, length))
    future = np.full((heads, rows - 1), -np.inf)
    # along a row the distance falls by one a key: row r of the last `rows` starts at distance
    # length - rows + r, so the reversed table is read through a sliding window
    line = np.concatenate([table[:, ::-1], future], axis=1)
    return np.lib.stride_tricks.sliding_window_view(line, length, axis=1)[:, ::-1]


def relative_buckets(length: int, buckets: int = 32, max_distance: int = 128) -> np.ndarray:
    r"""T5's bucket of each distance 0, 1, …, length − 1 for causal attention.

    Half of the buckets are single distances, the rest grow by a constant ratio up to
    ``max_distance``; all beyond share the last.  A learned bias is ``table[head, bucket]``.

    Returns
    -------
    (length,) int64 array in 0, …, buckets − 1

    Source: Raffel et al. 2020, as in ``T5Attention._relative_position_bucket`` of transformers.

    Examples
    --------
    >>> relative_buckets(10, buckets=8, max_distance=16).tolist()
    [0, 1, 2, 3, 4, 4, 5, 5, 6, 6]
    """
    count, all_ = whole(length, "length", 0), whole(buckets, "buckets", 2)
    exact = all_ // 2
    furthest = whole(max_distance, "max_distance", exact + 1)
    delta = np.arange(count)
    ratio = np.log(np.maximum(delta, 1) / exact) / np.log(furthest / exact)
    large = exact + (ratio * (all_ - exact)).astype(np.int64)
    return np.where(delta < exact, delta, np.minimum(large, all_ - 1))


def _strengths(strengths: npt.ArrayLike) -> np.ndarray:
    m = np.asarray(strengths, dtype=np.float64)
    if m.ndim != 1 or not len(m):
        raise ValueError(f"strengths must have the shape (heads,), got {m.shape}")
    if not np.isfinite(m).all() or (m < 0).any():
        raise ValueError(f"strengths must be finite and not negative, got {strengths!r}")
    return m
