"""Explorers of chapter 2: the race on word2vec, luck under noise, neighbours before and after."""

import math
from functools import lru_cache

import numpy as np

from genopt_core import tables
from genopt_core.cross_entropy.tabular import TabularObjective
from genopt_core.figures import schema as figure
from genopt_core.figures.controls import Choice, Seed, Slider
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
ROLES = ("c1", "c2", "accent", "muted", "c4", "c3", "c5", "c6")
DRAWN = ("plain", "plus", "posterior", "random", "tpe")  # their means are always lines
LEAST = 5e-4  # drawn for a regret of 0, on the logarithmic axis


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
        "methods as thick lines, the 20 runs of one method as thin lines; below, the mean "
        "of every method after 60 trainings."
    ),
    presets=(
        Preset("Plain CE, planted", {"method": "plain"}, "Good later, slow at first."),
        Preset("Reusing everything", {"method": "plus"}),
        Preset("Posterior-weighted", {"method": "posterior"}),
        Preset("Real text", {"table": "word2vec_wikipedia", "method": "posterior"}),
        Preset(
            "Plain CE, real text",
            {"table": "word2vec_wikipedia", "method": "plain"},
            "Some runs settle on a wrong configuration and stay there: more trainings are wasted.",
            fails=True,
        ),
    ),
)
def cem_race(table: str, method: str) -> Figure:
    """Stored runs of each method, 20 seeds (book, chapter 2)."""
    names = raced(table)
    runs = race_regrets(table, method)
    evaluations = np.arange(1, runs.shape[1] + 1)
    shown = np.unique(np.concatenate([np.arange(0, runs.shape[1], 4), [runs.shape[1] - 1]]))
    thin_x = [value for _ in runs for value in (*evaluations[shown].tolist(), math.nan)]
    thin_y = [v for run in runs for v in (*np.maximum(run[shown], LEAST).tolist(), math.nan)]
    marks = [figure.line(thin_x, thin_y, z=METHODS[method], width=0.6, opacity=0.5)]
    lines = [name for name in names if name in DRAWN or name == method]
    for name in lines:
        mean = np.maximum(race_regrets(table, name).mean(axis=0), LEAST)
        at = np.unique(np.concatenate([np.arange(0, len(mean), 3), [len(mean) - 1]]))
        width = 3 if name == method else 1.6
        marks.append(figure.line(at + 1, mean[at], z=METHODS[name], width=width))
    ends = {n: race_regrets(table, n)[:, 59] for n in names}
    error = {n: float(r.std(ddof=1) / math.sqrt(len(r))) for n, r in ends.items()}
    finish = Panel(
        [
            figure.link(
                [max(float(r.mean()) - error[n], 0) for n, r in ends.items()],
                [METHODS[n] for n in ends],
                [float(r.mean()) + error[n] for n, r in ends.items()],
                [METHODS[n] for n in ends],
                width=3,
            ),
            figure.dot(
                [float(r.mean()) for r in ends.values()],
                [METHODS[n] for n in ends],
                size=5,
                tip=[f"{METHODS[n]}: {r.mean():.4f} ± {error[n]:.4f}" for n, r in ends.items()],
            ),
        ],
        x=Axis("mean regret after 60 trainings, ± one standard error"),
        y=Axis("", type="band", domain=[METHODS[n] for n in ends]),
        title="After 60 trainings",
        height=40 + 24 * len(ends),
    )
    panels = [
        Panel(
            marks,
            x=Axis("trainings", domain=(1, 120)),
            y=Axis("regret", type="log", domain=(LEAST, 1.0)),
            title="True regret of the best configuration observed so far",
            series={METHODS[n]: ROLES[list(METHODS).index(n)] for n in lines},
            height=280,
        ),
        finish,
    ]
    mine = ends[method]
    hits = int((mine < 1e-9).sum())
    better = [METHODS[n] for n in names if n != method and ends[n].mean() < mine.mean()]
    readout = (
        f"After 60 trainings {METHODS[method]} has a mean regret of {mine.mean():.4f} ± "
        f"{error[method]:.4f} over {len(mine)} seeds and {hits} runs at the optimum; "
        + (f"lower means have {', '.join(better)}." if better else "no other mean is lower.")
    )
    spent = tables.load("search_race")["tables"][table][method]["milliseconds"]
    return Figure(
        title=f"{METHODS[method]}, {TABLES[table]}",
        panels=panels,
        readout=readout,
        cost=f"{spent:.3g} ms of CPU a suggestion, on a busy machine",
    )


# ---------------------------------------------------------------- noise


def posterior_means(cells: np.ndarray, values: np.ndarray, noise: float) -> np.ndarray:
    """Posterior mean at each row of ``cells`` of a Gaussian process observed with ``noise``.

    Covariance of two configurations: the variance of the values times the mean of a part that adds
    up over hyperparameters and one for the whole, both falling by half with each step between
    levels.  A small stand-in for the surrogate of the core, which also fits its own scales and
    needs SciPy.
    """
    apart = np.abs(cells[:, None] - cells[None])
    alike = 0.5**apart
    variance = max(float(values.var()) - noise**2, 1e-4)
    covariance = variance * 0.5 * (alike.mean(axis=2) + alike.prod(axis=2))
    level = float(values.mean())
    noisy = covariance + max(noise**2, 1e-8) * np.eye(len(values))
    return level + covariance @ np.linalg.solve(noisy, values - level)


@explorer(
    "cem-noise",
    Slider(
        "noise",
        "Noise, standard deviation",
        0.0,
        0.2,
        0.1,
        step=0.01,
        grid=[0.0, 0.02, 0.05, 0.1, 0.2],
        help="Added to every score; WordSim-353 on a small corpus has about 0.03 to 0.04.",
    ),
    Choice("draws", "Configurations tried", [20, 60, 100], start=60, help="Drawn at random."),
    Seed("seed", "Seed", 8, help="Other configurations, other noise."),
    title="The luckiest draw",
    alt=(
        "Scatter plot of true score against observed score of configurations drawn at random, with "
        "the diagonal; the best observed and the best posterior mean are marked. Beside it, the "
        "mean over 20 repetitions of what each choice claims and has."
    ),
    presets=(
        Preset("No noise", {"noise": 0.0}, "Both choices are the same, and nothing is lost."),
        Preset("Some noise", {"noise": 0.05}),
        Preset(
            "More tries, more luck",
            {"noise": 0.1, "draws": 100},
            "The more we try, the larger the best accident.",
        ),
        Preset(
            "Drowned",
            {"noise": 0.2, "draws": 100},
            "The winner claims a score that no configuration of the whole table has.",
            fails=True,
        ),
    ),
)
def cem_noise(noise: float, draws: int, seed: int) -> Figure:
    """Choosing the best of many noisy scores (book, section on noise)."""
    table = TabularObjective.load("word2vec_planted")
    truth, observed, lucky, chosen = noisy_draw(noise, draws, seed)
    low, high = -0.1, max(0.65, float(observed.max()) + 0.05)
    others = [i for i in range(draws) if i not in (lucky, chosen)]
    scatter = Panel(
        [
            figure.line([low, high], [low, high], z="claim = truth", dash="dashed", width=1),
            figure.dot(observed[others], truth[others], z="tried", size=4),
            figure.dot([observed[lucky]], [truth[lucky]], z="luckiest", size=9),
            figure.dot([observed[chosen]], [truth[chosen]], z="posterior's choice", size=7),
        ],
        x=Axis("observed score", domain=(low - 0.35, high)),
        y=Axis("true score", domain=(low, 0.65)),
        title="One search",
        series={
            "claim = truth": "muted",
            "tried": "c1",
            "luckiest": "warn",
            "posterior's choice": "accent",
        },
        height=260,
    )
    claim, has, posterior = noise_summary(noise, draws)
    rows = ["luckiest: claims", "luckiest: has", "posterior: has"]
    bars = Panel(
        [
            figure.bar([claim, has, posterior], rows, horizontal=True),
            figure.rule(x=float(table.mean.max()), dash="dotted", label="optimum"),
        ],
        x=Axis("mean score over 20 searches", domain=(0, max(0.65, claim + 0.05))),
        y=Axis("", type="band", domain=rows),
        title="On average",
        height=140,
    )
    readout = (
        f"With noise of {noise:g} the luckiest of {draws} claims {observed[lucky]:.3f} and has "
        f"{truth[lucky]:.3f}, the posterior's choice has {truth[chosen]:.3f}; over 20 searches the "
        f"claim is {claim - has:.3f} too high, and the posterior gains {posterior - has:.3f}."
    )
    return Figure(
        title=f"{draws} configurations, noise {noise:g}", panels=[scatter, bars], readout=readout
    )


def noisy_draw(noise: float, draws: int, seed: int) -> tuple[np.ndarray, np.ndarray, int, int]:
    """True and observed scores of random configurations, the luckiest, and the posterior's."""
    table = TabularObjective.load("word2vec_planted")
    rng = np.random.default_rng([seed, draws])
    place = rng.choice(len(table), draws, replace=False)
    cells = np.stack(np.unravel_index(place, table.mean.shape), axis=1)
    truth = table.mean.ravel()[place]
    observed = truth + noise * rng.standard_normal(draws)
    chosen = posterior_means(cells, observed, noise).argmax()
    return truth, observed, int(observed.argmax()), int(chosen)


@lru_cache(maxsize=64)
def noise_summary(noise: float, draws: int) -> tuple[float, float, float]:
    """Means over 20 searches: the luckiest's claim and true score, the posterior's true score."""
    rows = []
    for seed in range(20):
        truth, observed, lucky, chosen = noisy_draw(noise, draws, 100 + seed)
        rows.append((observed[lucky], truth[lucky], truth[chosen]))
    claim, has, posterior = np.mean(rows, axis=0)
    return float(claim), float(has), float(posterior)


# ---------------------------------------------------------------- neighbours


@explorer(
    "w2v-neighbours",
    Choice(
        "word",
        "Word",
        list(tables.load("word2vec_neighbours")["before"]["neighbours"]),
        start="war",
        help="Trained on the State of the Union addresses.",
    ),
    title="Neighbours of a word before and after tuning",
    alt="Two bar charts side by side: the eight nearest words and their cosine, in each setting.",
    presets=(
        Preset("war", {"word": "war"}),
        Preset("bank", {"word": "bank"}),
        Preset("school", {"word": "school"}),
        Preset(
            "gold",
            {"word": "gold"},
            "Before tuning all cosines are near 1: the vectors hardly differ, whatever the word.",
            fails=True,
        ),
    ),
)
def w2v_neighbours(word: str) -> Figure:
    """Nearest words in two stored trainings on the State of the Union."""
    table = tables.load("word2vec_neighbours")
    panels = []
    for label in ("before", "after"):
        near = table[label]["neighbours"][word]
        names = [f"{i + 1} {name}" for i, (name, _) in enumerate(near)]
        panels.append(
            Panel(
                [figure.bar([c for _, c in near], names, horizontal=True)],
                x=Axis("cosine", domain=(0, 1), ticks=[0, 0.5, 1]),
                y=Axis("", type="band", domain=names),
                title=f"{label.capitalize()} tuning",
                height=230,
            )
        )
    mean = {label: np.mean(table[label]["scores"]["wordsim353"]) for label in ("before", "after")}
    words = {
        label: ", ".join(n for n, _ in table[label]["neighbours"][word][:3])
        for label in ("before", "after")
    }
    return Figure(
        title=f"Nearest to {word}",
        panels=panels,
        readout=(
            f"Next to {word} stand {words['before']} before tuning and {words['after']} after; the "
            f"correlation with WordSim-353 goes from {mean['before']:.2f} to {mean['after']:.2f}, "
            f"mean of {len(table['origin']['seeds'])} seeds."
        ),
        cost=(
            f"{np.mean(table['before']['scores']['cpu_seconds']):.1f} and "
            f"{np.mean(table['after']['scores']['cpu_seconds']):.1f} CPU seconds a training"
        ),
        layout="row",
    )
