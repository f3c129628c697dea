"""Jobs on any executor of ``concurrent.futures``; what is done is kept, and merged from anywhere.

A result is a file of its own, written whole, so that workers and runners know nothing of each
other: whoever is killed is started again, and two that do the same job write the same file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import Executor, as_completed
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from book.experiments.common.store import read
from book.experiments.one_model.cells import BUDGETS, CACHES, FACTORS, Job, do
from genopt_core.progress import reporting


class Ended(NamedTuple):
    """What ``progress`` is told when a job has ended."""

    done: int
    total: int
    job: Job
    error: str | None


def run(
    jobs: Iterable[Job],
    folder: Path,
    executor: Executor,
    progress: bool | Callable[[Ended], object] = False,
) -> dict[Job, str]:
    """Do jobs; the messages of those that failed.

    A failed job takes no other with it.  Where workers are lost (`BrokenExecutor`) their jobs are
    among the failed, and are done when this is called again.
    """
    failed: dict[Job, str] = {}
    futures = {executor.submit(do, job, folder): job for job in jobs}
    with reporting(progress, len(futures), "jobs", "job") as report:
        try:
            for count, future in enumerate(as_completed(futures), 1):
                error = future.exception()
                if error is not None:
                    failed[futures[future]] = f"{type(error).__name__}: {error}"
                report(Ended(count, len(futures), futures[future], failed.get(futures[future])))
        except BaseException:
            for future in futures:
                future.cancel()
            raise
    return failed


def merged(folders: Iterable[Path], scale: str) -> list[dict[str, Any]]:
    """All results of a scale in some folders, by cell, budget and seed.

    One that lies in several folders counts once; if they differ in what they were made from,
    neither can be chosen, and that is an error.
    """
    found: dict[tuple[str, str, int], dict[str, Any]] = {}
    for folder in folders:
        for path in sorted((folder / scale).glob("*.json")):
            row = read(path)
            key = row["cell"], row["budget"], row["seed"]
            if found.setdefault(key, row)["made_from"] != row["made_from"]:
                raise ValueError(
                    f"folders must agree on {'.'.join(map(str, key))}, got results of different "
                    "settings"
                )
    return [found[key] for key in sorted(found)]


def with_shared(rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows, each under every budget at which its training is the one."""
    found = []
    for row in rows:
        job = Job(row["scale"], row["cell"], row["budget"], row["seed"])
        for budget in BUDGETS:
            if replace(job, budget=budget).training == job:
                found.append({**row, "budget": budget})
    return found


def signs(cell: str) -> dict[str, int]:
    """−1 or 1 for each factor of a cell, which may name its cache as the fifth."""
    levels = cell.split(".")
    factors = [*FACTORS.items(), ("cache", CACHES)][: max(len(levels), len(FACTORS))]
    pairs = zip(factors, levels, strict=True)
    return {name: 2 * known.index(level) - 1 for (name, known), level in pairs}


def effects(values: dict[str, float]) -> dict[str, float]:
    r"""Main effects and interactions of a full factorial, by names with × between them.

    .. math:: \frac{2}{n} \sum_c y_c \prod_{f \in S} x_{cf}

    for each set :math:`S` of the factors that vary among the :math:`n` cells: what switching on one
    changes on average over all settings of the others, or how far two together differ from their
    sum.

    Parameters
    ----------
    values : dict
        By name of a cell.
    """
    table = {cell: signs(cell) for cell in values}
    every = next(iter(table.values()), {})
    varied = [name for name in every if len({row[name] for row in table.values()}) > 1]
    if len(values) != 2 ** len(varied):
        raise ValueError(
            f"values must have all {2 ** len(varied)} cells of {varied}, got {len(values)}"
        )
    found: dict[str, float] = {}
    for chosen in range(1, 2 ** len(varied)):
        names = [name for i, name in enumerate(varied) if chosen >> i & 1]
        total = 0.0
        for cell, value in values.items():
            sign = 1
            for name in names:
                sign *= table[cell][name]
            total += sign * value
        found[" × ".join(names)] = 2 * total / len(values)
    return dict(sorted(found.items(), key=lambda item: item[0].count("×")))
