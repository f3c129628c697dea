"""Training time, memory, growth and encoding speed, side by side on a quiet machine.

    python -m book.experiments.subwords.timing                       # everything, about an hour
    python -m book.experiments.subwords.timing --part training --rounds 5
    python -m book.experiments.subwords.timing --quick               # one small round, not stored
    python -m book.experiments.subwords.timing --part training --size 8000 --again \
        --only counting,hf_unigram_front,ours_fast,ours_standard,ours_likelihood

``--again`` measures in new rounds, numbered after those that are stored.  What is stored stays,
but for older rows of ours beside new ones: those are of other code.  With ``--anew`` all stored
rounds of what is measured go, as on another machine; ``earlier`` says where the rest is from.

Each training runs in a fresh process.  A round runs every tokenizer once, starting with another
one each time; a ratio is taken inside a round, so that what disturbs the machine disturbs both, and
the median over the rounds is reported with the smallest and the largest.  Time is that of the
training call alone; who starts from word counts is spared the counting, so ``counting`` is measured
too and added in the second kind of ratio.  Memory is that of the whole process.

Parts: ``training`` (english, each size), ``growth`` (the n most frequent Finnish words, n up to
ten times 50,000, at 8000 pieces), ``encoding`` (the held-out English text, one thread).
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path
from typing import Any

from book.experiments.common.main import do_all, parser, selected
from book.experiments.common.pairing import spread
from book.experiments.common.places import RESULTS, ROOT
from book.experiments.common.store import provenance, read, write_json, write_results
from book.experiments.subwords import peers
from book.experiments.subwords.corpora import END, SCALES, SCRATCH, load, stream
from book.experiments.subwords.quality import fingerprint
from genopt_core import corpora

PARTS = ("training", "growth", "encoding")
SIZES = (1000, 8000, 16000)
TRAINING = (
    "hf_bpe",
    "hf_wordpiece",
    "hf_unigram_front",
    "sp_text",
    "sp_counts",
    "sp_counts_tuned",
    "rustbpe",
    "greedtok",
    "ours_fast",
    "ours_standard",
    "ours_likelihood",
    "ours_weight_5",
    "ours_tokens",
)
REFERENCES = ("hf_bpe", "hf_unigram_front", "sp_text", "sp_counts")
GROWTH = (
    "hf_bpe",
    "sp_counts",
    "hf_unigram_front",
    "ours_fast",
    "ours_standard",
    "ours_likelihood",
)
EXPORTED = ("ours_exported", "ours_in_hf")
ENCODING = (
    "hf_bpe",
    "hf_wordpiece",
    "hf_unigram_front",
    "sp_text",
    "rustbpe",
    "ours_standard",
    *EXPORTED,
)
COLUMNS = (
    "part",
    "corpus",
    "size",
    "contestant",
    "round",
    "seconds",
    "cpu_seconds",
    "base_mb",
    "peak_mb",
)
Job = tuple[str, str, int, str, int]


def jobs(parts: list[str], rounds: Iterable[int], quick: bool) -> list[Job]:
    """Part, corpus, size, tokenizer and round of every measurement, round by round."""
    found: list[Job] = []
    for part in parts:
        texts: tuple[str, ...]
        if part == "training":
            texts, sizes, names = ("english",), SIZES, ("counting", *TRAINING)
        elif part == "growth":
            texts, sizes, names = SCALES, (8000,), GROWTH
        else:
            texts, sizes, names = ("english",), (8000,), ENCODING
        if quick:
            texts, sizes = ("moby-dick",), (1000,)
        for corpus in texts:
            for size in sizes:
                for turn in rounds:
                    start = turn * 5 % len(names)
                    order = names[start:] + names[:start]
                    found += [(part, corpus, size, name, turn) for name in order]
    return found


def measure(job: Job) -> dict[str, Any]:
    """One measurement in a fresh process."""
    part, corpus, size, name, _ = job
    load_before = os.getloadavg()[0]
    if part == "encoding" or name == "counting":
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder) / "out.json"
            command = [
                sys.executable,
                "-m",
                "book.experiments.subwords.timing",
                "--child",
                part,
                corpus,
                str(size),
                name,
                str(out),
            ]
            environment = dict(os.environ, RAYON_NUM_THREADS="1")
            done = subprocess.run(
                command, cwd=ROOT, env=environment, capture_output=True, text=True
            )
            if not out.is_file():
                raise RuntimeError(f"{job} ended with {done.returncode}: {done.stderr[-300:]}")
            result = read(out)
    else:
        found = peers.run_apart(name, corpus, size, only_time=True)
        if "skipped" in found:
            return found
        result = {
            "seconds": found["train_seconds"],
            "cpu_seconds": found["train_cpu_seconds"],
            "base_mb": found["base_mb"],
            "peak_mb": found["peak_mb"],
        }
    return {**result, "load_before": load_before}


def child(part: str, corpus_name: str, size: int, name: str, out: Path) -> None:
    """Count words, or train and then encode the held-out text five times, in this process."""
    corpus = load(corpus_name)
    if name == "counting":
        text = "".join(stream(corpus, "train")).replace(corpora.END_OF_WORD, " ")
        with peers.Meter() as meter:
            corpora.count_words(text)
        write_json(out, meter.numbers)
        return
    trained = peers.train("ours_standard" if name in EXPORTED else name, corpus, size)
    if name in EXPORTED:
        form, encode = exported(trained, whole=name == "ours_exported")
    elif trained.encode is None:
        raise ValueError(f"name must be a tokenizer with an encoder, got {name!r}")
    else:
        form, encode = trained.encode
    if form == "text":
        parts = corpus.file("held", "words").read_text(encoding="utf-8").replace(" ", "")
        lines = parts.replace(END, " ").rstrip("\n").split("\n")
    else:
        lines = corpus.file("held", form).read_text(encoding="utf-8").rstrip("\n").split("\n")
    walls, cpus, tokens = [], [], 0
    for _ in range(5):
        wall, cpu = time.perf_counter(), time.process_time()
        tokens = encode(lines)
        walls.append(time.perf_counter() - wall)
        cpus.append(time.process_time() - cpu)
    write_json(
        out,
        {
            "seconds": statistics.median(walls),
            "cpu_seconds": statistics.median(cpus),
            "first_seconds": walls[0],
            "tokens": tokens,
            "base_mb": trained.base_mb,
            "peak_mb": peers.peak_megabytes(),
        },
    )


def exported(trained: peers.Trained, whole: bool) -> tuple[str, Callable[[list[str]], int]]:
    """Our vocabulary inside `tokenizers`: as exported, or its model behind the peers' splitting."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    if whole:
        from genopt_core.integrations.huggingface import to_tokenizers

        tokenizer, form = to_tokenizers(trained.notes["vocabulary"]), "text"
    else:
        scores = trained.scores or {}
        tokenizer = Tokenizer(models.Unigram([("<unk>", 0.0), *scores.items()], unk_id=0))
        tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
        form = "words"

    def encode(lines: list[str]) -> int:
        return sum(len(e) for e in tokenizer.encode_batch_fast(lines))

    return form, encode


def summary(rows: list[list[Any]], facts: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """Medians, and ratios to the references taken inside each round."""
    seconds: dict[tuple, dict[int, float]] = {}
    cpus: dict[tuple, dict[int, float]] = {}
    others: dict[tuple, list[tuple[float, float]]] = {}
    for part, corpus, size, name, turn, wall, cpu, _, peak in rows:
        seconds.setdefault((part, corpus, size, name), {})[turn] = wall
        cpus.setdefault((part, corpus, size, name), {})[turn] = cpu
        others.setdefault((part, corpus, size, name), []).append((cpu, peak))
    found = []
    for key, by_round in seconds.items():
        part, corpus, size, name = key
        cpu, peak = (statistics.median(column) for column in zip(*others[key], strict=True))
        entry: dict[str, Any] = {
            "part": part,
            "corpus": corpus,
            "size": size,
            "contestant": name,
            "rounds": len(by_round),
            "seconds": spread(list(by_round.values())),
            "cpu_seconds": float(f"{cpu:.4g}"),
            "peak_mb": round(peak, 1),
        }
        if part == "encoding":
            megabytes = facts[corpus]["held_bytes"] / 1e6
            entry["mb_per_second"] = float(f"{megabytes / entry['seconds'][0]:.4g}")
            entry["mb_per_cpu_second"] = float(f"{megabytes / cpu:.4g}") if cpu else None
        counting = seconds.get((part, corpus, size, "counting"), {})
        for reference in REFERENCES if part == "training" and name != "counting" else ():
            base = seconds.get((part, corpus, size, reference), {})
            common = sorted(set(base) & set(by_round))
            if not common or reference == name:
                continue
            entry[f"over_{reference}"] = spread([by_round[i] / base[i] for i in common])
            own, theirs = cpus[key], cpus[part, corpus, size, reference]
            entry[f"cpu_over_{reference}"] = spread([own[i] / theirs[i] for i in common])
            spared = peers.METHODS[name].reads == "counts"
            spared_base = peers.METHODS[reference].reads == "counts"
            if counting and spared != spared_base and set(common) <= set(counting):
                entry[f"over_{reference}_counting_too"] = spread(
                    [
                        (by_round[i] + spared * counting[i]) / (base[i] + spared_base * counting[i])
                        for i in common
                    ]
                )
        found.append(entry)
    return found


loaded = cache(load)


def made_from(job: Job) -> Any:
    """What a measurement depends on."""
    name = "ours_standard" if job[3] in EXPORTED else job[3]
    return None if name == "counting" else fingerprint(name, loaded(job[1]))


def next_round(before: dict[str, Any], job: Job) -> int:
    """The first round that is not in a stored table yet, of a part, corpus and size."""
    return 1 + max((row[4] for row in before["rows"] if tuple(row[:3]) == job[:3]), default=-1)


def with_stored(
    found: dict[str, Any], before: dict[str, Any], planned: Iterable[Job], anew: bool = False
) -> dict[str, Any]:
    """The rounds that were planned beside those stored; older rows of ours are of other code.

    With ``anew`` those of everybody go.  What else was found may be of other code too.
    """
    new = set(planned)
    found = found | {"rows": [row for row in found["rows"] if tuple(row[:5]) in new]}
    measured = {tuple(row[:5]) for row in found["rows"]}
    renewed = {key[:4] for key in measured if anew or key[3].startswith("ours")}
    stay = [
        r for r in before["rows"] if tuple(r[:5]) not in measured and tuple(r[:4]) not in renewed
    ]
    rows = stay + found["rows"]
    encoding = [entry for entry in before["summary"] if entry["part"] == "encoding"]
    return {
        **before,
        "provenance": found["provenance"],
        "earlier": [*before.get("earlier", []), before["provenance"]],
        "load_before": found["load_before"],
        "corpora": before["corpora"] | found["corpora"],
        "summary": summary([row for row in rows if row[0] != "encoding"], {}) + encoding,
        "rows": rows,
    }


def table(folder: Path, quick: bool) -> dict[str, Any]:
    """Everything that is done."""
    rows, loads, extra = [], [], {}
    for job in jobs(list(PARTS), range(1 if quick else 99), quick):
        path = kept(folder, job)
        if path.is_file() and "skipped" not in (result := read(path)):
            values = [result[key] for key in COLUMNS[5:]]
            rows.append([*job, *(float(f"{value:.5g}") for value in values)])
            loads.append(result["load_before"])
            if "tokens" in result:
                extra["{2}.{3}".format(*job)] = [result["tokens"], result["first_seconds"]]
    facts = {name: dict(loaded(name).facts) for name in dict.fromkeys(row[1] for row in rows)}
    columns = ("train_bytes", "train_words", "train_unique", "train_counts_sha256")
    return {
        "schema": "subwords-timing/1",
        "provenance": provenance(),
        "load_before": spread(loads) if loads else None,
        "corpora": {name: {key: fact[key] for key in columns} for name, fact in facts.items()},
        "encoded_tokens_and_first_seconds": extra,
        "summary": summary(rows, facts),
        "columns": list(COLUMNS),
        "rows": rows,
    }


def kept(folder: Path, job: Job) -> Path:
    """Where one measurement lies."""
    return folder / "{}.{}.{}.{}.{}.json".format(*job)


def main() -> int:
    """Measure what is not measured yet and write the table."""
    arguments = parser(__doc__, "quick", "only", "force")
    arguments.add_argument("--part", choices=PARTS, action="append", help="all if not given")
    arguments.add_argument("--size", type=int, choices=SIZES, action="append", help="the same")
    arguments.add_argument("--rounds", type=int, default=3)
    arguments.add_argument("--again", action="store_true", help="new rounds beside those stored")
    arguments.add_argument("--anew", action="store_true", help="and none of those stored")
    arguments.add_argument("--child", nargs=5, help=argparse.SUPPRESS)
    options = arguments.parse_args()
    if options.child:
        part, corpus, size, name, out = options.child
        child(part, corpus, int(size), name, Path(out))
        return 0
    if options.rounds < 1:
        raise SystemExit(f"--rounds must be at least 1, got {options.rounds}")
    apart = ("counting", *EXPORTED)  # not tokenizers of their own
    only = selected(options.only, (*apart, *peers.METHODS))
    folder = SCRATCH / ("timing-quick" if options.quick else "timing")
    target = RESULTS / "subwords_timing.json"
    before = read(target) if options.again or options.anew else None
    parts = options.part or list(PARTS)
    if before and (options.quick or "encoding" in parts):
        raise SystemExit("--again is for --part training and --part growth, not for --quick")
    planned = jobs(parts, range(1 if options.quick else options.rounds), options.quick)
    planned = [job for job in planned if job[2] in (options.size or (job[2],))]
    if before:
        planned = [(*job[:4], job[4] + next_round(before, job)) for job in planned]
    names = dict.fromkeys(job[3] for job in planned if job[3] in only)
    able = {*apart, *peers.ready(name for name in names if name not in apart)}
    do_all(
        [job for job in planned if job[3] in names and job[3] in able],
        lambda job: kept(folder, job),
        made_from,
        measure,
        lambda job, result: f"{kept(folder, job).stem}: {result.get('seconds', 0):.2f} s",
        options.force,
    )
    found = table(folder, options.quick)
    if before:
        found = with_stored(found, before, planned, options.anew)
    for entry in found["summary"]:
        ratios = " ".join(
            f"{key.removeprefix('over_')} {value[0]:.2f}"
            for key, value in entry.items()
            if key.startswith("over_") and not key.endswith("too")
        )
        speed = f" {entry['mb_per_second']:.1f} MB/s" if "mb_per_second" in entry else ""
        print(
            f"{entry['part']:9s} {entry['corpus']:12s} {entry['size']:6d} "
            f"{entry['contestant']:18s} {entry['seconds'][0]:8.2f} s {entry['cpu_seconds']:8.2f} "
            f"CPU s {entry['peak_mb']:7.0f} MB{speed}  over: {ratios}"
        )
    quick = SCRATCH / "subwords_timing_quick.json"
    target = quick if options.quick else target
    print(f"{target.name}: {write_results(target, found)} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
