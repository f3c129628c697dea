"""Explorer of chapter 2: the race on word2vec at equal budget."""

import math

import numpy as np

from genopt_core import tables
from genopt_core.explorers.cross_entropy.names import listed
from genopt_core.explorers.panels import end_labels, results, thin_runs
from genopt_core.figures import schema as figure
from genopt_core.figures.controls import Choice
from genopt_core.figures.registry import Preset, explorer
from genopt_core.figures.schema import Axis, Figure, Panel

TABLES = {
    "word2vec_planted": "planted corpus, Spearman",
    "word2vec_wikipedia": "Wikipedia extract, AUC",
}
METHODS = {
    "plain": "plain CE",
    "plus": "CE plus",
    "posterior": "CE posterior",
    "random": "random",
    "tpe": "Optuna TPE",
    "qmc": "quasi-random",
    "cma": "CMA-ES",
    "catcma": "CatCMA",
}
ROLES = dict(zip(METHODS, ("c1", "c2", "accent", "muted", "c4", "c3", "c5", "c6"), strict=True))
AFTER = 60  # trainings, the largest budget that all have
HEIGHT = 280
LEAST = 3e-4  # drawn for a regret of 0, on the logarithmic axis


def race_regrets(table: str, method: str) -> np.ndarray:
    """True regret (runs, evaluations) of the best observed so far."""
    kept = tables.load("search_race")
    return np.array(kept["tables"][table][method]["regret"]) * kept["unit"]


def raced(table: str) -> list[str]:
    """The methods with stored runs."""
    return [method for method in METHODS if method in tables.load("search_race")["tables"][table]]


@explorer(
    "cem-race",
    Choice("table", "Objective", TABLES, help="Every configuration was trained and is looked up."),
    Choice(
        "method",
        "Thin lines of",
        METHODS,
        start="plain",
        help="The 20 runs of this method are drawn beside all means.",
    ),
    title="The race at equal budget",
    alt=(
        "Regret, on a logarithmic scale, against the number of trainings: means of the "
        "methods as thick lines, the 20 runs of one method as thin lines; beside it the mean "
        "of every method after 60 trainings."
    ),
    presets=(
        Preset("Plain CE, planted", {}, "Good later, slow at first."),
        Preset("Reusing everything", {"method": "plus"}),
        Preset("Posterior-weighted", {"method": "posterior"}),
        Preset("Real text", {"table": "word2vec_wikipedia", "method": "posterior"}),
        Preset(
            "Plain CE, real text: runs get stuck",
            {"table": "word2vec_wikipedia"},
            "Some runs settle on a wrong configuration and stay there: more trainings are wasted.",
            fails=True,
        ),
    ),
)
def cem_race(table: str, method: str) -> Figure:
    """Stored runs of each method, 20 seeds (book, chapter 2)."""
    names = raced(table)
    runs = np.maximum(race_regrets(table, method), LEAST)
    at = _every(4, runs.shape[1])
    thin = thin_runs(at + 1, runs[:, at], METHODS[method], width=0.6, opacity=0.5)
    lines = {METHODS[n]: ROLES[n] for n in names}
    ends = {n: race_regrets(table, n)[:, AFTER - 1] for n in names}
    mean = {n: float(r.mean()) for n, r in ends.items()}
    error = {n: float(r.std(ddof=1) / math.sqrt(len(r))) for n, r in ends.items()}
    rows = [
        {"trainings": at + 1, "regret": regret[at], "method": METHODS[name]}
        for name in names
        for regret in [np.maximum(race_regrets(table, name).mean(axis=0), LEAST)]
        for at in _every(3, len(regret))
    ]
    shown = [METHODS[n] for n in names]
    upwards = Axis(
        "regret",
        type="log",
        domain=(LEAST / 4, 1.0),
        ticks=[LEAST, 0.001, 0.01, 0.1, 1],
        tick_labels=["0", "0.001", "0.01", "0.1", "1"],
    )
    last = {row["method"]: (row["trainings"], row["regret"]) for row in rows}
    stopped = {name: at for name, at in last.items() if at[0] <= AFTER}
    panels = [
        results(
            rows,
            ("trainings", "regret", "method"),
            lines,
            (Axis("trainings", domain=(1, 165), ticks=[1, *range(20, 121, 20)]), upwards),
            kind="line",
            width={name: 3 if name == METHODS[method] else 1.6 for name in lines},
            below=[thin],
            above=[
                end_labels({n: at for n, at in last.items() if n not in stopped}, upwards, HEIGHT),
                *(
                    figure.text([x], [y], [words], anchor="start", dx=3, dy=down, size=11)
                    for name, (x, y) in stopped.items()
                    for words, down in ((name, -9), (f"run to {AFTER}", 12))
                ),
            ],
            legend=False,
            title="True regret of the best observed so far",
            height=HEIGHT,
        ),
        Panel(
            [
                figure.link(
                    [max(mean[n] - error[n], 0) for n in names],
                    shown,
                    [mean[n] + error[n] for n in names],
                    shown,
                    width=3,
                    tip=[f"{METHODS[n]}: ± {error[n]:.4f}" for n in names],
                ),
                figure.dot(
                    list(mean.values()),
                    shown,
                    size=9,
                    tip=[f"{METHODS[n]}: {mean[n]:.4f} ± {error[n]:.4f}" for n in names],
                ),
            ],
            x=Axis(f"mean regret after {AFTER} trainings, ± one standard error"),
            y=Axis(type="band", domain=shown),
            title=f"After {AFTER} trainings",
            height=HEIGHT,
        ),
    ]
    mine = ends[method]
    hits = int((mine < 1e-9).sum())
    better = [METHODS[n] for n in names if n != method and mean[n] < mean[method]]
    readout = (
        f"After {AFTER} trainings {METHODS[method]} has a mean regret of {mean[method]:.4f} ± "
        f"{error[method]:.4f} over {len(mine)} seeds and {hits} runs at the optimum; "
        + (f"the means of {listed(better)} are lower." if better else "no other mean is lower.")
    )
    spent = tables.load("search_race")["tables"][table][method]["milliseconds"]
    return Figure(
        title=f"{METHODS[method]}, {TABLES[table]}",
        panels=panels,
        readout=readout,
        cost=(
            f"{spent:.3g} ms of CPU a suggestion, on a busy machine. CE posterior was run to "
            f"{AFTER} trainings only: its Gaussian process takes the longest, so all are compared "
            f"there."
        ),
        layout="row",
    )


def _every(step: int, count: int) -> np.ndarray:
    """Every ``step``-th of so many indices, and the last."""
    return np.unique([*range(0, count, step), count - 1])
