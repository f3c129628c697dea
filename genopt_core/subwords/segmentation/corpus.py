"""Cheapest segmentations of all words of a corpus at once, in NumPy sweeps over its lattice.

The recursions are those of `genopt_core.subwords.segmentation.paths`, and so are the sums (left to
right) and the rules for ties; only the order of the work differs.
"""

import itertools
from dataclasses import dataclass
from typing import Literal

import numpy as np

from genopt_core.checks import one_of, whole
from genopt_core.subwords.segmentation.arrays import Float, Index, Mask, tally
from genopt_core.subwords.segmentation.costs import check_limit
from genopt_core.subwords.segmentation.lattice import Lattice
from genopt_core.subwords.segmentation.paths import Path


@dataclass(frozen=True)
class CorpusPaths:
    """The cheapest segmentation of every word of a lattice.

    Attributes
    ----------
    lattice : Lattice
        Whose words, counts, pieces and costs these are.
    limit : int or None
        The step limit.
    cost : (words,) float array
        In nats; infinite for a word without a path.
    steps : (words,) int array
        Number of pieces; 0 for a word without a path.
    last_arc : (rows, nodes) int array
        Best arc into each node: one row without a limit, else row t - 1 for exactly t pieces.

    Examples
    --------
    >>> lattice = Lattice(["low▁"], {"l": 1.0, "o": 1.0, "w": 1.0, "low": 2.0, "▁": 1.0})
    >>> found = best_paths(lattice)
    >>> list(found.path("low▁")), found.cost.tolist(), found.steps.tolist()
    (['low', '▁'], [3.0], [2])
    """

    lattice: Lattice
    limit: int | None
    cost: Float
    steps: Index
    last_arc: Index

    @property
    def feasible(self) -> Mask:
        """Which words have a path, (words,) bool array."""
        return np.isfinite(self.cost)

    @property
    def infeasible_words(self) -> tuple[str, ...]:
        """The words that have no path within the limit."""
        return tuple(self.lattice.words[i] for i in np.flatnonzero(~self.feasible))

    def path(self, word: str) -> Path:
        """The segmentation of one word of the corpus."""
        lattice = self.lattice
        if word not in lattice.words:
            raise ValueError(f"word must be one of the {len(lattice.words)} words, got {word!r}")
        index = lattice.words.index(word)
        if not np.isfinite(self.cost[index]):
            return Path((), (), float("inf"), self.limit)
        node, step = lattice.end[index], int(self.steps[index])
        cuts = [len(word)]
        for row in range(step - 1, -1, -1):
            arc = self.last_arc[0 if self.limit is None else row, node]
            cuts.append(cuts[-1] - len(lattice.pieces[lattice.piece[arc]]))
            node = lattice.source[arc]
        return Path.along(word, cuts[::-1], float(self.cost[index]), self.limit)

    def piece_counts(self) -> Float:
        r"""How often each piece occurs in the segmented corpus, (pieces,) float array.

        .. math:: c_s = \sum_w f_w \sum_{(i,j)} x^w_{ij} [s^w_{ij} = s]

        (book, eq. swe-profile).  Words without a path count nothing.  Counts go back along the best
        arcs, once per shared prefix: O(nodes) without a limit, k times that with one.

        >>> lattice = Lattice({"ab": 3, "abc": 2}, {"a": 1, "b": 1, "c": 1, "ab": 1})
        >>> dict(zip(lattice.pieces, best_paths(lattice).piece_counts().tolist()))
        {'a': 0.0, 'b': 0.0, 'c': 2.0, 'ab': 5.0}
        """
        lattice, good, pieces = self.lattice, self.feasible, len(self.lattice.pieces)
        end, weight, step = lattice.end[good], lattice.counts[good], self.steps[good]
        if self.limit is None:
            return lattice.usage(self.last_arc[0], tally(end, weight, lattice.nodes), pieces)
        total, flow = np.zeros(pieces), np.zeros(lattice.nodes)
        for row in range(len(self.last_arc) - 1, -1, -1):
            ends_here = step == row + 1
            flow += tally(end[ends_here], weight[ends_here], lattice.nodes)
            used = np.flatnonzero(flow)
            arc = self.last_arc[row, used]
            total += tally(lattice.piece[arc], flow[used], pieces)
            flow = tally(lattice.source[arc], flow[used], lattice.nodes)
        return total


def best_paths(
    lattice: Lattice,
    k: int | None = None,
    *,
    if_infeasible: Literal["report", "raise_limit"] = "report",
) -> CorpusPaths:
    r"""Cheapest segmentation of every word, with at most k pieces if k is given.

    Without k one sweep from short to long prefixes (as `viterbi_path`); with k one sweep over all
    arcs per layer (as `shortest_path`),

    .. math:: D^{(t)}(j) = \min_{i<j} \{ D^{(t-1)}(i) + c_{ij} \}

    (book, eq. swe-bellman).  O(arcs) time and O(nodes) memory without k; k times that with k.

    Parameters
    ----------
    k : int, optional
        Most pieces allowed per word.
    if_infeasible : {"report", "raise_limit"}
        Whether a word that needs more than k pieces keeps an infinite cost, or gets as many
        pieces as it has characters.  An ``<unk>`` is put in by `shortest_path`, word by word.

    Examples
    --------
    >>> lattice = Lattice(["abc"], {"a": 1.0, "b": 1.0, "c": 1.0, "ab": 3.0})
    >>> best_paths(lattice).path("abc").pieces, best_paths(lattice, k=2).path("abc").pieces
    (('a', 'b', 'c'), ('ab', 'c'))
    >>> best_paths(lattice, k=1).infeasible_words
    ('abc',)
    """
    if not isinstance(lattice, Lattice):
        raise TypeError(f"lattice must be a Lattice, got {type(lattice).__name__}")
    k = check_limit(k)
    one_of(if_infeasible, "if_infeasible", ("report", "raise_limit"))
    if k is None:
        return _unlimited(lattice)

    longest = len(lattice.level) - 2
    layers, arcs = _layers(lattice, min(k, longest))
    best = np.argmin(layers, axis=0)  # the first of equals: fewest pieces
    if if_infeasible == "raise_limit" and k < longest:
        stuck = ~np.isfinite(layers.min(axis=0))
        if stuck.any():
            layers, arcs = _layers(lattice, longest)
            best = np.where(stuck, np.argmin(layers, axis=0), best)
    cost = np.take_along_axis(layers, best[None], axis=0)[0]
    return CorpusPaths(lattice, k, cost, np.where(np.isfinite(cost), best + 1, 0), arcs)


def exact_step_cost_table(lattice: Lattice, k: int) -> Float:
    r"""Cheapest cost of every word with exactly 1, 2, ..., k pieces; infinite where there is none.

    Row t - 1 of the (k, words) float array, in nats, holds :math:`D^{(t)}(n)` (book, eq.
    swe-bellman); the running minimum down the rows is the cost with at most t pieces.

    >>> lattice = Lattice(["ab", "abc"], {"a": 1.0, "b": 1.0, "c": 1.0, "ab": 3.0})
    >>> exact_step_cost_table(lattice, 3).tolist()
    [[3.0, inf], [2.0, 4.0], [inf, 3.0]]
    """
    if not isinstance(lattice, Lattice):
        raise TypeError(f"lattice must be a Lattice, got {type(lattice).__name__}")
    return _layers(lattice, whole(k, "k"))[0]


def _unlimited(lattice: Lattice) -> CorpusPaths:
    best, arc = lattice.cheapest(lattice.costs)
    steps = np.zeros(lattice.nodes, dtype=np.intp)  # from short to long prefixes
    for first, last in itertools.pairwise(lattice.level[1:].tolist()):
        here = first + np.flatnonzero(np.isfinite(best[first:last]))
        steps[here] = steps[lattice.source[arc[here]]] + 1
    return CorpusPaths(lattice, None, best[lattice.end], steps[lattice.end], arc[None])


def _layers(lattice: Lattice, k: int) -> tuple[Float, Index]:
    """Cost of every word (k, words) and best arc of every node (k, nodes) per number of pieces."""
    best = np.full(lattice.nodes, np.inf)
    best[0] = 0.0
    costs = np.full((k, len(lattice.words)), np.inf)
    arcs = np.zeros((k, lattice.nodes), dtype=np.intp)
    for t in range(k):
        best, arcs[t] = lattice.one_more(best, lattice.costs)
        costs[t] = best[lattice.end]
        if not np.isfinite(best).any():
            break  # no prefix has this many characters
    return costs, arcs
