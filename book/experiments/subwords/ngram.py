"""A language model that sees context on each tokenizer: does a better unigram code help it?

    python -m book.experiments.subwords.ngram                 # what is not done yet
    python -m book.experiments.subwords.ngram --quick         # a seed of two sizes, not stored
    python -m book.experiments.subwords.ngram --size 8000 --only hf_bpe,ours_likelihood

An interpolated Kneser-Ney model of order four (Kneser and Ney 1995; one discount an order): cheap
enough for a whole corpus and several seeds on one core, where the small transformers of
`language_model` take hours.  Two budgets: ``tokens``, equal computation: the same number of
training tokens, so that who has longer pieces reads more text; ``bytes``, equal text.  A seed draws
the blocks of training text, as shares of the whole, so that differences are taken seed by seed.
What is measured is the code length of the first 80,000 held-out words in bits a byte, which does
not depend on the unit; only the tokenizer's own segmentation is scored.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from book.experiments.common.main import do_all, parser, selected
from book.experiments.common.places import RESULTS
from book.experiments.common.store import provenance, read, rounded, write_results
from book.experiments.subwords import peers
from book.experiments.subwords.corpora import SCRATCH, Corpus, load
from book.experiments.subwords.language_model import HELD_WORDS, encode, summary
from book.experiments.subwords.quality import fingerprint

TOKENIZERS = (
    "hf_bpe",
    "hf_wordpiece_plain",
    "sp_counts",
    "sp_text_tuned",
    "ours_likelihood",
    "ours_weight_5",
    "ours_weight_10",
    "ours_tokens",
)
SIZES = (1000, 8000)
BUDGETS = ("tokens", "bytes")
ORDER = 4
TRAIN_TOKENS, TRAIN_BYTES = 1_500_000, 5_000_000
BLOCKS = 200  # of equal length; a seed draws which of them are read
COLUMNS = (
    "contestant",
    "budget",
    "seed",
    "size",
    "train_tokens",
    "train_bytes",
    "held_bits_per_byte",
    "held_bits_per_character",
    "held_bits_per_token",
    "cpu_seconds",
)


Job = tuple[str, str, int, int]


class KneserNey:
    r"""An interpolated Kneser-Ney model of numbered tokens.

    .. math:: P_k(w \mid h) = \frac{\max(c_k(hw) - D_k, 0) + D_k\,T_k(h)\,P_{k-1}(w \mid h')}
              {\sum_v c_k(hv)}

    with c the counts in the highest order and the numbers of different left neighbours below it,
    T the number of different successors of h, h' without its oldest token, and
    :math:`D_k = n_1 / (n_1 + 2 n_2)` from how many n-grams were seen once and twice.
    """

    def __init__(self, texts: Sequence[np.ndarray], pieces: int, order: int = ORDER):
        if pieces**order >= 2**63:
            raise ValueError(f"pieces ** order must be below 2 ** 63, got {pieces} ** {order}")
        self.pieces, self.order = pieces, order
        grams, counts = np.unique(
            np.concatenate([packed(text, order, pieces) for text in texts]), return_counts=True
        )
        self.levels = []
        for k in range(order, 0, -1):
            histories, first = np.unique(grams // pieces, return_index=True)
            totals = np.add.reduceat(counts, first).astype(float)
            kinds = np.diff([*first, len(grams)]).astype(float)
            once, twice = (int((counts == n).sum()) for n in (1, 2))
            discount = once / (once + 2 * twice) if once else 0.5
            self.levels.append((grams, counts, histories, totals, kinds, discount))
            if k > 1:
                grams, counts = np.unique(grams % pieces ** (k - 1), return_counts=True)
        self.levels.reverse()

    def probabilities(self, ids: np.ndarray) -> np.ndarray:
        """Of each token, given up to ``order - 1`` before it."""
        found = np.full(len(ids), 1 / self.pieces)
        for k, (grams, counts, histories, totals, kinds, discount) in enumerate(self.levels, 1):
            keys = packed(ids, k, self.pieces)
            if not len(keys):
                break
            below = found[k - 1 :]
            at, known = located(histories, keys // self.pieces)
            gram, seen = located(grams, keys)
            kept = np.where(seen, np.maximum(counts[gram] - discount, 0), 0)
            mixed = (kept + discount * kinds[at] * below) / totals[at]
            found[k - 1 :] = np.where(known, mixed, below)
        return found


def packed(ids: np.ndarray, k: int, pieces: int) -> np.ndarray:
    """All runs of k tokens as one number each, the oldest token the highest digit."""
    long = ids.astype(np.int64)
    keys = np.zeros(max(0, len(ids) - k + 1), dtype=np.int64)
    for i in range(k):
        keys = keys * pieces + long[i : i + len(keys)]
    return keys


def located(ordered: np.ndarray, keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where the keys stand in a sorted array, and whether they do."""
    at = np.minimum(np.searchsorted(ordered, keys), len(ordered) - 1)
    return at, ordered[at] == keys


def drawn(ids: np.ndarray, tokens: int, seed: int) -> list[np.ndarray]:
    """``tokens`` tokens in blocks from random places that do not overlap."""
    if not 0 < tokens <= len(ids):
        raise ValueError(f"tokens must be in 1..{len(ids)}, got {tokens}")
    blocks = np.array_split(ids, BLOCKS)
    found, left = [], tokens
    for number in np.random.default_rng(seed).permutation(BLOCKS):
        found.append(blocks[number][:left])
        left -= len(found[-1])
        if not left:
            break
    return found


def measure(
    name: str, budget: str, seed: int, corpus: Corpus, size: int, scale: float = 1.0
) -> dict[str, Any]:
    """One model: trained on a share of the budget, and scored on the held-out text."""
    data = encode(name, corpus, size)
    lengths, held = data["piece_bytes"], data["held"]
    started = time.process_time()
    per_token = float(lengths[data["train"]].mean())
    tokens = TRAIN_TOKENS if budget == "tokens" else round(TRAIN_BYTES / per_token)
    texts = drawn(data["train"], round(scale * tokens), seed)
    bits = float(-np.log2(KneserNey(texts, len(lengths)).probabilities(held)).sum())
    return {
        "size": size,
        "train_tokens": sum(map(len, texts)),
        "train_bytes": sum(int(lengths[text].sum()) for text in texts),
        "held_bits_per_byte": bits / int(lengths[held].sum()),
        "held_bits_per_character": bits / int(data["held_characters"]),
        "held_bits_per_token": bits / len(held),
        "cpu_seconds": time.process_time() - started,
    }


def kept(folder: Path, job: Job) -> Path:
    """Where one result lies."""
    name, budget, seed, size = job
    return folder / f"{name}.{size}.{budget}.{seed}.json"


def made_from(name: str, corpus: Corpus) -> dict[str, Any]:
    """What a result depends on."""
    return {
        **fingerprint(name, corpus),
        "shape": [ORDER, TRAIN_TOKENS, TRAIN_BYTES, BLOCKS, HELD_WORDS],
    }


def table(corpus: Corpus, seeds: int, folder: Path) -> dict[str, Any]:
    """Everything that is done."""
    rows: list[list[Any]] = []
    found: dict[str, list[dict[str, Any]]] = {}
    for size in SIZES:
        start = len(rows)
        for budget in BUDGETS:
            for name in TOKENIZERS:
                for seed in range(seeds):
                    path = kept(folder, (name, budget, seed, size))
                    if path.is_file():
                        result = read(path)
                        values = (rounded(result[key]) for key in COLUMNS[3:])
                        rows.append([name, budget, seed, *values])
        found[f"summary_{size}"] = summary(rows[start:], COLUMNS.index("held_bits_per_byte"))
    return {
        "schema": "subwords-ngram/1",
        "provenance": provenance(),
        "corpus": corpus.origin,
        "model": {
            "kind": "interpolated Kneser-Ney",
            "order": ORDER,
            "blocks": BLOCKS,
            "held_words": HELD_WORDS,
        },
        "budgets": {
            "tokens": f"{TRAIN_TOKENS} training tokens: equal computation",
            "bytes": f"{TRAIN_BYTES} training bytes: equal text",
        },
        **{key: entries for key, entries in found.items() if entries},
        "columns": list(COLUMNS),
        "rows": rows,
    }


def main() -> int:
    """Train what is not trained yet and write the table."""
    arguments = parser(__doc__, "quick", "only", "force")
    arguments.add_argument(
        "--size", type=int, choices=SIZES, action="append", help="both if not given"
    )
    arguments.add_argument("--seeds", type=int, default=5)
    options = arguments.parse_args()
    if options.seeds < 2:
        raise SystemExit(f"--seeds must be at least 2, got {options.seeds}")
    corpus = load("moby-dick" if options.quick else "english")
    folder = SCRATCH / ("ngram-quick" if options.quick else "ngram")
    seeds, sizes = (1, [1000]) if options.quick else (options.seeds, options.size or SIZES)
    ready = peers.ready(selected(options.only, TOKENIZERS))
    do_all(
        [
            (name, budget, seed, size)
            for size in sizes
            for name in ready
            for budget in (("bytes",) if options.quick else BUDGETS)
            for seed in range(seeds)
        ],
        lambda job: kept(folder, job),
        lambda job: made_from(job[0], corpus),
        lambda job: measure(*job[:3], corpus, job[3], 0.1 if options.quick else 1.0),
        lambda job, result: f"{kept(folder, job).stem}: {result['held_bits_per_byte']:.4f} bits",
        options.force,
    )
    quick = SCRATCH / "subwords_ngram_quick.json"
    target = quick if options.quick else RESULTS / "subwords_ngram.json"
    print(f"{target.name}: {write_results(target, table(corpus, seeds, folder), 60_000)} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
