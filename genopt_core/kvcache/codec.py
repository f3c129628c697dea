r"""The two codecs of a chunk: a grid with real minima and steps, and rotated Gaussian codes.

Both turn a ``(..., tokens, dim)`` chunk into a :class:`Packed`, restore it as float32, and step it
down by its codes alone, without ever going back to the original numbers.  A codec is made for one
*side*, keys or values.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from genopt_core.kvcache.grid import (
    Per,
    check_groups,
    dequantize_groups,
    quantize_groups,
    recode,
    rescale,
)
from genopt_core.kvcache.ladder import Side, metadata_bits
from genopt_core.kvcache.packing import check_rows, pack_codes, unpack_codes
from genopt_core.kvcache.rotated import ROTATED_BITS, code_gain, encode_rotated, levels, step_table


@dataclass(frozen=True)
class Packed:
    """A quantized chunk: planes of packed codes and the metadata that restore it.

    >>> packed = GridCodec("value", group_size=4).encode(np.zeros((2, 4)), bits=2)
    >>> packed.bits, packed.nbytes, packed.codes.shape
    (2, 10, (2, 4))
    """

    bits: int
    first_bits: int
    """Width at which the chunk was first quantized; a grid's stored step belongs to it."""
    planes: tuple[np.ndarray, ...]
    meta: tuple[np.ndarray, ...]

    @property
    def nbytes(self) -> int:
        """Bytes really held, metadata included."""
        return sum(array.nbytes for array in (*self.planes, *self.meta))

    @property
    def codes(self) -> np.ndarray:
        """Unpacked ``(..., tokens, dim)`` uint8 codes."""
        return unpack_codes(self.planes, self.bits)


@dataclass(frozen=True)
class GridCodec:
    r"""Min-max grids of ``group_size`` numbers: per channel for keys, per token for values (KIVI).

    ``meta_dtype`` is the dtype of steps and minima.  Stepping is the integer re-coding
    :func:`~genopt_core.kvcache.recode`; the metadata are not touched.  Where the paper
    de-quantizes and quantizes again, the result is the same on nested ladders and this costs no
    floating-point pass.

    >>> codec = GridCodec("key", group_size=4)
    >>> codec.check((8, 4), dim=2, chunk=4)
    >>> x = np.array([[0.0, 1.0], [1.0, 2.0], [2.0, 3.0], [15.0, 16.0]])
    >>> packed = codec.step(codec.encode(x, bits=8), bits=4)
    >>> packed.codes.tolist(), packed.nbytes, codec.decode(packed).round(2).tolist()
    ([[0, 0], [1, 1], [2, 2], [15, 15]], 12, [[0.0, 1.0], [1.0, 2.0], [2.0, 3.0], [15.0, 16.0]])
    >>> codec.metadata_bits(dim=2, chunk=4)
    8.0
    """

    side: Side
    group_size: int = 32
    meta_dtype: npt.DTypeLike = np.float16

    @property
    def _per(self) -> Per:
        return "channel" if self.side == "key" else "token"

    def encode(self, x: npt.ArrayLike, bits: int) -> Packed:
        """Quantize a chunk ``x`` (..., tokens, dim) by :func:`~.quantize_groups`."""
        codes, scale, low = quantize_groups(
            x, bits, self.group_size, per=self._per, meta_dtype=self.meta_dtype
        )
        return Packed(bits, bits, pack_codes(codes, bits), (scale, low))

    def step(self, packed: Packed, bits: int) -> Packed:
        """Re-code to ``bits`` (book, eq. kv-nested)."""
        codes = recode(packed.codes, packed.bits, bits)
        return Packed(bits, packed.first_bits, pack_codes(codes, bits), packed.meta)

    def decode(self, packed: Packed) -> np.ndarray:
        """Restore ``low + code * step``, (..., tokens, dim), with the step of the present width."""
        scale, low = packed.meta
        scale = rescale(scale, packed.first_bits, packed.bits)
        return dequantize_groups(packed.codes, scale, low.astype(scale.dtype), per=self._per)

    def metadata_bits(self, dim: int, chunk: int) -> float:
        """Bits of metadata per element (book, eq. kv-metadata)."""
        size = np.dtype(self.meta_dtype).itemsize * 8
        return metadata_bits(
            "grid", self.side, dim=dim, chunk=chunk, group_size=self.group_size, meta_bits=size
        )

    def check(self, widths: Sequence[int], dim: int, chunk: int) -> None:
        """Raise ``ValueError`` if groups do not divide a chunk or codes do not fill bytes."""
        check_grid(self.side, self.group_size, dim, chunk)
        check_rows(widths, dim)


@dataclass(frozen=True)
class RotatedCodec:
    r"""Rotated Lloyd-Max codes, one gain a vector; keys lose their mean over the chunk first.

    .. math:: \hat x = \bar x + g\,\ell(c)\,R^\top

    Keys are centered because they have a large constant part, which would eat the levels.  The
    ``rotation`` (dim, dim) is that of :func:`~.hadamard_rotation`, shared by all chunks; the two
    ``maps`` of :func:`~.balanced_map`, (heads, dim, dim) or (dim, dim), go before it.
    ``norm_correction`` gives each vector its length back (book, eq. kv-gain); otherwise the gain is
    the vector's rms.

    >>> codec = RotatedCodec("value", np.eye(8))
    >>> codec.check((4, 2), dim=8, chunk=1)
    >>> x = np.arange(8.0)[None]
    >>> packed = codec.step(codec.encode(x, bits=4), bits=2)
    >>> norms = np.linalg.norm(codec.decode(packed)), np.linalg.norm(x)
    >>> bool(np.isclose(*norms, rtol=1e-2)), codec.metadata_bits(dim=8, chunk=1)
    (True, 2.0)
    """

    side: Side
    rotation: np.ndarray = field(repr=False)
    norm_correction: bool = True
    maps: tuple[np.ndarray, np.ndarray] | None = field(default=None, repr=False)

    @property
    def into(self) -> np.ndarray:
        """By which vectors are multiplied before they are coded."""
        return self.rotation if self.maps is None else self.maps[0] @ self.rotation

    @property
    def back(self) -> np.ndarray:
        """Its inverse."""
        return self.rotation.T if self.maps is None else self.rotation.T @ self.maps[1]

    def encode(self, x: npt.ArrayLike, bits: int) -> Packed:
        """Quantize a chunk ``x`` (..., tokens, dim) that is finite and within float16."""
        x = np.asarray(x, dtype=np.float32)
        if not np.isfinite(x).all():
            raise ValueError("x must be finite, it holds NaN or infinity")
        mean = [_half(x.mean(axis=-2, keepdims=True), "x")] if self.side == "key" else []
        y = (x - mean[0].astype(np.float32) if mean else x) @ self.into
        codes = encode_rotated(y, bits)
        norm = np.linalg.norm(y, axis=-1, keepdims=True)
        rms = norm / np.sqrt(y.shape[-1])
        gain = code_gain(codes, bits, norm) if self.norm_correction else rms
        return Packed(bits, bits, pack_codes(codes, bits), (_half(gain, "x"), *mean))

    def step(self, packed: Packed, bits: int) -> Packed:
        """Look the codes up in a table; gains change so that lengths stay (book, eq. kv-gain)."""
        codes = packed.codes
        new = step_table(packed.bits, bits)[codes]
        gain, *mean = packed.meta
        if self.norm_correction:
            norm = gain * np.linalg.norm(levels(packed.bits)[codes], axis=-1, keepdims=True)
            gain = _half(code_gain(new, bits, norm), "gain")
        return Packed(bits, packed.first_bits, pack_codes(new, bits), (gain, *mean))

    def decode(self, packed: Packed) -> np.ndarray:
        """Restore ``mean + gain * level @ back``, a (..., tokens, dim) float32 array."""
        gain, *mean = (array.astype(np.float32) for array in packed.meta)
        x = (gain * levels(packed.bits)[packed.codes]) @ self.back
        return (x + mean[0] if mean else x).astype(np.float32)

    def metadata_bits(self, dim: int, chunk: int) -> float:
        """Bits of metadata per element (book, eq. kv-metadata)."""
        return metadata_bits("rotated", self.side, dim=dim, chunk=chunk)

    def check(self, widths: Sequence[int], dim: int, chunk: int) -> None:
        """Raise ``ValueError`` for a width without levels, or codes that do not fill bytes."""
        check_rotated(widths, dim)
        if self.rotation.shape != (dim, dim):
            raise ValueError(f"rotation must be {(dim, dim)}, got {self.rotation.shape}")


Codec = GridCodec | RotatedCodec


def check_grid(side: Side, group_size: int, dim: int, chunk: int) -> None:
    """Raise ``ValueError`` if groups do not divide a chunk of keys, or the channels of values."""
    along, name = (chunk, "chunk") if side == "key" else (dim, "dim")
    check_groups(group_size, along, name)


def check_rotated(widths: Sequence[int], dim: int) -> None:
    """Raise ``ValueError`` for a width without levels, or codes that do not fill bytes."""
    for width in widths:
        if width not in ROTATED_BITS:
            raise ValueError(f"widths of codec 'rotated' must be of {ROTATED_BITS}, got {width}")
    check_rows(widths, dim)


def _half(x: np.ndarray, name: str) -> np.ndarray:
    with np.errstate(over="ignore"):
        y = x.astype(np.float16)
    if not np.isfinite(y).all():
        raise ValueError(f"{name} must fit float16 metadata, got up to {np.abs(x).max():.3g}")
    return y
