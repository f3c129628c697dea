"""Explorer of chapter 4: a fact far back, and whether blocks drawn by chance still find it."""

import math
from typing import Any

from genopt_core import tables
from genopt_core.explorers.panels import counted, true_minus
from genopt_core.figures import schema as figure
from genopt_core.figures.controls import Choice
from genopt_core.figures.registry import Preset, explorer
from genopt_core.figures.schema import Axis, Figure, Mark, Panel

Key = tuple[str, int]  # design and rounds
FULL: Key = ("full", 1)
LAW = "sink + near + harmonic, self-normalized"
PAPER = "plain harmonic, each row"
SHARED = "recommended, shared by heads"
NAMES: dict[Key, str] = {
    FULL: "full attention",
    ("recommended", 1): "recommended",
    ("recommended", 4): "recommended, 4 rounds",
    (SHARED, 1): "recommended, divided among heads",
    (SHARED, 4): "divided among heads, 4 rounds",
    (LAW, 1): "sink + near + harmonic",
    (LAW, 4): "sink + near + harmonic, 4 rounds",
    (LAW, 8): "sink + near + harmonic, 8 rounds",
    (PAPER, 1): "plain harmonic",
    (PAPER, 4): "plain harmonic, 4 rounds",
    (PAPER, 8): "plain harmonic, 8 rounds",
    ("window + sink", 1): "window + sink",
    ("radial + sink", 1): "radial + sink",
    ("largest kept, oracle", 1): "oracle",
}
ROLES = {
    "full attention": "muted",
    "recommended": "accent",
    "recommended, 4 rounds": "c4",
    "sink + near + harmonic": "c1",
    "sink + near + harmonic, 4 rounds": "c3",
    "sink + near + harmonic, 8 rounds": "c6",
    "plain harmonic": "warn",
    "plain harmonic, 4 rounds": "c2",
    "plain harmonic, 8 rounds": "c7",
    "window + sink": "c5",
    "radial + sink": "c8",
    "oracle": "c4",
}
GROUPS: dict[str, tuple[Key, ...]] = {
    "once": (
        FULL,
        ("recommended", 1),
        (LAW, 1),
        ("window + sink", 1),
        ("radial + sink", 1),
        ("largest kept, oracle", 1),
        (PAPER, 1),
    ),
    "rounds": (FULL, (LAW, 1), (LAW, 4), (LAW, 8), ("recommended", 1), ("recommended", 4)),
    "paper": (FULL, (PAPER, 1), (PAPER, 4), (PAPER, 8), (LAW, 8)),
}
SHOWN = {
    "once": "selections, one round",
    "rounds": "rounds with weights",
    "paper": "rounds of plain dropping",
}
MEASURES = {"log": "log probability of the answer, nats", "exact": "told exactly"}
LENGTH = 4096
KEPT = {3: "12 %", 7: "23 %", 15: "43 %"}
WIDE = (FULL, ("recommended", 1))
LOWEST = -24.0
HEIGHT = 330


@explorer(
    "attn-needle",
    Choice("kept", "Kept", KEPT, start=7, help="Blocks of 64 tokens beside a row's own."),
    Choice("group", "Compared", SHOWN, help="R rounds compute R times as much."),
    Choice("measure", "Score", MEASURES, help="All five digits, read with the plan in all layers."),
    title="A needle in the hay",
    alt=(
        "On the left how well a number of five digits is told again, over its distance from the "
        "question on a logarithmic axis, a line a selection. On the right the mean over all "
        "distances against the number of blocks computed, rounds counted."
    ),
    presets=(
        Preset("One round", {}),
        Preset(
            "12 %: lost",
            {"kept": 3},
            "The model could do it with so few blocks, as the oracle shows; none of the others "
            "knows which.",
            fails=True,
        ),
        Preset("Rounds with weights", {"group": "rounds", "kept": 15}),
        Preset(
            "Rounds of plain dropping",
            {"group": "paper", "kept": 15},
            "What more rounds see they find, bias or no bias; at several times the cost of all.",
        ),
    ),
)
def attn_needle(kept: int, group: str, measure: str) -> Figure:
    """Stored scores of SmolLM2 with a selection in every layer."""
    rows = {(r["design"], r["rounds"]): r for r in stored_rows() if r["kept"] in (0, kept)}
    names = [NAMES[key] for key in GROUPS[group]]
    distances = [LENGTH * (100 - d) / 100 for d in tables.load("attention_needle")["depths"]]
    points = {
        key: list(zip(distances, _values(rows.get(key), measure, len(distances)), strict=True))
        for key in GROUPS[group]
    }
    marks = _marks(points, "tokens back")
    axis = Axis(MEASURES[measure], domain=(-0.03, 1.03) if measure == "exact" else (LOWEST, 0.0))
    return Figure(
        title=f"{SHOWN[group][0].upper()}{SHOWN[group][1:]}: {KEPT[kept]} of the blocks",
        panels=[
            Panel(
                marks,
                x=Axis("tokens before the question", type="log", domain=(40, 4400)),
                y=axis,
                title="Over distance",
                series={name: ROLES[name] for name in names},
                height=HEIGHT,
            ),
            _against_cost(group, measure, axis),
        ],
        readout=_readout(rows, kept),
        cost=_cost(rows),
        layout="row",
    )


def stored_rows() -> list[dict[str, Any]]:
    """A row for each design, number of kept blocks and number of rounds."""
    return tables.records(tables.load("attention_needle"))


def _values(row: dict[str, Any] | None, measure: str, count: int) -> list[float]:
    return [math.nan] * count if row is None else list(row[measure])


def _mean(values: Any) -> float:
    return sum(values) / len(values)


def _against_cost(group: str, measure: str, axis: Axis) -> Panel:
    """The mean over distances, over what all rounds together compute."""
    every = stored_rows()
    (full,) = (r for r in every if r["design"] == "full")
    marks = [figure.rule(y=max(_mean(full[measure]), LOWEST), dash="dotted")]
    points = {}
    for key in GROUPS[group]:
        mine = [r for r in every if (r["design"], r["rounds"]) == key]
        mine.sort(key=lambda r: r["kept"])
        points[key] = [(100 * r["density"] * r["rounds"], _mean(r[measure])) for r in mine]
    marks += _marks(points, "% computed")
    names = [NAMES[key] for key in GROUPS[group]]
    return Panel(
        marks,
        x=Axis("blocks computed in all rounds, %", type="log", domain=(10, 800)),
        y=axis,
        title="Mean over all distances",
        series={name: ROLES[name] for name in names},
        height=HEIGHT,
        legend=False,
    )


def _marks(points: dict[Key, list[tuple[float, float]]], unit: str) -> list[Mark]:
    """Lines and dots, one mark for all of a width, so that all frames have the same marks."""
    marks = []
    for wide in (False, True):
        keys = [key for key in points if (key in WIDE) == wide]
        x, y = ([point[i] for key in keys for point in points[key]] for i in (0, 1))
        inside = [max(v, LOWEST) for v in y]
        z = [NAMES[key] for key in keys for _ in points[key]]
        tip = [
            f"{n}: {true_minus(f'{v:.2f}')}, {a:,.0f} {unit}"
            for n, v, a in zip(z, y, x, strict=True)
        ]
        marks.append(figure.line(x, inside, z=z, width=2.5 if wide else 1.5))
        marks.append(figure.dot(x, inside, z=z, tip=tip, size=7))
    return marks


def _readout(rows: dict[Key, dict[str, Any]], kept: int) -> str:
    said = {
        name: f"{_mean(rows[key]['log']):.1f}"
        for key, name in (
            (FULL, "full attention"),
            (("largest kept, oracle", 1), "the oracle"),
            (("recommended", 1), "the recommended plan"),
            ((LAW, 1), "sink, nearest and harmonic blocks"),
            ((LAW, 8), "eight rounds of these"),
            (("window + sink", 1), "a window with a sink"),
            ((PAPER, 1), "plain harmonic dropping"),
        )
    }
    told = ", ".join(f"{name} {true_minus(value)}" for name, value in said.items())
    return f"At {KEPT[kept]} the mean log probability of the answer is: {told}."


def _cost(rows: dict[Key, dict[str, Any]]) -> str:
    trials = max(r["trials"] for r in rows.values())
    depths = len(tables.load("attention_needle")["depths"])
    return (
        f"{counted(trials, 'number')} at {depths} depths of {LENGTH:,} tokens; R rounds compute R "
        "times as much. A guess among all numbers of five digits has −11.5 nats"
    )
