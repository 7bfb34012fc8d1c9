"""Widths of the terminals of stdout and stderr, including for ranks, whose output mpiexec forwards."""

from __future__ import annotations

import os
import sys
from typing import Any, Literal, TextIO

from syncbn.cli import completion

StreamName = Literal["stdout", "stderr"]
_NAMES: tuple[StreamName, ...] = ("stdout", "stderr")


def stream(name: StreamName) -> TextIO:
    """Return ``sys.stdout`` or ``sys.stderr``."""
    return sys.stdout if name == "stdout" else sys.stderr


def columns(name: StreamName) -> int | None:
    """Return the width of the terminal, None if the stream is not a terminal."""
    if completion.launched():
        value = os.environ.get(_variable(name))
        return int(value) if value else None
    try:
        return os.get_terminal_size(stream(name).fileno()).columns or 80  # 0: the terminal has no width
    except (OSError, ValueError):  # a file, a pipe, or a stream without a descriptor
        return None


def clear_line() -> None:
    """Remove the progress bar of a process that cannot do so itself, if there is a terminal."""
    for name in _NAMES:
        if columns(name) is not None:
            stream(name).write("\r\x1b[2K")
            stream(name).flush()


def console(stream: TextIO, columns: int) -> Any:
    """Return a rich console for progress bars, with a visible cursor: a killed process could not show it again.

    Under mpiexec the stream is a pipe, whose width rich cannot determine.
    """
    from rich.console import Console

    class VisibleCursor(Console):
        def show_cursor(self, show: bool = True) -> bool:  # noqa: ARG002 (the signature of rich)
            return False

    return VisibleCursor(file=stream, force_terminal=True, width=columns)


def environment() -> dict[str, str]:
    """Return the environment variables that pass the widths of this process on to ranks."""
    return {_variable(name): str(columns(name) or "") for name in _NAMES}


def _variable(name: StreamName) -> str:
    return f"SYNCBN_{name.upper()}_COLUMNS"
