"""Files: opening regular ones, replacing them atomically, locking a directory, and showing their names."""

from __future__ import annotations

import errno
import fcntl
import glob
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

DRAFT = ".partial"
LOCKS = Path("/proc/locks")
_TOKEN_BYTES = 8


def check_path(name: str, path: object) -> Path:
    """Return the argument ``name`` as a path; raise TypeError unless it is a str or an ``os.PathLike`` of one."""
    if isinstance(path, (str, os.PathLike)) and isinstance(os.fspath(path), str):
        return Path(path)
    raise TypeError(f"{name} must be a path, a str or an os.PathLike, got {type(path).__name__}")


def printable(text: str) -> str:
    r"""Return the text with its control characters as text, such as ``\x1b`` of a terminal escape in a file's name."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def is_directory(path: Path) -> bool:
    """Return whether there is a directory of this name.

    Raises
    ------
    OSError
        That cannot be found out, as for a name that is too long (`Path.is_dir` returns False from Python 3.14 on).
    """
    try:
        return stat.S_ISDIR(path.stat().st_mode)
    except (FileNotFoundError, NotADirectoryError, ValueError):  # ValueError: a name with a null character
        return False


def open_regular(path: Path) -> BinaryIO:
    """Open a file for reading.

    Raises
    ------
    OSError
        The file cannot be opened, or is not regular: reading a FIFO or a device could wait forever.
    """
    file = open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK))  # noqa: SIM115 (it is returned)
    try:
        _check_regular(os.fstat(file.fileno()), path)
    except OSError:
        file.close()
        raise
    return file


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file such that it is complete at any time, either the old one or the new one.

    The content is first written to a draft ``NAME.TOKEN.partial`` in the same directory. Its token is random and its
    writer locks it, so that writers of one file, such as a run and its restart, never disturb each other: the last one
    determines the content. The draft is removed after an error or an interrupt. The draft of a killed writer is removed
    by the next one, unless the file system has no locks. A symbolic link remains, and its target is written.

    Raises
    ------
    OSError
        The file cannot be written, or exists and is not regular.
    """
    path = Path(os.path.realpath(path))
    path.parent.stat()  # an error names a missing directory, not the draft
    with suppress(FileNotFoundError):
        _check_regular(path.stat(), path)
    _remove_stale_drafts(path)
    while not _replace(path, content):
        pass
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)  # writes the new name to the disk
    finally:
        os.close(directory)


def _replace(path: Path, content: bytes) -> bool:
    """Write the draft and rename it; return False if it was taken for a stale one before it was locked."""
    draft = path.with_name(f"{path.name}.{secrets.token_hex(_TOKEN_BYTES)}{DRAFT}")
    try:
        with draft.open("xb") as file:  # does not follow a symbolic link
            with suppress(OSError):  # a file system without locks
                fcntl.flock(file, fcntl.LOCK_EX)
            if not draft.exists():
                return False
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
            draft.replace(path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
    return True


def _remove_stale_drafts(path: Path) -> None:
    """Remove the drafts whose writers have ended, which their locks show."""
    token = "[0-9a-f]" * (2 * _TOKEN_BYTES)
    for draft in path.parent.glob(f"{glob.escape(path.name)}.{token}{DRAFT}"):
        with suppress(OSError):  # its writer is alive or has finished, or there are no locks
            descriptor = os.open(draft, os.O_RDWR | os.O_NOFOLLOW)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                draft.unlink(missing_ok=True)
            finally:
                os.close(descriptor)


@contextmanager
def directory_lock(directory: Path) -> Iterator[None]:
    """Lock a directory for this process during the ``with`` block. The lock leaves no file and ends with the process.

    There is no lock where the file system has none.

    Raises
    ------
    BlockingIOError
        Another process holds the lock; its ``strerror`` is a description of this process.
    """
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise BlockingIOError(error.errno, _holder(os.fstat(descriptor)), str(directory)) from None
        except OSError:
            pass
        yield
    finally:
        os.close(descriptor)


def _holder(status: os.stat_result) -> str:
    """Return ``process PID``, the holder of the lock on a file, or ``another process`` if the system does not tell."""
    file = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}:{status.st_ino}"
    with suppress(OSError):
        for line in LOCKS.read_text().splitlines():  # 1: FLOCK  ADVISORY  WRITE 4711 fe:01:1234 0 EOF
            words = line.split()
            if words[1] == "FLOCK" and words[5] == file:
                return f"process {words[4]}"
    return "another process"


def _check_regular(status: os.stat_result, path: Path) -> None:
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "not a regular file", str(path))
