"""Reports of the stored measurements of caches (chapter 5).

``book/experiments/kvcache`` measured; nothing here quantizes.  Each report gives rows for
`genopt_core.explorers.reports.table`; ± stands for one standard error in all of them.
"""

import math
import re
from collections.abc import Sequence
from statistics import correlation, fmean, stdev
from typing import Any

from genopt_core.checks import one_of
from genopt_core.explorers.panels import counted
from genopt_core.explorers.reports import Column, Estimate, Row, Spread, read
from genopt_core.kvcache import design_bits, limit_bits, metadata_bits, parse_ladder
from genopt_core.kvcache.ladder import SIDES

LENGTHS = (2048, 4096)
TOLERANCE = 0.02  # bits that a peer may have beyond the budget
AIMS = {"2.35": 1.5, "2.85": 0.5, "4.3": 0.2}  # rise of perplexity in percent
FRESH = 3  # texts from this one on were scored by no earlier design
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
COLUMNS = {
    "error": Column(".2f", "%"),
    "error beside it": Column(".2f", "%"),
    "limit bits": ".2f",
    "held bits": ".2f",
    "perplexity": Column("+.2f", "%"),
    "divergence": Column(".2f", "10⁻³ nat", best="least"),
    "ours": Column(".2f", "10⁻³ nat"),
    "best peer": Column(".2f", "10⁻³ nat"),
    "ours, perplexity": Column("+.2f", "%"),
    "peer's perplexity": Column("+.2f", "%"),
    "fresh texts": Column("+.2f", "%"),
    "sum": Column(".2f", "10⁻³ nat"),
    "whole cache": Column(".2f", "10⁻³ nat"),
    **{f"{length:,} tokens": ".2f" for length in (512, 1024, 2048, 4096)},
    "limit": Column(".2f", "bits"),
    "over home": ".2f",
    "milliseconds": ".1f",
    "over full precision": ".2f",
}
KINDS = {**COLUMNS, "divergence": Column(".2f", "10⁻³ nat")}
"""Kinds of text are no contestants: none is the best."""


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


def objections() -> list[Row]:
    """The error of attention's output under each objection, beside what it is compared with."""
    return [
        {"objection": objection, **row}
        for objection, rows in (
            ("quantizing again", _requantized()),
            ("equal bytes", _equal_memory()),
            ("sinks", _sinks()),
            ("shared heads", _sharing()),
            ("metadata", _metadata()),
        )
        for row in rows
    ]


def _row(design: str, codec: str, error: float, beside: str, other: Sequence[float] = ()) -> Row:
    """Errors in percent; ``other`` is one of them, or mean, least and largest of several."""
    percent = [100 * value for value in other]
    return {
        "design": design,
        "code": codec,
        "error": 100 * error,
        "beside it": beside,
        "error beside it": Spread(*percent) if len(percent) > 1 else next(iter(percent), None),
    }


def _requantized() -> list[Row]:
    """Keys and values that went down a ladder, with four sinks."""
    return [
        _row(row["ladder"], row["codec"], row["error"], "coded once", [row["coded once"]])
        for row in _fixture("nested (12)")
        if (row["sides"], row["sink"]) == ("both", 4)
    ]


def _equal_memory() -> list[Row]:
    """Stairs against flat at equal bytes; mean and range of two controls."""
    controls = {
        "random ages": "same widths at random ages",
        "tokens shuffled": "error with ages shuffled",
    }
    return [
        _row(
            row["design"],
            row["codec"],
            row["error"],
            name,
            [row[key][part] for part in ("mean", "least", "largest")],
        )
        for row in _fixture("equal memory (13)")
        for name, key in controls.items()
    ]


def _sinks() -> list[Row]:
    """With the first tokens in full precision, and their bits a number at 2048 tokens."""
    rows = _fixture("sinks (14)")
    none = {row["codec"]: row["error"] for row in rows if row["sink"] == 0}
    return [
        _row(
            f"{counted(row['sink'], 'exact token')}, "
            f"{row['bits per element more at 2048']:.2f} bits more",
            row["codec"],
            row["error"],
            "no exact token",
            [none[row["codec"]]],
        )
        for row in rows
        if row["sink"]
    ]


def _sharing() -> list[Row]:
    """A head, and how alike errors are, by the number of key/value heads."""
    return [
        _row(
            f"{counted(row['kv heads'], 'key/value head')}, {row['bits']} bits",
            "rotated",
            row["error of a head"],
            f"correlation in a group {row['correlation of errors in a group']:.2f}",
        )
        for row in _fixture("sharing (15)")
    ]


def _metadata() -> list[Row]:
    """Flat caches by group size."""
    return [
        _row(
            f"{row['code bits']} bits, groups of {row['group size']}",
            row["codec"],
            row["error"],
            f"{row['bits with metadata']:.2f} bits with metadata",
        )
        for row in _fixture("metadata (16)")
    ]


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
    one_of(length, "length", LENGTHS)
    return [e for e in _quality()["summary"] if e["length"] == length and e["design"] != "full"]


def scores(length: int) -> list[Row]:
    """Bits, rise of perplexity and divergence of every design, means over the texts."""
    return [
        {
            "design": design_label(e["design"]),
            "limit bits": e["limit bits"],
            "held bits": e["held bits"],
            "perplexity": Estimate(e["mean rise"], e["mean rise se"]),
            "divergence": Estimate(1e3 * e["mean kl"], 1e3 * e["mean kl se"]),
        }
        for e in _scored(length)
    ]


HELD_AT = (512, 1024, 2048, 4096)
"""Lengths at which bits are counted."""
HEAD, SINK = 64, 4
"""Channels of a head and exact first tokens, of the model and the caches here."""


def held() -> list[Row]:
    """Bits a number that caches hold at a length, mean over one chunk's lengths up to it.

    Counted (book, eq. kv-memory); what is in full precision at 16 bits.
    """
    stored = read("kv_layers.json", "kv-layers/1")["chosen"]
    caches = {
        f"by layer, {budget} bits": (stored[budget]["keys"], stored[budget]["values"], 128)
        for budget in ("2.35", "2.85", "4.3")
    }
    caches |= {f"16/4, chunks of {chunk}": (["16/4"], ["16/4"], chunk) for chunk in (128, 32)}
    rows = []
    for name, (keys, values, chunk) in caches.items():
        pairs = [
            (parse_ladder(key), parse_ladder(value))
            for key, value in zip(keys, values, strict=True)
        ]
        of_keys, of_values = (
            metadata_bits("rotated", side, dim=HEAD, chunk=chunk) for side in SIDES
        )
        row: Row = {"cache": name}
        for length in HELD_AT:
            row[f"{length:,} tokens"] = fmean(
                design_bits(
                    *pair,
                    n,
                    chunk,
                    key_metadata=of_keys,
                    value_metadata=of_values,
                    sink=SINK,
                )
                for pair in pairs
                for n in range(length - chunk + 1, length + 1)
            )
        limits = [
            limit_bits(*pair, key_metadata=of_keys, value_metadata=of_values) for pair in pairs
        ]
        rows.append(row | {"limit": fmean(limits)})
    return rows


def chosen() -> list[str]:
    """What tables call the designs that were chosen for a budget."""
    return [design_label(name) for name in _quality()["chosen"].values()]


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
                    "ours, perplexity": ours["rise"][text],
                    "peer's perplexity": lowest["rise"][text],
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
                "aim": f"at most {aim} %",
                "perplexity": Estimate(entry["mean rise"], entry["mean rise se"]),
                "fresh texts": Estimate(mean, error),
            }
        )
    return rows


# ------------------------------------------------------------------ old tokens that are copied

RECALL_TEXTS = {
    "recall": "recall, first",
    "second": "recall, second",
    "prose": "moby-dick",
    "code": "code (transformers 5.23.0 cache_utils)",
    "messages": "messages, German",
}
"""Texts as the figure calls them, and as they are stored."""
CODES = {"plain": "", "balanced": ", balanced", "with recall": ", with recall, balanced"}
"""How names end of designs with plain codes, with maps, and with ladders that met recall too."""
RECALL_DESIGNS = {
    "SAQ+ 16/4/4/4/4/3/3/2": "16/4/4/4/4/3/3/2, 2.31 bits",
    "SAQ+ by layer, 2.35 bits": "by layer, 2.35 bits",
    "SAQ+ by layer, 2.85 bits": "by layer, 2.85 bits",
    "SAQ+ by layer, 4.3 bits": "by layer, 4.3 bits",
    "SAQ+ 16/4": "16/4, 4.31 bits",
    "KIVI-4 G64 R128": "KIVI, 4.5 bits",
    "hqq int4 G64 R128": "HQQ, 4.5 bits",
}


def _recall() -> Any:
    return read("kv_recall.json", "kv-recall/1")["rows"]


def recall_rows(text: str) -> list[Row]:
    """What each design loses on a text with each of `CODES`, None where it was not measured."""
    stored = _recall()[text]
    # prose was scored with plain codes before
    older = _quality()["rows"].get(f"{text} @2048", {})
    rows = []
    for name, label in RECALL_DESIGNS.items():
        found = {
            kind: stored.get(f"{name}{end}") or older.get(f"{name}{end}")
            for kind, end in CODES.items()
        }
        measured = [row for row in found.values() if row]
        if measured:
            losses = {k: _losses(row, stored["full"]["nll"]) for k, row in found.items()}
            limit = measured[0]["limit bits"]
            rows.append({"label": label, "ours": name.startswith("SAQ"), "limit": limit} | losses)
    return rows


def _losses(row: Row | None, full: float) -> dict[str, float] | None:
    """Rise of perplexity in percent and divergence in thousandths of a nat, with their errors."""
    if row is None:
        return None
    return {
        "rise": 100 * math.expm1(row["nll"] - full),
        "rise_se": 100 * row["nll se"],
        "divergence": 1e3 * row["kl"],
        "divergence_se": 1e3 * row["kl se"],
    }


def recall() -> list[Row]:
    """All measured designs on all these texts."""
    rows: list[Row] = []
    for name, text in RECALL_TEXTS.items():
        for row in recall_rows(text):
            for kind in CODES:
                if row[kind]:
                    found = row[kind]
                    rows.append(
                        {
                            "design": row["label"],
                            "codes": kind if row["ours"] else "integers",
                            "text": name,
                            "perplexity": Estimate(found["rise"], found["rise_se"]),
                            "divergence": Estimate(found["divergence"], found["divergence_se"]),
                        }
                    )
    return rows


# ------------------------------------------------------------------ time


def _speed() -> Any:
    return read("kv_speed.json", None)


def times() -> list[Row]:
    """Milliseconds on one core, and over those of full precision, as far as both were timed.

    *In turns*: medians over the steps, and quartiles of the ratio at the same step.
    """
    kernels = {"naive": "restored first", "rotated space": "from packed codes"}
    rows: list[Row] = [
        {
            "what": f"attention, {row['bits']} bits",
            "cache": label,
            "milliseconds": row["ms"][name],
            "over full precision": row["ms"][name] / row["ms"]["sdpa, full precision"],
        }
        for row in _speed()["kernels"]
        for name, label in kernels.items()
    ]
    whole = {
        "decoding step": _speed()["model"]["least ms"],
        "reading a prompt": {n: 1e3 * s for n, s in _speed()["prefill"]["seconds"].items()},
    }
    rows += [
        {
            "what": what,
            "cache": design_label(name),
            "milliseconds": value,
            "over full precision": value / values["DynamicCache"],
        }
        for what, values in whole.items()
        for name, value in values.items()
    ]
    return rows + [
        {
            "what": "decoding step, in turns",
            "cache": design_label(name),
            "milliseconds": row["median ms"],
            "over full precision": Spread(row["over full"], row["from"], row["to"])
            if name != "DynamicCache"
            else row["over full"],
        }
        for name, row in _speed()["compiled"]["caches"].items()
    ]


def layer_times() -> list[Row]:
    """Ratio to the full cache at the same step, with ladders by layer and with one for all."""
    stored = read("kv_layer_times.json", None)
    reading, decoding = stored["reading"], stored["decoding"]
    kinds = (
        (f"a token after {decoding['tokens']:,}", decoding),
        (f"{reading['part']} tokens of a prompt of {reading['tokens']:,}", reading),
    )
    return [
        {
            "what": what,
            "cache": design_label(name),
            "over full precision": Spread(row["over full"], row["from"], row["to"]),
        }
        for what, found in kinds
        for name, row in found["caches"].items()
        if name != "DynamicCache"
    ]


# ------------------------------------------------------------------ at home and away

HOME = ("addresses, 19th century", "code of numpy")
"""Other passages of the two texts that maps were measured on."""
COPYING = ("pairs that come again", "records that come again")
LANGUAGES = "messages, "
"""How kinds begin that are messages of one program in a language."""
AWAY = 2.0
"""How many times its loss at home a cache may lose elsewhere before the rule warns."""
MET = "SAQ+ 16/4, balanced"
"""The cache that met all kinds of text."""
COPIED = {
    "by layer, 2.85 bits": "SAQ+ by layer, 2.85 bits, with recall, balanced",
    "by layer, 4.3 bits": "SAQ+ by layer, 4.3 bits, with recall, balanced",
    "16/4, 4.31 bits": MET,
    "KIVI, 4.5 bits": "KIVI-4 G64 R128",
    "2.85 bits, with records": "SAQ+ by layer, 2.85 bits, with recall and records, balanced",
}
"""Caches that met many windows that copy; ours are balanced, ladders by layer with recall.  The
last was chosen after the others had been scored.
"""


def windows_by_kind(measure: str, cache: str = MET) -> dict[str, list[float]]:
    """By kind of text, what each window loses: "rise" in percent, "kl" in 10⁻³ nat.

    ``cache`` is `MET`, on all kinds, or one of `COPIED`, on those that copy and at home.
    """
    rows = (
        read("kv_domains.json", "kv-domains/1")["rows"]
        if cache == MET
        else read("kv_recall_windows.json", "kv-recall-windows/1")["rows"]
    )
    change = (lambda x: 100 * math.expm1(x)) if measure == "rise" else (lambda x: 1e3 * x)
    name = COPIED.get(cache, cache)
    return {kind: [change(x) for x in designs[name][measure]] for kind, designs in rows.items()}


def spread_of(values: Sequence[float]) -> Estimate:
    """Mean, and its standard error from window to window."""
    return Estimate(fmean(values), stdev(values) / math.sqrt(len(values)))


def over_home(means: dict[str, float], kinds: Sequence[str] = HOME) -> dict[str, float]:
    """What each kind away loses over the mean of ``kinds``, those at home."""
    home = fmean(means[kind] for kind in kinds)
    return {kind: mean / home for kind, mean in means.items() if kind not in HOME}


def over_home_by_windows(away: Estimate, homes: Sequence[Estimate]) -> Estimate:
    """A mean over the mean of ``homes``, with the errors of both."""
    home = fmean(x.value for x in homes)
    of_home = [(x.error or 0.0) / len(homes) / home for x in homes]
    parts = [(away.error or 0.0) / away.value, *of_home]
    ratio = away.value / home
    return Estimate(ratio, ratio * math.hypot(*parts))


def copying_windows() -> list[Row]:
    """What the caches of `COPIED` lose on many windows that copy, and at home."""
    rows: list[Row] = []
    for cache in COPIED:
        moved, rose = (
            {kind: spread_of(values) for kind, values in windows_by_kind(measure, cache).items()}
            for measure in ("kl", "rise")
        )
        homes = [moved[kind] for kind in HOME]
        rows += [
            {
                "cache": cache,
                "text": f"{kind} (home)" if kind in HOME else kind,
                "windows": len(windows_by_kind("kl", cache)[kind]),
                "divergence": found,
                "over home": None if kind in HOME else over_home_by_windows(found, homes),
                "perplexity": rose[kind],
            }
            for kind, found in moved.items()
        ]
    return rows


def kinds_of_text() -> list[Row]:
    """What sixteen bits and then four, with balanced codes, lose on each kind of text."""
    moved, rose = windows_by_kind("kl"), windows_by_kind("rise")
    ratios = over_home({kind: fmean(values) for kind, values in moved.items()})
    return [
        {
            "text": f"{kind} (home)" if kind in HOME else kind,
            "windows": len(values),
            "divergence": spread_of(values),
            "over home": ratios.get(kind),
            "perplexity": spread_of(rose[kind]),
        }
        for kind, values in moved.items()
    ]


def rule() -> Row:
    """How well the first window of each kind tells what the others lose, both over home."""
    moved = windows_by_kind("kl")
    told = over_home({kind: values[0] for kind, values in moved.items()})
    true = over_home({kind: fmean(values[1:]) for kind, values in moved.items()})
    warned = {kind for kind in told if told[kind] > AWAY}
    away = {kind for kind in told if true[kind] > AWAY}

    def alike(kinds: list[str]) -> float:
        return correlation(*([math.log(x[kind]) for kind in kinds] for x in (told, true)))

    return {
        "kinds": len(told),
        "told": told,
        "correlation": alike(list(told)),
        "without copying": alike([kind for kind in told if kind not in COPYING]),
        "warned": sorted(warned),
        "away": sorted(away),
        "missed": sorted(away - warned),
        "false alarms": sorted(warned - away),
    }
