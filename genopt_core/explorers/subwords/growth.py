"""Explorer of chapter 1: vocabulary size against corpus size, and who is ahead."""

from collections.abc import Mapping, Sequence
from typing import Any

from genopt_core import tables
from genopt_core.explorers.panels import compared, padded, results, signed
from genopt_core.figures import schema as figure
from genopt_core.figures.controls import Choice
from genopt_core.figures.registry import Preset, explorer
from genopt_core.figures.schema import Axis, Figure, Panel

CORPORA = {
    "growth": "English, growing",
    "messages": "eight languages",
    "seven": "seven languages, drawn words",
}
MEASURES = {"tokens": "tokens per word", "bits": "bits per byte"}
TRAINED = {"ours": "as by default", "corpus only": "for the corpus alone"}
LANGUAGES = {
    "en": "English",
    "ar": "Arabic",
    "de": "German",
    "fi": "Finnish",
    "hi": "Hindi",
    "ja": "Japanese",
    "ru": "Russian",
    "tr": "Turkish",
    "zh": "Chinese",
    "zh_Hans": "Chinese",
}
SIZES = (1000, 2000, 4000, 8000, 16000)
FAMILIES = {
    "BPE": "c1",
    "HF Unigram": "c2",
    "sentencepiece": "c3",
    "MinGram": "c4",
    "GreedTok": "c5",
    "PathPiece": "c6",
    "ConvexTok": "c7",
}
IN_BYTES = "ours in bytes"  # drawn beside the peers, where it was run; no peer itself
SERIES = {**FAMILIES, IN_BYTES: "accent"}
NOTES = {
    "growth": "an empty field was not run; λ = 5, best effort; up to 20,000 words against BPE, "
    "Unigram, sentencepiece and MinGram, of more words against the families below",
    "messages": "λ = 5, best effort; against BPE, Unigram, sentencepiece and MinGram",
    "seven": "at 1,000 two alphabets leave no room; λ = 5, best effort, marker in front, never "
    "looking ahead here; against BPE, Unigram, GreedTok, MinGram and PathPiece (both "
    "emulated), each with its own code, sentencepiece at 4,000 alone; who found less than 99 % of "
    "the sub-words is left out; in Japanese and Chinese GreedTok spells in bytes, BPE in both",
}
ALONE = "corpus only"
NEITHER = " Here ours was trained for the corpus alone, whatever is chosen."
MOST = 4.0  # percent at which the colors end

Cell = Mapping[str, Any]


@explorer(
    "subword-growth",
    Choice(
        "corpora",
        "Corpora",
        CORPORA,
        help="The first words of one novel, then all of it, then 2 million words; or the messages "
        "of a web framework in eight languages; or half a million words of seven, drawn by "
        "frequency.",
    ),
    Choice("measure", "Measure", MEASURES, start="tokens", help="Counted on held-out text."),
    Choice(
        "trained",
        "Ours, trained",
        TRAINED,
        help="By default a small corpus is trained for the words that come next.",
    ),
    Choice(
        "size",
        "Sub-words",
        {"1000": "1,000", "2000": "2,000", "4000": "4,000", "16000": "16,000"},
        start="1000",
        help="Of the second panel; where it was not run, the nearest that was.",
    ),
    title="Vocabulary size against corpus size: who is ahead",
    alt=(
        "A grid of vocabulary sizes over corpora. Every field has the percentage by which ours is "
        "above or below the best peer there, and its color: a minus sign is ours ahead. Below, how "
        "much more each peer, and ours in bytes, needs than ours at the chosen size."
    ),
    presets=(
        Preset("A novel, more and more of it", {}),
        Preset("Eight languages", {"corpora": "messages"}, "2,000 to 6,000 words each."),
        Preset("Seven languages", {"corpora": "seven", "size": "4000"}, "500,000 words each."),
        Preset("Bits", {"measure": "bits"}, "A peer has the better of two codes."),
        Preset(
            "A small corpus learned by heart",
            {"trained": "corpus only", "corpora": "messages"},
            "Trained for the corpus alone, ours loses to sub-words that help with new words.",
            fails=True,
        ),
    ),
)
def subword_growth(corpora: str, measure: str, trained: str, size: str) -> Figure:
    """Ours with λ = 5 against the best peer, from 2,000 words to 2 million: stored results."""
    column = ("bits", "tokens").index(measure)
    cells = _cells(corpora)
    places = [*dict.fromkeys(place for place, _ in cells)]
    changes = {at: _change(cell, trained, column) for at, cell in cells.items()}
    ahead = sum(change < 0 for change in changes.values())
    (place, at), worst = max(changes.items(), key=lambda item: item[1])
    return Figure(
        title=f"Ours against the best peer, {MEASURES[measure]}",
        panels=[
            _grid(cells, changes, places, trained, column),
            _lines(cells, places, trained, column, _nearest(cells, int(size))),
        ],
        readout=(
            f"Ours needs less than every peer in {ahead} of {len(changes)} fields; at worst it is "
            f"{signed(worst, 1)} % beside {_best(cells[place, at], column)}: {place}"
            f"{' words' if corpora == 'growth' else ''}, {at:,} sub-words."
            f"{NEITHER if corpora == 'seven' and trained != ALONE else ''}"
        ),
        cost=NOTES[corpora],
    )


def _cells(corpora: str) -> dict[tuple[str, int], Cell]:
    """Numbers by corpus and vocabulary size, small corpora first."""
    rows = tables.records(tables.load("subword_growth"))
    rows.sort(key=lambda row: (row["words"] if corpora == "growth" else row["corpus"], row["size"]))
    return {(_place(row), row["size"]): row["numbers"] for row in rows if row["part"] == corpora}


def _nearest(cells: Mapping[tuple[str, int], Cell], size: int) -> int:
    """The size nearest to this one at which anything was run."""
    return min({at for _, at in cells}, key=lambda at: (abs(at - size), at))


def _place(row: Cell) -> str:
    if row["part"] != "growth":
        return LANGUAGES[row["corpus"]]
    words = row["words"]
    return f"{words / 1e6:.2g} M" if words >= 1e6 else f"{words / 1000:.0f},000"


def _best(cell: Cell, column: int) -> str:
    """The family that needs least."""
    return min((name for name in FAMILIES if name in cell), key=lambda name: cell[name][column])


def _change(cell: Cell, trained: str, column: int) -> float:
    """By how many percent ours is above the best peer."""
    return float(100 * (cell[trained][column] / cell[_best(cell, column)][column] - 1))


def _grid(
    cells: Mapping[tuple[str, int], Cell],
    changes: Mapping[tuple[str, int], float],
    places: Sequence[str],
    trained: str,
    column: int,
) -> Panel:
    measure = (MEASURES["bits"], MEASURES["tokens"])[column]
    across, upwards, shades, words, tips = [], [], [], [], []
    for (place, size), cell in cells.items():
        mine, best = cell[trained][column], _best(cell, column)
        across.append(place)
        upwards.append(f"{size:,}")
        shades.append(max(-MOST, min(MOST, changes[place, size])))
        words.append(signed(changes[place, size], 1))
        tips.append(
            f"{place}, {size:,} sub-words: ours {mine:.3f} {measure}, {best} "
            f"{cell[best][column]:.3f}, ours {compared(mine, cell[best][column])}"
        )
    shown = [f"{size:,}" for size in SIZES if f"{size:,}" in upwards]
    return Panel(
        [figure.cell(across, upwards, shades, text=words, tip=tips)],
        x=Axis("words to train on" if "," in places[0] else "", type="band", domain=places),
        y=Axis("sub-words", type="band", domain=shown),
        title="Ours above the best peer, %: minus is ahead",
        color={"label": "ours, %", "domain": [-MOST, MOST], "scheme": "diverging"},
        height=240,
    )


def _lines(
    cells: Mapping[tuple[str, int], Cell],
    places: Sequence[str],
    trained: str,
    column: int,
    size: int,
) -> Panel:
    rows = []
    for (place, at), cell in cells.items():
        for name in SERIES:
            if at == size and name in cell:
                excess = 100 * (cell[name][column] / cell[trained][column] - 1)
                tip = f"{place}, {name}: {signed(excess, 1)} %"
                rows.append({"place": place, "excess": excess, "by": name, "tip": tip})
    used = {row["by"] for row in rows}
    return results(
        rows,
        ("place", "excess", "by"),
        {name: role for name, role in SERIES.items() if name in used},
        (
            Axis("words to train on" if "," in places[0] else "", type="band", domain=places),
            Axis("% more than ours", domain=padded([0.0, *(row["excess"] for row in rows)])),
        ),
        kind="curve" if "," in places[0] else "dot",
        size=6,
        above=[figure.rule(y=0)],
        title=f"Peers beside ours, {size:,} sub-words",
        height=260,
    )
