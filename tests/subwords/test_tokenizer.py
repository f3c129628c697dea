"""Segmenting, n-best, marginal likelihood and sampling against all spellings; lossless encoding."""

import itertools
import math
import pickle
import re
from collections import Counter

import numpy as np
import pytest
import tokenizers
from hypothesis import example, given, settings
from hypothesis import strategies as st

from genopt_core import corpora
from genopt_core.subwords import UNKNOWN, Vocabulary, shortest_path, stored_costs
from genopt_core.subwords.tokenizer.encoding import TOGETHER_FROM, word_pattern
from genopt_core.subwords.tokenizer.peers import Unigram, WordPiece

LETTERS = "abc▁"


def vocabulary_of(costs, length_cost=0.0, **provenance):
    logs = -np.array(list(costs.values()), dtype=float)
    return Vocabulary(tuple(costs), logs, np.ones(len(costs)), provenance, length_cost)


def random_vocabulary(rng):
    """Few characters, few costs: ties abound; some characters are no piece."""
    pieces = {
        "".join(rng.choice(list(LETTERS), size=rng.integers(1, 5)))
        for _ in range(rng.integers(1, 30))
    }
    if rng.random() < 0.4:  # a cost per character: every segmentation costs the same, or nearly
        return vocabulary_of({piece: 0.1 * len(piece) for piece in sorted(pieces)})
    levels = rng.choice([[1, 2, 3], [1, 1, 1], [0.1, 0.2, 0.3], [0, 5, 40]])
    return vocabulary_of({piece: float(rng.choice(levels)) for piece in sorted(pieces)})


def segmentations(vocabulary, word):
    """Every way to cut the word into pieces and unknown characters, with its cost."""
    unknown = max(vocabulary.costs.values()) + 10
    for inner in itertools.product((False, True), repeat=len(word) - 1):
        cuts = [0, *(i + 1 for i, cut in enumerate(inner) if cut), len(word)]
        pieces = [word[i:j] for i, j in itertools.pairwise(cuts)]
        total = 0.0
        for piece in pieces:
            total += vocabulary.costs.get(piece, unknown if len(piece) == 1 else math.inf)
        if total < math.inf:
            yield total, cuts


def in_order(vocabulary, word, found, k):
    """Sorted by the documented rule: cost, with a limit fewest pieces, longest last piece, and so
    on to the left, where the cost of what is before a piece may differ by rounding."""
    unknown = max(vocabulary.costs.values()) + 10

    def rule(item):
        cuts, sums = item[1], [0.0]
        for i, j in itertools.pairwise(cuts):
            sums.append(sums[-1] + vocabulary.costs.get(word[i:j], unknown))
        from_the_end = list(zip(sums[:0:-1], cuts[-2::-1], strict=True))
        return sums[-1], len(cuts) if k else 0, from_the_end

    return sorted(found, key=rule)


def random_lattices(how_many, seed):
    rng = np.random.default_rng(seed)
    for _ in range(how_many):
        word = "".join(rng.choice(list(LETTERS), size=rng.integers(1, 9)))
        k = None if rng.random() < 0.5 else int(rng.integers(1, len(word) + 2))
        vocabulary = random_vocabulary(rng)
        found = [s for s in segmentations(vocabulary, word) if k is None or len(s[1]) - 1 <= k]
        yield vocabulary, word, k, found, rng


def test_segment_and_n_best_are_the_first_of_all_spellings_by_the_rule():
    infeasible = ties = 0
    for vocabulary, word, k, found, rng in random_lattices(2000, seed=1):
        wanted = in_order(vocabulary, word, found, k)
        n = int(rng.integers(1, 12))
        got = vocabulary.n_best(word, n, k)
        assert [(p.cost, list(p.cuts)) for p in got] == wanted[:n], (word, vocabulary.costs, k)
        best = vocabulary.segment(word, k)
        if found:
            assert best == got[0]
            ties += len(wanted) > 1 and wanted[0][0] == wanted[1][0]
        else:
            assert not best.feasible
            infeasible += 1
    assert infeasible > 250
    assert ties > 120


def test_the_marginal_likelihood_is_the_sum_over_all_spellings():
    for vocabulary, word, k, found, _ in random_lattices(800, seed=2):
        wanted = math.fsum(math.exp(-cost) for cost, _ in found)
        assert math.exp(vocabulary.log_marginal(word, k)) == pytest.approx(wanted, rel=1e-12)


def test_samples_have_the_stated_distribution():
    # Over all lattices together: draws of the best path, number of pieces and cost of the draws,
    # against their exact expectations.  The seed is fixed, so this cannot fail by bad luck.
    draws, checked = 20, 0
    surplus, variance = np.zeros(3), np.zeros(3)
    for vocabulary, word, k, found, rng in random_lattices(700, seed=3):
        if not found:
            assert not vocabulary.sample(word, 1.0, rng, k).feasible
            continue
        temperature = float(rng.choice([0.5, 1.0, 3.0]))
        best = in_order(vocabulary, word, found, k)[0]
        facts = {tuple(cuts): (cuts == best[1], len(cuts), cost) for cost, cuts in found}
        p = np.exp([(best[0] - cost) / temperature for _, _, cost in facts.values()])
        p /= p.sum()
        values = np.array(list(facts.values()), dtype=float)
        mean = p @ values
        for _ in range(draws):
            surplus += facts[vocabulary.sample(word, temperature, rng, k).cuts] - mean
        variance += draws * (p @ (values - mean) ** 2)
        checked += 1
    assert checked >= 500
    assert (np.abs(surplus) <= 3 * np.sqrt(variance)).all(), surplus / np.sqrt(variance)


def test_samples_of_one_word_in_detail():
    vocabulary = vocabulary_of({"a": 1.0, "b": 1.2, "ab": 2.0, "ba": 2.5, "aba": 3.5, "bab": 3.0})
    found, draws, rng = list(segmentations(vocabulary, "ababab")), 4000, np.random.default_rng(5)
    for temperature in (0.3, 1.0, 10.0):
        weight = {tuple(cuts): math.exp(-cost / temperature) for cost, cuts in found}
        total = math.fsum(weight.values())
        seen = Counter(vocabulary.sample("ababab", temperature, rng).cuts for _ in range(draws))
        for cuts, value in weight.items():
            p = value / total
            assert abs(seen[cuts] - draws * p) <= 4 * math.sqrt(draws * p * (1 - p)) + 1


def test_a_sample_has_the_cost_of_its_pieces_and_comes_from_the_generator_alone():
    vocabulary = vocabulary_of(stored_costs(2000))
    first, second = (
        [vocabulary.sample("government▁", 5.0, rng) for _ in range(20)]
        for rng in (np.random.default_rng(7), np.random.default_rng(7))
    )
    assert first == second
    assert len({path.pieces for path in first}) > 5
    for path in first:
        assert path.cost == pytest.approx(sum(vocabulary.costs[s] for s in path.pieces))
    cold = vocabulary.sample("government▁", 1e-6, np.random.default_rng(0))
    assert cold.pieces == vocabulary.segment("government▁").pieces


def test_segment_is_the_plain_shortest_path_where_every_character_is_a_piece():
    costs = stored_costs(1000)
    vocabulary = vocabulary_of(costs)
    given_costs = vocabulary.costs  # rounded to ten decimals
    for word in ("government▁", "constitution▁", "the▁", "zebra▁"):
        for k in (1, 2, 3, 5, None):
            got, wanted = vocabulary.segment(word, k), shortest_path(word, given_costs, k)
            assert (got.pieces, got.cost) == (wanted.pieces, wanted.cost)


def test_the_token_penalty_is_in_the_costs_and_not_in_the_probabilities():
    costs = {"a": 0.7, "b": 1.1, "ab": 4.0, "ba": 5.0}
    plain, penalized = vocabulary_of(costs), vocabulary_of(costs, length_cost=3.0)
    assert penalized.costs == {piece: 3.0 + cost for piece, cost in costs.items()}
    assert plain.segment("abab").pieces == ("a", "b", "a", "b")
    assert penalized.segment("abab").pieces == ("ab", "ab")
    for word in ("abab", "aba", "abéa", "é"):
        assert penalized.log_marginal(word) == plain.log_marginal(word)
        for seed in range(5):
            one, other = (
                v.sample(word, 1.0, np.random.default_rng(seed)) for v in (plain, penalized)
            )
            assert one.pieces == other.pieces
            assert other.cost == pytest.approx(one.cost + 3.0 * one.steps)
        best = penalized.n_best(word, 1)[0]
        assert best == penalized.segment(word)
    assert repr(plain) == "Vocabulary(4 pieces, 'a' to 'ba')"
    assert repr(penalized) == "Vocabulary(4 pieces, 'a' to 'ba', length_cost=3)"
    assert plain != penalized
    assert plain != plain.with_specials(["<s>"])
    assert "specials=1" in repr(plain.with_specials(["<s>"]))


def test_an_unknown_character_has_a_path_and_the_empty_word_an_empty_one():
    vocabulary = vocabulary_of({"a": 1.0, "ab": 1.5})
    assert vocabulary.segment("aéb").pieces == ("a", UNKNOWN, UNKNOWN)
    assert vocabulary.segment("aéb").cost == 1.0 + 11.5 + 11.5
    assert vocabulary.segment("").pieces == ()
    assert vocabulary.n_best("", 3)[0].cost == 0
    assert vocabulary.log_marginal("") == 0
    assert vocabulary.sample("", 1.0, np.random.default_rng(0)).steps == 0


# Encoding ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def english():
    return vocabulary_of(stored_costs(2000))


TEXTS = [
    "", " ", "  ", "   a", "a   ", " a  b ", "a\n\n b\t", "\x00", "a\x00b", "\u2581", "a\u2581 b",
    "<unk> <0x41> <0x0A>", "é e\u0301 \u1100\u1161 Å Å", "naïve café", "\U0001f600\u200d\U0001f525",
    "12 345½Ⅷ²", "\ufeffbom", "\u2028\u0085 \u3000x",
    "कानून 日本語 текст עברית", "_a_ 1_2", "\ufdd0\uffff\U0010ffff",
]  # fmt: skip


@pytest.mark.parametrize("text", TEXTS, ids=ascii)
def test_decode_gives_back_what_encode_got(english, text):
    assert english.decode(english.encode(text)) == text
    other = english.with_specials(["<unk> ", "<eos>"])
    assert other.decode(other.encode(text)) == text


ANY_TEXT = st.text(st.characters(), max_size=60)  # surrogates included
MIXED_TEXT = st.text(st.sampled_from(" \n\t▁abthe.é1<0x>\u0301\ud800\x00"), max_size=40)
# Three bytes each that would be half of a surrogate pair: no text has them.
LONE = [b"\xed\xb1\xbd*", b"\xed\xba\x86", b"\xed\xbf\x89", b"\xed\xb3\x8e"]


@settings(max_examples=400, deadline=None)
@example("\ud800")
@example("\udc7d")
@example("\ud83d\ude00")
@given(st.one_of(ANY_TEXT, MIXED_TEXT))
def test_any_text_survives_that_can_be_written(text):
    vocabulary = vocabulary_of(stored_costs(500)).with_specials(["<0x>", "\n\n"])
    if any("\ud800" <= character <= "\udfff" for character in text):
        with pytest.raises(ValueError, match="text must have a UTF-8 form, it has the lone"):
            vocabulary.encode(text)
        return
    assert vocabulary.decode(vocabulary.encode(text)) == text
    assert vocabulary.decode(vocabulary.encode(text, recognize_specials=False)) == text


@settings(max_examples=300, deadline=None)
@example(LONE[0])
@example(LONE[1])
@example(LONE[2])
@example(LONE[3])
@given(st.binary(max_size=8))
def test_any_bytes_are_decoded_to_a_text_that_can_be_written(code):
    vocabulary = vocabulary_of({"a": 1.0})
    text = vocabulary.decode([0, *(1 + byte for byte in code), 0])
    assert vocabulary.decode(vocabulary.encode(text)) == text
    try:
        assert text == f"a{code.decode('utf-8')}a"
    except UnicodeDecodeError:
        assert text == f"a{len(code) * chr(0xFFFD)}a"


def test_hindi_words_stay_whole():
    text = "कानून का राज और कानून"
    words = list(corpora.pretokenize(text))
    pieces = [*set("".join(words)), "कानून"]
    pattern = word_pattern(pieces)
    assert [w.replace(" ", "▁") for w in re.findall(pattern, text)] == words


def test_the_words_are_those_of_pretokenize(english):
    text = " ".join(corpora.load("sotu")[:300_000].split())
    pieces = [*english.pieces, *set(text.replace(" ", ""))]
    words = re.findall(word_pattern(pieces), text)
    assert [w.replace(" ", "▁") for w in words] == list(corpora.pretokenize(text))


def test_many_new_words_at_once_are_spelled_as_one_at_a_time(english):
    text = corpora.load("moby-dick")[:400_000].lower()
    ids = english.encode(text)
    encoder = english._encoder
    assert len(encoder._ids[True]) > TOGETHER_FROM
    for word, found in encoder._ids[True].items():
        assert found == encoder._segment(word, True)
    assert english.decode(ids) == text


def test_encode_spells_each_word_as_segment_does(english):
    for word in ("government▁", "state", "xylophone▁", "a▁"):
        ids = english.encode(word.replace("▁", " "))
        assert tuple(english.tokens[i] for i in ids) == english.segment(word).pieces


def test_without_bytes_an_unknown_character_is_one_token(english):
    ids = english.encode("a\u4e00 b", byte_fallback=False)
    assert UNKNOWN in [english.tokens[i] for i in ids]
    assert english.decode(ids) == f"a{UNKNOWN} b"


def test_special_tokens_come_last_and_are_recognized_whole():
    vocabulary = vocabulary_of({"a": 1.0, "<": 1.0}).with_specials(["<s>", "<s>>"])
    assert vocabulary.tokens[-2:] == ("<s>", "<s>>")
    ids = vocabulary.encode("a<s>><s>a")
    assert [vocabulary.tokens[i] for i in ids] == ["a", "<s>>", "<s>", "a"]
    plain = vocabulary.encode("a<s>", recognize_specials=False)
    assert "<s>" not in [vocabulary.tokens[i] for i in plain]


def test_bytes_that_are_no_character_become_replacement_characters():
    vocabulary = vocabulary_of({"a": 1.0})
    high = vocabulary.tokens.index("<0xFF>")
    assert vocabulary.decode([0, high, high, 0]) == "a\ufffd\ufffda"


def test_equality_pickle_and_immutability():
    vocabulary = vocabulary_of({"a": 1.0, "b": 2.0}, corpus="x")
    vocabulary.encode("ab")
    again = pickle.loads(pickle.dumps(vocabulary))
    assert again == vocabulary
    assert again != vocabulary_of({"a": 1.0, "b": 2.5}, corpus="x")
    assert vocabulary != "ab"
    with pytest.raises(ValueError, match="read-only"):
        again.log_probabilities[0] = 0.0


@pytest.mark.parametrize(
    ("fields", "error", "message"),
    [
        (("ab", [0.0], [0]), TypeError, "pieces must be a tuple"),
        (((), [], []), ValueError, "pieces is empty"),
        ((("a", ""), [0, 0], [0, 0]), ValueError, "empty piece"),
        (((1,), [0], [0]), TypeError, "must be strings, got 1"),
        ((("a b",), [0], [0]), ValueError, "must write a blank as '▁'"),
        ((("<0x41>",), [0], [0]), ValueError, "reserved name '<0x41>'"),
        ((("a", "a"), [0, 0], [0, 0]), ValueError, "'a' occurs twice"),
        ((("a",), [0.5], [0]), ValueError, r"at most 0, got 0.5 for the piece 'a'"),
        ((("a",), [-math.inf], [0]), ValueError, "finite, got -inf for the piece 'a'"),
        ((("a",), [0, 0], [0]), ValueError, r"log_probabilities must have shape \(1,\)"),
        ((("a",), ["x"], [0]), TypeError, "log_probabilities must be numbers"),
        ((("a",), [0], [-1]), ValueError, "counts must be at least 0, got -1.0 for 'a'"),
        ((("a",), [0], [0], []), TypeError, "provenance must be a dict, got list"),
        ((("a",), [0], [0], {"x": {1}}), TypeError, "what JSON can hold"),
        ((("a",), [0], [0], {}, -1.0), ValueError, "length_cost must be at least 0, got -1.0"),
        ((("a",), [0], [0], {}, "5"), TypeError, "length_cost must be a number, got '5'"),
        ((("a",), [0], [0], {}, 0, ["a"]), ValueError, "'a'"),
        ((("a",), [0], [0], {}, 0, [""]), ValueError, "must not be empty, got ''"),
        ((("a",), [0], [0], {}, 0, "<s>"), TypeError, "specials must be a list"),
        ((("a", "\ud800"), [0, 0], [0, 0]), ValueError, r"pieces .*lone surrogate '\\ud800'"),
        ((("a",), [0], [0], {}, 0, ["\udc80"]), ValueError, "specials must have a UTF-8 form"),
    ],
)
def test_refused_fields(fields, error, message):
    with pytest.raises(error, match=message):
        Vocabulary(*fields)


def test_refused_arguments(english):
    rng = np.random.default_rng(0)
    with pytest.raises(TypeError, match="word must be a str, got int"):
        english.segment(3)
    with pytest.raises(ValueError, match="k must be at least 1, got 0"):
        english.segment("a", 0)
    with pytest.raises(ValueError, match="n must be at least 1, got 0"):
        english.n_best("a", 0)
    with pytest.raises(ValueError, match=r"temperature must be at least 1e-06, got 0"):
        english.sample("a", 0, rng)
    with pytest.raises(TypeError, match=r"rng must be a numpy.random.Generator, got int"):
        english.sample("a", 1.0, 3)
    with pytest.raises(TypeError, match="text must be a str, got bytes"):
        english.encode(b"a")
    for ask in (english.segment, english.log_marginal, lambda word: english.n_best(word, 2)):
        with pytest.raises(ValueError, match="word must have a UTF-8 form"):
            ask("a\ud800")
    with pytest.raises(ValueError, match=r"ids must be in 0\.\.\d+, got -1"):
        english.decode([0, -1])
    with pytest.raises(TypeError, match="ids must be a list of whole numbers"):
        english.decode([0.5])
    with pytest.raises(TypeError, match="specials must be a list"):
        english.with_specials("<s>")


def test_of_equally_cheap_segmentations_a_peer_takes_the_longest_piece_as_the_library_does():
    scores = {"a": -1.0, "b": -1.0, "ab": -2.0}
    library = tokenizers.Tokenizer(tokenizers.models.Unigram([*scores.items()], None, False))
    assert Unigram(scores).segment("ab") == ("ab",)
    assert library.encode("ab").tokens == ["ab"]


def test_wordpiece_gives_up_on_words_beyond_the_longest():
    peer = WordPiece(["a", "##a"], "[UNK]", longest_word=2)
    assert [peer.segment("a" * n) for n in (1, 2, 3)] == [("a",), ("a", "##a"), ("[UNK]",)]
