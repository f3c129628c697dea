"""Reports of the stored measurements of caches (chapter 5).

``book/experiments/kvcache`` measured; nothing here quantizes.  Each report gives rows for
`genopt_core.explorers.reports.table`; ± stands for one standard error in all of them.
"""

import math
import re
from statistics import fmean
from typing import Any

from genopt_core.explorers.reports import Estimate, Row, Spread, one_of, read

LENGTHS = (2048, 4096)
TOLERANCE = 0.02  # bits that a peer may have beyond the budget
AIMS = {"2.35": 1.5, "2.85": 0.5, "4.3": 0.2}  # rise of perplexity in percent
FRESH = 3  # texts from this one on were scored by no earlier design
CACHES = ("KIVI-2", "SAQ 16/8/4/2", "SAQ+ 16/8/4/2", "SAQ+ 16/4/4/3/3/2")
GROUPS = (("grid", 16), ("grid", 32), ("grid", 64), ("rotated", 64))
TEXTS = (
    (r"^sotu (.+)", r"addresses, \1"),
    (r"^code \((\w+) [^ ]+ .*\)$", r"code of \1"),
    (r"^moby-dick", "Moby-Dick"),
)
DESIGNS = (
    (r"^KIVI-(\d)", r"KIVI, \1 bits"),
    (r"^hqq int(\d)", r"HQQ, \1 bits"),
    (r"^quanto int(\d)", r"Quanto, \1 bits"),
    (r"^rotated flat K(\d) V(\d)", r"flat rotation, keys \1 and values \2 bits"),
    (r"^rotated flat (\d)", r"flat rotation, \1 bits"),
    (r"^SAQ\+ chunk (\d+)", r"SAQ+, chunks of \1"),
    (r"( G(\d+))", r", groups of \2"),
    (r" R\d+", ""),  # the window of full precision, 128 tokens for all of them
    (r",? K (\S+) V (\S+)", r", keys \1, values \2"),
    (r", K (16/8) in", r", keys \1 in"),
    (r"^(full|DynamicCache)$", "full precision"),
)
FORMATS = {
    "error": ".3f",
    "after the ladder": ".4f",
    "coded once": ".4f",
    "bits more": ".4f",
    "attention": ".4f",
    "correlation in a group": ".2f",
    **dict.fromkeys(("limit bits", "held bits", "ours", "best peer", "sum", "whole cache"), ".2f"),
    **dict.fromkeys(("perplexity, %", "ours, %", "best peer, %", "fresh texts, %"), "+.2f"),
    **dict.fromkeys(("divergence", "over full cache"), ".2f"),
    "times as long": ".1f",
    "milliseconds": ".0f",
    "seconds": ".1f",
}


def design_label(name: str) -> str:
    """A design in words.

    >>> design_label("KIVI-2 G64 R128")
    'KIVI, 2 bits, groups of 64'
    >>> design_label("SAQ+ K 16/4/4/3 V 16/4/3")
    'SAQ+, keys 16/4/4/3, values 16/4/3'
    """
    return _replaced(name, DESIGNS)


def text_label(name: str) -> str:
    """A text in words.

    >>> text_label("code (torch 2.13.0 nn.Module)")
    'code of torch'
    """
    return _replaced(name, TEXTS)


def _replaced(name: str, rules: tuple[tuple[str, str], ...]) -> str:
    for pattern, words in rules:
        name = re.sub(pattern, words, name)
    return name


# ------------------------------------------------------------------ the objections


def _fixture(question: str) -> Any:
    return read("kv_sensitivity.json", "kv-sensitivity/1")["fixture"][question]


def age_figure() -> Any:
    """The output error that the chunk of one age causes alone, for four caches."""
    from genopt_core.figures.plots import subplots  # matplotlib is for pages with a kernel only

    drawing, axes = subplots(figsize=(6.4, 3.4))
    for row in _fixture("by age"):
        if row["cache"] in CACHES:
            error = row["error of one age"]
            label = f"{row['cache']}: {100 * row['error']:.1f} % in all"
            axes.plot(range(1, len(error) + 1), error, marker="o", label=label)
    axes.set(xlabel="age, chunks of 32 tokens", ylabel="error", yscale="log")
    axes.set_title("Output error that one age alone causes")
    axes.legend()
    return drawing


def requantized() -> list[Row]:
    """Keys and values that went down a ladder against those coded once, with four sinks."""
    return [
        {
            "codec": row["codec"],
            "ladder": row["ladder"],
            "after the ladder": row["error"],
            "coded once": row["coded once"],
        }
        for row in _fixture("nested (12)")
        if (row["sides"], row["sink"]) == ("both", 4)
    ]


def equal_memory() -> list[Row]:
    """Stairs against flat at equal bytes; mean and range of two controls."""

    def control(entry: Row) -> Spread:
        return Spread(entry["mean"], entry["least"], entry["largest"])

    return [
        {
            "codec": row["codec"],
            "design": row["design"],
            "error": row["error"],
            "random ages": control(row["same widths at random ages"]),
            "ages shuffled": control(row["error with ages shuffled"]),
        }
        for row in _fixture("equal memory (13)")
    ]


def sinks() -> list[Row]:
    """Error with the first tokens in full precision, and their bits a number at 2048 tokens."""
    rows = _fixture("sinks (14)")
    errors = {(row["codec"], row["sink"]): row["error"] for row in rows}
    return [
        {
            "sinks": row["sink"],
            "grid": row["error"],
            "rotated": errors["rotated", row["sink"]],
            "bits more": row["bits per element more at 2048"],
        }
        for row in rows
        if row["codec"] == "grid"
    ]


def weight_on_the_first() -> list[Row]:
    """Attention on the first tokens."""
    (key,) = (key for key in _fixture("mass by age") if key.startswith("weight on the first"))
    counts = map(int, re.findall(r"\d+", key))
    weights = _fixture("mass by age")[key]
    return [
        {"first tokens": count, "attention": weight}
        for count, weight in zip(counts, weights, strict=True)
    ]


def sharing() -> list[Row]:
    """Error of a head, and how alike errors are, by the number of key/value heads."""
    return [
        {
            "bits": row["bits"],
            "key/value heads": row["kv heads"],
            "error": row["error of a head"],
            "correlation in a group": row["correlation of errors in a group"],
        }
        for row in _fixture("sharing (15)")
    ]


def metadata_figure() -> Any:
    """Output error over bits with their metadata, by group size."""
    from genopt_core.figures.plots import subplots  # matplotlib is for pages with a kernel only

    drawing, axes = subplots(figsize=(6.4, 3.2))
    rows = _fixture("metadata (16)")
    for codec, group in GROUPS:
        line = [row for row in rows if (row["codec"], row["group size"]) == (codec, group)]
        x, y = ([row[key] for row in line] for key in ("bits with metadata", "error"))
        axes.plot(x, y, marker="o", label=f"{codec}, groups of {group}")
    axes.set(xlabel="bits per number, metadata included", ylabel="error", yscale="log")
    axes.set_title("2, 3 and 4 bits with their metadata (flat, 4 sinks)")
    axes.legend()
    return drawing


# ------------------------------------------------------------------ perplexity and divergence


def _quality() -> Any:
    return read("kv_quality.json", "kv-quality/2")


def sums_and_wholes() -> list[Row]:
    """Sum of the losses of all layers against that of the whole cache, thousandths of a nat."""
    stored = read("kv_layers.json", "kv-layers/1")
    index = {"/".join(map(str, ladder)): i for i, ladder in enumerate(stored["ladders"])}
    rows = []
    for budget, sides in stored["chosen"].items():
        for text, costs in stored["costs"].items():
            total = sum(
                keys[index[key]] + values[index[value]]
                for (keys, values), key, value in zip(
                    costs, sides["keys"], sides["values"], strict=True
                )
            )
            whole = _quality()["rows"][f"{text} @2048"][f"SAQ+ by layer, {budget} bits"]["kl"]
            rows.append(
                {
                    "budget": budget,
                    "text": text_label(text),
                    "sum": 1e3 * total,
                    "whole cache": 1e3 * whole,
                }
            )
    return rows


def _scored(length: int) -> list[Row]:
    one_of("length", length, LENGTHS)
    return [e for e in _quality()["summary"] if e["length"] == length and e["design"] != "full"]


def scores(length: int) -> list[Row]:
    """Bits, rise of perplexity and divergence of every design, means over the texts."""
    chosen = set(_quality()["chosen"].values())
    return [
        {
            "limit bits": e["limit bits"],
            "held bits": e["held bits"],
            "perplexity, %": Estimate(e["mean rise"], e["mean rise se"]),
            "divergence": Estimate(1e3 * e["mean kl"], 1e3 * e["mean kl se"]),
            "chosen": "*" if e["design"] in chosen else "",
            "design": design_label(e["design"]),
        }
        for e in _scored(length)
    ]


def _chosen(budget: str) -> Row:
    name = _quality()["chosen"][budget]
    (found,) = (e for e in _scored(2048) if e["design"] == name)
    return found


def by_text() -> list[Row]:
    """Each chosen design against the best peer at no more bits, text by text.

    The peer with the least divergence and the one with the least perplexity need not be the same;
    named is the second.  The paper's staircase is not counted as a peer.
    """
    peers = [e for e in _scored(2048) if not e["family"].startswith("SAQ")]
    rows = []
    for budget in _quality()["chosen"]:
        ours = _chosen(budget)
        fit = [e for e in peers if e["limit bits"] <= float(budget) + TOLERANCE]
        for text in ours["kl"]:
            nearest = min(e["kl"][text] for e in fit)
            lowest = min(fit, key=lambda e: e["rise"][text])
            rows.append(
                {
                    "budget": budget,
                    "text": text_label(text),
                    "ours": 1e3 * ours["kl"][text],
                    "best peer": 1e3 * nearest,
                    "ours, %": ours["rise"][text],
                    "best peer, %": lowest["rise"][text],
                    "peer": design_label(lowest["design"]),
                }
            )
    return rows


def aims() -> list[Row]:
    """Rise of perplexity of the chosen designs on all texts and on those no design had met."""
    rows = []
    for budget, aim in AIMS.items():
        entry = _chosen(budget)
        fresh = list(entry["rise"])[FRESH:]
        error = math.hypot(*(entry["rise se"][text] for text in fresh)) / len(fresh)
        mean = fmean(entry["rise"][text] for text in fresh)
        rows.append(
            {
                "budget": budget,
                "aim, %": f"at most {aim}",
                "perplexity, %": Estimate(entry["mean rise"], entry["mean rise se"]),
                "fresh texts, %": Estimate(mean, error),
            }
        )
    return rows


# ------------------------------------------------------------------ time


def _speed() -> Any:
    return read("kv_speed.json", None)


def restoring() -> list[Row]:
    """Attention after restoring keys and values, over attention in rotated space, by width."""
    return [
        {"bits": row["bits"], "times as long": row["naive over rotated"]}
        for row in _speed()["kernels"]
    ]


def decoding() -> list[Row]:
    """Milliseconds of a step of the whole model, and over that of the full cache."""
    model = _speed()["model"]
    return [
        {
            "milliseconds": model["least ms"][name],
            "over full cache": ratio,
            "cache": design_label(name),
        }
        for name, ratio in model["over DynamicCache"].items()
    ]


def reading() -> list[Row]:
    """Seconds to read a prompt."""
    return [
        {"seconds": seconds, "cache": design_label(name)}
        for name, seconds in _speed()["prefill"]["seconds"].items()
    ]


def stepping_share() -> float:
    """The share of a decoding step that stepping down takes."""
    return float(_speed()["model"]["stepping"]["share of a decode step"])
