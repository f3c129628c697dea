"""Explorer of chapter 4: how many of several facts in short prompts are told, with intervals."""

import math
from typing import Any

from genopt_core import tables
from genopt_core.attention.blocks import wilson_interval
from genopt_core.explorers.attention.evidence_needle import NAMES
from genopt_core.explorers.panels import true_minus
from genopt_core.figures import schema as figure
from genopt_core.figures.controls import Choice
from genopt_core.figures.registry import Preset, explorer
from genopt_core.figures.schema import Axis, Figure, Panel

ASKED = {
    "512-7": "512 tokens, 43 %",
    "512-3": "512 tokens, 23 %",
    "1024-7": "1,024 tokens, 23 %",
}
"""Lengths and kept blocks a row beside its own."""
DEPTHS = {0: "all depths", **{d: f"{d} % of the prose before it" for d in (10, 30, 50, 70, 90)}}
TOLD, INTERVAL = "share told exactly", "interval"


@explorer(
    "attn-needles",
    Choice("asked", "Asked", ASKED, help="Length of the prompt, share of the blocks kept."),
    Choice("depth", "Depth", DEPTHS, help="Where the fact stands."),
    title="Many needles",
    alt=(
        "A row a selection: a dot at the share of numbers that the model tells exactly, and a line "
        "over its 95 % interval. Full attention and the oracle lie to the right, windows and the "
        "harmonic law mostly to the left; the recommended plan lies between them, and at some "
        "depths to the left as well."
    ),
    presets=(
        Preset("All depths", {}),
        Preset(
            "Far back: out of sight",
            {"depth": 10},
            "A window does not reach so far, and the harmonic law draws such blocks rarely.",
            fails=True,
        ),
        Preset("Near the question", {"depth": 90}),
        Preset(
            "Near, and lost",
            {"asked": "1024-7", "depth": 90},
            "At 23 % of 1,024 tokens the recommended plan loses what stands next to the question.",
            fails=True,
        ),
    ),
)
def attn_needles(asked: str, depth: int) -> Figure:
    """Stored answers of SmolLM2 with a selection in every layer, and Wilson's intervals."""
    rows = told(asked, depth)
    names = [r["name"] for r in rows]
    lows, shares, highs = ([r[part] for r in rows] for part in ("low", "share", "high"))
    counts = [f"{r['told']} of {r['asked']}" for r in rows]
    tip = [
        f"{n}: {c}, mean log probability {true_minus(format(r['log'], '.1f'))}"
        for n, c, r in zip(names, counts, rows, strict=True)
    ]
    density = min(r["density"] for r in rows)
    found = {r["name"]: r for r in rows}
    return Figure(
        title=f"{ASKED[asked]} of the blocks",
        panels=[
            Panel(
                [
                    figure.link(lows, names, highs, names, width=3, z=INTERVAL, dash="solid"),
                    figure.dot(shares, names, z=TOLD, size=9, tip=tip),
                    figure.text([1.49] * len(names), names, counts, anchor="end"),
                ],
                x=Axis("told exactly, with 95 % interval", domain=(0, 1.5), ticks=[0, 0.5, 1]),
                y=Axis(type="band", domain=names),
                title=DEPTHS[depth][0].upper() + DEPTHS[depth][1:],
                series={TOLD: "accent", INTERVAL: "accent"},
                height=270,
                legend=False,
                table={
                    "selection": names,
                    "told": [r["told"] for r in rows],
                    "asked": [r["asked"] for r in rows],
                    "from": lows,
                    "to": highs,
                    "mean log probability": [r["log"] for r in rows],
                },
            )
        ],
        readout=(
            f"Of {rows[0]['asked']} times asked, full attention tells "
            f"{found['full attention']['told']}, the oracle {found['oracle']['told']}, the "
            f"recommended plan {found['recommended']['told']}, sink, nearest and harmonic blocks "
            f"{found['sink + near + harmonic']['told']} and a window with a sink "
            f"{found['window + sink']['told']}."
        ),
        cost=f"{density:.1%} of the blocks in every layer".replace("%", " %"),
    )


def told(asked: str, depth: int = 0) -> list[dict[str, Any]]:
    """Of each selection: how many numbers were told, the share, its interval, the mean score."""
    table, found = tables.load("attention_needles"), []
    for r in tables.records(table):
        if f"{r['length']}-{r['kept']}" != asked:
            continue
        at = [i for i, d in enumerate(table["depths"]) if depth in (0, d)]
        count, of = sum(r["told"][i] for i in at), r["trials"] * len(at)
        low, high = wilson_interval(count, of)
        found.append(
            {
                "name": NAMES[r["design"], r["rounds"]],
                "told": count,
                "asked": of,
                "share": count / of,
                "low": min(low, count / of),
                "high": max(high, count / of),
                "log": math.fsum(r["log"][i] for i in at) / len(at),
                "density": r["density"],
            }
        )
    return found
