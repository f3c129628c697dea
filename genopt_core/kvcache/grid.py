r"""The uniform quantizer of a group of numbers, its error, and the step to a coarser grid.

Keys are grouped *per channel*: ``group_size`` consecutive tokens of one channel share a scale,
because some channels are far larger than others.  Values are grouped *per token*: ``group_size``
channels of one token, because an output is a mixture of whole value rows.
"""

import itertools
from collections.abc import Sequence
from functools import lru_cache
from typing import Literal

import numpy as np
import numpy.typing as npt

from genopt_core.checks import one_of, whole
from genopt_core.kvcache.packing import check_bits, check_narrower

Per = Literal["channel", "token"]
PERS: tuple[Per, Per] = ("channel", "token")
Method = Literal["recode", "drop"]


def _grouped(x: np.ndarray, group_size: int, per: Per) -> np.ndarray:
    """View ``(..., tokens, dim)`` so that axis -1 runs along a group."""
    rows = np.swapaxes(x, -1, -2) if per == "channel" else x
    return rows.reshape(*rows.shape[:-1], rows.shape[-1] // group_size, group_size)


def _ungrouped(groups: np.ndarray, per: Per) -> np.ndarray:
    rows = groups.reshape(*groups.shape[:-2], -1)
    return np.swapaxes(rows, -1, -2) if per == "channel" else rows


def _round_to(x: np.ndarray, dtype: npt.DTypeLike, towards: float) -> np.ndarray:
    """Round to a float ``dtype`` in one direction (plain casting rounds to the nearest)."""
    with np.errstate(over="ignore"):
        y = x.astype(dtype)
        wrong = y > x if towards < 0 else y < x
        return np.where(wrong, np.nextafter(y, np.asarray(towards, y.dtype)), y)


def check_groups(group_size: int, along: int, name: str) -> None:
    """Raise ``ValueError`` if groups do not divide the axis ``name`` of ``along`` entries."""
    if whole(group_size, "group_size", least=1) and along % group_size:
        raise ValueError(f"group_size must divide {name}={along}, got {group_size}")


def quantize_groups(
    x: npt.ArrayLike,
    bits: int,
    group_size: int,
    *,
    per: Per = "channel",
    meta_dtype: npt.DTypeLike | None = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    r"""Codes of ``x`` on ``2**bits`` evenly spaced levels of each group (book, eq. kv-uniform).

    .. math:: c = \operatorname{round}\frac{x - z}{\Delta}, \qquad
              \Delta = \frac{\max x - z}{2^b - 1}, \qquad z = \min x

    ``low`` is rounded down and ``scale`` up to ``meta_dtype``, so that the stored grid covers the
    group and a restored entry is off by at most half a *stored* step, whatever the dtype:
    :math:`|\hat x - x| \le \Delta/2` (book, eq. kv-bound).  KIVI's code rounds both to the nearest;
    with metadata in the dtype of ``x`` the two agree.  A constant group has step 0 and code 0 and
    is restored exactly; dividing by the step, as published code does, gives NaN.

    Parameters
    ----------
    x : (..., tokens, dim) float array
        Cached keys or values.
    bits : int
        Bits of a code, 1 to 8.
    group_size : int
        Consecutive tokens of one channel, or channels of one token, that share ``scale`` and
        ``low``.
    per : {"channel", "token"}
        The former for keys, the latter for values.
    meta_dtype : float dtype, optional
        In which ``scale`` and ``low`` are stored; by default that of ``x``, float32 at least.

    Returns
    -------
    codes : (..., tokens, dim) uint8 array
    scale, low : float arrays, unit of ``x``
        ``(..., dim, tokens // group_size)`` per channel, ``(..., tokens, dim // group_size)`` per
        token.

    Examples
    --------
    >>> codes, scale, low = quantize_groups([[0.0], [1.0], [2.0], [3.0]], bits=2, group_size=4)
    >>> codes.ravel().tolist(), scale.item(), low.item()
    ([0, 1, 2, 3], 1.0, 0.0)
    """
    bits = check_bits(bits)
    array = np.asarray(x)
    if array.dtype.kind not in "fiu":
        raise TypeError(f"x must be real numbers, got {array.dtype}")
    work = array.astype(np.result_type(array.dtype, np.float32), copy=False)
    if work.ndim < 2 or not work.size:
        raise ValueError(f"x must be a filled (..., tokens, dim) array, got shape {work.shape}")
    axis, name = (-2, "tokens") if one_of(per, "per", PERS) == "channel" else (-1, "channels")
    check_groups(group_size, work.shape[axis], name)
    if not np.isfinite(work).all():
        raise ValueError("x must be finite, it holds NaN or infinity")
    stored = np.dtype(work.dtype if meta_dtype is None else meta_dtype)

    groups = _grouped(work, group_size, per)  # (..., rows, groups, group_size)
    with np.errstate(over="ignore"):
        low = _round_to(groups.min(axis=-1), stored, -np.inf)
        span = groups.max(axis=-1) - low.astype(work.dtype)
        scale = _round_to(span / work.dtype.type(2**bits - 1), stored, np.inf)
    # a span so small that its step underflows must not look like a constant group
    scale = np.where(span > 0, np.maximum(scale, np.finfo(stored).smallest_subnormal), 0)
    scale = scale.astype(stored)
    with np.errstate(over="ignore", invalid="ignore"):
        # the top level itself can overflow, as the step was rounded up
        top = scale.astype(work.dtype) * work.dtype.type(2**bits - 1) + low.astype(work.dtype)
    if not (np.isfinite(low).all() and np.isfinite(scale).all() and np.isfinite(top).all()):
        raise ValueError(
            f"meta_dtype must hold the extremes of x, {work.min():.3g} to {work.max():.3g}, got "
            f"{stored}"
        )
    step = np.where(scale > 0, scale, 1).astype(work.dtype)[..., None]
    codes = np.rint((groups - low.astype(work.dtype)[..., None]) / step)
    # float arithmetic can land one above the top level; the grid itself covers the group
    codes = np.minimum(codes, 2**bits - 1).astype(np.uint8)
    return _ungrouped(codes, per), scale, low


def dequantize_groups(
    codes: np.ndarray,
    scale: np.ndarray,
    low: np.ndarray,
    *,
    per: Per = "channel",
    dtype: npt.DTypeLike = np.float32,
) -> np.ndarray:
    r"""Restore ``codes * scale + low`` in each group (book, eq. kv-uniform).

    ``codes``, ``scale`` and ``low`` are those of :func:`quantize_groups`; the result is
    ``(..., tokens, dim)`` of ``dtype``.

    >>> codes, scale, low = quantize_groups([[0.0], [1.0], [2.0], [3.5]], bits=2, group_size=4)
    >>> dequantize_groups(codes, scale, low).ravel()
    array([0.       , 1.1666666, 2.3333333, 3.5      ], dtype=float32)
    """
    rows = codes.shape[-1] if per == "channel" else codes.shape[-2]
    along = codes.shape[-2] if per == "channel" else codes.shape[-1]
    count = scale.shape[-1]
    if scale.shape != low.shape or scale.shape[-2] != rows or not count or along % count:
        raise ValueError(
            f"scale and low must be those of codes {codes.shape} grouped per {per}, got "
            f"{scale.shape} and {low.shape}"
        )
    work = np.result_type(dtype, np.float32)
    groups = _grouped(codes, along // count, per).astype(work)
    return _ungrouped(
        groups * scale[..., None].astype(work) + low[..., None].astype(work), per
    ).astype(dtype)


def is_nested(bits: int, to_bits: int) -> bool:
    r"""Whether the grid of ``to_bits`` is part of the grid of ``bits`` (book, eq. kv-nested).

    The grids share both end points, so they nest exactly if
    :math:`(2^{b'} - 1) \mid (2^b - 1)`, that is if :math:`b' \mid b`.  The ratio is then odd, so
    coarse rounding thresholds are fine ones too, and rounding twice is rounding once.

    >>> is_nested(8, 4), is_nested(4, 2), is_nested(4, 3)
    (True, True, False)
    """
    return check_bits(bits) % check_bits(to_bits, "to_bits") == 0


@lru_cache(maxsize=64)
def recode_table(bits: int, to_bits: int) -> np.ndarray:
    r"""``(2**bits,)`` read-only uint8 table of :func:`recode`."""
    bits, to_bits = check_narrower(bits, to_bits)
    top, new = 2**bits - 1, 2**to_bits - 1
    # (2 c new + top) // (2 top) rounds to nearest; top is odd, so there are no ties
    table = ((2 * np.arange(top + 1) * new + top) // (2 * top)).astype(np.uint8)
    table.setflags(write=False)
    return table


def recode(codes: np.ndarray, bits: int, to_bits: int) -> np.ndarray:
    r"""``codes`` (…) one stair down by integers, ``low`` and range the same (book, eq. kv-nested).

    .. math:: c' = \operatorname{round}\left(c\,\frac{2^{b'} - 1}{2^b - 1}\right)

    The scale goes with it through :func:`rescale`; ``low`` stays.  On a nested ladder
    (:func:`is_nested`) the result is what quantizing the original numbers at ``to_bits`` gives,
    ties of the *fine* rounding aside: nothing is lost by having been finer before.

    >>> recode(np.array([0, 8, 9, 255], np.uint8), bits=8, to_bits=4).tolist()
    [0, 0, 1, 15]
    """
    table = recode_table(bits, to_bits)
    if codes.size and codes.max() >= len(table):
        raise ValueError(f"codes must lie in 0..{len(table) - 1} at {bits} bits, got {codes.max()}")
    return table[codes]


def step_ratio(bits: int, to_bits: int) -> float:
    r"""Step of the coarser grid over that of the finer one, :math:`(2^b-1)/(2^{b'}-1)`."""
    return (2 ** check_bits(bits) - 1) / (2 ** check_bits(to_bits, "to_bits") - 1)


def rescale(scale: np.ndarray, bits: int, to_bits: int) -> np.ndarray:
    r"""Step of the coarser grid over the same range, :math:`\Delta (2^b-1)/(2^{b'}-1)`.

    ``scale`` and the result have one shape, float32 at least: stored metadata keep the step of the
    first stair, and this is made of it when codes are restored (book, eq. kv-nested).

    >>> rescale(np.array([1.0]), bits=8, to_bits=4).tolist()
    [17.0]
    """
    work = np.result_type(scale.dtype, np.float32)
    return scale.astype(work) * work.type(step_ratio(bits, to_bits))


def drop_low_bits(codes: np.ndarray, bits: int, to_bits: int) -> tuple[np.ndarray, np.ndarray]:
    r"""``codes`` (…) without their low bits, and the fine codes they would be restored as.

    The tempting shortcut :math:`c' = \lfloor c / 2^{b-b'} \rfloor`, which frees a plane without
    arithmetic.  The best single reading of :math:`c'` is the middle of its cell,
    :math:`(c' + \tfrac12)2^{b-b'} - \tfrac12`, so the end points of the group are no longer
    levels.  Keys live at the end points (sink tokens, slow rotary channels), which is why this
    ruins them; :func:`recode` does not.

    >>> drop_low_bits(np.array([0, 255], np.uint8), bits=8, to_bits=2)
    (array([0, 3], dtype=uint8), array([ 31.5, 223.5]))
    """
    bits, to_bits = check_narrower(bits, to_bits)
    shift = bits - to_bits
    kept = (codes >> shift).astype(np.uint8)
    return kept, (kept + 0.5) * 2**shift - 0.5


def walk_down(
    codes: np.ndarray, widths: Sequence[int], method: Method = "recode"
) -> tuple[np.ndarray, np.ndarray]:
    r"""Codes at the end of a ladder, and the codes of its first width that they stand for.

    ``codes`` have ``widths[0]`` bits and become narrower by :func:`recode` (book, eq. kv-nested)
    or :func:`drop_low_bits`.  What they stand for is restored by :func:`dequantize_groups` with
    the ``scale`` of the first width.

    >>> fine = np.array([0, 100, 255], np.uint8)
    >>> walk_down(fine, (8, 4, 2))
    (array([0, 1, 3], dtype=uint8), array([  0.,  85., 255.]))
    >>> walk_down(fine, (8, 4, 2), "drop")
    (array([0, 1, 3], dtype=uint8), array([ 31.5,  95.5, 223.5]))
    """
    first, last = widths[0], widths[-1]
    if one_of(method, "method", ("recode", "drop")) == "drop":
        return drop_low_bits(codes, first, last)
    for bits, to_bits in itertools.pairwise(widths):
        codes = recode(codes, bits, to_bits)
    return codes, codes * step_ratio(first, last)


def ladder_bound(span: npt.ArrayLike, widths: tuple[int, ...]) -> np.ndarray:
    r"""Largest error after going down ``widths`` in a group of that ``span`` (book, eq. kv-ladder).

    .. math:: |\hat x - x| \le \tfrac12 \sum_j \Delta_{b_j}, \qquad \Delta_b = \frac{s}{2^b - 1}

    for a group of range :math:`s`, summed over the stairs that the next one is *not* nested in,
    and the last; nothing is lost between nested ones.  ``widths`` are quantized, finest first.

    >>> float(ladder_bound(3.0, (8, 4, 2))), round(float(ladder_bound(3.0, (4, 3, 2))), 4)
    (0.5, 0.8143)
    """
    if not widths:
        raise ValueError("widths must name at least one quantized width, got none")
    steps = [1 / (2 ** check_bits(width, "widths") - 1) for width in widths]
    pairs = enumerate(itertools.pairwise(widths))
    total = steps[-1] + sum(steps[j] for j, pair in pairs if not is_nested(*pair))
    return np.asarray(span, dtype=float) * total / 2


def score_bound(query: npt.ArrayLike, step: npt.ArrayLike) -> np.ndarray:
    r"""Largest change of a score when each key entry moves by half its step (book, eq. kv-score).

    .. math:: |\varepsilon| \le \frac{1}{2\sqrt d} \sum_i |q_i| \Delta_i

    with ``query`` ``(..., dim)`` and ``step`` broadcasting against it, per channel.

    >>> score_bound([[1.0, -2.0, 0.0, 1.0]], [0.5, 0.5, 0.5, 1.0]).tolist()
    [0.625]
    """
    query = np.asarray(query, dtype=float)
    return (np.abs(query) * step).sum(axis=-1) / (2 * np.sqrt(query.shape[-1]))


def weight_bound(eta: npt.ArrayLike) -> np.ndarray:
    r"""Largest total change of attention weights when scores move by ``eta`` (book, eq. kv-weight).

    Each weight keeps within a factor :math:`e^{\pm 2\eta}`, so
    :math:`\lVert p' - p\rVert_1 \le e^{2\eta} - 1`.

    >>> round(float(weight_bound(0.05)), 4)
    0.1052
    """
    return np.expm1(2 * np.asarray(eta, dtype=float))
