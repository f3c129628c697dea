"""Small models of transformers: one with weights drawn from a fixed seed, and a real one."""

from functools import cache

import pytest
import torch
from transformers import Gemma3ForCausalLM, Gemma3TextConfig, LlamaConfig, LlamaForCausalLM

from genopt_core.torch.smollm import INSTALL, find_smollm, load_smollm


def tiny(kv_heads=2, *, dim=16, dtype=torch.float32, layers=3):
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=128,
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=kv_heads,
        head_dim=dim,
        max_position_embeddings=1024,
        bos_token_id=1,
        eos_token_id=None,
        pad_token_id=0,
    )
    return LlamaForCausalLM(config).eval().to(dtype).requires_grad_(False)


def alternating(*, window=64, kinds=5 * ("sliding",) + ("full",), vocab=97, dtype=torch.float32):
    """Layers with a window and of full attention in turn, in the way of Gemma 3."""
    torch.manual_seed(0)
    config = Gemma3TextConfig(
        vocab_size=vocab,
        hidden_size=128,
        intermediate_size=192,
        num_hidden_layers=len(kinds),
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=32,
        sliding_window=window,
        layer_types=[f"{kind}_attention" for kind in kinds],
        max_position_embeddings=8192,
        initializer_range=0.2,
        tie_word_embeddings=False,  # tied random weights repeat what they hear
        bos_token_id=1,
        eos_token_id=None,
        pad_token_id=0,
    )
    return Gemma3ForCausalLM(config).eval().to(dtype).requires_grad_(False)


@cache
def smollm():
    """``(tokenizer, model)`` of SmolLM2, loaded once a process: set the attention that you need."""
    if find_smollm() is None:
        pytest.skip(f"needs SmolLM2: {INSTALL}")
    return load_smollm()
