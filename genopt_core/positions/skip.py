r"""What a distance bias lets one leave out, with a guarantee.

A bias that never rises with distance bounds the weight of everything far away, whatever the
contents are: a score is at most :math:`\lVert q\rVert\,\lVert k\rVert / \sqrt d` and at least minus
that, and a rotation changes no length.  So whole blocks of far keys can be skipped with an error
that is known beforehand.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from genopt_core.checks import open_fraction, whole

__all__ = ["output_error_bound", "skippable", "skippable_blocks", "tail_bound"]


def tail_bound(
    table: npt.ArrayLike, q_norm: npt.ArrayLike, k_norm: npt.ArrayLike, head_dim: int
) -> np.ndarray:
    r"""Most that all keys from distance D on can weigh together (book, eq. pos-tail).

    .. math:: \sum_{\delta \ge D} w_\delta \;\le\;
              \frac{e^{2c}\,T_D}{N_D + e^{2c}\,T_D}, \qquad
              T_D = \sum_{\delta \ge D} e^{b(\delta)}, \quad
              N_D = \sum_{\delta < D} e^{b(\delta)}, \quad
              c = \frac{\lVert q\rVert\,\max_j \lVert k_j\rVert}{\sqrt d}

    because each far term is at most :math:`e^{c + b}` and each near term at least
    :math:`e^{-c + b}`.  The bound holds for every query that sees at most ``length`` keys.

    Parameters
    ----------
    table : (heads, length) array
        A bias over distances.  It need not fall for this bound; `skippable` asks for that.
    q_norm, k_norm : number or (heads,) array
        Largest Euclidean length of a query and of a key of the head, before or after rotation.
    head_dim : int
        :math:`d` of the scaling by :math:`\sqrt d`.

    Returns
    -------
    (heads, length + 1) float64 array
        Entry D bounds the weight at distances D and more: 1 at D = 0, 0 at D = length.

    Source: our derivation; the idea is that of FoX's adaptive pruning (Lin et al. 2025), whose
    forget gates play the part of the bias.

    Examples
    --------
    >>> tail_bound([[0.0, -10.0, -20.0]], 1.0, 1.0, 4).round(6).tolist()
    [[1.0, 0.000123, 0.0, 0.0]]
    """
    b = np.asarray(table, dtype=np.float64)
    if b.ndim != 2 or np.isnan(b).any() or (b == np.inf).any():
        raise ValueError(f"table must be numbers of the shape (heads, length), got {b.shape}")
    dim = whole(head_dim, "head_dim")
    c = _norm(q_norm, "q_norm", len(b)) * _norm(k_norm, "k_norm", len(b)) / np.sqrt(dim)
    out = np.zeros((b.shape[0], b.shape[1] + 1))
    if not b.size:
        return out
    top = b.max(axis=1, keepdims=True)
    mass = np.exp(b - top)
    out[:, :-1] = mass[:, ::-1].cumsum(axis=1)[:, ::-1]
    near = np.concatenate([np.zeros((len(b), 1)), mass.cumsum(axis=1)], axis=1)
    # divided by e^{2c} so that nothing overflows; 0/0 is a row that sees nothing
    floor = near * np.exp(-2 * c)[:, None]
    with np.errstate(invalid="ignore"):
        return np.where(out > 0, out / (out + floor), 0.0)


def skippable(
    table: npt.ArrayLike, q_norm: npt.ArrayLike, k_norm: npt.ArrayLike, head_dim: int, eps: float
) -> np.ndarray:
    r"""Distance from which on a head's keys together weigh at most ``eps``.

    Parameters
    ----------
    table, q_norm, k_norm, head_dim
        As in `tail_bound`; the bias must not rise with distance.
    eps : float
        Largest weight that may be lost, in (0, 1).

    Returns
    -------
    (heads,) int64 array
        The smallest such distance; ``length`` where nothing can be skipped.

    Examples
    --------
    >>> skippable([[0.0, -10.0, -20.0], [0.0, 0.0, 0.0]], 1.0, 1.0, 4, eps=1e-3).tolist()
    [1, 3]
    """
    share = open_fraction(eps, "eps")
    b = np.asarray(table, dtype=np.float64)
    if b.ndim == 2 and (b[:, 1:] > b[:, :-1]).any():
        raise ValueError("table must not rise with distance")
    return (tail_bound(b, q_norm, k_norm, head_dim) > share).sum(axis=1)


def skippable_blocks(from_distance: npt.ArrayLike, blocks: int, block_size: int) -> np.ndarray:
    r"""Block distances that lie wholly at or beyond ``from_distance`` (book, eq. pos-blocks).

    The nearest pair of a query block and the key block t before it is :math:`tB - (B - 1)` apart.

    Parameters
    ----------
    from_distance : (heads,) array of integers
        As of `skippable`.
    blocks : int
        Number of block distances, T.
    block_size : int
        Tokens of a block, B.

    Returns
    -------
    (heads, blocks) bool array, never True for t = 0

    Examples
    --------
    >>> skippable_blocks([5, 100], blocks=4, block_size=4).tolist()
    [[False, False, True, True], [False, False, False, False]]
    """
    size = whole(block_size, "block_size")
    start = np.asarray(from_distance)
    if start.ndim != 1 or start.dtype.kind not in "iu":
        raise ValueError(f"from_distance must be whole numbers (heads,), got {from_distance!r}")
    t = np.arange(whole(blocks, "blocks", 0))
    return (t * size - (size - 1) >= start[:, None]) & (t > 0)


def output_error_bound(eps: npt.ArrayLike, v_norm: npt.ArrayLike) -> np.ndarray:
    r"""How far the output moves if weight ``eps`` is dropped (book, eq. pos-error).

    .. math:: \lVert o - \tilde o \rVert \le 2\,\varepsilon\,\max_j \lVert v_j \rVert

    with ``v_norm`` the largest norm of a value; shapes broadcast.

    The rest is scaled up to 1: the dropped mean and the kept mean are both averages of values, and
    :math:`o - \tilde o` is ``eps`` times their difference.

    Examples
    --------
    >>> float(output_error_bound(1e-3, 5.0))
    0.01
    """
    weight, norm = np.asarray(eps, dtype=np.float64), np.asarray(v_norm, dtype=np.float64)
    for name, numbers in (("eps", weight), ("v_norm", norm)):
        if not np.isfinite(numbers).all() or (numbers < 0).any():
            raise ValueError(f"{name} must be finite and not negative, got {numbers.tolist()}")
    return 2.0 * weight * norm


def _norm(value: npt.ArrayLike, name: str, heads: int) -> np.ndarray:
    out = np.asarray(value, dtype=np.float64)
    if out.shape not in ((), (heads,)) or not np.isfinite(out).all() or (out < 0).any():
        raise ValueError(
            f"{name} must be finite and not negative, one number or {heads} of them, got {value!r}"
        )
    return np.broadcast_to(out, (heads,))
