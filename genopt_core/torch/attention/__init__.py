"""PrFlashAttention for PyTorch: plans, fused block-sparse causal attention, pooled rounds.

>>> import torch
>>> from genopt_core.torch.attention import DistanceLaw, near, pr_flash_attention, sample, sink
>>> plan = (sink(1) | near(1) | sample(DistanceLaw.harmonic(), 4)).plan(2048)
>>> q = k = v = torch.zeros(1, 8, 2048, 64)
>>> pr_flash_attention(q, k, v, plan).shape
torch.Size([1, 8, 2048, 64])
"""

from genopt_core.attention.blocks.laws import DistanceLaw
from genopt_core.torch.attention.attention import (
    chosen_path,
    pr_flash_attention,
    rounds_attention,
)
from genopt_core.torch.attention.designs import Design, near, plan_distances, sample, sink
from genopt_core.torch.attention.guarantee import Coverage, Promise, coverage, verify
from genopt_core.torch.attention.module import PrFlashAttention, expected_attention
from genopt_core.torch.attention.plans import Plan, default_block, stack_heads
from genopt_core.torch.attention.rows import block_mass, plan_cost, plan_rows, self_similarity
from genopt_core.torch.attention.subsequence import plan_subsequence
from genopt_core.torch.online_softmax import merge_partials

__all__ = [
    "Coverage",
    "Design",
    "DistanceLaw",
    "Plan",
    "PrFlashAttention",
    "Promise",
    "block_mass",
    "chosen_path",
    "coverage",
    "default_block",
    "expected_attention",
    "merge_partials",
    "near",
    "plan_cost",
    "plan_distances",
    "plan_rows",
    "plan_subsequence",
    "pr_flash_attention",
    "rounds_attention",
    "sample",
    "self_similarity",
    "sink",
    "stack_heads",
    "verify",
]
