"""The race of searches at equal budget: run, resume, and collect into the book.

    python -m book.experiments.cross_entropy.race run --methods random,tpe,plus
    python -m book.experiments.cross_entropy.race run --half held-out --methods gp --seeds 10
    python -m book.experiments.cross_entropy.race collect    # into book/data/results

A finished run is one line below ``.cache/benchmarks/cross_entropy`` and is not done again.  A line
knows the state of the suite and, for our methods, of their sources, so that a run from before a
change is never mixed with one from after it.  The held-out half of our methods is to be run once,
after their last change, from a worktree of that commit.  ``--timed`` runs again what is stored, one
method after the other on the same problem, for the cost of a suggestion in one and the same run.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

from book.experiments.common.main import parser, selected
from book.experiments.common.places import ROOT, SCRATCH
from book.experiments.common.store import code_sha256, compact, files_sha256, read, sha256
from book.experiments.cross_entropy import methods, problems

RUNS = SCRATCH / "cross_entropy"
BUDGETS = (5, 10, 15, 20, 25, 30, 40, 50, 60, 80, 100, 120, 160, 200, 240)
HALVES = {"development": problems.DEVELOPMENT, "held-out": problems.HELD_OUT}
SOURCES = "genopt_core/cross_entropy"  # the adapter for Optuna is not raced


def table_of(problem: str) -> Path | None:
    """The file of the table that a problem is made of."""
    return problems.TABLES.get(problem.replace("-dev", "_development"))


def is_there(problem: str) -> bool:
    """Whether a problem can be run: its table, if it needs one, is stored."""
    table = table_of(problem)
    return table is None or table.is_file()


@cache
def problem_hash(name: str) -> str:
    """State of the frozen problems' code, and of the table where the problem is one."""
    state = code_sha256(Path(problems.__file__), leave_out=("TABLES",))
    table = table_of(name)
    if table is not None:
        content = read(table)  # all of it but where it is from
        state += compact([content.get(key) for key in ("axes", "unit", "scores")])
    return sha256(state)[:12]


def suite_hash() -> str:
    """State of all problems together."""
    return sha256("".join(problem_hash(name) for half in HALVES.values() for name in half))[:16]


def method_hash(name: str) -> str:
    """State of our sources for our methods; the packages are pinned for the others."""
    if not methods.METHODS[name].ours:
        return methods.METHODS[name].state
    return files_sha256(sorted((ROOT / SOURCES).rglob("*.py")))


def commit() -> str:
    """The newest commit on our searches."""
    command = ["git", "log", "-1", "--format=%h", "--", SOURCES]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True).stdout.strip()


def stored() -> Iterator[dict[str, Any]]:
    """Every finished run, of any state of the sources."""
    for path in sorted(RUNS.glob("*.jsonl")):
        for line in path.read_text(encoding="utf-8").splitlines():
            try:
                yield json.loads(line)
            except json.JSONDecodeError:
                print(f"{path.name}: an unfinished line is passed over")


def one(method: str, problem: str, seed: int, budget: int) -> dict[str, Any]:
    """One run as it is stored."""
    trace, seconds = methods.execute(method, problems.problem(problem, seed), budget, seed)
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
    return budget in budgets if methods.METHODS[method].plans else max(budgets, default=0) >= budget


def run(args: argparse.Namespace) -> None:
    """Every run that was asked for and is not there yet; all problems of a seed, then the next."""
    names = selected(args.methods, methods.METHODS, "--methods")
    asked = selected(args.problems, HALVES[args.half], "--problems")
    RUNS.mkdir(parents=True, exist_ok=True)
    for method in names if args.timed else ():
        one(method, "nk-dev", 0, 15)  # imports and compilation are not a cost of suggestions
    for seed in range(args.first, args.first + args.seeds):
        for problem in filter(is_there, asked):
            for method in names:
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
                if methods.METHODS[method].ours:
                    entry["commit"] = commit()
                with (RUNS / f"{method}.jsonl").open("a", encoding="utf-8") as file:
                    file.write(json.dumps(entry) + "\n")
                shown = entry["regret"][-1]
                print(f"{problem:16} {method:10} {seed:3} {shown:.4f} {entry['cpu']}", flush=True)


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("what", choices=("run", "collect"))
    arguments.add_argument("--half", choices=tuple(HALVES), default="development")
    arguments.add_argument("--methods", default="random")
    arguments.add_argument("--problems", default="", help="some of the half, comma between")
    arguments.add_argument("--budget", type=int, default=120)
    arguments.add_argument("--seeds", type=int, default=20)
    arguments.add_argument("--first", type=int, default=0)
    arguments.add_argument("--timed", action="store_true", help="for the costs: run all again")
    args = arguments.parse_args()
    if args.what == "run":
        run(args)
    else:
        from book.experiments.cross_entropy import collect  # which reads what is run here

        collect.main()


if __name__ == "__main__":
    main()
