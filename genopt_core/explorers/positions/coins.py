"""Explorer of chapter 3: blocks kept by chance are, merged over rounds, a bias."""

import numpy as np

from genopt_core.figures import schema as figure
from genopt_core.figures.controls import Choice, Seed
from genopt_core.figures.registry import Preset, explorer
from genopt_core.figures.schema import Axis, Figure, Panel
from genopt_core.positions import distance_cost, dropping_bias

BLOCKS = 16
LAWS = {
    "harmonic": "harmonic, 1/(1 + t)",
    "geometric": "geometric, 2⁻ᵗ",
    "window": "all or nothing",
}
ROUNDS = (1, 4, 16, 64, 256, 1024)


def _kept(law: str) -> np.ndarray:
    """Probability to keep each block, from the nearest to the farthest."""
    t = np.arange(BLOCKS)
    if law == "window":
        return (t < 4).astype(float)
    return 1.0 / (1 + t) if law == "harmonic" else 2.0**-t


@explorer(
    "pos-coins",
    Choice("law", "Blocks are kept", LAWS, help="Probability by block distance t."),
    Choice("rounds", "Rounds merged", ROUNDS, start=64, help="Numerators and sums added up."),
    Seed("seed", "Seed", help="Which coins fall."),
    title="Dropping blocks is a bias",
    alt=(
        "Above, the bias over the block distance: the logarithm of the probability as a line, that "
        "of the share of rounds in which a block was really kept as dots. Below, a logarithmic "
        "bias of slope 1 beside it, in attention weights at equal content."
    ),
    presets=(
        Preset("64 rounds", {}),
        Preset(
            "A single round",
            {"rounds": 1},
            "Blocks are there or not. One draw is no bias, only its mean over draws is.",
            fails=True,
        ),
        Preset("1,024 rounds", {"rounds": 1024}, "The dots lie on the line."),
        Preset("A geometric law", {"law": "geometric"}, "A straight line: ALiBi, block by block."),
    ),
)
def pos_coins(law: str, rounds: int, seed: int) -> Figure:
    """Shares of merged rounds against their limit (book, eq. pos-dropping)."""
    keep = _kept(law)
    t = np.arange(BLOCKS)
    kept = (np.random.default_rng(seed).random((rounds, BLOCKS)) < keep).mean(axis=0)
    limit, drawn = dropping_bias(keep), dropping_bias(kept)
    log = -distance_cost(BLOCKS, "log")
    limit, drawn = (np.where(np.isfinite(b), b, np.nan) for b in (limit, drawn))
    missing = int((kept == 0).sum())
    total = np.abs(kept / kept.sum() - keep / keep.sum()).sum() / 2 if kept.sum() else 1.0
    roles = {"limit, ln π": "c1", "rounds merged": "c2", "−ln(1 + t)": "muted"}
    low = min(float(np.nanmin(limit)), -np.log(2 * rounds), -3.0) - 0.3
    return Figure(
        title=f"{LAWS[law]}, {rounds:,} rounds merged" if rounds > 1 else f"{LAWS[law]}, one round",
        panels=[
            Panel(
                [
                    figure.line(t, log, z="−ln(1 + t)", width=5, opacity=0.4),
                    figure.line(t, limit, z="limit, ln π"),
                    figure.dot(t, drawn, z="rounds merged", size=8),
                ],
                x=Axis("blocks back, t", domain=(-0.5, BLOCKS - 0.5)),
                y=Axis("bias", domain=(low, 0.3)),
                title="Logarithm of the share that is kept",
                series=roles,
                height=250,
            ),
            Panel(
                [
                    figure.bar(
                        [str(b) for b in t], kept / max(kept.sum(), 1e-9), z="rounds merged"
                    ),
                    figure.dot([str(b) for b in t], keep / keep.sum(), z="limit, ln π", size=8),
                ],
                x=Axis("blocks back, t", type="band", domain=[str(b) for b in t]),
                y=Axis("weight at equal content", domain=(0, 1)),
                title="Attention weights by block",
                series={k: roles[k] for k in ("limit, ln π", "rounds merged")},
                height=220,
            ),
        ],
        readout=(
            f"After {rounds:,} {'round' if rounds == 1 else 'rounds'} {missing} of {BLOCKS} blocks "
            f"{'was' if missing == 1 else 'were'} never kept, and {total:.0%} of the weight lies "
            f"elsewhere than with the bias ln π."
        ).replace("%", " %"),
        cost=f"{keep.sum():.2f} of {BLOCKS} blocks are computed a round",
    )
