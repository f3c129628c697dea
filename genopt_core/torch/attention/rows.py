r"""Plans that look at the contents: each row of each head draws the blocks that seem to weigh much.

The kept blocks of a row are a sample with probability proportional to an estimate of their weight,
so that the weights 1/π of what is kept hardly vary.  Estimates come from a few queries of each
block, the *probes*; how much of full attention's work a plan costs is `plan_cost`.

Sources: the probes are our addition, near to MInference's last queries; centroids are MoBA's gate
(arXiv 2502.13189), antidiagonals XAttention's (arXiv 2503.16428), a floor under estimated
probabilities is old practice in sampling.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from genopt_core.attention.blocks.laws import DistanceLaw
from genopt_core.checks import fraction, one_of, real, whole
from genopt_core.torch.attention.draws import capped, checked_generator, systematic
from genopt_core.torch.attention.plans import Plan, default_block

__all__ = ["block_mass", "plan_cost", "plan_rows", "self_similarity"]

Proxy = Literal["probe", "centroid", "antidiagonal"]
PROXIES: tuple[Proxy, ...] = ("probe", "centroid", "antidiagonal")


def plan_rows(
    q: Tensor,
    k: Tensor,
    count: float | None = None,
    *,
    density: float | None = None,
    block: int | None = None,
    proxy: Proxy = "probe",
    probes: int | None = None,
    law: DistanceLaw | None = None,
    mix: float = 0.1,
    sinks: int = 1,
    nears: int = 1,
    choose: Literal["auto", "sample", "top"] = "auto",
    share: Literal["row", "heads"] = "row",
    guard: float = 0.0,
    bias: Tensor | None = None,
    scale: float | None = None,
    generator: torch.Generator | None = None,
) -> Plan:
    r"""Blocks of each row by what it seems to look for: the recommended plan (book, eq. attn-rows).

    .. math:: \pi_{ij} = \min\Bigl(1, \kappa_i\,\bigl((1 - \mu)\,\hat p_{ij}
              + \mu\, w_{i-j}\bigr)\Bigr), \qquad
              \hat p_{ij} = \sqrt{\operatorname{mean}_{r}\, p_{rj}^2}

    with :math:`p_{rj}` the mass that probe r gives to block j, both terms scaled to sum 1 over the
    row's free blocks, and :math:`\kappa_i` such that the row keeps ``count`` of them.  The root
    mean square is what makes the sampling error of the row's sums smallest, the law w a floor that
    bounds the weights 1/π.

    Parameters
    ----------
    q : (batch, heads, tokens, dim) tensor
    k : (batch, key_heads, tokens, dim) tensor
    count : float, optional
        Blocks a row beside those that are always kept; all if there are fewer.
    density : float, optional
        Instead of ``count``: the expected share of the lower triangle, always kept blocks included.
    block : int, optional
        By default `default_block` of the length; smaller blocks choose better and run slower.
    proxy, probes
        As in `block_mass`.
    law : DistanceLaw, optional
        By default harmonic.
    mix : float
        :math:`\mu`, from 0 to 1; 1 is the law alone.
    sinks, nears : int
        First key blocks and blocks before the diagonal that are always kept.
    choose : {"auto", "sample", "top"}
        "top" keeps the largest of the mixture for sure, which no weights correct; a fraction of a
        block goes to the rows whose next block has the largest mass.  "auto" does so where fewer
        than two blocks a row are free to choose, as one block drawn says little, and else samples.
    share : {"row", "heads"}
        "row": each row of each head keeps ``count`` blocks.  "heads": a row's blocks are those of
        all heads together, as many on the mean, in proportion to what each head's probes see
        beside the always kept ones, with a share ``mix`` alike for all heads; :math:`\kappa_i` is
        then one for all.  Among layers: `genopt_core.attention.blocks.divide_among_layers`.
    guard : float
        From 0 to 1: key blocks whose `self_similarity` is below it are always kept, beside
        ``count`` others, as no estimate by a few numbers says what they hold; not with ``density``.
    bias, scale
        As in `pr_flash_attention`; no bias for the antidiagonal proxy.
    generator : ``torch.Generator``, optional
        On the CPU.

    Returns
    -------
    Plan
        For the batch and heads of q, of no gradient.

    Examples
    --------
    >>> q = k = torch.zeros(1, 2, 64, 4)
    >>> plan = plan_rows(q, k, 2, block=4)
    >>> tuple(plan.kept.shape), plan.kept.sum(-1)[0, 0].tolist()
    ((1, 2, 16, 16), [1, 2, 3, 4, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5, 5])
    """
    if (count is None) == (density is None):
        raise ValueError(f"one of count and density must be given, got {count!r} and {density!r}")
    part = fraction(mix, "mix", zero=True)
    if fraction(guard, "guard", zero=True) and density is not None:
        raise ValueError(f"guard must be 0 if density is given, got {guard!r}")
    if guard and count is not None and count != int(count):
        raise ValueError(f"count must be whole with a guard, got {count!r}")
    one_of(choose, "choose", ("auto", "sample", "top"))
    one_of(share, "share", ("row", "heads"))
    one_of(proxy, "proxy", PROXIES)
    checked_generator(generator)
    n = q.shape[2]
    size = min(whole(block, "block"), n) if block is not None else default_block(n)
    if size == n:  # one block, of which nothing is asked
        proxy, probes = "probe", 1 if probes is None else min(whole(probes, "probes"), 1)
    mass = block_mass(q, k, size, proxy, probes, bias=bias, scale=scale)
    t = mass.shape[-1]
    i = torch.arange(t, device=q.device)
    delta = i[:, None] - i
    sure = (delta >= 0) & ((i < whole(sinks, "sinks", 0)) | (delta <= whole(nears, "nears", 0)))
    if guard:
        unlike = self_similarity(k, size) < guard
        unlike = unlike.repeat_interleave(q.shape[1] // k.shape[1], 1).unsqueeze(2)
        sure = sure | (unlike & (delta >= 0))
    free = (delta >= 0) & ~sure
    places = free.sum(-1)
    each = real(count, "count") if count is not None else _row_count(places, sure, density, t)
    if each < 0:
        raise ValueError(f"count must not be negative, got {count!r}")
    w = torch.from_numpy((law or DistanceLaw.harmonic()).weights(t)).to(q.device)
    floor = torch.where(free, w[delta.clamp_min(0)], 0.0)
    seen = torch.where(free, mass.double(), 0.0)
    total = seen.sum(-1, keepdim=True)
    floor = floor / floor.sum(-1, keepdim=True).clamp_min(1e-300)
    weight = (1 - part) * seen / total.clamp_min(1e-300) + part * floor
    wanted = places.clamp_max(each) if isinstance(each, int) else places.double().clamp_max(each)
    wanted, lines = wanted.double().expand(weight.shape[:-1]), free.expand(weight.shape)
    if share == "heads":
        sight = (1 - part) * total + part * total.mean(1, keepdim=True)
        blind = sight.sum(1, keepdim=True) == 0  # no head saw a thing: all alike
        weight = weight * torch.where(blind, 1.0, sight)
        weight, mass, lines = (x.transpose(1, 2).flatten(2) for x in (weight, mass, lines))
        wanted = wanted.sum(1)  # (batch, rows), of all heads
    if choose == "top" or (choose == "auto" and each < 2):
        drawn = _of_heads(_largest(weight, mass, wanted, lines), t)
        pi = (drawn | sure).double()
    else:
        pi = torch.where(sure, 1.0, _of_heads(capped(weight, wanted), t))
        drawn = systematic(pi, generator) & free
    return Plan(n, size, drawn | sure, pi)


@torch.no_grad()
def self_similarity(k: Tensor, block: int) -> Tensor:
    r"""How much the keys of each block are alike, (batch, key_heads, blocks), from 0 to 1.

    As :func:`genopt_core.attention.blocks.self_similarity`.

    >>> self_similarity(torch.ones(1, 1, 8, 3), 4).allclose(torch.ones(2))
    True
    """
    size, n = whole(block, "block"), k.shape[2]
    wide = torch.promote_types(k.dtype, torch.float32)
    unit = torch.nn.functional.normalize(k.to(wide), dim=-1, eps=1e-30)
    t = -(-n // size)
    sums = torch.nn.functional.pad(unit, (0, 0, 0, t * size - n)).unflatten(2, (t, size)).sum(3)
    first = torch.arange(t, device=k.device) * size
    return (sums / (n - first).clamp_max(size).unsqueeze(-1)).square().sum(-1)


def _of_heads(lines: Tensor, t: int) -> Tensor:
    """(batch, heads, rows, blocks), from the lines of each head or from one of all heads a row."""
    return lines if lines.ndim == 4 else lines.unflatten(2, (-1, t)).transpose(1, 2)


def _largest(weight: Tensor, mass: Tensor, wanted: Tensor, free: Tensor) -> Tensor:
    """The blocks of the largest weight, ``wanted`` of them on average over rows."""
    rank = weight.argsort(dim=-1, descending=True, stable=True).argsort(dim=-1)
    whole_part = wanted.floor()
    drawn = (rank < whole_part.unsqueeze(-1)) & free
    more = int((wanted - whole_part).sum(-1).max().round())
    if more:
        following = (rank == whole_part.unsqueeze(-1)) & free
        gain = torch.where(following, mass, 0.0).sum(-1)
        rows = torch.zeros_like(gain, dtype=torch.bool)
        rows.scatter_(-1, gain.topk(more, dim=-1).indices, True)
        drawn = drawn | (following & rows.unsqueeze(-1))
    return drawn


def _row_count(places: Tensor, sure: Tensor, density: float | None, t: int) -> float:
    """The number a row that brings the mean density to what is wanted, by bisection."""
    lower = t * (t + 1) / 2
    least = int(sure.sum()) / lower
    share = real(density, "density")
    if not least * (1 - 1e-12) <= share <= 1:
        raise ValueError(
            f"density must be in [{least:.4g}, 1] for {t} blocks, of which some are always kept, "
            f"got {density!r}"
        )
    wanted, p = share * lower - int(sure.sum()), places.double()
    low, high = 0.0, float(t)
    for _ in range(60):
        middle = (low + high) / 2
        if float(p.clamp_max(middle).sum()) < wanted:
            low = middle
        else:
            high = middle
    return high


@torch.no_grad()
def block_mass(
    q: Tensor,
    k: Tensor,
    block: int,
    proxy: Proxy = "probe",
    probes: int | None = None,
    *,
    bias: Tensor | None = None,
    scale: float | None = None,
) -> Tensor:
    r"""Estimated attention mass of each earlier block, the root mean square over a block's probes.

    Parameters
    ----------
    q, k, bias, scale
        As in `plan_rows`.
    block : int
        Tokens of a block, B.
    proxy : {"probe", "centroid", "antidiagonal"}
        "probe": the exact softmax of ``probes`` queries of each block, spread evenly, over all
        keys.  "centroid": the same queries against the mean key of each block, times B.
        "antidiagonal": sums of scores along antidiagonals of B/probes x B/probes tiles, one number
        a tile.
    probes : int, optional
        From 1 to B, by default 4, or the next fewer that the block has (that divide it, for
        antidiagonals).  Probes and antidiagonals cost probes/B of all scores; centroids, another
        B times less.

    Returns
    -------
    (batch, heads, blocks, blocks) float32 or float64 tensor
        0 on the diagonal and above.

    Examples
    --------
    >>> mass = block_mass(torch.zeros(1, 1, 8, 4), torch.zeros(1, 1, 8, 4), block=4)
    >>> mass.shape, round(mass[0, 0, 1, 0].item(), 3)
    (torch.Size([1, 1, 2, 2]), 0.644)
    """
    one_of(proxy, "proxy", PROXIES)
    size = whole(block, "block")
    p = _assumed(probes, size, proxy)
    if p > size:
        raise ValueError(f"probes must be at most {size}, the tokens of a block, got {probes!r}")
    if q.ndim != 4 or k.ndim != 4 or q.shape[1] % k.shape[1] or q.shape[2:] != k.shape[2:]:
        raise ValueError(
            "q and k must have the shapes (batch, heads, tokens, dim) and (batch, key_heads, "
            f"tokens, dim), heads a multiple of key_heads, got {tuple(q.shape)}, {tuple(k.shape)}"
        )
    if bias is not None and proxy == "antidiagonal":
        raise ValueError("bias must be None for the proxy 'antidiagonal'")
    b, h, n, d = q.shape
    if bias is not None and (bias.shape[0] not in (1, h) or bias.shape[-1] < n):
        raise ValueError(
            f"bias must have the shape ({h} or 1, {n} distances or more), got {tuple(bias.shape)}"
        )
    t, wide = -(-n // size), torch.promote_types(q.dtype, torch.float32)
    factor = d**-0.5 if scale is None else real(scale, "scale")
    groups = q.unflatten(1, (k.shape[1], -1)).flatten(0, 1).to(wide)  # (b * key_heads, g, n, d)
    keys = k.flatten(0, 1).to(wide).unsqueeze(1)
    table = None if bias is None else bias.to(wide).expand(h, -1)
    out = torch.zeros(b * h, t, t, dtype=wide, device=q.device)
    step = max(1, 64 // p)
    for start in range(0, t, step):  # so many rows at once: memory stays linear in the length
        rows = range(start, min(start + step, t))
        if proxy == "antidiagonal":
            mass = _antidiagonal(groups, keys, rows, size, p, factor)
        else:
            mass = _probed(groups, keys, rows, size, p, factor, table, proxy == "centroid")
        out[:, rows.start : rows.stop, : mass.shape[-1]] = mass.flatten(0, 1)
    return out.view(b, h, t, t).tril(-1)


def _assumed(probes: int | None, size: int, proxy: Proxy) -> int:
    """How many probes a block of ``size`` tokens has, if none are given."""
    if probes is not None:
        if whole(probes, "probes") > size:
            raise ValueError(
                f"probes must be at most {size}, the tokens of a block, got {probes!r}"
            )
        return int(probes)
    divides = proxy == "antidiagonal"
    return next(n for n in (4, 3, 2, 1) if n <= size and not (divides and size % n))


def _probed(
    q: Tensor,
    k: Tensor,
    rows: range,
    size: int,
    probes: int,
    scale: float,
    bias: Tensor | None,
    centroids: bool,
) -> Tensor:
    n = q.shape[2]
    inside = (torch.arange(probes, device=q.device) * 2 + 1) * size // (2 * probes)
    at = torch.tensor(rows, device=q.device)[:, None] * size + inside
    at = at.flatten().clamp_max(n - 1)
    stop = min(rows.stop * size, n)
    count = -(-stop // size)
    probe = q[:, :, at]
    distance = at[:, None] - torch.arange(count * size, device=q.device)
    if centroids:
        full = n // size
        centers = k[:, :, : full * size].unflatten(2, (full, size)).mean(3)[:, :, : rows.stop]
        s = (probe @ centers.mT) * scale + math.log(size)
        if bias is not None:
            ends = distance.unflatten(-1, (count, size))[..., : s.shape[-1], :]
            mean = bias[:, ends.clamp_min(0)].logsumexp(-1) - math.log(size)
            s = s + _by_group(mean, s)
        own = torch.arange(s.shape[-1], device=q.device) >= (at // size)[:, None]
        s = s.masked_fill(own, torch.finfo(s.dtype).min)
        mass = torch.softmax(s, -1).masked_fill(own, 0.0)
    else:
        s = (probe @ k[:, :, :stop].mT) * scale
        if bias is not None:
            s = s + _by_group(bias[:, distance[:, :stop].clamp_min(0)], s)
        s = s.masked_fill(distance[:, :stop] < 0, float("-inf"))
        p = torch.nn.functional.pad(torch.softmax(s, -1), (0, count * size - stop))
        mass = p.unflatten(-1, (count, size)).sum(-1)
    return mass.unflatten(2, (len(rows), probes)).square().mean(3).sqrt()


def _by_group(bias: Tensor, scores: Tensor) -> Tensor:
    """A bias (heads, …) as (batch * key_heads, heads of a group, …)."""
    grouped = bias.unflatten(0, (-1, scores.shape[1]))
    return grouped.repeat(len(scores) // len(grouped), 1, 1, 1)


def _antidiagonal(
    q: Tensor, k: Tensor, rows: range, size: int, probes: int, scale: float
) -> Tensor:
    stride = size // probes
    if stride * probes != size:
        raise ValueError(f"probes must divide the block of {size} for antidiagonals, got {probes}")
    more = -q.shape[2] % size
    q, k = (torch.nn.functional.pad(x, (0, 0, 0, more)) for x in (q, k))
    some = q[:, :, rows.start * size : rows.stop * size].unflatten(2, (-1, stride)).flip(3)
    tiles = k[:, :, : rows.stop * size].unflatten(2, (-1, stride)).flatten(3)
    s = (some.flatten(3) @ tiles.mT) * (scale / stride)
    i = torch.arange(s.shape[2], device=q.device)[:, None] + rows.start * probes
    s = s.masked_fill(torch.arange(s.shape[3], device=q.device) > i, float("-inf"))
    p = torch.softmax(s, -1).unflatten(-1, (-1, probes)).sum(-1)
    return p.unflatten(2, (len(rows), probes)).square().mean(3).sqrt()


def plan_cost(length: int, block: int, proxy: Proxy = "probe", probes: int | None = None) -> float:
    """What `plan_rows` computes, as a share of full causal attention's multiplications.

    Attention multiplies twice for each pair, once for the score and once for the output; a plan
    needs the scores of its probes only.

    >>> plan_cost(4096, 64), plan_cost(4096, 64, "centroid") < 0.001
    (0.03125, True)
    """
    one_of(proxy, "proxy", PROXIES)
    size = whole(block, "block")
    share = _assumed(probes, size, proxy) / size / 2
    return share / size if proxy == "centroid" else share
