"""How much of a stepped objective `plus` should search: three other designs, and how one is chosen.

    python -m book.experiments.cross_entropy.tunings_arms --processes 6
    python -m book.experiments.cross_entropy.tunings_arms --collect     # into book/data/results

"posterior" takes a fixed quarter of its proposals from `plus` where a quarter of the values are
ties.  The tree of the first report said that this may be too few.  Each arm is another share:

- ``half``: one of two.
- ``early``: three of four at ten trials, falling to one of four at sixty.
- ``checked``: by how badly the process predicts each trial from the others (leave-one-out): one
  minus the correlation of what it predicts with what came, between a tenth and nine tenths.

They run on the development half and on the tree with whole ranges, seeds that nothing was developed
on, to 60 trials.  The rule, written down with the arms and before any of them ran: the one with the
least mean rank over all problems, seeds and both budgets, among the arms, the present design, TPE
and random search, is taken.  If that is not the present design, it runs to 120 trials on the
untouched half, with the added seeds of the race, and is reported whatever comes out.
"""

from __future__ import annotations

import json
import multiprocessing
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.linalg import solve_triangular
from scipy.stats import rankdata, wilcoxon

from book.experiments.common.main import parser
from book.experiments.common.places import RESULTS
from book.experiments.common.store import provenance, read, whole_lines, write_results
from book.experiments.cross_entropy import tunings, tunings_race
from genopt_core.cross_entropy import posterior
from genopt_core.cross_entropy.parameters import Array

PATH = RESULTS / "cross_entropy_arms.json"
COLUMNS = "method", "problem", "seeds", "r30", "r60", "r120"
ARM_SEEDS = tuple(range(8, 32))
BASE = "posterior"
PEERS = "tpe", "random"
ARMS = "half", "early", "checked"
Task = tuple[str, str, int, int]
Entry = dict[str, Any]


def share(arm: str, model: posterior.Posterior, rows: Array, scores: Array) -> float:
    """The share of proposals that `plus` makes on a stepped objective."""
    if arm == "half":
        return 0.5
    if arm == "early":
        return float(np.clip(0.75 - 0.5 * (len(scores) - 10) / 50, 0.25, 0.75))
    return float(np.clip(1 - agreement(model, rows, scores), 0.1, 0.9))


def agreement(model: posterior.Posterior, rows: Array, scores: Array) -> float:
    r"""The correlation of values with what the process predicts for each from all the others.

    The leave-one-out mean is :math:`y_i - (K^{-1} y)_i / (K^{-1})_{ii}`.
    """
    process, values = model._condition(rows, scores, posterior.window(scores))
    half = solve_triangular(process.lower, np.eye(len(values)), lower=True, check_finite=False)
    predicted = values - process.alpha / (half * half).sum(0)
    if min(values.std(), predicted.std()) < 1e-9:
        return 0.0
    return float(np.corrcoef(values, predicted)[0, 1])


def source(method: str) -> str:
    """State of our sources' code for a method; an arm is the present design but for its share."""
    return tunings_race.source(BASE if method in ARMS else method)


def run(task: Task) -> Entry:
    """One run of an arm, the present design or a peer, as the race stores it."""
    method, name, seed, budget = task
    if method not in ARMS:
        return tunings_race.one_task(task)
    usual, usual_share = posterior.Posterior, posterior.SCREENED

    class Arm(usual):  # type: ignore[misc,valid-type]
        def propose(self, rows: Array, scores: Array, *rest: Any) -> Array:
            posterior.SCREENED = share(method, self, rows, scores)
            return super().propose(rows, scores, *rest)

    try:
        posterior.Posterior = Arm  # type: ignore[misc]
        return tunings_race.one_task((BASE, name, seed, budget)) | {"method": method}
    finally:
        posterior.Posterior, posterior.SCREENED = usual, usual_share  # type: ignore[misc]


def development() -> list[Task]:
    """All runs that the choice is made from, seed by seed."""
    names = *tunings.HALVES["development"], tunings_race.CASE
    return [(m, n, s, 60) for s in ARM_SEEDS for n in names for m in (BASE, *ARMS, *PEERS)]


def mean_ranks(entries: Iterable[Mapping[str, Any]]) -> dict[str, float]:
    """The mean rank over problems, seeds and the budgets 30 and 60, among all that have run."""
    compared = (BASE, *ARMS, *PEERS)
    found = {(e["method"], e["problem"], e["seed"]): e for e in entries}
    placed = []
    for name, seed in sorted({key[1:] for key in found}):
        runs = [found.get((m, name, seed)) for m in compared]
        if any(run is None for run in runs):
            continue
        for i in range(2):
            values = [_regret(run, i) for run in runs if run is not None]
            placed.append(rankdata(np.round(values, 9)))
    if not placed:
        raise ValueError(
            "entries must have a problem and seed that all of "
            f"{', '.join(compared)} have run, got {len(found)} runs and none such"
        )
    return dict(zip(compared, np.mean(placed, axis=0).round(4).tolist(), strict=True))


def _regret(entry: Mapping[str, Any], at: int) -> float:
    """In units of the race's ties; of the tree with whole ranges the error itself."""
    if entry["problem"] == tunings_race.CASE:
        return float(entry["best"][at])
    return float(np.round(entry["regret"][at] * tunings_race.UNIT / tunings_race.TIE))


def chosen(entries: Sequence[Mapping[str, Any]]) -> str:
    """The design of the least mean rank."""
    ranks = mean_ranks(entries)
    return min((BASE, *ARMS), key=lambda arm: ranks[arm])


def rows_of(entries: Iterable[Mapping[str, Any]]) -> list[list[Any]]:
    """One row a method and problem: seeds, and what each had at 30, 60 and perhaps 120."""
    runs: dict[tuple[str, str, int], dict[int, list[float]]] = {}
    for e in entries:
        reached = e["best"] if e["problem"] == tunings_race.CASE else e["regret"]
        runs.setdefault((e["method"], e["problem"], e["budget"]), {})[e["seed"]] = reached
    found = []
    for (method, problem, _), by_seed in sorted(runs.items()):
        seeds = sorted(by_seed)
        found.append(
            [method, problem, seeds, *map(list, zip(*(by_seed[s] for s in seeds), strict=True))]
        )
    return found


def entries_of(rows: Iterable[Sequence[Any]]) -> list[Entry]:
    """The runs to 60 trials that rows were made from, as far as the choice reads them."""
    return [
        {
            "method": method,
            "problem": problem,
            "seed": seed,
            "best" if problem == tunings_race.CASE else "regret": [reached[0][i], reached[1][i]],
        }
        for method, problem, seeds, *reached in rows
        if len(reached) == 2
        for i, seed in enumerate(seeds)
    ]


def against_base(rows: Iterable[Sequence[Any]], race: Iterable[Sequence[Any]]) -> list[list[Any]]:
    """Of the chosen arm and the present design on the untouched half, by budget.

    Budget; wins, ties and losses of the arm over tunings and added seeds; the mean difference; and
    the probability of Wilcoxon's signed-rank test, which nothing corrects: it is one comparison.
    """
    base = {row[1]: row for row in race if row[0] == BASE}
    found = []
    for i, budget in enumerate(tunings_race.BUDGETS):
        d = []
        for _, problem, seeds, *reached in rows:
            if len(reached) == 3:
                known = dict(zip(base[problem][2], base[problem][3 + i], strict=True))
                pairs = zip(reached[i], (known[s] for s in seeds), strict=True)
                d += [(arm - other) * tunings_race.UNIT for arm, other in pairs]
        if d:
            each = np.where(np.abs(d) <= tunings_race.TIE, 0.0, d)
            counts = [int(n) for n in ((each < 0).sum(), (each == 0).sum(), (each > 0).sum())]
            p = float(f"{wilcoxon(each).pvalue:.3g}") if each.any() else 1.0
            found.append([budget, *counts, round(float(each.mean()), 4), p])
    return found


def collect(entries: Sequence[Entry]) -> None:
    """Write what was run, the ranks and the choice that follows from them."""
    rows = rows_of(entries)
    first = [e for e in entries if e["budget"] == 60]
    content = {
        "schema": "cross-entropy-arms/1",
        "provenance": provenance(("genopt-core", "optuna", "numpy", "scipy", "scikit-learn")),
        "run on": tunings_race.elsewhere(entries),
        "unit": tunings_race.UNIT,
        "arms": ARMS,
        "columns": COLUMNS,
        "ranks": mean_ranks(first),
        "chosen": chosen(first),
        "against base": against_base(rows, read(tunings_race.PATH)["rows"]),
        "rows": rows,
    }
    print(PATH.name, write_results(PATH, content), "bytes", content["ranks"], content["chosen"])


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--collect", action="store_true", help="write what has run")
    arguments.add_argument("--processes", type=int, default=1)
    arguments.add_argument("--to", type=Path, default=tunings_race.RUNS / "arms" / "runs.json")
    arguments.add_argument("--most", type=int, help="the most runs of each of the two stages")
    args = arguments.parse_args()
    args.to.parent.mkdir(parents=True, exist_ok=True)
    entries = whole_lines(args.to, mend=not args.collect)
    if args.collect:
        collect(entries)
        return
    where = provenance(("genopt-core", "optuna", "numpy", "scipy", "scikit-learn"))

    def do(tasks: Sequence[Task]) -> None:
        key = ("method", "problem", "seed", "budget", "source")
        done = {tuple(e[k] for k in key) for e in entries}
        todo = [task for task in tasks if (*task, source(task[0])) not in done][: args.most]
        for entry in pool.imap_unordered(run, todo):
            entries.append(entry | {k: where[k] for k in ("machine", "versions")})
            file.write(json.dumps(entries[-1]) + "\n")
            file.flush()

    context = multiprocessing.get_context("spawn")
    with context.Pool(args.processes) as pool, args.to.open("a", encoding="utf-8") as file:
        do(development())
        first = [e for e in entries if e["budget"] == 60]
        print(mean_ranks(first), flush=True)
        arm = chosen(first)
        print("chosen:", arm, flush=True)
        if arm != BASE:
            names = tunings.HALVES["untouched"]
            do([(arm, n, s, 120) for s in tunings.ADDED_SEEDS for n in names])


if __name__ == "__main__":
    main()
