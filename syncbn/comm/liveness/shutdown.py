"""Orderly shutdown of a process with communicators: notify the other ranks, and bound the time that it takes."""

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

from syncbn.comm.liveness.process_page import FINISHED, ProcessPage

if TYPE_CHECKING:
    from syncbn.comm.liveness.rank_table import Slot

GRACE_SECONDS = 1.0
"""Ending the job kills the other ranks: before that they may raise their own errors, with the calls they were in."""

ABORT_SECONDS, FINALIZE_SECONDS = 5, 30
"""What MPI may take to end the job, or to finalize: MPICH's MPI_Abort can return, and then MPI_Finalize would
wait for ranks that are gone. All ranks of this node have ended when the time begins."""

_communicators: list[Mapping[int, Slot]] = []
"""The slots of the other ranks, by rank, of each communicator of several ranks that was not freed."""

_unfinished_constructions = 0
"""Number of communicators of several ranks whose construction failed or has not ended."""

_uncaught: BaseException | None = None

_pending: list[object] = []
"""Operations that were given up, and their buffers: a collective can't be cancelled, MPI may still write into the
buffer, and mpi4py's request does not keep it alive."""


@contextmanager
def constructing() -> Iterator[None]:
    """Construct a communicator of several ranks: an error in the block has left the others in the middle of it."""
    global _unfinished_constructions
    _install()
    _unfinished_constructions += 1
    yield
    _unfinished_constructions -= 1


def register(slots: Mapping[int, Slot]) -> None:
    """Consider these ranks at the end of this process, until `unregister`."""
    _communicators.append(slots)


def unregister(slots: Mapping[int, Slot]) -> None:
    """Remove the ranks of a freed communicator."""
    _communicators[:] = [others for others in _communicators if others is not slots]


def keep_until_exit(pending: object) -> None:
    """Keep what MPI may still use until the process ends."""
    _pending.append(pending)


@cache
def _install() -> None:
    """Observe uncaught exceptions and the end of this process."""
    pid = os.getpid()
    hook = sys.excepthook

    def excepthook(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
        global _uncaught
        if not hasattr(sys, "ps1"):  # the interactive interpreter continues
            _uncaught = error
            with suppress(OSError):  # making the page may be what failed
                ProcessPage.own().text = f"{kind.__name__}: {error}"
        hook(kind, error, traceback)

    def shut_down() -> None:
        if os.getpid() == pid:  # not in a child of this process, by fork
            _shut_down()

    sys.excepthook = excepthook
    atexit.register(shut_down)


def _shut_down() -> None:
    """Report that the script has finished; end the other ranks where they can't finish with this one.

    After an uncaught exception MPI_Finalize would wait for ranks that wait for this one, and where a rank has
    crashed it would wait for that.
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
    elif _pending:
        _wait_for(others, math.inf)
        _end_after(FINALIZE_SECONDS)


def _abort_at_exit(status: Any) -> None:
    """Let mpi4py end all ranks when it finalizes MPI."""
    from mpi4py.run import set_abort_status

    set_abort_status(status)


def _wait_for(others: Collection[ProcessPage], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and not all(other.exit_reason for other in others):
        time.sleep(0.02)


def _end_after(seconds: int) -> None:
    """Let the process be ended by a signal, which works inside of MPI too."""
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(seconds)
