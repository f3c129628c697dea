"""Methods that no package offers here, rebuilt from their descriptions; called emulated everywhere.

PathPiece (arXiv 2402.18376): a large seed, pieces with the least estimated rise of the token count
removed ten per cent at a time; a word is spelled with the fewest pieces, the longest on ties.
MinGram (arXiv 2606.27019): a byte-pair seed a tenth too large, two rounds of hard EM on the path
with the fewest pieces, one cut of the least used; with ``increase`` its compression-oriented
variant: eight times too large, cut by the same estimate as PathPiece, ten per cent at a time.
ConvexTok (arXiv 2605.22821): the linear relaxation of the choice of pieces, rounded.  Its authors
solve the program on a GPU; here a smoothed ascent on its dual comes within about 0.1 % of it, and
the vocabulary is the best of three roundings.

They train on the characters of the words, as the other tokenizers do.  Their training times are
those of this emulation and say nothing about the originals.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

MAX_PIECE = 16
INF = np.float64(np.inf)


class Spellings:
    """All spellings of the unique words with a fixed set of pieces, as one table.

    Row ``i`` is a position in a word (its start included), column ``l - 1`` the piece of ``l``
    characters that ends there, or ``len(pieces)`` where no such piece exists.
    """

    def __init__(self, words: Sequence[str], weights: Sequence[int], pieces: Iterable[str]):
        self.pieces = sorted(set(pieces) | set("".join(words)))
        self.weights = np.array(weights, dtype=float)
        self.length = np.array([len(word) for word in words])
        self.base = np.concatenate([[0], np.cumsum(self.length + 1)[:-1]])
        self.end = self.base + self.length
        self.rows = int((self.length + 1).sum())
        number = {piece: i for i, piece in enumerate(self.pieces)}
        self.width = min(MAX_PIECE, max(map(len, self.pieces)))
        absent = len(self.pieces)
        self.table = np.full((self.rows, self.width), absent, dtype=np.int32)
        row, column, found = [], [], []
        for word, base in zip(words, self.base.tolist(), strict=True):
            for start in range(len(word)):
                for end in range(start + 1, min(start + self.width, len(word)) + 1):
                    piece = number.get(word[start:end])
                    if piece is not None:
                        row.append(base + end)
                        column.append(end - start - 1)
                        found.append(piece)
        self.table[row, column] = found
        position = np.arange(self.rows) - np.repeat(self.base, self.length + 1)
        order = np.argsort(position, kind="stable")
        bounds = np.searchsorted(position[order], np.arange(1, self.length.max() + 2))
        self.levels = [order[a:b] for a, b in itertools.pairwise(bounds)]
        remaining = np.repeat(self.length, self.length + 1) - position
        order = np.argsort(remaining, kind="stable")
        bounds = np.searchsorted(remaining[order], np.arange(1, self.length.max() + 2))
        self.back_levels = [order[a:b] for a, b in itertools.pairwise(bounds)]
        self.position, self.remaining = position, remaining
        self.weight_of_row = np.repeat(self.weights, self.length + 1)
        self.piece_length = np.array([len(piece) for piece in self.pieces])

    def forward(self, cost: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Least cost up to each row and the length of its last piece, the longest on ties."""
        cost = np.append(cost, INF)
        best = np.zeros(self.rows)
        last = np.zeros(self.rows, dtype=np.int64)
        for level in self.levels:
            n = min(self.width, int(self.position[level[0]]))
            lengths = np.arange(n, 0, -1)  # longest first: argmin takes the first of equals
            through = best[level[:, None] - lengths] + cost[self.table[level[:, None], lengths - 1]]
            choice = through.argmin(axis=1)
            best[level] = through[np.arange(len(level)), choice]
            last[level] = lengths[choice]
        return best, last

    def backward(self, cost: np.ndarray) -> np.ndarray:
        """Least cost from each row to the end of its word."""
        cost = np.append(cost, INF)
        best = np.zeros(self.rows)
        for level in self.back_levels:
            n = min(self.width, int(self.remaining[level[0]]))
            lengths = np.arange(1, n + 1)
            ends = level[:, None] + lengths
            best[level] = (best[ends] + cost[self.table[ends, lengths - 1]]).min(axis=1)
        return best

    def path(self, last: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """End row and length of every piece on the chosen path of every word."""
        rows, lengths = [], []
        row = self.end.copy()
        base = self.base
        while len(row):
            length = last[row]
            rows.append(row)
            lengths.append(length)
            row = row - length
            open_ = row > base
            row, base = row[open_], base[open_]
        return np.concatenate(rows), np.concatenate(lengths)

    def use(self, rows: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        """How often each piece lies on these paths."""
        pieces = self.table[rows, lengths - 1]
        return np.bincount(pieces, weights=self.weight_of_row[rows], minlength=len(self.pieces))

    def increase(self, alive: np.ndarray, rows: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        """Least rise of the token count when each piece goes, use by use (PathPiece's estimate).

        A use is replaced by a path with a break inside it or by one longer piece around it.
        """
        one = np.where(alive, 1.0, INF)
        head, _ = self.forward(one)
        tail = self.backward(one)
        word = np.searchsorted(self.base, rows, side="right") - 1
        total = head[self.end[word]]
        best = np.full(len(rows), INF)
        for k in range(1, self.width):
            inside = np.flatnonzero(lengths > k)
            at = rows[inside] - k
            best[inside] = np.minimum(best[inside], head[at] + tail[at])
        there = np.append(alive, False)
        left, right = rows - lengths - self.base[word], self.end[word] - rows
        for a in range(self.width):
            for b in range(self.width - a):
                wide = np.flatnonzero((lengths + a + b <= self.width) & (left >= a) & (right >= b))
                if a + b == 0 or not len(wide):
                    continue
                end, length = rows[wide] + b, lengths[wide] + a + b
                fits = there[self.table[end, length - 1]]
                wide, end, length = wide[fits], end[fits], length[fits]
                best[wide] = np.minimum(best[wide], head[end - length] + 1 + tail[end])
        rise = self.weight_of_row[rows] * (best - total)
        pieces = self.table[rows, lengths - 1]
        many = self.piece_length[pieces] > 1
        return np.bincount(pieces[many], weights=rise[many], minlength=len(self.pieces))


def path_costs(use: np.ndarray, alive: np.ndarray, score: float) -> np.ndarray:
    """Cost of each piece: one, plus ``score`` times its price; infinite for those that are gone."""
    if not score:
        return np.where(alive, 1.0, INF)
    price = -np.log(np.maximum(use, 0.5) / use.sum())
    return np.where(alive, 1.0 + score * price, INF)


@dataclass
class Chosen:
    """A vocabulary and the costs whose cheapest path is its segmentation."""

    pieces: list[str]
    costs: dict[str, float]


def _pruned(
    lattice: Spellings,
    size: int,
    keep: float,
    rounds: int,
    score: float,
    by_increase: bool,
) -> Chosen:
    """Hard EM on the shortest path, then a cut, until ``size`` pieces are left."""
    single = lattice.piece_length == 1
    alive = np.ones(len(lattice.pieces), dtype=bool)
    use = np.bincount(
        lattice.table.ravel(),
        weights=np.repeat(lattice.weight_of_row, lattice.width),
        minlength=len(lattice.pieces) + 1,
    )[:-1]
    while True:
        for _ in range(rounds):
            rows, lengths = lattice.path(lattice.forward(path_costs(use, alive, score))[1])
            use = lattice.use(rows, lengths)
            if score:
                alive &= (use > 0) | single
        n = int(alive.sum())
        if n <= size:
            break
        target = max(size, int(single.sum()) + int(keep * (n - int(single.sum()))))
        loss = lattice.increase(alive, rows, lengths) if by_increase else use
        many = np.flatnonzero(alive & ~single)
        doomed = many[np.lexsort((many, use[many], loss[many]))[: n - target]]
        alive[doomed] = False
    costs = path_costs(use, alive, score)
    kept = np.flatnonzero(alive)
    pieces = [lattice.pieces[i] for i in kept]
    return Chosen(pieces, dict(zip(pieces, costs[kept].tolist(), strict=True)))


def mingram(counts: Mapping[str, int], size: int, seed: Iterable[str], increase: bool) -> Chosen:
    """MinGram from a seed; with ``increase`` the variant that is cut by the rise of the count."""
    lattice = Spellings(list(counts), list(counts.values()), seed)
    return _pruned(lattice, size, 0.9 if increase else 0.0, 2, 1e-5, increase)


def pathpiece(counts: Mapping[str, int], size: int, seed: Iterable[str]) -> Chosen:
    """PathPiece from a seed."""
    lattice = Spellings(list(counts), list(counts.values()), seed)
    return _pruned(lattice, size, 0.9, 1, 0.0, True)


# ------------------------------------------------------------------ the linear program


class Occurrences:
    """Every place where a candidate of at least two characters occurs, grouped by length."""

    def __init__(self, words: Sequence[str], weights: Sequence[int], candidates: Iterable[str]):
        self.candidates = sorted(candidates)
        number = {piece: i for i, piece in enumerate(self.candidates)}
        lengths = [len(word) for word in words]
        starts = np.concatenate([[0], np.cumsum(lengths)]).tolist()
        self.characters = starts[-1]
        self.weights = np.repeat(np.array(weights, dtype=float), lengths)
        grouped: dict[int, tuple[list[int], list[int]]] = {}
        for word, start in zip(words, starts, strict=False):
            for i in range(len(word) - 1):
                for j in range(i + 2, min(i + MAX_PIECE, len(word)) + 1):
                    piece = number.get(word[i:j])
                    if piece is not None:
                        ends, pieces = grouped.setdefault(j - i, ([], []))
                        ends.append(start + j)
                        pieces.append(piece)
        self.groups = []
        for length, (ends, pieces) in sorted(grouped.items()):
            order = np.argsort(pieces, kind="stable")
            piece, end = np.array(pieces)[order], np.array(ends)[order]
            first = np.flatnonzero(np.concatenate([[True], piece[1:] != piece[:-1]]))
            inverse = np.repeat(np.arange(len(first)), np.diff([*first, len(piece)]))
            self.groups.append((length, end, first, inverse, self.weights[end - 1], piece[first]))
        self.numbers = np.concatenate([group[-1] for group in self.groups])

    def values(self, prices: np.ndarray) -> np.ndarray:
        """What each candidate saves at these prices of the characters."""
        total = np.concatenate([[0], np.cumsum(prices)])
        return np.concatenate(
            [
                np.add.reduceat(weight * np.maximum(total[end] - total[end - n] - 1, 0), first)
                for n, end, first, _, weight, _ in self.groups
            ]
        )

    def bound(self, prices: np.ndarray, many: int) -> float:
        """No vocabulary with ``many`` of these candidates needs fewer pieces than this."""
        if prices.min() < 0 or prices.max() > 1:
            raise ValueError("prices must lie in [0, 1]")
        values = self.values(prices)
        k = min(many, len(values))
        saved = np.partition(values, len(values) - k)[len(values) - k :].sum()
        return float(self.weights @ prices - saved)


def substrings(words: Iterable[str], weights: Iterable[int]) -> dict[str, int]:
    """Count of every substring of 2 to `MAX_PIECE` characters."""
    counts: dict[str, int] = {}
    for word, weight in zip(words, weights, strict=True):
        for i in range(len(word) - 1):
            for j in range(i + 2, min(i + MAX_PIECE, len(word)) + 1):
                text = word[i:j]
                counts[text] = counts.get(text, 0) + weight
    return counts


def _soft_top(values: np.ndarray, width: np.ndarray, many: int) -> np.ndarray:
    low, high = float((values - width).min()), float((values + width).max())
    for _ in range(45):
        middle = (low + high) / 2
        inside = np.clip(0.5 + (values - middle) / width, 0, 1).sum()
        low, high = (middle, high) if inside > many else (low, middle)
    return np.clip(0.5 + (values - high) / width, 0, 1)


def relaxation(
    occurrences: Occurrences, frequency: np.ndarray, many: int, steps: int = 300
) -> tuple[np.ndarray, np.ndarray]:
    """Prices of the characters and the relaxed choice of pieces, by a smoothed dual ascent."""
    n = occurrences.characters
    prices = np.full(n, 0.4)
    first_moment, second_moment = np.zeros(n), np.zeros(n)
    best, best_prices = -math.inf, prices
    chosen = np.zeros(len(occurrences.numbers))
    averaged = 0
    for step in range(steps):
        share = step / steps
        tau, rate = 0.2 * (0.005 / 0.2) ** share, 0.1 * 0.02**share
        total = np.concatenate([[0], np.cumsum(prices)])
        ramps, soft, hard = [], [], []
        for length, end, first, _, weight, _ in occurrences.groups:
            z = total[end] - total[end - length] - 1
            ramp = np.clip(z * (0.5 / tau) + 0.5, 0, 1)
            ramps.append(ramp)
            hard.append(np.add.reduceat(weight * np.maximum(z, 0), first))
            smooth = ramp * ramp * tau + np.maximum(z - tau, 0)
            soft.append(np.add.reduceat(weight * smooth, first))
        values = np.concatenate(hard)
        saved = np.partition(values, len(values) - many)[len(values) - many :].sum()
        if (value := float(occurrences.weights @ prices - saved)) > best:
            best, best_prices = value, prices
        x = _soft_top(np.concatenate(soft), frequency * tau * 0.5, many)
        if share >= 0.8:
            chosen += x
            averaged += 1
        cover = np.zeros(n + 1)
        offset = 0
        for (length, end, first, inverse, _, _), ramp in zip(
            occurrences.groups, ramps, strict=True
        ):
            flow = ramp * x[offset : offset + len(first)][inverse]
            offset += len(first)
            at = np.flatnonzero(flow)
            cover += np.bincount(end[at] - length, weights=flow[at], minlength=n + 1)
            cover -= np.bincount(end[at], weights=flow[at], minlength=n + 1)
        gradient = 1 - np.cumsum(cover)[:-1]
        first_moment = 0.8 * first_moment + 0.2 * gradient
        second_moment = 0.98 * second_moment + 0.02 * gradient**2
        size = np.sqrt(second_moment / (1 - 0.98 ** (step + 1))) + 0.02
        move = rate * first_moment / (1 - 0.8 ** (step + 1)) / size
        prices = np.clip(prices + move, 0, 1)
    return best_prices, chosen / averaged


def convextok(
    counts: Mapping[str, int], size: int, kept: int = 200_000, steps: int = 300
) -> tuple[Chosen, float, str]:
    """The best of three roundings of the relaxation, its lower bound, and the rounding's name.

    The bound is evaluated over all substrings of up to `MAX_PIECE` characters, also those that the
    ascent left out, so it holds for every vocabulary of ``size`` pieces of that length.
    """
    words, weights = list(counts), list(counts.values())
    alphabet = sorted(set("".join(words)))
    many = size - len(alphabet)
    every = substrings(words, weights)
    saving = sorted(((n * (len(t) - 1), t) for t, n in every.items()), reverse=True)
    occurrences = Occurrences(words, weights, [text for _, text in saving[:kept]])
    texts = [occurrences.candidates[i] for i in occurrences.numbers]
    frequency = np.array([every[text] for text in texts], dtype=float)
    many_kept = min(many, len(texts) - 1)
    prices, x = relaxation(occurrences, frequency, many_kept, steps)
    bound = Occurrences(words, weights, every).bound(prices, many)
    lengths = np.array([len(text) for text in texts])
    values = occurrences.values(prices)
    ranks = {
        "largest share": (x, values),
        "largest share a character": (x / lengths, values),
        "whole pieces, then largest value": (np.round(x, 2) >= 0.99, values),
    }
    results = []
    for name, (key, tie) in ranks.items():
        order = np.lexsort((np.arange(len(texts)), -tie, -np.asarray(key, dtype=float)))
        pieces = alphabet + sorted(texts[i] for i in order[:many_kept])
        lattice = Spellings(words, weights, pieces)
        best, _ = lattice.forward(np.ones(len(lattice.pieces)))
        results.append((float(lattice.weights @ best[lattice.end]), name, pieces))
    _, name, pieces = min(results)
    return Chosen(pieces, dict.fromkeys(pieces, 1.0)), bound, name
