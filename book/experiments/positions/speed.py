"""Time and memory of distance biases without a square, against RoPE + ALiBi by an additive mask.

    python -m book.experiments.positions.speed [--rounds 5] [--quick]

Writes book/data/results/positions_speed.json.  One thread, and CPU time of that thread rather than
the clock, so that other work on the machine hardly matters.  What is compared takes turns; a ratio
is that of the same turn, given as middle, smallest and largest.  About 7 CPU-minutes, of which most
for SmolLM2; ``--quick`` half a minute, and writes nothing.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from transformers import DynamicCache

from book.experiments.common.main import parser
from book.experiments.common.pairing import spread
from book.experiments.common.places import RESULTS
from book.experiments.common.store import provenance, write_results
from genopt_core import corpora
from genopt_core.integrations.positions import use
from genopt_core.positions import bias, inverse_frequencies, slopes
from genopt_core.torch.positions import (
    Encoding,
    biased_attention,
    encoding,
    rotary_angles,
    rotate,
)
from genopt_core.torch.smollm import load_smollm

TARGET = RESULTS / "positions_speed.json"
HEADS, DIM = 8, 64
STOCK = "RoPE + ALiBi by additive mask"
OURS: dict[str, Callable[[int], Encoding]] = {
    "RoPE + ALiBi": lambda heads: encoding("rope+alibi", heads),
    "RoPE + harmonic slopes": lambda heads: encoding("rope+harmonic", heads),
    "RoPE + harmonic distance": lambda heads: encoding("rope+harmonic", heads, distance="harmonic"),
    "RoPE + KERPLE-log": lambda heads: encoding("rope+kerple-log", heads),
    "RoPE + learned slopes": lambda heads: encoding("rope+harmonic", heads, learned=True),
    "RoPE + learned KERPLE-log": lambda heads: encoding("rope+kerple-log", heads, learned=True),
}


def in_turns(calls: dict[str, Callable[[], object]], rounds: int, base: str) -> dict[str, dict]:
    """Least milliseconds of each, and the ratios to ``base`` turn by turn."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(rounds + 1):
        for name, call in calls.items():
            start = time.thread_time()
            call()
            if turn:  # the first makes tables and warms caches
                times[name].append(1e3 * (time.thread_time() - start))
    return {
        name: {
            "least ms": round(min(row), 3),
            "ratio": spread([a / b for a, b in zip(row, times[base], strict=True)]),
        }
        for name, row in times.items()
    }


def held(call: Callable[[], object]) -> int:
    """Bytes that autograd holds after a call, each storage once."""
    storages: dict[int, torch.UntypedStorage] = {}

    def pack(tensor: Tensor) -> Tensor:
        storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        _kept = call()
    return sum(storage.nbytes() for storage in storages.values())


def kernels(tokens: int, rounds: int, flushed: bool) -> list[dict]:
    """Rotation and attention of eight heads of 64 channels: forward, and with the way back.

    A steep bias makes weights below the normal numbers, on which the processor is several times as
    slow; with ``flushed`` it takes them for 0, which is kinder to the mask.
    """
    torch.set_flush_denormal(flushed)
    g = torch.Generator().manual_seed(3)
    states = [torch.randn(1, HEADS, tokens, DIM, generator=g) for _ in range(3)]
    angles = rotary_angles(range(tokens), inverse_frequencies(DIM))
    square = torch.from_numpy(bias(slopes(HEADS), tokens).copy()).float()[None]
    encodings = {name: make(HEADS) for name, make in OURS.items()}

    def attend(name: str, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        q, k = rotate(q, angles), rotate(k, angles)
        if name == STOCK:
            return scaled_dot_product_attention(q, k, v, attn_mask=square)
        if name == "RoPE":
            return scaled_dot_product_attention(q, k, v, is_causal=True)
        return biased_attention(q, k, v, encodings[name].bias)

    def forward(name: str) -> None:
        with torch.no_grad():
            attend(name, *states)

    def there(name: str) -> Tensor:
        return attend(name, *(x.detach().requires_grad_() for x in states))

    def both(name: str) -> None:
        there(name).sum().backward()

    with torch.no_grad():
        torch.testing.assert_close(
            attend("RoPE + ALiBi", *states), attend(STOCK, *states), atol=1e-5, rtol=0
        )
    names = (STOCK, "RoPE", *OURS)
    rows = []
    for what, call, count in (("forward", forward, rounds), ("with gradients", both, rounds // 2)):
        calls = {name: (lambda name=name, call=call: call(name)) for name in names}
        for name, row in in_turns(calls, max(2, count), STOCK).items():
            row = {"tokens": tokens, "what": what, "flushed": flushed, "name": name, **row}
            if what == "with gradients":
                row["bytes held"] = held(lambda name=name: there(name))
            rows.append(row)
            print(row, flush=True)
    torch.set_flush_denormal(False)
    return rows


def prefill(model, ids: Tensor, tokens: int, rounds: int) -> list[dict]:
    """The whole of SmolLM2 over a text, without a cache."""
    heads = model.config.num_attention_heads
    square = torch.from_numpy(bias(slopes(heads), tokens).copy()).float()[None]
    encodings = {name: make(heads) for name, make in list(OURS.items())[:4]}

    def call(name: str) -> None:
        use(model, encodings.get(name))
        given = {"attention_mask": square} if name == STOCK else {}
        model(ids[:, :tokens], use_cache=False, logits_to_keep=1, **given)

    names = (STOCK, "RoPE", *encodings)
    calls = {name: (lambda name=name: call(name)) for name in names}
    rows = [
        {"tokens": tokens, "name": name, **row}
        for name, row in in_turns(calls, rounds, STOCK).items()
    ]
    print(*rows, sep="\n", flush=True)
    return rows


def decoding(model, ids: Tensor, tokens: int, steps: int) -> list[dict]:
    """One token after the other behind a cache of ``tokens``; stock is RoPE, as it comes."""
    heads = model.config.num_attention_heads
    encodings = {name: make(heads) for name, make in list(OURS.items())[:4]}
    first = DynamicCache(config=model.config)
    use(model, None)
    for at in range(0, tokens, 512):
        model(ids[:, at : min(at + 512, tokens)], past_key_values=first, logits_to_keep=1)
    times: dict[str, list[float]] = {}
    caches = {}
    for name in ("RoPE", *encodings):  # the time does not depend on what the states are
        caches[name], times[name] = DynamicCache(config=model.config), []
        for i, layer in enumerate(first.layers):
            caches[name].update(layer.keys, layer.values, i)
    for step in range(steps + 1):
        token = ids[:, tokens + step : tokens + step + 1]
        for name, cache in caches.items():
            use(model, encodings.get(name))
            start = time.thread_time()
            model(token, past_key_values=cache)
            if step:
                times[name].append(1e3 * (time.thread_time() - start))
    rows = []
    for name, row in times.items():
        ratios = [a / b for a, b in zip(row, times["RoPE"], strict=True)]
        rows.append(
            {
                "tokens": tokens,
                "name": name,
                "median ms": round(statistics.median(row), 2),
                "least ms": round(min(row), 2),
                "ratio of least": round(min(row) / min(times["RoPE"]), 4),
                "ratio": spread(ratios),
            }
        )
        print(rows[-1], flush=True)
    return rows


def main() -> None:
    arguments = parser(__doc__, "quick")
    arguments.add_argument("--rounds", type=int, default=5)
    options = arguments.parse_args()
    torch.set_num_threads(1)
    quick = options.quick
    started = time.process_time()
    lengths = (256, 512) if quick else (1024, 2048, 4096)
    rows = [
        row
        for n in lengths
        for flushed in (False, True)
        for row in kernels(n, 2 if quick else options.rounds, flushed)
    ]
    tokenizer, model = load_smollm()
    text = corpora.load("moby-dick")[30_000:70_000]
    ids = tokenizer(text, return_tensors="pt").input_ids
    with torch.no_grad():
        whole = [
            row
            for n in ((128,) if quick else (2048,))
            for row in prefill(model, ids, n, 1 if quick else 2)
        ]
        steps = [
            row
            for n in ((128,) if quick else (1024, 4096))
            for row in decoding(model, ids, n, 3 if quick else 24)
        ]
    if quick:
        return
    size = write_results(
        TARGET,
        {
            "kernels": rows,
            "prefill": whole,
            "decoding": steps,
            "shape": {"heads": HEADS, "head_dim": DIM, "batch": 1, "dtype": "float32"},
            "clock": "CPU time of one thread; ratio: middle, smallest, largest of the turns",
            "cpu_seconds": round(time.process_time() - started),
            "provenance": provenance(("genopt-core", "numpy", "torch", "transformers")),
        },
    )
    print(f"wrote {TARGET}: {size} bytes")


if __name__ == "__main__":
    main()
