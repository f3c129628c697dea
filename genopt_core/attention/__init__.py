"""Attention in NumPy: the specification that the fast forms of :mod:`genopt_core.torch` are tested on."""

from genopt_core.attention.online_softmax import attend, attend_segments, merge_partials

__all__ = ["attend", "attend_segments", "merge_partials"]
