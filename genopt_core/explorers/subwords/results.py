"""Reports of the stored comparison of tokenizers (chapter 1).

``book/experiments/subwords`` measured; nothing here trains.  Each report gives rows for
`genopt_core.explorers.reports.table`.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from genopt_core import tables
from genopt_core.explorers.reports import Estimate, Row, read

BITS, TOKENS = "held_bits_per_byte", "held_tokens_per_word"
REFERENCE = "hf_unigram_front"
EXTRA = {
    "counting": "counting the words, in Python",
    "ours_exported": "ours, exported to tokenizers",
    "ours_in_hf": "ours, its model behind the peers' splitting",
}
LANGUAGES = {
    "en": "English",
    "tr": "Turkish",
    "fi": "Finnish",
    "de": "German",
    "hi": "Hindi",
    "ja": "Japanese",
    "zh": "Chinese",
}
CHANGES = ("bits, change", "tokens, change", "ours, ▁ at the end", "ours, ▁ in front")
FORMATS = {
    **dict.fromkeys(CHANGES, "+.2%"),
    "above the bound": ".2%",
    "above certify's bound": ".2%",
    "above the better bound": ".2%",
    "seconds": ".1f",
    "MB": ".0f",
    "by the clock": ".2f",
    "in processor time": ".2f",
    "MB a second": ".1f",
    "with context": ".4f",
    "without context": ".2f",
    "to BPE": "+.4f",
    "to sentencepiece": "+.4f",
}


def _quality() -> Any:
    return read("subwords_quality.json", "subwords-quality/1")


def _label(name: str) -> str:
    return EXTRA.get(name) or str(_quality()["contestants"][name]["label"])


def _rows(corpus: str, size: int | None = None) -> list[Row]:
    return [
        row
        for row in tables.records(_quality())
        if row["corpus"] == corpus and size in (None, row["size"])
    ]


def _is_ours(name: str) -> bool:
    return name.startswith("ours")


def standings(size: int) -> list[Row]:
    """Every tokenizer on the held-out English text, the fewest bits first."""
    return [
        {
            "bits per byte": row[BITS],
            "tokens per word": row[TOKENS],
            "tokenizer": _label(row["contestant"]),
        }
        for row in sorted(_rows("english", size), key=lambda row: row[BITS])
    ]


def against_the_best_peer(corpus: str, size: int, names: Sequence[str]) -> list[Row]:
    """Some of ours against the best peer of each count, which need not be the same one."""
    rows = {row["contestant"]: row for row in _rows(corpus, size)}
    best = {m: min(rows[n][m] for n in rows if not _is_ours(n)) for m in (BITS, TOKENS)}
    return [
        {
            "bits, change": rows[name][BITS] / best[BITS] - 1,
            "tokens, change": rows[name][TOKENS] / best[TOKENS] - 1,
            "tokenizer": _label(name),
        }
        for name in names
        if name in rows
    ]


def english_against_the_best_peer() -> list[Row]:
    """All sizes of the English text, ours at best effort."""
    ours = [n for n in _quality()["contestants"] if _is_ours(n)]
    best = [n for n in ours if n not in ("ours_fast", "ours_standard")]
    sizes = sorted({r["size"] for r in _rows("english") if not _is_ours(r["contestant"])})
    return [
        {"size": size, **row}
        for size in sizes
        for row in against_the_best_peer("english", size, best)
    ]


def languages_against_the_best_peer(name: str, size: int = 4000) -> list[Row]:
    """One of ours on the words drawn for each language."""
    drawn = (language for language in LANGUAGES if _rows(f"words-{language}", size))
    return [
        {"language": LANGUAGES[language], **row}
        for language in drawn
        for row in against_the_best_peer(f"words-{language}", size, [name])
    ]


def gaps(size: int) -> list[Row]:
    """Tokens above the certified bound, each vocabulary used as well as it can be."""
    column = "fewest_gap_percent"
    rows = [row for row in _rows("english", size) if row[column] is not None]
    return [
        {"above the bound": row[column] / 100, "tokenizer": _label(row["contestant"])}
        for row in sorted(rows, key=lambda row: row[column])
    ]


def our_gaps() -> list[Row]:
    """Our fewest-tokens vocabulary above `certify`'s bound and above the better of two."""
    tokens = {
        r["size"]: r["train_tokens"] for r in _rows("english") if r["contestant"] == "ours_tokens"
    }
    bounds = tables.records(_quality(), "bounds", "bound_columns")
    return [
        {
            "size": bound["size"],
            "above certify's bound": tokens[bound["size"]] / bound["certify_tokens"] - 1,
            "above the better bound": tokens[bound["size"]] / bound["bound_tokens"] - 1,
        }
        for bound in sorted(bounds, key=lambda bound: bound["size"])
        if bound["corpus"] == "english"
    ]


def _timing(part: str) -> list[Row]:
    summary = read("subwords_timing.json", "subwords-timing/1")["summary"]
    return [entry for entry in summary if entry["part"] == part]


def training_costs(size: int = 8000) -> list[Row]:
    """Seconds and memory of training, and ratios to Unigram, none where they were not measured."""

    def ratio(entry: Row, kind: str) -> float | None:
        if entry["contestant"] == REFERENCE:
            return 1.0
        found = entry.get(f"{kind}over_{REFERENCE}")
        return found and float(found[0])

    entries = [entry for entry in _timing("training") if entry["size"] == size]
    return [
        {
            "seconds": entry["seconds"][0],
            "MB": entry["peak_mb"],
            "by the clock": ratio(entry, ""),
            "in processor time": ratio(entry, "cpu_"),
            "tokenizer": _label(entry["contestant"]),
        }
        for entry in sorted(entries, key=lambda entry: entry["seconds"][0])
    ]


def growth_figure() -> Any:
    """Processor time of training over the number of distinct words, with fitted powers."""
    from genopt_core.figures.plots import subplots  # matplotlib is for pages with a kernel only

    drawing, axes = subplots(figsize=(6.4, 3.6))
    entries = _timing("growth")
    for name in dict.fromkeys(entry["contestant"] for entry in entries):
        mine = [entry for entry in entries if entry["contestant"] == name]
        words = [int(entry["corpus"].removeprefix("scale-")) for entry in mine]
        seconds = [entry["cpu_seconds"] for entry in mine]
        power = np.polyfit(np.log(words), np.log(seconds), 1)[0]
        axes.plot(words, seconds, marker="o", label=f"{_label(name)}: power {power:.2f}")
    axes.set(xscale="log", yscale="log", xlabel="distinct words", ylabel="CPU seconds")
    axes.set(title="Training time up to ten times the words", ylim=(1, 5000))
    axes.legend(fontsize=8)
    return drawing


def encoding_speeds() -> list[Row]:
    """Megabytes of the held-out text that are encoded in a second, on one thread."""
    return [
        {"MB a second": entry["mb_per_second"], "tokenizer": _label(entry["contestant"])}
        for entry in sorted(_timing("encoding"), key=lambda entry: -entry["mb_per_second"])
    ]


def languages() -> list[Row]:
    """Bits per byte of ours against the best of three peers, by where the word's marker stands."""
    stored = tables.load("subword_languages")
    column = stored["measures"].index(BITS)
    rows = []
    for language, entry in stored["languages"].items():
        bits = {name: numbers[column] for name, numbers in entry["numbers"].items()}
        peer = min(bits[name] for name in bits if not _is_ours(name))
        changes = (bits[name] / peer - 1 for name in ("ours_likelihood", "ours_front"))
        rows.append(
            {"language": LANGUAGES[language], **dict(zip(CHANGES[2:], changes, strict=True))}
        )
    return rows


def _minus(entry: Row, reference: str) -> Estimate | None:
    found = entry.get(f"minus_{reference}")
    return found and Estimate(found["mean"], found["half_interval"])


def context_models(size: int = 1000) -> list[Row]:
    """Bits per byte of a Kneser-Ney model on each tokenizer, and differences seed by seed."""
    summary = read("subwords_ngram.json", "subwords-ngram/1")[f"summary_{size}"]
    without = {row["contestant"]: row[BITS] for row in _rows("english", size)}
    order = ("tokens", "bytes")
    return [
        {
            "equal": entry["budget"],
            "with context": entry["mean"],
            "without context": without[entry["contestant"]],
            "to BPE": _minus(entry, "hf_bpe"),
            "to sentencepiece": _minus(entry, "sp_counts"),
            "tokenizer": _label(entry["contestant"]),
        }
        for entry in sorted(summary, key=lambda e: (order.index(e["budget"]), e["mean"]))
    ]


def neural_models() -> list[Row]:
    """Bits per byte of a small transformer on each tokenizer."""
    stored = read("subwords_lm.json", "subwords-lm/1")
    return [
        {
            "training tokens": int(stored["budgets"][entry["budget"]].split()[0]),
            "with context": entry["mean"],
            "to BPE": _minus(entry, "hf_bpe"),
            "seeds": len(entry["seeds"]),
            "tokenizer": _label(entry["contestant"]),
        }
        for entry in stored["summary"]
    ]
