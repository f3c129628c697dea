"""Files written whole or not at all."""

import contextlib
import errno
import json
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

OPENED = "/dev/stdout", "/dev/stderr", "/dev/fd/", "/proc/"
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextmanager
def whole_file(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """A file to write bytes to, which takes the place of ``path`` when the block ends well.

    If the block raises, nothing is left behind and a file that was there stays as it was.  Through
    a symbolic link the file that it points to is written, whose mode stays; a new one has that
    which ``open`` gives.  What is there and no file, such as a pipe, is written to as it stands.
    An ``OSError`` names ``path``.  Do not hand the file to a library by its name, which may put
    another file there.

    >>> import tempfile
    >>> target = Path(tempfile.mkdtemp()) / "letters.txt"
    >>> with whole_file(target) as file:
    ...     _ = file.write(b"abc")
    >>> target.read_bytes(), [p.name for p in target.parent.iterdir()]
    (b'abc', ['letters.txt'])
    """
    target, there = _place(path)
    if target is None:
        held = there is not None and stat.S_ISREG(there.st_mode)  # by a shell, at some place of it
        with _naming(path), open(path, "ab") if held else open(path, "wb") as file:
            yield file
        return
    scratch = target.parent / f".{target.name[:40]}.{os.urandom(4).hex()}.part"
    mode = 0o666 if there is None else 0o600  # nobody reads on the way what is not theirs
    with _naming(path, scratch):
        try:
            with open(scratch, "xb", opener=lambda name, how: os.open(name, how, mode)) as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            if there is not None:
                _like(scratch, there)
            os.replace(scratch, target)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(scratch)
            raise
    with contextlib.suppress(OSError):  # the rename itself; not every system can
        folder = os.open(target.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def check_writable(path: str | os.PathLike[str]) -> None:
    """Refuse, with an ``OSError`` that names ``path``, what `whole_file` could not write to.

    >>> check_writable("no/such/folder/letters.txt")
    Traceback (most recent call last):
    FileNotFoundError: [Errno 2] there is no such folder: 'no/such/folder/letters.txt'
    """
    target, there = _place(path)
    if there is not None and stat.S_ISDIR(there.st_mode):
        raise IsADirectoryError(errno.EISDIR, "is a folder", os.fspath(path))
    if target is None:
        return
    if not target.parent.is_dir():
        raise FileNotFoundError(errno.ENOENT, "there is no such folder", os.fspath(path))
    if not os.access(target.parent, os.W_OK):
        raise PermissionError(errno.EACCES, "its folder cannot be written to", os.fspath(path))
    folder = target.parent.stat()
    own = {0, folder.st_uid, folder.st_uid if there is None else there.st_uid}
    if there and folder.st_mode & stat.S_ISVTX and getattr(os, "getuid", lambda: 0)() not in own:
        raise PermissionError(errno.EPERM, "only its owner can replace it", os.fspath(path))


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """``text`` in UTF-8 with its line ends as they are, whole or not at all."""
    with whole_file(path) as file:
        file.write(text.encode("utf-8"))


def write_json(path: str | os.PathLike[str], content: Any, *, indent: int | None = None) -> None:
    """``content`` as JSON (one line without ``indent``), whole or not at all."""
    separators = (",", ":") if indent is None else None
    text = json.dumps(content, ensure_ascii=False, indent=indent, separators=separators)
    write_text(path, text + "\n")


def _place(path: str | os.PathLike[str]) -> tuple[Path | None, os.stat_result | None]:
    """The file to replace, where links lead, and what is there; None where nothing can be replaced.

    Refused is what may not be written, as by ``open``.
    """
    if not os.fspath(path):
        raise FileNotFoundError(errno.ENOENT, "must be the name of a file", os.fspath(path))
    target = Path(os.path.realpath(path))
    try:
        there = os.stat(path)
    except FileNotFoundError:
        return target, None
    if not os.access(path, os.W_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), os.fspath(path))
    # Such names lead to what a shell has opened and others go on writing to, or nowhere.
    opened = os.path.abspath(path).startswith(OPENED)
    same = not opened and target.exists() and os.path.samefile(path, target)
    return (target if stat.S_ISREG(there.st_mode) and same else None), there


def _like(scratch: Path, there: os.stat_result) -> None:
    """Mode of the file that was there, and owner and group, where they may be given."""
    mode = stat.S_IMODE(there.st_mode)
    if hasattr(os, "chown"):
        try:
            os.chown(scratch, there.st_uid, there.st_gid)
        except OSError:
            with contextlib.suppress(OSError):
                os.chown(scratch, -1, there.st_gid)
    now = os.stat(scratch)
    if now.st_uid != there.st_uid:
        mode &= ~stat.S_ISUID
    if now.st_gid != there.st_gid:  # another group may not do what that one might
        mode &= ~(stat.S_ISGID | stat.S_IRWXG)
    os.chmod(scratch, mode)  # last: a new owner clears bits


@contextmanager
def _naming(path: str | os.PathLike[str], scratch: Path | None = None) -> Iterator[None]:
    """Errors of writing name the file that was asked for."""
    try:
        yield
    except OSError as error:
        ours = error.filename is not None and os.fspath(error.filename) == os.fspath(scratch or "")
        if not ours and not (error.filename is None and error.errno in _FULL):
            raise
        raise OSError(error.errno, error.strerror, os.fspath(path)) from None
