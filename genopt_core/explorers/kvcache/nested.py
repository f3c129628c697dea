"""Explorer of chapter 5: ladders of widths that nest, and ladders that do not."""

import itertools
from functools import cache
from typing import Literal

import numpy as np

from genopt_core import tables
from genopt_core.explorers.kvcache.block import GROUP_SIZE, real_block
from genopt_core.explorers.kvcache.ladders import ladder_choice
from genopt_core.explorers.panels import bars
from genopt_core.figures import schema as figure
from genopt_core.figures.controls import Choice
from genopt_core.figures.registry import Preset, explorer
from genopt_core.figures.schema import Axis, Figure, Panel
from genopt_core.kvcache import (
    dequantize_groups,
    is_nested,
    ladder_bound,
    parse_ladder,
    quantize_groups,
    walk_down,
)

LADDERS = ((8, 4, 2), (4, 3, 2), (8, 4), (6, 3), (4, 2, 1), (8, 6, 4), (8, 5, 3, 2))
METHODS = {"recode": "re-coded, rounding", "drop": "low bits dropped"}


def _both_ways(
    x: np.ndarray, widths: tuple[int, ...], method: Literal["recode", "drop"], group_size: int
) -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """Codes and restored numbers, directly at the last width and through the whole ladder."""
    direct, scale, low = quantize_groups(x, widths[-1], group_size)
    straight = dequantize_groups(direct, scale, low, dtype=float)
    fine, scale, low = quantize_groups(x, widths[0], group_size)
    narrow, stand_for = walk_down(fine, widths, method)
    return (direct, straight), (narrow, dequantize_groups(stand_for, scale, low, dtype=float))


@cache
def _on_real_keys(
    widths: tuple[int, ...], method: Literal["recode", "drop"]
) -> tuple[float, float]:
    """Share of codes that differ from direct ones, and mean square error over the direct one."""
    x = real_block("key").astype(float)
    (direct, straight), (narrow, arrived) = _both_ways(x, widths, method, GROUP_SIZE)
    error = [np.square(y - x).mean() for y in (arrived, straight)]
    return float((narrow != direct).mean()), float(error[0] / error[1])


def _what_it_does(ladder: str, method: Literal["recode", "drop"]) -> str:
    """The output errors of dropping bits, measured for the one ladder."""
    if ladder != "8/4/2":
        return ""
    table = tables.load("kv_tables")["narrowed"]
    error = [100 * table[f"{method}, {sink} sinks"][1] for sink in (0, 4)]
    return (
        f" Over 27 heads the attention output is off by {error[0]:.3g} %, and with the first 4 "
        f"tokens kept exact by {error[1]:.3g} %."
    )


@explorer(
    "kv-nested",
    ladder_choice(
        "ladder",
        "Ladder",
        LADDERS,
        "8/4/2",
        "Widths that a number passes through; the first is quantized from the original.",
    ),
    Choice("method", "Going down", METHODS, start="recode", help="How a code becomes narrower."),
    title="Does stepping down lose anything?",
    code=(
        "from genopt_core.kvcache import ladder_bound, parse_ladder\n"
        "ladder_bound(1.0, parse_ladder({ladder}))"
    ),
    alt=(
        "Staircase lines over a number between the minimum and the maximum of its group: what "
        "direct quantization at the last width restores, and what the ladder restores. A second "
        "panel shows the mean square error on real keys, direct quantization being 1."
    ),
    presets=(
        Preset(
            "Nested: 8/4/2", {}, "255 = 17 × 15 and 15 = 5 × 3, both odd: the two lines are one."
        ),
        Preset(
            "4/3/2 is not nested: rounded twice",
            {"ladder": "4/3/2"},
            "15 is no multiple of 7: some numbers are rounded twice, the second time wrongly.",
            fails=True,
        ),
        Preset("Many small stairs", {"ladder": "8/5/3/2"}, "More stairs are not gentler."),
        Preset(
            "Dropping bits: the first token suffers",
            {"method": "drop"},
            "Free of arithmetic and even closer on average, but the ends of the group are levels "
            "no more. There the first token lies, on which attention leans.",
            fails=True,
        ),
    ),
)
def kv_nested(ladder: str, method: Literal["recode", "drop"]) -> Figure:
    """Direct quantization against a ladder (book, eq. kv-nested and eq. kv-ladder)."""
    widths = parse_ladder(ladder)
    last = widths[-1]
    x = np.linspace(0, 1, 212)  # 211 is prime: no point is a tie of any grid
    (_, direct), (_, arrived) = (
        (codes, restored[:, 0])
        for codes, restored in _both_ways(x[:, None], widths, method, group_size=len(x))
    )
    differs, ratio = _on_real_keys(widths, method)
    nested = all(is_nested(a, b) for a, b in itertools.pairwise(widths))
    bound = float(ladder_bound(1.0, widths)) if method == "recode" else 0.5 / 2**last
    worst = float(np.abs(arrived - x).max())
    upper = Panel(
        [
            figure.line(x, direct, z=f"direct to {last} bits", width=4, opacity=0.5),
            figure.line(x, arrived, z=f"through {ladder}"),
        ],
        x=Axis("number (minimum of the group 0, maximum 1)", domain=(0, 1)),
        y=Axis("restored", domain=(-0.05, 1.05)),
        title="One number on its way down",
        series={f"direct to {last} bits": "c1", f"through {ladder}": "c2"},
        height=260,
    )
    lower = bars(
        {"direct": 1.0, "through the ladder": ratio},
        Axis("mean square error, direct = 1", domain=(0, max(1.6, 1.2 * ratio))),
        numbers=["1", f"{ratio:.3f}"],
        title="4096 real keys, groups of 32 tokens of a channel",
        height=200,
    )
    name = f"{ladder} is nested" if nested else f"{ladder} is not nested"
    how = "" if method == "recode" else ", but with dropped bits"
    return Figure(
        title=f"Down the ladder {ladder}, {METHODS[method]}",
        panels=[upper, lower],
        readout=(
            f"{name}{how}: {100 * differs:.1f} % of the codes of real keys differ from direct "
            f"quantization at {last} bits, the mean square error is {ratio:.3f} times as large, "
            f"and the largest error above is {worst:.3f} of the range (bound {bound:.3f})."
            + _what_it_does(ladder, method)
        ),
        cost="integers only: one table look-up a code" if method == "recode" else "no arithmetic",
    )
