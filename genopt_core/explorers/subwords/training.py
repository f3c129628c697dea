"""Explorer of chapter 1: watching a vocabulary being trained."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from genopt_core import tables
from genopt_core.explorers.panels import padded, strip
from genopt_core.figures import schema as figure
from genopt_core.figures.controls import Choice, Step
from genopt_core.figures.registry import Preset, explorer
from genopt_core.figures.schema import Axis, Figure, Mark, Panel

OBJECTIVES = {"likelihood": "likelihood", "weight": "likelihood, λ = 5", "tokens": "fewest tokens"}
SHOWN_PIECES = 8
STAGES = {
    "soft": "soft EM over many candidates",
    "hard": "pruning with hard EM",
    "seeded": "rounding the relaxed optimum off",
    "search": "adding and pruning",
    "end": "last refit",
}
# Of the stored runs: each one's last step, and where the first one's search begins.
LAST = {"likelihood": 10, "weight": 6, "tokens": 13}
FIRST_SEARCH = 5


@explorer(
    "subword-training",
    Choice(
        "objective",
        "Objective",
        OBJECTIVES,
        start="likelihood",
        help="Code length alone, with 5 nats for every token, or the number of tokens alone.",
    ),
    Step(
        "step",
        "Step of training",
        0,
        max(LAST.values()),
        LAST["likelihood"],
        help="From many candidates down to 2,000 sub-words, then sub-words come and go.",
    ),
    title="Watching a vocabulary being trained",
    alt=(
        "Three curves over the steps of training: vocabulary size, bits per word and tokens per "
        "word with its certified bound; the current step is marked. Below, two strips of "
        "sub-words that entered and that left in this step."
    ),
    presets=(
        Preset(
            "Far too many sub-words",
            {"step": 0},
            "Cheap in both respects, but four times the budget: every sub-word removed costs bits.",
        ),
        Preset(
            "Pruned to size",
            {"step": FIRST_SEARCH - 1},
            "Sub-words that cost least to lose are gone; the code is longer for it.",
        ),
        Preset(
            "Sub-words come and go",
            {"step": FIRST_SEARCH},
            "Each search round adds what gains most and prunes what costs least.",
        ),
        Preset(
            "A token penalty",
            {"objective": "weight", "step": LAST["weight"]},
            "Slightly longer code, clearly fewer tokens.",
        ),
        Preset(
            "Tokens alone: the longest code",
            {"objective": "tokens", "step": LAST["tokens"]},
            "It ends close to the bound, and pays with the longest code of the three.",
            fails=True,
        ),
    ),
)
def subword_training(objective: str, step: int) -> Figure:
    """One recorded training run on the State of the Union, step by step (book, Algorithm S-2)."""
    table = tables.load("subword_training")
    run = table["runs"][objective]
    last = LAST[objective]
    now = min(step, last)
    steps = list(range(last + 1))
    bound = table["bound_tokens_per_word"]
    kept = run["kept"]

    def curve(values: Sequence[float], unit: str) -> list[Mark]:
        return [
            figure.line(steps, values, z="after the step"),
            figure.dot(
                steps,
                values,
                z=["after the step" if k else "tried, not kept" for k in kept],
                size=[7 if s == now else 4 for s in steps],
                tip=[f"step {s}: {value:,.6g} {unit}" for s, value in enumerate(values)],
            ),
            figure.rule(x=now, dash="dotted"),
        ]

    across = Axis(domain=(-0.4, max(last, 1) + 0.4), ticks=steps)
    both = {"after the step": "c1", "tried, not kept": "warn"}
    series = both if not all(kept) else {"after the step": "c1"}
    bits, tokens = run["bits_per_word"], run["tokens_per_word"]
    label = f"bound for {run['pieces'][-1]:,} sub-words"
    panels = [
        Panel(
            curve(run["pieces"], "sub-words"),
            x=across,
            y=Axis("vocabulary size", type="log", domain=(1500, 12000), ticks=[2000, 4000, 8000]),
            title="Vocabulary size",
            series=series,
            height=110,
            legend=False,
        ),
        Panel(
            curve(bits, "bits per word"),
            x=across,
            y=Axis("bits per word", domain=padded(bits)),
            title="Code length",
            series=series,
            height=150,
            legend=not all(kept),
        ),
        Panel(
            [*curve(tokens, "tokens per word"), figure.rule(y=bound, dash="dashed", label=label)],
            x=replace(across, label="step"),
            y=Axis("tokens per word", domain=padded([*tokens, bound])),
            title="Tokens",
            series=series,
            height=150,
            legend=False,
        ),
        _exchange_panel(run, now),
    ]
    spare = 100 * (1 - bound / tokens[now])
    readout = (
        f"Step {now} of {last} ({STAGES[run['stage'][now]]}) leaves {run['pieces'][now]:,} "
        f"sub-words, {bits[now]:.3f} bits "
        f"and {tokens[now]:.4f} tokens per word; {run['entered'][now]:,} "
        f"sub-words entered and {run['left'][now]:,} left"
    )
    if run["pieces"][now] == run["pieces"][-1]:
        readout += (
            f", and no vocabulary of this size can save more than {spare:.1f} % of the tokens"
        )
    if not kept[now]:
        readout += "; the round made things worse and is not kept"
    return Figure(
        title=f"Training for {OBJECTIVES[objective]}, step {now}",
        panels=panels,
        readout=readout + ".",
        cost=(
            f"Each step segments all {table['distinct_words']:,} distinct words again, which stand "
            f"for {table['words']:,} running ones"
        ),
        limits={"step": (0, last)},
    )


def _exchange_panel(run: Mapping[str, Any], now: int) -> Panel:
    marks: list[Mark] = []
    length = 45.0
    for row, (key, series) in enumerate((("in", "entered"), ("out", "left"))):
        pieces = run[key][now][:SHOWN_PIECES]
        total = run["entered" if key == "in" else "left"][now]
        told = f"{total:,} {series}" + (", most frequent:" if len(pieces) < total else "")
        marks.append(figure.text([0], [-row + 0.22], [told], anchor="start"))
        if pieces:
            # As wide as the letters need, in units of one letter.
            ends = np.cumsum([len(piece) + 1.5 for piece in pieces])
            starts = np.concatenate([[0.0], ends[:-1]])
            length = max(length, float(ends[-1]))
            marks.append(strip(pieces, starts, -row, ends=ends - 0.3, z=series, height=0.5))
    return Panel(
        marks,
        x=Axis(domain=(0, length), hidden=True),
        y=Axis(domain=(-1.6, 0.4), hidden=True),
        title="Sub-words of this step",
        series={"entered": "accent", "left": "warn"},
        height=130,
    )
