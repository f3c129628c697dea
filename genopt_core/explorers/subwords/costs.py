"""Explorer of chapter 1: what training costs, in time and in memory."""

from typing import Any

import numpy as np

from genopt_core import tables
from genopt_core.explorers.panels import end_labels, results
from genopt_core.figures import schema as figure
from genopt_core.figures.controls import Choice
from genopt_core.figures.registry import Preset, explorer
from genopt_core.figures.schema import Axis, Figure, Panel

LABELS = {
    "rustbpe": "BPE (rustbpe)",
    "hf_bpe": "BPE",
    "hf_wordpiece": "WordPiece",
    "ours_fast": "ours, fast",
    "counting": "only counting the words",
    "greedtok": "GreedTok",
    "ours_standard": "ours, standard",
    "sp_counts": "sentencepiece, counts",
    "hf_unigram_front": "Unigram",
    "ours_likelihood": "ours, best",
    "sp_text": "sentencepiece, text",
    "sp_counts_tuned": "sentencepiece, tuned",
    "ours_weight_5": "ours, λ = 5",
    "ours_tokens": "ours, fewest tokens",
}
REFERENCE = "Unigram"
GROWN = {
    "BPE": "c1",
    "sentencepiece, counts": "c2",
    "Unigram": "c3",
    "ours, fast": "c4",
    "ours, standard": "accent",
    "ours, best": "c5",
}
MEASURES = {
    "seconds": "seconds by the clock",
    "cpu_seconds": "seconds of the processor",
    "peak_mb": "megabytes at the peak",
}
UNITS = {"seconds": "s", "cpu_seconds": "s", "peak_mb": "MB"}


@explorer(
    "subword-costs",
    Choice(
        "measure",
        "Measure",
        MEASURES,
        help="On two cores: ours uses one of them, the compiled peers use both.",
    ),
    Choice(
        "size",
        "Vocabulary size",
        {size: f"{size:,}" for size in (1000, 8000, 16000)},
        start=8000,
        help="Of the bars; the lines are of 8,000 sub-words.",
    ),
    title="What training costs",
    alt=(
        "Horizontal bars, one for each tokenizer, in the order of their length: time or memory of "
        "training on the same words. Below, six lines over the number of distinct words on "
        "logarithmic axes, named at their ends with the power by which they grow."
    ),
    presets=(
        Preset("By the clock", {}),
        Preset(
            "In processor time",
            {"measure": "cpu_seconds"},
            "The second core counts too: the standard effort needs about a third of Unigram's.",
        ),
        Preset("Memory", {"measure": "peak_mb"}),
        Preset(
            "BPE is out of reach",
            {"size": 16000},
            "Compiled, and no search: whoever needs a vocabulary in a second takes BPE.",
            fails=True,
        ),
    ),
)
def subword_costs(measure: str, size: int) -> Figure:
    """The stored times and sizes of training: medians of runs, each in a process of its own."""
    bars = sorted(_rows("training", measure, size), key=lambda row: row["value"])
    values = {row["by"]: row["value"] for row in bars}
    unit, base = UNITS[measure], values[REFERENCE]
    # while the largest of ours were timed, other work ran: only processor time counts there
    grown = "peak_mb" if measure == "peak_mb" else "cpu_seconds"
    powers = _powers(grown)
    ratio = values["ours, standard"] / base
    return Figure(
        title=f"Training for {size:,} sub-words, {MEASURES[measure]}",
        panels=[_bars_panel(bars, measure), _growth_panel(grown, powers)],
        readout=(
            f"For {size:,} sub-words ours takes {values['ours, standard']:.1f} {unit} at standard "
            f"effort and {values['ours, best']:.1f} {unit} at best, Unigram {base:.1f} {unit} "
            f"({ratio:.2f} and {values['ours, best'] / base:.2f} of it), BPE "
            f"{values['BPE']:.1f} {unit}; with more words ours grows with the power "
            f"{powers['ours, standard']:.2f} of their number, Unigram with {powers['Unigram']:.2f}."
        ),
        cost=(
            "Bars: 51,966 distinct English words, two or three rounds.  Lines: "
            "Finnish words, 8,000 sub-words, one to three rounds, peers partly on another machine; "
            "their times are those of the processor"
        ),
    )


def _rows(part: str, measure: str, at: int | None = None) -> list[dict[str, Any]]:
    table = tables.load("subword_costs")
    rows = [dict(zip(table["columns"], row, strict=True)) for row in table[part]]
    return [
        {"by": LABELS[row["tokenizer"]], "at": row["at"], "value": row[measure]}
        for row in rows
        if at in (None, row["at"])
    ]


def _powers(measure: str) -> dict[str, float]:
    """By which power of the number of words each grows, fitted on logarithms."""
    rows = _rows("growth", measure)
    found = {}
    for name in GROWN:
        points = [(row["at"], row["value"]) for row in rows if row["by"] == name]
        words, values = np.log(points).T
        found[name] = float(np.polyfit(words, values, 1)[0])
    return found


def _bars_panel(bars: list[dict[str, Any]], measure: str) -> Panel:
    names, values = [row["by"] for row in bars], [row["value"] for row in bars]
    digits = 0 if measure == "peak_mb" else 1
    words = [f"{name}: {value:.{digits}f}" for name, value in zip(names, values, strict=True)]
    tips = [f"{word} {UNITS[measure]}" for word in words]
    z = ["ours" if name.startswith("ours") else "peer" for name in names]
    # The names stand behind the bars: on a phone a column of them would leave no room.
    return Panel(
        [
            figure.bar(values, names, z=z, tip=tips, horizontal=True),
            figure.text(values, names, words, anchor="start", dx=5, size=11),
        ],
        x=Axis(MEASURES[measure], domain=(0, 2.1 * max(values))),
        y=Axis(type="band", domain=names, ticks=names, tick_labels=[""] * len(names)),
        title="Same words for everybody",
        series={"ours": "accent", "peer": "c1"},
        height=300,
    )


def _growth_panel(measure: str, powers: dict[str, float]) -> Panel:
    rows = [row for row in _rows("growth", measure) if row["by"] in GROWN]
    for row in rows:
        row["tip"] = f"{row['by']}, {row['at']:,} words: {row['value']:,.1f} {UNITS[measure]}"
    sizes = sorted({row["at"] for row in rows})
    values = [row["value"] for row in rows]
    upwards = Axis(MEASURES[measure], type="log", domain=(0.7 * min(values), 1.5 * max(values)))
    ends = {
        f"{row['by'].removesuffix(', counts')} ({powers[row['by']]:.2f})": (row["at"], row["value"])
        for row in rows
        if row["at"] == sizes[-1]
    }
    height = 260
    return results(
        rows,
        ("at", "value", "by"),
        GROWN,
        (
            Axis(
                "distinct words",
                type="log",
                domain=(0.9 * sizes[0], 14 * sizes[-1]),
                ticks=sizes,
                tick_labels=[f"{size:,}" for size in sizes],
            ),
            upwards,
        ),
        above=[end_labels(ends, upwards, height)],
        title="More words (in brackets the power)",
        height=height,
        legend=False,
    )
