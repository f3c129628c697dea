"""All substrings of a corpus as numbered candidates, and where they lie: what training works on.

A word's segmentations are paths through its lattice (`genopt_core.subwords.segmentation.lattice`).
Training asks the same question for tens of thousands of candidate pieces at once, so everything
here is an array: words share nodes in a trie of prefixes, and in a second one of suffixes.
"""

import copy
import itertools
from collections.abc import Mapping
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from genopt_core.checks import whole
from genopt_core.subwords.segmentation.arcs import Arcs
from genopt_core.subwords.segmentation.arrays import (
    Float,
    Index,
    Mask,
    Small,
    ascending,
    run_starts,
    tally,
)
from genopt_core.subwords.segmentation.costs import check_words
from genopt_core.subwords.segmentation.trie import PrefixTrie, code_points

WordArcs = list[tuple[Small, Small]]
"""Per length: the gaps at which substrings of this length end, ascending, and their numbers."""


class Substrings:
    """Every substring of a corpus that is frequent enough, numbered by length, then text.

    Numbers are exact: a substring of length l is the pair (its first l - 1 characters, its last
    character), and pairs are ranked by sorting, so no two substrings can collide.  O(nodes *
    max_piece) time and memory, nodes being distinct prefixes (about a third of the characters of
    the distinct words).

    Parameters
    ----------
    word_counts : mapping of str to number
    max_piece : int
        Length of the longest substring, in characters.
    min_count : number
        Longer substrings that occur less often are left out; single characters always stay.

    Attributes
    ----------
    words : list of str
        Sorted.
    weight : (words,) float array
        How often each occurs.
    length, count : (substrings,) arrays
        Characters, and occurrences in the corpus, overlaps included.
    prefixes, suffixes : PrefixTrie
        Of the words, and of the words read backwards.
    place : (nodes, max_piece) int32 array
        Number of the substring that ends at a prefix node and has ``max_piece - column``
        characters, -1 if there is none: along a row, the longest first.

    Examples
    --------
    >>> table = Substrings({"low▁": 5, "lower▁": 2}, max_piece=3, min_count=5)
    >>> dict(zip(table.texts(), table.count.tolist()))
    {'e': 2.0, 'l': 7.0, 'o': 7.0, 'r': 2.0, 'w': 7.0, '▁': 7.0,
    'lo': 7.0, 'ow': 7.0, 'w▁': 5.0, 'low': 7.0, 'ow▁': 5.0}
    """

    def __init__(
        self, word_counts: Mapping[str, float], max_piece: int = 16, min_count: float = 1
    ) -> None:
        counts = check_words(word_counts)
        self.max_piece = whole(max_piece, "max_piece")
        self.words = sorted(counts)
        self.weight: Float = np.array([counts[w] for w in self.words], dtype=np.float64)
        self.alphabet = code_points(sorted(set("".join(self.words))))
        self.prefixes = PrefixTrie(self.words, self.alphabet)
        trie = self.prefixes
        self.end_weight = tally(trie.end, self.weight, len(trie))
        self._number(min_count)

    def _number(self, min_count: float) -> None:
        trie, longest = self.prefixes, self.max_piece
        weight = self.end_weight.copy()  # how often each prefix occurs: pushed up from the ends
        bounds = trie.level.tolist()
        for above, first, last in zip(bounds[-3::-1], bounds[-2::-1], bounds[:0:-1], strict=False):
            weight[above:first] += tally(
                trie.parent[first:last] - above, weight[first:last], first - above
            )
        self.place: Small = np.full((len(trie), longest), -1, dtype=np.int32)
        lengths, counts, where = [], [], []
        total, rank = 0, np.zeros(len(trie), dtype=np.int64)  # of the substring one shorter
        node: Index = np.arange(1, len(trie), dtype=np.intp)
        for length in range(1, longest + 1):
            before = rank[trie.parent[node]]
            # Both substrings one shorter must be frequent enough (rank 0 is "" or absent).
            fits = (before > 0) & (rank[node] > 0) if length > 1 else np.ones(len(node), bool)
            node, before = node[fits], before[fits]
            if not len(node):
                break
            index, group = _ranks(before * len(self.alphabet) + trie.character[node])
            count = tally(group, weight[node], len(index))
            kept = (count >= min_count) | (length == 1)
            number = np.where(kept, np.cumsum(kept), 0)[group]
            rank = np.zeros(len(trie), dtype=np.int64)
            rank[node] = number
            node, number = node[number > 0], number[number > 0]
            self.place[node, longest - length] = total - 1 + number
            lengths.append(
                np.full(int(kept.sum()), length, dtype=np.uint8 if longest < 256 else np.int32)
            )
            counts.append(count[kept])
            ends_at = np.zeros(int(kept.sum()), dtype=np.intp)
            ends_at[number - 1] = node
            where.append(ends_at)
            total += int(kept.sum())
        self.length = np.concatenate(lengths)
        self.count: Float = np.concatenate(counts)
        self._node: Index = np.concatenate(where)  # a prefix node at which each one ends

    def __len__(self) -> int:
        return len(self.length)

    def maximal(self) -> Mask:
        """Single characters, and substrings that no longer one contains wherever they occur.

        A substring that is always followed (or preceded) by the same character is hardly ever a
        better piece than the longer one.

        >>> table = Substrings({"low▁": 5, "lower▁": 2}, max_piece=4)
        >>> [text for text, kept in zip(table.texts(), table.maximal()) if kept]
        ['e', 'l', 'o', 'r', 'w', '▁', 'low', 'lowe', 'low▁', 'ower', 'wer▁']
        """
        kept = np.ones(len(self), dtype=bool)
        for column in range(self.max_piece - 1):
            node = np.flatnonzero(self.place[:, column] >= 0)
            count = self.count[self.place[node, column]]
            for shorter in (
                self.place[self.prefixes.parent[node], column + 1],
                self.place[node, column + 1],
            ):
                kept[shorter[self.count[shorter] == count]] = False
        return kept | self.single

    def only(self, kept: Mask) -> "Substrings":
        """The same corpus with fewer substrings, renumbered in the same order."""
        fewer = copy.copy(self)
        for name in ("single", "singles", "word_arcs", "forwards", "backwards"):
            fewer.__dict__.pop(name, None)
        number = np.where(kept, np.cumsum(kept, dtype=np.int32) - 1, -1).astype(np.int32)
        fewer.place = np.append(number, np.int32(-1))[self.place]
        fewer.length, fewer.count = self.length[kept], self.count[kept]
        fewer._node = self._node[kept]
        return fewer

    @cached_property
    def single(self) -> Mask:
        """Which substrings are single characters: pieces that no vocabulary can do without."""
        return self.length == 1

    @cached_property
    def singles(self) -> int:
        """How many single characters there are; they have the first numbers."""
        return int(self.single.sum())

    @cached_property
    def suffixes(self) -> PrefixTrie:
        """The words read backwards; made when first needed."""
        return PrefixTrie([word[::-1] for word in self.words], self.alphabet)

    def texts(self, numbers: NDArray[np.integer] | None = None) -> list[str]:
        """The substrings with these numbers, or all of them."""
        if numbers is None:
            numbers = np.arange(len(self))
        trie = self.prefixes
        length, node = self.length[numbers].astype(np.intp), self._node[numbers]
        text = np.zeros((len(length), int(length.max(initial=1))), dtype=np.uint32)
        for back in range(text.shape[1]):
            inside = length > back
            text[inside, back] = self.alphabet[trie.character[node[inside]]]
            node = trie.parent[node]
        text = text[:, ::-1]
        inside = np.arange(text.shape[1]) >= text.shape[1] - length[:, None]
        all_text = text[inside].astype("<u4").tobytes().decode("utf-32-le")
        bounds = itertools.pairwise([0, *np.cumsum(length).tolist()])
        return [all_text[first:last] for first, last in bounds]

    # -- gaps between characters -----------------------------------------------------------------

    @cached_property
    def start(self) -> Index:
        """First gap of every word, (words,): word w has the gaps start[w] ... start[w] + len(w)."""
        return np.cumsum(self.gaps) - self.gaps

    @cached_property
    def gaps(self) -> Index:
        """Number of gaps of every word, (words,): one more than characters."""
        return np.fromiter(map(len, self.words), dtype=np.intp) + 1

    @cached_property
    def word_of(self) -> Small:
        """The word each gap belongs to, (gaps,)."""
        return np.repeat(np.arange(len(self.words), dtype=np.int32), self.gaps)

    @cached_property
    def characters_before(self) -> Small:
        """Number of characters before each gap, over all words on end, (gaps,)."""
        return np.cumsum(self.behind, dtype=np.int32)

    @cached_property
    def behind(self) -> Mask:
        """The gaps behind a character: all but the first of each word, (gaps,)."""
        behind = np.ones(len(self.word_of), dtype=bool)
        behind[self.start] = False
        return behind

    @cached_property
    def character_weight(self) -> Float:
        """How often the word of each character occurs, (characters,)."""
        return self.weight[self.word_of[self.behind]]

    @cached_property
    def prefix_of(self) -> Small:
        """The prefix node that ends at each gap, (gaps,)."""
        return self._walk_back(self.prefixes, backwards=False)

    @cached_property
    def suffix_of(self) -> Small:
        """The suffix node that begins at each gap, (gaps,)."""
        return self._walk_back(self.suffixes, backwards=True)

    @cached_property
    def word_arcs(self) -> WordArcs:
        """Every place of every substring, by length: entry l - 1 has those of l characters."""
        arcs = []
        for length in range(1, self.max_piece + 1):
            number = self.place[:, self.max_piece - length].copy()[self.prefix_of]
            gap = np.flatnonzero(number >= 0).astype(np.int32)
            arcs.append((gap, number[gap]))
        return arcs

    # -- arcs of all substrings ------------------------------------------------------------------

    @cached_property
    def forwards(self) -> Arcs:
        """Prefix to prefix: the last piece of a segmentation of the prefix."""
        return _arcs(self.prefixes, self.place)

    @cached_property
    def backwards(self) -> Arcs:
        """Suffix to suffix: the first piece of a segmentation of the suffix."""
        place = np.full((len(self.suffixes), self.max_piece), -1, dtype=np.int32)
        for length, (gap, number) in enumerate(self.word_arcs, start=1):
            place[self.suffix_of[gap - length], self.max_piece - length] = number
        return _arcs(self.suffixes, place)

    def _walk_back(self, trie: PrefixTrie, backwards: bool) -> Small:
        node_at = np.zeros(int(self.gaps.sum()), dtype=np.int32)
        gap = self.start if backwards else self.start + self.gaps - 1
        step, node = (1 if backwards else -1), trie.end
        while len(node):
            node_at[gap] = node
            more = node > 0
            node, gap = trie.parent[node[more]], gap[more] + step
        return node_at


def _ranks(key: NDArray[np.int64]) -> tuple[NDArray[np.int64], Index]:
    """Distinct keys in ascending order, and the rank of each key among them."""
    order, ordered = ascending(key)
    fresh = run_starts(ordered)
    group = np.empty(len(key), dtype=np.intp)
    group[order] = np.cumsum(fresh) - 1
    return ordered[fresh], group


def _arcs(trie: PrefixTrie, place: Small) -> Arcs:
    """The arcs that end at the nodes of a trie, from a table such as `Substrings.place`."""
    longest = place.shape[1]
    hit = np.flatnonzero(place >= 0)
    piece, target, column = place.ravel()[hit], (hit // longest).astype(np.int32), hit % longest
    source = np.empty(len(target), dtype=np.int32)
    ancestor = np.arange(len(trie), dtype=np.int32)
    for length in range(1, longest + 1):
        ancestor = ancestor[trie.parent]
        here = np.flatnonzero(column == longest - length)
        source[here] = ancestor[target[here]]
    return Arcs(source, target, piece, trie.level)


def check_size(vocab_size: int, alphabet: int) -> int:
    """The vocabulary size as an int, refused if there are more characters than that."""
    size = whole(vocab_size, "vocab_size")
    if size < alphabet:
        fewer = " (256 are enough with alphabet='bytes')" if alphabet > 256 else ""
        raise ValueError(
            f"vocab_size must be at least {alphabet}, one piece for each different character of "
            f"the words{fewer}, got {size}"
        )
    return size
