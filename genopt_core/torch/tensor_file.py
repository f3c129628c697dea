"""A safetensors file of a named format, read or refused: caches and models lie in such files."""

import os
from pathlib import Path

from safetensors import SafetensorError, safe_open
from torch import Tensor

__all__ = ["read_tensors"]


def read_tensors(
    path: str | os.PathLike[str], kind: str, what: str = "file"
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors of a file and its metadata, if its ``format`` is ``kind``.

    Messages call it ``what``.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"there is no {what} at {path}")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path} is torn or not a safetensors file: {error}") from error
    if metadata.get("format") != kind:
        raise ValueError(f"{path} must have the format {kind}, got {metadata.get('format')!r}")
    return tensors, metadata
