"""Attention in NumPy: what the fast forms of `genopt_core.torch` are tested against."""

from genopt_core.attention.online_softmax import (
    attend,
    attend_segments,
    merge_partials,
    softmax_partial,
)

__all__ = ["attend", "attend_segments", "merge_partials", "softmax_partial"]
