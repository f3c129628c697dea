r"""The model token by token, over a cache that keeps all or loses bits with age."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import LlamaConfig

from genopt_core.checks import real, whole
from genopt_core.one_model import ModelConfig
from genopt_core.one_model.forward import check_packed
from genopt_core.torch.kvcache import StaircaseCache
from genopt_core.torch.kvcache.attention import attend_view
from genopt_core.torch.kvcache.layer import taken_from
from genopt_core.torch.kvcache.settings import NAME
from genopt_core.torch.model.decoder import Decoder, dense_attention
from genopt_core.torch.positions import DistanceBias
from genopt_core.torch.positions.bias import bias_block

__all__ = ["ModelCache", "generate"]

FURTHEST = -60.0
"""Bias that stands for all below it: in float32 such a key adds nothing, unless its content would
outweigh the nearest key's by :math:`e^{40}`."""


class ModelCache:
    """Keys and values of a :class:`~genopt_core.torch.model.Decoder`, in a staircase or in full.

    Parameters
    ----------
    config : ModelConfig
    ladder : sequence of int, or one such sequence a layer
        As of :class:`genopt_core.torch.kvcache.StaircaseCache`, as are all ``options``; ``(16,)``
        keeps everything as it came.

    Examples
    --------
    >>> config = ModelConfig(vocabulary=10)
    >>> model, cache = Decoder(config).eval(), ModelCache(config, (16, 4, 2), chunk=8)
    >>> _ = model(torch.ones(1, 40, dtype=torch.int64), cache)
    >>> cache.tokens, cache.nbytes() < ModelCache.full_bytes(config, 40)
    (40, True)
    >>> q = torch.ones(1, config.heads, 1, config.head_dim)
    >>> k = torch.ones(1, config.key_heads, 1, config.head_dim)
    >>> with torch.no_grad():
    ...     cache.attend(0, q, k, k, bias=None).shape
    torch.Size([1, 4, 1, 16])
    """

    def __init__(
        self,
        config: ModelConfig,
        ladder: Sequence[int] | Sequence[Sequence[int]] | str = (16,),
        **options: Any,
    ):
        each_layer = not isinstance(ladder, str) and isinstance((*ladder, 0)[0], Sequence)
        for one in ladder if each_layer else [ladder]:
            check_packed(config, one, options.get("codec", "rotated"))  # type: ignore[arg-type]
        described = LlamaConfig(
            hidden_size=config.width,
            num_attention_heads=config.heads,
            num_key_value_heads=config.key_heads,
            num_hidden_layers=config.layers,
            head_dim=config.head_dim,
        )
        described._attn_implementation = NAME  # the packed chunks are handed over as they are
        self.held = StaircaseCache(described, ladder, **options)  # type: ignore[arg-type]

    @property
    def tokens(self) -> int:
        """Tokens held by all layers."""
        return min(layer.get_seq_length() for layer in self.held.stair_layers)

    def nbytes(self) -> int:
        """Bytes held: codes, metadata and what is in full precision."""
        return self.held.nbytes()

    @staticmethod
    def full_bytes(config: ModelConfig, tokens: int, each: int = 4) -> int:
        """Bytes of a cache of numbers of ``each`` bytes that loses nothing, for one text."""
        return 2 * config.layers * config.key_heads * config.head_dim * tokens * each

    def attend(
        self, layer: int, query: Tensor, key: Tensor, value: Tensor, bias: DistanceBias | None
    ) -> Tensor:
        """Add ``key`` and ``value`` of new tokens; attention of their ``query`` to all.

        All are (batch, heads, tokens, head_dim), as is the result.
        """
        keys, _ = self.held.update(key, value, layer)
        view = taken_from(keys)
        assert view is not None  # the cache was told that its chunks are read as they are
        if not view.segments:
            return dense_attention(query, *view.unpacked(), bias)
        scale = query.shape[-1] ** -0.5
        if bias is None:
            return attend_view(query, view, scale, None)
        tokens, queries = self.held.stair_layers[layer].get_seq_length(), query.shape[2]
        line, size = bias.line(tokens, query.device, torch.float32)
        # exp takes many times as long where its result is below the normal numbers
        line = line.clamp_min(FURTHEST).masked_fill_(line == -torch.inf, -torch.inf)
        block = bias_block(line, size, tokens - 1, queries, tokens)[None]  # from the last query on
        return attend_view(query.flip(2), view, scale, block).flip(2)


@torch.no_grad()
def generate(
    model: Decoder,
    ids: Tensor,
    tokens: int,
    *,
    cache: ModelCache | None = None,
    temperature: float = 1.0,
    generator: torch.Generator | None = None,
) -> Tensor:
    """``ids`` (batch, tokens) and their continuation by so many tokens.

    Parameters
    ----------
    model : Decoder
        In evaluation.
    ids : (batch, at least 1) tensor of integers
    tokens : int
    cache : ModelCache, optional
        An empty one, or one that holds what comes before ``ids``; by default one in full.
    temperature : float
        0 takes the likeliest token.
    generator : ``torch.Generator``, optional
        By default PyTorch's own.

    Examples
    --------
    >>> model = Decoder(ModelConfig(vocabulary=5, width=8, heads=2)).eval()
    >>> generate(model, torch.tensor([[1, 2]]), 3, temperature=0).shape
    torch.Size([1, 5])
    """
    whole(tokens, "tokens")
    if real(temperature, "temperature") < 0:
        raise ValueError(f"temperature must be at least 0, got {temperature!r}")
    if model.training:
        raise ValueError("model must be in evaluation, got one in training; call model.eval()")
    cache = ModelCache(model.config) if cache is None else cache
    new = ids
    for _ in range(tokens):
        logits = model(new, cache)[:, -1]
        if temperature:
            chances = (logits / temperature).softmax(-1)
            new = torch.multinomial(chances, 1, generator=generator)
        else:
            new = logits.argmax(-1, keepdim=True)
        ids = torch.cat([ids, new], 1)
    return ids
