"""The lattice of a word: gaps between its characters as nodes, vocabulary pieces as arcs."""

import copy
import math
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from genopt_core.subwords.segmentation.arcs import Arcs
from genopt_core.subwords.segmentation.arrays import Float, Index
from genopt_core.subwords.segmentation.costs import check_costs, check_word, check_words
from genopt_core.subwords.segmentation.trie import PrefixTrie, code_points


class Arc(NamedTuple):
    """One piece in one place of a word: ``piece == word[start:end]``, at ``cost`` nats."""

    start: int
    end: int
    piece: str
    cost: float


def word_arcs(word: str, costs: Mapping[str, float]) -> list[Arc]:
    r"""Arcs of one word's lattice, by end, then longest piece first.

    Nodes 0 to n are the gaps between the n characters, an end-of-word symbol included if there is
    one.  The arc :math:`(i, j)` exists when the piece :math:`s_{ij} = c_{i+1} \dots c_j` is in the
    vocabulary at a finite cost, in nats and at least 0, and costs :math:`c_{ij}` (book, eq.
    swe-cost).  There are at most n times the longest piece's length.

    >>> for arc in word_arcs("low▁", {"l": 3.0, "o": 2.5, "w": 3.5, "▁": 1.0, "lo": 4.0}):
    ...     print(*arc)
    0 1 l 3.0
    0 2 lo 4.0
    1 2 o 2.5
    2 3 w 3.5
    3 4 ▁ 1.0
    """
    check_word(word)
    check_costs(costs)
    longest = max(map(len, costs))
    return [
        Arc(start, end, word[start:end], costs[word[start:end]])
        for end in range(1, len(word) + 1)
        for start in range(max(0, end - longest), end)
        if costs.get(word[start:end], math.inf) < math.inf
    ]


class Lattice(Arcs):
    """The lattices of all words of a corpus in flat arrays, equal prefixes shared.

    The best segmentation of a prefix does not depend on what follows, so words that begin alike
    share nodes (a prefix trie) and one sweep over the arcs serves the whole corpus.  Building takes
    at most one pass over the nodes per character of the longest piece.

    Attributes
    ----------
    words : tuple of str
        The distinct words; given as a mapping to counts, or as plain words that count once each.
    counts : (words,) float array
        How often each occurs.
    pieces : tuple of str
        The vocabulary, in the order given.
    costs : (pieces,) float array
        In nats, at least 0 (infinite: the piece is never used).
    source, target, piece : (arcs,) int arrays
        Arc from prefix node to prefix node, and its piece.  Sorted by target, then by source, so
        that the longest piece comes first among the arcs into a node.
    level : (longest word + 2,) int array
        Nodes ``level[d]`` to ``level[d + 1] - 1`` are prefixes of ``d`` characters.
    end : (words,) int array
        The node of each whole word.

    Examples
    --------
    >>> lattice = Lattice(["low▁", "lower▁"], {c: 1.0 for c in "lower▁"} | {"low": 2.0})
    >>> len(lattice.source), int(lattice.level[-1])
    (8, 8)
    >>> dearer = lattice.with_costs(lattice.costs + 1)
    >>> dearer.costs.tolist() == (lattice.costs + 1).tolist()
    True
    """

    def __init__(
        self, words: Mapping[str, float] | Iterable[str], costs: Mapping[str, float]
    ) -> None:
        counts = check_words(words)
        check_costs(costs)
        self.words = tuple(counts)
        self.counts: Float = np.fromiter(counts.values(), dtype=np.float64, count=len(counts))
        self.pieces = tuple(costs)
        self.costs: Float = np.fromiter(costs.values(), dtype=np.float64, count=len(costs))

        # Read backwards, the pieces ending at a node are the walk from it towards the root; the
        # trie of the reversed pieces follows that walk for all nodes at once.
        reversed_pieces = [piece[::-1] for piece in self.pieces]
        alphabet = np.unique(np.concatenate([code_points(self.words), code_points(self.pieces)]))
        prefixes = PrefixTrie(self.words, alphabet)
        endings = PrefixTrie(reversed_pieces, alphabet)
        piece_of = np.full(len(endings), -1, dtype=np.intp)
        piece_of[endings.end] = np.arange(len(self.pieces))

        target = np.arange(1, len(prefixes), dtype=np.intp)  # every prefix but the empty one
        source, state = target, np.zeros(len(target), dtype=np.intp)
        arcs: list[tuple[Index, Index, Index]] = []
        while len(target):
            state = endings.child(state, prefixes.character[source])
            source = prefixes.parent[source]
            hit = piece_of[state] >= 0
            arcs.append((source[hit], target[hit], piece_of[state[hit]]))
            further = (state > 0) & (source > 0)
            target, source, state = target[further], source[further], state[further]

        source, target, piece = (np.concatenate(part) for part in zip(*arcs, strict=True))
        order = np.lexsort((source, target))
        super().__init__(source[order], target[order], piece[order], prefixes.level)
        self.end: Index = prefixes.end
        self.parent: Index = prefixes.parent

    def with_costs(self, costs: ArrayLike) -> "Lattice":
        """The same arcs at other costs, a (pieces,) float array in the order of ``pieces``."""
        given = np.asarray(costs, dtype=np.float64)
        if given.shape != (len(self.pieces),):
            raise ValueError(f"costs must have shape ({len(self.pieces)},), got {given.shape}")
        if not (given >= 0).all():
            worst = int(np.flatnonzero(~(given >= 0))[0])
            raise ValueError(
                f"costs must be at least 0, got {given[worst]} for the piece {self.pieces[worst]!r}"
            )
        other = copy.copy(self)
        other.costs = given
        return other
