"""Liveness: detection of ranks that cannot enter a call, and the shutdown of a process with communicators.

Ranks of one node observe each other through shared memory, without messages::

    process_page   one page for each process: whether it has exited, and the process for which it waits
    rank_table     one slot on that page for each communicator: the number of calls that the rank has entered
    construction   the counters that replace slots during the construction of a communicator
    watch          the checks of one long wait, which polls pages and slots and raises if a rank cannot enter the call
    cycle          ranks that wait for each other in different calls
    shutdown       the end of this process, which it reports on its page and limits in time
    uncaught       the output of an uncaught exception

The protocol counts calls in ``RankTable.calls`` and makes a `Watch` when it has waited for 0.1 s.
"""

from __future__ import annotations

from syncbn.comm.liveness.rank_table import RankTable
from syncbn.comm.liveness.shutdown import constructing, keep_until_exit, report_finalize
from syncbn.comm.liveness.watch import POLL_SECONDS, Watch

__all__ = ["POLL_SECONDS", "RankTable", "Watch", "constructing", "keep_until_exit", "report_finalize"]
