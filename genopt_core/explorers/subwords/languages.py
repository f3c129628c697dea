"""Explorer of chapter 1: seven languages, and where BPE hurts most."""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from genopt_core import tables
from genopt_core.corpora import END_OF_WORD
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
        Preset("Turkish", {"language": "tr", "measure": "bits"}, "Endings in long rows."),
        Preset("Finnish", {"language": "fi", "measure": "tokens"}, "Many cases, long compounds."),
        Preset("English", {"language": "en", "measure": "tokens"}),
        Preset("Hindi", {"language": "hi", "measure": "bits"}, "Vowel signs are characters here."),
        Preset(
            "Chinese",
            {"language": "zh", "measure": "tokens"},
            "The characters alone fill most of the vocabulary: little is left to choose.",
            fails=True,
        ),
    ),
)
def subword_languages(language: str, measure: str) -> Figure:
    """Vocabularies of 4,000 pieces for seven languages: the stored comparison and three words."""
    table = _languages()
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
        title=f"{LANGUAGES[language]}, {size:,} pieces",
        panels=[
            _excess_panel(values, language),
            _values_panel(here, MEASURES[measure]),
            _samples_panel(entry),
        ],
        readout=(
            f"In {LANGUAGES[language]} BPE needs {here['BPE']:.3f} {MEASURES[measure]} on held-out "
            f"words, {_compared(here['BPE'], here[mine])} than the better of our two forms "
            f"({mine}: {here[mine]:.3f}); the best peer, {best}, needs {here[best]:.3f}, "
            f"{_compared(here[best], here[mine])}."
        ),
        cost=(
            f"Of {size:,} pieces {entry['alphabet']:,} are single characters; words drawn from the "
            "frequencies of wordfreq, trained on half a million, counted on 100,000 others"
        ),
    )


@lru_cache(maxsize=1)
def _languages() -> dict[str, Any]:
    return tables.load("subword_languages")


def _compared(value: float, base: float) -> str:
    change = 100 * (value / base - 1)
    return f"{abs(change):.1f} % {'more' if change >= 0 else 'less'}"


def _is_ours(name: str) -> bool:
    return name.startswith("ours")


def _excess_panel(values: Mapping[str, Mapping[str, float]], language: str) -> Panel:
    codes = [code for code in LANGUAGES if code in values]
    x, y, z, tips = [], [], [], []
    for code in codes:
        mine = min(value for name, value in values[code].items() if _is_ours(name))
        for name, value in values[code].items():
            if _is_ours(name):
                continue
            excess = 100 * (value / mine - 1)
            x.append(LANGUAGES[code])
            y.append(excess)
            z.append(name)
            tips.append(f"{LANGUAGES[code]}, {name}: {excess:+.1f} %")
    room = 0.12 * (max(y) - min(0.0, *y))
    return Panel(
        [
            figure.bar(x, y, z=z, tip=tips),
            figure.rule(y=0),
            figure.text([LANGUAGES[language]], [max(y) + room / 2], ["shown below"], size=11),
        ],
        x=Axis(type="band", domain=[LANGUAGES[code] for code in codes]),
        y=Axis("% more than ours", domain=(min(0.0, *y) - room * (min(y) < 0), max(y) + room)),
        title="Peers against the better of our two forms",
        series={"BPE": "c1", "WordPiece": "c2", "Unigram": "c3"},
        height=220,
    )


def _values_panel(here: Mapping[str, float], unit: str) -> Panel:
    return Panel(
        [
            figure.bar(
                list(here),
                list(here.values()),
                z=["ours" if _is_ours(name) else "peer" for name in here],
                tip=[f"{name}: {value:.4f} {unit}" for name, value in here.items()],
            )
        ],
        x=Axis(type="band", domain=list(here)),
        y=Axis(unit, domain=(0, 1.08 * max(here.values()))),
        title="The chosen language",
        series={"peer": "c1", "ours": "accent"},
        height=160,
        legend=False,
    )


def _samples_panel(entry: Mapping[str, Any]) -> Panel:
    marks = []
    length = 0
    for row, (name, words) in enumerate(entry["cut"].items()):
        label = LABELS[name]
        starts, ends, shown = [], [], []
        at = 0
        for word in words:
            front = word[0].startswith(END_OF_WORD)
            here = at - 1 if front else at
            for piece in word:
                starts.append(here)
                here += len(piece)
                ends.append(here)
                shown.append(piece)
            at = here + (2 if front else 1)
        length = max(length, at)
        marks.append(
            figure.rect(
                starts,
                ends,
                [-row - 0.55] * len(shown),
                [-row] * len(shown),
                text=shown,
                tip=[f"{label}: {piece}" for piece in shown],
                z="our piece" if _is_ours(label) else "peer's piece",
            )
        )
        told = f"{label}: {' + '.join(str(len(word)) for word in words)} tokens"
        marks.append(figure.text([-1], [-row + 0.17], [told], anchor="start", bold=_is_ours(label)))
    return Panel(
        marks,
        x=Axis(domain=(-1, length), hidden=True),
        y=Axis(domain=(-len(marks) / 2 + 0.3, 0.4), hidden=True),
        title="Three words",
        series={"peer's piece": "c1", "our piece": "accent"},
        height=25 * len(marks),
        legend=False,
    )
