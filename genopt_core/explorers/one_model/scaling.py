"""Explorer of chapter 6: savings against length, layers and heads, measured and on paper."""

from dataclasses import replace
from typing import Any

from genopt_core import tables
from genopt_core.explorers.one_model.budget import MODELS, ladder_bits
from genopt_core.figures import schema as figure
from genopt_core.figures.controls import Choice
from genopt_core.figures.registry import Preset, explorer
from genopt_core.figures.schema import Axis, Figure, Mark, Panel
from genopt_core.one_model import ModelConfig
from genopt_core.one_model.budget import (
    MACHINES,
    PUBLISHED,
    Serving,
    attention_flops,
    budget_of,
    cache_bytes,
    weight_flops,
)

SAVINGS = {
    "cache": "cache bytes, staircase",
    "reading": "time to read, drawn blocks",
    "writing": "time to write, staircase",
}
OVER = {"length": "tokens of context", "layers": "layers", "key heads": "key heads"}
MEASURED, SMALL = "small model, measured", "small model, on paper"
VALUES: dict[str, tuple[int, ...]] = {
    "length": (512, 1024, 2048, 4096, 8192, 16_384, 32_768, 65_536, 131_072),
    "layers": (1, 2, 4, 8, 16, 32, 64, 128),
    "key heads": (1, 2, 4, 8),
}
LARGE_LENGTH = 131_072
COLUMNS = {
    "cache": ("full bytes", "staircase bytes"),
    "reading": ("dense reading", "drawn reading"),
    "writing": ("full writing", "staircase writing"),
}


def measured(saving: str, over: str) -> list[tuple[int, float]]:
    """Value and what is left, in percent, of the stored measurements."""
    without, with_it = COLUMNS[saving]
    return [
        (row["value"], 100 * row[with_it] / row[without])
        for row in tables.records(_table(), "rows", "columns")
        if row["over"] == over
    ]


def _table() -> Any:
    return tables.load("one_model_scaling")


def left_on_paper(saving: str, config: ModelConfig, length: int) -> float:
    """What is left in percent of the same shape at a length, by the formulas of `one_model.budget`.

    The same blocks, ladder and chunk as measured; of writing, what the memory of an H100 needs for
    weights and cache.
    """
    table = _table()
    if saving == "reading":
        weights = weight_flops(config, length)
        dense, drawn = (
            weights + attention_flops(config, length, density=d) for d in (1.0, table["density"])
        )
        return 100 * drawn / dense
    bits = ladder_bits(table["ladder"], length, config.head_dim, table["chunk"])
    if saving == "cache":
        return 100 * cache_bytes(config, length, bits=bits) / cache_bytes(config, length)
    base = Serving(size=length, bytes_per_token=1.0, machine=MACHINES["H100"])
    seconds = [budget_of(config, s).step_seconds for s in (base, replace(base, cache_bits=bits))]
    return 100 * seconds[1] / seconds[0]


def shaped(config: ModelConfig, over: str, value: int, length: int) -> tuple[ModelConfig, int]:
    """The shape and the length with one of them changed."""
    if over == "length":
        return config, value
    if over == "layers":
        return replace(config, layers=value), length
    return replace(config, key_heads=value), length


@explorer(
    "one-scaling",
    Choice("saving", "Saving", SAVINGS, help="What is left of it, in percent."),
    Choice("over", "Against", OVER, help="All else stays."),
    Choice("model", "Large model", MODELS, start="Llama-3-8B", help="On paper, 131,072 tokens."),
    title="Where the savings grow",
    alt=(
        "What is left, in percent, over length, layers or key heads on a logarithmic axis: dots "
        "measured on a small model, a line by the formulas for the same shape, and a second line "
        "for a published model. At 100 nothing is saved."
    ),
    presets=(
        Preset("Cache against length", {}),
        Preset(
            "Blocks against length",
            {"saving": "reading"},
            "On paper they save; on one core the small model loses time at every length measured.",
            fails=True,
        ),
        Preset(
            "Writing against length",
            {"saving": "writing"},
            "Fewer bytes are fewer seconds only where memory is what one waits for.",
            fails=True,
        ),
        Preset("Cache against layers", {"over": "layers"}),
        Preset("Writing against key heads", {"saving": "writing", "over": "key heads"}),
    ),
)
def one_scaling(saving: str, over: str, model: str) -> Figure:
    """Stored measurements and formulas (book, eq. one-cache, one-attention, one-prefill)."""
    table = _table()
    small, large = ModelConfig.from_json(dict(table["model"])), PUBLISHED[model]
    dots = measured(saving, over)
    lines = {
        SMALL: _line(saving, small, over, table["fixed"], dots[-1][0]),
        model: _line(saving, large, over, LARGE_LENGTH, VALUES[over][-1]),
    }
    series = {MEASURED: "accent", SMALL: "c1", model: "c2"}
    marks: list[Mark] = [figure.rule(y=100, dash="dotted")]
    for name, line in lines.items():
        at, left = zip(*line, strict=True)
        marks += [figure.line(at, left, z=name, width=2), figure.dot(at, left, z=name, size=6)]
    at, left = zip(*dots, strict=True)
    tips = [f"measured at {x:,} {OVER[over]}: {y:.1f} %" for x, y in dots]
    marks.append(figure.dot(at, left, z=MEASURED, size=10, tip=tips))
    top = max(115.0, 1.1 * max(left))
    first, last = VALUES[over][0], VALUES[over][-1]
    return Figure(
        title=f"{SAVINGS[saving][0].upper()}{SAVINGS[saving][1:]}, against {OVER[over]}",
        panels=[
            Panel(
                marks,
                x=Axis(
                    OVER[over],
                    type="log",
                    domain=(first / 1.15, last * 1.15),
                    ticks=VALUES[over],
                    tick_labels=[f"{v // 1024} k" if v >= 1024 else str(v) for v in VALUES[over]],
                ),
                y=Axis("% left", domain=(0, top)),
                title="What is left of it",
                series=series,
                height=340,
            )
        ],
        readout=_readout(saving, over, dots, lines, model),
        cost=_cost(saving, over),
    )


def _line(
    saving: str, config: ModelConfig, over: str, length: int, last: int
) -> list[tuple[int, float]]:
    found = []
    for value in VALUES[over]:
        if value > last or (over == "key heads" and config.heads % value):
            continue
        found.append((value, left_on_paper(saving, *shaped(config, over, value, length))))
    return found


def _readout(
    saving: str,
    over: str,
    dots: list[tuple[int, float]],
    lines: dict[str, list[tuple[int, float]]],
    model: str,
) -> str:
    (a, first), (b, last) = dots[0], dots[-1]
    x, y = lines[model][-1]
    paper = lines[SMALL][-1][1]
    return (
        f"{SAVINGS[saving][0].upper()}{SAVINGS[saving][1:]}: measured, {first:.0f} % are left at "
        f"{a:,} {OVER[over]} and {last:.0f} % at {b:,}, where {paper:.0f} % stand on paper; "
        f"{model} would be left with {y:.0f} % at {x:,}."
    )


def _cost(saving: str, over: str) -> str:
    table = _table()
    at = "" if over == "length" else f", {table['fixed']:,} tokens measured"
    if saving == "reading":
        return f"{100 * table['density']:.0f} % of the blocks; one core against arithmetic{at}"
    ladder = "/".join(map(str, table["ladder"]))
    how = "one core against the memory of an H100" if saving == "writing" else "counted bytes"
    return f"ladder {ladder} in chunks of {table['chunk']}; {how}{at}"
