"""The race of searches at equal budget: run, resume, and collect into the book.

    python -m book.experiments.cross_entropy.race run --half development --methods random,tpe,plus
    python -m book.experiments.cross_entropy.race run --half held-out --methods gp --budget 60 --seeds 10
    python -m book.experiments.cross_entropy.race collect      # writes book/data/results/cross_entropy.json

A finished run is one line below ``.cache/benchmarks/cross_entropy`` and is not done again.  A line
knows the state of the suite and, for our methods, of their sources, so that a run from before a
change is never mixed with one from after it.  The held-out half of our methods is to be run once,
after their last change; ``CE_CORE`` and ``CE_COMMIT`` name an export of that commit,
by git archive, while others go on working in the tree.  ``--timed`` runs again what is stored, one
method after the other on the same problem, for the cost of a suggestion in one and the same run.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).parent))

from book.experiments.cross_entropy import methods as ce_methods
from book.experiments.cross_entropy import problems as ce_problems

ROOT = Path(__file__).resolve().parents[3]
SCRATCH = ROOT / ".cache" / "benchmarks" / "cross_entropy"
BUDGETS = (5, 10, 15, 20, 25, 30, 40, 50, 60, 80, 100, 120, 160, 200, 240)
HALVES = {"development": ce_problems.DEVELOPMENT, "held-out": ce_problems.HELD_OUT}
SOURCES = "genopt_core/cross_entropy"  # the adapter for Optuna is not raced


def problem_hash(name: str) -> str:
    """State of the frozen problems, and of the table where the problem is one."""
    digest = hashlib.sha256((Path(ce_problems.__file__)).read_bytes())
    table = ce_problems.TABLES.get(name.replace("-dev", "_development"))
    if table is not None:
        digest.update(table.read_bytes())
    return digest.hexdigest()[:12]


def method_hash(name: str) -> str:
    """State of our sources for our methods; the packages are pinned for the others."""
    if not ce_methods.METHODS[name].ours:
        return ce_methods.METHODS[name].state
    digest = hashlib.sha256()
    for file in sorted((ce_methods.CORE / SOURCES).rglob("*.py")):
        digest.update(file.read_bytes())
    return digest.hexdigest()[:12]


def commit() -> str:
    """The commit our searches are of: CE_COMMIT beside CE_CORE, else the newest on them."""
    if "CE_COMMIT" in os.environ:
        return os.environ["CE_COMMIT"]
    command = ["git", "log", "-1", "--format=%h", "--", SOURCES]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True).stdout.strip()


def stored() -> Iterator[dict[str, Any]]:
    """Every finished run, of any state of the sources."""
    for path in sorted(SCRATCH.glob("*.jsonl")):
        for line in path.read_text(encoding="utf-8").splitlines():
            try:
                yield json.loads(line)
            except json.JSONDecodeError:
                print(f"{path.name}: an unfinished line is passed over")


def one(method: str, problem: str, seed: int, budget: int) -> dict[str, Any]:
    """One run as it is stored."""
    trace, seconds = ce_methods.execute(method, ce_problems.problem(problem, seed), budget, seed)
    entry = {
        "method": method,
        "problem": problem,
        "seed": seed,
        "budget": budget,
        "regret": [round(r, 5) for r in trace.regrets(BUDGETS)],
        "recommended": {str(k): round(v, 5) for k, v in trace.recommended.items()},
        "cpu": round(seconds, 3),
    }
    if len(trace.observed) < budget:  # a library may stop before
        entry["evaluations"] = len(trace.observed)
    return entry


def is_done(method: str, problem: str, seed: int, budget: int, state: tuple[str, str]) -> bool:
    """Whether such a run is stored; a longer one does unless its course depends on the budget."""
    wanted = method, problem, seed, *state
    key = ("method", "problem", "seed", "suite", "source")
    budgets = [
        e["budget"]
        for e in stored()
        if tuple(e[k] for k in key) == wanted and not e.get("timed")  # those count for costs only
    ]
    return (
        budget in budgets if ce_methods.METHODS[method].plans else max(budgets, default=0) >= budget
    )


def run(args: argparse.Namespace) -> None:
    """Every run that was asked for and is not there yet; all problems of a seed, then the next."""
    problems = args.problems.split(",") if args.problems else list(HALVES[args.half])
    SCRATCH.mkdir(parents=True, exist_ok=True)
    for method in args.methods.split(",") if args.timed else ():
        one(method, "nk-dev", 0, 15)  # imports and compilation are not a cost of suggestions
    for seed in range(args.first, args.first + args.seeds):
        for problem in problems:
            table = ce_problems.TABLES.get(problem.replace("-dev", "_development"))
            if table is not None and not table.is_file():
                continue
            for method in args.methods.split(","):
                state = problem_hash(problem), method_hash(method)
                if not args.timed and is_done(method, problem, seed, args.budget, state):
                    continue  # by this process, earlier, or by another one
                try:
                    entry = one(method, problem, seed, args.budget)
                except ImportError as error:
                    print(f"{method}: passed over, {error}", flush=True)
                    continue
                entry |= {"suite": state[0], "source": state[1]}
                if args.timed:
                    entry["timed"] = True
                if ce_methods.METHODS[method].ours:
                    entry["commit"] = commit()
                with (SCRATCH / f"{method}.jsonl").open("a", encoding="utf-8") as file:
                    file.write(json.dumps(entry) + "\n")
                shown = entry["regret"][-1]
                print(f"{problem:16} {method:10} {seed:3} {shown:.4f} {entry['cpu']}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("what", choices=("run", "collect"))
    parser.add_argument("--half", choices=tuple(HALVES), default="development")
    parser.add_argument("--methods", default="random")
    parser.add_argument("--problems", default="", help="some of the half, comma between")
    parser.add_argument("--budget", type=int, default=120)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--timed", action="store_true", help="for the costs: run all of it again")
    args = parser.parse_args()
    if args.what == "run":
        run(args)
    else:
        from book.experiments.cross_entropy import collect as ce_collect

        ce_collect.main()


if __name__ == "__main__":
    main()
