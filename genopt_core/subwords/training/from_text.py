"""One call from a text to a vocabulary."""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from genopt_core.checks import fraction, whole
from genopt_core.conventions import Convention, as_convention
from genopt_core.subwords.tokenizer.counting import (
    Source,
    count_words_apart,
    count_words_by_file,
    count_words_in_files,
    total_size,
)
from genopt_core.subwords.tokenizer.vocabulary import Vocabulary, check_specials, names_taken
from genopt_core.subwords.training.train import Objective, WordCounts, train
from genopt_core.subwords.training.trainer import Step

SMALL_TEXT = 1 << 24
"""Bytes of files up to which they are counted apart, should it turn out to be a small corpus."""
TextOrFiles = str | os.PathLike[str] | Iterable[os.PathLike[str]]


def train_on_text(
    text_or_files: TextOrFiles,
    vocab_size: int,
    *,
    convention: str | Convention = "lossless",
    objective: Objective = "likelihood",
    effort: Literal["fast", "standard", "best"] = "standard",
    max_piece: int = 16,
    min_count: float | None = None,
    at_most: bool = False,
    new_words: bool | None = None,
    specials: Iterable[str] = (),
    file_exponent: float = 1.0,
    executor: Executor | None = None,
    progress: bool | Callable[[Step], object] = False,
) -> Vocabulary:
    r"""A vocabulary from a text, or from files: its words counted, and `train` on them.

    Parameters
    ----------
    text_or_files : str, path, or list of paths
        A str is a text; files, UTF-8, come as ``pathlib.Path``, and are counted in bounded memory.
    vocab_size, objective, effort, max_piece, min_count, at_most, new_words, progress
        As in `train`.
    convention : str or Convention
        How the text is cut into words, and in which alphabet: see
        `genopt_core.corpora.Convention`.  For source code, "gpt4" or "o200k"; for much Chinese or
        Japanese and a few thousand pieces, ``Convention(alphabet="bytes")``.
    specials : list of str
        Special tokens, such as ``<|endoftext|>``.  The text is cut at them: no piece is learned
        from one, or across it.
    file_exponent : float
        As in `train`, for a list of many files.  With ``new_words=True`` the words of every file
        are in memory.
    executor : concurrent.futures.Executor, optional
        Counts the words of files, as in `count_words_in_files`.

    Examples
    --------
    >>> text = "def low(x):\n    return x\n\n\ndef lower(x):\n    return low(x)\n" * 9
    >>> vocabulary = train_on_text(text, 270, convention="gpt4", objective="tokens")
    >>> [vocabulary.tokens[i] for i in vocabulary.encode("def low(y):\n    return y")]
    ['def', 'Ġlow', '(', 'y', '):Ċ', 'ĠĠĠ', 'Ġreturn', 'Ġ', 'y']
    """
    rule = as_convention(convention)
    names = check_specials(specials, names_taken(rule))
    whole(vocab_size, "vocab_size")
    exponent = fraction(file_exponent, "file_exponent", zero=True)
    if isinstance(text_or_files, str):
        if "\n" not in text_or_files and len(text_or_files) < 256 and Path(text_or_files).is_file():
            raise ValueError(
                "text_or_files must be a text, or files as pathlib.Path, got the name of a file "
                f"{text_or_files!r}: Path({text_or_files!r})"
            )
        if exponent != 1:
            raise ValueError(
                "file_exponent must be 1 for a text, which is in one piece, got "
                f"{file_exponent!r}; text_or_files may be a list of files"
            )
        words: Mapping[str, float] = count_words_apart(text_or_files, rule, names)
        counts: WordCounts = words
    else:
        files = _files(text_or_files)
        if exponent != 1 and len(files) == 1:
            raise ValueError(
                f"file_exponent must be 1 for one file, got {file_exponent!r}; many files, each a "
                "text of its own, may be a list"
            )
        if wanted_by_file(files, new_words, min_count is not None):
            counts = by_file = count_words_by_file(files, rule, executor, specials=names)
            words = {word: 1 for each in by_file for word in each}
        else:
            counts = words = count_words_in_files(
                files, rule, executor, specials=names, file_exponent=exponent
            )
            exponent = 1.0  # is in the counts
    if not words:
        raise ValueError(f"text_or_files must have words, by {rule.name!r} there are none")
    check_apart(names, words)
    vocabulary = train(
        counts,
        vocab_size,
        objective,
        effort=effort,
        max_piece=max_piece,
        min_count=min_count,
        at_most=at_most,
        new_words=new_words,
        file_exponent=exponent,
        convention=rule,
        progress=progress,
    ).with_specials(names)
    if file_exponent == 1:
        return vocabulary
    return replace(
        vocabulary, provenance={**vocabulary.provenance, "file_exponent": float(file_exponent)}
    )


def wanted_by_file(
    files: Sequence[Source], new_words: bool | None, has_min_count: bool = False
) -> bool:
    """Whether `train` can use the counts of each file: where it may leave out whole ones.

    A text of more than 16 MiB is no small corpus, and so is one with a least count.

    >>> files = [Path(__file__), Path(__file__)]
    >>> wanted_by_file(files, None), wanted_by_file(files, None, has_min_count=True)
    (True, False)
    """
    if len(files) < 2 or new_words is False:
        return False
    return bool(new_words) or (not has_min_count and 0 < total_size(files) <= SMALL_TEXT)


def check_apart(specials: Iterable[str], words: Iterable[str]) -> None:
    """Refuse a special token that a word still has, as it is spelled, after the text was cut.

    A piece of that word could be of the same name.  In the text it was written otherwise: in
    another case or another form of Unicode, or with what stands for a blank.
    """
    for special in specials:
        for word in words:
            if special in word:
                raise ValueError(
                    f"specials must be in no word as it is spelled, got {special!r}, which is in "
                    f"{word:.40}: a piece could have the same name"
                )


def _files(given: TextOrFiles) -> list[os.PathLike[str]]:
    """The files one by one."""
    alone = isinstance(given, os.PathLike | bytes) or not isinstance(given, Iterable)
    files: list[Any] = [given] if alone else list(given)  # type: ignore[arg-type]
    for file in files:
        if not isinstance(file, os.PathLike):
            raise TypeError(
                "text_or_files must be a text, or files as pathlib.Path, got "
                f"{'' if alone else 'a list with '}{file!r:.60}"
                + ("; of texts, '\\n'.join(texts) is one" if isinstance(file, str) else "")
            )
    if not files:
        raise ValueError("text_or_files must have at least one file, got none")
    return files
