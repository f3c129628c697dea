"""Attention with every score in view: a softmax over a dense mask, and plain sums over blocks."""

import numpy as np


def dense(q, k, v, kept, block, weights=None, bias=None, scale=None):
    """Output and log of the mass, one query after the other."""
    tokens, dim = q.shape
    out, lse = np.zeros((tokens, v.shape[1])), np.full(tokens, -np.inf)
    for i in range(tokens):
        scores, seen = [], []
        for j in range(i + 1):
            if kept[i // block][j // block]:
                score = float(q[i] @ k[j]) * (dim**-0.5 if scale is None else scale)
                score += 0 if weights is None else weights[i // block][j // block]
                score += 0 if bias is None else bias[i - j]
                scores.append(score)
                seen.append(v[j])
        if seen:
            e = np.exp(scores)
            out[i], lse[i] = e @ np.array(seen) / e.sum(), np.log(e.sum())
    return out, lse


def block_sums(q, k, v, block, scale=None):
    """Numerator and denominator of each query from each key block."""
    tokens, dim = q.shape
    count = -(-tokens // block)
    e = np.tril(np.exp(q @ k.T * (dim**-0.5 if scale is None else scale)))
    mass, sums = np.zeros((tokens, count)), np.zeros((tokens, count, v.shape[1]))
    for j in range(count):
        keys = slice(j * block, (j + 1) * block)
        mass[:, j] = e[:, keys].sum(axis=1)
        sums[:, j] = e[:, keys] @ v[keys]
    return mass, sums
