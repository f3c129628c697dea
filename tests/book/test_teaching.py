"""The instructor's page: every link shows what it says, every plan is one session."""

import re
import sys
from urllib.parse import parse_qsl

import pytest
from places import BOOK

from genopt_core import explorers

sys.path.insert(0, str(BOOK / "_ext"))
import directives
import viewers

TEXT = (BOOK / "teaching.md").read_text(encoding="utf-8")
LINKS = re.findall(r"\{show\}`([\w-]+): ([^`]+)`", TEXT)
PLANS = re.split(r"(?m)^## ", TEXT)[2:]


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
    wanted = ("Afterwards students can", "They need", "Students think", "To discuss.", "Exercises:")
    for part in wanted:
        assert f"**{part}**" in plan
    assert plan.count("{show}") >= 4


def test_every_chapter_has_a_plan():
    assert len(PLANS) == len(list(BOOK.glob("ch*/index.md")))


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


def built(text):
    """What the directives make of the Markdown ``text`` of a cell."""
    return viewers.myst(text, "ch1_subwords/paths.ipynb")


def test_a_quiz_becomes_a_quiz_and_a_prediction_stays_one():
    answer = "<details><summary>Check</summary>\n\n**This.**\n\n- that: *An error.* No.\n\n</details>"
    for word in ("Quiz", "Predict"):
        text = f"> **{word}.** Which?\n>\n> - this\n> - that\n\n{answer}"
        assert built(text).startswith(f"``````{{{word.lower()}}}\n\nWhich?")
    found = directives.NAMED.search(answer)
    assert (found["choice"], found["error"]) == ("that", "An error")
