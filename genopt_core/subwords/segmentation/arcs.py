"""Arcs between the nodes of a trie, and sweeps over them: cheapest paths, and what lies on them."""

from functools import cached_property

import numpy as np

from genopt_core.subwords.segmentation.arrays import Float, Index, Mask, run_starts, tally

Step = tuple[slice | Index, slice, Index]
"""Nodes of one depth that have arcs, the arcs into them, and where those of each node begin."""


class Arcs:
    """Arcs by target node, longest piece first: those into one node are a run.

    Attributes
    ----------
    source, target, piece : (arcs,) int arrays
        Nodes and number of the piece.
    level : (depths + 1,) int array
        Nodes ``level[d]`` to ``level[d + 1] - 1`` lie d characters from the root.
    """

    def __init__(self, source: Index, target: Index, piece: Index, level: Index) -> None:
        self.source, self.target, self.piece, self.level = source, target, piece, level
        self._start = np.flatnonzero(run_starts(target))
        self._node = target[self._start]

    @property
    def nodes(self) -> int:
        """Number of nodes, the root included."""
        return int(self.level[-1])

    def only(self, chosen: Mask) -> "Arcs":
        """The arcs of fewer pieces."""
        kept = chosen[self.piece]
        return Arcs(self.source[kept], self.target[kept], self.piece[kept], self.level)

    @cached_property
    def _steps(self) -> list[Step]:
        """Per depth, shallow first."""
        steps: list[Step] = []
        rows = np.searchsorted(self._node, self.level)
        ends = np.append(self._start, len(self.target))
        for depth in range(1, len(self.level) - 1):
            first, last = rows[depth], rows[depth + 1]
            arcs = slice(int(ends[first]), int(ends[last]))
            nodes = slice(int(self.level[depth]), int(self.level[depth + 1]))
            if first < last:
                all_have = last - first == nodes.stop - nodes.start  # and a slice is faster
                here = nodes if all_have else self._node[first:last]
                steps.append((here, arcs, self._start[first:last] - arcs.start))
        return steps

    def _upward(self) -> list[tuple[slice | Index, int, slice]]:
        """Per depth, deep first: its nodes, the smallest source of their arcs, and the arcs."""
        return [(nodes, int(self.source[arcs].min()), arcs) for nodes, arcs, _ in self._steps[::-1]]

    def cheapest(self, cost: Float) -> tuple[Float, Index]:
        """Cheapest cost of every node from the root, and the last arc of that path, (nodes,) both.

        ``cost`` is that of every piece, in nats.  Among equals it is the arc of the longest piece.
        A node that has no path is infinite, and its arc means nothing.
        """
        potential = np.full(self.nodes, np.inf)
        potential[0] = 0.0
        value = cost[self.piece]
        for nodes, arcs, starts in self._steps:
            value[arcs] += potential[self.source[arcs]]
            potential[nodes] = np.minimum.reduceat(value[arcs], starts)
        return potential, self._attaining(value, potential)

    def one_more(self, potential: Float, cost: Float) -> tuple[Float, Index]:
        """As `cheapest`, of paths with one arc more than those that have these costs."""
        value = potential[self.source] + cost[self.piece]
        best = np.full(self.nodes, np.inf)
        if len(value):
            best[self._node] = np.minimum.reduceat(value, self._start)
        return best, self._attaining(value, best)

    def _attaining(self, value: Float, best: Float) -> Index:
        """Per node the first arc that has the best value: that of the longest piece."""
        hit = np.flatnonzero(value == best[self.target])[::-1]
        arc = np.zeros(self.nodes, dtype=np.intp)
        arc[self.target[hit]] = hit  # the last write is the first arc
        return arc

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
        for nodes, arcs, starts in self._steps:
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
