"""Explorer of chapter 4: a promise (ε, δ), what blocks it asks for, and how often it is kept."""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from genopt_core.attention.blocks import promise_errors, serfling_blocks, wilson_interval
from genopt_core.figures import schema as figure
from genopt_core.figures.controls import Choice
from genopt_core.figures.registry import Preset, explorer
from genopt_core.figures.schema import Axis, Figure, Panel

BLOCKS, CHANNELS, DRAWS = 64, 8, 1000
HEAVY = 20  # the block that outweighs the others in one of the rows
SPREADS = {"even": "alike", "uneven": "uneven", "tail": "a tail", "one": "one heavy"}
EPSILONS = {0.05: "0.05", 0.1: "0.1", 0.2: "0.2"}
DELTAS = {0.05: "0.05", 0.2: "0.2"}
PILOTS = (4, 8, 16)
SURE = {0.0: "0 %", 0.5: "50 %", 0.9: "90 %"}
OF = {"output": "output", "mass": "mass"}
MOST = 3.0  # of the errors over ε that are told apart
WITHIN, BEYOND = "as promised", "beyond"


@dataclass(frozen=True)
class Kept:
    """What became of the promise: how often it was kept, with its interval, and what it cost."""

    over: np.ndarray  # (draws,) errors divided by ε
    needed: float
    share: float
    low: float
    high: float


@lru_cache(maxsize=4)
def other_blocks(spread: str) -> tuple[np.ndarray, np.ndarray]:
    """Masses of the blocks that are drawn, of sum 1, and their numerators."""
    rng = np.random.default_rng(0)
    normal = rng.normal(size=BLOCKS)
    mass = np.exp({"even": 0.3, "uneven": 1.0, "tail": 2.0, "one": 0.3}[spread] * normal)
    if spread == "one":
        mass[HEAVY] = 60.0
    mass /= mass.sum()
    return mass, mass[:, None] * (1 + 0.5 * rng.normal(size=(BLOCKS, CHANNELS)))


@lru_cache(maxsize=2048)
def kept_promise(spread: str, eps: float, delta: float, pilot: int, sure: float, of: Any) -> Kept:
    """Many draws of one row under one promise."""
    mass, sums = other_blocks(spread)
    known = sure / (1 - sure)
    errors, needed = promise_errors(
        mass,
        eps,
        delta,
        pilot,
        np.random.default_rng(1),
        draws=DRAWS,
        sums=sums,
        sure_mass=known,
        sure_sum=np.full(CHANNELS, known),
        of=of,
    )
    kept = int((errors <= eps).sum())
    return Kept(errors / eps, float(needed.mean()), kept / DRAWS, *wilson_interval(kept, DRAWS))


@explorer(
    "attn-promise",
    Choice("eps", "Error at most ε", EPSILONS, start=0.1, help="Relative to the whole row's."),
    Choice("delta", "But with chance δ", DELTAS, help="How often it may be larger."),
    Choice("pilot", "Pilot, blocks", PILOTS, start=8, help="They show how much blocks differ."),
    Choice("spread", "Masses of blocks", SPREADS, help="Of the 64 blocks that are drawn from."),
    Choice("sure", "Mass kept for sure", SURE, start=0.5, help="Share of the row: sink and near."),
    Choice("of", "Error of the", OF, start="mass", help="The mass, or the output, 8 channels."),
    title="A promise and its coverage",
    alt=(
        "Three panels: bars of the masses of 64 blocks; a histogram of the errors of 1,000 draws "
        "in units of the promised error, those beyond it marked; and for pilots of 4, 8 and 16 "
        "blocks the share of draws that kept the promise, with its interval, beside a line at "
        "what was promised."
    ),
    presets=(
        Preset("Blocks that are alike", {}),
        Preset(
            "Uneven blocks ask for more",
            {"spread": "uneven", "pilot": 16},
        ),
        Preset(
            "Nine tenths known already",
            {"spread": "uneven", "sure": 0.9, "of": "output"},
            "The pilot alone is enough.",
        ),
        Preset(
            "A heavy block the pilot never saw",
            {"spread": "one", "pilot": 4},
            "A pilot without it finds all blocks alike, and asks for few.",
            fails=True,
        ),
        Preset(
            "A heavy tail, a small pilot",
            {"spread": "tail", "pilot": 4},
            "Four blocks say too little of a tail.",
            fails=True,
        ),
    ),
)
def attn_promise(eps: float, delta: float, pilot: int, spread: str, sure: float, of: str) -> Figure:
    """The size after a pilot (book, eq. attn-needed), and what came of it in many draws."""
    found = {n: kept_promise(spread, eps, delta, n, sure, of) for n in PILOTS}
    here = found[pilot]
    mass, _ = other_blocks(spread)
    # what is known for sure and the least that all others can have
    least = sure / (1 - sure) + BLOCKS * float(mass.min())
    span = BLOCKS * float(mass.max() - mass.min()) / least
    bound = int(serfling_blocks(span, BLOCKS, eps, delta))
    broken = ": the promise is broken" if here.high < 1 - delta else ""
    return Figure(
        title=f"Error of the {of} at most {EPSILONS[eps]} with probability {1 - delta:g}",
        panels=[_masses(mass, sure), _errors(here), _coverage(found, pilot, delta)],
        readout=(
            f"A pilot of {pilot} asks for {here.needed:.1f} of {BLOCKS} blocks on average, and "
            f"{here.share:.1%} of {DRAWS:,} draws stay within {EPSILONS[eps]} (interval "
            f"{here.low:.1%} to {here.high:.1%}), where {1 - delta:.0%} were promised{broken}."
        ).replace("%", " %"),
        cost=(
            f"{here.needed / BLOCKS:.0%} of the drawn blocks; a true bound for the mass, from the "
            f"least and the largest mass, asks for {bound} of {BLOCKS}"
        ).replace("%", " %"),
        layout="row",
    )


def _masses(mass: np.ndarray, sure: float) -> Panel:
    return Panel(
        [
            figure.bar(
                np.arange(BLOCKS), (1 - sure) * mass, name=[f"block {i}" for i in range(BLOCKS)]
            )
        ],
        x=Axis("block", domain=(-0.7, BLOCKS - 0.3)),
        y=Axis("share of the row's mass", domain=(0, 1.05 * float((1 - sure) * mass.max()))),
        title="Masses of the blocks to draw from",
        height=150,
    )


def _errors(found: Kept) -> Panel:
    edges = np.linspace(0, MOST, 19)
    counts, _ = np.histogram(np.minimum(found.over, MOST - 1e-9), edges)
    at = (edges[:-1] + edges[1:]) / 2
    names = [WITHIN if x < 1 else BEYOND for x in at]
    return Panel(
        [
            figure.bar(
                at,
                counts,
                z=names,
                base=np.zeros(len(at)),
            ),
            figure.rule(x=1.0, dash="dotted"),
        ],
        x=Axis(
            "error / ε",
            domain=(0, MOST),
            ticks=[0, 1, 2, 2.92],
            tick_labels=["0", "1", "2", "more"],
        ),
        y=Axis("draws"),
        title=f"Errors of {DRAWS:,} draws",
        series={WITHIN: "c1", BEYOND: "warn"},
        height=170,
    )


def _coverage(found: dict[int, Kept], pilot: int, delta: float) -> Panel:
    names = [str(n) for n in PILOTS]
    runs = list(found.values())
    low, share, high = ([getattr(r, part) for r in runs] for part in ("low", "share", "high"))
    sizes = [11 if n == pilot else 7 for n in PILOTS]
    return Panel(
        [
            figure.rule(x=1 - delta, dash="dotted"),
            figure.link(low, names, high, names, width=2, z="interval"),
            figure.dot(share, names, z="share of draws", size=sizes),
        ],
        x=Axis("share of draws within ε", domain=(0, 1.03)),
        y=Axis(
            type="band",
            domain=names,
            ticks=names,
            tick_labels=[f"{n}: {r.needed:.0f} blocks" for n, r in zip(names, runs, strict=True)],
        ),
        title="How often it was kept, by pilot",
        series={"share of draws": "accent", "interval": "accent"},
        legend=False,
        height=120,
        table={
            "pilot": names,
            "blocks on average": [r.needed for r in runs],
            "share of draws": share,
            "from": low,
            "to": high,
        },
    )
