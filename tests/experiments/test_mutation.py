"""The mutation score: which faults are made, and that the stored sample reaches its bar."""

import ast
import functools

import pytest
from places import ROOT

from book.experiments.common import store
from book.experiments.site import mutation
from book.experiments.site.mutants import mutants

SOURCE = '''"""Not a fault: -1."""

import math

WIDTH = 3


def area(low: int, high: int = 2) -> float | None:
    """Nor here: 1 < 2."""
    if low > high and not low:
        raise ValueError(f"low must be at most {high + 1}")
    found = [x for x in range(low) if x]
    found.append(high)
    return -math.pi * len(found)
'''
EXPECTED = [
    ("", "constant", "3", "4"),
    ("", "constant", "3", "(2)"),
    ("area", "constant", "2", "3"),
    ("area", "constant", "2", "(1)"),
    ("area", "negation", "low > high and (not low)", "(not (low > high and (not low)))"),
    ("area", "negation", "low > high and (not low)", "(low > high or not low)"),
    ("area", "comparison", "low > high", "(low >= high)"),
    ("area", "negation", "not low", "(low)"),
    ("area", "dropped statement", "raise ValueError(f'low must be at most {high + 1}')", "pass"),
    ("area", "negation", "x", "(not (x))"),
    ("area", "dropped statement", "found.append(high)", "pass"),
    ("area", "returned None", "return -math.pi * len(found)", "return None"),
    ("area", "arithmetic", "-math.pi * len(found)", "(-math.pi / len(found))"),
    ("area", "arithmetic", "-math.pi", "(math.pi)"),
]


def test_faults_of_a_small_file(tmp_path):
    path = tmp_path / "a.py"
    path.write_text(SOURCE, encoding="utf-8")
    found = mutants(path, tmp_path)
    assert sorted((m.where, m.kind, m.before, m.after) for m in found) == sorted(EXPECTED)
    assert len({m.key for m in found}) == len(found)
    for one in found:
        changed = one.applied(path.read_bytes()).decode()
        assert ast.dump(ast.parse(changed)) != ast.dump(ast.parse(SOURCE)), one.key


def test_the_stored_sample_reaches_the_bar_and_counts_what_it_lists():
    result = store.read(mutation.OUT)
    faults = result["faults"]
    assert len(faults) >= 150
    assert result["score"]["all"] == mutation.score(faults)
    named = [row["fault"] for row in faults]
    files = sorted({ROOT / key.partition("::")[0] for key in named})
    there = {one.key for file in files if file.is_file() for one in mutants(file, ROOT)}
    gone = [key for key in named if key not in there]
    assert len(gone) <= len(named) // 5, f"draw a new sample: {gone}"
    assert result["score"]["all"]["percent"] >= 85


@functools.cache
def faults_of(file):
    """Keys of all faults of a file, worked out once."""
    return {one.key for one in mutants(file, ROOT)}


@pytest.mark.parametrize("fault", store.read(mutation.EQUIVALENT))
def test_an_equivalent_fault_has_a_reason_and_is_still_there(fault):
    assert len(store.read(mutation.EQUIVALENT)[fault]) > 20
    assert fault in faults_of(ROOT / fault.partition("::")[0])
