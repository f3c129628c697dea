r"""Word counts of files of any size, in bounded memory, on any number of workers.

A text is cut into chunks where no word, no composed letter and no end-of-word symbol can depend on
what lies on the other side, so that the counts of the chunks add up to those of the whole.
"""

import codecs
import os
import stat
import unicodedata
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future
from contextlib import nullcontext
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from genopt_core.checks import fraction, whole
from genopt_core.conventions import LOSSLESS, Convention, as_convention, check_text
from genopt_core.progress import reporting
from genopt_core.subwords.segmentation.costs import check_words
from genopt_core.subwords.tokenizer.encoding import special_pattern
from genopt_core.subwords.tokenizer.vocabulary import check_specials

CHUNK_BYTES = 1 << 20
"""Default size of a chunk: large enough that a worker earns its message, small enough to spread."""

IN_FLIGHT = 32
"""Chunks handed out and not yet counted; with their size this bounds the memory."""

Source = str | os.PathLike[str] | BinaryIO
"""A file by its path, or one that is open for reading bytes."""

# Stands for the text that follows a chunk.  It composes with nothing and is not a blank.
_NEXT = "\x00"


def count_words_in_files(
    paths: Source | Iterable[Source],
    convention: str | Convention = "lossless",
    executor: Executor | None = None,
    chunk_bytes: int = CHUNK_BYTES,
    progress: bool | Callable[["Counted"], object] = False,
    specials: Iterable[str] = (),
    file_exponent: float = 1.0,
) -> dict[str, float]:
    """How often each word occurs in some UTF-8 files, as `genopt_core.corpora.count_words`.

    Most frequent first, equals alphabetically: the same whatever the executor and the chunks.
    Memory: the distinct words, those of a file once more, and ``IN_FLIGHT`` chunks.  A text that
    has no place to cut, such as one word of any length, is kept whole.  Raises
    ``FileNotFoundError`` if a file is not there, ``ValueError`` with file and byte if it is not
    UTF-8.

    Parameters
    ----------
    paths : path, open binary file, or iterable of them
        Each file is a text of its own: no word goes on from one to the next.  A pipe will do.
    convention : str or Convention
        As in `genopt_core.corpora.pretokenize`.  By a regular expression of one's own a file is
        counted whole, since nobody knows where it may be cut.
    executor : concurrent.futures.Executor, optional
        Counts the chunks: threads, processes, or ``distributed.Client.get_executor()``.  The
        files are read here, so the workers need not see them.  The caller shuts it down.
    chunk_bytes : int
        About how much text is counted at a time.
    progress : bool or function
        As in `genopt_core.progress`; the records are `Counted`.
    specials : list of str
        Special tokens, at which a text is cut as in `Vocabulary.encode`: they are in no word.
    file_exponent : float
        In 0..1: less than 1 makes many occurrences in one file count for less, as `file_weights`
        says.  With 1 the counts are whole numbers.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> file = Path(tempfile.mkdtemp()) / "text.txt"
    >>> _ = file.write_text("low lower, low", encoding="utf-8")
    >>> count_words_in_files(file, chunk_bytes=4)
    {',▁': 1, 'low': 1, 'lower': 1, 'low▁': 1}
    """
    exponent = fraction(file_exponent, "file_exponent", zero=True)
    return summed(
        _each_file(paths, convention, executor, chunk_bytes, progress, specials), exponent
    )


def count_words_by_file(
    paths: Source | Iterable[Source],
    convention: str | Convention = "lossless",
    executor: Executor | None = None,
    chunk_bytes: int = CHUNK_BYTES,
    progress: bool | Callable[["Counted"], object] = False,
    specials: Iterable[str] = (),
) -> list[dict[str, int]]:
    """The word counts of each of some UTF-8 files, in their order, for `train`.

    Parameters and errors are those of `count_words_in_files`; the distinct words of every file are
    in memory.

    >>> import tempfile
    >>> from pathlib import Path
    >>> files = [Path(tempfile.mkdtemp()) / name for name in ("a.txt", "b.txt")]
    >>> _ = files[0].write_text("low low", "utf-8"), files[1].write_text("lower", "utf-8")
    >>> count_words_by_file(files)
    [{'low': 1, 'low▁': 1}, {'lower': 1}]
    """
    each = _each_file(paths, convention, executor, chunk_bytes, progress, specials)
    return [_sorted(counts) for counts in each]


def _each_file(
    paths: Source | Iterable[Source],
    convention: str | Convention,
    executor: Executor | None,
    chunk_bytes: int,
    progress: bool | Callable[["Counted"], object],
    specials: Iterable[str],
) -> Iterator[Mapping[str, int]]:
    """The counts of one file after the other; what is wrong with the arguments is said at once."""
    files = _sources(paths)
    if not files:
        raise ValueError("paths is empty; it needs at least one file")
    if executor is not None and not isinstance(executor, Executor):
        raise TypeError(
            "executor must be a concurrent.futures.Executor "
            f"(of a Dask client: client.get_executor()), got {type(executor).__name__}"
        )
    size = whole(chunk_bytes, "chunk_bytes")
    rule, names = as_convention(convention), check_specials(specials)
    total = total_size(files)
    chunks = (chunk for file in files for chunk in read_chunks(file, size, rule, names))

    def counted() -> Iterator[Mapping[str, int]]:
        done, here = 0, Counter[str]()  # in this file, as far as it is read
        with reporting(progress, total, "counting words", "B") as report:
            for found, chunk in _counted(chunks, rule, names, executor):
                here.update(found)
                done += chunk.bytes
                report(Counted(done, total))
                if not chunk.followed:
                    yield here
                    here = Counter()

    return counted()


def file_weights(
    counts_of_files: Iterable[Mapping[str, float]], file_exponent: float = 0.5
) -> dict[str, float]:
    r"""What each word counts for when many occurrences in one file count for less.

    .. math:: f_w = \sum_d n_{w,d}^{\gamma}

    (book, eq. swe-files), n being the occurrences of word w in file d and :math:`\gamma` the
    ``file_exponent``: 1 gives plain counts, 0 in how many files a word is.  A name that one file
    repeats a hundred times is hardly needed in the next file; plain counts take it for common.  It
    helps with a few megabytes of source code, and does not with a hundred (evidence page).

    Parameters
    ----------
    counts_of_files : list of mapping of str to number
        For every file or document its word counts, as `count_words_by_file` gives them; there may
        be empty ones.
    file_exponent : float
        In 0..1.

    Returns
    -------
    dict of str to number
        Most frequent first, equals alphabetically.

    Examples
    --------
    >>> file_weights([{"self": 4, "trial": 9}, {"self": 4}])
    {'self': 4.0, 'trial': 3.0}
    """
    exponent = fraction(file_exponent, "file_exponent", zero=True)
    return summed(check_files(counts_of_files, "counts_of_files"), exponent)


def check_files(counts_of_files: Any, name: str) -> list[dict[str, float]]:
    """Word counts of files, as plain numbers; errors name the argument and the file in it."""
    if isinstance(counts_of_files, Mapping | str) or not isinstance(counts_of_files, Iterable):
        raise TypeError(
            f"{name} must be a list with the word counts of each file, got {counts_of_files!r:.60}"
        )
    found = []
    for number, counts in enumerate(counts_of_files):
        if not isinstance(counts, Mapping):
            raise TypeError(
                f"{name}[{number}] must be a mapping of words to counts, got {counts!r:.60}"
            )
        try:
            sound = check_words(counts) if counts else {}
        except (TypeError, ValueError) as error:
            raise type(error)(str(error).replace("words", f"{name}[{number}]", 1)) from None
        # NumPy's small integers would overflow
        found.append({w: n.item() if isinstance(n, np.generic) else n for w, n in sound.items()})
    return found


def summed(counts_of_files: Iterable[Mapping[str, float]], exponent: float) -> dict[str, float]:
    """`file_weights` of counts that are sound.

    >>> summed([{"self": 4}, {"self": 9, "trial": 1}], 0.5)
    {'self': 5.0, 'trial': 1.0}
    """
    weights: Counter[str] = Counter()
    for counts in counts_of_files:
        if exponent == 1:
            weights.update(counts)
        else:
            weights.update({word: n**exponent for word, n in counts.items()})
    return _sorted(weights)


def count_words_apart(
    text: str, convention: str | Convention = "lossless", specials: Iterable[str] = ()
) -> dict[str, int]:
    """How often each word occurs in a text, which is cut at special tokens.

    As `count_words_in_files` counts a file.

    >>> count_words_apart("low <s>low", specials=["<s>"])
    {'low': 1, 'low▁': 1}
    """
    return _sorted(count_chunk(text, False, convention, check_specials(specials)))


class Counted(NamedTuple):
    """Bytes counted so far, and those of all files; 0 if nobody knows, as of a pipe."""

    done: int
    total: int


class Chunk(NamedTuple):
    """A stretch of a text: the text, whether more follows, and the bytes read for it."""

    text: str
    followed: bool
    bytes: int


def total_size(sources: Iterable[Source]) -> int:
    """Bytes of some files; 0 where nobody knows, as with a pipe among them."""
    total = 0
    for source in sources:
        there = os.stat(source) if isinstance(source, str | os.PathLike) else None
        if there is None or not stat.S_ISREG(there.st_mode):
            return 0
        total += there.st_size
    return total


def read_chunks(
    path: Source,
    chunk_bytes: int = CHUNK_BYTES,
    convention: Convention = LOSSLESS,
    specials: Sequence[str] = (),
) -> Iterator[Chunk]:
    """Text of a UTF-8 file, in order, in chunks that can be counted apart.

    No special token is cut.  A file that is open stays so.  Errors are those of
    `count_words_in_files`.
    """
    decoder = codecs.getincrementaldecoder("utf-8")()
    rest: list[str] = []  # text since the last cut
    position = taken = 0  # bytes of the file, and of `rest`
    before, reach = "", max(map(len, specials), default=1) - 1  # the end of `rest`
    with open(path, "rb") if isinstance(path, str | os.PathLike) else nullcontext(path) as file:
        while block := file.read(chunk_bytes):
            text = _decoded(decoder, block, position, path)
            position += len(block)
            taken += len(block)
            cut = _last_cut(text, convention, before, specials)
            if cut:
                yield Chunk("".join([*rest, text[:cut]]), True, taken)
                rest, taken = [text[cut:]], 0
            else:
                rest.append(text)
            if reach:
                before = ("" if cut else before) + text[cut:]
                before = before[-reach:]
        _decoded(decoder, b"", position, path)  # complains of a torn character at the end
    yield Chunk("".join(rest), False, taken)


def count_chunk(
    text: str, followed: bool, convention: str | Convention, specials: Sequence[str] = ()
) -> dict[str, int]:
    """Word counts of one chunk of `read_chunks`.

    >>> count_chunk("low, low ", True, "lossless")
    {'low': 1, ',▁': 1, 'low▁': 1}
    >>> count_chunk("low, low ", False, "lossless")
    {'low': 2, ',▁': 1}
    """
    rule, special = as_convention(convention), special_pattern(specials)
    if special is not None:
        check_text(text)
        *parts, last = special.split(text)[::2]
        total = Counter(_part_counts(last, followed, rule))
        for part in parts:  # a special token follows, as something else would
            total.update(_part_counts(part, True, rule))
        return dict(total)
    return _part_counts(text, followed, rule)


def _part_counts(text: str, followed: bool, rule: Convention) -> dict[str, int]:
    if not followed or rule.name not in ("lossless", "textbook"):
        return dict(Counter(rule.words(text)))
    counts = Counter(rule.words(text + _NEXT))
    counts -= Counter(rule.words(_NEXT))
    return dict(counts)


def _sources(paths: Source | Iterable[Source]) -> list[Source]:
    """The files one by one."""
    single = isinstance(paths, str | bytes | os.PathLike) or hasattr(paths, "read")
    files: list[Any] = list(paths) if isinstance(paths, Iterable) and not single else [paths]
    for file in files:
        readable = hasattr(file, "read") and not hasattr(file, "encoding")  # which text has
        if not (isinstance(file, str | os.PathLike) or readable):
            raise TypeError(f"paths must be files, by path or open for bytes, got {file!r:.80}")
    return files


def _decoded(
    decoder: codecs.IncrementalDecoder, block: bytes, position: int, source: Source
) -> str:
    waiting = len(decoder.getstate()[0])  # bytes of a character torn by the end of the last block
    try:
        return decoder.decode(block, final=not block)
    except UnicodeDecodeError as error:
        name = (
            os.fspath(source)
            if isinstance(source, str | os.PathLike)
            else getattr(source, "name", "the file")
        )
        raise ValueError(
            f"{name} is not UTF-8: byte {position - waiting + error.start} is "
            f"0x{error.object[error.start]:02X} ({error.reason})"
        ) from None


def _last_cut(
    text: str, convention: Convention, before: str = "", specials: Sequence[str] = ()
) -> int:
    """Where the last stretch of a text begins that can be counted apart; 0 if nowhere.

    ``before`` is what stands before the text, as far as a special token could reach.
    """
    if convention.boundary is None:
        return 0
    width = 256
    while True:
        first = max(0, len(text) - width)
        for match in reversed(list(convention.boundary.finditer(text, first))):
            end = match.end()
            if not unicodedata.combining(text[end : end + 1] or " ") and not any(
                _is_across(special, before + text, len(before) + end) for special in specials
            ):
                return end
        if first == 0:
            return 0
        width *= 8


def _is_across(special: str, text: str, place: int) -> bool:
    """Whether a special token lies across a place, as far as the text can tell."""
    return any(
        special.startswith(text[place - inside : place - inside + len(special)])
        for inside in range(1, min(len(special) - 1, place) + 1)
    )


def _sorted(counts: Mapping[str, Any]) -> dict[str, Any]:
    """Most frequent first, equals alphabetically."""
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def _counted(
    chunks: Iterator[Chunk],
    convention: Convention,
    specials: Sequence[str],
    executor: Executor | None,
) -> Iterator[tuple[dict[str, int], Chunk]]:
    """The counts of each chunk, and the chunk without its text, in the order of the chunks."""
    if executor is None:
        for chunk in chunks:
            yield count_chunk(chunk.text, chunk.followed, convention, specials), chunk
        return
    running: deque[tuple[Future[dict[str, int]], Chunk]] = deque()
    try:
        for chunk in chunks:
            future = executor.submit(count_chunk, chunk.text, chunk.followed, convention, specials)
            running.append((future, chunk._replace(text="")))
            if len(running) >= IN_FLIGHT:
                first, read = running.popleft()
                yield first.result(), read
        while running:
            first, read = running.popleft()
            yield first.result(), read
    finally:
        for future, _ in running:
            future.cancel()
