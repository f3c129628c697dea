"""By keyboard alone and by ear: from the top of a page into its figure, and what is announced."""

import pytest

PAGE = "ch1_subwords/paths.html"
MOST_STOPS = 60


@pytest.fixture
def page():
    return PAGE


def test_tab_leads_from_the_skip_link_into_the_first_figure_and_arrows_move_it(opened):
    """The skip link first; behind it nothing is caught, and the figure is a few stops away."""
    page = opened.page
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent.trim()") == "Skip to main content"
    page.keyboard.press("Enter")
    root = opened.explorer()
    for _ in range(MOST_STOPS):
        page.keyboard.press("Tab")
        if page.evaluate("!!document.activeElement.closest('.genopt-explorer input[type=range]')"):
            break
    else:
        pytest.fail(f"no slider after {MOST_STOPS} stops")
    says = root.locator("output.gx-readout")
    before, value = says.inner_text(), page.evaluate("document.activeElement.value")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    assert page.evaluate("document.activeElement.value") != value
    page.wait_for_function(
        "([root, before]) => root.querySelector('output.gx-readout').innerText !== before",
        arg=[root.element_handle(), before],
    )
    # an <output> is a live region: what it says is announced
    role, live = says.evaluate("one => [one.localName, one.getAttribute('aria-live')]")
    assert (role, live) in {("output", None), ("output", "polite")}
    assert page.evaluate("document.activeElement.getAttribute('aria-valuetext')")


def test_all_that_can_be_operated_has_a_name(opened):
    """From the tree that screen readers read."""
    session = opened.page.context.new_cdp_session(opened.page)
    nodes = session.send("Accessibility.getFullAXTree")["nodes"]
    session.detach()
    operated = {
        *("button", "link", "slider", "spinbutton", "textbox", "combobox", "radio", "checkbox"),
        *("switch", "searchbox"),
    }
    found = [
        (node["role"]["value"], node.get("name", {}).get("value", "").strip())
        for node in nodes
        if not node.get("ignored") and node.get("role", {}).get("value") in operated
    ]
    assert {"slider", "button", "link", "textbox"} <= {role for role, _ in found}
    assert [role for role, name in found if not name] == []
    images = [n for n in nodes if n.get("role", {}).get("value") == "image" and not n["ignored"]]
    assert all(n.get("name", {}).get("value") for n in images)


def test_focus_can_be_seen(opened):
    root = opened.explorer()
    unseen = root.evaluate(
        """root => [...root.querySelectorAll("button, input, select")]
            .filter((one) => one.checkVisibility())
            .filter((one) => {
                one.focus({focusVisible: true});
                const look = getComputedStyle(one), inner = one.matches("input[type=radio]");
                return !inner && look.outlineStyle === "none" && look.boxShadow === "none";
            }).map((one) => one.outerHTML.slice(0, 80))"""
    )
    assert unseen == []


def test_nothing_moves_by_itself_where_less_motion_is_asked_for(opened):
    """The tabs of these tests ask for less motion."""
    assert opened.page.evaluate("matchMedia('(prefers-reduced-motion: reduce)').matches")
    moving = opened.page.evaluate(
        """() => [...document.querySelectorAll("article *, .reading-tip")].filter((one) => {
            const look = getComputedStyle(one);
            const long = [look.animationDuration, look.transitionDuration].map(parseFloat);
            return (look.animationName !== "none" && long[0] > 0.01) || long[1] > 0.3;
        }).map((one) => `${one.localName}.${one.className}`)"""
    )
    assert moving == []
