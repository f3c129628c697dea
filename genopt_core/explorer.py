r"""Explorers: pure functions ``f(**params) -> Figure`` with declared controls.

One function serves four readers.  A notebook kernel calls it through :func:`genopt_core.explore`,
the book build sweeps its controls into *frames* (:func:`frames`) for a page without any Python, a
worker in the reader's browser runs this very module, and the tests call it as it is.

>>> from genopt_core.explorer import draw, get
>>> [control.name for control in get("subword-lattice").controls]
['word', 'size', 'k']
>>> draw("subword-lattice", k=2).title
'republic▁ in at most 2 pieces of 2,000'
"""

from __future__ import annotations

import importlib
import itertools
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .controls import Choice, Control, Seed, Slider, Step, Text, Toggle
from .figure import Figure

__all__ = [
    "CHAPTERS",
    "Choice",
    "Control",
    "Explorer",
    "Preset",
    "Seed",
    "Slider",
    "Step",
    "Text",
    "Toggle",
    "describe",
    "draw",
    "explorer",
    "frames",
    "get",
    "names",
    "run",
    "run_json",
]

# Modules of genopt_core.explorers, in the order of the chapters.
CHAPTERS = (
    "subwords",
    "subword_peers",
    "subword_vocabulary",
    "subword_comparison",
    "subword_languages",
    "cross_entropy",
    "cross_entropy_race",
    "kvcache_codes",
    "kvcache",
    "kvcache_layers",
)
MAX_FRAMES = 4000


@dataclass(frozen=True)
class Preset:
    """A named setting worth seeing; ``fails=True`` marks the one that shows the method failing."""

    label: str
    params: Mapping[str, Any]
    note: str = ""
    fails: bool = False

    def to_json(self) -> dict[str, Any]:
        out: dict[str, Any] = {"label": self.label, "params": dict(self.params)}
        if self.note:
            out["note"] = self.note
        return out | ({"fails": True} if self.fails else {})


@dataclass(frozen=True)
class Explorer:
    """A registered figure function with its controls and presets."""

    name: str
    title: str
    alt: str
    function: Callable[..., Figure]
    controls: tuple[Control, ...]
    presets: tuple[Preset, ...]

    @property
    def defaults(self) -> dict[str, Any]:
        return {control.name: control.default for control in self.controls}

    def check(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """``params`` over the defaults, each checked by its control."""
        unknown = sorted(set(params) - set(self.defaults))
        if unknown:
            raise TypeError(f"{self.name} has no control {unknown[0]!r}, but {list(self.defaults)}")
        full = self.defaults | dict(params)
        return {control.name: control.check(full[control.name]) for control in self.controls}


_REGISTRY: dict[str, Explorer] = {}


def explorer(
    name: str, *controls: Control, title: str, alt: str, presets: Sequence[Preset]
) -> Callable[[Callable[..., Figure]], Callable[..., Figure]]:
    """Register the decorated function as the explorer ``name``.

    ``alt`` says what kind of picture it is, for a reader who cannot see it; the readout adds the
    numbers.  Every explorer has presets, one of which shows the method failing.
    """

    def keep(function: Callable[..., Figure]) -> Callable[..., Figure]:
        if name in _REGISTRY and _REGISTRY[name].function.__module__ != function.__module__:
            raise ValueError(f"two explorers are called {name!r}")
        entry = Explorer(name, title, alt, function, controls, tuple(presets))
        if not any(preset.fails for preset in presets):
            raise ValueError(f"{name} needs a preset that shows the method failing")
        for preset in presets:
            entry.check(preset.params)
        _REGISTRY[name] = entry
        return function

    return keep


def _load() -> dict[str, Explorer]:
    for chapter in CHAPTERS:
        importlib.import_module(f"genopt_core.explorers.{chapter}")
    return _REGISTRY


def names() -> list[str]:
    """The names of all explorers, in the order of the chapters."""
    return list(_load())


def get(name: str) -> Explorer:
    """The explorer ``name``.  Raises ``KeyError`` with the names there are."""
    registry = _load()
    if name not in registry:
        raise KeyError(f"no explorer {name!r}; there are {', '.join(registry)}")
    return registry[name]


def draw(name: str, **params: Any) -> Figure:
    """The figure of explorer ``name`` at ``params``; what is not given stands at its default.

    Raises ``ValueError`` or ``TypeError`` for settings the explorer cannot show.
    """
    entry = get(name)
    return entry.function(**entry.check(params))


def run(name: str, params: Mapping[str, Any]) -> dict[str, Any]:
    """``{"figure": ...}`` as plain data, or ``{"error": ...}`` with the reason in words.

    An impossible setting is part of the conversation with a reader, not a crash; anything but
    ``ValueError`` and ``TypeError`` is a defect and is raised.
    """
    try:
        figure = draw(name, **params)
    except (ValueError, TypeError) as problem:
        return {"error": str(problem)}
    out = figure.to_json()
    out.setdefault("alt", get(name).alt)
    return {"figure": out}


def run_json(name: str, params: str) -> str:
    """:func:`run` with JSON text in and out, for a worker in a browser."""
    return json.dumps(run(name, json.loads(params)), ensure_ascii=False)


def describe(name: str) -> dict[str, Any]:
    """Everything the front end needs to build the controls of explorer ``name``."""
    entry = get(name)
    return {
        "name": name,
        "title": entry.title,
        "alt": entry.alt,
        "controls": [control.to_json() for control in entry.controls],
        "presets": [preset.to_json() for preset in entry.presets],
    }


def frames(name: str) -> dict[str, Any]:
    """All figures over the grid of the controls, packed: what the static page carries.

    The result holds ``grid``, the control values by name (the last control varies fastest), and
    ``packed``, see ``pack``.  Raises ``ValueError`` if the grid has more than 4000 points:
    give a slider a coarser ``grid`` then.
    """
    entry = get(name)
    grid = {control.name: control.values() for control in entry.controls}
    count = math.prod(len(values) for values in grid.values())
    if count > MAX_FRAMES:
        raise ValueError(f"{name} has {count} settings, more than {MAX_FRAMES}: coarsen a grid")
    results = [
        run(name, dict(zip(grid, point, strict=True)))
        for point in itertools.product(*grid.values())
    ]
    return {"explorer": describe(name), "grid": grid, "packed": pack(results)}


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
    """Item ``index`` of what :func:`pack` stored."""
    if "same" in packed:
        return packed["same"]
    if "object" in packed:
        return {key: unpack(value, index) for key, value in packed["object"].items()}
    if "list" in packed:
        return [unpack(value, index) for value in packed["list"]]
    return packed["pick"][packed["at"][index]]
