"""Widths of the terminals of stdout and stderr, including for ranks, whose output mpiexec forwards."""

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
    """Return the width of the terminal, None if the stream is not a terminal."""
    if completion.launched():
        value = os.environ.get(_variable(name))
        return int(value) if value else None
    try:
        return os.get_terminal_size(stream(name).fileno()).columns or 80  # 0: the terminal has no width
    except (OSError, ValueError):  # a file, a pipe, or a stream without a descriptor
        return None


def environment() -> dict[str, str]:
    """Return the environment variables that pass the widths of this process on to ranks."""
    return {_variable(name): str(columns(name) or "") for name in _NAMES}


def _variable(name: StreamName) -> str:
    return f"SYNCBN_{name.upper()}_COLUMNS"
