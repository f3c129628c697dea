"""The search of the book, as a reader asks it."""

from __future__ import annotations

import json

import pytest

pytestmark = pytest.mark.browser


def found(one, start: str, words: str) -> list[str]:
    """Addresses below the book that the search for ``words`` lists, the best first."""
    one.open(f"{start}search.html?q={words}")
    one.page.wait_for_function("document.querySelector('.search-summary')?.innerText")
    one.page.wait_for_load_state("networkidle")  # summaries are read from the pages found
    links = one.page.locator("ul.search li a").all()
    return [link.get_attribute("href") for link in links[:8]]


@pytest.mark.parametrize(
    ("words", "chapter"),
    [
        ("KV cache", "ch5_kvcache/"),
        ("tokenizer", "ch1_subwords/"),
        ("quantization", "ch5_kvcache/"),
        ("dual price", "ch1_subwords/vocabulary.html#how-far"),
    ],
)
def test_chapters_come_first(watch, served, words, chapter):
    assert found(watch(), served, words)[0].startswith(chapter)


def test_results_lead_to_sections(watch, served):
    one = watch()
    links = [link for link in found(one, served, "certificate") if "#" in link]
    assert links
    one.page.locator(f'ul.search a[href="{links[0]}"]').first.click()
    one.page.wait_for_url("**" + links[0])
    target = links[0].partition("#")[2]
    one.page.wait_for_load_state("networkidle")
    assert one.page.locator(f"[id='{target}']").count() == 1


def test_a_function_is_found_by_its_name(watch, served):
    [first, *_] = found(watch(), served, "shortest_path")
    assert first == "api/subwords.html#genopt_core.subwords.shortest_path"


def test_summaries_show_no_text_of_figures_and_no_tex(watch, served):
    one = watch()
    found(one, served, "quantized")
    one.page.locator("ul.search p.context").first.wait_for()
    words = " ".join(one.page.locator("ul.search").inner_text().split())
    assert "\\(" not in words
    assert "↑" not in words


def test_the_search_works_in_pages_opened_as_files(watch, html):
    assert found(watch(), html.as_uri() + "/", "KV cache")[0].startswith("ch5_kvcache/")


def test_the_index_knows_neither_tex_nor_figures(html):
    text = (html / "searchindex.js").read_text(encoding="utf-8")
    index = json.loads(text.removeprefix("Search.setIndex(").rstrip().removesuffix(")"))
    terms = {term for term, places in index["terms"].items() if places != []}
    assert len(terms) > 2000
    assert not terms & {"mathcal", "qquad", "lvert", "frac", "mathbf"}
    assert any("#" in name for name in index["docnames"])
