r"""How many blocks a row of a head needs for a promise, and how often such promises are kept.

The fast form of :mod:`genopt_core.attention.blocks.guarantee`, on the queries, keys and values of a
layer: `verify` draws a small pilot of blocks and gives the plan that keeps as many as are needed;
`coverage` does so often and compares with exact attention.

Sources: see there and :mod:`genopt_core.attention.blocks.bounds`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from genopt_core.attention.blocks.bounds import serfling_blocks, serfling_error
from genopt_core.attention.blocks.guarantee import OF, Of, blocks_needed, promised_error
from genopt_core.attention.blocks.quantiles import wilson_interval
from genopt_core.checks import one_of, real, whole
from genopt_core.torch.attention.attention import pr_flash_attention
from genopt_core.torch.attention.designs import Design
from genopt_core.torch.attention.plans import Plan

__all__ = ["Coverage", "Promise", "coverage", "verify"]

Method = Literal["normal", "serfling"]


@dataclass(frozen=True, eq=False)
class Promise:
    r"""What `verify` found out.

    Attributes
    ----------
    plan : Plan
        Keeps for sure what the given one does and draws the others that the promise needs, without
        replacement, each set of them as likely as any other.
    needed, free : (batch, heads, blocks) int64 tensors
        Blocks to draw in each row of blocks for the neediest of its queries, and from how many.
    error : (batch, heads, tokens) float64 tensor
        The relative error that the given plan's number of blocks promises each query with
        probability 1 − δ; 0 where it keeps all.
    promised : float
        Share of the queries for which that is at most ε.
    """

    plan: Plan
    needed: Tensor
    free: Tensor
    error: Tensor
    promised: float

    @property
    def density(self) -> float:
        """Share of the lower triangle's blocks that keep the promise."""
        return self.plan.density


@torch.no_grad()
def verify(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    plan: Plan | Design,
    eps: float,
    delta: float,
    *,
    pilot: int = 4,
    of: Of = "output",
    method: Method = "normal",
    block: int | None = None,
    bias: Tensor | None = None,
    scale: float | None = None,
    generator: torch.Generator | None = None,
) -> Promise:
    r"""Blocks that a relative error of at most ε with probability 1 − δ needs, row by row.

    What a plan keeps with probability 1 is known; of each row's other blocks ``pilot`` are drawn
    and computed, and from how much they vary follows how many are needed in all.  The promise is to
    each query by itself, and a row of blocks keeps as many as its neediest query needs.

    Parameters
    ----------
    q : (batch, heads, tokens, dim) tensor
    k, v : (batch, key_heads, tokens, dim) tensors
    plan : Plan or Design
        Such as ``sink(1) | near(1) | sample(law, 4)``, or what `plan_rows` gives with
        ``choose="top"``.
    eps, delta : float
        Relative error, and the probability with which it may be larger.
    pilot : int
        Blocks of the first draw, 2 or more.  They cost as much as any kept block.
    of : {"output", "mass", "numerator"}
        Relative to which length.
    method : {"normal", "serfling"}
        An approximation; or, for the mass, a true bound that needs no pilot and mostly all blocks.
    block : int, optional
        For a design.
    bias, scale
        As in `pr_flash_attention`; no bias for "serfling".
    generator : ``torch.Generator``, optional
        On the CPU.

    Returns
    -------
    Promise

    Examples
    --------
    >>> from genopt_core.torch.attention import near, sink
    >>> g = torch.Generator().manual_seed(0)
    >>> q, k, v = (torch.randn(1, 2, 256, 8, generator=g) for _ in range(3))
    >>> found = verify(q, k, v, sink(1) | near(1), 0.3, 0.1, of="mass", block=8, generator=g)
    >>> found.promised, int(found.free.max()), bool((found.needed < found.free).any())
    (0.09375, 29, True)
    """
    one_of(of, "of", OF)
    one_of(method, "method", ("normal", "serfling"))
    if method == "serfling" and (of != "mass" or bias is not None):
        raise ValueError("of must be 'mass' and bias None for the method 'serfling'")
    if not isinstance(plan, Plan | Design):
        raise TypeError(f"plan must be a Plan or a Design, got {plan!r}")
    first = whole(pilot, "pilot", 2)
    b, h, n, _ = q.shape
    if isinstance(plan, Design):
        plan = plan.plan(n, block=block, heads=h, batch=b, generator=generator)
    plan = plan.to(q.device)
    size, t = plan.block, plan.blocks
    sure = plan.kept & (plan.pi == 1)
    free = (torch.ones_like(sure).tril(-1) & ~sure).expand(b, h, t, t)
    held = (plan.kept & ~sure).sum(-1).expand(b, h, t)
    m = free.sum(-1)
    known = Plan(n, size, sure, sure.double())
    # called for its checks too
    out, lse = pr_flash_attention(q, k, v, known, bias=bias, scale=scale, return_lse=True)
    order = torch.rand(b, h, t, t, generator=generator, dtype=torch.float64).to(q.device)
    rank = order.masked_fill(~free, 2.0).argsort(-1).argsort(-1)
    factor = q.shape[-1] ** -0.5 if scale is None else real(scale, "scale")
    of_token = torch.arange(n, device=q.device) // size
    blocks, kept = m[..., of_token], held[..., of_token]
    if method == "serfling":
        span = _span(q, k, lse, free, size, factor).cpu().numpy()
        args = blocks.cpu().numpy()
        need = torch.from_numpy(serfling_blocks(span, args, eps, delta))
        error = serfling_error(span, args, kept.cpu().numpy(), delta)
    else:
        deviation = _pilot(q, k, v, out, lse, rank, m, first, size, factor, bias, of)
        r, args = deviation.cpu().numpy(), blocks.cpu().numpy()
        need = torch.from_numpy(blocks_needed(r, args, eps, delta, first))
        error = promised_error(r, args, kept.cpu().numpy(), delta, first)
    needed = torch.zeros(b, h, t, dtype=torch.int64)
    needed.scatter_reduce_(-1, of_token.cpu().expand(b, h, n), need, "amax")
    needed = torch.minimum(needed.to(q.device), m)
    drawn = free & (rank < needed.unsqueeze(-1))
    likely = (needed / m.clamp_min(1)).double().unsqueeze(-1)
    pi = torch.where(free, likely.expand(b, h, t, t), sure.double())
    found = torch.from_numpy(error).to(q.device)
    return Promise(
        Plan(n, size, drawn | sure, pi), needed, m, found, (found <= eps).double().mean().item()
    )


def _pilot(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    out: Tensor,
    lse: Tensor,
    rank: Tensor,
    m: Tensor,
    first: int,
    size: int,
    scale: float,
    bias: Tensor | None,
    of: Of,
) -> Tensor:
    """Relative deviation of each query, (batch, heads, tokens).

    0 where no block is left to draw, infinity where there are no more than the pilot draws.
    """
    b, h, n = q.shape[:3]
    wide = torch.promote_types(q.dtype, torch.float32)
    full = n // size
    keys, values = (
        x[:, :, : full * size].unflatten(2, (full, size)).repeat_interleave(h // x.shape[1], 1)
        for x in (k, v)
    )
    batch, head = (torch.arange(x, device=q.device) for x in (b, h))
    batch, head = batch[:, None, None], head[None, :, None]
    found = torch.zeros(b, h, n, dtype=torch.float64, device=q.device)
    count = m[..., None]  # a query's number of blocks is that of its row of blocks
    for i in range(rank.shape[-1]):
        at = slice(i * size, min((i + 1) * size, n))
        if int(m[:, :, i].max()) <= first:
            found[:, :, at] = torch.where(count[:, :, i] > 0, math.inf, 0.0)
            continue
        # of a row with fewer free blocks others come in, whose numbers nothing uses
        chosen = rank[:, :, i].argsort(-1)[..., :first].clamp_max(full - 1)
        K, V = (x[batch, head, chosen].to(wide) for x in (keys, values))
        s = torch.einsum("bhqd,bhptd->bhqpt", q[:, :, at].to(wide), K) * scale
        if bias is not None:
            places = chosen.unsqueeze(-1) * size + torch.arange(size, device=q.device)
            here = torch.arange(at.start, at.stop, device=q.device)
            distance = (here[:, None, None] - places.unsqueeze(2)).clamp_min(0)
            lines = bias.to(s).expand(h, -1)
            s = s + lines[head.unsqueeze(-1).unsqueeze(-1), distance]
        mass = s.logsumexp(-1).double()
        top = torch.maximum(mass.amax(-1), lse[:, :, at].double())
        z, z0 = (mass - top.unsqueeze(-1)).exp(), (lse[:, :, at].double() - top).exp()
        blocks = count[:, :, i].double()
        if of == "mass":
            spread, total = z.std(-1), z0 + blocks * z.mean(-1)
        else:
            means = torch.einsum("bhqpt,bhptd->bhqpd", s.softmax(-1), V).double()
            sums = means * z.unsqueeze(-1)
            whole_sum = z0.unsqueeze(-1) * out[:, :, at].double()
            whole_sum = whole_sum + blocks.unsqueeze(-1) * sums.mean(-2)
            total = whole_sum.norm(dim=-1)
            if of == "output":
                whole_mass = z0 + blocks * z.mean(-1)
                mean = (whole_sum / whole_mass.unsqueeze(-1)).unsqueeze(-2)
                sums = sums - z.unsqueeze(-1) * mean
            spread = sums.var(-2).sum(-1).sqrt()
        part = blocks * spread
        part = torch.where(part == 0, 0.0, part / total)
        few = torch.where(count[:, :, i] > 0, math.inf, 0.0)
        found[:, :, at] = torch.where(count[:, :, i] > first, part, few)
    return found


def _span(q: Tensor, k: Tensor, lse: Tensor, free: Tensor, size: int, scale: float) -> Tensor:
    r""":math:`m (b - a) / Z_{\min}` of each query from centers and radii of the key blocks."""
    h, n = q.shape[1:3]
    full = n // size
    keys = k[:, :, : full * size].unflatten(2, (full, size)).double()
    centers = keys.mean(3)
    radius = (keys - centers.unsqueeze(3)).norm(dim=-1).amax(-1)
    centers, radius = (x.repeat_interleave(h // k.shape[1], 1) for x in (centers, radius))
    low = q.double() @ centers.mT * scale + math.log(size)
    c = abs(scale) * q.double().norm(dim=-1, keepdim=True) * radius.unsqueeze(2)
    high = low + torch.logaddexp(c, -c) - math.log(2)
    row = torch.arange(n, device=q.device) // size
    seen = free[:, :, row, :full]
    none = torch.finfo(torch.float64).min
    least = torch.where(seen, low, -none).amin(-1)
    most = torch.where(seen, high, none).amax(-1)
    floor = torch.logaddexp(torch.where(seen, low, none).logsumexp(-1), lse.double())
    m = free.sum(-1)[..., row]
    # not a number where nothing is free; such a row needs no block and has no error
    return m * ((most - floor).exp() - (least - floor).exp())


@dataclass(frozen=True)
class Coverage:
    r"""How often promises were kept, as `coverage` measured it.

    Attributes
    ----------
    share, low, high : float
        Share of the trials in which the error was at most ε, and its 95 % interval.
    trials : int
        One query of each row of blocks, head and draw whose row did not keep everything: these are
        independent.
    every : float
        The share over all queries, those with every block included.
    density : float
        Mean share of the lower triangle that was kept.

    Examples
    --------
    >>> Coverage(share=0.88, low=0.8, high=0.94, trials=100, every=0.9, density=0.5).kept(delta=0.1)
    True
    """

    share: float
    low: float
    high: float
    trials: int
    every: float
    density: float

    def kept(self, delta: float) -> bool:
        """Whether the promise may be true: 1 − δ is not above the interval."""
        return 1 - delta <= self.high


@torch.no_grad()
def coverage(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    plan: Plan | Design,
    eps: float,
    delta: float,
    *,
    draws: int = 20,
    of: Of = "output",
    bias: Tensor | None = None,
    scale: float | None = None,
    generator: torch.Generator | None = None,
    pilot: int = 4,
    method: Method = "normal",
    block: int | None = None,
) -> Coverage:
    r"""How often what `verify` promises is kept, against exact attention.

    Parameters
    ----------
    draws : int
        Pilots and plans that are drawn, each of its own.
    q, k, v, plan, eps, delta, of, bias, scale, generator, pilot, method, block
        As in `verify`.

    Returns
    -------
    Coverage

    Examples
    --------
    >>> from genopt_core.torch.attention import near, sink
    >>> g = torch.Generator().manual_seed(0)
    >>> q, k, v = (torch.randn(1, 2, 256, 8, generator=g) for _ in range(3))
    >>> plan = (sink(1) | near(1)).plan(256, block=8)
    >>> found = coverage(q, k, v, plan, 0.2, 0.1, of="mass", draws=4, generator=g)
    >>> found.share > 0.9, found.kept(0.1)
    (True, True)
    """
    n = q.shape[2]
    options = {"bias": bias, "scale": scale}
    exact: Tensor | None = None
    trials = kept = 0
    every, density = [], []
    for _ in range(whole(draws, "draws")):
        found = verify(
            q, k, v, plan, eps, delta,
            pilot=pilot, of=of, method=method, block=block, generator=generator, **options,  # type: ignore[arg-type]
        )  # fmt: skip
        if exact is None:
            lower = torch.ones_like(found.plan.kept[:1, :1]).tril()
            everything = Plan(n, found.plan.block, lower, lower.double())
            exact, mass = pr_flash_attention(q, k, v, everything, return_lse=True, **options)  # type: ignore[arg-type]
        out, lse = pr_flash_attention(q, k, v, found.plan, return_lse=True, **options)  # type: ignore[arg-type]
        gain = (lse - mass).double().exp()
        if of == "mass":
            error = (gain - 1).abs()
        else:
            estimate = out.double() * (gain.unsqueeze(-1) if of == "numerator" else 1)
            error = (estimate - exact.double()).norm(dim=-1) / exact.double().norm(dim=-1)
        # what is computed otherwise rounds otherwise: a row that keeps everything is exact
        good = error <= eps
        size, t = found.plan.block, found.plan.blocks
        inside = torch.rand(*q.shape[:2], t, generator=generator).to(q.device)
        start = torch.arange(t, device=q.device) * size
        length = (n - start).clamp_max(size)
        one = start + (inside * length).long().clamp_max(length - 1)
        some = found.needed < found.free
        trials += int(some.sum())
        kept += int((good.gather(-1, one) & some).sum())
        every.append(good.double().mean().item())
        density.append(found.density)
    low, high = wilson_interval(kept, trials) if trials else (1.0, 1.0)
    share = kept / trials if trials else 1.0
    return Coverage(share, low, high, trials, sum(every) / draws, sum(density) / draws)
