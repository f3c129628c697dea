"""Explorer of chapter 2: a distribution sharpens although there is nothing to learn."""

import math

import numpy as np

from genopt_core.cross_entropy.drift import drift_law, drift_runs
from genopt_core.cross_entropy.plain import elite_size
from genopt_core.explorers.panels import thin_runs
from genopt_core.figures import schema as figure
from genopt_core.figures.controls import Choice, Slider
from genopt_core.figures.registry import Preset, explorer
from genopt_core.figures.schema import Axis, Figure, Panel

CHOICES, RUNS, GENERATIONS = 8, 20, 24


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
    code=(
        "from genopt_core.cross_entropy.drift import drift_law\n"
        "from genopt_core.cross_entropy.plain import elite_size\n"
        f"drift_law({CHOICES}, elite_size({{population}}, {{elite_fraction}}), {{smoothing}}, "
        f"{GENERATIONS})"
    ),
    alt=(
        "Above, the diversity of the distribution over generations: 20 runs as thin lines, their "
        "mean and the drift law. Below, the final distribution of each run as a row of cells."
    ),
    presets=(
        Preset("Usual settings, flat", {}, "Half gone in seven generations."),
        Preset(
            "The same with a signal",
            {"objective": "slope"},
            "It falls too, but every run falls on the best value.",
        ),
        Preset(
            "Large elite, slow smoothing",
            {"population": 80, "elite_fraction": 0.5, "smoothing": 0.4},
            "Drift nearly stops: 40 elites average it out.",
        ),
        Preset(
            "Two elites: certain by chance",
            {"population": 10, "elite_fraction": 0.1, "smoothing": 1.0},
            "Every run is certain after a few generations, each of another value.",
            fails=True,
        ),
    ),
)
def cem_drift(objective: str, population: int, elite_fraction: float, smoothing: float) -> Figure:
    """Twenty runs of one category, with the drift law beside them (book, eq. cem-drift)."""
    n_elite, sloped = elite_size(population, elite_fraction), objective == "slope"
    rng = np.random.default_rng([0, n_elite, population, int(100 * smoothing), sloped])
    runs = drift_runs(
        RUNS, CHOICES, population, n_elite, smoothing, GENERATIONS, rng, sloped=sloped
    )
    diversity = 1 - (runs**2).sum(axis=2)
    law = drift_law(CHOICES, n_elite, smoothing, GENERATIONS)
    steps = list(range(GENERATIONS + 1))
    final = runs[:, -1]
    best = final.argmax(axis=1)
    winners = sorted(range(RUNS), key=lambda r: (best[r], -final[r].max()))
    half = math.log(2) / -math.log1p(-(smoothing**2) / n_elite)
    panels = [
        Panel(
            [
                thin_runs(steps, diversity.round(3), "20 runs", width=0.7, opacity=0.6),
                figure.line(steps, diversity.mean(axis=0), z="their mean", width=2.5),
                figure.line(steps, law, z="drift law, flat objective", dash="dashed", width=2),
            ],
            x=Axis("generation", domain=(0, GENERATIONS)),
            y=Axis("diversity 1 − Σp²", domain=(0, 0.9)),
            title="How often two draws differ",
            series={"20 runs": "muted", "their mean": "accent", "drift law, flat objective": "c2"},
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
            title=f"Where the runs end, generation {GENERATIONS}: one row each",
            color={"label": "probability", "domain": [0, 1], "scheme": "sequential"},
            height=190,
        ),
    ]
    certain = int((final.max(axis=1) > 0.9).sum())
    right = int(((final.max(axis=1) > 0.9) & (best == 0)).sum())
    end = diversity[:, -1].mean()
    readout = (
        f"With {n_elite} elites of {population} and α = {smoothing:g} the mean diversity goes from "
        f"{law[0]:.3f} to {end:.3f} in {GENERATIONS} generations"
    )
    if objective == "flat":
        readout += (
            f" without any signal (the law says {law[-1]:.3f}, a half-life of {half:.1f}), and "
            f"{certain} of {RUNS} runs are 90 % certain of some value."
        )
    else:
        readout += f", and {right} of {RUNS} runs are 90 % certain of the best value."
    return Figure(title=f"{n_elite} elites, α = {smoothing:g}", panels=panels, readout=readout)
