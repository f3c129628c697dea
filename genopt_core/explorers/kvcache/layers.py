"""Explorer of chapter 5: one ladder for each layer, from what each layer loses on each."""

import itertools
from functools import lru_cache
from typing import Any

import numpy as np

from genopt_core import tables
from genopt_core.figures import schema as figure
from genopt_core.figures.controls import Choice, Slider
from genopt_core.figures.registry import Preset, explorer
from genopt_core.figures.schema import Axis, Figure, Mark, Panel
from genopt_core.kvcache import allocate_layers

TEXTS = {"both": "both texts", "prose": "prose only", "code": "code only"}
SIDES = ("keys", "values")
BUDGETS = (1.5, 1.75, 2, 2.35, 2.6, 2.85, 3.1, 3.35, 3.7, 4, 4.3, 4.65, 5, 5.5, 6)
METADATA = np.array([0.375, 0.25])
"""Bits of keys and of values at chunks of 128 and 64 channels (eq. kv-metadata)."""
UNIT = 1 / 8
"""All bits are multiples of it."""


@lru_cache(maxsize=1)
def stored() -> dict[str, Any]:
    """Costs in thousandths of a nat: (layers, 2, ladders) by text."""
    table = tables.load("kv_layers")
    costs = {name: np.array(c) for name, c in table["costs"].items()}
    return {"floors": np.array(table["floors"]), "costs": costs}


def costs_on(text: str) -> np.ndarray:
    """Costs on one text, or the mean of both, (layers, 2, ladders)."""
    costs = stored()["costs"]
    return costs[text] if text in costs else sum(costs.values()) / len(costs)


def divided(budget: float, chosen_on: str) -> np.ndarray:
    """Which ladder each side of each layer gets, (layers, 2)."""
    c, floors = costs_on(chosen_on), stored()["floors"]
    bits = np.tile(floors + METADATA[:, None], (len(c), 1))
    chosen = allocate_layers(c.reshape(len(bits), -1), bits, budget, unit=UNIT)
    return np.array(chosen).reshape(-1, 2)


def alike(budget: float, chosen_on: str) -> np.ndarray:
    """The same, if all layers must have the same two ladders."""
    c, floors = costs_on(chosen_on), stored()["floors"]
    total = c.sum(axis=0)
    pairs = itertools.product(range(len(floors)), repeat=2)
    fit = [
        (total[0, k] + total[1, v], k, v)
        for k, v in pairs
        if (floors[k] + floors[v] + METADATA.sum()) / 2 <= budget + 1e-9
    ]
    return np.tile(min(fit)[1:], (len(c), 1))


def expected(chosen: np.ndarray, text: str) -> float:
    """Sum of the costs of what was chosen, on one text (book, eq. kv-layers)."""
    cost = np.take_along_axis(stored()["costs"][text], chosen[..., None], -1)
    return float(cost.sum())


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
        Preset("2.35 bits", {"budget": 2.35, "chosen_on": "both"}),
        Preset(
            "Keys first",
            {"budget": 1.75, "chosen_on": "both"},
            "What little there is goes to the keys of half the layers.",
        ),
        Preset(
            "Enough for 8 bits",
            {"budget": 5, "chosen_on": "both"},
            "The same layers are the first to get 8.",
        ),
        Preset(
            "Chosen on prose, used on code",
            {"budget": 2.35, "chosen_on": "prose"},
            "Compare the bars for code with those of the first preset.",
            fails=True,
        ),
    ),
)
def kv_layers(budget: float, chosen_on: str) -> Figure:
    """Bits divided among layers at the least expected divergence (book, eq. kv-layers)."""
    table = stored()
    floors = table["floors"]
    chosen, same = divided(budget, chosen_on), alike(budget, chosen_on)
    bits = floors[chosen]
    loss = {text: (expected(chosen, text), expected(same, text)) for text in table["costs"]}
    low, high = bits.min(axis=0), bits.max(axis=0)
    ranges = [f"{a} to {b}" if a < b else f"{a}" for a, b in zip(low, high, strict=True)]
    return Figure(
        title=f"{budget:g} bits a number, divided among 30 layers",
        panels=[_floors_panel(bits), _costs_panel(), _loss_panel(loss)],
        readout=(
            f"At {budget:g} bits a number the floors of keys have {ranges[0]} bits and those of "
            f"values {ranges[1]}; the expected divergence is {loss['prose'][0]:.2f} thousandths of "
            f"a nat on prose and {loss['code'][0]:.2f} on code, with the same ladders in all "
            f"layers {loss['prose'][1]:.2f} and {loss['code'][1]:.2f}."
        ),
        cost="600 measurements of SmolLM2-135M, made once; dividing the bits takes milliseconds",
    )


def _layers_axis(count: int) -> Axis:
    return Axis("layer", domain=(0.5, count + 0.5), ticks=[1, 5, 10, 15, 20, 25, 30])


def _floors_panel(bits: np.ndarray) -> Panel:
    at = list(range(1, len(bits) + 1))
    marks: list[Mark] = []
    for side, name in enumerate(SIDES):
        y = bits[:, side].tolist()
        tips = [f"layer {i}, {name}: {b} bits" for i, b in zip(at, y, strict=True)]
        marks += [
            figure.line(at, y, z=name, curve="step", width=1),
            figure.dot(at, y, z=name, tip=tips, size=6),
        ]
    return Panel(
        marks,
        x=_layers_axis(len(bits)),
        y=Axis("bits at the floor", type="log", domain=(0.9, 9), ticks=[1, 2, 3, 4, 8]),
        title="What each layer gets",
        series={"keys": "c1", "values": "c2"},
        height=190,
    )


def _costs_panel() -> Panel:
    at_two = list(stored()["floors"]).index(2)
    cost = costs_on("both")[..., at_two]
    at = list(range(1, len(cost) + 1))
    marks = []
    for side, name in enumerate(SIDES):
        y = cost[:, side].tolist()
        tips = [f"layer {i}, {name}: {c:.4f}" for i, c in zip(at, y, strict=True)]
        marks.append(figure.dot(at, y, z=name, tip=tips, size=8))
    return Panel(
        marks,
        x=_layers_axis(len(cost)),
        y=Axis("10⁻³ nat a token", type="log"),
        title="What two bits would cost, this side of this layer alone",
        series={"keys": "c1", "values": "c2"},
        legend=False,
        height=190,
    )


def _loss_panel(loss: dict[str, tuple[float, float]]) -> Panel:
    names, values, kinds = [], [], []
    for text, pair in loss.items():
        for kind, value in zip(("by layer", "all alike"), pair, strict=True):
            names.append(f"{text}, {kind}")
            values.append(value)
            kinds.append(kind)
    return Panel(
        [
            figure.bar(values, names, z=kinds, horizontal=True),
            figure.text(values, names, [f"{v:.2f}" for v in values], anchor="start", dx=5),
        ],
        x=Axis("expected divergence, 10⁻³ nat a token", domain=(0, 1.2 * max(values))),
        y=Axis(type="band", domain=names),
        title="On each text",
        series={"by layer": "c1", "all alike": "muted"},
        legend=False,
        height=150,
    )
