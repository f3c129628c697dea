r"""One new token over packed chunks, by kernels that numba compiles (extra ``compiled``).

Codes are never written out whole: 32 tokens at a time become levels in the processor's cache, by
a table of all levels in a byte, and are used there by all query heads of a key/value head.  Scores,
and so the result, are those of :func:`genopt_core.torch.kvcache.attention.attend_view` but for
rounding.
"""

from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from genopt_core.torch.kvcache.codec import Chunks, RotatedCodec, entry_table
from genopt_core.torch.kvcache.layer import View
from genopt_core.torch.kvcache.settings import exactly

ROWS = 32
"""Tokens whose levels are held at once; chunks must be multiples of it."""
REORDER = {"reassoc", "contract", "nsz"}
"""What a compiler may do to sums, for vectors' sake; NaN and infinity keep their meaning."""


def reads(query: Tensor, view: View) -> bool:
    """Whether the kernels know this case: one token on a processor over rotated codes."""
    return (
        query.shape[2] == 1
        and query.device.type == "cpu"
        and not view.learns(query)
        and view.chunk % ROWS == 0
        and bool(view.segments)
        and all(isinstance(codec, RotatedCodec) for codec in view.codecs.values())
        and all(codec.dim % 8 == 0 for codec in view.codecs.values())
        and all(segment.key.packed and segment.value.packed for segment in view.segments)
    )


def attend_token(query: Tensor, view: View, scale: float) -> Tensor:
    r"""Attention of one token, ``(batch, heads, 1, dim)`` (book, eq. kv-rotated-attention).

    As ``attend_view`` without a mask, where :func:`reads` says so.
    """
    with exactly(query.device):
        return _attended(query, view, scale)


def _attended(query: Tensor, view: View, scale: float) -> Tensor:
    """See :func:`attend_token`."""
    batch, heads, _, dim = query.shape
    key_codec, value_codec = view.codecs["key"], view.codecs["value"]
    assert isinstance(key_codec, RotatedCodec)
    assert isinstance(value_codec, RotatedCodec)
    k, v = view.unpacked()
    shared = k.shape[1]
    q = query.float().reshape(batch, shared, -1, dim) * scale
    rotated = (q @ key_codec.back.mT).flatten(0, 1).contiguous()
    new = q @ k.float().mT
    tokens = sum(segment.chunks for segment in view.segments) * view.chunk
    old = torch.empty(batch * shared, q.shape[2], tokens, dtype=torch.float32)
    flat, at = q.flatten(0, 1).contiguous(), 0
    scores, output = kernels(dim, q.shape[2])[0], kernels(v.shape[-1], q.shape[2])[1]
    for segment in view.segments:
        codes, means = _codes(segment.key), _wide(segment.key.meta[1])
        scores(*codes, means, flat.numpy(), rotated.numpy(), old.numpy(), at, view.chunk)
        at += segment.chunks * view.chunk
    old = old.view(*q.shape[:3], tokens)
    old, fresh = torch.cat([old, new], -1).softmax(-1).split([tokens, k.shape[-2]], -1)
    weights = old.flatten(0, 1).numpy()
    out, at = torch.zeros(batch * shared, q.shape[2], v.shape[-1], dtype=torch.float32), 0
    for segment in view.segments:
        output(*_codes(segment.value), weights, out.numpy(), at)
        at += segment.chunks * view.chunk
    back = out.view(*q.shape[:3], -1) @ value_codec.back
    return (back + fresh @ v.float()).reshape(batch, heads, 1, -1).to(query.dtype)


def _wide(half: Tensor) -> np.ndarray:
    """float16 numbers as float32, heads of all rows in one axis."""
    return np.asarray(half.flatten(0, 1).float().numpy())


def _codes(held: Chunks) -> tuple[Any, ...]:
    """Planes, width, table of levels and gains, as the kernels take them."""
    planes = [plane.flatten(0, 1).contiguous().numpy() for plane in held.planes]
    return planes[0], planes[-1], held.bits, _levels(held.bits), _wide(held.meta[0])[..., 0]


@lru_cache(maxsize=8)
def _levels(bits: int) -> np.ndarray:
    """Rows of ``entry_table`` as pairs of float32, which are copied as one number each."""
    table = entry_table(4 if bits == 8 else bits)  # 8 bits need none
    return np.ascontiguousarray(table.astype(np.float32)).view(np.float64)


@lru_cache(maxsize=8)
def kernels(dim: int, group: int) -> tuple[Any, Any]:
    """Scores and weighted sums for heads of ``dim`` channels, ``group`` queries to each.

    Compiled at the first call of a process, for some seconds.
    """
    from numba import njit

    f32, compiled = np.float32, njit(fastmath=REORDER, nogil=True)

    @compiled
    def expand(low, high, bits, table, out, pairs):
        rows, width = low.shape
        for t in range(rows):
            if bits == 8:
                for j in range(width):
                    out[t, j] = (f32(low[t, j]) - f32(127.5)) * f32(1 / 32)
            elif bits == 4:
                for j in range(width):
                    pairs[t, j] = table[low[t, j], 0]
            elif bits == 2:
                for j in range(width):
                    pairs[t, 2 * j] = table[low[t, j], 0]
                    pairs[t, 2 * j + 1] = table[low[t, j], 1]
            else:  # 1 bit: four codes a nibble; 3 bits: a byte below, a nibble above
                for j in range(dim // 4):
                    entry = np.int64(high[t, j // 2]) >> 4 * (j % 2) & 15
                    if bits == 3:
                        entry = entry << 8 | np.int64(low[t, j])
                    pairs[t, 2 * j] = table[entry, 0]
                    pairs[t, 2 * j + 1] = table[entry, 1]

    @compiled
    def scores(low, high, bits, table, gains, means, q, rotated, out, at, chunk):
        x, gain = np.empty((ROWS, dim), f32), np.empty(ROWS, f32)
        pairs = x.view(np.float64)
        mean, base = np.empty(dim, f32), np.empty(group, f32)
        for h in range(low.shape[0]):
            for first in range(0, low.shape[1], ROWS):
                if first % chunk == 0:
                    mean[:] = means[h, first // chunk]
                    for i in range(group):
                        total = f32(0)
                        for d in range(dim):
                            total += q[h, i, d] * mean[d]
                        base[i] = total
                last = first + ROWS
                gain[:] = gains[h, first:last]
                expand(low[h, first:last], high[h, first:last], bits, table, x, pairs)
                for i in range(group):
                    for t in range(0, ROWS, 4):  # four sums at once read the query once
                        a, b, c, e = f32(0), f32(0), f32(0), f32(0)
                        for d in range(dim):
                            z = rotated[h, i, d]
                            a += z * x[t, d]
                            b += z * x[t + 1, d]
                            c += z * x[t + 2, d]
                            e += z * x[t + 3, d]
                        k = at + first + t
                        out[h, i, k] = a * gain[t] + base[i]
                        out[h, i, k + 1] = b * gain[t + 1] + base[i]
                        out[h, i, k + 2] = c * gain[t + 2] + base[i]
                        out[h, i, k + 3] = e * gain[t + 3] + base[i]

    @compiled
    def output(low, high, bits, table, gains, weights, out, at):
        x, gain = np.empty((ROWS, dim), f32), np.empty(ROWS, f32)
        pairs, total = x.view(np.float64), np.empty((group, dim), f32)
        for h in range(low.shape[0]):
            total[:] = out[h]
            for first in range(0, low.shape[1], ROWS):
                last = first + ROWS
                gain[:] = gains[h, first:last]
                expand(low[h, first:last], high[h, first:last], bits, table, x, pairs)
                for i in range(group):
                    for t in range(0, ROWS, 4):  # four tokens at once write the sum once
                        k = at + first + t
                        a = weights[h, i, k] * gain[t]
                        b = weights[h, i, k + 1] * gain[t + 1]
                        c = weights[h, i, k + 2] * gain[t + 2]
                        e = weights[h, i, k + 3] * gain[t + 3]
                        for d in range(dim):
                            ab = a * x[t, d] + b * x[t + 1, d]
                            total[i, d] += ab + (c * x[t + 2, d] + e * x[t + 3, d])
            out[h] = total

    return scores, output
