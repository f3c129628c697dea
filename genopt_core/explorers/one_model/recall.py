"""Explorer of chapter 6: what a passage that was read before is worth, by its distance."""

from genopt_core import tables
from genopt_core.explorers.one_model.grid import BASE, SHORT, table
from genopt_core.explorers.panels import padded, signed
from genopt_core.figures import schema as figure
from genopt_core.figures.controls import Choice
from genopt_core.figures.registry import Preset, explorer
from genopt_core.figures.schema import Axis, Figure, Mark, Panel

COMPARED = {
    "positions": "positions",
    "tokenizer": "tokenizer",
    "attention": "attention",
    "settings": "settings",
    "all": "all four of training",
}


def gains() -> dict[str, list[tuple[int, float, float]]]:
    """Distance, gain and half its interval at equal tokens, by cell."""
    found: dict[str, list[tuple[int, float, float]]] = {}
    for row in tables.records(table()["recall"], "rows", "columns"):
        if row["budget"] == "tokens":
            line = found.setdefault(row["cell"], [])
            line.append((row["distance"], row["mean"], row["half"] or 0.0))
    return {cell: sorted(line) for cell, line in found.items()}


@explorer(
    "one-recall",
    Choice("switch", "Switch", COMPARED, help="What is on, all else off: beside the base."),
    title="Recall against distance",
    alt=(
        "Bits a byte gained on a passage that was read before over the distance in tokens, with 95 "
        "% intervals: a line for the base, one for the base with the chosen switch on, thin ones "
        "for all other trainings. Above zero the passage is recalled."
    ),
    presets=(
        Preset(
            "Positions: nothing is recalled",
            {},
            "With steep slopes on all heads nothing that far has a weight: no gain at all.",
            fails=True,
        ),
        Preset("Settings", {"switch": "settings"}),
        Preset("All of training", {"switch": "all"}),
    ),
)
def one_recall(switch: str) -> Figure:
    """Stored gains over seeds; the cache is full."""
    found = gains()
    on = (True,) * 4 if switch == "all" else tuple(name == switch for name in SHORT)[:4]
    cell = BASE._replace(**dict(zip(BASE._fields, on, strict=False))).cell
    label = "all of training" if switch == "all" else f"with {SHORT[switch]}"
    rest = [c for c in found if c not in (cell, BASE.cell)]
    distances = [d for d, _, _ in found[BASE.cell]]
    marks: list[Mark] = [figure.rule(y=0, dash="dotted")]
    if rest:
        gap = [(float("nan"), float("nan"))]
        points = [p for c in rest for p in [*((d, m) for d, m, _ in found[c]), *gap]]
        marks.append(
            figure.line(
                [d for d, _ in points], [m for _, m in points], z="others", width=1, opacity=0.5
            )
        )
    for c, name, shift in ((BASE.cell, "the base", 0.985), (cell, label, 1.015)):
        at = [d * shift for d, _, _ in found[c]]
        marks += [
            figure.link(
                at, [m - h for _, m, h in found[c]], at, [m + h for _, m, h in found[c]], z=name
            ),
            figure.line(at, [m for _, m, _ in found[c]], z=name, width=2.5),
            figure.dot(
                at,
                [m for _, m, _ in found[c]],
                z=name,
                size=9,
                tip=[f"{name}, {d} tokens back: {signed(m, 4)} ± {h:.4f}" for d, m, h in found[c]],
            ),
        ]
    ends = [m + s * h for line in found.values() for _, m, h in line for s in (-1, 1)]
    near, far = found[cell][0], found[cell][-1]
    return Figure(
        title=f"{label[0].upper()}{label[1:]}",
        panels=[
            Panel(
                marks,
                x=Axis(
                    "tokens back",
                    type="log",
                    domain=(distances[0] / 1.3, distances[-1] * 1.3),
                    ticks=distances,
                ),
                y=Axis("bits a byte gained", domain=padded([0.0, *ends])),
                title="What it is worth to have read the passage before",
                series={"the base": "c1", label: "accent"} | ({"others": "muted"} if rest else {}),
                height=320,
                table={
                    "tokens back": distances,
                    "the base": [f"{signed(m, 4)} ± {h:.4f}" for _, m, h in found[BASE.cell]],
                    label: [f"{signed(m, 4)} ± {h:.4f}" for _, m, h in found[cell]],
                },
            )
        ],
        readout=(
            f"{label[0].upper()}{label[1:]}, a passage read {near[0]} tokens ago gains "
            f"{signed(near[1], 4)} ± {near[2]:.4f} bits a byte and one read {far[0]} tokens ago "
            f"{signed(far[1], 4)} ± {far[2]:.4f}; the base gains "
            f"{signed(found[BASE.cell][0][1], 4)} and {signed(found[BASE.cell][-1][1], 4)}."
        ),
        cost="equal tokens, a full cache; the passage is held out",
    )
