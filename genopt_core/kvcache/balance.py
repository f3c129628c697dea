r"""The linear map of a head in which an even error disturbs attention least.

Rotated codes spread the error of a key evenly over its channels, but queries do not look evenly:
where keys are large, queries are often small.  A map that is not a rotation shifts the error to
where nobody looks.  It belongs to the model, like a weight, and costs no bit of the cache.
"""

import numpy as np
import numpy.typing as npt

from genopt_core.checks import real


def balanced_map(keys: npt.ArrayLike, readers: npt.ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    r"""Map under which evenly quantized keys disturb scores least (book, eq. kv-balance).

    .. math:: T T^\top = \Sigma_k^{-1} \mathbin{\#} \Sigma_q
              = \Sigma_q^{1/2}\big(\Sigma_q^{1/2}\Sigma_k\Sigma_q^{1/2}\big)^{-1/2}\Sigma_q^{1/2}

    Keys are coded as :math:`kT` and read by queries :math:`qT^{-\top}`, which leaves scores as they
    are.  :math:`T` is the symmetric root of the geometric mean of the two matrices.

    Parameters
    ----------
    keys, readers : (..., dim, dim) arrays
        Second moments :math:`\Sigma_k` of the (centered) keys and :math:`\Sigma_q` of the queries
        that read them, positive definite.

    Returns
    -------
    into, back : (..., dim, dim) arrays
        :math:`T` and :math:`T^{-1}`: keys go in by ``k @ into`` and come back by ``y @ back``.

    Examples
    --------
    Large keys where queries are small are made smaller:

    >>> into, back = balanced_map(np.diag([16.0, 1.0]), np.diag([1.0, 16.0]))
    >>> into.diagonal().tolist()
    [0.5, 2.0]
    """
    k, q = _moments(keys, readers)
    root, unroot = _power(q, 0.5), _power(q, -0.5)
    inner = root @ k @ root
    mean = root @ _power(inner, -0.5) @ root
    inverse = unroot @ _power(inner, 0.5) @ unroot
    return _power(mean, 0.5), _power(inverse, 0.5)


def balance_gain(keys: npt.ArrayLike, readers: npt.ArrayLike) -> np.ndarray:
    r"""By which factor :func:`balanced_map` lowers the mean square error of a score, at least 1.

    .. math:: \frac{\operatorname{tr}\Sigma_k\, \operatorname{tr}\Sigma_q}
              {\big(\operatorname{tr}(\Sigma_q^{1/2}\Sigma_k\Sigma_q^{1/2})^{1/2}\big)^2}
              \ \ge\ 1

    Against a rotation alone, at the same bits (book, eq. kv-balance-gain).  A factor of 4 is worth
    one bit.  It is 1 only where one matrix is a multiple of the other.

    >>> balance_gain(np.diag([16.0, 1.0]), np.diag([1.0, 16.0])).item()
    4.515625
    """
    k, q = _moments(keys, readers)
    root = _power(q, 0.5)
    inner = np.linalg.eigvalsh(root @ k @ root).clip(0)
    traces = np.trace(k, axis1=-2, axis2=-1) * np.trace(q, axis1=-2, axis2=-1)
    return traces / np.sqrt(inner).sum(-1) ** 2


def ridged(moment: npt.ArrayLike, share: float = 0.02) -> np.ndarray:
    r"""A second moment with a little of every direction, as few tokens do not show all.

    .. math:: \Sigma + \rho\, \frac{\operatorname{tr}\Sigma}{d}\, I

    ``moment`` is (..., dim, dim), ``share`` the :math:`\rho`.  A moment of zeros becomes the
    identity.  A standard remedy, ridge or shrinkage (Ledoit and Wolf, 2004).

    >>> ridged([[2.0, 0.0], [0.0, 0.0]], share=0.1).tolist()
    [[2.1, 0.0], [0.0, 0.1]]
    """
    m = np.asarray(moment, dtype=float)
    if m.ndim < 2 or m.shape[-1] != m.shape[-2] or not np.isfinite(m).all():
        raise ValueError(f"moment must be finite, (..., dim, dim), got shape {m.shape}")
    share = real(share, "share")
    mean = np.trace(m, axis1=-2, axis2=-1)[..., None, None] / m.shape[-1]
    return np.where(mean > 0, m, 0) + np.where(mean > 0, share * mean, 1) * np.eye(m.shape[-1])


def _moments(keys: npt.ArrayLike, readers: npt.ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Both, checked."""
    pair = np.asarray(keys, dtype=float), np.asarray(readers, dtype=float)
    for name, m in zip(("keys", "readers"), pair, strict=True):
        if m.ndim < 2 or m.shape[-1] != m.shape[-2] or not np.isfinite(m).all():
            raise ValueError(f"{name} must be finite (..., dim, dim) moments, got shape {m.shape}")
        if not (np.linalg.eigvalsh(m)[..., 0] > 0).all():
            raise ValueError(f"{name} must be positive definite, got one that is not: see `ridged`")
    if pair[0].shape[-1] != pair[1].shape[-1]:
        raise ValueError(f"readers must have {pair[0].shape[-1]} channels, got {pair[1].shape[-1]}")
    return pair


def _power(m: np.ndarray, power: float) -> np.ndarray:
    """A power of a symmetric matrix."""
    values, vectors = np.linalg.eigh(m)
    low = np.finfo(float).tiny
    return (vectors * values.clip(low)[..., None, :] ** power) @ np.swapaxes(vectors, -1, -2)
