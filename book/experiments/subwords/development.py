"""Settings chosen on parts of the training text, scored by a training on the rest.

What a setting makes of it is a result of its own, kept under the setting's name behind `DEVELOPED`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TypeVar

DEVELOPED = "development "
Unit = TypeVar("Unit")


def split(units: list[Unit], one_in: int) -> tuple[list[Unit], list[Unit]]:
    """The rest of a text, and the last of ``one_in`` parts of it."""
    cut = len(units) * (one_in - 1) // one_in
    return units[:cut], units[cut:]


def tried(names: Iterable[str], settings: Mapping[str, Iterable[str]]) -> list[str]:
    """The runs on development text that some contestants are chosen from."""
    return [DEVELOPED + setting for name in names for setting in settings.get(name, ())]


def fewest(settings: Iterable[str], tokens: Callable[[str], float]) -> str:
    """The setting whose run needs the fewest tokens of the development text, the first on ties."""
    return min(settings, key=lambda setting: tokens(DEVELOPED + setting))
