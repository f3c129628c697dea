"""The texts this book counts on: found, checked against a stored hash, and cut into words.

A corpus is a plain text with a known origin, license and SHA-256.  The texts lie beside the book
(``book/data``), compressed, each described by one row of ``manifest.json``; they are too large to
travel inside the package.  Everything is read, nothing is downloaded.
"""

import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

from genopt_core.checks import one_of
from genopt_core.conventions import END_OF_WORD, Convention, as_convention, check_text

__all__ = [
    "END_OF_WORD",
    "Convention",
    "names",
    "describe",
    "load",
    "check_text",
    "pretokenize",
    "count_words",
    "data_path",
]


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


def pretokenize(text: str, convention: str | Convention = "lossless") -> Iterator[str]:
    r"""Words of a text, one after the other, before any sub-word encoding.

    Parameters
    ----------
    text : str
        Any text.
    convention : str or Convention
        The rule, by its name or as a `Convention`, which lists them all.
        ``"lossless"``: a word is a run of letters (and their combining marks), a run of digits,
        or one other character, and ends with U+2581 exactly when a blank follows.  Joining the
        words and turning each U+2581 back into a blank restores the text, with each run of
        blanks as one blank and none at the two ends.
        ``"lossless-front"``: it begins with U+2581 exactly when a blank stands before it.
        ``"textbook"``: lower-case runs of letters, each ending with U+2581; digits, punctuation
        and case are lost.  This is the form in which the method is usually explained.

    Notes
    -----
    By these three rules the text is brought to Unicode NFC first, so that an accented letter is
    one character, and a U+2581 that is already in it is read as a blank; by all others every blank
    and line feed counts as it stands.  Time is linear in the text.

    Examples
    --------
    >>> list(pretokenize("The newest, in 1790."))
    ['The▁', 'newest', ',▁', 'in▁', '1790', '.']
    >>> list(pretokenize("The newest, in 1790.", "lossless-front"))
    ['The', '▁newest', ',', '▁in', '▁1790', '.']
    >>> list(pretokenize("The newest, in 1790.", "textbook"))
    ['the▁', 'newest▁', 'in▁']
    >>> list(pretokenize("कानून का राज"))
    ['कानून▁', 'का▁', 'राज']
    >>> list(pretokenize("x = 10\n\ny", "gpt2"))
    ['x', 'Ġ=', 'Ġ10', 'Ċ', 'Ċ', 'y']
    """
    return as_convention(convention).words(text)


def count_words(text: str, convention: str | Convention = "lossless") -> dict[str, int]:
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

    >>> data_path("results/kv_quality.json").name
    'kv_quality.json'
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
    unpacked = path.with_suffix("")  # Python in a browser comes without lzma: there texts lie so
    if not path.is_file() and unpacked.is_file():
        return _checked(unpacked.read_bytes(), unpacked, text_sha256)
    import lzma

    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing; book/experiments/common/corpora.py remakes it")
    stored = path.read_bytes()
    if hashlib.sha256(stored).hexdigest() != file_sha256:
        raise ValueError(
            f"{path} ({len(stored)} bytes) is torn or not the file its manifest describes; "
            "book/experiments/common/corpora.py remakes it"
        )
    return _checked(lzma.decompress(stored), path, text_sha256)


def _checked(text: bytes, path: Path, text_sha256: str) -> str:
    if hashlib.sha256(text).hexdigest() != text_sha256:
        raise ValueError(f"the text inside {path} is not the one its manifest describes")
    return text.decode("utf-8")
