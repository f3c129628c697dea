"""Reading a figure's numbers back from its JSON."""

import re

from genopt_core import explorers

HYPHEN_AS_MINUS = re.compile(r"(?<![\w–—/−-])-(?=\.?\d)")


def drawn(name, **params):
    """The figure of an explorer as the front end gets it."""
    return explorers.draw(name, **params).to_json()


def marks(panel, kind, z=None):
    """The marks of this kind; with ``z`` those whose items all belong to that series."""
    found = [mark for mark in panel["marks"] if mark["kind"] == kind]
    return [m for m in found if z is None or set(m["columns"].get("z", [])) == {z}]


def strings(item, key=""):
    """All texts of a figure, or of packed figures, with the name under which they stand."""
    if isinstance(item, str):
        yield key, item
    elif isinstance(item, dict):
        for name, inner in item.items():
            packing = name in ("same", "object", "list", "pick", "at")
            yield from strings(inner, key if packing else name)
    elif isinstance(item, list):
        for inner in item:
            yield from strings(inner, key)
