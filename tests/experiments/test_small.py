"""Small corpora: the reader of translations, and a row of the stored table made again."""

import pytest

from book.experiments.subwords import peers, small
from genopt_core.tables import records
from tests.places import RESULTS

PO = r"""
msgid ""
msgstr "Language: xx\n"

#, fuzzy
msgctxt "verb"
msgid "run"
msgstr "lauf"

msgid "one \"day\""
msgid_plural "days"
msgstr[0] ""
"ein Tag"
msgstr[1] "\u00e4 Tage\n"

msgid "untranslated"
msgstr ""

msgid "last"
msgstr "letzte"
"""


def test_translations_are_read_in_order_without_header_and_gaps(tmp_path):
    file = tmp_path / "django.po"
    file.write_text(PO, encoding="utf-8")
    assert list(small.messages(file)) == ["lauf", "ein Tag", "ä Tage\n", "letzte"]


def test_a_row_of_the_stored_table_is_what_comes_out_again():
    table = records(small.read(RESULTS / "subwords_small.json"))
    row = next(
        r for r in table if (r["corpus"], r["size"], r["contestant"]) == ("5000", 1000, "hf_bpe")
    )
    corpus = small.load("growth", "5000")
    found = peers.score(peers.train("hf_bpe", corpus, 1000), corpus)
    for name in ("held_bits_per_byte", "held_tokens_per_word", "optimal_held_bits_per_byte"):
        assert found[name] == pytest.approx(row[name], rel=1e-4)


def test_a_run_in_a_fresh_clone_goes_on_from_the_table(tmp_path, monkeypatch):
    monkeypatch.setattr(small, "SCRATCH", tmp_path)
    table = small.read(RESULTS / "subwords_small.json")
    small.restore(table)
    lying = {p.name: small.read(p) for p in (tmp_path / "small").iterdir()}
    assert len(lying) == len(table["rows"]) + len(table["skipped"])
    for row in records(table):
        job = tuple(row[name] for name in ("part", "corpus", "size", "contestant"))
        found = lying[small.kept(job).name]
        assert [found[name] for name in small.COLUMNS[5:]] == [
            row[name] for name in small.COLUMNS[5:]
        ]
    for *job, reason in table["skipped"]:
        assert lying[small.kept(tuple(job)).name]["skipped"] == reason


def test_every_cell_of_the_eight_languages_is_there():
    table = records(small.read(RESULTS / "subwords_small.json"))
    cells = {(r["corpus"], r["size"], r["contestant"]) for r in table if r["part"] == "messages"}
    for language in small.LANGUAGES:
        for size in small.SIZES:
            for name in ("ours", "ours_without", "hf_bpe", "hf_unigram", "mingram"):
                assert (language, size, name) in cells


def test_every_tokenizer_ran_on_the_whole_corpora():
    table = records(small.read(RESULTS / "subwords_small.json"))
    cells = {(r["corpus"], r["size"], r["contestant"]) for r in table}
    for corpus, sizes in small.WHOLE.items():
        for size in sizes:
            for name in ("ours", *small.WHOLE_PEERS):
                assert (corpus, size, name) in cells
