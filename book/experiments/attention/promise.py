"""How often promises of (ε, δ) are kept on SmolLM2's heads, and how many blocks they need.

    python -m book.experiments.attention.promise            one CPU minute
    python -m book.experiments.attention.promise --quick    one layer of one text, not stored

Writes book/data/results/attention_promise.json.  Each row of blocks has a pilot and a draw of its
own; of each row that did not keep everything one query counts, so that trials are independent, and
the interval is Wilson's; "heads below" are those whose own interval lies wholly below 1 - delta.
What is kept for sure is the first block and the nearest, or these and the four largest by
`plan_rows`.  Nothing was chosen on these texts but the sizes of the experiment.
"""

from __future__ import annotations

import time
from typing import Any

import torch
from torch import Tensor

from book.experiments.attention import heads as source
from book.experiments.attention.designs import BLOCK
from book.experiments.common.main import parser
from book.experiments.common.places import RESULTS
from book.experiments.common.store import provenance, rounded, write_results
from genopt_core.attention.blocks import wilson_interval
from genopt_core.torch.attention import Plan, coverage, near, plan_rows, sink, verify

TARGET = RESULTS / "attention_promise.json"
LAYERS, HEADS = source.LAYERS, [0, 4, 8]
DELTA, PILOT = 0.1, 4
EPS = (0.1, 0.3)
OF = ("mass", "output")
SURE = ("sink + near", "sink + near + 4 largest")


def plan_of(sure: str, q: Tensor, k: Tensor) -> Plan:
    """What is kept for sure."""
    if sure == SURE[0]:
        return (sink(1) | near(1)).plan(q.shape[2], block=BLOCK)
    return plan_rows(q, k, 4, block=BLOCK, choose="top")


def measure(
    data: list[tuple[Tensor, Tensor, Tensor]], sure: str, of: str, eps: float
) -> dict[str, Any]:
    """A row: promises of all these layers."""
    g = torch.Generator().manual_seed(0)
    found = [
        coverage(
            q, k, v, plan_of(sure, q, k), eps, DELTA, draws=1, of=of, pilot=PILOT, generator=g  # type: ignore[arg-type]
        )
        for q, k, v in data
    ]  # fmt: skip
    trials = sum(c.trials for c in found)
    kept = sum(round(c.share * c.trials) for c in found)
    low, high = wilson_interval(kept, trials)
    return {
        "sure": sure,
        "of": of,
        "eps": eps,
        "trials": trials,
        "kept": kept,
        "low": rounded(low, 4),
        "high": rounded(high, 4),
        "heads": len(found),
        "heads below": sum(not c.kept(DELTA) for c in found),
        "every query": rounded(sum(c.every for c in found) / len(found), 4),
        "density": rounded(sum(c.density for c in found) / len(found), 4),
    }


def bounded(data: list[tuple[Tensor, Tensor, Tensor]], eps: float) -> float:
    """Density that the true bound asks for, for the mass."""
    options = {"of": "mass", "method": "serfling", "block": BLOCK}
    found = [verify(q, k, v, sink(1) | near(1), eps, DELTA, **options) for q, k, v in data]  # type: ignore[arg-type]
    return rounded(sum(f.density for f in found) / len(found), 4)


def layers_of(name: str, layers: tuple[int, ...] = LAYERS) -> list[tuple[Tensor, Tensor, Tensor]]:
    """Queries, keys and values of single heads, one of each key head."""
    every = source.real_heads(name)
    found = []
    for layer in layers:
        q, k, v = (t.float()[None] for t in every[layer])
        q = q[:, HEADS]
        found += [tuple(x[:, h : h + 1] for x in (q, k, v)) for h in range(len(HEADS))]
    return found


def main() -> None:
    options = parser(__doc__, "quick").parse_args()
    torch.set_num_threads(1)
    texts: dict[str, Any] = {}
    for name in source.texts():
        if name == source.CALIBRATION:
            continue
        start = time.process_time()
        data = layers_of(name, LAYERS[2:3] if options.quick else LAYERS)
        rows = []
        for sure in SURE:
            for of in OF:
                for eps in EPS:
                    rows.append(measure(data, sure, of, eps))
                    print(name, rows[-1], flush=True)
        texts[name] = {
            "rows": rows,
            "density of the true bound": [bounded(data, eps) for eps in EPS],
            "cpu seconds": round(time.process_time() - start),
        }
        print(
            name, texts[name]["density of the true bound"], texts[name]["cpu seconds"], flush=True
        )
        if options.quick:
            break
    if options.quick:
        return
    content = {
        "model": source.MODEL,
        "tokens": source.LENGTH,
        "block": BLOCK,
        "layers": list(LAYERS),
        "heads": HEADS,
        "delta": DELTA,
        "pilot": PILOT,
        "eps": list(EPS),
        "texts": texts,
        "provenance": provenance(("genopt-core", "numpy", "torch", "transformers")),
    }
    print(f"{TARGET.name}: {write_results(TARGET, content)} bytes", flush=True)


if __name__ == "__main__":
    main()
