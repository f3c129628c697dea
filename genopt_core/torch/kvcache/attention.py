r"""Attention straight over a packed staircase cache, without restoring it."""

from collections.abc import Iterator, Sequence
from functools import partial
from itertools import groupby
from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

from genopt_core.checks import extra
from genopt_core.torch.kvcache import compiled as kernels
from genopt_core.torch.kvcache.codec import Chunks, Codec, Room, RotatedCodec, restored
from genopt_core.torch.kvcache.layer import PAGE, Segment, View, taken_from
from genopt_core.torch.kvcache.settings import COMPILED, NAME, NOT_TRACED, READERS, exactly
from genopt_core.torch.online_softmax import (
    Partial,
    attend,
    masked,
    merge_partials,
    softmax_partial,
)

QUERIES = 512
"""Queries that are attended to at once, which bounds the scores held during prefill."""
SCORES = 2**20
"""Scores a head that are held at once: a whole cache for one query, a page for many."""


def register(*, compiled: bool = False) -> str:
    """Make the attention function known to ``transformers``; returns its name.

    Then ``model.set_attn_implementation(register())``, or ``attn_implementation=register()`` when
    a model is loaded.  Without a :class:`~.StaircaseCache` the function is plain SDPA, and so it is
    in models that expand what is cached, such as the latents of DeepSeek V2 and V3: there the cache
    is restored for each step.

    Parameters
    ----------
    compiled : bool
        Single tokens are attended to by kernels of one thread that numba compiles at the first of
        them, for some seconds: the same but for rounding.  On a CPU, with the default codec,
        chunks of a multiple of 32, heads of a multiple of 8 channels and no closed chunk at 16
        bits; padded batches, gradients and all else are as without.

    Raises
    ------
    ModuleNotFoundError
        If ``compiled`` and there is no numba.

    Examples
    --------
    >>> register()
    'genopt_staircase'
    >>> register(compiled=True)
    'genopt_staircase_compiled'
    """
    if not isinstance(compiled, bool):
        raise TypeError(f"compiled must be True or False, got {compiled!r}")
    if compiled:
        with extra("compiled"):
            import numba  # noqa: F401
        AttentionInterface.register(COMPILED, partial(staircase_attention, compiled=True))
        AttentionMaskInterface.register(COMPILED, sdpa_mask)
        READERS.add(COMPILED)
        return COMPILED
    AttentionInterface.register(NAME, staircase_attention)
    # without a mask function of the same name transformers passes no mask: padding would count
    AttentionMaskInterface.register(NAME, sdpa_mask)
    return NAME


@torch.compiler.disable(reason=NOT_TRACED)
def staircase_attention(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    *,
    compiled: bool = False,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Attention function of ``transformers``: ``(batch, queries, heads, dim)`` output, no weights.

    Over a staircase cache there is no position bias, soft cap or dropout; learned sinks (GPT-OSS)
    are refused with any cache, as SDPA does not know them.  ``compiled`` is as in `register`.
    """
    view = taken_from(key)
    for name in ("s_aux", *(("position_bias", "softcap") if view else ())):
        if kwargs.get(name) is not None:
            raise ValueError(f"{name} is not supported over a staircase cache; use 'eager'")
    if view is None:
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **kwargs
        )
    if dropout:
        raise ValueError(f"dropout must be 0 over a staircase cache, got {dropout}")
    if not view.segments:  # nothing is packed yet
        return sdpa_attention_forward(
            module, query, *view.unpacked(), attention_mask, scaling=scaling, **kwargs
        )
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    if compiled and attention_mask is None and kernels.reads(query, view):
        return kernels.attend_token(query, view, scale).transpose(1, 2).contiguous(), None
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
    r"""Attention of ``(batch, heads, queries, dim)`` (book, eq. kv-rotated-attention).

    Rotation keeps scalar products, so a rotated key need not be turned back:

    .. math:: q^\top \hat k_j = q^\top \bar k + g_j\, (qR)\, \ell(c_j)^\top, \qquad
              o = \Big(\sum_j p_j g_j\, \ell(c_j)\Big) R^\top

    The query is rotated once, the output back once; each segment costs a table look-up and two
    small products, and groups of segments merge by the online softmax.  The output is ``(batch,
    heads, queries, value_dim)`` in the dtype of the query.

    The mask is ``(batch or 1, heads or 1, queries, tokens)``; without it attention is causal.
    ``left`` counts the new tokens from the first query on, by default as many as queries; these may
    not see those after them.
    """
    with exactly(query.device):
        return _attended(query, view, scale, mask, left)


def _attended(
    query: Tensor, view: View, scale: float, mask: Tensor | None, left: int | None
) -> Tensor:
    """See :func:`attend_view`."""
    batch, heads, queries, dim = query.shape
    shared = view.recent[0].shape[1]
    # (batch, key/value heads, query heads of one × queries, dim): no key is repeated
    q = query.float().reshape(batch, shared, heads // shared * queries, dim) * scale
    wide = None if mask is None else _grouped_mask(mask, heads // shared, shared)
    sinks = at = view.sink[0].shape[-2]
    key_codec, value_codec = view.codecs["key"], view.codecs["value"]
    q_rotated = q @ key_codec.back.mT if isinstance(key_codec, RotatedCodec) else q
    k, v = view.unpacked()
    # with gradients each run of codes is held until they have come back
    size = batch * shared * PAGE * view.chunk * max(k.shape[-1], v.shape[-1])
    room = None if view.learns(query, mask) else Room(size)
    if wide is None:
        here = _causal(queries, k.shape[-2], queries if left is None else left, q.device)
        if here is not None:
            here = here.repeat(heads // shared, 1)
    else:
        recent = wide.shape[-1] - view.recent[0].shape[-2]
        here = torch.cat([wide[..., :sinks], wide[..., recent:]], -1)

    groups = list(_groups(view.segments, q.shape[2] * view.chunk))
    if len(groups) == 1 and mask is None and here is None:
        # one new token, the case that decoding lives on: one softmax over everything
        (group,) = groups
        scores = _scores([segment.key for segment in group], key_codec, q, q_rotated, room)
        weights = torch.cat([scores, q @ k.float().transpose(-1, -2)], -1).softmax(-1)
        old, new = weights.split([scores.shape[-1], k.shape[-2]], -1)
        new = new @ v.float()  # before `_output` changes the weights
        out, turned = _output(old, [segment.value for segment in group], value_codec, room)
        out = new.add_(_turned_back(out, value_codec) if turned else out)
        return out.reshape(batch, heads, queries, -1).to(query.dtype)

    plain: list[Partial] = []
    rotated: list[Partial] = []
    for group in groups:
        tokens = sum(segment.chunks for segment in group) * view.chunk
        scores = _scores([segment.key for segment in group], key_codec, q, q_rotated, room)
        seen = None if wide is None else wide[..., at : at + tokens]
        weights, lse = softmax_partial(masked(scores, seen))
        out, turned = _output(weights, [segment.value for segment in group], value_codec, room)
        (rotated if turned else plain).append((out, lse))
        at += tokens
    plain.append(attend(q, k, v, scale=1.0, mask=here))
    if rotated:
        out, lse = merge_partials(rotated)
        plain.append((_turned_back(out, value_codec), lse))
    out, _ = merge_partials(plain)
    return out.reshape(batch, heads, queries, -1).to(query.dtype)


def _turned_back(out: Tensor, codec: Codec) -> Tensor:
    """An output of rotated values in the space of the model."""
    assert isinstance(codec, RotatedCodec)
    return out @ codec.back


def _groups(segments: Sequence[Segment], per_chunk: int) -> Iterator[list[Segment]]:
    """Neighboring segments of one kind that are attended to at once.

    Each takes two products of its own; all else is done once a group.  ``per_chunk`` scores of a
    chunk times its chunks stay below ``SCORES``, so that long prompts hold few scores.
    """
    group: list[Segment] = []
    size, kind = 0, None
    for segment in segments:
        this = segment.key.packed, segment.value.packed
        more = segment.chunks * per_chunk
        if group and (this != kind or size + more > SCORES):
            yield group
            group, size = [], 0
        group.append(segment)
        size, kind = size + more, this
    if group:
        yield group


def _scores(
    keys: list[Chunks], codec: Codec, q: Tensor, q_rotated: Tensor, room: Room | None
) -> Tensor:
    """Scores of neighboring segments of one kind, by rotated codes where it has them.

    Codes are expanded into ``room``, one run after the other, or each into its own without one.
    """
    if not (keys[0].packed and isinstance(codec, RotatedCodec)):
        return torch.cat([q @ restored(codec, x).float().transpose(-1, -2) for x in keys], -1)
    flat = q_rotated.flatten(0, 1)
    parts = [
        torch.bmm(flat, codec.expand(held, room).flatten(0, 1).transpose(1, 2))
        for held in _runs(keys)
    ]
    gain, mean = (
        torch.cat([held.meta[i] for held in keys], -2).transpose(-1, -2).float() for i in (0, 1)
    )
    scores = parts[0] if len(parts) == 1 else torch.cat(parts, -1)
    scores = scores.view(*q.shape[:3], -1).mul_(gain)
    # the mean is one number a chunk and query
    scores.view(*q.shape[:3], mean.shape[-1], -1).add_((q @ mean).unsqueeze(-1))
    return scores


def _runs(packed: list[Chunks]) -> Iterator[Chunks]:
    """Codes, without metadata: pages as they are, smaller neighbors of one width as one."""
    for (bits, page), run in groupby(packed, lambda p: (p.bits, p.chunks >= PAGE)):
        small = list(run)
        if page or len(small) == 1:
            yield from small
        else:
            planes = tuple(torch.cat(p, -2) for p in zip(*(p.planes for p in small), strict=True))
            yield Chunks(bits, bits, sum(p.chunks for p in small), planes)


def _output(
    weights: Tensor, values: list[Chunks], codec: Codec, room: Room | None
) -> tuple[Tensor, bool]:
    """Weighted sum of the values of neighboring segments, and whether it is still rotated.

    Changes the weights where there is ``room``; codes are expanded into it as by `_scores`.
    """
    turned = values[0].packed and isinstance(codec, RotatedCodec)
    if values[0].packed and isinstance(codec, RotatedCodec):
        gain = torch.cat([held.meta[0] for held in values], -2).transpose(-1, -2)
        weights = weights * gain.float() if room is None else weights.mul_(gain.float())
        full = (codec.expand(held, room) for held in _runs(values))
    else:
        full = (restored(codec, held).float() for held in values)
    flat, out, at = weights.flatten(0, 1), None, 0
    for value in full:  # restored, used and forgotten one by one
        tokens, rows = value.shape[-2], value.flatten(0, 1)
        part = flat[..., at : at + tokens]
        out = torch.bmm(part, rows) if out is None else out.baddbmm_(part, rows)
        at += tokens
    assert out is not None  # a group is never empty
    return out.view(*weights.shape[:3], -1), turned


def _causal(queries: int, tokens: int, left: int, device: torch.device) -> Tensor | None:
    """Mask of queries over sinks, residual and new tokens, when the model gives none."""
    if left == 1:
        return None
    # the last `left` tokens are the first query and those after it
    free = torch.arange(queries, device=device)[:, None] + tokens - left
    return torch.arange(tokens, device=device)[None] <= free


def _grouped_mask(mask: Tensor, groups: int, shared: int) -> Tensor:
    """The mask in the layout of the grouped query."""
    if mask.shape[1] == 1:
        return mask.repeat(1, 1, groups, 1) if groups > 1 else mask
    return mask.reshape(mask.shape[0], shared, groups * mask.shape[2], mask.shape[3])
