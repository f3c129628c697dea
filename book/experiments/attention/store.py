"""Stores what the scripts for a GPU left in a folder, and makes the tables of the figures.

    python -m book.experiments.attention.store FOLDER      # results of runs, then tables
    python -m book.experiments.attention.store             # tables only
    python -m book.experiments.attention.store --check     # only compares the tables

Summaries are derived here and nowhere else.  ± is one standard error over windows, each a piece of
text of its own; ranges are over texts.
"""

from __future__ import annotations

import math
import re
import statistics
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from book.experiments.attention.designs import KEPT
from book.experiments.attention.heads import CALIBRATION
from book.experiments.common.main import parser
from book.experiments.common.places import RESULTS, TABLES
from book.experiments.common.store import read, rounded, sha256, write_or_check, write_results

FILES = {
    name: RESULTS / f"attention_{name}.json"
    for name in (
        *("quality", "perplexity", "needle", "needle_short", "needles", "training"),
        *("halves", "gpu_speed", "gpu_options", "speed"),
    )
}
COLUMNS = (
    *("text", "window", "design", "kept", "density", "nll"),
    *("more", "more se", "more half", "kl", "kl se", "kl half"),
)
CPU = [
    *("tokens", "block", "density", "sink", "forward x", "both x"),
    *("forward", "both", "dense forward", "dense both"),
]
BY_ROW = [
    *("tokens", "block", "density", "plan", "dense forward"),
    *("kept forward", "kept both", "difference forward", "difference both"),
]
GPU = [
    *("call", "tokens", "heads", "dim", "density", "free"),
    *("forward", "both", "dense forward", "dense both", "device"),
]
SCORED = 3
"""The first texts: those that `quality.py` scores."""


# ------------------------------------------------------------------ results


def perplexity(raw: dict[str, Any]) -> dict[str, Any]:
    """The rows as numbers, texts and designs by their place in a list."""
    texts = list(dict.fromkeys(r["text"] for r in raw["rows"]))
    names = ["full", *raw["designs"]]
    rows = []
    for r in raw["rows"]:
        found = {"density": 1.0, **r, "text": texts.index(r["text"])}
        found["design"] = names.index(r["design"])
        rows.append([rounded(found[c], 4) for c in COLUMNS])
    content = {key: raw[key] for key in ("model", "tokens", "block", "densities", "device")}
    content |= {"texts": texts, "designs": raw["designs"], "columns": list(COLUMNS)}
    content["summary"] = summary(named(content | {"rows": rows}), raw["designs"])
    return content | {"rows": rows, "seconds": raw["seconds"], "provenance": raw["provenance"]}


def named(content: dict[str, Any]) -> list[dict[str, Any]]:
    """The rows of the stored perplexities with the names of texts and designs."""
    names = ["full", *content["designs"]]
    rows = [dict(zip(content["columns"], row, strict=True)) for row in content["rows"]]
    return [r | {"text": content["texts"][r["text"]], "design": names[r["design"]]} for r in rows]


def mean_of(rows: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """Rise of perplexity in per cent and divergence, means over windows with standard errors."""
    rows = list(rows)
    found: dict[str, Any] = {"windows": len(rows)}
    for name, values in (
        ("rise", [100 * math.expm1(r["more"]) for r in rows]),
        ("rise half", [100 * math.expm1(r["more half"]) for r in rows]),
        ("kl", [r["kl"] for r in rows]),
        ("kl half", [r["kl half"] for r in rows]),
    ):
        found[name] = rounded(statistics.fmean(values), 4)
        se = statistics.stdev(values) / len(values) ** 0.5 if len(values) > 1 else math.nan
        found[f"{name} se"] = None if math.isnan(se) else rounded(se, 3)
    return found


def summary(rows: list[dict[str, Any]], about: dict[str, Any]) -> list[dict[str, Any]]:
    """Of every design and number of kept blocks: means, and over the recommended plan's."""
    found = []
    keys = dict.fromkeys((r["kept"], r["design"]) for r in rows if r["design"] != "full")
    for kept, design in keys:
        mine = [r for r in rows if (r["kept"], r["design"]) == (kept, design)]
        where = {(r["text"], r["window"]) for r in mine}
        ours = [
            r
            for r in rows
            if (r["kept"], r["design"]) == (kept, "recommended")
            and (r["text"], r["window"]) in where
        ]
        entry = {"kept": kept, "design": design, "family": about[design]["family"]}
        entry |= mean_of(mine)
        if len(ours) == len(mine):
            over = mean_of(ours)
            for name in ("rise", "kl"):
                entry[f"recommended over it, {name}"] = rounded(over[name] / entry[name], 3)
        found.append(entry)
    return found


def needle_rows(raw: dict[str, Any]) -> dict[str, Any]:
    """The rows without the names of their columns."""
    columns = list(raw["rows"][0])
    return raw | {"columns": columns, "rows": [[r[c] for c in columns] for r in raw["rows"]]}


def training_cells(raw: dict[str, Any], log: Path) -> dict[str, Any]:
    """The cells of a run, each with its device, and what a longer one that was cut off printed.

    It had no time left to write; along the way it printed the loss with full attention of the first
    seed of every arm, on the whole text.
    """
    cells = []
    for cell in raw["cells"]:
        curve = [{"sample": cell["final"]["1 rounds"], **c} for c in cell["curve"]]
        cells.append({**cell, "curve": curve, "device": raw["device"]})
    if log.is_file():
        steps = re.findall(r"^whole text: (\d+): \[(.*)\]$", log.read_text("utf-8"), re.MULTILINE)
        curve = [{"step": int(n), "full": [float(x) for x in row.split(", ")]} for n, row in steps]
        first = {**cells[0], "name": "one seed, longer", "seeds": cells[0]["seeds"][:1]}
        final = {"full": curve[-1]["full"]}
        said = "what a run that was cut off had printed: the first seed, full attention"
        cells.append(
            first | {"from": said, "curve": curve, "steps": curve[-1]["step"], "final": final}
        )
    return raw | {"cells": cells}


def store(folder: Path) -> None:
    """Results of runs, as far as they are there."""
    for name, path in FILES.items():
        made = folder / path.name
        if name in ("quality", "speed", "needle_short") or not made.is_file():
            continue
        raw = read(made)
        if name == "training":
            content = training_cells(raw, folder / "training.log")
        else:
            content = {"perplexity": perplexity, "needle": needle_rows}.get(name, dict)(raw)
        print(f"{path.name}: {write_results(path, content)} bytes")


# ------------------------------------------------------------------ tables


def error() -> dict[str, Any]:
    """Output error by place and design, at each number of kept blocks."""
    found = read(FILES["quality"])
    texts = {n: row["error"] for n, row in found["texts"].items()}
    scored = [t for n, t in texts.items() if n != CALIBRATION]
    names = list(found["designs"])
    return {
        "origin": "book/experiments/attention/store.py",
        "from": sha256(FILES["quality"]),
        "densities": found["densities"],
        "kept": found["kept"],
        "designs": {
            n: [d["family"], d["estimator"], d["plan cost"]] for n, d in found["designs"].items()
        },
        "mean": {
            n: [
                [rounded(f([t[n][i] for t in scored]), 4) for f in (statistics.fmean, min, max)]
                for i in range(len(KEPT))
            ]
            for n in names
        },
        "texts": {text: {n: values[n] for n in names} for text, values in texts.items()},
    }


def predictions() -> dict[str, Any]:
    """Rise of perplexity and divergence by place and design."""
    content = read(FILES["perplexity"])
    rows = [r for r in named(content) if r["design"] != "full"]
    three = content["texts"][:SCORED]
    places = {"mean of three": three, "mean of six": content["texts"]}
    places |= {text: [text] for text in content["texts"]}
    counts = sorted({r["kept"] for r in rows})
    table: dict[str, dict[str, list]] = {}
    for place, texts in places.items():
        here = table.setdefault(place, {})
        for design in content["designs"]:
            line = []
            for kept in counts:
                mine = [
                    r
                    for r in rows
                    if (r["kept"], r["design"]) == (kept, design) and r["text"] in texts
                ]
                if {r["text"] for r in mine} != set(texts):
                    line.append(None)
                    continue
                m = mean_of(mine)
                line.append(
                    [
                        m[f"{n}{half}{se}"]
                        for n in ("rise", "kl")
                        for half in ("", " half")
                        for se in ("", " se")
                    ]
                )
            if any(line):
                here[design] = line
    return {
        "origin": "book/experiments/attention/store.py",
        "from": sha256(FILES["perplexity"]),
        "counts": counts,
        "densities": [content["densities"][str(k)] for k in counts],
        "columns": [
            *("rise", "rise se", "rise half", "rise half se"),
            *("kl", "kl se", "kl half", "kl half se"),
        ],
        "families": {n: d["family"] for n, d in content["designs"].items()},
        "places": table,
    }


def needle() -> dict[str, Any]:
    """Mean log probability, and share of exact answers, by depth."""
    content = read(FILES["needle"])
    rows = []
    for values in content["rows"]:
        r = dict(zip(content["columns"], values, strict=True))
        log, exact = (
            [rounded(statistics.fmean(each), 4) for each in zip(*r[n], strict=True)]
            for n in ("log", "exact")
        )
        own = [r[n] for n in ("length", "kept", "design", "rounds", "density")]
        rows.append([*own, len(r["log"]), log, exact])
    return {
        "origin": "book/experiments/attention/store.py",
        "from": sha256(FILES["needle"]),
        "depths": content["depths"],
        "columns": ["length", "kept", "design", "rounds", "density", "trials", "log", "exact"],
        "rows": rows,
    }


def needles() -> dict[str, Any]:
    """How many numbers were told at each depth, of those that every selection was asked once.

    For each length and number of kept blocks the answers to the same numbers, full attention's
    among them.  Selections in rounds that have not been asked all of them are left out.
    """
    content = read(FILES["needles"])
    measured = [dict(zip(content["columns"], row, strict=True)) for row in content["rows"]]
    rows = []
    for length, kept in sorted({(r["length"], r["kept"]) for r in measured if r["kept"]}):
        found: dict[tuple[str, int], dict[int, Any]] = {}
        for r in measured:
            if r["length"] == length and r["kept"] in (0, kept):
                found.setdefault((r["design"], r["rounds"]), {})[r["trial"]] = r
        asked = set.intersection(*(set(of) for (_, rounds), of in found.items() if rounds == 1))
        for of in found.values():
            if not asked or not asked <= set(of):
                continue
            mine = [of[trial] for trial in sorted(asked)]
            told = [sum(each) for each in zip(*(r["exact"] for r in mine), strict=True)]
            log = [
                rounded(statistics.fmean(each), 4)
                for each in zip(*(r["log"] for r in mine), strict=True)
            ]
            own = [mine[0][n] for n in ("design", "rounds", "density")]
            rows.append([length, kept, *own, len(mine), told, log])
    return {
        "origin": "book/experiments/attention/store.py",
        "from": sha256(FILES["needles"]),
        "depths": content["depths"],
        "columns": ["length", "kept", "design", "rounds", "density", "trials", "told", "log"],
        "rows": rows,
    }


def training() -> dict[str, Any]:
    """Held-out losses, arms x seeds, along the way and by way of evaluation."""
    content = read(FILES["training"])
    cells = {}
    for cell in content["cells"]:
        arms, seeds = len(cell["arms"]), len(cell["seeds"])

        def by_arm(values: list[float], n: int = seeds, a: int = arms) -> list[list[float]]:
            return [values[i * n : (i + 1) * n] for i in range(a)]

        steps = cell["curve"]
        cells[cell["name"]] = {
            "arms": [a["label"] for a in cell["arms"]],
            "computed": cell["computed"],
            "steps": [c["step"] for c in steps],
            "full": [by_arm(c["full"]) for c in steps],
            "final": {n: by_arm(values) for n, values in cell["final"].items()},
            "layers": cell["shape"]["layers"],
            "width": cell["shape"]["width"],
            "length": cell["length"],
            "block": cell["block"],
            "device": cell["device"],
            "training tokens": cell["training tokens"],
            "tokens a step": cell["tokens a step"],
        }
    return {
        "origin": "book/experiments/attention/store.py",
        "from": sha256(FILES["training"]),
        "cells": cells,
    }


def speed() -> dict[str, Any]:
    """Times on a CPU and on a GPU."""
    cpu, gpu, newer = (read(FILES[name]) for name in ("speed", "gpu_speed", "gpu_options"))
    ways = ("forward", "both")
    one = [
        [r["tokens"], r["block"], r["density"], int("1 sink" in r["plan"])]
        + [r[f"{w} x"] for w in ways]
        + [r[f"{w} ms"] for w in ways]
        + [r[f"dense {w} ms"] for w in ways]
        for r in cpu["one thread"]
    ]
    rows = [
        [r["tokens"], r["block"], r["density"], r["plan ms"], r["dense forward ms"]]
        + [r[f"{kind} {w} x"] for kind in ("kept", "difference") for w in ways]
        for r in cpu["rows"]
    ]
    on_gpu = [
        [r["call"], r["tokens"], r["heads"], r["dim"], r["density"], r["host waits"] == "no"]
        + [r.get(f"{w} ms") for w in ways]
        + [r.get(f"dense {w} ms") for w in ways]
        + [run["device"].split()[1]]
        for run in (newer, gpu)
        for r in run["rows"]
        if "failed" not in r
    ]
    return {
        "origin": "book/experiments/attention/store.py",
        "from": [sha256(FILES[name]) for name in ("speed", "gpu_speed", "gpu_options")],
        "cpu columns": CPU,
        "cpu": one,
        "rows columns": BY_ROW,
        "rows": rows,
        "gpu columns": GPU,
        "gpu": on_gpu,
    }


MADE = {
    "error": (error, ("quality",)),
    "predictions": (predictions, ("perplexity",)),
    "needle": (needle, ("needle",)),
    "needles": (needles, ("needles",)),
    "training": (training, ("training",)),
    "speed": (speed, ("speed", "gpu_speed", "gpu_options")),
}


def main() -> None:
    arguments = parser(__doc__, "check")
    arguments.add_argument("folder", type=Path, nargs="?", help="where the run left its files")
    options = arguments.parse_args()
    if options.folder is not None:
        store(options.folder)
    same = True
    for name, (make, sources) in MADE.items():
        if all(FILES[source].is_file() for source in sources):
            same &= write_or_check(TABLES / f"attention_{name}.json", make(), options.check)
        else:
            print(f"attention_{name}: nothing measured yet")
    raise SystemExit(0 if same or not options.check else 1)


if __name__ == "__main__":
    main()
