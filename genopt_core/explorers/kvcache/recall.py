"""Explorer of chapter 5: what caches lose where old tokens are copied, and away from home."""

from typing import Any

from genopt_core import tables
from genopt_core.explorers.panels import signed
from genopt_core.figures import schema as figure
from genopt_core.figures.controls import Choice
from genopt_core.figures.registry import Preset, explorer
from genopt_core.figures.schema import Axis, Figure, Panel

TEXTS = {
    "recall": "pairs that come again after 600 tokens",
    "second": "other pairs that come again after 600 tokens",
    "prose": "prose, Moby-Dick",
    "code": "code of transformers",
    "messages": "German messages of a program",
}
MEASURES = {"divergence": "divergence, 10⁻³ nat a token", "rise": "rise of perplexity, %"}
AXES: dict[str, dict[str, Any]] = {
    "divergence": {"type": "log", "domain": (0.4, 1000), "ticks": [1, 10, 100]},
    "rise": {"type": "symlog", "domain": (-3, 100), "ticks": [-1, 0, 1, 3, 10, 30, 100]},
}
CODES = {
    "plain": "plain codes",
    "balanced": "balanced codes",
    "with recall": "balanced, ladders chosen with recall",
}
DESIGN = "by layer, 2.85 bits"
"""The one that the sentence is about."""


@explorer(
    "kv-recall",
    Choice("text", "Text", TEXTS, help="2,048 tokens of it; the last 508 are decoded and scored."),
    Choice("measure", "Measure", MEASURES, help="How far predictions move, or how good they are."),
    title="Old tokens that are copied",
    alt=(
        "Horizontal rows, one for each cache: a point for what it loses on the text with plain "
        "rotated codes and one with balanced codes, joined by a line, and where ladders were also "
        "chosen with recall a third; integer caches of four bits have one point."
    ),
    presets=(
        Preset(
            "One staircase for all layers fails",
            {},
            "16/4/4/4/4/3/3/2 is fine on prose and raises perplexity by half here: what is "
            "copied is old.",
            fails=True,
        ),
        Preset("In perplexity", {"measure": "rise"}),
        Preset("On prose", {"text": "prose"}),
        Preset(
            "Away from home",
            {"text": "messages"},
            "Neither ladders nor maps had met this language; all caches lose more than on prose.",
        ),
    ),
)
def kv_recall(text: str, measure: str) -> Figure:
    """Stored losses of the same caches with plain and balanced codes, and ladders with recall."""
    rows = tables.load("kv_recall")["texts"][text]
    pairs = [row for row in rows if row["balanced"] is not None and row["plain"] is not None]
    names = [row["label"] for row in rows]
    points = [
        (row[kind][measure], row["label"], series, row)
        for kind, series in CODES.items()
        for row in rows
        if row[kind] is not None and row["ours"]
    ]
    points += [
        (row["plain"][measure], row["label"], "peers", row) for row in rows if not row["ours"]
    ]
    return Figure(
        title=f"What caches lose on {TEXTS[text]}",
        panels=[
            Panel(
                [
                    figure.link(
                        [row["plain"][measure] for row in pairs],
                        [row["label"] for row in pairs],
                        [row["balanced"][measure] for row in pairs],
                        [row["label"] for row in pairs],
                        z="from one to the other",
                        width=2,
                    ),
                    figure.dot(
                        [value for value, *_ in points],
                        [name for _, name, _, _ in points],
                        z=[series for _, _, series, _ in points],
                        size=9,
                        tip=[
                            f"{name}, {series}: {_told(value, measure)}, "
                            f"{row['limit']:.2f} bits in the limit"
                            for value, name, series, row in points
                        ],
                    ),
                ],
                x=Axis(MEASURES[measure], **AXES[measure]),
                y=Axis(type="band", domain=names),
                series={
                    CODES["balanced"]: "accent",
                    CODES["with recall"]: "c1",
                    CODES["plain"]: "c2",
                    "peers": "c4",
                    "from one to the other": "muted",
                },
                height=60 + 34 * len(names),
            )
        ],
        readout=_readout(rows, text, measure),
        cost="The maps belong to the model, as weights do, and take no bit of the cache",
    )


def _told(value: float, measure: str) -> str:
    return f"{signed(value, 2)} %" if measure == "rise" else f"{value:.2f} × 10⁻³ nat"


def _readout(rows: list[dict[str, Any]], text: str, measure: str) -> str:
    row = next(row for row in rows if row["label"] == DESIGN)
    lead = "perplexity rises by" if measure == "rise" else "the divergence is"
    peers = [one for one in rows if not one["ours"]]
    best = min(peers, key=lambda one: one["plain"]["divergence"])
    plain, balanced, asked = (_told(row[kind][measure], measure) for kind in CODES)
    return (
        f"On {TEXTS[text]}, ladders {DESIGN}: {lead} {balanced} with balanced codes, {asked} if "
        f"the ladders were chosen with recall too, and {plain} with plain codes; of "
        f"{best['label']}, the nearest peer, "
        f"{_told(best['plain'][measure], measure)}."
    )
