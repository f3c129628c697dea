"""What follows from the runs of the race on real tunings: rows, ranks and comparisons.

``derive`` makes all of it from the rows, so that a test can make it again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from book.experiments.common.pairing import holm
from book.experiments.cross_entropy import methods, tunings

BUDGETS = 30, 60, 120
UNIT = 1e-4
TIE = 0.001
COLUMNS = ("method", "problem", "seeds", *(f"r{b}" for b in BUDGETS), "ms")
Row = list[Any]
Regrets = dict[tuple[str, str], dict[int, float]]


def parts() -> Iterator[tuple[str, Sequence[str], Sequence[int] | None]]:
    """What is compared for itself: label, tunings and seeds, None for all.

    "untouched" has all seeds; "first" are those from whose results it was decided to add more, and
    "added" those alone.
    """
    for half, names in tunings.HALVES.items():
        yield half, names, None
    yield "first", tunings.HALVES["untouched"], tunings.FINAL_SEEDS
    yield "added", tunings.HALVES["untouched"], tunings.ADDED_SEEDS


def rows_of(entries: Sequence[Mapping[str, Any]]) -> list[Row]:
    """One row a method and problem, the longest run of each seed."""
    longest: dict[tuple[str, str], dict[int, Mapping[str, Any]]] = {}
    for e in entries:
        runs = longest.setdefault((e["method"], e["problem"]), {})
        old = runs.get(e["seed"])
        if old is None or old["source"] != e["source"] or old["budget"] <= e["budget"]:
            runs[e["seed"]] = e
    order = list(methods.METHODS)
    rows = []
    for method, name in sorted(longest, key=lambda k: (order.index(k[0]), k[1])):
        runs = dict(sorted(longest[method, name].items()))
        row: Row = [method, name, list(runs)]
        for i in range(len(BUDGETS)):
            found = [e["regret"][i] if i < len(e["regret"]) else None for e in runs.values()]
            row.append([] if all(v is None for v in found) else found)
        each = [1000 * e["cpu"] / e["budget"] for e in runs.values()]
        rows.append([*row, round(float(np.median(each)), 2)])
    return rows


def regrets(rows: Sequence[Row], budget: int, seeds: Sequence[int] | None = None) -> Regrets:
    """(method, problem) to the regret of each seed, or of those of some."""
    at = COLUMNS.index(f"r{budget}")
    return {
        (r[0], r[1]): {
            s: v * UNIT
            for s, v in zip(r[2], r[at], strict=False)
            if v is not None and (seeds is None or s in seeds)
        }
        for r in rows
    }


def ranks(found: Regrets, names: Sequence[str], compared: Sequence[str]) -> np.ndarray:
    """Rank of each method within each problem and seed that all have; ties share one."""
    from scipy.stats import rankdata

    out = []
    for name in names:
        seeds = set.intersection(*(set(found.get((m, name), {})) for m in compared))
        for seed in sorted(seeds):
            values = np.array([found[m, name][seed] for m in compared])
            out.append(rankdata(np.round(values / TIE), method="average"))
    return np.array(out)


def derive(rows: Sequence[Row]) -> dict[str, list[dict[str, Any]]]:
    """Mean regrets and ranks of each part and budget, Friedman's test, and all comparisons."""
    from scipy.stats import friedmanchisquare, wilcoxon

    summary, comparisons = [], []
    for half, names, seeds in parts():
        family = []
        for budget in BUDGETS:
            found = regrets(rows, budget, seeds)
            compared = [m for m in methods.METHODS if all(found.get((m, p)) for p in names)]
            if len(compared) < 3:
                continue
            placed = ranks(found, names, compared)
            chance = friedmanchisquare(*placed.T).pvalue
            for i, m in enumerate(compared):
                means = [float(np.mean(list(found[m, p].values()))) for p in names]
                summary.append(
                    {
                        "half": half,
                        "method": m,
                        "budget": budget,
                        "runs": sum(len(found[m, p]) for p in names),
                        "mean": round(float(np.mean(means)), 4),
                        "rank": round(float(placed[:, i].mean()), 3),
                        "blocks": len(placed),
                        "friedman": float(f"{chance:.3g}"),
                    }
                )
            for ours in [m for m in compared if methods.METHODS[m].ours]:
                for peer in compared:
                    if peer == ours or (
                        methods.METHODS[peer].ours and compared.index(peer) > compared.index(ours)
                    ):
                        continue
                    d, behind = [], []
                    for p in names:
                        a, b = found[ours, p], found[peer, p]
                        each = [a[s] - b[s] for s in sorted(a.keys() & b.keys())]
                        if not each:
                            continue
                        d += [0.0 if abs(v) <= TIE else v for v in each]
                        if np.mean(each) > TIE:
                            behind.append(p)
                    signs = np.sign(d)
                    p_value = 1.0 if not signs.any() else float(wilcoxon(d).pvalue)
                    family.append(
                        {
                            "half": half,
                            "ours": ours,
                            "peer": peer,
                            "budget": budget,
                            "wins": int((signs < 0).sum()),
                            "ties": int((signs == 0).sum()),
                            "losses": int((signs > 0).sum()),
                            "difference": round(float(np.mean(d)), 4),
                            "behind": behind,
                            "p": p_value,
                        }
                    )
        for c, p in zip(family, holm([c["p"] for c in family]), strict=True):
            c["p"], c["holm"] = float(f"{c['p']:.3g}"), float(f"{p:.3g}")
        comparisons += family
    return {"summary": summary, "comparisons": comparisons}
