"""Explorer of chapter 5: what the cache costs in time."""

from genopt_core import tables
from genopt_core.figures import schema as figure
from genopt_core.figures.controls import Choice
from genopt_core.figures.registry import Preset, explorer
from genopt_core.figures.schema import Axis, Figure, Panel

PARTS = {
    "step": "a decoding step of the whole model, 4,096 tokens",
    "turns": "a step with compiled kernels and without, 4,096 tokens",
    "prompt": "reading a prompt of 2,048 tokens",
} | {
    f"attention {bits}": f"attention alone, {bits} bits, 8,192 tokens, 32 heads"
    for bits in (2, 3, 4, 8)
}
FULL = "full precision"
KERNELS = {
    "sdpa, full precision": FULL,
    "rotated space": "from packed codes",
    "naive": "restored first",
}


@explorer(
    "kv-times",
    Choice("part", "What is timed", PARTS, help="On one core, in processor time."),
    Choice(
        "unit",
        "Shown as",
        {"time": "time", "ratio": "times full precision"},
        help="Time depends on the machine, ratios less so.",
    ),
    title="What the cache costs in time",
    alt=(
        "Horizontal bars, one for each cache: the time of a decoding step, of reading a prompt or "
        "of attention alone, or how many times that of the cache in full precision it is."
    ),
    presets=(
        Preset("A decoding step", {}),
        Preset(
            "With compiled kernels",
            {"part": "turns", "unit": "ratio"},
            "All caches took turns at each of 24 steps; shown are medians. Longer stairs: keys "
            "16/4/4/4/4/3, values 16/4/4/3/3/2.",
        ),
        Preset("Reading a prompt", {"part": "prompt", "unit": "ratio"}),
        Preset(
            "Attention alone",
            {"part": "attention 4"},
            "Straight from the packed codes it takes little more than at full precision.",
        ),
        Preset(
            "Restoring first: twelve times slower",
            {"part": "attention 2", "unit": "ratio"},
            "Whoever restores keys and values in each step loses what the codes save.",
            fails=True,
        ),
    ),
)
def kv_times(part: str, unit: str) -> Figure:
    """Stored processor times on one core."""
    values, ratios, name = _times(part)
    shown = ratios if unit == "ratio" else values
    unit_words = "times full precision" if unit == "ratio" else name
    digits = 2 if unit == "ratio" else 1
    words = [f"{label}: {value:.{digits}f}" for label, value in shown.items()]
    names = list(shown)
    stairs = next(label for label in values if label != FULL)
    slowest = max(values, key=lambda label: values[label])
    other = f"{stairs}, compiled" if part == "turns" else slowest
    more = "" if other == stairs else f", and {other} {ratios[other]:.2f} times"
    short = "ms" if name == "milliseconds" else "s"
    return Figure(
        title=f"Time of {PARTS[part]}",
        panels=[
            Panel(
                [
                    figure.bar(
                        list(shown.values()),
                        names,
                        z=["full" if label == FULL else "quantized" for label in names],
                        tip=[f"{word} {unit_words}" for word in words],
                        horizontal=True,
                    ),
                    figure.text(list(shown.values()), names, words, anchor="start", dx=5, size=11),
                ],
                x=Axis(unit_words, domain=(0, 2.1 * max(shown.values()))),
                y=Axis(type="band", domain=names, ticks=names, tick_labels=[""] * len(names)),
                title=PARTS[part][0].upper() + PARTS[part][1:],
                series={"full": "muted", "quantized": "c1"},
                height=40 + 44 * len(names),
                legend=False,
            )
        ],
        readout=(
            f"For {PARTS[part]}, {stairs} takes {values[stairs]:.1f} {short} against "
            f"{values[FULL]:.1f} {short} at full precision, {ratios[stairs]:.2f} times{more}."
        ),
        cost=(
            f"Stepping down is {100 * tables.load('kv_answers')['times']['stepping']:.1f} % of a "
            "decoding step; without compiled kernels bytes are saved and not time"
        ),
    )


def _times(part: str) -> tuple[dict[str, float], dict[str, float], str]:
    """Time and ratio to full precision by cache, and the unit of the time.

    Where caches took turns the ratio is the median of those at the same step.
    """
    times = tables.load("kv_answers")["times"]
    if part == "turns":
        rows = times[part]
        values, ratios = ({label: row[i] for label, row in rows.items()} for i in (0, 1))
        return values, ratios, "milliseconds"
    if part in times:
        values = dict(times[part])
    else:
        ms = next(row["ms"] for row in times["kernels"] if part == f"attention {row['bits']}")
        values = {label: ms[name] for name, label in KERNELS.items()}
    ratios = {label: value / values[FULL] for label, value in values.items()}
    return values, ratios, "seconds" if part == "prompt" else "milliseconds"
