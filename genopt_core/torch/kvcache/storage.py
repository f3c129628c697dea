r"""A staircase cache on disk: one safetensors file, whole or not there at all."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from genopt_core.torch.kvcache.cache import StaircaseCache
from genopt_core.torch.kvcache.codec import PackedChunks
from genopt_core.torch.kvcache.layer import Held, Segment

__all__ = ["FORMAT", "load_cache", "save_cache"]

FORMAT = "genopt-staircase-1"


def _digest(tensors: dict[str, Tensor]) -> str:
    """SHA-256 over names, dtypes, shapes and bytes."""
    total = hashlib.sha256()
    for name in sorted(tensors):
        t = tensors[name]
        total.update(f"{name} {t.dtype} {tuple(t.shape)}\n".encode())
        total.update(t.flatten().view(torch.uint8).numpy().tobytes())
    return total.hexdigest()


def save_cache(cache: StaircaseCache, path: str | os.PathLike[str]) -> None:
    """Write ``cache`` to ``path``: completely, or the file that was there stays.

    The new file is written beside the old one, flushed to the disk, and only then takes its name.
    Raises ``OSError`` if the folder cannot be written.
    """
    tensors: dict[str, Tensor] = {}
    layers = []
    for i, layer in enumerate(cache.stair_layers):
        rows = []
        if layer.is_initialized and layer.sink is not None:
            own = (*layer.sink, layer.keys, layer.values)
            for name, t in zip(("sink.k", "sink.v", "rest.k", "rest.v"), own, strict=True):
                tensors[f"{i}.{name}"] = t
            for j, segment in enumerate(layer.segments):
                row: dict[str, Any] = {"chunks": segment.chunks}
                for side, held in (("k", segment.key), ("v", segment.value)):
                    if isinstance(held, PackedChunks):
                        row[side] = [held.bits, held.first_bits, len(held.planes)]
                        for n, t in enumerate(held.tensors):
                            tensors[f"{i}.{j}.{side}{n}"] = t
                    else:
                        row[side] = None
                        tensors[f"{i}.{j}.{side}0"] = held
                rows.append(row)
        layers.append(
            {
                "key": layer.ladders["key"],
                "value": layer.ladders["value"],
                "dtype": str(layer.dtype) if layer.is_initialized else None,
                "segments": rows,
            }
        )
    tensors = {name: t.detach().cpu().contiguous() for name, t in tensors.items()}
    description = {
        "chunk": cache.chunk,
        "sink": cache.sink,
        "codec": cache.codec,
        "group_size": cache.group_size,
        "seed": cache.seed,
        "full_dtype": str(cache.full_dtype) if cache.full_dtype else None,
        "layers": layers,
    }
    metadata = {
        "format": FORMAT,
        "cache": json.dumps(description),
        "sha256": _digest(tensors),
    }
    target = Path(path)
    handle, scratch = tempfile.mkstemp(prefix=f".{target.name}.", suffix=".part", dir=target.parent)
    os.close(handle)
    try:
        save_file(tensors, scratch, metadata=metadata)
        with open(scratch, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(scratch, target)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(scratch)
        raise
    with contextlib.suppress(OSError):  # the rename itself; not every system can
        folder = os.open(target.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def load_cache(path: str | os.PathLike[str], config: Any) -> StaircaseCache:
    """Read a cache from ``path``, for the model of ``config``.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file is torn, altered, of another format, or not of this model's shape.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"there is no cache at {path}")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path} is torn or not a safetensors file: {error}") from error
    if metadata.get("format") != FORMAT:
        raise ValueError(f"{path} is not a staircase cache of format {FORMAT}")
    if metadata.get("sha256") != _digest(tensors):
        raise ValueError(f"{path} is damaged: its tensors are not those that were saved")
    said = json.loads(metadata["cache"])
    count = config.get_text_config(decoder=True).num_hidden_layers
    if count != len(said["layers"]):
        raise ValueError(f"{path} has {len(said['layers'])} layers, the model has {count}")
    cache = StaircaseCache(
        config,
        [row["key"] for row in said["layers"]],
        [row["value"] for row in said["layers"]],
        chunk=said["chunk"],
        sink=said["sink"],
        codec=said["codec"],
        group_size=said["group_size"],
        seed=said["seed"],
        full_dtype=_dtype(said["full_dtype"]),
    )
    for i, (layer, row) in enumerate(zip(cache.stair_layers, said["layers"], strict=True)):
        if row["dtype"] is None:
            continue
        k, v = tensors[f"{i}.rest.k"], tensors[f"{i}.rest.v"]
        if k.shape[-1] != cache.head_dim:
            raise ValueError(f"{path} has {k.shape[-1]} channels, the model has {cache.head_dim}")
        dtype = _dtype(row["dtype"])
        layer.lazy_initialization(k[..., :0, :].to(dtype), v[..., :0, :].to(dtype))
        layer.keys, layer.values = k, v
        layer.sink = (tensors[f"{i}.sink.k"], tensors[f"{i}.sink.v"])
        segments = []
        for j, segment in enumerate(row["segments"]):
            sides: list[Held] = []
            for side in "kv":
                if segment[side] is None:
                    sides.append(tensors[f"{i}.{j}.{side}0"])
                    continue
                bits, first_bits, planes = segment[side]
                at = f"{i}.{j}.{side}"
                n = sum(name.startswith(at) for name in tensors)
                held = [tensors[f"{at}{m}"] for m in range(n)]
                sides.append(
                    PackedChunks(
                        bits,
                        first_bits,
                        segment["chunks"],
                        tuple(held[:planes]),
                        tuple(held[planes:]),
                    )
                )
            segments.append(Segment(sides[0], sides[1], segment["chunks"]))
        layer.segments = tuple(segments)
    return cache


def _dtype(name: str | None) -> torch.dtype | None:
    return None if name is None else getattr(torch, name.removeprefix("torch."))
