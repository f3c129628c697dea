"""Slides of each chapter, made of its built pages: ``python make.py slides``.

A slide for each formula with a label, each figure, table, theorem and question; the answer of a
question is one step further, and a long table has several slides.  Figures move as they do on the
page.  Nothing is written a second time.
"""

import html as escaping
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from bs4 import Tag
from chapters import SOURCES, Chapter, Page, chapters, moved, soup, without, words

FOLDER = "slides"
LEFT_OUT = ("a.headerlink", ".copybtn", ".gx-print", "details.hide", "button.toggle-button")
FIGURE = ".genopt-explorer, .cell_output img"
MOST_ROWS = 16  # of a table, in letters that one reads from afar

DECK = """\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}: slides</title>
<link rel="stylesheet" href="../_static/reveal/reveal.css">
<link rel="stylesheet" href="../_static/genopt/explore.css">
<link rel="stylesheet" href="../_static/slides.css">
{scripts}
<script defer src="../_static/genopt/explore.js"></script>
<script defer src="../_static/reveal/reveal.js"></script>
<script defer src="../_static/slides.js"></script>
</head>
<body>
<div class="reveal"><div class="slides">
{slides}
</div></div>
</body>
</html>
"""


def slide(kind: str, heading: str, *parts: str) -> str:
    name = escaping.escape(heading, quote=False)
    return f'<section class="{kind}"><h2>{name}</h2>\n' + "\n".join(parts) + "\n</section>"


def title(chapter: Chapter) -> Iterator[str]:
    """What the chapter asks, and what one can do afterwards."""
    index = chapter.pages[0].article
    question = index.find("strong")
    asked = f"<p class='question'>{question.decode_contents()}</p>" if question else ""
    yield slide("title", chapter.title, asked)
    for text in index.find_all("p"):
        if text.get_text().strip().startswith("Afterwards you can"):
            yield slide("goals", "Goals", str(text))


def opening(page: Page) -> Iterator[str]:
    box = page.article.select_one(".admonition.tip")
    inner = box.find_all(recursive=False)[1:] if box else []
    yield slide("part", page.title, *map(str, inner))


def question(box: Tag, heading: str) -> str:
    """A question with its choices, and its answer as a step of its own."""
    legend = box.find("legend").decode_contents()
    choices = [label.get_text(" ", strip=False) for label in box.select("label")]
    listed = [label for label in box.select("label") if label.select_one("[type=radio]")]
    for label in listed:
        label.find("input").decompose()
    items = "".join(f"<li>{label.decode_contents()}</li>" for label in listed)
    answer = box.find("details")
    without(answer, "summary", ".cell_input", "pre")
    shown = f"<ol type='A'>{items}</ol>" if items else ""
    assert choices
    return slide(
        "question",
        heading,
        f"<p>{legend}</p>{shown}",
        f'<div class="fragment answer">{answer.decode_contents()}</div>',
    )


def table(node: Tag, heading: str) -> Iterator[str]:
    """A table, in parts of like length if it is long."""
    rows = node.select("tbody > tr")
    count = max(1, -(-len(rows) // MOST_ROWS))
    for part in range(count):
        copy = soup(str(node)).div
        kept = range(part * len(rows) // count, (part + 1) * len(rows) // count)
        for i, row in enumerate(copy.select("tbody > tr")):
            if i not in kept:
                row.decompose()
        of = f" ({part + 1} of {count})" if count > 1 else ""
        yield slide("table", heading + of, str(copy))


def heading_of(node: Tag, page: Page) -> str:
    section = node.find_parent("section")
    return words(section.find(["h1", "h2", "h3"])) if section else page.title


def leading(formula: Tag) -> str:
    """The sentence that a formula ends, as a paragraph, or nothing where there is none."""
    before = formula.find_previous_sibling()
    if before is None or before.name != "p":
        return ""
    inner = before.decode_contents().strip()
    # from the last full stop that is followed by a capital; formulas and links stay whole
    starts = [found.end() for found in re.finditer(r"[.:?] (?=[A-Z<])", inner)]
    last = next((inner[at:] for at in reversed(starts) if balanced(inner[at:])), inner)
    return f"<p>{last}</p>"


def balanced(text: str) -> bool:
    """Whether every tag and formula that begins in ``text`` ends in it."""
    opened, closed = re.findall(r"<(\w+)", text), re.findall(r"</(\w+)", text)
    void = [name for name in opened if name in ("br", "img")]
    pairs = text.count("\\(") == text.count("\\)")
    return len(opened) - len(void) == len(closed) and pairs and not text.startswith("</")


def taken(page: Page) -> Iterator[Tag]:
    """What becomes a slide, in reading order; what stands inside another is part of it."""
    wanted = "div.math, .genopt-explorer, .cell_output img, .predict, div.proof, .genopt-table"
    chosen: list[Tag] = []
    for node in page.article.select(wanted):
        if any(outer in chosen for outer in node.parents):
            continue
        if "math" in node.get("class", []) and not node.select_one(".eqno"):
            continue
        for inner in node.select("section"):  # of a theorem; here it would be a slide of its own
            inner.name = "div"
        chosen.append(node)
        yield node


def body(page: Page) -> Iterator[str]:
    formulas: list[str] = []
    under = ""
    for node in taken(page):
        heading, kinds = heading_of(node, page), node.get("class", [])
        if formulas and ("math" not in kinds or heading != under or len(formulas) == 4):
            yield slide("formulas", under, *formulas)
            formulas = []
        under = heading
        if "math" in kinds:
            formulas += [leading(node), str(node)]
        elif "predict" in kinds:
            yield question(node, heading)
        elif "genopt-explorer" in kinds:
            yield slide("figure", heading, str(node))
        elif node.name == "img":
            node["alt"] = node.get("alt", "")
            yield slide("figure", heading, str(node))
        elif "genopt-table" in kinds:
            yield from table(node, heading)
        else:
            yield slide("theorem", heading, str(node))
    if formulas:
        yield slide("formulas", under, *formulas)


def to_do(chapter: Chapter) -> Iterator[str]:
    """The titles of the exercises with their badges."""
    items = []
    for page in chapter.parts:
        for head in page.article.find_all("h3"):
            name = words(head)
            if name.startswith("Exercise "):
                text = head.find_next("p")
                badges = "".join(map(str, text.select(".level, .effort")))
                items.append(f"<li>{escaping.escape(name, quote=False)} {badges}</li>")
    if items:
        yield slide("exercises", "Exercises", f"<ul>{''.join(items)}</ul>")


def slides(chapter: Chapter) -> list[str]:
    made = [*title(chapter)]
    evidence = [page for page in chapter.pages if page.stem == "evidence"]
    for page in (chapter.pages[0], *chapter.parts, *evidence):
        without(page.article, *LEFT_OUT)
        moved(page.article, page.name, FOLDER)
        if page is not chapter.pages[0]:
            made += opening(page)
        made += body(page)
    return [*made, *to_do(chapter)]


def write(html: Path, reveal: Path) -> None:
    """Decks of all chapters beside the book in ``html``, with reveal.js from its npm package."""
    static = html / "_static"
    (static / "reveal").mkdir(parents=True, exist_ok=True)
    for name in ("reveal.js", "reveal.css"):
        shutil.copy(reveal / "dist" / name, static / "reveal" / name)
    shutil.copy(reveal / "LICENSE", static / "reveal" / "LICENSE")
    for name in ("slides.css", "slides.js"):
        shutil.copy(SOURCES / "_ext" / "deck" / name, static / name)
    (html / FOLDER).mkdir(exist_ok=True)
    for chapter in chapters(html):
        text = deck(chapter)
        (html / FOLDER / f"{chapter.name}.html").write_text(text, encoding="utf-8")
        print(f"  {chapter.name}: {text.count('<section')} slides", flush=True)


def deck(chapter: Chapter) -> str:
    """The page with all slides of a chapter."""
    return DECK.format(
        title=escaping.escape(chapter.title),
        scripts=relative(chapter),
        slides="\n".join(slides(chapter)),
    )


def relative(chapter: Chapter) -> str:
    """The scripts of formulas; each page of a chapter is as deep as the slides are."""
    scripts = soup(chapter.scripts)
    moved(scripts, chapter.pages[0].name, FOLDER)
    return str(scripts)


if __name__ == "__main__":
    write(Path(sys.argv[1]), Path(sys.argv[2]))
