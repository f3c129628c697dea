"""Reading a figure's numbers back from its JSON."""

from genopt_core import explorers


def drawn(name, **params):
    """The figure of an explorer as the front end gets it."""
    return explorers.draw(name, **params).to_json()


def marks(panel, kind, z=None):
    """The marks of this kind; with ``z`` those whose items all belong to that series."""
    found = [mark for mark in panel["marks"] if mark["kind"] == kind]
    return [m for m in found if z is None or set(m["columns"].get("z", [])) == {z}]
