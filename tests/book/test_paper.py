"""PDFs of the chapters: what is left in the built book, and titles with signs of HTML."""

import sys
from types import SimpleNamespace

import pytest
from places import BOOK

sys.path.insert(0, str(BOOK / "_ext"))
import chapters
import paper


@pytest.fixture
def browser(monkeypatch):
    """Playwright without a browser."""
    sync_api = pytest.importorskip("playwright.sync_api")

    class Nothing:
        def __getattr__(self, _):
            return lambda *_, **__: self

        def __enter__(self):
            return SimpleNamespace(chromium=self)

        def __exit__(self, *_):
            return False

    monkeypatch.setattr(sync_api, "sync_playwright", Nothing)


def test_a_print_that_fails_leaves_nothing_in_the_site_and_the_old_pdf(
    browser, monkeypatch, tmp_path
):
    target = tmp_path / "pdf"
    target.mkdir()
    (target / "ch1.pdf").write_bytes(b"of yesterday")
    site = tmp_path / "html"
    site.mkdir()

    def broken(page, chapter, folder, *_):
        (folder / f"{chapter.name}.html").touch()
        raise RuntimeError("the browser is gone")

    monkeypatch.setattr(paper, "chapters", lambda _: [SimpleNamespace(name="ch1")])
    monkeypatch.setattr(paper, "printed", broken)
    with pytest.raises(RuntimeError, match="browser is gone"):
        paper.write(site, target, False, "chromium")
    assert list(site.iterdir()) == []
    assert (target / "ch1.pdf").read_bytes() == b"of yesterday"


@pytest.mark.parametrize("handout", [False, True])
def test_signs_of_html_in_a_title_are_text(handout):
    article = chapters.soup('<article class="bd-article"><h1>A</h1></article>').article
    page = SimpleNamespace(name="ch/a", stem="a", article=article)
    parts = {"title": "Keys & <values>", "pages": [page], "scripts": "", "styles": ""}
    chapter = SimpleNamespace(name="ch", **parts)
    sheet = chapters.soup(paper.sheet(chapter, "paper", handout))
    assert sheet.title.get_text() == "Keys & <values>" + (": hand-out" if handout else "")
    assert sheet.title.find(True) is None
