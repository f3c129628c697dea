"""Explorer of chapter 5: a designer of ladders."""

import itertools
import math
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np

from genopt_core import tables
from genopt_core.explorers.kvcache.ladders import ladder_choice, sink_choice
from genopt_core.explorers.kvcache.quality import rows_at
from genopt_core.figures import schema as figure
from genopt_core.figures.controls import Choice
from genopt_core.figures.registry import Preset, explorer
from genopt_core.figures.schema import Axis, Figure, Mark, Panel
from genopt_core.kvcache import (
    design_bits,
    format_ladder,
    limit_bits,
    metadata_bits,
    parse_ladder,
    predicted_terms,
)

LENGTH, LONG = 508, 4096  # as measured; the former leaves out what sinks would shift
LADDERS = ((16, 2), (16, 8, 4, 2), (16, 4, 4, 3, 3, 2), (16, 8, 4, 3), (16, 4), (16, 8))
CODECS = {
    "grid 32": "grid, groups of 32",
    "grid 64": "grid, groups of 64",
    "rotated": "rotated, Lloyd-Max",
}
DIM = 64
SINK = sink_choice(4)


def metadata(codec: str, chunk: int) -> dict[str, Any]:
    """Bits of metadata per element, as `design_bits` and `limit_bits` take them."""
    name, _, group = codec.partition(" ")
    return {
        f"{side}_metadata": metadata_bits(
            name, side, dim=DIM, chunk=chunk, group_size=int(group or 1)
        )
        for side in ("key", "value")
    }


def terms(side: str, ladder: Sequence[int], codec: str, chunk: int, sink: int) -> list[float]:
    """Expected squared output error from each bin of tokens, oldest first (eq. kv-mass)."""
    entry = tables.load("kv_tables")["terms"][_group(codec, chunk, sink)]
    errors = {
        int(name.split()[1]): bins for name, bins in entry.items() if name.startswith(f"{side} ")
    }
    return predicted_terms(errors, entry["edges"], ladder, chunk, sink=sink)


def _group(codec: str, chunk: int, sink: int) -> str:
    return f"{codec}, chunk {chunk}, {sink} sinks"


@cache
def _all_designs() -> Mark:
    bits, error, tip = [], [], []
    for codec, chunk, sink in itertools.product(CODECS, (64, 128), SINK.options):
        group, meta = _group(codec, chunk, sink), metadata(codec, chunk)
        rows = tables.load("kv_tables")["measured"][group]
        for (i, k), (j, v) in itertools.product(enumerate(LADDERS), repeat=2):
            bits.append(design_bits(k, v, LENGTH, chunk, sink=sink, **meta))
            error.append(100 * rows[i][j])
            design = f"keys {format_ladder(k)}, values {format_ladder(v)}, {group}"
            tip.append(f"{design}: {error[-1]:.3g} % at {bits[-1]:.2f} bits")
    return figure.dot(bits, error, z="other designs", size=3, opacity=0.6, tip=tip)


@explorer(
    "kv-designer",
    ladder_choice("keys", "Keys", LADDERS, "16/8/4/3", "Widths of keys, from new to old."),
    ladder_choice("values", "Values", LADDERS, "16/8/4/2", "Widths of values, from new to old."),
    Choice("codec", "Code", CODECS, start="rotated", help="How a chunk becomes codes."),
    Choice("chunk", "Chunk", (64, 128), start=64, help="Tokens that go down together."),
    SINK,
    title="Design a ladder",
    alt=(
        "Above, all designs as points: bits per number against the error of the attention output, "
        "this one marked. Below, bars over the token's place: how much of the squared error the "
        "keys and the values of each part of the cache are expected to cause."
    ),
    presets=(
        Preset("Keys end at 3 bits", {}),
        Preset(
            "KIVI at 2 bits",
            {"keys": "16/2", "values": "16/2", "codec": "grid 32", "sink": 0},
            "Most of the error comes from the first bar: four tokens.",
        ),
        Preset(
            "The paper's staircase",
            {"keys": "16/8/4/2", "codec": "grid 32", "sink": 0},
            "Better than KIVI, and the first bar is still there.",
        ),
        Preset(
            "The same with sinks",
            {"keys": "16/8/4/2", "codec": "grid 32"},
            "Four exact tokens cost next to nothing, least of all in a long text.",
        ),
        Preset(
            "Rotation fails without sinks",
            {"keys": "16/8/4/2", "sink": 0},
            "The finer code is the worse one: it is made for ordinary tokens, and the first is not "
            "ordinary.",
            fails=True,
        ),
    ),
)
def kv_designer(keys: str, values: str, codec: str, chunk: int, sink: int) -> Figure:
    """Bytes (book, eq. kv-memory) and measured and expected error (book, eq. kv-mass)."""
    k, v = parse_ladder(keys), parse_ladder(values)
    meta = metadata(codec, chunk)
    held, long = (design_bits(k, v, n, chunk, sink=sink, **meta) for n in (LENGTH, LONG))
    limit = limit_bits(k, v, **meta)
    group = _group(codec, chunk, sink)
    table = tables.load("kv_tables")
    measured = 100 * table["measured"][group][LADDERS.index(k)][LADDERS.index(v)]
    expect = {
        "keys": terms("key", k, codec, chunk, sink),
        "values": terms("value", v, codec, chunk, sink),
    }
    total = sum(map(sum, expect.values()))
    expected = 100 * math.sqrt(total)
    cloud = Panel(
        [
            _all_designs(),
            figure.dot(
                [held],
                [measured],
                z="this design",
                size=8,
                symbol="diamond",
                tip=[f"this design: {measured:.3g} % at {held:.2f} bits"],
            ),
        ],
        x=Axis("bits per number at 508 tokens", domain=(2.5, 14)),
        y=Axis("output error, %", type="log", domain=(0.1, 100)),
        title="Measured on 27 heads, 508 tokens",
        series={"this design": "accent", "other designs": "muted"},
        height=240,
    )
    panels = [cloud, _terms_panel(expect, table["terms"][group]["edges"]), _quality_panel(limit)]
    oldest = sum(term[0] for term in expect.values())
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


def _terms_panel(expect: dict[str, list[float]], edges: Sequence[int]) -> Panel:
    names = [
        "sinks" if last - first < 10 else f"{first}–{last - 1}"
        for first, last in itertools.pairwise(edges)
    ]
    keys, values = (np.array(expect[side]) for side in ("keys", "values"))
    stacked = figure.bar(
        names * 2,
        100**2 * np.concatenate([keys, keys + values]),
        base=100**2 * np.concatenate([0 * keys, keys]),
        z=["keys"] * len(names) + ["values"] * len(names),
    )
    return Panel(
        [stacked],
        x=Axis("tokens", type="band", domain=names),
        y=Axis("expected squared error, %²"),
        title="Where the error comes from",
        series={"keys": "c1", "values": "c2"},
        height=200,
    )


def _quality_panel(limit: float) -> Panel:
    """The stored comparison of all caches on whole texts."""
    rows = rows_at("2048/mean", "divergence")
    return Panel(
        [
            figure.dot(
                [row["limit"] for row in rows],
                [row["value"] for row in rows],
                z=["SAQ+" if row["family"].startswith("SAQ+") else "all others" for row in rows],
                tip=[f"{row['label']}: {row['value']:.2f}" for row in rows],
            ),
            figure.rule(x=limit, dash="dotted"),
        ],
        x=Axis("bits per number in the limit", domain=(2, 9)),
        y=Axis("divergence, thousandths of a nat", type="log"),
        title="All caches on six texts of 2,048 tokens (dotted: this design's bits)",
        series={"SAQ+": "accent", "all others": "muted"},
        height=240,
    )
