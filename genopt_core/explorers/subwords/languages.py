"""Explorer of chapter 1: seven languages, and where BPE hurts most."""

from collections.abc import Mapping
from typing import Any

from genopt_core import tables
from genopt_core.corpora import END_OF_WORD
from genopt_core.explorers.panels import Row, bars, compared, results, signed, strips
from genopt_core.figures import schema as figure
from genopt_core.figures.controls import Choice
from genopt_core.figures.registry import Preset, explorer
from genopt_core.figures.schema import Axis, Figure, Panel

LANGUAGES = {
    "en": "English",
    "de": "German",
    "tr": "Turkish",
    "fi": "Finnish",
    "hi": "Hindi",
    "ja": "Japanese",
    "zh": "Chinese",
}
MEASURES = {"bits": "bits per byte", "tokens": "tokens per word"}
MEASURE_COLUMNS = {"bits": "held_bits_per_byte", "tokens": "held_tokens_per_word"}
LABELS = {
    "hf_bpe": "BPE",
    "hf_wordpiece": "WordPiece",
    "hf_unigram_front": "Unigram",
    "ours_likelihood": "ours",
    "ours_front": "ours, ▁ in front",
}


@explorer(
    "subword-languages",
    Choice("language", "Language", LANGUAGES, start="tr", help="Words drawn by their frequency."),
    Choice(
        "measure",
        "Measure",
        MEASURES,
        start="bits",
        help="Counted on held-out words of the same language.",
    ),
    title="Where BPE hurts most: seven languages",
    alt=(
        "Bars over seven languages: how much more BPE, WordPiece and Unigram need than the better "
        "of our two vocabularies, in percent. Below, bars with the values of the chosen language "
        "and three of its words, cut by every tokenizer."
    ),
    presets=(
        Preset("Turkish", {"language": "tr"}, "Endings in long rows."),
        Preset("Finnish", {"language": "fi", "measure": "tokens"}, "Many cases, long compounds."),
        Preset("English", {"language": "en", "measure": "tokens"}),
        Preset("Hindi", {"language": "hi"}, "Vowel signs are characters here."),
        Preset(
            "Chinese leaves little to choose",
            {"language": "zh", "measure": "tokens"},
            "The characters alone fill most of the vocabulary: little is left to choose.",
            fails=True,
        ),
    ),
)
def subword_languages(language: str, measure: str) -> Figure:
    """Vocabularies of 4,000 pieces for seven languages: the stored comparison and three words."""
    table = tables.load("subword_languages")
    column = table["measures"].index(MEASURE_COLUMNS[measure])
    values = {
        code: {LABELS[name]: row[column] for name, row in entry["numbers"].items()}
        for code, entry in table["languages"].items()
    }
    here = values[language]
    size = table["origin"]["size"]
    entry = table["languages"][language]
    mine = min((name for name in here if _is_ours(name)), key=here.__getitem__)
    best = min((name for name in here if not _is_ours(name)), key=here.__getitem__)
    return Figure(
        title=f"{LANGUAGES[language]}, {size:,} sub-words",
        panels=[
            _excess_panel(values, language),
            bars(
                here,
                Axis(MEASURES[measure], domain=(0, 1.2 * max(here.values()))),
                z=["ours" if _is_ours(name) else "peer" for name in here],
                tip=[f"{name}: {value:.4f} {MEASURES[measure]}" for name, value in here.items()],
                numbers=[f"{value:.3f}" for value in here.values()],
                title="The chosen language",
                series={"peer": "c1", "ours": "accent"},
                height=160,
            ),
            _samples_panel(entry),
        ],
        readout=(
            f"In {LANGUAGES[language]} BPE needs {here['BPE']:.3f} {MEASURES[measure]} on held-out "
            f"words, {compared(here['BPE'], here[mine])} than the better of our two forms "
            f"({mine}: {here[mine]:.3f}); the best peer, {best}, needs {here[best]:.3f}, "
            f"{compared(here[best], here[mine])}."
        ),
        cost=(
            f"Of {size:,} sub-words {entry['alphabet']:,} are single characters; words drawn from "
            "the frequencies of wordfreq, trained on half a million, counted on 100,000 others"
        ),
    )


def _is_ours(name: str) -> bool:
    return name.startswith("ours")


def _excess_panel(values: Mapping[str, Mapping[str, float]], language: str) -> Panel:
    rows: list[dict[str, Any]] = []
    for code in (code for code in LANGUAGES if code in values):
        mine = min(value for name, value in values[code].items() if _is_ours(name))
        for name, value in values[code].items():
            excess = 100 * (value / mine - 1)
            tip = f"{LANGUAGES[code]}, {name}: {signed(excess, 1)} %"
            rows.append({"language": LANGUAGES[code], "by": name, "excess": excess, "tip": tip})
    rows = [row for row in rows if not _is_ours(row["by"])]
    low, high = (end(0.0, *(row["excess"] for row in rows)) for end in (min, max))
    room = 0.12 * (high - low)
    return results(
        rows,
        ("language", "excess", "by"),
        {"BPE": "c1", "WordPiece": "c2", "Unigram": "c3"},
        (
            Axis(type="band", domain=list(dict.fromkeys(row["language"] for row in rows))),
            Axis("% more than ours", domain=(low - room * (low < 0), high + room)),
        ),
        kind="bar",
        above=[
            figure.rule(y=0),
            figure.text([LANGUAGES[language]], [high + room / 2], ["chosen"], size=11),
        ],
        title="Peers against the better of our two forms",
        height=220,
    )


def _samples_panel(entry: Mapping[str, Any]) -> Panel:
    rows = []
    length = 0
    for name, words in entry["cut"].items():
        starts, at = [], 0
        for word in words:
            front = word[0].startswith(END_OF_WORD)
            letter = at - 1 if front else at
            for piece in word:
                starts.append(letter)
                letter += len(piece)
            at = letter + (2 if front else 1)
        length = max(length, at)
        pieces = [piece for word in words for piece in word]
        rows.append(
            Row(
                f"{LABELS[name]}: {' + '.join(str(len(word)) for word in words)} tokens",
                pieces,
                starts,
                [f"{LABELS[name]}: {piece}" for piece in pieces],
                "our sub-word" if _is_ours(LABELS[name]) else "peer's sub-word",
                bold=_is_ours(LABELS[name]),
            )
        )
    return strips(
        rows,
        length,
        row_height=50,
        title="Three words",
        series={"peer's sub-word": "c1", "our sub-word": "accent"},
        legend=False,
        table={
            "tokenizer": [LABELS[name] for name, words in entry["cut"].items() for _ in words],
            "word": ["".join(word) for words in entry["cut"].values() for word in words],
            "sub-words": ["|".join(word) for words in entry["cut"].values() for word in words],
            "tokens": [len(word) for words in entry["cut"].values() for word in words],
        },
    )
