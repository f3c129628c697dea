"""The race on real tunings: searches at equal budget on the tables of `tunings`.

    python -m book.experiments.cross_entropy.tunings_race run --half development --methods tpe,plus
    python -m book.experiments.cross_entropy.tunings_race run --half untouched --methods gp
    python -m book.experiments.cross_entropy.tunings_race more --processes 6   # the added seeds
    python -m book.experiments.cross_entropy.tunings_race case        # the tree of the first report
    python -m book.experiments.cross_entropy.tunings_race costs       # time of a proposal
    python -m book.experiments.cross_entropy.tunings_race collect     # into book/data/results

A finished run is one line below ``.cache/benchmarks/tunings_race``; it knows the state of our
sources, so runs from before a change are never mixed with those from after it.  The untouched half
is run once, with seeds that no development used.  Its first eight seeds left the comparison with
TPE open, so ``more`` runs forty others: they alone are a test that no look at results came before.
Everything below ``rows`` in the result is computed from them by ``derive``, which the test calls
again.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from book.experiments.common.main import parser, selected
from book.experiments.common.pairing import holm
from book.experiments.common.places import RESULTS, ROOT, SCRATCH
from book.experiments.common.store import (
    code_sha256,
    provenance,
    read,
    sha256,
    write_json,
    write_results,
)
from book.experiments.cross_entropy import methods, problems, tunings
from genopt_core.cross_entropy import CrossEntropy, Float, SearchSpace, Trial

PATH = RESULTS / "cross_entropy_tunings.json"
RUNS = SCRATCH / "tunings_race"
BUDGETS = 30, 60, 120
SEEDS = {"development": tunings.DEVELOPMENT_SEEDS, "untouched": tunings.FINAL_SEEDS}
UNIT = 1e-4
TIE = 0.001
ADDED = ("random", "plus", "tpe", "posterior")
ADDED_GP = 16
"""Added seeds to which the Gaussian process runs too; it costs as much as all the others."""
COLUMNS = ("method", "problem", "seeds", *(f"r{b}" for b in BUDGETS), "ms")
CASE_COLUMNS = ("method", "seed", "best30", "best60")
CASE = "case"
CASE_SEEDS = tuple(range(100, 108))
COSTED = ("plus", "tpe", "posterior", "gp")
LONG = (100, 120), (300, 320), (600, 620)  # trials between which a proposal is timed
Row = list[Any]
Regrets = dict[tuple[str, str], dict[int, float]]


@cache
def source(name: str) -> str:
    """State of our sources' code for our methods; the packages are pinned for the others."""
    if not methods.METHODS[name].ours:
        return "peer"
    files = sorted((ROOT / "genopt_core" / "cross_entropy").rglob("*.py"))
    return sha256("".join(code_sha256(path, ("__all__",)) for path in files))[:12]


def stored() -> list[dict[str, Any]]:
    """Every finished run."""
    files = sorted(RUNS.glob("*.jsonl"))
    lines = [line for p in files for line in p.read_text(encoding="utf-8").splitlines()]
    return [json.loads(line) for line in lines if line.endswith("}")]  # not one that was cut off


def one(method: str, name: str, seed: int, budget: int) -> dict[str, Any]:
    """One run as it is stored: regrets in units at each budget it reached."""
    trace, seconds = methods.execute(method, tunings.problem(name, seed), budget, seed)
    return {
        "method": method,
        "problem": name,
        "seed": seed,
        "budget": budget,
        "regret": [round(r / UNIT) for r in trace.regrets(BUDGETS)],
        "cpu": round(seconds, 3),
        "source": source(method),
    }


def run(args: argparse.Namespace) -> None:
    """What was asked for and is not there yet; all problems of a seed, then the next."""
    names = selected(args.methods, methods.METHODS, "--methods")
    RUNS.mkdir(parents=True, exist_ok=True)
    key = ("method", "problem", "seed", "source")
    done = {tuple(e[k] for k in key) for e in stored() if e["budget"] >= args.budget}
    for seed in SEEDS[args.half][: args.seeds]:
        for name in tunings.HALVES[args.half]:
            for method in names:
                if (method, name, seed, source(method)) in done:
                    continue
                entry = one(method, name, seed, args.budget)
                with (RUNS / f"{method}.jsonl").open("a", encoding="utf-8") as file:
                    file.write(json.dumps(entry) + "\n")
                print(name, method, seed, entry["regret"], entry["cpu"], flush=True)


# ------------------------------------------------------------------ the added seeds


def added(only: Sequence[str]) -> Iterator[tuple[str, str, int, int]]:
    """Method, tuning, seed and budget of the added runs, seed by seed, the dear ones last."""
    cheap = [(seed, m) for seed in tunings.ADDED_SEEDS for m in ADDED if m in only]
    dear = tunings.FINAL_SEEDS + tunings.ADDED_SEEDS[:ADDED_GP]
    for name in tunings.HALVES["untouched"], (CASE,):
        yield from ((m, n, seed, 60 if n == CASE else 120) for seed, m in cheap for n in name)
    if "gp" in only:
        yield from (("gp", n, seed, 120) for seed in dear for n in tunings.HALVES["untouched"])


def one_task(task: tuple[str, str, int, int]) -> dict[str, Any]:
    """A run of the race, or of the tree with whole ranges, which has `best` and no regrets."""
    method, name, seed, budget = task
    if name != CASE:
        return one(method, name, seed, budget)
    *_, best30, best60 = case(method, seed)
    known = {"method": method, "problem": CASE, "seed": seed, "budget": budget}
    return {**known, "best": [best30, best60], "source": source(method)}


def more(args: argparse.Namespace) -> None:
    """The added runs that are not in the file yet, each appended when it is done."""
    path = args.to or RUNS / "added.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    entries = [json.loads(line) for line in lines if line.endswith("}")]
    done = {(e["method"], e["problem"], e["seed"], e["source"]) for e in entries}
    only = selected(args.methods, methods.METHODS, "--methods")
    todo = [t for t in added(only) if (*t[:3], source(t[0])) not in done][: args.most]
    where = provenance(("genopt-core", "optuna", "numpy", "scipy", "torch"))
    start = time.monotonic()
    with (
        multiprocessing.get_context("spawn").Pool(args.processes) as pool,
        path.open("a", encoding="utf-8") as file,
    ):
        for i, entry in enumerate(pool.imap_unordered(one_task, todo), 1):
            entry["machine"], entry["versions"] = where["machine"], where["versions"]
            file.write(json.dumps(entry) + "\n")
            file.flush()
            if i % 50 == 0 or i == len(todo):
                print(i, "of", len(todo), round(time.monotonic() - start), "s", flush=True)


# ------------------------------------------------------------------ what follows from the rows


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


def regrets(rows: Sequence[Row], budget: int) -> Regrets:
    """(method, problem) to the regret of each seed."""
    at = COLUMNS.index(f"r{budget}")
    return {
        (r[0], r[1]): {s: v * UNIT for s, v in zip(r[2], r[at], strict=False) if v is not None}
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
    """Mean regrets and ranks of each half and budget, Friedman's test, and all comparisons."""
    from scipy.stats import friedmanchisquare, wilcoxon

    summary, comparisons = [], []
    for half, names in tunings.HALVES.items():
        family = []
        for budget in BUDGETS:
            found = regrets(rows, budget)
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


# ------------------------------------------------------------------ the case, as it was reported


def case(method: str, seed: int) -> Row:
    """Best errors after 30 and 60 evaluations of a tree on breast cancer, ranges not cut."""
    import optuna

    from genopt_core.integrations.optuna import CrossEntropySampler

    samplers: dict[str, Any] = {
        "random": optuna.samplers.RandomSampler,
        "tpe": lambda seed: optuna.samplers.TPESampler(seed=seed, multivariate=True, group=True),
        "gp": optuna.samplers.GPSampler,
        "plus": lambda seed: CrossEntropySampler(method="plus", seed=seed),
        "posterior": lambda seed: CrossEntropySampler(method="posterior", seed=seed),
    }
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(sampler=samplers[method](seed=seed))
    study.optimize(_tree, n_trials=60)
    values = [trial.value for trial in study.trials]
    return [method, seed, round(min(values[:30]), 5), round(min(values), 5)]


def _tree(trial: Any) -> float:
    from book.experiments.cross_entropy.tuning_models import errors

    settings = {
        "criterion": trial.suggest_categorical("criterion", ["gini", "entropy", "log_loss"]),
        "max_depth": trial.suggest_int("max_depth", 1, 20),
        "min_samples_split": trial.suggest_float("min_samples_split", 1e-3, 0.5, log=True),
        "min_samples_leaf": trial.suggest_int("min_samples_leaf", 1, 40, log=True),
        "max_features": trial.suggest_float("max_features", 0.05, 1.0),
        "ccp_alpha": trial.suggest_float("ccp_alpha", 1e-5, 0.2, log=True),
    }
    return float(errors("tree-cancer", settings, None)[0])


def cases() -> None:
    """The case for all methods and seeds; 5 CPU minutes, most of them the Gaussian process's."""
    kept = RUNS / "case.json"
    kept.parent.mkdir(parents=True, exist_ok=True)
    done = {(r[0], r[1], r[4]): r for r in (read(kept) if kept.is_file() else [])}
    for seed in CASE_SEEDS:
        for method in ("random", "tpe", "plus", "posterior", "gp"):
            key = method, seed, source(method)
            if key not in done:
                start = time.process_time()
                done[key] = [*case(method, seed), key[2]]
                print(done[key], round(time.process_time() - start, 1), flush=True)
                write_json(kept, list(done.values()))


# ------------------------------------------------------------------ what a proposal costs


def costs() -> None:
    """Milliseconds of a suggestion, one method after the other on the same problem and seed.

    The conditional space of the frozen suite, where the Gaussian process of Optuna models only what
    all trials share, and by how much a long search of ours slows down.
    """
    kept = RUNS / "costs.json"
    done = {(*r[:4], r[5]): r for r in (read(kept) if kept.is_file() else []) if len(r) == 6}
    wanted: list[Row] = [[m, "conditional", seed, 120] for seed in range(3) for m in COSTED]
    wanted += [[m, "sphere", first, last] for m in ("plus", "posterior") for first, last in LONG]
    wanted = [[*row, source(row[0])] for row in wanted]
    for method in {row[0] for row in wanted if tuple(row) not in done}:
        methods.execute(method, problems.problem("nk-dev", 0), 15, 0)  # imports cost nothing
    for *row, state in wanted:
        if (*row, state) not in done:
            done[*row, state] = [*row, round(_cost(*row), 2), state]
            print(done[*row, state], flush=True)
            write_json(kept, list(done.values()))


def _cost(method: Any, what: str, first: int, last: int) -> float:
    """Milliseconds of a proposal; on the conditional space ``first`` is the seed."""
    if what == "sphere":
        return _long(method, first, last)
    _, seconds = methods.execute(method, problems.problem(what, first), last, first)
    return 1000 * seconds / last


def costed() -> list[Row]:
    """What `costs` measured, of our methods with their present sources."""
    kept = RUNS / "costs.json"
    rows = read(kept) if kept.is_file() else []
    return [r[:5] for r in rows if len(r) == 5 or r[5] == source(r[0])]


def _long(method: Any, first: int, last: int) -> float:
    """Milliseconds of a proposal between two numbers of trials, six real parameters."""
    space = SearchSpace({f"x{i}": Float(-1, 1) for i in range(6)})
    rng = np.random.default_rng(0)
    search = CrossEntropy(space, method, seed=0)
    for number in range(first):
        params = {
            name: float(v) for name, v in zip(space.names, rng.uniform(-1, 1, 6), strict=True)
        }
        search.tell(Trial(number, params), _sphere(params))
    search.ask()  # what is computed once for all these trials
    start = time.process_time()
    for _ in range(last - first):
        trial = search.ask()
        search.tell(trial, _sphere(trial.params))
    return 1000 * (time.process_time() - start) / (last - first)


def _sphere(params: Mapping[str, float]) -> float:
    return sum((v - 0.3) ** 2 for v in params.values())


def present_in(rows: Sequence[Row]) -> set[str]:
    return {row[0] for row in rows}


def collect() -> None:
    """Write what was run, of our methods with their present sources."""
    present = {name: source(name) for name in methods.METHODS}
    rows = rows_of([e for e in stored() if e["source"] == present[e["method"]]])
    kept = RUNS / "case.json"
    told = [r[:4] for r in (read(kept) if kept.is_file() else []) if r[4] == present[r[0]]]
    content = {
        "schema": "cross-entropy-tunings/1",
        "provenance": provenance(("genopt-core", "optuna", "numpy", "scipy", "scikit-learn")),
        "unit": UNIT,
        "tie": TIE,
        "halves": tunings.HALVES,
        "methods": {m: methods.METHODS[m].label for m in methods.METHODS if m in present_in(rows)},
        "sizes": {n: len(list(tunings.settings(axes))) for n, axes in tunings.TUNINGS.items()},
        "columns": COLUMNS,
        "rows": rows,
        **derive(rows),
        "costs": costed(),
        "case columns": CASE_COLUMNS,
        "case": sorted(told, key=lambda r: (list(methods.METHODS).index(r[0]), r[1])),
    }
    print(PATH.name, write_results(PATH, content), "bytes")
    for s in content["summary"]:
        print(s)


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("what", choices=("run", "more", "case", "costs", "collect"))
    arguments.add_argument("--half", choices=tuple(SEEDS), default="development")
    arguments.add_argument("--methods", default="random")
    arguments.add_argument("--budget", type=int, default=120)
    arguments.add_argument("--seeds", type=int, default=8)
    arguments.add_argument("--processes", type=int, default=1)
    arguments.add_argument("--to", type=Path, help="where `more` keeps its runs")
    arguments.add_argument("--most", type=int, help="the most runs that `more` adds")
    args = arguments.parse_args()
    does = {"run": lambda: run(args), "more": lambda: more(args)}
    (does | {"case": cases, "costs": costs, "collect": collect})[args.what]()


if __name__ == "__main__":
    main()
