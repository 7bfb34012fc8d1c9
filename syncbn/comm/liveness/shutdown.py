"""Orderly shutdown of a process with communicators: notify the other ranks and bound the exit time."""

from __future__ import annotations

import atexit
import math
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from types import TracebackType
from typing import TYPE_CHECKING, Any

from syncbn._core.kernels import compiled
from syncbn.comm.liveness.process_page import COMPLETE, FINALIZED, FINISHED, PENDING, PRINTING, ProcessPage
from syncbn.comm.liveness.uncaught import is_of_another_rank, print_uncaught

if TYPE_CHECKING:
    from syncbn.comm.liveness.rank_table import RankTable

GRACE_SECONDS = 1.0
"""Time for the other ranks to raise their own errors before this one ends the job, which kills them."""

REPETITION_SECONDS = 0.5
"""Time that a rank waits for a lower rank of its node to end with an error of the same class, before it prints its own
traceback."""

CLEANUP_SECONDS = 10
"""Time by which threads, executors, child processes and exit handlers may delay the end after an uncaught exception."""

ABORT_SECONDS, FINALIZE_SECONDS = 5, 30
"""Time limits of MPI for ending the job and for finalizing: MPI_Abort of MPICH can return, and MPI_Finalize would then
wait for ranks that have exited. The second one begins when all other ranks of this node have ended."""

_open: list[RankTable] = []
"""Rank tables of the communicators of several ranks that were not freed."""

_freed: list[RankTable] = []
"""Rank table of the communicator that was freed last, which names this rank if none is open."""

_unfinished_constructions = 0
"""Number of multi-rank communicators whose construction failed or has not ended."""

_uncaught: BaseException | None = None
"""The uncaught exception that ends this process."""

_given_up = False
"""True if a pending operation was abandoned."""


@contextmanager
def constructing() -> Iterator[None]:
    """Return a context for the construction of a multi-rank communicator, and count it until it has succeeded."""
    global _unfinished_constructions
    _install()
    _unfinished_constructions += 1
    yield
    _unfinished_constructions -= 1


def register(table: RankTable) -> None:
    """Add the ranks of a communicator, for which the shutdown waits."""
    _open.append(table)


def unregister(table: RankTable) -> None:
    """Remove the ranks of a freed communicator."""
    if table in _open:
        _open.remove(table)
        _freed[:] = [max([*_freed, table], key=lambda each: each.size)]  # ranks of groups have other numbers


def keep_until_exit(pending: object) -> None:
    """Keep an abandoned operation and its buffers for as long as MPI may write to them.

    A collective operation cannot be cancelled, and mpi4py finalizes MPI after the interpreter has freed all modules and
    their objects. Therefore these objects are never freed.
    """
    global _given_up
    _given_up = True
    compiled("protocol").never_free(pending)


@cache
def _install() -> None:
    """Install the exception hook and the exit handlers."""
    from concurrent.futures import thread  # noqa: F401  # its hook, registered before, is called after this one

    pid = os.getpid()
    hook = sys.excepthook

    def excepthook(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
        if os.getpid() != pid or hasattr(sys, "ps1"):  # a forked child, or the interactive interpreter
            hook(kind, error, traceback)
            return
        _record(error)
        _report_end(state=PRINTING)
        try:
            if hook is sys.__excepthook__ and (tables := _known()):
                table = tables[0]
                repeated = is_of_another_rank(error) or _repeats_a_lower_rank(table, error)
                print_uncaught(table.rank, error, repeated=repeated)
            else:
                hook(kind, error, traceback)
        finally:
            _report_end()

    def in_this_process(function: Callable[[], None]) -> Callable[[], None]:
        return lambda: function() if os.getpid() == pid else None

    sys.excepthook = excepthook
    # Called before Python waits for threads; `atexit` calls its functions after that.
    threading._register_atexit(in_this_process(_end_script))  # type: ignore[attr-defined]
    atexit.register(in_this_process(_shut_down))


def _known() -> list[RankTable]:
    """Return the rank tables by which other ranks are observed."""
    return _open or _freed


def _record(error: BaseException) -> None:
    global _uncaught
    _uncaught = error
    with suppress(OSError):  # making the page may be what failed
        ProcessPage.own().text = f"ended with {type(error).__name__}: {error}"


def _repeats_a_lower_rank(table: RankTable, error: BaseException) -> bool:
    """Return whether a lower rank of this node has ended with an error of the same class, or does so within a moment.

    If all ranks make the same mistake, one traceback explains it.
    """
    lower = [slot.page for rank, slot in table.others.items() if rank < table.rank]
    deadline = time.monotonic() + REPETITION_SECONDS
    while True:
        reasons = [page.exit_reason for page in lower]
        if any(reason.startswith(f"ended with {type(error).__name__}: ") for reason in reasons):
            return True
        if all(reasons) or time.monotonic() > deadline:
            return False
        time.sleep(0.02)


def _end_script() -> None:
    """Report the end of the script before Python waits for its threads, unless one of them uses a communicator."""
    running = {thread.ident for thread in threading.enumerate() if not thread.daemon} - {threading.get_ident()}
    if _uncaught is not None or not any(table.thread in running for table in _open):
        _report_end()
    if _uncaught is not None and (_open or _unfinished_constructions):
        _end_after(CLEANUP_SECONDS)


def report_finalize() -> None:
    """Report that this process finalizes MPI. MPI_Finalize may wait for the other ranks, and they for this one."""
    _report_end(FINALIZED)


def _report_end(reason: str = "", state: int = COMPLETE) -> None:
    with suppress(OSError):
        own = ProcessPage.own()
        if _uncaught is None:
            own.text = reason
        own.words[FINISHED] = PENDING if _given_up and state == COMPLETE else state


def _shut_down() -> None:
    """End the other ranks where they can't finish with this one.

    After an uncaught exception MPI_Finalize would wait for ranks that wait for this one, and where a rank has
    crashed it would wait for that.
    """
    _report_end()
    others = {slot.page for table in _known() for slot in table.others.values()}
    failed = _uncaught is not None or any(other.crashed for other in others)
    if failed and (_open or _unfinished_constructions):
        _wait_for(others, GRACE_SECONDS)
        _abort_at_exit(others)
        _end_after(ABORT_SECONDS)
    elif _given_up:
        _wait_for(others, math.inf)
        _end_after(FINALIZE_SECONDS)
    elif _uncaught is not None:
        _wait_for(others, GRACE_SECONDS)
        _abort_at_exit(others, only_if_asked=True)


def _abort_at_exit(others: Collection[ProcessPage], *, only_if_asked: bool = False) -> None:
    """Let mpi4py end all ranks when it finalizes MPI, unless all have finished and nothing is pending.

    ``python -m mpi4py`` has asked for it after every uncaught exception; ``only_if_asked`` leaves it at that.
    """
    mpi: Any = sys.modules.get("mpi4py.MPI")
    if mpi is None or mpi.Is_finalized():
        return
    from mpi4py.run import set_abort_status

    complete = not (_given_up or _unfinished_constructions) and all(page.words[FINISHED] == COMPLETE for page in others)
    if complete and len(others) == mpi.COMM_WORLD.Get_size() - 1:
        mpi._set_abort_status(0)
    elif not only_if_asked:
        set_abort_status(_uncaught or 1)


def _wait_for(others: Collection[ProcessPage], seconds: float) -> None:
    """Wait until the other processes have ended and printed their errors, but no longer than this."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and not all(
        other.exit_reason and other.words[FINISHED] != PRINTING for other in others
    ):
        time.sleep(0.02)


def _end_after(seconds: int) -> None:
    """Start an alarm, whose signal ends the process even inside of MPI."""
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(seconds)
