r"""The codecs of :mod:`genopt_core.kvcache.codec` on tensors, for whole batches of heads.

Tensors are ``(batch, heads, tokens, dim)``.  Everything a chunk keeps has its tokens, groups of
tokens or chunks along axis -2, so chunks are joined and cut there and nowhere else.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Self

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from genopt_core.kvcache.codec import check_grid, check_rotated
from genopt_core.kvcache.grid import recode_table, step_ratio
from genopt_core.kvcache.ladder import FULL, Side, metadata_bits
from genopt_core.kvcache.packing import check_rows, plane_widths
from genopt_core.kvcache.rotated import hadamard_rotation, level_edges, levels, step_table
from genopt_core.torch.kvcache.settings import Settings, exactly


def _nibble_table(bits: int) -> np.ndarray:
    """Both nibbles of a byte as int32 numbers above a low byte, side by side in one int64."""
    byte = np.arange(256, dtype=np.int32)
    return np.stack([(byte & 15) << 8, (byte >> 4) << 8], -1).view(np.int64)[:, 0]


def entry_table(bits: int) -> np.ndarray:
    """The levels of all codes that one entry of :func:`_entries` holds."""
    if bits == 3:  # low byte: four 2-bit parts; the nibble above it: their four top bits
        at = np.arange(4096)[:, None]
        code = (at >> 2 * np.arange(4) & 3) | (at >> 8 + np.arange(4) & 1) << 2
    else:
        parts = min(4, 8 // bits)
        at = np.arange(2 ** (parts * bits))[:, None]
        code = at >> bits * np.arange(parts) & 2**bits - 1
    return levels(bits)[code]


@lru_cache(maxsize=64)
def _table(make: Callable[..., np.ndarray], device: torch.device, *bits: int) -> Tensor:
    """A small constant table, made once a device."""
    data = make(*bits)
    return torch.tensor(data.astype(np.float32) if data.dtype == float else data, device=device)


def pack(codes: Tensor, bits: int) -> tuple[Tensor, ...]:
    """Planes of a uint8 tensor that fills bytes, as :func:`genopt_core.kvcache.pack_codes`."""
    planes, below = [], 0
    for width in plane_widths(bits):
        part = (codes >> below) & (2**width - 1) if bits < 8 else codes
        per_byte = 8 // width
        parts = part.unflatten(-1, (-1, per_byte))
        plane = parts[..., 0].clone()
        for i in range(1, per_byte):
            plane |= parts[..., i] << (width * i)
        planes.append(plane)
        below += width
    return tuple(planes)


def unpack(planes: Sequence[Tensor], bits: int) -> Tensor:
    """Codes of :func:`pack`, as uint8."""
    codes, below = None, 0
    for plane, width in zip(planes, plane_widths(bits), strict=True):
        shifts = (
            [(plane >> i) & (2**width - 1) for i in range(0, 8, width)] if width < 8 else [plane]
        )
        part = torch.stack(shifts, -1).flatten(-2) << below
        codes = part if codes is None else codes | part
        below += width
    assert codes is not None  # plane_widths is never empty
    return codes


@dataclass(frozen=True, slots=True)
class Chunks:
    """One or more neighboring chunks of equal width, with the metadata that restore them.

    In full precision, 16 bits, the numbers themselves are the one plane.
    """

    bits: int
    first_bits: int
    """Width at which they were first quantized; a grid's stored step belongs to it."""
    chunks: int
    planes: tuple[Tensor, ...]
    meta: tuple[Tensor, ...] = ()

    @property
    def packed(self) -> bool:
        """Whether they are quantized."""
        return self.bits < FULL

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """All that is held."""
        return (*self.planes, *self.meta)

    def map(self, f: Callable[[Tensor], Tensor], chunks: int | None = None) -> Self:
        """The same with every tensor passed through ``f``."""
        return replace(
            self,
            chunks=self.chunks if chunks is None else chunks,
            planes=tuple(map(f, self.planes)),
            meta=tuple(map(f, self.meta)),
        )

    def cut(self, first: int, last: int) -> Self:
        """Chunks ``first`` to ``last`` (exclusive), as copies."""

        def rows(t: Tensor) -> Tensor:
            each = t.shape[-2] // self.chunks
            return t[..., first * each : last * each, :].clone()

        return self.map(rows, last - first)


def join(parts: Sequence[Chunks]) -> Chunks:
    """Neighboring chunks of equal width as one."""
    if len({(p.bits, p.first_bits) for p in parts}) != 1:
        raise ValueError(f"widths must be equal, got {[p.bits for p in parts]}")
    columns = zip(*(p.tensors for p in parts), strict=True)
    tensors = [torch.cat(column, -2) for column in columns]
    n = len(parts[0].planes)
    return replace(
        parts[0],
        chunks=sum(p.chunks for p in parts),
        planes=tuple(tensors[:n]),
        meta=tuple(tensors[n:]),
    )


def _finite(x: Tensor, side: Side) -> None:
    low, high = x.aminmax()
    if not bool(torch.isfinite(high - low)):
        raise ValueError(f"{side}s must be finite, they hold NaN, infinity or too large numbers")


def _neighbor(half: Tensor, up: bool) -> Tensor:
    """Next float16 above or below (torch.nextafter does not know float16 on all devices)."""
    order = half.view(torch.int16)
    zero = torch.full_like(order, 1 if up else -32767)  # smallest subnormal of that sign
    away = (half > 0) == up
    moved = torch.where(half == 0, zero, torch.where(away, order + 1, order - 1))
    return moved.view(torch.float16)


class GridCodec:
    """Min-max grids, see :class:`genopt_core.kvcache.GridCodec`; float16 metadata, same codes."""

    meta_count = 2
    """Tensors of metadata that :class:`Chunks` have."""

    def __init__(self, side: Side, dim: int, chunk: int, group_size: int):
        check_grid(side, group_size, dim, chunk)
        self.side, self.dim, self.chunk, self.group_size = side, dim, chunk, group_size

    def check(self, widths: Sequence[int]) -> None:
        """Raise ``ValueError`` if codes of these widths do not fill bytes."""
        check_rows(widths, self.dim)

    def metadata_bits(self) -> float:
        """Bits of metadata per element (book, eq. kv-metadata)."""
        return metadata_bits(
            "grid", self.side, dim=self.dim, chunk=self.chunk, group_size=self.group_size
        )

    def _groups(self, x: Tensor) -> tuple[Tensor, int]:
        """A view with groups along the axis returned: (..., groups, group_size, dim) for keys."""
        if self.side == "key":
            return x.unflatten(-2, (-1, self.group_size)), -2
        return x.unflatten(-1, (-1, self.group_size)), -1

    def encode(self, x: Tensor, bits: int) -> Chunks:
        """Quantize one chunk (book, eq. kv-uniform)."""
        _finite(x, self.side)
        groups, axis = self._groups(x.float())
        smallest, largest = groups.amin(axis), groups.amax(axis)
        low = smallest.half()
        low = torch.where(low.float() > smallest, _neighbor(low, up=False), low)
        span = largest - low.float()
        scale = (span / (2**bits - 1)).half()
        short = scale.float() < span / (2**bits - 1)
        scale = torch.where(short, _neighbor(scale, up=True), scale)
        if not bool(torch.isfinite(low).all() and torch.isfinite(scale).all()):
            raise ValueError(
                f"{self.side}s must fit float16 metadata, got {smallest.min():.3g} to "
                f"{largest.max():.3g}"
            )
        step = torch.where(scale > 0, scale.float(), 1.0).unsqueeze(axis)
        codes = ((groups - low.float().unsqueeze(axis)) / step).round_().clamp_(max=2**bits - 1)
        planes = pack(_flat(codes.to(torch.uint8), axis), bits)
        return Chunks(bits, bits, 1, planes, (scale, low))

    def step(self, packed: Chunks, bits: int) -> Chunks:
        """Re-code by integers (book, eq. kv-nested); the metadata stay."""
        table = _table(recode_table, packed.planes[0].device, packed.bits, bits)
        codes = table[unpack(packed.planes, packed.bits).int()]
        return replace(packed, bits=bits, planes=pack(codes, bits))

    def decode(self, packed: Chunks) -> Tensor:
        """Restore to float32 (book, eq. kv-uniform)."""
        ratio = step_ratio(packed.first_bits, packed.bits)
        scale, low = (t.float() for t in packed.meta)
        groups, axis = self._groups(unpack(packed.planes, packed.bits).float())
        return _flat(groups * (scale * ratio).unsqueeze(axis) + low.unsqueeze(axis), axis)


def _flat(groups: Tensor, axis: int) -> Tensor:
    """Groups along ``axis`` side by side again."""
    return groups.flatten(axis - 1, axis)


def _nibbles(plane: Tensor) -> Tensor:
    return torch.stack((plane & 15, plane >> 4), -1).flatten(-2)


def _entries(packed: Chunks) -> Tensor:
    """Planes as table entries of two codes (4 bits) or four (1 to 3 bits), as int32."""
    if packed.bits == 1:
        return _nibbles(packed.planes[0]).int()
    if packed.bits == 3:
        two, one = packed.planes
        pair = _table(_nibble_table, one.device, 3).index_select(0, one.flatten().int())
        return pair.view(torch.int32).view(two.shape).add_(two)
    return packed.planes[0].int()


@lru_cache(maxsize=8)
def _wide_table(bits: int) -> Tensor:
    """Rows of :func:`entry_table` as single numbers of 8 or 16 bytes, for processors.

    Those copy a row of two or four floats three times faster as one such number; no arithmetic
    touches it.
    """
    table = _table(entry_table, torch.device("cpu"), bits)
    if table.shape[1] == 2:
        return table.view(torch.int64)[:, 0]
    return torch.view_as_complex(table.view(torch.float64))


class Room:
    """Memory into which codes are expanded, one run of chunks after the other.

    What was just used is in the processor's cache, and need not be asked for again.
    """

    def __init__(self, size: int):
        self.floats = torch.empty((size + 3) // 4 * 4)
        self.pairs = self.floats.view(torch.int64)
        self.fours = torch.view_as_complex(self.floats.view(torch.float64).view(-1, 2))


class RotatedCodec:
    """Rotated codes with one gain a vector, see :class:`genopt_core.kvcache.RotatedCodec`.

    ``seed`` fixes the rotation; equal seeds give equal rotations on every machine.  ``maps``, into
    and back as :func:`~genopt_core.kvcache.balanced_map` gives them for each head, go before it.
    """

    def __init__(
        self,
        side: Side,
        dim: int,
        chunk: int,
        seed: int,
        norm_correction: bool = True,
        device: torch.device | None = None,
        maps: tuple[Tensor, Tensor] | None = None,
    ):
        self.side, self.dim, self.chunk = side, dim, chunk
        self.meta_count = 2 if side == "key" else 1
        self.norm_correction = norm_correction
        rotation = hadamard_rotation(dim, np.random.default_rng(seed)).astype(np.float32)
        self.rotation = torch.from_numpy(rotation).to(device)
        self.into, self.back = self.rotation, self.rotation.T
        if maps is not None:
            into, back = (x.to(self.rotation) for x in maps)
            with exactly(self.rotation.device):
                self.into, self.back = into @ self.rotation, self.rotation.T @ back

    def check(self, widths: Sequence[int]) -> None:
        """Raise ``ValueError`` for a width without levels or codes that do not fill bytes."""
        check_rotated(widths, self.dim)

    def metadata_bits(self) -> float:
        """Bits of metadata per element (book, eq. kv-metadata)."""
        return metadata_bits("rotated", self.side, dim=self.dim, chunk=self.chunk)

    def encode(self, x: Tensor, bits: int) -> Chunks:
        """Quantize one chunk (book, eq. kv-lloyd and eq. kv-gain)."""
        _finite(x, self.side)
        y, mean = x.float(), []
        if self.side == "key":
            mean = [y.mean(-2, keepdim=True).half()]
            y = y - mean[0].float()
        y = y @ self.into
        norm = y.norm(dim=-1, keepdim=True)
        rms = norm / math.sqrt(self.dim)
        edges = _table(level_edges, x.device, bits)
        unit = y / torch.where(rms > 0, rms, 1.0)
        codes = torch.bucketize(unit, edges, out_int32=True).to(torch.uint8)
        gain = (norm / self._norm(codes, bits) if self.norm_correction else rms).half()
        if not bool(torch.isfinite(gain).all()):
            raise ValueError(f"{self.side}s must fit float16 metadata, got {x.abs().max():.3g}")
        return Chunks(bits, bits, 1, pack(codes, bits), (gain, *mean))

    def _norm(self, codes: Tensor, bits: int) -> Tensor:
        """Length of each code vector, ``(..., 1)``."""
        table = _table(levels, codes.device, bits)
        return table[codes.int()].norm(dim=-1, keepdim=True)

    def step(self, packed: Chunks, bits: int) -> Chunks:
        """Look codes up in a table; gains change so that lengths stay (book, eq. kv-gain)."""
        codes = unpack(packed.planes, packed.bits)
        new = _table(step_table, codes.device, packed.bits, bits)[codes.int()]
        gain, *mean = packed.meta
        if self.norm_correction:
            norm = gain.float() * self._norm(codes, packed.bits)
            gain = (norm / self._norm(new, bits)).half()
        return replace(packed, bits=bits, planes=pack(new, bits), meta=(gain, *mean))

    def expand(self, packed: Chunks, room: Room | None = None) -> Tensor:
        """Levels of all codes, before gain and rotation, as float32.

        One look-up turns a byte into the levels of all codes in it, so nothing is unpacked.  They
        are written to ``room``, where one is given and large enough; then they last until it is
        used again.
        """
        bits, device = packed.bits, packed.planes[0].device
        if bits == 8:
            return packed.planes[0].float().sub_(127.5).mul_(1 / 32)
        entries = _entries(packed)
        if device.type != "cpu":
            return functional.embedding(entries, _table(entry_table, device, bits)).flatten(-2)
        table, count = _wide_table(bits), entries.numel()
        each = table.element_size() // 4
        if room is None or len(room.floats) < count * each:
            room = Room(count * each)
        out = (room.fours if each == 4 else room.pairs)[:count]
        torch.index_select(table, 0, entries.reshape(-1), out=out)
        return room.floats[: count * each].view(*entries.shape[:-1], -1)

    def decode(self, packed: Chunks) -> Tensor:
        """Restore to float32."""
        gain, *mean = (t.float() for t in packed.meta)
        x = (self.expand(packed) * gain) @ self.back
        if mean:
            x = (x.unflatten(-2, (packed.chunks, -1)) + mean[0].unsqueeze(-2)).flatten(-3, -2)
        return x


Codec = GridCodec | RotatedCodec


def lowered(codec: Codec, held: Chunks, bits: int) -> Chunks:
    """Chunks at ``bits``, or as they are where that is no less than they have."""
    if bits >= held.bits:
        return held
    return codec.step(held, bits) if held.packed else codec.encode(held.planes[0], bits)


def restored(codec: Codec, held: Chunks) -> Tensor:
    """Chunks in full precision, whatever they are held in."""
    return codec.decode(held) if held.packed else held.planes[0]


def codec_of(
    settings: Settings,
    side: Side,
    dim: int,
    device: torch.device | None = None,
    maps: tuple[Tensor, Tensor] | None = None,
) -> Codec:
    """The codec of layers with heads of ``dim`` channels, which share it if they have no maps."""
    if settings.codec == "grid":
        return GridCodec(side, dim, settings.chunk, settings.group_size)
    if maps is not None:
        return RotatedCodec(side, dim, settings.chunk, settings.seed, device=device, maps=maps)
    return _rotated(side, dim, settings.chunk, settings.seed, device)


@lru_cache(maxsize=64)
def _rotated(
    side: Side, dim: int, chunk: int, seed: int, device: torch.device | None
) -> RotatedCodec:
    return RotatedCodec(side, dim, chunk, seed, device=device)
