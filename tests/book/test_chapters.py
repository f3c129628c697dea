"""What is made of a chapter's built pages: slides, the hand-out, the PDF."""

import sys

import pytest
from places import BOOK

sys.path.insert(0, str(BOOK / "_ext"))
import chapters
import paper
import slides

HEAD = (
    '<html><head><link rel="stylesheet" href="../_static/book.css">'
    '<script>window.MathJax = {};</script><script src="../_static/mathjax/t.js"></script></head>'
)
INDEX = """<h1>1. Words<a class="headerlink" href="#words">#</a></h1>
<p><strong>How is a word cut?</strong> So.</p><p><strong>Afterwards you can</strong> cut words.</p>
<p>Words: <a href="../glossary.html#x">glossary</a>.
Solutions to the exercises: <a href="a_solutions.html">a</a>,
<a href="b_solutions.html">b</a>.</p>"""
PART = """<section id="cut"><h1>Cutting</h1>
<div class="admonition tip"><p class="admonition-title">The question</p><p>What is a cut?</p></div>
<section id="way"><h2>The way<a class="headerlink" href="#way">#</a></h2>
<div class="cell_input"><pre>explore("walk")</pre></div>
<div class="genopt-explorer" data-explorer="walk"><div class="gx-print">presets</div></div>
<p>First <em>this. That</em> too. A cut costs <span>\\(c. D\\)</span></p>
<div class="math" id="eq"><span class="eqno">(1.1)</span>\\[a\\]</div>
<div class="math">\\[b\\]</div>
<div class="math"><span class="eqno">(1.2)</span>\\[c\\]</div>
<div class="proof theorem"><p>Theorem 1.1</p>
<section><div class="math"><span class="eqno">(1.3)</span></div></section></div>
<div class="predict quiz"><form><fieldset><legend><strong>Quiz. </strong>Why?</legend>
<label><input type="radio"> rain</label><label><input type="radio"> sun</label>
<button>Check</button></fieldset><output></output></form>
<details><summary>Answer</summary><p><strong>Sun.</strong> It shines.</p></details></div>
<div class="cell_output"><img alt="A line." src="../_images/line.png"></div>
<p><a href="index.html">there</a>, <a href="#eq">here</a>, <a href="../ch2/x.html#y">far</a>.</p>
</section>
<section id="exercises"><h2>Exercises</h2><h3>Exercise 1.1: Why</h3>
<p><span class="level">easy</span> <span class="effort">5 minutes</span> Say why.
<a href="a_solutions.html#why">Solution</a></p></section></section>"""
EVIDENCE = '<h1>Evidence</h1><div class="genopt-explorer" data-explorer="race"></div>'
SOLVED = '<h1>Solutions</h1><section id="why"><h2>Solution 1.1: Why</h2><p>Because.</p></section>'
PAGES = {"index": INDEX, "a": PART, "evidence": EVIDENCE, "a_solutions": SOLVED}


@pytest.fixture
def chapter(tmp_path):
    (tmp_path / "ch1").mkdir()
    for name, inner in PAGES.items():
        text = f'{HEAD}<body><article class="bd-article">{inner}</article></body></html>'
        (tmp_path / "ch1" / f"{name}.html").write_text(text, encoding="utf-8")
    names = [*(f"ch1/{name}" for name in PAGES), "ch1/left_out_solutions"]
    return chapters.chapter(tmp_path, 1, names)


def test_slides_are_what_the_pages_show_in_their_order(chapter):
    made = [chapters.soup(text).section for text in slides.slides(chapter)]
    kinds = ["title", "goals", "part", "figure", "formulas", "theorem", "question", "figure"]
    kinds += ["part", "figure", "exercises"]
    assert [section["class"][0] for section in made] == kinds
    heads = [section.h2.get_text() for section in made]
    assert heads[:4] == ["1. Words", "Goals", "Cutting", "The way"]
    assert heads[-1] == "Exercises"
    formulas = made[4]
    assert [node.get_text() for node in formulas.select(".eqno")] == ["(1.1)", "(1.2)"]
    assert [p.get_text() for p in formulas.find_all("p")] == ["A cut costs \\(c. D\\)"]
    question = made[6]
    assert [item.get_text(strip=True) for item in question.select("ol > li")] == ["rain", "sun"]
    assert question.select_one(".fragment").get_text(strip=True) == "Sun.It shines."
    assert "Sun" not in question.get_text().partition("It shines")[0].replace("Sun.", "", 1)
    assert made[7].img["src"] == "../_images/line.png"
    assert made[-1].li.get_text(" ", strip=True) == "Exercise 1.1: Why easy 5 minutes"
    whole = "".join(map(str, made))
    assert whole.count("<section") == len(made)
    for word in ("presets", "Because", "Solution", "headerlink"):
        assert word not in whole


def test_a_long_table_has_slides_of_like_length_and_loses_no_row():
    rows = [f"<tr><td>{number}</td></tr>" for number in range(35)]
    whole = f"<table><thead><tr><th>n</th></tr></thead><tbody>{''.join(rows)}</tbody></table>"
    for kept, heads in ((4, ["Sizes"]), (35, [f"Sizes ({part} of 3)" for part in (1, 2, 3)])):
        text = whole.replace("".join(rows[kept:]), "")
        node = chapters.soup(f'<div class="genopt-table">{text}</div>').div
        made = [chapters.soup(one).section for one in slides.table(node, "Sizes")]
        assert [one.h2.get_text() for one in made] == heads
        assert [one.get_text() for part in made for one in part.select("td")] == [
            *map(str, range(kept))
        ]
        lengths = [len(one.select("td")) for one in made]
        assert max(lengths) <= min(slides.MOST_ROWS, min(lengths) + 1)
        assert [one.th.get_text() for one in made] == ["n"] * len(made)


def test_the_hand_out_has_no_answer_no_solution_and_no_evidence(chapter):
    text = paper.sheet(chapter, "paper", handout=True)
    for word in ("Why?", "rain", "Say why", 'data-explorer="walk"', "easy"):
        assert word in text
    for word in ("It shines", "Because", "Solution", "Evidence", "presets", "<button", "explore("):
        assert word not in text
    index = chapters.soup(text).find("article")
    assert index.find_all("p")[-1].get_text() == "Words: glossary."


def test_the_pdf_has_everything_with_the_answers_behind_the_questions(chapter):
    text = paper.sheet(chapter, "paper", handout=False)
    parts = ["Question 1.", "<h1>Answers</h1>", "It shines", "Because"]
    assert "Evidence" in text
    assert "presets" in text
    places = [text.rindex(part) for part in parts]
    assert places[1:] == sorted(places[1:])
    assert text.index("Question 1.") < places[1]


def test_links_lead_inside_the_file_or_are_words(chapter):
    whole = chapters.soup(paper.sheet(chapter, "paper", handout=False))
    found = {link.get_text(): link["href"] for link in whole.select("a[href]")}
    assert found["there"] == "#index--"
    assert found["here"] == "#a--eq"
    assert found["Solution"] == "#a_solutions--why"
    assert not {"far", "glossary"} & set(found)
    assert "far" in whole.get_text()
    targets = {node["id"] for node in whole.select("[id]")}
    assert {address[1:] for address in found.values() if address[0] == "#"} <= targets
    assert [link["href"] for link in whole.select("link")] == ["../_static/book.css"]
    assert whole.select_one("script[src]")["src"] == "../_static/mathjax/t.js"


def test_chapters_and_their_pages_are_those_of_the_contents():
    listed = chapters.listed()
    folders = sorted(path.parent.name for path in BOOK.glob("ch*/index.md"))
    assert [names[0] for _, names in listed] == [f"{folder}/index" for folder in folders]
    assert [number for number, _ in listed] == list(range(1, len(folders) + 1))


LISTED = chapters.listed()


@pytest.mark.parametrize(("number", "names"), LISTED, ids=[names[0] for _, names in LISTED])
def test_every_figure_of_a_built_chapter_is_on_a_slide(html, number, names):
    built = chapters.chapter(html, number, names)
    shown = [page for page in built.pages if not page.stem.endswith("_solutions")]
    figures = [
        node.get("data-explorer", node.get("alt"))
        for page in shown
        for node in page.article.select(slides.FIGURE)
    ]
    decked = chapters.soup("".join(slides.slides(built)))
    found = decked.select(".genopt-explorer, section.figure > img, .answer img")
    assert figures
    assert [node.get("data-explorer", node.get("alt")) for node in found] == figures
