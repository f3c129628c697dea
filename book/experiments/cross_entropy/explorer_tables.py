"""Make the tables of chapter 2's explorers: race on word2vec, neighbours, held-out problems.

    python -m book.experiments.cross_entropy.explorer_tables race          # 5 CPU minutes
    python -m book.experiments.cross_entropy.explorer_tables neighbours    # 6 trainings
    python -m book.experiments.cross_entropy.explorer_tables neighbours --check
    python -m book.experiments.cross_entropy.explorer_tables evidence      # from what is stored
    python -m book.experiments.cross_entropy.explorer_tables tunings       # the same
    python -m book.experiments.cross_entropy.explorer_tables race --methods plain,plus --check

Every finished method, and every training, is kept in ``.cache/benchmarks/word2vec``; a run that was
cut off goes on there.  ``race`` needs Optuna and cmaes for its peers.  ``--check`` does what is
selected again; times, which never come out again, are taken from the table.
"""

import sys
import time
from collections.abc import Callable
from importlib import metadata
from typing import Any

import numpy as np

from book.experiments.common.main import parser, selected
from book.experiments.common.pairing import interval, paired
from book.experiments.common.places import SCRATCH, TABLES
from book.experiments.common.store import read, write_json, write_or_check
from book.experiments.cross_entropy import collect, text_data, tunings_compared, tunings_race
from genopt_core import corpora, cross_entropy, word2vec
from genopt_core.cross_entropy import TabularObjective
from genopt_core.explorers.reports import half_interval

CACHE = SCRATCH / "word2vec"
RACE, NEIGHBORS = TABLES / "search_race.json", TABLES / "word2vec_neighbours.json"
EVIDENCE = TABLES / "search_evidence.json"
TUNINGS = TABLES / "search_tunings.json"
HALF = "held-out"
SEARCHED = ("word2vec_planted", "word2vec_wikipedia")
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


def one_race(name: str, method: str) -> dict[str, Any]:
    """All runs of a method on a table, and the processor time of an evaluation."""
    table, budget = TabularObjective.load(name), SHORTER.get(method, BUDGET)
    start = time.process_time()
    search = ours if method in OURS else peer
    runs = [regrets(table, search(table, method, r, budget)) for r in range(RUNS)]
    spent = (time.process_time() - start) / RUNS / budget
    print(f"{name} {method}: {np.mean([r[-1] for r in runs]) * UNIT:.4f}", flush=True)
    return {"regret": runs, "milliseconds": round(1000 * spent, 2)}


def race(methods: list[str], tables: list[str], check: bool) -> bool:
    """Run what is missing and write the table, or run it again and compare."""
    stored = read(RACE) if check else None
    everything: dict[str, dict[str, Any]] = {name: {} for name in SEARCHED}
    for name in SEARCHED:
        for method in (*OURS, *PEERS):
            wanted, file = (
                method in methods and name in tables,
                CACHE / f"race_{name}_{method}.json",
            )
            if stored:
                old = stored["tables"][name][method]
                again = one_race(name, method) if wanted else old
                everything[name][method] = again | {"milliseconds": old["milliseconds"]}
                continue
            if wanted and not file.exists():
                write_json(file, one_race(name, method))
            if file.exists():
                everything[name][method] = read(file)
    origin = race_origin(stored["origin"] if stored else {})
    table = {"origin": origin, "unit": UNIT, "tables": everything}
    return write_or_check(RACE, table, check)


def race_origin(stored: dict[str, Any]) -> dict[str, Any]:
    """How the race was run; a peer that is not installed has the version that is stored."""

    def version(package: str) -> str:
        return stored.get(package) or metadata.version(package)

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


def nearest(trained: Any, word: str, count: int = 8) -> list[list[Any]]:
    """Neighbors and rounded cosines, equal ones by name: their order hangs on the last bits."""
    found = [[other, round(cosine, 3)] for other, cosine in trained.neighbours(word, count)]
    return sorted(found, key=lambda pair: (-pair[1], pair[0]))


def neighbours(check: bool) -> bool:
    """Train on the State of the Union with both settings; neighbours and scores."""
    table = TabularObjective.load("word2vec_wikipedia")
    settings = {"before": BEFORE, "after": table.best}
    sentences = text_data.text_sentences(corpora.load("sotu"))
    wordsim, simlex = (text_data.similarity_pairs(n) for n in ("wordsim353", "simlex999"))
    out: dict[str, Any] = {}
    for label, chosen in settings.items():
        scores: dict[str, list[float]] = {"wordsim353": [], "simlex999": [], "cpu_seconds": []}
        near: dict[str, list[list[Any]]] = {}
        for seed in SEEDS:
            start = time.process_time()
            trained = word2vec.train(sentences, seed=seed, **FIXED, **chosen)
            scores["cpu_seconds"].append(round(time.process_time() - start, 1))
            scores["wordsim353"].append(round(text_data.similarity_spearman(trained, wordsim), 4))
            scores["simlex999"].append(round(text_data.similarity_spearman(trained, simlex), 4))
            if seed == SEEDS[0]:
                near = {word: nearest(trained, word) for word in WORDS}
            print(label, seed, {k: v[-1] for k, v in scores.items()}, flush=True)
        if check:
            scores["cpu_seconds"] = read(NEIGHBORS)[label]["scores"]["cpu_seconds"]
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
    return write_or_check(NEIGHBORS, {"origin": origin, **out}, check, tolerance=2e-3)


def in_units(value: float | None) -> int | None:
    return None if value is None else round(value / UNIT)


def duel(rows: list[list[Any]], ours: str, other: str, problem: str, budget: int) -> list[Any]:
    """Wins, ties, losses, mean difference, half its interval: of the seeds that both have run."""
    found = collect.regrets(rows, budget)
    gains = paired(found.get((ours, problem), {}), found.get((other, problem), {}))
    if not gains:
        return []
    wins, losses = sum(g < -collect.TIE for g in gains), sum(g > collect.TIE for g in gains)
    mean, _, half = interval(gains)
    return [wins, len(gains) - wins - losses, losses, in_units(mean), in_units(half)]


def all_problems(stored: dict[str, Any]) -> dict[str, list[Any]]:
    """The same over all problems, and the corrected probability, by "ours other budget"."""
    out = {}
    for c in stored["comparisons"]:
        if c["half"] != HALF:
            continue
        wins, losses, gain = c["wins"], c["losses"], in_units(c["difference"])
        half = in_units(half_interval(c["error"], c["problems"]))
        end = [half, c["holm"]]
        out[f"{c['ours']} {c['peer']} {c['budget']}"] = [wins, c["ties"], losses, gain, *end]
        if c["peer"] in OURS:  # stored once for both
            mirrored = [losses, c["ties"], wins, -gain, *end]
            out[f"{c['peer']} {c['ours']} {c['budget']}"] = mirrored
    return out


def evidence(check: bool) -> bool:
    """The small part of the stored comparison that figures read."""
    stored = read(collect.PATH)
    rows, methods = stored["rows"], list(stored["methods"])
    problems = [name for name, fact in stored["problems"].items() if fact["half"] == HALF]
    means = {(m, p, b): mean for m, p, b, _, mean, _ in stored["means"]}
    spent = {(row[0], row[1]): row[-1] for row in rows}
    table = {
        "origin": {
            "made_by": "book/experiments/cross_entropy/explorer_tables.py evidence",
            "from": collect.PATH.name,
            "problems": f"the {HALF} half",
            "intervals": "Student's 95 %: between problems of the mean over all, else between runs",
            "regret": "by method and problem at each budget",
            "milliseconds": "CPU a suggestion by method and problem, on a machine with other work",
        },
        "unit": UNIT,
        "budgets": list(collect.SHOWN),
        "methods": {m: stored["methods"][m]["label"] for m in methods},
        "problems": problems,
        "all": all_problems(stored),
        "each": {
            ours: {
                other: [[duel(rows, ours, other, p, b) for p in problems] for b in collect.SHOWN]
                for other in methods
                if other != ours
            }
            for ours in OURS
        },
        "regret": {
            m: [[in_units(means.get((m, p, b))) for b in collect.SHOWN] for p in problems]
            for m in methods
        },
        "milliseconds": {m: [spent[m, p] for p in problems] for m in methods},
    }
    return write_or_check(EVIDENCE, table, check)


def tunings(check: bool) -> bool:
    """The small part of the race on real tunings that a figure reads."""
    stored = read(tunings_race.PATH)
    parts = {label: (names, seeds) for label, names, seeds in tunings_compared.parts()}
    methods = sorted({row[0] for row in stored["rows"]}, key=list(stored["methods"]).index)
    means: dict[str, dict[str, list[list[int | None]]]] = {}
    for label, (names, seeds) in parts.items():
        by_budget = [
            tunings_compared.regrets(stored["rows"], b, seeds) for b in tunings_compared.BUDGETS
        ]
        means[label] = {
            m: [[in_units(_mean(found.get((m, n), {}))) for found in by_budget] for n in names]
            for m in methods
        }
    ranks: dict[str, dict[str, dict[str, Any]]] = {label: {} for label in parts}
    for s in stored["summary"]:
        at = ranks[s["half"]].setdefault(str(s["budget"]), {"blocks": s["blocks"], "ranks": {}})
        at["ranks"][s["method"]] = s["rank"]
    duels: dict[str, dict[str, list[Any]]] = {label: {} for label in parts}
    for c in stored["comparisons"]:
        wins, losses = c["wins"], c["losses"]
        pair = {f"{c['ours']} {c['peer']}": (wins, losses)}
        if c["peer"] in OURS:  # stored once for both
            pair[f"{c['peer']} {c['ours']}"] = losses, wins
        for key, (won, lost) in pair.items():
            duels[c["half"]][f"{key} {c['budget']}"] = [won, c["ties"], lost, c["holm"]]
    table = {
        "origin": {
            "made_by": "book/experiments/cross_entropy/explorer_tables.py tunings",
            "from": tunings_race.PATH.name,
        },
        "unit": UNIT,
        "tunings": {label: names for label, (names, _) in parts.items()},
        "regret": means,
        "ranks": ranks,
        "duels": duels,
    }
    return write_or_check(TUNINGS, table, check)


def _mean(values: dict[int, float]) -> float | None:
    return float(np.mean(list(values.values()))) if values else None


def main() -> int:
    """Write or compare; the exit status is 1 when a comparison fails."""
    arguments = parser(__doc__, "check")
    arguments.add_argument("what", choices=("race", "neighbours", "evidence", "tunings"))
    arguments.add_argument("--methods", help="of the race")
    arguments.add_argument("--tables", help="of the race")
    options = arguments.parse_args()
    if options.what == "race":
        methods = selected(options.methods, (*OURS, *PEERS), "--methods")
        same = race(methods, selected(options.tables, SEARCHED, "--tables"), options.check)
    else:
        do = {"neighbours": neighbours, "evidence": evidence, "tunings": tunings}
        same = do[options.what](options.check)
    return int(options.check and not same)


if __name__ == "__main__":
    sys.exit(main())
