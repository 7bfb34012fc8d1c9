"""One long wait: what a rank does that has waited for others longer than a call should take."""

from __future__ import annotations

import math
import time
from itertools import count

from syncbn.comm.board import Board
from syncbn.comm.call import NumberedCall
from syncbn.comm.errors import SyncLostRankError, SyncTimeoutError
from syncbn.comm.presence import LOOKS, WAIT, Address, Presence

LOOK_SECONDS = 0.1
"""Between looks at the board; also how long a wait is left alone."""

_numbers = count(1)

Chain = list[Presence]


class Watch:
    """Looks at the board now and then, and raises when a rank that is waited for can't come.

    Parameters
    ----------
    board : Board
    call : NumberedCall
        What this rank is in, for messages.
    timeout : float or None
    """

    def __init__(self, board: Board, call: NumberedCall, timeout: float | None) -> None:
        self._board = board
        self._own = board.own.presence
        self._call = call
        self._timeout = timeout
        self._start = time.monotonic()
        self._deadline = math.inf if timeout is None else self._start + timeout
        self._next = min(self._start + LOOK_SECONDS, self._deadline)
        self._lost: set[int] = set()
        self._cycle: tuple[list[tuple[Address, int]], list[int]] = ([], [])

    def look(self) -> None:
        """Look at the board if it is time; costs next to nothing if not.

        Raises
        ------
        SyncLostRankError
            A rank can't come.
        SyncTimeoutError
            The deadline is over.
        """
        now = time.monotonic()
        if now < self._next:
            return
        self._next = min(now + LOOK_SECONDS, self._deadline) if now < self._deadline else math.inf
        self._raise_if_lost()
        self._tell_who_is_absent()
        self._raise_if_in_a_cycle()
        if now >= self._deadline:
            waited = f"{self._who} waited more than {self._timeout:g} s in {self._call}"
            raise SyncTimeoutError(f"{waited}: {self._absent()}")

    def end(self) -> None:
        """Say that this wait is over."""
        if self._own.words[WAIT]:
            self._own.words[WAIT] = 0
            self._own.blocker = None

    @property
    def _who(self) -> str:
        board = self._board
        return f"rank {board.rank} of {board.size}" + f" ({board.name})" * bool(board.name)

    def _raise_if_lost(self) -> None:
        """Raise for ranks that the last look saw leave, too: what they had sent has arrived by now."""
        lost = self._board.lost()
        if self._lost & lost.keys():
            causes = [rank for rank in lost if not self._board.has_followed(rank)] or list(lost)
            who = "; ".join(f"rank {rank} {lost[rank]}" for rank in causes)
            raise SyncLostRankError(f"{self._who} waited in {self._call}, but {who}")
        self._lost = set(lost)

    def _tell_who_is_absent(self) -> None:
        """Write on this process's page for whom it waits: best for one that waits itself."""
        absent = sorted(self._board.absent(), key=lambda rank: not self._presence(rank).words[WAIT])
        own = self._own
        own.text = f"{self._who} is in {self._call}, and waits for rank {absent[0]}" if absent else ""
        own.blocker = self._presence(absent[0]) if absent else None
        own.words[WAIT] = own.words[WAIT] or next(_numbers)
        own.words[LOOKS] += 1

    def _raise_if_in_a_cycle(self) -> None:
        """Raise where this rank waits for one that waits, over others or not, for itself or for this one.

        Each process says for whom it waits, and says it anew at each of its looks. If all are in the same
        waits as before, and each has looked twice since, they will be so for ever.
        """
        chain = _chain(self._own)
        waits = [(process.address, process.words[WAIT]) for process in chain]
        looks = [process.words[LOOKS] for process in chain]
        before, looks_before = self._cycle
        if not chain or waits != before:
            self._cycle = waits, looks
        elif all(now >= then + 2 for now, then in zip(looks, looks_before, strict=True)):
            raise SyncLostRankError(
                "ranks wait for each other in different calls: "
                + "; ".join(process.text for process in chain)
                + ". All ranks must make the same calls in the same order"
            )

    def _absent(self) -> str:
        """Return what is known of the ranks that have not come."""
        known = [
            f"rank {rank} has not come"
            + (f" (there, {presence.text})" if (presence := self._presence(rank)).words[WAIT] else "")
            for rank in self._board.absent()
        ]
        if unseen := self._board.unseen:
            ranks = ", ".join(map(str, unseen))
            known.append(f"nothing is known of rank{'s' * (len(unseen) > 1)} {ranks} (on another node, or not met yet)")
        return "; ".join(known) or "all ranks have come, so MPI itself is slow or stuck"

    def _presence(self, rank: int) -> Presence:
        return self._board.others[rank].presence


def _chain(process: Presence) -> Chain:
    """Return ``process``, the one that it waits for, and so on, if that comes back to one of them; else []."""
    chain: Chain = []
    following: Presence | None = process
    while following is not None and following not in chain:
        if not following.words[WAIT]:
            return []
        chain.append(following)
        following = following.blocker
    return chain if following is not None else []
