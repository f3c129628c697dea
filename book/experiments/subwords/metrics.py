"""How good a vocabulary is, from the segmentation of every unique word.

All tokenizers segment the same words with the same counts.  Three views of a vocabulary: with its
own segmentation; with the best segmentation under the unigram code (costs fitted to its own use,
iterated until they settle); with the fewest pieces.  The exact shortest paths come from the Viterbi
of `tokenizers.models.Unigram`, a peer's code and not ours.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

Segment = Callable[[Sequence[str]], list[list[str]]]
SMOOTHING = 0.5
METRICS = (
    "pieces",
    "used",
    "longest_piece",
    "unknown_words",
    "train_tokens",
    "held_tokens",
    "train_tokens_per_word",
    "held_tokens_per_word",
    "train_bits_per_byte",
    "held_bits_per_byte",
    "renyi",
    "optimal_train_tokens_per_word",
    "optimal_held_tokens_per_word",
    "optimal_train_bits_per_byte",
    "optimal_held_bits_per_byte",
    "fewest_train_tokens",
    "fewest_held_tokens",
)


def piece_counts(segmented: Iterable[Sequence[str]], weights: Iterable[int]) -> Counter[str]:
    """How often each piece occurs."""
    total: Counter[str] = Counter()
    for pieces, weight in zip(segmented, weights, strict=True):
        for piece in pieces:
            total[piece] += weight
    return total


def code_length(counts: Mapping[str, int]) -> float:
    r"""Bits of the best unigram code for these pieces, $N\log_2 N - \sum_t c_t\log_2 c_t$."""
    c = np.array([n for n in counts.values() if n > 0], dtype=float)
    return float(c.sum() * math.log2(c.sum()) - (c * np.log2(c)).sum())


def cross_code_length(
    counts: Mapping[str, int], trained: Mapping[str, int], pieces: int, smoothing: float = SMOOTHING
) -> float:
    """Bits for pieces under the frequencies of the training text, ``smoothing`` added to each."""
    total = sum(trained.values()) + smoothing * pieces
    return -sum(n * math.log2((trained.get(t, 0) + smoothing) / total) for t, n in counts.items())


def renyi_efficiency(counts: Mapping[str, int], pieces: int, order: float = 2.5) -> float:
    """Renyi entropy of the piece frequencies over the largest that so many pieces can have."""
    c = np.array([n for n in counts.values() if n > 0], dtype=float)
    return float(np.log(((c / c.sum()) ** order).sum()) / (1 - order) / math.log(pieces))


def shortest_paths(words: Sequence[str], scores: Mapping[str, float]) -> list[list[str]]:
    """The segmentation of each word with the highest sum of scores, exactly."""
    from tokenizers import models

    unknown = "\ue000\ue001\ue002"  # private characters: no word contains them
    model = models.Unigram([(unknown, 0.0), *scores.items()], unk_id=0, byte_fallback=False)
    return [[token.value for token in model.tokenize(word)] for word in words]


def fewest_pieces(words: Sequence[str], pieces: Iterable[str]) -> list[list[str]]:
    """A segmentation of each word into the fewest pieces."""
    return shortest_paths(words, dict.fromkeys(pieces, -1.0))


def optimal_code(
    words: Sequence[str],
    weights: Sequence[int],
    pieces: Iterable[str],
    start: Mapping[str, int],
    rounds: int = 12,
) -> Counter[str]:
    """Piece counts after alternating best segmentation and refitted costs until they settle."""
    vocabulary = sorted(set(pieces))
    counts = Counter({t: n for t, n in start.items() if t in set(vocabulary)})
    last = math.inf
    for _ in range(rounds):
        total = sum(counts.values())
        scores = {t: math.log(max(counts[t], SMOOTHING) / total) for t in vocabulary}
        counts = piece_counts(shortest_paths(words, scores), weights)
        bits = code_length(counts)
        if last - bits < 1e-6 * bits:
            break
        last = bits
    return counts


def spelled_out(segmented: list[list[str]], words: Sequence[str]) -> int:
    """Replace, in place, what does not spell its word by single characters; how many words."""
    unknown = 0
    for i, word in enumerate(words):
        if "".join(segmented[i]) != word:
            segmented[i] = list(word)
            unknown += 1
    return unknown


def evaluate(
    pieces: Sequence[str],
    segment: Segment,
    train: Mapping[str, int],
    held: Mapping[str, int],
    size_bytes: tuple[int, int],
    view: Callable[[str], str] = str,
    plain: Callable[[str], str] = str,
) -> dict[str, float]:
    """Every metric of `METRICS`.

    Parameters
    ----------
    pieces
        The whole vocabulary, characters included, special pieces not.
    segment
        The tokenizer's own segmentation of a list of words into pieces.
    train, held
        Word counts.
    size_bytes
        UTF-8 bytes of the training and the held-out text.
    view
        The form in which the tokenizer sees a word (marker in front, bytes); ``plain`` turns one
        of its pieces into the characters it spells there (WordPiece drops its ``##``).
    """
    words, held_words = [view(w) for w in train], [view(w) for w in held]
    own, own_held = segment(words), segment(held_words)
    for word, parts in zip(words, own, strict=True):
        if "".join(map(plain, parts)) != word:
            raise ValueError(f"segment must spell {word!r}, got {parts!r}")
    flat_held = [[plain(t) for t in parts] for parts in own_held]
    unknown = spelled_out(flat_held, held_words)
    own_held = [
        p if "".join(map(plain, p)) == w else list(w)
        for p, w in zip(own_held, held_words, strict=True)
    ]
    n_train, n_held = sum(train.values()), sum(held.values())
    counts = piece_counts(own, train.values())
    counts_held = piece_counts(own_held, held.values())
    alphabet = set("".join(words))
    flat = sorted({plain(t) for t in pieces} | alphabet)
    flat_counts = piece_counts(([plain(t) for t in p] for p in own), train.values())
    best = optimal_code(words, list(train.values()), flat, flat_counts)
    total = sum(best.values()) + SMOOTHING * len(flat)
    scores = {t: math.log((best[t] + SMOOTHING) / total) for t in flat}
    best_held = piece_counts(shortest_paths(held_words, scores), held.values())
    fewest, fewest_held = (
        sum(n * len(p) for p, n in zip(fewest_pieces(ws, flat), ns.values(), strict=True))
        for ws, ns in ((words, train), (held_words, held))
    )
    tokens, tokens_held = sum(counts.values()), sum(counts_held.values())
    values = (
        len(pieces),
        sum(n > 0 for n in counts.values()),
        max(map(len, flat)),
        unknown,
        tokens,
        tokens_held,
        tokens / n_train,
        tokens_held / n_held,
        code_length(counts) / size_bytes[0],
        cross_code_length(counts_held, counts, len(pieces)) / size_bytes[1],
        renyi_efficiency(counts, len(pieces)),
        sum(best.values()) / n_train,
        sum(best_held.values()) / n_held,
        code_length(best) / size_bytes[0],
        cross_code_length(best_held, best, len(flat)) / size_bytes[1],
        fewest,
        fewest_held,
    )
    return dict(zip(METRICS, values, strict=True))
