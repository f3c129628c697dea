r"""One layer of the staircase cache: sinks, closed chunks, open residual."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any, Self

import torch
from torch import Tensor
from transformers.cache_utils import CacheLayerMixin

from genopt_core.kvcache.ladder import FULL, SIDES, Side, Stair, merge_stairs, width_at
from genopt_core.torch.kvcache.codec import Chunks, Codec, codec_of, join, lowered, restored
from genopt_core.torch.kvcache.settings import (
    NAME,
    NOT_TRACED,
    PLAIN,
    Settings,
    exactly,
    warn_restoring,
)

PAGE = 8
"""Most chunks of the floor that are kept as one tensor, so that attention has few pieces.  Eight
2-bit chunks are one at 16 bits: joining them needs no more room than one in full precision."""


@dataclass(frozen=True, slots=True)
class Segment:
    """Keys and values of the same neighboring closed chunks."""

    key: Chunks
    value: Chunks

    @property
    def chunks(self) -> int:
        """How many chunks."""
        return self.key.chunks

    def map(self, f: Callable[[Tensor], Tensor]) -> Self:
        """The same with every tensor passed through ``f``."""
        return type(self)(self.key.map(f), self.value.map(f))

    def cut(self, first: int, last: int) -> Self:
        """Chunks ``first`` to ``last`` (exclusive), as copies."""
        return type(self)(self.key.cut(first, last), self.value.cut(first, last))

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """All that is held."""
        return (*self.key.tensors, *self.value.tensors)


@dataclass(frozen=True, slots=True)
class View:
    """What one forward pass attends to: a layer as it was, and the new tokens."""

    chunk: int
    codecs: Mapping[Side, Codec]
    segments: tuple[Segment, ...]
    sink: tuple[Tensor, Tensor]
    recent: tuple[Tensor, Tensor]
    """Residual and new tokens, in the dtype of the model."""

    def restore(self) -> tuple[Tensor, Tensor]:
        """All keys and values in full precision and in order."""
        out = []
        with exactly(self.recent[0].device):
            for side, sink, recent in zip(SIDES, self.sink, self.recent, strict=True):
                held = (getattr(segment, side) for segment in self.segments)
                closed = [restored(self.codecs[side], x).to(recent.dtype) for x in held]
                out.append(torch.cat([sink.to(recent.dtype), *closed, recent], -2))
        return out[0], out[1]

    def learns(self, query: Tensor, mask: Tensor | None = None) -> bool:
        """Whether gradients will be asked of attention to this: nothing may be changed in place."""
        if not torch.is_grad_enabled():
            return False
        segments = (t for segment in self.segments for t in segment.tensors)
        given = (query,) if mask is None else (query, mask)
        return any(t.requires_grad for t in (*given, *self.sink, *self.recent, *segments))

    def unpacked(self) -> tuple[Tensor, Tensor]:
        """Keys and values of the sinks and the recent tokens."""
        pairs = zip(self.sink, self.recent, strict=True)
        with exactly(self.recent[0].device):
            k, v = (torch.cat([sink.to(recent.dtype), recent], -2) for sink, recent in pairs)
        return k, v


class Handed(Tensor):
    """Keys or values without tokens, in place of packed ones: who computes with them is told."""

    @classmethod
    def __torch_function__(
        cls, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        """Let anything be asked of them, and no tensor be made from them."""
        with torch._C.DisableTorchFunctionSubclass():
            result = function(*args, **(kwargs or {}))
        made = result if isinstance(result, tuple | list) else (result,)
        same = bool(args) and result is args[0]  # as of `contiguous`
        if same or torch.compiler.is_compiling() or not any(isinstance(x, Tensor) for x in made):
            return result
        raise RuntimeError(
            f"attention {NAME!r} has to read this staircase cache, and something else did "
            f"({getattr(function, '__name__', function)}): the model's attention is not the one in "
            "the config that the cache was made with, or something between the two changes keys.  "
            "Make the cache with the model's own config; if it was, set the model's attention to "
            "'sdpa'"
        )


def hand_over(view: View) -> tuple[Tensor, Tensor]:
    """Keys and values without tokens that carry the view to the attention function.

    A model passes on the very tensors that a layer returns, and :func:`taken_from` finds the view
    on the keys.  Any other function would attend to nothing, so they refuse to be computed with;
    while a compiler looks they cannot, and without channels they fit no query.
    """
    keys, values = (x[..., :0, :0].detach().as_subclass(Handed) for x in view.recent)
    keys.__dict__["genopt_view"] = view
    return keys, values


def taken_from(keys: Tensor) -> View | None:
    """The view that :func:`hand_over` put on ``keys``, or ``None`` if they are of another cache."""
    return getattr(keys, "genopt_view", None)


class StaircaseLayer(CacheLayerMixin):
    """One layer of a :class:`~genopt_core.torch.kvcache.StaircaseCache`.

    ``keys`` and ``values`` are the open residual.  Closed chunks are never changed in place: a
    step down makes a new chunk, so a :class:`View` stays what it was.
    """

    is_compileable, is_croppable, is_sliding, supports_early_init = False, True, False, False
    keys: Tensor  # None until the first tokens come, as in every layer of transformers
    values: Tensor
    sink: tuple[Tensor, Tensor]

    def __init__(
        self,
        settings: Settings,
        key_ladder: tuple,
        value_ladder: tuple,
        maps: Mapping[Side, tuple[Tensor, Tensor]] | None = None,
    ):
        super().__init__()
        self.settings = settings
        self.maps: Mapping[Side, tuple[Tensor, Tensor]] = maps or {}
        self.ladders: dict[Side, tuple[int, ...]] = {"key": key_ladder, "value": value_ladder}
        self.codecs: dict[Side, Codec] = {}
        self.segments: tuple[Segment, ...] = ()

    # ------------------------------------------------------------ one step

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """Learn the shapes from the first tokens."""
        self.dtype, self.device = key_states.dtype, key_states.device
        for side, x in zip(SIDES, (key_states, value_states), strict=True):
            maps = self.maps.get(side)
            self.codecs[side] = codec_of(self.settings, side, x.shape[-1], x.device, maps)
            self.codecs[side].check([width for width in self.ladders[side] if width != FULL])
        stored = self.settings.full_dtype or self.dtype
        self.keys, self.values = (x[..., :0, :].to(stored) for x in (key_states, value_states))
        self.sink = (self.keys, self.values)
        self.is_initialized = True

    @torch.compiler.disable(reason=NOT_TRACED)
    def update(
        self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Add tokens; return all keys and values as this step attends to them.

        The step sees its own tokens and the residual in full precision; chunks close afterwards.
        Latents, which a model expands to keys and values of all heads, are always restored.
        """
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        with exactly(key_states.device):
            view = self.view(key_states, value_states)
            self._append(*view.recent)
        latent = key_states.shape[1] == 1 and self.settings.latents
        if self.settings.reads_packed and not latent:
            return hand_over(view)
        one = view.segments and key_states.shape[-2] == 1
        if one and not latent and self.settings.attention in PLAIN:
            warn_restoring(self.settings.attention)  # from now on a whole cache a token
        return view.restore()

    def view(self, key_states: Tensor, value_states: Tensor) -> View:
        """What is held and these new tokens, as attention sees them."""
        k, v = (
            torch.cat([old.to(new.dtype), new], -2)
            for old, new in ((self.keys, key_states), (self.values, value_states))
        )
        return View(self.settings.chunk, self.codecs, self.segments, self.sink, (k, v))

    def _append(self, keys: Tensor, values: Tensor) -> None:
        """Take ``keys`` and ``values`` as the new residual; fill sinks and close chunks from it."""
        held = [x.to(self.keys.dtype) for x in (keys, values)]
        free = min(self.settings.sink - self.sink[0].shape[-2], held[0].shape[-2])
        if free > 0:
            k, v = (
                torch.cat([s, x[..., :free, :]], -2) for s, x in zip(self.sink, held, strict=True)
            )
            self.sink = (k, v)
            held = [x[..., free:, :] for x in held]
        chunk = self.settings.chunk
        packs = any(ladder[-1] < FULL for ladder in self.ladders.values())
        closed = held[0].shape[-2] // chunk if packs else 0  # nothing to close if all stays full
        fresh = []
        for i in range(closed):  # straight to the width that its age has when all are closed
            part = slice(i * chunk, (i + 1) * chunk)
            new = Segment(*(Chunks(FULL, FULL, 1, (x[..., part, :],)) for x in held))
            fresh.append(self._lowered(new, closed - i))
        if closed:
            self.segments = self._aged(closed) + tuple(fresh)
            self._make_pages()
        self.keys, self.values = (_own(x[..., closed * chunk :, :]) for x in held)

    def _lowered(self, segment: Segment, age: int) -> Segment:
        """The segment at the widths of chunk number ``age`` (1 is the newest)."""
        sides = []
        for side in SIDES:
            bits = width_at(age, self.ladders[side])
            held = lowered(self.codecs[side], getattr(segment, side), bits)
            sides.append(held if held.packed else held.map(_own))
        return Segment(*sides)

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
        if not self.is_initialized:
            return 0
        closed = sum(segment.chunks for segment in self.segments) * self.settings.chunk
        return self.sink[0].shape[-2] + closed + self.keys.shape[-2]

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Columns of the mask, and the first one."""
        if not query_length:  # `generate` cuts off as many tokens as are held
            raise ValueError(
                f"the cache holds {self.get_seq_length()} tokens, so no new ones came: pass a "
                "longer text that continues them, or call reset() first"
            )
        return self.get_seq_length() + query_length, 0

    def get_max_length(self) -> int:
        """No maximum."""
        return -1

    def reset(self) -> None:
        """Forget everything."""
        self.__dict__.update(keys=None, values=None)
        self.segments, self.is_initialized = (), False

    def _map(self, f: Callable[[Tensor], Tensor]) -> None:
        if self.is_initialized:
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
        restored from what is left of them.
        """
        if tokens_to_remove > 0:
            raise ValueError(
                f"tokens_to_remove must be negative, the tokens to drop, got {tokens_to_remove}"
            )
        if not self.is_initialized or not tokens_to_remove:
            return
        keep = max(0, self.get_seq_length() + tokens_to_remove)
        sinks = min(keep, self.sink[0].shape[-2])
        self.sink = (self.sink[0][..., :sinks, :].clone(), self.sink[1][..., :sinks, :].clone())
        closed = (keep - sinks) // self.settings.chunk
        segments = list(self.segments)
        while sum(s.chunks for s in segments) > closed:  # give up chunks from the newest
            last = segments.pop()
            left = closed - sum(s.chunks for s in segments)
            if left >= 0:  # the cut runs through this one: its chunk `left` is the new residual
                reopened = last.cut(left, left + 1)
                with exactly(self.keys.device):
                    k, v = (restored(self.codecs[side], getattr(reopened, side)) for side in SIDES)
                self.keys, self.values = k.to(self.keys.dtype), v.to(self.values.dtype)
            if left > 0:
                segments.append(last.cut(0, left))
        self.segments = tuple(segments)
        rest = keep - sinks - sum(s.chunks for s in segments) * self.settings.chunk
        self.keys, self.values = (x[..., :rest, :].clone() for x in (self.keys, self.values))

    # ------------------------------------------------------------ what it holds

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """All that is held: sinks, segments from the oldest, residual; keys before values."""
        if not self.is_initialized:
            return ()
        closed = (t for segment in self.segments for t in segment.tensors)
        return (*self.sink, *closed, self.keys, self.values)

    def stairs(self, side: Side) -> list[Stair]:
        """Stairs really held, see :meth:`StaircaseCache.stairs`."""
        if not self.is_initialized:
            return []
        chunks = (
            (segment.chunks * self.settings.chunk, getattr(segment, side).bits)
            for segment in self.segments
        )
        return merge_stairs(self.sink[0].shape[-2], chunks, self.keys.shape[-2])

    def state(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """A description of plain numbers and names, and all :attr:`tensors` by name."""
        segments = [
            {"chunks": s.chunks, "k": _form(s.key), "v": _form(s.value)} for s in self.segments
        ]
        description = {
            "key": self.ladders["key"],
            "value": self.ladders["value"],
            "dtype": str(self.dtype) if self.is_initialized else None,
            "segments": segments,
        }
        return description, dict(zip(self._names(description), self.tensors, strict=True))

    def fill(self, description: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
        """Hold what :meth:`state` described."""
        if description["dtype"] is None:
            return
        dtype = getattr(torch, description["dtype"].removeprefix("torch."))
        empty = (tensors[f"rest.{name}"][..., :0, :].to(dtype) for name in "kv")
        self.lazy_initialization(*empty)
        held = (tensors[name] for name in self._names(description))
        self.sink = (next(held), next(held))
        segments = []
        for row in description["segments"]:
            sides = []
            for side, name in zip(SIDES, "kv", strict=True):
                bits, first_bits, planes = row[name] or (FULL, FULL, 1)
                meta = self.codecs[side].meta_count if row[name] else 0
                parts = tuple(islice(held, planes)), tuple(islice(held, meta))
                sides.append(Chunks(bits, first_bits, row["chunks"], *parts))
            segments.append(Segment(*sides))
        self.segments = tuple(segments)
        self.keys, self.values = held

    def _names(self, description: Mapping[str, Any]) -> Iterator[str]:
        """Names of the :attr:`tensors` of a layer of this description, in their order."""
        if description["dtype"] is None:
            return
        yield from ("sink.k", "sink.v")
        for i, row in enumerate(description["segments"]):
            for side, name in zip(SIDES, "kv", strict=True):
                count = row[name][2] + self.codecs[side].meta_count if row[name] else 1
                yield from (f"{i}.{name}{n}" for n in range(count))
        yield from ("rest.k", "rest.v")


def _form(held: Chunks) -> list[int] | None:
    return [held.bits, held.first_bits, len(held.planes)] if held.packed else None


def _joined(a: Segment, b: Segment) -> Segment | None:
    """Both as one segment, if they are packed alike and no larger than half a page."""
    for x, y in ((a.key, b.key), (a.value, b.value)):
        alike = (x.bits, x.first_bits, x.chunks) == (y.bits, y.first_bits, y.chunks)
        if not (alike and x.packed and x.chunks * 2 <= PAGE):
            return None
    return Segment(join([a.key, b.key]), join([a.value, b.value]))


def _own(x: Tensor) -> Tensor:
    """``x``, copied if it is a slice: a slice keeps all of the larger tensor alive."""
    return x.clone() if x.untyped_storage().nbytes() > x.nbytes else x
