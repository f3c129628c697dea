"""Explorers of chapter 1: the lattice of a word, and what the step limit costs over a corpus."""

import math
import unicodedata
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from genopt_core.corpora import END_OF_WORD
from genopt_core.figures import schema as figure
from genopt_core.figures.controls import Choice, Slider, Text
from genopt_core.figures.registry import Preset, explorer
from genopt_core.figures.schema import Axis, Figure, Panel
from genopt_core.subwords import (
    STORED_SIZES,
    UNKNOWN,
    UNKNOWN_EXTRA,
    Arc,
    Lattice,
    Path,
    best_paths,
    exact_step_cost_table,
    exact_step_costs,
    greedy_path,
    greedy_paths,
    shortest_path,
    stored_costs,
    stored_word_counts,
    word_arcs,
)
from genopt_core.subwords.segmentation.lattice import Float

BITS = 1 / math.log(2)  # per nat
LONGEST_WORD = 20
MOST_PIECES = 8

SIZE = Choice(
    "size",
    "Vocabulary",
    {size: f"{size:,} pieces" for size in STORED_SIZES},
    start=2000,
    help="Characters and the most frequent substrings of the State of the Union addresses.",
)
LIMIT = Slider(
    "k", "Most pieces k", 1, MOST_PIECES, 4, help="A word may be cut into at most this many pieces."
)


@explorer(
    "subword-lattice",
    Text(
        "word",
        "Word",
        ("republic", "nowhere", "unconstitutional", "cuba", "naïve", "newest"),
        max_length=LONGEST_WORD,
        help="Any word of your own; small letters are used.",
    ),
    SIZE,
    LIMIT,
    title="All spellings of a word, and the cheapest",
    alt=(
        "The characters of a word in a row. Arcs above them are the vocabulary's pieces, those of "
        "the cheapest spelling drawn heavily; below, the cheapest spelling and the longest match "
        "as strips of pieces. A second panel plots the cost against the number of pieces."
    ),
    presets=(
        Preset(
            "Longest match goes wrong",
            {"word": "republic", "size": 2000, "k": 4},
            "Taking rep first leaves ubl, a piece the cheapest spellings hardly ever need.",
        ),
        Preset(
            "The limit costs bits",
            {"word": "cuba", "size": 1000, "k": 3},
            "One pass that keeps a single best path per gap finds nothing here.",
        ),
        Preset(
            "Cheapest is not meaning",
            {"word": "nowhere", "size": 2000, "k": 4},
            "The likelihood sees now and here; it knows no prefixes or stems.",
        ),
        Preset(
            "Too few pieces",
            {"word": "unconstitutional", "size": 1000, "k": 2},
            "No two pieces of the vocabulary spell the word.",
            fails=True,
        ),
        Preset(
            "A foreign character",
            {"word": "naïve", "size": 1000, "k": 4},
            "The vocabulary has never seen ï: the word is lost at that place.",
        ),
    ),
)
def subword_lattice(word: str, size: int, k: int) -> Figure:
    """Lattice, cheapest spelling within k pieces (book, eq. swe-bellman), and the longest match."""
    spelled = _marked(word)
    costs, foreign = _costs_for(spelled, size)
    arcs = word_arcs(spelled, costs)
    best, free = shortest_path(spelled, costs, k), shortest_path(spelled, costs)
    greedy = greedy_path(spelled, costs)
    readout = _lattice_readout(spelled, k, best, free, greedy)
    if foreign:
        readout += f" Outside the alphabet, hence {UNKNOWN}: {', '.join(foreign)}."
    layers = min(k, len(spelled))
    return Figure(
        title=f"{spelled} in at most {_pieces(k)} of {size:,}",
        panels=[
            _lattice_panel(spelled, arcs, best, greedy, foreign, k),
            _cost_panel(exact_step_costs(spelled, costs, len(spelled)), k),
        ],
        readout=readout,
        cost=(
            f"{layers} layers × {len(arcs)} arcs = {layers * len(arcs)} relaxations; "
            f"without a limit one pass, {len(arcs)}"
        ),
    )


@explorer(
    "subword-steps",
    SIZE,
    LIMIT,
    Choice(
        "weight",
        "Every word counts",
        {"running": "as often as it occurs", "distinct": "once"},
        help="Running words weigh the frequent ones; distinct words weigh all alike.",
    ),
    title="What the step limit costs over a corpus",
    alt=(
        "Two panels over the limit k from 1 to 8: mean bits per word of the cheapest spelling and "
        "of the longest match, and the share of words that k pieces can spell."
    ),
    presets=(
        Preset("The usual case", {"size": 1000, "k": 4, "weight": "running"}),
        Preset(
            "A large vocabulary",
            {"size": 2000, "k": 3, "weight": "running"},
            "More whole words, fewer pieces, fewer bits.",
        ),
        Preset(
            "Rare words count as much",
            {"size": 1000, "k": 4, "weight": "distinct"},
            "Frequent words are short and cheap; the list of words is not.",
        ),
        Preset(
            "One piece per word",
            {"size": 250, "k": 1, "weight": "distinct"},
            "With k = 1 a word must be in the vocabulary as a whole, and hardly one is.",
            fails=True,
        ),
    ),
)
def subword_steps(size: int, k: int, weight: str) -> Figure:
    """Mean cost and share of spelled words against k, over the stored words of the corpus."""
    corpus = _corpus(size)
    share = corpus.running if weight == "running" else np.full_like(corpus.running, 1.0)
    share = share / share.sum()
    # A word that k pieces do not spell is spelled without a limit, at the cost of its best path.
    limited = np.where(np.isfinite(corpus.within), corpus.within, corpus.free) @ share * BITS
    spelled = np.isfinite(corpus.within) @ share * 100
    free, greedy = (float(cost @ share) * BITS for cost in (corpus.free, corpus.greedy))
    steps = np.arange(1, MOST_PIECES + 1)
    bits = Panel(
        [
            figure.line(steps, limited, z="at most k"),
            figure.dot(steps, limited, z="at most k"),
            figure.line(steps, np.full(MOST_PIECES, greedy), z="longest match"),
            figure.line(steps, np.full(MOST_PIECES, free), z="no limit"),
            figure.rule(x=k, dash="dotted"),
        ],
        x=Axis("most pieces per word, k", ticks=steps.tolist(), domain=(0.5, MOST_PIECES + 0.5)),
        y=Axis("bits per word", domain=(math.floor(free * 0.95), math.ceil(greedy * 1.03))),
        title="Cost (words beyond k pieces spelled without the limit)",
        series={"at most k": "c1", "longest match": "c2", "no limit": "muted"},
    )
    reach = Panel(
        [
            figure.bar(steps, spelled, z="spelled by k pieces"),
            figure.text([k], [spelled[k - 1]], [f"{spelled[k - 1]:.1f} %"], dy=-9, bold=True),
        ],
        x=Axis("most pieces per word, k", ticks=steps.tolist(), domain=(0.5, MOST_PIECES + 0.5)),
        y=Axis("share of words, %", domain=(0, 110), ticks=[0, 25, 50, 75, 100]),
        title="Reach",
        series={"spelled by k pieces": "c1"},
        legend=False,
    )
    words = "running words" if weight == "running" else "distinct words"
    return Figure(
        title=f"Step limit {k}, vocabulary of {size:,}",
        panels=[bits, reach],
        readout=(
            f"{spelled[k - 1]:.1f} % of the {words} need at most {_pieces(k)}; the cheapest "
            f"spellings then take {limited[k - 1]:.2f} bits per word on average, {free:.2f} "
            f"without the limit, and longest match {greedy:.2f}, "
            f"{100 * (greedy / free - 1):.1f} % more than without."
        ),
        cost=(
            f"{k} × {corpus.arcs:,} arcs relaxed for {len(corpus.free):,} words; "
            f"without a limit {corpus.arcs:,}"
        ),
        layout="row",
    )


def _marked(word: str) -> str:
    """What the reader typed in the textbook convention: small letters, end-of-word symbol."""
    parts = unicodedata.normalize("NFC", word.lower()).replace(END_OF_WORD, " ").split()
    if not parts:
        raise ValueError("word needs at least one character besides blanks")
    return END_OF_WORD.join(parts) + END_OF_WORD


@lru_cache(maxsize=len(STORED_SIZES))
def _costs(size: int) -> dict[str, float]:
    return stored_costs(size)


def _costs_for(word: str, size: int) -> tuple[dict[str, float], tuple[str, ...]]:
    """Prices, with one for each foreign character of the word; and those characters."""
    costs = _costs(size)
    foreign = tuple(dict.fromkeys(c for c in word if c not in costs))
    # The price shortest_path(..., if_infeasible="unknown") gives them; as arcs of the
    # lattice they also serve the longest match and the panel of exact costs.
    unknown = max(costs.values()) + UNKNOWN_EXTRA
    return (costs | dict.fromkeys(foreign, unknown) if foreign else costs), foreign


@dataclass(frozen=True)
class _CorpusCosts:
    running: Float  # (words,) how often each occurs
    within: Float  # (limits, words) least cost with at most 1, 2, ... pieces, nats
    free: Float  # (words,) without a limit
    greedy: Float  # (words,) of the longest match
    arcs: int


@lru_cache(maxsize=len(STORED_SIZES))
def _corpus(size: int) -> _CorpusCosts:
    costs = _costs(size)
    lattice = Lattice(stored_word_counts(), costs)
    within = np.minimum.accumulate(exact_step_cost_table(lattice, MOST_PIECES))
    greedy = np.array([path.cost for path in greedy_paths(lattice.words, costs)])
    free = best_paths(lattice).cost
    return _CorpusCosts(lattice.counts, within, free, greedy, len(lattice.source))


def _lattice_panel(
    word: str, arcs: list[Arc], best: Path, greedy: Path, foreign: tuple[str, ...], k: int
) -> Panel:
    n = len(word)

    def shown(piece: str) -> str:
        return UNKNOWN if piece in foreign else piece

    def tip(piece: str, cost: float) -> str:
        return f"{shown(piece)}: {cost * BITS:.1f} bits"

    price = {arc.piece: arc.cost for arc in arcs}
    taken = set(zip(best.cuts, best.cuts[1:], strict=False))
    chosen = [(arc.start, arc.end) in taken for arc in arcs]
    marks = [
        # One mark for all arcs, so that they are bowed by the same rule.
        figure.link(
            [arc.start for arc in arcs],
            [0] * len(arcs),
            [arc.end for arc in arcs],
            [0] * len(arcs),
            width=[4 if c else 1 for c in chosen],
            z=["chosen" if c else "piece" for c in chosen],
            tip=[tip(arc.piece, arc.cost) for arc in arcs],
            curve="arc",
        ),
        figure.dot(list(range(n + 1)), [0] * (n + 1), size=3),
        figure.text([i + 0.5 for i in range(n)], [-0.45] * n, list(word), size=15, bold=True),
    ]
    for path, top, series in ((best, -1.0, "chosen"), (greedy, -2.1, "longest match")):
        if path.feasible:
            marks.append(
                figure.rect(
                    list(path.cuts[:-1]),
                    list(path.cuts[1:]),
                    [top - 0.8] * path.steps,
                    [top] * path.steps,
                    text=[shown(piece) for piece in path.pieces],
                    tip=[tip(piece, price[piece]) for piece in path.pieces],
                    z=series,
                )
            )
        else:
            marks.append(
                figure.text([n / 2], [top - 0.4], [f"no spelling with at most {_pieces(k)}"])
            )
    return Panel(
        marks,
        x=Axis(domain=(0, n), hidden=True),
        y=Axis(domain=(-3.1, 5), ticks=[-1.4, -2.5], tick_labels=["cheapest", "longest match"]),
        title="Pieces that fit, and two spellings",
        series={"chosen": "c1", "longest match": "c2", "piece": "muted"},
        height=300,
    )


def _cost_panel(exact: Float, k: int) -> Panel:
    steps = np.arange(1, len(exact) + 1)
    bits = np.where(np.isfinite(exact), exact, np.nan) * BITS
    at_most = np.fmin.accumulate(bits)
    top = float(np.nanmax(bits))
    return Panel(
        [
            figure.line(steps, at_most, z="at most t", curve="step"),
            figure.dot(steps, bits, z="exactly t"),
            figure.rule(x=k, dash="dotted", label=f"k = {k}"),
        ],
        x=Axis("number of pieces t", domain=(0.5, max(len(exact), k) + 0.5)),
        y=Axis("bits", domain=(0, 1.08 * top)),
        title="Cost against the number of pieces",
        series={"exactly t": "c3", "at most t": "c1"},
        height=200,
    )


def _lattice_readout(word: str, k: int, best: Path, free: Path, greedy: Path) -> str:
    match = f"longest match takes {_spelled(greedy)}"
    if not best.feasible:
        return (
            f"At most {_pieces(k)} cannot spell {word}; without the limit the cheapest way is "
            f"{_spelled(free)}, and {match}."
        )
    text = f"{word} in at most {_pieces(k)} is cheapest as {_spelled(best)}"
    if best.cost > free.cost:
        text += f" (without the limit {_spelled(free)})"
    if greedy.cuts == best.cuts:
        return text + "; longest match takes the same."
    more = (greedy.cost - best.cost) * BITS
    return f"{text}; {match}, {abs(more):.1f} bits {'more' if more >= 0 else 'less'}."


def _spelled(path: Path) -> str:
    return f"{'|'.join(path.pieces)}, {path.cost * BITS:.1f} bits"


def _pieces(k: int) -> str:
    return "1 piece" if k == 1 else f"{k} pieces"
