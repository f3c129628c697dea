"""One call from a text to a vocabulary."""

import os
from collections.abc import Callable, Iterable
from concurrent.futures import Executor
from pathlib import Path
from typing import Literal

from genopt_core.conventions import Convention, as_convention
from genopt_core.corpora import count_words
from genopt_core.subwords.tokenizer.counting import count_words_in_files
from genopt_core.subwords.tokenizer.vocabulary import Vocabulary, check_specials, names_taken
from genopt_core.subwords.training.train import Objective, train
from genopt_core.subwords.training.trainer import Step

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
        Special tokens, such as ``<|endoftext|>``.
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
    if isinstance(text_or_files, str):
        if "\n" not in text_or_files and len(text_or_files) < 256 and Path(text_or_files).is_file():
            raise ValueError(
                "text_or_files must be a text, or files as pathlib.Path, got the name of a file "
                f"{text_or_files!r}: Path({text_or_files!r})"
            )
        counts = count_words(text_or_files, rule)
    else:
        files = text_or_files
        counts = count_words_in_files(files, rule, executor)
    if not counts:
        raise ValueError(f"text_or_files must have words, by {rule.name!r} there are none")
    return train(
        counts,
        vocab_size,
        objective,
        effort=effort,
        max_piece=max_piece,
        min_count=min_count,
        at_most=at_most,
        new_words=new_words,
        convention=rule,
        progress=progress,
    ).with_specials(names)
