"""Rows that promise most are moved, one coordinate at a time, while their gain rises.

What can be done to a row depends on what of it is discrete, so it is worked out once for each
choice of that and kept.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from genopt_core.cross_entropy.parameters import Array
from genopt_core.cross_entropy.space import SearchSpace

STEPS = 0.15, 0.05, 0.015
"""How far a real coordinate is moved, as a standard deviation."""
MOST_KEPT = 1_000_000
"""The most coordinates of rows that `Polish` keeps to change others in the same ways."""
Gain = Callable[[Array], Array]
"""Of rows (rows, parameters), what each is worth, (rows,)."""


class Ways(NamedTuple):
    """The rows that differ in one coordinate from rows of the same discrete values.

    The first is the row itself.
    """

    fixed: Array
    keeps: Array
    """Real coordinates that are those of the row."""
    at: Array
    """Rows in which a real coordinate is moved."""
    column: Array
    place: Array
    real: Array
    """The first row, and those of ``at``."""


class Polish:
    """Coordinate ascent on a gain from several rows, ``many`` of them by each of `STEPS`."""

    def __init__(self, space: SearchSpace, many: tuple[int, ...]) -> None:
        self.space, self.many = space, many
        self._changes: dict[tuple[int, float], Array] = {}
        self._known_ways: dict[bytes, Ways] = {}
        self._values_of_ways = 0

    def __getstate__(self) -> dict[str, Any]:
        """Without what can be worked out again."""
        return self.__dict__ | {"_changes": {}, "_known_ways": {}, "_values_of_ways": 0}

    def climb(
        self, gain: Gain, starts: Array, seen: set[bytes], rng: np.random.Generator
    ) -> tuple[Array, Array]:
        """The rows as far as they came, and their gains; exact on short lists.

        With each smaller step only the best so many go on; the others stay as they are.
        Around a row that stays where it is, what is discrete is not tried again with smaller steps.
        """
        space = self.space
        current = starts.copy()
        reached = [-1.0] * len(starts)
        stays = [False] * len(starts)
        reals = np.flatnonzero(space.is_real)
        for step, many in zip(STEPS if len(reals) else STEPS[:1], self.many, strict=False):
            moving = sorted(np.argsort(-np.array(reached), kind="stable")[:many].tolist())
            for _ in range(4):
                if not moving:
                    break
                jumps = step * rng.standard_normal((len(moving), len(reals), 4))
                jumps += current[moving][:, reals, None]
                jumps = np.minimum(reflect(jumps), 1.0 - 1e-12)
                groups = [
                    self._neighbors(current[i], moved.ravel(), stays[i])
                    for i, moved in zip(moving, jumps, strict=True)
                ]
                near = np.concatenate(groups)
                if space.has_steps:
                    near = space.settle(near)
                gains = gain(near)
                if seen:
                    gains[[row.tobytes() in seen for row in near]] = -1.0
                last, found = 0, []
                for i, group in zip(moving, groups, strict=True):
                    first, last = last, last + len(group)
                    j = first + int(np.argmax(gains[first:last]))
                    better = gains[j] > reached[i] * (1 + 1e-6) and gains[j] >= 0
                    moves = better and not np.array_equal(near[j], current[i])
                    stays[i] = not moves
                    if better:
                        reached[i], current[i] = float(gains[j]), near[j]
                    if moves:
                        found.append(i)
                moving = found
        told = np.array(reached)
        return current[told >= 0], told[told >= 0]

    def _neighbors(self, row: Array, moved: Array, real: bool) -> Array:
        """A row, and rows that differ from it in one coordinate that exists.

        ``moved`` has four places for each real parameter; only these are taken if ``real``.
        """
        ways = self._ways(row)
        part = slice(None) if not real else ways.real
        found = np.where(ways.keeps[part], row, ways.fixed[part])
        at = ways.at if not real else np.arange(1, len(found))
        found[at, ways.column] = moved[ways.place]
        return found

    def _ways(self, row: Array) -> "Ways":
        """What can be done to a row, which depends on what of it is discrete."""
        space = self.space
        key = row[~space.is_real].tobytes()
        found = self._known_ways.get(key)  # once: another thread may clear them
        if found is None:
            columns = np.flatnonzero(space.active(row[None])[0])
            numbers = np.cumsum(space.is_real) - 1
            values = [
                np.full(4, row[i]) if space.is_real[i] else self._others(int(i), float(row[i]))
                for i in columns
            ]
            changed = np.repeat(columns, [len(v) for v in values])
            near = np.repeat(row[None], len(changed) + 1, axis=0)
            near[np.arange(1, len(near)), changed] = np.concatenate(values)
            near = space.settle(near)
            real = space.is_real[changed]
            at = np.flatnonzero(real) + 1
            column = changed[real]
            found = Ways(
                near,
                space.active(near) & space.is_real,
                at,
                column,
                4 * numbers[column] + np.tile(np.arange(4), len(column) // 4),
                np.concatenate([[0], at]),
            )
            if self._values_of_ways > MOST_KEPT:
                self._known_ways.clear()
                self._values_of_ways = 0
            self._known_ways[key] = found
            self._values_of_ways += found.fixed.size
        return found

    def _others(self, i: int, code: float) -> Array:
        """What a discrete parameter may change to: all of a short list, near ones of a long one."""
        if (i, code) not in self._changes:
            n = int(self.space.cells[i])
            if self.space.is_category[i] or n <= 12:
                other = np.delete(np.arange(n), int(code)) if code >= 0 else np.arange(n)
            else:
                other = np.unique(np.clip(code + np.array([-4, -2, -1, 1, 2, 4]), 0, n - 1))
            self._changes[i, code] = other
        return self._changes[i, code]


def reflect(z: Array) -> Array:
    """Positions beyond the ends of [0, 1] folded back inside, so that none gathers at an end."""
    z = np.abs(z)
    return np.where(z > 1, 2 - z, z) % 1.0
