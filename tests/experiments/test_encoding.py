"""Our encoder beside the exported one: the stored times hold together, and the page's words."""

import json
import statistics

import pytest

from book.ch1_subwords import results
from book.experiments.common import store
from book.experiments.subwords import encoding
from genopt_core import corpora
from genopt_core.subwords import train
from genopt_core.tables import records
from tests.places import BOOK, RESULTS

STORED = json.loads((RESULTS / "subwords_encoding.json").read_text(encoding="utf-8"))
ROWS = records(STORED)


def test_every_form_has_every_round_and_the_summary_is_that_of_the_rows():
    seconds = {
        (r["text"], r["form"], r["state"], r["round"]): r["cpu_seconds"] for r in ROWS
    }  # fmt: skip
    assert len(seconds) == len(ROWS)
    states, rounds = ("first", "again"), range(encoding.ROUNDS)
    for entry in STORED["summary"]:
        at = (entry["text"], entry["form"], entry["state"])
        ours = (entry["text"], encoding.OURS, entry["state"])
        spent = [seconds[*at, turn] for turn in rounds]
        times = [seconds[*at, turn] / seconds[*ours, turn] for turn in rounds]
        speed = STORED["texts"][entry["text"]]["bytes"] / 1e6 / statistics.median(spent)
        assert entry["mb_per_second"][0] == pytest.approx(speed, rel=1e-3)
        assert entry["over_ours"][0] == pytest.approx(statistics.median(times), rel=1e-3)
        assert entry["over_ours"][1:] == pytest.approx([min(times), max(times)], rel=1e-3)
    wanted = {(t, f, s) for t in encoding.TEXTS for f in encoding.FORMS for s in states}
    assert {(e["text"], e["form"], e["state"]) for e in STORED["summary"]} == wanted
    assert len(ROWS) == len(wanted) * encoding.ROUNDS


def test_one_thread_was_used():
    """What is shared among threads takes more of the processor than of the clock."""
    for row in ROWS:
        assert row["cpu_seconds"] <= 1.05 * row["seconds"] + 1e-3


def test_the_stored_text_is_the_committed_one():
    facts = STORED["texts"]["moby-dick"]
    text = corpora.load("moby-dick")
    assert facts["sha256"] == store.sha256(text)
    assert (facts["bytes"], facts["characters"]) == (len(text.encode()), len(text))


@pytest.mark.parametrize("rule", ["lossless", "gpt4"])
def test_stretches_give_the_tokens_of_the_whole(rule, monkeypatch):
    pytest.importorskip("tokenizers")
    monkeypatch.setattr(encoding, "STRETCH", 200)
    lines = corpora.load("sotu")[:3000].replace(". ", ".\n")
    text = lines + "\n  if x:\n\n    y = 10,\r\n\tz\n。\n日本\n"
    parts = encoding.stretches(text)
    assert "".join(parts) == text
    assert len(parts) > 5
    counts = corpora.count_words(text, rule)
    vocabulary = train(counts, 400, effort="fast", convention=rule, at_most=True)
    found = [encoding.ids(f, encoding.encoders(vocabulary, f, text)()) for f in encoding.FORMS]
    assert found == [vocabulary.encode(text).tolist()] * len(encoding.FORMS)


def test_the_first_time_nothing_is_remembered():
    text = "low lower low"
    vocabulary = train(corpora.count_words(text), 8)
    vocabulary.encode(text)
    for _ in range(2):
        call = encoding.encoders(vocabulary, encoding.OURS, text)
        (fresh,) = (cell.cell_contents for cell in call.__closure__ if cell.cell_contents != text)
        assert not any(fresh._encoder._ids.values())


def test_the_table_is_against_the_fastest_exported_form():
    speeds = {(e["text"], e["form"], e["state"]): e for e in STORED["summary"]}
    rows = results.encoding_beside_the_exported()
    assert len(rows) == 2 * len(encoding.TEXTS)
    for row, (text, state) in zip(
        rows, [(t, s) for t in encoding.TEXTS for s in ("first", "again")], strict=True
    ):
        peers = [speeds[text, form, state] for form in encoding.FORMS[1:]]
        best = max(peers, key=lambda entry: entry["mb_per_second"][0])
        assert list(row["exported"]) == best["mb_per_second"]
        assert list(row["ours"]) == speeds[text, encoding.OURS, state]["mb_per_second"]
        assert list(row["ours, times as fast"]) == best["over_ours"]


def test_what_the_page_says_of_encoding():
    rows = results.encoding_beside_the_exported()
    assert all(row["ours, times as fast"].smallest > 1 for row in rows)
    ranges = []
    for when in results.STATES.values():
        times = [r["ours, times as fast"].middle for r in rows if r["encoded"] == when]
        ranges.append(f"{min(times):.1f} to {max(times):.1f} times")
    cells = json.loads((BOOK / "ch1_subwords" / "evidence.ipynb").read_text("utf-8"))["cells"]
    prose = " ".join("".join(c["source"]) for c in cells if c["cell_type"] == "markdown")
    prose = " ".join(prose.split())
    assert f"ours is {ranges[0]} as fast as the fastest of three ways" in prose
    assert f"when the words are remembered, {ranges[1]}." in prose
    assert (encoding.ROUNDS, "faster one in all nine rounds of every row" in prose) == (9, True)
