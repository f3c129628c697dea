"""Byte-pair merges inside and across words: by hand, and beside Hugging Face's."""

from collections import Counter

import pytest

from book.experiments.subwords.merges import ANYWHERE, INSIDE, WHOLE_WORDS, Merges
from genopt_core import corpora
from genopt_core.conventions import Convention, byte_letters, spelled_in_bytes

GPT4 = Convention("gpt4")
LINES = Convention("none")


def lines_of(text):
    lines = Counter(LINES.cut(text))
    words = {spelled_in_bytes(x): [*map(spelled_in_bytes, GPT4.cut(x))] for x in lines}
    return {spelled_in_bytes(line): n for line, n in lines.items()}, words


def new_pieces(counts, more, where, words=0):
    """The first merges of units that are cut before every blank."""
    merges = Merges(counts, lambda unit: [("Ġ" * (i > 0)) + w for i, w in
                                          enumerate(unit.split("Ġ"))])  # fmt: skip
    merges.grow(256 + more, where, words)
    return merges.names[256:], [*merges.segmented()]


def test_merges_by_hand():
    counts = {"abĠab": 3, "abĠc": 1}
    assert new_pieces(counts, 9, INSIDE) == (
        ["ab", "Ġab"],  # nothing else occurs twice in a word
        [["ab", "Ġab"], ["ab", "Ġ", "c"]],
    )
    assert new_pieces(counts, 3, ANYWHERE)[0] == ["ab", "abĠ", "abĠab"]
    # "Ġ" alone is no word: whole words meet only when "Ġab" is one piece
    assert new_pieces(counts, 3, WHOLE_WORDS)[0] == ["ab", "Ġab", "abĠab"]


def test_a_whole_word_needs_a_letter():
    assert new_pieces({"1Ġ2": 5}, 3, WHOLE_WORDS)[0] == ["Ġ2"]
    assert new_pieces({"éĠa".translate({0xE9: "Ã©"}): 5}, 3, WHOLE_WORDS)[0][-1] == "Ã©Ġa"


def test_pieces_touch_so_many_words_at_most():
    counts = {"aĠbĠcĠd": 4}
    longest = {n: max(new_pieces(counts, 9, ANYWHERE, n)[0], key=len) for n in (0, 2, 3)}
    assert {n: piece.count("Ġ") + 1 for n, piece in longest.items()} == {0: 4, 2: 2, 3: 3}


def test_units_of_no_weight_decide_nothing_and_are_encoded():
    counts = {"abĠab": 3, "xyxyĠab": 0}
    names, cut = new_pieces(counts, 3, ANYWHERE)
    assert names == new_pieces({"abĠab": 3}, 3, ANYWHERE)[0]
    assert cut[1] == ["x", "y", "x", "y", "Ġab"]


def test_inside_words_it_is_the_byte_pair_encoding_of_hugging_face():
    tokenizers = pytest.importorskip("tokenizers")
    text = corpora.load("moby-dick")[20_000:60_000]
    counts, words = lines_of(text)
    merges = Merges(counts, words.__getitem__)
    merges.grow(600, INSIDE)
    peer = tokenizers.Tokenizer(tokenizers.models.BPE())
    split = tokenizers.pre_tokenizers.Split
    peer.pre_tokenizer = tokenizers.pre_tokenizers.Sequence(
        [
            *(split(tokenizers.Regex(r.expression), "isolated") for r in (LINES, GPT4)),
            tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=600, initial_alphabet=[*byte_letters()], show_progress=False, special_tokens=[]
    )
    peer.train_from_iterator([text], trainer)
    assert set(merges.names) == set(peer.get_vocab())
    tokens = sum(len(p) * n for p, n in zip(merges.segmented(), counts.values(), strict=True))
    assert tokens == len(peer.encode(text).ids)


def test_words_that_do_not_spell_their_unit_are_refused():
    with pytest.raises(ValueError, match="cut must spell the unit 'aĠb', got \\['a', 'b'\\]"):
        Merges({"aĠb": 1}, lambda unit: unit.split("Ġ"))
