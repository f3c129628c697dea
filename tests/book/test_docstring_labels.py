"""Labels of formulas in docstrings lead to the formulas on the API pages."""

import re

from places import BOOK


def test_labels_become_references(monkeypatch):
    monkeypatch.syspath_prepend(str(BOOK / "_ext"))
    import labels

    lines = [
        "Costs (book, eq.",
        "    swe-cost), with",
        "(book, eq. kv-memory, limit); eq. 3",
    ]
    labels.link(None, "function", "f", None, None, lines)
    assert lines == [
        "Costs (book, eq.",
        "    :eq:`swe-cost`), with",
        "(book, eq. :eq:`kv-memory`, limit); eq. 3",
    ]


def test_no_label_is_left_as_bare_text(html):
    pages = sorted((html / "api").glob("*.html"))
    assert len(pages) > 5
    for page in pages:
        text = page.read_text(encoding="utf-8")
        assert not re.findall(r"book, eq\.\s+[a-z0-9]+-[a-z0-9-]+", text), page.name
    formulas = (html / "api" / "subwords.html").read_text(encoding="utf-8")
    assert re.search(r'href="\.\./ch1_subwords/paths\.html#[\w-]*swe-cost"', formulas)
