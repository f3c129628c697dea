"""Predict, then check: the answer, and the output that gives it away, unfold after a choice."""

PAGE = "ch1_subwords/paths.html"


def box(one, words):
    return one.page.locator(".predict").filter(has_text=words)


def test_nothing_gives_the_answer_away_before_a_choice(watch, served):
    one = watch().open(served + PAGE).settled()
    trap = box(one, "single pass find")
    assert not trap.locator("details").is_visible()
    assert not one.page.locator("pre", has_text="layer by layer: (").is_visible()
    trap.locator("button[type=submit]").click()  # nothing chosen: the browser asks for it
    assert not trap.locator("details").is_visible()
    trap.get_by_text("nothing at all", exact=True).click()
    trap.locator("button[type=submit]").click()
    assert trap.locator("output").inner_text() == "Right: nothing at all."
    assert one.page.locator("pre", has_text="layer by layer: (").is_visible()
    assert trap.locator("input").first.is_disabled()


def test_a_wrong_number_by_keyboard_alone(watch, served):
    one = watch().open(served + PAGE).settled()
    ways = box(one, "how many ways")
    ways.locator("input").focus()
    one.page.keyboard.type("42")
    one.page.keyboard.press("Enter")
    assert ways.locator("output").inner_text() == "You said: 42. See below."
    assert ways.get_by_text("64", exact=False).first.is_visible()
    assert ways.locator("summary").evaluate("node => node === document.activeElement")


def test_choices_are_radio_buttons_of_one_group(watch, served):
    one = watch().open(served + PAGE).settled()
    first = box(one, "survive the step limit").locator("input").first
    first.focus()
    one.page.keyboard.press("ArrowDown")
    one.page.keyboard.press("Enter")
    assert box(one, "survive the step limit").locator("output").inner_text() == "Right: No."
    assert not box(one, "single pass find").locator("details").is_visible()


def test_a_visit_begins_with_nothing_chosen(watch, served):
    one = watch().open(served + PAGE).settled()
    ways = box(one, "how many ways")
    ways.locator("input").fill("64")
    ways.locator("button[type=submit]").click()
    ways.locator("details").wait_for(state="visible")
    one.page.reload()
    one.settled()
    ways.locator("details").wait_for(state="hidden")


def test_axe_finds_nothing_in_an_opened_box(watch, served):
    from browser.test_axe import AXE

    one = watch().open(served + PAGE).settled()
    trap = box(one, "single pass find")
    trap.locator("input").first.check()
    trap.locator("button[type=submit]").click()
    one.page.add_script_tag(path=str(AXE))
    theme = {"scrollable-region-focusable"}  # highlighted code, as in test_pages
    for scheme in ("light", "dark"):
        one.page.emulate_media(color_scheme=scheme)
        one.settled()
        result = one.page.evaluate("axe.run('.predict', {resultTypes: ['violations']})")
        assert [v["id"] for v in result["violations"] if v["id"] not in theme] == [], scheme


def test_without_javascript_a_reader_opens_the_answer(watch, served):
    one = watch(java_script_enabled=False).open(served + PAGE)
    trap = box(one, "single pass find")
    assert trap.locator("legend").is_visible()
    assert not trap.locator("button[type=submit]").is_visible()
    assert not one.page.locator("pre", has_text="layer by layer: (").is_visible()
    trap.locator("summary").click()
    assert one.page.locator("pre", has_text="layer by layer: (").is_visible()


def test_a_wrong_choice_in_a_quiz_is_told_its_error_by_keyboard_alone(watch, served):
    one = watch().open(served + PAGE).settled()
    quiz = box(one, "used twice as often as another")
    assert quiz.locator("legend strong").first.inner_text().strip() == "Quiz."
    quiz.locator("input").first.focus()
    one.page.keyboard.press("ArrowDown")
    one.page.keyboard.press("Enter")
    said = quiz.locator("output").inner_text()
    assert said.endswith("That is “Counts, not shares”. See below.")
    assert quiz.locator("details li").count() == 2
    assert quiz.locator("summary").evaluate("node => node === document.activeElement")
