"""What authors write besides Markdown: explorers, links to their presets, *predict, then check*."""

import html
import json
import re
from functools import cache
from pathlib import Path
from urllib.parse import urlencode

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective, SphinxRole

from genopt_core import explorers
from genopt_core.figures.widget import island

# In an answer, what a wrong choice is mistaken about: "- the choice: *Its error.* Why."
NAMED = re.compile(r"(?m)^- (?P<choice>.+?): \*(?P<error>[^*]+)\.\* \S")


class ExplorerDirective(SphinxDirective):
    """``{explorer} name`` puts an explorer on a Markdown page; its body is JSON, the settings."""

    required_arguments = 1
    has_content = True

    def run(self) -> list[nodes.Node]:
        params = json.loads("\n".join(self.content) or "{}")
        try:
            explorers.get(self.arguments[0]).check(params)
        except (KeyError, TypeError, ValueError) as problem:
            raise self.error(str(problem)) from problem
        return [nodes.raw("", island(explorers.get(self.arguments[0]), params), format="html")]


def raw(text: str) -> nodes.raw:
    return nodes.raw("", text, format="html")


BOOK = Path(__file__).resolve().parent.parent


@cache
def pages() -> dict[str, str]:
    """The first page on which each explorer stands, without its ending."""
    found: dict[str, str] = {}
    for path in sorted(BOOK.glob("ch*/*.ipynb")):
        for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
            for name in re.findall(r'\bexplore\("([\w-]+)"', "".join(cell["source"])):
                found.setdefault(name, path.relative_to(BOOK).with_suffix("").as_posix())
    return found


def address(name: str, label: str) -> tuple[str, str]:
    """The page and the hash that show a preset of an explorer, as *Copy link* writes them."""
    shown = explorers.get(name)
    presets = {preset.label: preset.params for preset in shown.presets}
    if label not in presets:
        raise ValueError(f"{name} has the presets {', '.join(presets)}, got {label!r}")
    changed = {
        control.name: int(value) if isinstance(value, bool) else value
        for control in shown.controls
        if (value := (shown.defaults | presets[label])[control.name]) != control.default
    }
    return pages()[name], urlencode({"explorer": name, **changed})


class ShowRole(SphinxRole):
    """``{show}`name: preset` `` links to an explorer with a preset of it set up."""

    def run(self) -> tuple[list[nodes.Node], list[nodes.system_message]]:
        name, _, label = self.text.partition(": ")
        try:
            page, query = address(name, label)
        except (KeyError, ValueError) as problem:
            message = self.inliner.reporter.error(str(problem), line=self.lineno)
            return [nodes.problematic(self.rawtext, self.rawtext)], [message]
        target = self.env.app.builder.get_relative_uri(self.env.docname, page)
        title = f"{explorers.get(name).title}: {label}"
        return [nodes.reference("", title, refuri=f"{target}#{query}", internal=True)], []


class PredictDirective(SphinxDirective):
    """A question with choices, or for a number, and its answer, which begins with the right one.

    Three parts, ``%%%`` between them; `viewers.myst` writes them.  The answer unfolds once the
    reader has chosen (``predict.js``), and names the error of a wrong choice where the answer has
    it; without JavaScript it is a ``<details>``.
    """

    has_content = True
    word = "Predict"

    def inline(self, text: str) -> nodes.inline:
        parsed, messages = self.parse_inline(" ".join(text.split()))
        return nodes.inline("", "", *parsed, *messages)

    def run(self) -> list[nodes.Node]:
        parts = re.split(r"(?m)^%%%$", "\n".join(self.content))
        if len(parts) != 3:
            raise self.error(f"a question needs choices or none, and an answer: {self.content}")
        question, choices, answer = parts
        texts = re.findall(r"(?m)^- (.+)$", choices)
        errors = {found["choice"]: found["error"] for found in NAMED.finditer(answer)}
        before = len(question.splitlines()) + len(choices.splitlines())
        body = self.parse_text_to_nodes(answer, offset=self.content_offset + before)
        strong = next((node for part in body for node in part.findall(nodes.strong)), None)
        right = strong.astext().rstrip(".:") if strong else ""
        name = f"predict-{self.env.new_serialno('predict')}"
        asked = [self.inline(choice) for choice in texts]
        if asked:
            known = [choice.astext().lower() for choice in asked]
            if right.lower() not in known:
                raise self.error(f"the answer must begin with one of {known} in bold, got {right}")
            right = str(known.index(right.lower()))
        elif not re.fullmatch(r"-?\d+(\.\d+)?", right):
            raise self.error(f"the answer must begin with a number in bold, got {right!r}")
        self.complete(texts, errors, right if asked else "")
        box = nodes.container(classes=["predict", self.word.lower()])
        box += raw(f'<form data-right="{html.escape(right)}"><fieldset><legend>')
        box += [nodes.strong("", f"{self.word}. "), self.inline(question), raw("</legend>")]
        for number, choice in enumerate(asked):
            error = html.escape(errors.get(texts[number], ""))
            named = f' data-error="{error}"' if error else ""
            radio = f'<input type="radio" name="{name}" value="{number}"{named} required>'
            box += [raw(f"<label>{radio} "), choice, raw("</label>")]
        if not asked:
            field = f'<input type="number" name="{name}" step="any" required>'
            box += raw(f"<label>Your number {field}</label>")
        box += raw(
            '<button type="submit" hidden>Check</button></fieldset><output></output></form>'
            "<details><summary>Answer</summary>"
        )
        box += [*body, raw("</details>")]
        return [box]

    def complete(self, choices: list[str], errors: dict[str, str], right: str) -> None:
        """A prediction may leave the errors of its wrong choices unnamed."""
        if errors.keys() - set(choices):
            raise self.error(
                f"the answer names what is no choice: {[*errors.keys() - set(choices)]}"
            )


class QuizDirective(PredictDirective):
    """A question that closes a section: every wrong choice is named, with a sentence why."""

    word = "Quiz"

    def complete(self, choices: list[str], errors: dict[str, str], right: str) -> None:
        super().complete(choices, errors, right)
        wrong = [choice for number, choice in enumerate(choices) if str(number) != right]
        if len(choices) < 3 or wrong != [choice for choice in choices if choice in errors]:
            raise self.error(f"a quiz needs three choices and names its wrong ones: {choices}")


def fold_predicted(app: Sphinx, doctree: nodes.document) -> None:
    """Move a cell tagged ``predicted`` into the answer of the question right above it."""
    for cell in [*doctree.findall(nodes.container)]:
        if "tag_predicted" not in cell["classes"]:
            continue
        place = cell.parent.index(cell)
        box = cell.parent[place - 1]
        if "predict" not in box.get("classes", ()):
            raise ValueError(f"no question right above the cell {cell.astext()[:80]!r}")
        cell.parent.remove(cell)
        box.insert(len(box) - 1, cell)
