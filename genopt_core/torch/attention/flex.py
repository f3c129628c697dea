r"""The path through PyTorch's ``flex_attention``, compiled: what GPUs take.

On a CPU it has a forward pass only, without the mass.  Weights and bias are read from tables by a
score function; the plan is a ``BlockMask``.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import Tensor

from genopt_core.torch.attention.plans import Terms

__all__ = ["flex_path"]


@cache
def _compiled() -> Any:
    from torch.nn.attention.flex_attention import flex_attention

    return torch.compile(flex_attention, dynamic=False)


def _options(device: torch.device, tables: bool) -> dict[str, int] | None:
    """Fewer stages where a table is read for each pair of tokens.

    With PyTorch's own choice a tile's scores and its part of the table do not fit the shared memory
    of an H100 (PyTorch 2.11).
    """
    return {"num_stages": 1} if tables and device.type == "cuda" else None


def flex_path(
    q: Tensor, k: Tensor, v: Tensor, terms: Terms, with_lse: bool
) -> tuple[Tensor, Tensor | None]:
    """As `diagonal_attention`, but keys and values may have fewer heads, and tokens be any number.

    The mass is None unless asked for.
    """
    from torch.nn.attention.flex_attention import AuxRequest

    if q.device.type == "cpu" and not torch.is_grad_enabled():
        q, k, v = q.detach(), k.detach(), v.detach()  # else refused, as if one asked for gradients
    bias, plan = terms.bias, terms.plan.to(q.device)
    weighted = terms.weighted and not plan.certain
    table = plan.log_weights.clamp_min(-1e4).to(torch.promote_types(q.dtype, torch.float32))
    size, last = plan.block, 0 if bias is None else bias.shape[1] - 1

    def score(s: Tensor, b: Tensor, h: Tensor, i: Tensor, j: Tensor) -> Tensor:
        if weighted:
            batch = b if table.shape[0] > 1 else 0
            head = h if table.shape[1] > 1 else 0
            s = s + table[batch, head, i // size, j // size]
        if bias is not None:
            s = s + bias[h if bias.shape[0] > 1 else 0, (i - j).clamp(0, last)]
        return s

    out = _compiled()(
        q,
        k,
        v,
        score_mod=score if weighted or bias is not None else None,
        block_mask=plan.to_block_mask(),
        scale=terms.scale,
        enable_gqa=q.shape[1] != k.shape[1],
        kernel_options=_options(q.device, weighted or bias is not None),
        return_aux=AuxRequest(lse=True) if with_lse else None,
    )
    return (out[0], out[1].lse) if with_lse else (out, None)
