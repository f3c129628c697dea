r"""Attention in pieces: partial results that merge exactly (the online softmax, eq. kv-softmax).

A *partial result* is the attention over some of the tokens, and the logarithm of the mass they
have: ``(out, lse)``.  Two partial results over different tokens merge into that over both,

.. math:: L = \ln(e^{L_1} + e^{L_2}), \qquad o = e^{L_1 - L} o_1 + e^{L_2 - L} o_2,

whatever the pieces are: chunks of a cache at different widths (chapter 5), or blocks drawn by
chance (chapter 4).  The NumPy specification is :mod:`genopt_core.attention.online_softmax`.

References
----------
M. Milakov and N. Gimelshein, "Online normalizer calculation for softmax", 2018; T. Dao et al.,
"FlashAttention", arXiv 2205.14135.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["attend", "masked", "merge_partials", "softmax_partial"]

Partial = tuple[Tensor, Tensor]


def masked(scores: Tensor, mask: Tensor | None) -> Tensor:
    """Scores with a mask laid on, in place: boolean (True may be seen) or to be added.

    Raises ``ValueError`` if the mask does not broadcast to the scores.
    """
    if mask is None:
        return scores
    try:
        shape = torch.broadcast_shapes(scores.shape, mask.shape)
    except RuntimeError:
        shape = torch.Size()
    if shape != scores.shape:
        raise ValueError(f"mask {tuple(mask.shape)} does not fit scores {tuple(scores.shape)}")
    if mask.dtype == torch.bool:
        return scores.masked_fill_(~mask, float("-inf"))
    return scores.add_(mask)


def softmax_partial(scores: Tensor) -> Partial:
    r"""Softmax weights over the last axis, and the logarithm of their mass (eq. kv-attend).

    .. math:: p_j = e^{s_j - L}, \qquad L = \ln \sum_j e^{s_j}

    A row that sees nothing (all scores minus infinity, or no scores) has weights 0 and mass
    ``-inf``, and merges as nothing; the softmax of PyTorch gives NaN there.

    Returns weights with the shape of ``scores`` (which they overwrite) and ``lse`` without the
    last axis.
    """
    if not scores.shape[-1]:
        return scores, scores.new_full(scores.shape[:-1], float("-inf"))
    top = scores.amax(-1, keepdim=True).clamp_min_(torch.finfo(scores.dtype).min)
    weights = scores.sub_(top).exp_()
    mass = weights.sum(-1, keepdim=True)
    lse = mass.log().add_(top).squeeze(-1)
    return weights.div_(mass.clamp_min_(torch.finfo(mass.dtype).tiny)), lse


def attend(
    query: Tensor, key: Tensor, value: Tensor, *, scale: float, mask: Tensor | None = None
) -> Partial:
    r"""Partial attention over one piece, in float32 (eq. kv-attend).

    Parameters
    ----------
    query : (batch, heads, queries, dim) tensor
    key : (batch, heads, tokens, dim) tensor
    value : (batch, heads, tokens, value_dim) tensor
    scale : float
        Factor of the scores, usually :math:`1/\sqrt d`.
    mask : tensor, optional
        Broadcasts to ``(batch, heads, queries, tokens)``; boolean or added.

    Returns
    -------
    out : (batch, heads, queries, value_dim) float32 tensor
    lse : (batch, heads, queries) float32 tensor

    Notes
    -----
    Holds the piece's ``queries × tokens`` scores; cut long pieces or many queries beforehand.

    Examples
    --------
    >>> q, k, v = torch.zeros(1, 1, 1, 2), torch.zeros(1, 1, 3, 2), torch.ones(1, 1, 3, 2)
    >>> out, lse = attend(q, k, v, scale=1.0)
    >>> out.tolist(), round(lse.exp().item(), 4)
    ([[[[1.0, 1.0]]]], 3.0)
    """
    scores = (query.float() * scale) @ key.float().transpose(-1, -2)
    weights, lse = softmax_partial(masked(scores, mask))
    return weights @ value.float(), lse


def merge_partials(outs: Sequence[Tensor], lses: Sequence[Tensor]) -> Partial:
    r"""Partial result over all pieces from those over each (eq. kv-softmax).

    .. math:: L = \ln \sum_i e^{L_i}, \qquad o = \sum_i e^{L_i - L} o_i

    Parameters
    ----------
    outs : sequence of (..., value_dim) tensors
    lses : sequence of (...) tensors
        Minus infinity for a piece that a query does not see.

    Returns
    -------
    out : (..., value_dim) tensor
        Zeros for a query that sees no piece.
    lse : (...) tensor
        Minus infinity there.

    Raises
    ------
    ValueError
        If there are no pieces or not as many of both.
    """
    if not outs or len(outs) != len(lses):
        raise ValueError(f"outs and lses must be as many, got {len(outs)} and {len(lses)}")
    if len(outs) == 1:
        return outs[0], lses[0]
    stack = torch.stack(tuple(lses), -1)
    share, lse = softmax_partial(stack)  # the pieces' shares are themselves a softmax
    out = outs[0] * share[..., :1]
    for i in range(1, len(outs)):
        out.addcmul_(outs[i], share[..., i : i + 1])
    return out, lse
