"""The committed texts are the ones their manifest describes, and words are cut as promised."""

import hashlib
import json
import lzma
import subprocess
import sys
import unicodedata
from pathlib import Path

import pytest

from genopt_core import corpora

DATA = Path(__file__).resolve().parent.parent / "book" / "data"


def test_manifest_hashes_and_sizes_are_those_of_the_files():
    for name in corpora.names():
        row = corpora.describe(name)
        stored = (DATA / row["file"]).read_bytes()
        text = lzma.decompress(stored)
        assert (len(stored), len(text)) == (row["file_bytes"], row["text_bytes"])
        assert hashlib.sha256(stored).hexdigest() == row["file_sha256"]
        assert hashlib.sha256(text).hexdigest() == row["text_sha256"]
        assert corpora.load(name).encode("utf-8") == text
        assert row["licence"]
        assert row["source"].startswith("npm @stdlib/")


def test_the_state_of_the_union_is_the_known_one():
    row = corpora.describe("sotu")
    assert row["text_bytes"] == 3_562_111
    assert row["text_sha256"].startswith("68baf1923506a006")


def test_checking_script_agrees_without_the_network():
    command = [sys.executable, "-m", "book.experiments.common.corpora", "--check"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=DATA.parent.parent)
    assert done.returncode == 0, done.stdout + done.stderr


def test_loading_twice_reads_once():
    assert corpora.load("sotu") is corpora.load("sotu")


@pytest.fixture
def small(tmp_path):
    """A folder with one tiny corpus; the test may break it."""
    text = b"one two\n"
    packed = lzma.compress(text)
    (tmp_path / "tiny.txt.xz").write_bytes(packed)
    row = {
        "name": "tiny",
        "file": "tiny.txt.xz",
        "file_sha256": hashlib.sha256(packed).hexdigest(),
        "text_sha256": hashlib.sha256(text).hexdigest(),
    }
    (tmp_path / "manifest.json").write_text(json.dumps({"corpora": [row]}), encoding="utf-8")
    return tmp_path


def test_folder_comes_from_the_argument_or_the_environment(small, monkeypatch):
    assert corpora.load("tiny", folder=small) == "one two\n"
    monkeypatch.setenv("GENOPT_DATA", str(small))
    assert corpora.names() == ("tiny",)
    assert corpora.load("tiny") == "one two\n"


def test_a_torn_file_is_refused(small):
    path = small / "tiny.txt.xz"
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(ValueError, match="torn"):
        corpora.load("tiny", folder=small)


def test_a_file_with_another_text_is_refused(small):
    manifest = json.loads((small / "manifest.json").read_text())
    manifest["corpora"][0]["text_sha256"] = "0" * 64
    (small / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ValueError, match="not the one its manifest"):
        corpora.load("tiny", folder=small)


def test_a_missing_file_and_a_missing_folder_say_what_to_do(small, tmp_path):
    (small / "tiny.txt.xz").unlink()
    with pytest.raises(FileNotFoundError, match="experiments/common/corpora"):
        corpora.load("tiny", folder=small)
    with pytest.raises(FileNotFoundError, match="GENOPT_DATA"):
        corpora.names(folder=tmp_path / "nowhere")


def test_an_unknown_name_is_answered_with_the_known_ones():
    with pytest.raises(ValueError, match=r"'sotu'.*got 'sonnets'"):
        corpora.describe("sonnets")


# ---------------------------------------------------------------- words


@pytest.mark.parametrize("name", ["sotu", "moby-dick"])
def test_lossless_words_restore_the_text(name):
    text = corpora.load(name)
    words = corpora.pretokenize(text)
    expected = " ".join(unicodedata.normalize("NFC", text).split())
    assert "".join(words).replace(corpora.END_OF_WORD, " ") == expected


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", []),
        (" \n\t", []),
        ("a", ["a"]),
        ("low, lower", ["low", ",▁", "lower"]),
        ("x_1½", ["x", "_", "1", "½"]),
        ("cafe\u0301 5%", ["café▁", "5", "%"]),
        ("日本 語", ["日本▁", "語"]),
        ("a▁b", ["a▁", "b"]),
        ("▁", []),
        ("a\u0300\u0316 b", ["à\u0316▁", "b"]),  # combining marks belong to their letter
        ("कानून का", ["कानून▁", "का"]),
    ],
)
def test_lossless_examples(text, words):
    got = list(corpora.pretokenize(text))
    # A digit-like letter such as ½ may join letters; what matters is that nothing is lost.
    assert "".join(got) == "".join(words)
    if "½" not in text:
        assert got == words


def test_textbook_words_are_small_letters_with_the_end_symbol():
    got = list(corpora.pretokenize("The İzmir-NEWEST don't, in 1790▁x", "textbook"))
    assert got[0] == "the▁"
    assert got[-4:] == ["don▁", "t▁", "in▁", "x▁"]
    assert "newest▁" in got
    assert all(w.endswith("▁") and w[:-1] == w[:-1].lower() for w in got)


def test_counts_are_sorted_by_count_then_alphabet():
    counts = corpora.count_words("b a c b a d", "textbook")
    assert list(counts.items()) == [("a▁", 2), ("b▁", 2), ("c▁", 1), ("d▁", 1)]


def test_counts_of_the_corpus_are_as_printed_in_the_book():
    counts = corpora.count_words(corpora.load("sotu"), "textbook")
    assert (len(counts), sum(counts.values())) == (16_563, 591_599)
    assert next(iter(counts.items())) == ("the▁", 49_252)


def test_bad_arguments_are_named():
    with pytest.raises(TypeError, match="text must be a str, got bytes"):
        corpora.pretokenize(b"abc")
    for text in ("a\ud800", "\udfff", "\ud83d \ude00"):
        with pytest.raises(ValueError, match="text must have a UTF-8 form, it has the lone surr"):
            corpora.count_words(text)
    with pytest.raises(
        ValueError,
        match=r"convention must be one of 'lossless', .*'textbook', .*'none', 'regex', got 'other'",
    ):
        corpora.count_words("abc", "other")


def test_words_can_be_cut_where_python_comes_without_lzma():
    """As in Pyodide, where the explorers need this module but not its texts."""
    code = (
        "import sys; sys.modules['lzma'] = None; sys.modules['_lzma'] = None\n"
        "from genopt_core import corpora; import genopt_core.explorers.subwords.lattice\n"
        "print(len(list(corpora.pretokenize('two words'))))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "2", done.stderr


def test_where_there_is_no_lzma_an_unpacked_text_is_read_and_checked(tmp_path):
    (tmp_path / "manifest.json").write_bytes((DATA / "manifest.json").read_bytes())
    text = corpora.load("moby-dick")
    unpacked = tmp_path / corpora.describe("moby-dick")["file"].removesuffix(".xz")
    unpacked.write_text(text, encoding="utf-8", newline="")
    command = (
        "import sys; sys.modules['lzma'] = None\n"
        "from genopt_core import corpora\n"
        f"print(len(corpora.load('moby-dick', {str(tmp_path)!r})))"
    )
    done = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True)
    assert done.stdout == f"{len(text)}\n", done.stderr
    unpacked.write_text(text[:-1], encoding="utf-8", newline="")
    with pytest.raises(ValueError, match="not the one its manifest describes"):
        corpora.load("moby-dick", tmp_path)
