"""Explorers of chapter 2's evidence: duels on held-out problems, and what a suggestion costs."""

import math
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

import numpy as np

from genopt_core import tables
from genopt_core.explorers.cross_entropy.names import (
    BUDGETS,
    METHODS,
    OURS,
    in_words,
    listed,
    problem_label,
)
from genopt_core.explorers.panels import results, signed
from genopt_core.figures import schema as figure
from genopt_core.figures.controls import Choice, Slider
from genopt_core.figures.registry import Preset, explorer
from genopt_core.figures.schema import Axis, Figure, Panel

HELD_OUT = (
    "categories",
    "nk",
    "network",
    "conditional",
    "noisy-categories",
    "noisy-network",
    "rugged",
    "rosenbrock",
    "ackley",
    "word2vec",
    "trees",
    "transformer",
)
PROBLEMS = {"all": "all twelve"} | {name: problem_label(name) for name in HELD_OUT}
HEIGHT = 310  # of eleven or twelve rows, in pixels
LEVEL = 0.05  # corrected probabilities below it tell two methods apart
PROBLEM = Choice("problem", "Problem", PROBLEMS, help="Held out: run once, after the last change.")


def duel(ours: str, other: str, budget: int, problem: str) -> tuple[Any, ...]:
    """Wins, ties, losses, mean difference and half its interval; over all, the probability too.

    Empty where the other method was not run to this budget.
    """
    stored = tables.load("search_evidence")
    if problem == "all":
        found = stored["all"].get(f"{ours} {other} {budget}", ())
    else:
        found = stored["each"][ours][other][BUDGETS.index(budget)][HELD_OUT.index(problem)]
    if not found:
        return ()
    wins, ties, losses, difference, half, *chance = found
    return wins, ties, losses, stored["unit"] * difference, stored["unit"] * half, *chance


def verdict(found: Sequence[float]) -> str:
    """Ahead, level or behind: by the sign test over all, by the interval on one problem."""
    wins, _, losses, difference, half, *chance = found
    if chance:
        return "level" if chance[0] >= LEVEL else "ahead" if wins > losses else "behind"
    return "level" if abs(difference) <= half else "ahead" if difference < 0 else "behind"


def _equals(chance: float) -> str:
    words = in_words(chance)
    return words if words.startswith("<") else f"= {words}"


@explorer(
    "search-duels",
    Choice("ours", "Our method", OURS, help="It is compared with every other method."),
    Choice("budget", "Evaluations", BUDGETS, start=60, help="Both have used so many."),
    PROBLEM,
    title="Win by win",
    alt=(
        "One row for every other method. On the left a bar is divided into the pairs that ours "
        "wins, ties and loses; on the right a dot is the mean difference of regrets with its "
        "interval, left of zero where ours is better."
    ),
    presets=(
        Preset("CE posterior at 60", {}),
        Preset(
            "Too few pairs at 120: undecided",
            {"budget": 120},
            "The Gaussian process ran four instances of each problem to 120 evaluations: 26 wins "
            "to 12 losses do not tell the two apart.",
            fails=True,
        ),
        Preset(
            "CE plus is level with TPE",
            {"ours": "plus"},
            "At every budget, and behind the Gaussian process at 30 and 60.",
            fails=True,
        ),
        Preset(
            "Noise: CatCMA and CMA-ES do better",
            {"problem": "noisy-network"},
            "CatCMA and CMA-ES average over whole generations, and do better here.",
            fails=True,
        ),
        Preset(
            "Rugged levels", {"problem": "rugged"}, "Neighboring levels say nothing of each other."
        ),
    ),
)
def search_duels(ours: str, budget: int, problem: str) -> Figure:
    """Stored duels, paired by problem and instance (book, chapter 2)."""
    others = [m for m in METHODS if m != ours]
    duels = {m: found for m in others if (found := duel(ours, m, budget, problem))}
    verdicts = {m: verdict(found) for m, found in duels.items()}
    band = Axis(type="band", domain=[METHODS[m] for m in others])
    panels = [
        _pairs(METHODS[ours], budget, duels, band),
        _differences(METHODS[ours], problem, duels, verdicts, band),
    ]
    where = "" if problem == "all" else f", {PROBLEMS[problem]}"
    return Figure(
        title=f"{METHODS[ours]} against every other method, {budget} evaluations{where}",
        panels=panels,
        readout=_said(METHODS[ours], budget, problem, duels, verdicts),
        cost=(
            "Sign test over all pairs, corrected by Holm's rule; the interval is the spread "
            "between problems."
            if problem == "all"
            else "The interval is the spread between instances; one problem is not tested."
        ),
        layout="row",
    )


Duels = Mapping[str, tuple[Any, ...]]


def _pairs(who: str, budget: int, duels: Duels, band: Axis) -> Panel:
    """Bars of wins, ties and losses, with their numbers at the end."""
    met = [METHODS[m] for m in duels]
    counts = np.array([found[:3] for found in duels.values()])
    ends = np.round(counts.cumsum(axis=1) / counts.sum(axis=1, keepdims=True), 3)
    starts = np.pad(ends, ((0, 0), (1, 0)))
    parts = ("wins", "ties", "losses")
    marks = [
        figure.bar(
            ends[:, i],
            met,
            base=starts[:, i],
            z=part,
            tip=[f"{n} {part}" for n in counts[:, i]],
            horizontal=True,
        )
        for i, part in enumerate(parts)
    ]
    shown = [" : ".join(map(str, row)) for row in counts]
    marks += [
        figure.rule(x=[0.5], dash="dotted"),
        figure.text([1.03] * len(met), met, shown, anchor="start"),
    ]
    missing = [name for name in band.domain or () if name not in met]
    words = [f"not run to {budget} evaluations"] * len(missing)
    marks.append(figure.text([0.03] * len(missing), missing, words, anchor="start"))
    return Panel(
        marks,
        x=Axis(
            f"{who} wins : ties : losses",
            domain=(0, 1.55),
            ticks=[0, 0.5, 1],
            tick_labels=["0", "half", "all"],
        ),
        y=band,
        series=dict(zip(parts, ("c1", "muted", "c2"), strict=True)),
        title="Pairs of the same problem and instance",
        height=HEIGHT,
        table={"name": met} | {part: counts[:, i].tolist() for i, part in enumerate(parts)},
    )


def _differences(
    who: str, problem: str, duels: Duels, verdicts: Mapping[str, str], band: Axis
) -> Panel:
    """Mean differences with their intervals, and in words what they tell."""
    met = [METHODS[m] for m in duels]
    gains, halves = (np.array([found[i] for found in duels.values()]) for i in (3, 4))
    shown = [
        f"{verdicts[m]}, p {_equals(found[5])}" if problem == "all" else verdicts[m]
        for m, found in duels.items()
    ]
    left, right = (-0.35, 0.43) if problem == "all" else (-0.85, 0.95)
    tip = [
        f"{m}: {signed(gain, 3)} ± {half:.3f}"
        for m, gain, half in zip(met, gains, halves, strict=True)
    ]
    return Panel(
        [
            figure.rule(x=[0]),
            figure.link(gains - halves, met, gains + halves, met, width=3),
            figure.dot(gains, met, size=9, tip=tip),
            figure.text([right] * len(met), met, shown, anchor="end"),
        ],
        x=Axis(f"regret of {who} minus the other's, ± 95 % interval", domain=(left, right)),
        y=band,
        title="Mean difference: left of zero is better",
        height=HEIGHT,
    )


def _said(who: str, budget: int, problem: str, duels: Duels, verdicts: Mapping[str, str]) -> str:
    of = {kind: [m for m in duels if verdicts[m] == kind] for kind in ("ahead", "level", "behind")}
    start = f"After {budget} evaluations "
    if problem == "all":
        end = {"ahead": "ahead of", "level": "level with", "behind": "behind"}
    else:
        start += f"on {PROBLEMS[problem]} "
        end = {"ahead": "better than", "level": "not told apart from", "behind": "worse than"}

    def each(methods: list[str]) -> str:
        if len(methods) > 4:
            return f"{len(methods)}"
        names = {m: f"the {METHODS[m]}" if m == "gp" else METHODS[m] for m in methods}
        if len(methods) > 2 or problem != "all":
            return listed(list(names.values()))
        return listed(
            [
                f"{name} ({duels[m][0]} wins to {duels[m][2]} losses, p {_equals(duels[m][5])})"
                for m, name in names.items()
            ]
        )

    parts = []
    if of["ahead"]:
        rest = of["level"] or of["behind"]
        count = (
            f"{len(of['ahead'])} of {len(duels)} methods" if rest else f"all {len(duels)} others"
        )
        parts.append(f"{end['ahead']} {count}")
    parts += [f"{end[kind]} {each(of[kind])}" for kind in ("level", "behind") if of[kind]]
    return f"{start}{who} is {listed(parts)}."


# ------------------------------------------------------------------ what a suggestion costs

REST = "the six others"
ROLES = {
    "CE posterior": "accent",
    "CE plus": "c1",
    "plain CE": "c2",
    "Gaussian process": "c3",
    "TPE": "c4",
    "random search": "c5",
    REST: "muted",
}
EVALUATIONS = (0.001, 0.01, 0.1, 1, 10, 60, 600, 3600)


def spent(method: str, problem: str) -> float:
    """Processor seconds of a suggestion; over all problems their median."""
    stored = tables.load("search_evidence")["milliseconds"][method]
    return (median(stored) if problem == "all" else stored[HELD_OUT.index(problem)]) / 1000


def regret(method: str, problem: str) -> list[float]:
    """Mean regret at each budget to which the method was run."""
    stored = tables.load("search_evidence")
    rows = stored["regret"][method]
    if problem != "all":
        rows = [rows[HELD_OUT.index(problem)]]
    by_budget = zip(*rows, strict=True)
    return [stored["unit"] * float(np.mean(found)) for found in by_budget if None not in found]


def duration(seconds: float) -> str:
    """A time in the unit that suits it.

    >>> duration(0.032), duration(12.3), duration(400), duration(20000)
    ('32 ms', '12 s', '6.7 min', '5.6 h')
    """
    units = (("ms", 0.001, 1), ("s", 1, 100), ("min", 60, 6000), ("h", 3600, math.inf))
    unit, size = next((unit, size) for unit, size, most in units if seconds < most)
    number = seconds / size
    return f"{number:.0f} {unit}" if number >= 9.95 else f"{number:.1f} {unit}"


@explorer(
    "search-costs",
    Slider(
        "evaluation",
        "One evaluation takes",
        0.001,
        3600.0,
        60.0,
        scale="log",
        grid=EVALUATIONS,
        unit="s",
        help="A look-up in a table takes milliseconds, a training minutes or hours.",
    ),
    PROBLEM,
    title="What a suggestion costs",
    alt=(
        "On the left the processor time of one suggestion by method, on a logarithmic axis, with a "
        "line at the time of an evaluation; on the right the mean regret of every method over the "
        "time that evaluations and suggestions take together."
    ),
    presets=(
        Preset("A training of a minute", {}, "Suggestions cost nothing beside it."),
        Preset("An evaluation of a second", {"evaluation": 1.0}),
        Preset(
            "A millisecond each: suggesting costs more",
            {"evaluation": 0.001},
            "The suggestion takes longer than what it saves: use a cheap method.",
            fails=True,
        ),
        Preset(
            "A conditional space: slower than a GP",
            {"evaluation": 0.1, "problem": "conditional"},
            "Every branch is modeled: in these runs our suggestion costs more than a Gaussian "
            "process over the shared part (since then less than a third of it).",
            fails=True,
        ),
    ),
)
def search_costs(evaluation: float, problem: str) -> Figure:
    """Processor time of the stored runs, added to that of evaluations (book, chapter 2)."""
    each = dict(sorted(((m, spent(m, problem)) for m in METHODS), key=lambda pair: pair[1]))
    names = [METHODS[m] for m in each]
    milliseconds = [1000 * seconds for seconds in each.values()]
    least, most = 0.1, 1000
    inside = least <= 1000 * evaluation <= most
    rows: list[dict[str, Any]] = [
        {
            "time": budget * (evaluation + each[m]),
            "regret": value,
            "method": METHODS[m] if METHODS[m] in ROLES else REST,
            "line": m,
            "tip": f"{METHODS[m]}, {budget} evaluations: {value:.3f}",
        }
        for m in METHODS
        for budget, value in zip(BUDGETS, regret(m, problem), strict=False)
    ]
    times = [row["time"] for row in rows]
    by_length = {3600: "hours", 60: "minutes", 1: "seconds"}
    size = next((size for size in by_length if 30 * evaluation >= size), 1)
    for row in rows:
        row["time"] /= size
    panels = [
        Panel(
            [
                *([figure.rule(x=[1000 * evaluation], dash="dashed")] if inside else []),
                figure.bar(
                    milliseconds,
                    names,
                    tip=[f"{n}: {v:.1f} ms" for n, v in zip(names, milliseconds, strict=True)],
                    horizontal=True,
                ),
                figure.text(
                    milliseconds, names, [f"{v:.1f}" for v in milliseconds], anchor="start", dx=8
                ),
            ],
            x=Axis("milliseconds of a suggestion", type="log", domain=(least, 3000)),
            y=Axis(type="band", domain=names),
            title="Dashed: one evaluation" if inside else "Processor time of one suggestion",
            height=HEIGHT,
        ),
        results(
            rows,
            ("time", "regret", "method"),
            {k: v for k, v in ROLES.items() if k != REST},
            (
                Axis(f"{by_length[size]} of {BUDGETS[0]} to {BUDGETS[-1]} evaluations", type="log",
                     domain=(min(times) / size * 0.8, max(times) / size * 1.25)),
                Axis("mean regret", domain=(0, 0.05 + max(row["regret"] for row in rows))),
            ),
            below=[
                figure.line(
                    [row["time"] for row in rows if row["line"] == m],
                    [row["regret"] for row in rows if row["line"] == m],
                    z=REST,
                    width=1,
                )
                for m in METHODS
                if METHODS[m] not in ROLES
            ],
            series=ROLES,
            title="What that time buys",
            height=HEIGHT,
        ),
    ]  # fmt: skip
    ours, cheap = each["posterior"], each["random"]
    total = 60 * (evaluation + ours)
    could = total / (evaluation + cheap)
    extra = f"{could:.0f}" if could < 240.5 else f"{could:,.0f}, more than it was run to"
    share = 100 * ours / (evaluation + ours)
    said = f"{share:.0f} %" if share >= 1 else f"{share:.1g} %"
    return Figure(
        title=f"Evaluations of {duration(evaluation)}, {PROBLEMS[problem]}",
        panels=panels,
        readout=(
            f"At {duration(evaluation)} an evaluation, 60 evaluations with CE posterior take "
            f"{duration(total)}, {said} of it for suggestions, and random search makes {extra} in "
            f"that time; a suggestion of the Gaussian process costs {each['gp'] / ours:.1f} times "
            f"ours, one of TPE {each['tpe'] / ours:.2g} times."
        ),
        cost="Times of the long runs, on a machine that did other things too: an orientation.",
        layout="row",
    )
