"""Explorer of chapter 5: five objections to the staircase, each answered by a measurement."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from genopt_core import tables
from genopt_core.explorers.panels import results
from genopt_core.figures import schema as figure
from genopt_core.figures.controls import Choice
from genopt_core.figures.registry import Preset, explorer
from genopt_core.figures.schema import Axis, Figure, Mark, Panel

CODECS = {"grid": "c1", "rotated": "c2"}
ERROR = "error of attention's output, %"
AGES = {
    "KIVI, 2 bits": "c3",
    "SAQ 16/8/4/2": "c1",
    "SAQ+ 16/8/4/2": "c2",
    "SAQ+ 16/4/4/3/3/2": "accent",
}
GROUPS = {
    ("grid", 16): "grid, groups of 16",
    ("grid", 32): "grid, groups of 32",
    ("grid", 64): "grid, groups of 64",
    ("rotated", 64): "rotated",
}
FLAT, LONG = "flat 2, residual one chunk longer", "stairs 4/4/4/4/4/3/3/3/2"
DESIGNS = {FLAT: "flat", "stairs 8/8/3/2": "short stairs", LONG: "long stairs"}
CONTROLS = {
    "error": "as designed",
    "same widths at random ages": "random ages",
    "error with ages shuffled": "tokens shuffled",
}


def _rows(question: str) -> list[dict[str, Any]]:
    return [dict(row) for row in tables.load("kv_answers")["answers"][question]]


def _one(rows: Sequence[Mapping[str, Any]], **given: Any) -> Mapping[str, Any]:
    (row,) = (r for r in rows if all(r[name] == value for name, value in given.items()))
    return row


def _percent(values: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {100 * value:.1f} %" for name, value in values.items())


def _grouped(
    rows: Sequence[Mapping[str, Any]], names: Sequence[str], title: str, above: Sequence[Mark] = ()
) -> Panel:
    """Dots over categories, one color a codec: a row has ``at``, ``codec`` and ``error``."""
    for_dots = [
        {
            "at": row["at"],
            "percent": 100 * row["error"],
            "codec": row["codec"],
            "tip": f"{row['at']}, {row['codec']}: {100 * row['error']:.2f} %",
        }
        for row in rows
    ]
    values = [row["percent"] for row in for_dots]
    return results(
        for_dots,
        ("at", "percent", "codec"),
        CODECS,
        (
            Axis(type="band", domain=list(names)),
            Axis(ERROR, type="log", domain=(0.7 * min(values), 1.4 * max(values))),
        ),
        kind="dot",
        size=9,
        above=above,
        title=title,
        height=260,
    )


def _ages() -> tuple[Panel, str]:
    rows = [row | {"cache": row["cache"].replace("-2", ", 2 bits")} for row in _rows("by age")]
    rows = [row for row in rows if row["cache"] in AGES]
    points = [
        {
            "age": age,
            "percent": 100 * error,
            "cache": row["cache"],
            "tip": f"{row['cache']}, age {age}: {100 * error:.2f} %",
        }
        for row in rows
        for age, error in enumerate(row["error of one age"], 1)
    ]
    panel = results(
        points,
        ("age", "percent", "cache"),
        AGES,
        (Axis("age, chunks of 32 tokens"), Axis(ERROR, type="log", domain=(0.05, 30))),
        title="Error that the tokens of one age cause alone",
        height=260,
    )
    total = {row["cache"]: row["error"] for row in rows}
    return panel, (
        "Without sinks the oldest chunk alone causes an error of "
        f"{100 * rows[0]['error of one age'][-1]:.0f} %, with four of them no age more than "
        f"{100 * max(_one(rows, cache='SAQ+ 16/8/4/2')['error of one age']):.1f} %; in all: "
        f"{_percent(total)}."
    )


def _requantizing() -> tuple[Panel, str]:
    rows = [row for row in _rows("nested") if (row["sides"], row["sink"]) == ("both", 4)]
    for row in rows:
        row["at"] = row["ladder"].replace(" by dropping low bits", ", bits dropped")
    names = list(dict.fromkeys(row["at"] for row in rows))
    once = {codec: _one(rows, ladder="8→4→2", codec=codec)["coded once"] for codec in CODECS}
    marks = [
        figure.rule(y=100 * value, z=codec, dash="dotted", label=f"{codec}, coded once")
        for codec, value in once.items()
    ]
    worst = _one(rows, ladder="4→3→2", codec="grid")["error"]
    return _grouped(rows, names, "After the ladder", marks), (
        f"On grids 8→4→2 ends at {100 * _one(rows, ladder='8→4→2', codec='grid')['error']:.2f} %, "
        f"coded once it is {100 * once['grid']:.2f} %; 4→3→2, which is not nested, ends at "
        f"{100 * worst:.1f} %, {worst / once['grid']:.1f} times as much, and rotated codes lose "
        f"hardly anything on any ladder."
    )


def _equal_memory() -> tuple[Panel, str]:
    rows = _rows("equal memory")
    points, ranges = [], []
    for row in rows:
        for key, control in CONTROLS.items():
            value = row[key]
            middle = value["mean"] if isinstance(value, Mapping) else value
            at = f"{DESIGNS[row['design']]}: {control}"
            points.append({"at": at, "codec": row["codec"], "error": middle})
            if isinstance(value, Mapping):
                ranges.append((at, row["codec"], value["least"], value["largest"]))
    names = list(dict.fromkeys(point["at"] for point in points))
    links = [
        figure.link(
            [at for at, codec, _, _ in ranges if codec == name],
            [100 * low for _, codec, low, _ in ranges if codec == name],
            [at for at, codec, _, _ in ranges if codec == name],
            [100 * high for _, codec, _, high in ranges if codec == name],
            z=name,
            width=2,
        )
        for name in CODECS
    ]
    flat, long = (_one(rows, design=design, codec="grid") for design in (FLAT, LONG))
    at_random = long["same widths at random ages"]["mean"]
    return _grouped(points, names, "At equal bytes (lines: range of five draws)", links), (
        f"At equal bytes the long, low stairs 4/4/4/4/4/3/3/3/2 have an error of "
        f"{100 * long['error']:.1f} % on grids and the flat cache {100 * flat['error']:.1f} %; "
        f"with the same widths at random ages it is {100 * at_random:.1f} %, so it matters that "
        f"the bits are with the new tokens."
    )


def _sinks() -> tuple[Panel, str]:
    rows = _rows("sinks")
    for row in rows:
        row["at"] = str(row["sink"])
    names = list(dict.fromkeys(row["at"] for row in rows))
    panel = _grouped(rows, names, "Error by the number of exact first tokens")
    values = {
        codec: [_one(rows, codec=codec, sink=count)["error"] for count in (0, 4)]
        for codec in CODECS
    }
    bits = _one(rows, codec="grid", sink=4)["bits per element more at 2048"]
    told = " and ".join(
        f"by {without / some:.1f} ({codec}, {100 * without:.0f} to {100 * some:.1f} %)"
        for codec, (without, some) in values.items()
    )
    return panel, (
        f"Four exact first tokens divide the error {told} and cost {bits:.2f} bits a number at "
        "2,048 tokens; one is enough here."
    )


def _sharing() -> tuple[Panel, str]:
    rows = _rows("sharing")
    points = [
        {
            "heads": str(row["kv heads"]),
            "alike": row["correlation of errors in a group"],
            "bits": f"{row['bits']} bits",
            "tip": (
                f"{row['kv heads']} key/value heads, {row['bits']} bits: correlation "
                f"{row['correlation of errors in a group']:.2f}, error of a head "
                f"{100 * row['error of a head']:.1f} %"
            ),
        }
        for row in rows
    ]
    panel = results(
        points,
        ("heads", "alike", "bits"),
        {"2 bits": "c1", "3 bits": "c2", "4 bits": "c3"},
        (
            Axis("key/value heads for nine query heads", type="band", domain=["9", "3", "1"]),
            Axis("correlation of errors in a group", domain=(0, 1)),
        ),
        kind="bar",
        title="How alike the errors of heads are that share",
        height=260,
    )
    nine, three, one = (_one(rows, bits=2, **{"kv heads": count}) for count in (9, 3, 1))
    errors = [100 * row["error of a head"] for row in (nine, three, one)]
    alike = [row["correlation of errors in a group"] for row in (nine, three, one)]
    return panel, (
        f"With two bits the error of a head is {errors[1]:.1f} % with three key/value heads and "
        f"{errors[0]:.1f} % with nine, but heads that share err together: the correlation is "
        f"{alike[0]:.2f} with nine, {alike[1]:.2f} with three and {alike[2]:.2f} with one."
    )


def _metadata() -> tuple[Panel, str]:
    rows = _rows("metadata")
    points = [
        {
            "bits": row["bits with metadata"],
            "percent": 100 * row["error"],
            "by": GROUPS[row["codec"], row["group size"]],
            "tip": (
                f"{GROUPS[row['codec'], row['group size']]}, codes of {row['code bits']} bits: "
                f"{row['bits with metadata']:.2f} bits, {100 * row['error']:.2f} %"
            ),
        }
        for row in rows
        if (row["codec"], row["group size"]) in GROUPS
    ]
    panel = results(
        points,
        ("bits", "percent", "by"),
        dict(zip(GROUPS.values(), ("c1", "c3", "c4", "c2"), strict=True)),
        (
            Axis("bits a number, metadata included"),
            Axis(ERROR, type="log", domain=(0.5, 15)),
        ),
        title="Codes of 2, 3 and 4 bits, flat, four exact sinks",
        height=260,
    )
    rotated = _one(rows, codec="rotated", **{"code bits": 2})
    grid = _one(rows, codec="grid", **{"code bits": 2, "group size": 16})
    return panel, (
        f"With two bits a code the rotated cache takes {rotated['bits with metadata']:.2f} bits a "
        f"number and errs by {100 * rotated['error']:.1f} %; a grid in groups of 16 errs by "
        f"{100 * grid['error']:.1f} % and takes {grid['bits with metadata']:.0f}."
    )


ANSWERS: dict[str, Callable[[], tuple[Panel, str]]] = {
    "ages": _ages,
    "requantizing": _requantizing,
    "memory": _equal_memory,
    "sinks": _sinks,
    "sharing": _sharing,
    "metadata": _metadata,
}
OBJECTIONS = {
    "ages": "where does the error sit?",
    "requantizing": "quantizing again and again adds up errors",
    "memory": "a staircase uses more bits than a flat cache",
    "sinks": "the first tokens matter most",
    "sharing": "with shared heads one error hits everybody",
    "metadata": "metadata are not free",
}


@explorer(
    "kv-objections",
    Choice("objection", "Question or objection", OBJECTIONS, help="Five objections to the method."),
    title="Five objections to the staircase",
    alt=(
        "One chart for each objection, of the error of attention's output: lines over the age of "
        "the tokens or over bits, or dots over ladders, designs or numbers of sinks, with one "
        "color for grids and one for rotated codes; for shared heads bars of a correlation."
    ),
    presets=(
        Preset("Nested ladders", {"objection": "requantizing"}, "4→3→2 is the one that is not."),
        Preset("At equal bytes", {"objection": "memory"}),
        Preset("Metadata counted", {"objection": "metadata"}),
        Preset(
            "Without sinks it breaks",
            {"objection": "sinks"},
            "This objection is right: the first token has the fewest bits and most of the weight.",
            fails=True,
        ),
        Preset(
            "Shared heads err together",
            {"objection": "sharing"},
            "Errors that agree do not cancel behind the output projection.",
            fails=True,
        ),
    ),
)
def kv_objections(objection: str) -> Figure:
    """Stored answers on three layers of SmolLM2-135M and 512 tokens."""
    panel, readout = ANSWERS[objection]()
    words = OBJECTIONS[objection]
    return Figure(
        title=words[0].upper() + words[1:],
        panels=[panel],
        readout=readout,
        cost=(
            "SmolLM2-135M, layers 0, 12 and 27, 512 tokens of Moby-Dick, chunks of 32; error: root "
            "mean square of the change over that of the output, last 64 queries"
        ),
    )
