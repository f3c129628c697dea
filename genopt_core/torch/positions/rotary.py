r"""Rotary position embedding on tensors; frequencies come from `genopt_core.positions`."""

import numpy.typing as npt
import torch
from torch import Tensor

from genopt_core import positions as formulas
from genopt_core.checks import one_of
from genopt_core.positions.rotary import Layout


def rotary_angles(positions: Tensor | npt.ArrayLike, frequencies: npt.ArrayLike) -> Tensor:
    r"""Angles in radians, (…, pairs) float64 on the CPU.

    ``positions`` (…) and ``frequencies`` (pairs,) are as in
    :func:`genopt_core.positions.rotary_angles`.

    >>> rotary_angles([0, 3], [1.0, 0.5]).tolist()
    [[0.0, 0.0], [3.0, 1.5]]
    """
    given = positions.cpu().numpy() if isinstance(positions, Tensor) else positions
    return torch.from_numpy(formulas.rotary_angles(given, frequencies))


def rotate(x: Tensor, angles: Tensor, layout: Layout = "half") -> Tensor:
    r"""``x`` with each pair of channels turned, as :func:`genopt_core.positions.rotate`.

    Parameters
    ----------
    x : (..., tokens, head_dim) tensor
        Of any floating dtype; 16 bits are turned in float32.
    angles : (tokens, pairs) or (..., tokens, pairs) tensor
        Of `rotary_angles`; their sines are taken where they are and then moved to ``x``.
    layout : {"half", "interleaved"}

    Examples
    --------
    >>> rotate(torch.tensor([[1.0, 0.0]]), torch.tensor([[torch.pi / 2]])).round().tolist()
    [[-0.0, 1.0]]
    """
    one_of(layout, "layout", ("half", "interleaved"))
    if not x.is_floating_point() or x.dim() < 2:
        raise ValueError(
            "x must be floating-point of the shape (..., tokens, head_dim), "
            f"got {x.dtype} of shape {tuple(x.shape)}"
        )
    if x.shape[-1] % 2:
        raise ValueError(f"head_dim must be even, got {x.shape[-1]}")
    pairs = angles.shape[-1] if angles.dim() else 0
    if angles.dim() < 2 or angles.shape[-2] != x.shape[-2] or 2 * pairs > x.shape[-1]:
        raise ValueError(
            f"angles must have the shape (..., tokens, pairs) with {x.shape[-2]} tokens and at "
            f"most {x.shape[-1] // 2} pairs, got {tuple(angles.shape)}"
        )
    wide = torch.promote_types(x.dtype, torch.float32)
    cos, sin = (t.to(x.device, wide) for t in (angles.cos(), angles.sin()))
    turning, rest = x[..., : 2 * pairs].to(wide), x[..., 2 * pairs :]
    if layout == "half":
        a, b = turning.split(pairs, -1)
        turned = torch.cat([a * cos - b * sin, a * sin + b * cos], -1)
    else:
        a, b = turning.unflatten(-1, (pairs, 2)).unbind(-1)
        turned = torch.stack([a * cos - b * sin, a * sin + b * cos], -1).flatten(-2)
    return torch.cat([turned.to(x.dtype), rest], -1)
