"""The lifeline of the processes that a command starts: a named pipe that the command holds open.

The system closes it when the command ends, however it ends, and the command closes it when it is interrupted. The
processes then end by themselves, each with its ``finally`` clauses.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

NAME = "lifeline"
GRACE_SECONDS = 2.0
"""Time that processes have to end by themselves."""


class Lifeline:
    """The lifeline of processes that are started later.

    Parameters
    ----------
    directory : Path
        Directory for the named pipe, which the processes know.
    """

    def __init__(self, directory: Path) -> None:
        path = directory / NAME
        os.mkfifo(path)
        self._descriptor = os.open(path, os.O_RDWR)  # opening it to write only would wait for a reader

    @contextmanager
    def of(self, process: subprocess.Popen[Any]) -> Iterator[None]:
        """Hold the lifeline during the ``with`` block; then wait until the process has ended, for the time of grace."""
        try:
            yield
        finally:
            os.close(self._descriptor)
            with suppress(subprocess.TimeoutExpired):
                process.wait(GRACE_SECONDS)


def follow(directory: Path) -> None:
    """Raise `TerminatedError` in the main thread, through SIGTERM, when the lifeline in ``directory`` ends.

    If the process is still running after the time of grace, because MPI does not return, it exits.
    """
    threading.Thread(target=_follow, args=(directory / NAME,), name="lifeline", daemon=True).start()


def _follow(path: Path) -> None:
    with suppress(FileNotFoundError):  # the command has ended and removed it
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # without a writer, opening would wait for one
        os.set_blocking(descriptor, True)
        os.read(descriptor, 1)
    shutil.rmtree(path.parent, ignore_errors=True)  # a killed command has left it
    signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGTERM)
    time.sleep(GRACE_SECONDS)
    os._exit(0)
