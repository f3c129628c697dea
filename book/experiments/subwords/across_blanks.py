"""Pieces across blanks: ours without any rule for words, beside SuperBPE and BoundlessBPE.

    python -m book.experiments.subwords.across_blanks             # all of it, resumes
    python -m book.experiments.subwords.across_blanks --only python --size 4000
    python -m book.experiments.subwords.across_blanks --collect   # only write the table again

A unit is a line of Python or a sentence of English; nobody has pieces across its end.  The peers
(`merges.py`) know words too, those of GPT-4's rule; SuperBPE has the better of two settings on the
held-out text itself.  Everybody has all 256 bytes among its pieces.  Every training runs in a
process of its own, so that its memory is its own.
"""

from __future__ import annotations

import multiprocessing
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

from book.experiments.common.main import do_all, parser, selected
from book.experiments.common.places import RESULTS, SCRATCH
from book.experiments.common.store import (
    code_sha256,
    provenance,
    read,
    rounded,
    sha256,
    write_results,
)
from book.experiments.subwords import conventions
from book.experiments.subwords.merges import ANYWHERE, INSIDE, WHOLE_WORDS, Merges
from book.experiments.subwords.metrics import code_length, cross_code_length, piece_counts
from book.experiments.subwords.peers import Meter
from genopt_core import corpora
from genopt_core.conventions import Convention, byte_letters, spelled_in_bytes
from genopt_core.subwords import certify, train

SENTENCE = r"[^.!?\n]*(?:[.!?]+|\n)|[^.!?\n]+"
RULES = {"python": Convention("none"), "english": Convention("regex", SENTENCE)}
WORDS = Convention("gpt4")
TRAIN, HELD = 300_000, 150_000  # characters
BLOCK = 300  # units of the English text that stay together: two for training, one held out
SIZES = (4000,)
MAX_PIECE = 32
SHARES, WORDS_IN_A_PIECE = (0.4, 0.8), 4  # SuperBPE: pieces before it crosses, and its limit
STEPS = 60  # of the certificate
KEPT = SCRATCH / "subwords" / "across_blanks"
PACKAGES = ("genopt-core", "numpy", "optuna", "scipy")
SUPER = {f"superbpe_{share}": share for share in SHARES}
OURS: dict[str, tuple[bool, float | None]] = {  # across blanks or inside words, least count
    "ours_words": (False, None),
    "ours_tokens": (True, None),
    "ours_tokens_4": (True, 4),  # tried after the others had been measured
}
CERTIFIED = "certified"
CONTESTANTS = ("bpe", "boundlessbpe", *SUPER, *OURS, CERTIFIED)
COLUMNS = (
    *("corpus", "size", "contestant", "pieces", "train_tokens", "held_tokens"),
    *("train_bytes_per_token", "train_bits_per_byte"),
    *("held_bytes_per_token", "held_bits_per_byte", "cpu_seconds", "peak_mb"),
)

Job = tuple[str, int, str]
Counts = Mapping[str, int]


def texts(corpus: str) -> tuple[str, str]:
    """Training and held-out text."""
    if corpus == "python":
        parts = conventions.texts("python")[:2]
    else:
        units = RULES[corpus].cut(corpora.load("sotu"))
        blocks = ["".join(units[i : i + BLOCK]) for i in range(0, len(units), BLOCK)]
        held = blocks[2::3]
        parts = ("".join(b for i, b in enumerate(blocks) if i % 3 != 2), "".join(held))
    return parts[0][:TRAIN], parts[1][:HELD]


def counted(corpus: str) -> tuple[Counter[str], Counter[str], dict[str, list[str]]]:
    """Units of both texts, spelled in bytes, and the words of each."""
    rule, words = RULES[corpus], {}
    found = []
    for text in texts(corpus):
        units = rule.cut(text)
        words |= {
            spelled_in_bytes(unit): [*map(spelled_in_bytes, WORDS.cut(unit))] for unit in set(units)
        }
        found.append(Counter(map(spelled_in_bytes, units)))
    return found[0], found[1], words


def merged(job: Job, counts: Counts, held: Counts, words: Mapping[str, list[str]]) -> Any:
    """Pieces of a peer, and the segmentation of every unit."""
    size, contestant = job[1:]
    merges = Merges({unit: counts.get(unit, 0) for unit in words}, words.__getitem__)
    if contestant in SUPER:
        share = SUPER[contestant]
        merges.grow(int(share * size), INSIDE)
        merges.grow(size, ANYWHERE, WORDS_IN_A_PIECE)
    else:
        merges.grow(size, INSIDE if contestant == "bpe" else WHOLE_WORDS)
    return merges.names, dict(zip(words, merges.segmented(), strict=True))


def ours(job: Job, counts: Counts, words: Mapping[str, list[str]]) -> Any:
    """Pieces of ours, and the segmentation of every unit."""
    corpus, size, contestant = job
    across, least = OURS[contestant]
    if across:
        rule, seen = RULES[corpus], dict(counts)
    else:
        rule = WORDS
        seen = Counter()
        for unit, n in counts.items():
            for word in words[unit]:
                seen[word] += n
    vocabulary = train(
        seen,
        size,
        "tokens",
        max_piece=MAX_PIECE,
        min_count=least,
        new_words=False,
        at_most=True,
        convention=rule,
    )

    def cut(unit: str) -> list[str]:
        if across:
            return [*vocabulary.segment(unit)]
        return [piece for word in words[unit] for piece in vocabulary.segment(word)]

    return list(vocabulary.pieces), cut


def measure(job: Job) -> dict[str, Any]:
    """One training and what it makes of the held-out text."""
    corpus, size, contestant = job
    counts, held, words = counted(corpus)
    with Meter() as meter:
        if contestant == CERTIFIED:
            absent = len(set(byte_letters()).difference(*counts))  # pieces of no use here
            certificate = certify(
                counts, size - absent, max_piece=MAX_PIECE, min_count=2, steps=STEPS
            )
        elif contestant in OURS:
            pieces, cut = ours(job, counts, words)
        else:
            pieces, segmented = merged(job, counts, held, words)
            cut = segmented.__getitem__
    costs = {name: meter.numbers[name] for name in ("cpu_seconds", "peak_mb")}
    if contestant == CERTIFIED:
        return {"train_tokens": certificate.check(counts)} | costs
    used = [piece_counts(map(cut, part), part.values()) for part in (counts, held)]
    spelled = [sum(len(piece) * n for piece, n in part.items()) for part in used]
    sizes = [sum(len(unit) * n for unit, n in part.items()) for part in (counts, held)]
    if spelled != sizes:
        raise RuntimeError(f"{job}: the pieces do not spell the texts")
    tokens = [sum(part.values()) for part in used]
    return {
        "pieces": len(pieces),
        "train_tokens": tokens[0],
        "held_tokens": tokens[1],
        "held_bytes_per_token": sizes[1] / tokens[1],
        "held_bits_per_byte": cross_code_length(used[1], used[0], len(pieces)) / sizes[1],
        "train_bits_per_byte": code_length(used[0]) / sizes[0],
        **costs,
    }


# ------------------------------------------------------------------ the table


def kept(job: Job) -> Path:
    return KEPT / "{}.{}.{}.json".format(*job)


def jobs() -> Iterator[Job]:
    """Every training: text, size, tokenizer."""
    for corpus in RULES:
        for size in SIZES:
            yield from ((corpus, size, contestant) for contestant in CONTESTANTS)


@cache
def facts(corpus: str) -> dict[str, Any]:
    """What a text is made of."""
    found: dict[str, Any] = {"unit": RULES[corpus].expression}
    for part, text in zip(("train", "held"), texts(corpus), strict=True):
        found[f"{part}_bytes"] = len(text.encode("utf-8"))
        found[f"{part}_units"] = len(RULES[corpus].cut(text))
        found[f"{part}_sha256"] = sha256(text)
    return found


def collect() -> None:
    """Write the table of the texts on which everybody was run."""
    missing = {job[0] for job in jobs() if not kept(job).is_file()}
    rows, done = [], [job for job in jobs() if job[0] not in missing]
    for job in done:
        result = read(kept(job))
        result["train_bytes_per_token"] = facts(job[0])["train_bytes"] / result["train_tokens"]
        values = [rounded(result.get(column)) for column in COLUMNS[3:]]
        rows.append([*job, *values])
    folder = Path(__file__).parent
    write_results(
        RESULTS / "subwords_across_blanks.json",
        {
            "schema": "subwords-across-blanks/1",
            "provenance": provenance(PACKAGES)
            | {"code": [code_sha256(folder / f"{n}.py") for n in ("across_blanks", "merges")]},
            "corpora": {corpus: facts(corpus) for corpus in dict.fromkeys(j[0] for j in done)},
            "settings": {
                "max_piece": MAX_PIECE,
                "certificate": {"steps": STEPS, "min_count": 2},
            },
            "columns": list(COLUMNS),
            "rows": rows,
        },
    )
    print(f"{len(rows)} rows")


def in_a_process(function: Callable[[Job], dict[str, Any]], job: Job) -> dict[str, Any]:
    """Call it in a fresh process."""
    fresh = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=fresh) as pool:
        return pool.submit(function, job).result()


def main(arguments: Sequence[str] | None = None) -> int:
    options = parser(__doc__, "only", "force")
    options.add_argument("--size", type=int)
    options.add_argument("--contestant")
    options.add_argument("--collect", action="store_true")
    given = options.parse_args(arguments)
    failures = 0
    if not given.collect:
        corpora_chosen = selected(given.only, RULES)
        names = selected(given.contestant, CONTESTANTS, "--contestant")
        chosen = [
            job
            for job in jobs()
            if job[0] in corpora_chosen and given.size in (None, job[1]) and job[2] in names
        ]
        failures = do_all(
            chosen,
            kept,
            lambda job: [*job, facts(job[0])],
            lambda job: in_a_process(measure, job),
            lambda job, result: f"{job} {result}",
            given.force,
        )
    collect()
    return min(failures, 1)


if __name__ == "__main__":
    sys.exit(main())
