r"""How far a biased head looks: weights at equal content, and the context they amount to."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["effective_context", "linear_effective_context", "weights_by_distance"]


def weights_by_distance(table: npt.ArrayLike) -> np.ndarray:
    r"""Attention weights if all contents score the same (book, eq. pos-weights).

    .. math:: w_\delta = \frac{e^{b(\delta)}}{\sum_{\delta'} e^{b(\delta')}}

    Parameters
    ----------
    table : (heads, length) array
        A bias over distances, as of `bias_by_distance`; −∞ allowed, but not in all of a row.

    Returns
    -------
    (heads, length) float64 array, each row adding up to 1

    Examples
    --------
    >>> weights_by_distance([[0.0, -np.log(3)]]).round(3).tolist()
    [[0.75, 0.25]]
    """
    b = np.asarray(table, dtype=np.float64)
    if b.ndim != 2 or b.shape[1] == 0:
        raise ValueError(f"table must have the shape (heads, length), length > 0, got {b.shape}")
    top = b.max(axis=1, keepdims=True)
    if np.isnan(b).any() or not np.isfinite(top).all():
        raise ValueError("table must have a finite bias in each row and no NaN")
    weight = np.exp(b - top)
    return weight / weight.sum(axis=1, keepdims=True)


def effective_context(table: npt.ArrayLike) -> np.ndarray:
    r"""Tokens a head averages over, at equal content (book, eq. pos-ess).

    .. math:: \mathrm{ESS} = \frac{1}{\sum_\delta w_\delta^2}

    the effective sample size: ``length`` for a flat table, 1 for a head that sees one token.

    Parameters
    ----------
    table : (heads, length) array

    Returns
    -------
    (heads,) float64 array in [1, length]

    Examples
    --------
    >>> effective_context([[0.0, 0.0, 0.0], [0.0, -50.0, -np.inf]]).round(6).tolist()
    [3.0, 1.0]
    """
    return 1.0 / (weights_by_distance(table) ** 2).sum(axis=1)


def linear_effective_context(strength: npt.ArrayLike, length: int | None = None) -> np.ndarray:
    r"""`effective_context` of a linear bias in closed form (book, eq. pos-linear-ess).

    .. math:: \mathrm{ESS} = \coth\frac m2 \cdot \tanh\frac{mL}{2}
              \;\xrightarrow{L \to \infty}\; \coth\frac m2 \approx \frac 2m

    Parameters
    ----------
    strength : array
        Slopes :math:`m > 0`.
    length : int, optional
        Context; without one it is infinite.

    Returns
    -------
    float64 array of the shape of ``strength``

    Examples
    --------
    >>> linear_effective_context([1/2, 1/256]).round(1).tolist()
    [4.1, 512.0]
    """
    m = np.asarray(strength, dtype=np.float64)
    if not (np.isfinite(m).all() and (m > 0).all()):
        raise ValueError(f"strength must be finite and above 0, got {strength!r}")
    endless = 1.0 / np.tanh(m / 2)
    return endless if length is None else endless * np.tanh(m * length / 2)
