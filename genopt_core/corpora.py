"""The texts this book counts on: found, checked against a stored hash, and cut into words.

A corpus is a plain text with a known origin, license and SHA-256.  The texts lie beside the book
(``book/data``), compressed, each described by one row of ``manifest.json``; they are too large to
travel inside the package.  Everything is read, nothing is downloaded.
"""

import hashlib
import json
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, get_args

from genopt_core.checks import one_of

END_OF_WORD = "\u2581"
"""The end-of-word symbol, U+2581: visible, one character long, absent from ordinary text."""

Convention = Literal["lossless", "textbook"]


@lru_cache(maxsize=64)
def _patterns(marks: str) -> dict[str, re.Pattern[str]]:
    """Regular expressions of a word, for texts with these combining marks.

    Combining marks, such as the vowel signs of Devanagari, belong to the letters around them; `re`
    has no class for them, so those that occur in the text are spelled out.
    """
    letters = rf"(?:[^\W\d_]|[{re.escape(marks)}])+" if marks else r"[^\W\d_]+"
    # Letters, or digits, or one other character, with the blank after it if there is one.
    lossless = rf"(?:{letters}|\d+|[^\w\s{END_OF_WORD}]|_|{END_OF_WORD}){END_OF_WORD}?"
    return {"textbook": re.compile(letters), "lossless": re.compile(lossless)}


def _marks(text: str) -> str:
    return "".join(sorted(c for c in set(text) if unicodedata.category(c).startswith("M")))


def names(folder: str | os.PathLike[str] | None = None) -> tuple[str, ...]:
    """Names of the corpora that `load` can read, in the order of the manifest.

    >>> "sotu" in names()
    True
    """
    return tuple(_manifest(_data_folder(folder)))


def describe(name: str, folder: str | os.PathLike[str] | None = None) -> dict[str, Any]:
    """Manifest row of one corpus: title, source, license, and size and SHA-256 of file and text.

    >>> describe("sotu")["text_bytes"]
    3562111
    """
    rows = _manifest(_data_folder(folder))
    return dict(rows[one_of(name, "name", rows)])


def load(name: str, folder: str | os.PathLike[str] | None = None) -> str:
    """Text of a corpus, checked against the SHA-256 in the manifest.

    ``name`` is one of `names`.  The folder has ``manifest.json`` and the compressed texts; without
    it the environment variable ``GENOPT_DATA`` decides, and without that the ``book/data`` folder
    beside the package (an editable install, or a checkout).  The text of the last few corpora is
    kept, so a second call costs nothing.

    Raises ``FileNotFoundError`` if the folder or the file is not there, ``ValueError`` if the name
    is unknown, or the file is torn or not the one the manifest describes.

    >>> load("sotu")[:49]
    'Fellow-Citizens of the Senate and House of Repres'
    """
    row = describe(name, folder)
    path = _data_folder(folder) / row["file"]
    return _read_checked(path, row["file_sha256"], row["text_sha256"])


def check_text(text: str, name: str = "text") -> None:
    r"""Refuse what is not a string, or has no UTF-8 form: half of a surrogate pair on its own.

    >>> check_text("a\ud800")
    Traceback (most recent call last):
    ValueError: text must have a UTF-8 form, it has the lone surrogate '\ud800'
    """
    if not isinstance(text, str):
        raise TypeError(f"{name} must be a str, got {type(text).__name__}")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise ValueError(
            f"{name} must have a UTF-8 form, it has the lone surrogate {text[error.start]!r}"
        ) from None


def pretokenize(text: str, convention: Convention = "lossless") -> Iterator[str]:
    r"""Words of a text, one after the other, before any sub-word encoding.

    Parameters
    ----------
    text : str
        Any text.  It is brought to Unicode NFC first, so that an accented letter is one character.
    convention : {"lossless", "textbook"}
        ``"lossless"``: a word is a run of letters (and their combining marks), a run of digits,
        or one other character, and ends with U+2581 exactly when a blank follows.  Joining the
        words and turning each U+2581 back into a blank restores the text, with each run of
        blanks as one blank and none at the two ends.
        ``"textbook"``: lower-case runs of letters, each ending with U+2581; digits, punctuation
        and case are lost.  This is the form in which the method is usually explained.

    Notes
    -----
    A U+2581 that is already in the text is read as a blank.  Time is linear in the text.

    Examples
    --------
    >>> list(pretokenize("The newest, in 1790."))
    ['The▁', 'newest', ',▁', 'in▁', '1790', '.']
    >>> list(pretokenize("The newest, in 1790.", "textbook"))
    ['the▁', 'newest▁', 'in▁']
    >>> list(pretokenize("कानून का राज"))
    ['कानून▁', 'का▁', 'राज']
    """
    check_text(text)
    one_of(convention, "convention", get_args(Convention))
    text = unicodedata.normalize("NFC", text)
    pattern = _patterns(_marks(text))[convention]
    if convention == "textbook":
        # Lower-casing may produce a decomposed letter (dotted capital I), hence NFC once more.
        text = unicodedata.normalize("NFC", text.lower())
        return (match.group() + END_OF_WORD for match in pattern.finditer(text))
    text = END_OF_WORD.join(text.replace(END_OF_WORD, " ").split())
    return (match.group() for match in pattern.finditer(text))


def count_words(text: str, convention: Convention = "lossless") -> dict[str, int]:
    """How often each word occurs, most frequent first, words of equal count alphabetically.

    The arguments and what they may be are those of `pretokenize`.

    A text, not the name of a file: that is ``count_words(Path("own.txt").read_text("utf-8"))``,
    or, for large files, `genopt_core.subwords.count_words_in_files`.

    >>> count_words("the lower, the newest, the lowest", "textbook")
    {'the▁': 3, 'lower▁': 1, 'lowest▁': 1, 'newest▁': 1}
    """
    counts = Counter(pretokenize(text, convention))
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def data_path(name: str) -> Path:
    """The file ``name`` of the book's data folder, for example ``"results/kv_quality.json"``.

    The folder is that of `load`.  Raises ``FileNotFoundError`` if there is no such folder, or no
    such file in it.
    """
    path = _data_folder(None) / name
    if not path.is_file():
        raise FileNotFoundError(f"{name} is not in {_data_folder(None)}")
    return path


def _data_folder(folder: str | os.PathLike[str] | None) -> Path:
    if folder is None:
        folder = os.environ.get("GENOPT_DATA") or Path(__file__).parents[1] / "book" / "data"
    path = Path(folder)
    if not (path / "manifest.json").is_file():
        raise FileNotFoundError(
            f"no manifest.json in {path}: the texts lie in the folder book/data of the book's "
            "repository, not in the package; name it, for example GENOPT_DATA=.../book/data in the "
            "environment, or folder=...; your own text: count_words(Path(file).read_text('utf-8'))"
        )
    return path


def _manifest(folder: Path) -> dict[str, dict[str, Any]]:
    rows = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))["corpora"]
    return {row["name"]: row for row in rows}


@lru_cache(maxsize=4)
def _read_checked(path: Path, file_sha256: str, text_sha256: str) -> str:
    # Here and not above: Python in a browser comes without lzma, and needs the other functions.
    import lzma

    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing; book/experiments/common/corpora.py remakes it")
    stored = path.read_bytes()
    if hashlib.sha256(stored).hexdigest() != file_sha256:
        raise ValueError(
            f"{path} ({len(stored)} bytes) is torn or not the file its manifest describes; "
            "book/experiments/common/corpora.py remakes it"
        )
    text = lzma.decompress(stored)
    if hashlib.sha256(text).hexdigest() != text_sha256:
        raise ValueError(f"the text inside {path} is not the one its manifest describes")
    return text.decode("utf-8")
