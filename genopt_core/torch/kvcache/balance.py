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
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from genopt_core.checks import whole
from genopt_core.kvcache.balance import balanced_map, ridged
from genopt_core.kvcache.ladder import Side
from genopt_core.torch.kvcache import storage
from genopt_core.torch.kvcache.recall import checked_ids, evaluated, recall_probe
from genopt_core.torch.kvcache.settings import Settings, decoder_of, exactly, stair_places

FORMAT = "genopt-balance-1"
ONE_AT_A_TIME = threading.RLock()
"""Attention functions are those of all threads."""
QUERIES = 512
"""Queries whose attention is held at once."""
ALIKE = 0.05
"""How far a head's output may be from what our weights make of the values, as a part of its length.
32 roundings of its dtype come on top: in 16 bits large scores are rounded as well."""
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
    Balance(1 layer, 2 heads of 32 channels)
    """

    keys: tuple[Pair, ...]
    """Into and back, ``(heads, dim, dim)`` each, one pair a layer (book, eq. kv-balance)."""
    values: tuple[Pair, ...]

    def __repr__(self) -> str:
        """One line."""
        heads, dim, _ = self.keys[0][0].shape
        layers = counted(len(self.keys), "layer")
        return f"Balance({layers}, {counted(heads, 'head')} of {counted(dim, 'channel')})"

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

    The model attends as it is set to.  A bias of :mod:`genopt_core.integrations.positions`, a soft
    cap (Gemma 2) and learned sinks (GPT-OSS) have their part in :math:`p`; what else changes
    attention is refused, and so are models that cache latents.

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
    if Settings(evaluated(model).config).latents:
        raise ValueError(
            "model must cache keys and values of its heads, got one that caches latents in their "
            f"place ({type(model).__name__}): no cache takes a balance for these"
        )
    text = checked_ids(ids, model)
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

    def add(
        self,
        place: int,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        scale: float,
        softcap: float | None = None,
        bias: Tensor | None = None,
        sinks: Tensor | None = None,
    ) -> Tensor:
        """Take in one pass over a text, ``(batch, heads, tokens, dim)``.

        ``bias`` is (heads, tokens), by distance, and ``sinks`` are scores of no key, (heads,), both
        of query heads.  The result is what attention puts out, ``(batch, heads, tokens, dim)``.
        """
        heads, tokens = key.shape[1:3]
        ages = torch.arange(tokens, device=key.device)
        closed = (tokens - self.sink) // self.chunk * self.chunk
        coded = slice(self.sink, self.sink + closed)
        q, k, v = query.float().unflatten(1, (heads, -1)), key.float(), value.float()
        by_chunk = k[:, :, coded].unflatten(2, (-1, self.chunk))
        centered = (by_chunk - by_chunk.mean(3, keepdim=True)).flatten(2, 3)
        on_keys = k.new_zeros(*k.shape[:2], closed)
        read = k.new_zeros(heads, q.shape[-1], q.shape[-1])
        outs = []
        for first in range(0, tokens, QUERIES):
            part = q[..., first : first + QUERIES, :]
            age = ages[first : first + QUERIES, None] - ages
            scores = part @ k.unsqueeze(2).mT * scale
            if softcap is not None:
                scores = scores.div_(softcap).tanh_().mul_(softcap)
            if bias is not None:
                scores += bias.float().unflatten(0, (heads, -1))[..., age.clamp(min=0)]
            weight = _softmax(scores.masked_fill_(age < 0, -torch.inf), sinks)
            outs.append((weight.flatten(2, 3) @ v).view(*part.shape[:-1], -1))
            weight = weight[..., coded].square_()
            weight.mul_(age[:, coded] >= self.chunk)
            on_keys += weight.sum((2, 3))
            read += torch.einsum("bhgt,bhgti,bhgtj->hij", weight.sum(-1), part, part)
        sums = [
            torch.einsum("bht,bhti,bhtj->hij", on_keys, x, x) for x in (centered, v[:, :, coded])
        ]
        self.sums[place] = tuple(x.double() for x in (sums[0], read, sums[1]))
        return torch.cat(outs, 3).flatten(1, 2)


def _softmax(scores: Tensor, sinks: Tensor | None) -> Tensor:
    """Weights of keys, ``(batch, heads, queries of a head, queries, keys)``."""
    if sinks is None:
        return scores.softmax(-1)
    # a sink is one more score in the denominator and no key
    sink = sinks.float().reshape(*scores.shape[1:3], 1, 1).expand(*scores.shape[:-1], 1)
    return torch.cat([scores, sink], -1).softmax(-1)[..., :-1]


@contextlib.contextmanager
def _watched(model: Any, moments: _Moments) -> Iterator[None]:
    """For a while ``moments`` sees what goes into the attention of the model."""
    places, mine = set(moments.places), set(model.modules())
    name = decoder_of(model.config)._attn_implementation

    @torch.compiler.disable(reason="a balance is measured beside a compiled model")
    def watch(
        module: Any, query: Tensor, key: Tensor, value: Tensor, mask: Any, **given: Any
    ) -> Any:
        own = known or _eager(module)
        out = own(module, query, key, value, mask, **given)
        place = getattr(module, "layer_idx", None)
        if module not in mine or place not in places:
            return out
        scale = given.get("scaling")
        scale = query.shape[-1] ** -0.5 if scale is None else scale
        bias = getattr(module, "genopt_bias", None)  # of integrations.positions
        with exactly(query.device):
            table = None if bias is None else bias(query.shape[2], query.device)
            changes = given.get("softcap"), table, given.get("s_aux")
            again = moments.add(place, query, key, value, scale, *changes)
        if not _alike(out[0].transpose(1, 2), again):
            raise ValueError(
                "model must weigh keys by a softmax of their products with queries, with a bias of "
                "genopt_core.integrations.positions, softcap or s_aux at most, got attention "
                f"{name!r} that does otherwise in layer {place}"
            )
        return out

    with ONE_AT_A_TIME:
        known = ALL_ATTENTION_FUNCTIONS.get(name)
        # under the same name: masks, and what else a model does by it, stay what they are
        ALL_ATTENTION_FUNCTIONS[name] = watch
        try:
            yield
        finally:
            del ALL_ATTENTION_FUNCTIONS[name]
            if known is not None and ALL_ATTENTION_FUNCTIONS.get(name) is not known:
                ALL_ATTENTION_FUNCTIONS[name] = known


def _eager(module: Any) -> Callable[..., Any]:
    """The attention function "eager" of a module, which is registered nowhere."""
    for kind in type(module).__mro__:
        own = getattr(sys.modules.get(kind.__module__), "eager_attention_forward", None)
        if own is not None:
            return own
    raise ValueError(
        "model must have an eager_attention_forward beside its layers, or its attention set to "
        f"another than 'eager' by set_attn_implementation, got {type(module).__name__} without"
    )


def _alike(given: Tensor, again: Tensor) -> bool:
    """Whether outputs of attention are the same in each head, but for rounding."""
    x, y = given.float(), again
    gap, size = ((t.square().sum((0, 2, 3))).sqrt() for t in (x - y, x))
    most = ALIKE + 32 * torch.finfo(given.dtype).eps
    return not (gap > most * size).any()  # what is not finite is refused later


def counted(number: int, thing: str) -> str:
    """So many things, in words.

    >>> counted(1, "layer"), counted(2, "layer")
    ('1 layer', '2 layers')
    """
    return f"{number} {thing}{'s' * (number != 1)}"


def _pair(moment: np.ndarray, readers: np.ndarray) -> Pair:
    if not (np.isfinite(moment).all() and np.isfinite(readers).all()):
        raise ValueError("model must have finite keys, values and queries on ids, got others")
    into, back = balanced_map(ridged(moment), ridged(readers))
    return torch.from_numpy(into).float(), torch.from_numpy(back).float()
