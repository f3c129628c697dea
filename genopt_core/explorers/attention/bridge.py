"""Explorer of chapter 4: a distance bias frees blocks for sure, and draws the others."""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from genopt_core.attention.blocks import DistanceLaw, by_distance, inclusion, sample_blocks
from genopt_core.explorers.panels import counted
from genopt_core.figures import schema as figure
from genopt_core.figures.controls import Choice, Seed
from genopt_core.figures.registry import Preset, explorer
from genopt_core.figures.schema import Axis, Figure, Panel
from genopt_core.positions import bias_by_distance, skippable, skippable_blocks, tail_bound

BLOCKS = 12
TRIANGLE = BLOCKS * (BLOCKS + 1) // 2
DRAWN = 0.5  # of the other blocks that the bound does not free
DISTANCES = {"linear": "tokens, ALiBi's", "harmonic": "harmonic numbers"}
SLOPES = {2.0: "2", 1.0: "1", 0.125: "1/8", 0.03125: "1/32"}
EPSILONS = {1e-3: "0.001", 1e-2: "0.01", 1e-1: "0.1"}
LEAST = 1e-6  # what is smaller is not drawn
KEPT, OUT, SKIPPED = "computed", "drawn out", "skipped for sure"
LAW, PI, BOUND, HARMONIC = "implied law", "kept by chance", "bound", "harmonic law"


@dataclass(frozen=True)
class Bridged:
    """By block distance: the law, probabilities, the bound, what may go; and a draw."""

    law: np.ndarray
    pi: np.ndarray
    bound: np.ndarray
    free: np.ndarray
    kept: np.ndarray  # (blocks, blocks)


@lru_cache(maxsize=512)
def bridged(distance: Any, slope: float, block: int, c: int, eps: float, seed: int) -> Bridged:
    """What one head's bias implies."""
    table = bias_by_distance([slope], BLOCKS * block, distance)
    law = DistanceLaw.implied(table[0], block).weights(BLOCKS)
    start = skippable(table, float(c), 1.0, 1, eps)
    free = skippable_blocks(start, BLOCKS, block)[0]
    nearest = np.maximum(np.arange(BLOCKS) * block - (block - 1), 0)
    pairs = np.arange(BLOCKS, 0, -1.0)
    rest = ~free[1:]
    pi = np.zeros(BLOCKS)
    pi[0] = 1.0
    if rest.any():
        cost = pairs[1:][rest]
        pi[1:][rest] = inclusion(law[1:][rest], DRAWN * float(cost.sum()), cost)
    kept = sample_blocks(pi, np.random.default_rng(seed))
    return Bridged(law, pi, tail_bound(table, float(c), 1.0, 1)[0][nearest], free, kept)


@explorer(
    "attn-bridge",
    Choice("distance", "Distance in", DISTANCES, help="What a slope of 1 takes off a score."),
    Choice("slope", "Slope", SLOPES, start=0.125, help="Of the head, as in chapter 3."),
    Choice("block", "Tokens of a block", (16, 64), help="The same bias, cut more coarsely."),
    Choice("eps", "Weight that may be lost", EPSILONS, start=1e-2, help="By skipping, at most."),
    Choice("c", "Scores within ±", (0, 1, 4), start=1, help="What contents can do at most."),
    Seed("seed", "Seed", 2, help="Which of the other blocks are drawn."),
    title="From a bias to a draw",
    code=(
        "from genopt_core.attention.blocks import kept_by_bias\n"
        "from genopt_core.positions import bias_by_distance\n"
        f"table = bias_by_distance([{{slope}}], {BLOCKS} * {{block}}, {{distance}})\n"
        "kept_by_bias(table, {c}, 1.0, 1, {block}, {eps})"
    ),
    alt=(
        "On the left, over the distance in blocks and on a logarithmic axis, the mean weight that "
        "a bias gives a block, the probability to keep it, and the most that it and all beyond "
        "can weigh, with a line at the weight that may be lost. On the right a lower triangle of "
        "12 by 12 blocks: computed, drawn out, and skipped for sure."
    ),
    presets=(
        Preset("ALiBi, slope 1/8", {}),
        Preset("Larger blocks", {"block": 64}, "The bound needs only the nearest block."),
        Preset(
            "A power law frees nothing",
            {"distance": "harmonic", "slope": 1.0},
            "It falls as 1/δ: too heavy a tail for a bound.",
            fails=True,
        ),
        Preset(
            "A steep power law",
            {"distance": "harmonic", "slope": 2.0, "eps": 0.1},
            "The tail is light enough for the bound again.",
        ),
        Preset(
            "Strong contents, no sure skips",
            {"slope": 0.03125, "c": 4},
            "A score of 4 outweighs the whole bias of far blocks.",
            fails=True,
        ),
    ),
)
def attn_bridge(distance: str, slope: float, block: int, eps: float, c: int, seed: int) -> Figure:
    """The law of a bias (book, eq. attn-implied) beside chapter 3's bound (book, eq. pos-tail)."""
    found = bridged(distance, slope, block, c, eps, seed)
    skipped = int(by_distance(found.free).sum())
    kept = int(found.kept.sum())
    rest = TRIANGLE - BLOCKS - skipped
    if skipped:
        first = int(np.argmax(found.free))
        text = (
            f"From {counted(first, 'block')} back on at most {EPSILONS[eps]} of the weight is "
            f"left, whatever the contents, so {skipped} of {TRIANGLE} blocks may go for sure"
        )
    else:
        text = f"No block may go for sure: beyond each more than {EPSILONS[eps]} could be left"
    return Figure(
        title=f"Slope {SLOPES[slope]} over {DISTANCES[distance].split(',')[0]}, blocks of {block}",
        panels=[_curves(found, eps), _triangle(found)],
        readout=(
            f"{text}; of the {rest} others beside the diagonal the draw keeps {kept - BLOCKS}, "
            f"by the law that the bias implies."
        ),
        cost=f"{kept} of {TRIANGLE} blocks are computed, {kept / TRIANGLE:.0%}".replace("%", " %"),
        layout="row",
    )


def _curves(found: Bridged, eps: float) -> Panel:
    at = np.arange(BLOCKS)
    harmonic = DistanceLaw.harmonic().weights(BLOCKS)

    def shown(values: np.ndarray) -> np.ndarray:
        return np.where(values >= LEAST, values, np.nan)

    return Panel(
        [
            figure.rule(y=eps, dash="dotted"),
            figure.line(at, harmonic, z=HARMONIC),
            figure.line(at, shown(found.law), z=LAW),
            figure.line(at, shown(found.bound), z=BOUND),
            figure.dot(at, shown(found.pi), z=PI),
        ],
        x=Axis("blocks back, δ", domain=(-0.4, BLOCKS - 0.6)),
        y=Axis("weight, probability", type="log", domain=(LEAST, 2)),
        title="What the bias says of a block",
        series={LAW: "c1", PI: "accent", BOUND: "c2", HARMONIC: "muted"},
        height=310,
    )


def _triangle(found: Bridged) -> Panel:
    rows, columns = np.tril_indices(BLOCKS)
    states = [
        SKIPPED if found.free[i - j] else KEPT if found.kept[i, j] else OUT
        for i, j in zip(rows, columns, strict=True)
    ]
    ticks = [b + 0.5 for b in range(0, BLOCKS, 5)]
    labels = [str(b) for b in range(0, BLOCKS, 5)]
    return Panel(
        [
            figure.rect(
                columns,
                columns + 1,
                rows,
                rows + 1,
                name=[
                    f"query block {i}, key block {j}" for i, j in zip(rows, columns, strict=True)
                ],
                z=states,
            )
        ],
        x=Axis("key block", domain=(0, BLOCKS), ticks=ticks, tick_labels=labels),
        y=Axis("query block", domain=(0, BLOCKS), ticks=ticks, tick_labels=labels, reverse=True),
        title="Blocks of the triangle",
        series={KEPT: "c1", OUT: "muted", SKIPPED: "c2"},
        height=310,
        table={"query block": rows.tolist(), "key block": columns.tolist(), "state": states},
    )
