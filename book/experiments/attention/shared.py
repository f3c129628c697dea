"""One draw of distances for all rows, one for each head, or one for each row: what sharing costs.

    python -m book.experiments.attention.shared            two CPU minutes
    python -m book.experiments.attention.shared --quick    one layer, few draws; nothing is written

Writes book/data/results/attention_shared.json.  Sink and nearest block for sure, the rest by the
harmonic law, self-normalized, on SmolLM2's queries, keys and values of one text, at equal density.
Over draws: the mean error, how far the error of a whole layer differs from draw to draw, and the
correlation of the errors of two rows of blocks of one head, and of one row in two heads.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from book.experiments.attention import heads as source
from book.experiments.attention.designs import BLOCK, KEPT, density_of
from book.experiments.attention.quality import layers
from book.experiments.common.main import parser
from book.experiments.common.places import RESULTS
from book.experiments.common.store import provenance, rounded, write_results
from genopt_core.attention.blocks import DistanceLaw
from genopt_core.torch.attention import near, pr_flash_attention, sample, sink

TARGET = RESULTS / "attention_shared.json"
TEXT, DRAWS = "moby-dick", 16
EACH = ("plan", "head", "row")


def errors(q: Tensor, k: Tensor, v: Tensor, exact: Tensor, each: str, draws: int) -> np.ndarray:
    """Mean relative error, (draws, heads, rows of blocks)."""
    density, found = density_of(q.shape[2], KEPT[1]), []
    design = sink(1) | near(1) | sample(DistanceLaw.harmonic(), density=density, each=each)  # type: ignore[arg-type]
    for draw in range(draws):
        g = torch.Generator().manual_seed(draw)
        plan = design.plan(q.shape[2], block=BLOCK, heads=q.shape[1], generator=g)
        out = pr_flash_attention(q, k, v, plan)
        one = (out - exact).norm(dim=-1) / exact.norm(dim=-1)  # type: ignore[operator]
        found.append(one[0].unflatten(-1, (-1, BLOCK)).mean(-1).numpy())
    return np.stack(found)


def correlations(e: np.ndarray) -> tuple[float, float]:
    """Mean correlation over draws: of two rows of a head, and of a row in two heads.

    Only rows of the last half, where most blocks are left out.
    """
    z = e[:, :, e.shape[2] // 2 :]
    z = z - z.mean(axis=0)
    z = z / np.maximum(z.std(axis=0), 1e-12)
    draws, heads, rows = z.shape
    by_rows = np.einsum("dhr,dhs->hrs", z, z) / draws
    by_heads = np.einsum("dhr,dgr->rhg", z, z) / draws
    return (
        float((by_rows.sum((1, 2)) - rows).mean() / (rows * (rows - 1))),
        float((by_heads.sum((1, 2)) - heads).mean() / (heads * (heads - 1))),
    )


def measure(draws: int, quick: bool = False) -> list[dict[str, Any]]:
    """A row for each way to share."""
    data, rows = layers(TEXT, quick), []
    for each in EACH:
        found = [errors(*tensors, each, draws) for tensors in data.values()]
        by_layer = np.stack([e.mean(axis=(1, 2)) for e in found])  # (layers, draws)
        two = np.array([correlations(e) for e in found]).mean(axis=0)
        rows.append(
            {
                "one draw for": {"plan": "all", "head": "each head", "row": "each row"}[each],
                "error": rounded(float(by_layer.mean()), 4),
                "sd of a layer over draws": rounded(float(by_layer.std(axis=1, ddof=1).mean()), 3),
                "correlation of rows": rounded(float(two[0]), 3),
                "correlation of heads": rounded(float(two[1]), 3),
            }
        )
        print(rows[-1], flush=True)
    return rows


def main() -> None:
    options = parser(__doc__, "quick").parse_args()
    torch.set_num_threads(1)
    rows = measure(4 if options.quick else DRAWS, options.quick)
    if options.quick:
        return
    content = {
        "model": source.MODEL,
        "text": TEXT,
        "tokens": source.LENGTH,
        "block": BLOCK,
        "density": rounded(density_of(source.LENGTH, KEPT[1]), 4),
        "draws": DRAWS,
        # of independent numbers the mean over all pairs is about 0, each with this deviation
        "deviation of one correlation": rounded(1 / math.sqrt(DRAWS - 1), 3),
        "rows": rows,
        "provenance": provenance(("genopt-core", "numpy", "torch")),
    }
    print(f"{TARGET.name}: {write_results(TARGET, content)} bytes")


if __name__ == "__main__":
    main()
