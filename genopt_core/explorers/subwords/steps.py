"""Explorer of chapter 1: what the step limit costs over a corpus."""

import math
from dataclasses import dataclass
from functools import cache

import numpy as np

from genopt_core.explorers.panels import BITS, compared, counted, curve
from genopt_core.explorers.subwords.words import LIMIT, MOST_PIECES, SIZE, costs_of
from genopt_core.figures import schema as figure
from genopt_core.figures.controls import Choice
from genopt_core.figures.registry import Preset, explorer
from genopt_core.figures.schema import Axis, Figure, Panel
from genopt_core.subwords import Lattice, best_paths, exact_step_cost_table, greedy_paths
from genopt_core.subwords.segmentation.lattice import Float
from genopt_core.tables import stored_word_counts


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
        "Two panels over the limit k from 1 to 8: mean bits per word of the cheapest segmentation "
        "and of the longest match, and the share of words that k sub-words can make up."
    ),
    presets=(
        Preset("The usual case", {"size": 1000}),
        Preset("A large vocabulary", {"k": 3}, "More whole words, fewer sub-words, fewer bits."),
        Preset(
            "Rare words count as much",
            {"size": 1000, "weight": "distinct"},
            "Frequent words are short and cheap; the list of words is not.",
        ),
        Preset(
            "One sub-word a word: hardly any fits",
            {"size": 250, "k": 1, "weight": "distinct"},
            "With k = 1 a word must be in the vocabulary as a whole, and hardly one is.",
            fails=True,
        ),
    ),
)
def subword_steps(size: int, k: int, weight: str) -> Figure:
    """Mean cost and share of segmented words against k, over the stored words of the corpus."""
    corpus = _corpus(size)
    share = corpus.running if weight == "running" else np.full_like(corpus.running, 1.0)
    share = share / share.sum()
    # A word that k pieces cannot make up is segmented without a limit, at its best path's cost.
    limited = np.where(np.isfinite(corpus.within), corpus.within, corpus.free) @ share * BITS
    within = np.isfinite(corpus.within) @ share * 100
    free, greedy = (float(cost @ share) * BITS for cost in (corpus.free, corpus.greedy))
    steps = np.arange(1, MOST_PIECES + 1)
    across = Axis(
        "most sub-words per word, k", ticks=steps.tolist(), domain=(0.5, MOST_PIECES + 0.5)
    )
    bits = Panel(
        [
            *curve(steps, limited, "at most k"),
            figure.line(steps, np.full(MOST_PIECES, greedy), z="longest match"),
            figure.line(steps, np.full(MOST_PIECES, free), z="no limit"),
            figure.rule(x=k, dash="dotted"),
        ],
        x=across,
        y=Axis("bits per word", domain=(math.floor(free * 0.95), math.ceil(greedy * 1.03))),
        title="Cost (words beyond k sub-words segmented without the limit)",
        series={"at most k": "c1", "longest match": "c2", "no limit": "muted"},
    )
    reach = Panel(
        [
            figure.bar(steps, within, z="at most k sub-words"),
            figure.text([k], [within[k - 1]], [f"{within[k - 1]:.1f} %"], dy=-9, bold=True),
        ],
        x=across,
        y=Axis("share of words, %", domain=(0, 110), ticks=[0, 25, 50, 75, 100]),
        title="Reach",
        series={"at most k sub-words": "c1"},
        legend=False,
    )
    words = "running words" if weight == "running" else "distinct words"
    return Figure(
        title=f"Step limit {k}, vocabulary of {size:,}, the 3,000 most frequent words",
        panels=[bits, reach],
        readout=(
            f"{within[k - 1]:.1f} % of the {words} need at most {counted(k, 'sub-word')}; the "
            f"cheapest segmentations then take {limited[k - 1]:.2f} bits per word on average, "
            f"{free:.2f} without the limit, and longest match {greedy:.2f}, "
            f"{compared(greedy, free)} than without."
        ),
        cost=(
            f"{k} × {corpus.arcs:,} arcs relaxed for {len(corpus.free):,} words; "
            f"without a limit {corpus.arcs:,}"
        ),
        layout="row",
    )


@dataclass(frozen=True)
class _CorpusCosts:
    running: Float  # (words,) how often each occurs
    within: Float  # (limits, words) least cost with at most 1, 2, ... pieces, nats
    free: Float  # (words,) without a limit
    greedy: Float  # (words,) of the longest match
    arcs: int


@cache
def _corpus(size: int) -> _CorpusCosts:
    costs = costs_of(size)
    lattice = Lattice(stored_word_counts(), costs)
    within = np.minimum.accumulate(exact_step_cost_table(lattice, MOST_PIECES))
    greedy = np.array([path.cost for path in greedy_paths(lattice.words, costs)])
    free = best_paths(lattice).cost
    return _CorpusCosts(lattice.counts, within, free, greedy, len(lattice.source))
