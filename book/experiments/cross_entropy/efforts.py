"""How much a search has to look at where less than half of the parameters exist at once.

    python -m book.experiments.cross_entropy.efforts        # 3 CPU minutes

The posterior form with `posterior.FULL` and with `posterior.SPARSE`, on eighty instances of the
development problem whose space is sparse.  The settings were chosen among nine on eighty others,
seeds 1000 to 1079.  Stored are regrets in units and the cost of a proposal, side by side, one
thread each.
"""

from __future__ import annotations

import os
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

from tqdm import tqdm

from book.experiments.common.main import parser
from book.experiments.common.places import RESULTS
from book.experiments.common.store import provenance, write_results
from book.experiments.cross_entropy import methods, problems
from book.experiments.cross_entropy.collect import UNIT
from genopt_core.cross_entropy import posterior

PATH = RESULTS / "cross_entropy_efforts.json"
PROBLEM, SEEDS = "conditional-dev", tuple(range(2000, 2080))
BUDGETS = 30, 60, 120
EFFORTS = {"full": posterior.FULL, "sparse": posterior.SPARSE}
COLUMNS = ("effort", "seed", *(f"r{b}" for b in BUDGETS), "ms")


def one(effort: str, seed: int) -> list[Any]:
    """A run: regrets in units, and the milliseconds of a proposal."""
    present = posterior.SPARSE
    posterior.SPARSE = EFFORTS[effort]
    try:
        problem = problems.problem(PROBLEM, seed)
        trace, seconds = methods.execute("posterior", problem, max(BUDGETS), seed)
    finally:
        posterior.SPARSE = present
    regrets = [round(r / UNIT) for r in trace.regrets(BUDGETS)]
    return [effort, seed, *regrets, round(1000 * seconds / max(BUDGETS), 2)]


def main() -> None:
    options = parser(__doc__, "quick").parse_args()
    methods.execute("posterior", problems.problem("nk-dev", 0), 15, 0)  # imports cost nothing
    rows = [
        one(effort, seed)
        for seed in tqdm(SEEDS[:2] if options.quick else SEEDS, unit="instance")
        for effort in EFFORTS
    ]
    if options.quick:
        print(*rows, sep="\n")
        return
    content = {
        "schema": "cross-entropy-efforts/1",
        "provenance": provenance(("genopt-core", "numpy", "scipy")),
        "problem": PROBLEM,
        "unit": UNIT,
        "efforts": {name: effort._asdict() for name, effort in EFFORTS.items()},
        "columns": COLUMNS,
        "rows": rows,
    }
    print(PATH.name, write_results(PATH, content), "bytes")


if __name__ == "__main__":
    main()
