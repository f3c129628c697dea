r"""Real bit packing: codes of 1 to 8 bits stored in exactly that many bits.

A width that divides a byte fills bytes with whole codes.  Any other width is split into *planes*
that do: 3 = 2 + 1, 5 = 4 + 1, 6 = 4 + 2, 7 = 4 + 2 + 1, low bits first.  A code then never crosses
a byte border, and a table with 256 entries unpacks a plane.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt


def check_bits(bits: int, name: str = "bits") -> int:
    """``bits`` as an int, if it is a whole number from 1 to 8."""
    number = isinstance(bits, int | float | np.number) and not isinstance(bits, bool)
    if not number or not 1 <= bits <= 8 or int(bits) != bits:
        raise ValueError(f"{name} must be a whole number from 1 to 8, got {bits!r}")
    return int(bits)


def check_narrower(bits: int, to_bits: int) -> tuple[int, int]:
    """Both widths as ints, if a code of ``bits`` can become one of ``to_bits``."""
    bits, to_bits = check_bits(bits), check_bits(to_bits, "to_bits")
    if to_bits > bits:
        raise ValueError(f"to_bits must be at most bits={bits}, got {to_bits}: bits do not return")
    return bits, to_bits


def check_rows(widths: Sequence[int], dim: int) -> None:
    """Raise ``ValueError`` if rows of ``dim`` codes of these widths do not fill whole bytes."""
    for width in widths:
        need = 8 // (width & -width)  # codes in a byte of the narrowest plane
        if dim % need:
            raise ValueError(
                f"dim must be a multiple of {need} to pack {width}-bit codes, got {dim}"
            )


def plane_widths(bits: int) -> tuple[int, ...]:
    """Widths of the planes that hold a code of ``bits`` bits, lowest bits first.

    >>> [plane_widths(b) for b in (2, 3, 7, 8)]
    [(2,), (2, 1), (4, 2, 1), (8,)]
    """
    bits = check_bits(bits)
    return tuple(width for width in (8, 4, 2, 1) if bits & width)


def pack_codes(codes: npt.ArrayLike, bits: int) -> tuple[np.ndarray, ...]:
    r"""Planes of bytes that hold ``codes`` in ``bits`` bits each (book, eq. kv-pack).

    .. math:: \text{byte}_j = \sum_{i=0}^{8/w-1} c_{(8/w)j+i}\, 2^{wi}
        \qquad\text{for a plane of width } w

    There is one plane for each of :func:`plane_widths`, ``(..., n * width / 8)`` uint8; together
    exactly ``n * bits / 8`` bytes a row.  Codes are ``(..., n)``, from 0 to ``2**bits - 1``, and
    ``n`` fills the bytes of the narrowest plane: a multiple of 8 for odd widths, of 4 for 2 and 6
    bits, of 2 for 4 bits.

    >>> (plane,) = pack_codes([0, 1, 2, 3], bits=2)
    >>> plane.tolist(), unpack_codes((plane,), bits=2).tolist()
    ([228], [0, 1, 2, 3])
    """
    widths = plane_widths(bits)
    array = np.asarray(codes)
    if array.dtype.kind not in "ui":
        raise TypeError(f"codes must be integers, got {array.dtype}")
    if array.ndim == 0 or array.shape[-1] % (8 // min(widths)):
        raise ValueError(
            f"codes must have a last axis that is a multiple of {8 // min(widths)} to fill whole "
            f"bytes at {bits} bits, got shape {array.shape}"
        )
    if array.size and (array.min() < 0 or array.max() >= 2**bits):
        raise ValueError(
            f"codes must lie in 0..{2**bits - 1} at {bits} bits, got {array.min()}..{array.max()}"
        )
    rest, planes = array.astype(np.uint8), []
    for width in widths:
        per_byte = 8 // width
        part = (rest & (2**width - 1)).reshape(*array.shape[:-1], -1, per_byte)
        # every term is below 256 and they share no bit, so a byte cannot overflow
        shifted = part << np.arange(0, 8, width, dtype=np.uint8)
        planes.append(np.bitwise_or.reduce(shifted, axis=-1).astype(np.uint8))
        rest = (rest >> width % 8).astype(np.uint8)  # 8 is always the only plane
    return tuple(planes)


def unpack_codes(planes: tuple[np.ndarray, ...], bits: int) -> np.ndarray:
    """Undo :func:`pack_codes`: ``(..., n)`` uint8 codes from their ``planes`` of bytes.

    >>> unpack_codes((np.array([228], np.uint8),), bits=2).tolist()
    [0, 1, 2, 3]
    """
    widths = plane_widths(bits)
    lengths = [plane.shape[-1] * 8 // width for plane, width in zip(planes, widths, strict=False)]
    if len(planes) != len(widths) or len(set(lengths)) != 1:
        raise ValueError(
            f"planes must be those of {bits} bits, got shapes {[plane.shape for plane in planes]}"
        )
    codes, below = np.zeros((*planes[0].shape[:-1], lengths[0]), dtype=np.uint8), 0
    for plane, width in zip(planes, widths, strict=True):
        split = (plane[..., None] >> np.arange(0, 8, width, dtype=np.uint8)) & (2**width - 1)
        codes |= split.reshape(codes.shape).astype(np.uint8) << below
        below += width
    return codes
