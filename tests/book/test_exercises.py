"""Exercises: level, time, points, an executed solution for each, and a book without solutions."""

import json
import re
import sys

import nbformat
import pytest
import yaml
from places import BOOK

sys.path.insert(0, str(BOOK / "_ext"))
import exercises
import viewers

PAGES = sorted(
    page
    for page in [*BOOK.glob("ch*/*.ipynb"), *BOOK.glob("ch*/*.md"), BOOK / "teaching.md"]
    if not exercises.is_solution(page.stem)
)
KNOWN = viewers.Book()


def solution_cells(label):
    """The cells of the solution of exercise ``label``, its heading first."""
    page = BOOK / KNOWN.place[label.replace("exercise-", "solution-", 1)]
    cells = nbformat.read(page, 4).cells
    heading = f"## Solution {KNOWN.number[label]}: {KNOWN.title[label]}\n"
    start = next(i for i, cell in enumerate(cells) if cell.source.startswith(heading))
    ends = (i for i in range(start + 1, len(cells)) if cells[i].source.startswith("## "))
    return cells[start : next(ends, len(cells))]


@pytest.mark.parametrize("label", KNOWN.exercises)
def test_an_exercise_says_level_time_and_points(label):
    head = exercises.HEAD.match(KNOWN.exercises[label])
    assert head, KNOWN.exercises[label][:80]
    assert int(head["points"]) == exercises.POINTS[head["level"]]
    least, most = {"Easy": (5, 15), "Medium": (15, 30), "Hard": (30, 60)}[head["level"]]
    assert least <= int(head["minutes"]) <= most


@pytest.mark.parametrize("label", KNOWN.exercises)
def test_an_exercise_and_its_executed_solution_lead_to_each_other(label):
    solution = label.replace("exercise-", "solution-", 1)
    assert KNOWN.place[solution] == KNOWN.place[label].replace(".ipynb", "_solutions.ipynb")
    text = viewers.roles(KNOWN.exercises[label], KNOWN.place[label])
    assert re.findall(r"\{ref\}`Solution <([^>]+)>`", text) == [solution]
    heading, *rest = solution_cells(label)
    back = viewers.roles(heading.source, KNOWN.place[solution])
    assert f"{{ref}}`Back to the exercise <{label}>`" in back
    code = [cell for cell in rest if cell.cell_type == "code"]
    assert any(cell.execution_count and cell.outputs for cell in code)


def test_the_opening_words_become_badges():
    text = "*Medium · needs Python · 20 minutes · 4 points.* Why?"
    assert viewers.myst(text, "ch1_subwords/paths.ipynb") == (
        "[medium]{.level} [needs Python]{.level .python} [20 minutes · 4 points]{.effort} Why?"
    )
    assert viewers.myst("> *Easy · 5 minutes · 2 points.* Why?", "ch1_subwords/paths.ipynb") == (
        "> [easy]{.level} [5 minutes · 2 points]{.effort} Why?"
    )


@pytest.mark.parametrize("page", PAGES, ids=lambda page: f"{page.parent.name}/{page.stem}")
def test_no_link_to_a_solution_is_left_in_a_book_without_them(page):
    whole = page.read_text(encoding="utf-8")
    texts = viewers.cells(str(page.relative_to(BOOK))) if page.suffix == ".ipynb" else [whole]
    for text in texts:
        bare = exercises.without_solutions(text)
        assert exercises.PAGE_OF_SOLUTIONS not in bare
        links = text.count(exercises.PAGE_OF_SOLUTIONS)
        assert len(text.split()) - len(bare.split()) <= 7 * links  # nothing else went


def test_what_is_taken_out_is_the_link_and_the_sentence_around_it():
    text = (
        "Why? [Solution](paths_solutions.ipynb#Solution-1.1:-Why)\n\n"
        "Solutions, executed: [Solutions: a](paths_solutions.ipynb). **Next.** [On](b.ipynb)."
        " See [there](paths_solutions.ipynb#x)."
    )
    assert exercises.without_solutions(text) == "Why?\n\n**Next.** [On](b.ipynb). See there."
    text = "Words.\nSolutions to the exercises: {doc}`a_solutions`, {doc}`b <c_solutions>`.\n"
    assert exercises.without_solutions(text) == "Words.\n"


def test_the_contents_without_solutions_are_those_of_the_book_less_the_solutions():
    def files(entry):
        for key in ("parts", "chapters", "sections"):
            for one in entry.get(key, []):
                yield one.get("file")
                yield from files(one)

    whole = (BOOK / "_toc.yml").read_text(encoding="utf-8")
    bare = exercises.listed(whole)
    assert yaml.safe_load(bare)["root"] == "index"
    every = [*files(yaml.safe_load(whole))]
    assert {one for one in every if exercises.is_solution(one or "")} == {
        page.relative_to(BOOK).with_suffix("").as_posix()
        for page in BOOK.glob("ch*/*_solutions.ipynb")
    }
    kept = [one for one in every if not exercises.is_solution(one or "")]
    assert [*files(yaml.safe_load(bare))] == kept


class App:
    """As much of Sphinx's application as `viewers.read` asks."""

    def __init__(self, folder, name):
        self.srcdir = folder
        self.config = self.env = self
        self.external_toc_path = "toc.yml"
        self.name = name

    def doc2path(self, name):
        return f"{name}{self.name}"


@pytest.mark.parametrize("bare", [True, False])
def test_the_build_drops_solutions_if_its_contents_do_not_list_them(tmp_path, bare):
    table = "root: index\nchapters:\n- file: a\n- file: a_solutions\n"
    (tmp_path / "toc.yml").write_text(exercises.listed(table) if bare else table)
    link = "[Solution](paths_solutions.ipynb#Solution-1.1:-Count-the-ways)"
    notebook = {"cells": [{"cell_type": "markdown", "source": f"Why? {link}"}]}
    source = [json.dumps(notebook)]
    viewers.read(App(tmp_path, ".ipynb"), "ch1_subwords/paths", source)
    [cell] = json.loads(source[0])["cells"]
    wanted = "Why?" if bare else "Why? {ref}`Solution <solution-count-the-ways>`"
    assert cell["source"] == wanted
    source = ["Solutions to the exercises: {doc}`a_solutions`.\n"]
    viewers.read(App(tmp_path, ".md"), "ch1_subwords/index", source)
    assert ("olutions" in source[0]) != bare
