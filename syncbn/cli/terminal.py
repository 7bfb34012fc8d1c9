"""Whether stdout and stderr are a terminal, and how wide: also for a rank, whose output goes through mpiexec."""

from __future__ import annotations

import os
import sys
from typing import Literal, TextIO

from syncbn.cli import completion

StreamName = Literal["stdout", "stderr"]
_NAMES: tuple[StreamName, ...] = ("stdout", "stderr")


def stream(name: StreamName) -> TextIO:
    """Return ``sys.stdout`` or ``sys.stderr``."""
    return sys.stdout if name == "stdout" else sys.stderr


def columns(name: StreamName) -> int | None:
    """Return the terminal's width, None where the stream is no terminal."""
    if completion.launched():
        value = os.environ.get(_variable(name))
        return int(value) if value else None
    try:
        return os.get_terminal_size(stream(name).fileno()).columns or 80  # 0: a terminal that does not know
    except (OSError, ValueError):  # a file, a pipe, or a stream without a descriptor
        return None


def environment() -> dict[str, str]:
    """Return the variables that tell ranks about this process's terminal."""
    return {_variable(name): str(columns(name) or "") for name in _NAMES}


def _variable(name: StreamName) -> str:
    return f"SYNCBN_{name.upper()}_COLUMNS"
