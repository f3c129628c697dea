r"""Skip-gram with negative sampling, one pair at a time: loss, gradients, step, sub-sampling."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from genopt_core import checks


def _array(name: str, value: Any, dimensions: int) -> np.ndarray:
    array = np.asarray(value)
    if array.dtype.kind not in "fiu":
        raise TypeError(f"{name} must hold numbers, got dtype {array.dtype}")
    if array.ndim != dimensions or array.size == 0:
        raise ValueError(
            f"{name} must have {dimensions} axes and no empty one, got shape {array.shape}"
        )
    if not np.isfinite(array).all():
        raise ValueError(f"{name} must be finite")
    return array.astype(float, copy=False)


def _counts(value: Any) -> np.ndarray:
    count = _array("counts", value, 1)
    if count.min() < 0 or count.sum() == 0:
        raise ValueError("counts must be 0 or more, and not all 0")
    return count


def _indices(name: str, value: Any, size: int) -> np.ndarray:
    array = np.atleast_1d(np.asarray(value))
    if array.dtype.kind not in "iu":
        raise TypeError(f"{name} must hold whole numbers, got dtype {array.dtype}")
    if array.ndim != 1 or array.size == 0 or array.min() < 0 or array.max() >= size:
        raise ValueError(f"{name} must be indices from 0 to {size - 1}, got {value!r}")
    return array


def _log_sigmoid(x: np.ndarray) -> np.ndarray:
    return -np.logaddexp(0.0, -x)


def softmax_log_probability(vectors, outputs, center: int, context: int) -> float:
    r"""Log-probability of a context word in nats, by the full softmax (book, eq. w-softmax).

    .. math:: \log p(w_O\mid w_I) = {v'_{w_O}}^{\!\top} v_{w_I}
       - \log\sum_w \exp({v'_w}^{\!\top} v_{w_I})

    Costs a product with every output vector, which is why negative sampling exists.  Source:
    Mikolov et al. 2013a.

    Parameters
    ----------
    vectors, outputs : array (words, dimension)
        Input vectors :math:`v` and output vectors :math:`v'`.
    center, context : int
        :math:`w_I` and :math:`w_O`.

    Examples
    --------
    >>> softmax_log_probability([[1.0], [0.0]], [[0.0], [0.0]], 0, 1)  # two words, equally likely
    -0.6931471805599453
    """
    v, u = _array("vectors", vectors, 2), _array("outputs", outputs, 2)
    if v.shape != u.shape:
        raise ValueError(f"vectors {v.shape} and outputs {u.shape} must have the same shape")
    i, o = _indices("center", center, len(v))[0], _indices("context", context, len(v))[0]
    scores = u @ v[i]
    top = scores.max()
    return float(scores[o] - top - np.log(np.exp(scores - top).sum()))


def negative_sampling(vector, outputs) -> tuple[float, np.ndarray, np.ndarray]:
    r"""Loss of one pair in nats, and its two gradients (book, eq. w-negative, eq. w-gradient).

    .. math:: \ell = -\log\sigma({v'_0}^{\!\top}v) - \sum_{i=1}^{K}\log\sigma(-{v'_i}^{\!\top}v),
       \qquad g_i=\sigma({v'_i}^{\!\top}v)-[i=0],\quad
       \nabla_{v'_i}\ell=g_i v,\quad \nabla_v\ell=\sum_i g_i v'_i

    The gradients have the shapes of ``vector`` and ``outputs``.  Costs :math:`O(K d)`.  Source:
    Mikolov et al. 2013b.

    Parameters
    ----------
    vector : array (dimension,)
        Input vector :math:`v` of the center word.
    outputs : array (1 + K, dimension)
        Output vectors: the true context word first, then the :math:`K` negatives.

    Examples
    --------
    >>> loss, gradient, gradients = negative_sampling([1.0, 0.0], [[0.0, 0.0], [0.0, 0.0]])
    >>> round(loss, 4), gradients.tolist()  # two coins: 2 ln 2
    (1.3863, [[-0.5, -0.0], [0.5, 0.0]])
    """
    v, u = _array("vector", vector, 1), _array("outputs", outputs, 2)
    if u.shape[1] != len(v):
        raise ValueError(f"outputs {u.shape} must have {len(v)} columns, as vector has entries")
    scores = u @ v
    signs = np.where(np.arange(len(u)) == 0, 1.0, -1.0)
    loss = -_log_sigmoid(signs * scores).sum()
    g = np.exp(_log_sigmoid(scores))
    g[0] -= 1.0
    return float(loss), g @ u, g[:, None] * v


def noise_distribution(counts, exponent: float = 0.75) -> np.ndarray:
    r"""Distribution of the negatives, :math:`P_n(w)\propto U(w)^{3/4}` (book, eq. w-noise).

    Counts are (words,), not all 0.  Exponent 1 draws words as they occur, 0 all alike; word2vec's
    is 3/4.

    >>> noise_distribution([16, 1]).round(3).tolist()
    [0.889, 0.111]
    """
    count = _counts(counts)
    raised = np.where(count > 0, count, 1.0) ** checks.real(exponent, "exponent") * (count > 0)
    return raised / raised.sum()


def discard_probability(counts, sample: float) -> np.ndarray:
    r"""How likely one occurrence of a word is skipped in training (book, eq. w-subsample).

    .. math:: P(w)=\max\left(0,\,1-\sqrt{t/f(w)}\right)

    with :math:`f(w)` the share of the word among all tokens, from the counts (words,), and
    :math:`t` the ``sample``: words rarer than this share are always kept.

    The formula of the paper of Mikolov et al. (2013b).  Their program, and gensim, keep a little
    more: with probability :math:`\sqrt{t/f}+t/f`.

    >>> discard_probability([96, 4], sample=0.06).round(2).tolist()
    [0.75, 0.0]
    """
    count, sample = _counts(counts), checks.positive(sample, "sample")
    share = count / count.sum()
    return np.maximum(0.0, 1.0 - np.sqrt(sample / np.where(share > 0, share, sample)))


def context_pairs(sentence: Sequence[int], window: int) -> np.ndarray:
    """All (center, context) pairs at most ``window`` words apart, as an array (pairs, 2).

    The inner sum of the skip-gram objective (book, eq. w-softmax).  word2vec itself draws a smaller
    window for each word, which weights near contexts more; here every pair counts once.

    >>> context_pairs([7, 8, 9], window=1).tolist()
    [[7, 8], [8, 7], [8, 9], [9, 8]]
    """
    window = checks.whole(window, "window")
    words = list(sentence)
    pairs = [
        (words[i], words[j])
        for i in range(len(words))
        for j in range(max(0, i - window), min(len(words), i + window + 1))
        if i != j
    ]
    return np.array(pairs, dtype=int).reshape(-1, 2)


def sgd_step(
    vectors: np.ndarray,
    outputs: np.ndarray,
    center: int,
    context: int,
    negatives: Sequence[int],
    learning_rate: float,
) -> float:
    """One step down the loss of one pair, in place; the loss before it (book, eq. w-gradient).

    ``vectors`` and ``outputs``, (words, dimension) each, change in the rows of ``center``, and of
    ``context`` and ``negatives``.  The latter are drawn from `noise_distribution`; a word may occur
    twice.

    >>> v, u = np.ones((3, 2)), np.zeros((3, 2))
    >>> first = sgd_step(v, u, 0, 1, [2], learning_rate=0.5)
    >>> round(first, 4), u.tolist()  # the true context is pulled in, the negative pushed away
    (1.3863, [[0.0, 0.0], [0.25, 0.25], [-0.25, -0.25]])
    """
    for name, array in (("vectors", vectors), ("outputs", outputs)):
        if not isinstance(array, np.ndarray) or array.dtype.kind != "f" or array.ndim != 2:
            raise TypeError(f"{name} must be a float array with two axes, it is changed in place")
    learning_rate = checks.positive(learning_rate, "learning_rate")
    i = _indices("center", center, len(vectors))[0]
    rows = _indices("context and negatives", [context, *negatives], len(outputs))
    loss, gradient, gradients = negative_sampling(vectors[i], outputs[rows])
    vectors[i] -= learning_rate * gradient
    # subtract.at, because a word drawn twice is pushed twice
    np.subtract.at(outputs, rows, learning_rate * gradients)
    return loss
