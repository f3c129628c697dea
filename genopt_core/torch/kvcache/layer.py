r"""One layer of the staircase cache: sinks, closed chunks, open residual."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from transformers.cache_utils import CacheLayerMixin

from genopt_core.kvcache.codec import Side
from genopt_core.kvcache.ladder import FULL, Stair, width_at
from genopt_core.torch.kvcache.codec import GridCodec, PackedChunks, RotatedCodec, join

if TYPE_CHECKING:
    from genopt_core.torch.kvcache.cache import StaircaseCache

__all__ = ["PAGE", "SIDES", "Held", "Segment", "StaircaseLayer", "View", "restore"]

SIDES: tuple[Side, Side] = ("key", "value")

PAGE = 8
"""Most chunks of the floor that are kept as one tensor, so that attention has few pieces.  Eight
2-bit chunks are one at 16 bits: joining them needs no more room than one in full precision."""

Held = PackedChunks | Tensor


@dataclass(frozen=True, slots=True)
class Segment:
    """Neighbouring closed chunks: keys and values, each packed or in full precision."""

    key: Held
    value: Held
    chunks: int

    def map(self, f: Callable[[Tensor], Tensor]) -> Segment:
        """The same with every tensor passed through ``f``."""
        k, v = (x.map(f) if isinstance(x, PackedChunks) else f(x) for x in (self.key, self.value))
        return Segment(k, v, self.chunks)

    def cut(self, first: int, last: int) -> Segment:
        """Chunks ``first`` to ``last`` (exclusive), as copies."""

        def part(held: Held) -> Held:
            if isinstance(held, PackedChunks):
                return held.cut(first, last)
            each = held.shape[-2] // self.chunks
            return held[..., first * each : last * each, :].clone()

        return Segment(part(self.key), part(self.value), last - first)

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """All that is held."""
        pairs = (x.tensors if isinstance(x, PackedChunks) else (x,) for x in (self.key, self.value))
        return tuple(t for pair in pairs for t in pair)


@dataclass(frozen=True, slots=True)
class View:
    """What one forward pass attends to: the layer as it was, and the new tokens."""

    layer: StaircaseLayer
    segments: tuple[Segment, ...]
    sink: tuple[Tensor, Tensor]
    recent: tuple[Tensor, Tensor]
    """Residual and new tokens, in the dtype of the model."""


class StaircaseLayer(CacheLayerMixin):
    """One layer of a :class:`StaircaseCache`; see there for the parameters.

    ``keys`` and ``values`` are the open residual.  Closed chunks are never changed in place: a
    step down makes a new chunk, so a :class:`View` stays what it was.
    """

    is_compileable, is_croppable, is_sliding, supports_early_init = False, True, False, False
    keys: Tensor  # None until the first tokens come, as in every layer of transformers
    values: Tensor

    def __init__(self, cache: StaircaseCache, key_ladder: tuple, value_ladder: tuple):
        super().__init__()
        self.cache = cache
        self.ladders: dict[Side, tuple[int, ...]] = {"key": key_ladder, "value": value_ladder}
        self.codecs: dict[Side, GridCodec | RotatedCodec] = {}
        self.segments: tuple[Segment, ...] = ()
        self.sink: tuple[Tensor, Tensor] | None = None

    # ------------------------------------------------------------ one step

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """Learn the shapes from the first tokens."""
        self.dtype, self.device = key_states.dtype, key_states.device
        sides: dict[Side, Tensor] = {"key": key_states, "value": value_states}
        self.codecs = {side: self.cache.codec_of(side, x) for side, x in sides.items()}
        for side, codec in self.codecs.items():
            codec.check([width for width in self.ladders[side] if width != FULL])
        stored = self.cache.full_dtype or self.dtype
        empty = tuple(x[..., :0, :].to(stored) for x in (key_states, value_states))
        self.keys, self.values = empty
        self.sink = (empty[0], empty[1])
        self.is_initialized = True

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Add tokens; return all keys and values as this step attends to them.

        The step sees its own tokens and the residual in full precision; chunks close afterwards.
        """
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        assert self.sink is not None
        recent = tuple(
            torch.cat([old.to(new.dtype), new], -2)
            for old, new in ((self.keys, key_states), (self.values, value_states))
        )
        view = View(self, self.segments, self.sink, (recent[0], recent[1]))
        self._append(*recent)
        if self.cache.reads_packed():
            out = key_states.view_as(key_states), value_states
            # staircase_attention gets this very tensor, and finds the view on it
            out[0].__dict__["genopt_view"] = view
            return out
        return restore(view)

    def _append(self, keys: Tensor, values: Tensor) -> None:
        """Take ``keys`` and ``values`` as the new residual; fill sinks and close chunks from it."""
        assert self.sink is not None
        held = [x.to(self.keys.dtype) for x in (keys, values)]
        free = min(self.cache.sink - self.sink[0].shape[-2], held[0].shape[-2])
        if free > 0:
            k, v = (
                torch.cat([s, x[..., :free, :]], -2) for s, x in zip(self.sink, held, strict=True)
            )
            self.sink = (k, v)
            held = [x[..., free:, :] for x in held]
        chunk = self.cache.chunk
        packs = any(ladder[-1] < FULL for ladder in self.ladders.values())
        closed = held[0].shape[-2] // chunk if packs else 0  # nothing to close if all stays full
        fresh = []
        for i in range(closed):  # straight to the width that its age has when all are closed
            k, v = (x[..., i * chunk : (i + 1) * chunk, :] for x in held)
            fresh.append(self._lowered(Segment(k, v, 1), closed - i))
        if closed:
            self.segments = self._aged(closed) + tuple(fresh)
            self._make_pages()
        self.keys, self.values = (_own(x[..., closed * chunk :, :]) for x in held)

    def _lowered(self, segment: Segment, age: int) -> Segment:
        """The segment at the widths of chunk number ``age`` (1 is the newest)."""
        sides: list[Held] = []
        for side in SIDES:
            held = segment.key if side == "key" else segment.value
            bits = width_at(age, self.ladders[side])
            if isinstance(held, PackedChunks):
                held = self.codecs[side].step(held, bits) if bits < held.bits else held
            elif bits < FULL:
                held = self.codecs[side].encode(held, bits)
            else:
                held = _own(held)
            sides.append(held)
        return Segment(sides[0], sides[1], segment.chunks)

    @property
    def _floor(self) -> int:
        """Age from which on both sides are at their last width."""
        return max(len(ladder) for ladder in self.ladders.values()) - 1

    def _aged(self, closed: int) -> tuple[Segment, ...]:
        """Segments after ``closed`` newer chunks have come; touches those above the floor only."""
        aged: list[Segment] = []
        age = 1  # of the newest chunk before the new ones came
        for i in range(len(self.segments) - 1, -1, -1):
            if age >= self._floor:  # this one is on the floor, and so is all that is older
                return (*self.segments[: i + 1], *reversed(aged))
            aged.append(self._lowered(self.segments[i], age + closed))
            age += self.segments[i].chunks
        return tuple(reversed(aged))

    def _make_pages(self) -> None:
        """Join chunks on the floor by twos, fours and so on up to pages, as a counter carries.

        Each chunk is copied at most log2(PAGE) times in its life, and few segments are left.
        """
        last, age = len(self.segments), 1
        while last and age < self._floor:
            last -= 1
            age += self.segments[last].chunks
        done: list[Segment] = []
        for segment in self.segments[:last]:
            done.append(segment)
            while len(done) > 1 and (joined := _joined(*done[-2:])):
                done[-2:] = [joined]
        self.segments = (*done, *self.segments[last:])

    # ------------------------------------------------------------ what transformers asks

    def get_seq_length(self) -> int:
        """Tokens held."""
        if not self.is_initialized or self.sink is None:
            return 0
        closed = sum(segment.chunks for segment in self.segments) * self.cache.chunk
        return self.sink[0].shape[-2] + closed + self.keys.shape[-2]

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Columns of the mask, and the first one."""
        return self.get_seq_length() + query_length, 0

    def get_max_length(self) -> int:
        """No maximum."""
        return -1

    def reset(self) -> None:
        """Forget everything."""
        self.__dict__.update(keys=None, values=None, sink=None)
        self.segments, self.is_initialized = (), False

    def _map(self, f: Callable[[Tensor], Tensor]) -> None:
        if self.is_initialized and self.sink is not None:
            self.segments = tuple(segment.map(f) for segment in self.segments)
            self.sink = (f(self.sink[0]), f(self.sink[1]))
            self.keys, self.values = f(self.keys), f(self.values)

    def reorder_cache(self, beam_idx: Tensor) -> None:
        """Take the batch rows ``beam_idx``."""
        self._map(lambda t: t.index_select(0, beam_idx.to(t.device)))

    def batch_select_indices(self, indices: Tensor) -> None:
        """Keep the batch rows ``indices``."""
        self._map(lambda t: t[indices])

    def batch_repeat_interleave(self, repeats: int) -> None:
        """Repeat each batch row."""
        self._map(lambda t: t.repeat_interleave(repeats, 0))

    def crop(self, tokens_to_remove: int) -> None:
        """Drop the newest ``-tokens_to_remove`` tokens.

        If that reaches into a closed chunk, the chunk is reopened: its remaining tokens are
        restored from what is left of them.  Raises ``ValueError`` for a positive number.
        """
        if tokens_to_remove > 0:
            raise ValueError(
                f"tokens_to_remove must be negative, the tokens to drop, got {tokens_to_remove}"
            )
        if not self.is_initialized or not tokens_to_remove or self.sink is None:
            return
        keep = max(0, self.get_seq_length() + tokens_to_remove)
        sinks = min(keep, self.sink[0].shape[-2])
        self.sink = (self.sink[0][..., :sinks, :].clone(), self.sink[1][..., :sinks, :].clone())
        closed, rest = divmod(keep - sinks, self.cache.chunk)
        segments = list(self.segments)
        while sum(s.chunks for s in segments) > closed:  # give up chunks from the newest
            last = segments.pop()
            left = closed - sum(s.chunks for s in segments)
            if left >= 0:  # the cut runs through this one: its chunk `left` is the new residual
                reopened = last.cut(left, left + 1)
                k, v = (self._full(side, reopened) for side in SIDES)
                self.keys, self.values = k.to(self.keys.dtype), v.to(self.values.dtype)
            if left > 0:
                segments.append(last.cut(0, left))
        self.segments = tuple(segments)
        rest = keep - sinks - sum(s.chunks for s in segments) * self.cache.chunk
        self.keys, self.values = (x[..., :rest, :].clone() for x in (self.keys, self.values))

    def _full(self, side: Side, segment: Segment) -> Tensor:
        """One side of a segment in full precision."""
        held = segment.key if side == "key" else segment.value
        return self.codecs[side].decode(held) if isinstance(held, PackedChunks) else held

    # ------------------------------------------------------------ what it holds

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """All that is held."""
        if not self.is_initialized or self.sink is None:
            return ()
        closed = tuple(t for segment in self.segments for t in segment.tensors)
        return (*self.sink, *closed, self.keys, self.values)

    def stairs(self, side: Side) -> list[Stair]:
        """Stairs really held, see :meth:`StaircaseCache.stairs`."""
        if not self.is_initialized or self.sink is None:
            return []
        found = [Stair(0, self.sink[0].shape[-2], FULL)]
        for segment in self.segments:
            held = segment.key if side == "key" else segment.value
            bits = held.bits if isinstance(held, PackedChunks) else FULL
            last = found[-1].last + segment.chunks * self.cache.chunk
            if len(found) > 1 and found[-1].bits == bits:
                found[-1] = found[-1]._replace(last=last)
            else:
                found.append(Stair(found[-1].last, last, bits))
        found.append(Stair(found[-1].last, found[-1].last + self.keys.shape[-2], FULL))
        return [stair for stair in found if stair.last > stair.first]


def _joined(a: Segment, b: Segment) -> Segment | None:
    """Both as one segment, if they are alike and no larger than half a page."""
    sides: list[PackedChunks] = []
    for x, y in ((a.key, b.key), (a.value, b.value)):
        if not (isinstance(x, PackedChunks) and isinstance(y, PackedChunks)):
            return None
        alike = (x.bits, x.first_bits, x.chunks) == (y.bits, y.first_bits, y.chunks)
        if not alike or x.chunks * 2 > PAGE:
            return None
        sides += [x, y]
    return Segment(join(sides[:2]), join(sides[2:]), a.chunks + b.chunks)


def _own(x: Tensor) -> Tensor:
    """``x``, copied if it is a slice: a slice keeps all of the larger tensor alive."""
    return x.clone() if x.untyped_storage().nbytes() > x.nbytes else x


def restore(view: View) -> tuple[Tensor, Tensor]:
    """All keys and values of a view, in full precision and in order."""
    dtype, out = view.recent[0].dtype, []
    for i, side in enumerate(SIDES):
        closed = [view.layer._full(side, segment).to(dtype) for segment in view.segments]
        out.append(torch.cat([view.sink[i].to(dtype), *closed, view.recent[i]], -2))
    return out[0], out[1]
