"""Explorers of chapter 1: training a vocabulary, and why it needs a budget."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np

from genopt_core import tables
from genopt_core.explorers.subwords.tokenizers import padded
from genopt_core.figures import schema as figure
from genopt_core.figures.controls import Choice, Slider, Step
from genopt_core.figures.registry import Preset, explorer
from genopt_core.figures.schema import Axis, Figure, Mark, Panel
from genopt_core.subwords import UNKNOWN, fit_probabilities, substring_vocabulary, viterbi_path
from genopt_core.subwords.segmentation.costs import piece_costs

BITS = 1 / math.log(2)  # per nat
OBJECTIVES = {
    "likelihood": "likelihood",
    "weight": "likelihood, λ = 5",
    "tokens": "fewest tokens",
}
SHOWN_PIECES = 8
STAGES = {
    "soft": "soft EM over many candidates",
    "hard": "pruning with hard EM",
    "seeded": "rounding the relaxed optimum off",
    "search": "adding and pruning",
    "end": "last refit",
}

TOY = {"low▁": 5, "lower▁": 2, "newest▁": 6, "widest▁": 3}
CORPORA = {"four": TOY, "one": {"newest▁": 6}}
NEW_WORD = "lowest▁"
LONGEST = 7


@lru_cache(maxsize=1)
def _training() -> dict[str, Any]:
    return tables.load("subword_training")


def _last(objective: str) -> int:
    return len(_training()["runs"][objective]["stage"]) - 1


# The presets follow the recording: they name steps by what happens there.
MOST_STEPS = max(map(_last, OBJECTIVES))
FIRST_SEARCH = _training()["runs"]["likelihood"]["stage"].index("search")


@explorer(
    "subword-training",
    Choice(
        "objective",
        "Objective",
        OBJECTIVES,
        start="likelihood",
        help="Code length alone, with 5 nats for every token, or the number of tokens alone.",
    ),
    Step(
        "step",
        "Step of training",
        0,
        MOST_STEPS,
        FIRST_SEARCH - 1,
        help="From many candidates down to 2,000 pieces, then pieces come and go.",
    ),
    title="Watching a vocabulary being trained",
    alt=(
        "Three curves over the steps of training: vocabulary size, bits per word and tokens per "
        "word with its certified bound; the current step is marked. Below, two strips with pieces "
        "that entered and that left in this step."
    ),
    presets=(
        Preset(
            "Far too many pieces",
            {"objective": "likelihood", "step": 0},
            "Cheap in both respects, but four times the budget: every piece removed costs bits.",
        ),
        Preset(
            "Pruned to size",
            {"objective": "likelihood", "step": FIRST_SEARCH - 1},
            "Pieces that cost least to lose are gone; the code is longer for it.",
        ),
        Preset(
            "Pieces come and go",
            {"objective": "likelihood", "step": FIRST_SEARCH},
            "Each search round adds what gains most and prunes what costs least.",
        ),
        Preset(
            "A price per token",
            {"objective": "weight", "step": _last("weight")},
            "Slightly longer code, clearly fewer tokens.",
        ),
        Preset(
            "Tokens alone",
            {"objective": "tokens", "step": _last("tokens")},
            "It ends close to the bound, and pays with the longest code of the three.",
            fails=True,
        ),
    ),
)
def subword_training(objective: str, step: int) -> Figure:
    """One recorded training run on the State of the Union, step by step (book, Algorithm S-2)."""
    table = _training()
    run = table["runs"][objective]
    last = _last(objective)
    now = min(step, last)
    steps = list(range(last + 1))
    bound = table["bound_tokens_per_word"]
    kept = run["kept"]

    def curve(values: Sequence[float]) -> list[Mark]:
        return [
            figure.line(steps, values, z="after the step"),
            figure.dot(
                steps,
                values,
                z=["after the step" if k else "tried, not kept" for k in kept],
                size=[7 if s == now else 4 for s in steps],
                tip=[f"step {s}: {value:,.6g}" for s, value in enumerate(values)],
            ),
            figure.rule(x=now, dash="dotted"),
        ]

    across = Axis(domain=(-0.4, max(last, 1) + 0.4), ticks=steps)
    both = {"after the step": "c1", "tried, not kept": "warn"}
    series = both if not all(kept) else {"after the step": "c1"}
    bits, tokens = run["bits_per_word"], run["tokens_per_word"]
    panels = [
        Panel(
            curve(run["pieces"]),
            x=across,
            y=Axis("pieces", type="log", domain=(1500, 12000), ticks=[2000, 4000, 8000]),
            title="Vocabulary size",
            series=series,
            height=110,
            legend=False,
        ),
        Panel(
            curve(bits),
            x=across,
            y=Axis("bits per word", domain=padded(bits)),
            title="Code length",
            series=series,
            height=150,
            legend=not all(kept),
        ),
        Panel(
            [
                *curve(tokens),
                figure.rule(
                    y=bound, dash="dashed", label=f"bound for {run['pieces'][-1]:,} pieces"
                ),
            ],
            x=replace(across, label="step"),
            y=Axis("tokens per word", domain=padded([*tokens, bound])),
            title="Tokens",
            series=series,
            height=150,
            legend=False,
        ),
        _exchange_panel(run, now),
    ]
    spare = 100 * (1 - bound / tokens[now])
    readout = (
        f"Step {now} of {last} ({STAGES[run['stage'][now]]}) leaves {run['pieces'][now]:,} pieces, "
        f"{bits[now]:.3f} bits and {tokens[now]:.4f} tokens per word; {run['entered'][now]:,} "
        f"pieces entered and {run['left'][now]:,} left"
    )
    if run["pieces"][now] == run["pieces"][-1]:
        readout += (
            f", and no vocabulary of this size can save more than {spare:.1f} % of the tokens"
        )
    if not kept[now]:
        readout += "; the round made things worse and is not kept"
    return Figure(
        title=f"Training for {OBJECTIVES[objective]}, step {now}",
        panels=panels,
        readout=readout + ".",
        cost=(
            f"Each step spells all {table['distinct_words']:,} distinct words anew, which stand "
            f"for {table['words']:,} running ones"
        ),
        limits={"step": (0, last)},
    )


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
        "Longest piece",
        1,
        LONGEST,
        3,
        unit="characters",
        help="All substrings up to this length are pieces; nothing else limits the vocabulary.",
    ),
    title="Likelihood without a budget",
    alt=(
        "Above, the log-likelihood of a toy corpus against the longest piece allowed, before and "
        "after fitting; below, the words cut into pieces at the current setting, and a new word."
    ),
    presets=(
        Preset(
            "Parts of words",
            {"corpus": "four", "longest": 3},
            "With at most three characters a piece, est is shared, and the new word is spelled.",
        ),
        Preset("Characters only", {"corpus": "four", "longest": 1}),
        Preset(
            "Collapse to whole words",
            {"corpus": "four", "longest": 7},
            "The likelihood is highest when every word is one piece; no new word can be spelled.",
            fails=True,
        ),
        Preset(
            "A corpus of one word",
            {"corpus": "one", "longest": 7},
            "One piece of probability 1: the likelihood is perfect and nothing was learnt.",
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
    curve = Panel(
        [
            figure.line(lengths, end, z="fitted"),
            figure.dot(lengths, end, z="fitted"),
            figure.line(lengths, start, z="before fitting"),
            figure.dot(lengths, start, z="before fitting"),
            figure.rule(x=longest, dash="dotted"),
        ],
        x=Axis("longest piece, characters", domain=(0.6, LONGEST + 0.4), ticks=lengths),
        y=Axis("log-likelihood, nats"),
        title="The longer the pieces may be, the likelier the corpus",
        series={"fitted": "accent", "before fitting": "c2"},
        height=190,
    )
    rows = [*fit.spelled.items(), (NEW_WORD, fit.new)]
    marks: list[Mark] = []
    for row, (word, pieces) in enumerate(rows):
        marks.append(_toy_strip(row, pieces, fit.probabilities, word == NEW_WORD))
    names = [
        f"{word.rstrip('▁')}, new" if word == NEW_WORD else f"{word.rstrip('▁')} ×{count}"
        for word, count in [*CORPORA[corpus].items(), (NEW_WORD, 0)]
    ]
    strips = Panel(
        marks,
        x=Axis(domain=(0, LONGEST), hidden=True),
        y=Axis(
            domain=(-len(rows), 0.1),
            ticks=[-row - 0.4 for row in range(len(rows))],
            tick_labels=names,
        ),
        title="Best spellings under the fitted probabilities",
        series=_toy_series(fit),
        height=34 * len(rows) + 30,
    )
    whole = sum(len(pieces) == 1 for pieces in fit.spelled.values())
    known = UNKNOWN not in fit.new
    return Figure(
        title=f"Pieces of up to {_characters(longest)}",
        panels=[curve, strips],
        readout=(
            f"With pieces of up to {_characters(longest)} the log-likelihood rises from "
            f"{start[longest - 1]:.3f} to {end[longest - 1]:.3f} nats, {len(fit.probabilities)} of "
            f"{fit.candidates} pieces stay in use, {whole} of {len(fit.spelled)} words are one "
            f"piece, and the new word lowest "
            + (f"is spelled {'|'.join(fit.new)}." if known else "has no spelling any more.")
        ),
        cost=f"{len(fit.path) - 1} rounds of hard EM over {fit.candidates} pieces",
    )


def _exchange_panel(run: dict[str, Any], now: int) -> Panel:
    marks: list[Mark] = []
    length = 45.0
    for row, (key, series) in enumerate((("in", "entered"), ("out", "left"))):
        pieces = run[key][now][:SHOWN_PIECES]
        total = run["entered" if key == "in" else "left"][now]
        told = f"{total:,} {series}" + (", most frequent:" if len(pieces) < total else "")
        marks.append(figure.text([0], [-row + 0.22], [told], anchor="start"))
        if pieces:
            # As wide as the letters need, in units of one letter.
            ends = np.cumsum([len(piece) + 1.5 for piece in pieces])
            starts = np.concatenate([[0.0], ends[:-1]])
            length = max(length, float(ends[-1]))
            marks.append(
                figure.rect(
                    starts,
                    ends - 0.3,
                    [-row - 0.5] * len(pieces),
                    [-row] * len(pieces),
                    text=pieces,
                    tip=pieces,
                    z=series,
                )
            )
    return Panel(
        marks,
        x=Axis(domain=(0, length), hidden=True),
        y=Axis(domain=(-1.6, 0.4), hidden=True),
        title="Pieces of this step",
        series={"entered": "accent", "left": "warn"},
        height=130,
    )


@dataclass(frozen=True)
class _ToyFit:
    path: tuple[float, ...]  # log-likelihood before fitting and after each round
    probabilities: dict[str, float]
    spelled: dict[str, tuple[str, ...]]
    new: tuple[str, ...]
    candidates: int


@lru_cache(maxsize=len(CORPORA))
def _fits(corpus: str) -> tuple[_ToyFit, ...]:
    words = CORPORA[corpus]
    found = []
    for longest in range(1, LONGEST + 1):
        start = substring_vocabulary(words, 10**6, longest)
        fit = fit_probabilities(words, start)
        costs = piece_costs(fit.probabilities)
        found.append(
            _ToyFit(
                tuple(value + 0.0 for value in fit.log_likelihoods),  # no minus zero
                fit.probabilities,
                {word: viterbi_path(word, costs).pieces for word in words},
                _new_pieces(costs),
                len(start),
            )
        )
    return tuple(found)


def _characters(number: int) -> str:
    return "1 character" if number == 1 else f"{number} characters"


def _new_pieces(costs: dict[str, float]) -> tuple[str, ...]:
    path = viterbi_path(NEW_WORD, costs)
    return path.pieces if path.feasible else (UNKNOWN,)


def _toy_strip(
    row: int, pieces: tuple[str, ...], probabilities: dict[str, float], new: bool
) -> Mark:
    lost = UNKNOWN in pieces
    lengths = [len(NEW_WORD)] if lost else [len(piece) for piece in pieces]
    ends = np.cumsum(lengths)
    return figure.rect(
        ends - lengths,
        ends,
        [-row - 0.8] * len(lengths),
        [-row] * len(lengths),
        text=["no spelling"] if lost else list(pieces),
        tip=["no spelling" if lost else f"{s}: p = {probabilities[s]:.3f}" for s in pieces],
        z=("no spelling" if lost else "new word") if new else "training word",
    )


def _toy_series(fit: _ToyFit) -> dict[str, str]:
    new = {"no spelling": "warn"} if UNKNOWN in fit.new else {"new word": "c2"}
    return {"training word": "accent"} | new
