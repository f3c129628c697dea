"""How many of a sample of small faults in the formulas the tests find: the mutation score.

    python -m book.experiments.site.mutation [--sample 200] [--seed 1] [--force survived]

The faults are those of `mutants`, drawn alike over all places of the formula rooms and ``torch``.
Each is put into a copy of the tree below ``.cache``, where the tests that run its line are run, the
fastest first, until one fails.  Which tests run a line is recorded once for each file of tests.
Tests that take more than a second are left out but with ``--slow``; those that only say a constant
again (marked ``restates``) always.  The stored score is of a draw that nobody had seen when the
tests were written; draws 1, 2 and 4 had shown which kinds were missing.  What was begun is gone on
with; ``--force survived`` tries those again that no test had found.

A fault that changes nothing that can be seen is *equivalent* and does not count; each is named with
its reason in ``equivalent_mutants.json`` beside this file.  A fault that makes the tests run for
ever (more than five times their processor time and 20 s) counts as found.  Tests that found a fault
are run again without it; one that fails there too is left out.

Why not mutmut or cosmic-ray: mutmut 3 draws no sample and writes every function anew, which the
tests that read sources do not stand; cosmic-ray starts the whole test command for every fault.
"""

from __future__ import annotations

import ast
import importlib
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import coverage
import pytest
from tqdm import tqdm

from book.experiments.common.main import parser
from book.experiments.common.places import RESULTS, ROOT, SCRATCH
from book.experiments.common.store import (
    files_sha256,
    provenance,
    read,
    write_json,
    write_results,
)
from book.experiments.site.mutants import Mutant, mutants

ROOMS = (
    *("subwords", "cross_entropy", "word2vec", "positions", "attention", "kvcache", "one_model"),
    "torch",
)
OUT = RESULTS / "mutation.json"
EQUIVALENT = Path(__file__).with_name("equivalent_mutants.json")
WORK = SCRATCH / "mutation"
TREE = WORK / "tree"
SLOW = WORK / "slow.json"
FAILED = WORK / "failed.txt"
OURS = ("genopt_core", "book", "tests", "oracles", "places", "conftest")
# Imported before the process forks, so that no fault waits for them.
SLOW_IMPORTS = ("scipy.stats", "scipy.optimize", "torch", "hypothesis.strategies", "transformers")
SLOWEST_S = 1.0  # of processor time; a test that takes longer is left out
FIRST = 25  # tests of a file, the fastest, before all others
MOST_S = 10.0  # that all others take together
OPTIONS = (
    *("-q", "-x", "-p", "no:nbval", "-p", "no:cacheprovider", "--tb=line", "--no-header"),
    *("-m", "not browser and not slow and not notebook and not restates"),
    *("-o", "addopts=--import-mode=importlib --strict-markers --doctest-modules"),
)


def main() -> None:
    """Draw, try and store."""
    options = parser(__doc__)
    options.add_argument("--sample", type=int, default=200, help="faults (default: 200)")
    options.add_argument("--seed", type=int, default=1, help="of the draw (default: 1)")
    options.add_argument("--force", choices=("all", "survived"), help="what is tried again")
    options.add_argument("--slow", action="store_true", help="with the slow tests of its room too")
    given = options.parse_args()
    copy_tree()
    for name in SLOW_IMPORTS:
        importlib.import_module(name)
    covering = recorded()
    in_child(lambda: int(pytest.main([*OPTIONS, "--collect-only", *test_parts()])), 600.0)
    drawn, places = draw(given.sample, given.seed)
    kept = WORK / f"done_{given.seed}.json"
    done: dict[str, Any] = read(kept) if kept.is_file() else {}
    if given.force:
        same = read(EQUIVALENT) if given.force == "survived" else {}
        kept_back = {k for k, v in done.items() if v["found"] != "survived" or k in same}
        done = {k: v for k, v in done.items() if given.force != "all" and k in kept_back}
    for mutant in tqdm(drawn, unit="fault"):
        if mutant.key not in done:
            done[mutant.key] = tried(mutant, covering, given.slow)
            write_json(kept, done)
    store([(m, done[m.key]) for m in drawn], places, given.seed)


def draw(size: int, seed: int) -> tuple[list[Mutant], int]:
    """A sample of all faults, and how many there are.

    What was drawn once stays drawn as long as its line is there, whatever changes beside it.
    """
    everything = {m.key: m for path in formula_files() for m in mutants(path, TREE)}
    kept = WORK / f"drawn_{seed}.json"
    before = [key for key in (read(kept) if kept.is_file() else []) if key in everything]
    others = sorted(everything.keys() - set(before))
    random.Random(seed).shuffle(others)
    keys = [*before, *others][:size]
    write_json(kept, [*before, *keys[len(before) :]])
    return [everything[key] for key in keys], len(everything)


def formula_files() -> list[Path]:
    """The modules that faults are put into."""
    return sorted(p for room in ROOMS for p in (TREE / "genopt_core" / room).rglob("*.py"))


# ---------------------------------------------------------------- which tests run a line


def copy_tree() -> None:
    """A copy of what git tracks or does not ignore; files that are gone go."""
    listed = ["git", "ls-files", "-co", "--exclude-standard"]
    names = subprocess.run(listed, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    wanted = {name for name in names.splitlines() if (ROOT / name).is_file()}
    for name in wanted:
        source, target = ROOT / name, TREE / name
        if not target.is_file() or target.read_bytes() != source.read_bytes():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)
    for path in (TREE / "genopt_core").rglob("*.py"):
        if path.relative_to(TREE).as_posix() not in wanted:
            path.unlink()


def test_parts() -> dict[str, list[Path]]:
    """The files of tests, each by itself, and the docstrings of each room, which are tests too."""
    parts: dict[str, list[Path]] = {}
    for room in ROOMS:
        for path in sorted((TREE / "tests" / room).glob("test_*.py")):
            parts[path.relative_to(TREE).as_posix()] = [path]
        parts[f"genopt_core/{room}"] = sorted((TREE / "genopt_core" / room).rglob("*.py"))
    return parts


def recorded() -> dict[str, dict[str, float]]:
    """For each line, and each function as a whole, the tests that run it and their seconds."""
    covering: dict[str, dict[str, float]] = {}
    for name, files in tqdm(test_parts().items(), unit="part", desc="which tests run a line"):
        kept = WORK / "records" / f"{name.replace('/', '_')}_{files_sha256(files)}.json"
        if not kept.is_file():
            kept.parent.mkdir(parents=True, exist_ok=True)
            code = in_child(lambda name=name, kept=kept: record(name, kept), 1200.0)
            if code not in (0, 1, 5) or not kept.is_file():
                raise RuntimeError(f"{name}: its tests ended with {code}, see {WORK / 'log.txt'}")
        found = read(kept)
        for line, tests in found["lines"].items():
            own = covering.setdefault(line, {})
            own.update((found["tests"][i], found["seconds"][i]) for i in tests)
    return covering


class TooSlow(BaseException):
    """A test has run for too long; no ``Exception``, which Hypothesis would shrink."""


class Recorder:
    """A plugin of pytest: the lines and the processor time of each test that passes."""

    def __init__(self) -> None:
        self.coverage = coverage.Coverage(
            data_file=None, source=[str(TREE / "genopt_core")], config_file=False
        )
        self.seconds: dict[str, float] = {}
        self.failed: set[str] = set()
        self.slow: set[str] = set(read(SLOW)) if SLOW.is_file() else set()
        signal.signal(signal.SIGPROF, self.stop)

    def stop(self, *_: Any) -> None:
        raise TooSlow

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        items[:] = [item for item in items if item.nodeid not in self.slow]

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Any:
        self.coverage.switch_context(item.nodeid)
        started = time.process_time()
        result = yield
        self.seconds[item.nodeid] = time.process_time() - started
        self.coverage.switch_context("")
        return result

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Any:
        signal.setitimer(signal.ITIMER_PROF, SLOWEST_S, SLOWEST_S)
        try:
            return (yield)
        except TooSlow:
            self.slow.add(item.nodeid)
            raise
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if not report.passed:
            self.failed.add(report.nodeid)


def record(name: str, kept: Path) -> int:
    """Run the tests of a file under coverage; which of them ran which line."""
    recorder = Recorder()
    recorder.coverage.start()
    code = pytest.main([*(o for o in OPTIONS if o != "-x"), name], [recorder])
    recorder.coverage.stop()
    data = recorder.coverage.get_data()
    tests = [test for test in recorder.seconds if test not in recorder.failed]
    number = {test: i for i, test in enumerate(tests)}
    lines: dict[str, set[int]] = {}
    for file in data.measured_files():
        relative = Path(file).relative_to(TREE).as_posix()
        if not relative.startswith(tuple(f"genopt_core/{room}/" for room in ROOMS)):
            continue
        names = line_names(Path(file), relative)
        for line, contexts in data.contexts_by_lineno(file).items():
            own = {number[c] for c in contexts if c in number}
            if own and line in names:
                for key in (names[line], function_key(names[line])):
                    lines.setdefault(key, set()).update(own)
    found = {
        "file": name,
        "tests": tests,
        "seconds": [round(recorder.seconds[test], 4) for test in tests],
        "lines": {key: sorted(own) for key, own in lines.items()},
    }
    kept.write_text(json.dumps(found), encoding="utf-8")
    write_json(SLOW, sorted(recorder.slow))
    return int(code)


def function_key(line: str) -> str:
    return line.partition(" | ")[0]


def line_names(path: Path, relative: str) -> dict[int, str]:
    """Names of lines that stay where a file above them grows: the function and the text."""
    text = path.read_text(encoding="utf-8")
    owner: dict[int, str] = {}

    def walk(node: ast.AST, where: str) -> None:
        for child in ast.iter_child_nodes(node):
            inner = where
            if isinstance(child, ast.FunctionDef | ast.ClassDef):
                inner = f"{where}.{child.name}".lstrip(".")
                for line in range(child.lineno, (child.end_lineno or 0) + 1):
                    owner[line] = inner
            walk(child, inner)

    walk(ast.parse(text), "")
    return {
        number: f"{relative}::{owner.get(number, '')} | {line.strip()}"
        for number, line in enumerate(text.splitlines(), 1)
    }


# ---------------------------------------------------------------- one fault


def tried(mutant: Mutant, covering: dict[str, dict[str, float]], slow: bool) -> dict[str, Any]:
    """Put a fault into the copy, run the tests of its line, and take it out again."""
    function = f"{mutant.file}::{mutant.where}"
    tests = covering.get(f"{function} | {mutant.text}") or covering.get(function) or {}
    if not tests:  # run when it is imported: whatever runs something of the class or the module
        tests = {
            test: s
            for key, own in covering.items()
            if key.startswith(function) and " | " not in key
            for test, s in own.items()
        }
    path = TREE / mutant.file
    source, stat = path.read_bytes(), path.stat()
    started = time.monotonic()
    found = "survived"
    parts = [*batches(mutant, tests), *(slow_ones(mutant) if slow else ())]
    while parts:
        try:
            path.write_bytes(mutant.applied(source))
            code = batch_code(parts[0])
        finally:
            path.write_bytes(source)
            os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))  # its compiled form is good
        if code == 0:
            parts.pop(0)
            continue
        failed = set(FAILED.read_text(encoding="utf-8").splitlines())
        if code != 5 and batch_code(parts[0]) != 0:  # fails without the fault too, in this order
            unsound = failed & set(FAILED.read_text(encoding="utf-8").splitlines())
            if not unsound:
                raise RuntimeError(f"these tests end differently each time: {', '.join(parts[0])}")
            tqdm.write(f"left out, as it fails without a fault: {', '.join(unsound)}")
            parts[0] = {test: s for test, s in parts[0].items() if test not in unsound}
            if not parts[0]:
                parts.pop(0)
            continue
        found = "timeout" if code < 0 else "none ran" if code == 5 else "killed"
        break
    seconds = round(time.monotonic() - started, 1)
    return {"found": found, "tests": len(tests), "seconds": seconds}


def batch_code(batch: dict[str, float]) -> int:
    """With what the tests of a batch end in the copy as it stands; `FAILED` names what failed."""
    FAILED.write_text("", encoding="utf-8")
    files = sorted({test.partition("::")[0] for test in batch})
    limit = 20 + 5 * sum(batch.values())
    return in_child(lambda: run_tests(files, batch), limit, faulty=True)


def batches(mutant: Mutant, tests: dict[str, float]) -> list[dict[str, float]]:
    """The fastest tests of the file that has most of them, of another one, then all others.

    Files of the fault's own room come first; a file costs a second before its first test.
    """
    files: dict[str, dict[str, float]] = {}
    for test, seconds in sorted(tests.items(), key=lambda pair: (pair[1], pair[0])):
        files.setdefault(test.partition("::")[0], {})[test] = seconds
    room = mutant.file.split("/")[1]
    order = sorted(files, key=lambda file: (room not in file.split("/"), -len(files[file]), file))
    parts = [dict(list(files[file].items())[:FIRST]) for file in order[:2]]
    rest: dict[str, float] = {}
    spent = 0.0
    for test, seconds in sorted(tests.items(), key=lambda pair: (pair[1], pair[0])):
        if spent + seconds <= MOST_S and not any(test in part for part in parts):
            spent += seconds
            rest[test] = seconds
    return [part for part in (*parts, rest) if part]


def slow_ones(mutant: Mutant) -> list[dict[str, float]]:
    """Tests that take long, of the files of the fault's room that name its module or its room."""
    room, stem = mutant.file.split("/")[1], Path(mutant.file).stem
    files: dict[str, dict[str, float]] = {}
    for test in read(SLOW):
        file = test.partition("::")[0]
        if file.startswith(f"tests/{room}/"):
            files.setdefault(file, {})[test] = 10.0
    near = [own for file, own in files.items() if stem.strip("_") in (TREE / file).read_text()]
    return near or list(files.values())


class Chosen:
    """A plugin of pytest: only some tests, the fastest first."""

    def __init__(self, tests: dict[str, float]) -> None:
        self.tests = tests

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        own = [item for item in items if item.nodeid in self.tests]
        items[:] = sorted(own, key=lambda item: self.tests[item.nodeid])

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            with FAILED.open("a", encoding="utf-8") as file:
                print(report.nodeid, file=file)


def run_tests(files: list[str], tests: dict[str, float]) -> int:
    return int(pytest.main([*OPTIONS, *files], [Chosen(tests)]))


def in_child(do: Any, limit: float, *, faulty: bool = False) -> int:
    """What ``do`` returns in a fork that sees only the copy; negative if it ran out of time.

    ``limit`` is in seconds of processor time, as others may use the machine.
    """
    child = os.fork()
    if not child:
        code = 70
        try:
            os.setpgid(0, 0)
            resource.setrlimit(resource.RLIMIT_CPU, (int(limit), int(limit) + 5))
            log = os.open(WORK / "log.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(log, 1)
            os.dup2(log, 2)
            os.chdir(TREE)
            sys.dont_write_bytecode = faulty  # else what is compiled waits for the next child
            sys.path[:] = [str(TREE), *(p for p in sys.path if p not in ("", str(ROOT)))]
            for name in [name for name in sys.modules if name.partition(".")[0] in OURS]:
                del sys.modules[name]
            code = do()
            sys.stdout.flush()
        except BaseException as error:
            print(repr(error), file=sys.stderr, flush=True)
        finally:
            os._exit(code)
    deadline = time.monotonic() + 20 * limit
    while True:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() > deadline:
            os.killpg(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return -int(signal.SIGKILL)
        time.sleep(0.02)


# ---------------------------------------------------------------- the result


def store(rows: list[tuple[Mutant, dict[str, Any]]], places: int, seed: int) -> None:
    """Write and print the score, by room and all together."""
    equivalent = read(EQUIVALENT)
    table = []
    for mutant, row in rows:
        found = "equivalent" if mutant.key in equivalent else row["found"]
        if found == "equivalent" and row["found"] != "survived":
            raise ValueError(f"a fault that tests find is not equivalent: {mutant.key}")
        table.append({"kind": mutant.kind, "found": found, "fault": mutant.key})
    counts = {
        name: score([r for r in table if name in ("all", r["fault"].split("/")[1])])
        for name in ("all", *ROOMS)
    }
    write_results(
        OUT,
        {
            "provenance": provenance(("numpy", "torch", "pytest", "hypothesis", "coverage")),
            "code": files_sha256(formula_files()),
            "seed": seed,
            "places": places,
            "score": counts,
            "faults": table,
        },
    )
    for name, row in counts.items():
        print(f"{name:14} {row}")
    for row in table:
        if row["found"] in ("survived", "none ran"):
            print(row["found"], row["fault"])


def score(rows: list[dict[str, str]]) -> dict[str, Any]:
    """Counts of a room, and the share that was found of what could be."""
    found = Counter(row["found"] for row in rows)
    caught = found["killed"] + found["timeout"]
    could = len(rows) - found["equivalent"]
    share = round(100 * caught / could, 1) if could else None
    return {
        "faults": len(rows),
        "found": caught,
        "of them by time": found["timeout"],
        "survived": could - caught,
        "equivalent": found["equivalent"],
        "percent": share,
    }


if __name__ == "__main__":
    main()
