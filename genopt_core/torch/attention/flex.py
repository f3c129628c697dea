r"""The path through PyTorch's ``flex_attention``, compiled: what GPUs take.

On a CPU it has a forward pass only, without the mass.  Weights and bias are read from tables by a
score function; the plan is a ``BlockMask``.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import Tensor

from genopt_core.torch.attention import pieces
from genopt_core.torch.attention.plans import Plan, Terms

__all__ = ["SMALLEST", "flex_path"]

SMALLEST = 16
"""The smallest tile of a GPU's kernel: blocks must be a multiple of it."""


@cache
def _compiled() -> Any:
    from torch.nn.attention.flex_attention import flex_attention

    return torch.compile(flex_attention, dynamic=False)


def _tile(plan: Plan) -> int:
    """Tokens of the largest tile that fits into a block and that the kernel may have."""
    return min(plan.block & -plan.block, 128)


def _options(q: Tensor, plan: Plan, tables: bool) -> dict[str, Any] | None:
    """Tiles, warps and stages on a GPU; what is not said is PyTorch's own choice.

    The fastest of those tried on an H200 (PyTorch 2.11) with blocks of 128 in bfloat16, heads of 64
    and 128.  With PyTorch's own choice a tile's scores and its part of the table of weights do not
    fit the shared memory, and tiles may be no larger than a block: smaller ones are not measured.
    """
    if q.device.type != "cuda":
        return None
    if plan.block % SMALLEST:
        raise ValueError(
            f"block must be a multiple of {SMALLEST} for the path 'flex' on a GPU, got {plan.block}"
        )
    tile, narrow = _tile(plan), q.shape[-1] <= 64
    found: dict[str, Any] = {"ROWS_GUARANTEED_SAFE": True}  # each row has its own diagonal
    half = q.dtype in (torch.bfloat16, torch.float16) and q.shape[-1] <= 128
    if tile < 128 or not half:
        most = min(tile, 64 if half else 32)
        stages = 1 if tables else 2
        return found | _forward(most, most, 4, stages) | _backward(most, most, 4, stages)
    if tables:
        forward = _forward(128, 128, 8, 1) if narrow else _forward(64, 64, 4, 2)
        return found | forward | _backward(64, 128, 8, 1)
    return found | _backward(64, 64, 4, 3) if narrow else found


def _forward(m: int, n: int, warps: int, stages: int) -> dict[str, int]:
    own = {"BLOCK_M": m, "BLOCK_N": n, "num_warps": warps, "num_stages": stages}
    return {f"fwd_{name}": value for name, value in own.items()}


def _backward(m: int, n: int, warps: int, stages: int) -> dict[str, int]:
    own = {"BLOCK_M1": m, "BLOCK_N1": n, "BLOCK_M2": n, "BLOCK_N2": m}
    own |= {"num_warps": warps, "num_stages": stages}
    return {f"bwd_{name}": value for name, value in own.items()}


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
    if bias is not None:  # a tile in which a row sees nothing would not be safe
        bias = bias.to(table.dtype)
        bias = torch.maximum(bias, bias[:, :1] + pieces.LOWEST)
    own = _options(q, plan, weighted or bias is not None)

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
        block_mask=plan._block_mask(causal=q.device.type == "cuda"),
        scale=terms.scale,
        enable_gqa=q.shape[1] != k.shape[1],
        kernel_options=own,
        return_aux=AuxRequest(lse=True) if with_lse else None,
    )
    return (out[0], out[1].lse) if with_lse else (out, None)
