"""What the scripts' command lines share."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

from tqdm import tqdm

from book.experiments.common.places import SCRATCH
from book.experiments.common.store import read, write_json

Job = TypeVar("Job")
OPTIONS: dict[str, dict[str, Any]] = {
    "check": {"action": "store_true", "help": "compare with what is stored, write nothing"},
    "force": {"action": "store_true", "help": "do again what is selected"},
    "only": {"help": "some of them, separated by commas"},
    "quick": {"action": "store_true", "help": "little and small, not into the book"},
}


def parser(description: str | None, *options: str) -> argparse.ArgumentParser:
    """A parser with a module's docstring as its help, and with some of `OPTIONS`."""
    found = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name in options:
        found.add_argument(f"--{name}", **OPTIONS[name])
    return found


def parsed_with_out(arguments: argparse.ArgumentParser, target: Path) -> argparse.Namespace:
    """What was asked for, with ``--out``: the book's ``target``, which no quick run writes.

    A quick run begins anew in a file of its own, so that no earlier one decides what it does.
    """
    arguments.add_argument("--out", type=Path, default=target)
    options = arguments.parse_args()
    if options.quick and options.out.resolve() == target.resolve():
        options.out = SCRATCH / f"quick-{target.name}"
        options.out.unlink(missing_ok=True)
    return options


def selected(names: str | None, among: Iterable[str], option: str = "--only") -> list[str]:
    """What an option with commas selects, all if it is not given."""
    known = list(among)
    found = names.split(",") if names else known
    for name in found:
        if name not in known:
            raise SystemExit(f"{option} must be among {', '.join(known)}, got {name!r}")
    return found


def is_done(path: Path, made_from: Any) -> bool:
    """Whether a result lies there that was made from the same things."""
    return path.is_file() and read(path).get("fingerprint") == made_from


def do_all(
    jobs: Iterable[Job],
    kept: Callable[[Job], Path],
    made_from: Callable[[Job], Any],
    do: Callable[[Job], dict[str, Any]],
    line: Callable[[Job, dict[str, Any]], str],
    force: bool = False,
) -> int:
    """Do what is not done yet and keep each result at once; how many failed.

    A result lies at ``kept(job)`` with what it was ``made_from`` as its fingerprint; ``line`` says
    it in a line.  A `RuntimeError` is reported and the next job begun.
    """
    todo = [job for job in jobs if force or not is_done(kept(job), made_from(job))]
    failures = 0
    with tqdm(todo, unit="run", disable=not todo) as bar:
        for job in bar:
            bar.set_postfix_str(kept(job).stem)
            try:
                result = do(job)
            except RuntimeError as error:
                bar.write(f"FAILED {error}")
                failures += 1
                continue
            write_json(kept(job), {"fingerprint": made_from(job), **result})
            bar.write(line(job, result))
    return failures
