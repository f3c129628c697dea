"""Explorer of chapter 3: recall of a key against its distance, and what perplexity says."""

import numpy as np

from genopt_core.explorers.panels import thin_runs
from genopt_core.explorers.positions import methods
from genopt_core.figures import schema as figure
from genopt_core.figures.controls import Choice
from genopt_core.figures.registry import Preset, explorer
from genopt_core.figures.schema import Axis, Figure, Mark, Panel

TRAINED = 64
TICKS = [0, 0.2, 0.4, 0.6, 0.8, 1]
TASKS = {"one-key": "one key", "copy": "copy a string", "four-keys": "four keys"}
GUESSES = {"one-key": 1 / 16, "copy": 1 / 32, "four-keys": 0.25}
"""Shares that are right by chance: one of all values, of all tokens of strings, of those seen."""
METHODS = {
    "rope-learned-fourfold": "RoPE + learned slopes from 4/h",
    "rope-harmonic-double": "RoPE + harmonic slopes, 2/h",
    "rope-harmonic-double-mix": "… half of the heads free",
    "harmonic-double-mix": "harmonic slopes, 2/h, half free, no RoPE",
    "rope-harmonic": "RoPE + harmonic slopes",
    "rope-alibi": "RoPE + ALiBi",
    "alibi": "ALiBi",
    "rope": "RoPE",
    "kerple-log": "KERPLE-log",
    "fire": "FIRE",
    "windows": "hard windows on half of the heads",
    "rope-windows": "RoPE + hard windows on half of the heads",
    "nope": "no positions",
    "rope-interpolated": "RoPE, interpolated at test time",
    "rope-ntk": "RoPE, NTK at test time",
    "rope-yarn": "RoPE, YaRN at test time",
}
DISTANCES = (8, 16, 32, 48, 64, 128, 256, 512, 1024)


@explorer(
    "pos-recall",
    Choice("task", "Task", TASKS, help="One of four keys, the only key, or a string of 6 tokens."),
    Choice("method", "Method", METHODS, start="rope-harmonic-double", help="A thin line a seed."),
    Choice("distance", "Distance", DISTANCES, start=256, help="Where the right panel looks."),
    title="Recall against distance",
    alt=(
        "On the left the share of right answers over the distance on a logarithmic axis, a line a "
        "method: of one key all methods find nearly every one within the trained length of 64 "
        "tokens; beyond it those that rotate or bias all heads strongly fall to a guess. On the "
        "right each method as a dot: recall at the distance chosen over its loss on text at 16 "
        "times the trained length."
    ),
    presets=(
        Preset(
            "All heads biased",
            {},
            "Among the best on text, and hardly better than a guess from 512 tokens on.",
            fails=True,
        ),
        Preset(
            "Half of the heads free",
            {"method": "rope-harmonic-double-mix"},
            "They see far, but they rotate, to angles that training never met.",
        ),
        Preset(
            "Half free, no rotation",
            {"method": "harmonic-double-mix"},
            "Free heads that do not turn find the key at any distance.",
        ),
        Preset("YaRN helps RoPE", {"method": "rope-yarn"}),
        Preset(
            "Copying is harder",
            {"task": "copy", "method": "rope-learned-fourfold", "distance": 48},
            "Steep slopes on all heads do not learn it even within the trained length.",
            fails=True,
        ),
    ),
)
def pos_recall(task: str, method: str, distance: int) -> Figure:
    """Stored accuracies of the tokens asked for."""
    distances, accuracy = methods.recall(task)
    guess = GUESSES[task]
    at, here = np.array(distances), distances.index(distance)
    means = {name: runs.mean(axis=0) for name, runs in accuracy.items()}
    label = methods.label(method)
    rest = np.array([mean for name, mean in means.items() if name != method])
    tips = [f"{d} tokens: {value:.2f}" for d, value in zip(at, means[method], strict=True)]
    marks: list[Mark] = [
        figure.rule(x=TRAINED, dash="dotted", label="trained length"),
        figure.rule(y=guess, dash="dotted"),
        figure.text([3.9], [guess], ["a guess"], anchor="start", dy=9, size=11),
        thin_runs(at, rest, "other methods", width=1, opacity=0.6),
        thin_runs(at, accuracy[method], label, width=1, opacity=0.7),
        figure.line(at, means[method], z=label, width=3),
        figure.dot(at, means[method], z=label, tip=tips),
        figure.dot([distance], [means[method][here]], z=label, size=11),
    ]
    order = sorted(means, key=lambda name: -float(means[name][here]))
    rank = order.index(method) + 1
    return Figure(
        title=f"{label}: {TASKS[task]}, {distance} tokens back",
        panels=[
            Panel(
                marks,
                x=Axis("distance, tokens", type="log", domain=(3.5, 1200)),
                y=Axis("share recalled", domain=(0, 1.1), ticks=TICKS),
                title="Recall over distance",
                series={label: "accent", "other methods": "muted"},
                height=320,
            ),
            _against_loss(method, {name: float(mean[here]) for name, mean in means.items()}, guess),
        ],
        readout=(
            f"{distance} tokens back {label} recalls {means[method][here]:.2f} of the "
            f"{'string' if task == 'copy' else 'values'}, number {rank} of {len(order)}; "
            f"{methods.label(order[0])} recalls {means[order[0]][here]:.2f}."
        ),
        cost="decoders of 2 layers, 5 seeds, sequences of 64 tokens in training",
        layout="row",
    )


def _against_loss(method: str, recalled: dict[str, float], guess: float) -> Panel:
    """Rows added later have no loss on text here: their recall is the dashed level alone."""
    found = methods.losses("development")
    names = [name for name in recalled if name in found]
    loss = {name: float(found[name].mean(axis=0)[-1]) for name in names}
    kinds = [
        "shown"
        if name == method
        else "all heads rotate"
        if methods.described(name)["rotated"]
        else "nothing rotates"
        for name in names
    ]
    return Panel(
        [
            figure.rule(y=guess, dash="dotted"),
            figure.rule(y=recalled[method], dash="dotted"),
            figure.dot(
                [loss[name] for name in names],
                [recalled[name] for name in names],
                z=kinds,
                size=[11 if name == method else 7 for name in names],
                tip=[f"{methods.label(n)}: {recalled[n]:.2f} at {loss[n]:.3f} nats" for n in names],
            ),
        ],
        x=Axis("loss on text at 16×, nats", domain=(3.65, 4.85)),
        y=Axis("share recalled", domain=(0, 1.1), ticks=TICKS),
        title="Against the loss on text",
        series={"shown": "accent", "all heads rotate": "c1", "nothing rotates": "c2"},
        height=320,
    )
