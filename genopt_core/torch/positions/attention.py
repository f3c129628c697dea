r"""Causal attention with a distance bias; of the bias one row of numbers a head is all there is."""

import math

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from torch.utils.checkpoint import checkpoint

from genopt_core.positions import tail_bound
from genopt_core.torch.positions.bias import DistanceBias, as_line, bias_block

ROWS = 256
"""Queries that are attended to at once; keys after the last of them are not looked at."""


def biased_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    bias: DistanceBias | Tensor,
    *,
    scale: float | None = None,
    mask: Tensor | None = None,
    dropout: float = 0.0,
) -> Tensor:
    r"""Attention of the last ``queries`` tokens to all up to themselves, with a bias a head.

    Along a row the distance falls by one a key and from row to row it rises by one, so with the
    queries in reverse order a block of the bias is a view, of strides 1 and 1, of one line of
    numbers: the fused kernel reads it there, and blocks above the diagonal are left out.  So are
    keys so far back that together they weigh less than rounding, whatever they contain.  Slopes
    that are learned with a linear bias become two channels (`with_linear_bias`); other learned
    biases, and those with a mask, are computed again on the way back instead of being held.

    Parameters
    ----------
    query : (batch, heads, queries, dim) tensor
    key, value : (batch, heads of keys, tokens, dim) tensors
        ``heads`` is a multiple of theirs.
    bias : DistanceBias or (heads, at least tokens) tensor
        Of the query heads.
    scale : float, optional
        :math:`1/\sqrt{\text{dim}}` by default.
    mask : bool tensor, optional
        True may be seen; (batch, tokens) of padding, or (batch or 1, heads or 1, queries, tokens).
        A query that sees nothing gets zeros; what padding itself gets has no meaning.
    dropout : float
        Of the weights.

    Returns
    -------
    (batch, heads, queries, dim) tensor

    Examples
    --------
    >>> q, k = torch.zeros(1, 1, 1, 2), torch.zeros(1, 1, 2, 2)
    >>> v = torch.tensor([[[[0.0, 0.0], [4.0, 4.0]]]])
    >>> biased_attention(q, k, v, torch.tensor([[0.0, -torch.inf]])).tolist()
    [[[[4.0, 4.0]]]]
    """
    _check(query, key, value, bias, mask)
    heads, queries, tokens = query.shape[1], query.shape[2], key.shape[2]
    line, size = _line(query, tokens, bias)
    shared, width = key.shape[1], value.shape[3]
    if queries == 1:  # all query heads of a key head at once: no key is read twice
        block = line[:, size - tokens : size, None].mT
        block = block if mask is None else _masked(block, mask)
        packed = query.reshape(query.shape[0], shared, heads // shared, -1)
        block = block.reshape(-1, shared, heads // shared, tokens)
        out = _attend(packed, key, value, block, scale, dropout)
        return out.reshape(*query.shape[:3], -1)
    reach = tokens
    if mask is None or mask.dim() == 2:
        line, reach = _without_far(query, key, line, size, scale)
    if isinstance(bias, DistanceBias) and bias.linear and line.requires_grad and _wide(query):
        # no gradient has to pass through a block of bias: the fused kernel has none for it
        strengths = bias.strengths()  # type: ignore[operator]  # learned, or without gradients
        scale = query.shape[-1] ** -0.5 if scale is None else scale
        query, key = with_linear_bias(query, key, strengths, scale)
        value = torch.nn.functional.pad(value, (0, 2))  # the fused kernels want one width
        line = torch.zeros_like(line).masked_fill_(line.detach() == -torch.inf, -torch.inf)
    if heads != shared and query.device.type != "cpu":  # only the CPU's kernel does both
        key, value = (x.repeat_interleave(heads // shared, 1) for x in (key, value))
    before, flipped, outs = tokens - queries, query.flip(2), []
    again = torch.is_grad_enabled() and (line.requires_grad or mask is not None)

    def attend_rows(first: int, last: int) -> Tensor:
        end = before + last
        start = max(0, before + first - reach + 1)
        block = bias_block(line, size, end - 1 - start, last - first, end - start)[None]
        if mask is not None:
            rows = mask if mask.dim() == 2 else mask[..., first:last, :].flip(2)
            block = _masked(block, rows[..., start:end])
        q = flipped[:, :, queries - last : queries - first]
        return _attend(q, key[:, :, start:end], value[:, :, start:end], block, scale, dropout)

    for first in reversed(range(0, queries, ROWS)):
        last = min(first + ROWS, queries)
        outs.append(
            checkpoint(attend_rows, first, last, use_reentrant=False)
            if again
            else attend_rows(first, last)
        )
    return torch.cat(outs, 2).flip(2)[..., :width]


def with_linear_bias(
    query: Tensor, key: Tensor, strengths: Tensor, scale: float | None = None
) -> tuple[Tensor, Tensor]:
    r"""Queries and keys with two more channels, whose product is a linear bias.

    .. math:: \tilde q_i = \Big(\frac{m}{s},\, -\frac{m i}{s},\, q_i\Big), \quad
              \tilde k_j = (j,\, 1,\, k_j), \qquad
              s\,\tilde q_i^\top \tilde k_j = s\,q_i^\top k_j - m\,(i - j)

    where :math:`s` is the ``scale``.  A step of one position is a unipotent matrix on these
    channels, as it is a rotation in RoPE; no other distance has such a form.  The new channels come
    first: the kernels add from the first on, so large numbers cancel before small ones come, which
    keeps float32 a hundred times as exact.  With 16 bits positions above 256 are not even numbers
    of their own.

    Parameters
    ----------
    query : (batch, heads, queries, dim) tensor
        Of the last tokens.
    key : (batch, heads of keys, tokens, dim) tensor
    strengths : (heads,) tensor
    scale : float, optional
        That attention is called with; :math:`1/\sqrt{\text{dim}}` of the old ``dim`` by default.

    Source: GRAPE (Zhang et al. 2025) for the group; the order of channels is ours.

    Examples
    --------
    >>> zeros = torch.zeros(1, 1, 2, 4)
    >>> query, key = with_linear_bias(zeros, zeros, torch.ones(1))
    >>> query.shape, (query @ key.mT * 0.5)[0, 0].tolist()
    (torch.Size([1, 1, 2, 6]), [[0.0, 1.0], [-1.0, 0.0]])
    """
    s = query.shape[-1] ** -0.5 if scale is None else scale
    at = torch.arange(key.shape[2], device=key.device, dtype=key.dtype)
    ones = torch.ones_like(at)
    m = strengths.to(query)[:, None] / s
    here = at[key.shape[2] - query.shape[2] :]
    more = torch.stack([m * torch.ones_like(here), -m * here], -1).expand(len(query), -1, -1, -1)
    where = torch.stack([at, ones], -1).expand(*key.shape[:2], -1, -1)
    return torch.cat([more, query], -1), torch.cat([where, key], -1)


def _wide(query: Tensor) -> bool:
    return query.dtype in (torch.float32, torch.float64)


def _without_far(
    query: Tensor, key: Tensor, line: Tensor, size: int, scale: float | None
) -> tuple[Tensor, int]:
    """A line with −∞ where all that is beyond weighs less than rounding, and how far it reaches.

    Whatever the contents are (`genopt_core.positions.tail_bound`).  It saves the blocks beyond, and
    weights below the normal numbers, on which processors are several times as slow.
    """
    tokens, heads, dim = key.shape[2], query.shape[1], query.shape[3]
    lost = torch.finfo(query.dtype).eps / 2
    if line[:, size - tokens].min() > math.log(lost / tokens):
        return line, tokens
    with torch.no_grad():
        table = line[:, size - tokens : size].flip(1).double().cpu().numpy()
        q, k = (
            torch.linalg.vector_norm(x, dim=-1).amax((0, 2)).double().cpu().numpy()
            for x in (query, key)
        )
    if not (np.isfinite(q).all() and np.isfinite(k).all()):
        return line, tokens
    q = q if scale is None else q * abs(scale) * dim**0.5
    seen = (tail_bound(table, q, k.repeat(heads // len(k)), dim) > lost).sum(1)
    if seen.min() == tokens:
        return line, tokens
    first = torch.from_numpy(size - seen).to(line.device)[:, None]
    far = torch.arange(line.shape[1], device=line.device) < first
    return line.masked_fill(far, -torch.inf), int(seen.max())


def _line(query: Tensor, tokens: int, bias: DistanceBias | Tensor) -> tuple[Tensor, int]:
    # a kernel of the CPU adds float32 to 16 bits; those of other devices want one dtype
    wide = torch.promote_types(query.dtype, torch.float32)
    dtype = wide if query.device.type == "cpu" else query.dtype
    if isinstance(bias, DistanceBias):
        return bias.line(tokens, query.device, dtype)
    return as_line(bias[:, :tokens].to(query.device, dtype)), tokens


def _masked(block: Tensor, mask: Tensor) -> Tensor:
    """(heads, rows, keys) of bias and what may be seen, as (batch, heads, rows, keys)."""
    return torch.where(mask[:, None, None] if mask.dim() == 2 else mask, block, -torch.inf)


def _attend(q: Tensor, k: Tensor, v: Tensor, bias: Tensor, scale: float | None, p: float) -> Tensor:
    grouped = q.shape[1] != k.shape[1]
    return scaled_dot_product_attention(
        q, k, v, attn_mask=bias, scale=scale, dropout_p=p, enable_gqa=grouped
    )


def _check(q: Tensor, k: Tensor, v: Tensor, bias: DistanceBias | Tensor, mask: Tensor | None):
    heads = bias.heads if isinstance(bias, DistanceBias) else len(bias)
    if heads != q.shape[1]:
        raise ValueError(f"bias must have {q.shape[1]} heads, those of the query, got {heads}")
    if k.shape[:3] != v.shape[:3] or q.shape[1] % k.shape[1]:
        raise ValueError(
            f"key and value must have the same tokens and heads that divide {q.shape[1]}, "
            f"got shapes {tuple(k.shape)} and {tuple(v.shape)}"
        )
    tokens = k.shape[2]
    if not 0 < q.shape[2] <= tokens:
        raise ValueError(f"query must have 1 to {tokens} tokens, those of key, got {q.shape[2]}")
    if isinstance(bias, Tensor) and bias.shape[1] < tokens:
        raise ValueError(f"bias must reach {tokens} distances, got {bias.shape[1]}")
    if mask is not None and (mask.dtype != torch.bool or mask.shape[-1] != tokens):
        raise ValueError(
            f"mask must be bool over {tokens} tokens, got {mask.dtype} of {tuple(mask.shape)}"
        )
