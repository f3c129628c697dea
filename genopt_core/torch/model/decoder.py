r"""The decoder, to be read from top to bottom.

A model of its own, not one of ``transformers``: it is as long as its mathematics, trains without
that library, and the forward pass in NumPy mirrors it line by line.  With plain RoPE and dense
attention it is Llama, which a test holds it to, weight for weight.
"""

from __future__ import annotations

import math
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from genopt_core.one_model import ModelConfig
from genopt_core.positions import inverse_frequencies
from genopt_core.torch.attention import DistanceLaw, PrFlashAttention, near, sample, sink
from genopt_core.torch.positions import (
    DistanceBias,
    LearnedSlopes,
    biased_attention,
    encoding,
    rotary_angles,
    rotate,
    with_linear_bias,
)

EPS = 1e-6


class Cache(Protocol):
    """What holds the keys and values of earlier tokens, and attends to them."""

    @property
    def tokens(self) -> int:
        """Tokens held by all layers."""

    def attend(
        self, layer: int, query: Tensor, key: Tensor, value: Tensor, bias: DistanceBias | None
    ) -> Tensor:
        """Add keys and values of new tokens; attention of their queries to all."""


class Decoder(nn.Module):
    """Logits of the next token after each token.

    Parameters
    ----------
    config : ModelConfig
    generator : ``torch.Generator``, optional
        Of the first weights, on the CPU; by default one of seed 0.  Models of one seed start with
        the same numbers whatever their switches are.
    draws : ``torch.Generator``, optional
        Of the blocks that PrFlashAttention draws in training; by default one of seed 0.

    Examples
    --------
    >>> model = Decoder(ModelConfig(vocabulary=10, width=8, heads=2, key_heads=1))
    >>> model(torch.tensor([[1, 2, 3]])).shape
    torch.Size([1, 3, 10])
    """

    def __init__(
        self,
        config: ModelConfig,
        generator: torch.Generator | None = None,
        draws: torch.Generator | None = None,
    ):
        super().__init__()
        self.config = config
        self.draws = torch.Generator().manual_seed(0) if draws is None else draws
        self.embedding = _weight(config.vocabulary, config.width)
        self.layers = nn.ModuleList(Layer(config, self.draws) for _ in range(config.layers))
        self.norm = nn.RMSNorm(config.width, eps=EPS)
        self._initialize(torch.Generator().manual_seed(0) if generator is None else generator)
        if config.rotated:
            self.frequencies = inverse_frequencies(config.head_dim, theta=config.theta)

    @torch.no_grad()
    def _initialize(self, generator: torch.Generator) -> None:
        """Normal weights: sums keep their size, and what joins the residual is smaller."""
        for name, weight in self.named_parameters():
            if weight.dim() < 2:
                continue  # norms are 1 and slopes have their law
            std = 0.02 if name == "embedding" else weight.shape[1] ** -0.5
            if name.endswith(("out", "down")):
                std /= math.sqrt(2 * self.config.layers)
            weight.normal_(std=std, generator=generator)

    def forward(self, ids: Tensor, cache: Cache | None = None) -> Tensor:
        """(batch, tokens, vocabulary) logits after ``ids`` (batch, tokens).

        With a cache the ids follow those that it holds.
        """
        x = functional.embedding(ids, self.embedding)
        first = 0 if cache is None else cache.tokens
        angles = None
        if self.config.rotated:
            angles = rotary_angles(torch.arange(first, first + ids.shape[1]), self.frequencies)
        for i, layer in enumerate(self.layers):
            x = layer(x, angles, i, cache)
        return functional.linear(self.norm(x), self.embedding)

    @property
    def parameter_count(self) -> int:
        """Numbers that are learned."""
        return sum(p.numel() for p in self.parameters())


class Layer(nn.Module):
    """Attention and a gated network, each after a norm and added to what came in."""

    def __init__(self, config: ModelConfig, draws: torch.Generator):
        super().__init__()
        self.config, keys = config, config.key_heads * config.head_dim
        self.norm_1, self.norm_2 = (nn.RMSNorm(config.width, eps=EPS) for _ in range(2))
        self.query, self.out = (_weight(config.width, config.width) for _ in range(2))
        self.key, self.value = (_weight(keys, config.width) for _ in range(2))
        self.gate, self.up = (_weight(config.hidden, config.width) for _ in range(2))
        self.down = _weight(config.width, config.hidden)
        options: dict[str, Any] = {}
        if config.positions not in ("nope", "rope"):
            options = {"total": config.slopes, "learned": config.learned}
        self.bias = encoding(config.positions, config.heads, **options).bias
        self.blocks = None
        if config.density is not None:
            law = sample(DistanceLaw.harmonic(), density=config.density, each="head")
            self.blocks = PrFlashAttention(
                sink(1) | near(1) | law, block=config.block, generator=draws
            )

    def forward(self, x: Tensor, angles: Tensor | None, i: int, cache: Cache | None) -> Tensor:
        """The residual stream after this layer, number ``i``."""
        h = self.norm_1(x)
        q, k, v = (
            functional.linear(h, w).unflatten(-1, (-1, self.config.head_dim)).transpose(1, 2)
            for w in (self.query, self.key, self.value)
        )
        if angles is not None:
            q, k = rotate(q, angles), rotate(k, angles)
        out = self._attend(q, k, v) if cache is None else cache.attend(i, q, k, v, self.bias)
        x = x + functional.linear(out.transpose(1, 2).flatten(2), self.out)
        h = self.norm_2(x)
        gated = functional.silu(functional.linear(h, self.gate)) * functional.linear(h, self.up)
        return x + functional.linear(gated, self.down)

    def _attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        if self.blocks is None or not self.training:  # on average the drawn blocks are all of them
            return dense_attention(q, k, v, self.bias)
        scale = self.config.head_dim**-0.5
        if self.bias is None:
            return self.blocks(q, k, v, scale=scale)
        # as two channels: gradients of a table of biases take several times as long as attention
        m = self.bias.strengths
        slopes = m() if isinstance(m, LearnedSlopes) else torch.as_tensor(m)
        q, k = with_linear_bias(q, k, slopes, scale)
        return self.blocks(q, k, functional.pad(v, (0, 2)), scale=scale)[..., :-2]


def dense_attention(q: Tensor, k: Tensor, v: Tensor, bias: DistanceBias | None) -> Tensor:
    """Causal attention of the last queries to all keys, with a bias or without."""
    if bias is not None:
        return biased_attention(q, k, v, bias)
    queries, tokens = q.shape[2], k.shape[2]
    mask = None
    if 1 < queries < tokens:
        mask = torch.ones(queries, tokens, dtype=torch.bool, device=q.device)
        mask = mask.tril(tokens - queries)
    return functional.scaled_dot_product_attention(
        q, k, v, attn_mask=mask, is_causal=queries == tokens > 1, enable_gqa=True
    )


def _weight(rows: int, columns: int) -> nn.Parameter:
    """A matrix whose numbers come later, from the model's generator and not PyTorch's own."""
    return nn.Parameter(torch.empty(rows, columns))
