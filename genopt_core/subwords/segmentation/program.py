"""The segmentation of one word as a linear program: flow through the lattice, or exact cover."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from genopt_core.subwords.segmentation.arrays import Float
from genopt_core.subwords.segmentation.lattice import Arc, word_arcs

Integer = NDArray[np.int64]


@dataclass(frozen=True)
class FlowProgram:
    """Minimize ``costs @ x`` over x in {0, 1} subject to ``flow @ x == supply``.

    Row m of ``cover`` is the sum of the rows 0 to m of ``flow``: the two systems have the same
    solutions.  The ones of each column of ``cover`` are consecutive, so the matrix is totally
    unimodular and 0 <= x <= 1 in place of x in {0, 1} (book, eq. swe-binary) changes nothing.
    The step limit, one more row of ones (book, eq. swe-limit), destroys that: see the example.

    Attributes
    ----------
    arcs : list of Arc
        One unknown each: whether the piece is used in this place.
    costs : (arcs,) float array
        In nats (book, eq. swe-cost).
    flow : (nodes, arcs) int array
        Incidence matrix: +1 where an arc leaves a node, -1 where it arrives.
    supply : (nodes,) int array
        +1 at the first node, -1 at the last (book, eq. swe-ends), 0 between (book, eq. swe-flow).
    cover : (characters, arcs) int array
        1 where the piece covers the character; ``cover @ x == 1`` says that every character is
        covered exactly once (book, eq. swe-cover).

    Examples
    --------
    With at most 2 pieces "abc" has one segmentation, itself, at 10 nats; half of it and half of the
    three letters satisfies everything but x in {0, 1} and costs 5.

    >>> program = flow_program("abc", {"a": 0.0, "b": 0.0, "c": 0.0, "abc": 10.0})
    >>> [arc.piece for arc in program.arcs]
    ['a', 'b', 'abc', 'c']
    >>> half = np.full(4, 0.5)
    >>> program.flow @ half == program.supply
    array([ True,  True,  True,  True])
    >>> float(half.sum()), float(program.costs @ half)
    (2.0, 5.0)
    """

    arcs: list[Arc]
    costs: Float
    flow: Integer
    supply: Integer
    cover: Integer


def flow_program(word: str, costs: Mapping[str, float]) -> FlowProgram:
    r"""The constraints (book, eq. swe-ends) and (book, eq. swe-flow) of one word as matrices.

    .. math:: \sum_j x_{0j} = 1, \quad \sum_i x_{in} = 1, \quad
              \sum_{i<m} x_{im} = \sum_{j>m} x_{mj} \;\; (0 < m < n)

    and, equivalently, the exact cover (book, eq. swe-cover)

    .. math:: \sum_{(i,j):\, i<m\le j} x_{ij} = 1 \quad (1 \le m \le n)

    Dense matrices: meant for reading and for small words of at least one character.

    >>> program = flow_program("ab", {"a": 1.0, "b": 1.0, "ab": 3.0})
    >>> program.flow.tolist(), program.supply.tolist()
    ([[1, 1, 0], [-1, 0, 1], [0, -1, -1]], [1, 0, -1])
    >>> program.cover.tolist()
    [[1, 1, 0], [0, 1, 1]]
    """
    arcs = word_arcs(word, costs)
    if not word:
        raise ValueError("word is empty; it needs at least one character")
    n = len(word)
    flow = np.zeros((n + 1, len(arcs)), dtype=np.int64)
    cover = np.zeros((n, len(arcs)), dtype=np.int64)
    for column, arc in enumerate(arcs):
        flow[arc.start, column] = 1
        flow[arc.end, column] = -1
        cover[arc.start : arc.end, column] = 1
    supply = np.zeros(n + 1, dtype=np.int64)
    supply[0], supply[-1] = 1, -1
    return FlowProgram(arcs, np.array([arc.cost for arc in arcs]), flow, supply, cover)
