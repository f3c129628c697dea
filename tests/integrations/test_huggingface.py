"""Export to Hugging Face and back: same tokens, same text; BPE, WordPiece, Unigram files read."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from genopt_core import corpora
from genopt_core.conventions import Convention
from genopt_core.integrations import huggingface as hf
from genopt_core.subwords import (
    Vocabulary,
    piece_costs,
    stored_costs,
    substring_vocabulary,
    train,
)
from genopt_core.subwords.tokenizer.encoding import BYTE_TOKENS

tokenizers = pytest.importorskip("tokenizers", reason="tokenizers is not installed")


def vocabulary_of(costs, length_cost=0.0, **provenance):
    logs = -np.array(list(costs.values()), dtype=float)
    return Vocabulary(tuple(costs), logs, np.arange(len(costs)) / 4, provenance, length_cost)


@pytest.fixture(scope="module")
def sotu():
    """8,000 frequent substrings of the State of the Union, unfitted: equal costs abound."""
    counts = corpora.count_words(corpora.load("sotu"))
    return vocabulary_of(piece_costs(substring_vocabulary(counts, 8000, 12)), corpus="sotu")


@pytest.fixture(scope="module")
def exported(sotu):
    return hf.to_tokenizers(sotu)


# The book's vocabulary in Hugging Face's hands ----------------------------------------------------


@pytest.mark.parametrize("name", ["sotu", "moby-dick"])
def test_the_whole_corpus_token_for_token(sotu, exported, name):
    text = corpora.load(name)
    ids = sotu.encode(text).tolist()
    encoding = exported.encode(text)
    assert encoding.ids == ids
    assert exported.decode(ids) == text == sotu.decode(ids)
    assert [t.replace(" ", "▁") for t in encoding.tokens] == [sotu.tokens[i] for i in ids]


def test_equal_costs_are_decided_alike():
    letters = "abc"
    costs = {a + b + c: 1.0 * len(a + b + c) for a in letters for b in ["", *letters] for c in b}
    costs |= dict.fromkeys(letters, 1.0) | {a + b: 2.0 for a in letters for b in letters}
    vocabulary = vocabulary_of(costs)
    model = hf.to_tokenizers(vocabulary).model
    rng = np.random.default_rng(0)
    for _ in range(3000):
        word = "".join(rng.choice(list(letters), size=rng.integers(1, 12)))
        assert vocabulary.segment(word).pieces == tuple(t.value for t in model.tokenize(word))


ODD = " \n\t▁abthe.,é1<0x>unk\u0301\x00\u3000\u2028Åß\U0001f600कािन्日本"
UNICODE = st.text(st.characters(exclude_categories=["Cs"]), max_size=80)


@settings(max_examples=600, deadline=None)
@given(st.one_of(UNICODE, st.text(st.sampled_from(ODD), max_size=60)))
def test_any_unicode_text_token_for_token(text):
    vocabulary, exported = english_pair()
    ids = vocabulary.encode(text).tolist()
    assert exported.encode(text).ids == ids
    assert exported.decode(ids, skip_special_tokens=False) == text
    assert vocabulary.decode(ids) == text


_PAIR: list = []


def english_pair():
    if not _PAIR:
        v = vocabulary_of(stored_costs(2000)).with_specials(["<s>", "the <", "\n\n", "<0x>"])
        _PAIR.extend([v, hf.to_tokenizers(v)])
    return _PAIR


FIRST_BYTE = 1213  # the id of <0x00>


@settings(max_examples=200, deadline=None)
@example([FIRST_BYTE + byte for byte in b"\xed\xb1\xbd*"])  # halves of surrogate pairs
@example([0, *(FIRST_BYTE + byte for byte in b"\xed\xba\x86"), 1])
@example([FIRST_BYTE + byte for byte in b"\xed\xbf\x89"])
@example([FIRST_BYTE + byte for byte in b"a\xed\xb3\x8e"])
@given(st.lists(st.one_of(st.integers(0, 1473), st.integers(1400, 1473)), max_size=30))
def test_any_ids_are_decoded_alike(ids):
    vocabulary, exported = english_pair()
    assert vocabulary.tokens[FIRST_BYTE] == "<0x00>"
    text = vocabulary.decode(ids)
    assert text == exported.decode(ids, skip_special_tokens=False)
    assert text.encode("utf-8").decode("utf-8") == text


def test_the_token_penalty_is_in_the_scores(tmp_path):
    penalized = vocabulary_of({"a": 0.7, "b": 1.1, "ab": 4.0}, length_cost=3.0)
    exported = hf.to_tokenizers(penalized)
    for text in ("abab", "abéa", "é"):
        assert exported.encode(text).ids == penalized.encode(text).tolist()
    hf.save_tokenizer_json(penalized, tmp_path / "a.json")
    again = hf.load_tokenizer_json(tmp_path / "a.json")
    assert again == penalized
    assert (again.length_cost, again.log_marginal("ab")) == (3.0, penalized.log_marginal("ab"))


def test_files_of_version_0_1_are_read(tmp_path):
    """They had token penalty and special tokens in the provenance."""
    vocabulary = vocabulary_of({"a": 0.7, "b": 1.1, "ab": 4.0}, 2.5, corpus="x")
    vocabulary = vocabulary.with_specials(["<s>"])
    content = hf.tokenizer_json(vocabulary)
    own = content["model"][hf.OWN_KEY]
    own["provenance"] |= {"length_cost": own.pop("length_cost"), "specials": ["<s>"]}
    (tmp_path / "old.json").write_text(json.dumps(content))
    assert hf.load_tokenizer_json(tmp_path / "old.json") == vocabulary


def test_without_byte_fallback_unknown_characters_are_alike():
    vocabulary = vocabulary_of({"a": 1.0, "bc": 1.0, "b": 2.0, "1": 1.0})
    exported = hf.to_tokenizers(vocabulary, byte_fallback=False)
    for text in ("a", "é", "aéé b", "bcc", "cbca", "acccb1é 1", "  ▁"):
        wanted = vocabulary.encode(text, byte_fallback=False).tolist()
        assert exported.encode(text).ids == wanted, text


def test_special_tokens_are_whole_and_last():
    vocabulary = vocabulary_of({"a": 1.0})
    exported = hf.to_tokenizers(vocabulary, specials=["<s>", "</s>"])
    assert exported.encode("a<s>a").ids == [0, 258, 0]
    assert exported.decode([0, 258, 0]) == "aa"
    assert exported.decode([0, 258, 0], skip_special_tokens=False) == "a<s>a"
    assert exported.get_vocab_size() == len(vocabulary.with_specials(["<s>", "</s>"]).tokens)


# Files --------------------------------------------------------------------------------------------


def test_a_saved_file_gives_back_everything(sotu, tmp_path):
    vocabulary = sotu.with_specials(["<s>"])
    hf.save_tokenizer_json(vocabulary, tmp_path / "a.json")
    assert hf.load_tokenizer_json(tmp_path / "a.json") == vocabulary
    hf.save_tokenizer_json(hf.load_tokenizer_json(tmp_path / "a.json"), tmp_path / "b.json")
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.json", "b.json"]


def test_hugging_face_reads_the_same_numbers_and_saves_them_again(sotu, tmp_path):
    vocabulary = sotu.with_specials(["<s>"])
    hf.save_tokenizer_json(vocabulary, tmp_path / "a.json")
    tokenizers.Tokenizer.from_file(str(tmp_path / "a.json")).save(str(tmp_path / "b.json"))
    again = hf.load_tokenizer_json(tmp_path / "b.json")
    assert again.pieces == vocabulary.pieces
    assert np.array_equal(again.log_probabilities, vocabulary.log_probabilities)
    assert again.specials == ("<s>",)
    assert not again.counts.any()
    assert "note" in again.provenance


def test_decimal_numbers_survive_both_readers(tmp_path):
    rng = np.random.default_rng(1)
    logs = -np.concatenate([rng.exponential(5, 3000), 10.0 ** rng.uniform(-9, 2, 2000)])
    vocabulary = Vocabulary(tuple(f"x{i}" for i in range(5000)), logs, np.zeros(5000))
    hf.to_tokenizers(vocabulary).save(str(tmp_path / "a.json"))
    again = hf.load_tokenizer_json(tmp_path / "a.json")
    assert np.array_equal(again.log_probabilities, vocabulary.log_probabilities)


def test_a_failed_save_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "a.json"
    path.write_text("old")

    def fail(source, target):
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        hf.save_tokenizer_json(vocabulary_of({"a": 1.0}), path)
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is not JSON"),
        ("[]", "must hold a JSON object"),
        ("{}", "tokenizer.json that genopt_core wrote, it has no 'model'"),
        ('{"model": {"type": "BPE", "vocab": {}}}', "genopt_core wrote, its model is BPE"),
        ('{"model": {"type": "Unigram", "vocab": [["a", 0]]}}', "does not end with 256 bytes"),
    ],
)
def test_refused_files(tmp_path, content, message):
    path = tmp_path / "a.json"
    path.write_text(content)
    with pytest.raises(ValueError, match=message):
        hf.load_tokenizer_json(path)
    if "Unigram" not in content:
        with pytest.raises(ValueError, match=r"a\.json"):
            hf.read_tokenizer(path)


def test_a_file_with_another_way_to_cut_words_is_refused(tmp_path):
    content = hf.tokenizer_json(vocabulary_of({"a": 1.0}))
    content["pre_tokenizer"]["pattern"] = {"Regex": ".*"}
    (tmp_path / "a.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match="cuts words differently"):
        hf.load_tokenizer_json(tmp_path / "a.json")


def test_refused_vocabularies(tmp_path):
    for convert in (hf.to_tokenizers, hf.to_transformers):
        with pytest.raises(TypeError, match="vocabulary must be a Vocabulary, got str"):
            convert("tokenizer.json", [])
    with pytest.raises(ValueError, match="role must be one of 'bos_token'"):
        hf.save_transformers(vocabulary_of({"a": 1.0}), tmp_path / "folder", end="</s>")
    assert not (tmp_path / "folder").exists()
    with pytest.raises(TypeError, match="vocabulary must be a Vocabulary, got dict"):
        hf.tokenizer_json({})
    with pytest.raises(ValueError, match=r"pieces .*lone surrogate"):
        vocabulary_of({"\ud800": 1.0})
    with pytest.raises(FileNotFoundError):
        hf.load_tokenizer_json(tmp_path / "none.json")


# transformers -------------------------------------------------------------------------------------


def test_transformers_gives_the_same_ids_after_saving_and_loading(sotu, tmp_path):
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    fast = hf.to_transformers(sotu, eos_token="<|end|>")
    fast.save_pretrained(tmp_path)
    text = corpora.load("sotu")[:100_000] + " é\u2581 <unk>  <|end|>\n ."
    wanted = sotu.with_specials(["<|end|>"]).encode(text).tolist()
    readers = [
        fast,
        transformers.PreTrainedTokenizerFast.from_pretrained(tmp_path),
        transformers.AutoTokenizer.from_pretrained(tmp_path),
    ]
    for tokenizer in readers:
        assert tokenizer(text, add_special_tokens=False)["input_ids"] == wanted
        assert tokenizer.decode(wanted) == text
        assert tokenizer.eos_token_id == len(sotu) + 257


@pytest.mark.parametrize(
    "convention",
    [
        Convention(),
        Convention("none", alphabet="characters"),
        Convention("gpt4"),
        Convention("regex", r"\S+", "characters"),
    ],
    ids=lambda c: f"{c.name}-{c.alphabet}",
)
def test_a_text_that_says_unk_keeps_it_whoever_loads_the_tokenizer(convention, tmp_path):
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    text = "low <unk> low <0x41></s> <unk>é<pad>low\n"
    counts = corpora.count_words("low <unk> low <0x41> lower\n" * 9, convention)
    vocabulary = train(counts, 290, at_most=True, convention=convention, new_words=False)
    roles = {"eos_token": "</s>", "pad_token": "<pad>"}
    written = hf.save_transformers(vocabulary, tmp_path / "folder", **roles)
    hf.to_transformers(vocabulary, **roles).save_pretrained(tmp_path / "saved")
    by_hand = transformers.PreTrainedTokenizerFast(
        tokenizer_file=str(tmp_path / "folder" / "tokenizer.json"), **roles
    )
    ids = written.encode(text).tolist()
    assert written.decode(ids) == text
    for tokenizer in (
        hf.to_transformers(vocabulary, **roles),
        transformers.AutoTokenizer.from_pretrained(tmp_path / "folder"),
        transformers.AutoTokenizer.from_pretrained(tmp_path / "saved"),
        by_hand,
    ):
        assert tokenizer(text)["input_ids"] == ids
        assert tokenizer.decode(ids) == text
        plain = tokenizer.decode(ids, skip_special_tokens=True)
        assert plain == text.replace("</s>", "").replace("<pad>", "")
        assert tokenizer.unk_token is None
        assert tokenizer.all_special_tokens == ["</s>", "<pad>"]
        assert len(tokenizer) == len(written.tokens)
        short, long = tokenizer(["low", text], padding=True)["input_ids"]
        assert (long, len(short), short[-1]) == (ids, len(ids), tokenizer.pad_token_id)
        assert tokenizer.add_special_tokens({"additional_special_tokens": ["<new>"]}) == 1
        assert tokenizer("<new>")["input_ids"] == [len(written.tokens)]


@pytest.mark.parametrize("convert", [hf.to_transformers, hf.save_transformers])
@pytest.mark.parametrize(
    ("roles", "message"),
    [
        ({"eos": "</s>"}, r"role must be one of 'bos_token', .*, got eos='</s>'; other special"),
        ({"model_max_length": 32}, r"got model_max_length=32; .* other settings are set on"),
        ({"additional_special_tokens": ["<a>"]}, r"got additional_special_tokens=\['<a>'\]; other"),
        ({"unk_token": "<unk>"}, "got unk_token='<unk>'"),
        ({"eos_token": 3}, "eos_token must be a str, got 3"),
        ({"eos_token": None}, "eos_token must be a str, got None"),
        ({"eos_token": ["</s>"]}, r"eos_token must be a str, got \['</s>'\]"),
    ],
)
def test_what_is_no_role_is_named(convert, roles, message, tmp_path):
    pytest.importorskip("transformers", reason="transformers is not installed")
    place = [tmp_path / "folder"] if convert is hf.save_transformers else []
    with pytest.raises((TypeError, ValueError), match=message):
        convert(vocabulary_of({"a": 1.0}), *place, **roles)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("convert", [hf.to_transformers, hf.to_tokenizers])
@pytest.mark.parametrize("specials", ["</s>", 3, [3]])
def test_specials_are_a_list_of_strings(convert, specials):
    pytest.importorskip("transformers", reason="transformers is not installed")
    with pytest.raises(TypeError, match=r"specials must be .*strings, got (the str '</s>'|3)"):
        convert(vocabulary_of({"a": 1.0}), specials=specials)


# Other tokenizers' files --------------------------------------------------------------------------


def trained(kind):
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    empty = pre_tokenizers.WhitespaceSplit()
    unk = ["<unk>"]
    make = {
        "BPE": lambda: (models.BPE(unk_token="<unk>"), trainers.BpeTrainer),
        "BPE fused": lambda: (models.BPE(unk_token="<unk>", fuse_unk=True), trainers.BpeTrainer),
        "BPE marked": lambda: (
            models.BPE(
                unk_token="<unk>", continuing_subword_prefix="##", end_of_word_suffix="</w>"
            ),
            lambda **o: trainers.BpeTrainer(
                continuing_subword_prefix="##", end_of_word_suffix="</w>", **o
            ),
        ),
        "BPE silent": lambda: (models.BPE(), trainers.BpeTrainer),
        "BPE bytes": lambda: (models.BPE(byte_fallback=True), trainers.BpeTrainer),
        "WordPiece": lambda: (models.WordPiece(unk_token="<unk>"), trainers.WordPieceTrainer),
        "Unigram": lambda: (
            models.Unigram(),
            lambda **o: trainers.UnigramTrainer(unk_token="<unk>", **o),
        ),
    }
    model, trainer = make[kind]()
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = empty
    specials = [*unk, *(BYTE_TOKENS if kind == "BPE bytes" else ())]
    words = list(corpora.pretokenize(corpora.load("sotu")[:300_000]))
    tokenizer.train_from_iterator(
        [" ".join(words)],
        trainer(vocab_size=1500, special_tokens=specials, show_progress=False),
    )
    return tokenizer


@pytest.mark.parametrize(
    "kind",
    ["BPE", "BPE fused", "BPE marked", "BPE silent", "BPE bytes", "WordPiece", "Unigram"],
)
def test_other_tokenizers_are_read_and_segment_as_they_do(kind, tmp_path):
    tokenizer = trained(kind)
    path = tmp_path / "tokenizer.json"
    tokenizer.save(str(path))
    peer = hf.read_tokenizer(path)
    assert peer.kind == kind.split()[0]
    assert len(peer.pieces) == tokenizer.get_vocab_size()
    assert peer.pieces[7] == tokenizer.id_to_token(7)
    words = sorted(set(corpora.pretokenize(corpora.load("moby-dick")[:200_000])))
    words += ["éé", "aééb", "éa日", "日", "a" * 120, "\x00"]
    for word in words:
        wanted = [tokenizer.id_to_token(token.id) for token in tokenizer.model.tokenize(word)]
        assert list(peer.segment(word)) == wanted, word
    assert peer.segment("") == ()
    with pytest.raises(TypeError, match="word must be a str"):
        peer.segment(None)


def test_a_byte_level_file_spells_bytes(tmp_path):
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    text = corpora.load("sotu")[:200_000]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=1000, initial_alphabet=alphabet, show_progress=False)
    words = [w.replace("▁", " ") for w in corpora.pretokenize(text)]
    tokenizer.train_from_iterator(words, trainer)
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    peer = hf.read_tokenizer(tmp_path / "tokenizer.json")
    assert peer.byte_level
    for word in [*words[:2000], "日本 ", "é\x00"]:
        assert list(peer.segment(word.replace(" ", "▁"))) == tokenizer.encode(word).tokens


def test_the_book_s_own_file_is_read_as_a_unigram_too(tmp_path):
    vocabulary = vocabulary_of(stored_costs(1000))
    hf.save_tokenizer_json(vocabulary, tmp_path / "a.json")
    peer = hf.read_tokenizer(tmp_path / "a.json")
    assert peer.segment("government") == vocabulary.segment("government").pieces


def test_older_files_write_a_merge_as_one_string(tmp_path):
    model = {"vocab": {"a": 0, "b": 1, "ab": 2}, "merges": ["a b"]}
    (tmp_path / "a.json").write_text(json.dumps({"model": model}))
    assert hf.read_tokenizer(tmp_path / "a.json").segment("aab") == ("a", "ab")


def test_a_package_that_is_missing_is_named_with_its_extra(monkeypatch):
    for convert, package in (
        (hf.to_tokenizers, "tokenizers"),
        (hf.to_transformers, "transformers"),
    ):
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, package, None)
            with pytest.raises(ModuleNotFoundError, match=r"genopt_core\[transformers\]"):
                convert(vocabulary_of({"a": 1.0}))


# What the core may import -------------------------------------------------------------------------


def test_importing_needs_only_numpy():
    code = (
        "import sys, genopt_core.subwords, genopt_core.integrations.huggingface\n"
        "found = {'tokenizers', 'transformers', 'tqdm', 'dask', 'scipy'} & set(sys.modules)\n"
        "assert not found, found"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
