"""Which ranks of a communicator have entered a call: each counts its calls in a slot that the others read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from syncbn.comm.liveness import shutdown
from syncbn.comm.liveness.process_page import SLOTS, WORDS, PageAddress, ProcessPage

CLOSED, CASCADING = -1, -2
"""Instead of a number of calls: the rank will make no further call, after an error of its own or the loss of a rank."""

_REASONS = {
    CLOSED: "closed the communicator after an error",
    CASCADING: "closed the communicator after the loss of another rank",
}

_free_words = list(range(WORDS - 1, SLOTS - 1, -1))


class Slot(NamedTuple):
    """The word of one rank of one communicator, on the page of its process."""

    page: ProcessPage
    word: int

    @property
    def calls(self) -> int:
        """The number of calls that the rank has entered, or CLOSED, or CASCADING."""
        return self.page.words[self.word]


class RankTable:
    """The slots of all ranks of a communicator, as one of them sees them.

    Parameters
    ----------
    rank, size : int
    name : str
        Name of the communicator in messages.

    Attributes
    ----------
    own : Slot
    calls : ndarray of one int64
        The word of the own slot.
    others : dict of int to Slot
        The slots of the ranks in other processes of this node; filled by `connect`.
    """

    def __init__(self, rank: int, size: int, name: str) -> None:
        self.rank = rank
        self.size = size
        self.name = name
        if not _free_words:
            raise ValueError(f"{WORDS - SLOTS} communicators are open: free() those that are not needed")
        self.own = Slot(ProcessPage.own(), _free_words.pop())
        self.others: dict[int, Slot] = {}
        self.calls = np.asarray(self.own.page.words[self.own.word : self.own.word + 1])
        self.calls[0] = 0

    @property
    def address(self) -> tuple[int, ...]:
        """Four integers by which other processes find this rank's slot."""
        return (*self.own.page.address, self.own.word)

    def connect(self, addresses: Sequence[Sequence[int]]) -> None:
        """Observe the ranks with these addresses from now on, if they can be observed, and be observed by them."""
        for rank, (*address, word) in enumerate(addresses):
            page = ProcessPage.find(PageAddress(*address))
            if page is not None and page is not self.own.page:  # a process does not observe itself
                self.others[rank] = Slot(page, word)
        if self.size > 1:
            shutdown.register(self.others)

    @property
    def unknown(self) -> list[int]:
        """The other ranks that can't be observed."""
        return [rank for rank in range(self.size) if rank not in self.others and rank != self.rank]

    def absent(self) -> list[int]:
        """Return the ranks that have not entered the call that this one is in."""
        return [rank for rank, slot in self.others.items() if 0 <= slot.calls < self.own.calls]

    def lost(self) -> dict[int, str]:
        """Return the ranks that will make no further call, and the reasons."""
        reasons = {rank: slot.page.exit_reason or _REASONS.get(slot.calls, "") for rank, slot in self.others.items()}
        return {rank: reason for rank, reason in reasons.items() if reason}

    def is_cascading(self, rank: int) -> bool:
        """Return whether another rank closed the communicator after the loss of a third, however it ended then."""
        return self.others[rank].calls == CASCADING

    def close(self, *, cascading: bool) -> None:
        """Announce that this rank will make no further call."""
        self.calls[0] = CASCADING if cascading else CLOSED

    def free(self) -> None:
        """Free the slot for another communicator; only once no rank can be waiting for this one."""
        shutdown.unregister(self.others)
        _free_words.append(self.own.word)
