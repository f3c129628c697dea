r"""What a text of the same kind will need next: the words of the corpus again, and new ones.

A word that occurs once in a corpus was new when it came.  So of every word a discount D is taken
away and given to new words, which look like the known ones but cannot use what only one word has.
No split, no random number: every word is left out once.  (Absolute discounting by leaving one out:
H. Ney, U. Essen and R. Kneser 1994.)

Where the files of a corpus are known, whole files are left out in place of single occurrences: the
next text is another file, and what only one file has comes again less often than its count says.
A few files, or files that have nothing in common, tell nothing of that.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from genopt_core.subwords.segmentation.arrays import (
    Float,
    Index,
    Mask,
    ascending,
    run_starts,
    tally,
)
from genopt_core.subwords.training.arcs import Pieces
from genopt_core.subwords.training.em import LEAST_COUNT, Segmentation
from genopt_core.subwords.training.pruning import Changes, count_changes
from genopt_core.subwords.training.substrings import Substrings

LEVELS = ((0.8, 0.4), (0.4, 0.3), (0.2, 0.15), (0.1, 0.075), (0.05, 0.0375), (0.025, 0.0375))
"""Least availability of the pieces that a new word may use, and the share of new words it is for:
each half of the one before, the shares as wide as the intervals around them."""
SMALL_CORPUS = 200_000
"""Characters of the distinct words up to which training looks at new words by itself."""
LEAST_FILES = 8
"""Files from which on whole ones are left out.  With fewer, too much of what one has looks new: two
to five parts of a novel cost up to 17 % of the tokens, six and more half a percent at most, and
they gained as much."""
NEW_SHARE = (0.1, 0.5)
"""And the share of new words at which it does: beyond the second, "words" are lines."""


def discount(occurrences: Iterable[float]) -> float:
    r"""What to take from each count so that left-out occurrences are best foretold.

    .. math:: D = \frac{n_1}{n_1 + 2 n_2}

    with n the number of things that occur once and twice, weights being rounded; 0 if nothing
    occurs once.

    >>> discount([1, 1, 1, 2, 7])
    0.6
    """
    values = np.round(np.fromiter(occurrences, dtype=np.float64))
    once, twice = int((values == 1).sum()), int((values == 2).sum())
    return once / (once + 2 * twice) if once else 0.0


def new_word_share(counts: Iterable[float]) -> float:
    r"""Share of the next words that the corpus does not have, :math:`D\,W / \sum_w f_w`.

    W is the number of distinct words; counts are in units (`genopt_core.subwords.training.unit`).

    >>> new_word_share([1, 1, 1, 2, 7])
    0.25
    """
    values = list(counts)
    return discount(values) * len(values) / sum(values)


def words_with(table: Substrings) -> Float:
    """In how many distinct words each substring occurs, (substrings,).

    >>> table = Substrings({"abab": 2, "ab": 1}, max_piece=2)
    >>> dict(zip(table.texts(), words_with(table).tolist()))
    {'a': 2.0, 'b': 2.0, 'ab': 2.0, 'ba': 1.0}
    """
    found = np.zeros(len(table))
    for gap, number in table.word_arcs:
        both = _distinct(table.word_of[gap], number, len(table))
        found += tally(both % len(table), np.ones(len(both)), len(table))
    return found


@dataclass(frozen=True)
class Files:
    """In which files the words of a corpus are.

    Attributes
    ----------
    file : (pairs,) int array
        The files of the first word, of the second, ….
    count : (words,) int array
        In how many files each word is.
    number : int
        Of files.
    """

    file: Index
    count: Index
    number: int

    @classmethod
    def of(cls, words: Sequence[str], words_of_files: Sequence[Collection[str]]) -> "Files":
        """From the words of each file.

        >>> Files.of(["low", "new"], [["low"], ["new", "low"]]).count.tolist()
        [2, 1]
        """
        number = {word: n for n, word in enumerate(words)}
        sizes = [len(here) for here in words_of_files]
        word = np.fromiter((number[w] for here in words_of_files for w in here), np.intp)
        file = np.repeat(np.arange(len(sizes)), sizes)
        order = np.argsort(word, kind="stable")
        return cls(file[order], np.bincount(word, minlength=len(words)), len(sizes))

    def with_substring(self, table: Substrings, asked: Mask) -> Float:
        """In how many files each substring ``asked`` for occurs, (substrings,); 0 for the others.

        >>> table = Substrings({"low": 2, "slow": 1}, max_piece=2)
        >>> files = Files.of(table.words, [["low"], ["low", "slow"]])
        >>> dict(zip(table.texts(), files.with_substring(table, table.length == 2).tolist()))
        {'l': 0.0, 'o': 0.0, 's': 0.0, 'w': 0.0, 'lo': 2.0, 'ow': 2.0, 'sl': 1.0}
        """
        found, first = np.zeros(len(table)), np.cumsum(self.count) - self.count
        for gap, number in table.word_arcs:
            gap, number = gap[asked[number]], number[asked[number]]
            word, piece = np.divmod(_distinct(table.word_of[gap], number, len(table)), len(table))
            times = self.count[word]
            begins = np.cumsum(times) - times
            pair = np.arange(int(times.sum())) + np.repeat(first[word] - begins, times)
            both = _distinct(np.repeat(piece, times), self.file[pair], self.number)
            found += tally(both // self.number, np.ones(len(both)), len(table))
        return found


def _distinct(
    row: NDArray[np.integer], column: NDArray[np.integer], columns: int
) -> NDArray[np.int64]:
    """The different pairs, each as row * columns + column, ascending."""
    return np.unique(row.astype(np.int64) * columns + column)


def availability(table: Substrings, files: Files | None = None) -> Float:
    r"""How likely a new word finds a piece that m words of the corpus have, (substrings,) in 0..1.

    .. math:: q_t = \left(1 - \frac{D_\ell}{m_t}\right)^2

    :math:`D_\ell` is the `discount` of the substrings of the same length: those that one word has
    are mostly long and hardly come again.  Squared, because the piece must come again *and* have
    been chosen without the word that asks for it.  Single characters have 1, a word that is no part
    of another has 0: to a new word it is of no use.  With ``files``, m is the number of words or of
    files that have the piece, whichever is less.
    """
    words = words_with(table)
    if files is not None:
        several = (words > 1) & ~table.single  # more than one file can have these only
        words = np.where(several, np.minimum(words, files.with_substring(table, several)), words)
    found = np.ones(len(table))
    for length in range(2, table.max_piece + 1):
        here = table.length == length
        if here.any():
            found[here] = (1 - discount(words[here]) / words[here]) ** 2
    ends = table.prefixes.end
    lengths = np.minimum(table.gaps - 1, table.max_piece + 1)
    fits = lengths <= table.max_piece
    whole = table.place[ends[fits], table.max_piece - lengths[fits]]
    whole = whole[whole >= 0]
    found[whole[(words[whole] == 1) & ~table.single[whole]]] = 0.0
    return found


class Part:
    """Some of the words of the next text: how often each comes, and which pieces it may use."""

    def __init__(self, table: Substrings, weight: Float, allowed: Mask) -> None:
        self.weight, self.allowed = weight, allowed | table.single
        self.end_weight = tally(table.prefixes.end, weight, len(table.prefixes))


@dataclass(frozen=True)
class Outlook:
    r"""The next text cut along its cheapest paths.

    Attributes
    ----------
    states : list of Segmentation
        Of the parts; all have the counts of the corpus.
    counts, uses : (substrings,) float arrays
        How often each piece is used in the corpus, and in the next text.
    objective : float
        What `NextText` makes small, in nats.
    """

    pieces: list[Pieces]
    states: list[Segmentation]
    counts: Float
    uses: Float
    objective: float


class NextText:
    r"""The text that is expected after a corpus, as long as the corpus.

    .. math:: \hat J = \sum_s u_s \Big(\lambda + \ln\big(C + \tfrac12 V\big) -
              \ln\big(c_s + \tfrac12\big)\Big)

    (book, eq. swe-next).  c are the counts of the V pieces in the corpus, C their sum, and u those
    in the next text: word w comes :math:`f_w - D` times with all pieces, and D times as a new word
    with those of some `availability`.  Probabilities come from the corpus and are paid by the next
    text, so a piece that only one word has pays for itself if that word comes again.

    With ``files``, D is the `discount` of the numbers :math:`d_w` of files that have a word, and
    :math:`D f_w / d_w` is taken: of the files that have it, so much of one.
    """

    def __init__(
        self, table: Substrings, size: int, length_cost: float, files: Files | None = None
    ) -> None:
        self.table, self.size, self.length_cost = table, size, length_cost
        taken: Any = discount(table.weight)
        if files is not None:
            taken = discount(files.count) / files.count * table.weight
        found, every = availability(table, files), np.ones(len(table), dtype=bool)
        self.parts = [Part(table, np.maximum(table.weight - taken, 0), every)]
        self.parts += [
            Part(table, np.broadcast_to(taken * share, len(table.words)), found >= q)
            for q, share in LEVELS
        ]

    def pieces(self, chosen: Mask) -> list[Pieces]:
        """Of every part, those of the chosen pieces that it may use."""
        return [Pieces(self.table, chosen & part.allowed) for part in self.parts]

    def prices(self, counts: Float) -> Float:
        """Cost of every piece in nats, the token penalty included."""
        total = float(counts.sum()) + LEAST_COUNT * self.size
        return self.length_cost + np.log(total) - np.log(counts + LEAST_COUNT)

    def look(self, pieces: list[Pieces], counts: Float, rounds: int) -> Outlook:
        """Best paths and refitted costs in turn, as `em.hard_em` does for the corpus.

        What is made small is (book, eq. swe-next), the ``objective`` of what comes out.
        """
        table, before = self.table, np.inf
        for _ in range(rounds):
            cost, uses, paths = self.prices(counts), np.zeros(len(table)), []
            for part, own in zip(self.parts, pieces, strict=True):
                paths.append(own.forwards.cheapest(cost))
                uses += own.forwards.usage(paths[-1][1], part.end_weight, len(table))
            counts = pieces[0].forwards.usage(paths[0][1], table.end_weight, len(table))
            objective = float((uses * self.prices(counts)).sum())
            if before - objective < 2e-5 * objective:
                break
            before = objective
        states = [
            Segmentation(self.length_cost, cost, counts, potential, arc, objective)
            for potential, arc in paths
        ]
        return Outlook(pieces, states, counts, uses, objective)

    def losses(self, seen: Outlook, asked: Mask) -> Float:
        """Increase of the objective, in nats, when a piece is removed; `removal_losses` of this."""
        size, asked = len(self.table), asked & ~self.table.single
        changes = []
        for part, pieces, state in zip(self.parts, seen.pieces, seen.states, strict=True):
            # Both counts at once: the real part is that of the corpus, the other that to come.
            corpus = self.table.weight if part is self.parts[0] else 0.0
            weight = corpus + 1j * part.weight
            changes.append(count_changes(pieces, state, asked & part.allowed, weight))
        removed, piece, amount = _summed(changes, size)
        before, used = seen.counts[piece], seen.uses[piece]
        after = np.maximum(before + amount.real, 0)
        loss = used * np.log(before + LEAST_COUNT)
        loss -= np.maximum(used + amount.imag, 0) * np.log(after + LEAST_COUNT)
        loss = tally(removed, loss, size)
        more, needed = tally(removed, amount.real, size), tally(removed, amount.imag, size)
        total, uses = float(seen.counts.sum()) + LEAST_COUNT * self.size, float(seen.uses.sum())
        loss += (uses + needed) * np.log(total + more) - uses * np.log(total)
        loss += self.length_cost * needed
        loss[~asked] = np.inf
        return loss

    def gains(self, seen: Outlook, chosen: Mask) -> tuple[Float, Float]:
        """Estimated gain of each absent piece and its uses in the corpus, as `insertion_gains`."""
        table = self.table
        ways = []
        for part, pieces, state in zip(self.parts, seen.pieces, seen.states, strict=True):
            after, _ = pieces.backwards.cheapest(state.cost)
            room = state.potential[table.prefixes.end][table.word_of] - after[table.suffix_of]
            corpus = table.weight if part is self.parts[0] else np.zeros(len(table.words))
            ways.append((state.potential[table.prefix_of], room, corpus, part))
        total = np.log(float(seen.counts.sum()) + LEAST_COUNT * self.size) + self.length_cost
        gain, uses = np.zeros(len(table)), np.zeros(len(table))
        for length, (gap, number) in enumerate(table.word_arcs, start=1):
            if length == 1 or not len(number):
                continue
            first, size = int(number.min()), int(number.max()) + 1 - int(number.min())
            found = []
            for before, room, corpus, part in ways:
                new = ~chosen[number] & part.allowed[number]
                end, word = gap[new], table.word_of[gap[new]]
                afford = room[end] - before[end - length]
                found.append((afford, number[new] - first, corpus[word], part.weight[word]))
            afford, piece, occurs, comes = map(np.concatenate, zip(*found, strict=True))
            count = tally(piece, occurs, size)
            for _ in range(3):
                surplus = afford - (total - np.log(count + LEAST_COUNT))[piece]
                taken = surplus > 0
                afford, surplus, piece = afford[taken], surplus[taken], piece[taken]
                occurs, comes = occurs[taken], comes[taken]
                count = tally(piece, occurs, size)
            here = slice(first, first + size)
            uses[here] = count
            gain[here] = tally(piece, comes * surplus, size)
        return gain, uses


def _summed(changes: list[Changes], size: int) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """The same changes with one entry for every removed piece and every piece it changes."""
    removed, piece, amount = (np.concatenate(each) for each in zip(*changes, strict=True))
    order, key = ascending(removed.astype(np.int64) * size + piece)
    first = np.flatnonzero(run_starts(key))
    if len(first):
        amount = np.add.reduceat(amount[order], first)
    removed, piece = np.divmod(key[first], size)
    return removed, piece, amount
