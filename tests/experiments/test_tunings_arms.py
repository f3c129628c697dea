"""Other shares of `plus` on stepped objectives: what they are, the rule of choice, the store."""

from __future__ import annotations

import numpy as np
import pytest
from places import BOOK, RESULTS

from book.ch2_search import results
from book.experiments.common import store
from book.experiments.cross_entropy import tunings, tunings_arms, tunings_race
from genopt_core.cross_entropy import Float, Integer, SearchSpace, posterior
from genopt_core.cross_entropy.surrogate import GaussianProcess

SPACE = SearchSpace({"x": Integer(0, 9), "y": Float(0, 1)})


def test_agreement_is_that_of_processes_that_have_not_seen_the_trial():
    rng = np.random.default_rng(0)
    rows = SPACE.uniform(12, rng)
    scores = np.floor(rows[:, 0] / 3) + (rows[:, 1] > 0.5)
    model = posterior.Posterior(SPACE, False, 0.15)
    process, values = model._condition(rows, scores, np.arange(12))
    theta, predicted = process.theta, []
    for i in range(12):
        others = np.arange(12) != i
        left_out = GaussianProcess(SPACE, False).condition(theta, rows[others], values[others])
        predicted.append(left_out.mean(rows[[i]])[0])
    by_hand = np.corrcoef(values, predicted)[0, 1]
    assert tunings_arms.agreement(model, rows, scores) == pytest.approx(by_hand, abs=1e-6)
    assert tunings_arms.share("checked", model, rows, scores) == pytest.approx(
        np.clip(1 - by_hand, 0.1, 0.9), abs=1e-6
    )
    assert tunings_arms.agreement(model, rows, np.ones(12)) == 0  # a plateau tells nothing


@pytest.mark.parametrize(
    ("arm", "trials", "share"),
    [("half", 10, 0.5), ("early", 10, 0.75), ("early", 35, 0.5), ("early", 90, 0.25)],
)
def test_shares_by_hand(arm, trials, share):
    assert tunings_arms.share(arm, None, np.zeros((trials, 2)), np.zeros(trials)) == share


def test_an_arm_changes_its_share_and_nothing_stays_changed():
    asked = []

    def usual(arm, *rest, known=tunings_arms.share):
        asked.append(known(arm, *rest))
        return asked[-1]

    before = posterior.Posterior, posterior.SCREENED
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tunings_arms, "share", usual)
        entry = tunings_arms.run(("early", "tree-cancer", 8, 16))
    assert entry["method"] == "early"
    assert asked == pytest.approx([0.75 - 0.01 * i for i in range(6)])
    assert (posterior.Posterior, posterior.SCREENED) == before


def test_the_choice_by_hand():
    """One problem and seed, two budgets; ties within a tie of the race share a rank."""
    regrets = {"posterior": (10, 0), "half": (20, 5), "early": (30, 5), "checked": (5, 5)}
    regrets |= {"tpe": (14, 100), "random": (400, 100)}
    entries = [
        {"method": m, "problem": "tree-cancer", "seed": 8, "regret": list(r)}
        for m, r in regrets.items()
    ]
    # in ties of 10 units: 1, 2, 3, 0 (5 rounds to the even 0), 1, 40 and 0, 0, 0, 0, 10, 10
    ranks = tunings_arms.mean_ranks(entries)
    assert ranks == {
        "posterior": (2.5 + 2.5) / 2,
        "half": (4 + 2.5) / 2,
        "early": (5 + 2.5) / 2,
        "checked": (1 + 2.5) / 2,
        "tpe": (2.5 + 5.5) / 2,
        "random": (6 + 5.5) / 2,
    }
    assert tunings_arms.chosen(entries) == "checked"
    lacking = [e | {"seed": 9} for e in entries[1:]]  # a seed that not all have run
    assert tunings_arms.mean_ranks(entries + lacking) == ranks


def test_without_a_problem_that_all_have_run_there_is_no_rank():
    entries = [{"method": "half", "problem": "tree-cancer", "seed": 8, "regret": [1, 1]}]
    with pytest.raises(ValueError, match=r"all of posterior, half.*got 1 runs and none such"):
        tunings_arms.mean_ranks(entries)


class Here:
    """A pool of this process alone."""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        return None

    def imap_unordered(self, does, tasks):
        return map(does, tasks)


def test_runs_go_on_after_a_cut_and_those_of_other_sources_are_done_again(tmp_path, monkeypatch):
    runs, asked = tmp_path / "runs.json", []
    tasks = [("half", "tree-cancer", seed, 60) for seed in (8, 9, 10)]

    def one(task):
        asked.append(task[2])
        known = dict(zip(("method", "problem", "seed", "budget"), task, strict=True))
        return known | {"regret": [1, 1], "source": tunings_arms.source(task[0])}

    monkeypatch.setattr(tunings_race, "source", lambda method: f"now {method}")
    monkeypatch.setattr(tunings_arms, "run", one)
    monkeypatch.setattr(tunings_arms, "development", lambda: tasks)
    monkeypatch.setattr(tunings_arms, "chosen", lambda _: "posterior")
    monkeypatch.setattr(tunings_arms, "mean_ranks", lambda _: {})
    monkeypatch.setattr(
        tunings_arms.multiprocessing,
        "get_context",
        lambda _: type("", (), {"Pool": lambda *_: Here()})(),
    )
    monkeypatch.setattr("sys.argv", ["it", "--to", str(runs)])
    known = [one(task) | {"machine": "a", "versions": {}} for task in tasks]
    known[0]["source"] = "before"
    torn = store.compact(known[2])[:-1]  # it ends in a brace, that of the versions
    assert torn.endswith("}")
    runs.write_text("\n".join([*map(store.compact, known[:2]), torn]), encoding="utf-8")
    asked.clear()
    tunings_arms.main()
    assert asked == [8, 10]
    assert [e["seed"] for e in store.whole_lines(runs)] == [8, 9, 8, 10]
    tunings_arms.main()
    assert asked == [8, 10]


def test_seeds_that_nothing_was_developed_on():
    used = set(tunings.DEVELOPMENT_SEEDS) | set(tunings.FINAL_SEEDS)
    assert not used & set(tunings_arms.ARM_SEEDS)
    assert not used & set(tunings.ADDED_SEEDS)


def test_the_plan_of_the_added_runs():
    plan = list(tunings_race.added(("posterior", "tpe", "gp")))
    names = tunings.HALVES["untouched"]
    assert plan[0] == ("tpe", names[0], tunings.ADDED_SEEDS[0], 120)
    first_gp = next(i for i, task in enumerate(plan) if task[0] == "gp")
    assert plan[first_gp:] == [
        ("gp", n, s, 120)
        for s in tunings.FINAL_SEEDS + tunings.ADDED_SEEDS[: tunings_race.ADDED_GP]
        for n in names
    ]
    assert len(set(plan)) == len(plan) == 2 * 40 * 9 + 2 * 40 + 24 * 9


# ------------------------------------------------------------------ what is stored


@pytest.fixture(scope="module")
def content() -> dict:
    return store.read(RESULTS / "cross_entropy_arms.json")


def test_ranks_and_choice_follow_from_the_stored_runs(content):
    entries = tunings_arms.entries_of(content["rows"])
    assert content["ranks"] == tunings_arms.mean_ranks(entries)
    assert content["chosen"] == tunings_arms.chosen(entries)
    assert {e["seed"] for e in entries} == set(tunings_arms.ARM_SEEDS)
    assert {e["problem"] for e in entries} == {*tunings.HALVES["development"], "case"}
    assert results.arms() == content
    race = store.read(tunings_race.PATH)["rows"]
    assert content["against base"] == tunings_arms.against_base(content["rows"], race)


def test_the_arm_against_the_present_design_by_hand():
    race = [["posterior", "a", [1, 2, 3], [50, 100, 0], [50, 0, 0], [0, 0, 0], 1.0]]
    rows = [
        ["checked", "a", [2, 3], [50, 9], [0, 20], [0, 0]],  # a tie is up to ten units
        ["checked", "a", [8], [7], [7]],  # of the development
    ]
    found = tunings_arms.against_base(rows, race)
    assert [row[:5] for row in found] == [
        [30, 1, 1, 0, -0.0025],
        [60, 0, 1, 1, 0.001],
        [120, 0, 2, 0, 0.0],
    ]
    assert found[2][5] == 1


def test_what_the_page_says_of_them(content):
    """A hundredth of a rank on what it was chosen on, and no difference on the untouched half."""
    assert content["chosen"] == "checked"
    ranks = content["ranks"]
    assert 0 < ranks["posterior"] - ranks["checked"] < 0.01
    evidence = BOOK / "ch2_search" / "evidence.ipynb"
    worse = f"{ranks['half']:.2f} and {ranks['early']:.2f} against {ranks['posterior']:.2f}"
    assert worse in evidence.read_text("utf-8")
    assert min(ranks["half"], ranks["early"]) > ranks["posterior"] + 0.1
    assert max(ranks["half"], ranks["early"]) < ranks["tpe"] < ranks["random"]
    assert [row[0] for row in content["against base"]] == list(tunings_race.BUDGETS)
    assert all(row[5] > 0.1 for row in content["against base"])
    assert [results.arm_duel(content)[i]["evaluations"] for i in range(3)] == [30, 60, 120]
