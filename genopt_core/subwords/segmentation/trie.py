"""A prefix trie over many strings at once, in flat arrays, built one character level at a time."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from genopt_core.subwords.segmentation.arrays import Index, run_starts


def code_points(strings: Sequence[str]) -> NDArray[np.uint32]:
    """All characters of all strings, one after the other, as code points."""
    return np.frombuffer("".join(strings).encode("utf-32-le"), dtype="<u4")


class PrefixTrie:
    """Every distinct prefix of some strings as one node, shorter prefixes first; node 0 is "".

    The strings are distinct and not empty, and all their characters are in ``alphabet``, sorted
    code points.  Parents have smaller numbers than their children, and siblings and cousins are in
    lexicographic order: that makes ``(parent, character)`` an ascending key, found by bisection.

    Attributes
    ----------
    parent : (nodes,) int array
        The prefix without its last character (node 0: itself).
    character : (nodes,) int array
        Rank of the last character in the alphabet (node 0: 0).
    level : (longest + 2,) int array
        Nodes ``level[d]`` to ``level[d + 1] - 1`` are the prefixes of length ``d``.
    end : (strings,) int array
        The node of each whole string.
    """

    def __init__(self, strings: Sequence[str], alphabet: NDArray[np.uint32]) -> None:
        length = np.fromiter(map(len, strings), dtype=np.intp)
        start = np.cumsum(length) - length
        ranks = np.searchsorted(alphabet, code_points(strings)).astype(np.intp)
        # Python sorts strings by code point, the order of the ranks.
        order = np.array(sorted(range(len(strings)), key=strings.__getitem__), dtype=np.intp)
        node = np.zeros(len(strings), dtype=np.intp)  # where each string's walk stands
        parents, characters, level = [np.zeros(1, np.intp)], [np.zeros(1, np.intp)], [0, 1]
        alive = order
        for depth in range(int(length.max())):
            # Strings that ended never stand between two that share a longer prefix.
            alive = alive[length[alive] > depth]
            above, last = node[alive], ranks[start[alive] + depth]
            fresh = run_starts(above, last)
            node[alive] = level[-1] - 1 + np.cumsum(fresh)
            parents.append(above[fresh])
            characters.append(last[fresh])
            level.append(level[-1] + int(fresh.sum()))
        self.end = node
        self.parent = np.concatenate(parents)
        self.character = np.concatenate(characters)
        self.level = np.array(level, dtype=np.intp)
        self._letters = len(alphabet)
        # int64: nodes times letters may pass 2**31 while an index on 32-bit platforms may not.
        self._key = self.parent[1:].astype(np.int64) * self._letters + self.character[1:]

    def __len__(self) -> int:
        return len(self.parent)

    def child(self, node: Index, character: Index) -> Index:
        """Node one character further on, 0 where there is none."""
        wanted = node.astype(np.int64) * self._letters + character
        place = np.searchsorted(self._key, wanted)
        found = np.append(self._key, -1)[place] == wanted
        return np.where(found, place + 1, 0).astype(np.intp)
