"""What a distance bias does to a model that never saw one: SmolLM2-135M, no training.

    python -m book.experiments.positions.untrained
    python -m book.experiments.positions.untrained --quick       # two settings, not stored

SmolLM2 was trained with RoPE alone.  Its weights stay as they are, and each head's scores get a
bias whose slopes are a share of the full ones.  Every setting reads the same windows and is scored
on their last halves.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from book.experiments.common.main import parser
from book.experiments.common.places import RESULTS
from book.experiments.common.store import provenance, read, write_results
from genopt_core import corpora
from genopt_core.integrations.positions import use
from genopt_core.positions import slopes
from genopt_core.torch.positions import Encoding, encoding
from genopt_core.torch.smollm import load_smollm

STORED = RESULTS / "positions_untrained.json"
TEXT, FROM, TOKENS, SCORED = "moby-dick", 30_000, 1024, 512
SHARES = (0.01, 0.03, 0.1, 0.3, 1.0)
LAWS: dict[str, dict[str, Any]] = {
    "RoPE + ALiBi": {"name": "rope+alibi"},
    "RoPE + ALiBi, last head free": {"name": "rope+alibi", "free": 1 / 9},
    "RoPE + harmonic slopes": {"name": "rope+harmonic"},
    "RoPE + harmonic slopes, half of the heads free": {"name": "rope+harmonic", "free": 0.5},
    "RoPE + harmonic distance": {"name": "rope+harmonic", "distance": "harmonic"},
}


def settings(heads: int) -> Iterator[tuple[str, float, Encoding | None]]:
    """Name, share of the slopes, encoding: stock, all laws at all shares, and without rotation."""
    yield "RoPE", 0.0, None
    for name, law in LAWS.items():
        free = round(heads * law.get("free", 0))
        kind: Any = "geometric" if law["name"].endswith("alibi") else "harmonic"
        full = float(slopes(heads - free, kind).sum())
        for share in SHARES:
            given = {"free": free, "distance": law.get("distance")}
            yield name, share, encoding(law["name"], heads, total=share * full, **given)
    yield "no positions", 0.0, encoding("nope", heads)
    yield "ALiBi", 1.0, encoding("alibi", heads)


@torch.no_grad()
def nats(model: Any, ids: Tensor) -> float:
    """Mean nats a token over the last ones of a window."""
    logits = model(ids[:, :-1], use_cache=False, logits_to_keep=SCORED).logits
    return float(torch.nn.functional.cross_entropy(logits[0], ids[0, -SCORED:]))


def main() -> None:
    options = parser(__doc__, "quick").parse_args()
    torch.set_num_threads(1)
    tokenizer, model = load_smollm()
    text = corpora.load(TEXT)[FROM : FROM + 10 * TOKENS]
    tokens = 64 + SCORED if options.quick else TOKENS
    ids = tokenizer(text, return_tensors="pt").input_ids[:, : tokens + 1]
    before = read(STORED)["rows"] if STORED.is_file() and not options.quick else []
    known = {(row["method"], row["share"]): row for row in before}
    rows = []
    for name, share, given in settings(model.config.num_attention_heads):
        if options.quick and share not in (0.0, 1.0):
            continue
        row = known.get((name, share))
        if row is None:
            use(model, given)
            row = {"method": name, "share": share, "nats": round(nats(model, ids), 4)}
        rows.append(row)
        print(rows[-1], flush=True)
        if options.quick and len(rows) == 2:
            break
    if options.quick:
        return
    size = write_results(
        STORED,
        {
            "provenance": {
                **provenance(("genopt-core", "numpy", "torch", "transformers")),
                "model": "SmolLM2-135M-Instruct, 4 bits, no training",
                "text": f"{TEXT}, {TOKENS} tokens from character {FROM:,}",
                "score": f"mean nats a token of the last {SCORED}",
            },
            "rows": rows,
        },
    )
    print(f"wrote {STORED.name}: {size} bytes")


if __name__ == "__main__":
    main()
