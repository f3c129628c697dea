"""Make the tables of the sub-word explorers: vocabularies, a recorded training, the comparison.

    python -m book.experiments.subwords.explorer_tables                # all but the languages
    python -m book.experiments.subwords.explorer_tables frontier       # only this table
    python -m book.experiments.subwords.explorer_tables --check        # only compare
    python -m book.experiments.subwords.explorer_tables languages      # needs wordfreq, tokenizers

The peers and the comparison are copied from ``book/data/results``; the SHA-256 of the source is
stored with them, so that a test sees when a copy is out of step.  The words of the languages come
from `wordfreq` (CC BY-SA): only aggregate numbers and the segmentations of a few words are stored.
"""

import math
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache, partial
from typing import Any, Final

from book.experiments.common.main import parser, selected
from book.experiments.common.places import RESULTS, TABLES
from book.experiments.common.store import read, rounded, sha256, write_json, write_or_check
from book.experiments.subwords import corpora as texts
from book.experiments.subwords import metrics, peers
from genopt_core import corpora
from genopt_core.subwords import Step, Vocabulary, certify, train
from genopt_core.subwords.tokenizer.peers import BPE, Peer, Unigram, WordPiece
from genopt_core.tables import records

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
BASE = "hf_bpe"
MODELED = (BASE, "sp_counts", "ours_likelihood", "ours_weight_5", "ours_weight_10")
LANGUAGE_SIZE = 4000
ON_TEXTS = ("hf_bpe", "hf_unigram", "sp_counts", "ours_tokens_6", "ours_likelihood", "ours_files")
# Objective, and whether the marker stands before a word as in Unigram's better form.
OURS: dict[str, tuple[Any, bool]] = {
    "ours_likelihood": ("likelihood", False),
    "ours_front": ("likelihood", True),
}
METHODS = ("hf_bpe", "hf_wordpiece", "hf_unigram_front", *OURS)
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
            "length_cost": vocabulary.length_cost,
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
    source = read(path)
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
    source = read(path)
    rows = [row for row in records(source) if row["corpus"] == "english"]
    bounds = records(source, "bounds", "bound_columns")
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


def models_table() -> dict[str, Any]:
    """Bits per byte of language models on each tokenizer, and their differences to BPE.

    A row: tokenizer, seeds, bits per byte, difference to BPE, half of its 95 % interval.
    """
    paths = {n: RESULTS / f"subwords_{n}.json" for n in ("quality", "ngram", "lm")}
    quality, ngram, neural = (read(path) for path in paths.values())
    size = neural["model"]["pieces"]
    unigram = {
        row["contestant"]: row["held_bits_per_byte"]
        for row in records(quality)
        if (row["corpus"], row["size"]) == ("english", size)
    }
    settings = {"unigram": [[n, 1, unigram[n], unigram[n] - unigram[BASE], None] for n in MODELED]}
    for model, summary in (("ngram", ngram[f"summary_{size}"]), ("lm", neural["summary"])):
        for entry in summary:
            minus = entry.get(f"minus_{BASE}", {"mean": 0.0, "half_interval": None})
            settings.setdefault(f"{model} {entry['budget']}", []).append(
                [entry["contestant"], len(entry["seeds"]), entry["mean"], *minus_of(minus)]
            )
    return {
        "origin": origin(
            sources={f"book/data/results/{path.name}": sha256(path) for path in paths.values()}
        ),
        "size": size,
        "columns": ["tokenizer", "seeds", "bits", "difference", "half_interval"],
        "settings": {
            name: [[rounded(value) for value in row] for row in rows]
            for name, rows in settings.items()
        },
    }


def minus_of(entry: Mapping[str, Any]) -> tuple[float, float | None]:
    """A stored difference and half of its interval."""
    return entry["mean"], entry["half_interval"]


def costs_table() -> dict[str, Any]:
    """Time and memory of training, by size and by the number of distinct words."""
    path = RESULTS / "subwords_timing.json"
    source = read(path)
    rows: dict[str, list[Any]] = {"training": [], "growth": []}
    for entry in source["summary"]:
        if entry["part"] in rows:
            at = source["corpora"][entry["corpus"]]["train_unique"]
            rows[entry["part"]].append(
                [
                    entry["size"] if entry["part"] == "training" else at,
                    entry["contestant"],
                    entry["seconds"][0],
                    entry["cpu_seconds"],
                    entry["peak_mb"],
                ]
            )
    return {
        "origin": origin(
            source=f"book/data/results/{path.name}",
            source_sha256=sha256(path),
            date=source["provenance"]["date"],
            machine=source["provenance"]["machine"],
            versions=source["provenance"]["versions"],
        ),
        "columns": ["at", "tokenizer", "seconds", "cpu_seconds", "peak_mb"],
        **rows,
    }


def languages_table() -> dict[str, Any]:
    """Tokens per word and bits per byte by language, and how a few words are cut.

    The same corpora, peers and metrics as in `quality`.  What is
    trained is kept below ``.cache``, by the hash of its words: an interrupted run goes on where it
    stopped.  Remove that folder after a change of the trainer.
    """
    languages = {}
    for language, samples in SAMPLES.items():
        found = {name: one_language(language, name) for name in METHODS}
        first = found[METHODS[0]]
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
    """Numbers and segmentations of one tokenizer."""
    corpus = texts.load(f"words-{language}")
    words_hash = corpus.facts["train_counts_sha256"]
    kept = texts.SCRATCH / "languages" / f"{language}.{name}.{words_hash[:16]}.json"
    if kept.is_file():
        return read(kept)
    if name in OURS:
        objective, front = OURS[name]
        view = texts.front if front else str
        seen = {view(word): count for word, count in corpus.train.items()}
        vocabulary = train(seen, LANGUAGE_SIZE, objective, effort=EFFORT)
        scores = {piece: -cost for piece, cost in vocabulary.costs.items()}
        pieces, plain = list(vocabulary.pieces), str
        # The same paths as vocabulary.segment finds, only faster for so many words.
        segment = partial(metrics.shortest_paths, scores=scores)
    else:
        peer = peers.train(name, corpus, LANGUAGE_SIZE)
        pieces, segment, view, plain = peer.pieces, peer.segment, peer.view, peer.plain
    used, used_held = (
        usage_counts(segment, words, view, plain) for words in (corpus.train, corpus.held)
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
        "numbers": [rounded(value) for value in numbers],
        # A word with an unknown letter is shown letter by letter.
        "cut": [
            pieces if "".join(pieces) == word else list(word)
            for word, pieces in zip(samples, cut, strict=True)
        ],
    }
    print(language, name, *found["numbers"], flush=True)
    write_json(kept, found)
    return found


def usage_counts(
    segment: Any,
    words: Mapping[str, int],
    view: Callable[[str], str],
    plain: Callable[[str], str],
) -> Counter[str]:
    """How often each piece is used in a tokenizer's own segmentation of these words."""
    seen = [view(word) for word in words]
    parts = [
        pieces if "".join(map(plain, pieces)) == word else list(word)
        for word, pieces in zip(seen, segment(seen), strict=True)
    ]
    return metrics.piece_counts(parts, words.values())


def texts_table() -> dict[str, Any]:
    """Held-out tokens and bits per byte of code, Markdown and JSON, by size and tokenizer."""
    path = RESULTS / "subwords_conventions.json"
    source = read(path)
    rule = "gpt4"
    numbers: dict[str, dict[str, dict[str, list[Any]]]] = {}
    for row in records(source):
        if row["rule"] == rule and row["contestant"] in ON_TEXTS and row["size"] <= 4000:
            sizes = numbers.setdefault(row["corpus"], {})
            sizes.setdefault(str(row["size"]), {})[row["contestant"]] = [
                row["held_tokens"],
                rounded(row["held_bits_per_byte"]),
            ]
    return {
        "origin": origin(
            source=f"book/data/results/{path.name}",
            source_sha256=sha256(path),
            rule=rule,
            date=source["provenance"]["date"],
        ),
        "bytes": {name: facts["held_bytes"] for name, facts in source["corpora"].items()},
        "numbers": numbers,
    }


# The tokenizers of small corpora by family; of a family the best at each count stands for it.
FAMILIES = {
    "BPE": ("hf_bpe", "rustbpe"),
    "HF Unigram": ("hf_unigram", "hf_unigram_front", "hf_unigram_tuned"),
    "sentencepiece": (
        *("sp_text", "sp_text_front", "sp_counts", "sp_counts_front"),
        *("sp_counts_tuned", "sp_text_tuned", "sp_text_front_tuned"),
    ),
    "MinGram": ("mingram", "mingram_increase"),
    "GreedTok": ("greedtok",),
    "PathPiece": ("pathpiece",),
    "ConvexTok": ("convextok",),
}


IN_BYTES = {"ours_front_5_bytes", "ours_bytes"}  # of drawn words, of messages
NEEDED = ("hf_bpe", "hf_unigram_front", "mingram")  # run, before a field is shown


def drawn_before(quality: Any) -> list[dict[str, Any]]:
    """The rows of the same drawn words that the comparison of all corpora has."""
    return [
        row | {"language": row["corpus"].removeprefix("words-")}
        for row in records(quality)
        if row["corpus"].startswith("words-")
    ]


def growth_table() -> dict[str, Any]:
    """Ours, λ = 5, and every family of peers on small and larger corpora, held-out bits and tokens.

    A peer has the better of two codes, its own and the best one for its pieces; in the seven
    languages of drawn words its own.
    """
    small, quality, seven = paths = [
        RESULTS / f"subwords_{name}.json" for name in ("small", "quality", "languages")
    ]
    cells: dict[tuple[str, str, int, int], dict[str, Any]] = {}
    for row in records(read(small)):
        at = (row["part"], row["corpus"], row["words"], row["size"])
        cells.setdefault(at, {})[row["contestant"]] = row
    larger = read(quality)
    for row in records(larger):
        if row["corpus"] in ("moby-dick", "english"):
            words = larger["corpora"][row["corpus"]]["train_words"]
            at = ("growth", row["corpus"], words, row["size"])
            name = {"ours_weight_5": "ours"}.get(row["contestant"], row["contestant"])
            cells.setdefault(at, {}).setdefault(name, row)  # small's are the newer ones
    drawn = read(seven)
    for row in [*records(drawn), *drawn_before(larger)]:
        facts = drawn["corpora"][row["language"]]
        name = {"ours_front_5": "ours"}.get(row["contestant"], row["contestant"])
        at = ("seven", row["language"], facts["train_words"], row["size"])
        per_word = {"held_tokens_per_word": row["held_tokens"] / facts["held_words"]}
        cells.setdefault(at, {}).setdefault(name, row | per_word)
    rows = []
    for at, here in sorted(cells.items()):
        if "ours" not in here:
            continue
        tried_here = {
            name for language, size, name, _ in drawn["skipped"] if at[1::2] == (language, size)
        }
        if at[0] == "seven" and not tried_here.union(here).issuperset(NEEDED):
            continue
        alone = here.get("ours_without", here["ours"])  # not there: the default looks not ahead
        found = {"ours": _counted(here["ours"]), "corpus only": _counted(alone)}
        for family, names in FAMILIES.items():
            both = [_counted(here[name]) for name in names if name in here]
            if both:
                found[family] = [min(values) for values in zip(*both, strict=True)]
        for name in IN_BYTES & here.keys():
            found["ours in bytes"] = _counted(here[name])
        rows.append([*at, found])
    return {
        "origin": origin(
            sources={f"book/data/results/{p.name}": sha256(p) for p in paths},
            dates=[read(path)["provenance"]["date"] for path in paths],
        ),
        "columns": ["part", "corpus", "words", "size", "numbers"],
        "rows": rows,
    }


def _counted(row: Mapping[str, Any]) -> list[float]:
    """Held-out bits per byte and tokens per word."""
    bits = "held_bits_per_byte"
    ours = row["contestant"].startswith("ours")
    return [
        rounded(row[bits] if ours else min(row[bits], row.get(f"optimal_{bits}", math.inf))),
        rounded(row["held_tokens_per_word"]),
    ]


def across_table() -> dict[str, Any]:
    """Pieces across blanks: bytes per token, bits per byte, cost and the certificate."""
    path = RESULTS / "subwords_across_blanks.json"
    source = read(path)
    return {
        "origin": origin(
            source=f"book/data/results/{path.name}",
            source_sha256=sha256(path),
            date=source["provenance"]["date"],
        ),
        "bytes": {name: facts["held_bytes"] for name, facts in source["corpora"].items()},
        "train_bytes": {name: facts["train_bytes"] for name, facts in source["corpora"].items()},
        "columns": source["columns"],
        "rows": source["rows"],
    }


MAKERS = {
    "vocabulary": vocabulary_table,
    "peers": peers_table,
    "training": training_table,
    "frontier": frontier_table,
    "models": models_table,
    "costs": costs_table,
    "texts": texts_table,
    "growth": growth_table,
    "across": across_table,
    "languages": languages_table,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Write or compare; the exit status is 1 when a comparison fails."""
    reader = parser(__doc__, "check")
    reader.add_argument("tables", nargs="*", help="by default all but the last")
    options = reader.parse_args(arguments)
    usual = [name for name in MAKERS if name != "languages"]
    names = selected(",".join(options.tables), MAKERS, "tables") if options.tables else usual
    same = [
        write_or_check(TABLES / f"subword_{name}.json", MAKERS[name](), options.check)
        for name in names
    ]
    return int(options.check and not all(same))


if __name__ == "__main__":
    sys.exit(main())
