"""Tables of results in a browser: sorted by keyboard, inside the column, on phones too."""

import pytest

PAGE = "ch2_search/evidence.html"
SHOWN = ".genopt-table:visible"


def test_a_heading_sorts_by_keyboard_and_says_so(watch, served):
    one = watch().open(served + PAGE).settled()
    table = one.page.locator(".genopt-table", has_text="Mean regret ± standard error")
    heading = table.locator("thead th").nth(4)
    heading.locator("button").focus()
    one.page.keyboard.press("Enter")
    assert heading.get_attribute("aria-sort") == "ascending"
    values = table.locator("tbody tr td:nth-child(5)").all_inner_texts()
    numbers = [float(text.split()[-3]) for text in values if text != "–"]
    assert numbers == sorted(numbers)
    assert values[len(numbers) :] == ["–"] * 3, "what was not measured comes last"
    assert table.locator("thead [aria-sort]").count() == 1


@pytest.mark.parametrize("page", [PAGE])
@pytest.mark.parametrize("width", [1440, 1280])
def test_no_table_is_cut_on_a_screen(opened, page, width):
    one = opened
    one.page.set_viewport_size({"width": width, "height": 720})
    one.settled()
    cut = one.page.eval_on_selector_all(
        ".genopt-table",
        "all => all.filter(one => one.checkVisibility({contentVisibilityAuto: true})"
        " && one.scrollWidth > one.clientWidth)"
        ".map(one => one.ariaLabel)",
    )
    assert cut == []


@pytest.mark.parametrize("page", [PAGE])
def test_names_stay_in_sight_while_a_table_scrolls_on_a_phone(opened, page):
    one = opened
    one.page.set_viewport_size({"width": 390, "height": 844})
    one.settled()
    table = one.page.locator(SHOWN, has_text="Mean regret ± standard error")
    table.evaluate("one => { one.scrollLeft = 1000 }")
    assert table.evaluate("one => one.scrollLeft") > 0
    left = table.evaluate("one => one.getBoundingClientRect().left")
    for part in ("tbody th", "thead th", "caption"):
        box = table.locator(part).first.bounding_box()
        assert box["x"] == pytest.approx(left, abs=1), part
    table.evaluate("one => { one.scrollLeft = 0 }")


def test_without_scripts_it_is_a_plain_sorted_table(watch, served):
    one = watch(java_script_enabled=False).open(served + PAGE)
    table = one.page.locator(".genopt-table", has_text="Mean regret ± standard error")
    assert table.locator("button").count() == 0
    assert table.locator("th[aria-sort=ascending]").inner_text() == "after 60"
