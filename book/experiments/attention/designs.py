"""The block selections that are compared, each at the same number of kept blocks.

A design is called with the heads of one layer, the number of blocks a row keeps beside its own,
k, and a generator; it gives a plan and the estimator it is used with.  Where rows of a plan
have fewer earlier blocks than k, they keep all.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from genopt_core.attention.blocks import DistanceLaw, kept_density, radial_distances
from genopt_core.torch.attention import Plan, near, plan_cost, plan_rows, sample, sink
from genopt_core.torch.attention.designs import Design

BLOCK = 64
KEPT = (3, 7, 15)
"""Blocks a row beside its own: densities of 12, 23 and 43 per cent of 4096 tokens."""

SHARED = "recommended, shared by heads"
"""As many blocks a row of all heads together, more to heads that miss more."""

Draw = Callable[[Tensor, Tensor, int, torch.Generator], Plan]


@dataclass(frozen=True)
class Compared:
    """One selection and how it is used.

    ``family``: ours, paper, data-independent, data-dependent or oracle.  ``cost``: of the plan, as
    a share of full attention's multiplications.
    """

    draw: Draw
    estimator: str
    family: str
    random: bool = True
    cost: float = 0.0


def density_of(length: int, kept: int, block: int = BLOCK) -> float:
    """Share of the lower triangle with ``kept`` blocks a row beside its own."""
    t = -(-length // block)
    return sum(min(i, kept) + 1 for i in range(t)) / (t * (t + 1) / 2)


def by_law(law: DistanceLaw, block: int = BLOCK) -> Draw:
    """First and nearest block for sure, the rest by a law, drawn for each row and head."""

    def draw(q: Tensor, k: Tensor, kept: int, g: torch.Generator) -> Plan:
        design = sink(1) | near(1) | sample(law, max(kept - 2, 0), each="row")
        return design.plan(q.shape[2], block=block, heads=q.shape[1], generator=g)

    return draw


def paper(each: str, block: int = BLOCK) -> Draw:
    """The harmonic law alone, at the same mean density; as we read the paper."""

    def draw(q: Tensor, k: Tensor, kept: int, g: torch.Generator) -> Plan:
        density = density_of(q.shape[2], kept, block)
        design: Design = sample(DistanceLaw.harmonic(), density=density, each=each)  # type: ignore[arg-type]
        return design.plan(q.shape[2], block=block, heads=q.shape[1], generator=g)

    return draw


def fixed(chosen: Callable[[int, int], Tensor], block: int = BLOCK) -> Draw:
    """A lower triangle that neither chance nor contents decide."""

    def draw(q: Tensor, k: Tensor, kept: int, g: torch.Generator) -> Plan:
        t = -(-q.shape[2] // block)
        mask = chosen(t, kept)[None, None]
        return Plan(q.shape[2], block, mask, mask.double())

    return draw


def window_mask(t: int, kept: int, sinks: int) -> Tensor:
    """The nearest blocks and the first ones, so many beside each row's own."""
    i = torch.arange(t)
    delta = i[:, None] - i
    near_by = delta <= torch.where(i[:, None] <= kept, kept, kept - sinks)
    return (delta >= 0) & (near_by | (i < sinks))


def _radial(t: int, kept: int) -> Tensor:
    """Sink, the widest bands that fit, and further distances from the nearest on.

    Filled up until the density is at least that of ``kept`` blocks a row.
    """
    i = torch.arange(t)
    delta = i[:, None] - i
    wanted = sum(min(r, kept) + 1 for r in range(t)) / (t * (t + 1) / 2)

    def mask(distances: Tensor) -> Tensor:
        return (delta >= 0) & (distances[delta.clamp_min(0)] | (i < 1))

    fitting = torch.zeros(t, dtype=torch.bool)
    fitting[:1] = True
    for width in range(1, t):
        bands = torch.from_numpy(radial_distances(t, width))
        if kept_density(mask(bands).numpy()) > wanted:
            break
        fitting = bands
    for d in range(1, t):
        if kept_density(mask(fitting).numpy()) >= wanted:
            break
        fitting[d] = True
    return mask(fitting)


def by_contents(block: int = BLOCK, **options: object) -> Draw:
    """`plan_rows` with sink and near blocks for sure."""
    sure = {"sinks": 1, "nears": 1} | {
        n: options.pop(n) for n in ("sinks", "nears") if n in options
    }

    def draw(q: Tensor, k: Tensor, kept: int, g: torch.Generator) -> Plan:
        count = max(kept - sum(sure.values()), 0)  # type: ignore[arg-type]
        return plan_rows(q, k, count, block=block, generator=g, **sure, **options)  # type: ignore[arg-type]

    return draw


def at_equal_cost(probes: int) -> Draw:
    """Ours with so many blocks fewer that plan and blocks together cost what the others' do."""

    def draw(q: Tensor, k: Tensor, kept: int, g: torch.Generator) -> Plan:
        density = density_of(q.shape[2], kept) - plan_cost(q.shape[2], BLOCK, "probe", probes)
        return plan_rows(q, k, density=density, block=BLOCK, probes=probes, generator=g)

    return draw


def pooled(q: Tensor, k: Tensor, kept: int, g: torch.Generator) -> Plan:
    """Mean query against mean key of each block, the largest kept, as SpargeAttn starts from."""

    def means(x: Tensor) -> Tensor:
        return x.unflatten(2, (-1, BLOCK)).mean(3).repeat_interleave(BLOCK, 2)

    options = {"proxy": "centroid", "probes": 1, "mix": 0.0, "choose": "top"}
    return plan_rows(means(q), means(k), kept - 2, block=BLOCK, **options)  # type: ignore[arg-type]


def designs(calibrated: DistanceLaw) -> dict[str, Compared]:
    """All that is compared, by name."""
    harmonic, uniform = DistanceLaw.harmonic(), DistanceLaw.uniform()
    laws = {
        "harmonic": harmonic,
        "zipf 2": DistanceLaw.zipf(2),
        "geometric 0.8": DistanceLaw.geometric(0.8),
        "radial law": DistanceLaw.radial(),
        "calibrated": calibrated,
    }
    probe, gate = plan_cost(4096, BLOCK), plan_cost(4096, BLOCK, "centroid", BLOCK)
    few, diagonal = plan_cost(4096, BLOCK, "centroid"), plan_cost(4096, BLOCK, "antidiagonal")
    found = {
        "recommended": Compared(by_contents(), "difference", "ours", cost=probe),
        "recommended, self-normalized": Compared(
            by_contents(), "self-normalized", "ours", cost=probe
        ),
        "recommended, plain": Compared(by_contents(), "plain", "ours", cost=probe),
        "recommended, 2 probes, equal cost": Compared(
            at_equal_cost(2), "difference", "ours", cost=plan_cost(4096, BLOCK, "probe", 2)
        ),
        "centroids sampled, difference": Compared(
            by_contents(proxy="centroid", mix=0.3), "difference", "ours", cost=few
        ),
        "antidiagonals sampled, difference": Compared(
            by_contents(proxy="antidiagonal"), "difference", "ours", cost=diagonal
        ),
        "probes, largest kept": Compared(
            by_contents(choose="top", mix=0.0), "plain", "ours", False, probe
        ),
        "plain harmonic": Compared(paper("plan"), "plain", "paper"),
        "plain harmonic, each row": Compared(paper("row"), "plain", "paper"),
        "window": Compared(
            fixed(lambda t, k: window_mask(t, k, 0)), "plain", "data-independent", False
        ),
        "window + sink": Compared(
            fixed(lambda t, k: window_mask(t, k, 1)), "plain", "data-independent", False
        ),
        "radial + sink": Compared(fixed(_radial), "plain", "data-independent", False),
        "BigBird-style": Compared(by_law(uniform), "plain", "data-independent"),
        "vAttention-style uniform": Compared(
            by_law(uniform), "self-normalized", "data-independent"
        ),
        "pooled QK, largest kept": Compared(pooled, "plain", "data-dependent", False, few / 4),
        "MoBA gate, largest kept": Compared(
            by_contents(proxy="centroid", probes=BLOCK, mix=0.0, choose="top"),
            "plain",
            "data-dependent",
            False,
            gate,
        ),
        "antidiagonals, largest kept": Compared(
            by_contents(proxy="antidiagonal", mix=0.0, choose="top"),
            "plain",
            "data-dependent",
            False,
            diagonal,
        ),
        "largest kept, oracle": Compared(
            by_contents(probes=BLOCK, mix=0.0, choose="top", sinks=0, nears=0),
            "plain",
            "oracle",
            False,
            0.5,
        ),
    }
    for name, law in laws.items():
        every = {
            "harmonic": ("plain", "self-normalized", "difference"),
            "calibrated": ("difference",),
        }
        for estimator in every.get(name, ("self-normalized",)):
            found[f"sink + near + {name}, {estimator}"] = Compared(by_law(law), estimator, "ours")
    # last, as seeds of stored runs count places in this list
    shared = by_contents(share="heads")
    return found | {SHARED: Compared(shared, "difference", "ours", cost=probe)}
