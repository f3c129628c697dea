"""Where things are in the checkout, and what its pages say."""

import functools
import json
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BOOK = ROOT / "book"
CORE = ROOT / "genopt_core"
TABLES = CORE / "tables"
RESULTS = BOOK / "data" / "results"


@functools.cache
def page_words(name: str) -> str:
    """The words of a page of the book, without marks of emphasis and with plain minus signs."""
    text = (BOOK / name).read_text(encoding="utf-8")
    if name.endswith(".ipynb"):
        cells = json.loads(text)["cells"]
        text = "\n".join("".join(c["source"]) for c in cells if c["cell_type"] == "markdown")
    return re.sub(r"\s+", " ", text.replace("*", "").replace("−", "-"))
