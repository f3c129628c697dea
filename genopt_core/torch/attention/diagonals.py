r"""The fast path of plans by distance: a block diagonal is one fused call on shifted views.

Round :math:`\delta` meets query blocks :math:`\delta, …, T-1` with key blocks
:math:`0, …, T-1-\delta`: two slices of the same tensors, of equal shape, no gathering and no mask.
Only the diagonal itself is causal.  This is how the lower triangle is kept "by re-shaping tensors"
in our reading of F. Li, arXiv 2410.18441, the section on PrFlashAttention.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from genopt_core.torch.attention import pieces
from genopt_core.torch.attention.plans import Plan, Terms

__all__ = ["diagonal_attention"]


@dataclass(frozen=True)
class _Round:
    """Query blocks, key blocks, the distance of the first pair, and the log weight."""

    queries: slice
    keys: slice
    distance: int
    weight: float
    column: bool = False  # one key block against many query blocks


def _rounds(plan: Plan, weighted: bool, biased: bool) -> Iterator[_Round]:
    """What is computed one after the other, the diagonal first."""
    t, first = plan.blocks, plan.sinks
    last = plan.pi[0, 0, -1].flip(-1).tolist() if t else []
    yield _Round(slice(0, t), slice(0, t), 0, 0.0)
    for d in plan.distances or ():
        if d and d + first < t:
            weight = -torch.tensor(last[d], dtype=torch.float64).log().item() if weighted else 0.0
            yield _Round(slice(d + first, t), slice(first, t - d), d, weight)
    for c in range(min(first, t - 1)):
        if not biased:
            yield _Round(slice(c + 1, t), slice(c, c + 1), 1, 0.0, column=True)
            continue
        for i in range(c + 1, t):  # a bias differs from one distance to the next
            yield _Round(slice(i, i + 1), slice(c, c + 1), i - c, 0.0)


class _Views:
    """Some heads of a tensor (heads, tokens, dim), cut for rounds and columns alike."""

    def __init__(self, tensor: Tensor, heads: slice, block: int) -> None:
        self.size, self.flat = block, tensor[heads].unsqueeze(0)
        self.blocks = self.flat[0].unflatten(1, (-1, block)).transpose(0, 1)

    def __call__(self, at: slice, column: bool) -> Tensor:
        if column:
            return self.flat[:, :, at.start * self.size : at.stop * self.size]
        return self.blocks[at]


def _as_blocks(part: Tensor, size: int) -> Tensor:
    """A column's (1, heads, tokens, …) as (blocks, heads, block, …), a view."""
    return part[0].unflatten(1, (-1, size)).transpose(0, 1)


def head_groups(q: Tensor, rounds: int) -> list[slice]:
    """Which of (heads, tokens, dim) are done together.

    As many as there are threads on a CPU, so that a head's tensors stay in its cache from round to
    round (with one thread a tenth to a fifth faster); all at once in a single round, or where calls
    are what costs.
    """
    if rounds == 1 or not pieces.fused(q.device):
        return [slice(None)]
    step = torch.get_num_threads()
    return [slice(h, h + step) for h in range(0, len(q), step)]


class _Diagonals(torch.autograd.Function):
    """Forward merges rounds by their mass; backward runs them again with the final mass."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, terms: Terms) -> tuple[Tensor, Tensor]:
        plan, bias, weighted, scale = terms
        rounds = list(_rounds(plan, weighted, bias is not None))
        size = plan.block
        wide = torch.promote_types(q.dtype, torch.float32)
        shape = q.shape
        q, k, v = (t.flatten(0, 1) for t in (q, k, v))
        table = None if bias is None else bias.repeat(shape[0], 1)
        outs, masses = [], []
        for heads in head_groups(q, len(rounds)):
            Q, K, V = (_Views(t, heads, size) for t in (q, k, v))
            out = lse = torch.empty(0)
            for r in rounds:
                part, mass = pieces.forward(
                    Q(r.queries, r.column),
                    K(r.keys, r.column),
                    V(r.keys, r.column),
                    scale,
                    r.distance == 0 and bias is None,
                    toeplitz(table, heads, r.distance, size, wide),
                )
                if r.distance == 0:  # in the kernel's own order of strides, which is faster
                    out, lse = part.to(wide), mass.clone()
                    continue
                if r.column:
                    part, mass = _as_blocks(part, size), _as_blocks(mass, size)
                if r.weight:
                    mass = mass + r.weight
                pieces.merge_into(out[r.queries], lse[r.queries], part, mass)
            outs.append(out.to(q.dtype))
            masses.append(lse)
        all_out, all_lse = _joined(outs), _joined(masses)
        ctx.save_for_backward(q, k, v, table, all_out, all_lse)
        ctx.rounds, ctx.size, ctx.scale, ctx.shape = rounds, size, scale, shape
        ctx.set_materialize_grads(False)
        return all_out.view(shape), all_lse.view(shape[:-1])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g: Tensor | None, g_lse: Tensor | None) -> tuple[Tensor | None, ...]:
        q, k, v, table, out, lse = ctx.saved_tensors
        need, size, shape = ctx.needs_input_grad[:3], ctx.size, ctx.shape
        if not any(need) or (g is None and g_lse is None):
            return (None,) * 4
        g, q, k, v, out = pieces.with_mass_gradient(g, g_lse, q, k, v, out)
        wide = torch.promote_types(q.dtype, torch.float32)
        L = lse.unsqueeze(-1)
        grads: list[list[Tensor]] = [[], [], []]
        for heads in head_groups(q, len(ctx.rounds)):
            views = [_Views(x, heads, size) for x in (g, q, k, v, out, L)]
            sums: list[Tensor | None] = []
            for r in ctx.rounds:
                G, Q, K, V, O, mass = (  # noqa: E741
                    x(r.keys if i in (2, 3) else r.queries, r.column) for i, x in enumerate(views)
                )
                causal = r.distance == 0 and table is None
                mask = toeplitz(table, heads, r.distance, size, wide)
                mass = mass.squeeze(-1) - r.weight
                found = pieces.backward(G, Q, K, V, O, mass, ctx.scale, causal, mask)
                if r.distance == 0:  # touches every block, so it is what the others add to
                    sums = [
                        part.to(wide) if needed else None
                        for part, needed in zip(found, need, strict=True)
                    ]
                    continue
                for total, part, at in zip(sums, found, (r.queries, r.keys, r.keys), strict=True):
                    if total is not None:
                        total[at] += _as_blocks(part, size) if r.column else part
            for total, done in zip(sums, grads, strict=True):
                if total is not None:
                    done.append(total.to(q.dtype))
        return *(
            _joined(done)[..., : shape[-1]].reshape(shape) if done else None for done in grads
        ), None  # fmt: skip


def _joined(parts: list[Tensor]) -> Tensor:
    """Groups of (blocks, heads, block, …) as (all heads, tokens, …); of one group a view."""
    flat = [part.transpose(0, 1).flatten(1, 2) for part in parts]
    return flat[0] if len(flat) == 1 else torch.cat(flat)


def toeplitz(
    table: Tensor | None, heads: slice, distance: int, size: int, dtype: torch.dtype
) -> Tensor | None:
    """The bias (heads, tokens) between two blocks, (1, heads, block, block), or none.

    Ahead of the query it is minus infinity; elsewhere it is cut off where a softmax sees no
    difference, because the kernel knows no row that sees nothing.
    """
    if table is None:
        return None
    at = distance * size + torch.arange(1 - size, size, device=table.device)
    line = table[heads, at.clamp(0, table.shape[1] - 1)].to(dtype).clamp_min(pieces.LOWEST)
    line = torch.where(at >= 0, line, float("-inf"))
    return line.flip(-1).unfold(-1, size, 1).flip(-2).unsqueeze(0)


def diagonal_attention(q: Tensor, k: Tensor, v: Tensor, terms: Terms) -> tuple[Tensor, Tensor]:
    """Output and mass over the kept blocks of a plan by distance.

    Parameters
    ----------
    q, k, v : (batch, heads, tokens, dim) tensors
        Of the same heads, tokens a multiple of the block.
    terms : Terms
        A plan with ``distances``; a bias (heads, tokens) or none, of the queries' dtype or float32,
        which gets no gradient.

    Returns
    -------
    out : (batch, heads, tokens, dim) tensor
    lse : (batch, heads, tokens) tensor, float32 or float64
        Both with exact gradients, once.
    """
    return _Diagonals.apply(q, k, v, terms)
