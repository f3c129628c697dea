r"""A proof that no vocabulary of a given size can do with fewer pieces, and anybody can check it.

The proof is one price in 0..1 for every character of every distinct word; `bound_from_prices` turns
prices into a lower bound, whatever the prices are.  Good prices are found in
`genopt_core.subwords.training.ascent`, but nobody has to trust how.
"""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from genopt_core.subwords.segmentation.corpus import best_paths
from genopt_core.subwords.segmentation.costs import check_positive, check_words
from genopt_core.subwords.segmentation.lattice import Float, Lattice
from genopt_core.subwords.training.substrings import Substrings

if TYPE_CHECKING:
    from genopt_core.subwords.tokenizer.vocabulary import Vocabulary

LEVELS = 4000
"""Stored prices are whole multiples of 1 / LEVELS."""


def piece_values(table: Substrings, prices: ArrayLike) -> Float:
    r"""What each substring is worth at these character prices, at most.

    .. math:: V_t = \sum_w f_w \sum_{e = (i, j) \,:\, w_{i+1} \dots w_j = t}
              \Big( \sum_{m=i+1}^{j} d_{w,m} - 1 \Big)^+

    (book, eq. swe-dual): everywhere it occurs it may cover characters worth more than the one
    token that it costs.

    Parameters
    ----------
    table : Substrings
    prices : (gaps - words,) float array
        One price per character, words in the order of ``table.words``.

    Returns
    -------
    (substrings,) float array
        0 for single characters, in tokens.

    Examples
    --------
    >>> table = Substrings({"low": 3}, max_piece=3)
    >>> values = piece_values(table, [1.0, 1.0, 0.5])
    >>> dict(zip(table.texts(), values.tolist()))
    {'l': 0.0, 'o': 0.0, 'w': 0.0, 'lo': 3.0, 'ow': 1.5, 'low': 4.5}
    """
    before = prices_before(table, np.asarray(prices, dtype=np.float64))
    weight = table.weight[table.word_of]
    value = np.zeros(len(table))
    for length, (gap, number) in enumerate(table.word_arcs, start=1):
        if length > 1 and len(gap):
            surplus = before[gap] - before[gap - length] - 1.0
            worth = np.flatnonzero(surplus > 0)
            gain = surplus[worth] * weight[gap[worth]]
            value += np.bincount(number[worth], weights=gain, minlength=len(table))
    return value


def prices_before(table: Substrings, prices: Float) -> Float:
    """Running sum of the prices at every gap, over all words on end, (gaps,) float array."""
    at_gap = np.zeros(len(table.word_of))
    at_gap[_character_gaps(table)] = prices
    return np.cumsum(at_gap)


def _character_gaps(table: Substrings) -> NDArray[np.bool_]:
    """The gaps behind a character: all but the first of each word."""
    behind = np.ones(len(table.word_of), dtype=bool)
    behind[table.start] = False
    return behind


def character_weights(table: Substrings) -> Float:
    """How often the word of each character occurs, (characters,) float array."""
    return table.weight[table.word_of[_character_gaps(table)]]


def bound_from_prices(table: Substrings, prices: ArrayLike, longer_pieces: int) -> float:
    r"""Lower bound on the tokens of every vocabulary with so many pieces of two characters or more.

    .. math:: L(d) = \sum_w f_w \sum_m d_{w,m} \;-\;
              \max_{|T| \le K} \sum_{t \in T} V_t(d), \qquad 0 \le d_{w,m} \le 1

    (book, eq. swe-dual): total price less the K largest `piece_values`.

    **Proof.**  Let a vocabulary have the K longer pieces T, and let word w be spelled by arcs that
    cover each of its characters once.  A single character is worth at most the 1 token that it
    costs, and a longer arc e at most :math:`1 + (d(e) - 1)^+`; so the number of arcs is at least
    :math:`\sum_m d_{w,m} - \sum_{e} (d(e) - 1)^+` over the longer arcs e used.  Sum over the
    corpus: piece t can contribute no more than :math:`V_t`, since each of its places is used at
    most once per word, and at most K pieces contribute.  ∎

    L is the Lagrangian dual of the relaxation (book, eq. swe-relaxation), so its maximum equals the
    optimum of that linear program; any other prices give a valid, weaker bound.

    Examples
    --------
    >>> table = Substrings({"low": 3, "lower": 1}, max_piece=5)
    >>> prices = [0.5, 0.5, 0.5] + [0.5, 0.25, 0.25, 1.0, 1.0]  # of "low", then of "lower"
    >>> bound_from_prices(table, prices, longer_pieces=1)
    5.5
    """
    given = np.asarray(prices, dtype=np.float64)
    characters = len(table.word_of) - len(table.words)
    if given.shape != (characters,):
        raise ValueError(f"prices must have shape ({characters},), got {given.shape}")
    if not ((given >= 0) & (given <= 1)).all():
        raise ValueError("prices must be in 0..1 everywhere")
    value = piece_values(table, given)
    return float((character_weights(table) * given).sum()) - sum_of_largest(value, longer_pieces)


def sum_of_largest(value: Float, how_many: int) -> float:
    """Sum of the ``how_many`` largest values, none of them negative."""
    if how_many >= len(value):
        return float(value.sum())
    if how_many == 0:
        return 0.0
    return float(np.partition(value, len(value) - how_many)[-how_many:].sum())


@dataclass(frozen=True, eq=False)
class Certificate:
    """Prices that prove a lower bound on the tokens of every vocabulary of one size.

    The vocabularies it speaks about: every character of the corpus is a piece, no piece is
    longer than ``max_piece`` characters, there are ``vocabulary_size`` pieces in all, and each
    word of the corpus is spelled on its own.  Nothing is said about code length: the argument
    needs a cost per token that the choice of the vocabulary cannot change, and there
    ``-ln p`` changes with it (see `genopt_core.subwords.bounds.exact`).

    Attributes
    ----------
    bound : float
        Tokens; no such vocabulary spells the corpus with fewer.
    prices : dict of str to (characters,) float array
        Per distinct word, in 0..1.
    vocabulary_size, max_piece : int
    """

    bound: float
    prices: dict[str, Float]
    vocabulary_size: int
    max_piece: int

    def check(self, word_counts: Mapping[str, float]) -> float:
        """The bound for these words, recomputed from the prices alone.

        Also for other counts than those it was made for: a word without prices counts as free,
        and the bound is valid, only weaker.

        Raises
        ------
        TypeError, ValueError
            If the word counts are not counts, a price is outside 0..1, or a word has another number
            of prices than characters.
        """
        table = Substrings(word_counts, self.max_piece)
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
        longer = self.vocabulary_size - int(table.single.sum())
        if longer < 0:
            raise ValueError(
                f"these words have {int(table.single.sum())} different characters, more than the "
                f"vocabulary size {self.vocabulary_size} of the certificate"
            )
        return bound_from_prices(table, np.concatenate(parts), longer)

    def gap(self, vocabulary: "Vocabulary", word_counts: Mapping[str, float]) -> float:
        """How far a vocabulary's own spelling of the corpus lies above the bound, in percent.

        Its optimum is at most this far away.

        Raises
        ------
        ValueError
            If the certificate says nothing about this vocabulary: it is larger, has a longer
            piece, or lacks a character of the corpus.
        """
        if len(vocabulary.pieces) > self.vocabulary_size:
            raise ValueError(
                f"vocabulary must have at most {self.vocabulary_size} pieces, as the certificate "
                f"says, got {len(vocabulary.pieces)}"
            )
        longest = max(vocabulary.pieces, key=len)
        if len(longest) > self.max_piece:
            raise ValueError(
                f"pieces must have at most {self.max_piece} characters, as the certificate says, "
                f"got {longest!r}"
            )
        missing = set().union(*word_counts).difference(vocabulary.pieces)
        if missing:
            raise ValueError(f"every character must be a piece, {min(missing)!r} is not")
        paths = best_paths(Lattice(word_counts, vocabulary.costs))
        tokens = float((paths.lattice.counts * paths.steps).sum())
        return 100 * (tokens / self.bound - 1)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the prices to an ``.npz`` file, in steps of 1 / 4000; the words go with them."""
        words = list(self.prices)
        level = np.concatenate([self.prices[word] for word in words]) * LEVELS
        np.savez_compressed(
            path,
            words=np.frombuffer("".join(words).encode("utf-8", "surrogatepass"), dtype=np.uint8),
            lengths=np.array([len(word) for word in words], dtype=np.uint32),
            prices=np.round(level).astype(np.uint16),
            numbers=np.array([self.vocabulary_size, self.max_piece, LEVELS], dtype=np.uint32),
            bound=np.array(self.bound),
        )

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "Certificate":
        """Read what `save` wrote.  The bound is the stored number: `check` is what proves it."""
        with np.load(path, allow_pickle=False) as stored:
            text = stored["words"].tobytes().decode("utf-8", "surrogatepass")
            size, longest, levels = stored["numbers"].tolist()
            price = stored["prices"] / levels
            ends = np.cumsum(stored["lengths"].astype(np.int64)).tolist()
            bound = float(stored["bound"])
        starts = [0, *ends[:-1]]
        prices = {text[a:b]: price[a:b] for a, b in zip(starts, ends, strict=True)}
        return cls(bound, prices, size, longest)


def certify(
    word_counts: Mapping[str, float],
    vocab_size: int,
    *,
    max_piece: int = 16,
    steps: int = 300,
    progress: Callable[[int, float], None] | None = None,
) -> Certificate:
    """A lower bound on the tokens that any vocabulary of this size needs for a corpus.

    Parameters
    ----------
    word_counts : mapping of str to number
    vocab_size : int
        Pieces in all, the characters of the corpus included.
    max_piece : int
        Longest piece the bound speaks about, in characters.
    steps : int
        Steps of the ascent; more give a better bound.
    progress : callable, optional
        Called with the number of steps done and the best bound so far (of the steps: the last
        bound is computed anew).

    Returns
    -------
    Certificate
        Its prices are multiples of 1 / 4000, and its bound was computed from them.

    Raises
    ------
    TypeError, ValueError
        If an argument is not of this form, or ``vocab_size`` is below the number of characters.

    Notes
    -----
    Linear in the characters of the distinct words times max_piece, per step.  The certificate is
    this book's addition, not the paper's; the same bound through a solver for linear programs is in
    ConvexTok (arXiv 2605.22821) and script_tok.

    Examples
    --------
    >>> certificate = certify({"low▁": 5, "lower▁": 2, "newest▁": 6, "widest▁": 3}, 14)
    >>> 20 < certificate.bound <= 29
    True
    """
    from genopt_core.subwords.training.ascent import ascend  # it needs this module

    table = Substrings(check_words(word_counts), max_piece)
    longer = checked_size(vocab_size, table) - int(table.single.sum())
    prices = ascend(table, longer, check_positive(steps, "steps"), progress).prices
    prices = np.round(prices * LEVELS) / LEVELS
    bound = bound_from_prices(table, prices, longer)
    ends = np.cumsum(table.gaps - 1).tolist()
    per_word = dict(zip(table.words, np.split(prices, ends[:-1]), strict=True))
    return Certificate(bound, per_word, table_size(longer, table), table.max_piece)


def table_size(longer: int, table: Substrings) -> int:
    """Vocabulary size with so many longer pieces."""
    return longer + int(table.single.sum())


def checked_size(vocab_size: int, table: Substrings) -> int:
    """The vocabulary size as an int, or a ValueError if there are more characters than that."""
    size = check_positive(vocab_size, "vocab_size")
    alphabet = int(table.single.sum())
    if size < alphabet:
        raise ValueError(
            f"vocab_size must be at least {alphabet}, one piece for each different character of "
            f"the words, got {size}"
        )
    return size


__all__ = ["Certificate", "bound_from_prices", "certify", "piece_values"]
