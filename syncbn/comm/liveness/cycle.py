"""Cycles of processes that wait for each other in different calls."""

from __future__ import annotations

import hashlib
from typing import NamedTuple

from syncbn.comm.liveness.process_page import CYCLE, POLLS, RAISED, WAIT, ProcessPage


class Cycle(NamedTuple):
    """The processes of a cycle, as one of them sees it at one poll; no processes where there is no cycle.

    Each process reports on its page for which other one it waits, and does so again at each of its polls.
    """

    pages: tuple[ProcessPage, ...] = ()
    waits: tuple[int, ...] = ()
    polls: tuple[int, ...] = ()
    texts: tuple[str, ...] = ()
    reports: tuple[str, ...] = ()

    @classmethod
    def find(cls, process: ProcessPage) -> Cycle:
        """Follow the waits from ``process``; return the cycle if they lead back to it."""
        pages: list[ProcessPage] = []
        current: ProcessPage | None = process
        while current is not None and current not in pages and current.words[WAIT]:
            pages.append(current)
            current = current.blocker
        if current is not process or not pages:
            return cls()
        return cls(
            tuple(pages),
            tuple(page.words[WAIT] for page in pages),
            tuple(page.words[POLLS] for page in pages),
            tuple(page.text for page in pages),
            tuple(page.text for page in pages if page.words[RAISED]),
        )

    @property
    def key(self) -> int:
        """A number that identifies the cycle: the same for all its processes, and of no other cycle."""
        waits = sorted((*page.address, wait) for page, wait in zip(self.pages, self.waits, strict=True))
        return int.from_bytes(hashlib.blake2b(repr(waits).encode(), digest_size=8).digest(), "little") >> 2

    @property
    def is_given_up(self) -> bool:
        """True if one of the processes has raised because of this cycle."""
        return bool(self.pages) and any(page.words[CYCLE] == self.key for page in self.pages)

    def persists(self, later: Cycle) -> bool:
        """Return whether no process can continue: all are in the same waits later, and each has polled twice since."""
        return (
            bool(self.pages)
            and (self.pages, self.waits) == (later.pages, later.waits)
            and all(now >= then + 2 for now, then in zip(later.polls, self.polls, strict=True))
        )
