"""Explorer of chapter 3: which blocks a distance bias lets one leave out, with a guarantee."""

from typing import Any

import numpy as np

from genopt_core.explorers.positions.decay import HEADS, ROLES, TITLES, TOTALS, strengths
from genopt_core.figures import schema as figure
from genopt_core.figures.controls import Choice
from genopt_core.figures.registry import Preset, explorer
from genopt_core.figures.schema import Axis, Figure, Panel
from genopt_core.positions import bias_by_distance, skippable, skippable_blocks, tail_bound

BLOCK, BLOCKS = 64, 16
LENGTH = BLOCK * BLOCKS
KINDS = {"geometric": "ALiBi's", "harmonic": "1/h"}
DISTANCES = {"linear": "linear", "harmonic": "harmonic"}
EPSILONS = {1e-3: "0.001", 1e-2: "0.01", 1e-1: "0.1"}
LEAST = 1e-8
LOST = "may be lost, ε"


@explorer(
    "pos-skip",
    Choice("kind", "Slopes", KINDS, help="How the strength falls from head to head."),
    Choice("distance", "Distance", DISTANCES, help="What a unit slope takes off."),
    Choice("total", "Total strength", TOTALS, help="What the slopes of all heads add up to."),
    Choice(
        "eps",
        "Weight that may be lost, ε",
        EPSILONS,
        start=1e-3,
        help="At most, for every query.",
        role="accent",
    ),
    Choice(
        "c",
        "Scores within ±",
        (0, 1, 2, 4, 8, 16, 32),
        start=4,
        help="Length of query times length of key over √d: what contents can do at most.",
    ),
    title="What may be left out",
    alt=(
        "On the left, for each of eight heads, the most that all keys beyond a distance can weigh "
        "together, on a logarithmic axis, with a line at the weight that may be lost. On the right "
        "a grid of heads over block distances, with the cells marked that may be left out."
    ),
    presets=(
        Preset("ALiBi", {}),
        Preset("Strong harmonic slopes", {"kind": "harmonic", "total": "fourfold"}),
        Preset(
            "A power law frees nothing",
            {"kind": "harmonic", "distance": "harmonic"},
            "Too heavy a tail: there is always more than ε beyond.",
            fails=True,
        ),
        Preset(
            "Long queries and keys",
            {"c": 32},
            "The bound knows only lengths: those of a real model free little.",
            fails=True,
        ),
        Preset("A tenth may go", {"eps": 1e-1, "c": 2}),
    ),
)
def pos_skip(kind: str, distance: Any, total: str, eps: float, c: int) -> Figure:
    """The bound (book, eq. pos-tail) and the blocks that it frees (book, eq. pos-blocks)."""
    table = bias_by_distance(strengths(kind, total), LENGTH, distance)
    bound = tail_bound(table, float(c), 1.0, 1)
    free_from = skippable(table, float(c), 1.0, 1, eps)
    free = skippable_blocks(free_from, BLOCKS, BLOCK)
    pairs = BLOCKS - np.arange(BLOCKS)  # block pairs at each block distance
    share = (free * pairs).sum(axis=1) / pairs.sum()
    at = np.unique(np.geomspace(1, LENGTH, 22).astype(int))
    names = list(ROLES)
    lines = [
        figure.line(at, np.where(row >= LEAST, row, np.nan)[at], z=name)
        for name, row in zip(names, bound, strict=True)
    ]
    places = [f"{h + 1}" for h in range(HEADS)]
    grid = [(t, places[h], int(free[h, t])) for h in range(HEADS) for t in range(BLOCKS)]
    return Figure(
        title=(
            f"ε = {EPSILONS[eps]}, scores within ±{c}: {TITLES[kind]} over "
            f"{DISTANCES[distance]} distance"
        ),
        panels=[
            Panel(
                [figure.rule(y=eps, dash="dotted", z=LOST), *lines],
                x=Axis("distance from which on, tokens", type="log", domain=(1, LENGTH)),
                y=Axis("most that the rest can weigh", type="log", domain=(LEAST, 1.5)),
                title="Bound on everything beyond",
                series=ROLES | {LOST: "accent"},
                height=260,
            ),
            Panel(
                [
                    figure.cell(
                        [str(t) for t, _, _ in grid],
                        [h for _, h, _ in grid],
                        [value for _, _, value in grid],
                    )
                ],
                x=Axis(
                    "blocks of 64 back",
                    type="band",
                    domain=[str(t) for t in range(BLOCKS)],
                    ticks=["0", "4", "8", "12"],
                    tick_labels=["0", "4", "8", "12"],
                ),
                y=Axis("head", type="band", domain=places),
                title="Blocks that may be left out",
                color={"label": "left out", "domain": [0, 1], "scheme": "sequential"},
                height=260,
            ),
        ],
        readout=(
            f"If at most {EPSILONS[eps]} of the weight may be lost, {share.mean():.0%} of the "
            f"block pairs of {LENGTH:,} tokens may be left out, {share.max():.0%} of the steepest "
            f"head and {share.min():.0%} of the mildest."
        ).replace("%", " %"),
        cost="one table a head, made once; no score is computed to decide",
        layout="row",
    )
