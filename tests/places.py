"""Where things are in the checkout."""

from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BOOK = ROOT / "book"
CORE = ROOT / "genopt_core"
TABLES = CORE / "tables"
RESULTS = BOOK / "data" / "results"
