"""Seven languages at 1,000, 4,000 and 16,000 pieces: every tokenizer that can run, on drawn words.

    python -m book.experiments.subwords.languages             # all of it, resumes
    python -m book.experiments.subwords.languages --only fi --size 4000 --contestant hf_bpe,greedtok
    python -m book.experiments.subwords.languages --collect   # only write the table again

The words are those of `corpora`'s ``words-xx``, the tokenizers those of `peers`, each with its own
segmentation.  A tokenizer that could not run, or was stopped, is missing from the table, and so is
one that found less than 99 % of the pieces.  Ours runs in bytes too where the alphabet is large, as
GreedTok does there.  A row says on which machine it was made.  In a fresh
clone what the table holds is laid below ``.cache`` first, so that a run goes on from there.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from book.experiments.common.main import do_all, parser, selected
from book.experiments.common.places import RESULTS, SCRATCH
from book.experiments.common.store import (
    machines,
    made_here,
    provenance,
    read,
    rounded,
    write_json,
    write_results,
)
from book.experiments.subwords import peers
from book.experiments.subwords.corpora import LANGUAGES, Corpus, load
from book.experiments.subwords.metrics import (
    code_length,
    cross_code_length,
    piece_counts,
    spelled_out,
)
from genopt_core.tables import records

SIZES = (1000, 4000, 16000)
OURS = ("ours_front_5", "ours_tokens", "ours_front")
CONTESTANTS = (
    *("hf_bpe", "ours_front_5", "ours_tokens", "mingram", "hf_unigram_front", "ours_front"),
    *("sp_counts", "sp_counts_front", "hf_wordpiece", "rustbpe", "greedtok"),
    *("pathpiece", "mingram_increase"),
)
IN_BYTES = ("ours_front_5_bytes", "ours_tokens_bytes", "ours_front_bytes")
LARGE_ALPHABETS = ("ja", "zh")  # most of a small vocabulary are their characters
MEASURES = ("train_tokens", "held_tokens", "train_bits_per_byte", "held_bits_per_byte")
COLUMNS = (
    *("language", "size", "contestant", "pieces", *MEASURES),
    *("train_cpu_seconds", "machine"),
)
TARGET = RESULTS / "subwords_languages.json"
KEPT = SCRATCH / "subwords" / "seven"
Job = tuple[str, int, str]


def jobs() -> Iterator[Job]:
    """Every training: size, language, tokenizer, the strongest tokenizers first."""
    for contestant in CONTESTANTS + IN_BYTES:
        languages = LARGE_ALPHABETS if contestant in IN_BYTES else LANGUAGES
        for size in (4000, 16000, 1000):
            yield from ((language, size, contestant) for language in languages)


def kept(job: Job) -> Path:
    """Where the result of one job lies."""
    return KEPT / "{}.{}.{}.json".format(*job)


def made_from(job: Job) -> Any:
    """What a result depends on."""
    facts = load(f"words-{job[0]}").facts
    return [*job, facts["train_counts_sha256"], facts["held_counts_sha256"]]


def restore(table: dict[str, Any]) -> None:
    """Lay the peers' results of a stored table below ``.cache`` where nothing lies for them.

    Ours are trained again: they depend on our code, which no fingerprint here knows.
    """
    found: dict[Job, dict[str, Any]] = {}
    for row in records(table):
        numbers = {name: row[name] for name in COLUMNS[3:]}
        found[row["language"], row["size"], row["contestant"]] = numbers | {
            "versions": table["provenance"]["machines"][row["machine"]]
        }
    for language, size, contestant, reason in table["skipped"]:
        number, _, unit = reason.partition(" ")
        job = (language, size, contestant)
        found[job] = {"pieces": int(number)} if unit == "pieces" else {"skipped": reason}
    for job, result in found.items():
        if not job[2].startswith("ours") and not kept(job).is_file():
            facts = table["corpora"][job[0]]
            hashes = [facts[f"{part}_counts_sha256"] for part in ("train", "held")]
            write_json(kept(job), {"fingerprint": [*job, *hashes], **result})


def scored(trained: peers.Trained, corpus: Corpus) -> dict[str, float]:
    """Tokens and bits a byte with the tokenizer's own segmentation, as in `metrics.evaluate`."""
    found: dict[str, float] = {"pieces": len(trained.pieces)}
    seen: dict[str, int] = {}
    for part, counts in (("train", corpus.train), ("held", corpus.held)):
        words = [trained.view(word) for word in counts]
        cut = trained.segment(words)
        plain = [[trained.plain(piece) for piece in pieces] for pieces in cut]
        unknown = spelled_out(plain, words)
        if unknown and part == "train":
            raise RuntimeError(f"{unknown} training words of {corpus.name} are not spelled")
        if unknown:
            cut = [
                pieces if "".join(map(trained.plain, pieces)) == word else list(word)
                for pieces, word in zip(cut, words, strict=True)
            ]
        uses = piece_counts(cut, counts.values())
        found[f"{part}_tokens"] = sum(uses.values())
        size = corpus.facts[f"{part}_bytes"]
        if part == "train":
            seen = uses
            found["train_bits_per_byte"] = code_length(uses) / size
        else:
            bits = cross_code_length(uses, seen, len(trained.pieces))
            found["held_bits_per_byte"] = bits / size
    return found


def measure(job: Job) -> dict[str, Any]:
    """One training and what it makes of the held-out words, or why there is none."""
    language, size, contestant = job
    corpus = load(f"words-{language}")
    try:
        trained = peers.train(contestant, corpus, size)
    except (peers.CannotTrainError, peers.NotInstalledError) as error:
        return {"skipped": str(error)} | made_here()
    return scored(trained, corpus) | {
        "train_cpu_seconds": trained.cpu_seconds,
        **made_here(),
    }


def same_size(job: Job, result: dict[str, Any]) -> bool:
    """Whether it has the pieces that were asked for, or 99 % of them, and says so in its row.

    One of bytes has its 256 besides.
    """
    if "skipped" in result:
        return False
    wanted = job[1]
    if peers.method(job[2]).form == "bytes":
        wanted += 256 - min(len(load(f"words-{job[0]}").alphabet), 256)
    return 0.99 * wanted <= result["pieces"] <= wanted


def collect() -> None:
    """Write the table of what is there."""
    rows, skipped = [], []
    ordered = sorted(jobs(), key=lambda job: (LANGUAGES.index(job[0]), job[1]))
    done = [job for job in ordered if kept(job).is_file()]
    results = [read(kept(job)) for job in done]
    places, installed = machines(results)
    for job, result, place in zip(done, results, places, strict=True):
        if same_size(job, result):
            rows.append([*job, *(rounded(result.get(column)) for column in COLUMNS[3:-1]), place])
        else:
            skipped.append([*job, result.get("skipped") or f"{result['pieces']} pieces"])
    used = dict.fromkeys(row[2] for row in rows)
    corpora = {language: load(f"words-{language}").facts for language in LANGUAGES}
    write_results(
        TARGET,
        {
            "schema": "subwords-languages/1",
            "provenance": provenance() | {"machines": installed},
            "corpora": {
                language: {k: v for k, v in facts.items() if k != "format"}
                for language, facts in corpora.items()
            },
            "contestants": {
                name: {"label": entry.label, "emulated": entry.emulated, "note": entry.note}
                for name, entry in peers.METHODS.items()
                if name in used
            },
            "skipped": skipped,
            "columns": list(COLUMNS),
            "rows": rows,
        },
    )
    print(f"{len(rows)} rows")


def said(job: Job, result: dict[str, Any]) -> str:
    """A result in a line."""
    return f"{job} {result.get('skipped') or result['held_tokens']}"


def main() -> int:
    """Run what is not done yet, and collect."""
    options = parser(__doc__, "only", "force")
    options.add_argument("--size", type=int)
    options.add_argument("--contestant")
    options.add_argument("--collect", action="store_true")
    given = options.parse_args()
    failures = 0
    if TARGET.is_file():
        restore(read(TARGET))
    if not given.collect:
        names = selected(given.contestant, CONTESTANTS + IN_BYTES, "--contestant")
        languages = selected(given.only, LANGUAGES)
        wanted = [
            job
            for job in jobs()
            if job[0] in languages and given.size in (None, job[1]) and job[2] in names
        ]
        failures = do_all(wanted, kept, made_from, measure, said, given.force)
    collect()
    return min(failures, 1)


if __name__ == "__main__":
    sys.exit(main())
