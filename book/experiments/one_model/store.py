"""The results of the factorial, from the files of its trainings, and the table of the figures.

Everything is derived here and nowhere else: means over seeds with Student's 95 % interval, effects
with their test over seeds, and differences to the base taken seed by seed.
"""

from __future__ import annotations

import shutil
import statistics
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import ttest_1samp

from book.experiments.common.pairing import interval
from book.experiments.common.places import RESULTS, TABLES
from book.experiments.common.store import (
    provenance,
    read,
    rounded,
    write_or_check,
    write_results,
)
from book.experiments.one_model import cells as factorial
from book.experiments.one_model.cells import (
    BUDGETS,
    CACHES,
    FACTORS,
    LADDER,
    SCALES,
    Job,
    cells,
    text_of,
)
from book.experiments.one_model.runner import effects, merged, with_shared
from genopt_core.torch.model import load_model
from genopt_core.torch.model.serving import ModelCache, generate

RESULT = RESULTS / "one_model.json"
GOLF = RESULTS / "one_model_golf.json"
TABLE = TABLES / "one_model.json"
LEVEL = 0.01
"""Below this chance an effect is called real."""
BASE = "bpe.rope.dense.default"
ALL = "swe.harmonic.blocks.found"
NAMES = (*FACTORS, "cache")
COLUMNS = ("cell", "budget", "seed", "steps", "tokens", "bytes", "cpu_seconds", "last_loss")
Rows = list[dict[str, Any]]


def p_value(values: Sequence[float]) -> float | None:
    """Of Student's test over seeds that the mean is 0; None where there is nothing to test."""
    if len(values) < 2 or len(set(values)) < 2:
        return None
    return rounded(float(ttest_1samp(values, 0.0).pvalue), 3)


def summed(values: Sequence[float], digits: int = 6) -> list[float | None]:
    """Mean and half of its interval."""
    mean, _, half = interval(values)
    return [rounded(mean, digits), None if half is None else rounded(half, 3)]


# ------------------------------------------------------------------ results


def results(folders: Iterable[Path], scale_name: str, provisional: bool) -> dict[str, Any]:
    """What the files of trainings say, a row a training."""
    scale, rows = SCALES[scale_name], merged(folders, scale_name)
    folder = next(iter(folders))
    first = rows[0]
    told = {
        "name": scale_name,
        "text": scale.text,
        "parameters": first["parameters"],
        **{n: getattr(scale.model, n) for n in ("vocabulary", "layers", "width", "heads")},
        **{n: getattr(scale.model, n) for n in ("key_heads", "hidden", "block")},
        **{n: getattr(scale, n) for n in ("density", "rows", "context", "tokens", "windows")},
        "steps": scale.tokens // (scale.rows * scale.context),
        "scored": scale.scored,
        "slower": dict(scale.slower),
        "passage": scale.passage,
        "passages": scale.passages,
        "ladder": list(LADDER["ladder"]),
        "chunk": LADDER["chunk"],
        "bytes_a_token": {
            t: rounded(
                _mean(r["bytes_read"] / r["tokens_read"] for r in rows if r["tokenizer"] == t), 4
            )
            for t in FACTORS["tokenizer"]
        },
    }
    kept = []
    for row in rows:
        line: list[Any] = [row["cell"], row["budget"], row["seed"], row["run"]["steps"]]
        line += [row["tokens_read"], row["bytes_read"], row["cpu_seconds"], row["last_loss"]]
        line += [s[cache] for s in row["scores"] for cache in CACHES]
        line += [rounded(r["not_read"] - r["read"], 5) for r in row["recall"]]
        kept.append(line)
    columns = [*COLUMNS]
    columns += [f"{cache} {s['context']}" for s in first["scores"] for cache in CACHES]
    columns += [f"recall {r['distance']}" for r in first["recall"]]
    same = {str([[s["cache_bytes"], s["full_bytes"]] for s in row["scores"]]) for row in rows}
    if len(same) > 1:
        raise ValueError(f"rows must have caches of the same bytes, got {sorted(same)}")
    default = rows[[r["settings"] == "default" for r in rows].index(True)]["run"]
    return {
        "provisional": provisional,
        "scale": told,
        "cache_bytes": [[s["context"], s["full_bytes"], s["cache_bytes"]] for s in first["scores"]],
        "default": {n: default[n] for n in ("rate", "warm_up", "last", "decay", "beta")},
        "decoding": [*decoding(folder, scale_name, rows)],
        "columns": columns,
        "rows": kept,
        "provenance": provenance(),
    }


def _mean(values: Iterable[float]) -> float:
    return float(rounded(statistics.fmean(values), 6))


def decoding(folder: Path, scale_name: str, rows: Rows) -> Iterator[list[Any]]:
    """Tokens a second, one by one at the end of the trained context, by positions and cache."""
    scale = SCALES[scale_name]
    prompt, more = scale.context - scale.context // 8, scale.context // 8
    for positions, cache in product(FACTORS["positions"], CACHES):
        found = [r for r in rows if r["positions"] == positions and r["budget"] == "tokens"]
        job = Job(scale_name, found[0]["cell"], "tokens", found[0]["seed"])
        model = load_model(job.result(folder).with_suffix(".safetensors"))
        ids = torch.from_numpy(text_of(job, folder).held[None, :prompt].astype(np.int64))
        ladder = {**LADDER, "ladder": LADDER["ladder"] if cache == "staircase" else (16,)}
        held = ModelCache(model.config, ladder.pop("ladder"), **ladder)
        generate(model, ids, 1, cache=held, temperature=0)
        started = time.process_time()
        generate(model, ids[:, -1:], more, cache=held, temperature=0)
        yield [positions, cache, rounded(more / (time.process_time() - started), 3)]


# ------------------------------------------------------------------ the table


def table(content: dict[str, Any], search: dict[str, Any], golf: dict[str, Any]) -> dict[str, Any]:
    """What figures read, from the results alone."""
    rows = [
        {**dict(zip(content["columns"], row, strict=True)), "scale": content["scale"]["name"]}
        for row in content["rows"]
    ]
    seeds = sorted({row["seed"] for row in rows})
    shared = whole(with_shared(rows), seeds)
    contexts = [row[0] for row in content["cache_bytes"]]
    bits: dict[tuple[str, int], dict[str, dict[int, float]]] = {}
    for budget, context in product(BUDGETS, contexts):
        found: dict[str, dict[int, float]] = defaultdict(dict)
        for row, cache in product(shared, CACHES):
            if row["budget"] == budget:
                found[f"{row['cell']}.{cache}"][row["seed"]] = row[f"{cache} {context}"]
        bits[budget, context] = dict(found)
    trained = bits["tokens", contexts[0]]
    shares = {row[0]: rounded(row[2] / row[1], 4) for row in content["cache_bytes"]}
    told = subsets(bits)
    best = min(trained, key=lambda name: _mean(trained[name].values()))
    everything = f"{ALL}.staircase"
    beyond = [
        trained[best][seed] - value
        for seed, value in trained.get(everything, {}).items()
        if seed in trained[best]
    ]
    p = p_value(beyond)
    # what is not shown to be better than all five is no reason to leave one out
    recommended = best if p is None or p < LEVEL else everything
    two = {k: [*trained.get(f"{c}.{e}", {}).values()] for k, c, e in _ENDS}
    return {
        "origin": "book/experiments/one_model/store.py",
        "provisional": content["provisional"],
        "factors": [
            {"name": name, "off": off, "on": on}
            for name, (off, on) in [*FACTORS.items(), ("cache", CACHES)]
        ],
        "scale": content["scale"],
        "contexts": contexts,
        "budgets": list(BUDGETS),
        "seeds": seeds,
        "trainings": _columns(COLUMNS, [[row[c] for c in COLUMNS] for row in rows]),
        "scores": _columns(
            ("cell", "cache", "budget", "context", "mean", "half", "each"),
            [
                [*name.rsplit(".", 1), budget, context, *summed([*each.values()]), _in_order(each)]
                for (budget, context), found in bits.items()
                for name, each in found.items()
            ],
        ),
        "cache_bytes": _columns(
            ("context", "full", "staircase", "share"),
            [[*row, shares[row[0]]] for row in content["cache_bytes"]],
        ),
        "speed": _columns(
            ("positions", "attention", "cache", "what", "value"),
            [
                *_training_speed(rows),
                *([p, None, c, "decoding", v] for p, c, v in content["decoding"]),
            ],
        ),
        "recall": _columns(
            ("cell", "budget", "distance", "mean", "half", "each"), [*_recall(shared)]
        ),
        "effects": _columns(
            ("budget", "context", "name", "mean", "half", "p", "real"), [*_effects(bits)]
        ),
        "subsets": _columns(SUBSETS, told),
        "search": _search(content, search),
        "verdict": {
            "budget": "tokens",
            "context": contexts[0],
            **{k: summed(v) if v else None for k, v in two.items()},
            "apart": bool(all(two.values())) and _apart(*two.values()),
            "cache_share": shares[contexts[0]],
            "best": _described(best, trained),
            "best_minus_all": [*summed(beyond, 4), p] if beyond else None,
            "recommended": dict(zip(("cell", "cache"), recommended.rsplit(".", 1), strict=True)),
        },
        "golf": {"limit": 1_000_000, **(golf or _columns(GOLF_COLUMNS, []))},
        "checkpoints": _columns(
            ("name", "file", "tokenizer_file", "cell", "budget", "seed", "bits", "cache"),
            [
                [
                    *(name, f"one_model_{name}.safetensors", f"one_model_{cell[:3]}.tokenizer"),
                    *(cell, "tokens", seeds[0]),
                    *(trained[f"{cell}.{cache}"][seeds[0]], cache),
                ]
                for name, cell, cache in _ENDS
                if f"{cell}.{cache}" in trained
            ],
        ),
        "provenance": content["provenance"],
    }


_ENDS = (("base", BASE, "full"), ("all", ALL, "staircase"))
GOLF_COLUMNS = (
    *("entry", "bits", "model_bytes", "tokenizer_bytes", "code_bytes", "total_bytes"),
    *("cpu_minutes", "parameters", "how"),
)
SUBSETS = (
    *("budget", "context", "kind", "switched", "cell", "cache", "mean", "half"),
    *("difference", "difference_half", "p"),
)


def whole(rows: Rows, seeds: Sequence[int]) -> Rows:
    """Rows of the trainings that have every seed at their budget."""
    found = defaultdict(set)
    for row in rows:
        found[row["cell"], row["budget"]].add(row["seed"])
    return [row for row in rows if found[row["cell"], row["budget"]] == set(seeds)]


def _columns(names: Sequence[str], rows: list[list[Any]]) -> dict[str, Any]:
    return {"columns": list(names), "rows": rows}


def _in_order(each: dict[int, float]) -> list[float]:
    return [each[seed] for seed in sorted(each)]


def _apart(one: list[float], other: list[float]) -> bool:
    """Whether two intervals have no point in common."""
    (a, x), (b, y) = summed(one), summed(other)
    return None not in (x, y) and abs(a - b) > x + y  # type: ignore[operator]


def _described(name: str, found: dict[str, dict[int, float]]) -> dict[str, Any]:
    cell, cache = name.rsplit(".", 1)
    mean, half = summed([*found[name].values()])
    return {"cell": cell, "cache": cache, "mean": mean, "half": half}


def subset_names() -> Iterator[tuple[str, str | None, str]]:
    """The cells of 32 that are asked for by name: kind, what is switched, and the cell."""
    off = [*BASE.split("."), CACHES[0]]
    on = [*ALL.split("."), CACHES[1]]
    yield "base", None, ".".join(off)
    for i, name in enumerate(NAMES):
        yield "alone", name, ".".join([*off[:i], on[i], *off[i + 1 :]])
    yield "all", None, ".".join(on)
    for i, name in enumerate(NAMES):
        yield "but one", name, ".".join([*on[:i], off[i], *on[i + 1 :]])


def subsets(bits: dict[tuple[str, int], dict[str, dict[int, float]]]) -> list[list[Any]]:
    """Each alone, all, all but one and the best, beside the base seed by seed."""
    told = []
    for (budget, context), found in bits.items():
        base = found.get(f"{BASE}.full")
        if base is None:
            continue
        best = min(found, key=lambda name: _mean(found[name].values()))
        for kind, switched, name in [*subset_names(), ("best", None, best)]:
            if name not in found:
                continue
            each = found[name]
            less = [each[s] - base[s] for s in sorted(each.keys() & base.keys())]
            cell, cache = name.rsplit(".", 1)
            row = [budget, context, kind, switched, cell, cache, *summed([*each.values()])]
            told.append([*row, *summed(less, 5), p_value(less)])
    return told


def _effects(
    bits: dict[tuple[str, int], dict[str, dict[int, float]]],
) -> Iterator[list[Any]]:
    for (budget, context), found in bits.items():
        if len(found) < 2 * len(cells()):
            continue
        common = set.intersection(*(set(values) for values in found.values()))
        each = [effects({c: v[seed] for c, v in found.items()}) for seed in sorted(common)]
        for name in each[0] if each else ():
            over = [one[name] for one in each]
            p = p_value(over)
            yield [budget, context, name, *summed(over, 5), p, p is not None and p < LEVEL]


def _training_speed(rows: Rows) -> Iterator[list[Any]]:
    """Tokens a second of processor time, the median over trainings."""
    found = defaultdict(list)
    for row in rows:
        _, positions, attention, _ = row["cell"].split(".")
        found[positions, attention].append(row["tokens"] / row["cpu_seconds"])
    for (positions, attention), values in sorted(found.items()):
        value = rounded(statistics.median(values), 3)
        yield [positions, attention, None, "training", value]


def _recall(rows: Rows) -> Iterator[list[Any]]:
    found: dict[tuple[str, str, int], dict[int, float]] = defaultdict(dict)
    for row in rows:
        for column, value in row.items():
            if column.startswith("recall "):
                key = row["cell"], row["budget"], int(column.removeprefix("recall "))
                found[key][row["seed"]] = value
    for key, each in found.items():
        yield [*key, *summed([*each.values()], 4), _in_order(each)]


def _search(content: dict[str, Any], search: dict[str, Any]) -> dict[str, Any]:
    trials = {m: search[f"{m} trials"] for m in ("posterior", "random")}
    costs = search["provenance"].get("cpu_seconds", {})
    return {
        "default": {**content["default"], "source": factorial.DEFAULT_SOURCE},
        "found": search["found"],
        "random": search["random"],
        "share": search["share"],
        "trials": len(trials["posterior"]),
        "columns": search["columns"],
        "posterior_trials": trials["posterior"],
        "random_trials": trials["random"],
        "methods": _columns(
            ("method", "trials", "cpu_seconds", "tokens", "best"),
            [
                [m, len(t), costs.get(m), search["tokens"], min(row[-1] for row in t)]
                for m, t in trials.items()
            ],
        ),
    }


def store(
    folders: list[Path], scale_name: str, check: bool = False, provisional: bool = False
) -> bool:
    """Write results, table and checkpoints, or only compare the table; whether it is as stored."""
    if not check and folders:
        content = results(folders, scale_name, provisional)
        print(f"{RESULT.name}: {write_results(RESULT, content)} bytes written")
        for name, cell, _ in _ENDS:
            job = Job(scale_name, cell, "tokens", min(row[2] for row in content["rows"]))
            made = job.result(folders[0]).with_suffix(".safetensors")
            if made.is_file():
                shutil.copyfile(made, TABLES / f"one_model_{name}.safetensors")
        scale = SCALES[scale_name]
        for t in FACTORS["tokenizer"]:
            made = folders[0] / "texts" / f"{scale.text}-{t}-{scale.model.vocabulary}.json"
            shutil.copyfile(made, TABLES / f"one_model_{t}.tokenizer")
    made = table(read(RESULT), read(factorial.FOUND), read_golf())
    return write_or_check(TABLE, made, check, 1e-9)


def read_golf() -> dict[str, Any]:
    """Entries of mini-golf that are stored, columns and rows."""
    return read(GOLF)["entries"] if GOLF.is_file() else {}
