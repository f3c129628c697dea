r"""A vocabulary from word counts: from many candidates down to the size wanted, then local search.

Algorithm S-2 of the book.  The paper says what a good vocabulary is (the likelihood of
(book, eq. swe-corpus), initial settings as in BPE) but not how it is searched for, and choosing it
is NP-hard; the search, the token penalty and the certificate are this book's additions.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any, Literal

import numpy as np

from genopt_core.checks import fraction, one_of, positive, whole
from genopt_core.conventions import Convention, as_convention, byte_letters, names_cut
from genopt_core.progress import reporting
from genopt_core.subwords.segmentation.costs import check_words
from genopt_core.subwords.tokenizer.counting import check_files, summed
from genopt_core.subwords.tokenizer.vocabulary import Vocabulary
from genopt_core.subwords.training.arcs import Pieces
from genopt_core.subwords.training.em import LEAST_COUNT, Segmentation, fitted_costs
from genopt_core.subwords.training.new_words import (
    LEAST_FILES,
    NEW_SHARE,
    SMALL_CORPUS,
    Files,
    discount,
    new_word_share,
)
from genopt_core.subwords.training.substrings import Substrings, check_size
from genopt_core.subwords.training.trainer import (
    EFFORTS,
    SEARCH_WEIGHT,
    TOKENS_FIRST,
    Step,
    Trainer,
)
from genopt_core.subwords.training.unit import common_unit, in_units

Objective = Literal["likelihood", "tokens"] | float
WordCounts = Mapping[str, float] | Iterable[Mapping[str, float]]
"""Of a text, or of each of some files."""
LONGEST_WORD = 256
"""Longer words are trained on in chunks of this many characters."""


def train(
    word_counts: WordCounts,
    vocab_size: int,
    objective: Objective = "likelihood",
    *,
    effort: Literal["fast", "standard", "best"] = "standard",
    max_piece: int = 16,
    min_count: float | None = None,
    at_most: bool = False,
    new_words: bool | None = None,
    file_exponent: float = 1.0,
    convention: str | Convention = "lossless",
    progress: bool | Callable[[Step], object] = False,
) -> Vocabulary:
    r"""The vocabulary of a given size with which a corpus is segmented at the least cost.

    .. math:: \min_{\mathcal V,\, c} \; F(c) + \lambda C, \qquad
              F(c) = C \ln C - \sum_s c_s \ln c_s

    (book, eq. swe-tradeoff), c being the counts of the pieces in the best segmentation of all words
    and C their sum.  F is the code length of the corpus in nats, the negative of the likelihood
    (book, eq. swe-profile).  The pieces come characters first, then by falling count, and the
    vocabulary has :math:`\lambda` as its ``length_cost``, so that the cheapest path is the best one
    for the objective.

    Parameters
    ----------
    word_counts : mapping of str to number, or a list of them
        As `corpora.count_words` gives them, or weighted.  The unit does not matter: *once* is the
        largest number of which all counts are multiples, 1 for plain occurrences; for weights
        without one, and mixtures of texts with weights such as .5 and .51, it is the smallest
        count.  In characters a word is cut behind the ``<`` of ``<unk>``
        or ``<0xNN>``, since no piece can be one.  A list has one mapping for each file
        (`count_words_by_file`), for ``file_exponent``, and for ``new_words`` to leave out whole
        files where there are eight or more.  A list of words will do, each of which then counts
        once; an iterator is read once.
    vocab_size : int
        Pieces in all.  Every character of the words is one of them.
    objective : {"likelihood", "tokens"} or float
        "likelihood": :math:`\lambda = 0`, the paper's.  A number: the token penalty
        :math:`\lambda` in nats; 5 gives shorter codes *and* fewer tokens than the usual trainers.
        "tokens": fewest tokens, code length breaking ties.
    effort : {"fast", "standard", "best"}
        More rounds of local search; about 1 to 2 to 4 in time.  With "tokens" the last two, with
        a number "best" starts from the relaxation of the certificate, which takes longer.
    max_piece : int
        Longest piece, in characters.
    min_count : number, optional
        Least count of a candidate of two characters or more, in the unit of the counts.  By
        default one in 300,000 words, at least twice: rarer candidates fit the corpus, not the
        language.  With "tokens" one in a million.
    at_most : bool
        Whether a corpus too small for ``vocab_size`` gets fewer pieces, the substrings that occur
        at least twice (or ``min_count`` times), in place of an error.
    new_words : bool, optional
        Whether to choose for the text that comes next, words included that the corpus does not
        have, in place of the corpus itself (``new_words.NextText``; a few times slower).  By
        default where that wins, on a small corpus, plain or weighted: if at least one in ten of the
        next words would be new, at most one in two (or the words are lines), and ``min_count`` is
        not given.  Pieces may then occur once, and ``at_most`` leaves out those of no use.  Worth
        asking for on a larger corpus too, where the vocabulary has room for most of its words, and
        for a small mixture of unlike weights, which does not tell what occurred once.
    file_exponent : float
        In 0..1, for a list of counts by file: less than 1 makes many occurrences of a word in one
        file count for less (`file_weights`; book, eq. swe-files); 0.5 for a few megabytes of source
        code.  ``min_count``, and the counts and probabilities of the vocabulary, are of these
        weights.
    convention : str or Convention
        The rule by which the words were cut and spelled: the vocabulary cuts texts by it.  In the
        alphabet of bytes all 256 are pieces, whether they occur or not.
    progress : bool or function
        As in `genopt_core.progress`; the records are `Step`.

    Raises
    ------
    TooFewCandidatesError
        A ValueError: fewer candidates than ``vocab_size``, without ``at_most``.
    KeyboardInterrupt
        If interrupted before there is a vocabulary of this size.  Interrupted later, the best one
        so far is returned with a warning, and ``provenance["interrupted"]`` is true.

    Notes
    -----
    No random number anywhere, and ties go by count, length, text: the same counts give the same
    vocabulary.  It is a local optimum, near-optimal as the certificate shows for "tokens"
    (`genopt_core.subwords.certify`) and exhaustive search for tiny corpora.  Time and memory are
    linear in the characters of the distinct words; those longer than 256 are trained on in chunks.
    Sources: T. Kudo, arXiv 1804.10959 (unigram model, EM, pruning); arXiv 2410.18441 (objective).

    Examples
    --------
    >>> vocabulary = train({"low▁": 5, "lower▁": 2, "newest▁": 6, "widest▁": 3}, 14, max_piece=4)
    >>> [piece for piece in vocabulary.pieces if len(piece) > 1]
    ['est▁', 'low▁', 'ower']
    """
    rule, weight = as_convention(convention), _length_cost(objective)
    plan = EFFORTS[one_of(effort, "effort", EFFORTS)]
    one_in = 1_000_000 if objective == "tokens" else 300_000
    whole(vocab_size, "vocab_size")
    counts, by_file = _read(word_counts, file_exponent)
    counts = _prepared(counts, rule)
    absent = _absent_bytes(counts, vocab_size) if rule.in_bytes else ()
    unit = common_unit(counts.values())
    counts = in_units(counts, unit)
    if min_count is not None:
        positive(min_count, "min_count")
    # a count of just so many units may have lost its last bits
    floor = None if min_count is None else float(min_count) / unit * (1 - 1e-9)
    room = vocab_size - len(absent)
    ahead = one_of(new_words, "new_words", (True, False, None))
    if ahead is None:
        plain = counts
        if by_file and file_exponent != 1:
            plain = _prepared(summed(by_file, 1), rule)
            plain = in_units(plain, common_unit(plain.values()))
        ahead = min_count is None and _is_small(plain)
    if ahead:
        size = check_size(room, len(set("".join(counts))))
        least = floor or 1.0
        table = Substrings(counts, max_piece, least)
        size = min(size, len(table)) if at_most else size
        if size > len(table):
            raise TooFewCandidatesError(_too_many(len(table), max_piece, least * unit, size))
    else:
        table, size, least = _candidates(counts, room, max_piece, floor, one_in, at_most, unit)
    with reporting(progress, 0, "training") as report:
        trainer = Trainer(table, size, plan, lambda step: report(_in_counts(step, unit)))
        tokens = objective == "tokens"
        if ahead:
            penalty = SEARCH_WEIGHT if tokens else weight
            files = _files(table, by_file, rule) if by_file else None
            pieces, state = trainer.for_new_words(penalty, at_most, files)
        else:
            pieces, state = trainer.fewest_tokens() if tokens else trainer.cheapest(weight)
    return _vocabulary(
        pieces,
        state,
        weight,
        unit,
        {
            "trainer": "genopt_core.subwords.train",
            "objective": objective,
            "effort": effort,
            "max_piece": table.max_piece,
            **({"new_words": True} if ahead else {}),
            **({"number_of_files": len(by_file)} if by_file else {}),
            **({"file_exponent": float(file_exponent)} if file_exponent != 1 else {}),
            "min_count": min_count or (least * unit if unit != 1 else least),
            "words": float(table.weight.sum()) * unit,
            "distinct_words": len(table.words),
            "interrupted": trainer.interrupted,
        },
        rule,
        absent,
        ahead,
    )


def counts_by_file(word_counts: Any) -> list[dict[str, float]] | None:
    """The counts of each file, if these are a list of such; read once, should it be an iterator."""
    if isinstance(word_counts, Mapping):
        if any(isinstance(counts, Mapping) for counts in word_counts.values()):
            raise TypeError(
                "word_counts must be counts, or a list with those of each file, got a mapping of "
                "mappings: list(word_counts.values())"
            )
        return None
    if isinstance(word_counts, str) or not any(isinstance(part, Mapping) for part in word_counts):
        return None
    return check_files(word_counts, "word_counts")


def _read(
    word_counts: Any, file_exponent: float
) -> tuple[dict[str, float], list[dict[str, float]] | None]:
    """Word counts as they are trained on, and those of each file if they come by file."""
    exponent = fraction(file_exponent, "file_exponent", zero=True)
    if not isinstance(word_counts, Mapping | str):
        word_counts = list(word_counts)
    by_file = counts_by_file(word_counts)
    if by_file is not None:
        if not any(by_file):
            raise ValueError(f"word_counts must have words, got {len(by_file)} empty files")
        return summed(by_file, exponent), by_file
    if exponent != 1:
        raise ValueError(
            "file_exponent must be 1 for the counts of one text, got "
            f"{file_exponent!r}; word_counts may be a list with those of each file"
        )
    return check_words(word_counts), None


def _prepared(counts: dict[str, float], rule: Convention) -> dict[str, float]:
    """Words as they are trained on: cut where no piece may go on, and not too long."""
    return _in_chunks(counts if rule.in_bytes else _spelled(counts))


def _files(table: Substrings, by_file: list[dict[str, float]], rule: Convention) -> Files | None:
    """Where the words come from; nothing if that says too little of another file.

    A file that is there twice is one: its words would be in another file wherever it is left out.
    """
    once = {frozenset(counts.items()): counts for counts in by_file if counts}
    files = Files.of(table.words, [_prepared(counts, rule) for counts in once.values()])
    return files if files.number >= LEAST_FILES and discount(files.count) < 1 else None


def _candidates(
    counts: dict[str, float],
    vocab_size: int,
    max_piece: int,
    min_count: float | None,
    one_in: int,
    at_most: bool,
    unit: float,
) -> tuple[Substrings, int, float]:
    """Candidates, the size, and how often each candidate occurs at least; counts are in units."""
    size = check_size(vocab_size, len(set("".join(counts))))
    tries: list[float] = [max(2, round(sum(counts.values()) / one_in)), 2, 1]
    if min_count is not None:
        tries = [min_count]
    for least in tries:
        table = Substrings(counts, max_piece, least)
        kept = table.maximal()
        if int(kept.sum()) >= size:
            return table.only(kept), size, least
        if len(table) >= size:
            return table, size, least
        if at_most and least == tries[:2][-1]:
            return table.only(kept), int(kept.sum()), least
    raise TooFewCandidatesError(_too_many(len(table), max_piece, least * unit, size))


class TooFewCandidatesError(ValueError):
    """There are fewer candidates than pieces wanted, and ``at_most`` was not given."""


def _too_many(candidates: int, max_piece: int, least: float, size: int) -> str:
    often = {"1": "once", "2": "twice"}.get(f"{least:.6g}", f"{least:.6g} times")
    return (
        f"vocab_size must be at most {candidates}, the number of different substrings of up to "
        f"{max_piece} characters that occur at least {often}, got {size}; at_most=True takes fewer"
    )


def _is_small(counts: dict[str, float]) -> bool:
    """Whether new words matter in the text that comes next, and can be afforded."""
    least, most = NEW_SHARE
    if sum(map(len, counts)) > SMALL_CORPUS:
        return False
    return least <= new_word_share(counts.values()) <= most


def _absent_bytes(counts: dict[str, float], vocab_size: int) -> tuple[str, ...]:
    """The bytes that occur in no word; refused are words that are not spelled in bytes."""
    occur = set().union(*counts)
    if wrong := occur.difference(byte_letters()):
        word = next(w for w in counts if wrong.intersection(w))
        raise ValueError(
            "word_counts must be spelled in bytes, as count_words(text, convention) gives them, "
            f"got {word!r}"
        )
    if vocab_size < 256:
        raise ValueError(f"vocab_size must be at least 256, one for each byte, got {vocab_size}")
    return tuple(letter for letter in byte_letters() if letter not in occur)


def _in_counts(step: Step, unit: float) -> Step:
    """What a step needs for the counts as they were given."""
    return step if unit == 1 else replace(step, bits=step.bits * unit, tokens=step.tokens * unit)


def _spelled(counts: dict[str, float]) -> dict[str, float]:
    """Words without the names of tokens, which no piece can have; refused are blanks."""
    if any(" " in word for word in counts):
        word = next(word for word in counts if " " in word)
        raise ValueError(
            "word_counts must write a blank as '▁' (U+2581), as count_words(text, convention) "
            f"does, got the word {word!r}"
        )
    parts = {word: names_cut(word) for word in counts if "<" in word}
    if all(len(cut) == 1 for cut in parts.values()):
        return counts
    apart: dict[str, float] = {}
    for word, count in counts.items():
        for part in parts.get(word, [word]):
            apart[part] = apart.get(part, 0) + count
    return apart


def _in_chunks(counts: dict[str, float]) -> dict[str, float]:
    if max(map(len, counts)) <= LONGEST_WORD:
        return counts
    short: dict[str, float] = {}
    for word, count in counts.items():
        for start in range(0, len(word), LONGEST_WORD):
            chunk = word[start : start + LONGEST_WORD]
            short[chunk] = short.get(chunk, 0) + count
    return short


def _length_cost(objective: Objective) -> float:
    if objective == "likelihood":
        return 0.0
    if objective == "tokens":
        return TOKENS_FIRST
    accepted = "objective must be 'likelihood', 'tokens' or a number of nats per token in 0..1000"
    if isinstance(objective, (str, bool)):
        raise ValueError(f"{accepted}, got {objective!r}")
    try:
        weight = float(objective)
    except (TypeError, ValueError):
        raise TypeError(f"{accepted}, got {objective!r}") from None
    if not 0 <= weight <= TOKENS_FIRST:
        raise ValueError(f"{accepted}, got {objective!r}")
    return weight


def _vocabulary(
    pieces: Pieces,
    state: Segmentation,
    length_cost: float,
    unit: float,
    provenance: dict[str, Any],
    convention: Convention,
    absent: tuple[str, ...],
    ahead: bool,
) -> Vocabulary:
    number = np.flatnonzero(pieces.chosen)
    counts = state.counts[number]
    order = np.lexsort((number, -counts, ~pieces.table.single[number]))
    number, counts = number[order], counts[order]
    costs = fitted_costs(state.counts, 0.0)
    if ahead:  # as the next text pays: half a count more for every piece
        costs = np.log(counts.sum() + LEAST_COUNT * len(number)) - np.log(
            state.counts + LEAST_COUNT
        )
    # Bytes that do not occur come behind the other single ones, as costly as one that is not used.
    behind = pieces.table.singles
    texts = pieces.table.texts(number)
    return Vocabulary(
        pieces=(*texts[:behind], *absent, *texts[behind:]),
        log_probabilities=-np.insert(costs[number], [behind] * len(absent), _unused(state)),
        counts=np.insert(counts * unit, [behind] * len(absent), 0.0),
        provenance=provenance,
        length_cost=length_cost,
        convention=convention,
    )


def _unused(state: Segmentation) -> float:
    return float(np.log(state.counts.sum() / LEAST_COUNT))
