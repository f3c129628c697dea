"""A chapter on paper, from its built pages: ``python make.py pdf`` and ``python make.py handout``.

The PDF has all pages of a chapter, the answers to its questions behind them, and the solutions.
The hand-out is what students get: no evidence, no answers, no solutions, each figure once.
"""

import html
import re
import shutil
import sys
import tempfile
from pathlib import Path

import exercises
from bs4 import Tag
from chapters import Chapter, chapters, moved, soup, without

from genopt_core.files import whole_file

SHEET = """\
<!DOCTYPE html>
<html lang="en" data-theme="light">
<head>
<meta charset="utf-8">
<title>{title}</title>
{styles}
<style>
@page {{ size: A4; margin: 18mm 16mm; }}
.bd-main .bd-content {{ display: block; }}
.bd-article .genopt-table table {{ font-size: 7pt; }}
.bd-article .genopt-table :is(th, td) {{ white-space: normal; padding-inline: 2px; }}
.bd-article h1 {{ display: block !important; }}
.bd-article + .bd-article {{ break-before: page; }}
.bd-article, .bd-article section, .bd-article section > :last-child {{
  margin-bottom: 0; padding-bottom: 0;
}}
.bd-article div.proof.theorem {{ break-inside: avoid; }}
.bd-article :is(.proof-title, .admonition-title) {{ break-after: avoid; }}
.bd-article :is(p + div.math, blockquote p:last-child) {{ break-before: avoid; }}
a.headerlink {{ display: none; }}
</style>
{scripts}
</head>
<body><main class="bd-main"><div class="bd-content">
{body}
</div></main></body>
</html>
"""
# Shapes and patterns are found by these names from the places that they are used at.
TARGETS = ("section", "span", "div", "a", "p", "dt", "li", "table", "figure", "h1", "h2", "h3")
MARGIN = 16  # millimeters
PAPER = {"width": int((210 - 2 * MARGIN) / 25.4 * 96), "height": 1000}  # in pixels
# Formulas that are wider than the paper beside their number become smaller.
NARROWED = """() => {
    for (const box of document.querySelectorAll("div.math")) {
        const drawn = box.querySelector("mjx-math");
        if (!drawn) continue;
        const number = box.querySelector(".eqno")?.getBoundingClientRect().width ?? 0;
        const share = (box.clientWidth - 2 * number) / drawn.getBoundingClientRect().width;
        if (share < 1) drawn.parentElement.style.fontSize =
            `${share * parseFloat(getComputedStyle(drawn.parentElement).fontSize)}px`;
    }
}"""
FOOT = (
    '<div style="font: 8pt sans-serif; width: 100%; padding: 0 16mm; display: flex; '
    'justify-content: space-between"><span>{}</span><span class="pageNumber"></span></div>'
)


def answers(articles: list[Tag]) -> str:
    """Number the questions of the pages, and say the answer to each."""
    said = []
    for number, box in enumerate(
        (box for article in articles for box in article.select(".predict")), start=1
    ):
        box.find("strong").string = f"Question {number}. "
        answer = soup(str(box.find("details"))).details
        without(answer, "summary", ".cell")
        said.append(f"<h3>Question {number}</h3>{answer.decode_contents()}")
    return f'<article class="bd-article"><h1>Answers</h1>{"".join(said)}</article>' if said else ""


def joined(articles: dict[str, Tag], folder: str) -> None:
    """Let links between the pages of a chapter lead inside its file, and others be words."""
    names = {posix.rpartition("/")[2]: posix for posix in articles}
    for page, article in articles.items():
        stem = page.rpartition("/")[2]
        for node in article.find_all(TARGETS, id=True):
            node["id"] = f"{stem}--{node['id']}"
        article.find("h1")["id"] = f"{stem}--"
        for link in article.select("a[href]"):
            place, _, mark = str(link["href"]).partition("#")
            other = re.sub(r"\.html$", "", place.rpartition("/")[2])
            inside = place == "" or (other in names and "/" not in place)
            if inside:
                link["href"] = f"#{other or stem}--{mark}"
            elif not re.match(r"https?:", place):
                link.unwrap()
        moved(article, page, folder)


def unlinked(article: Tag) -> None:
    """Take out the links to solutions, and the sentences that only list them."""
    for link in article.select("a[href*=_solutions]"):
        before, behind = link.previous_sibling, link.next_sibling
        if isinstance(before, str):
            before.replace_with(
                re.sub(r"\s*Solutions(, executed| to the exercises): $", "", before)
            )
        if isinstance(behind, str):
            behind.replace_with(re.sub(r"^(,\s*|\.\s*)", "", behind))
        link.decompose()


def sheet(chapter: Chapter, folder: str, handout: bool) -> str:
    """The chapter as one page of HTML, which lies in ``folder`` beside the pages of the book."""
    pages = [
        page
        for page in chapter.pages
        if not (handout and (page.stem == "evidence" or exercises.is_solution(page.stem)))
    ]
    articles = {page.name: page.article for page in pages}
    for article in articles.values():
        without(article, "script.gx-description", "button", "output", "details.hide")
        for code in article.select(".cell_input"):
            if code.get_text().strip().startswith("explore("):  # its figure stands below
                code.decompose()
        if handout:
            without(article, ".predict details", ".gx-print")
            unlinked(article)
    explained = [page.article for page in pages if not exercises.is_solution(page.stem)]
    last = "" if handout else answers(explained)
    solved = [page.article for page in pages if exercises.is_solution(page.stem)]
    joined(articles, folder)
    scripts = soup(chapter.scripts)
    moved(scripts, chapter.pages[0].name, folder)
    styles = soup(chapter.styles)
    moved(styles, chapter.pages[0].name, folder)
    return SHEET.format(
        title=html.escape(f"{chapter.title}: hand-out" if handout else chapter.title),
        styles=styles,
        scripts=scripts,
        body="\n".join([*map(str, explained), last, *map(str, solved)]),
    )


def write(site: Path, target: Path, handout: bool, browser: str) -> None:
    """PDFs of all chapters of the built ``site`` in ``target``, printed by the ``browser``."""
    from playwright.sync_api import sync_playwright

    target.mkdir(parents=True, exist_ok=True)
    # beside the pages, whose pictures and fonts it shows
    folder = Path(tempfile.mkdtemp(prefix="paper-", dir=site.resolve()))
    try:
        with sync_playwright() as playwright:
            chromium = playwright.chromium.launch(executable_path=browser, args=["--no-sandbox"])
            page = chromium.new_page(color_scheme="light")
            page.set_default_timeout(300_000)  # formulas of a whole chapter, on a machine with work
            for chapter in chapters(site):
                printed(page, chapter, folder, target, handout)
            chromium.close()
    finally:
        shutil.rmtree(folder, ignore_errors=True)  # it is no part of the site


def printed(page, chapter: Chapter, folder: Path, target: Path, handout: bool) -> None:
    """One chapter: its sheet in ``folder``, and from it the PDF in ``target``."""
    whole = folder / f"{chapter.name}.html"
    whole.write_text(sheet(chapter, folder.name, handout), encoding="utf-8")
    page.emulate_media(media="print")
    page.set_viewport_size(PAPER)
    page.goto(whole.as_uri())
    page.wait_for_function("!window.MathJax || MathJax.startup?.promise")
    page.evaluate("window.MathJax?.startup.promise.then(() => document.fonts.ready)")
    page.evaluate(NARROWED)
    result = page.pdf(
        format="A4",
        print_background=True,
        display_header_footer=True,
        header_template="<span></span>",
        footer_template=FOOT.format(html.escape(f"GenOpt · {chapter.title}")),
        margin=dict.fromkeys(("top", "bottom", "left", "right"), f"{MARGIN}mm"),
        outline=True,
        tagged=True,
    )
    with whole_file(target / f"{chapter.name}.pdf") as file:
        file.write(result)
    count = len(re.findall(rb"/Type\s*/Page\b", result))
    print(f"  {chapter.name}: {count} pages, {len(result) / 1e6:.1f} MB", flush=True)


if __name__ == "__main__":
    write(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3] == "handout", sys.argv[4])
