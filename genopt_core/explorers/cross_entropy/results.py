"""Reports of the stored race of searches and of its confirmation (chapter 2).

``book/experiments/cross_entropy`` ran both; nothing here searches.  Each report takes what `race`
or `confirmation` returns and gives rows for `genopt_core.explorers.reports.table`.
"""

from collections.abc import Mapping, Sequence
from statistics import fmean, median
from typing import Any

from genopt_core.explorers.reports import (
    Estimate,
    Row,
    Spread,
    half_interval,
    mean_with_deviation,
    mean_with_interval,
    one_of,
    read,
)

Result = Mapping[str, Any]
HALVES = ("development", "held-out")
BUDGETS = (30, 60, 120, 240)
PROBLEMS = {
    "categories": "categories",
    "nk": "NK landscape",
    "network": "network settings",
    "conditional": "conditional space",
    "noisy-categories": "noisy categories",
    "noisy-network": "noisy network settings",
    "rugged": "rugged levels",
    "rosenbrock": "Rosenbrock",
    "ackley": "Ackley",
    "word2vec": "word2vec",
    "trees": "boosted trees",
    "transformer": "small transformers",
    "mixed": "mixed kinds",
    "noisy": "noisy mixed kinds",
    "rastrigin": "Rastrigin",
    "hartmann": "Hartmann",
}
SCORES = {"auc": "AUC", "wordsim353": "WordSim-353", "simlex999": "SimLex-999"}
FORMATS = {
    "corrected p": ".2g",
    "difference": "+.3f",
    "milliseconds": ".1f",
    "ratio (range)": ".2f",
}
DRAWN = ("posterior", "plus", "plain", "gp", "tpe", "random")  # the lines that have a color


def race() -> Result:
    """The stored race."""
    content: Result = read("cross_entropy.json", "cross-entropy-race/1")
    return content


def confirmation() -> Result:
    """What searches on the word2vec tables found, trained again with fresh seeds."""
    content: Result = read("word2vec_confirmation.json", "word2vec-confirmation/1")
    return content


def problem_label(problem: str) -> str:
    """A problem in words.

    >>> problem_label("nk"), problem_label("nk-dev")
    ('NK landscape', 'NK landscape (development)')
    """
    label = PROBLEMS[problem.removesuffix("-dev")]
    return f"{label} (development)" if problem.endswith("-dev") else label


def _label(race: Result, method: str) -> str:
    return str(race["methods"][one_of("method", method, race["methods"])]["label"])


def _short(race: Result, method: str) -> str:
    return _label(race, method).split(" (")[0].removeprefix("cross-entropy, ")


def problems(race: Result, half: str = "held-out") -> list[str]:
    """The problems of a half that were run, in their order."""
    one_of("half", half, HALVES)
    return [name for name, fact in race["problems"].items() if fact["half"] == half]


def standings(race: Result, budget: int, half: str = "held-out") -> list[Row]:
    """Mean regret of every method, best first, with its standard error and its runs."""
    one_of("half", half, HALVES), one_of("budget", budget, BUDGETS)
    found = [s for s in race["summary"] if (s["half"], s["budget"]) == (half, budget)]
    return [
        {
            "regret": s["mean"],
            "standard error": s["error"],
            "problems": s["problems"],
            "runs": s["runs"],
            "method": _label(race, s["method"]),
        }
        for s in sorted(found, key=lambda s: s["mean"])
    ]


def by_problem(
    race: Result, budget: int, methods: Sequence[str], half: str = "held-out"
) -> list[Row]:
    """Mean regret of each problem (rows) and method (columns)."""
    one_of("budget", budget, BUDGETS)
    means = {(m, p): mean for m, p, b, _, mean, _ in race["means"] if b == budget}
    columns = {method: _short(race, method) for method in methods}
    return [
        {
            "problem": problem_label(p),
            **{column: means.get((m, p)) for m, column in columns.items()},
        }
        for p in problems(race, half)
    ]


def duels(race: Result, ours: str, half: str = "held-out") -> list[Row]:
    """Wins, ties and losses against every other method, paired by problem and seed.

    p is that of a two-sided sign test, multiplied by Holm's rule for all comparisons of the half;
    the interval of the mean difference is from its spread between problems.
    """
    one_of("half", half, HALVES), _label(race, ours)
    return [
        {
            "evaluations": c["budget"],
            "wins": c["wins"],
            "ties": c["ties"],
            "losses": c["losses"],
            "corrected p": c["holm"],
            "difference": Estimate(
                c["difference"], c["error"] and half_interval(c["error"], c["problems"])
            ),
            "against": _label(race, c["peer"]),
        }
        for c in race["comparisons"]
        if (c["half"], c["ours"]) == (half, ours)
    ]


def losses(race: Result, ours: str, half: str = "held-out") -> list[Row]:
    """The problems on which another method's mean regret is smaller."""
    one_of("half", half, HALVES), _label(race, ours)
    return [
        {
            "evaluations": c["budget"],
            "against": _label(race, c["peer"]),
            "behind on": ", ".join(map(problem_label, c["worse_on"])),
        }
        for c in race["comparisons"]
        if (c["half"], c["ours"]) == (half, ours) and c["worse_on"]
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
    one_of("budget", budget, BUDGETS), _label(race, ours)
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
                    **dict(zip(("best observed", "recommended"), means, strict=True)),
                    "problem": problem_label(problem),
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
                "ours at 60": fmean(a[s] for s in seeds),
                "other at 120": fmean(b[s] for s in seeds),
                "wins": wins,
                "ties": len(gains) - wins - losses,
                "losses": losses,
                "problem": problem_label(problem),
            }
        )
    return rows


def costs(race: Result) -> list[Row]:
    """Median processor time of one suggestion over the problems, fastest first."""
    found: dict[str, list[float]] = {}
    for row in race["rows"]:
        found.setdefault(row[0], []).append(row[-1])
    middle = {method: median(values) for method, values in found.items()}
    return [
        {"milliseconds": middle[m], "method": _label(race, m)}
        for m in sorted(middle, key=middle.get)  # type: ignore[arg-type]
    ]


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
                    "milliseconds": median(own.values()),
                    "pairs": len(own),
                    "ratio (range)": Spread.of([ms / cost[of, *key] for key, ms in own.items()]),
                    "method": _label(race, method),
                }
            )
    return rows


def figure(race: Result, half: str = "held-out") -> Any:
    """Mean regret over the evaluations: six methods in color, the others in gray."""
    one_of("half", half, HALVES)
    from genopt_core.figures import plots  # matplotlib is for pages with a kernel only

    drawing, axes = plots.subplots(figsize=(6.4, 4.2))
    curves = {m: (b, v) for h, m, b, v in race["mean_curves"] if h == half}
    style = dict(zip(DRAWN, zip(plots.COLORS, plots.DASHES, strict=True), strict=False))
    for method in sorted(curves, key=lambda m: m in DRAWN):
        x, y = curves[method]
        if method in style:
            color, dash = style[method]
            axes.plot(x, y, color=color, linestyle=dash, label=_label(race, method))
        else:
            axes.plot(x, y, color="0.7", linewidth=1, linestyle="-")
            place = (x[-1], y[-1])
            axes.annotate(_short(race, method), place, fontsize=7, color="0.4", va="center")
    axes.set(xscale="log", yscale="log", xlabel="evaluations", ylabel="mean regret")
    axes.set_xticks([5, 10, 20, 30, 60, 120], ["5", "10", "20", "30", "60", "120"])
    axes.minorticks_off()
    least = min(min(y) for _, y in curves.values())
    ticks = [t for t in (0.05, 0.1, 0.2, 0.3, 0.5, 0.8) if t >= 0.9 * least]
    axes.set_yticks(ticks, [f"{t:g}" for t in ticks])
    axes.legend(fontsize=8)
    return drawing


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
        a, b = (by_method[one_of("method", m, by_method)] for m in (other, ours))
        gains = [b[seed] - a[seed] for seed in sorted(a.keys() & b.keys())]
        rows.append(
            {
                "score": SCORES.get(name, name),
                f"{other}, deviation": mean_with_deviation(list(a.values())),
                f"{ours}, deviation": mean_with_deviation(list(b.values())),
                "difference": mean_with_interval(gains),
                "better": sum(g > 0 for g in gains),
                "worse": sum(g < 0 for g in gains),
            }
        )
    return rows


def beyond_the_grid(confirmation: Result) -> list[Row]:
    """The planted optimum beyond the edge of its grid: mean and standard deviation."""
    found: dict[str, list[float]] = {}
    for name, _, value in confirmation["border"]:
        found.setdefault(name, []).append(value)
    return [
        {"mean ± deviation": mean_with_deviation(values), "setting": name}
        for name, values in found.items()
    ]
