"""Tables of results: text that a test compares, and HTML that readers sort and link from."""

from xml.etree import ElementTree

import pytest

from genopt_core.explorers.reports import PEERS, Estimate, Spread, table
from genopt_core.figures.table import DIGIT, Column

ROWS = [
    {"regret": 0.25, "runs": 240, "ratio": Spread(7.78, 0.48, 11.69), "method": "ours"},
    {"regret": 0.5, "runs": 48, "ratio": Spread(0.24, 0.15, 0.41), "method": "TPE"},
    {"regret": None, "runs": 1010, "ratio": None, "method": "a < b"},
]
COLUMNS = {
    "regret": Column(".2f", best="least"),
    "runs": Column(",d", best="most", heading="pairs"),
    "ratio": Column(".2f", "times"),
}


def page(rows=ROWS, columns=COLUMNS, **more):
    return ElementTree.fromstring(table(rows, columns, **more)._repr_mimebundle_()["text/html"])


def texts(root, path):
    return ["".join(cell.itertext()) for cell in root.findall(path)]


def best(root):
    """The cells that are marked."""
    return [
        "".join(cell.itertext()).split()[-1]
        for cell in root.findall(".//td")
        if cell.find(".//*[@aria-label='best']") is not None
    ]


def test_text_is_aligned_and_has_the_caption():
    shown = table(ROWS, COLUMNS, first="method", caption="Who is ahead.")
    assert str(shown).splitlines() == [
        "Who is ahead.",
        "method  regret  pairs      ratio (times)",
        "ours      0.25    240  7.78 (0.48–11.69)",
        "TPE       0.50     48   0.24 (0.15–0.41)",
        "a < b        –  1,010                  –",
    ]
    assert shown._repr_mimebundle_()["text/plain"] == str(shown) == repr(shown)


def test_html_names_its_rows_and_columns():
    root = page(first="method", caption="Who is ahead. More.", own=["ours"])
    assert root.get("aria-label") == "Who is ahead"
    assert root.get("tabindex") == "0", "a box that scrolls is reached by keyboard"
    assert texts(root, ".//thead//th[@scope='col']") == [
        "method",
        "regret",
        "pairs",
        "ratio (times)",
    ]
    assert texts(root, ".//tbody//th[@scope='row']") == ["ours", "TPE", "a < b"]
    assert texts(root, ".//tr[@class='gt-own']/th/strong") == ["ours"]
    assert "best of its column" in texts(root, ".//caption")[0]


def test_the_best_is_marked_by_a_sign_and_words():
    assert best(page(first="method")) == ["0.25", "1,010"]
    equal = [{"m": "a", "v": 0.1}, {"m": "b", "v": 0.1}]
    assert not best(page(equal, {"v": Column(best="least")}))
    tied = [*equal, {"m": "c", "v": 0.2}, {"m": "d", "v": 0.1001}]
    assert len(best(page(tied, {"v": Column(best="least")}))) == 3


def test_numbers_stand_point_below_point():
    cells = texts(page(first="method"), ".//tbody//td[3]")
    assert cells == ["7.78 (0.48–11.69)", f"0.24 (0.15–{DIGIT}0.41)", "–"]
    signed = [{"m": "a", "d": Estimate(-0.5, 10.0)}, {"m": "b", "d": Estimate(2.0, 1.5)}]
    cells = texts(page(signed, {"d": "+.1f"}), ".//td")
    assert cells == ["−0.5 ± 10.0", f"+2.0 ± {DIGIT}1.5"]


def test_peers_lead_to_where_they_come_from():
    (link,) = page(first="method").findall(".//a")
    assert (link.text, link.get("href")) == ("TPE", PEERS["TPE"])
    assert all(address.startswith("https://") for address in PEERS.values())


def test_rows_are_sorted_best_first_and_say_so():
    root = page(first="method", sort="runs")
    assert texts(root, ".//tbody//th")[0] == "a < b"
    assert texts(root, ".//th[@aria-sort='descending']") == ["pairs"]
    root = page(first="method", sort="regret")
    assert texts(root, ".//th[@aria-sort='ascending']") == ["regret"]
    assert texts(root, ".//tbody//th")[-1] == "a < b"
    with pytest.raises(ValueError, match="first and sort must be one of 'regret', 'runs'"):
        table(ROWS, first="methods")
    with pytest.raises(ValueError, match="best must be one of"):
        page(columns={"runs": Column(best="large")})


def test_columns_may_compete_for_each_row():
    rows = [{"problem": "a", "x": 0.2, "y": 0.1, "wins": 0}, {"problem": "b", "x": 0.1, "y": 0.3}]
    root = page(rows, across="least")
    assert best(root) == ["0.100", "0.100"]
    assert "best of its row" in texts(page(rows, caption="A.", across="least"), ".//caption")[0]
    alone = page(rows, columns={"y": Column(".3f", best="least")}, across="least")
    assert best(alone) == best(root), "no best of a column beside those of the rows"
    with pytest.raises(ValueError, match="across must be one of"):
        table(rows, across="low")
