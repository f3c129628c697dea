"""Counting in files: chunks, workers and the whole text give the same counts."""

import concurrent.futures as cf
import gzip
import io
import math
import os
import tempfile
import threading
import tracemalloc
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from genopt_core import corpora
from genopt_core.conventions import Convention
from genopt_core.subwords import (
    Vocabulary,
    count_words_by_file,
    count_words_in_files,
    file_weights,
    stored_costs,
    train,
    train_on_text,
)
from genopt_core.subwords.tokenizer.counting import count_chunk, count_words_apart, read_chunks


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("texts")
    paths = []
    for name in ("sotu", "moby-dick"):
        paths.append(folder / f"{name}.txt")
        paths[-1].write_bytes(corpora.load(name)[:400_000].encode("utf-8"))
    return paths


@pytest.fixture(scope="module")
def wanted(files):
    total: dict[str, int] = {}
    for path in files:
        for word, count in corpora.count_words(path.read_bytes().decode("utf-8")).items():
            total[word] = total.get(word, 0) + count
    return dict(sorted(total.items(), key=lambda item: (-item[1], item[0])))


PARTS = [
    "a",
    "é",
    "e\u0301",
    "\u0301",
    "\u0338",
    "Σ",
    "ΑΣ",
    "İ",
    "1",
    ".",
    ",",
    "!",
    "。",
    "'",
    "_",
]
PARTS += [" ", "  ", "\n", "\t", "\u3000", "\u2028", "▁", "\x00", "\U0001f600", "\u1100", "\u1161"]


@settings(max_examples=500, deadline=None)
@given(
    st.one_of(
        st.lists(st.sampled_from(PARTS), max_size=60).map("".join),
        st.text(st.characters(exclude_categories=["Cs"]), max_size=100),
    ),
    st.integers(1, 40),
    st.sampled_from(["lossless", "textbook"]),
)
def test_chunks_add_up_to_the_whole(text, chunk_bytes, convention):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "text.txt"
        path.write_bytes(text.encode("utf-8"))
        chunks = list(read_chunks(path, chunk_bytes))
        assert "".join(chunk.text for chunk in chunks) == text
        assert sum(chunk.bytes for chunk in chunks) == len(text.encode("utf-8"))
        counted = count_words_in_files(path, convention, chunk_bytes=chunk_bytes)
    assert counted == corpora.count_words(text, convention)
    assert list(counted) == list(corpora.count_words(text, convention))


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.sampled_from([*PARTS, "the", "12", "<s>", "x "]), max_size=40).map("".join),
    st.integers(1, 40),
)
def test_ids_of_chunks_add_up_to_those_of_the_whole(text, chunk_bytes):
    costs = stored_costs(250) | {"1": 3.0, "2": 3.0, "12": 4.0, "é": 3.0, "e\u0301": 4.0}
    vocabulary = Vocabulary(tuple(costs), -np.array(list(costs.values())), np.ones(len(costs)))
    vocabulary = vocabulary.with_specials(["<s>", "x ", "\n\n"])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "text.txt"
        path.write_bytes(text.encode("utf-8"))
        ids = [vocabulary.encode(chunk.text).tolist() for chunk in read_chunks(path, chunk_bytes)]
    assert [id_ for part in ids for id_ in part] == vocabulary.encode(text).tolist()


@pytest.mark.parametrize("chunk_bytes", [1000, 65536, 1 << 20])
def test_one_worker_counts_the_whole(files, wanted, chunk_bytes):
    counted = count_words_in_files(files, chunk_bytes=chunk_bytes)
    assert counted == wanted
    assert list(counted) == list(wanted)


@pytest.mark.parametrize("kind", [cf.ThreadPoolExecutor, cf.ProcessPoolExecutor])
def test_threads_and_processes_count_the_whole(files, wanted, kind):
    with kind(2) as executor:
        counted = count_words_in_files(files, executor=executor, chunk_bytes=20_000)
    assert list(counted.items()) == list(wanted.items())


def test_a_dask_cluster_of_two_processes_counts_the_whole(files, wanted, tmp_path):
    distributed = pytest.importorskip(
        "distributed", reason="dask[distributed] is not installed: no cluster to count on"
    )
    with (
        distributed.LocalCluster(
            n_workers=2,
            threads_per_worker=1,
            processes=True,
            dashboard_address=None,
            local_directory=str(tmp_path),
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        executor = client.get_executor()
        counted = count_words_in_files(files, executor=executor, chunk_bytes=20_000)
        tasks = client.run(lambda dask_worker: len(dask_worker.state.story()) >= 0)
        assert len(tasks) == 2
    assert list(counted.items()) == list(wanted.items())


def test_the_textbook_convention(files):
    counted = count_words_in_files(files[0], "textbook", chunk_bytes=7000)
    assert counted == corpora.count_words(files[0].read_bytes().decode("utf-8"), "textbook")


def test_progress_ends_at_the_size_of_the_files(files, capsys):
    calls = []
    with cf.ThreadPoolExecutor(2) as executor:
        count_words_in_files(
            files,
            executor=executor,
            chunk_bytes=50_000,
            progress=calls.append,
        )
    size = sum(path.stat().st_size for path in files)
    assert calls[-1] == (size, size)
    assert calls == sorted(calls)
    count_words_in_files(files, progress=True)
    assert capsys.readouterr().out == ""


def test_memory_is_bounded_by_the_chunks_not_by_the_file(tmp_path):
    path = tmp_path / "large.txt"
    path.write_bytes(b"all work and no play makes a long file, " * 50_000)
    tracemalloc.start()
    counted = count_words_in_files(path, chunk_bytes=1 << 13)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert counted["work▁"] == 50_000
    assert peak < 400_000 < path.stat().st_size / 4


@pytest.mark.parametrize(
    ("content", "byte", "value"),
    [
        (b"\xff", 0, "0xFF"),
        (b"a" * 1000 + b"\xfe" + b"b" * 1000, 1000, "0xFE"),
        (b"a " * 50 + "é".encode() + b"\x80", 102, "0x80"),
        (b"a " * 50 + b"\xe2\x96", 100, "0xE2"),
        (b"ab\xe2\x96a", 2, "0xE2"),
    ],
)
@pytest.mark.parametrize("chunk_bytes", [1, 3, 101, 1 << 20])
def test_not_utf8_names_the_file_and_the_byte(tmp_path, content, byte, value, chunk_bytes):
    path = tmp_path / "latin.txt"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=rf"latin\.txt is not UTF-8: byte {byte} is {value}"):
        count_words_in_files(path, chunk_bytes=chunk_bytes)


def test_an_error_in_one_file_reaches_the_caller_through_workers(files, tmp_path):
    bad = tmp_path / "bad.txt"
    bad.write_bytes(b"\xff")
    with cf.ThreadPoolExecutor(2) as executor, pytest.raises(ValueError, match=r"bad\.txt"):
        count_words_in_files([*files, bad], executor=executor)


def test_refused_arguments(files, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none\.txt"):
        count_words_in_files(tmp_path / "none.txt")
    with pytest.raises(ValueError, match="paths is empty"):
        count_words_in_files([])
    with pytest.raises(TypeError, match=r"executor must be a concurrent\.futures\.Executor"):
        count_words_in_files(files, executor=2)
    with pytest.raises(ValueError, match="chunk_bytes must be at least 1, got 0"):
        count_words_in_files(files, chunk_bytes=0)
    with pytest.raises(
        ValueError,
        match=r"convention must be one of 'lossless', .*'textbook', .*'none', 'regex', got 'x'",
    ):
        count_words_in_files(files, "x")
    with pytest.raises(TypeError, match="progress must be a bool or a function, got int"):
        count_words_in_files(files, progress=3)


def test_a_nul_of_the_text_is_counted(tmp_path):
    assert count_chunk("a \x00", False, "lossless") == {"a▁": 1, "\x00": 1}
    assert count_chunk("\x00 a, ", True, "lossless") == {"\x00▁": 1, "a": 1, ",▁": 1}


def test_open_files_and_pipes_are_counted(tmp_path):
    (tmp_path / "a").write_text("low lower ", encoding="utf-8")
    records = []
    with gzip.open(tmp_path / "a.gz", "wb") as file:
        file.write(b"low, lower")
    with open(tmp_path / "a", "rb") as one, gzip.open(tmp_path / "a.gz", "rb") as two:
        counted = count_words_in_files([one, two, tmp_path / "a"], progress=records.append)
        assert not one.closed
    assert counted == {"low▁": 2, "lower": 3, ",▁": 1, "low": 1}
    assert records[-1] == (30, 0)
    os.mkfifo(tmp_path / "pipe")
    write = threading.Thread(target=(tmp_path / "pipe").write_bytes, args=[b"low "], daemon=True)
    write.start()
    assert count_words_in_files(tmp_path / "pipe") == {"low": 1}


def test_temporary_files_are_files():
    with tempfile.NamedTemporaryFile() as named, tempfile.SpooledTemporaryFile() as spooled:
        for file in (named, spooled):
            file.write(b"low lower")
            file.seek(0)
            assert count_words_in_files(file) == {"low▁": 1, "lower": 1}
    with (
        tempfile.NamedTemporaryFile("w+") as text,
        pytest.raises(TypeError, match="or open for bytes"),
    ):
        count_words_in_files(text)


@pytest.mark.parametrize("paths", [b"text", None, 3, [3], io.StringIO("low"), [b"a"]])
def test_what_is_no_file_is_named(paths):
    with pytest.raises(TypeError, match="paths must be files, by path or open for bytes, got "):
        count_words_in_files(paths)


def test_a_text_is_counted_as_it_is_encoded_between_special_tokens():
    text = "low <s>lower low<s>\n<s>> low"
    wanted = {"low▁": 1, "lower▁": 1, "low": 2}
    assert count_words_apart(text, specials=["<s>", "<s>>"]) == wanted
    assert count_words_apart(text) == corpora.count_words(text)
    front = count_words_apart(text, "lossless-front", ["<s>", "<s>>"])
    assert front == {"low": 1, "lower": 1, "▁low": 2}
    assert count_words_apart("<s><s>", specials=["<s>"]) == {}
    for wrong in ("<s>", [3], [""], ["a", "a"]):
        with pytest.raises((TypeError, ValueError), match="specials must"):
            count_words_apart("low", specials=wrong)


SPECIALS = ("<s>", "<s>>", ", b", " ", "a\n\nb", "low", ",,,")
SPLIT = st.lists(st.sampled_from([*SPECIALS, *"ab<s>, \n.1", "a b", "\u0301"]), max_size=40)


@settings(max_examples=300, deadline=None)
@given(
    SPLIT.map("".join),
    st.lists(st.sampled_from(SPECIALS), unique=True),
    st.integers(1, 12),
    st.sampled_from(["lossless", "lossless-front", "textbook", "none", "gpt4", "gpt2"]),
)
def test_no_chunk_cuts_a_special_token(text, specials, chunk_bytes, convention):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "text"
        path.write_text(text, encoding="utf-8", newline="")
        counted = count_words_in_files(path, convention, chunk_bytes=chunk_bytes, specials=specials)
        rule = Convention(convention)
        chunks = list(read_chunks(path, chunk_bytes, rule, specials))
    assert counted == count_words_apart(text, convention, specials)
    assert "".join(chunk.text for chunk in chunks) == text
    vocabulary = Vocabulary(tuple("abs<>,.1"), np.full(8, -1.0), np.ones(8), specials=specials)
    if rule.in_bytes:
        return
    vocabulary = replace(vocabulary, convention=rule)
    ids = [vocabulary.encode(chunk.text) for chunk in chunks]
    assert np.concatenate([[], *ids]).tolist() == vocabulary.encode(text).tolist()


def test_workers_cut_at_special_tokens_too(tmp_path):
    text = "low lower\n<|end|> low " * 2000
    (tmp_path / "text").write_text(text)
    with cf.ThreadPoolExecutor(2) as executor:
        counted = count_words_in_files(
            tmp_path / "text", executor=executor, chunk_bytes=100, specials=["<|end|>"]
        )
    assert counted == {"low▁": 3999, "lower▁": 2000, "low": 1}


# ------------------------------------------------------------------ many occurrences in one file


@pytest.mark.parametrize("exponent", [0, 0.5, 0.6, 1])
def test_a_word_weighs_what_a_sum_over_files_says(exponent):
    rng = np.random.default_rng(3)
    words = [f"w{i}" for i in range(30)]
    files = [
        {w: int(n) for w, n in zip(words, rng.integers(0, 9, 30), strict=True) if n}
        for _ in range(12)
    ]
    found = file_weights(iter(files), exponent)
    for word in words:
        wanted = math.fsum(counts[word] ** exponent for counts in files if word in counts)
        assert found.get(word, 0) == pytest.approx(wanted, rel=1e-14)
    assert list(found) == sorted(found, key=lambda word: (-found[word], word))
    if exponent == 0:
        assert found == Counter(word for counts in files for word in counts)
    if exponent == 1:
        assert all(isinstance(n, int) for n in found.values())


@pytest.mark.parametrize("chunk_bytes", [40, 20_000])
def test_files_are_weighted_apart_whatever_counts_them(tmp_path, chunk_bytes):
    texts = ["low lower, low\n" * 30, "", "low\nlow newest", "<s>low<s>newest " * 7]
    files = [tmp_path / f"{n}.txt" for n in range(len(texts))]
    for file, text in zip(files, texts, strict=True):
        file.write_text(text, encoding="utf-8")
    wanted = file_weights([count_words_apart(t, "gpt4", ["<s>"]) for t in texts], 0.3)
    more = {"chunk_bytes": chunk_bytes, "specials": ["<s>"], "file_exponent": 0.3}
    assert list(count_words_in_files(files, "gpt4", **more).items()) == list(wanted.items())
    with cf.ThreadPoolExecutor(2) as executor:  # to the last bit
        found = count_words_in_files(files, "gpt4", executor, **more)
    assert list(found.items()) == list(wanted.items())
    assert count_words_in_files(files, "gpt4", file_exponent=1.0) == count_words_in_files(
        files, "gpt4"
    )


def test_training_on_files_weighs_them(tmp_path):
    texts = ["lower " * 50 + "low", "newest low ", "slow newest", "widest newest"]
    files = [tmp_path / f"{n}.txt" for n in range(len(texts))]
    for file, text in zip(files, texts, strict=True):
        file.write_text(text, encoding="utf-8")
    found = train_on_text(files, 16, objective="tokens", min_count=1, file_exponent=0.5)
    weights = file_weights(map(corpora.count_words, texts), 0.5)
    assert found.pieces == train(weights, 16, "tokens", min_count=1).pieces
    assert found.provenance["file_exponent"] == 0.5
    plain = train_on_text(files, 16, objective="tokens", min_count=1)
    assert "file_exponent" not in plain.provenance
    assert plain.counts.sum() > 1.3 * found.counts.sum()


@pytest.mark.parametrize("options", [{"new_words": True}, {}])
@pytest.mark.parametrize("exponent", [1, 0.5])
def test_training_on_files_leaves_out_whole_ones(tmp_path, options, exponent):
    words = list(corpora.pretokenize(corpora.load("moby-dick")[:60_000]))
    texts = ["".join(words[n : n + 1000]).replace("▁", " ") for n in range(0, 10_000, 1000)]
    files = [tmp_path / f"{n}.txt" for n in range(len(texts))]
    for file, text in zip(files, texts, strict=True):
        file.write_text(text, encoding="utf-8")
    by_file = count_words_by_file(files)
    assert by_file == [corpora.count_words(text) for text in texts]
    options = {"effort": "fast", "file_exponent": exponent, **options}
    wanted = train(by_file, 400, "tokens", **options)
    with cf.ThreadPoolExecutor(2) as executor:
        found = train_on_text(files, 400, objective="tokens", executor=executor, **options)
    assert wanted.provenance["new_words"]
    assert found.pieces == wanted.pieces
    assert found.provenance == wanted.provenance
    assert found.provenance["number_of_files"] == 10
    texts = train_on_text("".join(texts), 400, objective="tokens", effort="fast")
    assert found.pieces != texts.pieces


def test_weights_that_cannot_be(tmp_path):
    for wrong in (-0.1, 1.5, math.nan):
        for call in (
            lambda e=wrong: file_weights([{"a": 1}], e),
            lambda e=wrong: count_words_in_files(tmp_path, file_exponent=e),
            lambda e=wrong: train_on_text(tmp_path, 9, file_exponent=e),
        ):
            with pytest.raises(ValueError, match="file_exponent must be"):
                call()
    with pytest.raises(TypeError, match="file_exponent must be a number"):
        file_weights([{"a": 1}], "0.5")
    with pytest.raises(ValueError, match=r"file_exponent must be 1 for a text, .* got 0\.5"):
        train_on_text("a text", 9, file_exponent=0.5)
    with pytest.raises(TypeError, match="must be a list with the word counts of each file"):
        file_weights({"a": 1})
    for wrong in (5, None, "low"):
        with pytest.raises(TypeError, match="counts_of_files must be a list with the word counts"):
            file_weights(wrong)
    with pytest.raises(TypeError, match=r"counts_of_files\[0\] must be a mapping .*, got 'a'"):
        file_weights(["a"])
    for count in (-1, 0, math.nan):
        with pytest.raises(ValueError, match=r"counts_of_files\[1\]\['a'\] must be a finite count"):
            file_weights([{"a": 1}, {"a": count}])
    with pytest.raises(TypeError, match=r"counts_of_files\[0\] must have strings as keys, got 1"):
        file_weights([{1: 2, "a": 2}])
    with pytest.raises(ValueError, match=r"counts_of_files\[0\] contains the empty word"):
        file_weights([{"": 2}])
    assert file_weights([]) == file_weights([{}]) == {}
    path = tmp_path / "one.txt"
    path.write_text("low lower")
    with pytest.raises(ValueError, match=r"file_exponent must be 1 for one file, got 0\.5"):
        train_on_text([path], 9, file_exponent=0.5)


def test_small_integers_of_numpy_do_not_overflow():
    found = file_weights([{"a": np.uint8(200)}, {"a": np.uint8(100), "b": np.float16(0.1)}], 1)
    assert found == {"a": 300, "b": pytest.approx(0.1, rel=1e-3)}
    assert {*map(type, found.values())} == {int, float}
