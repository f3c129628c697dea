"""Explorer of chapter 3: what a bias leaves of far tokens, head by head."""

from typing import Any

import numpy as np

from genopt_core.figures import schema as figure
from genopt_core.figures.controls import Choice
from genopt_core.figures.registry import Preset, explorer
from genopt_core.figures.schema import Axis, Figure, Panel
from genopt_core.positions import bias_by_distance, effective_context, slopes, weights_by_distance

HEADS = 8
SLOPES = {"geometric": "geometric, ALiBi's", "harmonic": "harmonic, 1/h"}
DISTANCES = {
    "linear": "linear, δ",
    "harmonic": "harmonic numbers",
    "log": "log, ln(1 + δ)",
}
TITLES = {"geometric": "ALiBi's slopes", "harmonic": "Harmonic slopes"}
TOTALS = {"own": "as the formula says", "fourfold": "4 times 1/h", "geometric": "ALiBi's total"}
LENGTHS = {64: "64", 1024: "1,024", 16384: "16,384"}
ROLES = {f"head {h}": f"c{h}" for h in range(1, HEADS + 1)}
LEAST = 1e-7  # weights below are not drawn


def strengths(kind: Any, total: str) -> np.ndarray:
    """Slopes of eight heads."""
    if total == "fourfold":
        return slopes(HEADS, kind, total=4 * float(slopes(HEADS, "harmonic").sum()))
    return slopes(HEADS, kind, total="geometric" if total == "geometric" else None)


@explorer(
    "pos-decay",
    Choice("kind", "Slopes", SLOPES, help="How the strength falls from head to head."),
    Choice("distance", "Distance", DISTANCES, help="What a unit slope takes off."),
    Choice("total", "Total strength", TOTALS, help="What the slopes of all heads add up to."),
    Choice("length", "Context", LENGTHS, start=1024, help="Tokens that a query sees."),
    title="How far a biased head looks",
    alt=(
        "On the left the attention weight of each of eight heads over the distance, at equal "
        "content, both axes logarithmic: linear distance bends down sharply, harmonic numbers "
        "give straight lines. On the right bars: the tokens that each head averages over."
    ),
    presets=(
        Preset("ALiBi", {}),
        Preset(
            "Harmonic slopes: no far-seeing head",
            {"kind": "harmonic"},
            "The slowest head has the slope 1/8 and averages over 16 tokens, however long the "
            "context is.",
            fails=True,
        ),
        Preset(
            "Harmonic slopes, ALiBi's total",
            {"kind": "harmonic", "total": "geometric"},
            "The same sum, spread more evenly: the steepest head is milder.",
        ),
        Preset(
            "Harmonic distance: straight lines",
            {"kind": "harmonic", "distance": "harmonic"},
            "A power law has no length of its own.",
        ),
        Preset(
            "Four times as strong",
            {"kind": "harmonic", "total": "fourfold"},
            "Lowest loss on text, and blind beyond a dozen tokens.",
            fails=True,
        ),
    ),
)
def pos_decay(kind: str, distance: Any, total: str, length: int) -> Figure:
    """Weights (book, eq. pos-weights) and effective context (book, eq. pos-ess) of eight heads."""
    m = strengths(kind, total)
    table = bias_by_distance(m, length, distance)
    weight = weights_by_distance(table)
    seen = effective_context(table)
    alibi = effective_context(bias_by_distance(slopes(HEADS), length))
    at = np.unique(np.geomspace(1, length - 1, 24).astype(int))
    names = list(ROLES)
    lines = [
        figure.line(at, np.where(row >= LEAST, row, np.nan)[at], z=name)
        for name, row in zip(names, weight, strict=True)
    ]
    return Figure(
        title=f"{TITLES[kind]} over {DISTANCES[distance]}, {length:,} tokens",
        panels=[
            Panel(
                lines,
                x=Axis("distance, tokens", type="log", domain=(1, length)),
                y=Axis("weight at equal content", type="log", domain=(LEAST, 1)),
                title="Weight over distance",
                series=ROLES,
                height=300,
            ),
            Panel(
                [
                    figure.bar(seen, names, base=np.ones(HEADS), z=names, horizontal=True),
                    figure.text(
                        seen,
                        names,
                        [f"{n:,.0f}" if n >= 9.95 else f"{n:.1f}" for n in seen],
                        anchor="start",
                        dx=5,
                    ),
                ],
                x=Axis("tokens", type="log", domain=(1, 8 * length)),
                y=Axis(type="band", domain=names),
                title="Effective context",
                series=ROLES,
                height=300,
                legend=False,
            ),
        ],
        readout=(
            f"Of {length:,} tokens the narrowest of eight heads averages over {seen.min():.1f} and "
            f"the widest over {seen.max():,.0f}; ALiBi's widest averages over {alibi.max():,.0f}."
        ),
        cost=f"one number a head and distance: {HEADS * length:,}, no square is stored",
        layout="row",
    )
