"""Attention in NumPy: what the fast forms of `genopt_core.torch` are tested against.

- :mod:`~genopt_core.attention.online_softmax`: partial results that merge exactly
- :mod:`~genopt_core.attention.laws`: how likely a block distance is (chapter 4)
- :mod:`~genopt_core.attention.selection`: which blocks are kept, and how the draw is shared
- :mod:`~genopt_core.attention.tiles`: attention over kept blocks, tile by tile
- :mod:`~genopt_core.attention.estimators`: full attention, estimated from the kept blocks
"""

from genopt_core.attention.estimators import ESTIMATORS, estimate, log_weights, pool_rounds
from genopt_core.attention.laws import (
    DistanceLaw,
    expected_blocks,
    harmonic_blocks,
    inclusion,
    kappa,
)
from genopt_core.attention.online_softmax import (
    attend,
    attend_segments,
    merge_partials,
    softmax_partial,
)
from genopt_core.attention.selection import (
    always_kept,
    by_distance,
    kept_density,
    left_justify,
    radial_distances,
    sample_blocks,
    sample_distances,
    sample_subsequence,
    skew,
    systematic,
    systematic_samples,
)
from genopt_core.attention.tiles import Tile, mass_by_distance, tiled_attention, walk_tiles

__all__ = [
    "DistanceLaw",
    "ESTIMATORS",
    "Tile",
    "always_kept",
    "attend",
    "attend_segments",
    "by_distance",
    "estimate",
    "expected_blocks",
    "harmonic_blocks",
    "inclusion",
    "kappa",
    "kept_density",
    "left_justify",
    "log_weights",
    "mass_by_distance",
    "merge_partials",
    "pool_rounds",
    "radial_distances",
    "sample_blocks",
    "sample_distances",
    "sample_subsequence",
    "skew",
    "softmax_partial",
    "systematic",
    "systematic_samples",
    "tiled_attention",
    "walk_tiles",
]
