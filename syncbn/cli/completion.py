"""Completion reports: the file in which each rank records its exit code for the launcher.

MPICH's mpiexec exits with 0 when a rank calls ``os._exit(0)`` while others wait, so its exit code alone does not
show that every rank completed. A rank can also record a result.
"""

from __future__ import annotations

import os
from pathlib import Path

from syncbn.cli import ranks

VARIABLE = "SYNCBN_COMPLETION"
"""Environment variable that holds the directory of the reports and of the lifeline; only `run_processes` sets it."""

RESULT = "result"


def launched() -> bool:
    """Return whether `run_processes` started this process."""
    return VARIABLE in os.environ


def directory() -> Path:
    """Return the directory that the launcher has made."""
    return Path(os.environ[VARIABLE])


def report(exit_code: int) -> None:
    """Record that this rank has completed with ``exit_code``."""
    (directory() / str(ranks.rank())).write_text(str(exit_code), encoding="ascii")


def read(reports: Path, size: int) -> list[int | None]:
    """Return the exit code of every rank, None for a rank without a report."""
    files = [reports / str(rank) for rank in range(size)]
    texts = [file.read_text(encoding="ascii") if file.exists() else "" for file in files]
    return [int(text) if text else None for text in texts]  # empty: the rank was killed while it was writing


def save_result(text: str) -> None:
    """Record the result of all ranks; called on one of them."""
    (directory() / RESULT).write_text(text, encoding="utf-8")


def read_result(reports: Path) -> str:
    """Return the recorded result, or ""."""
    file = reports / RESULT
    return file.read_text(encoding="utf-8") if file.exists() else ""
