"""Make the tables of the sub-word explorers: vocabularies, a recorded training, the comparison.

python -m book.experiments.subwords.explorer_tables                    # all but the languages
python -m book.experiments.subwords.explorer_tables frontier           # only this table
python -m book.experiments.subwords.explorer_tables --check            # only compare with what is stored
python -m book.experiments.subwords.explorer_tables languages          # needs wordfreq and tokenizers

The peers and the comparison are copied from ``book/data/results``; the SHA-256 of the source is
stored with them, so that a test sees when a copy is out of step.  The words of the languages come
from `wordfreq` (CC BY-SA): only aggregate numbers and the segmentations of a few words are stored.
"""

import argparse
import hashlib
import importlib
import json
import math
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, Final

from genopt_core import corpora
from genopt_core.subwords import Step, Vocabulary, certify, train
from genopt_core.subwords.tokenizer.peers import BPE, Peer, Unigram, WordPiece

ROOT = Path(__file__).resolve().parents[3]
TABLES = ROOT / "genopt_core" / "tables"
RESULTS = ROOT / "book" / "data" / "results"
CORPUS = "sotu"
SIZE = 2000
EFFORT: Final = "best"
OBJECTIVES: dict[str, Any] = {"likelihood": "likelihood", "weight": 5.0, "tokens": "tokens"}
CERTIFICATE_STEPS = 300
DIGITS = 6
# Of every result row only what the explorers draw.
MEASURES = (
    "train_tokens_per_word",
    "held_tokens_per_word",
    "train_bits_per_byte",
    "held_bits_per_byte",
)
LANGUAGE_SIZE = 4000
SCRATCH = ROOT / ".cache" / "benchmarks" / "subwords" / "languages"
# Objective, and whether the marker stands before a word as in Unigram's better form.
OURS: dict[str, tuple[Any, bool]] = {
    "ours_likelihood": ("likelihood", False),
    "ours_front": ("likelihood", True),
}
CONTESTANTS = ("hf_bpe", "hf_wordpiece", "hf_unigram_front", *OURS)
SAMPLES = {
    "en": ("unbelievable", "understanding", "knowledge"),
    "tr": ("evlerimizden", "arkadaşlarım", "kitaplar"),
    "fi": ("taloissamme", "ymmärtää", "kaupungissa"),
    "de": ("geschwindigkeit", "krankenhaus", "unabhängigkeit"),
    "hi": ("विश्वविद्यालय", "सरकार", "अंतरराष्ट्रीय"),
    "ja": ("ありがとう", "コンピュータ", "図書館"),
    "zh": ("图书馆", "大学", "计算机"),
}


def origin(**parameters: Any) -> dict[str, Any]:
    """Where a table comes from, to be stored with it."""
    return {"made_by": "book/experiments/subwords/explorer_tables.py", **parameters}


def corpus_origin(**parameters: Any) -> dict[str, Any]:
    """The same for a table made from the words of the corpus."""
    row = corpora.describe(CORPUS)
    return origin(
        corpus=row["title"], text_sha256=row["text_sha256"], convention="textbook", **parameters
    )


@lru_cache(maxsize=1)
def counts() -> dict[str, int]:
    """All words of the corpus in the textbook convention."""
    return corpora.count_words(corpora.load(CORPUS), "textbook")


@lru_cache(maxsize=len(OBJECTIVES))
def trained(name: str) -> tuple[Vocabulary, tuple[Step, ...]]:
    """One of our vocabularies, and the steps of its training."""
    steps: list[Step] = []
    vocabulary = train(counts(), SIZE, OBJECTIVES[name], effort=EFFORT, progress=steps.append)
    print(f"{name}: {len(vocabulary)} pieces after {len(steps)} steps")
    return vocabulary, tuple(steps)


def vocabulary_table() -> dict[str, Any]:
    """Our vocabularies: log-probabilities follow from the counts and the price per token."""
    found = {}
    for name in ("likelihood", "weight"):
        vocabulary, _ = trained(name)
        found[name] = {
            "length_cost": vocabulary.provenance["length_cost"],
            "pieces": vocabulary.pieces,
            "counts": [int(c) for c in vocabulary.counts],
        }
    return {
        "origin": corpus_origin(function="subwords.train", vocab_size=SIZE, effort=EFFORT),
        "vocabularies": found,
    }


def peers_table() -> dict[str, Any]:
    """The peers trained on the same words, and how often each uses its pieces there."""
    path = RESULTS / "subwords_peer_tokenizers.json"
    source = json.loads(path.read_text(encoding="utf-8"))
    merges = [merge.split(" ") for merge in source["bpe_merges"]]
    made = [first + second for first, second in merges]
    scores = dict(source["unigram_front"])
    bpe = BPE([*source["bpe_alphabet"], *made], [(a, b) for a, b in merges])
    wordpiece = WordPiece(source["wordpiece"], "[UNK]")
    unigram = Unigram(scores)
    models: dict[str, tuple[Peer, Any]] = {
        "bpe": (bpe, {"alphabet": source["bpe_alphabet"], "merges": source["bpe_merges"]}),
        "wordpiece": (wordpiece, {"pieces": source["wordpiece"]}),
        "unigram": (unigram, {"scores": list(scores.items()), "marker": "front"}),
    }
    tables = {}
    for name, (peer, model) in models.items():
        used = dict.fromkeys(peer.pieces, 0)
        for word, count in counts().items():
            shape = corpora.END_OF_WORD + word[:-1] if name == "unigram" else word
            for piece in peer.segment(shape):
                used[piece] += count
        tables[name] = {**model, "counts": list(used.values())}
    return {
        "origin": corpus_origin(
            source=f"book/data/results/{path.name}",
            source_sha256=sha256(path),
            versions=source["provenance"]["versions"],
            size=source["size"],
        ),
        "words": sum(counts().values()),
        **tables,
    }


def training_table() -> dict[str, Any]:
    """What happened in each step of training, and the certified bound on the tokens."""
    words = sum(counts().values())
    bound = certify(counts(), SIZE, steps=CERTIFICATE_STEPS).bound / words
    runs = {}
    for name in OBJECTIVES:
        _, steps = trained(name)
        runs[name] = {
            "stage": [step.stage for step in steps],
            "pieces": [step.pieces for step in steps],
            "entered": [step.entered for step in steps],
            "left": [step.left for step in steps],
            "in": [step.examples_entered for step in steps],
            "out": [step.examples_left for step in steps],
            "bits_per_word": [round(step.bits / words, DIGITS) for step in steps],
            "tokens_per_word": [round(step.tokens / words, DIGITS) for step in steps],
            "kept": [step.best for step in steps],
        }
    return {
        "origin": corpus_origin(function="subwords.train", vocab_size=SIZE, effort=EFFORT),
        "words": words,
        "distinct_words": len(counts()),
        "bound_tokens_per_word": math.floor(bound * 10**DIGITS) / 10**DIGITS,
        "runs": runs,
    }


def frontier_table() -> dict[str, Any]:
    """The English rows of the comparison, only the columns that are drawn."""
    path = RESULTS / "subwords_quality.json"
    source = json.loads(path.read_text(encoding="utf-8"))
    rows = [dict(zip(source["columns"], row, strict=True)) for row in source["rows"]]
    bounds = [dict(zip(source["bound_columns"], row, strict=True)) for row in source["bounds"]]
    rows = [row for row in rows if row["corpus"] == "english"]
    return {
        "origin": origin(
            source=f"book/data/results/{path.name}",
            source_sha256=sha256(path),
            date=source["provenance"]["date"],
            versions=source["provenance"]["versions"],
        ),
        "contestants": {
            name: {"label": entry["label"], "emulated": entry["emulated"]}
            for name, entry in source["contestants"].items()
            if any(row["contestant"] == name for row in rows)
        },
        "columns": ["size", "contestant", *MEASURES],
        "rows": sorted(
            [row["size"], row["contestant"], *(row[name] for name in MEASURES)] for row in rows
        ),
        "bounds": sorted(
            [row["size"], row["tokens_per_word"]] for row in bounds if row["corpus"] == "english"
        ),
    }


def languages_table() -> dict[str, Any]:
    """Tokens per word and bits per byte by language, and how a few words are cut.

    The same corpora, peers and metrics as in ``book/experiments/subwords/quality.py``.  What is
    trained is kept below ``.cache``, by the hash of its words: an interrupted run goes on where it
    stopped.  Remove that folder after a change of the trainer.
    """
    languages = {}
    for language, samples in SAMPLES.items():
        found = {name: one_language(language, name) for name in CONTESTANTS}
        first = found[CONTESTANTS[0]]
        languages[language] = {
            "alphabet": first["alphabet"],
            "words_sha256": first["words_sha256"],
            "numbers": {name: one["numbers"] for name, one in found.items()},
            "samples": list(samples),
            "cut": {name: one["cut"] for name, one in found.items()},
        }
    return {
        "origin": origin(
            source="wordfreq (CC BY-SA 4.0), as in book/experiments/subwords/corpora.py",
            size=LANGUAGE_SIZE,
        ),
        "measures": list(MEASURES),
        "languages": languages,
    }


def one_language(language: str, name: str) -> dict[str, Any]:
    """Numbers and segmentations of one contestant."""
    corpus = benchmark("subwords_corpora").load(f"words-{language}")
    words_hash = corpus.facts["train_counts_sha256"]
    kept = SCRATCH / f"{language}.{name}.{words_hash[:16]}.json"
    if kept.is_file():
        return json.loads(kept.read_text(encoding="utf-8"))
    metrics = benchmark("subwords_metrics")
    if name in OURS:
        objective, front = OURS[name]
        view = benchmark("subwords_corpora").front if front else str
        seen = {view(word): count for word, count in corpus.train.items()}
        vocabulary = train(seen, LANGUAGE_SIZE, objective, effort=EFFORT)
        logs = vocabulary.log_probabilities.tolist()
        pieces, plain = list(vocabulary.pieces), str
        # The same paths as vocabulary.segment finds, only faster for so many words.
        segment = partial(metrics.shortest_paths, scores=dict(zip(pieces, logs, strict=True)))
    else:
        peer = benchmark("subwords_peers").train(name, corpus, LANGUAGE_SIZE)
        pieces, segment, view, plain = peer.pieces, peer.segment, peer.view, peer.plain
    used, used_held = (
        own_use(metrics, segment, words, view, plain) for words in (corpus.train, corpus.held)
    )
    numbers = [
        sum(used.values()) / sum(corpus.train.values()),
        sum(used_held.values()) / sum(corpus.held.values()),
        metrics.code_length(used) / corpus.facts["train_bytes"],
        metrics.cross_code_length(used_held, used, len(pieces)) / corpus.facts["held_bytes"],
    ]
    samples = [view(word + corpora.END_OF_WORD) for word in SAMPLES[language]]
    cut = [[plain(piece) for piece in word] for word in segment(samples)]
    found = {
        "alphabet": len(corpus.alphabet),
        "words_sha256": words_hash,
        "numbers": [float(f"{value:.6g}") for value in numbers],
        # A word with an unknown letter is shown letter by letter.
        "cut": [
            pieces if "".join(pieces) == word else list(word)
            for word, pieces in zip(samples, cut, strict=True)
        ],
    }
    print(language, name, *found["numbers"], flush=True)
    kept.parent.mkdir(parents=True, exist_ok=True)
    kept.write_text(json.dumps(found, ensure_ascii=False), encoding="utf-8")
    return found


def benchmark(module: str) -> Any:
    """A module of the benchmarks, which are no package."""
    folder = str(ROOT / "tests" / "benchmarks")
    if folder not in sys.path:
        sys.path.insert(0, folder)
    return importlib.import_module(module)


def own_use(
    metrics: Any,
    segment: Any,
    words: Mapping[str, int],
    view: Callable[[str], str],
    plain: Callable[[str], str],
) -> Counter[str]:
    """How often each piece is used in a contestant's own segmentation of these words."""
    seen = [view(word) for word in words]
    parts = [
        pieces if "".join(map(plain, pieces)) == word else list(word)
        for word, pieces in zip(seen, segment(seen), strict=True)
    ]
    return metrics.piece_counts(parts, words.values())


def sha256(path: Path) -> str:
    """Hash of a source file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


TABLES = {
    "vocabulary": vocabulary_table,
    "peers": peers_table,
    "training": training_table,
    "frontier": frontier_table,
    "languages": languages_table,
}


def write(names: Iterable[str], check: bool) -> int:
    """Write or compare tables; how many differ."""
    different = 0
    for name in names:
        packed = json.dumps(TABLES[name](), ensure_ascii=False, separators=(",", ":")) + "\n"
        path = TABLES / f"subword_{name}.json"
        if check:
            same = path.is_file() and path.read_text(encoding="utf-8") == packed
            print(f"{path.name}: {'as stored' if same else 'DIFFERS from what is stored'}")
            different += not same
        else:
            temporary = path.with_suffix(".new")
            temporary.write_text(packed, encoding="utf-8")
            os.replace(temporary, path)
            print(f"{path.name}: {len(packed.encode('utf-8'))} bytes written")
    return different


def main(arguments: Sequence[str] | None = None) -> int:
    """Write or compare; the exit status is 1 when a comparison fails."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("tables", nargs="*", help="by default all but the last")
    parser.add_argument("--check", action="store_true", help="compare, write nothing")
    options = parser.parse_args(arguments)
    names = options.tables or [name for name in TABLES if name != "languages"]
    return 1 if write(names, options.check) else 0


if __name__ == "__main__":
    sys.exit(main())
