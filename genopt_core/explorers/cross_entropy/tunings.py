"""Explorer of chapter 2's evidence: the race on real tunings, from the stored runs."""

from genopt_core import tables
from genopt_core.explorers.cross_entropy.names import METHODS, OURS, in_words, listed
from genopt_core.explorers.panels import results
from genopt_core.figures import schema as figure
from genopt_core.figures.controls import Choice
from genopt_core.figures.registry import Preset, explorer
from genopt_core.figures.schema import Axis, Figure, Panel

HALVES = {
    "added": "untouched, forty fresh seeds",
    "untouched": "untouched, all seeds",
    "first": "untouched, the first eight seeds",
    "development": "looked at while designing",
}
BUDGETS = (30, 60, 120)
ROLES = {"posterior": "accent", "plus": "c1", "gp": "c3", "tpe": "c4", "random": "c5"}
HEIGHT = 330
LEVEL = 0.05  # corrected probabilities below it tell two methods apart


def mean_ranks(half: str, budget: int) -> dict[str, float]:
    """Mean rank of each method that was run so far, best first."""
    found = tables.load("search_tunings")["ranks"][half][str(budget)]
    return dict(sorted(found["ranks"].items(), key=lambda pair: pair[1]))


def mean_regrets(half: str, budget: int) -> dict[str, list[float]]:
    """Mean regret of each method on each tuning of a half, in their order."""
    stored = tables.load("search_tunings")
    at = BUDGETS.index(budget)
    return {
        method: [stored["unit"] * by_budget[at] for by_budget in stored["regret"][half][method]]
        for method in mean_ranks(half, budget)
    }


def duel(half: str, ours: str, other: str, budget: int) -> tuple[int, int, int, float]:
    """Wins, ties, losses and the corrected probability."""
    wins, ties, losses, chance = tables.load("search_tunings")["duels"][half][
        f"{ours} {other} {budget}"
    ]
    return wins, ties, losses, chance


@explorer(
    "search-tunings",
    Choice(
        "half", "Tunings", HALVES, help="Halves are drawn by lot; forty seeds were added later."
    ),
    Choice("budget", "Evaluations", BUDGETS, start=60, help="All have used so many."),
    Choice(
        "ours",
        "Our method",
        {m: OURS[m] for m in ("posterior", "plus")},
        help="It is compared with every other method.",
    ),
    title="Real tunings",
    alt=(
        "On the left the mean rank of every method over all tunings and seeds; on the right, one "
        "row for each tuning, the mean regret of every method."
    ),
    presets=(
        Preset("Sixty evaluations, untouched", {}),
        Preset(
            "The first eight seeds: level with TPE",
            {"half": "first"},
            "Too few to tell them apart, which is why forty were added.",
        ),
        Preset(
            "Plus at thirty: behind TPE on four tunings",
            {"ours": "plus", "budget": 30},
            "The cheap form is level with TPE up to 60 evaluations.",
            fails=True,
        ),
        Preset("What the design was made on", {"half": "development"}),
    ),
)
def search_tunings(half: str, budget: int, ours: str) -> Figure:
    """Stored runs on models of scikit-learn, paired by tuning and seed (book, chapter 2)."""
    stored = tables.load("search_tunings")
    placed, regrets = mean_ranks(half, budget), mean_regrets(half, budget)
    blocks = stored["ranks"][half][str(budget)]["blocks"]
    band = [METHODS[m] for m in placed]
    series = {METHODS[m]: ROLES[m] for m in ROLES if m in placed}
    names = stored["tunings"][half]
    rows = [
        {
            "regret": value,
            "tuning": name.replace("-", ", "),
            "method": METHODS[m],
            "tip": f"{METHODS[m]}, {name}: {value:.3f}",
        }
        for m in series_order(placed)
        for name, value in zip(names, regrets[m], strict=True)
    ]
    most = max(row["regret"] for row in rows)
    panels = [
        Panel(
            [
                figure.dot(
                    list(placed.values()),
                    band,
                    size=[13 if m == ours else 9 for m in placed],
                    tip=[f"{METHODS[m]}: {rank:.2f}" for m, rank in placed.items()],
                ),
                figure.text(
                    list(placed.values()),
                    band,
                    [f"{rank:.2f}" for rank in placed.values()],
                    anchor="start",
                    dx=10,
                ),
            ],
            x=Axis(f"mean rank of {len(placed)}, left is better", domain=(1, len(placed))),
            y=Axis(type="band", domain=band),
            title=f"Ranks over {blocks} pairs of tuning and seed",
            height=HEIGHT,
        ),
        results(
            rows,
            ("regret", "tuning", "method"),
            series,
            (
                Axis("mean regret", domain=(-0.01, most * 1.05)),
                Axis(type="band", domain=[name.replace("-", ", ") for name in names]),
            ),
            kind="dot",
            size={METHODS[m]: 12 if m == ours else 8 for m in placed},
            title="Model, data",
            height=HEIGHT,
        ),
    ]
    return Figure(
        title=f"{len(names)} tunings, {HALVES[half]}; {budget} evaluations",
        panels=panels,
        readout=_said(half, ours, budget, list(placed)),
        cost=(
            "Ranks are over the seeds that all have run, a mean regret over all that its method "
            "has run. Wilcoxon's signed-rank test over all pairs, corrected by Holm's rule."
        ),
        layout="row",
    )


def series_order(placed: dict[str, float]) -> list[str]:
    """Methods that were run, ours drawn last and so on top."""
    return [m for m in reversed(ROLES) if m in placed]


def _said(half: str, ours: str, budget: int, methods: list[str]) -> str:
    found = {m: duel(half, ours, m, budget) for m in methods if m != ours}
    words: dict[str, list[str]] = {"ahead of": [], "level with": [], "behind": []}
    for m, (wins, _, losses, chance) in found.items():
        kind = "level with" if chance >= LEVEL else "ahead of" if wins > losses else "behind"
        equals = in_words(chance)
        sign = "" if equals.startswith("<") else "= "
        name = f"the {METHODS[m]}" if m == "gp" else METHODS[m]
        words[kind].append(f"{name} ({wins} wins to {losses} losses, p {sign}{equals})")
    parts = [f"{kind} {listed(names)}" for kind, names in words.items() if names]
    return f"After {budget} evaluations {OURS[ours]} is {listed(parts)}."
