"""The report on newest releases: what is asked for, and whom a failure is laid to."""

from pathlib import Path

from book.experiments.site import freshness

TRACE = """\
/venv/lib/python3.11/site-packages/transformers/generation/utils.py:2600: in generate
/venv/lib/python3.11/site-packages/torch/nn/modules/module.py:1700: in _call_impl
E   FutureWarning: said too often
"""


def test_held_packages_keep_their_pin_and_all_others_lose_it():
    wanted = freshness.wanted(freshness.pins())
    assert "numpy" in wanted
    assert "dask[distributed]" in wanted
    pinned = {line.partition("==")[0] for line in wanted if "==" in line}
    assert pinned == set(freshness.HELD)


def test_a_failure_is_laid_to_the_package_that_is_newer():
    assert freshness.blamed(TRACE, ["transformers"]) == "transformers"
    assert freshness.blamed(TRACE, ["optuna"]) == "torch"
    assert freshness.blamed("E   needs hypothesis 7", ["hypothesis"]) == "hypothesis"
    assert freshness.blamed("E   assert 1 == 2", []) == "the book's own code or numbers"


def test_what_the_pins_fail_too_is_laid_to_no_release(monkeypatch):
    both = {"torch": ["test_ours[a]: x", "test_theirs: y"]}
    monkeypatch.setattr(freshness, "tested", lambda *_: ("", {"any": ["test_ours[a]: z"]}))
    assert freshness.without_ours(both, ["tests"]) == {
        "torch": ["test_theirs: y"],
        freshness.OURS: ["test_ours[a]"],
    }


def test_the_same_test_with_other_parameters_is_another(monkeypatch):
    """Parameters may hold colons and brackets; a class and its function are both asked for."""
    lines = ["test_t[a-1]: x", "test_t[b-2]: y", "test_u[k: v[0]]: z", "TestC.test_v[{'a': 1}]: w"]
    asked = []

    def tested(_, paths, newer):
        asked.append(paths)
        return "", {"any": ["test_t[b-2]: y", "test_u[k: w]: z", "test_t[c-3]: never asked"]}

    monkeypatch.setattr(freshness, "tested", tested)
    assert freshness.without_ours({"torch": lines}, ["tests"]) == {
        "torch": [lines[0], *lines[2:]],
        freshness.OURS: ["test_t[b-2]"],
    }
    assert asked == [["-k", "test_t or test_u or test_v", "tests"]]


def test_a_pytest_that_cannot_start_is_a_failure():
    found = freshness.tested(Path("/bin/false"), [], [])[1]
    assert list(found) == ["pytest did not run"]


def test_the_report_names_what_is_newer_and_what_is_held():
    text = freshness.report(
        {"numpy": "1", "sphinx": "7"}, {"numpy": "2", "sphinx": "7"}, {"Tests": "1 passed."}
    )
    assert "| numpy | 1 | 2 | **newer** |" in text
    assert f"| sphinx | 7 | 7 | held: {freshness.HELD['sphinx']} |" in text
    assert text.endswith("## Tests\n\n1 passed.\n")
