r"""The staircase cache (SAQ) of one attention head, one decode step after the other.

This is the specification: it follows the paper's key-cache algorithm line by line and favors
reading over speed.  :class:`genopt_core.torch.kvcache.StaircaseCache` is the same for a model.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from genopt_core.attention import attend, attend_segments
from genopt_core.checks import one_of, whole
from genopt_core.kvcache.codec import Codec, GridCodec, Packed, RotatedCodec
from genopt_core.kvcache.ladder import (
    FULL,
    Side,
    Stair,
    cache_bits,
    check_ladder,
    merge_stairs,
    width_at,
)
from genopt_core.kvcache.rotated import hadamard_rotation

Chunk = Packed | np.ndarray  # a closed chunk: packed, or as it came while its width is 16


@dataclass
class _SideCache:
    """Keys or values: sink tokens, closed chunks (oldest first), open residual."""

    codec: Codec
    ladder: tuple[int, ...]
    sink: np.ndarray
    chunks: list[Chunk]
    residual: np.ndarray

    def restore(self, chunk: Chunk) -> np.ndarray:
        return self.codec.decode(chunk) if isinstance(chunk, Packed) else chunk

    def lower(self, chunk: Chunk, bits: int) -> Chunk:
        """The chunk at ``bits``; itself if it is there already."""
        if bits == FULL or (isinstance(chunk, Packed) and chunk.bits == bits):
            return chunk
        if isinstance(chunk, Packed):
            return self.codec.step(chunk, bits)
        return self.codec.encode(chunk, bits)

    def parts(self) -> Iterator[np.ndarray]:
        yield self.sink
        yield from map(self.restore, self.chunks)
        yield self.residual

    def nbytes(self) -> int:
        return sum(part.nbytes for part in (self.sink, *self.chunks, self.residual))


class Staircase:
    r"""A key and value cache whose tokens lose bits as they age (book, algorithm kv-saq).

    The newest tokens are a full-precision *residual*.  When it holds ``chunk`` tokens it is
    closed at the ladder's second width, and every older chunk goes one stair down until it lies on
    the floor, where it stays: a flush touches at most ``len(ladder) - 1`` chunks, whatever the
    length.  With ``ladder=(16, b)`` and ``values="window"`` this is KIVI at ``b`` bits.

    Parameters
    ----------
    ladder : sequence of int
        Widths of keys from new to old, see :func:`~.check_ladder`.
    value_ladder : sequence of int, optional
        Widths of values; by default those of keys.
    chunk : int
        Tokens :math:`S` of a closed chunk.
    sink : int
        First tokens that are kept in full precision.  The paper has none; attention leans on
        the first tokens, which its ladder would put on the floor.
    codec : {"grid", "rotated"}
        ``"grid"`` is the paper's (and KIVI's) min-max grid; ``"rotated"`` with sinks is what the
        book calls SAQ+.
    group_size : int
        Numbers a scale is shared by, for ``"grid"``.
    values : {"flush", "window"}
        ``"flush"`` closes value chunks together with key chunks.  ``"window"`` is KIVI's way:
        each value token leaves a sliding window of ``chunk`` tokens alone.  The paper's text does
        not say which.
    meta_dtype : float dtype
        Of the grid's steps and minima.
    rng : numpy.random.Generator, optional
        Draws the rotation's signs; by default seeded with 0.

    Notes
    -----
    Sources: arXiv 2410.18441, SAQ; arXiv 2402.02750, KIVI.

    >>> cache = Staircase((16, 8, 4, 2), chunk=32)
    >>> x = np.random.default_rng(5).normal(size=(200, 32)).astype(np.float16)
    >>> _ = cache.append(x, x)
    >>> [(stair.last - stair.first, stair.bits) for stair in cache.stairs()]
    [(128, 2), (32, 4), (32, 8), (8, 16)]

    Examples
    --------
    >>> prompt = Staircase((16, 8, 4, 2), chunk=32)
    >>> prompt.prefill(x, x)
    >>> prompt.nbytes() == cache.nbytes() == cache.expected_bytes()
    True
    >>> round(cache.bits_per_element(), 2), cache.attend(np.ones((1, 32))).shape
    (4.8, (1, 32))
    >>> cache.length
    Traceback (most recent call last):
    AttributeError: 'Staircase' object has no attribute 'length'
    """

    def __init__(
        self,
        ladder: Sequence[int] = (16, 8, 4, 2),
        *,
        value_ladder: Sequence[int] | None = None,
        chunk: int = 128,
        sink: int = 0,
        codec: Literal["grid", "rotated"] = "grid",
        group_size: int = 32,
        values: Literal["flush", "window"] = "flush",
        meta_dtype: npt.DTypeLike = np.float16,
        rng: np.random.Generator | None = None,
    ):
        self.ladder = check_ladder(ladder)
        self.value_ladder = (
            self.ladder if value_ladder is None else check_ladder(value_ladder, "value_ladder")
        )
        self.chunk, self.sink = whole(chunk, "chunk"), whole(sink, "sink", least=0)
        self.codec = one_of(codec, "codec", ("grid", "rotated"))
        self.values_policy = one_of(values, "values", ("flush", "window"))
        self.group_size, self.meta_dtype = group_size, np.dtype(meta_dtype)
        self._rng = np.random.default_rng(0) if rng is None else rng
        self._keys: _SideCache | None = None
        self._values: _SideCache | None = None

    # ------------------------------------------------------------ filling

    def append(
        self, keys: npt.ArrayLike, values: npt.ArrayLike, queries: npt.ArrayLike | None = None
    ) -> np.ndarray | None:
        """Add tokens one decode step at a time; with ``queries``, return each step's attention.

        A step attends to the cache as it is, the new token and the whole residual in full
        precision, and only then closes a chunk (KIVI's code does the same).  Keys and queries are
        (tokens, dim), values and what is returned (tokens, value_dim).  Numbers that are refused
        leave the cache as it was.
        """
        k, v = self._checked(keys, values)
        q = None if queries is None else np.asarray(queries)
        if q is not None and q.shape != k.shape:
            raise ValueError(f"queries must have the shape of keys, {k.shape}, got {q.shape}")
        outputs = []
        for t in range(len(k)):
            self._push(k[t : t + 1], v[t : t + 1])
            if q is not None:
                outputs.append(self.attend(q[t : t + 1])[0])
            self._flush()
        return None if q is None else np.array(outputs).reshape(len(k), v.shape[1])

    def prefill(self, keys: npt.ArrayLike, values: npt.ArrayLike) -> None:
        """Take a whole prompt: each chunk goes straight to the width of its age.

        Quantized from the exact numbers, which a cache grown by :meth:`append` no longer has; on
        nested ladders the codes are the same.
        """
        if len(self):
            raise ValueError(f"prefill needs an empty cache, this one holds {len(self)} tokens")
        k, v = self._checked(keys, values)
        self._push(k, v)
        for side in self._sides():
            window = side is self._values and self.values_policy == "window"
            size = 1 if window else self.chunk
            closed = max(0, len(side.residual) - self.chunk) if window else len(side.residual)
            for i in range(closed // size):
                # a window token of age a is on stair a // S; a chunk's age is its own number
                age = (len(side.residual) - 1 - i) // self.chunk if window else closed // size - i
                part = side.residual[i * size : (i + 1) * size].copy()
                side.chunks.append(side.lower(part, width_at(age, side.ladder)))
            side.residual = side.residual[closed // size * size :].copy()

    def _push(self, k: np.ndarray, v: np.ndarray) -> None:
        for side, new in zip(self._sides(), (k, v), strict=True):
            free = self.sink - len(side.sink)
            side.sink = np.concatenate([side.sink, new[:free]]) if free else side.sink
            side.residual = np.concatenate([side.residual, new[free:]])

    def _flush(self) -> None:
        """Step 4 of the paper's algorithm, for keys, and for values under either policy."""
        for side in self._sides():
            if side is self._values and self.values_policy == "window":
                self._slide(side)
            elif len(side.residual) == self.chunk:
                side.chunks.append(side.residual)
                for i in range(1, min(len(side.chunks), len(side.ladder) - 1) + 1):
                    # the tail beyond the ladder is on the floor: re-coding it changes nothing,
                    # and the paper's loop over it would cost time in proportion to the length
                    side.chunks[-i] = side.lower(side.chunks[-i], width_at(i, side.ladder))
                side.residual = side.residual[:0].copy()

    def _slide(self, side: _SideCache) -> None:
        """Values one by one: the oldest leaves the window, and one token per stair steps down."""
        while len(side.residual) > self.chunk:
            side.chunks.append(side.residual[:1].copy())
            side.residual = side.residual[1:].copy()
            for i in range(1, len(side.ladder)):
                age = i * self.chunk  # the token that reaches this age now
                index = len(side.chunks) + self.chunk - 1 - age
                if index >= 0:
                    side.chunks[index] = side.lower(side.chunks[index], width_at(i, side.ladder))

    # ------------------------------------------------------------ reading

    def attend(self, queries: npt.ArrayLike) -> np.ndarray:
        """Attention of ``(queries, dim)``, one chunk after the other (book, eq. kv-softmax)."""
        keys, values = self._sides()
        if self.values_policy == "window":  # the two sides are cut at different places
            return attend(queries, self.keys, self.values)[0]
        return attend_segments(queries, zip(keys.parts(), values.parts(), strict=True))

    @property
    def keys(self) -> np.ndarray:
        """Restored ``(tokens, dim)`` keys."""
        return np.concatenate(list(self._sides()[0].parts()))

    @property
    def values(self) -> np.ndarray:
        """Restored ``(tokens, value_dim)`` values."""
        return np.concatenate(list(self._sides()[1].parts()))

    def __len__(self) -> int:
        if self._keys is None:
            return 0
        return len(self._keys.sink) + self.chunk * len(self._keys.chunks) + len(self._keys.residual)

    def stairs(self, side: Side = "key") -> list[Stair]:
        """Stairs really held, oldest first, merged as by :func:`~.merge_stairs`."""
        keys, values = self._sides()
        held = keys if side == "key" else values
        size = 1 if side == "value" and self.values_policy == "window" else self.chunk
        bits = [chunk.bits if isinstance(chunk, Packed) else FULL for chunk in held.chunks]
        return merge_stairs(len(held.sink), [(size, b) for b in bits], len(held.residual))

    def nbytes(self) -> int:
        """Bytes held by codes, metadata, sinks and residual."""
        return sum(side.nbytes() for side in self._sides()) if len(self) else 0

    def bits_per_element(self) -> float:
        """Bits held over numbers cached."""
        return 8 * self.nbytes() / sum(len(self) * side.sink.shape[1] for side in self._sides())

    def expected_bytes(self) -> float:
        """What eq. kv-memory says that :meth:`nbytes` is, for ``values="flush"``."""
        total = 0.0
        for side in self._sides():
            dim = side.sink.shape[1]
            bits = cache_bits(
                len(self),
                side.ladder,
                self.chunk,
                metadata=side.codec.metadata_bits(dim, self.chunk),
                sink=self.sink,
                full_bits=side.sink.itemsize * 8,
            )
            total += dim * bits / 8
        return total

    # ------------------------------------------------------------ checking

    def _checked(self, keys: npt.ArrayLike, values: npt.ArrayLike) -> tuple[np.ndarray, np.ndarray]:
        k, v = np.asarray(keys), np.asarray(values)
        for name, x in (("keys", k), ("values", v)):
            if x.dtype.kind != "f":
                raise TypeError(f"{name} must be floating-point numbers, got {x.dtype}")
            if x.ndim != 2 or not x.size:
                raise ValueError(f"{name} must be a filled (tokens, dim) array, got {x.shape}")
            if not np.isfinite(x).all():
                raise ValueError(f"{name} must be finite, they hold NaN or infinity")
            most = self._largest(self.ladder if name == "keys" else self.value_ladder)
            if np.abs(x).max() > most:
                raise ValueError(
                    f"{name} must not exceed {most:.3g}, the most that the metadata can hold, got "
                    f"{np.abs(x).max():.3g}"
                )
        if len(k) != len(v):
            raise ValueError(f"keys and values must be as many, got {len(k)} and {len(v)}")
        if self._keys is None or self._values is None:
            rotations: dict[int, np.ndarray] = {}
            self._keys = self._side("key", self.ladder, k, rotations)
            self._values = self._side("value", self.value_ladder, v, rotations)
        for name, x, side in (("keys", k, self._keys), ("values", v, self._values)):
            if x.shape[1] != side.sink.shape[1] or x.dtype != side.sink.dtype:
                raise ValueError(
                    f"{name} must continue a cache of {side.sink.shape[1]} {side.sink.dtype} "
                    f"channels, got {x.shape[1]} {x.dtype} channels"
                )
        return k, v

    def _largest(self, ladder: tuple[int, ...]) -> float:
        """Largest magnitude whose step, minimum, mean and gain all fit the metadata."""
        if ladder[-1] == FULL:
            return np.inf
        return float(np.finfo(self.meta_dtype if self.codec == "grid" else np.float16).max) / 4

    def _side(
        self, side: Side, ladder: tuple[int, ...], x: np.ndarray, rotations: dict[int, np.ndarray]
    ) -> _SideCache:
        dim = x.shape[1]
        codec: Codec
        if self.codec == "grid":
            codec = GridCodec(side, self.group_size, self.meta_dtype)
        else:
            if dim not in rotations:
                rotations[dim] = hadamard_rotation(dim, self._rng)
            codec = RotatedCodec(side, rotations[dim])
        codec.check([width for width in ladder if width != FULL], dim, self.chunk)
        return _SideCache(codec, ladder, x[:0].copy(), [], x[:0].copy())

    def _sides(self) -> tuple[_SideCache, _SideCache]:
        if self._keys is None or self._values is None:
            raise ValueError("the cache is empty")
        return self._keys, self._values
