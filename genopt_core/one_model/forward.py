r"""The forward pass in NumPy, whole or token by token, as a browser runs it.

Line by line what :mod:`genopt_core.torch.model` computes, for one text and without gradients.
"""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple, Self

import numpy as np
import numpy.typing as npt
from numpy.typing import NDArray

from genopt_core.kvcache import FULL, Staircase, check_ladder, plane_widths
from genopt_core.kvcache.rotated import ROTATED_BITS
from genopt_core.one_model.blocks import DrawnBlocks
from genopt_core.one_model.config import ModelConfig
from genopt_core.positions import bias_by_distance, inverse_frequencies, rotary_angles, slopes
from genopt_core.positions import rotate as rotated

EPS = 1e-6
FORMAT = "genopt-model-1"
DTYPES = {"F16": np.float16, "F32": np.float32, "F64": np.float64}
Array = NDArray[np.float32]


class Attended(NamedTuple):
    """What happened in the attention of one layer.

    >>> from genopt_core.one_model import Forward, ModelConfig
    >>> model = Forward.random(ModelConfig(vocabulary=10), np.random.default_rng(0))
    >>> seen: list[Attended] = []
    >>> _ = model.logits([1, 2, 3], seen=seen)
    >>> len(seen), seen[0].scores.shape
    (2, (4, 3, 3))
    """

    query: Array
    """(heads, queries, head_dim), before it is turned."""
    key: Array
    """(key_heads, queries, head_dim) of the new tokens, before they are turned."""
    scores: Array
    """(heads, queries, tokens) after turning, over keys as the cache gives them back."""
    biased: Array
    """The same with the distance bias and the weights of drawn blocks (book, eq. one-scores); minus
    infinity is left out."""
    weights: Array
    """Their softmax."""


@dataclass(frozen=True, eq=False)
class Forward:
    """A trained model.

    Parameters
    ----------
    config : ModelConfig
    weights : mapping of names to arrays
        Those of a model's file.
    tokenizer : str
        Digest of the tokenizer it was trained with, if that is known.

    Examples
    --------
    >>> model = Forward.random(ModelConfig(vocabulary=10), np.random.default_rng(0))
    >>> model.logits([1, 2, 3]).shape
    (3, 10)
    >>> Forward.load("nowhere.safetensors")
    Traceback (most recent call last):
    FileNotFoundError: there is no file at nowhere.safetensors
    """

    config: ModelConfig
    weights: Mapping[str, Array]  # in float32
    tokenizer: str = ""
    _slopes: list[NDArray[np.float64] | None] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        found = {name: np.asarray(w, dtype=np.float32) for name, w in self.weights.items()}
        shapes = _shapes(self.config)
        wrong = {n for n in shapes if n not in found or found[n].shape != shapes[n]}
        if wrong or found.keys() != shapes.keys():
            names = sorted(wrong | (found.keys() ^ shapes.keys()))
            raise ValueError(f"weights must be those of the configuration, got others: {names}")
        object.__setattr__(self, "weights", found)
        each = [self._slopes_of(i) for i in range(self.config.layers)]
        object.__setattr__(self, "_slopes", each)

    @classmethod
    def load(cls, path: str | os.PathLike[str], tokenizer: str = "") -> Self:
        """The model of a file that :func:`genopt_core.torch.model.save_model` wrote.

        With the digest of a tokenizer, a file of another one is refused.

        Raises
        ------
        FileNotFoundError
            If there is no such file.
        """
        weights, metadata = read_safetensors(path)
        if metadata.get("format") != FORMAT:
            raise ValueError(f"{path} must have the format {FORMAT}, got {metadata.get('format')}")
        content = json.loads(metadata["content"])
        if tokenizer and content["tokenizer"] != tokenizer:
            raise ValueError(
                f"tokenizer must be the one {path} was trained with, of digest "
                f"{content['tokenizer'][:12] or 'none'}, got {tokenizer[:12]}"
            )
        return cls(ModelConfig.from_json(content["config"]), weights, content["tokenizer"])

    @classmethod
    def random(cls, config: ModelConfig, rng: np.random.Generator) -> Self:
        """A model that has learned nothing."""
        weights: dict[str, Any] = {
            name: rng.normal(size=shape) * shape[-1] ** -0.5 if len(shape) > 1 else np.ones(shape)
            for name, shape in _shapes(config).items()
        }
        return cls(config, weights)

    def logits(
        self,
        ids: npt.ArrayLike | Sequence[int],
        cache: ForwardCache | None = None,
        *,
        blocks: DrawnBlocks | None = None,
        seen: list[Attended] | None = None,
    ) -> Array:
        """(tokens, vocabulary) logits after each of ``ids``, which follow those of a cache.

        Each layer adds to the vectors of the tokens twice (book, eq. one-layer), by scores of
        queries and keys (book, eq. one-scores) and by a gated network.

        With ``blocks`` queries meet those blocks of keys only.  To ``seen`` each layer adds what
        happened in its attention.
        """
        c, w = self.config, self.weights
        given = np.asarray(ids)
        if given.ndim != 1 or not given.size or not np.issubdtype(given.dtype, np.integer):
            raise ValueError(f"ids must be whole numbers in a row, got shape {given.shape}")
        if given.min() < 0 or given.max() >= c.vocabulary:
            raise ValueError(f"ids must be in [0, {c.vocabulary}), got {given.min()} and above")
        x = w["embedding"][given]
        first = 0 if cache is None else cache.tokens
        angles = None
        if c.rotated:
            frequencies = inverse_frequencies(c.head_dim, theta=c.theta)
            angles = rotary_angles(np.arange(first, first + len(given)), frequencies)
        for i in range(c.layers):
            h = _norm(x, w[f"layers.{i}.norm_1.weight"])
            q, k, v = (
                (h @ w[f"layers.{i}.{name}"].T).reshape(len(h), -1, c.head_dim).swapaxes(0, 1)
                for name in ("query", "key", "value")
            )
            straight = q, k
            if angles is not None:
                q, k = (rotated(y, angles).astype(np.float32) for y in (q, k))
            if cache is not None:
                k, v = cache.extended(i, k, v)
            scores, biased, weights = self._weights(i, q, k, blocks)
            if seen is not None:
                seen.append(Attended(*straight, scores, biased, weights))
            shared = weights.reshape(len(v), -1, v.shape[1])
            out = (shared @ v).reshape(q.shape).swapaxes(0, 1).reshape(len(h), -1)
            x = x + out @ w[f"layers.{i}.out"].T
            h = _norm(x, w[f"layers.{i}.norm_2.weight"])
            gate = h @ w[f"layers.{i}.gate"].T
            gated = gate / (1 + np.exp(-gate)) * (h @ w[f"layers.{i}.up"].T)
            x = x + gated @ w[f"layers.{i}.down"].T
        return _norm(x, w["norm.weight"]) @ w["embedding"].T

    def _weights(
        self, layer: int, q: Array, k: Array, blocks: DrawnBlocks | None
    ) -> tuple[Array, Array, Array]:
        """Scores of (heads, queries, dim) and all keys, with all that is added, and softmax."""
        heads, queries, dim = q.shape
        shared, tokens, _ = k.shape
        grouped = q.reshape(shared, heads // shared * queries, dim) * np.float32(dim**-0.5)
        scores: Any = (grouped @ k.swapaxes(1, 2)).reshape(heads, queries, tokens)
        biased: Any = scores
        distance = np.arange(tokens - queries, tokens)[:, None] - np.arange(tokens)
        m = self._slopes[layer]
        if m is not None:
            table = bias_by_distance(m, tokens).astype(np.float32)
            biased = biased + table[:, np.maximum(distance, 0)]
        if blocks is not None:
            biased = biased + blocks.between(layer, queries, tokens).astype(np.float32)
        if queries > 1:
            biased = np.where(distance >= 0, biased, np.float32(-np.inf))
        weights: Any = np.exp(biased - biased.max(-1, keepdims=True))
        weights /= weights.sum(-1, keepdims=True)
        return scores, biased, weights

    def _slopes_of(self, layer: int) -> NDArray[np.float64] | None:
        """Slopes of a layer's distance bias, learned or by their law."""
        c = self.config
        _, _, law = c.positions.rpartition("+")
        if law not in ("alibi", "harmonic"):
            return None
        if c.learned:
            return np.log1p(np.exp(self.weights[_raw(layer)].astype(np.float64)))
        kind: Any = "geometric" if law == "alibi" else "harmonic"
        return slopes(c.heads, kind, total=c.slopes)


class _Stairs(Staircase):
    """A staircase that remembers what its chunks restore to: less time, and memory beside it."""

    def __init__(self, *args: Any, **options: Any):
        super().__init__(*args, **options)
        self._restored: dict[int, tuple[Any, Array]] = {}

    def both(self) -> tuple[Array, Array]:
        """Restored keys and values."""
        seen: dict[int, tuple[Any, Array]] = {}
        whole: list[Array] = []
        for side in self._sides():
            parts = [side.sink]
            for chunk in side.chunks:
                held = self._restored.get(id(chunk), (None, side.sink))
                if held[0] is not chunk:  # a copy of a cache has other chunks
                    held = chunk, side.restore(chunk)
                seen[id(chunk)] = held  # which holds the chunk too: its number stays its own
                parts.append(held[1])
            whole.append(np.concatenate([*parts, side.residual]))
        self._restored = seen
        return whole[0], whole[1]


class ForwardCache:
    """Keys and values of a `Forward`, a staircase for each layer and key head.

    Bytes are those of the codes; what they restore to is remembered beside them, for speed.

    Parameters
    ----------
    config : ModelConfig
    ladder, chunk, sink, codec :
        As of :class:`genopt_core.kvcache.Staircase`, for keys and values.
    full_dtype : float dtype
        Of what is held in full precision.

    Examples
    --------
    >>> config = ModelConfig(vocabulary=10)
    >>> model, cache = Forward.random(config, np.random.default_rng(0)), ForwardCache(config)
    >>> model.logits([1, 2], cache).shape, model.logits([3], cache).shape, cache.tokens
    ((2, 10), (1, 10), 3)
    >>> copy = ForwardCache(config)
    >>> copy.take(cache)
    >>> copy.nbytes() == cache.nbytes(), copy.tokens
    (True, 3)
    >>> k = v = np.zeros((config.key_heads, 1, config.head_dim))
    >>> keys, values = copy.extended(0, k, v)
    >>> keys.shape == values.shape == (config.key_heads, 4, config.head_dim)
    True
    """

    def __init__(
        self,
        config: ModelConfig,
        ladder: Sequence[int] = (16,),
        *,
        chunk: int = 32,
        sink: int = 4,
        codec: Literal["grid", "rotated"] = "rotated",
        full_dtype: npt.DTypeLike = np.float32,
    ):
        check_packed(config, ladder, codec)
        self.full_dtype = np.dtype(full_dtype)
        if self.full_dtype.kind != "f":
            raise ValueError(f"full_dtype must be a floating-point dtype, got {self.full_dtype}")
        self.stairs = [
            [_Stairs(ladder, chunk=chunk, sink=sink, codec=codec) for _ in range(config.key_heads)]
            for _ in range(config.layers)
        ]

    @property
    def tokens(self) -> int:
        """Tokens held by all layers."""
        return min(len(head) for layer in self.stairs for head in layer)

    def nbytes(self) -> int:
        """Bytes held."""
        return sum(head.nbytes() for layer in self.stairs for head in layer)

    def take(self, full: ForwardCache) -> None:
        """Hold what a cache of the same model holds, if that has lost nothing.

        As if its text had been this one's prompt: a prompt sees itself as it is.
        """
        if any(head.ladder[-1] != FULL for layer in full.stairs for head in layer):
            raise ValueError("full must be a cache of the ladder (16,), got one that steps down")
        for own, other in zip(self.stairs, full.stairs, strict=True):
            for head, held in zip(own, other, strict=True):
                both = (x.astype(self.full_dtype) for x in held.both())
                head.prefill(*both)

    def extended(self, layer: int, k: Array, v: Array) -> tuple[Array, Array]:
        """All keys and values of a layer as this step attends to them; then it holds the new ones.

        ``k`` and ``v`` are (key_heads, queries, head_dim), the results have all tokens instead.

        A step sees what was held and its own tokens in full precision; chunks close afterwards.
        """
        found: list[tuple[Array, Array]] = []
        for head, new_k, new_v in zip(self.stairs[layer], k, v, strict=True):
            if len(head):
                held_k, held_v = head.both()
                found.append((np.concatenate([held_k, new_k]), np.concatenate([held_v, new_v])))
            else:
                found.append((new_k, new_v))
            held = new_k.astype(self.full_dtype), new_v.astype(self.full_dtype)
            (head.append if len(head) else head.prefill)(*held)
        keys, values = (np.stack([pair[i] for pair in found]) for i in range(2))
        return keys.astype(np.float32), values.astype(np.float32)


def check_packed(config: ModelConfig, ladder: Sequence[int] | str, codec: str) -> None:
    """Refuse a ladder whose codes a cache of such a model cannot have."""
    widths = [width for width in check_ladder(ladder) if width != FULL]
    if codec == "rotated" and any(width not in ROTATED_BITS for width in widths):
        accepted = ", ".join(map(str, (FULL, *reversed(ROTATED_BITS))))
        raise ValueError(
            f"ladder must have the widths {accepted} alone with codec 'rotated', got {ladder!r}"
        )
    for width in widths:
        if any(config.head_dim * plane % 8 for plane in plane_widths(width)):
            raise ValueError(
                f"width must give heads channels that fill bytes at {width} bits, got "
                f"{config.width} / {config.heads} = {config.head_dim}"
            )


def read_safetensors(path: str | os.PathLike[str]) -> tuple[dict[str, Array], dict[str, str]]:
    """Tensors of floating-point numbers, in float32, and the metadata of a safetensors file."""
    if not Path(path).is_file():
        raise FileNotFoundError(f"there is no file at {path}")
    content = Path(path).read_bytes()
    try:
        (size,) = struct.unpack("<Q", content[:8])
        header = json.loads(content[8 : 8 + size])
        metadata = header.pop("__metadata__", {})
        found = {}
        for name, row in header.items():
            first, last = (8 + size + at for at in row["data_offsets"])
            flat = np.frombuffer(content[first:last], dtype=DTYPES[row["dtype"]])
            found[name] = flat.reshape(row["shape"]).astype(np.float32)
    except (struct.error, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is torn or not a safetensors file of floats: {error}") from error
    return found, metadata


def _norm(x: Array, gain: Array) -> Array:
    return x / np.sqrt((x * x).mean(-1, keepdims=True) + np.float32(EPS)) * gain


def _raw(layer: int) -> str:
    return f"layers.{layer}.bias.strengths.raw"


def _shapes(c: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Shape of each weight by name."""
    keys = c.key_heads * c.head_dim
    found: dict[str, tuple[int, ...]] = {"embedding": (c.vocabulary, c.width)}
    for i in range(c.layers):
        rows = {"query": c.width, "out": c.width, "key": keys, "value": keys}
        rows |= {"gate": c.hidden, "up": c.hidden}
        found |= {f"layers.{i}.{name}": (n, c.width) for name, n in rows.items()}
        found[f"layers.{i}.down"] = (c.width, c.hidden)
        found |= {f"layers.{i}.norm_{j}.weight": (c.width,) for j in (1, 2)}
        if c.learned:
            found[_raw(i)] = (c.heads,)
    return {**found, "norm.weight": (c.width,)}
