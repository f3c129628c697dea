r"""Distance biases on tensors: a row of numbers a head, fixed or learned, and never a square."""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from genopt_core import positions as formulas
from genopt_core.checks import whole
from genopt_core.positions.bias import Distance, Slopes


class LearnedSlopes(nn.Module):
    r"""One positive number a head that gradients can move: :math:`m_h = \ln(1 + e^{r_h})`.

    Parameters
    ----------
    heads : int
        Query heads.
    start : {"harmonic", "geometric", "uniform"} or (heads,) array
        What the slopes are at first; numbers must be positive.
    total : float or "geometric", optional
        As in :func:`genopt_core.positions.slopes`.
    free : int
        Heads at the end that keep slope 0: the others start as ``heads - free`` heads would.

    Examples
    --------
    >>> [round(m, 3) for m in LearnedSlopes(4, total=1.0)().tolist()]
    [0.48, 0.24, 0.16, 0.12]
    """

    def __init__(
        self,
        heads: int,
        start: Slopes | npt.ArrayLike = "harmonic",
        *,
        total: Any = None,
        free: int = 0,
    ):
        super().__init__()
        self.free = whole(free, "free", 0)
        biased = whole(heads, "heads") - self.free
        if biased < 1:
            raise ValueError(f"free must be below {heads}, the number of heads, got {free}")
        if isinstance(start, str):
            m = formulas.slopes(biased, start, total=total)  # type: ignore[arg-type]
        else:
            m = np.asarray(start, dtype=np.float64)
        if m.shape != (biased,) or not np.isfinite(m).all() or (m <= 0).any():
            raise ValueError(f"start must be {biased} positive numbers, got {start!r}")
        self.raw = nn.Parameter(torch.from_numpy(m + np.log(-np.expm1(-m))).float())

    def forward(self) -> Tensor:
        """The slopes, (heads,)."""
        return nn.functional.pad(softplus(self.raw), (0, self.free))


class DistanceBias(nn.Module):
    r"""What each query head takes off at each distance: :math:`-m_h\,\varphi(\delta)`.

    Calling it gives the table of :func:`genopt_core.positions.bias_by_distance`, whose arguments
    these are; those that are `LearnedSlopes` get gradients.  A fixed table, and a learned one while
    no gradients are asked for, is kept and grows by doubling.

    Parameters
    ----------
    strengths : (heads,) array or LearnedSlopes
    distance : {"linear", "harmonic", "log", "power", "reciprocal"}
    parameter : number, (heads,) array or LearnedSlopes
    windows : (heads,) array of integers, optional

    Examples
    --------
    >>> DistanceBias([1.0, 0.5])(3).tolist()
    [[-0.0, -1.0, -2.0], [-0.0, -0.5, -1.0]]
    >>> line, size = DistanceBias([1.0]).line(3, torch.device("cpu"), torch.float32)
    >>> size >= 3, line.ndim
    (True, 2)
    """

    def __init__(
        self,
        strengths: npt.ArrayLike | LearnedSlopes,
        distance: Distance = "linear",
        parameter: npt.ArrayLike | LearnedSlopes = 1.0,
        *,
        windows: npt.ArrayLike | None = None,
    ):
        super().__init__()
        self.strengths, self.distance, self.parameter = strengths, distance, parameter
        self.windows = None if windows is None else np.array(windows)
        self._numbers = [x for x in (strengths, parameter) if isinstance(x, LearnedSlopes)]
        self.heads = len(self._fixed(1))
        self._kept: dict[Any, tuple[Any, int, Tensor]] = {}

    @property
    def learned(self) -> bool:
        """Whether anything of it has gradients."""
        return any(x.raw.requires_grad for x in self._numbers)

    @property
    def linear(self) -> bool:
        """Whether the bias is a slope times the distance."""
        return self.distance == "linear"

    def _fixed(self, length: int) -> np.ndarray:
        """The table as NumPy makes it, from the numbers of now."""
        m, a = (
            x().detach().double().cpu().numpy() if isinstance(x, LearnedSlopes) else x
            for x in (self.strengths, self.parameter)
        )
        return formulas.bias_by_distance(m, length, self.distance, a, windows=self.windows)

    def forward(
        self, length: int, device: torch.device | None = None, dtype: torch.dtype = torch.float32
    ) -> Tensor:
        """The bias at the distances 0, …, length − 1, a (heads, length) tensor."""
        if not (self.learned and torch.is_grad_enabled()):
            return torch.from_numpy(self._fixed(length)).to(device, dtype)
        m, a = (
            (x() if isinstance(x, LearnedSlopes) else torch.as_tensor(x)).to(device, dtype)
            for x in (self.strengths, self.parameter)
        )
        delta = torch.arange(length, device=device, dtype=dtype)
        if self.distance == "log":
            cost = torch.log1p(a[..., None] * delta)
        elif self.distance == "power":
            cost = delta ** a[..., None]
        else:
            cost = torch.from_numpy(formulas.distance_cost(length, self.distance)).to(delta)
        table = -m[:, None] * cost
        if self.windows is None:
            return table
        seen = formulas.windowed(np.zeros(table.shape), self.windows) == 0
        return table.masked_fill(~torch.from_numpy(seen).to(table.device), -torch.inf)

    def line(self, length: int, device: torch.device, dtype: torch.dtype) -> tuple[Tensor, int]:
        """`as_line` of a table that is at least ``length`` long, and how long it is."""
        if self.learned and torch.is_grad_enabled():
            return as_line(self(length, device, dtype)), length
        stamp = tuple((x.raw.data_ptr(), x.raw._version) for x in self._numbers)
        old, size, line = self._kept.get((device, dtype), (None, 0, None))
        if line is None or size < length or old != stamp:
            size = 1 << max(8, (length - 1).bit_length())
            line = as_line(self(size, device, dtype))
            self._kept[device, dtype] = stamp, size, line
        return line, size


def as_line(table: Tensor) -> Tensor:
    """A (heads, length) table as it is read along a row of keys: far to near, then −∞."""
    return torch.cat([table.flip(-1), torch.full_like(table, -torch.inf)], -1)


def bias_block(line: Tensor, size: int, furthest: int, rows: int, keys: int) -> Tensor:
    """A (heads, rows, keys) view of a line: keys in order, queries from the last to the first.

    ``furthest`` is the distance from the last query to the first key.
    """
    at = size - 1 - furthest
    return line[:, at : at + rows + keys - 1].unfold(1, keys, 1)


def score_mod(table: Tensor, offset: int | Tensor = 0) -> Callable[..., Tensor]:
    r"""The ``score_mod`` of ``flex_attention`` that adds a bias and is causal.

    The table is captured as a tensor, so one compilation with ``dynamic=True`` serves all heads,
    strengths and lengths up to its own (two if the first call has as many queries as keys and a
    later one has not).  On a CPU ``flex_attention`` has no backward (PyTorch 2.13).

    Parameters
    ----------
    table : (heads, length) tensor
        Of a `DistanceBias`, on the device of the queries.
    offset : int or tensor without dimensions
        Position of the first query, with a cache the number of tokens before it.

    Examples
    --------
    >>> add = score_mod(torch.tensor([[0.0, -1.0, -2.0]]))
    >>> zero = torch.tensor(0)
    >>> add(torch.tensor(5.0), zero, zero, torch.tensor(2), torch.tensor(1)).item()
    4.0
    """

    def add(score: Tensor, batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        distance = query + offset - key
        biased = score + table[head, distance.clamp(min=0)]
        return torch.where(distance >= 0, biased, -torch.inf)

    return add
