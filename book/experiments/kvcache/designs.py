"""The caches that `quality` compares: KIVI, fp8, HQQ, Quanto, flat rotation, SAQ and SAQ+."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from transformers import DynamicCache, LlamaConfig, QuantizedCache

from book.experiments.common.places import RESULTS
from book.experiments.common.store import read
from genopt_core.kvcache import cache_bits, metadata_bits
from genopt_core.torch.kvcache import StaircaseCache
from genopt_core.torch.kvcache.calibration import choose_ladders

STEP = 128
"""Tokens of a chunk, and of a step of decoding."""

BUDGETS = (2.35, 2.85, 3.35, 4.3, 5.0)
"""Bits per element in the limit."""
LAYERS = RESULTS / "kv_layers.json"
"""What each layer costs on each ladder, by `layers`."""


@dataclass(frozen=True)
class Design:
    """A cache: how to make it, and its bits per element in the limit."""

    name: str
    family: str
    make: Callable[[Any], Any]
    limit: float
    held: Callable[[int], float]
    """Bits per element at a length, the parts in full precision at 16."""
    layers: int = 1
    """Layers that a model must have: 1 means any number."""


def staircase(name: str, family: str, keys, values=None, **options) -> Design:
    """A StaircaseCache as a design; ladders may be one a layer."""

    def make(config):
        return StaircaseCache(config, keys, values, full_dtype=torch.float16, **options)

    layers = len(keys) if isinstance(keys[0], tuple) else 1
    plain = {name: option for name, option in options.items() if name != "balance"}
    probe = StaircaseCache(llama_config(layers), keys, values, full_dtype=torch.float16, **plain)

    def held(length: int) -> float:
        total, now = 0.0, probe.settings
        for layer in probe.stair_layers:
            for side, ladder in layer.ladders.items():
                meta = metadata_bits(
                    now.codec, side, dim=64, chunk=now.chunk, group_size=now.group_size
                )
                total += cache_bits(length, ladder, now.chunk, metadata=meta, sink=now.sink)
        return total / (2 * layers * length)

    return Design(name, family, make, probe.limit_bits(), held, layers)


def llama_config(layers: int) -> LlamaConfig:
    """Heads of the measured model."""
    return LlamaConfig(
        hidden_size=576, num_attention_heads=9, num_key_value_heads=3, num_hidden_layers=layers
    )


def layered(result: dict, budget: float) -> dict[str, list[str]]:
    """Ladders of keys and of values, layer by layer, from the costs of kv_layers.json."""
    costs = np.mean([np.array(c) for c in result["costs"].values()], axis=0)
    chosen = choose_ladders(llama_config(len(costs)), costs, budget, result["ladders"])
    return {
        side: ["/".join(map(str, ladder)) for ladder in ladders]
        for side, ladders in zip(("keys", "values"), chosen, strict=True)
    }


def layered_designs() -> list[Design]:
    """SAQ+ with a ladder for each side of each layer, one design a budget."""
    if not LAYERS.is_file():
        return []
    result = read(LAYERS)
    found = []
    for budget, sides in result.get("chosen", {}).items():
        ladders = (
            [tuple(map(int, ladder.split("/"))) for ladder in sides[side]]
            for side in ("keys", "values")
        )
        found.append(staircase(f"SAQ+ by layer, {budget} bits", "SAQ+", *ladders))
    return found


def kivi(bits: int, group: int) -> Design:
    meta = 32 / group

    def held(length: int) -> float:
        keys = cache_bits(length, (16, bits), STEP, metadata=meta)
        values = 16 * min(length, STEP) + max(0, length - STEP) * (bits + meta)
        return (keys + values) / 2 / length

    base = staircase(
        f"KIVI-{bits} G{group} R128",
        "KIVI",
        (16, bits),
        (16, 16, bits),
        sink=0,
        codec="grid",
        group_size=group,
    )
    return Design(base.name, "KIVI", base.make, bits + meta, held)


def quantized(backend: str, bits: int | None) -> Design:
    options = {} if bits is None else {"nbits": bits}
    if backend == "hqq":
        options |= {"axis_key": 1, "axis_value": 1}  # its other axis is far worse here
    name = f"{backend} int{bits} G64 R128" if bits else "fp8 (e4m3)"
    limit = bits + 32 / 64 if bits else 8.0

    return Design(
        name,
        backend,
        lambda config: QuantizedCache(backend=backend, config=config, **options),
        limit,
        lambda length: limit,  # its residual of up to 128 tokens is not counted against it
    )


def designs() -> list[Design]:
    """All designs; SAQ+ candidates from short to long stairs at each floor."""
    full = Design("full", "full", lambda config: DynamicCache(config=config), 16.0, lambda n: 16.0)
    peers = [
        full,
        *(kivi(b, g) for b, g in ((4, 32), (4, 64), (2, 32), (2, 64))),
        quantized("fp8", None),
        *(quantized(n, b) for n in ("hqq", "quanto") for b in (4, 2)),
        *(staircase(f"rotated flat {b}", "flat rotation", (16, b), sink=0) for b in (2, 3, 4)),
        staircase("rotated flat K3 V2", "flat rotation", (16, 3), (16, 2), sink=0),
    ]
    plain = [
        staircase("SAQ 16/8/4/2 G32", "SAQ", (16, 8, 4, 2), sink=0, codec="grid"),
        staircase("SAQ 16/8/4/2 G64", "SAQ", (16, 8, 4, 2), sink=0, codec="grid", group_size=64),
        staircase("SAQ 16/8/4 G32", "SAQ", (16, 8, 4), sink=0, codec="grid"),
        staircase("SAQ 16/8/4/2 G32, 4 sinks", "SAQ", (16, 8, 4, 2), codec="grid"),
    ]
    plus = []
    for keys, values in (
        ((8, 4, 2), (8, 4, 2)),
        ((4, 4, 3, 3, 2), (4, 4, 3, 3, 2)),
        ((4, 4, 4, 4, 3, 3, 2), (4, 4, 3, 3, 2)),
        ((4, 4, 4, 4, 3), (4, 4, 3, 3, 2)),
        ((*(4,) * 6, 3), (*(4,) * 4, *(3,) * 4, 2)),
        ((4, 4, 4, 4, 3), (4, 4, 4, 3)),
        ((8, 4), (8, 4, 3)),
        ((8, 4), (8, 4)),
    ):
        keys, values = (16, *keys), (16, *values)
        name = f"SAQ+ K {'/'.join(map(str, keys))} V {'/'.join(map(str, values))}"
        plus.append(staircase(name, "SAQ+", keys, values))
    name = "SAQ+ chunk 256 K 16/8/4 V 16/8/4"  # its metadata take less: 4.28 bits
    plus.append(staircase(name, "SAQ+", (16, 8, 4), (16, 8, 4), chunk=256))
    return [*peers, *plain, *plus, *more_candidates(), *layered_designs()]


def more_candidates() -> list[Design]:
    """SAQ+ for the budgets from 3.35 to 5: longer stairs, and keys of 8 bits in ten layers.

    Rotated codes have no width between 4 and 8, so what a budget of 5 leaves is given to the keys
    of a third of the layers.  Which third is itself a choice for the calibration text.
    """
    found = [
        staircase(f"SAQ+ {name}", "SAQ+", (16, *keys), (16, *values), chunk=chunk)
        for name, keys, values, chunk in (
            ("K 16/8/4 V 16/4/4/4/4/3", (8, 4), (4, 4, 4, 4, 3), 128),
            ("K 16/8/8/8/4 V 16/8/8/8/4", (8, 8, 8, 4), (8, 8, 8, 4), 128),
            ("chunk 256 K 16/8/8/4 V 16/8/8/4", (8, 8, 4), (8, 8, 4), 256),
        )
    ]
    for name, layers in (
        ("layers 1-10", range(10)),
        ("layers 21-30", range(20, 30)),
        ("every third layer", range(0, 30, 3)),
    ):
        keys = [(16, 8) if i in layers else (16, 8, 8, 4) for i in range(30)]
        name = f"SAQ+ K 16/8/8/4 V 16/8/8/4, K 16/8 in {name}"
        found.append(staircase(name, "SAQ+", keys, (16, 8, 8, 4)))
    return found
