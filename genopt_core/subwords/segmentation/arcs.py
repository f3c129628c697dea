"""Arcs between the nodes of a trie, and sweeps over them: cheapest paths, and what lies on them."""

import itertools
from functools import cached_property

import numpy as np

from genopt_core.subwords.segmentation.arrays import Float, Index, Mask, Small, run_starts, tally

Step = tuple[slice | Index, slice]
"""Nodes of one depth that have arcs, and the arcs into them."""


class Arcs:
    """Arcs by target node, longest piece first: those into one node are a run.

    Attributes
    ----------
    source, target, piece : (arcs,) int arrays
        Nodes and number of the piece.
    level : (depths + 1,) int array
        Nodes ``level[d]`` to ``level[d + 1] - 1`` lie d characters from the root.
    """

    def __init__(
        self, source: Index | Small, target: Index | Small, piece: Index | Small, level: Index
    ) -> None:
        self.source, self.target, self.piece, self.level = source, target, piece, level

    @property
    def nodes(self) -> int:
        """Number of nodes, the root included."""
        return int(self.level[-1])

    def only(self, chosen: Mask) -> "Arcs":
        """The arcs of fewer pieces."""
        kept = np.flatnonzero(chosen[self.piece])
        source, target, piece = (
            part[kept].astype(np.intp, copy=False)
            for part in (self.source, self.target, self.piece)
        )
        return Arcs(source, target, piece, self.level)

    @cached_property
    def _steps(self) -> list[Step]:
        """Per depth, shallow first."""
        steps: list[Step] = []
        has_arcs = np.zeros(self.nodes, dtype=bool)
        has_arcs[self.target] = True
        node = np.flatnonzero(has_arcs)
        rows = np.searchsorted(node, self.level).tolist()
        ends = np.searchsorted(self.target, self.level).tolist()
        for depth, nodes in enumerate(itertools.pairwise(self.level.tolist())):
            (first, last), arcs = rows[depth : depth + 2], slice(*ends[depth : depth + 2])
            if first < last:
                all_have = last - first == nodes[1] - nodes[0]  # and a slice is faster
                steps.append((slice(*nodes) if all_have else node[first:last], arcs))
        return steps

    def _upward(self) -> list[tuple[slice | Index, int, slice]]:
        """Per depth, deep first: its nodes, the smallest source of their arcs, and the arcs."""
        return [(nodes, int(self.source[arcs].min()), arcs) for nodes, arcs in self._steps[::-1]]

    def cheapest(self, cost: Float) -> tuple[Float, Index]:
        """Cheapest cost of every node from the root, and the last arc of that path, (nodes,) both.

        ``cost`` is that of every piece, in nats.  Among equals it is the arc of the longest piece.
        A node that has no path is infinite, and its arc means nothing.
        """
        potential = np.full(self.nodes, np.inf)
        potential[0] = 0.0
        last = np.zeros(self.nodes, dtype=np.intp)
        for _, arcs in self._steps:  # `take` and `minimum.at` are faster than brackets and reduceat
            value = cost.take(self.piece[arcs])
            value += potential.take(self.source[arcs])
            np.minimum.at(potential, self.target[arcs], value)
            self._attaining(last, potential, value, arcs)
        return potential, last

    def one_more(self, potential: Float, cost: Float) -> tuple[Float, Index]:
        """As `cheapest`, of paths with one arc more than those that have these costs."""
        value = potential[self.source] + cost[self.piece]
        best, last = np.full(self.nodes, np.inf), np.zeros(self.nodes, dtype=np.intp)
        np.minimum.at(best, self.target, value)
        self._attaining(last, best, value, slice(0, len(value)))
        return best, last

    def _attaining(self, last: Index, best: Float, value: Float, arcs: slice) -> None:
        """Sets ``last`` of each node to the first arc with the best value, the longest piece."""
        target = self.target[arcs]
        hit = np.flatnonzero(value == best.take(target))[::-1]
        last[target.take(hit)] = hit + arcs.start  # the last write is the first arc

    def usage(self, arc: Index, end_weight: Float, pieces: int) -> Float:
        """How often each piece lies on the paths of `cheapest`, (pieces,) float array.

        The weights of the words flow from their end nodes back to the root, once per shared node.
        """
        flow = end_weight.copy()
        for nodes, low, _ in self._upward():
            back = tally(self.source[arc[nodes]] - low, flow[nodes])
            flow[low : low + len(back)] += back
        return tally(self.piece[arc[1:]], flow[1:], pieces) if len(self.piece) else np.zeros(pieces)

    def total(self, arc_weight: Float) -> Float:
        """Sum over all paths from the root to each node of the product of their arc weights."""
        amount = np.zeros(self.nodes)
        amount[0] = 1.0
        for nodes, arcs in self._steps:
            part = amount[self.source[arcs]]
            part *= arc_weight[arcs]
            amount[nodes] = np.add.reduceat(part, np.flatnonzero(run_starts(self.target[arcs])))
        return amount

    def total_derivative(self, arc_weight: Float, seed: Float) -> Float:
        """Derivative of ``seed @ total`` by the amount that enters each node, (nodes,)."""
        gradient = seed.copy()
        for _, low, arcs in self._upward():
            source = self.source[arcs] - low
            back = tally(source, arc_weight[arcs] * gradient[self.target[arcs]])
            gradient[low : low + len(back)] += back
        return gradient
