r"""More than the one best segmentation of a word: the n best, the sum over all, and a random one.

All three run over the arcs of the word's lattice from left to right, as `viterbi_path` does, and
differ in what they keep at a node: the n least costs, the sum of all probabilities, or that sum and
a draw on the way back.  A limit of k pieces adds the layers of `shortest_path`.
"""

import bisect
import itertools
import math
from collections.abc import Mapping

import numpy as np

from genopt_core.checks import real, whole
from genopt_core.subwords.segmentation.costs import check_limit
from genopt_core.subwords.segmentation.lattice import Arc, word_arcs
from genopt_core.subwords.segmentation.paths import Path

# The way back from a node as a linked list: (this node, the way back from the node before).
Way = tuple[int, "Way | None"]

LEAST_TEMPERATURE = 1e-6
"""Below it costs divided by the temperature lose their digits; the best path is then meant."""


def n_best_paths(word: str, costs: Mapping[str, float], n: int, k: int | None = None) -> list[Path]:
    """The n cheapest segmentations of a word, or all, with at most k pieces if k is given.

    Keeps the n least costs at each node instead of the least one (book, eq. swe-bellman).
    Arguments are those of `shortest_path`.

    They come by rising cost; with k, among equals the one with fewest pieces first; then the one
    whose last piece is longest, and if that is the same piece, by the same rule for what is before
    it.  The first is that of `viterbi_path` (without k) or `shortest_path` (with k).  O(n arcs log)
    time and O(n characters) memory, k times that with a limit.

    >>> costs = {"a": 1.0, "b": 1.0, "c": 1.0, "ab": 3.0, "bc": 2.5}
    >>> for path in n_best_paths("abc", costs, 9):
    ...     print(path.cost, *path.pieces)
    3.0 a b c
    3.5 a bc
    4.0 ab c
    >>> [path.pieces for path in n_best_paths("abc", costs, 1, k=2)]
    [('a', 'bc')]
    """
    count, limit = whole(n, "n"), check_limit(k)
    if word == "":
        return [Path((), (0,), 0.0, limit)]
    arcs = word_arcs(word, costs)
    size = len(word)
    before: list[list[tuple[float, Way]]] = [[] for _ in range(size + 1)]
    before[0].append((0.0, (0, None)))
    found: list[tuple[float, Way]] = []
    for _ in range(1 if limit is None else min(limit, size)):
        # Without a limit one layer is enough: it is read from and written to at once.
        after = before if limit is None else [[] for _ in range(size + 1)]
        for end, into in itertools.groupby(arcs, key=lambda arc: arc.end):
            candidates: list[tuple[float, Way]] = [
                (cost + arc.cost, (end, way)) for arc in into for cost, way in before[arc.start]
            ]
            candidates.sort(key=lambda item: item[0])  # stable: equals stay longest piece first
            after[end] = candidates[:count]
        found += after[size]
        before = after
    found.sort(key=lambda item: item[0])
    return [Path.along(word, _cuts(way), cost, limit) for cost, way in found[:count]]


def log_marginal(word: str, costs: Mapping[str, float], k: int | None = None) -> float:
    r"""Log of the sum of the probabilities of all segmentations of a word, in nats.

    .. math:: \ln P(w) = \ln \sum_{\text{paths } x} \exp\Big( -\sum_{(i,j)} c_{ij} x_{ij} \Big),
              \qquad A(j) = \ln \sum_{i<j} \exp( A(i) - c_{ij} ), \quad \ln P(w) = A(n)

    (book, eq. swe-marginal): (book, eq. swe-bellman) with a sum in the place of the minimum.

    Minus infinity if the word has no path; at least minus the cost of the best path.

    >>> half = math.log(2)
    >>> math.exp(log_marginal("ab", {"a": half, "b": half, "ab": 2 * half}))
    0.5
    """
    limit = check_limit(k)
    if word == "":
        return 0.0
    return _log_sum([layer[-1] for layer in _forward(word, word_arcs(word, costs), limit)])


def sample_path(
    word: str,
    costs: Mapping[str, float],
    temperature: float,
    rng: np.random.Generator,
    k: int | None = None,
) -> Path:
    r"""A segmentation of a word drawn at random, cheaper ones more often.

    .. math:: P_T(x) \propto \exp\Big( -\tfrac1T \sum_{(i,j)} c_{ij} x_{ij} \Big)

    (book, eq. swe-sample), drawn exactly: the sums of (book, eq. swe-marginal) from left to right,
    then from the last node backwards one arc at a time, with probability
    :math:`\exp( A(i) - c_{ij}/T - A(j) )`.  The path has its cost at the given costs, infinite if
    the word has none.

    Parameters
    ----------
    word, costs, k
        As in `n_best_paths`.
    temperature : float
        At least 1e-6.  Towards 0 the best path is drawn always; at 1 each path has its share of
        the marginal likelihood; far above 1 all paths are equally likely.
    rng : numpy.random.Generator

    References
    ----------
    T. Kudo, arXiv 1804.10959 (sub-word regularization); forward filtering, backward sampling.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> costs = {"a": 1.0, "b": 1.0, "ab": 2.0}
    >>> draws = [sample_path("ab", costs, 1.0, rng).steps for _ in range(1000)]
    >>> 450 < draws.count(1) < 550  # both segmentations cost 2 nats
    True
    """
    limit = check_limit(k)
    if not isinstance(rng, np.random.Generator):
        raise TypeError(f"rng must be a numpy.random.Generator, got {type(rng).__name__}")
    if real(temperature, "temperature") < LEAST_TEMPERATURE:
        raise ValueError(f"temperature must be at least {LEAST_TEMPERATURE}, got {temperature!r}")
    if word == "":
        return Path((), (0,), 0.0, limit)
    arcs = [arc._replace(cost=arc.cost / temperature) for arc in word_arcs(word, costs)]
    layers = _forward(word, arcs, limit)
    into: list[list[Arc]] = [[] for _ in range(len(word) + 1)]
    for arc in arcs:
        into[arc.end].append(arc)
    node = len(word)
    step = 0 if limit is None else _draw([layer[node] for layer in layers], rng)
    if layers[step][node] == -math.inf:
        return Path((), (), math.inf, limit)
    way: list[Arc] = []
    while node > 0:
        step -= limit is not None
        choice = _draw([layers[step][arc.start] - arc.cost for arc in into[node]], rng)
        way.append(into[node][choice])
        node = way[-1].start
    total = 0.0
    for arc in reversed(way):  # not sum(), which rounds differently from version 3.12 on
        total += costs[arc.piece]
    return Path.along(word, [0, *(arc.end for arc in reversed(way))], total, limit)


def _forward(word: str, arcs: list[Arc], k: int | None) -> list[list[float]]:
    """Log-sum of every node: one layer without a limit, else one per number of pieces, 0 to k."""
    layers = [[0.0] + [-math.inf] * len(word)]
    for _ in range(1 if k is None else min(k, len(word))):
        before = layers[-1]
        after = before if k is None else [-math.inf] * (len(word) + 1)
        for end, into in itertools.groupby(arcs, key=lambda arc: arc.end):
            after[end] = _log_sum([before[arc.start] - arc.cost for arc in into])
        if k is not None:
            layers.append(after)
    return layers


def _log_sum(logs: list[float]) -> float:
    top = max(logs)
    if top == -math.inf:
        return top
    return top + math.log(math.fsum(math.exp(value - top) for value in logs))


def _draw(logs: list[float], rng: np.random.Generator) -> int:
    """An index, drawn with probability proportional to the exponential of its entry."""
    top = max(logs)
    if top == -math.inf:
        return 0
    cumulated = list(itertools.accumulate(math.exp(value - top) for value in logs))
    place = bisect.bisect_right(cumulated, rng.random() * cumulated[-1])
    return min(place, bisect.bisect_left(cumulated, cumulated[-1]))  # should the product round up


def _cuts(way: Way | None) -> list[int]:
    cuts: list[int] = []
    while way is not None:
        cuts.append(way[0])
        way = way[1]
    return cuts[::-1]
