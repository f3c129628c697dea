"""Explorer of chapter 4: a fact far back, and whether blocks drawn by chance still find it."""

import math
from typing import Any

from genopt_core import tables
from genopt_core.explorers.panels import true_minus
from genopt_core.figures import schema as figure
from genopt_core.figures.controls import Choice
from genopt_core.figures.registry import Preset, explorer
from genopt_core.figures.schema import Axis, Figure, Mark, Panel

Key = tuple[str, int]  # design and rounds
FULL: Key = ("full", 1)
LAW = "sink + near + harmonic, self-normalized"
PAPER = "plain harmonic, each row"
NAMES: dict[Key, str] = {
    FULL: "full attention",
    ("recommended", 1): "recommended",
    ("recommended", 4): "recommended, 4 rounds",
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
    "oracle": "c3",
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
MEASURES = {"exact": "share of answers exact", "log": "log probability of the answer, nats"}
LENGTHS = {1024: "1,024 tokens", 2048: "2,048 tokens", 4096: "4,096 tokens"}
KEPT = {3: "3 blocks a row", 7: "7 blocks a row", 15: "15 blocks a row", 18: "18 blocks a row"}
LOWEST = -16.0
HEIGHT = 330


@explorer(
    "attn-needle",
    Choice("length", "Prompt", LENGTHS, start=4096, help="Prose with one sentence that counts."),
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
            "A window sees no needle",
            {"kept": 3, "measure": "log"},
            "What lies outside of the window is not found, whatever the seed.",
            fails=True,
        ),
        Preset("Rounds help", {"group": "rounds", "measure": "log"}),
        Preset(
            "Rounds of plain dropping do not",
            {"group": "paper", "measure": "log"},
            "More rounds come closer to the wrong limit.",
            fails=True,
        ),
        Preset("Half of the blocks", {"kept": 18}),
    ),
)
def attn_needle(length: int, kept: int, group: str, measure: str) -> Figure:
    """Stored scores of SmolLM2 with a selection in every layer."""
    rows = {(r["design"], r["rounds"]): r for r in rows_of(length) if r["kept"] in (0, kept)}
    names = [NAMES[key] for key in GROUPS[group]]
    distances = [length * (100 - d) / 100 for d in tables.load("attention_needle")["depths"]]
    marks: list[Mark] = []
    for key in GROUPS[group]:
        values = _values(rows.get(key), measure, len(distances))
        tip = [
            f"{NAMES[key]}: {true_minus(f'{v:.2f}')}, {d:,.0f} tokens back"
            for v, d in zip(values, distances, strict=True)
        ]
        inside = [max(v, LOWEST) for v in values]
        wide = key in (("recommended", 1), FULL)
        marks.append(figure.line(distances, inside, z=NAMES[key], width=2.5 if wide else 1.5))
        marks.append(figure.dot(distances, inside, z=NAMES[key], tip=tip, size=7))
    axis = Axis(MEASURES[measure], domain=(-0.03, 1.03) if measure == "exact" else (LOWEST, 0.0))
    return Figure(
        title=f"{SHOWN[group][0].upper()}{SHOWN[group][1:]}: {LENGTHS[length]}, {KEPT[kept]}",
        panels=[
            Panel(
                marks,
                x=Axis("tokens before the question", type="log", domain=(40, 4400)),
                y=axis,
                title="Over distance",
                series={name: ROLES[name] for name in names},
                height=HEIGHT,
            ),
            _against_cost(length, group, measure, axis),
        ],
        readout=_readout(rows, length, kept),
        cost=_cost(rows, length),
        layout="row",
    )


def rows_of(length: int) -> list[dict[str, Any]]:
    """The stored rows of one prompt length."""
    table = tables.load("attention_needle")
    return [r for r in tables.records(table) if r["length"] == length]


def _values(row: dict[str, Any] | None, measure: str, count: int) -> list[float]:
    return [math.nan] * count if row is None else list(row[measure])


def _mean(values: Any) -> float:
    return sum(values) / len(values)


def _against_cost(length: int, group: str, measure: str, axis: Axis) -> Panel:
    """The mean over distances, over what all rounds together compute."""
    marks: list[Mark] = []
    every = rows_of(length)
    (full,) = (r for r in every if r["design"] == "full")
    marks.append(figure.rule(y=max(_mean(full[measure]), LOWEST), dash="dotted"))
    for key in GROUPS[group]:
        mine = sorted(
            (r for r in every if (r["design"], r["rounds"]) == key), key=lambda r: r["kept"]
        )
        x = [100 * r["density"] * r["rounds"] for r in mine] or [math.nan]
        y = [max(_mean(r[measure]), LOWEST) for r in mine] or [math.nan]
        tip = [
            f"{NAMES[key]}: {true_minus(f'{_mean(r[measure]):.2f}')} at {a:.0f} %"
            for r, a in zip(mine, x, strict=False)
        ] or [NAMES[key]]
        marks.append(figure.line(x, y, z=NAMES[key]))
        marks.append(figure.dot(x, y, z=NAMES[key], tip=tip, size=7))
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


def _readout(rows: dict[Key, dict[str, Any]], length: int, kept: int) -> str:
    def said(key: Key) -> str:
        return f"{100 * _mean(rows[key]['exact']):.0f} %"

    text = f"Full attention tells {said(FULL)} of the numbers again, at {LENGTHS[length]}"
    known = [
        (key, name)
        for key, name in (
            (("recommended", 1), "the recommended plan"),
            ((LAW, 1), "sink, near and harmonic blocks with weights"),
            (("window + sink", 1), "a window with a sink"),
            ((PAPER, 1), "plain harmonic dropping"),
        )
        if key in rows
    ]
    if not known:
        return f"{text}; {KEPT[kept]} are nearly all blocks there, and were not measured."
    return f"{text}; with {KEPT[kept]}: " + ", ".join(f"{n} {said(k)}" for k, n in known) + "."


def _cost(rows: dict[Key, dict[str, Any]], length: int) -> str:
    trials = max(r["trials"] for r in rows.values())
    drawn = next((r["density"] for key, r in rows.items() if key == (LAW, 1)), 1.0)
    return (
        f"{trials} numbers at {len(tables.load('attention_needle')['depths'])} depths; one round "
        f"computes {100 * drawn:.0f} % of the blocks, R rounds R times as many"
    )
