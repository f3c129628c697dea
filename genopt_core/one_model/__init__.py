"""Chapter 6, one small language model with all five methods: its shape, its score, its use.

What needs PyTorch, the decoder and its training, is in :mod:`genopt_core.torch.model`.
"""

from genopt_core.one_model.config import POSITIONS, ModelConfig
from genopt_core.one_model.forward import Forward, ForwardCache
from genopt_core.one_model.score import bits_per_byte
from genopt_core.one_model.tokens import token_bytes, tokenizer_digest

__all__ = [
    "POSITIONS",
    "Forward",
    "ForwardCache",
    "ModelConfig",
    "bits_per_byte",
    "token_bytes",
    "tokenizer_digest",
]
