r"""How to choose which blocks are computed: designs, which draw plans.

A *design* is composed, ``sink(1) | near(1) | sample(DistanceLaw.harmonic(), 4)``; what it draws for
one length is a :class:`~genopt_core.torch.attention.Plan`.

Source: F. Li, arXiv 2410.18441, the section on PrFlashAttention, for choosing by distance; the
composition by ``|`` is that of sparse-attention-hub's maskers.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from genopt_core.attention.blocks.laws import DistanceLaw, inclusion
from genopt_core.checks import one_of, real, whole
from genopt_core.torch.attention.draws import capped, checked_generator, systematic
from genopt_core.torch.attention.plans import Plan, default_block

__all__ = ["Design", "near", "plan_distances", "sample", "sink"]

Each = Literal["plan", "head", "row"]


@dataclass(frozen=True)
class Design:
    """How to choose blocks: made by `sink`, `near` and `sample`, joined by ``|``.

    Parts that are sure come first: `sample` draws among the blocks that they leave.

    >>> plan = (near(1) | sink(1)).plan(8, block=2)
    >>> plan.kept[0, 0].int().tolist()
    [[1, 0, 0, 0], [1, 1, 0, 0], [1, 1, 1, 0], [1, 0, 1, 1]]
    """

    sinks: int = 0
    nears: int = 0
    law: DistanceLaw | None = None
    count: float | None = None
    density: float | None = None
    each: Each = "plan"

    def __or__(self, other: Design) -> Design:
        if not isinstance(other, Design):
            return NotImplemented
        if self.law is not None and other.law is not None:
            raise ValueError("a design must have one sample(...); join drawn plans instead")
        drawn = self if self.law is not None else other
        return replace(
            drawn, sinks=max(self.sinks, other.sinks), nears=max(self.nears, other.nears)
        )

    def plan(
        self,
        length: int,
        *,
        block: int | None = None,
        heads: int = 1,
        batch: int = 1,
        generator: torch.Generator | None = None,
    ) -> Plan:
        """Draw once.

        Parameters
        ----------
        length : int
            Tokens.
        block : int, optional
            By default `default_block` of the length.
        heads, batch : int
            How many draws of their own, where the sample is drawn for each head or row.
        generator : ``torch.Generator``, optional
            On the CPU; by default PyTorch's own.
        """
        n = whole(length, "length")
        checked_generator(generator)
        size = min(whole(block, "block"), n) if block is not None else default_block(n)
        t = -(-n // size)
        i = torch.arange(t)
        delta = i[:, None] - i
        sure = (delta >= 0) & ((i < self.sinks) | (delta <= self.nears))
        groups = (whole(batch, "batch"), whole(heads, "heads"))
        free = (delta > self.nears) & (i >= self.sinks)
        if self.each == "plan" or self.law is None or not free.any():
            groups = (1, 1)
        shape = (*groups, t, t)
        pi = sure.double().expand(shape)
        kept = sure.expand(shape)
        chosen: tuple[int, ...] | None = tuple(range(min(self.nears + 1, t)))
        each: tuple[tuple[int, ...], ...] | None = None
        if self.law is not None and free.any():
            likely = _by_distance(self._inclusion(t, self.law, free), delta)
            if self.each == "row":
                draw = systematic(likely.expand(shape), generator)
                chosen = None
            else:
                line = likely[-1].flip(-1)  # over distances 0, 1, …, as the last row meets them
                drawn = systematic(line.expand(*groups, t), generator)
                lists = drawn.flatten(0, 1).unbind()
                each = tuple((*chosen, *one.nonzero().flatten().tolist()) for one in lists)  # type: ignore[misc]
                chosen = each[0] if self.each == "plan" else None
                draw = drawn[..., delta.clamp_min(0)] & free
            kept, pi = kept | draw, torch.where(sure, pi, likely)
        own = each if chosen is None else None
        sinks = min(self.sinks, t) if chosen is not None or own is not None else 0
        return Plan(n, size, kept.clone(), pi.clone(), chosen, sinks, own)

    def _inclusion(self, t: int, law: DistanceLaw, free: Tensor) -> Tensor:
        """Probabilities (rows, distances) if a row has its own, else one line of them."""
        w = torch.from_numpy(law.weights(t))
        pairs = torch.stack([free.diagonal(-d).sum() for d in range(t)])
        w = torch.where(pairs > 0, w, 0.0)
        if self.density is not None:
            lower = t * (t + 1) / 2
            least = (lower - int(pairs.sum())) / lower
            most = least + int(pairs[w > 0].sum()) / lower
            if not least * (1 - 1e-12) <= self.density <= most * (1 + 1e-12):
                raise ValueError(
                    f"density must be in [{least:.4g}, {most:.4g}] for {t} blocks, of which some "
                    f"are always kept, got {self.density!r}"
                )
            some = w > 0
            total = min(max(self.density - least, 0.0) * lower, float(pairs[some].sum()))
            pi = torch.zeros_like(w)
            cost = pairs[some].double().numpy()
            pi[some] = torch.from_numpy(inclusion(w[some].numpy(), total, cost))
            return pi
        count = torch.tensor(float(self.count or 0.0), dtype=torch.float64)
        if self.each != "row":
            return capped(w, count)
        rows = torch.arange(t)[:, None] - torch.arange(t)
        seen = rows - self.sinks >= 0  # row i has the distances up to i - sinks
        return capped(torch.where(seen, w.expand(t, t), 0.0), count.expand(t))


def _by_distance(line: Tensor, delta: Tensor) -> Tensor:
    """Over pairs (row, key block), from values over distances, or over rows and distances."""
    at = delta.clamp_min(0)
    out = line[at] if line.ndim == 1 else line.gather(-1, at)
    return torch.where(delta >= 0, out, 0.0)


def sink(blocks: int = 1) -> Design:
    """Always keep the first key blocks, on which heads rest when they look for nothing.

    >>> sink(1).plan(8, block=2).kept[0, 0, -1].int().tolist()
    [1, 0, 0, 1]
    """
    return Design(sinks=whole(blocks, "blocks", 0))


def near(blocks: int = 1) -> Design:
    """Always keep the blocks before the diagonal; the diagonal itself is kept in any case.

    >>> near(2).plan(8, block=2).kept[0, 0, -1].int().tolist()
    [0, 1, 1, 1]
    """
    return Design(nears=whole(blocks, "blocks", 0))


def sample(
    law: DistanceLaw,
    count: float | None = None,
    *,
    density: float | None = None,
    each: Each = "plan",
) -> Design:
    """Draw further blocks by a law over their distance, without replacement.

    Parameters
    ----------
    law : DistanceLaw
    count : float, optional
        Blocks a row beside those that are always kept: the number of distances drawn, or, for
        ``each="row"``, of blocks; all if there are fewer.
    density : float, optional
        Instead of ``count``: the expected share of the lower triangle, always kept blocks included.
    each : {"plan", "head", "row"}
        One draw of distances for all; one for each head; or a draw of blocks for each row of each
        head.  The first two are the fastest; the last two err in each head or row by themselves.

    Examples
    --------
    >>> design = sink(1) | sample(DistanceLaw.harmonic(), 2, each="head")
    >>> plan = design.plan(64, block=8, heads=4)
    >>> plan.kept.shape, plan.kept[0, :, -1].sum(-1).tolist()
    (torch.Size([1, 4, 8, 8]), [4, 4, 4, 4])
    """
    if not isinstance(law, DistanceLaw):
        raise TypeError(f"law must be a DistanceLaw, got {law!r}")
    if (count is None) == (density is None):
        raise ValueError(f"one of count and density must be given, got {count!r} and {density!r}")
    if count is not None and real(count, "count") < 0:
        raise ValueError(f"count must not be negative, got {count!r}")
    if density is not None and not 0 < real(density, "density") <= 1:
        raise ValueError(f"density must be in (0, 1], got {density!r}")
    one_of(each, "each", ("plan", "head", "row"))
    return Design(law=law, count=count, density=density, each=each)


def plan_distances(
    length: int,
    law: DistanceLaw,
    count: float | None = None,
    *,
    density: float | None = None,
    sinks: int = 1,
    nears: int = 1,
    block: int | None = None,
    generator: torch.Generator | None = None,
) -> Plan:
    """One set of block distances for all rows and heads: what the fused block diagonals take.

    The design ``sink(sinks) | near(nears) | sample(law, count, density=density)``, drawn.

    Examples
    --------
    >>> plan = plan_distances(4096, DistanceLaw.harmonic(), density=0.5)
    >>> plan.block, plan.sinks, plan.distances[:2]
    (256, 1, (0, 1))
    """
    design = sink(sinks) | near(nears) | sample(law, count, density=density)
    return design.plan(length, block=block, generator=generator)
