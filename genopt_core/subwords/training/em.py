r"""Fitting the costs of given pieces to a corpus: over all segmentations (soft) or the best (hard).

`genopt_core.subwords.training.likelihood` is the textbook form of the second for one vocabulary;
these are its corpus-wide steps inside training, with a token penalty :math:`\lambda` on top.
"""

from dataclasses import dataclass

import numpy as np

from genopt_core.subwords.segmentation.arcs import Arcs
from genopt_core.subwords.segmentation.arrays import Float, Index, Mask, tally
from genopt_core.subwords.training.substrings import Substrings

LEAST_COUNT = 0.5
"""Rarer pieces cost as much as if they occurred this often: no cost is infinite."""


def code_length(counts: Float) -> float:
    r"""Nats to write the pieces of a corpus under the probabilities that suit it best.

    .. math:: F(c) = C \ln C - \sum_s c_s \ln c_s, \qquad C = \sum_s c_s

    The negative of (book, eq. swe-profile).

    >>> round(code_length(np.array([2.0, 2.0])), 6)  # four coin flips
    2.772589
    """
    return float(x_log_x(counts.sum())) - float(x_log_x(counts).sum())


def x_log_x(value: Float) -> Float:
    """Elementwise x ln x, continued by 0 at 0."""
    return value * np.log(np.maximum(value, 1e-300))


def expected_counts(arcs: Arcs, cost: Float, end_weight: Float) -> tuple[Float, float]:
    r"""How often each piece is used when every segmentation counts by its probability.

    .. math:: E_s = \sum_w f_w \sum_{(i,j)}
              \frac{\alpha_w(i)\, e^{-c_s}\, \beta_w(j)}{\alpha_w(n)}\, [s^w_{ij} = s]

    (book, eq. swe-em), with :math:`\alpha_w(i)` and :math:`\beta_w(j)` the summed probabilities of
    all segmentations of the characters before gap i and after gap j; and the log-likelihood
    :math:`\sum_w f_w \ln \alpha_w(n)`.  Costs and log-likelihood are in nats; ``end_weight``
    (nodes,) is how often each prefix occurs as a whole word, and the arcs lead forwards.

    With the cheapest costs D as potentials every arc weighs :math:`e^{D(i) + c - D(j)}`, at most 1,
    and every sum is at least 1 (the best path): neither overflow nor underflow for any word.
    """
    potential, _ = arcs.cheapest(cost)
    weight = potential[arcs.target]
    weight -= potential[arcs.source]
    weight -= cost[arcs.piece]
    np.exp(weight, out=weight)
    amount = arcs.total(weight)
    log_likelihood = float((end_weight * (np.log(amount) - potential)).sum())
    gradient = arcs.total_derivative(weight, end_weight / amount)
    weight *= amount[arcs.source]
    weight *= gradient[arcs.target]
    return tally(arcs.piece, weight, len(cost)), log_likelihood


def digamma(value: Float) -> Float:
    r"""Derivative of :math:`\ln \Gamma`, for arguments above 0.

    >>> bool(abs(digamma(np.array([1.0]))[0] + np.euler_gamma) < 1e-12)
    True
    """
    x = np.array(value, dtype=np.float64)
    result = np.zeros_like(x)
    while (low := x < 8).any():
        result[low] -= 1 / x[low]
        x[low] += 1
    inverse = 1 / (x * x)
    series = inverse * (
        1 / 12 - inverse * (1 / 120 - inverse * (1 / 252 - inverse * (1 / 240 - inverse / 132)))
    )
    return result + np.log(x) - 0.5 / x - series


def soft_step(
    table: Substrings, arcs: Arcs, chosen: Mask, cost: Float, length_cost: float
) -> tuple[Float, Mask]:
    r"""One round of EM over all segmentations; its variational M-step thins out rare pieces.

    .. math:: c_s \leftarrow \psi\Big(\sum_t E_t\Big) - \psi(E_s) + \lambda

    Returns the new costs, :math:`\lambda` included, and which pieces are left: those expected less
    than `LEAST_COUNT` times are dropped (characters never).  The digamma is that of T. Kudo, arXiv
    1804.10959, in sentencepiece.
    """
    expected, _ = expected_counts(arcs, cost, table.end_weight)
    left = chosen & ((expected >= LEAST_COUNT) | table.single)
    expected = np.maximum(expected, LEAST_COUNT)
    log_p = digamma(expected) - digamma(np.array([expected[left].sum()]))
    log_p -= np.log(np.exp(log_p[left]).sum())  # the digammas of shares do not quite sum to 1
    return length_cost - log_p, left


@dataclass(frozen=True)
class Segmentation:
    r"""The corpus cut along its cheapest paths at one set of costs.

    Attributes
    ----------
    cost : (substrings,) float array
        The costs that decided, :math:`\lambda` included, in nats.
    counts : (substrings,) float array
        How often each piece is used.
    potential, arc : (nodes,) arrays
        Cheapest cost and last arc of every prefix.
    objective : float
        :math:`F(c) + \lambda C` of these counts (book, eq. swe-tradeoff), in nats.
    """

    length_cost: float
    cost: Float
    counts: Float
    potential: Float
    arc: Index
    objective: float

    @property
    def tokens(self) -> float:
        """Pieces needed for the whole corpus."""
        return float(self.counts.sum())

    @property
    def nats(self) -> float:
        """Code length F of the corpus."""
        return code_length(self.counts)


def segment_all(table: Substrings, arcs: Arcs, cost: Float, length_cost: float) -> Segmentation:
    r"""Cheapest segmentations of all words, and the objective after the costs are refitted.

    .. math:: J(c) = F(c) + \lambda C

    (book, eq. swe-tradeoff): code length plus :math:`\lambda` nats per piece.  The paper has
    :math:`\lambda = 0`; :math:`\lambda` is this book's addition, and for large values J counts
    pieces.
    """
    potential, arc = arcs.cheapest(cost)
    counts = arcs.usage(arc, table.end_weight, len(table))
    objective = code_length(counts) + length_cost * float(counts.sum())
    return Segmentation(length_cost, cost, counts, potential, arc, objective)


def fitted_costs(counts: Float, length_cost: float) -> Float:
    r"""Cost of every piece after an M-step, :math:`\lambda - \ln(c_s / C)`, in nats.

    All the same where none was used, as of the characters of words that are pieces.
    """
    return length_cost - np.log(np.maximum(counts, LEAST_COUNT) / (counts.sum() or LEAST_COUNT))


def hard_em(
    table: Substrings,
    arcs: Arcs,
    counts: Float,
    length_cost: float,
    rounds: int,
    tolerance: float = 2e-5,
) -> Segmentation:
    """Best paths and refitted costs in turn, until the objective gains less than ``tolerance``.

    The alternation of `likelihood.hard_em_step`, from counts to counts; `tolerance` is relative.
    """
    before = np.inf
    for _ in range(rounds):
        state = segment_all(table, arcs, fitted_costs(counts, length_cost), length_cost)
        counts = state.counts
        if before - state.objective < tolerance * state.objective:
            break
        before = state.objective
    return state
