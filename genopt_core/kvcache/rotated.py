r"""Rotated codes: spread each vector over its channels, then quantize all channels alike.

A random rotation turns a vector with a few large channels into one whose entries look like draws
from one Gaussian, for which the best levels are known once and for all (Lloyd-Max).  One number a
vector, its *gain*, is all the metadata; keys also store their mean over the chunk.
"""

import math
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from genopt_core.checks import one_of, whole
from genopt_core.kvcache.packing import check_bits, check_narrower

LLOYD_MAX_BITS = (1, 2, 3, 4)
ROTATED_BITS = (*LLOYD_MAX_BITS, 8)


def hadamard_rotation(dim: int, rng: np.random.Generator) -> np.ndarray:
    r"""Orthogonal ``(dim, dim)`` matrix that spreads any vector (book, eq. kv-rotation).

    .. math:: R = \operatorname{diag}(\sigma)\, H / \sqrt d, \qquad \sigma_i = \pm 1

    with random signs and the Hadamard matrix :math:`H`, where ``dim`` is a power of two; otherwise
    a random orthogonal matrix (QR of Gaussian numbers).  Rows are rotated by ``x @ R`` and back
    by ``y @ R.T``.

    >>> R = hadamard_rotation(4, np.random.default_rng(5))
    >>> np.allclose(R @ R.T, np.eye(4)), np.abs(R).tolist()[0]
    (True, [0.5, 0.5, 0.5, 0.5])
    """
    if whole(dim, "dim") & (dim - 1):
        q, r = np.linalg.qr(rng.standard_normal((dim, dim)))
        return q * np.sign(np.diag(r))  # without the signs QR favors some rotations
    h = np.ones((1, 1))
    while len(h) < dim:
        h = np.block([[h, h], [h, -h]])
    return rng.choice([-1.0, 1.0], size=dim)[:, None] * h / math.sqrt(dim)


@lru_cache(maxsize=8)
def _lloyd_max(bits: int) -> tuple[float, ...]:
    half = 2 ** (bits - 1)  # the answer is symmetric: only positive levels are iterated
    level = (np.arange(half) + 0.5) * 3 / half
    for _ in range(20_000):
        edge = np.concatenate([[0.0], (level[1:] + level[:-1]) / 2, [np.inf]])
        density = np.exp(-(edge**2) / 2) / math.sqrt(2 * math.pi)
        mass = np.array([math.erf(e / math.sqrt(2)) / 2 for e in edge])
        new = (density[:-1] - density[1:]) / (mass[1:] - mass[:-1])
        if np.abs(new - level).max() < 1e-13:
            break
        level = new
    return (*(-level[::-1]).tolist(), *level.tolist())


def lloyd_max(bits: int) -> np.ndarray:
    r"""Levels with the least mean square error for a standard Gaussian (book, eq. kv-lloyd).

    Each level is the mean of the Gaussian over the numbers nearest to it,

    .. math:: \ell_i = \frac{\varphi(t_i) - \varphi(t_{i+1})}{\Phi(t_{i+1}) - \Phi(t_i)},
              \qquad t_i = \tfrac12(\ell_{i-1} + \ell_i)

    iterated to a fixed point for ``bits`` of 1 to 4.  Returns ``(2**bits,)`` float64, ascending.

    Sources: J. Max, "Quantizing for minimum distortion", 1960; S. Lloyd, 1957/1982.

    >>> lloyd_max(2).round(4).tolist()
    [-1.5104, -0.4528, 0.4528, 1.5104]
    """
    return np.array(_lloyd_max(one_of(check_bits(bits), "bits", LLOYD_MAX_BITS)))


def levels(bits: int) -> np.ndarray:
    """Levels of a rotated code: Lloyd-Max at 1 to 4 bits, at 8 bits a grid of steps 1/32 on ±4.

    A (2**bits,) float array, in units of a vector's rms.  Both are symmetric and have no level at
    0, so no code vector has length zero.

    >>> levels(2).round(3).tolist(), levels(8)[:2].tolist()
    ([-1.51, -0.453, 0.453, 1.51], [-3.984375, -3.953125])
    """
    if one_of(check_bits(bits), "bits", ROTATED_BITS) == 8:
        return (np.arange(256) - 127.5) / 32
    return lloyd_max(bits)


def level_edges(bits: int) -> np.ndarray:
    """Numbers at which the nearest of the :func:`levels` changes, ``(2**bits - 1,)``."""
    level = levels(bits)
    return (level[1:] + level[:-1]) / 2


def rotated_distortion(bits: int) -> float:
    r"""Mean square error of :func:`levels` on a standard Gaussian, :math:`E(x - \ell(x))^2`.

    >>> [round(rotated_distortion(b), 5) for b in (1, 2, 3, 4)]
    [0.36338, 0.11748, 0.03455, 0.0095]
    """
    level = levels(bits)
    x = np.linspace(-9, 9, 360_001)
    nearest = level[np.searchsorted(level_edges(bits), x)]
    weight = np.exp(-(x**2) / 2) / math.sqrt(2 * math.pi)
    return float(((x - nearest) ** 2 * weight).sum() * (x[1] - x[0]))


def encode_rotated(y: npt.ArrayLike, bits: int) -> np.ndarray:
    r"""Codes of rotated vectors: the nearest level to each entry over the vector's rms.

    .. math:: c_i = \arg\min_k \left| \frac{y_i}{\lVert y\rVert / \sqrt d} - \ell_k \right|

    Vectors are ``(..., dim)``, ``bits`` one of ``ROTATED_BITS``.  A zero vector takes the code
    nearest to 0; its gain is 0 (book, eq. kv-gain).

    >>> encode_rotated([[-3.0, -0.1, 0.1, 3.0]], bits=2).tolist()
    [[0, 1, 2, 3]]
    """
    y = np.asarray(y)
    if not np.isfinite(y).all():
        raise ValueError("y must be finite, it holds NaN or infinity")
    rms = np.sqrt(np.mean(y.astype(float) ** 2, axis=-1, keepdims=True))
    unit = y / np.where(rms > 0, rms, 1)
    return np.searchsorted(level_edges(bits), unit).astype(np.uint8)


def code_gain(codes: np.ndarray, bits: int, norm: np.ndarray) -> np.ndarray:
    r"""Gain that gives a code vector the length ``norm`` of what it stands for (book, eq. kv-gain).

    .. math:: \hat y = g\,\ell(c), \qquad g = \lVert y\rVert / \lVert \ell(c) \rVert

    Rounding shortens or stretches a vector; giving the length back is free at restoring time
    ("norm correction") and lowers the error.  ``codes`` are ``(..., dim)``, ``norm`` is
    ``(..., 1)``, as is the gain.

    >>> levels(1).round(2).tolist()
    [-0.8, 0.8]
    >>> code_gain(np.array([[1, 1, 1, 1]]), 1, np.array([[8.0]])).round(3).tolist()
    [[5.013]]
    """
    return norm / np.linalg.norm(levels(bits)[codes], axis=-1, keepdims=True)


@lru_cache(maxsize=32)
def step_table(bits: int, to_bits: int) -> np.ndarray:
    """Table from codes of ``bits`` to codes of ``to_bits``: nearest coarse level to each fine one.

    ``(2**bits,)`` uint8, read-only; both are widths of rotated codes.

    >>> step_table(3, 2).tolist()
    [0, 0, 1, 1, 2, 2, 3, 3]
    """
    check_narrower(bits, to_bits)
    table = np.searchsorted(level_edges(to_bits), levels(bits)).astype(np.uint8)
    table.setflags(write=False)
    return table
