"""Chapter 3: how a decoder knows positions: rotation, distance biases, and what they allow."""

from genopt_core.positions.bias import (
    bias,
    bias_by_distance,
    by_pairs,
    distance_cost,
    relative_buckets,
    slopes,
    windowed,
)
from genopt_core.positions.decay import (
    effective_context,
    linear_effective_context,
    weights_by_distance,
)
from genopt_core.positions.dropping import dropping_bias
from genopt_core.positions.rotary import (
    inverse_frequencies,
    rotary_angles,
    rotate,
    yarn_temperature,
)
from genopt_core.positions.scores import factored_scores
from genopt_core.positions.skip import output_error_bound, skippable, skippable_blocks, tail_bound

__all__ = [
    "bias",
    "bias_by_distance",
    "by_pairs",
    "distance_cost",
    "dropping_bias",
    "effective_context",
    "factored_scores",
    "inverse_frequencies",
    "linear_effective_context",
    "output_error_bound",
    "relative_buckets",
    "rotary_angles",
    "rotate",
    "skippable",
    "skippable_blocks",
    "slopes",
    "tail_bound",
    "weights_by_distance",
    "windowed",
    "yarn_temperature",
]
