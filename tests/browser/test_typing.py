"""What a reader types is answered at once where the page computes, plainly where Python must."""

from __future__ import annotations

import pytest
from browser.reader import LIMIT_MS, PICTURE, READOUT, address, contents, explorers_in_source, says

from genopt_core import explorers as ex

pytestmark = pytest.mark.browser

LATTICE, PEERS = "subword-lattice", "subword-peers"
PAGES = {name: page for page in reversed(contents()) for name in explorers_in_source(page)}
CHAPTER = next(page for page in contents()[1:] if LATTICE in explorers_in_source(page))
TYPED = ("strawberries", "Straße", "日本語", "q", "two words", "😀", "x" * 21)
PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}


def explorer(one, name):
    """The first explorer ``name`` of the page, ready."""
    root = one.page.locator(f".genopt-explorer[data-explorer={name}]").first
    root.scroll_into_view_if_needed()
    root.and_(one.page.locator("[data-ready]")).wait_for()
    return root


def words(name, params):
    result = ex.run(name, params)
    return result["error"] if "error" in result else result["figure"]["readout"]


@pytest.mark.parametrize("device", ["desk", "phone"])
@pytest.mark.parametrize("scheme", ["http", "file"])
@pytest.mark.parametrize("page", ["index.html", CHAPTER])
def test_a_typed_word_is_answered_at_once(visit, watch, served, html, page, scheme, device):
    if device == "desk":
        one = visit(page, scheme)
    else:
        one = watch(**PHONE).open(address(served, html, scheme, page))
    root = explorer(one, LATTICE)
    box = root.locator("[data-control=word] input")
    for text in TYPED:
        box.fill(text)
        expected = words(LATTICE, {"word": text})
        shown = root.locator(READOUT).inner_text() + root.locator(".gx-problem").inner_text()
        assert shown == expected  # no waiting: the answer is there when the event has been handled
        assert (root.locator(f"{PICTURE} svg").count() == 0) == (
            "error" in ex.run(LATTICE, {"word": text})
        )
    box.fill("")
    assert root.locator(".gx-problem").inner_text() == expected, "an empty box asks nothing"


def test_a_phone_s_keyboard_leaves_the_word_alone(watch, served):
    one = watch(**PHONE).open(served + "index.html")
    box = explorer(one, LATTICE).locator("[data-control=word] input")
    box.tap()
    box.press_sequentially("zebra")
    wanted = {
        "autocapitalize": "off",
        "autocorrect": "off",
        "spellcheck": "false",
        "inputmode": "text",
    }
    assert {name: box.get_attribute(name) for name in wanted} == wanted
    assert (
        box.evaluate("node => parseFloat(getComputedStyle(node).fontSize)") >= 16
    )  # no zooming in
    box.press("Enter")
    assert not box.evaluate("node => node === document.activeElement")  # the keyboard goes


# ------------------------------------------------------------------ Python in the page


def carries_python(html):
    return (html / "_static" / "genopt" / "pyodide").is_dir()


@pytest.mark.parametrize("page", sorted(set(PAGES.values())))
def test_python_is_offered_where_it_adds_something(opened, html, page):
    if not carries_python(html):
        pytest.skip("this book was built without Pyodide: no source had the NumPy wheel")
    offered, widened = set(), set()
    for root in opened.page.locator(".genopt-explorer").all():
        name = root.get_attribute("data-explorer")
        button = root.locator(".gx-run")
        if button.count() == 1 and button.is_visible():
            offered.add(name)
        if ex.describe(name)["free"] and name != LATTICE:
            widened.add(name)
    assert offered == widened


def test_own_text_starts_python_once_a_visit(watch, served, html):
    if not carries_python(html):
        pytest.skip("this book was built without Pyodide: no source had the NumPy wheel")
    one = watch(locale="en-GB").open(served + PAGES[PEERS])  # a visit of its own
    root = explorer(one, PEERS)
    box = root.locator("[data-control=text] input")
    box.fill("zebra crossings")
    offer = root.locator(".gx-problem.gx-offers")
    assert "a text of your own" in offer.inner_text()
    assert root.get_by_text("Run Python here").locator("visible=true").count() == 1
    heard = one.page.evaluate_handle(
        """() => {
            const heard = [];
            const {python} = GenoptExplore;
            python.listen(() => heard.push([python.phase, python.words, python.part]));
            return heard;
        }"""
    )
    offer.locator("button").click()
    offer.locator("progress").wait_for()
    expected = words(PEERS, {"text": "zebra crossings"})
    says(one.page, root, expected)
    phases = heard.json_value()
    assert {"MB" in said for phase, said, _ in phases if phase == "starting"} == {True, False}
    parts = [part for phase, _, part in phases if phase == "starting"]
    assert parts == sorted(parts)
    assert parts[-1] > 0.9
    assert phases[-1][0] == "on"
    engines = "[...document.querySelectorAll('.genopt-explorer')].map(n => n.dataset.engine)"
    assert "python" in one.page.evaluate(engines)
    # The next page of the visit: nobody presses anything.
    one.page.goto(served + PAGES["cem-noise"])
    one.page.wait_for_function("GenoptExplore.python.phase === 'on'", timeout=3 * LIMIT_MS)
    noisy = explorer(one, "cem-noise")
    noisy.locator("[data-control=seed] input").fill("41")
    noisy.locator("[data-control=seed] input").press("Enter")
    says(one.page, noisy, words("cem-noise", {"seed": 41}))


def test_from_a_file_the_samples_are_offered_plainly(watch, html):
    one = watch().open((html / PAGES[PEERS]).as_uri())
    root = explorer(one, PEERS)
    box = root.locator("[data-control=text] input")
    assert not box.is_editable()
    note = root.locator(".gx-own-text")
    assert note.inner_text() == (
        "These samples work here; your own text works after “make serve” or in the notebook."
    )
    root.locator(".gx-sample").nth(1).click()
    sample = ex.get(PEERS).controls[0].samples[1]
    says(one.page, root, words(PEERS, {"text": sample}))
    one.page.evaluate("location.hash = 'explorer=subword-peers&text=zebra'")
    says(one.page, root, "These samples work here")
    assert root.locator(".gx-problem.gx-offers").count() == 1
