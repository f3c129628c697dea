"""Explorer of chapter 1: sub-words that may cross blanks, beside SuperBPE and BoundlessBPE."""

from collections.abc import Mapping
from typing import Any

from genopt_core import tables
from genopt_core.explorers.panels import bars, compared
from genopt_core.figures.controls import Choice
from genopt_core.figures.registry import Preset, explorer
from genopt_core.figures.schema import Axis, Figure, Panel

TEXTS = {"python": "Python", "english": "English"}
SIZES = {"4000": "4,000", "16000": "16,000"}
MEASURES = {"bytes": "bytes per token", "bits": "bits per byte"}
COLUMNS = {"bytes": "bytes_per_token", "bits": "bits_per_byte"}
PARTS = {"held": "held-out text", "train": "training text"}
LABELS = {
    "bpe": "BPE in words",
    "ours_words": "ours in words",
    "boundlessbpe": "BoundlessBPE",
    "superbpe": "SuperBPE",
    "ours_tokens": "ours, twice or more",
    "ours_chosen": "ours, chosen",
}
Rows = Mapping[str, Mapping[str, Any]]


@explorer(
    "subword-across",
    Choice("text", "Text", TEXTS, help="A unit is a line of Python or a sentence of English."),
    Choice("size", "Sub-words", SIZES, help="All 256 bytes among them."),
    Choice("measure", "Measure", MEASURES, help="Long bars are good for bytes, short for bits."),
    Choice("part", "Counted on", PARTS, help="Held out: other files, or other passages."),
    title="Sub-words across blanks",
    alt=(
        "Bars, one for each of six tokenizers of one text: bytes per token, where long bars are "
        "good, or bits per byte, where short ones are. Two of them stay inside words, four may "
        "cross blanks; ours are set off."
    ),
    presets=(
        Preset("Bytes per token", {}, "Indents, calls, whole short lines."),
        Preset("English", {"text": "english"}, "Phrases: “of the United States”."),
        Preset("Bits per byte", {"measure": "bits"}),
        Preset(
            "Much of it is learned by heart",
            {"part": "train"},
            "Sub-words across blanks that occur twice or more fit the text that they were taken "
            "from far better than other files: on held-out text much of the lead is gone.",
            fails=True,
        ),
    ),
)
def subword_across(text: str, size: str, measure: str, part: str) -> Figure:
    """Six tokenizers of the same lines or sentences: stored results."""
    table = tables.load("subword_across")
    rows = _rows(table, text, int(size))
    bound, bits, tokens = rows["certified"], f"{part}_bits_per_byte", f"{part}_tokens"
    mine, twice = rows["ours_chosen"], rows["ours_tokens"]
    name = min(("bpe", "boundlessbpe", "superbpe"), key=lambda name: rows[name][tokens])
    rival = rows[name]
    gap = 100 * (twice["train_tokens"] / bound["train_tokens"] - 1)
    return Figure(
        title=f"{TEXTS[text]}, {int(size):,} sub-words, {PARTS[part]}",
        panels=[_bars(rows, measure, part)],
        readout=(
            f"On the {PARTS[part]} ours across blanks, {_setting(mine)}, needs "
            f"{compared(mine[tokens], rival[tokens])} in tokens than {LABELS[name]}, the best of "
            f"the others, and {compared(mine[bits], rival[bits])} in bits; with all sub-words that "
            f"occur twice or more it is {gap:.0f} % above the certified bound of the training text."
        ),
        cost=(
            f"{table['train_bytes'][text]:,} bytes to train: {_spent(mine)}; the "
            f"certificate {_spent(bound)}; inside words ours {_spent(rows['ours_words'])}"
        ),
    )


def _setting(row: Mapping[str, Any]) -> str:
    """What was chosen on a development text."""
    kind, *values = str(row["setting"]).split(" ")
    if kind != "superbpe":
        return f"of sub-words that occur at least {values[0]} times"
    share, words = float(values[0]), values[1]
    most = f"at most {words} words" if words != "0" else "any number of words"
    return f"across words from {100 * share:.0f} % of the sub-words on, {most}"


def _spent(row: Mapping[str, Any]) -> str:
    return f"{row['cpu_seconds']:.0f} s of one core and {row['peak_mb']:.0f} MB"


def _rows(table: Mapping[str, Any], text: str, size: int) -> Rows:
    """Numbers by tokenizer."""
    return {
        row["contestant"]: row
        for row in tables.records(table)
        if (row["corpus"], row["size"]) == (text, size)
    }


def _bars(rows: Rows, measure: str, part: str) -> Panel:
    column = f"{part}_{COLUMNS[measure]}"
    values = {label: float(rows[name][column]) for name, label in LABELS.items()}
    form = ".2f" if measure == "bytes" else ".3f"
    return bars(
        values,
        Axis(MEASURES[measure], domain=(0, 1.2 * max(values.values()))),
        z=["ours" if name.startswith("ours") else "peer" for name in LABELS],
        tip=[
            f"{label}: {values[label]:{form}} {MEASURES[measure]}"
            + (f", {_setting(rows[name])}" if rows[name]["setting"] else "")
            for name, label in LABELS.items()
        ],
        numbers=[f"{value:{form}}" for value in values.values()],
        series={"peer": "c1", "ours": "accent"},
        title=f"{MEASURES[measure]}: {'more' if measure == 'bytes' else 'less'} is better",
        height=240,
        horizontal=True,
    )
