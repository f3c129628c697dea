"""Explorer of chapter 5: what a cache loses against the bits that it takes, all designs."""

import math
from collections.abc import Sequence
from typing import Any

from genopt_core import tables
from genopt_core.explorers.panels import signed
from genopt_core.figures import schema as figure
from genopt_core.figures.controls import Choice
from genopt_core.figures.registry import Preset, explorer
from genopt_core.figures.schema import Axis, Figure, Mark, Panel

BUDGETS = ("2.35", "2.85", "3.35", "4.3", "5.0")
TOLERANCE = 0.02  # bits that a peer may have beyond the budget
MIDDLE = 4.6  # of the axes of bits, for names
PLACES = {
    "2048/mean": "mean of six texts, 2,048 tokens",
    "2048/addresses, 21st century": "addresses, 21st century, 2,048",
    "2048/addresses, 20th century": "addresses, 20th century, 2,048",
    "2048/Moby-Dick": "Moby-Dick, 2,048",
    "2048/Moby-Dick, end": "Moby-Dick, end, 2,048",
    "2048/code of transformers": "code of transformers, 2,048",
    "2048/code of torch": "code of torch, 2,048",
    "4096/mean": "mean of three texts, 4,096 tokens",
    "4096/addresses, 21st century": "addresses, 21st century, 4,096",
    "4096/Moby-Dick": "Moby-Dick, 4,096",
    "4096/code of transformers": "code of transformers, 4,096",
}
MEASURES = {"divergence": "divergence, 10⁻³ nat a token", "rise": "rise of perplexity, %"}
AXES: dict[str, dict[str, Any]] = {
    "divergence": {"type": "log", "domain": (0.2, 4000)},
    "rise": {"type": "symlog", "domain": (-2, 1400), "ticks": [-1, 0, 1, 3, 10, 30, 100, 1000]},
}
BITS = {"limit": "bits a number in the limit of a long text", "held": "bits a number really held"}
FAMILIES = {
    "SAQ+ by layer": "accent",
    "SAQ+, one ladder": "c1",
    "SAQ, the paper's": "c2",
    "flat rotation": "c3",
    "KIVI": "c4",
    "HQQ": "c5",
    "Quanto": "c6",
    "fp8": "c7",
}
STORED_FAMILIES = {"SAQ": "SAQ, the paper's", "hqq": "HQQ", "quanto": "Quanto"}


@explorer(
    "kv-quality",
    Choice("place", "Text and length", PLACES, help="The last 508 tokens are decoded and scored."),
    Choice("measure", "Measure", MEASURES, help="How far predictions move, or how good they are."),
    Choice(
        "budget",
        "Budget in bits",
        {budget: f"{float(budget):g} bits" for budget in BUDGETS},
        start="2.85",
        help="In the limit, metadata included; it marks a design of ours and its best peer.",
    ),
    title="Quality against bits, all caches",
    alt=(
        "Two panels of points, one for each cache, over bits per number: on the left those in the "
        "limit of a long text, on the right those really held at this length. Upwards, on a "
        "logarithmic axis, divergence or rise of perplexity. A stepped line joins the caches that "
        "nothing beats in both; our design of the chosen budget and its best peer are large."
    ),
    presets=(
        Preset("2.85 bits", {}),
        Preset(
            "The hardest text",
            {"place": "2048/code of transformers", "budget": "2.35"},
            "Ladders by layer lose most on code, and are still far below their peers.",
        ),
        Preset(
            "Twice the length",
            {"place": "4096/mean", "budget": "4.3"},
            "The upper stairs weigh half as much: compare the bits really held.",
        ),
        Preset(
            "At 5 bits perplexity cannot rank them",
            {"measure": "rise", "budget": "5.0"},
            "508 tokens of a text are too few for caches this good: KIVI is lower, within its "
            "error.",
            fails=True,
        ),
    ),
)
def kv_quality(place: str, measure: str, budget: str) -> Figure:
    """Stored scores of thirty caches; a peer is the best one at no more bits."""
    length = place.split("/")[0]
    rows = rows_at(place, measure)
    ours = next(r for r in rows if r["number"] == tables.load("kv_quality")["chosen"][budget])
    rivals = {
        kind: best_peer(rows, kind, ours["held"] if kind == "held" else float(budget))
        for kind in BITS
    }
    return Figure(
        title=f"{float(budget):g} bits a number: {PLACES[place]}",
        panels=[_panel(rows, kind, measure, ours, rivals[kind], length) for kind in BITS],
        readout=_readout(ours, rivals, measure, place, budget),
        cost=(
            f"{float(budget):g} bits in the limit, {ours['held']:.2f} really held at "
            f"{int(length):,} tokens, where the upper stairs and the newest tokens still count"
        ),
        layout="row",
    )


def rows_at(place: str, measure: str) -> list[dict[str, Any]]:
    """All designs, in the order of the table; NaN where one was not scored."""
    table = tables.load("kv_quality")
    length, text = place.split("/", 1)
    scored = {
        row[0]: dict(zip(table["columns"], row, strict=True))
        for row in table["places"][length][text]
    }
    rows = []
    for number, design in enumerate(table["designs"]):
        found = scored.get(number, {measure: math.nan, f"{measure}_se": math.nan})
        family = design["family"]
        if family == "SAQ+":
            family = "SAQ+ by layer" if "by layer" in design["label"] else "SAQ+, one ladder"
        rows.append(
            {
                "number": number,
                "label": design["label"],
                "family": STORED_FAMILIES.get(family, family),
                "limit": design["limit"],
                "held": design["held"].get(length, math.nan),
                "value": found[measure],
                "error": found[f"{measure}_se"],
            }
        )
    return rows


def best_peer(rows: Sequence[dict[str, Any]], kind: str, bits: float) -> dict[str, Any] | None:
    """The peer that loses least at no more bits; the paper's staircase is not counted as one."""
    fit = [
        row
        for row in rows
        if not row["family"].startswith("SAQ")
        and not math.isnan(row["value"])
        and row[kind] <= bits + TOLERANCE
    ]
    return min(fit, key=lambda row: row["value"], default=None)


def _told(row: dict[str, Any], measure: str) -> str:
    if measure == "rise":
        return f"{signed(row['value'], 2)} ± {row['error']:.2f} %"
    return f"{row['value']:.2f} ± {row['error']:.2f}"


def _readout(
    ours: dict[str, Any],
    rivals: dict[str, dict[str, Any] | None],
    measure: str,
    place: str,
    budget: str,
) -> str:
    by_limit, by_held = rivals["limit"], rivals["held"]
    assert by_limit is not None
    lead = "perplexity rises by" if measure == "rise" else "the divergence in 10⁻³ nat is"
    text = (
        f"At {float(budget):g} bits, ladders by layer, {PLACES[place]}: {lead} "
        f"{_told(ours, measure)}; the best peer at no more bits, {by_limit['label']}, has "
        f"{_told(by_limit, measure)}"
    )
    if measure == "divergence":
        text += f", {by_limit['value'] / ours['value']:.1f} times as much"
    if by_held is None:
        return f"{text}; no peer holds as few bits at this length."
    if by_held is by_limit:
        return f"{text}, and it is also the best at no more bits really held."
    return (
        f"{text}; of those that really hold no more than {ours['held']:.2f} bits the best, "
        f"{by_held['label']}, has {_told(by_held, measure)}."
    )


def front(rows: Sequence[dict[str, Any]], kind: str) -> list[tuple[float, float]]:
    """The designs that no other beats in both, from few bits to many."""
    best: list[tuple[float, float]] = []
    scored = (row for row in rows if not math.isnan(row["value"]))
    for row in sorted(scored, key=lambda row: (row[kind], row["value"])):
        if not best or row["value"] < best[-1][1]:
            best.append((row[kind], row["value"]))
    return best


def _panel(
    rows: Sequence[dict[str, Any]],
    kind: str,
    measure: str,
    ours: dict[str, Any],
    rival: dict[str, Any] | None,
    length: str,
) -> Panel:
    x, y = ([row[key] for row in rows] for key in (kind, "value"))
    marked = [row for row in (ours, rival) if row is not None]
    errors = [(row[kind], row["value"], row["error"]) for row in marked]
    low = AXES[measure]["domain"][0]
    ends = [max(value - error, low) for _, value, error in errors]
    return Panel(
        [
            figure.line(*zip(*front(rows, kind), strict=True), z="nothing better", curve="step"),
            figure.dot(
                x,
                y,
                z=[row["family"] for row in rows],
                size=[11 if row in marked else 6 for row in rows],
                tip=[
                    f"{row['label']}: {_told(row, measure)}, {row['limit']:.2f} bits in the limit, "
                    f"{row['held']:.2f} held"
                    for row in rows
                ],
            ),
            figure.link(
                [at for at, _, _ in errors],
                ends,
                [at for at, _, _ in errors],
                [value + error for _, value, error in errors],
                z="nothing better",
                width=1.5,
            ),
            figure.text([ours[kind]], [ours["value"]], ["ours"], anchor="end", dx=-9, bold=True),
            *(_name_of(row, kind) for row in marked[1:]),
        ],
        x=Axis(BITS[kind], domain=(2, 8.5)),
        y=Axis(MEASURES[measure], **AXES[measure]),
        title="In the limit" if kind == "limit" else f"At {int(length):,} tokens",
        series=FAMILIES | {"nothing better": "muted"},
        height=300,
        legend=kind == "limit",
    )


def _name_of(row: dict[str, Any], kind: str) -> Mark:
    """The name beside the point of a design, on the side where there is room."""
    left = row[kind] < MIDDLE
    return figure.text(
        [row[kind]],
        [row["value"]],
        [row["label"]],
        anchor="start" if left else "end",
        dx=9 if left else -9,
        dy=-10,
        size=11,
    )
