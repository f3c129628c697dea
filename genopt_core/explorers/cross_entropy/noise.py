"""Explorer of chapter 2: choosing the best of many noisy scores."""

from functools import lru_cache

import numpy as np

from genopt_core.cross_entropy.noise import NoisyChoice, noisy_choice
from genopt_core.cross_entropy.tabular import TabularObjective
from genopt_core.explorers.panels import bars, true_minus
from genopt_core.figures import schema as figure
from genopt_core.figures.controls import Choice, Seed, Slider
from genopt_core.figures.registry import Preset, explorer
from genopt_core.figures.schema import Axis, Figure, Panel

SEARCHES = 20


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
    title="The best observed value",
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
            {"draws": 100},
            "The more we try, the larger the best accident.",
        ),
        Preset(
            "Drowned: the claim is impossible",
            {"noise": 0.2, "draws": 100},
            "The winner claims a score that no configuration of the whole table has.",
            fails=True,
        ),
    ),
)
def cem_noise(noise: float, draws: int, seed: int) -> Figure:
    """Choosing the best of many noisy scores (book, section on noise)."""
    table = TabularObjective.load("word2vec_planted")
    one = chosen_under_noise(noise, draws, seed)
    truth, observed, top, chosen = one.truth, one.observed, one.best_observed, one.posterior
    low, high = -0.1, max(0.65, float(observed.max()) + 0.05)
    others = [i for i in range(draws) if i not in (top, chosen)]
    scatter = Panel(
        [
            figure.line([low, high], [low, high], z="claim = truth", dash="dashed", width=1),
            figure.dot(observed[others], truth[others], z="tried", size=4),
            figure.dot([observed[top]], [truth[top]], z="best observed", size=9),
            figure.dot([observed[chosen]], [truth[chosen]], z="posterior's choice", size=7),
        ],
        x=Axis("observed score", domain=(low - 0.35, high)),
        y=Axis("true score", domain=(low, 0.65)),
        title="One search",
        series={
            "claim = truth": "muted",
            "tried": "c1",
            "best observed": "warn",
            "posterior's choice": "accent",
        },
        height=260,
    )
    claim, has, posterior = mean_outcome(noise, draws)
    means = {"best observed: claims": claim, "best observed: has": has, "posterior: has": posterior}
    average = bars(
        means,
        Axis(f"mean score over {SEARCHES} searches", domain=(0, max(0.75, claim + 0.15))),
        numbers=[f"{value:.3f}" for value in means.values()],
        horizontal=True,
        above=[figure.rule(x=float(table.mean.max()), dash="dotted", label="optimum")],
        title="On average",
        height=140,
    )
    readout = (
        f"With noise of {noise:g} the best observed of {draws} claims {observed[top]:.3f} and "
        f"has {truth[top]:.3f}, the posterior's choice has {truth[chosen]:.3f}; over {SEARCHES} "
        f"searches the claim is {abs(claim - has):.3f} too {'high' if claim >= has else 'low'}, "
        f"and the posterior {'gains' if posterior >= has else 'loses'} "
        f"{abs(posterior - has):.3f}."
    )
    return Figure(
        title=f"{draws} configurations, noise {noise:g}",
        panels=[scatter, average],
        readout=true_minus(readout),
    )


def chosen_under_noise(noise: float, draws: int, seed: int) -> NoisyChoice:
    """One search among the configurations of the tabulated word2vec."""
    table = TabularObjective.load("word2vec_planted")
    return noisy_choice(table.mean, draws, noise, np.random.default_rng([seed, draws]))


@lru_cache(maxsize=64)
def mean_outcome(noise: float, draws: int) -> tuple[float, float, float]:
    """Over other searches: what the best observed claims and has, and the posterior's choice."""
    seeds = range(100, 100 + SEARCHES)
    outcomes = [chosen_under_noise(noise, draws, seed).outcome for seed in seeds]
    claim, has, posterior = np.mean(outcomes, axis=0).tolist()
    return claim, has, posterior
