r"""The fast path of plans by distance: a block diagonal is one fused call on shifted views.

Distance :math:`\delta` lets query blocks :math:`\delta, …, T-1` meet key blocks
:math:`0, …, T-1-\delta`: two slices of the same tensors, of equal shape, no gathering and no mask.
Neighboring distances are one call on wider slices of the keys, which overlap.  Only the diagonal
itself is causal.  This is how the lower triangle is kept "by re-shaping tensors" in our reading of
F. Li, arXiv 2410.18441, the section on PrFlashAttention.
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


KEYS = 1024
"""Of a query that are one call, if a block has fewer: the kernel is faster with more keys."""


@dataclass(frozen=True)
class _Round:
    """Query blocks, the distances of their key blocks, the farthest first, and the log weights.

    The key blocks of a query lie beside each other.
    """

    queries: slice
    distances: tuple[int, ...]
    weights: tuple[float, ...]
    column: bool = False  # the first so many key blocks, for all these queries

    @property
    def weight(self) -> float | None:
        """The log weight, if it is one for all."""
        return self.weights[0] if len(set(self.weights)) == 1 else None

    def mask(self, size: int, like: Tensor) -> Tensor | None:
        """Log weights as a mask for the kernel, if they differ."""
        if self.weight is not None:
            return None
        line = torch.tensor(self.weights, dtype=like.dtype, device=like.device)
        return line.repeat_interleave(size).view(1, 1, 1, -1).expand(-1, -1, size, -1)

    def keys(self, distance: int) -> slice:
        """The key blocks at a distance."""
        return slice(self.queries.start - distance, self.queries.stop - distance)


Work = list[tuple[slice, list[_Round]]]


def _work(plan: Plan, q: Tensor, heads: int, weighted: bool, biased: bool) -> Work:
    """Which of (batch * heads, tokens, dim) have which rounds."""
    if plan.distances is not None:
        rounds = list(_rounds(plan, (0, 0), plan.distances, weighted, biased))
        return [(group, rounds) for group in head_groups(q, len(rounds))] if rounds else []
    assert plan.head_distances is not None
    found: Work = []
    for g in range(len(q)):
        i, j = (x if n > 1 else 0 for x, n in zip(divmod(g, heads), plan.kept.shape, strict=False))
        distances = plan.head_distances[i * plan.kept.shape[1] + j]
        rounds = list(_rounds(plan, (i, j), distances, weighted, biased))
        if rounds:
            found.append((slice(g, g + 1), rounds))
    return found


def _rounds(
    plan: Plan, head: tuple[int, int], distances: tuple[int, ...], weighted: bool, biased: bool
) -> Iterator[_Round]:
    """What is computed one after the other beside the diagonal; that too if there is a bias."""
    t, first = plan.blocks, plan.sinks
    pi = plan.pi[head][-1].flip(-1)
    weight = (-pi.log() if weighted else torch.zeros_like(pi)).tolist()
    far = sorted({d for d in distances if d and d + first < t})
    if biased:  # it differs from one distance to the next
        yield _Round(slice(0, t), (0,), (0.0,))
        for d in far:
            yield _Round(slice(d + first, t), (d,), (weight[d],))
        for i in range(1, t):
            for c in range(min(first, i)):
                yield _Round(slice(i, i + 1), (i - c,), (0.0,))
        return
    for run in _runs(far, plan.block):
        starts = [d + first for d in run] + [t]
        for m in range(1, len(run) + 1):  # rows that meet the first m of them
            if starts[m - 1] < starts[m]:
                some = tuple(reversed(run[:m]))
                rows = slice(starts[m - 1], starts[m])
                yield _Round(rows, some, tuple(weight[d] for d in some))
    for i in range(1, min(first, t)):
        yield _Round(slice(i, i + 1), tuple(range(i, 0, -1)), (0.0,) * i)
    if 0 < first < t:
        yield _Round(slice(first, t), tuple(range(first, 0, -1)), (0.0,) * first, column=True)


def _runs(distances: list[int], block: int) -> list[list[int]]:
    """Ascending distances, neighbors together as far as that helps."""
    runs: list[list[int]] = []
    for d in distances:
        if runs and d == runs[-1][-1] + 1 and len(runs[-1]) * block < KEYS:
            runs[-1].append(d)
        else:
            runs.append([d])
    return runs


class _Views:
    """Some heads of a contiguous tensor (heads, tokens, …), cut for rounds and columns alike."""

    def __init__(self, tensor: Tensor, heads: slice, block: int) -> None:
        self.size, self.flat = block, tensor[heads]
        self.blocks = self.flat.unflatten(1, (-1, block)).transpose(0, 1)

    def queries(self, r: _Round) -> Tensor:
        """(blocks, heads, block, …), or (1, heads, tokens, …) of a column."""
        if r.column:
            return self.flat[:, r.queries.start * self.size : r.queries.stop * self.size][None]
        return self.blocks[r.queries]

    def keys(self, r: _Round) -> Tensor:
        """(blocks or 1, heads, tokens, dim), views that may overlap."""
        wide = len(r.distances) * self.size
        if r.column:
            return self.flat[:, :wide][None]
        found = self.flat.unfold(1, wide, self.size).permute(1, 0, 3, 2)
        return found[r.keys(r.distances[0])]

    def add_to_keys(self, r: _Round, part: Tensor) -> None:
        """Add what belongs to the keys of a round."""
        if r.column:
            self.flat[:, : part.shape[2]] += part[0]
            return
        for d, own in zip(r.distances, part.split(self.size, 2), strict=True):
            self.blocks[r.keys(d)] += own


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


def _single(x: Tensor, size: int) -> Tensor:
    """(heads, tokens, …) as (heads * blocks, 1, block, …), which the kernel answers in order."""
    return x.unflatten(1, (-1, size)).flatten(0, 1).unsqueeze(1)


class _Diagonals(torch.autograd.Function):
    """Forward merges rounds by their mass; backward runs them again with the final mass."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, terms: Terms) -> tuple[Tensor, Tensor]:
        plan, bias, weighted, scale = terms
        size, shape = plan.block, q.shape
        wide = torch.promote_types(q.dtype, torch.float32)
        q, k, v = (t.flatten(0, 1).contiguous() for t in (q, k, v))
        table = None if bias is None else bias.repeat(shape[0], 1)
        work = _work(plan, q, shape[1], weighted, bias is not None)
        if table is None:
            q1, k1, v1 = (_single(x, size) for x in (q, k, v))
            part, mass = pieces.forward(q1, k1, v1, scale, True)
            out, lse = part.reshape(q.shape).to(wide), mass.reshape(q.shape[:2])
        else:
            out, lse = torch.empty_like(q, dtype=wide), q.new_empty(q.shape[:2], dtype=wide)
        for heads, rounds in work:
            Q, K, V, O, L = (_Views(x, heads, size) for x in (q, k, v, out, lse))  # noqa: E741
            for r in rounds:
                mask = r.mask(size, lse)
                if table is not None:
                    mask = toeplitz(table, heads, r.distances[0], size, wide)
                part, mass = pieces.forward(Q.queries(r), K.keys(r), V.keys(r), scale, False, mask)
                if r.distances[0] == 0:
                    O.queries(r).copy_(part)
                    L.queries(r).copy_(mass)
                    continue
                if r.weight:
                    mass = mass + r.weight
                pieces.merge_into(O.queries(r), L.queries(r), part, mass)
        out = out.to(q.dtype)
        ctx.save_for_backward(q, k, v, table, out, lse)
        ctx.work, ctx.size, ctx.scale, ctx.shape = work, size, scale, shape
        ctx.set_materialize_grads(False)
        return out.view(shape), lse.view(shape[:-1])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g: Tensor | None, g_lse: Tensor | None) -> tuple[Tensor | None, ...]:
        q, k, v, table, out, lse = ctx.saved_tensors
        need, size, shape = ctx.needs_input_grad[:3], ctx.size, ctx.shape
        if not any(need) or (g is None and g_lse is None):
            return (None,) * 4
        g, q, k, v, out = pieces.with_mass_gradient(g, g_lse, q, k, v, out)
        wide = torch.promote_types(q.dtype, torch.float32)
        if table is None:
            g1, q1, k1, v1, out1, lse1 = (_single(x, size) for x in (g, q, k, v, out, lse))
            found = pieces.backward(g1, q1, k1, v1, out1, lse1, ctx.scale, True)
            sums = [x.reshape(q.shape).to(wide) for x in found]
        else:
            sums = [torch.zeros_like(q, dtype=wide) for _ in need]
        for heads, rounds in ctx.work:
            G, Q, K, V, O, L = (_Views(x, heads, size) for x in (g, q, k, v, out, lse))  # noqa: E741
            DQ, DK, DV = (_Views(x, heads, size) for x in sums)
            for r in rounds:
                mask = r.mask(size, lse)
                if table is not None:
                    mask = toeplitz(table, heads, r.distances[0], size, wide)
                mass = L.queries(r) - (r.weight or 0.0)
                G1, Q1, O1 = (x.queries(r) for x in (G, Q, O))
                dq, dk, dv = pieces.backward(
                    G1, Q1, K.keys(r), V.keys(r), O1, mass, ctx.scale, False, mask
                )
                if need[0]:
                    DQ.queries(r).add_(dq)
                if need[1]:
                    DK.add_to_keys(r, dk)
                if need[2]:
                    DV.add_to_keys(r, dv)
        return *(
            total[..., : shape[-1]].to(q.dtype).reshape(shape) if needed else None
            for total, needed in zip(sums, need, strict=True)
        ), None  # fmt: skip


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
        A plan with ``distances`` or ``head_distances``; a bias (heads, tokens) or none, of the
        queries' dtype or float32, which gets no gradient.

    Returns
    -------
    out : (batch, heads, tokens, dim) tensor
    lse : (batch, heads, tokens) tensor, float32 or float64
        Both with exact gradients, once.
    """
    return _Diagonals.apply(q, k, v, terms)
