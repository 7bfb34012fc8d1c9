"""Commands on a terminal, for tests of what they show there and of Ctrl-C."""

from __future__ import annotations

import os
import pty
import select
import time
from collections.abc import Callable


class OnTerminal:
    """A command on a pseudo-terminal, which is its controlling terminal."""

    def __init__(self, command: list[str], **environment: str) -> None:
        self.pid, self.terminal = pty.fork()
        if self.pid == 0:
            threads = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
            os.execvpe(command[0], command, {**os.environ, "TERM": "xterm", **threads, **environment})
        self.shown = b""

    def read_until(self, condition: Callable[[], object], seconds: float = 30.0) -> None:
        """Read what is shown until the condition holds."""
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, self.shown
            if select.select([self.terminal], [], [], 0.02)[0]:
                try:
                    self.shown += os.read(self.terminal, 65536)
                except OSError:  # no process has the terminal open
                    time.sleep(0.02)

    def wait(self) -> int:
        """Read to the end and return the exit code, negative for a signal."""
        ended: list[int] = []

        def has_ended() -> bool:
            if not ended and (waited := os.waitpid(self.pid, os.WNOHANG))[0]:
                ended.append(os.waitstatus_to_exitcode(waited[1]))
            return bool(ended)

        self.read_until(has_ended)
        while select.select([self.terminal], [], [], 0)[0]:
            try:
                self.shown += os.read(self.terminal, 65536)
            except OSError:
                break
        os.close(self.terminal)
        return ended[0]
