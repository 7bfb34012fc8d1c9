"""The checkpoint files of one training, by which it notices those of another one."""

from __future__ import annotations

import stat
from contextlib import suppress
from pathlib import Path


class KnownFiles:
    """Files in the state in which this training has written or read them."""

    def __init__(self) -> None:
        self._states: dict[Path, tuple[int, ...]] = {}

    def add(self, path: Path) -> None:
        """Store the present state of a file."""
        if (state := _state(path)) is not None:
            self._states[path] = state

    def is_new(self, path: Path) -> bool:
        """Return whether there is a file that this training has neither written nor read."""
        return path not in self._states and _state(path) is not None

    def is_changed(self, path: Path) -> bool:
        """Return whether another program has replaced a file that this training has written or read."""
        return path in self._states and _state(path) not in (None, self._states[path])


def _state(path: Path) -> tuple[int, ...] | None:
    """Return what identifies a regular file and its contents, or None if there is none."""
    with suppress(OSError):
        status = path.stat()
        if stat.S_ISREG(status.st_mode):
            return status.st_dev, status.st_ino, status.st_mtime_ns, status.st_size
    return None
