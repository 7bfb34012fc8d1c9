"""What the processes of a node know of each other: each has a page that it writes and all others read.

The page is anonymous memory (memfd) that others open as ``/proc/PID/fd/FD``: it needs no name and no cleaning up,
however its owner ends. Where that fails (on another node, in another container, on another system than Linux), nothing
is known of a process.

Layout of a page, in words of int64::

    NONCE      a random number, by which others verify that they opened the right page
    STARTED    when the process started, which distinguishes it from a later one with the same process id
    FINISHED   1 once the script has finished
    WAIT       number of the wait that the process is in; 0 while it does not wait, or not for long
    POLLS      how often it has polled the pages of others
    BLOCKER    (3 words) address of the page of a process that it waits for, or zeros
    TEXT       a text's length in bytes, and the text: what it waits for, or the error that it ended with
    SLOTS …    one word for each communicator: see `syncbn.comm.liveness.rank_table`
"""

from __future__ import annotations

import mmap
import os
import secrets
from functools import cache
from pathlib import Path
from typing import NamedTuple

NONCE, STARTED, FINISHED, WAIT, POLLS, BLOCKER, TEXT, SLOTS = 0, 1, 2, 3, 4, 5, 8, 128

WORDS = 8192
"""Memory that is never touched costs nothing, and no MPI library has capacity for so many communicators."""

_NAME = "syncbn-process"


class PageAddress(NamedTuple):
    """Where the page of a process is."""

    pid: int
    descriptor: int
    nonce: int


class ProcessPage:
    """The page of one process: `own` to write, `find` to read that of another."""

    def __init__(self, address: PageAddress, memory: mmap.mmap) -> None:
        self.address = address
        self.words = memoryview(memory).cast("q")
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
        """Return the page at ``address``, or None where it can't be read."""
        if address == ProcessPage.own().address:
            return ProcessPage.own()
        path = Path(f"/proc/{address.pid}/fd/{address.descriptor}")
        try:
            if not path.readlink().name.startswith(f"memfd:{_NAME}"):  # do not open what may be a pipe or a terminal
                return None
            with path.open("rb") as file:
                found = ProcessPage(address, mmap.mmap(file.fileno(), 8 * WORDS, prot=mmap.PROT_READ))
        except (OSError, ValueError):
            return None
        return found if found.words[NONCE] == address.nonce else None

    @property
    def blocker(self) -> ProcessPage | None:
        """The process that this one waits for, as far as known."""
        return ProcessPage.find(PageAddress(*self.words[BLOCKER : BLOCKER + 3])) if self.words[BLOCKER] else None

    @blocker.setter
    def blocker(self, other: ProcessPage | None) -> None:
        for i, word in enumerate(other.address if other else (0, 0, 0)):
            self.words[BLOCKER + i] = word

    @property
    def text(self) -> str:
        """What the process waits for, or the error that it ended with; may be torn while it writes."""
        start = 8 * (TEXT + 1)
        return self._memory[start : start + self.words[TEXT]].decode(errors="replace")

    @text.setter
    def text(self, text: str) -> None:
        content = text.encode(errors="replace")[: 8 * (SLOTS - TEXT - 1)]
        start = 8 * (TEXT + 1)
        self._memory[start : start + len(content)] = content
        self.words[TEXT] = len(content)

    @property
    def crashed(self) -> bool:
        """Whether the process has exited and its script has not finished."""
        if self.words[FINISHED]:
            return False
        state, started = _state(self.address.pid)
        return state in "ZX" or started != self.words[STARTED]

    @property
    def exit_reason(self) -> str:
        """How the process ended; "" while it runs."""
        if self.words[FINISHED]:
            return f"ended with {self.text}" if self.text else "exited without making this call"
        return "crashed or called os._exit; see that rank's output" if self.crashed else ""


def _state(pid: int) -> tuple[str, int]:
    """Return the state of a process according to Linux (Z: exited, and its parent does not know yet) and its start."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return "X", 0
    return fields[0], int(fields[19])
