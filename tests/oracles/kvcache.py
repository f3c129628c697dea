"""Oracles of the key and value cache: KIVI number by number, and real keys and values."""

import numpy as np
from places import BOOK

FIXTURE = BOOK / "data" / "kv_smollm2.npz"


def real(side):
    """(3 layers, 3 heads, 512 tokens, 64) of SmolLM2-135M, float32."""
    with np.load(FIXTURE) as data:
        return data[side].astype(np.float32)


def nearest_half(x, up):
    """Float16 at or above (below) x, found by stepping."""
    y = np.float16(x)
    while (float(y) < x) if up else (float(y) > x):
        y = np.nextafter(y, np.float16(np.inf if up else -np.inf))
    return y


class Kivi:
    """Algorithm 1 of arXiv 2402.02750 for one head, number by number, nothing shared.

    Metadata are float16, minimum rounded down and step up, as the book says; all else is the
    paper's: keys per channel in blocks of R tokens, values per token behind a window of R.
    """

    def __init__(self, bits, group, residual):
        self.bits, self.group, self.R = bits, group, residual
        self.keys, self.values, self.new_keys, self.new_values = [], [], [], []

    def restore(self, numbers):
        top = 2**self.bits - 1
        low = nearest_half(min(numbers), up=False)
        span = np.float32(max(numbers)) - np.float32(low)
        step = nearest_half(np.float32(span / np.float32(top)), up=True)
        out = []
        for x in numbers:
            ratio = (np.float32(x) - np.float32(low)) / np.float32(step) if step else np.float32(0)
            code = min(int(np.rint(ratio)), top)
            out.append(np.float32(np.float32(code) * np.float32(step)) + np.float32(low))
        return out

    def decode(self, k, v):
        self.new_keys.append(k)
        self.new_values.append(v)
        if len(self.new_keys) == self.R:
            block = np.array(self.new_keys)
            restored = np.zeros(block.shape, np.float32)
            for channel in range(block.shape[1]):
                for i in range(0, self.R, self.group):
                    part = slice(i, i + self.group)
                    restored[part, channel] = self.restore(block[part, channel])
            self.keys += list(restored)
            self.new_keys = []
        if len(self.new_values) > self.R:
            row = self.new_values.pop(0)
            pieces = [row[i : i + self.group] for i in range(0, len(row), self.group)]
            self.values.append(np.concatenate([self.restore(piece) for piece in pieces]))
