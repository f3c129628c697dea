"""Train word2vec at every point of a grid and store the scores: chapter 2's tabulated objective.

    python -m book.experiments.cross_entropy.word2vec_tables planted             # resumes, writes
    python -m book.experiments.cross_entropy.word2vec_tables planted --seed 2    # only train
    python -m book.experiments.cross_entropy.word2vec_tables planted --check 8   # 8 rows again

Every training is written to a line of ``.cache/benchmarks/word2vec`` at once, so that a run that
was cut off goes on where it was.  ``planted`` is 20 minutes of one core, ``wikipedia`` 12.
The stored tables were trained by an earlier form of this script, with the same corpora and
settings; ``--check`` says whether this one gives the same numbers.
"""

import itertools
import platform
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from book.experiments.common.main import parser
from book.experiments.common.places import SCRATCH, TABLES
from book.experiments.common.store import write_or_check
from book.experiments.cross_entropy import text_data
from genopt_core import cross_entropy, word2vec

CACHE = SCRATCH / "word2vec"
UNIT = 1e-4  # scores are stored as whole numbers of this size

AXES: dict[str, list[dict[str, Any]]] = {
    "planted": [
        {
            "name": "architecture",
            "kind": "categorical",
            "levels": ["cbow_sum", "cbow", "skipgram"],
        },
        {"name": "negatives", "kind": "categorical", "levels": [0, 4, 12]},
        {"name": "dimension", "kind": "integer", "levels": [4, 8, 16, 32, 64]},
        {"name": "window", "kind": "integer", "levels": [1, 2, 4, 8]},
        {"name": "sample", "kind": "integer", "levels": [0.01, 0.001, 0.0001]},
        {"name": "learning_rate", "kind": "integer", "levels": [0.0125, 0.025, 0.05, 0.1]},
    ],
    "wikipedia": [
        {
            "name": "architecture",
            "kind": "categorical",
            "levels": ["cbow_sum", "cbow", "skipgram"],
        },
        {"name": "negatives", "kind": "integer", "levels": [2, 5, 12]},
        {"name": "dimension", "kind": "integer", "levels": [8, 24, 64]},
        {"name": "window", "kind": "integer", "levels": [1, 3, 8]},
        {"name": "sample", "kind": "integer", "levels": [0.01, 0.001, 0.0001]},
        {"name": "learning_rate", "kind": "integer", "levels": [0.0125, 0.025, 0.05]},
    ],
}
# What is the same for every training of a table.
CORPUS: dict[str, dict[str, int]] = {
    "planted": {"tokens": 80_000, "words": 1200, "clusters": 40, "seed": 0},
    "wikipedia": {"tokens": 200_000},
}
FIXED: dict[str, dict[str, Any]] = {
    "planted": {"epochs": 3, "min_count": 1},
    "wikipedia": {"epochs": 3, "min_count": 2},
}
SEEDS = {"planted": (1, 2), "wikipedia": (1,)}
SCORE = {
    "planted": "Spearman correlation of cosines with the planted ones",
    "wikipedia": "AUC of held-out pairs of neighbouring words",
}


def objective(which: str) -> Callable[..., float]:
    """The score of one training, as a function of the settings and the seed."""
    if which == "planted":
        sizes = dict(CORPUS[which])
        corpus = word2vec.planted_corpus(rng=np.random.default_rng(sizes.pop("seed")), **sizes)
        training, _ = word2vec.heldout_queries(corpus.sentences, np.random.default_rng(0))

        def planted(seed: int, **settings: Any) -> float:
            trained = word2vec.train(training, seed=seed, **FIXED[which], **settings)
            return word2vec.planted_spearman(trained, corpus)

        return planted
    sentences = text_data.wikipedia_sentences(**CORPUS[which])
    rng = np.random.default_rng(0)
    training, queries = word2vec.heldout_queries(sentences, rng, count=15_000)

    def wikipedia(seed: int, **settings: Any) -> float:
        trained = word2vec.train(training, seed=seed, **FIXED[which], **settings)
        return word2vec.heldout_auc(trained, queries)

    return wikipedia


def points(which: str) -> list[dict[str, Any]]:
    """All configurations, the last axis fastest."""
    axes = AXES[which]
    rows = itertools.product(*(axis["levels"] for axis in axes))
    names = [axis["name"] for axis in axes]
    return [dict(zip(names, row, strict=True)) for row in rows]


def cached(which: str, seed: int) -> dict[int, tuple[float, float]]:
    """Scores and CPU seconds of the rows that are there."""
    file = CACHE / f"{which}_{seed}.csv"
    if not file.exists():
        return {}
    rows = [line.split(",") for line in file.read_text(encoding="utf-8").splitlines()]
    return {int(r[0]): (float(r[1]), float(r[2])) for r in rows if len(r) == 3}


def fill(which: str, seed: int) -> None:
    """Train every row that is missing."""
    done, grid = cached(which, seed), points(which)
    score, start = objective(which), time.time()
    CACHE.mkdir(parents=True, exist_ok=True)
    with open(CACHE / f"{which}_{seed}.csv", "a", encoding="utf-8") as out:
        for row, settings in enumerate(grid):
            if row in done:
                continue
            begin = time.process_time()
            value = score(seed, **settings)
            out.write(f"{row},{value:.6f},{time.process_time() - begin:.3f}\n")
            out.flush()
            if row % 50 == 0:
                print(f"seed {seed}: {row} of {len(grid)}, {time.time() - start:.0f} s", flush=True)


def table(which: str) -> dict[str, Any]:
    """Axes, scores (one axis each, seeds last) and CPU seconds, with where they come from."""
    import gensim

    axes, rows = AXES[which], [cached(which, seed) for seed in SEEDS[which]]
    count = len(points(which))
    if any(len(found) != count for found in rows):
        raise SystemExit(f"{which}: not every row is trained yet, run without --seed")
    shape = [len(axis["levels"]) for axis in axes]
    values = np.array([[found[i][0] for found in rows] for i in range(count)])
    seconds = np.array([rows[0][i][1] for i in range(count)])
    return {
        "origin": {
            "made_by": "book/experiments/cross_entropy/word2vec_tables.py",
            "trained_by": "an earlier form of it, same corpora and settings; --check recomputes",
            "trainer": f"gensim {gensim.__version__}, one worker",
            "python": platform.python_version(),
            "machine": platform.machine(),
            "corpus": CORPUS[which],
            "fixed": FIXED[which],
            "score": SCORE[which],
            "seeds": list(SEEDS[which]),
            "cpu_seconds": "of the first seed, on a machine with other work",
        },
        "axes": axes,
        "unit": UNIT,
        "scores": np.rint(values / UNIT).astype(int).reshape(*shape, len(SEEDS[which])).tolist(),
        "cpu_seconds": np.round(seconds, 2).reshape(shape).tolist(),
    }


def check(which: str, count: int) -> int:
    """Train ``count`` rows again; how many differ from the table by more than 0.0001."""
    stored = cross_entropy.TabularObjective.load(f"word2vec_{which}")
    score, grid, wrong = objective(which), points(which), 0
    for row in np.linspace(0, len(grid) - 1, count).astype(int):
        fresh, old = score(SEEDS[which][0], **grid[row]), stored(grid[row], replicate=0)
        wrong += abs(fresh - old) > 1e-4
        print(f"{fresh:.5f} stored {old:.5f}  {grid[row]}", flush=True)
    return int(wrong)


def main() -> int:
    """Read the command line."""
    arguments = parser(__doc__)
    arguments.add_argument("table", choices=sorted(AXES))
    arguments.add_argument("--seed", type=int, choices=(1, 2), help="train only, with this seed")
    arguments.add_argument("--check", type=int, metavar="ROWS", help="compare with what is stored")
    options = arguments.parse_args()
    if options.check:
        return check(options.table, options.check)
    for seed in SEEDS[options.table] if options.seed is None else [options.seed]:
        fill(options.table, seed)
    if options.seed is None:
        path = TABLES / f"word2vec_{options.table}.json"
        write_or_check(path, table(options.table), check=False)
    return 0


if __name__ == "__main__":
    sys.exit(main())
