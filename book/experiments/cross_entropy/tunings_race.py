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
Everything below ``rows`` in the result is computed from them by `tunings_compared`.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # a second thread that waits costs as one that works

import numpy as np

from book.experiments.common.main import parser, selected
from book.experiments.common.places import RESULTS, ROOT, SCRATCH
from book.experiments.common.store import (
    code_sha256,
    provenance,
    read,
    sha256,
    whole_lines,
    write_json,
    write_results,
)
from book.experiments.cross_entropy import methods, problems, tunings
from book.experiments.cross_entropy.tunings_compared import (
    BUDGETS,
    COLUMNS,
    TIE,
    UNIT,
    Row,
    derive,
    rows_of,
)
from genopt_core.cross_entropy import CrossEntropy, Float, SearchSpace, Trial

PATH = RESULTS / "cross_entropy_tunings.json"
RUNS = SCRATCH / "tunings_race"
SEEDS = {"development": tunings.DEVELOPMENT_SEEDS, "untouched": tunings.FINAL_SEEDS}
ADDED = ("random", "plus", "tpe", "posterior")
ADDED_GP = 16
"""Added seeds to which the Gaussian process runs too; it costs as much as all the others."""
CASE_COLUMNS = ("method", "seed", "best30", "best60")
SAME_PROPOSALS = "91329572f525", "4e126734a1e5"
"""States of our sources, as Python 3.11 and 3.12 read them, that propose what the present ones do:
before faster kernels, and before a setting that was tried again ceased to be a tie."""
CASE = "case"
CASE_SEEDS = tuple(range(100, 108))
COSTED = ("plus", "tpe", "posterior", "gp")
ALSO_COSTED = ("categories", "network", "nk", "rosenbrock", "word2vec")
"""The other problems of the frozen suite on which a proposal is timed, one instance of each."""
LONG = (100, 120), (300, 320), (600, 620)  # trials between which a proposal is timed


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
    return [entry for path in files for entry in whole_lines(path, mend=False)]


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
    for method in names:
        whole_lines(RUNS / f"{method}.jsonl")
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
    entries = whole_lines(path)
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
    """Milliseconds of one thread a suggestion, one method after the other on a problem and seed.

    The conditional space of the frozen suite, where the Gaussian process of Optuna models only what
    all trials share, more of its problems, and by how much a long search of ours slows down.
    """
    kept = RUNS / "costs.json"
    done = {(*r[:4], r[5]): r for r in (read(kept) if kept.is_file() else []) if len(r) == 6}
    wanted: list[Row] = [[m, "conditional", seed, 120] for seed in range(3) for m in COSTED]
    wanted += [[m, problem, 0, 120] for problem in ALSO_COSTED for m in COSTED]
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


def _by_present_sources(entries: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    present = {name: (source(name), *SAME_PROPOSALS) for name in methods.METHODS}
    return [e for e in entries if e["source"] in present[e["method"]] or e["source"] == "peer"]


def collect() -> None:
    """Write what was run, of our methods with their present sources or such as propose the same."""
    entries = _by_present_sources(stored())
    rows = rows_of([e for e in entries if e["problem"] != CASE])
    kept = RUNS / "case.json"
    told = [
        dict(zip(("method", "seed", "b30", "b60", "source"), r, strict=True)) for r in read(kept)
    ]
    case_rows = [[e["method"], e["seed"], e["b30"], e["b60"]] for e in _by_present_sources(told)]
    case_rows += [[e["method"], e["seed"], *e["best"]] for e in entries if e["problem"] == CASE]
    content = {
        "schema": "cross-entropy-tunings/1",
        "provenance": provenance(("genopt-core", "optuna", "numpy", "scipy", "scikit-learn")),
        "added on": elsewhere(entries),
        "unit": UNIT,
        "tie": TIE,
        "halves": tunings.HALVES,
        "added": tunings.ADDED_SEEDS,
        "methods": {m: methods.METHODS[m].label for m in methods.METHODS if m in present_in(rows)},
        "sizes": {n: len(list(tunings.settings(axes))) for n, axes in tunings.TUNINGS.items()},
        "columns": COLUMNS,
        "rows": rows,
        **derive(rows),
        "costs": costed(),
        "costs from": provenance(("genopt-core", "optuna", "numpy", "scipy")),
        "case columns": CASE_COLUMNS,
        "case": sorted(case_rows, key=lambda r: (list(methods.METHODS).index(r[0]), r[1])),
    }
    print(PATH.name, write_results(PATH, content), "bytes")
    for s in content["summary"]:
        print(s)


def elsewhere(entries: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Machines and versions of the runs that say where they were made."""
    found = {json.dumps([e["machine"], e["versions"]]) for e in entries if "machine" in e}
    pairs = [json.loads(each) for each in sorted(found)]
    return [{"machine": machine, "versions": versions} for machine, versions in pairs]


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
