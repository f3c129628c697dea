"""Reports of the stored measurements of PrFlashAttention (chapter 4).

``book/experiments/attention`` measured; nothing here does.  Each report gives rows for
`genopt_core.explorers.reports.table`; ± stands for one standard error in all of them, over windows
of text or over paired seeds.
"""

import itertools
import math
from collections import Counter
from statistics import fmean
from typing import Any

import numpy as np

from genopt_core import tables
from genopt_core.explorers.attention import (
    evidence,
    evidence_needle,
    evidence_speed,
    evidence_training,
)
from genopt_core.explorers.attention.evidence import DENSITIES, OURS, TEXTS
from genopt_core.explorers.reports import Column, Estimate, Row, Spread, read

KEPT = (3, 7, 15)
HALF = 18
BEST_PEER = "best peer that looks at nothing"
COLUMNS = {
    "cost": Column(".1f", "% of full attention"),
    **{DENSITIES[k]: Column(".3f", best="least") for k in KEPT},
    "divergence": Column(".2f", "10⁻³ nat", best="least"),
    "perplexity": Column("+.2f", "%"),
    "ours": Column("+.2f", "%"),
    BEST_PEER: Column("+.2f", "%"),
    "ours, divergence": Column(".2f", "10⁻³ nat"),
    "its divergence": Column(".2f", "10⁻³ nat"),
    "divided": Column("+.2f", "%"),
    "divided, divergence": Column(".2f", "10⁻³ nat"),
    "slope": Column("+.3f"),
    **{f"R = {r}": Column(".3f") for r in (1, 2, 4, 8, 16)},
    "computed": Column(".0f", "% of all blocks"),
    "log probability": Column(".2f", "nats"),
    "exact": Column(".0f", "%", best="most"),
    "loss, full": Column(".3f", "nats", best="least"),
    "gap": Column("+.4f", "nats"),
    "1 round": Column("+.4f", "nats"),
    "16 rounds": Column("+.4f", "nats"),
    "+ ln π": Column("+.4f", "nats"),
    "at equal attention": Column("+.3f", "nats"),
    **{f"{s:,} steps": Column(".3f") for s in range(200, 1201, 200)},
    "density": Column(".1f", "%"),
    "each head": ".4f",
    "divided among heads": ".4f",
    "difference": Column("+.0f", "%"),
    "forward": Column(".2f", "×"),
    "both": Column(".2f", "×"),
    "of 1/density, forward": Column(".2f"),
    "of 1/density, both": Column(".2f"),
    "sd": Column(".4f", "draw to draw"),
    "error": ".4f",
    **{TEXTS[text]: Column(".2f") for text in evidence.FIRST_TEXTS},
    "rows": Column(".2f", "correlation"),
    "heads": Column(".2f", "correlation"),
}
WAYS = {
    "sums pooled": "sums pooled, then divided",
    "outputs averaged": "outputs averaged",
}


# ------------------------------------------------------------------ output error


def _quality() -> Any:
    return read("attention_quality.json", None)


def errors() -> list[Row]:
    """Output error of every design, mean and range of the scored texts; the cost of choosing."""
    table = tables.load("attention_error")
    return sorted(
        (
            {
                "design": evidence.in_words(name),
                "kind": family,
                "estimator": estimator,
                "cost": 100 * cost,
                **{DENSITIES[k]: Spread(*table["mean"][name][i]) for i, k in enumerate(KEPT)},
            }
            for name, (family, estimator, cost) in table["designs"].items()
        ),
        key=lambda row: row[DENSITIES[7]].middle,
    )


def by_layer(kept: int = 15) -> list[Row]:
    """The recommended plan's error over that of a window with a sink, by layer and scored text."""
    found, at = _quality(), KEPT.index(kept)
    layers = {n: r["by layer"] for n, r in found["texts"].items() if n != found["calibration"]}
    return [
        {
            "layer": layer,
            **{
                TEXTS.get(n, n): each[OURS][at][i] / each["window + sink"][at][i]
                for n, each in layers.items()
            },
        }
        for i, layer in enumerate(found["layers"])
    ]


def shared_by_heads() -> list[Row]:
    """Errors of all heads, rows of each with as many blocks, and these divided among heads."""
    found = read("attention_by_head.json", None)
    texts = [e for name, e in found["errors"].items() if name != _quality()["calibration"]]
    rows = []
    for i, density in enumerate(found["densities"]):
        own, shared = (
            [e[design][i] for e in texts] for design in (OURS, "recommended, shared by heads")
        )
        less = [100 * (b / a - 1) for a, b in zip(own, shared, strict=True)]
        rows.append(
            {
                "density": 100 * density,
                "each head": fmean(own),
                "divided among heads": fmean(shared),
                "difference": Spread(fmean(less), min(less), max(less)),
            }
        )
    return rows


def shared_in_the_model() -> list[Row]:
    """Half of the blocks in windows that were also read with blocks divided among heads."""
    found = read("attention_by_head.json", None)
    return _read_again(found)


def divided_in_the_model() -> list[Row]:
    """Half of the blocks in windows that were also read with blocks divided among layers."""
    found = read("attention_halves.json", None)
    return _read_again(found)


def share_of_the_peer(row: Row) -> float:
    """The rise with divided blocks over the rise of the best peer that looks at nothing."""
    return float(row["divided"] / row[BEST_PEER])


def _read_again(found: Any) -> list[Row]:
    """Means over the windows of ``found``, beside what the same windows gave before."""
    mine = {}
    for row in found["rows"]:
        r = dict(zip(found["columns"], row, strict=True))
        mine[r["text"], r["window"]] = (100 * math.expm1(r["more"]), 1e3 * r["kl"])
    content = read("attention_perplexity.json", None)
    names, others = ["full", *content["designs"]], {}
    for row in content["rows"]:
        r = dict(zip(content["columns"], row, strict=True))
        if r["kept"] == HALF:
            place = (names[r["design"]], content["texts"][r["text"]], r["window"])
            others[place] = (100 * math.expm1(r["more"]), 1e3 * r["kl"])
    blind = [n for n, d in content["designs"].items() if d["family"] == "data-independent"]
    rows = []
    for text in dict.fromkeys(text for text, _ in mine):
        at = [place for place in mine if place[0] == text and (OURS, *place) in others]
        means = {
            design: [fmean(others[design, *place][i] for place in at) for i in range(2)]
            for design in (OURS, *blind)
            if all((design, *place) in others for place in at)
        }
        peer = min((n for n in means if n != OURS), key=lambda n: means[n][0])
        rows.append(
            {
                "text": TEXTS.get(text, text),
                "windows": len(at),
                "ours": means[OURS][0],
                "divided": fmean(mine[place][0] for place in at),
                BEST_PEER: means[peer][0],
                "by": peer,
                "ours, divergence": means[OURS][1],
                "divided, divergence": fmean(mine[place][1] for place in at),
                "its divergence": means[peer][1],
            }
        )
    return rows


def rounds() -> list[Row]:
    """Error after R rounds, by estimator and by what is averaged, and its slope in logarithms."""
    found = _quality()
    scored = [r["rounds"] for n, r in found["texts"].items() if n != found["calibration"]]
    rows = []
    for name, slope in found["summary"]["slope of rounds"].items():
        estimator, way = name.split(", ")
        values = np.mean([each[name] for each in scored], axis=0)
        row: Row = {"estimator": estimator, "how": WAYS[way]}
        row |= {f"R = {r}": float(v) for r, v in zip(found["rounds"], values, strict=True)}
        rows.append(row | {"slope": slope})
    return rows


def sharing() -> list[Row]:
    """What one draw for all rows, for each head or for each row does."""
    return [
        {
            "one draw for": row["one draw for"],
            "error": row["error"],
            "sd": row["sd of a layer over draws"],
            "rows": row["correlation of rows"],
            "heads": row["correlation of heads"],
        }
        for row in read("attention_shared.json", None)["rows"]
    ]


# ------------------------------------------------------------------ predictions


def predictions(kept: int, place: str = "mean of three") -> list[Row]:
    """Divergence and rise of perplexity of every design at one number of kept blocks."""
    table = tables.load("attention_predictions")
    at, columns = table["counts"].index(kept), table["columns"]
    rows = []
    for name, line in table["places"][place].items():
        if line[at] is None:
            continue
        cell = dict(zip(columns, line[at], strict=True))
        rows.append(
            {
                "design": evidence.in_words(name),
                "kind": table["families"][name],
                "divergence": Estimate(1e3 * cell["kl"], _times(1e3, cell["kl se"])),
                "perplexity": Estimate(cell["rise"], cell["rise se"]),
            }
        )
    return sorted(rows, key=lambda row: row["divergence"].value)


def _times(factor: float, value: float | None) -> float | None:
    return None if value is None else factor * value


def best_independent(kept: int, place: str, measure: str) -> str:
    """The peer with the least value among those that look at neither queries nor keys."""
    at = tables.load("attention_predictions")["counts"].index(kept)
    found = evidence.best_independent(evidence.predictions_at(place, measure), at)
    assert found is not None
    return found


def by_text() -> list[Row]:
    """The recommended plan at half of the blocks beside the best that looks at nothing."""
    table = tables.load("attention_predictions")
    at, rows = table["counts"].index(HALF), []
    for place in table["places"]:
        rise, kl = (evidence.predictions_at(place, m) for m in ("rise", "kl"))
        if OURS not in rise or math.isnan(rise[OURS][at][0]):
            continue
        peer, mover = (best_independent(HALF, place, m) for m in ("rise", "kl"))
        rows.append(
            {
                "text": TEXTS.get(place, place),
                "ours": _estimate(rise[OURS][at]),
                BEST_PEER: _estimate(rise[peer][at]),
                "by": peer,
                "ours, divergence": 1e3 * kl[OURS][at][0],
                "its divergence": 1e3 * kl[mover][at][0],
            }
        )
    return rows


def _estimate(cell: tuple[float, float, float]) -> Estimate:
    return Estimate(cell[0], cell[2] - cell[0] or None)


def candidates() -> list[Row]:
    """Plans of one cost at half of the blocks, on the calibration text, by divergence."""
    rows: dict[str, list[Any]] = {}
    found = read("attention_halves.json", None)
    count = Counter(name for name, *_ in found["calibration"])
    whole = min(count.values())  # windows that every plan has read
    for name, window, density, more, _, kl, _ in found["calibration"]:
        if window >= whole:
            continue
        rows.setdefault(name, []).append((density, 100 * math.expm1(more), 1e3 * kl))
    means = [
        {
            "plan": evidence.in_words(name),
            "density": 100 * fmean(r[0] for r in each),
            "divergence": _over([r[2] for r in each]),
            "perplexity": _over([r[1] for r in each]),
        }
        for name, each in rows.items()
    ]
    return sorted(means, key=lambda row: row["divergence"].value)


def _over(values: list[float]) -> Estimate:
    """Mean over windows and its standard error."""
    many = len(values) > 1
    error = float(np.std(values, ddof=1)) / math.sqrt(len(values)) if many else None
    return Estimate(fmean(values), error)


# ------------------------------------------------------------------ needle, training


def needles() -> list[Row]:
    """Score of every design and number of rounds, mean over depths."""
    return [
        {
            "design": evidence_needle.NAMES[r["design"], r["rounds"]],
            "kept": r["kept"] or "all",
            "computed": 100 * r["density"] * r["rounds"],
            "log probability": fmean(r["log"]),
            "exact": 100 * fmean(r["exact"]),
        }
        for r in evidence_needle.stored_rows()
    ]


def trained(cell: str) -> list[Row]:
    """Held-out losses in the end against training with full attention, paired seed by seed."""
    table, rows = tables.load("attention_training")["cells"][cell], []
    base = evidence_training.final(cell, "full attention", "full")
    for name in table["arms"]:
        ends = evidence_training.final(cell, name, "full")
        row: Row = {"method": name, "loss, full": float(ends.mean())}
        row["gap"] = None if name == "full attention" else _paired(ends - base)
        for way, label in (
            ("1 rounds", "1 round"),
            ("16 rounds", "16 rounds"),
            ("surrogate", "+ ln π"),
        ):
            drawn = "harmonic" in name or ("window" in name and way == "1 rounds")
            found = evidence_training.final(cell, name, way)
            row[label] = _paired(found - base) if drawn else None
        rows.append(row)
    return rows


def longer() -> list[Row]:
    """One seed: the loss along the way, and beside full attention after equally much attention."""
    table, rows = tables.load("attention_training")["cells"]["one seed, longer"], []
    steps, full = np.array(table["steps"]), np.array(table["full"])[:, :, 0]  # (times, arms)
    for i, (name, share) in enumerate(zip(table["arms"], table["computed"], strict=True)):
        row: Row = {"method": name}
        row |= {f"{s:,} steps": float(v) for s, v in zip(steps, full[:, i], strict=True)}
        equal = share * float(steps[-1])
        same = float(np.interp(equal, steps, full[:, 0]))
        row["at equal attention"] = (
            float(full[-1, i]) - same if steps[0] <= equal < steps[-1] else None
        )
        rows.append(row)
    return rows


def _paired(gain: np.ndarray) -> Estimate:
    return Estimate(float(gain.mean()), float(gain.std(ddof=1)) / math.sqrt(len(gain)))


# ------------------------------------------------------------------ time


def cpu_times() -> list[Row]:
    """Times as fast as dense attention, on one thread."""
    table = tables.load("attention_speed")
    return [
        {
            "tokens": r["tokens"],
            "block": r["block"],
            "plan": "sink and distances" if r["sink"] else "distances",
            "density": 100 * r["density"],
            "forward": r["forward x"],
            "both": r["both x"],
        }
        for r in tables.records(table, "cpu", "cpu columns")
    ] + [
        {
            "tokens": r["tokens"],
            "block": r["block"],
            "plan": f"rows and heads, {name}",
            "density": 100 * r["density"],
            "forward": r[f"{kind} forward"],
            "both": r[f"{kind} both"],
        }
        for r in tables.records(table, "rows", "rows columns")
        for kind, name in (("kept", "self-normalized"), ("difference", "difference"))
    ]


def gpu_times() -> list[Row]:
    """Times as fast as FlashAttention, and the share of one over the density."""
    table, rows = tables.load("attention_speed"), []
    for r in tables.records(table, "gpu", "gpu columns"):
        row: Row = {
            "call": evidence_speed.CALLS.get(r["call"], r["call"]),
            "tokens": r["tokens"],
            "heads × dim": f"{r['heads']} × {r['dim']}",
            "GPU": r["device"],
            "density": 100 * r["density"],
            "host waits": "no" if r["free"] else "yes",
        }
        for way in ("forward", "both"):
            times = r[f"dense {way}"] / r[way] if r[way] else None
            row[way] = times
            row[f"of 1/density, {way}"] = _times(r["density"], times)
        rows.append(row)
    return rows


# ------------------------------------------------------------------ what was aimed for


def bars() -> list[Row]:
    """What we had aimed for, and what was found."""
    return [
        {"what": what, "aim": aim, "found": found, "verdict": "met" if met else "missed"}
        for what, aim, found, met in (
            *_error_bars(),
            *_prediction_bars(),
            _rounds_bar(),
            *_cpu_bars(),
            _flex_bar(),
            *_gpu_bars(),
        )
    ]


Bar = tuple[str, str, str, bool]


def _error_bars() -> list[Bar]:
    over = _quality()["summary"]["recommended over"]
    families = {n: d["family"] for n, d in _quality()["designs"].items()}
    blind = max(max(over[n]) for n, family in families.items() if family == "data-independent")
    bars = [
        ("plain harmonic", 1, 0.26),
        ("plain harmonic", 2, 0.13),
        ("window + sink", 0, 1.0),
        ("window + sink", 1, 0.8),
        ("window + sink", 2, 0.6),
        ("radial + sink", 1, 1.0),
        ("largest kept, oracle", 2, 1.3),
    ]
    return [
        (
            f"output error over that of {name}, {DENSITIES[KEPT[i]]}",
            f"at most {aim}",
            f"{over[name][i]:.2f}",
            over[name][i] <= aim,
        )
        for name, i, aim in bars
    ] + [
        (
            "… over that of every peer that looks at nothing, all densities",
            "below 1",
            f"at most {blind:.2f}",
            blind < 1,
        )
    ]


def _prediction_bars() -> list[Bar]:
    at = tables.load("attention_predictions")["counts"].index(HALF)
    found = []
    for place in ("mean of three", "mean of six"):
        rise = evidence.predictions_at(place, "rise")
        peer = best_independent(HALF, place, "rise")
        ours, other = rise[OURS][at][0], rise[peer][at][0]
        found.append(
            (
                f"rise of perplexity at 50 %, {place} texts",
                f"at most half of the best peer's that looks at nothing, {other:+.2f} %",
                f"{ours:+.2f} %",
                ours <= other / 2,
            )
        )
    texts = [r for r in by_text() if not r["text"].startswith("mean")]
    met = [r for r in texts if r["ours"].value <= r[BEST_PEER].value / 2]
    missed = [r["text"] for r in texts if r not in met]
    found.append(
        (
            "… on each text by itself",
            "at most half of the best peer's there",
            f"{len(met)} of {len(texts)} texts" + (f"; not {' and '.join(missed)}" * bool(missed)),
            not missed,
        )
    )
    divided = divided_in_the_model()
    windows = sum(r["windows"] for r in divided)
    rises, shares = ([f(r) for r in divided] for f in (lambda r: r["divided"], share_of_the_peer))
    found.append(
        (
            f"… with blocks divided among layers, {windows} windows of {len(divided)} texts",
            "at most half of the best peer's on each",
            f"{min(rises):+.2f} to {max(rises):+.2f} %, at most {max(shares):.2f} of the peer's",
            max(shares) <= 0.5,
        )
    )
    return found


def _rounds_bar() -> Bar:
    slope = _quality()["summary"]["slope of rounds"]["self-normalized, sums pooled"]
    return (
        "error of pooled rounds, slope in logarithms",
        "−0.5 ± 0.07",
        f"{slope:.3f}".replace("-", "−"),
        abs(slope + 0.5) <= 0.07,
    )


def _cpu_bars() -> list[Bar]:
    stored = read("attention_speed.json", None)
    machines = [("", stored), *((" (another machine)", of) for of in stored["other machines"])]
    aims = ((12, 7.0), (23, 3.8), (49, 1.8), (100, 0.9))
    found = []
    for (where, of), (density, aim) in itertools.product(machines, aims):
        rows = of["one thread"]
        near = [r for r in rows if abs(100 * r["density"] - density) < 3]
        best = [
            max((r for r in near if r["tokens"] == n), key=lambda r: r["both x"])
            for n in (4096, 8192)
        ]
        times = [
            f"{r['both x']:.2f} ({min(r['both x each']):.2f} to {max(r['both x each']):.2f})"
            for r in best
        ]
        found.append(
            (
                f"one CPU thread, both ways, {density} %: times as fast as dense{where}",
                f"at least {aim}",
                f"{times[0]} at 4,096 tokens, {times[1]} at 8,192",
                min(r["both x"] for r in best) >= aim,
            )
        )
    return found


def _flex_bar() -> Bar:
    """Compiled ``flex_attention`` on the same plans, forward: it has no backward on a CPU."""
    rows = read("attention_speed.json", None)["flex"]["rows"]
    over = [r["flex forward ms"] / r["forward ms"] for r in rows]
    return (
        "one CPU thread, forward: compiled flex_attention's time over ours, same plans",
        "above 1",
        f"{min(over):.2f} to {max(over):.2f} at 4,096 tokens",
        min(over) > 1,
    )


def _gpu_bars() -> list[Bar]:
    found = []
    for dim in (64, 128):
        rows = [
            r
            for r in gpu_times()
            if r["tokens"] == 16384 and r["heads × dim"] == f"16 × {dim}" and r["density"] < 30
        ]
        for way in ("forward", "both"):
            share = f"of 1/density, {way}"
            best = max((r for r in rows if r[share] is not None), key=lambda r: r[share])
            found.append(
                (
                    f"a GPU, {way}, 16,384 tokens at 25 %, heads of {dim}: share of 1/density",
                    "at least 0.8",
                    f"{best[share]:.2f} ({best['call']})",
                    best[share] >= 0.8,
                )
            )
    return found
