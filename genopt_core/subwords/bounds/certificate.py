r"""A certified lower bound on the token count of every vocabulary of a given size.

The certificate is one price in 0..1 for every character of every distinct word; `bound_from_prices`
turns prices into a lower bound, whatever the prices are.  `ascend` finds good ones, and nobody has
to trust how.
"""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from genopt_core.checks import real, whole
from genopt_core.files import whole_file
from genopt_core.progress import reporting
from genopt_core.subwords.segmentation.arrays import Float
from genopt_core.subwords.segmentation.corpus import best_paths
from genopt_core.subwords.segmentation.lattice import Lattice
from genopt_core.subwords.tokenizer.vocabulary import Vocabulary
from genopt_core.subwords.training.arcs import Pieces
from genopt_core.subwords.training.ascent import AscentStep, ascend
from genopt_core.subwords.training.dual import bound_from_prices
from genopt_core.subwords.training.substrings import Substrings, check_size

LEVELS = 4000
"""Stored prices are whole multiples of 1 / LEVELS."""

LONGEST_PIECE = 16
"""Characters of the longest piece that a certificate covers, unless told otherwise."""


@dataclass(frozen=True, eq=False)
class Certificate:
    """Prices that prove a lower bound on the tokens of every vocabulary of one size.

    It covers the vocabularies in which every character of the corpus is a piece, no piece is longer
    than ``max_piece`` characters, and there are ``vocabulary_size`` pieces in all, each word being
    segmented on its own.  Nothing is said about code length: the argument needs a cost per token
    that the choice of the vocabulary cannot change, and ``-ln p`` changes with it (see
    `genopt_core.subwords.bounds.exact`).

    Attributes
    ----------
    bound : float
        No such vocabulary segments the corpus into fewer tokens.
    prices : dict of str to (characters,) float array
        Per distinct word, in 0..1.
    vocabulary_size, max_piece : int
    min_count : float
        If above 0, the certificate covers those vocabularies only whose pieces of two characters or
        more occur that often in the corpus, as the candidates of `train` do.

    Examples
    --------
    >>> from genopt_core.subwords import Vocabulary
    >>> words = {"low▁": 5, "lower▁": 2}
    >>> made = certify(words, 7)
    >>> vocabulary = Vocabulary(tuple("lower▁") + ("low",), np.log([1 / 7] * 7), [1] * 7)
    >>> round(made.bound, 2), round(made.check(words), 2), round(made.gap(vocabulary, words), 2)
    (17.0, 17.0, 5.88)
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     made.save(f"{folder}/prices.npz")
    ...     read = Certificate.load(f"{folder}/prices.npz")
    >>> read.vocabulary_size, round(read.check(words), 2)
    (7, 17.0)
    """

    bound: float
    prices: dict[str, Float]
    vocabulary_size: int
    max_piece: int
    min_count: float = 0.0

    def check(self, word_counts: Mapping[str, float]) -> float:
        """The bound for these words, recomputed from the prices alone.

        Also for other counts than those it was made for: a word without prices counts as free,
        and the bound is valid, only weaker.
        """
        table = candidates(word_counts, self.max_piece, self.min_count)
        parts = []
        for word in table.words:
            prices = self.prices.get(word)
            if prices is None:
                prices = np.zeros(len(word))
            elif len(prices) != len(word):
                raise ValueError(
                    f"prices[{word!r}] must have {len(word)} entries, got {len(prices)}"
                )
            parts.append(prices)
        longer = self.vocabulary_size - table.singles
        if longer < 0:
            raise ValueError(
                f"words must have at most {self.vocabulary_size} different characters, the "
                f"vocabulary size of the certificate, got {table.singles}"
            )
        return bound_from_prices(table, np.concatenate(parts), longer)

    def gap(self, vocabulary: Vocabulary, word_counts: Mapping[str, float]) -> float:
        """How far a vocabulary's tokens for the corpus lie above the bound, in percent.

        The optimum is at most this far away.
        """
        size, longest = self.vocabulary_size, self.max_piece
        check_covered(vocabulary, word_counts, size, longest, self.min_count)
        paths = best_paths(Lattice(word_counts, vocabulary.costs))
        tokens = float((paths.lattice.counts * paths.steps).sum())
        return 100 * (tokens / self.bound - 1)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write words and prices (in steps of 1 / 4000) to an ``.npz`` file: all or nothing."""
        words = list(self.prices)
        level = np.concatenate([self.prices[word] for word in words]) * LEVELS
        with whole_file(path) as file:
            np.savez_compressed(
                file,
                words=np.frombuffer("".join(words).encode("utf-8"), dtype=np.uint8),
                lengths=np.array([len(word) for word in words], dtype=np.uint32),
                prices=np.round(level).astype(np.uint16),
                numbers=np.array([self.vocabulary_size, self.max_piece, LEVELS], dtype=np.uint32),
                bound=np.array(self.bound),
                min_count=np.array(self.min_count),
            )

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "Certificate":
        """Read what `save` wrote.  The bound is the stored number: `check` is what proves it."""
        with np.load(path, allow_pickle=False) as stored:
            text = stored["words"].tobytes().decode("utf-8")
            size, longest, levels = stored["numbers"].tolist()
            price = stored["prices"] / levels
            ends = np.cumsum(stored["lengths"].astype(np.int64)).tolist()
            bound = float(stored["bound"])
            least = float(stored["min_count"]) if "min_count" in stored else 0.0  # as of before
        starts = [0, *ends[:-1]]
        prices = {text[a:b]: price[a:b] for a, b in zip(starts, ends, strict=True)}
        return cls(bound, prices, size, longest, least)


def candidates(
    word_counts: Mapping[str, float], max_piece: int, min_count: float = 0.0
) -> Substrings:
    """The pieces that a certificate is about: characters, and what occurs often enough."""
    return Substrings(word_counts, max_piece, min_count * (1 - 1e-9))  # as `train` compares


def check_covered(
    vocabulary: Vocabulary,
    word_counts: Mapping[str, float],
    vocab_size: int,
    max_piece: int = LONGEST_PIECE,
    min_count: float = 0.0,
) -> None:
    """Refuse a vocabulary about which a certificate of this size for these words says nothing."""
    if len(vocabulary) > vocab_size:
        raise ValueError(
            f"vocabulary must have at most {vocab_size} pieces, as the certificate says, "
            f"got {len(vocabulary)}"
        )
    longest = max(vocabulary.pieces, key=len)
    if len(longest) > max_piece:
        raise ValueError(
            f"pieces must have at most {max_piece} characters, as the certificate says, "
            f"got {longest!r}"
        )
    missing = set().union(*word_counts).difference(vocabulary.pieces)
    if missing:
        raise ValueError(f"every character must be a piece, {min(missing)!r} is not")
    if min_count:
        known = set(candidates(word_counts, max_piece, min_count).texts())
        rare = (p for p in vocabulary.pieces if p not in known and any(p in w for w in word_counts))
        if (piece := next(rare, None)) is not None:  # what never occurs does no harm
            raise ValueError(
                f"pieces must occur at least {min_count:g} times, as the certificate says, "
                f"got {piece!r}"
            )


def certify(
    word_counts: Mapping[str, float],
    vocab_size: int,
    *,
    max_piece: int = LONGEST_PIECE,
    min_count: float = 0.0,
    steps: int = 300,
    progress: bool | Callable[[AscentStep], object] = False,
) -> Certificate:
    """A lower bound on the tokens that any vocabulary of this size needs for a corpus.

    Its prices are multiples of 1 / 4000, and its bound was computed from them.  Linear in the
    characters of the distinct words times max_piece, per step.  The certificate is this book's
    addition, not the paper's; the same bound through a solver for linear programs is in ConvexTok
    (arXiv 2605.22821) and script_tok.

    Parameters
    ----------
    word_counts, vocab_size, max_piece
        As in `train`.
    min_count : number
        If above 0, only of vocabularies whose longer pieces occur that often: the gap to those
        that `train` chose from, ``vocabulary.provenance["min_count"]``.  By default of all.
    steps : int
        Steps of the ascent; more give a better bound.
    progress : bool or function
        As in `genopt_core.progress`; the record's ``bound`` is the best so far (the certificate's
        own is computed at the end).

    Examples
    --------
    >>> certificate = certify({"low▁": 5, "lower▁": 2, "newest▁": 6, "widest▁": 3}, 14)
    >>> 20 < certificate.bound <= 29
    True
    """
    least = real(min_count, "min_count")
    if least < 0:
        raise ValueError(f"min_count must be at least 0, got {min_count!r}")
    table = candidates(word_counts, max_piece, least)
    size, steps = check_size(vocab_size, table.singles), whole(steps, "steps")
    longer = size - table.singles
    if longer >= len(table) - table.singles:
        prices = _prices_of_all(table)
    else:
        with reporting(progress, steps, "certifying") as report:
            prices = ascend(table, longer, steps, report).prices
    prices = np.round(prices * LEVELS) / LEVELS
    bound = bound_from_prices(table, prices, longer)
    ends = np.cumsum(table.gaps - 1).tolist()
    per_word = dict(zip(table.words, np.split(prices, ends[:-1]), strict=True))
    return Certificate(bound, per_word, size, table.max_piece, least)


def _prices_of_all(table: Substrings) -> Float:
    """Prices whose bound is attained when there is room for every candidate.

    A character costs what it adds to the fewest tokens of the word so far.  No candidate is then
    worth more than its token; and none costs less than nothing, since a part of a candidate is one.
    """
    pieces = Pieces(table, np.ones(len(table), dtype=bool))
    fewest, _ = pieces.forwards.cheapest(np.ones(len(table)))
    steps = np.diff(fewest[table.prefix_of])
    return np.delete(steps, table.start[1:] - 1)  # from one word to the next there is no character
