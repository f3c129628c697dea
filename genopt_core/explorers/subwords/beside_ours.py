"""What two figures of chapter 1 draw alike: stored values of ours beside those of others."""

from collections.abc import Callable, Collection, Mapping
from typing import Any

from genopt_core.explorers.panels import bars, results, signed
from genopt_core.figures import schema as figure
from genopt_core.figures.schema import Axis, Panel

Values = Mapping[str, float]
"""By the name of a tokenizer."""


def extremes(here: Values, ours: Collection[str]) -> tuple[str, str]:
    """The least of ours, and the least of the others."""
    mine, best = (
        min((name for name in here if (name in ours) is own), key=here.__getitem__)
        for own in (True, False)
    )
    return mine, best


def excess_panel(
    values: Mapping[str, Values],
    ours: Collection[str],
    labels: Mapping[str, str],
    chosen: str,
    *,
    column: str,
    colors: Mapping[str, str],
    title: str,
    axis: str = "",
) -> Panel:
    """How much more those with a color need than the better of ours, in percent, over labels."""
    rows: list[dict[str, Any]] = []
    for at, label in labels.items():
        mine = min(value for name, value in values[at].items() if name in ours)
        for name in (name for name in colors if name in values[at]):
            excess = 100 * (values[at][name] / mine - 1)
            tip = f"{f'{label} {axis}'.strip()}, {name}: {signed(excess, 1)} %"
            rows.append({column: label, "by": name, "excess": excess, "tip": tip})
    low, high = (end(0.0, *(row["excess"] for row in rows)) for end in (min, max))
    room = 0.12 * (high - low)
    return results(
        rows,
        (column, "excess", "by"),
        colors,
        (
            Axis(axis, type="band", domain=list(dict.fromkeys(row[column] for row in rows))),
            Axis("% more than ours", domain=(low - room * (low < 0), high + room)),
        ),
        kind="bar",
        above=[
            figure.rule(y=0),
            figure.text([labels[chosen]], [high + room / 2], ["chosen"], size=11),
        ],
        title=title,
        height=220,
    )


def values_panel(
    here: Values,
    ours: Collection[str],
    measure: str,
    said: Callable[[float], tuple[str, str]],
    **more: Any,
) -> Panel:
    """The values themselves; ``said`` writes one for a tooltip, and beside its bar."""
    return bars(
        here,
        Axis(measure, domain=(0, 1.2 * max(here.values()))),
        z=["ours" if name in ours else "peer" for name in here],
        tip=[f"{name}: {said(value)[0]} {measure}" for name, value in here.items()],
        numbers=[said(value)[1] for value in here.values()],
        series={"peer": "c1", "ours": "accent"},
        **more,
    )
