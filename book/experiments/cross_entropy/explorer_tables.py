"""Make the tables of chapter 2's explorers: the race on word2vec, and neighbours before and after.

python -m book.experiments.cross_entropy.explorer_tables race          # 20 seeds of each method, 5 CPU minutes
python -m book.experiments.cross_entropy.explorer_tables neighbours    # 6 trainings on the State of the Union

Every finished method, and every training, is kept in ``.cache/word2vec/``; a run that was cut off
goes on there.  ``race`` needs Optuna and cmaes for its peers.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from genopt_core import corpora, cross_entropy, word2vec
from genopt_core.cross_entropy import TabularObjective
from genopt_core.files import whole_file

ROOT = Path(__file__).resolve().parents[3]
TABLES = ROOT / "genopt_core" / "tables"
CACHE = ROOT / ".cache" / "word2vec"
TABLES = ("word2vec_planted", "word2vec_wikipedia")
BUDGET, RUNS = 120, 20
UNIT = 1e-4
OURS = ("plain", "plus", "posterior")
PEERS = ("random", "qmc", "tpe", "cma", "catcma")
SHORTER = {"posterior": 60}  # its Gaussian process takes the longest

# What a user gets who changes nothing, at the tuned dimension and number of passes; and the best
# configuration of the Wikipedia table.
BEFORE = {"architecture": "cbow", "negatives": 5, "window": 5, "sample": 1e-3}
BEFORE |= {"learning_rate": 0.025, "dimension": 24}
FIXED: dict[str, Any] = {"epochs": 3, "min_count": 5}
WORDS = ("war", "president", "bank", "army", "school", "ship", "peace", "gold")
SEEDS = (11, 12, 13)


def observe(table: TabularObjective, params: dict[str, Any], run: int, number: int) -> float:
    """One training of a configuration; which one depends on the run and the evaluation alone."""
    return table.draw(params, np.random.default_rng([run, number]))


def ours(table: TabularObjective, method: Any, run: int, budget: int) -> list[tuple[float, float]]:
    """Observed and true scores of a cross-entropy search."""
    found = cross_entropy.search_table(table, method, budget, run)
    return list(zip(found.observed.tolist(), found.true.tolist(), strict=True))


def peer(table: TabularObjective, method: str, run: int, budget: int) -> list[tuple[float, float]]:
    """Observed and true scores of a sampler of Optuna, or of CatCMA, at their defaults."""
    if method == "catcma":
        return catcma(table, run, budget)
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    quiet: dict[str, Any] = {"warn_independent_sampling": False}
    samplers: dict[str, Callable[..., Any]] = {
        "random": optuna.samplers.RandomSampler,
        "tpe": optuna.samplers.TPESampler,
        "qmc": lambda seed: optuna.samplers.QMCSampler(seed=seed, scramble=True, **quiet),
        "cma": lambda seed: optuna.samplers.CmaEsSampler(seed=seed, with_margin=True, **quiet),
    }
    found = []

    def objective(trial: Any) -> float:
        params = {
            # ordered levels as whole numbers, the idiom of Optuna
            name: levels[trial.suggest_int(name, 0, len(levels) - 1)]
            if table.ordered[name]
            else trial.suggest_categorical(name, levels)
            for name, levels in table.levels.items()
        }
        value = observe(table, params, run, trial.number)
        found.append((value, table(params)))
        return value

    study = optuna.create_study(direction="maximize", sampler=samplers[method](seed=run))
    study.optimize(objective, n_trials=budget)
    return found


def catcma(table: TabularObjective, run: int, budget: int) -> list[tuple[float, float]]:
    """Observed and true scores of CatCMA with margin, by ask and tell in whole generations."""
    from cmaes import CatCMAwM

    ordered = [name for name in table.levels if table.ordered[name]]
    others = [name for name in table.levels if not table.ordered[name]]
    search = CatCMAwM(
        z_space=[list(range(len(table.levels[name]))) for name in ordered],
        c_space=[len(table.levels[name]) for name in others],
        seed=run + 1,
    )
    found: list[tuple[float, float]] = []
    while len(found) < budget:
        told = []
        for _ in range(search.population_size):
            drawn = search.ask()
            at = {name: round(float(z)) for name, z in zip(ordered, drawn.z, strict=True)}
            at |= {name: int(np.argmax(c)) for name, c in zip(others, drawn.c, strict=True)}
            params = table.params([at[name] for name in table.levels])
            value = observe(table, params, run, len(found))
            found.append((value, table(params)))
            told.append((drawn, -value))
        search.tell(told)
    return found[:budget]


def regrets(table: TabularObjective, found: list[tuple[float, float]]) -> list[int]:
    """True regret, in units, of the configuration with the best observation so far."""
    best, out = (-np.inf, 0.0), []
    for observed, true in found:
        if observed > best[0]:
            best = (observed, true)
        out.append(round((float(table.mean.max()) - best[1]) / UNIT))
    return out


def race(methods: list[str], tables: list[str]) -> None:
    """Run what is missing; write the table when all is there."""
    CACHE.mkdir(parents=True, exist_ok=True)
    everything: dict[str, dict[str, Any]] = {}
    for name in TABLES:
        table = TabularObjective.load(name)
        everything[name] = {}
        for method in (*OURS, *PEERS):
            file = CACHE / f"race_{name}_{method}.json"
            if not file.exists() and method in methods and name in tables:
                budget = SHORTER.get(method, BUDGET)
                start = time.process_time()
                search = ours if method in OURS else peer
                runs = [regrets(table, search(table, method, r, budget)) for r in range(RUNS)]
                spent = (time.process_time() - start) / RUNS / budget
                content = {"regret": runs, "milliseconds": round(1000 * spent, 2)}
                with whole_file(file) as out:
                    out.write(json.dumps(content).encode())
                print(f"{name} {method}: {np.mean([r[-1] for r in runs]) * UNIT:.4f}", flush=True)
            if file.exists():
                everything[name][method] = json.loads(file.read_text(encoding="utf-8"))
    write("search_race.json", {"origin": race_origin(), "unit": UNIT, "tables": everything})


def race_origin() -> dict[str, Any]:
    """How the race was run."""
    from importlib.metadata import version

    return {
        "made_by": "book/experiments/cross_entropy/explorer_tables.py race",
        "optuna": version("optuna"),
        "cmaes": version("cmaes"),
        "runs": RUNS,
        "budget": {method: SHORTER.get(method, BUDGET) for method in (*OURS, *PEERS)},
        "regret": "mean score of the best configuration, less that of the best observed so far",
        "peers": "at their libraries' defaults, not tuned; ours at the core's defaults",
        "milliseconds": "CPU per evaluation, on a machine with other work",
    }


def neighbours() -> None:
    """Train on the State of the Union with both settings, store neighbours and scores."""
    table = TabularObjective.load("word2vec_wikipedia")
    settings = {"before": BEFORE, "after": table.best}
    sentences = word2vec.text_sentences(corpora.load("sotu"))
    wordsim, simlex = (word2vec.similarity_pairs(n) for n in ("wordsim353", "simlex999"))
    out: dict[str, Any] = {}
    for label, chosen in settings.items():
        scores: dict[str, list[float]] = {"wordsim353": [], "simlex999": [], "cpu_seconds": []}
        near: dict[str, list[list[Any]]] = {}
        for seed in SEEDS:
            start = time.process_time()
            trained = word2vec.train(sentences, seed=seed, **FIXED, **chosen)
            scores["cpu_seconds"].append(round(time.process_time() - start, 1))
            scores["wordsim353"].append(round(word2vec.similarity_spearman(trained, wordsim), 4))
            scores["simlex999"].append(round(word2vec.similarity_spearman(trained, simlex), 4))
            if seed == SEEDS[0]:
                near = {
                    word: [[w, round(c, 3)] for w, c in trained.neighbours(word, 8)]
                    for word in WORDS
                }
            print(label, seed, {k: v[-1] for k, v in scores.items()}, flush=True)
        out[label] = {"settings": chosen | FIXED, "scores": scores, "neighbours": near}
    known = set(trained.words)
    origin = {
        "made_by": "book/experiments/cross_entropy/explorer_tables.py neighbours",
        "corpus": "State of the Union, every third address",
        "tokens": sum(map(len, sentences)),
        "seeds": list(SEEDS),
        "pairs_known": {
            "wordsim353": sum(a in known and b in known for a, b, _ in wordsim),
            "simlex999": sum(a in known and b in known for a, b, _ in simlex),
        },
    }
    write("word2vec_neighbours.json", {"origin": origin, **out})


def write(name: str, content: dict[str, Any]) -> None:
    """Store a table, whole or not at all."""
    with whole_file(TABLES / name) as file:
        file.write(json.dumps(content, separators=(",", ":")).encode() + b"\n")


def main() -> int:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("what", choices=("race", "neighbours"))
    parser.add_argument("--methods", default=",".join((*OURS, *PEERS)), help="of the race")
    parser.add_argument("--tables", default=",".join(TABLES), help="of the race")
    options = parser.parse_args()
    if options.what == "race":
        race(options.methods.split(","), options.tables.split(","))
    else:
        neighbours()
    return 0


if __name__ == "__main__":
    sys.exit(main())
