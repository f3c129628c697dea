"""A set of pieces with all its arcs: in the prefix trie, in the suffix trie, and word by word."""

from functools import cached_property

from genopt_core.subwords.training.substrings import Mask, Substrings, WordArcs
from genopt_core.subwords.training.sweeps import Arcs


class Pieces:
    """Some substrings of a table, chosen as pieces, and their arcs.

    Arcs are made when first needed, and for a smaller set (`only`) by leaving out the arcs of the
    others.

    Examples
    --------
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
        return Arcs.forwards(self.table, self.chosen)

    @cached_property
    def backwards(self) -> Arcs:
        """Arcs of the suffix trie."""
        return Arcs.backwards(self.table, self.word_arcs)

    @cached_property
    def word_arcs(self) -> WordArcs:
        """Arcs of every word on its own."""
        return _cut(self.table.word_arcs, self.chosen)


def _cut(arcs: WordArcs, chosen: Mask) -> WordArcs:
    kept = [chosen[number] for _, number in arcs]
    return [(gap[k], number[k]) for (gap, number), k in zip(arcs, kept, strict=True)]
