"""The liveness checks of one long wait."""

from __future__ import annotations

import math
import sys
from itertools import count

from syncbn.comm.advice import on_absence, on_deadlock
from syncbn.comm.errors import SyncLostRankError, SyncTimeoutError
from syncbn.comm.liveness.cycle import Cycle
from syncbn.comm.liveness.process_page import CYCLE, EXITED, FINALIZED, POLLS, RAISED, WAIT, ProcessPage
from syncbn.comm.liveness.rank_table import RankTable
from syncbn.comm.signature import CONSTRUCTION, CollectiveSignature
from syncbn.pitfalls import see

POLL_SECONDS = 0.1
"""Time between two polls, and before the first one."""

SUSPENDED_SECONDS = 1.0
"""Minimum time between two polls that does not count for the timeout, because the process or the job was suspended."""

CONSTRUCTION_SECONDS, NOTICE_SECONDS = 10.0, 60.0
"""Times after which a rank prints that it waits, in the construction of a communicator, where the other ranks may still
be unknown, and in other calls. The other ranks may wait for this one outside of syncbn, of which nothing is known."""

_wait_numbers = count(1)


class Watch:
    """The checks of one wait: it polls the other ranks and raises an error if one of them cannot enter the call.

    Parameters
    ----------
    table : RankTable
    signature : CollectiveSignature
    number : int
        Sequence number of the call.
    timeout : float or None
    start : float
        Time at which the wait began, in seconds of `time.monotonic`.
    raised : str
        The error that this rank waits to report; "" in other calls.
    """

    def __init__(
        self,
        table: RankTable,
        signature: CollectiveSignature,
        number: int,
        timeout: float | None,
        start: float,
        raised: str = "",
    ) -> None:
        self._table = table
        self._signature = signature
        self._own = table.own.page
        self._call = f"call {number}, {signature}"
        self._raised = raised
        self._timeout = math.inf if timeout is None else timeout
        self._waited = 0.0
        self._latest = start
        self._lost: set[int] = set()
        self._cycle = Cycle()
        self._noticed = False
        self._accompanied = False

    def poll(self, now: float) -> float:
        """Poll the other ranks and return the time of the next poll.

        Raises
        ------
        SyncLostRankError
            A rank cannot enter the call.
        SyncTimeoutError
            The timeout has expired.
        """
        elapsed = now - self._latest
        self._waited += elapsed if elapsed < SUSPENDED_SECONDS else 0.0
        self._latest = now
        self._accompanied = self._accompanied or bool(self._table.entered())  # a rank that times out leaves the call
        self._raise_if_lost()
        self._report_absent()
        self._raise_if_in_a_cycle()
        self._print_notice()
        left = self._timeout - self._waited
        if left <= 0:
            waited = f"{self._who} waited more than {self._timeout:g} s in {self._call}"
            raise SyncTimeoutError(f"{waited}: {self._absent()}{self._advice(see('timeouts'))}")
        return now + min(POLL_SECONDS, left)

    def end(self) -> None:
        """Report that this wait has ended."""
        if self._own.words[WAIT]:
            self._own.words[WAIT] = self._own.words[RAISED] = 0
            self._own.blocker = None

    @property
    def _who(self) -> str:
        table = self._table
        return f"rank {table.rank} of {table.size}" + f" ({table.name})" * bool(table.name)

    def _raise_if_lost(self) -> None:
        """Raise if a rank is lost and was lost at the previous poll, since when its last messages have arrived."""
        lost = self._table.lost()
        if self._lost & lost.keys():
            causes = [rank for rank in lost if not self._table.is_cascading(rank)] or list(lost)
            who = [f"rank {rank} {lost[rank]}" for rank in causes]
            who += [page.text for rank in self._table.others if (page := self._page(rank)).words[RAISED]]
            exited = not {EXITED, FINALIZED}.isdisjoint(lost.values())
            advice = self._advice(see("lost-ranks"), exited=True) if exited else see("lost-ranks")
            raise SyncLostRankError(f"{self._who} waited in {self._call}, but {'; '.join(who)}{advice}")
        self._lost = set(lost)

    def _print_notice(self) -> None:
        """Print once that this rank waits."""
        seconds = CONSTRUCTION_SECONDS if self._signature == CONSTRUCTION else NOTICE_SECONDS
        if not self._noticed and self._waited > seconds:
            self._noticed = True
            waits = f"has waited {seconds:g} s in {self._call}: {self._absent()}"
            sys.stderr.write(f"[rank {self._table.rank}] {waits}{self._advice(see('lost-ranks'))}\n")
            sys.stderr.flush()

    def _report_absent(self) -> None:
        """Write to the own page for which rank this process waits: one that waits itself, if there is any."""
        absent = sorted(self._table.absent(), key=lambda rank: not self._page(rank).words[WAIT])
        own = self._own
        doing = f"raised {self._raised}, reports it" if self._raised else f"is in {self._call},"
        own.text = f"{self._who} {doing} and waits for rank {absent[0]}" if absent else ""
        own.words[RAISED] = bool(self._raised)
        own.blocker = self._page(absent[0]) if absent else None
        own.words[WAIT] = own.words[WAIT] or next(_wait_numbers)
        own.words[POLLS] += 1

    def _raise_if_in_a_cycle(self) -> None:
        """Raise if the chain of ranks that starts at this one, each waiting for the next, leads back to this one.

        A rank that waits to report an error does not raise this one: the others raise it, and then enter the report or
        end.
        """
        before, now = self._cycle, Cycle.find(self._own)
        if (before.pages, before.waits) != (now.pages, now.waits):
            self._cycle = now
        if self._raised and len(before.reports) < len(before.pages):
            return
        if before.is_given_up or before.persists(now):
            self._own.words[CYCLE] = before.key
            if before.reports:
                raised = "; ".join(before.reports)
                raise SyncLostRankError(f"{self._who} waited in {self._call}, but {raised}{see('lost-ranks')}")
            raise SyncLostRankError(
                f"ranks wait for each other in different calls: {'; '.join(before.texts)}. {on_deadlock(before.texts)}"
            )

    def _advice(self, otherwise: str, *, exited: bool = False) -> str:
        """Return the end of a text about others that have not entered the call: advice if there is any."""
        alone = not self._table.unknown and not self._accompanied
        advice = on_absence(self._signature, self._table.rank, alone=alone, exited=exited)
        return f". {advice}" if advice else otherwise

    def _absent(self) -> str:
        """Return a description of the ranks that have not entered the call."""
        known = [
            f"rank {rank} has not entered it"
            + (f" (there, {page.text})" if (page := self._page(rank)).words[WAIT] else "")
            for rank in self._table.absent()
        ]
        known += [f"rank {rank} is suspended" for rank, slot in self._table.others.items() if slot.page.suspended]
        if unknown := self._table.unknown:
            ranks = ", ".join(map(str, unknown))
            known.append(
                f"rank{'s' * (len(unknown) > 1)} {ranks} cannot be observed (on another node, or not connected yet)"
            )
        return "; ".join(known) or "all ranks have entered it, so MPI itself is slow or stuck"

    def _page(self, rank: int) -> ProcessPage:
        return self._table.others[rank].page
