"""Explorer of chapter 1: language models on each tokenizer, as intervals against BPE."""

from collections.abc import Mapping, Sequence
from typing import Any

from genopt_core import tables
from genopt_core.explorers.panels import padded, signed
from genopt_core.figures import schema as figure
from genopt_core.figures.controls import Choice
from genopt_core.figures.registry import Preset, explorer
from genopt_core.figures.schema import Axis, Figure, Panel

LABELS = {
    "hf_bpe": "BPE",
    "sp_counts": "sentencepiece",
    "ours_likelihood": "ours, likelihood",
    "ours_weight_5": "ours, λ = 5",
    "ours_weight_10": "ours, λ = 10",
}
COMPARED = [name for name in LABELS.values() if name != "BPE"]
SETTINGS = {
    "unigram": "no context (the code of single tokens)",
    "ngram tokens": "Kneser-Ney, 1.5 million tokens",
    "ngram bytes": "Kneser-Ney, 5 MB of text",
    "lm tokens": "transformer, 750,000 tokens",
    "lm long": "transformer, 2,250,000 tokens",
}
SHORT = {
    "unigram": "no context",
    "ngram tokens": "Kneser-Ney, tokens",
    "ngram bytes": "Kneser-Ney, text",
    "lm tokens": "transformer",
    "lm long": "transformer, longer",
}
UNITS = {"bits": "bits per byte", "percent": "percent"}


@explorer(
    "subword-models",
    Choice(
        "setting",
        "Model and budget",
        SETTINGS,
        start="ngram tokens",
        help="Equal tokens are equal computation for everybody, equal text is equal reading.",
    ),
    Choice("unit", "Difference in", UNITS, help="Bits per byte of held-out text, or percent."),
    title="Does a likelier code make a better language model?",
    alt=(
        "Two panels of intervals around a line at zero, which is BPE. In the first one row for "
        "each tokenizer under the chosen model and budget, with its 95 % interval. In the second "
        "one row for each model and budget: how far every tokenizer is from BPE there, in percent."
    ),
    presets=(
        Preset(
            "The code of the paper",
            {"setting": "unigram"},
            "Without context the likelihood is far ahead: for this it was made.",
        ),
        Preset("Context, equal computation", {}),
        Preset(
            "A short training",
            {"setting": "lm tokens", "unit": "percent"},
            "A network that has read little knows little more than how frequent tokens are.",
        ),
        Preset(
            "With context the lead of the likelihood is gone",
            {"setting": "ngram bytes"},
            "Its interval contains zero; only a token penalty stays ahead of BPE.",
            fails=True,
        ),
    ),
)
def subword_models(setting: str, unit: str) -> Figure:
    """Stored bits per byte of three models, and differences seed by seed."""
    rows = {row["by"]: row for row in _rows(setting)}
    bpe = rows["BPE"]
    scale = 100 / bpe["bits"] if unit == "percent" else 1.0
    shown = [rows[name] for name in COMPARED if name in rows]
    best = min(shown, key=lambda row: row["difference"])
    return Figure(
        title=f"Against BPE: {SETTINGS[setting]}",
        panels=[_intervals_panel(shown, scale, unit), _lead_panel(setting)],
        readout=(
            f"{SETTINGS[setting][0].upper()}{SETTINGS[setting][1:]}: BPE needs {bpe['bits']:.3f} "
            f"bits per byte and {best['by']}, {best['bits']:.3f}, "
            f"{_said(best, bpe['bits'])}; ours trained for the likelihood alone "
            f"{_verdict(rows['ours, likelihood'])}."
        ),
        cost=(
            f"All tokenizers have {tables.load('subword_models')['size']:,} sub-words; "
            f"{_seeds(bpe)}, scored on the same 80,000 held-out words"
        ),
    )


def _rows(setting: str) -> list[dict[str, Any]]:
    table = tables.load("subword_models")
    rows = [
        dict(zip(table["columns"], row, strict=True), setting=setting)
        for row in table["settings"][setting]
    ]
    return [row | {"by": LABELS[row["tokenizer"]]} for row in rows]


def _said(row: Mapping[str, Any], base: float) -> str:
    half = row["half_interval"]
    error = "" if half is None else f" ± {100 * half / base:.1f}"
    less = "less" if row["difference"] < 0 else "more"
    return f"{100 * abs(row['difference']) / base:.1f}{error} % {less}"


def _verdict(row: Mapping[str, Any]) -> str:
    difference, half = row["difference"], row["half_interval"]
    told = signed(difference, 4) + ("" if half is None else f" ± {half:.4f}")
    if half is not None and abs(difference) <= half:
        return f"is level with it ({told})"
    return f"is {'ahead' if difference < 0 else 'behind'} of it ({told})"


def _seeds(row: Mapping[str, Any]) -> str:
    if row["seeds"] == 1:
        return "one run, so without an interval"
    return f"{row['seeds']} seeds, ± half of the 95 % interval of the difference, seed by seed"


def _intervals_panel(rows: Sequence[Mapping[str, Any]], scale: float, unit: str) -> Panel:
    names = [row["by"] for row in rows]
    values = [scale * row["difference"] for row in rows]
    halves = [scale * (row["half_interval"] or 0) for row in rows]
    ends = [v + sign * h for v, h in zip(values, halves, strict=True) for sign in (-1, 1)]
    z = ["ours" if name.startswith("ours") else "peer" for name in names]
    tip = [
        f"{row['by']}: {row['bits']:.4f} bits per byte, {signed(value, 4)}"
        + (f" ± {half:.4f} {UNITS[unit]}" if half else f" {UNITS[unit]}, one run")
        for row, value, half in zip(rows, values, halves, strict=True)
    ]
    return Panel(
        [
            figure.rule(x=0, label="BPE"),
            figure.link(ends[::2], names, ends[1::2], names, z=z, width=3),
            figure.dot(values, names, z=z, size=9, tip=tip),
        ],
        x=Axis(f"{UNITS[unit]} more than BPE", domain=padded([0, *ends])),
        y=Axis(type="band", domain=COMPARED),
        title="This model and budget, with 95 % intervals",
        series={"ours": "accent", "peer": "c2"},
        height=160,
        legend=False,
    )


def _lead_panel(setting: str) -> Panel:
    rows = []
    for name in SETTINGS:
        found = _rows(name)
        base = next(row["bits"] for row in found if row["by"] == "BPE")
        rows += [row | {"percent": 100 * row["difference"] / base} for row in found]
    rows = [row for row in rows if row["by"] != "BPE"]
    return Panel(
        [
            figure.rule(x=0),
            figure.dot(
                [row["percent"] for row in rows],
                [SHORT[row["setting"]] for row in rows],
                z=[row["by"] for row in rows],
                size=[11 if row["setting"] == setting else 6 for row in rows],
                tip=[
                    f"{SHORT[r['setting']]}, {r['by']}: {signed(r['percent'], 2)} %" for r in rows
                ],
            ),
        ],
        x=Axis("% more than BPE", domain=padded([0, *(row["percent"] for row in rows)])),
        y=Axis(type="band", domain=list(SHORT.values())),
        title="All models and budgets (large: this one)",
        series={
            "ours, likelihood": "accent",
            "ours, λ = 5": "c1",
            "ours, λ = 10": "c3",
            "sentencepiece": "c2",
        },
        height=190,
    )
