r"""The parts of the core that need PyTorch; nothing else in ``genopt_core`` imports it.

- :mod:`genopt_core.torch.online_softmax`: attention in pieces that merge exactly
- :mod:`genopt_core.torch.attention`: PrFlashAttention, block-sparse attention with exact gradients
- :mod:`genopt_core.torch.kvcache`: the staircase cache for ``transformers`` models
- :mod:`genopt_core.torch.positions`: rotation, distance biases and attention with them
- :mod:`genopt_core.torch.model`: one small language model with all five methods
- :mod:`genopt_core.torch.smollm`: the small real language model the book measures on

Importing this package imports none of them.
"""
