r"""PrFlashAttention for a text that grows: which blocks each head draws, once for all its tokens.

What :mod:`genopt_core.torch.attention` draws in training, here for one text and in NumPy: the first
block, the own one and the one before it are kept, the others drawn by the harmonic law.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from genopt_core.attention.blocks import DistanceLaw, by_distance, inclusion, systematic
from genopt_core.checks import fraction, whole
from genopt_core.one_model.config import ModelConfig

SINK = NEAR = 1
"""Blocks that are kept for sure: so many first ones, and so many before a query's own."""


@dataclass(frozen=True, eq=False)
class DrawnBlocks:
    r"""The blocks of keys that each block of queries meets.

    Parameters
    ----------
    block : int
        Tokens of a block.
    log_weights : (layers, heads, blocks, blocks) array
        :math:`\ln(1/\pi)` of query block and key block where the pair is kept, else minus infinity.

    Examples
    --------
    >>> config = ModelConfig(vocabulary=10, block=4)
    >>> drawn = DrawnBlocks.draw(config, 64, 0.5, np.random.default_rng(0))
    >>> drawn.log_weights.shape, drawn.kept(0, 0, 63).astype(int).tolist()
    ((2, 4, 16, 16), [1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1, 0, 1, 1])
    >>> drawn.between(0, queries=1, tokens=64).shape
    (4, 1, 64)
    """

    block: int
    log_weights: NDArray[np.float64]

    @classmethod
    def draw(
        cls, config: ModelConfig, tokens: int, density: float, rng: np.random.Generator
    ) -> DrawnBlocks:
        """For a text of at most so many tokens; each layer and head draws distances of its own.

        ``density`` is the share of all pairs that is kept on average; 1 keeps them all.
        """
        pi = inclusion_by_pair(-(-whole(tokens, "tokens") // config.block), density)
        line = pi[-1, ::-1].copy()  # over distances, as the last row meets them
        line[: NEAR + 1], line[len(line) - SINK :] = 0, 0
        kept = np.stack(
            [by_distance(systematic(line, rng)) for _ in range(config.layers * config.heads)]
        )
        with np.errstate(divide="ignore"):
            weights = np.where(kept | (pi == 1), -np.log(pi), -np.inf)
        return cls(config.block, weights.reshape(config.layers, config.heads, *pi.shape))

    def kept(self, layer: int, head: int, token: int) -> NDArray[np.bool_]:
        """Which blocks, from the first to its own, a token meets."""
        row = token // self.block
        return np.isfinite(self.log_weights[layer, head, row, : row + 1])

    def between(self, layer: int, queries: int, tokens: int) -> NDArray[np.float64]:
        """What the last ``queries`` of so many tokens add to scores, (heads, queries, tokens)."""
        most = self.log_weights.shape[-1] * self.block
        if tokens > most:
            raise ValueError(
                f"tokens must be at most {most}, for which blocks are drawn, got {tokens}"
            )
        at = np.arange(tokens) // self.block
        return self.log_weights[layer][:, at[-queries:, None], at]


def inclusion_by_pair(blocks: int, density: float) -> NDArray[np.float64]:
    r"""Probability that a pair of blocks is kept, (blocks, blocks), 0 above the diagonal.

    :math:`\min(1, \kappa w_\delta)` of the harmonic law beside the pairs that are sure
    (book, eq. attn-kappa).

    Examples
    --------
    >>> inclusion_by_pair(4, 1.0).tolist()[3], inclusion_by_pair(4, 0.95).round(2).tolist()[3]
    ([1.0, 1.0, 1.0, 1.0], [1.0, 0.5, 1.0, 1.0])
    """
    i = np.arange(blocks)
    distance = i[:, None] - i
    lower = distance >= 0
    free = (distance > NEAR) & (i >= SINK)
    pairs = np.array([np.diagonal(free, -d).sum() for d in range(blocks)])
    total = fraction(density, "density") * lower.sum() - (lower & ~free).sum()
    if total < -1e-9:
        least = (lower & ~free).sum() / lower.sum()
        raise ValueError(
            f"density must be at least {least:.4g} for {blocks} blocks, of which some are always "
            f"kept, got {density!r}"
        )
    line, some = np.ones(blocks), pairs > 0
    if some.any():
        weights = DistanceLaw.harmonic().weights(blocks)[some]
        line[some] = inclusion(weights, max(0.0, float(total)), pairs[some])
    return np.where(free, by_distance(line), lower.astype(float))
