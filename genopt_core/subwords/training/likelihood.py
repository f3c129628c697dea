"""The likelihood of a segmented corpus, and fitting piece probabilities to it by hard EM."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from genopt_core.checks import real, whole
from genopt_core.subwords.segmentation.arrays import Float
from genopt_core.subwords.segmentation.corpus import CorpusPaths, best_paths
from genopt_core.subwords.segmentation.costs import piece_costs
from genopt_core.subwords.segmentation.lattice import Lattice


def profile_log_likelihood(counts: ArrayLike) -> float:
    r"""Log-likelihood of a corpus of pieces under the probabilities that suit it best, in nats.

    .. math:: \mathcal L(c) = \sum_s c_s \ln c_s - C \ln C = -C\, H(c/C), \qquad C = \sum_s c_s

    (book, eq. swe-profile), attained at :math:`p(s) = c_s / C`; :math:`0 \ln 0 = 0`.  Counts are a
    (pieces,) array of numbers of at least 0; fractions are allowed.

    It is between :math:`-C \ln(\text{pieces used})` (all equally often) and 0 (a single piece),
    convex in the counts and to be *maximized*, hence local maxima.

    >>> round(profile_log_likelihood([2, 2]), 6)  # four coin flips
    -2.772589
    """
    c = np.asarray(counts, dtype=np.float64)
    if c.ndim != 1 or not len(c):
        raise ValueError(f"counts must be a non-empty (pieces,) array, got shape {c.shape}")
    if not (np.isfinite(c).all() and (c >= 0).all()):
        raise ValueError("counts must be finite and at least 0 everywhere")
    c = c[c > 0]
    return float((c * np.log(c / c.sum())).sum()) if len(c) else 0.0


def corpus_log_likelihood(paths: CorpusPaths) -> float:
    r"""Log-likelihood of a corpus, each word cut along its best path, in nats.

    .. math:: \sum_w f_w \sum_{(i,j)} x^w_{ij} \log p(s^w_{ij})

    (book, eq. swe-corpus) for a fixed vocabulary.  Minus infinity if a word has no path.

    >>> lattice = Lattice({"ab": 3}, piece_costs({"a": 0.5, "b": 0.5}))
    >>> round(corpus_log_likelihood(best_paths(lattice)), 6)
    -4.158883
    """
    if not isinstance(paths, CorpusPaths):
        raise TypeError(f"paths must come from best_paths, got {type(paths).__name__}")
    return -float((paths.lattice.counts * paths.cost).sum())


@dataclass(frozen=True)
class Fit:
    """Fitted piece probabilities and how the fit went.

    Attributes
    ----------
    probabilities : dict of str to float
        Of every piece with a probability above 0, in the order of the vocabulary; they sum to 1.
    log_likelihoods : tuple of float
        In nats: under the initial probabilities, then after every M-step.  The last one
        belongs to ``probabilities``.
    converged : bool
        Whether the last gain was below the tolerance.
    """

    probabilities: dict[str, float]
    log_likelihoods: tuple[float, ...]
    converged: bool

    @property
    def costs(self) -> dict[str, float]:
        """Piece to cost in nats."""
        return piece_costs(self.probabilities)


def hard_em_step(lattice: Lattice, k: int | None = None, floor: float = 0.0) -> tuple[Float, Float]:
    r"""One round of hard EM: best paths, then :math:`p(s) = c_s / C` from the pieces they use.

    The second half is the maximizer of (book, eq. swe-corpus) for these paths, and reaches
    (book, eq. swe-profile) when ``floor`` is 0.

    ``k`` and ``floor`` are those of `fit_probabilities`; probabilities and counts are (pieces,)
    float arrays.

    >>> lattice = Lattice({"ab": 3, "b": 1}, {"a": 1.0, "b": 1.0, "ab": 1.5})
    >>> probabilities, counts = hard_em_step(lattice)
    >>> counts.tolist(), probabilities.tolist()
    ([0.0, 1.0, 3.0], [0.0, 0.25, 0.75])
    """
    return _m_step(_e_step(lattice, k), _at_least_0(floor, "floor"))


def fit_probabilities(
    words: Mapping[str, float] | Iterable[str],
    probabilities: Mapping[str, float],
    *,
    k: int | None = None,
    floor: float = 0.0,
    tolerance: float = 1e-9,
    max_rounds: int = 100,
) -> Fit:
    r"""Piece probabilities fitted to a corpus by hard EM, the vocabulary being given.

    Alternates the best paths of all words (book, eq. swe-bellman) with :math:`p(s) \leftarrow c_s /
    C` until the log-likelihood gains less than ``tolerance`` nats. Pieces are never added; one that
    no best path uses ends at probability 0.  Without a floor the log-likelihood never falls; with
    one it can dip slightly, which also ends the fit.  The result is a local maximum that depends on
    the start (book, eq. swe-profile).

    Parameters
    ----------
    words : mapping of str to number, or iterable of str
        Word counts; plain words count once each.
    probabilities : mapping of str to float
        The vocabulary with its initial probabilities.
    k : int, optional
        Most pieces per word.
    floor : float
        Least count given to every piece of one character, so that every word keeps a path; 0 is
        pure maximum likelihood.
    tolerance : float
        At least 0.
    max_rounds : int
        Most M-steps.

    References
    ----------
    arXiv 2410.18441 for the objective; T. Kudo, arXiv 1804.10959, for the unigram model.

    Examples
    --------
    >>> fit = fit_probabilities({"ab": 3, "b": 1}, {"a": 0.25, "b": 0.5, "ab": 0.25})
    >>> fit.probabilities
    {'b': 0.25, 'ab': 0.75}
    >>> [round(value, 3) for value in fit.log_likelihoods]
    [-4.852, -2.249, -2.249]
    """
    floor, tolerance = _at_least_0(floor, "floor"), _at_least_0(tolerance, "tolerance")
    rounds = whole(max_rounds, "max_rounds")
    lattice = Lattice(words, piece_costs(probabilities))
    current = np.fromiter(probabilities.values(), dtype=np.float64, count=len(probabilities))
    paths = _e_step(lattice, k)
    history = [corpus_log_likelihood(paths)]
    converged = False
    while not converged and len(history) <= rounds:
        current, _ = _m_step(paths, floor)
        with np.errstate(divide="ignore"):
            paths = _e_step(lattice.with_costs(-np.log(current)), k)
        history.append(corpus_log_likelihood(paths))
        converged = history[-1] - history[-2] < tolerance
    kept = {s: p for s, p in zip(lattice.pieces, current.tolist(), strict=True) if p > 0}
    return Fit(kept, tuple(history), converged)


def _at_least_0(value: float, name: str) -> float:
    number = real(value, name)
    if number < 0:
        raise ValueError(f"{name} must be at least 0, got {value!r}")
    return number


def _e_step(lattice: Lattice, k: int | None) -> CorpusPaths:
    paths = best_paths(lattice, k)
    missing = paths.infeasible_words
    if missing:
        within = "" if k is None else f" within k={k} pieces"
        raise ValueError(
            f"{len(missing)} of {len(lattice.words)} words have no path{within}, such as "
            f"{missing[0]!r}; give every character a piece of its own, or raise k"
        )
    return paths


def _m_step(paths: CorpusPaths, floor: float) -> tuple[Float, Float]:
    counts = paths.piece_counts()
    single = np.array([len(piece) == 1 for piece in paths.lattice.pieces])
    counts[single] = np.maximum(counts[single], floor)
    return counts / counts.sum(), counts
