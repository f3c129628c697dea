"""Explorer of chapter 1: why likelihood needs a budget."""

from dataclasses import dataclass
from functools import cache

import numpy as np

from genopt_core.explorers.panels import counted, curve, strip, true_minus
from genopt_core.figures import schema as figure
from genopt_core.figures.controls import Choice, Slider
from genopt_core.figures.registry import Preset, explorer
from genopt_core.figures.schema import Axis, Figure, Mark, Panel
from genopt_core.subwords import UNKNOWN, fit_probabilities, substring_vocabulary, viterbi_path
from genopt_core.subwords.segmentation.costs import piece_costs

TOY = {"low▁": 5, "lower▁": 2, "newest▁": 6, "widest▁": 3}
CORPORA = {"four": TOY, "one": {"newest▁": 6}}
NEW_WORD = "lowest▁"
LONGEST = 7


@explorer(
    "subword-collapse",
    Choice(
        "corpus",
        "Corpus",
        {"four": "low, lower, newest, widest", "one": "newest alone"},
        start="four",
        help="The toy corpus of the chapter, or a corpus of one word.",
    ),
    Slider(
        "longest",
        "Longest sub-word",
        1,
        LONGEST,
        3,
        unit="characters",
        help="All substrings up to this length are sub-words; nothing else limits the vocabulary.",
    ),
    title="Likelihood without a budget",
    alt=(
        "Above, the log-likelihood of a toy corpus against the longest sub-word allowed, before "
        "and after fitting; below, the segmentation of the words at the current setting, and of a "
        "new word."
    ),
    presets=(
        Preset(
            "Parts of words",
            {"longest": 3},
            "With at most three characters a sub-word, est is shared and the new word is covered.",
        ),
        Preset("Characters only", {"longest": 1}),
        Preset(
            "Whole words: no new word fits",
            {"longest": 7},
            "The likelihood is highest when every word is one sub-word; no new word is covered.",
            fails=True,
        ),
        Preset(
            "A corpus of one word: nothing learned",
            {"corpus": "one", "longest": 7},
            "One sub-word of probability 1: the likelihood is perfect and nothing was learned.",
            fails=True,
        ),
    ),
)
def subword_collapse(corpus: str, longest: int) -> Figure:
    """Fit of all substrings up to a length (book, eq. swe-corpus), without floor or pruning."""
    fits = _fits(corpus)
    fit = fits[longest - 1]
    lengths = list(range(1, LONGEST + 1))
    start, end = ([f.path[at] for f in fits] for at in (0, -1))
    likelihood = Panel(
        [
            *curve(lengths, end, "fitted"),
            *curve(lengths, start, "before fitting"),
            figure.rule(x=longest, dash="dotted"),
        ],
        x=Axis("longest sub-word, characters", domain=(0.6, LONGEST + 0.4), ticks=lengths),
        y=Axis("log-likelihood, nats"),
        title="The longer the sub-words may be, the likelier the corpus",
        series={"fitted": "accent", "before fitting": "c2"},
        height=190,
    )
    rows = [*fit.segmented.items(), (NEW_WORD, fit.new)]
    names = [
        f"{word.rstrip('▁')}, new" if word == NEW_WORD else f"{word.rstrip('▁')} ×{count}"
        for word, count in [*CORPORA[corpus].items(), (NEW_WORD, 0)]
    ]
    known = UNKNOWN not in fit.new
    series = {"training word": "accent"}
    series |= {"new word": "c2"} if known else {"no segmentation": "warn"}
    strips = Panel(
        [_strip(fit, row, pieces, word == NEW_WORD) for row, (word, pieces) in enumerate(rows)],
        x=Axis(domain=(0, LONGEST), hidden=True),
        y=Axis(
            domain=(-len(rows), 0.1),
            ticks=[-row - 0.4 for row in range(len(rows))],
            tick_labels=names,
        ),
        title="Best segmentations under the fitted probabilities",
        series=series,
        height=34 * len(rows) + 30,
        table={
            "word": [word for word, pieces in rows for _ in pieces],
            "sub-word": [piece for _, pieces in rows for piece in pieces],
            "probability": [fit.probabilities.get(s) for _, pieces in rows for s in pieces],
        },
    )
    whole = sum(len(pieces) == 1 for pieces in fit.segmented.values())
    return Figure(
        title=f"Sub-words of up to {counted(longest, 'character')}",
        panels=[likelihood, strips],
        readout=(
            f"With sub-words of up to {counted(longest, 'character')} the log-likelihood "
            f"{_changed(start[longest - 1], end[longest - 1])} nats, "
            f"{len(fit.probabilities)} of {fit.candidates} sub-words stay in use, {whole} of "
            f"{len(fit.segmented)} words are one sub-word, and the new word lowest "
            + (f"is segmented {'|'.join(fit.new)}." if known else "has no segmentation any more.")
        ),
        cost=f"{len(fit.path) - 1} rounds of hard EM over {fit.candidates} sub-words",
    )


def _changed(before: float, after: float) -> str:
    """
    >>> _changed(-136, -75.6051), _changed(-3.0, -3.0)
    ('rises from −136.000 to −75.605', 'stays at −3.000')
    """
    first, last = (true_minus(f"{value:.3f}") for value in (before, after))
    return f"stays at {last}" if first == last else f"rises from {first} to {last}"


@dataclass(frozen=True)
class _Fit:
    path: tuple[float, ...]  # log-likelihood before fitting and after each round
    probabilities: dict[str, float]
    segmented: dict[str, tuple[str, ...]]
    new: tuple[str, ...]
    candidates: int


@cache
def _fits(corpus: str) -> tuple[_Fit, ...]:
    words = CORPORA[corpus]
    found = []
    for longest in range(1, LONGEST + 1):
        start = substring_vocabulary(words, 10**6, longest)
        fit = fit_probabilities(words, start)
        costs = piece_costs(fit.probabilities)
        new = viterbi_path(NEW_WORD, costs)
        found.append(
            _Fit(
                tuple(value + 0.0 for value in fit.log_likelihoods),  # no minus zero
                fit.probabilities,
                {word: viterbi_path(word, costs).pieces for word in words},
                new.pieces if new.feasible else (UNKNOWN,),
                len(start),
            )
        )
    return tuple(found)


def _strip(fit: _Fit, row: int, pieces: tuple[str, ...], new: bool) -> Mark:
    if UNKNOWN in pieces:
        text = z = "no segmentation"
        return strip([text], [0], -row, ends=[len(NEW_WORD)], z=z, tip=[text])
    return strip(
        pieces,
        np.cumsum([0, *map(len, pieces[:-1])]),
        -row,
        z="new word" if new else "training word",
        tip=[f"{s}: p = {fit.probabilities[s]:.3f}" for s in pieces],
    )
