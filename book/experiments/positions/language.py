"""Perplexity against length: decoders trained on short windows, scored on the same last tokens.

    python -m book.experiments.positions.language --stage development --device cuda
    python -m book.experiments.positions.language --stage final
    python -m book.experiments.positions.language --stage large --device cuda
    python -m book.experiments.positions.language --quick        # a minute on a CPU, not stored

Every context length from 1 to 16 times the trained one scores the *same* tokens: the last 32 of
windows that end at the same places of the held-out text.  (Cutting a text into windows of each
length and scoring all of them lets a longer window start fewer contexts from nothing, which looks
like progress with length where there is none.)

A run is a group of methods with one kind of learned bias, on one text, at one trained length; it
is written when it is done, and a run that is written is not repeated.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor

from book.experiments.common.places import RESULTS
from book.experiments.positions.models import METHODS, Decoders, Shape
from book.experiments.positions.training import last_token_nats, train
from genopt_core import corpora, files

TEXTS = ("sotu", "moby-dick")
VOCAB, SCORED, WINDOWS, TIMES = 1024, 32, 192, (1, 2, 4, 8, 16)
BASE, SMALL = Shape(VOCAB), Shape(256, layers=2, width=64, heads=8, hidden=176)  # tokens, bytes
FINAL = [
    "rope-learned-fourfold",  # the reading that choose.py took
    "rope-alibi",
    "rope-harmonic",
    "kerple-power",
    "rope-kerple-power",
    "rope",
    "alibi",
    "kerple-log",
    "rope-fire",
    "rope-harmonic-fourfold",
    "rope-alibi-double",
    "fire",
    "rope-harmonic-double",
    "rope-harmonic-double-mix",
    "rope-hdist-fourfold",
    "harmonic",
    "kerple-log-ssmax",
    "rope-learned-ssmax",
    "fox",
    "nope",
]
STAGES = {
    "development": {"shape": BASE, "seeds": [100, 101], "steps": 600, "cells": [("sotu", 64)]},
    "small": {"shape": SMALL, "seeds": [100, 101], "steps": 400, "cells": [("sotu", 64)]},
    "final": {
        "shape": SMALL,
        "seeds": [0, 1, 2, 3, 4],
        "steps": 400,
        "cells": [("sotu", 64), ("moby-dick", 64), ("sotu", 128)],
        "methods": FINAL,
    },
    "large": {
        "shape": BASE,
        "seeds": [0, 1, 2, 3, 4],
        "steps": 700,
        "cells": [(text, trained) for text in TEXTS for trained in (64, 128)],
    },
    "quick": {"shape": SMALL, "seeds": [100], "steps": 20, "cells": [("sotu", 64)]},
}
TOKENS_A_STEP = 2048
MEMORY = 1.0e8  # bytes for the scores of one layer while a window is read


def tokens_of(text: str, vocab: int, scratch: Path) -> Tensor:
    """The text in bytes, or in the tokens of a byte-pair encoding trained on its first 95 %."""
    if vocab == 256:
        return torch.tensor(list(corpora.load(text).encode()), dtype=torch.int64)
    path = scratch / f"{text}-{vocab}.pt"
    if path.is_file():
        return torch.load(path)
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    whole = corpora.load(text)
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator([whole[: int(0.95 * len(whole))]], trainer)
    ids = torch.tensor(tokenizer.encode(whole).ids, dtype=torch.int64)
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(ids, path)
    return ids


def batches(
    train_ids: Tensor, seeds: list[int], methods: int, trained: int, device: str
) -> Iterator[tuple[Tensor, Tensor]]:
    """Random windows, the same for a seed whatever the method."""
    rows = TOKENS_A_STEP // trained
    generators = [torch.Generator().manual_seed(1000 + seed) for seed in seeds]
    ids = train_ids.to(device)
    offsets = torch.arange(trained + 1, device=device)
    counted = torch.ones(len(seeds) * methods, rows, trained, device=device)
    while True:
        start = torch.stack(
            [torch.randint(len(ids) - trained - 1, (rows,), generator=g) for g in generators]
        )
        yield ids[start.to(device)[..., None] + offsets].repeat(methods, 1, 1), counted


def windows(held: Tensor, length: int, longest: int, count: int) -> Tensor:
    """``count`` windows of ``length`` tokens (and one to predict) ending at fixed places."""
    ends = torch.linspace(longest + 1, len(held), count).long()
    return torch.stack([held[end - length - 1 : end] for end in ends.tolist()])


def groups(names: list[str], most: int) -> list[list[str]]:
    """The methods in batches of at most ``most``."""
    return [names[i : i + most] for i in range(0, len(names), most)]


def run(
    names: list[str], text: str, trained: int, stage: dict, device: str, path: Path
) -> list[dict]:
    """Rows of one group: method, seed, trained length, times, nats a token.

    The weights of all replicas are left beside ``path``, in half precision.
    """
    seeds, shape = stage["seeds"], stage["shape"]
    ids = tokens_of(text, shape.vocab, path.parent)
    cut = int(0.95 * len(ids))
    models = Decoders(names, seeds, shape, trained, device)
    stream = batches(ids[:cut], seeds, len(names), trained, device)
    started = time.perf_counter()

    def say(step: int, loss: Tensor) -> None:
        if step % 100 == 0 or step + 1 == stage["steps"]:
            spent = time.perf_counter() - started
            print(f"  step {step + 1:5}, {spent:6.1f} s, loss {loss.mean():.3f}", flush=True)

    train(models, stream, stage["steps"], progress=say)
    spent = (time.perf_counter() - started) / len(models.methods)
    half = {key: w.detach().half().cpu() for key, w in models.weights.items()}
    safetensors.torch.save_file(
        half, path.with_suffix(".safetensors"), {"methods": ",".join(names)}
    )
    rows = []
    longest = trained * max(TIMES)
    for times in TIMES:
        length = times * trained
        chunk = max(1, int(MEMORY / (len(models.methods) * shape.heads * length**2 * 4)))
        nats = last_token_nats(models, windows(ids[cut:], length, longest, WINDOWS), SCORED, chunk)
        for r, value in enumerate(nats.tolist()):
            name, seed = names[r // len(seeds)], seeds[r % len(seeds)]
            rows.append(
                {
                    "text": text,
                    "trained": trained,
                    "method": name,
                    "seed": seed,
                    "times": times,
                    "nats": round(value, 5),
                    "seconds": round(spent, 2),
                }
            )
    for row in rows:
        kind = METHODS[row["method"]].learned
        keep = {"slopes": ("slopes",), "kerple-log": ("p", "a"), "kerple-power": ("p", "a")}.get(
            kind, ()
        )
        if row["times"] == 1 and keep:
            r = names.index(row["method"]) * len(seeds) + seeds.index(row["seed"])
            values = {k: models.weights[k][r].detach() for k in keep}
            if "slopes" in values:
                values["slopes"] = torch.nn.functional.softplus(values["slopes"])
            row["learned"] = {
                k: [[round(x, 4) for x in layer] for layer in v.tolist()] for k, v in values.items()
            }
    return rows


def stored(text: str, trained: int) -> set[str]:
    """The methods whose final rows are in the result already."""
    path = RESULTS / "positions_final.json"
    rows = json.loads(path.read_text(encoding="utf-8"))["rows"] if path.is_file() else []
    return {method for cell, length, method, *_ in rows if (cell, length) == (text, trained)}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--stage", choices=sorted(STAGES), default="quick")
    parser.add_argument("--only", help="methods, separated by commas")
    parser.add_argument("--most", type=int, default=16, help="methods trained as one batch")
    parser.add_argument("--text", help="only this text")
    parser.add_argument("--trained", type=int, help="only this trained length")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path, default=Path(".cache/positions"))
    options = parser.parse_args()
    torch.set_float32_matmul_precision("high")
    stage = STAGES[options.stage]
    names = options.only.split(",") if options.only else stage.get("methods", list(METHODS))
    options.out.mkdir(parents=True, exist_ok=True)
    for text, trained in stage["cells"]:
        if options.text not in (None, text) or options.trained not in (None, trained):
            continue
        done = stored(text, trained) if options.stage == "final" else set()
        for group in groups([name for name in names if name not in done], options.most):
            path = options.out / f"language-{options.stage}-{text}-{trained}-{group[0]}.json"
            if path.is_file():
                continue
            print(f"{path.name}: {len(group)} methods x {len(stage['seeds'])} seeds", flush=True)
            rows = run(group, text, trained, stage, options.device, path)
            files.write_json(path, rows)


if __name__ == "__main__":
    main()
