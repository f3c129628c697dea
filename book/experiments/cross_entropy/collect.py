"""From the runs of the search race to the small file of the book, and the statistics of it.

Everything below ``rows`` in the result is computed from ``rows`` by ``derive``, which the test
calls again.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from book.experiments.common.pairing import holm, paired, sign_test
from book.experiments.common.places import RESULTS
from book.experiments.common.store import provenance, write_results
from book.experiments.cross_entropy import problems
from book.experiments.cross_entropy.methods import METHODS
from book.experiments.cross_entropy.race import (
    BUDGETS,
    HALVES,
    is_there,
    method_hash,
    problem_hash,
    stored,
    suite_hash,
)

PATH = RESULTS / "cross_entropy.json"
SHOWN = (30, 60, 120, 240)
TOLD = (30, 60, 120)  # budgets of the recommendation
COLUMNS = ("method", "problem", "seeds", *(f"r{b}" for b in SHOWN), *(f"rec{b}" for b in TOLD))
COLUMNS += ("cpu",)
UNIT = 1e-4  # regrets are stored as whole numbers of this
TIE = 0.001  # regrets closer than this are a tie
CURVES = ("network", "word2vec")
PACKAGES = ("numpy", "scipy", "optuna", "cmaes", "nevergrad", "smac", "scikit-learn", "torch")
Row = dict[str, Any]
Key = tuple[str, str, int]


def newest(entries: Iterable[Row]) -> dict[Key, dict[int, Row]]:
    """The runs of each (method, problem, seed) by budget: suite as it is, methods as last run.

    Not the timed ones, which are there for few seeds of few problems.
    """
    known = {
        name: problem_hash(name) for half in HALVES.values() for name in half if is_there(name)
    }
    found: dict[Key, dict[int, Row]] = {}
    for e in entries:
        if known.get(e["problem"]) != e["suite"] or e.get("timed"):
            continue
        runs = found.setdefault((e["method"], e["problem"], e["seed"]), {})
        if any(e["source"] != old["source"] for old in runs.values()):
            runs.clear()
        runs[e["budget"]] = e
    return found


def curve(method: str, runs: Mapping[int, Row]) -> list[float]:
    """Regret at each of ``BUDGETS``, as far as it was run.

    Where the course depends on the budget, that of the run which was given just so much, or the
    next larger one; else that of the longest run.
    """
    out = []
    for at, b in enumerate(BUDGETS):
        enough = [budget for budget in runs if budget >= b]
        if enough:
            plans = METHODS[method].plans
            out.append(runs[min(enough) if plans else max(enough)]["regret"][at])
    return out


def whole(regret: float) -> int:
    return round(regret / UNIT)


def rows_of(found: Mapping[Key, Mapping[int, Row]]) -> list[list[Any]]:
    """One row a (method, problem): regrets of all seeds at each budget, CPU of a suggestion."""
    grouped: dict[tuple[str, str], list[tuple[list[float], Row]]] = defaultdict(list)
    for (method, problem, _), runs in sorted(found.items()):
        grouped[method, problem].append((curve(method, runs), runs[max(runs)]))
    rows = []
    for (method, problem), each in grouped.items():
        row: list[Any] = [method, problem, [e["seed"] for _, e in each]]
        for b in SHOWN:
            at = BUDGETS.index(b)
            values = [whole(c[at]) if at < len(c) else None for c, _ in each]
            row.append([] if all(v is None for v in values) else values)
        for b in TOLD:
            told = [e["recommended"].get(str(b)) for _, e in each]
            row.append([None if v is None else whole(v) for v in told] if any(told) else [])
        row.append(round(float(np.median([1000 * e["cpu"] / e["budget"] for _, e in each])), 2))
        rows.append(row)
    return rows


def costs_of(entries: Iterable[Row]) -> list[list[Any]]:
    """[method, problem, seed, budget, ms a suggestion] of the timed runs, methods side by side."""
    timed = {
        (e["problem"], e["seed"], e["budget"], e["method"]): e for e in entries if e.get("timed")
    }
    return [
        [m, p, s, b, round(1000 * e["cpu"] / b, 2)] for (p, s, b, m), e in sorted(timed.items())
    ]


# ------------------------------------------------------------------ what follows from the rows


def regrets(rows: Sequence[Sequence[Any]], budget: int, recommended: bool = False) -> dict:
    """(method, problem) → {seed: regret}."""
    at = COLUMNS.index(f"{'rec' if recommended else 'r'}{budget}")
    return {
        (r[0], r[1]): {s: v * UNIT for s, v in zip(r[2], r[at], strict=False) if v is not None}
        for r in rows
    }


def half_of(problem: str) -> str:
    return next(name for name, half in HALVES.items() if problem in half)


def compare(rows: Sequence[Sequence[Any]], ours: str, peer: str, half: str, budget: int) -> Row:
    """Paired by problem and seed: wins, ties, losses, problems ahead, mean difference."""
    table = regrets(rows, budget)
    count = {"wins": 0, "ties": 0, "losses": 0}
    means, lost = [], []
    for problem in HALVES[half]:
        a, b = table.get((ours, problem), {}), table.get((peer, problem), {})
        d = np.array(paired(a, b))
        if not len(d):
            continue
        count["wins"] += int((d < -TIE).sum())
        count["losses"] += int((d > TIE).sum())
        count["ties"] += int((np.abs(d) <= TIE).sum())
        means.append(float(d.mean()))
        if d.mean() > 0:
            lost.append(problem)
    if not means:
        return {}
    # Spread between problems, not between runs: what another problem might have brought.
    error = float(np.std(means, ddof=1)) / math.sqrt(len(means)) if len(means) > 1 else None
    return {
        "half": half,
        "ours": ours,
        "peer": peer,
        "budget": budget,
        **count,
        "p": sign_test(count["wins"], count["losses"]),
        "problems": len(means),
        "worse_on": lost,
        "difference": round(float(np.mean(means)), 4),
        "error": error and round(error, 4),
    }


def derive(rows: Sequence[Sequence[Any]]) -> dict[str, list[Row]]:
    """Means a problem, means a half, and all comparisons with corrected probabilities."""
    methods = sorted({r[0] for r in rows}, key=list(METHODS).index)
    means, summary, comparisons = [], [], []
    for half, names in HALVES.items():
        for budget in SHOWN:
            table = regrets(rows, budget)
            for m in methods:
                run = [p for p in names if table.get((m, p))]
                each = [np.array(list(table[m, p].values())) for p in run]
                if not each:
                    continue
                for p, v in zip(run, each, strict=True):
                    error = float(v.std(ddof=1)) / math.sqrt(len(v)) if len(v) > 1 else None
                    means.append(
                        [m, p, budget, len(v), round(float(v.mean()), 4), error and round(error, 4)]
                    )
                error = None  # of the mean over these problems, from the runs within each
                if all(len(v) > 1 for v in each):
                    error = math.sqrt(sum(v.var(ddof=1) / len(v) for v in each)) / len(each)
                summary.append(
                    {
                        "half": half,
                        "method": m,
                        "budget": budget,
                        "problems": len(each),
                        "runs": sum(map(len, each)),
                        "mean": round(float(np.mean([v.mean() for v in each])), 4),
                        "error": error and round(error, 4),
                    }
                )
    for half in HALVES:
        family = []
        for ours in methods:
            if not METHODS[ours].ours:
                continue
            for peer in methods:
                if peer == ours:
                    continue
                if METHODS[peer].ours and methods.index(peer) > methods.index(ours):
                    continue
                family += [c for b in SHOWN if (c := compare(rows, ours, peer, half, b))]
        for c, p in zip(family, holm([c["p"] for c in family]), strict=True):
            c["p"], c["holm"] = float(f"{c['p']:.3g}"), float(f"{p:.3g}")
        comparisons += family
    return {"means": means, "summary": summary, "comparisons": comparisons}


def mean_curves(found: Mapping[Key, Mapping[int, Row]]) -> list[list[Any]]:
    """[half, method, budgets, mean over problems of the mean regret], where all have been run."""
    out = []
    for half, names in HALVES.items():
        for m in METHODS:
            each = [[curve(m, r) for k, r in found.items() if k[:2] == (m, p)] for p in names]
            each = [e for e in each if e]
            if each:
                length = min(len(r) for e in each for r in e)
                mean = np.mean([np.mean([r[:length] for r in e], axis=0) for e in each], axis=0)
                out.append([half, m, list(BUDGETS[:length]), np.round(mean, 4).tolist()])
    return out


def main() -> None:
    """Write what `race` has run; `race collect` calls it."""
    runs = newest(stored())
    if not runs:
        raise SystemExit("there are no runs of the present problems to collect")
    rows = rows_of(runs)
    entries: dict[str, list[Row]] = defaultdict(list)
    for (name, _, _), by_budget in runs.items():
        entries[name] += by_budget.values()
    methods = {
        name: {
            "label": m.label,
            "ours": m.ours,
            "commit": sorted({e.get("commit", "") for e in entries[name]}),
            "source": sorted({e["source"] for e in entries[name]}),
        }
        for name, m in METHODS.items()
        if name in entries
    }
    facts = {}
    for half, makers in HALVES.items():
        for name in makers:
            if is_there(name):
                p = problems.problem(name, 0)
                kinds = [q.kind for q in p.parameters]
                facts[name] = {
                    "half": half,
                    "family": p.family,
                    **{k: kinds.count(k) for k in ("categorical", "integer", "float")},
                    "state": problem_hash(name),
                }
    curves = [
        [m, p, s, [whole(r) for r in curve(m, by_budget)]]
        for (m, p, s), by_budget in sorted(runs.items())
        if p in CURVES
    ]
    content = {
        "schema": "cross-entropy-race/1",
        "provenance": provenance(PACKAGES),
        "suite": suite_hash(),
        "unit": UNIT,
        "tie": TIE,
        "budgets": BUDGETS,
        "methods": methods,
        "problems": facts,
        "columns": COLUMNS,
        "rows": rows,
        **derive(rows),
        "costs": costs_of(stored()),
        "mean_curves": mean_curves(runs),
        "curves": curves,
    }
    print(PATH.name, write_results(PATH, content), "bytes")
    stale = [m for m, e in methods.items() if e["ours"] and e["source"] != [method_hash(m)]]
    if stale:
        print("not of the present sources:", *stale)
