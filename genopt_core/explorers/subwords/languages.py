"""Explorer of chapter 1: seven languages, and where BPE hurts most."""

from collections.abc import Mapping
from typing import Any

from genopt_core import tables
from genopt_core.corpora import END_OF_WORD
from genopt_core.explorers.panels import Row, compared, strips
from genopt_core.explorers.subwords.beside_ours import excess_panel, extremes, values_panel
from genopt_core.figures.controls import Choice
from genopt_core.figures.registry import Preset, explorer
from genopt_core.figures.schema import Figure, Panel

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
OURS = ("ours", "ours, ▁ in front")


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
    mine, best = extremes(here, OURS)
    return Figure(
        title=f"{LANGUAGES[language]}, {size:,} sub-words",
        panels=[
            excess_panel(
                values,
                OURS,
                {code: label for code, label in LANGUAGES.items() if code in values},
                language,
                column="language",
                colors={"BPE": "c1", "WordPiece": "c2", "Unigram": "c3"},
                title="Peers against the better of our two forms",
            ),
            values_panel(
                here,
                OURS,
                MEASURES[measure],
                lambda value: (f"{value:.4f}", f"{value:.3f}"),
                title="The chosen language",
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
                "our sub-word" if LABELS[name] in OURS else "peer's sub-word",
                bold=LABELS[name] in OURS,
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
