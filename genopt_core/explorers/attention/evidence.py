"""Explorers of chapter 4: what block selections lose, in attention's output and in predictions."""

import math
from collections.abc import Mapping, Sequence

from genopt_core import tables
from genopt_core.explorers.panels import signed, true_minus
from genopt_core.figures import schema as figure
from genopt_core.figures.controls import Choice
from genopt_core.figures.registry import Preset, explorer
from genopt_core.figures.schema import Axis, Figure, Mark, Panel

OURS, SINK = "recommended", "window + sink"
HEIGHT = 340
GROUPS = {
    "selections": {
        OURS: "accent",
        SINK: "c1",
        "radial + sink": "c3",
        "BigBird-style": "c4",
        "vAttention-style uniform": "c5",
        "antidiagonals, largest kept": "c6",
        "MoBA gate, largest kept": "c7",
        "pooled QK, largest kept": "c8",
        "largest kept, oracle": "muted",
        "plain harmonic": "warn",
        "window": "c2",
    },
    "estimators": {
        OURS: "accent",
        "recommended, self-normalized": "c1",
        "recommended, plain": "c2",
        "recommended, shared by heads": "c7",
        "recommended, 2 probes, equal cost": "c4",
        "probes, largest kept": "c3",
        "centroids sampled, difference": "c5",
        "antidiagonals sampled, difference": "c6",
        "largest kept, oracle": "muted",
    },
    "laws": {
        OURS: "accent",
        "sink + near + harmonic, difference": "c1",
        "sink + near + harmonic, self-normalized": "c3",
        "sink + near + harmonic, plain": "c2",
        "sink + near + zipf 2, self-normalized": "c4",
        "sink + near + geometric 0.8, self-normalized": "c5",
        "sink + near + radial law, self-normalized": "c6",
        "sink + near + calibrated, difference": "c7",
        SINK: "muted",
        "plain harmonic": "warn",
    },
}
LABELS = {
    "sink + near + harmonic, difference": "harmonic, difference",
    "sink + near + harmonic, self-normalized": "harmonic, self-normalized",
    "sink + near + harmonic, plain": "harmonic, plain",
    "sink + near + zipf 2, self-normalized": "Zipf, power 2",
    "sink + near + geometric 0.8, self-normalized": "geometric, 0.8",
    "sink + near + radial law, self-normalized": "a law of radial bands",
    "sink + near + calibrated, difference": "calibrated, difference",
    "plain harmonic": "plain harmonic, no sink",
    "recommended, self-normalized": "self-normalized",
    "recommended, plain": "plain",
    "recommended, shared by heads": "divided among heads",
    "recommended, 2 probes, equal cost": "2 probes, equal cost",
    "centroids sampled, difference": "centroids, sampled",
    "antidiagonals sampled, difference": "antidiagonals, sampled",
}
SHOWN = {
    "selections": "selections, ours and peers",
    "estimators": "ways to estimate and to look",
    "laws": "laws over distance, with sink and nearest block",
}
TEXTS = {
    "sotu 21st century": "addresses, 21st century",
    "moby-dick": "Moby-Dick",
    "code (transformers 5.23.0 cache_utils)": "code of transformers",
    "sotu 20th century": "addresses, 20th century",
    "moby-dick, end": "Moby-Dick, end",
    "code (torch 2.13.0 nn.Module)": "code of torch",
    "sotu 19th century": "addresses, 19th century",
}
FIRST_TEXTS = ("sotu 21st century", "moby-dick", "code (transformers 5.23.0 cache_utils)")
ERROR_PLACES = {
    "mean": "mean of three texts",
    **{text: TEXTS[text] for text in FIRST_TEXTS},
    "sotu 19th century": "addresses, 19th century, where all was chosen",
}
PREDICTION_PLACES = {
    "mean of three": "mean of three texts",
    "mean of six": "mean of six texts",
    **{text: TEXTS[text] for text in FIRST_TEXTS[1:]},
}
DENSITIES = {3: "12 %", 7: "23 %", 15: "43 %", 18: "50 %"}
MEASURES = {
    "kl": "divergence, nats a token",
    "rise": "rise of perplexity, %",
}

Values = dict[str, list[tuple[float, float, float]]]
"""By design and density: a value with its lower and upper end."""


@explorer(
    "attn-error",
    Choice("place", "Text", ERROR_PLACES, help="Nothing was chosen on the first three."),
    Choice("group", "Compared", SHOWN, help="Always at the same number of kept blocks."),
    Choice(
        "kept",
        "Density",
        {k: v for k, v in DENSITIES.items() if k != 18},
        start=7,
        help="Where the right panel looks: 3, 7 or 15 blocks a row beside its own.",
    ),
    title="Error against density",
    alt=(
        "On the left the relative error of attention's output over the share of blocks kept, both "
        "on logarithmic axes, a line a selection: the recommended plan lies on the oracle's line, "
        "a window with a sink above it, plain harmonic dropping far above. On the right the same "
        "designs ranked at one density, with their range over three texts."
    ),
    presets=(
        Preset("23 % of the blocks", {}),
        Preset(
            "The paper's law alone",
            {"group": "laws"},
            "Without the sink and without weights, blocks drawn by a law are hardly better than "
            "none.",
            fails=True,
        ),
        Preset("Estimators", {"group": "estimators", "kept": 15}),
        Preset(
            "12 %: no room for chance",
            {"group": "estimators", "kept": 3},
            "One free block a row: drawing it is worse than keeping the largest.",
            fails=True,
        ),
        Preset("The hardest text", {"place": "code (transformers 5.23.0 cache_utils)"}),
    ),
)
def attn_error(place: str, group: str, kept: int) -> Figure:
    """Stored errors of attention's output on SmolLM2's queries, keys and values."""
    table = tables.load("attention_error")
    values = errors_at(place)
    at = table["kept"].index(kept)
    ours, sink = values[OURS][at][0], values[SINK][at][0]
    plain, oracle = (values[n][at][0] for n in ("plain harmonic", "largest kept, oracle"))
    panels = against_density(
        {n: values[n] for n in GROUPS[group]},
        GROUPS[group],
        [100 * d for d in table["densities"]],
        at,
        Axis("relative error of the output", type="log", domain=(0.02, 2.5)),
        spread="range over the texts" if place == "mean" else "",
    )
    return Figure(
        title=f"{SHOWN[group][0].upper()}{SHOWN[group][1:]}: {ERROR_PLACES[place]}",
        panels=panels,
        readout=(
            f"At {DENSITIES[kept]} the recommended plan errs by {100 * ours:.1f} %, "
            f"{ours / sink:.2f} times what a window with a sink does, {ours / plain:.2f} times "
            f"plain harmonic dropping and {ours / oracle:.2f} times the oracle that has seen all "
            "scores."
        ),
        cost=(
            "choosing costs the recommended plan 3 % of full attention's multiplications, the "
            "oracle half of them, windows and laws nothing"
        ),
        layout="row",
    )


def errors_at(place: str) -> Values:
    """Errors by design; their range over the texts where the place is the mean."""
    table = tables.load("attention_error")
    if place == "mean":
        return {n: [(v[0], v[1], v[2]) for v in line] for n, line in table["mean"].items()}
    return {n: [(v, v, v) for v in line] for n, line in table["texts"][place].items()}


@explorer(
    "attn-perplexity",
    Choice("place", "Text", PREDICTION_PLACES, help="Windows of 4,096 tokens."),
    Choice("measure", "Measure", MEASURES, help="How far predictions move, or how good they are."),
    Choice("group", "Compared", SHOWN, help="In all layers, at the same number of kept blocks."),
    Choice("kept", "Density", DENSITIES, start=18, help="Where the right panel looks."),
    title="Predictions against density",
    alt=(
        "On the left divergence or rise of perplexity of SmolLM2 over the share of blocks kept, "
        "both on logarithmic axes, a line a selection. On the right the same designs ranked at "
        "one density, with a standard error."
    ),
    presets=(
        Preset("Half of the blocks", {}),
        Preset("A quarter", {"kept": 7}),
        Preset("Perplexity", {"measure": "rise"}),
        Preset(
            "The paper's law alone",
            {"group": "laws", "measure": "rise", "kept": 7},
            "The first block is dropped again and again, and with it what heads rest on.",
            fails=True,
        ),
        Preset("Code", {"place": "code (transformers 5.23.0 cache_utils)"}),
    ),
)
def attn_perplexity(place: str, measure: str, group: str, kept: int) -> Figure:
    """Stored scores of the whole model with a selection in every layer."""
    table = tables.load("attention_predictions")
    values = predictions_at(place, measure)
    at = table["counts"].index(kept)
    shown = {n: values[n] for n in GROUPS[group] if n in values}
    top = max(2 * v[0] for line in values.values() for v in line if not math.isnan(v[0]))
    low = LOWEST[measure]
    return Figure(
        title=f"{SHOWN[group][0].upper()}{SHOWN[group][1:]}: {PREDICTION_PLACES[place]}",
        panels=against_density(
            shown,
            GROUPS[group],
            [100 * d for d in table["densities"]],
            at,
            Axis(MEASURES[measure], type="log", domain=(low, top)),
            spread="± one standard error",
        ),
        readout=_told(values, measure, kept, at),
        cost="every layer attends to so many blocks only, in one pass over the whole window",
        layout="row",
    )


LOWEST = {"kl": 1e-3, "rise": 0.05}


def predictions_at(place: str, measure: str) -> Values:
    """A measure by design, with ± one standard error; NaN where nothing was scored."""
    table = tables.load("attention_predictions")
    column = table["columns"].index(measure)
    found: Values = {}
    for name, line in table["places"][place].items():
        found[name] = [
            (math.nan,) * 3
            if cell is None
            else (cell[column], *_ends(cell[column], cell[column + 1]))
            for cell in line
        ]
    return found


def _ends(value: float, error: float | None) -> tuple[float, float]:
    return (value, value) if error is None else (value - error, value + error)


def best_independent(values: Values, at: int) -> str | None:
    """The selection with the least value among those that look at nothing and are not ours."""
    families = tables.load("attention_predictions")["families"]
    names = [
        n
        for n in values
        if families[n] in ("data-independent", "paper") and not math.isnan(values[n][at][0])
    ]
    return min(names, key=lambda n: values[n][at][0], default=None)


def _told(values: Values, measure: str, kept: int, at: int) -> str:
    def number(name: str) -> str:
        value = values[name][at][0]
        return f"{signed(value, 2)} %" if measure == "rise" else f"{1e3 * value:.1f}"

    unit = "perplexity changes by" if measure == "rise" else "the divergence in 10⁻³ nat is"
    peer = best_independent(values, at)
    if OURS not in values or math.isnan(values[OURS][at][0]) or peer is None:
        return f"At {DENSITIES[kept]} nothing was scored here."
    text = (
        f"At {DENSITIES[kept]} {unit} {number(OURS)} with the recommended plan; with the best "
        f"selection that looks at nothing, {peer}, {number(peer)}"
    )
    if values[peer][at][0] > 0 and values[OURS][at][0] > 0:
        text += f", {values[peer][at][0] / values[OURS][at][0]:.1f} times as much"
    if "plain harmonic" in values and not math.isnan(values["plain harmonic"][at][0]):
        text += f"; with plain harmonic dropping {number('plain harmonic')}"
    return f"{text}."


# ------------------------------------------------------------------ both


def against_density(
    values: Values,
    roles: Mapping[str, str],
    densities: Sequence[float],
    at: int,
    axis: Axis,
    spread: str,
) -> list[Panel]:
    """Lines over density, and at one density the designs in their order with their ranges."""
    assert axis.domain is not None
    low, high = (float(end) for end in axis.domain)
    inside: Values = {
        n: [(_within(a, low, high), _within(b, low, high), _within(c, low, high)) for a, b, c in v]
        for n, v in values.items()
    }
    band = [v[1:] for v in inside.get(OURS, [(math.nan,) * 3] * len(densities))]
    others = [n for n in inside if n != OURS]
    # one mark for all designs, so that all frames have the same marks
    marks: list[Mark] = [
        figure.rule(x=densities[at], dash="dotted"),
        figure.area(densities, [v[0] for v in band], [v[1] for v in band], z=OURS, opacity=0.2),
        _lines({n: inside[n] for n in others}, densities, width=1.5),
        _lines({n: inside[n] for n in inside if n == OURS}, densities, width=3),
        figure.dot(
            list(densities) * len(inside),
            [v[0] for line in inside.values() for v in line],
            z=[n for n in inside for _ in densities],
            size=[8 if n == OURS else 6 for n in inside for _ in densities],
            tip=[
                f"{label(n)}: {true_minus(f'{v[0]:.3g}')} at {d:.0f} %"
                for n in inside
                for v, d in zip(values[n], densities, strict=True)
            ],
        ),
    ]
    ticks = [round(d) for d in densities]
    if len(ticks) > 3:
        ticks = [t for t in ticks if t != 43]
    series = {n: roles[n] for n in values}
    return [
        Panel(
            marks,
            x=Axis("blocks kept, %", type="log", domain=(10, 60), ticks=ticks),
            y=axis,
            title="Against density",
            series=series,
            height=HEIGHT,
            legend=False,
        ),
        _ranked(values, series, at, axis, densities[at], spread),
    ]


def label(name: str) -> str:
    """A design as the figures call it.

    >>> label("recommended, plain")
    'plain'
    """
    return LABELS.get(name, name)


def in_words(name: str) -> str:
    """A stored design as tables call it: "shared" is kept for draws that rows share.

    >>> in_words("recommended, shared by heads")
    'recommended, divided among heads'
    """
    name = name.replace("shared by heads", "divided among heads")
    return name.replace("others filled", "others by centroids")


def _lines(values: Values, x: Sequence[float], width: float) -> Mark:
    return figure.line(
        list(x) * len(values),
        [v[0] for line in values.values() for v in line],
        z=[n for n in values for _ in x],
        width=width,
    )


def _within(value: float, low: float, high: float) -> float:
    """Where on the axis a value is drawn: what leaves it stands at its end."""
    return value if math.isnan(value) else min(max(value, low), high)


def _ranked(
    values: Values, roles: Mapping[str, str], at: int, axis: Axis, density: float, spread: str
) -> Panel:
    assert axis.domain is not None
    low, high = (float(end) for end in axis.domain)
    here = {n: line[at] for n, line in values.items()}
    order = sorted(here, key=lambda n: (math.isnan(here[n][0]), here[n][0]))
    x = [_within(here[n][0], low, high) for n in order]
    middle = math.sqrt(low * high)
    right = [n for n, v in zip(order, x, strict=True) if v <= middle or math.isnan(v)]
    left = [n for n in order if n not in right]
    texts = []
    for names, anchor, dx in ((right, "start", 9), (left, "end", -9)):
        edge = 2 if anchor == "start" else 1
        places = [_within(here[n][edge], low, high) for n in names]
        texts.append(
            figure.text(
                [low if math.isnan(p) else p for p in places],
                names,
                [label(n) + ("" if not math.isnan(here[n][0]) else ": not scored") for n in names],
                anchor=anchor,
                dx=dx,
                size=11,
            )
        )
    return Panel(
        [
            figure.link(
                [_within(here[n][1], low, high) for n in order],
                order,
                [_within(here[n][2], low, high) for n in order],
                order,
                z=order,
                width=2,
            ),
            figure.dot(
                x,
                order,
                z=order,
                size=[11 if n == OURS else 8 for n in order],
                tip=[
                    f"{n}: " + true_minus("{:.3g} ({:.3g} to {:.3g})".format(*here[n]))
                    for n in order
                ],
            ),
            *texts,
        ],
        x=axis,
        y=Axis(type="band", domain=order, ticks=order, tick_labels=[""] * len(order)),
        title=f"At {density:.0f} %" + (f", {spread}" if spread else ""),
        series=dict(roles),
        height=HEIGHT,
        legend=False,
    )
