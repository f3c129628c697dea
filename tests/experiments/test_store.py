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


def test_rows_of_several_machines_say_each_where_they_are_from(monkeypatch):
    content = {"pilot": {}, "rows": []}

    def run(device, pilot, rows):
        content["pilot"] |= dict.fromkeys(map(str, range(len(content["pilot"]), pilot)))
        content["rows"] += [[]] * rows
        store.credit(content, ("pilot", "rows"), device, ("numpy",))
        return [(one["device"], one["added"]) for one in content["made on"]]

    assert run("GPU", 2, 0) == [("GPU", {"pilot": 2})]
    assert run("GPU", 3, 1) == [("GPU", {"pilot": 3, "rows": 1})]
    both = [("GPU", {"pilot": 3, "rows": 1}), ("CPU", {"rows": 2})]
    assert run("CPU", 3, 2) == both
    monkeypatch.setattr(store, "machine", lambda: "another one")
    assert run("CPU", 3, 1) == [*both, ("CPU", {"rows": 1})]
    places = [one["provenance"]["machine"] for one in content["made on"]]
    assert places[0] == places[1] != places[2] == content["provenance"]["machine"]


def test_a_package_that_was_there_for_some_results_of_a_machine_is_named():
    results = [
        {"machine": "one", "versions": {"numpy": "1", "peer": None}},
        {"machine": "one", "versions": {"numpy": "1", "peer": "2"}},
        {"machine": "one", "versions": {"numpy": "1", "peer": None}},
        {"machine": "other", "versions": {"numpy": None}},
        {},
    ]
    names, found = store.machines(results)
    assert names == ["one", "one", "one", "other", None]
    assert found == {"one": {"numpy": "1", "peer": "2"}, "other": {"numpy": None}}


def test_other_versions_on_the_same_machine_are_an_entry_of_their_own():
    results = [
        {"machine": "one", "versions": {"numpy": "1", "peer": None}},
        {"machine": "one", "versions": {"numpy": "2", "peer": "5"}},
        {"machine": "one", "versions": {"numpy": "1", "peer": "6"}},
        {"machine": "one", "versions": {"numpy": "2", "peer": None}},
        {"machine": "one", "versions": {"numpy": "2", "peer": "6"}},
    ]
    names, found = store.machines(results)
    assert names == ["one", "one (2)", "one", "one (2)", "one (3)"]
    assert found == {
        "one": {"numpy": "1", "peer": "6"},
        "one (2)": {"numpy": "2", "peer": "5"},
        "one (3)": {"numpy": "2", "peer": "6"},
    }
    laid = [
        {"machine": name, "versions": found[name]} for name in names
    ]  # as a stored table has them: they keep their names
    assert store.machines(laid) == (names, found)


def test_rows_without_an_origin_are_not_taken_for_those_of_this_machine():
    with pytest.raises(ValueError, match="where its rows are from"):
        store.credit({"device": "GPU", "rows": [[]]}, ("rows",), "CPU", ())


@pytest.mark.parametrize("name", ["attention_halves", "attention_needles"])
def test_every_stored_row_has_its_machine(name):
    content = store.read(RESULTS / f"{name}.json")
    for table in {"pilot", "calibration", "rows"} & content.keys():
        added = [one["added"].get(table, 0) for one in content["made on"]]
        assert sum(added) == len(content[table])
    assert content["made on"][-1]["provenance"] == content["provenance"]
