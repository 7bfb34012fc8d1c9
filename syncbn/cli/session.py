"""A command that runs in a process session of its own and never outlives the code that started it."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from syncbn.cli.signals import signals_as_exceptions

TERMINATION_SECONDS = 5
"""Time that mpiexec has to end its ranks, before its process group is killed."""


@contextmanager
def session(command: Sequence[str], environment: Mapping[str, str], **options: Any) -> Iterator[subprocess.Popen[Any]]:
    """Start a command, and terminate it if it is still running at the end of the ``with`` block.

    In its own session the command is not interrupted by Ctrl-C on the terminal: only this process is, which then
    terminates mpiexec, and mpiexec its ranks. Within the block SIGTERM and SIGHUP raise SystemExit for that purpose.

    Parameters
    ----------
    command : sequence of str
    environment : mapping
        Variables to add to those of this process.
    **options
        Further arguments of `subprocess.Popen`.
    """
    with subprocess.Popen(
        command, env=os.environ | environment, stdin=subprocess.DEVNULL, start_new_session=True, **options
    ) as process:
        try:
            with signals_as_exceptions():
                yield process
        finally:
            _terminate(process)


def _terminate(process: subprocess.Popen[Any]) -> None:
    """Terminate the process group of a running process, and kill it if the process does not exit in time."""
    if process.poll() is not None:
        return
    _signal_group(process.pid, signal.SIGTERM)
    try:
        with suppress(subprocess.TimeoutExpired):
            process.wait(TERMINATION_SECONDS)
    finally:  # also after a second Ctrl-C
        _signal_group(process.pid, signal.SIGKILL)


def _signal_group(group: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.killpg(group, number)
