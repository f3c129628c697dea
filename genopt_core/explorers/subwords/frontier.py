"""Explorer of chapter 1: all contestants by vocabulary size, and the certified bound."""

import math
from functools import lru_cache
from typing import Any

from genopt_core import tables
from genopt_core.explorers.subwords.tokenizers import padded
from genopt_core.figures import schema as figure
from genopt_core.figures.controls import Choice
from genopt_core.figures.registry import Preset, explorer
from genopt_core.figures.schema import Axis, Figure, Mark, Panel

# The peers by family; where one has several settings, its best stands for it.
FAMILIES = {
    "BPE": ("hf_bpe", "rustbpe"),
    "WordPiece": ("hf_wordpiece", "hf_wordpiece_plain"),
    "HF Unigram": ("hf_unigram", "hf_unigram_front", "hf_unigram_tuned"),
    "sentencepiece": (
        "sp_text",
        "sp_text_front",
        "sp_counts",
        "sp_counts_front",
        "sp_counts_tuned",
        "sp_text_tuned",
        "sp_text_front_tuned",
    ),
    "GreedTok": ("greedtok",),
    "PathPiece": ("pathpiece",),
    "MinGram": ("mingram", "mingram_increase"),
    "ConvexTok": ("convextok",),
    "ours, likelihood": ("ours_likelihood",),
    "ours, λ = 5": ("ours_weight_5",),
    "ours, λ = 10": ("ours_weight_10",),
    "ours, fewest tokens": ("ours_tokens",),
}
MEASURES = {"tokens_per_word": "tokens per word", "bits_per_byte": "bits per byte"}
PARTS = {"train": "training text", "held": "held-out text"}
SHOWN_PERCENT = 12


@explorer(
    "subword-frontier",
    Choice("measure", "Measure", MEASURES, start="tokens_per_word", help="What is counted."),
    Choice(
        "part",
        "Counted on",
        PARTS,
        start="train",
        help="Every tenth block of 2,000 words was held out of training.",
    ),
    title="Vocabulary size against cost, all contestants",
    alt=(
        "Lines over the vocabulary size on a logarithmic axis, one for each trainer: tokens per "
        "word or bits per byte above, percent over the certified bound or over the best below. "
        "A shaded area marks what no vocabulary can reach."
    ),
    presets=(
        Preset("Tokens in training", {"measure": "tokens_per_word", "part": "train"}),
        Preset(
            "Tokens held out",
            {"measure": "tokens_per_word", "part": "held"},
            "The order hardly changes on text that nobody trained on.",
        ),
        Preset(
            "Bits held out",
            {"measure": "bits_per_byte", "part": "held"},
            "The likelihood is a code length: here the paper's objective is at home.",
        ),
        Preset(
            "No bound on bits",
            {"measure": "bits_per_byte", "part": "train"},
            "The price of a piece changes with the vocabulary, so the certificate says nothing.",
            fails=True,
        ),
    ),
)
def subword_frontier(measure: str, part: str) -> Figure:
    """The stored comparison on English text, with the certified bound where there is one."""
    lines = _lines(f"{part}_{measure}")
    proved = measure == "tokens_per_word" and part == "train"
    bounds: dict[int, float] = dict(_comparison()["bounds"]) if proved else {}
    sizes = sorted({size for line in lines.values() for size in line})
    best = {s: min((line[s][0], name) for name, line in lines.items() if s in line) for s in sizes}
    floor = bounds or {size: value for size, (value, _) in best.items()}
    role = {name: "accent" if name.startswith("ours") else "muted" for name in lines}
    axis = Axis(
        "pieces",
        type="log",
        domain=(min(sizes) / 1.15, max(sizes) * 1.15),
        ticks=sizes,
        tick_labels=[f"{size:,}" for size in sizes],
    )
    every = [value for line in lines.values() for value, _ in line.values()]
    low, high = padded([*every, *bounds.values()])
    marks = _line_marks(lines, floor, relative=False)
    below = _line_marks(lines, floor, relative=True)
    series = dict(role)
    if bounds:
        at = sorted(bounds)
        shade = figure.area(at, [low] * len(at), [bounds[s] for s in at], z="certified bound")
        edge = [
            figure.line(at, [bounds[s] for s in at], z="certified bound"),
            figure.dot(at, [bounds[s] for s in at], z="certified bound"),
        ]
        marks = [shade, *edge, *marks]
        series["certified bound"] = "warn"
    panels = [
        Panel(
            marks,
            x=axis,
            y=Axis(MEASURES[measure], domain=(low, high)),
            title=f"{MEASURES[measure].capitalize()}, {PARTS[part]}",
            series=series,
            height=280,
        )
    ]
    if below:
        panels.append(
            Panel(
                [*below, figure.rule(y=0)],
                x=axis,
                y=Axis("percent", domain=(-0.5, SHOWN_PERCENT)),
                title=("Above the bound" if bounds else "Above the best of all")
                + f" (up to {SHOWN_PERCENT} %)",
                series=role,
                height=220,
                legend=False,
            )
        )
    return Figure(
        title=f"{MEASURES[measure].capitalize()} on the {PARTS[part]}",
        panels=panels,
        readout=_frontier_readout(lines, bounds, measure, part),
        cost=(
            "English: State of the Union and Moby-Dick, 2.05 million training words; where a "
            "trainer ran in several settings, its best at each size"
        ),
    )


@lru_cache(maxsize=1)
def _comparison() -> dict[str, Any]:
    return tables.load("subword_frontier")


def _lines(column: str) -> dict[str, dict[int, tuple[float, str]]]:
    """By family and size the best value, and the label of the setting it comes from."""
    table = _comparison()
    family = {name: label for label, names in FAMILIES.items() for name in names}
    found: dict[str, dict[int, tuple[float, str]]] = {}
    for row in table["rows"]:
        item = dict(zip(table["columns"], row, strict=True))
        name, size, value = item["contestant"], item["size"], item[column]
        if name not in family or value is None:
            continue
        line = found.setdefault(family[name], {})
        candidate = (value, table["contestants"][name]["label"])
        line[size] = min(line.get(size, candidate), candidate)
    return {label: dict(sorted(found[label].items())) for label in FAMILIES if label in found}


def _line_marks(
    lines: dict[str, dict[int, tuple[float, str]]], floor: dict[int, float], *, relative: bool
) -> list[Mark]:
    """Lines of the values, or of the percent above a floor, where there is one."""
    marks = []
    for name, line in lines.items():
        x, y, tips = [], [], []
        for size, (value, label) in line.items():
            above = 100 * (value / floor[size] - 1) if size in floor else math.nan
            if relative and not above <= SHOWN_PERCENT:
                continue
            x.append(size)
            y.append(above if relative else value)
            tip = f"{label}, {size:,} pieces: {value:.4f}"
            tips.append(tip + (f", {above:.2f} % above" if size in floor else ""))
        if x:
            ours = name.startswith("ours")
            marks += [
                figure.line(x, y, z=name, width=2.5 if ours else 1),
                figure.dot(x, y, z=name, tip=tips, size=5 if ours else 3.5),
            ]
    return marks


def _frontier_readout(
    lines: dict[str, dict[int, tuple[float, str]]],
    bounds: dict[int, float],
    measure: str,
    part: str,
) -> str:
    peers = [line for name, line in lines.items() if not name.startswith("ours")]
    ours = {size for name, line in lines.items() if name.startswith("ours") for size in line}
    # The largest size at which all are there; while runs are missing, one that somebody has.
    everywhere = set.intersection(*(set(line) for line in peers))
    somewhere = {size for line in peers for size in line}
    size = max(everywhere & ours or somewhere & ours or everywhere or somewhere)
    best: dict[bool, tuple[float, str]] = {}
    for name, line in lines.items():
        own = name.startswith("ours")
        if size in line:
            found = (line[size][0], name.replace(", ", " (") + ")" if own else name)
            best[own] = min(best.get(own, found), found)
    value, peer = best[False]
    text = f"With {size:,} pieces the best peer, {peer}, needs {value:.4f} {MEASURES[measure]}"
    least = value
    if True in best:
        mine, name = best[True]
        change = 100 * (mine / value - 1)
        text += f" and {name} {mine:.4f}, {abs(change):.2f} % {'less' if change < 0 else 'more'}"
        least = min(mine, value)
    if size in bounds:
        gap = 100 * (least / bounds[size] - 1)
        return text + (
            f"; no vocabulary can go below {bounds[size]:.4f}, so the better one is at most "
            f"{gap:.2f} % from the optimum."
        )
    if measure == "bits_per_byte":
        return text + "; code length has no certified bound."
    if part == "held":
        return text + "; the certificate holds for the training text only."
    return text + "; no bound is stored for this size."
