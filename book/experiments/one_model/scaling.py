"""Savings of the cache and of drawn blocks in small decoders, against length, layers, key heads.

    python -m book.experiments.one_model.scaling     # genopt_core/tables/one_model_scaling.json

Bytes are counted in filled caches; seconds are processor seconds of one thread, the least of a few
turns that change places, of models that have learned nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch

from book.experiments.common.places import ROOT
from book.experiments.common.store import rounded, write_json
from genopt_core.one_model import ModelConfig
from genopt_core.torch.model import Decoder
from genopt_core.torch.model.serving import ModelCache

MODEL = ModelConfig(vocabulary=1024, heads=4, key_heads=2, block=32)
LADDER, CHUNK = (16, 8, 4, 2), 32
DENSITY = 0.5
LENGTHS = (512, 1024, 2048, 4096, 8192)
FIXED = 2048
LAYERS, KEY_HEADS = (1, 2, 4, 8), (1, 2, 4)
TURNS, WRITTEN = 3, 24
OUT = ROOT / "genopt_core" / "tables" / "one_model_scaling.json"


def shapes() -> list[tuple[str, int, ModelConfig, int]]:
    """What is varied, its value, the shape and the length."""
    return [
        *(("length", n, MODEL, n) for n in LENGTHS),
        *(("layers", n, replace(MODEL, layers=n), FIXED) for n in LAYERS),
        *(("key heads", n, replace(MODEL, key_heads=n), FIXED) for n in KEY_HEADS),
    ]


def least_seconds(calls: list[Callable[[], Any]]) -> list[float]:
    """Processor seconds of each call, the least of some turns, one after the other."""
    found = [float("inf")] * len(calls)
    for turn in range(TURNS + 1):
        for i, call in enumerate(calls):
            started = time.process_time()
            call()
            if turn:  # the first is a rehearsal
                found[i] = min(found[i], time.process_time() - started)
    return found


@torch.no_grad()
def reading(config: ModelConfig, length: int) -> list[float]:
    """Seconds to read a prompt with dense attention and with drawn blocks."""
    ids = torch.randint(config.vocabulary, (1, length), generator=torch.Generator().manual_seed(0))
    dense = Decoder(config).train()
    drawn = Decoder(replace(config, density=DENSITY)).train()  # blocks are drawn in training
    return least_seconds([lambda: dense(ids), lambda: drawn(ids)])


@torch.no_grad()
def writing(config: ModelConfig, length: int) -> list[Any]:
    """Bytes of a full cache and of the staircase, and seconds of a further token over each."""
    ids = torch.randint(config.vocabulary, (1, length), generator=torch.Generator().manual_seed(0))
    model, calls, held = Decoder(config).eval(), [], []
    for ladder in ((16,), LADDER):
        cache = ModelCache(config, ladder, chunk=CHUNK, full_dtype=torch.float16)
        for part in ids.split(512, 1):
            model(part, cache)
        held.append(cache.nbytes())

        def call(cache: ModelCache = cache) -> None:
            for _ in range(WRITTEN):
                model(ids[:, :1], cache)

        calls.append(call)
    return held + [rounded(seconds / WRITTEN, 4) for seconds in least_seconds(calls)]


def rows() -> list[list[Any]]:
    """One a shape: bytes and seconds without and with."""
    out = []
    for what, value, config, length in shapes():
        read, written = reading(config, length), writing(config, length)
        out.append([what, value, *written[:2], *(rounded(s, 4) for s in read), *written[2:]])
        print(*out[-1], flush=True)
    return out


def main() -> None:
    """Measure and store."""
    torch.set_num_threads(1)
    started = time.process_time()
    content = {
        "origin": "book/experiments/one_model/scaling.py",
        "model": MODEL.to_json(),
        "ladder": LADDER,
        "chunk": CHUNK,
        "density": DENSITY,
        "fixed": FIXED,
        "columns": [
            "over",
            "value",
            "full bytes",
            "staircase bytes",
            "dense reading",
            "drawn reading",
            "full writing",
            "staircase writing",
        ],
        "rows": rows(),
        "provenance": {
            "torch": torch.__version__,
            "threads": 1,
            "clock": "processor time",
            "cpu seconds": round(time.process_time() - started),
        },
    }
    write_json(OUT, content)


if __name__ == "__main__":
    main()
