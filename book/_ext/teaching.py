"""What the instructor's page reads from the chapters: minutes, exercises, where a session ends."""

import json
import re
from collections.abc import Iterator
from typing import NamedTuple

import exercises
import viewers
import yaml
from docutils import nodes
from sphinx.util.docutils import SphinxDirective

SESSION = 50  # minutes
WORDS_A_MINUTE = 180


class Exercise(NamedTuple):
    """An exercise by its label, and what its first line says."""

    label: str
    number: str
    title: str
    level: str
    minutes: int
    points: int
    python: bool


class Section(NamedTuple):
    """A section of a page: its heading and the minutes it takes."""

    title: str
    minutes: int


def parts(chapter: str) -> list[str]:
    """The pages of ``chapter`` that explain, in reading order."""
    table = yaml.safe_load((viewers.BOOK / "_toc.yml").read_text(encoding="utf-8"))
    files = [
        page["file"]
        for part in table["parts"]
        for one in part["chapters"]
        if one["file"] == f"{chapter}/index"
        for page in one["sections"]
    ]
    ends = ("/evidence", exercises.PAGE_OF_SOLUTIONS)
    return [page for page in files if not page.endswith(ends)]


def exercises_of(chapter: str, book: viewers.Book) -> list[Exercise]:
    found = []
    for label, text in book.exercises.items():
        head = exercises.HEAD.match(text)
        if not head:
            raise ValueError(f"{label} must open with level, minutes and points, got {text[:60]!r}")
        if book.place[label].startswith(f"{chapter}/"):
            minutes, points = int(head["minutes"]), int(head["points"])
            level, python = head["level"].lower(), bool(head["python"])
            found.append(
                Exercise(
                    label, book.number[label], book.title[label], level, minutes, points, python
                )
            )
    return found


def code_minutes(cell: dict) -> float:
    """A figure is looked at for two minutes, code that is not folded read for half a one."""
    shown = any("image" in key for out in cell["outputs"] for key in out.get("data", {}))
    folded = {"hide-input", "hide-cell"} & set(cell["metadata"].get("tags", []))
    return 2.0 * shown + 0.5 * (not folded)


def text_minutes(text: str) -> float:
    """A labeled formula takes a minute beside its words."""
    count = len(re.findall(r"[A-Za-z][\w'-]*", text))
    return count / WORDS_A_MINUTE + len(viewers.EQUATION.findall(text))


def sections(page: str) -> list[Section]:
    """The minutes that ``page`` says it takes, shared out by words, formulas, code and figures.

    Exercises are left out: they come on top of what a page says.
    """
    notebook = json.loads((viewers.BOOK / f"{page}.ipynb").read_text(encoding="utf-8"))
    shares: dict[str, float] = {"": 0.0}
    total = 0
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            shares[list(shares)[-1]] += code_minutes(cell)
            continue
        source = "".join(cell["source"])
        said = re.search(r"\*About (\d+) minutes", source)
        total = int(said[1]) if said else total
        for block in re.split(r"(?m)^(?=## )", source):
            head = re.match(r"## (.+)", block)
            if head:
                shares[head[1]] = 0.0
            shares[list(shares)[-1]] += text_minutes(block)
    shares.pop("Exercises", None)
    return shared(shares, total)


def shared(shares: dict[str, float], total: int) -> list[Section]:
    """``total`` minutes in whole ones, in proportion to ``shares``, at least one for each."""
    whole = sum(shares.values())
    exact = {title: max(1.0, total * share / whole) for title, share in shares.items()}
    scale = total / sum(exact.values())
    found, before, given = [], 0.0, 0
    for title, minutes in exact.items():
        before += minutes * scale
        found.append(Section(title, max(1, round(before) - given)))
        given += found[-1].minutes
    return found


def sessions(chapter: str) -> Iterator[tuple[str, list[tuple[Section, bool]]]]:
    """Each page with its sections, and whether a session of 50 minutes ends behind one."""
    spent = 0
    pages = [(page, sections(page)) for page in parts(chapter)]
    flat = [section for _, found in pages for section in found]
    ends, at = set(), 0
    for number, section in enumerate(flat):
        if spent and spent + section.minutes > SESSION:
            ends.add(number - 1)
            spent = 0
        spent += section.minutes
    for page, found in pages:
        yield page, [(section, at + i in ends) for i, section in enumerate(found)]
        at += len(found)


class FromChapter(SphinxDirective):
    """A table that is read from the pages of the chapter which is its argument."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        chapter = self.arguments[0]
        for page in parts(chapter):
            self.env.note_dependency(str(viewers.BOOK / f"{page}.ipynb"))
        return self.parse_text_to_nodes("\n".join(self.lines(chapter)))

    def lines(self, chapter: str) -> Iterator[str]:
        raise NotImplementedError


class ExercisesDirective(FromChapter):
    """``{exercises} chapter``: its exercises with level, time, points, and their solutions."""

    def lines(self, chapter: str) -> Iterator[str]:
        bare = exercises.left_out(self.env.app)
        found = exercises_of(chapter, viewers.Book())
        last = "" if bare else " solution |"
        yield f"| exercise | level | minutes | points | Python |{last}"
        yield "|---|---|--:|--:|---|" + ("" if bare else "---|")
        for one in found:
            solution = one.label.replace("exercise-", "solution-", 1)
            link = "" if bare else f" {{ref}}`{one.number} <{solution}>` |"
            yield (
                f"| {{ref}}`{one.number} {one.title} <{one.label}>` | {one.level} | {one.minutes} "
                f"| {one.points} | {'needed' if one.python else ''} |{link}"
            )
        minutes, points = sum(one.minutes for one in found), sum(one.points for one in found)
        end = "" if bare else " |"
        yield f"| **All {len(found)}** | | **{minutes}** | **{points}** | |{end}"


class SectionsDirective(FromChapter):
    """``{sections} chapter``: the minutes of its sections, and where a session ends."""

    def lines(self, chapter: str) -> Iterator[str]:
        yield "| page and section | minutes | session |"
        yield "|---|--:|---|"
        for page, found in sessions(chapter):
            total = sum(section.minutes for section, _ in found)
            yield f"| **{{doc}}`/{page}`** | **{total}** | |"
            for section, ends in found:
                title = section.title or "Opening figure"
                yield f"| {title} | {section.minutes} | {'**stop here**' if ends else ''} |"
