r"""Attention straight over a packed staircase cache (ch. 5, eq. kv-rotated-attention).

Rotation keeps scalar products, so a rotated key need not be turned back:

.. math:: q^\top \hat k_j = q^\top \bar k + g_j\, (qR)\, \ell(c_j)^\top, \qquad
          o = \Big(\sum_j p_j g_j\, \ell(c_j)\Big) R^\top

The query is rotated once, the output back once; each segment costs a table look-up and two small
products, and is forgotten before the next.  Groups of segments merge by the online softmax.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

from .codec import GridCodec, PackedChunks, RotatedCodec, join
from .layer import PAGE, Held, Segment, View
from .online_softmax import attend, masked, merge_partials, softmax_partial

__all__ = ["NAME", "attend_view", "register", "staircase_attention"]

Codec = GridCodec | RotatedCodec

NAME = "genopt_staircase"
QUERIES = 512
"""Queries that are attended to at once, which bounds the scores held during prefill."""
SCORES = 2**20
"""Scores a head that are held at once: a whole cache for one query, a page for many."""


def register() -> str:
    """Make the attention function known to ``transformers``; returns its name.

    Then ``model.set_attn_implementation(register())``, or ``attn_implementation=register()`` when
    a model is loaded.  Without a :class:`~.StaircaseCache` the function is plain SDPA.
    """
    AttentionInterface.register(NAME, staircase_attention)
    # without a mask function of the same name transformers passes no mask: padding would count
    AttentionMaskInterface.register(NAME, sdpa_mask)
    return NAME


def staircase_attention(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Attention function of ``transformers``: ``(batch, queries, heads, dim)`` output, no weights.

    Raises ``ValueError`` for a position bias, a soft cap or dropout over a packed cache.
    """
    view: View | None = getattr(key, "genopt_view", None)
    if view is None:
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **kwargs
        )
    for name in ("position_bias", "softcap"):
        if kwargs.get(name) is not None:
            raise ValueError(f"{name} is not supported over a staircase cache; use 'sdpa'")
    if dropout:
        raise ValueError(f"dropout={dropout} is not supported over a staircase cache")
    if not view.segments:  # nothing is packed yet
        k, v = (
            torch.cat([s.to(r.dtype), r], -2) for s, r in zip(view.sink, view.recent, strict=True)
        )
        return sdpa_attention_forward(
            module, query, k, v, attention_mask, scaling=scaling, **kwargs
        )
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    outs = []
    for first in range(0, query.shape[2], QUERIES):
        rows = slice(first, first + QUERIES)
        mask = None if attention_mask is None else attention_mask[..., rows, :]
        outs.append(attend_view(query[:, :, rows], view, scale, mask, query.shape[2] - first))
    out = outs[0] if len(outs) == 1 else torch.cat(outs, 2)
    return out.transpose(1, 2).contiguous(), None


def attend_view(
    query: Tensor, view: View, scale: float, mask: Tensor | None, left: int | None = None
) -> Tensor:
    """Attention of ``(batch, heads, queries, dim)`` over a view, segment by segment.

    Parameters
    ----------
    mask : tensor, optional
        ``(batch or 1, heads or 1, queries, tokens)``; without it attention is causal.
    left : int, optional
        New tokens from the first query on, by default as many as queries; these may not see those
        after them.

    Returns ``(batch, heads, queries, value_dim)`` in the dtype of the query.
    """
    batch, heads, queries, dim = query.shape
    shared = view.recent[0].shape[1]
    # (batch, key/value heads, query heads of one × queries, dim): no key is repeated
    q = query.float().reshape(batch, shared, heads // shared * queries, dim) * scale
    cut = _mask_cutter(mask, heads // shared, shared)
    sinks = view.sink[0].shape[-2]
    chunk = view.layer.cache.chunk
    at = sinks

    key_codec, value_codec = view.layer.codecs["key"], view.layer.codecs["value"]
    q_rotated = q @ key_codec.rotation if isinstance(key_codec, RotatedCodec) else q
    plain: tuple[list[Tensor], list[Tensor]] = ([], [])
    rotated: tuple[list[Tensor], list[Tensor]] = ([], [])
    for group in _groups(view.segments, q.shape[2] * chunk):
        tokens = sum(segment.chunks for segment in group) * chunk
        scores = _scores([segment.key for segment in group], key_codec, q, q_rotated)
        weights, lse = softmax_partial(masked(scores, cut(at, at + tokens)))
        out, turned = _output(weights, [segment.value for segment in group], value_codec)
        outs, lses = rotated if turned else plain
        outs.append(out)
        lses.append(lse)
        at += tokens

    k, v = (torch.cat([s.to(r.dtype), r], -2) for s, r in zip(view.sink, view.recent, strict=True))
    if mask is None:
        here = _causal(queries, k.shape[-2], queries if left is None else left, q.device)
        if here is not None:
            here = here.repeat(heads // shared, 1)
    else:
        here = torch.cat([cut(0, sinks), cut(at, mask.shape[-1])], -1)
    out, lse = attend(q, k, v, scale=1.0, mask=here)
    plain[0].append(out)
    plain[1].append(lse)
    if rotated[0]:
        assert isinstance(value_codec, RotatedCodec)
        out, lse = merge_partials(*rotated)
        plain[0].append(out @ value_codec.rotation.T)
        plain[1].append(lse)
    out, _ = merge_partials(*plain)
    return out.reshape(batch, heads, queries, -1).to(query.dtype)


def _groups(segments: tuple[Segment, ...], per_chunk: int) -> Iterator[list[Segment]]:
    """Neighbouring segments of one kind that are attended to at once.

    Each takes two products of its own; all else is done once a group.  ``per_chunk`` scores of a
    chunk times its chunks stay below ``SCORES``, so that long prompts hold few scores.
    """
    group: list[Segment] = []
    size, kind = 0, None
    for segment in segments:
        this = isinstance(segment.key, PackedChunks), isinstance(segment.value, PackedChunks)
        more = segment.chunks * per_chunk
        if group and (this != kind or size + more > SCORES):
            yield group
            group, size = [], 0
        group.append(segment)
        size, kind = size + more, this
    if group:
        yield group


def _scores(keys: list[Held], codec: Codec, q: Tensor, q_rotated: Tensor) -> Tensor:
    """Scores of neighbouring segments, by rotated codes where it has them."""
    packed = [held for held in keys if isinstance(held, PackedChunks)]
    if not packed or not isinstance(codec, RotatedCodec):
        full = (codec.decode(h) if isinstance(h, PackedChunks) else h.float() for h in keys)
        return torch.cat([q @ key.transpose(-1, -2) for key in full], -1)
    parts = [q_rotated @ codec.expand(held).transpose(-1, -2) for held in _runs(packed)]
    gain = torch.cat([held.meta[0] for held in packed], -2).transpose(-1, -2).float()
    mean = torch.cat([held.meta[1] for held in packed], -2).transpose(-1, -2).float()
    scores = (parts[0] if len(parts) == 1 else torch.cat(parts, -1)).mul_(gain)
    by_chunk = scores.unflatten(-1, (mean.shape[-1], -1))
    by_chunk.add_((q @ mean).unsqueeze(-1))  # the mean is one number a chunk and query
    return scores


def _runs(packed: list[PackedChunks]) -> Iterator[PackedChunks]:
    """Pages as they are, and smaller neighbours of one width joined for one look-up."""
    for (_, _, page), run in groupby(packed, lambda p: (p.bits, p.first_bits, p.chunks >= PAGE)):
        small = list(run)
        yield from small if page or len(small) == 1 else [join(small)]


def _output(weights: Tensor, values: list[Held], codec: Codec) -> tuple[Tensor, bool]:
    """Weighted sum of the values of neighbouring segments, and whether it is still rotated."""
    packed = [held for held in values if isinstance(held, PackedChunks)]
    turned = bool(packed) and isinstance(codec, RotatedCodec)
    if packed and isinstance(codec, RotatedCodec):
        gain = torch.cat([held.meta[0] for held in packed], -2).transpose(-1, -2)
        weights = weights.mul_(gain.float())
        full = (codec.expand(held) for held in _runs(packed))
    else:
        full = (codec.decode(h) if isinstance(h, PackedChunks) else h.float() for h in values)
    out, at = None, 0
    for value in full:  # restored, used and forgotten one by one
        tokens = value.shape[-2]
        part = weights[..., at : at + tokens] @ value
        out = part if out is None else out.add_(part)
        at += tokens
    assert out is not None  # a group is never empty
    return out, turned


def _causal(queries: int, tokens: int, left: int, device: torch.device) -> Tensor | None:
    """Mask of queries over sinks, residual and new tokens, when the model gives none."""
    if left == 1:
        return None
    # the last `left` tokens are the first query and those after it
    free = torch.arange(queries, device=device)[:, None] + tokens - left
    return torch.arange(tokens, device=device)[None] <= free


def _mask_cutter(mask: Tensor | None, groups: int, shared: int) -> Any:
    """A function that cuts columns of the mask, in the layout of the grouped query."""
    if mask is None:
        return lambda first, last: None
    if mask.shape[1] == 1:
        wide = mask.repeat(1, 1, groups, 1) if groups > 1 else mask
    else:
        wide = mask.reshape(mask.shape[0], shared, groups * mask.shape[2], mask.shape[3])
    return lambda first, last: wide[..., first:last]
