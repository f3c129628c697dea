"""Explorer of chapter 5: what a cache loses on kinds of text that its calibration never met."""

from collections.abc import Sequence
from statistics import fmean
from typing import Any

from genopt_core import tables
from genopt_core.explorers.panels import signed, true_minus
from genopt_core.figures import schema as figure
from genopt_core.figures.controls import Choice
from genopt_core.figures.registry import Preset, explorer
from genopt_core.figures.schema import Axis, Figure, Panel

MEASURES = {"divergence": "divergence, 10⁻³ nat a token", "rise": "rise of perplexity, %"}
HOMES = {"both": "prose and code", "prose": "prose alone", "code": "code alone"}
AXES: dict[str, dict[str, Any]] = {
    "divergence": {"type": "log", "domain": (0.6, 16), "ticks": [1, 2, 4, 8, 16]},
    "rise": {"domain": (-1, 4)},
}
NINETEEN = "nineteen"
CACHES = {
    NINETEEN: "16/4, nineteen kinds of text",
    "by layer, 2.85 bits": "by layer, 2.85 bits, with recall",
    "by layer, 4.3 bits": "by layer, 4.3 bits, with recall",
    "16/4, 4.31 bits": "16/4, the same windows",
    "KIVI, 4.5 bits": "KIVI, 4.5 bits",
    "2.85 bits, with records": "2.85 bits, with records too",
}
"""Caches, those on other windows by their names in the table."""
WIDER: dict[str, dict[str, Any]] = {
    "divergence": {"type": "log", "domain": (0.3, 200), "ticks": [1, 10, 100]},
    "rise": {"type": "symlog", "domain": (-5, 20), "ticks": [-3, -1, 0, 1, 3, 10]},
}
"""Axes that all caches on kinds that copy share."""
AWAY = 2
"""How many times what it loses at home a cache may lose before the rule warns."""
WINDOW, TWICE = "one window", "twice home"
ROLES = {
    "at home": "c1",
    "other kinds": "accent",
    "texts that copy": "c2",
    WINDOW: "muted",
    TWICE: "warn",
}


@explorer(
    "kv-away",
    Choice("measure", "Measure", MEASURES, help="How far predictions move, or how good they are."),
    Choice("home", "Home", HOMES, help="With what the other kinds are compared."),
    Choice(
        "cache",
        "Cache",
        CACHES,
        help="Ours have balanced codes. All but the first met windows of their own, of four kinds.",
    ),
    title="At home and away",
    alt=(
        "A row for each kind of text, nineteen or four: small points for its windows, a large one "
        "for their mean with a line over its standard error. Two upright lines stand at the mean "
        "of home and at twice that. By divergence pairs and records, which copy, are the farthest."
    ),
    presets=(
        Preset("Against prose and code", {}),
        Preset(
            "Against prose alone",
            {"home": "prose"},
            "The rule warns too often: code costs two and a half times what prose does, and ten of "
            "the fifteen kinds that do not copy are above twice.",
            fails=True,
        ),
        Preset(
            "In perplexity",
            {"measure": "rise"},
            "Noisier, and another line: Finnish is outside and pairs are inside.",
        ),
        Preset("By layer", {"cache": "by layer, 2.85 bits"}),
    ),
)
def kv_away(measure: str, home: str, cache: str) -> Figure:
    """Stored losses of one cache, window by window, beside twice what it loses at home."""
    table = tables.load("kv_away")
    found = table if cache == NINETEEN else table["copied"][cache]
    rows = [{"kind": row["kind"]} | dict(row[measure]) for row in found["kinds"]]
    base = at_home(rows, table["home"], home)
    names = [row["kind"] for row in rows]
    for row in rows:
        row["series"] = _series(row["kind"], table)
        row["tip"] = (
            f"{row['kind']}: {_told(row['mean'], measure)} ± {row['se']:.2f}, "
            f"{_over(row, base)} home, {len(row['windows'])} windows"
        )
    shown = {WINDOW, TWICE, *(row["series"] for row in rows)}
    windows = [(x, row["kind"]) for row in rows for x in row["windows"]]
    limit, held = found["bits"]
    peer = cache.startswith("KIVI")
    return Figure(
        title=f"{CACHES[cache]}, against {HOMES[home]}",
        panels=[
            Panel(
                [
                    figure.rule(x=[base], z="at home", dash="dotted"),
                    figure.rule(x=[AWAY * base], z=TWICE, dash="dashed"),
                    figure.dot(
                        [x for x, _ in windows],
                        [kind for _, kind in windows],
                        z=WINDOW,
                        size=3,
                        tip=[f"{kind}: {_told(x, measure)} on one window" for x, kind in windows],
                    ),
                    figure.link(
                        [row["mean"] - row["se"] for row in rows],
                        names,
                        [row["mean"] + row["se"] for row in rows],
                        names,
                        z=[row["series"] for row in rows],
                        width=2,
                        dash="solid",
                    ),
                    figure.dot(
                        [row["mean"] for row in rows],
                        names,
                        z=[row["series"] for row in rows],
                        size=8,
                        tip=[row["tip"] for row in rows],
                    ),
                ],
                x=Axis(MEASURES[measure], **(AXES if cache == NINETEEN else WIDER)[measure]),
                y=Axis(type="band", domain=names),
                series={name: role for name, role in ROLES.items() if name in shown},
                height=60 + 17 * len(rows),
                table={
                    "kind of text": names,
                    "windows": [len(row["windows"]) for row in rows],
                    MEASURES[measure]: [row["mean"] for row in rows],
                    "standard error": [row["se"] for row in rows],
                    "times home": [row["mean"] / base for row in rows],
                },
            )
        ],
        readout=_readout(rows, base, measure, home),
        cost=(
            f"{limit:.2f} bits a number in the limit of a long text, {held:.2f} held at 2,048 "
            "tokens"
            + ("" if peer else "; the same maps everywhere, measured on other passages of home")
        ),
    )


def at_home(rows: Sequence[dict[str, Any]], kinds: Sequence[str], home: str) -> float:
    """Mean of what is called home; ``kinds`` are prose, then code."""
    chosen = kinds if home == "both" else [kinds[("prose", "code").index(home)]]
    return fmean(row["mean"] for row in rows if row["kind"] in chosen)


def _series(kind: str, table: Any) -> str:
    if kind in table["home"]:
        return "at home"
    return "texts that copy" if kind in table["copying"] else "other kinds"


def _over(row: dict[str, Any], base: float) -> str:
    return true_minus(f"{row['mean'] / base:.2f} times")


def _told(value: float, measure: str) -> str:
    return f"{signed(value, 2)} %" if measure == "rise" else f"{value:.2f} × 10⁻³ nat"


def _readout(rows: Sequence[dict[str, Any]], base: float, measure: str, home: str) -> str:
    away = [row for row in rows if row["series"] != "at home"]
    above = [row for row in away if row["mean"] > AWAY * base]
    return (
        f"{len(above)} of {len(away)} kinds away lose more than twice what {HOMES[home]} do, "
        f"{_told(base, measure)}. {_farthest(away, base)}."
    )


def _farthest(away: Sequence[dict[str, Any]], base: float) -> str:
    """The farthest of each sort, or all if all copy."""
    copy, others = (
        [
            f"{row['kind']}, {_over(row, base)}"
            for row in sorted(away, key=lambda row: -row["mean"])
            if row["series"] == series
        ]
        for series in ("texts that copy", "other kinds")
    )
    if not others:
        return f"Of these {'; '.join(copy)}"
    return f"The farthest: of those that copy {copy[0]}; of the others {others[0]}"
