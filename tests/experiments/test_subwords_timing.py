"""New rounds of the timing of training beside those that are stored."""

from book.experiments.common import store
from book.experiments.common.places import RESULTS
from book.experiments.subwords import timing

BEFORE = store.read(RESULTS / "subwords_timing.json")
KEY = ("training", "english", 8000)


def entry(table, name):
    return next(
        e
        for e in table["summary"]
        if (e["part"], e["corpus"], e["size"], e["contestant"]) == (*KEY, name)
    )


def added(*rows, planned=None, **options):
    new = {"rows": [[*KEY, *row, 1.0, 50.0, 60.0] for row in rows], "corpora": {}}
    new |= {"provenance": {}, "load_before": None}
    jobs = [(*KEY, *row[:2]) for row in (rows if planned is None else planned)]
    return timing.with_stored(new, BEFORE, jobs, **options)


def test_what_lies_there_from_before_does_not_count():
    """A result below ``.cache`` that was not asked for may be of older code."""
    turn = timing.next_round(BEFORE, (*KEY, "ours_standard", 0))
    stale, new = ("ours_standard", turn - 1, 9.0), ("ours_standard", turn, 2.0)
    assert entry(added(stale, new, planned=[new]), "ours_standard")["seconds"] == [2.0, 2.0, 2.0]


def test_anew_leaves_no_older_round_of_what_is_measured():
    turn = timing.next_round(BEFORE, (*KEY, "hf_bpe", 0))
    table = added(("hf_bpe", turn, 3.0), anew=True)
    assert entry(table, "hf_bpe")["rounds"] == 1
    assert "over_hf_bpe" not in entry(table, "sp_text")  # no round has both
    assert entry(table, "sp_text")["seconds"] == entry(BEFORE, "sp_text")["seconds"]
    assert table["earlier"] == [*BEFORE["earlier"], BEFORE["provenance"]]


def test_nothing_new_leaves_the_stored_table_as_it_is():
    table = added()
    assert table["rows"] == BEFORE["rows"]
    assert table["summary"] == BEFORE["summary"]


def test_new_rounds_pair_with_each_other_and_older_rows_of_ours_go():
    turn = timing.next_round(BEFORE, (*KEY, "ours_standard", 0))
    assert turn == 1 + max(row[4] for row in BEFORE["rows"] if tuple(row[:3]) == KEY)
    table = added(("hf_unigram_front", turn, 8.0), ("ours_standard", turn, 2.0))
    ours, best = entry(table, "ours_standard"), entry(table, "ours_likelihood")
    assert ours["rounds"] == 1
    assert ours["over_hf_unigram_front"] == [0.25, 0.25, 0.25]
    assert "over_sp_text" not in ours  # not measured in this round
    assert best == entry(BEFORE, "ours_likelihood")
    peer = entry(table, "hf_unigram_front")
    assert peer["rounds"] == 1 + entry(BEFORE, "hf_unigram_front")["rounds"]
    assert timing.next_round(table, (*KEY, "hf_bpe", 0)) == turn + 1
    jobs = [tuple(row[:5]) for row in table["rows"][-2:]]
    again = timing.with_stored(table | {"rows": table["rows"][-2:], "corpora": {}}, table, jobs)
    assert again["rows"] == table["rows"]  # written twice, stored once
