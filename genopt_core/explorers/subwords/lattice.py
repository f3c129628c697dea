"""Explorer of chapter 1: the lattice of a word, its cheapest segmentation and the longest match."""

import numpy as np

from genopt_core.explorers.panels import BITS, counted, strip
from genopt_core.explorers.subwords.words import LIMIT, SIZE, costs_of, typed_words
from genopt_core.figures import schema as figure
from genopt_core.figures.controls import Text
from genopt_core.figures.registry import Preset, explorer
from genopt_core.figures.schema import Axis, Figure, Panel
from genopt_core.subwords import (
    UNKNOWN,
    UNKNOWN_EXTRA,
    Arc,
    Path,
    exact_step_costs,
    greedy_path,
    shortest_path,
    word_arcs,
)
from genopt_core.subwords.segmentation.lattice import Float

LONGEST_WORD = 20
ROLES = {"longest match": "c2", "piece": "muted"}  # beside the chosen segmentation, if there is one


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
    title="All segmentations of a word, and the cheapest",
    code=(
        "from genopt_core.subwords import shortest_path, stored_costs\n"
        'shortest_path({word}.lower() + "▁", stored_costs({size}), {k})'
    ),
    alt=(
        "The characters of a word in a row. Arcs above them are the vocabulary's sub-words, those "
        "of the cheapest segmentation drawn heavily; below, it and the longest match as strips of "
        "sub-words. A second panel plots the cost against the number of sub-words."
    ),
    presets=(
        Preset(
            "Longest match goes wrong",
            {"word": "republic"},
            "Taking rep first leaves ubl, a sub-word the cheapest segmentations hardly ever need.",
        ),
        Preset(
            "The limit costs bits",
            {"word": "cuba", "size": 1000, "k": 3},
            "One pass that keeps a single best path per gap finds nothing here.",
        ),
        Preset(
            "Cheapest is not meaning",
            {"word": "nowhere"},
            "The likelihood sees now and here; it knows no prefixes or stems.",
        ),
        Preset(
            "Too few sub-words: no way through",
            {"word": "unconstitutional", "size": 1000, "k": 2},
            "No two sub-words of the vocabulary make up the word.",
            fails=True,
        ),
        Preset(
            "A foreign character",
            {"word": "naïve", "size": 1000},
            "The vocabulary has never seen ï: the word is lost at that place.",
        ),
    ),
)
def subword_lattice(word: str, size: int, k: int) -> Figure:
    """Lattice, cheapest segmentation in k pieces (book, eq. swe-bellman), and longest match."""
    marked = "".join(typed_words(word, "word"))
    costs, foreign = _costs_for(marked, size)
    arcs = word_arcs(marked, costs)
    best, free = shortest_path(marked, costs, k), shortest_path(marked, costs)
    greedy = greedy_path(marked, costs)
    readout = _lattice_readout(marked, k, best, free, greedy)
    if foreign:
        readout += f" Outside the alphabet, hence {UNKNOWN}: {', '.join(foreign)}."
    layers = min(k, len(marked))
    return Figure(
        title=f"{marked} in at most {counted(k, 'sub-word')} of {size:,}",
        panels=[
            _lattice_panel(marked, arcs, best, greedy, foreign, k),
            _cost_panel(exact_step_costs(marked, costs, len(marked)), k),
        ],
        readout=readout,
        cost=(
            f"{layers} layers × {len(arcs)} arcs = {layers * len(arcs)} relaxations; "
            f"without a limit one pass, {len(arcs)}"
        ),
    )


def _costs_for(word: str, size: int) -> tuple[dict[str, float], tuple[str, ...]]:
    """Costs, with one for each foreign character of the word; and those characters."""
    costs = costs_of(size)
    foreign = tuple(dict.fromkeys(c for c in word if c not in costs))
    # The cost shortest_path(..., if_infeasible="unknown") gives them; as arcs of the
    # lattice they also serve the longest match and the panel of exact costs.
    unknown = max(costs.values()) + UNKNOWN_EXTRA
    return (costs | dict.fromkeys(foreign, unknown) if foreign else costs), foreign


def _lattice_panel(
    word: str, arcs: list[Arc], best: Path, greedy: Path, foreign: tuple[str, ...], k: int
) -> Panel:
    n = len(word)

    def shown(piece: str) -> str:
        return UNKNOWN if piece in foreign else piece

    def tip(piece: str, cost: float) -> str:
        return f"{shown(piece)}: {cost * BITS:.1f} bits"

    def price(piece: str) -> str:
        return f"{cost[piece] * BITS:.1f}"

    cost = {arc.piece: arc.cost for arc in arcs}
    taken = set(zip(best.cuts, best.cuts[1:], strict=False))
    chosen = [(arc.start, arc.end) in taken for arc in arcs]
    matched = set(zip(greedy.cuts, greedy.cuts[1:], strict=False))
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
            pieces = [shown(piece) for piece in path.pieces]
            tips = [tip(piece, cost[piece]) for piece in path.pieces]
            prices = [price(piece) for piece in path.pieces]
            marks.append(
                strip(
                    pieces,
                    path.cuts[:-1],
                    top,
                    ends=path.cuts[1:],
                    z=series,
                    tip=tips,
                    note=prices,
                )
            )
        else:
            marks.append(
                figure.text(
                    [n / 2], [top - 0.4], [f"no segmentation into at most {counted(k, 'sub-word')}"]
                )
            )
    return Panel(
        marks,
        x=Axis(domain=(0, n), hidden=True),
        y=Axis(domain=(-3.1, 5), ticks=[-1.4, -2.5], tick_labels=["cheapest", "longest match"]),
        title="Sub-words that fit, and two segmentations with their bits",
        series=({"chosen": "c1"} if best.feasible else {}) | ROLES,
        height=300,
        table={
            "sub-word": [shown(arc.piece) for arc in arcs],
            "from character": [arc.start + 1 for arc in arcs],
            "to character": [arc.end for arc in arcs],
            "bits": [arc.cost * BITS for arc in arcs],
            "chosen": ["yes" if c else "" for c in chosen],
            "longest match": ["yes" if (arc.start, arc.end) in matched else "" for arc in arcs],
        },
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
            figure.rule(x=k, dash="dotted", label=f"k = {k}", z="most sub-words k"),
        ],
        x=Axis("number of sub-words t", domain=(0.5, max(len(exact), k) + 0.5)),
        y=Axis("bits", domain=(0, 1.08 * top)),
        title="Cost against the number of sub-words",
        series={"exactly t": "c3", "at most t": "c1", "most sub-words k": "accent"},
        height=200,
    )


def _lattice_readout(word: str, k: int, best: Path, free: Path, greedy: Path) -> str:
    match = f"longest match takes {_segmented(greedy)}"
    if not best.feasible:
        return (
            f"{word} has no segmentation into at most {counted(k, 'sub-word')}; without the limit "
            f"the cheapest is {_segmented(free)}, and {match}."
        )
    text = f"{word} in at most {counted(k, 'sub-word')} is cheapest as {_segmented(best)}"
    if best.cost > free.cost:
        text += f" (without the limit {_segmented(free)})"
    if greedy.cuts == best.cuts:
        return text + "; longest match takes the same."
    more = (greedy.cost - best.cost) * BITS
    return f"{text}; {match}, {abs(more):.1f} bits {'more' if more >= 0 else 'less'}."


def _segmented(path: Path) -> str:
    return f"{'|'.join(path.pieces)}, {path.cost * BITS:.1f} bits"
