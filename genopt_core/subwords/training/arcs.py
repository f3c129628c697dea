"""A set of pieces with its arcs.

A `Lattice` has the arcs of one given vocabulary.  Training changes the vocabulary some forty times,
so here arcs are cut out of one table (`Substrings`), in either direction.  Every node but the root
has the arc of its last character, because single characters are pieces of every vocabulary.
"""

import itertools
from functools import cached_property

import numpy as np

from genopt_core.subwords.segmentation.arcs import Arcs
from genopt_core.subwords.segmentation.arrays import Mask, ascending
from genopt_core.subwords.training.substrings import Substrings, WordArcs


def forward_arcs(table: Substrings, chosen: Mask) -> Arcs:
    """Prefix to prefix: the last piece of a segmentation of the prefix."""
    trie, longest = table.prefixes, table.max_piece
    hit = np.flatnonzero(np.append(chosen, False)[table.place])  # -1 picks the last entry
    target, column = np.divmod(hit, longest)
    length = longest - column
    source = np.empty(len(hit), dtype=np.intp)
    ancestor = np.arange(len(trie), dtype=np.intp)
    by_length = np.argsort(length.astype(np.uint16), kind="stable")  # a radix sort
    bounds = np.searchsorted(length[by_length], np.arange(1, longest + 2)).tolist()
    for first, last in itertools.pairwise(bounds):
        ancestor = trie.parent[ancestor]
        here = by_length[first:last]
        source[here] = ancestor[target[here]]
    return Arcs(source, target, table.place.ravel()[hit].astype(np.intp), trie.level)


def backward_arcs(table: Substrings, word_arcs: WordArcs) -> Arcs:
    """Suffix to suffix: the first piece of a segmentation of the suffix."""
    # A suffix node stands for all gaps with the same characters after them: ask one of them.
    gap_of = np.empty(len(table.suffixes), dtype=np.intp)
    gap_of[table.suffix_of] = np.arange(len(table.suffix_of))
    asked = np.zeros(len(table.suffix_of), dtype=bool)
    asked[gap_of] = True
    keys, sources, pieces = [], [], []
    for length, (gap, piece) in enumerate(word_arcs, start=1):
        here = asked[gap - length]
        gap, piece = gap[here], piece[here]
        target = table.suffix_of[gap - length].astype(np.int64)
        keys.append(target * table.max_piece + (table.max_piece - length))
        sources.append(table.suffix_of[gap])
        pieces.append(piece)
    order, key = ascending(np.concatenate(keys))
    source, piece = np.concatenate(sources)[order], np.concatenate(pieces)[order]
    target = (key // table.max_piece).astype(np.intp)
    return Arcs(source.astype(np.intp), target, piece.astype(np.intp), table.suffixes.level)


class Pieces:
    """Some substrings of a table, chosen as pieces, and their arcs.

    Arcs are made when first needed, and for a smaller set (`only`) by leaving out the arcs of the
    others.

    >>> table = Substrings({"abab": 2}, max_piece=2)
    >>> pieces = Pieces(table, table.count > 0)
    >>> [(gap.tolist(), number.tolist()) for gap, number in pieces.word_arcs]
    [([1, 2, 3, 4], [0, 1, 0, 1]), ([2, 3, 4], [2, 3, 2])]
    """

    def __init__(self, table: Substrings, chosen: Mask) -> None:
        self.table = table
        self.chosen = chosen

    def __len__(self) -> int:
        return int(self.chosen.sum())

    def only(self, chosen: Mask) -> "Pieces":
        """A smaller set."""
        made = {"forwards", "backwards", "word_arcs"} & set(self.__dict__)
        smaller = Pieces(self.table, chosen)
        for name in sorted(made):
            if name == "word_arcs":
                smaller.word_arcs = _cut(self.word_arcs, chosen)
            else:
                setattr(smaller, name, getattr(self, name).only(chosen))
        return smaller

    def forget(self) -> None:
        """Free the memory of the arcs; they are made again when they are needed."""
        for name in ("forwards", "backwards", "word_arcs"):
            self.__dict__.pop(name, None)

    @cached_property
    def forwards(self) -> Arcs:
        """Arcs of the prefix trie."""
        return forward_arcs(self.table, self.chosen)

    @cached_property
    def backwards(self) -> Arcs:
        """Arcs of the suffix trie."""
        return backward_arcs(self.table, self.word_arcs)

    @cached_property
    def word_arcs(self) -> WordArcs:
        """Arcs of every word on its own."""
        return _cut(self.table.word_arcs, self.chosen)


def _cut(arcs: WordArcs, chosen: Mask) -> WordArcs:
    kept = [chosen[number] for _, number in arcs]
    return [(gap[k], number[k]) for (gap, number), k in zip(arcs, kept, strict=True)]
