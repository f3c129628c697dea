r"""Tensors and a description of them on disk: one safetensors file, whole or not there at all."""

import hashlib
import json
import os
from collections.abc import Mapping
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor

from genopt_core.files import whole_file
from genopt_core.torch.tensor_file import read_tensors

FORMAT = "genopt-staircase-1"


def digest(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 over names, dtypes, shapes and bytes."""
    total = hashlib.sha256()
    for name in sorted(tensors):
        t = tensors[name]
        total.update(f"{name} {t.dtype} {tuple(t.shape)}\n".encode())
        total.update(t.flatten().view(torch.uint8).numpy().tobytes())
    return total.hexdigest()


def write(
    path: str | os.PathLike[str],
    tensors: Mapping[str, Tensor],
    description: Any,
    kind: str = FORMAT,
) -> None:
    """Write ``tensors`` and what JSON makes of ``description``, or leave what was there."""
    own = {name: t.detach().cpu().contiguous() for name, t in tensors.items()}
    metadata = {"format": kind, "cache": json.dumps(description), "sha256": digest(own)}
    with whole_file(path) as file:
        file.write(save(own, metadata=metadata))


def read(
    path: str | os.PathLike[str], kind: str = FORMAT, what: str = "cache"
) -> tuple[dict[str, Tensor], Any]:
    """Tensors and description that :func:`write` stored; errors are those of ``restore``."""
    tensors, metadata = read_tensors(path, kind, what)
    if metadata.get("sha256") != digest(tensors):
        raise ValueError(f"{path} is damaged: its tensors are not those that were saved")
    return tensors, json.loads(metadata["cache"])
