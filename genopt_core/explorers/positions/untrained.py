"""Explorer of chapter 3: what a bias does to SmolLM2, which was trained without one."""

import math

import numpy as np

from genopt_core import tables
from genopt_core.explorers.panels import thin_runs
from genopt_core.figures import schema as figure
from genopt_core.figures.controls import Choice
from genopt_core.figures.registry import Preset, explorer
from genopt_core.figures.schema import Axis, Figure, Panel

LAWS = {
    "RoPE + ALiBi": "RoPE + ALiBi",
    "RoPE + ALiBi, last head free": "RoPE + ALiBi, last head free",
    "RoPE + harmonic slopes": "RoPE + harmonic slopes",
    "RoPE + harmonic slopes, half of the heads free": "… half of the heads free",
    "RoPE + harmonic distance": "RoPE + harmonic distance",
}
SHARES = {0.01: "1 %", 0.03: "3 %", 0.1: "10 %", 0.3: "30 %", 1.0: "all"}


def stored(method: str) -> dict[float, float]:
    """Nats a token by the share of the slopes."""
    rows = tables.records(tables.load("positions_untrained"))
    return {row["share"]: row["nats"] for row in rows if row["method"] == method}


@explorer(
    "pos-untrained",
    Choice("law", "Bias", LAWS, start="RoPE + harmonic slopes", help="What is put on RoPE."),
    Choice("share", "Share of the slopes", SHARES, start=0.1, help="1 % to all of the slopes."),
    title="A bias on a model that never saw one",
    alt=(
        "Lines of the loss of SmolLM2 over the share of the slopes on a logarithmic axis, one a "
        "bias, with the stock model as a dotted line below. Harmonic distance stays beside it up "
        "to a third of the slopes; ALiBi rises to ten nats, and to less than six when its last "
        "head is free."
    ),
    presets=(
        Preset("A tenth of harmonic slopes", {}),
        Preset(
            "All of ALiBi's slopes",
            {"law": "RoPE + ALiBi", "share": 1.0},
            "A trained model does not take the usual slopes: it says nothing sensible any more.",
            fails=True,
        ),
        Preset(
            "ALiBi, last head free",
            {"law": "RoPE + ALiBi, last head free"},
            "The rule for nine heads gives the ninth a steep slope; most of the harm comes there.",
        ),
        Preset(
            "A tenth of harmonic distance",
            {"law": "RoPE + harmonic distance"},
            "It grows like a logarithm, and a tenth of it the model hardly notices.",
        ),
    ),
)
def pos_untrained(law: str, share: float) -> Figure:
    """Stored losses of the same 512 tokens."""
    at = np.array(list(SHARES))
    lines = {name: np.array([stored(name)[s] for s in SHARES]) for name in LAWS}
    stock, still = stored("RoPE")[0.0], stored("no positions")[0.0]
    here = stored(law)[share]
    label = law if len(law) < 34 else "this bias"
    rest = [line for name, line in lines.items() if name != law]
    tips = [f"{SHARES[s]}: {nats:.2f} nats" for s, nats in zip(SHARES, lines[law], strict=True)]
    return Figure(
        title=f"SmolLM2 with {law}",
        panels=[
            Panel(
                [
                    figure.rule(y=stock, dash="dotted"),
                    figure.rule(y=still, dash="dotted"),
                    figure.text([0.0085], [stock], ["no bias"], anchor="start", dy=12, size=11),
                    figure.text(
                        [0.0085], [still], ["no positions"], anchor="start", dy=-8, size=11
                    ),
                    thin_runs(at, rest, "other biases", width=1.5, opacity=0.6),
                    figure.line(at, lines[law], z=label, width=3),
                    figure.dot(at, lines[law], z=label, tip=tips),
                    figure.dot([share], [here], z=label, size=11),
                ],
                x=Axis(
                    "share of the slopes",
                    type="log",
                    domain=(0.008, 1.25),
                    ticks=list(SHARES),
                    tick_labels=list(SHARES.values()),
                ),
                y=Axis("nats a token", domain=(3, 10.5)),
                title="Last 512 of 1,024 tokens of Moby-Dick",
                series={label: "accent", "other biases": "muted"},
                height=320,
            )
        ],
        readout=(
            f"{law}, {SHARES[share]} of the slopes: {here:.2f} nats a token instead of "
            f"{stock:.2f}, a perplexity of {math.exp(here):,.0f} instead of {math.exp(stock):.0f}."
        ),
        cost="weights as they are; training would have to teach the model its bias",
    )
