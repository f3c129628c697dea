r"""Measured costs of ladders, the best choice by them, and both in a file."""

import hashlib
import inspect
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import torch
import transformers
from torch import Tensor
from transformers import DynamicCache

from genopt_core.checks import whole
from genopt_core.files import write_json
from genopt_core.kvcache.allocation import allocate_layers
from genopt_core.kvcache.ladder import FULL, SIDES, cache_bits, check_ladder
from genopt_core.torch.kvcache.balance import Balance
from genopt_core.torch.kvcache.cache import StaircaseCache
from genopt_core.torch.kvcache.codec import codec_of
from genopt_core.torch.kvcache.recall import checked_model
from genopt_core.torch.kvcache.settings import Settings, cache_word, stair_count, stair_places

Ladder = tuple[int, ...]
FORMAT = "genopt-calibration-1"
SAMPLES = 64
"""Numbers of each weight that tell one model from another."""
DECODED = 508
"""Tokens that are predicted, by default."""

LADDERS: tuple[tuple[int, ...], ...] = (
    (16, 4, 4, 3, 3, 2, 2, 1),
    (16, 4, 4, 4, 4, 3, 3, 2),
    (16, 4, 4, 4, 4, 3),
    (16, 8, 8, 4),
    (16, 8),
)
"""Ladders to choose from, by falling loss: the stairs above each floor follow measured mass.  For a
budget at a short length, add flat ones such as ``(16, 2)``."""


@dataclass(frozen=True, eq=False)
class Costs:
    """What ladders cost a model, layer by layer, as far as it is measured."""

    ladders: tuple[Ladder, ...]
    about: dict[str, Any]
    """Model, text and options, as :func:`described`."""
    costs: tuple[np.ndarray, ...] = ()
    """(2, ladders) arrays, in nats a token: keys, then values; one for each layer that is done."""
    seconds: float = 0.0
    """That measuring took."""

    def and_one(self, cost: np.ndarray, seconds: float) -> Self:
        """With one layer more."""
        return replace(self, costs=(*self.costs, cost), seconds=self.seconds + seconds)

    def going_on(self, path: str | os.PathLike[str]) -> Self:
        """What a file holds of the same measurement.

        Raises ``ValueError`` if it holds another one.
        """
        held, _ = self.read(path)
        other = [] if held.ladders == self.ladders else ["ladders"]
        for name in self.about:
            if name != "options" and held.about.get(name) != self.about[name]:
                other.append(name)
        # files of before tell the options that were given, without those left out
        was, now = (
            _in_words(all_options({})) | about.get("options", {})
            for about in (held.about, self.about)
        )
        for name in sorted(was.keys() | now.keys()):
            if was.get(name) != now.get(name):
                other.append(f"{name} ({was.get(name)}, not {now.get(name)})")
        if other:
            raise ValueError(
                f"store must be of the same model, text, ladders and options, got {os.fspath(path)}"
                f" with another {', '.join(other)}"
            )
        return replace(held, about=self.about)

    def write(self, path: str | os.PathLike[str], chosen: Mapping[str, Any] | None = None) -> None:
        """Write all that is known, whole or not at all."""
        content = {
            "format": FORMAT,
            "about": self.about,
            "made with": {"torch": torch.__version__, "transformers": transformers.__version__},
            "seconds": round(self.seconds, 1),
            "ladders": self.ladders,
            "costs": [cost.tolist() for cost in self.costs],
            "chosen": chosen,
        }
        write_json(path, content, indent=1)

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> tuple[Self, dict[str, Any] | None]:
        """What :meth:`write` wrote: the costs, and what was chosen by them."""
        try:
            content = json.loads(Path(path).read_text(encoding="utf-8"))
            if content["format"] != FORMAT:
                raise ValueError(f"format is {content['format']!r}")
            ladders = tuple(map(tuple, content["ladders"]))
            costs = tuple(np.array(cost, float) for cost in content["costs"])
            if any(cost.shape != (2, len(ladders)) for cost in costs):
                raise ValueError("costs and ladders do not fit")
            return cls(ladders, content["about"], costs, content["seconds"]), content["chosen"]
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(
                f"{os.fspath(path)} must be a file of calibrate_ladders ({FORMAT}): {error}"
            ) from error


class Calibration(tuple[list[Ladder], list[Ladder]]):
    """Ladders of keys and of values, one a layer, and the measurement behind them.

    A pair: ``keys, values = calibration``.

    Attributes
    ----------
    measured : Costs
        Its ``costs`` are (2, ladders) arrays, one a layer, for :func:`choose_ladders`.
    budget, length
        As in :func:`~genopt_core.torch.kvcache.calibrate_ladders`.

    Examples
    --------
    >>> measured = Costs(((16, 8), (16, 4)), {}, (np.array([[0.0, 1.0], [0.0, 1.0]]),))
    >>> found = Calibration([(16, 8)], [(16, 8)], measured, budget=8.0)
    >>> keys, values = found
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     found.save(f"{folder}/ladders.json")
    ...     Calibration.load(f"{folder}/ladders.json") == found
    True
    """

    measured: Costs
    budget: float
    length: int | None

    def __new__(
        cls,
        keys: list[Ladder],
        values: list[Ladder],
        measured: Costs,
        budget: float,
        length: int | None = None,
    ) -> Self:
        """The pair, and where it comes from."""
        self = super().__new__(cls, (keys, values))
        self.measured, self.budget, self.length = measured, budget, length
        return self

    def __getnewargs__(self) -> tuple[Any, ...]:
        """How a copy is made."""
        return (*self, self.measured, self.budget, self.length)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write ladders, costs and where they come from as JSON, whole or not at all."""
        keys, values = self
        chosen = {"budget": self.budget, "length": self.length, "keys": keys, "values": values}
        self.measured.write(path, chosen)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read what :meth:`save` wrote.

        Raises
        ------
        FileNotFoundError
            If there is no such file.
        """
        measured, chosen = Costs.read(path)
        if chosen is None:
            raise ValueError(
                f"{os.fspath(path)} must hold all layers, got {len(measured.costs)} of a run that "
                "was interrupted: calibrate_ladders(..., store=path) goes on"
            )
        keys, values = ([tuple(ladder) for ladder in chosen[side]] for side in ("keys", "values"))
        return cls(keys, values, measured, chosen["budget"], chosen["length"])


def described(model: Any, ids: Tensor, options: Mapping[str, Any]) -> dict[str, Any]:
    """What costs depend on, in words and digests: model, text and options."""
    total = hashlib.sha256(str(model.config.model_type).encode())
    for name, weight in model.state_dict().items():
        few = weight.flatten()[:: max(1, weight.numel() // SAMPLES)]
        total.update(f"{name} {tuple(weight.shape)} {weight.dtype}".encode())
        total.update(few.double().cpu().numpy().tobytes())
    text = hashlib.sha256(ids.cpu().long().numpy().tobytes()).hexdigest()
    return {
        "model": {"type": model.config.model_type, "sha256": total.hexdigest()},
        "text": {"tokens": list(ids.shape), "sha256": text},
        "options": _in_words(options),
    }


def all_options(given: Mapping[str, Any]) -> dict[str, Any]:
    """Options of a measurement, with those that were left out."""
    own = inspect.signature(StaircaseCache).parameters.values()
    left_out = {x.name: x.default for x in own if x.kind is x.KEYWORD_ONLY}
    return {"decoded": DECODED, **left_out, **given}


def _in_words(options: Mapping[str, Any]) -> dict[str, str]:
    """As a file holds them, by name."""
    return {
        name: value.digest if isinstance(value, Balance) else str(value)
        for name, value in sorted(options.items())
    }


def checked_ladders(ladders: Sequence[Sequence[int] | str]) -> tuple[Ladder, ...]:
    """Ladders to choose from as tuples of widths; any may be text, as in :class:`StaircaseCache`.

    >>> checked_ladders(["16/8", (16, 4)])
    ((16, 8), (16, 4))
    """
    if isinstance(ladders, str) or not hasattr(ladders, "__len__"):
        raise TypeError(f"ladders must be a sequence of ladders, got {ladders!r}")
    if not len(ladders):
        raise ValueError("ladders must not be empty, got none")
    return tuple(check_ladder(ladder, "each of ladders") for ladder in ladders)


def choose_ladders(
    config: Any,
    costs: npt.ArrayLike,
    budget: float,
    ladders: Sequence[Sequence[int] | str] = LADDERS,
    *,
    length: int | None = None,
    channels: Sequence[int] | None = None,
    **cache: Any,
) -> tuple[list[tuple[int, ...]], list[tuple[int, ...]]]:
    """Ladders of keys and of values, one a layer, from measured costs (book, eq. kv-layers).

    ``costs`` (layers, 2, ladders) come from :func:`layer_costs`; config and ``cache`` are those of
    the :class:`StaircaseCache` and decide what metadata count.  ``channels`` of keys and of values
    in the cache, by default those of a head, matter where the two differ
    (:func:`cached_channels`).  The rest is as in :func:`calibrate_ladders`.

    >>> from transformers import LlamaConfig, LlamaForCausalLM
    >>> config = LlamaConfig(vocab_size=9, hidden_size=64, intermediate_size=8, num_hidden_layers=2,
    ...                      num_attention_heads=2)
    >>> costs = [[[0.0, 0.1], [0.0, 0.2]], [[0.0, 0.4], [0.0, 0.0]]]
    >>> choose_ladders(config, costs, 7.0, [(16, 8), (16, 4)])
    ([(16, 4), (16, 8)], [(16, 8), (16, 4)])
    """
    ladders = checked_ladders(ladders)
    c = np.asarray(costs, dtype=float)
    count = stair_count(config)
    if c.shape != (count, 2, len(ladders)):
        raise ValueError(f"costs must be {(count, 2, len(ladders))} numbers, got {c.shape}")
    every = [StaircaseCache(config, ladder, **cache) for ladder in ladders]  # checks each
    settings = every[0].settings
    dims: Any = [settings.head_dim] * 2 if channels is None else channels
    if not isinstance(dims, Sequence) or len(dims) != 2:
        raise ValueError(f"channels must be two, of keys and of values, got {channels!r}")
    bits = np.zeros((2, len(ladders)))
    for row, side, dim in zip(bits, SIDES, dims, strict=True):
        meta = codec_of(settings, side, whole(dim, "channels")).metadata_bits()
        row[:] = [_bits(ladder, meta, length, settings) for ladder in ladders]
    every_bits, sizes = np.tile(bits, (count, 1)), np.tile(dims, count)
    chosen = allocate_layers(c.reshape(2 * count, -1), every_bits, budget, sizes=sizes)
    picked = [ladders[option] for option in chosen]
    return picked[::2], picked[1::2]


@torch.no_grad()
def cached_channels(model: Any) -> tuple[int, int]:
    """Channels of keys and of values as a model caches them: one token is read to see.

    >>> from transformers import DeepseekV3Config, DeepseekV3ForCausalLM
    >>> config = DeepseekV3Config(vocab_size=9, hidden_size=32, intermediate_size=8, pad_token_id=0,
    ...     num_hidden_layers=1, num_attention_heads=2, kv_lora_rank=32, qk_rope_head_dim=16)
    >>> cached_channels(DeepseekV3ForCausalLM(config))
    (32, 16)
    """
    place = stair_places(checked_model(model).config)[0]
    cache = DynamicCache(config=model.config)
    one = torch.zeros(1, 1, dtype=torch.long, device=model.device)
    model(one, **{cache_word(model): cache}, use_cache=True)
    layer: Any = cache.layers[place]
    return layer.keys.shape[-1], layer.values.shape[-1]


def _bits(ladder: Sequence[int], metadata: float, length: int | None, settings: Settings) -> float:
    """Bits per element of one side, in the limit or at a length."""
    if length is None:
        return ladder[-1] + metadata * (ladder[-1] < FULL)
    chunk, sink = settings.chunk, settings.sink
    if length < chunk:
        raise ValueError(f"length must be at least chunk={chunk}, got {length}")
    lengths = range(length - chunk + 1, length + 1)
    held = [cache_bits(n, ladder, chunk, metadata=metadata, sink=sink) / n for n in lengths]
    return float(np.mean(held))
