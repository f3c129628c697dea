"""What each layer of the real model loses on each ladder, and the ladders chosen from it.

    python -m book.experiments.kvcache.layers

Writes book/data/results/kv_layers.json after every layer; a run that was cut off goes on where it
stopped.  Two texts, both for choosing only: addresses of the 19th century, and code.  A layer side
alone takes a ladder, everything else is exact; 600 measurements, about an hour.
"""

from __future__ import annotations

import os
from typing import Any

import torch
import transformers
from tqdm import tqdm

from book.experiments.common.main import parser
from book.experiments.common.places import RESULTS
from book.experiments.common.store import read, write_results
from book.experiments.kvcache.designs import BUDGETS, layered
from book.experiments.kvcache.quality import (
    CALIBRATIONS,
    DECODED,
    MODEL,
    load,
    text_hashes,
    texts,
    window,
)
from genopt_core.torch.kvcache.calibration import LADDERS, layer_costs

TARGET = RESULTS / "kv_layers.json"
LENGTH = 2048


def calibration_texts() -> dict[str, str]:
    """Texts on which ladders may be chosen; nothing is ever scored on them."""
    found = texts()
    return {name: found[name] for name in CALIBRATIONS}


def provenance() -> dict[str, Any]:
    return {
        "script": "book/experiments/kvcache/layers.py",
        "model": MODEL,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "texts": text_hashes(calibration_texts()),
        "length": LENGTH,
        "decoded": DECODED,
    }


def load_costs() -> dict[str, Any]:
    """What is stored; empty at first."""
    fresh = {
        "schema": "kv-layers/1",
        "provenance": provenance(),
        "unit": "nats a token",
        "ladders": [list(ladder) for ladder in LADDERS],
        "costs": {name: [] for name in calibration_texts()},
    }
    if not TARGET.is_file():
        return fresh
    result = read(TARGET)
    for key in ("schema", "provenance", "ladders"):
        if result[key] != fresh[key]:
            raise SystemExit(f"{TARGET.name} has another {key}: move it away first")
    return result


def divide(result: dict[str, Any]) -> None:
    """Choose ladders for all budgets and write."""
    result["chosen"] = {str(b): layered(result, b) for b in BUDGETS}
    write_results(TARGET, result)


def main() -> None:
    parser(__doc__).parse_args()
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    result = load_costs()
    tokenizer, model = load()
    model.set_attn_implementation("sdpa")
    count = model.config.num_hidden_layers
    for name, text in calibration_texts().items():
        rows = result["costs"][name]
        ids = window(tokenizer, name, text, LENGTH)
        todo = range(len(rows), count)
        found = layer_costs(model, ids, LADDERS, decoded=DECODED, layers=todo)
        for cost in tqdm(found, total=len(todo), unit="layer", desc=name[:20]):
            rows.append([[float(f"{c:.4g}") for c in side] for side in cost])
            write_results(TARGET, result)
    divide(result)


if __name__ == "__main__":
    main()
