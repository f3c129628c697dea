"""Names, strengths and measured losses of the methods of chapter 3, as the tables store them."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from genopt_core import tables

CHOSEN = "rope-learned-fourfold"
"""The reading that the development seeds chose, before any final seed was run."""
PLACES = {
    "development": "development, State of the Union, 64 tokens",
    **{
        f"{size}{key}/{trained}": f"final, {text}, {trained} {unit}"
        for size, unit in (("large/", "tokens"), ("", "bytes"))
        for trained in (64, 128)
        for key, text in (("sotu", "State of the Union"), ("moby-dick", "Moby-Dick"))
    },
}
"""Where decoders were trained, at which length; those that read tokens are the larger ones."""
UNITS = {place: "byte" if "bytes" in name else "token" for place, name in PLACES.items()}
FINAL = {
    "rope-learned-fourfold": "RoPE + learned slopes from 4/h",
    "rope-harmonic-fourfold": "RoPE + harmonic slopes, 4/h",
    "rope-harmonic-double": "RoPE + harmonic slopes, 2/h",
    "rope-harmonic-double-mix": "RoPE + harmonic slopes, 2/h, half of the heads free",
    "rope-harmonic": "RoPE + harmonic slopes",
    "harmonic": "harmonic slopes",
    "rope-hdist-fourfold": "RoPE + harmonic distance, 4/h",
    "rope-alibi": "RoPE + ALiBi",
    "rope-alibi-double": "RoPE + ALiBi, total of 2/h",
    "rope": "RoPE",
    "alibi": "ALiBi",
    "kerple-log": "KERPLE-log",
    "kerple-power": "KERPLE-power",
    "rope-kerple-power": "RoPE + KERPLE-power",
    "fire": "FIRE",
    "rope-fire": "RoPE + FIRE",
    "fox": "FoX (data-dependent)",
    "nope": "no positions",
    "rope-learned-ssmax": "RoPE + learned slopes, SSMax",
    "kerple-log-ssmax": "KERPLE-log, SSMax",
}
"""The methods of the final seeds."""
LATER = {
    "rope-interpolated": "RoPE, interpolated at test time",
    "rope-ntk": "RoPE, NTK at test time",
    "rope-yarn": "RoPE, YaRN at test time",
    "rope-drope": "DroPE (two stages)",
    "alibi-interpolated": "ALiBi, interpolated at test time",
    "rope-alibi-interpolated": "RoPE + ALiBi, bias interpolated at test time",
}
"""Trained decoders of another method, read in another way; added when the seeds were fixed."""


def described(name: str) -> Mapping[str, Any]:
    """What the method is: label, share that rotates, strengths, distance, what it learns."""
    return tables.load("positions_methods")["methods"][name]


def label(name: str) -> str:
    """The method in words."""
    return str(described(name)["label"])


def is_reading(name: str) -> bool:
    """Whether it is RoPE with a harmonic bias, in slopes or in distance, learned ones included."""
    one = described(name)
    return bool(one["harmonic"] and one["rotated"] and not one["ssmax"])


def is_peer(name: str) -> bool:
    """Whether it is data-independent, takes a single pass, and has nothing harmonic in it."""
    one = described(name)
    return one["learned"] != "fox" and not one["harmonic"] and name not in LATER


def times() -> list[int]:
    """Tested lengths over the trained one."""
    return list(tables.load("positions_losses")["times"])


def stored_places() -> list[str]:
    """Where losses are stored, in the order of `PLACES`."""
    cells = tables.load("positions_losses")["cells"]
    return [place for place in PLACES if place in cells]


def losses(place: str) -> dict[str, np.ndarray]:
    """``{method: (seeds, lengths) nats}`` of the methods that have been run at a place."""
    cells = tables.load("positions_losses")["cells"]
    return {name: np.array(rows) for name, rows in cells.get(place, {}).items()}


def recall_tasks() -> list[str]:
    """The tasks whose recall is stored."""
    return list(tables.load("positions_recall")["tasks"])


def recall(task: str) -> tuple[list[int], dict[str, np.ndarray]]:
    """Distances, and ``{method: (seeds, distances) accuracy}``."""
    table = tables.load("positions_recall")["tasks"][task]
    return list(table["distances"]), {n: np.array(rows) for n, rows in table["accuracy"].items()}
