"""Explorer of chapter 6: what each of the five would save in a large model, on paper."""

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

from genopt_core.explorers.one_model.grid import SHORT
from genopt_core.figures import schema as figure
from genopt_core.figures.controls import Choice, Slider
from genopt_core.figures.registry import Preset, explorer
from genopt_core.figures.schema import Axis, Figure, Panel
from genopt_core.kvcache import design_bits, metadata_bits, parse_ladder
from genopt_core.one_model.budget import (
    MACHINES,
    METHODS,
    PUBLISHED,
    Budget,
    Serving,
    budget_of,
    with_methods,
)

BYTES_PER_TOKEN = 4.0  # of the base's tokenizer on English prose
FEWER_TOKENS = 0.015  # chapter 1: SWE against BPE, 16,000 sub-words each; less with more of them
CHUNK, SINK = 128, 4
LADDERS = ("16/8/4/3", "16/8/4/2")
MODELS = list(PUBLISHED)
BIAS = {"half": "on half of the heads", "all": "on all heads"}
ROWS = {"base": "base", **{m: SHORT[m] for m in METHODS}, "all five": "all five"}
SHOWN = {
    "tokens": "tokens",
    "cache": "cache",
    "attention": "attention",
    "prompt": "reading",
    "step": "writing",
}


def ladder_bits(widths: Sequence[int], length: int, dim: int, chunk: int = CHUNK) -> float:
    """Mean bits of a number in a rotated cache of so many tokens (book, eq. kv-memory)."""
    meta: dict[str, Any] = {
        f"{side}_metadata": metadata_bits("rotated", side, dim=dim, chunk=chunk, group_size=1)
        for side in ("key", "value")
    }
    return design_bits(widths, widths, length, chunk, sink=SINK, **meta)


@explorer(
    "one-budget",
    Choice("model", "Model", MODELS, start="Llama-3-8B", help="Its published shape."),
    Slider(
        "context",
        "Text, k tokens",
        2,
        1024,
        128,
        grid=(8, 32, 128),
        help="Thousands (1,024) of tokens of the base's tokenizer, 4 bytes each.",
    ),
    Slider("batch", "Texts at once", 1, 64, 1, grid=(1, 8), help="All of this length."),
    Choice("ladder", "Ladder", LADDERS, help="Of rotated codes in chunks of 128, four sinks."),
    Slider(
        "density",
        "Blocks kept, %",
        5,
        100,
        25,
        grid=(25, 50),
        help="While the prompt is read; a step of writing meets all tokens.",
    ),
    Choice("bias", "Harmonic slopes", BIAS, help="4/h; far keys are skipped by chapter 3's bound."),
    Choice("machine", "Machine", ("H100", "A100"), help="Peak arithmetic and bandwidth of one."),
    title="What each would save in a large model",
    alt=(
        "A table of cells: a row for the base, for each of the five methods alone and for all; "
        "columns for tokens, cache bytes, attention's arithmetic, seconds to read the prompt and "
        "to write a token; each cell has its share of the base, darker for more. Beside it, bars "
        "of the prompt's arithmetic, attention and weights, for the base and for all five."
    ),
    presets=(
        Preset("8 billion", {}),
        Preset("70 billion, 8 texts", {"model": "Llama-3-70B", "batch": 8}),
        Preset("No shared heads", {"model": "Llama-2-7B"}),
        Preset(
            "A short text",
            {"context": 8},
            "Beside the weights little is left to save.",
            fails=True,
        ),
        Preset(
            "Bias on all heads",
            {"bias": "all"},
            "Little is left of attention: the model is blind to the far.",
            fails=True,
        ),
    ),
    code=(
        "from genopt_core.one_model import budget\n"
        "serving = budget.Serving(size=4096 * {context}, batch={batch}, "
        "machine=budget.MACHINES[{machine}])\n"
        "budget.budget_of(budget.PUBLISHED[{model}], serving)"
    ),
)
def one_budget(
    model: str, context: int, batch: int, ladder: str, density: int, bias: str, machine: str
) -> Figure:
    """Counts and rooflines of the base, of each method alone and of all (book, eq. one-prefill)."""
    found = budgets(model, context, batch, ladder, density, bias, machine)
    base, every = found["base"], found["all five"]
    config = PUBLISHED[model]
    needed = [b.machines(MACHINES[machine]) for b in (base, every)]
    return Figure(
        title=f"{model}, {context} k tokens",
        panels=[_cells(found), _arithmetic(base, every)],
        readout=(
            f"{model}, {batch} × {base.tokens:,} tokens: the cache falls from "
            f"{_gigabytes(base.cache_bytes)} to {_gigabytes(every.cache_bytes)}, reading the "
            f"prompt from {_seconds(base.prefill_seconds)} to {_seconds(every.prefill_seconds)}, a "
            f"token from {_milliseconds(base.step_seconds)} to "
            f"{_milliseconds(every.step_seconds)}."
        ),
        cost=(
            f"assumed: {config.layers} layers, {config.heads} heads of {config.head_dim}, "
            f"{config.key_heads} key heads, 16 bits a weight, "
            f"{BYTES_PER_TOKEN:g} bytes a token, SWE {100 * FEWER_TOKENS:.1f} % fewer, full speed; "
            f"memory for {needed[0]} {machine}"
            + (f", with all five {needed[1]}" if needed[0] != needed[1] else "")
        ),
    )


@cache
def budgets(
    model: str, context: int, batch: int, ladder: str, density: int, bias: str, machine: str
) -> dict[str, Budget]:
    """Budgets of the base, of each method alone and of all five."""
    config = PUBLISHED[model]
    base = Serving(
        size=round(1024 * context * BYTES_PER_TOKEN),
        bytes_per_token=BYTES_PER_TOKEN,
        batch=batch,
        machine=MACHINES[machine],
    )
    options = {
        "fewer_tokens": FEWER_TOKENS,
        "free_heads": 0.5 if bias == "half" else 0.0,
        "density": density / 100,
        "cache_bits": ladder_bits(parse_ladder(ladder), 1024 * context, config.head_dim),
    }
    chosen = {"base": (), **{m: (m,) for m in METHODS}, "all five": METHODS}
    return {
        name: budget_of(config, with_methods(config, base, methods, **options))
        for name, methods in chosen.items()
    }


def _cells(found: dict[str, Budget]) -> Panel:
    order, base = list(ROWS.values()), found["base"]
    told: dict[str, tuple[Callable[[Budget], float], Callable[[float], str]]] = {
        "tokens": (lambda b: b.tokens, "{:,}".format),
        "cache": (lambda b: b.cache_bytes, _gigabytes),
        "attention": (lambda b: b.attention_flops, "{:.2g} FLOPs".format),
        "prompt": (lambda b: b.prefill_seconds, _seconds),
        "step": (lambda b: b.step_seconds, _milliseconds),
    }
    marks = []
    for column, (number, words) in told.items():
        whole = number(base)
        shares = [number(b) / whole for b in found.values()]
        texts = [_percent(share) for share in shares]
        tips = [
            f"{n}, {SHOWN[column]}: {words(number(b))}"
            for n, b in zip(order, found.values(), strict=True)
        ]
        values = [round(100 * share) for share in shares]
        marks.append(figure.cell(SHOWN[column], order, values, text=texts, tip=tips))
    return Panel(
        marks,
        x=Axis(type="band", domain=list(SHOWN.values())),
        y=Axis(type="band", domain=order),
        title="What is left of the base, %",
        color={"label": "% of the base", "domain": [0, 100], "scheme": "sequential"},
        height=300,
    )


def _arithmetic(base: Budget, every: Budget) -> Panel:
    names = ["base", "all five"]
    weights = [b.weight_flops / 1e15 for b in (base, every)]
    both = [(b.weight_flops + b.attention_flops) / 1e15 for b in (base, every)]
    stacked = figure.bar(
        [*weights, *both],
        names * 2,
        base=[0.0, 0.0, *weights],
        z=["weights"] * 2 + ["attention"] * 2,
        horizontal=True,
    )
    return Panel(
        [stacked],
        x=Axis("arithmetic of the prompts, 10¹⁵ FLOPs"),
        y=Axis(type="band", domain=names),
        title="Attention against the rest",
        series={"weights": "c1", "attention": "c2"},
        height=130,
    )


def _percent(share: float) -> str:
    if share < 0.01:
        return f"{100 * share:.1g} %"
    return f"{100 * share:.0f} %"


def _gigabytes(size: float) -> str:
    return f"{size / 1e9:.3g} GB"


def _seconds(time: float) -> str:
    return f"{time:.3g} s" if time >= 0.1 else f"{1000 * time:.3g} ms"


def _milliseconds(time: float) -> str:
    return f"{1000 * time:.3g} ms"
