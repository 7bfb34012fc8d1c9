"""The page of a process: shared memory that the process writes and all other processes of its node read.

The page is anonymous memory (memfd), which others open as ``/proc/PID/fd/FD``. It has no name, and Linux removes it
when its owner exits. A process whose page cannot be opened (on another node, in another container, or on a system other
than Linux) cannot be observed.

Layout of a page, in words of int64::

    NONCE      random number, by which others verify that they have opened the right page
    STARTED    start time of the process, which distinguishes it from a later one with the same process id
    FINISHED   COMPLETE once the script has finished or finalized MPI, or PENDING if it abandoned a pending operation;
               PRINTING while it prints its uncaught error
    WAIT       number of the current long wait; 0 outside of long waits
    POLLS      number of polls of the pages of others
    BLOCKER    (3 words) address of the page of a process for which this one waits, or zeros
    RAISED     1 while the process waits only to report an error of its own
    CYCLE      key of the cycle of waits because of which the process abandoned its latest wait
    TEXT       length in bytes and text of a description: the call in which the process waits, or how it ended
    CONSTRUCTIONS …  two words for each group of processes: see `syncbn.comm.liveness.construction`
    SLOTS …    one word for each communicator: see `syncbn.comm.liveness.rank_table`
"""

from __future__ import annotations

import mmap
import os
import secrets
from functools import cache
from pathlib import Path
from typing import NamedTuple

NONCE, STARTED, FINISHED, WAIT, POLLS, BLOCKER, RAISED, CYCLE, TEXT = 0, 1, 2, 3, 4, 5, 8, 9, 10
CONSTRUCTIONS, SLOTS = 128, 2176

COMPLETE, PENDING, PRINTING = 1, 2, 3

EXITED = "exited without making this call"
"""Reason why a process enters no further call if its script has ended without an error."""

FINALIZED = "finalized MPI without making this call"
"""Reason why a process enters no further call once it has called ``MPI.Finalize``."""

WORDS = 8192
"""Size of a page. Untouched memory is never allocated, and no MPI library has that many communicators."""

_NAME = "syncbn-process"


class PageAddress(NamedTuple):
    """Address of the page of a process."""

    pid: int
    descriptor: int
    nonce: int


class ProcessPage:
    """The page of one process: `own` returns that of this process, `find` that of another, which is read-only."""

    def __init__(self, address: PageAddress, memory: mmap.mmap) -> None:
        self.address = address
        self.words: memoryview[int] = memoryview(memory).cast("q")
        self._memory = memory

    @staticmethod
    @cache
    def own() -> ProcessPage:
        """Return the page of this process."""
        if not hasattr(os, "memfd_create"):
            descriptor, memory = -1, mmap.mmap(-1, 8 * WORDS)
        else:
            descriptor = os.memfd_create(_NAME)
            os.ftruncate(descriptor, 8 * WORDS)
            memory = mmap.mmap(descriptor, 8 * WORDS)
        own = ProcessPage(PageAddress(os.getpid(), descriptor, secrets.randbits(62) + 1), memory)
        own.words[NONCE], own.words[STARTED] = own.address.nonce, _state(own.address.pid)[1]
        return own

    @staticmethod
    @cache
    def find(address: PageAddress) -> ProcessPage | None:
        """Return the page at ``address``, or None if it cannot be read."""
        if address == ProcessPage.own().address:
            return ProcessPage.own()
        path = Path(f"/proc/{address.pid}/fd/{address.descriptor}")
        try:
            if not path.readlink().name.startswith(f"memfd:{_NAME}"):  # it may be a pipe or a terminal
                return None
            with path.open("rb") as file:
                found = ProcessPage(address, mmap.mmap(file.fileno(), 8 * WORDS, prot=mmap.PROT_READ))
        except (OSError, ValueError):
            return None
        return found if found.words[NONCE] == address.nonce else None

    @property
    def blocker(self) -> ProcessPage | None:
        """The page of a process for which this one waits; None if there is none or it cannot be read."""
        return ProcessPage.find(PageAddress(*self.words[BLOCKER : BLOCKER + 3])) if self.words[BLOCKER] else None

    @blocker.setter
    def blocker(self, other: ProcessPage | None) -> None:
        for i, word in enumerate(other.address if other else (0, 0, 0)):
            self.words[BLOCKER + i] = word

    @property
    def text(self) -> str:
        """The call in which the process waits, or how it ended. It may be inconsistent during a write."""
        start = 8 * (TEXT + 1)
        return self._memory[start : start + self.words[TEXT]].decode(errors="replace")

    @text.setter
    def text(self, text: str) -> None:
        content = text.encode(errors="replace")[: 8 * (CONSTRUCTIONS - TEXT - 1)]
        start = 8 * (TEXT + 1)
        self._memory[start : start + len(content)] = content
        self.words[TEXT] = len(content)

    @property
    def crashed(self) -> bool:
        """True if the process has exited before its script has finished."""
        if self.words[FINISHED]:
            return False
        state, started = _state(self.address.pid)
        return state in "ZX" or started != self.words[STARTED]

    @property
    def suspended(self) -> bool:
        """True if the process is stopped, by a signal or a debugger."""
        return _state(self.address.pid)[0] in "Tt"

    @property
    def exit_reason(self) -> str:
        """Reason why the process will enter no further call; "" while it runs."""
        if self.words[FINISHED]:
            return self.text or EXITED
        return "crashed or called os._exit; see that rank's output" if self.crashed else ""


def _state(pid: int) -> tuple[str, int]:
    """Return the state of a process in Linux (Z: zombie, X: dead or unknown, T, t: stopped) and its start time."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return "X", 0
    return fields[0], int(fields[19])
