"""Explorer of chapter 4: decoders trained with blocks dropped by chance."""

import numpy as np

from genopt_core import tables
from genopt_core.explorers.panels import signed, thin_runs
from genopt_core.figures import schema as figure
from genopt_core.figures.controls import Choice
from genopt_core.figures.registry import Preset, explorer
from genopt_core.figures.schema import Axis, Figure, Panel

ARMS = {
    "full attention": "c1",
    "dropout 0.1": "c3",
    "plain harmonic, 25 %": "warn",
    "plain harmonic, 50 %": "c2",
    "sink + near + harmonic, 25 %": "accent",
    "sink + near + harmonic, 50 %": "c4",
    "window + sink, 25 %": "c5",
    "window + sink, 50 %": "c6",
}
CELLS = {
    "whole text": "the whole text, five seeds",
    "one seed, longer": "the whole text, one seed, longer",
    "a tenth of the text": "a tenth of the text, five seeds",
}
VIEWS = {"steps": "steps", "compute": "attention computed"}
FINAL = {
    "1 rounds": "1 round",
    "4 rounds": "4",
    "16 rounds": "16",
    "surrogate": "+ ln π",
    "full": "full",
}
HEIGHT = 330


@explorer(
    "attn-training",
    Choice(
        "cell",
        "Trained on",
        CELLS,
        help="The longer run was cut off; it left one seed.",
    ),
    Choice(
        "arm",
        "Method",
        {name: name for name in ARMS},
        start="sink + near + harmonic, 25 %",
        help="Drawn with a thin line a seed, and evaluated on the right.",
    ),
    Choice("view", "Over", VIEWS, help="Steps, or the block pairs that training has computed."),
    title="Block dropout in training",
    alt=(
        "On the left the held-out loss along training, over steps or over attention computed, a "
        "line a method. On the right the loss of the chosen method in the end, by how it is "
        "evaluated, a dot a seed and a bar at the mean, with full attention's as a line."
    ),
    presets=(
        Preset("A quarter of the blocks", {}),
        Preset("At equal attention", {"cell": "one seed, longer", "view": "compute"}),
        Preset(
            "Plain dropping: better, at first",
            {"arm": "plain harmonic, 25 %"},
            "A bias towards near tokens is what a young decoder needs; the longer run loses "
            "the lead.",
        ),
        Preset(
            "As a regularizer",
            {"cell": "a tenth of the text", "arm": "sink + near + harmonic, 25 %"},
            "Read six times over, the loss stops falling; weighted blocks do not help.",
            fails=True,
        ),
    ),
)
def attn_training(cell: str, arm: str, view: str) -> Figure:
    """Stored losses on held-out text; seeds are paired."""
    table = tables.load("attention_training")["cells"][cell]
    names, steps = list(table["arms"]), np.array(table["steps"], float)
    losses = np.array(table["full"])  # (times, arms, seeds)
    low, high = losses.min() - 0.02, _top(losses)
    shares = np.array(table["computed"] if view == "compute" else [1.0] * len(names))
    at = np.outer(shares, steps)
    means = losses.mean(axis=2).T  # (arms, times)
    z, x, y = np.repeat(names, len(steps)).tolist(), at.ravel(), _below(means, high).ravel()
    own = names.index(arm)
    tip = [
        f"{name}: {mean:.3f} nats after {step:.0f} steps"
        for name, line in zip(names, means, strict=True)
        for mean, step in zip(line, steps, strict=True)
    ]
    marks = [
        thin_runs(at[own], _below(losses[:, own].T, high), arm, width=1, opacity=0.6),
        figure.line(x, y, z=z, width=1.5),
        figure.line(at[own], _below(means[own], high), z=arm, width=3),
        figure.dot(x, y, z=z, tip=tip, size=6),
    ]
    label = "steps" if view == "steps" else "attention, in steps of full attention"
    return Figure(
        title=f"{arm}: {CELLS[cell]}",
        panels=[
            Panel(
                marks,
                x=Axis(label, domain=(0, float(steps[-1]) * 1.03)),
                y=Axis("held-out loss, nats a token", domain=(low, high)),
                title="Evaluated with full attention",
                series={n: ARMS[n] for n in names},
                height=HEIGHT,
            ),
            _evaluations(cell, arm),
        ],
        readout=_readout(cell, arm),
        cost=(
            f"decoders of 4 layers, 512 tokens in blocks of 16; {table['training tokens']:,} "
            f"tokens of text, {table['tokens a step']:,} a step, so it is read "
            f"{steps[-1] * table['tokens a step'] / table['training tokens']:.1f} times"
        ),
        layout="row",
    )


def _below(values: np.ndarray, most: float) -> np.ndarray:
    """What leaves the panel is a gap."""
    return np.where(values <= most, values, np.nan)


def _top(losses: np.ndarray) -> float:
    """Highest loss to draw: what full attention and dropout have after an eighth of training."""
    return float(losses[0, :2].max()) + 0.05


def final(cell: str, arm: str, way: str) -> np.ndarray:
    """Losses of all seeds in the end, evaluated in one way; NaN where that was not done."""
    table = tables.load("attention_training")["cells"][cell]
    if way not in table["final"]:
        return np.full(1, np.nan)
    return np.array(table["final"][way][list(table["arms"]).index(arm)])


def _evaluations(cell: str, arm: str) -> Panel:
    ways = list(FINAL.values())
    found = np.array([final(cell, arm, way) for way in FINAL])  # (ways, seeds)
    full = final(cell, "full attention", "full").mean()
    every = np.append(found.ravel(), full)
    low, high = np.nanmin(every), np.nanmax(every)
    room = 0.15 * (high - low) or 0.1
    means = found.mean(axis=1)
    words = ["" if np.isnan(v) else f"{v:.3f}" for v in means]
    tips = [f"{way}: {v:.4f}" for way, row in zip(ways, found, strict=True) for v in row]
    return Panel(
        [
            figure.rule(y=full, dash="dotted", label="full attention, trained with it"),
            figure.dot(np.repeat(ways, found.shape[1]), found.ravel(), z=arm, tip=tips, size=5),
            figure.dot(ways, means, z=arm, size=12, symbol="plus"),
            figure.text(ways, means, words, dy=-14, size=11),
        ],
        x=Axis(type="band", domain=ways),
        y=Axis("held-out loss, nats a token", domain=(low - room, high + 2 * room)),
        title="In the end, by way of evaluation",
        series={arm: ARMS[arm]},
        height=HEIGHT,
        legend=False,
    )


def _readout(cell: str, arm: str) -> str:
    def gap(way: str) -> str:
        values = final(cell, arm, way) - final(cell, "full attention", "full")
        if len(values) == 1:
            return signed(float(values[0]), 3)
        error = values.std(ddof=1) / len(values) ** 0.5
        return f"{signed(float(values.mean()), 3)} ± {error:.3f}"

    if arm == "full attention":
        return (
            f"Trained with full attention: {final(cell, arm, 'full').mean():.3f} nats a token; "
            "this is what the others are compared with, seed by seed."
        )
    if len(final(cell, arm, "full")) == 1:
        return (
            f"Against training with full attention, in nats a token, {arm}: {gap('full')}, of one "
            "seed; seeds of the shorter run differ by a few hundredths."
        )
    if ARMS[arm] == "c3":
        return f"Against full attention, in nats a token, dropout of probabilities: {gap('full')}."
    return (
        f"Against training with full attention, in nats a token, {arm}: {gap('1 rounds')} "
        f"evaluated in one round, {gap('16 rounds')} in sixteen, {gap('surrogate')} with ln π "
        f"added, {gap('full')} with full attention (± one standard error of the pairs)."
    )
