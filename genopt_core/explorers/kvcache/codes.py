"""Explorers of chapter 5, the codes: one real channel on a grid; ladders that nest or do not."""

import base64
import itertools
import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Literal

import numpy as np

from genopt_core import tables
from genopt_core.figures import schema as figure
from genopt_core.figures.controls import Choice
from genopt_core.figures.registry import Preset, explorer
from genopt_core.figures.schema import Axis, Figure, Panel
from genopt_core.kvcache import (
    dequantize_groups,
    drop_low_bits,
    is_nested,
    ladder_bound,
    quantize_groups,
    recode,
    rescale,
)

GROUP_SIZE = 32
SIDES = {"key": "keys", "value": "values"}
GROUPINGS = {"channel": "per channel", "token": "per token"}


@lru_cache(maxsize=2)
def real_block(side: str) -> np.ndarray:
    """``(64 tokens, 64 channels)`` float32 keys or values of one head of SmolLM2-135M."""
    raw = base64.b64decode(tables.load("kv_tables")["block"]["K" if side == "key" else "V"])
    block = np.frombuffer(raw, dtype="<f2").astype(np.float32).reshape(64, -1)
    block.setflags(write=False)
    return block


def spelled(ladder: Sequence[int]) -> str:
    """A ladder as the book writes it: 16/8/4/2."""
    return "/".join(map(str, ladder))


@lru_cache(maxsize=64)
def _restored(side: str, per: Literal["channel", "token"], bits: int) -> np.ndarray:
    return dequantize_groups(*quantize_groups(real_block(side), bits, GROUP_SIZE, per=per), per=per)


@explorer(
    "kv-channel",
    Choice("side", "Of", SIDES, start="key", help="What is stored: keys or values of one head."),
    Choice(
        "per",
        "A group is",
        {"channel": "32 tokens of one channel", "token": "32 channels of one token"},
        start="channel",
        help="The numbers that share one minimum and one step.",
    ),
    Choice("bits", "Bits", (1, 2, 3, 4, 8), start=2, help="Bits of a code: 2**bits levels."),
    Choice(
        "channel",
        "Channel",
        {"largest": "the largest", "typical": "a typical one"},
        start="typical",
        help="Which of the 64 channels the upper panel shows, by mean magnitude.",
    ),
    title="One real channel, its codes and its error",
    alt=(
        "Above, the 64 numbers of one channel of a real head as dots over the token's place, with "
        "what the codes restore as a stepped line. Below, the root mean square error of each of "
        "the 64 channels, grouped per channel and per token."
    ),
    presets=(
        Preset(
            "Keys, as KIVI stores them",
            {"side": "key", "per": "channel", "bits": 2, "channel": "typical"},
            "Each channel has its own range, so the large ones disturb nobody.",
        ),
        Preset(
            "Keys per token",
            {"side": "key", "per": "token", "bits": 2, "channel": "typical"},
            "One large channel sets the step of all 32 in its group.",
            fails=True,
        ),
        Preset(
            "Values per token",
            {"side": "value", "per": "token", "bits": 2, "channel": "typical"},
            "A larger error per number than per channel, yet the better choice.",
        ),
        Preset(
            "Values per channel",
            {"side": "value", "per": "channel", "bits": 2, "channel": "typical"},
            "The smaller error of the two, and a worse attention output: the first token, on "
            "which attention leans, has a small value vector and shares large steps.",
            fails=True,
        ),
        Preset("Eight bits", {"side": "key", "per": "channel", "bits": 8, "channel": "largest"}),
    ),
)
def kv_channel(side: str, per: Literal["channel", "token"], bits: int, channel: str) -> Figure:
    """Codes of real keys and values (book, eq. kv-uniform), and what they do to attention."""
    x = real_block(side)
    order = np.argsort(np.abs(x).mean(axis=0), kind="stable")
    at = int(order[-1] if channel == "largest" else order[len(order) // 2])
    tokens = np.arange(len(x))
    y = _restored(side, per, bits)
    low, high = (float(v) for v in (min(x[:, at].min(), 0), max(x[:, at].max(), 0)))
    room = 0.12 * (high - low)
    upper = Panel(
        [
            figure.line(tokens, y[:, at], z="restored", curve="step"),
            figure.dot(tokens, x[:, at], z="as it came", size=5),
        ],
        x=Axis("token", domain=(-0.5, len(x) - 0.5)),
        y=Axis(
            "number", domain=(min(low, y[:, at].min()) - room, max(high, y[:, at].max()) + room)
        ),
        title=f"Channel {at}, {2**bits} levels a group",
        series={"as it came": "c1", "restored": "c2"},
    )
    marks, rms = [], {}
    for grouping, name in GROUPINGS.items():
        error = _restored(side, grouping, bits) - x
        by_channel = np.sqrt(np.mean(np.square(error, dtype=float), axis=0))
        rms[grouping] = math.sqrt(np.mean(np.square(error, dtype=float)))
        marks.append(figure.line(np.arange(x.shape[1]), by_channel, z=name))
    lower = Panel(
        [*marks, figure.rule(x=at, dash="dotted")],
        x=Axis("channel", domain=(-0.5, x.shape[1] - 0.5)),
        y=Axis("rms error"),
        title="Error of each channel (dotted: the one above)",
        series=dict(zip(GROUPINGS.values(), ("c1", "c4"), strict=True)),
    )
    other = "token" if per == "channel" else "channel"
    output = {
        g: tables.load("kv_tables")["groupings"][f"{side} {g} {bits}, 0 sinks"][1]
        for g in GROUPINGS
    }
    guarded = {
        g: tables.load("kv_tables")["groupings"][f"{side} {g} {bits}, 4 sinks"][1]
        for g in GROUPINGS
    }
    return Figure(
        title=f"{SIDES[side].capitalize()} at {bits} bits, {GROUPINGS[per]}",
        panels=[upper, lower],
        readout=(
            f"{SIDES[side].capitalize()} {GROUPINGS[per]} at {bits} bits are off by "
            f"{rms[per]:.3g} (rms), {GROUPINGS[other]} by {rms[other]:.3g}; over 27 heads the "
            f"attention output is then off by {100 * output[per]:.3g} % against "
            f"{100 * output[other]:.3g} %, and with the first 4 tokens kept exact by "
            f"{100 * guarded[per]:.3g} % against {100 * guarded[other]:.3g} %."
        ),
        cost=f"{bits} + 1 bits a number: two float16 for each group of {GROUP_SIZE}",
    )


LADDERS = ((8, 4, 2), (4, 3, 2), (8, 4), (6, 3), (4, 2, 1), (8, 6, 4), (8, 5, 3, 2))
METHODS = {"recode": "re-coded, rounding", "drop": "low bits dropped"}


def _walked(codes: np.ndarray, ladder: Sequence[int], method: str) -> np.ndarray:
    """Codes after the whole ladder, as (possibly broken) codes of the first width."""
    if method == "drop":
        return drop_low_bits(codes, ladder[0], ladder[-1])[1]
    for bits, to_bits in itertools.pairwise(ladder):
        codes = recode(codes, bits, to_bits)
    return codes * ((2 ** ladder[0] - 1) / (2 ** ladder[-1] - 1))


@lru_cache(maxsize=32)
def _on_real_keys(ladder: tuple[int, ...], method: str) -> tuple[float, float, float]:
    """Share of codes that differ from direct ones; mean square error over direct; its rms."""
    x = real_block("key").astype(float)
    first, last = ladder[0], ladder[-1]
    direct, scale, low = quantize_groups(x, last, GROUP_SIZE)
    straight = dequantize_groups(direct, scale, low, dtype=float)
    fine, step, low = quantize_groups(x, first, GROUP_SIZE)
    codes = fine
    for bits, to_bits in itertools.pairwise(ladder):
        codes = (
            drop_low_bits(codes, bits, to_bits)[0]
            if method == "drop"
            else recode(codes, bits, to_bits)
        )
    if method == "drop":
        back = drop_low_bits(fine, first, last)[1]
        arrived = dequantize_groups(back, step, low, dtype=float)
    else:
        arrived = dequantize_groups(codes, rescale(step, first, last), low, dtype=float)
    error = [np.square(y - x).mean() for y in (arrived, straight)]
    return float((codes != direct).mean()), float(error[0] / error[1]), math.sqrt(error[0])


def _what_it_does(ladder: str, method: str) -> str:
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
    Choice(
        "ladder",
        "Ladder",
        {spelled(lad): spelled(lad) for lad in LADDERS},
        start="8/4/2",
        help="Widths that a number passes through; the first is quantised from the original.",
    ),
    Choice("method", "Going down", METHODS, start="recode", help="How a code becomes narrower."),
    title="Does stepping down lose anything?",
    alt=(
        "Staircase lines over a number between the minimum and the maximum of its group: what "
        "direct quantisation at the last width restores, and what the ladder restores. A second "
        "panel shows the mean square error on real keys, direct quantisation being 1."
    ),
    presets=(
        Preset(
            "Nested: 8/4/2",
            {"ladder": "8/4/2", "method": "recode"},
            "255 = 17 × 15 and 15 = 5 × 3, both odd: the two lines are one.",
        ),
        Preset(
            "Not nested: 4/3/2",
            {"ladder": "4/3/2", "method": "recode"},
            "15 is no multiple of 7: some numbers are rounded twice, the second time wrongly.",
            fails=True,
        ),
        Preset(
            "Many small stairs",
            {"ladder": "8/5/3/2", "method": "recode"},
            "More stairs are not gentler.",
        ),
        Preset(
            "Dropping bits",
            {"ladder": "8/4/2", "method": "drop"},
            "Free of arithmetic and even closer on average, but the ends of the group are levels "
            "no more. There the first token lies, on which attention leans.",
            fails=True,
        ),
    ),
)
def kv_nested(ladder: str, method: str) -> Figure:
    """Direct quantisation against a ladder (book, eq. kv-nested and eq. kv-ladder)."""
    widths = tuple(int(width) for width in ladder.split("/"))
    first, last = widths[0], widths[-1]
    x = np.linspace(0, 1, 212)  # 211 is prime: no point is a tie of any grid
    direct = np.rint(x * (2**last - 1)) / (2**last - 1)
    fine = np.rint(x * (2**first - 1)).astype(np.uint8)
    arrived = _walked(fine, widths, method) / (2**first - 1)
    differs, ratio, _ = _on_real_keys(widths, method)
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
    bars = ["direct", "through the ladder"]
    lower = Panel(
        [
            figure.bar(bars, [1.0, ratio]),
            figure.text(bars, [1.0, ratio], ["1", f"{ratio:.3f}"], dy=-9, bold=True),
        ],
        x=Axis(type="band", domain=bars),
        y=Axis("mean square error, direct = 1", domain=(0, max(1.6, 1.2 * ratio))),
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
            f"quantisation at {last} bits, the mean square error is {ratio:.3f} times as large, "
            f"and the largest error above is {worst:.3f} of the range (bound {bound:.3f})."
            + _what_it_does(ladder, method)
        ),
        cost="integers only: one table look-up a code" if method == "recode" else "no arithmetic",
    )
