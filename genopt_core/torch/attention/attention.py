r"""PrFlashAttention on tensors: causal attention over the blocks of a plan, with exact gradients.

The fast form of `genopt_core.attention.blocks`: its estimators under the same names, for any batch,
heads, dtype and device.

Source: F. Li, arXiv 2410.18441, the section on PrFlashAttention; what is added is said there.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn.functional import pad, scaled_dot_product_attention

from genopt_core.attention.blocks.estimators import ESTIMATORS, FLOOR, Estimator
from genopt_core.checks import fraction, one_of, real
from genopt_core.torch.attention.diagonals import diagonal_attention
from genopt_core.torch.attention.flex import SMALLEST, flex_path
from genopt_core.torch.attention.gathered import gathered_attention
from genopt_core.torch.attention.plans import Plan, Terms
from genopt_core.torch.attention.rows import self_similarity
from genopt_core.torch.online_softmax import Partial, merge_partials

__all__ = ["chosen_path", "pr_flash_attention", "rounds_attention"]

Path = Literal["auto", "sdpa", "diagonal", "rows", "flex", "dense"]
PATHS: tuple[Path, ...] = ("auto", "sdpa", "diagonal", "rows", "flex", "dense")

SHORT = 4096
"""Tokens below which a GPU takes the dense path.

At 1,024 and 2,048 tokens compiled ``flex_attention`` took 0.3 ms on an H100 whatever it computed,
full attention half of that.  At 4,096 it was 1.3 times as fast forward on an H200, at a quarter of
the blocks and without weights.
"""

_NO_DROPOUT = "the drawn plan is the dropout: draw a plan of lower density each step"
_NO_MASK = (
    "attention is causal and has no other mask: cut padding off, row by row, as "
    "genopt_core.integrations.attention does"
)
HINTS = {
    "dropout": _NO_DROPOUT,
    "dropout_p": _NO_DROPOUT,
    "attn_mask": _NO_MASK,
    "attention_mask": _NO_MASK,
    "is_causal": "attention is always causal",
    "enable_gqa": "key heads are always shared: heads must be a multiple of key_heads",
}
"""What to do instead of giving an argument of another attention function."""


def pr_flash_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    plan: Plan,
    *,
    bias: Tensor | None = None,
    estimator: Estimator = "self-normalized",
    scale: float | None = None,
    lse: Tensor | None = None,
    return_lse: bool = False,
    floor: float = FLOOR,
    guard: float = 0.0,
    path: Path = "auto",
    **foreign: Any,
) -> Tensor | Partial:
    r"""Causal attention, estimated from the blocks of a plan.

    With every block kept for sure it is ``scaled_dot_product_attention(…, is_causal=True)``.
    Memory is that of inputs, outputs and the plan; "difference" adds tokens x blocks, a bias
    tokens x block, and the path "dense" tokens x tokens.  The same plan gives the same bits again,
    forward and backward, on a CPU with the same number of threads.  There a value that is not
    finite is refused; on other devices, where asking would make the host wait, it spreads to the
    rows that see it.

    Parameters
    ----------
    q : (batch, heads, tokens, dim) tensor
    k, v : (batch, key_heads, tokens, dim) tensors
        ``heads`` is a multiple of ``key_heads``.
    plan : Plan
        For this number of tokens; drawn before, so that backward and further calls use the same.
    bias : (heads or 1, tokens) tensor, optional
        A distance bias of chapter 3, by distance, as of
        :func:`genopt_core.positions.bias_by_distance`.  One that needs a gradient takes the dense
        path.
    estimator : {"plain", "horvitz-thompson", "self-normalized", "difference"}
        As in :mod:`genopt_core.attention.blocks.estimators`.
    scale : float, optional
        By default :math:`1/\sqrt d`.
    lse : (batch, heads, tokens) tensor, optional
        Exact logarithm of the mass, for "horvitz-thompson" only.
    return_lse : bool
        Also the logarithm of the estimated mass, with gradient.
    floor : float
        For "difference", as in :func:`genopt_core.attention.blocks.estimate`: where the corrected
        mass is less than this times the self-normalized one, that is taken.
    guard : float
        For "difference", from 0 to 1: blocks whose `self_similarity` is below it are never filled
        in by their centroid.
    path : {"auto", "sdpa", "diagonal", "rows", "flex", "dense"}
        How it is computed; see `chosen_path`.
    **foreign
        Arguments of other attention functions, each refused with a hint what to do instead.

    Returns
    -------
    out : (batch, heads, tokens, dim) tensor
    lse : (batch, heads, tokens) tensor, float32 or float64
        If asked for.

    Examples
    --------
    >>> from genopt_core.torch.attention import near, sink
    >>> q, k, v = torch.zeros(1, 4, 9, 2), torch.zeros(1, 2, 9, 2), torch.ones(1, 2, 9, 2)
    >>> plan = (sink(1) | near(1)).plan(9, block=2)
    >>> out, lse = pr_flash_attention(q, k, v, plan, return_lse=True)
    >>> tuple(out.shape), lse[0, 0].exp().round().int().tolist()
    ((1, 4, 9, 2), [1, 2, 3, 4, 5, 6, 5, 6, 5])
    """
    for name, value in foreign.items():
        raise TypeError(f"{HINTS.get(name, f'{name} is no argument here')}, got {name}={value!r}")
    _check(q, k, v, plan, bias)
    one_of(estimator, "estimator", ESTIMATORS)
    if (lse is None) == (estimator == "horvitz-thompson"):
        raise ValueError(
            "lse must be given for the estimator 'horvitz-thompson' and for no other, got "
            f"{'none' if lse is None else 'one'} for {estimator!r}"
        )
    if lse is not None and lse.shape != q.shape[:-1]:
        raise ValueError(f"lse must have the shape {tuple(q.shape[:-1])}, got {tuple(lse.shape)}")
    fraction(guard, "guard", zero=True)
    real(floor, "floor")
    factor = q.shape[-1] ** -0.5 if scale is None else real(scale, "scale")
    if factor <= 0:  # the CPU's kernel multiplies the minus infinity of what lies ahead by it
        q, factor = q * factor, 1.0
    needs_mass = return_lse or estimator in ("horvitz-thompson", "difference")
    how = chosen_path(q, k, v, plan, bias, needs_mass) if path == "auto" else path
    one_of(how, "path", PATHS)
    if how == "sdpa":
        if not plan.full or bias is not None or needs_mass:
            raise ValueError("path must be another than 'sdpa' for this plan, bias or estimator")
        gqa = q.shape[1] != k.shape[1]
        return scaled_dot_product_attention(q, k, v, is_causal=True, scale=factor, enable_gqa=gqa)
    learns = bias is not None and bias.requires_grad and torch.is_grad_enabled()
    if learns and how in ("diagonal", "rows"):
        raise ValueError(f"path must be 'dense' or 'auto' for a bias that learns, got {how!r}")
    if how == "diagonal" and plan.distances is None and plan.head_distances is None:
        raise ValueError("path must be another than 'diagonal' for a plan without distances")
    weighted = estimator != "plain"
    mass: Tensor | None
    if how == "flex":
        out, mass = flex_path(q, k, v, Terms(plan, bias, weighted, factor), needs_mass)
    else:
        if k.shape[1] != q.shape[1]:
            k, v = (t.repeat_interleave(q.shape[1] // k.shape[1], 1) for t in (k, v))
        if bias is not None:
            bias = bias.expand(q.shape[1], -1)
        terms = Terms(plan, bias, weighted, factor)
        if how == "dense" and q.is_cuda and not needs_mass and _masks(q, terms):
            return _masked(q, k, v, terms)
        out, mass = _computed(q, k, v, terms, how)
    if estimator == "horvitz-thompson":
        assert mass is not None
        assert lse is not None
        out = (out * (mass - lse).exp().unsqueeze(-1)).to(q.dtype)
        mass = lse
    elif estimator == "difference":
        terms = Terms(plan, bias, weighted, factor)
        out, mass = _corrected(q, k, v, terms, out, mass, floor, guard)
    return (out, mass) if return_lse else out  # type: ignore[return-value]


def chosen_path(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    plan: Plan,
    bias: Tensor | None = None,
    needs_lse: bool = False,
) -> Path:
    """How `pr_flash_attention` computes a plan if it is not told: the name of a path.

    ``q``, ``k``, ``v`` and ``bias`` are as in `pr_flash_attention`.

    Full attention is PyTorch's own call, and a bias that learns takes the dense one.  On a CPU a
    plan by distance, for all heads or for each, runs as block diagonals and any other gathers its
    rows: compiled ``flex_attention`` has no backward there.  A GPU takes ``flex_attention`` from
    4,096 tokens on, if a block is a multiple of 16 tokens, and else the dense path.  On an H200 at
    16,384 tokens and a quarter of the blocks of 128 it was 4.0 times as fast as FlashAttention
    without weights, forward, with heads of 64, and 1.4 times as fast with weights; on an H100 half
    as fast at 1,024 and 2,048 tokens.  The dense path was not measured, nor smaller blocks.

    >>> from genopt_core.torch.attention import near, sink
    >>> q = torch.zeros(1, 2, 64, 8)
    >>> chosen_path(q, q, q, (sink(1) | near(1)).plan(64, block=8))
    'diagonal'
    """
    if bias is not None and bias.requires_grad and torch.is_grad_enabled():
        return "dense"
    if bias is None and not needs_lse and plan.full:
        return "sdpa"
    if q.device.type == "cuda":
        fits = q.shape[2] >= SHORT and plan.block % SMALLEST == 0
        return "flex" if fits else "dense"
    by_distance = plan.distances is not None or plan.head_distances is not None
    return "diagonal" if by_distance else "rows"


def rounds_attention(
    q: Tensor, k: Tensor, v: Tensor, plans: Iterable[Plan], **options: object
) -> Iterator[Partial]:
    r"""Rounds of attention, pooled so far: after R of them, sums averaged, then divided.

    As :func:`genopt_core.attention.blocks.pool_rounds`, one round at a time.

    Parameters
    ----------
    q, k, v, **options
        Of `pr_flash_attention`; for "difference" ``floor`` is 0 if it is not given, as only then
        the sums are unbiased.
    plans : iterable of Plan
        Drawn independently.

    Yields
    ------
    out : (batch, heads, tokens, dim) tensor
    lse : (batch, heads, tokens) tensor

    Examples
    --------
    >>> from genopt_core.torch.attention import DistanceLaw, near, sample, sink
    >>> design = sink(1) | near(1) | sample(DistanceLaw.harmonic(), 2)
    >>> q, plans = torch.zeros(1, 2, 64, 8), [design.plan(64, block=8) for _ in range(3)]
    >>> [out.shape[-1] for out, lse in rounds_attention(q, q, q, plans)]
    [8, 8, 8]
    """
    options.setdefault("floor", 0.0)
    pooled: Partial | None = None
    for done, plan in enumerate(plans):
        new = pr_flash_attention(q, k, v, plan, return_lse=True, **options)  # type: ignore[arg-type]
        pooled = new if pooled is None else merge_partials([pooled, new])  # type: ignore[list-item, assignment]
        out, lse = pooled  # type: ignore[misc]
        yield out.to(q.dtype), lse - math.log(done + 1)


def _check(q: Tensor, k: Tensor, v: Tensor, plan: Plan, bias: Tensor | None) -> None:
    if not isinstance(plan, Plan):
        raise TypeError(f"plan must be a Plan, as a design's plan(length) gives, got {plan!r}")
    alike = q.ndim == k.ndim == v.ndim == 4 and k.shape == v.shape
    if not (alike and q[:, :1].shape == k[:, :1].shape and q.shape[1] % max(k.shape[1], 1) == 0):
        raise ValueError(
            "q, k and v must have the shapes (batch, heads, tokens, dim) and twice (batch, "
            "key_heads, tokens, dim), heads a multiple of key_heads, got "
            f"{tuple(q.shape)}, {tuple(k.shape)} and {tuple(v.shape)}"
        )
    if not q.dtype == k.dtype == v.dtype or not q.is_floating_point():
        raise TypeError(f"q, k and v must have one floating dtype, got {q.dtype}, {k.dtype}")
    if plan.length != q.shape[2]:
        raise ValueError(f"plan must be for {q.shape[2]} tokens, got one for {plan.length}")
    for size, wanted, name in zip(plan.kept.shape, q.shape, ("batch", "heads"), strict=False):
        if size not in (1, wanted):
            raise ValueError(f"plan must be for a {name} of 1 or {wanted}, got {size}")
    if bias is not None and (bias.ndim != 2 or bias.shape[0] not in (1, q.shape[1])):
        raise ValueError(
            f"bias must have the shape ({q.shape[1]} or 1, tokens), got {tuple(bias.shape)}"
        )
    if bias is not None and bias.shape[1] < q.shape[2]:
        raise ValueError(f"bias must have {q.shape[2]} distances or more, got {bias.shape[1]}")
    if bias is not None and bias.device.type == "cpu" and not bias[:, 0].isfinite().all():
        raise ValueError(  # each token would not see itself, and the first nothing
            f"bias must be finite at distance 0, got {bias[:, 0].tolist()}"
        )
    if q.device.type == "cpu":  # elsewhere it would make the host wait
        for names, pair in (("q", (q, q)), ("kv", (k, v))):
            if not _product(*pair).isfinite():
                for name, t in zip(names, pair, strict=False):
                    if not t.detach().sum(dtype=_wide(t)).isfinite():
                        raise ValueError(f"{name} must be finite, got NaN or infinity")


def _product(a: Tensor, b: Tensor) -> Tensor:
    """Their scalar product, not finite if a value of either is not: it reads two for one sum."""
    if a.dtype in (torch.float32, torch.float64) and a.is_contiguous() and b.is_contiguous():
        return a.detach().view(-1).dot(b.detach().view(-1))
    total = a.detach().sum(dtype=_wide(a))
    return total if a is b else total * b.detach().sum(dtype=_wide(b))


def _wide(t: Tensor) -> torch.dtype:
    return torch.promote_types(t.dtype, torch.float32)


def _computed(q: Tensor, k: Tensor, v: Tensor, terms: Terms, how: Path) -> Partial:
    if how == "dense":
        return _dense(q, k, v, terms)
    run = diagonal_attention if how == "diagonal" else gathered_attention
    tokens, more = q.shape[2], -q.shape[2] % terms.plan.block
    if more:  # the padding lies ahead of all queries, so causality hides it
        q, k, v = (pad(t, (0, 0, 0, more)) for t in (q, k, v))
    q, k, v = (t if t.stride(-1) == 1 else t.contiguous() for t in (q, k, v))
    out, lse = run(q, k, v, terms)
    return out[:, :, :tokens], lse[:, :, :tokens]


def _masks(q: Tensor, terms: Terms) -> bool:
    """Whether a mask of the queries' dtype says all of it: a weight would be rounded."""
    exact = q.dtype in (torch.float32, torch.float64)
    return terms.bias is None and (exact or not terms.weighted or terms.plan.certain)


def _masked(q: Tensor, k: Tensor, v: Tensor, terms: Terms) -> Tensor:
    """PyTorch's own call with the plan as its mask, which gives no mass."""
    mask = terms.plan.to_dense_bias(weighted=terms.weighted, dtype=q.dtype).to(q.device)
    return scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=terms.scale)


def _dense(q: Tensor, k: Tensor, v: Tensor, terms: Terms) -> Partial:
    """The same with all scores in view: for a bias that learns, and for tests."""
    plan, bias, weighted, scale = terms
    wide = torch.promote_types(q.dtype, torch.float32)
    s = (q.to(wide) @ k.to(wide).mT) * scale
    s = s + plan.to_dense_bias(weighted=weighted, dtype=wide).to(q.device)
    if bias is not None:
        i = torch.arange(q.shape[2], device=q.device)
        s = s + bias[:, (i[:, None] - i).clamp_min(0)]
    lse = s.logsumexp(-1)
    return ((s - lse.unsqueeze(-1)).exp() @ v.to(wide)).to(q.dtype), lse


def _corrected(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    terms: Terms,
    out: Tensor,
    lse: Tensor | None,
    floor: float,
    guard: float,
) -> Partial:
    r"""The sums plus :math:`\sum_j c_j \tilde N_j` with :math:`c_j = 1 - [j \in S] / \pi_j`."""
    assert lse is not None
    plan, bias, _, scale = terms
    size, t, (b, h, n, _) = plan.block, plan.blocks, q.shape
    wide = lse.dtype
    full = n // size  # the last block, if it has fewer tokens, is nobody's past
    kbar, vbar = (
        pad(x[:, :, : full * size].to(wide).unflatten(2, (full, size)).mean(3), (0, 0, 0, t - full))
        for x in (k, v)
    )
    weight = torch.where(plan.kept, 1 / plan.pi, 0.0).to(q.device, wide)
    c = (1 - weight).tril(-1)
    if guard:
        alike = (self_similarity(k, size) >= guard).to(c)
        c = c * alike.repeat_interleave(h // k.shape[1], 1).unsqueeze(2)
    offset = torch.full_like(c, math.log(size)).masked_fill(c == 0, float("-inf"))
    mean = None if bias is None else _mean_bias(bias.to(wide), n, size, t)
    outs, masses = [], []
    for i, j in itertools.product(range(b), range(h)):  # a head's numbers stay in the cache
        at = (i if c.shape[0] > 1 else 0, j if c.shape[1] > 1 else 0)
        rows, past = (x[at].repeat_interleave(size, 0)[:n] for x in (c, offset))
        group = j // (h // k.shape[1])
        s = torch.addmm(past, q[i, j].to(wide), kbar[i, group].mT, alpha=scale)
        if mean is not None:
            s = s + mean[j if len(mean) > 1 else 0]
        exact, own = lse[i, j], out[i, j].to(wide)
        top = torch.maximum(exact, s.amax(-1)).detach()
        e = (s - top.unsqueeze(-1)).exp() * rows
        known = (exact - top).exp()
        mass = known + e.sum(-1)
        good = mass > max(floor, 0.0) * known
        safe = torch.where(good, mass, 1.0)
        sums = known.unsqueeze(-1) * own + e @ vbar[i, group]
        outs.append(torch.where(good.unsqueeze(-1), sums / safe.unsqueeze(-1), own).to(q.dtype))
        masses.append(torch.where(good, top + safe.log(), exact))
    return torch.stack(outs).view_as(out), torch.stack(masses).view_as(lse)


def _mean_bias(bias: Tensor, tokens: int, size: int, t: int) -> Tensor:
    """Logarithm of the mean of exp(bias) over each block's keys, (heads, tokens, blocks)."""
    top = bias[:, :tokens].amax(-1, keepdim=True).detach()
    sums = pad((bias[:, :tokens] - top).exp().cumsum(-1), (1, 0))
    i = torch.arange(tokens, device=bias.device)[:, None]
    last = i - torch.arange(t, device=bias.device) * size  # distance of a block's first key
    inside = sums[:, (last + 1).clamp(0, tokens)] - sums[:, (last + 1 - size).clamp(0, tokens)]
    past = last >= size - 1
    return torch.where(past, (inside / size).clamp_min(1e-30).log() + top.unsqueeze(-1), 0.0)
