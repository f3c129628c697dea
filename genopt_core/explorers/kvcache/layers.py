"""Explorer of chapter 5: one ladder for each layer, from what each layer loses on each."""

from functools import cache
from typing import Any

import numpy as np

from genopt_core import tables
from genopt_core.explorers.panels import bars, counted, results
from genopt_core.figures.controls import Choice, Slider
from genopt_core.figures.registry import Preset, explorer
from genopt_core.figures.schema import Axis, Figure, Panel
from genopt_core.kvcache import allocate_layers, allocate_uniform

TEXTS = {"both": "both texts", "prose": "prose only", "code": "code only"}
SIDES = ("keys", "values")
BUDGETS = (1.5, 1.75, 2, 2.35, 2.6, 2.85, 3.1, 3.35, 3.7, 4, 4.3, 4.65, 5, 5.5, 6)
METADATA = np.array([0.375, 0.25])
"""Bits of keys and of values at chunks of 128 and 64 channels (eq. kv-metadata)."""
UNIT = 1 / 8
"""All bits are multiples of it."""


@cache
def stored_costs() -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Bits of the floors (ladders,); costs in thousandths of a nat (layers, 2, ladders) by text."""
    table = tables.load("kv_layers")
    return np.array(table["floors"]), {text: np.array(c) for text, c in table["costs"].items()}


def costs_on(text: str) -> np.ndarray:
    """Costs on one text, or the mean of both, (layers, 2, ladders)."""
    _, costs = stored_costs()
    return costs[text] if text in costs else np.mean(list(costs.values()), axis=0)


def side_bits() -> np.ndarray:
    """Bits of each ladder of keys and of values, metadata included, (2, ladders)."""
    return stored_costs()[0] + METADATA[:, None]


def allocated_ladders(budget: float, chosen_on: str) -> np.ndarray:
    """Which ladder each side of each layer gets, (layers, 2)."""
    costs = costs_on(chosen_on)
    rows = costs.reshape(-1, costs.shape[-1])
    bits = np.tile(side_bits(), (len(costs), 1))
    return np.array(allocate_layers(rows, bits, budget, unit=UNIT)).reshape(-1, 2)


def uniform_ladders(budget: float, chosen_on: str) -> np.ndarray:
    """The same, if all layers must have the same two ladders."""
    costs = costs_on(chosen_on)
    return np.tile(allocate_uniform(costs, side_bits(), budget), (len(costs), 1))


def expected(chosen: np.ndarray, text: str) -> float:
    """Sum of the costs of what was chosen, on one text (book, eq. kv-layers)."""
    return float(np.take_along_axis(stored_costs()[1][text], chosen[..., None], -1).sum())


@explorer(
    "kv-layers",
    Slider(
        "budget",
        "Bits a number",
        1.5,
        6,
        2.35,
        step=0.05,
        grid=BUDGETS,
        help="In the limit of a long text, metadata included, mean over layers.",
    ),
    Choice(
        "chosen_on",
        "Chosen on",
        TEXTS,
        start="both",
        help="The text on which the loss of each layer was measured.",
    ),
    title="One ladder for each layer",
    alt=(
        "Above, two lines over the thirty layers: the bits that the floors of keys and of values "
        "get. In the middle, what two bits would cost each layer, on a logarithmic axis. Below, "
        "bars: the expected divergence on prose and code, beside the same ladders in all layers."
    ),
    presets=(
        Preset("2.35 bits", {}),
        Preset(
            "Keys first",
            {"budget": 1.75},
            "What little there is goes to the keys of half the layers.",
        ),
        Preset("Enough for 8 bits", {"budget": 5}, "The same layers are the first to get 8."),
        Preset(
            "Chosen on prose, it fails on code",
            {"chosen_on": "prose"},
            "Compare the bars for code with those of the first preset.",
            fails=True,
        ),
    ),
)
def kv_layers(budget: float, chosen_on: str) -> Figure:
    """Bits divided among layers at the least expected divergence (book, eq. kv-layers)."""
    floors, costs = stored_costs()
    chosen, same = allocated_ladders(budget, chosen_on), uniform_ladders(budget, chosen_on)
    bits = floors[chosen]
    loss = {text: (expected(chosen, text), expected(same, text)) for text in costs}
    at_two = costs_on("both")[..., list(floors).index(2)]
    low, high = bits.min(axis=0), bits.max(axis=0)
    ranges = [f"{a} to {b}" if a < b else f"{a}" for a, b in zip(low, high, strict=True)]
    return Figure(
        title=f"{budget:g} bits a number, divided among 30 layers",
        panels=[
            _by_layer(
                bits,
                [counted(int(b), "bit") for b in bits.ravel()],
                Axis("bits at the floor", type="log", domain=(0.9, 9), ticks=[1, 2, 3, 4, 8]),
                curve="step",
                size=6,
                title="What each layer gets",
            ),
            _by_layer(
                at_two,
                [f"{cost:.4f} × 10⁻³ nat" for cost in at_two.ravel()],
                Axis("10⁻³ nat a token", type="log"),
                kind="dot",
                size=8,
                title="What two bits would cost, this side of this layer alone",
                legend=False,
            ),
            _loss_panel(loss),
        ],
        readout=(
            f"At {budget:g} bits a number the floors of keys have {ranges[0]} bits and those of "
            f"values {ranges[1]}; the expected divergence is {loss['prose'][0]:.2f} thousandths of "
            f"a nat on prose and {loss['code'][0]:.2f} on code, with the same ladders in all "
            f"layers {loss['prose'][1]:.2f} and {loss['code'][1]:.2f}."
        ),
        cost="600 measurements of SmolLM2-135M, made once; dividing the bits takes milliseconds",
    )


def _by_layer(values: np.ndarray, tips: list[str], y: Axis, **look: Any) -> Panel:
    """Values of keys and of values, (layers, 2), over the layers."""
    rows = [
        {"layer": at // 2 + 1, "side": SIDES[at % 2], "value": value}
        for at, value in enumerate(values.ravel().tolist())
    ]
    for row, tip in zip(rows, tips, strict=True):
        row["tip"] = f"layer {row['layer']}, {row['side']}: {tip}"
    x = Axis("layer", domain=(0.5, len(values) + 0.5), ticks=[1, 5, 10, 15, 20, 25, 30])
    roles = {"keys": "c1", "values": "c2"}
    return results(rows, ("layer", "value", "side"), roles, (x, y), height=190, **look)


def _loss_panel(loss: dict[str, tuple[float, float]]) -> Panel:
    kinds = ("by layer", "all alike")
    values = {
        f"{text}, {kind}": value
        for text, pair in loss.items()
        for kind, value in zip(kinds, pair, strict=True)
    }
    return bars(
        values,
        Axis("expected divergence, 10⁻³ nat a token", domain=(0, 1.2 * max(values.values()))),
        z=kinds * len(loss),
        numbers=[f"{value:.2f}" for value in values.values()],
        horizontal=True,
        title="On each text",
        series={"by layer": "c1", "all alike": "muted"},
        height=150,
    )
