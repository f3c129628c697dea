"""Words weighted by file against plain counts, by how much there is to train on: Python files.

    python -m book.experiments.subwords.by_file             # all of it, 25 minutes, resumes
    python -m book.experiments.subwords.by_file --only 2    # two megabytes

The Python files of `SOURCES` in an order fixed by a seed: the last eighth is scored, the eighth
before it chooses how often a sub-word must occur, for plain and weighted counts apart, and training
takes the first so many bytes of the rest.  The rule is GPT-4's, everybody in bytes.
"""

from __future__ import annotations

import itertools
import random
import sys
from collections.abc import Iterator, Sequence
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from book.experiments.common.main import do_all, parser, selected
from book.experiments.common.places import RESULTS, SCRATCH
from book.experiments.common.store import (
    files_sha256,
    machines,
    made_here,
    provenance,
    read,
    sha256,
    write_results,
)
from book.experiments.subwords import conventions
from genopt_core.conventions import Convention
from genopt_core.corpora import count_words
from genopt_core.subwords import development_cost, file_weights, train

SOURCES = {
    "torch": "BSD-3-Clause",
    "transformers": "Apache-2.0",
    "sympy": "BSD-3-Clause",
    "scipy": "BSD-3-Clause",
    "scikit-learn": "BSD-3-Clause",
    "numpy": "BSD-3-Clause",
    "sqlalchemy": "MIT",
    "matplotlib": "Matplotlib License",
    "networkx": "BSD-3-Clause",
}
SEED, EIGHTH = 0, 8
MEGABYTES = (2, 8, 32, 128)
SIZES = (4000, 16000)
LEAST_COUNTS = (2, 6, 12, 24, 48)
EXPONENTS = {"ours_plain": 1.0, "ours_files": conventions.ROOT}
CONTESTANTS = ("hf_bpe", *EXPONENTS)
RULE = Convention("gpt4")
KEPT = SCRATCH / "subwords" / "by_file"
COLUMNS = ("megabytes", "files", "size", "contestant", "min_count", "held_tokens")
PACKAGES = ("genopt-core", "numpy", "tokenizers", *SOURCES)

Job = tuple[int, int, str]


@cache
def files() -> tuple[list[str], list[str], list[str]]:
    """The files to train on, to choose on and to score."""
    found = {}
    for package in SOURCES:
        for name, text in conventions.installed(package, ".py").items():
            found[f"{package}: {name}"] = text
    names = sorted(found)
    random.Random(SEED).shuffle(names)
    texts = [found[name] for name in names if found[name].strip()]
    part = len(texts) // EIGHTH
    return texts[: -2 * part], texts[-2 * part : -part], texts[-part:]


@cache
def words(part: int) -> dict[str, float]:
    """The words of the files to choose on, 1, or to score, 2."""
    return file_weights((count_words(text, RULE) for text in files()[part]), 1)


def first(megabytes: int) -> list[str]:
    """The files of the first so many megabytes."""
    bounds = itertools.accumulate(len(text.encode("utf-8")) for text in files()[0])
    return files()[0][: 1 + next(i for i, end in enumerate(bounds) if end >= megabytes * 10**6)]


def measure(job: Job) -> dict[str, Any]:
    """Tokens of the scored files; of ours with the least count that was chosen."""
    megabytes, size, contestant = job
    texts = first(megabytes)
    found: dict[str, Any] = {"files": len(texts)}
    if contestant == "hf_bpe":
        _, segment = conventions.hugging_face("bpe", RULE, size, "".join(texts))
        parts = segment([*words(2)])
        found["held_tokens"] = sum(
            len(pieces) * n for pieces, n in zip(parts, words(2).values(), strict=True)
        )
    else:
        counts = file_weights((count_words(text, RULE) for text in texts), EXPONENTS[contestant])
        found["tried"] = []
        for least in LEAST_COUNTS:
            vocabulary = train(
                counts,
                size,
                "tokens",
                max_piece=conventions.MAX_PIECE,
                min_count=least,
                convention=RULE,
                at_most=True,
            )
            chosen_on, held = (development_cost(vocabulary, words(part))[0] for part in (1, 2))
            found["tried"].append([least, chosen_on, held])
        found["min_count"], _, found["held_tokens"] = min(found["tried"], key=lambda row: row[1])
    return found | made_here(PACKAGES)


def kept(job: Job) -> Path:
    return KEPT / f"{'.'.join(map(str, job))}.json"


def made_from(job: Job) -> Any:
    return [list(job), _versions()]


def _versions() -> dict[str, str]:
    return {package: metadata.version(package) for package in SOURCES}


def jobs(megabytes: Sequence[int] = MEGABYTES) -> Iterator[Job]:
    """Every (megabytes, size, tokenizer), small texts first."""
    return itertools.product(megabytes, SIZES, CONTESTANTS)


def collect() -> None:
    """Write the table of what is there."""
    done = [job for job in jobs() if kept(job).is_file()]
    places, installed = machines(map(read, map(kept, done)))
    if len(set(places)) > 1:
        raise RuntimeError("rows are from several machines; run all of it on one")
    rows = []
    for job in done:
        result = read(kept(job))
        least = result.get("min_count")
        rows.append([job[0], result["files"], *job[1:], least, int(result["held_tokens"])])
    write_results(
        RESULTS / "subwords_by_file.json",
        {
            "schema": "subwords-by-file/1",
            "provenance": provenance(PACKAGES) | {"machines": installed},
            "code": files_sha256([Path(__file__)]),
            "packages": {f"{p}=={version}": SOURCES[p] for p, version in _versions().items()},
            "held": {
                "files": len(files()[2]),
                "bytes": sum(len(text.encode("utf-8")) for text in files()[2]),
                "sha256": sha256("".join(files()[2])),
            },
            "columns": list(COLUMNS),
            "rows": rows,
        },
    )
    print(f"{len(rows)} rows")


def said(job: Job, result: dict[str, Any]) -> str:
    """A result in a line."""
    return f"{job} {result['held_tokens']} {result.get('min_count', '')}"


def main() -> int:
    options = parser(__doc__, "only", "force")
    given = options.parse_args()
    chosen = jobs([int(n) for n in selected(given.only, map(str, MEGABYTES))])
    failures = do_all(chosen, kept, made_from, measure, said, given.force)
    collect()
    return min(failures, 1)


if __name__ == "__main__":
    sys.exit(main())
