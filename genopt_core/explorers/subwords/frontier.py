"""Explorer of chapter 1: all tokenizers by vocabulary size, and the certified bound."""

import math
from typing import Any

from genopt_core import tables
from genopt_core.explorers.panels import compared, curve, padded, results
from genopt_core.figures import schema as figure
from genopt_core.figures.controls import Choice
from genopt_core.figures.registry import Preset, explorer
from genopt_core.figures.schema import Axis, Figure

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
    title="Vocabulary size against cost, all tokenizers",
    alt=(
        "Lines over the vocabulary size on a logarithmic axis, one for each trainer: tokens per "
        "word or bits per byte above, percent over the certified bound or over the best below. "
        "A shaded area marks what no vocabulary can reach."
    ),
    presets=(
        Preset("Tokens in training", {}),
        Preset(
            "Tokens held out",
            {"part": "held"},
            "The order hardly changes on text that nobody trained on.",
        ),
        Preset(
            "Bits held out",
            {"measure": "bits_per_byte", "part": "held"},
            "The likelihood is a code length: here the paper's objective is at home.",
        ),
        Preset(
            "No bound on bits",
            {"measure": "bits_per_byte"},
            "The cost of a sub-word changes with the vocabulary, so the certificate says nothing.",
            fails=True,
        ),
    ),
)
def subword_frontier(measure: str, part: str) -> Figure:
    """The stored comparison on English text, with the certified bound where there is one."""
    proved = measure == "tokens_per_word" and part == "train"
    bounds: dict[int, float] = dict(tables.load("subword_frontier")["bounds"]) if proved else {}
    rows = best_of_families(f"{part}_{measure}")
    sizes = sorted({row["size"] for row in rows})
    floor = bounds or {s: min(row["value"] for row in rows if row["size"] == s) for s in sizes}
    for row in rows:
        size, value = row["size"], row["value"]
        row["above"] = 100 * (value / floor[size] - 1) if size in floor else math.nan
        row["tip"] = f"{row['label']}, {size:,} sub-words: {value:.4f}"
        row["tip"] += f", {row['above']:.2f} % above" if size in floor else ""
    families = list(dict.fromkeys(row["family"] for row in rows))
    roles = {name: "accent" if _is_ours(name) else "muted" for name in families}
    across = Axis(
        "vocabulary size",
        type="log",
        domain=(min(sizes) / 1.15, max(sizes) * 1.15),
        ticks=sizes,
        tick_labels=[f"{size:,}" for size in sizes],
    )
    low, high = padded([*(row["value"] for row in rows), *bounds.values()])
    proof = []
    if bounds:
        at, least = zip(*sorted(bounds.items()), strict=True)
        name = "certified bound"
        proof = [figure.area(at, [low] * len(at), least, z=name), *curve(at, least, name)]
    panels = [
        results(
            rows,
            ("size", "value", "family"),
            roles,
            (across, Axis(MEASURES[measure], domain=(low, high))),
            below=proof,
            title=f"{MEASURES[measure].capitalize()}, {PARTS[part]}",
            series=roles | ({"certified bound": "warn"} if bounds else {}),
            height=280,
        )
    ]
    near = [row for row in rows if row["above"] <= SHOWN_PERCENT]
    if near:
        panels.append(
            results(
                near,
                ("size", "above", "family"),
                roles,
                (across, Axis("percent", domain=(-0.5, SHOWN_PERCENT))),
                above=[figure.rule(y=0)],
                title=f"Above the {'bound' if bounds else 'best of all'} (up to {SHOWN_PERCENT} %)",
                height=220,
                legend=False,
            )
        )
    return Figure(
        title=f"{MEASURES[measure].capitalize()} on the {PARTS[part]}",
        panels=panels,
        readout=_readout(rows, bounds, measure, part),
        cost=(
            "English: State of the Union and Moby-Dick, 2.05 million training words; where a "
            "trainer ran in several settings, its best at each size"
        ),
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


def _is_ours(name: str) -> bool:
    return name.startswith("ours")


def _readout(rows: list[dict[str, Any]], bounds: dict[int, float], measure: str, part: str) -> str:
    def best(own: bool) -> tuple[float, str]:
        return min(
            (row["value"], row["family"])
            for row in rows
            if row["size"] == size and _is_ours(row["family"]) == own
        )

    sizes: dict[str, set[int]] = {}
    for row in rows:
        sizes.setdefault(row["family"], set()).add(row["size"])
    size = max(set.intersection(*sizes.values()))  # at which all are there
    (value, peer), (mine, name) = best(own=False), best(own=True)
    text = (
        f"With {size:,} sub-words the best peer, {peer}, needs {value:.4f} {MEASURES[measure]} and "
        f"{name.replace(', ', ' (')}) {mine:.4f}, {compared(mine, value, 2)}"
    )
    if size in bounds:
        gap = 100 * (min(mine, value) / bounds[size] - 1)
        return text + (
            f"; no vocabulary can go below {bounds[size]:.4f}, so the better one is at most "
            f"{gap:.2f} % from the optimum."
        )
    if measure == "bits_per_byte":
        return text + "; code length has no certified bound."
    return text + "; the certificate holds for the training text only."
