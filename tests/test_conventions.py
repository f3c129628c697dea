"""The rules that cut texts into words: published words, nothing lost, chunks, what is refused."""

import re
import tempfile
import unicodedata
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from genopt_core import corpora
from genopt_core.character_classes import category, compiled, words_of
from genopt_core.conventions import (
    END_OF_WORD,
    EXPRESSIONS,
    NAMES,
    Convention,
    as_convention,
    byte_letters,
)
from genopt_core.subwords import count_words_in_files

NAMED = [Convention(name) for name in EXPRESSIONS]
OWN = Convention("regex", r"\p{Lu}?\p{Ll}+|[^\S\n]+|(?:\d{1,2})++", "characters")
ALL = [*NAMED, OWN, *(Convention(name, alphabet="bytes") for name in ("lossless", "textbook"))]

PARTS = list(" \n\t\r▁abthe.,é1Aß²½Ⅷ/'_\u0301\x00\u3000\u2028\x85\x1c\xa0")
PARTS += [
    "'s",
    "'LL",
    "'ſ",
    "😀",
    "日本",
    "का",
    "12345",
    "\r\n",
    "  ",
    "AbC",
    "ǅ",
    "i'm",
    "();\n//",
]
ODD = st.lists(st.sampled_from(PARTS), max_size=25).map("".join)
# Letters of Unicode 14 and older: Python 3.11 knows no newer ones, other programs do.
ANY = st.text(st.characters(exclude_categories=["Cs", "Cn"]), max_size=40)


def test_words_of_the_published_rules():
    text = "I'LL say  1234 you're:\n\n    x = getHTTPName() // café\r\n"
    # cl100k's "'LL" is upper case too, GPT-2's is not: the first difference between them.
    assert Convention("gpt2").cut(text)[:4] == ["I", "'", "LL", " say"]
    assert Convention("gpt4").cut(text) == [
        *("I", "'LL", " say", " ", " ", "123", "4", " you", "'re", ":\n\n", "   ", " x", " ="),
        *(" getHTTPName", "()", " //", " café", "\r\n"),
    ]
    o200k = Convention("o200k").cut(text)
    assert o200k[:2] == ["I'LL", " say"]
    assert o200k[-7:] == [" =", " get", "HTTPName", "()", " //", " café", "\r\n"]


@settings(max_examples=150, deadline=None)
@given(st.one_of(ODD, ANY))
def test_the_words_are_those_of_two_other_engines_and_lose_nothing(text):
    regex = pytest.importorskip("regex")
    tokenizers = pytest.importorskip("tokenizers")
    for convention in [*NAMED, OWN]:
        words = convention.cut(text)
        assert "".join(words) == text
        assert all(words)
        split = tokenizers.pre_tokenizers.Split(tokenizers.Regex(convention.expression), "isolated")
        assert [word for word, _ in split.pre_tokenize_str(text)] == words
        if convention is not OWN:
            assert regex.findall(convention.expression, text) == words


@settings(max_examples=80, deadline=None)
@given(ODD, st.integers(1, 30))
def test_chunks_add_up_to_the_whole_by_every_convention(text, chunk_bytes):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "text.txt"
        path.write_bytes(text.encode("utf-8"))
        for convention in ALL:
            counted = count_words_in_files(path, convention, chunk_bytes=chunk_bytes)
            assert counted == corpora.count_words(text, convention), convention


def test_the_front_marker_moves_and_tells_no_more():
    text = corpora.load("moby-dick")[:30_000]
    behind = "".join(corpora.pretokenize(text))
    front = list(corpora.pretokenize(text, "lossless-front"))
    assert "".join(front) == behind
    assert all(END_OF_WORD not in word[1:] for word in front)
    assert len(front) == len(list(corpora.pretokenize(text)))


def test_words_are_spelled_so_that_pieces_can_be_cut_anywhere():
    assert list(Convention("gpt2", alphabet="characters").words("a▁b ▁ c")) == ["a", "b", "▁", "▁c"]
    assert list(Convention("none", alphabet="characters").words("a b\nc")) == ["a▁b\n", "c"]
    assert list(Convention("lossless", alphabet="bytes").words("é b")) == ["Ã©Ġ", "b"]
    letters = byte_letters()
    assert len(set(letters)) == 256
    assert not any(letter.isspace() for letter in letters)


def test_classes_are_those_of_the_tables():
    for name in ("L", "Nd", "M"):
        found = {chr(c) for first, last in category(name) for c in range(first, last + 1)}
        some = map(chr, [*range(0x3000), 0x10400, 0x1F600, 0x20000, 0xE0100, 0x10FFFF])
        for character in some:
            assert (character in found) == unicodedata.category(character).startswith(name)
    for text in ("a", "日", "😀"):  # one class for each width of text
        assert bool(compiled(r"\p{L}", text).match(text)) == text.isalpha()
        assert compiled(r"[^\P{M}x]|\S", text).match(text)


@pytest.mark.parametrize(
    "pattern",
    [r"\w+", r"^a", "a$", r"\ba", r"(?s).", "[[a]b]", "[a&&b]", r"(a)\1", "a{2}?", "[]a]"],
)
def test_an_expression_that_programs_read_differently_is_refused(pattern):
    with pytest.raises(ValueError, match=r"pattern must do without .* got .*; there are"):
        Convention("regex", pattern)


def test_refused_conventions():
    with pytest.raises(ValueError, match=r"convention must be one of .*'gpt4'.*, got 'gpt5'"):
        Convention("gpt5")
    with pytest.raises(TypeError, match="convention must be a name or a Convention, got int"):
        as_convention(4)
    with pytest.raises(ValueError, match="convention must have an expression"):
        as_convention("regex")
    with pytest.raises(
        ValueError, match="pattern must be the regular expression of a word, got ''"
    ):
        Convention("regex")
    with pytest.raises(ValueError, match=r"pattern must be left out unless .* beside 'gpt2'"):
        Convention("gpt2", "a+")
    with pytest.raises(TypeError, match="pattern must be a str, got Pattern"):
        Convention("regex", re.compile("a"))
    with pytest.raises(ValueError, match=r"pattern must be a regular expression, got '\(a'"):
        Convention("regex", "(a")
    with pytest.raises(ValueError, match=r"pattern must name general categories.*\\p\{Greek\}"):
        Convention("regex", r"\p{Greek}+")
    with pytest.raises(ValueError, match="pattern must not match the empty string, got 'a\\*'"):
        Convention("regex", "a*").cut("bab")
    with pytest.raises(ValueError, match="alphabet must be one of 'characters', 'bytes', got 'x'"):
        Convention(alphabet="x")
    for convention in ALL:
        with pytest.raises(ValueError, match="text must have a UTF-8 form, it has the lone"):
            convention.words("a\ud800")
        with pytest.raises(TypeError, match="text must be a str, got bytes"):
            convention.cut(b"a")
        assert list(convention.words("")) == convention.cut("") == []


def test_what_an_expression_leaves_out_is_a_word_too():
    assert words_of("[a-z]+", "12 ab, c") == ["12 ", "ab", ", ", "c"]
    assert words_of("x", "ab") == ["ab"]
    assert Counter(Convention("regex", "(b)|(c)").words("abac")) == {"a": 2, "b": 1, "c": 1}


def test_names_are_all_there():
    assert [*NAMES] == [*(c.name for c in NAMED), "regex"]
    assert [c.alphabet for c in NAMED] == ["characters"] * 3 + ["bytes"] * 4
