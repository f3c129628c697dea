"""Cells of notebooks: plain Markdown for every viewer, MyST for the build, one from the other."""

import re

import pytest
from places import BOOK

from book._ext import viewers

PAGE = "ch1_subwords/vocabulary.ipynb"
ROLES = {
    "{eq}`swe-cost`": "[(1.1)](paths.ipynb#swe-cost)",
    "{eq}`swe-tradeoff`": r"\[\(1\.\d+\)\]\(#swe-tradeoff\)",
    "{prf:ref}`swe-layers`": "[Theorem 1.2](paths.ipynb#swe-layers)",
    "{prf:ref}`kv-saq`": "[Algorithm 5.1](../ch5_kvcache/staircase.ipynb#kv-saq)",
    "{ref}`our words <how-sure>`": "[our words](../how_to_read.md#how-sure)",
    "{doc}`the first part </ch1_subwords/paths>`": "[the first part](paths.ipynb)",
    "{cite:t}`kudo2018subword`": "[Kudo (2018)](../references.bib#kudo2018subword)",
    "{cite:p}`gage1994new,sennrich2016neural`": (
        "([Gage, 1994](../references.bib#gage1994new);"
        " [Sennrich et al., 2016](../references.bib#sennrich2016neural))"
    ),
    "{ref}`Solution <solution-count-the-ways>`": (
        "[Solution](paths_solutions.ipynb#Solution-1.1:-Count-the-ways)"
    ),
}


@pytest.fixture(scope="module")
def book():
    return viewers.Book()


@pytest.mark.parametrize("role", ROLES)
def test_a_role_becomes_a_link_and_the_link_the_role(book, role):
    link = viewers.tidy(f"See {role}.", PAGE, book)
    wanted = f"See {ROLES[role]}."
    assert link == wanted or re.fullmatch(wanted, link)
    assert viewers.roles(link, PAGE) == f"See {role}."


def test_a_wrong_number_is_put_right(book):
    for said in ("9.9", "?"):
        text = f"[({said})](paths.ipynb#swe-cost), [Theorem {said}](paths.ipynb#swe-layers)"
        right = "[(1.1)](paths.ipynb#swe-cost), [Theorem 1.2](paths.ipynb#swe-layers)"
        assert viewers.tidy(text, PAGE, book) == right


def test_a_label_that_nobody_defines_is_an_error(book):
    with pytest.raises(KeyError, match="swe-nowhere"):
        viewers.tidy("{eq}`swe-nowhere`", PAGE, book)


@pytest.mark.parametrize("mark", ["", "> "])
def test_an_equation_gets_its_anchor_and_number(book, mark):
    written = f"{mark}$$a<b$$ (swe-cost)"
    plain = f'{mark}<a id="swe-cost"></a>\n{mark}$$a<b \\tag{{1.1}}$$'
    assert viewers.tidy(written, PAGE, book) == plain
    assert viewers.equations(plain) == written


def test_quotations_become_what_they_mean():
    text = (
        "> **The question.** What?\n>\n> *5 minutes.*\n\n"
        '> **Theorem 1.2 (Title).** <a id="swe-layers"></a>Let $a$.\n>\n> $$b$$\n\n'
        "> **Proof.** Clear.\n\n> Just a quotation.\n"
    )
    built = viewers.myst(text, PAGE)
    assert "``````{admonition} The question\n:class: tip\n\nWhat?\n\n*5 minutes.*\n" in built
    assert "``````{prf:theorem} Title\n:label: swe-layers\n\nLet $a$.\n\n$$b$$\n" in built
    assert "``````{prf:proof}\n\nClear.\n" in built
    assert built.endswith("> Just a quotation.\n")


def test_a_prediction_becomes_one_directive_and_needs_an_answer():
    question = "> **Predict.** Which?\n>\n> - this\n> - that\n"
    answer = "\n<details><summary>Check</summary>\n\n**That.** For\n\n> a reason.\n\n</details>\n"
    parts = viewers.myst(f"Before.\n\n{question}{answer}\nAfter.", PAGE).split("%%%")
    assert [part.strip() for part in parts[1:2]] == ["- this\n- that"]
    assert parts[0].startswith("Before.\n\n``````{predict}\n\nWhich?")
    assert parts[2].strip() == "**That.** For\n\n> a reason.\n``````\n\nAfter."
    with pytest.raises(ValueError, match="answer below"):
        viewers.myst(question, PAGE)


def test_a_solution_opens_with_its_exercise_as_it_stands_now(book):
    page = "ch1_subwords/paths_solutions.ipynb"
    text = viewers.tidy("## Solution 9.9: Count the ways\n\n> old\n> words\n\nHere.", page, book)
    head, question, back, here = re.split(r"\n\n|\n>\n", text)
    assert head == "## Solution 1.1: Count the ways"
    assert re.match(r"> \*Easy · [^*]+\.\* How many ways", question)
    assert back == "> [Back to the exercise](paths.ipynb#Exercise-1.1:-Count-the-ways)"
    assert here == "Here."


def test_labels_are_on_one_page_each(book):
    found = [
        label
        for page in sorted(BOOK.glob("ch*/*.ipynb"))
        for cell in viewers.cells(page.relative_to(BOOK).as_posix())
        for label in re.findall(viewers.ANCHOR, cell)
    ]
    assert len(found) == len(set(found))
    assert set(found) <= book.place.keys()


def test_an_exercise_ends_before_the_box_that_leads_on(book):
    assert len(book.exercises) > 20
    for exercise in book.exercises.values():
        assert "Next." not in exercise
        assert "Solutions, executed" not in exercise


def test_a_solution_does_not_join_the_quotation_above_it(book):
    page = "ch1_subwords/paths_solutions.ipynb"
    once = viewers.tidy("## Solution ?: Count the ways\n\nChoose.", page, book)
    assert once.startswith("## Solution 1.1: Count the ways\n\n> *Easy · ")
    assert once.endswith(")\n\nChoose.")
    assert viewers.tidy(once, page, book) == once
