"""All figures of an explorer, computed in advance and packed, for a page without Python."""

import itertools
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from genopt_core.figures.registry import Explorer

MAX_FRAMES = 4000


def frames(explorer: Explorer) -> dict[str, Any]:
    """All figures over the grid of the controls, packed.

    The result holds ``explorer``, its description; ``grid``, the control values by name (the last
    control varies fastest); and ``packed``, see `pack`.  Where all settings would be more than
    `MAX_FRAMES`, give a slider a coarser ``grid``.
    """
    grid = {control.name: control.values() for control in explorer.controls}
    count = math.prod(len(values) for values in grid.values())
    if count > MAX_FRAMES:
        raise ValueError(
            f"settings of {explorer.name} must be at most {MAX_FRAMES}, got {count}: coarsen a grid"
        )
    results = [
        explorer.run(dict(zip(grid, point, strict=True)))
        for point in itertools.product(*grid.values())
    ]
    return {"explorer": explorer.describe(), "grid": grid, "packed": pack(results)}


def pack(items: Sequence[Any]) -> Any:
    """``items`` of similar shape, with what they share stored once.

    The result is one of ``{"same": value}``; ``{"object": {key: packed}}`` and
    ``{"list": [packed]}``, which go on inside; ``{"pick": [distinct values], "at": [index of each
    item]}``.  Item ``i`` is rebuilt by ``unpack`` (and by ten lines of the front end).

    >>> packed = pack([{"a": 1, "b": [1, 2]}, {"a": 1, "b": [1, 3]}])
    >>> packed["object"]["a"], packed["object"]["b"]["list"][1]
    ({'same': 1}, {'pick': [2, 3], 'at': [0, 1]})
    >>> unpack(packed, 1)
    {'a': 1, 'b': [1, 3]}
    """
    first = items[0]
    if all(item == first and type(item) is type(first) for item in items):
        return {"same": first}
    if all(isinstance(item, dict) and item.keys() == first.keys() for item in items):
        return {"object": {key: pack([item[key] for item in items]) for key in first}}
    shape = len(first) if isinstance(first, list) else -1
    deep = isinstance(first, list) and any(isinstance(v, dict | list) for v in first)
    if all(isinstance(item, list) and len(item) == shape for item in items) and (deep or shape < 4):
        return {"list": [pack([item[i] for item in items]) for i in range(shape)]}
    position: dict[str, int] = {}
    at = [position.setdefault(json.dumps(item), len(position)) for item in items]
    return {"pick": [json.loads(key) for key in position], "at": at}


def unpack(packed: Mapping[str, Any], index: int) -> Any:
    """Item ``index`` of what `pack` stored."""
    if "same" in packed:
        return packed["same"]
    if "object" in packed:
        return {key: unpack(value, index) for key, value in packed["object"].items()}
    if "list" in packed:
        return [unpack(value, index) for value in packed["list"]]
    return packed["pick"][packed["at"][index]]
