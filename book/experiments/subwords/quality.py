"""Quality of every tokenizer's vocabulary: corpora × sizes × tokenizers, one table.

    python -m book.experiments.subwords.quality                 # all of it, resumes
    python -m book.experiments.subwords.quality --quick         # minutes, not into the book
    python -m book.experiments.subwords.quality --only ours_likelihood,ours_tokens
    python -m book.experiments.subwords.quality --corpus english --size 8000 --force
    python -m book.experiments.subwords.quality --collect       # only write the table again
    python -m book.experiments.subwords.quality --peer-files    # the small peers of the explorers

Every single result is kept below ``.cache/benchmarks/subwords/quality`` with a fingerprint of what
went in (words, package, sources); it is done again only when the fingerprint changes or ``--force``
asks for it. Where that folder is gone, what the table holds is laid there again, so that a run in a
fresh clone goes on too. The table is ``book/data/results/subwords_quality.json``; its columns are
described in book/experiments/README.md.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

from tqdm import tqdm

from book.experiments.common.main import do_all, parser, selected
from book.experiments.common.places import RESULTS, ROOT
from book.experiments.common.store import (
    code_sha256,
    files_sha256,
    provenance,
    read,
    rounded,
    sha256,
    write_json,
    write_results,
)
from book.experiments.subwords import emulated, peers
from book.experiments.subwords.corpora import LANGUAGES, NAMES, SCRATCH, Corpus, load
from book.experiments.subwords.metrics import METRICS
from genopt_core import corpora as texts
from genopt_core.tables import records

SIZES = (1000, 4000, 8000, 16000)
PLAN: dict[str, tuple[int, ...]] = {
    "english": SIZES,
    "moby-dick": (1000, 4000),
    **{f"words-{language}": (4000, 1000, 8000) for language in LANGUAGES},
}
SLOW = ("convextok", "hf_unigram_tuned", "sp_text_front_tuned")  # on running text only
SHORT_LIST = (  # where a language is run at a second and third size
    "hf_bpe",
    "hf_wordpiece",
    "hf_unigram_front",
    "sp_text",
    "sp_counts",
    "sp_counts_tuned",
    "greedtok",
    "mingram_increase",
)
TIMES = ("train_seconds", "train_cpu_seconds", "base_mb", "peak_mb")
COLUMNS = (
    "corpus",
    "size",
    "contestant",
    *METRICS,
    "gap_percent",
    "fewest_gap_percent",
    *TIMES,
    "sources",
)
PACKAGE_OF = {"pcatt": "greedtok", "genopt_core.subwords": "genopt-core"}
Job = tuple[str, int, str]


def jobs(quick: bool) -> Iterator[Job]:
    """Every (corpus, size, tokenizer) of the full or the quick run, English first."""
    if quick:
        for name in peers.METHODS:
            if name not in SLOW and "tuned" not in name:
                yield "moby-dick", 1000, name
        return
    ordered = sorted(
        ((corpus, size) for corpus, sizes in PLAN.items() for size in sizes),
        key=lambda pair: (pair[0].startswith("words-"), pair[1] != 4000),
    )
    for corpus, size in ordered:
        for name in peers.METHODS:
            drawn = corpus.startswith("words-")
            if drawn and name in SLOW:
                continue
            if drawn and size != 4000 and name not in SHORT_LIST and not name.startswith("ours"):
                continue
            yield corpus, size, name


def fingerprint(name: str, corpus: Corpus) -> dict[str, Any]:
    """What a result depends on."""
    entry = peers.method(name)
    module = (entry.needs or "").partition(":")[0]
    package = PACKAGE_OF.get(module, module)
    found: dict[str, Any] = {
        "words": corpus.facts["train_counts_sha256"],
        "held": corpus.facts["held_counts_sha256"],
        "package": f"{package}=={metadata.version(package)}",
        "note": entry.note,
    }
    if name.startswith("ours"):
        found["sources"] = files_sha256(sorted((ROOT / "genopt_core/subwords").rglob("*.py")))
    elif entry.emulated:
        found["sources"] = code_sha256(Path(emulated.__file__))[:12]
    return found


def restore(table: dict[str, Any]) -> None:
    """Lay the rows and bounds of a stored table below ``.cache`` where nothing lies for them."""
    versions = table["provenance"]["versions"]
    for values in records(table):
        job: Job = (values["corpus"], values["size"], values["contestant"])
        entry = peers.METHODS.get(job[2])
        if entry is None or kept(job).is_file():
            continue
        facts, module = table["corpora"][job[0]], (entry.needs or "").partition(":")[0]
        package = PACKAGE_OF.get(module, module)
        made_from = {
            "words": facts["train_counts_sha256"],
            "held": facts["held_counts_sha256"],
            "package": f"{package}=={versions.get(package)}",
            "note": table["contestants"][job[2]]["note"],
        }
        if values.get("sources"):
            made_from["sources"] = values["sources"]
        write_json(
            kept(job),
            {
                "fingerprint": made_from,
                "metrics": {name: values[name] for name in METRICS},
                "form": entry.form,
                **{name: values[name] for name in TIMES},
            },
        )
    for values in records(table, "bounds", "bound_columns"):
        path = bound_file(values["corpus"], values["size"])
        if not path.is_file():
            found = {
                "words": table["corpora"][values["corpus"]]["train_counts_sha256"],
                "bound": values["bound_tokens"],
                "origin": values["origin"],
                "seconds": values["seconds"],
            }
            write_json(path, found | {"certified": values.get("certify_tokens")})


def kept(job: Job) -> Path:
    """Where the result of one job lies."""
    return SCRATCH / "quality" / "{}.{}.{}.json".format(*job)


def said(job: Job, result: dict[str, Any]) -> str:
    """A result in a line."""
    name = "{} {} {}".format(*job)
    if "skipped" in result:
        return f"{name}: skipped, {result['skipped']}"
    values = result["metrics"]
    return (
        f"{name}: {values['held_bits_per_byte']:.4f} bits a byte, "
        f"{values['held_tokens_per_word']:.4f} tokens a word held out, "
        f"{result['train_seconds']:.1f} s"
    )


# ------------------------------------------------------------------ lower bounds


def bound_file(corpus: str, size: int) -> Path:
    """Where our bound for a corpus and a size lies."""
    return SCRATCH / "quality" / f"{corpus}.{size}.bound.json"


def certify(corpus: Corpus, size: int, force: bool) -> str:
    """Compute our bound, unless one is there for these words: a proof does not grow old."""
    path = bound_file(corpus.name, size)
    made_from = corpus.facts["train_counts_sha256"]
    before = read(path) if path.is_file() else {}
    before = before if before.get("words") == made_from else {}
    if not force and before.get("certified"):
        return ""
    bound, seconds = peers.certified_bound(corpus.train, size)
    found = {"words": made_from, "bound": bound, "seconds": seconds}
    better = before if before.get("bound", 0) > bound else {}  # another's proof stays
    write_json(path, found | better | {"certified": bound})
    return f"{corpus.name} {size} bound: {bound:.1f} tokens, {seconds:.1f} s"


def bounds() -> dict[tuple[str, int], tuple[float, str, float | None]]:
    """The best bound known for each corpus and size, its origin and seconds."""
    found: dict[tuple[str, int], tuple[float, str, float | None]] = {}
    for corpus, sizes in PLAN.items():
        for size in sizes:
            path = kept((corpus, size, "convextok"))
            if path.is_file() and (value := read(path).get("notes", {}).get("bound")):
                found[corpus, size] = (value, "dual ascent of the emulated ConvexTok", None)
            path = bound_file(corpus, size)
            if path.is_file():
                row = read(path)
                if (corpus, size) not in found or row["bound"] >= found[corpus, size][0]:
                    origin = row.get("origin", "genopt_core.subwords.certify")
                    found[corpus, size] = (row["bound"], origin, row["seconds"])
    return found


def certified(corpus: str, size: int) -> float | None:
    """What `genopt_core.subwords.certify` alone proved, if it was run."""
    path = bound_file(corpus, size)
    value = read(path).get("certified") if path.is_file() else None
    return round(value, 1) if value else None


# ------------------------------------------------------------------ the table


def collect(quick: bool) -> dict[str, Any]:
    """The table of everything that has been done."""
    known = bounds()
    rows, skipped, used = [], [], set()
    for job in jobs(quick):
        path = kept(job)
        if not path.is_file():
            continue
        result = read(path)
        if "skipped" in result:
            skipped.append([*job, result["skipped"]])
            continue
        values = result["metrics"] | {key: result[key] for key in TIMES}
        values["sources"] = result["fingerprint"].get("sources")
        bound = known.get(job[:2])
        # The bound is one for pieces of whole characters, of at most 16 of them.
        form = result.get("form", peers.METHODS[job[2]].form)
        if bound and form != "bytes":
            values["gap_percent"] = 100 * (values["train_tokens"] / bound[0] - 1)
            values["fewest_gap_percent"] = 100 * (values["fewest_train_tokens"] / bound[0] - 1)
        rows.append([*job, *(rounded(values.get(column)) for column in COLUMNS[3:])])
        used.add(job[2])
    corpora = {row[0] for row in rows}
    return {
        "schema": "subwords-quality/1",
        "provenance": provenance(),
        "corpora": {
            name: {k: v for k, v in load(name).facts.items() if k != "format"}
            for name in NAMES
            if name in corpora
        },
        "contestants": {
            name: {
                "label": entry.label,
                "reads": entry.reads,
                "form": entry.form,
                "emulated": entry.emulated,
                "note": entry.note,
            }
            for name, entry in peers.METHODS.items()
            if name in used
        },
        "bound_columns": [
            *("corpus", "size", "bound_tokens", "tokens_per_word", "origin", "seconds"),
            "certify_tokens",
        ],
        "bounds": [
            [
                *(
                    corpus,
                    size,
                    round(value, 1),
                    rounded(value / load(corpus).facts["train_words"]),
                ),
                *(origin, rounded(took), certified(corpus, size)),
            ]
            for (corpus, size), (value, origin, took) in known.items()
            if corpus in corpora
        ],
        "skipped": skipped,
        "columns": list(COLUMNS),
        "rows": rows,
    }


def print_table(table: dict[str, Any]) -> None:
    """English, or what there is, as text."""
    rows = records(table)
    for corpus, size in sorted({(row["corpus"], row["size"]) for row in rows}):
        print(f"\n{corpus}, {size} pieces")
        print(f"{'':44s} tok/word         bits/byte        gap %  own, fewest")
        for row in rows:
            if (row["corpus"], row["size"]) == (corpus, size):
                gaps = (row["gap_percent"], row["fewest_gap_percent"])
                shown = " ".join("     -" if gap is None else f"{gap:6.2f}" for gap in gaps)
                print(
                    f"{table['contestants'][row['contestant']]['label']:44s} "
                    f"{row['train_tokens_per_word']:.4f} {row['held_tokens_per_word']:.4f}  "
                    f"{row['train_bits_per_byte']:.4f} {row['held_bits_per_byte']:.4f}  {shown}"
                )


# ------------------------------------------------------------------ small peers for the explorers


def peer_files(size: int = 2000) -> dict[str, Any]:
    """BPE merges, WordPiece pieces and Unigram scores on the book's own words.

    The words are those of the State of the Union addresses in the textbook convention; the marker
    stands at the end of the word, for Unigram also at its front, which is its better form.
    """
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    counts = texts.count_words(texts.load("sotu"), "textbook")
    bare = {"show_progress": False}

    def lines(shape: Any) -> Iterator[str]:
        for word, count in counts.items():
            for start in range(0, count, 1000):
                yield " ".join([shape(word)] * min(1000, count - start))

    def trained(model: Any, trainer: Any, shape: Any = str) -> Any:
        tokenizer = Tokenizer(model)
        tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
        tokenizer.train_from_iterator(lines(shape), trainer)
        return tokenizer

    bpe = trained(models.BPE(), trainers.BpeTrainer(vocab_size=size, special_tokens=[], **bare))
    unknown = "[UNK]"
    wordpiece = trained(
        models.WordPiece(unk_token=unknown),
        trainers.WordPieceTrainer(vocab_size=size + 1, special_tokens=[unknown], **bare),
    )
    unigrams = {
        name: trained(
            models.Unigram(),
            trainers.UnigramTrainer(
                vocab_size=size + 1, special_tokens=["<unk>"], unk_token="<unk>", **bare
            ),
            shape,
        )
        for name, shape in (("unigram", str), ("unigram_front", peers.front))
    }

    def model_of(tokenizer: Any) -> dict[str, Any]:
        return json.loads(tokenizer.to_str())["model"]

    merges = model_of(bpe)["merges"]
    made = {left + right for left, right in merges}
    vocabulary = sorted(wordpiece.get_vocab().items(), key=lambda item: item[1])
    return {
        "schema": "subwords-peer-tokenizers/1",
        "provenance": provenance(),
        "corpus": "sotu, textbook convention",
        "counts_sha256": sha256("".join(f"{word}\t{n}\n" for word, n in counts.items())),
        "size": size,
        "bpe_alphabet": sorted(piece for piece in bpe.get_vocab() if piece not in made),
        "bpe_merges": [" ".join(pair) for pair in merges],
        "wordpiece": [piece for piece, _ in vocabulary if piece != unknown],
        **{
            name: [[p, round(s, 5)] for p, s in model_of(unigram)["vocab"] if p != "<unk>"]
            for name, unigram in unigrams.items()
        },
    }


def main() -> int:
    """Run what is not done yet, collect and print."""
    arguments = parser(__doc__, "quick", "only", "force")
    arguments.add_argument("--corpus", help="corpora, separated by commas")
    arguments.add_argument("--size", help="sizes, separated by commas")
    arguments.add_argument("--collect", action="store_true", help="run nothing, write the table")
    arguments.add_argument("--peers", action="store_true", help="all but ours, no bounds")
    arguments.add_argument("--peer-files", action="store_true", help="the explorers' small peers")
    options = arguments.parse_args()
    if options.peer_files:
        path = RESULTS / "subwords_peer_tokenizers.json"
        print(f"{path.name}: {write_results(path, peer_files(), 150_000)} bytes")
        return 0
    only = selected(options.only, peers.METHODS)
    if options.peers:
        only = [name for name in only if not name.startswith("ours")]
    corpora = selected(options.corpus, NAMES, "--corpus")
    sizes = selected(options.size, map(str, SIZES), "--size")
    ready = peers.ready(only)
    wanted = [
        job
        for job in jobs(options.quick)
        if job[0] in corpora and str(job[1]) in sizes and job[2] in ready
    ]
    if not wanted:
        raise SystemExit("--corpus, --size and --only select nothing that can be run")
    target = RESULTS / "subwords_quality.json"
    if options.quick:
        target = SCRATCH / "subwords_quality_quick.json"
    if target.is_file():
        restore(read(target))
    failures = 0
    if not options.collect:
        loaded = {corpus: load(corpus) for corpus in dict.fromkeys(job[0] for job in wanted)}
        failures = do_all(
            wanted,
            kept,
            lambda job: fingerprint(job[2], loaded[job[0]]),
            lambda job: peers.run_apart(job[2], job[0], job[1]),
            said,
            options.force,
        )
        if not options.only and not options.peers:
            with tqdm(list(dict.fromkeys(job[:2] for job in wanted)), unit="bound") as bar:
                for corpus, size in bar:
                    bar.write(certify(loaded[corpus], size, options.force))
    table = collect(options.quick)
    print_table(table)
    print(f"\n{target.name}: {write_results(target, table)} bytes, {len(table['rows'])} rows")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
