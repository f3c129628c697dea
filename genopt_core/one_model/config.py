"""The shape of the model and its switches, checked where they are set."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Self

from genopt_core.checks import fraction, one_of, real, whole

POSITIONS = ("nope", "rope", "alibi", "harmonic", "rope+alibi", "rope+harmonic")
"""How the model may know positions, by the names of chapter 3."""


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """A decoder: RMSNorm, grouped queries, SwiGLU, one matrix for input and output.

    Parameters
    ----------
    vocabulary : int
        Tokens that there are.
    layers, width, heads, key_heads, hidden : int
        ``heads`` query heads share ``key_heads`` heads of keys and values: as many is multi-head,
        1 multi-query attention.  ``hidden`` is the inner width of the network of a layer.
    positions : str
        One of `POSITIONS`.
    theta : float
        Of the rotation.
    slopes : float, optional
        Sum of the slopes of a distance bias; by default what their law says.
    learned : bool
        Whether gradients move the slopes.
    density : float, optional
        Share of blocks that PrFlashAttention computes in training, in (0, 1]; without it attention
        is dense.
    block : int
        Tokens of a block.

    Examples
    --------
    >>> ModelConfig(vocabulary=256).head_dim
    16
    >>> ModelConfig(vocabulary=256, heads=4, key_heads=3)
    Traceback (most recent call last):
    ValueError: key_heads must divide 4, the number of heads, got 3
    >>> config = ModelConfig(vocabulary=256, layers=3)
    >>> ModelConfig.from_json(config.to_json()) == config
    True
    """

    vocabulary: int
    layers: int = 2
    width: int = 64
    heads: int = 4
    key_heads: int = 2
    hidden: int = 176
    positions: str = "rope"
    theta: float = 10_000.0
    slopes: float | None = None
    learned: bool = False
    density: float | None = None
    block: int = 16

    def __post_init__(self) -> None:
        for name in ("vocabulary", "layers", "width", "heads", "key_heads", "hidden", "block"):
            whole(getattr(self, name), name)
        one_of(self.positions, "positions", POSITIONS)
        if self.width % self.heads:
            raise ValueError(
                f"width must be a multiple of {self.heads}, the number of heads, got {self.width}"
            )
        if self.heads % self.key_heads:
            raise ValueError(
                f"key_heads must divide {self.heads}, the number of heads, got {self.key_heads}"
            )
        if self.rotated and self.head_dim % 2:
            raise ValueError(
                f"width must give heads an even number of channels to rotate, got {self.width} / "
                f"{self.heads} = {self.head_dim}"
            )
        if real(self.theta, "theta") <= 1:
            raise ValueError(f"theta must be above 1, got {self.theta!r}")
        biased = self.positions not in ("nope", "rope")
        if self.slopes is not None and (not biased or real(self.slopes, "slopes") <= 0):
            raise ValueError(
                "slopes must be positive, and None with positions without a distance bias, "
                f"got {self.slopes!r} with {self.positions!r}"
            )
        if one_of(self.learned, "learned", (False, True)) and not biased:
            raise ValueError(f"learned must be False with positions {self.positions!r}, got True")
        if self.density is not None:
            fraction(self.density, "density")

    @property
    def head_dim(self) -> int:
        """Channels of a head."""
        return self.width // self.heads

    @property
    def rotated(self) -> bool:
        """Whether queries and keys turn."""
        return self.positions.startswith("rope")

    def to_json(self) -> dict[str, Any]:
        """All fields, as JSON holds them."""
        return asdict(self)

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Self:
        """What `to_json` gave; an unknown field is refused, a missing one has its default."""
        check_fields(cls, content)
        return cls(**content)


def check_fields(record: Any, content: Mapping[str, Any]) -> None:
    """Refuse content with a name that is no field of a dataclass."""
    known = {field.name for field in fields(record)}
    if unknown := sorted(set(content) - known):
        raise ValueError(f"content must have fields among {sorted(known)}, got {unknown}")
