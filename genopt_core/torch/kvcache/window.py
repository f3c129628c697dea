r"""Layers with a window in a staircase cache: the library's own, counted and stored.

Such a layer holds keys and values of the newest tokens alone and the number of all that it has
seen.  ``transformers`` keeps ``window - 1`` of them, as the next token is the last of its window.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor


def tensors(layer: Any) -> tuple[Tensor, ...]:
    """Keys and values held; none before the first tokens."""
    return (layer.keys, layer.values) if layer.is_initialized else ()


def expected_bytes(layer: Any) -> int:
    r"""Bytes of the newest tokens, :math:`\min(n, w - 1)` of :math:`n` with window :math:`w`."""
    tokens = min(layer.get_seq_length(), layer.sliding_window - 1)
    shapes = [(t.shape, t.element_size()) for t in tensors(layer)]
    return sum(batch * heads * tokens * dim * size for (batch, heads, _, dim), size in shapes)


def state(layer: Any) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """A description of plain numbers and names, and the tensors by name."""
    description = {
        "window": layer.sliding_window,
        "tokens": layer.get_seq_length(),
        # more than a window is held while a guess may have to be taken back
        "recording": getattr(layer, "record_past", False),
        "dtype": str(layer.keys.dtype) if layer.is_initialized else None,
    }
    return description, dict(zip("kv", tensors(layer), strict=False))


def fill(layer: Any, description: Mapping[str, Any], held: Mapping[str, Tensor]) -> None:
    """Hold what :func:`state` described."""
    if description["window"] != layer.sliding_window:
        raise ValueError(
            f"the cache has a window of {description['window']} tokens, the model has one of "
            f"{layer.sliding_window}"
        )
    if description["dtype"] is None:
        return
    dtype = getattr(torch, description["dtype"].removeprefix("torch."))
    layer.lazy_initialization(held["k"].to(dtype), held["v"].to(dtype))
    layer.keys, layer.values = held["k"], held["v"]
    layer.cumulative_length, layer.record_past = description["tokens"], description["recording"]
