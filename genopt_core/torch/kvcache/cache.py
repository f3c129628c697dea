r"""The staircase cache (SAQ and SAQ+) for models of ``transformers``.

>>> from transformers import LlamaConfig
>>> config = LlamaConfig(hidden_size=64, num_attention_heads=2, num_hidden_layers=3)
>>> cache = StaircaseCache(config, ladder=(16, 8, 4, 2), chunk=32)
>>> cache.limit_bits()  # 2 bits, and 0.75 of metadata on chunks of 32 by 32 numbers
2.75

It goes wherever a cache goes: ``model.generate(..., past_key_values=cache)``.  With any attention
function the layers restore what they hold for each step.  With the one that
:func:`~genopt_core.torch.kvcache.attention.register` installs, attention reads the packed
chunks one after the other and nothing is restored as a whole.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor
from transformers.cache_utils import Cache, get_layer_types_and_kwargs

from genopt_core.kvcache.codec import Side
from genopt_core.kvcache.ladder import FULL, Stair, cache_bits, check_ladder, limit_bits
from genopt_core.torch.kvcache.codec import GridCodec, RotatedCodec
from genopt_core.torch.kvcache.layer import SIDES, StaircaseLayer

__all__ = ["StaircaseCache"]


class StaircaseCache(Cache):
    r"""A cache for ``generate`` whose tokens lose bits as they age (ch. 5, algorithm kv-saq).

    Parameters
    ----------
    config : configuration of transformers
        Of the model; all layers must attend to all tokens.
    ladder : sequence of int, or one such sequence a layer
        Widths of keys from new to old, 16 meaning full precision: ``(16, 8, 4, 2)``.
    value_ladder : likewise, optional
        Widths of values; by default those of keys.
    chunk : int
        Tokens of a closed chunk, the paper's :math:`S`.
    sink : int
        First tokens that stay in full precision (the paper has none).  In a left-padded batch the
        padding takes their place in the shorter rows.
    codec : {"rotated", "grid"}
        ``"rotated"``: rotation, Lloyd-Max codes and norm correction, the book's SAQ+ (widths 1 to
        4 and 8).  ``"grid"``: the paper's min-max grid, as in KIVI (widths 1 to 8).
    group_size : int
        Numbers that share a scale in a ``"grid"``.
    seed : int
        Of the rotation.
    full_dtype : torch.dtype, optional
        In which full-precision parts are kept; by default that of the model.  A float32 model
        loses nothing visible with ``torch.float16``, and holds half the bytes there.

    Raises
    ------
    ValueError
        If a ladder, size or name does not fit, or a layer has a sliding window, linear attention,
        or another state than keys and values of all tokens.

    Notes
    -----
    Closing a chunk touches at most ``len(ladder) - 1`` chunks, so the work per token does not grow
    with the cache.  :meth:`nbytes` counts what is held; eq. kv-memory predicts it exactly
    (:meth:`expected_bytes`).  Values are closed together with keys (the paper leaves that open).
    """

    def __init__(
        self,
        config: Any,
        ladder: Sequence[int] | Sequence[Sequence[int]] = (16, 8, 4, 2),
        value_ladder: Sequence[int] | Sequence[Sequence[int]] | None = None,
        *,
        chunk: int = 128,
        sink: int = 4,
        codec: Literal["rotated", "grid"] = "rotated",
        group_size: int = 32,
        seed: int = 0,
        full_dtype: torch.dtype | None = None,
    ):
        text = config.get_text_config(decoder=True)
        kinds, _ = get_layer_types_and_kwargs(text)
        foreign = sorted(set(kinds) - {"full_attention"})
        if foreign:
            raise ValueError(
                f"config must have full attention in all layers, this one has {foreign}; a layer "
                "that forgets old tokens by itself has none to step down"
            )
        if chunk < 1 or sink < 0:
            raise ValueError(f"chunk must be at least 1 and sink 0, got chunk={chunk}, sink={sink}")
        if codec not in ("rotated", "grid"):
            raise ValueError(f"codec must be 'rotated' or 'grid', got {codec!r}")
        if full_dtype is not None and not full_dtype.is_floating_point:
            raise ValueError(f"full_dtype must be a floating-point dtype, got {full_dtype}")
        count = text.num_hidden_layers
        keys = _per_layer(ladder, count, "ladder")
        values = keys if value_ladder is None else _per_layer(value_ladder, count, "value_ladder")
        self.config, self.chunk, self.sink = config, chunk, sink
        self.codec, self.group_size, self.seed = codec, group_size, seed
        self.full_dtype = full_dtype
        self._codecs: dict[tuple, GridCodec | RotatedCodec] = {}
        layers = [StaircaseLayer(self, k, v) for k, v in zip(keys, values, strict=True)]
        dim = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
        for layer in layers:  # now rather than in the middle of a forward pass
            for side, widths in layer.ladders.items():
                self._codec(side, dim, None).check([w for w in widths if w != FULL])
        self.head_dim = dim
        super().__init__(layers=list(layers))

    @property
    def stair_layers(self) -> list[StaircaseLayer]:
        """The layers, by their own type."""
        return [layer for layer in self.layers if isinstance(layer, StaircaseLayer)]

    def codec_of(self, side: Side, x: Tensor) -> GridCodec | RotatedCodec:
        """The codec that all layers with states like ``x`` share."""
        return self._codec(side, x.shape[-1], x.device)

    def _codec(self, side: Side, dim: int, device: torch.device | None) -> GridCodec | RotatedCodec:
        at = (side, dim, device)
        if at not in self._codecs:
            if self.codec == "grid":
                self._codecs[at] = GridCodec(side, dim, self.chunk, self.group_size)
            else:
                rotated = RotatedCodec(side, dim, self.chunk, self.seed)
                if device is not None:
                    rotated.to(device)
                self._codecs[at] = rotated
        return self._codecs[at]

    def reads_packed(self) -> bool:
        """Whether the model's attention function walks over packed chunks by itself."""
        from genopt_core.torch.kvcache.attention import NAME

        text = self.config.get_text_config(decoder=True)
        return getattr(text, "_attn_implementation", None) == NAME

    def nbytes(self) -> int:
        """Bytes held: codes, metadata, sinks and residuals of all layers."""
        return sum(t.nbytes for layer in self.stair_layers for t in layer.tensors)

    def expected_bytes(self) -> float:
        """Bytes by eq. kv-memory."""
        total = 0.0
        for layer in self.stair_layers:
            if not layer.is_initialized:
                continue
            batch, heads, _, _ = layer.keys.shape
            for side, residual in zip(SIDES, (layer.keys, layer.values), strict=True):
                codec = layer.codecs[side]
                bits = cache_bits(
                    layer.get_seq_length(),
                    layer.ladders[side],
                    self.chunk,
                    metadata=codec.metadata_bits(),
                    sink=self.sink,
                    full_bits=residual.element_size() * 8,
                )
                total += batch * heads * codec.dim * bits / 8
        return total

    def bits_per_element(self) -> float:
        """Bits held over numbers cached; 0 for an empty cache."""
        numbers = 0
        for layer in self.stair_layers:
            if layer.is_initialized:
                for x in (layer.keys, layer.values):
                    numbers += x.shape[0] * x.shape[1] * x.shape[3] * layer.get_seq_length()
        return 8 * self.nbytes() / numbers if numbers else 0.0

    def limit_bits(self) -> float:
        """Bits per element of a very long cache, metadata included (eq. kv-memory)."""
        meta = {side: self._codec(side, self.head_dim, None).metadata_bits() for side in SIDES}
        each = [
            limit_bits(
                layer.ladders["key"],
                layer.ladders["value"],
                key_metadata=meta["key"],
                value_metadata=meta["value"],
            )
            for layer in self.stair_layers
        ]
        return sum(each) / len(each)

    def stairs(self, layer: int = 0, side: Side = "key") -> list[Stair]:
        """``(first, last, bits)`` of the tokens of a layer, oldest first.

        Neighbouring chunks of equal width are one stair; sinks and residual are stairs of their
        own.
        """
        if side not in SIDES:
            raise ValueError(f"side must be 'key' or 'value', got {side!r}")
        return self.stair_layers[layer].stairs(side)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the cache to one file, see :func:`~genopt_core.torch.kvcache.storage.save_cache`."""
        from genopt_core.torch.kvcache.storage import save_cache

        save_cache(self, path)

    @classmethod
    def restore(cls, path: str | os.PathLike[str], config: Any) -> StaircaseCache:
        """Read a cache that :meth:`save` wrote, for the model of ``config``.

        Raises as :func:`~genopt_core.torch.kvcache.storage.load_cache` does.
        """
        from genopt_core.torch.kvcache.storage import load_cache

        return load_cache(path, config)


def _per_layer(ladder: Sequence, count: int, name: str) -> list[tuple[int, ...]]:
    """One ladder a layer, from one for all or one for each."""
    rows = list(ladder)
    if rows and isinstance(rows[0], Sequence):
        if len(rows) != count:
            raise ValueError(f"{name} must be one ladder or {count}, one a layer; got {len(rows)}")
        return [check_ladder(row, name) for row in rows]
    return [check_ladder(rows, name)] * count
