"""A set of pieces with its arcs.

A `Lattice` has the arcs of one given vocabulary.  Training changes the vocabulary some forty times,
so here arcs are chosen out of those of one table (`Substrings`), in either direction.  Every node
but the root has the arc of its last character, because single characters are pieces of every
vocabulary.
"""

from functools import cached_property

import numpy as np

from genopt_core.subwords.segmentation.arcs import Arcs
from genopt_core.subwords.segmentation.arrays import Mask
from genopt_core.subwords.training.substrings import Substrings, WordArcs


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
        return self.table.forwards.only(self.chosen)

    @cached_property
    def backwards(self) -> Arcs:
        """Arcs of the suffix trie."""
        return self.table.backwards.only(self.chosen)

    @cached_property
    def word_arcs(self) -> WordArcs:
        """Arcs of every word on its own."""
        return _cut(self.table.word_arcs, self.chosen)


def _cut(arcs: WordArcs, chosen: Mask) -> WordArcs:
    """The arcs of fewer pieces; single characters are all kept."""
    kept = [np.flatnonzero(chosen[number]) for _, number in arcs[1:]]
    longer = [(gap[k], number[k]) for (gap, number), k in zip(arcs[1:], kept, strict=True)]
    return [*arcs[:1], *longer]
