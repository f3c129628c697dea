"""Chapter 4: causal attention over kept blocks of keys, and which blocks a law keeps.

- :mod:`~genopt_core.attention.blocks.laws`: how likely a block distance is
- :mod:`~genopt_core.attention.blocks.selection`: which blocks are kept, and how the draw is shared
- :mod:`~genopt_core.attention.blocks.tiles`: attention over kept blocks, tile by tile
- :mod:`~genopt_core.attention.blocks.estimators`: full attention, estimated from the kept blocks
- :mod:`~genopt_core.attention.blocks.guarantee`: how many blocks a promise (ε, δ) needs
- :mod:`~genopt_core.attention.blocks.layers`: how many blocks each layer of a model deserves
- :mod:`~genopt_core.attention.blocks.bounds`: what is lost at most, whatever the contents are
- :mod:`~genopt_core.attention.blocks.quantiles`: Student's quantile, Wilson's interval
"""

from genopt_core.attention.blocks.bounds import (
    kept_by_bias,
    mass_bounds,
    ratio_error,
    serfling_blocks,
    serfling_error,
)
from genopt_core.attention.blocks.estimators import (
    ESTIMATORS,
    estimate,
    log_weights,
    pool_rounds,
    self_similarity,
)
from genopt_core.attention.blocks.guarantee import (
    blocks_needed,
    promise_errors,
    promised_error,
    relative_deviation,
)
from genopt_core.attention.blocks.laws import (
    DistanceLaw,
    expected_blocks,
    harmonic_blocks,
    inclusion,
    kappa,
)
from genopt_core.attention.blocks.layers import divide_among_layers
from genopt_core.attention.blocks.quantiles import student_quantile, wilson_interval
from genopt_core.attention.blocks.selection import (
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
from genopt_core.attention.blocks.tiles import Tile, mass_by_distance, tiled_attention, walk_tiles

__all__ = [
    "DistanceLaw",
    "ESTIMATORS",
    "Tile",
    "always_kept",
    "blocks_needed",
    "by_distance",
    "divide_among_layers",
    "estimate",
    "expected_blocks",
    "harmonic_blocks",
    "inclusion",
    "kappa",
    "kept_by_bias",
    "kept_density",
    "left_justify",
    "log_weights",
    "mass_bounds",
    "mass_by_distance",
    "pool_rounds",
    "promise_errors",
    "promised_error",
    "radial_distances",
    "ratio_error",
    "relative_deviation",
    "sample_blocks",
    "sample_distances",
    "sample_subsequence",
    "self_similarity",
    "serfling_blocks",
    "serfling_error",
    "skew",
    "student_quantile",
    "systematic",
    "systematic_samples",
    "tiled_attention",
    "walk_tiles",
    "wilson_interval",
]
