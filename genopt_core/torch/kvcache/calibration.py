r"""One ladder for each layer: what a layer's loss of bits costs a model, and the best division.

Layers differ: keys of some carry what the model copies from afar, and 2 bits ruin it; values of
others can do with one.  So each side of each layer is put on each ladder *alone*, everything else
exact, and what that does to the predictions on a calibration text is its cost.
:func:`~genopt_core.kvcache.allocate_layers` then divides the bits.

>>> from transformers import LlamaConfig, LlamaForCausalLM
>>> sizes = dict(hidden_size=32, intermediate_size=32, num_attention_heads=2, vocab_size=50)
>>> config = LlamaConfig(num_hidden_layers=2, **sizes)
>>> model = LlamaForCausalLM(config).eval()
>>> ids = torch.arange(160)[None] % 50
>>> options = dict(decoded=16, chunk=16, progress=False)
>>> keys, values = calibrate_ladders(model, ids, 4.0, **options)
>>> len(keys), len(values)
(2, 2)
>>> StaircaseCache(config, keys, values, chunk=16).limit_bits() <= 4.0
True
"""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from transformers import DynamicCache

from genopt_core.checks import whole
from genopt_core.kvcache.allocation import allocate_layers
from genopt_core.kvcache.ladder import FULL, SIDES, Side, cache_bits
from genopt_core.progress import reporting
from genopt_core.torch.kvcache.cache import StaircaseCache
from genopt_core.torch.kvcache.codec import codec_of
from genopt_core.torch.kvcache.settings import Settings, cache_word, decoder_of

LADDERS: tuple[tuple[int, ...], ...] = (
    (16, 4, 4, 3, 3, 2, 2, 1),
    (16, 4, 4, 4, 4, 3, 3, 2),
    (16, 4, 4, 4, 4, 3),
    (16, 8, 8, 4),
    (16, 8),
)
"""Ladders to choose from, by falling loss: the stairs above each floor follow measured mass.  For a
budget at a short length, add flat ones such as ``(16, 2)``."""

PREFILL = 512
"""Tokens of the prompt that the model reads at once."""


class Layer(NamedTuple):
    """What `calibrate_ladders` reports of each layer."""

    done: int
    total: int
    cost: np.ndarray
    """(2, ladders), in nats a token: keys, then values."""


def divergence(exact: Tensor, other: Tensor) -> Tensor:
    r"""Kullback-Leibler divergence of rows of log probabilities (book, eq. kv-divergence).

    .. math:: D(p \,\|\, q) = \sum_w p_w \ln \frac{p_w}{q_w}

    ``exact`` and ``other`` are :math:`\ln p` and :math:`\ln q`, ``(..., words)``; the result is a
    ``(...)`` float64 tensor in nats, never negative.

    >>> p, q = torch.tensor([0.5, 0.5]), torch.tensor([0.25, 0.75])
    >>> round(divergence(p.log(), q.log()).item(), 4)  # ln 2 - ln(3) / 2
    0.1438
    """
    if exact.shape != other.shape:
        raise ValueError(f"other must have the shape of exact, {exact.shape}, got {other.shape}")
    # the sum of terms p ln(p/q) - p + q, none of them negative, rounds less than the plain sum
    p, gap = exact.double().exp(), (other - exact).double()
    # what cannot follow, p = 0, adds q alone
    return torch.where(p > 0, p * (gap.expm1() - gap), other.double().exp()).sum(-1)


def layer_costs(
    model: Any,
    ids: Tensor,
    ladders: Sequence[Sequence[int]] = LADDERS,
    *,
    decoded: int = 508,
    layers: Sequence[int] | None = None,
    **cache: Any,
) -> Iterator[np.ndarray]:
    """What keys or values alone on each ladder cost, layer by layer (book, eq. kv-layers).

    The model reads all but the last ``decoded`` tokens in full precision.  Then one side of one
    layer is put on one ladder as a :class:`StaircaseCache` would do it with a prompt, and the model
    predicts on.  The cost is the mean :func:`divergence` from its exact predictions: yielded is a
    (2, ladders) array a layer, in nats a token, keys, then values.

    Parameters
    ----------
    model : transformers model
        A causal language model of ``transformers`` in evaluation mode, full attention everywhere.
    ids : (batch, tokens) int tensor
        The calibration text.
    ladders : sequence of ladders
        From new to old, as in :class:`StaircaseCache`.
    decoded : int
        Tokens at the end that are predicted.
    layers : sequence of int, optional
        Which layers, by default all in order.
    **cache
        ``chunk``, ``sink``, ``codec``, ``group_size``, ``seed`` of the :class:`StaircaseCache`.

    Notes
    -----
    One forward pass of ``decoded`` tokens for each of layers × 2 × ladders; those of layer
    :math:`i` start there, as nothing changes below it.
    """
    if model.training:
        raise ValueError("model must be in evaluation mode, call model.eval() first")
    if not ladders:
        raise ValueError("ladders must not be empty, got none")
    probes = {
        (s, o): _probe(model, s, ladder, cache) for s in SIDES for o, ladder in enumerate(ladders)
    }
    if not isinstance(ids, Tensor) or ids.ndim != 2:
        shape = tuple(ids.shape) if isinstance(ids, Tensor) else type(ids).__name__
        raise ValueError(f"ids must be a (batch, tokens) tensor of the tokenizer's, got {shape}")
    one = next(iter(probes.values())).settings
    need = one.sink + one.chunk * (max(map(len, ladders)) - 1)
    # a floor that no chunk reaches would seem to cost nothing
    if ids.shape[1] < need + whole(decoded, "decoded"):
        raise ValueError(
            f"ids must be at least {need + decoded} tokens, got {ids.shape[1]}: {need} in which "
            f"chunks of {one.chunk} reach every floor, and decoded={decoded} after them"
        )
    return _costs(model, ids, probes, decoded, layers)


@torch.no_grad()
def _costs(
    model: Any,
    ids: Tensor,
    probes: Mapping[tuple[Side, int], StaircaseCache],
    decoded: int,
    layers: Sequence[int] | None,
) -> Iterator[np.ndarray]:
    prompt = _prompt(model, ids[:, :-decoded])
    with _recorded(model) as outputs:
        exact = _predictions(model, ids, decoded, prompt)
    for i in range(len(prompt)) if layers is None else layers:
        cost = np.zeros((2, len(probes) // 2))
        with _replayed(model, outputs, i):
            for (side, option), probe in probes.items():
                lowered = list(prompt)
                lowered[i] = _lowered(probe, i, *prompt[i])
                other = _predictions(model, ids, decoded, lowered)
                row = 0 if side == "key" else 1
                cost[row, option] = divergence(exact, other).mean().item()
        if not np.isfinite(cost).all():
            raise ValueError(f"model predicts NaN or nothing finite with layer {i} on a ladder")
        yield cost


def calibrate_ladders(
    model: Any,
    ids: Tensor,
    budget: float,
    ladders: Sequence[Sequence[int]] = LADDERS,
    *,
    length: int | None = None,
    progress: bool | Callable[[Layer], object] = True,
    **options: Any,
) -> tuple[list[tuple[int, ...]], list[tuple[int, ...]]]:
    """Ladders of keys and of values, one a layer, that fit ``budget`` best (book, eq. kv-layers).

    They are for ``StaircaseCache(config, keys, values, ...)``.  It takes long: 15 to 30 seconds a
    layer for 135 million parameters on one free core.  The text must have 1408 tokens with the
    defaults; a smaller ``decoded`` needs fewer.

    Parameters
    ----------
    model, ids, ladders
        As in :func:`layer_costs`, like ``options``.
    budget : float
        Bits per element, metadata included, mean over layers and sides.
    length : int, optional
        Tokens in the cache at which the budget holds (book, eq. kv-memory, mean over one chunk's
        lengths up to it); by default in the limit, where only the floors count.
    progress : bool or function
        As in `genopt_core.progress`; the records are `Layer`.
    """
    if "layers" in options:
        raise ValueError("layers cannot be chosen here: the bits are divided among all of them")
    cache = {name: value for name, value in options.items() if name != "decoded"}
    count = decoder_of(model.config).num_hidden_layers
    nothing = np.zeros((count, 2, len(ladders)))  # what does not fit is refused before measuring
    choose_ladders(model.config, nothing, budget, ladders, length=length, **cache)
    costs = []
    with reporting(progress, count, "calibrating", "layers") as report:
        for cost in layer_costs(model, ids, ladders, **options):
            costs.append(cost)
            report(Layer(len(costs), count, cost))
    return choose_ladders(model.config, costs, budget, ladders, length=length, **cache)


def choose_ladders(
    config: Any,
    costs: npt.ArrayLike,
    budget: float,
    ladders: Sequence[Sequence[int]] = LADDERS,
    *,
    length: int | None = None,
    **cache: Any,
) -> tuple[list[tuple[int, ...]], list[tuple[int, ...]]]:
    """Ladders of keys and of values, one a layer, from measured costs (book, eq. kv-layers).

    ``costs`` (layers, 2, ladders) come from :func:`layer_costs`; config and ``cache`` are those of
    the :class:`StaircaseCache` and decide what metadata count.  The rest is as in
    :func:`calibrate_ladders`.
    """
    c = np.asarray(costs, dtype=float)
    count = decoder_of(config).num_hidden_layers
    if c.shape != (count, 2, len(ladders)):
        raise ValueError(f"costs must be {(count, 2, len(ladders))} numbers, got {c.shape}")
    if not ladders:
        raise ValueError("ladders must not be empty, got none")
    every = [StaircaseCache(config, ladder, **cache) for ladder in ladders]  # checks each
    settings = every[0].settings
    bits = np.zeros((2, len(ladders)))
    for row, side in zip(bits, SIDES, strict=True):
        meta = codec_of(settings, side, settings.head_dim).metadata_bits()
        row[:] = [_bits(ladder, meta, length, settings) for ladder in ladders]
    chosen = allocate_layers(c.reshape(2 * count, -1), np.tile(bits, (count, 1)), budget)
    picked = [tuple(int(w) for w in ladders[option]) for option in chosen]
    return picked[::2], picked[1::2]


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


def _probe(model: Any, side: Side, ladder: Sequence[int], cache: dict[str, Any]) -> StaircaseCache:
    """A cache with one side on a ladder, the other in full precision."""
    full = (FULL,)
    pair = (ladder, full) if side == "key" else (full, ladder)
    return StaircaseCache(model.config, *pair, **cache)


def _prompt(model: Any, ids: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Keys and values of all layers, read in full precision."""
    cache = DynamicCache(config=model.config)
    given = {cache_word(model): cache, "use_cache": True, "logits_to_keep": 1}
    for part in ids.split(PREFILL, dim=1):
        model(part, **given)
    layers: list[Any] = cache.layers
    return [(layer.keys, layer.values) for layer in layers]


def _lowered(probe: StaircaseCache, i: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
    """Keys and values as they come back from layer ``i`` of a staircase cache."""
    layer = probe.stair_layers[i]
    layer.reset()
    layer.update(keys, values)
    restored = layer.view(keys[..., :0, :], values[..., :0, :]).restore()
    layer.reset()
    return restored


def _predictions(
    model: Any, ids: Tensor, decoded: int, states: Sequence[tuple[Tensor, Tensor]]
) -> Tensor:
    """Log probabilities after each of the last ``decoded`` tokens."""
    cache = DynamicCache(config=model.config)
    for i, (keys, values) in enumerate(states):
        cache.update(keys, values, i)
    logits = model(ids[:, -decoded:], **{cache_word(model): cache}, use_cache=True).logits
    return logits.float().log_softmax(-1)


@contextlib.contextmanager
def _recorded(model: Any) -> Iterator[list[Any]]:
    """What each decoder layer puts out."""
    layers = model.get_decoder().layers
    outputs: list[Any] = [None] * len(layers)

    def keep(i: int) -> Any:
        return lambda module, given, out: outputs.__setitem__(i, out)

    hooks = [layer.register_forward_hook(keep(i)) for i, layer in enumerate(layers)]
    try:
        yield outputs
    finally:
        for hook in hooks:
            hook.remove()


@contextlib.contextmanager
def _replayed(model: Any, outputs: Sequence[Any], count: int) -> Iterator[None]:
    """The first ``count`` layers put out what was recorded, without computing it again."""
    layers = model.get_decoder().layers[:count]
    before = [layer.__dict__.get("forward") for layer in layers]  # accelerate sets its own
    for layer, out in zip(layers, outputs, strict=False):
        layer.forward = lambda *args, out=out, **kwargs: out
    try:
        yield
    finally:
        for layer, own in zip(layers, before, strict=True):
            if own is None:
                del layer.forward
            else:
                layer.forward = own
