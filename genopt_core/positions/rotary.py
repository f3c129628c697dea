r"""Rotary position embedding: a query and a key are turned by their positions, so that their scalar
product depends on the distance alone."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
import numpy.typing as npt

from genopt_core.checks import one_of, real, whole

__all__ = ["Layout", "inverse_frequencies", "rotary_angles", "rotate", "yarn_temperature"]

Layout = Literal["half", "interleaved"]


def inverse_frequencies(
    head_dim: int,
    *,
    theta: float = 10_000.0,
    rotated: float = 1.0,
    scaling: Literal["none", "linear", "ntk", "yarn"] = "none",
    factor: float = 1.0,
    trained_length: int | None = None,
) -> np.ndarray:
    r"""Radians per position of each pair of channels (book, eq. pos-frequencies).

    .. math:: \omega_i = \theta^{-2i/d}, \qquad i = 0, \dots, d/2 - 1

    Parameters
    ----------
    head_dim : int
        Channels of a head, :math:`d`; even.
    theta : float
        Base of the frequencies.
    rotated : float
        Share of the pairs that turn, the fastest first; the slow rest stands still (p-RoPE, the
        ``"proportional"`` type of transformers).
    scaling : {"none", "linear", "ntk", "yarn"}
        What is done at test time to reach ``factor`` times the trained length: ``"linear"`` divides
        all frequencies (position interpolation), ``"ntk"`` raises ``theta`` so that the slowest
        pair is divided by ``factor`` and the fastest not at all, ``"yarn"`` divides the pairs
        that turn less than once over ``trained_length``, leaves those that turn more than 32 times,
        and blends between.
    factor : float
        Ratio of the tested to the trained length, at least 1.
    trained_length : int
        Tokens of a training window; ``"yarn"`` needs it.

    Returns
    -------
    (head_dim / 2,) float64 array

    Notes
    -----
    YaRN also multiplies the scores by :math:`(0.1 \ln s + 1)^2`, see `yarn_temperature`.

    Sources: Su et al. 2021 (RoPE); Chen et al. 2023 (interpolation); Peng et al. 2023 (YaRN).

    Examples
    --------
    >>> inverse_frequencies(8).round(4).tolist()
    [1.0, 0.1, 0.01, 0.001]
    >>> inverse_frequencies(8, rotated=0.5).round(4).tolist()
    [1.0, 0.1, 0.0, 0.0]
    """
    pairs = _pairs(head_dim)
    base = real(theta, "theta")
    if base <= 1:
        raise ValueError(f"theta must be above 1, got {theta!r}")
    share = real(rotated, "rotated")
    if not 0 <= share <= 1:
        raise ValueError(f"rotated must be in [0, 1], got {rotated!r}")
    one_of(scaling, "scaling", ("none", "linear", "ntk", "yarn"))
    s = real(factor, "factor")
    if s < 1:
        raise ValueError(f"factor must be at least 1, got {factor!r}")
    i = np.arange(pairs)
    if scaling == "ntk" and pairs > 1:
        base *= s ** (head_dim / (head_dim - 2))
    omega = base ** (-2.0 * i / head_dim)
    if scaling == "linear":
        omega /= s
    elif scaling == "yarn":
        if trained_length is None:
            raise ValueError("trained_length must be given with scaling 'yarn', got None")
        turns = whole(trained_length, "trained_length") * omega / (2 * math.pi)
        kept = np.clip((turns - 1) / (32 - 1), 0, 1)
        omega = kept * omega + (1 - kept) * omega / s
    omega[int(share * pairs) :] = 0.0
    return omega


def rotary_angles(positions: npt.ArrayLike, frequencies: npt.ArrayLike) -> np.ndarray:
    r"""Angles in radians at ``positions``: :math:`p\,\omega_i`, in float64.

    A position in float16 is exact to 2048 only, in bfloat16 to 256, and the angle is wrong by as
    much; so angles are made from whole numbers in double precision, whatever the model computes in.

    Parameters
    ----------
    positions : (...,) array of integers
        Not negative.  With a cache: the number of tokens before, plus 0, 1, …
    frequencies : (pairs,) array

    Returns
    -------
    (..., pairs) float64 array

    Raises
    ------
    OverflowError
        If a position is so large (2**32) that its angle is no longer exact to a millionth.

    Examples
    --------
    >>> rotary_angles([0, 3], [1.0, 0.1]).tolist()
    [[0.0, 0.0], [3.0, 0.30000000000000004]]
    """
    p = np.asarray(positions)
    if p.dtype.kind not in "iu":
        raise TypeError(f"positions must be whole numbers, got dtype {p.dtype}")
    if p.size and p.min() < 0:
        raise ValueError(f"positions must not be negative, got {p.min()}")
    if p.size and p.max() >= 2**32:
        raise OverflowError(f"positions must be below 2**32 to turn exactly, got {p.max()}")
    omega = np.asarray(frequencies, dtype=np.float64)
    if omega.ndim != 1:
        raise ValueError(f"frequencies must have the shape (pairs,), got {omega.shape}")
    if not np.isfinite(omega).all():
        raise ValueError(f"frequencies must be finite, got {omega}")
    return p.astype(np.float64)[..., None] * omega


def rotate(x: npt.ArrayLike, angles: npt.ArrayLike, layout: Layout = "half") -> np.ndarray:
    r"""``x`` with each pair of channels turned by its angle (book, eq. pos-rotation).

    .. math:: \begin{pmatrix} x'_a \\ x'_b \end{pmatrix} =
              \begin{pmatrix} \cos\varphi & -\sin\varphi \\ \sin\varphi & \cos\varphi \end{pmatrix}
              \begin{pmatrix} x_a \\ x_b \end{pmatrix}

    Rotations keep lengths, and :math:`(R_m q)^\top (R_n k) = q^\top R_{n-m} k` (book, eq.
    pos-relative).

    Parameters
    ----------
    x : (..., tokens, head_dim) array
    angles : (tokens, pairs) or (..., tokens, pairs) array
        With fewer than head_dim / 2 pairs, the first ``2 * pairs`` channels turn and the rest pass.
    layout : {"half", "interleaved"}
        Which channels pair up: i and i + pairs (Llama's), or 2i and 2i + 1 (the paper's).

    Returns
    -------
    (..., tokens, head_dim) array of the dtype of ``x`` (float64 for integers)

    Source: Su et al. 2021.

    Examples
    --------
    >>> rotate([[1.0, 0.0]], [[np.pi / 2]]).round(6).tolist()
    [[0.0, 1.0]]
    """
    array = np.asarray(x)
    if array.dtype.kind not in "fiu":
        raise TypeError(f"x must be real numbers, got dtype {array.dtype}")
    if array.dtype.kind != "f":
        array = array.astype(np.float64)
    one_of(layout, "layout", ("half", "interleaved"))
    phi = np.asarray(angles, dtype=np.float64)
    if array.ndim < 2:
        raise ValueError(f"x must have the shape (..., tokens, head_dim), got {array.shape}")
    pairs = _pairs(array.shape[-1]) if phi.ndim == 0 else phi.shape[-1]
    if phi.ndim < 2 or phi.shape[-2] != array.shape[-2] or 2 * pairs > array.shape[-1]:
        raise ValueError(
            f"angles must have the shape (..., tokens, pairs) with {array.shape[-2]} tokens and at "
            f"most {array.shape[-1] // 2} pairs, got {phi.shape}"
        )
    cos, sin = np.cos(phi), np.sin(phi)
    turned = array.astype(np.result_type(array.dtype, np.float64), copy=True)
    if layout == "half":
        first, second = slice(0, pairs), slice(pairs, 2 * pairs)
    else:
        first, second = slice(0, 2 * pairs, 2), slice(1, 2 * pairs, 2)
    a, b = turned[..., first].copy(), turned[..., second].copy()
    turned[..., first] = a * cos - b * sin
    turned[..., second] = a * sin + b * cos
    return turned.astype(array.dtype)


def yarn_temperature(factor: float) -> float:
    r"""What YaRN multiplies cosines and sines by: :math:`0.1 \ln s + 1`, so scores by its square.

    Examples
    --------
    >>> round(yarn_temperature(4), 4)
    1.1386
    """
    s = real(factor, "factor")
    if s < 1:
        raise ValueError(f"factor must be at least 1, got {factor!r}")
    return 0.1 * math.log(s) + 1.0


def _pairs(head_dim: int) -> int:
    dim = whole(head_dim, "head_dim", 2)
    if dim % 2:
        raise ValueError(f"head_dim must be even, got {dim}")
    return dim // 2
