r"""PrFlashAttention as a module for models of one's own, and what it is on average.

In training a plan is drawn each step: block dropout, whose backward pass uses the same draw.  For
evaluation there is a choice between one draw, several that are pooled, their limit, and full
attention.

Sources: N. Srivastava et al., "Dropout", 2014, for training with a draw and testing with a mean;
F. Li, arXiv 2410.18441, the section on PrFlashAttention, for drawing blocks.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from genopt_core.attention.blocks.estimators import ESTIMATORS, Estimator
from genopt_core.checks import one_of, real, whole
from genopt_core.torch.attention.attention import pr_flash_attention, rounds_attention
from genopt_core.torch.attention.designs import Design
from genopt_core.torch.attention.draws import checked_generator
from genopt_core.torch.attention.plans import Plan

__all__ = ["PrFlashAttention", "expected_attention"]

Evaluate = Literal["sample", "rounds", "expected", "full"]
EVALUATE: tuple[Evaluate, ...] = ("sample", "rounds", "expected", "full")
Draw = Design | Callable[[Tensor, Tensor, torch.Generator | None], Plan]


def expected_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    plan: Plan,
    *,
    bias: Tensor | None = None,
    scale: float | None = None,
) -> Tensor:
    r"""What plain dropping comes to in the limit of many pooled rounds: no chance is left.

    Full causal attention with :math:`\ln \pi` of each pair of blocks added to its scores; of a plan
    only its probabilities count.  It costs full attention, and memory of tokens x block.

    Parameters
    ----------
    q : (batch, heads, tokens, dim) tensor
    k, v : (batch, key_heads, tokens, dim) tensors
    plan : Plan
    bias : (heads or 1, tokens) tensor, optional
    scale : float, optional
        All as in `pr_flash_attention`; everything has gradients.

    Returns
    -------
    (batch, heads, tokens, dim) tensor

    Examples
    --------
    >>> from genopt_core.torch.attention import DistanceLaw, sample
    >>> x, v = torch.zeros(1, 1, 3, 1), torch.tensor([0.0, 0.0, 3.5]).view(1, 1, 3, 1)
    >>> plan = sample(DistanceLaw.harmonic(), 0.75).plan(3, block=1)
    >>> [round(pi, 6) for pi in plan.pi[0, 0, 2].tolist()]
    [0.3, 0.45, 1.0]
    >>> round(expected_attention(x, x, v, plan)[0, 0, 2].item(), 6)
    2.0
    """
    n, size = q.shape[2], plan.block
    if plan.length != n:
        raise ValueError(f"plan must be for {n} tokens, got one for {plan.length}")
    factor = q.shape[-1] ** -0.5 if scale is None else real(scale, "scale")
    wide = torch.promote_types(q.dtype, torch.float32) if q.device.type == "cpu" else q.dtype
    logs = plan.pi.to(q.device, torch.float64).log().to(wide)
    if k.shape[1] != q.shape[1]:
        k, v = (x.repeat_interleave(q.shape[1] // k.shape[1], 1) for x in (k, v))
    outs = []
    for i in range(plan.blocks):
        first, last = i * size, min((i + 1) * size, n)
        row = logs[:, :, i, : i + 1].repeat_interleave(size, -1)[..., None, :last]
        at = torch.arange(first, last, device=q.device)[:, None]
        distance = at - torch.arange(last, device=q.device)
        mask = row.expand(-1, -1, last - first, -1)
        if bias is not None:
            mask = mask + bias.to(wide)[:, distance.clamp_min(0)]
        mask = mask.masked_fill(distance < 0, float("-inf"))
        outs.append(
            scaled_dot_product_attention(
                q[:, :, first:last], k[:, :, :last], v[:, :, :last], attn_mask=mask, scale=factor
            )
        )
    return torch.cat(outs, 2)


class PrFlashAttention(nn.Module):
    r"""Causal attention over drawn blocks, between the projections of a model's own layer.

    Parameters
    ----------
    design : Design or callable
        Such as ``sink(1) | near(1) | sample(DistanceLaw.harmonic(), density=0.5)``; or what makes a
        plan of queries, keys and the generator, as
        :func:`genopt_core.torch.attention.plan_rows` does.
    estimator : {"plain", "self-normalized", "difference"}
        Plain is dropout that learns with the bias :math:`\ln \pi`; the others aim at full
        attention.
    block : int, optional
        Tokens of a block, for a design.
    evaluate : {"sample", "rounds", "expected", "full"}
        What a module in evaluation gives: one draw; ``rounds`` of them, pooled; their limit, which
        for plain dropping is full attention with :math:`\ln \pi` added and for the other estimators
        full attention; or full attention.
    rounds : int
    generator : ``torch.Generator``, optional
        Of the draws, on the CPU; by default PyTorch's own.  Its state is part of ``state_dict()``,
        so that a run that is taken up again draws what it would have drawn.  Gradient checkpointing
        draws again what it computes again: there, leave it out, or give a plan to each call.

    Attributes
    ----------
    plan : Plan or None
        The last draw.

    Examples
    --------
    >>> from genopt_core.torch.attention import DistanceLaw, near, sample, sink
    >>> design = sink(1) | near(1) | sample(DistanceLaw.harmonic(), 2)
    >>> attention = PrFlashAttention(design, block=8, generator=torch.Generator().manual_seed(0))
    >>> q = k = v = torch.ones(1, 4, 64, 16, requires_grad=True)
    >>> attention(q, k, v).sum().backward()
    >>> attention.plan.kept.sum(-1)[0, 0].tolist()
    [1, 2, 3, 3, 4, 4, 4, 5]
    >>> attention.eval()
    PrFlashAttention(estimator='self-normalized', block=8, evaluate='full')
    >>> attention.draw(q, k).blocks
    8
    """

    def __init__(
        self,
        design: Draw,
        *,
        estimator: Estimator = "self-normalized",
        block: int | None = None,
        evaluate: Evaluate = "full",
        rounds: int = 8,
        generator: torch.Generator | None = None,
    ):
        super().__init__()
        if not isinstance(design, Design) and not callable(design):
            raise TypeError(
                f"design must be a Design, or a callable that gives a Plan, got {design!r}"
            )
        one_of(estimator, "estimator", [name for name in ESTIMATORS if name != "horvitz-thompson"])
        self.design, self.estimator = design, estimator
        self.block = None if block is None else whole(block, "block")
        self.evaluate: Evaluate = one_of(evaluate, "evaluate", EVALUATE)
        self.rounds = whole(rounds, "rounds")
        self.generator = checked_generator(generator)
        self.plan: Plan | None = None

    def forward(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        *,
        bias: Tensor | None = None,
        scale: float | None = None,
        plan: Plan | None = None,
    ) -> Tensor:
        """The output, (batch, heads, tokens, dim), of ``q``, ``k`` and ``v`` of that layout.

        ``plan`` takes the place of a draw; ``bias`` and all else are as in
        `pr_flash_attention`.
        """
        options: dict[str, Any] = {"bias": bias, "scale": scale, "estimator": self.estimator}
        how = "sample" if self.training or plan is not None else self.evaluate
        if how == "sample":
            self.plan = self.draw(q, k) if plan is None else plan
            return pr_flash_attention(q, k, v, self.plan, **options)  # type: ignore[return-value]
        if how == "rounds":
            plans = (self.draw(q, k) for _ in range(self.rounds))
            *_, (out, _) = rounds_attention(q, k, v, plans, **options)
            return out
        if how == "expected" and self.estimator == "plain":
            likely = self._draw(q, k, torch.Generator().manual_seed(0))
            return expected_attention(q, k, v, likely, bias=bias, scale=scale)
        lower = torch.ones(1, 1, 1, 1, dtype=torch.bool)
        everything = Plan(q.shape[2], q.shape[2], lower, lower.double()).to(q.device)
        return pr_flash_attention(q, k, v, everything, **options)  # type: ignore[return-value]

    def draw(self, q: Tensor, k: Tensor) -> Plan:
        """A plan for ``q`` and ``k`` (batch, heads, tokens, dim), as a step of training draws."""
        return self._draw(q, k, self.generator)

    def _draw(self, q: Tensor, k: Tensor, generator: torch.Generator | None) -> Plan:
        if isinstance(self.design, Design):
            b, h, n, _ = q.shape
            plan = self.design.plan(n, block=self.block, heads=h, batch=b, generator=generator)
        else:
            with torch.no_grad():
                plan = self.design(q.detach(), k.detach(), generator)
        return plan.to(q.device)

    def get_extra_state(self) -> dict[str, Tensor | None]:
        """The state of the generator, if the module has its own."""
        return {"generator": None if self.generator is None else self.generator.get_state()}

    def set_extra_state(self, state: dict[str, Tensor | None]) -> None:
        """Go on drawing from where the ``state``, a tensor of bytes by name, was taken."""
        held = state["generator"]
        if self.generator is not None and held is not None:
            self.generator.set_state(held.cpu())

    def extra_repr(self) -> str:
        """What differs between modules, as ``repr`` shows it."""
        return f"estimator={self.estimator!r}, block={self.block}, evaluate={self.evaluate!r}"
