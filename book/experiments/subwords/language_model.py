"""A small language model on each tokenizer: does a better unigram code mean a better model?

    python -m book.experiments.subwords.language_model              # everything, hours of one core
    python -m book.experiments.subwords.language_model --quick      # a few steps, not stored
    python -m book.experiments.subwords.language_model --budget tokens --only hf_bpe

Every model has the same shape (two layers, width 128, one embedding for input and output, 1000
pieces), so a training token costs the same number of operations with every tokenizer. Budgets:
``tokens``, equal computation: the same number of training tokens, so that who has longer pieces
reads more text; ``long``, the same with three times as many; ``bytes``, equal text: the same
number of bytes read, so that who has longer pieces computes less. What is measured is the code
length of the first 80,000 held-out words in bits a byte, which does not depend on the unit; each
token is predicted from at least 64 tokens before it, except at the start. Only the tokenizer's own
segmentation is scored, so these are upper bounds of what the model assigns to the text. A seed
fixes the first weights and the places the batches come from, as shares of the text, so that
differences can be taken seed by seed.
"""

from __future__ import annotations

import math
import sys
import time
from collections import Counter
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from book.experiments.common.main import do_all, parser, selected
from book.experiments.common.pairing import compared
from book.experiments.common.places import RESULTS
from book.experiments.common.store import provenance, read, rounded, write_json, write_results
from book.experiments.subwords import peers
from book.experiments.subwords.corpora import END, SCRATCH, Corpus, load, stream, text_bytes
from book.experiments.subwords.quality import fingerprint

TOKENIZERS = (
    "hf_bpe",
    "hf_wordpiece",
    "hf_unigram_front",
    "sp_counts",
    "sp_text_tuned",
    "ours_likelihood",
    "ours_weight_5",
    "ours_tokens",
)
REFERENCES = ("hf_bpe", "sp_counts")
BUDGETS = ("tokens", "long", "bytes")
SIZE = 1000
LAYERS, WIDTH, HEADS, CONTEXT, BATCH = 2, 128, 4, 128, 16
TRAIN_TOKENS, LONG_TOKENS, TRAIN_BYTES = 750_000, 2_250_000, 2_500_000
HELD_WORDS = 80_000  # scored; the same words for every tokenizer
LEARNING_RATE, WARM_UP = 3e-3, 0.05
COLUMNS = (
    "contestant",
    "budget",
    "seed",
    "train_tokens",
    "train_bytes",
    "exaflops",
    "parameters",
    "held_bits_per_byte",
    "held_bits_per_character",
    "held_bits_per_token",
    "cpu_seconds",
)


Job = tuple[str, str, int]


class Block(nn.Module):
    """Causal self-attention and a two-layer network, each with a normalization before it."""

    def __init__(self):
        super().__init__()
        self.norm_1, self.norm_2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.mix, self.out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.up, self.down = nn.Linear(WIDTH, 4 * WIDTH), nn.Linear(4 * WIDTH, WIDTH)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch, length, _ = x.shape
        heads = self.mix(self.norm_1(x)).view(batch, length, 3, HEADS, WIDTH // HEADS)
        query, key, value = heads.permute(2, 0, 3, 1, 4)
        mixed = functional.scaled_dot_product_attention(query, key, value, is_causal=True)
        x = x + self.out(mixed.transpose(1, 2).reshape(batch, length, WIDTH))
        return x + self.down(functional.gelu(self.up(self.norm_2(x))))


class LanguageModel(nn.Module):
    """A small transformer; the embedding is also the output matrix."""

    def __init__(self, pieces: int):
        super().__init__()
        self.embedding = nn.Embedding(pieces, WIDTH)
        self.position = nn.Parameter(torch.zeros(CONTEXT, WIDTH))
        self.blocks = nn.ModuleList(Block() for _ in range(LAYERS))
        self.norm = nn.LayerNorm(WIDTH)
        for name, weight in self.named_parameters():
            if weight.dim() > 1:
                deep = name.endswith(("out.weight", "down.weight"))
                nn.init.normal_(weight, std=0.02 / (math.sqrt(2 * LAYERS) if deep else 1))

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        x = self.embedding(ids) + self.position[: ids.shape[1]]
        for block in self.blocks:
            x = block(x)
        return functional.linear(self.norm(x), self.embedding.weight)


def encode(name: str, corpus: Corpus, size: int) -> dict[str, np.ndarray]:
    """Numbers of the pieces of both parts with one tokenizer, and how many bytes each piece has."""
    path = SCRATCH / "lm" / f"{name}.{corpus.name}.{size}.npz"
    stamp = path.with_suffix(".json")
    made_from = fingerprint(name, corpus)
    if path.is_file() and stamp.is_file() and read(stamp) == made_from:
        return dict(np.load(path))
    stamp.unlink(missing_ok=True)
    trained = peers.train(name, corpus, size)
    number = {piece: i for i, piece in enumerate(trained.pieces)}
    lengths = [len(trained.plain(p).replace(END, " ").encode()) for p in trained.pieces]
    found = {"piece_bytes": np.array(lengths, dtype=np.int32)}
    for part, counts in (("train", corpus.train), ("held", corpus.held)):
        words = list(counts)
        segmented = trained.segment([trained.view(word) for word in words])
        ids = {
            word: [number[piece] for piece in pieces]
            for word, pieces in zip(words, segmented, strict=True)
        }
        words_read = list(islice(stream(corpus, part), HELD_WORDS if part == "held" else None))
        found[part] = np.array([i for word in words_read for i in ids[word]], dtype=np.int32)
        if int(found["piece_bytes"][found[part]].sum()) != text_bytes(Counter(words_read)):
            raise ValueError(f"the pieces of {name} do not spell the {part} text")
        if part == "held":  # the marker is a blank
            found["held_characters"] = np.array(sum(map(len, words_read)))
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(path, **found)
    write_json(stamp, made_from)
    return found


def operations(parameters: int, tokens: int) -> float:
    """Training operations: six a parameter and token, and attention's own, in units of 1e18."""
    return tokens * (6 * parameters + 12 * LAYERS * WIDTH * CONTEXT) / 1e18


def train(ids: np.ndarray, pieces: int, tokens: int, seed: int) -> LanguageModel:
    """A model trained on ``tokens`` tokens of ``ids``, drawn as windows at random places."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    model = LanguageModel(pieces)
    decayed = [p for p in model.parameters() if p.dim() > 1]
    rest = [p for p in model.parameters() if p.dim() <= 1]
    groups = [{"params": decayed, "weight_decay": 0.1}, {"params": rest, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=LEARNING_RATE, betas=(0.9, 0.95))
    steps = max(1, round(tokens / (BATCH * CONTEXT)))
    warm = max(1, round(WARM_UP * steps))
    data = torch.from_numpy(ids.astype(np.int64))
    room = len(data) - CONTEXT - 1
    for step in range(steps):
        share = (step - warm) / max(1, steps - warm)
        slope = (step + 1) / warm if step < warm else 0.5 * (1 + math.cos(math.pi * share))
        for group in optimizer.param_groups:
            group["lr"] = LEARNING_RATE * max(slope, 0.02)
        starts = (rng.random(BATCH) * room).astype(int)
        window = torch.stack([data[start : start + CONTEXT + 1] for start in starts])
        logits = model(window[:, :-1])
        loss = functional.cross_entropy(logits.flatten(0, 1), window[:, 1:].flatten())
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    return model


@torch.no_grad()
def held_out_bits(model: LanguageModel, ids: np.ndarray) -> float:
    """Bits of all of ``ids``; each token sees at least half a window, the first one none."""
    model.eval()
    data = torch.from_numpy(ids.astype(np.int64))
    if len(data) <= CONTEXT:
        raise ValueError(f"ids must be longer than {CONTEXT}, got {len(data)}")
    half = CONTEXT // 2
    bits = math.log2(model.embedding.num_embeddings)  # nothing stands before the first token
    bits += _scored(model, data[None, : CONTEXT + 1], 0)
    starts = range(half, len(data) - CONTEXT, half)
    for at in range(0, len(starts), 64):
        windows = torch.stack([data[s : s + CONTEXT + 1] for s in starts[at : at + 64]])
        bits += _scored(model, windows, half)
    left = len(data) - (starts[-1] if starts else 0) - CONTEXT - 1
    if left:
        bits += _scored(model, data[None, -CONTEXT - 1 :], CONTEXT - left)
    return bits


def _scored(model: LanguageModel, windows: torch.Tensor, first: int) -> float:
    """Bits of the tokens that follow position ``first`` and those after it."""
    logits = model(windows[:, :-1])[:, first:]
    target = windows[:, 1 + first :]
    loss = functional.cross_entropy(logits.flatten(0, 1), target.flatten(), reduction="sum")
    return float(loss) / math.log(2)


def measure(
    name: str, budget: str, seed: int, corpus: Corpus, size: int, scale: float
) -> dict[str, Any]:
    """One model: trained, and scored on the held-out text."""
    found = encode(name, corpus, size)
    lengths = found["piece_bytes"]
    bytes_per_token = float(lengths[found["train"]].mean())
    fixed = {"tokens": TRAIN_TOKENS, "long": LONG_TOKENS}
    tokens = fixed.get(budget) or round(TRAIN_BYTES / bytes_per_token)
    tokens = round(tokens * scale)
    started = time.process_time()
    model = train(found["train"], len(lengths), tokens, seed)
    held = found["held"]
    bits = held_out_bits(model, held)
    parameters = sum(p.numel() for p in model.parameters())
    steps = max(1, round(tokens / (BATCH * CONTEXT)))
    return {
        "train_tokens": steps * BATCH * CONTEXT,
        "train_bytes": round(steps * BATCH * CONTEXT * bytes_per_token),
        "exaflops": operations(parameters, steps * BATCH * CONTEXT),
        "parameters": parameters,
        "held_bits_per_byte": bits / int(lengths[held].sum()),
        "held_bits_per_character": bits / int(found["held_characters"]),
        "held_bits_per_token": bits / len(held),
        "cpu_seconds": time.process_time() - started,
    }


def summary(rows: list[list[Any]], at: int = COLUMNS.index("held_bits_per_byte")) -> list[dict]:
    """Mean and deviation of each tokenizer, and its difference to the references seed by seed."""
    values: dict[str, dict[str, dict[int, float]]] = {}
    for row in rows:
        name, budget, seed = row[:3]
        values.setdefault(budget, {}).setdefault(name, {})[seed] = row[at]
    return [
        {"budget": budget, "contestant": name, **entry}
        for budget, by_name in values.items()
        for name, entry in compared(by_name, REFERENCES).items()
    ]


def table(corpus: Corpus, size: int, folder: Path) -> dict[str, Any]:
    """Everything that is done."""
    rows: list[list[Any]] = []
    for budget in BUDGETS:
        for name in peers.METHODS:
            for seed in range(100):
                path = kept(folder, (name, budget, seed))
                if path.is_file():
                    result = read(path)
                    rows.append([name, budget, seed, *(rounded(result[k]) for k in COLUMNS[3:])])
    return {
        "schema": "subwords-lm/1",
        "provenance": provenance(),
        "corpus": corpus.origin,
        "model": {
            "pieces": size,
            "held_words": HELD_WORDS,
            "layers": LAYERS,
            "width": WIDTH,
            "heads": HEADS,
            "context": CONTEXT,
            "batch": BATCH,
            "learning_rate": LEARNING_RATE,
            "optimizer": "AdamW 0.9 0.95, decay 0.1, warm-up 5 %, cosine to 2 %, clip 1",
            "threads": 1,
        },
        "budgets": {
            "tokens": f"{TRAIN_TOKENS} training tokens: equal computation",
            "long": f"{LONG_TOKENS} training tokens: does the difference last?",
            "bytes": f"{TRAIN_BYTES} training bytes: equal text",
        },
        "summary": summary(rows),
        "columns": list(COLUMNS),
        "rows": rows,
    }


def kept(folder: Path, job: Job) -> Path:
    """Where one result lies."""
    return folder / "{}.{}.{}.json".format(*job)


def made_from(name: str, corpus: Corpus, size: int) -> dict[str, Any]:
    """What a result depends on."""
    shape = [LAYERS, WIDTH, HEADS, CONTEXT, BATCH, TRAIN_TOKENS, TRAIN_BYTES, LEARNING_RATE]
    return {**fingerprint(name, corpus), "shape": [*shape, HELD_WORDS], "size": size}


def main() -> int:
    """Train what is not trained yet and write the table."""
    arguments = parser(__doc__, "quick", "only", "force")
    arguments.add_argument("--seeds", type=int, default=3)
    arguments.add_argument("--budget", choices=BUDGETS, action="append", help="all if not given")
    options = arguments.parse_args()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    corpus = load("moby-dick" if options.quick else "english")
    scale = 0.01 if options.quick else 1.0
    folder = SCRATCH / ("lm-quick" if options.quick else "lm")
    ready = peers.ready(selected(options.only, peers.METHODS) if options.only else TOKENIZERS)
    do_all(
        [
            (name, budget, seed)
            for seed in range(1 if options.quick else options.seeds)
            for budget in options.budget or BUDGETS
            for name in ready
        ],
        lambda job: kept(folder, job),
        lambda job: made_from(job[0], corpus, SIZE),
        lambda job: measure(*job, corpus, SIZE, scale),
        lambda job, result: (
            "{} {} {}: ".format(*job) + f"{result['held_bits_per_byte']:.4f} bits a byte"
        ),
        options.force,
    )
    found = table(corpus, SIZE, folder)
    for entry in found["summary"]:
        minus = " ".join(
            f"{key.removeprefix('minus_')} {value['mean']:+.4f} ± {value['half_interval']}"
            for key, value in entry.items()
            if key.startswith("minus_")
        )
        print(
            f"{entry['budget']:6s} {entry['contestant']:18s} {entry['mean']:.4f} "
            f"sd {entry['sd']}  minus: {minus}"
        )
    quick = SCRATCH / "subwords_lm_quick.json"
    target = quick if options.quick else RESULTS / "subwords_lm.json"
    print(f"{target.name}: {write_results(target, found, 60_000)} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
