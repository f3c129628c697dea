"""Chapter 6, one small language model with all five methods: its shape, its score, its use.

What needs PyTorch, the decoder and its training, is in :mod:`genopt_core.torch.model`.
"""

from genopt_core.one_model.blocks import DrawnBlocks
from genopt_core.one_model.config import POSITIONS, ModelConfig
from genopt_core.one_model.forward import Attended, Forward, ForwardCache
from genopt_core.one_model.generation import (
    Continued,
    continued,
    divergence,
    drawn,
    next_probabilities,
)
from genopt_core.one_model.score import bits_per_byte
from genopt_core.one_model.tokens import token_bytes, tokenizer_digest

__all__ = [
    "POSITIONS",
    "Attended",
    "Continued",
    "DrawnBlocks",
    "Forward",
    "ForwardCache",
    "ModelConfig",
    "bits_per_byte",
    "continued",
    "divergence",
    "drawn",
    "next_probabilities",
    "token_bytes",
    "tokenizer_digest",
]
