r"""What the corpus loses when one piece is taken away, exactly, and taking away the least useful.

With the costs held, removing piece t costs each word that uses it a detour.  Every segmentation
covers each character exactly once, so the best one that avoids one arc runs through the cheapest
*other* arc over that arc's first character: a minimum over arcs of
``cost before + cost of the arc + cost after``, known from one sweep in each direction.
"""

import itertools
from collections.abc import Callable, Iterable, Iterator
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
    rank = np.cumsum(pieces.chosen, dtype=np.int64) - 1
    order, key = ascending(rank[changes.removed] * len(pieces) + rank[changes.piece])
    first = np.flatnonzero(run_starts(key))
    if not len(first):
        return np.where(asked, 0.0, np.inf)
    delta = np.add.reduceat(changes.amount[order], first)
    removed, piece = changes.removed[order[first]], changes.piece[order[first]]
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
    changes = _listed(added, old_path, uses.piece, weight[uses.word], ~invalid)
    if invalid.any():
        word, piece = uses.word[invalid], uses.piece[invalid]
        changes += _segmented_again(pieces, state, path_piece, word, piece, weight)
    return Changes(*map(np.concatenate, zip(*changes, strict=True)))


Steps = tuple[Index, Index]
"""Entries that move one piece along their paths, and the piece each of them passes."""


def _walk(
    at: Index,
    length: Index,
    piece_at: Callable[[Index], NDArray[np.integer]],
    goes_on: Callable[[Index], Mask],
) -> Iterator[Steps]:
    """Moves all entries of ``at`` in place along their paths, one piece a step.

    A negative ``length`` of the pieces walks to the left.
    """
    active = np.arange(len(at))
    active = active[np.flatnonzero(goes_on(active))]  # quicker than by a mask
    while len(active):
        piece = piece_at(active).astype(np.intp, copy=False)
        at[active] += length[piece]
        yield active, piece
        active = active[np.flatnonzero(goes_on(active))]


def _listed(
    added: Iterable[Steps], left: Iterable[Steps], removed: Index, amount: NDArray[Any], asked: Mask
) -> list[Changes]:
    """The changes by steps along new and old paths, of the entries asked for."""
    changes = []
    for steps, weight in ((added, amount), (left, -amount)):
        for entry, piece in steps:
            here = np.flatnonzero(asked[entry])
            entry, piece = entry[here], piece[here]
            changes.append(Changes(removed[entry], piece, weight[entry]))
    return changes


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
        here, wanted = gap[active], np.flatnonzero(asked[piece])
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
    """Per use, end gap and piece of the cheapest arc over its first character, itself left out.

    Among equals the shortest, then the one that ends last.
    """
    table = pieces.table
    needed = np.zeros(len(path_piece), dtype=bool)
    needed[uses.gap] = True
    rank = np.zeros(len(needed) + 1, dtype=np.int32)  # how many are needed among the first n gaps
    np.cumsum(needed, out=rank[1:])
    place = np.flatnonzero(needed).astype(np.int32)
    alone = pieces.word_arcs[0][1][table.characters_before[place]]  # the character itself
    found = [(place + 1, alone)]
    for length, (gap, piece) in enumerate(pieces.word_arcs[1:], start=2):
        covers = np.flatnonzero(rank.take(gap - length) < rank.take(gap))
        covers = covers[np.flatnonzero(path_piece[gap[covers] - length] != piece[covers])]
        found.append((gap[covers], piece[covers]))
    end, other = (np.concatenate(part) for part in zip(*found[::-1], strict=True))
    del found  # here training needs the most memory
    start = end - table.length.take(other)
    value = state.potential.take(table.prefix_of.take(start))
    value += state.cost.take(other)
    value += suffix_cost.take(table.suffix_of.take(end))
    last = rank.take(end)
    covered = last - rank.take(start)
    whole: Any = np.int32 if covered.sum(dtype=np.int64) < 2**31 else np.int64
    arc = np.repeat(np.arange(len(end), dtype=whole), covered)  # once for each use it covers
    use = np.arange(len(arc), dtype=whole)
    use += (last - np.cumsum(covered, dtype=whole)).take(arc)
    value = value.take(arc)
    best = np.full(len(place), np.inf)
    np.minimum.at(best, use, value)
    hit = np.flatnonzero(value == best.take(use))
    chosen = np.empty(len(place), dtype=np.intp)
    chosen[use[hit]] = arc[hit]  # the last write stays
    chosen = chosen[rank[uses.gap]]
    return end[chosen].astype(np.intp), other[chosen].astype(np.intp)


def _used_twice(table: Substrings, uses: Uses) -> Mask:
    twice = np.zeros(len(uses.word), dtype=bool)
    several = np.flatnonzero(np.bincount(uses.word)[uses.word] > 1)
    order, key = ascending(uses.word[several].astype(np.int64) * len(table) + uses.piece[several])
    same = key[1:] == key[:-1]
    twice[several[order[1:][same]]] = True
    twice[several[order[:-1][same]]] = True
    return twice


def _segmented_again(
    pieces: Pieces,
    state: Segmentation,
    path_piece: Small,
    word: Index,
    removed_piece: Index,
    weight: NDArray[Any],
) -> list[Changes]:
    """Count changes of (word, removed piece) pairs by the best segmentation without the piece.

    All pairs advance together, one character at a time.
    """
    table, longest = pieces.table, pieces.table.max_piece
    order, key = ascending(word.astype(np.int64) * len(table) + removed_piece)
    first = order[run_starts(key)]
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
    every = np.ones(len(word), dtype=bool)
    return _listed(added, removed, removed_piece, weight[word], every)


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
