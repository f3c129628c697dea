r"""Ladders: which width a token has at which age, and what the whole cache costs.

A ladder such as ``(16, 8, 4, 2)`` lists widths from the newest tokens to the oldest.  The first
entry is full precision; the last is the floor, where every old token ends.
"""

import itertools
import math
from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple

from genopt_core.checks import one_of, real, whole

FULL = 16
"""The width that means "kept as it came", in the dtype of the model."""

Side = Literal["key", "value"]
SIDES: tuple[Side, Side] = ("key", "value")


class Stair(NamedTuple):
    """Tokens ``first`` to ``last`` (exclusive), counted from the oldest, at ``bits`` bits."""

    first: int
    last: int
    bits: int


def check_ladder(ladder: Sequence[int] | str, name: str = "ladder") -> tuple[int, ...]:
    """The ladder as a tuple of widths, if it is one; ``"16/8/2"`` may stand for ``(16, 8, 2)``.

    A ladder starts at 16 and never rises; its other widths are 16 or 1 to 8.  The paper wants it
    strictly falling and at least two stairs long; here a stair may repeat, so that a stair can be
    several chunks long, and ``(16,)`` is the cache that quantizes nothing.

    >>> check_ladder([16, 8, 8, 2])
    (16, 8, 8, 2)
    >>> check_ladder("16/8/2")
    (16, 8, 2)
    """
    try:
        given = parse_ladder(ladder) if isinstance(ladder, str) else ladder
        widths = tuple(whole(width, name) for width in given)
    except (TypeError, ValueError):
        widths = ()
    falls = all(b <= a for a, b in itertools.pairwise(widths))
    if not (widths and widths[0] == FULL and falls and all(w <= 8 or w == FULL for w in widths)):
        raise ValueError(
            f"{name} must start at {FULL} and go on with widths of 8 to 1 bits that never rise, "
            f"such as (16, 8, 4, 2), got {ladder!r}"
        )
    return widths


def format_ladder(ladder: Sequence[int]) -> str:
    """Widths as the book writes them.

    >>> format_ladder((16, 8, 4, 2))
    '16/8/4/2'
    """
    return "/".join(map(str, ladder))


def parse_ladder(text: str) -> tuple[int, ...]:
    """Widths from what :func:`format_ladder` wrote.

    >>> parse_ladder("16/8/4/2")
    (16, 8, 4, 2)
    """
    return tuple(int(width) for width in text.split("/"))


def width_at(segment: int, ladder: Sequence[int]) -> int:
    r"""Bits of closed chunk number ``segment``, 1 being the newest; 0 is the open residual.

    .. math:: b(i) = B_{\min(i + 1,\, q_n)}

    in the paper's counting, where :math:`B_1` is full precision and :math:`B_{q_n}` the floor
    (book, eq. kv-stairs).

    >>> [width_at(i, (16, 8, 4, 2)) for i in range(6)]
    [16, 8, 4, 2, 2, 2]
    """
    return ladder[min(whole(segment, "segment", least=0), len(ladder) - 1)]


def merge_stairs(sink: int, chunks: Iterable[tuple[int, int]], residual: int) -> list[Stair]:
    """Stairs from the tokens of the sinks, ``(tokens, bits)`` of each chunk, and the residual.

    Neighboring chunks of equal width are one stair, sinks and residual always stairs of their
    own, and empty stairs are left out.
    """
    runs = itertools.groupby(chunks, key=lambda chunk: chunk[1])
    closed = [(sum(tokens for tokens, _ in run), bits) for bits, run in runs]
    stairs = [(sink, FULL), *closed, (residual, FULL)]
    ends = itertools.accumulate(tokens for tokens, _ in stairs)
    return [Stair(end - n, end, bits) for end, (n, bits) in zip(ends, stairs, strict=True) if n]


def _divided(length: int, chunk: int, sink: int) -> tuple[int, int, int]:
    """Sink tokens, closed chunks and residual tokens of a cache of ``length`` tokens."""
    whole(length, "length", least=0)
    kept = min(whole(sink, "sink", least=0), length)
    return kept, *divmod(length - kept, whole(chunk, "chunk"))


def stairs_by_age(length: int, ladder: Sequence[int], chunk: int, *, sink: int = 0) -> list[Stair]:
    r"""Stairs of a cache of ``length`` tokens, oldest first (book, eq. kv-stairs).

    The first ``sink`` tokens stay in full precision.  Of the other :math:`n` the newest
    :math:`n \bmod S` are the residual, and chunk :math:`i` before it has width
    :func:`width_at` ``(i)``, whether the tokens came as one prompt or one by one.

    >>> for stair in stairs_by_age(10, (16, 4, 2), chunk=2, sink=1):
    ...     print(*stair)
    0 1 16
    1 7 2
    7 9 4
    9 10 16
    """
    ladder = check_ladder(ladder)
    kept, closed, residual = _divided(length, chunk, sink)
    chunks = [(chunk, width_at(i, ladder)) for i in range(closed, 0, -1)]
    return merge_stairs(kept, chunks, residual)


def changed_chunks(
    before: int, length: int, ladder: Sequence[int], chunk: int, *, sink: int = 0
) -> int:
    """Closed chunks whose width is another at ``length`` than at ``before`` (book, eq. kv-stairs).

    A chunk that has just closed counts if it left full precision; one on the floor never does, so
    tokens that come one by one change at most ``len(ladder) - 1`` at once.

    >>> [changed_chunks(n - 1, n, (16, 8, 4, 2), chunk=4) for n in (11, 12, 13, 400)]
    [0, 3, 0, 3]
    """
    ladder = check_ladder(ladder)
    was, closed = (_divided(n, chunk, sink)[1] for n in (before, length))
    ages = range(1, closed + 1)
    return sum(width_at(i, ladder) != width_at(max(0, i - closed + was), ladder) for i in ages)


def metadata_bits(
    codec: str,
    side: str,
    *,
    dim: int,
    chunk: int,
    group_size: int = 32,
    meta_bits: int = 16,
) -> float:
    r"""Bits of metadata per quantized element (book, eq. kv-metadata).

    .. math:: \text{grid: } \frac{2\mu}{G}, \qquad
              \text{rotated: } \frac{\mu}{d} + \Big[\frac{\mu}{S}\Big]_{\text{keys}}

    A grid stores step and minimum of each group of :math:`G`; a rotated code one gain a vector of
    :math:`d` channels, and keys their mean over each chunk of :math:`S` tokens.

    >>> metadata_bits("grid", "key", dim=64, chunk=128)
    1.0
    >>> metadata_bits("rotated", "key", dim=64, chunk=128)
    0.375
    """
    one_of(side, "side", SIDES)
    dim, chunk = whole(dim, "dim"), whole(chunk, "chunk")
    each = real(meta_bits, "meta_bits")
    if one_of(codec, "codec", ("grid", "rotated")) == "grid":
        return 2 * each / whole(group_size, "group_size")
    return each / dim + (each / chunk if side == "key" else 0)


def _element_bits(ladder: Sequence[int], metadata: float, full_bits: int, name: str) -> list[float]:
    """Bits of an element at each width of a ladder."""
    full, more = real(full_bits, "full_bits"), real(metadata, name)
    return [full if width == FULL else width + more for width in ladder]


def cache_bits(
    length: int,
    ladder: Sequence[int],
    chunk: int,
    *,
    metadata: float = 0.0,
    sink: int = 0,
    full_bits: int = FULL,
) -> float:
    r"""Bits of one channel of a cache of ``length`` tokens, with metadata (book, eq. kv-memory).

    .. math:: \mathcal B(l) = (r + n_0) B_1 + S \sum_{j=2}^{\min(s,\, q_n - 2) + 1} B_j
              + \max(0,\, s - q_n + 2)\, S B_{q_n} + m\, s S

    with :math:`n_0` sink tokens, :math:`s = \lfloor (l - n_0)/S \rfloor` closed chunks, a residual
    of :math:`r` tokens and :math:`m` bits of ``metadata`` per quantized element
    (:func:`metadata_bits`; :math:`2\mu/G` in the paper, which has no sinks).  Elements in full
    precision take ``full_bits``: 16, or 32 in a float32 model.

    The bytes of one side of a cache are this times batch × layers × key/value heads × channels / 8.

    >>> cache_bits(4096, (16, 8, 4, 2), 128, metadata=1.0) / 4096
    3.25
    """
    ladder = check_ladder(ladder)
    kept, closed, residual = _divided(length, chunk, sink)
    above = max(0, min(closed, len(ladder) - 2))  # chunks that are not on the floor yet
    each = _element_bits(ladder, metadata, full_bits, "metadata")
    chunks = math.fsum(each[1 : above + 1]) + (closed - above) * each[-1]
    return (kept + residual) * full_bits + chunk * chunks


def design_bits(
    key_ladder: Sequence[int],
    value_ladder: Sequence[int],
    length: int,
    chunk: int,
    *,
    key_metadata: float = 0.0,
    value_metadata: float = 0.0,
    sink: int = 0,
    full_bits: int = FULL,
) -> float:
    r"""Bits per element of a cache of ``length`` tokens, both sides (book, eq. kv-memory).

    .. math:: \bar\beta(l) = \frac{\mathcal B^K(l) + \mathcal B^V(l)}{2\, l}

    Parameters are those of :func:`cache_bits`; a very long cache has :func:`limit_bits`.

    >>> design_bits((16, 8, 4, 2), (16, 2), 4096, 128, key_metadata=1.0, value_metadata=1.0)
    3.125
    """
    total = 0.0
    for ladder, metadata in ((key_ladder, key_metadata), (value_ladder, value_metadata)):
        total += cache_bits(
            length, ladder, chunk, metadata=metadata, sink=sink, full_bits=full_bits
        )
    return total / 2 / whole(length, "length")


def limit_bits(
    key_ladder: Sequence[int],
    value_ladder: Sequence[int],
    *,
    key_metadata: float = 0.0,
    value_metadata: float = 0.0,
    full_bits: int = FULL,
) -> float:
    r"""Bits per element of a very long cache, both sides (book, eq. kv-memory, limit).

    .. math:: \bar\beta_\infty = \tfrac12\big(B^K_{q_n} + m_K + B^V_{q_n} + m_V\big)

    >>> limit_bits((16, 8, 4, 2), (16, 8, 4, 2), key_metadata=0.375, value_metadata=0.25)
    2.3125
    """
    keys = _element_bits(check_ladder(key_ladder), key_metadata, full_bits, "key_metadata")
    values = _element_bits(check_ladder(value_ladder), value_metadata, full_bits, "value_metadata")
    return (keys[-1] + values[-1]) / 2
