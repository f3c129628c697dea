r"""What models with different tokenizers can be compared by."""

import numpy as np
import numpy.typing as npt


def bits_per_byte(nats: npt.ArrayLike, lengths: npt.ArrayLike) -> float:
    r"""Code length of a text in bits a byte, whatever its tokens are (book, eq. one-bpb).

    .. math:: \frac{\sum_i [b_i > 0]\, \ell_i}{\ln 2 \, \sum_i b_i}

    of tokens with the losses :math:`\ell_i` and :math:`b_i` bytes.  A special token spells nothing:
    it has no bytes, and its loss does not count.

    Parameters
    ----------
    nats : array
        :math:`-\ln p` of each token, finite and at least 0 where the token has bytes.
    lengths : array of integers, of the same shape
        Bytes of each token.

    Source: nanochat's ``evaluate_bpb``.

    Examples
    --------
    >>> bits_per_byte(np.log([16, 4, 1000]), [4, 2, 0])
    1.0
    """
    loss, size = np.asarray(nats, dtype=np.float64), np.asarray(lengths)
    if loss.shape != size.shape:
        raise ValueError(f"lengths must have the shape {loss.shape} of nats, got {size.shape}")
    if not np.issubdtype(size.dtype, np.integer) or (size < 0).any():
        raise ValueError(f"lengths must be whole numbers of at least 0, got {size.dtype} {size}")
    spelled = size > 0
    if not spelled.any():
        raise ValueError("lengths must have a token with bytes, got none")
    loss = loss[spelled]
    if not (np.isfinite(loss).all() and (loss >= 0).all()):
        raise ValueError("nats must be finite and at least 0 where a token has bytes")
    return float(loss.sum() / (np.log(2) * size.sum()))
