"""How series look, said once: ``style.json`` is read here, by the front end and by its style sheet.

A role, such as ``"c1"`` or ``"warn"``, has a color on light and on dark pages, and also a dash, a
symbol and a hatch, so that no reader depends on color.
"""

import json
from importlib import resources
from typing import Any

STYLE: dict[str, Any] = json.loads(
    resources.files(__package__).joinpath("style.json").read_text(encoding="utf-8")
)
ROLES = tuple(STYLE["roles"])
