"""Explorer of chapter 6: do the methods add up?  Main effects and interactions."""

import itertools
import math
from functools import cache
from typing import Any

import numpy as np

from genopt_core.explorers.one_model.grid import (
    BUILDS,
    CONTEXTS,
    FACTORS,
    LEVEL,
    LEVELS,
    Build,
    cache_per_byte,
    p_told,
    scores,
    seconds,
)
from genopt_core.explorers.panels import padded, signed
from genopt_core.figures import schema as figure
from genopt_core.figures.controls import Choice
from genopt_core.figures.registry import Preset, explorer
from genopt_core.figures.schema import Axis, Figure, Mark, Panel
from genopt_core.one_model.factorial import effect_names, half_normal, student_interval, yates

MEASURES = {
    **{str(n): f"bits a byte, {n:,} tokens" for n in CONTEXTS},
    "seconds": "seconds to train",
    "cache": "cache bytes a byte of text",
}
UNITS = {"seconds": "s", "cache": "bytes"}
PAIRS = {f"{a} {b}": f"{a} × {b}" for a, b in itertools.combinations(FACTORS, 2)}
REAL, OPEN = "real, p < 0.01", "not told from luck"
SHOWN = 5  # names in the half-normal plot


def values(measure: str, budget: str = "tokens") -> np.ndarray:
    """(seeds, 2, 2, 2, 2, 2) of all builds; what is counted and not measured has one row."""
    each: dict[Build, Any]
    if measure == "seconds":
        each = seconds(budget)
    elif measure == "cache":
        each = {build: (cache_per_byte(build, CONTEXTS[-1]),) for build in BUILDS}
    else:
        each = scores(budget, int(measure))
    return np.moveaxis(np.array([each[b] for b in BUILDS]).reshape(*(2,) * 5, -1), -1, 0)


@cache
def effects(measure: str, budget: str = "tokens") -> list[dict[str, Any]]:
    """All effects with their intervals over seeds, the largest first.

    Seconds do not depend on the cache, so their effects are those of four switches.
    """
    runs = values(measure, budget)
    if measure == "seconds":
        runs = runs[..., 0]
    found = [yates(run) for run in runs]
    out = []
    for at, name in effect_names(FACTORS[: runs.ndim - 1]):
        one = student_interval([float(run[at]) for run in found])
        out.append({"name": name, **one._asdict(), "real": one.p < LEVEL})
    return sorted(out, key=lambda row: -abs(row["mean"]))


@explorer(
    "one-interactions",
    Choice("measure", "Measure", MEASURES, help="What is taken apart."),
    Choice("pair", "Pair", PAIRS, start="positions settings", help="For the right panel."),
    title="Do they add up?",
    alt=(
        "On the left a half-normal plot: the sizes of all effects over where sizes of mere luck "
        "would lie; effects that are real at p below 0.01 are named and drawn as hexagons, the "
        "others as crosses. On the right an interaction plot: the mean over all other switches as "
        "one method goes on, a line for the other method off and one for it on, with 95 % "
        "intervals; parallel lines add up."
    ),
    presets=(
        Preset("Positions and settings", {}),
        Preset("Tokenizer and positions", {"pair": "tokenizer positions"}),
        Preset("Positions and blocks", {"pair": "positions attention"}),
        Preset(
            "What it costs",
            {"measure": "seconds", "pair": "positions attention"},
            "Both cost time in a model this small, and together more than their sum.",
            fails=True,
        ),
        Preset("Cache bytes", {"measure": "cache", "pair": "tokenizer cache"}),
    ),
)
def one_interactions(measure: str, pair: str) -> Figure:
    """Effects of the stored cells, seed by seed (book, eq. one-effect)."""
    found = effects(measure)
    first, second = pair.split()
    name = PAIRS[pair]
    one = next((row for row in found if row["name"] == name), None)
    return Figure(
        title=f"{name}: {MEASURES[measure]}, equal tokens",
        panels=[_half_normal(found, measure), _lines(measure, first, second)],
        readout=_readout(found, measure, name, one),
        cost=_cost(found, measure),
        layout="row",
    )


def _half_normal(found: list[dict[str, Any]], measure: str) -> Panel:
    order = sorted(found, key=lambda row: abs(row["mean"]))
    at = half_normal(len(order))
    sizes = [abs(row["mean"]) for row in order]
    z = [REAL if row["real"] else OPEN for row in order]
    top = 1.12 * max(sizes)
    named = [(x, row) for x, row in zip(at, order, strict=True) if row["real"]][-SHOWN:]
    return Panel(
        [
            figure.dot(
                at,
                sizes,
                z=z,
                size=[8 if row["real"] else 6 for row in order],
                tip=[f"{row['name']}: {_told(row, measure)}" for row in order],
            ),
            figure.text(
                [x for x, _ in named],
                [abs(row["mean"]) for _, row in named],
                [row["name"] for _, row in named],
                anchor="end",
                dx=-8,
                size=11,
            ),
        ],
        x=Axis("expected of luck, standard deviations", domain=(0, 2.6)),
        y=Axis(f"size of the effect, {UNITS.get(measure, 'bits')}", domain=(0, top)),
        title="Sizes of all effects",
        series={REAL: "accent", OPEN: "c6"},
        height=320,
        table={
            "effect": [row["name"] for row in found],
            "mean": [signed(row["mean"], digits(measure)) for row in found],
            "±": [f"{row['half']:.{digits(measure)}f}" for row in found],
            "p": [p_told(row["p"]) for row in found],
            "real": ["yes" if row["real"] else "no" for row in found],
        },
    )


def digits(measure: str) -> int:
    """Decimals that a measure is given with."""
    return 2 if measure in UNITS else 4


def _told(row: dict[str, Any], measure: str) -> str:
    words = signed(row["mean"], digits(measure))
    if math.isnan(row["half"]):
        return words
    return f"{words} ± {row['half']:.{digits(measure)}f}, {p_told(row['p'])}"


def _lines(measure: str, first: str, second: str) -> Panel:
    runs = values(measure)
    keep = (0, 1 + FACTORS.index(first), 1 + FACTORS.index(second))
    means = runs.mean(axis=tuple(i for i in range(1, 6) if i not in keep))  # (seeds, 2, 2)
    names = [f"{second}: {label}" for label in LEVELS[second].values()]
    across = list(LEVELS[first].values())
    marks: list[Mark] = []
    ends: list[float] = []
    columns: dict[str, list[str]] = {}
    for j, (name, shift) in enumerate(zip(names, (-0.02, 0.02), strict=True)):
        cells = [student_interval([float(run[i, j]) for run in means]) for i in (0, 1)]
        at = [i + shift for i in (0, 1)]
        halves = [0.0 if math.isnan(c.half) else c.half for c in cells]
        low = [c.mean - h for c, h in zip(cells, halves, strict=True)]
        high = [c.mean + h for c, h in zip(cells, halves, strict=True)]
        ends += [*low, *high]
        columns[name] = [f"{c.mean:.{digits(measure)}f}" for c in cells]
        marks += [
            figure.link(at, low, at, high, z=name, width=2),
            figure.line(at, [c.mean for c in cells], z=name, width=2),
            figure.dot(at, [c.mean for c in cells], z=name, size=9),
        ]
    return Panel(
        marks,
        x=Axis(first, domain=(-0.3, 1.3), ticks=[0, 1], tick_labels=across),
        y=Axis(MEASURES[measure], domain=padded(ends)),
        title="Means over the other switches",
        series=dict(zip(names, ("c1", "c2"), strict=True)),
        height=320,
        table={first: across, **columns},
    )


def _readout(
    found: list[dict[str, Any]], measure: str, name: str, one: dict[str, Any] | None
) -> str:
    single = [row for row in found if "×" not in row["name"]]
    joint = [row for row in found if "×" in row["name"]]
    unit = UNITS.get(measure, "bits a byte")
    if one is None:
        words = f"{name}: the cache acts after training, so nothing joins them"
    elif math.isnan(one["half"]):
        words = f"{name}: together they change by {signed(one['mean'], 2)} {unit} more than alone"
    else:
        verdict = "do not simply add up" if one["real"] else "add up as far as the seeds can tell"
        words = f"{name}: {_told(one, measure)}: the two {verdict}"
    if measure == "cache":
        return f"{words}; these are counts, without luck."
    return (
        f"{words}; {sum(r['real'] for r in single)} of {len(single)} main effects and "
        f"{sum(r['real'] for r in joint)} of {len(joint)} interactions are real."
    )


def _cost(found: list[dict[str, Any]], measure: str) -> str:
    if measure == "cache":
        return "counted, not measured"
    lucky = LEVEL * len(found)
    return f"of {len(found)} effects {lucky:.1f} would pass p < 0.01 by luck alone"
