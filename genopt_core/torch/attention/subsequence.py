r"""Plans whose kept blocks form a shorter sequence: ordinary causal attention among the chosen.

The third way to share a draw, beside one set of distances for all rows and a draw for each: as
:func:`genopt_core.attention.blocks.sample_subsequence`, with weights that are exact for it.
"""

from __future__ import annotations

import numpy as np
import torch

from genopt_core.attention.blocks.laws import DistanceLaw, inclusion
from genopt_core.attention.blocks.selection import systematic_samples
from genopt_core.checks import real, whole
from genopt_core.torch.attention.plans import Plan, default_block

__all__ = ["plan_subsequence"]


def plan_subsequence(
    length: int,
    law: DistanceLaw,
    count: float,
    *,
    sinks: int = 1,
    block: int | None = None,
    generator: torch.Generator | None = None,
) -> Plan:
    r"""A set of blocks, drawn by their distance to the last one, that attend to each other alone.

    A row of blocks that is not in the set sees itself only, so this is for rounds, or where the
    last rows are what counts.  A row i of the set weighs its blocks j by the probability that j is
    drawn where i is,

    .. math:: \pi_{ij} = \frac{P(i \in S,\; j \in S)}{P(i \in S)}

    of systematic sampling, as Horvitz and Thompson weigh (book, eq. attn-horvitz): sums over the
    rounds in which a row has a part are unbiased, where no such probability is 0.

    Parameters
    ----------
    length : int
        Tokens.
    law : DistanceLaw
    count : float
        Blocks beside the last and the first ``sinks``, which are always chosen; all if there are
        fewer.
    sinks : int
    block : int, optional
        By default `default_block` of the length.
    generator : ``torch.Generator``, optional
        On the CPU.

    Examples
    --------
    >>> g = torch.Generator().manual_seed(0)
    >>> plan = plan_subsequence(20, DistanceLaw.harmonic(), 1, block=4, generator=g)
    >>> plan.kept[0, 0].int().tolist()
    [[1, 0, 0, 0, 0], [0, 1, 0, 0, 0], [0, 0, 1, 0, 0], [1, 0, 0, 1, 0], [1, 0, 0, 1, 1]]
    """
    n = whole(length, "length")
    if real(count, "count") < 0:
        raise ValueError(f"count must not be negative, got {count!r}")
    size = min(whole(block, "block"), n) if block is not None else default_block(n)
    t = -(-n // size)
    w = law.weights(t)[::-1].copy()  # by block: the last is at distance 0
    sure = (np.arange(t) < whole(sinks, "sinks", 0)) | (np.arange(t) == t - 1)
    pi = sure.astype(float)
    some = ~sure & (w > 0)
    if some.any():
        pi[some] = inclusion(w[some], min(float(count), float(some.sum())))
    samples, chances = systematic_samples(pi)
    both = (samples * chances[:, None]).T @ samples
    u = torch.rand(1, generator=generator, dtype=torch.float64).item()
    at = int(np.searchsorted(np.cumsum(chances), u, side="right").clip(max=len(samples) - 1))
    chosen = samples[at].astype(bool)
    kept = np.tril(np.outer(chosen, chosen)) | np.eye(t, dtype=bool)
    alone = np.diagonal(both)[:, None]
    likely = np.where(chosen[:, None] & (alone > 0), both / np.where(alone > 0, alone, 1.0), 0.0)
    likely = np.where(np.eye(t, dtype=bool), 1.0, np.tril(likely, -1)).clip(0.0, 1.0)
    return Plan(n, size, torch.from_numpy(kept)[None, None], torch.from_numpy(likely)[None, None])
