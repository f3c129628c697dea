"""Explorer of chapter 6: build a model from five switches, and see what was measured."""

import math
from functools import cache

import numpy as np

from genopt_core.explorers.one_model.grid import (
    ALL,
    BASE,
    BUDGET_HELP,
    BUDGETS,
    CONTEXTS,
    LEVELS,
    TRAINED,
    Build,
    best,
    cache_per_byte,
    decoding,
    interval,
    nearest_budget,
    p_told,
    paired,
    scores,
    seconds,
)
from genopt_core.explorers.panels import padded, signed
from genopt_core.figures import schema as figure
from genopt_core.figures.controls import Choice
from genopt_core.figures.registry import Preset, explorer
from genopt_core.figures.schema import Axis, Figure, Mark, Panel
from genopt_core.one_model.factorial import Interval

YOURS, EVERY, LEAST, START, REST = "yours", "all five", "best", "the base", "the other builds"
ROLES = {YOURS: "accent", EVERY: "c2", LEAST: "c3", START: "c1", REST: "muted"}
OFF = {name: next(iter(levels)) for name, levels in LEVELS.items()}


@explorer(
    "one-build",
    Choice(
        "tokenizer",
        "Tokenizer",
        LEVELS["tokenizer"],
        start="swe",
        help="Chapter 1, 1,024 entries each.",
        role="accent",
    ),
    Choice(
        "positions",
        "Positions",
        LEVELS["positions"],
        start="harmonic",
        help="Chapter 3: slopes from 4/h, learned.",
        role="accent",
    ),
    Choice(
        "attention",
        "Attention in training",
        LEVELS["attention"],
        start="blocks",
        help="Chapter 4: half of the blocks, with weights; evaluation is dense.",
        role="accent",
    ),
    Choice(
        "settings",
        "Settings",
        LEVELS["settings"],
        start="found",
        help="Chapter 2: found by its search.",
        role="accent",
    ),
    Choice(
        "cache",
        "Cache",
        LEVELS["cache"],
        start="staircase",
        help="Chapter 5; acts when the model is used.",
        role="accent",
    ),
    Choice("budget", "Trained with", BUDGETS, help=BUDGET_HELP),
    title="Build your model",
    alt=(
        "Above, all 32 builds in the order of their bits a byte, with intervals; yours, the base, "
        "the one with all five and the best are marked by shape and name. Below left, what yours "
        "takes as a share of the base: bits, training time, cache, writing time. Below right, bits "
        "a byte at longer contexts."
    ),
    presets=(
        Preset("All five", {}),
        Preset("The base", OFF),
        Preset("Only the positions", {**OFF, "positions": "harmonic"}),
        Preset(
            "Only the drawn blocks",
            {**OFF, "attention": "blocks"},
            "Alone they cost bits, as they add noise, and time, as the model is small.",
            fails=True,
        ),
        Preset("Only the cache", {**OFF, "cache": "staircase"}),
    ),
)
def one_build(
    tokenizer: str, positions: str, attention: str, settings: str, cache: str, budget: str
) -> Figure:
    """Stored scores; differences are paired by seed."""
    chosen = zip(LEVELS.values(), (tokenizer, positions, attention, settings, cache), strict=True)
    mine = Build(*(list(known).index(level) == 1 for known, level in chosen))
    budget, note = nearest_budget(budget, (BASE, mine, ALL))
    found = scores(budget, TRAINED)
    order = sorted(found, key=lambda build: interval(budget, TRAINED, build).mean)
    marked = {START: BASE, LEAST: best(budget, TRAINED), EVERY: ALL, YOURS: mine}
    here, gain = interval(budget, TRAINED, mine), paired(found[mine], found[BASE])
    return Figure(
        title=f"{mine.label[0].upper()}{mine.label[1:]}: {BUDGETS[budget]}",
        panels=[
            _ranked(budget, order, marked),
            _beside(marked, budget),
            _longer(marked, budget),
        ],
        readout=note + _readout(mine, order, here, gain, marked[LEAST], budget),
        cost=_cost(mine, budget),
    )


def _ranked(budget: str, order: list[Build], marked: dict[str, Build]) -> Panel:
    names = {build: name for name, build in marked.items()}
    z = [names.get(build, REST) for build in order]
    cells = [interval(budget, TRAINED, build) for build in order]
    means = [one.mean for one in cells]
    halves = [0.0 if math.isnan(one.half) else one.half for one in cells]
    x = list(range(1, len(order) + 1))
    low, high = padded([m + s * h for m, h in zip(means, halves, strict=True) for s in (-1, 1)])
    ends: list[Mark] = [
        figure.link(
            x,
            [m - h for m, h in zip(means, halves, strict=True)],
            x,
            [m + h for m, h in zip(means, halves, strict=True)],
            z=z,
        ),
        figure.dot(
            x,
            means,
            z=z,
            size=[6 if name == REST else 10 for name in z],
            tip=[
                f"{i}. {build.label}: {m:.4f} ± {h:.4f} bits a byte"
                for i, build, m, h in zip(x, order, means, halves, strict=True)
            ],
        ),
    ]
    return Panel(
        ends,
        x=Axis("rank", domain=(0, len(order) + 1), ticks=[1, 8, 16, 24, 32]),
        y=Axis("bits a byte", domain=(low, high)),
        title="All builds at the trained length, with 95 % intervals",
        series=ROLES,
        height=200,
        table={
            "rank": x,
            "build": [build.label for build in order],
            "bits a byte": [f"{m:.4f}" for m in means],
            "±": [f"{h:.4f}" for h in halves],
        },
    )


@cache
def _widest(budget: str) -> float:
    return max(v for build in scores(budget, TRAINED) for v in shares(build, budget).values())


@cache
def shares(build: Build, budget: str) -> dict[str, float]:
    """What a build takes, as a share of the base in percent; what was not measured is missing."""
    found, times = scores(budget, TRAINED), seconds(budget)
    values = {
        "bits a byte": (found[build], found[BASE]),
        "time to train": (times[build], times[BASE]),
        "cache": ([cache_per_byte(build, CONTEXTS[-1])], [cache_per_byte(BASE, CONTEXTS[-1])]),
    }
    write = decoding(build), decoding(BASE)
    out = {name: 100 * float(np.mean(a)) / float(np.mean(b)) for name, (a, b) in values.items()}
    return out | ({"time to write": 100 * write[0] / write[1]} if write[0] and write[1] else {})


def _beside(marked: dict[str, Build], budget: str) -> Panel:
    mine = shares(marked[YOURS], budget)
    names = list(mine)
    others = {name: shares(marked[name], budget) for name in (EVERY, LEAST)}
    top = _widest(budget)
    marks: list[Mark] = [
        figure.rule(x=100, dash="dotted"),
        figure.bar(list(mine.values()), names, z=YOURS, horizontal=True),
    ]
    marks += [
        figure.dot([other[n] for n in names], names, z=name, size=8)
        for name, other in others.items()
    ]
    return Panel(
        marks,
        x=Axis("% of the base", domain=(0, 1.05 * top)),
        y=Axis(type="band", domain=names),
        title="Yours beside the base (dotted)",
        series={name: ROLES[name] for name in (YOURS, EVERY, LEAST)},
        height=150,
        legend=False,
        table={
            "measure, % of the base": names,
            YOURS: [f"{mine[n]:.1f}" for n in names],
            **{name: [f"{other[n]:.1f}" for n in names] for name, other in others.items()},
        },
    )


def _longer(marked: dict[str, Build], budget: str) -> Panel:
    at = CONTEXTS
    marks: list[Mark] = []
    values: list[float] = []
    columns: dict[str, list[str]] = {}
    for name, build in marked.items():
        line = [interval(budget, c, build) for c in at]
        means = [one.mean for one in line]
        values += means
        columns[name] = [f"{one.mean:.4f}" for one in line]
        marks.append(figure.line(at, means, z=name, width=2.5 if name == YOURS else 1.5))
        marks.append(figure.dot(at, means, z=name, size=8 if name == YOURS else 6))
    return Panel(
        marks,
        x=Axis("tokens of context", type="log", domain=(at[0] / 1.1, at[-1] * 1.1), ticks=at),
        y=Axis("bits a byte", domain=padded(values)),
        title="At longer contexts, the same last bytes",
        series={name: ROLES[name] for name in marked},
        height=150,
        legend=False,
        table={"tokens of context": at, **columns},
    )


def _readout(
    mine: Build, order: list[Build], here: Interval, gain: Interval, least: Build, budget: str
) -> str:
    rank, count = order.index(mine) + 1, len(order)
    words = f"{mine.label[0].upper()}{mine.label[1:]}: {here.mean:.4f} bits a byte"
    if not math.isnan(here.half):
        words = f"{words} ± {here.half:.4f}"
    if mine != BASE:
        words += f", {signed(gain.mean, 4)} ± {gain.half:.4f} against the base"
        words += f" ({p_told(gain.p)}), number {rank} of {count}"
    else:
        words += f", number {rank} of {count}"
    if mine == least:
        return f"{words}: the best of all."
    top = interval(budget, TRAINED, least).mean
    return f"{words}; the best is {least.label} with {top:.4f}."


def _cost(mine: Build, budget: str) -> str:
    took = shares(mine, budget)
    words = (
        f"{took['time to train']:.0f} % of the base's training time, {took['cache']:.0f} % of its "
        "cache for the same text"
    )
    if "time to write" in took:
        words += f", {took['time to write']:.0f} % of its time to write it"
    return words
