"""Small corpora: who finds the better vocabulary when many of the next words are new.

    python -m book.experiments.subwords.small             # both parts, resumes: half an hour
    python -m book.experiments.subwords.small --part growth --only english,moby-dick
    python -m book.experiments.subwords.small --collect   # only write the table again

``messages``: the translations that Django ships, one corpus a language, four fifths of the messages
to train.  The eight languages below were fixed before anything was measured on them; the objective
was chosen on eight others (cs, et, fr, hu, ko, nl, pl, zh_Hant).  ``growth``: the first so many
words of Moby-Dick's training part, and its held-out part; then all of it and all of `corpora`'s
``english``, this at the size that `quality` does not have.  Django's texts (BSD license) are read
from the installed package; only counts of tokens and bits are stored.
"""

from __future__ import annotations

import ast
import random
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tqdm import tqdm

from book.experiments.common.main import parser, selected
from book.experiments.common.places import RESULTS, ROOT
from book.experiments.common.store import (
    files_sha256,
    provenance,
    read,
    rounded,
    write_json,
    write_results,
)
from book.experiments.subwords import peers
from book.experiments.subwords.corpora import (
    END,
    SCRATCH,
    Corpus,
    clean,
    read_counts,
    stream,
    write,
)
from book.experiments.subwords.corpora import load as load_corpus
from genopt_core.conventions import Alphabet, Convention, spelled_in_bytes
from genopt_core.corpora import pretokenize
from genopt_core.tables import records

DJANGO = "5.2"
LANGUAGES = ("ar", "de", "fi", "hi", "ja", "ru", "tr", "zh_Hans")
SIZES = (1000, 2000, 4000)
WORDS = (5_000, 10_000, 20_000)
WHOLE = {"moby-dick": SIZES, "english": (2000,)}  # the other sizes are in `quality`
SHUFFLE = 3  # the seed of the split
PEERS = (
    *("hf_bpe", "hf_unigram", "hf_unigram_front"),
    *("sp_text", "sp_text_front", "sp_counts", "sp_counts_front", "mingram"),
)
GROWTH_PEERS = ("hf_bpe", "hf_unigram_front", "sp_counts", "mingram")  # the strongest
WHOLE_PEERS = (
    *("hf_bpe", "rustbpe", "hf_unigram", "hf_unigram_front", "hf_unigram_tuned", "greedtok"),
    *("sp_text", "sp_text_front", "sp_counts", "sp_counts_front"),
    *("sp_counts_tuned", "sp_text_tuned", "sp_text_front_tuned"),
    *("mingram", "mingram_increase", "pathpiece", "convextok"),
)
OURS = {"ours": None, "ours_without": False, "ours_bytes": None}
LABELS = {
    "ours": "ours, λ = 5",
    "ours_without": "ours, λ = 5, for the corpus itself",
    "ours_bytes": "ours, λ = 5, in bytes",
}
LARGE_ALPHABETS = ("ja", "zh_Hans")  # where ours runs in bytes too
COLUMNS = (
    *("part", "corpus", "words", "size", "contestant", "pieces"),
    *("held_bits_per_byte", "held_tokens_per_word", "optimal_held_bits_per_byte"),
    *("train_bits_per_byte", "train_tokens_per_word"),
)
TARGET = RESULTS / "subwords_small.json"
Job = tuple[str, str, int, str]


def messages(path: Path) -> Iterator[str]:
    """The translations of a gettext file, in its order."""
    entry: dict[str, str] = {}
    field = ""
    lines = [*path.read_text(encoding="utf-8").splitlines(), 'msgid "end"']
    for line in lines:
        begins = re.match(r"(msg\w+(?:\[\d+\])?) ", line)
        if begins:
            before, field = field, begins[1]
            if field == "msgctxt" or (field == "msgid" and before != "msgctxt"):
                if entry.get("msgid"):
                    yield from (v for k, v in entry.items() if k.startswith("msgstr") and v.strip())
                entry = {}
            entry[field] = ""
        text = re.search(r'"(?:[^"\\]|\\.)*"', line)
        if field and text and not line.startswith("#"):
            entry[field] += ast.literal_eval(text[0])


def load(part: str, name: str) -> Corpus:
    """The corpus of a language, the first ``name`` words of Moby-Dick, or one of `WHOLE`."""
    if name in WHOLE:
        return load_corpus(name)
    folder = SCRATCH / f"small-{part}-{name}"
    if not (folder / "facts.json").is_file():
        if part == "messages":
            _make_messages(folder, name)
        else:
            novel = load_corpus("moby-dick")
            words = list(stream(novel, "train"))
            write(folder, words[: int(name)], list(stream(novel, "held")), {"kind": "Moby-Dick"})
    train, held = (read_counts(folder / f"{kind}.counts.txt") for kind in ("train", "held"))
    return Corpus(f"{part}-{name}", train, held, read(folder / "facts.json"), folder)


def _make_messages(folder: Path, language: str) -> None:
    import django

    if django.__version__ != DJANGO:
        raise ValueError(f"django must be version {DJANGO}, got {django.__version__}")
    root = Path(django.__file__).parent
    found = [
        message
        for file in sorted(root.rglob(f"locale/{language}/LC_MESSAGES/django.po"))
        for message in messages(file)
    ]
    random.Random(SHUFFLE).shuffle(found)
    cut = len(found) * 4 // 5
    train, held = (
        list(pretokenize("\n".join(map(clean, some)))) for some in (found[:cut], found[cut:])
    )
    facts = {
        "kind": f"messages of Django {DJANGO}, language {language}",
        "split": f"shuffled with random.Random({SHUFFLE}), the last fifth held out",
    }
    write(folder, train, held, facts)


def jobs() -> Iterator[Job]:
    """Every training: part, corpus, size, tokenizer."""
    for part, names in (("messages", LANGUAGES), ("growth", map(str, WORDS))):
        for name in names:
            for size in SIZES:
                for contestant in (*OURS, *(PEERS if part == "messages" else GROWTH_PEERS)):
                    if contestant != "ours_bytes" or name in LARGE_ALPHABETS:
                        yield part, name, size, contestant
    for name, sizes in WHOLE.items():  # large enough not to look ahead: one of ours
        for size in sizes:
            for contestant in ("ours", *WHOLE_PEERS):
                yield "growth", name, size, contestant


def kept(job: Job) -> Path:
    """Where the result of one job lies."""
    return SCRATCH / "small" / "{}.{}.{}.{}.json".format(*job)


def restore(table: dict[str, Any]) -> None:
    """Lay what a stored table holds below ``.cache`` where nothing lies for it.

    Of ours it does not know the sources: who selects it again has it done again.
    """
    found: dict[Job, dict[str, Any]] = {}
    for row in records(table):
        job = (row["part"], row["corpus"], row["size"], row["contestant"])
        found[job] = {name: row[name] for name in COLUMNS[5:]}
    for part, name, size, contestant, reason in table["skipped"]:
        found[part, name, size, contestant] = {"skipped": reason}
    for job, result in found.items():
        if not kept(job).is_file():
            facts = table["corpora"][job[1] if job[1] in WHOLE else f"{job[0]}-{job[1]}"]
            made_from = {"words": facts["train_counts_sha256"]}
            write_json(kept(job), result | {"fingerprint": made_from})


def fingerprint(job: Job, corpus: Corpus) -> dict[str, Any]:
    """What a result depends on."""
    found: dict[str, Any] = {"words": corpus.facts["train_counts_sha256"]}
    if job[3] in OURS:
        files = sorted((ROOT / "genopt_core/subwords/training").glob("*.py"))
        found["sources"] = files_sha256(files)
    return found


def ours(
    corpus: Corpus, size: int, new_words: bool | None, alphabet: Alphabet = "characters"
) -> peers.Trained:
    """Our tokenizer, with the default of ``train`` for new words or without them."""
    from book.experiments.subwords.metrics import shortest_paths
    from genopt_core.subwords import train

    rule = Convention("lossless", alphabet=alphabet)

    def view(word: str) -> str:
        return spelled_in_bytes(word.replace(END, " ")) if rule.in_bytes else word

    counts = {view(word): count for word, count in corpus.train.items()}
    with peers.Meter() as meter:
        vocabulary = train(
            counts,
            size,
            5.0,
            effort="best",
            at_most=True,
            new_words=new_words,
            convention=rule,
        )
    scores = {piece: -cost for piece, cost in vocabulary.costs.items()}
    return peers.Trained(
        list(vocabulary.pieces),
        lambda words: shortest_paths(words, scores),
        view=view,
        **meter.numbers,
    )


def done(job: Job, corpus: Corpus) -> dict[str, Any]:
    """Train and measure, or say why not."""
    size, contestant = job[2:]
    try:
        if contestant in OURS:
            alphabet = "bytes" if contestant == "ours_bytes" else "characters"
            trained = ours(corpus, size, OURS[contestant], alphabet)
        else:
            trained = peers.train(contestant, corpus, size)
    except (peers.CannotTrainError, peers.NotInstalledError) as error:
        return {"skipped": str(error)}
    return peers.score(trained, corpus) | {"cpu_seconds": trained.cpu_seconds}


def collect() -> dict[str, Any]:
    """The table of everything that has been done."""
    rows, skipped, facts = [], [], {}
    for job in jobs():
        if not kept(job).is_file():
            continue  # not done yet
        result, corpus = read(kept(job)), load(*job[:2])
        facts[corpus.name] = corpus.facts
        if "skipped" in result:
            skipped.append([*job, result["skipped"]])
            continue
        words = corpus.facts["train_words"]
        values = (rounded(result[column]) for column in COLUMNS[5:])
        rows.append([*job[:2], words, *job[2:], *values])
    return {
        "schema": "subwords-small/1",
        "provenance": provenance() | {"django": DJANGO},
        "corpora": {
            name: {k: v for k, v in found.items() if k != "format"} for name, found in facts.items()
        },
        "labels": LABELS | {n: peers.method(n).label for n in dict.fromkeys(PEERS + WHOLE_PEERS)},
        "skipped": skipped,
        "columns": list(COLUMNS),
        "rows": rows,
    }


def main() -> int:
    """Run what is not done yet, and collect."""
    arguments = parser(__doc__, "force", "only")
    arguments.add_argument("--collect", action="store_true", help="run nothing, write the table")
    arguments.add_argument("--part", help="messages or growth; both by default")
    options = arguments.parse_args()
    corpora = selected(options.only, dict.fromkeys(job[1] for job in jobs()))
    wanted = [job for job in jobs() if options.part in (None, job[0]) and job[1] in corpora]
    if TARGET.is_file():
        restore(read(TARGET))
    for job in [] if options.collect else tqdm(wanted, unit="training"):
        corpus = load(*job[:2])
        made_from = fingerprint(job, corpus)
        known = read(kept(job)) if kept(job).is_file() and not options.force else {}
        if known.get("fingerprint") != made_from:
            write_json(kept(job), done(job, corpus) | {"fingerprint": made_from})
    table = collect()
    size = write_results(TARGET, table)
    print(f"{TARGET.name}: {size} bytes, {len(table['rows'])} rows")
    return 0


if __name__ == "__main__":
    sys.exit(main())
