"""Time of the staircase cache: rotated-space attention, decoding, prefill, stepping down.

    python -m book.experiments.kvcache.speed [--tokens 4096] [--decode 24] [--quick] [--compiled]

Writes book/data/results/kv_speed.json.  One thread, and CPU time of that thread rather than the
clock, so that other work on the machine hardly matters; caches take turns and the least of
their times counts.  About 4 CPU-minutes; ``--quick`` 30 seconds, and writes nothing.
``--compiled`` measures decoding with and without numba's kernels alone, as ratios to the full cache
at the same step, their median and quartiles, and leaves everything else in the file as it is.
"""

from __future__ import annotations

import math
import platform
import statistics
import time

import torch
import transformers
from torch.nn.functional import scaled_dot_product_attention
from transformers import DynamicCache, LlamaConfig

from book.experiments.common.main import parser
from book.experiments.common.places import RESULTS
from book.experiments.common.store import provenance, read
from book.experiments.kvcache.layer_times import FULL, ratios
from genopt_core import corpora
from genopt_core.files import write_json
from genopt_core.kvcache import levels
from genopt_core.torch.kvcache import StaircaseCache
from genopt_core.torch.kvcache.attention import attend_view, register
from genopt_core.torch.kvcache.codec import Chunks, RotatedCodec, unpack
from genopt_core.torch.smollm import load_smollm

TARGET = RESULTS / "kv_speed.json"


def fastest(calls: dict, rounds: int) -> dict[str, float]:
    """Least CPU milliseconds of each, taking turns."""
    best = dict.fromkeys(calls, math.inf)
    for _ in range(rounds):
        for name, call in calls.items():
            start = time.thread_time()
            call()
            best[name] = min(best[name], 1e3 * (time.thread_time() - start))
    return best


def naive_restore(codec: RotatedCodec, packed: Chunks, table: torch.Tensor) -> torch.Tensor:
    """What a cache does that knows nothing: unpack, look up, scale, turn back, add the mean."""
    codes = unpack(packed.planes, packed.bits)
    gain, *mean = (t.float() for t in packed.meta)
    x = (table[codes.long()] * gain) @ codec.rotation.T
    if mean:
        x = (x.unflatten(-2, (packed.chunks, -1)) + mean[0].unsqueeze(-2)).flatten(-3, -2)
    return x


def kernels(tokens: int, rounds: int) -> list[dict]:
    """One query of 32 heads over 8 key/value heads of 64 channels, at one width."""
    rows = []
    config = LlamaConfig(
        hidden_size=2048, num_attention_heads=32, num_key_value_heads=8, num_hidden_layers=1
    )
    g = torch.Generator().manual_seed(5)
    k, v = (torch.randn(1, 8, tokens, 64, generator=g) for _ in range(2))
    q = torch.randn(1, 32, 1, 64, generator=g)
    for bits in (2, 3, 4, 8):
        cache = StaircaseCache(config, (16, bits), sink=0)
        cache.update(k, v, 0)
        layer = cache.stair_layers[0]
        view = layer.view(k[:, :, :0], v[:, :, :0])
        table = torch.from_numpy(levels(bits)).float()

        def packed_attention(view=view):
            return attend_view(q, view, 64**-0.5, None)

        def naive(layer=layer, table=table):
            key, value = (
                torch.cat(
                    [
                        naive_restore(layer.codecs[side], getattr(s, side), table)
                        for s in layer.segments
                    ],
                    -2,
                )
                for side in ("key", "value")
            )
            return scaled_dot_product_attention(q, key, value, enable_gqa=True)

        torch.testing.assert_close(packed_attention(), naive(), atol=1e-4, rtol=1e-3)
        times = fastest(
            {
                "rotated space": packed_attention,
                "naive": naive,
                "sdpa, full precision": lambda: scaled_dot_product_attention(
                    q, k, v, enable_gqa=True
                ),
            },
            rounds,
        )
        ratio = times["naive"] / times["rotated space"]
        rows.append({"bits": bits, "tokens": tokens, "ms": times, "naive over rotated": ratio})
        print(f"{bits} bits: " + ", ".join(f"{n} {t:.2f} ms" for n, t in times.items()), flush=True)
    return rows


def whole_model(tokens: int, decode: int) -> dict:
    """Decoding with each cache at ``tokens`` tokens of context, in turns, and stepping."""
    tokenizer, model = load_smollm()
    packed = register()
    text = corpora.load("moby-dick")[30_000 : 30_000 + 6 * tokens + 4000]
    ids = tokenizer(text, return_tensors="pt").input_ids
    full = DynamicCache(config=model.config)
    with torch.no_grad():
        for at in range(0, tokens, 512):
            model(ids[:, at : min(at + 512, tokens)], past_key_values=full, logits_to_keep=1)
    caches = {
        "DynamicCache": ("sdpa", full),
        "SAQ+ 16/8/4/2": (packed, StaircaseCache(model.config)),
        "SAQ+ K 16/4/4/4/4/3 V 16/4/4/3/3/2": (
            packed,
            StaircaseCache(model.config, (16, 4, 4, 4, 4, 3), (16, 4, 4, 3, 3, 2)),
        ),
        "SAQ+ 16/8/4/2, restored each step": ("sdpa", StaircaseCache(model.config)),
    }
    for name, (_, cache) in caches.items():
        if cache is not full:
            for i, layer in enumerate(full.layers):
                cache.update(layer.keys, layer.values, i)
        print(f"{name}: {cache.get_seq_length()} tokens", flush=True)
    samples: dict[str, list[float]] = {name: [] for name in caches}
    for step in range(decode):
        token = ids[:, tokens + step : tokens + step + 1]
        for name, (attention, cache) in caches.items():
            model.set_attn_implementation(attention)
            start = time.thread_time()
            with torch.no_grad():
                model(token, past_key_values=cache)
            samples[name].append(1e3 * (time.thread_time() - start))
    times = {name: statistics.median(row) for name, row in samples.items()}
    least = {name: min(row) for name, row in samples.items()}
    stepping = stepping_share(model.config, full, least["SAQ+ 16/8/4/2"])
    for name in times:
        print(f"{name}: median {times[name]:.1f} ms, least {least[name]:.1f} ms", flush=True)
    return {
        "tokens": tokens,
        "median ms": times,
        "least ms": least,
        "over DynamicCache": {n: t / least["DynamicCache"] for n, t in least.items()},
        "stepping": stepping,
    }


@torch.no_grad()
def compiled_rows(tokens: int, decode: int, warm: int = 2) -> dict:
    """Decoding at ``tokens`` tokens with and without compiled kernels, in turns."""
    tokenizer, model = load_smollm()
    text = corpora.load("moby-dick")[30_000 : 30_000 + 6 * tokens + 4000]
    ids = tokenizer(text, return_tensors="pt").input_ids
    full = DynamicCache(config=model.config)
    for part in ids[:, :tokens].split(512, dim=1):
        model(part, past_key_values=full, logits_to_keep=1)
    every: dict = {FULL: ("sdpa", full)}
    for keys, values in (((16, 8, 4, 2), None), ((16, 4, 4, 4, 4, 3), (16, 4, 4, 3, 3, 2))):
        sides = ["/".join(map(str, side)) for side in (keys, values) if side]
        name = "SAQ+ " + (f"K {sides[0]} V {sides[1]}" if values else sides[0])
        for end, attention in (("", register()), (", compiled", register(compiled=True))):
            cache = StaircaseCache(model.config, keys, values)
            for i, layer in enumerate(full.layers):
                cache.update(layer.keys, layer.values, i)
            every[name + end] = attention, cache
    samples: dict[str, list[float]] = {name: [] for name in every}
    for token in ids[:, tokens : tokens + warm + decode].split(1, dim=1):
        for name, (attention, cache) in every.items():
            model.set_attn_implementation(attention)
            start = time.thread_time()
            model(token, past_key_values=cache)
            samples[name].append(1e3 * (time.thread_time() - start))
    return {
        "tokens": tokens,
        "steps": decode,
        "caches": ratios({name: row[warm:] for name, row in samples.items()}),
        "provenance": provenance(("numba", "numpy", "torch", "transformers")),
    }


def prefill(tokens: int, step: int = 512) -> dict:
    """CPU seconds to read a prompt in steps, once with each cache."""
    tokenizer, model = load_smollm()
    text = corpora.load("moby-dick")[30_000 : 30_000 + 6 * tokens + 4000]
    ids = tokenizer(text, return_tensors="pt").input_ids[:, :tokens]
    caches = {
        "DynamicCache": ("sdpa", DynamicCache(config=model.config)),
        "SAQ+ 16/8/4/2": (register(), StaircaseCache(model.config)),
    }
    seconds = {}
    for name, (attention, cache) in caches.items():
        model.set_attn_implementation(attention)
        start = time.thread_time()
        with torch.no_grad():
            for at in range(0, tokens, step):
                model(ids[:, at : at + step], past_key_values=cache, logits_to_keep=1)
        seconds[name] = time.thread_time() - start
        print(f"prefill of {tokens}, {name}: {seconds[name]:.1f} s", flush=True)
    return {"tokens": tokens, "step": step, "seconds": seconds}


def stepping_share(config, full: DynamicCache, decode_ms: float) -> dict:
    """Milliseconds that closing a chunk costs per token, and its share of a decode step."""
    cache = StaircaseCache(config)
    for i, layer in enumerate(full.layers):
        cache.update(layer.keys, layer.values, i)
    config._attn_implementation = register()  # so that update restores nothing
    chunk, times = cache.settings.chunk, {"plain": [], "closing": []}
    for t in range(3 * chunk):
        closing = cache.layers[0].keys.shape[-2] == chunk - 1
        new = [(x.keys[:, :, t : t + 1], x.values[:, :, t : t + 1]) for x in full.layers]
        start = time.thread_time()
        for i, (k, v) in enumerate(new):
            cache.update(k, v, i)
        times["closing" if closing else "plain"].append(1e3 * (time.thread_time() - start))
    per_token = (min(times["closing"]) - min(times["plain"])) / chunk
    print(f"stepping: {per_token:.3f} ms a token, {per_token / decode_ms:.2%} of decoding")
    return {"ms per token": per_token, "share of a decode step": per_token / decode_ms}


def main() -> None:
    arguments = parser(__doc__, "quick")
    arguments.add_argument("--compiled", action="store_true")
    arguments.add_argument("--tokens", type=int, default=4096)
    arguments.add_argument("--decode", type=int, default=24)
    options = arguments.parse_args()
    torch.set_num_threads(1)
    stored = read(TARGET) if TARGET.is_file() else {}
    if options.compiled:
        tokens, decode = (256, 3) if options.quick else (options.tokens, options.decode)
        found = compiled_rows(tokens, decode)
        print(found["caches"])
        if not options.quick:
            write_json(TARGET, stored | {"compiled": found}, indent=1)
        return
    started = time.process_time()
    result = {
        "kernels": kernels(2048 if options.quick else 8192, 3 if options.quick else 12),
        "model": whole_model(
            256 if options.quick else options.tokens, 3 if options.quick else options.decode
        ),
        "prefill": prefill(512 if options.quick else 2048),
        "provenance": {
            "script": "book/experiments/kvcache/speed.py",
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "machine": platform.processor() or platform.machine(),
            "clock": "CPU time of one thread",
            "cpu seconds": round(time.process_time() - started),
        },
    }
    if options.quick:
        return
    result |= {name: row for name, row in stored.items() if name == "compiled"}
    write_json(TARGET, result, indent=1)
    print(f"wrote {TARGET}")


if __name__ == "__main__":
    main()
