r"""Which blocks are computed, and how likely each was to be: plans.

A *plan* is what a *design* (:mod:`~genopt_core.torch.attention.designs`) drew for one length.
Plans are small, T x T for T blocks, are drawn once, and serve forward, backward and any number of
calls.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

import torch
from torch import Tensor

from genopt_core.checks import whole

__all__ = ["Plan", "Terms", "default_block", "stack_heads"]


class Terms(NamedTuple):
    """What a path is told beside queries, keys and values."""

    plan: Plan
    bias: Tensor | None  # (heads or 1, tokens), by distance
    weighted: bool  # whether a kept block counts 1/π
    scale: float


def default_block(length: int) -> int:
    """Tokens of a block at which the fused calls keep most of a dense call's rate, on a CPU.

    A sixteenth of the length, at least 128 and at most 512: with smaller blocks the kernel's tiles
    become small, with larger ones there is little to choose from.

    >>> [default_block(n) for n in (100, 2048, 4096, 16384)]
    [100, 128, 256, 512]
    """
    size = 1 << max(whole(length, "length") // 16, 1).bit_length() - 1
    return min(max(size, 128), 512, length)


@dataclass(frozen=True, eq=False)
class Plan:
    r"""Blocks that were kept, with the probabilities they were kept with.

    ``plan | other`` keeps what either keeps; the probabilities are those of independent draws.

    Parameters
    ----------
    length : int
        Tokens.
    block : int
        Tokens of a block; the last may have fewer.
    kept : (1 or batch, 1 or heads, blocks, blocks) bool tensor
        Lower triangle over query block and key block, the diagonal kept.
    pi : tensor of that shape
        Inclusion probabilities, positive where a block is kept; 1 on the diagonal.
    distances : tuple of int, optional
        Given if every row keeps the same distances, with the same probabilities, beside the first
        ``sinks`` key blocks: then whole block diagonals are computed at once.
    sinks : int
        How many first key blocks are kept for sure.
    head_distances : tuple of tuples of int, optional
        Instead of ``distances`` if each head, of each batch row that ``kept`` has, keeps its own.

    Examples
    --------
    >>> from genopt_core.torch.attention import near, sink
    >>> plan = (sink(1) | near(1)).plan(16, block=4)
    >>> plan.kept[0, 0].int().tolist(), plan.density
    ([[1, 0, 0, 0], [1, 1, 0, 0], [1, 1, 1, 0], [1, 0, 1, 1]], 0.9)
    >>> plan.to("cpu") is plan, plan.to_dense_bias().shape, plan.to_block_mask().BLOCK_SIZE
    (True, torch.Size([1, 1, 16, 16]), (4, 4))
    """

    length: int
    block: int
    kept: Tensor
    pi: Tensor
    distances: tuple[int, ...] | None = None
    sinks: int = 0
    head_distances: tuple[tuple[int, ...], ...] | None = None

    def __post_init__(self) -> None:
        whole(self.length, "length")
        t = -(-self.length // whole(self.block, "block"))
        k = self.kept
        if k.dtype != torch.bool or k.ndim != 4 or k.shape[-2:] != (t, t):
            raise ValueError(
                f"kept must be boolean of the shape (batch, heads, {t}, {t}), "
                f"got {k.dtype} {tuple(k.shape)}"
            )
        if k.triu(1).any() or not k.diagonal(dim1=-2, dim2=-1).all():
            raise ValueError("kept must hold the diagonal and nothing above it")
        if self.pi.shape != k.shape or not ((self.pi[k] > 0) & (self.pi[k] <= 1)).all():
            raise ValueError(
                "pi must have the shape of kept and be in (0, 1] where a block is kept, "
                "as its weight is 1/pi"
            )
        if (self.pi.diagonal(dim1=-2, dim2=-1) != 1).any():
            raise ValueError("pi must be 1 on the diagonal")
        each = self.head_distances
        if self.distances is not None:
            if each is not None or k.shape[:2] != (1, 1):
                raise ValueError("distances must be given for one plan of all heads alone")
            each = (self.distances,)
        if each is not None:
            self._check_distances(each)

    def _check_distances(self, each: tuple[tuple[int, ...], ...]) -> None:
        k, t = self.kept.flatten(0, 1), self.blocks
        if len(each) != len(k):
            raise ValueError(f"distances must be given for {len(k)} heads, got {len(each)}")
        i = torch.arange(t, device=k.device)
        at = (i[:, None] - i).clamp_min(0)
        listed = torch.zeros(len(k), t, dtype=torch.bool, device=k.device)
        for line, distances in zip(listed, each, strict=True):
            line[list(distances)] = True
        lower = torch.ones(t, t, dtype=torch.bool, device=k.device).tril()
        first = (i < self.sinks) & lower
        if not torch.equal(k, (listed[:, at] & lower) | first):
            raise ValueError("distances and sinks must say the same as kept, for all heads")
        pi = self.pi.flatten(0, 1)
        likely = torch.where(first, 1.0, pi[:, -1].flip(-1)[:, at])
        if (pi != likely)[k].any():
            raise ValueError("pi must depend on the distance alone for a plan by distance")

    @property
    def blocks(self) -> int:
        """Number of blocks T."""
        return self.kept.shape[-1]

    @property
    def density(self) -> float:
        """Share of the lower triangle's blocks that are kept, mean over batch and heads."""
        return self.kept.double().mean().item() * 2 * self.blocks / (self.blocks + 1)

    @cached_property
    def full(self) -> bool:
        """Whether everything is kept, with probability 1: then it is full attention."""
        lower = torch.ones_like(self.kept[0, 0]).tril()
        return bool(self.kept[..., lower].all() and (self.pi[..., lower] == 1).all())

    @cached_property
    def certain(self) -> bool:
        """Whether what is kept was sure to be, so that no block has a weight."""
        return bool((self.pi[self.kept] == 1).all())

    @property
    def log_weights(self) -> Tensor:
        r""":math:`\ln(1/\pi)` where a block is kept, minus infinity elsewhere; as ``kept``."""
        return torch.where(self.kept, -self.pi.log(), float("-inf"))

    def __or__(self, other: Plan) -> Plan:
        if not isinstance(other, Plan):
            return NotImplemented
        if (self.length, self.block) != (other.length, other.block):
            raise ValueError(
                "plans must have one length and block, got "
                f"{self.length}, {self.block} and {other.length}, {other.block}"
            )
        both = None
        if self.distances is not None and other.distances is not None:
            both = tuple(sorted({*self.distances, *other.distances}))
        kept = self.kept | other.kept
        sinks = max(self.sinks, other.sinks)
        return Plan(
            self.length,
            self.block,
            kept,
            1 - (1 - self.pi) * (1 - other.pi),
            both,
            sinks if both is not None else 0,
        )

    def to(self, device: Any) -> Plan:
        """The plan with its tensors on ``device``; itself if they are there."""
        if torch.empty(0, device=device).device == self.kept.device == self.pi.device:
            return self  # a new one is checked, which makes the host wait
        return replace(self, kept=self.kept.to(device), pi=self.pi.to(device))

    def to_dense_bias(self, *, weighted: bool = True, dtype: torch.dtype | None = None) -> Tensor:
        r"""What a dense softmax adds to its scores to do the same: for tests, N x N of memory.

        Returns
        -------
        (1 or batch, 1 or heads, length, length) tensor
            :math:`\ln(1/\pi)`, or 0 if not ``weighted``; minus infinity where nothing is computed.
        """
        table = self.log_weights if weighted else self.log_weights.clamp_max(0)
        for dim in (-2, -1):
            table = table.repeat_interleave(self.block, dim).narrow(dim, 0, self.length)
        ahead = torch.ones(self.length, self.length, dtype=torch.bool, device=table.device)
        out = table.masked_fill(ahead.triu(1), float("-inf"))
        return out.to(dtype or torch.get_default_dtype())

    def to_block_mask(self, device: Any = None) -> Any:
        """The plan as a ``BlockMask`` for ``torch.nn.attention.flex_attention``; no weights.

        The diagonal is its list of partial blocks.  The mask function knows the plan too, because
        flex_attention without ``torch.compile`` heeds only that.  It is made once.
        """
        return self._block_mask(device)

    def __getstate__(self) -> dict[str, Any]:
        """All but the masks that were made, whose functions cannot be pickled."""
        return {name: value for name, value in self.__dict__.items() if name != "_block_masks"}

    def _block_mask(self, device: Any = None, *, causal: bool = False) -> Any:
        """With ``causal`` its function only says that no key lies ahead.

        That is all that a compiled kernel on a GPU asks it, and sooner answered.
        """
        made = self.__dict__.setdefault("_block_masks", {})
        if (device, causal) not in made:
            made[device, causal] = self._new_block_mask(device, causal)
        return made[device, causal]

    def _new_block_mask(self, device: Any, causal: bool) -> Any:
        from torch.nn.attention.flex_attention import BlockMask

        kept = self.kept if device is None else self.kept.to(device)
        size, t = self.block, self.blocks

        def keeps(b: Tensor, h: Tensor, q: Tensor, kv: Tensor) -> Tensor:
            batch = b if kept.shape[0] > 1 else 0
            head = h if kept.shape[1] > 1 else 0
            return kept[batch, head, q // size, kv // size] & (q >= kv)

        own = torch.arange(t, device=kept.device, dtype=torch.int32)
        ones = torch.ones(*kept.shape[:3], dtype=torch.int32, device=kept.device)
        index = own.view(t, 1).expand(*kept.shape).contiguous()
        others = kept & ~torch.eye(t, dtype=torch.bool, device=kept.device)
        order = others.to(torch.uint8).argsort(dim=-1, descending=True, stable=True)
        return BlockMask.from_kv_blocks(
            ones,
            index,
            others.sum(-1, dtype=torch.int32),
            order.to(torch.int32),
            BLOCK_SIZE=size,
            mask_mod=_not_ahead if causal else keeps,
            seq_lengths=(self.length, self.length),
        )


def _not_ahead(b: Tensor, h: Tensor, q: Tensor, kv: Tensor) -> Tensor:
    return q >= kv


def stack_heads(plans: Sequence[Plan]) -> Plan:
    """One plan whose heads have a plan each: densities that differ from head to head.

    Parameters
    ----------
    plans : sequence of Plan
        Of one length and block, each for one head.

    Examples
    --------
    >>> from genopt_core.torch.attention import near
    >>> few, more = near(0).plan(8, block=2), near(2).plan(8, block=2)
    >>> stack_heads([few, more]).kept.sum((-2, -1)).tolist()
    [[4, 9]]
    """
    if not plans:
        raise ValueError("plans must hold a plan for each head, got none")
    sizes = {(plan.length, plan.block) for plan in plans}
    if len(sizes) > 1:
        raise ValueError(f"plans must have one length and block, got {sorted(sizes)}")
    if any(plan.kept.shape[1] != 1 for plan in plans):
        raise ValueError(
            f"plans must be for one head each, got {[plan.kept.shape[1] for plan in plans]}"
        )
    batch = max(plan.kept.shape[0] for plan in plans)
    kept, pi = (
        torch.cat([getattr(plan, name).expand(batch, -1, -1, -1) for plan in plans], 1)
        for name in ("kept", "pi")
    )
    by_distance = batch == 1 and len({plan.sinks for plan in plans}) == 1
    each = [plan.head_distances or (plan.distances,) for plan in plans]
    own = tuple(lists[0] for lists in each if lists[0] is not None)
    if not by_distance or len(own) < len(plans):
        return Plan(plans[0].length, plans[0].block, kept, pi)
    return Plan(plans[0].length, plans[0].block, kept, pi, None, plans[0].sinks, own)
