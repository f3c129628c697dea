r"""The linear maps in which a model's keys and values are coded best, measured on a text.

>>> from transformers import LlamaConfig, LlamaForCausalLM
>>> from genopt_core.torch.kvcache import StaircaseCache
>>> sizes = dict(hidden_size=32, intermediate_size=32, num_attention_heads=2, vocab_size=50)
>>> model = LlamaForCausalLM(LlamaConfig(num_hidden_layers=2, **sizes)).eval()
>>> ids = torch.arange(160)[None] % 50
>>> balance = measure_balance(model, ids, chunk=16)
>>> balance
Balance(2 layers, 2 heads of 16 channels)
>>> cache = StaircaseCache(model.config, "16/4/2", chunk=16, balance=balance)
"""

import contextlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

from genopt_core.checks import whole
from genopt_core.kvcache.balance import balanced_map, ridged
from genopt_core.kvcache.ladder import Side
from genopt_core.torch.kvcache import storage
from genopt_core.torch.kvcache.recall import checked_ids, recall_probe
from genopt_core.torch.kvcache.settings import Settings, decoder_of, exactly, stair_places

WATCH = "genopt_watch"
FORMAT = "genopt-balance-1"
QUERIES = 512
"""Queries whose attention is held at once."""
Pair = tuple[Tensor, Tensor]


@dataclass(frozen=True, eq=False)
class Balance:
    """For each layer that steps down, the maps of its keys and of its values.

    :func:`measure_balance` makes it; a :class:`~genopt_core.torch.kvcache.StaircaseCache` takes it.
    It belongs to the model, as weights do, and is no part of a cache's bytes.

    >>> from transformers import LlamaConfig
    >>> config = LlamaConfig(hidden_size=64, num_attention_heads=2, num_hidden_layers=1)
    >>> one = torch.eye(32).expand(2, 32, 32)
    >>> balance = Balance(((one, one),), ((one, one),))
    >>> [sorted(maps) for maps in balance.maps(1, Settings(config))]
    [['key', 'value']]
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     balance.save(f"{folder}/balance.safetensors")
    ...     Balance.load(f"{folder}/balance.safetensors")
    Balance(1 layers, 2 heads of 32 channels)
    """

    keys: tuple[Pair, ...]
    """Into and back, ``(heads, dim, dim)`` each, one pair a layer (book, eq. kv-balance)."""
    values: tuple[Pair, ...]

    def __repr__(self) -> str:
        """One line."""
        heads, dim, _ = self.keys[0][0].shape
        return f"Balance({len(self.keys)} layers, {heads} heads of {dim} channels)"

    def maps(self, count: int, settings: Settings) -> list[dict[Side, Pair]]:
        """Those of each layer, if they are for ``count`` layers and these settings."""
        dim = self.keys[0][0].shape[-1]
        if settings.codec != "rotated":
            raise ValueError(f"balance must go with codec 'rotated', got {settings.codec!r}")
        if (len(self.keys), dim) != (count, settings.head_dim):
            raise ValueError(
                f"balance must be of {count} layers with heads of {settings.head_dim} channels, as "
                f"the model has, got {len(self.keys)} with {dim}"
            )
        pairs = zip(self.keys, self.values, strict=True)
        return [{"key": key, "value": value} for key, value in pairs]

    @property
    def digest(self) -> str:
        """SHA-256 of all maps."""
        return storage.digest(self._tensors())

    def _tensors(self) -> dict[str, Tensor]:
        sides = (("k", self.keys), ("v", self.values))
        return {
            f"{i}.{side}.{name}": x
            for side, pairs in sides
            for i, pair in enumerate(pairs)
            for name, x in zip(("into", "back"), pair, strict=True)
        }

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write all maps to one file, whole or not at all."""
        storage.write(path, self._tensors(), len(self.keys), FORMAT)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read what :meth:`save` wrote.

        Raises ``FileNotFoundError`` if there is no such file.
        """
        tensors, count = storage.read(path, FORMAT, "balance")
        keys, values = (
            tuple((tensors[f"{i}.{s}.into"], tensors[f"{i}.{s}.back"]) for i in range(count))
            for s in "kv"
        )
        return cls(keys, values)


@torch.no_grad()
def measure_balance(
    model: Any,
    ids: Tensor,
    *,
    chunk: int = 128,
    sink: int = 4,
    recall: bool = True,
) -> Balance:
    r"""Maps of all heads, from what attention does on a text (book, eq. kv-balance).

    .. math:: \Sigma_k = \sum_{t, j} p_{tj}^2\, (k_j - \bar k)(k_j - \bar k)^\top, \qquad
              \Sigma_q = \sum_{t, j} p_{tj}^2\, q_t q_t^\top, \qquad
              \Sigma_v = \sum_{t, j} p_{tj}^2\, v_j v_j^\top

    with :math:`\bar k` the mean key of a chunk, over queries and keys that are a chunk or more
    apart, without sinks, as only those are coded.
    Squared attention is the weight with which an error counts (book, eq. kv-mass).  An error of
    values counts alike in all directions.  One pass over the text; half a minute for 3,000 tokens
    and 135 million parameters.

    Parameters
    ----------
    model : transformers model
        In evaluation mode, with the layers that a :class:`StaircaseCache` takes.
    ids : (batch, tokens) int tensor
        The text; more than a thousand tokens of the kinds that the model will read.
    chunk, sink : int
        Those of the cache.
    recall : bool
        Put random pairs in front that come again at the end, see
        :func:`~genopt_core.torch.kvcache.recall_probe`.
    """
    if model.training:
        raise ValueError("model must be in evaluation mode, call model.eval() first")
    text = checked_ids(ids)
    whole(chunk, "chunk"), whole(sink, "sink", least=0)
    if text.shape[1] < sink + 2 * chunk:
        raise ValueError(
            f"ids must be at least sink + 2 chunks, {sink + 2 * chunk} tokens, got {text.shape[1]}"
        )
    if recall:
        text = recall_probe(text)
    moments = _Moments(stair_places(model.config), chunk, sink)
    with _watched(model, moments):
        model(text, use_cache=False, logits_to_keep=1)
    found = [moments.of(place) for place in moments.places]
    keys = tuple(_pair(k, q) for k, q, _ in found)
    values = tuple(_pair(v, np.broadcast_to(np.eye(v.shape[-1]), v.shape)) for _, _, v in found)
    return Balance(keys, values)


@dataclass(eq=False)
class _Moments:
    """Weighted sums over keys, queries and values of the layers of ``places``."""

    places: Sequence[int]
    chunk: int
    sink: int
    sums: dict[int, tuple[Tensor, ...]] = field(default_factory=dict)

    def of(self, place: int) -> tuple[np.ndarray, ...]:
        """Moments of keys, queries and values, ``(heads, dim, dim)``."""
        if place not in self.sums:
            raise ValueError(
                f"model must choose its attention by set_attn_implementation, layer {place} did not"
            )
        return tuple(x.cpu().numpy() for x in self.sums[place])

    def add(self, place: int, query: Tensor, key: Tensor, value: Tensor, scale: float) -> None:
        """Take in one pass over a text, ``(batch, heads, tokens, dim)``."""
        heads, tokens = key.shape[1:3]
        ages = torch.arange(tokens, device=key.device)
        closed = (tokens - self.sink) // self.chunk * self.chunk
        coded = slice(self.sink, self.sink + closed)
        q, k, v = query.float().unflatten(1, (heads, -1)), key.float(), value.float()
        by_chunk = k[:, :, coded].unflatten(2, (-1, self.chunk))
        centered = (by_chunk - by_chunk.mean(3, keepdim=True)).flatten(2, 3)
        on_keys = k.new_zeros(*k.shape[:2], closed)
        read = k.new_zeros(heads, q.shape[-1], q.shape[-1])
        for first in range(0, tokens, QUERIES):
            part = q[..., first : first + QUERIES, :]
            age = ages[first : first + QUERIES, None] - ages
            scores = part @ k.unsqueeze(2).mT * scale
            weight = scores.masked_fill_(age < 0, -torch.inf).softmax(-1)[..., coded].square_()
            weight.mul_(age[:, coded] >= self.chunk)
            on_keys += weight.sum((2, 3))
            read += torch.einsum("bhgt,bhgti,bhgtj->hij", weight.sum(-1), part, part)
        sums = [
            torch.einsum("bht,bhti,bhtj->hij", on_keys, x, x) for x in (centered, v[:, :, coded])
        ]
        self.sums[place] = tuple(x.double() for x in (sums[0], read, sums[1]))


@contextlib.contextmanager
def _watched(model: Any, moments: _Moments) -> Iterator[None]:
    """The model's attention is SDPA for a while, and ``moments`` sees what goes in."""
    places = set(moments.places)

    def watch(
        module: Any, query: Tensor, key: Tensor, value: Tensor, mask: Any, **given: Any
    ) -> Any:
        if module.layer_idx in places:
            scale = given.get("scaling")
            scale = query.shape[-1] ** -0.5 if scale is None else scale
            with exactly(query.device):
                moments.add(module.layer_idx, query, key, value, scale)
        return sdpa_attention_forward(module, query, key, value, mask, **given)

    AttentionInterface.register(WATCH, watch)
    AttentionMaskInterface.register(WATCH, sdpa_mask)
    before = decoder_of(model.config)._attn_implementation
    model.set_attn_implementation(WATCH)
    try:
        yield
    finally:
        model.set_attn_implementation(before)


def _pair(moment: np.ndarray, readers: np.ndarray) -> Pair:
    if not (np.isfinite(moment).all() and np.isfinite(readers).all()):
        raise ValueError("model must have finite keys, values and queries on ids, got others")
    into, back = balanced_map(ridged(moment), ridged(readers))
    return torch.from_numpy(into).float(), torch.from_numpy(back).float()
