r"""Attention of some queries to some keys with the logarithm of its mass, by a fused kernel.

The pieces merge into attention over all their keys; going backward, each piece needs only the
*final* output and mass, since :math:`p = e^{s - L}`.  On a CPU it is PyTorch's own kernel behind
``scaled_dot_product_attention``, called for its second output; elsewhere plain operations.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["LOWEST", "forward", "backward", "fused", "merge_into", "with_mass_gradient"]

LOWEST = -30_000.0
"""Added to the bias at distance 0 in place of minus infinity, where a whole row may hold it.

Every row sees distance 0, so what lies so far below it weighs nothing, whatever the bias is.
"""


def fused(device: torch.device) -> bool:
    """Whether PyTorch has the kernel with both outputs here; it is not part of its public face."""
    name = "_scaled_dot_product_flash_attention_for_cpu"
    return device.type == "cpu" and all(
        hasattr(torch.ops.aten, n) for n in (name, f"{name}_backward")
    )


def forward(
    q: Tensor, k: Tensor, v: Tensor, scale: float, causal: bool, mask: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Output (groups, heads, queries, dim), and mass (groups, heads, queries) in float32 or 64."""
    if fused(q.device):
        call = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
        return call(q, k, v, 0.0, causal, attn_mask=mask, scale=scale)
    s = _scores(q, k, scale, causal, mask)
    lse = s.logsumexp(-1)
    return ((s - lse.unsqueeze(-1)).exp() @ v.to(s.dtype)).to(q.dtype), lse


def backward(
    g: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    out: Tensor,
    lse: Tensor,
    scale: float,
    causal: bool,
    mask: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of a piece's queries, keys and values, given the final output and mass."""
    if fused(q.device):
        call = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward
        return call(g, q, k, v, out, lse, 0.0, causal, attn_mask=mask, scale=scale)
    s = _scores(q, k, scale, causal, mask)
    p = (s - lse.unsqueeze(-1)).exp()
    g, q, k, v, out = (t.to(s.dtype) for t in (g, q, k, v, out))
    ds = p * (g @ v.mT - (g * out).sum(-1, keepdim=True)) * scale
    return ds @ k, ds.mT @ q, p.mT @ g


def _scores(q: Tensor, k: Tensor, scale: float, causal: bool, mask: Tensor | None) -> Tensor:
    wide = torch.promote_types(q.dtype, torch.float32)
    s = (q.to(wide) @ k.to(wide).mT) * scale
    if causal:
        ahead = torch.ones(s.shape[-2:], dtype=torch.bool, device=s.device).triu(1)
        s = s.masked_fill(ahead, float("-inf"))
    return s if mask is None else s + mask


def merge_into(out: Tensor, lse: Tensor, piece: Tensor, mass: Tensor) -> None:
    """Merge a piece into the output and mass so far, in place."""
    both = torch.logaddexp(lse, mass)
    out.lerp_(piece.to(out.dtype), (mass - both).exp_().unsqueeze(-1).to(out.dtype))
    lse.copy_(both)


def with_mass_gradient(
    g: Tensor | None, g_lse: Tensor | None, q: Tensor, k: Tensor, v: Tensor, out: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    r"""The five with a further channel that carries the gradient of the mass, if there is one.

    Both gradients come as they are, (batch, heads, tokens, …); the others and what is given back
    have batch and heads in one axis.

    The kernel computes :math:`p\,(g \cdot v - g \cdot o)`, and what is wanted has
    :math:`+ p\,g_L`: with a channel of 0 in the values, 1 in the output and :math:`-g_L` in its
    gradient the kernel does so itself.
    """
    g = torch.zeros_like(q) if g is None else g.contiguous().flatten(0, 1)
    if g_lse is None:
        return g, q, k, v, out
    pad = torch.nn.functional.pad
    last = -g_lse.flatten(0, 1).unsqueeze(-1).to(g.dtype)
    q, k, v = (pad(t, (0, 1)) for t in (q, k, v))
    return torch.cat([g, last], -1), q, k, v, pad(out, (0, 1), value=1)
