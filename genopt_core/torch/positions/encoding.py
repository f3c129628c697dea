r"""How a decoder knows positions, by name: rotation and distance bias in one object."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import nn

from genopt_core import positions as formulas
from genopt_core.checks import fraction, whole
from genopt_core.positions.bias import Distance
from genopt_core.torch.positions.bias import DistanceBias, LearnedSlopes

ENCODINGS = ("nope", "rope", "alibi", "harmonic", "kerple-log", "windows")
"""What `encoding` combines; "rope+" stands before any of the last four."""


class Encoding(nn.Module):
    """Which share of the channel pairs turns, and which bias the heads have.

    Parameters
    ----------
    rotated : float
        0 is no rotation (NoPE), 1 RoPE, between them p-RoPE.
    bias : DistanceBias, optional
    """

    def __init__(self, rotated: float = 1.0, bias: DistanceBias | None = None):
        super().__init__()
        self.rotated = fraction(rotated, "rotated", zero=True)
        self.bias = bias


def encoding(
    name: str,
    heads: int,
    *,
    total: Any = None,
    distance: Distance | None = None,
    free: int = 0,
    windows: Sequence[int] = (),
    rotated: float = 1.0,
    learned: bool = False,
) -> Encoding:
    r"""An encoding by name.

    Parameters
    ----------
    name : str
        One of `ENCODINGS`, or "rope+" and one of those with a bias: "rope+harmonic" is the
        chapter's.
    heads : int
        Query heads of the model.
    total : float or "geometric", optional
        Sum of the slopes.
    distance : str, optional
        Instead of "linear", or of "log" for "kerple-log".
    free : int
        Heads at the end without a bias or window: the head mix.
    windows : sequence of int
        How many tokens the first heads see, for "windows", one number a head, at most as many as
        have a window: those after them have none.  By default 2, 4, 8, …
    rotated : float
        Share of the pairs that turn, if any do.
    learned : bool
        Slopes that gradients can move, and with "kerple-log" the rate :math:`a` too.

    Examples
    --------
    >>> encoding("rope+harmonic", 4, free=2).bias(3).tolist()
    [[-0.0, -1.0, -2.0], [-0.0, -0.5, -1.0], [-0.0, -0.0, -0.0], [-0.0, -0.0, -0.0]]
    >>> encoding("windows", 3, windows=[2]).bias.windows.tolist()
    [2, 0, 0]
    """
    turn, _, rest = name.partition("+") if name.startswith("rope") else ("", "", name)
    if not (rest in ENCODINGS[2:] or (rest == "nope" and not turn) or (turn == "rope" == name)):
        known = ", ".join(ENCODINGS)
        raise ValueError(f"name must be one of {known}, or rope+ one of the last, got {name!r}")
    count, free = whole(heads, "heads"), whole(free, "free", 0)
    if free > count:
        raise ValueError(f"free must be at most {count}, the number of heads, got {free}")
    turned = rotated if turn else 0.0
    biased = count - free
    if rest in ("", "nope") or not biased:
        return Encoding(turned)
    if rest == "windows":
        if not isinstance(windows, Sequence | np.ndarray) or isinstance(windows, str):
            raise TypeError(f"windows must be a sequence of whole numbers, got {windows!r}")
        given = [whole(size, "windows") for size in windows]
        if len(given) > biased:
            raise ValueError(
                f"windows must be at most {biased}, the heads that may have one, got {len(given)}"
            )
        sizes = np.zeros(count, dtype=int)
        sizes[: len(given) or biased] = given or 2 ** np.arange(1, biased + 1)
        return Encoding(turned, DistanceBias(np.zeros(count), windows=sizes))
    kind: Any = "geometric" if rest == "alibi" else "harmonic"
    strengths: Any = (
        LearnedSlopes(count, kind, total=total, free=free)
        if learned
        else np.pad(formulas.slopes(biased, kind, total=total), (0, free))
    )
    law: Distance = distance or ("log" if rest == "kerple-log" else "linear")
    rate = LearnedSlopes(count, np.ones(count)) if learned and law == "log" else 1.0
    return Encoding(turned, DistanceBias(strengths, law, rate))
