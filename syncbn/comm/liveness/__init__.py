"""Liveness: what a rank that waits knows of the ranks that it waits for, and how a process with communicators ends.

Ranks of one node observe each other through shared memory, without messages::

    process_page   one page of each process, which the others read: has it exited, for whom does it wait?
    rank_table     a slot on that page for each communicator: how many calls has the rank entered?
    watch          one long wait: polls pages and slots, and raises when a rank can't enter the call
    shutdown       the end of this process: report it on the page, and bound the time that it takes

The protocol counts calls in ``RankTable.calls`` and asks for a `Watch` when it has waited for a tenth of a second.
"""

from __future__ import annotations

from syncbn.comm.liveness.rank_table import RankTable
from syncbn.comm.liveness.shutdown import constructing, keep_until_exit
from syncbn.comm.liveness.watch import POLL_SECONDS, Watch

__all__ = ["POLL_SECONDS", "RankTable", "Watch", "constructing", "keep_until_exit"]
