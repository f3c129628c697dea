"""What a comparison with methods of others is: cells, the best peer in each, and a ratio.

In each cell, a corpus, a size, a text or a budget, ours is set against the peer that is best
*there*.  What is told is the median ratio over the cells with their range, or for a single cell the
interval of the differences between seeds.
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from statistics import median
from types import ModuleType

from genopt_core.explorers.reports import Estimate

BOOK = Path(__file__).resolve().parents[2]


ONCE = 0.05
"""By which share a ratio without a spread must differ from 1 to count as ahead or behind."""


@dataclass(frozen=True)
class Cell:
    """What ours and each peer reached under the same conditions."""

    ours: float
    peers: Mapping[str, float]

    def __post_init__(self) -> None:
        for name, value in {"ours": self.ours, **self.peers}.items():
            if not (math.isfinite(value) and value > 0):
                raise ValueError(f"{name} must be positive, got {value}")


@dataclass(frozen=True)
class Comparison:
    """A row of the scoreboard.

    ``spread_of`` says what its spread is, ``interval`` is that of a single cell's ratio;
    ``report`` is the function of ``results.py`` whose table shows the numbers, or the explorer,
    ``section`` the heading above it, ``claim`` the row of the ledger.
    """

    chapter: int
    what: str
    ours: str
    cells: Sequence[Cell]
    spread_of: str
    report: str
    section: str
    claim: str
    more: bool = False  # whether more is better
    interval: tuple[float, float] | None = None

    def against(self, ours: float, other: float) -> float:
        """Below 1 ours is ahead."""
        return other / ours if self.more else ours / other

    def peers(self) -> dict[str, float]:
        """The ratio to each peer, its median over the cells in which it ran; hardest first."""
        found: dict[str, list[float]] = {}
        for cell in self.cells:
            for name, value in cell.peers.items():
                found.setdefault(name, []).append(self.against(cell.ours, value))
        ratios = {name: median(values) for name, values in found.items()}
        return dict(sorted(ratios.items(), key=lambda item: -item[1]))

    def _ratios(self) -> list[float]:
        return [max(self.against(c.ours, v) for v in c.peers.values()) for c in self.cells]

    @property
    def ratio(self) -> float:
        """Ours over the best peer."""
        return median(self._ratios())

    @property
    def spread(self) -> tuple[float, float] | None:
        """Smallest and largest ratio, or the interval."""
        if self.interval:
            return self.interval
        found = self._ratios()
        return (min(found), max(found)) if len(found) > 1 else None

    @property
    def best(self) -> str:
        """The peer that is best in most cells."""
        won = [
            max(cell.peers, key=lambda name: self.against(cell.ours, cell.peers[name]))
            for cell in self.cells
        ]
        return max(dict.fromkeys(won), key=won.count)

    @property
    def verdict(self) -> str:
        """``ahead`` or ``behind`` if the whole spread is, else ``open``.

        What was measured once has no spread: it has to be off by more than `ONCE`.
        """
        low, high = self.spread or (self.ratio * (1 - ONCE), self.ratio * (1 + ONCE))
        return "ahead" if high < 1 else "behind" if low > 1 else "open"

    @property
    def page(self) -> str:
        return f"{folder(self.chapter).name}/evidence"


def folder(chapter: int) -> Path:
    (found,) = BOOK.glob(f"ch{chapter}_*")
    return found


@cache
def results(chapter: int) -> ModuleType:
    """``results.py`` of a chapter, so that numbers are those of the tables on its page."""
    name = f"results_of_chapter_{chapter}"
    spec = importlib.util.spec_from_file_location(name, folder(chapter) / "results.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def cell(
    rows: Iterable[Mapping], by: str, of: str, ours: str, is_peer: Callable[[str], bool]
) -> Cell:
    """A cell from rows of a table: the column ``of`` by the names in the column ``by``."""
    found = {row[by]: row[of] for row in rows if row.get(of) is not None}
    return Cell(found[ours], {name: found[name] for name in found if is_peer(name)})


def least(peers: Mapping[str, float]) -> str:
    """The peer with the smallest value."""
    return min(peers, key=lambda name: peers[name])


def around(one: Cell, gain: Estimate, peer: str, more: bool = False) -> tuple[float, float]:
    """The interval of a ratio from that of the difference, ours minus the peer's.

    >>> around(Cell(8.0, {"BPE": 10.0}), Estimate(-2.0, 1.0), "BPE")
    (0.7, 0.9)
    """
    other = one.peers[peer]
    ends = [other + gain.value + sign * (gain.error or 0) for sign in (-1, 1)]
    ratios = [other / end if more else end / other for end in ends]
    return min(ratios), max(ratios)


def from_both(ours: Estimate, other: Estimate, times: float = 1.0) -> tuple[float, float]:
    """The interval of a ratio from ``times`` both errors, taken as independent."""
    wide = times * math.hypot(*((e.error or 0) / e.value for e in (ours, other)))
    ratio = ours.value / other.value
    return ratio * math.exp(-wide), ratio * math.exp(wide)
