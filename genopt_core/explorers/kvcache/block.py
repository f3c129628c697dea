"""The real keys and values that figures of chapter 5 quantize."""

import base64
from functools import cache

import numpy as np

from genopt_core import tables

GROUP_SIZE = 32


@cache
def real_block(side: str) -> np.ndarray:
    """``(64 tokens, 64 channels)`` float32 keys or values of one head of SmolLM2-135M."""
    raw = base64.b64decode(tables.load("kv_tables")["block"]["K" if side == "key" else "V"])
    block = np.frombuffer(raw, dtype="<f2").astype(np.float32).reshape(64, -1)
    block.setflags(write=False)
    return block
