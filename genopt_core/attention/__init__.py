"""Attention in NumPy: what the fast forms of `genopt_core.torch` are tested against.

- :mod:`~genopt_core.attention.online_softmax`: partial results that merge exactly
- :mod:`genopt_core.attention.blocks`: attention over kept blocks of keys (chapter 4)
"""

from genopt_core.attention.online_softmax import (
    attend,
    attend_segments,
    merge_partials,
    softmax_partial,
)

__all__ = ["attend", "attend_segments", "merge_partials", "softmax_partial"]
