"""What all layers of one staircase cache have in common."""

import inspect
import warnings
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any, Literal

import torch
from transformers.cache_utils import get_layer_types_and_kwargs

from genopt_core.checks import one_of, whole

NAME = "genopt_staircase"
"""Under which ``transformers`` knows the attention function that reads packed chunks."""
COMPILED = f"{NAME}_compiled"
"""The same with compiled kernels for single tokens."""
NOT_TRACED = (
    "a staircase cache changes shape as it grows: torch.compile leaves it out and compiles the "
    "rest of the model, so fullgraph must be False"
)
"""What a compiler is told about the functions that it must leave alone."""
READERS = {NAME}
"""All attention functions that do; who registers another one adds its name."""
PLAIN = {"sdpa", "eager"}
"""Those of transformers that compute the same as ours, so ours may take their place."""
FULL_KIND = "full_attention"
"""What transformers calls a layer that attends to all tokens."""
WINDOWS = ("sliding_attention", "chunked_attention")
"""And those that attend to the newest tokens alone: they have no old ones to step down."""

FULL_DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
"""In which sinks and residuals may be held; one of 8 bits is not computed with."""


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
        for name, least in (("chunk", 1), ("sink", 0), ("group_size", 1), ("seed", 0)):
            object.__setattr__(self, name, whole(getattr(self, name), name, least))
        one_of(self.codec, "codec", ("rotated", "grid"))
        if self.full_dtype is not None:
            one_of(self.full_dtype, "full_dtype", FULL_DTYPES)

    def __deepcopy__(self, memo: Any) -> "Settings":
        """Itself: the copy of a cache follows the attention of the same model."""
        return self

    @property
    def _full(self) -> Any:
        """What describes layers of full attention."""
        text, kinds = decoder_of(self.config), layer_kinds(self.config)
        each = getattr(text, "per_layer_config", None)  # not in every transformers 5
        # in Gemma 4 layers with a window have others
        return each[kinds.index(FULL_KIND)] if each and FULL_KIND in kinds else text

    @property
    def head_dim(self) -> int:
        """Channels of a head of full attention."""
        text = self._full
        return getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads

    def check_shape(self, path: Any, *held: torch.Tensor) -> None:
        """Raise ``ValueError`` if keys and values of a file are not of the shape of this model."""
        text = self._full
        names = ("num_key_value_heads", "num_kv_heads", "num_attention_heads")
        heads = {next(n for name in names if (n := getattr(text, name, None)))}
        if getattr(text, "multi_query", False):
            heads.add(1)
        if getattr(text, "new_decoder_architecture", False):  # Falcon repeats them for all heads
            heads.add(text.num_attention_heads)
        known = {(n, self.head_dim, self.head_dim) for n in heads}
        if self.latents:  # as they are, or expanded
            known.add((1, text.kv_lora_rank, text.qk_rope_head_dim))
            wide = text.qk_nope_head_dim + text.qk_rope_head_dim
            known |= {(n, wide, text.v_head_dim) for n in heads}
        if held and (held[0].shape[1], *(x.shape[-1] for x in held)) not in known:
            dims = [x.shape[-1] for x in held]
            own = " or ".join(f"{n} with {k} and {v}" for n, k, v in sorted(known))
            raise ValueError(
                f"path must be of a cache of this model, whose key and value heads are {own} "
                f"channels, got {path} with {held[0].shape[1]} of {dims[0]} and {dims[1]}"
            )

    @cached_property
    def latents(self) -> bool:
        """Whether the model may cache one latent for all heads, as DeepSeek V2 and V3 do (MLA)."""
        return bool(getattr(self._full, "kv_lora_rank", None))

    @property
    def attention(self) -> str | None:
        """Name of the model's attention function, as it is now."""
        return getattr(decoder_of(self.config), "_attn_implementation", None)

    @property
    def reads_packed(self) -> bool:
        """Whether that function walks over packed chunks by itself."""
        return self.attention in READERS


def exactly(device: torch.device) -> AbstractContextManager[Any]:
    """A block in which numbers have the dtypes that they were given, whatever autocast is on.

    Codes, their float16 metadata and sums of float32 are nothing to cast; ``torch.autocast`` takes
    part of them for its own and fails on the rest.
    """
    if device.type == "meta" or not torch.is_autocast_enabled(device.type):
        return nullcontext()
    return torch.autocast(device.type, enabled=False)


@cache
def warn_restoring(attention: str | None) -> None:
    """Say once that this attention function makes the cache restore itself for each token."""
    warnings.warn(
        f"attention {attention!r} has the staircase cache restored for each new token; faster, the "
        "more the longer, is model.set_attn_implementation(genopt_core.torch.kvcache.register())",
        stacklevel=2,
    )


def decoder_of(config: Any) -> Any:
    """The part of a configuration of ``transformers`` that describes the decoder."""
    if not hasattr(config, "get_text_config"):
        hint = "; pass model.config" if hasattr(config, "config") else ""
        name = type(config).__name__
        raise TypeError(f"config must be a configuration of transformers, got {name}{hint}")
    return config.get_text_config(decoder=True)


def layer_kinds(config: Any) -> list[str]:
    """What each layer attends to, in the words of transformers."""
    return list(get_layer_types_and_kwargs(decoder_of(config))[0])


def stair_places(config: Any) -> list[int]:
    """Which layers step down: those of full attention, if all others have a window."""
    kinds = layer_kinds(config)
    foreign = sorted(set(kinds) - {FULL_KIND, *WINDOWS})
    if foreign:
        raise ValueError(
            f"config must have layers of full_attention or with a window ({', '.join(WINDOWS)}), "
            f"got {foreign}; what they hold is not keys and values of each token"
        )
    if FULL_KIND not in kinds:
        raise ValueError(
            f"config must have full_attention in some layer, got {sorted(set(kinds))} in all; a "
            "layer that forgets old tokens by itself has none to step down"
        )
    return [i for i, kind in enumerate(kinds) if kind == FULL_KIND]


def stair_count(config: Any) -> int:
    """How many layers step down."""
    return len(stair_places(config))


def cache_word(model: Any) -> str:
    """What a model calls its cache: ``cache``, or ``past_key_values`` before transformers 5.24."""
    words = inspect.signature(model.forward).parameters
    return "cache" if "cache" in words else "past_key_values"
