"""Liveness: detection of ranks that cannot enter a call, and the shutdown of a process with communicators.

Ranks of one node observe each other through shared memory, without messages::

    process_page   one page of each process, which the others read: has it exited, for whom does it wait?
    rank_table     a slot on that page for each communicator: how many calls has the rank entered?
    construction   what stands for slots while a communicator is constructed
    watch          one long wait: polls pages and slots, and raises when a rank can't enter the call
    cycle          ranks that wait for each other in different calls
    shutdown       the end of this process: report it on the page, and bound the time that it takes
    uncaught       how an uncaught exception is printed

The protocol counts calls in ``RankTable.calls`` and makes a `Watch` when it has waited for 0.1 s.
"""

from __future__ import annotations

from syncbn.comm.liveness.rank_table import RankTable
from syncbn.comm.liveness.shutdown import constructing, keep_until_exit
from syncbn.comm.liveness.watch import POLL_SECONDS, Watch

__all__ = ["POLL_SECONDS", "RankTable", "Watch", "constructing", "keep_until_exit"]
