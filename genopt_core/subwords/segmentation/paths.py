"""Cheapest segmentation of one word, in the plain form in which the algorithms are usually written.

`shortest_path` limits the number of pieces and needs one layer of costs per piece;
`viterbi_path` has no limit and needs one pass; `greedy_path` and `one_pass_path` are what goes
wrong when one saves that work.  The same answers for a whole corpus at once are in
`genopt_core.subwords.segmentation.corpus`.
"""

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args, overload

import numpy as np

from genopt_core.checks import one_of, whole
from genopt_core.subwords.segmentation.arrays import Float
from genopt_core.subwords.segmentation.costs import check_costs, check_limit, check_word
from genopt_core.subwords.segmentation.lattice import Arc, word_arcs

UNKNOWN = "<unk>"
"""Stands for one character that no piece covers."""

UNKNOWN_EXTRA = 10.0
"""Nats that an unknown character costs above the costliest piece (SentencePiece's choice)."""

IfInfeasible = Literal["report", "raise_limit", "unknown"]


@dataclass(frozen=True)
class Path(Sequence[str]):
    """One segmentation of a word, and a sequence of its pieces, as a tuple of strings is one.

    ``len``, loops, places, slices, ``in``, ``index``, ``join`` and patterns work.  Equal are paths
    that also cost the same; compare ``path.pieces`` with a tuple of strings.

    Attributes
    ----------
    pieces : tuple of str
        From left to right; empty if the word has no path.
    cuts : tuple of int
        The nodes visited, 0 to ``len(word)``; empty without a path.
    cost : float
        In nats, summed from left to right; infinite without a path.
    limit : int or None
        The step limit it was found under, after raising it where that was asked for.

    Examples
    --------
    >>> path = shortest_path("lower", {"low": 1.0, "er": 2.0, "lo": 1.0, "wer": 3.0})
    >>> len(path), list(path), path[0], path[-1:], "/".join(path), path.index("er")
    (2, ['low', 'er'], 'low', ('er',), 'low/er', 1)
    >>> list(Path.along("lower", [0, 3, 5], cost=3.0))
    ['low', 'er']
    """

    pieces: tuple[str, ...]
    cuts: tuple[int, ...]
    cost: float
    limit: int | None = None

    @classmethod
    def along(cls, word: str, cuts: Sequence[int], cost: float, limit: int | None = None) -> "Path":
        """The path that visits these nodes of a word."""
        pieces = tuple(word[i:j] for i, j in itertools.pairwise(cuts))
        return cls(pieces, tuple(cuts), cost, limit)

    def __len__(self) -> int:
        return len(self.pieces)

    def __iter__(self) -> Iterator[str]:
        return iter(self.pieces)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[str, ...]: ...
    def __getitem__(self, index: int | slice) -> str | tuple[str, ...]:
        return self.pieces[index]

    @property
    def steps(self) -> int:
        """Number of pieces."""
        return len(self.pieces)

    @property
    def feasible(self) -> bool:
        """Whether the word has a path at all."""
        return self.cost < math.inf


def shortest_path(
    word: str,
    costs: Mapping[str, float],
    k: int | None = None,
    *,
    if_infeasible: IfInfeasible = "report",
) -> Path:
    r"""Cheapest segmentation of a word with at most k pieces (k-step Bellman-Ford).

    .. math:: D^{(t)}(j) = \min_{i<j} \{ D^{(t-1)}(i) + c_{ij} \}, \qquad
              \text{answer } \min_{1 \le t \le k} D^{(t)}(n)

    with :math:`D^{(t)}(j)` the least cost of the first :math:`j` characters with exactly :math:`t`
    pieces (book, eq. swe-bellman); it solves (book, eq. swe-cost) to (book, eq. swe-binary), the
    step limit (book, eq. swe-limit) included.  Among segmentations of equal cost it is the one with
    fewest pieces, and among those the one whose last piece is longest, then the last but one, and
    so on.  O(min(k, n) * arcs) time, O(min(k, n) * n) memory.

    Parameters
    ----------
    word : str
        End-of-word symbol included.  The empty word has the empty path, at cost 0.
    costs : mapping of str to float
        Piece to cost in nats, at least 0; infinite means that the piece is absent.
    k : int, optional
        Most pieces allowed; without it, as many as the word has characters.
    if_infeasible : {"report", "raise_limit", "unknown"}
        What to do when k pieces do not suffice.  ``"report"``: return a path of infinite cost.
        ``"raise_limit"``: allow as many pieces as there are characters.  ``"unknown"``: that,
        and if there is still no path let each character without a piece of its own be ``<unk>``,
        at 10 nats more than the costliest piece.

    References
    ----------
    R. Bellman, On a routing problem, Quarterly of Applied Mathematics 16 (1958); the use for
    sub-words follows arXiv 2410.18441.

    Examples
    --------
    >>> costs = {"a": 1.0, "b": 1.0, "c": 1.0, "ab": 3.0}
    >>> shortest_path("abc", costs).pieces
    ('a', 'b', 'c')
    >>> shortest_path("abc", costs, k=2)
    Path(pieces=('ab', 'c'), cuts=(0, 2, 3), cost=4.0, limit=2)
    >>> shortest_path("abc", costs, k=1).feasible
    False
    """
    k = check_limit(k)
    one_of(if_infeasible, "if_infeasible", get_args(IfInfeasible))
    arcs = word_arcs(word, costs)
    n = len(word)
    if n == 0:
        return Path((), (0,), 0.0, k)
    path = _cheapest_within(n, arcs, n if k is None else k)
    if not path.feasible and if_infeasible != "report":
        path = _cheapest_within(n, arcs, n)
        if not path.feasible and if_infeasible == "unknown":
            unknown = max(cost for cost in costs.values() if cost < math.inf) + UNKNOWN_EXTRA
            single = {arc.start for arc in arcs if arc.end - arc.start == 1}
            arcs += [Arc(m, m + 1, UNKNOWN, unknown) for m in range(n) if m not in single]
            path = _cheapest_within(n, arcs, n)
    return path


def exact_step_costs(word: str, costs: Mapping[str, float], k: int) -> Float:
    r"""Cheapest cost of a word with exactly 1, 2, ..., k pieces; infinite where there is none.

    .. math:: \big( D^{(1)}(n), \dots, D^{(k)}(n) \big)

    (book, eq. swe-bellman).  The best with at most t pieces is the running minimum.

    Arguments as in `shortest_path`, the word not being empty; returns a (k,) float array, in nats.

    >>> exact_step_costs("abc", {"a": 1.0, "b": 1.0, "c": 1.0, "ab": 3.0}, 4).tolist()
    [inf, 4.0, 3.0, inf]
    """
    k = whole(k, "k")
    arcs = word_arcs(word, costs)
    if not word:
        raise ValueError("word is empty; it has no path of 1 or more pieces")
    layers, _ = _layers(len(word), arcs, k)
    return np.array([layer[-1] for layer in layers[1:]])


def viterbi_path(word: str, costs: Mapping[str, float]) -> Path:
    r"""Cheapest segmentation of a word without a limit on the number of pieces, in one pass.

    .. math:: D(j) = \min_{i<j} \{ D(i) + c_{ij} \}

    The arcs only lead to the right, so each node is final before it is used: the step limit is
    the only reason for the layers of (book, eq. swe-bellman).  O(arcs) time; the cost is that of
    ``shortest_path(word, costs)`` to the last bit.  Among equal costs it is the path whose last
    piece is longest, then the last but one, and so on, whatever the number of pieces (the rule of
    Hugging Face's Unigram model).

    >>> viterbi_path("abc", {"a": 1.0, "b": 1.0, "c": 1.0, "ab": 3.0}).cost
    3.0
    """
    n = len(word) if isinstance(word, str) else 0
    best, parent = [0.0] + [math.inf] * n, [-1] * (n + 1)
    for start, end, _, cost in word_arcs(word, costs):
        if best[start] + cost < best[end]:
            best[end], parent[end] = best[start] + cost, start
    if best[n] == math.inf:
        return Path((), (), math.inf)
    cuts = [n]
    while cuts[-1] > 0:
        cuts.append(parent[cuts[-1]])
    return Path.along(word, cuts[::-1], best[n])


def greedy_path(word: str, costs: Mapping[str, float]) -> Path:
    """Longest match first: at each place the longest piece that fits, never taken back.

    The rule WordPiece tokenizers use.  It does not look at the costs, so it is not the cheapest,
    and it may run into a place where no piece fits although the word has a path; it then
    reports a path of infinite cost.

    >>> costs = {"a": 1.0, "b": 1.0, "c": 1.0, "ab": 3.0, "bc": 1.0}
    >>> greedy_path("abc", costs).pieces, viterbi_path("abc", costs).pieces
    (('ab', 'c'), ('a', 'bc'))
    """
    check_word(word)
    return greedy_paths([word], costs)[0]


def greedy_paths(words: Iterable[str], costs: Mapping[str, float]) -> list[Path]:
    """`greedy_path` of several words, one after the other, the costs being checked only once.

    >>> [path.pieces for path in greedy_paths(["ab", "ba"], {"a": 1.0, "b": 1.0, "ab": 1.0})]
    [('ab',), ('b', 'a')]
    """
    check_costs(costs)
    longest = max(map(len, costs))
    paths = []
    for word in words:
        check_word(word)
        cuts, total = [0], 0.0
        while cuts[-1] < len(word):
            start = cuts[-1]
            for end in range(min(start + longest, len(word)), start, -1):
                cost = costs.get(word[start:end], math.inf)
                if cost < math.inf:
                    cuts.append(end)
                    total += cost
                    break
            else:
                break  # no piece fits here
        done = cuts[-1] == len(word)
        paths.append(Path.along(word, cuts, total) if done else Path((), (), math.inf))
    return paths


def one_pass_path(word: str, costs: Mapping[str, float], k: int) -> Path:
    """What one left-to-right pass finds within k pieces: not always the best, sometimes nothing.

    It keeps the cheapest path to each node together with its number of pieces, and does not extend
    a path that has used up its k.  So a cheap path with many pieces hides a costlier one with few,
    which the rest of the word would have needed.  `shortest_path` keeps one best path per node
    *and number of pieces* (book, eq. swe-bellman) and has no such blind spot.

    Three characters and k = 2 are the smallest case, the one below: with one or two characters
    no two paths meet before the end of the word.

    >>> costs = {"a": 1.0, "b": 1.0, "c": 1.0, "ab": 3.0}
    >>> one_pass_path("abc", costs, 2).feasible, shortest_path("abc", costs, 2).pieces
    (False, ('ab', 'c'))
    """
    k = whole(k, "k")
    arcs = word_arcs(word, costs)
    n = len(word)
    label: list[tuple[float, tuple[int, ...]]] = [(0.0, (0,))] + [(math.inf, ())] * n
    for start, end, _, cost in arcs:
        value, cuts = label[start]
        if 0 < len(cuts) <= k and value + cost < label[end][0]:
            label[end] = (value + cost, (*cuts, end))
    cost, cuts = label[n]
    return Path.along(word, cuts, cost, k)


def _layers(n: int, arcs: list[Arc], k: int) -> tuple[list[list[float]], list[list[int]]]:
    """Cost and parent of every node for exactly 0, 1, ..., k pieces."""
    layers, parents = [[0.0] + [math.inf] * n], [[-1] * (n + 1)]
    for _ in range(k):
        before, layer, parent = layers[-1], [math.inf] * (n + 1), [-1] * (n + 1)
        for start, end, _, cost in arcs:
            # Strictly less: among equals the first arc stays, and that is the longest piece.
            if before[start] + cost < layer[end]:
                layer[end], parent[end] = before[start] + cost, start
        layers.append(layer)
        parents.append(parent)
    return layers, parents


def _cheapest_within(n: int, arcs: list[Arc], k: int) -> Path:
    k_used = min(k, n)
    layers, parents = _layers(n, arcs, k_used)
    t = min(range(1, k_used + 1), key=lambda t: layers[t][n])  # the first of equals: fewest
    cost = layers[t][n]
    if cost == math.inf:
        return Path((), (), math.inf, k)
    cuts = [n]
    for step in range(t, 0, -1):
        cuts.append(parents[step][cuts[-1]])
    cuts.reverse()
    piece = {(arc.start, arc.end): arc.piece for arc in arcs}
    return Path(tuple(piece[edge] for edge in itertools.pairwise(cuts)), tuple(cuts), cost, k)
