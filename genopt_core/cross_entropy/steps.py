r"""Objectives of plateaus and steps: how they are told, and what is changed for them.

A cross-validated error is a count over so many answers, and settings that change nothing leave it
as it was.  Many trials then have *exactly* the same value, which no smooth objective and no noise
brings about.  A Gaussian process on the values takes the plateau on which the best trial lies for a
slope, and walks on it: its neighbors' expected gain is small, but larger than that of anything far
away.  Needs SciPy.
"""

import numpy as np
from scipy.special import ndtri
from scipy.stats import rankdata

from genopt_core.cross_entropy.parameters import Array

TIED = 0.25
"""The share of trials with another's value from which an objective counts as stepped."""
MARGIN = 0.3
"""By how many standard deviations of all trials' scores a plateau has to be beaten."""
SCREENED = 0.25
"""The share of proposals that `plus` makes on a stepped objective, which has no model to fool."""


def is_stepped(rows: Array, scores: Array) -> bool:
    """Whether at least `TIED` of the finite scores occur more than once.

    Of a configuration (row) that was evaluated again with the same score, only one counts: that it
    agrees with itself says nothing of plateaus.

    >>> rows = np.arange(9.0)[:, None]
    >>> is_stepped(rows[:4], np.array([0.1, 0.1, 0.2, np.inf]))
    True
    >>> is_stepped(rows, np.linspace(0, 1, 9)), is_stepped(0 * rows, np.ones(9))
    (False, False)
    """
    finite = np.isfinite(scores)
    if not _tied(scores[finite]):
        return False
    told = np.column_stack([rows, scores])[finite]
    return _tied(np.unique(told, axis=0)[:, -1])


def _tied(scores: Array) -> bool:
    counts = np.unique(scores, return_counts=True)[1]
    return bool(counts[counts > 1].sum() >= TIED * len(scores) > 0)


def rank_scores(values: Array) -> Array:
    r"""Normal quantiles of the ranks, the larger the worse; equal values share their mean rank.

    .. math:: z_i = \Phi^{-1}\Bigl(\frac{r_i - 3/8}{n + 1/4}\Bigr)

    How far a bad value is from a good one no longer counts, and the more trials share the best
    value, the nearer it is to 0: there is room below a plateau.  A constant has scores of 0.

    >>> rank_scores(np.array([5.0, 1.0, 1.0, 900.0])).round(2)
    array([ 0.3 , -0.63, -0.63,  1.05])

    References
    ----------
    G. Blom, Statistical estimates and transformed beta-variables, 1958 (3/8 and 1/4).
    """
    return np.asarray(ndtri((rankdata(values) - 0.375) / (len(values) + 0.25)))
