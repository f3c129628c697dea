"""Reports of the stored race of searches and of its confirmation (chapter 2).

``book/experiments/cross_entropy`` ran both; nothing here searches.  Each report takes what `race`
or `confirmation` returns and gives rows for `genopt_core.explorers.reports.table`.
"""

from collections.abc import Mapping, Sequence
from statistics import fmean, median
from typing import Any

from genopt_core.checks import one_of
from genopt_core.explorers.cross_entropy.names import (
    BUDGETS,
    METHODS,
    OURS,  # noqa: F401  for the page
    in_words,
    problem_label,
)
from genopt_core.explorers.reports import (
    Column,
    Estimate,
    Row,
    Spread,
    half_interval,
    mean_with_deviation,
    mean_with_interval,
    read,
)

Result = Mapping[str, Any]
HALVES = ("development", "held-out")
SCORES = {"auc": "AUC", "wordsim353": "WordSim-353", "simlex999": "SimLex-999"}
_REGRET = Column(".3f", best="least")
TUNING_BUDGETS = (30, 60, 120)
FORMATS = {
    **{f"after {budget}": _REGRET for budget in BUDGETS},
    **{f"rank at {budget}": Column(".2f", best="least") for budget in TUNING_BUDGETS},
    **{f"regret at {budget}": _REGRET for budget in TUNING_BUDGETS},
    **{f"best at {budget}": Column(".4f", best="least") for budget in (30, 60)},
    "mean rank": Column(".2f", best="least"),
    "best observed": _REGRET,
    "recommended": _REGRET,
    "difference": "+.3f",
    "at 50": Column(".1f", "%"),
    "at 100": Column(".1f", "%"),
    "time": Column(".1f", "ms", best="least"),
    "times that of CE posterior": Column(".2f", "range"),
}


def race() -> Result:
    """The stored race."""
    content: Result = read("cross_entropy.json", "cross-entropy-race/1")
    return content


def confirmation() -> Result:
    """What searches on the word2vec tables found, trained again with fresh seeds."""
    content: Result = read("word2vec_confirmation.json", "word2vec-confirmation/1")
    return content


def several() -> Result:
    """Hypervolumes of studies with two and three objectives."""
    content: Result = read("cross_entropy_objectives.json", "cross-entropy-objectives/1")
    return content


def tunings() -> Result:
    """The stored race on real tunings."""
    content: Result = read("cross_entropy_tunings.json", "cross-entropy-tunings/1")
    return content


def arms() -> Result:
    """Other shares of `plus` on stepped objectives, and which was chosen."""
    content: Result = read("cross_entropy_arms.json", "cross-entropy-arms/1")
    return content


def _label(race: Result, method: str) -> str:
    return METHODS[one_of(method, "method", race["methods"])]


def problems(race: Result, half: str = "held-out") -> list[str]:
    """The problems of a half that were run, in their order."""
    one_of(half, "half", HALVES)
    return [name for name, fact in race["problems"].items() if fact["half"] == half]


def suite(race: Result, half: str = "held-out") -> list[Row]:
    """The problems of a half and the kinds of their parameters."""
    facts = race["problems"]
    return [
        {
            "problem": problem_label(name),
            "categories": facts[name]["categorical"],
            "whole numbers": facts[name]["integer"],
            "real numbers": facts[name]["float"],
            "scored by": "a table of trainings"
            if facts[name]["family"] == "table"
            else "a formula",
        }
        for name in problems(race, half)
    ]


def standings(race: Result, half: str = "held-out") -> list[Row]:
    """Mean regret of every method with its standard error, at every budget, best at 60 first."""
    one_of(half, "half", HALVES)
    found = {(s["method"], s["budget"]): s for s in race["summary"] if s["half"] == half}
    methods = [m for m in race["methods"] if (m, 60) in found]
    rows = []
    for method in sorted(methods, key=lambda m: found[m, 60]["mean"]):
        at = {budget: found.get((method, budget)) for budget in BUDGETS}
        rows.append(
            {
                "method": _label(race, method),
                **{f"after {b}": s and Estimate(s["mean"], s["error"]) for b, s in at.items()},
            }
        )
    return rows


def by_problem(
    race: Result, budget: int, methods: Sequence[str], half: str = "held-out"
) -> list[Row]:
    """Mean regret of each problem (rows) and method (columns)."""
    one_of(budget, "budget", BUDGETS)
    means = {(m, p): mean for m, p, b, _, mean, _ in race["means"] if b == budget}
    columns = {METHODS[one_of(m, "method", race["methods"])]: m for m in methods}
    return [
        {
            "problem": problem_label(p),
            **{column: means.get((m, p)) for column, m in columns.items()},
        }
        for p in problems(race, half)
    ]


def duels(race: Result, ours: str, half: str = "held-out") -> list[Row]:
    """Wins, ties and losses against every other method, paired by problem and seed.

    p is that of a two-sided sign test, multiplied by Holm's rule for all comparisons of the half;
    the interval of the mean difference is from its spread between problems.  *Behind on* are the
    problems on which the other's mean regret is smaller.
    """
    one_of(half, "half", HALVES)
    name = _label(race, ours)
    return [
        {
            "ours": name,
            "against": _label(race, c["peer"]),
            "evaluations": c["budget"],
            "wins": c["wins"],
            "ties": c["ties"],
            "losses": c["losses"],
            "corrected p": in_words(c["holm"]),
            "difference": Estimate(
                c["difference"], c["error"] and half_interval(c["error"], c["problems"])
            ),
            "behind on": ", ".join(map(problem_label, c["worse_on"])) or None,
        }
        for c in race["comparisons"]
        if (c["half"], c["ours"]) == (half, ours)
    ]


def _regrets(race: Result, method: str, problem: str, column: str) -> dict[int, float]:
    """Regrets of the runs of a method on a problem, by seed; none where it was not run."""
    at = race["columns"].index(column)
    for row in race["rows"]:
        if (row[0], row[1]) == (method, problem):
            pairs = zip(row[2], row[at] or [None] * len(row[2]), strict=True)
            return {seed: race["unit"] * value for seed, value in pairs if value is not None}
    return {}


def recommendations(race: Result, ours: str, budget: int) -> list[Row]:
    """Mean regret of the best observed and of the recommended trial, on problems with noise."""
    one_of(budget, "budget", BUDGETS), _label(race, ours)
    rows = []
    for problem in problems(race):
        family = race["problems"][problem]["family"]
        best = _regrets(race, ours, problem, f"r{budget}")
        recommended = _regrets(race, ours, problem, f"rec{budget}")
        seeds = best.keys() & recommended.keys()
        if seeds and (family in ("noisy", "table") or "noisy" in problem):
            means = (fmean(values[s] for s in sorted(seeds)) for values in (best, recommended))
            rows.append(
                {
                    "problem": problem_label(problem),
                    **dict(zip(("best observed", "recommended"), means, strict=True)),
                }
            )
    return rows


def at_half_the_budget(race: Result, ours: str, other: str = "random") -> list[Row]:
    """Ours after 60 evaluations against another method after 120, held-out problems."""
    _label(race, ours), _label(race, other)
    rows = []
    for problem in problems(race):
        a = _regrets(race, ours, problem, "r60")
        b = _regrets(race, other, problem, "r120")
        if not (seeds := sorted(a.keys() & b.keys())):
            continue
        gains = [a[s] - b[s] for s in seeds]
        wins, losses = sum(g < -race["tie"] for g in gains), sum(g > race["tie"] for g in gains)
        rows.append(
            {
                "problem": problem_label(problem),
                f"{METHODS[ours]} at 60": fmean(a[s] for s in seeds),
                f"{METHODS[other]} at 120": fmean(b[s] for s in seeds),
                "wins": wins,
                "ties": len(gains) - wins - losses,
                "losses": losses,
            }
        )
    return rows


def cost_ratios(race: Result, of: str, budget: int = 120) -> list[Row]:
    """Processor time of a suggestion in the timed runs, and over that of one method.

    Those runs took the methods in turn on the same problem and seed, so that a ratio compares
    neighbors in time; its median and range are over these pairs.
    """
    _label(race, of)
    cost = {(m, p, s): ms for m, p, s, b, ms in race["costs"] if b == budget}
    rows = []
    for method in race["methods"]:
        own = {key[1:]: ms for key, ms in cost.items() if key[0] == method}
        if own:
            rows.append(
                {
                    "method": _label(race, method),
                    "time": median(own.values()),
                    "problems": len(own),
                    f"times that of {METHODS[of]}": Spread.of(
                        [ms / cost[of, *key] for key, ms in own.items()]
                    ),
                }
            )
    return rows


def confirmed(confirmation: Result, ours: str, other: str = "random") -> list[Row]:
    """Mean and deviation of both by score, and their paired difference with its interval.

    The interval is that of another search and another training, not of other words.
    """
    found: dict[str, dict[str, dict[int, float]]] = {}
    for _, method, seed, _, _, scores, _ in confirmation["rows"]:
        for name, value in scores.items():
            found.setdefault(name, {}).setdefault(method, {})[seed] = value
    rows = []
    for name, by_method in found.items():
        a, b = (by_method[one_of(m, "method", by_method)] for m in (other, ours))
        gains = [b[seed] - a[seed] for seed in sorted(a.keys() & b.keys())]
        rows.append(
            {
                "score": SCORES.get(name, name),
                "search": METHODS[ours],
                "found by it": mean_with_deviation(list(b.values())),
                f"by {METHODS[other]}": mean_with_deviation(list(a.values())),
                "difference": mean_with_interval(gains),
                "better": sum(g > 0 for g in gains),
                "worse": sum(g < 0 for g in gains),
            }
        )
    return rows


def missing_volume(several: Result) -> list[Row]:
    """The percentage of the true front's hypervolume that is missing, mean and deviation."""
    budgets = several["budgets"]
    found: dict[tuple[str, str], list[list[float]]] = {}
    for problem, method, _, *missing, _ in several["rows"]:
        found.setdefault((problem, method), []).append(missing)
    return [
        {
            "method": METHODS[method],
            "problem": problem,
            **{
                f"at {n}": mean_with_deviation([100 * run[i] for run in runs])
                for i, n in enumerate(budgets)
            },
        }
        for (problem, method), runs in found.items()
    ]


def tuning_ranks(tunings: Result, half: str = "untouched") -> list[Row]:
    """Mean rank and mean regret of every method at each budget, best rank at 60 first.

    ``half`` may also be a part of the untouched one: "first", the eight seeds first run, or
    "added".  Ranks are over the pairs of tuning and seed that all methods of a budget have run.
    """
    one_of(half, "half", tuning_parts(tunings))
    found = {(s["method"], s["budget"]): s for s in tunings["summary"] if s["half"] == half}
    methods = [m for m in tunings["methods"] if (m, 60) in found]
    return [
        {
            "method": METHODS[m],
            **{f"rank at {b}": (found.get((m, b)) or {}).get("rank") for b in TUNING_BUDGETS},
            **{f"regret at {b}": (found.get((m, b)) or {}).get("mean") for b in TUNING_BUDGETS},
        }
        for m in sorted(methods, key=lambda m: found[m, 60]["rank"])
    ]


def tuning_parts(tunings: Result) -> list[str]:
    """What is compared for itself."""
    return list(dict.fromkeys(s["half"] for s in tunings["summary"]))


def tuning_duels(tunings: Result, ours: str, half: str = "untouched") -> list[Row]:
    """Wins, ties and losses by tuning and seed, Wilcoxon's p corrected by Holm's rule."""
    one_of(half, "half", tuning_parts(tunings))
    return [
        {
            "against": METHODS[c["peer"]],
            "ours": METHODS[c["ours"]],
            "evaluations": c["budget"],
            "wins": c["wins"],
            "ties": c["ties"],
            "losses": c["losses"],
            "corrected p": in_words(c["holm"]),
            "difference": c["difference"],
            "behind on": ", ".join(c["behind"]) or None,
        }
        for c in tunings["comparisons"]
        if (c["half"], c["ours"]) == (half, ours)
    ]


def first_report(tunings: Result) -> list[Row]:
    """The tree on breast cancer with whole ranges: mean best error, by how often it was run."""
    found: dict[tuple[bool, str], list[list[float]]] = {}
    for method, seed, *best in tunings["case"]:
        found.setdefault((seed in tunings.get("added", ()), method), []).append(best)
    return [
        {
            "method": METHODS[method],
            "seeds": f"{len(runs)} {'added' if added else 'first'}",
            "best at 30": mean_with_interval([run[0] for run in runs]),
            "best at 60": mean_with_interval([run[1] for run in runs]),
        }
        for (added, method), runs in sorted(found.items(), key=lambda pair: pair[0][0])
    ]


ARMS = {
    "posterior": "CE posterior: a quarter",
    "half": "half",
    "early": "three quarters at first, a quarter from 60 trials on",
    "checked": "by leave-one-out, a tenth to nine tenths",
    "tpe": "TPE",
    "random": "random search",
}


def arm_ranks(arms: Result) -> list[Row]:
    """Mean rank of each share of `plus` on the problems that it was chosen on."""
    return [
        {"share of plus": ARMS[arm], "mean rank": rank}
        for arm, rank in sorted(arms["ranks"].items(), key=lambda pair: pair[1])
    ]


def arm_duel(arms: Result) -> list[Row]:
    """The chosen share against the present one on the untouched tunings, added seeds."""
    return [
        {
            "evaluations": budget,
            "wins": wins,
            "ties": ties,
            "losses": losses,
            "difference": difference,
            "p": in_words(p),
        }
        for budget, wins, ties, losses, difference, p in arms["against base"]
    ]


def beyond_the_grid(confirmation: Result) -> list[Row]:
    """The planted optimum beyond the edge of its grid: mean and standard deviation."""
    found: dict[str, list[float]] = {}
    for name, _, value in confirmation["border"]:
        found.setdefault(name, []).append(value)
    return [
        {"setting": name, "correlation": mean_with_deviation(values)}
        for name, values in found.items()
    ]
