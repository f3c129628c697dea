"""A fold over a list that goes on where it stopped: how a search keeps no state and stays fast."""

import operator
from collections.abc import Callable, Sequence
from itertools import takewhile
from typing import Generic, TypeVar

Item = TypeVar("Item")
State = TypeVar("State")


class Prefix(Generic[Item, State]):
    """The states after each item of a list; those of the beginning that it knows are kept.

    What it returns is a function of the list alone.  A list that starts like the last one costs
    only its new items, whether it is longer or shorter.  ``step`` makes the state after an item
    from the one before, ``start`` is the first, and ``same`` says whether two items are the same,
    by default whether they are one object.

    >>> sums = Prefix(operator.add, 0, same=operator.eq)
    >>> sums([1, 2, 3]), sums([1, 2]), sums([1, 5])
    ([1, 3, 6], [1, 3], [1, 6])
    """

    def __init__(
        self,
        step: Callable[[State, Item], State],
        start: State,
        same: Callable[[Item, Item], bool] = operator.is_,
    ) -> None:
        self.step, self.start, self.same = step, start, same
        self._items: list[Item] = []
        self._states: list[State] = []

    def __call__(self, items: Sequence[Item]) -> list[State]:
        """The state after each of the items."""
        known = min(len(self._items), len(items))
        if not all(map(operator.is_, self._items, items)):  # the fast way to see that they agree
            known = sum(1 for _ in takewhile(bool, map(self.same, self._items, items)))
        if known < len(items):
            del self._items[known:], self._states[known:]
            for item in items[known:]:
                self._states.append(self.step(self.last(known), item))
                self._items.append(item)
                known += 1
        return self._states[: len(items)]

    def last(self, size: int) -> State:
        """The state after ``size`` items, all of them known."""
        return self._states[size - 1] if size else self.start
