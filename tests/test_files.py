"""Files written whole or not at all, and what is at the path kept for what it is."""

import errno
import io
import os
import stat
import subprocess
import sys
import threading

import numpy as np
import pytest

from genopt_core.files import check_writable, whole_file, write_json, write_text


@pytest.fixture
def umask():
    before = os.umask(0o027)
    yield 0o027
    os.umask(before)


@pytest.fixture
def pipe(tmp_path):
    """A named pipe, and what a reader got out of it."""
    path, got = tmp_path / "pipe", []
    os.mkfifo(path)
    reader = threading.Thread(target=lambda: got.append(path.read_bytes()), daemon=True)
    reader.start()

    def read():
        reader.join(10)
        return b"".join(got)

    yield path, read
    reader.join(10)


def mode(path):
    return stat.S_IMODE(os.stat(path).st_mode)


def test_a_pipe_stays_one_and_its_reader_gets_all(pipe, tmp_path):
    path, read = pipe
    write_json(path, {"a": 1})
    assert read() == b'{"a":1}\n'
    assert stat.S_ISFIFO(os.lstat(path).st_mode)
    assert [p.name for p in tmp_path.iterdir()] == ["pipe"]


def test_a_pipe_that_a_link_leads_to_stays_one(pipe, tmp_path):
    path, read = pipe
    (tmp_path / "link").symlink_to(path)
    write_text(tmp_path / "link", "low")
    assert read() == b"low"
    assert (tmp_path / "link").is_symlink()
    assert stat.S_ISFIFO(os.lstat(path).st_mode)


def test_a_library_that_cannot_go_back_in_a_pipe_writes_to_it(pipe):
    path, read = pipe
    with whole_file(path) as file:
        np.savez(file, a=np.arange(3))
    with np.load(io.BytesIO(read())) as stored:
        assert stored["a"].tolist() == [0, 1, 2]


def test_a_descriptor_of_a_pipe_is_written_to():
    """What a shell hands over for ``>(wc -c)``."""
    out, into = os.pipe()
    write_text(f"/proc/self/fd/{into}", "low")
    os.close(into)
    with open(out, "rb") as file:
        assert file.read() == b"low"


def test_a_file_without_a_name_is_written_to(tmp_path):
    with open(tmp_path / "a", "wb+") as file:
        (tmp_path / "a").unlink()
        write_text(f"/proc/self/fd/{file.fileno()}", "low")
        assert file.read() == b"low"
    assert list(tmp_path.iterdir()) == []


def test_what_a_shell_has_opened_is_written_to_and_not_replaced(tmp_path):
    """As ``(echo before; train -o /dev/stdout; echo after) > file`` needs."""
    with open(tmp_path / "a", "wb") as file:
        file.write(b"before ")
        file.flush()
        write_text(f"/dev/fd/{file.fileno()}", "low")
        file.seek(0, os.SEEK_END)
        file.write(b" after")
    assert (tmp_path / "a").read_bytes() == b"before low after"


def test_through_links_the_file_they_lead_to_is_written(tmp_path):
    there, folder = tmp_path / "there", tmp_path / "folder"
    folder.mkdir()
    there.write_text("old")
    (folder / "one").symlink_to("../there")
    (tmp_path / "two").symlink_to(folder / "one")
    write_text(tmp_path / "two", "new")
    assert there.read_text() == "new"
    assert (tmp_path / "two").is_symlink()
    assert (folder / "one").is_symlink()
    (folder / "none").symlink_to(tmp_path / "made")  # leads to no file yet
    write_text(folder / "none", "made")
    assert (tmp_path / "made").read_text() == "made"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["folder", "made", "there", "two"]
    (tmp_path / "round").symlink_to("round")
    with pytest.raises(OSError, match="round"):
        write_text(tmp_path / "round", "")


@pytest.mark.parametrize("bits", [0o600, 0o644, 0o640, 0o755, 0o666])
def test_a_file_keeps_its_mode(tmp_path, bits, umask):
    path = tmp_path / "a"
    path.write_text("old")
    path.chmod(bits)
    write_text(path, "new")
    assert mode(path) == bits
    assert path.read_text() == "new"


def test_a_new_file_has_the_mode_that_open_gives(tmp_path, umask):
    write_text(tmp_path / "ours", "")
    (tmp_path / "usual").write_text("")
    assert mode(tmp_path / "ours") == mode(tmp_path / "usual") == 0o640


def test_on_the_way_nobody_reads_what_is_for_the_owner(tmp_path, umask):
    (tmp_path / "a").touch(0o600)
    with whole_file(tmp_path / "a") as file:
        assert mode(file.name) == 0o600


@pytest.mark.skipif(getattr(os, "getuid", lambda: 1)() != 0, reason="only root gives files away")
def test_a_file_keeps_its_owner(tmp_path):
    path = tmp_path / "a"
    path.write_text("old")
    os.chown(path, 1234, 2345)
    path.chmod(0o4750)
    write_text(path, "new")
    assert (path.stat().st_uid, path.stat().st_gid, mode(path)) == (1234, 2345, 0o4750)


def test_who_cannot_give_a_group_away_gives_it_no_rights(tmp_path, monkeypatch):
    path = tmp_path / "a"
    path.write_text("old")
    path.chmod(0o6775)
    found = os.stat(path)

    def other(which, *, seen=os.stat, **how):
        told = seen(which, **how)
        if str(which).endswith(".part"):
            return os.stat_result((*told[:4], found.st_uid + 1, found.st_gid + 1, *told[6:]))
        return told

    def refused(*_):
        raise PermissionError(errno.EPERM, "no")

    monkeypatch.setattr(os, "chown", refused)
    monkeypatch.setattr(os, "stat", other)
    write_text(path, "new")
    monkeypatch.undo()
    assert (path.read_text(), mode(path)) == ("new", 0o705)


def test_a_file_that_may_not_be_written_is_left_alone(tmp_path, monkeypatch):
    path = tmp_path / "a"
    path.write_text("old")
    allowed = os.access
    monkeypatch.setattr(os, "access", lambda p, how: p != path and allowed(p, how))
    for write in (lambda: write_text(path, "new"), lambda: check_writable(path)):
        with pytest.raises(PermissionError) as caught:
            write()
        assert caught.value.filename == str(path)
    assert path.read_text() == "old"


def test_errors_name_the_file_that_was_asked_for(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    for path, kind in (
        (tmp_path / "none" / "a", FileNotFoundError),
        (tmp_path / "file" / "a", NotADirectoryError),
        (tmp_path, IsADirectoryError),
        (tmp_path / ("a" * 300), OSError),
    ):
        with pytest.raises(kind) as caught:
            write_text(path, "")
        assert os.fspath(caught.value.filename) == str(path)
    write_text(tmp_path / ("é" * 120), "")  # as long as a name may be

    def fail(source, target):
        raise OSError(5, "it broke", source)

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="it broke") as caught:
        write_text(tmp_path / "file", "new")
    assert caught.value.filename == str(tmp_path / "file")
    assert (tmp_path / "file").read_text() == ""
    assert len(list(tmp_path.iterdir())) == 2


def test_an_error_of_the_block_is_passed_on_as_it_is(tmp_path):
    error = OSError(5, "of another file", "other")
    with pytest.raises(OSError, match="other") as caught, whole_file(tmp_path / "a"):
        raise error
    assert caught.value is error
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_names_the_file_and_leaves_the_old_one(tmp_path):
    path = tmp_path / "a"
    path.write_text("old")
    code = (
        "import resource, sys; from genopt_core.files import write_text\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "write_text(sys.argv[1], 'a' * 100_000)"
    )
    done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True)
    assert done.stderr.splitlines()[-1].endswith(f"File too large: '{path}'")
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


def test_what_can_be_written_is_told_before(tmp_path, monkeypatch):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to("none/a")
    for name in ("pipe", "file", "new"):
        check_writable(tmp_path / name)
    for path, words in (
        (tmp_path, "is a folder"),
        (tmp_path / "none" / "a", "there is no such folder"),
        (tmp_path / "link", "there is no such folder"),
    ):
        with pytest.raises(OSError, match=words) as caught:
            check_writable(path)
        assert os.fspath(caught.value.filename) == str(path)
    allowed = os.access
    monkeypatch.setattr(os, "access", lambda p, how: p != tmp_path and allowed(p, how))
    check_writable(tmp_path / "pipe")
    for name in ("new", "file"):
        with pytest.raises(PermissionError, match="its folder cannot be written to"):
            check_writable(tmp_path / name)


def test_a_file_has_a_name():
    for write in (check_writable, lambda path: write_text(path, "new")):
        with pytest.raises(FileNotFoundError, match="must be the name of a file"):
            write("")


@pytest.mark.skipif(getattr(os, "getuid", lambda: 1)() != 0, reason="root alone is somebody else")
def test_another_ones_file_in_a_sticky_folder_cannot_be_replaced(tmp_path, monkeypatch):
    path = tmp_path / "a"
    path.write_text("old")
    tmp_path.chmod(0o1777)
    check_writable(path)
    monkeypatch.setattr(os, "getuid", lambda: 4321)
    with pytest.raises(PermissionError, match="only its owner can replace it"):
        check_writable(path)
