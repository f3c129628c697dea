r"""Ladders: which width a token has at which age, and what the whole cache costs.

A ladder such as ``(16, 8, 4, 2)`` lists widths from the newest tokens to the oldest.  The first
entry is full precision; the last is the floor, where every old token ends.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import NamedTuple

__all__ = [
    "FULL",
    "Stair",
    "cache_bits",
    "check_ladder",
    "limit_bits",
    "metadata_bits",
    "stairs_by_age",
    "width_at",
]

FULL = 16
"""The width that means "kept as it came", in the dtype of the model."""


class Stair(NamedTuple):
    """Tokens ``first`` to ``last`` (exclusive), counted from the oldest, at ``bits`` bits."""

    first: int
    last: int
    bits: int


def check_ladder(ladder: Sequence[int], name: str = "ladder") -> tuple[int, ...]:
    """Return the ladder as a tuple of widths if it is one, else raise ``ValueError``.

    A ladder starts at 16 and never rises; its other widths are 16 or 1 to 8.  The paper wants it
    strictly falling and at least two stairs long; here a stair may repeat, so that a stair can be
    several chunks long, and ``(16,)`` is the cache that quantises nothing.

    >>> check_ladder([16, 8, 8, 2])
    (16, 8, 8, 2)
    """
    widths = tuple(ladder)
    if not widths or any(
        isinstance(w, bool) or int(w) != w or not (1 <= w <= 8 or w == FULL) for w in widths
    ):
        raise ValueError(f"{name} must list widths of 1 to 8 bits after {FULL}, got {ladder!r}")
    if widths[0] != FULL or any(b > a for a, b in itertools.pairwise(widths)):
        raise ValueError(f"{name} must start at {FULL} and never rise, got {ladder!r}")
    return tuple(int(w) for w in widths)


def width_at(segment: int, ladder: Sequence[int]) -> int:
    r"""Bits of closed chunk number ``segment``, 1 being the newest; 0 is the open residual.

    .. math:: b(i) = B_{\min(i + 1,\, q_n)}

    in the paper's counting, where :math:`B_1` is full precision and :math:`B_{q_n}` the floor
    (eq. kv-stairs).  Raises ``ValueError`` for a negative ``segment``.

    >>> [width_at(i, (16, 8, 4, 2)) for i in range(6)]
    [16, 8, 4, 2, 2, 2]
    """
    if segment < 0:
        raise ValueError(f"segment must not be negative, got {segment}")
    return ladder[min(segment, len(ladder) - 1)]


def _check_sizes(length: int, chunk: int, sink: int) -> None:
    for name, value, least in (("length", length, 0), ("chunk", chunk, 1), ("sink", sink, 0)):
        if value < least:
            raise ValueError(f"{name} must be at least {least}, got {value}")


def stairs_by_age(length: int, ladder: Sequence[int], chunk: int, *, sink: int = 0) -> list[Stair]:
    r"""Stairs of a cache of ``length`` tokens, oldest first (eq. kv-stairs).

    The first ``sink`` tokens stay in full precision.  Of the other :math:`n` the newest
    :math:`n \bmod S` are the residual, and chunk :math:`i` before it has width
    :func:`width_at` ``(i)``.  Prefill assigns these widths directly, from the exact tensors; a
    cache grown token by token has the same.

    Neighbouring chunks of equal width are one stair, sinks and residual always stairs of their
    own, and empty stairs are left out.

    >>> for stair in stairs_by_age(10, (16, 4, 2), chunk=2, sink=1):
    ...     print(*stair)
    0 1 16
    1 7 2
    7 9 4
    9 10 16
    """
    ladder = check_ladder(ladder)
    _check_sizes(length, chunk, sink)
    kept = min(sink, length)
    closed = (length - kept) // chunk
    stairs = [Stair(0, kept, FULL)]
    for i in range(closed, 0, -1):
        last, bits = stairs[-1].last + chunk, width_at(i, ladder)
        if len(stairs) > 1 and stairs[-1].bits == bits:
            stairs[-1] = stairs[-1]._replace(last=last)
        else:
            stairs.append(Stair(stairs[-1].last, last, bits))
    stairs.append(Stair(stairs[-1].last, length, FULL))
    return [stair for stair in stairs if stair.last > stair.first]


def metadata_bits(
    codec: str,
    side: str,
    *,
    dim: int,
    chunk: int,
    group_size: int = 32,
    meta_bits: int = 16,
) -> float:
    r"""Bits of metadata per quantised element (eq. kv-metadata).

    .. math:: \text{grid: } \frac{2\mu}{G}, \qquad
              \text{rotated: } \frac{\mu}{d} + \Big[\frac{\mu}{S}\Big]_{\text{keys}}

    A grid stores step and minimum of each group of :math:`G`; a rotated code one gain a vector of
    :math:`d` channels, and keys their mean over each chunk of :math:`S` tokens.

    Raises ``ValueError`` unless ``codec`` is "grid" or "rotated" and ``side`` "key" or "value".

    >>> metadata_bits("grid", "key", dim=64, chunk=128)
    1.0
    >>> metadata_bits("rotated", "key", dim=64, chunk=128)
    0.375
    """
    if side not in ("key", "value"):
        raise ValueError(f"side must be 'key' or 'value', got {side!r}")
    if codec == "grid":
        return 2 * meta_bits / group_size
    if codec == "rotated":
        return meta_bits / dim + (meta_bits / chunk if side == "key" else 0)
    raise ValueError(f"codec must be 'grid' or 'rotated', got {codec!r}")


def cache_bits(
    length: int,
    ladder: Sequence[int],
    chunk: int,
    *,
    metadata: float = 0.0,
    sink: int = 0,
    full_bits: int = FULL,
) -> float:
    r"""Bits of one channel of a cache of ``length`` tokens, metadata included (eq. kv-memory).

    .. math:: \mathcal B(l) = (r + n_0) B_1 + S \sum_{j=2}^{\min(s,\, q_n - 2) + 1} B_j
              + \max(0,\, s - q_n + 2)\, S B_{q_n} + m\, s S

    with :math:`n_0` sink tokens, :math:`s = \lfloor (l - n_0)/S \rfloor` closed chunks, a residual
    of :math:`r` tokens and :math:`m` bits of metadata per quantised element
    (:func:`metadata_bits`; :math:`2\mu/G` in the paper, which has no sinks).

    Parameters
    ----------
    length : int
        Tokens in the cache.
    ladder, chunk, sink
        As in :func:`stairs_by_age`.
    metadata : float
        Bits per quantised element.
    full_bits : int
        What an unquantised element takes: 16, or 32 in a float32 model.

    Returns
    -------
    bits : float
        Per channel; the bytes of one side of a cache are this times batch × layers × key/value
        heads × channels / 8.  Divided by ``length`` it tends to :func:`limit_bits`.

    >>> cache_bits(4096, (16, 8, 4, 2), 128, metadata=1.0) / 4096
    3.25
    """
    ladder = check_ladder(ladder)
    _check_sizes(length, chunk, sink)
    kept = min(sink, length)
    closed, residual = divmod(length - kept, chunk)
    total = float((kept + residual) * full_bits)
    for i in range(1, min(closed, len(ladder) - 2) + 1):  # the stairs above the floor
        total += chunk * (full_bits if ladder[i] == FULL else ladder[i] + metadata)
    floor = ladder[-1]
    old = max(0, closed - max(0, len(ladder) - 2))
    return total + old * chunk * (full_bits if floor == FULL else floor + metadata)


def limit_bits(
    key_ladder: Sequence[int],
    value_ladder: Sequence[int],
    *,
    key_metadata: float = 0.0,
    value_metadata: float = 0.0,
    full_bits: int = FULL,
) -> float:
    r"""Bits per element of a very long cache, keys and values averaged (eq. kv-memory, limit).

    .. math:: \bar\beta_\infty = \tfrac12\big(B^K_{q_n} + m_K + B^V_{q_n} + m_V\big)

    >>> limit_bits((16, 8, 4, 2), (16, 8, 4, 2), key_metadata=0.375, value_metadata=0.25)
    2.3125
    """
    total = 0.0
    for ladder, metadata in ((key_ladder, key_metadata), (value_ladder, value_metadata)):
        floor = check_ladder(ladder)[-1]
        total += full_bits if floor == FULL else floor + metadata
    return total / 2
