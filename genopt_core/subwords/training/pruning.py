r"""What the corpus loses when one piece is taken away, exactly, and taking away the least useful.

With the costs held, removing piece t costs each word that uses it a detour.  Every segmentation
covers each character exactly once, so the best one that avoids one arc runs through the cheapest
*other* arc over that arc's first character: a minimum over arcs of
``cost before + cost of the arc + cost after``, known from one sweep in each direction.
"""

import itertools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from genopt_core.subwords.segmentation.arrays import (
    Float,
    Index,
    Mask,
    Small,
    ascending,
    rounded,
    run_starts,
    tally,
)
from genopt_core.subwords.training.arcs import Pieces
from genopt_core.subwords.training.em import Segmentation, x_log_x
from genopt_core.subwords.training.substrings import Substrings


class Uses(NamedTuple):
    """Places where the best segmentations use a piece of two characters or more."""

    gap: Index  # where the piece begins
    word: Index
    piece: Index


class Changes(NamedTuple):
    """Removing piece ``removed`` changes the count of ``piece`` by ``amount``; entries add up."""

    removed: Index
    piece: Index
    amount: NDArray[Any]


def removal_losses(pieces: Pieces, state: Segmentation, suspects: Mask | None = None) -> Float:
    r"""Increase of the objective, in nats, when one piece is removed and the rest refitted.

    .. math:: \Delta J_t = J(c + \delta^{(t)}) - J(c), \qquad
              \delta^{(t)}_s = \sum_{w \ni t} f_w \big(n_s(\pi_w^{-t}) - n_s(\pi_w)\big)

    (book, eq. swe-removal), with :math:`\pi_w` the best segmentation of word w at the costs of
    ``state``, :math:`\pi_w^{-t}` the best one without t, :math:`n_s` the number of pieces s in it,
    and J the objective of (book, eq. swe-tradeoff).  The paper's own loss is not known; the
    unigram trainers take the second-best segmentation of the piece itself at fixed costs.

    Only of the ``suspects``, if there are some: the others get an infinite loss, and so do single
    characters; substrings that are not used have 0.  Exact, words in which a piece or its detour
    comes twice included: those are segmented again without the piece.  Linear in the arcs of all
    words times the piece length.
    """
    table = pieces.table
    asked = ~table.single if suspects is None else suspects & ~table.single
    changes = count_changes(pieces, state, asked)
    count, size = state.counts, len(table)
    order, key = ascending(changes.removed.astype(np.int64) * size + changes.piece)
    first = np.flatnonzero(run_starts(key))
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


def count_changes(
    pieces: Pieces, state: Segmentation, asked: Mask, weight: NDArray[Any] | None = None
) -> Changes:
    r"""The :math:`\delta^{(t)}` of (book, eq. swe-removal) for the pieces asked for, as a list.

    Each use of a piece is replaced by its detour: the cheapest other arc over the first character
    of the use, led back to the old path on either side.  ``weight`` (words,) is how often each word
    occurs if not as in the table; complex numbers count two ways at once.

    The word "abc" is cut ab|c at 1 + 2 nats.  Without "ab" the cheapest other arc over the "a" is
    "a" itself, which leaves the old path at gap 0 and is back on it at gap 3, by way of "bc":

    >>> from genopt_core.subwords.training.em import segment_all
    >>> table = Substrings({"abc": 4}, max_piece=2)
    >>> pieces = Pieces(table, np.ones(len(table), dtype=bool))
    >>> cost = np.array([2.0, 3.0, 2.0, 1.0, 1.5])  # of a, b, c, ab, bc
    >>> state = segment_all(table, pieces.forwards, cost, 0.0)
    >>> asked = np.array([False, False, False, True, False])
    >>> removed, piece, amount = count_changes(pieces, state, asked)
    >>> text = table.texts()
    >>> [(text[t], text[s], d) for t, s, d in zip(removed, piece, amount.tolist())]
    [('ab', 'a', 4.0), ('ab', 'bc', 4.0), ('ab', 'ab', -4.0), ('ab', 'c', -4.0)]
    """
    table, length = pieces.table, pieces.table.length.astype(np.intp)
    weight = table.weight if weight is None else weight
    suffix_cost, suffix_arc = pieces.backwards.cheapest(state.cost)
    uses, on_path, path_piece = _best_paths(pieces, state, asked)
    if not len(uses.gap):
        return Changes(uses.piece, uses.piece, weight[:0])
    arc_end, arc_piece = _cheapest_other_arcs(pieces, state, suffix_cost, uses, path_piece)

    # The detour leaves the old path at gap `leave`, and is back on it at gap `join`.
    leave, join = arc_end - length[arc_piece], arc_end.copy()
    prefix_piece = pieces.forwards.piece[state.arc]
    suffix_piece = pieces.backwards.piece[suffix_arc]
    added = [
        (np.arange(len(leave)), arc_piece),
        *_walk(
            leave,
            -length,
            lambda use: prefix_piece[table.prefix_of[leave[use]]],
            lambda use: ~on_path[leave[use]],
        ),
        *_walk(
            join,
            length,
            lambda use: suffix_piece[table.suffix_of[join[use]]],
            lambda use: ~on_path[join[use]],
        ),
    ]
    # Does the detour itself need the piece, or does the word use it twice?  Then segment it again.
    invalid = _used_twice(table, uses)
    for use, piece in added:
        invalid[use[piece == uses.piece[use]]] = True
    old_path = _walk(
        leave, length, lambda use: path_piece[leave[use]], lambda use: leave[use] < join[use]
    )
    use, piece, sign = _signed(added, list(old_path))
    amount = sign * weight[uses.word[use]]
    good = ~invalid[use]
    changes = Changes(uses.piece[use[good]], piece[good], amount[good])
    if not invalid.any():
        return changes
    again = _segmented_again(
        pieces, state, path_piece, uses.word[invalid], uses.piece[invalid], weight
    )
    return Changes(*(np.concatenate(both) for both in zip(changes, again, strict=True)))


def _walk(
    at: Index,
    length: Index,
    piece_at: Callable[[Index], NDArray[np.integer]],
    goes_on: Callable[[Index], Mask],
) -> Iterator[tuple[Index, Index]]:
    """Moves all entries of ``at`` in place along their paths, one piece a step.

    Yields the entries that moved and the piece each of them passed.  A negative ``length`` of the
    pieces walks to the left.
    """
    active = np.arange(len(at))
    active = active[goes_on(active)]
    while len(active):
        piece = piece_at(active).astype(np.intp, copy=False)
        at[active] += length[piece]
        yield active, piece
        active = active[goes_on(active)]


def _signed(
    added: list[tuple[Index, Index]], removed: list[tuple[Index, Index]]
) -> tuple[Index, Index, Float]:
    """Entries and pieces of all steps on end, with +1 for those added and -1 for those removed."""
    entry, piece = (np.concatenate(part) for part in zip(*added, *removed, strict=True))
    sign = np.ones(len(entry))
    sign[sum(len(entry) for entry, _ in added) :] = -1
    return entry, piece, sign


def _best_paths(pieces: Pieces, state: Segmentation, asked: Mask) -> tuple[Uses, Mask, Small]:
    """Uses of the pieces asked for; and, in their words, which gaps are cuts and what follows."""
    table = pieces.table
    on_path = np.zeros(len(table.word_of), dtype=bool)
    path_piece = np.full(len(table.word_of), -1, dtype=np.int32)
    word = np.flatnonzero(_anywhere_on_path(pieces, state, asked)[table.prefixes.end])
    start, gap = table.start[word], table.start[word] + table.gaps[word] - 1
    on_path[gap] = True
    prefix_piece = pieces.forwards.piece[state.arc]
    uses = [(gap[:0], word[:0], word[:0])]
    for active, piece in _walk(
        gap,
        -table.length.astype(np.intp),
        lambda w: prefix_piece[table.prefix_of[gap[w]]],
        lambda w: gap[w] > start[w],
    ):
        here, wanted = gap[active], asked[piece]
        on_path[here] = True
        path_piece[here] = piece
        uses.append((here[wanted], word[active[wanted]], piece[wanted]))
    return Uses(*(np.concatenate(part) for part in zip(*uses, strict=True))), on_path, path_piece


def _anywhere_on_path(pieces: Pieces, state: Segmentation, asked: Mask) -> Mask:
    """Whether the best path to a prefix node uses one of the pieces, (nodes,)."""
    level = pieces.table.prefixes.level.tolist()
    found = asked[pieces.forwards.piece[state.arc]]
    found[0] = False
    source = pieces.forwards.source[state.arc]
    for first, last in itertools.pairwise(level[1:]):
        found[first:last] |= found[source[first:last]]
    return found


def _cheapest_other_arcs(
    pieces: Pieces, state: Segmentation, suffix_cost: Float, uses: Uses, path_piece: Small
) -> tuple[Index, Index]:
    """Per use, end gap and piece of the cheapest arc over its first character, itself left out."""
    table = pieces.table
    gaps = len(path_piece)
    before, after = state.potential[table.prefix_of], suffix_cost[table.suffix_of]
    needed = np.zeros(gaps, dtype=bool)
    needed[uses.gap] = True
    needed_before = np.zeros(gaps + 1, dtype=np.int32)  # among the first n gaps
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


def _segmented_again(
    pieces: Pieces,
    state: Segmentation,
    path_piece: Small,
    word: Index,
    removed_piece: Index,
    weight: NDArray[Any],
) -> Changes:
    """Count changes of (word, removed piece) pairs by the best segmentation without the piece.

    All pairs advance together, one character at a time.
    """
    table, longest = pieces.table, pieces.table.max_piece
    _, first = np.unique(word.astype(np.int64) * len(table) + removed_piece, return_index=True)
    first = first[np.argsort(-table.gaps[word[first]], kind="stable")]  # long words first
    word, removed_piece = word[first], removed_piece[first]
    start, steps = table.start[word], table.gaps[word] - 1
    cost = np.append(np.where(pieces.chosen, state.cost, np.inf), np.inf)  # entry -1: no piece
    # Column longest + p: cheapest cost of the first p characters; the columns before: no path.
    best = np.full((len(word), longest + int(steps.max()) + 1), np.inf)
    best[:, longest] = 0.0
    last = np.zeros(best.shape, dtype=np.int32)
    for char in range(1, int(steps.max()) + 1):
        live = int(np.searchsorted(-steps, -char, side="right"))
        number = table.place[table.prefix_of[start[:live] + char]]
        value = np.where(number == removed_piece[:live, None], np.inf, cost[number])
        value += best[:live, char : char + longest]
        choice = value.argmin(axis=1)
        rows = np.arange(live)
        best[:live, longest + char] = value[rows, choice]
        last[:live, longest + char] = number[rows, choice]
    length, position = table.length.astype(np.intp), steps.copy()
    added = _walk(
        position, -length, lambda w: last[w, longest + position[w]], lambda w: position[w] > 0
    )
    removed = _walk(
        position,
        length,
        lambda w: path_piece[start[w] + position[w]],
        lambda w: position[w] < steps[w],
    )
    entry, piece, sign = _signed(list(added), list(removed))
    return Changes(removed_piece[entry], piece, sign * weight[word[entry]])


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
    """The pieces whose loss is worth computing, when ``remove`` of them are to go.

    Losses change little from one cut to the next, and mostly upwards: only pieces that ranked
    among the lowest ``8 * remove`` last time, or about which nothing is known (-inf), are asked.
    """
    there = np.flatnonzero(pieces.chosen & ~pieces.table.single & np.isfinite(known))
    wide = 8 * remove
    if wide >= len(there):
        return pieces.chosen
    limit = np.partition(known[there], wide)[wide]
    return pieces.chosen & (known <= limit)
