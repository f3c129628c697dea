"""Words and symbols are explained where they are used: nothing is left out, nothing is stale."""

import re
import sys

import pytest
from docutils import nodes
from places import BOOK

from genopt_core import explorers
from genopt_core.figures.style import STYLE

sys.path.insert(0, str(BOOK / "_ext"))
import claims
import symbols
import terms


def test_every_labeled_formula_is_found():
    assert set(symbols.formulas()) == set(claims.equations())


@pytest.mark.parametrize("label", sorted(claims.equations()))
def test_every_symbol_of_a_formula_is_explained(label):
    told, lost = symbols.explained(label)
    assert lost == []
    assert told
    line = symbols.explanation(label)
    assert line.count("<dt ") == len(told)
    assert not re.search(r"[$\\{}]", line), line


def test_an_unknown_symbol_is_noticed(monkeypatch):
    known = symbols.formulas()
    monkeypatch.setattr(symbols, "formulas", lambda: known | {"swe-cost": r"\Omega_{ij}+c_{ij}"})
    assert symbols.explained("swe-cost")[1] == [r"\Omega_{ij}"]


@pytest.mark.parametrize(
    ("tex", "found"),
    [
        (r"\sum_s c_s\ln c_s-C\ln C=-C\,H(c/C)", ["c_{s}", "C", "H", "c"]),
        (r"\hat o=\frac{\hat N}{\hat Z}", [r"\hat o", r"\hat N", r"\hat Z"]),
        (r"e^{s_j}v_j", ["s_{j}", "v_{j}"]),
        (r"\text{at most } V \text{ of } \mathcal V", ["V", r"\mathcal V"]),
        (r"T_\text{step}=\max_x f(x)", [r"T_{\text{step}}", "f"]),
    ],
)
def test_symbols_of_a_formula(tex, found):
    assert [s.tex for s in symbols.symbols(tex)] == found


def test_own_symbols_belong_to_formulas_and_are_in_them():
    folders = {path.name for path in BOOK.glob("ch?_*")}
    for name, own in symbols.local().items():
        if name in folders:
            continue
        bases = {s.base for s in symbols.symbols(symbols.formulas()[name])}
        bound = symbols.formulas()[name]
        for tex in own:
            base = symbols._first(tex)[0].base
            assert base in bases or base in bound, (name, tex)


def test_words_have_one_definition_each_and_nothing_but_emphasis_in_it():
    found = terms.terms()
    assert len({term.id for term in found}) == len(found) > 50
    for term in found:
        assert not re.search(r"[`$\[{]", term.meaning), term.name
    headings = re.findall(r"(?m)^## (.+)$", (BOOK / "glossary.md").read_text(encoding="utf-8"))
    assert set(headings) == set(terms.SCOPES)
    words = {word for term in found for word in term.name.split(", ")}
    assert words >= terms.EVERYDAY


def linked(*paragraphs: str, folder: str = "ch5") -> list[str]:
    section = nodes.section("", *(nodes.paragraph("", "", nodes.Text(p)) for p in paragraphs))
    terms._mark_section(section, *terms._pattern(folder), "glossary.html")
    return [f"{ref.astext()} {ref['refuri']}" for ref in section.findall(nodes.reference)]


def test_the_first_use_in_a_section_is_linked_and_no_other():
    assert linked("Sinks and a sink.", "Another sink on a ladder.") == [
        "Sinks glossary.html#term-sink",
        "ladder glossary.html#term-ladder",
    ]
    assert linked("A sink.", folder="ch2") == []
    assert linked("The em of em-dashes; EM runs.", folder="ch1") == ["EM glossary.html#term-EM"]


def test_what_is_no_prose_is_left_alone():
    section = nodes.section(
        "",
        nodes.title("", "Sinks"),
        nodes.paragraph("", "", nodes.literal("", "sink"), nodes.math("", "sink")),
        nodes.section("", nodes.paragraph("", "", nodes.Text("a sink"))),
    )
    terms._mark_section(section, *terms._pattern("ch5"), "glossary.html")
    assert not [*section.findall(nodes.reference)]


def test_a_link_is_described_by_a_definition_on_its_page():
    context = {"body": '<a class="term" href="../glossary.html#term-sink">sink</a>'}
    terms.define(None, "ch5_kvcache/staircase", "", context, None)
    assert 'aria-describedby="term-sink-here"' in context["body"]
    assert '<p id="term-sink-here">One of the first tokens' in context["body"]


def contrast(one: str, other: str) -> float:
    """Of two colors such as #0072b2, by WCAG."""

    def light(color: str) -> float:
        parts = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    high, low = sorted((light(one), light(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


# The control and the series of the main figure that belong to the colored symbol of a formula.
MOVED = {
    "swe-limit": ("subword-lattice", "k", "most sub-words k"),
    "cem-smoothing": ("cem-generations", "smoothing", "p"),
    "pos-error": ("pos-skip", "eps", "may be lost, ε"),
    "attn-inclusion": ("attn-triangle", "law", "probability of the law"),
    "kv-stairs": ("kv-staircase", "ladder", "this ladder"),
    "one-effect": ("one-build", "tokenizer", "yours"),
}


@pytest.mark.parametrize("label", symbols.QUANTITIES)
def test_a_quantity_has_one_color_in_formula_control_and_figure(label):
    _, role = symbols.QUANTITIES[label]
    name, moved, series = MOVED[label]
    shown = explorers.get(name)
    (control,) = (c for c in shown.controls if c.name == moved)
    assert control.role == role
    panels = shown.run({})["figure"]["panels"]
    roles = {name: found for p in panels for name, found in p.get("series", {}).items()}
    assert roles[series] == role
    assert f'data-role="{role}"' in symbols.explanation(label)
    style = (BOOK / "assets" / "reading.css").read_text(encoding="utf-8")
    colors = STYLE["roles"][role]
    light, dark = re.findall(rf"--quantity-{role}: (#[0-9a-f]{{6}})", style)
    assert (light, dark) == (colors["light"], colors["dark"])
    assert contrast(light, "#ffffff") >= 4.5 <= contrast(dark, STYLE["page"]["bg"]["dark"])


def test_every_chapter_has_a_colored_quantity():
    assert {symbols.chapter(label)[:3] for label in symbols.QUANTITIES} == {
        path.name[:3] for path in BOOK.glob("ch?_*")
    }
