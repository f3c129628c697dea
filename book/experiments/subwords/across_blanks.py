"""Pieces across blanks: ours without any rule for words, beside SuperBPE and BoundlessBPE.

    python -m book.experiments.subwords.across_blanks             # all of it, resumes
    python -m book.experiments.subwords.across_blanks --only python --size 4000
    python -m book.experiments.subwords.across_blanks --collect   # only write the table again

A unit is a line of Python or a sentence of English; nobody has pieces across its end.  The peers
(`merges.py`) know words too, those of GPT-4's rule.  What can be set is chosen with the last fifth
of the training text as development text and the rest to train: our least count, and when SuperBPE
begins to cross words and how many words a piece may touch.  Everybody has all 256 bytes among its
pieces.  Every training runs in a process of its own, so that its memory is its own.
"""

from __future__ import annotations

import itertools
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
    machines,
    made_here,
    provenance,
    read,
    rounded,
    sha256,
    write_results,
)
from book.experiments.subwords import conventions
from book.experiments.subwords.development import DEVELOPED, fewest, split, tried
from book.experiments.subwords.merges import ANYWHERE, INSIDE, WHOLE_WORDS, Merges
from book.experiments.subwords.metrics import (
    code_length,
    cross_code_length,
    piece_counts,
    shortest_paths,
)
from book.experiments.subwords.peers import Meter
from genopt_core import corpora
from genopt_core.conventions import Convention, byte_letters, spelled_in_bytes
from genopt_core.subwords import certify, train

SENTENCE = r"[^.!?\n]*(?:[.!?]+|\n)|[^.!?\n]+"
RULES = {"python": Convention("none"), "english": Convention("regex", SENTENCE)}
WORDS = Convention("gpt4")
TRAIN, HELD = 1_000_000, 500_000  # characters
DEVELOPMENT = 5  # one in so many: the end of the training text
BLOCK = 300  # units of the English text that stay together: two for training, one held out
SIZES = (4000, 16000)
MAX_PIECE = 32
SHARES = (0.2, 0.4, 0.6, 0.8)  # SuperBPE: of the pieces, before it crosses words
WORDS_IN_A_PIECE = (4, 0)  # at most so many, or any number
LEAST_COUNTS = (2, 3, 4, 6, 8, 12)
STEPS = 60  # of the certificate
KEPT = SCRATCH / "subwords" / "across_blanks"
CODE = ("across_blanks", "merges", "development")
PACKAGES = ("genopt-core", "numpy", "tokenizers", "optuna", "scipy")
SUPER = {
    f"superbpe {share} {words}": (share, words) for share in SHARES for words in WORDS_IN_A_PIECE
}
LEAST = {f"ours_tokens {least}": least for least in LEAST_COUNTS}
CHOSEN = {"superbpe": tuple(SUPER), "ours_chosen": tuple(LEAST)}
CERTIFIED = "certified"
CONTESTANTS = (
    "bpe",
    "boundlessbpe",
    "superbpe",
    "ours_words",
    "ours_tokens",
    "ours_chosen",
    CERTIFIED,
)
COLUMNS = (
    *("corpus", "size", "contestant", "setting", "pieces", "train_tokens", "held_tokens"),
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


def parts(corpus: str, development: bool = False) -> tuple[list[str], list[str]]:
    """Units of the text that is trained on, and of the one that is scored."""
    train_units, held = map(RULES[corpus].cut, texts(corpus))
    if not development:
        return train_units, held
    return split(train_units, DEVELOPMENT)


def counted(
    corpus: str, development: bool = False
) -> tuple[Counter[str], Counter[str], dict[str, list[str]]]:
    """Units of both parts, spelled in bytes, and the words of each."""
    words: dict[str, list[str]] = {}
    found = []
    for units in parts(corpus, development):
        words |= {
            spelled_in_bytes(unit): [*map(spelled_in_bytes, WORDS.cut(unit))] for unit in set(units)
        }
        found.append(Counter(map(spelled_in_bytes, units)))
    return found[0], found[1], words


def merged(contestant: str, size: int, counts: Counts, words: Mapping[str, list[str]]) -> Any:
    """Pieces of a peer, and the segmentation of every unit."""
    merges = Merges({unit: counts.get(unit, 0) for unit in words}, words.__getitem__)
    if contestant in SUPER:
        share, limit = SUPER[contestant]
        merges.grow(int(share * size), INSIDE)
        merges.grow(size, ANYWHERE, limit)
    else:
        merges.grow(size, INSIDE if contestant == "bpe" else WHOLE_WORDS)
    return merges.names, dict(zip(words, merges.segmented(), strict=True))


def ours(
    contestant: str, corpus: str, size: int, counts: Counts, words: Mapping[str, list[str]]
) -> Any:
    """Pieces of ours, and the segmentation of every unit."""
    across = contestant != "ours_words"
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
        min_count=LEAST.get(contestant),
        new_words=False,
        at_most=True,
        convention=rule,
    )

    # The paths of vocabulary.segment, only faster: all bytes are pieces, nothing is unknown.
    scores = {piece: -cost for piece, cost in vocabulary.costs.items()}
    different = [*words] if across else [*dict.fromkeys(itertools.chain(*words.values()))]
    paths = dict(zip(different, shortest_paths(different, scores), strict=True))

    def cut(unit: str) -> list[str]:
        return [piece for part in ([unit] if across else words[unit]) for piece in paths[part]]

    return list(vocabulary.pieces), cut


def chosen(corpus: str, size: int, contestant: str) -> str:
    """The setting with which the development text needs the fewest tokens, the first on ties."""
    return fewest(CHOSEN[contestant], lambda run: read(kept((corpus, size, run)))["held_tokens"])


def measure(job: Job) -> dict[str, Any]:
    """One training and what it makes of the held-out text."""
    corpus, size, contestant = job
    counts, held, words = counted(corpus, contestant.startswith(DEVELOPED))
    setting = contestant.removeprefix(DEVELOPED)
    if contestant in CHOSEN:
        setting = chosen(*job)
    with Meter() as meter:
        if contestant == CERTIFIED:
            absent = len(set(byte_letters()).difference(*counts))  # pieces of no use here
            certificate = certify(
                counts, size - absent, max_piece=MAX_PIECE, min_count=2, steps=STEPS
            )
        elif setting.startswith("ours"):
            pieces, cut = ours(setting, corpus, size, counts, words)
        else:
            pieces, segmented = merged(setting, size, counts, words)
            cut = segmented.__getitem__
    costs = {name: meter.numbers[name] for name in ("cpu_seconds", "peak_mb")}
    if contestant == CERTIFIED:
        return {"train_tokens": certificate.check(counts)} | costs | made_here(PACKAGES)
    used = [piece_counts(map(cut, part), part.values()) for part in (counts, held)]
    spelled = [sum(len(piece) * n for piece, n in part.items()) for part in used]
    sizes = [sum(len(unit) * n for unit, n in part.items()) for part in (counts, held)]
    if spelled != sizes:
        raise RuntimeError(f"{job}: the pieces do not spell the texts")
    tokens = [sum(part.values()) for part in used]
    return {
        "setting": setting if contestant in CHOSEN else None,
        "pieces": len(pieces),
        "train_tokens": tokens[0],
        "held_tokens": tokens[1],
        "held_bytes_per_token": sizes[1] / tokens[1],
        "held_bits_per_byte": cross_code_length(used[1], used[0], len(pieces)) / sizes[1],
        "train_bits_per_byte": code_length(used[0]) / sizes[0],
        **costs,
        **made_here(PACKAGES),
    }


# ------------------------------------------------------------------ the table


def kept(job: Job) -> Path:
    return KEPT / "{}.{}.{}.json".format(*job).replace(" ", "_")


def jobs() -> Iterator[Job]:
    """Every training: text, size, tokenizer; what is chosen behind what it is chosen from."""
    runs = tried(CHOSEN, CHOSEN)
    for corpus in RULES:
        for size in SIZES:
            yield from ((corpus, size, contestant) for contestant in (*runs, *CONTESTANTS))


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
    rows = []
    done = [job for job in jobs() if job[2] in CONTESTANTS and kept(job).is_file()]
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
            | {"machines": machines(read(kept(job)) for job in done)[1]}
            | {"code": [code_sha256(folder / f"{n}.py") for n in CODE]},
            "corpora": {corpus: facts(corpus) for corpus in dict.fromkeys(j[0] for j in done)},
            "settings": {
                "max_piece": MAX_PIECE,
                "development": f"the last {DEVELOPMENT}th of the training text, the rest to train",
                "superbpe": {"shares": SHARES, "words": WORDS_IN_A_PIECE},
                "least_counts": LEAST_COUNTS,
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
        names += tried(names, CHOSEN)
        wanted = [
            job
            for job in jobs()
            if job[0] in corpora_chosen and given.size in (None, job[1]) and job[2] in names
        ]
        failures = do_all(
            wanted,
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
