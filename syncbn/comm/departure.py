"""How a process with communicators ends: it tells the others, and it does end."""

from __future__ import annotations

import atexit
import math
import operator
import os
import signal
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from types import TracebackType
from typing import Any, NoReturn

from syncbn.comm.board import Board
from syncbn.comm.library import import_mpi
from syncbn.comm.presence import ENDED, IN_ORDER, VANISHED, Presence

GRACE_SECONDS = 1.0
"""Ending the job kills the other ranks: first they may raise their own errors and say what they were in."""

LEAVE_SECONDS = 3.0
"""For which `os._exit` is put off: the others notice, raise and end the job, before a launcher kills them."""

ABORT_SECONDS, FINALIZE_SECONDS = 5, 30
"""What MPI may take to end the job, or to finalize: MPICH's MPI_Abort can return, and then MPI_Finalize would
wait for ranks that are gone. On this node all have come to their end when the time begins."""

_boards: list[Board] = []
"""Of all communicators of several ranks that were not freed."""

_making = 0
"""Communicators of several ranks that were begun, and did not come to be."""

_uncaught: BaseException | None = None

_pid = 0
"""Of the process that was told; a child by fork is another one."""

_abandoned: list[tuple[Any, ...]] = []
"""Requests that were given up, and their buffers, kept for good: a collective can't be cancelled, MPI may
still write into the buffer, and mpi4py's request does not keep it alive."""


@contextmanager
def making() -> Iterator[None]:
    """Make a communicator of several ranks: what is raised in the block has left the others in the middle of it."""
    global _making
    _prepare()
    _making += 1
    yield
    _making -= 1


def watch(board: Board) -> None:
    """Take part in the end of this process, until `forget`."""
    _boards.append(board)


def forget(board: Board) -> None:
    """Take the board of a freed communicator out."""
    if board in _boards:
        _boards.remove(board)


def abandon(request: Any, *buffers: Any) -> None:
    """Keep what MPI may still use until the process ends."""
    _abandoned.append((request, *buffers))


@cache
def _prepare() -> None:
    """Be told of an uncaught exception, and of the end of this process."""
    global _pid
    _pid = os.getpid()
    hook = sys.excepthook

    def excepthook(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
        global _uncaught
        if not hasattr(sys, "ps1"):  # on Python's prompt life goes on
            _uncaught = error
            with suppress(OSError):  # it may be what could not be made
                Presence.own().text = f"{kind.__name__}: {error}"
        hook(kind, error, traceback)

    sys.excepthook = excepthook
    atexit.register(_depart)
    leave = os._exit

    def _exit(status: int) -> NoReturn:
        status = operator.index(status)
        try:
            if os.getpid() == _pid and _boards and not import_mpi().Is_finalized():
                status = _status_of_leaving(status)
        except BaseException:  # Ctrl-C, while it waits
            status = status or 1
        finally:  # nobody who calls it expects to live on
            leave(status)

    os._exit = _exit


def _depart() -> None:
    """Tell the others that this process ends; where they can't end in order with it, end them.

    After an uncaught exception MPI_Finalize would wait for ranks that wait for this one, and where a
    rank has died it would wait for that.
    """
    if os.getpid() != _pid:  # a child of this process, by fork
        return
    with suppress(OSError):
        own = Presence.own()
        if _uncaught is None:
            own.text = ""
        own.words[ENDED] = IN_ORDER
    others = _others()
    if (_boards or _making) and (_uncaught is not None or any(other.died for other in others)):
        from mpi4py.run import set_abort_status

        _wait_for(others, GRACE_SECONDS)
        set_abort_status(_uncaught or 1)
        _end_after(ABORT_SECONDS)
    elif _abandoned:
        _wait_for(others, math.inf)
        _end_after(FINALIZE_SECONDS)


def _status_of_leaving(status: int) -> int:
    """Let the others see that this process is about to vanish; return its exit code.

    That is not 0 where one of them still ran and does not vanish too.
    """
    with suppress(OSError):
        Presence.own().words[ENDED] = VANISHED
    left = [other for other in _others() if not other.ended]
    deadline = time.monotonic() + LEAVE_SECONDS
    while not all(other.died for other in left):
        if time.monotonic() > deadline:
            return status or 1
        time.sleep(0.02)
    return status


def _others() -> set[Presence]:
    return {seat.presence for board in _boards for seat in board.others.values()}


def _wait_for(others: Iterable[Presence], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and not all(other.ended for other in others):
        time.sleep(0.02)


def _end_after(seconds: int) -> None:
    """Let the process be ended by a signal, which works inside of MPI too."""
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(seconds)
