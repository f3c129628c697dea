"""Training for the words that come next, against brute force and on held-out words."""

import itertools
from collections import Counter

import numpy as np
import pytest

from genopt_core import corpora
from genopt_core.subwords import (
    choose_min_count,
    development_cost,
    file_weights,
    train,
    viterbi_path,
)
from genopt_core.subwords.training.new_words import (
    LEVELS,
    Files,
    NextText,
    availability,
    discount,
    new_word_share,
)
from genopt_core.subwords.training.substrings import Substrings


def random_words(seed, words=30):
    rng = np.random.default_rng(seed)
    made = ("".join(rng.choice(list("abc"), rng.integers(2, 8))) for _ in range(words))
    return {word: int(rng.integers(1, 4)) for word in made}


@pytest.fixture(scope="module")
def novel():
    """The first 5,000 words of Moby-Dick, and the 5,000 after the next 20,000."""
    words = list(corpora.pretokenize(corpora.load("moby-dick")[:200_000]))
    return Counter(words[:5000]), Counter(words[25_000:30_000])


def test_the_discount_is_that_of_leaving_one_out():
    assert discount([3, 2, 5]) == 0.0 == new_word_share([3, 2, 5])
    assert discount([1, 1, 2]) == discount([1.2, 0.9, 1.8]) == 0.5
    # leave each occurrence out: those of words that came once are new, and D is nearly their share
    values = [1] * 60 + [2] * 15 + [9] * 10
    assert new_word_share(values) == pytest.approx(60 / 90 * 85 / sum(values))


def test_levels_are_the_middles_of_intervals_that_fill_the_unit():
    bounds = [1.0, *(0.75 * level for level, _ in LEVELS[:-1]), 0.0]
    widths = [share for _, share in LEVELS]
    assert widths == pytest.approx([a - b for a, b in itertools.pairwise(bounds)])


@pytest.mark.parametrize("seed", range(3))
def test_availability_counts_words_and_not_occurrences(seed):
    words = random_words(seed)
    table = Substrings(words, max_piece=4)
    texts = table.texts()
    found = dict(zip(texts, availability(table).tolist(), strict=True))
    having = {text: sum(text in word for word in words) for text in texts}
    for text in texts:
        same = [having[t] for t in texts if len(t) == len(text)]
        once, twice = same.count(1), same.count(2)
        taken = once / (once + 2 * twice) if once else 0.0
        expected = (1 - taken / having[text]) ** 2
        if len(text) == 1:
            expected = 1.0
        elif text in words and having[text] == 1:
            expected = 0.0  # a word is new only if it is not there
        assert found[text] == pytest.approx(expected)


def random_files(seed, files=6):
    """Counts by file: words of one list, of which each file has some."""
    rng = np.random.default_rng(seed)
    words = list(random_words(seed))
    return [
        {word: int(rng.integers(1, 5)) for word in rng.choice(words, 8, replace=False)}
        for _ in range(files)
    ]


@pytest.mark.parametrize("seed", range(3))
def test_availability_counts_files_where_they_are_fewer(seed):
    by_file = random_files(20 + seed)
    words = file_weights(by_file, 1)
    table = Substrings(words, max_piece=4)
    files = Files.of(table.words, by_file)
    having = np.array([sum(word in counts for counts in by_file) for word in table.words])
    assert files.count.tolist() == having.tolist()
    texts = table.texts()
    of_files = {t: sum(any(t in word for word in counts) for counts in by_file) for t in texts}
    every = np.ones(len(table), dtype=bool)
    found = dict(zip(texts, files.with_substring(table, every).tolist(), strict=True))
    assert found == of_files
    asked = np.arange(len(table)) % 3 == 1
    found = files.with_substring(table, asked)
    assert found.tolist() == [n if a else 0 for n, a in zip(of_files.values(), asked, strict=True)]
    least = {t: min(n, sum(t in word for word in words)) for t, n in of_files.items()}
    for text, q in zip(texts, availability(table, files).tolist(), strict=True):
        same = [least[t] for t in texts if len(t) == len(text)]
        once, twice = same.count(1), same.count(2)
        taken = once / (once + 2 * twice) if once else 0.0
        expected = 1.0 if len(text) == 1 else (1 - taken / least[text]) ** 2
        if len(text) > 1 and text in words and least[text] == 1:
            expected = 0.0
        assert q == pytest.approx(expected), text
    text = NextText(table, 20, 1.0, files)
    once, twice = (having == 1).sum(), (having == 2).sum()
    left = table.weight * (1 - once / (once + 2 * twice) / having)  # of a file that has the word
    assert text.parts[0].weight == pytest.approx(left)
    assert sum(part.weight for part in text.parts) == pytest.approx(table.weight)


def objective(text, words, prices, removed=None):
    """J of the next text by the lattice of the segmentation room, the costs being held."""
    table = text.table
    names = table.texts()
    counts, uses = Counter(), Counter()
    for number, part in enumerate(text.parts):
        costs = {
            name: prices[name]
            for name, allowed in zip(names, part.allowed, strict=True)
            if allowed and name in prices and name != removed
        }
        weights = dict(zip(table.words, part.weight.tolist(), strict=True))
        for word, count in words.items():
            way = viterbi_path(word, costs).pieces
            for piece in way:
                uses[piece] += weights[word]
                counts[piece] += count if number == 0 else 0
    total = sum(counts.values()) + 0.5 * text.size
    return sum(
        n * (text.length_cost + np.log(total) - np.log(counts[piece] + 0.5))
        for piece, n in uses.items()
    )


@pytest.mark.parametrize("seed", range(4))
def test_a_loss_is_the_rise_of_the_objective(seed):
    by_file = random_files(10 + seed) if seed > 1 else [random_words(10 + seed, words=12)]
    words = file_weights(by_file, 1)
    table = Substrings(words, max_piece=4)
    files = Files.of(table.words, by_file) if seed > 1 else None
    rng = np.random.default_rng(seed)
    chosen = table.single | (rng.random(len(table)) < 0.4)
    text = NextText(table, int(chosen.sum()), 1.3, files)
    counts = np.where(chosen, rng.uniform(1, 9, len(table)), 0.0)
    seen = text.look(text.pieces(chosen), counts, 1)
    names = table.texts()
    price = dict(zip(names, seen.states[0].cost.tolist(), strict=True))
    prices = {name: price[name] for name, there in zip(names, chosen, strict=True) if there}
    before = objective(text, words, prices)
    assert seen.objective == pytest.approx(before, rel=1e-12)
    losses = text.losses(seen, chosen)
    asked = np.flatnonzero(chosen & ~table.single)
    for number in asked:
        expected = objective(text, words, prices, removed=names[number]) - before
        assert losses[number] == pytest.approx(expected, abs=1e-9)
    assert np.isinf(losses[table.single]).all()


def test_an_insertion_gain_is_positive_where_a_piece_helps_and_is_never_for_one_word():
    words = {"xab": 1, "yab": 1, "zab": 1, "qcd": 1, "x": 2, "y": 2, "z": 2, "q": 2}
    table = Substrings(words, max_piece=3)
    text = NextText(table, 10, length_cost=5.0)
    chosen = table.single.copy()
    seen = text.look(text.pieces(chosen), np.where(chosen, table.count, 0.0), 3)
    gain, _ = text.gains(seen, chosen)
    found = dict(zip(table.texts(), gain.tolist(), strict=True))
    assert found["ab"] > found["cd"] > 0
    assert found["ab"] > 2 * found["xab"]  # only the very word has it


def held_out(vocabulary, train_counts, held):
    """Bits and tokens of held-out words, those with an unknown character left out."""
    known = set().union(*train_counts)
    held = {word: n for word, n in held.items() if known.issuperset(word)}
    way = {word: vocabulary.segment(word).pieces for word in {**train_counts, **held}}
    counts = Counter()
    for word, n in train_counts.items():
        counts.update({piece: n * k for piece, k in Counter(way[word]).items()})
    total = sum(counts.values()) + 0.5 * len(vocabulary)
    bits = -sum(
        n * np.log2((counts[piece] + 0.5) / total)
        for word, n in held.items()
        for piece in way[word]
    )
    return bits, sum(n * len(way[word]) for word, n in held.items())


def test_held_out_words_cost_less_and_it_is_the_default(novel):
    corpus, held = novel
    with_new = train(corpus, 1000, 5.0, effort="fast")
    without = train(corpus, 1000, 5.0, effort="fast", new_words=False)
    assert with_new.provenance["new_words"]
    assert "new_words" not in without.provenance
    (bits, tokens), (bits_before, tokens_before) = (
        held_out(found, corpus, held) for found in (with_new, without)
    )
    assert bits < 0.99 * bits_before
    assert tokens < 0.99 * tokens_before
    assert len(with_new) == len(without) == 1000


def test_the_unit_of_the_counts_does_not_matter(novel):
    corpus = dict(novel[0].most_common(700)[300:])
    plain = train(corpus, 200, 5.0, effort="fast", new_words=True)
    for factor in (0.01, 1e9):
        scaled = {word: n * factor for word, n in corpus.items()}
        found = train(scaled, 200, 5.0, effort="fast", new_words=True)
        assert set(found.pieces) == set(plain.pieces)
        assert found.counts == pytest.approx(plain.counts * factor)


def test_every_objective_and_too_small_a_corpus():
    words = random_words(5, words=40)
    for goal in ("likelihood", "tokens", 2.0):
        vocabulary = train(words, 20, goal, new_words=True)
        assert len(vocabulary) == 20
        assert vocabulary.log_marginal("abcabca") <= 0
    everything = len(Substrings(words, 16))
    few = train(words, 10 * everything, new_words=True, at_most=True)
    assert len(few) < everything  # what no word needs stays away
    with pytest.raises(ValueError, match=f"at most {everything}"):
        train(words, 10 * everything, new_words=True)
    with pytest.raises(ValueError, match="new_words must be one of True, False, None, got 'yes'"):
        train(words, 20, new_words="yes")


def test_by_default_only_where_some_of_the_next_words_are_new():
    words = random_words(6, words=40)
    often = {word: n + 1 for word, n in words.items()}
    lines = {f"{word}{i}": 1 for i, word in enumerate(words)}
    for counts, options in ((often, {}), (lines, {}), (words, {"min_count": 1})):
        assert "new_words" not in train(counts, 20, effort="fast", **options).provenance


def test_what_one_file_repeats_is_no_piece_when_files_are_left_out():
    """Seven files have words of their own in -ing, the last one a name 40 times, in other words."""
    stems = [a + b for a in "bdfgk" for b in "aeiou"]
    files = [{stem + "ing": 1 for stem in stems[3 * n : 3 * n + 3]} for n in range(7)]
    files[0]["kub"] = files[1]["kub"] = 1  # files have something in common
    files.append({f"{x}xyz{y}": 5 for x, y in itertools.pairwise("bdfgkaeib")})
    size = len(set("".join(itertools.chain(*files)))) + 1
    options = {"objective": "tokens", "new_words": True, "max_piece": 3}

    def longer(vocabulary):
        return [piece for piece in vocabulary.pieces if len(piece) > 1]

    assert longer(train(file_weights(files, 1), size, **options)) == ["xyz"]
    assert longer(train(files, size, **options)) == ["ing"]


def test_counts_by_file_are_added_up_and_weighted():
    by_file = random_files(30)
    plain = train(file_weights(by_file, 1), 20, new_words=False)
    found = train(iter(by_file), 20, new_words=False)
    assert found.pieces == plain.pieces
    assert found.counts.tolist() == plain.counts.tolist()
    assert found.provenance.pop("number_of_files") == 6
    assert found.provenance == plain.provenance
    half = train(by_file, 20, new_words=False, file_exponent=0.5)
    assert half.provenance["file_exponent"] == 0.5
    assert half.provenance["words"] == pytest.approx(sum(file_weights(by_file, 0.5).values()))
    with_empty = train([{}, *by_file], 20, new_words=True)
    assert with_empty.pieces == train(by_file, 20, new_words=True).pieces
    long = [{"ab" * 200: 2, "<unk>a": 1}, {"<unk>a": 1, "ab": 3}]
    assert train(long, 9, new_words=True, at_most=True).provenance["number_of_files"] == 2


@pytest.mark.parametrize(
    "files",
    [
        lambda c: [c],
        lambda c: [{}, c, {}],
        lambda c: [c] * 9,  # one file, nine times
        lambda c: [dict([*c.items()][n::7]) for n in range(7)],  # too few
        lambda c: [dict([*c.items()][n::9]) for n in range(9)],  # nothing in common
    ],
    ids=["one", "one and empty ones", "the same", "seven", "apart"],
)
def test_files_that_say_nothing_of_another_file_are_one_text(novel, files):
    by_file = files(dict(novel[0]))
    plain = train(file_weights(by_file, 1), 300, "tokens", effort="fast", new_words=True)
    found = train(by_file, 300, "tokens", effort="fast", new_words=True)
    assert found.pieces == plain.pieces
    assert found.counts.tolist() == plain.counts.tolist()


def test_eight_parts_of_a_novel_left_out_whole_cost_hardly_more(novel):
    """Of the words that come next; the text is cut into as many parts as there must be."""
    words = list(corpora.pretokenize(corpora.load("moby-dick")[:200_000]))
    corpus, held = novel
    parts = [Counter(words[625 * n : 625 * (n + 1)]) for n in range(8)]
    assert sum(parts, Counter()) == corpus
    plain = train(corpus, 1000, 5.0, effort="fast", new_words=True)
    found = train(parts, 1000, 5.0, effort="fast", new_words=True)
    assert found.pieces != plain.pieces
    assert held_out(found, corpus, held)[1] < 1.005 * held_out(plain, corpus, held)[1]


def test_whether_to_look_ahead_is_decided_on_plain_counts():
    by_file = random_files(33, files=9)
    for exponent in (0, 0.5, 1):
        found = train(by_file, 20, "tokens", effort="fast", file_exponent=exponent)
        plain = train(file_weights(by_file, 1), 20, "tokens", effort="fast")
        assert found.provenance.get("new_words") == plain.provenance.get("new_words")


@pytest.mark.parametrize("options", [{}, {"new_words": True}])
def test_a_least_count_is_chosen_on_counts_by_file(options):
    by_file, development = random_files(31, files=9), random_words(32)
    options = {"file_exponent": 0.5, **options}
    choice = choose_min_count(
        iter(by_file), development, 25, "tokens", min_counts=(1, 2, 3), **options
    )
    for tried in choice.tried:
        vocabulary = train(
            by_file, 25, "tokens", min_count=tried.min_count, at_most=True, **options
        )
        assert development_cost(vocabulary, development) == (tried.tokens, tried.nats)
    plain = choose_min_count(
        file_weights(by_file, 1), development, 25, "tokens", min_counts=(1, 2, 3)
    )
    assert [t.tokens for t in plain.tried] != [t.tokens for t in choice.tried]
    with pytest.raises(TypeError, match="list of words, got the str 'lowlow'"):
        choose_min_count("lowlow", development, 25)


def test_what_is_no_list_of_counts():
    with pytest.raises(ValueError, match=r"file_exponent must be 1 for the counts of one text"):
        train({"low": 3}, 5, file_exponent=0.5)
    with pytest.raises(ValueError, match=r"file_exponent must be in \[0, 1\], got 2"):
        train([{"low": 3}], 5, file_exponent=2)
    with pytest.raises(TypeError, match=r"word_counts\[1\] must be a mapping .*, got 'low'"):
        train([{"low": 3}, "low"], 5)
    with pytest.raises(ValueError, match="words is empty"):
        train([], 5)
    for number, empty in ((1, [{}]), (2, [{}, {}])):
        with pytest.raises(ValueError, match=f"word_counts must have words, got {number} empty"):
            train(empty, 5)
    with pytest.raises(ValueError, match=r"word_counts\[1\]\['low'\] must be .* above 0, got 0"):
        train([{"low": 1}, {"low": 0}], 5)
    with pytest.raises(TypeError, match=r"got a mapping of mappings: list\(word_counts.values"):
        train({"a.py": {"low": 3}}, 5)
