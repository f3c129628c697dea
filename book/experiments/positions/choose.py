"""Choose our reading on the development seeds, by a rule that was fixed before: lowest mean loss.

    python -m book.experiments.positions.choose --out .cache/positions

The rule: among the methods whose bias is harmonic in slopes or in distance (learned ones included),
the lowest mean nats at 4, 8 and 16 times the trained length over the development seeds.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from pathlib import Path

from book.experiments.positions.models import METHODS


def candidates() -> list[str]:
    """Methods that are a reading of "RoPE and ALiBi with a harmonic series"."""
    return [n for n, m in METHODS.items() if m.slopes == "harmonic" and not m.ssmax]


def choose(folder: Path) -> str:
    found = defaultdict(list)
    for path in sorted(folder.glob("language-development-*.json")):
        for row in json.loads(path.read_text(encoding="utf-8")):
            if row["times"] >= 4 and row["method"] in candidates():
                found[row["method"]].append(row["nats"])
    means = {name: sum(v) / len(v) for name, v in found.items()}
    for name in sorted(means, key=means.__getitem__):
        print(f"{means[name]:.4f}  {name}")
    return min(means, key=means.__getitem__)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, default=Path(".cache/positions"))
    folder = parser.parse_args().out
    chosen = choose(folder)
    (folder / "chosen.txt").write_text(chosen + "\n", encoding="utf-8")
    print("chosen:", chosen)


if __name__ == "__main__":
    main()
