"""Arguments just inside and just outside of what is accepted, defaults, and settings of record."""

import inspect
import math
from types import SimpleNamespace

import numpy as np
import pytest

from genopt_core import subwords
from genopt_core.subwords import (
    Certificate,
    Lattice,
    Vocabulary,
    certify,
    choosing,
    exact_vocabulary,
    exhaustive_vocabulary,
    train,
)
from genopt_core.subwords.__main__ import _parser
from genopt_core.subwords.bounds import certificate, exact
from genopt_core.subwords.bounds.certificate import check_covered
from genopt_core.subwords.segmentation import arrays, paths, sampling
from genopt_core.subwords.segmentation.sampling import LEAST_TEMPERATURE, sample_path
from genopt_core.subwords.tokenizer import counting, encoding, peers, tokenizer_json, vocabulary
from genopt_core.subwords.training import (
    ascent,
    dual,
    em,
    new_words,
    search,
    substrings,
    trainer,
    unit,
)
from genopt_core.subwords.training import train as training
from genopt_core.subwords.training.substrings import Substrings

TOY = {"low▁": 5, "lower▁": 2, "newest▁": 6, "widest▁": 3}
AB = {"a": 1.0, "b": 1.0}
RNG = np.random.default_rng(0)


def made(**fields):
    usual = {"pieces": ("a", "b"), "log_probabilities": [-1.0, 0.0], "counts": [0, 1]}
    return Vocabulary(**(usual | fields))


ACCEPTED = [
    lambda: subwords.piece_costs({"a": 1.0}),
    lambda: subwords.piece_costs({"a": 0.0}),
    lambda: subwords.piece_costs({"a": 1.0, "b": 0.9e-6}),
    lambda: subwords.shortest_path("ab", {"a": 0.0, "b": 0.0}, 1),
    lambda: subwords.exact_step_costs("a", AB, 1),
    lambda: subwords.one_pass_path("ab", AB, 1),
    lambda: subwords.n_best_paths("ab", AB, 1, 1),
    lambda: sample_path("ab", AB, LEAST_TEMPERATURE, RNG, 2),
    lambda: subwords.exact_step_cost_table(Lattice(["ab"], AB), 1),
    lambda: Lattice(["ab"], AB).with_costs([0.0, math.inf]),
    lambda: subwords.profile_log_likelihood([0.0]),
    lambda: subwords.fit_probabilities(["a"], {"a": 1.0}, floor=0, tolerance=0, max_rounds=1),
    lambda: subwords.substring_counts(["ab"], 1, 0),
    lambda: subwords.substring_vocabulary(["ab"], 2, 1),
    lambda: subwords.bound_from_prices(Substrings({"ab": 1}), [0.0, 1.0], 0),
    lambda: certify({"ab": 1}, 2, steps=1, max_piece=1, min_count=0),
    lambda: exhaustive_vocabulary({"abab": 2}, 3, at_most=2),
    lambda: check_covered(made(), {"ab": 1}, 2, 1),
    lambda: made(length_cost=0),
    lambda: made(length_cost=-0.4e-10),
    lambda: made(counts=[0, 0]),
    lambda: made(specials=("<", "a" * 99)),
    lambda: made().encode("a", byte_fallback=False),
    lambda: made().decode([0, 258]),
    lambda: made().decode([]),
    lambda: train({"ab": 1}, 2, 0.0, max_piece=1),
    lambda: train(TOY, 12, 1000.0, effort="fast"),
    lambda: train(TOY, 11, min_count=1e-9),
    lambda: subwords.train_on_text("ab ba", 3),
]


@pytest.mark.parametrize("number", range(len(ACCEPTED)))
def test_what_is_just_inside_is_accepted(number):
    ACCEPTED[number]()


REFUSED = [
    (lambda: subwords.piece_costs({"a": 1.0, "b": 1.1e-6}), "sum to at most 1"),
    (lambda: subwords.piece_costs({"a": 1.0 + 1e-9}), "in 0..1"),
    (lambda: subwords.piece_costs({"a": -1e-9}), "in 0..1"),
    (lambda: subwords.shortest_path("ab", {"a": -1e-9}), "at least 0"),
    (lambda: subwords.n_best_paths("ab", AB, 0), "n must be at least 1"),
    (lambda: subwords.n_best_paths("ab", AB, 1, 0), "k must be at least 1"),
    (lambda: sample_path("ab", AB, LEAST_TEMPERATURE * 0.999, RNG), "temperature"),
    (lambda: sample_path("ab", AB, 1.0, np.random), "rng must be"),
    (lambda: subwords.exact_step_cost_table(Lattice(["ab"], AB), 0), "k must be at least 1"),
    (lambda: Lattice(["ab"], AB).with_costs([1.0, -1e-9]), "got -1e-09 for the piece 'b'"),
    (lambda: Lattice(["ab"], AB).with_costs([1.0]), r"shape \(2,\)"),
    (lambda: subwords.profile_log_likelihood([]), "non-empty"),
    (lambda: subwords.profile_log_likelihood([[1.0]]), "shape"),
    (lambda: subwords.profile_log_likelihood([-1e-9]), "at least 0"),
    (lambda: subwords.profile_log_likelihood([math.inf]), "finite"),
    (lambda: subwords.fit_probabilities(["a"], {"a": 1.0}, floor=-1e-9), "floor"),
    (lambda: subwords.fit_probabilities(["a"], {"a": 1.0}, tolerance=-1e-9), "tolerance"),
    (lambda: subwords.fit_probabilities(["a"], {"a": 1.0}, max_rounds=0), "max_rounds"),
    (lambda: subwords.substring_counts(["ab"], 0), "max_piece"),
    (lambda: subwords.substring_counts(["ab"], 1, -1e-9), "min_count"),
    (lambda: subwords.substring_vocabulary(["ab"], 1, 1), "at least the 2"),
    (lambda: subwords.bound_from_prices(Substrings({"ab": 1}), [0.0, 1 + 1e-9], 0), "in 0..1"),
    (lambda: subwords.bound_from_prices(Substrings({"ab": 1}), [-1e-9, 1.0], 0), "in 0..1"),
    (lambda: subwords.bound_from_prices(Substrings({"ab": 1}), [0.5], 0), r"shape \(2,\)"),
    (lambda: certify({"ab": 1}, 1), "vocab_size must be at least 2"),
    (lambda: certify({"ab": 1}, 2, steps=0), "steps"),
    (lambda: certify({"ab": 1}, 2, max_piece=0), "max_piece"),
    (lambda: certify({"ab": 1}, 2, min_count=-1e-9), "min_count"),
    (lambda: exhaustive_vocabulary({"abab": 2}, 3, at_most=1), "at most 1 are tried"),
    (lambda: exhaustive_vocabulary({"abab": 2}, 9), "vocab_size must be at most 4"),
    (lambda: exhaustive_vocabulary({"abab": 2}, 3, at_most=math.nan), "at_most must be a whole"),
    (lambda: exact_vocabulary({"abab": 2}, 3, time_limit=math.nan), "time_limit must be above 0"),
    (lambda: exact_vocabulary({"abab": 2}, 3, time_limit=0.0), "time_limit must be above 0"),
    (lambda: check_covered(made(), {"ab": 1}, 1), "at most 1 pieces"),
    (lambda: check_covered(made(pieces=("a", "ba")), {"a": 1}, 2, 1), "at most 1 characters"),
    (lambda: check_covered(made(), {"abc": 1}, 2, 1), "'c' is not"),
    (lambda: made(length_cost=-1e-10), "length_cost must be at least 0"),
    (lambda: made(log_probabilities=[0.0, 1e-10]), "got 1e-10 for the piece 'b'"),
    (lambda: made(counts=[1, -1e-9]), "got -1e-09 for 'b'"),
    (lambda: made(counts=[1]), r"shape \(2,\)"),
    (lambda: made(counts=[1, math.nan]), "got nan for the piece 'b'"),
    (lambda: made(specials=("",)), "must not be empty"),
    (lambda: made(specials=("<", "<")), "must differ"),
    (lambda: made(specials=("a",)), "must differ"),
    (lambda: made(pieces=("a", "a")), "'a' occurs twice"),
    (lambda: made(pieces=("b", "a", "c", "a")), "'a' occurs twice"),
    (lambda: made(pieces=("a", "b c")), "got 'b c'"),
    (lambda: made(pieces=("a", "<0x00>")), "reserved"),
    (lambda: made(pieces=()), "pieces is empty"),
    (lambda: made(convention="gpt2"), "must have all 256 bytes"),
    (lambda: made(pieces=("a", "\u2581"), convention="gpt2"), "spelled in bytes"),
    (lambda: made(provenance={"x": math.nan}), "JSON"),
    (lambda: made().decode([0, 259]), "ids must be in 0..258, got 259"),
    (lambda: made().decode([1, -1]), "ids must be in 0..258, got -1"),
    (lambda: made().decode([0, 300, -1]), "got 300"),
    (lambda: made().decode([0, -1, 300]), "got -1"),
    (lambda: made().decode([[0]]), "list of whole numbers"),
    (lambda: made().decode([0.0]), "list of whole numbers"),
    (lambda: made().segment("a", 0), "k must be at least 1"),
    (lambda: train({"ab": 1}, 2, 1000.001), "in 0..1000"),
    (lambda: train({"ab": 1}, 2, -1e-9), "in 0..1000"),
    (lambda: train(TOY, 255, convention="gpt2"), "spelled in bytes|at least 256"),
    (lambda: train({"low": 3}, 255, convention="gpt2"), "vocab_size must be at least 256"),
    (
        lambda: train({chr(0x4E00 + i): 2 for i in range(257)}, 256),
        r"at least 257, .* of the words \(256 are enough with alphabet='bytes'\), got 256",
    ),
    (
        lambda: train({chr(0x4E00 + i): 2 for i in range(256)}, 255),
        "at least 256, one piece for each different character of the words, got 255",
    ),
    (lambda: subwords.train_on_text(" ", 2, convention="textbook"), "there are none"),
    (lambda: subwords.train_on_text("low", "12"), "vocab_size must be a whole number, got '12'"),
    (lambda: train({"low": 3}, "12"), "vocab_size must be a whole number, got '12'"),
    (lambda: train({"low": 3}, "12", convention="gpt2"), "vocab_size must be a whole number"),
    (lambda: train({"low": 3}, 299.0, convention="gpt2"), "vocab_size must be a whole number"),
    (lambda: subwords.train_on_text(b"a text", 9), "^text_or_files must be a text, .* got b'a te"),
    (lambda: subwords.train_on_text(None, 9), "^text_or_files must be a text, .* got None"),
    (lambda: subwords.train_on_text([b"a"], 9), "^text_or_files must .* got a list with b'a'"),
    (lambda: subwords.train_on_text([], 9), "text_or_files must have at least one file, got none"),
    (
        lambda: subwords.train_on_text(["a text"], 9),
        r"got a list with 'a text'; of texts, '\\n'\.join\(texts\) is one",
    ),
    (lambda: train({"a b": 3}, 3), "word_counts must write a blank as '▁' .*, got the word 'a b'"),
    (lambda: subwords.count_words_in_files([]), "paths is empty"),
    (lambda: subwords.count_words_in_files("x", chunk_bytes=0), "chunk_bytes"),
    (lambda: Certificate(0.0, {"ab": np.zeros(1)}, 2, 2).check({"ab": 1}), "must have 2 entries"),
    (lambda: Certificate(0.0, {}, 2, 2).check({"abc": 1}), "at most 2 different characters"),
]


@pytest.mark.parametrize("number", range(len(REFUSED)))
def test_what_is_just_outside_is_named(number):
    call, words = REFUSED[number]
    with pytest.raises((ValueError, TypeError), match=words):
        call()


@pytest.mark.restates
def test_defaults_are_those_that_are_documented():
    def of(function):
        given = inspect.signature(function).parameters.values()
        plain = (int, float, bool, str, type(None), tuple)
        return {
            p.name: p.default
            for p in given
            if p.default is not p.empty and isinstance(p.default, plain)
        }

    assert of(train) == {
        "objective": "likelihood", "effort": "standard", "max_piece": 16, "min_count": None,
        "at_most": False, "new_words": None, "file_exponent": 1.0, "convention": "lossless",
        "progress": False,
    }  # fmt: skip
    assert of(subwords.train_on_text) == {
        "convention": "lossless", "objective": "likelihood", "effort": "standard",
        "max_piece": 16, "min_count": None, "at_most": False, "new_words": None, "specials": (),
        "file_exponent": 1.0, "executor": None, "progress": False,
    }  # fmt: skip
    assert of(certify) == {"max_piece": 16, "min_count": 0.0, "steps": 300, "progress": False}
    assert of(exact_vocabulary) == {"max_piece": 16, "relaxed": False, "time_limit": 60.0}
    assert of(exhaustive_vocabulary) == {
        "max_piece": 16, "min_count": 2, "length_cost": 0.0, "at_most": 20_000,
    }  # fmt: skip
    assert of(check_covered) == {"max_piece": 16, "min_count": 0.0}
    assert of(certificate.candidates) == {"min_count": 0.0}
    assert of(subwords.fit_probabilities) == {
        "k": None, "floor": 0.0, "tolerance": 1e-9, "max_rounds": 100,
    }  # fmt: skip
    assert of(subwords.hard_em_step) == {"k": None, "floor": 0.0}
    assert of(subwords.substring_counts) == {"min_count": 1}
    assert of(Substrings) == {"max_piece": 16, "min_count": 1}
    assert of(subwords.count_words_in_files) == {
        "convention": "lossless", "executor": None, "chunk_bytes": 1_048_576, "progress": False,
        "specials": (), "file_exponent": 1.0,
    }  # fmt: skip
    assert of(subwords.file_weights) == {
        "file_exponent": 0.5,
    }  # fmt: skip
    assert of(counting.read_chunks) == {"chunk_bytes": 1_048_576, "specials": ()}
    assert of(Vocabulary.encode) == {"byte_fallback": True, "recognize_specials": True}
    assert of(encoding.Encoder.encode) == {"byte_fallback": True, "recognize_specials": True}
    assert not of(encoding.Encoder)
    assert of(Certificate) == {"min_count": 0.0}
    assert of(tokenizer_json.tokenizer_json) == {"byte_fallback": True}
    assert of(tokenizer_json.save_tokenizer_json) == {"byte_fallback": True}
    assert of(peers.BPE) == {
        "unknown": None, "prefix": "", "suffix": "", "fuse_unknown": False,
        "byte_fallback": False, "ignore_merges": False, "byte_level": False,
    }  # fmt: skip
    assert of(peers.WordPiece) == {"prefix": "##", "longest_word": 100, "byte_level": False}
    assert of(peers.Unigram) == {"unknown": None, "byte_fallback": False, "byte_level": False}
    assert of(em.hard_em) == {"tolerance": 2e-5}
    assert of(search.prune_to_size) == {"settle": 5}
    assert of(dual.evaluate_all) == {"margin": 0.0}
    assert of(arrays.tally) == {"size": 0}
    assert of(trainer.Effort) == {
        "candidates": 5, "rounds": 0, "share": 0.5, "cuts": 5, "ascent": 0, "weighted_ascent": 0,
    }  # fmt: skip


@pytest.mark.restates
def test_the_settings_are_those_that_the_stored_vocabularies_were_trained_with():
    """No test can say that another number is wrong; the stored numbers hang on these."""
    assert {
        "fast": trainer.Effort(5, 0, 0.5, 5, 0, 0),
        "standard": trainer.Effort(5, 2, 0.5, 5, 60, 0),
        "best": trainer.Effort(5, 6, 0.5, 8, 250, 60),
    } == trainer.EFFORTS
    assert (trainer.TOKENS_FIRST, trainer.SEARCH_WEIGHT, trainer.SEED_CUTS) == (1000, 100, 24)
    assert (ascent.FIRST_WIDTH, ascent.LAST_WIDTH) == (0.2, 0.002)
    assert (ascent.FIRST_STEP, ascent.LAST_STEP) == (0.2, 0.004)
    assert (ascent.FIRST_MARGIN, ascent.LAST_MARGIN, ascent.REFRESH) == (0.2, 0.05, 15)
    assert (em.LEAST_COUNT, search.FALL, training.LONGEST_WORD) == (0.5, 0.9, 256)
    assert (unit.NEAR, unit.LEAST) == (1e-4, 1e-11)
    assert (new_words.SMALL_CORPUS, new_words.NEW_SHARE) == (200_000, (0.1, 0.5))
    assert [level for level, _ in new_words.LEVELS] == [0.8, 0.4, 0.2, 0.1, 0.05, 0.025]
    assert (certificate.LEVELS, certificate.LONGEST_PIECE, exact.LARGEST) == (4000, 16, 400_000)
    assert (paths.UNKNOWN_EXTRA, sampling.LEAST_TEMPERATURE) == (10.0, 1e-6)
    assert encoding.REMEMBERED_WORDS == 262_144
    assert (encoding.TOGETHER_FROM, encoding.TOGETHER_UP_TO) == (500, 256)
    assert (counting.CHUNK_BYTES, counting.IN_FLIGHT) == (1_048_576, 32)
    assert vocabulary.DECIMALS == 10
    assert choosing.LEAST_COUNTS == (2, 3, 4, 6, 8, 12, 16, 24)


def test_options_of_the_command_line_that_are_not_given():
    def parsed(text):
        return vars(_parser().parse_args(text.split()))

    def told(text, expected):
        found = parsed(text)
        assert {name: found[name] for name in expected} == expected

    told("train a.txt --size 1 -o t", {
        "quiet": False, "files": ["a.txt"], "size": 1, "convention": None, "pattern": None,
        "alphabet": None, "workers": 1, "min_count": None, "output": "t", "transformers": None,
        "at_most": False, "objective": "likelihood", "special": [], "bos": None, "eos": None,
        "pad": None,
    })  # fmt: skip
    told("certify a b --size 9", {
        "quiet": False, "files": ["a", "b"], "size": 9, "convention": None, "pattern": None,
        "alphabet": None, "workers": 1, "min_count": None, "tokenizer": None, "output": None,
        "steps": 300,
    })  # fmt: skip
    told("encode a -t t", {
        "quiet": False, "file": "a", "pieces": False, "no_specials": False, "tokenizer": "t",
        "output": None,
    })  # fmt: skip
    told("decode a -t t -q -o b", {
        "quiet": True, "file": "a", "tokenizer": "t", "output": "b",
    })  # fmt: skip
    for objective, value in (("0", 0.0), ("1000", 1000.0), ("tokens", "tokens")):
        assert parsed(f"train a --size 1 -o t --objective {objective}")["objective"] == value


@pytest.mark.parametrize(
    "text",
    [
        "train a --size 0 -o t", "train a --size 1 -o t --objective -0.001",
        "train a --size 1 -o t --objective 1000.01", "train a --size 1 -o t --workers 0",
        "train a --size 1 -o t --min-count 0", "certify a --size 1 --steps 0",
        "train a --size 1", "train a --size 1 -o t --transformers d",
        "train a --size 1 -o t --convention regex", "encode a", "decode -t t", "",
    ],
)  # fmt: skip
def test_options_that_cannot_be(text, capsys):
    with pytest.raises(SystemExit) as stopped:
        _parser().parse_args(text.split())
    assert stopped.value.code == 2
    assert "usage" in capsys.readouterr().err


def test_prices_are_whole_multiples_and_words_without_prices_count_as_free(tmp_path):
    found = certify(TOY, 14, steps=20)
    levels = np.concatenate(list(found.prices.values())) * 4000
    assert np.abs(levels - np.round(levels)).max() < 1e-9
    assert levels.max() <= 4000
    assert (levels % 2 == 1).any(), "and not of a larger part"
    assert found.check({**TOY, "tow▁": 7}) == pytest.approx(found.check(TOY))
    found.save(tmp_path / "prices.npz")
    with np.load(tmp_path / "prices.npz") as stored:
        assert stored["numbers"].tolist() == [14, 16, 4000]
        assert stored["prices"].tolist() == np.round(levels).astype(int).tolist()
    read = Certificate.load(tmp_path / "prices.npz")
    assert (read.bound, read.vocabulary_size, read.max_piece) == (found.bound, 14, 16)
    assert read.min_count == 0.0
    for word, prices in found.prices.items():
        assert read.prices[word].tolist() == prices.tolist()
    rare = certify(TOY, 14, steps=1, min_count=5)
    kept = substrings.Substrings(TOY, 16, 5)
    assert set(certificate.candidates(TOY, 16, 5).texts()) == set(kept.texts())
    rare.save(tmp_path / "rare.npz")
    assert Certificate.load(tmp_path / "rare.npz").min_count == 5.0
    with np.load(tmp_path / "rare.npz") as stored:
        rest = {name: stored[name] for name in stored.files if name != "min_count"}
    np.savez(tmp_path / "before.npz", **rest)
    assert Certificate.load(tmp_path / "before.npz").min_count == 0.0
    thirds = {word: count / 3 for word, count in TOY.items()}
    assert len(certificate.candidates(thirds, 16, 5 / 3)) == len(kept), "whatever the last bits"


def test_a_vocabulary_is_the_one_that_was_asked_for_when_all_or_none_fits():
    few = exhaustive_vocabulary({"abab": 2}, 4)
    assert few.pieces == ("a", "b", "ab", "abab")
    assert few.value == few.bound == 0.0
    none = exhaustive_vocabulary({"abab": 2}, 2, length_cost=1.5)
    assert none.pieces == ("a", "b")
    assert none.value == pytest.approx(8 * math.log(2) + 12)
    assert none.shares.tolist() == [1, 1]


@pytest.mark.parametrize("k", [None, 3])
def test_the_empty_word_has_one_path_whoever_is_asked(k):
    empty = subwords.Path((), (0,), 0.0, k)
    own = made()
    assert subwords.shortest_path("", AB, k) == empty
    assert subwords.n_best_paths("", AB, 2, k) == own.n_best("", 2, k) == [empty]
    assert sample_path("", AB, 1.0, RNG, k) == own.sample("", 1.0, RNG, k) == empty
    assert own.segment("", k) == empty
    assert subwords.log_marginal("", AB, k) == own.log_marginal("", k) == 0.0
    free = subwords.Path((), (0,), 0.0)
    assert subwords.viterbi_path("", AB) == subwords.greedy_path("", AB) == free
    assert subwords.one_pass_path("", AB, 3) == subwords.Path((), (0,), 0.0, 3)
    assert subwords.word_arcs("", AB) == []


@pytest.mark.parametrize("k", [None, 1, 3])
def test_a_word_without_a_path_has_none_whoever_is_asked(k):
    none = subwords.Path((), (), math.inf, k)
    assert subwords.shortest_path("ax", AB, k) == (
        none if k else subwords.Path((), (), math.inf, 2)
    )
    assert subwords.n_best_paths("ax", AB, 2, k) == []
    assert sample_path("ax", AB, 1.0, RNG, k) == none
    assert subwords.log_marginal("ax", AB, k) == -math.inf
    free = subwords.Path((), (), math.inf)
    assert subwords.viterbi_path("ax", AB) == subwords.greedy_path("ax", AB) == free
    assert subwords.one_pass_path("ax", AB, 2).cost == math.inf
    paths = subwords.best_paths(Lattice(["ax", "ab"], AB), k)
    assert paths.path("ax") == none
    assert paths.infeasible_words == (("ax", "ab") if k == 1 else ("ax",))
    assert paths.steps.tolist() == ([0, 0] if k == 1 else [0, 2])
    raised = subwords.best_paths(Lattice(["ax", "ab"], AB), 1, if_infeasible="raise_limit")
    assert raised.steps.tolist() == [0, 2]
    assert raised.path("ab").pieces == ("a", "b")


def test_what_a_solver_is_asked_and_what_is_made_of_its_answer(monkeypatch):
    table = Substrings(TOY, 16)
    arcs = sum(len(gap) for gap, _ in table.word_arcs)
    longer, asked = len(table) - table.singles, []
    share = np.zeros(longer)
    share[[0, 2, 3]] = [0.51, 0.49, 1.0]
    answer = SimpleNamespace(
        x=np.concatenate([np.zeros(arcs), share]), fun=33.0, status=1, message="late",
        mip_dual_bound=31.5,
    )  # fmt: skip
    monkeypatch.setattr("scipy.optimize.milp", lambda w, **o: asked.append((w, o)) or answer)
    monkeypatch.setattr(exact, "LARGEST", arcs)
    found = exact_vocabulary(TOY, 13, time_limit=7.0)
    weights, given = asked[0]
    assert weights.sum() == sum(
        table.weight[table.word_of[gap]].sum() for gap, _ in table.word_arcs
    )
    assert given["options"] == {"time_limit": 7.0, "mip_rel_gap": 0.0}
    assert given["integrality"].tolist() == [0] * arcs + [1] * longer
    assert (given["bounds"].lb, given["bounds"].ub) == (0, 1)
    cover, there, number = given["constraints"]
    limits = [cover.lb, cover.ub, there.ub, number.ub]
    assert [set(np.ravel(limit).tolist()) for limit in limits] == [{1}, {1}, {0}, {13 - 11}]
    texts = table.texts()
    assert found.pieces == (*texts[:11], texts[11], texts[14])
    assert found.shares.tolist() == [1] * 11 + [0.51, 1]
    assert (found.value, found.bound, found.proved) == (33.0, 31.5, False)
    share[:] = [2e-9, *[0.0] * (longer - 2), 1.5]
    answer.x, answer.status = np.concatenate([np.zeros(arcs), share]), 0
    del answer.mip_dual_bound
    found = exact_vocabulary(TOY, 13, relaxed=True)
    assert asked[1][1]["integrality"].sum() == 0
    assert found.shares.tolist() == [1] * 11 + [2e-9, 1]
    assert (found.value, found.bound, found.proved) == (33.0, 33.0, True)
    answer.x = None
    with pytest.raises(RuntimeError, match="found no vocabulary: late"):
        exact_vocabulary(TOY, 13)
    monkeypatch.setattr(exact, "LARGEST", arcs - 1)
    with pytest.raises(ValueError, match=f"at most {arcs - 1} arcs, got {arcs}"):
        exact_vocabulary(TOY, 13)


def test_of_all_vocabularies_the_first_that_is_clearly_better(monkeypatch):
    values = iter([10.0, 10 - 0.5e-9, 10 - 2e-9, 10 - 2.5e-9])
    asked = []

    def fitted(table, arcs, counts, *settings):
        asked.append((counts, settings))
        return SimpleNamespace(objective=next(values))

    monkeypatch.setattr(exact, "hard_em", fitted)
    counts = {"abcd": 2, "ab": 3, "cd": 1, "bc": 2}
    found = exhaustive_vocabulary(counts, 5, max_piece=4, length_cost=0.3)
    table = Substrings(counts, 4, 2)
    table = table.only(table.maximal())
    longer = table.texts()[4:]
    assert len(asked) == len(longer) == 4
    assert found.pieces == (*"abcd", longer[2])
    assert found.value == found.bound == 10 - 2e-9
    for k, (given, settings) in enumerate(asked):
        assert settings == (0.3, 20, 1e-12)
        chosen = table.single | (np.arange(len(table)) == 4 + k)
        assert given.tolist() == np.where(chosen, table.count * table.length, 0).tolist()


def test_likelihoods_of_nothing():
    assert subwords.profile_log_likelihood([0.0, 0.0]) == 0.0
    assert subwords.profile_log_likelihood([2, 0, 2]) == pytest.approx(-4 * math.log(2))
    assert subwords.profile_log_likelihood([5, 0]) == 0.0
    paths = subwords.best_paths(Lattice({"ax": 2, "a": 3}, AB))
    assert subwords.corpus_log_likelihood(paths) == -math.inf
    paths = subwords.best_paths(Lattice({"ab": 2, "a": 3}, AB))
    assert subwords.corpus_log_likelihood(paths) == -7.0
    with pytest.raises(TypeError, match="paths must come from best_paths"):
        subwords.corpus_log_likelihood([])
    with pytest.raises(ValueError, match="1 of 2 words have no path, such as 'ax'"):
        subwords.hard_em_step(Lattice({"ax": 2, "a": 3}, AB))
    with pytest.raises(ValueError, match="2 of 2 words have no path within k=1 pieces"):
        subwords.hard_em_step(Lattice({"ax": 2, "ab": 3}, AB), 1)
    shares, counts = subwords.hard_em_step(Lattice({"a": 3}, AB), floor=0.5)
    assert (counts.tolist(), shares.tolist()) == ([3, 0.5], [3 / 3.5, 0.5 / 3.5])
