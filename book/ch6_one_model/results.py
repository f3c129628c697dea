"""Reports of the stored factorial of chapter 6.

``book/experiments/one_model`` trained and scored; nothing here does.  Each report gives rows for
`genopt_core.explorers.reports.table`; ± is half of Student's 95 % interval over seeds.
"""

from collections.abc import Iterable
from statistics import fmean
from textwrap import fill
from typing import Any

from genopt_core import tables
from genopt_core.explorers.one_model import grid, interactions, subsets
from genopt_core.explorers.one_model.grid import (
    ALL,
    BASE,
    BUDGETS,
    LEVEL,
    LEVELS,
    SHORT,
    TRAINED,
    build_of,
    p_told,
    paired,
)
from genopt_core.explorers.one_model.scaling import COLUMNS as SCALED
from genopt_core.explorers.one_model.scaling import SAVINGS, left_on_paper, shaped
from genopt_core.explorers.panels import signed, true_minus
from genopt_core.explorers.reports import Column, Estimate, Row
from genopt_core.one_model import ModelConfig
from genopt_core.one_model.factorial import student_interval

CACHE_AIM = 0.30  # of the base's bytes
COLUMNS = {
    "bits a byte": Column(".4f", best="least"),
    "against the base": Column("+.4f", "bits a byte"),
    "effect": Column("+.4f", "bits a byte"),
    "share": Column(".0f", "%"),
    "measured": Column(".0f", "%"),
    "on paper": Column(".0f", "%"),
    "seconds to train": Column(".1f"),
    "tokens a second": Column(",.0f"),
    "thousand bytes written": Column(".2f", "s"),
    "best": Column(".4f", "bits a byte", best="least"),
    "cpu seconds": Column(",.0f"),
    "total bytes": Column(",.0f"),
    "minutes": Column(".1f"),
    **{f"{n:,} tokens": Column("+.4f", "bits a byte") for n in (512, 1024, 2048)},
}


def _rows(name: str) -> list[dict[str, Any]]:
    return tables.records(grid.table()[name], "rows", "columns")


# ------------------------------------------------------------------ the verdict


def verdict() -> str:
    """What the table says, in sentences that change with it."""
    return wrapped(*_budget_lines(), _cache_line(), _recommended())


def wrapped(*sentences: str) -> str:
    """A list of sentences in lines that fit a page."""
    return "\n".join(fill(s, 88, initial_indent="- ", subsequent_indent="  ") for s in sentences)


def _budget_lines() -> Iterable[str]:
    for budget, label in grid.with_all_five().items():
        found = grid.scores(budget, TRAINED)
        base, every = (grid.interval(budget, TRAINED, build) for build in (BASE, ALL))
        gain = paired(found[ALL], found[BASE])
        word = "lower" if gain.mean < 0 else "higher"
        apart = abs(every.mean - base.mean) > every.half + base.half
        least = grid.best(budget, TRAINED)
        text = (
            f"{label[0].upper()}{label[1:]}: all five have {every.mean:.4f} ± {every.half:.4f} "
            f"bits a byte, the base {base.mean:.4f} ± {base.half:.4f}: {abs(gain.mean):.4f} "
            f"{word} ({p_told(gain.p)}), intervals {'apart' if apart else 'that overlap'}."
        )
        if least.cell != ALL.cell:
            one = paired(found[least], found[ALL])
            told = "told" if one.p < LEVEL else "not told"
            text += (
                f" The best of {len(found)} is {least.label}, {abs(one.mean):.4f} below all five "
                f"({p_told(one.p)}, {told} from chance)."
            )
        yield text


def _cache_line() -> str:
    (row,) = (r for r in _rows("cache_bytes") if r["context"] == TRAINED)
    longest = _rows("cache_bytes")[-1]
    return (
        f"The staircase holds {100 * row['share']:.0f} % of the base's cache at "
        f"{row['context']:,} tokens and {100 * longest['share']:.0f} % at "
        f"{longest['context']:,}; we had aimed for at most {100 * CACHE_AIM:.0f} %."
    )


def _recommended() -> str:
    chosen = grid.table()["verdict"]["recommended"]
    build = build_of(chosen["cell"], chosen["cache"])
    left_out = [SHORT[n] for n, on in zip(grid.FACTORS, build, strict=True) if not on]
    words = f"At equal tokens no build is shown to be better than {build.label}"
    return f"{words}, without {', '.join(left_out)}." if left_out else f"{words}."


# ------------------------------------------------------------------ subsets, effects


def chosen(budget: str) -> list[Row]:
    """The base, each method alone, all five, all but one, and the best."""
    context = TRAINED
    base = grid.interval(budget, context, BASE)
    rows: list[Row] = [{"switched on": "the base", "bits a byte": Estimate(base.mean, base.half)}]
    for row in subsets.rows(budget, context):
        rows.append(
            {
                "switched on": row["name"],
                "bits a byte": Estimate(row["mean"], row["half"]),
                "against the base": Estimate(row["difference"], row["difference_half"]),
                "p": "" if row["p"] is None else p_told(row["p"]),
                "told from the base": "yes" if row["real"] else "no",
            }
        )
    return rows


def yates(budget: str) -> list[Row]:
    """Main effects and interactions at each context, the largest at the trained length first."""
    by_context = {
        n: {row["name"]: row for row in interactions.effects(str(n), budget)} for n in grid.CONTEXTS
    }
    rows = []
    for name, first in by_context[TRAINED].items():
        row: Row = {"effect of": name}
        for n, found in by_context.items():
            row[f"{n:,} tokens"] = Estimate(found[name]["mean"], found[name]["half"])
        row["p"] = p_told(first["p"])
        row["real"] = "yes" if first["real"] else "no"
        rows.append(row)
    return rows


def joint(budget: str) -> str:
    """How many interactions are real, and the largest of them."""
    found = [row for row in interactions.effects(str(TRAINED), budget) if "×" in row["name"]]
    real = [row for row in found if row["real"]]
    words = f"{BUDGETS[budget].capitalize()}: {len(real)} of {len(found)} interactions are real"
    if not real:
        return f"{words}."
    told = "; ".join(f"{r['name']} {signed(r['mean'], 4)}" for r in real[:3])
    return f"{words}, the largest: {told}."


# ------------------------------------------------------------------ costs


def costs(budget: str) -> list[Row]:
    """Training, cache and writing of each method alone, of all, and of the best."""
    builds = {"the base": BASE}
    for name in grid.FACTORS:
        builds[f"only {SHORT[name]}"] = BASE._replace(**{name: True})
    builds |= {"all five": ALL}
    least = grid.best(budget, TRAINED)
    if least not in builds.values():
        builds[f"best: {least.label}"] = least
    times = grid.seconds(budget)
    rows = []
    for name, build in builds.items():
        one = student_interval(times[build])
        held = [grid.cache_per_byte(b, grid.CONTEXTS[-1]) for b in (build, BASE)]
        rows.append(
            {
                "switched on": name,
                "seconds to train": Estimate(one.mean, one.half),
                "share": 100 * held[0] / held[1],
                "thousand bytes written": grid.decoding(build),
            }
        )
    return rows


def speeds() -> list[Row]:
    """Tokens a second of one core."""
    return [
        {
            "what": row["what"],
            "positions": LEVELS["positions"][row["positions"]],
            "attention": LEVELS["attention"].get(row["attention"], ""),
            "cache": LEVELS["cache"].get(row["cache"], ""),
            "tokens a second": float(row["value"]),
        }
        for row in _rows("speed")
    ]


def settings() -> list[Row]:
    """Default settings, and what each search found."""
    search = grid.table()["search"]
    names = [n for n in search["default"] if n != "source"]
    found = {
        "default": search["default"],
        "found": search["found"],
        "random search": search["random"],
    }
    return [
        {"settings": name, **{n: f"{values[n]:.3g}" for n in names if n in values}}
        for name, values in found.items()
    ]


def searches() -> list[Row]:
    """What the two searches spent and found on training text."""
    return [
        {
            "search": row["method"],
            "trials": row["trials"],
            "cpu seconds": float(row["cpu_seconds"]),
            "best": float(row["best"]),
        }
        for row in tables.records(grid.table()["search"]["methods"], "rows", "columns")
    ]


def golf() -> list[Row]:
    """Entries of the small contest, the least bits first; empty before there are any."""
    return [
        {
            "entry": row["entry"],
            "best": float(row["bits"]),
            "total bytes": float(row["total_bytes"]),
            "minutes": float(row["cpu_minutes"]),
            "how": row["how"],
        }
        for row in sorted(_rows("golf"), key=lambda row: row["bits"])
    ]


# ------------------------------------------------------------------ aims, scale


def aims() -> list[Row]:
    """What we had aimed for, and what was found."""
    share = next(r["share"] for r in _rows("cache_bytes") if r["context"] == TRAINED)
    found = []
    for budget, label in grid.with_all_five().items():
        base, every = (grid.interval(budget, TRAINED, build) for build in (BASE, ALL))
        found.append(
            (
                f"all five against the base at {label}",
                "lower, 95 % intervals apart",
                f"{signed(every.mean - base.mean, 4)} bits a byte",
                every.mean + every.half < base.mean - base.half,
            )
        )
    found += [
        (
            f"bytes of the cache at {TRAINED:,} tokens",
            f"at most {100 * CACHE_AIM:.0f} % of the base's",
            f"{100 * share:.0f} %",
            share <= CACHE_AIM,
        ),
    ]
    for name in grid.FACTORS:
        row = next(r for r in interactions.effects(str(TRAINED), "tokens") if r["name"] == name)
        found.append(
            (
                f"main effect of {name}",
                "shown, even where it hurts",
                true_minus(f"{row['mean']:+.4f} ± {row['half']:.4f}"),
                True,
            )
        )
    return [
        {"what": what, "aim": aim, "found": value, "verdict": "met" if met else "missed"}
        for what, aim, value, met in found
    ]


def scaled() -> list[Row]:
    """Savings measured on small models beside those of the formulas."""
    stored = tables.load("one_model_scaling")
    config = ModelConfig.from_json(dict(stored["model"]))
    rows = []
    for saving, (without, with_it) in SCALED.items():
        for row in tables.records(stored, "rows", "columns"):
            at = shaped(config, row["over"], row["value"], stored["fixed"])
            rows.append(
                {
                    "what is left of": SAVINGS[saving],
                    "over": row["over"],
                    "value": row["value"],
                    "measured": 100 * row[with_it] / row[without],
                    "on paper": left_on_paper(saving, *at),
                }
            )
    return rows


def worst_of_paper() -> float:
    """Largest distance in percent of a counted cache from its formula."""
    return max(
        abs(row["measured"] / row["on paper"] - 1) * 100
        for row in scaled()
        if row["what is left of"] == SAVINGS["cache"]
    )


def mean_bits(budget: str, name: str) -> float:
    """Mean bits a byte of the base or of all five at the trained length."""
    return fmean(grid.scores(budget, TRAINED)[{"base": BASE, "all": ALL}[name]])
