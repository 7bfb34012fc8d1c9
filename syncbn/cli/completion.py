"""Completion reports: the file in which each rank records its exit code for the launcher.

MPICH's mpiexec exits with 0 when a rank calls ``os._exit(0)`` while others wait, so its exit code alone does not
show that every rank completed.
"""

from __future__ import annotations

import os
from pathlib import Path

from syncbn.cli import ranks

VARIABLE = "SYNCBN_COMPLETION"
"""Environment variable that holds the directory of the reports; only `run_on_ranks` sets it."""


def launched() -> bool:
    """Return whether `run_on_ranks` started this process."""
    return VARIABLE in os.environ


def report(exit_code: int) -> None:
    """Record that this rank has completed with ``exit_code``."""
    Path(os.environ[VARIABLE], str(ranks.rank())).write_text(str(exit_code), encoding="ascii")


def read(directory: Path, size: int) -> list[int | None]:
    """Return the exit code of every rank, None for a rank without a report."""
    files = [directory / str(rank) for rank in range(size)]
    texts = [file.read_text(encoding="ascii") if file.exists() else "" for file in files]
    return [int(text) if text else None for text in texts]  # empty: the rank was killed while it was writing
