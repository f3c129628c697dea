r"""Chapter 5: a key and value cache that steps down a staircase (SAQ), in NumPy.

The modules read in this order:

- :mod:`~genopt_core.kvcache.packing`: codes of 1 to 8 bits in exactly that many bits
- :mod:`~genopt_core.kvcache.grid`: the uniform quantizer, its bounds, nested ladders
- :mod:`~genopt_core.kvcache.rotated`: random rotation and Lloyd-Max codes
- :mod:`~genopt_core.kvcache.balance`: the map of a head in which an error disturbs attention least
- :mod:`~genopt_core.kvcache.codec`: both as codecs of a chunk, with their bytes
- :mod:`~genopt_core.kvcache.ladder`: widths by age and the memory formula
- :mod:`~genopt_core.attention.online_softmax`: attention in pieces, the online softmax
- :mod:`~genopt_core.kvcache.staircase`: the cache itself
- :mod:`~genopt_core.kvcache.allocation`: bits by age from measured attention, and by layer

Source: arXiv 2410.18441 (Fulu Li 2024), which gives the key cache's algorithm and no experiment.
"""

from genopt_core.attention import attend, attend_segments, merge_partials
from genopt_core.kvcache.allocation import (
    allocate_layers,
    allocate_uniform,
    allocate_widths,
    ideal_bits,
    monotone_mass,
    predicted_terms,
    squared_mass_by_age,
)
from genopt_core.kvcache.balance import balance_gain, balanced_map, ridged
from genopt_core.kvcache.codec import Codec, GridCodec, Packed, RotatedCodec
from genopt_core.kvcache.grid import (
    dequantize_groups,
    drop_low_bits,
    is_nested,
    ladder_bound,
    quantize_groups,
    recode,
    rescale,
    score_bound,
    walk_down,
    weight_bound,
)
from genopt_core.kvcache.ladder import (
    FULL,
    Stair,
    cache_bits,
    changed_chunks,
    check_ladder,
    design_bits,
    format_ladder,
    limit_bits,
    metadata_bits,
    parse_ladder,
    stairs_by_age,
    width_at,
)
from genopt_core.kvcache.packing import pack_codes, plane_widths, unpack_codes
from genopt_core.kvcache.rotated import (
    ROTATED_BITS,
    code_gain,
    encode_rotated,
    hadamard_rotation,
    levels,
    lloyd_max,
    rotated_distortion,
    step_table,
)
from genopt_core.kvcache.staircase import Staircase

__all__ = [
    "FULL",
    "ROTATED_BITS",
    "Codec",
    "GridCodec",
    "Packed",
    "RotatedCodec",
    "Stair",
    "Staircase",
    "allocate_layers",
    "allocate_uniform",
    "allocate_widths",
    "attend",
    "attend_segments",
    "balance_gain",
    "balanced_map",
    "cache_bits",
    "changed_chunks",
    "check_ladder",
    "code_gain",
    "dequantize_groups",
    "design_bits",
    "drop_low_bits",
    "encode_rotated",
    "format_ladder",
    "hadamard_rotation",
    "ideal_bits",
    "is_nested",
    "ladder_bound",
    "levels",
    "limit_bits",
    "lloyd_max",
    "merge_partials",
    "metadata_bits",
    "monotone_mass",
    "pack_codes",
    "parse_ladder",
    "plane_widths",
    "predicted_terms",
    "quantize_groups",
    "recode",
    "rescale",
    "ridged",
    "rotated_distortion",
    "score_bound",
    "squared_mass_by_age",
    "stairs_by_age",
    "step_table",
    "unpack_codes",
    "walk_down",
    "weight_bound",
    "width_at",
]
