"""Checkers of chapter 1; the exercises say which form an answer has."""

from collections import Counter
from collections.abc import Iterator
from typing import Any

from genopt_core import subwords
from genopt_core.exercises.verdict import AnswerError, Constraint, called, parts


def count_the_ways(answer: Any) -> Iterator[Constraint]:
    """A function of characters n and tokens t."""

    def ways(n: int, t: int) -> Any:
        return called(answer, n, t, shown=f"ways({n}, {t})")

    def first_wrong(pairs: list[tuple[int, int]], right: dict[tuple[int, int], int]) -> str:
        wrong = (f"ways({n}, {t}) = {ways(n, t)}" for n, t in pairs if ways(n, t) != right[n, t])
        return next(wrong, "")

    right = {(n, t): _counted(n, t) for n in range(1, 8) for t in range(1, 10)}
    for text, pairs in (
        ("there is one way to leave a word whole", [(n, 1) for n in range(1, 8)]),
        ("there is one way to cut it into its characters", [(n, n) for n in range(1, 8)]),
        ("a word has no more tokens than characters", [(n, n + 2) for n in range(1, 8)]),
        ("paths through the lattice of `word_arcs` are as many", list(right)),
    ):
        seen = first_wrong(pairs, right)
        yield Constraint(text, not seen, seen)


def _counted(n: int, t: int) -> int:
    """Paths of t arcs through the lattice of n characters in which every arc is there."""
    word = "abcdefghi"[:n]
    every = {word[i:j]: 1.0 for i in range(n) for j in range(i + 1, n + 1)}
    arcs = subwords.word_arcs(word, every)
    ways = [1] + [0] * n
    for _ in range(t):
        ways = [sum(ways[arc.start] for arc in arcs if arc.end == j) for j in range(n + 1)]
    return ways[n]


def likelihood_and_length(answer: Any) -> Iterator[Constraint]:
    """Two segmentations, each a list of (tokens of a word, how often the word occurs)."""
    try:
        fewer, more = (_cuts(segmentation) for segmentation in answer)
    except (TypeError, ValueError) as problem:
        raise AnswerError("no two lists of (tokens, count)") from problem
    words = [_words(segmentation) for segmentation in (fewer, more)]
    every = sorted(words[0].keys() | words[1].keys())
    differ = [word for word in every if words[0][word] != words[1][word]]
    seen = "".join(f"{w!r} occurs {words[0][w]} and {words[1][w]} times" for w in differ[:1])
    yield Constraint("both cut the same words", not differ, seen)
    tokens = [sum(len(cut) * n for cut, n in of.items()) for of in (fewer, more)]
    seen = f"{tokens[0]} and {tokens[1]} tokens"
    yield Constraint("the second has more tokens", tokens[1] > tokens[0], seen)
    likely = [subwords.profile_log_likelihood(_uses(of)) for of in (fewer, more)]
    seen = f"log-likelihoods {likely[0]:.1f} and {likely[1]:.1f}"
    yield Constraint("the second has the higher likelihood", likely[1] > likely[0], seen)


def _cuts(segmentation: Any) -> Counter:
    cuts: Counter[tuple[str, ...]] = Counter()
    for tokens, count in segmentation:
        cuts[tuple(map(str, tokens))] += count
    return cuts


def _words(segmentation: Counter) -> Counter:
    words: Counter[str] = Counter()
    for tokens, count in segmentation.items():
        words["".join(tokens)] += count
    return words


def _uses(segmentation: Counter) -> list[float]:
    uses: Counter[str] = Counter()
    for tokens, count in segmentation.items():
        for token in tokens:
            uses[token] += count
    return [float(count) for count in uses.values()]


def the_gap_on_a_small_corpus(answer: Any) -> Iterator[Constraint]:
    """Tokens, as certificate, relaxed, exact and ours."""
    names = ("certificate", "relaxed", "exact", "ours")
    values = [float(value) for value in parts(answer, *names)]
    for text, low, high in (
        ("a certificate is no higher than what it bounds", 0, 1),
        ("fractions of sub-words allow no worse a vocabulary than whole sub-words", 1, 2),
        ("nothing found is better than the best", 2, 3),
    ):
        seen = f"{names[low]} {values[low]:g}, {names[high]} {values[high]:g}"
        yield Constraint(text, values[low] <= values[high] * (1 + 1e-9), seen)
    whole = all(abs(values[i] - round(values[i])) < 1e-6 for i in (2, 3))
    seen = f"exact {values[2]}, ours {values[3]}"
    yield Constraint("a vocabulary spends whole tokens", whole, seen)
    gap = values[3] / values[0] - 1
    seen = f"a gap of {100 * gap:.2f} %"
    yield Constraint("certificate and search are within 2 % here", gap < 0.02, seen)
