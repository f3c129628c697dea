"""The instructor's page: every link shows what it says, every plan is one session."""

import re
import sys
from types import SimpleNamespace
from urllib.parse import parse_qsl

import pytest
from places import BOOK

from genopt_core import exercises as checkers
from genopt_core import explorers

sys.path.insert(0, str(BOOK / "_ext"))
import directives
import teaching
import viewers

TEXT = (BOOK / "teaching.md").read_text(encoding="utf-8")
LINKS = re.findall(r"\{show\}`([\w-]+): ([^`]+)`", TEXT)
PLANS = [plan for plan in re.split(r"(?m)^## ", TEXT) if "| minutes | what |" in plan]


@pytest.mark.parametrize(("name", "label"), LINKS)
def test_a_link_leads_to_its_preset(name, label):
    page, query = directives.address(name, label)
    assert f'explore("{name}"' in (BOOK / f"{page}.ipynb").read_text().replace('\\"', '"')
    given = dict(parse_qsl(query))
    assert given.pop("explorer") == name
    shown = explorers.get(name)
    preset = next(one for one in shown.presets if one.label == label)
    for control in shown.controls:
        value = (shown.defaults | preset.params)[control.name]
        text = str(int(value)) if isinstance(value, bool) else str(value)
        assert given.pop(control.name, None) == (None if value == control.default else text)
    assert not given


def test_an_unknown_preset_is_refused_with_those_there_are():
    with pytest.raises(ValueError, match=r"subword-lattice has the presets Longest .* got 'no'"):
        directives.address("subword-lattice", "no")


@pytest.mark.parametrize("plan", PLANS, ids=lambda plan: plan.splitlines()[0])
def test_a_plan_is_a_session_of_fifty_minutes_with_what_a_teacher_needs(plan):
    assert sum(map(int, re.findall(r"(?m)^\| (\d+) \|", plan))) == 50
    wanted = ("Afterwards students can", "They need", "Students think", "To discuss.", "Exercises")
    for part in wanted:
        assert f"**{part}**" in plan
    assert plan.count("{show}") >= 4


def test_every_chapter_has_a_plan_with_its_own_tables():
    chapters = sorted(path.parent.name for path in BOOK.glob("ch*/index.md"))
    assert [re.findall(r"\{exercises\} (\w+)", plan) for plan in PLANS] == [[c] for c in chapters]
    assert [re.findall(r"\{sections\} (\w+)", plan) for plan in PLANS] == [[c] for c in chapters]


@pytest.mark.parametrize("plan", PLANS, ids=lambda plan: plan.splitlines()[0])
def test_a_chapter_has_three_goals(plan):
    [goals] = re.findall(r"\*\*Afterwards students can\*\* (.+?)\.\n\n", plan, re.DOTALL)
    assert len(goals.split(";")) == 3


KNOWN = viewers.Book()


QUIZ = re.compile(r"(?m)^> \*\*Quiz\.\*\* ")
CHAPTERS = sorted(path.parent.name for path in BOOK.glob("ch*/index.md"))


def quizzes(chapter):
    """The cells with a question, of all pages of ``chapter``."""
    pages = sorted(BOOK.glob(f"{chapter}/*.ipynb"))
    texts = [text for page in pages for text in viewers.cells(page.relative_to(BOOK).as_posix())]
    return [text for text in texts if QUIZ.search(text)]


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_a_chapter_asks_three_to_five_quiz_questions(chapter):
    assert 3 <= len(quizzes(chapter)) <= 5


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_every_wrong_answer_of_a_quiz_is_named_and_the_right_one_not_always_in_one_place(chapter):
    places = set()
    for text in quizzes(chapter):
        choices = re.findall(r"(?m)^> - (.+)$", text)
        right = re.search(r"(?m)^\*\*(.+?)\.?\*\*", text)[1]
        [place] = [i for i, choice in enumerate(choices) if choice.lower() == right.lower()]
        named = [found["choice"] for found in directives.NAMED.finditer(text)]
        assert sorted(named) == sorted(choices[:place] + choices[place + 1 :])
        places.add(place)
    assert len(places) > 1


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_minutes_of_sections_are_those_of_their_page_and_a_session_is_no_longer_than_fifty(chapter):
    spent = 0
    for page, found in teaching.sessions(chapter):
        [said] = re.findall(r"\*About (\d+) minutes", " ".join(viewers.cells(f"{page}.ipynb")))
        assert sum(section.minutes for section, _ in found) == int(said)
        heads = re.findall(r"(?m)^## (.+)", "\n".join(viewers.cells(f"{page}.ipynb")))
        assert [section.title for section, _ in found][1:] == [h for h in heads if h != "Exercises"]
        for section, ends in found:
            spent += section.minutes
            assert spent <= teaching.SESSION
            spent = 0 if ends else spent


def test_minutes_are_shared_out_in_whole_ones():
    found = teaching.shared({"a": 1.0, "b": 0.0, "c": 2.0}, 10)
    assert [section.minutes for section in found] == [3, 1, 6]


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_the_table_of_a_chapter_lists_all_its_exercises(chapter):
    found = teaching.exercises_of(chapter, KNOWN)
    wanted = [label for label, page in KNOWN.place.items() if page.startswith(f"{chapter}/")]
    assert [one.label for one in found] == [w for w in wanted if w.startswith("exercise-")]
    assert {one.level for one in found} == {"easy", "medium", "hard"}


@pytest.mark.parametrize("bare", [True, False])
def test_the_table_names_solutions_unless_they_are_left_out(bare, monkeypatch):
    monkeypatch.setattr(teaching.exercises, "left_out", lambda app: bare)
    directive = SimpleNamespace(env=SimpleNamespace(app=None))
    lines = [*teaching.ExercisesDirective.lines(directive, "ch2_search")]
    assert {line.count("|") for line in lines} == {6 if bare else 7}
    assert ("solution" in "".join(lines)) != bare
    found = teaching.exercises_of("ch2_search", KNOWN)
    assert f"| **{sum(one.minutes for one in found)}** |" in lines[-1]


def test_exercises_that_need_python_are_those_with_a_checker():
    needed = [
        one.label.removeprefix("exercise-")
        for chapter in CHAPTERS
        for one in teaching.exercises_of(chapter, KNOWN)
        if one.python
    ]
    assert tuple(needed) == checkers.names()
    for name in needed:
        text = KNOWN.exercises[f"exercise-{name}"]
        assert f'`exercises.check("{name}", answer)` takes ' in text


def built(text):
    """What the directives make of the Markdown ``text`` of a cell."""
    return viewers.myst(text, "ch1_subwords/paths.ipynb")


def test_a_quiz_becomes_a_quiz_and_a_prediction_stays_one():
    answer = (
        "<details><summary>Check</summary>\n\n**This.**\n\n- that: *An error.* No.\n\n</details>"
    )
    for word in ("Quiz", "Predict"):
        text = f"> **{word}.** Which?\n>\n> - this\n> - that\n\n{answer}"
        assert built(text).startswith(f"``````{{{word.lower()}}}\n\nWhich?")
    found = directives.NAMED.search(answer)
    assert (found["choice"], found["error"]) == ("that", "An error")
