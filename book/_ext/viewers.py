r"""Markdown of the notebooks, as every viewer shows it and as the build of the book reads it.

JupyterLab, editors and code hosts know no MyST, so the cells of a notebook hold plain Markdown.  A
few forms of it mean more to the book:

    <a id="swe-profile"></a>                      a labeled equation: the two lines stand together
    $$… \tag{1.7}$$
    > **Theorem 1.1 (Title).** <a id="label"></a>   a quotation that is a theorem or an algorithm
    > **Proof.** …                                  … its proof
    > **The question.** …                           … the box that opens a page
    > **Predict.** …                                … a question; its list, if any, are the choices
    > **Quiz.** …                                   … a question that has its list of choices
    <details><summary>Check</summary>               … and its answer, the right choice in bold
    - this one: *Its error.* Why                    … which a quiz has for each wrong choice
    ### Exercise 1.1: Title                         then *Easy · 10 minutes · 2 points.*, the text
    ## Solution 1.1: Title                          then the exercise again, as a quotation

References are links.  Whoever writes need not write them out: ``{eq}`label```, ``{ref}`label```,
``{prf:ref}`label```, ``{doc}`/page```, ``{cite:t}`key``` and ``{cite:p}`key``` may stand in a cell,
an equation may end on ``$$ (label)``, and a number may be ``?``.  `tidy` makes links of them and
puts every number right; ``make refresh`` does that to all notebooks.  `myst` is the way back.
"""

import json
import posixpath
import re
from collections import Counter
from functools import cache
from pathlib import Path

import exercises
import yaml
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util import logging

from genopt_core import explorers
from genopt_core.figures.widget import MIME, island

logger = logging.getLogger(__name__)

BOOK = Path(__file__).resolve().parent.parent
BIBLIOGRAPHY = "references.bib"
LABEL = r"[a-z0-9]+(?:-[a-z0-9]+)+"
ANCHOR = rf'<a id="({LABEL})"></a>'
EQUATION = re.compile(rf"(?m)^((?:> )?){ANCHOR}\n\1\$\$(.*?)\s*\\tag\{{[^}}]*\}}\$\$")
NEW_EQUATION = re.compile(rf"(?m)^((?:> )?)\$\$(.*?)\$\$ \(({LABEL})\)$")
STATEMENT = re.compile(rf"> \*\*(Theorem|Algorithm) (\S+) \((.+?)\)\.\*\* {ANCHOR}")
HEADING = re.compile(r"(?m)^(#+) (Exercise|Solution) (\S+): (.+)$")
# What may stand behind the last exercise of a page and is no part of it.
AFTER = re.compile(r"(?m)^(?:> )?(?:\*\*Next\.|Solutions, executed)")
ROLE = re.compile(r"\{(eq|prf:ref|ref|doc|cite:t|cite:p)\}`(?:([^`<]*?) <)?([^`>]+)>?`")
CITED = rf"\[[^\]]+\]\([^)\s]*{re.escape(BIBLIOGRAPHY)}#([\w-]+)\)"


def slug(title: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")


def cells(page: str) -> list[str]:
    """The Markdown cells of the notebook ``page``, a path below the book."""
    notebook = json.loads((BOOK / page).read_text(encoding="utf-8"))
    return [
        "".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "markdown"
    ]


# ------------------------------------------------------------------ what can be referred to


class Book:
    """What the pages define: where each label is, its number and its title."""

    def __init__(self) -> None:
        self.place: dict[str, str] = {}
        self.number: dict[str, str] = {}
        self.title: dict[str, str] = {}
        self.kind: dict[str, str] = {}
        self.exercises: dict[str, str] = {}
        chapters = yaml.safe_load((BOOK / "_toc.yml").read_text(encoding="utf-8"))["parts"]
        number = 0
        for part in chapters:
            for chapter in part["chapters"]:
                number += bool(part.get("numbered"))
                counts: Counter[str] = Counter()
                for entry in [chapter, *chapter.get("sections", [])]:
                    self._read(entry["file"], number if part.get("numbered") else 0, counts)

    def _read(self, name: str, chapter: int, counts: Counter[str]) -> None:
        markdown = BOOK / f"{name}.md"
        page = f"{name}.md" if markdown.exists() else f"{name}.ipynb"
        texts = [markdown.read_text(encoding="utf-8")] if markdown.exists() else cells(page)
        for text in texts:
            title = re.search(r"(?m)^# (.+)", text)
            if title:
                self.title.setdefault(f"/{name}", title[1])
                self.place[f"/{name}"] = page
            for label, heading in re.findall(rf"(?m)^\(({LABEL})\)=\n+#+ (.+)", text):
                self.place[label], self.title[label] = page, heading
            for label in re.findall(rf"{ANCHOR}\n(?:> )?\$\$|\$\$ \(({LABEL})\)$", text, re.M):
                self._add("equation", "".join(label), page, chapter, counts)
            for kind, _, title_, label in STATEMENT.findall(text):
                self._add(kind, label, page, chapter, counts)
                self.title[label] = title_
            for block in re.split(r"(?m)^(?=#+ )", text):
                for _, kind, _, title_ in HEADING.findall(block):
                    label = f"{kind.lower()}-{slug(title_)}"
                    self.place[label], self.title[label] = page, title_
                    if kind == "Exercise":
                        self._add(kind, label, page, chapter, counts)
                        body = re.split(AFTER, block.partition("\n")[2])[0]
                        self.exercises[label] = body.strip()

    def _add(self, kind: str, label: str, page: str, chapter: int, counts: Counter[str]) -> None:
        counts[kind] += 1
        self.kind[label] = kind
        self.place[label], self.number[label] = page, f"{chapter}.{counts[kind]}"
        if kind == "Exercise":
            self.number[label.replace("exercise-", "solution-", 1)] = self.number[label]


@cache
def bibliography() -> dict[str, tuple[str, str]]:
    """Authors, short, and year by key."""
    from pybtex.database import parse_file

    def short(names: list[str]) -> str:
        return (
            names[0]
            if len(names) == 1
            else " and ".join(names)
            if len(names) == 2 and names[1] != "others"
            else f"{names[0]} et al."
        )

    return {
        key: (
            short([" ".join(p.prelast_names + p.last_names) for p in entry.persons["author"]]),
            entry.fields["year"],
        )
        for key, entry in parse_file(str(BOOK / BIBLIOGRAPHY)).entries.items()
    }


# ------------------------------------------------------------------ references


def roles(text: str, page: str) -> str:
    """``text`` with the links that mean more to the book written as roles."""

    def absolute(link: str) -> str:
        joined = posixpath.normpath(posixpath.join(posixpath.dirname(page), link))
        return "/" + posixpath.splitext(joined)[0]

    text = re.sub(
        rf"\({CITED}(?:; {CITED})*\)",
        lambda m: "{cite:p}`" + ",".join(re.findall(CITED, m[0])) + "`",
        text,
    )
    text = re.sub(CITED, r"{cite:t}`\1`", text)
    text = re.sub(rf"\[\([\d.?]+\)\]\([^)\s]*#({LABEL})\)", r"{eq}`\1`", text)
    text = re.sub(
        rf"\[(?:Theorem|Algorithm) [\d.?]+\]\([^)\s]*#({LABEL})\)", r"{prf:ref}`\1`", text
    )
    text = re.sub(
        r"\[([^\]]+)\]\([^)\s]*#(Exercise|Solution)-[^:)\s]*:-([^)\s]+)\)",
        lambda m: f"{{ref}}`{m[1]} <{m[2].lower()}-{slug(m[3])}>`",
        text,
    )
    text = re.sub(rf"\[([^\]]+)\]\([^)\s:]*\.md#({LABEL})\)", r"{ref}`\1 <\2>`", text)
    return re.sub(
        r"\[([^\]]+)\]\(([^)\s:]+\.(?:ipynb|md))\)",
        lambda m: f"{{doc}}`{m[1]} <{absolute(m[2])}>`",
        text,
    )


def links(text: str, page: str, book: Book) -> str:
    """``text`` with roles written as links, and numbers of what it defines put right."""

    def to(target: str, fragment: str = "") -> str:
        here = posixpath.dirname(page) or "."
        path = "" if target == page and fragment else posixpath.relpath(target, here)
        return path + (f"#{fragment}" if fragment else "")

    def link(match: re.Match) -> str:
        role, words, label = match.groups()
        if role.startswith("cite"):
            shape = "[{} ({})]({})" if role == "cite:t" else "[{}, {}]({})"
            keys = [key.strip() for key in label.split(",")]
            found = [shape.format(*bibliography()[key], to(BIBLIOGRAPHY, key)) for key in keys]
            return " and ".join(found) if role == "cite:t" else f"({'; '.join(found)})"
        place = book.place[label]
        if role == "eq":
            return f"[({book.number[label]})]({to(place, label)})"
        if role == "prf:ref":
            return f"[{book.kind[label]} {book.number[label]}]({to(place, label)})"
        if label.startswith(("exercise-", "solution-")):
            kind = label.partition("-")[0].title()
            heading = f"{kind} {book.number[label]}: {book.title[label]}".replace(" ", "-")
            return f"[{words or kind}]({to(place, heading)})"
        return f"[{words or book.title[label]}]({to(place, '' if role == 'doc' else label)})"

    text = ROLE.sub(link, text)
    text = NEW_EQUATION.sub(r'\1<a id="\3"></a>' + "\n" + r"\1$$\2\\tag{?}$$", text)
    text = EQUATION.sub(
        lambda m: f'{m[1]}<a id="{m[2]}"></a>\n{m[1]}$${m[3]} \\tag{{{book.number[m[2]]}}}$$',
        text,
    )
    text = STATEMENT.sub(
        lambda m: f'> **{m[1]} {book.number[m[4]]} ({m[3]}).** <a id="{m[4]}"></a>', text
    )
    return HEADING.sub(
        lambda m: f"{m[1]} {m[2]} {book.number[f'{m[2].lower()}-{slug(m[4])}']}: {m[4]}", text
    )


def asked_again(text: str, page: str, book: Book) -> str:
    """``text`` with each solution opened by its exercise, as it stands now, and a link back."""

    def quoted(match: re.Match) -> str:
        name = slug(match[4])
        where = book.place[f"exercise-{name}"]
        exercise = roles(book.exercises[f"exercise-{name}"], where)
        question = re.sub(r"\s*\{ref\}`Solution <[^>]+>`", "", exercise)
        lines = f"{question}\n\n{{ref}}`Back to the exercise <exercise-{name}>`".split("\n")
        quote = "\n".join(f"> {line}".rstrip() for line in lines)
        return f"{match[1]}\n\n{quote}\n\n"  # without the blank line the text would join it

    return re.sub(
        r"(?m)^(?P<all>(#+) (Solution) \S+: (?P<title>.+))\n+(?:>.*\n?)*\n*",
        lambda m: quoted({1: m["all"], 4: m["title"]}),  # type: ignore[arg-type]
        text,
    )


def tidy(text: str, page: str, book: Book) -> str:
    """The cell ``text`` of ``page`` with every reference a link and every number right."""
    return links(asked_again(roles(text, page), page, book), page, book)


# ------------------------------------------------------------------ as the build reads it


def fenced(name: str, body: str, argument: str = "", **options: str) -> str:
    lines = [f"``````{{{name}}} {argument}".rstrip()]
    lines += [f":{key}: {value}" for key, value in options.items()]
    return "\n".join([*lines, "", body.strip(), "``````", ""])


def equations(text: str) -> str:
    return EQUATION.sub(r"\1$$\3$$ (\2)", text)


def quotation(match: re.Match) -> str:
    """A quotation as the directive that it means, if it means one."""
    inner = "\n".join(line[2:] for line in match["quote"].splitlines())
    asked = re.match(r"\*\*(Predict|Quiz)\.\*\* ", inner)
    if asked:
        question, _, choices = inner[asked.end() :].partition("\n\n- ")
        choices = "- " + choices if choices else ""
        answer = match["answer"]
        if not answer:
            raise ValueError(f"no <details> with the answer below: {inner}")
        return fenced(asked[1].lower(), "\n\n%%%\n\n".join((question, choices, answer.strip())))
    rest = match[0].removeprefix(match["quote"])
    if inner.startswith("**The question.** "):
        body = inner.removeprefix("**The question.** ")
        return fenced("admonition", body, "The question", **{"class": "tip"}) + rest
    if inner.startswith("**Proof.** "):
        return fenced("prf:proof", inner.removeprefix("**Proof.** ")) + rest
    statement = STATEMENT.match(f"> {inner}")
    if statement:
        kind, _, title, label = statement.groups()
        body = f"> {inner}"[statement.end() :]
        return fenced(f"prf:{kind.lower()}", body, title, label=label) + rest
    return match[0]


QUOTATION = re.compile(
    r"(?m)(?P<quote>(?:^>.*\n?)+)"
    r"(?:\n<details>\n?<summary>Check</summary>\n(?P<answer>(?s:.*?))\n</details>\n?)?"
)


def myst(text: str, page: str) -> str:
    """The cell ``text`` of ``page`` as MyST."""
    text = equations(roles(text, page))
    text = QUOTATION.sub(quotation, text)
    text = HEADING.sub(lambda m: f"({m[2].lower()}-{slug(m[4])})=\n{m[0]}", text)
    return exercises.badges(text)


def read(app: Sphinx, name: str, source: list[str]) -> None:
    """Hand a page to the build as MyST: a notebook, or a Markdown page with its predictions."""
    bare = exercises.without_solutions if exercises.left_out(app) else str
    if not app.env.doc2path(name).endswith(".ipynb"):
        source[0] = QUOTATION.sub(quotation, bare(source[0]))
        return
    notebook = json.loads(source[0])
    for cell in notebook["cells"]:
        if cell["cell_type"] == "markdown":
            cell["source"] = myst(bare("".join(cell["source"])), f"{name}.ipynb")
        for output in cell.get("outputs", []):
            shown = output.get("data", {}).get(MIME)
            if shown:
                one = explorers.get(shown["name"])
                output["data"] = {"text/html": island(one, shown["params"])}
    source[0] = json.dumps(notebook)


def numbers_agree(app: Sphinx, env: BuildEnvironment) -> None:
    """Warn, which is an error here, if a page counts its equations otherwise than its notebook."""
    book = Book()
    for label, (page, _) in env.get_domain("math").equations.items():  # type: ignore[attr-defined]
        numbers = env.toc_fignumbers.get(page, {}).get("displaymath", {})
        counted = ".".join(map(str, numbers.get(f"equation-{label}", ())))
        if counted != book.number.get(label, counted):
            logger.warning(f"equation {label} is {counted} here, {book.number[label]} in notebooks")
