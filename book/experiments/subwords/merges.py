"""Byte-pair merges that may cross from word to word: SuperBPE and BoundlessBPE, emulated.

SuperBPE (arXiv 2503.13423): merges inside words until there are so many pieces, then anywhere in a
unit, where a piece may be held to so many words.  BoundlessBPE (arXiv 2504.00178): one pass, in
which two neighboring words, or rows of words, may merge as soon as each is one piece and has a
letter; its deletion of pieces that lost their use is not here.  A unit is a line or a sentence:
nobody merges across its end.  Training times are those of this emulation and say nothing about the
originals.
"""

from __future__ import annotations

import heapq
import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping

from genopt_core.conventions import byte_letters

Pair = tuple[int, int]
INSIDE, ANYWHERE, WHOLE_WORDS = "inside", "anywhere", "whole words"
"""Where two pieces may merge: in one word; in a unit; in one word, or where whole words meet."""


class Merges:
    """The pieces that lie one after the other in some units, and the merges made so far.

    ``counts`` says how often each unit occurs in the training text; a unit of 0 takes part in
    every merge and decides none, so held-out units are encoded as they would be later.  Both, and
    what ``cut`` makes of a unit, the words, are spelled in bytes.

    >>> merges = Merges({"aĠbĠcĠd": 1, "aĠbĠ": 4}, lambda unit: unit.split("Ġ"))
    Traceback (most recent call last):
    ValueError: cut must spell the unit 'aĠbĠcĠd', got ['a', 'b', 'c', 'd']
    """

    def __init__(self, counts: Mapping[str, int], cut: Callable[[str], Iterable[str]]) -> None:
        self.names = [*byte_letters()]
        self._number = {name: i for i, name in enumerate(sorted(self.names))}
        self.names.sort()
        self.units = list(counts)
        text = "".join(self.units)
        self._symbol = [self._number[letter] for letter in text]
        self._after = [*range(1, len(text)), -1]
        self._before = [-1, *range(len(text) - 1)]
        self._weight: list[int] = []
        self._starts = bytearray(len(text) + 1)  # of words; behind the last one, too
        self._starts[len(text)] = 1
        self.first: list[int] = []
        for unit, count in counts.items():
            at = len(self._weight)
            self.first.append(at)
            if at:
                self._after[at - 1] = self._before[at] = -1
            words = list(cut(unit))
            if "".join(words) != unit:
                raise ValueError(f"cut must spell the unit {unit!r}, got {words!r}")
            for start in itertools.accumulate(map(len, words[:-1]), initial=at):
                self._starts[start] = 1
            self._weight += [count] * len(unit)
        self._whole = bytearray(map(self._is_whole, range(len(text))))
        self.where, self.words = INSIDE, 0

    def grow(self, size: int, where: str, words: int = 0) -> None:
        """Merge the most frequent pair, the smallest numbers on ties, until ``size`` pieces.

        ``where`` says which pairs, ``words`` how many words a piece may touch; 0 is any number.
        """
        self.where, self.words = where, words
        self._find_pairs()
        heap = [(-count, pair) for pair, count in self._count.items()]
        heapq.heapify(heap)
        while len(self.names) < size and heap:
            count, pair = heapq.heappop(heap)
            now = self._count[pair]
            if now != -count:  # it lost some since it was put there
                if now > 1:
                    heapq.heappush(heap, (-now, pair))
                continue
            if now < 2:
                return
            for changed in self._merge(pair):
                if self._count[changed] > 1:
                    heapq.heappush(heap, (-self._count[changed], changed))

    def segmented(self) -> Iterator[list[str]]:
        """The pieces of every unit."""
        for at in self.first:
            pieces, node = [], at
            while node >= 0:
                pieces.append(self.names[self._symbol[node]])
                node = self._after[node]
            yield pieces

    def _find_pairs(self) -> None:
        self._count: Counter[Pair] = Counter()
        self._at: dict[Pair, list[int]] = {}
        for at in self.first:
            node, after = at, self._after[at]
            while after >= 0:
                if self._may_merge(node, after):
                    self._add(node, after)
                node, after = after, self._after[after]

    def _add(self, node: int, after: int) -> Pair:
        pair = self._symbol[node], self._symbol[after]
        self._count[pair] += self._weight[node]
        self._at.setdefault(pair, []).append(node)
        return pair

    def _may_merge(self, node: int, after: int) -> bool:
        if self.where == WHOLE_WORDS and self._starts[after]:
            return bool(self._whole[node] and self._whole[after])
        if self.where == ANYWHERE and self.words:
            end = after + len(self.names[self._symbol[after]])
            return self._starts.count(1, node + 1, end) < self.words
        return self.where != INSIDE or not self._starts[after]

    def _is_whole(self, node: int) -> bool:
        """Whether the piece there is a whole word with a letter."""
        name = self.names[self._symbol[node]]
        inside = bytes(map(_BYTE.__getitem__, name)).decode("utf-8", "ignore")
        ends = self._starts[node] and self._starts[node + len(name)]
        return bool(ends) and any(map(str.isalpha, inside))

    def _merge(self, pair: Pair) -> set[Pair]:
        """Merge a pair everywhere, from left to right; the pairs that became more frequent."""
        name = self.names[pair[0]] + self.names[pair[1]]
        number = self._number.setdefault(name, len(self.names))
        if number == len(self.names):  # another merge may have spelled it already
            self.names.append(name)
        symbol, before, after, more = self._symbol, self._before, self._after, set()
        for node in sorted(self._at.pop(pair)):
            gone = after[node]
            if gone < 0 or (symbol[node], symbol[gone]) != pair or not self._may_merge(node, gone):
                continue
            left, right, weight = before[node], after[gone], self._weight[node]
            if left >= 0 and self._may_merge(left, node):
                self._count[symbol[left], pair[0]] -= weight
            if right >= 0 and self._may_merge(gone, right):
                self._count[pair[1], symbol[right]] -= weight
            symbol[node], symbol[gone], after[node] = number, -1, right
            self._whole[node] = (self._whole[node] and self._whole[gone]) or self._is_whole(node)
            if right >= 0:
                before[right] = node
            if left >= 0 and self._may_merge(left, node):
                more.add(self._add(left, node))
            if right >= 0 and self._may_merge(node, right):
                more.add(self._add(node, right))
        self._count[pair] = 0
        return more


_BYTE = {letter: byte for byte, letter in enumerate(byte_letters())}
