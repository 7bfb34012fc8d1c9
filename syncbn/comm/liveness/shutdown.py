"""Orderly shutdown of a process with communicators: notify the other ranks and bound the exit time."""

from __future__ import annotations

import atexit
import math
import os
import signal
import sys
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cache
from types import TracebackType
from typing import TYPE_CHECKING, Any

from syncbn._core.kernels import compiled
from syncbn.comm.liveness.process_page import FINISHED, ProcessPage

if TYPE_CHECKING:
    from syncbn.comm.liveness.rank_table import Slot

GRACE_SECONDS = 1.0
"""Time for the other ranks to raise their own errors before this one ends the job, which kills them."""

ABORT_SECONDS, FINALIZE_SECONDS = 5, 30
"""Time limits of MPI for ending the job and for finalizing: MPI_Abort of MPICH can return, and MPI_Finalize would then
wait for ranks that have exited. The second one begins when all other ranks of this node have ended."""

_communicators: list[Mapping[int, Slot]] = []
"""Slots of the other ranks, by rank, of each communicator of several ranks that was not freed."""

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


def register(slots: Mapping[int, Slot]) -> None:
    """Add the ranks of a communicator, for which the shutdown waits."""
    _communicators.append(slots)


def unregister(slots: Mapping[int, Slot]) -> None:
    """Remove the ranks of a freed communicator."""
    _communicators[:] = [others for others in _communicators if others is not slots]


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
    """Install the exception hook and the exit handler."""
    pid = os.getpid()
    hook = sys.excepthook

    def excepthook(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
        global _uncaught
        if not hasattr(sys, "ps1"):  # the interactive interpreter continues
            _uncaught = error
            with suppress(OSError):  # the page may be missing
                ProcessPage.own().text = f"{kind.__name__}: {error}"
        hook(kind, error, traceback)

    def shut_down() -> None:
        if os.getpid() == pid:  # not in a forked child
            _shut_down()

    sys.excepthook = excepthook
    atexit.register(shut_down)


def _shut_down() -> None:
    """Report that the script has finished, and end the job after an uncaught exception or the crash of a rank.

    In both cases MPI_Finalize would deadlock: it would wait for ranks that wait for this one, or for the crashed rank.
    """
    with suppress(OSError):
        own = ProcessPage.own()
        if _uncaught is None:
            own.text = ""
        own.words[FINISHED] = 1
    others = {slot.page for slots in _communicators for slot in slots.values()}
    failed = _uncaught is not None or any(other.crashed for other in others)
    if failed and (_communicators or _unfinished_constructions):
        _wait_for(others, GRACE_SECONDS)
        _abort_at_exit(_uncaught or 1)
        _end_after(ABORT_SECONDS)
    elif _given_up:
        _wait_for(others, math.inf)
        _end_after(FINALIZE_SECONDS)


def _abort_at_exit(status: Any) -> None:
    """Set the status with which mpi4py ends all ranks when it finalizes MPI."""
    from mpi4py.run import set_abort_status

    set_abort_status(status)


def _wait_for(others: Collection[ProcessPage], seconds: float) -> None:
    """Wait until the other processes have ended, but no longer than this."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and not all(other.exit_reason for other in others):
        time.sleep(0.02)


def _end_after(seconds: int) -> None:
    """Start an alarm, whose signal ends the process even inside of MPI."""
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(seconds)
