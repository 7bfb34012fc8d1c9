"""What the processes of a node may know of each other: each has a page that it writes and all others read.

The page is anonymous memory (memfd) that others open as ``/proc/PID/fd/FD``: it needs no name and no
cleaning up, whatever becomes of its owner. Where that fails (another node, another container, another
system than Linux), nothing is known of a process, and nothing is claimed.

Words of a page, all int64::

    NONCE      a random number, by which others know that they opened the right page
    STARTED    when the process started, which tells it from a later one of the same number
    ENDED      IN_ORDER once its script is at an end, VANISHED once it has called os._exit
    WAIT       number of the wait that it is in; 0 while it does not wait, or not for long
    LOOKS      how often it has looked at the pages of others
    BLOCKER    (3 words) address of the page of a process that it waits for, or zeros
    TEXT       a text's length in bytes, and the text: what it waits for, or what it ended with
    SEATS …    one word for each communicator: see `syncbn.comm.board`
"""

from __future__ import annotations

import mmap
import os
import secrets
from functools import cache
from pathlib import Path
from typing import NamedTuple

NONCE, STARTED, ENDED, WAIT, LOOKS, BLOCKER, TEXT, SEATS = 0, 1, 2, 3, 4, 5, 8, 128

WORDS = 8192
"""Pages that are never touched cost nothing, and no MPI library has room for so many communicators."""

IN_ORDER, VANISHED = 1, 2

_NAME = "syncbn-presence"


class Address(NamedTuple):
    """Where the page of a process is."""

    pid: int
    descriptor: int
    nonce: int


class Presence:
    """The page of one process: `own` to write, `find` to read that of another."""

    def __init__(self, address: Address, memory: mmap.mmap) -> None:
        self.address = address
        self.words = memoryview(memory).cast("q")
        self._memory = memory

    @staticmethod
    @cache
    def own() -> Presence:
        """Return the page of this process."""
        if not hasattr(os, "memfd_create"):
            descriptor, memory = -1, mmap.mmap(-1, 8 * WORDS)
        else:
            descriptor = os.memfd_create(_NAME)
            os.ftruncate(descriptor, 8 * WORDS)
            memory = mmap.mmap(descriptor, 8 * WORDS)
        own = Presence(Address(os.getpid(), descriptor, secrets.randbits(62) + 1), memory)
        own.words[NONCE], own.words[STARTED] = own.address.nonce, _state(own.address.pid)[1]
        return own

    @staticmethod
    @cache
    def find(address: Address) -> Presence | None:
        """Return the page at ``address``, or None where it can't be read."""
        if address == Presence.own().address:
            return Presence.own()
        path = Path(f"/proc/{address.pid}/fd/{address.descriptor}")
        try:
            if not path.readlink().name.startswith(f"memfd:{_NAME}"):  # do not open what may be a pipe or a terminal
                return None
            with path.open("rb") as file:
                found = Presence(address, mmap.mmap(file.fileno(), 8 * WORDS, prot=mmap.PROT_READ))
        except (OSError, ValueError):
            return None
        return found if found.words[NONCE] == address.nonce else None

    @property
    def blocker(self) -> Presence | None:
        """The process that this one waits for, as far as known."""
        return Presence.find(Address(*self.words[BLOCKER : BLOCKER + 3])) if self.words[BLOCKER] else None

    @blocker.setter
    def blocker(self, other: Presence | None) -> None:
        for i, word in enumerate(other.address if other else (0, 0, 0)):
            self.words[BLOCKER + i] = word

    @property
    def text(self) -> str:
        """What the process says of itself; may be torn while it writes."""
        start = 8 * (TEXT + 1)
        return self._memory[start : start + self.words[TEXT]].decode(errors="replace")

    @text.setter
    def text(self, text: str) -> None:
        content = text.encode(errors="replace")[: 8 * (SEATS - TEXT - 1)]
        start = 8 * (TEXT + 1)
        self._memory[start : start + len(content)] = content
        self.words[TEXT] = len(content)

    @property
    def died(self) -> bool:
        """Whether the process is gone, or about to go, and did not come to its end in order."""
        if self.words[ENDED]:
            return self.words[ENDED] == VANISHED
        state, started = _state(self.address.pid)
        return state in "ZX" or started != self.words[STARTED]

    @property
    def ended(self) -> str:
        """How the process came to its end; "" while it lives."""
        if self.words[ENDED] == IN_ORDER:
            return f"ended with {self.text}" if self.text else "came to the end of its script without this call"
        return "was killed or left by os._exit: see what it wrote" if self.died else ""


def _state(pid: int) -> tuple[str, int]:
    """Return the state of a process as Linux tells it (Z: dead, and its parent does not know yet) and its start."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return "X", 0
    return fields[0], int(fields[19])
