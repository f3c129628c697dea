"""Vocabularies by every convention: nothing lost, the same exported, files read back."""

import functools
import json
import pickle
import re
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from genopt_core import corpora
from genopt_core.conventions import EXPRESSIONS, LOSSLESS, RESERVED, Convention, byte_letters
from genopt_core.integrations import huggingface as hf
from genopt_core.subwords import Vocabulary, certify, train, train_on_text
from genopt_core.subwords.tokenizer.encoding import BYTE_TOKENS

ALL = [
    *(Convention(name, alphabet=a) for name in EXPRESSIONS for a in ("characters", "bytes")),
    *(Convention("regex", r"\s*\p{L}+|\d", a) for a in ("characters", "bytes")),
    *(Convention("regex", r"\S+", a) for a in ("characters", "bytes")),
]
NAMED = ["<unk>", "<0x41>", "<0xFF>", "<0x0A>", "<0xff>", "<0x4", "<unk", "<", ">", "unk>", "0x41>"]
CODE = '''def low(x, lower=None):
    """It's the lowest, "lower" or 42 of 1790 -- naïve café."""
    if lower is None:\r
        return [x ** 2 for x in range(10)]  # lowest

\tretur\u0301n 日本の王, x\n\n'''
ODD = [*" \n\t\r▁abthe.,é1Aß²/'_\u0301\x00\u3000\u2028\x85\U0001f600日", "\r\n", "    ", "<s>"]
TEXTS = st.one_of(
    st.lists(st.sampled_from(ODD), max_size=30).map("".join),
    st.text(st.characters(exclude_categories=["Cs", "Cn"]), max_size=40),
)


@functools.cache
def trained(convention):
    size = 300 if convention.in_bytes else 90
    counts = corpora.count_words(CODE * 5 + "lower low\n", convention)
    vocabulary = train(counts, size, 1.0, effort="fast", at_most=True, convention=convention)
    return vocabulary.with_specials(("<s>",))


@functools.cache
def exported(convention):
    pytest.importorskip("tokenizers")
    return hf.to_tokenizers(trained(convention))


@pytest.mark.parametrize("convention", ALL, ids=lambda c: f"{c.name}-{c.alphabet}")
def test_a_text_comes_back_and_the_exported_tokenizer_agrees(convention):
    @settings(max_examples=40, deadline=None, derandomize=True)
    @given(TEXTS)
    def check(text):
        vocabulary, other = trained(convention), exported(convention)
        ids = vocabulary.encode(text)
        assert vocabulary.decode(ids) == text
        encoding = other.encode(text)
        assert encoding.ids == ids.tolist()
        assert other.decode(encoding.ids, skip_special_tokens=False) == text

    check()
    vocabulary = trained(convention)
    assert vocabulary.encode("").size == 0
    assert vocabulary.decode(vocabulary.encode(CODE)) == CODE
    with pytest.raises(ValueError, match="text must have a UTF-8 form"):
        vocabulary.encode("\ud83d")


@pytest.mark.parametrize("convention", ALL, ids=lambda c: f"{c.name}-{c.alphabet}")
def test_names_of_tokens_in_a_text_are_no_tokens(convention):
    """In a model of Unigram they are entries like any other, where words can hold them."""

    @settings(max_examples=60, deadline=None, derandomize=True)
    @given(st.lists(st.sampled_from([*NAMED, *ODD]), max_size=20).map("".join))
    def check(text):
        ids = vocabulary.encode(text)
        assert vocabulary.decode(ids) == text
        assert other.encode(text).ids == ids.tolist()
        assert other.decode(ids.tolist(), skip_special_tokens=False) == text

    for vocabulary, other in (
        (trained(convention), exported(convention)),
        (named(convention), hf.to_tokenizers(named(convention))),
    ):
        check()
        for text in ("a <0x41> b", "<unk><unk>", "<<unk>>", "<0x41"):
            assert other.decode(other.encode(text).ids) == text
        without = hf.to_tokenizers(vocabulary, byte_fallback=False)
        for text in ("low <unk>é<0x41>", "<unk>", "日<unk>日"):
            wanted = vocabulary.encode(text, byte_fallback=False).tolist()
            assert without.encode(text).ids == wanted


@functools.cache
def named(convention):
    """Trained on a text that is full of such names."""
    counts = corpora.count_words(("a <0x41> b<unk> of <unk>\n" + CODE) * 5, convention)
    size = 330 if convention.in_bytes else 110
    return train(counts, size, "tokens", effort="fast", at_most=True, convention=convention)


def test_no_piece_has_the_name_of_a_token_in_it_where_there_are_such_tokens():
    for rule in (Convention("none", alphabet="characters"), ALL[-2]):
        words = list(rule.words("a <unk> <0x41><0x4>\n"))
        assert "".join(words) == "a▁<unk>▁<0x41><0x4>\n"
        assert not any(name in word for word in words for name in NAMED[:2])
    assert all(re.match(RESERVED, name) for name in (*BYTE_TOKENS, "<unk>"))
    assert not any(re.match(RESERVED, name) for name in NAMED[4:])


def test_a_file_of_before_that_cuts_no_names_is_read(tmp_path):
    vocabulary, path = named(Convention("none", alphabet="characters")), tmp_path / "old.json"
    content = hf.tokenizer_json(vocabulary)
    first, second = content["pre_tokenizer"]["pretokenizers"]
    path.write_text(json.dumps(content | {"pre_tokenizer": first}))
    assert hf.load_tokenizer_json(path) == vocabulary
    for steps in ([], [second], [first, second, second], [first, first]):
        other = {"type": "Sequence", "pretokenizers": steps}
        path.write_text(json.dumps(content | {"pre_tokenizer": other}))
        with pytest.raises(ValueError, match="cuts words differently"):
            hf.load_tokenizer_json(path)


@pytest.mark.parametrize("convention", ALL, ids=lambda c: f"{c.name}-{c.alphabet}")
def test_a_file_has_the_convention_also_when_others_saved_it(convention, tmp_path):
    vocabulary, path = trained(convention), tmp_path / "tokenizer.json"
    hf.save_tokenizer_json(vocabulary, path)
    assert hf.load_tokenizer_json(path) == vocabulary
    assert pickle.loads(pickle.dumps(vocabulary)) == vocabulary
    exported(convention).save(str(path))
    again = hf.load_tokenizer_json(path)
    # "textbook" cuts texts as "lossless" does, and its name is in the key that is lost.
    name = "lossless" if convention.name == "textbook" else convention.name
    assert (again.convention.name, again.convention.alphabet) == (name, convention.alphabet)
    assert again.convention.expression == convention.expression
    np.testing.assert_array_equal(again.encode(CODE), vocabulary.encode(CODE))


def test_the_words_are_the_units_of_training_encoding_and_certificate():
    for convention in (Convention("gpt4"), Convention("none"), Convention("lossless-front")):
        counts = corpora.count_words(CODE * 5, convention)
        vocabulary = trained(convention)
        pieces = sum(len(vocabulary.segment(word)) * n for word, n in counts.items())
        if convention.name != "lossless-front":  # which counts a run of blanks as one
            assert pieces == len(vocabulary.encode(CODE * 5))
        bound = certify(counts, len(vocabulary), steps=20)
        assert 0 < bound.bound <= pieces
        assert bound.gap(vocabulary, counts) >= 0


def test_blanks_and_line_feeds_join_in_pieces_where_the_rule_lets_them():
    assert any(piece.strip("Ġ") == "" and len(piece) > 2 for piece in trained(ALL[9]).pieces)
    none = trained(Convention("none", alphabet="characters"))
    assert any("▁" in piece.strip("▁") for piece in none.pieces)
    front = trained(Convention("lossless-front"))
    assert not any("▁" in piece[1:] for piece in front.pieces)


def test_in_bytes_all_are_pieces_and_nothing_is_unknown():
    vocabulary = trained(Convention("gpt4"))
    assert set(byte_letters()) <= set(vocabulary.pieces)
    assert vocabulary.pieces[:256] == tuple(p for p in vocabulary.pieces if len(p) == 1)
    assert vocabulary.tokens == (*vocabulary.pieces, "<s>")
    assert vocabulary.decode([vocabulary.pieces.index("ĭ"), 0][:1]) == "\ufffd"
    assert np.isfinite(vocabulary.log_marginal("Ā"))
    assert repr(vocabulary).endswith("specials=1, 'gpt4' in bytes)")
    with pytest.raises(ValueError, match=r"pieces must have all 256 bytes .* 'Ā' for 0x00"):
        Vocabulary(tuple("abc"), np.full(3, -1.0), np.ones(3), convention="gpt2")
    with pytest.raises(ValueError, match=r"pieces must be spelled in bytes.* got '日'"):
        Vocabulary(("日", *byte_letters()), np.full(257, -1.0), np.ones(257), convention="gpt2")
    with pytest.raises(ValueError, match=r"word_counts must be spelled in bytes.* got 'low▁'"):
        train({"low▁": 2}, 300, convention="gpt4")
    with pytest.raises(ValueError, match="vocab_size must be at least 256, one for each byte"):
        train({"low": 2}, 255, convention="gpt4")


WITH_NAMES = "the <unk> of the <unk> was a <unk> thing , <0x41> said\n" * 60


@pytest.mark.parametrize("name", ["<unk>", "<0x41>"])
def test_in_bytes_no_name_is_reserved(name, tmp_path):
    """As a piece, or as a special token: an export has no such token of its own."""
    piece = Vocabulary((*byte_letters(), name), np.full(257, -1.0), np.ones(257), convention="gpt2")
    assert piece.pieces[-1] == name
    special = replace(piece, pieces=(*byte_letters(), "th")).with_specials([name])
    rule = Convention("regex", r"\S+")
    learned = train_on_text(WITH_NAMES, 300, convention=rule, at_most=True)
    assert name in learned.pieces
    for vocabulary in (piece, special, learned):
        ids = vocabulary.encode(WITH_NAMES)
        assert vocabulary.decode(ids) == WITH_NAMES
        hf.save_tokenizer_json(vocabulary, tmp_path / "t.json")
        assert hf.load_tokenizer_json(tmp_path / "t.json") == vocabulary
        tokenizers = pytest.importorskip("tokenizers")
        other = tokenizers.Tokenizer.from_file(str(tmp_path / "t.json"))
        assert other.encode(WITH_NAMES).ids == ids.tolist()
        assert other.decode(ids.tolist(), skip_special_tokens=False) == WITH_NAMES
    assert 257 in special.encode(WITH_NAMES)
    with pytest.raises(ValueError, match=r"specials must differ .* got 'Ġ'"):
        train_on_text(WITH_NAMES, 300, convention=rule, specials=["Ġ"])


@pytest.mark.parametrize("alphabet", ["characters", "bytes"])
@pytest.mark.parametrize("name", ["none", "regex"])
def test_a_text_with_names_of_tokens_trains(name, alphabet):
    rule = Convention(name, r"\S+" if name == "regex" else "", alphabet)
    vocabulary = train_on_text(WITH_NAMES, 300, convention=rule, at_most=True)
    assert vocabulary.decode(vocabulary.encode(WITH_NAMES)) == WITH_NAMES
    ends = "<|endoftext|>" + WITH_NAMES.replace("\n", "<|endoftext|>\n<|endoftext|>")
    given = {"convention": rule, "at_most": True, "specials": ["<|endoftext|>"]}
    cut = train_on_text(ends, 300, **given)
    assert not any("|" in piece or "endof" in piece for piece in cut.pieces if len(piece) > 1)
    assert cut.decode(cut.encode(ends)) == ends
    assert cut.tokens.index("<|endoftext|>") in cut.encode(ends)
    hf.to_tokenizers(cut)


def test_words_with_names_of_tokens_train():
    counts = {"<unk>▁": 50, "a<0x41>b": 20, "low": 9, "<unk": 3}
    vocabulary = train(counts, 30, at_most=True, min_count=1)
    assert {"<", "unk>▁"} <= set(vocabulary.pieces)
    assert vocabulary.provenance["words"] == 50 * 2 + 20 * 2 + 9 + 3
    assert train({"<unk": 3, "a<b>": 2}, 9, at_most=True).provenance["words"] == 5
    inside = train({"<unk>": 50}, 256 + 9, convention="gpt2", at_most=True)
    assert "<unk>" in inside.pieces


@pytest.mark.parametrize(
    ("text", "special", "convention"),
    [("LOW <S>", "low", "textbook"), ("cafe\u0301", "é", "lossless"), ("a low", "Ġlow", "gpt2")],
)
def test_a_special_token_that_a_piece_could_be_is_refused_before_training(
    text, special, convention, monkeypatch
):
    monkeypatch.setattr("genopt_core.subwords.training.from_text.train", None)
    with pytest.raises(ValueError, match=f"specials must be in no word .* got '{special}'"):
        train_on_text(text, 300, convention=convention, specials=[special])


def test_a_vocabulary_of_before_is_lossless():
    old = Vocabulary(("a",), np.zeros(1), np.ones(1))
    assert old.convention == LOSSLESS
    assert "convention" not in hf.tokenizer_json(old)["model"]["genopt"]
    assert old != Vocabulary(("a",), np.zeros(1), np.ones(1), convention="lossless-front")


def test_one_call_trains_on_a_text_or_on_files(tmp_path):
    path = tmp_path / "code.py"
    path.write_text(CODE * 5, encoding="utf-8", newline="")
    given = {"objective": "tokens", "effort": "fast", "convention": "o200k", "specials": ["<s>"]}
    vocabulary = train_on_text(CODE * 5, 290, **given)
    assert vocabulary == train_on_text(path, 290, **given) == train_on_text([path], 290, **given)
    assert vocabulary.convention == Convention("o200k")
    assert vocabulary.specials == ("<s>",)
    with pytest.raises(
        ValueError, match=r"text_or_files must be a text, or files as pathlib\.Path"
    ):
        train_on_text(str(path), 290)
    with pytest.raises(ValueError, match="text_or_files must have words, by 'textbook' there are"):
        train_on_text("12, 13", 290, convention="textbook")
    with pytest.raises(ValueError, match="vocab_size must be at least 256"):
        train_on_text(CODE, 200, convention="gpt2")
