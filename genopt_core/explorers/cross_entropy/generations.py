"""Explorers of chapter 2: a search sharpening its distribution, and sharpening without a reason."""

import math
from functools import lru_cache

import numpy as np

from genopt_core.cross_entropy import CrossEntropy, drift_law
from genopt_core.cross_entropy.tabular import TabularObjective
from genopt_core.figures import schema as figure
from genopt_core.figures.controls import Choice, Seed, Slider, Step
from genopt_core.figures.registry import Preset, explorer
from genopt_core.figures.schema import Axis, Figure, Mark, Panel

GENERATIONS = 8
NAMES = {
    "architecture": "architecture",
    "negatives": "negatives",
    "dimension": "dimension",
    "window": "window",
    "sample": "sub-sampling",
    "learning_rate": "learning rate",
}
SHORT = {"cbow_sum": "cbow Σ", "cbow": "cbow", "skipgram": "skip-gram"}
CHOICES, RUNS, DRIFT_GENERATIONS = 8, 20, 24


@lru_cache(maxsize=64)
def searched(population: int, smoothing: float, seed: int) -> CrossEntropy:
    """The plain method on the tabulated word2vec, after eight generations."""
    table = TabularObjective.load("word2vec_planted")
    search = CrossEntropy(
        table.space,
        "plain",
        seed=seed,
        direction="maximize",
        population_size=population,
        smoothing=smoothing,
        deterministic=True,
    )
    for _ in range(GENERATIONS * population):
        trial = search.ask()
        search.tell(trial, table(trial.params))
    return search


@explorer(
    "cem-generations",
    Step("generation", "Generation", 0, GENERATIONS, 2, help="0 is before the first training."),
    Choice(
        "population",
        "Population N",
        [10, 20, 40],
        start=20,
        help="Trainings per generation; the best quarter is the elite.",
    ),
    Choice(
        "smoothing",
        "Smoothing α",
        [0.4, 0.7, 1.0],
        start=0.7,
        help="Share of the elite's frequencies in the next distribution.",
    ),
    Seed("seed", "Seed", 3, help="Another seed draws other configurations."),
    title="A distribution over hyperparameters, sharpening",
    alt=(
        "Three panels. Above, one row of bars for each hyperparameter of word2vec, a bar's height "
        "being the probability of a value. In the middle the scores of this generation, the elite "
        "marked. Below, the entropy of each row over the generations."
    ),
    presets=(
        Preset("Before anything is known", {"generation": 0}, "All values are equally likely."),
        Preset("After two generations", {"generation": 2}),
        Preset(
            "Settled",
            {"generation": 8, "population": 40},
            "320 trainings of 2,160 possible ones: every row has nearly one value left.",
        ),
        Preset(
            "Ten a generation, no smoothing",
            {"generation": 5, "population": 10, "smoothing": 1.0},
            "Three elites decide alone: values die out by chance, and what is dead stays dead.",
            fails=True,
        ),
    ),
)
def cem_generations(generation: int, population: int, smoothing: float, seed: int) -> Figure:
    """The plain cross-entropy method on word2vec (book, eq. cem-frequencies)."""
    table = TabularObjective.load("word2vec_planted")
    search = searched(population, smoothing, seed)
    history = search.history
    now = history[generation]
    trials = {trial.number: trial for trial in search.trials}
    sofar = [table(trials[i].params) for g in history[: generation + 1] for i in g.trials]
    # The same panels and marks at every step, so that frames share them.
    panels = [_bars(table, now, generation, trials), _scores(table, now, trials)]
    lines: list[Mark] = [
        figure.line(
            range(len(history)),
            [round(g.entropy[name], 2) for g in history],
            z=NAMES[name],
            width=1.5,
        )
        for name in NAMES
    ]
    roles = ("c1", "c2", "c3", "c4", "c5", "c6")
    panels.append(
        Panel(
            [*lines, figure.rule(x=generation, dash="dotted")],
            x=Axis("generation", domain=(-0.2, GENERATIONS + 0.2), ticks=[*range(9)]),
            y=Axis("entropy, share", domain=(-0.02, 1.02), ticks=[0, 0.5, 1]),
            title="Entropy of each hyperparameter, as a share of the uniform one's",
            series=dict(zip(NAMES.values(), roles, strict=True)),
            height=170,
        )
    )
    mean = float(np.mean(list(now.entropy.values())))
    if generation == 0:
        readout = (
            f"Before the first training all {len(table):,} configurations are equally likely, and "
            f"one drawn at random scores {table.mean.mean():.3f} on average; the best has "
            f"{table.mean.max():.3f}."
        )
    else:
        best = max(sofar)
        readout = (
            f"After {len(sofar)} trainings the level is {now.level:.3f}, the mean entropy has "
            f"fallen to {100 * mean:.0f} %, and the best configuration seen scores {best:.3f}, "
            f"{table.mean.max() - best:.3f} below the optimum."
        )
    return Figure(
        title=f"Generation {generation}, N = {population}, α = {smoothing:g}",
        panels=panels,
        readout=readout,
        cost=f"{len(sofar)} of {len(table):,} possible trainings",
    )


def _bars(table, now, generation, trials) -> Panel:
    """A row of bars for each hyperparameter, the elite's choices as marks above them."""
    columns: dict[str, list] = {key: [] for key in ("x1", "x2", "y1", "y2")}
    labels: dict[str, list] = {key: [] for key in ("x", "y", "text")}
    marked: dict[str, list] = {"x": [], "y": []}
    for row, (name, levels) in enumerate(table.levels.items()):
        base = -1.3 * row
        elite = [trials[i].params[name] for i in now.elites]
        for i, level in enumerate(levels):
            p = float(now.distribution[name][i])
            columns["x1"].append(i - 0.42)
            columns["x2"].append(i + 0.42)
            columns["y1"].append(base)
            columns["y2"].append(round(base + max(p, 0.012), 2))
            labels["x"].append(i)
            labels["y"].append(base - 0.14)
            labels["text"].append(_word(level))
            if elite.count(level):
                marked["x"].append(i)
                marked["y"].append(round(base + elite.count(level) / len(elite), 2))
    marks = [
        figure.rect(*(columns[k] for k in ("x1", "x2", "y1", "y2")), z="p"),
        figure.text(labels["x"], labels["y"], labels["text"], size=10),
    ]
    marks.append(figure.dot(marked["x"], marked["y"], z="share of the elite", size=5))
    series = {"p": "c1", "share of the elite": "accent"}
    return Panel(
        marks,
        x=Axis("", domain=(-0.6, 4.6), hidden=True),
        y=Axis(
            "",
            domain=(-1.3 * 5 - 0.32, 1.08),
            ticks=[0.35 - 1.3 * row for row in range(6)],
            tick_labels=list(NAMES.values()),
        ),
        title=f"Probability of each value after generation {generation}",
        series=series,
        height=360,
    )


def _word(level: float | str) -> str:
    if isinstance(level, str):
        return SHORT[level]
    return f"{level:g}" if level else "0 (tree)"


def _scores(table, now, trials) -> Panel:
    """The scores of one generation, in order, its elite marked."""
    values = sorted((trials[i].value for i in now.trials), reverse=True)
    elite = len(now.elites)
    places = list(range(1, len(values) + 1))
    return Panel(
        [
            figure.dot(places[:elite], values[:elite], z="elite", size=6),
            figure.dot(places[elite:], values[elite:], z="others", size=4),
            figure.rule(y=[] if now.level is None else [now.level], dash="dashed", label="level γ"),
            figure.rule(y=float(table.mean.max()), dash="dotted", label="optimum"),
        ],
        x=Axis("place in the generation", domain=(0, max(len(values), 1) + 1)),
        y=Axis("score", domain=(-0.1, 0.63)),
        title="Scores of this generation",
        series={"elite": "accent", "others": "muted"},
        height=150,
    )


# ---------------------------------------------------------------- drift


def drift_runs(
    n_elite: int, smoothing: float, population: int, slope: bool, seed: int = 0
) -> np.ndarray:
    """Distributions (runs, generations + 1, choices) of one category of eight values.

    On the flat objective the elite is a random part of the generation; on the sloped one it is the
    part with the smallest values.
    """
    rng = np.random.default_rng([seed, n_elite, population, int(100 * smoothing), slope])
    p = np.full((RUNS, CHOICES), 1 / CHOICES)
    path = [p]
    for _ in range(DRIFT_GENERATIONS):
        if slope:
            drawn = rng.multinomial(population, p)
            before = np.cumsum(drawn, axis=1) - drawn
            elite = np.clip(n_elite - before, 0, drawn)
        else:
            elite = rng.multinomial(n_elite, p)
        p = (1 - smoothing) * p + smoothing * elite / n_elite
        p = p / p.sum(axis=1, keepdims=True)  # rounding adds up over generations
        path.append(p)
    return np.stack(path, axis=1)


@explorer(
    "cem-drift",
    Choice(
        "objective",
        "Objective",
        {"flat": "flat: all values equally good", "slope": "sloped: value 1 is best"},
        start="flat",
        help="On a flat objective there is nothing to learn.",
    ),
    Slider(
        "population",
        "Population N",
        10,
        80,
        20,
        step=10,
        grid=[10, 20, 40, 80],
        unit="trainings",
        help="Drawn in each generation.",
    ),
    Choice("elite_fraction", "Elite fraction ρ", [0.1, 0.25, 0.5], start=0.25, help="Kept of N."),
    Choice(
        "smoothing", "Smoothing α", [0.4, 0.7, 1.0], start=0.7, help="Share of the new frequencies."
    ),
    title="Entropy falls although there is nothing to learn",
    alt=(
        "Above, the diversity of the distribution over generations: 20 runs as thin lines, their "
        "mean and the drift law. Below, the final distribution of each run as a row of cells."
    ),
    presets=(
        Preset("Usual settings, flat", {"objective": "flat"}, "Half gone in seven generations."),
        Preset(
            "The same with a signal",
            {"objective": "slope"},
            "It falls too, but every run falls on the best value.",
        ),
        Preset(
            "Large elite, slow smoothing",
            {"objective": "flat", "population": 80, "elite_fraction": 0.5, "smoothing": 0.4},
            "Drift nearly stops: 40 elites average it out.",
        ),
        Preset(
            "Two elites, no smoothing",
            {"objective": "flat", "population": 10, "elite_fraction": 0.1, "smoothing": 1.0},
            "Every run is certain after a few generations, each of another value.",
            fails=True,
        ),
    ),
)
def cem_drift(objective: str, population: int, elite_fraction: float, smoothing: float) -> Figure:
    """Twenty runs of one category, with the drift law beside them (book, eq. cem-drift)."""
    n_elite = max(2, math.ceil(elite_fraction * population - 1e-9))
    runs = drift_runs(n_elite, smoothing, population, objective == "slope")
    diversity = 1 - (runs**2).sum(axis=2)
    law = drift_law(CHOICES, n_elite, smoothing, DRIFT_GENERATIONS)
    steps = list(range(DRIFT_GENERATIONS + 1))
    gap = [*steps, math.nan] * RUNS
    thin = [value for run in diversity for value in (*run.round(3), math.nan)]
    final = runs[:, -1]
    best = final.argmax(axis=1)
    winners = sorted(range(RUNS), key=lambda r: (best[r], -final[r].max()))
    half = n_elite * math.log(2) / smoothing**2
    panels = [
        Panel(
            [
                figure.line(gap, thin, z="20 runs", width=0.7, opacity=0.6),
                figure.line(steps, diversity.mean(axis=0), z="their mean", width=2.5),
                figure.line(steps, law, z="drift law, flat objective", dash="dashed", width=2),
            ],
            x=Axis("generation", domain=(0, DRIFT_GENERATIONS)),
            y=Axis("diversity 1 − Σp²", domain=(0, 0.9)),
            title="How often two draws differ",
            series={
                "20 runs": "muted",
                "their mean": "accent",
                "drift law, flat objective": "c2",
            },
            height=220,
        ),
        Panel(
            [
                figure.cell(
                    [i + 1 for r in winners for i in range(CHOICES)],
                    [row + 1 for row in range(RUNS) for _ in range(CHOICES)],
                    [float(final[r, i].round(2)) for r in winners for i in range(CHOICES)],
                )
            ],
            x=Axis("value", type="band", domain=[*range(1, CHOICES + 1)]),
            y=Axis("run", type="band", domain=[*range(1, RUNS + 1)], hidden=True),
            title=f"Where the runs end, generation {DRIFT_GENERATIONS}: one row each",
            color={"label": "probability", "domain": [0, 1], "scheme": "sequential"},
            height=190,
        ),
    ]
    certain = int((final.max(axis=1) > 0.9).sum())
    right = int(((final.max(axis=1) > 0.9) & (best == 0)).sum())
    end = diversity[:, -1].mean()
    readout = (
        f"With {n_elite} elites of {population} and α = {smoothing:g} the mean diversity goes from "
        f"{law[0]:.3f} to {end:.3f} in {DRIFT_GENERATIONS} generations"
    )
    if objective == "flat":
        readout += (
            f" without any signal (the law says {law[-1]:.3f}, a half-life of {half:.1f}), and "
            f"{certain} of {RUNS} runs are 90 % certain of some value."
        )
    else:
        readout += f", and {right} of {RUNS} runs are 90 % certain of the best value."
    return Figure(title=f"{n_elite} elites, α = {smoothing:g}", panels=panels, readout=readout)
