r"""Local search over vocabularies of one size: put promising pieces in, take the worst out, keep
the better of the two.

Choosing the vocabulary is NP-hard, whichever objective; pruning alone only ever removes.  A
substring that is absent can be judged from two sweeps (`insertion_gains`), all of them at once.
"""

from collections.abc import Iterator

import numpy as np

from genopt_core.subwords.segmentation.arrays import Float, rounded, tally
from genopt_core.subwords.training.arcs import Pieces
from genopt_core.subwords.training.em import Segmentation, hard_em
from genopt_core.subwords.training.pruning import pruned, removal_losses, suspected

FALL = 0.9
"""A piece whose count fell below this share of what it was may have lost its use."""


def insertion_gains(pieces: Pieces, state: Segmentation) -> tuple[Float, Float]:
    r"""Estimated gain of adding each absent substring alone, and how often it would be used.

    .. math:: G_t = \sum_{e} f_w \big(a_e - \lambda + \ln (n_t / C)\big)^+, \qquad
              a_e = \pi_w - D_w(i) - B_w(j)

    (book, eq. swe-insertion): at the occurrence e = (i, j) of t in word w, :math:`a_e` is the
    highest cost at which the best segmentation would take t there, :math:`\pi_w` being the cheapest
    cost of the word, D and B those before gap i and after gap j.  The number of uses :math:`n_t =
    \sum_e f_w [a_e > \lambda - \ln(n_t / C)]` is found by two rounds of substitution, from all
    occurrences downwards.  Gains are in nats; both are 0 for the pieces already there.

    An estimate: the counts of the pieces it displaces are not refitted, and occurrences of t in
    one word count independently.  It only decides what is tried.
    """
    table = pieces.table
    suffix_cost, _ = pieces.backwards.cheapest(state.cost)
    before = state.potential.take(table.prefix_of)
    room = state.potential[table.prefixes.end].take(table.word_of)
    room -= suffix_cost.take(table.suffix_of)
    weight = table.weight.take(table.word_of)
    absent, log_total = ~pieces.chosen, np.log(state.tokens)
    gain, uses = np.zeros(len(table)), np.zeros(len(table))
    for length, (gap, number) in enumerate(table.word_arcs, start=1):
        if length == 1 or not len(number):
            continue
        # Numbers ascend by length, so those of one length are a range.
        first, size = int(number.min()), int(number.max()) + 1 - int(number.min())
        new = np.flatnonzero(absent[number])
        gap, number = gap[new], number[new] - first
        afford = room.take(gap) - before.take(gap - length)
        count: Float = table.count[first : first + size]
        for _ in range(3):
            cost = state.length_cost + log_total - np.log(np.maximum(count, 1e-9))
            surplus = afford - cost.take(number)
            taken = np.flatnonzero(surplus > 0)
            afford, surplus = afford[taken], surplus[taken]
            number, gap = number[taken], gap[taken]
            occurs = weight.take(gap)
            count = tally(number, occurs, size)
        here = slice(first, first + size)
        uses[here] = count
        gain[here] = tally(number, occurs * surplus, size)
    gain[uses <= 1] = 0.0
    return gain, uses


def local_search(
    pieces: Pieces, state: Segmentation, rounds: int, share: float, cuts: int
) -> Iterator[tuple[Pieces, Segmentation, bool]]:
    """Vocabularies of the same size, one a round, and whether each is better than all before it.

    Each round adds the ``share`` of the vocabulary with the largest insertion gains, refits, prunes
    back to size in ``cuts`` cuts with refits in between, and goes on from the result if the
    objective is lower.  The share shrinks by a fifth after a success, by half otherwise.
    """
    table, size = pieces.table, len(pieces)
    loss = removal_losses(pieces, state)
    gain, uses = insertion_gains(pieces, state)
    pieces.forget()
    for _ in range(rounds):
        wanted = int(share * size)
        order = np.lexsort((np.arange(len(table)), -table.count, -rounded(gain)))
        new = order[:wanted]
        new = new[gain[new] > 0]
        if not len(new):
            break
        chosen, counts, known = pieces.chosen.copy(), state.counts.copy(), loss.copy()
        chosen[new], counts[new], known[new] = True, uses[new], -np.inf
        trial, result, known = prune_to_size(
            Pieces(table, chosen), counts, known, size, -(-len(new) // cuts), state.length_cost
        )
        better = result.objective < state.objective * (1 - 2e-6)
        yield trial, result, better
        if better:
            pieces, state, loss = trial, result, known
            gain, uses = insertion_gains(pieces, state)
        share *= 0.8 if better else 0.5
        trial.forget()


def prune_to_size(
    pieces: Pieces,
    counts: Float,
    known: Float,
    size: int,
    step: int,
    length_cost: float,
    settle: int = 5,
) -> tuple[Pieces, Segmentation, Float]:
    """Prune to ``size`` pieces, at most ``step`` at a time, with hard EM before and after each.

    ``counts`` are those to start from, ``known`` the losses as far as they are known, else -inf;
    ``settle`` is the most rounds of hard EM at the end.  Returns pieces, their segmentation, and
    the losses known now.
    """
    table = pieces.table
    state = hard_em(table, pieces.forwards, counts, length_cost, 3)
    while len(pieces) > size:
        left = max(size, len(pieces) - step)
        known = np.where(state.counts < FALL * counts, -np.inf, known)
        asked = suspected(pieces, known, len(pieces) - left)
        loss = removal_losses(pieces, state, asked)
        known = np.where(asked, loss, known)
        pieces = pieces.only(pruned(table, pieces.chosen, state.counts, loss, left))
        rounds = 2 if left > size else settle
        counts = np.where(pieces.chosen, state.counts, 0.0)
        state = hard_em(table, pieces.forwards, counts, length_cost, rounds)
    return pieces, state, known
