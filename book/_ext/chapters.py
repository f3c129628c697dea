"""The built pages of a chapter, for what is made of them: slides, hand-outs and PDFs."""

import posixpath
import re
from dataclasses import dataclass
from pathlib import Path

import exercises
import yaml
from bs4 import BeautifulSoup, Tag

SOURCES = Path(__file__).resolve().parent.parent


def soup(text: str) -> BeautifulSoup:
    return BeautifulSoup(text, "html.parser")


@dataclass(frozen=True)
class Page:
    """A built page: its name below the book, without ending, and its article."""

    name: str
    article: Tag

    @property
    def stem(self) -> str:
        return posixpath.basename(self.name)

    @property
    def title(self) -> str:
        return words(self.article.find("h1"))


@dataclass(frozen=True)
class Chapter:
    """A chapter of the built book, its pages in reading order, the index first."""

    number: int
    pages: tuple[Page, ...]
    scripts: str
    styles: str

    @property
    def name(self) -> str:
        return posixpath.dirname(self.pages[0].name)

    @property
    def title(self) -> str:
        return self.pages[0].title

    @property
    def parts(self) -> tuple[Page, ...]:
        """The pages that explain: neither index nor evidence nor solutions."""
        return tuple(
            page
            for page in self.pages
            if page.stem not in ("index", "evidence") and not exercises.is_solution(page.stem)
        )


def words(node: Tag | None) -> str:
    """The text of a heading without its number's dot and the sign that links to it."""
    if node is None:
        return ""
    copy = soup(str(node))
    for extra in copy.select("a.headerlink"):
        extra.decompose()
    return " ".join(copy.get_text().split())


def listed() -> list[tuple[int, list[str]]]:
    """Number and pages of each chapter, by the table of contents."""
    table = yaml.safe_load((SOURCES / "_toc.yml").read_text(encoding="utf-8"))
    chapters = next(part["chapters"] for part in table["parts"] if part.get("numbered"))
    return [
        (number, [chapter["file"], *(page["file"] for page in chapter["sections"])])
        for number, chapter in enumerate(chapters, start=1)
    ]


def chapters(html: Path) -> list[Chapter]:
    """The chapters of the book that was built into ``html``."""
    return [chapter(html, number, names) for number, names in listed()]


def chapter(html: Path, number: int, names: list[str]) -> Chapter:
    pages, scripts, styles = [], "", ""
    for name in names:
        path = html / f"{name}.html"
        if not path.is_file():  # a build without solutions
            continue
        whole = soup(path.read_text(encoding="utf-8"))
        if not styles:
            styles = "".join(map(str, whole.select("link[rel=stylesheet]")))
        if whole.select_one("script[src*='mathjax/']"):  # a page without formulas loads none
            scripts = scripts or mathjax(whole)
        pages.append(Page(name, whole.select_one("article.bd-article")))
    return Chapter(number, tuple(pages), scripts, styles)


def mathjax(whole: BeautifulSoup) -> str:
    """What the head of a page says about formulas, as it is."""
    kept = [
        script
        for script in whole.select("script")
        if "mathjax/" in str(script.get("src", "")) or "window.MathJax" in (script.string or "")
    ]
    return "".join(map(str, kept))


ADDRESS = re.compile(r"^[a-z]+:|^//")


def moved(node: Tag, page: str, to: str) -> None:
    """Have the addresses inside ``node`` of ``page`` hold in a file of the folder ``to``."""
    for name in ("src", "href"):
        for inner in node.select(f"[{name}]"):
            address = str(inner[name])
            if not ADDRESS.match(address) and not address.startswith("#"):
                whole = posixpath.normpath(posixpath.join(posixpath.dirname(page), address))
                inner[name] = posixpath.relpath(whole, to)


def without(node: Tag, *selectors: str) -> None:
    for found in node.select(", ".join(selectors)):
        found.decompose()
