"""One small language model with all five methods: the factorial of chapter 6.

    python -m book.experiments.one_model run --cells all --seeds 5 --workers 2
    python -m book.experiments.one_model run --cells "swe.*,bpe.rope.dense.default" --dask HOST:PORT
    python -m book.experiments.one_model table
    python -m book.experiments.one_model store --folder FOLDER  # results and the table of figures
    python -m book.experiments.one_model store --check
    python -m book.experiments.one_model search --trials 24     # what "found" settings are

A cell is named by its levels, as in "swe.harmonic.blocks.default".  `run` goes on where it was cut
off, may be started on several machines at once, and leaves one file a training; `table` merges
folders and prints means and effects.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import AbstractContextManager
from multiprocessing import get_context
from pathlib import Path

from book.experiments.common.main import parser, selected
from book.experiments.common.pairing import interval
from book.experiments.common.places import ROOT
from book.experiments.common.store import write_results
from book.experiments.one_model.cells import BUDGETS, CACHES, FOUND, SCALES, cells, jobs
from book.experiments.one_model.runner import Ended, effects, merged, run, with_shared
from book.experiments.one_model.search import search
from book.experiments.one_model.store import LEVEL, p_value, store
from genopt_core.cross_entropy import Trial

SCRATCH = ROOT / ".cache" / "one_model"


def executor(workers: int, dask: str | None) -> AbstractContextManager[Executor]:
    """Processes of this machine, or the workers of a Dask cluster by its address."""
    if dask:
        from distributed import Client

        return Client(dask).get_executor()
    # threads of torch do not survive a fork
    return ProcessPoolExecutor(workers, mp_context=get_context("spawn"))


def show(ended: Ended) -> None:
    """A line a job."""
    print(f"{ended.done}/{ended.total} {ended.job.name} {ended.error or 'done'}", flush=True)


def show_trial(method: str, trial: Trial) -> None:
    """A line a trial."""
    settings = " ".join(f"{name} {value:.4g}" for name, value in trial.params.items())
    value = "failed" if trial.value is None else f"{trial.value:.4f} bits a byte"
    print(f"{method} {trial.number}: {value}, {settings}", flush=True)


def verdict(values: list[float]) -> str:
    """Whether an effect is called real: p < 0.01 of Student's test over the seeds."""
    p = p_value(values)
    if p is None:
        return ""
    return f"p {p:.4f}" + (", real" if p < LEVEL else "")


def table(folders: list[Path], scale: str, pattern: str = "all") -> None:
    """Print means of bits a byte, and effects seed by seed, at the trained context."""
    wanted = cells(pattern)
    rows = [row for row in with_shared(merged(folders, scale)) if row["cell"] in wanted]
    for budget in BUDGETS:
        for cache in CACHES:
            found: dict[str, dict[int, float]] = defaultdict(dict)
            for row in rows:
                if row["budget"] == budget:
                    found[row["cell"]][row["seed"]] = row["scores"][0][cache]
            if not found:
                continue
            print(f"\nbits a byte, equal {budget}, {cache} cache")
            for cell, values in found.items():
                mean, _, half = interval(list(values.values()))
                print(f"  {cell:32s} {mean:.4f} ± {half or 0:.4f}  {len(values)} seeds")
            common = set.intersection(*(set(values) for values in found.values()))
            try:
                each = [effects({c: v[seed] for c, v in found.items()}) for seed in sorted(common)]
            except ValueError as error:
                print(f"  no effects: {error}")
                continue
            for name in each[0] if each else ():
                over = [one[name] for one in each]
                mean, _, half = interval(over)
                print(f"  {name:44s} {mean:+.4f} ± {half or 0:.4f} {verdict(over)}")


def main(arguments: list[str] | None = None) -> int:
    """Run or show; 1 if a job failed."""
    options = parser(__doc__)
    options.add_argument("what", choices=("run", "table", "search", "store"))
    options.add_argument("--scale", choices=tuple(SCALES), default="small")
    options.add_argument("--cells", default="all", help="patterns with commas between them")
    options.add_argument("--seeds", type=int, default=5)
    options.add_argument("--budgets", help="some of tokens, bytes, seconds; all by default")
    options.add_argument("--workers", type=int, default=2)
    options.add_argument("--dask", help="address of the scheduler of a cluster")
    options.add_argument("--device", default="cpu")
    options.add_argument("--trials", type=int, default=24, help="of each search")
    options.add_argument("--share", type=float, default=0.5, help="of a training, for a trial")
    options.add_argument("--out", type=Path, default=FOUND, help="of search")
    options.add_argument("--check", action="store_true", help="of store: only compare the table")
    options.add_argument("--folder", type=Path, action="append", help="several, for table")
    chosen = options.parse_args(arguments)
    folders = chosen.folder or [SCRATCH]
    if chosen.what == "table":
        table(folders, chosen.scale, chosen.cells)
        return 0
    if chosen.what == "store":
        same = store(chosen.folder or [], chosen.scale, chosen.check)
        return int(chosen.check and not same)
    if chosen.what == "search":
        found = search(chosen.scale, chosen.trials, chosen.share, folders[0], show_trial)
        print(f"{chosen.out.name}: {write_results(chosen.out, found)} bytes written")
        return 0
    budgets = tuple(selected(chosen.budgets, BUDGETS, "--budgets"))
    todo = jobs(chosen.scale, chosen.cells, chosen.seeds, budgets, chosen.device)
    with executor(chosen.workers, chosen.dask) as pool:
        failed = run(todo, folders[0].resolve(), pool, show)
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
