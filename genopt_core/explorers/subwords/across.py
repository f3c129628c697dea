"""Explorer of chapter 1: sub-words that may cross blanks, beside SuperBPE and BoundlessBPE."""

from collections.abc import Mapping
from typing import Any

from genopt_core import tables
from genopt_core.explorers.panels import bars, compared
from genopt_core.figures.controls import Choice
from genopt_core.figures.registry import Preset, explorer
from genopt_core.figures.schema import Axis, Figure, Panel

SIZE = 4000
TEXTS = {"python": "Python"}
MEASURES = {"bytes": "bytes per token", "bits": "bits per byte"}
COLUMNS = {"bytes": "bytes_per_token", "bits": "bits_per_byte"}
PARTS = {"held": "held-out text", "train": "training text"}
LABELS = {
    "bpe": "BPE in words",
    "ours_words": "ours in words",
    "boundlessbpe": "BoundlessBPE",
    "superbpe": "SuperBPE",
    "ours_tokens": "ours across",
    "ours_tokens_4": "ours, 4 times",
}
Rows = Mapping[str, Mapping[str, Any]]


@explorer(
    "subword-across",
    Choice("measure", "Measure", MEASURES, help="Long bars are good for bytes, short for bits."),
    Choice("part", "Counted on", PARTS, help="Other files of the same packages were held out."),
    title="Sub-words across blanks",
    alt=(
        "Bars, one for each of six tokenizers of Python: bytes per token, where long bars are "
        "good, or bits per byte, where short ones are. Two of them stay inside words, four may "
        "cross blanks; ours are set off."
    ),
    presets=(
        Preset("Bytes per token", {}, "Indents, calls, whole short lines."),
        Preset("Bits per byte", {"measure": "bits"}),
        Preset(
            "Much of it is learned by heart",
            {"part": "train"},
            "Sub-words across blanks that occur twice fit the text that they were taken from far "
            "better than other files: on held-out text SuperBPE is ahead of them.",
            fails=True,
        ),
    ),
)
def subword_across(measure: str, part: str) -> Figure:
    """Six tokenizers of the same lines of Python: stored results."""
    table, text = tables.load("subword_across"), "python"
    rows = _rows(table, text)
    bound, bits = rows["certified"], f"{part}_bits_per_byte"
    rivals, own = ("bpe", "boundlessbpe", "superbpe"), ("ours_tokens", "ours_tokens_4")
    rival, often, mine = (
        min(names, key=lambda name: rows[name][f"{part}_tokens"])
        for names in (rivals, own, ("ours_tokens",))
    )
    gap = 100 * (rows[mine]["train_tokens"] / bound["train_tokens"] - 1)
    return Figure(
        title=f"{TEXTS[text]}, {SIZE:,} sub-words, {PARTS[part]}",
        panels=[_bars(rows, measure, part)],
        readout=(
            f"On the {PARTS[part]} the better of ours across blanks needs "
            f"{compared(rows[often][f'{part}_tokens'], rows[rival][f'{part}_tokens'])} in tokens "
            f"than {LABELS[rival]}, the best of the others, and "
            f"{compared(rows[often][bits], rows[rival][bits])} in bits; with all sub-words that "
            f"occur twice it is {gap:.0f} % above the certified bound of the training text."
        ),
        cost=(
            f"{table['train_bytes'][text]:,} bytes to train: {_spent(rows[mine])}; the "
            f"certificate {_spent(bound)}; inside words ours {_spent(rows['ours_words'])}"
        ),
    )


def _spent(row: Mapping[str, Any]) -> str:
    return f"{row['cpu_seconds']:.0f} s of one core and {row['peak_mb']:.0f} MB"


def _rows(table: Mapping[str, Any], text: str) -> Rows:
    """Numbers by tokenizer; of SuperBPE the setting that needs fewest held-out tokens."""
    found: dict[str, Mapping[str, Any]] = {}
    for row in tables.records(table):
        if (row["corpus"], row["size"]) == (text, SIZE):
            super_ = row["contestant"].startswith("superbpe")
            name = "superbpe" if super_ else row["contestant"]
            if name not in found or row["held_tokens"] < found[name]["held_tokens"]:
                found[name] = row
    return found


def _bars(rows: Rows, measure: str, part: str) -> Panel:
    column = f"{part}_{COLUMNS[measure]}"
    values = {label: float(rows[name][column]) for name, label in LABELS.items()}
    form = ".2f" if measure == "bytes" else ".3f"
    return bars(
        values,
        Axis(MEASURES[measure], domain=(0, 1.2 * max(values.values()))),
        z=["ours" if name.startswith("ours") else "peer" for name in LABELS],
        tip=[f"{label}: {value:{form}} {MEASURES[measure]}" for label, value in values.items()],
        numbers=[f"{value:{form}}" for value in values.values()],
        series={"peer": "c1", "ours": "accent"},
        title=f"{MEASURES[measure]}: {'more' if measure == 'bytes' else 'less'} is better",
        height=240,
        horizontal=True,
    )
