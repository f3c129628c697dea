"""One of our methods run again after a change of it: its new runs in place of those stored.

    python -m book.experiments.cross_entropy.again posterior
    python -m book.experiments.cross_entropy.again posterior --race HASH --tunings HASH

The runs of the present sources, or of a state of them that proposes the same, are held against the
stored ones, problem by problem and seed by seed.  Where any came out otherwise, the row of that
problem is replaced, and all that is computed from rows is computed anew; where all are the same,
the stored row stays.  ``again`` in the results says what was replaced, from when and where.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from book.experiments.common.main import parser
from book.experiments.common.store import provenance, read, write_results
from book.experiments.cross_entropy import collect, methods, race, tunings_compared, tunings_race

Row = list[Any]


def replaced(
    before: Sequence[Row], found: Sequence[Row], regrets: slice
) -> tuple[list[Row], dict[str, int]]:
    """The rows with those of ``found`` that differ in ``regrets``; by problem how many runs do.

    A row is a method, a problem, its seeds, lists of as many regrets and the milliseconds of a
    proposal, which stay: they compare with those of others on the same machine only.  Of ``found``
    the seeds that are stored count, and all of these must be there.
    """
    new = {(row[0], row[1]): row for row in found}
    rows: list[Row] = []
    differ: dict[str, int] = {}
    for row in before:
        renewed = new.get((row[0], row[1]))
        if renewed is None:
            rows.append(row)
            continue
        renewed = of_seeds(renewed, row)
        pairs = list(zip(renewed[regrets], row[regrets], strict=True))
        differ[row[1]] = sum(any(a and a[i] != b[i] for a, b in pairs) for i in range(len(row[2])))
        rows.append(renewed if differ[row[1]] else row)
    return rows, differ


def of_seeds(row: Row, stored: Row) -> Row:
    """A row with the seeds and budgets of a stored one only, and its milliseconds."""
    seeds = stored[2]
    lacking = set(seeds) - set(row[2])
    if lacking:
        raise ValueError(f"{row[0]} on {row[1]} was not run with the seeds {sorted(lacking)}")
    at = [row[2].index(seed) for seed in seeds]
    if any(told and not each for each, told in zip(row[3:-1], stored[3:-1], strict=True)):
        raise ValueError(f"{row[0]} on {row[1]} was not run to all budgets that are stored")
    return [
        *row[:2],
        list(seeds),
        *(
            [each[i] for i in at] if told else []
            for each, told in zip(row[3:-1], stored[3:-1], strict=True)
        ),
        stored[-1],
    ]


def again(
    before: Mapping[str, Any], method: str, state: str, differ: Mapping[str, int]
) -> list[Any]:
    """The record of how many runs of each problem came out otherwise, after those before it."""
    made = {"method": method, "differ": differ, "source": state}
    return [*before.get("again", []), made | {"provenance": provenance(collect.PACKAGES)}]


def in_the_race(method: str, state: str) -> None:
    """Into the race of `collect`: rows, and the mean curve if every problem has been run."""
    before = read(collect.PATH)
    own = [e for e in race.stored() if e["source"] == state]
    seeds = {row[1]: row[2] for row in before["rows"] if row[0] == method}
    runs = {
        key: by_budget
        for key, by_budget in collect.newest(own).items()
        if key[0] == method and key[2] in seeds.get(key[1], ())
    }
    regrets = slice(3, len(collect.COLUMNS) - 1)
    rows, differ = replaced(before["rows"], collect.rows_of(runs), regrets)
    curves = {tuple(c[:2]): c for c in collect.mean_curves(runs)}
    unknown = seeds.keys() - differ.keys()
    if unknown:
        raise ValueError(f"the mean of all problems needs {method} on {', '.join(sorted(unknown))}")
    content = before | {
        "rows": rows,
        **collect.derive(rows),
        "mean_curves": [
            c if c[1] != method else of_length(curves[c[0], method], len(c[2]))
            for c in before["mean_curves"]
        ],
        "again": again(before, method, state, differ),
    }
    finish(collect.PATH, content, differ)


def of_length(curve: Row, length: int) -> Row:
    return [*curve[:2], curve[2][:length], curve[3][:length]]


def in_the_tunings(method: str, state: str, only: Sequence[str]) -> None:
    """Into the race on real tunings; of ``only`` these, of all if it is empty."""
    before = read(tunings_race.PATH)
    entries = [e for e in tunings_race.stored() if e["source"] == state and e["method"] == method]
    found = tunings_compared.rows_of([e for e in entries if e["problem"] != tunings_race.CASE])
    found = [row for row in found if not only or row[1] in only]
    rows, differ = replaced(before["rows"], found, slice(3, 6))
    if not differ or set(only) - differ.keys():
        lacking = ", ".join(sorted(set(only) - differ.keys())) or "the real tunings"
        raise ValueError(f"there are no runs of {method} in the state {state} on {lacking}")
    content = before | {
        "rows": rows,
        **tunings_compared.derive(rows),
        "again": again(before, method, state, differ),
    }
    finish(tunings_race.PATH, content, differ)


def finish(path: Path, content: Mapping[str, Any], differ: Mapping[str, int]) -> None:
    """Write it if anything came out otherwise."""
    if not any(differ.values()):
        print(f"{path.name}: every run came out as it is stored")
        return
    print(path.name, write_results(path, content), "bytes; runs that came out otherwise:", differ)


def main() -> None:
    arguments = parser(__doc__)
    ours = [name for name, method in methods.METHODS.items() if method.ours]
    arguments.add_argument("method", choices=ours)
    arguments.add_argument("--race", metavar="HASH", help="the state of the sources that raced")
    arguments.add_argument("--tunings", metavar="HASH", help="the same of the real tunings")
    arguments.add_argument("--problems", help="real tunings, separated by commas; by default all")
    args = arguments.parse_args()
    only = args.problems.split(",") if args.problems else []
    if args.race or not args.tunings:
        in_the_race(args.method, args.race or race.method_hash(args.method))
    if args.tunings or not args.race:
        in_the_tunings(args.method, args.tunings or tunings_race.source(args.method), only)


if __name__ == "__main__":
    main()
