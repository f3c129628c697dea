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
