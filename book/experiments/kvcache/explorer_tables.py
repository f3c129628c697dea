"""Make the tables of chapter 5's explorers, from the real keys and values and stored results.

    python -m book.experiments.kvcache.explorer_tables            # from book/data/kv_smollm2.npz
    python -m book.experiments.kvcache.explorer_tables --results  # only copy stored results again
    python -m book.experiments.kvcache.explorer_tables --check    # only compare

All numbers are of SmolLM2-135M on 512 tokens of Moby-Dick (made by `fixture`): layers 0, 12 and 27,
9 query heads each, queries from token 448 on; the cache as it stands at the end.
``kv_layers``, ``kv_quality``, ``kv_answers``, ``kv_recall`` and ``kv_away`` are copied from the
results in ``book/data/results``, whose SHA-256 is stored with them.
"""

import base64
import itertools
import math
import re
import sys
from collections.abc import Sequence
from statistics import fmean
from typing import Any, Literal

import numpy as np

from book.ch5_kvcache import results
from book.experiments.common.main import parser
from book.experiments.common.places import RESULTS, TABLES
from book.experiments.common.store import read, rounded, sha256, write_or_check
from book.experiments.kvcache.sensitivity import FIXTURE
from genopt_core.kvcache import (
    FULL,
    GridCodec,
    RotatedCodec,
    dequantize_groups,
    drop_low_bits,
    hadamard_rotation,
    quantize_groups,
    recode,
    rescale,
    width_at,
)

PER: tuple[Literal["channel", "token"], ...] = ("channel", "token")
QUALITY = RESULTS / "kv_quality.json"
LAYERS = RESULTS / "kv_layers.json"
RECALL = RESULTS / "kv_recall.json"
RECALL_WINDOWS = RESULTS / "kv_recall_windows.json"
DOMAINS = RESULTS / "kv_domains.json"
SENSITIVITY = RESULTS / "kv_sensitivity.json"
SPEED = RESULTS / "kv_speed.json"
BLOCK_LAYER, BLOCK_HEAD, BLOCK_TOKENS = 1, 2, 64
LADDERS = (
    (16, 2),
    (16, 8, 4, 2),
    (16, 4, 4, 3, 3, 2),
    (16, 8, 4, 3),
    (16, 4),
    (16, 8),
)
CODECS = ("grid 32", "grid 64", "rotated")
CHUNKS, SINKS, WIDTHS = (64, 128), (0, 4), (2, 3, 4, 8)
# Designs are measured on 508 tokens: equally many chunks are closed with and without 4 sinks.
LENGTH = 508
BIN = 64
DIGITS = 5

Array = np.ndarray


class Heads:
    """Queries, keys and values of all heads, with their exact attention."""

    def __init__(self, length: int = 512) -> None:
        data = np.load(FIXTURE)
        self.k, self.v = (data[name][:, :, :length].astype(np.float32) for name in "KV")
        queries = data["Q"].astype(np.float32).reshape(3, 3, 3, 64, 64)
        self.q = queries[..., : 64 - (512 - length), :]  # layer, kv head, query head, query, dim
        self.visible = np.arange(length) <= np.arange(448, length)[:, None]
        self.p = self.weights(self.k)
        self.o = self.p @ self.v[:, :, None]
        self.size = np.square(self.o).sum(-1)  # (layer, kv head, query head, queries)

    def weights(self, keys: Array) -> Array:
        """Causal attention weights ``(layer, kv head, query head, queries, tokens)``."""
        score = self.q @ np.swapaxes(keys, -1, -2)[:, :, None] / 8
        score = np.where(self.visible, score, -np.inf)
        weight = np.exp(score - score.max(axis=-1, keepdims=True))
        return weight / weight.sum(axis=-1, keepdims=True)

    def error(self, keys: Array, values: Array) -> float:
        """Root mean square relative error of the attention output."""
        out = self.weights(keys) @ values[:, :, None]
        return math.sqrt((np.square(out - self.o).sum(-1) / self.size).mean())

    def value_terms(self, values: Array) -> Array:
        """Each token's expected share of the squared relative error, if errors are uncorrelated."""
        off = np.square(values - self.v).sum(-1)[:, :, None, None]
        return (self.p**2 * off / self.size[..., None]).mean(axis=(0, 1, 2, 3))

    def key_terms(self, keys: Array) -> Array:
        """The same for keys: a wrong score moves weight between a value and the output."""
        score = self.q @ np.swapaxes(keys - self.k, -1, -2)[:, :, None] / 8
        away = np.square(self.v[:, :, None, None] - self.o[..., None, :]).sum(-1)
        return ((self.p * score) ** 2 * away / self.size[..., None]).mean(axis=(0, 1, 2, 3))


def codec_of(name: str, side: Any) -> GridCodec | RotatedCodec:
    """The codec that a name such as "grid 32" means."""
    if name == "rotated":
        return RotatedCodec(side, hadamard_rotation(64, np.random.default_rng(0)))
    return GridCodec(side, int(name.split()[1]))


def restored(x: Array, codec: Any, ladder: tuple[int, ...], chunk: int, sink: int) -> Array:
    """Keys or values as a cache restores them that has stepped them down the whole ladder."""
    out, closed = x.copy(), (x.shape[2] - sink) // chunk
    for i in range(1, closed + 1):
        first = sink + (closed - i) * chunk
        if width_at(i, ladder) != FULL:
            packed = codec.encode(x[:, :, first : first + chunk], ladder[1])
            for j in range(2, min(i, len(ladder) - 1) + 1):
                packed = codec.step(packed, ladder[j]) if ladder[j] != packed.bits else packed
            out[:, :, first : first + chunk] = codec.decode(packed)
    return out


def edges(length: int, sink: int) -> list[int]:
    """Borders of the bins of tokens: sinks apart, then bins aligned with the chunks."""
    return [*([0] if sink else []), *range(sink, length, BIN), length]


def age_terms(heads: Heads) -> dict[str, Any]:
    """Expected squared error that each bin of tokens adds, by codec, chunk, sinks, side, width."""
    length, table = heads.k.shape[2], {}
    for name, chunk, sink in itertools.product(CODECS, CHUNKS, SINKS):
        cuts = edges(length, sink)
        entry: dict[str, Any] = {"edges": cuts}
        for side, x, terms in (
            ("key", heads.k, heads.key_terms),
            ("value", heads.v, heads.value_terms),
        ):
            codec = codec_of(name, side)
            for bits in WIDTHS:
                y = x.copy()
                for at in range(sink, length - chunk + 1, chunk):
                    part = codec.encode(x[:, :, at : at + chunk], bits)
                    y[:, :, at : at + chunk] = codec.decode(part)
                token = terms(y)
                entry[f"{side} {bits}"] = [
                    float(f"{token[a:b].sum():.{DIGITS}g}") for a, b in itertools.pairwise(cuts)
                ]
        table[f"{name}, chunk {chunk}, {sink} sinks"] = entry
    return table


def measured_designs(heads: Heads) -> dict[str, list[list[float]]]:
    """Output error of every design: a row for each key ladder, a column for each value ladder."""
    out = {}
    for name, chunk, sink in itertools.product(CODECS, CHUNKS, SINKS):
        keys = [restored(heads.k, codec_of(name, "key"), lad, chunk, sink) for lad in LADDERS]
        values = [restored(heads.v, codec_of(name, "value"), lad, chunk, sink) for lad in LADDERS]
        weights = [heads.weights(k) for k in keys]
        rows = []
        for p in weights:
            outs = [np.square(p @ v[:, :, None] - heads.o).sum(-1) / heads.size for v in values]
            rows.append([float(f"{math.sqrt(o.mean()):.{DIGITS}g}") for o in outs])
        out[f"{name}, chunk {chunk}, {sink} sinks"] = rows
        print(name, chunk, sink, flush=True)
    return out


def groupings(heads: Heads) -> dict[str, list[float]]:
    """Element and output error of one side quantized alone: per channel, per token, with sinks."""
    out = {}
    for side, x in (("key", heads.k), ("value", heads.v)):
        for per, bits, sink in itertools.product(PER, (1, 2, 3, 4, 8), SINKS):
            y = x.copy()
            # sinks keep their place in the group: only what is restored differs
            y[:, :, :] = dequantize_groups(*quantize_groups(x, bits, 32, per=per), per=per)
            y[:, :, :sink] = x[:, :, :sink]
            element = (np.square(y - x).mean(axis=(2, 3)) / np.square(x).mean(axis=(2, 3))).mean()
            error = heads.error(y, heads.v) if side == "key" else heads.error(heads.k, y)
            out[f"{side} {per} {bits}, {sink} sinks"] = [
                float(f"{v:.{DIGITS}g}") for v in (math.sqrt(element), error)
            ]
    return out


def narrowed(heads: Heads) -> dict[str, list[float]]:
    """Element and output error of keys taken from 8 to 2 bits, re-coded or with bits dropped."""
    out = {}
    codes, step, low = quantize_groups(heads.k, 8, 32)
    for method, sink in itertools.product(("recode", "drop"), SINKS):
        if method == "recode":
            narrow = recode(recode(codes, 8, 4), 4, 2)
            y = dequantize_groups(narrow, rescale(step, 8, 2), low)
        else:
            y = dequantize_groups(drop_low_bits(codes, 8, 2)[1], step, low)
        y[:, :, :sink] = heads.k[:, :, :sink]
        off = np.square(y - heads.k).mean(axis=(2, 3)) / np.square(heads.k).mean(axis=(2, 3))
        out[f"{method}, {sink} sinks"] = [
            float(f"{v:.{DIGITS}g}") for v in (math.sqrt(off.mean()), heads.error(y, heads.v))
        ]
    return out


def mass(heads: Heads) -> dict[str, Any]:
    """Attention weight on the first tokens, and squared weight by age in chunks of 32."""
    age = (np.arange(448, 512)[:, None] - np.arange(512)) // 32
    squared = np.square(heads.p).mean(axis=(0, 1, 2))
    squared[:, :4] = 0
    by_age = [float((squared * (age == a)).sum(axis=1).mean()) for a in range(14)]
    weight = heads.p.mean(axis=(0, 1, 2, 3))
    return {
        "weight of the first 8": [float(f"{w:.{DIGITS}g}") for w in weight[:8]],
        "squared by age of 32": [float(f"{w:.{DIGITS}g}") for w in by_age],
    }


def block(x: Array) -> str:
    """A few tokens of one head as base64 of float16."""
    part = x[BLOCK_LAYER, BLOCK_HEAD, :BLOCK_TOKENS].astype(np.float16)
    return base64.b64encode(part.tobytes()).decode()


def copied_from(*names: str) -> dict[str, Any]:
    """Where a copy comes from, to be stored with it."""
    paths = [RESULTS / name for name in names]
    return {
        "made_by": "book/experiments/kvcache/explorer_tables.py",
        "sources": {f"book/data/results/{path.name}": sha256(path) for path in paths},
    }


def quality() -> dict[str, Any]:
    """Of the stored comparison what is drawn, by length and text.

    A row: number of the design, rise of perplexity in percent, divergence in thousandths of a nat,
    each with its standard error; of "mean" over all texts of this length.
    """
    summary = [entry for entry in read(QUALITY)["summary"] if entry["design"] != "full"]
    names = list(dict.fromkeys(entry["design"] for entry in summary))
    designs: list[dict[str, Any]] = [{} for _ in names]
    places: dict[str, dict[str, list[list[float]]]] = {}
    for entry in summary:
        at, length = names.index(entry["design"]), str(entry["length"])
        designs[at] |= {
            "label": results.design_label(entry["design"]),
            "family": entry["family"],
            "limit": rounded(entry["limit bits"], DIGITS),
        }
        designs[at].setdefault("held", {})[length] = rounded(entry["held bits"], DIGITS)
        here = places.setdefault(length, {})
        for text in entry["rise"]:
            columns = ("rise", "rise se", "kl", "kl se")
            values = [entry[name][text] for name in columns]
            here.setdefault(results.text_label(text), []).append(quality_row(at, values))
        means = [entry[f"mean {name}"] for name in ("rise", "rise se", "kl", "kl se")]
        here.setdefault("mean", []).append(quality_row(at, means))
    return {
        "origin": copied_from(QUALITY.name),
        "chosen": {b: names.index(name) for b, name in read(QUALITY)["chosen"].items()},
        "designs": designs,
        "columns": ["design", "rise", "rise_se", "divergence", "divergence_se"],
        "places": places,
    }


def quality_row(design: int, values: Sequence[float]) -> list[float]:
    """A row of `quality`, divergence in thousandths of a nat."""
    rise, rise_se, divergence, divergence_se = values
    numbers = rise, rise_se, 1000 * divergence, 1000 * divergence_se
    return [design, *(rounded(number, DIGITS) for number in numbers)]


def answers() -> dict[str, Any]:
    """What the figures of the objections and of the times draw."""
    speed = read(SPEED)
    return {
        "origin": copied_from(SENSITIVITY.name, SPEED.name),
        # a question in the result may end on a number, such as "sinks (14)"
        "answers": {
            name.split(" (")[0]: rows for name, rows in read(SENSITIVITY)["fixture"].items()
        },
        "times": {
            "kernels": [
                {"bits": row["bits"], "ms": {n: rounded(t, DIGITS) for n, t in row["ms"].items()}}
                for row in speed["kernels"]
            ],
            "step": {
                results.design_label(name): rounded(ms, DIGITS)
                for name, ms in speed["model"]["least ms"].items()
            },
            "turns": {  # median milliseconds, and the median ratio at the same step
                re.sub(", keys .*, values [^,]*", ", longer stairs", results.design_label(name)): [
                    rounded(row[key], DIGITS) for key in ("median ms", "over full")
                ]
                for name, row in speed["compiled"]["caches"].items()
            },
            "stepping": rounded(speed["model"]["stepping"]["share of a decode step"], DIGITS),
            "prompt": {
                results.design_label(name): rounded(seconds, DIGITS)
                for name, seconds in speed["prefill"]["seconds"].items()
            },
        },
    }


def layers() -> dict[str, Any]:
    """Costs by layer in thousandths of a nat: those drawn, and those measured with recall."""
    stored, recalled = read(LAYERS), read(DOMAINS)
    assert stored["ladders"] == recalled["ladders"]
    return {
        "origin": copied_from(LAYERS.name, DOMAINS.name),
        "floors": [ladder[-1] for ladder in stored["ladders"]],
        "costs": dict(
            zip(("prose", "code"), map(thousandths, stored["costs"].values()), strict=True)
        ),
        "costs with recall": {
            name: thousandths(recalled["costs"][name]) for name in ("prose", "code")
        },
    }


def thousandths(costs: Sequence[Any]) -> list[list[list[float]]]:
    """Costs by layer, side and ladder, to four digits."""
    return [[[float(f"{1000 * c:.4g}") for c in side] for side in row] for row in costs]


def recall() -> dict[str, Any]:
    """Losses on a text by codes, by text and design: rise in percent, 10⁻³ nat."""
    return {
        "origin": copied_from(RECALL.name, QUALITY.name),
        "texts": {
            name: [
                row
                | {
                    kind: row[kind]
                    and {column: rounded(number, DIGITS) for column, number in row[kind].items()}
                    for kind in results.CODES
                }
                for row in results.recall_rows(text)
            ]
            for name, text in results.RECALL_TEXTS.items()
        },
    }


def away() -> dict[str, Any]:
    """By cache and kind of text what each window loses, in the order of the mean divergence."""
    more = read(RECALL_WINDOWS)["designs"]
    return {
        "origin": copied_from(DOMAINS.name, RECALL_WINDOWS.name),
        "home": list(results.HOME),
        "copying": list(results.COPYING),
        **met(results.MET, read(DOMAINS)["designs"][results.MET]),
        "copied": {name: met(name, more[design]) for name, design in results.COPIED.items()},
    }


def met(cache: str, about: dict[str, float]) -> dict[str, Any]:
    """Bits of a cache and the windows that it met."""
    moved, rose = (results.windows_by_kind(measure, cache) for measure in ("kl", "rise"))
    return {
        "bits": [rounded(about[f"{what} bits"], DIGITS) for what in ("limit", "held")],
        "kinds": [
            {
                "kind": kind,
                "divergence": drawn_windows(moved[kind]),
                "rise": drawn_windows(rose[kind]),
            }
            for kind in sorted(moved, key=lambda kind: -fmean(moved[kind]))
        ],
    }


def drawn_windows(values: Sequence[float]) -> dict[str, Any]:
    """Windows, their mean and its standard error."""
    spread = results.spread_of(values)
    return {
        "windows": [rounded(x, DIGITS) for x in values],
        "mean": rounded(spread.value, DIGITS),
        "se": rounded(spread.error, DIGITS),
    }


def main() -> int:
    """Write the table, or compare with what is stored."""
    arguments = parser(__doc__, "check")
    arguments.add_argument("--results", action="store_true", help="only copy stored results again")
    options = arguments.parse_args()
    content = {
        "kv_layers": layers(),
        "kv_quality": quality(),
        "kv_answers": answers(),
        "kv_recall": recall(),
        "kv_away": away(),
    }
    if not options.results:
        heads, grown = Heads(), Heads(LENGTH)
        content["kv_tables"] = {
            "source": "book/experiments/kvcache/explorer_tables.py on book/data/kv_smollm2.npz",
            "fixture sha256": sha256(FIXTURE),
            "block": {
                "layer": 12,
                "head": BLOCK_HEAD,
                "tokens": BLOCK_TOKENS,
                "K": block(heads.k),
                "V": block(heads.v),
            },
            "mass": mass(heads),
            "groupings": groupings(heads),
            "narrowed": narrowed(heads),
            "ladders": [list(ladder) for ladder in LADDERS],
            "terms": age_terms(grown),
            "measured": measured_designs(grown),
        }
    same = [
        write_or_check(TABLES / f"{name}.json", table, options.check, tolerance=1e-4)
        for name, table in content.items()
    ]
    return int(options.check and not all(same))


if __name__ == "__main__":
    sys.exit(main())
