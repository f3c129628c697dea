r"""What the corpus loses when one piece is taken away, exactly, and taking away the least useful.

With the prices held, removing piece t costs each word that uses it a detour.  Every spelling covers
each character exactly once, so the best spelling that avoids one arc runs through the cheapest
*other* arc over that arc's first character: a minimum over arcs of
``cost before + cost of the arc + cost after``, known from one sweep in each direction.
"""

import itertools
from typing import NamedTuple

import numpy as np

from genopt_core.subwords.segmentation.trie import Index
from genopt_core.subwords.training.em import Spelling, x_log_x
from genopt_core.subwords.training.pieces import Pieces
from genopt_core.subwords.training.substrings import (
    Float,
    Mask,
    Small,
    Substrings,
    ascending,
    tally,
)


class Uses(NamedTuple):
    """Places where the best spellings use a piece of two characters or more."""

    gap: Index  # where the piece begins
    word: Index
    piece: Index


class Changes(NamedTuple):
    """Removing piece ``removed`` changes the count of ``piece`` by ``amount``; entries add up."""

    removed: Index
    piece: Index
    amount: Float


def removal_losses(pieces: Pieces, state: Spelling, suspects: Mask | None = None) -> Float:
    r"""Increase of the objective when one piece is removed and all probabilities are refitted.

    .. math:: \Delta J_t = J(c + \delta^{(t)}) - J(c), \qquad
              \delta^{(t)}_s = \sum_{w \ni t} f_w \big(n_s(\pi_w^{-t}) - n_s(\pi_w)\big)

    (book, eq. swe-removal), with :math:`\pi_w` the best spelling of word w at the prices of
    ``state``, :math:`\pi_w^{-t}` the best one without t, :math:`n_s` the number of pieces s in it,
    and J the objective of (book, eq. swe-tradeoff).  The paper's own loss is not known; the
    unigram trainers take the second-best spelling of the piece by itself at fixed prices.

    Parameters
    ----------
    pieces : Pieces
    state : Spelling
        Of these pieces.
    suspects : (substrings,) bool array, optional
        Work out only these; the others get an infinite loss.

    Returns
    -------
    (substrings,) float array, in nats
        0 for substrings that are not used; infinite for single characters.

    Notes
    -----
    Exact, words in which a piece or its detour comes twice included: those are spelled anew
    without the piece.  Linear in the arcs of all words times the piece length.
    """
    table = pieces.table
    asked = ~table.single if suspects is None else suspects & ~table.single
    changes = count_changes(pieces, state, asked)
    count, size = state.counts, len(table)
    order, key = ascending(changes.removed.astype(np.int64) * size + changes.piece)
    fresh = np.ones(len(key), dtype=bool)
    fresh[1:] = key[1:] != key[:-1]
    first = np.flatnonzero(fresh)
    if not len(first):
        return np.where(asked, 0.0, np.inf)
    delta = np.add.reduceat(changes.amount[order], first)
    removed, piece = np.divmod(key[first], size)
    more = tally(removed, delta, size)
    after = np.maximum(count[piece] + delta, 0)
    loss = tally(removed, x_log_x(count[piece]) - x_log_x(after), size)
    total = count.sum()
    loss += x_log_x(total + more) - x_log_x(total) + state.length_cost * more
    loss[~asked] = np.inf
    return loss


def count_changes(pieces: Pieces, state: Spelling, asked: Mask) -> Changes:
    r"""The :math:`\delta^{(t)}` of (book, eq. swe-removal) for the pieces asked for, as a list."""
    table = pieces.table
    suffix_cost, suffix_arc = pieces.backwards.cheapest(state.cost)
    uses, on_path, path_piece = _best_paths(pieces, state, asked)
    if not len(uses.gap):
        return Changes(uses.piece, uses.piece, np.zeros(0))
    arc_end, arc_piece = _cheapest_other_arcs(pieces, state, suffix_cost, uses, path_piece)

    # The detour leaves the old path at gap `leave`, and is back on it at gap `join`.
    use = np.arange(len(uses.gap))
    who: list[Index] = [use]
    what: list[Index] = [arc_piece]
    sign: list[int] = [1]
    leave = arc_end - table.length[arc_piece]
    active = use[~on_path[leave]]
    while len(active):
        piece = pieces.forwards.piece[state.arc[table.prefix_of[leave[active]]]]
        who, what, sign = [*who, active], [*what, piece], [*sign, 1]
        leave[active] -= table.length[piece]
        active = active[~on_path[leave[active]]]
    join = arc_end.copy()
    active = use[~on_path[join]]
    while len(active):
        piece = pieces.backwards.piece[suffix_arc[table.suffix_of[join[active]]]]
        who, what, sign = [*who, active], [*what, piece], [*sign, 1]
        join[active] += table.length[piece]
        active = active[~on_path[join[active]]]
    # Does the detour itself need the piece, or does the word use it twice?  Then spell it anew.
    spoilt = _used_twice(table, uses)
    for index, piece in zip(who, what, strict=True):
        spoilt[index[piece == uses.piece[index]]] = True
    active = use
    while len(active):  # the pieces of the old path between the two
        piece = path_piece[leave[active]].astype(np.intp)
        who, what, sign = [*who, active], [*what, piece], [*sign, -1]
        leave[active] += table.length[piece]
        active = active[leave[active] < join[active]]
    index, piece = np.concatenate(who), np.concatenate(what)
    amount = np.repeat(np.array(sign, dtype=np.float64), [len(part) for part in who])
    amount *= table.weight[uses.word[index]]
    good = ~spoilt[index]
    clean = Changes(uses.piece[index[good]], piece[good], amount[good])
    if not spoilt.any():
        return clean
    anew = _spelled_anew(pieces, state, path_piece, uses.word[spoilt], uses.piece[spoilt])
    return Changes(*(np.concatenate(both) for both in zip(clean, anew, strict=True)))


def _best_paths(pieces: Pieces, state: Spelling, asked: Mask) -> tuple[Uses, Mask, Small]:
    """Uses of the pieces asked for; and, in their words, which gaps are cuts and what follows."""
    table = pieces.table
    on_path = np.zeros(len(table.word_of), dtype=bool)
    path_piece = np.full(len(table.word_of), -1, dtype=np.int32)
    word = np.flatnonzero(_anywhere_on_path(pieces, state, asked)[table.prefixes.end])
    gap = table.start[word] + table.gaps[word] - 1
    on_path[gap] = True
    gaps, words, taken = [gap[:0]], [word[:0]], [word[:0]]
    while len(gap):
        piece = pieces.forwards.piece[state.arc[table.prefix_of[gap]]]
        gap = gap - table.length[piece]
        on_path[gap] = True
        path_piece[gap] = piece
        wanted = asked[piece]
        gaps.append(gap[wanted])
        words.append(word[wanted])
        taken.append(piece[wanted])
        left = gap > table.start[word]
        gap, word = gap[left], word[left]
    uses = Uses(np.concatenate(gaps), np.concatenate(words), np.concatenate(taken))
    return uses, on_path, path_piece


def _anywhere_on_path(pieces: Pieces, state: Spelling, asked: Mask) -> Mask:
    """Whether the best path to a prefix node uses one of the pieces, (nodes,)."""
    level = pieces.table.prefixes.level.tolist()
    found = asked[pieces.forwards.piece[state.arc]]
    found[0] = False
    source = pieces.forwards.source[state.arc]
    for first, last in itertools.pairwise(level[1:]):
        found[first:last] |= found[source[first:last]]
    return found


def _cheapest_other_arcs(
    pieces: Pieces, state: Spelling, suffix_cost: Float, uses: Uses, path_piece: Small
) -> tuple[Index, Index]:
    """Per use, end gap and piece of the cheapest arc over its first character, itself left out."""
    table = pieces.table
    gaps = len(path_piece)
    before, after = state.potential[table.prefix_of], suffix_cost[table.suffix_of]
    needed = np.zeros(gaps, dtype=bool)
    needed[uses.gap] = True
    needed_before = np.zeros(gaps + 1, dtype=np.int32)  # among the first so many gaps
    np.cumsum(needed, out=needed_before[1:])
    best = np.full(gaps, np.inf)
    end, other = np.zeros(gaps, dtype=np.int32), np.zeros(gaps, dtype=np.int32)
    for length, (gap, piece) in enumerate(pieces.word_arcs, start=1):
        covers = needed_before[gap] > needed_before[gap - length]
        covers &= path_piece[gap - length] != piece
        gap, piece = gap[covers], piece[covers]
        value = before[gap - length] + state.cost[piece] + after[gap]
        for back in range(length, 0, -1):
            place = gap - back
            better = np.flatnonzero(needed[place])
            better = better[value[better] < best[place[better]]]
            place = place[better]
            best[place], end[place], other[place] = value[better], gap[better], piece[better]
    return end[uses.gap].astype(np.intp), other[uses.gap].astype(np.intp)


def _used_twice(table: Substrings, uses: Uses) -> Mask:
    order, key = ascending(uses.word.astype(np.int64) * len(table) + uses.piece)
    same = key[1:] == key[:-1]
    twice = np.zeros(len(key), dtype=bool)
    twice[order[1:][same]] = True
    twice[order[:-1][same]] = True
    return twice


def _spelled_anew(
    pieces: Pieces, state: Spelling, path_piece: Small, word: Index, removed: Index
) -> Changes:
    """Count changes of (word, removed piece) pairs by the best spelling without the piece.

    All pairs advance together, one character at a time.
    """
    table, longest = pieces.table, pieces.table.max_piece
    _, first = np.unique(word.astype(np.int64) * len(table) + removed, return_index=True)
    first = first[np.argsort(-table.gaps[word[first]], kind="stable")]  # long words first
    word, removed = word[first], removed[first]
    start, steps = table.start[word], table.gaps[word] - 1
    cost = np.append(np.where(pieces.chosen, state.cost, np.inf), np.inf)  # entry -1: no piece
    # Column longest + p: cheapest cost of the first p characters; the columns before: no spelling.
    best = np.full((len(word), longest + int(steps.max()) + 1), np.inf)
    best[:, longest] = 0.0
    last = np.zeros(best.shape, dtype=np.int32)
    for char in range(1, int(steps.max()) + 1):
        live = int(np.searchsorted(-steps, -char, side="right"))
        number = table.place[table.prefix_of[start[:live] + char]]
        value = np.where(number == removed[:live, None], np.inf, cost[number])
        value += best[:live, char : char + longest]
        choice = value.argmin(axis=1)
        rows = np.arange(live)
        best[:live, longest + char] = value[rows, choice]
        last[:live, longest + char] = number[rows, choice]
    who: list[Index] = []
    what: list[Index] = []
    sign: list[int] = []
    pair, position = np.arange(len(word)), steps.copy()
    while len(pair):
        piece = last[pair, longest + position[pair]].astype(np.intp)
        who, what, sign = [*who, pair], [*what, piece], [*sign, 1]
        position[pair] -= table.length[piece]
        pair = pair[position[pair] > 0]
    pair = np.arange(len(word))
    while len(pair):
        piece = path_piece[start[pair] + position[pair]].astype(np.intp)
        who, what, sign = [*who, pair], [*what, piece], [*sign, -1]
        position[pair] += table.length[piece]
        pair = pair[position[pair] < steps[pair]]
    index = np.concatenate(who)
    amount = np.repeat(np.array(sign, dtype=np.float64), [len(part) for part in who])
    return Changes(removed[index], np.concatenate(what), amount * table.weight[word[index]])


def rounded(value: Float) -> Float:
    """Values with nine significant digits, so that ranks do not hang on the last bits of ln.

    Examples
    --------
    >>> bool(rounded(np.array([1.0 + 1e-13])) == rounded(np.array([1.0])))
    True
    """
    mantissa, exponent = np.frexp(value)
    return np.ldexp(np.round(mantissa * 2.0**30), exponent - 30)


def pruned(table: Substrings, chosen: Mask, counts: Float, loss: Float, size: int) -> Mask:
    """The chosen pieces without those of least loss, ``size`` of them.

    Unused pieces go first; equal losses go by count, then length, then text.
    """
    there = np.flatnonzero(chosen & ~table.single)
    surplus = int(chosen.sum()) - size
    if surplus <= 0:
        return chosen
    rank = np.where(counts[there] > 0, rounded(loss[there]), -np.inf)
    order = np.lexsort((there, counts[there], rank))  # numbers ascend by length, then text
    left = chosen.copy()
    left[there[order[:surplus]]] = False
    return left


def suspected(pieces: Pieces, known: Float, remove: int) -> Mask:
    """The pieces worth working out a loss for, when ``remove`` of them are to go.

    Losses change little from one cut to the next, and mostly upwards: only pieces that ranked
    among the lowest ``8 * remove`` last time, or about which nothing is known (-inf), are asked.
    """
    there = np.flatnonzero(pieces.chosen & ~pieces.table.single & np.isfinite(known))
    wide = 8 * remove
    if wide >= len(there):
        return pieces.chosen
    limit = np.partition(known[there], wide)[wide]
    return pieces.chosen & (known <= limit)
