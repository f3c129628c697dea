"""Explorers of chapter 5, the cache: the staircase over time, and a designer of ladders."""

import itertools
import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from genopt_core import tables
from genopt_core.explorers.kvcache.codes import spelled
from genopt_core.figures import schema as figure
from genopt_core.figures.controls import Choice, Step
from genopt_core.figures.registry import Preset, explorer
from genopt_core.figures.schema import Axis, Figure, Mark, Panel
from genopt_core.kvcache import (
    FULL,
    Stair,
    cache_bits,
    limit_bits,
    metadata_bits,
    stairs_by_age,
)

# SmolLM2-135M: 30 layers, 3 key/value heads of 64 channels, keys and values.
CHANNELS = 30 * 3 * 64 * 2
DIM = 64
KILO = 1000

# ------------------------------------------------------------------ the staircase over time

TOKENS_A_STEP = 16
LAST_STEP = 64
STAIRCASE_CHUNK = 64
GRID_BITS = 1.0  # of metadata: two float16 for each group of 32
STAIRCASES = ((16, 8, 4, 2), (16, 4, 4, 3, 3, 2), (16, 8, 4), (16, 2))


@lru_cache(maxsize=16)
def _held_bits(ladder: tuple[int, ...], sink: int) -> list[float]:
    """Bits per element after each step (eq. kv-memory)."""
    return [
        cache_bits(step * TOKENS_A_STEP, ladder, STAIRCASE_CHUNK, metadata=GRID_BITS, sink=sink)
        / (step * TOKENS_A_STEP)
        for step in range(1, LAST_STEP + 1)
    ]


def _stepped(length: int, before: int, ladder: tuple[int, ...], sink: int) -> int:
    """Chunks whose width changed between two lengths."""
    closed, was = (max(0, n - sink) // STAIRCASE_CHUNK for n in (length, before))
    return (
        0
        if closed == was
        else sum(
            ladder[min(i, len(ladder) - 1)] != ladder[min(i - 1, len(ladder) - 1)]
            for i in range(1, closed + 1)
        )
    )


@explorer(
    "kv-staircase",
    Step("step", "Time", 0, LAST_STEP, 42, help="16 tokens arrive at each step.", interval_ms=400),
    Choice(
        "ladder",
        "Ladder",
        {spelled(lad): spelled(lad) for lad in STAIRCASES},
        start="16/8/4/2",
        help="Bits from the newest tokens to the oldest. 16/2 is KIVI.",
    ),
    Choice(
        "sink",
        "Sinks",
        {0: "none", 4: "first 4 tokens"},
        start=0,
        help="Tokens at the very beginning that stay exact for ever.",
    ),
    title="The staircase over time",
    alt=(
        "Above, blocks over the token's place: their height is the bits of each number of that "
        "token, low for old tokens on the left, 16 for the newest. Below, the bits per number of "
        "the whole cache as it grows, and the bytes now, beside a full cache and KIVI at 2 bits."
    ),
    presets=(
        Preset("The paper's ladder", {"step": 42, "ladder": "16/8/4/2", "sink": 0}),
        Preset(
            "Just before a chunk closes",
            {"step": 43, "ladder": "16/8/4/2", "sink": 0},
            "48 tokens wait in full precision. One step on, three chunks go down at once.",
        ),
        Preset(
            "Stairs where attention is",
            {"step": 40, "ladder": "16/4/4/3/3/2", "sink": 4},
            "Fewer bits for the newest chunk, more for the next four.",
        ),
        Preset(
            "A short text",
            {"step": 8, "ladder": "16/8/4/2", "sink": 0},
            "Nothing has reached the floor: a staircase saves only when it is long enough.",
            fails=True,
        ),
    ),
)
def kv_staircase(step: int, ladder: str, sink: int) -> Figure:
    """A growing cache, its stairs (book, eq. kv-stairs) and its bytes (book, eq. kv-memory)."""
    widths = tuple(int(width) for width in ladder.split("/"))
    length = step * TOKENS_A_STEP
    stairs = stairs_by_age(length, widths, STAIRCASE_CHUNK, sink=sink)
    bits = {
        "full": 16.0,
        "KIVI 16/2": _held_bits((16, 2), 0)[step - 1] if step else 16.0,
        "this ladder": _held_bits(widths, sink)[step - 1] if step else 16.0,
    }
    size = {name: value * length * CHANNELS / 8 / 1e6 for name, value in bits.items()}
    moved = _stepped(length, length - TOKENS_A_STEP, widths, sink)
    happened = (
        f"a chunk of {STAIRCASE_CHUNK} has just been closed and {moved} "
        f"{'chunk changes its' if moved == 1 else 'chunks change their'} width"
        if moved
        else "no width changes at this step"
    )
    end = LAST_STEP * TOKENS_A_STEP
    at = [TOKENS_A_STEP * s for s in range(1, LAST_STEP + 1)]
    roles = {"full": "muted", "KIVI 16/2": "c2", "this ladder": "c1"}
    curves = Panel(
        [
            figure.line([at[0], end], [16, 16], z="full"),
            figure.line(at, _held_bits((16, 2), 0), z="KIVI 16/2"),
            figure.line(at, _held_bits(widths, sink), z="this ladder"),
            figure.rule(x=length, dash="dotted"),
        ],
        x=Axis("tokens in the cache", domain=(0, end)),
        y=Axis("bits per number", domain=(0, 17), ticks=[2, 4, 8, 16]),
        title="Bits per number, metadata included",
        series=roles,
        height=170,
    )
    meter = Panel(
        [
            figure.bar(list(size.values()), list(size), z=list(size), horizontal=True),
            figure.text(
                list(size.values()),
                list(size),
                [f"{value:.2f} MB" for value in size.values()],
                anchor="start",
                dx=5,
            ),
        ],
        x=Axis("megabytes, all layers and heads", domain=(0, 1.15 * 16 * end * CHANNELS / 8e6)),
        y=Axis(type="band", domain=list(size)),
        title="Bytes now",
        series=roles,
        legend=False,
        height=130,
    )
    return Figure(
        title=f"{length} tokens on the ladder {ladder}",
        panels=[_stairs_panel(stairs, length, end, sink), curves, meter],
        readout=(
            f"After {length} tokens {happened}; the cache holds {bits['this ladder']:.2f} bits a "
            f"number, {size['this ladder']:.2f} MB instead of {size['full']:.2f} "
            f"(KIVI at 2 bits {size['KIVI 16/2']:.2f})."
        ),
        cost=(
            f"a flush touches at most {len(widths) - 1} chunks of {STAIRCASE_CHUNK} tokens, "
            "however long the cache is"
        ),
    )


def _stairs_panel(stairs: Sequence[Stair], length: int, end: int, sink: int) -> Panel:
    kinds = ["full precision" if stair.bits == FULL else "quantised" for stair in stairs]
    x = Axis("token, oldest first", domain=(0, end))
    marks: list[Mark] = [figure.rule(x=length, dash="dotted")]
    if stairs:
        marks.append(
            figure.rect(
                [stair.first for stair in stairs],
                [stair.last for stair in stairs],
                [0] * len(stairs),
                [stair.bits for stair in stairs],
                text=[str(s.bits) if s.last - s.first > 30 else "" for s in stairs],
                z=kinds,
                tip=[f"tokens {s.first} to {s.last - 1}: {s.bits} bits" for s in stairs],
            )
        )
    return Panel(
        marks,
        x=x,
        y=Axis("bits of a code", domain=(0, 17), ticks=[2, 4, 8, 16]),
        title="The cache, token by token" + (f" (the first {sink} are sinks)" if sink else ""),
        series={"full precision": "c3", "quantised": "c1"},
        height=200,
    )


# ------------------------------------------------------------------ the designer

LENGTH, LONG = 508, 4096  # as measured; the former leaves out what sinks would shift
LADDERS = tuple(tuple(ladder) for ladder in tables.load("kv_tables")["ladders"])
CODECS = {
    "grid 32": "grid, groups of 32",
    "grid 64": "grid, groups of 64",
    "rotated": "rotated, Lloyd-Max",
}


def _metadata(codec: str, side: str, chunk: int) -> float:
    name, _, group = codec.partition(" ")
    return metadata_bits(name, side, dim=DIM, chunk=chunk, group_size=int(group or 1))


def design_bits(
    keys: tuple[int, ...], values: tuple[int, ...], codec: str, chunk: int, sink: int, length: int
) -> float:
    """Bits per element of a design, metadata, sinks and residual counted (eq. kv-memory)."""
    total = 0.0
    for side, ladder in (("key", keys), ("value", values)):
        meta = _metadata(codec, side, chunk)
        total += cache_bits(length, ladder, chunk, metadata=meta, sink=sink)
    return total / 2 / length


def predicted_terms(
    side: str, ladder: tuple[int, ...], codec: str, chunk: int, sink: int
) -> list[float]:
    """Expected squared output error from each bin of tokens, oldest first (eq. kv-mass)."""
    entry = tables.load("kv_tables")["terms"][f"{codec}, chunk {chunk}, {sink} sinks"]
    cuts, out = entry["edges"], []
    stairs = stairs_by_age(LENGTH, ladder, chunk, sink=sink)
    for number, (first, last) in enumerate(itertools.pairwise(cuts)):
        (bits,) = (s.bits for s in stairs if s.first <= first and last <= s.last)
        out.append(0.0 if bits == FULL else entry[f"{side} {bits}"][number])
    return out


def _place(ladder: tuple[int, ...]) -> int:
    return LADDERS.index(ladder)


@lru_cache(maxsize=1)
def _all_designs() -> Mark:
    bits, error, tip = [], [], []
    for codec, chunk, sink in itertools.product(CODECS, (64, 128), (0, 4)):
        rows = tables.load("kv_tables")["measured"][f"{codec}, chunk {chunk}, {sink} sinks"]
        for k, v in itertools.product(LADDERS, LADDERS):
            bits.append(design_bits(k, v, codec, chunk, sink, LENGTH))
            error.append(100 * rows[_place(k)][_place(v)])
            tip.append(f"K {spelled(k)} V {spelled(v)}, {codec}, chunk {chunk}, {sink} sinks")
    return figure.dot(bits, error, z="other designs", size=3, opacity=0.6, tip=tip)


@explorer(
    "kv-designer",
    Choice(
        "keys",
        "Keys",
        {spelled(lad): spelled(lad) for lad in LADDERS},
        start="16/8/4/3",
        help="Widths of keys, from new to old.",
    ),
    Choice(
        "values",
        "Values",
        {spelled(lad): spelled(lad) for lad in LADDERS},
        start="16/8/4/2",
        help="Widths of values, from new to old.",
    ),
    Choice("codec", "Code", CODECS, start="rotated", help="How a chunk becomes codes."),
    Choice("chunk", "Chunk", (64, 128), start=64, help="Tokens that go down together."),
    Choice(
        "sink",
        "Sinks",
        {0: "none", 4: "first 4 tokens"},
        start=4,
        help="Tokens at the very beginning that stay exact for ever.",
    ),
    title="Design a ladder",
    alt=(
        "Above, all designs as points: bits per number against the error of the attention output, "
        "this one marked. Below, bars over the token's place: how much of the squared error the "
        "keys and the values of each part of the cache are expected to cause."
    ),
    presets=(
        Preset(
            "Keys end at 3 bits",
            {"keys": "16/8/4/3", "values": "16/8/4/2", "codec": "rotated", "chunk": 64, "sink": 4},
        ),
        Preset(
            "KIVI at 2 bits",
            {"keys": "16/2", "values": "16/2", "codec": "grid 32", "chunk": 64, "sink": 0},
            "Most of the error comes from the first bar: four tokens.",
        ),
        Preset(
            "The paper's staircase",
            {"keys": "16/8/4/2", "values": "16/8/4/2", "codec": "grid 32", "chunk": 64, "sink": 0},
            "Better than KIVI, and the first bar is still there.",
        ),
        Preset(
            "The same with sinks",
            {"keys": "16/8/4/2", "values": "16/8/4/2", "codec": "grid 32", "chunk": 64, "sink": 4},
            "Four exact tokens cost next to nothing, least of all in a long text.",
        ),
        Preset(
            "Rotation without sinks",
            {"keys": "16/8/4/2", "values": "16/8/4/2", "codec": "rotated", "chunk": 64, "sink": 0},
            "The finer code is the worse one: it is made for ordinary tokens, and the first is not "
            "ordinary.",
            fails=True,
        ),
    ),
)
def kv_designer(keys: str, values: str, codec: str, chunk: int, sink: int) -> Figure:
    """Bytes (book, eq. kv-memory) and measured and expected error (book, eq. kv-mass)."""
    k, v = (tuple(int(w) for w in ladder.split("/")) for ladder in (keys, values))
    held = design_bits(k, v, codec, chunk, sink, LENGTH)
    long = design_bits(k, v, codec, chunk, sink, LONG)
    limit = limit_bits(
        k,
        v,
        key_metadata=_metadata(codec, "key", chunk),
        value_metadata=_metadata(codec, "value", chunk),
    )
    group = f"{codec}, chunk {chunk}, {sink} sinks"
    measured = 100 * tables.load("kv_tables")["measured"][group][_place(k)][_place(v)]
    terms = {
        "keys": predicted_terms("key", k, codec, chunk, sink),
        "values": predicted_terms("value", v, codec, chunk, sink),
    }
    expected = 100 * math.sqrt(sum(map(sum, terms.values())))
    cloud = Panel(
        [
            _all_designs(),
            figure.dot([held], [measured], z="this design", size=8, symbol="diamond"),
        ],
        x=Axis("bits per number at 508 tokens", domain=(2.5, 14)),
        y=Axis("output error, %", type="log", domain=(0.1, 100)),
        title="Measured on 27 heads, 508 tokens",
        series={"this design": "accent", "other designs": "muted"},
        height=240,
    )
    panels = [cloud, _terms_panel(terms, tables.load("kv_tables")["terms"][group]["edges"])]
    panels += _quality_panel(limit)
    oldest = sum(term[0] for term in terms.values())
    total = sum(map(sum, terms.values()))
    lead = (
        "the sinks are exact" if sink else f"{100 * oldest / total:.0f} % from the first 64 tokens"
    )
    return Figure(
        title=f"Keys {keys}, values {values}, {CODECS[codec]}",
        panels=panels,
        readout=(
            f"{held:.2f} bits a number at {LENGTH} tokens, {long:.2f} at {LONG:,}, {limit:.2f} in "
            f"the limit; the attention output is off by {measured:.3g} %, {expected:.3g} % "
            f"would be expected of independent errors ({lead})."
        ),
        cost=f"{limit - (k[-1] + v[-1]) / 2:.2f} of the {limit:.2f} bits are metadata",
    )


def _terms_panel(terms: dict[str, list[float]], cuts: list[int]) -> Panel:
    names = [
        "sinks" if last - first < 10 else f"{first}–{last - 1}"
        for first, last in itertools.pairwise(cuts)
    ]
    x: list[str] = []
    y: list[float] = []
    base: list[float] = []
    z: list[str] = []
    for side, values in terms.items():
        below = np.zeros(len(names)) if side == "keys" else np.array(terms["keys"])
        x += names
        base += (100**2 * below).tolist()
        y += (100**2 * (below + np.array(values))).tolist()
        z += [side] * len(names)
    return Panel(
        [figure.bar(x, y, base=base, z=z)],
        x=Axis("tokens", type="band", domain=names),
        y=Axis("expected squared error, %²"),
        title="Where the error comes from",
        series={"keys": "c1", "values": "c2"},
        height=200,
    )


def _quality_panel(limit: float) -> list[Panel]:
    """The stored comparison of all caches on whole texts, where it has been measured."""
    quality: dict[str, Any] | None = tables.load("kv_tables")["quality"]
    if not quality:
        return []
    scored = [
        rows
        for place, rows in quality["places"].items()
        if not place.startswith(tuple(quality["calibration"])) and place.endswith("@2048")
    ]
    common = set.intersection(*({row[0] for row in rows} for rows in scored)) - {"full"}
    rise: dict[str, list[float]] = {name: [] for name in common}
    apart: dict[str, list[float]] = {name: [] for name in common}
    bits: dict[str, float] = {}
    for rows in scored:
        for name, at, percent, _, divergence, _ in rows:
            if name in common:
                rise[name].append(percent)
                apart[name].append(divergence)
                bits[name] = at
    ours = {name: name.startswith("SAQ+") for name in sorted(common)}
    shown = list(ours)
    texts = "one text" if len(scored) == 1 else f"{len(scored)} texts"
    return [
        Panel(
            [
                figure.dot(
                    [bits[name] for name in shown],
                    [float(np.mean(apart[name])) for name in shown],
                    z=["SAQ+" if ours[name] else "all others" for name in shown],
                    tip=[f"{name}: perplexity {np.mean(rise[name]):+.2f} %" for name in shown],
                ),
                figure.rule(x=limit, dash="dotted"),
            ],
            x=Axis("bits per number in the limit", domain=(2, 9)),
            y=Axis("divergence, thousandths of a nat", type="log"),
            title=f"All caches on {texts} of 2048 tokens (dotted: this design's bits)",
            series={"SAQ+": "accent", "all others": "muted"},
            height=240,
        )
    ]
