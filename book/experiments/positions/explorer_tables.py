"""Tables that the figures of chapter 3 read: losses and recall of all methods, by their names.

python -m book.experiments.positions.explorer_tables            # from book/data/results
python -m book.experiments.positions.explorer_tables --check    # compare only
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from typing import Any

from book.experiments.common.main import parser
from book.experiments.common.places import RESULTS, TABLES
from book.experiments.common.store import read, write_or_check
from book.experiments.positions.models import CHANGES, METHODS
from genopt_core.tables import records

ORIGIN = "book/experiments/positions/explorer_tables.py"
HEADS = 8


def nested(rows: Iterable[Mapping[str, Any]], across: str, value: str) -> dict[str, Any]:
    """Values by method: a list a seed, in the order of ``across``."""
    found: dict[str, dict[int, dict[int, float]]] = {}
    for row in rows:
        seeds = found.setdefault(row["method"], {})
        seeds.setdefault(row["seed"], {})[row[across]] = row[value]
    return {
        method: [[values[at] for at in sorted(values)] for _, values in sorted(seeds.items())]
        for method, seeds in found.items()
    }


def losses() -> dict[str, Any]:
    """Nats a token against length: development, then each cell of the final seeds."""
    development = records(read(RESULTS / "positions_development.json"))
    cells = {"development": nested(development, "times", "nats")}
    for stage in ("large", "final"):
        path = RESULTS / f"positions_{stage}.json"
        rows = list(records(read(path))) if path.is_file() else []
        prefix = "large/" if stage == "large" else ""
        for place in dict.fromkeys(f"{row['text']}/{row['trained']}" for row in rows):
            here = (row for row in rows if f"{row['text']}/{row['trained']}" == place)
            cells[prefix + place] = nested(here, "times", "nats")
    return {
        "origin": ORIGIN,
        "times": sorted({row["times"] for row in development}),
        "cells": cells,
    }


def recall() -> dict[str, Any]:
    """Share of right answers against distance, task by task."""
    content = read(RESULTS / "positions_recall.json")
    tasks: dict[str, list[dict[str, Any]]] = {}
    for row in records(content):
        tasks.setdefault(row["task"], []).append(row)
    return {
        "origin": ORIGIN,
        "steps": content["steps"],
        "tasks": {
            task: {
                "distances": sorted({row["distance"] for row in rows}),
                "accuracy": nested(rows, "distance", "accuracy"),
            }
            for task, rows in tasks.items()
        },
    }


def untrained() -> dict[str, Any]:
    """What a bias does to SmolLM2 without training."""
    columns = ("method", "share", "nats")
    rows = read(RESULTS / "positions_untrained.json")["rows"]
    return {
        "origin": ORIGIN,
        "columns": columns,
        "rows": [[row[name] for name in columns] for row in rows],
    }


def methods() -> dict[str, Any]:
    """What each method is: its name in words, its strengths a head, what it learns."""
    described = {
        name: {
            "label": method.label,
            "rotated": method.rotated,
            "harmonic": method.slopes == "harmonic",
            "distance": method.distance,
            "strengths": [float(f"{m:.6g}") for m in method.strengths(HEADS)],
            "learned": method.learned,
            "ssmax": method.ssmax,
        }
        for name, method in METHODS.items()
    }
    for name, change in CHANGES.items():
        rotated = 0.0 if change.dropped else described[change.base]["rotated"]
        new = {"label": change.label, "rotated": rotated, "changes": change.base}
        described[name] = described[change.base] | new
    return {"origin": ORIGIN, "methods": described}


def made(check: bool = False) -> bool:
    """Write the tables, or compare them with what is stored; whether they were the same."""
    content = {
        "positions_methods": methods(),
        "positions_losses": losses(),
        "positions_recall": recall(),
        "positions_untrained": untrained(),
    }
    same = [
        write_or_check(TABLES / f"{name}.json", table, check, tolerance=1e-9)
        for name, table in content.items()
    ]
    return all(same)


def main() -> int:
    """Write the tables, or compare with what is stored."""
    options = parser(__doc__, "check").parse_args()
    same = made(options.check)
    return int(options.check and not same)


if __name__ == "__main__":
    sys.exit(main())
