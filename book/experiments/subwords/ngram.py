"""A language model that sees context on each tokenizer: does a better unigram code help it?

    python -m book.experiments.subwords.ngram                  # what is not done yet
    python -m book.experiments.subwords.ngram --size 8000 --only hf_bpe,ours_likelihood

An interpolated Kneser-Ney model of order four (Kneser and Ney 1995; one discount an order): cheap
enough for a whole corpus and several seeds on one core, where the small transformers of
`subwords_lm` take hours.  Two budgets: ``tokens``, equal computation: the same number of training
tokens, so that who has longer pieces reads more text; ``bytes``, equal text.  A seed draws the
blocks of training text, as shares of the whole, so that differences can be taken seed by seed.
What is measured is the code length of the first 80,000 held-out words in bits a byte, which does
not depend on the unit; only the tokenizer's own segmentation is scored.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from book.experiments.common.store import (
    RESULTS,
    SCRATCH,
    provenance,
    read_json,
    write_json,
    write_results,
)
from book.experiments.subwords import peers
from book.experiments.subwords.corpora import Corpus, load
from book.experiments.subwords.language_model import HELD_WORDS, encode, summary
from book.experiments.subwords.quality import fingerprint

CONTESTANTS = (
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


def measure(name: str, budget: str, seed: int, corpus: Corpus, size: int) -> dict[str, Any]:
    """One model: trained, and scored on the held-out text."""
    data = encode(name, corpus, size)
    lengths, held = data["piece_bytes"], data["held"]
    started = time.process_time()
    per_token = float(lengths[data["train"]].mean())
    tokens = TRAIN_TOKENS if budget == "tokens" else round(TRAIN_BYTES / per_token)
    texts = drawn(data["train"], tokens, seed)
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


def kept(name: str, budget: str, seed: int, size: int) -> Path:
    """Where one result lies."""
    return SCRATCH / "ngram" / f"{name}.{size}.{budget}.{seed}.json"


def made_from(name: str, corpus: Corpus) -> dict[str, Any]:
    """What a result depends on."""
    return {
        **fingerprint(name, corpus),
        "shape": [ORDER, TRAIN_TOKENS, TRAIN_BYTES, BLOCKS, HELD_WORDS],
    }


def table(corpus: Corpus, seeds: int) -> dict[str, Any]:
    """Everything that is done."""
    rows: list[list[Any]] = []
    found: dict[str, list[dict[str, Any]]] = {}
    for size in SIZES:
        start = len(rows)
        for budget in BUDGETS:
            for name in CONTESTANTS:
                for seed in range(seeds):
                    path = kept(name, budget, seed, size)
                    if path.is_file():
                        result = read_json(path)
                        values = (result[key] for key in COLUMNS[3:])
                        numbers = (v if isinstance(v, int) else float(f"{v:.6g}") for v in values)
                        rows.append([name, budget, seed, *numbers])
        at = COLUMNS.index("held_bits_per_byte")
        shown = [[*row[:3], *[row[at]] * 10] for row in rows[start:]]
        found[str(size)] = summary(shown)
    return {
        "schema": "subwords-ngram/1",
        "provenance": provenance(),
        "corpus": {
            key: corpus.facts[key]
            for key in ("train_counts_sha256", "held_text_sha256", "train_bytes", "held_bytes")
        },
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
        **{f"summary_{size}": entries for size, entries in found.items() if entries},
        "columns": list(COLUMNS),
        "rows": rows,
    }


def main() -> int:
    """Train what is not trained yet and write the table."""
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0],
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--only", help="contestants, separated by commas")
    parser.add_argument(
        "--size", type=int, choices=SIZES, action="append", help="both if not given"
    )
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--force", action="store_true", help="train again what is selected")
    options = parser.parse_args()
    if options.seeds < 2:
        raise ValueError(f"--seeds must be at least 2, got {options.seeds}")
    corpus = load("english")
    only = options.only.split(",") if options.only else list(CONTESTANTS)
    for name in only:
        if reason := peers.contestant(name).missing:
            print(f"{name}: skipped, {reason}")
    jobs = [
        (name, budget, seed, size)
        for size in options.size or SIZES
        for name in only
        if not peers.contestant(name).missing
        for budget in BUDGETS
        for seed in range(options.seeds)
    ]
    target = RESULTS / "subwords_ngram.json"
    with tqdm(jobs, unit="model") as bar:
        for name, budget, seed, size in bar:
            path, now = kept(name, budget, seed, size), made_from(name, corpus)
            if path.is_file() and not options.force and read_json(path)["fingerprint"] == now:
                continue
            result = measure(name, budget, seed, corpus, size)
            write_json(path, {"fingerprint": now, **result})
            bar.write(f"{name} {size} {budget} {seed}: {result['held_bits_per_byte']:.4f} bits")
    print(f"{target.name}: {write_results(target, table(corpus, options.seeds), 60_000)} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
