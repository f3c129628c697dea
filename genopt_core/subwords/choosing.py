r"""How often a piece has to occur: chosen on a text of one's own in place of a guess."""

from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from genopt_core.checks import positive
from genopt_core.progress import reporting
from genopt_core.subwords.segmentation.corpus import best_paths
from genopt_core.subwords.segmentation.costs import check_words
from genopt_core.subwords.segmentation.lattice import Lattice
from genopt_core.subwords.segmentation.paths import UNKNOWN_EXTRA
from genopt_core.subwords.tokenizer.counting import file_weights
from genopt_core.subwords.tokenizer.vocabulary import Vocabulary
from genopt_core.subwords.training.em import LEAST_COUNT
from genopt_core.subwords.training.train import (
    LONGEST_WORD,
    TooFewCandidatesError,
    WordCounts,
    counts_by_file,
    train,
)

LEAST_COUNTS = (2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 16.0, 24.0)
"""Least counts that are tried where none are given."""


@dataclass(frozen=True)
class Tried:
    r"""One least count and what a development text needs with it.

    Attributes
    ----------
    min_count : float
        In the unit of the training counts.
    tokens : float
        Of the development text.
    nats : float
        Its code length, :math:`\lambda` a token included: what is to be small.
    pieces : int
        Of the vocabulary; fewer than asked for where so few substrings occur so often.

    Examples
    --------
    >>> choose_min_count({"low▁": 5, "slow▁": 2}, {"lower▁": 2}, 7, min_counts=(3,)).tried[0]
    Tried(min_count=3.0, tokens=12.0, nats=38.62..., pieces=7)
    """

    min_count: float
    tokens: float
    nats: float
    pieces: int


@dataclass(frozen=True)
class Choice:
    """The least count with which a development text costs least, and all that were tried.

    >>> choice = choose_min_count({"low▁": 5, "slow▁": 2}, {"lower▁": 2}, 7, min_counts=(3, 2))
    >>> choice.min_count, len(choice.tried)
    (2.0, 2)
    """

    min_count: float
    tried: tuple[Tried, ...]


def choose_min_count(
    word_counts: WordCounts,
    development: Mapping[str, float],
    vocab_size: int,
    objective: Any = "likelihood",
    *,
    min_counts: Iterable[float] = LEAST_COUNTS,
    executor: Executor | None = None,
    progress: bool | Callable[[Any], object] = False,
    **options: Any,
) -> Choice:
    r"""The least count of a piece with which a text of your own costs least.

    One training for each least count; the vocabulary is then asked for a text it was not trained
    on.  What is compared is the objective there, with half a count more for each of the V pieces:

    .. math:: \sum_s u_s \Big(\lambda + \ln\big(C + \tfrac12 V\big) -
              \ln\big(c_s + \tfrac12\big)\Big)

    (book, eq. swe-next), u being the counts in the development text and c in the training.  With
    "tokens" it is the number of tokens, and the code length breaks ties; then the smaller least
    count does.  Keep the text on which you report apart from this one.

    Parameters
    ----------
    word_counts, development : mapping of str to number
        Words of the training text and of another text of its kind, cut by the same rule: a tenth to
        a fifth of what there is will do.  Those of training may be a list by file, as in `train`.
    vocab_size, objective, options
        As in `train`; a vocabulary may have fewer pieces (``at_most=True``), unless ``at_most`` is
        given as False: then least counts that leave too few candidates are passed over.
    min_counts : list of number
        What is tried, in the unit of the counts.
    executor : concurrent.futures.Executor, optional
        Trains side by side.
    progress : bool or function
        As in `genopt_core.progress`.

    Examples
    --------
    >>> counts = {"low▁": 5, "lower▁": 2, "newest▁": 6, "widest▁": 3, "fen▁": 1}
    >>> choice = choose_min_count(
    ...     counts, {"lowest▁": 2, "wider▁": 1}, 15, "tokens", min_counts=(1, 2, 5)
    ... )
    >>> choice.min_count, [(t.min_count, t.tokens) for t in choice.tried]
    (5.0, [(1.0, 20.0), (2.0, 20.0), (5.0, 14.0)])
    """
    if not isinstance(min_counts, Iterable):
        raise TypeError(f"min_counts must be numbers, got {min_counts!r}")
    tries = sorted({positive(least, "min_counts") for least in min_counts})
    if not tries:
        raise ValueError("min_counts must have at least one number, got none")
    if not isinstance(word_counts, Mapping | str):  # looked at more than once
        word_counts = list(word_counts)
    if (by_file := counts_by_file(word_counts)) is None:
        check_words(word_counts)  # type: ignore[arg-type]
    elif not options.get("new_words"):  # adds up once
        word_counts = file_weights(by_file, options.pop("file_exponent", 1.0))
    else:
        word_counts = by_file
    development = _checked(development)
    if "min_count" in options:
        raise TypeError(
            f"options must have no min_count, which is chosen here, got {options['min_count']!r}"
        )
    one = partial(_tried, word_counts, development, vocab_size, objective, options)
    found: list[Tried | TooFewCandidatesError] = []
    with reporting(progress, len(tries), "least counts") as report:
        for result in (executor.map if executor else map)(one, tries):
            found.append(result)
            report(_Tries(len(found), len(tries)))
    fitting = tuple(t for t in found if isinstance(t, Tried))
    if not fitting:  # the smallest least count comes first and leaves the most candidates
        raise ValueError(str(found[0]))
    return Choice(min(fitting, key=lambda t: (t.nats, t.min_count)).min_count, fitting)


def _checked(development: Mapping[str, float]) -> dict[str, float]:
    """As `check_words`, with errors that name the argument."""
    if isinstance(development, Mapping) and not development:
        raise ValueError(f"development must have at least one word, got {development!r}")
    try:
        return check_words(development)
    except TypeError as error:
        raise TypeError(str(error).replace("words", "development", 1)) from None
    except ValueError as error:
        raise ValueError(str(error).replace("words", "development", 1)) from None


@dataclass(frozen=True)
class _Tries:
    done: int
    total: int


def _tried(
    word_counts: WordCounts,
    development: Mapping[str, float],
    vocab_size: int,
    objective: Any,
    options: Mapping[str, Any],
    least: float,
) -> Tried | TooFewCandidatesError:
    given = {"at_most": True, **options}
    try:
        vocabulary = train(word_counts, vocab_size, objective, min_count=least, **given)
    except TooFewCandidatesError as error:
        return error
    tokens, nats = development_cost(vocabulary, development)
    return Tried(least, tokens, nats, len(vocabulary))


def development_cost(
    vocabulary: Vocabulary, development: Mapping[str, float]
) -> tuple[float, float]:
    r"""Tokens of a text that the vocabulary was not trained on, and its cost in nats.

    (book, eq. swe-next), with the segmentation of `Vocabulary.segment`.  A character that is no
    piece counts as one token.

    >>> vocabulary = train({"low▁": 5, "slow▁": 2}, 6, "tokens")
    >>> development_cost(vocabulary, {"low▁": 1, "lows▁": 1})[0]
    6.0
    """
    counts: dict[str, float] = {}
    for word, count in check_words(development).items():
        for start in range(0, len(word), LONGEST_WORD):  # as deep as that a lattice goes at once
            part = word[start : start + LONGEST_WORD]
            counts[part] = counts.get(part, 0) + count
    costs = dict(vocabulary.costs)
    unknown = max(costs.values()) + UNKNOWN_EXTRA
    costs |= dict.fromkeys(set().union(*counts).difference(costs), unknown)
    lattice = Lattice(counts, costs)
    uses = best_paths(lattice).piece_counts()
    trained = dict(zip(vocabulary.pieces, vocabulary.counts.tolist(), strict=True))
    seen = np.array([trained.get(piece, 0.0) for piece in lattice.pieces])
    total = float(vocabulary.counts.sum()) + LEAST_COUNT * len(vocabulary)
    price = vocabulary.length_cost + np.log(total) - np.log(seen + LEAST_COUNT)
    return float(uses.sum()), float(uses @ price)
