"""The liveness checks of one long wait."""

from __future__ import annotations

import math
from itertools import count

from syncbn.comm.errors import SyncLostRankError, SyncTimeoutError
from syncbn.comm.liveness.process_page import POLLS, WAIT, PageAddress, ProcessPage
from syncbn.comm.liveness.rank_table import RankTable

POLL_SECONDS = 0.1
"""Time between two polls, and before the first."""

COUNTED_SECONDS = 1.0
"""How much of the time between two polls counts for the timeout: a job that was suspended did not wait."""

_wait_numbers = count(1)


class Watch:
    """Polls the ranks that a call waits for, and raises when one of them can't enter it.

    Parameters
    ----------
    table : RankTable
    call : str
        Description of the call.
    timeout : float or None
    start : float
        When the wait began, in seconds of `time.monotonic`.
    """

    def __init__(self, table: RankTable, call: str, timeout: float | None, start: float) -> None:
        self._table = table
        self._own = table.own.page
        self._call = call
        self._timeout = math.inf if timeout is None else timeout
        self._waited = 0.0
        self._latest = start
        self._lost: set[int] = set()
        self._cycle: tuple[list[tuple[PageAddress, int]], list[int]] = ([], [])

    def poll(self, now: float) -> float:
        """Poll the other ranks and return when to do so again.

        Raises
        ------
        SyncLostRankError
            A rank can't enter the call.
        SyncTimeoutError
            The timeout has expired.
        """
        self._waited += min(now - self._latest, COUNTED_SECONDS)
        self._latest = now
        self._raise_if_lost()
        self._report_absent()
        self._raise_if_in_a_cycle()
        left = self._timeout - self._waited
        if left <= 0:
            waited = f"{self._who} waited more than {self._timeout:g} s in {self._call}"
            raise SyncTimeoutError(f"{waited}: {self._absent()}")
        return now + min(POLL_SECONDS, left)

    def end(self) -> None:
        """Report that this wait has ended."""
        if self._own.words[WAIT]:
            self._own.words[WAIT] = 0
            self._own.blocker = None

    @property
    def _who(self) -> str:
        table = self._table
        return f"rank {table.rank} of {table.size}" + f" ({table.name})" * bool(table.name)

    def _raise_if_lost(self) -> None:
        """Raise for ranks that were lost at the previous poll, too: what they had sent has arrived by now."""
        lost = self._table.lost()
        if self._lost & lost.keys():
            causes = [rank for rank in lost if not self._table.is_cascading(rank)] or list(lost)
            who = "; ".join(f"rank {rank} {lost[rank]}" for rank in causes)
            raise SyncLostRankError(f"{self._who} waited in {self._call}, but {who}")
        self._lost = set(lost)

    def _report_absent(self) -> None:
        """Write on this process's page for which rank it waits: preferably one that waits itself."""
        absent = sorted(self._table.absent(), key=lambda rank: not self._page(rank).words[WAIT])
        own = self._own
        own.text = f"{self._who} is in {self._call}, and waits for rank {absent[0]}" if absent else ""
        own.blocker = self._page(absent[0]) if absent else None
        own.words[WAIT] = own.words[WAIT] or next(_wait_numbers)
        own.words[POLLS] += 1

    def _raise_if_in_a_cycle(self) -> None:
        """Raise where this rank waits for one that waits, directly or through others, for itself or for this one.

        Each process reports for which one it waits, and does so again at each of its polls. If all are in the same
        waits as before, and each has polled twice since, none of them can continue.
        """
        chain = _chain(self._own)
        waits = [(page.address, page.words[WAIT]) for page in chain]
        polls = [page.words[POLLS] for page in chain]
        before, polls_before = self._cycle
        if not chain or waits != before:
            self._cycle = waits, polls
        elif all(now >= then + 2 for now, then in zip(polls, polls_before, strict=True)):
            raise SyncLostRankError(
                "ranks wait for each other in different calls: "
                + "; ".join(page.text for page in chain)
                + ". All ranks must make the same calls in the same order"
            )

    def _absent(self) -> str:
        """Return what is known of the ranks that have not entered the call."""
        known = [
            f"rank {rank} has not entered it"
            + (f" (there, {page.text})" if (page := self._page(rank)).words[WAIT] else "")
            for rank in self._table.absent()
        ]
        if unknown := self._table.unknown:
            ranks = ", ".join(map(str, unknown))
            known.append(
                f"nothing is known of rank{'s' * (len(unknown) > 1)} {ranks} (on another node, or not met yet)"
            )
        return "; ".join(known) or "all ranks have entered it, so MPI itself is slow or stuck"

    def _page(self, rank: int) -> ProcessPage:
        return self._table.others[rank].page


def _chain(process: ProcessPage) -> list[ProcessPage]:
    """Return ``process``, the one that it waits for, and so on, if that leads back to one of them; else []."""
    chain: list[ProcessPage] = []
    current: ProcessPage | None = process
    while current is not None and current not in chain:
        if not current.words[WAIT]:
            return []
        chain.append(current)
        current = current.blocker
    return chain if current is not None else []
