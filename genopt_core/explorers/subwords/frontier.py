"""Explorer of chapter 1: all tokenizers by vocabulary size, one of ours against a chosen rival."""

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

from genopt_core import tables
from genopt_core.explorers.panels import end_labels, padded, results, signed
from genopt_core.figures import schema as figure
from genopt_core.figures.controls import Choice
from genopt_core.figures.registry import Preset, explorer
from genopt_core.figures.schema import Axis, Figure, Panel

# The tokenizers by family; where one has several settings, its best stands for it.
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
PEERS = [name for name in FAMILIES if not name.startswith("ours")]
OURS = [name for name in FAMILIES if name.startswith("ours")]
BEST = "the best peer"
RIVALS = {BEST: "the best peer of each count"} | {name: name for name in PEERS}
MEASURES = {"tokens_per_word": "tokens per word", "bits_per_byte": "bits per byte"}
SHORT = {"tokens_per_word": "tokens", "bits_per_byte": "bits"}
PARTS = {"train": "training text", "held": "held-out text"}
TOLD_SIZE = 4000
ROOM_FOR_LABELS = 3.2  # the axis goes on by this factor, for the names at the ends of lines


@explorer(
    "subword-frontier",
    Choice(
        "ours",
        "Ours",
        OURS,
        start="ours, λ = 5",
        help="Trained for the likelihood, with 5 or 10 nats for every token, or for tokens alone.",
    ),
    Choice("rival", "Rival", RIVALS, help="Whom ours is compared with; others stay in gray."),
    Choice("measure", "Measure", MEASURES, start="tokens_per_word", help="What is counted."),
    Choice(
        "part",
        "Counted on",
        PARTS,
        start="held",
        help="Every tenth block of 2,000 words was held out of training.",
    ),
    title="Vocabulary size against cost, all tokenizers",
    alt=(
        "Two line charts over the vocabulary size on a logarithmic axis. In the first one line for "
        "each tokenizer, ours and the chosen rival named at their ends; a shaded area marks what "
        "no vocabulary can reach. In the second, how much less or more ours needs than the rival, "
        "in percent of tokens and of bits."
    ),
    presets=(
        Preset("Ahead on both counts", {}, "With 5 nats a token, below the best peer of each."),
        Preset(
            "Beside BPE",
            {"ours": "ours, likelihood", "rival": "BPE"},
            "At 16,000 sub-words most words are one token, and little is left to choose.",
        ),
        Preset(
            "Close to the bound",
            {"ours": "ours, fewest tokens", "part": "train"},
            "The certificate holds for the training text.",
        ),
        Preset(
            "The likelihood loses in tokens",
            {"ours": "ours, likelihood"},
            "Its code is the shortest, but others need fewer tokens at every size.",
            fails=True,
        ),
        Preset(
            "No bound on bits",
            {"measure": "bits_per_byte", "part": "train"},
            "The cost of a sub-word changes with the vocabulary, so the certificate says nothing.",
            fails=True,
        ),
    ),
)
def subword_frontier(ours: str, rival: str, measure: str, part: str) -> Figure:
    """The stored comparison on English text, with the certified bound where there is one."""
    proved = measure == "tokens_per_word" and part == "train"
    bounds: dict[int, float] = dict(tables.load("subword_frontier")["bounds"]) if proved else {}
    changes = {m: _changes(ours, rival, f"{part}_{m}") for m in MEASURES}
    return Figure(
        title=f"{ours.capitalize()}, beside {rival}, on the {PARTS[part]}",
        panels=[
            _values_panel(ours, rival, measure, part, bounds),
            _changes_panel(ours, rival, changes),
        ],
        readout=_readout(ours, changes, bounds),
        cost=(
            "2.05 million training words of English, counts of one text, so without intervals; "
            "where a tokenizer ran in several settings, its best at each size; "
            + (
                "the certified bound holds for the training text only"
                if measure == "tokens_per_word"
                else "code length has no certified bound"
            )
        ),
        layout="row",
    )


def best_of_families(column: str) -> list[dict[str, Any]]:
    """Rows of family, size, value and the label of the setting it comes from: the least value."""
    table = tables.load("subword_frontier")
    stored = [dict(zip(table["columns"], row, strict=True)) for row in table["rows"]]
    family = {name: label for label, names in FAMILIES.items() for name in names}
    best: dict[tuple[str, int], tuple[float, str]] = {}
    for row in stored:
        name, value = row["contestant"], row[column]
        if name in family and value is not None:
            key = family[name], row["size"]
            candidate = value, table["contestants"][name]["label"]
            best[key] = min(best.get(key, candidate), candidate)
    order = list(FAMILIES)
    return [
        {"family": name, "size": size, "value": value, "label": label}
        for (name, size), (value, label) in sorted(
            best.items(), key=lambda item: (order.index(item[0][0]), item[0][1])
        )
    ]


def _changes(ours: str, rival: str, column: str) -> dict[int, tuple[float, float, str]]:
    """By size: our value, the rival's, and the rival's name."""
    rows = best_of_families(column)
    mine = {row["size"]: row["value"] for row in rows if row["family"] == ours}
    among = PEERS if rival == BEST else [rival]
    found = {}
    for size, value in mine.items():
        others = [r for r in rows if r["size"] == size and r["family"] in among]
        other = min(others, key=lambda row: row["value"])
        found[size] = value, other["value"], other["family"]
    return found


def _across(sizes: list[int]) -> Axis:
    return Axis(
        "vocabulary size",
        type="log",
        domain=(min(sizes) / 1.15, max(sizes) * ROOM_FOR_LABELS),
        ticks=sizes,
        tick_labels=[f"{size:,}" for size in sizes],
    )


def _values_panel(
    ours: str, rival: str, measure: str, part: str, bounds: Mapping[int, float]
) -> Panel:
    rows = best_of_families(f"{part}_{measure}")
    for row in rows:
        size, value = row["size"], row["value"]
        row["tip"] = f"{row['label']}, {size:,} sub-words: {value:.4f} {MEASURES[measure]}"
        if size in bounds:
            row["tip"] += f", {100 * (value / bounds[size] - 1):.2f} % above the bound"
    sizes = sorted({row["size"] for row in rows})
    low, high = padded([*(row["value"] for row in rows), *bounds.values()])
    upwards = Axis(MEASURES[measure], domain=(low, high))
    # All settings draw the same marks, which the frames then store once: without a bound a gap.
    least = [bounds.get(size, math.nan) for size in sizes]
    marks = [
        figure.area(sizes, [low] * len(sizes), least, z="certified bound"),
        figure.line(sizes, least, z="certified bound"),
        figure.line(*_with_gaps(rows), z="others", width=1),
        figure.dot(
            [row["size"] for row in rows],
            [row["value"] for row in rows],
            z="others",
            size=3.5,
            tip=[row["tip"] for row in rows],
        ),
    ]
    ends = {"certified bound": (sizes[-1], least[-1])} if bounds else {}
    for name, role in ((rival, "rival"), (ours, "ours")):
        among = PEERS if name == BEST else [name]
        line = [
            min((r for r in rows if r["size"] == size and r["family"] in among), key=_value)
            for size in sizes
        ]
        values, tip = [row["value"] for row in line], [row["tip"] for row in line]
        marks.append(figure.line(sizes, values, z=role, width=2.5))
        marks.append(figure.dot(sizes, values, z=role, size=5, tip=tip))
        ends[name] = sizes[-1], values[-1]
    height = 280
    return Panel(
        [*marks, end_labels(ends, upwards, height)],
        x=_across(sizes),
        y=upwards,
        title=f"{MEASURES[measure].capitalize()}, {PARTS[part]}",
        series={"ours": "accent", "rival": "c2", "others": "muted", "certified bound": "warn"},
        height=height,
        legend=False,
    )


def _value(row: Mapping[str, Any]) -> float:
    return float(row["value"])


def _with_gaps(rows: Sequence[Mapping[str, Any]]) -> tuple[list[float], list[float]]:
    """The points of all families as one line, with a gap after each family."""
    x, y = [], []
    for row, following in itertools.zip_longest(rows, rows[1:]):
        x.append(row["size"])
        y.append(row["value"])
        if following and following["family"] != row["family"]:
            x.append(math.nan)
            y.append(math.nan)
    return x, y


def _changes_panel(
    ours: str, rival: str, changes: Mapping[str, Mapping[int, tuple[float, float, str]]]
) -> Panel:
    rows: list[dict[str, Any]] = [
        {
            "size": size,
            "percent": 100 * (mine / other - 1),
            "by": SHORT[measure],
            "tip": (
                f"{size:,} sub-words, {SHORT[measure]}: {signed(100 * (mine / other - 1), 2)} % "
                f"({mine:.4f} against {other:.4f} of {name})"
            ),
        }
        for measure, found in changes.items()
        for size, (mine, other, name) in found.items()
    ]
    ends = {row["by"]: (row["size"], row["percent"]) for row in rows}
    upwards = Axis(
        "% more than the rival (below zero: ahead)",
        domain=padded([0, *(row["percent"] for row in rows)]),
    )
    height = 280
    return results(
        rows,
        ("size", "percent", "by"),
        {"tokens": "c1", "bits": "c3"},
        (_across(sorted({row["size"] for row in rows})), upwards),
        above=[figure.rule(y=0), end_labels(ends, upwards, height)],
        width=2,
        size=5,
        title=f"Against {rival}",
        height=height,
        legend=False,
    )


def _readout(
    ours: str,
    changes: Mapping[str, Mapping[int, tuple[float, float, str]]],
    bounds: Mapping[int, float],
) -> str:
    told = []
    for name, found in changes.items():
        mine, other, peer = found[TOLD_SIZE]
        change = 100 * (mine / other - 1)
        told.append(
            f"{mine:.3f} {MEASURES[name]} ({peer} {other:.3f}: "
            f"{abs(change):.2f} % {'less' if change < 0 else 'more'})"
        )
    ahead = [sum(mine < other for mine, other, _ in found.values()) for found in changes.values()]
    text = (
        f"With {TOLD_SIZE:,} sub-words {ours}, needs {' and '.join(told)}; of four sizes it is "
        f"ahead in tokens at {ahead[0]} and in bits at {ahead[1]}"
    )
    if bounds:
        return f"{text}; no vocabulary of this size can go below {bounds[TOLD_SIZE]:.4f} tokens."
    return f"{text}."
