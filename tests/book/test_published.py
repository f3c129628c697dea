"""What a published book has beside its pages: cards, foot, site map, the page for 404."""

import re
from types import SimpleNamespace
from xml.etree import ElementTree

import pytest

import genopt_core
from book._ext import published

BODY = (
    "<p>Short.</p>"
    "<p>A <em>word</em> can be cut in many ways, and one is the cheapest &amp; best.</p>"
)
BASE = "https://example.org/genopt/"


def app(base: str = "", repository: str = "", out=None):
    return SimpleNamespace(
        config=SimpleNamespace(html_baseurl=base, html_title="GenOpt", book_repository=repository),
        env=SimpleNamespace(found_docs={"index", "ch1_subwords/paths"}),
        builder=SimpleNamespace(format="html"),
        outdir=out,
    )


def head(base: str = "") -> dict[str, str]:
    """Name and content of the lines that a page gets."""
    context = {"body": BODY, "title": "<span>1.1.</span> Cut &amp; paste", "metatags": ""}
    published.add_card(app(base), "ch1_subwords/paths", "page.html", context, doctree=object())
    return dict(
        re.findall(r'<meta (?:property|name)="([^"]+)" content="([^"]*)"', context["metatags"])
    )


def test_a_card_has_the_title_and_the_first_sentence_of_its_page():
    lines = head()
    assert lines["og:title"] == "1.1. Cut &amp; paste"
    assert lines["og:description"] == lines["description"]
    assert lines["description"].startswith("A word can be cut")
    assert "og:image" not in lines  # whose address has to be whole


def test_with_the_address_of_the_site_a_card_has_its_picture():
    lines = head(BASE)
    assert lines["og:url"] == f"{BASE}ch1_subwords/paths.html"
    assert lines["og:image"] == f"{BASE}_static/card.png"
    assert lines["twitter:card"] == "summary_large_image"


def test_a_long_beginning_is_cut_after_a_word():
    text = published.beginning(f"<p>{'word, ' * 100}</p>")
    assert text.endswith("word …")
    assert len(text) <= published.LONGEST + 1
    assert published.beginning("<p>Short.</p>") == ""


@pytest.mark.parametrize("repository", ["", "https://example.org/code"])
def test_the_foot_leads_to_what_is_stable_and_to_the_code_if_it_has_an_address(repository):
    context = {"pathto": lambda to, _: f"../{to.partition('#')[0]}"}  # as Sphinx does
    published.add_foot(app(repository=repository), "a/b", "page.html", context, None)
    foot = context["theme_extra_footer"]
    assert f"GenOpt {genopt_core.__version__}" in foot
    assert 'href="../api/index.html#what-is-stable"' in foot
    assert ("Repository" in foot) == bool(repository)


def test_a_site_map_has_every_page_and_needs_an_address(tmp_path):
    published.lay_out(app(BASE, out=tmp_path), None)
    tree = ElementTree.parse(tmp_path / "sitemap.xml")
    found = [node.text for node in tree.iter("{http://www.sitemaps.org/schemas/sitemap/0.9}loc")]
    assert found == [f"{BASE}ch1_subwords/paths.html", f"{BASE}index.html"]
    published.lay_out(app(out=tmp_path), None)
    assert not (tmp_path / "sitemap.xml").exists()


def test_the_page_for_404_has_nothing_relative(tmp_path):
    for base, root in (("", "/"), (BASE, BASE)):
        published.lay_out(app(base, out=tmp_path), None)
        text = (tmp_path / "404.html").read_text(encoding="utf-8")
        assert f'href="{root}index.html"' in text
        assert not re.search(r'(?:src|href)="(?!https?://|/)', text)
