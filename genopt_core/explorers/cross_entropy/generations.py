"""Explorer of chapter 2: a search sharpening its distribution over hyperparameters."""

import math
from collections.abc import Mapping, Sequence
from functools import lru_cache

import numpy as np

from genopt_core.cross_entropy import CrossEntropy, Generation, TabularObjective, Trial
from genopt_core.figures import schema as figure
from genopt_core.figures.controls import Choice, Seed, Step
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
ROLES = ("c1", "c2", "c3", "c4", "c5", "c6")
SHORT = {"cbow_sum": "sum", "cbow": "mean", "skipgram": "skip", 0: "0 (tree)"}
# Where there is room for the whole name.
WHOLE = {"cbow_sum": "cbow, sum", "cbow": "cbow, mean", "skipgram": "skip-gram"}
PROBABILITY, ELITE, BEST = "p", "share of the elite", "elite (best quarter)"
ROW = 1.6  # height of a row of bars; a probability of 1 is 1 high


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
        role="c1",
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
            "Ten a generation: values die by chance",
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
    lines = [
        figure.line(
            range(len(history)), [round(g.entropy[name], 2) for g in history], z=shown, width=1.5
        )
        for name, shown in NAMES.items()
    ]
    entropy = Panel(
        [*lines, figure.rule(x=generation, dash="dotted")],
        x=Axis("generation", domain=(-0.2, GENERATIONS + 0.2), ticks=[*range(GENERATIONS + 1)]),
        y=Axis("entropy, share", domain=(-0.02, 1.02), ticks=[0, 0.5, 1]),
        title="Entropy of each hyperparameter, as a share of the uniform one's",
        series=dict(zip(NAMES.values(), ROLES, strict=True)),
        height=170,
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
        panels=[_bars(table, now, generation, trials), _scores(table, now, trials), entropy],
        readout=readout,
        cost=f"{len(sofar)} of {len(table):,} possible trainings",
    )


def _bars(
    table: TabularObjective, now: Generation, generation: int, trials: Mapping[int, Trial]
) -> Panel:
    """A row of bars for each hyperparameter, the elite's choices as marks above them."""
    places = [
        (i, -ROW * row, name, level)
        for row, (name, levels) in enumerate(table.levels.items())
        for i, level in enumerate(levels)
    ]
    x, base, names, levels = zip(*places, strict=True)
    words = [SHORT.get(level) or f"{level:g}" for level in levels]
    named = [
        f"{NAMES[name]} {WHOLE.get(level, word)}"
        for name, level, word in zip(names, levels, words, strict=True)
    ]
    chosen = [
        [trials[at].params[name] for at in now.elites].count(level)
        for name, level in zip(names, levels, strict=True)
    ]
    p = [float(now.distribution[name][i]) for i, _, name, _ in places]
    # The same marks at every step, so that frames share them: where nobody chose, a gap.
    elite = [count / len(now.elites) if count else math.nan for count in chosen]
    rows = [-ROW * row for row in range(len(NAMES))]
    return Panel(
        [
            *(_level(rows, at) for at in (0, 1)),
            figure.bar(x, _above(base, p), base=base, name=named, z=PROBABILITY),
            figure.text(x, [at - 0.2 for at in base], words, size=10),
            figure.dot(x, _above(base, elite), base=base, name=named, z=ELITE, size=5),
        ],
        x=Axis(domain=(-0.6, 4.9), hidden=True),
        y=Axis(
            domain=(-ROW * 5 - 0.36, 1.1),
            ticks=[0.4 - ROW * row for row in range(6)],
            tick_labels=list(NAMES.values()),
        ),
        title=f"Probability of each value after generation {generation}",
        series={PROBABILITY: "c1", ELITE: "accent"},
        height=390,
    )


def _above(base: Sequence[float], values: Sequence[float]) -> list[float]:
    return [round(low + value, 2) for low, value in zip(base, values, strict=True)]


def _level(rows: Sequence[float], at: int) -> Mark:
    """The scale of the bars: a line at 0 or at 1 in every row."""
    line = [row + at for row in rows]
    first, last = [-0.5] * len(rows), [4.5] * len(rows)
    return figure.link(first, line, last, line, width=0.75, dash="dotted" if at else "solid")


def _scores(table: TabularObjective, now: Generation, trials: Mapping[int, Trial]) -> Panel:
    """The scores of one generation, in order, its elite marked."""
    found = (trials[i].value for i in now.trials)
    values = sorted((value for value in found if value is not None), reverse=True)
    elite = len(now.elites)
    places = range(1, len(values) + 1)
    return Panel(
        [
            figure.dot(places[:elite], values[:elite], z=BEST, size=6),
            figure.dot(places[elite:], values[elite:], z="others", size=4),
            figure.rule(
                y=[] if now.level is None else [now.level],
                dash="dashed",
                label="the best are above (level γ)",
            ),
            figure.rule(y=float(table.mean.max()), dash="dotted", label="optimum"),
        ],
        x=Axis("place in the generation", domain=(0, max(len(values), 1) + 1)),
        y=Axis("score", domain=(-0.1, 0.63)),
        title="Scores of this generation",
        series={BEST: "accent", "others": "muted"},
        height=150,
    )
