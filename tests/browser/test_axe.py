"""Every page for readers who see little, or use other senses: axe in light and in dark colors."""

from __future__ import annotations

import pytest
from browser.reader import SPHINX_PAGES, contents
from places import CORE

pytestmark = pytest.mark.browser

AXE = CORE / "figures" / "web" / "node_modules" / "axe-core" / "axe.min.js"

# Defects of the theme and of docutils, on every page that has the part; ours has none.
THEME_BASELINE = {
    "label-content-name-mismatch",  # "Show code cell source"
    "region",  # one skip link of the theme outside landmarks
    "aria-required-children",  # docutils' list of references
    "aria-allowed-role",  # docutils' entries of that list
    "aria-deprecated-role",  # the same entries
    "landmark-unique",  # two navigations of the theme with one name
    "scrollable-region-focusable",  # the theme's sidebars and highlighted code
}

# What is in the page, and what of it is shown: of two logos, one in each scheme, the name and file.
CONTENT = """(() => {
    const all = [...document.body.querySelectorAll("*")];
    const logo = (one) => one.matches("img:is(.only-light, .only-dark)");
    return [
        document.body.innerHTML,
        all.map((one) => +(!logo(one) && one.checkVisibility())).join(""),
        all.filter((one) => logo(one) && one.checkVisibility())
            .map((one) => [one.alt, one.getAttribute("src"), one.getAttribute("role")].join()),
    ].join("\\n");
})()"""

# Of each element with words of its own, all that its contrast depends on: the colors of its letters
# and of the grounds it stands on, one in another, and how its letters look.
SPEAKING = """const speaking = [...document.body.querySelectorAll("*")].filter((node) =>
    [...node.childNodes].some((one) => one.nodeType === Node.TEXT_NODE && one.data.trim()));"""
LOOKS = f"""(() => {{
    {SPEAKING}
    const known = new Map([[document.documentElement.parentNode, ""]]);
    const grounds = (node) => {{
        if (!known.has(node)) {{
            const look = getComputedStyle(node);
            const own = ["color", "backgroundColor", "backgroundImage", "opacity", "filter",
                "position", "zIndex"].map((name) => look[name]).join(";");
            const above = grounds(node.parentNode);
            known.set(node, above.endsWith(`|${{own}}`) ? above : `${{above}}|${{own}}`);
        }}
        return known.get(node);
    }};
    return speaking.map((node) => {{
        const look = getComputedStyle(node);
        const letters = ["fontSize", "fontWeight", "fill", "textDecorationLine", "textShadow"];
        const link = node.closest("a") !== null;
        return [grounds(node), link, ...letters.map((name) => look[name])].join();
    }});
}})()"""
# They are megabytes: they stay in the page.
NOTE = f"(globalThis.before = {{content: {CONTENT}, looks: {LOOKS}}}, true)"
# Where each of the looks stands first, of those before and now together; null in another content.
FIRST_OF_EACH = f"""(() => {{
    const {{content, looks}} = globalThis.before;
    if (content !== {CONTENT}) return null;
    const now = {LOOKS};
    if (now.length !== looks.length) throw new Error("other elements speak");
    const first = new Map();
    now.forEach((look, i) => {{
        const both = `${{looks[i]}} then ${{look}}`;
        if (!first.has(both)) first.set(both, i);
    }});
    return [[...first.values()], now.length];
}})()"""
COLOR_RULES = ["color-contrast", "link-in-text-block"]
# Nothing here plays by itself or turns with the device: axe need not fetch media and sheets again.
ALL_RULES = """axe.run(document, {resultTypes: ["violations"], preload: false})"""
COLORS = f"""(numbers) => {{
    {SPEAKING}
    const runOnly = {{type: "rule", values: {COLOR_RULES}}};
    const include = numbers.map((i) => speaking[i]);
    return axe.run({{include}}, {{resultTypes: ["violations"], preload: false, runOnly}});
}}"""


# Once over all pages at 1440, 1280, 390 and 360: what one size shows, all do; colors differ.
@pytest.mark.parametrize("page", [*contents(), *SPHINX_PAGES])
def test_axe_finds_nothing_but_the_theme_s_own_defects(opened, page):
    """All rules in light colors; in dark ones, if nothing else is different, those of color alone,
    on one of the elements that look the same in both.
    """
    # without fades: a color looked at halfway between light and dark has no contrast
    still = "*, ::before, ::after { transition: none !important }"
    style = opened.page.add_style_tag(content=still)
    opened.settled()
    opened.page.evaluate(NOTE)
    opened.page.add_script_tag(path=str(AXE))
    found = {"light": opened.page.evaluate(ALL_RULES)}
    opened.page.emulate_media(color_scheme="dark")
    opened.settled()
    if same := opened.page.evaluate(FIRST_OF_EACH):
        found["dark"] = opened.page.evaluate(COLORS, same[0])
    else:
        found["dark"] = opened.page.evaluate(ALL_RULES)
    style.evaluate("node => node.remove()")
    ours = [
        (scheme, v["id"], node["target"], node["failureSummary"][:300])
        for scheme, result in found.items()
        for v in result["violations"]
        for node in v["nodes"]
        if v["id"] not in THEME_BASELINE or "genopt" in node["html"] or "gx-" in node["html"]
    ]
    assert ours == []


def test_of_elements_that_look_alike_one_is_asked_and_a_faint_one_is_found(visit):
    one = visit("glossary.html").settled()
    one.page.add_script_tag(path=str(AXE))
    last = one.page.locator("article p").last
    for look, faults in (("", []), ("color: #999", ["color-contrast"])):
        last.evaluate("(node, look) => { node.style.cssText = look }", look)
        # at once: nothing that the page does by itself comes between
        numbers, speaking = one.page.evaluate(f"{NOTE} && {FIRST_OF_EACH}")
        assert len(numbers) < speaking / 2
        found = one.page.evaluate(COLORS, numbers)["violations"]
        assert [v["id"] for v in found for node in v["nodes"]] == faults
    last.evaluate("node => node.removeAttribute('style')")


def test_the_rules_of_color_are_those_that_axe_has(visit):
    one = visit("glossary.html")
    one.page.add_script_tag(path=str(AXE))
    known = "axe.getRules(['cat.color']).map((one) => one.ruleId)"
    by_wish = {"color-contrast-enhanced"}  # of level AAA
    assert set(one.page.evaluate(known)) - by_wish == set(COLOR_RULES)
