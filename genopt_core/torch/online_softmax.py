r"""The fast form of `genopt_core.attention.online_softmax`: the same functions on tensors."""

from collections.abc import Sequence
from functools import reduce

import torch
from torch import Tensor

Partial = tuple[Tensor, Tensor]


def masked(scores: Tensor, mask: Tensor | None) -> Tensor:
    """``scores`` (…, queries, tokens) with a ``mask`` laid on, in place.

    The mask broadcasts; it is boolean, True may be seen, or to be added.

    >>> masked(torch.zeros(1, 2), torch.tensor([True, False])).tolist()
    [[0.0, -inf]]
    """
    if mask is None:
        return scores
    try:
        shape = torch.broadcast_shapes(scores.shape, mask.shape)
    except RuntimeError:
        shape = torch.Size()
    if shape != scores.shape:
        raise ValueError(
            f"mask must broadcast to scores {tuple(scores.shape)}, got {tuple(mask.shape)}"
        )
    if mask.dtype == torch.bool:
        return scores.masked_fill_(~mask, float("-inf"))
    return scores.add_(mask)


def softmax_partial(scores: Tensor) -> Partial:
    r"""Softmax weights, which overwrite ``scores``, and their mass (book, eq. kv-attend).

    Where ``scores`` ask for gradients they stay, as the way back reads them.

    As :func:`genopt_core.attention.softmax_partial`, where a row that sees nothing has weights 0
    and mass ``-inf``; the softmax of PyTorch gives NaN there.

    >>> weights, lse = softmax_partial(torch.tensor([1.0, 3.0]).log())
    >>> weights[0].item(), round(lse.item(), 4)
    (0.25, 1.3863)
    """
    if not scores.shape[-1]:
        return scores, scores.new_full(scores.shape[:-1], float("-inf"))
    tiny = torch.finfo(scores.dtype).tiny
    top = scores.detach().amax(-1, keepdim=True).clamp_min_(torch.finfo(scores.dtype).min)
    if scores.requires_grad and torch.is_grad_enabled():
        weights = (scores - top).exp()
        mass = weights.sum(-1, keepdim=True)
        some = mass.clamp_min(tiny)  # log has no gradient at 0
        lse = torch.where(mass > 0, some.log() + top, -torch.inf)
        return weights / some, lse.squeeze(-1)
    weights = scores.sub_(top).exp_()
    mass = weights.sum(-1, keepdim=True)
    lse = mass.log().add_(top).squeeze(-1)
    return weights.div_(mass.clamp_min_(tiny)), lse


def attend(
    query: Tensor,
    keys: Tensor,
    values: Tensor,
    *,
    scale: float | None = None,
    mask: Tensor | None = None,
) -> Partial:
    r"""Output and logarithm of the mass over one piece, in float32 (book, eq. kv-attend).

    Shapes and arguments are as in :func:`genopt_core.attention.attend`.  Holds the piece's
    ``queries × tokens`` scores; cut long pieces or many queries beforehand.

    >>> q, k, v = torch.zeros(1, 1, 1, 2), torch.zeros(1, 1, 3, 2), torch.ones(1, 1, 3, 2)
    >>> out, lse = attend(q, k, v, scale=1.0)
    >>> out.tolist(), round(lse.exp().item(), 4)
    ([[[[1.0, 1.0]]]], 3.0)
    """
    scale = query.shape[-1] ** -0.5 if scale is None else scale
    scores = (query.float() * scale) @ keys.float().transpose(-1, -2)
    weights, lse = softmax_partial(masked(scores, mask))
    return weights @ values.float(), lse


def merge_partials(partials: Sequence[Partial]) -> Partial:
    r"""Output and mass over all pieces from those over each (book, eq. kv-softmax).

    ``partials``, output and logarithm of the mass are as in
    :func:`genopt_core.attention.merge_partials`; the output has the widest dtype of all of them.

    >>> q, k, v = torch.zeros(1, 2), torch.zeros(4, 2), torch.arange(4.0).view(4, 1)
    >>> whole = merge_partials([attend(q, k[:1], v[:1]), attend(q, k[1:], v[1:])])
    >>> round(whole[0].item(), 4), round(whole[1].item(), 4)
    (1.5, 1.3863)
    """
    if not partials:
        raise ValueError("partials must hold at least one (out, lse), got none")
    outs, lses = zip(*partials, strict=True)
    dtype = reduce(torch.promote_types, (t.dtype for t in (*outs, *lses)))
    if len(partials) == 1:
        return outs[0].to(dtype), lses[0]
    shares, lse = softmax_partial(torch.stack(lses, -1))
    out = outs[0].to(dtype) * shares[..., :1]
    for i in range(1, len(outs)):
        out.addcmul_(outs[i], shares[..., i : i + 1])
    return out, lse
