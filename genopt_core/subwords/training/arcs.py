"""A set of pieces with its arcs, and sweeps over them: cheapest paths, sums over paths, usage.

`genopt_core.subwords.segmentation.corpus` does this for one given vocabulary.  Training changes the
vocabulary some forty times, so here arcs are cut out of one table (`Substrings`), in either
direction, and the sums over *all* segmentations are needed as well.
"""

import itertools
from functools import cached_property

import numpy as np

from genopt_core.subwords.segmentation.arrays import (
    Float,
    Index,
    Mask,
    ascending,
    run_starts,
    tally,
)
from genopt_core.subwords.training.substrings import Substrings, WordArcs


class Arcs:
    """The arcs of some pieces in one trie, sorted by target node, longest piece first.

    Every node but the root has the arc of its last character, because single characters are
    pieces of every vocabulary; so the arcs into node n are one run, and runs follow one another.

    Attributes
    ----------
    source, target, piece : (arcs,) int arrays
        Nodes and number of the piece.
    level : (depths + 1,) int array
        Nodes ``level[d]`` to ``level[d + 1] - 1`` lie d characters from the root.
    """

    source: Index
    target: Index
    piece: Index
    level: Index

    @classmethod
    def forwards(cls, table: Substrings, chosen: Mask) -> "Arcs":
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
        return cls._made(source, target, table.place.ravel()[hit].astype(np.intp), trie.level)

    @classmethod
    def backwards(cls, table: Substrings, word_arcs: WordArcs) -> "Arcs":
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
        return cls._made(
            source.astype(np.intp), target, piece.astype(np.intp), table.suffixes.level
        )

    @classmethod
    def _made(cls, source: Index, target: Index, piece: Index, level: Index) -> "Arcs":
        arcs = cls.__new__(cls)
        arcs.source, arcs.target, arcs.piece, arcs.level = source, target, piece, level
        arcs._start = np.flatnonzero(run_starts(target))  # entry n - 1: first arc into node n
        arcs._first = np.append(arcs._start, len(target))[level[1:] - 1]
        return arcs

    _start: Index
    _first: Index

    def __len__(self) -> int:
        return len(self.source)

    @property
    def nodes(self) -> int:
        """Number of nodes, the root included."""
        return int(self.level[-1])

    def only(self, chosen: Mask) -> "Arcs":
        """The arcs of fewer pieces."""
        kept = chosen[self.piece]
        return Arcs._made(self.source[kept], self.target[kept], self.piece[kept], self.level)

    def _steps(self) -> list[tuple[slice, slice, Index]]:
        """Per depth, shallow first: its nodes, the arcs into them, and where each node's begin."""
        steps = []
        for depth in range(1, len(self.level) - 1):
            nodes = slice(int(self.level[depth]), int(self.level[depth + 1]))
            arcs = slice(int(self._first[depth - 1]), int(self._first[depth]))
            starts = self._start[nodes.start - 1 : nodes.stop - 1] - arcs.start
            steps.append((nodes, arcs, starts))
        return steps

    def cheapest(self, cost: Float) -> tuple[Float, Index]:
        """Cheapest cost of every node from the root, and the last arc of that path, (nodes,) both.

        ``cost`` is that of every piece, in nats.  Among equals it is the arc of the longest piece;
        0 for the root.
        """
        potential = np.zeros(self.nodes)
        value = cost[self.piece]
        for nodes, arcs, starts in self._steps():
            value[arcs] += potential[self.source[arcs]]
            potential[nodes] = np.minimum.reduceat(value[arcs], starts)
        hit = np.flatnonzero(value == potential[self.target])
        arc = np.zeros(self.nodes, dtype=np.intp)
        arc[self.target[hit[::-1]]] = hit[::-1]  # the last write is the first arc: the longest
        return potential, arc

    def usage(self, arc: Index, end_weight: Float, pieces: int) -> Float:
        """How often each piece lies on the paths of `cheapest`, (pieces,) float array.

        The weights of the words flow from their end nodes back to the root, once per shared node.
        """
        flow = end_weight.copy()
        for nodes, low, _ in self._upward():
            used = arc[nodes]
            back = tally(self.source[used] - low, flow[nodes])
            flow[low : low + len(back)] += back
        return tally(self.piece[arc[1:]], flow[1:], pieces)

    def total(self, arc_weight: Float) -> Float:
        """Sum over all paths from the root to each node of the product of their arc weights."""
        amount = np.zeros(self.nodes)
        amount[0] = 1.0
        for nodes, arcs, starts in self._steps():
            part = amount[self.source[arcs]]
            part *= arc_weight[arcs]
            amount[nodes] = np.add.reduceat(part, starts)
        return amount

    def total_derivative(self, arc_weight: Float, seed: Float) -> Float:
        """Derivative of ``seed @ total`` by the amount that enters each node, (nodes,)."""
        gradient = seed.copy()
        for _, low, arcs in self._upward():
            source = self.source[arcs] - low
            back = tally(source, arc_weight[arcs] * gradient[self.target[arcs]])
            gradient[low : low + len(back)] += back
        return gradient

    def _upward(self) -> list[tuple[slice, int, slice]]:
        """Per depth, deep first: its nodes, the smallest source of their arcs, and the arcs."""
        return [
            (nodes, int(self.source[arcs].min()), arcs) for nodes, arcs, _ in self._steps()[::-1]
        ]


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
