r"""The staircase cache (SAQ and SAQ+) for models of ``transformers``."""

import os
from collections.abc import Sequence
from dataclasses import fields
from typing import Any, Literal, Self

import torch
from torch import Tensor
from transformers.cache_utils import Cache, DynamicCache

from genopt_core.checks import one_of
from genopt_core.kvcache.ladder import (
    FULL,
    SIDES,
    Side,
    Stair,
    cache_bits,
    check_ladder,
    format_ladder,
    limit_bits,
)
from genopt_core.torch.kvcache import storage, window
from genopt_core.torch.kvcache.balance import Balance, counted
from genopt_core.torch.kvcache.codec import codec_of
from genopt_core.torch.kvcache.layer import StaircaseLayer
from genopt_core.torch.kvcache.settings import FULL_KIND, Settings, layer_kinds, stair_count

OPTIONS = tuple(field.name for field in fields(Settings) if field.name != "config")


class StaircaseCache(Cache):
    """A cache for ``generate`` whose tokens lose bits as they age (book, algorithm kv-saq).

    It goes wherever a cache goes: ``model.generate(..., cache=cache)``, ``past_key_values=cache``
    before transformers 5.24.  Call ``model.set_attn_implementation(register())`` first, see
    :func:`~genopt_core.torch.kvcache.register`: then attention reads the packed chunks one after
    the other and nothing is restored as a whole.  With any other attention function, such as the
    default "sdpa", the layers restore what they hold for each step, which is slower and warns once
    when tokens come one by one.  Closing a chunk
    touches at most ``len(ladder) - 1`` chunks of keys and of values, so the work per token does not
    grow with the cache.  ``torch.compile`` compiles the model and leaves the cache out.

    Old tokens that are copied, such as names and numbers far above, need more than the ladders of
    the paper leave them: see ``balance``, and choose ladders by
    :func:`~genopt_core.torch.kvcache.calibrate_ladders`.

    In models that alternate full attention with a window, as Gemma 3 does, layers of full attention
    step down.  The others forget old tokens by themselves and hold what the cache of transformers
    holds of the newest; wherever layers are counted or numbered, they are left out.

    Parameters
    ----------
    config : configuration of transformers
        Of the model; each layer must attend to all tokens or to a window of them.
    ladder : sequence of int, or one such sequence a layer
        Widths of keys from new to old, 16 meaning full precision, the dtype of the model.
        ``"16/8/4/2"``, as the book writes it, is a ladder too.
    value_ladder : likewise, optional
        Widths of values; by default those of keys.
    chunk : int
        Tokens of a closed chunk, the paper's :math:`S`.  Before the first one is closed nothing is
        saved.
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
        loses nothing visible with ``torch.float16``, and holds half the bytes there.  Layers with
        a window keep that of the model.
    balance : Balance, optional
        What :func:`~genopt_core.torch.kvcache.measure_balance` found for the model: the same bits
        lose less, most of all where old tokens are copied.  With codec ``"rotated"`` only.

    Examples
    --------
    >>> from transformers import LlamaConfig
    >>> config = LlamaConfig(hidden_size=64, num_attention_heads=2, num_hidden_layers=3)
    >>> cache = StaircaseCache(config, ladder=(16, 8, 4, 2), chunk=32)
    >>> cache.limit_bits()  # 2 bits, and 0.75 of metadata on chunks of 32 by 32 numbers
    2.75
    >>> for layer in range(3):
    ...     keys, values = cache.update(torch.ones(1, 2, 100, 32), torch.ones(1, 2, 100, 32), layer)
    >>> cache
    StaircaseCache(3 layers, 16/8/4/2, 100 tokens, 0.03 MB)
    >>> cache.nbytes() == cache.expected_bytes(), round(cache.bits_per_element(), 2)
    (True, 6.48)
    >>> [(stair.first, stair.last, stair.bits) for stair in cache.stairs(layer=0)]
    [(0, 4, 16), (4, 36, 2), (36, 68, 4), (68, 100, 8)]
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     cache.save(f"{folder}/cache.bin")
    ...     StaircaseCache.restore(f"{folder}/cache.bin", config)
    StaircaseCache(3 layers, 16/8/4/2, 100 tokens, 0.03 MB)
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
        balance: Balance | None = None,
    ):
        self.settings = Settings(config, chunk, sink, codec, group_size, seed, full_dtype)
        count = stair_count(config)
        keys = _per_layer(ladder, count, "ladder")
        values = keys if value_ladder is None else _per_layer(value_ladder, count, "value_ladder")
        for side, rows in zip(SIDES, (keys, values), strict=True):  # now, not in a forward pass
            widths = {width for row in rows for width in row} - {FULL}
            codec_of(self.settings, side, self.settings.head_dim).check(sorted(widths))
        self.balance = _checked(balance)
        maps: list[Any] = [None] * count
        if balance is not None:
            maps = balance.maps(count, self.settings)
        ladders = zip(keys, values, maps, strict=True)
        # the layers with a window are the library's own, whatever its version makes of them
        own = zip(layer_kinds(config), DynamicCache(config=config).layers, strict=True)
        layers = [
            StaircaseLayer(self.settings, *next(ladders)) if kind == FULL_KIND else layer
            for kind, layer in own
        ]
        super().__init__(layers=layers)

    def __repr__(self) -> str:
        """One line."""
        layers = self.stair_layers
        pairs = {tuple(layer.ladders.values()) for layer in layers}
        keys, values = pairs.pop()
        ladder = format_ladder(keys)
        if keys != values:
            ladder = f"keys {ladder}, values {format_ladder(values)}"
        count = len(self.window_layers)
        windows = f" and {counted(count, 'window')}" if count else ""
        return (
            f"{type(self).__name__}({counted(len(layers), 'layer')}{windows}, "
            f"{'ladders by layer' if pairs else ladder}, "
            f"{counted(self.get_seq_length(), 'token')}, {self.nbytes() / 1e6:.2f} MB)"
        )

    @property
    def stair_layers(self) -> list[StaircaseLayer]:
        """The layers that step down, in order."""
        return [layer for layer in self.layers if isinstance(layer, StaircaseLayer)]

    @property
    def window_layers(self) -> list[Any]:
        """The layers with a window, in order, as transformers made them."""
        return [layer for layer in self.layers if not isinstance(layer, StaircaseLayer)]

    def nbytes(self) -> int:
        """Bytes held: codes, metadata, sinks and residuals of all layers, and the windows."""
        stairs = sum(t.nbytes for layer in self.stair_layers for t in layer.tensors)
        return stairs + sum(t.nbytes for layer in self.window_layers for t in window.tensors(layer))

    def expected_bytes(self) -> float:
        """What :meth:`nbytes` must be (book, eq. kv-memory), and the newest tokens of windows.

        After a ``crop`` into closed chunks less may be held, until the chunks that were left
        are on the floor: what has stepped down does not step up when it is among the newest again.
        """
        total = float(sum(window.expected_bytes(layer) for layer in self.window_layers))
        for layer in self.stair_layers:
            if not layer.is_initialized:
                continue
            batch, heads, _, _ = layer.keys.shape
            for side, residual in zip(SIDES, (layer.keys, layer.values), strict=True):
                codec = layer.codecs[side]
                bits = cache_bits(
                    layer.get_seq_length(),
                    layer.ladders[side],
                    self.settings.chunk,
                    metadata=codec.metadata_bits(),
                    sink=self.settings.sink,
                    full_bits=residual.element_size() * 8,
                )
                total += batch * heads * codec.dim * bits / 8
        return total

    def bits_per_element(self) -> float:
        """Bits held over numbers cached, layers with a window left out; 0 for an empty cache."""
        numbers = held = 0
        for layer in self.stair_layers:
            if layer.is_initialized:
                held += sum(t.nbytes for t in layer.tensors)
                for x in (layer.keys, layer.values):
                    numbers += x.shape[0] * x.shape[1] * x.shape[3] * layer.get_seq_length()
        return 8 * held / numbers if numbers else 0.0

    def limit_bits(self) -> float:
        """Bits per element of a very long cache, metadata included (book, eq. kv-memory).

        Of the layers that step down; a window adds nothing to a very long cache.  Channels are
        those of the configuration until the first tokens come with theirs: latents have others.
        """
        settings = self.settings
        plain = {side: codec_of(settings, side, settings.head_dim) for side in SIDES}
        bits = numbers = 0.0
        for layer in self.stair_layers:
            for side, codec in (layer.codecs or plain).items():
                meta, ladder = codec.metadata_bits(), layer.ladders[side]
                each = limit_bits(ladder, ladder, key_metadata=meta, value_metadata=meta)
                bits += codec.dim * each
                numbers += codec.dim
        return bits / numbers

    def stairs(self, layer: int = 0, side: Side = "key") -> list[Stair]:
        """Stairs of a layer that are really held, as :func:`~genopt_core.kvcache.stairs_by_age`.

        ``layer`` counts the layers of full attention.
        """
        return self.stair_layers[layer].stairs(one_of(side, "side", SIDES))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the cache to one file: completely, or the file that was there stays."""
        options = {name: getattr(self.settings, name) for name in OPTIONS}
        if self.settings.full_dtype is not None:
            options["full_dtype"] = str(self.settings.full_dtype)
        rows, tensors = [], dict[str, Tensor]()
        for i, layer in enumerate(self.layers):
            row, held = layer.state() if isinstance(layer, StaircaseLayer) else window.state(layer)
            rows.append(row)
            tensors |= {f"{i}.{name}": t for name, t in held.items()}
        balance = None if self.balance is None else self.balance.digest
        storage.write(path, tensors, {**options, "layers": rows, "balance": balance})

    @classmethod
    def restore(
        cls, path: str | os.PathLike[str], config: Any, balance: Balance | None = None
    ) -> Self:
        """Read a cache that :meth:`save` wrote, for the model of ``config``.

        ``balance`` is that of the cache that was saved; the file holds its digest alone.  Raises
        ``FileNotFoundError`` if there is no such file, ``ValueError`` if it is torn, altered, of
        another format, or not of this model's shape.
        """
        _checked(balance)
        tensors, description = storage.read(path)
        rows, kinds = description["layers"], layer_kinds(config)
        if len(kinds) != len(rows):
            raise ValueError(f"{path} has {len(rows)} layers, the model has {len(kinds)}")
        if [kind == FULL_KIND for kind in kinds] != ["key" in row for row in rows]:
            raise ValueError(f"{path} has windows in other layers than the model has, {kinds}")
        options = {name: description[name] for name in OPTIONS}
        if options["full_dtype"] is not None:
            options["full_dtype"] = getattr(torch, options["full_dtype"].removeprefix("torch."))
        if description.get("balance") != (None if balance is None else balance.digest):
            raise ValueError(
                f"balance must be the one that {path} was saved with, got "
                f"{'none' if balance is None else 'another'}"
            )
        stairs = [row for row in rows if "key" in row]
        ladders = ([row[side] for row in stairs] for side in SIDES)
        cache = cls(config, *ladders, **options, balance=balance)
        for i, (layer, row) in enumerate(zip(cache.layers, rows, strict=True)):
            start = f"{i}."
            own = {n.removeprefix(start): t for n, t in tensors.items() if n.startswith(start)}
            if not isinstance(layer, StaircaseLayer):
                window.fill(layer, row, own)
                continue
            cache.settings.check_shape(path, *(own[n] for n in ("rest.k", "rest.v") if n in own))
            layer.fill(row, own)
        return cache


def _checked(balance: Any) -> Balance | None:
    if balance is not None and not isinstance(balance, Balance):
        raise TypeError(f"balance must be a Balance, of measure_balance, got {balance!r}")
    return balance


def _per_layer(ladder: Sequence, count: int, name: str) -> list[tuple[int, ...]]:
    """One ladder a layer, from one for all or one for each."""
    rows = list(ladder) if isinstance(ladder, Sequence) and not isinstance(ladder, str) else []
    if not rows or not isinstance(rows[0], Sequence):
        return [check_ladder(ladder, name)] * count
    if len(rows) != count:
        raise ValueError(f"{name} must be one ladder or {count}, one a layer, got {len(rows)}")
    return [check_ladder(row, name) for row in rows]
