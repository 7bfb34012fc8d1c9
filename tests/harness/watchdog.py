"""Ends a rank that waits too long, once every rank has had the time to show where it is."""

from __future__ import annotations

import os
import sys
import threading
import time
import traceback
from collections.abc import Callable
from types import FrameType

GRACE_SECONDS = 2.0
"""The first rank to exit takes the others with it: each waits this long, so that all stacks are written."""

_MACHINERY = ("/_pytest/", "/pytest/", "/pluggy/", "/mpi4py/__main__.py", "/mpi4py/run.py", "<frozen runpy>")


class Watchdog:
    """One deadline at a time, kept by a thread: it acts while the main thread is stuck in MPI.

    pytest-timeout's own timer would end the process at once, and with it the other ranks, whose
    stacks nobody would see then.
    """

    def __init__(self, name: str, tell: Callable[[str], object]) -> None:
        self.name = name
        self.tell = tell
        self.failure = ""
        """A failure of this rank that pytest has not shown yet."""
        self._timer: threading.Timer | None = None

    def arm(self, seconds: float, what: str) -> None:
        """Allow ``what`` so many seconds from now; replaces the deadline before."""
        self.disarm()
        self._timer = threading.Timer(seconds, self._expire, (seconds, what))
        self._timer.daemon = True
        self._timer.start()

    def disarm(self) -> None:
        """Drop the deadline."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _expire(self, seconds: float, what: str) -> None:
        self.tell(f"\n{self.name}: TIMEOUT after {seconds:g} s in {what}")
        if self.failure:
            self.tell(f"{self.name} had failed before:\n{self.failure}")
        names = {thread.ident: thread.name for thread in threading.enumerate()}
        for ident, frame in sys._current_frames().items():
            if ident != threading.get_ident():
                self.tell(f"{self.name}: stack of {names.get(ident, ident)}, innermost call last:\n{_format(frame)}")
        time.sleep(GRACE_SECONDS)
        os._exit(1)


def _format(frame: FrameType) -> str:
    """Return the stack without the frames of pytest itself."""
    entries = [entry for entry in traceback.extract_stack(frame) if not any(m in entry.filename for m in _MACHINERY)]
    return "".join(traceback.format_list(entries))
