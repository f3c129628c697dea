r"""The path of plans that differ by row and head: kept blocks gathered, a slab of rows at a time.

The diagonal is one fused call; what each row of blocks keeps beside it is gathered into a row of
equal length, empty places masked, and goes through the same kernel.  A slab gathers at most about
as many tokens as there are, so memory stays linear in the length.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from genopt_core.torch.attention import pieces
from genopt_core.torch.attention.diagonals import head_groups, toeplitz
from genopt_core.torch.attention.plans import Terms

__all__ = ["gathered_attention"]

Slab = tuple[slice, Tensor, Tensor]


def _slabs(kept: Tensor, weight: Tensor) -> list[Slab]:
    """For each slab: its rows, the key blocks of each (groups, rows, most), and log weights."""
    t = kept.shape[-1]
    most = kept.sum(-1).amax(0).tolist()
    found, start = [], 1
    while start < t:
        rows = max(1, t // max(most[start], 1) // 2)
        at = slice(start, min(start + rows, t))
        width = max(most[at])
        if width:
            order = kept[:, at].to(torch.uint8).argsort(dim=-1, descending=True, stable=True)
            index = order[..., :width]
            real = kept[:, at].gather(-1, index)
            # an empty place has a weight, as the kernel knows no row that sees nothing
            chosen = torch.where(real, weight[:, at].gather(-1, index), pieces.LOWEST)
            found.append((at, index, chosen))
        start = at.stop
    return found


def _mask(
    log_weights: Tensor, index: Tensor, rows: slice, size: int, table: Tensor | None
) -> Tensor:
    """(1, groups * rows, block, most * block): the weights, and the bias of each pair."""
    groups, count, most = log_weights.shape
    if table is None:
        wide = log_weights.repeat_interleave(size, -1).view(1, groups * count, 1, most * size)
        return wide.expand(-1, -1, size, -1)
    distance = torch.arange(rows.start, rows.stop, device=index.device)[:, None] - index
    group = torch.arange(groups, device=index.device)[:, None, None]
    # an empty place stays below all others, and no less than what `toeplitz` cuts off
    lowest = table[:, 0, 0, 0].view(-1, 1, 1, 1, 1) + pieces.LOWEST
    own = log_weights[..., None, None]
    pairs = torch.where(own > pieces.LOWEST, table[group, distance.clamp_min(0)] + own, lowest)
    return pairs.transpose(2, 3).reshape(1, groups * count, size, most * size)


def _bias_table(bias: Tensor | None, t: int, size: int, dtype: torch.dtype) -> Tensor | None:
    """The bias between blocks at each distance, (groups, distances, block, block)."""
    if bias is None:
        return None
    every = slice(None)
    return torch.stack([toeplitz(bias, every, d, size, dtype)[0] for d in range(t)], 1)  # type: ignore[index]


def _gather(blocks: Tensor, index: Tensor) -> Tensor:
    """(1, groups * rows, most * block, dim) of (groups, blocks, block, dim)."""
    groups, rows, most = index.shape
    group = torch.arange(groups, device=index.device)[:, None, None]
    flat = (group * blocks.shape[1] + index).flatten()
    found = blocks.flatten(0, 1).index_select(0, flat)
    return found.view(1, groups * rows, most * blocks.shape[2], -1)


class _Gathered(torch.autograd.Function):
    """Forward and backward slab by slab, both with the plan that was drawn."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, terms: Terms) -> tuple[Tensor, Tensor]:
        plan, bias, weighted, scale = terms
        size, t, shape = plan.block, plan.blocks, q.shape
        wide = torch.promote_types(q.dtype, torch.float32)
        q, k, v = (x.flatten(0, 1) for x in (q, k, v))
        line = None if bias is None else bias.repeat(shape[0], 1)
        kept = plan.kept.expand(*shape[:2], t, t).flatten(0, 1).to(q.device).tril(-1)
        weight = plan.log_weights.expand(*shape[:2], t, t).flatten(0, 1).to(q.device, wide)
        weight = weight if weighted else torch.zeros_like(weight)
        all_out = torch.empty_like(q, memory_format=torch.contiguous_format)
        all_lse = torch.empty(q.shape[:2], dtype=wide, device=q.device)
        work = [(heads, _slabs(kept[heads], weight[heads])) for heads in head_groups(q)]
        for heads, slabs in work:
            Q, K, V = (x[heads].unflatten(1, (t, size)) for x in (q, k, v))
            table = _bias_table(None if line is None else line[heads], t, size, wide)
            own = None if table is None else table[:, 0].unsqueeze(0)
            part, mass = pieces.forward(
                Q.transpose(0, 1), K.transpose(0, 1), V.transpose(0, 1), scale, own is None, own
            )
            out, lse = part.transpose(0, 1).to(wide), mass.transpose(0, 1).clone()
            for rows, index, log_weights in slabs:
                part, mass = pieces.forward(
                    Q[:, rows].flatten(0, 1).unsqueeze(0),
                    _gather(K, index),
                    _gather(V, index),
                    scale,
                    False,
                    _mask(log_weights, index, rows, size, table),
                )
                to = (len(Q), rows.stop - rows.start, size)
                pieces.merge_into(out[:, rows], lse[:, rows], part.view(*to, -1), mass.view(to))
            all_out[heads].unflatten(1, (t, size)).copy_(out)
            all_lse[heads].unflatten(1, (t, size)).copy_(lse)
        ctx.save_for_backward(q, k, v, line, all_out, all_lse)
        ctx.work, ctx.size, ctx.scale, ctx.shape = work, size, scale, shape
        ctx.set_materialize_grads(False)
        return all_out.view(shape), all_lse.view(shape[:-1])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g: Tensor | None, g_lse: Tensor | None) -> tuple[Tensor | None, ...]:
        q, k, v, line, out, lse = ctx.saved_tensors
        need, size, shape = ctx.needs_input_grad[:3], ctx.size, ctx.shape
        if not any(need) or (g is None and g_lse is None):
            return (None,) * 4
        g, q, k, v, out = pieces.with_mass_gradient(g, g_lse, q, k, v, out)
        wide, t = torch.promote_types(q.dtype, torch.float32), q.shape[1] // size
        grads = [torch.empty_like(q) if needed else None for needed in need]
        for heads, slabs in ctx.work:
            G, Q, K, V, O = (x[heads].unflatten(1, (t, size)) for x in (g, q, k, v, out))  # noqa: E741
            L = lse[heads].unflatten(1, (t, size))
            table = _bias_table(None if line is None else line[heads], t, size, wide)
            own = None if table is None else table[:, 0].unsqueeze(0)
            g0, q0, k0, v0, o0, l0 = (x.transpose(0, 1) for x in (G, Q, K, V, O, L))
            found = pieces.backward(g0, q0, k0, v0, o0, l0, ctx.scale, own is None, own)
            sums = [x.transpose(0, 1).to(wide).contiguous() for x in found]
            group = torch.arange(len(Q), device=q.device)[:, None, None]
            for rows, index, log_weights in slabs:
                dq, dk, dv = pieces.backward(
                    G[:, rows].flatten(0, 1).unsqueeze(0),
                    Q[:, rows].flatten(0, 1).unsqueeze(0),
                    _gather(K, index),
                    _gather(V, index),
                    O[:, rows].flatten(0, 1).unsqueeze(0),
                    L[:, rows].flatten(0, 1).unsqueeze(0),
                    ctx.scale,
                    False,
                    _mask(log_weights, index, rows, size, table),
                )
                if need[0]:
                    sums[0][:, rows] += dq.reshape(len(Q), rows.stop - rows.start, size, -1)
                at = (group * t + index).flatten()
                for needed, total, part in zip(need[1:], sums[1:], (dk, dv), strict=True):
                    if needed:
                        blocks = part.reshape(len(at), size, -1).to(wide)
                        total.flatten(0, 1).index_add_(0, at, blocks)
            for grad, total in zip(grads, sums, strict=True):
                if grad is not None:
                    grad[heads].unflatten(1, (t, size)).copy_(total)
        return *(
            None if grad is None else grad[..., : shape[-1]].reshape(shape) for grad in grads
        ), None  # fmt: skip


def gathered_attention(q: Tensor, k: Tensor, v: Tensor, terms: Terms) -> tuple[Tensor, Tensor]:
    """Output and mass over the kept blocks of any plan; all as in `diagonal_attention`."""
    return _Gathered.apply(q, k, v, terms)
