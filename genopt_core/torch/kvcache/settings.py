"""What all layers of one staircase cache have in common."""

import inspect
from dataclasses import dataclass
from typing import Any, Literal

import torch

from genopt_core.checks import one_of, whole

NAME = "genopt_staircase"
"""Under which ``transformers`` knows the attention function that reads packed chunks."""
READERS = {NAME}
"""All attention functions that do; who registers another one adds its name."""


@dataclass(frozen=True, eq=False)
class Settings:
    """The parameters of :class:`~genopt_core.torch.kvcache.StaircaseCache`, checked."""

    config: Any
    chunk: int = 128
    sink: int = 4
    codec: Literal["rotated", "grid"] = "rotated"
    group_size: int = 32
    seed: int = 0
    full_dtype: torch.dtype | None = None

    def __post_init__(self) -> None:
        decoder_of(self.config)
        whole(self.chunk, "chunk")
        whole(self.sink, "sink", least=0)
        one_of(self.codec, "codec", ("rotated", "grid"))
        if self.full_dtype is not None and not self.full_dtype.is_floating_point:
            raise ValueError(f"full_dtype must be a floating-point dtype, got {self.full_dtype}")

    @property
    def head_dim(self) -> int:
        """Channels of a head."""
        text = decoder_of(self.config)
        return getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads

    @property
    def reads_packed(self) -> bool:
        """Whether the model's attention function walks over packed chunks by itself."""
        return getattr(decoder_of(self.config), "_attn_implementation", None) in READERS


def decoder_of(config: Any) -> Any:
    """The part of a configuration of ``transformers`` that describes the decoder."""
    if not hasattr(config, "get_text_config"):
        hint = "; pass model.config" if hasattr(config, "config") else ""
        name = type(config).__name__
        raise TypeError(f"config must be a configuration of transformers, got {name}{hint}")
    return config.get_text_config(decoder=True)


def cache_word(model: Any) -> str:
    """What a model calls its cache: ``cache``, or ``past_key_values`` before transformers 5.24."""
    words = inspect.signature(model.forward).parameters
    return "cache" if "cache" in words else "past_key_values"
