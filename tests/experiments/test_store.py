"""What every stored result says of where it came from."""

import re

import pytest
from places import RESULTS, TABLES

from book.experiments.common import store

OF_A_MACHINE = re.compile(r"[\s\"=]/(tmp|root|home|work|var|mnt|Users)/")
STORED = sorted([*RESULTS.glob("*.json"), *TABLES.glob("*.json")])


def test_a_file_of_a_command_is_told_by_its_name(monkeypatch):
    monkeypatch.setattr(
        "sys.argv", ["/elsewhere/run.py", "--seconds", "9", "--out", "/elsewhere/a/b.json"]
    )
    assert store.provenance(())["command"] == "python run.py --seconds 9 --out b.json"


@pytest.mark.parametrize("path", STORED, ids=lambda path: path.name)
def test_no_path_of_a_machine_is_stored(path):
    assert OF_A_MACHINE.search(path.read_text(encoding="utf-8")) is None


LINES = '{"a": {"é": 1}}\n{"b": {"c": "}\\n"}}\n'.encode()


@pytest.mark.parametrize("cut", range(len(LINES) + 1))
def test_a_file_of_lines_that_was_cut_anywhere_goes_on(cut, tmp_path):
    """Also within a letter of two bytes, and where what is left ends like a record."""
    path = tmp_path / "some.jsonl"
    path.write_bytes(LINES[:cut])
    whole = [{"a": {"é": 1}}, {"b": {"c": "}\n"}}][: LINES[:cut].count(b"\n")]
    assert store.whole_lines(path, mend=False) == whole
    assert path.read_bytes() == LINES[:cut]
    assert store.whole_lines(path) == whole
    with path.open("a", encoding="utf-8") as file:
        file.write("[3]\n")
    assert store.whole_lines(path) == [*whole, [3]]


def test_a_file_of_lines_that_is_not_there_has_none(tmp_path):
    assert store.whole_lines(tmp_path / "none.jsonl") == []
    assert not list(tmp_path.iterdir())
