r"""A search space: named parameters, some of which exist only beside certain values of others."""

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import cached_property
from graphlib import CycleError, TopologicalSorter
from typing import Any, NamedTuple

import numpy as np

from genopt_core.cross_entropy.parameters import Array, Categorical, Float, Integer, Parameter

INACTIVE = -1.0
"""The code of a category that does not exist in a configuration."""


class Wave(NamedTuple):
    """Conditions of parameters whose parents are known to exist or not."""

    parents: Array
    """Columns of what is asked for, one a condition."""
    starts: Array
    """Where in ``allows`` the first code of each is."""
    allows: Array
    """Whether a code lets exist what depends on it."""
    first: Array | None
    """The first condition of each group of parameters; None if each has one."""
    columns: Array
    """The parameters of all groups."""
    group: Array
    """The group of each."""


class SearchSpace:
    """Named parameters, each a `Categorical`, an `Integer` or a `Float`.

    Configurations list them in the order of ``parameters``.  One with ``when`` exists only in
    configurations whose other parameters have the values given there.

    >>> space = SearchSpace(
    ...     {
    ...         "loss": Categorical(["softmax", "sampling"]),
    ...         "negatives": Integer(2, 20, when={"loss": "sampling"}),
    ...     }
    ... )
    >>> space.decode(space.encode({"loss": "softmax"}))
    {'loss': 'softmax'}

    >>> space.labels("loss"), space.size, len(list(space.configurations(np.random.default_rng(0))))
    (['softmax', 'sampling'], 20, 20)
    >>> [space.decode(row) for row in space.uniform(2, np.random.default_rng(0))]
    [{'loss': 'sampling', 'negatives': 7}, {'loss': 'softmax'}]
    >>> rows = np.array([[1.0, 3.0], [0.0, 5.0]])
    >>> space.active(rows).tolist(), space.settle(rows).tolist()
    ([[True, True], [True, False]], [[1.0, 3.0], [0.0, 0.0]])
    >>> space.cell(rows).tolist(), space.unit(rows).round(3).tolist()
    ([[1, 3], [0, 5]], [[1.0, 0.167], [0.0, 0.278]])
    >>> space.fill(np.array([[1, 4]]), np.random.default_rng(0)).tolist()
    [[1.0, 4.0]]
    >>> len(space)
    2
    """

    def __init__(self, parameters: Mapping[str, Parameter]) -> None:
        if not isinstance(parameters, Mapping):
            raise TypeError(f"parameters must be a mapping of names, got {type(parameters)}")
        if not parameters:
            raise ValueError("parameters must name at least one parameter, got none")
        for name, parameter in parameters.items():
            if not isinstance(name, str):
                raise TypeError(f"names of parameters must be strings, got {name!r}")
            if not isinstance(parameter, Categorical | Integer | Float):
                raise TypeError(
                    f"parameter {name!r} must be a Categorical, Integer or Float, got {parameter!r}"
                )
        self.parameters = dict(parameters)
        self.names = tuple(parameters)
        self.cells = np.array([p.cells for p in parameters.values()])
        kinds = [p.kind for p in parameters.values()]
        self.is_category = np.array([kind == "category" for kind in kinds])
        self.is_real = np.array([kind == "real" for kind in kinds])
        self.is_finite = not any(getattr(p, "continuous", False) for p in parameters.values())
        self._conditions: dict[int, list[tuple[int, Array]]] = {}
        for i, name in enumerate(self.names):
            self._conditions[i] = self._read_condition(name)
        self._order = self._parents_first()
        self.is_conditional = any(self._conditions.values())
        self.together = self._that_exist_together()
        self.rest = np.where(self.is_real, 0.5, np.where(self.is_category, INACTIVE, 0.0))
        self._snapped = [
            (i, p)
            for i, p in enumerate(parameters.values())
            if p.kind == "real" and getattr(p, "step", None)
        ]
        self.has_steps = bool(self._snapped)
        self._check_reachable()

    def __len__(self) -> int:
        return len(self.names)

    def __repr__(self) -> str:
        return f"SearchSpace({self.parameters!r})"

    # ---------------------------------------------------------------- conditions

    def _read_condition(self, name: str) -> list[tuple[int, Array]]:
        """Parent's column and the codes of it for which ``name`` exists."""
        found = []
        for parent, values in (self.parameters[name].when or {}).items():
            if parent not in self.parameters:
                raise ValueError(f"{name!r} exists when {parent!r}, which is no parameter")
            other = self.parameters[parent]
            if other.kind == "real":
                raise ValueError(
                    f"{name!r} can depend on a Categorical or a short Integer, not on {parent!r}"
                )
            listed = isinstance(values, Collection) and not isinstance(values, str)
            try:
                codes = [other.encode(v) for v in (values if listed else [values])]
            except ValueError as error:
                raise ValueError(f"{name!r} exists when {parent!r}: {error}") from None
            if not codes:
                raise ValueError(f"{name!r} exists when {parent!r} is one of no values")
            found.append((self.names.index(parent), np.array(codes)))
        return found

    def _parents_first(self) -> list[int]:
        parents = {i: [parent for parent, _ in found] for i, found in self._conditions.items()}
        try:
            return list(TopologicalSorter(parents).static_order())
        except CycleError as error:
            names = ", ".join(repr(self.names[i]) for i in error.args[1][1:])
            raise ValueError(f"the conditions of {names} run in a circle") from None

    def _that_exist_together(self) -> list[Array]:
        """Columns by the conditions on which they exist, parents first."""
        found: dict[Any, list[int]] = {}
        for i in self._order:
            key = tuple((parent, codes.tobytes()) for parent, codes in self._conditions[i])
            found.setdefault(key, []).append(i)
        return [np.array(columns) for columns in found.values()]

    @cached_property
    def starts(self) -> Array:
        """Where the cells of each parameter begin in a list of all cells, and its end."""
        return np.concatenate([[0], np.cumsum(self.cells)])

    @cached_property
    def ordered_alike(self) -> list[tuple[int, Array]]:
        """Numbers of cells, and for each the cells of those parameters that are no categories."""
        found: dict[int, list[int]] = {}
        for i in np.flatnonzero(~self.is_category):
            found.setdefault(int(self.cells[i]), []).append(int(self.starts[i]))
        return [(n, np.add.outer(at, np.arange(n))) for n, at in found.items()]

    @cached_property
    def codes(self) -> tuple[Array, Array, Array]:
        """Columns of discrete parameters, where the codes of each begin, the column of each code.

        Categories come first, and of each `INACTIVE`.

        Returns
        -------
        columns : (discrete parameters,) array
        starts : (discrete parameters,) array
            Where code 0 of each stands among all codes.
        owner : (codes,) array
        """
        columns = np.concatenate(
            [np.flatnonzero(self.is_category), np.flatnonzero(~self.is_category & ~self.is_real)]
        )
        sizes = self.cells[columns] + self.is_category[columns]
        starts = np.cumsum(sizes) - sizes + self.is_category[columns]
        return columns, starts, np.repeat(columns, sizes)

    def _check_reachable(self) -> None:
        """Refuse a parameter whose conditions contradict each other, its parents' included."""
        for i in self._order:
            allowed: dict[int, set[float]] = {}
            pending = list(self._conditions[i])
            while pending:
                parent, codes = pending.pop()
                allowed[parent] = allowed.get(parent, set(codes.tolist())) & set(codes.tolist())
                pending += self._conditions[parent]
                if not allowed[parent]:
                    raise ValueError(
                        f"{self.names[i]!r} can never exist: its conditions on "
                        f"{self.names[parent]!r} contradict each other"
                    )

    @cached_property
    def _waves(self) -> list["Wave"]:
        """All conditions, those first on whose parents there are none."""
        depth: dict[int, int] = {}
        for i in self._order:
            depth[i] = max((depth[parent] + 1 for parent, _ in self._conditions[i]), default=0)
        waves = []
        for level in range(1, max(depth.values()) + 1):
            groups = [columns for columns in self.together if depth[int(columns[0])] == level]
            pairs = [pair for columns in groups for pair in self._conditions[int(columns[0])]]
            many = [len(self._conditions[int(columns[0])]) for columns in groups]
            parents = np.array([parent for parent, _ in pairs])
            sizes = self.cells[parents] + 1  # a category may be INACTIVE
            starts = np.cumsum(sizes) - sizes + 1
            allows = np.zeros(sizes.sum(), bool)
            for start, (_, codes) in zip(starts, pairs, strict=True):
                allows[start + codes.astype(int)] = True
            waves.append(
                Wave(
                    parents,
                    starts,
                    allows,
                    np.cumsum(many) - many if max(many) > 1 else None,
                    np.concatenate(groups),
                    np.repeat(np.arange(len(groups)), [len(columns) for columns in groups]),
                )
            )
        return waves

    def active(self, rows: Array) -> Array:
        """Which coordinates exist: truth values in the shape of ``rows``, (rows, parameters).

        Below a code that a category does not have nothing exists.
        """
        found = np.ones(rows.shape, bool)
        for wave in self._waves:
            codes = rows[:, wave.parents]
            known = (codes >= 0) & (codes < self.cells[wave.parents]) & (codes == np.floor(codes))
            at = np.where(known, codes, INACTIVE) + wave.starts
            there = wave.allows[at.astype(np.intp)]
            there &= found[:, wave.parents]
            if wave.first is not None:
                there = np.logical_and.reduceat(there, wave.first, axis=1)
            found[:, wave.columns] = there[:, wave.group]
        return found

    def settle(self, rows: Array) -> Array:
        """``rows`` (rows, parameters) as values are rounded; what does not exist has one place."""
        rows = np.array(rows, float)
        for i, parameter in self._snapped:
            rows[:, i] = parameter.snap(rows[:, i])
        if self.is_conditional:
            lacks = ~self.active(rows)
            np.maximum(rows, 0.0, out=rows)  # a new category: the first
            np.copyto(rows, self.rest, where=lacks)
        return rows

    # ---------------------------------------------------------------- configurations and rows

    def encode(self, params: Mapping[str, Any]) -> Array:
        """The coordinates of a configuration, shape (parameters,).

        Raises ``ValueError`` for an unknown or missing name and for a value outside its range.
        """
        if unknown := [name for name in params if name not in self.parameters]:
            raise ValueError(f"{unknown[0]!r} is no parameter; they are {', '.join(self.names)}")
        row = np.zeros(len(self.names))
        for i, (name, parameter) in enumerate(self.parameters.items()):
            if name in params:
                try:
                    row[i] = parameter.encode(params[name])
                except ValueError as error:
                    raise ValueError(f"{name} {error}") from None
            elif not self._conditions[i]:
                raise ValueError(f"the configuration {dict(params)!r} lacks {name!r}")
        active = self.active(row[None])[0]
        for i, name in enumerate(self.names):
            if active[i] and name not in params:
                raise ValueError(f"the configuration {dict(params)!r} lacks {name!r}")
            if not active[i] and name in params:
                raise ValueError(f"{name!r} does not exist in the configuration {dict(params)!r}")
        return self.settle(row[None])[0]

    def decode(self, row: Array) -> dict[str, Any]:
        """The configuration of a ``row`` (parameters,): parameters that exist, in order.

        Raises ``ValueError`` for anything but finite numbers, one for each parameter.
        """
        row = np.asarray(row, float)
        if row.shape != (len(self),) or not np.isfinite(row).all():
            raise ValueError(f"row must be {len(self)} finite numbers, got {row.tolist()!r:.80}")
        active = self.active(row[None])[0]
        return {
            name: parameter.decode(row[i])
            for i, (name, parameter) in enumerate(self.parameters.items())
            if active[i]
        }

    def cell(self, rows: Array) -> Array:
        """The cells of ``rows`` (rows, parameters); -1 for a category that is not there."""
        rows = np.asarray(rows, float)
        real = np.minimum((rows * self.cells).astype(int), self.cells - 1)
        return np.where(self.is_real, real, rows).astype(int)

    def unit(self, rows: Array) -> Array:
        """``rows`` in [0, 1], categories as they are: what distances are measured on."""
        rows = np.asarray(rows, float)
        return np.where(self.is_real | self.is_category, rows, rows / np.maximum(self.cells - 1, 1))

    def fill(self, cells: Array, rng: np.random.Generator) -> Array:
        """Rows drawn uniformly inside ``cells``, which are (rows, parameters) as they are."""
        inside = (cells + rng.random(cells.shape)) / self.cells
        return self.settle(np.where(self.is_real, inside, cells))

    def uniform(self, size: int, rng: np.random.Generator) -> Array:
        """Rows drawn uniformly over all cells, shape (size, parameters)."""
        return self.fill((rng.random((size, len(self))) * self.cells).astype(int), rng)

    # ---------------------------------------------------------------- all configurations

    @cached_property
    def size(self) -> float:
        """The number of different configurations; infinite with a continuous parameter.

        >>> switch, level = Categorical([True, False]), Integer(1, 9, when={"switch": True})
        >>> SearchSpace({"switch": switch, "level": level}).size
        10
        """
        if not self.is_finite:
            return math.inf
        levels = [p.levels for p in self.parameters.values()]
        parents = {parent for found in self._conditions.values() for parent, _ in found}
        alone = [i for i in self._order if i not in parents]
        # Only what others depend on is gone through; the rest multiplies.
        total = 0
        for row, there in self._combinations([i for i in self._order if i in parents], None):
            total += math.prod(levels[i] for i in alone if self._exists(i, row, there))
        return total

    def configurations(self, rng: np.random.Generator) -> Iterator[Array]:
        """The rows of all configurations of a finite space, each once, made one after the other.

        Where each parameter begins is random.  Of any n + 1 of them one is not among n known ones.
        """
        for row, _ in self._combinations(self._order, rng):
            yield self.settle(row[None])[0]

    def _exists(self, i: int, row: Array, there: Array) -> bool:
        return all(there[parent] and row[parent] in codes for parent, codes in self._conditions[i])

    def _combinations(
        self, columns: list[int], rng: np.random.Generator | None
    ) -> Iterator[tuple[Array, Array]]:
        """Coordinates of some columns, parents first, and which of them exist; changed in place."""
        row, there = np.zeros(len(self)), np.zeros(len(self), bool)
        parameters = list(self.parameters.values())

        def extend(at: int) -> Iterator[tuple[Array, Array]]:
            if at == len(columns):
                yield row, there
                return
            i = columns[at]
            there[i] = self._exists(i, row, there)
            for index in _order(parameters[i].levels, rng) if there[i] else [0]:
                row[i] = parameters[i].code(index)
                yield from extend(at + 1)

        yield from extend(0)

    def labels(self, name: str) -> list[str]:
        """The cells of a parameter in words, in the order of its probabilities."""
        parameter = self.parameters[name]
        return [parameter.label(i) for i in range(parameter.cells)]


def _order(n: int, rng: np.random.Generator | None) -> Iterator[int]:
    """The numbers below n, from a random one on in random strides, without a list of them."""
    start, stride = (0, 1) if rng is None else (int(rng.random() * n), 1 + int(rng.random() * n))
    while math.gcd(stride, n) != 1:
        stride += 1
    return ((start + k * stride) % n for k in range(n))


def draw_cells(
    probabilities: Sequence[Array], size: int, rng: np.random.Generator, first: int = 0
) -> Array:
    """Independent draws of cells, one probability vector a parameter.

    Those before ``first`` are drawn and left out: the shape is (size - first, parameters).
    """
    drawn = rng.random((len(probabilities), size))[:, first:]
    ends = np.cumsum([len(p) for p in probabilities]).tolist()
    sums = np.concatenate([[0.0], np.cumsum(np.concatenate(probabilities))])
    edges = sums[[0, *ends]]
    places = edges[:-1, None] + drawn * np.diff(edges)[:, None]
    found = np.empty((size - first, len(ends)), np.intp)
    start = 0
    for i, end in enumerate(ends):
        found[:, i] = sums[start + 1 : end].searchsorted(places[i], "right")
        start = end
    return found
