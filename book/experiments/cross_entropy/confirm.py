"""What a search on a word2vec table found, trained again with fresh seeds and on other text.

    python -m book.experiments.cross_entropy.confirm            # 4 CPU minutes, resumes
    python -m book.experiments.cross_entropy.confirm --check    # first row of each table again

Random search spends 60 trainings; ours stop at half the processor time that these took.  Both keep
the configuration with the best observation.  It is then trained once with a seed that no table has
seen: on the table's own corpus, and, for the Wikipedia table, on the State of the Union too, where
human judgements (WordSim-353, SimLex-999) score it.  Search seeds are others than the chapter's.
``border`` trains the planted optimum beyond the edge of the grid.
"""

from __future__ import annotations

import json
import time
from functools import cache
from typing import Any

from book.experiments.common.main import parser
from book.experiments.common.places import RESULTS, SCRATCH
from book.experiments.common.store import provenance, read, whole_lines, write_results
from book.experiments.cross_entropy import text_data, word2vec_tables
from genopt_core import corpora, word2vec
from genopt_core.cross_entropy import TabularObjective, search_table

PATH = RESULTS / "word2vec_confirmation.json"
RUNS = SCRATCH / "word2vec_confirmation.jsonl"
METHODS = ("random", "plus", "posterior")
SEEDS = tuple(range(20, 30))
EVALUATIONS, SHARE, FRESH = 60, 0.5, 1000
BORDER: dict[str, dict[str, Any]] = {
    "optimum of the grid": {},
    "window 16": {"window": 16},
    "learning rate 0.2": {"learning_rate": 0.2},
    "both": {"window": 16, "learning_rate": 0.2},
}
BORDER_SEEDS = tuple(range(5))
COLUMNS = ("table", "method", "seed", "table_score", "search_seconds", "scores", "seconds")


@cache
def chosen(which: str, method: str, seed: int) -> tuple[dict[str, Any], float, float]:
    """The configuration found, its score in the table, the seconds of training it was found in."""
    table = TabularObjective.load(f"word2vec_{which}")
    total = search_table(table, "random", EVALUATIONS, seed).cpu_seconds.sum()
    limit = total if method == "random" else SHARE * total
    found = search_table(table, method, EVALUATIONS, seed)  # type: ignore[arg-type]
    spent = found.cpu_seconds.cumsum()
    return found.best_params(limit), found.best(limit), float(spent[spent <= limit][-1])


@cache
def corpus(which: str) -> Any:
    return word2vec_tables.objective(which)


@cache
def speeches() -> tuple[Any, Any, Any]:
    """State of the Union, and the word pairs that people have judged."""
    pairs = [text_data.similarity_pairs(n) for n in ("wordsim353", "simlex999")]
    return text_data.text_sentences(corpora.load("sotu")), *pairs


def score(which: str, settings: dict[str, Any], seed: int) -> dict[str, float]:
    """Scores of one training on the table's corpus and, for ``wikipedia``, on the speeches."""
    name = "correlation" if which == "planted" else "auc"
    scores = {name: corpus(which)(seed, **settings)}
    if which == "wikipedia":
        sentences, wordsim, simlex = speeches()
        trained = word2vec.train(sentences, seed=seed, epochs=3, min_count=5, **settings)
        scores["wordsim353"] = text_data.similarity_spearman(trained, wordsim)
        scores["simlex999"] = text_data.similarity_spearman(trained, simlex)
    return {k: round(float(v), 4) for k, v in scores.items()}


def one(which: str, method: str, seed: int) -> list[Any]:
    """One row of the result."""
    settings, value, spent = chosen(which, method, seed)
    start = time.process_time()
    scores = score(which, settings, FRESH + seed)
    seconds = round(time.process_time() - start, 1)
    return [which, method, seed, round(value, 4), round(spent, 1), scores, seconds]


def border(name: str, seed: int) -> list[Any]:
    """The planted optimum with a setting beyond the grid."""
    settings = TabularObjective.load("word2vec_planted").best | BORDER[name]
    return ["border", name, seed, score("planted", settings, FRESH + seed)["correlation"]]


def main() -> None:
    if parser(__doc__, "check").parse_args().check:
        stored = read(PATH)
        for which in ("planted", "wikipedia"):
            row = next(r for r in stored["rows"] if r[0] == which)
            print(row[:6], "again", one(*row[:3])[5])
        return
    RUNS.parent.mkdir(parents=True, exist_ok=True)
    done = {tuple(row[:3]): row for row in whole_lines(RUNS)}
    wanted = [(w, m, s) for s in SEEDS for w in ("planted", "wikipedia") for m in METHODS]
    wanted += [("border", name, seed) for seed in BORDER_SEEDS for name in BORDER]
    for key in wanted:
        if key not in done:
            done[key] = one(*key) if key[0] != "border" else border(*key[1:])
            with RUNS.open("a", encoding="utf-8") as file:
                file.write(json.dumps(done[key]) + "\n")
            print(*done[key], flush=True)
    content = {
        "schema": "word2vec-confirmation/1",
        "provenance": provenance(("genopt-core", "gensim", "numpy")),
        "evaluations": EVALUATIONS,
        "share": SHARE,
        "columns": COLUMNS,
        "rows": [done[k] for k in wanted if k[0] != "border"],
        "border": [done[k][1:] for k in wanted if k[0] == "border"],
    }
    print(PATH.name, write_results(PATH, content), "bytes")


if __name__ == "__main__":
    main()
