"""What is left to choose: the stored rows hold together, and the page says what they say."""

from __future__ import annotations

import json
import re

import pytest
from places import BOOK, RESULTS

from book.experiments.subwords import corpora, peers, room
from book.experiments.subwords.metrics import evaluate
from genopt_core.tables import records

STORED = json.loads((RESULTS / "subwords_room.json").read_text(encoding="utf-8"))
QUALITY = json.loads((RESULTS / "subwords_quality.json").read_text(encoding="utf-8"))
ROWS = {
    row["contestant"]: row
    for row in records(QUALITY)
    if (row["corpus"], row["size"]) == ("english", room.SIZE)
}
BITS = {
    (row["marker"], row["size"], *row["settings"].items(), row["in_sight"]): row
    for row in records(STORED, "bits", "bits_columns")
}
WORDS = {"low▁": 50, "lower▁": 20, "newest▁": 60, "widest▁": 30, "fen▁": 3, "brine▁": 2}
OTHER = {"lowest▁": 20, "wider▁": 10, "newer▁": 4, "low▁": 1}


@pytest.fixture
def tiny(tmp_path) -> corpora.Corpus:
    facts = {f"{part}_bytes": corpora.text_bytes(words) for part, words in
             (("train", WORDS), ("held", OTHER))}  # fmt: skip
    return corpora.Corpus("tiny", WORDS, OTHER, facts | {"held_words": 35}, tmp_path)


@pytest.mark.parametrize(("marker", "name"), [("end", "ours_likelihood"), ("front", "ours_front")])
def test_bits_are_counted_as_in_the_table_of_all_metrics(marker, name, tiny):
    trained = peers.train(name, tiny, 16)
    sizes = tiny.facts["train_bytes"], tiny.facts["held_bytes"]
    wanted = evaluate(trained.pieces, trained.segment, WORDS, OTHER, sizes, trained.view)
    found = room.bits(tiny, marker, 16, {}, False)
    assert found == pytest.approx([wanted["train_bits_per_byte"], wanted["held_bits_per_byte"]])


def test_the_held_out_words_are_divided_without_rest(tiny, monkeypatch):
    monkeypatch.setattr(room, "SIZE", 16)
    monkeypatch.setattr(room, "SEEN", ((0, 0), (1, None)))
    trained = peers.train("ours_likelihood", tiny, 16)
    sizes = tiny.facts["train_bytes"], tiny.facts["held_bytes"]
    wanted = evaluate(trained.pieces, trained.segment, WORDS, OTHER, sizes)
    new, known = room.by_seen(tiny, "ours_likelihood")
    assert (new[0], known[0]) == pytest.approx((34 / 35, 1 / 35))
    assert new[1] + known[1] == pytest.approx(wanted["held_bits_per_byte"])
    tokens = 34 * new[2] + known[2]
    assert tokens == pytest.approx(wanted["held_tokens"])


def test_rows_are_those_of_the_table_of_all_metrics():
    before = QUALITY["corpora"]["english"]
    assert {key: STORED["corpus"][key] for key in before} == before
    for name in ("ours_likelihood", room.PEER):
        groups = [row for row in records(STORED) if row["contestant"] == name]
        assert sum(row["held_words_share"] for row in groups) == pytest.approx(1, abs=1e-4)
        found = sum(row["held_bits_per_byte"] for row in groups)
        assert found == pytest.approx(ROWS[name]["held_bits_per_byte"], abs=5e-5)
    plain = BITS["end", room.SIZE, False]
    for part in ("train", "held"):
        wanted = ROWS["ours_likelihood"][f"{part}_bits_per_byte"]
        assert plain[f"{part}_bits_per_byte"] == pytest.approx(wanted, abs=2e-5)
    best = min(
        (row for name, row in ROWS.items() if not name.startswith("ours")),
        key=lambda row: row["held_bits_per_byte"],
    )
    assert best["contestant"] == room.PEER


def test_what_the_page_says_of_16000_sub_words():
    notebook = json.loads((BOOK / "ch1_subwords/evidence.ipynb").read_text(encoding="utf-8"))
    cells = ("".join(cell["source"]) for cell in notebook["cells"])
    (text,) = (cell for cell in cells if "At 16,000 little is left to choose" in cell)
    said = " ".join(text.split())
    ours, peer = (
        ROWS["ours_likelihood"]["held_bits_per_byte"],
        ROWS[room.PEER]["held_bits_per_byte"],
    )

    def numbers(pattern: str) -> list[float]:
        (found,) = re.findall(pattern.replace("#", r"([\d.]+)"), said)
        return [float(number) for number in ([found] if isinstance(found, str) else found)]

    def ahead(held: float) -> float:
        return 100 * (1 - held / peer)

    groups = {
        name: [row for row in records(STORED) if row["contestant"] == name]
        for name in ("ours_likelihood", room.PEER)
    }
    often = {name: [r for r in found if r["seen_least"] >= 20] for name, found in groups.items()}
    share, bits, of, same, of_peer = numbers(
        "20 times or more are # % of the held-out words, .*? take # of # bits a byte with ours, "
        "# of # with"
    )
    assert share == round(100 * sum(row["held_words_share"] for row in often["ours_likelihood"]))
    for found in often.values():
        assert round(sum(row["held_bits_per_byte"] for row in found), 2) == bits
        assert all(row["tokens_per_word"] < 1.01 for row in found)
    assert (same, of, of_peer) == (bits, round(ours, 2), round(peer, 2))
    rest = {
        name: sum(r["held_bits_per_byte"] for r in found if r["seen_least"] < 20)
        for name, found in groups.items()
    }
    assert numbers("on the others ours is ahead by # %") == [
        round(100 * (1 - rest["ours_likelihood"] / rest[room.PEER]), 1)
    ]
    more = BITS["end", 18000, False]["held_bits_per_byte"]
    assert ahead(more) >= 1 > ahead(BITS["end", 17000, False]["held_bits_per_byte"])
    assert numbers("ours takes # bits at 18,000, MinGram # at") == [round(more, 3), round(peer, 3)]
    seen = BITS["end", room.SIZE, ("min_count", 3), True]["held_bits_per_byte"]
    assert numbers("which nobody can do, is # % ahead of MinGram") == [round(ahead(seen), 1)]
    rare = BITS["end", room.SIZE, ("min_count", 3), False]
    plain = BITS["end", room.SIZE, False]
    fewer, more = numbers("takes # % fewer bits on it and # % more on the held-out one")
    assert fewer == round(100 * (1 - rare["train_bits_per_byte"] / plain["train_bits_per_byte"]), 1)
    assert more == round(100 * (rare["held_bits_per_byte"] / plain["held_bits_per_byte"] - 1), 1)
    new = BITS["end", room.SIZE, ("min_count", 3), ("new_words", True), False]["held_bits_per_byte"]
    assert numbers("below, gains # % over the default") == [round(100 * (1 - new / ours), 2)]
