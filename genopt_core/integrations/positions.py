r"""Rotation and distance biases of chapter 3 in models of ``transformers``.

`use` gives a decoder that rotates its queries and keys, such as Llama's or SmolLM2's, another
encoding of positions, and takes it away again; `use_saved` gives it the one with which it was
saved.  The attention function adds each query head's bias, holds no square of it, and works with a
growing cache, left padding, prefill in pieces and the staircase cache of
:mod:`genopt_core.torch.kvcache`.
"""

import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import (
    AttentionMaskInterface,
    causal_mask_function,
    prepare_padding_mask,
    sdpa_mask,
)
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from genopt_core.integrations.saved_positions import (
    LEARNED,
    SAVED,
    described,
    encodings,
    learned_numbers,
)
from genopt_core.positions import inverse_frequencies, yarn_temperature
from genopt_core.torch.kvcache.attention import QUERIES, attend_view
from genopt_core.torch.kvcache.layer import View, taken_from
from genopt_core.torch.kvcache.settings import READERS, decoder_of
from genopt_core.torch.positions import DistanceBias, Encoding, biased_attention
from genopt_core.torch.positions.bias import bias_block

__all__ = ["NAME", "ROPE_TYPE", "positioned_attention", "register", "use", "use_saved"]

NAME = "genopt_positions"
"""Under which ``transformers`` knows the attention and the mask function."""
ADDERS: set[str] = set()
"""Other attention functions that add each layer's bias; who registers one adds its name."""
OF_ANY_TYPE = ("rope_theta", "partial_rotary_factor")
"""What ``rope_parameters`` have whatever their ``rope_type``."""
ROPE_TYPE = "genopt"
"""The ``rope_type`` whose frequencies are those of `genopt_core.positions.inverse_frequencies`."""


def register() -> str:
    r"""Make attention, masks and the rope type known to ``transformers``; returns `NAME`.

    After that a configuration may have ``rope_parameters={"rope_type": "genopt", "rope_theta": …}``
    with ``rotated``, ``scaling``, ``factor`` and ``trained_length`` as
    :func:`genopt_core.positions.inverse_frequencies` has them.

    >>> register()
    'genopt_positions'
    """
    AttentionInterface.register(NAME, positioned_attention)
    AttentionMaskInterface.register(NAME, _mask)
    READERS.add(NAME)
    return NAME


def use(model: Any, encoding: Encoding | Sequence[Encoding] | None) -> None:
    r"""Let a model know positions by ``encoding``, or as it did at first by ``None``.

    Weights stay as they are; a model that was trained with another encoding is worse for it.  What
    an encoding learns becomes part of ``model.parameters()``, once wherever it is shared.
    ``model.save_pretrained`` writes it with the weights and describes the encoding in the
    configuration; ``from_pretrained`` knows neither and says that weights are unexpected: call
    `use_saved` after it.  Without that call a fixed bias and layers that do not rotate are left
    out, and only a model that had learned says so.  Import this module before ``from_pretrained``,
    which else does not know how a model turns that does not rotate all pairs.

    Parameters
    ----------
    model : model of transformers
        A decoder with rotary embeddings and attention functions, as Llama, Mistral or Qwen2.
    encoding : Encoding, or one a layer
        Layers rotate one share of their pairs or do not rotate (RoPE in three of four layers).  One
        object for all layers shares what is learned.

    Warns
    -----
    UserWarning
        If the model was saved with an encoding that had learned, which is given up; or if its
        configuration cannot be saved with a share of rotated pairs, as Phi-3's.

    Notes
    -----
    A cache of fixed size (``StaticCache``) is refused: its slots do not tell how far back they lie.

    Examples
    --------
    >>> from transformers import LlamaConfig, LlamaForCausalLM
    >>> from genopt_core.torch.positions import DistanceBias, Encoding
    >>> config = LlamaConfig(vocab_size=9, hidden_size=8, intermediate_size=8, num_hidden_layers=2,
    ...                      num_attention_heads=2)
    >>> model = LlamaForCausalLM(config)
    >>> use(model, Encoding(0.0, DistanceBias([1.0, 0.5])))  # ALiBi
    >>> model(torch.arange(8).view(1, -1)).logits.shape
    torch.Size([1, 8, 9])
    """
    decoder, _ = _parts(model)
    saved = getattr(decoder_of(model.config), SAVED, None)
    if saved and saved["learned"] and not hasattr(decoder, "_genopt_stock"):
        warnings.warn(
            f"model was saved with positions that it had learned ({len(saved['learned'])} tensors "
            "of slopes), and these are now given up: use_saved(model) takes them",
            stacklevel=2,
        )
    _use(model, encoding)


def use_saved(model: Any, folder: str | os.PathLike[str] | None = None) -> list[Encoding]:
    r"""Let a model know positions as it did when it was saved, with all that it had learned.

    Parameters
    ----------
    model : model of transformers
        From ``from_pretrained``, saved by ``save_pretrained`` while `use` was on.
    folder : path or name on the Hub, optional
        Where the weights lie, by default where ``from_pretrained`` read them.

    Returns
    -------
    list of Encoding
        One a layer, as `use` takes them.

    Raises
    ------
    OSError
        If ``folder`` has no weights in the format safetensors.

    Examples
    --------
    >>> import tempfile
    >>> from transformers import LlamaConfig, LlamaForCausalLM
    >>> from genopt_core.torch.positions import encoding
    >>> sizes = {"vocab_size": 9, "hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 2}
    >>> model = LlamaForCausalLM(LlamaConfig(num_attention_heads=2, **sizes))
    >>> use(model, encoding("rope+harmonic", 2, learned=True))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     model.save_pretrained(folder)
    ...     again = LlamaForCausalLM.from_pretrained(folder)
    ...     each = use_saved(again)
    >>> [round(slope, 4) for slope in each[0].bias.strengths().tolist()]
    [1.0, 0.5]
    """
    decoder, _ = _parts(model)
    saved = getattr(decoder_of(model.config), SAVED, None)
    if saved is None:
        raise ValueError(
            "model must have been saved while use(model, encoding) was on, got a configuration "
            f"without {SAVED!r}"
        )
    if hasattr(decoder, "_genopt_stock"):
        raise ValueError("model must come from from_pretrained, got one on which use was called")
    where = model.name_or_path if folder is None else os.fspath(folder)
    if saved["learned"] and not where:
        raise ValueError("folder must be given where from_pretrained read none, got None")
    version = getattr(model.config, "_commit_hash", None) if folder is None else None
    each = encodings(saved, learned_numbers(where, version) if saved["learned"] else {}, where)
    _use(model, each)
    return each


def _use(model: Any, encoding: Encoding | Sequence[Encoding] | None) -> None:
    register()
    decoder, layers = _parts(model)
    config = decoder_of(model.config)
    attention = config._attn_implementation
    if attention in ADDERS:  # for a while, and then it is again what it was
        attention = getattr(model, "_genopt_attention", attention)
    stock = decoder.__dict__.setdefault("_genopt_stock", (dict(config.rope_parameters), attention))
    if encoding is None:
        each: list[Encoding] = [Encoding() for _ in layers]
    elif isinstance(encoding, Encoding):
        each = [encoding] * len(layers)
    elif isinstance(encoding, Sequence) and all(isinstance(one, Encoding) for one in encoding):
        each = list(encoding)
    else:
        raise TypeError(
            "encoding must be an Encoding, as genopt_core.torch.positions.encoding makes it, one a "
            f"layer, or None, got {encoding!r}"
        )
    if len(each) != len(layers):
        raise ValueError(f"encoding must be one or {len(layers)}, one a layer, got {len(each)}")
    for one in each:
        if one.bias is not None and one.bias.heads != config.num_attention_heads:
            raise ValueError(
                f"encoding must have {config.num_attention_heads} heads, those of the model's "
                f"queries, got {one.bias.heads}"
            )
    shares = {one.rotated for one in each if one.rotated} or {0.0}
    if len(shares) > 1:
        raise ValueError(f"encoding must rotate one share of pairs in all layers, got {shares}")
    share = shares.pop()
    _turn(decoder, config, stock[0], 1.0 if encoding is None else share, encoding is None)
    for layer, one in zip(layers, each, strict=True):
        _hold_still(layer, one.rotated != share)
    device = decoder.rotary_emb.inv_freq.device
    for layer, one in zip(layers, each, strict=True):
        # not as a module: what is shared would be saved twice, which the library refuses
        layer.__dict__["genopt_bias"] = None if one.bias is None else one.bias.to(device)
        watch(layer, "_genopt_biased", None if one.bias is None else _is_added)
    biased = any(one.bias is not None for one in each)
    other = biased or any(one.rotated != 1.0 for one in each)  # than the model as it was built
    description, learned = described(each)
    for place, name, given in (
        (decoder, LEARNED, nn.ModuleList(learned) if learned else None),
        (config, SAVED, description if other else None),
    ):
        if given is not None:
            setattr(place, name, given)
        elif hasattr(place, name):
            delattr(place, name)
    if config._attn_implementation not in ADDERS:
        model.set_attn_implementation(NAME if biased else stock[1])


def positioned_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Attention function of ``transformers``: ``(batch, queries, heads, dim)`` output, no weights.

    ``attention_mask`` is ``None``, the padding (batch, tokens), or a bool mask of four dimensions.
    """
    refuse_extras(kwargs, NAME)
    bias = getattr(module, "genopt_bias", None)
    view = taken_from(key)
    if view is not None:
        if view.segments:
            out = _over_packed(query, view, bias, attention_mask, scaling)
            return out.transpose(1, 2).contiguous(), None
        key, value = view.unpacked()
    queries, tokens = query.shape[2], key.shape[2]
    if bias is None and attention_mask is None and queries in (1, tokens):
        return sdpa_attention_forward(
            module, query, key, value, None, dropout=dropout, scaling=scaling
        )
    bias = _free(query.shape[1]) if bias is None else bias
    out = biased_attention(
        query, key, value, bias, scale=scaling, mask=attention_mask, dropout=dropout
    )
    return out.transpose(1, 2).contiguous(), None


def refuse_extras(given: Mapping[str, Any], attention: str) -> None:
    """Refuse what a model wants of attention and ours does not do, such as GPT-OSS's sinks.

    >>> refuse_extras({"softcap": None}, "genopt_positions")
    """
    for name in ("position_bias", "softcap", "s_aux"):
        if given.get(name) is not None:
            raise ValueError(
                f"{name} must be None with attention {attention!r}, got a model that "
                f"gives {name}={given[name]!r:.60}"
            )


def watch(layer: nn.Module, name: str, check: Callable[..., None] | None) -> None:
    """Have ``check`` look at each call of an attention module, in place of an earlier one."""
    before = layer.__dict__.pop(name, None)
    if before is not None:
        before.remove()
    if check is not None:
        layer.__dict__[name] = layer.register_forward_pre_hook(check)


def _is_added(layer: Any, args: Any) -> None:
    """Refuse an attention function that knows nothing of the layer's bias."""
    attention = getattr(getattr(layer, "config", None), "_attn_implementation", None)
    if attention not in (None, NAME, *ADDERS):  # None: a module that does not tell
        raise ValueError(
            f"attention must be {NAME!r} while use(model, encoding) is on, got {attention!r}, "
            "which does not add the bias of positions: call model.set_attn_implementation("
            f"{NAME!r}), which reads packed staircase caches as well, or use(model, None)"
        )


def _over_packed(
    query: Tensor,
    view: View,
    bias: DistanceBias | None,
    mask: Tensor | None,
    scale: float | None,
) -> Tensor:
    """Attention over a staircase cache as it lies packed."""
    queries, closed = query.shape[2], sum(segment.chunks for segment in view.segments)
    tokens = view.sink[0].shape[-2] + closed * view.chunk + view.recent[0].shape[-2]
    bias = _free(query.shape[1]) if bias is None else bias
    line, size = bias.line(tokens, query.device, torch.float32)
    outs = []
    for first in reversed(range(0, queries, QUERIES)):
        last = min(first + QUERIES, queries)
        block = bias_block(line, size, tokens - queries + last - 1, last - first, tokens)[None]
        if mask is not None:
            rows = mask[:, None, None] if mask.dim() == 2 else mask[..., first:last, :].flip(2)
            block = torch.where(rows, block, -torch.inf)
        scaling = query.shape[-1] ** -0.5 if scale is None else scale
        outs.append(attend_view(query[:, :, first:last].flip(2), view, scaling, block))
    return torch.cat(outs, 2).flip(2)


@lru_cache
def _free(heads: int) -> DistanceBias:
    """No bias, for a layer without one among others."""
    return DistanceBias(np.zeros(heads))


def _mask(
    batch_size: int,
    q_length: int,
    kv_length: int,
    q_offset: Any = 0,
    kv_offset: int = 0,
    mask_function: Any = causal_mask_function,
    attention_mask: Tensor | None = None,
    **kwargs: Any,
) -> Tensor | None:
    """What the attention function is told: nothing, or which tokens are padding, or a square.

    Attention is causal anyway, so a square is made only of what is more than causal.
    """
    if int(q_offset) + q_length - kv_offset != kv_length:
        raise ValueError(
            "cache must hold the tokens that came and no more, as DynamicCache does, got "
            f"{kv_length} for {int(q_offset) + q_length - kv_offset} tokens"
        )
    where = (batch_size, q_length, kv_length, q_offset, kv_offset)
    if mask_function is not causal_mask_function:
        square = sdpa_mask(*where, mask_function, attention_mask, **kwargs)
        window = kwargs.get("local_size")
        if square is None or window is None or kv_length > window:
            return square
        # a window that is not shorter than the text is none, unless the square says more
        given = kwargs | {"local_size": None, "allow_is_causal_skip": False}
        plain = sdpa_mask(*where, causal_mask_function, attention_mask, **given)
        if plain is None or not torch.equal(square, plain.expand_as(square)):
            return square
    padding = prepare_padding_mask(attention_mask, kv_length, kv_offset)
    if padding is None:
        return None
    padding = padding[:, kv_offset : kv_offset + kv_length]
    return None if padding.all() else padding


def _rope_parameters(
    config: Any, device: Any = None, seq_len: Any = None, layer_type: Any = None, **kwargs: Any
) -> tuple[Tensor, float]:
    """Frequencies and the factor of cosines and sines, as ``ROPE_INIT_FUNCTIONS`` wants them."""
    given = config.rope_parameters if layer_type is None else config.rope_parameters[layer_type]
    dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    options = {
        k: given[k] for k in ("rotated", "scaling", "factor", "trained_length") if k in given
    }
    omega = inverse_frequencies(dim, theta=given["rope_theta"], **options)
    yarn = options.get("scaling") == "yarn"
    factor = yarn_temperature(options.get("factor", 1.0)) if yarn else 1.0
    return torch.from_numpy(omega).to(device, torch.float32), factor


def _parts(model: Any) -> tuple[Any, list[Any]]:
    """The decoder that makes the angles, and its attention modules."""
    modules = list(model.modules()) if isinstance(model, nn.Module) else []
    decoder = next(
        (m for m in modules if hasattr(getattr(m, "rotary_emb", None), "inv_freq")), None
    )
    layers = [m for m in modules if hasattr(m, "num_key_value_groups") and hasattr(m, "layer_idx")]
    if decoder is None or not layers:
        lacks = "rotary_emb.inv_freq" if decoder is None else "num_key_value_groups"
        raise ValueError(
            "model must be a decoder of transformers that rotates queries and keys of all layers "
            "alike, with a module rotary_emb that has inv_freq and attention modules that have "
            f"num_key_value_groups, as Llama's, got {type(model).__name__} without {lacks}"
        )
    return decoder, layers


def _hold_still(layer: nn.Module, still: bool) -> None:
    """Let a layer rotate as the others do, or not at all."""
    hook = layer.__dict__.pop("_genopt_still", None)
    if hook is not None:
        hook.remove()
    if still:
        layer.__dict__["_genopt_still"] = layer.register_forward_pre_hook(
            _without_angles, with_kwargs=True
        )


def _without_angles(layer: nn.Module, args: Any, kwargs: dict[str, Any]) -> tuple[Any, Any]:
    """The arguments of attention with angles of 0."""
    cos, sin = kwargs["position_embeddings"]
    angles = torch.ones_like(cos), torch.zeros_like(sin)
    return args, kwargs | {"position_embeddings": angles}


def _turn(decoder: Any, config: Any, stock: dict[str, Any], share: float, restore: bool) -> None:
    """Give the decoder the frequencies of which ``share`` turns."""
    kind = stock["rope_type"]
    wanted = dict(stock)
    if not restore and (share < 1 or kind == ROPE_TYPE):
        if share and kind not in ("default", ROPE_TYPE):
            raise ValueError(
                f"encoding must rotate all pairs or none in a model of rope_type {kind!r}, "
                f"got the share {share}"
            )
        # what else a scaling has would be taken for ours
        kept = stock if kind == ROPE_TYPE else {k: v for k, v in stock.items() if k in OF_ANY_TYPE}
        wanted = {**kept, "rope_type": ROPE_TYPE, "rotated": share}
    if wanted != config.rope_parameters:
        device = decoder.rotary_emb.inv_freq.device
        config.rope_parameters = wanted
        _warn_unsaved(config)
        decoder.rotary_emb = type(decoder.rotary_emb)(config).to(device)


def _warn_unsaved(config: Any) -> None:
    """Say it if a configuration with rules of its own, such as Phi-3's, will not be written so."""
    if "validate_rope" not in vars(type(config)):
        return
    try:
        config.validate_rope()
    except (ValueError, KeyError) as error:
        warnings.warn(
            f"{type(config).__name__} cannot be saved while only a share of the pairs rotates "
            f"({error}): use(model, None) before save_pretrained",
            stacklevel=5,
        )


ROPE_INIT_FUNCTIONS[ROPE_TYPE] = _rope_parameters  # a saved model asks for it when it is loaded
