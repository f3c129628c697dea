"""Explorer of chapter 4: the triangle of blocks, what a law over distance keeps of it."""

from functools import lru_cache

import numpy as np

from genopt_core.attention.blocks import (
    DistanceLaw,
    always_kept,
    by_distance,
    harmonic_blocks,
    kappa,
    left_justify,
    sample_blocks,
    sample_distances,
    skew,
)
from genopt_core.explorers.panels import bars
from genopt_core.figures import schema as figure
from genopt_core.figures.controls import Choice, Seed
from genopt_core.figures.registry import Preset, explorer
from genopt_core.figures.schema import Axis, Figure, Panel

BLOCKS, HEADS = 16, 4
TRIANGLE = BLOCKS * (BLOCKS + 1) // 2
LAWS = {
    "harmonic": "harmonic, 1/(1 + δ)",
    "zipf": "Zipf, 1/(1 + δ)²",
    "geometric": "geometric, 0.7 to the δ",
    "radial": "radial bands",
    "uniform": "uniform",
}
MADE = {
    "harmonic": DistanceLaw.harmonic(),
    "zipf": DistanceLaw.zipf(2.0),
    "geometric": DistanceLaw.geometric(0.7),
    "radial": DistanceLaw.radial(),
    "uniform": DistanceLaw.uniform(),
}
DENSITIES = {0.2: "20 %", 0.305: "30 %, harmonic at κ = 1", 0.5: "50 %"}
SELECTIONS = {
    "shared": "one draw of distances for all",
    "heads": "distances drawn for each head",
    "rows": "blocks drawn for each row",
}
SURE = {"none": "its own block", "sink": "the first too", "near": "also the one before"}
ALWAYS = {"none": (0, 0), "sink": (1, 0), "near": (1, 1)}
VIEWS = {"key": "by key block", "distance": "by distance", "left": "pushed to the left"}
ACROSS = {"key": "key block", "distance": "blocks back, δ", "left": "place in the row"}


@lru_cache(maxsize=256)
def drawn_blocks(law: str, density: float, selection: str, sure: str, seed: int) -> np.ndarray:
    """What each of the heads keeps, (heads, blocks, blocks)."""
    pi = MADE[law].inclusion(BLOCKS, density)
    rng = np.random.default_rng(seed)
    if selection == "shared":
        drawn = [sample_distances(pi, rng)] * HEADS
    else:
        sample = sample_distances if selection == "heads" else sample_blocks
        drawn = [sample(pi, rng) for _ in range(HEADS)]
    return np.array(drawn) | always_kept(BLOCKS, *ALWAYS[sure])


def shown_as(kept: np.ndarray, view: str) -> np.ndarray:
    """How many heads keep what stands at each place of a view, a lower triangle."""
    if view == "left":
        counts = np.array([left_justify(one)[1] for one in kept])
        return (counts[..., None] > np.arange(BLOCKS)).sum(axis=0)
    total = kept.sum(axis=0)
    return skew(total) if view == "distance" else total


@explorer(
    "attn-triangle",
    Choice(
        "law",
        "Law over distance",
        LAWS,
        help="How likely a key block δ blocks back is.",
        role="c1",
    ),
    Choice(
        "density",
        "Drawn",
        DENSITIES,
        start=0.305,
        help="Expected share of the triangle; κ is found by bisection.",
    ),
    Choice("selection", "A draw", SELECTIONS, help="Four heads, and who of them shares a draw."),
    Choice("sure", "Kept for sure", SURE, help="Added to what is drawn, with probability 1."),
    Choice("view", "Shown", VIEWS, help="The same blocks; each view is a lower triangle."),
    Seed("seed", "Seed", 2, help="What is drawn."),
    title="The triangle of blocks",
    alt=(
        "On the left a lower triangle of 16 by 16 blocks, shaded by how many of four heads keep "
        "each. On the right, over the distance in blocks, a line of the probability to be kept "
        "and dots of the share that was kept; below it bars of the blocks kept, expected, of the "
        "harmonic law at κ = 1, and of the whole triangle."
    ),
    presets=(
        Preset("Harmonic, one draw for all", {}),
        Preset(
            "Pushed to the left",
            {"view": "left"},
            "With shared distances the rows, closed up, are a triangle again.",
        ),
        Preset(
            "A draw for each row",
            {"selection": "rows", "view": "distance"},
            "The same probabilities and mean cost; rows no longer miss the same distances.",
        ),
        Preset("With the first and the near block", {"sure": "near", "density": 0.2}),
        Preset(
            "One draw: what one misses, all miss",
            {"density": 0.2},
            "No head and no row makes up for a distance that was not drawn.",
            fails=True,
        ),
    ),
)
def attn_triangle(
    law: str, density: float, selection: str, sure: str, view: str, seed: int
) -> Figure:
    """Probabilities (book, eq. attn-inclusion) and a draw, skewed (book, eq. attn-skew) or not."""
    kept = drawn_blocks(law, density, selection, sure, seed)
    pi = MADE[law].inclusion(BLOCKS, density)
    always = always_kept(BLOCKS, *ALWAYS[sure])
    expected = float(np.where(always, 1.0, by_distance(pi)).sum())
    pairs = np.arange(BLOCKS, 0, -1.0)
    far = density * TRIANGLE - BLOCKS  # what is left for other blocks than a query's own
    factor = kappa(MADE[law].weights(BLOCKS)[1:], far, pairs[1:])
    mean = kept.sum() / HEADS
    never = TRIANGLE - int(kept.any(axis=0).sum())
    wanted = DENSITIES[density].split(",")[0]
    return Figure(
        title=f"{LAWS[law].split(',')[0].capitalize()}, {wanted} drawn, {VIEWS[view]}",
        panels=[_triangle(shown_as(kept, view), view), _curve(pi, kept), _meter(mean, expected)],
        readout=(
            f"With κ = {factor:.2f} the heads keep {mean:.1f} of {TRIANGLE} blocks on average, "
            f"{expected:.1f} expected, and {never} blocks are kept by no head."
        ),
        cost=(
            f"{mean / TRIANGLE:.0%} of the tiles of causal attention; the harmonic law at κ = 1 "
            f"takes (T + 1) H − T = {harmonic_blocks(BLOCKS):.1f} blocks"
        ).replace("%", " %"),
        layout="row",
    )


def _triangle(heads: np.ndarray, view: str) -> Panel:
    rows, columns = np.tril_indices(BLOCKS)
    ticks = [*range(0, BLOCKS, 5)]
    return Panel(
        [figure.cell(columns, rows, heads[rows, columns])],
        x=Axis(ACROSS[view], domain=(-0.5, BLOCKS - 0.5), ticks=ticks),
        y=Axis("query block", domain=(-0.5, BLOCKS - 0.5), ticks=ticks, reverse=True),
        title=f"Blocks kept, {VIEWS[view]}",
        color={"label": f"of {HEADS} heads", "domain": [0, HEADS], "scheme": "sequential"},
        height=330,
    )


def _curve(pi: np.ndarray, kept: np.ndarray) -> Panel:
    share = [float(np.mean([np.diagonal(one, -d).mean() for one in kept])) for d in range(BLOCKS)]
    at = np.arange(BLOCKS)
    return Panel(
        [
            figure.line(at, pi, z="probability of the law"),
            figure.dot(at, share, z="share kept"),
        ],
        x=Axis("blocks back, δ", domain=(-0.3, BLOCKS - 0.7)),
        y=Axis("kept", domain=(-0.03, 1.05), ticks=[0, 0.5, 1]),
        title="Kept at each distance",
        series={"probability of the law": "c1", "share kept": "c2"},
        height=170,
    )


def _meter(mean: float, expected: float) -> Panel:
    values = {
        "kept": mean,
        "expected": expected,
        "harmonic, κ = 1": harmonic_blocks(BLOCKS),
        "all": float(TRIANGLE),
    }
    return bars(
        values,
        Axis("blocks", domain=(0, 1.15 * TRIANGLE)),
        numbers=[f"{value:.1f}" for value in values.values()],
        horizontal=True,
        title="Blocks to compute",
        height=130,
    )
