"""Explorer of chapter 4: rounds of blocks, pooled, and how fast they come to full attention."""

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from genopt_core.attention import attend
from genopt_core.attention.blocks import (
    DistanceLaw,
    estimate,
    inclusion,
    pool_rounds,
    systematic_samples,
    tiled_attention,
)
from genopt_core.explorers.attention.example import drawn_head
from genopt_core.figures import schema as figure
from genopt_core.figures.controls import Choice, Seed
from genopt_core.figures.registry import Preset, explorer
from genopt_core.figures.schema import Axis, Figure, Panel
from genopt_core.positions import dropping_bias

BLOCKS, SIZE = 16, 4
TOKENS = BLOCKS * SIZE
LAST = slice(TOKENS - SIZE, TOKENS)  # the queries that are looked at
ROUNDS = (1, 4, 16, 64, 256)
REPEATS = 64
SINK = 3.0
LAWS = {"harmonic": "harmonic", "geometric": "geometric, 0.7 to the δ", "uniform": "uniform"}
MADE = {
    "harmonic": DistanceLaw.harmonic(),
    "geometric": DistanceLaw.geometric(0.7),
    "uniform": DistanceLaw.uniform(),
}
ESTIMATORS = {
    "self-normalized": "self-normalized",
    "horvitz-thompson": "Horvitz–Thompson",
    "difference": "difference",
    "plain": "plain dropping",
}
ROLES = {
    "self-normalized": "c1",
    "Horvitz–Thompson": "c4",
    "difference": "c3",
    "plain dropping": "c2",
}
PEAKS = {0.5: "flat", 1.5: "usual", 3.0: "peaked"}
FIRST = {True: "kept for sure", False: "drawn like the others"}
LIMIT, HALF = "softmax with + ln π", "slope −1/2"


@dataclass(frozen=True)
class Converging:
    """Errors relative to full attention, and where attention lies."""

    errors: dict[str, np.ndarray]  # (repeats, rounds) by estimator
    limit: float  # of plain dropping
    shares: np.ndarray  # (blocks,) of full attention
    limit_shares: np.ndarray


def probabilities(law: str, kept: int, sink: bool) -> np.ndarray:
    """Of each key block for the last query block: its own is sure, ``kept`` in all."""
    pi = np.ones(BLOCKS)
    far = MADE[law].weights(BLOCKS)[:0:-1]  # from the first block to the one before
    drawn = slice(1, -1) if sink else slice(0, -1)
    pi[drawn] = inclusion(far[drawn.start :], kept - (2 if sink else 1))
    return pi


@lru_cache(maxsize=256)
def converging(law: str, kept: int, peak: float, sink: bool, seed: int) -> Converging:
    """Every possible round once, then many random sequences of them, pooled."""
    head = drawn_head(TOKENS, seed, peak, SINK, values=4)
    given = head.queries, head.keys, head.values + 1  # an output that is not near 0
    causal = np.tri(TOKENS, dtype=bool)
    full, lse = attend(*given, mask=causal)
    pi = np.eye(BLOCKS)
    pi[-1] = probabilities(law, kept, sink)
    samples, chance = systematic_samples(pi[-1])
    rng = np.random.default_rng(seed)
    drawn = rng.choice(len(samples), p=chance, size=(REPEATS, ROUNDS[-1]))
    errors = {}
    for name in ESTIMATORS:
        out, mass = _each(given, samples, pi, name, lse)
        pooled = [pool_rounds([(out[r], mass[r]) for r in drawn.T[:n]])[0] for n in ROUNDS]
        errors[name] = np.stack([_error(one, full[LAST]) for one in pooled], axis=1)
    row = np.zeros((BLOCKS, BLOCKS), bool)
    row[-1] = True
    bias = np.zeros((BLOCKS, BLOCKS))
    bias[-1] = dropping_bias(pi[-1])
    limit, _ = tiled_attention(*given, row, SIZE, log_weights=bias)
    members = np.kron(np.eye(BLOCKS), np.ones((SIZE, 1)))  # as values: the output is the share
    there, _ = attend(head.queries, head.keys, members, mask=causal)
    under, _ = tiled_attention(head.queries, head.keys, members, row, SIZE, log_weights=bias)
    return Converging(
        errors,
        float(_error(limit[LAST], full[LAST])),
        there[LAST].mean(axis=0),
        under[LAST].mean(axis=0),
    )


def _each(
    given: tuple[np.ndarray, np.ndarray, np.ndarray],
    samples: np.ndarray,
    pi: np.ndarray,
    name: Any,
    lse: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """The partial result of every possible round."""
    q, k, v = given
    outs, masses = [], []
    for sample in samples:
        kept = np.eye(BLOCKS, dtype=bool) if name == "difference" else np.zeros_like(pi, bool)
        kept[-1] = sample
        exact = lse if name == "horvitz-thompson" else None
        # floor=0: what is pooled must be the unbiased sums wherever there is a mass
        out, mass = estimate(q, k, v, kept, pi, SIZE, name, lse=exact, floor=0.0)
        outs.append(out[LAST])
        masses.append(mass[LAST])
    return np.array(outs), np.array(masses)


def _error(out: np.ndarray, full: np.ndarray) -> np.ndarray:
    """Relative to the output's own length, over all queries."""
    return np.linalg.norm(out - full, axis=(-2, -1)) / np.linalg.norm(full)


@explorer(
    "attn-rounds",
    Choice("estimator", "Estimator", ESTIMATORS, help="Drawn with its spread over 64 repeats."),
    Choice("law", "Law over distance", LAWS, help="How likely a block is, by its distance."),
    Choice(
        "kept",
        "Blocks a round",
        (3, 5, 8),
        start=5,
        help="Of the 16 of the last row, its own included.",
    ),
    Choice("peak", "Scores", PEAKS, start=1.5, help="Standard deviation 0.5, 1.5 or 3."),
    Choice("sink", "The first block", FIRST, help="Its first key scores 3 higher than others."),
    Seed("seed", "Seed", 2, help="Which head, and which rounds."),
    title="What rounds bring",
    alt=(
        "On the left the relative error over the number of pooled rounds, both logarithmic: "
        "self-normalized, Horvitz-Thompson and difference estimators fall along a line of slope "
        "minus one half, plain dropping bends to a level. On the right, by key block, bars of the "
        "attention of full softmax and of what plain dropping tends to."
    ),
    presets=(
        Preset("Self-normalized", {}),
        Preset(
            "Plain dropping never arrives",
            {"estimator": "plain", "sink": False},
            "It comes closer to another softmax, and no closer to this one.",
            fails=True,
        ),
        Preset(
            "Centroids help on flat scores",
            {"estimator": "difference", "peak": 0.5},
            "Where a block is much like its mean, little is left to draw.",
        ),
        Preset("The first block drawn too", {"sink": False}),
        Preset(
            "Rare blocks with large weights",
            {"law": "geometric", "kept": 3, "sink": False},
            "The first block comes once in 240 rounds, 240 times as heavy.",
            fails=True,
        ),
    ),
)
def attn_rounds(estimator: str, law: str, kept: int, peak: float, sink: bool, seed: int) -> Figure:
    """Pooled rounds (book, eq. attn-pool), and what plain ones tend to (book, eq. attn-limit)."""
    found = converging(law, kept, peak, sink, seed)
    return Figure(
        title=f"{ESTIMATORS[estimator].capitalize()}, {LAWS[law].split(',')[0]} law",
        panels=[_curves(found, estimator), _shares(found)],
        readout=_readout(found, estimator, kept),
        cost=(
            f"{kept} of {BLOCKS} blocks a round; from round {math.ceil((BLOCKS + 1) / kept)} on "
            "more blocks have been read than full attention reads"
        ),
        layout="row",
    )


def _rms(errors: np.ndarray) -> np.ndarray:
    return np.sqrt((errors**2).mean(axis=0))


def _readout(found: Converging, estimator: str, kept: int) -> str:
    error = _rms(found.errors[estimator])
    text = (
        f"With {kept} of {BLOCKS} blocks a round the output of {_phrase(estimator)} is off by "
        f"{error[0]:.1%} after one round and by {error[-1]:.1%} after {ROUNDS[-1]}"
    )
    if estimator == "plain":
        text += f", where softmax with + ln π is off by {found.limit:.1%}."
    else:
        text += (
            f", {error[0] / error[-1]:.0f} times less; plain dropping ends at {found.limit:.1%}."
        )
    return text.replace("%", " %")


def _phrase(estimator: str) -> str:
    if estimator == "plain":
        return "plain dropping"
    return f"the {ESTIMATORS[estimator]} estimator"


def _curves(found: Converging, estimator: str) -> Panel:
    error = {name: _rms(found.errors[name]) for name in ESTIMATORS}
    chosen, label = error[estimator], ESTIMATORS[estimator]
    low, high = np.quantile(found.errors[estimator], (0.1, 0.9), axis=0)
    half = [chosen[0] / math.sqrt(n) for n in ROUNDS]
    return Panel(
        [
            figure.rule(y=found.limit, z=LIMIT),
            figure.line(ROUNDS, half, z=HALF, width=1),
            figure.area(ROUNDS, low, high, z=label),
            *(figure.line(ROUNDS, error[n], z=ESTIMATORS[n], width=1.5) for n in ESTIMATORS),
            figure.line(ROUNDS, chosen, z=label, width=3.5),
            figure.dot(ROUNDS, chosen, z=label),
        ],
        x=Axis("rounds pooled, R", type="log", domain=(0.9, 285), ticks=list(ROUNDS)),
        y=Axis("relative error", type="log", domain=(1e-3, 10)),
        title="Error against rounds",
        series=ROLES | {LIMIT: "warn", HALF: "muted"},
        height=320,
    )


def _shares(found: Converging) -> Panel:
    blocks = [str(b) for b in range(BLOCKS)]
    series = {"full attention": "c1", LIMIT: "warn"}
    names = [name for name in series for _ in blocks]
    return Panel(
        [figure.bar(blocks * 2, [*found.shares, *found.limit_shares], z=names)],
        x=Axis("key block", type="band", domain=blocks, ticks=blocks[::5], tick_labels=blocks[::5]),
        y=Axis(
            "share of the attention", domain=(0, 1.05 * max(*found.shares, *found.limit_shares))
        ),
        title="What plain dropping tends to",
        series=series,
        height=320,
    )
