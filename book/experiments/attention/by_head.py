"""Blocks that a layer's heads share, beside the recommended plan: errors of all heads, perplexity.

    python -m book.experiments.attention.by_head            a quarter of an hour of one core
    python -m book.experiments.attention.by_head --quick    512 tokens of one text; writes nothing

The recommended plan gives each row of each head as many blocks, this one as many to a row of all
heads together, most to the heads whose probes see much outside of what is kept for sure.  Chosen
on the calibration text's heads by the error of their output.

Errors are `quality.py`'s, of all nine heads of its layers instead of three, one draw each.
Perplexity is `perplexity.py`'s, which has the rows of the recommended plan, at half of the blocks.
Every text and window is written when it is there, and another run goes on.
"""

from __future__ import annotations

import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn.functional import scaled_dot_product_attention

from book.experiments.attention import heads as source
from book.experiments.attention import perplexity
from book.experiments.attention.designs import BLOCK, KEPT, SHARED, Compared, density_of, designs
from book.experiments.attention.quality import error
from book.experiments.attention.whole_model import Drawing, attention_of, log_probabilities
from book.experiments.common.main import parsed_with_out, parser
from book.experiments.common.places import RESULTS
from book.experiments.common.store import provenance, read, rounded, write_json
from genopt_core.torch.attention import pr_flash_attention
from genopt_core.torch.smollm import load_smollm

TARGET = RESULTS / "attention_by_head.json"
COLUMNS = ("text", "window", "design", "density", "nll", "more", "more se", "kl", "kl se")
COUNTS = (*KEPT, perplexity.HALF)
OURS = "recommended"
FIRST = "moby-dick"
"""Where the aim was missed: measured first."""


def errors(name: str, compared: dict[str, Compared]) -> dict[str, list[float]]:
    """Mean relative error over tokens, heads and layers, by design, at each of `COUNTS`."""
    found: dict[str, list[list[float]]] = {
        design: [[] for _ in COUNTS] for design in (OURS, SHARED)
    }
    for layer, tensors in source.real_heads(name).items():
        q, k, v = (t.float()[None] for t in tensors)
        exact = scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
        for design, rows in found.items():
            how = compared[design]
            for row, kept in zip(rows, COUNTS, strict=True):
                plan = how.draw(q, k, kept, torch.Generator().manual_seed(layer))
                out = pr_flash_attention(q, k, v, plan, estimator=how.estimator)  # type: ignore[arg-type]
                row.append(error(out, exact))  # type: ignore[arg-type]
    return {
        design: [rounded(statistics.fmean(row), 4) for row in rows]
        for design, rows in found.items()
    }


def windows(length: int) -> list[tuple[str, int, torch.Tensor]]:
    """Texts and numbers of their windows, and the token ids; those of `FIRST` first."""
    found = []
    for name, ids in perplexity.tokens(None).items():
        text = name.partition("/")[2]
        for window in range(2):
            part = ids[window * length : (window + 1) * length]
            if len(part) == length:
                found.append((text, window, part))
    return sorted(found, key=lambda each: (not each[0].startswith(FIRST), each[1]))


def write(path: Path, content: dict[str, Any], spent: float) -> None:
    """All that is known so far."""
    content |= {
        "model": source.MODEL,
        "tokens": source.LENGTH,
        "block": BLOCK,
        "counts": list(COUNTS),
        "densities": [rounded(density_of(source.LENGTH, kept), 4) for kept in COUNTS],
        "kept": perplexity.HALF,
        "columns": list(COLUMNS),
        "CPU seconds": round(spent + time.process_time()),
        "provenance": provenance(("genopt-core", "numpy", "torch", "transformers")),
    }
    write_json(path, content)


def main() -> None:
    arguments = parser(__doc__, "quick")
    arguments.add_argument("--seconds", type=float, default=1e9)
    options = parsed_with_out(arguments, TARGET)
    torch.set_num_threads(1)
    start, length = time.monotonic(), 512 if options.quick else source.LENGTH
    compared = designs(perplexity.stored_law())
    content: dict[str, Any] = read(options.out) if options.out.is_file() else {"rows": []}
    rows, spent = content["rows"], content.get("CPU seconds", 0)
    done = {tuple(row[:3]) for row in rows}
    if not options.quick:
        every = content.setdefault("errors", {})
        for name in sorted(source.texts(), key=lambda text: text == source.CALIBRATION):
            if name not in every:
                every[name] = errors(name, compared)
                print(name, every[name], flush=True)
                write(options.out, content, spent)
    _, model = load_smollm()
    for text, window, ids in windows(length):
        if (text, window, SHARED) in done:
            continue
        if time.monotonic() - start > options.seconds:
            print("time is up")
            return
        exact = log_probabilities(model, ids[None])[0]
        kept = perplexity.HALF
        seed = 10_000 * window + 100 * kept + list(compared).index(SHARED)
        drawing = Drawing(compared[SHARED], kept, seed)
        with attention_of(model, drawing):
            found = log_probabilities(model, ids[None])[0]
        numbers = perplexity.row(exact, found, ids)
        numbers["density"] = float(np.mean(drawing.densities))
        rows.append([text, window, SHARED, *(rounded(numbers[c], 5) for c in COLUMNS[3:])])
        print(f"{text}, window {window}: {time.process_time():.0f} CPU s", rows[-1], flush=True)
        if options.quick:
            return
        write(options.out, content, spent)


if __name__ == "__main__":
    main()
