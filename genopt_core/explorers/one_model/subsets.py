"""Explorer of chapter 6: each method alone, all of them, all but one."""

import math

from genopt_core import tables
from genopt_core.explorers.one_model.grid import (
    ALL,
    BASE,
    BUDGET_HELP,
    BUDGETS,
    CONTEXTS,
    LEVEL,
    SHORT,
    build_of,
    nearest_budget,
    p_told,
    table,
)
from genopt_core.explorers.panels import padded, signed
from genopt_core.figures import schema as figure
from genopt_core.figures.controls import Choice
from genopt_core.figures.registry import Preset, explorer
from genopt_core.figures.schema import Axis, Figure, Mark, Panel

REAL, OPEN = "told from the base", "not told from it"


def rows(budget: str, context: int) -> list[dict]:
    """Stored subsets with their names, in the order of the table; the base is left out."""
    out = []
    for row in tables.records(table()["subsets"], "rows", "columns"):
        if (row["budget"], row["context"]) != (budget, context) or row["kind"] == "base":
            continue
        if row["kind"] == "alone":
            name = f"only {SHORT[row['switched']]}"
        elif row["kind"] == "but one":
            name = f"all but {SHORT[row['switched']]}"
        else:
            label = build_of(row["cell"], row["cache"]).label
            name = "all five" if row["kind"] == "all" else f"best: {label}"
        out.append({**row, "name": name, "real": _real(row["p"])})
    return out


def _real(p: float | None) -> bool:
    return p is not None and p < LEVEL


@explorer(
    "one-subsets",
    Choice("budget", "Trained with", BUDGETS, help=BUDGET_HELP),
    Choice(
        "context",
        "Context",
        {n: f"{n:,} tokens" for n in CONTEXTS},
        help="Trained at the first; the same last bytes are scored at each.",
    ),
    title="Each alone, all, all but one",
    alt=(
        "A row for each choice of methods: its change of bits a byte against the base as a symbol "
        "with a 95 % interval, around a line at zero. A hexagon is told from the base at p below "
        "0.01, a cross is not; the interval says the same."
    ),
    presets=(
        Preset("The trained length", {}),
        Preset("Twice as long", {"context": CONTEXTS[1]}),
        Preset(
            "The longest context",
            {"context": CONTEXTS[-1]},
            "RoPE alone breaks beyond its length: most of what positions gain here is the base's "
            "own loss.",
            fails=True,
        ),
    ),
)
def one_subsets(budget: str, context: int) -> Figure:
    """Stored differences, paired by seed."""
    budget, note = nearest_budget(budget, (BASE, ALL))
    found = rows(budget, context)
    names = [row["name"] for row in found]
    halves = [row["difference_half"] or 0.0 for row in found]
    z = [REAL if row["real"] else OPEN for row in found]
    ends = [
        (row["difference"] - half, row["difference"] + half)
        for row, half in zip(found, halves, strict=True)
    ]
    marks: list[Mark] = [
        figure.rule(x=0, dash="dotted"),
        figure.link([a for a, _ in ends], names, [b for _, b in ends], names, z=z, width=2),
        figure.dot(
            [row["difference"] for row in found],
            names,
            z=z,
            size=10,
            tip=[
                f"{row['name']}: {signed(row['difference'], 4)} ± {half:.4f}"
                + (f", {p_told(row['p'])}" if row["p"] is not None else "")
                for row, half in zip(found, halves, strict=True)
            ],
        ),
    ]
    every = next(row for row in found if row["kind"] == "all")
    alone = [row for row in found if row["kind"] == "alone"]
    gains = [row for row in alone if row["real"] and row["difference"] < 0]
    total = math.fsum(row["difference"] for row in alone)
    which = "five alone" if len(alone) == 5 else f"{_count(len(alone))} that were trained alone"
    summed = f"the {which} add up to {signed(total, 4)}"
    return Figure(
        title=f"Against the base: {BUDGETS[budget]}, {context:,} tokens of context",
        panels=[
            Panel(
                marks,
                x=Axis(
                    "change of bits a byte (left is better)",
                    domain=padded([0.0, *(e for pair in ends for e in pair)]),
                ),
                y=Axis(type="band", domain=names),
                title="Change against the base, with 95 % intervals over seeds",
                series={REAL: "accent", OPEN: "c6"},
                height=250,
            )
        ],
        readout=(
            f"{note}All five change bits a byte by {signed(every['difference'], 4)} ± "
            f"{every['difference_half'] or 0:.4f}; {summed}, "
            f"and {_count(len(gains))} of them {'is' if len(gains) == 1 else 'are'} a gain that "
            "the seeds tell from chance."
        ),
        cost="settings found by search cost the trials of the search on top",
    )


def _count(number: int) -> str:
    return ("none", "one", "two", "three", "four", "five")[number]
