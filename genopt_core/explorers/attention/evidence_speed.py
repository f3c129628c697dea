"""Explorer of chapter 4: time saved by blocks left out, on a CPU and on a GPU."""

from typing import Any

from genopt_core import tables
from genopt_core.figures import schema as figure
from genopt_core.figures.controls import Choice
from genopt_core.figures.registry import Preset, explorer
from genopt_core.figures.schema import Axis, Figure, Mark, Panel

PLACES = {
    "cpu": "one CPU thread, distances shared",
    "rows": "one CPU thread, blocks by row and head",
    "gpu": "a GPU, 1,024 to 16,384 tokens",
}
WAYS = {"both": "forward and backward", "forward": "forward"}
IDEAL = "1 / density"
EARLIER = "earlier mask"
HEIGHT = 320
OURS = "flex, distances, plain, chosen options"
BEFORE = "before the change of the mask"
CALLS = {
    OURS: "flex, distances, plain, mask of the diagonal only",
    "flex, distances, weighted, chosen options": "flex, distances, weighted, fastest options",
    **{
        call: f"{call}, {BEFORE}"
        for call in (
            "flex, distances, plain",
            "flex, rows, plain",
            "flex, distances, blocks of 256",
            "pr_flash_attention, distances, plain",
        )
    },
}
"""Stored calls as tables call them: the mask makes the difference, options hardly any."""
ON_GPU = {
    (OURS, 16384, 128): "flex, heads of 128",
    (OURS, 16384, 64): "flex, heads of 64",
    ("flex, distances, weighted, chosen options", 16384, 64): "flex with weights, 64",
    (OURS, 8192, 64): "flex, 8,192 tokens, 64",
    (OURS, 4096, 64): "flex, 4,096 tokens, 64",
    ("flex, distances, plain", 16384, 64): "flex, 64, earlier mask",
    ("flex, distances, plain", 2048, 64): "flex, 2,048 tokens, earlier mask",
    ("flex, distances, plain", 1024, 64): "flex, 1,024 tokens, earlier mask",
}
ROLES = {
    "4,096 tokens": "c1",
    "8,192 tokens": "accent",
    "kept blocks": "accent",
    "difference": "c2",
    "kept blocks, plan included": "c4",
    **dict(
        zip(ON_GPU.values(), ("accent", "c1", "c3", "c4", "c5", "c6", "c2", "warn"), strict=True)
    ),
}


@explorer(
    "attn-speed",
    Choice("place", "Where", PLACES, help="Against PyTorch's own fused attention in the same run."),
    Choice("way", "Pass", WAYS, help="Training needs both."),
    title="Time saved against density",
    alt=(
        "On the left how many times faster than dense attention, over the share of blocks kept, "
        "both on logarithmic axes, with the line of one over the density that leaving out blocks "
        "could save. On the right the share of that which is really saved."
    ),
    presets=(
        Preset("Training on a CPU", {}),
        Preset(
            "Rows of their own",
            {"place": "rows"},
            "Gathering costs: at 43 % the difference estimator is slower than full attention.",
            fails=True,
        ),
        Preset("On a GPU", {"place": "gpu", "way": "forward"}),
        Preset(
            "Training on a GPU",
            {"place": "gpu"},
            "Short texts are over before the blocks are counted: dense attention is faster.",
            fails=True,
        ),
    ),
)
def attn_speed(place: str, way: str) -> Figure:
    """Stored times; each dense time is of the same turns."""
    rows = rows_of(place, way)
    series = {r["series"]: ROLES[r["series"]] for r in rows}
    return Figure(
        title=f"{PLACES[place][0].upper()}{PLACES[place][1:]}: {WAYS[way]}",
        panels=[
            _panel(rows, series, "times", "times as fast as dense", (0.35, 11)),
            _panel(rows, series, "share", "share of 1 / density", (0, 1.4)),
        ],
        readout=_readout(rows, place, way),
        cost=_cost(place),
        layout="row",
    )


def rows_of(place: str, way: str) -> list[dict[str, Any]]:
    """Density, times as fast and the share of what could be saved, by series."""
    table = tables.load("attention_speed")
    found = []
    for r in tables.records(table, place, f"{place} columns"):
        if place == "rows":
            dense = r["dense forward"]
            if r["block"] != 128 and r["density"] > 0.15:
                continue
            for kind, name in (("kept", "kept blocks"), ("difference", "difference")):
                found.append((name, r["density"], r[f"{kind} {way}"]))
            if way == "forward":
                whole = dense / (dense / r["kept forward"] + r["plan"])
                found.append(("kept blocks, plan included", r["density"], whole))
        elif place == "cpu":
            found.append((f"{r['tokens']:,} tokens", r["density"], r[f"{way} x"]))
        elif r[way] and (r["call"], r["tokens"], r["dim"]) in ON_GPU:
            name = ON_GPU[r["call"], r["tokens"], r["dim"]]
            found.append((name, r["density"], r[f"dense {way}"] / r[way]))
    return [
        {"series": s, "density": d, "times": t, "share": t * d} for s, d, t in sorted(set(found))
    ]


def _panel(
    rows: list[dict[str, Any]],
    series: dict[str, str],
    value: str,
    label: str,
    domain: tuple[float, float],
) -> Panel:
    marks: list[Mark] = []
    if value == "times":
        ends = [10, 100]
        marks.append(figure.line(ends, [100 / e for e in ends], z=IDEAL, width=1.5))
    else:
        marks.append(figure.rule(y=1, dash="dotted"))
    for name in series:
        mine = [r for r in rows if r["series"] == name]
        x, y = ([f * r[k] for r in mine] for k, f in (("density", 100), (value, 1)))
        tip = [
            f"{name}: {r['times']:.2f} times at {100 * r['density']:.0f} %, "
            f"{100 * r['share']:.0f} % of what could be saved"
            for r in mine
        ]
        marks.append(figure.line(x, y, z=name))
        marks.append(figure.dot(x, y, z=name, tip=tip, size=8))
    roles = series | ({IDEAL: "muted"} if value == "times" else {})
    return Panel(
        marks,
        x=Axis("blocks kept, %", type="log", domain=(10, 105), ticks=[12, 25, 50, 100]),
        y=Axis(label, type="log" if value == "times" else "linear", domain=domain),
        title="Times as fast" if value == "times" else "Of what could be saved",
        series=roles,
        height=HEIGHT,
        legend=value == "times",
    )


def _readout(rows: list[dict[str, Any]], place: str, way: str) -> str:
    told = []
    for wanted in (0.12, 0.24, 0.49):
        near = [r for r in rows if abs(r["density"] - wanted) < 0.07]
        if near:
            best = max(near, key=lambda r: r["share"])
            told.append(
                f"{best['times']:.1f} times at {100 * best['density']:.0f} % ({best['series']})"
            )
    return f"{WAYS[way][0].upper()}{WAYS[way][1:]}, {PLACES[place]}: {', '.join(told)}."


def _cost(place: str) -> str:
    if place == "gpu":
        devices: dict[bool, dict[str, None]] = {False: {}, True: {}}  # by the earlier mask
        for r in tables.records(tables.load("attention_speed"), "gpu", "gpu columns"):
            if (label := ON_GPU.get((r["call"], r["tokens"], r["dim"]))) is not None:
                devices[label.endswith(EARLIER)][r["device"]] = None
        first, second = (" and ".join(found) for found in devices.values())
        said = f"bfloat16, against FlashAttention on the same GPU: {first}"
        if not second:
            return said
        return (
            f"{said}; {second} for the {EARLIER}, which was asked for every block and not for the "
            "diagonal's alone"
        )
    return (
        "processor time, heads of 64; more than 1 / density where blocks of the diagonal are "
        "computed in halves, which the density does not count"
    )
