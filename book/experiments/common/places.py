"""Where things are in the checkout."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
DATA = ROOT / "book" / "data"
RESULTS = DATA / "results"
TABLES = ROOT / "genopt_core" / "tables"
SCRATCH = ROOT / ".cache" / "benchmarks"
"""What an interrupted run goes on from; may be removed at any time."""
