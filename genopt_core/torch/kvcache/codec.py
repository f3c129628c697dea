r"""The codecs of :mod:`genopt_core.kvcache.codec` on tensors, for whole batches of heads.

Tensors are ``(batch, heads, tokens, dim)``.  Everything a chunk keeps has its tokens, groups of
tokens or chunks along axis -2, so chunks are joined and cut there and nowhere else.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from genopt_core.kvcache.codec import Side
from genopt_core.kvcache.ladder import metadata_bits
from genopt_core.kvcache.packing import plane_widths
from genopt_core.kvcache.rotated import ROTATED_BITS, hadamard_rotation, levels, step_table

__all__ = ["GridCodec", "PackedChunks", "RotatedCodec", "join", "pack", "unpack"]


@lru_cache(maxsize=64)
def _table(name: str, bits: int, to_bits: int, device: torch.device) -> Tensor:
    """Small constant tables, made once a device."""
    data: np.ndarray
    if name == "levels":
        data = levels(bits).astype(np.float32)
    elif name == "edges":
        data = ((levels(bits)[1:] + levels(bits)[:-1]) / 2).astype(np.float32)
    elif name == "step":
        data = step_table(bits, to_bits)
    elif name == "recode":
        top, new = 2**bits - 1, 2**to_bits - 1
        data = ((2 * np.arange(top + 1) * new + top) // (2 * top)).astype(np.uint8)
    elif name == "nibbles":
        byte = np.arange(256, dtype=np.int32)
        data = np.stack([(byte & 15) << 8, (byte >> 4) << 8], -1).view(np.int64)[:, 0]
    else:  # "entries": the levels of all codes that one entry of :func:`_entries` holds
        if bits == 3:  # low byte: four 2-bit parts; the nibble above it: their four top bits
            at = np.arange(4096)[:, None]
            code = (at >> 2 * np.arange(4) & 3) | (at >> 8 + np.arange(4) & 1) << 2
        else:
            parts = min(4, 8 // bits)
            at = np.arange(2 ** (parts * bits))[:, None]
            code = at >> bits * np.arange(parts) & 2**bits - 1
        data = levels(bits)[code].astype(np.float32)
    return torch.from_numpy(np.array(data)).to(device)


def pack(codes: Tensor, bits: int) -> tuple[Tensor, ...]:
    """Planes of :func:`genopt_core.kvcache.pack_codes`, on a uint8 tensor that fills bytes."""
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
class PackedChunks:
    """One or more quantised chunks of equal width, with the metadata that restore them."""

    bits: int
    first_bits: int
    """Width at which they were first quantised; a grid's stored step belongs to it."""
    chunks: int
    planes: tuple[Tensor, ...]
    meta: tuple[Tensor, ...]

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """All that is held."""
        return (*self.planes, *self.meta)

    def map(self, f: Callable[[Tensor], Tensor], chunks: int | None = None) -> PackedChunks:
        """The same with every tensor passed through ``f``."""
        return replace(
            self,
            chunks=self.chunks if chunks is None else chunks,
            planes=tuple(map(f, self.planes)),
            meta=tuple(map(f, self.meta)),
        )

    def cut(self, first: int, last: int) -> PackedChunks:
        """Chunks ``first`` to ``last`` (exclusive), as copies."""

        def rows(t: Tensor) -> Tensor:
            each = t.shape[-2] // self.chunks
            return t[..., first * each : last * each, :].clone()

        return self.map(rows, last - first)


def join(parts: Sequence[PackedChunks]) -> PackedChunks:
    """Neighbouring chunks of equal width as one; raises ``ValueError`` if widths differ."""
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


def _check(widths: Sequence[int], dim: int) -> None:
    for width in widths:
        need = 8 // (width & -width)
        if dim % need:
            raise ValueError(f"dim={dim} must be a multiple of {need} to pack {width}-bit codes")


def _finite(x: Tensor, side: Side) -> None:
    low, high = x.aminmax()
    if not bool(torch.isfinite(high - low)):
        raise ValueError(f"{side}s must be finite, they hold NaN, infinity or too large numbers")


def _neighbour(half: Tensor, up: bool) -> Tensor:
    """Next float16 above or below (torch.nextafter does not know float16 on all devices)."""
    order = half.view(torch.int16)
    zero = torch.full_like(order, 1 if up else -32767)  # smallest subnormal of that sign
    away = (half > 0) == up
    moved = torch.where(half == 0, zero, torch.where(away, order + 1, order - 1))
    return moved.view(torch.float16)


class GridCodec:
    """Min-max grids, see :class:`genopt_core.kvcache.GridCodec`; float16 metadata, same codes."""

    rotated = False

    def __init__(self, side: Side, dim: int, chunk: int, group_size: int):
        along, name = (chunk, "chunk") if side == "key" else (dim, "dim")
        if group_size < 1 or along % group_size:
            raise ValueError(f"group_size={group_size} does not divide {name}={along}")
        self.side, self.dim, self.chunk, self.group_size = side, dim, chunk, group_size

    def check(self, widths: Sequence[int]) -> None:
        """Raise ``ValueError`` if codes of these widths do not fill bytes."""
        _check(widths, self.dim)

    def metadata_bits(self) -> float:
        """Bits of metadata per element."""
        return metadata_bits(
            "grid", self.side, dim=self.dim, chunk=self.chunk, group_size=self.group_size
        )

    def _groups(self, x: Tensor) -> tuple[Tensor, int]:
        """A view with groups along the axis returned: (..., groups, group_size, dim) for keys."""
        if self.side == "key":
            return x.unflatten(-2, (-1, self.group_size)), -2
        return x.unflatten(-1, (-1, self.group_size)), -1

    def encode(self, x: Tensor, bits: int) -> PackedChunks:
        """Quantise one chunk; raises ``ValueError`` for what float16 metadata cannot hold."""
        _finite(x, self.side)
        groups, axis = self._groups(x.float())
        smallest, largest = groups.amin(axis), groups.amax(axis)
        low = smallest.half()
        low = torch.where(low.float() > smallest, _neighbour(low, up=False), low)
        span = largest - low.float()
        scale = (span / (2**bits - 1)).half()
        short = scale.float() < span / (2**bits - 1)
        scale = torch.where(short, _neighbour(scale, up=True), scale)
        if not bool(torch.isfinite(low).all() and torch.isfinite(scale).all()):
            raise ValueError(
                f"{self.side}s from {smallest.min():.3g} to {largest.max():.3g} exceed float16 "
                "metadata"
            )
        step = torch.where(scale > 0, scale.float(), 1.0).unsqueeze(axis)
        codes = ((groups - low.float().unsqueeze(axis)) / step).round_().clamp_(max=2**bits - 1)
        codes = (
            codes.to(torch.uint8).flatten(-3, -2)
            if axis == -2
            else codes.to(torch.uint8).flatten(-2)
        )
        return PackedChunks(bits, bits, 1, pack(codes, bits), (scale, low))

    def step(self, packed: PackedChunks, bits: int) -> PackedChunks:
        """Re-code by integers (eq. kv-nested); the metadata stay."""
        table = _table("recode", packed.bits, bits, packed.planes[0].device)
        codes = table[unpack(packed.planes, packed.bits).int()]
        return replace(packed, bits=bits, planes=pack(codes, bits))

    def decode(self, packed: PackedChunks) -> Tensor:
        """Restore to float32."""
        ratio = (2**packed.first_bits - 1) / (2**packed.bits - 1)
        scale, low = (t.float() for t in packed.meta)
        groups, axis = self._groups(unpack(packed.planes, packed.bits).float())
        groups = groups * (scale * ratio).unsqueeze(axis) + low.unsqueeze(axis)
        return groups.flatten(-3, -2) if axis == -2 else groups.flatten(-2)


def _nibbles(plane: Tensor) -> Tensor:
    return torch.stack((plane & 15, plane >> 4), -1).flatten(-2)


def _entries(packed: PackedChunks) -> Tensor:
    """Planes as table entries of two codes (4 bits) or four (1 to 3 bits), as int32."""
    if packed.bits == 1:
        return _nibbles(packed.planes[0]).int()
    if packed.bits == 3:
        two, one = packed.planes
        # both nibbles of a byte, each in its place above a low byte, in one look-up
        pair = _table("nibbles", 3, 0, one.device).index_select(0, one.flatten().int())
        return pair.view(torch.int32).view(two.shape).add_(two)
    return packed.planes[0].int()


@lru_cache(maxsize=8)
def _wide_table(bits: int) -> Tensor:
    """Rows of the table "entries" as single numbers of 8 or 16 bytes, for processors.

    Those copy a row of two or four floats three times faster as one such number; no arithmetic
    touches it.
    """
    table = _table("entries", bits, 0, torch.device("cpu"))
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

    ``seed`` fixes the rotation; equal seeds give equal rotations on every machine.
    """

    rotated = True

    def __init__(self, side: Side, dim: int, chunk: int, seed: int, norm_correction: bool = True):
        self.side, self.dim, self.chunk = side, dim, chunk
        self.norm_correction = norm_correction
        rotation = hadamard_rotation(dim, np.random.default_rng(seed)).astype(np.float32)
        self.rotation = torch.from_numpy(rotation)

    def check(self, widths: Sequence[int]) -> None:
        """Raise ``ValueError`` for a width without levels or codes that do not fill bytes."""
        for width in widths:
            if width not in ROTATED_BITS:
                raise ValueError(f"codec 'rotated' has widths {ROTATED_BITS}, not {width}")
        _check(widths, self.dim)

    def metadata_bits(self) -> float:
        """Bits of metadata per element."""
        return metadata_bits("rotated", self.side, dim=self.dim, chunk=self.chunk)

    def to(self, device: torch.device) -> None:
        """Move the rotation."""
        self.rotation = self.rotation.to(device)

    def encode(self, x: Tensor, bits: int) -> PackedChunks:
        """Quantise one chunk; raises ``ValueError`` for NaN, infinity and too large numbers."""
        _finite(x, self.side)
        y, mean = x.float(), []
        if self.side == "key":
            mean = [y.mean(-2, keepdim=True).half()]
            y = y - mean[0].float()
        y = y @ self.rotation
        norm = y.norm(dim=-1, keepdim=True)
        rms = norm / math.sqrt(self.dim)
        edges = _table("edges", bits, 0, x.device)
        unit = y / torch.where(rms > 0, rms, 1.0)
        codes = torch.bucketize(unit, edges, out_int32=True).to(torch.uint8)
        gain = self._gain(codes, bits, norm) if self.norm_correction else rms
        gain = gain.half()
        if not bool(torch.isfinite(gain).all()):
            raise ValueError(f"{self.side}s up to {x.abs().max():.3g} exceed float16 metadata")
        return PackedChunks(bits, bits, 1, pack(codes, bits), (gain, *mean))

    def _gain(self, codes: Tensor, bits: int, norm: Tensor) -> Tensor:
        table = _table("levels", bits, 0, codes.device)
        return norm / table[codes.int()].norm(dim=-1, keepdim=True)

    def step(self, packed: PackedChunks, bits: int) -> PackedChunks:
        """Look codes up in a table; gains change so that lengths stay (eq. kv-gain)."""
        codes = unpack(packed.planes, packed.bits)
        new = _table("step", packed.bits, bits, codes.device)[codes.int()]
        gain, *mean = packed.meta
        if self.norm_correction:
            length = _table("levels", packed.bits, 0, codes.device)[codes.int()]
            norm = gain.float() * length.norm(dim=-1, keepdim=True)
            gain = self._gain(new, bits, norm).half()
        return replace(packed, bits=bits, planes=pack(new, bits), meta=(gain, *mean))

    def expand(self, packed: PackedChunks, room: Room | None = None) -> Tensor:
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
            return functional.embedding(entries, _table("entries", bits, 0, device)).flatten(-2)
        table, count = _wide_table(bits), entries.numel()
        each = table.element_size() // 4
        if room is None or len(room.floats) < count * each:
            room = Room(count * each)
        out = (room.fours if each == 4 else room.pairs)[:count]
        torch.index_select(table, 0, entries.reshape(-1), out=out)
        return room.floats[: count * each].view(*entries.shape[:-1], -1)

    def decode(self, packed: PackedChunks) -> Tensor:
        """Restore to float32."""
        gain, *mean = (t.float() for t in packed.meta)
        x = (self.expand(packed) * gain) @ self.rotation.T
        if mean:
            x = (x.unflatten(-2, (packed.chunks, -1)) + mean[0].unsqueeze(-2)).flatten(-3, -2)
        return x
