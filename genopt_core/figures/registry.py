"""What an explorer is: a figure function with its controls and presets, registered under a name."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from genopt_core.figures.controls import Control
from genopt_core.figures.schema import Figure


@dataclass(frozen=True)
class Preset:
    """A named setting worth seeing; ``fails=True`` marks the one that shows the method failing.

    >>> Preset("Half", {"share": 0.5}, note="too few").to_json()
    {'label': 'Half', 'params': {'share': 0.5}, 'note': 'too few'}
    """

    label: str
    params: Mapping[str, Any]
    note: str = ""
    fails: bool = False

    def to_json(self) -> dict[str, Any]:
        """What the front end reads; what is empty is left out."""
        out: dict[str, Any] = {"label": self.label, "params": dict(self.params)}
        if self.note:
            out["note"] = self.note
        return out | ({"fails": True} if self.fails else {})


@dataclass(frozen=True)
class Explorer:
    """A registered figure function with its controls and presets.

    >>> from genopt_core import explorers
    >>> stairs = explorers.get("kv-staircase")
    >>> stairs.check({}) == stairs.defaults, stairs.describe()["name"]
    (True, 'kv-staircase')
    >>> list(stairs.run({})), stairs.draw() == stairs.draw(**stairs.defaults)
    (['figure'], True)
    """

    name: str
    title: str
    alt: str
    function: Callable[..., Figure]
    controls: tuple[Control, ...]
    presets: tuple[Preset, ...]
    code: str = ""

    @property
    def defaults(self) -> dict[str, Any]:
        """Where each control stands at first."""
        return {control.name: control.default for control in self.controls}

    def check(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """``params`` over the defaults, each checked by its control."""
        unknown = sorted(set(params) - set(self.defaults))
        if unknown:
            raise TypeError(
                f"{self.name} has no control {unknown[0]!r}; there are {', '.join(self.defaults)}"
            )
        full = self.defaults | dict(params)
        return {control.name: control.check(full[control.name]) for control in self.controls}

    def draw(self, **params: Any) -> Figure:
        """The figure at ``params``; what is not given stands at its default."""
        return self.function(**self.check(params))

    def run(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """``{"figure": ...}`` as plain data, or ``{"error": ...}`` with the reason in words.

        An impossible setting is part of the conversation with a reader, not a crash; anything but
        ``ValueError`` and ``TypeError`` is a defect and is raised.
        """
        try:
            figure = self.draw(**params)
        except (ValueError, TypeError) as problem:
            return {"error": str(problem)}
        out = figure.to_json()
        out.setdefault("alt", self.alt)
        return {"figure": out}

    def describe(self) -> dict[str, Any]:
        """What the front end needs to build the controls.

        ``free`` names those that take more than the settings with frames: to explorers that have
        one a live engine adds something.
        """
        return {
            "name": self.name,
            "title": self.title,
            "alt": self.alt,
            "controls": [control.to_json() for control in self.controls],
            "free": [control.name for control in self.controls if control.free],
            "presets": [preset.to_json() for preset in self.presets],
        } | ({"code": self.code} if self.code else {})


REGISTRY: dict[str, Explorer] = {}


def explorer(
    name: str,
    *controls: Control,
    title: str,
    alt: str,
    presets: Sequence[Preset],
    code: str = "",
) -> Callable[[Callable[..., Figure]], Callable[..., Figure]]:
    """Register the decorated function as the explorer ``name``.

    ``alt`` says what kind of picture it is, for a reader who cannot see it; the readout adds the
    numbers.  Every explorer has presets, one of which shows the method failing.  ``code`` is the
    call of the core behind the figure, with ``{control}`` where a setting stands: readers copy it.

    >>> from genopt_core.figures.schema import Axis, Figure, Panel
    >>> @explorer(
    ...     "doc-empty",
    ...     title="Nothing",
    ...     alt="An empty panel",
    ...     presets=[Preset("Empty", {}, fails=True, note="there is nothing to see")],
    ... )
    ... def empty() -> Figure:
    ...     return Figure([Panel([], Axis("x"), Axis("y"))], "Nothing", "Nothing is drawn.")
    >>> REGISTRY.pop("doc-empty").title
    'Nothing'
    """

    def keep(function: Callable[..., Figure]) -> Callable[..., Figure]:
        if name in REGISTRY and REGISTRY[name].function.__module__ != function.__module__:
            raise ValueError(f"name must belong to one explorer only, got {name!r}")
        entry = Explorer(name, title, alt, function, controls, tuple(presets), code)
        if not any(preset.fails for preset in presets):
            raise ValueError(f"presets of {name} must include one that fails, got {presets}")
        for preset in presets:
            entry.check(preset.params)
        REGISTRY[name] = entry
        return function

    return keep
