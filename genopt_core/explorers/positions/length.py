"""Explorer of chapter 3: loss against the length of the context, all methods."""

import math

import numpy as np

from genopt_core.explorers.panels import counted, end_labels, thin_runs
from genopt_core.explorers.positions import methods
from genopt_core.figures import schema as figure
from genopt_core.figures.controls import Choice
from genopt_core.figures.registry import Preset, explorer
from genopt_core.figures.schema import Axis, Figure, Mark, Panel

SHOWN = ("development", "sotu/64", "moby-dick/64", "sotu/128")
METHODS = {**methods.FINAL, **methods.LATER}
BESIDE = {"rope": "c2", "alibi": "c3", "rope-alibi": "c4"}  # drawn by name, whatever is chosen
THIS = "this method"
VIEWS = {"near": "near the best", "all": "all"}
NEAR = 0.2  # nats above the best that the near view shows
HEIGHT = 340


@explorer(
    "pos-length",
    Choice(
        "place",
        "Run",
        {place: methods.PLACES[place] for place in SHOWN},
        help="Which text, which decoder, which seeds.",
    ),
    Choice("method", "Method", METHODS, help="Drawn with a thin line for each seed."),
    Choice("view", "Losses", VIEWS, help="Only those near the best, or all of them."),
    title="Loss against length",
    alt=(
        "Lines of the loss in nats over the length of the context, from 1 to 16 times the trained "
        "length: the method chosen with a thin line a seed, RoPE, ALiBi and both together by name, "
        "the means of all other methods in gray. RoPE alone rises steeply, biased ones stay flat."
    ),
    presets=(
        Preset("The chosen reading", {}),
        Preset(
            "RoPE beyond its length",
            {"method": "rope", "view": "all"},
            "Angles that training never met: the loss rises from twice the length on.",
            fails=True,
        ),
        Preset("The usual pair", {"method": "rope-alibi"}),
        Preset(
            "Half of the heads free",
            {"method": "rope-harmonic-double-mix"},
            "Free heads rotate, and beyond the trained length they see angles they never met.",
        ),
        Preset(
            "Flat is not far-sighted",
            {"method": "harmonic"},
            "The line is flat because nothing far is seen, not because it is used.",
            fails=True,
        ),
    ),
)
def pos_length(place: str, method: str, view: str) -> Figure:
    """Stored losses of the same last tokens at each length."""
    found = methods.losses(place)
    at = np.array(methods.times())
    means = {name: runs.mean(axis=0) for name, runs in found.items()}
    label, unit = methods.label(method), methods.UNITS[place]
    title = f"{label}: {methods.PLACES[place]}"
    low, top = _range(found, view)
    room = 0.04 * (top - low)
    y = Axis(f"nats a {unit}", domain=(low - room, top + room))
    # what is not there is a gap, so that all frames have the same marks
    gap = np.full(len(at), math.nan)
    rest = [np.where(one <= top, one, math.nan) for one in means.values()] or [gap]
    runs = [np.where(one <= top, one, math.nan) for one in found.get(method, ())] or [gap]
    mean = np.where(means.get(method, gap) <= top, means.get(method, gap), math.nan)
    marks = [thin_runs(at, rest, "other methods", width=1, opacity=0.5)]
    for name in BESIDE:
        line = np.where(means.get(name, gap) <= top, means.get(name, gap), math.nan)
        marks.append(figure.line(at, line, z=methods.label(name), width=2))
    marks += [
        thin_runs(at, runs, THIS, width=1, opacity=0.7),
        figure.line(at, mean, z=THIS, width=3),
        figure.dot(at, mean, z=THIS, tip=_tips(mean)),
        _ends(means, method, y, top),
    ]
    roles = {THIS: "accent"} | {methods.label(n): role for n, role in BESIDE.items()}
    seeds = len(found.get(method, ()))
    return Figure(
        title=title,
        panels=[
            Panel(
                marks,
                x=Axis(
                    "tested length over trained length",
                    type="log",
                    domain=(1, 50),
                    ticks=list(at),
                    tick_labels=[f"{t}×" for t in at],
                ),
                y=y,
                title=f"{len(found)} methods, {counted(seeds, 'seed')}, the same last tokens",
                series=roles | {"other methods": "muted"},
                height=HEIGHT,
                legend=False,
            )
        ],
        readout=_readout(method, means, unit) if method in means else _absent(label, len(found)),
        cost="every length scores the same tokens, so a longer context can only help or harm",
    )


def _range(found: dict[str, np.ndarray], view: str) -> tuple[float, float]:
    """Lowest and highest loss to draw."""
    if not found:
        return 0.0, 1.0
    means = [runs.mean(axis=0) for runs in found.values()]
    low = min(float(runs.min()) for runs in found.values())
    top = max(float(mean.max()) for mean in means)
    return low, top if view == "all" else min(float(np.min(means)) + NEAR, top + 0.01)


def _tips(mean: np.ndarray) -> list[str]:
    return [f"{t} times: {value:.4f}" for t, value in zip(methods.times(), mean, strict=True)]


def _ends(means: dict[str, np.ndarray], method: str, y: Axis, top: float) -> Mark:
    """The names beside the ends of the lines that stay in view."""
    last = methods.times()[-1]
    names = [n for n in dict.fromkeys((method, *BESIDE)) if n in means and means[n][-1] <= top]
    ends = {_name(n, method): (last, float(means[n][-1])) for n in names}
    return end_labels(ends or {"": (last, y.domain[0])}, y, HEIGHT)  # type: ignore[index]


def _name(name: str, method: str) -> str:
    return THIS if name == method else methods.label(name)


def _absent(label: str, count: int) -> str:
    if not count:
        return "No method has been run here yet."
    return f"{label} has not been run here yet, {counted(count, 'other method')} have."


def _readout(method: str, means: dict[str, np.ndarray], unit: str) -> str:
    first, last = (float(means[method][i]) for i in (0, -1))
    order = sorted(means, key=lambda name: float(means[name][-1]))
    text = (
        f"{methods.label(method)}: {first:.3f} nats a {unit} at the trained length and {last:.3f} "
        f"at 16 times it, number {order.index(method) + 1} of {len(order)} there"
    )
    if method != order[0]:
        return f"{text}; {methods.label(order[0])} has {float(means[order[0]][-1]):.3f}."
    peers = [name for name in order if methods.is_peer(name)]
    if not peers:
        return f"{text}."
    return (
        f"{text}; the best without anything harmonic, {methods.label(peers[0])}, has "
        f"{float(means[peers[0]][-1]):.3f}."
    )
