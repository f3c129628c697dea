"""Array types of this room, and four small operations on them that NumPy lacks."""

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float64]
Mask = NDArray[np.bool_]
Index = NDArray[np.intp]
Small = NDArray[np.int32]


def run_starts(*keys: NDArray[np.integer]) -> Mask:
    """Where each run of equal entries begins; of several keys, where any of them changes.

    >>> run_starts(np.array([7, 7, 3, 7])).tolist()
    [True, False, True, True]
    """
    starts = np.ones(len(keys[0]), dtype=bool)
    starts[1:] = np.logical_or.reduce([key[1:] != key[:-1] for key in keys])
    return starts


def tally(index: NDArray[np.integer], weight: Float, size: int = 0) -> Float:
    """Sum of the weights per index, at least (size,) float array.

    ``np.bincount`` that stays a float array when there is nothing to count, and takes whole
    numbers of 64 bits where an index has 32 (in a browser).
    """
    index = index.astype(np.intp, copy=False)
    return np.bincount(index, weights=weight, minlength=size).astype(np.float64, copy=False)


def ascending(key: NDArray[np.int64]) -> tuple[Index, NDArray[np.int64]]:
    """Stable order of keys of at least 0, and the keys in this order.

    Keys below 2**32 are sorted by their lower half, then by the upper one, since NumPy has a radix
    sort for 16 bits.  Others are packed into one whole number with their position where they fit:
    sorting numbers is faster than sorting positions by their key.

    >>> order, key = ascending(np.array([3, 1, 3, 0]))
    >>> order.tolist(), key.tolist()
    ([3, 1, 0, 2], [0, 1, 3, 3])
    """
    if len(key) and int(key.max()) < 1 << 32:
        order = np.argsort(key.astype(np.uint16), kind="stable")
        upper = (key >> 16).astype(np.uint16)[order]
        order = order[np.argsort(upper, kind="stable")]
        return order, key[order]
    bits = max(len(key) - 1, 1).bit_length()
    if len(key) and int(key.max()).bit_length() + bits <= 63:
        packed = key.astype(np.int64) << bits
        packed |= np.arange(len(key), dtype=np.int64)
        packed.sort()
        order = (packed & ((1 << bits) - 1)).astype(np.intp)
        packed >>= bits
        return order, packed
    order = np.argsort(key, kind="stable")
    return order, key[order]


def rounded(value: Float) -> Float:
    """Values with nine significant digits, so that ranks do not hang on the last bits of ln.

    >>> bool(rounded(np.array([1.0 + 1e-13])) == rounded(np.array([1.0])))
    True
    """
    mantissa, exponent = np.frexp(value)
    return np.ldexp(np.round(mantissa * 2.0**30), exponent - 30)
