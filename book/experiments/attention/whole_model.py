"""Every layer of SmolLM2 with block-sparse attention in its place: what its other scripts run.

All scores are computed and what a plan leaves out gets the weight 0, so that nothing here is fast;
that costs the same for every design, runs on any device, and pools rounds at once: sums of R plans
averaged are one softmax with the mean of their weights.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from book.experiments.attention.designs import Compared
from genopt_core.attention.blocks.estimators import FLOOR
from genopt_core.torch.attention import Plan

SLAB = 1024
"""Queries at once."""

Replace = Callable[[int, Tensor, Tensor, Tensor], Tensor]


def weights(plan: Plan, plain: bool) -> Tensor:
    """What a kept block's terms count, 0 for what is not kept; float32, as the plan's tables."""
    w = torch.ones_like(plan.pi) if plain else 1 / plan.pi.clamp_min(1e-300)
    return torch.where(plan.kept, w, 0.0).float()


def weighted_attention(q: Tensor, k: Tensor, v: Tensor, w: Tensor, difference: bool) -> Tensor:
    """Causal attention with a weight for each pair of blocks, and the difference estimator's fill.

    As ``pr_flash_attention`` for one plan; ``w`` (1 or batch, 1 or heads, blocks, blocks) may also
    be the mean over several.  Tokens must be a multiple of the block.
    """
    b, h, n, d = q.shape
    t = w.shape[-1]
    size = n // t
    k, v = (x.repeat_interleave(h // k.shape[1], 1) for x in (k, v))
    table = w.to(q.device, q.dtype).log().expand(b, h, t, t)
    ahead = torch.ones(size, size, dtype=torch.bool, device=q.device).triu(1)
    outs = []
    for start in range(0, n, SLAB):
        stop = min(start + SLAB, n)
        first, last = start // size, stop // size
        s = (q[:, :, start:stop] * d**-0.5) @ k[:, :, :stop].mT
        blocks = s.view(b, h, last - first, size, last, size)
        blocks += table[:, :, first:last, None, :last, None]
        for i in range(first, last):
            blocks[:, :, i - first, :, i].masked_fill_(ahead, float("-inf"))
        if not difference:
            outs.append(s.softmax(-1) @ v[:, :, :stop])
            continue
        lse = s.logsumexp(-1, keepdim=True)
        out = s.sub_(lse).exp_() @ v[:, :, :stop]
        means_k, means_v = (x[:, :, :stop].unflatten(2, (last, size)).mean(3) for x in (k, v))
        c = (1 - w.to(q.device, q.dtype).expand(b, h, t, t)).tril(-1)[:, :, first:last, :last]
        c = c.repeat_interleave(size, 2)
        u = (q[:, :, start:stop] * d**-0.5) @ means_k.mT + torch.log(
            torch.tensor(float(size), device=q.device)
        )
        u = u.masked_fill(c == 0, float("-inf"))
        top = torch.maximum(lse, u.amax(-1, keepdim=True))
        e, known = (u - top).exp() * c, (lse - top).exp()
        mass = known + e.sum(-1, keepdim=True)
        good = mass > FLOOR * known
        filled = (known * out + e @ means_v) / torch.where(good, mass, 1.0)
        outs.append(torch.where(good, filled, out))
    return torch.cat(outs, 2)


class Drawing:
    """A design at a number of kept blocks, drawn anew in every layer."""

    def __init__(self, compared: Compared, kept: int, seed: int, rounds: int = 1) -> None:
        self.compared, self.kept, self.rounds = compared, kept, rounds
        self.generator = torch.Generator().manual_seed(seed)
        self.densities: list[float] = []
        self._same: dict[int, Tensor] = {}

    def __call__(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        c, n = self.compared, q.shape[2]
        blind = c.family == "data-independent" and not c.random
        w = self._same.get(n) if blind else None
        if w is None:
            found = []
            for _ in range(self.rounds if c.random else 1):
                plan = c.draw(q, k, self.kept, self.generator)
                self.densities.append(plan.density)
                found.append(weights(plan, c.estimator == "plain"))
            w = torch.stack(found).mean(0) if len(found) > 1 else found[0]
            if blind:
                self._same[n] = w = w.to(q.device)
        return weighted_attention(q, k, v, w, c.estimator == "difference")


@contextmanager
def attention_of(model: Any, replace: Replace | None) -> Iterator[None]:
    """The model with ``replace(layer, q, k, v)`` as its attention, or with its own."""
    from transformers import AttentionInterface

    def attend(module: Any, query: Tensor, key: Tensor, value: Tensor, mask: Any, **more: Any):
        out = replace(module.layer_idx, query, key, value)  # type: ignore[misc]
        return out.transpose(1, 2).contiguous(), None

    if replace is not None:
        AttentionInterface.register("weighted_blocks", attend)
    model.set_attn_implementation("sdpa" if replace is None else "weighted_blocks")
    try:
        yield
    finally:
        model.set_attn_implementation("sdpa")


@torch.no_grad()
def log_probabilities(model: Any, ids: Tensor, last: int = 0) -> Tensor:
    """Of all tokens after each token, (batch, tokens, vocabulary), or after the last ones."""
    hidden = model.model(ids, use_cache=False).last_hidden_state[:, -last:]
    return model.lm_head(hidden).log_softmax(-1)
