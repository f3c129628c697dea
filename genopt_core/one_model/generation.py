r"""A continuation drawn token by token, and how far another setting departs from it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from numpy.typing import NDArray

from genopt_core.checks import fraction, real, whole
from genopt_core.one_model.blocks import DrawnBlocks
from genopt_core.one_model.forward import Forward, ForwardCache


class Continued(NamedTuple):
    """What came after a text."""

    ids: list[int]
    """The new tokens."""
    probabilities: NDArray[np.float64]
    """(new tokens, vocabulary) of each next token, as the model says it: before temperature and
    cut."""
    nbytes: list[int]
    """Bytes of the cache when each was drawn."""


def next_probabilities(
    logits: npt.ArrayLike,
    *,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
) -> NDArray[np.float64]:
    r"""Probabilities (…, vocabulary) that a token is drawn with, of ``logits`` of that shape.

    .. math:: p_i \propto [i \text{ kept}]\, e^{z_i / T}

    The likeliest ``top_k`` tokens are kept, or the fewest likeliest ones that have the probability
    ``top_p`` together (Fan et al., 2018; Holtzman et al., 2020); temperature 0 keeps the likeliest
    one.

    Examples
    --------
    >>> z = np.log([0.5, 0.3, 0.2])
    >>> next_probabilities(z, top_k=1).tolist(), next_probabilities(z, top_p=0.5).tolist()
    ([1.0, 0.0, 0.0], [1.0, 0.0, 0.0])
    >>> next_probabilities(z, temperature=0).tolist()
    [1.0, 0.0, 0.0]
    """
    z = np.asarray(logits, dtype=np.float64)
    t = real(temperature, "temperature")
    if t < 0:
        raise ValueError(f"temperature must be at least 0, got {temperature!r}")
    if t == 0:
        return np.eye(z.shape[-1])[z.argmax(-1)]
    p = np.exp((z - z.max(-1, keepdims=True)) / t)
    p /= p.sum(-1, keepdims=True)
    if top_k is None and top_p is None:
        return p
    order = np.argsort(-p, axis=-1, kind="stable")
    ranked = np.take_along_axis(p, order, -1)
    keep = np.ones(ranked.shape, dtype=bool)
    if top_k is not None:
        keep[..., whole(top_k, "top_k") :] = False
    if top_p is not None:
        before = np.cumsum(ranked, -1) - ranked
        keep &= before < fraction(top_p, "top_p") - 1e-12
    ranked = np.where(keep, ranked, 0)
    np.put_along_axis(p, order, ranked / ranked.sum(-1, keepdims=True), -1)
    return p


def drawn(probabilities: npt.ArrayLike, rng: np.random.Generator) -> list[int]:
    """A token of each row of ``probabilities`` (tokens, vocabulary), by one uniform number each.

    >>> drawn([[0.0, 1.0], [1.0, 0.0]], np.random.default_rng(0))
    [1, 0]
    """
    p = np.asarray(probabilities, dtype=np.float64)
    above = np.cumsum(p, axis=1) > rng.random(len(p))[:, None]
    last = p.shape[1] - 1 - (p[:, ::-1] > 0).argmax(axis=1)
    # a sum may end a little below 1, and the number lie above it
    return np.where(above.any(axis=1), above.argmax(axis=1), last).tolist()


def continued(
    model: Forward,
    logits: npt.ArrayLike,
    cache: ForwardCache,
    tokens: int,
    *,
    rng: np.random.Generator | None = None,
    follow: Sequence[int] | None = None,
    blocks: DrawnBlocks | None = None,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
) -> Continued:
    """So many more tokens after a text that a cache holds.

    One uniform number of ``rng`` is spent on each token, so that two settings with the same seed
    draw alike while their probabilities are alike.

    Parameters
    ----------
    model : Forward
    logits : (vocabulary,) array
        After the last token of the text.
    cache : ForwardCache
        Of the text; it grows.
    tokens : int
    rng : numpy.random.Generator, optional
        By default one of seed 0.
    follow : sequence of int, optional
        Tokens to go on with in place of drawn ones: then only probabilities and bytes are news.
    blocks : DrawnBlocks, optional
    temperature, top_k, top_p
        As in `next_probabilities`.

    Examples
    --------
    >>> from genopt_core.one_model import ModelConfig
    >>> config = ModelConfig(vocabulary=10)
    >>> model, cache = Forward.random(config, np.random.default_rng(0)), ForwardCache(config)
    >>> logits = model.logits([1, 2], cache)[-1]
    >>> made = continued(model, logits, cache, 3, temperature=0)
    >>> len(made.ids), made.probabilities.shape, cache.tokens
    (3, (3, 10), 4)
    """
    drawing = np.random.default_rng(0) if rng is None else rng
    given = None if follow is None else list(follow)
    if given is not None and len(given) < whole(tokens, "tokens"):
        raise ValueError(f"follow must have {tokens} tokens, got {len(given)}")
    new: list[int] = []
    said: list[NDArray[np.float64]] = []
    held: list[int] = []
    z = np.asarray(logits)
    for step in range(whole(tokens, "tokens")):
        if new:
            z = model.logits(new[-1:], cache, blocks=blocks)[-1]
        said.append(next_probabilities(z))
        held.append(cache.nbytes())
        if given is not None:
            new.append(int(given[step]))
            continue
        p = next_probabilities(z, temperature=temperature, top_k=top_k, top_p=top_p)
        new += drawn(p[None], drawing)
    return Continued(new, np.stack(said), held)


def divergence(p: npt.ArrayLike, q: npt.ArrayLike) -> NDArray[np.float64]:
    r"""Bits lost by coding what has the probabilities p as if it had q (book, eq. one-departure).

    .. math:: D(p \,\|\, q) = \sum_i p_i \log_2 \frac{p_i}{q_i}

    over the last axis of ``p`` and ``q``, which broadcast; 0 if they are equal, infinite where q
    forbids what p allows.

    Examples
    --------
    >>> divergence([[0.5, 0.5], [1.0, 0.0]], [[0.5, 0.5], [0.25, 0.75]]).tolist()
    [0.0, 2.0]
    """
    a, b = np.asarray(p, dtype=np.float64), np.asarray(q, dtype=np.float64)
    if a.shape != b.shape:
        raise ValueError(f"q must have the shape {a.shape} of p, got {b.shape}")
    some = a > 0
    with np.errstate(divide="ignore"):
        ratio = np.log2(np.where(some, a, 1)) - np.log2(np.where(some, b, 1))
    return np.maximum((a * ratio).sum(-1), 0)
