"""How much is left to choose on English: where the bits lie, other settings, larger vocabularies.

    python -m book.experiments.subwords.room     # all of it, minutes, resumes

`bits` has ours for the likelihood at other settings and sizes, and once chosen with the held-out
text in sight, which nobody can do: counted are the held-out words then, too, and the prices come
from the training words as always.  `rows` divides the held-out bits among the words by how often
the training text has them, for ours and the best peer at 16,000 sub-words.
"""

from __future__ import annotations

import math
import sys
from collections import Counter
from typing import Any

from book.experiments.common.main import parser
from book.experiments.common.places import RESULTS, ROOT
from book.experiments.common.store import files_sha256, provenance, read, write_json, write_results
from book.experiments.subwords import peers
from book.experiments.subwords.corpora import SCRATCH, Corpus, front, load
from book.experiments.subwords.metrics import (
    SMOOTHING,
    code_length,
    cross_code_length,
    optimal_code,
    piece_counts,
    shortest_paths,
)
from genopt_core.subwords import train

SIZE, PEER = 16000, "mingram_increase"
SETTINGS: tuple[tuple[str, int, dict[str, Any], bool], ...] = (
    ("end", SIZE, {}, False),
    ("end", SIZE, {"min_count": 3}, True),
    ("end", 18000, {}, False),
    ("end", 19000, {}, False),
    ("end", SIZE, {"min_count": 3}, False),
    ("end", SIZE, {"min_count": 5}, False),
    ("front", SIZE, {"min_count": 5}, False),
    ("end", SIZE, {"min_count": 3, "new_words": True}, False),
    ("front", 17000, {}, False),
    ("front", 18000, {}, False),
    ("end", 17000, {}, False),
)
"""Marker, sub-words, settings of `train`, and whether the held-out words are in sight."""
SEEN = ((0, 0), (1, 4), (5, 19), (20, 99), (100, None))


def bits(
    corpus: Corpus, marker: str, size: int, options: dict[str, Any], in_sight: bool
) -> list[float]:
    """Bits a byte of the training text and of the held-out one."""
    view = front if marker == "front" else str
    own = {view(word): count for word, count in corpus.train.items()}
    held = {view(word): count for word, count in corpus.held.items()}
    counted = dict(Counter(own) + Counter(held)) if in_sight else own
    vocabulary = train(counted, size, effort="best", **options)
    scores = {piece: -cost for piece, cost in vocabulary.costs.items()}
    counts = piece_counts(shortest_paths(list(own), scores), own.values())
    if in_sight:
        counts = optimal_code(list(own), list(own.values()), vocabulary.pieces, counts)
        total = sum(counts.values())
        scores = {p: math.log(max(counts[p], SMOOTHING) / total) for p in vocabulary.pieces}
    later = piece_counts(shortest_paths(list(held), scores), held.values())
    return [
        code_length(counts) / corpus.facts["train_bytes"],
        cross_code_length(later, counts, len(vocabulary)) / corpus.facts["held_bytes"],
    ]


def by_seen(corpus: Corpus, name: str) -> list[list[float]]:
    """Per group of `SEEN` the share of the held-out words, bits a byte, and tokens a word."""
    trained = peers.train(name, corpus, SIZE)
    counts = piece_counts(trained.segment(list(corpus.train)), corpus.train.values())
    paths = dict(zip(corpus.held, trained.segment(list(corpus.held)), strict=True))
    total = sum(counts.values()) + SMOOTHING * len(trained.pieces)
    found = []
    for least, most in SEEN:
        inside = {
            word: count
            for word, count in corpus.held.items()
            if least <= corpus.train.get(word, 0) <= (most if most is not None else math.inf)
        }
        words = sum(inside.values())
        used = piece_counts((paths[word] for word in inside), inside.values())
        length = -sum(n * math.log2((counts[p] + SMOOTHING) / total) for p, n in used.items())
        found.append(
            [
                words / corpus.facts["held_words"],
                length / corpus.facts["held_bytes"],
                sum(used.values()) / words,
            ]
        )
    return found


def main() -> int:
    """Run what is not done yet, then write the table."""
    parser(__doc__).parse_args()
    corpus = load("english")
    code = files_sha256(sorted((ROOT / "genopt_core/subwords").rglob("*.py")))
    ours = sorted(ROOT.glob("book/experiments/subwords/*.py"))
    data = "".join(corpus.facts[f"{part}_counts_sha256"][:8] for part in ("train", "held"))
    folder = SCRATCH / "room" / f"{code[:16]}-{files_sha256(ours)[:16]}-{data}"

    def kept(name: str, make: Any) -> Any:
        path = folder / f"{name}.json"
        if not path.is_file():
            write_json(path, {"value": make()})
        value = read(path)["value"]
        print(name, value, flush=True)
        return value

    rows = []
    for marker, size, options, in_sight in SETTINGS:
        asked = [f"{option}={value}" for option, value in options.items()]
        name = "-".join([marker, str(size), *asked, *["in-sight"] * in_sight])
        found = kept(name, lambda s=(marker, size, options, in_sight): bits(corpus, *s))
        rows.append([marker, size, options, in_sight, *(round(value, 5) for value in found)])
    words = []
    for contestant in ("ours_likelihood", PEER):
        groups = kept(contestant, lambda c=contestant: by_seen(corpus, c))
        for (least, most), values in zip(SEEN, groups, strict=True):
            words.append([contestant, least, most, *(round(value, 5) for value in values)])
    facts = {k: v for k, v in corpus.facts.items() if k != "format"}
    table = {
        "schema": "subwords-room/1",
        "provenance": provenance(),
        "corpus": facts,
        "sources": code,
        "train_words_bits_per_byte": round(
            code_length(corpus.train) / corpus.facts["train_bytes"], 5
        ),
        "bits_columns": [
            *("marker", "size", "settings", "in_sight"),
            *("train_bits_per_byte", "held_bits_per_byte"),
        ],
        "bits": rows,
        "columns": [
            *("contestant", "seen_least", "seen_most"),
            *("held_words_share", "held_bits_per_byte", "tokens_per_word"),
        ],
        "rows": words,
    }
    target = RESULTS / "subwords_room.json"
    print(f"{target.name}: {write_results(target, table)} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
