"""Explorer of chapter 3: a query that turns, and what its score keeps of the distance."""

import math

import numpy as np

from genopt_core.figures import schema as figure
from genopt_core.figures.controls import Choice, Slider
from genopt_core.figures.registry import Preset, explorer
from genopt_core.figures.schema import Axis, Figure, Panel
from genopt_core.positions import inverse_frequencies, rotary_angles, rotate

LAST = 128
CONTENTS = {"alike": "alike", "drawn": "drawn at random"}
HANDS = {"fastest": "c1", "middle": "c2", "slowest": "c3"}


def _vectors(content: str, dim: int) -> tuple[np.ndarray, np.ndarray]:
    """A query and a key of length √d."""
    if content == "alike":
        return np.ones(dim), np.ones(dim)
    q, k = np.random.default_rng(3).normal(size=(2, dim))
    return q / np.linalg.norm(q) * math.sqrt(dim), k / np.linalg.norm(k) * math.sqrt(dim)


@explorer(
    "pos-rotate",
    Choice("dim", "Channels of a head", (2, 8, 32, 64), start=32, help="Two channels a pair."),
    Choice(
        "base",
        "Base θ",
        {10: "10", 100: "100", 10_000: "10,000", 500_000: "500,000"},
        start=10_000,
        help="The slowest pair needs about 2π θ tokens for a turn.",
    ),
    Choice("content", "Query and key", CONTENTS, help="The same vector, or two drawn ones."),
    Slider(
        "distance",
        "Distance",
        0,
        LAST,
        8,
        grid=(0, 1, 2, 4, 6, 8, 16, 32, 64, 128),
        unit="tokens",
        help="From the query back to the key.",
    ),
    title="Two vectors that turn",
    alt=(
        "On the left a dial with a hand for the fastest, a middle and the slowest pair of "
        "channels, each turned by its angle at the distance chosen. On the right the score over "
        "the distance from 0 to 128: it falls from its largest value and then oscillates."
    ),
    presets=(
        Preset("32 channels", {}),
        Preset(
            "Two channels come back",
            {"dim": 2, "distance": 6},
            "One pair turns once in 6.3 tokens: the key 6 tokens back scores as if it were here.",
            fails=True,
        ),
        Preset("A small base", {"base": 10, "distance": 64}, "Every pair has turned many times."),
        Preset(
            "Other contents, no decay",
            {"content": "drawn", "distance": 64},
            "Rotation tells distances apart. It does not prefer near ones.",
            fails=True,
        ),
    ),
)
def pos_rotate(dim: int, base: int, content: str, distance: int) -> Figure:
    """Scores of one query and one key over their distance (book, eq. pos-relative)."""
    omega = inverse_frequencies(dim, theta=float(base))
    q, k = _vectors(content, dim)
    at = np.arange(LAST + 1)
    turned = rotate(np.broadcast_to(q, (len(at), dim)), rotary_angles(at, omega))
    score = turned @ k / math.sqrt(dim)
    picks = dict(zip(HANDS, (0, len(omega) // 2, len(omega) - 1), strict=True))
    if len(omega) == 1:
        picks = {"fastest": 0}
    angles = {name: float(distance * omega[i]) for name, i in picks.items()}
    return Figure(
        title=f"{dim} channels, base {base:,}: {distance} tokens apart",
        panels=[_dial(angles), _curve(at, score, distance)],
        readout=(
            f"{distance} tokens apart the score is {score[distance]:.2f}, and at distance 0 it is "
            f"{score[0]:.2f}; the fastest pair turns once in {2 * math.pi / omega[0]:.1f} tokens, "
            f"the slowest of {len(omega)} in {2 * math.pi / omega[-1]:,.0f}."
        ).replace("-", "−"),
        cost="two multiplications a channel; nothing is stored, and lengths stay the same",
        layout="row",
    )


def _dial(angles: dict[str, float]) -> Panel:
    circle = np.linspace(0, 2 * math.pi, 61)
    reach = dict(zip(HANDS, (0.95, 0.8, 0.65), strict=True))
    names = list(angles)
    return Panel(
        [
            figure.line(np.cos(circle), np.sin(circle), z="key", width=1),
            figure.link([0], [0], [1], [0], z="key", width=2),
            figure.link(
                [0] * len(names),
                [0] * len(names),
                [reach[n] * math.cos(angles[n]) for n in names],
                [reach[n] * math.sin(angles[n]) for n in names],
                z=names,
                width=3,
                arrow=True,
                tip=[f"{n} pair: {angles[n]:.4g} radians" for n in names],
            ),
        ],
        x=Axis(domain=(-1.3, 1.3), hidden=True),
        y=Axis(domain=(-1.06, 1.06), hidden=True),  # nearly a circle on most screens
        title="How far the query's pairs have turned",
        series={"key": "muted"} | {name: HANDS[name] for name in names},
        height=300,
    )


def _curve(at: np.ndarray, score: np.ndarray, distance: int) -> Panel:
    low, high = float(score.min()), float(score.max())
    room = 0.1 * (high - low)
    return Panel(
        [
            figure.rule(x=distance, dash="dotted"),
            figure.line(at, score, z="score"),
            figure.dot([distance], [score[distance]], z="here", size=9),
        ],
        x=Axis("distance, tokens", domain=(0, LAST)),
        y=Axis("score", domain=(low - room, high + room)),
        title="Score over distance",
        series={"score": "c1", "here": "accent"},
        height=300,
        legend=False,
    )
