"""What the fields of a vocabulary may be."""

import json
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from genopt_core.subwords.segmentation.lattice import Float
from genopt_core.subwords.segmentation.paths import UNKNOWN
from genopt_core.subwords.tokenizer.encoding import BYTE_TOKENS


def checked_pieces(pieces: Iterable[str]) -> tuple[str, ...]:
    """The pieces as a tuple, refused unless distinct, non-empty and free of blanks."""
    if isinstance(pieces, str):
        raise TypeError(f"pieces must be a tuple of strings, got the str {pieces!r}")
    pieces = tuple(pieces)
    if not pieces:
        raise ValueError("pieces is empty; a vocabulary needs at least one piece")
    reserved = {UNKNOWN, *BYTE_TOKENS}
    for piece in pieces:
        if not isinstance(piece, str):
            raise TypeError(f"pieces must be strings, got {piece!r}")
        if not piece:
            raise ValueError("pieces contains the empty piece ''; pieces need a character")
        if " " in piece:
            raise ValueError(f"pieces must write a blank as '▁' (U+2581), got {piece!r}")
        if piece in reserved:
            raise ValueError(f"pieces must not contain the reserved name {piece!r}")
    if len(set(pieces)) < len(pieces):
        twice = next(p for i, p in enumerate(pieces) if p in pieces[:i])
        raise ValueError(f"pieces must be distinct, {twice!r} occurs twice")
    return pieces


def piece_numbers(values: ArrayLike, name: str, pieces: tuple[str, ...]) -> Float:
    """Finite numbers, one per piece, as an array."""
    try:
        array = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError):
        raise TypeError(f"{name} must be numbers, one per piece, got {values!r}") from None
    if array.shape != (len(pieces),):
        raise ValueError(f"{name} must have shape ({len(pieces)},), got {array.shape}")
    if not np.isfinite(array).all():
        worst = int(np.flatnonzero(~np.isfinite(array))[0])
        raise ValueError(
            f"{name} must be finite, got {array[worst]} for the piece {pieces[worst]!r}; "
            "leave out a piece that is never used, or give it a small probability"
        )
    return array


def checked_provenance(provenance: dict[str, Any]) -> dict[str, Any]:
    """A provenance as JSON would give it back, refused if JSON cannot hold it."""
    if not isinstance(provenance, dict):
        raise TypeError(f"provenance must be a dict, got {type(provenance).__name__}")
    try:
        # A copy as a file would give it back, so that saving changes nothing.
        copy: dict[str, Any] = json.loads(json.dumps(provenance, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise TypeError(f"provenance must be what JSON can hold: {error}") from None
    return copy


def check_specials(specials: tuple[str, ...], pieces: tuple[str, ...]) -> None:
    """Refuse special tokens that are empty or the name of another token."""
    taken = {UNKNOWN, *BYTE_TOKENS, *pieces}
    for special in specials:
        if not isinstance(special, str):
            raise TypeError(f"specials must be strings, got {special!r}")
        if not special:
            raise ValueError("specials contains the empty string ''")
        if special in taken:
            raise ValueError(f"specials must differ from each other and all tokens: {special!r}")
        taken.add(special)
