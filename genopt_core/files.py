"""Files written whole or not at all."""

import contextlib
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO


@contextmanager
def whole_file(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """A file to write bytes to, which takes the place of ``path`` when the block ends well.

    If the block raises, nothing is left behind and a file that was there stays as it was.  A block
    that hands the file to a library by name may do so by ``file.name``.

    >>> target = Path(tempfile.mkdtemp()) / "letters.txt"
    >>> with whole_file(target) as file:
    ...     _ = file.write(b"abc")
    >>> target.read_bytes(), [p.name for p in target.parent.iterdir()]
    (b'abc', ['letters.txt'])
    """
    target = Path(path)
    handle, scratch = tempfile.mkstemp(prefix=f".{target.name}.", suffix=".part", dir=target.parent)
    os.close(handle)
    try:
        with open(scratch, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        mask = os.umask(0)
        os.umask(mask)
        os.chmod(scratch, 0o666 & ~mask)  # mkstemp's files are for their owner alone
        os.replace(scratch, target)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(scratch)
        raise
    with contextlib.suppress(OSError):  # the rename itself; not every system can
        folder = os.open(target.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """``text`` in UTF-8 with its line ends as they are, whole or not at all."""
    with whole_file(path) as file:
        file.write(text.encode("utf-8"))


def write_json(path: str | os.PathLike[str], content: Any, *, indent: int | None = None) -> None:
    """``content`` as JSON (one line without ``indent``), whole or not at all."""
    separators = (",", ":") if indent is None else None
    text = json.dumps(content, ensure_ascii=False, indent=indent, separators=separators)
    write_text(path, text + "\n")
