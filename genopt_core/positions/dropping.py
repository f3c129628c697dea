r"""Keys that are kept by chance, and the bias that this is on average."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["dropping_bias"]


def dropping_bias(keep: npt.ArrayLike) -> np.ndarray:
    r"""The bias that keeping keys with these probabilities amounts to (book, eq. pos-dropping).

    .. math:: \mathbb E \sum_j B_j\, e^{s_j} v_j = \sum_j e^{s_j + \ln \pi_j} v_j,
              \qquad B_j = 1 \text{ with probability } \pi_j

    The same holds for the sum of weights below.  Their ratio, the output, has this as its limit
    over many merged rounds; in a single round it has not this mean.

    Parameters
    ----------
    keep : array
        Probabilities :math:`\pi` in [0, 1], of keys or of blocks.

    Returns
    -------
    float64 array of the shape of ``keep``, −∞ where nothing is kept

    Examples
    --------
    >>> dropping_bias([1.0, 1 / np.e, 0.0]).tolist()
    [0.0, -1.0, -inf]
    """
    pi = np.asarray(keep, dtype=np.float64)
    if not ((pi >= 0) & (pi <= 1)).all():
        raise ValueError(f"keep must be in [0, 1], got {keep!r}")
    with np.errstate(divide="ignore"):
        return np.log(pi)
