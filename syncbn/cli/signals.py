"""Signals that end a command, as exceptions, so that ``finally`` clauses run."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn


class TerminatedError(SystemExit):
    """SIGTERM or SIGHUP. As in shells, the exit code is 128 plus the number of the signal."""

    code: int


@contextmanager
def signals_as_exceptions() -> Iterator[None]:
    """Raise `TerminatedError` on SIGTERM and SIGHUP, unless the signal is ignored (nohup) or has another handler."""

    def exit_with(number: int, frame: FrameType | None) -> NoReturn:  # noqa: ARG001 (the signature of a handler)
        raise TerminatedError(128 + number)

    main_thread = threading.current_thread() is threading.main_thread()  # no other thread may set handlers
    numbers = [n for n in (signal.SIGTERM, signal.SIGHUP) if main_thread and signal.getsignal(n) is signal.SIG_DFL]
    for number in numbers:
        signal.signal(number, exit_with)
    try:
        yield
    finally:
        for number in numbers:
            signal.signal(number, signal.SIG_DFL)
