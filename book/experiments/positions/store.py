"""Gather the groups of runs that are there into the stored results, and remake their tables.

    python -m book.experiments.positions.store            # again whenever more runs are done
    python -m book.experiments.positions.store --check    # compare only

`language.py --stage final` and `--stage large` write a file a group of methods as it is done; what
is there is stored, and a method counts where all of its seeds and lengths do.  What was stored
before is kept, so that the runs go on from a fresh checkout, but a text and length never mixes
machines.  `recall.py --stage final` writes one file, which is stored whole.
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
from book.experiments.positions.models import CHANGES
from book.experiments.positions.recall import SHAPE, SHARES, TRAINED

SCRATCH = ROOT / ".cache" / "positions"
STORED = {stage: RESULTS / f"positions_{stage}.json" for stage in ("final", "large")}
WEIGHTS = RESULTS / "positions_weights.safetensors"
RECALL = RESULTS / "positions_recall.json"
COLUMNS = ["text", "trained", "method", "seed", "times", "nats"]
ASKED = ["task", "method", "seed", "distance", "accuracy"]
METHODS = [*FINAL, *CHANGES]


def gathered(stage: str, folder: Path) -> list[dict[str, Any]]:
    """The rows of complete methods, by cell, method, seed and length; each with its machine."""
    cells, seeds = STAGES[stage]["cells"], STAGES[stage]["seeds"]
    rows = [
        row
        for path in sorted(folder.glob(f"language-{stage}-*.json"))
        for row in read(path)
        if (row["text"], row["trained"]) in cells and row["method"] in METHODS
    ]
    new = {(row["text"], row["trained"], row["method"]) for row in rows}
    machines = {(row["text"], row["trained"]): row["device"] for row in rows}
    before = read(STORED[stage]) if STORED[stage].is_file() else {"rows": []}
    for values in before["rows"]:
        row = dict(zip(COLUMNS, values, strict=True))
        key = row["text"], row["trained"], row["method"]
        name = "/".join(map(str, key))
        row["device"] = before.get("machines", {}).get("/".join(map(str, key[:2])), "CPU")
        if key not in new and machines.get(key[:2], row["device"]) == row["device"]:
            learned = before["learned at the first seed"].get(name)
            rows.append(row | ({"learned": learned} if learned else {}))
    rows.sort(
        key=lambda row: (
            cells.index((row["text"], row["trained"])),
            METHODS.index(row["method"]),
            row["seed"],
            row["times"],
        )
    )
    counts: dict[tuple[Any, ...], int] = {}
    for row in rows:
        key = row["text"], row["trained"], row["method"]
        counts[key] = counts.get(key, 0) + 1
    whole = len(seeds) * len(TIMES)
    return [r for r in rows if counts[r["text"], r["trained"], r["method"]] == whole]


def result(stage: str, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The content of the stored file."""
    first, shape = STAGES[stage]["seeds"][0], STAGES[stage]["shape"]
    learned: dict[str, Any] = {}
    for row in rows:
        if "learned" in row and row["seed"] == first:
            learned[f"{row['text']}/{row['trained']}/{row['method']}"] = row["learned"]
    unit = "byte" if shape.vocab == 256 else "token"
    read_as = "bytes" if unit == "byte" else f"tokens of a byte-pair encoding of {shape.vocab}"
    return {
        "schema": "positions-final/2",
        "provenance": {
            **provenance(("numpy",)),
            "runs": f"python -m book.experiments.positions.language --stage {stage}",
            "decoder": (
                f"{read_as}, {shape.layers} layers of width {shape.width}, {shape.heads} heads"
            ),
            "training": (
                f"{STAGES[stage]['steps']} steps of 2048 {unit}s, the same order for all methods "
                "of a seed; DroPE a tenth of them more"
            ),
            "score": (
                f"nats a {unit} over the same last 32 {unit}s of 192 windows at every context "
                "length"
            ),
        },
        "machines": {f"{row['text']}/{row['trained']}": row["device"] for row in rows},
        "learned at the first seed": learned,
        "columns": COLUMNS,
        "rows": [[row[name] for name in COLUMNS] for row in rows],
    }


def recalled(folder: Path) -> dict[str, Any]:
    """The content of the stored recall, from the run that is there or as it was."""
    found = sorted(folder.glob("recall-final-*.json"))
    if not found:
        return read(RECALL)
    run = read(found[0])
    sequences = sum(SHARES.values())
    order = ("four-keys", "one-key", "copy")
    rows = sorted(run["rows"], key=lambda row: order.index(row["task"]))
    return {
        "provenance": {
            **provenance(("numpy",)),
            "runs": "python -m book.experiments.positions.recall --stage final",
            "machine": run["device"],
            "decoder": f"{SHAPE.layers} layers of width {SHAPE.width}, {SHAPE.heads} heads",
            "training": (
                f"{run['steps']} steps of {sequences} sequences of {TRAINED} tokens, "
                "all tasks at once"
            ),
        },
        "steps": run["steps"],
        "columns": ASKED,
        "rows": [[row[name] for name in ASKED] for row in rows],
    }


def main() -> int:
    """Store what is there, or compare with what is stored."""
    options = parser(__doc__, "check").parse_args()
    contents: dict[Path, dict[str, Any]] = {}
    for stage, path in STORED.items():
        rows = gathered(stage, SCRATCH)
        if rows:
            contents[path] = result(stage, rows)
        cells: dict[str, set[str]] = {}
        for row in rows:
            cells.setdefault(f"{row['text']}, {row['trained']}", set()).add(row["method"])
        for cell, methods in cells.items():
            print(f"{stage}, {cell}: {len(methods)} of {len(METHODS)} methods")
    contents[RECALL] = recalled(SCRATCH)
    if options.check:
        same = True
        for path, content in contents.items():
            as_stored = path.is_file() and alike(content["rows"], read(path)["rows"], 0.0)
            print(f"{path.name}: {'as stored' if as_stored else 'DIFFERS from what is stored'}")
            same &= as_stored
        return int(not (explorer_tables.made(check=True) and same))
    for path, content in contents.items():
        print(f"{path.name}: {write_results(path, content)} bytes written")
    kept = next(SCRATCH.glob("language-final-sotu-64-*.safetensors"), None)
    if kept is not None:  # some decoders of the first seed, so that a test can score them again
        WEIGHTS.write_bytes(kept.read_bytes())
        print(f"{WEIGHTS.name}: {WEIGHTS.stat().st_size} bytes written")
    explorer_tables.made()
    return 0


if __name__ == "__main__":
    sys.exit(main())
