"""Make the tables of words and of fitted costs from the State of the Union corpus.

python -m book.experiments.subwords.word_tables            # write both tables
python -m book.experiments.subwords.word_tables --check    # only compare with what is stored
"""

import math
import sys
from typing import Any

from book.experiments.common.main import parser
from book.experiments.common.places import TABLES
from book.experiments.common.store import write_or_check
from genopt_core import corpora
from genopt_core.subwords import STORED_SIZES, fit_probabilities, substring_vocabulary

CORPUS = "sotu"
WORDS = 3000
MAX_PIECE = 12
FLOOR = 1.0
TOLERANCE = 1.0  # nats, of some eight million
DIGITS = 6


def origin(**parameters: Any) -> dict[str, Any]:
    """Where a table comes from, to be stored with it."""
    row = corpora.describe(CORPUS)
    return {
        "corpus": row["title"],
        "text_sha256": row["text_sha256"],
        "made_by": "book/experiments/subwords/word_tables.py",
        "convention": "textbook",
        **parameters,
    }


def words_table(counts: dict[str, int]) -> dict[str, Any]:
    """The most frequent words, and how much of the corpus they are."""
    kept = dict(list(counts.items())[:WORDS])
    total = sum(counts.values())
    return {
        "origin": origin(function="corpora.count_words", most_frequent=WORDS),
        "total_words": total,
        "distinct_words": len(counts),
        "coverage": round(sum(kept.values()) / total, DIGITS),
        "words": kept,
    }


def pieces_table(counts: dict[str, int]) -> dict[str, Any]:
    """Nested vocabularies of characters and frequent substrings with fitted log-probabilities."""
    logs = {}
    pieces: list[str] = []
    for size in STORED_SIZES:
        start = substring_vocabulary(counts, size, MAX_PIECE)
        fit = fit_probabilities(counts, start, floor=FLOOR, tolerance=TOLERANCE)
        p = fit.probabilities
        logs[str(size)] = [round(math.log(p[s]), DIGITS) if s in p else None for s in start]
        if list(start)[: len(pieces)] != pieces:
            raise ValueError(f"the vocabulary of {size} pieces does not begin with the smaller one")
        pieces = list(start)
        print(f"{size} pieces: {len(p)} in use after {len(fit.log_likelihoods) - 1} rounds")
    return {
        "origin": origin(
            function="subwords.substring_vocabulary, subwords.fit_probabilities",
            max_piece=MAX_PIECE,
            floor=FLOOR,
            tolerance=TOLERANCE,
        ),
        "unit": "natural logarithm of the probability; null: not used by any best path",
        "pieces": pieces,
        "log_probabilities": logs,
    }


def main() -> int:
    """Write or compare both tables; the exit status is 1 when a comparison fails."""
    options = parser(__doc__, "check").parse_args()
    counts = corpora.count_words(corpora.load(CORPUS), "textbook")
    tables = {"sotu_words": words_table(counts), "sotu_pieces": pieces_table(counts)}
    same = [write_or_check(TABLES / f"{n}.json", t, options.check) for n, t in tables.items()]
    return int(options.check and not all(same))


if __name__ == "__main__":
    sys.exit(main())
