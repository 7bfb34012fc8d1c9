"""A watchdog that ends a rank at a deadline, after all ranks have had time to write their stacks."""

from __future__ import annotations

import faulthandler
import os
import sys
import threading
import time
import traceback
from types import FrameType

GRACE_SECONDS = 2.0
"""Delay before exit, because the exit of the first rank ends the others, which must have written their stacks."""

_HIDDEN = ("/_pytest/", "/pytest/", "/pluggy/", "/mpi4py/__main__.py", "/mpi4py/run.py", "<frozen runpy>")


class Watchdog:
    """A deadline in a thread of its own, which also works while the main thread is blocked in MPI.

    The timer of pytest-timeout would end the process immediately, and with it the other ranks before they have written
    their stacks. If the main thread does not release the GIL, faulthandler ends the process a little later.

    Parameters
    ----------
    name : str
        Name of this rank in its messages.
    stderr : int
        File descriptor for these.
    """

    def __init__(self, name: str, stderr: int) -> None:
        self.name = name
        self._stderr = stderr
        self.failure = ""
        """A failure of this rank that pytest has not reported yet."""
        self._timer: threading.Timer | None = None

    def arm(self, seconds: float, activity: str) -> None:
        """Replace the deadline: ``activity`` may take ``seconds`` from now."""
        self.disarm()
        self._timer = threading.Timer(seconds, self._expire, (seconds, activity))
        self._timer.daemon = True
        self._timer.start()
        faulthandler.dump_traceback_later(seconds + 3 * GRACE_SECONDS, file=self._stderr, exit=True)

    def disarm(self) -> None:
        """Cancel the deadline."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
            faulthandler.cancel_dump_traceback_later()

    def log(self, text: str) -> None:
        """Write ``text``, bypassing the capture of pytest."""
        os.write(self._stderr, f"{text}\n".encode())

    def _expire(self, seconds: float, activity: str) -> None:
        self.log(f"\n{self.name}: TIMEOUT after {seconds:g} s in {activity}")
        if self.failure:
            self.log(f"{self.name} had failed before:\n{self.failure}")
        names = {thread.ident: thread.name for thread in threading.enumerate()}
        for ident, frame in sys._current_frames().items():
            if ident != threading.get_ident():
                self.log(f"{self.name}: stack of {names.get(ident, ident)}, innermost call last:\n{_format(frame)}")
        time.sleep(GRACE_SECONDS)
        os._exit(1)


def _format(frame: FrameType) -> str:
    """Return the stack without the frames of pytest and mpi4py."""
    entries = [entry for entry in traceback.extract_stack(frame) if not any(m in entry.filename for m in _HIDDEN)]
    return "".join(traceback.format_list(entries))
