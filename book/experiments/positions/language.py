"""Perplexity against length: decoders trained on short windows, scored on the same last tokens.

    python -m book.experiments.positions.language --stage development --device cuda
    python -m book.experiments.positions.language --stage final
    python -m book.experiments.positions.language --stage large --device cuda
    python -m book.experiments.positions.language --quick        # minutes on a CPU, not stored

Every context length from 1 to 16 times the trained one scores the *same* tokens: the last 32 of
windows that end at the same places of the held-out text.  (Cutting a text into windows of each
length and scoring all of them lets a longer window start fewer contexts from nothing, which looks
like progress with length where there is none.)

A run is a group of methods on one text at one trained length; it is written when it is done, and a
run that is written is not repeated.  All methods of a text and length are run on one machine.
Rows of `models.CHANGES` come from the weights of another method, read in another way.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from book.experiments.common.places import RESULTS
from book.experiments.positions.models import CHANGES, METHODS, Decoders, Shape
from book.experiments.positions.training import RATE, at_once, last_token_nats, machine, train
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
    "development": {
        "shape": BASE,
        "seeds": [100, 101],
        "steps": 600,
        "cells": [("sotu", 64)],
        "precision": "high",
    },
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
        "cells": [(text, trained) for trained in (64, 128) for text in TEXTS],
        "methods": FINAL,
        "precision": "high",  # that of the development runs
    },
    "quick": {"shape": SMALL, "seeds": [100], "steps": 10, "cells": [("sotu", 64)], "windows": 2},
}
TOKENS_A_STEP = 2048
KEPT = ("rope-learned-fourfold", "rope-alibi", "kerple-power", "alibi", "rope")  # --weights


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
    """The methods in batches of at most ``most``; those whose bias depends on the text apart."""
    by_data = [name for name in names if METHODS[name].learned == "fox"]
    others = [name for name in names if name not in by_data]
    return [kind[i : i + most] for kind in (others, by_data) for i in range(0, len(kind), most)]


def scored(models: Decoders, held: Tensor, times: int, count: int) -> list[list[float]]:
    """Nats a token at ``times`` the trained length: a list a method, one number a seed."""
    length = times * models.trained
    chosen = windows(held, length, models.trained * max(TIMES), count)
    nats = last_token_nats(models, chosen, SCORED, at_once(models, length))
    return nats.view(len(models.names), -1).tolist()


def run(
    names: list[str], text: str, trained: int, stage: dict, device: str, path: Path
) -> list[dict]:
    """Rows of one group: method, seed, trained length, times, nats a token, and on what machine."""
    seeds, shape, steps = stage["seeds"], stage["shape"], stage["steps"]
    ids = tokens_of(text, shape.vocab, path.parent)
    cut = int(0.95 * len(ids))
    models = Decoders(names, seeds, shape, trained, device)
    count = stage.get("windows", WINDOWS)
    started = time.perf_counter()

    def say(step: int, loss: Tensor) -> None:
        if step % 100 == 0 or step + 1 == steps:
            spent = time.perf_counter() - started
            print(f"  step {step + 1:5}, {spent:6.1f} s, loss {loss.mean():.3f}", flush=True)

    train(models, batches(ids[:cut], seeds, len(names), trained, device), steps, progress=say)
    spent = (time.perf_counter() - started) / len(models.methods)
    keep(models, path)
    rows: list[dict[str, Any]] = []

    def add(name: str, times: int, nats: list[float]) -> None:
        for seed, value in zip(seeds, nats, strict=True):
            row = {"text": text, "trained": trained, "method": name, "seed": seed, "times": times}
            row |= {"nats": round(value, 5), "seconds": round(spent, 2), "device": machine(device)}
            rows.append(row)

    for times in TIMES:
        for name, nats in zip(names, scored(models, ids[cut:], times, count), strict=True):
            add(name, times, nats)
    for name, change in CHANGES.items():
        if change.base not in names:
            continue
        one = models.changed(change, 1)
        if change.dropped:
            stream = batches(ids[:cut], seeds, 1, trained, device)
            train(one, stream, steps // 10, rate=RATE / 2)
        for times in TIMES:
            if not change.dropped:
                one = models.changed(change, times)
            add(name, times, scored(one, ids[cut:], times, count)[0])
    for row in rows:
        if row["times"] == 1 and (values := learned(models, row["method"], row["seed"])):
            row["learned"] = values
    print(f"  scored after {time.perf_counter() - started:.1f} s", flush=True)
    return rows


def keep(models: Decoders, path: Path) -> None:
    """Leave the weights of some methods at their first seed beside ``path``, in half precision."""
    half = {
        f"{name}/{key}": w[0].detach().half().cpu()
        for name in KEPT
        if name in models.names
        for key, w in models.part(name).weights.items()
    }
    if half:
        safetensors.torch.save_file(half, path.with_suffix(".safetensors"))


def learned(models: Decoders, name: str, seed: int) -> dict[str, list[list[float]]]:
    """What a method learned of its bias, (layers, heads) each."""
    if name not in models.names:
        return {}
    kind = METHODS[name].learned
    keys = {"slopes": ("slopes",), "kerple-log": ("p", "a"), "kerple-power": ("p", "a")}
    r = models.names.index(name) * len(models.seeds) + models.seeds.index(seed)
    values = {key: models.weights[key][r].detach() for key in keys.get(kind, ())}
    if "slopes" in values:
        values["slopes"] = torch.nn.functional.softplus(values["slopes"])
    return {k: [[round(x, 4) for x in layer] for layer in v.tolist()] for k, v in values.items()}


def stored(text: str, trained: int, device: str) -> set[str]:
    """The methods whose final rows are in the result already, from a machine like this one."""
    path = RESULTS / "positions_final.json"
    content = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    if content.get("machines", {}).get(f"{text}/{trained}") != machine(device):
        return set()
    return {row[2] for row in content["rows"] if (row[0], row[1]) == (text, trained)}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--stage", choices=sorted(STAGES), default="quick")
    parser.add_argument("--quick", action="store_true", help="a few steps of any stage")
    parser.add_argument("--only", help="methods, separated by commas")
    parser.add_argument("--most", type=int, default=16, help="methods trained as one batch")
    parser.add_argument("--text", help="only this text")
    parser.add_argument("--trained", type=int, help="only this trained length")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path, default=Path(".cache/positions"))
    options = parser.parse_args()
    stage: dict[str, Any] = STAGES[options.stage]  # type: ignore[assignment]
    if options.quick:
        stage = stage | {key: STAGES["quick"][key] for key in ("seeds", "steps", "windows")}
    torch.set_float32_matmul_precision(stage.get("precision", "highest"))
    names = options.only.split(",") if options.only else stage.get("methods", list(METHODS))
    options.out.mkdir(parents=True, exist_ok=True)
    kind = "quick" if options.quick else options.stage
    for text, trained in stage["cells"]:
        if options.text not in (None, text) or options.trained not in (None, trained):
            continue
        done = stored(text, trained, options.device) if options.stage == "final" else set()
        for group in groups([name for name in names if name not in done], options.most):
            path = options.out / f"language-{kind}-{text}-{trained}-{group[0]}.json"
            if path.is_file():
                continue
            print(f"{path.name}: {len(group)} methods x {len(stage['seeds'])} seeds", flush=True)
            rows = run(group, text, trained, stage, options.device, path)
            files.write_json(path, rows)


if __name__ == "__main__":
    main()
