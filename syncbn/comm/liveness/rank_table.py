"""The rank table of a communicator: each rank counts its calls in a slot, which the other ranks read."""

from __future__ import annotations

import sys
import threading
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from syncbn.comm.liveness import shutdown
from syncbn.comm.liveness.construction import Construction, group_key
from syncbn.comm.liveness.process_page import SLOTS, WORDS, PageAddress, ProcessPage
from syncbn.pitfalls import see
from syncbn.typing import Int64Array

CLOSED, CASCADING = -1, -2
"""Values of a slot after the rank has closed the communicator: after its own error, or the loss of another rank."""

_REASONS = {
    CLOSED: "closed the communicator after an error",
    CASCADING: "closed the communicator after the loss of another rank",
}

_free_words = list(range(WORDS - 1, SLOTS - 1, -1))

_met: dict[int, ProcessPage] = {}
"""The pages of processes that are in a communicator with this one, by their numbers in all groups."""


class Slot(NamedTuple):
    """The word of one rank of one communicator, on the page of its process."""

    page: ProcessPage
    word: int

    @property
    def calls(self) -> int:
        """Number of calls that the rank has entered, or CLOSED, or CASCADING."""
        return self.page.words[self.word]

    @calls.setter
    def calls(self, calls: int) -> None:
        self.page.words[self.word] = calls


class RankTable:
    """The slots of all ranks of a communicator. Each rank has such a table.

    Until `connect`, it contains the constructions that the ranks have entered, for ranks that are connected already.

    Parameters
    ----------
    rank, size : int
        Number of this rank, and number of ranks.
    name : str
        Name of the communicator in messages.
    members : sequence of int
        Numbers of the processes of the ranks, which are equal in all groups; () if there are none.

    Attributes
    ----------
    own : Slot or Construction
        That of this rank.
    calls : ndarray of one int64
        Memory of the slot of this rank.
    others : dict of int to Slot or Construction
        Those of the ranks in other processes of this node, by rank.
    thread : int
        Identifier of the thread that made the latest call.
    """

    def __init__(self, rank: int, size: int, name: str, members: Sequence[int] = ()) -> None:
        self.rank = rank
        self.size = size
        self.name = name
        if not _free_words:
            raise ValueError(
                f"{WORDS - SLOTS} communicators are open: free() those that are not needed"
                f"{see('too-many-communicators')}"
            )
        page = ProcessPage.own()
        self._slot = Slot(page, _free_words.pop())
        self._members = members
        self.thread: int = threading.get_ident()
        self.own: Slot | Construction = self._slot
        self.others: dict[int, Slot] | dict[int, Construction] = {}
        self.calls: Int64Array = np.asarray(page.words[self._slot.word : self._slot.word + 1])
        self.calls[0] = 0
        if size > 1 and members:
            self._enter_construction(page, group_key(members))

    def _enter_construction(self, page: ProcessPage, key: int) -> None:
        self.own = Construction(page, key)
        if self.own.calls < 0:
            _free_words.append(self._slot.word)
            raise ValueError(
                "an earlier communicator of these ranks could not be constructed, so no other can be: "
                f"start the job again{see('closed-communicators')}"
            )
        if self.own.calls < sys.maxsize:
            self.own.calls += 1
            known = {rank: _met[member] for rank, member in enumerate(self._members) if member in _met}
            self.others = {rank: Construction(known[rank], key) for rank in known if known[rank] is not page}

    @property
    def address(self) -> tuple[int, ...]:
        """Address of this rank's slot for other processes: four integers."""
        return (*self._slot.page.address, self._slot.word)

    def connect(self, addresses: Sequence[Sequence[int]]) -> None:
        """Find the slots with these addresses, which all ranks have exchanged, as far as they can be observed."""
        others: dict[int, Slot] = {}
        for rank, (*address, word) in enumerate(addresses):
            page = ProcessPage.find(PageAddress(*address))
            if page is not None and page is not self.own.page:  # the rank is in another process
                others[rank] = Slot(page, word)
        self.own, self.others = self._slot, others
        _met.update({self._members[rank]: slot.page for rank, slot in others.items() if self._members})
        if self.size > 1:
            shutdown.register(self)

    @property
    def unknown(self) -> list[int]:
        """The other ranks, as far as they cannot be observed."""
        return [rank for rank in range(self.size) if rank not in self.others and rank != self.rank]

    def absent(self) -> list[int]:
        """Return the ranks that have not entered the current call of this rank."""
        return [rank for rank, slot in self.others.items() if 0 <= slot.calls < self.own.calls]

    def entered(self) -> list[int]:
        """Return the other ranks that have entered the current call of this rank."""
        return [rank for rank, slot in self.others.items() if slot.calls >= self.own.calls]

    def lost(self) -> dict[int, str]:
        """Return the ranks that will make no further call, and the reasons."""
        reasons = {rank: slot.page.exit_reason or _REASONS.get(slot.calls, "") for rank, slot in self.others.items()}
        return {rank: reason for rank, reason in reasons.items() if reason}

    def is_cascading(self, rank: int) -> bool:
        """Return whether ``rank`` closed the communicator after the loss of another rank."""
        return self.others[rank].calls == CASCADING

    def close(self, *, cascading: bool) -> None:
        """Report that this rank will make no further call; ``cascading`` if it has lost another rank."""
        self.own.calls = CASCADING if cascading else CLOSED

    def free(self) -> None:
        """Free the slot for another communicator. No rank may be waiting for this one."""
        shutdown.unregister(self)
        _free_words.append(self._slot.word)
