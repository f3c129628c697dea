r"""One ladder for each layer: what a layer's loss of bits costs a model, and the best division.

Layers differ: keys of some carry what the model copies from afar, and 2 bits ruin it; values of
others can do with one.  So each side of each layer is put on each ladder *alone*, everything else
exact, and what that does to the predictions on a calibration text is its cost.
:func:`~genopt_core.kvcache.allocate_layers` then divides the bits.

>>> from transformers import LlamaConfig, LlamaForCausalLM
>>> from genopt_core.torch.kvcache.balance import measure_balance
>>> sizes = dict(hidden_size=32, intermediate_size=32, num_attention_heads=2, vocab_size=50)
>>> config = LlamaConfig(num_hidden_layers=2, **sizes)
>>> model = LlamaForCausalLM(config).eval()
>>> ids = torch.arange(160)[None] % 50
>>> keys, values = calibrate_ladders(model, ids, 4.0, decoded=16, chunk=16, progress=False)
>>> len(keys), len(values)
(2, 2)
>>> cache = StaircaseCache(config, keys, values, chunk=16)
>>> cache.limit_bits() <= 4.0, cache_divergence(model, ids, cache, decoded=16) < 0.01
(True, True)
>>> [costs.shape for costs in layer_costs(model, ids, [(16, 4)], decoded=16, chunk=16)]
[(2, 1), (2, 1)]
>>> measure_balance(model, ids, chunk=16, sink=0, recall=False)
Balance(2 layers, 2 heads of 16 channels)
"""

import contextlib
import copy
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from transformers import DynamicCache

from genopt_core.checks import whole
from genopt_core.files import check_writable
from genopt_core.kvcache.ladder import FULL, SIDES, Side
from genopt_core.progress import reporting
from genopt_core.torch.kvcache.cache import StaircaseCache
from genopt_core.torch.kvcache.choice import (
    DECODED,
    LADDERS,
    Calibration,
    Costs,
    all_options,
    cached_channels,
    checked_ladders,
    choose_ladders,
    described,
)
from genopt_core.torch.kvcache.layer import StaircaseLayer
from genopt_core.torch.kvcache.recall import KEY, VALUE, checked_ids, evaluated, recall_probe
from genopt_core.torch.kvcache.settings import cache_word, layer_kinds, stair_count, stair_places

PREFILL = 512
"""Tokens of the prompt that the model reads at once."""

BLOCK = 2**16
"""Probabilities that are compared at once: what the processor keeps near, on others `WIDE`."""
WIDE = 2**25


class Layer(NamedTuple):
    """What `calibrate_ladders` reports of each layer."""

    done: int
    total: int
    cost: np.ndarray
    """(2, ladders), in nats a token: keys, then values."""
    seconds_left: float
    """An estimate from the layers done so far."""


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
    words = exact.shape[-1]
    block = BLOCK if exact.device.type == "cpu" else WIDE
    rows = max(1, block // max(1, words))
    blocks = (x.reshape(-1, words).split(rows) for x in (exact, other))
    each = [_divergence(p, q) for p, q in zip(*blocks, strict=True)]
    return torch.cat(each).view(exact.shape[:-1])


def _divergence(exact: Tensor, other: Tensor) -> Tensor:
    """The divergence of a few rows, which stay in the processor's own memory meanwhile."""
    # the sum of terms p ln(p/q) - p + q, none of them negative, rounds less than the plain sum
    p, gap = exact.double().exp(), (other - exact).double()
    terms = gap.expm1().sub_(gap).mul_(p)
    never = ~(p > 0)  # what cannot follow adds q alone
    if never.any():
        terms = torch.where(never, other.double().exp(), terms)
    return terms.sum(-1)


@torch.no_grad()
def cache_divergence(
    model: Any, ids: Tensor, cache: StaircaseCache, *, decoded: int = DECODED
) -> float:
    """What a cache costs on a text: the mean :func:`divergence` from exact predictions, in nats.

    The model reads all but the last ``decoded`` tokens in full precision, the cache takes their
    keys and values as a prompt, and the model predicts on with it, a chunk of tokens at a time, as
    it would one by one.  Two passes over the text.

    **When to take more bits.**  Ask this of the text that the ladders were chosen on, and of a text
    of the kind that the model will read.  If the second costs more than twice the first, the cache
    is away from home there: take the next budget, or calibrate on both.

    Parameters
    ----------
    model : transformers model
        In evaluation mode.
    ids : (batch, tokens) int tensor
        The text.
    cache : StaircaseCache
        For this model, and empty; it is empty again afterwards.
    decoded : int
        Tokens at the end that are predicted.
    """
    tokens = checked_ids(ids, evaluated(model)).shape[1]
    if not 0 < whole(decoded, "decoded") < tokens:
        raise ValueError(f"decoded must be less than the {tokens} tokens of ids, got {decoded}")
    if cache.get_seq_length():
        raise ValueError(f"cache must be empty, got one of {cache.get_seq_length()} tokens")
    prompt = _prompt(model, ids[:, :-decoded])
    exact = _predictions(model, ids, decoded, prompt)
    before = list(cache.layers)
    try:
        for i, (layer, held) in enumerate(zip(before, prompt, strict=True)):
            if isinstance(layer, StaircaseLayer):
                layer.update(held.keys, held.values)
            else:
                cache.layers[i] = copy.copy(held)
        found = [
            model(part, **{cache_word(model): cache}, use_cache=True).logits.float()
            for part in ids[:, -decoded:].split(cache.settings.chunk, dim=1)
        ]
    finally:
        cache.layers = before
        for layer in cache.stair_layers:
            layer.reset()
    return divergence(exact, torch.cat(found, 1).log_softmax(-1)).mean().item()


def layer_costs(
    model: Any,
    ids: Tensor,
    ladders: Sequence[Sequence[int] | str] = LADDERS,
    *,
    decoded: int = DECODED,
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
        A causal language model of ``transformers`` in evaluation mode, with the layers that a
        :class:`StaircaseCache` takes.
    ids : (batch, tokens) int tensor
        The calibration text.
    ladders : sequence of ladders
        From new to old, as in :class:`StaircaseCache`.
    decoded : int
        Tokens at the end that are predicted.
    layers : sequence of int, optional
        Which layers, by default all in order.  Layers with a window are left out and not counted.
    **cache
        ``chunk``, ``sink``, ``codec``, ``group_size``, ``seed``, ``balance`` of the
        :class:`StaircaseCache`.

    Notes
    -----
    One forward pass of ``decoded`` tokens for each of layers × 2 × ladders; those of layer
    :math:`i` start there, as nothing changes below it.
    """
    evaluated(model)
    ladders = checked_ladders(ladders)
    count = stair_count(model.config)
    _decoder_layers(model)  # refuses what has none
    chosen = range(count) if layers is None else _checked_layers(layers, count)
    probes = {
        (s, o): _probe(model, s, ladder, cache) for s in SIDES for o, ladder in enumerate(ladders)
    }
    checked_ids(ids, model)
    one = next(iter(probes.values())).settings
    need = one.sink + one.chunk * (max(map(len, ladders)) - 1)
    # a floor that no chunk reaches would seem to cost nothing
    if ids.shape[1] < need + whole(decoded, "decoded"):
        raise ValueError(
            f"ids must be at least {need + decoded} tokens, got {ids.shape[1]}: {need} in which "
            f"chunks of {one.chunk} reach every floor, and decoded={decoded} after them"
        )
    return _costs(model, ids, probes, decoded, chosen)


def _checked_layers(layers: Sequence[int], count: int) -> list[int]:
    """``layers`` as a list, if they are among ``count``."""
    try:
        chosen = [whole(i, "layers", 0) for i in layers]
    except (TypeError, ValueError):
        chosen = [count]
    if max(chosen, default=0) >= count:
        raise ValueError(
            f"layers must be a sequence of numbers from 0 to {count - 1}, got {layers!r}"
        )
    return chosen


@torch.no_grad()
def _costs(
    model: Any,
    ids: Tensor,
    probes: Mapping[tuple[Side, int], StaircaseCache],
    decoded: int,
    layers: Sequence[int],
) -> Iterator[np.ndarray]:
    places = stair_places(model.config)
    prompt = _prompt(model, ids[:, :-decoded])
    with _recorded(model) as outputs:
        exact = _predictions(model, ids, decoded, prompt)
    for i in layers:
        cost, place = np.zeros((2, len(probes) // 2)), places[i]
        with _replayed(model, outputs, place):
            for (side, option), probe in probes.items():
                lowered = list(prompt)
                lowered[place] = _lowered(probe, i, prompt[place])
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
    ladders: Sequence[Sequence[int] | str] = LADDERS,
    *,
    length: int | None = None,
    recall: bool = True,
    store: str | os.PathLike[str] | None = None,
    progress: bool | Callable[[Layer], object] = True,
    **options: Any,
) -> Calibration:
    """Ladders of keys and of values, one a layer, that fit ``budget`` best (book, eq. kv-layers).

    They are for ``StaircaseCache(config, keys, values, ...)``, and ``keys, values =`` takes them
    out of the result; a ``balance`` given here goes into that cache too.  It takes long: 10 to 20
    seconds a layer for 135 million parameters on one free core.  The text must have 1408 tokens
    with the defaults; a smaller ``decoded`` needs fewer.

    Parameters
    ----------
    model, ids, ladders
        As in :func:`layer_costs`, like ``options``.
    budget : float
        Bits per element, metadata included, mean over layers and sides, each by its channels.
    length : int, optional
        Tokens in the cache at which the budget holds (book, eq. kv-memory, mean over one chunk's
        lengths up to it); by default in the limit, where only the floors count.
    recall : bool
        Half of what is predicted are random pairs from the front of the text, see
        :func:`~genopt_core.torch.kvcache.recall_probe`.  Ladders chosen without lose much more
        where old tokens are copied.
    store : path, optional
        A file that is written after each layer.  If it is there, what it holds is not measured
        again: an interrupted run goes on, and another budget costs nothing.  The result is in it
        at the end, as :meth:`Calibration.save` writes it.
    progress : bool or function
        As in `genopt_core.progress`; the records are `Layer`, with an estimate of the time left.

    Raises
    ------
    OSError
        If ``store`` cannot be written, before anything is measured.
    ValueError
        Also if ``store`` holds costs of another model, text, choice of ladders or option.
    """
    if "layers" in options:
        raise ValueError("layers cannot be chosen here: the bits are divided among all of them")
    if store is not None:
        check_writable(store)  # now, not after the first layer
    cache = {name: value for name, value in options.items() if name != "decoded"}
    count, ladders = stair_count(evaluated(model).config), checked_ladders(ladders)
    nothing = np.zeros((count, 2, len(ladders)))  # what does not fit is refused before measuring
    cache["channels"] = cached_channels(model)
    choose_ladders(model.config, nothing, budget, ladders, length=length, **cache)
    if recall:
        half = whole(options.get("decoded", DECODED), "decoded") // 2
        ids = recall_probe(checked_ids(ids, model), max(1, half // (KEY + VALUE)))
    waiting = layer_costs(model, ids, ladders, **options)  # refuses too; measures nothing yet
    found = Costs(ladders, described(model, ids, all_options(options)))
    if store is not None and os.path.exists(store):
        found = found.going_on(store)
        todo = range(len(found.costs), count)
        waiting = layer_costs(model, ids, ladders, layers=todo, **options) if todo else iter(())
    first, work = len(found.costs), _work(model)
    with reporting(progress, count, "calibrating", "layers") as report:
        start = last = time.monotonic()
        for cost in waiting:
            now = time.monotonic()
            found, last = found.and_one(cost, now - last), now
            if store is not None:
                found.write(store)
            done = len(found.costs)
            left = (now - start) * float(work[done:].sum() / work[first:done].sum())
            report(Layer(done, count, cost, left))
    chosen = choose_ladders(model.config, found.costs, budget, ladders, length=length, **cache)
    result = Calibration(*chosen, found, budget, length)
    if store is not None:
        result.save(store)
    return result


def _work(model: Any) -> np.ndarray:
    """About how long each layer takes, in passes through one layer: those above it, and the head.

    Of the layers that step down, in order.
    """
    layers = _decoder_layers(model)
    head = getattr(model.get_output_embeddings(), "weight", None)
    size = sum(p.numel() for p in layers[0].parameters())
    words = 0.0 if head is None else head.numel() / max(size, 1)
    return np.array([len(layers) - i + words for i in stair_places(model.config)])


def _decoder_layers(model: Any) -> nn.ModuleList:
    """The layers of the decoder in order, whatever it calls them."""
    decoder, count = model.get_decoder(), len(layer_kinds(model.config))
    lists = [x for x in decoder.modules() if isinstance(x, nn.ModuleList) and len(x) == count]
    if not lists:
        raise ValueError(
            f"model must have its {count} decoder layers in one ModuleList, got none of that length"
            f" in {type(decoder).__name__}"
        )
    return max(lists, key=_numbered)  # the first of those; other lists may be as long


def _numbered(layers: nn.ModuleList) -> bool:
    """Whether each has attention that knows its place in the cache."""
    places = enumerate(layers)
    return all(any(getattr(x, "layer_idx", None) == i for x in y.modules()) for i, y in places)


def _probe(model: Any, side: Side, ladder: Sequence[int], cache: dict[str, Any]) -> StaircaseCache:
    """A cache with one side on a ladder, the other in full precision."""
    full = (FULL,)
    pair = (ladder, full) if side == "key" else (full, ladder)
    return StaircaseCache(model.config, *pair, **cache)


def _prompt(model: Any, ids: Tensor) -> list[Any]:
    """All layers of the library's cache after the prompt, in full precision."""
    cache = DynamicCache(config=model.config)
    given = {cache_word(model): cache, "use_cache": True, "logits_to_keep": 1}
    for part in ids.split(PREFILL, dim=1):
        model(part, **given)
    return list(cache.layers)


def _lowered(probe: StaircaseCache, i: int, exact: Any) -> Any:
    """The layer with keys and values as they come back from layer ``i`` of a staircase cache."""
    layer, lowered = probe.stair_layers[i], copy.copy(exact)
    layer.reset()
    layer.update(exact.keys, exact.values)
    none = exact.keys[..., :0, :], exact.values[..., :0, :]
    lowered.keys, lowered.values = layer.view(*none).restore()
    layer.reset()
    return lowered


def _predictions(model: Any, ids: Tensor, decoded: int, layers: Sequence[Any]) -> Tensor:
    """Log probabilities after each of the last ``decoded`` tokens."""
    cache = DynamicCache(config=model.config)
    cache.layers = [copy.copy(layer) for layer in layers]  # they make new tensors as they grow
    logits = model(ids[:, -decoded:], **{cache_word(model): cache}, use_cache=True).logits
    return logits.float().log_softmax(-1)


@contextlib.contextmanager
def _recorded(model: Any) -> Iterator[list[Any]]:
    """What each decoder layer puts out."""
    layers = _decoder_layers(model)
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
    layers = _decoder_layers(model)[:count]
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
