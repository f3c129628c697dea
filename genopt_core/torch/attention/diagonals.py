r"""The fast path of plans by distance: a block diagonal is one fused call on shifted views.

Distance :math:`\delta` lets query blocks :math:`\delta, …, T-1` meet key blocks
:math:`0, …, T-1-\delta`: two slices of the same tensors, of equal shape, and no mask.
Only the diagonal itself is causal.  This is how the lower triangle is kept "by re-shaping tensors"
in our reading of F. Li, arXiv 2410.18441, the section on PrFlashAttention.

Several distances are one call: below each key block's first query block come those at the other
distances, so that the kernel has more rows at once, and the keys' gradients are summed in it.
Distances that follow each other need no copy for it: their query blocks do so too.
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


ROWS = 1024
"""Query tokens that are one call, up to so many: from 768 on the kernel works in wider tiles."""

CACHED = 2**18
"""Values of queries that a core's cache holds beside keys, values, outputs and gradients."""

LEAST = 256
"""Tokens of a causal block that is not halved further."""


@dataclass(frozen=True)
class _Round:
    """Key blocks, and what meets them: the query blocks at some distances, one below the other.

    Or a column, which is the first key blocks for all of some query blocks.
    """

    keys: slice
    distances: tuple[int, ...] = ()
    weights: tuple[float, ...] = (0.0,)
    column: slice | None = None

    @property
    def queries(self) -> list[slice]:
        """Query blocks at each distance."""
        if self.column is not None:
            return [self.column]
        return [slice(self.keys.start + d, self.keys.stop + d) for d in self.distances]


Work = list[tuple[slice, list[_Round]]]


def _work(plan: Plan, q: Tensor, heads: int, weighted: bool, biased: bool) -> Work:
    """Which of (batch * heads, tokens, dim) have which rounds."""
    if plan.distances is not None:
        rounds = list(_rounds(plan, (0, 0), plan.distances, weighted, biased))
        return [(group, rounds) for group in head_groups(q)] if rounds else []
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
        yield _Round(slice(0, t), (0,))
        for d in far:
            yield _Round(slice(first, t - d), (d,), (weight[d],))
        for i in range(1, t):
            for c in range(min(first, i)):
                yield _Round(slice(c, c + 1), (i - c,))
        return
    for some in _stacks(far, plan.block):
        stops = [t - d for d in some] + [first]
        for m in range(len(some), 0, -1):  # key blocks that the first m of them meet
            if stops[m] < stops[m - 1]:
                own = tuple(weight[d] for d in some[:m])
                yield _Round(slice(stops[m], stops[m - 1]), tuple(some[:m]), own)
    for i in range(1, min(first, t)):
        yield _Round(slice(0, i), column=slice(i, i + 1))
    if 0 < first < t:
        yield _Round(slice(0, first), column=slice(first, t))


def _stacks(distances: list[int], block: int) -> list[list[int]]:
    """Ascending distances in groups, each with at most so many query tokens.

    Those that follow each other are together, the others in groups of like size.
    """
    most = max(ROWS // block, 1)
    runs: list[list[int]] = []
    for d in distances:
        if runs and d == runs[-1][-1] + 1:
            runs[-1].append(d)
        else:
            runs.append([d])
    alone = [run[0] for run in runs if len(run) == 1]
    return [
        some
        for group in (*(run for run in runs if len(run) > 1), alone)
        for some in _evenly(group, most)
    ]


def _evenly(group: list[int], most: int) -> list[list[int]]:
    """In parts of like size, each of at most so many."""
    parts = max(-(-len(group) // most), 1)
    size = max(-(-len(group) // parts), 1)
    return [group[i : i + size] for i in range(0, len(group), size)]


class _Views:
    """Some heads of a contiguous tensor (heads, tokens, …), cut for rounds and columns alike."""

    def __init__(self, tensor: Tensor, heads: slice, block: int) -> None:
        self.size, self.flat = block, tensor[heads]
        self.blocks = self.flat.unflatten(1, (-1, block)).transpose(0, 1)

    def parts(self, r: _Round) -> list[Tensor]:
        """(blocks, heads, block, …) of the queries at each distance, views."""
        if r.column is not None:
            return [self._column(r.column)]
        return [self.blocks[rows] for rows in r.queries]

    def queries(self, r: _Round) -> Tensor:
        """(blocks, heads, distances * block, …), or (1, heads, tokens, …) of a column.

        A view, in which rows may come more than once, unless distances lie apart.
        """
        parts = self.parts(r)
        if len(parts) == 1:
            return parts[0]
        if r.distances[-1] - r.distances[0] + 1 > len(parts):
            return torch.cat(parts, 2)
        first = parts[0]
        shape = (*first.shape[:2], len(parts) * self.size, *first.shape[3:])
        return first.as_strided(shape, first.stride(), first.storage_offset())

    def keys(self, r: _Round) -> Tensor:
        """(blocks, heads, block, dim), or (1, heads, tokens, dim) of a column."""
        return self.blocks[r.keys] if r.column is None else self._column(r.keys)

    def add_to_queries(self, r: _Round, sums: Tensor) -> None:
        """Add what belongs to the queries of a round."""
        parts = self.parts(r)
        for mine, own in zip(parts, sums.chunk(len(parts), 2), strict=True):
            mine += own

    def _column(self, blocks: slice) -> Tensor:
        return self.flat[:, blocks.start * self.size : blocks.stop * self.size][None]


def head_groups(q: Tensor) -> list[slice]:
    """Which of (heads, tokens, dim) are done together.

    On a CPU as many for each thread as stay in its cache from round to round (with one thread a
    fiftieth to a fifth faster), or one; all at once where calls are what costs.
    """
    if not pieces.fused(q.device):
        return [slice(None)]
    step = torch.get_num_threads() * max(CACHED // max(q.shape[1] * q.shape[2], 1), 1)
    return [slice(h, h + step) for h in range(0, len(q), step)]


def _single(x: Tensor, size: int) -> Tensor:
    """(heads, tokens, …) as (heads * blocks, 1, block, …), which the kernel answers in order."""
    return x.unflatten(1, (-1, size)).flatten(0, 1).unsqueeze(1)


def _pairs(x: Tensor, size: int) -> Tensor:
    """(heads * blocks / 2, 2, block, …), a view: what is merged into it is in ``x``."""
    return x.view(-1, 2, size, *x.shape[2:])


def _upper(x: Tensor, size: int) -> Tensor:
    """Of each two blocks of (heads, tokens, …) the first: its keys meet all of the other's rows."""
    return _pairs(x, size)[:, :1]


def _lower(x: Tensor, size: int) -> Tensor:
    """The second, (heads * blocks / 2, 1, block, …), a view."""
    return _pairs(x, size)[:, 1:]


def _halves(block: int, device: torch.device) -> tuple[int, list[int]]:
    """Size of the causal blocks in which a diagonal block is done, and of the squares below them.

    The kernel computes a causal block whole: two halves and the square are three quarters of it.
    Halves of fewer than `LEAST` tokens lose as much again in narrower tiles.
    """
    size: int = block
    squares: list[int] = []
    while pieces.fused(device) and size % 2 == 0 and size // 2 >= LEAST:
        size //= 2
        squares.insert(0, size)
    return size, squares


def _diagonal(q: Tensor, k: Tensor, v: Tensor, block: int, scale: float) -> tuple[Tensor, Tensor]:
    """Output and mass of each token over its own block, (heads, tokens, …)."""
    wide = torch.promote_types(q.dtype, torch.float32)
    least, squares = _halves(block, q.device)
    q1, k1, v1 = (_single(x, least) for x in (q, k, v))
    part, mass = pieces.forward(q1, k1, v1, scale, True)
    out, lse = part.reshape(q.shape).to(wide), mass.reshape(q.shape[:2])
    for size in squares:
        more = pieces.forward(_lower(q, size), _upper(k, size), _upper(v, size), scale, False)
        pieces.merge_into(_lower(out, size), _lower(lse, size), *more)
    return out, lse


def _diagonal_backward(
    rows: list[Tensor], keys: list[Tensor], block: int, scale: float
) -> list[Tensor]:
    """Gradients of queries, keys and values by each token's own block.

    ``rows`` are gradient, queries, output and mass, ``keys`` the keys and values.
    """
    wide = torch.promote_types(rows[1].dtype, torch.float32)
    least, squares = _halves(block, rows[0].device)
    g, q, out, lse = (_single(x, least) for x in rows)
    k, v = (_single(x, least) for x in keys)
    found = pieces.backward(g, q, k, v, out, lse, scale, True)
    sums = [x.reshape(rows[1].shape).to(wide) for x in found]
    for size in squares:
        g, q, out, lse = (_lower(x, size) for x in rows)
        k, v = (_upper(x, size) for x in keys)
        below = pieces.backward(g, q, k, v, out, lse, scale, False)
        for total, half, more in zip(sums, (_lower, _upper, _upper), below, strict=True):
            half(total, size).add_(more)
    return sums


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
            out, lse = _diagonal(q, k, v, size, scale)
        else:
            out, lse = torch.empty_like(q, dtype=wide), q.new_empty(q.shape[:2], dtype=wide)
        for heads, rounds in work:
            Q, K, V, O, L = (_Views(x, heads, size) for x in (q, k, v, out, lse))  # noqa: E741
            for r in rounds:
                mask = None
                if table is not None:
                    mask = toeplitz(table, heads, r.distances[0], size, wide)
                part, mass = pieces.forward(Q.queries(r), K.keys(r), V.keys(r), scale, False, mask)
                if r.distances == (0,):
                    O.queries(r).copy_(part)
                    L.queries(r).copy_(mass)
                    continue
                n = len(r.weights)
                found = part.chunk(n, 2), mass.chunk(n, 2)
                for o, total, more, own, weight in zip(
                    O.parts(r), L.parts(r), *found, r.weights, strict=True
                ):
                    pieces.merge_into(o, total, more, own + weight if weight else own)
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
            sums = _diagonal_backward([g, q, out, lse], [k, v], size, ctx.scale)
        else:
            sums = [torch.zeros_like(q, dtype=wide) for _ in need]
        for heads, rounds in ctx.work:
            G, Q, K, V, O, L = (_Views(x, heads, size) for x in (g, q, k, v, out, lse))  # noqa: E741
            DQ, DK, DV = (_Views(x, heads, size) for x in sums)
            for r in rounds:
                mask = None
                if table is not None:
                    mask = toeplitz(table, heads, r.distances[0], size, wide)
                mass = L.queries(r)
                if any(r.weights):
                    own = mass.new_tensor(r.weights).repeat_interleave(
                        mass.shape[2] // len(r.weights)
                    )
                    mass = mass - own
                G1, Q1, O1 = (x.queries(r) for x in (G, Q, O))
                dq, dk, dv = pieces.backward(
                    G1, Q1, K.keys(r), V.keys(r), O1, mass, ctx.scale, False, mask
                )
                if need[0]:
                    DQ.add_to_queries(r, dq)
                for sums_of, more, needed in ((DK, dk, need[1]), (DV, dv, need[2])):
                    if needed:
                        keys = sums_of.keys(r)
                        keys += more
        return *(
            total[..., : shape[-1]].to(q.dtype).reshape(shape) if needed else None
            for total, needed in zip(sums, need, strict=True)
        ), None  # fmt: skip


def toeplitz(
    table: Tensor | None, heads: slice, distance: int, size: int, dtype: torch.dtype
) -> Tensor | None:
    """The bias (heads, tokens) between two blocks, (1, heads, block, block), or none.

    Ahead of the query it is minus infinity; elsewhere it is cut off where a softmax sees no
    difference (`pieces.LOWEST`), because the kernel knows no row that sees nothing.
    """
    if table is None:
        return None
    at = distance * size + torch.arange(1 - size, size, device=table.device)
    line = table[heads, at.clamp(0, table.shape[1] - 1)].to(dtype)
    line = torch.maximum(line, table[heads, :1].to(dtype) + pieces.LOWEST)
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
