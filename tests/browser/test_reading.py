"""Definitions, symbols and the switch for code in a browser: by pointer, by keyboard, by finger."""

import pytest

PAGE = "ch1_subwords/vocabulary.html"
TIP = ".reading-tip"
WORD = "a.term[aria-describedby]"


@pytest.fixture
def page():
    return PAGE


def test_a_word_shows_its_definition_on_focus_and_escape_closes_it(opened):
    word = opened.page.locator(WORD).first
    meaning = opened.page.locator(f"#{word.get_attribute('aria-describedby')}")
    assert len(meaning.text_content()) > 20
    word.evaluate("one => one.focus({focusVisible: true})")
    tip = opened.page.locator(TIP)
    tip.wait_for()
    assert tip.inner_text() == meaning.text_content()
    box = tip.bounding_box()
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= 1280
    opened.page.keyboard.press("Escape")
    tip.wait_for(state="hidden")
    assert word.evaluate("one => one === document.activeElement")


def test_a_word_shows_its_definition_under_the_pointer_which_may_go_onto_it(opened):
    opened.page.locator(WORD).first.hover()
    tip = opened.page.locator(TIP)
    tip.wait_for()
    tip.hover()
    assert tip.is_visible()
    opened.page.mouse.move(2, 2)
    tip.wait_for(state="hidden")


def test_a_word_is_linked_once_in_a_section(opened):
    twice = opened.page.evaluate(
        """() => [...document.querySelectorAll("article section")].filter((section) => {
            const own = [...section.querySelectorAll("a.term")]
              .filter((one) => one.closest("section") === section).map((one) => one.hash);
            return new Set(own).size < own.length;
        }).map((section) => section.id)"""
    )
    assert twice == []


def test_a_symbol_in_a_formula_says_what_it_is_and_so_does_the_line_below(opened):
    formula = opened.page.locator("div.math:has(+ details.symbols)").first
    lines = opened.page.locator("details.symbols").first
    lines.locator("summary").focus()
    opened.page.keyboard.press("Enter")
    told = lines.locator("dd").first
    told.wait_for()
    letter = lines.locator("dt").first.get_attribute("data-letter")
    place = formula.evaluate(
        """(one, letter) => [...one.querySelectorAll("mjx-mi")].findIndex((glyph) => {
            const names = [...glyph.querySelector("mjx-c").classList];
            const name = names.find((c) => /^mjx-c[0-9A-F]+$/.test(c));
            return String.fromCodePoint(parseInt(name.slice(5), 16)).normalize("NFKC") === letter;
        })""",
        letter,
    )
    formula.locator("mjx-mi").nth(place).hover()
    tip = opened.page.locator(TIP)
    tip.wait_for()
    assert told.inner_text() in tip.inner_text()
    opened.page.keyboard.press("Escape")
    lines.locator("summary").press("Enter")


def test_the_quantity_of_the_chapter_s_figure_has_its_color_in_the_formula(visit):
    one = visit("ch1_subwords/paths.html")
    colored = one.page.locator("mjx-mi[data-role='accent']")
    colored.first.wait_for()
    assert colored.evaluate_all(
        "all => all.every((one) => one.closest('.math').id.includes('limit'))"
    )
    slider = one.page.locator("[data-control='k'] input[type=range]").first
    paint = slider.evaluate("one => getComputedStyle(one).getPropertyValue('--gx-key')")
    assert "accent" in paint or paint.strip() == "#6d28d9"


def test_code_is_hidden_by_a_switch_that_is_remembered(opened):
    switch = opened.page.get_by_role("button", name="Code", exact=True)
    code = opened.page.locator(".bd-article .cell_input:visible")
    shown = code.count()
    assert shown > 0
    assert switch.get_attribute("aria-pressed") == "true"
    switch.press("Enter")
    assert switch.get_attribute("aria-pressed") == "false"
    assert code.count() == 0
    assert opened.page.locator(".genopt-explorer").first.is_visible()
    opened.page.emulate_media(media="print")
    assert code.count() == 0
    opened.page.emulate_media(media="screen")
    opened.page.reload()
    opened.settled()
    assert switch.get_attribute("aria-pressed") == "false"
    switch.click()
    assert code.count() == shown


def test_a_finger_sees_the_definition_first_and_follows_the_link_then(watch, served):
    one = watch(has_touch=True, viewport={"width": 390, "height": 844}).open(served + PAGE)
    word = one.page.locator(WORD).first
    word.tap()
    one.page.locator(TIP).wait_for()
    assert one.page.url.endswith(PAGE)
    assert one.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    word.tap()
    one.page.wait_for_url("**/glossary.html#term-*")
