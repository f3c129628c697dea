"""Gather the groups of final runs that are there into the stored result, and remake its tables.

    python -m book.experiments.positions.store            # again whenever more runs are done
    python -m book.experiments.positions.store --check    # compare only

`language.py --stage final` writes a file a group of methods as it is done; what is there is stored,
and a method counts where all of its seeds and lengths do.  What was stored before is kept, so that
the runs go on from a fresh checkout.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from book.experiments.common.main import parser
from book.experiments.common.places import RESULTS, ROOT
from book.experiments.common.store import alike, provenance, read, write_results
from book.experiments.positions import explorer_tables
from book.experiments.positions.language import FINAL, STAGES, TIMES

SCRATCH = ROOT / ".cache" / "positions"
STORED = RESULTS / "positions_final.json"
COLUMNS = ["text", "trained", "method", "seed", "times", "nats"]
CELLS = STAGES["final"]["cells"]
SEEDS = STAGES["final"]["seeds"]


def gathered(folder: Path) -> list[dict[str, Any]]:
    """The rows of complete methods, by cell, method, seed and length."""
    rows = [
        row
        for path in sorted(folder.glob("language-final-*.json"))
        for row in read(path)
        if (row["text"], row["trained"]) in CELLS and row["method"] in FINAL
    ]
    new = {(row["text"], row["trained"], row["method"]) for row in rows}
    before = read(STORED)
    for values in before["rows"]:
        row = dict(zip(COLUMNS, values, strict=True))
        if (key := (row["text"], row["trained"], row["method"])) not in new:
            learned = before["learned at the first seed"].get("/".join(map(str, key)))
            rows.append(row | ({"learned": learned} if learned else {}))
    rows.sort(
        key=lambda row: (
            CELLS.index((row["text"], row["trained"])),
            FINAL.index(row["method"]),
            row["seed"],
            row["times"],
        )
    )
    counts: dict[tuple[Any, ...], int] = {}
    for row in rows:
        key = row["text"], row["trained"], row["method"]
        counts[key] = counts.get(key, 0) + 1
    whole = len(SEEDS) * len(TIMES)
    return [r for r in rows if counts[r["text"], r["trained"], r["method"]] == whole]


def result(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The content of the stored file."""
    learned: dict[str, Any] = {}
    for row in rows:
        if "learned" in row and row["seed"] == SEEDS[0]:
            learned[f"{row['text']}/{row['trained']}/{row['method']}"] = row["learned"]
    shape, steps = STAGES["final"]["shape"], STAGES["final"]["steps"]
    return {
        "schema": "positions-final/1",
        "provenance": {
            **provenance(("numpy", "torch")),
            "runs": "python -m book.experiments.positions.language --stage final",
            "decoder": f"bytes, {shape.layers} layers of width {shape.width}, {shape.heads} heads",
            "training": f"{steps} steps of 2048 bytes, the same order for all methods of a seed",
            "score": (
                "nats a byte over the same last 32 bytes of 192 windows at every context length"
            ),
        },
        "learned at the first seed": learned,
        "columns": COLUMNS,
        "rows": [[row[name] for name in COLUMNS] for row in rows],
    }


def main() -> int:
    """Store what is there, or compare with what is stored."""
    options = parser(__doc__, "check").parse_args()
    content = result(gathered(SCRATCH))
    cells: dict[str, set[str]] = {}
    for text, trained, method, *_ in content["rows"]:
        cells.setdefault(f"{text}, {trained}", set()).add(method)
    for cell, methods in cells.items():
        print(f"{cell}: {len(methods)} of {len(FINAL)} methods")
    if options.check:
        same = alike(content["rows"], read(STORED)["rows"], 0.0)
        print(f"{STORED.name}: {'as stored' if same else 'DIFFERS from what is stored'}")
        return int(not (same and explorer_tables.made(check=True)))
    print(f"{STORED.name}: {write_results(STORED, content)} bytes written")
    explorer_tables.made()
    return 0


if __name__ == "__main__":
    sys.exit(main())
