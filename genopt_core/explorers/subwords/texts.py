"""Explorer of chapter 1: source code, Markdown and JSON under one published rule for words."""

from genopt_core import tables
from genopt_core.explorers.panels import compared
from genopt_core.explorers.subwords.beside_ours import excess_panel, extremes, values_panel
from genopt_core.figures.controls import Choice
from genopt_core.figures.registry import Preset, explorer
from genopt_core.figures.schema import Figure

TEXTS = {"python": "Python", "markdown": "Markdown", "json": "JSON"}
MEASURES = {"tokens": "tokens", "bits": "bits per byte"}
PEERS = {"hf_bpe": "BPE", "hf_unigram": "Unigram", "sp_counts": "sentencepiece"}
OURS = {
    "ours_tokens_6": "ours, tokens",
    "ours_likelihood": "ours, likelihood",
    "ours_files": "ours, by file",
}
LABELS = PEERS | OURS


@explorer(
    "subword-texts",
    Choice(
        "text",
        "Text",
        TEXTS,
        start="python",
        help="Files of installed packages, half of them held out.",
    ),
    Choice("measure", "Measure", MEASURES, start="tokens", help="Counted on the held-out files."),
    Choice(
        "size",
        "Sub-words",
        {"1000": "1,000", "4000": "4,000"},
        start="4000",
        help="All 256 bytes included, for everybody.",
    ),
    title="Source code, Markdown and JSON, words cut by GPT-4's rule",
    alt=(
        "Bars over two sizes of vocabulary: how much more BPE, Unigram and sentencepiece need "
        "on held-out files than the best of our three vocabularies, in percent. Below, the values "
        "of all six at the chosen size."
    ),
    presets=(
        Preset("Python", {"text": "python", "size": "4000"}, "Indents and names."),
        Preset("Markdown", {"text": "markdown", "size": "1000"}),
        Preset("Bits of Python", {"text": "python", "measure": "bits", "size": "1000"}),
        Preset(
            "JSON leaves little to choose",
            {"text": "json", "size": "4000"},
            "The rule cuts numbers into words of at most three digits, and most of what repeats "
            "fits into the vocabulary whole: every good vocabulary makes the same tokens of it. "
            "Ours by file loses, on two files like none that it was trained on.",
            fails=True,
        ),
    ),
)
def subword_texts(text: str, measure: str, size: str) -> Figure:
    """Six vocabularies of the same words, spelled in bytes: what each makes of held-out files."""
    table = tables.load("subword_texts")
    column = ("tokens", "bits").index(measure)
    values = {
        at: {LABELS[name]: row[column] for name, row in rows.items() if name in LABELS}
        for at, rows in table["numbers"][text].items()
    }
    here = values[size]
    mine, best = extremes(here, OURS.values())
    form = ",.0f" if measure == "tokens" else ".3f"
    return Figure(
        title=f"{TEXTS[text]}, held-out {MEASURES[measure]}",
        panels=[
            excess_panel(
                values,
                OURS.values(),
                {at: f"{int(at):,}" for at in values},
                size,
                column="size",
                colors={"BPE": "c1", "Unigram": "c2", "sentencepiece": "c3"},
                title="Peers against the best of ours",
                axis="sub-words",
            ),
            values_panel(
                here,
                OURS.values(),
                MEASURES[measure],
                lambda value: (f"{value:{form}}", f"{value:{form}}"),
                title=f"At {int(size):,} sub-words",
                height=220,
                horizontal=True,
            ),
        ],
        readout=(
            f"At {int(size):,} sub-words {mine} needs {here[mine]:{form}} {MEASURES[measure]} on "
            f"held-out {TEXTS[text]}; the best peer, {best}, needs {here[best]:{form}}, "
            f"{compared(here[best], here[mine])}."
        ),
        cost=(
            f"{table['bytes'][text]:,} bytes held out; everybody has the same words, cut by the "
            "rule of GPT-4 and spelled in bytes"
        ),
    )
