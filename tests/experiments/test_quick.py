"""A quick run of an experiment leaves what the book reads alone."""

import ast
import re
import sys

import pytest
from places import BOOK

from book.experiments.common import main

EXPERIMENTS = BOOK / "experiments"
WRITES = {"write", "write_json", "write_results", "write_text"}
NO_RUN = {"join"}  # puts parts together that other runs have made
QUICK = [
    path
    for path in sorted(EXPERIMENTS.rglob("*.py"))
    if re.search(r'parser\(__doc__, .*"quick"|"--quick"', path.read_text(encoding="utf-8"))
]


def named(node: ast.AST) -> set[str]:
    return {each.id for each in ast.walk(node) if isinstance(each, ast.Name)}


def writing(node: ast.AST, targets: set[str], writers: set[str]) -> list[str]:
    """The calls in ``node`` that write one of the book's files."""
    calls = [each for each in ast.walk(node) if isinstance(each, ast.Call)]
    return [
        ast.unparse(call)[:60]
        for call in calls
        if getattr(call.func, "id", getattr(call.func, "attr", "")) in writers
        or (
            getattr(call.func, "id", getattr(call.func, "attr", "")) in WRITES
            and any(named(each) & targets for each in call.args)
        )
    ]


def unguarded(body: list[ast.stmt], targets: set[str], writers: set[str]) -> list[str]:
    """The writing calls that a quick run comes to."""
    found = []
    for line in body:
        test = ast.unparse(line.test) if isinstance(line, ast.If) else ""
        if re.fullmatch(r"(options\.)?quick", test) and isinstance(line.body[-1], ast.Return):
            return found
        if re.fullmatch(r"not (options\.)?quick", test):
            continue
        if isinstance(line, ast.If | ast.For | ast.While | ast.With):
            found += unguarded([*line.body, *getattr(line, "orelse", [])], targets, writers)
        else:
            found += writing(line, targets, writers)
    return found


def written_by_a_quick_run(source: str) -> list[str]:
    tree = ast.parse(source)
    targets = {
        name
        for line in tree.body
        if isinstance(line, ast.Assign) and "RESULTS" in named(line.value)
        for name in named(line.targets[0])
    }
    functions = [one for one in tree.body if isinstance(one, ast.FunctionDef)]
    writers = {one.name for one in functions if writing(one, targets, set())} - {"main"} - NO_RUN
    (begun,) = (one for one in functions if one.name == "main")
    return unguarded(begun.body, targets, writers)


@pytest.mark.parametrize("path", QUICK, ids=lambda path: path.stem)
def test_a_quick_run_does_not_write_what_the_book_reads(path):
    source = path.read_text(encoding="utf-8")
    assert written_by_a_quick_run(source) == []
    # the default of --out is the book's file nowhere but where a quick run has another
    assert not re.search(r'"--out".*default=(TARGET|STORED|PATH|RESULTS)', source)


def test_the_scripts_are_found_and_a_fault_is_seen():
    assert len(QUICK) > 20
    fault = (
        "TARGET = RESULTS / 'a'\ndef main():\n    if {}:\n        return\n    write_json(TARGET, 1)"
    )
    assert written_by_a_quick_run(fault.format("options.late")) == ["write_json(TARGET, 1)"]
    assert written_by_a_quick_run(fault.format("options.quick")) == []


@pytest.mark.parametrize("given", ["stored", "named", "elsewhere"])
def test_a_quick_run_has_a_file_of_its_own(given, tmp_path, monkeypatch):
    monkeypatch.setattr(main, "SCRATCH", tmp_path / "scratch")
    target, own = tmp_path / "a.json", tmp_path / "scratch" / "quick-a.json"
    own.parent.mkdir()
    own.write_text("of an earlier quick run")
    other = tmp_path / "b.json"
    words = {"stored": [], "named": ["--out", str(target)], "elsewhere": ["--out", str(other)]}

    def out(*more):
        monkeypatch.setattr(sys, "argv", ["it", *words[given], *more])
        return main.parsed_with_out(main.parser("", "quick"), target).out

    assert out() == (other if given == "elsewhere" else target)
    assert own.is_file()
    assert out("--quick") == (other if given == "elsewhere" else own)
    assert own.is_file() == (given == "elsewhere")
