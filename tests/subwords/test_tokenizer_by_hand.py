"""Encoders, peers and files piece by piece, and the commands in this process."""

import json
import unicodedata
from concurrent.futures import Executor, Future
from types import SimpleNamespace

import numpy as np
import pytest

from genopt_core.conventions import Convention, byte_letters
from genopt_core.subwords import Vocabulary
from genopt_core.subwords.bounds.certificate import check_covered
from genopt_core.subwords.segmentation.sampling import _draw
from genopt_core.subwords.tokenizer import counting, encoding
from genopt_core.subwords.tokenizer.counting import _last_cut, read_chunks
from genopt_core.subwords.tokenizer.encoding import BYTE_TOKENS, Encoder, cheapest_pieces
from genopt_core.subwords.tokenizer.peers import BPE, Peer, Unigram, WordPiece, peer_from_json
from genopt_core.subwords.tokenizer.tokenizer_json import (
    load_tokenizer_json,
    read_tokenizer,
    save_tokenizer_json,
    save_transformers,
    tokenizer_json,
)

SMALL = Vocabulary(
    ("a", "b", "▁", "ab", "b▁"), [-1.0, -2.0, -3.0, -2.5, -4.0], [5, 4, 3, 2, 1], {"by": "hand"}
)
LONG = Vocabulary(
    ("a", "b", "▁", "ab"), [-1.0] * 4, [1] * 4, length_cost=0.5, specials=("<s>", "<s>>")
)
BYTES = Vocabulary(
    (*byte_letters(), "lo"), [-3.0] * 257, [1] * 257, {}, 0.0, ("<s>",), Convention("gpt2")
)


# ------------------------------------------------------------------ encoders


def test_of_equals_a_piece_wins_over_an_unknown_character():
    arcs = {"a": (1.0, 0), "ab": (10.0, 1), "bc": (9.5, 2)}
    assert [p.id for p in cheapest_pieces("ab", arcs, (2, 1), 9.0)] == [1]
    assert [p.id for p in cheapest_pieces("ab", arcs, (2, 1), 8.9)] == [0, -1]
    assert [tuple(p) for p in cheapest_pieces("abc", arcs, (2, 1), 9.0)] == [(0, 1, 0), (1, 3, 2)]
    assert cheapest_pieces("", arcs, (2, 1), 9.0) == []
    assert [tuple(p) for p in cheapest_pieces("?", {}, (), 9.0)] == [(0, 1, -1)]


def test_new_words_are_segmented_together_from_so_many_on(monkeypatch):
    together = []
    usual = Encoder._segment_together
    monkeypatch.setattr(
        Encoder, "_segment_together", lambda self, w: together.append(w) or usual(self, w)
    )
    monkeypatch.setattr(encoding, "TOGETHER_FROM", 3)
    monkeypatch.setattr(encoding, "TOGETHER_UP_TO", 4)
    text = "ab abb abbb abbbb a? "
    plain = SMALL.encode(text).tolist()
    assert together == [["a", "ab ", "abb "]]
    fresh = Encoder(SMALL.costs, 14.0, ())
    monkeypatch.setattr(encoding, "TOGETHER_UP_TO", 5)
    assert fresh.encode(text).tolist() == plain
    assert together[-1] == ["a", "ab ", "abb ", "abbb "]
    assert SMALL.decode(plain) == text
    letters = Encoder(BYTES.costs, 13.0, (), Convention("gpt2"))
    assert letters.encode("lo la lé").tolist() == BYTES.encode("lo la lé").tolist()
    assert len(together[-1]) >= 3
    assert BYTES.decode(letters.encode("lo la lé")) == "lo la lé"


def test_an_encoder_forgets_when_it_remembers_too_much(monkeypatch):
    monkeypatch.setattr(encoding, "REMEMBERED_WORDS", 3)
    own = Encoder(SMALL.costs, 14.0, ())
    for text, kept in (("a b ab", 3), ("a", 4), ("bb ", 1), ("bb", 2)):
        own.encode(text)
        assert len(own._ids[True]) == kept
    assert own._ids[False] == {}
    own.encode("a?", byte_fallback=False)
    assert len(own._ids[False]) == 2


def test_ids_by_hand():
    ids = {token: i for i, token in enumerate(LONG.tokens)}
    assert (ids["<0x00>"], ids["<unk>"], ids["<s>"]) == (4, 260, 261)
    assert LONG.encode("ab<s>>a<s>").tolist() == [3, 262, 0, 261]
    assert LONG.encode("<s>", recognize_specials=False).tolist() == [4 + ord(c) for c in "<s>"]
    assert LONG.encode("a??b", byte_fallback=False).tolist() == [0, 260, 260, 1]
    assert LONG.encode("é", byte_fallback=False).tolist() == [260]
    assert LONG.encode("é").tolist() == [4 + 0xC3, 4 + 0xA9]
    assert LONG.decode([3, 4 + 0xC3, 4 + 0xA9, 0, 261, 4 + 0xC3]) == "abéa<s>\ufffd"
    assert LONG.decode([4 + 0xC3, 260, 4 + 0xA9]) == "\ufffd<unk>\ufffd"
    assert LONG.encode("").tolist() == []
    assert LONG.encode("a").dtype == np.int32
    assert BYTES.decode([256, 257, 0xC3]).startswith("lo<s>")
    assert BYTES.tokens[256:] == ("lo", "<s>")
    assert BYTES.encode("lo<s>").tolist() == [256, 257]
    assert (
        encoding.word_pattern(["a▁", "b", "c", "e", "7", "8", "-"])
        == r"(?:[a-ce]+|[7-8]+|[\s\S]) ?"
    )
    assert encoding._ranges("acdfgh") == "ac-df-h"


def test_costs_of_a_word_by_hand():
    assert LONG.costs == {"a": 1.5, "b": 1.5, "▁": 1.5, "ab": 1.5}
    path = LONG.segment("ab?")
    assert (path.pieces, path.cost) == (("ab", "<unk>"), 1.5 + 11.5)
    assert LONG.segment("ab?", 1).cost == float("inf")
    assert LONG.log_marginal("ab") == pytest.approx(np.log(np.exp(-1) + np.exp(-2)))
    assert [p.cost for p in LONG.n_best("ab", 5)] == [1.5, 3.0]
    assert repr(SMALL) == "Vocabulary(5 pieces, 'a' to 'b▁')"
    assert repr(LONG) == "Vocabulary(4 pieces, 'a' to 'ab', length_cost=0.5, specials=2)"
    assert (
        repr(BYTES)
        == f"Vocabulary(257 pieces, {byte_letters()[0]!r} to 'lo', specials=1, 'gpt2' in bytes)"
    )
    assert SMALL != LONG
    assert SMALL != "a"
    assert Vocabulary(SMALL.pieces, SMALL.log_probabilities, SMALL.counts, {"by": "hand"}) == SMALL
    assert not SMALL.counts.flags.writeable


# ------------------------------------------------------------------ peers


def test_byte_pair_encoding_by_hand():
    merges = [("b", "c"), ("a", "b"), ("ab", "c")]
    pieces = ["a", "b", "c", "ab", "bc", "abc"]
    assert BPE(pieces, merges).segment("abcab") == ("a", "bc", "ab")
    assert BPE(pieces, merges[1:]).segment("ababc") == ("ab", "abc")
    assert BPE(pieces, merges[:2]).segment("bcbc") == ("bc", "bc")
    assert BPE(pieces, [], ignore_merges=True).segment("abc") == ("abc",)
    assert BPE(pieces, []).segment("abc") == ("a", "b", "c")
    assert BPE(pieces, []).segment("a??b") == ("a", "b"), "dropped without a name for it"
    assert BPE(pieces, [], "?").segment("axxb") == ("a", "?", "?", "b")
    fused = BPE(pieces, [], "?", fuse_unknown=True)
    assert fused.segment("axxbx") == ("a", "?", "b", "?")
    code = BPE([*pieces, "<0xC3>", "<0xA9>"], [], "?", byte_fallback=True, fuse_unknown=True)
    assert code.segment("aéb") == ("a", "<0xC3>", "<0xA9>", "b")
    assert code.segment("xéxx") == ("?", "<0xC3>", "<0xA9>", "?")
    marked = BPE(
        ["a", "##b", "##b</w>", "a</w>", "ab"], [("a", "##b"), ("a", "##b</w>")],
        prefix="##", suffix="</w>",
    )  # fmt: skip
    assert marked.segment("a") == ("a</w>",)
    assert marked.segment("abb") == ("ab", "##b</w>")
    assert marked.segment("ab") == ("ab</w>",)
    levels = BPE(["Ġ", "a", "Ã", "©"], [], byte_level=True)
    assert levels.segment("▁aé") == ("Ġ", "a", "Ã", "©")
    assert BPE(pieces, []).segment("") == ()


def test_longest_match_and_unigram_by_hand():
    longest = WordPiece(["ab", "a", "##b", "##bb", "b"], "[UNK]", longest_word=5)
    assert longest.segment("abbb") == ("ab", "##bb")
    assert longest.segment("abb") == ("ab", "##b")
    assert longest.segment("abbbb") == ("ab", "##bb", "##b")
    assert longest.segment("abbbbb") == longest.segment("ax") == ("[UNK]",)
    assert WordPiece(["a", "-b"], "?", "-").segment("ab") == ("a", "-b")
    scores = {"a": -1.0, "b": -2.0, "ab": -3.0, "<0xC3>": -9.0, "<0xA9>": -9.0}
    assert Unigram(scores, "?").segment("aé?b") == ("a", "?", "b")
    code = Unigram(scores, "?", byte_fallback=True)
    assert code.segment("aéb") == ("a", "<0xC3>", "<0xA9>", "b")
    assert code.segment("aêb") == ("a", "?", "b"), "a byte is missing"
    assert Unigram(scores, None, byte_fallback=True).segment("é") == ("<0xC3>", "<0xA9>")
    assert Unigram(scores).segment("ab") == ("ab",)
    with pytest.raises(ValueError, match="no piece and no unknown token for 'é'"):
        Unigram(scores).segment("aé")
    # an unknown character costs 10 more than the costliest piece, here 9
    assert Unigram({"a": -1.0, "b": -9.0, "ax": -20.0}, "?").segment("ax") == ("ax",)
    assert Unigram({"a": -1.0, "ax": -19.9}, "?")._unknown_cost == 29.9


@pytest.mark.parametrize("kind", [{"type": "BPE"}, {}, {"type": None}])
def test_models_of_pairs_from_their_files(kind):
    model = {**kind, "vocab": {"b": 1, "a": 0, "ab": 2}, "merges": ["a b"]}
    peer = peer_from_json({"model": model})
    assert (peer.kind, peer.pieces, peer.segment("ab")) == ("BPE", ("a", "b", "ab"), ("ab",))
    assert not peer.byte_level
    level = {"type": "Sequence", "pretokenizers": [{"type": "Split"}, {"type": "ByteLevel"}]}
    more = {
        "merges": [["a", "b"]], "unk_token": "?", "fuse_unk": True, "byte_fallback": True,
        "ignore_merges": True, "continuing_subword_prefix": None, "end_of_word_suffix": "",
    }  # fmt: skip
    peer = peer_from_json({"model": {**model, **more}, "pre_tokenizer": level})
    assert peer.byte_level
    assert (peer._unknown, peer._fuse, peer._bytes, peer._ignore) == ("?", True, True, True)
    assert (peer._prefix, peer._suffix, peer.merges) == ("", "", (("a", "b"),))
    usual = peer_from_json({"model": model, "pre_tokenizer": {"type": "Whitespace"}})
    assert not usual.byte_level
    assert (usual._unknown, usual._fuse, usual._bytes, usual._ignore) == (None,) + (False,) * 3


def test_other_models_from_their_files():
    pieces = {"a": 0, "##b": 1}
    peer = peer_from_json({"model": {"type": "WordPiece", "vocab": pieces, "unk_token": "?"}})
    assert peer.segment("ab") == ("a", "##b")
    assert (peer._prefix, peer._longest_word) == ("##", 100)
    model = {"type": "Unigram", "vocab": [["?", 0.0], ["a", -1.0]], "unk_id": 0}
    assert peer_from_json({"model": model}).segment("ab") == ("a", "?")
    peer = peer_from_json({"model": {**model, "unk_id": None, "byte_fallback": True}})
    assert (peer._unknown, peer._bytes) == (None, True)
    for kind in ("WordLevel", None):
        with pytest.raises(ValueError, match=f"got {kind!r}"):
            peer_from_json({"model": {"type": kind, "vocab": {}}})

    class Letters(Peer):
        kind = "letters"

        def _segment(self, word):
            return word

    assert Letters("ab").segment("a▁") == ("a", "▁")
    assert Letters("ab", True).segment("▁") == ("Ġ",)


# ------------------------------------------------------------------ files


@pytest.mark.parametrize("fallback", [True, False])
def test_the_file_word_by_word(fallback):
    bytes_and_unknown = [[token, -1.5] for token in (*BYTE_TOKENS, "<unk>")]
    added = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    assert tokenizer_json(LONG, fallback) == {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {"id": 261, "content": "<s>", "special": True, **added},
            {"id": 262, "content": "<s>>", "special": True, **added},
        ],
        "normalizer": None,
        "pre_tokenizer": {
            "type": "Split", "pattern": {"Regex": r"(?:[a-b]+|[\s\S]) ?"},
            "behavior": "Isolated", "invert": False,
        },
        "post_processor": None,
        "decoder": {"type": "Sequence", "decoders": [{"type": "ByteFallback"}, {"type": "Fuse"}]},
        "model": {
            "type": "Unigram", "unk_id": 260,
            "vocab": [["a", -1.5], ["b", -1.5], [" ", -1.5], ["ab", -1.5], *bytes_and_unknown],
            "byte_fallback": fallback,
            "genopt": {"counts": [1.0] * 4, "length_cost": 0.5, "provenance": {}},
        },
    }  # fmt: skip
    least = tokenizer_json(SMALL)["model"]["vocab"]
    assert least[4:6] == [["b ", -4.0], ["<0x00>", -4.0]]


def test_the_file_of_a_vocabulary_in_bytes(tmp_path):
    content = tokenizer_json(BYTES)
    level = {
        "type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False,
    }  # fmt: skip
    assert content["pre_tokenizer"]["type"] == "Sequence"
    assert [step["type"] for step in content["pre_tokenizer"]["pretokenizers"]] == [
        "Split", "ByteLevel",
    ]  # fmt: skip
    assert content["decoder"] == content["pre_tokenizer"]["pretokenizers"][1] == level
    assert content["model"]["unk_id"] is None
    assert content["model"]["byte_fallback"] is False
    assert len(content["model"]["vocab"]) == 257
    assert content["added_tokens"][0]["id"] == 257
    assert content["model"]["genopt"]["convention"]["name"] == "gpt2"
    for vocabulary in (SMALL, LONG, BYTES):
        save_tokenizer_json(vocabulary, tmp_path / "t.json")
        assert load_tokenizer_json(tmp_path / "t.json") == vocabulary
        assert read_tokenizer(tmp_path / "t.json").kind == "Unigram"
    text = (tmp_path / "t.json").read_text("utf-8")
    assert text.startswith('{\n "version": "1.0",\n')
    written = save_transformers(BYTES, tmp_path / "folder", eos_token="</s>", pad_token="</s>")
    assert written.specials == ("<s>", "</s>")
    settings = json.loads((tmp_path / "folder" / "tokenizer_config.json").read_text())
    assert settings == {
        "tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False,
        "eos_token": "</s>", "pad_token": "</s>",
    }  # fmt: skip
    save_transformers(SMALL, tmp_path / "folder")
    settings = json.loads((tmp_path / "folder" / "tokenizer_config.json").read_text())
    assert "unk_token" not in settings
    with pytest.raises(ValueError, match="role must be one of"):
        save_transformers(SMALL, tmp_path / "folder", unk_token="<unk>")


def changed(content, path, value):
    for name in path[:-1]:
        content = content[name]
    if value is None:
        del content[path[-1]]
    else:
        content[path[-1]] = value


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        (["model", "type"], "BPE", "its model is BPE"),
        (["model", "type"], None, "it has no 'type'"),
        (["added_tokens"], None, "it has no 'added_tokens'"),
        (["model", "vocab"], [["a", -1.0]], "does not end with 256 bytes and <unk>"),
        (["model", "vocab", 259], ["x", -1.0], "does not end with 256 bytes"),
        (["model", "vocab", 0], [1, -1.0], "genopt_core wrote"),
        (["pre_tokenizer"], None, "it cuts words differently"),
        (["pre_tokenizer", "pattern", "Regex"], "x", "it cuts words differently"),
        (["pre_tokenizer", "type"], "Punctuation", "it cuts words differently"),
        (["model"], 3, "genopt_core wrote"),
    ],
)
def test_other_files_are_refused(path, value, words, tmp_path):
    content = tokenizer_json(SMALL)
    changed(content, path, value)
    (tmp_path / "t.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match=words):
        load_tokenizer_json(tmp_path / "t.json")


def test_files_of_before_and_saved_by_others(tmp_path):
    content = tokenizer_json(LONG)
    own = content["model"]["genopt"]
    own["provenance"] = {"length_cost": own.pop("length_cost"), "specials": ["<s>"], "by": "hand"}
    (tmp_path / "t.json").write_text(json.dumps(content))
    found = load_tokenizer_json(tmp_path / "t.json")
    assert (found.length_cost, found.provenance) == (0.5, {"by": "hand"})
    del content["model"]["genopt"]
    (tmp_path / "t.json").write_text(json.dumps(content))
    found = load_tokenizer_json(tmp_path / "t.json")
    assert found.provenance == {"note": "counts and provenance lost by a resave"}
    assert (found.length_cost, found.counts.tolist()) == (0.0, [0.0] * 4)
    assert found.convention == LONG.convention
    for text, words in (("[1]", "must hold a JSON object"), ("{", "is not JSON")):
        (tmp_path / "t.json").write_text(text)
        for load in (load_tokenizer_json, read_tokenizer):
            with pytest.raises(ValueError, match=words):
                load(tmp_path / "t.json")
    (tmp_path / "t.json").write_text('{"model": {}}')
    with pytest.raises(ValueError, match="is not a tokenizer"):
        read_tokenizer(tmp_path / "t.json")


# ------------------------------------------------------------------ counting


@pytest.mark.parametrize("name", ["lossless", "textbook", "gpt2"])
def test_the_last_cut_is_the_last_one_however_far_back(name):
    rule = Convention(name)
    for before in (1, 40, 3000):
        for behind in (1, 200, 255, 256, 257, 2047, 2048, 5000):
            text = "ab " * before + "c" * behind
            whole = [m.end() for m in rule.boundary.finditer(text)]
            assert _last_cut(text, rule) == (max(whole) if whole else 0)
    assert _last_cut("c" * 5000, rule) == 0
    accent = "ab c\u0301" if name == "gpt2" else "ab \u0301c"
    cuts = [m.end() for m in rule.boundary.finditer(accent)]
    kept = [cut for cut in cuts if not unicodedata.combining(accent[cut : cut + 1] or " ")]
    assert _last_cut(accent, rule) == max(kept, default=0)
    assert _last_cut("a b", Convention("regex", r"\S+")) == 0


def test_chunks_of_a_file_by_hand(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes("ab cd é ef".encode())
    chunks = list(read_chunks(path, 4))
    assert "".join(c.text for c in chunks) == "ab cd é ef"
    assert sum(c.bytes for c in chunks) == 11
    assert [c.followed for c in chunks] == [True] * (len(chunks) - 1) + [False]
    path.write_bytes(b"abc \xff")
    with pytest.raises(ValueError, match="byte 4 is 0xFF"):
        list(read_chunks(path, 3))
    path.write_bytes(b"abc \xc3")
    with pytest.raises(ValueError, match="byte 4 is 0xC3"):
        list(read_chunks(path, 2))
    path.write_bytes(b"")
    assert [tuple(c) for c in read_chunks(path)] == [("", False, 0)]


def test_so_many_chunks_are_under_way_and_all_are_cancelled_when_reading_fails(
    monkeypatch, tmp_path
):
    class Waiting(Future):
        """Is done when somebody waits for it, and not before."""

        def result(self, timeout=None):
            late.done(self)
            return super().result(timeout)

    class Late(Executor):
        """Does a task when somebody waits for it."""

        def __init__(self):
            self.open, self.most, self.all = {}, 0, []

        def submit(self, function, *arguments):
            future = Waiting()
            self.open[future] = (function, arguments)
            self.all.append(future)
            self.most = max(self.most, len(self.open))
            return future

        def done(self, future):
            function, arguments = self.open.pop(future)
            future.set_result(function(*arguments))

    late = Late()
    monkeypatch.setattr(counting, "IN_FLIGHT", 3)
    path = tmp_path / "a.txt"
    path.write_text(("low lower " * 20).strip())
    told = []
    found = counting.count_words_in_files(path, executor=late, chunk_bytes=20, progress=told.append)
    assert found == {"low▁": 20, "lower▁": 19, "lower": 1}
    assert late.most == 3
    assert told[-1].done == told[-1].total == 199
    assert told == sorted(told)
    path.write_bytes(b"low lower " * 3 + b"\xff")
    late = Late()
    with pytest.raises(ValueError, match="byte 30"):
        counting.count_words_in_files(path, executor=late, chunk_bytes=10)
    assert any(f.cancelled() for f in late.all)


def test_pieces_that_a_certificate_does_not_cover():
    def vocabulary(*pieces):
        return Vocabulary(pieces, [-1.0] * len(pieces), [1] * len(pieces))

    counts = {"ab": 4, "a": 9}
    check_covered(vocabulary("a", "b", "zz"), counts, 3, min_count=5)  # which never occurs
    check_covered(vocabulary("a", "b", "ab"), counts, 3, min_count=4)
    check_covered(vocabulary("a", "b", "ab"), counts, 3)
    with pytest.raises(ValueError, match="at least 5 times, as the certificate says, got 'ab'"):
        check_covered(vocabulary("a", "b", "ab"), counts, 3, min_count=5)


def test_a_draw_at_the_ends_of_the_unit():
    def drawn(u, *shares):
        logs = [np.log(s) if s else -np.inf for s in shares]
        return _draw(logs, SimpleNamespace(random=lambda: u))

    assert [drawn(u, 1, 2, 1) for u in (0.0, 0.2499, 0.2501, 0.7499, 0.7501)] == [0, 0, 1, 1, 2]
    assert drawn(0.0, 0, 1, 0) == drawn(1 - 2**-53, 0, 1, 0) == 1
    assert drawn(1.0, 1, 1, 0) == 1, "should the product round up"
    assert drawn(0.5, 0, 0) == 0
