"""Explorer of chapter 5: one real channel on a grid, its codes and its error."""

import math
from functools import cache
from typing import Literal

import numpy as np

from genopt_core import tables
from genopt_core.explorers.kvcache.block import GROUP_SIZE, real_block
from genopt_core.figures import schema as figure
from genopt_core.figures.controls import Choice
from genopt_core.figures.registry import Preset, explorer
from genopt_core.figures.schema import Axis, Figure, Panel
from genopt_core.kvcache import dequantize_groups, quantize_groups

SIDES = {"key": "keys", "value": "values"}
GROUPINGS = {"channel": "per channel", "token": "per token"}


@cache
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
            {},
            "Each channel has its own range, so the large ones disturb nobody.",
        ),
        Preset(
            "Keys per token: one channel spoils 32",
            {"per": "token"},
            "One large channel sets the step of all 32 in its group.",
            fails=True,
        ),
        Preset(
            "Values per token",
            {"side": "value", "per": "token"},
            "A larger error per number than per channel, yet the better choice.",
        ),
        Preset(
            "Values per channel: worse output",
            {"side": "value"},
            "The smaller error of the two, and a worse attention output: the first token, on "
            "which attention leans, has a small value vector and shares large steps.",
            fails=True,
        ),
        Preset("Eight bits", {"bits": 8, "channel": "largest"}),
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
    groupings = tables.load("kv_tables")["groupings"]
    output, guarded = (
        {g: groupings[f"{side} {g} {bits}, {sink} sinks"][1] for g in GROUPINGS} for sink in (0, 4)
    )
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
